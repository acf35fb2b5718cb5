//! The arguments in the wrong order.

use sprang::{Delayed, delayed};

fn scale(values: &Vec<f64>, by: f64) -> Vec<f64> {
    values.iter().map(|value| value * by).collect()
}

fn scaled(values: &Delayed<Vec<f64>>) -> Delayed<Vec<f64>> {
    delayed(scale, (2.0, values))
}

fn main() {}
