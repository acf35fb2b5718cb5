//! The functions with which a task in a worker process sends requests to this process; see
//! [`remote::requests`](crate::executor::remote::requests).

pub(crate) use crate::executor::remote::requests::{Reply, RequestError, RequestHandler, Session};

#[cfg(not(all(target_os = "linux", not(miri))))]
use super::unsupported as worker;
#[cfg(all(target_os = "linux", not(miri)))]
use super::worker;
use crate::portable::codec::Codec;
use std::time::{Duration, Instant};

/// How long a task that waits for an answer keeps its worker thread: longer than most short waits,
/// and shorter than the start of a process and than a person can notice.
pub(super) const GIVE_WAY_AFTER: Duration = Duration::from_millis(5);
/// How long a waiting task that found no free spare slot waits before it looks again.
pub(super) const GIVE_WAY_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long an idle spare process is kept.
pub(super) const SPARE_IDLE: Duration = Duration::from_secs(5);

/// Sends a request and waits for the answer. If the deadline passes, or the task's run is
/// cancelled, the request is withdrawn; it still gets an answer.
///
/// # Errors
/// If this thread runs no task in a worker, or the run has no handler.
pub(crate) fn ask(question: Vec<u8>, deadline: Option<Instant>) -> Result<Vec<u8>, RequestError> {
    worker::ask(question, deadline)
}

/// Sends a message that has no answer, from any thread of a worker, and does not wait. The message
/// of a thread that runs no task may arrive with the worker's next message.
pub(crate) fn note(note: Vec<u8>) {
    worker::note(note);
}

/// Whether this thread runs a task in a worker. Then it can [`ask`].
pub(crate) fn runs_task() -> bool {
    worker::runs_task()
}

/// Calls a function on this thread when the task that it runs has ended, before the result is sent.
pub(crate) fn when_task_ends(call: Box<dyn FnOnce()>) {
    worker::when_task_ends(call);
}

/// How the worker of this thread encodes values.
pub(crate) fn codec() -> Codec {
    worker::codec()
}
