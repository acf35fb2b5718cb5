//! The states and outcomes of promises.

use crate::error::Error;
use std::fmt;
use std::sync::Arc;

pub(super) const WAITING: u32 = 0;
pub(super) const RUNNING: u32 = 1;
pub(super) const FINISHED: u32 = 2;
pub(super) const FAILED: u32 = 3;
pub(super) const CANCELLED: u32 = 4;
pub(super) const LOST: u32 = 5;

/// The state of a [`TaskFuture`](super::TaskFuture).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// The task waits for its inputs, or for a worker.
    Pending,
    /// A worker runs the task.
    Running,
    /// The result is available.
    Finished,
    /// The task or one of its inputs failed.
    Failed,
    /// The task or one of its inputs was cancelled.
    Cancelled,
    /// The cluster was closed before the task had finished.
    Lost,
}

impl Status {
    /// Whether the state is final: finished, failed, cancelled or lost.
    pub fn is_settled(self) -> bool {
        !matches!(self, Status::Pending | Status::Running)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Finished => "finished",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Lost => "lost",
        })
    }
}

/// The final state of a promise, with its error.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The value is stored.
    Finished,
    Failed(Error),
    Cancelled(Error),
    Lost(Error),
}

impl Outcome {
    pub(super) fn state(&self) -> u32 {
        match self {
            Outcome::Finished => FINISHED,
            Outcome::Failed(_) => FAILED,
            Outcome::Cancelled(_) => CANCELLED,
            Outcome::Lost(_) => LOST,
        }
    }

    pub(super) fn error(&self) -> Option<&Error> {
        match self {
            Outcome::Finished => None,
            Outcome::Failed(error) | Outcome::Cancelled(error) | Outcome::Lost(error) => Some(error),
        }
    }

    /// The outcome of a task that needs the value.
    pub(super) fn for_dependent(&self, name: &Arc<str>) -> Outcome {
        match self {
            Outcome::Finished => Outcome::Finished,
            Outcome::Failed(error) => Outcome::Failed(error.clone().needed_by(name)),
            Outcome::Cancelled(error) => Outcome::Cancelled(error.clone().needed_by(name)),
            Outcome::Lost(error) => Outcome::Lost(error.clone().needed_by(name)),
        }
    }
}
