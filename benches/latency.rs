//! How long does a small graph take from the call to its result, on an idle executor?
//!
//! Unit: time per graph, not per task. The deque pool runs a chain of ten and a fan of sixteen
//! whose arrays exist. The library runs the same graphs prepared, and from handles (`compute` plans
//! each time). On two workers the deque pool wakes its second thread for every graph, whatever its
//! size; the library does not always.
//!
//! It does not show: large graphs (`overhead`), or how long a busy executor lets a small graph
//! wait.

mod baseline;
mod big;
mod subject;

use baseline::{Arrays, DequePool, Kahn, empty};
use big::Shape;
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn latency(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("latency");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let mut kahn = Kahn::default();
    for (name, shape) in [("chain of 10", Shape::chain(10)), ("fan of 16", Shape::fan(16))] {
        let arrays = Arc::new(Arrays::build(&shape));
        group.bench_function(format!("kahn/{name}"), |bencher| bencher.iter(|| kahn.run(&arrays, empty)));
        for num_workers in [1, 2] {
            let pool = DequePool::new(num_workers);
            group.bench_function(format!("deque/{name}, W{num_workers}"), |bencher| {
                bencher.iter(|| pool.run(&arrays, empty));
            });
        }
    }
    for (name, mut call) in subject::latencies() {
        group.bench_function(format!("sprang/{name}"), |bencher| bencher.iter(&mut call));
    }
    // The threads have gone to sleep in the meantime.
    group.sample_size(10);
    for (name, mut call) in subject::latencies() {
        group.bench_function(format!("sprang after 2 ms of idleness/{name}"), |bencher| {
            bencher.iter_custom(|num_iterations| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..num_iterations {
                    std::thread::sleep(Duration::from_millis(2));
                    let start = Instant::now();
                    black_box(call());
                    elapsed += start.elapsed();
                }
                elapsed
            });
        });
    }
    group.finish();
}

criterion_group!(benches, latency);
criterion_main!(benches);
