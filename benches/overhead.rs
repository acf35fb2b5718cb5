//! What does one empty task cost, by shape, phase and executor?
//!
//! Unit: time per element, which is a task; criterion prints it as throughput (1 Gelem/s = 1 ns per
//! task). A task adds its inputs. The baselines are lower bounds: they have neither closures nor
//! typed values; see `baseline/mod.rs`.
//!
//! * *build*: the arrays of a baseline; the handles of the library.
//! * *plan*: from handles to a gathered and ordered graph. *run*: one run of a graph that has run
//!   before. *drop*: the handles.
//! * *build + run*, *compute*: everything up to the first result.
//!
//! It does not show: ratios that survive a noisy machine (`marks` interleaves the systems; this
//! bench runs them one after another), tasks that take time (`metg`, `coarse`), small graphs
//! (`latency`), memory (`memory`).

mod baseline;
mod big;
mod subject;

use baseline::{Arrays, DequePool, Kahn, empty, rayon_by_hand, rayon_pool};
use big::{Shape, Size, shapes};
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::sync::Arc;
use std::time::Duration;
use subject::On;

fn size() -> Size {
    // Criterion then runs every benchmark once, and large graphs would prove no more.
    let has = |name: &str| std::env::args().any(|argument| argument == name);
    if has("--bench") && !has("--test") && !has("--quick") { Size::Full } else { Size::Quick }
}

fn overhead(criterion: &mut Criterion) {
    for shape in shapes(size()) {
        let mut group = criterion.benchmark_group(shape.name);
        group
            .throughput(Throughput::Elements(shape.num_tasks() as u64))
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(600));
        by_hand(&mut group, &shape);
        library(&mut group, &shape);
        group.finish();
    }
}

fn by_hand(group: &mut BenchmarkGroup<'_, WallTime>, shape: &Shape) {
    group.bench_function("hand/build", |bencher| {
        bencher.iter_batched(|| (), |()| Arrays::build(shape), BatchSize::PerIteration);
    });
    let arrays = Arc::new(Arrays::build(shape));
    arrays.run_in_order(empty);
    let expected = arrays.outputs(shape);
    let check = |name: &str| assert_eq!(arrays.outputs(shape), expected, "{name} computes {} right", shape.name);

    let mut kahn = Kahn::default();
    group.bench_function("kahn/run", |bencher| bencher.iter(|| kahn.run(&arrays, empty)));
    check("kahn");
    for num_workers in [1, 2] {
        let pool = rayon_pool(num_workers);
        group.bench_function(format!("rayon/run W{num_workers}"), |bencher| {
            bencher.iter(|| rayon_by_hand(&pool, &arrays, empty));
        });
        check("rayon");
        let pool = DequePool::new(num_workers);
        group.bench_function(format!("deque/run W{num_workers}"), |bencher| bencher.iter(|| pool.run(&arrays, empty)));
        check("deque");
        group.bench_function(format!("deque/build + run W{num_workers}"), |bencher| {
            let build_and_run = |()| {
                let arrays = Arc::new(Arrays::build(shape));
                pool.run(&arrays, empty);
                arrays
            };
            bencher.iter_batched(|| (), build_and_run, BatchSize::PerIteration);
        });
    }
}

fn library(group: &mut BenchmarkGroup<'_, WallTime>, shape: &Shape) {
    let build = || subject::build(shape, 0);
    let graph = build();
    group.bench_function("sprang/build", |bencher| {
        bencher.iter_batched(|| (), |()| build(), BatchSize::PerIteration);
    });
    group.bench_function("sprang/plan", |bencher| {
        bencher.iter_batched(|| (), |()| graph.plan(), BatchSize::PerIteration);
    });
    let plan = graph.plan();
    for (name, on) in [("sync", On::Sync), ("W1", On::Threads(1)), ("W2", On::Threads(2))] {
        group.bench_function(format!("sprang/run {name}"), |bencher| {
            bencher.iter_batched(|| (), |()| plan.run(on), BatchSize::PerIteration);
        });
        group.bench_function(format!("sprang/compute {name}"), |bencher| {
            let compute = |()| {
                let graph = build();
                let outputs = graph.plan().run(on);
                (graph, outputs)
            };
            bencher.iter_batched(|| (), compute, BatchSize::PerIteration);
        });
    }
    group.bench_function("sprang/drop", |bencher| bencher.iter_batched(build, drop, BatchSize::PerIteration));
}

criterion_group!(benches, overhead);
criterion_main!(benches);
