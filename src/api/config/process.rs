//! The layers that the whole process shares: what was read from outside, and what `set` put on top.

use super::layers::{Entry, Layer, Snapshot};
use super::schema::Setting;
use super::sources;
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nothing that is taken out of it may be dropped while it is locked: dropping the last handle of a custom executor runs code of
/// the program's own, which may ask for the configuration.
static PROCESS: Mutex<Process> = Mutex::new(Process { outside: None, set: Layer::new(), resolved: None });

/// How often the layers have changed. Written under the lock.
///
/// Relaxed is enough: who has learned of a change, has learned it by something that orders the two threads, and so sees the new
/// number; what the number announces is read under the lock.
static GENERATION: AtomicU64 = AtomicU64::new(0);

struct Process {
    /// Weakest first; `None` before the first use.
    outside: Option<Result<Vec<Layer>>>,
    set: Layer,
    /// All of it resolved, where that has been asked for since the last change.
    resolved: Option<Result<Snapshot>>,
}

impl Process {
    /// The old resolution, for the caller to drop when the lock is gone.
    #[must_use]
    fn changed(&mut self) -> Option<Result<Snapshot>> {
        GENERATION.fetch_add(1, Ordering::Relaxed);
        self.resolved.take()
    }
}

/// Tells whether the layers are still those that were asked for.
pub(super) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// The process-wide configuration and its generation.
pub(super) fn snapshot() -> Result<(u64, Snapshot)> {
    let process = &mut *PROCESS.lock();
    let resolved = process.resolved.get_or_insert_with(|| {
        let mut layers = process.outside.get_or_insert_with(sources::read).clone()?;
        layers.push(process.set.clone());
        Ok(Snapshot::of(layers))
    });
    Ok((generation(), resolved.clone()?))
}

/// Reads the outside again. A failure takes the place of an earlier failure, but not of an answer.
pub(super) fn refresh() -> Result<()> {
    let (read, replaced) = {
        let process = &mut *PROCESS.lock();
        let read = sources::read();
        if let (Err(error), Some(Ok(_))) = (&read, &process.outside) {
            return Err(error.clone());
        }
        let outcome = read.as_ref().map(|_| ()).map_err(Error::clone);
        (outcome, (process.outside.replace(read), process.changed()))
    };
    drop(replaced);
    read
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
        (process.set.remove(setting.name), process.changed())
    };
    drop(replaced);
}
