//! Running a task on this thread: the call, its retries and timeout, and its failure.

use super::super::cancel::CancelToken;
use super::super::failure::CallFailure;
use super::super::panics;
use super::super::replay::ReplayInputs;
use super::super::retry::{Attempts, RetryRules};
use super::super::watch::{Attempt, Watch};
use super::{FAILURES, RunAccess, STOPPED, with_path};
use crate::error::{Error, ErrorKind};
use crate::graph::node::CallError;
use crate::primitives::Relaxed;
use std::any::Any;
use std::cell::Cell as StdCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

impl RunAccess<'_> {
    /// Runs a task. False if the task's dependents are not to be announced, because the run has
    /// stopped, or because the task waits for a retry. In the second case the executor learns from
    /// the function that it gave to [`Run::defer_retries`] when to run the task again.
    ///
    /// Unwinds if the task panics. The caller then calls [`RunAccess::panicked`] for the result.
    ///
    /// # Safety
    /// The caller has learned that the task is ready, and runs it once.
    #[inline(always)]
    pub(crate) unsafe fn run(&self, id: u32) -> bool {
        if self.run.status.load(Relaxed) != 0 {
            // SAFETY: the caller's contract is the same.
            return unsafe { self.run_carefully(id) };
        }
        debug_assert!((id as usize) < self.run.num_tasks());
        // SAFETY: ids are below the number of tasks.
        let call = unsafe { self.plan().calls().get_unchecked(id as usize) };
        // SAFETY: the call is the task's own. The task is ready, so its inputs have finished; the
        // caller runs it once, so no other thread uses its cell.
        let error = unsafe { call(self.task(id), self.cells(), self.inputs_ptr(id), id, false) };
        match error {
            None => true,
            Some(error) => {
                // SAFETY: the task is the caller's, and a call that returns an error releases
                // nothing.
                unsafe { self.release_inputs(id) };
                self.failed_call(id, CallFailure::Returned(*error), None)
            }
        }
    }

    /// Settles a task whose call unwound out of [`RunAccess::run`].
    #[cold]
    pub(crate) fn panicked(&self, id: u32, payload: Box<dyn Any + Send>) -> bool {
        // The call may have released some of the inputs. The others are dropped when the run is
        // closed.
        self.failed_call(id, CallFailure::Panicked(payload), None)
    }

    /// # Safety
    /// As for [`RunAccess::run`].
    #[cold]
    unsafe fn run_carefully(&self, id: u32) -> bool {
        let run = self.run;
        self.check_token();
        if run.status.load(Relaxed) & STOPPED != 0 {
            return false;
        }
        let Some(watch) = &run.watch else {
            // SAFETY: the caller's contract is the same, and no input of a task that is not skipped
            // has failed.
            return unsafe { self.skip_after_failure(id) || self.run_attempts(id, None) };
        };
        let watched = WatchedTask { watch, attempt: StdCell::new(None) };
        // SAFETY: as above.
        let outcome = catch_unwind(AssertUnwindSafe(|| unsafe {
            self.skip_after_failure(id) || self.run_attempts(id, Some(&watched))
        }));
        // A user value panicked when it was dropped.
        outcome.unwrap_or_else(|payload| self.failed_call(id, CallFailure::Panicked(payload), Some(&watched)))
    }

    /// Whether an input of a task has failed.
    pub(crate) fn has_failed_input(&self, id: u32) -> bool {
        self.failed_input(id).is_some()
    }

    /// The task whose failure is the reason why an input of the task `id` has no value.
    fn failed_input(&self, id: u32) -> Option<u32> {
        if self.run.status.load(Relaxed) & FAILURES == 0 {
            return None;
        }
        self.plan().needed_inputs(id).find_map(|input| self.cell(input).failure())
    }

    /// A failed input of a task that does not take its error.
    fn needed_error(&self, id: u32) -> Option<&Error> {
        // SAFETY: the inputs of the task, which is the caller's, have been announced, and the task
        // has not left their failures.
        self.plan().needed_inputs(id).find_map(|input| unsafe { self.cell(input).error() })
    }

    /// The error of an input that has failed, for a task that takes it.
    ///
    /// # Safety
    /// The caller holds a task that reads the input and has not left its failure. The input was
    /// announced, or no other thread has it.
    pub(crate) unsafe fn input_error(&self, input: u32) -> Option<Error> {
        if self.run.status.load(Relaxed) & FAILURES == 0 {
            return None;
        }
        // SAFETY: the caller's contract is the same.
        unsafe { self.cell(input).error() }.cloned()
    }

    /// Leaves the failures of a task's inputs, for a plan with tasks that take errors.
    ///
    /// # Safety
    /// The task is the caller's, its inputs have finished or failed, and it has not left their
    /// failures.
    pub(super) unsafe fn leave_failures(&self, id: u32) {
        if !self.plan().has_tolerant() || self.run.status.load(Relaxed) & FAILURES == 0 {
            return;
        }
        for &input in self.plan().inputs(id) {
            // An error that panics when it is dropped makes nothing worse.
            // SAFETY: the input was announced, and the task is one of its readers and leaves it
            // once.
            panics::quietly(|| unsafe { self.cell(input).leave_failure() });
        }
    }

    /// Settles a task without calling it if one of its inputs has failed. Returns whether that is
    /// so.
    ///
    /// # Safety
    /// As for [`RunAccess::run`].
    pub(crate) unsafe fn skip_after_failure(&self, id: u32) -> bool {
        let Some(cause) = self.failed_input(id) else { return false };
        let error = self.needed_error(id).map(|error| error.clone().needed_by(&self.plan().name(id)));
        // SAFETY: the task is ready and will not be called, so no other thread uses its cell, which
        // is empty.
        unsafe { self.put_failure(id, cause, error) };
        // A value that panics when it is dropped makes the failure no worse.
        // SAFETY: the task is the caller's and was not called, so its inputs are not released.
        panics::quietly(|| unsafe { self.release_inputs(id) });
        // SAFETY: the task is the caller's and has not left the failures of its inputs.
        unsafe { self.leave_failures(id) };
        if let Some(watch) = &self.run.watch {
            watch.task_skipped(self.plan(), id, cause);
        }
        if let Some(sink) = self.run.sink.as_ref().filter(|sink| sink.wants(id)) {
            sink.failed(id, &self.run.failure(self.plan(), cause, id));
        }
        true
    }

    /// Gives the sink the value of a task that it wants.
    ///
    /// # Safety
    /// The task has left a value in its cell, and this is the only call for it.
    pub(super) unsafe fn notify_sink(&self, id: u32) {
        // A task that saw a cancelled token may have returned half a result.
        if self.run.is_stopped() {
            return;
        }
        if let Some(sink) = self.run.sink.as_ref().filter(|sink| sink.wants(id)) {
            // SAFETY: the value is the task's, so it has the task's type. The sink counts as a
            // reader, and has not released the value before, as this is the only call.
            unsafe { sink.finished(id, self.cell(id)) };
        }
    }

    /// Calls a task as often as its options and the settings allow. False also if the task waits
    /// for a retry, and this thread need not wait for it.
    ///
    /// # Safety
    /// As for [`RunAccess::run`], and no input has failed.
    unsafe fn run_attempts(&self, id: u32, watched: Option<&WatchedTask<'_>>) -> bool {
        let task = self.task(id);
        let rules = RetryRules::of(&task, &self.run.settings);
        let timeout = task.options().and_then(|options| options.timeout);
        let keeps_inputs = self.run.settings.keep_inputs;
        let mut attempts = self.earlier_attempts(id);
        loop {
            let attempt = attempts.num() + 1;
            let is_last = rules.is_last(&attempts);
            let keep = !is_last || keeps_inputs;
            // SAFETY: the kind is the task's own. Its inputs have finished, its cell is empty and
            // used by no other thread, and calls before the last one release nothing.
            let call = || unsafe { (task.kind().call)(task, self.cells(), self.inputs_ptr(id), id, keep) };
            if let Some(watched) = watched {
                watched.begin(self, id, attempt);
            }
            let outcome = match timeout {
                None => Some(catch_unwind(AssertUnwindSafe(call))),
                Some(timeout) => self.call_within(id, timeout, is_last.then_some(&attempts), call),
            };
            let ended = watched.map(|_| Instant::now());
            let failure = match outcome {
                None => CallFailure::TimedOut(timeout.unwrap_or_default()),
                Some(Err(payload)) => CallFailure::Panicked(payload),
                Some(Ok(Some(error))) => {
                    if !keep {
                        // SAFETY: the task is the caller's, and a call that returns an error
                        // releases nothing.
                        unsafe { self.release_inputs(id) };
                    }
                    CallFailure::Returned(*error)
                }
                Some(Ok(None)) => match self.check_portable(id) {
                    Err(message) => CallFailure::NotPortable(message),
                    // SAFETY: the task is the caller's, and the call has left a value and, if
                    // `keep`, released nothing.
                    Ok(()) => return unsafe { self.finished(id, keep, ended, watched) },
                },
            };
            // A call that unwound may not have released its inputs.
            let is_holding = keeps_inputs || !keep && matches!(failure, CallFailure::Panicked(_));
            let error = self.error_of(id, failure, attempt);
            attempts.failed(error.kind());
            let next = match attempts.describe(error) {
                error if self.run.is_stopped() => Err(error),
                error => rules.next(&attempts, error),
            };
            let (delay, error) = match next {
                Ok(next) => next,
                Err(error) => {
                    if keep && !keeps_inputs {
                        // A value that panics when it is dropped makes the failure no worse.
                        // SAFETY: the task is the caller's, and its calls have released nothing.
                        panics::quietly(|| unsafe { self.release_inputs(id) });
                    }
                    return self.failed(id, error, watched, is_holding, keeps_inputs);
                }
            };
            if let Some(watched) = watched {
                watched.retried(self, id, ended, error.clone());
            }
            // SAFETY: the task is the caller's and has not been announced as finished.
            unsafe { self.cell(id).discard(task.kind().drop_value) };
            if delay.is_zero() {
                continue;
            }
            if self.retry_in_another_run(id, delay, &attempts) {
                // SAFETY: the task is the caller's, its cell is empty, and its calls have released
                // nothing.
                return unsafe { self.hand_over(id) };
            }
            match self.run.wait_for_retry(id, delay, attempts) {
                None => return false,
                Some(same) => attempts = same,
            }
            self.pause(delay);
            if self.run.is_stopped() {
                // The run keeps the reason why it was stopped.
                return false;
            }
        }
    }

    /// Settles a task whose call has left a value. False if the run has stopped.
    ///
    /// # Safety
    /// The task is the caller's, its value is in its cell and was not announced. If `is_holding`,
    /// the task has not released its inputs.
    unsafe fn finished(
        &self,
        id: u32,
        is_holding: bool,
        ended: Option<Instant>,
        watched: Option<&WatchedTask<'_>>,
    ) -> bool {
        if is_holding {
            // SAFETY: the caller's contract says that the inputs are not released.
            unsafe { self.release_inputs(id) };
        }
        // SAFETY: the task is the caller's and has not left the failures of its inputs.
        unsafe { self.leave_failures(id) };
        // A task that saw a cancelled token may have returned half a result.
        self.check_token();
        if let (Some(watched), Some(ended)) = (watched, ended) {
            watched.finished(self, id, ended);
        }
        if !self.run.defers_values.load(Ordering::Relaxed) {
            // SAFETY: the value is in the cell, and the sink is notified only here, as no value is
            // deferred.
            unsafe { self.notify_sink(id) };
        }
        !self.run.is_stopped()
    }

    /// Makes a call with a timeout. `None` if the call ended too late; then its token was cancelled
    /// at the timeout and, if this was the last attempt, the failure was recorded.
    fn call_within(
        &self,
        id: u32,
        timeout: Duration,
        last_attempt: Option<&Attempts>,
        call: impl FnOnce() -> Option<Box<CallError>>,
    ) -> Option<std::thread::Result<Option<Box<CallError>>>> {
        let token = CancelToken::within(Some(self.run.token.clone()));
        // Set by the end of the call or by the timeout, whichever comes first.
        let is_settled = Arc::new(AtomicBool::new(false));
        let last_attempt = last_attempt.cloned();
        let on_timeout = {
            let (token, is_settled, run) = (token.clone(), Arc::clone(&is_settled), Weak::clone(&self.run.this));
            move || {
                if is_settled.swap(true, Ordering::SeqCst) {
                    return;
                }
                token.cancel();
                // The run stops now, and does not wait for the task to notice.
                if let (Some(mut attempts), Some(run)) = (last_attempt, run.upgrade()) {
                    attempts.failed(ErrorKind::TimedOut);
                    run.enter(|access| access.timed_out(id, timeout, &attempts));
                }
            }
        };
        let _deadline = self.run.timer.start(timeout, Box::new(on_timeout));
        let outcome = token.scope(|| catch_unwind(AssertUnwindSafe(call)));
        let is_late = is_settled.swap(true, Ordering::SeqCst);
        (!is_late).then_some(outcome)
    }

    fn check_portable(&self, id: u32) -> Result<(), String> {
        let value_code = self.task(id).kind().value_code.filter(|_| self.run.settings.check_portable);
        match value_code {
            // A value without readers is not kept, so there is nothing to check.
            Some(code) if self.plan().num_readers()[id as usize] > 0 => {
                let cell = self.cell(id);
                // SAFETY: the task has just left a value of its type in its cell and has not been
                // announced as finished, so no other thread uses the cell.
                catch_unwind(AssertUnwindSafe(|| unsafe { (code.item.round_trip)(cell, self.run.settings.codec) }))
                    .unwrap_or_else(|payload| Err(format!("encoding panicked: {}", panics::describe(payload))))
            }
            _ => Ok(()),
        }
    }

    /// The size of the value that a task has just left, with all that it owns, if a callback wants
    /// it and it can be known.
    pub(super) fn measured(&self, watch: &Watch, id: u32) -> Option<u64> {
        let (is_wanted, measures) = watch.sizes();
        if !is_wanted {
            return None;
        }
        let task = self.task(id);
        let kind = task.kind();
        if kind.is_value || self.plan().num_readers()[id as usize] == 0 {
            return None;
        }
        let (cell, codec) = (self.cell(id), self.run.settings.codec);
        let code = kind.value_code.filter(|_| measures);
        let measure = || {
            // SAFETY: the task has left a value of its type in its cell and has not been announced
            // as finished, so no reader releases it.
            let encoded = code.and_then(|code| unsafe { (code.item.measure)(cell, codec) });
            // SAFETY: as above.
            encoded.or_else(|| unsafe { (kind.whole_bytes)(cell) })
        };
        catch_unwind(AssertUnwindSafe(measure)).ok().flatten()
    }

    /// The error of a task whose call gave no value.
    fn error_of(&self, id: u32, failure: CallFailure, attempts: u32) -> Error {
        match failure {
            // The error of an awaited value already has the name of the task that failed.
            CallFailure::Returned(cause) if self.task(id).kind().is_value && cause.is::<Error>() => {
                *cause.downcast::<Error>().expect("its type was just checked")
            }
            failure => failure.into_error().with_task(self.plan().name(id), attempts),
        }
    }

    /// Leaves the task's failure in its cell, in the place of a value if there is one.
    ///
    /// # Safety
    /// The task is the caller's, and has not been announced as finished.
    pub(super) unsafe fn replace_by_failure(&self, id: u32, error: &Error) {
        let (cell, drop_value) = (self.cell(id), self.task(id).kind().drop_value);
        // A value that panics when it is dropped makes the failure no worse.
        // SAFETY: the task was not announced, so no other thread uses its cell.
        panics::quietly(|| unsafe { cell.discard(drop_value) });
        let error = self.plan().has_tolerant().then(|| error.clone().with_own_path());
        // SAFETY: as above, and the cell is empty now.
        unsafe { self.put_failure(id, id, error) };
    }

    /// Leaves a failure in the cell of a task, and the error for its dependents.
    ///
    /// # Safety
    /// The task is the caller's and has not been announced as finished, and its cell is empty.
    unsafe fn put_failure(&self, id: u32, cause: u32, error: Option<Error>) {
        // Dependents that only run after the task count too: they fail with its error.
        let num_readers = error.as_ref().map_or(0, |_| self.plan().dependents().of(id).len() as u32);
        // SAFETY: the caller's contract is the same, and each dependent leaves the failure once.
        unsafe { self.cell(id).put_failure(cause, error, num_readers) };
    }

    /// Whether the failure of a task does not stop the run.
    fn goes_on_after(&self, id: u32) -> bool {
        self.run.settings.collect_errors || !self.plan().is_fatal(id)
    }

    /// Reports a failure to the sink and the run. False if the run has stopped.
    pub(super) fn record_failure(&self, id: u32, error: Error) -> bool {
        if let Some(sink) = &self.run.sink {
            sink.failed(id, &error);
        }
        if !self.goes_on_after(id) {
            self.run.stop(with_path(error, self.plan(), id, None));
            return false;
        }
        // The error of a failure that is not fatal is only read from the cell.
        if self.plan().is_fatal(id) {
            let _before = self.run.failures.lock().by_task.insert(id, error);
        }
        self.run.status.fetch_or(FAILURES, Ordering::SeqCst);
        !self.run.is_stopped()
    }

    /// The timeout of a task that is still running has passed.
    fn timed_out(&self, id: u32, timeout: Duration, attempts: &Attempts) {
        if !self.goes_on_after(id) {
            let error = self.error_of(id, CallFailure::TimedOut(timeout), attempts.num());
            let error = attempts.describe(error);
            // The task still runs, and keeps its inputs when it ends.
            let keeps_inputs = self.run.settings.keep_inputs;
            self.record_failure(id, if keeps_inputs { error.with_replay(self.keep_inputs(id)) } else { error });
        }
    }

    /// The inputs of a task that has failed and does not release them.
    fn keep_inputs(&self, id: u32) -> Arc<ReplayInputs> {
        let task_context = self.run.task_context();
        let make = || ReplayInputs::in_run(self.plan(), id, task_context);
        self.run.failures.lock().kept.of(id, make)
    }

    /// Settles a task whose only call gave no value, and that keeps no inputs.
    #[cold]
    fn failed_call(&self, id: u32, failure: CallFailure, watched: Option<&WatchedTask<'_>>) -> bool {
        // A call that unwound may not have released its inputs.
        let is_holding = matches!(failure, CallFailure::Panicked(_));
        self.failed(id, self.error_of(id, failure, 1), watched, is_holding, false)
    }

    /// Settles a task that has failed for good. False if the run has stopped. `is_holding` says
    /// that the task may not have released its inputs, `keeps_inputs` that it keeps all for a
    /// replay.
    #[cold]
    fn failed(
        &self,
        id: u32,
        error: Error,
        watched: Option<&WatchedTask<'_>>,
        is_holding: bool,
        keeps_inputs: bool,
    ) -> bool {
        let ended = watched.map(|_| Instant::now());
        let error = match keeps_inputs {
            true => error.with_replay(self.keep_inputs(id)),
            false => {
                // SAFETY: the task is the caller's, has ended, and has not left the failures of its
                // inputs.
                unsafe { self.leave_failures(id) };
                error
            }
        };
        // SAFETY: the task is the caller's and has not been announced as finished.
        unsafe { self.replace_by_failure(id, &error) };
        if let Some(watched) = watched {
            watched.failed(self, id, ended, error.clone(), is_holding);
        }
        self.record_failure(id, error)
    }

    /// # Safety
    /// The task is the caller's, its inputs have finished or failed, and it has not released them.
    pub(crate) unsafe fn release_inputs(&self, id: u32) {
        let task = self.task(id);
        // SAFETY: the kind is the task's own, and by the caller's contract the task still counts as
        // a reader of each input.
        unsafe { (task.kind().release_inputs)(task, self.cells(), self.inputs_ptr(id)) };
    }
}

/// A task that this thread runs in a run that callbacks watch.
struct WatchedTask<'w> {
    watch: &'w Watch,
    /// The attempt that has begun and whose end was not reported.
    attempt: StdCell<Option<Attempt>>,
}

impl WatchedTask<'_> {
    #[inline]
    fn begin(&self, access: &RunAccess<'_>, id: u32, number: u32) {
        self.attempt.set(Some(self.watch.begin(access.plan(), id, number)));
    }

    #[inline]
    fn finished(&self, access: &RunAccess<'_>, id: u32, ended: Instant) {
        let Some(attempt) = self.attempt.take() else { return };
        if access.run.defers_values.load(Ordering::Relaxed) && !access.run.is_stopped() {
            self.watch.hold_back(id, attempt, ended);
        } else {
            self.watch.finished(access.plan(), id, attempt, ended, access.measured(self.watch, id));
        }
    }

    fn retried(&self, access: &RunAccess<'_>, id: u32, ended: Option<Instant>, error: Error) {
        if let Some(attempt) = self.attempt.take() {
            self.watch.retried(access.plan(), id, attempt, ended.unwrap_or_else(Instant::now), error);
        }
    }

    fn failed(&self, access: &RunAccess<'_>, id: u32, ended: Option<Instant>, error: Error, is_holding: bool) {
        let attempt = self.attempt.take().unwrap_or_else(|| self.watch.begin(access.plan(), id, 1));
        let ended = ended.unwrap_or_else(Instant::now);
        self.watch.failed(access.plan(), id, attempt, ended, error, is_holding);
    }
}
