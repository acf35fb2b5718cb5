//! Locks and semaphores.

use super::table::{Answer, Op};
use super::{Handle, Timeout, unexpected};
use crate::error::Result;
use std::fmt;
use std::time::Duration;

/// A number of permits for all tasks of a cluster and the program; see
/// [`Client::semaphore`](crate::Client::semaphore).
///
/// The task that has waited longest gets the next permit. While a task waits, its worker runs other
/// tasks. A handle can be cloned, and passed to a task: `lit(semaphore.clone())`.
#[derive(Clone, Debug)]
pub struct Semaphore(pub(super) Handle);

/// A lock for all tasks of a cluster and the program; see [`Client::lock`](crate::Client::lock).
///
/// A lock is a [`Semaphore`] of one permit. A task that acquires it twice deadlocks.
///
/// # Examples
/// ```
/// use sprang::{Client, Lock, lit};
///
/// let client = Client::threads(2)?;
/// let lock = client.lock("file");
/// let append = |line: u64, lock: &Lock| {
///     let _permit = lock.acquire()?; // until the end of the block
///     // ... one at a time
///     Ok::<_, sprang::Error>(line)
/// };
/// let submit = |line: u64| client.try_submit(append, (line, lit(lock.clone())));
/// let lines: Vec<_> = (0..4).map(submit).collect();
/// assert_eq!(client.gather(&lines)?, [0, 1, 2, 3]);
/// # Ok::<_, sprang::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lock(pub(super) Handle);

/// A permit of a [`Semaphore`] or a [`Lock`]. It is released when it is dropped, also by a panic,
/// and when its worker process ends.
#[must_use = "a permit is released when it is dropped: bind it, `let _permit = ...`"]
pub struct Permit(Handle);

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({:?})", self.0)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

fn acquire(handle: &Handle, timeout: Timeout) -> Result<Option<Permit>> {
    match handle.submit(Op::Acquire, timeout)? {
        // The permit needs no counted handle: a taken permit keeps the object in the table.
        Answer::Permit => Ok(Some(Permit(handle.uncounted()))),
        Answer::Refused(_) => Ok(None),
        other => Err(unexpected(handle, &other)),
    }
}

fn acquire_without_timeout(handle: &Handle) -> Result<Permit> {
    acquire(handle, Timeout::Never)?.ok_or_else(|| unexpected(handle, &Answer::Refused(None)))
}

impl Semaphore {
    /// Blocks until a permit is free, and takes it.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) if the cluster is closed, before or during the wait;
    /// [`Cancelled`](crate::ErrorKind::Cancelled) if the calling task is cancelled;
    /// [`NotShared`](crate::ErrorKind::NotShared) if the semaphore is not available here.
    pub fn acquire(&self) -> Result<Permit> {
        acquire_without_timeout(&self.0)
    }

    /// As [`acquire`](Semaphore::acquire); `None` if no permit is free within `timeout`, which may
    /// be zero.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<Permit>> {
        acquire(&self.0, Timeout::after(timeout))
    }

    /// The number of free permits at this moment.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    pub fn num_free(&self) -> Result<usize> {
        match self.0.submit(Op::NumFree, Timeout::Zero)? {
            Answer::Count(num_free) => Ok(num_free as usize),
            other => Err(unexpected(&self.0, &other)),
        }
    }
}

impl Lock {
    /// Blocks until the lock is free, and takes it.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn acquire(&self) -> Result<Permit> {
        acquire_without_timeout(&self.0)
    }

    /// As [`acquire`](Lock::acquire); `None` if the lock is not free within `timeout`, which may be
    /// zero.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<Permit>> {
        acquire(&self.0, Timeout::after(timeout))
    }
}
