//! The function wants to change what it borrows.

use sprang::{Delayed, delayed};

fn sort(values: &mut Vec<i64>) {
    values.sort();
}

fn sorted(values: Delayed<Vec<i64>>) -> Delayed<()> {
    delayed(sort, (values,))
}

fn main() {}
