//! A graph that runs for some seconds, with a dashboard: open the address that is printed in a
//! browser.
//!
//! `cargo run --example dashboard --features dashboard`; a number after `--` is the
//! approximate time in seconds; `processes` selects worker processes.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use sprang::{Delayed, ErrorKind, delayed, lit, try_delayed};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn load(i: u64) -> u64 {
    sleep(Duration::from_millis(20 + i % 5 * 10));
    i
}

fn clean(value: &u64) -> u64 {
    sleep(Duration::from_millis(30 + value % 3 * 20));
    value * 2
}

fn check(value: &u64) -> Result<u64, String> {
    sleep(Duration::from_millis(8));
    if value % 42 == 40 { Err(format!("{value} is out of range")) } else { Ok(*value) }
}

/// Computes a graph of its own.
fn model(value: &u64) -> sprang::Result<u64> {
    let step = |v: &u64| {
        sleep(Duration::from_millis(25));
        v + 1
    };
    let steps =
        (0..8).fold(delayed(|v: u64| v, (*value,)), |before, i| delayed(step, (&before,)).name(format!("step {i}")));
    steps.compute()
}

/// One of the checks fails; the total is that of the others.
fn round(round: u64) -> sprang::Result<u64> {
    let checked: Vec<Delayed<u64>> = (0..40_u64)
        .map(|i| {
            let raw = delayed(load, (i,)).name(format!("load {round}-{i}"));
            let clean = delayed(clean, (&raw,)).name(format!("clean {round}-{i}"));
            try_delayed(check, (&clean,)).name(format!("check {round}-{i}"))
        })
        .collect();
    let good: Vec<u64> = sprang::compute_each(&checked)?.into_iter().flatten().collect();
    let total = delayed(|parts: &Vec<u64>| parts.iter().sum::<u64>(), (lit(good),)).name("total");
    try_delayed(model, (&total,)).name("model").compute()
}

fn main() -> sprang::Result<()> {
    let mut seconds = 3;
    let mut scheduler = "threads";
    for argument in std::env::args().skip(1) {
        match argument.parse() {
            Ok(number) => seconds = number,
            Err(_) if argument == "processes" => scheduler = "processes",
            Err(_) => scheduler = "threads",
        }
    }
    let dashboard = sprang::dashboard::serve("127.0.0.1:8787")?;
    println!("the dashboard is at {}; runs can be cancelled with the token {}", dashboard.url(), dashboard.token());
    let _workers = sprang::config::scoped("num_workers", 4)?;
    let _scheduler = sprang::config::scoped("scheduler", scheduler)?;
    let _errors = sprang::config::scoped("errors", "collect")?;
    let until = Instant::now() + Duration::from_secs(seconds);
    for number in 0.. {
        match round(number) {
            Ok(answer) => println!("the model returned {answer}"),
            Err(error) if error.kind() == ErrorKind::Cancelled => println!("round {number} was cancelled"),
            Err(error) => return Err(error),
        }
        if Instant::now() >= until {
            break;
        }
    }
    Ok(())
}
