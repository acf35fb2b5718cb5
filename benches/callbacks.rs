//! How much time does a callback cost?
//!
//! Unit: ns per task; criterion's throughput is in tasks. Each iteration runs a prepared graph of
//! tasks that combine two numbers, on the sync executor and on two threads: without a callback,
//! with one that does nothing, with one that also asks for ready tasks and values, and with a
//! profiler, with and without measured values.
//!
//! It does not show progress, whose counts cost about as much as the profiler, nor worker
//! processes, where a task costs microseconds.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sprang::callback::{self, Callback, Interests};
use sprang::{Delayed, Prepared, Profiler, ThreadExecutor, delayed, prepare};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const WIDTH: usize = 64;
const DEPTH: usize = 500;

struct Nothing;

impl Callback for Nothing {}

/// Asks for the extra events and does nothing.
struct Curious;

impl Callback for Curious {
    fn interests(&self) -> Interests {
        Interests::new().ready().values()
    }
}

fn graph() -> Prepared<Vec<Delayed<i64>>> {
    let mut layer: Vec<Delayed<i64>> = (0..WIDTH as i64).map(|i| delayed(|i: i64| i, (i,))).collect();
    for _ in 0..DEPTH {
        let next = |i: usize| delayed(|a: &i64, b: &i64| a ^ b, (&layer[i], &layer[(i + 1) % WIDTH]));
        layer = (0..WIDTH).map(next).collect();
    }
    prepare(layer).unwrap()
}

fn callbacks(criterion: &mut Criterion) {
    let graph = graph();
    let threads = Arc::new(ThreadExecutor::new(2));
    let run = |name: &str| match name {
        "sync" => graph.compute_with("sync").unwrap(),
        _ => graph.compute_with(Arc::clone(&threads)).unwrap(),
    };
    for name in ["sync", "threads"] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(graph.num_tasks() as u64)).sample_size(20);
        group.measurement_time(Duration::from_secs(2));
        group.bench_function("unwatched", |bencher| bencher.iter(|| black_box(run(name))));
        group.bench_function("nothing", |bencher| {
            let _scope = callback::scoped(Arc::new(Nothing));
            bencher.iter(|| black_box(run(name)));
        });
        group.bench_function("curious", |bencher| {
            let _scope = callback::scoped(Arc::new(Curious));
            bencher.iter(|| black_box(run(name)));
        });
        for (what, measures) in [("profiler", false), ("profiler that measures", true)] {
            group.bench_function(what, |bencher| {
                bencher.iter_with_setup(
                    || Arc::new(Profiler::new().measure_values(measures)),
                    |profiler| callback::with(profiler, || black_box(run(name))),
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, callbacks);
criterion_main!(benches);
