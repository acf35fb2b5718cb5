//! A literal that cannot be encoded.

use sprang::{delayed, lit};

struct Options {
    width: usize,
}

fn main() {
    delayed(|options: &Options| options.width, (lit(Options { width: 80 }),));
}
