//! Arrays in shared memory: where they lie, which process may write, and when the memory is freed.

#![expect(unsafe_code, reason = "a task writes where it must not")]

use crate::child::alone;
use crate::system::{all_shared_bytes, children, shared_bytes};
use crate::watchdog::watched;
use crate::{eventually, meet, new_pool, on_processes, pool};
use sprang::config::ProcessSettings;
use sprang::{Delayed, ErrorKind, ProcessExecutor, Refs, SharedArray, compute_with, config, delayed, lit};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// 512 KiB.
const LEN: usize = 64 << 10;

/// The shared memory of an executor apart from values, for each worker, with a margin.
const OWN_BYTES: usize = 64 << 10;

fn filled(with: u64, len: usize) -> SharedArray<u64> {
    SharedArray::with_len(len, |slice| slice.iter_mut().zip(with..).for_each(|(item, value)| *item = value))
}

fn sum(array: &SharedArray<u64>) -> u64 {
    array.iter().fold(0, |sum, item| sum.wrapping_add(*item))
}

fn expected_sum(with: u64, len: usize) -> u64 {
    (with..with + len as u64).fold(0, u64::wrapping_add)
}

fn array_there(with: u64, len: usize) -> Delayed<SharedArray<u64>> {
    delayed(filled, (with, len))
}

#[test]
fn arrays_go_into_tasks_out_of_tasks_and_from_task_to_task() {
    watched("arrays", || {
        for len in [0, 1, 100, 8191, 8192, 8193, LEN, 1 << 20] {
            let expected = expected_sum(5, len);
            let here = filled(5, len);
            assert_eq!(delayed(sum, (lit(here.clone()),)).compute_with(pool()).unwrap(), expected, "in, {len}");
            let there = array_there(5, len);
            assert_eq!(sum(&there.compute_with(pool()).unwrap()), expected, "out, {len}");
            assert_eq!(delayed(sum, (&there,)).compute_with(pool()).unwrap(), expected, "across, {len}");
            let changed = delayed(
                |mut array: SharedArray<u64>| {
                    array.make_mut().iter_mut().for_each(|item| *item += 1);
                    array
                },
                (there.clone(),),
            );
            let (before, after) = compute_with(pool(), (&there, &changed)).unwrap();
            assert_eq!((sum(&before), sum(&after)), (expected, expected + len as u64), "changed, {len}");
            // Returned unchanged, and forwarded to the other workers.
            let back: Vec<_> = (0..6).map(|_| delayed(sum, (&delayed(SharedArray::clone, (&there,)),))).collect();
            assert_eq!(compute_with(pool(), &back).unwrap(), [expected; 6], "passed on, {len}");
        }
    });
}

#[test]
fn a_task_that_writes_into_an_array_it_was_given_kills_its_worker_alone() {
    watched("a task that writes where it must not", || {
        let array = filled(1, LEN);
        let write = delayed(
            |array: &SharedArray<u64>| {
                let start = array.as_ptr().cast_mut();
                // SAFETY: none. The test shows that the pages cannot be written.
                unsafe { start.write_volatile(99) };
            },
            (lit(array.clone()),),
        );
        let error = on_processes(1, &[("max_attempts", "1"), ("stdio", "null")], || write.compute()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WorkerDied, "{error}");
        assert_eq!(error.exit().unwrap().signal, Some(11), "{error}");
        assert_eq!(sum(&array), expected_sum(1, LEN));
    });
}

/// Arrays that a worker keeps.
static STASH: Mutex<Vec<SharedArray<u64>>> = Mutex::new(Vec::new());

#[test]
fn an_array_that_a_task_holds_on_to_keeps_its_content() {
    watched("a stashed array", || {
        let executor = new_pool(1);
        let stash = |with: u64| {
            let stash = |array: &SharedArray<u64>| STASH.lock().unwrap().push(array.clone());
            (delayed(stash, (lit(filled(with, LEN)),)), delayed(stash, (&array_there(with + 1, LEN),)))
        };
        for with in [1000, 2000] {
            let (from_here, from_there) = stash(with);
            compute_with(Arc::clone(&executor), (&from_here, &from_there)).unwrap();
        }
        for round in 0..300 {
            let both = (delayed(sum, (lit(filled(round, LEN)),)), delayed(sum, (&array_there(round + 7, LEN),)));
            let sums = compute_with(Arc::clone(&executor), (&both.0, &both.1)).unwrap();
            assert_eq!(sums, (expected_sum(round, LEN), expected_sum(round + 7, LEN)));
        }
        let stashed = delayed(|| STASH.lock().unwrap().iter().map(sum).collect::<Vec<_>>(), ());
        let expected = [1000, 1001, 2000, 2001].map(|with| expected_sum(with, LEN));
        assert_eq!(stashed.compute_with(executor).unwrap(), expected);
    });
}

#[test]
fn more_than_64_arrays_go_with_one_task_one_result_and_one_batch() {
    watched("many arrays at once", || {
        const SHORT: usize = 8192;
        let arrays: Vec<_> = (0..150).map(|i| filled(i, SHORT)).collect();
        let expected: Vec<u64> = (0..150).map(|i| expected_sum(i, SHORT)).collect();
        let sums = |arrays: &Vec<SharedArray<u64>>| arrays.iter().map(sum).collect::<Vec<_>>();
        assert_eq!(delayed(sums, (lit(arrays),)).compute_with(pool()).unwrap(), expected, "in one argument");
        let made = delayed(|| (0..150).map(|i| filled(i, SHORT)).collect::<Vec<_>>(), ());
        assert_eq!(sums(&made.compute_with(pool()).unwrap()), expected, "in one result");
        let single: Vec<_> = (0..150).map(|i| array_there(i, SHORT)).collect();
        let all = delayed(|arrays: Refs<'_, SharedArray<u64>>| arrays.iter().map(sum).collect::<Vec<_>>(), (&single,));
        let (all, single) = compute_with(pool(), (&all, &single)).unwrap();
        assert_eq!(all, expected, "as inputs of one task");
        assert_eq!(sums(&single), expected, "as results of one batch");
        let given: Vec<_> = (0..150).map(|i| delayed(sum, (lit(filled(i, SHORT)),))).collect();
        assert_eq!(compute_with(pool(), &given).unwrap(), expected, "as arguments of one batch");
    });
}

#[test]
fn shared_memory_stays_flat_over_many_rounds() {
    alone(
        |_| {},
        || {
            let executor = new_pool(2);
            let round = |round: u64| {
                let sources: Vec<_> = (0..4).map(|i| array_there(round + i, LEN)).collect();
                let sums: Vec<_> = sources.iter().map(|source| delayed(sum, (source,))).collect();
                let given: Vec<_> = (0..4).map(|i| delayed(sum, (lit(filled(round + i, LEN)),))).collect();
                let (sums, given) = compute_with(Arc::clone(&executor), (&sums, &given)).unwrap();
                assert_eq!(sums, given);
            };
            (0..50).for_each(round);
            let early = all_shared_bytes();
            (50..250).for_each(round);
            let late = all_shared_bytes();
            // The number in use at once varies. 200 rounds that free nothing would take 100 times
            // as much.
            assert!(late <= 3 * early && late < 100 << 20, "{early} bytes after 50 rounds, {late} after 250");
        },
    );
}

#[test]
fn memory_is_given_back_when_there_is_nothing_to_do() {
    alone(
        |_| {},
        || {
            let executor = new_pool(2);
            let sources: Vec<_> = (0..8).map(|i| array_there(i, LEN)).collect();
            let sums: Vec<_> = sources.iter().map(|source| delayed(sum, (source,))).collect();
            let given = delayed(sum, (lit(filled(9, LEN)),));
            let (arrays, _, _) = compute_with(Arc::clone(&executor), (&sources, &sums, &given)).unwrap();
            assert!(all_shared_bytes() > 8 * LEN * 8);
            drop((sources, sums, given));
            let expected: Vec<u64> = (0..8).map(|i| expected_sum(i, LEN)).collect();
            assert_eq!(arrays.iter().map(sum).collect::<Vec<_>>(), expected);
            drop(arrays);
            // Idle workers are told to free memory, and stay alive.
            let workers = children();
            eventually("nothing is mapped", || all_shared_bytes() < 4 * OWN_BYTES);
            assert_eq!(children().len(), workers.len());
            let again = delayed(sum, (&array_there(3, LEN),));
            assert_eq!(again.compute_with(Arc::clone(&executor)).unwrap(), expected_sum(3, LEN));
            eventually("nothing is mapped again", || all_shared_bytes() < 4 * OWN_BYTES);
        },
    );
}

#[test]
fn an_array_that_is_dropped_while_its_worker_sleeps_is_given_back() {
    alone(
        |_| {},
        || {
            let executor = new_pool(1);
            let kept = array_there(1, LEN).compute_with(Arc::clone(&executor)).unwrap();
            drop(array_there(2, LEN).compute_with(Arc::clone(&executor)).unwrap());
            // Here and in the worker.
            let with_one = 2 * LEN * 8;
            eventually("only one is mapped", || all_shared_bytes() < with_one + 4 * OWN_BYTES);
            std::thread::sleep(Duration::from_millis(50));
            assert!(all_shared_bytes() >= with_one);
            let start = Instant::now();
            drop(kept);
            eventually("nothing is mapped", || all_shared_bytes() < 4 * OWN_BYTES);
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
            assert_eq!(children().len(), 1);
        },
    );
}

#[test]
fn an_array_outlives_its_executor_and_everything_else_is_freed_with_it() {
    alone(
        |_| {},
        || {
            let executor = new_pool(2);
            let sources: Vec<_> = (0..8).map(|i| array_there(i, LEN)).collect();
            let given: Vec<_> = (0..8).map(|i| delayed(sum, (lit(filled(i, LEN)),))).collect();
            let (mut arrays, _) = compute_with(Arc::clone(&executor), (&sources, &given)).unwrap();
            let kept = arrays.swap_remove(3);
            drop((arrays, sources, given));
            drop(executor);
            assert_eq!(children(), []);
            let bytes = shared_bytes(std::process::id());
            assert!((LEN * 8..LEN * 9 + OWN_BYTES).contains(&bytes), "{bytes} bytes beside an array of {}", LEN * 8);
            assert_eq!(sum(&kept), expected_sum(3, LEN));
            drop(kept);
            assert_eq!(shared_bytes(std::process::id()), 0);
        },
    );
}

#[test]
fn an_array_that_does_not_fit_into_the_limit_is_an_error_that_names_the_setting() {
    watched("too much shared memory", || {
        on_processes(1, &[("shared_memory_limit", "1 MiB")], || {
            let large = array_there(1, 1 << 20).name("large");
            let error = large.compute().unwrap_err();
            assert!(error.to_string().contains("processes.shared_memory_limit"), "{error}");
            assert_eq!((error.kind(), error.task()), (ErrorKind::NotPortable, Some("large")));
            let error = delayed(sum, (lit(filled(1, 1 << 20)),)).name("reader").compute().unwrap_err();
            assert!(error.to_string().contains("processes.shared_memory_limit"), "{error}");
            assert_eq!(error.task(), Some("reader"));
            // An array that fits can still be sent.
            assert_eq!(delayed(sum, (&array_there(1, LEN),)).compute().unwrap(), expected_sum(1, LEN));
        });
        assert!(config::get("processes.shared_memory_limit").is_ok());
    });
}

/// Makes the system kill this process.
fn kill(pid: u32) {
    let status = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Most of 10 MiB.
const MOST: usize = 6 << 17;

#[test]
fn the_limit_of_shared_memory_is_for_all_workers_together() {
    alone(
        |_| {},
        || {
            let mut settings = ProcessSettings::default();
            settings.shared_memory_limit = Some(10 << 20);
            let executor = Arc::new(ProcessExecutor::with_settings(NonZeroUsize::new(2).unwrap(), settings));
            let room = std::env::current_dir().unwrap();
            // Two tasks that wait for each other run in both workers.
            let refused_in_both = |folder: &str| {
                let folder = room.join(folder);
                std::fs::create_dir(&folder).unwrap();
                let make = |folder: &PathBuf, name: &String| {
                    meet(folder, name, 2);
                    filled(1, MOST)
                };
                let compute = |name: &str| {
                    delayed(make, (lit(folder.clone()), lit(name.to_owned()))).compute_with(Arc::clone(&executor))
                };
                let results = std::thread::scope(|scope| {
                    let threads = ["one", "other"].map(|name| scope.spawn(move || compute(name)));
                    threads.map(|thread| thread.join().unwrap())
                });
                results.iter().all(|result| {
                    let message = result.as_ref().err().map(ToString::to_string);
                    message.is_some_and(|message| message.contains("raise processes.shared_memory_limit"))
                })
            };
            let try_there = || array_there(1, MOST).compute_with(Arc::clone(&executor));
            // The program holds an array that a worker has made.
            let kept = try_there().unwrap();
            assert!(refused_in_both("kept"));
            drop(kept);
            // The memory is free once the worker has been told, which happens now and then.
            eventually("what was dropped can be taken", || try_there().is_ok());
            // An array that a worker keeps until it is killed.
            let hold = || {
                let stash = |array: &SharedArray<u64>| {
                    STASH.lock().unwrap().push(array.clone());
                    std::process::id()
                };
                let made = array_there(1, MOST);
                delayed(stash, (&made,)).compute_with(Arc::clone(&executor))
            };
            let mut holder = None;
            eventually("a worker holds it", || hold().map(|pid| holder = Some(pid)).is_ok());
            assert!(refused_in_both("held"));
            kill(holder.unwrap());
            eventually("what the dead had can be taken", || try_there().is_ok());
            // The program holds an array of a dead worker.
            let mut kept = None;
            eventually("it is free", || try_there().map(|array| kept = Some(array)).is_ok());
            children().into_iter().for_each(|(pid, _)| kill(pid));
            eventually("the workers are others", || delayed(|| (), ()).compute_with(Arc::clone(&executor)).is_ok());
            assert!(refused_in_both("inherited"));
            drop(kept);
            assert!(try_there().is_ok());
        },
    );
}
