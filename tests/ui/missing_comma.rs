//! `(x)` is not a tuple, `(x,)` is.

use sprang::delayed;

fn inc(x: &i64) -> i64 {
    x + 1
}

fn main() {
    let a = delayed(|| 1_i64, ());
    delayed(inc, &a);
    delayed(inc, (&a));
    delayed(i64::abs, (7_i64));
    delayed(i64::abs, a);
}
