//! What a setting may be given, before the schema has looked at it.

use super::schema::{Errors, Order};
use crate::executor::{Executor, Scheduler};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// A value for a setting: text, a whole number, a truth value or a scheduler.
///
/// There is nothing to call on it: [`set`](super::set), [`scoped`](super::scoped) and [`with`](super::with) take whatever turns
/// into one, and say so if the setting cannot take it.
///
/// # Examples
/// ```
/// use sprang::{Scheduler, config};
///
/// let _scope = config::scoped("num_workers", 2)?.and("scheduler", Scheduler::Sync)?.and("errors", config::Errors::Collect)?;
/// assert_eq!(config::get("num_workers")?, "2");
/// assert_eq!(config::get("errors")?, "collect");
/// # Ok::<(), sprang::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Value(pub(super) Given);

#[derive(Clone, Debug)]
pub(super) enum Given {
    Text(String),
    /// From the environment, where everything is text: the setting decides what it is.
    Untyped(String),
    Integer(i128),
    Boolean(bool),
    Scheduler(Scheduler),
}

/// As messages show it: text in quotation marks.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Given::Text(text) | Given::Untyped(text) => write!(f, "{text:?}"),
            Given::Integer(number) => write!(f, "{number}"),
            Given::Boolean(truth) => write!(f, "{truth}"),
            Given::Scheduler(scheduler) => write!(f, "the scheduler {:?}", scheduler.to_string()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value(Given::Text(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value(Given::Text(text))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Value(Given::Text(text.clone()))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value(Given::Boolean(truth))
    }
}

macro_rules! from_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Value {
            fn from(number: $integer) -> Self {
                // No integer listed below is wider than 64 bits.
                Value(Given::Integer(number as i128))
            }
        }
    )*};
}
from_integers!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

impl From<NonZeroUsize> for Value {
    fn from(number: NonZeroUsize) -> Self {
        number.get().into()
    }
}

impl From<Scheduler> for Value {
    fn from(scheduler: Scheduler) -> Self {
        Value(Given::Scheduler(scheduler))
    }
}

impl From<Arc<dyn Executor>> for Value {
    fn from(executor: Arc<dyn Executor>) -> Self {
        Scheduler::Custom(executor).into()
    }
}

impl<E: Executor + 'static> From<Arc<E>> for Value {
    fn from(executor: Arc<E>) -> Self {
        Scheduler::Custom(executor).into()
    }
}

impl From<Errors> for Value {
    fn from(errors: Errors) -> Self {
        Value(Given::Text(errors.to_string()))
    }
}

impl From<Order> for Value {
    fn from(order: Order) -> Self {
        Value(Given::Text(order.to_string()))
    }
}
