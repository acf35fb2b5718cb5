//! The threads that help a run along.
//!
//! They are plain threads of sprang's own. Threads of a rayon pool will not do: one that waits inside a parallel loop takes up any job
//! of its pool meanwhile, also the start of another task, and that task may want a lock which the task around the loop holds. A task's
//! `par_iter` goes to rayon's pool as always, and the thread that runs the task sleeps until it is done.
//!
//! Threads are made when they are needed, serve all runs of the process, and end when they have had nothing to do for a while.

use crate::engine::quietly;
use parking_lot::{Condvar, Mutex};
use rayon::ThreadPool;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long a thread waits for something to do before it ends.
const LINGER: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// Where helpers come from.
#[derive(Clone)]
pub(in crate::executor) enum Helpers {
    Own,
    Of(Arc<ThreadPool>),
}

impl Helpers {
    /// Has `job` run by a helper, of which there are up to `max_threads`. If there are no threads to be had it may never be run.
    pub(in crate::executor) fn call(&self, max_threads: usize, team: usize, job: impl FnOnce() + Send + 'static) {
        // A job catches the panics of tasks; what else may panic is the drop of something of the program's.
        let job = move || quietly(job);
        match self {
            Helpers::Own => OWN.call(max_threads, team, Box::new(job)),
            Helpers::Of(pool) => pool.spawn(job),
        }
    }

    /// Forgets the jobs of a team that nobody has taken up.
    pub(in crate::executor) fn withdraw(&self, team: usize) {
        if let Helpers::Own = self {
            // A job that was not run has nothing of the program's to drop.
            OWN.state.lock().jobs.retain(|job| job.0 != team);
        }
    }
}

/// How many tasks run at once if nobody says: as many as this process may use cores.
pub(crate) fn num_cores() -> usize {
    static NUM_CORES: OnceLock<usize> = OnceLock::new();
    *NUM_CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

struct Threads {
    state: Mutex<State>,
    called: Condvar,
}

struct State {
    /// With the team that each is for.
    jobs: VecDeque<(usize, Job)>,
    num_threads: usize,
    num_idle: usize,
}

static OWN: Threads =
    Threads { state: Mutex::new(State { jobs: VecDeque::new(), num_threads: 0, num_idle: 0 }), called: Condvar::new() };

impl Threads {
    fn call(&'static self, max_threads: usize, team: usize, job: Job) {
        let mut state = self.state.lock();
        state.jobs.push_back((team, job));
        if state.num_idle >= state.jobs.len() {
            drop(state);
            self.called.notify_one();
        } else if state.num_threads < max_threads {
            state.num_threads += 1;
            drop(state);
            let started = std::thread::Builder::new().name("sprang-helper".into()).spawn(|| self.serve());
            if started.is_err() {
                // The threads that there are must do; without any the caller does everything itself.
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
            let is_over = self.called.wait_for(&mut state, LINGER).timed_out();
            state.num_idle -= 1;
            if is_over && state.jobs.is_empty() {
                state.num_threads -= 1;
                return;
            }
        }
    }
}
