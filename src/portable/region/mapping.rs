//! Shared memory as ipc-channel sends it from one process to another.

use ipc_channel::ipc::IpcSharedMemory;
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use std::ffi::c_void;
use std::panic::catch_unwind;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Mapping(IpcSharedMemory);

/// The largest file that this process may create. Shared memory is a file, and the system kills a
/// process that makes a larger one.
pub(crate) fn file_size_limit() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

impl Mapping {
    pub(super) fn allocate(len: usize) -> Result<Self, String> {
        if let Some(limit) = file_size_limit().filter(|&limit| len as u64 > limit) {
            return Err(format!(
                "the system gives no {len} bytes of shared memory, as files are limited to {limit} bytes (ulimit -f)"
            ));
        }
        // ipc-channel panics if the system refuses the memory.
        catch_unwind(|| Mapping(IpcSharedMemory::from_byte(0, len))).map_err(|_| {
            format!(
                "the system gives no {len} bytes of shared memory; each piece needs an open file, for which there is a limit (ulimit -n)"
            )
        })
    }

    /// The first byte, and the length.
    pub(super) fn bytes(&mut self) -> (*mut u8, usize) {
        // SAFETY: `&mut self` excludes any other access through this mapping, and the slice becomes
        // a pointer at once. The users of the pointer keep the rules of `region`.
        let bytes = unsafe { self.0.deref_mut() };
        (bytes.as_mut_ptr(), bytes.len())
    }

    pub(super) fn make_read_only(&mut self) -> Result<(), String> {
        let (start, len) = self.bytes();
        if len == 0 {
            return Ok(());
        }
        // SAFETY: these are the pages of this mapping, which was just received: no reference to its
        // bytes exists yet.
        unsafe { rustix::mm::mprotect(start.cast::<c_void>(), len, rustix::mm::MprotectFlags::READ) }
            .map_err(|error| error.to_string())
    }
}
