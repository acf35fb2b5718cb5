//! The executors under test.

use crate::contract::Subject;
use crate::own_pool::Pool;
use crate::pool::FixedPool;
use rayon::{ThreadPool, ThreadPoolBuilder};
use sprang::{ProcessExecutor, Scheduler, SyncExecutor, ThreadExecutor};
use std::num::NonZeroUsize;
use std::sync::Arc;

pub(crate) fn sync() -> Subject {
    Subject::new("the sync executor", 1, SyncExecutor)
}

pub(crate) fn threads(num_workers: usize) -> Subject {
    Subject::new(
        format!("the thread executor with {num_workers} workers"),
        num_workers,
        ThreadExecutor::new(num_workers),
    )
}

pub(crate) fn rayon_pool(num_threads: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap())
}

pub(crate) fn pool(num_threads: usize) -> Subject {
    let executor = ThreadExecutor::with_pool(rayon_pool(num_threads));
    Subject::new(format!("the thread executor on a pool of {num_threads}"), num_threads, executor)
}

pub(crate) fn default() -> Subject {
    Subject::named(Scheduler::Threads, rayon::current_num_threads())
}

pub(crate) fn processes(num_workers: usize) -> Subject {
    let executor = ProcessExecutor::new(NonZeroUsize::new(num_workers).unwrap());
    Subject::new(format!("the process executor with {num_workers} workers"), num_workers, executor).elsewhere()
}

pub(crate) fn own(num_threads: usize) -> Subject {
    Subject::new(format!("a program's own pool of {num_threads}"), num_threads, FixedPool::new(num_threads))
}

/// The executor of the documentation.
pub(crate) fn example(num_threads: usize) -> Subject {
    Subject::new(format!("the pool of the example with {num_threads}"), num_threads, Pool::new(num_threads))
}

/// One executor of each kind.
pub(crate) fn all() -> Vec<Subject> {
    vec![sync(), threads(1), threads(2), threads(3), threads(8), pool(1), pool(2), default(), processes(2), own(2)]
}
