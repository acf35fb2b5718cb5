//! A program that computes random graphs for a long time, while its workers are killed and its runs
//! cancelled, needs no more memory, threads and descriptors at the end than after its first rounds.
//!
//! `scripts/check-soak` runs it beside two busy loops. `SOAK_SECONDS` says for how long, and
//! `SOAK_SEED` repeats the graphs of another time; which worker is killed when differs.

#![cfg(all(target_os = "linux", not(miri)))]

#[path = "contract/watchdog.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod watchdog;

use rustix::process::{Pid, Signal, kill_process};
use sprang::{
    CancelToken, Client, Delayed, ErrorKind, LocalCluster, Refs, TaskFuture, as_completed, config, delayed, try_delayed,
};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use watchdog::watched_by_steps;

/// Random numbers, the same for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The value of a task: few numbers mostly, and some hundred kilobytes now and then, which travel
/// in shared memory.
fn value(seed: u64, inputs: u64) -> Vec<u64> {
    let len = if seed.is_multiple_of(40) { 40_000 } else { 1 + seed % 8 };
    (0..len).map(|i| mixed(seed ^ inputs ^ i)).collect()
}

fn folded(value: &[u64]) -> u64 {
    value.iter().fold(value.len() as u64, |sum, &x| sum.rotate_left(5) ^ x)
}

fn combined(seed: u64, inputs: Refs<'_, Vec<u64>>) -> Vec<u64> {
    value(seed, inputs.iter().fold(0_u64, |sum, input| sum.wrapping_mul(31).wrapping_add(folded(input))))
}

/// As [`combined`]. The first time in this folder it writes down its process, and waits for a
/// moment to be killed.
fn exposed(seed: u64, inputs: Refs<'_, Vec<u64>>, folder: String) -> Vec<u64> {
    let path = format!("{folder}/{seed}");
    let draft = format!("{path}-{}", std::process::id());
    fs::write(&draft, std::process::id().to_string()).unwrap();
    if fs::hard_link(&draft, &path).is_ok() {
        thread::sleep(Duration::from_millis(seed % 20));
    }
    combined(seed, inputs)
}

/// A random graph, as handles and as what a loop computes.
struct Graph {
    outputs: Vec<Delayed<Vec<u64>>>,
    expected: Vec<Vec<u64>>,
}

impl Graph {
    fn new(dice: &mut Dice, max_tasks: u64, folder: Option<&Path>) -> Graph {
        let num_tasks = 1 + dice.below(max_tasks);
        let (mut tasks, mut values): (Vec<Delayed<Vec<u64>>>, Vec<Vec<u64>>) = (Vec::new(), Vec::new());
        for _ in 0..num_tasks {
            let seed = dice.next();
            let num_inputs = if tasks.is_empty() { 0 } else { dice.below(4) };
            let inputs: Vec<usize> = (0..num_inputs).map(|_| dice.below(tasks.len() as u64) as usize).collect();
            let handles: Vec<_> = inputs.iter().map(|&input| tasks[input].clone()).collect();
            let sum =
                inputs.iter().fold(0_u64, |sum, &input| sum.wrapping_mul(31).wrapping_add(folded(&values[input])));
            values.push(value(seed, sum));
            tasks.push(match folder {
                Some(folder) if dice.below(20) == 0 => {
                    delayed(exposed, (seed, &handles, folder.to_str().unwrap().to_owned()))
                }
                _ => delayed(combined, (seed, &handles)),
            });
        }
        let outputs: Vec<usize> = (0..1 + dice.below(4)).map(|_| dice.below(num_tasks) as usize).collect();
        Graph {
            outputs: outputs.iter().map(|&output| tasks[output].clone()).collect(),
            expected: outputs.iter().map(|&output| values[output].clone()).collect(),
        }
    }
}

fn scheduler(dice: &mut Dice) -> &'static str {
    ["sync", "threads", "processes"][dice.below(3) as usize]
}

/// Sleeps until its token is cancelled, ten seconds at most.
fn sleeps() -> u64 {
    let token = CancelToken::current();
    let start = Instant::now();
    while !token.is_cancelled() && start.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(1));
    }
    0
}

fn computes(dice: &mut Dice) {
    let graph = Graph::new(dice, 300, None);
    assert_eq!(sprang::compute_with(scheduler(dice), &graph.outputs).unwrap(), graph.expected);
}

fn is_cancelled_at_some_time(dice: &mut Dice) {
    let graph = Graph::new(dice, 300, None);
    let (token, scheduler, after) = (CancelToken::new(), scheduler(dice), Duration::from_micros(dice.below(5_000)));
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(after);
            token.cancel();
        });
        match token.scope(|| sprang::compute_with(scheduler, &graph.outputs)) {
            Ok(values) => assert_eq!(values, graph.expected),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
        }
    });
}

fn times_out(dice: &mut Dice) {
    let task = delayed(sleeps, ()).timeout(Duration::from_millis(1 + dice.below(20)));
    let scheduler = ["threads", "processes"][dice.below(2) as usize];
    assert_eq!(task.compute_with(scheduler).unwrap_err().kind(), ErrorKind::TimedOut);
}

fn has_no_time(dice: &mut Dice) {
    let _limit = config::scoped("run_timeout", format!("{} us", 100 + dice.below(10_000))).unwrap();
    let graph = Graph::new(dice, 1_000, None);
    match sprang::compute_with(scheduler(dice), &graph.outputs) {
        Ok(values) => assert_eq!(values, graph.expected),
        Err(error) => assert!(error.to_string().contains("run_timeout"), "{error}"),
    }
}

fn fails_at_some_task(dice: &mut Dice) {
    let fails = |how: u64| match how {
        0 => Err("no luck".to_owned()),
        // Without a message on standard error.
        1 => std::panic::resume_unwind(Box::new("on purpose")),
        _ => Ok(how),
    };
    let tasks: Vec<_> = (0..20).map(|_| try_delayed(fails, (dice.below(100),)).retries(1)).collect();
    match sprang::compute_with(scheduler(dice), &tasks) {
        Ok(values) => assert!(values.iter().all(|&how| how > 1)),
        Err(error) => assert!(matches!(error.kind(), ErrorKind::Failed | ErrorKind::Panicked), "{error}"),
    }
}

/// Workers are killed while they run tasks, at random times.
fn loses_workers(dice: &mut Dice) {
    let folder = tempfile::tempdir().unwrap();
    let graph = Graph::new(dice, 200, Some(folder.path()));
    with_killer(dice, folder.path(), || {
        assert_eq!(sprang::compute_with("processes", &graph.outputs).unwrap(), graph.expected);
    });
}

/// Calls `body` while another thread kills processes that tasks have written down in this folder.
fn with_killer(dice: &mut Dice, folder: &Path, body: impl FnOnce()) {
    let is_done = AtomicBool::new(false);
    let mut dice = Dice(dice.next());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Relaxed) {
                thread::sleep(Duration::from_millis(dice.below(10)));
                let names: Vec<_> = fs::read_dir(folder).unwrap().filter_map(Result::ok).collect();
                if names.is_empty() {
                    continue;
                }
                let path = names[dice.below(names.len() as u64) as usize].path();
                let pid = fs::read_to_string(path).ok().and_then(|text| text.parse().ok());
                if let Some(pid) = pid.filter(|&pid| is_child(pid)) {
                    let _gone = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
                }
            }
        });
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _done = Done(&is_done);
        body();
    });
}

fn is_child(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
    parent == Some(std::process::id())
}

fn fibonacci(n: u64) -> sprang::Result<u64> {
    if n < 2 {
        return Ok(n);
    }
    let client = Client::current().expect("a task has a client");
    let (a, b) = (client.try_submit(fibonacci, (n - 1,)), client.try_submit(fibonacci, (n - 2,)));
    Ok(a.result()? + b.result()?)
}

/// What a program does with a client: it submits, gathers, cancels, forgets, and submits in tasks.
fn uses(client: &Client, dice: &mut Dice) {
    let first = dice.below(1_000);
    let squares = client.map(|x: u64| x * x, first..first + 100);
    let forgotten: Vec<TaskFuture<Vec<u64>>> = client.map(|seed: u64| value(seed * 40, 0), first..first + 5);
    let chain = (0..20).fold(client.submit(|x: u64| x, (first,)), |last, _| client.submit(|x: &u64| x + 1, (&last,)));
    let cancelled: Vec<_> = (0..4).map(|_| client.submit(sleeps, ())).collect();
    let nested = client.try_submit(fibonacci, (dice.below(8),));
    drop(forgotten);
    let sum: u64 = as_completed(squares.clone()).with_results().map(|(_, square)| square.unwrap()).sum();
    assert_eq!(sum, (first..first + 100).map(|x| x * x).sum::<u64>());
    // Some have begun; they end when their tokens are cancelled.
    client.cancel(&cancelled);
    assert_eq!(chain.result().unwrap(), first + 20);
    assert!(cancelled.iter().all(|task| task.error().is_some_and(|error| error.kind() == ErrorKind::Cancelled)));
    assert!([0, 1, 1, 2, 3, 5, 8, 13].contains(&nested.result().unwrap()));
    let graph = Graph::new(dice, 100, None);
    assert_eq!(client.gather(client.compute(&graph.outputs)).unwrap(), graph.expected);
}

fn client(has_processes: bool) -> Client {
    Client::owning(LocalCluster::builder().workers(2).threads_per_worker(1).processes(has_processes).build().unwrap())
}

/// A client that is dropped while its tasks run and wait.
fn leaves_a_client(dice: &mut Dice) {
    let client = client(dice.below(2) == 0);
    if dice.below(2) == 0 {
        uses(&client, dice);
    }
    let _left: Vec<_> = (0..10).map(|_| client.submit(sleeps, ())).collect();
}

/// The workers of a client are killed, and its futures have their values all the same.
fn loses_workers_of(client: &Client, dice: &mut Dice) {
    let folder = tempfile::tempdir().unwrap();
    let graph = Graph::new(dice, 100, Some(folder.path()));
    with_killer(dice, folder.path(), || {
        assert_eq!(client.gather(client.compute(&graph.outputs)).unwrap(), graph.expected);
    });
}

/// What this process has of the system.
#[derive(Clone, Copy, Debug)]
struct Usage {
    descriptors: usize,
    threads: usize,
    children: usize,
    bytes: u64,
}

impl Usage {
    fn now() -> Usage {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Usage {
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            threads: fs::read_dir("/proc/self/task").unwrap().count(),
            children: pids.filter(|&pid| is_child(pid)).count(),
            bytes: pages * 4096,
        }
    }

    /// Waits until nothing has become less for seven seconds: idle threads end after five.
    fn at_rest(steps: &AtomicU64) -> Usage {
        let mut least = Usage::now();
        let mut since = Instant::now();
        while least.children > 0 || since.elapsed() < Duration::from_secs(7) {
            thread::sleep(Duration::from_millis(50));
            let now = Usage::now();
            if now.descriptors < least.descriptors || now.threads < least.threads || now.children < least.children {
                (least, since) = (now, Instant::now());
                steps.fetch_add(1, Relaxed);
            }
        }
        Usage { bytes: Usage::now().bytes, ..least }
    }
}

/// Allocators keep some of what was released.
const MAX_GROWTH: u64 = 64 << 20;

#[test]
#[ignore = "takes minutes: scripts/check-soak"]
#[expect(clippy::print_stdout, reason = "the seed repeats a failure")]
fn a_long_life_of_work_cancels_and_kills_leaves_nothing_behind() {
    #[expect(clippy::disallowed_methods, reason = "it says for how long this test runs")]
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let limit = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(120));
    let seed = number("SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SOAK_SEED={seed}, for {limit:?}");
    let steps = AtomicU64::new(0);
    watched_by_steps("soak", None, &steps, || {
        let _idle = config::scoped("processes.idle_timeout", "200 ms").unwrap();
        let _workers = config::scoped("num_workers", 3).unwrap();
        // Also for the clusters: a task may lose many workers.
        let _attempts = config::scoped("processes.max_attempts", 1_000_000).unwrap();
        let mut dice = Dice(seed);
        let start = Instant::now();
        let mut num_rounds = 0_u64;
        // The first part allocates everything that is allocated once, or grows to its usual size.
        let mut work_until = |end: Duration| {
            let clients = [client(false), client(true)];
            while start.elapsed() < end || num_rounds < 50 {
                let client = &clients[dice.below(2) as usize];
                match dice.below(9) {
                    0 => computes(&mut dice),
                    1 => is_cancelled_at_some_time(&mut dice),
                    2 => times_out(&mut dice),
                    3 => has_no_time(&mut dice),
                    4 => fails_at_some_task(&mut dice),
                    5 => loses_workers(&mut dice),
                    6 => uses(client, &mut dice),
                    7 => leaves_a_client(&mut dice),
                    _ => loses_workers_of(client, &mut dice),
                }
                num_rounds += 1;
                steps.fetch_add(1, Relaxed);
            }
            num_rounds
        };
        work_until(limit / 4);
        let before = Usage::at_rest(&steps);
        let num_rounds = work_until(limit);
        let after = Usage::at_rest(&steps);
        println!("{num_rounds} rounds; {before:?} and then {after:?}");
        assert!(after.descriptors <= before.descriptors, "{before:?} {after:?}");
        // The shared pool has a thread for each of its three workers, from the first time that all
        // are busy.
        assert!(after.threads <= before.threads + 3, "{before:?} {after:?}");
        assert!(after.bytes <= before.bytes + MAX_GROWTH, "{before:?} {after:?}");
    });
}
