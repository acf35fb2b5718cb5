//! What a worker is busy with, written where the parent can read it when the worker is dead.

use crate::portable::atomics::SharedAtomics;
use ipc_channel::ipc::IpcSharedMemory;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a thread of a worker does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has none.
    Idle = 0,
    /// It decodes the inputs, runs the function, or encodes the value: the task is to blame for what happens now.
    Busy = 1,
}

/// A word for each thread of a worker.
#[derive(Debug)]
pub(super) struct Activity(SharedAtomics);

/// In the place of a call: the results of all have been sent.
const SENT: u32 = (1 << 31) - 1;

/// Threads do not share a cache line.
const STRIDE: usize = 64 / size_of::<AtomicU64>();

impl Activity {
    /// A page, and what to send to the worker; `None` if the system gives no memory.
    pub(super) fn new(num_threads: usize) -> Option<(Activity, IpcSharedMemory)> {
        let words = SharedAtomics::shared(num_threads * STRIDE)?;
        let memory = words.memory()?;
        Some((Activity(words), memory))
    }

    /// The page in the worker.
    pub(super) fn received(memory: IpcSharedMemory) -> Self {
        Activity(SharedAtomics::from_memory(memory))
    }

    fn word(&self, thread: usize) -> &AtomicU64 {
        &self.0[thread * STRIDE]
    }

    /// Says what thread `thread` does with call `index` of its batch `batch`.
    pub(super) fn set(&self, thread: usize, batch: u32, index: u32, phase: Phase) {
        // Relaxed: it is read when the writer is dead, or for information.
        self.word(thread).store(u64::from(batch) << 32 | u64::from(index) << 1 | phase as u64, Ordering::Relaxed);
    }

    /// Says that thread `thread` has sent the last results of its batch `batch`.
    pub(super) fn set_sent(&self, thread: usize, batch: u32) {
        self.set(thread, batch, SENT, Phase::Idle);
    }

    /// The batch whose last results a thread has sent, if it has done nothing since.
    pub(super) fn has_sent(&self, thread: usize) -> Option<u32> {
        let word = self.word(thread).load(Ordering::Relaxed);
        (word as u32 == SENT << 1 | Phase::Idle as u32).then_some((word >> 32) as u32)
    }

    /// The batch and the call that a thread was last busy with, unless it was idle.
    pub(super) fn busy_with(&self, thread: usize) -> Option<(u32, u32)> {
        let word = self.word(thread).load(Ordering::Relaxed);
        (word & 1 == Phase::Busy as u64).then_some(((word >> 32) as u32, (word as u32) >> 1))
    }

    /// The last batch that a thread has had to do with.
    pub(super) fn last_batch(&self, thread: usize) -> Option<u32> {
        let word = self.word(thread).load(Ordering::Relaxed);
        Some((word >> 32) as u32).filter(|&batch| batch != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Activity, Phase};

    #[test]
    fn threads_have_words_of_their_own() {
        let (page, memory) = Activity::new(2).unwrap();
        let there = Activity::received(memory);
        assert_eq!(page.busy_with(1), None);
        there.set(0, 7, 511, Phase::Busy);
        page.set(1, u32::MAX, 3, Phase::Busy);
        assert_eq!((page.busy_with(0), page.busy_with(1)), (Some((7, 511)), Some((u32::MAX, 3))));
        page.set(0, 7, 511, Phase::Idle);
        assert_eq!((page.busy_with(0), page.has_sent(0)), (None, None));
        page.set_sent(0, 7);
        assert_eq!((page.busy_with(0), page.last_batch(0)), (None, Some(7)));
        assert_eq!((page.has_sent(0), page.has_sent(1)), (Some(7), None));
    }
}
