//! Tasks that wait for a retry. They occupy no thread: a timer queues them again.
//!
//! # What is always true
//!
//! A promise of the list waits, and no thread runs its task, or it was settled meanwhile, perhaps
//! restarted; then it is kept until its time comes, and left alone. The timer or the end of the
//! cluster takes it off the list, and queues it if it waits.

use super::super::job::Job;
use super::super::promise::AnyPromise;
use super::Cluster;
use crate::engine::{Deadline, Timer};
use crate::executor::timer::TimerThread;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// The promises whose tasks wait for a retry, by their identity.
#[derive(Default)]
pub(super) struct WaitingPromises(Mutex<HashMap<u64, Waiting>>);

type Waiting = (Arc<dyn AnyPromise>, Box<dyn Deadline>);

impl Cluster {
    /// Queues the task of a waiting promise at a time, ahead of the others.
    pub(super) fn queue_at(&self, due: Instant, promise: Arc<dyn AnyPromise>) {
        let identity = promise.record().identity();
        let cluster = Weak::clone(&self.this);
        let action = move || {
            if let Some(cluster) = cluster.upgrade() {
                cluster.queue_waiting(identity);
            }
        };
        let before = {
            // With the lock, so that the promise is listed when the timer calls.
            let mut waiting = self.waiting.0.lock();
            let deadline = TimerThread::shared().start(due.saturating_duration_since(Instant::now()), Box::new(action));
            waiting.insert(identity, (promise, deadline))
        };
        drop(before);
        if self.is_closed() {
            self.queue_all_waiting();
        }
    }

    fn queue_waiting(&self, identity: u64) {
        let waited = self.waiting.0.lock().remove(&identity);
        if let Some((promise, _deadline)) = waited.filter(|(promise, _)| promise.record().end_wait_for_retry()) {
            self.queue_first([Job::One(promise)]);
        }
    }

    /// Queues all waiting tasks. A closed cluster refuses them, which settles their promises.
    pub(super) fn queue_all_waiting(&self) {
        let waited = std::mem::take(&mut *self.waiting.0.lock());
        for (promise, _deadline) in waited.into_values() {
            if promise.record().end_wait_for_retry() {
                self.queue_first([Job::One(promise)]);
            }
        }
    }
}
