//! Rust source as text: enough of it for the rules, no parser.

use std::path::Path;

/// Whether a file holds unit tests and nothing else.
pub(crate) fn is_unit_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
        || path.components().any(|part| part.as_os_str() == "tests")
}

/// The source up to its unit tests, which stand at the end of a file.
pub(crate) fn without_unit_tests(source: &str) -> &str {
    let mut offset = 0;
    let mut lines = source.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let begins_tests = line.starts_with("#[cfg(") && line.contains("test") || line.starts_with("#[cfg(loom)]");
        if begins_tests && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.trim_end().ends_with('{')) {
            return &source[..offset];
        }
        offset += line.len();
    }
    source
}

/// The source without comments and without the contents of string literals.
pub(crate) fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len())
        } else if first == '"' {
            string_len(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        rest = &rest[skipped..];
    }
    code
}

/// The number of `#` of a raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (index, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// The names of the structs, enums, unions and traits that a source defines.
pub(crate) fn type_names(source: &str) -> Vec<String> {
    let code = code_of(source);
    let named = code.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| {
            *word == "unsafe" || *word == "pub" || word.starts_with("pub(") || word.ends_with(')') || *word == "in"
        });
        matches!(words.next()?, "struct" | "enum" | "union" | "trait").then(|| words.next())?
    });
    let ident = |word: &str| word.split(|char: char| !char.is_alphanumeric() && char != '_').next().map(str::to_owned);
    named.filter_map(ident).collect()
}
