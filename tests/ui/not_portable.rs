//! The value of a portable task must be one that can be encoded.

use sprang::delayed;
use std::{fs, io};

struct Model {
    weights: Vec<f64>,
}

fn load() -> Model {
    Model { weights: vec![1.0] }
}

fn read() -> io::Result<String> {
    fs::read_to_string("data.txt")
}

fn main() {
    delayed(load, ());
    delayed(read, ());
}
