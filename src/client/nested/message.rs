//! The messages between a task in a worker process and the parent about nested tasks.
//!
//! Encoded arguments and values follow the message, one piece after the other. The message has
//! their lengths.

use crate::error::EncodedError;
use crate::graph::retry::Backoff;
use crate::portable::code::CodeRef;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// From a task. `task` is its number, which no other task of the process ever has.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::client) enum Request {
    /// May it submit tasks? The answer is a [`bool`].
    Open { task: u64 },
    /// Asks for the [outcomes](Response) that were not sent yet. If there is none and the task
    /// `may_wait`, the answer comes with the first.
    Await { task: u64, may_wait: bool },
    /// Submits a nested task.
    ///
    /// `configuration` is that of this nested task and the ones after it, until another is sent.
    Submit { task: u64, number: u64, call: Box<Call>, configuration: Option<Vec<u8>> },
    /// Cancels a nested task.
    Cancel { task: u64, number: u64 },
    /// The task has ended. Its `detached` nested tasks go on.
    End { task: u64, detached: Vec<u64> },
}

/// The call of a nested task. The arguments and then the inputs follow the message.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::client) struct Call {
    pub(super) code: CodeRef,
    pub(super) args_len: usize,
    pub(super) inputs: Vec<(CodeRef, NestedInput)>,
    pub(super) name: Option<String>,
    pub(super) retries: Option<u32>,
    pub(super) backoff: Option<Backoff>,
    pub(super) timeout: Option<Duration>,
    pub(super) priority: i32,
    pub(super) resources: Vec<(String, f64)>,
    pub(super) workers: Vec<String>,
}

/// An input of a nested task.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum NestedInput {
    /// The length of the value.
    Value(usize),
    /// It has failed, and the task takes the error.
    Failed(Box<EncodedError>),
}

/// The outcomes that were not sent yet. The values follow the message.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Response {
    pub(super) outcomes: Vec<(u64, TaskOutcome)>,
    /// The parent has no other nested tasks of this task.
    pub(super) is_all: bool,
}

/// The outcome of a nested task.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum TaskOutcome {
    /// The length of the value.
    Finished(usize),
    Failed(EncodedError),
    Cancelled(EncodedError),
    Lost(EncodedError),
}

/// Splits a piece of this length off the front; `None` if the bytes are too short.
pub(super) fn take_piece<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (piece, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(piece)
}
