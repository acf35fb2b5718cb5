//! Executors leave nothing behind. Workers inherit the folder and the environment.

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
                // On a busy machine, a slot may not sleep yet when the next task comes, and
                // another one is woken for it.
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
            let task = |folder: &PathBuf, i: usize, num_expected: usize| {
                let wait = |folder: &PathBuf, name: &String, num_expected: usize| meet(folder, name, num_expected);
                delayed(wait, (lit(folder.clone()), lit(i.to_string()), num_expected))
            };
            // Even if tasks of their function have taken no time so far.
            let short: Vec<_> = (0..100).map(|i| task(&folder, i, 0)).collect();
            compute_with(Arc::clone(&executor), &short).unwrap();
            for round in 0..20 {
                let folder = folder.join(format!("round {round}"));
                std::fs::create_dir(&folder).unwrap();
                let compute = |i: usize| task(&folder, i, 4).compute_with(Arc::clone(&executor)).unwrap();
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

/// How often the threads of a process have gone to sleep.
fn num_sleeps(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let of_one = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:").map(str::trim));
        line.unwrap().parse::<u64>().unwrap()
    };
    status.map(of_one).sum()
}

#[test]
fn nobody_wakes_up_for_idle_workers() {
    alone(
        |_| {},
        || {
            let own = || {
                // This thread sleeps, too, and so does the one that watches the test.
                let all = num_sleeps(process::id());
                let here = std::fs::read_to_string("/proc/thread-self/status").unwrap();
                let line = here.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
                all - line.trim().parse::<u64>().unwrap()
            };
            let executor = new_pool(2);
            compute_with(Arc::clone(&executor), &pids(1000)).unwrap();
            let workers: Vec<u32> = children().into_iter().map(|(pid, _)| pid).collect();
            let all = || own() + workers.iter().map(|&pid| num_sleeps(pid)).sum::<u64>();
            // Once, to free memory that was kept for the next tasks, which may be late on a busy
            // machine. Work that is done periodically would show in each of these spans.
            eventually("nobody wakes up for two seconds", || {
                let before = all();
                std::thread::sleep(std::time::Duration::from_secs(2));
                all() == before
            });
            assert_eq!(children().len(), workers.len());
        },
    );
}

/// For each message it receives, ipc-channel allocates room for the longest one.
#[test]
fn a_value_kept_from_a_message_equals_the_value_sent() {
    fn peak() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
    alone(
        |_| {},
        || {
            let executor = new_pool(2);
            // Long enough to be alone in its message.
            let slow = |n: u64| {
                std::thread::sleep(std::time::Duration::from_micros(1100));
                n
            };
            let parts: Vec<_> = (0..1000_u64).map(|n| delayed(slow, (n,))).collect();
            let here = sprang::delayed_local(|_: sprang::Refs<'_, u64>| peak(), (&parts,));
            let there = delayed(|parts: sprang::Refs<'_, u64>| parts.iter().sum::<u64>(), (&parts,));
            let before = peak();
            let (during, sum) = compute_with(executor, (&here, &there)).unwrap();
            assert_eq!(sum, 999 * 500);
            // 1000 times 200 KiB are some 200 MB.
            assert!(during < before + 50_000, "{before} KiB before, {during} KiB with all results");
        },
    );
}
