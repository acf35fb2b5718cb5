//! The threads executor: the calling thread runs tasks, and helper threads join it when that pays.
//!
//! A run begins on the caller's thread, its *leader*: the leader runs the tasks in order, as the
//! sync executor does, with no counters and no queues. At the same time one helper thread starts as
//! the *observer*. While tasks are so small that a second core would cost more than it gains, the
//! observer only watches. When the leader advances slowly, or is stuck in one task, the observer
//! makes the run parallel ([`handover`]). Both then continue as *workers* ([`worker`]), and request
//! more helpers while there is room ([`active_workers`]). The leader runs a graph that is a single
//! chain alone, without an observer. A run whose tasks may wait for retries is parallel from the
//! start, because a leader that runs tasks in order would have to wait with them.
//!
//! # What is always true
//!
//! 1. Helper threads belong to no run ([`helpers`]). A worker that finds no task for a while leaves
//!    the run.
//! 2. The caller waits for running tasks, never for a helper to start. A compute inside a task
//!    therefore makes progress even if no other thread is available.
//! 3. A thread that waits for a nested compute, or in a task's `par_iter`, runs no other task
//!    meanwhile: the task it is in may hold a lock that the other task needs. In a rayon pool of
//!    the program rayon decides this; a thread of such a pool that is inside a task declines to
//!    help.

mod active_workers;
mod handover;
pub(super) mod helpers;
mod range;
mod team;
mod worker;

use super::{Executor, sync};
use crate::engine::Run;
use helpers::Helpers;
pub(crate) use helpers::{DEFAULT_STACK_SIZE, num_cores};
use rayon::ThreadPool;
use std::fmt;
use std::sync::Arc;
use team::Team;

/// Runs tasks on the calling thread and on helper threads.
///
/// The scheduler `"threads"`, the default, runs up to `num_workers` tasks at once, or one per
/// available core. Create a `ThreadExecutor` to use another number of workers or a rayon pool of
/// your own.
///
/// A task may use rayon: its parallel loops run on rayon's pool, as usual.
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
    /// Creates an executor that runs up to `num_workers` tasks at once; 0 counts as 1.
    pub fn new(num_workers: usize) -> Self {
        ThreadExecutor { num_workers: Some(num_workers.max(1)), pool: None }
    }

    /// Creates an executor that runs as many tasks at once as `pool` has threads, on the threads of
    /// the pool and on the calling thread. Parallel loops of tasks on the pool's threads run in the
    /// pool too.
    ///
    /// A rayon thread that waits inside a parallel loop runs other jobs of its pool. With a pool of
    /// your own, a task therefore must not hold a lock across a parallel loop if other tasks need
    /// that lock: the thread could start such a task and wait for itself. Without a pool of your
    /// own this cannot happen.
    pub fn with_pool(pool: Arc<ThreadPool>) -> Self {
        ThreadExecutor { num_workers: None, pool: Some(pool) }
    }

    pub(crate) fn shared() -> &'static ThreadExecutor {
        static SHARED: ThreadExecutor = ThreadExecutor { num_workers: None, pool: None };
        &SHARED
    }

    fn helpers(&self, run: &Run) -> (Helpers, usize) {
        let num_workers = self.num_workers.or(run.num_workers().map(usize::from));
        match &self.pool {
            Some(pool) => (Helpers::Pool(Arc::clone(pool)), num_workers.unwrap_or(pool.current_num_threads())),
            None => (Helpers::with_stack(run.stack_size()), num_workers.unwrap_or_else(num_cores)),
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
        let (helpers, num_workers) = self.helpers(run);
        // More workers than tasks would be idle.
        let num_workers = num_workers.min(run.num_tasks());
        run.enter(|access| {
            if access.is_chain() {
                sync::run_in_order(access);
            } else if access.may_wait_for_retries() {
                let team = Team::new(run, num_workers, helpers);
                team.work_together(run, access);
                team.withdraw_helpers();
            } else if num_workers <= 1 {
                sync::run_in_order(access);
            } else {
                let team = Team::new(run, num_workers, helpers);
                team.lead(access);
                team.withdraw_helpers();
            }
        });
    }
}

impl fmt::Debug for ThreadExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadExecutor").field("num_workers", &self.num_workers).field("pool", &self.pool).finish()
    }
}
