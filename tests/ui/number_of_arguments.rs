//! More arguments than the function takes, and fewer.

use sprang::delayed;

fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() {
    let x = delayed(add, (1_i64, 2_i64));
    delayed(add, (&x,));
    delayed(add, (1_i64, 2_i64, 3_i64));
    delayed(|a, b| a + b, (1_i64,));
}
