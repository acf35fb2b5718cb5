//! Counts the events that a task still waits for.

use crate::primitives::{AcqRel, Acquire, AtomicU32};

/// A counter of arrivals. The last arrival learns that it is the last, and sees everything that
/// happened before the others.
#[derive(Debug)]
pub(super) struct Countdown(AtomicU32);

impl Countdown {
    pub(super) fn new(count: u32) -> Self {
        Countdown(AtomicU32::new(count))
    }

    /// Counts one arrival. True for the last one. It is called `count` times in all.
    #[inline(always)]
    pub(super) fn arrive(&self) -> bool {
        // The last arrival needs no read-modify-write, because no other thread changes the count
        // any more; so the count may stay at 1. Acquire and release: everything before an arrival
        // happens before what follows the last one.
        self.0.load(Acquire) == 1 || self.0.fetch_sub(1, AcqRel) == 1
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn count(&self) -> u32 {
        self.0.load(Acquire)
    }
}

#[cfg(all(test, loom))]
#[expect(unsafe_code, reason = "loom's cells, which fail the model if two threads are in one at a time")]
mod models {
    use super::Countdown;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU32, Ordering};
    use loom::thread;

    #[test]
    fn of_two_inputs_that_finish_at_once_one_learns_that_the_task_is_ready_and_sees_both_values() {
        loom::model(|| {
            let values = [UnsafeCell::new(0), UnsafeCell::new(0)];
            let shared = Arc::new((Countdown::new(2), values, AtomicU32::new(0)));
            let finish = |shared: &(Countdown, [UnsafeCell<u32>; 2], AtomicU32), input: usize| {
                let (pending, values, runs) = shared;
                // SAFETY: a task writes its own value before it arrives, and the other thread reads
                // it only after both have arrived. The model checks this.
                values[input].with_mut(|value| unsafe { *value = 1 });
                if pending.arrive() {
                    // SAFETY: both have arrived, so no thread writes any more.
                    let sum: u32 = values.iter().map(|value| value.with(|value| unsafe { *value })).sum();
                    assert_eq!(sum, 2, "both values are seen");
                    runs.fetch_add(1, Ordering::Relaxed);
                }
            };
            let other = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || finish(&shared, 0))
            };
            finish(&shared, 1);
            other.join().unwrap();
            assert_eq!(shared.2.load(Ordering::Relaxed), 1, "the task is run once");
        });
    }
}
