//! The shared memory that all processes of a pool may use together.
//!
//! Each process is a member with counters of its own, which only it changes while it lives. The sum
//! over all members is what the pool has reserved. So when a process dies, at any instruction, the
//! others know what it had reserved.
//!
//! # What is always true
//!
//! 1. A member adds a reservation to its own counter before it checks the sum against the limit. So
//!    of two members that want the same last bytes, at most one succeeds.
//! 2. Cached bytes, which members hold for reuse, count as reserved and are at most a
//!    [`CACHED_PART`] of the limit. So no one is refused because of the caches of others, unless
//!    three quarters of the limit are in use with the new request.

use super::atomics::SharedAtomics;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// One part in this many of the limit may be cached.
const CACHED_PART: u64 = 4;
/// How often a reservation is tried: another one that failed at the same time counts until it is
/// undone.
const ATTEMPTS: u32 = 4;

/// The counters of a member.
const RESERVED: usize = 0;
const CACHED: usize = 1;
/// 1 if the member exists.
const IS_MEMBER: usize = 2;
const NUM_COUNTERS: usize = 3;

/// A member's access to the budget. Clones are the same member.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    counters: Arc<SharedAtomics>,
    member: usize,
    limit: u64,
}

impl Budget {
    /// A budget for one process alone.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn own(limit: u64) -> Self {
        Budget { counters: Arc::new(SharedAtomics::local(NUM_COUNTERS)), member: 0, limit }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    fn counter(&self, which: usize) -> &AtomicU64 {
        &self.counters[self.member * NUM_COUNTERS + which]
    }

    fn sum(&self, which: usize) -> u64 {
        self.counters
            .iter()
            .skip(which)
            .step_by(NUM_COUNTERS)
            .fold(0, |sum, counter| sum.saturating_add(counter.load(SeqCst)))
    }

    fn add(&self, which: usize, bytes: u64, limit: u64) -> bool {
        (0..ATTEMPTS).any(|_| {
            // SeqCst here and in `sum`: of two members that add at the same time, one at least sees
            // the other's.
            self.counter(which).fetch_add(bytes, SeqCst);
            let fits = self.sum(which) <= limit;
            if !fits {
                self.counter(which).fetch_sub(bytes, SeqCst);
                std::thread::yield_now();
            }
            fits
        })
    }

    /// Reserves this many bytes if the limit permits.
    pub(crate) fn reserve(&self, bytes: u64) -> bool {
        bytes <= self.limit && self.add(RESERVED, bytes, self.limit)
    }

    /// Adds bytes that are in use already, whatever the limit.
    pub(crate) fn charge(&self, bytes: u64) {
        self.counter(RESERVED).fetch_add(bytes, SeqCst);
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.counter(RESERVED).fetch_sub(bytes, SeqCst);
    }

    /// Marks this many reserved bytes as cached, if the limit permits.
    pub(crate) fn cache(&self, bytes: u64) -> bool {
        self.add(CACHED, bytes, self.limit / CACHED_PART)
    }

    /// Cached bytes are in use again, or about to be released.
    pub(crate) fn uncache(&self, bytes: u64) {
        self.counter(CACHED).fetch_sub(bytes, SeqCst);
    }

    /// The bytes that all members have reserved together.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.sum(RESERVED)
    }

    /// The bytes that this member has reserved.
    #[cfg(test)]
    pub(crate) fn own_bytes(&self) -> u64 {
        self.counter(RESERVED).load(SeqCst)
    }

    /// The bytes that this member has reserved and uses.
    #[cfg(test)]
    pub(crate) fn own_used_bytes(&self) -> u64 {
        self.own_bytes() - self.counter(CACHED).load(SeqCst)
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) use pool::{BudgetHandle, Member};

#[cfg(all(target_os = "linux", not(miri)))]
mod pool {
    use super::{Budget, CACHED, IS_MEMBER, NUM_COUNTERS, RESERVED, SharedAtomics};
    use ipc_channel::ipc::IpcSharedMemory;
    use serde::{Deserialize, Serialize};
    use std::sync::Arc;
    use std::sync::atomic::Ordering::SeqCst;

    /// Another process in the budget, in the process that made the budget. Dropping it releases the
    /// other process's reservations, so that process must have ended.
    #[derive(Debug)]
    pub(crate) struct Member(Budget);

    /// A budget on its way to its new member.
    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) struct BudgetHandle {
        memory: IpcSharedMemory,
        member: usize,
        limit: u64,
    }

    impl Budget {
        /// A budget for this process and `num_others` others. If the system refuses the shared
        /// memory, it has room for this process alone.
        pub(crate) fn for_members(limit: u64, num_others: usize) -> Self {
            let counters = SharedAtomics::shared((1 + num_others) * NUM_COUNTERS)
                .unwrap_or_else(|| SharedAtomics::local(NUM_COUNTERS));
            counters[IS_MEMBER].store(1, SeqCst);
            Budget { counters: Arc::new(counters), member: 0, limit }
        }

        /// Adds a member, if there is room; also returns the handle to send to it.
        pub(crate) fn join(&self) -> Option<(Member, BudgetHandle)> {
            let mut members = self.counters.chunks_exact(NUM_COUNTERS);
            let member =
                members.position(|counters| counters[IS_MEMBER].compare_exchange(0, 1, SeqCst, SeqCst).is_ok())?;
            let joined = Member(Budget { counters: Arc::clone(&self.counters), member, limit: self.limit });
            let handle = BudgetHandle { memory: self.counters.memory()?, member, limit: self.limit };
            Some((joined, handle))
        }
    }

    impl Drop for Member {
        fn drop(&mut self) {
            [RESERVED, CACHED, IS_MEMBER].iter().for_each(|&which| self.0.counter(which).store(0, SeqCst));
        }
    }

    impl BudgetHandle {
        /// The budget, in the process that the handle was sent to.
        ///
        /// # Errors
        /// The shared memory has no counters for this member.
        pub(crate) fn into_budget(self) -> Result<Budget, String> {
            let counters = SharedAtomics::from_memory(self.memory);
            match self.member < counters.len() / NUM_COUNTERS {
                true => Ok(Budget { counters: Arc::new(counters), member: self.member, limit: self.limit }),
                false => Err("the budget of shared memory has no room for this process".into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
