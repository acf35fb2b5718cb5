//! The entries of a layer, and [`Snapshot`]: all layers stacked and frozen.

use super::schema::{self, Setting, Settings};
use super::value::Value;
use crate::error::{Error, Result};
use crate::executor::Scheduler;
use crate::sorted::SortedMap;
use std::fmt;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a setting's value comes from, weakest first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// No layer sets it.
    Default,
    /// A line of a configuration file.
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// The line in it, counted from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Variable(String),
    /// The call of [`set`](super::set) at this place.
    Set(&'static Location<'static>),
    /// The call of [`scoped`](super::scoped), [`Scope::and`](super::Scope::and) or
    /// [`with`](super::with) at this place.
    Scoped(&'static Location<'static>),
    /// The argument of the call that started the run.
    Call,
    /// The process that started this one as its worker. The text is the origin in that process.
    Parent(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) => write!(f, "environment variable {name}"),
            Origin::Set(at) => write!(f, "config::set at {}:{}", at.file(), at.line()),
            Origin::Scoped(at) => write!(f, "a scope opened at {}:{}", at.file(), at.line()),
            Origin::Call => f.write_str("the argument of the call"),
            Origin::Parent(origin) => write!(f, "the parent process: {origin}"),
        }
    }
}

/// A value in a layer. [`Entry::new`] has checked it, so resolving cannot fail.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

impl Entry {
    /// The caller adds the file, variable or call to the error.
    pub(super) fn new(setting: &Setting, value: Value, origin: Origin) -> Result<Self, String> {
        setting.check(&value)?;
        Ok(Entry { value, origin })
    }

    /// Checks the arguments `key` and `value` of `function`.
    pub(super) fn from_call(
        function: &str,
        key: &str,
        value: Value,
        origin: Origin,
    ) -> Result<(&'static Setting, Self)> {
        let setting = find_for(function, key)?;
        match Entry::new(setting, value, origin) {
            Ok(entry) => Ok((setting, entry)),
            Err(problem) => Err(Error::config(format!("{function}: {problem}"))),
        }
    }

    fn write(&self, setting: &Setting, settings: &mut Settings) {
        (setting.write)(settings, &self.value).expect("a value was checked before it entered its layer");
    }
}

/// Finds the setting `key`, an argument of `function`.
pub(super) fn find_for(function: &str, key: &str) -> Result<&'static Setting> {
    schema::find(key).ok_or_else(|| Error::config(format!("{function}: {}", schema::unknown(key, schema::quoted))))
}

/// The entries of one layer, by setting name.
pub(super) type Layer = SortedMap<&'static str, Entry>;

/// Every setting as one thread saw it at one moment, with the origin of each.
///
/// A snapshot freezes everything, not only the thread's scopes: after later calls of
/// [`set`](super::set) or [`refresh`](super::refresh), a thread that has
/// [entered](Snapshot::enter) the snapshot still sees the same settings. Therefore all tasks of a
/// run see the settings that the run was started with, on every thread. Scopes opened after
/// entering apply on top.
///
/// Cloning costs one reference count.
///
/// # Examples
/// ```
/// use sprang::config;
///
/// let _scope = config::scoped("num_workers", 2)?;
/// let here = config::snapshot()?;
/// let there = std::thread::spawn(move || {
///     let _entered = here.enter();
///     config::get("num_workers")
/// });
/// assert_eq!(there.join().unwrap()?, "2");
/// # Ok::<(), sprang::Error>(())
/// ```
#[derive(Clone)]
pub struct Snapshot {
    frozen: Arc<FrozenLayers>,
}

struct FrozenLayers {
    settings: Arc<Settings>,
    /// Everything process-wide, weakest first.
    layers: Arc<[Layer]>,
    /// Scopes and call arguments, oldest first. Only the latest override of a setting from a given
    /// source line is kept, so that nested scopes opened in a loop do not grow this list.
    overrides: Vec<(&'static Setting, Entry)>,
}

impl Snapshot {
    /// Resolves `layers`, weakest first.
    pub(super) fn of(layers: Vec<Layer>) -> Self {
        let mut settings = Settings::default();
        for layer in &layers {
            for (name, entry) in layer.iter() {
                entry.write(schema::find(name).expect("a layer's names are settings"), &mut settings);
            }
        }
        Snapshot {
            frozen: Arc::new(FrozenLayers { settings: settings.into(), layers: layers.into(), overrides: Vec::new() }),
        }
    }

    /// Returns this snapshot with `overrides`, weakest first, on top.
    pub(super) fn under(&self, overrides: impl IntoIterator<Item = (&'static Setting, Entry)>) -> Self {
        let below = &*self.frozen;
        let (mut settings, mut all) = (Settings::clone(&below.settings), below.overrides.clone());
        for (setting, entry) in overrides {
            entry.write(setting, &mut settings);
            all.retain(|(other, before)| other.name != setting.name || before.origin != entry.origin);
            all.push((setting, entry));
        }
        Snapshot {
            frozen: Arc::new(FrozenLayers {
                settings: settings.into(),
                layers: Arc::clone(&below.layers),
                overrides: all,
            }),
        }
    }

    /// Whether both are clones of one snapshot.
    pub(crate) fn is(&self, other: &Snapshot) -> bool {
        Arc::ptr_eq(&self.frozen, &other.frozen)
    }

    /// Whether a file, the environment, [`set`](super::set) or a scope gives the setting a value.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        schema::find(name).is_some_and(|setting| self.entries(setting).next().is_some())
    }

    /// The settings.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.frozen.settings
    }

    /// Returns this snapshot with one setting replaced, as a call argument does for its run.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Scheduler, config};
    ///
    /// let run = config::snapshot()?.overriding("scheduler", "sync")?;
    /// assert!(matches!(run.settings().scheduler, Scheduler::Sync));
    /// # Ok::<(), sprang::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if there is no setting `key`, or it does not
    /// accept `value`.
    pub fn overriding(&self, key: &str, value: impl Into<Value>) -> Result<Snapshot> {
        let given = Entry::from_call("Snapshot::overriding", key, value.into(), Origin::Call)?;
        Ok(self.under([given]))
    }

    /// Returns this snapshot with another scheduler. Like [`overriding`](Snapshot::overriding), but
    /// cannot fail.
    pub fn with_scheduler(&self, scheduler: Scheduler) -> Snapshot {
        let entry = Entry { value: scheduler.into(), origin: Origin::Call };
        self.under([(schema::find("scheduler").expect("there is a setting \"scheduler\""), entry)])
    }

    /// The entries of all layers for `setting`, strongest first.
    pub(super) fn entries(&self, setting: &Setting) -> impl DoubleEndedIterator<Item = &Entry> {
        let overrides = self.frozen.overrides.iter().rev().filter(|(other, _)| other.name == setting.name);
        let layers = self.frozen.layers.iter().rev().filter_map(|layer| layer.get(&setting.name));
        overrides.map(|(_, entry)| entry).chain(layers)
    }

    /// The values that the layers give `setting`, strongest first, the default last.
    pub(super) fn given(&self, setting: &Setting) -> Vec<(String, Origin)> {
        let mut given: Vec<_> =
            self.entries(setting).map(|entry| (setting.show_value(&entry.value), entry.origin.clone())).collect();
        given.push(((setting.show)(&Settings::default()), Origin::Default));
        given
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(&self.frozen.settings).finish()
    }
}
