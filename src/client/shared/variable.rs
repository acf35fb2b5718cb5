//! Variables.

use super::table::{Answer, Item, Op};
use super::{Handle, Timeout, unexpected};
use crate::error::Result;
use crate::portable::Portable;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A value that all tasks of a cluster and the program can read and replace; see
/// [`Client::variable`](crate::Client::variable).
///
/// A new variable has no value. A read returns a copy. While a task waits, its worker runs other
/// tasks. A handle can be cloned, and passed to a task: `lit(variable.clone())`.
///
/// # Examples
/// ```
/// use sprang::Client;
/// use std::time::Duration;
///
/// let client = Client::threads(2)?;
/// let best = client.variable::<f64>("best")?;
/// assert_eq!(best.get_timeout(Duration::ZERO)?, None);
/// best.set(0.5)?;
/// assert_eq!(best.get()?, 0.5);
/// best.clear()?;
/// # Ok::<_, sprang::Error>(())
/// ```
pub struct Variable<T>(pub(super) Handle, pub(super) PhantomData<fn() -> T>);

impl<T: Portable + Clone> Variable<T> {
    /// Sets or replaces the value.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) if the cluster is closed;
    /// [`NotPortable`](crate::ErrorKind::NotPortable) if the value cannot be encoded;
    /// [`NotShared`](crate::ErrorKind::NotShared) if the variable is not available here.
    pub fn set(&self, value: T) -> Result<()> {
        let item = if self.0.keeps_values() { Item::Value(Arc::new(value)) } else { self.0.encode(&value)? };
        self.0.submit(Op::Assign(Some(item)), Timeout::Zero).map(drop)
    }

    /// Removes the value.
    ///
    /// # Errors
    /// As [`set`](Variable::set).
    pub fn clear(&self) -> Result<()> {
        self.0.submit(Op::Assign(None), Timeout::Zero).map(drop)
    }

    /// Blocks until the variable has a value, and returns a copy.
    ///
    /// # Errors
    /// As [`set`](Variable::set), also if the cluster is closed during the wait;
    /// [`Cancelled`](crate::ErrorKind::Cancelled) if the calling task is cancelled.
    pub fn get(&self) -> Result<T> {
        self.get_within(Timeout::Never)?.ok_or_else(|| unexpected(&self.0, &Answer::Refused(None)))
    }

    /// As [`get`](Variable::get); `None` if the variable gets no value within `timeout`, which may
    /// be zero.
    ///
    /// # Errors
    /// As [`get`](Variable::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        self.get_within(Timeout::after(timeout))
    }

    fn get_within(&self, timeout: Timeout) -> Result<Option<T>> {
        match self.0.submit(Op::Read, timeout)? {
            Answer::Value(Item::Encoded(bytes)) => self.0.decode(&bytes).map(Some),
            Answer::Value(Item::Value(value)) => {
                let value = value.downcast::<T>();
                Ok(Some(T::clone(&value.expect("a value has the type of its variable"))))
            }
            Answer::Refused(_) => Ok(None),
            other => Err(unexpected(&self.0, &other)),
        }
    }
}
