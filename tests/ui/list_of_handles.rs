//! A list of handles by reference is a `Refs`.

use sprang::{Delayed, delayed};

fn owned(values: Vec<i64>) -> i64 {
    values.iter().sum()
}

fn sliced(values: &[i64]) -> i64 {
    values.iter().sum()
}

fn sums(values: &Vec<Delayed<i64>>) -> [Delayed<i64>; 2] {
    [delayed(owned, (values,)), delayed(sliced, (values,))]
}

fn main() {}
