//! Runs for which the system has too few resources.

#![expect(unsafe_code, reason = "changing the environment is unsafe")]

use crate::room::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sprang::{Delayed, ErrorKind, ProcessExecutor, SharedArray, compute_with, delayed, lit};
use std::fs;
use std::sync::Arc;

/// 1 MB.
const LEN: usize = 125_000;

fn num_files() -> u64 {
    fs::read_dir("/proc/self/fd").unwrap().count() as u64
}

fn limit(resource: Resource, current: Option<u64>) {
    setrlimit(resource, Rlimit { current, maximum: getrlimit(resource).maximum }).unwrap();
}

fn small(executor: &Arc<ProcessExecutor>) -> sprang::Result<u64> {
    let tasks: Vec<_> = (0..100_u64).map(|n| delayed(|n: u64| n + 1, (n,))).collect();
    compute_with(Arc::clone(executor), tasks).map(|values| values.into_iter().sum())
}

fn made(count: u64) -> Vec<Delayed<SharedArray<u64>>> {
    (0..count).map(|n| delayed(|n: u64| SharedArray::from(vec![n; LEN]), (n,))).collect()
}

fn given(count: u64) -> Vec<Delayed<u64>> {
    (0..count).map(|n| delayed(|array: &SharedArray<u64>| array[0], (lit(SharedArray::from(vec![n; LEN])),))).collect()
}

/// Each live array takes an open file in this process.
#[test]
fn a_shortage_of_open_files_is_an_error_and_passes() {
    alone(|| {
        faults("a_shortage_of_open_files", 1, attempts(2), |executor| {
            assert_eq!(small(executor).unwrap(), 5050);
            let (before, num_used) = (getrlimit(Resource::Nofile).current, num_files());
            for room in [6, 10, 20, 30] {
                limit(Resource::Nofile, Some(num_used + room));
                for _ in 0..2 {
                    let error = compute_with(Arc::clone(executor), made(60)).unwrap_err();
                    let kind = error.kind();
                    let kinds = [ErrorKind::NoWorker, ErrorKind::NotPortable, ErrorKind::WorkerDied];
                    assert!(kinds.contains(&kind), "{error}");
                    let given = compute_with(Arc::clone(executor), given(60));
                    assert!(given.is_err() || given.is_ok_and(|sums| sums == (0..60).collect::<Vec<_>>()));
                }
                limit(Resource::Nofile, before);
                assert_eq!(small(executor).unwrap(), 5050);
            }
            let arrays = compute_with(Arc::clone(executor), made(60)).unwrap();
            assert!(arrays.iter().zip(0..).all(|(array, n)| array.iter().all(|&item| item == n)));
        });
    });
}

/// Also if the parent had hardly any when it first needed some.
#[test]
fn a_process_without_open_files_can_start_workers_later() {
    alone(|| {
        let before = getrlimit(Resource::Nofile).current;
        for room in [0, 1, 2, 3, 4, 6, 8, 12] {
            faults("a_process_without_open_files", 1, attempts(1), |executor| {
                limit(Resource::Nofile, Some(num_files() + room));
                let outcome = small(executor);
                limit(Resource::Nofile, before);
                if let Err(error) = outcome {
                    assert_eq!(error.kind(), ErrorKind::NoWorker, "{error}");
                }
                assert_eq!(small(executor).unwrap(), 5050);
            });
        }
    });
}

/// Shared memory is a file, and the system kills a process that makes a file that is too large.
#[test]
fn a_limit_on_the_size_of_files_is_an_error() {
    alone(|| {
        limit(Resource::Fsize, Some(100_000));
        faults("a_limit_on_the_size_of_files", 2, attempts(1), |executor| {
            let out = compute_with(Arc::clone(executor), made(2)).map(drop);
            let into = compute_with(Arc::clone(executor), given(2)).map(drop);
            for error in [out, into].map(Result::unwrap_err) {
                assert_eq!(error.kind(), ErrorKind::NotPortable, "{error}");
                assert!(error.to_string().contains("limited to 100000 bytes (ulimit -f)"), "{error}");
            }
            // Values that are not shared can be sent, whatever their size.
            let lengths: Vec<_> =
                (0..50_u8).map(|n| delayed(|bytes: &Vec<u8>| bytes.len(), (lit(vec![n; 30_000]),))).collect();
            assert_eq!(compute_with(Arc::clone(executor), lengths).unwrap(), [30_000; 50]);
            assert_eq!(small(executor).unwrap(), 5050);
        });
    });
}

#[test]
fn a_folder_for_temporary_files_that_is_of_no_use_is_named() {
    alone(|| {
        let before = std::env::temp_dir();
        let long = before.join("long".repeat(25));
        fs::create_dir(&long).unwrap();
        for (folder, problem) in [(long.as_path(), "more than 89 bytes"), ("/not/there".as_ref(), "No such file")] {
            let set = |folder: &std::path::Path| {
                // SAFETY: no other thread of this process reads or changes the environment now.
                unsafe { std::env::set_var("TMPDIR", folder) };
            };
            set(folder);
            let executor = Arc::new(ProcessExecutor::with_settings(2.try_into().unwrap(), attempts(1)));
            let error = small(&executor).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoWorker, "{error}");
            let text = error.to_string();
            assert!([folder.to_str().unwrap(), problem, "TMPDIR"].iter().all(|word| text.contains(word)), "{text}");
            set(&before);
            assert_eq!(small(&executor).unwrap(), 5050);
        }
        fs::remove_dir(long).unwrap();
    });
}
