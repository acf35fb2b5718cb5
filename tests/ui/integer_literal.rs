//! The type of a number cannot be inferred from the function.

use sprang::delayed;

fn dec(x: i64) -> i64 {
    x - 1
}

fn half(x: f32) -> f32 {
    x / 2.0
}

fn main() {
    delayed(dec, (7,));
    delayed(half, (7.0,));
}
