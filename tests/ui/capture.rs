//! A function that captures is bound to this process.

use sprang::delayed;

fn main() {
    let offset = 10;
    let _task = delayed(move |x| x + offset, (1_i64,));
}
