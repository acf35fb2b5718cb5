//! A scope that ends at once.

#![deny(unused_must_use)]

use sprang::{CancelToken, config};

fn main() -> sprang::Result<()> {
    config::scoped("scheduler", "sync")?;
    config::snapshot()?.enter();
    CancelToken::new().enter();
    Ok(())
}
