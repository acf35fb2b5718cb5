//! Who works on a run, and who is called when there is more to do.
//!
//! # The protocol
//!
//! Who has put a task where others can take it then looks at the number of active workers, and calls one more if there is room. Who
//! finds nothing to do takes itself off the active_workers, then looks once more whether there is something. A full fence stands between the
//! two steps on both sides, so they cannot miss each other: a task that is there to be taken always has somebody called for it, or
//! somebody who has just seen it. (Without the fences the model below fails.)

use crate::primitives::{AtomicU32, Relaxed, SeqCst, fence};
use crossbeam_utils::CachePadded;

/// Counts the active workers of one run. A worker that has been called and has not come yet is counted.
#[derive(Debug)]
pub(super) struct ActiveWorkers {
    active: CachePadded<AtomicU32>,
    size: u32,
}

impl ActiveWorkers {
    /// With one worker, who is active.
    pub(super) fn new(size: u32) -> Self {
        ActiveWorkers { active: CachePadded::new(AtomicU32::new(1)), size }
    }

    /// Whether the asker is the only active worker.
    #[inline]
    pub(super) fn is_alone(&self) -> bool {
        self.active.load(Relaxed) <= 1
    }

    /// Whether there is room for another worker, to be asked after something was put where it can be taken.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        fence(SeqCst);
        self.active.load(Relaxed) < self.size
    }

    /// Puts one more worker on the active_workers, if there is room.
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

    /// Takes one worker off. It must then look once more whether there is something to do, and [`join`](ActiveWorkers::join) again for it.
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
    fn a_task_pushed_while_a_worker_leaves_has_one_worker_called_for_it() {
        loom::model(|| {
            let active_workers = Arc::new(ActiveWorkers::new(2));
            assert!(active_workers.join());
            let pushed = Arc::new(AtomicBool::new(false));
            let called = Arc::new(AtomicU32::new(0));
            let leaver = {
                let (active_workers, pushed, called) =
                    (Arc::clone(&active_workers), Arc::clone(&pushed), Arc::clone(&called));
                thread::spawn(move || {
                    active_workers.leave();
                    if pushed.load(Ordering::Acquire) && active_workers.join() {
                        called.fetch_add(1, Ordering::Relaxed);
                    }
                })
            };
            pushed.store(true, Ordering::Release);
            if active_workers.has_room() && active_workers.join() {
                called.fetch_add(1, Ordering::Relaxed);
            }
            leaver.join().unwrap();
            assert_eq!(called.load(Ordering::Relaxed), 1);
        });
    }
}
