//! Watching runs: the events that a [`Callback`] gets, and how to attach one.
//!
//! A callback runs on the thread that caused or observed the event. Events borrow from the plan and
//! do not show the state of the run.
//!
//! # Attaching
//!
//! A callback watches the process ([`register`]) or the runs that one thread starts ([`scoped`],
//! [`with`]). A run collects both when it is created, and never changes that set. The scoped
//! callbacks of a run are in force in its tasks, as its configuration is. So nested computes are
//! watched too, as separate runs that know [their parent](RunInfo::parent).
//!
//! # Events
//!
//! 1. [`RunStarted`] comes first and [`RunFinished`] last, once each, also if the run fails, is
//!    cancelled, or its executor panics.
//! 2. Each [`TaskStarted`] is followed by exactly one of [`TaskFinished`], [`TaskFailed`],
//!    [`TaskRetried`] and [`TaskCancelled`] for the same task. A task starts again only after a
//!    `TaskRetried`. A task without a `TaskStarted` was skipped, or its run was stopped first.
//! 3. The events of one task come in order. The events of different tasks come from several threads
//!    at once.
//! 4. Runs that a callback starts are not watched. Otherwise their events would never end.
//! 5. A callback that panics is not called any more. The run continues.
//!
//! Callbacks can [ask](Callback::interests) for more events:
//!
//! 6. [`TaskReady`] comes once for each task that is started, before its first [`TaskStarted`]. It
//!    does not come for tasks that are skipped.
//! 7. Each [`ValueStored`] follows the [`TaskFinished`] of its task. Exactly one [`ValueReleased`]
//!    follows it: after the end of the last task that reads the value, or before [`RunFinished`]
//!    for outputs and for values that a failed run has left. A run of futures releases each output
//!    as soon as it is stored, because the future holds it from then on.
//!
//! # Costs
//!
//! A run without callbacks pays for one check when it is made. In a run with callbacks, workers
//! take the longer path that tasks with options take, and only that path reads the clock.
//!
//! Executors do not count ready tasks or live values. Reporting both takes a counter for each task
//! and each dependency; measuring a value takes a traversal of it. A run pays for this only if one
//! of its callbacks asks for it. The bench `callbacks` has the figures.

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
pub use crate::graph::owned::{OwnedBytes, count_owned_bytes};
