//! The pool: the state that the slots of an executor share. It has the settings, the worker
//! processes, the runs that have tasks, and the sleeping slots.
//!
//! A slot sleeps on a condition variable of its own, under the lock of the pool, and not on a
//! channel: the slot that fell asleep last is woken first, and a slot is only woken while it
//! sleeps.
//!
//! # What is always true
//!
//! 1. A slot that found nothing to do sleeps only if the version is still the one that it read
//!    before it looked. Each change that a slot may wait for raises the version.
//! 2. Exactly one slot for each thread of a worker takes the worker's tasks. A slot that gives its
//!    worker to a spare slot takes no worker's tasks from then on.

mod workers;

use super::at_exit;
use super::ends::EndLog;
use super::process::{Channel, WorkerProcess, next_origin};
use super::rights::KnownRights;
use super::settings::ProcessSettings;
use crate::engine::Run;
use crate::error::{Error, ErrorKind};
use crate::executor::remote::batch::Batch;
use crate::executor::remote::schedule::{Inheritance, Schedule};
use crate::graph::crossing::TaskCode;
use crate::per_process::spawn;
use crate::portable::budget::Budget;
use crate::portable::code::CodeDescriptor;
use crate::portable::region::Memory;
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often in a row a worker may fail to start before the runs that wait for it fail.
const START_ATTEMPTS: u32 = 5;
/// The wait after the first failure. Each further failure doubles it, up to about a second.
const START_BACKOFF: Duration = Duration::from_millis(10);
const MAX_DOUBLINGS: u32 = 7;

/// In place of a worker's number: no worker.
const NO_WORKER: u32 = u32::MAX;

/// See the [module](self).
pub(super) struct Pool {
    settings: ProcessSettings,
    /// Serves the slot with this index until the pool is closed.
    serve_slot: fn(Arc<Pool>, usize),
    /// One for each thread of each worker. Spare slots are not counted.
    num_slots: usize,
    pub(super) memory: Memory,
    origin: u32,
    /// How long calls of each code took on average, by the address of the code. Only from runs that
    /// were pinned to one worker.
    means: Mutex<HashMap<usize, f64>>,
    state: Mutex<PoolState>,
    /// Spare slots come last.
    slots: Box<[SlotState]>,
    /// One for each worker process that there may be, used by the slots of its threads.
    entries: Box<[Mutex<WorkerEntry>]>,
    /// One for each worker. Spare processes have none of their own.
    ends: Box<[EndLog]>,
    rights: KnownRights,
    /// This process ends, so workers are not kept for the next tasks.
    keeps_no_workers: AtomicBool,
}

/// The state of a slot that other threads read.
#[derive(Debug)]
struct SlotState {
    /// The worker whose tasks the slot takes, or [`NO_WORKER`]. At first this is the worker of its
    /// entry, and no worker for a spare slot.
    worker: AtomicU32,
    /// The worker that the slot gave to a spare slot, until its task has ended.
    given_away: AtomicU32,
    /// Notified when the slot was removed from the sleeping slots.
    wakeup: Condvar,
    /// The slot has a batch or does something else that takes time. A slot that is neither busy nor
    /// asleep is about to look for tasks.
    is_busy: AtomicBool,
}

struct PoolState {
    /// Grows with every change: there are new tasks, a worker has ended, the pool is closed.
    version: u64,
    /// The slots that sleep. The last one is woken first: its caches are warm, and the first ones
    /// reach their idle timeout.
    sleeping: Vec<usize>,
    schedules: Vec<Arc<Schedule>>,
    /// The first schedule to look at. It changes each time, so that no run waits for another.
    first: usize,
    threads: Vec<JoinHandle<()>>,
    /// The threads of slots that were spare at first.
    spare_threads: Vec<JoinHandle<()>>,
    num_failed_starts: u32,
    is_closed: bool,
}

/// One worker process.
#[derive(Default)]
struct WorkerEntry {
    process: Option<Arc<WorkerProcess>>,
    /// Channels that their slots have not fetched yet.
    channels: Vec<Option<Channel>>,
    /// How often in a row the process could not be started.
    num_failed_starts: u32,
}

/// Why an idle slot wakes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    Changed,
    /// The time is up.
    Idle,
    Closed,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `try_lock`: a slot holds the lock of an entry while it starts a worker.
        let workers: Vec<_> = self.entries.iter().map(|entry| entry.try_lock().map(|it| it.process.clone())).collect();
        let state = self.state.lock();
        f.debug_struct("Pool")
            .field("num_slots", &self.num_slots)
            .field("slots", &self.slots)
            .field("sleeping", &state.sleeping)
            .field("workers", &workers)
            .field("schedules", &state.schedules)
            .field("is_closed", &state.is_closed)
            .finish_non_exhaustive()
    }
}

/// A worker's number, if it is one.
fn worker(number: &AtomicU32) -> Option<u32> {
    // Relaxed: it changes under the lock of the pool. A thread that reads it without the lock reads
    // it again when the version has changed.
    Some(number.load(Ordering::Relaxed)).filter(|&worker| worker != NO_WORKER)
}

impl SlotState {
    fn new(worker: u32) -> Self {
        SlotState {
            worker: AtomicU32::new(worker),
            given_away: AtomicU32::new(NO_WORKER),
            wakeup: Condvar::new(),
            is_busy: AtomicBool::new(false),
        }
    }

    fn worker(&self) -> Option<u32> {
        worker(&self.worker)
    }

    /// Whether the slot will look for tasks soon or sleeps.
    fn is_free(&self) -> bool {
        self.worker().is_some() && !self.is_busy.load(SeqCst)
    }
}

impl Pool {
    pub(super) fn new(
        settings: ProcessSettings,
        num_workers: NonZeroUsize,
        num_spares: usize,
        serve_slot: fn(Arc<Pool>, usize),
    ) -> Arc<Pool> {
        let num_threads = settings.threads_per_worker.get();
        let num_slots = num_workers.get() * num_threads;
        let num_entries = num_workers.get() + num_spares;
        // A worker that some of its threads are about to leave may exist beside its successor, at
        // most one for each slot.
        let budget = Budget::for_members(shared_memory_limit(&settings), num_entries + num_slots);
        let origin = next_origin();
        let pool = Arc::new(Pool {
            serve_slot,
            num_slots,
            memory: Memory::within(origin, budget),
            origin,
            means: Mutex::default(),
            state: Mutex::new(PoolState {
                version: 0,
                sleeping: Vec::new(),
                schedules: Vec::new(),
                first: 0,
                threads: Vec::new(),
                spare_threads: Vec::new(),
                num_failed_starts: 0,
                is_closed: false,
            }),
            slots: (0..num_entries * num_threads)
                .map(|slot| if slot < num_slots { (slot / num_threads) as u32 } else { NO_WORKER })
                .map(SlotState::new)
                .collect(),
            entries: (0..num_entries).map(|_| Mutex::default()).collect(),
            ends: (0..num_workers.get()).map(|_| EndLog::default()).collect(),
            rights: KnownRights::default(),
            keeps_no_workers: AtomicBool::new(false),
            settings,
        });
        at_exit::watch(&pool);
        pool
    }

    pub(super) fn settings(&self) -> &ProcessSettings {
        &self.settings
    }

    fn num_threads(&self) -> usize {
        self.settings.threads_per_worker.get()
    }

    /// How many slots may take the tasks of a run.
    pub(super) fn num_slots(&self, pin: Option<u32>) -> usize {
        if pin.is_some() { self.num_threads() } else { self.num_slots }
    }

    /// Distinguishes the pool's memory from that of others.
    pub(super) fn origin(&self) -> u32 {
        self.origin
    }

    /// How long a call of this code takes on average, or NaN if that is not known.
    pub(super) fn mean_ns(&self, code: &'static CodeDescriptor<TaskCode>) -> f64 {
        self.means.lock().get(&std::ptr::from_ref(code).addr()).copied().unwrap_or(f64::NAN)
    }

    /// Numbers for the state that workers inherit when they start: the environment and the working
    /// directory of this process, as far as the settings do not name others, and the rights of this
    /// thread.
    pub(super) fn inheritance(&self, run: &Run) -> Inheritance {
        let settings = &self.settings;
        let is_overridden = |name: &OsStr| name.to_str().is_some_and(|name| settings.environment.contains_key(name));
        let environment = run.task_context().environment(&is_overridden);
        let folder = match &settings.working_directory {
            Some(folder) if folder.is_absolute() => None,
            _ => std::env::current_dir().ok(),
        };
        let mut hasher = DefaultHasher::new();
        (environment, folder).hash(&mut hasher);
        Inheritance { state: hasher.finish(), rights: self.rights.number_here() }
    }

    // ---- runs ----

    /// Offers a run's tasks to the slots.
    pub(super) fn add(self: &Arc<Self>, schedule: &Arc<Schedule>) {
        let mut state = self.state.lock();
        state.schedules.push(Arc::clone(schedule));
        state.num_failed_starts = 0;
        if let Some(worker) = schedule.settings().pin {
            self.start_slots(&mut state, (worker as usize + 1) * self.num_threads());
            let has_slot = state.threads.len() > worker as usize * self.num_threads();
            drop(state);
            if !has_slot {
                let error = Error::new(ErrorKind::NoWorker, format!("there is no thread for worker {worker}"));
                schedule.run().stop(error);
            }
            return self.wake_slots_for(worker);
        }
        drop(state);
        self.wake_for_tasks(schedule.num_ready());
    }

    fn start_slots(self: &Arc<Self>, state: &mut PoolState, num_wanted: usize) {
        while state.threads.len() < num_wanted.min(self.num_slots) && !state.is_closed {
            let index = state.threads.len();
            match self.start_slot(index) {
                Ok(thread) => state.threads.push(thread),
                Err(error) if index == 0 => {
                    let error = Error::new(ErrorKind::NoWorker, format!("there is no thread for a worker: {error}"));
                    state.schedules.iter().for_each(|schedule| schedule.run().stop(error.clone()));
                    return;
                }
                // The slots that have a thread do all the work.
                Err(_) => return,
            }
        }
    }

    fn start_slot(self: &Arc<Self>, index: usize) -> std::io::Result<JoinHandle<()>> {
        let pool = Arc::clone(self);
        let thread = std::thread::Builder::new().name(format!("sprang-slot-{index}"));
        spawn(thread, move || (pool.serve_slot)(Arc::clone(&pool), index))
    }

    pub(super) fn remove(&self, schedule: &Arc<Schedule>) {
        self.state.lock().schedules.retain(|other| !Arc::ptr_eq(other, schedule));
        if schedule.settings().pin.is_some() {
            let mut means = self.means.lock();
            means.extend(schedule.means().map(|(code, mean)| (std::ptr::from_ref(code).addr(), mean)));
        }
    }

    pub(super) fn is_active(&self, run: u64) -> bool {
        self.state.lock().schedules.iter().any(|schedule| schedule.number == run)
    }

    /// Fails the present runs.
    pub(super) fn stop_runs(&self, error: &Error) {
        let schedules = self.state.lock().schedules.clone();
        schedules.iter().for_each(|schedule| schedule.run().stop(error.clone()));
    }

    // ---- waking slots ----

    /// Wakes slots for the ready tasks of a run.
    pub(super) fn wake_for(self: &Arc<Self>, schedule: &Schedule) {
        match schedule.settings().pin {
            Some(worker) if schedule.num_ready() > 0 => self.wake_slots_for(worker),
            Some(_) => {}
            None => self.wake_for_tasks(schedule.num_ready()),
        }
    }

    /// Wakes or starts as many slots as `num_ready` tasks can keep busy.
    pub(super) fn wake_for_tasks(self: &Arc<Self>, num_ready: usize) {
        if num_ready == 0 {
            return;
        }
        let mut state = self.state.lock();
        state.version += 1;
        let (num_threads, num_spares) = (state.threads.len(), state.spare_threads.len());
        // SeqCst pairs with `set_busy`: a thread that learns of the end of a run finds the slot
        // that brought its last result free.
        let started = self.slots[..num_threads].iter().chain(&self.slots[self.num_slots..][..num_spares]);
        let num_free = started.filter(|slot| slot.is_free()).count();
        let takes_tasks = |slot: &usize| self.slots[*slot].worker().is_some();
        let num_sleeping = state.sleeping.iter().filter(|slot| takes_tasks(slot)).count();
        // These slots will find that the version has changed.
        let num_looking = num_free.saturating_sub(num_sleeping);
        self.start_slots(&mut state, num_threads + num_ready.saturating_sub(num_free));
        // The last ones are woken.
        let mut num_left = num_sleeping.saturating_sub(num_ready.saturating_sub(num_looking));
        let is_woken = |slot: &mut usize| {
            takes_tasks(slot) && {
                let stays = num_left > 0;
                num_left -= usize::from(stays);
                !stays
            }
        };
        let woken: Vec<usize> = state.sleeping.extract_if(.., is_woken).collect();
        drop(state);
        self.notify(&woken);
    }

    pub(super) fn wake_all(&self) {
        self.wake_where(|_| true);
    }

    /// Wakes the slots of a process. Other slots have nothing to do with its end, and might start a
    /// process of their own.
    pub(super) fn wake_slots_of(&self, process: u32) {
        self.wake_where(|slot| slot / self.num_threads() == process as usize);
    }

    /// Wakes the slots that take the tasks of a worker.
    fn wake_slots_for(&self, worker: u32) {
        self.wake_where(|slot| self.slots[slot].worker() == Some(worker));
    }

    fn wake_where(&self, is_woken: impl Fn(usize) -> bool) {
        let mut state = self.state.lock();
        state.version += 1;
        let woken: Vec<usize> = state.sleeping.extract_if(.., |slot| is_woken(*slot)).collect();
        drop(state);
        self.notify(&woken);
    }

    fn notify(&self, slots: &[usize]) {
        slots.iter().rev().for_each(|&slot| {
            self.slots[slot].wakeup.notify_one();
        });
    }

    // ---- for slots ----

    /// The present version. A slot reads it before it looks for tasks, and gives it to
    /// [`Pool::wait`] if it found none.
    pub(super) fn version(&self) -> u64 {
        self.state.lock().version
    }

    /// Sets whether a slot is busy. A slot that is not busy will look for tasks soon.
    pub(super) fn set_busy(&self, slot: usize, is_busy: bool) {
        if !is_busy {
            self.slots[slot].given_away.store(NO_WORKER, Ordering::Relaxed);
        }
        self.slots[slot].is_busy.store(is_busy, SeqCst);
    }

    /// Gives the worker of a slot whose task waits to a spare slot, which takes the worker's tasks
    /// from now on. False if no spare slot is free.
    pub(super) fn give_away_worker(self: &Arc<Self>, slot: usize) -> bool {
        let mut state = self.state.lock();
        let Some(worker) = self.slots[slot].worker() else { return true };
        let num_spares = state.spare_threads.len();
        let mut started = (0..state.threads.len()).chain(self.num_slots..self.num_slots + num_spares);
        let is_unused = |&slot: &usize| {
            let slot = &self.slots[slot];
            slot.worker().is_none() && !slot.is_busy.load(SeqCst)
        };
        let spare = match started.find(is_unused) {
            Some(spare) => spare,
            None if self.num_slots + num_spares < self.slots.len() && !state.is_closed => {
                match self.start_slot(self.num_slots + num_spares) {
                    Ok(thread) => state.spare_threads.push(thread),
                    Err(_) => return false,
                }
                self.num_slots + num_spares
            }
            None => return false,
        };
        self.slots[spare].worker.store(worker, Ordering::Relaxed);
        self.slots[slot].worker.store(NO_WORKER, Ordering::Relaxed);
        self.slots[slot].given_away.store(worker, Ordering::Relaxed);
        state.version += 1;
        let woken: Vec<usize> = state.sleeping.extract_if(.., |slot| *slot == spare).collect();
        drop(state);
        self.notify(&woken);
        true
    }

    /// Whether a slot takes the tasks of no worker.
    pub(super) fn is_spare(&self, slot: usize) -> bool {
        self.slots[slot].worker().is_none()
    }

    /// Waits until the version is not `seen` any more, for no longer than `time`.
    pub(super) fn wait(&self, slot: usize, seen: u64, time: Option<Duration>) -> Woken {
        let deadline = time.and_then(|time| Instant::now().checked_add(time));
        let mut state = self.state.lock();
        self.set_busy(slot, false);
        if !state.is_closed && state.version == seen {
            state.sleeping.push(slot);
            while state.sleeping.contains(&slot) {
                let wakeup = &self.slots[slot].wakeup;
                let Some(deadline) = deadline else {
                    wakeup.wait(&mut state);
                    continue;
                };
                if wakeup.wait_until(&mut state, deadline).timed_out() && state.sleeping.contains(&slot) {
                    state.sleeping.retain(|&other| other != slot);
                    return Woken::Idle;
                }
            }
        }
        if state.is_closed { Woken::Closed } else { Woken::Changed }
    }

    /// The number of ready tasks that any worker may run, in all runs.
    pub(super) fn num_ready(&self) -> usize {
        let state = self.state.lock();
        let unpinned = state.schedules.iter().filter(|schedule| schedule.settings().pin.is_none());
        unpinned.map(|schedule| schedule.num_ready()).sum()
    }

    /// A batch for a slot that has `num_under_way` batches, which will take `busy_ns`. With an
    /// `inheritance`, only from runs that a worker with this inheritance may run.
    pub(super) fn take_batch(
        &self,
        slot: usize,
        num_under_way: usize,
        busy_ns: Option<f64>,
        inheritance: Option<Inheritance>,
    ) -> Option<Batch> {
        let worker = self.slots[slot].worker()?;
        let schedules: Vec<Arc<Schedule>> = {
            let mut state = self.state.lock();
            let num_schedules = state.schedules.len();
            state.first = if num_schedules == 0 { 0 } else { (state.first + 1) % num_schedules };
            let first = state.first;
            (0..num_schedules)
                .map(|i| &state.schedules[(first + i) % num_schedules])
                .filter(|schedule| schedule.num_ready() > 0 && schedule.is_for(worker))
                .filter(|schedule| inheritance.is_none_or(|number| number == schedule.settings().inheritance))
                .map(Arc::clone)
                .collect()
        };
        if num_under_way > 0 && self.has_enough_free_slots(&schedules) {
            return None;
        }
        schedules.iter().find_map(|schedule| {
            schedule.run().enter(|worker| schedule.take_batch(worker, num_under_way, busy_ns)).flatten()
        })
    }

    /// Whether free slots can take all ready tasks of these runs. Then no task should wait behind a
    /// batch: it would wait for ever if the batch waits for the task. Past times say little about a
    /// task that waits for others.
    fn has_enough_free_slots(&self, schedules: &[Arc<Schedule>]) -> bool {
        let can_take =
            |slot: &SlotState| slot.worker().is_some_and(|worker| schedules.iter().any(|it| it.is_for(worker)));
        let num_free = self.slots.iter().filter(|slot| slot.is_free() && can_take(slot)).count();
        num_free > 0 && schedules.iter().map(|schedule| schedule.num_ready()).sum::<usize>() <= num_free
    }

    // ---- worker processes ----

    /// Connects a slot to its thread of a worker, which is started if necessary.
    ///
    /// A worker with another inheritance is replaced. It ends when its other threads have finished
    /// their tasks.
    pub(super) fn connect(
        self: &Arc<Self>,
        slot: usize,
        inheritance: Inheritance,
    ) -> Result<(Arc<WorkerProcess>, usize, Channel), Error> {
        let (number, thread) = (slot / self.num_threads(), slot % self.num_threads());
        let mut entry = self.entries[number].lock();
        let fits = |process: &&Arc<WorkerProcess>| {
            !process.has_ended() && !process.is_retired() && process.inheritance() == inheritance
        };
        if let Some(process) = entry.process.as_ref().filter(fits).map(Arc::clone)
            && let Some(channel) = entry.channels[thread].take()
        {
            return Ok((process, thread, channel));
        }
        if let Some(process) = entry.process.take() {
            process.retire();
            self.count_end(&process, false);
            entry.channels.drain(..).flatten().for_each(|_| process.leave());
        }
        let on_end = {
            let pool = Arc::downgrade(self);
            Box::new(move || {
                if let Some(pool) = pool.upgrade() {
                    pool.wake_slots_of(number as u32);
                }
            })
        };
        let (rights, budget) = (self.rights.get(inheritance.rights), self.memory.budget());
        let started = WorkerProcess::start(number as u32, inheritance, &rights, &self.settings, budget, on_end);
        let (process, channels) = started.inspect_err(|_| entry.num_failed_starts += 1)?;
        self.slots[slot].worker().inspect(|&worker| self.ends[worker as usize].started());
        entry.num_failed_starts = 0;
        entry.channels = channels.into_iter().map(Some).collect();
        entry.process = Some(Arc::clone(&process));
        let channel = entry.channels[thread].take().expect("a worker has a channel for each thread");
        drop(entry);
        self.state.lock().num_failed_starts = 0;
        Ok((process, thread, channel))
    }

    /// Retires a worker, which `is_lost` if it was not this process that ended it. The channels
    /// that no slot has fetched are closed.
    pub(super) fn disconnect(&self, process: &Arc<WorkerProcess>, is_lost: bool) {
        process.retire();
        self.count_end(process, is_lost);
        if self.num_threads() > 1 {
            // The slots of its other threads may sleep.
            self.wake_slots_of(process.number());
        }
        let mut entry = self.entries[process.number() as usize].lock();
        if entry.process.as_ref().is_some_and(|other| Arc::ptr_eq(other, process)) {
            entry.process = None;
            entry.channels.drain(..).flatten().for_each(|_| process.leave());
        }
    }

    /// A worker did not start. Returns how long to wait before the next attempt, or fails the runs
    /// that wait for it. Runs do not fail while another worker exists or is being started, because
    /// that one can run all tasks.
    pub(super) fn start_failed(&self, slot: usize, schedule: &Schedule, error: &Error) -> Option<Duration> {
        // The kept memory holds open files, and the lack of these may be the cause.
        self.memory.trim();
        if schedule.settings().pin.is_some() {
            // No other worker may run the tasks.
            let num_failed_starts = self.entries[slot / self.num_threads()].lock().num_failed_starts;
            if num_failed_starts >= START_ATTEMPTS {
                schedule.run().stop(error.clone());
                return None;
            }
            return Some(backoff(num_failed_starts));
        }
        let num_failed_starts = {
            let mut state = self.state.lock();
            state.num_failed_starts += 1;
            state.num_failed_starts
        };
        if num_failed_starts < START_ATTEMPTS || !self.is_without_workers() {
            return Some(backoff(num_failed_starts));
        }
        self.stop_runs(error);
        None
    }

    /// Frees memory that is kept for the next tasks, unless a run is present.
    pub(super) fn trim(&self) {
        if self.state.lock().schedules.is_empty() {
            self.memory.trim();
        }
    }

    pub(super) fn is_without_workers(&self) -> bool {
        // A slot that holds the lock of an entry may be starting a worker, which this thread must
        // not wait for.
        let has_worker = |entry: &Mutex<WorkerEntry>| {
            entry.try_lock().is_none_or(|entry| entry.process.as_ref().is_some_and(|process| !process.has_ended()))
        };
        !self.entries.iter().any(has_worker)
    }

    /// Ends the workers and waits for them.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let mut threads = std::mem::take(&mut state.threads);
        threads.append(&mut state.spare_threads);
        drop(state);
        self.wake_all();
        // A run keeps its executor. So the last owner of both may be a slot that has just brought
        // back a result.
        let here = std::thread::current().id();
        let is_slot = threads.iter().any(|thread| thread.thread().id() == here);
        for thread in threads.into_iter().filter(|_| !is_slot) {
            // A slot that panicked has a bug that was reported. Its worker ends with it.
            let _ = thread.join();
        }
        // Values that the program still has keep their own memory only.
        self.memory.close();
    }
}

/// The wait after this many failures in a row.
fn backoff(num_failed_starts: u32) -> Duration {
    START_BACKOFF * 2_u32.pow(num_failed_starts.saturating_sub(1).min(MAX_DOUBLINGS))
}

pub(super) fn shared_memory_limit(settings: &ProcessSettings) -> u64 {
    settings.shared_memory_limit.unwrap_or_else(|| total_memory() / 4)
}

/// The memory of the machine in bytes, or 4 GiB if the system does not say.
fn total_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    total.and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(4 << 30, |kib| kib * 1024)
}
