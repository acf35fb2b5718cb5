//! JSON texts, written one after the other.

use std::fmt::Write;

/// Adds a text in quotes. What would end a script in a page, or a line in an old one, is written as a code.
pub(super) fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// The text in quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    string(&mut out, text);
    out
}

/// Adds the items with commas between them, in brackets.
pub(super) fn list<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut add: impl FnMut(&mut String, T)) {
    out.push('[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        add(out, item);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back() {
        for text in
            ["", "plain", "\"quoted\" \\ and\nlines\t\0\u{7f}", "</script><!--", "\u{2028}µ€𝄞", "\u{fffd}\u{ad}"]
        {
            let written = quoted(text);
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
            assert!(!written.contains('<') && !written.contains('\u{2028}'), "{written}");
        }
        let mut out = String::new();
        list(&mut out, [1, 2], |out, n| *out += &n.to_string());
        assert_eq!(out, "[1,2]");
    }
}
