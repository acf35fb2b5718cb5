//! Events.

use super::table::{Answer, Op};
use super::{Handle, Timeout, unexpected};
use crate::error::Result;
use std::time::Duration;

/// A flag that all tasks of a cluster and the program can set and wait for; see
/// [`Client::event`](crate::Client::event).
///
/// A new event is not set. While a task waits, its worker runs other tasks. A handle can be cloned,
/// and passed to a task: `lit(event.clone())`.
#[derive(Clone, Debug)]
pub struct Event(pub(super) Handle);

impl Event {
    /// Sets the event. All waiting tasks continue, and no call of `wait` blocks until the event is
    /// cleared.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) if the cluster is closed;
    /// [`NotShared`](crate::ErrorKind::NotShared) if the event is not available here.
    pub fn set(&self) -> Result<()> {
        self.0.submit(Op::Set(true), Timeout::Zero).map(drop)
    }

    /// Clears the event, so that it is not set.
    ///
    /// # Errors
    /// As [`set`](Event::set).
    pub fn clear(&self) -> Result<()> {
        self.0.submit(Op::Set(false), Timeout::Zero).map(drop)
    }

    /// Whether the event is set.
    ///
    /// # Errors
    /// As [`set`](Event::set).
    pub fn is_set(&self) -> Result<bool> {
        match self.0.submit(Op::IsSet, Timeout::Zero)? {
            Answer::Flag(is_set) => Ok(is_set),
            other => Err(unexpected(&self.0, &other)),
        }
    }

    /// Blocks until the event is set.
    ///
    /// # Errors
    /// As [`set`](Event::set), also if the cluster is closed during the wait;
    /// [`Cancelled`](crate::ErrorKind::Cancelled) if the calling task is cancelled.
    pub fn wait(&self) -> Result<()> {
        self.0.submit(Op::AwaitSet, Timeout::Never).map(drop)
    }

    /// As [`wait`](Event::wait); false if the event is not set within `timeout`.
    ///
    /// # Errors
    /// As [`wait`](Event::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        Ok(!matches!(self.0.submit(Op::AwaitSet, Timeout::after(timeout))?, Answer::Refused(_)))
    }
}
