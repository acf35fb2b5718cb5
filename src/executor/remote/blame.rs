//! Charges the death of a worker to a task, and retries or fails tasks that returned no value.
//!
//! When a worker dies, the call that it was running is the suspect: the call is charged one attempt
//! and retried alone. The other calls of the worker's batches are requeued without a charge.
//!
//! A worker that dies between two calls may have been killed from outside. A call may also be the
//! cause, if the worker died while it read the call's message or sent the call's value. So each
//! call that can be the cause is retried alone, once without a charge. If its worker dies again in
//! the same way, the call is charged. Without this rule a value that is too large to be sent would
//! be computed for ever.
//!
//! A task that exceeds its timeout is the only cause of the death of its worker, whatever its other
//! threads were running.

#![expect(
    unsafe_code,
    reason = "it fails tasks through the engine, whose contract it upholds by rule 2 of the schedule"
)]

use super::batch::Batch;
use super::schedule::{SUSPECT, Schedule, Tries};
use super::settle::settle_unsent;
use super::stored::StoredInputs;
use crate::engine::{Attempts, ReplayInputs, RunAccess};
use crate::error::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

/// The call of a batch that caused the death of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    Nobody,
    /// The call with this index, which the worker was running.
    Call(usize),
    /// The call with this index, unless the worker was killed from outside.
    Perhaps(usize),
    /// One of the pending calls, unless the worker was killed from outside.
    Anybody,
}

/// How a worker was lost; it decides what happens to the worker's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its task took longer than this.
    TimedOut(Duration),
    /// The run is over.
    Cancelled,
    /// The worker was restarted on request.
    Replaced,
    Died,
}

/// The report on a worker that died while it ran a task.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    /// The task's error, if this was its last attempt.
    pub(crate) error: Error,
    /// Distinguishes one kind of death from another.
    pub(crate) cause: String,
}

/// Requeues the pending calls of a batch that was lost with its worker, and charges the calls to
/// blame.
pub(crate) fn requeue_lost(
    worker: &RunAccess<'_>,
    batch: &mut Batch,
    blame: Blame,
    loss: Loss,
    death: impl Fn() -> Death,
) {
    settle_unsent(worker, batch);
    let schedule = &batch.schedule;
    let (mut innocent, mut accused) = (Vec::new(), Vec::new());
    for (index, call) in batch.pending_calls() {
        match blame {
            Blame::Call(guilty) | Blame::Perhaps(guilty) if guilty == index => accused.push(call.id),
            Blame::Anybody => accused.push(call.id),
            _ => {
                worker.remote_retried(call.id, None);
                innocent.push(call.id);
            }
        }
    }
    schedule.requeue(innocent);
    for id in accused {
        match loss {
            Loss::TimedOut(limit) => {
                let message = format!("it did not end within {limit:?}");
                schedule.task_failed(worker, id, Error::new(ErrorKind::TimedOut, message), true);
            }
            Loss::Cancelled => schedule.requeue([id]),
            Loss::Replaced => {
                worker.remote_retried(id, None);
                schedule.requeue([id]);
            }
            Loss::Died => schedule.worker_died(worker, id, matches!(blame, Blame::Call(_)), &death),
        }
    }
}

impl Tries {
    /// The attempts that the task had in earlier runs.
    fn of(worker: &RunAccess<'_>, id: u32) -> Self {
        Tries { attempts: worker.earlier_attempts(id), had_free_try: false }
    }
}

impl Schedule {
    /// A task of a batch returned no value. It is retried if its options allow that and
    /// `may_retry`; otherwise it fails.
    pub(crate) fn task_failed(&self, worker: &RunAccess<'_>, id: u32, error: Error, may_retry: bool) {
        let attempts = self.count(worker, id, |tries| tries.attempts.failed(error.kind()));
        let error = error.with_task(worker.plan().name(id), attempts.num());
        let next = match attempts.describe(error) {
            error if may_retry && !worker.is_stopped() => {
                worker.with_retry_rules(id, |rules| rules.next(&attempts, error))
            }
            error => Err(error),
        };
        match next {
            Err(error) => self.fail(worker, id, error, attempts.num()),
            Ok((delay, error)) => {
                worker.remote_retried(id, Some(&error));
                self.retry_after(worker, id, delay, &attempts);
            }
        }
    }

    /// Tries a task of a batch again after this time.
    fn retry_after(&self, worker: &RunAccess<'_>, id: u32, delay: Duration, attempts: &Attempts) {
        if delay.is_zero() {
            self.requeue([id]);
        } else if worker.retry_in_another_run(id, delay, attempts) {
            // SAFETY: the task was taken for a batch and neither settled nor requeued, so by rule 2
            // of the schedule no other thread runs or settles it. It has left no value here.
            if unsafe { worker.hand_over(id) } {
                self.settle(worker, [(id, None)]);
            }
        } else {
            self.requeue_after(id, delay);
        }
    }

    /// Counts an attempt of a task. Returns all of its attempts.
    fn count(&self, worker: &RunAccess<'_>, id: u32, count: impl FnOnce(&mut Tries)) -> Attempts {
        let mut state = self.state.lock();
        let tries = state.tries.entry(id).or_insert_with(|| Tries::of(worker, id));
        count(tries);
        tries.attempts.clone()
    }

    /// A worker died while it ran a task or, unless `is_sure`, the task may be the cause of its
    /// death. The task is retried alone, unless it was tried too often.
    fn worker_died(&self, worker: &RunAccess<'_>, id: u32, is_sure: bool, death: impl Fn() -> Death) {
        let is_free = {
            let mut state = self.state.lock();
            state.flags[id as usize] |= SUSPECT;
            let tries = state.tries.entry(id).or_insert_with(|| Tries::of(worker, id));
            !is_sure && !std::mem::replace(&mut tries.had_free_try, true)
        };
        if is_free {
            worker.remote_retried(id, None);
            return self.requeue([id]);
        }
        let Death { error, cause } = death();
        let attempts = self.count(worker, id, |tries| tries.attempts.died(error.kind(), cause));
        let deaths = attempts.deaths();
        if (deaths.len() as u32) < self.settings.max_attempts && !worker.is_stopped() {
            worker.remote_retried(id, Some(&error));
            return self.requeue([id]);
        }
        let is_killer =
            attempts.num() > 1 && attempts.num_failures() == 0 && deaths.iter().all(|cause| *cause == deaths[0]);
        let error = match is_killer {
            true => error.with_note("every attempt ended like this: the task kills its worker"),
            false => error,
        };
        self.fail(worker, id, attempts.describe(error), attempts.num());
    }

    fn fail(&self, worker: &RunAccess<'_>, id: u32, error: Error, num_attempts: u32) {
        let error = self.with_inputs(worker, id, error);
        // SAFETY: the task was taken for a batch and neither settled nor requeued, so by rule 2 of
        // the schedule no other thread runs or settles it. Its inputs are settled.
        let must_settle = unsafe { worker.fail(id, error, num_attempts) };
        if must_settle {
            self.settle(worker, [(id, None)]);
        }
    }

    /// The error of a task that failed elsewhere, with the task's inputs if the run keeps them.
    fn with_inputs(&self, worker: &RunAccess<'_>, id: u32, error: Error) -> Error {
        if !self.run.keeps_inputs() {
            return error;
        }
        let inputs = worker.plan().read_inputs(id);
        let values: Option<Vec<_>> = {
            let state = self.state.lock();
            let of_input = |&input: &u32| match &state.values[input as usize] {
                Some(value) => Some(Ok(Arc::clone(value))),
                // SAFETY: the task is the caller's, and has not left the failures of its inputs,
                // which are settled.
                None => unsafe { worker.input_error(input) }.map(Err),
            };
            inputs.iter().map(of_input).collect()
        };
        // By rule 3 of the schedule the values are stored, because the task shares no batch with
        // its inputs.
        let Some(values) = values else { return error };
        let task = worker.task(id).to_task();
        let copies = values.into_iter().map(|value| value.map(|value| value.encoded.clone()));
        let inputs = Box::new(StoredInputs(copies.collect()));
        error.with_replay(Arc::new(ReplayInputs::encoded(task, inputs, self.run.task_context())))
    }
}
