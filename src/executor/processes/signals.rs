//! Calls that no signal interrupts.
//!
//! ipc-channel gives up what a signal interrupts, and the message, or the worker that was about to connect, is lost. A program may have
//! handlers that do interrupt; so signals wait, or go to other threads, while this one is inside ipc-channel. Those that a thread sends to
//! itself by what it does, such as `SIGSEGV`, do not wait.

#![expect(unsafe_code, reason = "the standard library has no signal masks")]

use std::mem::MaybeUninit;
use std::ptr;

/// The mask that the thread had before.
struct Before(libc::sigset_t);

/// Calls `body` while this thread takes no signals.
pub(super) fn with_signals_blocked<R>(body: impl FnOnce() -> R) -> R {
    let _before = Before::block();
    body()
}

impl Before {
    fn block() -> Option<Before> {
        let (mut blocked, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: `sigfillset` fills the set that is then used, and `pthread_sigmask` the other one unless it fails.
        unsafe {
            libc::sigfillset(blocked.as_mut_ptr());
            for signal in
                [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT]
            {
                libc::sigdelset(blocked.as_mut_ptr(), signal);
            }
            let failed = libc::pthread_sigmask(libc::SIG_BLOCK, blocked.as_ptr(), before.as_mut_ptr()) != 0;
            (!failed).then(|| Before(before.assume_init()))
        }
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        // SAFETY: a set that was the mask of this thread: guards are not sent to others.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}
