//! The call that each thread of a worker runs, in memory that the parent can read after the worker
//! has died.

use crate::portable::atomics::SharedAtomics;
use ipc_channel::ipc::IpcSharedMemory;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether a thread of a worker runs a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It runs none.
    Idle = 0,
    /// It decodes the inputs, runs the function, or encodes the value. The task is to blame if the
    /// worker dies now.
    Busy = 1,
}

/// One word for each thread of a worker: the batch, the call, and the [`Phase`].
#[derive(Debug)]
pub(super) struct Activity(SharedAtomics);

/// In place of a call: the thread has sent the last results of the batch.
const SENT: u32 = (1 << 31) - 1;

/// The number of words from one thread's to the next, so that threads share no cache line.
const STRIDE: usize = 64 / size_of::<AtomicU64>();

impl Activity {
    /// The activity of a new worker, and the memory to send to it; `None` if the system gives no
    /// memory.
    pub(super) fn new(num_threads: usize) -> Option<(Activity, IpcSharedMemory)> {
        let words = SharedAtomics::shared(num_threads * STRIDE)?;
        let memory = words.memory()?;
        Some((Activity(words), memory))
    }

    /// The activity, in the worker.
    pub(super) fn received(memory: IpcSharedMemory) -> Self {
        Activity(SharedAtomics::from_memory(memory))
    }

    fn word(&self, thread: usize) -> &AtomicU64 {
        &self.0[thread * STRIDE]
    }

    /// Stores the phase of a thread in call `index` of its batch `batch`.
    pub(super) fn set(&self, thread: usize, batch: u32, index: u32, phase: Phase) {
        // Relaxed: the reader needs only this word. It acts on the word after the worker has died;
        // before, it only informs.
        self.word(thread).store(u64::from(batch) << 32 | u64::from(index) << 1 | phase as u64, Ordering::Relaxed);
    }

    /// Stores that a thread has sent the last results of its batch `batch`.
    pub(super) fn set_sent(&self, thread: usize, batch: u32) {
        self.set(thread, batch, SENT, Phase::Idle);
    }

    /// The batch whose last results a thread has sent, if it has run no call since.
    pub(super) fn has_sent(&self, thread: usize) -> Option<u32> {
        let word = self.word(thread).load(Ordering::Relaxed);
        (word as u32 == SENT << 1 | Phase::Idle as u32).then_some((word >> 32) as u32)
    }

    /// The batch and the call that a thread runs or ran when it died; `None` if it was idle.
    pub(super) fn busy_with(&self, thread: usize) -> Option<(u32, u32)> {
        let word = self.word(thread).load(Ordering::Relaxed);
        (word & 1 == Phase::Busy as u64).then_some(((word >> 32) as u32, (word as u32) >> 1))
    }

    /// The last batch of which a thread has run a call.
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
        let (activity, memory) = Activity::new(2).unwrap();
        let there = Activity::received(memory);
        assert_eq!(activity.busy_with(1), None);
        there.set(0, 7, 511, Phase::Busy);
        activity.set(1, u32::MAX, 3, Phase::Busy);
        assert_eq!((activity.busy_with(0), activity.busy_with(1)), (Some((7, 511)), Some((u32::MAX, 3))));
        activity.set(0, 7, 511, Phase::Idle);
        assert_eq!((activity.busy_with(0), activity.has_sent(0)), (None, None));
        activity.set_sent(0, 7);
        assert_eq!((activity.busy_with(0), activity.last_batch(0)), (None, Some(7)));
        assert_eq!((activity.has_sent(0), activity.has_sent(1)), (Some(7), None));
    }
}
