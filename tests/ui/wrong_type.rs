//! The value of a task has another type than the function's parameter.

use sprang::delayed;

fn ramp(len: usize) -> Vec<i64> {
    (0..len as i64).collect()
}

fn mean(values: &Vec<f64>) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn main() {
    let values = delayed(ramp, (10_usize,));
    delayed(mean, (&values,));
}
