//! A cluster as a scheduler, which runs graphs on the workers, and the clusters of this process by
//! scheduler.

use super::super::job::Owner;
use super::super::shared::{ClusterService, Table};
use super::admission::{Admission, WhenFull};
use super::dispatch::Dispatch;
use super::member::{Members, WorkerSettings};
use super::waiting::WaitingPromises;
use super::{Backend, Cluster};
use crate::api::config::Snapshot;
use crate::engine::Run;
use crate::engine::callback::{Backlog, ClusterInfo};
use crate::error::{Error, ErrorKind};
use crate::executor::{Executor, Scheduler};
use crate::per_process::Generation;
use parking_lot::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

/// The clusters of this process, by the addresses of their executors.
static CLUSTERS: Mutex<Vec<(usize, Weak<Cluster>)>> = Mutex::new(Vec::new());

/// Runs graphs on the workers of a cluster.
struct ClusterExecutor {
    cluster: Weak<Cluster>,
    name: Arc<str>,
}

impl Executor for ClusterExecutor {
    fn name(&self) -> &str {
        &self.name
    }

    fn execute(&self, run: &Arc<Run>) {
        let Some(cluster) = self.cluster.upgrade().filter(|cluster| !cluster.is_closed()) else {
            return run.stop(Error::new(ErrorKind::Closed, format!("the cluster {:?} is closed", self.name)));
        };
        if let Some(error) = cluster.lost_by_fork() {
            return run.stop(error);
        }
        match &cluster.backend {
            Backend::Threads(executor) => executor.execute(run),
            Backend::Processes(executor) => {
                executor.execute_on(run, None, Some(ClusterService::of(&cluster, None)));
            }
        }
    }
}

impl Cluster {
    pub(super) fn new(
        name: Arc<str>,
        settings: WorkerSettings,
        max_pending: usize,
        when_full: WhenFull,
        backend: Backend,
        snapshot: &Snapshot,
    ) -> Arc<Cluster> {
        let cluster = Arc::new_cyclic(|this: &Weak<Cluster>| {
            // Graphs that tasks compute run on the same cluster.
            let executor = ClusterExecutor { cluster: Weak::clone(this), name: Arc::clone(&name) };
            let backlog: Weak<dyn Backlog> = Weak::<Cluster>::clone(this);
            let is_of_processes = backend.processes().is_some();
            let max_index = if is_of_processes { settings.max_workers as u32 } else { u32::MAX };
            Cluster {
                this: Weak::clone(this),
                info: ClusterInfo::new(Arc::clone(&name), backlog),
                snapshot: snapshot.with_scheduler(Scheduler::Custom(Arc::new(executor))),
                made_in: snapshot.clone(),
                shared: Table::new(Arc::clone(&name)),
                generation: Generation::current(),
                dispatch: Dispatch::new(is_of_processes),
                admission: Admission::new(max_pending),
                waiting: WaitingPromises::default(),
                members: Members::new(settings, max_index),
                name,
                when_full,
                backend,
                forwards: AtomicBool::new(false),
                num_submitters: Arc::default(),
            }
        });
        CLUSTERS.lock().extend(address_of(&cluster.scheduler()).map(|address| (address, Arc::downgrade(&cluster))));
        cluster
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let address = address_of(&self.scheduler());
        CLUSTERS.lock().retain(|(other, _)| Some(*other) != address);
    }
}

fn address_of(scheduler: &Scheduler) -> Option<usize> {
    match scheduler {
        Scheduler::Custom(executor) => Some(Arc::as_ptr(executor).cast::<()>().addr()),
        _ => None,
    }
}

/// The cluster with this [number](Table::number), if it is in this process.
pub(in crate::client) fn cluster_numbered(number: u64) -> Option<Arc<Cluster>> {
    let clusters: Vec<_> = CLUSTERS.lock().iter().filter_map(|(_, cluster)| cluster.upgrade()).collect();
    clusters.into_iter().find(|cluster| cluster.shared.number() == number)
}

/// The cluster that runs the graphs of this scheduler, if there is one.
pub(in crate::client) fn cluster_of(scheduler: &Scheduler) -> Option<Arc<Cluster>> {
    let address = address_of(scheduler)?;
    let clusters = CLUSTERS.lock();
    clusters.iter().find(|(other, _)| *other == address)?.1.upgrade()
}
