//! Runs and tasks in the log of a program that uses the `tracing` crate. Events of a task appear
//! inside the task's span.
//!
//! `cargo run --example spans --features tracing`

use sprang::{Delayed, Refs, Spans, callback, delayed, try_delayed};
use std::sync::Arc;
use tracing::{Level, info, info_span};

fn load(part: u64) -> u64 {
    info!(part, "loading"); // within the task's span
    part * 100
}

fn sum(parts: Refs<'_, u64>) -> u64 {
    parts.iter().sum()
}

fn main() -> sprang::Result<()> {
    tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_writer(std::io::stdout).without_time().init();
    let _registration = callback::register(Arc::new(Spans::new()));

    let parts: Vec<Delayed<u64>> = (1..=3_u64).map(|i| delayed(load, (i,)).name(format!("part {i}"))).collect();
    let total = delayed(sum, (&parts,)).name("total");
    let request = info_span!("request", user = "ada").in_scope(|| total.compute());
    assert_eq!(request?, 600);

    let bad = try_delayed(|| "x".parse::<u64>(), ()).name("bad");
    assert!(bad.compute().is_err()); // at level error
    Ok(())
}
