//! The end of a cluster.

use super::Cluster;
use super::thread::WorkerThread;
use crate::engine::CancelToken;
use std::time::{Duration, Instant};

impl Cluster {
    /// How long a cluster that is dropped waits for its running tasks. Worker processes are killed
    /// after a time of their own, which is not shortened.
    pub(super) fn close_timeout(&self) -> Duration {
        let grace = self.backend.processes().map_or(Duration::ZERO, |executor| executor.cancel_grace());
        self.snapshot.settings().close_timeout.saturating_add(grace)
    }

    /// Takes no more tasks, cancels those that run, and blocks until they have ended or the
    /// deadline passes.
    ///
    /// Every promise of the cluster is settled, or will be when its task ends. Returns whether
    /// nothing runs any more.
    pub(super) fn close(&self, deadline: Option<Instant>) -> bool {
        let (jobs, tokens) = self.dispatch.close();
        self.members.notify();
        tokens.iter().for_each(CancelToken::cancel);
        self.shared.close();
        jobs.iter().for_each(|job| self.refuse(job));
        self.queue_all_waiting();
        self.admission.close();
        let is_own_thread = WorkerThread::current().is_some_and(|thread| thread.is_in(self));
        if !self.dispatch.wait_for_threads(usize::from(is_own_thread), deadline) {
            return false;
        }
        // Futures may live long and keep the cluster, so its processes end here.
        self.backend.processes().inspect(|executor| executor.close());
        true
    }
}
