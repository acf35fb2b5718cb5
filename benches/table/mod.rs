//! Shared by the benches with a `main` of their own: options, medians and tables.

#![allow(dead_code, reason = "each bench uses its part of the shared code")]

use crate::big::Size;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// The command line of a bench.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Small graphs and one round, which prove that the bench works. Set by `--test`, by `--quick`,
    /// and under `cargo test`, which does not pass the `--bench` that `cargo bench` adds.
    pub(crate) is_quick: bool,
    pub(crate) num_rounds: usize,
    /// `--shape=NAME`: only shapes whose name contains this.
    shape: String,
}

impl Options {
    /// Reads the command line. A full run has `num_rounds` rounds unless `--rounds=N` sets another
    /// number.
    pub(crate) fn read(num_rounds: usize) -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let has = |name: &str| arguments.iter().any(|argument| argument == name);
        let value = |name: &str| arguments.iter().rev().find_map(|argument| argument.strip_prefix(name));
        let is_quick = has("--test") || has("--quick") || !has("--bench");
        Options {
            is_quick,
            num_rounds: match value("--rounds=") {
                Some(number) => number.parse::<usize>().expect("--rounds= needs a number").max(1),
                None if is_quick => 1,
                None => num_rounds,
            },
            shape: value("--shape=").unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn size(&self) -> Size {
        if self.is_quick { Size::Quick } else { Size::Full }
    }

    pub(crate) fn wants(&self, shape: &str) -> bool {
        shape.contains(&self.shape)
    }
}

/// The time of one call in nanoseconds, and its result.
pub(crate) fn timed<T>(call: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = call();
    (start.elapsed().as_secs_f64() * 1e9, result)
}

/// The median of some numbers; `NaN` for no numbers.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    match (numbers.len(), numbers.len() / 2) {
        (0, _) => f64::NAN,
        (len, middle) if len % 2 == 1 => numbers[middle],
        (_, middle) => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

/// The measurements of each quantity, one per round.
#[derive(Debug, Default)]
pub(crate) struct Samples(BTreeMap<String, Vec<f64>>);

impl Samples {
    pub(crate) fn add(&mut self, what: impl Into<String>, sample: f64) {
        self.0.entry(what.into()).or_default().push(sample);
    }

    pub(crate) fn of(&self, what: &str) -> &[f64] {
        self.0.get(what).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn median(&self, what: &str) -> f64 {
        median(self.of(what))
    }

    /// The median over the rounds of `a / b`, both taken from the same round: a slowdown of a whole
    /// round cancels out.
    pub(crate) fn ratio(&self, a: &str, b: &str) -> f64 {
        median(&self.of(a).iter().zip(self.of(b)).map(|(a, b)| a / b).collect::<Vec<_>>())
    }
}

/// A number with three digits; empty for `NaN`.
pub(crate) fn digits(number: f64) -> String {
    match number {
        n if n.is_nan() => String::new(),
        n if n.abs() < 9.995 => format!("{n:.2}"),
        n if n.abs() < 99.95 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

/// The median with the range, `12.3 (11.0-14.5)`.
pub(crate) fn spread(samples: &[f64]) -> String {
    let (low, high) = samples.iter().fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), &s| (l.min(s), h.max(s)));
    match samples.len() {
        0 | 1 => digits(median(samples)),
        _ => format!("{} ({}-{})", digits(median(samples)), digits(low), digits(high)),
    }
}

/// A ratio, with a `!` if it misses its mark.
pub(crate) fn judged(ratio: f64, is_met: bool) -> String {
    if ratio.is_nan() { String::new() } else { format!("{}{}", digits(ratio), if is_met { "" } else { " !" }) }
}

/// Rows of cells, printed as a Markdown table with aligned columns.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<T: Into<String>>(head: impl IntoIterator<Item = T>) -> Self {
        Table { rows: vec![head.into_iter().map(Into::into).collect()] }
    }

    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let num_columns = self.rows[0].len();
        let width = |column| self.rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..num_columns).map(width).collect();
        for (i, row) in self.rows.iter().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                if column == 0 { write!(f, "| {cell:<width$} |")? } else { write!(f, " {cell:>width$} |")? }
            }
            writeln!(f)?;
            if i == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let bar = "-".repeat(width + 1);
                    if column == 0 { write!(f, "|{bar}-|")? } else { write!(f, "{bar}:|")? }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}
