//! The tasks that cannot leave this process, and the waiting for the end of the run.
//!
//! The thread that started the run takes them itself; when there are more, others help it, up to the number of workers. So tasks that wait
//! for each other find each other here as on the other executors.

#![expect(unsafe_code, reason = "it runs tasks through the engine, and encodes what they have left in their cells")]

use super::pool::Core;
use super::process::KillReason;
use super::protocol::KEEP_MIN_BYTES;
use super::requests::RequestHandler;
use super::schedule::{Schedule, Value, local_task_refused, size};
use super::settings::LocalTasks;
use crate::engine::{CancelToken, Run, RunAccess, Timer, describe_panic};
use crate::error::{Error, ErrorKind};
use crate::executor::threads::helpers::Helpers;
use crate::executor::timer::TimerThread;
use crate::graph::crossing::{Encoded, ValueCode};
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::Encoder;
use crate::portable::region::Region;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Takes a run to its end, on all workers or on one of them.
pub(super) fn execute(
    core: &Arc<Core>,
    run: &Arc<Run>,
    num_workers: usize,
    pin: Option<u32>,
    handler: Option<Arc<dyn RequestHandler>>,
) {
    if !run.claim() {
        return;
    }
    run.enter(|worker| {
        let settings = core.settings();
        let schedule = Schedule::new(core, run, worker, pin, handler);
        if settings.local_tasks == LocalTasks::Error
            && let Some(id) = schedule.first_local(worker)
        {
            return run.stop(local_task_refused(worker, id));
        }
        // A value that is asked for elsewhere has to be encoded before the task can be said to have finished.
        run.defer_values();
        core.add(&schedule);
        serve(worker, core, &schedule, num_workers);
        // Nothing is handed out any more. Tasks that run are told, and their workers killed if that does not help.
        schedule.stop();
        let _deadline = (!schedule.is_quiet()).then(|| {
            schedule.hosts().iter().for_each(|host| host.cancel(schedule.number));
            let schedule = Arc::downgrade(&schedule);
            let kill = move || {
                if let Some(schedule) = schedule.upgrade() {
                    schedule.hosts().iter().for_each(|host| host.kill(KillReason::Cancelled));
                }
            };
            TimerThread::shared().start(settings.cancel_grace, Box::new(kill))
        });
        worker.wait_until(None, || schedule.is_quiet());
        core.remove(&schedule);
        Helpers::Own.withdraw(Arc::as_ptr(&schedule).addr());
        schedule.clear();
    });
}

/// Runs local tasks until the run has ended or was stopped.
fn serve(worker: &RunAccess<'_>, core: &Arc<Core>, schedule: &Arc<Schedule>, max_threads: usize) {
    let run = schedule.run();
    let num_helpers = Arc::new(AtomicUsize::new(0));
    let look = run.has_outer_token().then_some(CancelToken::LOOK);
    while !worker.is_finished() && !worker.is_stopped() {
        let Some(id) = schedule.take_local() else {
            worker.wait_until(look, || schedule.has_local() || worker.is_finished() || worker.is_stopped());
            worker.check_token();
            continue;
        };
        // What else there is needs another thread: this task may wait for it.
        if schedule.has_local() && num_helpers.load(Ordering::Relaxed) + 1 < max_threads {
            call_helper(core, schedule, &num_helpers, max_threads);
        }
        run_local(worker, core, schedule, id);
    }
}

fn call_helper(core: &Arc<Core>, schedule: &Arc<Schedule>, num_helpers: &Arc<AtomicUsize>, max_threads: usize) {
    num_helpers.fetch_add(1, Ordering::Relaxed);
    let (core, schedule, num_helpers) = (Arc::clone(core), Arc::clone(schedule), Arc::clone(num_helpers));
    let team = Arc::as_ptr(&schedule).addr();
    let help = move || {
        let run = Arc::clone(schedule.run());
        run.enter(|worker| {
            while let Some(id) = schedule.take_local() {
                if schedule.has_local() && num_helpers.load(Ordering::Relaxed) + 1 < max_threads {
                    call_helper(&core, &schedule, &num_helpers, max_threads);
                }
                run_local(worker, &core, &schedule, id);
            }
        });
        num_helpers.fetch_sub(1, Ordering::Relaxed);
    };
    Helpers::Own.call(usize::MAX, team, help);
}

fn run_local(worker: &RunAccess<'_>, core: &Arc<Core>, schedule: &Arc<Schedule>, id: u32) {
    if let Some(value) = kept_value(worker, core, schedule, id) {
        schedule.settle(worker, [(id, Some(value))]);
        core.announce_of(schedule);
        return schedule.local_is_over();
    }
    // SAFETY: the task was ready, and `take_local` gives it once.
    let goes_on = catch_unwind(AssertUnwindSafe(|| unsafe { worker.run(id) }))
        .unwrap_or_else(|payload| worker.panicked(id, payload));
    if goes_on {
        let value = match encode(worker, core, schedule, id) {
            Ok(None) => {
                finished(worker, id, None);
                Some(None)
            }
            Ok(Some((bytes, regions, code))) => {
                let size = size(&bytes, &regions);
                finished(worker, id, Some(size as u64));
                // Of a value that other runs may ask for, too, the encoding is kept.
                let awaited = worker.task(id);
                let awaited = awaited.awaited().filter(|_| size >= KEEP_MIN_BYTES);
                let value = schedule.value(core, id, &bytes, regions, code, awaited.is_some());
                if let (Some(awaited), Some(value)) = (awaited, &value) {
                    awaited.keep(Arc::clone(value) as Arc<dyn Encoded>);
                }
                Some(value)
            }
            // SAFETY: the task has run and its dependents have not been told.
            Err(error) => unsafe { worker.reject_value(id, error) }.then_some(None),
        };
        if let Some(value) = value {
            schedule.settle(worker, [(id, value)]);
            core.announce_of(schedule);
        }
    }
    schedule.local_is_over();
}

/// The value of a task that is kept as it crosses, by an earlier run on these workers, if only tasks elsewhere ask for it.
fn kept_value(worker: &RunAccess<'_>, core: &Core, schedule: &Schedule, id: u32) -> Option<Arc<Value>> {
    let task = worker.task(id);
    let awaited = task.awaited().filter(|_| !schedule.is_read_here(id) && !schedule.has_sink(id))?;
    let value = awaited.encoded()?.into_any().downcast::<Value>().ok()?;
    (value.origin == core.origin()).then_some(value)
}

/// Tells those who watch, unless the task has failed.
fn finished(worker: &RunAccess<'_>, id: u32, encoded_bytes: Option<u64>) {
    if worker.cell(id).failure().is_none() {
        // SAFETY: the task has run, and its dependents have not been told.
        unsafe { worker.accept_value(id, encoded_bytes) };
    }
}

type Encoding = (Vec<u8>, Vec<Region>, &'static CodeDescriptor<ValueCode>);

/// The value that a task has left in its cell, for tasks elsewhere; `None` if there are none that ask for it.
fn encode(worker: &RunAccess<'_>, core: &Core, schedule: &Schedule, id: u32) -> Result<Option<Encoding>, Error> {
    let cell = worker.cell(id);
    let Some(code) = worker.task(id).kind().value_code else { return Ok(None) };
    if cell.failure().is_some() || !schedule.is_read_remotely(id) {
        return Ok(None);
    }
    let mut encoder = Encoder::new(core.settings().codec, Some(&core.memory));
    // SAFETY: the task has just filled the cell with a value of its type, and those that ask for it have not let go of it.
    let problem = match catch_unwind(AssertUnwindSafe(|| unsafe { (code.item.encode)(cell, &mut encoder) })) {
        Ok(Ok(())) => {
            let (bytes, regions) = encoder.finish();
            return Ok(Some((bytes, regions, code)));
        }
        Ok(Err(error)) => error.to_string(),
        Err(payload) => format!("encoding panicked: {}", describe_panic(payload)),
    };
    let type_name = (code.item.type_name)();
    Err(Error::new(ErrorKind::NotPortable, format!("cannot encode its value, a `{type_name}`: {problem}")))
}
