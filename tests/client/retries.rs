//! Submitted tasks that are tried again later.

use crate::{TIMEOUT, of_threads, on, on_each, wait_until};
use sprang::{Backoff, Client, Error, ErrorKind, Status, delayed, try_delayed, try_delayed_local};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(3600);

/// A file that a task of any process finds on its second attempt.
fn marker(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("sprang-retry-{}-{name}-{number}", std::process::id()));
    path.to_str().unwrap().to_owned()
}

/// Fails once.
fn finds(path: &str) -> Result<u32, String> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(7),
        Err(_) => {
            std::fs::write(path, "").unwrap();
            Err("not yet".into())
        }
    }
}

#[test]
fn other_tasks_run_while_more_tasks_than_workers_wait() {
    on_each("other_tasks_run_while_more_tasks_than_workers_wait", |client| {
        let (sender, failures) = mpsc::channel();
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let sender = sender.clone();
                let note = move |_: &Error| sender.send(()).is_ok();
                let task = try_delayed(|| Err::<u32, _>("not yet"), ());
                client.compute(&task.retries(9).retry_if(note).retry_delay(LONG))
            })
            .collect();
        failures.iter().take(20).for_each(drop);
        wait_until("they wait", || waiting.iter().all(|future| future.status() == Status::Pending));
        assert_eq!(client.gather(&client.map(|x: u32| x + 1, 0..100_u32)).unwrap().len(), 100);
        let needs = client.submit(|x: &u32| x + 1, (&waiting[1],));
        assert!(waiting[1].cancel());
        assert_eq!(needs.error().unwrap().kind(), ErrorKind::Cancelled);
        assert!(waiting[2..].iter().all(|future| future.status() == Status::Pending));
    });
}

#[test]
fn a_task_is_tried_again_after_its_delay_and_then_has_its_value() {
    on_each("a_task_is_tried_again_after_its_delay_and_then_has_its_value", |client| {
        let delay = Duration::from_millis(20);
        let paths: Vec<_> = (0..20).map(|_| marker("value")).collect();
        let begin = Instant::now();
        let options = client.tasks().retries(1).retry_delay(Backoff::exponential(delay).jitter(0.0));
        let futures = options.try_map(|path: String| finds(&path), paths);
        let sum = client.submit(|all: &Vec<u32>| all.iter().sum::<u32>(), (&client.submit(|| vec![1_u32, 2], ()),));
        assert_eq!(client.gather(&futures).unwrap(), [7; 20]);
        assert!(begin.elapsed() >= delay);
        assert_eq!(sum.result().unwrap(), 3);
    });
}

#[test]
fn the_attempts_of_all_runs_count() {
    on_each("the_attempts_of_all_runs_count", |client| {
        let options = client.tasks().name("parse").retries(3).retry_delay(Duration::from_millis(1));
        let error = options.try_submit(|text: &str| text.parse::<u32>(), ("x",)).error().unwrap();
        assert_eq!((error.kind(), error.task(), error.attempts()), (ErrorKind::Failed, Some("parse"), 4));
        assert_eq!(error.attempt_kinds(), [ErrorKind::Failed; 4]);
    });
}

#[test]
fn a_task_of_a_graph_waits_too() {
    on_each("a_task_of_a_graph_waits_too", |client| {
        let path = marker("graph");
        let flaky = try_delayed(|path: String| finds(&path), (path,)).retries(1).retry_delay(Duration::from_millis(5));
        let next = delayed(|x: &u32| x + 1, (&flaky,));
        let (flaky, next) = client.compute((&flaky, &next));
        assert_eq!((flaky.result().unwrap(), next.result().unwrap()), (7, 8));
    });
}

#[test]
fn a_task_that_waits_for_a_waiting_task_does_not_run_it_early() {
    on("a_task_that_waits_for_a_waiting_task", of_threads(2), |client| {
        let delay = Duration::from_millis(50);
        let outer = client.submit_local(
            move || {
                let client = Client::current().unwrap();
                let times = Arc::new(std::sync::Mutex::new(Vec::new()));
                let log = Arc::clone(&times);
                let flaky = move || {
                    let mut times = log.lock().unwrap();
                    times.push(Instant::now());
                    if times.len() < 2 { Err("not yet") } else { Ok(times[1] - times[0]) }
                };
                let task = try_delayed_local(flaky, ()).retries(1).retry_delay(delay);
                let future = client.compute(&task);
                wait_until("it waits", || times.lock().unwrap().len() == 1 && future.status() == Status::Pending);
                future.result().unwrap()
            },
            (),
        );
        assert!(outer.result().unwrap() >= delay);
    });
}

#[test]
fn closing_a_cluster_loses_the_tasks_that_wait() {
    let cluster = of_threads(2).build().unwrap();
    let client = Client::new(&cluster);
    let (sender, failures) = mpsc::channel();
    let task = try_delayed(|| Err::<u32, _>("not yet"), ());
    let future = client.compute(&task.retries(9).retry_if(move |_| sender.send(()).is_ok()).retry_delay(LONG));
    failures.recv_timeout(TIMEOUT).unwrap();
    assert!(cluster.close(Some(TIMEOUT)));
    assert_eq!(future.error().unwrap().kind(), ErrorKind::Closed);
    assert_eq!(cluster.num_pending(), 0);
}

#[test]
fn a_task_that_was_cancelled_while_it_waited_can_be_started_again() {
    on("a_task_that_was_cancelled_while_it_waited", of_threads(2), |client| {
        let (sender, failures) = mpsc::channel();
        let calls = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let flaky = move || match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Err("not yet"),
            _ => Ok(7),
        };
        let task = try_delayed_local(flaky, ());
        let future = client.compute(&task.retries(9).retry_if(move |_| sender.send(()).is_ok()).retry_delay(LONG));
        failures.recv_timeout(TIMEOUT).unwrap();
        wait_until("it waits", || future.status() == Status::Pending);
        assert!(future.cancel());
        assert!(future.retry().unwrap());
        assert_eq!(future.result().unwrap(), 7);
        // The client closes now, and its list still has the first wait.
    });
}
