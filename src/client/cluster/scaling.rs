//! Workers come, go, and are replaced.

use super::member::{Member, WorkerInfo};
use super::place::block_in;
use super::{Cluster, worker};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::processes::{WorkerCounts, WorkerEnd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Cluster {
    /// Starts workers, or lets the youngest leave after the tasks that they run, until there are
    /// `num_workers`.
    ///
    /// # Errors
    /// [`NoWorker`](ErrorKind::NoWorker) if a thread cannot be started, or the cluster has no room
    /// for so many processes; [`Closed`](ErrorKind::Closed).
    pub(super) fn scale(self: &Arc<Self>, num_workers: usize) -> Result<()> {
        if self.is_closed() {
            return Err(self.closed_error());
        }
        let max_workers = self.members.settings.max_workers;
        if self.backend.processes().is_some() && num_workers > max_workers {
            let message = format!(
                "the cluster {:?} has room for {max_workers} worker processes and cannot have {num_workers}; make it with `max_workers`",
                self.name
            );
            return Err(Error::new(ErrorKind::NoWorker, message));
        }
        let counts = |index: u32| self.worker_counts(index);
        while let Some(member) = self.members.add_towards(num_workers, counts, || self.is_closed()) {
            for thread in 0..member.num_threads {
                if let Err(error) = worker::start_thread(self, &member) {
                    // A worker with fewer threads is better than none.
                    if thread > 0 {
                        break;
                    }
                    self.members.remove(&member);
                    let message = format!("there is no thread for a worker: {error}");
                    return Err(Error::new(ErrorKind::NoWorker, message));
                }
            }
        }
        self.dispatch.wake_all();
        self.refuse_impossible();
        Ok(())
    }

    /// Blocks until `num_workers` are ready. False if the deadline passes or the cluster is closed
    /// before.
    pub(super) fn wait_for_workers(&self, num_workers: usize, deadline: Option<Instant>) -> bool {
        block_in(self, || self.members.wait(num_workers, deadline, || self.is_closed()))
    }

    /// Replaces the process of a worker at once; the tasks that it runs start again. Does nothing
    /// to a worker of threads.
    pub(super) fn restart(&self, member: &Member) {
        if let Some(executor) = self.backend.processes() {
            executor.end_worker(member.index, WorkerEnd::Kill);
        }
    }

    fn worker_counts(&self, index: u32) -> WorkerCounts {
        self.backend.processes().map_or_else(WorkerCounts::default, |executor| executor.worker_counts(index))
    }

    pub(in crate::client) fn worker_infos(&self) -> Vec<WorkerInfo> {
        let info = |member: &Arc<Member>| {
            let executor = self.backend.processes();
            let counts = self.worker_counts(member.index);
            let this_process = || Some(std::process::id());
            WorkerInfo {
                id: member.id,
                name: member.name.to_string(),
                pid: executor.map_or_else(this_process, |executor| executor.worker_pid(member.index)),
                num_threads: member.num_threads,
                memory_limit: self.members.settings.memory_limit,
                memory_used: executor.and_then(|executor| executor.worker_memory(member.index)),
                state: member.state(),
                num_done: member.num_done.load(Ordering::Relaxed),
                num_deaths: counts.num_deaths - member.counts_before.num_deaths,
                num_restarts: counts.num_restarts - member.counts_before.num_restarts,
            }
        };
        self.members.all().iter().map(info).collect()
    }
}
