//! A handle is a recipe, and no future.

use sprang::{Delayed, delayed};

async fn total(values: Delayed<Vec<i64>>) -> i64 {
    let total = delayed(|values: &Vec<i64>| values.iter().sum::<i64>(), (&values,));
    total.await
}

fn main() {}
