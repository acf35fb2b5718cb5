//! Does the library keep its marks against executors written by hand?
//!
//! Unit: nanoseconds per task, and ratios. Every system runs the same shapes with the same values,
//! in one process, one after another within a round, in an order that rotates from round to round.
//! A ratio is the median over the rounds of the ratio within a round, so that a machine that is
//! slow for a while is slow for both sides. `!` follows a ratio that misses its mark.
//!
//! * *run*: a second run of an existing graph.
//! * *total*: everything until the first result: the arrays and their first run for the deque;
//!   handles, plan and first run for the library.
//!
//! It does not show: tasks that take time (`metg`, `coarse`), small graphs (`latency`), memory
//! (`memory`), and how the time of `total` is divided for the baselines (`overhead`).
//!
//! Options: `--rounds=N`, `--shape=NAME`, `--quick`.

#![expect(clippy::print_stdout, reason = "a table is the output of this bench")]

mod baseline;
mod big;
mod subject;
mod table;

use baseline::{Arrays, DequePool, Kahn, empty, rayon_by_hand, rayon_pool};
use big::{Shape, shapes};
use std::sync::Arc;
use subject::On;
use table::{Options, Samples, Table, digits, judged, spread, timed};

fn main() {
    let options = Options::read(7);
    let mut systems = Systems::new();
    let shapes: Vec<Shape> = shapes(options.size()).into_iter().filter(|shape| options.wants(shape.name)).collect();
    let expected: Vec<Vec<i64>> = shapes.iter().map(expected_outputs).collect();
    let mut samples: Vec<Samples> = shapes.iter().map(|_| Samples::default()).collect();
    for round in 0..options.num_rounds {
        for ((shape, expected), samples) in shapes.iter().zip(&expected).zip(&mut samples) {
            for turn in 0..Systems::NUM_TURNS {
                systems.measure((round + turn) % Systems::NUM_TURNS, shape, expected, samples);
            }
        }
    }
    print_times(&shapes, &samples, options.num_rounds);
    print_ratios(&shapes, &samples);
}

fn expected_outputs(shape: &Shape) -> Vec<i64> {
    let arrays = Arrays::build(shape);
    arrays.run_in_order(empty);
    arrays.outputs(shape)
}

/// The state that is kept between runs: mostly threads.
struct Systems {
    kahn: Kahn,
    rayon: [rayon::ThreadPool; 2],
    deque: [DequePool; 2],
}

impl Systems {
    const NUM_TURNS: usize = 7;

    fn new() -> Self {
        Systems {
            kahn: Kahn::default(),
            rayon: [rayon_pool(1), rayon_pool(2)],
            deque: [DequePool::new(1), DequePool::new(2)],
        }
    }

    /// One turn: one system builds its graph, runs it twice, and is checked.
    fn measure(&mut self, turn: usize, shape: &Shape, expected: &[i64], samples: &mut Samples) {
        match turn {
            0 => by_hand("kahn", shape, expected, samples, |arrays| self.kahn.run(arrays, empty)),
            1 => by_hand("rayon W1", shape, expected, samples, |arrays| rayon_by_hand(&self.rayon[0], arrays, empty)),
            2 => by_hand("rayon W2", shape, expected, samples, |arrays| rayon_by_hand(&self.rayon[1], arrays, empty)),
            3 => by_hand("deque W1", shape, expected, samples, |arrays| self.deque[0].run(arrays, empty)),
            4 => by_hand("deque W2", shape, expected, samples, |arrays| self.deque[1].run(arrays, empty)),
            // The serial executor shares a turn with one worker, so that its graph is built and
            // planned once.
            5 => library(&[("sprang W1", On::Threads(1)), ("sprang sync", On::Sync)], shape, expected, samples),
            _ => library(&[("sprang W2", On::Threads(2))], shape, expected, samples),
        }
    }
}

fn by_hand(name: &str, shape: &Shape, expected: &[i64], samples: &mut Samples, mut run: impl FnMut(&Arc<Arrays>)) {
    let per_task = 1.0 / shape.num_tasks() as f64;
    let (build, arrays) = timed(|| Arc::new(Arrays::build(shape)));
    let (first, ()) = timed(|| run(&arrays));
    assert_eq!(arrays.outputs(shape), expected, "{name} computes {} right", shape.name);
    let (again, ()) = timed(|| run(&arrays));
    assert_eq!(arrays.outputs(shape), expected, "{name} computes {} right again", shape.name);
    samples.add(format!("{name} build"), build * per_task);
    samples.add(format!("{name} total"), (build + first) * per_task);
    samples.add(format!("{name} run"), again * per_task);
}

fn library(executors: &[(&str, On)], shape: &Shape, expected: &[i64], samples: &mut Samples) {
    let per_task = 1.0 / shape.num_tasks() as f64;
    let (build, graph) = timed(|| subject::build(shape, 0));
    let (plan_time, plan) = timed(|| graph.plan());
    assert_eq!(plan.num_tasks(), shape.num_tasks(), "the plan has every task of {}", shape.name);
    for (i, &(name, on)) in executors.iter().enumerate() {
        let (first, outputs) = timed(|| plan.run(on));
        assert_eq!(outputs, expected, "{name} computes {} right", shape.name);
        let (again, outputs) = timed(|| plan.run(on));
        assert_eq!(outputs, expected, "{name} computes {} right again", shape.name);
        if i == 0 {
            samples.add(format!("{name} total"), (build + plan_time + first) * per_task);
        }
        samples.add(format!("{name} run"), again * per_task);
    }
    let (drop_plan, ()) = timed(|| drop(plan));
    let (drop_graph, ()) = timed(|| drop(graph));
    let first_place = executors[0].0;
    samples.add(format!("{first_place} build"), build * per_task);
    samples.add(format!("{first_place} plan"), plan_time * per_task);
    samples.add(format!("{first_place} drop"), (drop_plan + drop_graph) * per_task);
}

fn print_times(shapes: &[Shape], samples: &[Samples], num_rounds: usize) {
    println!("ns per task, median (min-max) of {num_rounds} rounds\n");
    let mut table = Table::new([""].into_iter().chain(shapes.iter().map(|shape| shape.name)));
    for what in [
        "kahn run",
        "rayon W1 run",
        "deque W1 run",
        "sprang W1 run",
        "sprang sync run",
        "rayon W2 run",
        "deque W2 run",
        "sprang W2 run",
        "deque W1 build",
        "sprang W1 build",
        "sprang W1 plan",
        "sprang W1 drop",
        "deque W1 total",
        "sprang W1 total",
        "deque W2 total",
        "sprang W2 total",
    ] {
        if samples.iter().any(|samples| !samples.of(what).is_empty()) {
            table.row([what.to_owned()].into_iter().chain(samples.iter().map(|samples| spread(samples.of(what)))));
        }
    }
    println!("{table}");
}

fn print_ratios(shapes: &[Shape], samples: &[Samples]) {
    println!("ratios, medians over the rounds; ! misses the mark\n");
    let heads = ["", "mark"].into_iter().chain(shapes.iter().map(|shape| shape.name));
    let mut table = Table::new(heads);
    let has_library = samples.iter().any(|samples| !samples.of("sprang W1 run").is_empty());
    let mut row = |a: &str, b: &str, mark: &str, is_met: &dyn Fn(&str, f64) -> bool| {
        let cells = shapes.iter().zip(samples).map(|(shape, samples)| {
            let ratio = samples.ratio(a, b);
            judged(ratio, is_met(shape.name, ratio))
        });
        table.row([format!("{a} / {b}"), mark.to_owned()].into_iter().chain(cells));
    };
    if has_library {
        let beats_rayon = |shape: &str, ratio: f64| ratio <= if shape == "stencil" { 1.3 } else { 1.0 };
        for workers in ["W1", "W2"] {
            let [sprang, rayon, deque] = ["sprang", "rayon", "deque"].map(|name| format!("{name} {workers} run"));
            row(&sprang, &rayon, "1, stencil 1.3", &beats_rayon);
            row(&sprang, &deque, "1.5, half 1", &|_, ratio| ratio <= 1.5);
        }
        row("sprang W2 run", "sprang W1 run", "1.1", &|_, ratio| ratio <= 1.1);
        row("sprang sync run", "kahn run", "2", &|_, ratio| ratio <= 2.0);
        row("sprang W1 total", "deque W1 total", "5", &|_, ratio| ratio <= 5.0);
        row("sprang W2 total", "deque W2 total", "5", &|_, ratio| ratio <= 5.0);
    }
    for (a, b) in [
        ("rayon W1 run", "deque W1 run"),
        ("rayon W2 run", "deque W2 run"),
        ("deque W2 run", "deque W1 run"),
        ("deque W1 run", "kahn run"),
    ] {
        row(a, b, "", &|_, _| true);
    }
    println!("{table}");
    if has_library {
        for workers in ["W1", "W2"] {
            let [sprang, deque] = ["sprang", "deque"].map(|name| format!("{name} {workers} run"));
            let ratios: Vec<f64> = samples.iter().map(|samples| samples.ratio(&sprang, &deque)).collect();
            let num_ahead = ratios.iter().filter(|&&ratio| ratio < 1.0).count();
            let worst = ratios.iter().copied().fold(0.0, f64::max);
            println!(
                "{workers}: ahead of the deque on {num_ahead} of {} shapes, at worst {}",
                ratios.len(),
                digits(worst)
            );
        }
    }
}
