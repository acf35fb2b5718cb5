//! What executors leave behind: nothing. And what workers inherit.

#![expect(unsafe_code, reason = "changing the environment is unsafe")]

use crate::child::alone;
use crate::system::{children, is_there, num_fds, threads};
use crate::{eventually, meet, new_pool, on_processes};
use sprang::{Delayed, compute_with, delayed, lit};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;

fn pids(count: usize) -> Vec<Delayed<u32>> {
    (0..count).map(|_| delayed(process::id, ())).collect()
}

#[test]
fn a_thousand_tasks_leave_no_descriptor() {
    alone(
        |_| {},
        || {
            let executor = new_pool(2);
            let run = |count: usize| compute_with(Arc::clone(&executor), &pids(count)).unwrap();
            // Until both workers are there.
            run(1000);
            eventually("both workers were started", || {
                run(1000);
                children().len() == 2
            });
            let before = num_fds();
            for _ in 0..20 {
                run(1000);
                run(1);
            }
            assert_eq!(num_fds(), before);
            let of_worker = delayed(num_fds, ());
            let there = || of_worker.compute_with(Arc::clone(&executor)).unwrap();
            let (first, last) = (there(), (0..100).map(|_| there()).max().unwrap());
            assert!(last <= first + 1, "{first} descriptors in a worker, then {last}");
        },
    );
}

#[test]
fn a_hundred_executors_leave_nothing() {
    alone(
        |_| {},
        || {
            let run = |i: usize| {
                let executor = new_pool(1 + i % 2);
                if i % 10 != 9 {
                    let pids = compute_with(Arc::clone(&executor), &pids(3)).unwrap();
                    assert!(pids.iter().all(|&pid| pid != process::id()));
                }
                drop(executor);
                assert_eq!(children(), []);
            };
            (0..4).for_each(run);
            eventually("nobody watches", || threads("sprang-monitor").is_empty());
            let before = num_fds();
            (4..100).for_each(run);
            assert_eq!(threads("sprang-slot"), [""; 0]);
            eventually("nobody watches", || threads("sprang-monitor").is_empty());
            assert_eq!(num_fds(), before);
        },
    );
}

#[test]
fn two_executors_have_workers_of_their_own() {
    alone(
        |_| {},
        || {
            let (one, other) = (new_pool(1), new_pool(1));
            let pid = |executor: &Arc<sprang::ProcessExecutor>| {
                delayed(process::id, ()).compute_with(Arc::clone(executor)).unwrap()
            };
            let first = pid(&one);
            let second = pid(&other);
            assert_ne!(first, second);
            drop(one);
            assert!(!is_there(first) && is_there(second));
            assert_eq!(pid(&other), second);
            assert_eq!(threads("sprang-slot").len(), 1);
            drop(other);
            assert_eq!((children(), threads("sprang-slot").len()), (vec![], 0));
        },
    );
}

#[test]
fn workers_that_ended_by_themselves_leave_no_dead_process() {
    alone(
        |_| {},
        || {
            on_processes(2, &[("idle_timeout", "20 ms")], || {
                for _ in 0..5 {
                    sprang::compute(&pids(50)).unwrap();
                    eventually("they have ended and were waited for", || children().is_empty());
                }
            });
            on_processes(1, &[("max_tasks_per_worker", "1")], || {
                sprang::compute(&pids(10)).unwrap();
                eventually("all but the last were waited for", || children().len() <= 1);
            });
        },
    );
}

#[test]
fn a_stream_of_single_tasks_lets_the_workers_end_that_it_does_not_need() {
    alone(
        |_| {},
        || {
            on_processes(4, &[("idle_timeout", "1 s")], || {
                let folder = std::env::current_dir().unwrap().join("meeting");
                std::fs::create_dir(&folder).unwrap();
                let wait = |folder: &PathBuf, name: &String| meet(folder, name, 4);
                let all: Vec<_> = (0..4).map(|i| delayed(wait, (lit(folder.clone()), lit(i.to_string())))).collect();
                sprang::compute(&all).unwrap();
                assert_eq!(children().len(), 4);
                eventually("the others have ended", || {
                    delayed(|| (), ()).compute().unwrap();
                    children().len() <= 2
                });
                (0..200).for_each(|_| delayed(|| (), ()).compute().unwrap());
                // On a busy machine a slot may still be on its way to sleep when the next task comes, and another be woken for it.
                let num_left = children().len();
                assert!((1..4).contains(&num_left), "{num_left} workers");
            });
        },
    );
}

#[test]
fn runs_that_begin_at_once_have_workers_each() {
    alone(
        |_| {},
        || {
            let executor = new_pool(4);
            let folder = std::env::current_dir().unwrap();
            for round in 0..20 {
                let folder = folder.join(round.to_string());
                std::fs::create_dir(&folder).unwrap();
                let compute = |i: usize| {
                    let wait = |folder: &PathBuf, name: &String| meet(folder, name, 4);
                    let task = delayed(wait, (lit(folder.clone()), lit(i.to_string())));
                    task.compute_with(Arc::clone(&executor)).unwrap();
                };
                std::thread::scope(|scope| {
                    for i in 0..4 {
                        scope.spawn(move || compute(i));
                    }
                });
            }
        },
    );
}

/// The folder and a variable, as a worker sees them.
fn inherited() -> (u32, PathBuf, String) {
    let seen = || {
        #[expect(clippy::disallowed_methods, reason = "the environment is what the test is about")]
        let variable = std::env::var("PROCESSES_INHERITED").unwrap_or_default();
        (process::id(), std::env::current_dir().unwrap(), variable)
    };
    delayed(seen, ()).compute().unwrap()
}

fn set_variable(value: &str) {
    // SAFETY: no other thread of this process reads or changes the environment at this time.
    unsafe { std::env::set_var("PROCESSES_INHERITED", value) };
}

#[test]
fn workers_inherit_the_environment_and_the_folder_as_they_are_when_a_run_starts() {
    alone(
        |_| {},
        || {
            let work = std::env::current_dir().unwrap();
            let home = work.parent().unwrap().join("home");
            on_processes(1, &[], || {
                let (first, folder, variable) = inherited();
                assert_eq!((folder, variable), (work.clone(), String::new()));
                assert_eq!(inherited().0, first, "nothing has changed");
                set_variable("one");
                let (second, folder, variable) = inherited();
                assert_eq!((folder, variable), (work.clone(), "one".to_owned()));
                assert_ne!(second, first);
                std::env::set_current_dir(&home).unwrap();
                let (third, folder, _) = inherited();
                assert_eq!(folder, home);
                assert_ne!(third, second);
                set_variable("one");
                assert_eq!(inherited().0, third, "nothing has changed");
                assert_eq!(children().len(), 1);
            });
            let work = work.to_str().unwrap();
            on_processes(1, &[("environment", "PROCESSES_INHERITED=set"), ("working_directory", work)], || {
                let first = inherited();
                assert_eq!((first.1.to_str().unwrap(), first.2.as_str()), (work, "set"));
                set_variable("two");
                std::env::set_current_dir("/").unwrap();
                assert_eq!(inherited(), first, "what has changed does not concern it");
            });
            on_processes(1, &[("threads_per_worker", "3")], || {
                let first = sprang::compute(&pids(100)).unwrap();
                set_variable("three");
                let second = sprang::compute(&pids(100)).unwrap();
                assert!(second.iter().all(|pid| !first.contains(pid)));
                eventually("the old worker has ended", || !is_there(first[0]));
            });
        },
    );
}
