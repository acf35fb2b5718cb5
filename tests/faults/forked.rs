//! Programs that fork after they have computed, and compute in the child.

use crate::deeds::{exit_at_once, fork};
use crate::room::*;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use sprang::{
    CancelToken, Client, Error, ErrorKind, LocalCluster, ProcessExecutor, Status, as_completed, compute_with, config,
    delayed,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Calls `body` in a forked child, and waits for its end. The child must end by itself in time.
fn in_child(what: &str, body: impl FnOnce()) {
    let Some(child) = fork() else {
        // The message of a panic goes to standard error.
        exit_at_once(i32::from(catch_unwind(AssertUnwindSafe(body)).is_err()));
    };
    assert_eq!(end_of(what, child), Some(0), "{what}");
}

/// Waits until the other threads of this process sleep, so that none holds a lock for a moment. A
/// child that uses what its parent made would wait for that lock for ever.
fn wait_until_others_sleep() {
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let is_awake = |task: &std::path::Path| {
        let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
    };
    wait_until("other threads to sleep", || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        tasks.filter(|task| !task.ends_with(&own)).all(|task| !is_awake(&task))
    });
}

/// The exit status of a child.
fn end_of(what: &str, child: Pid) -> Option<i32> {
    let begin = Instant::now();
    loop {
        if let Some((_, status)) = waitpid(Some(child), WaitOptions::NOHANG).unwrap() {
            return status.exit_status();
        }
        if begin.elapsed() > PATIENCE {
            kill_process(child, Signal::KILL).unwrap();
            panic!("{what}: the child hangs");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn slow_square(x: u64) -> u64 {
    thread::sleep(Duration::from_millis(1));
    x * x
}

fn squares(scheduler: &str) -> Vec<u64> {
    let _workers = config::scoped("num_workers", 2).unwrap();
    compute_with(scheduler, (0..40_u64).map(|x| delayed(slow_square, (x,))).collect::<Vec<_>>()).unwrap()
}

/// Runs until its token is cancelled, ten seconds at most.
fn endless() {
    let begin = Instant::now();
    while !CancelToken::current().is_cancelled() && begin.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(1));
    }
}

fn of_timeout(scheduler: &str) -> ErrorKind {
    delayed(endless, ()).timeout(Duration::from_millis(50)).compute_with(scheduler).unwrap_err().kind()
}

fn computes_everywhere() {
    for scheduler in ["sync", "threads", "processes"] {
        assert_eq!(squares(scheduler), (0..40).map(|x| x * x).collect::<Vec<_>>(), "{scheduler}");
    }
    assert_eq!(of_timeout("threads"), ErrorKind::TimedOut);
    assert_eq!(of_timeout("processes"), ErrorKind::TimedOut);
    let client = Client::threads(1).unwrap();
    assert_eq!(client.submit(slow_square, (4_u64,)).result().unwrap(), 16);
}

/// What a child does whose parent had threads of sprang.
fn computes_alone() {
    let expected: Vec<u64> = (0..40).map(|x| x * x).collect();
    assert_eq!((squares("sync"), squares("threads")), (expected.clone(), expected));
    assert_eq!(of_timeout("threads"), ErrorKind::TimedOut);
    let refused = |error: Error| error.kind() == ErrorKind::NoWorker && error.to_string().contains("forked");
    assert!(refused(delayed(slow_square, (1_u64,)).compute_with("processes").unwrap_err()));
    assert!(refused(Client::threads(1).unwrap_err()));
    assert!(refused(Client::processes(1).unwrap_err()));
}

#[test]
fn a_child_of_a_program_that_has_not_computed_is_a_program_like_any_other() {
    alone(|| {
        in_child("a child", computes_everywhere);
        computes_everywhere();
    });
}

#[test]
fn a_child_computes_in_its_own_thread_after_its_parent_has_used_others() {
    alone(|| {
        computes_everywhere();
        let of_parent = children();
        assert!(!of_parent.is_empty(), "workers of the shared pool are kept");
        in_child("a child", || {
            computes_alone();
            in_child("a grandchild", computes_alone);
            computes_alone();
        });
        assert_eq!(children(), of_parent, "the child has not touched its parent's workers");
        computes_everywhere();
    });
}

#[test]
fn a_child_of_a_busy_parent_computes() {
    alone(|| {
        thread::scope(|scope| {
            let token = CancelToken::new();
            let busy: Vec<_> = ["threads", "processes"]
                .into_iter()
                .map(|scheduler| {
                    let token = token.clone();
                    scope.spawn(move || {
                        while !token.is_cancelled() {
                            assert_eq!(squares(scheduler)[3], 9);
                        }
                    })
                })
                .collect();
            // At any moment, whatever the other threads hold.
            for round in 0..20 {
                in_child(&format!("round {round}"), || {
                    assert_eq!(squares("threads")[5], 25);
                    assert_eq!(of_timeout("threads"), ErrorKind::TimedOut);
                });
            }
            token.cancel();
            busy.into_iter().for_each(|thread| thread.join().unwrap());
        });
    });
}

fn is_of_fork(error: &Error) -> bool {
    error.to_string().contains("forked") && error.to_string().contains("make a new")
}

#[test]
fn an_executor_of_the_parent_is_refused_in_the_child_and_dropped_without_harm() {
    alone(|| {
        faults("an executor of the parent", 1, attempts(1), |executor| {
            let pid = || delayed(std::process::id, ()).compute_with(Arc::clone(executor));
            let before = pid().unwrap();
            wait_until_others_sleep();
            in_child("a child", || {
                let error = pid().unwrap_err();
                assert!(error.kind() == ErrorKind::NoWorker && is_of_fork(&error), "{error}");
            });
            assert_eq!(pid().unwrap(), before);
        });
        let executor = Arc::new(ProcessExecutor::new(1.try_into().unwrap()));
        let before = delayed(std::process::id, ()).compute_with(Arc::clone(&executor)).unwrap();
        wait_until("the run to be gone", || Arc::strong_count(&executor) == 1);
        wait_until_others_sleep();
        let mut executor = Some(executor);
        in_child("a child that drops it", || drop(Arc::into_inner(executor.take().unwrap()).unwrap()));
        assert!(executor.is_some() && stat(before).is_some(), "the worker lives");
    });
}

#[test]
fn a_client_of_the_parent_is_refused_in_the_child_and_dropped_without_harm() {
    alone(|| {
        for has_processes in [false, true] {
            let cluster = LocalCluster::builder().workers(1).threads_per_worker(1).processes(has_processes);
            let client = Client::owning(cluster.build().unwrap());
            let finished = client.submit(slow_square, (3_u64,));
            assert_eq!(finished.result().unwrap(), 9);
            let runs = client.submit(endless, ());
            while runs.status() != Status::Running {
                thread::yield_now();
            }
            let waits = client.submit(slow_square, (5_u64,));
            wait_until_others_sleep();
            let (in_parent, of_parent) = (client.clone(), (runs.clone(), waits.clone()));
            in_child(&format!("a child, processes {has_processes}"), move || {
                let error = client.submit(slow_square, (1_u64,)).result().unwrap_err();
                assert!(error.kind() == ErrorKind::Closed && is_of_fork(&error), "{error}");
                assert_eq!(finished.result().unwrap(), 9);
                assert!(is_of_fork(&waits.result().unwrap_err()) && is_of_fork(&runs.error().unwrap()));
                let left: Vec<_> = as_completed(vec![waits.clone(), finished.clone()]).collect();
                assert_eq!(left.len(), 2);
                let scope = client.as_default().unwrap();
                assert!(is_of_fork(&delayed(slow_square, (2_u64,)).compute().unwrap_err()));
                drop(scope);
                drop((client, finished, runs, waits));
            });
            in_parent.cancel([&of_parent.0]);
            assert_eq!(of_parent.1.result().unwrap(), 25);
        }
    });
}

#[test]
fn workers_end_with_their_parent_while_a_forked_child_lives() {
    beside(
        |room| {
            let pid = delayed(std::process::id, ()).compute_with("processes").unwrap();
            if fork().is_none() {
                put_number(&room, "child", u64::from(std::process::id()));
                hold();
            }
            put_number(&room, "worker", u64::from(pid));
            hold();
        },
        |room, parent| {
            let (child, worker) = (room.pid("child"), room.pid("worker"));
            assert!(stat(worker).is_some_and(|(_, of)| of == parent.id()));
            parent.kill().unwrap();
            parent.wait().unwrap();
            wait_until_ended(worker);
            send_signal(child, Signal::KILL);
            wait_until_ended(child);
        },
    );
}
