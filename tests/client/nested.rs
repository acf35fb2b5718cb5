//! Tasks that tasks in worker processes submit: the cluster's workers run them.

use crate::{TIMEOUT, of_processes, on, wait_until};
use sprang::{Client, ErrorKind, Event, LocalCluster, Queue, Status, WaitFor, as_completed, lit, try_delayed};
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

fn of_task() -> Client {
    Client::current().expect("a task has a client")
}

fn on_processes(what: &str, body: impl Fn(&Client) + Send + Sync) {
    for num_workers in 1..=3 {
        on(&format!("{what}, {num_workers} processes"), of_processes(num_workers), &body);
    }
}

fn slow_pid(ms: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(ms));
    std::process::id()
}

fn fib(n: u64) -> Result<u64, sprang::Error> {
    if n < 2 {
        return Ok(n);
    }
    let client = of_task();
    let (a, b) = (client.try_submit(fib, (n - 1,)), client.try_submit(fib, (n - 2,)));
    Ok(a.result()? + b.result()?)
}

#[test]
fn tasks_wait_for_tasks_that_wait_for_tasks_on_however_few_processes() {
    on_processes("tasks_wait_for_tasks", |client| {
        assert_eq!(client.try_submit(fib, (12_u64,)).result().unwrap(), 144);
        wait_until("nothing is left", || client.num_pending() == 0 && client.num_held() == (0, 0));
    });
}

fn depth(left: u64) -> Result<u64, sprang::Error> {
    match left {
        0 => Ok(0),
        _ => of_task().try_submit(depth, (left - 1,)).result().map(|depth| depth + 1),
    }
}

#[test]
fn more_tasks_than_processes_may_wait_for_each_other() {
    on("there_may_be_more_tasks", of_processes(1), |client| {
        assert_eq!(client.try_submit(depth, (100_u64,)).result().unwrap(), 100);
    });
}

#[test]
fn a_task_that_found_no_spare_process_releases_its_place_when_there_is_one() {
    on("a_task_that_found_no_spare_process", of_processes(1), |client| {
        let (first, second) = (client.event("first"), client.event("second"));
        let begun = client.queue::<()>("begun", None).unwrap();
        let wait = |event: &Event, begun: &Queue<()>| begun.put(()).and_then(|()| event.wait());
        let waits = |event: &Event| client.try_submit(wait, (lit(event.clone()), lit(begun.clone())));
        // A spare process takes the place of each but the last: there are 64 spares.
        let mut waiting: Vec<_> = (0..64).map(|_| waits(&first)).collect();
        waiting.push(waits(&second));
        (0..65).for_each(|_| begun.take().unwrap());
        // It can run only in the place of the last.
        let sets = client.try_submit(|event: &Event| event.set(), (lit(second),));
        assert!(!sets.wait_timeout(Duration::from_millis(300)), "a spare process was left");
        first.set().unwrap();
        sets.result().unwrap();
        client.gather(&waiting).unwrap();
    });
}

#[test]
fn all_workers_run_the_tasks_that_a_task_submits() {
    on("all_workers_run_the_tasks", of_processes(2), |client| {
        client.gather(&client.map(slow_pid, [20_u64; 10])).unwrap();
        let pids =
            client.try_submit(|| of_task().gather(&of_task().map(slow_pid, [20_u64; 100])), ()).result().unwrap();
        assert_eq!(pids.len(), 100);
        let pids: HashSet<u32> = pids.into_iter().collect();
        assert!(pids.len() > 1, "{pids:?}");
        wait_until("nothing is left", || client.num_pending() == 0 && client.num_held() == (0, 0));
    });
}

/// The operations on futures.
fn all_ways() -> Result<Vec<u64>, sprang::Error> {
    let client = of_task();
    let square = |x: u64| x * x;
    let mut found = Vec::new();
    // A chain, whose values are passed on.
    let two = client.submit(square, (2_u64,));
    let sum = client.submit(|x: &u64, y: u64| x + y, (&two, 1_u64));
    found.push(client.submit(|x: u64, y: &u64| x * y, (sum, &two)).result()?);
    let base = client.scatter(vec![1_u64, 2, 3]);
    found.push(client.submit(|base: &Vec<u64>| base.iter().sum::<u64>(), (&base,)).result()?);
    let squares = client.map(square, 0..10_u64);
    found.push(as_completed(squares.clone()).with_results().map(|(_, square)| square).sum::<Result<u64, _>>()?);
    let (done, open) = sprang::wait(&squares, WaitFor::All);
    found.push((done.len() * 10 + open.len()) as u64);
    let list = client.submit(|squares: sprang::Refs<'_, u64>| squares.iter().sum::<u64>(), (&squares,));
    while !list.is_done() {
        std::thread::sleep(Duration::from_millis(1));
    }
    found.push(list.result()?);
    // A local task, and one that needs it.
    let captured = 7_u64;
    let here = client.submit_local(move || captured, ());
    found.push(client.submit(|here: &u64, list: &u64| here + list, (&here, &list)).result()?);
    // From another thread.
    let late = client.submit(square, (5_u64,));
    found.push(std::thread::scope(|scope| scope.spawn(|| late.result()).join().unwrap())?);
    // A graph.
    let nine = sprang::delayed(square, (3_u64,));
    found.push(client.compute(&sprang::delayed(|x: &u64| x + 1, (&nine,))).result()?);
    Ok(found)
}

#[test]
fn futures_work_in_a_task_as_elsewhere() {
    // A task that polls, or waits for a thread of its own, keeps its place.
    let threads = LocalCluster::builder().workers(1).threads_per_worker(2);
    let test = |client: &Client| {
        let expected = [20, 6, 285, 100, 285, 292, 25, 10];
        assert_eq!(client.try_submit(all_ways, ()).result().unwrap(), expected);
        wait_until("nothing is left", || client.num_pending() == 0);
    };
    on("futures_are_the_same, threads", threads.clone().processes(false), test);
    on("futures_are_the_same, a process of two threads", threads, test);
    on("futures_are_the_same, two processes", of_processes(2), test);
}

fn fails(how: u64) -> Result<u64, String> {
    match how {
        0 => Err("no luck".into()),
        1 => panic!("what a mess"),
        2 => std::process::abort(),
        _ => Ok(how),
    }
}

/// The kinds, tasks and messages of errors.
fn errors() -> Vec<(String, Option<String>, String, bool)> {
    let client = of_task();
    let failing = (0..3_u64).map(|how| client.compute(&try_delayed(fails, (how,)).name(format!("fails {how}"))));
    let slow = sprang::delayed(slow_pid, (600_000_u64,)).name("slow").timeout(Duration::from_millis(20));
    let cancelled = client.submit(slow_pid, (600_000_u64,));
    cancelled.cancel();
    let describe = |error: sprang::Error| {
        let kind = format!("{:?}", error.kind());
        (kind, error.task().map(Into::into), error.message().into(), error.exit().is_some())
    };
    let failing: Vec<_> = failing.collect();
    let mut errors: Vec<_> = failing.iter().map(|failing| describe(failing.error().unwrap())).collect();
    errors.push(describe(client.compute(&slow).error().unwrap()));
    errors.push(describe(cancelled.error().unwrap()));
    let dependent = client.submit(|x: &u64| x + 1, (&failing[0],));
    errors.push(describe(dependent.error().unwrap()));
    errors
}

#[test]
fn errors_reach_the_submitting_task_whole() {
    on("errors_reach_the_task", of_processes(2), |client| {
        let errors = client.submit(errors, ()).result().unwrap();
        let seen: Vec<_> = errors.iter().map(|(kind, task, ..)| (kind.as_str(), task.as_deref())).collect();
        let kinds = [
            ("Failed", Some("fails 0")),
            ("Panicked", Some("fails 1")),
            ("WorkerDied", Some("fails 2")),
            ("TimedOut", Some("slow")),
        ];
        assert_eq!(seen[..4], kinds);
        assert_eq!((seen[4].0, seen[5]), ("Cancelled", ("Failed", Some("fails 0"))));
        assert_eq!(errors[0].2, "no luck");
        assert!(errors[1].2.starts_with("what a mess"), "{errors:?}");
        assert!(errors[2].3, "it is known how the worker ended: {errors:?}");
    });
}

/// Submits tasks that wait, in the first attempt, and kills its process.
fn submits_and_dies(path: String) -> Result<u64, sprang::Error> {
    let client = of_task();
    if Path::new(&path).exists() {
        return client.gather(&client.map(|x: u64| x, 0..5_u64)).map(|all| all.iter().sum());
    }
    let held = client.submit(|| vec![1_u8; 1000], ());
    held.result_ref()?;
    let blocked: Vec<_> = (0..3).map(|_| client.try_submit(|| of_task().event("never").wait(), ())).collect();
    let more = client.map(|x: u64| x, 0..20_u64);
    std::fs::write(&path, "").unwrap();
    client.event("has submitted").set()?;
    of_task().event("die").wait()?;
    // SAFETY: `kill` and `getpid` take no pointers.
    #[expect(unsafe_code, reason = "the death is the test")]
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    drop((blocked, more));
    Ok(0)
}

#[test]
fn the_death_of_a_worker_cancels_the_tasks_that_its_task_submitted() {
    on("the_death_of_a_worker", of_processes(2), |client| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("first").to_str().unwrap().to_owned();
        let asks = client.try_submit(submits_and_dies, (path,));
        assert!(client.event("has submitted").wait_timeout(TIMEOUT).unwrap());
        assert!(client.num_pending() > 1);
        client.event("die").set().unwrap();
        assert_eq!(asks.result().unwrap(), 10);
        drop(asks);
        wait_until("nothing is left", || client.num_pending() == 0 && client.num_held() == (0, 0));
    });
}

fn submits_and_waits() -> Result<(), sprang::Error> {
    let blocked = of_task().try_submit(|| of_task().event("never").wait(), ());
    of_task().event("has submitted").set()?;
    blocked.result()
}

#[test]
fn the_end_of_a_task_cancels_its_nested_tasks() {
    on("with_a_task_ends", of_processes(1), |client| {
        let cancelled = client.try_submit(submits_and_waits, ());
        assert!(client.event("has submitted").wait_timeout(TIMEOUT).unwrap());
        cancelled.cancel();
        assert_eq!(cancelled.status(), Status::Cancelled);
        wait_until("nothing is left of a cancelled one", || client.num_pending() == 0);
        client.event("has submitted").clear().unwrap();
        let late = client.compute(&try_delayed(submits_and_waits, ()).timeout(Duration::from_millis(200)));
        assert_eq!(late.error().unwrap().kind(), ErrorKind::TimedOut);
        wait_until("nothing is left of a late one", || client.num_pending() == 0);
        let returns = client.try_submit(
            || {
                let unwanted = of_task().try_submit(|| of_task().event("never").wait(), ());
                let wanted = of_task().try_submit(|| of_task().event("wanted").set(), ());
                wanted.detach();
                drop(unwanted);
                Ok::<_, sprang::Error>(())
            },
            (),
        );
        returns.result().unwrap();
        assert!(client.event("wanted").wait_timeout(TIMEOUT).unwrap());
        wait_until("nothing is left of one that returns", || client.num_pending() == 0);
    });
}

#[test]
fn tasks_that_tasks_submit_are_always_accepted() {
    on("tasks_that_tasks_hand_in", of_processes(1).max_pending(2), |client| {
        let all = client.try_submit(|| of_task().gather(&of_task().map(|x: u64| x, 0..50_u64)), ());
        assert_eq!(all.result().unwrap().len(), 50);
    });
}

/// Another thread of the process waits for the same task, in every way.
fn waits_with_another() -> Result<u64, sprang::Error> {
    let client = of_task();
    let square = |x: u64| {
        std::thread::sleep(Duration::from_millis(30));
        x * x
    };
    let one = client.submit(square, (3_u64,));
    let several = client.map(square, [1_u64, 2]);
    let cancelled = client.submit(slow_pid, (600_000_u64,));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| one.result());
        scope.spawn(|| cancelled.cancel());
        assert_eq!(cancelled.error().map(|error| error.kind()), Some(ErrorKind::Cancelled));
        let sum = one.result()? + other.join().unwrap()?;
        let other = scope.spawn(|| as_completed(several.clone()).map(|square| square.result()).sum::<Result<u64, _>>());
        Ok(sum + other.join().unwrap()?)
    })
}

#[test]
fn threads_of_a_task_wait_for_its_nested_tasks() {
    on_processes("threads_of_a_task_wait", |client| {
        assert_eq!(client.try_submit(waits_with_another, ()).result().unwrap(), 9 + 9 + 5);
        wait_until("nothing is left", || client.num_pending() == 0);
    });
}

/// Sends a request to the parent when it is dropped. In a worker that is after the call that has
/// made it.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Asks(u64);

impl Drop for Asks {
    fn drop(&mut self) {
        if let Some(client) = Client::current() {
            client.event("dropped").set().unwrap();
        }
    }
}

#[test]
fn values_may_use_shared_objects_when_they_are_dropped_in_a_worker() {
    on("values_may_ask", of_processes(1), |client| {
        let pid = || client.workers()[0].pid;
        assert_eq!(client.submit(|| 1_u8, ()).result().unwrap(), 1);
        let before = pid();
        for _ in 0..5 {
            let all = client.gather(&client.map(Asks, 0..200_u64)).unwrap();
            assert!(all.iter().zip(0..).all(|(asks, x)| asks.0 == x));
        }
        assert!(client.event("dropped").is_set().unwrap());
        assert_eq!(pid(), before, "the worker has not been replaced");
    });
}
