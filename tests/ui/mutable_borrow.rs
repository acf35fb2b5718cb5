//! The function borrows its parameter mutably.

use sprang::{Delayed, delayed};

fn sort(values: &mut Vec<i64>) {
    values.sort();
}

fn sorted(values: Delayed<Vec<i64>>) -> Delayed<()> {
    delayed(sort, (values,))
}

fn sorted_in_place(values: &Delayed<Vec<i64>>) -> Delayed<()> {
    delayed(sort, (values,))
}

fn main() {}
