//! How a process becomes a worker, and whether this one may start any.
//!
//! A worker is the same executable, started again. It never reaches `main`: a function of sprang's is among those that run before `main`
//! ([`hook`](super::hook)), sees from an environment variable that this is to be a worker, and does not return. So a program needs no line
//! of its own, and neither do tests, doc tests, benches and examples.
//!
//! # What is always true
//!
//! 1. A process starts workers only if its own hook has run, or it has called [`init`]; and the hook is in the program or in a library
//!    that the program was linked with. What is started is the same, so there it runs too, and nothing else of the program does.
//! 2. A worker takes the token, the environment variable, out of its environment before any code of the program runs, and no other
//!    process takes itself for the worker that a token means (`Token::is_for_this_process`). So the processes that a task starts are ordinary ones.
//! 3. The token says how deep workers are nested, and at [`MAX_DEPTH`] none are started. So workers cannot start workers without end.

/// How deep workers may be nested: those of a worker start no further ones.
pub(super) const MAX_DEPTH: u32 = 2;

/// Whether sprang's function before `main` has run in this process.
pub(crate) fn hook_ran() -> bool {
    platform::hook_ran()
}

/// Whether this process is a worker.
pub(crate) fn is_worker() -> bool {
    depth() > 0
}

/// How deep this worker is nested: 1 for the worker of an ordinary process, which itself has 0.
pub(super) fn depth() -> u32 {
    platform::depth()
}

/// Why this process may not start workers; `None` if it may.
pub(crate) fn refusal() -> Option<String> {
    if depth() >= MAX_DEPTH {
        return Some(format!(
            "worker processes are nested {MAX_DEPTH} deep already; inside tasks set scheduler = \"threads\" or \"sync\""
        ));
    }
    platform::refusal()
}

/// Makes sure that this program can start worker processes. Optional where they exist today, on Linux.
///
/// With `scheduler = "processes"` sprang starts the program's own executable again for each worker. On Linux a function of sprang's runs
/// in it before `main` and takes over, so that nothing of the program but the tasks runs in a worker, and nothing has to be called for it.
///
/// An executable whose functions before `main` do not run, because a linker script drops them, can call `init` instead, as the first thing
/// in `main`: in a worker, which is started without arguments, it does not return. In any other process it returns at once. It is of no
/// help to a library that is loaded into a running program, such as an extension module of an interpreter, where a worker would never
/// reach the call; there, processes are refused with an error.
///
/// # Examples
/// ```
/// sprang::init();
/// // and now what the program does
/// assert_eq!(sprang::delayed(|| 6 * 7, ()).compute()?, 42);
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Complexity
/// Does nothing where the function before `main` has run.
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
