//! Handing things on.

use super::table::{Answer, Item, Op};
use super::{Object, Patience, unexpected};
use crate::error::Result;
use crate::portable::Portable;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Items that some put in and others take out, first in, first out, for all tasks of a cluster and the program; see
/// [`Client::queue`](crate::Client::queue).
///
/// On a cluster of threads items are moved. On one of processes they are encoded, kept in this process, and copied on the way; what is large
/// is better the value of a future. An item belongs to who has taken it: if that is a worker that dies, the item is gone. A task that waits does not keep
/// its worker from working. A handle can be cloned, and is a value that tasks can be given: `lit(queue.clone())`.
pub struct Queue<T>(Object, PhantomData<fn() -> T>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue::of(self.0.clone())
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({:?})", self.0)
    }
}

impl<T> Queue<T> {
    pub(super) fn of(object: Object) -> Self {
        Queue(object, PhantomData)
    }

    pub(super) fn object(&self) -> &Object {
        &self.0
    }
}

impl<T: Portable> Queue<T> {
    /// Waits until there is room, if that is limited, and puts an item behind the others.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) if the cluster is, now or meanwhile; [`Cancelled`](crate::ErrorKind::Cancelled) if the task that waits
    /// is; [`NotPortable`](crate::ErrorKind::NotPortable) if the item cannot be encoded; [`NotShared`](crate::ErrorKind::NotShared) where the queue
    /// cannot be had.
    pub fn put(&self, item: T) -> Result<()> {
        self.put_patiently(item, Patience::Endless).map(drop)
    }

    /// As [`put`](Queue::put); gives the item back if there is no room after this time, which may be zero.
    ///
    /// # Errors
    /// As [`put`](Queue::put).
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<Option<T>> {
        self.put_patiently(item, Patience::of(timeout))
    }

    fn put_patiently(&self, item: T, patience: Patience) -> Result<Option<T>> {
        if !self.0.keeps_values() {
            let encoded = self.0.encode(&item)?;
            return match self.0.ask(Op::Put(encoded), patience)? {
                Answer::Refused(_) => Ok(Some(item)),
                _ => Ok(None),
            };
        }
        match self.0.ask(Op::Put(Item::Here(Arc::new(item))), patience)? {
            Answer::Refused(Some(item)) => self.read(item).map(Some),
            _ => Ok(None),
        }
    }

    /// Waits until there is an item, and takes the first.
    ///
    /// # Errors
    /// As [`put`](Queue::put); [`NotPortable`](crate::ErrorKind::NotPortable) if the item cannot be decoded.
    pub fn take(&self) -> Result<T> {
        self.take_patiently(Patience::Endless)?.ok_or_else(|| unexpected(&self.0, &Answer::Refused(None)))
    }

    /// As [`take`](Queue::take); `None` if there is no item after this time, which may be zero.
    ///
    /// # Errors
    /// As [`take`](Queue::take).
    pub fn take_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        self.take_patiently(Patience::of(timeout))
    }

    fn take_patiently(&self, patience: Patience) -> Result<Option<T>> {
        match self.0.ask(Op::Take, patience)? {
            Answer::Taken(item) => self.read(item).map(Some),
            Answer::Refused(_) => Ok(None),
            other => Err(unexpected(&self.0, &other)),
        }
    }

    fn read(&self, item: Item) -> Result<T> {
        match item {
            Item::Encoded(bytes) => self.0.decode(&bytes),
            Item::Here(item) => {
                let item = item.downcast::<T>().ok().and_then(|item| Arc::try_unwrap(item).ok());
                Ok(item.expect("who takes an item alone has it, and all are of the queue's type"))
            }
        }
    }

    /// How many items there are in this moment.
    ///
    /// # Errors
    /// As [`put`](Queue::put).
    pub fn num_items(&self) -> Result<usize> {
        match self.0.ask(Op::NumItems, Patience::None)? {
            Answer::Count(num_items) => Ok(num_items as usize),
            other => Err(unexpected(&self.0, &other)),
        }
    }
}
