//! What a callback implements: the handlers, and the extra events that it asks for.

use super::events::{
    RunFinished, RunStalled, RunStarted, TaskCancelled, TaskFailed, TaskFinished, TaskReady, TaskRetried, TaskSkipped,
    TaskStarted, ValueReleased, ValueStored, WorkerLost, WorkerStarted,
};

/// An observer of runs. Every method has a body that does nothing.
///
/// Methods are called by the threads that run tasks, several at once, and the tasks wait meanwhile: what takes long belongs on a thread of
/// the callback's own. The module says [what is told when](self).
///
/// # Examples
/// ```
/// use sprang::callback::{self, Callback, TaskFinished};
/// use sprang::delayed;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::sync::Arc;
///
/// #[derive(Default)]
/// struct Count(AtomicUsize);
///
/// impl Callback for Count {
///     fn on_task_finished(&self, event: &TaskFinished<'_>) {
///         assert!(event.started <= event.ended);
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let count = Arc::new(Count::default());
/// let two = delayed(|| 2, ());
/// let four = delayed(|two| two * 2, (&two,));
/// assert_eq!(callback::with(count.clone(), || four.compute())?, 4);
/// assert_eq!(four.compute()?, 4); // not watched
/// assert_eq!(count.0.load(Ordering::Relaxed), 2);
/// # Ok::<_, sprang::Error>(())
/// ```
pub trait Callback: Send + Sync {
    /// What it wants to be told of beside what all are told. It is looked at when the callback is attached.
    fn interests(&self) -> Interests {
        Interests::new()
    }

    /// A run is about to start its first task.
    fn on_run_started(&self, event: &RunStarted<'_>) {
        let _ = event;
    }

    /// A task waits for nothing any more but a worker. Told to those who [ask](Interests::ready).
    fn on_task_ready(&self, event: &TaskReady<'_>) {
        let _ = event;
    }

    /// A task is about to be called.
    fn on_task_started(&self, event: &TaskStarted<'_>) {
        let _ = event;
    }

    /// A task has given a value.
    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        let _ = event;
    }

    /// A task has failed for good.
    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        let _ = event;
    }

    /// A task has given no value and is going to be called again.
    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        let _ = event;
    }

    /// A task that was started has been given up, because its run has ended.
    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        let _ = event;
    }

    /// A task will not be called, because one that it needs has failed.
    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        let _ = event;
    }

    /// The value of a task is kept for those that read it. Told to those who [ask](Interests::values).
    fn on_value_stored(&self, event: &ValueStored<'_>) {
        let _ = event;
    }

    /// A value is gone, dropped or moved to its last reader, or its future has it. Told to those who [ask](Interests::values).
    fn on_value_released(&self, event: &ValueReleased<'_>) {
        let _ = event;
    }

    /// A worker process has been started for a run.
    fn on_worker_started(&self, event: &WorkerStarted<'_>) {
        let _ = event;
    }

    /// A worker process has ended while it had tasks of a run.
    fn on_worker_lost(&self, event: &WorkerLost<'_>) {
        let _ = event;
    }

    /// No task of a run has finished for so long as the setting `stall_timeout` says; told once for each time, and once more where
    /// a task has started since. By a thread of its own, which the run waits for.
    fn on_run_stalled(&self, event: &RunStalled<'_>) {
        let _ = event;
    }

    /// A run has ended; nothing more will be told of it.
    fn on_run_finished(&self, event: &RunFinished<'_>) {
        let _ = event;
    }
}

/// What a [`Callback`] is told of beside what all are told, because it is not free; see [what it costs](self#what-it-costs).
///
/// # Examples
/// ```
/// use sprang::callback::{self, Callback, Interests, ValueReleased, ValueStored};
/// use sprang::delayed;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// /// How many bytes of values are held, and how many were at most.
/// #[derive(Default)]
/// struct Held(AtomicU64, AtomicU64);
///
/// impl Callback for Held {
///     fn interests(&self) -> Interests {
///         Interests::new().measured_values()
///     }
///
///     fn on_value_stored(&self, event: &ValueStored<'_>) {
///         let now = self.0.fetch_add(event.size.bytes, Relaxed) + event.size.bytes;
///         self.1.fetch_max(now, Relaxed);
///     }
///
///     fn on_value_released(&self, event: &ValueReleased<'_>) {
///         self.0.fetch_sub(event.size.bytes, Relaxed);
///     }
/// }
///
/// let held = Arc::new(Held::default());
/// let text = delayed(|| "x".repeat(1_000_000), ());
/// let len = delayed(|text: &String| text.len(), (&text,));
/// callback::with(held.clone(), || len.compute())?;
/// assert!(held.1.load(Relaxed) > 1_000_000);
/// assert_eq!(held.0.load(Relaxed), 0);
/// # Ok::<_, sprang::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interests {
    pub(in crate::engine) ready: bool,
    pub(in crate::engine) values: bool,
    pub(in crate::engine) releases: bool,
    pub(in crate::engine) measures: bool,
}

impl Interests {
    /// In nothing more.
    pub const fn new() -> Self {
        Interests { ready: false, values: false, releases: false, measures: false }
    }

    /// In tasks that become [ready](Callback::on_task_ready).
    #[must_use]
    pub const fn ready(mut self) -> Self {
        self.ready = true;
        self
    }

    /// In values that are [stored](Callback::on_value_stored) and [released](Callback::on_value_released), with the size of their type, or of
    /// their encoding if they have come from another process.
    #[must_use]
    pub const fn values(mut self) -> Self {
        self.values = true;
        self
    }

    /// In values, and in [how large](TaskFinished::value) each portable one would be if it were encoded, which is looked at when its task has
    /// ended.
    #[must_use]
    pub const fn measured_values(mut self) -> Self {
        self.measures = true;
        self.values()
    }

    /// In values that are released, but not in those that are stored: the end of the task has told of these.
    #[cfg(feature = "dashboard")]
    #[must_use]
    pub(crate) const fn releases(mut self) -> Self {
        self.releases = true;
        self
    }

    /// In sizes, but not in the events.
    #[must_use]
    pub(crate) const fn sizes(mut self) -> Self {
        self.measures = true;
        self
    }

    pub(super) fn and(self, other: Interests) -> Interests {
        Interests {
            ready: self.ready || other.ready,
            values: self.values || other.values,
            releases: self.releases || other.releases,
            measures: self.measures || other.measures,
        }
    }
}
