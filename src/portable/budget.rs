//! How much shared memory the processes of a pool may take, all of them together.
//!
//! Each process is a member, with words of its own that only it changes while it lives, and what is taken is the sum over all. So when a
//! process dies, at whatever instruction, the others know what it had.
//!
//! # What is always true
//!
//! 1. A member has added what it takes to its own word before it looks whether the sum is within the limit. So of two that take what is
//!    there only for one, at most one succeeds.
//! 2. What members keep unused counts as taken, and is a [`KEPT_PART`] of the limit at most. So nobody is refused because of what
//!    others keep, unless three quarters of the limit are in use with what is asked for.

use super::words::Words;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The part of the limit that may be kept unused.
const KEPT_PART: u64 = 4;
/// How often to look again whether there is room: somebody who was refused may have asked at the same time.
const ATTEMPTS: u32 = 4;

/// The words of a member.
const TAKEN: usize = 0;
const KEPT: usize = 1;
/// Whether there is such a member.
const IS_THERE: usize = 2;
const WORDS: usize = 3;

/// A member's way to the budget. Clones are the same member.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    words: Arc<Words>,
    member: usize,
    limit: u64,
}

impl Budget {
    /// A budget for one process alone.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn own(limit: u64) -> Self {
        Budget { words: Arc::new(Words::own(WORDS)), member: 0, limit }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    fn word(&self, which: usize) -> &AtomicU64 {
        &self.words[self.member * WORDS + which]
    }

    fn sum(&self, which: usize) -> u64 {
        self.words.iter().skip(which).step_by(WORDS).fold(0, |sum, word| sum.saturating_add(word.load(SeqCst)))
    }

    fn add(&self, which: usize, bytes: u64, limit: u64) -> bool {
        (0..ATTEMPTS).any(|_| {
            // SeqCst here and in `sum`: of two members that add at the same time, one at least sees the other's.
            self.word(which).fetch_add(bytes, SeqCst);
            let fits = self.sum(which) <= limit;
            if !fits {
                self.word(which).fetch_sub(bytes, SeqCst);
                std::thread::yield_now();
            }
            fits
        })
    }

    /// Takes so many bytes, if there are as many.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        bytes <= self.limit && self.add(TAKEN, bytes, self.limit)
    }

    /// Takes bytes that are in use already.
    pub(crate) fn charge(&self, bytes: u64) {
        self.word(TAKEN).fetch_add(bytes, SeqCst);
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.word(TAKEN).fetch_sub(bytes, SeqCst);
    }

    /// Whether so many of the bytes that were taken may be kept, unused.
    pub(crate) fn keep(&self, bytes: u64) -> bool {
        self.add(KEPT, bytes, self.limit / KEPT_PART)
    }

    /// Bytes that were kept are used again, or about to be given back.
    pub(crate) fn no_longer_kept(&self, bytes: u64) {
        self.word(KEPT).fetch_sub(bytes, SeqCst);
    }

    /// What all members have taken together.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.sum(TAKEN)
    }

    /// What this member has taken.
    #[cfg(test)]
    pub(crate) fn own_bytes(&self) -> u64 {
        self.word(TAKEN).load(SeqCst)
    }

    /// What this member has taken and uses.
    #[cfg(test)]
    pub(crate) fn own_used_bytes(&self) -> u64 {
        self.own_bytes() - self.word(KEPT).load(SeqCst)
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) use pool::{BudgetHandle, Member};

#[cfg(all(target_os = "linux", not(miri)))]
mod pool {
    use super::{Budget, IS_THERE, KEPT, TAKEN, WORDS, Words};
    use ipc_channel::ipc::IpcSharedMemory;
    use serde::{Deserialize, Serialize};
    use std::sync::Arc;
    use std::sync::atomic::Ordering::SeqCst;

    /// A place in the budget for another process, as the process that has made the budget sees it. When it goes, so must the other process
    /// have: what that had taken is given back.
    #[derive(Debug)]
    pub(crate) struct Member(Budget);

    /// A budget on its way to the process that is to be a member of it.
    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) struct BudgetHandle {
        memory: IpcSharedMemory,
        member: usize,
        limit: u64,
    }

    impl Budget {
        /// A budget for this process and so many others. Where the system gives no shared memory there is a place for this one alone.
        pub(crate) fn for_members(limit: u64, num_others: usize) -> Self {
            let words = Words::shared((1 + num_others) * WORDS).unwrap_or_else(|| Words::own(WORDS));
            words[IS_THERE].store(1, SeqCst);
            Budget { words: Arc::new(words), member: 0, limit }
        }

        /// A new member, if there is a place, and what to send to it.
        pub(crate) fn join(&self) -> Option<(Member, BudgetHandle)> {
            let mut places = self.words.chunks_exact(WORDS);
            let member = places.position(|words| words[IS_THERE].compare_exchange(0, 1, SeqCst, SeqCst).is_ok())?;
            let joined = Member(Budget { words: Arc::clone(&self.words), member, limit: self.limit });
            let handle = BudgetHandle { memory: self.words.memory()?, member, limit: self.limit };
            Some((joined, handle))
        }
    }

    impl Drop for Member {
        fn drop(&mut self) {
            [TAKEN, KEPT, IS_THERE].iter().for_each(|&which| self.0.word(which).store(0, SeqCst));
        }
    }

    impl BudgetHandle {
        /// The budget, in the process that the handle was sent to.
        ///
        /// # Errors
        /// It has no such place.
        pub(crate) fn into_budget(self) -> Result<Budget, String> {
            let words = Words::from_memory(self.memory);
            match self.member < words.len() / WORDS {
                true => Ok(Budget { words: Arc::new(words), member: self.member, limit: self.limit }),
                false => Err("it has no place in the budget of shared memory".into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
