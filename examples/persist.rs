//! `persist` computes once and keeps the result; further tasks start from it.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use sprang::{delayed, delayed_local};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static LOADS: AtomicU32 = AtomicU32::new(0);

/// Simulates a slow function.
fn load(len: u64) -> Vec<u64> {
    LOADS.fetch_add(1, Relaxed);
    (0..len).collect()
}

fn main() -> sprang::Result<()> {
    // Local, because it counts its calls in a static, and each worker process would have its own.
    let data = delayed_local(load, (1_000_u64,));

    // A handle is a recipe: no result is kept from one compute to the next.
    let sum = delayed(|data| data.iter().sum::<u64>(), (&data,));
    assert_eq!((sum.compute()?, sum.compute()?), (499_500, 499_500));
    println!("computed twice: loaded {} times", LOADS.swap(0, Relaxed));

    // The new handle refers to an existing value.
    let data = data.persist()?;
    let sum = delayed(|data| data.iter().sum::<u64>(), (&data,));
    let max = delayed(|data| data.iter().copied().max(), (&data,));
    assert_eq!((sum.compute()?, max.compute()?), (499_500, Some(999)));
    assert_eq!(LOADS.load(Relaxed), 1);
    println!("persisted, then computed twice: loaded {} time", LOADS.load(Relaxed));

    // The value is dropped with the last handle to it.
    drop((data, sum, max));
    Ok(())
}
