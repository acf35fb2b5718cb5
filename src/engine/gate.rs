//! Who is inside a run, and its closing.

use crate::primitives::{AtomicU32, SeqCst};

const CLOSED: u32 = 1 << 31;

/// Counts those who work inside; once it is closed nobody gets in any more.
#[derive(Debug)]
pub(super) struct Gate(AtomicU32);

impl Gate {
    pub(super) fn new() -> Self {
        Gate(AtomicU32::new(0))
    }

    /// Goes in, unless the gate is closed.
    ///
    /// A closed gate does not count who tries: the last one out, who must tell the closer, would not know itself as the last.
    pub(super) fn enter(&self) -> bool {
        // SeqCst, here and below: coming, going and closing are seen in one order, and who finds nobody inside sees what they did.
        let mut inside = self.0.load(SeqCst);
        while inside & CLOSED == 0 {
            match self.0.compare_exchange(inside, inside + 1, SeqCst, SeqCst) {
                Ok(_) => return true,
                Err(now) => inside = now,
            }
        }
        false
    }

    /// Goes out; true for the last one out of a closed gate.
    pub(super) fn leave(&self) -> bool {
        self.0.fetch_sub(1, SeqCst) == CLOSED + 1
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.0.fetch_or(CLOSED, SeqCst);
    }

    /// Whether nobody is inside, which is final once the gate is closed.
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
    fn nobody_is_inside_once_a_closed_gate_is_empty() {
        loom::model(|| {
            let shared = Arc::new((Gate::new(), UnsafeCell::new(0)));
            let other = Arc::clone(&shared);
            let worker = thread::spawn(move || {
                if other.0.enter() {
                    // SAFETY: the closer touches the cell only when nobody is inside; that is what the model checks.
                    other.1.with_mut(|value| unsafe { *value += 1 });
                    other.0.leave();
                }
            });
            shared.0.close();
            while !shared.0.is_empty() {
                thread::yield_now();
            }
            // SAFETY: as above.
            let value = shared.1.with(|value| unsafe { *value });
            worker.join().unwrap();
            // SAFETY: the worker is gone.
            assert_eq!(value, shared.1.with(|value| unsafe { *value }), "the worker was inside after all");
        });
    }
}
