//! Graphs that are drawn.

use sprang::{Delayed, Refs, delayed};

pub(crate) fn load(i: u32) -> u64 {
    u64::from(i)
}

pub(crate) fn count(value: &u64) -> u64 {
    value + 1
}

pub(crate) fn merge(a: u64, b: u64) -> u64 {
    a + b
}

pub(crate) fn sum(values: Refs<'_, u64>) -> u64 {
    values.iter().sum()
}

/// Loads, counts, and merges in a tree: `3 * leaves - 1` tasks.
pub(crate) fn tree(leaves: u32) -> Delayed<u64> {
    let mut level: Vec<_> = (0..leaves).map(|i| delayed(count, (&delayed(load, (i,)),))).collect();
    while level.len() > 1 {
        let mut parts = level.into_iter();
        level = Vec::new();
        while let Some(left) = parts.next() {
            level.push(match parts.next() {
                Some(right) => delayed(merge, (left, right)),
                None => left,
            });
        }
    }
    level.remove(0)
}

pub(crate) fn chain(length: usize) -> Delayed<u64> {
    (1..length).fold(delayed(load, (0_u32,)), |last, _| delayed(count, (&last,)))
}

/// Names with every kind of character that can break a file.
pub(crate) const NAMES: [&str; 18] = [
    "plain",
    "<b>bold</b> & \"quoted\" 'twice' `code`",
    "two\nlines\r\nand\ta tab",
    "nul \0, bell \u{7}, escape \u{1b}[31m, delete \u{7f}, next line \u{85}",
    "no characters: \u{ffff} \u{fffe} \u{1ffff}",
    "turned \u{202e}round\u{2066}",
    "🚀 👩‍👩‍👧‍👦 e\u{301} \u{1f1e9}\u{1f1ea}",
    "正規化 مرحبا дані",
    "back\\slash \\n \\\" \\N \\G",
    "]]> <!-- --> <![CDATA[ <script>alert(1)</script>",
    "&lt; &amp; &#65; #quot; #35;",
    "1. a list",
    "- another __one__ *two* _three_",
    "end",
    "a | b --> c ==> d; %% e",
    "",
    " ",
    "a_very_long_name_of_a_task_that_does_not_fit_into_any_box_and_so_is_cut_in_its_middle_but_can_be_read_under_the_mouse_17",
];

/// One task of each name, each before the next one.
pub(crate) fn named() -> Delayed<u64> {
    let mut last = delayed(load, (0_u32,)).name("the first");
    for name in NAMES {
        last = delayed(count, (&last,)).name(name);
    }
    last
}
