//! Profiles a run: a table, the critical path, a trace for Perfetto, and a report for a browser.
//!
//! `cargo run --release --example profile`

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use sprang::{Delayed, Refs, delayed, profile};

/// Some work: the most steps that a number of the range takes to reach one.
fn most_steps(from: u64, to: u64) -> u64 {
    let steps =
        |n: u64| std::iter::successors(Some(n), |&n| (n > 1).then(|| if n % 2 == 0 { n / 2 } else { 3 * n + 1 }));
    (from..to).map(|n| steps(n).count() as u64).max().unwrap_or(0)
}

fn maximum(steps: Refs<'_, u64>) -> u64 {
    steps.iter().copied().max().unwrap_or(0)
}

fn main() -> sprang::Result<()> {
    let ranges: Vec<Delayed<u64>> = (1..=64_u64)
        .map(|i| delayed(most_steps, (i * 4_000, (i + i % 4) * 4_000)).name(format!("range {i}")))
        .collect();
    let by_group: Vec<Delayed<u64>> = ranges
        .chunks(8)
        .enumerate()
        .map(|(i, ranges)| delayed(maximum, (ranges,)).name(format!("group {i}")))
        .collect();
    let all = delayed(maximum, (&by_group,)).name("all");

    let (result, profile) = profile(|| all.compute());
    println!("the longest sequence has {} steps\n\n{profile}", result?);
    for task in profile.runs()[0].critical_path() {
        println!("on the critical path: {} took {:?}", task.name, task.duration);
    }

    let folder = std::env::temp_dir();
    for name in ["sprang-report.html", "sprang-trace.json", "sprang-tasks.csv"] {
        profile.save(folder.join(name))?;
        println!("see {}", folder.join(name).display());
    }
    Ok(())
}
