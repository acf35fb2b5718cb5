//! Requests of tasks outside this process to this process, and their answers.
//!
//! To executors, requests and answers are bytes; the layer above defines their meaning. That layer
//! provides a [`RequestHandler`] for each run whose tasks may send requests. The handler opens a
//! [`Session`] for a worker at its first request. The slot of the task forwards the request to the
//! session, and the answer to the task. The answer may come at once or later, from any thread.
//!
//! # What is always true
//!
//! 1. A task has at most one open request, and gets one answer, unless its worker ends. The task
//!    blocks for the answer: no other task runs on top of it.
//! 2. When a worker ends, its session ends before the worker's tasks are retried. So everything
//!    that the session held is released by then.

use std::any::Any;
use std::sync::Arc;

/// Answers the requests of the tasks of a run.
pub(crate) trait RequestHandler: Send + Sync {
    /// Begins the session of a worker at its first request.
    fn admit(&self) -> Arc<dyn Session>;

    /// A task of the run waits, and has given up its worker thread, until the returned guard is
    /// dropped.
    fn waits(&self) -> Box<dyn Any + Send>;
}

/// Takes the answer to one request.
pub(crate) type Reply = Box<dyn FnOnce(Vec<u8>) + Send>;

/// The requests of one worker, and what the worker holds at the handler.
pub(crate) trait Session: Send + Sync {
    /// Handles a request of a task. The number distinguishes it from other requests of this worker.
    fn ask(&self, number: u64, question: &[u8], reply: Reply);

    /// The task cannot wait any longer: the handler answers the request now, if it has not done so.
    fn withdraw(&self, number: u64);

    /// A task sends a message that has no answer.
    fn note(&self, note: &[u8]);

    /// The worker has ended. Its open requests are dropped, and it holds nothing any more.
    fn ended(&self);
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// This is not a thread of a worker that runs a task.
    NoTask,
    /// The run has no handler.
    NoHandler,
}
