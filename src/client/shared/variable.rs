//! A value that all know.

use super::table::{Answer, Item, Op};
use super::{Object, Patience, unexpected};
use crate::error::Result;
use crate::portable::Portable;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A value that all tasks of a cluster and the program can read and replace; see [`Client::variable`](crate::Client::variable).
///
/// It has none at first. What is read is a copy. A task that waits does not keep its worker from working. A handle can be cloned, and is a value
/// that tasks can be given: `lit(variable.clone())`.
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
pub struct Variable<T>(Object, PhantomData<fn() -> T>);

impl<T> Clone for Variable<T> {
    fn clone(&self) -> Self {
        Variable::of(self.0.clone())
    }
}

impl<T> fmt::Debug for Variable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Variable({:?})", self.0)
    }
}

impl<T> Variable<T> {
    pub(super) fn of(object: Object) -> Self {
        Variable(object, PhantomData)
    }

    pub(super) fn object(&self) -> &Object {
        &self.0
    }
}

impl<T: Portable + Clone> Variable<T> {
    /// Gives it a value, in the place of what it had.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) if the cluster is; [`NotPortable`](crate::ErrorKind::NotPortable) if the value cannot be encoded;
    /// [`NotShared`](crate::ErrorKind::NotShared) where the variable cannot be had.
    pub fn set(&self, value: T) -> Result<()> {
        let item = if self.0.keeps_values() { Item::Here(Arc::new(value)) } else { self.0.encode(&value)? };
        self.0.ask(Op::Assign(Some(item)), Patience::None).map(drop)
    }

    /// Takes the value away.
    ///
    /// # Errors
    /// As [`set`](Variable::set).
    pub fn clear(&self) -> Result<()> {
        self.0.ask(Op::Assign(None), Patience::None).map(drop)
    }

    /// Waits until it has a value, and gives a copy.
    ///
    /// # Errors
    /// As [`set`](Variable::set), also when the cluster is closed meanwhile; [`Cancelled`](crate::ErrorKind::Cancelled) if the task that waits is.
    pub fn get(&self) -> Result<T> {
        self.get_patiently(Patience::Endless)?.ok_or_else(|| unexpected(&self.0, &Answer::Refused(None)))
    }

    /// As [`get`](Variable::get); `None` if it has no value after this time, which may be zero.
    ///
    /// # Errors
    /// As [`get`](Variable::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        self.get_patiently(Patience::of(timeout))
    }

    fn get_patiently(&self, patience: Patience) -> Result<Option<T>> {
        match self.0.ask(Op::Read, patience)? {
            Answer::Value(Item::Encoded(bytes)) => self.0.decode(&bytes).map(Some),
            Answer::Value(Item::Here(value)) => {
                let value = value.downcast::<T>();
                Ok(Some(T::clone(&value.expect("all values are of the variable's type"))))
            }
            Answer::Refused(_) => Ok(None),
            other => Err(unexpected(&self.0, &other)),
        }
    }
}
