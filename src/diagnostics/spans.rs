//! Runs and tasks as spans of the `tracing` crate.
//!
//! # What is always true
//!
//! 1. All spans and events of a run go to the subscriber that was in force where the run was
//!    started, even from other threads. Threads put it in force while they make, exit and drop
//!    spans, because subscribers read the current dispatcher at these moments.
//! 2. A task of this process runs inside its span. The thread that runs the task enters and exits
//!    the span, because that thread reports the start and the end of the task. A task in another
//!    process has a span from when it was sent to its end, which no thread enters.

use crate::engine::callback::{
    Callback, Crossing, RunFinished, RunId, RunStalled, RunStarted, TaskCancelled, TaskFailed, TaskFinished, TaskInfo,
    TaskRetried, TaskSkipped, TaskStarted, WorkerId, WorkerLost, WorkerStarted,
};
use crate::error::Error;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::time::Instant;
use tracing::dispatcher::{self, Dispatch};
use tracing::field::Empty;
use tracing::{Span, debug, debug_span, error, info, info_span, warn};

const RUN: &str = "sprang::run";
const TASK: &str = "sprang::task";
const WORKER: &str = "sprang::worker";

/// A [`Callback`] that shows runs and tasks to subscribers of the [`tracing`] crate.
///
/// - Target `sprang::run`: the span `run`, at level info, for each run, with the fields `run` (its
///   id), `title` (the name of its output), `scheduler`, `num_tasks` and, at its end, `outcome` and
///   `duration_us`. Its events are the end, at info, or at error with the `error`; and a
///   [stall](crate::callback::RunStalled), at warn.
/// - Target `sprang::task`: the span `task`, at level debug, for each attempt, inside the run's,
///   with the fields `run`, `task` (its id), `name`, `worker`, `attempt` and, at its end,
///   `outcome`, `duration_us` and, for a task in another process, `queued_us`. Its event is the
///   end: at debug, at warn if the task is retried, at error if it failed. A skipped task is an
///   event at debug.
/// - Target `sprang::worker`: events for a started worker process, at debug, and a lost one, at
///   warn.
///
/// The parent of a run's span is the span that was current where the run was started. A task that
/// runs in this process runs inside its own span, and so do its own events and the runs that it
/// starts. Durations are those of the calls, by the clock of the process that made them; a span
/// lasts a little longer. All spans and events go to the subscriber that was in force where the run
/// was started.
///
/// A level without a subscriber costs little: with a subscriber for level info, only runs and
/// failures cost time.
///
/// # Examples
/// ```
/// use sprang::{Spans, callback, delayed};
/// use std::sync::Arc;
///
/// let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG);
/// subscriber.with_writer(std::io::sink).init();
/// let _registration = callback::register(Arc::new(Spans::new())); // all runs of the process
/// let answer = delayed(|| 6 * 7, ()).name("answer");
/// assert_eq!(answer.compute()?, 42);
/// # Ok::<_, sprang::Error>(())
/// ```
#[derive(Default)]
pub struct Spans {
    runs: Mutex<HashMap<RunId, RunSpan>>,
    tasks: Mutex<HashMap<(RunId, usize), Span>>,
}

/// The span of a run, and its subscriber.
#[derive(Clone)]
struct RunSpan {
    span: Span,
    subscriber: Dispatch,
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").field("num_runs", &self.runs.lock().len()).finish_non_exhaustive()
    }
}

impl Spans {
    /// An observer without runs.
    pub fn new() -> Self {
        Spans::default()
    }

    /// Calls `body` with the span of a run, while the run's subscriber is in force. `None` if the
    /// run is unknown.
    fn within<R>(&self, run: RunId, body: impl FnOnce(&Span) -> R) -> Option<R> {
        let RunSpan { span, subscriber } = self.runs.lock().get(&run).cloned()?;
        Some(dispatcher::with_default(&subscriber, move || body(&span)))
    }

    /// Closes the span of an attempt. `report` emits the event of its end in that span, or in the
    /// run's if the attempt has none.
    fn end(&self, task: TaskInfo<'_>, end: AttemptTimes, outcome: &str, report: impl FnOnce(&Span, u64)) {
        if task.is_value() {
            return;
        }
        let span = self.tasks.lock().remove(&(task.run(), task.id())).unwrap_or_else(Span::none);
        let (worker, started, ended, crossing) = end;
        let duration_us = micros(started, ended);
        self.within(task.run(), move |run| {
            if worker.is_here() {
                span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
            }
            span.record("outcome", outcome);
            span.record("duration_us", duration_us);
            if let Some(crossing) = crossing {
                span.record("queued_us", micros(crossing.sent, started));
            }
            report(if span.is_disabled() { run } else { &span }, duration_us);
        });
    }
}

/// The worker of an attempt, when it started, when it ended, and how it crossed to another process.
type AttemptTimes = (WorkerId, Instant, Instant, Option<Crossing>);

fn micros(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_micros() as u64
}

/// The name of a run's first output, and whether there are more.
fn title(event: &RunStarted<'_>) -> String {
    let plan = event.run.plan();
    match plan.outputs() {
        [] => "nothing".to_owned(),
        [output] => plan.name(*output).to_string(),
        [first, others @ ..] => format!("{} and {} more", plan.name(*first), others.len()),
    }
}

impl Callback for Spans {
    fn on_run_started(&self, event: &RunStarted<'_>) {
        if event.run.starts_worker() {
            return;
        }
        let span = info_span!(
            target: RUN,
            "run",
            run = event.run.id().get(),
            title = title(event),
            scheduler = event.scheduler,
            num_tasks = event.run.num_tasks(),
            outcome = Empty,
            duration_us = Empty,
        );
        let subscriber = dispatcher::get_default(Dispatch::clone);
        self.runs.lock().insert(event.run.id(), RunSpan { span, subscriber });
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        let task = event.task;
        if task.is_value() {
            return;
        }
        let span = self.within(task.run(), |run| {
            debug_span!(
                target: TASK,
                parent: run,
                "task",
                run = task.run().get(),
                task = task.id(),
                name = &*task.name(),
                worker = %event.worker,
                attempt = event.attempt,
                outcome = Empty,
                duration_us = Empty,
                queued_us = Empty,
            )
        });
        let Some(span) = span.filter(|span| !span.is_disabled()) else { return };
        if event.worker.is_here() {
            span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
        }
        self.tasks.lock().insert((task.run(), task.id()), span);
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        let &TaskFinished { task, worker, started, ended, crossing, .. } = event;
        self.end(task, (worker, started, ended, crossing), "finished", |span, duration_us| {
            debug!(target: TASK, parent: span, name = &*task.name(), duration_us, "task finished");
        });
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        let &TaskFailed { task, worker, started, ended, crossing, ref error, .. } = event;
        self.end(task, (worker, started, ended, crossing), "failed", |span, duration_us| {
            error!(target: TASK, parent: span, name = &*task.name(), duration_us, %error, "task failed");
        });
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        let &TaskRetried { task, worker, started, ended, crossing, ref error, attempt, .. } = event;
        let error = error.as_ref().map(Error::to_string);
        self.end(task, (worker, started, ended, crossing), "retried", |span, duration_us| {
            warn!(target: TASK, parent: span, name = &*task.name(), attempt, duration_us, error, "task retried");
        });
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        let &TaskCancelled { task, worker, started, ended, .. } = event;
        self.end(task, (worker, started, ended, None), "cancelled", |span, duration_us| {
            debug!(target: TASK, parent: span, name = &*task.name(), duration_us, "task cancelled");
        });
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        self.within(event.task.run(), |run| {
            let (task, cause) = (event.task.name(), event.cause.name());
            debug!(target: TASK, parent: run, name = &*task, cause = &*cause, "task skipped");
        });
    }

    fn on_worker_started(&self, event: &WorkerStarted<'_>) {
        let reported = self.within(event.run.id(), |run| {
            debug!(target: WORKER, parent: run, worker = %event.worker, "worker started");
        });
        // A cluster started the worker before it had a task for it, in a run without a span.
        if reported.is_none() {
            debug!(target: WORKER, worker = %event.worker, "worker started");
        }
    }

    fn on_worker_lost(&self, event: &WorkerLost<'_>) {
        let reported = self.within(event.run.id(), |run| {
            warn!(target: WORKER, parent: run, worker = %event.worker, error = %event.error, "worker lost");
        });
        if reported.is_none() {
            warn!(target: WORKER, worker = %event.worker, error = %event.error, "worker lost");
        }
    }

    fn on_run_stalled(&self, event: &RunStalled<'_>) {
        let RunStalled { num_running, num_waiting, .. } = event;
        self.within(event.run.id(), |run| {
            warn!(target: RUN, parent: run, num_running, num_waiting, stall = %event, "run stalled");
        });
    }

    fn on_run_finished(&self, event: &RunFinished<'_>) {
        let duration_us = micros(event.started, event.ended);
        let Some(RunSpan { span: run, subscriber }) = self.runs.lock().remove(&event.run.id()) else { return };
        dispatcher::with_default(&subscriber, move || {
            run.record("outcome", if event.error.is_none() { "finished" } else { "failed" });
            run.record("duration_us", duration_us);
            match &event.error {
                None => info!(target: RUN, parent: &run, duration_us, "run finished"),
                Some(error) => error!(target: RUN, parent: &run, duration_us, %error, "run failed"),
            }
        });
    }
}
