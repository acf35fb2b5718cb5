//! What does a watched task cost?
//!
//! Prints nanoseconds per empty task of a planned graph, on one and on two workers: without
//! callbacks, with one that does nothing, and with a dashboard with no page and with one page. The
//! difference to the first is the cost. It does not depend on the work of a task, so it matters
//! little for tasks of a microsecond and more.
//!
//! 22 November 2026, 2 cores of a shared VM, 100 000 tasks, one and two workers, ns per task: 4.1
//! and 4.4 without callbacks; 69 and 83 with an empty callback, most of it the clock; 157 and 153
//! with a dashboard; 149 and 152 with a page.
//!
//! 25 November 2026, with records for reports and the stage of each task, on a busy machine, so in
//! processor time: 136 ns, of which an empty callback takes 53; before these records, 116. Medians
//! of 31 runs of the same graph on the sync executor, alternating.
//!
//! The same day, without and with the bytes of values: 129 and 144 ns for this graph, 145 and 161
//! for a layered graph whose tasks read two values each. An empty callback takes 54 to 58 of that,
//! and a profiler takes 80. Processor time of the calling thread on the sync executor, means of 60
//! runs, alternating, on a busy machine.
//!
//! `cargo bench --bench dashboard --features dashboard`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sprang::callback::{self, Callback};
use sprang::{Refs, config, delayed, prepare};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

const NUM_LEAVES: u64 = 100_000;

struct Nothing;

impl Callback for Nothing {}

fn watched(c: &mut Criterion) {
    let leaves: Vec<_> = (0..NUM_LEAVES).map(|i| delayed(|i: u64| i, (i,))).collect();
    let sum = delayed(|leaves: Refs<'_, u64>| leaves.iter().sum::<u64>(), (&leaves,));
    let plan = prepare(&sum).expect("the graph can be planned");
    let mut group = c.benchmark_group("watched");
    group.throughput(Throughput::Elements(NUM_LEAVES + 1)).sample_size(20);
    for num_workers in [1_u32, 2] {
        let _workers = config::scoped("num_workers", num_workers).expect("a setting");
        let compute = || assert_eq!(plan.compute().expect("a sum"), NUM_LEAVES * (NUM_LEAVES - 1) / 2);
        group.bench_function(BenchmarkId::new("without callbacks", num_workers), |b| b.iter(compute));
        group.bench_function(BenchmarkId::new("empty callback", num_workers), |b| {
            let _watch = callback::scoped(Arc::new(Nothing));
            b.iter(compute);
        });
        group.bench_function(BenchmarkId::new("dashboard", num_workers), |b| {
            let _dashboard = sprang::dashboard::serve("127.0.0.1:0").expect("a free port");
            b.iter(compute);
        });
        group.bench_function(BenchmarkId::new("dashboard with a page", num_workers), |b| {
            let dashboard = sprang::dashboard::serve("127.0.0.1:0").expect("a free port");
            let mut page = TcpStream::connect(dashboard.address()).expect("the server listens");
            page.write_all(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
            let reader = std::thread::spawn(move || {
                let mut room = [0; 65_536];
                while page.read(&mut room).is_ok_and(|num_bytes| num_bytes > 0) {}
            });
            b.iter(compute);
            drop(dashboard);
            reader.join().expect("the reader does not panic");
        });
    }
    group.finish();
}

criterion_group!(benches, watched);
criterion_main!(benches);
