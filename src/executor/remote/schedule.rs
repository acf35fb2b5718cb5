//! The tasks of one run, for the slots of an executor.
//!
//! A [`Schedule`] knows the ready tasks, the tasks that a worker has, and the encoded values that
//! tasks may still read. Slots take batches of tasks from it and return results. The thread that
//! started the run takes the tasks that cannot leave this process.
//!
//! # Where values are
//!
//! A value that other processes may read is stored here, encoded. So a worker that dies loses only
//! the calls of its batches. A value that this process reads, for an output or a local task, is in
//! the task's cell, as on every executor. A value can be in both places. A value that is only read
//! within its batch stays in the worker and ends with the batch: if one of its readers is retried,
//! the value is computed again.
//!
//! # What is always true
//!
//! 1. `pending[t]` counts the inputs of `t` that are not settled. At 0 the task is
//!    `INPUTS_SETTLED`: it joins the ready or the local tasks, unless it was sent before, in the
//!    batch of its inputs.
//! 2. A task is in at most one batch, which it leaves when it is settled or requeued. A requeued
//!    task becomes ready again by rule 1.
//! 3. Every input of a task in a batch has a stored value, has failed with an error that the task
//!    takes, or comes earlier in the same batch. So a task with retries, which may be requeued
//!    while its worker lives, shares no batch with an unsettled input or with a dependent: the
//!    values of such a batch may be gone when the task is retried.
//! 4. `remote_readers[t]` counts the arguments of unsettled portable tasks that read the value of
//!    `t`. At 0 the stored value is dropped.
//! 5. The lock is not held while user code runs, nor while the run is notified.

#![expect(unsafe_code, reason = "it fails tasks through the engine, whose contract it upholds by rule 2")]

use super::batch::{Batch, BatchCall, CallState, Source};
use super::requests::RequestHandler;
use super::stored::{EncodedValue, StoredValue};
use crate::engine::{Attempts, Deadline, Run, RunAccess, Timer};
use crate::error::{Error, ErrorKind};
use crate::executor::timer::TimerThread;
use crate::graph::crossing::{TaskCode, ValueCode};
use crate::graph::name;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::Codec;
use crate::portable::region::Region;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// How long a batch should keep a worker busy: much longer than a round trip of ten microseconds,
/// and too short for a person to notice.
const BATCH_NS: f64 = 300_000.0;
/// The largest number of calls in a batch, so that messages stay small.
const BATCH_CALLS: usize = 512;
/// A worker that stays busy for longer than this gets no second batch: another worker may become
/// idle before.
const PREFETCH_NS: f64 = 2_000_000.0;

// The traits of a task, which do not change.
/// It cannot leave this process.
const LOCAL: u8 = 1;
/// Its value is an output, or a local task reads it.
const PARENT_READS: u8 = 2;
/// It has a timeout. So it has a worker to itself while it runs.
const TIMED: u8 = 4;
/// It comes after tasks whose values it does not read.
const HAS_AFTER: u8 = 8;
/// It may be retried with the values of its inputs.
const RETRIES: u8 = 16;
/// The run's sink takes its value, encoded or not.
const SUNK: u8 = 32;

// The flags of a task, which change.
pub(super) const INPUTS_SETTLED: u8 = 1;
pub(super) const SENT: u8 = 2;
pub(super) const SETTLED: u8 = 4;
/// Its worker died while it ran. It is retried alone.
pub(super) const SUSPECT: u8 = 8;

/// A worker that has batches of a schedule.
pub(crate) trait RemoteWorker: Send + Sync {
    /// Asks the tasks of a run to end.
    fn cancel(&self, run: u64);
    /// Kills the worker, because tasks of a run that is over do not end.
    fn kill_cancelled(&self);
}

/// Numbers for what workers must have inherited from this process, as it is when the run starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inheritance {
    /// A hash of state such as the environment.
    pub(crate) state: u64,
    /// The number that the executor has given to the rights of the thread that computes.
    pub(crate) rights: u32,
}

/// The facts about its executor that a schedule needs.
pub(crate) struct ScheduleSettings {
    /// How many slots may take the run's tasks.
    pub(crate) num_slots: usize,
    /// How often a task is started when its workers die.
    pub(crate) max_attempts: u32,
    pub(crate) codec: Codec,
    /// The executor's memory; see [`StoredValue::origin`].
    pub(crate) origin: u32,
    pub(crate) inheritance: Inheritance,
    /// The only worker that may run the tasks. `None`: any worker.
    pub(crate) pin: Option<u32>,
    /// Answers the requests of the run's tasks.
    pub(crate) handler: Option<Arc<dyn RequestHandler>>,
}

/// How often a task was tried without success.
pub(super) struct Tries {
    pub(super) attempts: Attempts,
    /// The task may have caused the death of a worker, which was not counted.
    pub(super) had_free_try: bool,
}

/// See the [module](self).
pub(crate) struct Schedule {
    this: Weak<Schedule>,
    pub(super) run: Arc<Run>,
    /// Differs between all runs of this process.
    pub(crate) number: u64,
    pub(super) settings: ScheduleSettings,
    traits: Box<[u8]>,
    /// The index of the code of each portable task.
    code_of: Box<[u32]>,
    codes: Vec<&'static CodeDescriptor<TaskCode>>,
    pub(super) num_ready: AtomicUsize,
    /// Called when tasks that waited for a retry are ready.
    on_retry: OnceLock<Box<dyn Fn() + Send + Sync>>,
    pub(super) state: Mutex<ScheduleState>,
}

pub(super) struct ScheduleState {
    pub(super) flags: Box<[u8]>,
    pub(super) pending: Box<[u32]>,
    pub(super) remote_readers: Box<[u32]>,
    /// The index of a task in its batch, once it was sent.
    batch_index: Box<[u32]>,
    pub(super) values: Box<[Option<Arc<StoredValue>>]>,
    pub(super) ready: BinaryHeap<Reverse<u32>>,
    pub(super) local: BinaryHeap<Reverse<u32>>,
    /// How long calls of each code take on average; NaN if that is not known yet.
    pub(super) mean_ns: Vec<f64>,
    pub(super) tries: HashMap<u32, Tries>,
    /// The portable tasks that wait for a retry.
    waiting: HashMap<u32, Box<dyn Deadline>>,
    /// The worker of each batch under way.
    workers: Vec<Arc<dyn RemoteWorker>>,
    /// How many local tasks run.
    num_local: usize,
    is_stopped: bool,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Schedule")
            .field("number", &self.number)
            .field("num_ready", &state.ready.len())
            .field("num_local", &state.local.len())
            .field("num_batches", &state.workers.len())
            .finish_non_exhaustive()
    }
}

/// How another process calls a task; `None` if the task cannot leave this one.
fn portable_code(worker: &RunAccess<'_>, id: u32) -> Option<&'static CodeDescriptor<TaskCode>> {
    let has_value_code = |&input: &u32| worker.task(input).kind().value_code.is_some();
    worker.task(id).kind().code.filter(|_| worker.plan().read_inputs(id).iter().all(has_value_code))
}

impl Schedule {
    /// The schedule of a run. `known_mean_ns` says how long calls of a code took in earlier runs,
    /// or NaN.
    pub(crate) fn new(
        run: &Arc<Run>,
        worker: &RunAccess<'_>,
        settings: ScheduleSettings,
        known_mean_ns: impl Fn(&'static CodeDescriptor<TaskCode>) -> f64,
    ) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let plan = worker.plan();
        let num_tasks = plan.num_tasks();
        let mut traits = vec![0; num_tasks];
        let mut code_of = vec![u32::MAX; num_tasks];
        let mut codes = Vec::new();
        let mut index_of = HashMap::new();
        let mut remote_readers = vec![0; num_tasks];
        let mut flags = vec![0; num_tasks];
        let (mut ready, mut local) = (BinaryHeap::new(), BinaryHeap::new());
        for id in 0..num_tasks as u32 {
            let (inputs, read) = (plan.inputs(id), plan.read_inputs(id));
            let code = portable_code(worker, id);
            if let Some(code) = code {
                code_of[id as usize] = *index_of.entry(std::ptr::from_ref(code)).or_insert_with(|| {
                    codes.push(code);
                    codes.len() as u32 - 1
                });
                let task = worker.task(id);
                let options = task.options();
                if options.is_some_and(|options| options.timeout.is_some()) {
                    traits[id as usize] |= TIMED;
                }
                // An error can only keep the task's inputs if they are here, as they are for a task
                // that is retried.
                if run.keeps_inputs() || worker.with_retry_rules(id, |rules| rules.may_retry()) {
                    traits[id as usize] |= RETRIES;
                }
                read.iter().for_each(|&input| remote_readers[input as usize] += 1);
            } else {
                traits[id as usize] |= LOCAL;
                read.iter().for_each(|&input| traits[input as usize] |= PARENT_READS);
            }
            if read.len() < inputs.len() {
                traits[id as usize] |= HAS_AFTER;
            }
            if inputs.is_empty() {
                flags[id as usize] = INPUTS_SETTLED;
                if code.is_some() { &mut ready } else { &mut local }.push(Reverse(id));
            }
        }
        for &id in plan.outputs() {
            traits[id as usize] |= if worker.has_sink(id) { SUNK } else { PARENT_READS };
        }
        let num_ready = AtomicUsize::new(ready.len());
        let state = ScheduleState {
            flags: flags.into(),
            pending: (0..num_tasks as u32).map(|id| plan.inputs(id).len() as u32).collect(),
            remote_readers: remote_readers.into(),
            batch_index: vec![0; num_tasks].into(),
            values: (0..num_tasks).map(|_| None).collect(),
            ready,
            local,
            mean_ns: codes.iter().map(|code| known_mean_ns(code)).collect(),
            tries: HashMap::new(),
            waiting: HashMap::new(),
            workers: Vec::new(),
            num_local: 0,
            is_stopped: false,
        };
        Arc::new_cyclic(|this| Schedule {
            this: Weak::clone(this),
            run: Arc::clone(run),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            settings,
            traits: traits.into(),
            code_of: code_of.into(),
            codes,
            num_ready,
            on_retry: OnceLock::new(),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    pub(crate) fn settings(&self) -> &ScheduleSettings {
        &self.settings
    }

    pub(crate) fn code(&self, index: u32) -> &'static CodeDescriptor<TaskCode> {
        self.codes[index as usize]
    }

    /// Whether a worker may run tasks of the run.
    pub(crate) fn is_for(&self, worker: u32) -> bool {
        self.settings.pin.is_none_or(|pin| pin == worker)
    }

    /// The number of portable tasks that are ready, as far as it is known without the lock.
    pub(crate) fn num_ready(&self) -> usize {
        self.num_ready.load(Ordering::Relaxed)
    }

    /// The first task that cannot leave this process and is no constant.
    pub(crate) fn first_local(&self, worker: &RunAccess<'_>) -> Option<u32> {
        (0..self.traits.len() as u32).find(|&id| self.is_local(id) && !worker.task(id).kind().is_value)
    }

    pub(super) fn is_local(&self, id: u32) -> bool {
        self.traits[id as usize] & LOCAL != 0
    }

    /// The key of the task's value.
    pub(crate) fn key(&self, id: u32) -> u64 {
        self.number << 32 | u64::from(id)
    }

    /// The number of arguments of unsettled portable tasks that read the value of a task.
    pub(crate) fn num_remote_readers(&self, id: u32) -> u32 {
        self.state.lock().remote_readers[id as usize]
    }

    /// Whether this process reads the value of a task.
    pub(crate) fn is_read_here(&self, id: u32) -> bool {
        self.traits[id as usize] & PARENT_READS != 0
    }

    /// Whether the run's sink takes the value of a task.
    pub(crate) fn has_sink(&self, id: u32) -> bool {
        self.traits[id as usize] & SUNK != 0
    }

    /// The value of a task, to be stored. `None` if no task elsewhere reads it, in this run or, if
    /// it `outlives_run`, in later ones.
    pub(crate) fn value(
        &self,
        id: u32,
        bytes: &[u8],
        regions: Vec<Region>,
        code: &'static CodeDescriptor<ValueCode>,
        outlives_run: bool,
    ) -> Option<Arc<StoredValue>> {
        let num_readers = self.num_remote_readers(id);
        let make = || {
            Arc::new(StoredValue {
                key: self.key(id),
                origin: self.settings.origin,
                encoded: EncodedValue { codec: self.settings.codec, bytes: bytes.into(), regions, code },
                is_shared: num_readers > 1 || outlives_run,
                keepers: Mutex::default(),
            })
        };
        (num_readers > 0 || outlives_run).then(make)
    }

    // ---- taking tasks ----

    /// Tasks for a worker that has `num_under_way` batches, which will take `busy_ns`.
    pub(crate) fn take_batch(
        self: &Arc<Self>,
        worker: &RunAccess<'_>,
        num_under_way: usize,
        busy_ns: Option<f64>,
    ) -> Option<Batch> {
        if num_under_way > 0 && busy_ns.is_none_or(|ns| ns > PREFETCH_NS) {
            return None;
        }
        loop {
            worker.check_token();
            if worker.is_stopped() {
                return None;
            }
            let mut with_failed_input = Vec::new();
            let batch = self.fill_batch(worker, num_under_way > 0, &mut with_failed_input);
            if with_failed_input.is_empty() {
                return batch;
            }
            for &id in &with_failed_input {
                // SAFETY: `fill_batch` took the task out of the ready tasks and marked it as sent,
                // so by rule 2 no other thread runs or settles it. It was ready, so its inputs are
                // settled.
                let failed = unsafe { worker.skip_after_failure(id) };
                debug_assert!(failed, "an input of the task has failed");
            }
            self.settle(worker, with_failed_input.into_iter().map(|id| (id, None)));
            if batch.is_some() {
                return batch;
            }
        }
    }

    fn fill_batch(
        self: &Arc<Self>,
        worker: &RunAccess<'_>,
        is_second: bool,
        with_failed_input: &mut Vec<u32>,
    ) -> Option<Batch> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.is_stopped {
            return None;
        }
        let mut share = state.ready.len() / (2 * self.settings.num_slots) + 1;
        let mut batch = Batch::new(self);
        // Tasks whose unsettled inputs are all in the batch.
        let mut extension = BinaryHeap::new();
        // How many inputs of a task are in the batch.
        let mut num_inside: HashMap<u32, u32> = HashMap::new();
        loop {
            let (id, is_from_ready) = match extension.pop() {
                Some(Reverse(id)) => (id, false),
                None if share > 0 => match state.ready.pop() {
                    Some(Reverse(id)) => (id, true),
                    None => break,
                },
                None => break,
            };
            if is_from_ready && worker.has_failed_input(id) {
                state.flags[id as usize] |= SENT;
                with_failed_input.push(id);
                continue;
            }
            let mean_ns = state.mean_ns[self.code_of[id as usize] as usize];
            let runs_alone = self.traits[id as usize] & TIMED != 0 || state.flags[id as usize] & SUSPECT != 0;
            let expected_ns = batch.expected_ns.unwrap_or(f64::INFINITY) + mean_ns;
            let fits = match batch.calls.is_empty() {
                true => !is_second || !(runs_alone || mean_ns.is_nan()),
                false => !runs_alone && expected_ns <= BATCH_NS && batch.calls.len() < BATCH_CALLS,
            };
            if !fits {
                if is_from_ready {
                    state.ready.push(Reverse(id));
                    break;
                }
                continue;
            }
            share -= usize::from(is_from_ready);
            self.add_call(worker, state, &mut batch, id);
            batch.expected_ns = Some(expected_ns).filter(|ns| !ns.is_nan());
            if runs_alone || mean_ns.is_nan() {
                batch.timeout = worker.task(id).options().and_then(|options| options.timeout);
                break;
            }
            // A call that waits for a retry has no value for its dependents in this batch.
            if self.traits[id as usize] & RETRIES == 0 {
                self.add_dependents(worker, state, id, &mut num_inside, &mut extension);
            }
        }
        self.num_ready.store(state.ready.len(), Ordering::Relaxed);
        (!batch.calls.is_empty()).then_some(batch)
    }

    fn add_call(&self, worker: &RunAccess<'_>, state: &mut ScheduleState, batch: &mut Batch, id: u32) {
        state.flags[id as usize] |= SENT;
        state.batch_index[id as usize] = batch.calls.len() as u32;
        batch.calls.push(BatchCall {
            id,
            code: self.code_of[id as usize],
            first_source: batch.sources.len() as u32,
            num_readers: state.remote_readers[id as usize],
            parent_reads: self.is_read_here(id) || self.has_sink(id),
            sends_value: true,
            state: CallState::Pending,
        });
        for (position, &input) in worker.plan().read_inputs(id).iter().enumerate() {
            batch.sources.push(match &state.values[input as usize] {
                Some(value) => Source::Stored(Arc::clone(value)),
                // SAFETY: by rule 2 the task is not settled, so it has not left the failures of its
                // inputs. Its inputs are settled, or in this batch (rule 3) and not sent.
                None => match unsafe { worker.input_error(input) } {
                    Some(error) => Source::Failed(error),
                    // It is not settled, so by rule 3 it is in this batch.
                    None => {
                        let index = state.batch_index[input as usize];
                        let earlier = batch.calls.get(index as usize).map(|call| call.id);
                        assert_eq!(earlier, Some(input), "an input has a value");
                        Source::Earlier { index, takes_error: worker.plan().tolerates(id, position) }
                    }
                },
            });
        }
    }

    /// Finds the dependents of a task in the batch that can run in the same batch.
    fn add_dependents(
        &self,
        worker: &RunAccess<'_>,
        state: &ScheduleState,
        id: u32,
        num_inside: &mut HashMap<u32, u32>,
        extension: &mut BinaryHeap<Reverse<u32>>,
    ) {
        for &dependent in worker.dependents().of(id) {
            let count = num_inside.entry(dependent).or_default();
            *count += 1;
            if *count == state.pending[dependent as usize]
                && self.traits[dependent as usize] & (LOCAL | HAS_AFTER | TIMED | RETRIES) == 0
                && state.flags[dependent as usize] & (SENT | SETTLED | SUSPECT) == 0
                // A failed input is settled and has no value. A task that needs it fails once its
                // other inputs are settled, too.
                && !worker.has_failed_input(dependent)
            {
                extension.push(Reverse(dependent));
            }
        }
    }

    /// A task that runs in this process.
    pub(crate) fn take_local(&self) -> Option<u32> {
        let mut state = self.state.lock();
        if state.is_stopped {
            return None;
        }
        let Reverse(id) = state.local.pop()?;
        state.flags[id as usize] |= SENT;
        state.num_local += 1;
        Some(id)
    }

    pub(crate) fn has_local(&self) -> bool {
        !self.state.lock().local.is_empty()
    }

    /// The caller has settled a local task that it took.
    pub(crate) fn local_ended(&self) {
        self.state.lock().num_local -= 1;
        self.run.notify();
    }

    /// A batch is about to go to a worker. From now on the run waits for its end. False if the run
    /// has been stopped: then the batch is not sent, and the run does not wait for it.
    pub(crate) fn batch_started(&self, worker: Arc<dyn RemoteWorker>) -> bool {
        let mut state = self.state.lock();
        if !state.is_stopped {
            state.workers.push(worker);
        }
        !state.is_stopped
    }

    /// A batch has come back from a worker or has died with it. Its calls are settled or requeued.
    pub(crate) fn batch_ended(&self, worker: &Arc<impl RemoteWorker>) {
        let (num_batches, worker) = {
            let mut state = self.state.lock();
            let is_same = |other: &Arc<dyn RemoteWorker>| std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(worker));
            let position = state.workers.iter().position(is_same).expect("a batch that ended has started");
            let worker = state.workers.swap_remove(position);
            (state.workers.len(), worker)
        };
        drop(worker);
        // No thread waits for the last batch before the run is stopped or finished.
        if num_batches == 0 && (self.run.is_stopped() || self.run.is_finished()) {
            self.run.notify();
        }
    }

    /// The workers that have batches.
    pub(crate) fn workers(&self) -> Vec<Arc<dyn RemoteWorker>> {
        self.state.lock().workers.clone()
    }

    /// Makes tasks of a batch that have not run available again.
    pub(crate) fn requeue(&self, ids: impl IntoIterator<Item = u32>) {
        let mut state = self.state.lock();
        for id in ids {
            state.flags[id as usize] &= !SENT;
            if state.flags[id as usize] & INPUTS_SETTLED != 0 {
                state.ready.push(Reverse(id));
            }
        }
        self.num_ready.store(state.ready.len(), Ordering::Relaxed);
    }

    // ---- retries ----

    /// Calls `on_retry` whenever tasks that waited for a retry are ready.
    pub(crate) fn set_on_retry(&self, on_retry: impl Fn() + Send + Sync + 'static) {
        let _first = self.on_retry.get_or_init(|| Box::new(on_retry));
    }

    /// Makes a task of a batch that has not run available again, after this time. Until then the
    /// task occupies no worker.
    pub(super) fn requeue_after(&self, id: u32, delay: Duration) {
        let schedule = Weak::clone(&self.this);
        let due = move || {
            let Some(schedule) = schedule.upgrade() else { return };
            let waited = schedule.state.lock().waiting.remove(&id);
            if waited.is_some() {
                schedule.requeue([id]);
                schedule.notify_retry();
            }
        };
        // With the lock, so that the entry is there when the timer calls.
        let mut state = self.state.lock();
        if !state.is_stopped {
            let deadline = TimerThread::shared().start(delay, Box::new(due));
            state.waiting.insert(id, deadline);
        }
    }

    /// Makes a local task that waited for a retry available again.
    pub(crate) fn requeue_local(&self, id: u32) {
        let is_stopped = {
            let mut state = self.state.lock();
            if !state.is_stopped {
                state.local.push(Reverse(id));
            }
            state.is_stopped
        };
        if !is_stopped {
            self.run.notify();
        }
    }

    fn notify_retry(&self) {
        if let Some(on_retry) = self.on_retry.get() {
            on_retry();
        }
    }

    // ---- the end ----

    /// Gives out no more tasks.
    pub(crate) fn stop(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_stopped = true;
            state.ready.clear();
            self.num_ready.store(0, Ordering::Relaxed);
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }

    /// Whether no worker and no thread of this process has a task of this run.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.workers.is_empty() && state.num_local == 0
    }

    /// How long calls of each code took on average, if there were any.
    pub(crate) fn means(&self) -> impl Iterator<Item = (&'static CodeDescriptor<TaskCode>, f64)> {
        let means = self.state.lock().mean_ns.clone();
        self.codes.clone().into_iter().zip(means).filter(|(_, mean)| !mean.is_nan())
    }

    /// Drops the values that are still stored.
    pub(crate) fn drop_values(&self) {
        // The slots of `values` stay: a slot that took no batch because the run was stopped may
        // still settle failed tasks.
        let values: Vec<_> = self.state.lock().values.iter_mut().filter_map(Option::take).collect();
        drop(values);
    }
}

/// The error of a run with local tasks on an executor that refuses them.
pub(crate) fn local_task_refused(worker: &RunAccess<'_>, id: u32) -> Error {
    let plan = worker.plan();
    let name = name::of_task(worker.task(id));
    let input = plan.read_inputs(id).iter().find(|&&input| worker.task(input).kind().value_code.is_none());
    let message = match input {
        Some(&input) => format!(
            "task {name:?} needs the value of {:?}, which is local and cannot cross to a worker process; make it portable, run the \
             graph on threads, or set processes.local_tasks = \"parent\"",
            plan.name(input)
        ),
        None => format!(
            "task {name:?} is local and cannot be sent to a worker process; make it with `delayed`, run the graph on threads, or set \
             processes.local_tasks = \"parent\""
        ),
    };
    Error::new(ErrorKind::NotPortable, message)
}

// Runs have loom's counters under loom, which work in its models only.
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::executor::Executor;
    use crate::{compute_with, delayed};

    /// Gives the run to a function and then stops it.
    struct TestExecutor(fn(&Arc<Run>, &RunAccess<'_>));

    impl Executor for TestExecutor {
        fn name(&self) -> &str {
            "a test"
        }

        fn execute(&self, run: &Arc<Run>) {
            run.enter(|worker| (self.0)(run, worker));
            run.stop(Error::new(ErrorKind::Cancelled, "it was a test"));
        }
    }

    #[test]
    fn a_task_may_be_settled_after_the_end() {
        let body = |run: &Arc<Run>, worker: &RunAccess<'_>| {
            let settings = ScheduleSettings {
                num_slots: 1,
                max_attempts: 3,
                codec: Codec::Fast,
                origin: 0,
                inheritance: Inheritance::default(),
                pin: None,
                handler: None,
            };
            let schedule = Schedule::new(run, worker, settings, |_| f64::NAN);
            let batch = schedule.take_batch(worker, 0, None).expect("the first task is ready");
            let code = worker.task(0).kind().value_code.expect("numbers are portable");
            let value = schedule.value(0, b"value", Vec::new(), code, false);
            assert!(value.is_some());
            schedule.settle(worker, [(batch.calls[0].id, value)]);
            // Nobody waits for a batch that was not sent.
            assert!(schedule.take_batch(worker, 0, None).is_some());
            assert!(schedule.is_idle());
            schedule.stop();
            schedule.drop_values();
            schedule.settle(worker, [(1, None)]);
        };
        let first = delayed(|| 5, ());
        let second = delayed(|n: i32| n + 1, (first,));
        let error = compute_with(Arc::new(TestExecutor(body)), second).unwrap_err();
        assert_eq!(error.message(), "it was a test");
    }
}
