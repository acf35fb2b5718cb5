//! Runs and tasks as spans of the `tracing` crate, for whoever subscribes to these.
//!
//! # What is always true
//!
//! 1. What is told goes to the subscriber that was in force where the run was started, also from other threads. There it is in force while
//!    spans are made, left and dropped, because subscribers look for themselves then.
//! 2. A task of this process is within its span while it is called: it is entered and left by the thread that runs the task, which is the one
//!    that tells of its start and of its end. A task in another process has a span from when it was sent to its end, which nobody enters.

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
/// | target | span | events |
/// |---|---|---|
/// | `sprang::run` | `run`, at level info, with `run` (its number), `title` (the name of its output), `scheduler`, `num_tasks` and, at its end, `outcome` and `duration_us` | its end, at info, or at error with the `error`; that it has [stalled](crate::callback::RunStalled), at warn |
/// | `sprang::task` | `task`, at level debug, for each attempt, within the run's, with `run`, `task` (its number), `name`, `worker`, `attempt` and, at its end, `outcome`, `duration_us` and for a task in another process `queued_us` | its end: at debug, at warn if it is tried again, at error if it failed; and, at debug, that it was skipped |
/// | `sprang::worker` | | a worker process was started, at debug, or lost, at warn |
///
/// The span of a run is within the span in force where the run was started. A task that runs in this process is within its own span, and so is
/// what it tells itself, and the runs that it starts. Durations are those of the calls, by the clock of who made them; a span lasts a
/// little longer. What is told goes to the subscriber in force where the run was started.
///
/// A level that nobody subscribes to costs little: a subscriber for level info pays for runs and for failures.
///
/// # Examples
/// ```
/// use sprang::{Spans, callback, delayed};
/// use std::sync::Arc;
///
/// tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::sink).init();
/// let _registration = callback::register(Arc::new(Spans::new())); // all runs of the process
/// let answer = delayed(|| 6 * 7, ()).name("answer");
/// assert_eq!(answer.compute()?, 42);
/// # Ok::<_, sprang::Error>(())
/// ```
#[derive(Default)]
pub struct Spans {
    runs: Mutex<HashMap<RunId, Shown>>,
    tasks: Mutex<HashMap<(RunId, usize), Span>>,
}

/// The span of a run, and who sees it.
#[derive(Clone)]
struct Shown {
    span: Span,
    to: Dispatch,
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").field("num_runs", &self.runs.lock().len()).finish_non_exhaustive()
    }
}

impl Spans {
    /// One that has seen nothing yet.
    pub fn new() -> Self {
        Spans::default()
    }

    /// Tells something of a run to those who see the run.
    fn within<R>(&self, run: RunId, tell: impl FnOnce(&Span) -> R) -> Option<R> {
        let Shown { span, to } = self.runs.lock().get(&run).cloned()?;
        Some(dispatcher::with_default(&to, move || tell(&span)))
    }

    /// An attempt of a task is over, and so is its span, in which `tell` tells of that.
    fn end(&self, task: TaskInfo<'_>, end: End<'_>, tell: impl FnOnce(&Span, &End<'_>)) {
        if task.is_value() {
            return;
        }
        let span = self.tasks.lock().remove(&(task.run(), task.id())).unwrap_or_else(Span::none);
        self.within(task.run(), move |run| {
            if end.worker.is_here() {
                span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
            }
            span.record("outcome", end.outcome);
            span.record("duration_us", end.duration_us());
            if let Some(queued_us) = end.queued_us() {
                span.record("queued_us", queued_us);
            }
            tell(if span.is_disabled() { run } else { &span }, &end);
        });
    }
}

/// How an attempt of a task ended.
struct End<'e> {
    outcome: &'static str,
    worker: WorkerId,
    started: Instant,
    ended: Instant,
    crossing: Option<&'e Crossing>,
}

impl End<'_> {
    fn duration_us(&self) -> u64 {
        micros(self.started, self.ended)
    }

    fn queued_us(&self) -> Option<u64> {
        self.crossing.map(|crossing| micros(crossing.sent, self.started))
    }
}

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
        let to = dispatcher::get_default(Dispatch::clone);
        self.runs.lock().insert(event.run.id(), Shown { span, to });
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
        let TaskFinished { task, worker, started, ended, crossing, .. } = event;
        let end =
            End { outcome: "finished", worker: *worker, started: *started, ended: *ended, crossing: crossing.as_ref() };
        self.end(*task, end, |span, end| {
            debug!(target: TASK, parent: span, name = &*task.name(), duration_us = end.duration_us(), "task finished");
        });
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        let TaskFailed { task, worker, started, ended, crossing, error, .. } = event;
        let end =
            End { outcome: "failed", worker: *worker, started: *started, ended: *ended, crossing: crossing.as_ref() };
        self.end(*task, end, |span, end| {
            error!(
                target: TASK,
                parent: span,
                name = &*task.name(),
                duration_us = end.duration_us(),
                %error,
                "task failed"
            );
        });
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        let TaskRetried { task, worker, started, ended, crossing, error, attempt, .. } = event;
        let end =
            End { outcome: "retried", worker: *worker, started: *started, ended: *ended, crossing: crossing.as_ref() };
        let error = error.as_ref().map(Error::to_string);
        self.end(*task, end, |span, end| {
            warn!(
                target: TASK,
                parent: span,
                name = &*task.name(),
                attempt,
                duration_us = end.duration_us(),
                error,
                "task is tried again"
            );
        });
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        let TaskCancelled { task, worker, started, ended, .. } = event;
        // It was held back, and is not running any more, or runs elsewhere.
        let end = End { outcome: "cancelled", worker: *worker, started: *started, ended: *ended, crossing: None };
        self.end(*task, end, |span, end| {
            debug!(target: TASK, parent: span, name = &*task.name(), duration_us = end.duration_us(), "task cancelled");
        });
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        self.within(event.task.run(), |run| {
            let (task, cause) = (event.task.name(), event.cause.name());
            debug!(target: TASK, parent: run, name = &*task, cause = &*cause, "task skipped");
        });
    }

    fn on_worker_started(&self, event: &WorkerStarted<'_>) {
        let told = self.within(event.run.id(), |run| {
            debug!(target: WORKER, parent: run, worker = %event.worker, "worker started");
        });
        // By a cluster, before there was something to do.
        if told.is_none() {
            debug!(target: WORKER, worker = %event.worker, "worker started");
        }
    }

    fn on_worker_lost(&self, event: &WorkerLost<'_>) {
        let told = self.within(event.run.id(), |run| {
            warn!(target: WORKER, parent: run, worker = %event.worker, error = %event.error, "worker lost");
        });
        if told.is_none() {
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
        let Some(Shown { span: run, to }) = self.runs.lock().remove(&event.run.id()) else { return };
        dispatcher::with_default(&to, move || {
            run.record("outcome", if event.error.is_none() { "finished" } else { "failed" });
            run.record("duration_us", duration_us);
            match &event.error {
                None => info!(target: RUN, parent: &run, duration_us, "run finished"),
                Some(error) => error!(target: RUN, parent: &run, duration_us, %error, "run failed"),
            }
        });
    }
}
