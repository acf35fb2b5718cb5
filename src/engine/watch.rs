//! Reports the events of one run to the callbacks that watch it.

use super::callback::{
    Callback, CancelRun, Crossing, Frame, Observers, RunFinished, RunHandle, RunIds, RunInfo, RunStalled, RunStarted,
    RunningTask, StartedWorker, TaskCancelled, TaskFailed, TaskFinished, TaskInfo, TaskReady, TaskRetried, TaskSkipped,
    TaskStarted, ValueReleased, ValueStored, WorkerId, WorkerLost, WorkerStarted, has_watchers,
};
use super::stall::{Stall, Standstill, StartedTask};
use super::tracker::{ReadyValueTracker, TaskEnd, TrackerEvent};
use crate::error::Error;
use crate::graph::plan::Plan;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The callbacks that watch one run, and the state that their events need.
pub(super) struct Watch {
    ids: RunIds,
    /// The frame of the thread that started the run.
    outer: Frame,
    started: Instant,
    observers: Observers,
    /// One of the observers.
    stall: Option<Arc<Stall>>,
    /// The run continues after a failure.
    collects_errors: bool,
    tracker: Option<ReadyValueTracker>,
    /// Tasks whose start was reported and whose end another thread, or a later step, will report.
    /// A task that is to be sent again stays, with its number of attempts.
    in_flight: Mutex<HashMap<u32, InFlight>>,
    has_ended: AtomicBool,
}

/// A task that runs in another process, or whose value the executor has not confirmed yet.
#[derive(Clone, Debug)]
struct InFlight {
    worker: WorkerId,
    sent: Instant,
    sent_bytes: u64,
    /// When the call began, when it ended, and when this process learned of that.
    ran: Option<(Instant, Instant, Instant)>,
    attempt: u32,
    is_running: bool,
    /// This process ran the task.
    is_here: bool,
}

/// An attempt that a thread of this process has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    worker: WorkerId,
    started: Instant,
    number: u32,
}

/// An attempt that is over.
struct EndedAttempt {
    worker: WorkerId,
    started: Instant,
    ended: Instant,
    attempt: u32,
    crossing: Option<Crossing>,
    /// The current time, if it is known: reading the clock takes longer than the rest of a report.
    now: Option<Instant>,
}

impl Attempt {
    fn ended(self, ended: Instant) -> EndedAttempt {
        let Attempt { worker, started, number: attempt } = self;
        EndedAttempt { worker, started, ended, attempt, crossing: None, now: Some(ended) }
    }
}

impl InFlight {
    fn ended(&self, received_bytes: u64) -> EndedAttempt {
        let &InFlight { worker, sent, sent_bytes, attempt, .. } = self;
        let (started, ended, received) = self.ran.unwrap_or_else(|| {
            let now = Instant::now();
            (sent, now, now)
        });
        let crossing = (!self.is_here).then_some(Crossing { sent, received, sent_bytes, received_bytes });
        EndedAttempt { worker, started, ended, attempt, crossing, now: None }
    }
}

impl Watch {
    /// The callbacks that watch a run of this plan that this thread is about to start; `None` if
    /// there are none.
    pub(super) fn of_this_thread(
        plan: &Plan,
        collects_errors: bool,
        stall_timeout: Option<Duration>,
    ) -> Option<Box<Watch>> {
        let has_any = has_watchers() || stall_timeout.is_some();
        if has_any && !Observers::is_in_callback() { Watch::new(plan, collects_errors, stall_timeout) } else { None }
    }

    #[cold]
    fn new(plan: &Plan, collects_errors: bool, stall_timeout: Option<Duration>) -> Option<Box<Watch>> {
        let outer = Frame::current();
        let stall = stall_timeout.map(|timeout| Arc::new(Stall::new(timeout, outer.stall.clone(), Instant::now())));
        let own = stall.clone().map(|stall| -> Arc<dyn Callback> { stall });
        // `None` is possible: the last registration may have been dropped in this moment.
        let observers = Observers::new(own, &outer)?;
        let interests = observers.interests;
        let of_values = interests.values || interests.releases;
        let tracker = (interests.ready || of_values)
            .then(|| ReadyValueTracker::new(plan, interests.ready, of_values, outer.cluster.is_some()));
        Some(Box::new(Watch {
            ids: RunIds::new(outer.cluster.as_ref().filter(|_| !outer.starts_worker), plan),
            outer,
            started: Instant::now(),
            observers,
            stall,
            collects_errors,
            tracker,
            in_flight: Mutex::default(),
            has_ended: AtomicBool::new(false),
        }))
    }

    /// The frame to put in force around the tasks of the run.
    pub(super) fn task_frame(&self) -> Frame {
        self.outer.of_tasks(self.ids, self.stall.as_ref())
    }

    /// Whether to find the size of the value of each task that has ended, and whether to measure
    /// it by its encoding.
    pub(super) fn sizes(&self) -> (bool, bool) {
        (self.observers.interests.sizes, self.observers.interests.measures)
    }

    /// Derives ready tasks, stored values and released values from the end of a task, which has
    /// been reported.
    #[inline]
    fn track_end(&self, plan: &Plan, id: u32, now: Option<Instant>, end: impl FnOnce() -> TaskEnd) {
        if let Some(tracker) = &self.tracker {
            let end = end();
            // A failure that is not tolerated stops a run that does not collect errors. Then no
            // further task becomes ready, and the values go with the run.
            if self.collects_errors || matches!(end, TaskEnd::Finished(_)) || !plan.is_fatal(id) {
                // One time for all of the events, and none without an event.
                let mut at = now;
                let report = |event| self.report(plan, event, *at.get_or_insert_with(Instant::now));
                tracker.ended(plan, id, end, report);
            }
        }
    }

    fn report(&self, plan: &Plan, event: TrackerEvent, now: Instant) {
        match event {
            TrackerEvent::Stored(..) if !self.observers.interests.values => {}
            TrackerEvent::Stored(id, size) => {
                let event = ValueStored { task: self.task(plan, id), size, stored: now };
                self.observers.notify_if(|it| it.values, |callback| callback.on_value_stored(&event));
            }
            TrackerEvent::Released(id, size) => {
                let event = ValueReleased { task: self.task(plan, id), size, released: now };
                self.observers.notify_if(|it| it.values || it.releases, |callback| callback.on_value_released(&event));
            }
            TrackerEvent::Ready(id) => {
                let event = TaskReady { task: self.task(plan, id), ready: now };
                self.observers.notify_if(|it| it.ready, |callback| callback.on_task_ready(&event));
            }
        }
    }

    fn task<'e>(&self, plan: &'e Plan, id: u32) -> TaskInfo<'e> {
        TaskInfo { run: self.ids, id, plan }
    }

    fn run_info<'e>(&'e self, plan: &'e Plan) -> RunInfo<'e> {
        let Frame { run: parent, cluster, starts_worker, .. } = &self.outer;
        let cluster = cluster.as_ref();
        RunInfo { ids: self.ids, parent: *parent, cluster, starts_worker: *starts_worker, plan }
    }

    // ---- the run ----

    pub(super) fn run_started(&self, plan: &Plan, scheduler: &str, run: Weak<dyn CancelRun>) {
        let handle = RunHandle { id: self.ids.run, run };
        let event = RunStarted { run: self.run_info(plan), scheduler, started: self.started, handle };
        self.observers.notify(|callback| callback.on_run_started(&event));
        if let Some(tracker) = &self.tracker {
            let now = Instant::now();
            tracker.begin(|id| self.report(plan, TrackerEvent::Ready(id), now));
        }
    }

    /// The run is closed. Reports the end of every task and value that is left, then that of the
    /// run.
    pub(super) fn run_finished(&self, plan: &Plan, error: Option<Error>) {
        if self.has_ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let ended = Instant::now();
        let in_flight = std::mem::take(&mut *self.in_flight.lock());
        for (id, task) in in_flight.into_iter().filter(|(_, task)| task.is_running) {
            let InFlight { worker, sent: started, .. } = task;
            let event = TaskCancelled { task: self.task(plan, id), worker, started, ended };
            self.observers.notify(|callback| callback.on_task_cancelled(&event));
        }
        if let Some(tracker) = &self.tracker {
            tracker.close(|event| self.report(plan, event, ended));
        }
        let event = RunFinished { run: self.run_info(plan), started: self.started, ended: Instant::now(), error };
        self.observers.notify(|callback| callback.on_run_finished(&event));
    }

    pub(super) fn stall(&self) -> Option<&Stall> {
        self.stall.as_deref()
    }

    /// Reports a stall, unless it is over or all tasks are settled.
    pub(super) fn run_stalled(&self, plan: &Plan, is_stopped: bool) {
        const MOST_RUNNING: usize = 32;
        const MOST_DEPENDENTS: usize = 8;
        let Some(Standstill { since, num_settled, running: started }) = self.stall().and_then(Stall::standstill) else {
            return;
        };
        let num_running = started.len();
        let num_waiting = plan.num_tasks().saturating_sub(num_settled + num_running);
        if num_running == 0 && (num_waiting == 0 || is_stopped) {
            return;
        }
        let running = started.into_iter().take(MOST_RUNNING).map(|(id, StartedTask { worker, started, attempt })| {
            let mut dependents = plan.dependents().of(id).to_vec();
            dependents.dedup();
            dependents.truncate(MOST_DEPENDENTS);
            let dependents = dependents.into_iter().map(|id| self.task(plan, id)).collect();
            let num_waiting = plan.num_downstream(id);
            RunningTask { task: self.task(plan, id), worker, started, attempt, dependents, num_waiting }
        });
        let (running, now) = (running.collect(), Instant::now());
        let event = RunStalled { run: self.run_info(plan), since, now, running, num_running, num_waiting, is_stopped };
        self.observers.notify(|callback| callback.on_run_stalled(&event));
    }

    pub(super) fn worker_started(&self, plan: &Plan, started: &StartedWorker) {
        let &StartedWorker { restarts, memory_limit, ref handle } = started;
        let (worker, handle) = (handle.worker(), handle.clone());
        let event = WorkerStarted { run: self.run_info(plan), worker, restarts, memory_limit, handle };
        self.observers.notify(|callback| callback.on_worker_started(&event));
    }

    pub(super) fn worker_lost(&self, plan: &Plan, worker: WorkerId, error: Error) {
        let event = WorkerLost { run: self.run_info(plan), worker, error };
        self.observers.notify(|callback| callback.on_worker_lost(&event));
    }

    // ---- the end of tasks, wherever they run ----

    pub(super) fn task_skipped(&self, plan: &Plan, id: u32, cause: u32) {
        let event = TaskSkipped { task: self.task(plan, id), cause: self.task(plan, cause) };
        self.observers.notify(|callback| callback.on_task_skipped(&event));
        self.track_end(plan, id, None, || TaskEnd::Failed);
    }

    // Inlined, because a call would copy the attempt.
    #[inline(always)]
    fn task_finished(&self, plan: &Plan, id: u32, attempt: EndedAttempt, encoded_bytes: Option<u64>) {
        let EndedAttempt { worker, started, ended, attempt, crossing, now } = attempt;
        let task = self.task(plan, id);
        let event = TaskFinished { task, worker, started, ended, attempt, crossing, encoded_bytes };
        self.observers.notify(|callback| callback.on_task_finished(&event));
        self.track_end(plan, id, now, || TaskEnd::Finished(event.value()));
    }

    fn task_failed(&self, plan: &Plan, id: u32, attempt: EndedAttempt, error: Error, end: TaskEnd) {
        let EndedAttempt { worker, started, ended, attempt, crossing, now } = attempt;
        let event = TaskFailed { task: self.task(plan, id), worker, started, ended, attempt, error, crossing };
        self.observers.notify(|callback| callback.on_task_failed(&event));
        self.track_end(plan, id, now, || end);
    }

    fn task_retried(&self, plan: &Plan, id: u32, attempt: EndedAttempt, error: Option<Error>) {
        let EndedAttempt { worker, started, ended, attempt, crossing, .. } = attempt;
        let event = TaskRetried { task: self.task(plan, id), worker, started, ended, attempt, error, crossing };
        self.observers.notify(|callback| callback.on_task_retried(&event));
    }

    // ---- tasks that this thread runs ----

    #[inline]
    pub(super) fn begin(&self, plan: &Plan, id: u32, number: u32) -> Attempt {
        let attempt = Attempt { worker: WorkerId::here(), started: Instant::now(), number };
        let Attempt { worker, started, number } = attempt;
        let event = TaskStarted { task: self.task(plan, id), worker, started, attempt: number };
        self.observers.notify(|callback| callback.on_task_started(&event));
        attempt
    }

    /// The call of an attempt has returned a value, of `encoded_bytes` if it was measured.
    #[inline]
    pub(super) fn finished(&self, plan: &Plan, id: u32, attempt: Attempt, ended: Instant, encoded_bytes: Option<u64>) {
        self.task_finished(plan, id, attempt.ended(ended), encoded_bytes);
    }

    /// The call of an attempt has returned, and the executor will confirm or reject the value.
    pub(super) fn hold_back(&self, id: u32, attempt: Attempt, ended: Instant) {
        let ran = Some((attempt.started, ended, ended));
        let Attempt { worker, started: sent, number: attempt } = attempt;
        let task = InFlight { worker, sent, sent_bytes: 0, ran, attempt, is_running: true, is_here: true };
        self.in_flight.lock().insert(id, task);
    }

    /// `is_holding` says that the task may not have released its inputs.
    pub(super) fn failed(
        &self,
        plan: &Plan,
        id: u32,
        attempt: Attempt,
        ended: Instant,
        error: Error,
        is_holding: bool,
    ) {
        let end = if is_holding { TaskEnd::FailedHolding } else { TaskEnd::Failed };
        self.task_failed(plan, id, attempt.ended(ended), error, end);
    }

    pub(super) fn retried(&self, plan: &Plan, id: u32, attempt: Attempt, ended: Instant, error: Error) {
        self.task_retried(plan, id, attempt.ended(ended), Some(error));
    }

    // ---- tasks in flight ----

    /// The executor has sent a task to a worker, with `sent_bytes` of arguments.
    pub(super) fn sent(&self, plan: &Plan, id: u32, worker: WorkerId, sent_bytes: u64) {
        let started = Instant::now();
        // A task that is sent together with its inputs is ready now.
        if self.tracker.as_ref().is_some_and(|tracker| tracker.becomes_ready(id)) {
            self.report(plan, TrackerEvent::Ready(id), started);
        }
        let attempt = {
            let mut in_flight = self.in_flight.lock();
            let attempt = in_flight.get(&id).map_or(0, |task| task.attempt) + 1;
            let (ran, is_running, is_here) = (None, true, false);
            in_flight.insert(id, InFlight { worker, sent: started, sent_bytes, ran, attempt, is_running, is_here });
            attempt
        };
        let event = TaskStarted { task: self.task(plan, id), worker, started, attempt };
        self.observers.notify(|callback| callback.on_task_started(&event));
    }

    /// The worker has run the task, by its own clock between these times. The outcome follows.
    pub(super) fn ran(&self, id: u32, started: Instant, ended: Instant) {
        let received = Instant::now();
        if let Some(task) = self.in_flight.lock().get_mut(&id) {
            let started = started.clamp(task.sent, received);
            task.ran = Some((started, ended.clamp(started, received), received));
        }
    }

    /// Removes a task in flight, whose last attempt is over.
    fn take_in_flight(&self, plan: &Plan, id: u32) -> InFlight {
        let is_running = self.in_flight.lock().get(&id).is_some_and(|task| task.is_running);
        if !is_running {
            // The task failed before it was sent. Its end still needs a start.
            self.sent(plan, id, WorkerId::here(), 0);
        }
        self.in_flight.lock().remove(&id).expect("a task is settled by one thread")
    }

    /// A task in flight has a value, of `encoded_bytes` if it was encoded.
    pub(super) fn in_flight_finished(&self, plan: &Plan, id: u32, encoded_bytes: Option<u64>) {
        let attempt = self.take_in_flight(plan, id).ended(encoded_bytes.unwrap_or(0));
        self.task_finished(plan, id, attempt, encoded_bytes);
    }

    pub(super) fn in_flight_failed(&self, plan: &Plan, id: u32, error: Error) {
        self.task_failed(plan, id, self.take_in_flight(plan, id).ended(0), error, TaskEnd::Failed);
    }

    /// The attempt of a task in flight is over, and another will follow. Reports nothing if the
    /// task is not in flight.
    pub(super) fn in_flight_retried(&self, plan: &Plan, id: u32, error: Option<Error>) {
        let attempt = match self.in_flight.lock().get_mut(&id) {
            Some(task) if task.is_running => {
                task.is_running = false;
                task.ended(0)
            }
            _ => return,
        };
        self.task_retried(plan, id, attempt, error);
    }
}
