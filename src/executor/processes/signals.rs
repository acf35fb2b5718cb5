//! Calls that no signal interrupts.
//!
//! ipc-channel gives up when a signal interrupts it: it loses a message, or the worker that was
//! about to connect. Programs may have handlers that interrupt system calls. So a thread blocks
//! signals while it is inside ipc-channel; the signals wait, or other threads take them. Signals
//! that a thread causes itself, such as `SIGSEGV`, are not blocked.

#![expect(unsafe_code, reason = "the standard library has no signal masks")]

use std::mem::MaybeUninit;
use std::ptr;

/// The mask of this thread before its signals were blocked. Dropping it restores the mask.
struct SavedMask(libc::sigset_t);

/// Calls `body` while this thread takes no signals.
pub(super) fn with_signals_blocked<R>(body: impl FnOnce() -> R) -> R {
    let _saved = SavedMask::block();
    body()
}

impl SavedMask {
    fn block() -> Option<SavedMask> {
        let (mut blocked, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: `sigfillset` initializes `blocked` before the others read it. `pthread_sigmask`
        // initializes `before` unless it fails.
        unsafe {
            libc::sigfillset(blocked.as_mut_ptr());
            for signal in
                [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT]
            {
                libc::sigdelset(blocked.as_mut_ptr(), signal);
            }
            let failed = libc::pthread_sigmask(libc::SIG_BLOCK, blocked.as_ptr(), before.as_mut_ptr()) != 0;
            (!failed).then(|| SavedMask(before.assume_init()))
        }
    }
}

impl Drop for SavedMask {
    fn drop(&mut self) {
        // SAFETY: the pointer is to an initialized set. It was the mask of this thread:
        // `with_signals_blocked` keeps it on its stack.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}
