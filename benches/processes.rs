//! How much does it cost to run a task in another process?
//!
//! Small tasks by shape, on two workers that are running: time per graph, and throughput in tasks.
//! A cold start, up to the first result. 64 MB of numbers into, out of and between tasks, as
//! throughput. The death of a worker. For comparison: the same graph on the calling thread, a
//! `memcpy` of the same bytes, and a round trip through a pipe to a thread, which is two wake-ups.
//!
//! It does not show more than two workers, values that are slow to encode, or a machine that is
//! short of memory.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use sprang::{Delayed, ProcessExecutor, SharedArray, SyncExecutor, compute_with, delayed, lit, prepare};
use std::hint::black_box;
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NUM_WORKERS: NonZeroUsize = NonZeroUsize::new(2).unwrap();
const NUM_TASKS: i64 = 10_000;
/// 64 MB.
const LEN: usize = 8_000_000;

fn executor() -> Arc<ProcessExecutor> {
    Arc::new(ProcessExecutor::new(NUM_WORKERS))
}

fn inc(x: i64) -> i64 {
    x + 1
}

fn add(a: &i64, b: &i64) -> i64 {
    a + b
}

fn independent() -> Vec<Delayed<i64>> {
    (0..NUM_TASKS).map(|i| delayed(inc, (i,))).collect()
}

fn chain() -> Delayed<i64> {
    (1..NUM_TASKS).fold(delayed(inc, (0_i64,)), |task, _| delayed(inc, (task,)))
}

fn tree() -> Delayed<i64> {
    let mut level: Vec<_> = (0..NUM_TASKS / 2).map(|i| delayed(inc, (i,))).collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [a, b] => delayed(add, (a, b)),
                _ => pair[0].clone(),
            })
            .collect();
    }
    level.swap_remove(0)
}

fn small_tasks(criterion: &mut Criterion) {
    let executor = executor();
    let mut group = criterion.benchmark_group("small tasks");
    group.throughput(Throughput::Elements(NUM_TASKS as u64));
    let (independent, chain, tree) =
        (prepare(independent()).unwrap(), prepare(chain()).unwrap(), prepare(tree()).unwrap());
    group.bench_function("independent/processes", |bencher| {
        bencher.iter(|| independent.compute_with(Arc::clone(&executor)).unwrap());
    });
    group
        .bench_function("independent/sync", |bencher| bencher.iter(|| independent.compute_with(SyncExecutor).unwrap()));
    group.bench_function("chain/processes", |bencher| {
        bencher.iter(|| chain.compute_with(Arc::clone(&executor)).unwrap())
    });
    group
        .bench_function("tree/processes", |bencher| bencher.iter(|| tree.compute_with(Arc::clone(&executor)).unwrap()));
    group.finish();

    let mut group = criterion.benchmark_group("one task");
    let one = delayed(inc, (1_i64,));
    group.bench_function("processes", |bencher| bencher.iter(|| one.compute_with(Arc::clone(&executor)).unwrap()));
    let (mut to, mut from) = echo();
    group.bench_function("a byte through two pipes", |bencher| {
        bencher.iter(|| {
            to.write_all(&[1]).unwrap();
            from.read_exact(&mut [0]).unwrap();
        });
    });
    group.finish();
}

/// A thread that returns every byte that it receives.
fn echo() -> (std::io::PipeWriter, std::io::PipeReader) {
    let (mut their_from, to) = std::io::pipe().unwrap();
    let (from, mut their_to) = std::io::pipe().unwrap();
    std::thread::spawn(move || {
        let mut byte = [0];
        while their_from.read_exact(&mut byte).is_ok() {
            their_to.write_all(&byte).unwrap();
        }
    });
    (to, from)
}

fn cold_start(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cold start");
    group.sample_size(20);
    group.bench_function("first result of two workers", |bencher| {
        bencher.iter_custom(|num_iterations| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..num_iterations {
                let tasks = [delayed(inc, (1_i64,)), delayed(inc, (2_i64,))];
                let start = Instant::now();
                let executor = executor();
                black_box(compute_with(Arc::clone(&executor), &tasks).unwrap());
                elapsed += start.elapsed();
                drop(executor);
            }
            elapsed
        });
    });
    group.finish();
}

fn ramp(len: usize) -> Vec<f64> {
    (0..len).map(|i| i as f64).collect()
}

fn shared_ramp(len: usize) -> SharedArray<f64> {
    SharedArray::with_len(len, |numbers| numbers.iter_mut().enumerate().for_each(|(i, number)| *number = i as f64))
}

/// A value that costs nothing to compute.
#[expect(clippy::ptr_arg, reason = "a task borrows the value as it is")]
fn first(numbers: &Vec<f64>) -> f64 {
    numbers[0]
}

fn shared_first(numbers: &SharedArray<f64>) -> f64 {
    numbers[0]
}

fn shared_sum(numbers: &SharedArray<f64>) -> f64 {
    numbers.chunks(8).map(|chunk| chunk.iter().sum::<f64>()).sum()
}

fn transfer(criterion: &mut Criterion) {
    let executor = executor();
    let mut group = criterion.benchmark_group("64 MB");
    group.throughput(Throughput::Bytes(8 * LEN as u64)).sample_size(10).sampling_mode(SamplingMode::Flat);
    let numbers = ramp(LEN);
    let mut copy = numbers.clone();
    group
        .bench_function("memcpy", |bencher| bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&numbers))));
    group.bench_function("sum", |bencher| {
        let numbers = SharedArray::from(numbers.clone());
        bencher.iter(|| shared_sum(black_box(&numbers)));
    });

    let out = delayed(ramp, (LEN,));
    group.bench_function(BenchmarkId::new("out of a task", "Vec"), |bencher| {
        bencher.iter(|| out.compute_with(Arc::clone(&executor)).unwrap().len());
    });
    let out = delayed(shared_ramp, (LEN,));
    group.bench_function(BenchmarkId::new("out of a task", "SharedArray"), |bencher| {
        bencher.iter(|| out.compute_with(Arc::clone(&executor)).unwrap().len());
    });
    group.bench_function(BenchmarkId::new("into a task, new each time", "Vec"), |bencher| {
        bencher.iter_batched(
            || delayed(first, (lit(numbers.clone()),)),
            |task| task.compute_with(Arc::clone(&executor)).unwrap(),
            criterion::BatchSize::PerIteration,
        );
    });
    group.bench_function(BenchmarkId::new("into a task, new each time", "SharedArray"), |bencher| {
        bencher.iter_batched(
            || delayed(shared_first, (lit(SharedArray::from(numbers.clone())),)),
            |task| task.compute_with(Arc::clone(&executor)).unwrap(),
            criterion::BatchSize::PerIteration,
        );
    });
    let again = delayed(shared_sum, (lit(SharedArray::from(numbers.clone())),));
    group.bench_function(BenchmarkId::new("into a task again, and summed", "SharedArray"), |bencher| {
        bencher.iter(|| again.compute_with(Arc::clone(&executor)).unwrap());
    });
    let between = delayed(first, (&delayed(ramp, (LEN,)),));
    group.bench_function(BenchmarkId::new("from task to task", "Vec"), |bencher| {
        bencher.iter(|| between.compute_with(Arc::clone(&executor)).unwrap());
    });
    let between = delayed(shared_first, (&delayed(shared_ramp, (LEN,)),));
    group.bench_function(BenchmarkId::new("from task to task", "SharedArray"), |bencher| {
        bencher.iter(|| between.compute_with(Arc::clone(&executor)).unwrap());
    });
    group.finish();
}

/// Kills its worker unless the file exists. Makes the file first.
fn die_once(marker: &String) -> bool {
    if std::fs::File::create_new(marker).is_ok() {
        std::process::abort();
    }
    true
}

fn death(criterion: &mut Criterion) {
    let executor = executor();
    let folder = tempfile::tempdir().unwrap();
    let mut group = criterion.benchmark_group("death");
    group.sample_size(20);
    let mut number = 0;
    group.bench_function("a task whose first worker aborts", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                let marker = folder.path().join(number.to_string()).display().to_string();
                assert!(!Path::new(&marker).exists());
                delayed(die_once, (lit(marker),))
            },
            |task| assert!(task.compute_with(Arc::clone(&executor)).unwrap()),
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, small_tasks, cold_start, transfer, death);
criterion_main!(benches);
