//! The price of an option by simulation, in batches whose results are kept in a file. A second
//! start continues with the missing batches.
//!
//! ```text
//! cargo run --release --example monte_carlo
//!     checks that threads and processes, interrupted or not, give the same bits
//! cargo run --release --example monte_carlo -- FILE [threads|processes]
//!     computes the missing batches; stop it at any time, and start it again
//! ```
//!
//! Three things make the result the same to the last bit on every scheduler and every number of
//! workers. The random numbers of a batch are a function of its number alone. Each result is stored
//! under that number. The sum is taken at the end, in the order of the batches.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use serde::{Deserialize, Serialize};
use sprang::{Client, LocalCluster, as_completed};
use std::collections::BTreeMap;
use std::error::Error;
use std::f64::consts::TAU;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::ExitCode;

const NUM_BATCHES: u64 = 96;
const BATCH_SIZE: u64 = 20_000;

/// The right to buy a share at a fixed price, at a fixed time.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct CallOption {
    price_now: f64,
    strike: f64,
    rate: f64,
    volatility: f64,
    years: f64,
}

const OPTION: CallOption = CallOption { price_now: 100.0, strike: 105.0, rate: 0.03, volatility: 0.25, years: 1.5 };

impl CallOption {
    /// Its value now if the share moves by `move_by` standard deviations.
    fn value(&self, move_by: f64) -> f64 {
        let drift = (self.rate - self.volatility * self.volatility / 2.0) * self.years;
        let price_then = self.price_now * (drift + self.volatility * self.years.sqrt() * move_by).exp();
        (-self.rate * self.years).exp() * (price_then - self.strike).max(0.0)
    }

    /// Its value by the formula of Black and Scholes.
    fn exact_value(&self) -> f64 {
        let spread = self.volatility * self.years.sqrt();
        let upper = ((self.price_now / self.strike).ln() + self.rate * self.years) / spread + spread / 2.0;
        let strike_now = self.strike * (-self.rate * self.years).exp();
        self.price_now * normal_below(upper) - strike_now * normal_below(upper - spread)
    }
}

/// The probability that a normal number is less than `x`, by the series x + x³ / 3 + x⁵ / (3 ·
/// 5)...
fn normal_below(x: f64) -> f64 {
    let series: f64 =
        (1..100).scan(x, |term, i| Some(std::mem::replace(term, *term * x * x / f64::from(2 * i + 1)))).sum();
    0.5 + series * (-x * x / 2.0).exp() / TAU.sqrt()
}

/// The n-th random number of a batch: its index, mixed by the function of SplitMix64. It does not
/// depend on the numbers before it.
fn random(batch: u64, n: u64) -> f64 {
    let mut bits = (batch << 32 | n).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// The sums of the values of a batch and of their squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    values: f64,
    squares: f64,
}

/// A batch and its sums.
fn simulate(option: &CallOption, batch: u64) -> (u64, Sums) {
    let mut sums = Sums::default();
    for i in 0..BATCH_SIZE / 2 {
        // Two uniform numbers make two normal ones.
        let radius = (-2.0 * random(batch, 2 * i).ln()).sqrt();
        let (sin, cos) = (TAU * random(batch, 2 * i + 1)).sin_cos();
        for value in [option.value(radius * cos), option.value(radius * sin)] {
            sums.values += value;
            sums.squares += value * value;
        }
    }
    (batch, sums)
}

/// The batches that have been finished, in a file with a line for each.
struct Journal {
    file: File,
    finished: BTreeMap<u64, Sums>,
}

impl Journal {
    /// Opens or creates a journal. An incomplete last line is ignored and overwritten.
    fn open(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(named)?;
        let text = io::read_to_string(&file)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let finished =
            text[..whole].lines().map(|line| parse(line).ok_or_else(|| malformed(line))).collect::<io::Result<_>>()?;
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Journal { file, finished })
    }

    fn add(&mut self, batch: u64, sums: Sums) -> io::Result<()> {
        // The bits, because decimal digits would round.
        let line = format!("{batch} {:016x} {:016x}\n", sums.values.to_bits(), sums.squares.to_bits());
        self.file.write_all(line.as_bytes())?;
        self.finished.insert(batch, sums);
        Ok(())
    }
}

fn parse(line: &str) -> Option<(u64, Sums)> {
    let mut words = line.split(' ');
    let batch = words.next()?.parse().ok()?;
    let mut number = || u64::from_str_radix(words.next()?, 16).ok().map(f64::from_bits);
    Some((batch, Sums { values: number()?, squares: number()? }))
}

fn malformed(line: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("\"{line}\" is not a line of a journal; give a new file, or one of this program"),
    )
}

/// Adds the missing batches to a journal, at most `at_most`. Returns the number of added batches.
fn work(client: &Client, path: &Path, at_most: usize) -> Result<usize, Box<dyn Error>> {
    let mut journal = Journal::open(path)?;
    let missing: Vec<u64> = (0..NUM_BATCHES).filter(|batch| !journal.finished.contains_key(batch)).collect();
    let option = client.scatter(OPTION);
    let batch = |batch: &u64| client.submit(simulate, (&option, *batch));
    let futures: Vec<_> = missing.iter().take(at_most).map(batch).collect();
    let mut num_added = 0;
    for (_, result) in as_completed(futures).with_results() {
        let (batch, sums) = result?;
        journal.add(batch, sums)?;
        num_added += 1;
    }
    Ok(num_added)
}

/// The mean of all values, and its standard error.
fn estimate(path: &Path) -> io::Result<(f64, f64)> {
    // In the order of the batches, because sums of floating-point numbers depend on the order.
    let finished = Journal::open(path)?.finished;
    let n = (finished.len() as u64 * BATCH_SIZE) as f64;
    let values: f64 = finished.values().map(|sums| sums.values).sum();
    let squares: f64 = finished.values().map(|sums| sums.squares).sum();
    let mean = values / n;
    Ok((mean, ((squares / n - mean * mean) / n).sqrt()))
}

fn show((mean, error): (f64, f64)) {
    println!("the option is worth {mean:.4} ± {error:.4}; Black and Scholes say {:.4}", OPTION.exact_value());
}

/// Adds the missing batches to a journal, and shows the result.
fn complete(path: &Path, processes: bool) -> Result<(), Box<dyn Error>> {
    let cluster = LocalCluster::builder().processes(processes).build()?;
    let num_added = work(&Client::new(&cluster), path, usize::MAX)?;
    println!("{} batches were in the file, {num_added} were added", NUM_BATCHES - num_added as u64);
    show(estimate(path)?);
    Ok(())
}

/// Compares clusters of several kinds, each of which is interrupted once.
fn check() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut estimates = Vec::new();
    for (what, num_workers, processes) in [("1 thread", 1, false), ("2 threads", 2, false), ("2 processes", 2, true)] {
        let path = folder.path().join(what);
        let mut sizes = Vec::new();
        for at_most in [NUM_BATCHES as usize / 3, usize::MAX] {
            let builder = LocalCluster::builder().workers(num_workers).threads_per_worker(1).processes(processes);
            sizes.push(work(&Client::new(&builder.build()?), &path, at_most)?);
            // As if the program had been killed while it wrote a line.
            OpenOptions::new().append(true).open(&path)?.write_all(b"95 40d1")?;
        }
        let (mean, error) = estimate(&path)?;
        println!("{what:11}  {} + {} batches  {mean:.15} = {:016x}", sizes[0], sizes[1], mean.to_bits());
        estimates.push((mean, error));
    }
    assert!(estimates.iter().all(|estimate| *estimate == estimates[0]), "the same to the last bit");
    let (mean, error) = estimates[0];
    assert!((mean - OPTION.exact_value()).abs() < 4.0 * error);
    show(estimates[0]);
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [] => check(),
        [path] | [path, "threads"] => complete(Path::new(path), false),
        [path, "processes"] => complete(Path::new(path), true),
        _ => Err("give a file, and \"threads\" or \"processes\"; or nothing".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
