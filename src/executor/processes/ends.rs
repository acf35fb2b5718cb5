//! Counts how often the processes of a worker have died and were replaced.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a worker is ended on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerEnd {
    /// It is killed, and another process runs its tasks again.
    Kill,
    /// It ends when its tasks are finished, and another process takes its place.
    Replace,
    /// It ends when its tasks are finished, because there is to be one worker less.
    Leave,
}

/// The deaths and restarts of the processes of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkerCounts {
    /// How many of them have ended otherwise than on request.
    pub(crate) num_deaths: u64,
    /// How many have taken the place of one that had ended.
    pub(crate) num_restarts: u64,
}

/// See the [module](self). Relaxed: the numbers order nothing.
#[derive(Debug, Default)]
pub(super) struct EndLog {
    num_deaths: AtomicU64,
    num_restarts: AtomicU64,
    /// How many processes have ended whose place another one is to take.
    num_ended: AtomicU64,
}

#[cfg_attr(not(all(target_os = "linux", not(miri))), expect(dead_code, reason = "there are no processes"))]
impl EndLog {
    pub(super) fn counts(&self) -> WorkerCounts {
        WorkerCounts { num_deaths: self.num_deaths.load(Relaxed), num_restarts: self.num_restarts.load(Relaxed) }
    }

    pub(super) fn died(&self) {
        self.num_deaths.fetch_add(1, Relaxed);
    }

    /// A process has ended, or is about to, that ran the tasks of the worker.
    pub(super) fn ended(&self) {
        self.num_ended.fetch_add(1, Relaxed);
    }

    /// No process takes the place of the one that has ended: the next one is that of another
    /// worker.
    pub(super) fn left(&self) {
        self.num_ended.store(self.num_restarts.load(Relaxed), Relaxed);
    }

    /// A process has started.
    pub(super) fn started(&self) {
        let num_ended = self.num_ended.load(Relaxed);
        let _ = self.num_restarts.fetch_update(Relaxed, Relaxed, |number| (number < num_ended).then_some(number + 1));
    }
}
