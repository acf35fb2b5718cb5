//! How a process becomes a worker, and whether this process may start workers.
//!
//! A worker is the same executable, started again. It never reaches `main`: one of the functions
//! before `main` is sprang's [`hook`](super::hook). The hook finds the worker's token in an
//! environment variable and does not return. So programs, tests, doc tests, benches and examples
//! need no line for it.
//!
//! # What is always true
//!
//! 1. A process starts workers only if its own hook has run or the program has called [`init`], and
//!    only if the hook is in the program or in a library that the program was linked with. The
//!    worker is the same executable, so the hook, or `init`, runs there too, before `main` goes on.
//! 2. A worker removes the token from its environment before code of `main` runs, and no other
//!    process takes that token for its own (`Token::is_for_this_process`). So the processes that a
//!    task starts are ordinary ones.
//! 3. The token carries the depth of the worker. At [`MAX_DEPTH`], a process starts no workers. So
//!    workers cannot start workers without end.

/// The depth at which a worker starts no further workers.
pub(super) const MAX_DEPTH: u32 = 2;

/// Whether sprang's hook before `main` has run in this process.
pub(crate) fn hook_ran() -> bool {
    platform::hook_ran()
}

/// Whether this process is a worker.
pub(crate) fn is_worker() -> bool {
    depth() > 0
}

/// The depth of this process: 0 for an ordinary process, 1 for its workers, 2 for theirs.
pub(super) fn depth() -> u32 {
    platform::depth()
}

/// Why this process cannot start workers; `None` if it can.
pub(crate) fn refusal() -> Option<String> {
    if depth() >= MAX_DEPTH {
        return Some(format!(
            "worker processes are nested {MAX_DEPTH} deep already; inside tasks set scheduler = \"threads\" or \"sync\""
        ));
    }
    platform::refusal()
}

/// Ensures that this program can start worker processes. On Linux, where these exist today, the
/// call is optional.
///
/// With `scheduler = "processes"`, sprang starts the program's own executable again for each
/// worker. On Linux, a function of sprang runs there before `main` and takes over. So a worker runs
/// the tasks and no other part of the program, and the program does not have to call anything.
///
/// If an executable does not run its functions before `main`, because a linker script drops them,
/// call `init` as the first thing in `main`. In a worker, which is started without arguments, it
/// does not return. In any other process it returns at once.
///
/// `init` does not help a library that is loaded into a running program, such as an extension
/// module of an interpreter: a worker would never reach the call. There, sprang refuses to start
/// worker processes with an error.
///
/// # Examples
/// ```
/// sprang::init();
/// // The program starts here.
/// assert_eq!(sprang::delayed(|| 6 * 7, ()).compute()?, 42);
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Complexity
/// Does nothing if the function before `main` has run.
pub fn init() {
    platform::init();
}

#[cfg(all(target_os = "linux", not(miri)))]
use super::hook as platform;

#[cfg(not(all(target_os = "linux", not(miri))))]
mod platform {
    pub(super) fn hook_ran() -> bool {
        false
    }

    pub(super) fn depth() -> u32 {
        0
    }

    pub(super) fn refusal() -> Option<String> {
        let platform = if cfg!(miri) { "Miri" } else { std::env::consts::OS };
        Some(format!("there are no worker processes on {platform}; set scheduler = \"threads\""))
    }

    pub(super) fn init() {}
}
