//! A scheduler is a name or an executor.

use sprang::delayed;

fn main() -> sprang::Result<()> {
    delayed(|| 1, ()).compute_with(4)?;
    Ok(())
}
