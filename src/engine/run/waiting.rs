//! Tasks that wait for a retry.
//!
//! On an executor that has called [`Run::defer_retries`] no thread waits with them: a timer tells
//! the executor when to run a task again. On other executors the thread that ran the task waits.
//!
//! # What is always true
//!
//! 1. A task that waits is not settled, so its run has not finished. No thread runs it, and its
//!    cell is empty.
//! 2. The timer's action takes the lock of `tasks` before the executor learns of a task. So the
//!    entry of the task is complete by then.
//! 3. No task waits in a closed run, and the timer is not needed any more.

#![expect(unsafe_code, reason = "it settles tasks that another run runs again")]

use super::super::panics;
use super::super::retry::{Attempts, RetryRules};
use super::{Deadline, Run, RunAccess};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The tasks of a run that wait for a retry.
pub(super) struct WaitingTasks {
    /// Tells the executor that a task can run again.
    on_due: Box<dyn Fn(u32) + Send + Sync>,
    tasks: Mutex<HashMap<u32, WaitingTask>>,
}

struct WaitingTask {
    attempts: Attempts,
    _deadline: Box<dyn Deadline>,
}

impl Run {
    /// From now on a task that waits for a retry occupies no thread: [`RunAccess::run`] returns
    /// false for it, and `on_due` is called with its id when it can run again. That may happen
    /// after the run has been stopped or closed, on a thread that must not be kept.
    pub(crate) fn defer_retries(&self, on_due: impl Fn(u32) + Send + Sync + 'static) {
        let waiting = WaitingTasks { on_due: Box::new(on_due), tasks: Mutex::default() };
        let _first = self.waiting.get_or_init(|| Box::new(waiting));
    }

    /// Lets a task wait for its retry. Returns the attempts if this thread has to wait.
    pub(super) fn wait_for_retry(&self, id: u32, delay: Duration, attempts: Attempts) -> Option<Attempts> {
        let Some(waiting) = self.waiting.get() else { return Some(attempts) };
        let run = Weak::clone(&self.this);
        let due = move || {
            let Some(run) = run.upgrade() else { return };
            let Some(waiting) = run.waiting.get() else { return };
            let is_waiting = waiting.tasks.lock().contains_key(&id);
            if is_waiting {
                (waiting.on_due)(id);
            }
        };
        let mut tasks = waiting.tasks.lock();
        let deadline = self.timer.start(delay, Box::new(due));
        tasks.insert(id, WaitingTask { attempts, _deadline: deadline });
        None
    }

    /// Lets no task wait any more.
    pub(super) fn drop_waiting_tasks(&self) {
        if let Some(waiting) = self.waiting.get() {
            let tasks = std::mem::take(&mut *waiting.tasks.lock());
            drop(tasks);
        }
    }
}

impl RunAccess<'_> {
    /// Whether a task of this run may have to wait before it is tried again.
    pub(crate) fn may_wait_for_retries(&self) -> bool {
        let settings = &self.run.settings;
        let may_wait = |&id: &u32| RetryRules::of(&self.task(id), settings).may_wait();
        (settings.retries > 0 && settings.backoff.waits()) || self.plan().special().iter().any(may_wait)
    }

    /// The rules for the retries of a task.
    pub(crate) fn with_retry_rules<R>(&self, id: u32, body: impl FnOnce(&RetryRules<'_>) -> R) -> R {
        body(&RetryRules::of(&self.task(id), &self.run.settings))
    }

    /// The attempts that a task had before the next one, in this run or in earlier ones.
    pub(crate) fn earlier_attempts(&self, id: u32) -> Attempts {
        let waited = self.run.waiting.get().and_then(|waiting| waiting.tasks.lock().remove(&id));
        match (waited, &self.run.sink) {
            (Some(waited), _) => waited.attempts,
            (None, Some(sink)) => sink.earlier_attempts(id),
            (None, None) => Attempts::default(),
        }
    }

    /// Gives a failed task to the sink, if the sink tries it again after `delay`. The caller then
    /// [hands it over](RunAccess::hand_over).
    pub(crate) fn retry_in_another_run(&self, id: u32, delay: Duration, attempts: &Attempts) -> bool {
        self.run.sink.as_ref().is_some_and(|sink| sink.retry_later(id, delay, attempts))
    }

    /// Settles a task that the sink runs again in another run. False if the run has stopped.
    ///
    /// # Safety
    /// The task is the caller's, its cell is empty, and it has not released its inputs.
    pub(crate) unsafe fn hand_over(&self, id: u32) -> bool {
        // A value that panics when it is dropped makes the failure no worse.
        // SAFETY: the caller's contract is the same.
        panics::quietly(|| unsafe { self.release_inputs(id) });
        // SAFETY: as above: it has not left the failures of its inputs either.
        unsafe { self.leave_failures(id) };
        // No task of this run reads the value, so none takes an error.
        // SAFETY: the task is the caller's, and its cell is empty.
        unsafe { self.cell(id).put_failure(id, None, 0) };
        !self.run.is_stopped()
    }

    /// Blocks for this time, or until the run is stopped.
    pub(super) fn pause(&self, time: Duration) {
        let _listener = self.run.stop_on_cancel();
        let is_over = Arc::new(AtomicBool::new(false));
        let (run, flag) = (Weak::clone(&self.run.this), Arc::clone(&is_over));
        let end = move || {
            flag.store(true, Ordering::Relaxed);
            if let Some(run) = run.upgrade() {
                run.notify();
            }
        };
        let _deadline = self.run.timer.start(time, Box::new(end));
        self.wait_until(|| is_over.load(Ordering::Relaxed) || self.run.is_stopped());
    }
}
