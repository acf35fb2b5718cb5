//! Counts the tasks and values of a cluster, and blocks submitters while there are too many tasks.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What happens to a submitted task when the cluster has its `max_pending` tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// The submitting thread blocks until there is room.
    #[default]
    Block,
    /// The task fails at once with [`ErrorKind::Full`](crate::ErrorKind::Full).
    Error,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Admission {
    max_pending: usize,
    num_unsettled: AtomicUsize,
    num_held: AtomicUsize,
    num_bytes_held: AtomicUsize,
    /// The number of submitters that wait for room.
    num_blocked: AtomicUsize,
    is_closed: AtomicBool,
    lock: Mutex<()>,
    has_room: Condvar,
}

impl Admission {
    pub(super) fn new(max_pending: usize) -> Self {
        Admission { max_pending, ..Admission::default() }
    }

    pub(super) fn max_pending(&self) -> usize {
        self.max_pending
    }

    /// Counts `num_tasks` more tasks. False if there is no room for them; they are counted anyway.
    pub(super) fn add(&self, num_tasks: usize) -> bool {
        self.num_unsettled.fetch_add(num_tasks, Ordering::AcqRel) < self.max_pending
    }

    /// Counts down, and wakes the submitters that wait for room.
    pub(super) fn remove(&self, num_tasks: usize) {
        // SeqCst pairs with `wait_for_room`: this thread sees that a submitter waits, or the
        // submitter sees the lower count.
        self.num_unsettled.fetch_sub(num_tasks, Ordering::SeqCst);
        if self.num_blocked.load(Ordering::SeqCst) > 0 {
            self.wake_all();
        }
    }

    /// Blocks until there is room or the cluster is closed. Counts nothing.
    pub(super) fn wait_for_room(&self) {
        self.num_blocked.fetch_add(1, Ordering::SeqCst);
        let mut lock = self.lock.lock();
        while self.num_unsettled.load(Ordering::SeqCst) >= self.max_pending && !self.is_closed.load(Ordering::Acquire) {
            self.has_room.wait(&mut lock);
        }
        self.num_blocked.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn num_unsettled(&self) -> usize {
        self.num_unsettled.load(Ordering::Relaxed)
    }

    pub(super) fn add_value(&self, num_bytes: usize) {
        self.num_held.fetch_add(1, Ordering::Relaxed);
        self.num_bytes_held.fetch_add(num_bytes, Ordering::Relaxed);
    }

    pub(super) fn remove_value(&self, num_bytes: usize) {
        self.num_held.fetch_sub(1, Ordering::Relaxed);
        self.num_bytes_held.fetch_sub(num_bytes, Ordering::Relaxed);
    }

    /// The number of values that promises hold, and the sum of their bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.num_held.load(Ordering::Relaxed), self.num_bytes_held.load(Ordering::Relaxed))
    }

    /// Nothing blocks for room any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wake_all();
    }

    fn wake_all(&self) {
        // With the lock: a submitter that has just found no room sleeps by now.
        drop(self.lock.lock());
        self.has_room.notify_all();
    }
}
