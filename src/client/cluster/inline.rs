//! Tasks that a waiting thread runs itself instead of blocking until another thread has run them.

use super::super::promise::AnyPromise;
use super::dispatch::{ThreadSlot, Wakeup};
use super::member::Member;
use super::thread::WorkerThread;
use super::{Backend, Cluster, worker};
use crate::engine::callback::has_watchers;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The longest mean duration, in nanoseconds, of tasks that a thread of the program runs itself:
/// about as long as waking another thread takes.
const MAX_INLINE_NS: f64 = 50_000.0;

impl WorkerThread {
    /// Runs the task of a promise on this thread, if the task has not been started and can run
    /// here. False if not.
    pub(in crate::client) fn run_here(&self, promise: &Arc<dyn AnyPromise>) -> bool {
        self.cluster.owns(promise) && self.cluster.can_run_alone(promise) && worker::run_one(self, promise)
    }
}

impl Cluster {
    /// See [`Owner::run_inline`](super::super::job::Owner::run_inline).
    ///
    /// The task must be short, because a caller that waits for a long one must learn at once that
    /// it is cancelled.
    pub(super) fn run_in_place_of_a_thread(&self, promise: &Arc<dyn AnyPromise>) {
        if !self.dispatch.has_notified() || !self.can_run_alone(promise) || has_watchers() {
            return;
        }
        let slot = Arc::new(ThreadSlot::default());
        let Some(wakeup) = self.dispatch.begin_inline(promise, &slot, MAX_INLINE_NS) else { return };
        let cluster = self.this.upgrade().expect("the caller has a handle of the cluster");
        let thread = WorkerThread { cluster, member: Arc::clone(&wakeup.worker), slot }.enter();
        let function = promise.record().function();
        let run = InlineRun { thread: &thread, wakeup, function, begin: Instant::now() };
        worker::run_one(run.thread, promise);
    }

    /// Whether a thread of this process may run the task of a promise by itself.
    fn can_run_alone(&self, promise: &Arc<dyn AnyPromise>) -> bool {
        let record = promise.record();
        matches!(self.backend, Backend::Threads(_))
            && record.needs().is_none()
            && record.is_alone()
            && record.missing.load(Ordering::Acquire) == 0
    }
}

/// Makes a thread of the program one of a worker's until it is dropped.
struct InlineRun<'t> {
    thread: &'t WorkerThread,
    wakeup: Arc<Wakeup<Member>>,
    function: usize,
    begin: Instant,
}

impl Drop for InlineRun<'_> {
    fn drop(&mut self) {
        let ns = self.begin.elapsed().as_nanos() as f64;
        WorkerThread::leave();
        self.thread.cluster.dispatch.end_inline(&self.wakeup, &self.thread.slot, self.function, ns);
    }
}
