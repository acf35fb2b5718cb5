//! How a thread that blocks in a task gives its place in its worker to another thread.

use super::member::Member;
use super::thread::WorkerThread;
use super::{Cluster, worker};
use std::sync::Arc;

impl WorkerThread {
    /// Lets another thread work in the place of this one until the guard is dropped.
    pub(in crate::client) fn release_place(&self) -> PlaceReleased {
        let has_room = self.member.deactivate();
        let released = PlaceReleased(Arc::clone(&self.member));
        if has_room && !self.cluster.is_closed() {
            // If it fails the worker has one thread less until this one has its place again.
            let _ = worker::start_thread(&self.cluster, &self.member);
        }
        released
    }

    /// Blocks in `wait` while another thread works in the place of this one.
    pub(in crate::client) fn block<R>(&self, wait: impl FnOnce() -> R) -> R {
        let _released = self.release_place();
        wait()
    }
}

/// Keeps the place of a thread released.
#[must_use = "the thread takes its place again when this is dropped"]
pub(in crate::client) struct PlaceReleased(Arc<Member>);

impl Drop for PlaceReleased {
    fn drop(&mut self) {
        self.0.activate();
    }
}

/// Blocks in `wait`. If the calling thread belongs to the cluster, another thread works in its
/// place meanwhile.
pub(in crate::client) fn block_in<R>(cluster: &Cluster, wait: impl FnOnce() -> R) -> R {
    match WorkerThread::current().filter(|thread| thread.is_in(cluster)) {
        Some(thread) => thread.block(wait),
        None => wait(),
    }
}
