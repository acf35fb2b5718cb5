//! What does a single submitted task cost, on threads and in worker processes?
//!
//! Times are per task of a whole batch, from the first call of `submit` to the last value. Beside
//! them stand other costs of the machine: waking a thread that wakes the first in turn, and the
//! same tasks as one graph. The last group measures shared objects. The bench does not show what
//! moving a large value costs; `processes` does.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sprang::{Client, LocalCluster, Lock, Queue, WaitFor, as_completed, delayed, lit};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const NUM_TASKS: u64 = 100_000;

fn inc(x: u64) -> u64 {
    x + 1
}

/// Submits tasks, gathers their values and adds them up.
fn submit_and_gather(client: &Client, num_tasks: u64) {
    let futures = client.map(inc, 0..num_tasks);
    let sum: u64 = client.gather(&futures).unwrap().into_iter().sum();
    assert_eq!(sum, num_tasks * (num_tasks + 1) / 2);
}

fn many(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("submit and gather");
    group.sample_size(10).throughput(Throughput::Elements(NUM_TASKS));
    let threads = Client::threads(2).unwrap();
    group.bench_function("threads", |bencher| bencher.iter(|| submit_and_gather(&threads, NUM_TASKS)));
    group.bench_function("threads, submit alone", |bencher| {
        bencher.iter_batched(|| (), |()| threads.map(inc, 0..NUM_TASKS), BatchSize::PerIteration);
    });
    group.bench_function("threads, as completed", |bencher| {
        bencher.iter(|| {
            let futures = threads.map(inc, 0..NUM_TASKS);
            assert_eq!(as_completed(futures).with_results().count() as u64, NUM_TASKS);
        });
    });
    group.bench_function("threads, a chain", |bencher| {
        bencher.iter(|| {
            let mut last = threads.submit(inc, (0_u64,));
            for _ in 1..NUM_TASKS {
                last = threads.submit(inc, (last,));
            }
            assert_eq!(last.result().unwrap(), NUM_TASKS);
        });
    });
    drop(threads);
    let processes = processes(2);
    group.bench_function("processes", |bencher| bencher.iter(|| submit_and_gather(&processes, NUM_TASKS)));
    group.bench_function("one graph on threads", |bencher| {
        bencher.iter(|| {
            let tasks: Vec<_> = (0..NUM_TASKS).map(|x| delayed(inc, (x,))).collect();
            assert_eq!(sprang::compute(&tasks).unwrap().len() as u64, NUM_TASKS);
        });
    });
    group.finish();
}

fn processes(num_workers: usize) -> Client {
    let cluster = LocalCluster::builder().workers(num_workers).threads_per_worker(1).build().unwrap();
    assert!(cluster.wait_for_workers(num_workers, Some(Duration::from_secs(30))));
    Client::owning(cluster)
}

fn one(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one task, from submit to its value");
    let client = Client::threads(2).unwrap();
    group.bench_function("threads, idle", |bencher| {
        bencher.iter_batched(
            || thread::sleep(Duration::from_millis(1)),
            |()| assert_eq!(client.submit(inc, (1_u64,)).result().unwrap(), 2),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("threads, one after the other", |bencher| {
        bencher.iter(|| assert_eq!(client.submit(inc, (1_u64,)).result().unwrap(), 2));
    });
    drop(client);
    let client = processes(2);
    group.bench_function("processes, one after the other", |bencher| {
        bencher.iter(|| assert_eq!(client.submit(inc, (1_u64,)).result().unwrap(), 2));
    });
    drop(client);
    group.bench_function("a thread woken and waking in turn", |bencher| {
        let (to, from_here) = mpsc::channel();
        let (to_here, from) = mpsc::channel();
        let echo = thread::spawn(move || from_here.iter().try_for_each(|x: u64| to_here.send(x)));
        bencher.iter_batched(
            || thread::sleep(Duration::from_millis(1)),
            |()| {
                to.send(1).unwrap();
                assert_eq!(from.recv().unwrap(), 1);
            },
            BatchSize::PerIteration,
        );
        drop(to);
        echo.join().unwrap().unwrap();
    });
    group.finish();
}

fn waiting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("waiting");
    group.sample_size(10).throughput(Throughput::Elements(NUM_TASKS));
    let client = Client::threads(2).unwrap();
    let futures = client.map(inc, 0..NUM_TASKS);
    sprang::wait(&futures, WaitFor::All);
    group.bench_function("gather what is there", |bencher| bencher.iter(|| client.gather(&futures).unwrap().len()));
    group.finish();
}

/// In a task: acquires and releases the lock `num_turns` times.
fn take_turns(num_turns: u64, lock: &Lock) -> sprang::Result<Duration> {
    let begin = Instant::now();
    (0..num_turns).try_for_each(|_| lock.acquire().map(drop))?;
    Ok(begin.elapsed())
}

/// In a task: passes `num_items` items back.
fn echo(num_items: u64, there: &Queue<u64>, back: &Queue<u64>) -> sprang::Result<()> {
    (0..num_items).try_for_each(|_| back.put(there.take()?))
}

fn sharing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sharing");
    for (kind, client) in [("threads", Client::threads(2).unwrap()), ("processes", processes(2))] {
        let lock = client.lock("lock");
        group.bench_function(format!("{kind}, a free lock"), |bencher| {
            bencher.iter_custom(|n| client.try_submit(take_turns, (n, lit(lock.clone()))).result().unwrap());
        });
        let [there, back] = ["there", "back"].map(|name| client.queue::<u64>(name, None).unwrap());
        group.bench_function(format!("{kind}, an item to a task and back"), |bencher| {
            bencher.iter_custom(|n| {
                let echo = client.try_submit(echo, (n, lit(there.clone()), lit(back.clone())));
                let begin = Instant::now();
                (0..n).try_for_each(|x| there.put(x).and_then(|()| back.take()).map(drop)).unwrap();
                let time = begin.elapsed();
                echo.result().unwrap();
                time
            });
        });
    }
    group.finish();
}

criterion_group!(benches, many, one, waiting, sharing);
criterion_main!(benches);
