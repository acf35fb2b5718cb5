//! `&handle` lends the value itself, and `handle.as_deref()` what it dereferences to.

use sprang::{Delayed, delayed};

fn len(text: &str) -> usize {
    text.len()
}

fn total(values: &[i64]) -> i64 {
    values.iter().sum()
}

fn both(text: &Delayed<String>, values: &Delayed<Vec<i64>>) {
    let _ = delayed(len, (text,));
    let _ = delayed(total, (values,));
}

fn main() {}
