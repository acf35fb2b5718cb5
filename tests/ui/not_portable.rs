//! The value of a portable task must be encodable.

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
