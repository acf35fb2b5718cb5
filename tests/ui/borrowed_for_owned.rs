//! The function owns its parameter, and the argument is borrowed.

use sprang::{Delayed, delayed};

fn sorted(mut values: Vec<i64>) -> Vec<i64> {
    values.sort();
    values
}

fn sort(values: &Delayed<Vec<i64>>) -> Delayed<Vec<i64>> {
    delayed(sorted, (values,))
}

fn main() {}
