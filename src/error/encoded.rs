//! Errors that cross to another process.

use super::{Error, ErrorKind, RemoteError, WorkerExit, texts_of};
use serde::{Deserialize, Serialize};
use std::error::Error as StdError;
use std::sync::Arc;

/// An encoded [`Error`]. Its sources become texts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EncodedError {
    kind: u8,
    message: String,
    task: Option<String>,
    attempts: u32,
    /// As in `kind`.
    attempt_kinds: Vec<u8>,
    path: Vec<String>,
    causes: Vec<String>,
    exit: Option<EncodedExit>,
}

/// An encoded [`WorkerExit`].
#[derive(Debug, Serialize, Deserialize)]
struct EncodedExit {
    signal: Option<i32>,
    code: Option<i32>,
    max_rss_bytes: Option<u64>,
    stderr_tail: String,
}

/// An error kind is encoded as its index here.
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
    pub(crate) fn new(error: &Error) -> Self {
        let index =
            |kind: ErrorKind| KINDS.iter().position(|other| *other == kind).map_or(u8::MAX, |index| index as u8);
        let exit = error.exit().map(|exit| EncodedExit {
            signal: exit.signal,
            code: exit.code,
            max_rss_bytes: exit.max_rss_bytes,
            stderr_tail: exit.stderr_tail.clone(),
        });
        EncodedError {
            kind: index(error.kind()),
            message: error.message().into(),
            task: error.task().map(Into::into),
            attempts: error.attempts(),
            attempt_kinds: error.attempt_kinds().iter().copied().map(index).collect(),
            path: error.path().map(Into::into).collect(),
            causes: error.source().map_or_else(Vec::new, texts_of),
            exit,
        }
    }

    pub(crate) fn decode(self) -> Error {
        let kind = |index: u8| KINDS.get(index as usize).copied().unwrap_or(ErrorKind::Failed);
        let attempt_kinds = self.attempt_kinds.into_iter().map(kind).collect();
        let mut error = Error::new(kind(self.kind), self.message)
            .with_attempt_kinds(attempt_kinds)
            .with_path(self.path.into_iter().map(Into::into).collect());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_encoding() {
        for kind in KINDS {
            let exit = WorkerExit { signal: Some(9), stderr_tail: "tail".into(), ..WorkerExit::default() };
            let cause = RemoteError::new(vec!["outer".into(), "inner".into()]).unwrap();
            let error = Error::new(kind, "outer")
                .with_source(Arc::new(cause) as Arc<dyn StdError + Send + Sync>)
                .with_exit(exit)
                .with_path(vec!["load".into(), "sum".into()])
                .with_attempt_kinds(vec![ErrorKind::TimedOut, kind])
                .with_task("load".into(), 3);
            let bytes = postcard::to_stdvec(&EncodedError::new(&error)).unwrap();
            let decoded = postcard::from_bytes::<EncodedError>(&bytes).unwrap().decode();
            assert_eq!(format!("{error:#?}"), format!("{decoded:#?}"));
        }
    }
}
