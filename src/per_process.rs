//! Values and threads that a forked child must not share with its parent.
//!
//! `fork` copies a process with one of its threads. In the child, a thread that served the others
//! is gone, a lock may be held by a thread that does not exist, and the descriptors of processes
//! and sockets are those of the parent. So everything that belongs to a process knows its
//! [`Generation`]: the child makes its own ([`PerProcess`]), and refuses or leaves alone what was
//! made before the fork.
//!
//! If the parent had threads of this crate at the fork, the child starts none ([`spawn`]). The
//! table of `parking_lot` still lists the threads that slept, in memory that the C library gives to
//! new threads, and nothing can remove them: a thread of the child that has to sleep would follow
//! pointers that lead nowhere or in circles. Graphs then run in the calling thread, and what needs
//! threads is an error. The timer, which a child always needs, sleeps without `parking_lot`.
//!
//! # What the unsafe code rests on
//!
//! 1. The pointer in a [`PerProcess`] is null or came from `Box::into_raw`, and what it points to
//!    is never changed or freed, also if it is replaced: a thread may have a reference to it.
//! 2. The handler that runs in a forked child only writes atomic numbers.

#![expect(unsafe_code, reason = "statics that are replaced, and a handler that the C library calls after a fork")]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

/// The number of forks between the first process and this one, as far as the C library knows of
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u64);

static NUM_FORKS: AtomicU64 = AtomicU64::new(0);
/// The threads of this crate that run.
static NUM_THREADS: AtomicUsize = AtomicUsize::new(0);
/// A parent of this process had threads of this crate when it forked.
static HAS_LOST_THREADS: AtomicBool = AtomicBool::new(false);

impl Generation {
    /// The generation of this process. Costs two loads.
    pub(crate) fn current() -> Generation {
        static IS_COUNTED: AtomicBool = AtomicBool::new(false);
        if !IS_COUNTED.load(Ordering::Relaxed) && !IS_COUNTED.swap(true, Ordering::Relaxed) {
            count_forks();
        }
        // Relaxed: it only changes where no other thread exists.
        Generation(NUM_FORKS.load(Ordering::Relaxed))
    }

    /// Whether this process is the one in which the generation was read.
    pub(crate) fn is_current(self) -> bool {
        self == Generation::current()
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn count_forks() {
    extern "C" fn count() {
        NUM_FORKS.fetch_add(1, Ordering::Relaxed);
        if NUM_THREADS.swap(0, Ordering::Relaxed) > 0 {
            HAS_LOST_THREADS.store(true, Ordering::Relaxed);
        }
    }
    // SAFETY: the handler may run in a child with one thread, where any lock may be held (rule 2).
    // If there is no memory to register it, forks are not counted.
    let _ = unsafe { libc::pthread_atfork(None, None, Some(count)) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn count_forks() {}

/// Starts a thread of this crate.
///
/// # Errors
/// If the system has no thread, or if this process was forked from one that had some.
pub(crate) fn spawn<R: Send + 'static>(
    builder: Builder,
    body: impl FnOnce() -> R + Send + 'static,
) -> io::Result<JoinHandle<R>> {
    /// Counts the thread until it ends, also by a panic, or is not started.
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            NUM_THREADS.fetch_sub(1, Ordering::Relaxed);
        }
    }
    // From now on forks are counted.
    let _generation = Generation::current();
    if HAS_LOST_THREADS.load(Ordering::Relaxed) {
        return Err(io::Error::other(
            "this process was forked while its parent had threads of sprang; here \"threads\" and \"sync\" compute in the \
             calling thread; fork before the first compute, or start a program instead",
        ));
    }
    NUM_THREADS.fetch_add(1, Ordering::Relaxed);
    let counted = Counted;
    builder.spawn(move || {
        let _counted = counted;
        body()
    })
}

/// A static value that each process makes for itself.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<(Generation, T)>);

impl<T: Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        PerProcess(AtomicPtr::new(ptr::null_mut()))
    }

    /// The value of this process, made by `make` if there is none yet. Threads that come at the
    /// same time may make one each; all get the same.
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> T) -> &'static T {
        let generation = Generation::current();
        let found = self.0.load(Ordering::Acquire);
        // SAFETY: it is null or refers to a value that is never changed or freed (rule 1).
        if let Some((of, value)) = unsafe { found.as_ref() }
            && *of == generation
        {
            return value;
        }
        let made = Box::into_raw(Box::new((generation, make())));
        // Release: a thread that loads the pointer sees the value.
        match self.0.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: from now on it is never changed or freed (rule 1).
            Ok(_) => unsafe { &(*made).1 },
            Err(other) => {
                // SAFETY: no other thread has seen this pointer.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: another thread of this process has stored it since, so it is not null and
                // of this generation (rule 1).
                unsafe { &(*other).1 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_get_the_same_value() {
        static VALUE: PerProcess<Vec<u32>> = PerProcess::new();
        let addresses: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|i| scope.spawn(move || ptr::from_ref(VALUE.get_or_make(|| vec![i])).addr())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(addresses.iter().all(|&address| address == addresses[0]));
        assert!(Generation::current().is_current());
        assert_eq!(VALUE.get_or_make(|| unreachable!("there is one")).len(), 1);
    }
}
