//! The tasks that cannot leave this process, and the wait for the end of the run.
//!
//! The thread that started the run takes these tasks. If more are ready, helper threads take them,
//! up to the number of workers. So tasks that wait for each other run at the same time, as on the
//! other executors.
//!
//! # What is always true
//!
//! A task that [`Schedule::take_local`] returned is ready, and no other thread gets it. Its cell is
//! empty until this file runs it, and its dependents wait until this file settles it.

#![expect(unsafe_code, reason = "it runs tasks through the engine, and encodes the values in their cells")]

use super::pool::Pool;
use super::settings::LocalTasks;
use crate::engine::{Run, RunAccess, Timer};
use crate::error::{Error, ErrorKind};
use crate::executor::remote::call::KEEP_MIN_BYTES;
use crate::executor::remote::requests::RequestHandler;
use crate::executor::remote::schedule::{Schedule, ScheduleSettings, local_task_refused};
use crate::executor::remote::stored::{StoredValue, encoded_size};
use crate::executor::remote::values::{CellCode, encode as encode_value};
use crate::executor::threads::helpers::Helpers;
use crate::executor::timer::TimerThread;
use crate::graph::crossing::Encoded;
use crate::portable::region::Region;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Executes a run, on all workers or on the worker `pin`.
pub(super) fn execute(
    pool: &Arc<Pool>,
    run: &Arc<Run>,
    num_workers: usize,
    pin: Option<u32>,
    handler: Option<Arc<dyn RequestHandler>>,
) {
    if !run.claim() {
        return;
    }
    run.enter(|worker| {
        let settings = pool.settings();
        let schedule_settings = ScheduleSettings {
            num_slots: pool.num_slots(pin),
            max_attempts: settings.max_attempts.get(),
            codec: settings.codec,
            origin: pool.origin(),
            inheritance: pool.inheritance(run),
            pin,
            handler,
        };
        // A task that was short in another run may take long in this one, because it waits for a
        // task of this run. On a single worker that makes no difference.
        let mean_ns = |code| if pin.is_some() { pool.mean_ns(code) } else { f64::NAN };
        let schedule = Schedule::new(run, worker, schedule_settings, mean_ns);
        if settings.local_tasks == LocalTasks::Error
            && let Some(id) = schedule.first_local(worker)
        {
            return run.stop(local_task_refused(worker, id));
        }
        let (of_pool, of_schedule) = (Arc::downgrade(pool), Arc::downgrade(&schedule));
        schedule.set_on_retry(move || {
            if let (Some(pool), Some(schedule)) = (of_pool.upgrade(), of_schedule.upgrade()) {
                pool.wake_for(&schedule);
            }
        });
        let of_schedule = Arc::downgrade(&schedule);
        run.defer_retries(move |id| {
            if let Some(schedule) = of_schedule.upgrade() {
                schedule.requeue_local(id);
            }
        });
        // A value that a worker reads must be encoded before its task counts as finished.
        run.defer_values();
        pool.add(&schedule);
        LocalThreads { pool, schedule: &schedule, max_threads: num_workers }.run(worker);
        // No more tasks are given out. Running tasks are asked to end, and their workers are killed
        // if they do not.
        schedule.stop();
        let _deadline = (!schedule.is_idle()).then(|| {
            schedule.workers().iter().for_each(|worker| worker.cancel(schedule.number));
            let schedule = Arc::downgrade(&schedule);
            let kill = move || {
                if let Some(schedule) = schedule.upgrade() {
                    schedule.workers().iter().for_each(|worker| worker.kill_cancelled());
                }
            };
            TimerThread::shared().start(settings.cancel_grace, Box::new(kill))
        });
        worker.wait_until(|| schedule.is_idle());
        pool.remove(&schedule);
        Helpers::with_stack(run.stack_size()).withdraw(Arc::as_ptr(&schedule).addr());
        schedule.drop_values();
    });
}

/// The threads of this process that run the local tasks of a run.
struct LocalThreads<'r> {
    pool: &'r Arc<Pool>,
    schedule: &'r Arc<Schedule>,
    max_threads: usize,
}

impl LocalThreads<'_> {
    /// Runs local tasks on this thread, and calls helpers, until the run has ended or was stopped.
    fn run(&self, worker: &RunAccess<'_>) {
        // Stopping the run wakes this thread.
        let _listener = self.schedule.run().stop_on_cancel();
        let num_helpers = Arc::new(AtomicUsize::new(0));
        while !worker.is_finished() && !worker.is_stopped() {
            match self.schedule.take_local() {
                Some(id) => self.run_task(worker, &num_helpers, id),
                None => {
                    let is_over = || worker.is_finished() || worker.is_stopped();
                    worker.wait_until(|| self.schedule.has_local() || is_over());
                }
            }
        }
    }

    fn run_task(&self, worker: &RunAccess<'_>, num_helpers: &Arc<AtomicUsize>, id: u32) {
        // Other ready tasks need another thread: this task may wait for one of them.
        if self.schedule.has_local() && num_helpers.load(Ordering::Relaxed) + 1 < self.max_threads {
            self.call_helper(num_helpers);
        }
        run_local(worker, self.pool, self.schedule, id);
    }

    fn call_helper(&self, num_helpers: &Arc<AtomicUsize>) {
        num_helpers.fetch_add(1, Ordering::Relaxed);
        let (pool, schedule, num_helpers) = (Arc::clone(self.pool), Arc::clone(self.schedule), Arc::clone(num_helpers));
        let max_threads = self.max_threads;
        let team = Arc::as_ptr(&schedule).addr();
        let help = move || {
            let threads = LocalThreads { pool: &pool, schedule: &schedule, max_threads };
            schedule.run().enter(|worker| {
                while let Some(id) = schedule.take_local() {
                    threads.run_task(worker, &num_helpers, id);
                }
            });
            num_helpers.fetch_sub(1, Ordering::Relaxed);
        };
        Helpers::with_stack(self.schedule.run().stack_size()).call(usize::MAX, team, help);
    }
}

fn run_local(worker: &RunAccess<'_>, pool: &Arc<Pool>, schedule: &Arc<Schedule>, id: u32) {
    if let Some(value) = kept_value(worker, pool, schedule, id) {
        schedule.settle(worker, [(id, Some(value))]);
        pool.wake_for(schedule);
        return schedule.local_ended();
    }
    // SAFETY: `take_local` returned the task, so it is ready and runs once.
    let must_settle = catch_unwind(AssertUnwindSafe(|| unsafe { worker.run(id) }))
        .unwrap_or_else(|payload| worker.panicked(id, payload));
    if must_settle && let Some(value) = finish(worker, pool, schedule, id) {
        schedule.settle(worker, [(id, value)]);
        pool.wake_for(schedule);
    }
    schedule.local_ended();
}

/// Accepts the value of a task that has run, and returns it encoded if workers read it. `None` if
/// the value cannot be encoded and the run has stopped.
fn finish(worker: &RunAccess<'_>, pool: &Pool, schedule: &Schedule, id: u32) -> Option<Option<Arc<StoredValue>>> {
    match encode(worker, pool, schedule, id) {
        Ok(None) => {
            accept(worker, id, None);
            Some(None)
        }
        Ok(Some((bytes, regions, code))) => {
            let size = encoded_size(&bytes, &regions);
            accept(worker, id, Some(size as u64));
            // Other runs may read the value of an awaited task too, so its encoding is kept.
            let task = worker.task(id);
            let awaited = task.awaited().filter(|_| size >= KEEP_MIN_BYTES);
            let value = schedule.value(id, &bytes, regions, code, awaited.is_some());
            if let (Some(awaited), Some(value)) = (awaited, &value) {
                awaited.keep(Arc::clone(value) as Arc<dyn Encoded>);
            }
            Some(value)
        }
        // SAFETY: the task has run, and no thread has settled it.
        Err(error) => unsafe { worker.reject_value(id, error) }.then_some(None),
    }
}

/// The encoded value of a task that an earlier run on this pool kept, if only tasks elsewhere read
/// it.
fn kept_value(worker: &RunAccess<'_>, pool: &Pool, schedule: &Schedule, id: u32) -> Option<Arc<StoredValue>> {
    let task = worker.task(id);
    let awaited = task.awaited().filter(|_| !schedule.is_read_here(id) && !schedule.has_sink(id))?;
    let value = awaited.encoded()?.into_any().downcast::<StoredValue>().ok()?;
    (value.origin == pool.origin()).then_some(value)
}

/// Reports the value to callbacks, unless the task has failed.
fn accept(worker: &RunAccess<'_>, id: u32, encoded_bytes: Option<u64>) {
    if worker.cell(id).failure().is_none() {
        // SAFETY: the task has run and its value is in its cell. No thread has settled the task.
        unsafe { worker.accept_value(id, encoded_bytes) };
    }
}

type Encoding = (Vec<u8>, Vec<Region>, CellCode);

/// Encodes the value in a task's cell. `None` if no worker reads it.
fn encode(worker: &RunAccess<'_>, pool: &Pool, schedule: &Schedule, id: u32) -> Result<Option<Encoding>, Error> {
    let cell = worker.cell(id);
    let Some(code) = worker.task(id).kind().value_code else { return Ok(None) };
    if cell.failure().is_some() || schedule.num_remote_readers(id) == 0 {
        return Ok(None);
    }
    // SAFETY: the task has just filled its cell with a value of its type. The task is not settled,
    // so its readers still hold the value.
    match unsafe { encode_value(cell, code, pool.settings().codec, Some(&pool.memory)) } {
        Ok((bytes, regions)) => Ok(Some((bytes, regions, code))),
        Err(problem) => Err(Error::new(ErrorKind::NotPortable, problem)),
    }
}
