//! The events, one type for each handler of a callback.

use super::super::tracker::ValueSize;
use super::info::{Crossing, RunHandle, RunInfo, TaskInfo, WorkerHandle, WorkerId};
use crate::error::Error;
use std::fmt;
use std::time::Instant;

/// See [`Callback::on_run_started`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunStarted<'e> {
    /// The run.
    pub run: RunInfo<'e>,
    /// The scheduler that carries it.
    pub scheduler: &'e str,
    /// When it was started.
    pub started: Instant,
    /// To end it.
    pub handle: RunHandle,
}

/// See [`Callback::on_task_ready`]. A task that is sent to a worker process together with its inputs is ready when it is sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskReady<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// When that was known.
    pub ready: Instant,
}

/// See [`Callback::on_task_started`]. Tasks for worker processes are sent in batches that take up to a third of a millisecond; all of a batch
/// count as started when it is sent, and the event that follows says when it was in truth.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskStarted<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who runs it.
    pub worker: WorkerId,
    /// When it was started.
    pub started: Instant,
    /// How many times it has been started, with this one.
    pub attempt: u32,
}

/// See [`Callback::on_task_finished`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskFinished<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who ran it.
    pub worker: WorkerId,
    /// When the call began, by the clock of who made it.
    pub started: Instant,
    /// When the call ended.
    pub ended: Instant,
    /// How many times it was started.
    pub attempt: u32,
    /// If it ran in another process.
    pub crossing: Option<Crossing>,
    pub(in crate::engine) encoded_bytes: Option<u64>,
}

impl TaskFinished<'_> {
    /// How large the value is that it has left for others; `None` if nobody is going to read it, or if it belongs to the graph.
    ///
    /// It is the size of its type, unless the value has come from another process, or a callback asks for [measured
    /// values](Interests::measured_values).
    pub fn value(&self) -> Option<ValueSize> {
        self.task.value_size(self.encoded_bytes)
    }
}

/// See [`Callback::on_task_failed`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskFailed<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who ran it.
    pub worker: WorkerId,
    /// When the last attempt began.
    pub started: Instant,
    /// When it ended, or was given up.
    pub ended: Instant,
    /// How many times it was started.
    pub attempt: u32,
    /// What went wrong.
    pub error: Error,
    /// If it ran in another process.
    pub crossing: Option<Crossing>,
}

/// See [`Callback::on_task_retried`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskRetried<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who ran it.
    pub worker: WorkerId,
    /// When the attempt began.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// What went wrong; `None` if it is not the task's fault, as when its worker died of another one.
    pub error: Option<Error>,
    /// If it ran in another process.
    pub crossing: Option<Crossing>,
}

/// See [`Callback::on_task_cancelled`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskCancelled<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who was running it.
    pub worker: WorkerId,
    /// When it was started.
    pub started: Instant,
    /// When it was given up.
    pub ended: Instant,
}

/// See [`Callback::on_task_skipped`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskSkipped<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// The task whose failure is the cause.
    pub cause: TaskInfo<'e>,
}

/// See [`Callback::on_value_stored`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValueStored<'e> {
    /// The task whose value it is.
    pub task: TaskInfo<'e>,
    /// How large it is.
    pub size: ValueSize,
    /// When it was there.
    pub stored: Instant,
}

/// See [`Callback::on_value_released`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValueReleased<'e> {
    /// The task whose value it was.
    pub task: TaskInfo<'e>,
    /// How large it was when it was stored.
    pub size: ValueSize,
    /// When it was gone.
    pub released: Instant,
}

/// See [`Callback::on_worker_started`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerStarted<'e> {
    /// The run that needed it.
    pub run: RunInfo<'e>,
    /// The worker.
    pub worker: WorkerId,
    /// How many workers were in its place before.
    pub restarts: u32,
    /// How much memory of its own it may use before it is killed.
    pub memory_limit: Option<u64>,
    /// To have it replaced.
    pub handle: WorkerHandle,
}

/// See [`Callback::on_worker_lost`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerLost<'e> {
    /// The run.
    pub run: RunInfo<'e>,
    /// The worker.
    pub worker: WorkerId,
    /// How it ended.
    pub error: Error,
}

/// See [`Callback::on_run_stalled`]. Displayed, it is the warning that is logged:
///
/// ```text
/// run 3 ("total") has stalled: no task has finished for 30.0s; 2 are running and 14 wait
///   "load 7" on thread 1 for 31.2s: 12 wait for it, first "mean 7"
///   "load 8" on thread 2 for 30.9s: 12 wait for it, first "mean 8"
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunStalled<'e> {
    /// The run.
    pub run: RunInfo<'e>,
    /// When a task finished last, in this run or in one that is nested in it in this process; if none has, when the run was started.
    pub since: Instant,
    /// When this was told.
    pub now: Instant,
    /// The tasks that were started and have not ended, the first ones first; at most 32. Of those that were sent to one worker process
    /// together, only one runs.
    pub running: Vec<RunningTask<'e>>,
    /// How many there are.
    pub num_running: usize,
    /// How many tasks have neither ended nor been started.
    pub num_waiting: usize,
    /// The run has been stopped, by a failure or a token: it waits only for those that run.
    pub is_stopped: bool,
}

/// A task that runs, and who waits for it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunningTask<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who runs it.
    pub worker: WorkerId,
    /// When it was started.
    pub started: Instant,
    /// How many times it has been started, with this one.
    pub attempt: u32,
    /// The tasks that need it, the first ones in rank; at most 8.
    pub dependents: Vec<TaskInfo<'e>>,
    /// How many tasks need it, or need a task that does, and so on.
    pub num_waiting: usize,
}

impl fmt::Display for RunStalled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.run.plan();
        let outputs = plan.outputs();
        let title = outputs.first().map(|&id| plan.name(id)).unwrap_or_default();
        let more = if outputs.len() > 1 { ", ..." } else { "" };
        let since = self.now.saturating_duration_since(self.since);
        write!(f, "run {} ({title:?}{more}) has stalled: no task has finished for {since:.1?}; ", self.run.id())?;
        match self.num_running {
            0 => f.write_str("none is running")?,
            1 => f.write_str("1 is running")?,
            number => write!(f, "{number} are running")?,
        }
        match (self.num_waiting, self.is_stopped) {
            (_, true) => f.write_str(", and the run, which was stopped, waits for that")?,
            (1, false) => f.write_str(" and 1 waits")?,
            (number, false) => write!(f, " and {number} wait")?,
        }
        for RunningTask { task, worker, started, attempt, dependents, num_waiting } in &self.running {
            let ran = self.now.saturating_duration_since(*started);
            write!(f, "\n  {:?} on {worker} for {ran:.1?}", task.name())?;
            if *attempt > 1 {
                write!(f, ", attempt {attempt}")?;
            }
            if let (Some(first), false) = (dependents.first(), self.is_stopped) {
                let verb = if *num_waiting == 1 { "waits" } else { "wait" };
                write!(f, ": {num_waiting} {verb} for it, first {:?}", first.name())?;
            }
        }
        match self.num_running - self.running.len() {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// See [`Callback::on_run_finished`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunFinished<'e> {
    /// The run.
    pub run: RunInfo<'e>,
    /// When it was started.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Why it gave no results, if so. Failures that were collected are not such a reason.
    pub error: Option<Error>,
}
