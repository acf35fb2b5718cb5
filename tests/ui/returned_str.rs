//! A reference to what lives as long as the program cannot be decoded in another process.

use sprang::delayed;

fn language() -> &'static str {
    "Rust"
}

fn main() {
    delayed(language, ());
}
