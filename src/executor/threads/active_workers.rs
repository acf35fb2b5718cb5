//! The number of active workers of a run, and when another one is requested.
//!
//! # The protocol
//!
//! A worker that makes a task available then reads the number of active workers, and requests
//! another worker if there is room. A worker that finds no task first leaves the active workers,
//! then checks once more for a task. A full fence separates the two steps on both sides. An
//! available task therefore always has a worker that was requested for it or that has just seen it.
//! (Without the fences the model below fails.)

use crate::primitives::{AtomicU32, Relaxed, SeqCst, fence};
use crossbeam_utils::CachePadded;

/// Counts the active workers of one run, including requested workers that have not started yet.
#[derive(Debug)]
pub(super) struct ActiveWorkers {
    active: CachePadded<AtomicU32>,
    size: u32,
}

impl ActiveWorkers {
    /// Starts with one active worker.
    pub(super) fn new(size: u32) -> Self {
        ActiveWorkers { active: CachePadded::new(AtomicU32::new(1)), size }
    }

    /// Whether the caller is the only active worker.
    #[inline]
    pub(super) fn is_alone(&self) -> bool {
        self.active.load(Relaxed) <= 1
    }

    /// Whether there is room for another worker. Call it after making a task available.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        fence(SeqCst);
        self.active.load(Relaxed) < self.size
    }

    /// Adds one worker, if there is room.
    pub(super) fn join(&self) -> bool {
        let mut active = self.active.load(Relaxed);
        while active < self.size {
            match self.active.compare_exchange_weak(active, active + 1, SeqCst, Relaxed) {
                Ok(_) => return true,
                Err(now) => active = now,
            }
        }
        false
    }

    /// Removes one worker. The worker must then check once more for a task, and
    /// [`join`](ActiveWorkers::join) again if there is one.
    pub(super) fn leave(&self) {
        self.active.fetch_sub(1, SeqCst);
        fence(SeqCst);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::ActiveWorkers;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use loom::thread;

    #[test]
    fn one_worker_is_requested_for_a_task_pushed_while_a_worker_leaves() {
        loom::model(|| {
            let active_workers = Arc::new(ActiveWorkers::new(2));
            assert!(active_workers.join());
            let pushed = Arc::new(AtomicBool::new(false));
            let requested = Arc::new(AtomicU32::new(0));
            let leaver = {
                let (active_workers, pushed, requested) =
                    (Arc::clone(&active_workers), Arc::clone(&pushed), Arc::clone(&requested));
                thread::spawn(move || {
                    active_workers.leave();
                    if pushed.load(Ordering::Acquire) && active_workers.join() {
                        requested.fetch_add(1, Ordering::Relaxed);
                    }
                })
            };
            pushed.store(true, Ordering::Release);
            if active_workers.has_room() && active_workers.join() {
                requested.fetch_add(1, Ordering::Relaxed);
            }
            leaver.join().unwrap();
            assert_eq!(requested.load(Ordering::Relaxed), 1);
        });
    }
}
