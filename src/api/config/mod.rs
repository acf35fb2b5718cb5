//! Settings, and the layers that give them values.
//!
//! A setting has a value at every moment, on every thread. These layers can set it, strongest
//! first:
//!
//! 1. the argument of a call, for the run it starts;
//! 2. a scope ([`scoped`], [`with`]), for one thread and the runs started from it;
//! 3. [`set`], for the process;
//! 4. the environment: `SPRANG_ORDER=fast`;
//! 5. the file that `SPRANG_CONFIG` names;
//! 6. `./sprang.toml`;
//! 7. `sprang/sprang.toml` in the user's configuration folder;
//! 8. the default.
//!
//! The environment and the files are read once, when the first setting is needed; [`refresh`] reads
//! them again. A mistake in them (an unknown key in a file, a wrong value, an unreadable file)
//! fails every call that needs a setting until the mistake is corrected. An unknown `SPRANG_*`
//! variable may belong to another program: it is logged as a warning, and an error only under
//! `strict_config`. [`explain`] reports which layer supplies a value.
//!
//! A scope belongs to the thread that opened it: no other thread sees it. A [`Snapshot`] carries it
//! further: a run takes a snapshot when it starts, a task of a [`Client`](crate::Client) when it is
//! submitted, and every thread that works for them enters it.
//!
//! # The files
//!
//! `schema.rs` has one row for each setting, with the values it accepts; `value.rs` has the types
//! of values that callers can pass. `sources.rs` reads the configuration files and the `SPRANG_*`
//! variables. `layers.rs` stacks the layers; `process.rs` holds the layers that all threads share,
//! `thread.rs` the scopes of one thread. `portable.rs` sends a snapshot to another process.
//! `explain.rs` reports where a value comes from. `edit.rs`, with the feature `files`, writes and
//! removes settings in a file.
//!
//! # Examples
//! ```
//! use sprang::{Scheduler, config};
//!
//! config::set("num-workers", 4)?; // for the whole process; `-` equals `_`
//! {
//!     let _scope = config::scoped("scheduler", "sync")?; // this thread, until the block ends
//!     let settings = config::settings()?;
//!     assert!(matches!(settings.scheduler, Scheduler::Sync));
//!     assert_eq!(settings.num_workers.map(|n| n.get()), Some(4));
//! }
//! assert_eq!(config::get("scheduler")?, "threads");
//! # Ok::<(), sprang::Error>(())
//! ```

#[cfg(feature = "files")]
mod edit;
mod explain;
mod layers;
mod portable;
mod process;
mod schema;
mod sources;
mod thread;
mod value;

pub use crate::executor::processes::initializer::{Initializer, InitializerOutcome};
pub use crate::executor::processes::settings::{LocalTasks, ProcessSettings, Stdio};
pub use crate::portable::codec::Codec;
#[cfg(feature = "files")]
pub use edit::{erase, write};
pub use explain::Explanation;
pub use layers::{Origin, Snapshot};
pub use schema::{Errors, OnFailure, Order, Settings, table};
pub use sources::{ConfigFile, FileRole};
pub use thread::{Entered, Scope};
pub use value::Value;

use crate::error::{Error, Result};
use layers::{Entry, find_for};
pub(super) use sources::environment_number;
use std::panic::Location;
use std::sync::Arc;

/// Gives a setting a value for the whole process, until [`unset`] or another `set`.
///
/// Scopes override it. A run that has already started keeps its settings.
///
/// # Examples
/// ```
/// use sprang::config;
///
/// config::set("errors", "collect")?;
/// assert_eq!(config::get("errors")?, "collect");
///
/// let mistake = config::set("num_worker", 4).unwrap_err();
/// assert_eq!(
///     mistake.to_string(),
///     r#"config::set: unknown setting "num_worker"; the nearest is "num_workers""#
/// );
/// # Ok::<(), sprang::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if there is no setting `key`, or it does not
/// accept `value`.
#[track_caller]
pub fn set(key: &str, value: impl Into<Value>) -> Result<()> {
    let at = Location::caller();
    let (setting, entry) = Entry::from_call("config::set", key, value.into(), Origin::Set(at))?;
    process::set(setting, entry);
    Ok(())
}

/// Removes the value given by [`set`], so that the environment, the files and the default apply
/// again.
///
/// # Examples
/// ```
/// use sprang::config;
///
/// config::set("order", "fast")?;
/// config::unset("order")?;
/// assert_eq!(config::get("order")?, "memory");
/// # Ok::<(), sprang::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if there is no setting `key`. Unsetting a
/// setting that was never set succeeds.
pub fn unset(key: &str) -> Result<()> {
    process::unset(find_for("config::unset", key)?);
    Ok(())
}

/// Gives a setting a value on this thread, and in the runs started from it, until the guard is
/// dropped.
///
/// Bind the guard to a name: `let _scope = ..`. With `let _ = ..` it is dropped at once, and
/// nothing changes. The compiler's lint `let_underscore_drop`, which is off by default, finds that.
///
/// # Examples
/// ```
/// use sprang::config;
///
/// {
///     let _scope = config::scoped("order", "fast")?;
///     assert_eq!(config::get("order")?, "fast");
/// }
/// assert_eq!(config::get("order")?, "memory");
/// # Ok::<(), sprang::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if there is no setting `key`, or it does not
/// accept `value`.
#[must_use = "the override ends when the guard is dropped: bind it, `let _scope = config::scoped(..)?`"]
#[track_caller]
pub fn scoped(key: &str, value: impl Into<Value>) -> Result<Scope> {
    Scope::open("config::scoped", key, value)
}

/// Calls `f` while a setting has the given value on this thread and in the runs started from it.
///
/// # Examples
/// ```
/// use sprang::config;
///
/// assert_eq!(config::with("order", "fast", || config::get("order"))??, "fast");
/// assert_eq!(config::get("order")?, "memory");
/// # Ok::<(), sprang::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if there is no setting `key`, or it does not
/// accept `value`. Then `f` is not called.
#[track_caller]
pub fn with<R>(key: &str, value: impl Into<Value>, f: impl FnOnce() -> R) -> Result<R> {
    let _scope = Scope::open("config::with", key, value)?;
    Ok(f())
}

/// Returns every setting as this thread sees it now.
///
/// # Examples
/// ```
/// use sprang::{Scheduler, config};
///
/// let settings = config::settings()?;
/// assert!(matches!(settings.scheduler, Scheduler::Threads));
/// assert!(settings.num_workers.is_none());
/// # Ok::<(), sprang::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if the environment or a configuration file has a
/// mistake. Correct it, then call [`refresh`].
///
/// # Complexity
/// O(1), without a lock, if nothing has changed since the last call on this thread.
pub fn settings() -> Result<Arc<Settings>> {
    thread::current(|snapshot| Arc::clone(snapshot.settings()))
}

/// Returns the whole configuration as this thread sees it now, for other threads to enter.
///
/// # Errors
/// As [`settings`].
///
/// # Complexity
/// As [`settings`].
pub fn snapshot() -> Result<Snapshot> {
    thread::current(Snapshot::clone)
}

/// The configuration of the tasks that this thread submits to a cluster; `None` if it is `own`, the
/// cluster's. See [`thread::for_cluster`].
pub(crate) fn for_cluster(own: &Snapshot, made_in: &Snapshot) -> Result<Option<Snapshot>> {
    thread::for_cluster(own, made_in)
}

/// Returns one setting as text, as this thread sees it now.
///
/// # Examples
/// ```
/// assert_eq!(sprang::config::get("num_workers")?, "auto");
/// # Ok::<(), sprang::Error>(())
/// ```
///
/// # Errors
/// As [`settings`], and if there is no setting `key`.
pub fn get(key: &str) -> Result<String> {
    let setting = find_for("config::get", key)?;
    Ok((setting.show)(&*settings()?))
}

/// Reports which layer gives a setting its value on this thread now, and the values it overrides.
///
/// # Examples
/// ```
/// use sprang::config;
///
/// let _scope = config::scoped("scheduler", "sync")?;
/// let explanation = config::explain("scheduler")?;
/// assert_eq!(explanation.value(), "sync");
/// assert!(matches!(explanation.origin(), config::Origin::Scoped(_)));
/// assert!(explanation.to_string().starts_with("scheduler = sync, from a scope opened at "));
/// assert!(explanation.to_string().ends_with("instead of threads, from the default"));
/// # Ok::<(), sprang::Error>(())
/// ```
///
/// # Errors
/// As [`settings`], and if there is no setting `key`.
pub fn explain(key: &str) -> Result<Explanation> {
    let setting = find_for("config::explain", key)?;
    Ok(Explanation::new(setting, &snapshot()?))
}

/// Returns the names of all settings.
///
/// # Examples
/// ```
/// assert!(sprang::config::names().any(|name| name == "num_workers"));
/// ```
pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
    schema::SETTINGS.iter().map(|setting| setting.name)
}

/// Explains every setting.
///
/// # Examples
/// ```
/// for setting in sprang::config::list()? {
///     println!("{} = {}: {}", setting.name(), setting.value(), setting.meaning());
/// }
/// # Ok::<(), sprang::Error>(())
/// ```
///
/// # Errors
/// As [`settings`].
pub fn list() -> Result<Vec<Explanation>> {
    let snapshot = snapshot()?;
    Ok(schema::SETTINGS.iter().map(|setting| Explanation::new(setting, &snapshot)).collect())
}

/// Checks that a setting accepts `value`. The error is worded for the person who supplied it.
///
/// # Examples
/// ```
/// use sprang::config::{self, Value};
///
/// config::check("processes.memory_limit", Value::untyped("2 GiB"))?;
/// let mistake = config::check("num_workers", Value::untyped("none at all")).unwrap_err();
/// let expected = r#""num_workers" cannot be "none at all"; give a whole number from 1"#;
/// assert!(mistake.to_string().starts_with(expected));
/// # Ok::<(), sprang::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if there is no setting `key`, or it does not
/// accept `value`.
pub fn check(key: &str, value: impl Into<Value>) -> Result<()> {
    let setting = schema::find(key).ok_or_else(|| Error::config(schema::unknown(key, schema::quoted)))?;
    setting.check(&value.into()).map_err(Error::config)
}

/// Returns the places that are searched for configuration files, strongest first, and whether each
/// file exists.
///
/// # Examples
/// ```
/// use sprang::config::{self, FileRole};
///
/// let files = config::files();
/// let local = files.iter().find(|file| file.role == FileRole::Folder).unwrap();
/// assert!(local.path.ends_with("sprang.toml") && !local.is_there);
/// ```
pub fn files() -> Vec<ConfigFile> {
    let mut files = sources::files();
    files.reverse();
    files
}

/// Reads the environment and the files again. Values given by [`set`] and by scopes stay.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if the environment or a file has a mistake. The
/// values read before then stay in force.
pub fn refresh() -> Result<()> {
    process::refresh()
}
