//! The slots, and what they share: settings, runs that want workers, and who sleeps.

use super::process::{Channel, WorkerProcess};
use super::schedule::{Batch, Schedule};
use super::settings::ProcessSettings;
use super::slot::Slot;
use crate::engine::Run;
use crate::error::{Error, ErrorKind};
use crate::graph::crossing::TaskCode;
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
/// How long to wait after the first failure; twice as long after each further one, up to a second or so.
const START_BACKOFF: Duration = Duration::from_millis(10);
const MAX_DOUBLINGS: u32 = 7;

/// What all slots of a pool share.
pub(super) struct Core {
    settings: ProcessSettings,
    /// One for each thread of each worker, spare ones not counted.
    num_slots: usize,
    pub(super) memory: Memory,
    origin: u32,
    /// How long calls of each code have taken on average in the runs of one worker before.
    means: Mutex<HashMap<usize, f64>>,
    state: Mutex<State>,
    places: Box<[SlotState]>,
    stations: Box<[Mutex<WorkerEntry>]>,
}

/// In the place of a worker's number: none.
const NOBODY: u32 = u32::MAX;

/// What others know of a slot.
#[derive(Debug)]
struct SlotState {
    /// The worker whose tasks it takes. At first that is the worker of its station, and [`NOBODY`] for spare slots. A slot whose task waits for an
    /// answer gives its worker to a spare one, and becomes one itself.
    worker: AtomicU32,
    /// The worker that it has given away, until its task has ended.
    given_away: AtomicU32,
    /// Rung when the slot has been taken off the stack of those that sleep.
    bell: Condvar,
    /// Whether it has a batch, or is about something else that takes time. One that is not, and does not sleep, is going to look for work
    /// before it sleeps.
    is_engaged: AtomicBool,
}

struct State {
    /// Grows with every change: there is work, a worker has ended, the pool is closed.
    version: u64,
    /// The slots that sleep. The last to come is the first to be woken: what it needs is warm, and those below come to their end.
    sleeping: Vec<usize>,
    schedules: Vec<Arc<Schedule>>,
    /// Where to look first, so that no run waits for another.
    first: usize,
    slots: Vec<JoinHandle<()>>,
    /// Those of them that are spare at first.
    spares: Vec<JoinHandle<()>>,
    num_failed_starts: u32,
    is_closed: bool,
}

/// The place of one worker process, used by the slots of its threads.
#[derive(Default)]
struct WorkerEntry {
    host: Option<Arc<WorkerProcess>>,
    /// Channels that their slots have not fetched yet.
    channels: Vec<Option<Channel>>,
    /// How often in a row it could not be started.
    num_failed_starts: u32,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without waiting for who starts a worker.
        let workers: Vec<_> =
            self.stations.iter().map(|station| station.try_lock().map(|it| it.host.clone())).collect();
        let state = self.state.lock();
        f.debug_struct("Core")
            .field("num_slots", &self.num_slots)
            .field("places", &self.places)
            .field("sleeping", &state.sleeping)
            .field("workers", &workers)
            .field("schedules", &state.schedules)
            .field("is_closed", &state.is_closed)
            .finish_non_exhaustive()
    }
}

/// What a slot that has nothing to do is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    Changed,
    /// It has waited for as long as a worker may be idle.
    Idle,
    Closed,
}

impl SlotState {
    fn of(worker: u32) -> Self {
        SlotState {
            worker: AtomicU32::new(worker),
            given_away: AtomicU32::new(NOBODY),
            bell: Condvar::new(),
            is_engaged: AtomicBool::new(false),
        }
    }

    fn worker(&self) -> Option<u32> {
        // Relaxed: it changes under the lock of the state, and who looks without it looks again when the version has changed.
        Some(self.worker.load(Ordering::Relaxed)).filter(|&worker| worker != NOBODY)
    }

    fn given_away(&self) -> Option<u32> {
        Some(self.given_away.load(Ordering::Relaxed)).filter(|&worker| worker != NOBODY)
    }

    /// Whether it can be counted on to look for tasks soon.
    fn is_free(&self) -> bool {
        self.worker().is_some() && !self.is_engaged.load(SeqCst)
    }
}

impl Core {
    pub(super) fn new(settings: ProcessSettings, num_workers: NonZeroUsize, num_spares: usize) -> Arc<Core> {
        let num_threads = settings.threads_per_worker.get();
        let num_slots = num_workers.get() * num_threads;
        let num_stations = num_workers.get() + num_spares;
        // A worker that some threads of are about to leave may be there beside the one in its place, for each slot at most.
        let budget = Budget::for_members(shared_memory_limit(&settings), num_stations + num_slots);
        let origin = next_origin();
        Arc::new(Core {
            num_slots,
            memory: Memory::within(origin, budget),
            origin,
            means: Mutex::default(),
            state: Mutex::new(State {
                version: 0,
                sleeping: Vec::new(),
                schedules: Vec::new(),
                first: 0,
                slots: Vec::new(),
                spares: Vec::new(),
                num_failed_starts: 0,
                is_closed: false,
            }),
            places: (0..num_stations * num_threads)
                .map(|slot| if slot < num_slots { (slot / num_threads) as u32 } else { NOBODY })
                .map(SlotState::of)
                .collect(),
            stations: (0..num_stations).map(|_| Mutex::default()).collect(),
            settings,
        })
    }

    pub(super) fn settings(&self) -> &ProcessSettings {
        &self.settings
    }

    pub(super) fn num_slots(&self) -> usize {
        self.num_slots
    }

    /// What tells its memory from that of others.
    pub(super) fn origin(&self) -> u32 {
        self.origin
    }

    /// How long a call of this code takes on average, as far as is known; NaN if it is not.
    pub(super) fn mean_ns(&self, code: &'static CodeDescriptor<TaskCode>) -> f64 {
        self.means.lock().get(&std::ptr::from_ref(code).addr()).copied().unwrap_or(f64::NAN)
    }

    /// A number that changes with what workers inherit from this process when they start: its environment and working directory, as far
    /// as the settings do not name others.
    pub(super) fn inheritance(&self, run: &Run) -> u64 {
        let settings = &self.settings;
        let is_overridden = |name: &OsStr| name.to_str().is_some_and(|name| settings.environment.contains_key(name));
        let environment = run.task_context().environment(&is_overridden);
        let folder = match &settings.working_directory {
            Some(folder) if folder.is_absolute() => None,
            _ => std::env::current_dir().ok(),
        };
        let mut hasher = DefaultHasher::new();
        (environment, folder).hash(&mut hasher);
        hasher.finish()
    }

    // ---- runs come and go ----

    /// Offers a run's tasks to the slots.
    pub(super) fn add(self: &Arc<Self>, schedule: &Arc<Schedule>) {
        let mut state = self.state.lock();
        state.schedules.push(Arc::clone(schedule));
        state.num_failed_starts = 0;
        if let Some(worker) = schedule.pin() {
            let num_threads = self.settings.threads_per_worker.get();
            self.start_slots(&mut state, (worker as usize + 1) * num_threads);
            let has_slot = state.slots.len() > worker as usize * num_threads;
            drop(state);
            if !has_slot {
                let error = Error::new(ErrorKind::NoWorker, format!("there is no thread for worker {worker}"));
                schedule.run().stop(error);
            }
            return self.wake_slots_for(worker);
        }
        drop(state);
        self.announce(schedule.num_ready());
    }

    fn start_slots(self: &Arc<Self>, state: &mut State, num_wanted: usize) {
        while state.slots.len() < num_wanted.min(self.num_slots) && !state.is_closed {
            let index = state.slots.len();
            match self.start_slot(index) {
                Ok(thread) => state.slots.push(thread),
                Err(error) if index == 0 => {
                    let error = Error::new(ErrorKind::NoWorker, format!("there is no thread for a worker: {error}"));
                    state.schedules.iter().for_each(|schedule| schedule.run().stop(error.clone()));
                    return;
                }
                // Those that there are must do.
                Err(_) => return,
            }
        }
    }

    fn start_slot(self: &Arc<Self>, index: usize) -> std::io::Result<JoinHandle<()>> {
        let core = Arc::clone(self);
        let thread = std::thread::Builder::new().name(format!("sprang-slot-{index}"));
        thread.spawn(move || Slot::new(core, index).serve())
    }

    pub(super) fn remove(&self, schedule: &Arc<Schedule>) {
        self.state.lock().schedules.retain(|other| !Arc::ptr_eq(other, schedule));
        if schedule.pin().is_none() {
            return;
        }
        let mut means = self.means.lock();
        means.extend(schedule.means().map(|(code, mean)| (std::ptr::from_ref(code).addr(), mean)));
    }

    pub(super) fn is_active(&self, run: u64) -> bool {
        self.state.lock().schedules.iter().any(|schedule| schedule.number == run)
    }

    /// There are tasks of a run to take.
    pub(super) fn announce_of(self: &Arc<Self>, schedule: &Schedule) {
        match schedule.pin() {
            Some(worker) if schedule.has_ready() => self.wake_slots_for(worker),
            Some(_) => {}
            None => self.announce(schedule.num_ready()),
        }
    }

    /// There are tasks to take, so many as far as is known.
    pub(super) fn announce(self: &Arc<Self>, num_ready: usize) {
        if num_ready == 0 {
            return;
        }
        let mut state = self.state.lock();
        state.version += 1;
        let (num_slots, num_spares) = (state.slots.len(), state.spares.len());
        // SeqCst pairs with `is_engaged`: who is told of an end finds the slot that brought it free.
        let started = self.places[..num_slots].iter().chain(&self.places[self.num_slots..][..num_spares]);
        let num_free = started.filter(|place| place.is_free()).count();
        let takes_tasks = |slot: &usize| self.places[*slot].worker().is_some();
        let num_sleeping = state.sleeping.iter().filter(|slot| takes_tasks(slot)).count();
        // Those will find that the version has changed.
        let num_looking = num_free.saturating_sub(num_sleeping);
        self.start_slots(&mut state, num_slots + num_ready.saturating_sub(num_free));
        // The last ones.
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
        self.ring(&woken);
    }

    pub(super) fn wake_all(&self) {
        let mut state = self.state.lock();
        state.version += 1;
        let woken = std::mem::take(&mut state.sleeping);
        drop(state);
        self.ring(&woken);
    }

    /// Wakes the slots of a process: others have nothing to do with what has become of it, and might start one of their own.
    pub(super) fn wake_slots_of(&self, station: u32) {
        let num_threads = self.settings.threads_per_worker.get();
        self.wake_where(|slot| slot / num_threads == station as usize);
    }

    /// Wakes the slots that take the tasks of a worker.
    pub(super) fn wake_slots_for(&self, worker: u32) {
        self.wake_where(|slot| self.places[slot].worker() == Some(worker));
    }

    fn wake_where(&self, is_meant: impl Fn(usize) -> bool) {
        let mut state = self.state.lock();
        state.version += 1;
        let woken: Vec<usize> = state.sleeping.extract_if(.., |slot| is_meant(*slot)).collect();
        drop(state);
        self.ring(&woken);
    }

    fn ring(&self, slots: &[usize]) {
        slots.iter().rev().for_each(|&slot| {
            self.places[slot].bell.notify_one();
        });
    }

    // ---- for slots ----

    /// What changes are known so far; to be given to [`Core::wait`] when a look around has found nothing.
    pub(super) fn version(&self) -> u64 {
        self.state.lock().version
    }

    /// Says whether a slot can be counted on to look for work soon.
    pub(super) fn is_engaged(&self, slot: usize, is_engaged: bool) {
        if !is_engaged {
            self.places[slot].given_away.store(NOBODY, Ordering::Relaxed);
        }
        self.places[slot].is_engaged.store(is_engaged, SeqCst);
    }

    /// The task of a slot waits for something that only others may bring about: a spare slot takes the tasks of its worker from now on. False if
    /// there is none.
    pub(super) fn give_way(self: &Arc<Self>, slot: usize) -> bool {
        let mut state = self.state.lock();
        let Some(worker) = self.places[slot].worker() else { return true };
        let num_spares = state.spares.len();
        let mut started = (0..state.slots.len()).chain(self.num_slots..self.num_slots + num_spares);
        let is_spare = |&slot: &usize| {
            let place = &self.places[slot];
            place.worker().is_none() && !place.is_engaged.load(SeqCst)
        };
        let spare = match started.find(is_spare) {
            Some(spare) => spare,
            None if self.num_slots + num_spares < self.places.len() && !state.is_closed => {
                match self.start_slot(self.num_slots + num_spares) {
                    Ok(thread) => state.spares.push(thread),
                    Err(_) => return false,
                }
                self.num_slots + num_spares
            }
            None => return false,
        };
        self.places[spare].worker.store(worker, Ordering::Relaxed);
        self.places[slot].worker.store(NOBODY, Ordering::Relaxed);
        self.places[slot].given_away.store(worker, Ordering::Relaxed);
        state.version += 1;
        let woken: Vec<usize> = state.sleeping.extract_if(.., |slot| *slot == spare).collect();
        drop(state);
        self.ring(&woken);
        true
    }

    /// Whether a slot takes nobody's tasks.
    pub(super) fn is_spare(&self, slot: usize) -> bool {
        self.places[slot].worker().is_none()
    }

    /// Waits for a change, for no longer than `time`.
    pub(super) fn wait(&self, slot: usize, seen: u64, time: Option<Duration>) -> Woken {
        let deadline = time.and_then(|time| Instant::now().checked_add(time));
        let mut state = self.state.lock();
        self.is_engaged(slot, false);
        if !state.is_closed && state.version == seen {
            state.sleeping.push(slot);
            while state.sleeping.contains(&slot) {
                let bell = &self.places[slot].bell;
                let Some(deadline) = deadline else {
                    bell.wait(&mut state);
                    continue;
                };
                if bell.wait_until(&mut state, deadline).timed_out() && state.sleeping.contains(&slot) {
                    state.sleeping.retain(|&other| other != slot);
                    return Woken::Idle;
                }
            }
        }
        if state.is_closed { Woken::Closed } else { Woken::Changed }
    }

    /// How many tasks are ready that any worker may have, in all runs.
    pub(super) fn num_ready(&self) -> usize {
        let state = self.state.lock();
        state.schedules.iter().filter(|schedule| schedule.pin().is_none()).map(|schedule| schedule.num_ready()).sum()
    }

    /// The process that takes the tasks of a worker, if there is one.
    pub(super) fn host(&self, worker: u32) -> Option<Arc<WorkerProcess>> {
        self.hosts_where(|place| place.worker() == Some(worker)).into_iter().next()
    }

    /// The processes that take the tasks of a worker, or have one that waits.
    pub(super) fn hosts(&self, worker: u32) -> Vec<Arc<WorkerProcess>> {
        self.hosts_where(|place| [place.worker(), place.given_away()].contains(&Some(worker)))
    }

    fn hosts_where(&self, is_meant: impl Fn(&SlotState) -> bool) -> Vec<Arc<WorkerProcess>> {
        let places = self.places.chunks(self.settings.threads_per_worker.get());
        let meant = places.zip(&self.stations).filter(|(places, _)| places.iter().any(&is_meant));
        // Not while one is being started.
        let host = |station: &Mutex<WorkerEntry>| {
            let station = station.try_lock()?;
            station.host.as_ref().filter(|host| !host.has_ended()).map(Arc::clone)
        };
        meant.filter_map(|(_, station)| host(station)).collect()
    }

    /// A batch for this slot, which has so many under way, which will take `busy_ns`; only of runs that the slot's worker will do for, if
    /// `inheritance` says what that is.
    pub(super) fn take_batch(
        &self,
        slot: usize,
        num_under_way: usize,
        busy_ns: Option<f64>,
        inheritance: Option<u64>,
    ) -> Option<Batch> {
        let worker = self.places[slot].worker()?;
        let schedules: Vec<Arc<Schedule>> = {
            let mut state = self.state.lock();
            let num_schedules = state.schedules.len();
            state.first = if num_schedules == 0 { 0 } else { (state.first + 1) % num_schedules };
            let first = state.first;
            (0..num_schedules)
                .map(|i| &state.schedules[(first + i) % num_schedules])
                .filter(|schedule| schedule.has_ready() && schedule.is_for(worker))
                .filter(|schedule| inheritance.is_none_or(|inheritance| inheritance == schedule.inheritance))
                .map(Arc::clone)
                .collect()
        };
        if num_under_way > 0 && self.is_left_to_others(&schedules) {
            return None;
        }
        schedules.iter().find_map(|schedule| {
            schedule.run().enter(|worker| schedule.take_batch(worker, num_under_way, busy_ns)).flatten()
        })
    }

    /// Whether slots that have nothing to do are enough for what is ready in these runs. It would wait behind a batch for nothing, and for
    /// ever if that waits for it: how long a task has taken before says little of one that waits for others.
    fn is_left_to_others(&self, schedules: &[Arc<Schedule>]) -> bool {
        let may_have_it = |place: &SlotState| {
            place.worker().is_some_and(|worker| schedules.iter().any(|schedule| schedule.is_for(worker)))
        };
        let num_free = self.places.iter().filter(|place| place.is_free() && may_have_it(place)).count();
        num_free > 0 && schedules.iter().map(|schedule| schedule.num_ready()).sum::<usize>() <= num_free
    }

    /// The channel of a slot to its thread of a worker, which is started if need be.
    ///
    /// A worker that has inherited something else makes room for a new one, and ends when its other threads have come to the end of what
    /// they do.
    pub(super) fn connect(
        self: &Arc<Self>,
        slot: usize,
        inheritance: u64,
    ) -> Result<(Arc<WorkerProcess>, usize, Channel), Error> {
        let num_threads = self.settings.threads_per_worker.get();
        let (number, thread) = (slot / num_threads, slot % num_threads);
        let mut station = self.stations[number].lock();
        let fits =
            |host: &&Arc<WorkerProcess>| !host.has_ended() && !host.is_retired() && host.inheritance() == inheritance;
        if let Some(host) = station.host.as_ref().filter(fits).map(Arc::clone)
            && let Some(channel) = station.channels[thread].take()
        {
            return Ok((host, thread, channel));
        }
        if let Some(host) = station.host.take() {
            host.retire();
            station.channels.drain(..).flatten().for_each(|_| host.leave());
        }
        let (host, channels) = WorkerProcess::start(self, number as u32, inheritance).inspect_err(|_| {
            station.num_failed_starts += 1;
        })?;
        station.num_failed_starts = 0;
        station.channels = channels.into_iter().map(Some).collect();
        station.host = Some(Arc::clone(&host));
        let channel = station.channels[thread].take().expect("a worker has a channel for each thread");
        drop(station);
        self.state.lock().num_failed_starts = 0;
        Ok((host, thread, channel))
    }

    /// A worker that was to be closed: channels that nobody has fetched are closed as well.
    pub(super) fn disconnect(&self, host: &Arc<WorkerProcess>) {
        host.retire();
        if self.settings.threads_per_worker.get() > 1 {
            // Slots of its other threads may sleep.
            self.wake_slots_of(host.number());
        }
        let mut station = self.stations[host.number() as usize].lock();
        if !station.host.as_ref().is_some_and(|other| Arc::ptr_eq(other, host)) {
            return;
        }
        station.host = None;
        for _ in station.channels.drain(..).flatten() {
            host.leave();
        }
    }

    /// A worker did not start. Returns how long to wait before the next attempt, or fails the runs that wait: not while another worker is
    /// there, or is being started, which can do all that there is to do.
    pub(super) fn start_failed(&self, slot: usize, schedule: &Schedule, error: &Error) -> Option<Duration> {
        // It may have lacked the open files that this holds.
        self.memory.trim();
        if schedule.pin().is_some() {
            // No other worker will do.
            let station = slot / self.settings.threads_per_worker.get();
            let num_failed_starts = self.stations[station].lock().num_failed_starts;
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
        self.stop_all(error);
        None
    }

    /// Fails the runs that there are.
    pub(super) fn stop_all(&self, error: &Error) {
        let schedules = self.state.lock().schedules.clone();
        schedules.iter().for_each(|schedule| schedule.run().stop(error.clone()));
    }

    /// Gives back memory that is kept for the next tasks, unless some are run.
    pub(super) fn trim(&self) {
        if self.state.lock().schedules.is_empty() {
            self.memory.trim();
        }
    }

    pub(super) fn is_without_workers(&self) -> bool {
        // A station that is in use may be starting a worker, which nobody should wait for here.
        let is_there = |station: &Mutex<WorkerEntry>| {
            station.try_lock().is_none_or(|station| station.host.as_ref().is_some_and(|host| !host.has_ended()))
        };
        !self.stations.iter().any(is_there)
    }

    /// Lets the workers end and waits for them.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let mut slots = std::mem::take(&mut state.slots);
        slots.append(&mut state.spares);
        drop(state);
        self.wake_all();
        // A run keeps its executor, and so the last to let go of both may be a slot that has just brought back a result.
        let here = std::thread::current().id();
        let is_slot = slots.iter().any(|slot| slot.thread().id() == here);
        for slot in slots.into_iter().filter(|_| !is_slot) {
            // A slot that panicked has a bug that was reported; its worker ends with it.
            let _ = slot.join();
        }
        // Values that the program still has do not keep the rest.
        self.memory.close();
    }
}

/// How long to wait after so many failures in a row.
fn backoff(num_failed_starts: u32) -> Duration {
    START_BACKOFF * 2_u32.pow(num_failed_starts.saturating_sub(1).min(MAX_DOUBLINGS))
}

/// A number for those who make regions, this process and its workers; each gets one of its own.
pub(super) fn next_origin() -> u32 {
    static ORIGIN: AtomicU32 = AtomicU32::new(0);
    ORIGIN.fetch_add(1, Ordering::Relaxed)
}

pub(super) fn shared_memory_limit(settings: &ProcessSettings) -> u64 {
    settings.shared_memory_limit.unwrap_or_else(|| total_memory() / 4)
}

/// The memory of the machine in bytes, as far as the system tells.
fn total_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    total.and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(4 << 30, |kib| kib * 1024)
}
