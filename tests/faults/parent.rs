//! Workers whose parent is killed, panics, or gets signals.

use crate::deeds::{be_interrupted_by, catch, interrupt};
use crate::room::*;
use rustix::process::{Signal, getpgrp, kill_process_group};
use sprang::config::Initializer;
use sprang::{ProcessExecutor, compute_with, delayed, lit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_parent_that_is_killed_leaves_nothing() {
    beside(
        |room| {
            faults("a_parent_that_is_killed", 3, attempts(1), |executor| {
                // Two workers are busy, one of them sends a value, and one worker is idle.
                let busy = delayed(
                    |room: String| -> u32 {
                        put_number(&room, "busy", u64::from(std::process::id()));
                        hold()
                    },
                    (room.clone(),),
                );
                let sending: Vec<_> = (0..2000_u64)
                    .map(|n| {
                        let make = |room: String, n: u64| {
                            put_number(&room, "sending", u64::from(std::process::id()));
                            vec![n; 100_000]
                        };
                        delayed(make, (room.clone(), n))
                    })
                    .collect();
                let _ = compute_with(Arc::clone(executor), (busy.name("busy"), sending));
            });
        },
        |room, child| {
            let pids = [room.pid("busy"), room.pid("sending")];
            let shared = || std::fs::read_dir("/dev/shm").map_or(0, |entries| entries.count());
            let before = shared();
            assert!(pids.iter().all(|&pid| stat(pid).is_some_and(|(_, parent)| parent == child.id())));
            child.kill().unwrap();
            let begin = Instant::now();
            child.wait().unwrap();
            pids.into_iter().for_each(wait_until_ended);
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
            // Memory without a name ends with the processes that have it open.
            assert!(shared() <= before);
        },
    );
}

#[test]
fn a_parent_that_panics_takes_its_workers_along() {
    let room = Room::new();
    faults("a_parent_that_panics", 1, attempts(1), |executor| {
        let pid = thread::scope(|scope| {
            let run = scope.spawn(|| {
                let own = sprang::ProcessExecutor::new(2.try_into().unwrap());
                let own = Arc::new(own);
                let pid = delayed(std::process::id, ()).compute_with(Arc::clone(&own)).unwrap();
                put_number(&room.name(), "pid", u64::from(pid));
                panic!("in the parent, with an executor");
            });
            assert!(run.join().is_err());
            room.pid("pid")
        });
        wait_until_gone(pid);
        // A task of this process that panics harms no worker.
        let before = delayed(std::process::id, ()).compute_with(Arc::clone(executor)).unwrap();
        let bad = sprang::delayed_local(|| -> u32 { panic!("here") }, ());
        assert!(catch_unwind(AssertUnwindSafe(|| bad.compute_with(Arc::clone(executor)))).unwrap().is_err());
        assert_eq!(delayed(std::process::id, ()).compute_with(Arc::clone(executor)).unwrap(), before);
    });
}

#[test]
fn an_interrupt_from_the_terminal_leaves_workers_to_their_parent() {
    alone(|| {
        for signal in [Signal::INT, Signal::QUIT, Signal::HUP] {
            catch(signal);
        }
        let rooms = [Room::new(), Room::new()];
        faults("an_interrupt_from_the_terminal", 2, attempts(1), |executor| {
            let tasks: Vec<_> = rooms.iter().map(|room| delayed(wait_for_go, (room.name(),))).collect();
            let large: Vec<_> = (0..50_u8).map(|n| delayed(|n: u8| vec![n; 500_000], (n,))).collect();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let pids = rooms.each_ref().map(|room| room.pid("attempt-0"));
                    for signal in [Signal::INT, Signal::QUIT, Signal::HUP] {
                        kill_process_group(getpgrp(), signal).unwrap();
                    }
                    rooms.iter().for_each(|room| room.put("go"));
                    // Also while many tasks run.
                    for _ in 0..100 {
                        thread::sleep(Duration::from_micros(500));
                        kill_process_group(getpgrp(), Signal::INT).unwrap();
                    }
                    assert!(pids.into_iter().all(runs));
                });
                let (pids, large) = compute_with(Arc::clone(executor), (tasks, large)).unwrap();
                assert_eq!(pids, rooms.each_ref().map(|room| room.pid("attempt-0")));
                assert!(large.into_iter().enumerate().all(|(n, bytes)| bytes == vec![n as u8; 500_000]));
            });
        });
    });
}

fn note_start() {
    note_attempt(&room_of_worker());
}

#[test]
fn signals_that_interrupt_the_parent_change_nothing() {
    alone(|| {
        be_interrupted_by(Signal::USR1);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let threads = std::fs::read_dir("/proc/self/task").unwrap();
                    let threads = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
                    threads.for_each(|thread| interrupt(thread, Signal::USR1));
                    thread::sleep(Duration::from_micros(50));
                }
            });
            for _ in 0..10 {
                let room = Room::new();
                let mut settings = attempts(1);
                settings.environment = room.environment();
                settings.initializer = Some(Initializer::new(note_start));
                faults("signals_that_interrupt", 1, settings, |executor| {
                    let sizes = |bytes: &Vec<u8>| vec![bytes[0]; bytes.len()];
                    let tasks: Vec<_> = (0..60_u8).map(|n| delayed(sizes, (lit(vec![n; 100_000]),))).collect();
                    let values = compute_with(Arc::clone(executor), tasks).unwrap();
                    assert!(values.into_iter().enumerate().all(|(n, value)| value == vec![n as u8; 100_000]));
                });
                assert!(room.path("attempt-0").exists() && !room.path("attempt-1").exists(), "one worker was enough");
            }
            is_over.store(true, Ordering::Relaxed);
        });
    });
}

/// A run keeps its executor, and a slot may drop the last handle of the run.
#[test]
fn an_executor_that_is_dropped_by_its_own_slot_ends_in_peace() {
    alone(|| {
        static NUM_PANICS: AtomicUsize = AtomicUsize::new(0);
        std::panic::set_hook(Box::new(|_| {
            NUM_PANICS.fetch_add(1, Ordering::Relaxed);
        }));
        for round in 0..150_u32 {
            let executor = ProcessExecutor::new(2.try_into().unwrap());
            let tasks: Vec<_> = (0..4_u32).map(|n| delayed(|n: u32| n, (n,))).collect();
            if round % 2 == 0 {
                assert_eq!(compute_with(executor, tasks).unwrap(), [0, 1, 2, 3]);
            } else {
                let bad = delayed(|| -> u32 { std::process::abort() }, ());
                assert!(compute_with(executor, (tasks, bad)).is_err());
            }
        }
        wait_until("the workers to be gone", || children().is_empty());
        assert_eq!(NUM_PANICS.load(Ordering::Relaxed), 0);
    });
}
