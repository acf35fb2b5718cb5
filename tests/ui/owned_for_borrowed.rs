//! The function borrows its parameter, and the argument is owned.

use sprang::{Delayed, delayed};

fn total(values: &Vec<i64>) -> i64 {
    values.iter().sum()
}

fn total_of(values: Delayed<Vec<i64>>) -> Delayed<i64> {
    delayed(total, (values,))
}

fn main() {}
