//! Adapts the number of a cluster's workers to its load.

use super::Cluster;
use crate::error::{Error, ErrorKind, Result};
use crate::per_process::{Generation, spawn};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many checks in a row must find too many workers before some leave.
const CHECKS_BEFORE_SHRINKING: u32 = 3;
/// The assumed duration of a task whose function has not run yet.
const UNKNOWN_NS: f64 = 500_000_000.0;

impl Cluster {
    /// The number of workers that finish the waiting tasks within `target`, each with at least one
    /// task.
    fn num_workers_wanted(&self, target: Duration) -> usize {
        let num_busy: usize = self.members.all().iter().map(|member| member.num_busy()).sum();
        let load = self.dispatch.load(UNKNOWN_NS);
        let by_time = (load.queue_ns / target.as_nanos().max(1) as f64).ceil();
        let at_least = if load.num_jobs > 0 { 1.0 } else { 0.0 };
        let num_tasks = num_busy as f64 + by_time.max(at_least).min(load.num_jobs as f64);
        (num_tasks / self.members.settings.threads_per_worker.get() as f64).ceil() as usize
    }
}

/// A thread that checks at intervals how many workers the cluster needs. Ends when it is dropped.
pub(super) struct Autoscaler {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    generation: Generation,
}

impl Autoscaler {
    pub(super) fn start(
        cluster: &Arc<Cluster>,
        interval: Duration,
        target: Duration,
        limits: RangeInclusive<usize>,
    ) -> Result<Autoscaler> {
        let (stop, is_over) = channel();
        let cluster = Arc::clone(cluster);
        let run = move || {
            let mut num_checks = 0;
            while is_over.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let wanted = cluster.num_workers_wanted(target).clamp(*limits.start(), *limits.end());
                let present = cluster.num_workers();
                num_checks = if wanted < present { num_checks + 1 } else { 0 };
                if (wanted > present || num_checks >= CHECKS_BEFORE_SHRINKING)
                    && let Err(error) = cluster.scale(wanted)
                {
                    log::warn!("the cluster {:?} cannot adapt: {error}", cluster.name);
                }
            }
        };
        let thread = spawn(std::thread::Builder::new().name("sprang-autoscaler".into()), run);
        let no_thread =
            |error| Error::new(ErrorKind::NoWorker, format!("there is no thread to adapt the cluster: {error}"));
        let thread = Some(thread.map_err(no_thread)?);
        Ok(Autoscaler { stop: Some(stop), thread, generation: Generation::current() })
    }
}

impl Drop for Autoscaler {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A forked child does not have the thread.
        if let Some(thread) = self.thread.take().filter(|_| self.generation.is_current()) {
            // A panic there is a bug of this crate and has been reported.
            let _ = thread.join();
        }
    }
}
