//! The cluster: the workers of a client, and the tasks that they run.
//!
//! A worker of a cluster of threads is a group of threads. A worker of a cluster of processes is a
//! process, and a group of threads here that send it tasks, one for each of its own threads. Both
//! kinds of thread run [`worker`].
//!
//! A [`Cluster`] ties three parts together that know nothing of each other: [`dispatch`] brings
//! ready jobs to threads, [`admission`] limits how many tasks there are, and [`member`] has the
//! list of workers. Promises know a cluster as their [`owner`].
//!
//! # Files
//!
//! | to | file |
//! |---|---|
//! | make one, and use it | `builder`, `local` |
//! | queue jobs | `ready_queue`, `dispatch`, `waiting`, `admission`, `owner` |
//! | run jobs | `worker`, `batch`, `inline`, `backend` |
//! | know the thread, and let another work while it blocks | `thread`, `place` |
//! | change the workers | `member`, `scaling`, `autoscaler`, `closing` |
//! | run graphs | `executor` |

mod admission;
mod autoscaler;
mod backend;
mod batch;
mod builder;
mod closing;
mod dispatch;
mod executor;
mod inline;
mod local;
mod member;
mod owner;
mod place;
mod ready_queue;
mod running;
mod scaling;
mod thread;
mod waiting;
mod worker;

pub(in crate::client) use backend::Backend;
pub(in crate::client) use executor::{cluster_numbered, cluster_of};
pub(in crate::client) use member::Member;
pub(in crate::client) use place::{PlaceReleased, block_in};
pub(in crate::client) use thread::WorkerThread;

pub use admission::WhenFull;
pub use builder::ClusterBuilder;
pub use local::LocalCluster;
pub use member::{WorkerInfo, WorkerState};

use super::job::Job;
use super::promise::{AnyPromise, Needs, Outcome, settle};
use super::shared::Table;
use crate::api::config::{self, Snapshot};
use crate::engine::callback::{Backlog, ClusterInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Scheduler;
use crate::per_process::Generation;
use crate::portable::codec::Codec;
use admission::Admission;
use dispatch::Dispatch;
use member::Members;
use ready_queue::ReadyQueue;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use waiting::WaitingPromises;

/// See the [module](self).
pub(super) struct Cluster {
    this: Weak<Cluster>,
    generation: Generation,
    pub(super) name: Arc<str>,
    backend: Backend,
    /// The configuration of tasks that have none of their own: [`made_in`](Cluster::made_in) with
    /// the cluster as the scheduler.
    snapshot: Snapshot,
    /// The configuration of the thread that made the cluster.
    made_in: Snapshot,
    /// The cluster as events show it.
    info: ClusterInfo,
    dispatch: Dispatch<Member>,
    admission: Admission,
    waiting: WaitingPromises,
    when_full: WhenFull,
    members: Members,
    shared: Table,
    /// In a worker process: jobs that can cross go to the parent.
    forwards: AtomicBool,
    /// The number of tasks in its worker processes that submit tasks.
    num_submitters: Arc<AtomicUsize>,
}

impl Backlog for Cluster {
    fn num_pending(&self) -> usize {
        self.admission.num_unsettled()
    }

    fn num_held(&self) -> (usize, usize) {
        self.held()
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .field("num_workers", &self.num_workers())
            .field("num_queued", &self.dispatch.num_queued())
            .field("num_unsettled", &self.admission.num_unsettled())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Its size: workers, threads and memory.
impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let num_workers = self.num_workers();
        let num_threads = num_workers * self.members.settings.threads_per_worker.get();
        let workers = if self.backend.processes().is_some() { "processes" } else { "workers" };
        write!(f, "{workers}={num_workers}, threads={num_threads}")?;
        if let Some(limit) = self.members.settings.memory_limit {
            write!(f, ", memory={}", bytesize::ByteSize(limit.saturating_mul(num_workers as u64)))?;
        }
        Ok(())
    }
}

impl Cluster {
    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The objects that its tasks and clients share.
    pub(super) fn shared(&self) -> &Table {
        &self.shared
    }

    /// The configuration of tasks that this thread submits; `None` if it is that of the cluster.
    ///
    /// # Errors
    /// A mistake in the environment or a file.
    pub(super) fn snapshot_here(&self) -> Result<Option<Snapshot>> {
        config::for_cluster(&self.snapshot, &self.made_in)
    }

    /// The configuration of a task.
    fn snapshot_of<'a>(&'a self, promise: &'a dyn AnyPromise) -> &'a Snapshot {
        promise.record().snapshot().unwrap_or(&self.snapshot)
    }

    pub(super) fn scheduler(&self) -> Scheduler {
        self.snapshot.settings().scheduler.clone()
    }

    /// The codec of the values that its workers send.
    pub(super) fn codec(&self) -> Codec {
        self.backend.codec()
    }

    /// From now on jobs that can cross go to the parent of this worker process.
    pub(super) fn set_forwards(&self) {
        self.forwards.store(true, Ordering::Relaxed);
    }

    pub(super) fn num_submitters(&self) -> &Arc<AtomicUsize> {
        &self.num_submitters
    }

    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.members.all()
    }

    /// The number of workers that are not leaving.
    pub(super) fn num_workers(&self) -> usize {
        self.members.len()
    }

    /// The number of values that promises hold, and the sum of their bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        self.admission.held()
    }

    fn is_closed(&self) -> bool {
        self.dispatch.is_closed()
    }

    fn closed_error(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the cluster {:?} was closed before the task had finished", self.name))
    }

    fn owns(&self, promise: &Arc<dyn AnyPromise>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(promise.record().owner()), self)
    }

    // ---- jobs ----

    /// Queues jobs.
    fn queue(&self, jobs: impl IntoIterator<Item = Job>) {
        self.push(jobs, ReadyQueue::push_back);
    }

    /// Queues jobs that were taken and not run, ahead of the others.
    fn queue_first(&self, jobs: impl IntoIterator<Item = Job>) {
        self.push(jobs, ReadyQueue::push_front);
    }

    fn push(&self, jobs: impl IntoIterator<Item = Job>, push: impl Fn(&mut ReadyQueue, Job)) {
        let refused = self.dispatch.push(jobs, push, |needs| self.members.can_run(needs));
        refused.iter().for_each(|job| self.refuse(job));
    }

    /// Settles the queued jobs that no worker can run any more.
    fn refuse_impossible(&self) {
        let jobs = self.dispatch.take_impossible(|needs| self.members.can_run(needs));
        jobs.iter().for_each(|job| self.refuse(job));
    }

    /// Settles a job that is not going to run.
    fn refuse(&self, job: &Job) {
        let outcome = match job.needs().filter(|_| !self.is_closed()) {
            Some(needs) => Outcome::Failed(self.impossible(needs)),
            None => Outcome::Lost(self.closed_error()),
        };
        for promise in job.promises() {
            settle(promise, outcome.clone());
        }
    }

    fn impossible(&self, needs: &Needs) -> Error {
        let resources: Vec<String> = needs.resources.iter().map(|(name, n)| format!("{n} of {name:?}")).collect();
        let workers = (!needs.workers.is_empty()).then(|| format!("to be one of {:?}", needs.workers));
        let resources = (!resources.is_empty()).then(|| resources.join(", "));
        let wanted: Vec<String> = resources.into_iter().chain(workers).collect();
        let (name, wanted) = (&self.name, wanted.join(", and "));
        Error::new(
            ErrorKind::NoWorker,
            format!("no worker of the cluster {name:?} has what the task asks for: {wanted}"),
        )
    }
}
