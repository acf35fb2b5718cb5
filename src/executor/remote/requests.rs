//! How a task outside this process asks this process for something, and waits for the answer.
//!
//! The layer above knows what requests and answers mean; to executors they are bytes. That layer
//! gives a [`RequestHandler`] for each run whose tasks may ask. A worker that asks for the first
//! time gets a [`Session`] from the handler. The slot of the task passes the request to the
//! session, and the answer back, which may come at once or later and from any thread.
//!
//! # What is always true
//!
//! 1. A task has at most one open request, and gets one answer, unless its worker ends. The task
//!    blocks for the answer: no other task runs on top of it.
//! 2. The end of a worker ends its session before the worker's tasks are tried again. So what the
//!    session held is free by then.

use std::any::Any;
use std::sync::Arc;

/// Answers the requests of the tasks of a run.
pub(crate) trait RequestHandler: Send + Sync {
    /// Begins the session of a worker that asks for the first time.
    fn admit(&self) -> Arc<dyn Session>;

    /// A task of the run waits and has given its worker thread away, until the returned guard is
    /// dropped.
    fn waits(&self) -> Box<dyn Any + Send>;
}

/// Takes the answer to one request.
pub(crate) type Reply = Box<dyn FnOnce(Vec<u8>) + Send>;

/// One worker, as its handler sees it.
pub(crate) trait Session: Send + Sync {
    /// A task asks. The number distinguishes the request from others of this worker.
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
