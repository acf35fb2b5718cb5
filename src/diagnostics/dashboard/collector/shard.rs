//! Shards: the events of a worker's tasks write to one of these.

use super::counts::Counts;
use super::limits::{MAX_UNREAD, MAX_WORKERS};
use super::runs::TrackedRun;
use crate::diagnostics::profile::{Outcome, RecordBuffer};
use crate::engine::callback::{RunId, StartedWorker, WorkerHandle, WorkerId};
use std::collections::VecDeque;
use std::sync::Arc;

/// A running attempt. Times are nanoseconds since the start of the dashboard.
#[derive(Clone, Debug)]
pub(crate) struct RunningTask {
    /// The given name; `None` if the task has only the name of its group.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) run: RunId,
    pub(crate) task: u32,
    pub(crate) worker: WorkerId,
    pub(crate) started_ns: u64,
    pub(crate) attempt: u32,
    /// The id of the group's name.
    pub(crate) group: u16,
}

/// An attempt that has ended.
#[derive(Clone, Debug)]
pub(crate) struct TaskRecord {
    pub(crate) attempt: RunningTask,
    pub(crate) ended_ns: u64,
    pub(crate) outcome: Outcome,
}

/// The counts and the sample of one live run in a shard.
pub(super) struct RunInShard {
    pub(super) run: Arc<TrackedRun>,
    /// By group.
    pub(super) counts: Vec<Counts>,
    pub(super) sample: RecordBuffer,
}

/// A worker, since it was first seen.
#[derive(Clone, Debug)]
pub(crate) struct WorkerRecord {
    pub(crate) id: WorkerId,
    pub(crate) counts: Counts,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    /// How it was lost.
    pub(crate) lost: Option<Arc<str>>,
    /// The last error of a task that it ran.
    pub(crate) error: Option<Arc<str>>,
    /// The last output of a lost worker, if it was captured.
    pub(crate) output: Option<Arc<str>>,
    pub(crate) restarts: u32,
    pub(crate) memory_limit: Option<u64>,
    /// `None` for a thread, and for a process that is lost or is being restarted.
    pub(crate) handle: Option<WorkerHandle>,
}

#[derive(Default)]
pub(super) struct Shard {
    /// Ended attempts that the store has not taken yet. A ring once it is full.
    pub(super) unread: Vec<TaskRecord>,
    /// The oldest of a full ring.
    oldest: usize,
    overwritten: u64,
    pub(super) running: VecDeque<RunningTask>,
    pub(super) runs: Vec<RunInShard>,
    pub(super) workers: Vec<WorkerRecord>,
    pub(super) num_forgotten: u64,
}

impl Shard {
    /// The entry of a run, which is added if `find` knows the run.
    pub(super) fn run(
        &mut self,
        run: RunId,
        find: impl FnOnce() -> Option<Arc<TrackedRun>>,
    ) -> Option<&mut RunInShard> {
        // The last is the innermost, and usually the only one.
        let position = match self.runs.iter().rposition(|entry| entry.run.id() == run) {
            Some(position) => position,
            None => {
                let run = find()?;
                let counts = vec![Counts::default(); run.groups.len()];
                self.runs.push(RunInShard { run, counts, sample: RecordBuffer::default() });
                self.runs.len() - 1
            }
        };
        Some(&mut self.runs[position])
    }

    /// The record of a worker that is seen now. A new one replaces the worker that has been idle
    /// for longest, if there are too many.
    pub(super) fn worker(&mut self, id: WorkerId, now_ns: u64) -> &mut WorkerRecord {
        let position = self.workers.iter().position(|worker| worker.id == id).unwrap_or_else(|| {
            if self.workers.len() >= MAX_WORKERS {
                let idle = (0..self.workers.len()).filter(|&index| self.workers[index].counts.running <= 0);
                let forgotten = idle.min_by_key(|&index| self.workers[index].last_ns).unwrap_or(0);
                self.workers.swap_remove(forgotten);
                self.num_forgotten += 1;
            }
            self.workers.push(WorkerRecord::new(id, now_ns));
            self.workers.len() - 1
        });
        let worker = &mut self.workers[position];
        worker.last_ns = worker.last_ns.max(now_ns);
        worker
    }

    pub(super) fn push(&mut self, record: TaskRecord) {
        if self.unread.len() < MAX_UNREAD {
            return self.unread.push(record);
        }
        self.unread[self.oldest] = record;
        self.oldest = (self.oldest + 1) % MAX_UNREAD;
        self.overwritten += 1;
    }

    /// Moves the unread records to `records`, and says how many others were overwritten.
    pub(super) fn take_unread(&mut self, records: &mut Vec<TaskRecord>) -> u64 {
        let empty = if self.unread.is_empty() { Vec::new() } else { Vec::with_capacity(MAX_UNREAD) };
        records.append(&mut std::mem::replace(&mut self.unread, empty));
        self.oldest = 0;
        std::mem::take(&mut self.overwritten)
    }
}

impl WorkerRecord {
    fn new(id: WorkerId, now_ns: u64) -> Self {
        // A process may have been started before this dashboard.
        let started = Some(id).filter(|id| !id.is_here()).and_then(StartedWorker::find);
        WorkerRecord {
            id,
            counts: Counts::default(),
            first_ns: now_ns,
            last_ns: now_ns,
            lost: None,
            error: None,
            output: None,
            restarts: started.as_ref().map_or(0, |started| started.restarts),
            memory_limit: started.as_ref().and_then(|started| started.memory_limit),
            handle: started.map(|started| started.handle),
        }
    }
}
