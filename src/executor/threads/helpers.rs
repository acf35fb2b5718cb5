//! The helper threads of runs.
//!
//! They are plain threads, not threads of a rayon pool: a rayon thread that waits inside a parallel
//! loop runs any job of its pool meanwhile, also the start of another task, and that task may need
//! a lock that the task around the loop holds. A task's `par_iter` still runs on rayon's pool, and
//! the helper thread that runs the task sleeps until the loop is done.
//!
//! Helper threads are started on demand, serve all runs of the process, and exit after being idle
//! for a while.

use crate::engine::quietly;
use crate::per_process::{PerProcess, spawn};
use parking_lot::{Condvar, Mutex};
use rayon::ThreadPool;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The size of the stack of a thread that runs tasks, in bytes of address space: that of a main
/// thread on most systems.
pub(crate) const DEFAULT_STACK_SIZE: usize = 8 << 20;

/// How long a thread stays idle before it exits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// Where helpers come from.
#[derive(Clone)]
pub(crate) enum Helpers {
    Own(&'static HelperThreads),
    Pool(Arc<ThreadPool>),
}

impl Helpers {
    /// Helper threads of this crate, with stacks of this size in bytes.
    pub(crate) fn with_stack(stack_size: usize) -> Self {
        static DEFAULT: PerProcess<HelperThreads> = PerProcess::new();
        // Grows with the number of different sizes that the program asks for.
        static OTHERS: PerProcess<Mutex<BTreeMap<usize, &'static HelperThreads>>> = PerProcess::new();
        let new = || HelperThreads::new(stack_size);
        Helpers::Own(match stack_size {
            DEFAULT_STACK_SIZE => DEFAULT.get_or_make(new),
            _ => {
                let mut others = OTHERS.get_or_make(Mutex::default).lock();
                others.entry(stack_size).or_insert_with(|| Box::leak(Box::new(new())))
            }
        })
    }

    /// Runs `job` on a helper thread, of which there are up to `max_threads`. If no thread can be
    /// started, the job may never run.
    pub(crate) fn call(&self, max_threads: usize, team: usize, job: impl FnOnce() + Send + 'static) {
        // A job catches the panics of tasks, but a destructor of the program may panic.
        let job = move || quietly(job);
        match self {
            Helpers::Own(threads) => threads.call(max_threads, team, Box::new(job)),
            Helpers::Pool(pool) => pool.spawn(job),
        }
    }

    /// Drops the jobs of a team that no helper has started.
    pub(crate) fn withdraw(&self, team: usize) {
        if let Helpers::Own(threads) = self {
            // A job that has not run owns nothing of the program, so no destructor of it runs here.
            threads.state.lock().jobs.retain(|job| job.0 != team);
        }
    }
}

/// How many tasks run at once by default: the number of cores available to this process.
pub(crate) fn num_cores() -> usize {
    static NUM_CORES: OnceLock<usize> = OnceLock::new();
    *NUM_CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

pub(crate) struct HelperThreads {
    stack_size: usize,
    state: Mutex<HelperState>,
    job_added: Condvar,
}

struct HelperState {
    /// Each with the team that it is for.
    jobs: VecDeque<(usize, Job)>,
    num_threads: usize,
    num_idle: usize,
}

impl HelperThreads {
    fn new(stack_size: usize) -> Self {
        let state = HelperState { jobs: VecDeque::new(), num_threads: 0, num_idle: 0 };
        HelperThreads { stack_size, state: Mutex::new(state), job_added: Condvar::new() }
    }

    fn call(&'static self, max_threads: usize, team: usize, job: Job) {
        let mut state = self.state.lock();
        state.jobs.push_back((team, job));
        if state.num_idle >= state.jobs.len() {
            drop(state);
            self.job_added.notify_one();
        } else if state.num_threads < max_threads {
            state.num_threads += 1;
            drop(state);
            let thread = std::thread::Builder::new().name("sprang-helper".into()).stack_size(self.stack_size);
            if spawn(thread, || self.serve()).is_err() {
                // The existing threads take the jobs. Without any, the caller runs every task
                // itself.
                let mut state = self.state.lock();
                state.num_threads -= 1;
                let _jobs = if state.num_threads == 0 { std::mem::take(&mut state.jobs) } else { VecDeque::new() };
                drop(state);
            }
        }
    }

    fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some((_, job)) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.state.lock();
                continue;
            }
            state.num_idle += 1;
            let is_over = self.job_added.wait_for(&mut state, IDLE_TIMEOUT).timed_out();
            state.num_idle -= 1;
            if is_over && state.jobs.is_empty() {
                state.num_threads -= 1;
                return;
            }
        }
    }
}
