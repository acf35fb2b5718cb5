//! Values that callers can pass for a setting, before the schema checks them.

use super::schema::{Errors, OnFailure, Order};
use super::{Codec, Initializer, LocalTasks, Stdio};
use crate::executor::{Executor, Scheduler};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A value for a setting: text, a whole number, a truth value, a duration, a path, texts by name, a
/// scheduler or an initializer.
///
/// [`set`](super::set), [`scoped`](super::scoped) and [`with`](super::with) take anything that
/// converts into a `Value`, and return an error if the setting does not accept it.
///
/// # Examples
/// ```
/// use sprang::{Scheduler, config};
///
/// let _scope = config::scoped("num_workers", 2)?
///     .and("scheduler", Scheduler::Sync)?
///     .and("errors", config::Errors::Collect)?;
/// assert_eq!(config::get("num_workers")?, "2");
/// assert_eq!(config::get("errors")?, "collect");
///
/// let grace = std::time::Duration::from_millis(1500);
/// let _workers = config::scoped("processes.cancel_grace", grace)?
///     .and("processes.environment", [("OMP_NUM_THREADS", "1"), ("LANG", "C")])?
///     .and("processes.memory_limit", "1.5 GiB")?;
/// let workers = &config::settings()?.processes;
/// assert_eq!(workers.cancel_grace, grace);
/// assert_eq!(workers.environment["LANG"], "C");
/// assert_eq!(workers.memory_limit, Some(3 << 29));
/// # Ok::<(), sprang::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Value(pub(super) Given);

#[derive(Clone, Debug)]
pub(super) enum Given {
    Text(String),
    /// From the environment or a command line, where every value is text: the setting parses it.
    Untyped(String),
    Integer(i128),
    Boolean(bool),
    Duration(Duration),
    Path(PathBuf),
    Texts(BTreeMap<String, String>),
    Scheduler(Scheduler),
    Initializer(Initializer),
}

impl Value {
    /// Makes a value of text that the setting parses, as it parses an environment variable. Use it
    /// for text that a person typed.
    ///
    /// # Examples
    /// ```
    /// use sprang::config::{self, Value};
    ///
    /// assert!(config::scoped("num_workers", "2").is_err()); // text is not a number
    /// let _scope = config::scoped("num_workers", Value::untyped("2"))?;
    /// assert_eq!(config::get("num_workers")?, "2");
    /// # Ok::<(), sprang::Error>(())
    /// ```
    pub fn untyped(text: impl Into<String>) -> Self {
        Value(Given::Untyped(text.into()))
    }
}

/// The form used in messages: text is quoted.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Given::Text(text) | Given::Untyped(text) => write!(f, "{text:?}"),
            Given::Integer(number) => write!(f, "{number}"),
            Given::Boolean(truth) => write!(f, "{truth}"),
            Given::Duration(duration) => write!(f, "the duration {}", humantime::format_duration(*duration)),
            Given::Path(path) => write!(f, "the path {path:?}"),
            Given::Texts(texts) => write!(f, "the texts {texts:?}"),
            Given::Scheduler(scheduler) => write!(f, "the scheduler {:?}", scheduler.to_string()),
            Given::Initializer(initializer) => write!(f, "the initializer {:?}", initializer.name()),
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

macro_rules! from_nonzero {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Value {
            fn from(number: $integer) -> Self {
                number.get().into()
            }
        }
    )*};
}
from_nonzero!(NonZeroU32, NonZeroU64, NonZeroUsize);

impl From<Duration> for Value {
    fn from(duration: Duration) -> Self {
        Value(Given::Duration(duration))
    }
}

impl From<PathBuf> for Value {
    fn from(path: PathBuf) -> Self {
        Value(Given::Path(path))
    }
}

impl From<&Path> for Value {
    fn from(path: &Path) -> Self {
        Value(Given::Path(path.to_owned()))
    }
}

fn texts<N: Into<String>, T: Into<String>>(texts: impl IntoIterator<Item = (N, T)>) -> Value {
    Value(Given::Texts(texts.into_iter().map(|(name, text)| (name.into(), text.into())).collect()))
}

impl<N: Into<String>, T: Into<String>> From<BTreeMap<N, T>> for Value {
    fn from(map: BTreeMap<N, T>) -> Self {
        texts(map)
    }
}

impl<N: Into<String>, T: Into<String>, S> From<HashMap<N, T, S>> for Value {
    fn from(map: HashMap<N, T, S>) -> Self {
        texts(map)
    }
}

impl<N: Into<String>, T: Into<String>> From<Vec<(N, T)>> for Value {
    fn from(pairs: Vec<(N, T)>) -> Self {
        texts(pairs)
    }
}

impl<N: Into<String>, T: Into<String>, const LEN: usize> From<[(N, T); LEN]> for Value {
    fn from(pairs: [(N, T); LEN]) -> Self {
        texts(pairs)
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

impl From<Initializer> for Value {
    fn from(initializer: Initializer) -> Self {
        Value(Given::Initializer(initializer))
    }
}

macro_rules! from_words {
    ($($word:ty),*) => {$(
        impl From<$word> for Value {
            fn from(word: $word) -> Self {
                Value(Given::Text(word.to_string()))
            }
        }
    )*};
}
from_words!(Errors, OnFailure, Order, Stdio, LocalTasks, Codec);
