//! Do two workers halve the time of tasks that are long enough to be worth sharing?
//!
//! Unit: the speed-up of two workers over one. Tasks work for 100 microseconds each; graphs have
//! about 500 of them. *possible* is the gain of a greedy schedule of two workers on the shape, and
//! only shapes on which it is nearly 2 are judged. *split* is the same work cut into two halves by
//! hand, in the same rounds: the speed-up that the machine itself allows at the time. *warm* runs
//! directly after another run. *slept* runs after the pool had 50 ms to go to sleep, and the graph
//! runs for the first time. `!` marks a miss of the mark, and `?` a miss while the machine did not
//! give two cores either.
//!
//! It does not show: short tasks (`metg`), or anything beyond two workers.
//!
//! Options: `--rounds=N`, `--shape=NAME`, `--quick`.

#![expect(clippy::print_stdout, reason = "a table is the output of this bench")]

mod baseline;
mod big;
mod subject;
mod table;

use baseline::{Arrays, DequePool, empty};
use big::{Shape, Size, busy, shapes, step_ns};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use subject::On;
use table::{Options, Samples, Table, digits, judged, timed};

/// The speed-up that a scheduler must reach if the shape allows it.
const MARK: f64 = 1.9;

fn main() {
    let options = Options::read(7);
    let task_us = if options.is_quick { 5.0 } else { 100.0 };
    let num_iterations = (task_us * 1e3 / step_ns()) as u32;
    let pools = [DequePool::new(1), DequePool::new(2)];
    let mut table = Table::new([
        "speed-up of W2 over W1",
        "possible",
        "split",
        "deque warm",
        "deque slept",
        "sprang warm",
        "sprang slept",
    ]);
    let mut judge = |shape: &Shape| {
        let mut samples = Samples::default();
        for _ in 0..options.num_rounds {
            measure(shape, num_iterations, &pools, &mut samples);
        }
        let possible = shape.greedy_speed_up(2);
        let speed_up =
            |system: &str, kind: &str| samples.ratio(&format!("{system} W1 {kind}"), &format!("{system} W2 {kind}"));
        let judged = |kind| {
            let gain = speed_up("sprang", kind);
            let is_met = gain >= MARK || possible < MARK + 0.05;
            // Without two cores, a miss means nothing.
            let is_unfair = gain < MARK && !is_met && speed_up("split", "warm") < MARK;
            if is_unfair { format!("{} ?", digits(gain)) } else { judged(gain, is_met) }
        };
        table.row([
            shape.name.to_owned(),
            digits(possible),
            digits(speed_up("split", "warm")),
            digits(speed_up("deque", "warm")),
            digits(speed_up("deque", "slept")),
            judged("warm"),
            judged("slept"),
        ]);
    };
    for shape in shapes(Size::Coarse).iter().filter(|shape| options.wants(shape.name)) {
        judge(shape);
    }
    println!("tasks of {task_us} us, median of {} rounds; mark {MARK} where {MARK} is possible\n", options.num_rounds);
    println!("{table}");
}

/// One round: every system on one worker and on two, one directly after another.
fn measure(shape: &Shape, num_iterations: u32, pools: &[DequePool; 2], samples: &mut Samples) {
    let nap = || std::thread::sleep(Duration::from_millis(50));
    let body = move |sum| busy(num_iterations, sum);
    let reference = {
        let arrays = Arrays::build(shape);
        arrays.run_in_order(body);
        arrays.outputs(shape)
    };

    let half = || {
        for seed in 0..shape.num_tasks() / 2 {
            black_box(busy(num_iterations, seed as i64));
        }
    };
    samples.add("split W1 warm", timed(|| [half(), half()]).0);
    let both = || {
        std::thread::scope(|scope| {
            scope.spawn(half);
            half();
        });
    };
    samples.add("split W2 warm", timed(both).0);

    for (pool, workers) in pools.iter().zip(["W1", "W2"]) {
        let arrays = Arc::new(Arrays::build(shape));
        nap();
        samples.add(format!("deque {workers} slept"), timed(|| pool.run(&arrays, body)).0);
        samples.add(format!("deque {workers} warm"), timed(|| pool.run(&arrays, body)).0);
        assert_eq!(arrays.outputs(shape), reference, "the deque computes {} right", shape.name);
        pool.run(&Arc::new(Arrays::build(&Shape::chain(2))), empty);
    }
    for (num_workers, workers) in [(1, "W1"), (2, "W2")] {
        let graph = subject::build(shape, num_iterations);
        let plan = graph.plan();
        nap();
        let (slept, first) = timed(|| plan.run(On::Threads(num_workers)));
        let (warm, second) = timed(|| plan.run(On::Threads(num_workers)));
        assert_eq!(first, reference, "the library computes {} right", shape.name);
        assert_eq!(second, reference, "the library computes {} right again", shape.name);
        samples.add(format!("sprang {workers} slept"), slept);
        samples.add(format!("sprang {workers} warm"), warm);
    }
}
