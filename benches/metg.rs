//! How short may tasks be before the scheduler takes half of two cores?
//!
//! Unit: microseconds. METG is the minimum effective task granularity of Task Bench (Slaughter et
//! al., SC 2020). The grain of a run is `workers x wall time / tasks`; its efficiency is the time
//! that the work alone takes on one core, over `workers x wall time`. METG(50 %) is the smallest
//! grain with an efficiency of one half, interpolated between the two runs around it, coming down
//! from long tasks. Half of two cores is as much as one core alone, so METG(75 %) requires a real
//! gain.
//!
//! The time of the work is calibrated once, on one thread, and is the same for all systems. `split`
//! is the same work without any dependencies, cut into two halves by hand: if it is below 100 %,
//! the machine does not give two full cores, and no scheduler can do better. All runs are first
//! runs. In *with build*, the grain includes building (and planning) the graph, for a graph that is
//! used once.
//!
//! The gain of sharing short tasks depends on the distance of the two cores, and a system may move
//! threads while the bench runs: 20 ns and 130 ns were measured on one virtual machine within
//! minutes. So the time of a cache line between the cores is measured with each shape. Compare only
//! runs at the same distance.
//!
//! It does not show: other shapes, more workers than two, memory-bound work.
//!
//! Options: `--rounds=N`, `--shape=NAME`, `--quick`.

#![expect(clippy::print_stdout, reason = "a table is the output of this bench")]

mod baseline;
mod big;
mod subject;
mod table;

use baseline::{Arrays, DequePool, rayon_by_hand, rayon_pool};
use big::{Shape, busy, step_ns};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use subject::On;
use table::{Options, Samples, Table, digits, judged, timed};

const NUM_WORKERS: usize = 2;
const SYSTEMS: [&str; 4] = ["split", "deque", "rayon", "sprang"];

fn main() {
    let options = Options::read(5);
    let (num_steps, grains) = if options.is_quick { (20, 2..=8) } else { (500, 1..=12) };
    // Each grain is twice as long as the one before.
    let grains: Vec<u32> = grains.map(|k| 1 << k).collect();
    let step_ns = step_ns();
    let mut bench = Bench { rayon: rayon_pool(NUM_WORKERS), deque: DequePool::new(NUM_WORKERS) };
    println!(
        "one step of work takes {step_ns:.3} ns; {NUM_WORKERS} workers, median of {} rounds\n",
        options.num_rounds
    );

    let mut metg = Table::new(["METG, us", "50 %", "75 %", "50 % with build", "50 % / deque", "with build / deque"]);
    for (name, shape) in [
        ("stencil 64 wide", Shape::stencil(64, num_steps)),
        ("fft 64 wide", Shape::fft(64, num_steps)),
        ("stencil 2 wide", Shape::stencil(2, 8 * num_steps)),
    ] {
        if !options.wants(name) {
            continue;
        }
        let mut samples = Samples::default();
        let way_before = core_to_core_ns();
        for round in 0..options.num_rounds {
            for &grain in &grains {
                for turn in 0..SYSTEMS.len() {
                    bench.measure(SYSTEMS[(round + turn) % SYSTEMS.len()], &shape, grain, &mut samples);
                }
            }
        }
        print_efficiency(name, &shape, &grains, step_ns, &samples);
        let way_after = core_to_core_ns();
        println!("a cache line took {way_before:.0} ns from core to core before, {way_after:.0} ns after\n");
        let find = |system: &str, phase: &str, efficiency: f64| {
            let curve = grains.iter().map(|&grain| {
                let wall_ns = samples.median(&format!("{system} {grain} {phase}"));
                let grain_ns = NUM_WORKERS as f64 * wall_ns / shape.num_tasks() as f64;
                (grain_ns, f64::from(grain) * step_ns / grain_ns)
            });
            smallest_grain(&curve.collect::<Vec<_>>(), efficiency) / 1e3
        };
        let [deque, deque_total] = ["run", "total"].map(|phase| find("deque", phase, 0.5));
        for system in &SYSTEMS[1..] {
            let [half, more, total] = [("run", 0.5), ("run", 0.75), ("total", 0.5)]
                .map(|(phase, efficiency)| find(system, phase, efficiency));
            if samples.of(&format!("{system} {} run", grains[0])).is_empty() {
                continue;
            }
            let is_met = *system != "sprang" || half / deque <= 1.5;
            let ratios = [judged(half / deque, is_met), judged(total / deque_total, true)];
            metg.row([format!("{name}, {system}")].into_iter().chain([half, more, total].map(or_none)).chain(ratios));
        }
    }
    println!("{metg}");
    println!("mark: 50 % / deque at most 1.5 for sprang, 64 wide");
}

/// Nanoseconds from a store on one thread to a load on another that sees it: half of a round trip,
/// in the best of many short exchanges.
fn core_to_core_ns() -> f64 {
    const NUM_EXCHANGES: u32 = 400;
    const NUM_ROUNDS: u32 = 50;
    let ball = AtomicU32::new(0);
    let pass_on = |turn: u32| {
        while ball.load(Ordering::Acquire) != turn {
            std::hint::spin_loop();
        }
        ball.store(turn + 1, Ordering::Release);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| (0..NUM_EXCHANGES * NUM_ROUNDS).for_each(|round| pass_on(2 * round + 1)));
        let exchanges = (0..NUM_EXCHANGES).map(|exchange| {
            let rounds = exchange * NUM_ROUNDS..(exchange + 1) * NUM_ROUNDS;
            timed(|| rounds.for_each(|round| pass_on(2 * round))).0
        });
        exchanges.fold(f64::INFINITY, f64::min) / f64::from(2 * NUM_ROUNDS)
    })
}

fn or_none(number: f64) -> String {
    if number.is_nan() { "never".to_owned() } else { digits(number) }
}

struct Bench {
    rayon: rayon::ThreadPool,
    deque: DequePool,
}

impl Bench {
    /// Adds the wall time of one run, and of building and that run, in nanoseconds.
    fn measure(&mut self, system: &str, shape: &Shape, grain: u32, samples: &mut Samples) {
        let body = move |sum| busy(grain, sum);
        let (build, run) = match system {
            "split" => (0.0, timed(|| split_by_hand(&self.rayon, shape.num_tasks(), grain)).0),
            "sprang" => {
                let (build, graph) = timed(|| subject::build(shape, grain));
                let (plan_time, plan) = timed(|| graph.plan());
                let (run, outputs) = timed(|| plan.run(On::Threads(NUM_WORKERS)));
                check(system, shape, grain, &outputs);
                (build + plan_time, run)
            }
            _ => {
                let (build, arrays) = timed(|| Arc::new(Arrays::build(shape)));
                let (run, ()) = timed(|| match system {
                    "deque" => self.deque.run(&arrays, body),
                    _ => rayon_by_hand(&self.rayon, &arrays, body),
                });
                check(system, shape, grain, &arrays.outputs(shape));
                (build, run)
            }
        };
        samples.add(format!("{system} {grain} run"), run);
        samples.add(format!("{system} {grain} total"), build + run);
    }
}

/// The same work as a graph of `num_tasks`, half of it on each worker.
fn split_by_hand(pool: &rayon::ThreadPool, num_tasks: usize, grain: u32) {
    let work = || {
        // Each task depends on the one before. Otherwise the processor would overlap short ones.
        let last = (0..num_tasks / NUM_WORKERS).fold(0i64, |last, _| busy(grain, last.wrapping_add(1)));
        black_box(last);
    };
    pool.join(work, work);
}

/// Compares with a serial run, for short tasks only. With long tasks, that would take longer than
/// the bench itself.
fn check(system: &str, shape: &Shape, grain: u32, outputs: &[i64]) {
    if grain <= 16 {
        let arrays = Arrays::build(shape);
        arrays.run_in_order(move |sum| busy(grain, sum));
        assert_eq!(outputs, arrays.outputs(shape), "{system} computes {} right", shape.name);
    }
}

fn print_efficiency(name: &str, shape: &Shape, grains: &[u32], step_ns: f64, samples: &Samples) {
    println!("{name}: efficiency in percent, {} tasks\n", shape.num_tasks());
    let systems = SYSTEMS.iter().filter(|system| !samples.of(&format!("{system} {} run", grains[0])).is_empty());
    let mut table = Table::new(["work, us"].into_iter().chain(systems.clone().copied()));
    for &grain in grains {
        let work_ns = f64::from(grain) * step_ns;
        let cells = systems.clone().map(|system| {
            let wall_ns = samples.median(&format!("{system} {grain} run"));
            format!("{:.0}", 100.0 * work_ns * shape.num_tasks() as f64 / (NUM_WORKERS as f64 * wall_ns))
        });
        table.row([format!("{:.3}", work_ns / 1e3)].into_iter().chain(cells));
    }
    println!("{table}");
    // The efficiency of the longest tasks is always high, so they are left out.
    let longest = grains[grains.len() - 1];
    let work_ns = f64::from(longest) * step_ns * shape.num_tasks() as f64;
    let given = work_ns / (NUM_WORKERS as f64 * samples.median(&format!("split {longest} run")));
    if given < 0.9 {
        println!(
            "the machine gave {:.0} % of {NUM_WORKERS} cores meanwhile: take these figures again\n",
            100.0 * given
        );
    }
}

/// The grain at which the curve, followed from its long end, falls below `efficiency`; `NaN` if it
/// is never above. The points are `(grain, efficiency)`, the shortest first.
fn smallest_grain(curve: &[(f64, f64)], efficiency: f64) -> f64 {
    let Some(below) = curve.iter().rposition(|point| point.1 < efficiency) else {
        return curve.first().map_or(f64::NAN, |point| point.0);
    };
    let Some(&above) = curve.get(below + 1) else { return f64::NAN };
    let below = curve[below];
    let share = (efficiency - below.1) / (above.1 - below.1);
    (below.0.ln() + share * (above.0.ln() - below.0.ln())).exp()
}
