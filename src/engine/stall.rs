//! Detects runs that make no progress.
//!
//! A [`Stall`] is one of the callbacks of a run whose `stall_timeout` is set. It records the
//! progress of the run and has no timer: a watchdog [checks](Stall::check) it after the time that
//! the previous check returned.
//!
//! # What is always true
//!
//! 1. `last_settled` is the time when the last task of the run, or of a run nested in it, was
//!    settled. At first it is the start of the run. So a task that waits for a nested run makes
//!    progress while that run does.
//! 2. A stall begins at `last_settled` and is over when that changes. It is reported once, and once
//!    more if a task has started since: the previous report, perhaps made while worker processes
//!    were starting, does not name that task.

use super::callback::{
    Callback, RunStalled, TaskCancelled, TaskFailed, TaskFinished, TaskInfo, TaskRetried, TaskSkipped, TaskStarted,
    WorkerId,
};
use crate::sorted::sort_items;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the [module](self).
pub(crate) struct Stall {
    timeout: Duration,
    /// The stall detection of the run that this one is nested in.
    outer: Option<Arc<Stall>>,
    state: Mutex<StallState>,
}

struct StallState {
    last_settled: Instant,
    /// The stall that began at `last_settled` was reported, and no task has started since.
    is_reported: bool,
    /// The start of the timeout: `last_settled`, or the start of a task after the report.
    counts_from: Instant,
    num_settled: usize,
    running: HashMap<u32, StartedTask>,
}

impl StallState {
    /// A task has been settled.
    fn progressed(&mut self, now: Instant) {
        (self.last_settled, self.counts_from, self.is_reported) = (now, now, false);
    }

    /// A task has started, so the previous report is out of date.
    fn task_started(&mut self, now: Instant) {
        (self.counts_from, self.is_reported) = (now, false);
    }
}

/// A task that was started and has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartedTask {
    pub(super) worker: WorkerId,
    pub(super) started: Instant,
    pub(super) attempt: u32,
}

/// The result of a check.
#[derive(Debug, PartialEq)]
pub(crate) enum StallCheck {
    /// The run has not stalled, or its stall was reported. Check again after this time.
    Later(Duration),
    /// The run has stalled, and the stall was not reported. Check again after this time.
    Stalled(Duration),
}

/// The progress of a stalled run.
pub(super) struct Standstill {
    pub(super) since: Instant,
    pub(super) num_settled: usize,
    /// In the order of their start.
    pub(super) running: Vec<(u32, StartedTask)>,
}

impl Stall {
    pub(super) fn new(timeout: Duration, outer: Option<Arc<Stall>>, started: Instant) -> Self {
        let state = StallState {
            last_settled: started,
            is_reported: false,
            counts_from: started,
            num_settled: 0,
            running: HashMap::new(),
        };
        Stall { timeout, outer, state: Mutex::new(state) }
    }

    /// The time without a settled task after which the run has stalled.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether the run has stalled now.
    pub(crate) fn check(&self, now: Instant) -> StallCheck {
        let mut state = self.state.lock();
        let left = self.timeout.saturating_sub(now.saturating_duration_since(state.counts_from));
        if !left.is_zero() {
            return StallCheck::Later(left);
        }
        match std::mem::replace(&mut state.is_reported, true) {
            // If a task is settled right now, the next stall comes one timeout later.
            true => StallCheck::Later(self.timeout),
            false => StallCheck::Stalled(self.timeout),
        }
    }

    /// The progress of the run. `None` if the stall that [`check`](Stall::check) found is over.
    pub(super) fn standstill(&self) -> Option<Standstill> {
        let state = self.state.lock();
        if !state.is_reported {
            return None;
        }
        let (since, num_settled) = (state.last_settled, state.num_settled);
        drop(state);
        Some(Standstill { since, num_settled, running: self.running() })
    }

    /// The tasks that run, in the order of their start.
    pub(super) fn running(&self) -> Vec<(u32, StartedTask)> {
        let mut running: Vec<_> = self.state.lock().running.iter().map(|(&id, &task)| (id, task)).collect();
        sort_items(&mut running, |a, b| (a.1.started, a.0).cmp(&(b.1.started, b.0)));
        running
    }

    fn task_settled(&self, task: TaskInfo<'_>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.running.remove(&(task.id() as u32));
        state.num_settled += 1;
        drop(state);
        let mut stall = Some(self);
        while let Some(Stall { outer, state, .. }) = stall {
            state.lock().progressed(now);
            stall = outer.as_deref();
        }
    }

    fn attempt_ended(&self, task: TaskInfo<'_>) {
        self.state.lock().running.remove(&(task.id() as u32));
    }
}

impl Callback for Stall {
    fn on_task_started(&self, event: &TaskStarted<'_>) {
        let running = StartedTask { worker: event.worker, started: event.started, attempt: event.attempt };
        let mut state = self.state.lock();
        state.running.insert(event.task.id() as u32, running);
        if state.is_reported {
            state.task_started(Instant::now());
        }
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        self.task_settled(event.task);
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        self.task_settled(event.task);
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        self.task_settled(event.task);
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        self.attempt_ended(event.task);
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        self.attempt_ended(event.task);
    }

    fn on_run_stalled(&self, event: &RunStalled<'_>) {
        log::warn!("{event}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_reported_once_and_the_next_one_a_timeout_after_its_own_beginning() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let later = |seconds: u64| StallCheck::Later(Duration::from_secs(seconds));
        let stall = Stall::new(Duration::from_secs(10), None, start);
        assert_eq!(stall.check(at(0)), later(10));
        stall.state.lock().progressed(at(4));
        assert_eq!(stall.check(at(10)), later(4));
        assert_eq!(stall.check(at(14)), StallCheck::Stalled(Duration::from_secs(10)));
        assert_eq!(stall.check(at(24)), later(10), "it continues, and was reported");
        stall.state.lock().progressed(at(25));
        assert_eq!(stall.check(at(34)), later(1));
        assert_eq!(stall.check(at(35)), StallCheck::Stalled(Duration::from_secs(10)));
        stall.state.lock().task_started(at(37));
        assert_eq!(stall.check(at(45)), later(2), "a task has started that was not reported");
        assert_eq!(stall.check(at(47)), StallCheck::Stalled(Duration::from_secs(10)));
        assert_eq!(stall.standstill().map(|it| it.since), Some(at(25)), "nothing was settled since");
        stall.state.lock().progressed(at(48));
        assert!(stall.standstill().is_none(), "it is over before it was reported");
    }
}
