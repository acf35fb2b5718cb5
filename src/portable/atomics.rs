//! Atomic integers that several processes share.
//!
//! # What is always true
//!
//! 1. A mapping starts at a page, so that its integers are aligned. No process uses it for anything
//!    but its integers, and every process uses them as atomics only.
//! 2. The integers are reached only through the value that owns the mapping.

#![cfg_attr(
    all(target_os = "linux", not(miri)),
    expect(unsafe_code, reason = "atomics in memory that is shared with another process")
)]

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::AtomicU64;

/// A slice of atomic integers, 0 at first.
pub(crate) enum SharedAtomics {
    /// They are in this process alone.
    Local(Box<[AtomicU64]>),
    #[cfg(all(target_os = "linux", not(miri)))]
    Shared(shared::MappedAtomics),
}

impl SharedAtomics {
    /// SharedAtomics of this process alone.
    pub(crate) fn local(count: usize) -> Self {
        SharedAtomics::Local((0..count).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Deref for SharedAtomics {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        match self {
            SharedAtomics::Local(atomics) => atomics,
            #[cfg(all(target_os = "linux", not(miri)))]
            SharedAtomics::Shared(mapped) => mapped.as_slice(),
        }
    }
}

impl fmt::Debug for SharedAtomics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod shared {
    use super::SharedAtomics;
    use ipc_channel::ipc::IpcSharedMemory;
    use std::panic::catch_unwind;
    use std::ptr::NonNull;
    use std::slice;
    use std::sync::atomic::AtomicU64;

    pub(crate) struct MappedAtomics {
        start: NonNull<AtomicU64>,
        count: usize,
        memory: IpcSharedMemory,
    }

    // SAFETY: the value owns its mapping (rule 2), which is bound to no thread.
    unsafe impl Send for MappedAtomics {}
    // SAFETY: a shared reference gives access to atomics only (rule 1).
    unsafe impl Sync for MappedAtomics {}

    impl MappedAtomics {
        pub(super) fn as_slice(&self) -> &[AtomicU64] {
            // SAFETY: `from_memory` took `count` from the mapping's length, and `self` owns the
            // mapping (rule 2). The integers are aligned, and every process uses them as atomics
            // only (rule 1).
            unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
        }
    }

    impl SharedAtomics {
        /// SharedAtomics that other processes may have too; `None` if the system gives no memory.
        pub(crate) fn shared(count: usize) -> Option<Self> {
            let bytes = count.max(1) * size_of::<AtomicU64>();
            catch_unwind(|| SharedAtomics::from_memory(IpcSharedMemory::from_byte(0, bytes))).ok()
        }

        /// The integers in a shared memory that is used for nothing else.
        pub(crate) fn from_memory(mut memory: IpcSharedMemory) -> Self {
            // SAFETY: the memory is owned here, and the slice becomes a pointer at once. `as_slice`
            // makes no other reference of it than to atomics (rule 1).
            let bytes = unsafe { memory.deref_mut() };
            let (start, count) = (NonNull::from(&mut *bytes).cast(), bytes.len() / size_of::<AtomicU64>());
            SharedAtomics::Shared(MappedAtomics { start, count, memory })
        }

        /// The memory to send to another process; `None` if the integers are in this process alone,
        /// or the process has no file descriptor left.
        pub(crate) fn memory(&self) -> Option<IpcSharedMemory> {
            match self {
                SharedAtomics::Local(_) => None,
                SharedAtomics::Shared(mapped) => catch_unwind(|| mapped.memory.clone()).ok(),
            }
        }
    }
}
