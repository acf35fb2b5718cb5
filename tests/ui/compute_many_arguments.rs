//! Several outputs go into one tuple.

use sprang::{compute, delayed};

fn main() -> sprang::Result<()> {
    let a = delayed(|| 1, ());
    let b = delayed(|| 2, ());
    compute(&a, &b)?;
    Ok(())
}
