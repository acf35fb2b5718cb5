//! `try_delayed` is for functions that return a `Result` whose error can be kept.

use sprang::try_delayed;

#[derive(Debug)]
struct Refused;

fn connect() -> Result<u16, Refused> {
    Err(Refused)
}

fn main() {
    try_delayed(|| 1, ());
    try_delayed(connect, ());
}
