//! Locks and semaphores: so many at a time, in whatever process.

use super::table::{Answer, Op};
use super::{Object, Patience, unexpected};
use crate::error::Result;
use std::fmt;
use std::time::Duration;

/// A number of permits, for all tasks of a cluster and the program; see [`Client::semaphore`](crate::Client::semaphore).
///
/// Who waits longest is the next. A task that waits does not keep its worker from working. A handle can be cloned, and is a value that tasks can
/// be given: `lit(semaphore.clone())`.
#[derive(Clone, Debug)]
pub struct Semaphore(pub(super) Object);

/// What one task of a cluster, or the program, has at a time; see [`Client::lock`](crate::Client::lock).
///
/// It is a [`Semaphore`] of one permit. A task that acquires it twice waits for itself.
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
/// let lines: Vec<_> = (0..4_u64).map(|line| client.try_submit(append, (line, lit(lock.clone())))).collect();
/// assert_eq!(client.gather(&lines)?, [0, 1, 2, 3]);
/// # Ok::<_, sprang::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lock(pub(super) Object);

/// A permit of a [`Semaphore`] or a [`Lock`]. It is given back when it is dropped, also by a panic, and when the worker process ends that has it.
#[must_use = "a permit is given back when it is dropped: bind it, `let _permit = ...`"]
pub struct Permit(Object);

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

fn acquire(object: &Object, patience: Patience) -> Result<Option<Permit>> {
    match object.ask(Op::Acquire, patience)? {
        // That it is out keeps the object there.
        Answer::Permit => Ok(Some(Permit(object.uncounted()))),
        Answer::Refused(_) => Ok(None),
        other => Err(unexpected(object, &other)),
    }
}

fn acquire_at_last(object: &Object) -> Result<Permit> {
    acquire(object, Patience::Endless)?.ok_or_else(|| unexpected(object, &Answer::Refused(None)))
}

impl Semaphore {
    pub(super) fn object(&self) -> &Object {
        &self.0
    }

    /// Waits for a permit and takes it.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) if the cluster is, now or meanwhile; [`Cancelled`](crate::ErrorKind::Cancelled) if the task that waits
    /// is; [`NotShared`](crate::ErrorKind::NotShared) where it cannot be had.
    pub fn acquire(&self) -> Result<Permit> {
        acquire_at_last(&self.0)
    }

    /// As [`acquire`](Semaphore::acquire); `None` if there is no permit after this time, which may be zero.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<Permit>> {
        acquire(&self.0, Patience::of(timeout))
    }

    /// How many permits nobody has in this moment.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    pub fn num_free(&self) -> Result<usize> {
        match self.0.ask(Op::NumFree, Patience::None)? {
            Answer::Count(num_free) => Ok(num_free as usize),
            other => Err(unexpected(&self.0, &other)),
        }
    }
}

impl Lock {
    pub(super) fn object(&self) -> &Object {
        &self.0
    }

    /// Waits until nobody has it and takes it.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn acquire(&self) -> Result<Permit> {
        acquire_at_last(&self.0)
    }

    /// As [`acquire`](Lock::acquire); `None` if somebody has it after this time, which may be zero.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<Permit>> {
        acquire(&self.0, Patience::of(timeout))
    }
}
