//! The threads of a cluster's workers, as code that runs on one of them finds its own.

use super::Cluster;
use super::dispatch::ThreadSlot;
use super::member::Member;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// A thread of a worker: its cluster, its worker, and its jobs.
#[derive(Clone)]
pub(in crate::client) struct WorkerThread {
    pub(super) cluster: Arc<Cluster>,
    pub(super) member: Arc<Member>,
    pub(super) slot: Arc<ThreadSlot>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<WorkerThread>>> = const { RefCell::new(None) };
}

impl WorkerThread {
    /// The calling thread, if it belongs to a worker.
    pub(in crate::client) fn current() -> Option<Rc<WorkerThread>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// Makes the calling thread one of the worker's, until [`leave`](WorkerThread::leave).
    pub(super) fn enter(self) -> Rc<WorkerThread> {
        let thread = Rc::new(self);
        CURRENT.set(Some(Rc::clone(&thread)));
        thread
    }

    pub(super) fn leave() {
        drop(CURRENT.take());
    }

    pub(in crate::client) fn is_in(&self, cluster: &Cluster) -> bool {
        std::ptr::eq(&*self.cluster, cluster)
    }
}
