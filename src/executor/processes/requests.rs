//! How a task in a worker process asks something of this process, and waits for the answer.
//!
//! What is asked, and what the answers are, is known to the layer above alone: to this one they are bytes. It gives a [`RequestHandler`] for each run whose
//! tasks may ask. A worker that asks for the first time becomes a [`Session`] there. The slot of the task's thread takes the question to it, and the
//! answer back, which may come at once or later and from any thread. `protocol` has the messages.
//!
//! # What is always true
//!
//! 1. A task asks one thing at a time, and gets one answer, unless its worker ends. It blocks for it: no other task is run on top of it.
//! 2. A task that has waited for [`GIVE_WAY_AFTER`] holds up nobody: what was to be run after it in the same thread is taken back and goes to another
//!    process, a spare one, which takes the thread's place in its worker for good. When the task has ended, its process is a spare one.
//! 3. The end of a worker ends its caller, before what it was running is tried again. So what it held is free by then.

use crate::portable::codec::Codec;
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a task that waits for an answer keeps its place: long against the hold-ups that end by themselves, short against the start of a
/// process and a person.
pub(super) const GIVE_WAY_AFTER: Duration = Duration::from_millis(5);
/// How long a task that found no spare process waits before it looks for one again.
pub(super) const GIVE_WAY_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long a process that has nothing to do is kept for the next task that waits.
pub(super) const SPARE_IDLE: Duration = Duration::from_secs(5);

/// Where the tasks of a run ask.
pub(crate) trait RequestHandler: Send + Sync {
    /// A worker asks for the first time.
    fn admit(&self) -> Arc<dyn Session>;

    /// A task of the run has given up its place, until this is dropped.
    fn waits(&self) -> Box<dyn Any + Send>;
}

/// Takes the answer to one question.
pub(crate) type Reply = Box<dyn FnOnce(Vec<u8>) + Send>;

/// A worker process, at the handler.
pub(crate) trait Session: Send + Sync {
    /// A task asks. The number tells the question from others of this worker.
    fn ask(&self, number: u64, question: &[u8], reply: Reply);

    /// It cannot wait any longer: what has not been answered is to be answered now.
    fn withdraw(&self, number: u64);

    /// A question without an answer.
    fn note(&self, note: &[u8]);

    /// The process has ended. Nothing that it asked is to be answered any more, and it holds nothing any more.
    fn ended(&self);
}

/// Why a question was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// This is no thread of a worker that runs a task.
    NoTask,
    /// The run has no handler.
    NoDesk,
}

/// Asks, and waits for the answer. When the time is up before, or the task is not wanted any more, the question is withdrawn; it is answered
/// all the same.
///
/// # Errors
/// If this thread cannot ask, or nobody.
pub(crate) fn ask(question: Vec<u8>, deadline: Option<Instant>) -> Result<Vec<u8>, RequestError> {
    #[cfg(all(target_os = "linux", not(miri)))]
    return super::worker::ask(question, deadline);
    #[cfg(not(all(target_os = "linux", not(miri))))]
    {
        let _ = (question, deadline);
        Err(RequestError::NoTask)
    }
}

/// Tells something, from any thread of a worker, and waits for nothing. What is told by a thread that runs no task may arrive with what the worker
/// says next.
pub(crate) fn note(note: Vec<u8>) {
    #[cfg(all(target_os = "linux", not(miri)))]
    super::worker::note(note);
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = note;
}

/// Whether this thread runs a task in a worker, which can ask.
pub(crate) fn runs_task() -> bool {
    #[cfg(all(target_os = "linux", not(miri)))]
    return super::worker::runs_task();
    #[cfg(not(all(target_os = "linux", not(miri))))]
    false
}

/// Calls something on this thread, which runs a task, when that has come to its end, and before the parent is told so.
pub(crate) fn when_task_ends(call: Box<dyn FnOnce()>) {
    #[cfg(all(target_os = "linux", not(miri)))]
    super::worker::when_task_ends(call);
    #[cfg(not(all(target_os = "linux", not(miri))))]
    drop(call);
}

/// How the worker that this thread belongs to encodes values.
pub(crate) fn codec() -> Codec {
    #[cfg(all(target_os = "linux", not(miri)))]
    return super::worker::codec();
    #[cfg(not(all(target_os = "linux", not(miri))))]
    Codec::default()
}
