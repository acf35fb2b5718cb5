//! The workers of a pool as its owner sees them: their processes, their ends, and how these are
//! counted.

use super::{Pool, SlotState, worker};
use crate::executor::processes::ends::{EndLog, WorkerCounts, WorkerEnd};
use crate::executor::processes::monitor::{MonitoredProcess, private_bytes};
use crate::executor::processes::process::{KillReason, WorkerProcess};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

impl Pool {
    /// Counts the end of a process, once.
    pub(super) fn count_end(&self, process: &WorkerProcess, is_lost: bool) {
        if !process.count_once() {
            return;
        }
        let slots = &self.slots[process.number() as usize * self.num_threads()..][..self.num_threads()];
        let current = slots.iter().find_map(SlotState::worker);
        let given_away = || slots.iter().find_map(|slot| worker(&slot.given_away));
        let Some(worker) = current.or_else(given_away) else { return };
        let log = &self.ends[worker as usize];
        if (is_lost || process.has_ended()) && process.kill_reason() != Some(KillReason::Replaced) {
            log.died();
        }
        if current.is_some() {
            log.ended();
        }
    }

    /// How often the processes of a worker have died and were replaced.
    pub(in crate::executor::processes) fn worker_counts(&self, worker: u32) -> WorkerCounts {
        self.ends.get(worker as usize).map_or_else(WorkerCounts::default, EndLog::counts)
    }

    /// The processes of the slots that take the tasks of a worker or, if `also_given_away`, have a
    /// task of it that waits.
    fn processes(&self, number: u32, also_given_away: bool) -> impl Iterator<Item = Arc<WorkerProcess>> {
        let entry_of = move |entry: &usize| {
            let slots = &self.slots[entry * self.num_threads()..][..self.num_threads()];
            slots.iter().any(|slot| {
                slot.worker() == Some(number) || also_given_away && worker(&slot.given_away) == Some(number)
            })
        };
        let process = |entry: usize| {
            // A slot holds the lock while it starts a worker.
            let entry = self.entries[entry].try_lock()?;
            entry.process.as_ref().filter(|process| !process.has_ended()).map(Arc::clone)
        };
        (0..self.entries.len()).filter(entry_of).filter_map(process)
    }

    /// The process id of a worker, if it has been started.
    pub(in crate::executor::processes) fn worker_pid(&self, worker: u32) -> Option<u32> {
        self.processes(worker, false).next().map(|process| process.pid())
    }

    /// How much private memory a worker uses, in bytes.
    pub(in crate::executor::processes) fn worker_memory(&self, worker: u32) -> Option<u64> {
        private_bytes(self.worker_pid(worker)?)
    }

    /// Ends a worker; see [`ProcessExecutor::end_worker`](super::ProcessExecutor::end_worker).
    pub(in crate::executor::processes) fn end_worker(&self, worker: u32, how: WorkerEnd) {
        for process in self.processes(worker, true) {
            match how {
                WorkerEnd::Kill => process.kill(KillReason::Replaced),
                WorkerEnd::Replace => self.disconnect(&process, false),
                WorkerEnd::Leave => {
                    let _first = process.count_once();
                    self.disconnect(&process, false);
                }
            }
        }
        if how == WorkerEnd::Leave {
            // Its number may soon be that of another worker.
            self.ends[worker as usize].left();
        }
    }

    /// Tells the workers that run no task to end, and returns them. The others end when they are
    /// idle. Gives up at the deadline if another thread keeps a lock.
    pub(in crate::executor::processes) fn end_idle_workers(&self, deadline: Instant) -> Vec<Arc<WorkerProcess>> {
        self.keeps_no_workers.store(true, Relaxed);
        let entries = self.entries.iter().filter_map(|entry| entry.try_lock()?.process.clone());
        let idle = entries.filter(|process| process.is_idle() && !process.has_ended()).collect();
        let Some(mut state) = self.state.try_lock_until(deadline) else { return Vec::new() };
        state.version += 1;
        let woken = std::mem::take(&mut state.sleeping);
        drop(state);
        self.notify(&woken);
        idle
    }

    /// How long a worker may be idle before it ends.
    pub(in crate::executor::processes) fn idle_timeout(&self) -> Option<Duration> {
        match self.keeps_no_workers.load(Relaxed) {
            true => Some(Duration::ZERO),
            false => self.settings.idle_timeout,
        }
    }
}
