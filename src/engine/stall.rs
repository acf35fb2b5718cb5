//! Runs that do not get on: which tasks run since when, and who waits for them.
//!
//! A [`Stall`] is among the callbacks of a run whose `stall_timeout` is set, and keeps what it is told. It looks at no clock: somebody
//! who has one [asks](Stall::check) at the time that the last answer said.
//!
//! # What is always true
//!
//! 1. `last` is when a task of the run, or of one that is nested in it, was settled last; at first, when the run began. A task that waits
//!    for a nested run gets on while that run does.
//! 2. A stall begins with `last`, so it is over when that changes; it is told once, and once more where a task has started since: what was
//!    told before, perhaps while worker processes were being started, does not name it.

use super::callback::{
    Callback, RunStalled, TaskCancelled, TaskFailed, TaskFinished, TaskInfo, TaskRetried, TaskSkipped, TaskStarted,
    WorkerId,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the [module](self).
pub(crate) struct Stall {
    timeout: Duration,
    /// That of the run around this one.
    around: Option<Arc<Stall>>,
    state: Mutex<State>,
}

struct State {
    last: Instant,
    /// The stall that began with `last` has been told, and no task has started since.
    was_told: bool,
    /// From when on it is waited for the timeout: `last`, or when a task started after the stall had been told.
    waits_since: Instant,
    num_settled: usize,
    running: HashMap<u32, StartedTask>,
}

impl State {
    /// A task has been settled.
    fn gets_on(&mut self, now: Instant) {
        (self.last, self.waits_since, self.was_told) = (now, now, false);
    }

    /// A task has started, and what has been told is no longer what holds the run up.
    fn begins_again(&mut self, now: Instant) {
        (self.waits_since, self.was_told) = (now, false);
    }
}

/// A task that was started and has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartedTask {
    pub(super) worker: WorkerId,
    pub(super) started: Instant,
    pub(super) attempt: u32,
}

/// What is to be done about a run.
#[derive(Debug, PartialEq)]
pub(crate) enum StallCheck {
    /// StallCheck again after so long.
    Later(Duration),
    /// It has stalled, which has not been told; look again after so long.
    Stalled(Duration),
}

/// How far a run has got that has stalled.
pub(super) struct Standstill {
    pub(super) since: Instant,
    pub(super) num_settled: usize,
    /// Those that were started first come first.
    pub(super) running: Vec<(u32, StartedTask)>,
}

impl fmt::Debug for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stall").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Stall {
    pub(super) fn new(timeout: Duration, around: Option<Arc<Stall>>, started: Instant) -> Self {
        let state =
            State { last: started, was_told: false, waits_since: started, num_settled: 0, running: HashMap::new() };
        Stall { timeout, around, state: Mutex::new(state) }
    }

    /// How long nothing may happen.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether the run has stalled by now.
    pub(crate) fn check(&self, now: Instant) -> StallCheck {
        let mut state = self.state.lock();
        let left = self.timeout.saturating_sub(now.saturating_duration_since(state.waits_since));
        if !left.is_zero() {
            return StallCheck::Later(left);
        }
        match std::mem::replace(&mut state.was_told, true) {
            // Something may happen at once, and would be followed by the next stall so much later.
            true => StallCheck::Later(self.timeout),
            false => StallCheck::Stalled(self.timeout),
        }
    }

    /// What is to be told of the stall; `None` if it is over, or is another by now, since [`check`](Stall::check) found it.
    pub(super) fn standstill(&self) -> Option<Standstill> {
        let state = self.state.lock();
        if !state.was_told {
            return None;
        }
        let mut running: Vec<_> = state.running.iter().map(|(&id, &running)| (id, running)).collect();
        running.sort_unstable_by_key(|&(id, running)| (running.started, id));
        Some(Standstill { since: state.last, num_settled: state.num_settled, running })
    }

    fn is_settled(&self, task: TaskInfo<'_>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.running.remove(&(task.id() as u32));
        state.num_settled += 1;
        drop(state);
        let mut stall = Some(self);
        while let Some(Stall { around, state, .. }) = stall {
            state.lock().gets_on(now);
            stall = around.as_deref();
        }
    }

    fn has_ended(&self, task: TaskInfo<'_>) {
        self.state.lock().running.remove(&(task.id() as u32));
    }
}

impl Callback for Stall {
    fn on_task_started(&self, event: &TaskStarted<'_>) {
        let running = StartedTask { worker: event.worker, started: event.started, attempt: event.attempt };
        let mut state = self.state.lock();
        state.running.insert(event.task.id() as u32, running);
        if state.was_told {
            state.begins_again(Instant::now());
        }
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        self.is_settled(event.task);
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        self.is_settled(event.task);
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        self.is_settled(event.task);
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        self.has_ended(event.task);
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        self.has_ended(event.task);
    }

    fn on_run_stalled(&self, event: &RunStalled<'_>) {
        log::warn!("{event}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_told_once_and_the_next_one_as_long_after_its_own_beginning() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let later = |seconds: u64| StallCheck::Later(Duration::from_secs(seconds));
        let stall = Stall::new(Duration::from_secs(10), None, start);
        assert_eq!(stall.check(at(0)), later(10));
        stall.state.lock().gets_on(at(4));
        assert_eq!(stall.check(at(10)), later(4));
        assert_eq!(stall.check(at(14)), StallCheck::Stalled(Duration::from_secs(10)));
        assert_eq!(stall.check(at(24)), later(10), "it goes on, and was told");
        stall.state.lock().gets_on(at(25));
        assert_eq!(stall.check(at(34)), later(1));
        assert_eq!(stall.check(at(35)), StallCheck::Stalled(Duration::from_secs(10)));
        stall.state.lock().begins_again(at(37));
        assert_eq!(stall.check(at(45)), later(2), "a task has started that was not told of");
        assert_eq!(stall.check(at(47)), StallCheck::Stalled(Duration::from_secs(10)));
        assert_eq!(stall.standstill().map(|it| it.since), Some(at(25)), "nothing was settled since");
        stall.state.lock().gets_on(at(48));
        assert!(stall.standstill().is_none(), "it is over before it has been told");
    }
}
