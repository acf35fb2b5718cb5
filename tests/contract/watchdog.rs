//! Turns a hang into a failure.

use std::any::Any;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `body` on a thread of its own. If it does not return within a minute, prints a message and
/// aborts, since a thread that hangs cannot be ended in any other way.
pub(crate) fn watched<R: Send>(what: &str, body: impl FnOnce() -> R + Send) -> R {
    watched_with_stack(what, None, body)
}

/// As [`watched`], on a thread with a stack of this many bytes.
pub(crate) fn watched_with_stack<R: Send>(
    what: &str,
    stack_bytes: Option<usize>,
    body: impl FnOnce() -> R + Send,
) -> R {
    watched_by_steps(what, stack_bytes, &AtomicU64::new(0), body)
}

/// As [`watched_with_stack`], for a body that takes many steps and counts them: it aborts once
/// there has been no step for a minute.
pub(crate) fn watched_by_steps<R: Send>(
    what: &str,
    stack_bytes: Option<usize>,
    steps: &AtomicU64,
    body: impl FnOnce() -> R + Send,
) -> R {
    let (sender, receiver) = mpsc::sync_channel::<Result<R, Box<dyn Any + Send>>>(1);
    let outcome = thread::scope(|scope| {
        let mut thread = thread::Builder::new().name(what.into());
        if let Some(stack_bytes) = stack_bytes {
            thread = thread.stack_size(stack_bytes);
        }
        thread
            .spawn_scoped(scope, move || sender.send(catch_unwind(AssertUnwindSafe(body))))
            .expect("a thread can be started");
        loop {
            let seen = steps.load(Relaxed);
            match receiver.recv_timeout(PATIENCE) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Timeout) if steps.load(Relaxed) != seen => {}
                Err(RecvTimeoutError::Timeout) => give_up(what),
                Err(RecvTimeoutError::Disconnected) => unreachable!("the thread sends its outcome"),
            }
        }
    });
    outcome.unwrap_or_else(|payload| resume_unwind(payload))
}

fn give_up(what: &str) -> ! {
    // The test harness would capture the output of `eprintln!`.
    let _ = writeln!(std::io::stderr(), "no end within {PATIENCE:?}: {what}");
    std::process::abort()
}
