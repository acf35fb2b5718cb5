//! Settles tasks when their results arrive.
//!
//! # What is always true
//!
//! 1. Results are [checked](check_results) before any of them is used: a task that is settled
//!    cannot be requeued.
//! 2. A task of a batch is in that batch alone and is not settled (rule 2 of the
//!    [schedule](super::schedule)). So its cell is empty, its inputs are held for it, and only the
//!    holder of the batch settles it.

#![expect(
    unsafe_code,
    reason = "it settles tasks and decodes values through the engine, whose contract it upholds by rule 2"
)]

use super::batch::{Batch, CallState};
use super::call::{CallOutcome, CallResult, Encoding, KEEP_MIN_BYTES, Ran};
use super::schedule::{INPUTS_SETTLED, SENT, SETTLED, Schedule, ScheduleState};
use super::stored::{KeptValues, StoredValue, encoded_size};
use crate::engine::{RunAccess, describe_panic};
use crate::error::{Error, ErrorKind};
use crate::graph::crossing::{Encoded, ValueCode};
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{CodecError, Decoder};
use crate::portable::region::Region;
use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A result, and the regions of its value.
pub(crate) type Arrived<'a> = (CallResult<'a>, Vec<Region>);

/// A task that is settled, and its value if tasks elsewhere read it.
type Settled = (u32, Option<Arc<StoredValue>>);

impl Schedule {
    /// Settles tasks, each with its encoded value if tasks elsewhere read it. Dependents may become
    /// ready. The tasks have released their inputs.
    pub(crate) fn settle(&self, worker: &RunAccess<'_>, tasks: impl IntoIterator<Item = Settled>) {
        let num_settled = self.settle_unreported(worker, tasks);
        self.report_settled(num_settled);
    }

    /// Reports settled tasks to the run.
    ///
    /// The last ones are best reported after this thread has left the run: a thread that waits for
    /// the end of the run then need not wake up and wait for this thread, too.
    pub(crate) fn report_settled(&self, num_settled: usize) {
        if num_settled > 0 {
            self.run.finish(num_settled);
        }
    }

    /// As [`settle`](Schedule::settle), without the [report](Schedule::report_settled). Returns how
    /// many tasks to report.
    fn settle_unreported(&self, worker: &RunAccess<'_>, tasks: impl IntoIterator<Item = Settled>) -> usize {
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
                        self.inputs_settled(state, dependent);
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

    fn inputs_settled(&self, state: &mut ScheduleState, id: u32) {
        state.flags[id as usize] |= INPUTS_SETTLED;
        if state.flags[id as usize] & (SENT | SETTLED) == 0 {
            if self.is_local(id) { &mut state.local } else { &mut state.ready }.push(Reverse(id));
        }
    }

    /// Updates the mean times of codes from the times of calls.
    fn record_times(&self, times: &[(u32, u64)]) {
        let mut state = self.state.lock();
        for &(code, ns) in times {
            let mean = &mut state.mean_ns[code as usize];
            let ns = ns as f64;
            // A long call raises the mean quickly, a short one lowers it slowly.
            *mean = match mean.is_nan() {
                true => ns,
                false if ns > *mean => *mean + (ns - *mean) * 0.25,
                false => *mean + (ns - *mean) * 0.05,
            };
        }
    }
}

/// Checks that results belong to pending calls, in their order and with the values that were asked
/// for, and that none is missing if they are the last.
///
/// # Errors
/// The text names the first result that breaks the protocol.
pub(crate) fn check_results(batch: &Batch, results: &[Arrived<'_>], is_last: bool) -> Result<(), String> {
    let mut next = 0;
    for (CallResult { index, outcome, .. }, _) in results {
        let call = batch.calls.get(*index as usize);
        let call = call.filter(|call| *index >= next && call.state == CallState::Pending);
        let call = call.ok_or_else(|| format!("a result of call {index}, which it was not asked for"))?;
        if call.sends_value && *outcome == CallOutcome::Value(None) {
            return Err(format!("a result of call {index} without the value"));
        }
        if matches!(outcome, CallOutcome::LacksInput(input, _) if *input as usize >= batch.sources_of(*index as usize).len())
        {
            return Err(format!("a result of call {index} that lacks an input which the call does not have"));
        }
        next = *index + 1;
    }
    if is_last && batch.pending_calls().count() != results.len() {
        return Err("the end of a batch with results missing".into());
    }
    Ok(())
}

/// Settles the calls whose results have arrived and were [checked](check_results). Returns how many
/// tasks the caller has to [report](Schedule::report_settled).
///
/// `kept` lists the values that the worker keeps. `instant` converts a time of the worker's clock.
pub(crate) fn take_results(
    worker: &RunAccess<'_>,
    batch: &mut Batch,
    results: Vec<Arrived<'_>>,
    is_last: bool,
    kept: &Arc<KeptValues>,
    instant: impl Fn(u64) -> Option<Instant>,
) -> usize {
    let schedule = Arc::clone(&batch.schedule);
    let mut settled = Vec::with_capacity(results.len());
    let mut times = Vec::with_capacity(results.len());
    let mut skipped = Vec::new();
    for (result, regions) in results {
        let CallResult { index, ran, kept: is_kept, outcome } = result;
        let call = &mut batch.calls[index as usize];
        let (id, code) = (call.id, call.code);
        call.state = CallState::Done;
        if outcome != CallOutcome::Skipped {
            times.push((code, ran.ns));
            report_time(worker, id, ran, &instant);
        }
        match outcome {
            CallOutcome::Value(None) => call.state = CallState::ValueUnsent,
            CallOutcome::Value(Some(encoding)) => {
                let code = schedule.code(code).item.value.expect("a task with a code has a portable value");
                let kept = is_kept.then_some(kept);
                match take_value(&schedule, worker, id, code, &encoding, regions, kept) {
                    Ok(value) => settled.extend(value),
                    Err(error) => schedule.task_failed(worker, id, error, false),
                }
            }
            CallOutcome::Skipped => {
                worker.remote_retried(id, None);
                // SAFETY: by rule 2 only this thread settles the task, and its inputs are held for
                // it. They are settled or in this batch, where no other thread uses their cells.
                match unsafe { worker.skip_after_failure(id) } {
                    true => settled.push((id, None)),
                    false => skipped.push(id),
                }
            }
            outcome @ (CallOutcome::Returned(_) | CallOutcome::Panicked(_) | CallOutcome::NotPortable(_)) => {
                let may_retry = !matches!(outcome, CallOutcome::NotPortable(_));
                let error = outcome.error().expect("these outcomes have an error");
                schedule.task_failed(worker, id, error, may_retry);
            }
            CallOutcome::LacksInput(input, problem) => {
                let plan = worker.plan();
                let name = plan.name(plan.read_inputs(id)[input as usize]);
                let message = format!("cannot use the value of {name:?}: {problem}");
                schedule.task_failed(worker, id, Error::new(ErrorKind::NotPortable, message), false);
            }
        }
    }
    schedule.record_times(&times);
    let num_settled = schedule.settle_unreported(worker, settled);
    if is_last {
        settle_unsent(worker, batch);
    }
    schedule.requeue(skipped);
    num_settled
}

/// Reports to callbacks when a call ran.
fn report_time(worker: &RunAccess<'_>, id: u32, ran: Ran, instant: &impl Fn(u64) -> Option<Instant>) {
    if worker.is_watched()
        && ran.started_ns > 0
        && let Some(started) = instant(ran.started_ns)
    {
        worker.ran(id, started, started.checked_add(Duration::from_nanos(ran.ns)).unwrap_or(started));
    }
}

/// Takes the value of a task that has run. Returns what to settle, which is nothing if the run has
/// stopped. `kept` is given if the worker keeps the value.
///
/// # Errors
/// If the value cannot be decoded.
fn take_value(
    schedule: &Schedule,
    worker: &RunAccess<'_>,
    id: u32,
    code: &'static CodeDescriptor<ValueCode>,
    encoding: &Encoding<'_>,
    regions: Vec<Region>,
    kept: Option<&Arc<KeptValues>>,
) -> Result<Option<Settled>, Error> {
    let size = encoded_size(encoding.bytes, &regions);
    // The sink takes a large value as it is. A small one takes less memory decoded.
    let outlives_run = schedule.has_sink(id) && size >= KEEP_MIN_BYTES;
    let is_decoded = schedule.is_read_here(id) || schedule.has_sink(id) && !outlives_run;
    if is_decoded {
        let mut decoder = Decoder::new(schedule.settings().codec, encoding.bytes, &regions);
        // SAFETY: by rule 2 the cell is empty and the caller alone uses it. The task's own code
        // made the value.
        let decoded = catch_unwind(AssertUnwindSafe(|| unsafe { (code.item.decode)(&mut decoder, worker.cell(id)) }));
        let decoded = decoded
            .unwrap_or_else(|payload| Err(CodecError::new(format!("decoding panicked: {}", describe_panic(payload)))));
        decoded.map_err(|error| {
            let type_name = (code.item.type_name)();
            Error::new(ErrorKind::NotPortable, format!("cannot decode its value, a `{type_name}`: {error}"))
        })?;
    }
    // SAFETY: the task has run in the worker, and by rule 2 its inputs have not been released for
    // it.
    if let Err(must_settle) = unsafe { worker.release_remote_inputs(id) } {
        return Ok(must_settle.then_some((id, None)));
    }
    let value = schedule.value(id, encoding.bytes, regions, code, outlives_run);
    if is_decoded {
        // SAFETY: the value has just been decoded into the task's cell, and the task is not settled
        // yet.
        unsafe { worker.accept_value(id, Some(size as u64)) };
    } else {
        worker.remote_finished(id, Some(size as u64));
    }
    if let Some(value) = value.as_ref().filter(|_| outlives_run) {
        worker.give_to_sink(id, Arc::clone(value) as Arc<dyn Encoded>);
    }
    match (kept, &value) {
        (Some(kept), Some(value)) => kept.add(value),
        (Some(kept), None) => kept.drop_unread(schedule.key(id)),
        (None, _) => {}
    }
    Ok(Some((id, value)))
}

/// Settles the calls whose values were not sent and have no readers left, and requeues the others:
/// the worker does not have the value any more, and one of its readers in the batch will be
/// retried.
pub(super) fn settle_unsent(worker: &RunAccess<'_>, batch: &mut Batch) {
    let schedule = Arc::clone(&batch.schedule);
    // The last ones first, because they read the others.
    for call in batch.calls.iter_mut().rev().filter(|call| call.state == CallState::ValueUnsent) {
        call.state = CallState::Done;
        if schedule.num_remote_readers(call.id) == 0 {
            // SAFETY: the task has run in the worker, and by rule 2 its inputs have not been
            // released for it.
            let released = unsafe { worker.release_remote_inputs(call.id) };
            if released.is_ok() {
                worker.remote_finished(call.id, None);
            }
            let must_settle = released.err().unwrap_or(true);
            schedule.settle(worker, must_settle.then_some((call.id, None)));
        } else {
            worker.remote_retried(call.id, None);
            schedule.requeue([call.id]);
        }
    }
}
