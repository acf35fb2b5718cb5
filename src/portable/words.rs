//! Numbers that several processes count with.
//!
//! # What is always true
//!
//! 1. A mapping starts at a page, so that its words are aligned, and is used for nothing but its words, by no process.
//! 2. The mapping goes where the words go and stays as long.

#![cfg_attr(
    all(target_os = "linux", not(miri)),
    expect(unsafe_code, reason = "atomics in memory that is shared with another process")
)]

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::AtomicU64;

/// A row of words, all 0 at first.
pub(crate) enum Words {
    /// Of this process alone.
    Own(Box<[AtomicU64]>),
    #[cfg(all(target_os = "linux", not(miri)))]
    Shared(shared::Mapped),
}

impl Words {
    /// Words of this process alone.
    pub(crate) fn own(count: usize) -> Self {
        Words::Own((0..count).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        match self {
            Words::Own(words) => words,
            #[cfg(all(target_os = "linux", not(miri)))]
            Words::Shared(mapped) => mapped.words(),
        }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod shared {
    use super::Words;
    use ipc_channel::ipc::IpcSharedMemory;
    use std::panic::catch_unwind;
    use std::ptr::NonNull;
    use std::slice;
    use std::sync::atomic::AtomicU64;

    pub(crate) struct Mapped {
        start: NonNull<AtomicU64>,
        count: usize,
        memory: IpcSharedMemory,
    }

    // SAFETY: the words are atomics, and the mapping goes where they go (rule 2).
    unsafe impl Send for Mapped {}
    // SAFETY: as above.
    unsafe impl Sync for Mapped {}

    impl Mapped {
        pub(super) fn words(&self) -> &[AtomicU64] {
            // SAFETY: so many words fit into the mapping, which we hold; they are aligned, and every process uses them as atomics only
            // (rule 1).
            unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
        }
    }

    impl Words {
        /// Words that other processes may have too; `None` if the system gives no memory.
        pub(crate) fn shared(count: usize) -> Option<Self> {
            let bytes = count.max(1) * size_of::<AtomicU64>();
            catch_unwind(|| Words::from_memory(IpcSharedMemory::from_byte(0, bytes))).ok()
        }

        /// The words in a memory that is used for nothing else.
        pub(crate) fn from_memory(mut memory: IpcSharedMemory) -> Self {
            // SAFETY: only the address is wanted; what is done with it is in `words`.
            let bytes = unsafe { memory.deref_mut() };
            let (start, count) = (NonNull::from(&mut *bytes).cast(), bytes.len() / size_of::<AtomicU64>());
            Words::Shared(Mapped { start, count, memory })
        }

        /// What to send to another process; `None` if the words are those of this process alone, or the system is out of descriptors.
        pub(crate) fn memory(&self) -> Option<IpcSharedMemory> {
            match self {
                Words::Own(_) => None,
                Words::Shared(mapped) => catch_unwind(|| mapped.memory.clone()).ok(),
            }
        }
    }
}
