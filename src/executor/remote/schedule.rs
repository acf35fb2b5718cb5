//! The tasks of one run, as those see them who hand them to workers.
//!
//! A [`Schedule`] knows which tasks can be run, which are with a worker, and the encoded values that tasks may still ask for. Slots take
//! batches of tasks from it and bring back results; the [lane](super::lane) takes the tasks that cannot leave this process.
//!
//! # Where values are
//!
//! The value of a task that other processes may ask for is here, encoded; so a worker that dies takes nothing with it but what it was
//! running. The value of a task that this process asks for, for an output or a local task, is in its cell, as on every executor. Both
//! at once is possible. What is asked for only within its batch stays in the worker, and goes with the batch: should one of those
//! who ask for it be tried again, it is computed again.
//!
//! # What is always true
//!
//! 1. `pending[t]` counts the inputs of `t` that are not settled. At 0 the task is `COMPLETE`: it goes to the ready or the local tasks
//!    unless it has been sent already, as part of the batch of its inputs.
//! 2. A task is in at most one batch. It leaves the batch by being settled, or by being given back; then it is where rule 1 says.
//! 3. Every input of a task in a batch has an encoded value here or comes earlier in the same batch.
//!    So a task that may be given back while its worker lives, because it has retries, joins no batch for the sake of its inputs, and its
//!    dependents join none for its sake: the values of such a batch may be gone when it is tried again.
//! 4. `remote_readers[t]` counts the arguments of unsettled portable tasks that are the value of `t`; at 0 the encoded value is dropped.
//! 5. The lock is not held while code of the program runs, nor while the run is told anything.

#![expect(unsafe_code, reason = "it settles tasks through the engine, whose contract it upholds by rule 2")]

use super::inputs::StoredInputs;
use super::pool::Core;
use super::process::{Kept, WorkerProcess};
use super::requests::RequestHandler;
use crate::engine::{ReplayInputs, Run, RunAccess};
use crate::error::{Error, ErrorKind};
use crate::graph::crossing::{Encoded, TaskCode, ValueCode};
use crate::graph::name;
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{Codec, CodecError, Decoder, Encoder};
use crate::portable::region::Region;
use parking_lot::Mutex;
use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How long a batch should keep a worker busy: long against the ten microseconds that a round trip costs, short against a person.
const BATCH_NS: f64 = 300_000.0;
/// And how many calls it has at most, so that its messages stay small.
const BATCH_CALLS: usize = 512;
/// A worker that will be busy for longer than this is not given a second batch: somebody else may have nothing to do before.
const PREFETCH_NS: f64 = 2_000_000.0;

// What is known of a task from the start.
/// It cannot leave this process.
const LOCAL: u8 = 1;
/// Its value is an output, or asked for by a local task.
const PARENT_READS: u8 = 2;
/// It has a timeout, and so a worker of its own while it runs.
const TIMED: u8 = 4;
/// It comes after tasks whose values it does not ask for.
const HAS_AFTER: u8 = 8;
/// It may have to be tried again, with the values of its inputs.
const RETRIES: u8 = 16;
/// Its value is wanted by the run's sink, in whatever form.
const SUNK: u8 = 32;

// And what changes.
const COMPLETE: u8 = 1;
const SENT: u8 = 2;
const SETTLED: u8 = 4;
/// Its worker died while it ran; it is tried again alone.
const SUSPECT: u8 = 8;

/// An encoded value that tasks in other processes may ask for.
pub(super) struct Value {
    pub(super) key: u64,
    /// Which pool's memory the regions are from.
    pub(super) origin: u32,
    pub(super) codec: Codec,
    pub(super) bytes: Box<[u8]>,
    pub(super) regions: Vec<Region>,
    pub(super) code: &'static CodeDescriptor<ValueCode>,
    /// More than one task asks for it.
    pub(super) is_shared: bool,
    /// Where it is also kept decoded.
    pub(super) kept: Kept,
}

impl Value {
    /// How much memory the encoding takes up.
    pub(super) fn size(&self) -> usize {
        size(&self.bytes, &self.regions)
    }
}

impl Encoded for Value {
    unsafe fn decode(&self, cell: &Cell) -> Result<(), CodecError> {
        let mut decoder = Decoder::new(self.codec, &self.bytes, &self.regions);
        // SAFETY: the caller's contract.
        unsafe { (self.code.item.decode)(&mut decoder, cell) }
    }

    fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        if self.regions.is_empty() {
            return Ok(self.bytes.to_vec());
        }
        let cell = Cell::new(1);
        // SAFETY: the cell is new, and only this function looks at it.
        unsafe { self.decode(&cell) }?;
        let mut encoder = Encoder::new(self.codec, None);
        // SAFETY: the cell has just been filled with a value of the code's type.
        let encoded = unsafe { (self.code.item.encode)(&cell, &mut encoder) };
        if let Some(drop_value) = self.code.item.drop_value {
            // SAFETY: as above; nobody took it.
            unsafe { cell.sweep(drop_value) };
        }
        encoded.map(|()| encoder.finish().0)
    }

    fn num_bytes(&self) -> usize {
        self.size()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// How much memory an encoding takes up.
pub(super) fn size(bytes: &[u8], regions: &[Region]) -> usize {
    bytes.len() + regions.iter().map(|region| region.len()).sum::<usize>()
}

impl Drop for Value {
    fn drop(&mut self) {
        let (key, size) = (self.key, self.size());
        self.kept.end(key, size);
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("key", &self.key).field("size", &self.size()).finish_non_exhaustive()
    }
}

/// Tasks for one worker, in an order in which they can be run.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) schedule: Arc<Schedule>,
    pub(super) calls: Vec<BatchCall>,
    /// What the calls read, one call after the other.
    pub(super) sources: Vec<Source>,
    /// How long it will take, if that is known.
    pub(super) expected_ns: Option<f64>,
    /// For a batch of one task that has a timeout.
    pub(super) timeout: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct BatchCall {
    pub(super) id: u32,
    /// Its index in the schedule's codes.
    pub(super) code: u32,
    /// Where its sources start.
    pub(super) first_source: u32,
    /// How many arguments of portable tasks are its value, and whether this process asks for it.
    pub(super) num_readers: u32,
    parent_reads: bool,
    /// Its value is sent back; see [`Batch::choose_shipped`].
    pub(super) is_shipped: bool,
    pub(super) state: CallState,
}

/// How far a call of a batch has got, as far as is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallState {
    Sent,
    /// It has run, and its value is only wanted by other calls of the batch: it is settled with the last of these.
    Unshipped,
    Over,
}

/// Where the value of an input is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// With an earlier call of the batch.
    Earlier(u32),
    Value(Arc<Value>),
}

impl Batch {
    pub(super) fn sources_of(&self, index: usize) -> &[Source] {
        let start = self.calls[index].first_source as usize;
        let end = self.calls.get(index + 1).map_or(self.sources.len(), |next| next.first_source as usize);
        &self.sources[start..end]
    }

    /// Settles which calls' values have to be sent back: those that somebody outside the batch asks for.
    pub(super) fn choose_shipped(&mut self) {
        let mut inside = vec![0; self.calls.len()];
        for source in &self.sources {
            if let Source::Earlier(index) = source {
                inside[*index as usize] += 1;
            }
        }
        for (call, inside) in self.calls.iter_mut().zip(inside) {
            call.is_shipped = call.parent_reads || inside < call.num_readers;
        }
    }

    /// The calls that have to be run elsewhere if those after `index` are: these, and earlier ones whose values are with the worker alone and are
    /// asked for by these.
    pub(super) fn rest_after(&self, index: usize) -> Vec<usize> {
        let mut is_rest = vec![false; self.calls.len()];
        for later in (0..self.calls.len()).rev() {
            is_rest[later] |= later > index && self.calls[later].state == CallState::Sent;
            if !is_rest[later] {
                continue;
            }
            for source in self.sources_of(later) {
                if let Source::Earlier(earlier) = source {
                    let earlier = *earlier as usize;
                    is_rest[earlier] |= self.calls[earlier].state == CallState::Unshipped;
                }
            }
        }
        (0..self.calls.len()).filter(|&call| is_rest[call]).collect()
    }

    /// Leaves out the calls from `len` on and gives them back.
    pub(super) fn truncate(&mut self, len: usize) {
        if let Some(first) = self.calls.get(len) {
            self.sources.truncate(first.first_source as usize);
            let left_out = self.calls.split_off(len);
            self.schedule.give_back(left_out.iter().map(|call| call.id));
        }
    }
}

/// Why a worker did not bring back the result of a task.
#[derive(Clone, Debug)]
pub(super) struct Death {
    /// To be the task's error if this was the last attempt.
    pub(super) error: Error,
    /// What tells one way to die from another.
    pub(super) cause: String,
}

/// How often a task has been tried without success.
#[derive(Default)]
struct Tries {
    num_failures: u32,
    deaths: Vec<String>,
    /// A worker has died that may have died of it, and that was not counted.
    was_spared: bool,
}

impl Tries {
    fn num_attempts(&self) -> u32 {
        self.num_failures + self.deaths.len() as u32
    }
}

/// See the [module](self).
pub(super) struct Schedule {
    run: Arc<Run>,
    /// Differs between all runs of this process.
    pub(super) number: u64,
    /// What its workers have to have inherited; see [`Core::inheritance`](super::pool::Core::inheritance).
    pub(super) inheritance: u64,
    num_slots: usize,
    /// The only worker that may have its tasks; any, if there is none.
    pin: Option<u32>,
    /// Where what its tasks ask is answered.
    handler: Option<Arc<dyn RequestHandler>>,
    max_attempts: u32,
    traits: Box<[u8]>,
    /// For each portable task the index of its code.
    code_of: Box<[u32]>,
    codes: Vec<&'static CodeDescriptor<TaskCode>>,
    num_ready: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    flags: Box<[u8]>,
    pending: Box<[u32]>,
    remote_readers: Box<[u32]>,
    /// Where in its batch a task is, once it has been sent.
    place: Box<[u32]>,
    values: Box<[Option<Arc<Value>>]>,
    ready: BinaryHeap<Reverse<u32>>,
    local: BinaryHeap<Reverse<u32>>,
    /// How long calls of each code take on average; NaN if that is not known yet.
    mean_ns: Vec<f64>,
    tries: HashMap<u32, Tries>,
    num_batches: usize,
    num_local: usize,
    /// Where the batches are.
    hosts: Vec<Arc<WorkerProcess>>,
    is_stopped: bool,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Schedule")
            .field("number", &self.number)
            .field("num_ready", &state.ready.len())
            .field("num_local", &state.local.len())
            .field("num_batches", &state.num_batches)
            .finish_non_exhaustive()
    }
}

impl Schedule {
    /// The schedule of a run, for the workers of a pool or one of them.
    pub(super) fn new(
        core: &Core,
        run: &Arc<Run>,
        worker: &RunAccess<'_>,
        pin: Option<u32>,
        handler: Option<Arc<dyn RequestHandler>>,
    ) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let plan = worker.plan();
        let num_tasks = plan.num_tasks();
        let mut traits = vec![0; num_tasks];
        let mut code_of = vec![u32::MAX; num_tasks];
        let mut codes = Vec::new();
        let mut index_of = HashMap::new();
        let mut remote_readers = vec![0; num_tasks];
        let mut pending = Vec::with_capacity(num_tasks);
        let (mut ready, mut local) = (BinaryHeap::new(), BinaryHeap::new());
        let mut flags = vec![0; num_tasks];
        for id in 0..num_tasks as u32 {
            let (task, inputs) = (worker.task(id), plan.inputs(id));
            let read = plan.read_inputs(id);
            let code = task.kind().code.filter(|_| read.iter().all(|&i| worker.task(i).kind().value_code.is_some()));
            let own = &mut traits[id as usize];
            match code {
                Some(code) => {
                    let index = *index_of.entry(std::ptr::from_ref(code)).or_insert_with(|| {
                        codes.push(code);
                        codes.len() as u32 - 1
                    });
                    code_of[id as usize] = index;
                    if task.options().is_some_and(|options| options.timeout.is_some()) {
                        *own |= TIMED;
                    }
                    // To keep its inputs they have to be here, as they are for one that is tried again.
                    if run.keeps_inputs() || task.options().is_some_and(|options| options.retries > 0) {
                        *own |= RETRIES;
                    }
                    read.iter().for_each(|&input| remote_readers[input as usize] += 1);
                }
                None => {
                    *own |= LOCAL;
                    read.iter().for_each(|&input| traits[input as usize] |= PARENT_READS);
                }
            }
            if read.len() < inputs.len() {
                traits[id as usize] |= HAS_AFTER;
            }
            pending.push(inputs.len() as u32);
            if inputs.is_empty() {
                flags[id as usize] = COMPLETE;
                if code.is_some() { &mut ready } else { &mut local }.push(Reverse(id));
            }
        }
        for &id in plan.outputs() {
            traits[id as usize] |= if worker.has_sink(id) { SUNK } else { PARENT_READS };
        }
        let num_ready = AtomicUsize::new(ready.len());
        let state = State {
            flags: flags.into(),
            pending: pending.into(),
            remote_readers: remote_readers.into(),
            place: vec![0; num_tasks].into(),
            values: (0..num_tasks).map(|_| None).collect(),
            ready,
            local,
            // A task may take long that took little in another run, because it waits for a task of this one. Where one worker has them all that
            // makes no difference.
            mean_ns: codes.iter().map(|code| if pin.is_some() { core.mean_ns(code) } else { f64::NAN }).collect(),
            tries: HashMap::new(),
            num_batches: 0,
            num_local: 0,
            hosts: Vec::new(),
            is_stopped: false,
        };
        Arc::new(Schedule {
            run: Arc::clone(run),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            inheritance: core.inheritance(run),
            num_slots: if pin.is_some() { core.settings().threads_per_worker.get() } else { core.num_slots() },
            pin,
            handler,
            max_attempts: core.settings().max_attempts.get(),
            traits: traits.into(),
            code_of: code_of.into(),
            codes,
            num_ready,
            state: Mutex::new(state),
        })
    }

    pub(super) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    pub(super) fn code(&self, index: u32) -> &'static CodeDescriptor<TaskCode> {
        self.codes[index as usize]
    }

    /// Whether a worker may have tasks of the run.
    pub(super) fn is_for(&self, worker: u32) -> bool {
        self.pin.is_none_or(|pin| pin == worker)
    }

    pub(super) fn pin(&self) -> Option<u32> {
        self.pin
    }

    pub(super) fn handler(&self) -> Option<&Arc<dyn RequestHandler>> {
        self.handler.as_ref()
    }

    /// A portable task could be taken, as far as one can say without the lock.
    pub(super) fn has_ready(&self) -> bool {
        self.num_ready.load(Ordering::Relaxed) > 0
    }

    pub(super) fn num_ready(&self) -> usize {
        self.num_ready.load(Ordering::Relaxed)
    }

    /// How many tasks do not leave this process, beside those that are values, and the first of them.
    pub(super) fn first_local(&self, worker: &RunAccess<'_>) -> Option<u32> {
        (0..self.traits.len() as u32).find(|&id| self.is_local(id) && !worker.task(id).kind().is_value)
    }

    fn is_local(&self, id: u32) -> bool {
        self.traits[id as usize] & LOCAL != 0
    }

    pub(super) fn key(&self, id: u32) -> u64 {
        self.number << 32 | u64::from(id)
    }

    /// Whether portable tasks ask for the value of a task.
    pub(super) fn is_read_remotely(&self, id: u32) -> bool {
        self.state.lock().remote_readers[id as usize] > 0
    }

    pub(super) fn is_read_here(&self, id: u32) -> bool {
        self.traits[id as usize] & PARENT_READS != 0
    }

    /// Whether the value is wanted by the run's sink.
    pub(super) fn has_sink(&self, id: u32) -> bool {
        self.traits[id as usize] & SUNK != 0
    }

    /// An encoded value; `None` if no task elsewhere asks for it, in this run or, where it goes `on`, in later ones.
    pub(super) fn value(
        &self,
        core: &Core,
        id: u32,
        bytes: &[u8],
        regions: Vec<Region>,
        code: &'static CodeDescriptor<ValueCode>,
        goes_on: bool,
    ) -> Option<Arc<Value>> {
        let num_readers = self.state.lock().remote_readers[id as usize];
        let is_shared = num_readers > 1 || goes_on;
        let make = || {
            Arc::new(Value {
                key: self.key(id),
                origin: core.origin(),
                codec: core.settings().codec,
                bytes: bytes.into(),
                regions,
                code,
                is_shared,
                kept: Kept::default(),
            })
        };
        (num_readers > 0 || goes_on).then(make)
    }

    // ---- taking tasks ----

    /// Tasks for a worker that has `num_under_way` batches already, which will take `busy_ns`.
    pub(super) fn take_batch(
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
            let mut doomed = Vec::new();
            let batch = self.fill_batch(worker, num_under_way > 0, &mut doomed);
            if doomed.is_empty() {
                return batch;
            }
            for &id in &doomed {
                // SAFETY: the task was ready and has been taken out of the ready tasks, so it is ours.
                let failed = unsafe { worker.skip_after_failure(id) };
                debug_assert!(failed, "an input of the task has failed");
            }
            self.settle(worker, doomed.into_iter().map(|id| (id, None)));
            if batch.is_some() {
                return batch;
            }
        }
    }

    fn fill_batch(self: &Arc<Self>, worker: &RunAccess<'_>, is_second: bool, doomed: &mut Vec<u32>) -> Option<Batch> {
        let plan = worker.plan();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.is_stopped {
            return None;
        }
        let mut share = state.ready.len() / (2 * self.num_slots) + 1;
        let mut batch = Batch {
            schedule: Arc::clone(self),
            calls: Vec::new(),
            sources: Vec::new(),
            expected_ns: Some(0.0),
            timeout: None,
        };
        // Tasks whose missing inputs are all in the batch, and of other tasks how many inputs are.
        let mut extension = BinaryHeap::new();
        let mut arrived: HashMap<u32, u32> = HashMap::new();
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
                doomed.push(id);
                continue;
            }
            let code = self.code_of[id as usize];
            let mean_ns = state.mean_ns[code as usize];
            let needs_care = self.traits[id as usize] & TIMED != 0 || state.flags[id as usize] & SUSPECT != 0;
            let expected_ns = batch.expected_ns.unwrap_or(f64::INFINITY) + mean_ns;
            let fits = match batch.calls.is_empty() {
                true => !is_second || !(needs_care || mean_ns.is_nan()),
                false => !needs_care && expected_ns <= BATCH_NS && batch.calls.len() < BATCH_CALLS,
            };
            if !fits {
                if is_from_ready {
                    state.ready.push(Reverse(id));
                    break;
                }
                continue;
            }
            share -= usize::from(is_from_ready);
            let index = batch.calls.len() as u32;
            state.flags[id as usize] |= SENT;
            state.place[id as usize] = index;
            batch.calls.push(BatchCall {
                id,
                code,
                first_source: batch.sources.len() as u32,
                num_readers: state.remote_readers[id as usize],
                parent_reads: self.is_read_here(id) || self.has_sink(id),
                is_shipped: true,
                state: CallState::Sent,
            });
            for &input in plan.read_inputs(id) {
                batch.sources.push(match &state.values[input as usize] {
                    Some(value) => Source::Value(Arc::clone(value)),
                    // It has not been settled, so by rule 3 it is in this batch.
                    None => {
                        let place = state.place[input as usize];
                        assert_eq!(
                            batch.calls.get(place as usize).map(|call| call.id),
                            Some(input),
                            "an input has a value"
                        );
                        Source::Earlier(place)
                    }
                });
            }
            batch.expected_ns = Some(expected_ns).filter(|ns| !ns.is_nan());
            if needs_care || mean_ns.is_nan() {
                batch.timeout = worker.task(id).options().and_then(|options| options.timeout);
                break;
            }
            if self.traits[id as usize] & RETRIES != 0 {
                // A call that waits for another try gives its dependents no value in this batch.
                continue;
            }
            for &dependent in worker.dependents().of(id) {
                let count = arrived.entry(dependent).or_default();
                *count += 1;
                if *count == state.pending[dependent as usize]
                    && self.traits[dependent as usize] & (LOCAL | HAS_AFTER | TIMED | RETRIES) == 0
                    && state.flags[dependent as usize] & (SENT | SETTLED | SUSPECT) == 0
                    // A failed input is settled and has no value; the task fails when its other inputs are settled, too.
                    && !worker.has_failed_input(dependent)
                {
                    extension.push(Reverse(dependent));
                }
            }
        }
        self.num_ready.store(state.ready.len(), Ordering::Relaxed);
        (!batch.calls.is_empty()).then_some(batch)
    }

    /// A task that is run in this process.
    pub(super) fn take_local(&self) -> Option<u32> {
        let mut state = self.state.lock();
        if state.is_stopped {
            return None;
        }
        let Reverse(id) = state.local.pop()?;
        state.flags[id as usize] |= SENT;
        state.num_local += 1;
        Some(id)
    }

    pub(super) fn has_local(&self) -> bool {
        !self.state.lock().local.is_empty()
    }

    /// One that took a local task is done with it.
    pub(super) fn local_is_over(&self) {
        self.state.lock().num_local -= 1;
        self.run.notify();
    }

    /// A batch is about to be sent to a worker; from now on the run waits for its end. False if the run has come to its end already, because
    /// it was stopped: then the batch is not sent, and not waited for.
    pub(super) fn goes_to(&self, host: &Arc<WorkerProcess>) -> bool {
        let mut state = self.state.lock();
        if state.is_stopped {
            return false;
        }
        state.num_batches += 1;
        state.hosts.push(Arc::clone(host));
        true
    }

    /// Where batches are.
    pub(super) fn hosts(&self) -> Vec<Arc<WorkerProcess>> {
        self.state.lock().hosts.clone()
    }

    pub(super) fn num_remote_readers(&self, id: u32) -> u32 {
        self.state.lock().remote_readers[id as usize]
    }

    // ---- giving tasks back ----

    /// A batch has come back from a worker, or has died with it; its calls are over or have been given back.
    pub(super) fn batch_is_over(&self, host: &Arc<WorkerProcess>) {
        let (num_batches, host) = {
            let mut state = self.state.lock();
            state.num_batches -= 1;
            let position = state.hosts.iter().position(|other| Arc::ptr_eq(other, host));
            (state.num_batches, position.map(|position| state.hosts.swap_remove(position)))
        };
        drop(host);
        // Before that nobody asks whether batches are under way.
        if num_batches == 0 && (self.run.is_stopped() || self.run.is_finished()) {
            self.run.notify();
        }
    }

    /// Tasks of a batch that have not run go back to where they came from.
    pub(super) fn give_back(&self, ids: impl IntoIterator<Item = u32>) {
        let mut state = self.state.lock();
        for id in ids {
            state.flags[id as usize] &= !SENT;
            if state.flags[id as usize] & COMPLETE != 0 {
                state.ready.push(Reverse(id));
            }
        }
        self.num_ready.store(state.ready.len(), Ordering::Relaxed);
    }

    // ---- settling tasks ----

    /// These tasks are settled, portable ones with their values if tasks elsewhere ask for them: tells their dependents. The tasks have
    /// let go of their inputs.
    pub(super) fn settle(&self, worker: &RunAccess<'_>, tasks: impl IntoIterator<Item = (u32, Option<Arc<Value>>)>) {
        let num_settled = self.settle_untold(worker, tasks);
        self.tell(num_settled);
    }

    /// Tells the run that so many tasks are settled. The last are best told when this thread has left the run: who waits for its end need
    /// not wake up and wait for that too.
    pub(super) fn tell(&self, num_settled: usize) {
        if num_settled > 0 {
            self.run.finish(num_settled);
        }
    }

    /// As [`settle`](Schedule::settle), but the run has yet to be [told](Schedule::tell) of so many tasks.
    pub(super) fn settle_untold(
        &self,
        worker: &RunAccess<'_>,
        tasks: impl IntoIterator<Item = (u32, Option<Arc<Value>>)>,
    ) -> usize {
        let mut dropped = Vec::new();
        let mut num_settled = 0;
        let has_local = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            for (id, value) in tasks {
                num_settled += 1;
                state.flags[id as usize] |= SETTLED;
                match value {
                    Some(value) if state.remote_readers[id as usize] > 0 => state.values[id as usize] = Some(value),
                    value => dropped.extend(value),
                }
                if !self.is_local(id) {
                    for &input in worker.plan().read_inputs(id) {
                        let readers = &mut state.remote_readers[input as usize];
                        *readers -= 1;
                        if *readers == 0 {
                            dropped.extend(state.values[input as usize].take());
                        }
                    }
                }
                for &dependent in worker.dependents().of(id) {
                    state.pending[dependent as usize] -= 1;
                    if state.pending[dependent as usize] == 0 {
                        self.is_complete(state, dependent);
                    }
                }
            }
            self.num_ready.store(state.ready.len(), Ordering::Relaxed);
            !state.local.is_empty()
        };
        drop(dropped);
        if has_local {
            self.run.notify();
        }
        num_settled
    }

    fn is_complete(&self, state: &mut State, id: u32) {
        state.flags[id as usize] |= COMPLETE;
        if state.flags[id as usize] & (SENT | SETTLED) == 0 {
            if self.is_local(id) { &mut state.local } else { &mut state.ready }.push(Reverse(id));
        }
    }

    /// How long calls took.
    pub(super) fn learn(&self, times: &[(u32, u64)]) {
        let mut state = self.state.lock();
        for &(code, ns) in times {
            let mean = &mut state.mean_ns[code as usize];
            // Quick to believe that tasks are long, slow to believe that they are short.
            let ns = ns as f64;
            *mean = match mean.is_nan() {
                true => ns,
                false if ns > *mean => *mean + (ns - *mean) * 0.25,
                false => *mean + (ns - *mean) * 0.05,
            };
        }
    }

    /// A task of a batch gave no value. It is tried again if its options allow that and `may_retry`; otherwise it has failed.
    pub(super) fn failed(&self, worker: &RunAccess<'_>, id: u32, error: Error, may_retry: bool) {
        let retries = worker.task(id).options().map_or(0, |options| options.retries);
        let (num_failures, num_attempts) = {
            let mut state = self.state.lock();
            let tries = state.tries.entry(id).or_default();
            tries.num_failures += 1;
            (tries.num_failures, tries.num_attempts())
        };
        if may_retry && num_failures <= retries && !worker.is_stopped() {
            worker.remote_retried(id, Some(&error));
            self.give_back([id]);
            return;
        }
        let error = self.with_inputs(worker, id, error);
        // SAFETY: the task was taken for a batch and neither settled nor given back.
        let goes_on = unsafe { worker.fail(id, error, num_attempts) };
        if goes_on {
            self.settle(worker, [(id, None)]);
        }
    }

    /// The worker died while it ran this task; or, unless that `is_sure`, may have died of it. It is tried again, alone, unless it has been
    /// tried too often.
    pub(super) fn died(&self, worker: &RunAccess<'_>, id: u32, is_sure: bool, death: impl FnOnce() -> Death) {
        let is_spared = {
            let mut state = self.state.lock();
            state.flags[id as usize] |= SUSPECT;
            let tries = state.tries.entry(id).or_default();
            !is_sure && !std::mem::replace(&mut tries.was_spared, true)
        };
        if is_spared {
            worker.remote_retried(id, None);
            self.give_back([id]);
            return;
        }
        let death = death();
        let (deaths, num_attempts) = {
            let mut state = self.state.lock();
            let tries = state.tries.entry(id).or_default();
            tries.deaths.push(death.cause);
            (tries.deaths.clone(), tries.num_attempts())
        };
        if (deaths.len() as u32) < self.max_attempts && !worker.is_stopped() {
            worker.remote_retried(id, Some(&death.error));
            self.give_back([id]);
            return;
        }
        let is_killer = deaths.len() > 1 && deaths.iter().all(|cause| *cause == deaths[0]);
        let error = match is_killer {
            true => death.error.with_note("every attempt ended like this: the task kills its worker"),
            false => death.error,
        };
        let error = self.with_inputs(worker, id, error);
        // SAFETY: as in `failed`.
        let goes_on = unsafe { worker.fail(id, error, num_attempts) };
        if goes_on {
            self.settle(worker, [(id, None)]);
        }
    }

    /// The error of a task that has failed elsewhere, with the task's inputs if they are to be kept.
    fn with_inputs(&self, worker: &RunAccess<'_>, id: u32, error: Error) -> Error {
        if !self.run.keeps_inputs() {
            return error;
        }
        let inputs = worker.plan().read_inputs(id);
        let values: Option<Vec<Arc<Value>>> = {
            let state = self.state.lock();
            inputs.iter().map(|&input| state.values[input as usize].clone()).collect()
        };
        // By rule 3 they are here, as the task joins no batch for the sake of its inputs.
        let Some(values) = values else { return error };
        let inputs = StoredInputs::new(values.iter().map(|value| &**value));
        let task = worker.task(id).to_task();
        error.with_replay(Arc::new(ReplayInputs::encoded(task, Box::new(inputs), self.run.task_context())))
    }

    // ---- the end ----

    /// Hands out nothing more.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.is_stopped = true;
        state.ready.clear();
        self.num_ready.store(0, Ordering::Relaxed);
    }

    /// Nobody has a task of this run.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.state.lock();
        state.num_batches == 0 && state.num_local == 0
    }

    /// How long calls of each code have taken on average.
    pub(super) fn means(&self) -> impl Iterator<Item = (&'static CodeDescriptor<TaskCode>, f64)> {
        let means = self.state.lock().mean_ns.clone();
        self.codes.clone().into_iter().zip(means).filter(|(_, mean)| !mean.is_nan())
    }

    /// Lets go of the values that nobody has asked for.
    pub(super) fn clear(&self) {
        // Their places stay: a slot that took no batch because the run was stopped may still be settling tasks that have failed.
        let values: Vec<_> = self.state.lock().values.iter_mut().filter_map(Option::take).collect();
        drop(values);
    }
}

/// The error of a run with local tasks that may not have any.
pub(super) fn local_task_refused(worker: &RunAccess<'_>, id: u32) -> Error {
    let plan = worker.plan();
    let name = name::of_task(worker.task(id));
    let by = plan.read_inputs(id).iter().find(|&&input| worker.task(input).kind().value_code.is_none());
    let message = match by {
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
    use crate::executor::processes::settings::ProcessSettings;
    use crate::{compute_with, delayed};
    use std::num::NonZeroUsize;

    /// Has the body do with the run what it likes, and stops it.
    struct Body(fn(&Arc<Run>, &RunAccess<'_>));

    impl Executor for Body {
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
            let core = Core::new(ProcessSettings::default(), NonZeroUsize::MIN, 0);
            let schedule = Schedule::new(&core, run, worker, None, None);
            let batch = schedule.take_batch(worker, 0, None).expect("the first task is ready");
            let code = worker.task(0).kind().value_code.expect("numbers are portable");
            let value = schedule.value(&core, 0, b"value", Vec::new(), code, false);
            assert!(value.is_some());
            schedule.settle(worker, [(batch.calls[0].id, value)]);
            // Nobody waits for a batch that was not sent.
            assert!(schedule.take_batch(worker, 0, None).is_some());
            assert!(schedule.is_quiet());
            schedule.stop();
            schedule.clear();
            schedule.settle(worker, [(1, None)]);
        };
        let first = delayed(|| 5, ());
        let second = delayed(|n: i32| n + 1, (first,));
        let error = compute_with(Arc::new(Body(body)), second).unwrap_err();
        assert_eq!(error.message(), "it was a test");
    }
}
