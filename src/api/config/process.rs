//! The layers that the whole process shares: the environment and the files, and `set` on top.

use super::layers::{Entry, Layer, Snapshot};
use super::schema::Setting;
use super::sources::{self, Sources};
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nothing taken out of it may be dropped while it is locked: dropping the last handle of a custom
/// executor runs code of the program, which may read the configuration.
static PROCESS: Mutex<ProcessLayers> =
    Mutex::new(ProcessLayers { sources: None, unreported: Vec::new(), set: Layer::new(), resolved: None });

/// Counts the changes of the layers. Written under the lock.
///
/// `Relaxed` suffices: a thread that learned of a change did so through a synchronizing operation
/// and therefore sees the new number. The changed layers themselves are read under the lock.
static GENERATION: AtomicU64 = AtomicU64::new(0);

struct ProcessLayers {
    /// The environment and the files; `None` before the first use.
    sources: Option<Result<Sources>>,
    /// Unknown variables that [`warn_of_unknown`] has not logged yet.
    unreported: Vec<Error>,
    set: Layer,
    /// All layers resolved; `None` until the first request after a change.
    resolved: Option<Result<Snapshot>>,
}

impl ProcessLayers {
    /// Returns the old resolution. The caller drops it after releasing the lock.
    #[must_use]
    fn changed(&mut self) -> Option<Result<Snapshot>> {
        GENERATION.fetch_add(1, Ordering::Relaxed);
        self.resolved.take()
    }
}

/// A number that changes whenever the layers do.
pub(super) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Returns the process-wide configuration and its generation.
pub(super) fn snapshot() -> Result<(u64, Snapshot)> {
    let process = &mut *PROCESS.lock();
    let resolved = process.resolved.get_or_insert_with(|| {
        let sources = process
            .sources
            .get_or_insert_with(|| sources::read().inspect(|sources| process.unreported.clone_from(&sources.unknown)));
        let sources = sources.as_ref().map_err(Error::clone)?;
        let layers = sources.layers.iter().chain([&process.set]).cloned().collect();
        let snapshot = Snapshot::of(layers);
        match sources.unknown.first() {
            Some(error) if snapshot.settings().strict_config => Err(error.clone()),
            _ => Ok(snapshot),
        }
    });
    Ok((generation(), resolved.clone()?))
}

/// Reads the environment and the files again. A failure replaces an earlier failure, but not a
/// successful result.
pub(super) fn refresh() -> Result<()> {
    let (read, replaced) = {
        let process = &mut *PROCESS.lock();
        let read = sources::read().inspect(|sources| process.unreported.clone_from(&sources.unknown));
        if let (Err(error), Some(Ok(_))) = (&read, &process.sources) {
            return Err(error.clone());
        }
        let outcome = read.as_ref().map(|_| ()).map_err(Error::clone);
        (outcome, (process.sources.replace(read), process.changed()))
    };
    drop(replaced);
    warn_of_unknown();
    read
}

/// Logs a warning for each unknown variable, once each time the sources are read.
///
/// The logger is code of the program and may read the configuration. So no lock is held here,
/// and callers must not have borrowed the configuration of the thread.
pub(super) fn warn_of_unknown() {
    let unreported = std::mem::take(&mut PROCESS.lock().unreported);
    unreported.iter().for_each(|error| log::warn!("{error}; it has no effect"));
}

pub(super) fn set(setting: &'static Setting, entry: Entry) {
    let replaced = {
        let process = &mut *PROCESS.lock();
        (process.set.insert(setting.name, entry), process.changed())
    };
    drop(replaced);
}

pub(super) fn unset(setting: &'static Setting) {
    let replaced = {
        let process = &mut *PROCESS.lock();
        (process.set.remove(&setting.name), process.changed())
    };
    drop(replaced);
}
