//! The cluster as promises know it.

use super::super::job::{Job, Owner};
use super::super::nested;
use super::super::promise::{AnyPromise, is_in_callback};
use super::super::wait::{self, WaitFor};
use super::Cluster;
use super::admission::WhenFull;
use super::thread::WorkerThread;
use crate::api::config::Snapshot;
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Owner for Cluster {
    fn admit(&self, num_tasks: usize) -> Result<()> {
        if let Some(error) = self.lost_by_fork() {
            return Err(error);
        }
        if self.is_closed() {
            return Err(self.closed_error());
        }
        if self.admission.add(num_tasks) {
            return Ok(());
        }
        // A task must not wait for tasks that may wait for it, and a callback not for those whose
        // waiters its thread has yet to notify.
        if is_in_callback() || WorkerThread::current().is_some_and(|thread| thread.is_in(self)) {
            return Ok(());
        }
        self.admission.remove(num_tasks);
        if self.when_full == WhenFull::Error {
            let (max, name) = (self.admission.max_pending(), &self.name);
            let message =
                format!("{max} tasks wait already in the cluster {name:?}; let some finish, or raise `max_pending`");
            return Err(Error::new(ErrorKind::Full, message));
        }
        self.admission.wait_for_room();
        if self.is_closed() {
            return Err(self.closed_error());
        }
        self.admission.add(num_tasks);
        Ok(())
    }

    fn admit_always(&self, num_tasks: usize) {
        self.admission.add(num_tasks);
    }

    fn settled(&self, num_tasks: usize) {
        self.admission.remove(num_tasks);
    }

    fn num_unsettled(&self) -> usize {
        self.admission.num_unsettled()
    }

    fn value_stored(&self, num_bytes: usize) {
        self.admission.add_value(num_bytes);
    }

    fn value_dropped(&self, num_bytes: usize) {
        self.admission.remove_value(num_bytes);
    }

    fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn submit(&self, job: Job) {
        match self.forwards.load(Ordering::Relaxed) {
            true => self.submit_all(vec![job]),
            false => self.queue([job]),
        }
    }

    fn submit_all(&self, jobs: Vec<Job>) {
        let jobs = if self.forwards.load(Ordering::Relaxed) { nested::forward(jobs) } else { jobs };
        if !jobs.is_empty() {
            self.queue(jobs);
        }
    }

    fn requeue(&self, job: Job) {
        self.queue_first([job]);
    }

    fn run_inline(&self, promise: &Arc<dyn AnyPromise>) {
        self.run_in_place_of_a_thread(promise);
    }

    fn lost_by_fork(&self) -> Option<Error> {
        let error = || {
            let name = &self.name;
            let message = format!(
                "the cluster {name:?} was made before this process was forked, and its workers belong to the parent; make a \
                 new client after the fork"
            );
            Error::new(ErrorKind::Closed, message)
        };
        (!self.generation.is_current()).then(error)
    }

    fn wait_for(&self, promise: Arc<dyn AnyPromise>) -> bool {
        wait::settled(&[promise], WaitFor::All, None)
    }
}
