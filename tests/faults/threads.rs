//! Several threads in a worker, and several slots in this process, that depend on each other.

use crate::room::*;
use sprang::config::ProcessSettings;
use sprang::{ErrorKind, SharedArray, compute_with, config, delayed, delayed_local, try_delayed};
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn two_threads() -> ProcessSettings {
    let mut settings = attempts(1);
    settings.threads_per_worker = NonZeroUsize::new(2).unwrap();
    settings
}

/// Called by two tasks: waits until both have called it.
fn meet(room: &str, wave: &str, number: u32) {
    assert!(put_number(room, &format!("{wave}-{number}"), 0));
    wait_for(Path::new(&format!("{room}/{wave}-{}", 1 - number)));
}

#[derive(Debug)]
struct Mute;

impl fmt::Display for Mute {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("it cannot be said")
    }
}

impl std::error::Error for Mute {}

/// The run continues, whichever thread the panic happens on.
#[test]
fn an_error_that_panics_when_it_is_displayed() {
    for settings in [attempts(1), two_threads()] {
        let room = Room::new();
        let num_tasks = settings.threads_per_worker.get() as u32;
        faults("an_error_that_panics_when_it_is_displayed", 1, settings, |executor| {
            let fails = |room: String, number: u32, num_tasks: u32| -> Result<u32, Mute> {
                if num_tasks > 1 {
                    meet(&room, "fails", number);
                }
                Err(Mute)
            };
            let tasks: Vec<_> = (0..num_tasks).map(|n| try_delayed(fails, (room.name(), n, num_tasks))).collect();
            let results = {
                let _scope = config::scoped("scheduler", Arc::clone(executor)).unwrap();
                sprang::compute_each(tasks).unwrap()
            };
            for result in results {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
            }
        });
    }
}

const LEN: usize = 64 << 10;

fn passes(array: &SharedArray<u64>) -> SharedArray<u64> {
    array.clone()
}

/// A thread returns an array that another thread has received. The parent sent it to the one and
/// gets it from the other.
#[test]
fn an_array_goes_to_one_thread_and_comes_back_from_another() {
    let room = Room::new();
    let mut settings = two_threads();
    settings.max_tasks_per_worker = NonZeroU64::new(5);
    faults("an_array_goes_to_one_thread_and_comes_back_from_another", 1, settings, |executor| {
        let source = delayed(|| SharedArray::from(vec![7_u64; LEN]), ());
        let source = config::with("scheduler", "sync", || source.persist()).unwrap().unwrap();
        let first = |room: String, array: &SharedArray<u64>, number: u32| {
            meet(&room, "first", number);
            (std::thread::current().name().map(str::to_owned), array.len())
        };
        let second = |room: String, array: &SharedArray<u64>, number: u32, _: &(Option<String>, usize)| {
            meet(&room, "second", number);
            passes(array)
        };
        let third = |room: String, array: &SharedArray<u64>, number: u32, _: &SharedArray<u64>| {
            meet(&room, "third", number);
            passes(array)
        };
        // The first two tasks decode the array, the others use the kept value.
        let firsts = [0_u32, 1].map(|n| delayed(first, (room.name(), &source, n)));
        let seconds = [0_u32, 1].map(|n| delayed(second, (room.name(), &source, n, &firsts[1 - n as usize])));
        let thirds = [0_u32, 1].map(|n| delayed(third, (room.name(), &source, n, &seconds[1 - n as usize])));
        let arrays = compute_with(Arc::clone(executor), thirds.to_vec()).unwrap();
        assert!(arrays.iter().all(|array| array.iter().all(|&item| item == 7)));
    });
}

/// An array in the parent stays valid when the worker that sent it ends, whichever of its threads
/// sent it.
#[test]
fn an_array_that_came_back_from_another_thread_outlives_the_worker() {
    let room = Room::new();
    let mut settings = two_threads();
    settings.max_tasks_per_worker = NonZeroU64::new(3);
    faults("an_array_that_came_back_from_another_thread", 1, settings, |executor| {
        let source = delayed(|| SharedArray::from(vec![7_u64; LEN]), ());
        let source = config::with("scheduler", "sync", || source.persist()).unwrap().unwrap();
        let pid_and_thread = || format!("{} {:?}", std::process::id(), std::thread::current().id());
        let first = move |array: &SharedArray<u64>| (array.len(), pid_and_thread());
        let second = move |room: String, array: &SharedArray<u64>, number: u32, first: &(usize, String)| {
            assert_eq!(first.0, LEN);
            meet(&room, "second", number);
            (passes(array), pid_and_thread())
        };
        let first = delayed(first, (&source,));
        let seconds = [0_u32, 1].map(|n| delayed(second, (room.name(), &source, n, &first)));
        let ((_, place), arrays) = compute_with(Arc::clone(executor), (first, seconds.to_vec())).unwrap();
        let from_the_other: Vec<_> =
            arrays.into_iter().filter(|(_, other)| *other != place).map(|(array, _)| array).collect();
        assert_eq!(from_the_other.len(), 1, "{place}");
        let pid: u32 = place.split(' ').next().unwrap().parse().unwrap();
        wait_until_gone(pid);
        // Other arrays of the same size, in memory that is free again.
        for value in 8..12_u64 {
            let other = delayed(|value: u64| SharedArray::from(vec![value; LEN]), (value,));
            let other = config::with("scheduler", "sync", || other.persist()).unwrap().unwrap();
            let sum = delayed(|array: &SharedArray<u64>| array.iter().sum::<u64>(), (&other,));
            assert_eq!(sum.compute_with(Arc::clone(executor)).unwrap(), value * LEN as u64);
            assert!(from_the_other[0].iter().all(|&item| item == 7), "{:?}", from_the_other[0]);
        }
    });
}

static IS_EVIL: AtomicBool = AtomicBool::new(false);

/// Panics when it is dropped in this process.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Evil(Vec<u32>);

impl Drop for Evil {
    fn drop(&mut self) {
        if IS_EVIL.load(Ordering::Relaxed) && !std::thread::panicking() {
            panic!("it does not want to go");
        }
    }
}

/// The slot that brings back the result of the reader drops the last handle of the value.
#[test]
fn a_value_that_panics_when_a_slot_drops_it() {
    let room = Room::new();
    faults("a_value_that_panics_when_a_slot_drops_it", 2, attempts(1), |executor| {
        let evil = delayed(|| Evil(vec![1, 2]), ());
        let here = delayed_local(
            |evil: &Evil, room: String| {
                IS_EVIL.store(true, Ordering::Relaxed);
                put_number(&room, "here", 0);
                evil.0.len()
            },
            (&evil, room.name()),
        );
        let there = delayed(
            |evil: &Evil, room: String| {
                wait_for(Path::new(&format!("{room}/here")));
                wait_for(Path::new(&format!("{room}/over")));
                evil.0.len()
            },
            (&evil, room.name()),
        )
        .name("reader");
        // The result is reported after the value was dropped.
        let over = delayed_local(|_: &usize, room: String| put_number(&room, "over", 0), (&here, room.name()));
        let result = compute_with(Arc::clone(executor), (there, over));
        IS_EVIL.store(false, Ordering::Relaxed);
        // As on threads, the task that drops the value panics.
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.task()), (ErrorKind::Panicked, Some("reader")), "{error}");
        // All slots still work.
        let tasks = [0_u32, 1].map(|n| delayed(|room: String, n: u32| meet(&room, "after", n), (room.name(), n)));
        compute_with(Arc::clone(executor), tasks.to_vec()).unwrap();
    });
}
