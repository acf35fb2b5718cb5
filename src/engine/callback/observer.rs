//! The trait of callbacks, and the events that cost extra.

use super::events::{
    RunFinished, RunStalled, RunStarted, TaskCancelled, TaskFailed, TaskFinished, TaskReady, TaskRetried, TaskSkipped,
    TaskStarted, ValueReleased, ValueStored, WorkerLost, WorkerStarted,
};

/// An observer of runs. Every method does nothing by default.
///
/// Threads that run tasks call the methods, several threads at once, and run no task during a call.
/// Do long work on another thread. The module documents the [order of the events](super#events).
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
#[expect(
    unused_variables,
    reason = "the default handlers do nothing; their parameters have names for the documentation"
)]
pub trait Callback: Send + Sync {
    /// Returns the extra events that the callback wants. This method is called once, when the
    /// callback is attached.
    fn interests(&self) -> Interests {
        Interests::new()
    }

    /// A run is about to start its first task.
    fn on_run_started(&self, event: &RunStarted<'_>) {}

    /// A task waits only for a worker. Callbacks must [ask](Interests::ready) for this event.
    fn on_task_ready(&self, event: &TaskReady<'_>) {}

    /// A task is about to be called.
    fn on_task_started(&self, event: &TaskStarted<'_>) {}

    /// A task has returned a value.
    fn on_task_finished(&self, event: &TaskFinished<'_>) {}

    /// A task has failed for good.
    fn on_task_failed(&self, event: &TaskFailed<'_>) {}

    /// An attempt of a task has failed, and the task will be called again.
    fn on_task_retried(&self, event: &TaskRetried<'_>) {}

    /// A run has ended before one of its started tasks.
    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {}

    /// A task will not be called, because a task that it needs has failed.
    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {}

    /// The value of a task is kept for its readers. Callbacks must [ask](Interests::values) for
    /// this event.
    fn on_value_stored(&self, event: &ValueStored<'_>) {}

    /// A value was dropped, moved to its last reader, or given to its future. Callbacks must
    /// [ask](Interests::values) for this event.
    fn on_value_released(&self, event: &ValueReleased<'_>) {}

    /// A worker process has been started for a run.
    fn on_worker_started(&self, event: &WorkerStarted<'_>) {}

    /// A worker process that had tasks of a run has ended.
    fn on_worker_lost(&self, event: &WorkerLost<'_>) {}

    /// No task of a run has finished for the time that the setting `stall_timeout` sets. A stall is
    /// reported once, and once more if a task has started since. A separate thread calls this
    /// method, and the run does not end before it returns.
    fn on_run_stalled(&self, event: &RunStalled<'_>) {}

    /// A run has ended. This is its last event.
    fn on_run_finished(&self, event: &RunFinished<'_>) {}
}

/// The events that a [`Callback`] must ask for, because they are not free; see
/// [costs](super#costs).
///
/// # Examples
/// ```
/// use sprang::callback::{self, Callback, Interests, ValueReleased, ValueStored};
/// use sprang::delayed;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// /// The bytes of values that are held, and their maximum.
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
    pub(in crate::engine) sizes: bool,
    pub(in crate::engine) measures: bool,
}

impl Interests {
    /// No extra events.
    pub const fn new() -> Self {
        Interests { ready: false, values: false, releases: false, sizes: false, measures: false }
    }

    /// Asks for the event [`on_task_ready`](Callback::on_task_ready).
    #[must_use]
    pub const fn ready(mut self) -> Self {
        self.ready = true;
        self
    }

    /// Asks for the events [`on_value_stored`](Callback::on_value_stored) and
    /// [`on_value_released`](Callback::on_value_released). They report the bytes of the value and
    /// of all that it owns if its type can [tell](crate::callback::OwnedBytes), otherwise the size
    /// of the type; and the size of the encoding if the value came from another process.
    #[must_use]
    pub const fn values(mut self) -> Self {
        self.values = true;
        self.sizes()
    }

    /// Asks for the events of [`values`](Interests::values), with the encoded
    /// [size](TaskFinished::value) of each portable value. The size is measured when the task has
    /// ended.
    #[must_use]
    pub const fn measured_values(mut self) -> Self {
        self.measures = true;
        self.values()
    }

    /// Asks for released values only: the end of a task tells that its value is stored.
    #[cfg(feature = "dashboard")]
    #[must_use]
    pub(crate) const fn releases(mut self) -> Self {
        self.releases = true;
        self
    }

    /// Asks for the sizes of values, without the events of values.
    #[must_use]
    pub(crate) const fn sizes(mut self) -> Self {
        self.sizes = true;
        self
    }

    /// Asks for measured sizes, without the events of values.
    #[must_use]
    pub(crate) const fn measured_sizes(mut self) -> Self {
        self.measures = true;
        self.sizes()
    }

    pub(super) fn and(self, other: Interests) -> Interests {
        Interests {
            ready: self.ready || other.ready,
            values: self.values || other.values,
            releases: self.releases || other.releases,
            sizes: self.sizes || other.sizes,
            measures: self.measures || other.measures,
        }
    }
}
