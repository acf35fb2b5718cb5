//! A `&'static str` cannot be decoded in another process.

use sprang::delayed;

fn language() -> &'static str {
    "Rust"
}

fn main() {
    delayed(language, ());
}
