//! A function of several tasks, in generic code.

use sprang::{Delayed, TaskFn, delayed_local};

fn each<F: Fn(i64) -> i64 + TaskFn>(function: F) -> Vec<Delayed<i64>> {
    (0..3_i64).map(|n| delayed_local(function, (n,))).collect()
}

fn main() {
    let names = vec!["a"];
    each(move |n| n + names.len() as i64);
}
