//! A function pointer is a value that has no meaning in another process.

use sprang::delayed;

fn main() {
    let functions: [fn(f64) -> f64; 2] = [f64::sin, f64::cos];
    let _tasks = functions.map(|function| delayed(function, (1.0_f64,)));
}
