//! The error of a task goes to another thread.

use sprang::try_delayed;
use std::error::Error;

fn read() -> Result<String, Box<dyn Error>> {
    Ok(std::fs::read_to_string("data.txt")?)
}

fn main() {
    try_delayed(read, ());
}
