//! Only handles can be computed.

use sprang::{compute, delayed};

fn main() -> sprang::Result<()> {
    let a = delayed(|| 1, ());
    compute((&a, 7))?;
    compute(|| 1)?;
    Ok(())
}
