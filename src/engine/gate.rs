//! Counts the threads inside a run, and keeps others out once the run is closed.

use crate::primitives::{AtomicU32, SeqCst};

const CLOSED: u32 = 1 << 31;

/// A count of the threads inside, which can be closed to new ones.
#[derive(Debug)]
pub(super) struct Gate(AtomicU32);

impl Gate {
    pub(super) fn new() -> Self {
        Gate(AtomicU32::new(0))
    }

    /// Enters, unless the gate is closed.
    ///
    /// A closed gate does not count a failed attempt. Otherwise the last thread to leave, which
    /// must notify the owner, could not know that it is the last.
    pub(super) fn enter(&self) -> bool {
        // SeqCst, here and below: all threads see entering, leaving and closing in one order. A
        // thread that finds the gate empty sees the effects of the threads that were inside.
        let mut inside = self.0.load(SeqCst);
        while inside & CLOSED == 0 {
            match self.0.compare_exchange(inside, inside + 1, SeqCst, SeqCst) {
                Ok(_) => return true,
                Err(now) => inside = now,
            }
        }
        false
    }

    /// Leaves. True for the last thread to leave a closed gate.
    pub(super) fn leave(&self) -> bool {
        self.0.fetch_sub(1, SeqCst) == CLOSED + 1
    }

    /// Lets no thread in any more.
    pub(super) fn close(&self) {
        self.0.fetch_or(CLOSED, SeqCst);
    }

    /// Whether no thread is inside. This is final once the gate is closed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.load(SeqCst) & !CLOSED == 0
    }
}

#[cfg(all(test, loom))]
#[expect(unsafe_code, reason = "loom's cells, which fail the model if two threads are in one at a time")]
mod models {
    use super::Gate;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn no_thread_is_inside_once_a_closed_gate_is_empty() {
        loom::model(|| {
            let shared = Arc::new((Gate::new(), UnsafeCell::new(0)));
            let other = Arc::clone(&shared);
            let worker = thread::spawn(move || {
                if other.0.enter() {
                    // SAFETY: the owner touches the cell only when no thread is inside. The model
                    // checks this.
                    other.1.with_mut(|value| unsafe { *value += 1 });
                    other.0.leave();
                }
            });
            shared.0.close();
            while !shared.0.is_empty() {
                thread::yield_now();
            }
            // SAFETY: the gate is closed and empty, so no thread is inside.
            let value = shared.1.with(|value| unsafe { *value });
            worker.join().unwrap();
            // SAFETY: the worker has ended.
            assert_eq!(value, shared.1.with(|value| unsafe { *value }), "the worker was inside after all");
        });
    }
}
