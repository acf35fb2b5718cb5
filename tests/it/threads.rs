//! The thread executor: tasks that run at the same time, pools, and the locks that tasks hold.

use crate::contract::watchdog::watched;
use crate::contract::{Subject, Tally, rendezvous};
use crate::subjects;
use rayon::prelude::*;
use sprang::{Delayed, ThreadExecutor, compute, compute_with, config, delayed, delayed_local};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// Tasks that each wait until all of them have started.
fn meeting(num_tasks: usize) -> Vec<Delayed<()>> {
    let barrier = Arc::new(Barrier::new(num_tasks));
    (0..num_tasks)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            delayed_local(
                move || {
                    barrier.wait();
                },
                (),
            )
        })
        .collect()
}

fn many_tasks_meet(num_tasks: usize, num_workers: usize) {
    let _turn = rendezvous();
    for round in 0..20 {
        watched(&format!("{num_tasks} tasks meet on {num_workers} workers, round {round}"), || {
            compute_with(ThreadExecutor::new(num_workers), &meeting(num_tasks)).unwrap();
        });
    }
}

#[test]
fn two_tasks_that_wait_for_each_other_run_at_the_same_time() {
    many_tasks_meet(2, 2);
    many_tasks_meet(2, 8);
}

#[test]
fn three_tasks_that_wait_for_each_other_run_at_the_same_time() {
    many_tasks_meet(3, 3);
}

#[test]
fn as_many_tasks_as_there_are_workers_run_at_the_same_time() {
    many_tasks_meet(4, 4);
    many_tasks_meet(8, 8);
}

#[test]
fn two_tasks_meet_on_every_kind_of_pool() {
    let _turn = rendezvous();
    for on in [subjects::default(), subjects::pool(2), subjects::own(2)] {
        watched(&format!("two tasks meet, {on:?}"), || {
            compute_with(&on.scheduler, &meeting(on.num_workers.min(2))).unwrap();
        });
    }
}

#[test]
fn as_many_tasks_run_at_once_as_the_configuration_says() {
    let _turn = rendezvous();
    let _scope = config::scoped("scheduler", "threads").unwrap().and("num_workers", 3).unwrap();
    let snapshot = config::snapshot().unwrap();
    for _ in 0..20 {
        watched("three tasks meet", || {
            let _entered = snapshot.enter();
            compute(&meeting(3)).unwrap();
        });
    }
}

#[test]
fn tasks_that_become_ready_late_run_at_the_same_time_too() {
    let _turn = rendezvous();
    for _ in 0..20 {
        watched("two tasks meet at the end of a chain", || {
            let mut chain = delayed(|| 0_u64, ());
            for _ in 0..2000 {
                chain = delayed(|n: &u64| n + 1, (&chain,));
            }
            let barrier = Arc::new(Barrier::new(2));
            let meet = || {
                let barrier = Arc::clone(&barrier);
                delayed_local(
                    move |n: &u64| {
                        barrier.wait();
                        *n
                    },
                    (&chain,),
                )
            };
            assert_eq!(compute_with(ThreadExecutor::new(2), (&meet(), &meet())).unwrap(), (2000, 2000));
        });
    }
}

#[test]
fn tasks_of_a_nested_compute_run_at_the_same_time() {
    let _turn = rendezvous();
    watched("two tasks of a nested compute meet", || {
        let task = delayed_local(|| compute(&meeting(2)).unwrap().len(), ());
        assert_eq!(task.compute_with(ThreadExecutor::new(2)).unwrap(), 2);
    });
}

#[test]
fn no_more_tasks_run_at_once_than_there_are_workers() {
    for num_workers in [1, 2, 3] {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..300)
            .map(|_| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                delayed_local(
                    move || {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        (0..200).for_each(|_| thread::yield_now());
                        now.fetch_sub(1, Ordering::SeqCst);
                    },
                    (),
                )
            })
            .collect();
        watched("counted tasks", || compute_with(ThreadExecutor::new(num_workers), &tasks)).unwrap();
        assert!(most.load(Ordering::SeqCst) <= num_workers, "{most:?} tasks at once on {num_workers} workers");
    }
}

#[test]
fn tasks_run_on_the_given_pool_and_on_the_calling_thread() {
    let pool = subjects::rayon_pool(3);
    let mut allowed: HashSet<ThreadId> = pool.broadcast(|_| thread::current().id()).into_iter().collect();
    allowed.insert(thread::current().id());
    let executor = Arc::new(ThreadExecutor::with_pool(Arc::clone(&pool)));
    for _ in 0..2 {
        let seen: Arc<Mutex<HashSet<ThreadId>>> = Arc::default();
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let seen = Arc::clone(&seen);
                delayed_local(
                    move || {
                        seen.lock().unwrap().insert(thread::current().id());
                        thread::yield_now();
                    },
                    (),
                )
            })
            .collect();
        compute_with(Arc::clone(&executor), &tasks).unwrap();
        assert!(seen.lock().unwrap().is_subset(&allowed));
    }
    drop(executor);
    assert_eq!(pool.install(|| 5), 5, "the pool is the caller's, and goes on");
}

/// Tasks that hold one lock while they wait in a parallel loop. A worker that ran another of them
/// meanwhile would wait for a lock that its own thread holds.
fn share_a_lock_across_parallel_loops(on: &Subject, lock_is_taken_first: bool) {
    let lock = Arc::new(Mutex::new(0_u64));
    let calls = Tally::default();
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let (lock, calls) = (Arc::clone(&lock), calls.clone());
            delayed_local(
                move || {
                    let before: u64 = if lock_is_taken_first { 0 } else { (0..64_u64).into_par_iter().sum() };
                    let mut sum = lock.lock().unwrap_or_else(PoisonError::into_inner);
                    let all: u64 = (0..256_u64)
                        .into_par_iter()
                        .map(|j| {
                            (0..50).for_each(|_| std::hint::spin_loop());
                            i ^ j
                        })
                        .sum();
                    *sum = sum.wrapping_add(all + before);
                    calls.count();
                },
                (),
            )
        })
        .collect();
    let next: Vec<_> = tasks.chunks(2).map(|pair| delayed(|_: &(), _: &()| 1_u32, (&pair[0], &pair[1]))).collect();
    let _scope = on.scope();
    compute(&next).unwrap();
    assert_eq!(calls.get(), 64);
}

#[test]
fn tasks_that_share_a_lock_across_parallel_loops_end() {
    let _turn = rendezvous();
    for on in subjects::all() {
        for first in [true, false] {
            for _ in 0..5 {
                watched(&format!("a lock across parallel loops, {on:?}"), || {
                    share_a_lock_across_parallel_loops(&on, first)
                });
            }
        }
    }
    // A thread of a rayon pool computes, so the loops run in that pool.
    for num_threads in [1, 2, 4] {
        let pool = subjects::rayon_pool(num_threads);
        let on = Subject::new("threads, called from a pool", num_threads, ThreadExecutor::new(num_threads));
        watched(&format!("a lock across parallel loops, from a pool of {num_threads}"), || {
            for first in [true, false] {
                pool.install(|| share_a_lock_across_parallel_loops(&on, first));
            }
        });
    }
}

/// The thread that waits for the other half of a loop need not be the thread that runs the task. A
/// parallel loop that is started outside the pool, or stolen from it, runs on a thread without a
/// task.
///
/// Two threads of the pool run the halves of the loop of `holder`, which holds the lock. When
/// `opener` makes the other tasks ready, a thread of that pool that waits for the other half could
/// be given one of them.
#[test]
fn a_thread_that_helps_with_a_tasks_parallel_loop_is_not_given_another_task() {
    let _turn = rendezvous();
    let pool = subjects::rayon_pool(3);
    let (lock, started, other_half) = (Arc::new(Mutex::new(())), Tally::default(), Tally::default());
    let begun = |other_half: &Tally| {
        let other_half = other_half.clone();
        move || {
            while other_half.get() == 0 {
                thread::yield_now();
            }
        }
    };
    let holder = {
        let (pool, lock, started) = (Arc::clone(&pool), Arc::clone(&lock), started.clone());
        let (other_half, wait_for_the_other_half) = (other_half.clone(), begun(&other_half));
        delayed_local(
            move || {
                let _held = lock.lock().unwrap();
                let give_others_time_to_start = || {
                    other_half.count();
                    let begin = Instant::now();
                    while started.get() < 2 && begin.elapsed() < Duration::from_millis(300) {
                        thread::yield_now();
                    }
                };
                pool.install(|| rayon::join(&wait_for_the_other_half, give_others_time_to_start));
            },
            (),
        )
        .priority(1)
    };
    let opener = delayed_local(begun(&other_half), ());
    let others: Vec<_> = (0..20)
        .map(|_| {
            let (lock, started) = (Arc::clone(&lock), started.clone());
            let wants_the_lock = move |(): &()| {
                started.count();
                drop(lock.lock().unwrap());
            };
            delayed_local(wants_the_lock, (&opener,))
        })
        .collect();
    watched("tasks that want the lock of a task in a parallel loop", || {
        compute_with(ThreadExecutor::new(3), (&holder, &others)).unwrap();
    });
}

#[test]
fn tasks_that_share_a_lock_across_a_nested_compute_end() {
    // The tasks of the nested compute need no lock, so the holder of the lock makes progress. But a
    // thread that waits for the nested compute must not get an outer task.
    for on in subjects::all() {
        let lock = Arc::new(Mutex::new(0));
        let tasks: Vec<_> = (0..30)
            .map(|_| {
                let lock = Arc::clone(&lock);
                delayed_local(
                    move || {
                        let mut count = lock.lock().unwrap();
                        let parts: Vec<_> = (0..10)
                            .map(|i| {
                                delayed(
                                    |i: i32| {
                                        thread::yield_now();
                                        i
                                    },
                                    (i,),
                                )
                            })
                            .collect();
                        *count += compute(&parts).unwrap().len();
                    },
                    (),
                )
            })
            .collect();
        watched(&format!("a lock across nested computes, {on:?}"), || {
            let _scope = on.scope();
            compute(&tasks).unwrap();
        });
        assert_eq!(*lock.lock().unwrap(), 300);
    }
}

#[test]
fn computes_leave_no_threads_behind() {
    // The test runs in a process of its own, where no other test starts threads.
    const CHILD: &str = "threads::computes_leave_no_threads_behind_in_a_process_of_their_own";
    let program = std::env::current_exe().unwrap();
    let output =
        std::process::Command::new(program).args([CHILD, "--exact", "--ignored", "--test-threads=1"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "run by `computes_leave_no_threads_behind`, in a process of its own"]
fn computes_leave_no_threads_behind_in_a_process_of_their_own() {
    fn num_threads() -> Option<usize> {
        Some(std::fs::read_dir("/proc/self/task").ok()?.count())
    }
    let Some(before) = num_threads() else { return };
    let cores = thread::available_parallelism().unwrap().get();
    let tasks: Vec<_> = (0..50)
        .map(|i| {
            delayed(
                |i: i32| {
                    (0..50).for_each(|_| thread::yield_now());
                    i
                },
                (i,),
            )
        })
        .collect();
    let _scope = config::scoped("scheduler", "threads").unwrap();
    for _ in 0..20 {
        compute(&tasks).unwrap();
    }
    assert!(num_threads().unwrap() <= before + 2 * cores, "the default");
    let _scope = config::scoped("num_workers", 4).unwrap();
    for _ in 0..20 {
        compute(&tasks).unwrap();
    }
    assert!(num_threads().unwrap() <= before + 2 * cores + 8, "four workers");
    thread::scope(|scope| {
        let callers: Vec<_> = (0..20).map(|_| scope.spawn(|| compute(&tasks).unwrap())).collect();
        callers.into_iter().for_each(|caller| _ = caller.join().unwrap());
    });
    // The system may list a thread for a moment after it was joined.
    let begin = Instant::now();
    while num_threads().unwrap() > before + 2 * cores + 8 {
        assert!(begin.elapsed() < Duration::from_secs(1), "short-lived callers");
        thread::yield_now();
    }
}

#[test]
fn more_workers_than_tasks_cost_nothing() {
    watched("as many workers as there are numbers", || {
        let tasks: Vec<_> = (0..4_u64).map(|i| delayed(|i: u64| i, (i,))).collect();
        assert_eq!(compute_with(ThreadExecutor::new(usize::MAX), &tasks).unwrap(), [0, 1, 2, 3]);
    });
}

#[test]
fn a_thread_computes_while_its_locals_are_destroyed() {
    struct ComputesOnDrop(std::sync::mpsc::Sender<u64>);
    impl Drop for ComputesOnDrop {
        fn drop(&mut self) {
            let tasks: Vec<_> = (0..4_u64).map(|i| delayed(|i: u64| i, (i,))).collect();
            self.0.send(compute(&tasks).unwrap().into_iter().sum()).unwrap();
        }
    }
    thread_local!(static LOCAL: std::cell::RefCell<Option<ComputesOnDrop>> = const { std::cell::RefCell::new(None) });
    watched("a compute in the destructor of a thread-local", || {
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || LOCAL.set(Some(ComputesOnDrop(sender)))).join().unwrap();
        assert_eq!(receiver.recv().unwrap(), 6);
    });
}
