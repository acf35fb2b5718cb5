//! Watching runs: what a [`Callback`] is told, and how it is attached.
//!
//! Callbacks are told of a run by the thread that did, or that learned, what they are told of. They see events, which borrow what they show
//! of the plan, and never the state of the run.
//!
//! # What is attached to what
//!
//! A callback watches the process ([`register`]) or what one thread computes ([`scoped`], [`with`]). A run looks at both when it is made,
//! and keeps to that. Its tasks find the scoped callbacks of the run in force, as they find its configuration; so nested computes are
//! watched too, as runs of their own that know [the one around them](RunInfo::parent).
//!
//! # What is told
//!
//! 1. [`RunStarted`] comes first and [`RunFinished`] last, once each, also if the run fails, is cancelled, or the executor panics.
//! 2. Each [`TaskStarted`] is followed by exactly one of [`TaskFinished`], [`TaskFailed`], [`TaskRetried`] and [`TaskCancelled`] for the same
//!    task; only after a `TaskRetried` is it started again. The other tasks are skipped, or their run has stopped before.
//! 3. Events of one task come in order. Those of different tasks come from several threads at once.
//! 4. What a callback computes itself is not watched, or it would be told of that without end.
//! 5. A callback that panics is not called any more. The run goes on.
//!
//! And, to those who [ask for it](Callback::interests):
//!
//! 6. A task that is started is told to be [ready](TaskReady) once, before its first [`TaskStarted`]. Tasks that will be skipped are not.
//! 7. Each [`ValueStored`] follows the [`TaskFinished`] of its task, and is followed by exactly one [`ValueReleased`]: after the end of the last
//!    task that reads the value, or before [`RunFinished`] for outputs, which are handed over then, and for what a run that failed has left.
//!    The outputs of a run of futures are handed over one by one, each as soon as it is stored.
//!
//! # What it costs
//!
//! Nothing, for a run without callbacks, beside a look around when it is made: the run's status tells its workers to take care, as it does for
//! the options of tasks, and only then is a clock looked at.
//!
//! Executors do without knowing which tasks are ready and which values are held, so to tell that costs counters, for each task and each
//! dependency; and to measure a value costs a walk through it. A run pays for these only if a callback that watches it asks. Bench `callbacks`
//! has the figures.

mod attach;
mod events;
mod info;
mod observer;

pub(super) use self::attach::{Entered, Frame, Observers};
pub use self::attach::{Registration, Scope, register, scoped, with};
pub(crate) use self::attach::{Watchers, has_watchers};
pub use self::events::{
    RunFinished, RunStalled, RunStarted, RunningTask, TaskCancelled, TaskFailed, TaskFinished, TaskReady, TaskRetried,
    TaskSkipped, TaskStarted, ValueReleased, ValueStored, WorkerLost, WorkerStarted,
};
pub(in crate::engine) use self::info::RunIds;
pub(crate) use self::info::{Backlog, CancelRun, Replaceable, StartedWorker};
pub use self::info::{ClusterInfo, Crossing, RunHandle, RunId, RunInfo, TaskInfo, WorkerHandle, WorkerId};
pub use self::observer::{Callback, Interests};
pub use super::tracker::ValueSize;
