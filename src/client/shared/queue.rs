//! Queues.

use super::table::{Answer, Item, Op};
use super::{Handle, Timeout, unexpected};
use crate::error::Result;
use crate::portable::Portable;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A first-in, first-out queue for all tasks of a cluster and the program; see
/// [`Client::queue`](crate::Client::queue).
///
/// On a cluster of threads items are moved. On a cluster of processes they are encoded, sent, and
/// kept in the process that made the cluster; make a large item the value of a future instead. An
/// item that a worker process has taken is lost if that process dies. While a task waits, its
/// worker runs other tasks. A handle can be cloned, and passed to a task: `lit(queue.clone())`.
pub struct Queue<T>(pub(super) Handle, pub(super) PhantomData<fn() -> T>);

impl<T: Portable> Queue<T> {
    /// Blocks while the queue is full, and then puts an item behind the others.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) if the cluster is closed, before or during the wait;
    /// [`Cancelled`](crate::ErrorKind::Cancelled) if the calling task is cancelled;
    /// [`NotPortable`](crate::ErrorKind::NotPortable) if the item cannot be encoded;
    /// [`NotShared`](crate::ErrorKind::NotShared) if the queue is not available here.
    pub fn put(&self, item: T) -> Result<()> {
        self.put_within(item, Timeout::Never).map(drop)
    }

    /// As [`put`](Queue::put); returns the item if the queue stays full for `timeout`, which may be
    /// zero.
    ///
    /// # Errors
    /// As [`put`](Queue::put).
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<Option<T>> {
        self.put_within(item, Timeout::after(timeout))
    }

    fn put_within(&self, item: T, timeout: Timeout) -> Result<Option<T>> {
        if !self.0.keeps_values() {
            let encoded = self.0.encode(&item)?;
            return match self.0.submit(Op::Put(encoded), timeout)? {
                Answer::Refused(_) => Ok(Some(item)),
                _ => Ok(None),
            };
        }
        match self.0.submit(Op::Put(Item::Value(Arc::new(item))), timeout)? {
            Answer::Refused(Some(item)) => self.value_of(item).map(Some),
            _ => Ok(None),
        }
    }

    /// Blocks while the queue is empty, and then takes the first item.
    ///
    /// # Errors
    /// As [`put`](Queue::put); [`NotPortable`](crate::ErrorKind::NotPortable) if the item cannot be
    /// decoded.
    pub fn take(&self) -> Result<T> {
        self.take_within(Timeout::Never)?.ok_or_else(|| unexpected(&self.0, &Answer::Refused(None)))
    }

    /// As [`take`](Queue::take); `None` if the queue stays empty for `timeout`, which may be zero.
    ///
    /// # Errors
    /// As [`take`](Queue::take).
    pub fn take_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        self.take_within(Timeout::after(timeout))
    }

    fn take_within(&self, timeout: Timeout) -> Result<Option<T>> {
        match self.0.submit(Op::Take, timeout)? {
            Answer::Taken(item) => self.value_of(item).map(Some),
            Answer::Refused(_) => Ok(None),
            other => Err(unexpected(&self.0, &other)),
        }
    }

    fn value_of(&self, item: Item) -> Result<T> {
        match item {
            Item::Encoded(bytes) => self.0.decode(&bytes),
            Item::Value(item) => {
                let item = item.downcast::<T>().ok().and_then(|item| Arc::try_unwrap(item).ok());
                Ok(item.expect("an item has one owner and the type of its queue"))
            }
        }
    }

    /// The number of items at this moment.
    ///
    /// # Errors
    /// As [`put`](Queue::put).
    pub fn num_items(&self) -> Result<usize> {
        match self.0.submit(Op::NumItems, Timeout::Zero)? {
            Answer::Count(num_items) => Ok(num_items as usize),
            other => Err(unexpected(&self.0, &other)),
        }
    }
}
