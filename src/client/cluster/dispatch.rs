//! Brings jobs and threads together: the ready queue, the threads that sleep, wake-ups, stealing,
//! and inline runs.
//!
//! # What is always true
//!
//! 1. A job that was pushed is in the queue, in the local queue of a thread, or with the thread
//!    that runs it. Other threads steal from a local queue, so no job waits for the one before it
//!    while a thread is idle.
//! 2. A sleeping thread is in `idle`. The thread that notifies it moves it to `notified`, where it
//!    stays until it is awake. A push notifies as many threads as there are jobs in the queue, less
//!    those that are searching.
//! 3. A thread of the program may run a task in the place of a notified thread, which it takes out
//!    of `notified`. The sleeping thread goes back to `idle` when the inline run ends, and sleeps
//!    on meanwhile.
//! 4. Under the lock of the state no code of the program runs and no promise is settled. The only
//!    locks taken under it are those of local queues, of the member list, and of a worker's
//!    resources.

use super::super::job::Job;
use super::super::promise::{AnyPromise, Needs};
use super::super::spin::spin_until;
use super::ready_queue::{BatchLimit, ReadyQueue};
use super::running::RunningFunction;
use crate::engine::CancelToken;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// The worker of a thread that takes jobs.
pub(super) trait Taker {
    /// Takes the resources that a task needs, if the worker has them free and the task may run on
    /// it.
    fn try_reserve(&self, needs: &Needs) -> bool;

    /// Whether the worker takes no more jobs, so that its threads must end.
    fn is_leaving(&self) -> bool;

    /// Whether the calling thread goes on to take jobs. If not, the worker does not count it any
    /// more.
    fn keep_thread(&self, is_closed: bool) -> bool;
}

/// The jobs of one thread, and the token of its tasks.
#[derive(Default)]
pub(in crate::client) struct ThreadSlot {
    /// Jobs that the thread is going to run unless others steal them.
    pub(super) local_queue: Mutex<VecDeque<Job>>,
    /// Outside the tokens of the thread's tasks. Cancelled when the cluster is closed.
    pub(super) token: CancelToken,
    /// The thread was woken for its local queue and has run nothing since.
    pub(super) has_slept: AtomicBool,
    pub(super) running: RunningFunction,
}

/// Where a thread sleeps.
pub(super) struct Wakeup<W> {
    pub(super) worker: Arc<W>,
    is_notified: AtomicBool,
    condvar: Condvar,
}

/// See the [module](self). `W` is a [`Taker`].
pub(super) struct Dispatch<W> {
    batch: BatchLimit,
    /// Whether threads may steal from local queues.
    is_stealing: bool,
    state: Mutex<DispatchState<W>>,
    /// Notified when a thread has ended.
    thread_ended: Condvar,
    /// The length of the queue, to be read without the lock.
    num_ready: AtomicUsize,
    /// The length of `notified`, to be read without the lock.
    num_notified: AtomicUsize,
    is_closed: AtomicBool,
}

struct DispatchState<W> {
    queue: ReadyQueue,
    slots: Vec<Arc<ThreadSlot>>,
    idle: Vec<Arc<Wakeup<W>>>,
    notified: Vec<Arc<Wakeup<W>>>,
    /// The number of threads that spin until there is a job.
    num_searching: usize,
    num_threads: usize,
}

/// The jobs that wait, and how long they take.
pub(super) struct Load {
    pub(super) num_jobs: usize,
    pub(super) queue_ns: f64,
}

impl<W: Taker> Dispatch<W> {
    /// Threads that run jobs themselves take few and steal; threads that send jobs to a process
    /// take many at once.
    pub(super) fn new(is_of_processes: bool) -> Self {
        let state = DispatchState {
            queue: ReadyQueue::default(),
            slots: Vec::new(),
            idle: Vec::new(),
            notified: Vec::new(),
            num_searching: 0,
            num_threads: 0,
        };
        Dispatch {
            batch: if is_of_processes { BatchLimit::PROCESS } else { BatchLimit::THREAD },
            is_stealing: !is_of_processes,
            state: Mutex::new(state),
            thread_ended: Condvar::new(),
            num_ready: AtomicUsize::new(0),
            num_notified: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn num_queued(&self) -> usize {
        self.num_ready.load(Ordering::Acquire)
    }

    /// Queues jobs with `push`. Returns the refused ones: those that are not possible, or all if
    /// the cluster is closed.
    pub(super) fn push(
        &self,
        jobs: impl IntoIterator<Item = Job>,
        push: impl Fn(&mut ReadyQueue, Job),
        is_possible: impl Fn(&Needs) -> bool,
    ) -> Vec<Job> {
        let mut refused = Vec::new();
        let mut state = self.state.lock();
        for job in jobs {
            if self.is_closed() || job.needs().is_some_and(|needs| !is_possible(needs)) {
                refused.push(job);
            } else {
                push(&mut state.queue, job);
            }
        }
        self.num_ready.store(state.queue.len(), Ordering::Release);
        let num_wanted = match state.queue.has_constrained() {
            true => usize::MAX,
            false => state.queue.len().saturating_sub(state.num_searching),
        };
        self.wake(state, num_wanted);
        refused
    }

    /// Takes the jobs out that no worker can run.
    pub(super) fn take_impossible(&self, is_possible: impl Fn(&Needs) -> bool) -> Vec<Job> {
        let mut state = self.state.lock();
        let jobs = state.queue.take_impossible(is_possible);
        self.num_ready.store(state.queue.len(), Ordering::Release);
        jobs
    }

    /// Puts jobs into the local queue of a thread. Blocks until there are some. False if the thread
    /// must end.
    pub(super) fn take(&self, worker: &Arc<W>, slot: &ThreadSlot) -> bool {
        let mut has_searched = false;
        let mut state = self.state.lock();
        loop {
            if !worker.keep_thread(self.is_closed()) {
                // It may have been notified of a job that it leaves in the queue.
                let num_wanted = usize::from(state.queue.len() > 0);
                self.wake(state, num_wanted);
                return false;
            }
            let num_threads = state.num_threads;
            let mut jobs = state.queue.take(self.batch, num_threads, |needs| worker.try_reserve(needs));
            if jobs.is_empty() && self.is_stealing {
                jobs = steal(&state.slots);
            }
            if !jobs.is_empty() {
                let can_steal = self.is_stealing && jobs.len() > 1;
                *slot.local_queue.lock() = jobs;
                self.num_ready.store(state.queue.len(), Ordering::Release);
                // One more thread may find work; it wakes another in turn.
                let num_wanted = usize::from(can_steal || state.queue.len() > state.num_searching);
                self.wake(state, num_wanted);
                return true;
            }
            if !has_searched {
                has_searched = true;
                state.num_searching += 1;
                drop(state);
                spin_until(|| self.num_queued() > 0 || self.is_closed());
                state = self.state.lock();
                state.num_searching -= 1;
                continue;
            }
            let wakeup = Arc::new(Wakeup {
                worker: Arc::clone(worker),
                is_notified: AtomicBool::new(false),
                condvar: Condvar::new(),
            });
            state.idle.push(Arc::clone(&wakeup));
            while !wakeup.is_notified.load(Ordering::Relaxed) {
                wakeup.condvar.wait(&mut state);
            }
            state.notified.retain(|other| !Arc::ptr_eq(other, &wakeup));
            self.num_notified.store(state.notified.len(), Ordering::Relaxed);
            slot.has_slept.store(true, Ordering::Relaxed);
            has_searched = false;
        }
    }

    /// Learns that a task of this function has taken `ns` nanoseconds.
    pub(super) fn learn(&self, function: usize, ns: f64) {
        self.state.lock().queue.learn(function, ns);
    }

    /// The jobs that wait, with `unknown_ns` for each task of unknown duration.
    pub(super) fn load(&self, unknown_ns: f64) -> Load {
        let state = self.state.lock();
        let num_local: usize = state.slots.iter().map(|slot| slot.local_queue.lock().len()).sum();
        Load { num_jobs: state.queue.len() + num_local, queue_ns: state.queue.total_ns(unknown_ns) }
    }

    pub(super) fn wake_all(&self) {
        self.wake(self.state.lock(), usize::MAX);
    }

    /// Notifies up to `num_wanted` idle threads, and wakes them without the lock.
    fn wake(&self, mut state: MutexGuard<'_, DispatchState<W>>, num_wanted: usize) {
        if num_wanted == 0 {
            return;
        }
        let Some(last) = state.idle.pop() else { return };
        // Usually one is wanted, and no list is made.
        let others = match num_wanted {
            1 => Vec::new(),
            _ => {
                let first = state.idle.len().saturating_sub(num_wanted - 1);
                state.idle.split_off(first)
            }
        };
        let woken = || others.iter().chain([&last]);
        woken().for_each(|wakeup| wakeup.is_notified.store(true, Ordering::Relaxed));
        state.notified.extend(woken().map(Arc::clone));
        self.num_notified.store(state.notified.len(), Ordering::Relaxed);
        drop(state);
        for wakeup in woken() {
            wakeup.condvar.notify_one();
        }
    }

    // ---- threads come and go ----

    /// Counts a thread that is about to start.
    pub(super) fn add_thread(&self) {
        self.state.lock().num_threads += 1;
    }

    /// Counts a thread down that has ended or could not start.
    pub(super) fn remove_thread(&self) {
        self.state.lock().num_threads -= 1;
        self.thread_ended.notify_all();
    }

    pub(super) fn add_slot(&self, slot: &Arc<ThreadSlot>) {
        self.state.lock().slots.push(Arc::clone(slot));
    }

    /// Removes the slot of a thread that ends. Returns the jobs that the thread has not run.
    pub(super) fn remove_slot(&self, slot: &Arc<ThreadSlot>) -> VecDeque<Job> {
        self.state.lock().slots.retain(|other| !Arc::ptr_eq(other, slot));
        std::mem::take(&mut *slot.local_queue.lock())
    }

    // ---- inline runs ----

    /// Whether some thread is notified and not awake yet.
    pub(super) fn has_notified(&self) -> bool {
        self.num_notified.load(Ordering::Relaxed) > 0
    }

    /// Takes the place of a notified thread for `slot`, if tasks of the promise's function are
    /// known to take no longer than `max_ns`. The job of the promise leaves the queue, if it is the
    /// last there.
    pub(super) fn begin_inline(
        &self,
        promise: &Arc<dyn AnyPromise>,
        slot: &Arc<ThreadSlot>,
        max_ns: f64,
    ) -> Option<Arc<Wakeup<W>>> {
        let mut state = self.state.lock();
        state.queue.mean_ns(promise.record().function()).filter(|ns| *ns <= max_ns)?;
        let wakeup = state.notified.pop()?;
        wakeup.is_notified.store(false, Ordering::Relaxed);
        self.num_notified.store(state.notified.len(), Ordering::Relaxed);
        state.queue.remove_last(promise);
        self.num_ready.store(state.queue.len(), Ordering::Release);
        // The thread that closes the cluster waits for this thread as for the others.
        state.num_threads += 1;
        state.slots.push(Arc::clone(slot));
        Some(wakeup)
    }

    /// Gives the place back, and learns how long the task has taken.
    pub(super) fn end_inline(&self, wakeup: &Arc<Wakeup<W>>, slot: &Arc<ThreadSlot>, function: usize, ns: f64) {
        let mut state = self.state.lock();
        state.queue.learn(function, ns);
        state.num_threads -= 1;
        state.slots.retain(|other| !Arc::ptr_eq(other, slot));
        state.idle.push(Arc::clone(wakeup));
        let is_closed = self.is_closed();
        let must_look = is_closed || wakeup.worker.is_leaving() || state.queue.len() > state.num_searching;
        self.wake(state, usize::from(must_look));
        if is_closed {
            self.thread_ended.notify_all();
        }
    }

    // ---- the end ----

    /// Makes all threads end as soon as they search for jobs. Returns the jobs that wait, and the
    /// tokens of the tasks that run.
    pub(super) fn close(&self) -> (Vec<Job>, Vec<CancelToken>) {
        self.is_closed.store(true, Ordering::Release);
        let mut state = self.state.lock();
        let mut jobs = state.queue.drain();
        jobs.extend(state.slots.iter().flat_map(|slot| std::mem::take(&mut *slot.local_queue.lock())));
        self.num_ready.store(0, Ordering::Release);
        let tokens = state.slots.iter().map(|slot| slot.token.clone()).collect();
        self.wake(state, usize::MAX);
        (jobs, tokens)
    }

    /// The names of the functions that run now.
    pub(super) fn running(&self) -> Vec<String> {
        self.state.lock().slots.iter().filter_map(|slot| slot.running.name()).collect()
    }

    /// Blocks until no more than `num_left` threads are left. False if the deadline passes before.
    pub(super) fn wait_for_threads(&self, num_left: usize, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while state.num_threads > num_left {
            match deadline {
                None => self.thread_ended.wait(&mut state),
                Some(deadline) => {
                    if self.thread_ended.wait_until(&mut state, deadline).timed_out() {
                        return state.num_threads <= num_left;
                    }
                }
            }
        }
        true
    }
}

/// Takes half of the jobs of another thread. A job with needs is alone in its local queue and stays
/// there.
fn steal(slots: &[Arc<ThreadSlot>]) -> VecDeque<Job> {
    for slot in slots {
        let mut jobs = slot.local_queue.lock();
        if jobs.back().is_some_and(|job| job.needs().is_none()) {
            let num_kept = jobs.len() / 2;
            return jobs.split_off(num_kept);
        }
    }
    VecDeque::new()
}
