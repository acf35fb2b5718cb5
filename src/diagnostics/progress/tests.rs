use super::board::ProgressCallback;
use super::counts::{FamilyCounts, LineCounts};
use super::display::{Display, DisplayTarget};
use super::*;
use crate::{Client, Delayed, LocalCluster, Refs, config, delayed, delayed_local, try_delayed};
use indicatif::{InMemoryTerm, MultiProgress, ProgressDrawTarget};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }

    fn last_line(&self) -> String {
        self.text().lines().last().unwrap_or_default().to_owned()
    }

    /// Shows everything at once, in this log.
    fn progress(&self) -> Progress {
        Progress::new().min_duration(Duration::ZERO).every(Duration::ZERO).lines_to(self.clone())
    }

    fn wait_for(&self, text: &str) {
        wait_until(|| self.text().contains(text), || format!("{text:?} is not in {:?}", self.text()));
    }
}

fn wait_until(is_so: impl Fn() -> bool, message: impl Fn() -> String) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", message());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Tasks wait at the gate until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let mut is_open = self.0.0.lock();
        while !*is_open {
            self.0.1.wait(&mut is_open);
        }
    }

    fn open(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    /// A task that waits at the gate.
    fn task(&self) -> Delayed<()> {
        let gate = self.clone();
        delayed_local(move || gate.pass(), ())
    }
}

fn client(name: &str) -> Client {
    let cluster = LocalCluster::builder().workers(2).threads_per_worker(1).processes(false).name(name);
    Client::owning(cluster.build().unwrap())
}

fn on_terminal(body: impl FnOnce()) -> String {
    let term = InMemoryTerm::new(10, 120);
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(term.clone())));
    let display = Display::new(DisplayTarget::Bars(bars), Duration::ZERO, Duration::ZERO);
    callback::with(Arc::new(ProgressCallback::new(display)), body);
    term.contents()
}

fn squares() -> Delayed<u64> {
    let parts: Vec<_> = (0..50_u64).map(|i| delayed(|i| i * i, (i,)).name(format!("square {i}"))).collect();
    delayed(|parts: Refs<'_, u64>| parts.iter().sum::<u64>(), (&parts,)).name("sum")
}

#[test]
fn a_bar_ends_full() {
    let shown = on_terminal(|| assert_eq!(squares().compute_with("threads").unwrap(), 40_425));
    assert!(shown.starts_with("sum [========================] 51/51 in "), "{shown}");
    assert_eq!(shown.lines().count(), 1);
}

#[test]
fn a_failure_leaves_its_bar_and_says_why() {
    let bad = try_delayed(|text: &str| text.parse::<u64>(), ("x",)).name("bad");
    let after = delayed(|bad: &u64, sum: &u64| bad + sum, (&bad, &squares())).name("after");
    let shown = on_terminal(|| assert!(after.compute_with("sync").is_err()));
    assert!(shown.starts_with("after ["), "{shown}");
    assert!(shown.contains("/53 in ") && shown.contains("then: task \"bad\""), "{shown}");
}

#[test]
fn nested_runs_that_succeed_leave_no_bar() {
    let outer = delayed_local(|| squares().compute_with("sync").unwrap(), ()).name("outer");
    let shown = on_terminal(|| assert_eq!(outer.compute().unwrap(), 40_425));
    assert!(shown.starts_with("outer [") && shown.lines().count() == 1, "{shown}");
}

#[test]
fn quick_runs_show_nothing() {
    let log = Log::default();
    let _guard = Progress::new().min_duration(Duration::from_secs(3_600)).lines_to(log.clone()).scoped();
    squares().compute().unwrap();
    assert_eq!(log.text(), "");
}

#[test]
fn lines_report_the_progress_and_the_end() {
    let log = Log::default();
    let guard = log.progress().scoped();
    let watched = log.clone();
    let wait = delayed_local(move || watched.wait_for(": wait 0/1"), ()).name("wait");
    let bad = try_delayed(|_: &()| Err::<(), _>("no\nway"), (&wait,)).name("bad");
    let _errors = config::scoped("errors", "collect").unwrap();
    assert!(bad.compute().is_err());
    drop(guard);
    let text = log.text();
    let last = log.last_line();
    assert!(text.starts_with("bad: 0 of 2 tasks at 0.0/s"), "{text}");
    assert!(last.starts_with("bad: 2 of 2 tasks in ") && last.ends_with(", 1 failed"), "{text}");
}

#[test]
fn runs_at_the_same_time_have_a_bar_each() {
    let both_run = Arc::new(std::sync::Barrier::new(2));
    let outers = ["one", "two"].map(|name| {
        let both_run = Arc::clone(&both_run);
        let meet = move || {
            both_run.wait();
            Err::<(), _>("it has met the other")
        };
        let inner = crate::try_delayed_local(meet, ()).name(name);
        crate::try_delayed_local(move || inner.compute_with("sync"), ()).name(format!("outer {name}"))
    });
    let shown = on_terminal(|| {
        let _workers = config::scoped("num_workers", 2).unwrap();
        let _threads = config::scoped("scheduler", "threads").unwrap();
        assert!(crate::compute_each(&outers).unwrap().iter().all(Result::is_err));
    });
    assert!(shown.contains("outer one and 1 more [========================] 2/2 in "), "{shown}");
    for name in ["one", "two"] {
        let bar = shown.lines().find(|line| line.starts_with(&format!("  {name} ["))).unwrap_or_default();
        assert!(bar.contains("then: task \"") && bar.contains("it has met the other"), "{shown}");
    }
}

#[test]
fn a_task_that_takes_longer_than_expected_shows_no_time_left() {
    let log = Log::default();
    let guard = log.progress().scoped();
    let quick: Vec<_> = (0..4_u64)
        .map(|i| {
            let quick = move || std::thread::sleep(Duration::from_millis(30));
            delayed_local(quick, ()).name(format!("quick {i}"))
        })
        .collect();
    // Waits for lines that were written after it had taken longer than the quick tasks.
    let watched = log.clone();
    let wait = move |_: Refs<'_, ()>| {
        let text_before = watched.text().len();
        let is_late = |line: &&str| line.contains("wait 0/1") && !line.contains("left");
        wait_until(|| watched.text()[text_before..].lines().filter(is_late).count() >= 2, || watched.text());
    };
    delayed_local(wait, (&quick,)).name("wait").compute_with("sync").unwrap();
    drop(guard);
    let text = log.text();
    let last = text.lines().rfind(|line| line.contains("wait 0/1")).unwrap();
    assert!(!last.contains("left"), "{text}");
}

#[test]
fn the_time_left_is_weighted_by_name() {
    let started = Instant::now();
    let family = |num_tasks, num_done: u64, ns: u64| FamilyCounts {
        num_tasks: AtomicU64::new(num_tasks),
        num_done: AtomicU64::new(num_done),
        num_timed: AtomicU64::new(num_done),
        timed_ns: AtomicU64::new(num_done * ns),
        ..FamilyCounts::default()
    };
    let counts = |families: Vec<FamilyCounts>| {
        let counts = LineCounts::new("t".into(), started, 0, None);
        *counts.families.lock() = families.into_iter().map(Arc::new).collect();
        counts
    };
    // In 2 s, 10 quick tasks of 0.1 s and 1 of 4 slow tasks of 3 s have finished: two workers were
    // busy, and 9 s of work are left.
    let now = started + Duration::from_secs(2);
    let known = counts(vec![family(10, 10, 100_000_000), family(4, 1, 3_000_000_000)]);
    let (left, has_unknown) = known.time_left(now).unwrap();
    assert!((left.as_secs_f64() - 4.5).abs() < 1e-6, "{left:?}");
    assert!(!has_unknown);
    // One of the slow tasks has been running for a second.
    let slow = Arc::clone(&known.families.lock()[1]);
    slow.num_running.store(1, Relaxed);
    slow.starts_ns.store(1_000_000_000, Relaxed);
    let (left, _) = known.time_left(now).unwrap();
    assert!((left.as_secs_f64() - 8.0 / 2.5).abs() < 1e-6, "{left:?}");
    let unknown = counts(vec![family(10, 10, 100_000_000), family(4, 0, 0)]);
    assert!(unknown.time_left(now).unwrap().1);
    assert_eq!(counts(vec![family(10, 1, 1_000)]).time_left(now), None, "too little is known");
}

#[test]
fn mapped_futures_share_one_bar_however_many_they_are() {
    let shown = on_terminal(|| {
        let client = client("cluster_run");
        // The bar ends when the cluster is idle, so the first task runs until all are submitted.
        let gate = Gate::default();
        let first = client.compute(&gate.task());
        let squares = client.map(|x: u64| x * x, 0..500_u64);
        let sum = client.submit(|all: Refs<'_, u64>| all.iter().sum::<u64>(), (&squares,));
        gate.open();
        assert_eq!(sum.result().unwrap(), 41_541_750);
        first.result().unwrap();
    });
    assert!(shown.starts_with("cluster_run [========================] 502/502 in "), "{shown}");
    assert_eq!(shown.lines().count(), 1, "{shown}");
}

#[test]
fn the_bar_of_a_cluster_counts_waiting_tasks_and_drops_cancelled_ones() {
    let log = Log::default();
    let guard = log.progress().scoped();
    let client = client("queue");
    let gate = Gate::default();
    let waits: Vec<_> = (0..10).map(|i| client.compute(&gate.task().name(format!("wait {i}")))).collect();
    log.wait_for("queue: 0 of 10 tasks at 0.0/s: wait # 0\n");
    assert_eq!(client.cancel(&waits[5..]), 5);
    log.wait_for("queue: 0 of 5 tasks");
    gate.open();
    client.gather(&waits[..5]).unwrap();
    drop(guard);
    let text = log.text();
    assert!(log.last_line().starts_with("queue: 5 of 5 tasks in "), "{text}");
    assert_eq!(text.matches(" tasks in ").count(), 1, "{text}");
    drop(client);
    assert_eq!(log.text(), text);
}

#[test]
fn nothing_is_written_about_futures_after_the_guard_is_dropped() {
    for _ in 0..20 {
        let log = Log::default();
        let guard = log.progress().scoped();
        let client = client("brief");
        let gate = Gate::default();
        let (passed, reached) = (gate.clone(), Gate::default());
        let there = reached.clone();
        let pass = move || {
            there.open();
            passed.pass();
            squares_of_three()
        };
        let late = client.compute(&delayed_local(pass, ()).name("late"));
        reached.pass();
        let squares = client.map(|x: u64| x * x, 0..6_u64);
        client.gather(&squares).unwrap();
        drop(guard);
        let text = log.text();
        // The drop does not wait for the last future, which starts a nested run afterwards.
        assert!(log.last_line().starts_with("brief: 6 of 7 tasks in "), "{text}");
        gate.open();
        assert_eq!(late.result().unwrap(), 5);
        drop(client);
        assert_eq!(log.text(), text);
    }
}

fn squares_of_three() -> u64 {
    let squares: Vec<_> = (0..3_u64).map(|i| delayed(|i| i * i, (i,))).collect();
    delayed(|all: Refs<'_, u64>| all.iter().sum::<u64>(), (&squares,)).compute_with("sync").unwrap()
}

#[test]
fn dropping_the_guard_writes_a_complete_last_line() {
    for _ in 0..200 {
        let log = Log::default();
        let guard = log.progress().scoped();
        let client = client("whole");
        let gate = Gate::default();
        let first = client.compute(&gate.task());
        let squares = client.map(|x: u64| x * x, 0..6_u64);
        gate.open();
        first.result().unwrap();
        client.gather(&squares).unwrap();
        drop(guard);
        let text = log.text();
        assert!(log.last_line().starts_with("whole: 7 of 7 tasks in "), "{text}");
    }
}

#[test]
fn following_keeps_no_value_of_a_settled_future() {
    let client = client("kept");
    let gate = Gate::default();
    let value = Arc::new(());
    let held = Arc::clone(&value);
    let done = client.compute(&delayed_local(move || Arc::clone(&held), ()).name("done"));
    let open = client.compute(&gate.task().name("open"));
    let log = Log::default();
    let guard = log.progress().follow((&done, &open));
    done.result().unwrap();
    drop(done);
    wait_until(|| Arc::strong_count(&value) == 1, || format!("{} handles", Arc::strong_count(&value)));
    gate.open();
    guard.wait();
    assert!(log.text().contains("2 of 2 tasks in "), "{}", log.text());
}

#[test]
fn followed_futures_are_counted_by_their_outcome() {
    let log = Log::default();
    let client = client("ends");
    let gate = Gate::default();
    let waits: Vec<_> = (0..4).map(|i| client.compute(&gate.task().name(format!("wait {i}")))).collect();
    let bad = client.compute(&try_delayed(|text: &str| text.parse::<u64>(), ("x",)).name("bad"));
    let late = client.compute(&delayed(|_: &()| 1_u8, (&waits[0].as_delayed(),)).name("late"));
    let guard = log.progress().follow((&waits, &bad, Some(&late)));
    log.wait_for("futures: 0 of 6 tasks at ");
    assert!(waits[3].cancel());
    log.wait_for(", 1 cancelled");
    gate.open();
    guard.wait();
    let text = log.text();
    let last = log.last_line();
    assert!(last.starts_with("futures: 6 of 6 tasks in ") && last.ends_with(", 1 failed, 1 cancelled"), "{text}");
    assert_eq!(text.matches(" tasks in ").count(), 1, "{text}");
}

#[test]
fn settled_futures_have_a_full_bar() {
    let client = client("done");
    let squares = client.map(|x: u64| x * x, 0..30_u64);
    client.gather(&squares).unwrap();
    let log = Log::default();
    log.progress().follow(&squares).wait();
    let text = log.text();
    assert!(text.contains(": 30 of 30 tasks in ") && text.lines().count() == 1, "{text}");
    let none: [crate::TaskFuture<u64>; 0] = [];
    progress_of(&none);
}
