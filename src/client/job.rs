//! Jobs, which a cluster runs as one piece each, and the part of a cluster that a promise knows.

use super::promise::{AnyPromise, Needs};
use crate::api::config::Snapshot;
use crate::error::{Error, Result};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The cluster of a promise: it counts the promise and runs its task.
///
/// No lock of a promise is held when one of these methods is called.
pub(super) trait Owner: Send + Sync {
    /// Counts `num_tasks` tasks that are about to be submitted, as soon as there is room for them.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed); [`Full`](crate::ErrorKind::Full) if the cluster is
    /// configured to refuse tasks rather than to block.
    fn admit(&self, num_tasks: usize) -> Result<()>;

    /// Counts `num_tasks` tasks even if there is no room for them.
    fn admit_always(&self, num_tasks: usize);

    /// Counts `num_tasks` tasks down that were admitted: they are settled, or are not submitted
    /// after all.
    fn settled(&self, num_tasks: usize);

    /// The number of admitted tasks that are not settled.
    fn num_unsettled(&self) -> usize;

    /// Counts the value of a promise.
    fn value_stored(&self, num_bytes: usize);

    /// Counts the value of a dropped promise down.
    fn value_dropped(&self, num_bytes: usize);

    /// The configuration of tasks that have none of their own.
    fn snapshot(&self) -> &Snapshot;

    /// Queues a job whose inputs are settled.
    fn submit(&self, job: Job);

    /// Queues several jobs whose inputs are settled.
    fn submit_all(&self, jobs: Vec<Job>);

    /// Queues a job again, ahead of the others, whose task was taken and not run.
    fn requeue(&self, job: Job);

    /// Runs the task of a promise on this thread, which belongs to no worker and is about to wait
    /// for the promise.
    ///
    /// Does nothing unless the task is known to be short and a worker's thread was notified for it
    /// but is not awake.
    fn run_inline(&self, promise: &Arc<dyn AnyPromise>);

    /// The error of promises that are not settled and never will be: this process was forked from
    /// the one with the threads of the cluster.
    fn lost_by_fork(&self) -> Option<Error>;

    /// Blocks until the promise is settled. False if the calling task was cancelled before.
    fn wait_for(&self, promise: Arc<dyn AnyPromise>) -> bool;
}

/// Whether both are the same cluster.
pub(super) fn is_same(one: &Arc<dyn Owner>, other: &Arc<dyn Owner>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

/// Work that a thread of a worker takes from the queue as one piece.
#[derive(Clone)]
pub(super) enum Job {
    /// One task whose inputs are values.
    One(Arc<dyn AnyPromise>),
    /// A graph of tasks with one or more outputs.
    Graph(Arc<Group>),
}

/// The outputs of one graph.
pub(super) struct Group {
    pub(super) promises: Vec<Arc<dyn AnyPromise>>,
    /// The number of inputs that are not settled, plus one while the graph is registered with them.
    pub(super) missing: AtomicU32,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.promises().iter().map(|promise| promise.record())).finish()
    }
}

impl Job {
    pub(super) fn promises(&self) -> &[Arc<dyn AnyPromise>] {
        match self {
            Job::One(promise) => std::slice::from_ref(promise),
            Job::Graph(group) => &group.promises,
        }
    }

    /// The cluster that the job was submitted to.
    pub(super) fn owner(&self) -> Option<&Arc<dyn Owner>> {
        self.promises().first().map(|promise| promise.record().owner())
    }

    /// Counts one input as settled. True if it was the last, and the caller must submit the job.
    pub(super) fn arrive(&self) -> bool {
        self.missing().fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(super) fn missing(&self) -> &AtomicU32 {
        match self {
            Job::One(promise) => &promise.record().missing,
            Job::Graph(group) => &group.missing,
        }
    }

    pub(super) fn priority(&self) -> i32 {
        self.promises().iter().map(|promise| promise.record().priority()).max().unwrap_or(0)
    }

    pub(super) fn needs(&self) -> Option<&Needs> {
        match self {
            Job::One(promise) => promise.record().needs(),
            Job::Graph(_) => None,
        }
    }

    /// The identity of the task's function, by which durations are learned.
    pub(super) fn function(&self) -> Option<usize> {
        match self {
            Job::One(promise) => Some(promise.record().function()),
            Job::Graph(_) => None,
        }
    }
}
