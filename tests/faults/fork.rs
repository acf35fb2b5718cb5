//! Tasks that copy their process, or close files that are not their own.

use crate::deeds::{close, exit_at_once, fork, open_files};
use crate::room::*;
use rustix::process::{Signal, WaitOptions, waitpid};
use sprang::{ErrorKind, delayed};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn fork_and_return() {
    faults("fork_and_return", 1, attempts(1), |executor| {
        for _ in 0..10 {
            // Both processes return a value. The value of the copy is ignored.
            let task = delayed(
                |home: u32| {
                    let before = std::process::id();
                    fork();
                    (before, std::process::id(), home)
                },
                (std::process::id(),),
            );
            let (before, after, home) = task.compute_with(Arc::clone(executor)).unwrap();
            assert_eq!((before, home), (after, std::process::id()));
        }
        let tasks: Vec<_> = (0..1000_u64).map(|n| delayed(|n: u64| n + 1, (n,))).collect();
        let expected: Vec<u64> = (1..=1000).collect();
        assert_eq!(sprang::compute_with(Arc::clone(executor), tasks).unwrap(), expected);
    });
}

#[test]
fn fork_and_exit() {
    faults("fork_and_exit", 1, attempts(1), |executor| {
        let task = delayed(
            |is_orderly: bool| match fork() {
                None if is_orderly => std::process::exit(3),
                None => exit_at_once(3),
                Some(child) => {
                    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
                    status.exit_status()
                }
            },
            (true,),
        );
        assert_eq!(task.compute_with(Arc::clone(executor)).unwrap(), Some(3));
        let task = delayed(
            || match fork() {
                None => exit_at_once(4),
                Some(child) => waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap().1.exit_status(),
            },
            (),
        );
        assert_eq!(task.compute_with(Arc::clone(executor)).unwrap(), Some(4));
    });
}

#[test]
fn a_copy_that_panics_is_gone() {
    let room = Room::new();
    faults("a_copy_that_panics_is_gone", 1, attempts(1), |executor| {
        let task = delayed(
            |room: String| match fork() {
                None => {
                    note_attempt(&room);
                    panic!("in the copy")
                }
                Some(child) => waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap().1.exit_status(),
            },
            (room.name(),),
        );
        assert_eq!(task.compute_with(Arc::clone(executor)).unwrap(), Some(0));
        wait_for(&room.path("attempt-0"));
    });
}

#[test]
fn a_copy_that_lives_does_not_hide_the_end_of_its_worker() {
    for is_captured in [false, true] {
        let room = Room::new();
        let mut settings = attempts(1);
        if is_captured {
            settings.stdio = sprang::config::Stdio::Capture;
        }
        faults("a_copy_that_lives", 1, settings, |executor| {
            let task = delayed(
                |room: String| -> u32 {
                    if fork().is_none() {
                        note_attempt(&room);
                        hold();
                    }
                    wait_for(std::path::Path::new(&format!("{room}/attempt-0")));
                    put_number(&room, "died", nanos_now());
                    std::process::abort()
                },
                (room.name(),),
            );
            let error = task.compute_with(Arc::clone(executor)).unwrap_err();
            let late = Duration::from_nanos(nanos_now() - room.number("died"));
            assert_eq!(error.kind(), ErrorKind::WorkerDied);
            assert!(late < Duration::from_secs(10), "{late:?}");
            let copy = room.pid("attempt-0");
            assert!(runs(copy));
            let begin = Instant::now();
            assert!(delayed(std::process::id, ()).compute_with(Arc::clone(executor)).is_ok());
            assert!(begin.elapsed() < Duration::from_secs(10));
            send_signal(copy, Signal::KILL);
        });
    }
}

#[test]
fn close_all_files() {
    for num_threads in [1, 2] {
        let mut settings = attempts(2);
        settings.threads_per_worker = std::num::NonZeroUsize::new(num_threads).unwrap();
        faults("close_all_files", 1, settings, |executor| {
            let task = delayed(|| close(3..4096), ()).name("close");
            let error = task.compute_with(Arc::clone(executor)).unwrap_err();
            assert_eq!(
                (error.kind(), error.task(), error.attempts()),
                (ErrorKind::WorkerDied, Some("close"), 2),
                "{error}"
            );
            assert!(delayed(std::process::id, ()).compute_with(Arc::clone(executor)).is_ok());
        });
    }
}

#[test]
fn close_all_files_once() {
    let room = Room::new();
    faults("close_all_files_once", 2, attempts(3), |executor| {
        let task = delayed(
            |room: String| {
                if note_attempt(&room) == 0 {
                    close(3..4096);
                }
                17
            },
            (room.name(),),
        );
        assert_eq!(task.compute_with(Arc::clone(executor)).unwrap(), 17);
        assert!(room.path("attempt-1").exists());
    });
}

#[test]
fn close_stdio() {
    faults("close_stdio", 1, attempts(1), |executor| {
        let task = delayed(
            || {
                close(0..3);
                std::process::id()
            },
            (),
        );
        let pid = task.compute_with(Arc::clone(executor)).unwrap();
        // The next files to be opened get these numbers, and a panic has nowhere to write.
        let again = delayed(
            || {
                let before = open_files().len();
                assert!(before > 0);
                let panics = std::panic::catch_unwind(|| panic!("nobody hears it")).is_err();
                (panics, std::process::id())
            },
            (),
        );
        assert_eq!(again.compute_with(Arc::clone(executor)).unwrap(), (true, pid));
        let tasks: Vec<_> = (0..1000_u64).map(|n| delayed(|n: u64| vec![n; 100], (n,))).collect();
        let values = sprang::compute_with(Arc::clone(executor), tasks).unwrap();
        assert!(values.iter().enumerate().all(|(n, value)| *value == vec![n as u64; 100]));
    });
}
