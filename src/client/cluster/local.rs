//! The handle of a cluster on this machine.

use super::super::job::Owner;
use super::super::spin::deadline_after;
use super::Cluster;
use super::autoscaler::Autoscaler;
use super::builder::ClusterBuilder;
use super::member::WorkerInfo;
use super::place::block_in;
use crate::error::Result;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The workers of a [`Client`](crate::Client) on this machine: worker processes, or threads of this
/// process.
///
/// The workers live until the cluster is closed; dropping it closes it, and waits at most the
/// setting `close_timeout` for tasks that do not check their tokens. The number of workers may
/// change while tasks run: see [`scale`](LocalCluster::scale) and [`adapt`](LocalCluster::adapt).
/// This process keeps the values that worker processes compute, so no value is lost with a worker.
///
/// # Examples
/// ```
/// use sprang::{Client, LocalCluster};
///
/// let cluster = LocalCluster::builder().workers(2).threads_per_worker(1).processes(false);
/// let cluster = cluster.name("small").build()?;
/// assert_eq!(cluster.to_string(), r#"LocalCluster("small", workers=2, threads=2)"#);
/// let client = Client::new(&cluster);
/// assert_eq!(client.submit(|x: i64| x + 1, (1_i64,)).result()?, 2);
/// cluster.scale(3)?;
/// assert_eq!(cluster.workers().len(), 3);
/// # Ok::<_, sprang::Error>(())
/// ```
#[must_use = "a cluster is closed when it is dropped"]
pub struct LocalCluster {
    cluster: Arc<Cluster>,
    autoscaler: Mutex<Option<Autoscaler>>,
}

impl fmt::Debug for LocalCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalCluster").field(&self.cluster).finish()
    }
}

impl fmt::Display for LocalCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalCluster({:?}, {})", self.name(), self.cluster)
    }
}

impl LocalCluster {
    /// Starts to configure a cluster. By default its workers are processes that use all cores.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        LocalCluster { cluster, autoscaler: Mutex::default() }
    }

    pub(in crate::client) fn shared(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The name of the cluster in messages.
    pub fn name(&self) -> &str {
        &self.cluster.name
    }

    /// Changes the number of workers.
    ///
    /// New workers take tasks as soon as they are ready. If there are too many, the newest ones
    /// finish their running tasks and end, and other workers run their waiting tasks. Without any
    /// worker, tasks wait until there is one again.
    ///
    /// # Errors
    /// [`NoWorker`](crate::ErrorKind::NoWorker) if a thread cannot be started or there would be
    /// more processes than [`max_workers`](ClusterBuilder::max_workers);
    /// [`Closed`](crate::ErrorKind::Closed).
    pub fn scale(&self, num_workers: usize) -> Result<()> {
        self.cluster.scale(num_workers)
    }

    /// Keeps the number of workers between `minimum` and `maximum`, depending on the load.
    ///
    /// Once a second the cluster estimates how many workers finish the waiting tasks within five
    /// seconds, from the durations of earlier tasks. It never wants more workers than there are
    /// tasks. It removes workers after three estimates in a row below the current number.
    /// [`scale`](LocalCluster::scale) still works, until the next estimate.
    ///
    /// # Errors
    /// As [`scale`](LocalCluster::scale).
    pub fn adapt(&self, minimum: usize, maximum: usize) -> Result<()> {
        self.adapt_every(Duration::from_secs(1), Duration::from_secs(5), minimum, maximum)
    }

    /// As [`adapt`](LocalCluster::adapt), with one estimate per `interval` of the workers that
    /// finish the waiting tasks within `target`.
    ///
    /// # Errors
    /// As [`scale`](LocalCluster::scale).
    pub fn adapt_every(&self, interval: Duration, target: Duration, minimum: usize, maximum: usize) -> Result<()> {
        let maximum = maximum.max(minimum);
        self.cluster.scale(self.cluster.num_workers().clamp(minimum, maximum))?;
        let autoscaler = Autoscaler::start(&self.cluster, interval, target, minimum..=maximum)?;
        let _before = self.autoscaler.lock().replace(autoscaler);
        Ok(())
    }

    /// The workers at this moment.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.cluster.worker_infos()
    }

    /// Blocks until `num_workers` are ready. Returns false if `timeout` passes or the cluster is
    /// closed before.
    pub fn wait_for_workers(&self, num_workers: usize, timeout: Option<Duration>) -> bool {
        self.cluster.wait_for_workers(num_workers, timeout.and_then(deadline_after))
    }

    /// Replaces the processes of all workers. The tasks that they run start again; nothing else is
    /// lost. Worker threads are not affected.
    pub fn restart(&self) {
        self.cluster.members().iter().for_each(|member| self.cluster.restart(member));
    }

    /// Replaces the process of one worker, as [`restart`](LocalCluster::restart). Returns false if
    /// there is no such worker.
    pub fn restart_worker(&self, id: u32) -> bool {
        let member = self.cluster.members().into_iter().find(|member| member.id == id);
        member.inspect(|member| self.cluster.restart(member)).is_some()
    }

    /// The number of submitted tasks that have not ended.
    pub fn num_pending(&self) -> usize {
        self.cluster.num_unsettled()
    }

    /// Ends the workers.
    ///
    /// Waiting tasks are [lost](crate::Status::Lost). Running tasks are cancelled by their
    /// [tokens](crate::CancelToken) and lost; processes that do not end are killed after
    /// `processes.cancel_grace`.
    ///
    /// Blocks until nothing runs any more or `timeout` passes, because a thread that does not check
    /// its token cannot be ended. Returns whether nothing runs any more.
    pub fn close(&self, timeout: Option<Duration>) -> bool {
        if self.cluster.lost_by_fork().is_some() {
            // Nothing of it runs in this process, and its locks may be held.
            return true;
        }
        drop(self.autoscaler.lock().take());
        block_in(&self.cluster, || self.cluster.close(timeout.and_then(deadline_after)))
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        let timeout = self.cluster.close_timeout();
        if !self.close(Some(timeout)) {
            let running = self.cluster.dispatch.running();
            log::warn!(
                "the cluster {:?} was dropped, and tasks go on that do not check their tokens: {}",
                self.cluster.name,
                running.join(", ")
            );
        }
    }
}
