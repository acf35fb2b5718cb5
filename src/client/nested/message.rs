//! What a task in a worker process and its parent say to each other about tasks that it hands in.
//!
//! What is encoded, arguments and values, lies behind the message, one piece after the other; the message has the lengths.

use crate::error::{Error, ErrorKind, RemoteError, WorkerExit, texts_of};
use crate::portable::code::CodeRef;
use serde::{Deserialize, Serialize};
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

/// What a task says. `task` is its number, which no other of its process ever has.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::client) enum Request {
    /// Asks whether it may hand in tasks: a [`bool`].
    Open { task: u64 },
    /// Asks for the [outcomes](Response) of what it has handed in and has not been told; if there are none and it `may_wait`, once there are.
    Await { task: u64, may_wait: bool },
    /// Hands in a task.
    Submit { task: u64, number: u64, call: Box<Call> },
    /// Does not want one of its tasks any more.
    Cancel { task: u64, number: u64 },
    /// It has come to its end; of what it has handed in these tasks go on.
    End { task: u64, detached: Vec<u64> },
}

/// A call of a task; its arguments and then its inputs lie behind it.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::client) struct Call {
    pub(super) code: CodeRef,
    pub(super) args_len: usize,
    pub(super) inputs: Vec<(CodeRef, usize)>,
    pub(super) name: Option<String>,
    pub(super) retries: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) priority: i32,
    pub(super) resources: Vec<(String, f64)>,
    pub(super) workers: Vec<String>,
}

/// The outcomes that there are. The values lie behind them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Response {
    pub(super) outcomes: Vec<(u64, TaskOutcome)>,
    /// Nothing that the task has handed in is left here.
    pub(super) is_all: bool,
}

/// How a task has ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum TaskOutcome {
    /// With a value of this length.
    Finished(usize),
    Failed(EncodedError),
    Cancelled(EncodedError),
    Lost(EncodedError),
}

/// An error on its way; the causes beneath it become texts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EncodedError {
    kind: u8,
    message: String,
    task: Option<String>,
    attempts: u32,
    path: Vec<String>,
    causes: Vec<String>,
    exit: Option<EncodedExit>,
}

/// A [`WorkerExit`] on its way.
#[derive(Debug, Serialize, Deserialize)]
struct EncodedExit {
    signal: Option<i32>,
    code: Option<i32>,
    max_rss_bytes: Option<u64>,
    stderr_tail: String,
}

/// A kind is its place here.
const KINDS: [ErrorKind; 19] = [
    ErrorKind::Panicked,
    ErrorKind::Failed,
    ErrorKind::TimedOut,
    ErrorKind::Cancelled,
    ErrorKind::Config,
    ErrorKind::DuplicateName,
    ErrorKind::NotPortable,
    ErrorKind::NotCloneable,
    ErrorKind::TooLarge,
    ErrorKind::Executor,
    ErrorKind::WorkerDied,
    ErrorKind::MemoryLimit,
    ErrorKind::NoWorker,
    ErrorKind::Closed,
    ErrorKind::Full,
    ErrorKind::NotShared,
    ErrorKind::NotSaved,
    ErrorKind::NotLoaded,
    ErrorKind::NotKept,
];

impl EncodedError {
    pub(super) fn of(error: &Error) -> Self {
        let place = KINDS.iter().position(|kind| *kind == error.kind());
        let exit = error.exit().map(|exit| EncodedExit {
            signal: exit.signal,
            code: exit.code,
            max_rss_bytes: exit.max_rss_bytes,
            stderr_tail: exit.stderr_tail.clone(),
        });
        EncodedError {
            kind: place.map_or(u8::MAX, |place| place as u8),
            message: error.message().into(),
            task: error.task().map(Into::into),
            attempts: error.attempts(),
            path: error.path().map(Into::into).collect(),
            causes: error.source().map_or_else(Vec::new, texts_of),
            exit,
        }
    }

    pub(super) fn read(self) -> Error {
        let kind = KINDS.get(self.kind as usize).copied().unwrap_or(ErrorKind::Failed);
        let mut error = Error::new(kind, self.message).with_path(self.path.into_iter().map(Into::into).collect());
        if let Some(task) = self.task {
            error = error.with_task(task.into(), self.attempts);
        }
        if let Some(cause) = RemoteError::new(self.causes) {
            error = error.with_source(Arc::new(cause) as Arc<dyn StdError + Send + Sync>);
        }
        match self.exit {
            None => error,
            Some(EncodedExit { signal, code, max_rss_bytes, stderr_tail }) => {
                error.with_exit(WorkerExit { signal, code, max_rss_bytes, stderr_tail })
            }
        }
    }
}

/// Takes a piece of this length off the front; `None` if there is not so much.
pub(super) fn take_piece<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (piece, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_same_on_the_other_side() {
        for kind in KINDS {
            let exit = WorkerExit { signal: Some(9), stderr_tail: "tail".into(), ..WorkerExit::default() };
            let cause = RemoteError::new(vec!["outer".into(), "inner".into()]).unwrap();
            let error = Error::new(kind, "outer")
                .with_source(Arc::new(cause) as Arc<dyn StdError + Send + Sync>)
                .with_exit(exit)
                .with_path(vec!["load".into(), "sum".into()])
                .with_task("load".into(), 3);
            let bytes = postcard::to_stdvec(&EncodedError::of(&error)).unwrap();
            let read = postcard::from_bytes::<EncodedError>(&bytes).unwrap().read();
            assert_eq!(format!("{error:#?}"), format!("{read:#?}"));
        }
    }
}
