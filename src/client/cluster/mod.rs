//! What the parts of a cluster share: its queue, its workers, and who sleeps.
//!
//! # Workers
//!
//! A worker of a cluster of threads is a group of threads; that of a cluster of processes is a process, and threads here that hand it
//! tasks, one for each of its own. Both kinds of thread live in [`worker`] and sleep in [`Core::take`].
//!
//! # What is always true
//!
//! 1. A job is in the queue, in the local_queue of a thread, or with the thread that runs it. From a local_queue of a thread others may take, so
//!    that no job waits for the one before it while a thread has nothing to do.
//! 2. A thread that sleeps is in `idle`, and is taken out by who rings for it: it is in `called` then, until it comes. Who puts jobs into the
//!    queue rings for as many threads as there are jobs, less those that are looking for work.
//! 3. Of a worker no more threads than it should have are at work or looking for work. One that waits in a task does not count; when it
//!    has come to the end of its wait there may be one too many, which leaves at the next chance. A thread of the program that waits for
//!    a task may run it in the place of one that was called: that one sleeps on until it is back in `idle`.
//! 4. The lock is not held while code of the program runs, or a promise is settled.

mod builder;
mod ready_queue;
mod worker;

pub use builder::{ClusterBuilder, LocalCluster, WhenFull, WorkerInfo, WorkerState};
pub(in crate::client) use builder::{Size, info};

use super::job::{Job, Owner};
use super::nested;
use super::promise::{AnyPromise, Needs, Outcome, calls_back, settle};
use super::shared::{ClusterService, Table};
use super::spin::spin_until;
use super::wait::{self, WaitFor};
use crate::api::config::{Entered, OnFailure, Snapshot};
use crate::engine::callback::{Backlog, ClusterInfo, has_watchers};
use crate::engine::{CancelToken, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::processes::ProcessExecutor;
use crate::executor::threads::ThreadExecutor;
use crate::executor::{Executor, Scheduler};
use crate::portable::codec::Codec;
use builder::Layout;
use parking_lot::{Condvar, Mutex};
use ready_queue::Queue;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The share of its memory limit above which a worker is given nothing more and is replaced.
const PAUSE_AT: f64 = 0.8;
/// Up to which time, in nanoseconds, a thread of the program runs a task itself that it waits for: about what it takes to wake another.
const INLINE_NS: f64 = 50_000.0;

/// Where tasks are run.
#[derive(Debug)]
pub(in crate::client) enum Backend {
    Threads(ThreadExecutor),
    Processes(ProcessExecutor),
}

/// See the [module](self).
pub(in crate::client) struct Core {
    this: Weak<Core>,
    pub(in crate::client) name: Arc<str>,
    pub(in crate::client) layout: Layout,
    backend: Backend,
    snapshot: Snapshot,
    /// What those who watch its futures are told.
    info: ClusterInfo,
    state: Mutex<State>,
    /// Rung when a worker has come or gone, or is ready.
    change: Condvar,
    /// How many jobs are in the queue, as far as can be said without the lock.
    num_ready: AtomicUsize,
    /// The same of the threads that are `called`.
    num_called: AtomicUsize,
    num_unsettled: AtomicUsize,
    num_held: AtomicUsize,
    num_bytes_held: AtomicUsize,
    room: Room,
    shared: Table,
    is_closed: AtomicBool,
    /// It is that of a worker process: jobs that can go on to the parent.
    gives_on: AtomicBool,
    /// How many tasks in its workers hand in tasks.
    num_asking: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    queue: Queue,
    members: Vec<Arc<Member>>,
    seats: Vec<Arc<Seat>>,
    idle: Vec<Arc<Wakeup>>,
    /// Those that were rung for and are not here yet.
    called: Vec<Arc<Wakeup>>,
    /// Threads that have found nothing and look on for a moment.
    num_looking: usize,
    num_threads: usize,
    last_id: u32,
}

/// What a thread of a worker has before it.
#[derive(Default)]
pub(in crate::client) struct Seat {
    /// Jobs that it is going to run, unless others do before.
    pub(in crate::client) local_queue: Mutex<VecDeque<Job>>,
    /// Around the tokens of its tasks; pulled when the cluster is closed.
    pub(in crate::client) token: CancelToken,
    /// It was called for what is in its local_queue, and has taken up nothing since.
    pub(in crate::client) has_slept: AtomicBool,
}

struct Wakeup {
    member: Arc<Member>,
    is_rung: AtomicBool,
    bell: Condvar,
}

/// Those who wait until there are fewer tasks.
#[derive(Default)]
struct Room {
    num_waiting: AtomicUsize,
    lock: Mutex<()>,
    bell: Condvar,
}

/// One worker.
pub(in crate::client) struct Member {
    pub(in crate::client) id: u32,
    pub(in crate::client) name: Arc<str>,
    /// Of its process among those of the cluster.
    pub(in crate::client) index: u32,
    num_threads: usize,
    /// Those at work and those looking for work.
    num_active: AtomicUsize,
    num_busy: AtomicUsize,
    pub(in crate::client) num_done: AtomicU64,
    num_restarts: AtomicU64,
    has_started: AtomicBool,
    is_paused: AtomicBool,
    is_leaving: AtomicBool,
    /// In [millionths].
    free: Mutex<BTreeMap<Arc<str>, i64>>,
    total: BTreeMap<Arc<str>, f64>,
}

impl Backlog for Core {
    fn num_pending(&self) -> usize {
        self.num_unsettled()
    }

    fn num_held(&self) -> (usize, usize) {
        self.held()
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Core")
            .field("name", &self.name)
            .field("num_workers", &state.members.len())
            .field("num_queued", &state.queue.len())
            .field("num_unsettled", &self.num_unsettled)
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}

impl Member {
    pub(in crate::client) fn can_take(&self, needs: &Needs) -> bool {
        let free = self.free.lock();
        let has = |(name, n): &(Arc<str>, f64)| free.get(name).is_some_and(|&free| free >= millionths(*n));
        self.is_named(needs) && needs.resources.iter().all(has)
    }

    /// Whether it could take the task, if it had nothing else to do.
    fn could_take(&self, needs: &Needs) -> bool {
        let has = |(name, n): &(Arc<str>, f64)| self.total.get(name).is_some_and(|total| total >= n);
        self.is_named(needs) && needs.resources.iter().all(has)
    }

    fn is_named(&self, needs: &Needs) -> bool {
        needs.workers.is_empty() || needs.workers.contains(&self.name)
    }

    pub(in crate::client) fn reserve(&self, needs: &Needs) {
        let mut free = self.free.lock();
        needs.resources.iter().for_each(|(name, n)| *free.entry(Arc::clone(name)).or_default() -= millionths(*n));
    }

    fn give_back(&self, needs: &Needs) {
        let mut free = self.free.lock();
        needs.resources.iter().for_each(|(name, n)| *free.entry(Arc::clone(name)).or_default() += millionths(*n));
    }

    pub(in crate::client) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    pub(in crate::client) fn state(&self) -> WorkerState {
        if self.is_leaving() {
            WorkerState::Leaving
        } else if !self.has_started.load(Ordering::Relaxed) {
            WorkerState::Starting
        } else if self.is_paused.load(Ordering::Relaxed) {
            WorkerState::Paused
        } else if self.num_busy.load(Ordering::Relaxed) > 0 {
            WorkerState::Busy
        } else {
            WorkerState::Idle
        }
    }

    pub(in crate::client) fn num_restarts(&self) -> u64 {
        self.num_restarts.load(Ordering::Relaxed)
    }

    pub(in crate::client) fn num_threads(&self) -> usize {
        self.num_threads
    }

    /// A thread that is one too many stops being one of the worker's.
    fn leaves_if_too_many(&self) -> bool {
        let leave = |active: usize| (active > self.num_threads).then(|| active - 1);
        self.num_active.fetch_update(Ordering::AcqRel, Ordering::Relaxed, leave).is_ok()
    }
}

/// Counts a thread of a worker as busy.
pub(in crate::client) struct Busy<'m>(&'m Member);

impl<'m> Busy<'m> {
    pub(in crate::client) fn new(member: &'m Member) -> Self {
        member.num_busy.fetch_add(1, Ordering::Relaxed);
        Busy(member)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.num_busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Wakeup {
    fn of(member: &Arc<Member>) -> Self {
        Wakeup { member: Arc::clone(member), is_rung: AtomicBool::new(false), bell: Condvar::new() }
    }
}

impl Core {
    pub(in crate::client) fn new(name: Arc<str>, layout: Layout, backend: Backend, snapshot: &Snapshot) -> Arc<Core> {
        let core = Arc::new_cyclic(|this: &Weak<Core>| {
            // So that what tasks compute runs on the same cluster.
            let scheduler =
                Scheduler::Custom(Arc::new(ClusterExecutor { core: Weak::clone(this), name: Arc::clone(&name) }));
            let backlog: Weak<dyn Backlog> = Weak::<Core>::clone(this);
            Core {
                this: Weak::clone(this),
                info: ClusterInfo::new(Arc::clone(&name), backlog),
                snapshot: snapshot.with_scheduler(scheduler),
                shared: Table::new(Arc::clone(&name)),
                name,
                layout,
                backend,
                state: Mutex::default(),
                change: Condvar::new(),
                num_ready: AtomicUsize::new(0),
                num_called: AtomicUsize::new(0),
                num_unsettled: AtomicUsize::new(0),
                num_held: AtomicUsize::new(0),
                num_bytes_held: AtomicUsize::new(0),
                room: Room::default(),
                is_closed: AtomicBool::new(false),
                gives_on: AtomicBool::new(false),
                num_asking: Arc::default(),
            }
        });
        let address = address_of(&core.snapshot.settings().scheduler);
        CLUSTERS.lock().extend(address.map(|address| (address, Arc::downgrade(&core))));
        core
    }

    pub(in crate::client) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// What its tasks and clients share.
    pub(in crate::client) fn shared(&self) -> &Table {
        &self.shared
    }

    pub(in crate::client) fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    pub(in crate::client) fn info(&self) -> &ClusterInfo {
        &self.info
    }

    /// Makes the configuration of the cluster's tasks that of this thread.
    pub(in crate::client) fn enter(&self) -> Entered {
        self.snapshot.enter()
    }

    /// Whether its settings ask for what only a run does for a task.
    pub(in crate::client) fn needs_runs(&self) -> bool {
        let settings = self.snapshot.settings();
        settings.check_portable || settings.stall_timeout.is_some() || settings.on_failure == OnFailure::KeepInputs
    }

    pub(in crate::client) fn scheduler(&self) -> Scheduler {
        self.snapshot.settings().scheduler.clone()
    }

    pub(in crate::client) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(in crate::client) fn closed_error(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the cluster {:?} was closed before the task had finished", self.name))
    }

    /// How many values there are, and how many bytes they take up.
    pub(in crate::client) fn held(&self) -> (usize, usize) {
        (self.num_held.load(Ordering::Relaxed), self.num_bytes_held.load(Ordering::Relaxed))
    }

    /// Puts jobs back that were taken and not done.
    pub(in crate::client) fn put_back(&self, jobs: impl IntoIterator<Item = Job>) {
        self.push_each(jobs, |queue, job| queue.push_front(job));
    }

    /// From now on jobs that can cross go on to the parent of this worker process.
    pub(in crate::client) fn gives_on(&self) {
        self.gives_on.store(true, Ordering::Relaxed);
    }

    pub(in crate::client) fn num_asking(&self) -> &Arc<AtomicUsize> {
        &self.num_asking
    }

    /// How what its workers send is encoded.
    pub(in crate::client) fn codec(&self) -> Codec {
        match &self.backend {
            Backend::Processes(executor) => executor.codec(),
            Backend::Threads(_) => Codec::default(),
        }
    }

    fn push_each(&self, jobs: impl IntoIterator<Item = Job>, push: impl Fn(&mut Queue, Job)) {
        let mut refused = Vec::new();
        let woken = {
            let mut state = self.state.lock();
            let State { queue, members, .. } = &mut *state;
            for job in jobs {
                let is_possible = |needs: &Needs| members.iter().any(|member| member.could_take(needs));
                if self.is_closed() || job.needs().is_some_and(|needs| !is_possible(needs)) {
                    refused.push(job);
                } else {
                    push(queue, job);
                }
            }
            self.num_ready.store(state.queue.len(), Ordering::Release);
            let num_wanted = match state.queue.has_constrained() {
                true => state.idle.len(),
                false => state.queue.len().saturating_sub(state.num_looking),
            };
            self.call(&mut state, num_wanted)
        };
        ring(woken);
        refused.iter().for_each(|job| self.refuse(job));
    }

    /// Settles a job that no worker is ever going to take.
    fn refuse(&self, job: &Job) {
        let outcome = match (self.is_closed(), job.needs()) {
            (true, _) | (_, None) => Outcome::Lost(self.closed_error()),
            (_, Some(needs)) => Outcome::Failed(self.impossible(needs)),
        };
        for promise in job.promises() {
            settle(promise, outcome.clone());
        }
    }

    fn impossible(&self, needs: &Needs) -> Error {
        let resources: Vec<String> = needs.resources.iter().map(|(name, n)| format!("{n} of {name:?}")).collect();
        let mut wanted = Vec::new();
        if !resources.is_empty() {
            wanted.push(resources.join(", "));
        }
        if !needs.workers.is_empty() {
            wanted.push(format!("to be one of {:?}", needs.workers));
        }
        Error::new(
            ErrorKind::NoWorker,
            format!("no worker of the cluster {:?} has what the task asks for: {}", self.name, wanted.join(", and ")),
        )
    }

    /// Settles jobs that no worker is left for.
    fn refuse_impossible(&self) {
        let jobs = {
            let mut state = self.state.lock();
            let State { queue, members, .. } = &mut *state;
            let jobs = queue.take_impossible(|needs| members.iter().any(|member| member.could_take(needs)));
            self.num_ready.store(state.queue.len(), Ordering::Release);
            jobs
        };
        jobs.iter().for_each(|job| self.refuse(job));
    }

    // ---- workers take them ----

    /// Puts jobs into the local_queue of a thread of a worker, which waits until there are some. False if it is to end.
    pub(in crate::client) fn take(&self, member: &Arc<Member>, seat: &Seat) -> bool {
        let is_process = matches!(self.backend, Backend::Processes(_));
        let mut has_looked = false;
        let mut state = self.state.lock();
        loop {
            let must_leave = self.is_closed() || member.is_leaving();
            if must_leave {
                member.num_active.fetch_sub(1, Ordering::AcqRel);
            }
            if must_leave || member.leaves_if_too_many() {
                // It may have been rung for a job that it does not take.
                let num_wanted = usize::from(state.queue.len() > 0);
                let woken = self.call(&mut state, num_wanted);
                drop(state);
                ring(woken);
                return false;
            }
            let num_threads = state.num_threads;
            let mut local_queue = VecDeque::new();
            match is_process {
                true => state.queue.take_for_process(member, num_threads, &mut local_queue),
                false => state.queue.take_for_thread(member, num_threads, &mut local_queue),
            }
            if local_queue.is_empty() && !is_process {
                steal(&state.seats, &mut local_queue);
            }
            if !local_queue.is_empty() {
                let has_more = !is_process && local_queue.len() > 1;
                *seat.local_queue.lock() = local_queue;
                self.num_ready.store(state.queue.len(), Ordering::Release);
                // There may be work for one more; who comes looks for others in turn.
                let num_wanted = usize::from(has_more || state.queue.len() > state.num_looking);
                let woken = self.call(&mut state, num_wanted);
                drop(state);
                ring(woken);
                return true;
            }
            if !has_looked {
                has_looked = true;
                state.num_looking += 1;
                drop(state);
                spin_until(|| self.num_ready.load(Ordering::Acquire) > 0 || self.is_closed());
                state = self.state.lock();
                state.num_looking -= 1;
                continue;
            }
            let bell = Arc::new(Wakeup::of(member));
            state.idle.push(Arc::clone(&bell));
            while !bell.is_rung.load(Ordering::Relaxed) {
                bell.bell.wait(&mut state);
            }
            state.called.retain(|other| !Arc::ptr_eq(other, &bell));
            self.num_called.store(state.called.len(), Ordering::Relaxed);
            seat.has_slept.store(true, Ordering::Relaxed);
            has_looked = false;
        }
    }

    pub(in crate::client) fn add_seat(&self, seat: &Arc<Seat>) {
        self.state.lock().seats.push(Arc::clone(seat));
    }

    pub(in crate::client) fn remove_seat(&self, seat: &Arc<Seat>) {
        self.state.lock().seats.retain(|other| !Arc::ptr_eq(other, seat));
        let left = std::mem::take(&mut *seat.local_queue.lock());
        self.put_back(left.into_iter().rev());
    }

    /// A worker is done with jobs that it was given for what it has.
    pub(in crate::client) fn release(&self, member: &Member, needs: Option<&Needs>) {
        let Some(needs) = needs else { return };
        member.give_back(needs);
        self.wake_all();
    }

    /// How long tasks of one function have taken.
    pub(in crate::client) fn learn(&self, function: usize, ns: f64) {
        self.state.lock().queue.learn(function, ns);
    }

    /// How many workers would be done in this time with what waits, at least one task each.
    pub(in crate::client) fn num_workers_wanted(&self, target: Duration) -> usize {
        const UNKNOWN_NS: f64 = 500_000_000.0;
        let num_threads = self.layout.threads_per_worker.get();
        let state = self.state.lock();
        let num_busy: usize = state.members.iter().map(|member| member.num_busy.load(Ordering::Relaxed)).sum();
        let num_queued =
            state.queue.len() + state.seats.iter().map(|seat| seat.local_queue.lock().len()).sum::<usize>();
        let by_time = state.queue.expected_ns(UNKNOWN_NS) / target.as_nanos().max(1) as f64;
        let num_tasks =
            num_busy as f64 + by_time.ceil().max(f64::from(u8::from(num_queued > 0))).min(num_queued as f64);
        (num_tasks / num_threads as f64).ceil() as usize
    }

    pub(in crate::client) fn wake_all(&self) {
        let woken = self.call(&mut self.state.lock(), usize::MAX);
        ring(woken);
    }

    /// Takes threads out of those that sleep, to be woken without the lock. Until then they have the word in writing: who is about to
    /// sleep looks for it under the lock.
    fn call(&self, state: &mut State, num_wanted: usize) -> Vec<Arc<Wakeup>> {
        let first = state.idle.len().saturating_sub(num_wanted);
        let woken = state.idle.split_off(first);
        if !woken.is_empty() {
            woken.iter().for_each(|bell| bell.is_rung.store(true, Ordering::Relaxed));
            state.called.extend(woken.iter().map(Arc::clone));
            self.num_called.store(state.called.len(), Ordering::Relaxed);
        }
        woken
    }

    // ---- the program's own threads ----

    /// Whether a thread may run the task by itself, as soon as its inputs are there.
    fn may_run_alone(&self, promise: &Arc<dyn AnyPromise>) -> bool {
        let record = promise.record();
        matches!(self.backend, Backend::Threads(_))
            && record.needs().is_none()
            && record.is_alone()
            && record.missing.load(Ordering::Acquire) == 0
    }

    // ---- workers come and go ----

    pub(in crate::client) fn members(&self) -> Vec<Arc<Member>> {
        self.state.lock().members.clone()
    }

    pub(in crate::client) fn num_workers(&self) -> usize {
        self.state.lock().members.iter().filter(|member| !member.is_leaving()).count()
    }

    /// Has so many workers from now on: starts new ones, or lets the youngest go when they have come to the end of what they run.
    ///
    /// # Errors
    /// [`NoWorker`](ErrorKind::NoWorker) if a thread cannot be started, or there would be more processes than the cluster has room for;
    /// [`Closed`](ErrorKind::Closed).
    pub(in crate::client) fn scale(self: &Arc<Self>, num_workers: usize) -> Result<()> {
        if self.is_closed() {
            return Err(self.closed_error());
        }
        if let Backend::Processes(_) = self.backend
            && num_workers > self.layout.max_workers
        {
            return Err(Error::new(
                ErrorKind::NoWorker,
                format!(
                    "the cluster {:?} has room for {} worker processes and cannot have {num_workers}; make it with `max_workers`",
                    self.name, self.layout.max_workers
                ),
            ));
        }
        loop {
            let new = {
                let mut state = self.state.lock();
                let staying: Vec<_> =
                    state.members.iter().filter(|member| !member.is_leaving()).map(Arc::clone).collect();
                if staying.len() >= num_workers {
                    staying[num_workers..].iter().for_each(|member| member.is_leaving.store(true, Ordering::Relaxed));
                    break;
                }
                // A process that is leaving still has its place.
                let index = (0..).find(|index| state.members.iter().all(|member| member.index != *index)).unwrap_or(0);
                if matches!(self.backend, Backend::Processes(_)) && index as usize >= self.layout.max_workers {
                    let num_members = state.members.len();
                    self.change.wait_while(&mut state, |state| state.members.len() >= num_members && !self.is_closed());
                    continue;
                }
                let member = self.layout.member(state.last_id, index);
                state.last_id += 1;
                state.members.push(Arc::clone(&member));
                member
            };
            for thread in 0..self.layout.threads_per_worker.get() {
                new.num_active.fetch_add(1, Ordering::AcqRel);
                if let Err(error) = self.start_thread(&new) {
                    new.num_active.fetch_sub(1, Ordering::AcqRel);
                    if thread == 0 {
                        self.state.lock().members.retain(|other| !Arc::ptr_eq(other, &new));
                        return Err(Error::new(
                            ErrorKind::NoWorker,
                            format!("there is no thread for a worker: {error}"),
                        ));
                    }
                    break;
                }
            }
        }
        self.wake_all();
        self.refuse_impossible();
        Ok(())
    }

    /// The thread counts as active already.
    fn start_thread(self: &Arc<Self>, member: &Arc<Member>) -> std::io::Result<()> {
        self.state.lock().num_threads += 1;
        let (core, worker) = (Arc::clone(self), Arc::clone(member));
        let thread = std::thread::Builder::new().name(format!("{}-{}", self.name, member.name));
        let started = thread.spawn(move || worker::serve(&core, &worker));
        if started.is_err() {
            self.state.lock().num_threads -= 1;
        }
        started.map(drop)
    }

    /// A thread of a worker has come to its end.
    pub(in crate::client) fn thread_has_ended(&self, member: &Arc<Member>) {
        let is_last = {
            let mut state = self.state.lock();
            state.num_threads -= 1;
            let is_last = (member.is_leaving() || self.is_closed()) && member.num_active.load(Ordering::Acquire) == 0;
            if is_last {
                state.members.retain(|other| !Arc::ptr_eq(other, member));
            }
            is_last
        };
        if is_last {
            if let Backend::Processes(executor) = &self.backend {
                executor.end_worker(member.index, false);
            }
            self.refuse_impossible();
        }
        self.change.notify_all();
    }

    pub(in crate::client) fn has_started(&self, member: &Member) {
        member.has_started.store(true, Ordering::Relaxed);
        // With the lock: who has just looked is waiting by now.
        drop(self.state.lock());
        self.change.notify_all();
    }

    /// Waits until so many workers are ready; false if the time is up before.
    pub(in crate::client) fn wait_for_workers(self: &Arc<Self>, num_workers: usize, deadline: Option<Instant>) -> bool {
        give_up_place(self, || {
            let mut state = self.state.lock();
            loop {
                let is_there =
                    |member: &&Arc<Member>| !matches!(member.state(), WorkerState::Starting | WorkerState::Leaving);
                if state.members.iter().filter(is_there).count() >= num_workers {
                    return true;
                }
                if self.is_closed() {
                    return false;
                }
                match deadline {
                    None => self.change.wait(&mut state),
                    Some(deadline) => {
                        if self.change.wait_until(&mut state, deadline).timed_out() {
                            return false;
                        }
                    }
                }
            }
        })
    }

    /// Replaces a worker: a process at once, what it runs is run again; threads go on with what they run.
    pub(in crate::client) fn restart(&self, member: &Member) {
        if let Backend::Processes(executor) = &self.backend {
            member.num_restarts.fetch_add(1, Ordering::Relaxed);
            executor.end_worker(member.index, true);
        }
    }

    /// Replaces the process of a worker that takes up more memory than it should, now that it runs nothing.
    pub(in crate::client) fn relieve(&self, member: &Member) {
        let (Backend::Processes(executor), Some(limit)) = (&self.backend, self.layout.memory_limit) else { return };
        let used = executor.worker_memory(member.index).unwrap_or(0);
        // Others of its threads may be at work.
        if used as f64 <= limit as f64 * PAUSE_AT || member.num_busy.load(Ordering::Relaxed) > 0 {
            return;
        }
        log::info!("{:?} of {:?} uses {used} of {limit} bytes and is replaced", member.name, self.name);
        member.is_paused.store(true, Ordering::Relaxed);
        member.num_restarts.fetch_add(1, Ordering::Relaxed);
        executor.end_worker(member.index, false);
        member.is_paused.store(false, Ordering::Relaxed);
    }

    // ---- the end ----

    /// Takes no more tasks, ends those that run as far as they let it, and waits for their end, but not for ever. Every promise of the
    /// cluster is settled or will be when its task comes to its end. Says whether nothing runs any more.
    pub(in crate::client) fn close(&self, deadline: Option<Instant>) -> bool {
        self.is_closed.store(true, Ordering::Release);
        let (jobs, tokens, woken) = {
            let mut state = self.state.lock();
            let mut jobs = state.queue.drain();
            jobs.extend(state.seats.iter().flat_map(|seat| std::mem::take(&mut *seat.local_queue.lock())));
            self.num_ready.store(0, Ordering::Release);
            let tokens: Vec<CancelToken> = state.seats.iter().map(|seat| seat.token.clone()).collect();
            let woken = self.call(&mut state, usize::MAX);
            (jobs, tokens, woken)
        };
        tokens.iter().for_each(CancelToken::cancel);
        ring(woken);
        self.shared.close();
        jobs.iter().for_each(|job| self.refuse(job));
        drop(self.room.lock.lock());
        self.room.bell.notify_all();
        let here = usize::from(CurrentWorker::of_this_thread().is_some_and(|place| std::ptr::eq(&*place.core, self)));
        let mut state = self.state.lock();
        while state.num_threads > here {
            match deadline {
                None => self.change.wait(&mut state),
                Some(deadline) => {
                    if self.change.wait_until(&mut state, deadline).timed_out() {
                        return state.num_threads <= here;
                    }
                }
            }
        }
        drop(state);
        // Futures may be there for long yet, and have this with them.
        if let Backend::Processes(executor) = &self.backend {
            executor.close();
        }
        true
    }
}

impl Owner for Core {
    fn admit(&self, num_tasks: usize) -> Result<()> {
        if self.is_closed() {
            return Err(self.closed_error());
        }
        let max = self.layout.max_pending;
        if self.num_unsettled.fetch_add(num_tasks, Ordering::AcqRel) < max {
            return Ok(());
        }
        // A task must not wait for the end of tasks that may wait for it, nor who has yet to tell of the end of others.
        if calls_back() || CurrentWorker::of_this_thread().is_some_and(|place| place.is_in(self)) {
            return Ok(());
        }
        if self.layout.when_full == WhenFull::Error {
            self.settled(num_tasks);
            return Err(Error::new(
                ErrorKind::Full,
                format!(
                    "{max} tasks wait already in the cluster {:?}; let some finish, or raise `max_pending`",
                    self.name
                ),
            ));
        }
        self.num_unsettled.fetch_sub(num_tasks, Ordering::AcqRel);
        self.room.num_waiting.fetch_add(1, Ordering::SeqCst);
        give_up_place(self, || {
            let mut lock = self.room.lock.lock();
            // SeqCst pairs with `has_settled`: either that sees who waits, or the count is seen here.
            while self.num_unsettled.load(Ordering::SeqCst) >= max && !self.is_closed() {
                self.room.bell.wait(&mut lock);
            }
        });
        self.room.num_waiting.fetch_sub(1, Ordering::SeqCst);
        self.num_unsettled.fetch_add(num_tasks, Ordering::AcqRel);
        match self.is_closed() {
            true => {
                self.settled(num_tasks);
                Err(self.closed_error())
            }
            false => Ok(()),
        }
    }

    fn admit_always(&self, num_tasks: usize) {
        self.num_unsettled.fetch_add(num_tasks, Ordering::AcqRel);
    }

    fn settled(&self, num_tasks: usize) {
        self.num_unsettled.fetch_sub(num_tasks, Ordering::SeqCst);
        if self.room.num_waiting.load(Ordering::SeqCst) > 0 {
            // With the lock: who has just found no room is waiting by now.
            drop(self.room.lock.lock());
            self.room.bell.notify_all();
        }
    }

    fn num_unsettled(&self) -> usize {
        self.num_unsettled.load(Ordering::Relaxed)
    }

    fn value_stored(&self, num_bytes: usize) {
        self.num_held.fetch_add(1, Ordering::Relaxed);
        self.num_bytes_held.fetch_add(num_bytes, Ordering::Relaxed);
    }

    fn value_dropped(&self, num_bytes: usize) {
        self.num_held.fetch_sub(1, Ordering::Relaxed);
        self.num_bytes_held.fetch_sub(num_bytes, Ordering::Relaxed);
    }

    fn submit_all(&self, jobs: Vec<Job>) {
        let jobs = if self.gives_on.load(Ordering::Relaxed) { nested::give_on(jobs) } else { jobs };
        if !jobs.is_empty() {
            self.push_each(jobs, |queue, job| queue.push(job));
        }
    }

    fn submit(&self, job: Job) {
        if self.gives_on.load(Ordering::Relaxed) {
            return self.submit_all(vec![job]);
        }
        self.push_each([job], |queue, job| queue.push(job));
    }

    fn requeue(&self, job: Job) {
        self.put_back([job]);
    }

    fn run_inline(&self, promise: &Arc<dyn AnyPromise>) {
        if self.num_called.load(Ordering::Relaxed) == 0 || !self.may_run_alone(promise) || has_watchers() {
            return;
        }
        let function = promise.record().function();
        let seat = Arc::new(Seat::default());
        let Some(core) = self.this.upgrade() else { return };
        let bell = {
            let mut state = self.state.lock();
            if state.queue.mean_ns(function).is_none_or(|ns| ns > INLINE_NS) {
                return;
            }
            let Some(bell) = state.called.pop() else { return };
            bell.is_rung.store(false, Ordering::Relaxed);
            self.num_called.store(state.called.len(), Ordering::Relaxed);
            state.queue.remove_last(promise);
            self.num_ready.store(state.queue.len(), Ordering::Release);
            // Who closes the cluster waits for this thread as for the others.
            state.num_threads += 1;
            state.seats.push(Arc::clone(&seat));
            bell
        };
        let run_inline = InlineRun { core: &core, bell, seat, function, begin: Instant::now() };
        CurrentWorker::occupy(&core, &run_inline.bell.member, &run_inline.seat);
        worker::run_one(&core, &run_inline.bell.member, &run_inline.seat, promise);
    }

    fn wait_for(&self, promise: Arc<dyn AnyPromise>) -> bool {
        wait::settled(&[promise], WaitFor::All, None)
    }
}

/// The clusters that there are, by the addresses of their executors.
static CLUSTERS: Mutex<Vec<(usize, Weak<Core>)>> = Mutex::new(Vec::new());

fn address_of(scheduler: &Scheduler) -> Option<usize> {
    match scheduler {
        Scheduler::Custom(executor) => Some(Arc::as_ptr(executor).cast::<()>().addr()),
        _ => None,
    }
}

/// The cluster with this [number](Table::number), if it is one of this process.
pub(in crate::client) fn cluster_numbered(number: u64) -> Option<Arc<Core>> {
    let clusters: Vec<_> = CLUSTERS.lock().iter().filter_map(|(_, core)| core.upgrade()).collect();
    clusters.into_iter().find(|core| core.shared.number() == number)
}

/// The cluster that a scheduler is, if it is one.
pub(in crate::client) fn cluster_of(scheduler: &Scheduler) -> Option<Arc<Core>> {
    let address = address_of(scheduler)?;
    let clusters = CLUSTERS.lock();
    clusters.iter().find(|(other, _)| *other == address)?.1.upgrade()
}

impl Drop for Core {
    fn drop(&mut self) {
        let address = address_of(&self.snapshot.settings().scheduler);
        CLUSTERS.lock().retain(|(other, _)| Some(*other) != address);
    }
}

/// So much of a resource. Whole numbers can be taken and given back in any order: one less nine tenths is a
/// tenth, and one is there again after them.
fn millionths(amount: f64) -> i64 {
    (amount.max(0.0) * 1e6).round() as i64
}

impl Layout {
    fn member(&self, id: u32, index: u32) -> Arc<Member> {
        let resources: BTreeMap<Arc<str>, f64> = self.resources.iter().cloned().collect();
        Arc::new(Member {
            id,
            name: format!("worker-{id}").into(),
            index,
            num_threads: self.threads_per_worker.get(),
            num_active: AtomicUsize::new(0),
            num_busy: AtomicUsize::new(0),
            num_done: AtomicU64::new(0),
            num_restarts: AtomicU64::new(0),
            has_started: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            free: Mutex::new(resources.iter().map(|(name, n)| (Arc::clone(name), millionths(*n))).collect()),
            total: resources,
        })
    }
}

/// Takes half of what another thread has before it. A job that asks for a certain worker is alone in its local_queue, and stays there.
fn steal(seats: &[Arc<Seat>], own: &mut VecDeque<Job>) {
    for seat in seats {
        let mut local_queue = seat.local_queue.lock();
        if local_queue.back().is_some_and(|job| job.needs().is_none()) {
            let kept = local_queue.len() / 2;
            own.extend(local_queue.drain(kept..));
            return;
        }
    }
}

fn ring(woken: Vec<Arc<Wakeup>>) {
    for bell in woken {
        bell.bell.notify_one();
    }
}

/// A thread of the program in the place of a worker's, until it is dropped.
struct InlineRun<'c> {
    core: &'c Core,
    bell: Arc<Wakeup>,
    seat: Arc<Seat>,
    function: usize,
    begin: Instant,
}

impl Drop for InlineRun<'_> {
    fn drop(&mut self) {
        let ns = self.begin.elapsed().as_nanos() as f64;
        CurrentWorker::leave();
        let core = self.core;
        let woken = {
            let mut state = core.state.lock();
            state.queue.learn(self.function, ns);
            state.num_threads -= 1;
            state.seats.retain(|other| !Arc::ptr_eq(other, &self.seat));
            state.idle.push(Arc::clone(&self.bell));
            let must_look = core.is_closed() || self.bell.member.is_leaving() || state.queue.len() > state.num_looking;
            core.call(&mut state, usize::from(must_look))
        };
        ring(woken);
        if core.is_closed() {
            core.change.notify_all();
        }
    }
}

// ---- where a thread is ----

/// Where a thread works that belongs to a cluster.
#[derive(Clone)]
pub(in crate::client) struct CurrentWorker {
    core: Arc<Core>,
    member: Arc<Member>,
    seat: Arc<Seat>,
}

thread_local! {
    static PLACE: RefCell<Option<CurrentWorker>> = const { RefCell::new(None) };
}

impl CurrentWorker {
    pub(in crate::client) fn of_this_thread() -> Option<CurrentWorker> {
        PLACE.try_with(|place| place.borrow().clone()).ok().flatten()
    }

    /// Makes it that of this thread, which belongs to the worker until it ends.
    pub(in crate::client) fn occupy(core: &Arc<Core>, member: &Arc<Member>, seat: &Arc<Seat>) {
        let own = CurrentWorker { core: Arc::clone(core), member: Arc::clone(member), seat: Arc::clone(seat) };
        PLACE.with(|place| *place.borrow_mut() = Some(own));
    }

    /// Before the thread ends.
    pub(in crate::client) fn leave() {
        let _place = PLACE.with(RefCell::take);
    }

    pub(in crate::client) fn is_in(&self, core: &Core) -> bool {
        std::ptr::eq(&*self.core, core)
    }

    /// Runs a task on this thread that nobody has begun. False if that cannot be.
    pub(in crate::client) fn run_here(&self, promise: &Arc<dyn AnyPromise>) -> bool {
        let may_run = std::ptr::addr_eq(Arc::as_ptr(promise.record().owner()), Arc::as_ptr(&self.core))
            && self.core.may_run_alone(promise);
        may_run && worker::run_one(&self.core, &self.member, &self.seat, promise)
    }

    /// Lets another thread work in the place of this one, which waits.
    pub(in crate::client) fn give_up<R>(&self, wait: impl FnOnce() -> R) -> R {
        let _away = self.leave_for_a_while();
        wait()
    }

    /// Lets another thread work in the place of its own, until this is dropped.
    pub(in crate::client) fn leave_for_a_while(&self) -> Away {
        let before = self.member.num_active.fetch_sub(1, Ordering::AcqRel);
        let away = Away(Arc::clone(&self.member));
        if before <= self.member.num_threads && !self.core.is_closed() {
            self.member.num_active.fetch_add(1, Ordering::AcqRel);
            // Without a thread there is one less until this one goes on.
            if self.core.start_thread(&self.member).is_err() {
                self.member.num_active.fetch_sub(1, Ordering::AcqRel);
            }
        }
        away
    }
}

/// Blocks in `wait`; if this thread belongs to the cluster, another thread works in its place meanwhile.
pub(in crate::client) fn give_up_place<R>(core: &Core, wait: impl FnOnce() -> R) -> R {
    match CurrentWorker::of_this_thread().filter(|place| place.is_in(core)) {
        Some(place) => place.give_up(wait),
        None => wait(),
    }
}

/// That a thread waits, and another has its place.
#[must_use = "the place is given back when this is dropped"]
pub(in crate::client) struct Away(Arc<Member>);

impl Drop for Away {
    fn drop(&mut self) {
        self.0.num_active.fetch_add(1, Ordering::AcqRel);
    }
}

/// Runs graphs on the workers of a cluster.
struct ClusterExecutor {
    core: Weak<Core>,
    name: Arc<str>,
}

impl Executor for ClusterExecutor {
    fn name(&self) -> &str {
        &self.name
    }

    fn execute(&self, run: &Arc<Run>) {
        let core = self.core.upgrade().filter(|core| !core.is_closed());
        let Some(core) = core else {
            return run.stop(Error::new(ErrorKind::Closed, format!("the cluster {:?} is closed", self.name)));
        };
        match &core.backend {
            Backend::Threads(executor) => executor.execute(run),
            Backend::Processes(executor) => executor.execute_on(run, None, Some(ClusterService::of(&core, None))),
        }
    }
}
