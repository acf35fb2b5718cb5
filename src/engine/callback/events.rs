//! The events, one type for each handler of a callback.

use super::super::tracker::ValueSize;
use super::info::{Crossing, RunHandle, RunInfo, TaskInfo, WorkerHandle, WorkerId};
use crate::error::Error;
use std::fmt;
use std::time::Instant;

/// See [`Callback::on_run_started`](super::Callback::on_run_started).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunStarted<'e> {
    /// The run.
    pub run: RunInfo<'e>,
    /// The scheduler that runs it.
    pub scheduler: &'e str,
    /// When it was started.
    pub started: Instant,
    /// Cancels the run.
    pub handle: RunHandle,
}

/// See [`Callback::on_task_ready`](super::Callback::on_task_ready). A task that is sent to a worker
/// process together with its inputs becomes ready when it is sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskReady<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// When the task became ready.
    pub ready: Instant,
}

/// See [`Callback::on_task_started`](super::Callback::on_task_started).
///
/// Tasks for worker processes are sent in batches that take up to a third of a millisecond. All
/// tasks of a batch count as started when the batch is sent. The event at the end of a task has the
/// real time of its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskStarted<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// The worker that runs it.
    pub worker: WorkerId,
    /// When it was started.
    pub started: Instant,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

/// See [`Callback::on_task_finished`](super::Callback::on_task_finished).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskFinished<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// The worker that ran it.
    pub worker: WorkerId,
    /// When the call began, by the clock of the process that made it.
    pub started: Instant,
    /// When the call ended.
    pub ended: Instant,
    /// The number of attempts.
    pub attempt: u32,
    /// The transfer, if the task ran in another process.
    pub crossing: Option<Crossing>,
    pub(in crate::engine) encoded_bytes: Option<u64>,
}

impl TaskFinished<'_> {
    /// The size of the value. `None` if the value has no reader, or belongs to the graph.
    ///
    /// It is the size of the value's encoding if the value has come from another process, or a
    /// callback asks for [measured values](super::Interests::measured_values). Otherwise it is the
    /// size of its type, with the bytes that it owns if the type can [tell](super::OwnedBytes) and
    /// a callback asks for [values](super::Interests::values).
    pub fn value(&self) -> Option<ValueSize> {
        self.task.value_size(self.encoded_bytes)
    }
}

/// See [`Callback::on_task_failed`](super::Callback::on_task_failed).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskFailed<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// The worker that ran it.
    pub worker: WorkerId,
    /// When the last attempt began.
    pub started: Instant,
    /// When it ended, or timed out.
    pub ended: Instant,
    /// The number of attempts.
    pub attempt: u32,
    /// The failure.
    pub error: Error,
    /// The transfer, if the task ran in another process.
    pub crossing: Option<Crossing>,
}

/// See [`Callback::on_task_retried`](super::Callback::on_task_retried).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskRetried<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// The worker that ran it.
    pub worker: WorkerId,
    /// When the attempt began.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The failure. `None` if the task is not the cause, for instance if another task killed its
    /// worker.
    pub error: Option<Error>,
    /// The transfer, if the task ran in another process.
    pub crossing: Option<Crossing>,
}

/// See [`Callback::on_task_cancelled`](super::Callback::on_task_cancelled).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskCancelled<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// The worker that was running it.
    pub worker: WorkerId,
    /// When it was started.
    pub started: Instant,
    /// When it was cancelled.
    pub ended: Instant,
}

/// See [`Callback::on_task_skipped`](super::Callback::on_task_skipped).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskSkipped<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// The task whose failure is the cause.
    pub cause: TaskInfo<'e>,
}

/// See [`Callback::on_value_stored`](super::Callback::on_value_stored).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValueStored<'e> {
    /// The task that returned it.
    pub task: TaskInfo<'e>,
    /// Its size.
    pub size: ValueSize,
    /// When it was stored.
    pub stored: Instant,
}

/// See [`Callback::on_value_released`](super::Callback::on_value_released).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValueReleased<'e> {
    /// The task that returned it.
    pub task: TaskInfo<'e>,
    /// Its size when it was stored.
    pub size: ValueSize,
    /// When it was released.
    pub released: Instant,
}

/// See [`Callback::on_worker_started`](super::Callback::on_worker_started).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerStarted<'e> {
    /// The run that needed it.
    pub run: RunInfo<'e>,
    /// The worker.
    pub worker: WorkerId,
    /// The number of earlier processes of this worker.
    pub restarts: u32,
    /// The private memory, in bytes, above which the worker is killed.
    pub memory_limit: Option<u64>,
    /// Restarts the worker.
    pub handle: WorkerHandle,
}

/// See [`Callback::on_worker_lost`](super::Callback::on_worker_lost).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerLost<'e> {
    /// The run.
    pub run: RunInfo<'e>,
    /// The worker.
    pub worker: WorkerId,
    /// The reason.
    pub error: Error,
}

/// See [`Callback::on_run_stalled`](super::Callback::on_run_stalled). Its `Display` is the warning
/// in the log:
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
    /// When the last task finished, in this run or in a run nested in it in this process; the start
    /// of the run, if none has.
    pub since: Instant,
    /// The time of this report.
    pub now: Instant,
    /// The tasks that were started and have not ended, in the order of their start; at most 32. Of
    /// the tasks that were sent to a worker process together, only one runs.
    pub running: Vec<RunningTask<'e>>,
    /// The number of tasks that were started and have not ended.
    pub num_running: usize,
    /// The number of tasks that were not started.
    pub num_waiting: usize,
    /// The run was stopped, by a failure or a token, and waits for its running tasks only.
    pub is_stopped: bool,
}

/// A running task, and the tasks that wait for it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunningTask<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// The worker that runs it.
    pub worker: WorkerId,
    /// When it was started.
    pub started: Instant,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The first of its dependents, in the order of their ids; at most 8.
    pub dependents: Vec<TaskInfo<'e>>,
    /// The number of tasks that need it, directly or through other tasks.
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

/// See [`Callback::on_run_finished`](super::Callback::on_run_finished).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunFinished<'e> {
    /// The run.
    pub run: RunInfo<'e>,
    /// When it was started.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The reason, if the run gave no results. Collected failures do not count.
    pub error: Option<Error>,
}
