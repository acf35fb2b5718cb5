//! Progress on a terminal: bars with counts by name and the time left, for runs, nested runs and
//! futures.
//!
//! `cargo run --example progress --features progress`; with `2>log`, plain lines replace the bars.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use sprang::{Client, Delayed, Refs, delayed, try_delayed};
use std::thread::sleep;
use std::time::Duration;

fn load(i: u64) -> u64 {
    sleep(Duration::from_millis(20 + i % 5 * 10));
    i
}

fn clean(value: &u64) -> u64 {
    sleep(Duration::from_millis(60));
    value * 2
}

/// Computes a nested graph.
fn model(value: &u64) -> sprang::Result<u64> {
    let steps = (0..8).fold(delayed(|v: u64| v, (*value,)), |before, _| {
        delayed(
            |v: &u64| {
                sleep(Duration::from_millis(120));
                v + 1
            },
            (&before,),
        )
    });
    steps.name("steps").compute()
}

fn main() -> sprang::Result<()> {
    let guard = sprang::progress();
    let cleaned: Vec<Delayed<u64>> = (0..60_u64)
        .map(|i| {
            let raw = delayed(load, (i,)).name(format!("load {i}"));
            delayed(clean, (&raw,)).name(format!("clean {i}"))
        })
        .collect();
    let total = delayed(|parts: Refs<'_, u64>| parts.iter().sum::<u64>(), (&cleaned,)).name("total");
    let modelled = try_delayed(model, (&total,)).name("model");
    println!("the model says {}", modelled.compute()?);
    drop(guard);

    let client = Client::threads(4)?;
    let loads = client.map(load, 0..60_u64);
    let cleans = client.map(clean, &loads);
    sprang::progress_of((&loads, &cleans)); // waits for them
    println!("{} futures have finished", loads.len() + cleans.len());
    Ok(())
}
