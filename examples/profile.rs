//! Where the time of a run went: a table, the critical path, a trace for Perfetto, and a report for a browser.
//!
//! `cargo run --release --example profile`

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use sprang::{Delayed, Refs, delayed, profile};

/// Some work: how many steps the numbers take to come down to one.
fn longest_way(from: u64, to: u64) -> u64 {
    let steps =
        |n: u64| std::iter::successors(Some(n), |&n| (n > 1).then(|| if n % 2 == 0 { n / 2 } else { 3 * n + 1 }));
    (from..to).map(|n| steps(n).count() as u64).max().unwrap_or(0)
}

fn longest(ways: Refs<'_, u64>) -> u64 {
    ways.iter().copied().max().unwrap_or(0)
}

fn main() -> sprang::Result<()> {
    let ways: Vec<Delayed<u64>> =
        (1..=64_u64).map(|i| delayed(longest_way, (i * 4_000, (i + i % 4) * 4_000)).name(format!("way {i}"))).collect();
    let by_group: Vec<Delayed<u64>> =
        ways.chunks(8).enumerate().map(|(i, ways)| delayed(longest, (ways,)).name(format!("group {i}"))).collect();
    let all = delayed(longest, (&by_group,)).name("all");

    let (result, profile) = profile(|| all.compute());
    println!("the longest way has {} steps\n\n{profile}", result?);
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
