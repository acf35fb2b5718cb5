//! Programs that tasks start, and the descriptors that workers and such programs have.

use crate::room::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sprang::config::Stdio;
use sprang::{ErrorKind, delayed};
use std::process::{Command, Stdio as StdStdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A logger that makes reading slower than writing.
struct SlowLog;

impl log::Log for SlowLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        std::thread::sleep(Duration::from_micros(20));
    }

    fn flush(&self) {}
}

#[test]
fn a_program_that_writes_without_end_does_not_hide_the_death_of_its_worker() {
    alone(|| {
        log::set_logger(&SlowLog).unwrap();
        log::set_max_level(log::LevelFilter::Info);
        let mut settings = attempts(2);
        settings.stdio = Stdio::Capture;
        faults("a_program_that_writes_without_end", 2, settings, |executor| {
            let task = delayed(
                || -> u32 {
                    for _ in 0..4 {
                        let program = Command::new("yes").arg("a word without end").spawn().unwrap();
                        std::mem::forget(program);
                    }
                    std::process::abort()
                },
                (),
            );
            let error = task.compute_with(Arc::clone(executor)).unwrap_err();
            assert_eq!((error.kind(), error.attempts()), (ErrorKind::WorkerDied, 2), "{error}");
            let next: Vec<_> = (0..100_u64).map(|n| delayed(|n: u64| n + 1, (n,))).collect();
            assert_eq!(sprang::compute_with(Arc::clone(executor), next).unwrap().len(), 100);
        });
    });
}

#[test]
fn workers_do_not_keep_the_files_of_the_program_open() {
    alone(|| {
        // Without `CLOEXEC`, as some C libraries open files.
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let writer = Mutex::new(Some(writer));
        faults("workers_do_not_keep_the_files", 2, attempts(1), |executor| {
            let pids: Vec<_> = (0..8).map(|_| delayed(std::process::id, ())).collect();
            assert_eq!(sprang::compute_with(Arc::clone(executor), pids).unwrap().len(), 8);
            drop(writer.lock().unwrap().take());
            let mut fds = [PollFd::new(&reader, PollFlags::IN)];
            let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
            assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "a worker holds the other end");
            assert!(fds[0].revents().contains(PollFlags::HUP));
        });
    });
}

#[test]
fn a_program_that_a_task_starts_has_the_standard_files_alone() {
    faults("a_program_that_a_task_starts", 1, attempts(1), |executor| {
        let task = delayed(
            |folder: &str| {
                let output = Command::new("ls").arg(folder).stdin(StdStdio::null()).output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            },
            ("/proc/self/fd",),
        );
        let numbers = task.compute_with(Arc::clone(executor)).unwrap();
        // The last is that of the folder.
        assert_eq!(numbers.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    });
}
