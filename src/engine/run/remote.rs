//! Settling tasks whose values an executor computes in another process or has deferred, and
//! reporting their progress to callbacks.

use super::super::callback::{StartedWorker, WorkerId};
use super::super::panics;
use super::RunAccess;
use crate::error::{Error, ErrorKind};
use crate::graph::crossing::Encoded;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

impl RunAccess<'_> {
    // ---- results ----

    /// Whether the sink wants the value of a task, in its cell or encoded.
    pub(crate) fn has_sink(&self, id: u32) -> bool {
        self.run.sink.as_ref().is_some_and(|sink| sink.wants(id))
    }

    /// Gives the sink an encoded value that it [wants](RunAccess::has_sink).
    pub(crate) fn give_to_sink(&self, id: u32, value: Arc<dyn Encoded>) {
        if let Some(sink) = self.run.sink.as_ref().filter(|_| !self.run.is_stopped()) {
            sink.finished_encoded(id, value);
        }
    }

    /// Settles a task that ran in another process and has failed for good. Its cell is empty. False
    /// if the run has stopped.
    ///
    /// # Safety
    /// As for [`RunAccess::run`], which is not called for the task.
    pub(crate) unsafe fn fail(&self, id: u32, error: Error, attempts: u32) -> bool {
        // A value that panics when it is dropped makes the failure no worse.
        // SAFETY: the task is ready and was not called here, so it has not released its inputs.
        panics::quietly(|| unsafe { self.release_inputs(id) });
        // SAFETY: as above: it has not left the failures of its inputs either.
        unsafe { self.leave_failures(id) };
        let error = error.with_task(self.plan().name(id), attempts);
        // SAFETY: the task is ready and settled only here, so no other thread uses its cell.
        unsafe { self.replace_by_failure(id, &error) };
        self.report_failure(id, error)
    }

    /// Accepts the [deferred](super::Run::defer_values) value of a task, which has `encoded_bytes`
    /// if it was encoded.
    ///
    /// # Safety
    /// The value is in the task's cell, and the task's dependents have not been announced.
    pub(crate) unsafe fn accept_value(&self, id: u32, encoded_bytes: Option<u64>) {
        if let Some(watch) = &self.run.watch {
            let encoded_bytes = encoded_bytes.or_else(|| self.measured(watch, id));
            watch.in_flight_finished(self.plan(), id, encoded_bytes);
        }
        // SAFETY: the value is in the cell. `RunAccess::run` does not notify the sink of deferred
        // values, and a value is accepted once.
        unsafe { self.notify_sink(id) };
    }

    /// Settles a task that has run and whose value cannot be used. False if the run has stopped.
    ///
    /// # Safety
    /// [`RunAccess::run`] was called for the task, and its dependents have not been announced.
    pub(crate) unsafe fn reject_value(&self, id: u32, error: Error) -> bool {
        let error = error.with_task(self.plan().name(id), 1);
        // SAFETY: the caller has run the task, and has not announced it as finished.
        unsafe { self.replace_by_failure(id, &error) };
        self.report_failure(id, error)
    }

    fn report_failure(&self, id: u32, error: Error) -> bool {
        if let Some(watch) = &self.run.watch {
            watch.in_flight_failed(self.plan(), id, error.clone());
        }
        self.record_failure(id, error)
    }

    /// Releases the inputs of a task that ran in another process and is about to be settled.
    ///
    /// # Errors
    /// An input panicked when it was dropped. The task has failed, as it would have here. The error
    /// is false if the run has stopped.
    ///
    /// # Safety
    /// As for [`RunAccess::release_inputs`].
    pub(crate) unsafe fn release_remote_inputs(&self, id: u32) -> Result<(), bool> {
        // SAFETY: the task is the caller's and has not left the failures of its inputs.
        unsafe { self.leave_failures(id) };
        // SAFETY: the caller's contract is the same.
        catch_unwind(AssertUnwindSafe(|| unsafe { self.release_inputs(id) })).map_err(|payload| {
            let error = Error::new(ErrorKind::Panicked, panics::describe(payload));
            // SAFETY: the task is the caller's and has run, and it was not announced as finished.
            unsafe { self.reject_value(id, error) }
        })
    }

    // ---- progress, for callbacks ----

    /// Whether a callback watches the run.
    pub(crate) fn is_watched(&self) -> bool {
        self.run.watch.is_some()
    }

    pub(crate) fn worker_started(&self, started: &StartedWorker) {
        if let Some(watch) = &self.run.watch {
            watch.worker_started(self.plan(), started);
        }
    }

    pub(crate) fn worker_lost(&self, worker: WorkerId, error: impl FnOnce() -> Error) {
        if let Some(watch) = &self.run.watch {
            watch.worker_lost(self.plan(), worker, error());
        }
    }

    /// A task was sent to a worker, with `num_bytes` of arguments.
    pub(crate) fn sent(&self, id: u32, worker: WorkerId, num_bytes: u64) {
        if let Some(watch) = &self.run.watch {
            watch.sent(self.plan(), id, worker, num_bytes);
        }
    }

    /// A task that was sent has run, between these times.
    pub(crate) fn ran(&self, id: u32, started: Instant, ended: Instant) {
        if let Some(watch) = &self.run.watch {
            watch.ran(id, started, ended);
        }
    }

    /// A task that was sent has a value, of `encoded_bytes` if it has come back.
    pub(crate) fn remote_finished(&self, id: u32, encoded_bytes: Option<u64>) {
        if let Some(watch) = &self.run.watch {
            watch.in_flight_finished(self.plan(), id, encoded_bytes);
        }
    }

    /// A task that was sent, if it was, has given no value and will run again. `error` is `None` if
    /// the task is not the cause.
    pub(crate) fn remote_retried(&self, id: u32, error: Option<&Error>) {
        if let Some(watch) = self.run.watch.as_ref().filter(|_| !self.run.is_stopped()) {
            let with_task = |error: &Error| match error.task() {
                Some(_) => error.clone(),
                None => error.clone().with_task(self.plan().name(id), 1),
            };
            let error = error.map(with_task);
            watch.in_flight_retried(self.plan(), id, error);
        }
    }
}
