//! Measures and cuts text without a font.
//!
//! The viewer's font is unknown. The widths are those of the wider of two common sans fonts: one
//! with the metrics of Arial and Helvetica, and DejaVu Sans, which has the metrics of Verdana. So a
//! label is seldom wider than its width here.

use crate::diagnostics::units;
use std::borrow::Cow;

/// The font size of labels, in pixels.
pub(super) const FONT_SIZE: f64 = 12.0;
/// The font size of counts, notes and the legend.
pub(super) const SMALL_FONT_SIZE: f64 = 10.0;

/// The widths of the characters from space to tilde, in hundredths of the font size.
const ASCII: [u8; 95] = [
    32, 41, 46, 84, 64, 96, 78, 28, 40, 40, 50, 84, 32, 37, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84,
    84, 84, 56, 102, 69, 69, 73, 77, 67, 62, 78, 76, 30, 50, 67, 56, 87, 75, 79, 67, 79, 73, 67, 62, 74, 69, 99, 69,
    67, 69, 40, 34, 40, 84, 56, 50, 62, 64, 55, 64, 62, 36, 64, 64, 28, 28, 58, 28, 98, 64, 62, 64, 64, 42, 53, 40, 64,
    60, 82, 60, 60, 53, 64, 34, 64, 84,
];

/// In hundredths of the font size.
fn width_of(c: char) -> u32 {
    match u32::from(c) {
        code @ 0x20..0x7f => u32::from(ASCII[code as usize - 0x20]),
        _ if is_combining(c) => 0,
        0xa0..0x250 => 80,
        0x250..0x1100 => 95,
        // Characters of most other scripts are about one font size wide; emoji are wider.
        0x1f000..0x20000 => 140,
        0x2026 => 100,
        0x2000..0x2070 => 64,
        0x2600..0x2800 => 125,
        0x1100..=0x10_ffff => 110,
        _ => 80,
    }
}

/// Whether the character is drawn on the one before it or changes it. A name is not cut between the
/// two.
fn is_combining(c: char) -> bool {
    matches!(u32::from(c),
        0x300..0x370 | 0x483..0x48a | 0x591..0x5be | 0x610..0x61b | 0x64b..0x660 | 0x1ab0..0x1b00 | 0x1dc0..0x1e00
        | 0x200b..0x200e | 0x20d0..0x2100 | 0xfe00..0xfe10 | 0xfe20..0xfe30 | 0x1f3fb..0x1f400 | 0xe0000..0xe0200)
}

/// The width of the text, in pixels.
pub(super) fn width(text: &str, font_size: f64) -> f64 {
    f64::from(text.chars().map(width_of).sum::<u32>()) * font_size / 100.0
}

/// The text in one line, with every character visible.
///
/// Each line break or tab becomes a space, and each control character the Unicode picture of it.
/// Characters that change the writing direction, and characters that XML forbids, become the
/// replacement character. A blank name is shown in quotes.
pub(super) fn in_one_line(text: &str) -> Cow<'_, str> {
    if text.trim().is_empty() {
        return Cow::Owned(format!("{text:?}"));
    }
    if text.chars().all(|c| visible(c) == c) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(visible).collect())
}

fn visible(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        _ if !is_character(c) => '\u{fffd}',
        _ => c,
    }
}

/// Whether XML allows the character.
pub(super) fn is_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The text, cut in its middle to fit the width. The end stays, because names often differ at their
/// ends.
pub(super) fn cut(text: &str, font_size: f64, max_width: f64) -> Cow<'_, str> {
    const ELLIPSIS: char = '…';
    if width(text, font_size) <= max_width {
        return Cow::Borrowed(text);
    }
    let room = (max_width * 100.0 / font_size) as u32 - width_of(ELLIPSIS);
    let room_at_the_end = room * 2 / 5;
    let mut end = text.len();
    let mut used = 0;
    for (at, c) in text.char_indices().rev() {
        used += width_of(c);
        if used > room_at_the_end {
            break;
        }
        if !is_combining(c) {
            end = at;
        }
    }
    let mut start = 0;
    let mut used = width_units(&text[end..]);
    for (at, c) in text.char_indices() {
        // A combining character has no width, so it stays with the last character.
        used += width_of(c);
        if used > room {
            break;
        }
        start = at + c.len_utf8();
    }
    Cow::Owned(format!("{}{ELLIPSIS}{}", text[..start].trim_end(), text[end..].trim_start()))
}

fn width_units(text: &str) -> u32 {
    text.chars().map(width_of).sum()
}

/// `1 task`, `2 tasks`.
pub(super) fn count(number: usize, one: &str, more: &str) -> String {
    format!("{} {}", units::count(number as u64), if number == 1 { one } else { more })
}

/// A name with every number in it replaced by `#`, so that numbered names become one.
pub(in crate::diagnostics) fn without_numbers(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for c in name.chars() {
        if !c.is_ascii_digit() {
            pattern.push(c);
        } else if !pattern.ends_with('#') {
            pattern.push('#');
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_cut_fits_and_keeps_both_ends() {
        for name in [
            "a_very_long_name_of_a_function_that_somebody_wrote_17",
            "数据处理管道的一个很长的任务名字叫做第十七号",
            "👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦",
        ] {
            for max_width in 60..200 {
                let max_width = f64::from(max_width);
                let short = cut(name, FONT_SIZE, max_width);
                assert!(width(&short, FONT_SIZE) <= max_width, "{short} in {max_width}");
                let (start, end) = short.split_once('…').unwrap();
                assert!(name.starts_with(start) && name.ends_with(end) && !end.is_empty(), "{short}");
            }
        }
        assert_eq!(cut("short", FONT_SIZE, 100.0), "short");
    }

    #[test]
    fn a_name_is_not_cut_before_an_accent() {
        let name = "e\u{301}".repeat(60);
        for max_width in 40..120 {
            let short = cut(&name, FONT_SIZE, f64::from(max_width));
            let (start, end) = short.split_once('…').unwrap();
            assert!(start.ends_with('\u{301}') && end.starts_with('e'), "{short}");
        }
    }

    #[test]
    fn invisible_characters_become_visible() {
        assert_eq!(in_one_line("two\nlines\u{0}"), "two lines\u{2400}");
        assert_eq!(in_one_line("a\u{202e}b\u{ffff}\u{7f}"), "a\u{fffd}b\u{fffd}\u{2421}");
        assert_eq!(in_one_line(""), "\"\"");
        assert_eq!(in_one_line(" "), "\" \"");
    }

    #[test]
    fn numbered_names_become_one() {
        assert_eq!(without_numbers("read 2000"), "read #");
        assert_eq!(without_numbers("x-1.5-22"), "x-#.#-#");
    }
}
