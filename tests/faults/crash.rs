//! Tasks that end their process, or try to.

use crate::deeds::{At, Deed, Probe, deeper, eat, fail_to_allocate, raise, segfault};
use crate::room::*;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use sprang::config::{ProcessSettings, Stdio};
use sprang::{Delayed, Error, ErrorKind, ProcessExecutor, delayed, lit};
use std::sync::Arc;

fn captured(num_attempts: u32) -> ProcessSettings {
    let mut settings = attempts(num_attempts);
    settings.stdio = Stdio::Capture;
    settings
}

fn error_of<T: Clone + Send + Sync + 'static>(executor: &Arc<ProcessExecutor>, task: Delayed<T>) -> Error {
    task.name("deed").compute_with(Arc::clone(executor)).map(drop).unwrap_err()
}

/// Runs a task that ends its worker. The next task works.
fn dies<T: Clone + Send + Sync + 'static>(what: &str, make: impl Fn() -> Delayed<T> + Send + Sync) -> Error {
    faults(what, 1, captured(2), |executor| {
        let error = error_of(executor, make());
        assert_eq!((error.kind(), error.task(), error.attempts()), (ErrorKind::WorkerDied, Some("deed"), 2), "{error}");
        assert!(error.to_string().contains("kills its worker"), "{error}");
        assert!(delayed(std::process::id, ()).compute_with(Arc::clone(executor)).is_ok());
        error
    })
}

fn signal_of(error: &Error) -> Option<i32> {
    error.exit().unwrap().signal
}

#[test]
fn segv() {
    let error = dies("segv", || delayed(|| -> u32 { segfault() }, ()));
    assert_eq!(signal_of(&error), Some(libc::SIGSEGV), "{error}");
}

#[test]
fn abort() {
    let error = dies("abort", || {
        delayed(
            || -> u32 {
                use std::io::Write;
                let _ = writeln!(std::io::stderr(), "this is the end");
                std::process::abort()
            },
            (),
        )
    });
    assert_eq!(signal_of(&error), Some(libc::SIGABRT), "{error}");
    assert_eq!(error.exit().unwrap().stderr_tail, "this is the end");
    assert!(!error.to_string().contains("this is the end"), "{error}");
    assert!(format!("{error:#}").contains("\n  this is the end"), "{error:#}");
}

#[test]
fn any_signal() {
    for signal in [Signal::KILL, Signal::TERM, Signal::BUS, Signal::ILL, Signal::FPE] {
        let number = signal.as_raw();
        let error = dies("any_signal", || {
            delayed(|number: i32| -> u32 { raise(Signal::from_named_raw(number).unwrap()) }, (number,))
        });
        assert_eq!(signal_of(&error), Some(number), "{error}");
    }
}

#[test]
fn exit_zero() {
    for code in [0, 3] {
        let error = dies("exit_zero", || delayed(|code: i32| -> u32 { std::process::exit(code) }, (code,)));
        assert_eq!(error.exit().unwrap().code, Some(code), "{error}");
        assert_eq!(signal_of(&error), None);
    }
}

/// A task that returns its argument, which has the deed in it.
fn passing(at: At, deed: Deed) -> Delayed<u32> {
    delayed(
        |probe: &Probe| {
            probe.pass(At::Task);
            std::process::id()
        },
        (lit(Probe::new(at, deed)),),
    )
}

#[test]
fn exit_in_decode() {
    for deed in [Deed::Exit(0), Deed::Abort] {
        dies("exit_in_decode", || passing(At::Decode, deed.clone()));
    }
}

/// Fails without harm to the worker.
fn only_fails(at: At, deed: Deed) -> Error {
    faults(&format!("{deed:?} at {at:?}"), 1, attempts(2), |executor| {
        let pid = || delayed(std::process::id, ()).compute_with(Arc::clone(executor)).unwrap();
        let before = pid();
        let error = match at {
            At::Encode => {
                let probe = delayed(|home: u32, deed: &Deed| Probe::of(home, At::Encode, deed), {
                    (std::process::id(), lit(deed))
                });
                error_of(executor, probe)
            }
            _ => error_of(executor, passing(at, deed)),
        };
        assert_eq!((error.task(), error.attempts()), (Some("deed"), 1), "{error}");
        assert_eq!(pid(), before, "{error}");
        error
    })
}

#[test]
fn panic_in_task() {
    let error = only_fails(At::Task, Deed::Panic);
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.message().starts_with("as it was told (at "), "{error}");
}

#[test]
fn panic_with_any_payload() {
    let error = only_fails(At::Task, Deed::PanicAny);
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.message().starts_with("a value that is not text"), "{error}");
}

#[test]
fn panic_in_decode() {
    for deed in [Deed::Panic, Deed::PanicAny] {
        let error = only_fails(At::Decode, deed);
        assert!(matches!(error.kind(), ErrorKind::Panicked | ErrorKind::NotPortable), "{error:?}");
    }
}

#[test]
fn panic_in_encode() {
    for deed in [Deed::Panic, Deed::PanicAny] {
        let error = only_fails(At::Encode, deed);
        assert_eq!(error.kind(), ErrorKind::NotPortable);
        assert!(error.message().contains("encoding panicked: "), "{error}");
    }
}

#[test]
fn panic_in_drop() {
    for deed in [Deed::Panic, Deed::PanicAny] {
        faults("panic_in_drop", 1, attempts(2), |executor| {
            let pid = || delayed(std::process::id, ()).compute_with(Arc::clone(executor)).unwrap();
            let before = pid();
            let home = std::process::id();
            let make = |home: u32, deed: &Deed| Probe::of(home, At::Drop, deed);
            let take = |probe: &Probe| probe.home;
            let made = delayed(make, (home, lit(deed.clone())));
            // Nobody learns of a value that panics when the worker drops it after it was sent.
            assert_eq!(made.compute_with(Arc::clone(executor)).unwrap().home, home);
            // As on threads, a task is to blame for what it drops: an input or an argument.
            let read = delayed(take, (&made,)).name("deed");
            let literal = delayed(take, (lit(Probe::new(At::Drop, deed.clone())),)).name("deed");
            let taken = delayed(|probe: Probe| probe.home, (made,)).name("deed");
            for task in [read, literal, taken] {
                let error = task.compute_with(Arc::clone(executor)).unwrap_err();
                assert_eq!((error.kind(), error.task()), (ErrorKind::Panicked, Some("deed")), "{error}");
            }
            assert_eq!(pid(), before);
        });
    }
}

#[test]
fn stack_overflow() {
    let error = dies("stack_overflow", || delayed(|| deeper(0) as u32, ()));
    assert!(matches!(signal_of(&error), Some(libc::SIGABRT | libc::SIGSEGV)), "{error}");
    assert!(error.to_string().contains("stack overflow"), "{error}");
}

#[test]
fn oom_by_the_memory_limit() {
    let mut settings = attempts(2);
    settings.memory_limit = Some(200 << 20);
    // Small tasks beside it do not delay the check of the memory.
    faults("oom_by_the_memory_limit", 2, settings, |executor| {
        let eater = delayed(
            || {
                for _ in 0..2000 {
                    eat(4 << 20);
                    std::thread::sleep(std::time::Duration::from_millis(4));
                }
            },
            (),
        );
        let mut chain = delayed(|| 0_u64, ());
        for _ in 0..300 {
            chain = delayed(
                |n: &u64| {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    n + 1
                },
                (&chain,),
            );
        }
        let outcome = sprang::compute_with(Arc::clone(executor), (eater.name("eater"), chain));
        let error = outcome.unwrap_err();
        assert_eq!(
            (error.kind(), error.task(), error.attempts()),
            (ErrorKind::MemoryLimit, Some("eater"), 2),
            "{error}"
        );
        assert!(
            error.exit().unwrap().max_rss_bytes.is_some_and(|bytes| (200 << 20..2 << 30).contains(&bytes)),
            "{error}"
        );
    });
}

#[test]
fn allocation_that_fails() {
    let error = dies("allocation_that_fails", || delayed(|| -> u32 { fail_to_allocate() }, ()));
    assert_eq!(signal_of(&error), Some(libc::SIGABRT), "{error}");
    assert!(error.exit().unwrap().stderr_tail.contains("memory allocation of 8589934592 bytes failed"), "{error}");
}

#[test]
fn the_exit_tells_the_peak_of_memory() {
    let error = dies("the_exit_tells_the_peak_of_memory", || {
        delayed(
            || -> u32 {
                eat(700 << 20);
                std::process::abort()
            },
            (),
        )
    });
    let peak = error.exit().unwrap().max_rss_bytes;
    assert!(peak.is_some_and(|peak| (700 << 20..2 << 30).contains(&peak)), "{error:?}");
}

/// The value is computed, and then its worker cannot send it.
#[test]
fn a_value_that_cannot_be_sent_is_not_computed_for_ever() {
    let room = Room::new();
    let name = room.name();
    let error = dies("a_value_that_cannot_be_sent", || {
        let task = |room: String| {
            note_attempt(&room);
            let maximum = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum }).unwrap();
            vec![7_u8; 250_000]
        };
        delayed(task, (name.clone(),))
    });
    assert_eq!((signal_of(&error), error.exit().unwrap().code), (None, Some(115)), "{error}");
    // The first time, the worker may have been killed from outside.
    assert!(room.path("attempt-2").exists() && !room.path("attempt-3").exists());
}

#[test]
fn workers_write_no_core_dumps() {
    faults("workers_write_no_core_dumps", 1, attempts(1), |executor| {
        let limit = delayed(|| getrlimit(Resource::Core).current, ()).compute_with(Arc::clone(executor)).unwrap();
        assert!(limit.is_some_and(|limit| limit <= 1), "{limit:?}");
    });
}
