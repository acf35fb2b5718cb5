//! The calling thread, and threads that help it.
//!
//! A run begins on the caller's thread, which *leads* it: it runs the tasks in their order, as the sync executor does, with no counters
//! and no queues. One *observer* is called in at the same time. As long as tasks are so small that a second core would cost more than
//! it gives, it only watches. When the leader gets on slowly, or is stuck in one task, the observer makes the run parallel
//! ([`handover`]), and both go on as *workers* ([`worker`]) and call more if there is room ([`active_workers`]). A graph that is one chain is
//! led to its end without calling anybody.
//!
//! What this rests on:
//!
//! 1. Threads are only lent ([`helpers`]). A worker that has found nothing for a while goes back.
//! 2. The caller does not wait for a helper to start, only for tasks that are running. So a compute inside a task never waits for
//!    something that could run on nobody's thread.
//! 3. A thread that waits, for the end of a nested compute or in a task's `par_iter`, is given no other task meanwhile: the task it is in
//!    may hold a lock that the other wants. Where the program lends a rayon pool, that is up to rayon; a thread of it that is known to be
//!    in a task declines.

mod active_workers;
mod handover;
pub(super) mod helpers;
mod range;
mod team;
mod worker;

use super::{Executor, sync};
use crate::engine::Run;
use helpers::Helpers;
pub(crate) use helpers::num_cores;
use rayon::ThreadPool;
use std::fmt;
use std::sync::Arc;
use team::Team;

/// Runs tasks on the thread that asks and on threads that help it.
///
/// The default is `"threads"`: as many tasks at once as the process may use cores, or as `num_workers` says. One of this type is for a
/// number of workers or a pool of one's own.
///
/// A task may use rayon: its loops run on rayon's pool, as everywhere.
///
/// # Examples
/// ```
/// use sprang::{ThreadExecutor, delayed};
///
/// let answer = delayed(|| 42, ());
/// assert_eq!(answer.compute_with(ThreadExecutor::new(4))?, 42);
/// # Ok::<_, sprang::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct ThreadExecutor {
    num_workers: Option<usize>,
    pool: Option<Arc<ThreadPool>>,
}

impl ThreadExecutor {
    /// Runs up to `num_workers` tasks at once; 0 counts as 1.
    pub fn new(num_workers: usize) -> Self {
        ThreadExecutor { num_workers: Some(num_workers.max(1)), pool: None }
    }

    /// Runs as many tasks at once as the pool has threads, on these and on the thread that asks. The loops of tasks that run on the pool's
    /// threads run there too.
    ///
    /// A rayon thread that waits for a part of its parallel loop takes up other work of its pool. So in a pool of one's own a task must not
    /// hold a lock across a parallel loop if other tasks want that lock: the thread could take up one of these, and wait for itself.
    /// Without a pool of one's own that cannot happen.
    pub fn with_pool(pool: Arc<ThreadPool>) -> Self {
        ThreadExecutor { num_workers: None, pool: Some(pool) }
    }

    pub(crate) fn shared() -> &'static ThreadExecutor {
        static SHARED: ThreadExecutor = ThreadExecutor { num_workers: None, pool: None };
        &SHARED
    }

    fn helpers(&self, num_workers: Option<usize>) -> (Helpers, usize) {
        match &self.pool {
            Some(pool) => (Helpers::Of(Arc::clone(pool)), num_workers.unwrap_or(pool.current_num_threads())),
            None => (Helpers::Own, num_workers.unwrap_or_else(num_cores)),
        }
    }
}

impl Executor for ThreadExecutor {
    fn name(&self) -> &str {
        "threads"
    }

    fn execute(&self, run: &Arc<Run>) {
        if !run.claim() {
            return;
        }
        let wanted = self.num_workers.or(run.num_workers().map(usize::from));
        let (helpers, num_workers) = self.helpers(wanted);
        // No more than can ever have something to do.
        let num_workers = num_workers.min(run.num_tasks());
        run.enter(|worker| {
            if num_workers <= 1 || worker.is_chain() {
                sync::run_in_order(worker);
            } else {
                let team = Team::new(run, num_workers, helpers);
                team.lead(worker);
                team.dismiss();
            }
        });
    }
}

impl fmt::Debug for ThreadExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadExecutor").field("num_workers", &self.num_workers).field("pool", &self.pool).finish()
    }
}
