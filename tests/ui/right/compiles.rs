//! A program that compiles. With it here the others are built and not only checked: a capture is
//! noticed when code is made.

use sprang::delayed;

fn main() {
    assert_eq!(delayed(|x| x + 1, (1_i64,)).compute().unwrap(), 2);
}
