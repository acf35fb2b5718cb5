//! `sprang bench`: measures the cost of a task on this machine, in some seconds.
//!
//! Each figure is the median of several runs, so that a disturbed run does not count. METG is the
//! best of several runs, because it measures the scheduler and not the machine's other programs.
//! The figures compare schedulers and machines; the benches beside the source of sprang answer
//! finer questions.
//!
//! - *overhead*: the duration of a run of many empty tasks, divided by the number of tasks.
//! - *METG(50 %)*, the minimum effective task granularity: `workers x time / tasks` of a stencil
//!   whose tasks are just long enough that half of the time of all workers is work. Shorter tasks
//!   are mostly overhead.
//! - *transfer*: the round trip of an empty task to a worker process, and the speed of numbers to
//!   it and back.

use super::{CommandError, Output, complain};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use sprang::{Delayed, Prepared, Scheduler, SharedArray, SystemInfo, config, delayed, lit, prepare};
use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

#[derive(Args)]
pub(super) struct Bench {
    /// Measure only this scheduler; can be given several times.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(["sync", "threads", "processes"]))]
    scheduler: Vec<String>,
    /// Take a minute, for more stable figures.
    #[arg(long)]
    thorough: bool,
    #[command(flatten)]
    json: super::Json,
}

/// The size of the measurements.
struct BenchSize {
    num_rounds: usize,
    num_tasks: i64,
    num_steps: usize,
    /// The number of numbers in a transfer, 8 bytes each.
    len: usize,
}

#[derive(Serialize)]
struct Row {
    scheduler: String,
    num_workers: usize,
    independent_ns_per_task: f64,
    chain_ns_per_task: f64,
    /// `None` if tasks of no length reach one half.
    metg_us: Option<f64>,
}

#[derive(Serialize)]
struct Transfer {
    round_trip_us: f64,
    speeds: Vec<Speed>,
}

/// Megabytes per second.
#[derive(Serialize)]
struct Speed {
    value: &'static str,
    to_worker_mb_per_s: f64,
    from_worker_mb_per_s: f64,
}

impl Bench {
    pub(super) fn run(self) -> Output {
        if cfg!(debug_assertions) {
            complain("note", &"this is a debug build: its figures mean little");
        }
        let size = match self.thorough {
            false => BenchSize { num_rounds: 5, num_tasks: 10_000, num_steps: 40, len: 2_000_000 },
            true => BenchSize { num_rounds: 31, num_tasks: 100_000, num_steps: 200, len: 8_000_000 },
        };
        let mut rows = Vec::new();
        let mut transfer = None;
        for scheduler in Scheduler::NAMED {
            let name = scheduler.to_string();
            let is_wanted = self.scheduler.is_empty() || self.scheduler.contains(&name);
            if !is_wanted {
                continue;
            }
            let is_processes = matches!(scheduler, Scheduler::Processes);
            if let Some(refusal) = SystemInfo::detect().workers_refused.filter(|_| is_processes) {
                if self.scheduler.is_empty() {
                    complain("note", &refusal);
                    continue;
                }
                return Err(CommandError::Failed(refusal));
            }
            rows.push(row(scheduler.clone(), &size)?);
            if is_processes {
                transfer = Some(measure_transfer(&size)?);
            }
        }
        Ok(match self.json.json {
            true => format!("{:#}\n", to_json(&rows, transfer.as_ref())),
            false => to_table(&rows, transfer.as_ref()),
        })
    }
}

fn row(scheduler: Scheduler, size: &BenchSize) -> sprang::Result<Row> {
    let num_workers = match &scheduler {
        Scheduler::Sync => 1,
        _ => config::settings()?.num_workers.map_or(SystemInfo::detect().num_cores, |workers| workers.get()),
    };
    let _scope = config::scoped("scheduler", scheduler.clone())?;
    let independent: Vec<Delayed<i64>> = (0..size.num_tasks).map(|i| delayed(increment, (i,))).collect();
    let chain = (1..size.num_tasks).fold(delayed(increment, (0_i64,)), |task, _| delayed(increment, (task,)));
    let per_task = |seconds: f64| seconds * 1e9 / size.num_tasks as f64;
    Ok(Row {
        scheduler: scheduler.to_string(),
        num_workers,
        independent_ns_per_task: per_task(median(size.num_rounds, &prepare(&independent)?)?),
        chain_ns_per_task: per_task(median(size.num_rounds, &prepare(&chain)?)?),
        metg_us: metg_us(num_workers, size)?,
    })
}

fn increment(x: i64) -> i64 {
    x + 1
}

fn median<O: sprang::Collection<sprang::collection::Values>>(
    num_rounds: usize,
    graph: &Prepared<O>,
) -> sprang::Result<f64> {
    Ok(middle(times(num_rounds, graph)?))
}

/// The seconds of each of `num_rounds` runs, after a first run that may start workers and does not
/// count.
fn times<O: sprang::Collection<sprang::collection::Values>>(
    num_rounds: usize,
    graph: &Prepared<O>,
) -> sprang::Result<Vec<f64>> {
    graph.compute()?;
    let mut times = Vec::with_capacity(num_rounds);
    for _ in 0..num_rounds {
        let start = Instant::now();
        black_box(graph.compute()?);
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(times)
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

// ---- METG ----

/// The number of columns of the stencil for each worker.
const WIDTH: usize = 8;
/// The measurement stops at this duration of a task.
const LONGEST_S: f64 = 1e-3;

/// Work of `num_steps` steps, each of which needs the step before.
fn work(num_steps: u64, start: i64) -> i64 {
    // The compiler cannot merge alternating shifts and products into one step.
    (0..num_steps).fold(start, |x, _| (x ^ (x >> 29)).wrapping_mul(0x5851_f42d_4c95_7f2d))
}

fn cell(num_steps: u64, neighbours: Vec<i64>) -> i64 {
    work(num_steps, neighbours.into_iter().fold(0, i64::wrapping_add))
}

fn stencil(num_steps: u64, width: usize, height: usize) -> Vec<Delayed<i64>> {
    let mut row: Vec<_> = (0..width as i64).map(|i| delayed(work, (num_steps, i))).collect();
    for _ in 1..height {
        let next = |i: usize| {
            let neighbours: Vec<_> = row[i.saturating_sub(1)..(i + 2).min(width)].to_vec();
            delayed(cell, (num_steps, neighbours))
        };
        row = (0..width).map(next).collect();
    }
    row
}

fn metg_us(num_workers: usize, size: &BenchSize) -> sprang::Result<Option<f64>> {
    const STEPS: u64 = 1 << 20;
    let mut best = f64::INFINITY;
    for _ in 0..size.num_rounds {
        let start = Instant::now();
        black_box(work(black_box(STEPS), 1));
        best = best.min(start.elapsed().as_secs_f64());
    }
    let step_s = best / STEPS as f64;
    let (width, height) = (WIDTH * num_workers, size.num_steps);
    let num_tasks = (width * height) as f64;
    // Tasks become longer. A disturbance only lowers the efficiency, so it cannot end the search
    // too soon.
    let mut shorter: Option<(f64, f64)> = None;
    for num_steps in (0..).map(|power| 1_u64 << power).take_while(|&num_steps| num_steps as f64 * step_s < LONGEST_S) {
        let graph = prepare(stencil(num_steps, width, height))?;
        let wall_s = times(2 * size.num_rounds, &graph)?.into_iter().fold(f64::INFINITY, f64::min);
        let grain_s = wall_s * num_workers as f64 / num_tasks;
        let efficiency = num_steps as f64 * step_s / grain_s;
        if efficiency >= 0.5 {
            // Interpolates between the last two lengths, on a logarithmic scale.
            let (shorter_s, below) = shorter.unwrap_or((grain_s, 0.0));
            let share = (0.5 - below) / (efficiency - below);
            return Ok(Some(1e6 * (shorter_s.ln() + share * (grain_s.ln() - shorter_s.ln())).exp()));
        }
        shorter = Some((grain_s, efficiency));
    }
    Ok(None)
}

// ---- transfer ----

fn ramp(len: usize) -> Vec<f64> {
    (0..len).map(|i| i as f64).collect()
}

fn shared_ramp(len: usize) -> SharedArray<f64> {
    SharedArray::with_len(len, |numbers| numbers.iter_mut().enumerate().for_each(|(i, number)| *number = i as f64))
}

#[expect(clippy::ptr_arg, reason = "a task borrows the value as it is")]
fn first(numbers: &Vec<f64>) -> f64 {
    numbers[0]
}

fn shared_first(numbers: &SharedArray<f64>) -> f64 {
    numbers[0]
}

/// Measures transfers to workers that are already running.
fn measure_transfer(size: &BenchSize) -> sprang::Result<Transfer> {
    let _scope = config::scoped("scheduler", Scheduler::Processes)?;
    let round_trip_s = median(10 * size.num_rounds, &prepare(delayed(increment, (1_i64,)))?)?;
    let megabytes = 8.0 * size.len as f64 / 1e6;
    let numbers = ramp(size.len);
    // Each round makes new values, because a worker keeps the values that it has received.
    let speed = |task: &dyn Fn() -> sprang::Result<f64>| {
        let mut times = Vec::new();
        for round in 0..=size.num_rounds {
            let seconds = task()?;
            if round > 0 {
                times.push(seconds);
            }
        }
        Ok::<f64, sprang::Error>(megabytes / middle(times))
    };
    let to_vec = speed(&|| timed(delayed(first, (lit(numbers.clone()),))))?;
    let from_vec = speed(&|| timed(delayed(ramp, (size.len,))))?;
    let to_shared = speed(&|| timed(delayed(shared_first, (lit(SharedArray::from(numbers.clone())),))))?;
    let from_shared = speed(&|| timed(delayed(shared_ramp, (size.len,))))?;
    let speeds = [("Vec<f64>", to_vec, from_vec), ("SharedArray<f64>", to_shared, from_shared)];
    let speeds = speeds.map(|(value, to_worker_mb_per_s, from_worker_mb_per_s)| Speed {
        value,
        to_worker_mb_per_s,
        from_worker_mb_per_s,
    });
    let speeds = speeds.into();
    Ok(Transfer { round_trip_us: round_trip_s * 1e6, speeds })
}

fn timed<T: Send + Sync + 'static>(task: Delayed<T>) -> sprang::Result<f64> {
    let start = Instant::now();
    let value = task.compute()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(value);
    Ok(seconds)
}

// ---- output ----

fn to_json(rows: &[Row], transfer: Option<&Transfer>) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "is_debug_build": cfg!(debug_assertions),
        "schedulers": rows,
        "transfer": transfer,
    })
}

fn to_table(rows: &[Row], transfer: Option<&Transfer>) -> String {
    let mut out = String::new();
    let _infallible = writeln!(
        out,
        "{:<10} {:>8} {:>22} {:>16} {:>12}",
        "scheduler", "workers", "independent, ns/task", "chain, ns/task", "METG, us"
    );
    for row in rows {
        let metg = row.metg_us.map_or("never".to_owned(), digits);
        let (independent, chain) = (digits(row.independent_ns_per_task), digits(row.chain_ns_per_task));
        let _infallible =
            writeln!(out, "{:<10} {:>8} {independent:>22} {chain:>16} {metg:>12}", row.scheduler, row.num_workers);
    }
    out += "METG: the duration of a stencil task at which half of the workers' time is work\n";
    if rows.iter().any(|row| row.metg_us.is_none()) {
        out += "never: no duration up to a millisecond was enough; other programs may be using this machine\n";
    }
    if let Some(transfer) = transfer {
        let round_trip = digits(transfer.round_trip_us);
        let _infallible = writeln!(out, "\none task to a worker process and back: {round_trip} us\n");
        let _infallible = writeln!(out, "{:<18} {:>18} {:>18}", "values", "to workers, MB/s", "and back, MB/s");
        for &Speed { value, to_worker_mb_per_s: to, from_worker_mb_per_s: from } in &transfer.speeds {
            let _infallible = writeln!(out, "{value:<18} {:>18} {:>18}", digits(to), digits(from));
        }
    }
    out
}

/// Three significant digits, or all digits of a large number.
fn digits(number: f64) -> String {
    let precision = match number {
        _ if number < 0.9995 => 3,
        _ if number < 9.995 => 2,
        _ if number < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.precision$}")
}
