//! From handles to values: resolves the configuration, plans the graph, runs the plan and takes the
//! outputs.

#![expect(unsafe_code, reason = "it owns runs, and takes typed values from untyped cells")]

use super::collection::{
    Collection, Form, HandleList, HandleOutcomes, Handles, HandlesOf, Outcomes, Parts, Values, ValuesOf,
};
use super::config::{self, Errors, OnFailure, Order, Settings, Snapshot};
use crate::engine::{Restore, ResultSink, Run, RunSettings, TaskContext, quietly};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::processes::boot::is_worker;
use crate::executor::timer::TimerThread;
use crate::executor::watchdog::Watchdog;
use crate::executor::{Executor, Scheduler};
use crate::features;
use crate::graph::Delayed;
use crate::graph::node::{Task, TaskRef};
use crate::graph::plan::Plan;
use crate::graph::retry::Backoff;
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use std::any::Any;
use std::cell::Cell as StdCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// Computes several outputs in one run; a task that several outputs need runs once.
///
/// Takes a [`Collection`]: handles, by reference or by value, in tuples, vectors, slices, arrays,
/// options, maps, and nestings of these. Returns the values in the same shape.
///
/// # Examples
/// ```
/// use sprang::{compute, delayed};
///
/// let data = delayed(|| vec![3.0, 1.0, 2.0], ());
/// let max = delayed(|v: &Vec<f64>| v.iter().copied().fold(f64::MIN, f64::max), (&data,));
/// let len = delayed(|v: &Vec<f64>| v.len(), (&data,));
/// let halves = [delayed(|m| m / 2.0, (&max,)), delayed(|m| -m / 2.0, (&max,))];
/// let ((max, len), halves) = compute(((&max, &len), &halves))?;
/// assert_eq!((max, len, halves), (3.0, 3, [1.5, -1.5]));
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Errors
/// The first failure of a task; [`Cancelled`](ErrorKind::Cancelled);
/// [`DuplicateName`](ErrorKind::DuplicateName); a mistake in the [configuration](crate::config).
pub fn compute<C: Collection<Values>>(outputs: C) -> Result<C::Shape> {
    compute_in(&outputs, config::snapshot, false)
}

/// As [`compute`], with a scheduler for this call: a name, a [`Scheduler`], or any [`Executor`].
///
/// # Errors
/// As [`compute`], and for an unknown name.
pub fn compute_with<C: Collection<Values>>(scheduler: impl IntoScheduler, outputs: C) -> Result<C::Shape> {
    compute_in(&outputs, || Ok(config::snapshot()?.with_scheduler(scheduler.into_scheduler()?)), false)
}

/// Computes several outputs in one run and returns a `Result` for each. Tasks that do not depend on
/// a failed task still run.
///
/// # Examples
/// ```
/// use sprang::{compute_each, try_delayed};
///
/// let parse = |text: &str| text.parse::<i32>();
/// let tasks = ["7", "x"].map(|text| try_delayed(parse, (text,)));
/// let results = compute_each(&tasks)?;
/// assert_eq!(results[0].as_ref().ok(), Some(&7));
/// assert_eq!(results[1].as_ref().unwrap_err().message(), "invalid digit found in string");
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Errors
/// Errors of the run as a whole: it was cancelled, or could not start.
pub fn compute_each<C: Collection<Outcomes>>(outputs: C) -> Result<C::Shape> {
    compute_in(&outputs, config::snapshot, true)
}

/// Computes outputs once and returns handles to the results, in the same shape.
///
/// The new handles have their values: computing them runs nothing, and tasks built on them start
/// from the values.
///
/// # Examples
/// ```
/// use sprang::{delayed, persist};
///
/// let table = delayed(|| (0..1000).collect::<Vec<u64>>(), ());
/// let table = persist(&table)?; // computed here, once
/// let sum = delayed(|t: &Vec<u64>| t.iter().sum::<u64>(), (&table,));
/// let max = delayed(|t: &Vec<u64>| *t.iter().max().unwrap(), (&table,));
/// assert_eq!((sum.compute()?, max.compute()?), (499_500, 999));
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Errors
/// As [`compute`].
pub fn persist<C: Collection<Handles>>(outputs: C) -> Result<C::Shape> {
    compute_in(&outputs, config::snapshot, false)
}

/// As [`persist`], with a `Result` for each output: a handle to its value, or its failure. Tasks
/// that do not depend on a failed task still run.
///
/// # Examples
/// ```
/// use sprang::{delayed, persist_each, try_delayed};
///
/// let parse = |text: &str| text.parse::<i32>();
/// let numbers = persist_each(["7", "x", "5"].map(|text| try_delayed(parse, (text,))))?;
/// let (good, bad): (Vec<_>, Vec<_>) = numbers.into_iter().partition(Result::is_ok);
/// assert_eq!(bad.len(), 1);
/// // Parses nothing again.
/// let good: Vec<_> = good.into_iter().flatten().collect();
/// let sum = delayed(|good: sprang::Refs<'_, i32>| good.iter().sum::<i32>(), (&good,));
/// assert_eq!(sum.compute()?, 12);
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Errors
/// As [`compute_each`].
pub fn persist_each<C: Collection<HandleOutcomes>>(outputs: C) -> Result<C::Shape> {
    compute_in(&outputs, config::snapshot, true)
}

/// Plans the graph of the outputs, for computing it many times.
///
/// # Examples
/// ```
/// use sprang::{delayed, prepare};
///
/// let dice = delayed(|| 4, ());
/// let plan = prepare(&dice)?;
/// assert_eq!(plan.num_tasks(), 1);
/// assert_eq!(plan.compute()? + plan.compute_with("sync")?, 8);
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Errors
/// [`DuplicateName`](ErrorKind::DuplicateName), [`TooLarge`](ErrorKind::TooLarge), and mistakes in
/// the configuration.
///
/// # Complexity
/// O(tasks + dependencies) time and space.
pub fn prepare<C: Collection<Values>>(outputs: C) -> Result<Prepared<C>> {
    let listed = HandleList::of::<Values>(&outputs).tasks().to_vec();
    let tasks = listed.iter().map(|task| task.to_task()).collect();
    // SAFETY: `Prepared` keeps handles of the outputs beside the plan.
    let plan = unsafe { plan(&listed) }?;
    Ok(Prepared { plan, outputs, listed, _tasks: tasks })
}

/// Plans, runs and rebuilds a collection.
#[inline]
pub(crate) fn compute_in<F: Form, C: Collection<F>>(
    outputs: &C,
    snapshot: impl FnOnce() -> Result<Snapshot>,
    each: bool,
) -> Result<C::Shape> {
    let handles = HandleList::of::<F>(outputs);
    // SAFETY: the list borrows handles of the outputs, and lives longer than the plan.
    let plan = unsafe { plan(handles.tasks()) }?;
    rebuild(outputs, &plan, handles.tasks(), snapshot()?, each)
}

/// Runs a plan and rebuilds the collection from which it was made.
fn rebuild<F: Form, C: Collection<F>>(
    outputs: &C,
    plan: &Plan,
    listed: &[TaskRef],
    snapshot: Snapshot,
    each: bool,
) -> Result<C::Shape> {
    let run = OwnedRun::execute(plan, snapshot, each)?;
    let shape = outputs.rebuild(&mut Parts::of_run(&run, listed));
    drop(run); // Before the return: if this panics, the shape is dropped here.
    shape
}

/// # Safety
/// The caller keeps handles of the outputs for as long as the plan lives.
unsafe fn plan(outputs: &[TaskRef]) -> Result<Plan> {
    let for_memory = matches!(config::settings()?.order, Order::Memory);
    // SAFETY: the caller keeps handles of the outputs, which is all that `Plan::new` asks for.
    unsafe { Plan::new(outputs, for_memory) }
}

impl<T> Delayed<T> {
    /// Plans the graph behind the handle, and calls a function with the plan.
    pub(crate) fn with_plan<R>(&self, function: impl FnOnce(&Plan) -> R) -> Result<R> {
        // SAFETY: `self` is a handle of the output, and is borrowed until the plan is gone.
        Ok(function(&unsafe { plan(&[self.task_ref()]) }?))
    }
}

impl<T: Send + Sync + 'static> Delayed<T> {
    /// Computes the value, with the configured scheduler.
    ///
    /// The result is not cached: a second compute runs the tasks again. See
    /// [`persist`](Delayed::persist).
    ///
    /// # Errors
    /// As the function [`compute`].
    ///
    /// # Complexity
    /// O(tasks + dependencies), without the tasks themselves.
    pub fn compute(&self) -> Result<T> {
        self.compute_in(config::snapshot()?)
    }

    /// Computes the value with a scheduler for this call: a name, a [`Scheduler`], or any
    /// [`Executor`].
    ///
    /// # Errors
    /// As the function [`compute`], and for an unknown name.
    pub fn compute_with(&self, scheduler: impl IntoScheduler) -> Result<T> {
        self.compute_in(config::snapshot()?.with_scheduler(scheduler.into_scheduler()?))
    }

    /// Not by way of [`Collection`]: a single value need not be `Clone`.
    fn compute_in(&self, snapshot: Snapshot) -> Result<T> {
        // SAFETY: `self` is a handle of the output, and is borrowed until the plan is gone.
        let plan = unsafe { plan(&[self.task_ref()]) }?;
        let run = OwnedRun::execute(&plan, snapshot, false)?;
        // SAFETY: the plan has one output, which is taken once, and the value of a `Delayed<T>` is
        // a `T`.
        let value = unsafe { run.take_output(0, None) };
        drop(run); // Before the return: if this panics, the value is dropped here.
        value
    }

    /// Computes the value once, and returns a handle to it.
    ///
    /// # Errors
    /// As the function [`compute`].
    pub fn persist(&self) -> Result<Delayed<T>>
    where
        T: Clone,
    {
        persist(self)
    }
}

/// A planned graph, made by [`prepare`].
pub struct Prepared<C> {
    plan: Plan,
    outputs: C,
    listed: Vec<TaskRef>,
    /// Keeps the listed tasks alive, whatever `outputs` does.
    _tasks: Vec<Task>,
}

impl<C> fmt::Debug for Prepared<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("num_tasks", &self.num_tasks()).finish_non_exhaustive()
    }
}

impl<C> Prepared<C> {
    /// The number of tasks in one run.
    pub fn num_tasks(&self) -> usize {
        self.plan.num_tasks()
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Computes the outputs with the configured scheduler.
    ///
    /// # Errors
    /// As the function [`compute`].
    pub fn compute(&self) -> Result<ValuesOf<C>>
    where
        C: Collection<Values>,
    {
        self.rebuild::<Values>(config::snapshot()?, false)
    }

    /// Computes the outputs with a scheduler for this call.
    ///
    /// # Errors
    /// As the function [`compute_with`].
    pub fn compute_with(&self, scheduler: impl IntoScheduler) -> Result<ValuesOf<C>>
    where
        C: Collection<Values>,
    {
        self.rebuild::<Values>(config::snapshot()?.with_scheduler(scheduler.into_scheduler()?), false)
    }

    /// Computes the outputs and returns a `Result` for each.
    ///
    /// # Errors
    /// As the function [`compute_each`].
    pub fn compute_each(&self) -> Result<C::Shape>
    where
        C: Collection<Outcomes>,
    {
        self.rebuild::<Outcomes>(config::snapshot()?, true)
    }

    /// Computes the outputs and returns handles to the results.
    ///
    /// # Errors
    /// As the function [`persist`].
    pub fn persist(&self) -> Result<HandlesOf<C>>
    where
        C: Collection<Handles>,
    {
        self.rebuild::<Handles>(config::snapshot()?, false)
    }

    /// Computes the outputs and returns a `Result` with a handle for each.
    ///
    /// # Errors
    /// As the function [`persist_each`].
    pub fn persist_each(&self) -> Result<C::Shape>
    where
        C: Collection<HandleOutcomes>,
    {
        self.rebuild::<HandleOutcomes>(config::snapshot()?, true)
    }

    fn rebuild<F: Form>(&self, snapshot: Snapshot, each: bool) -> Result<C::Shape>
    where
        C: Collection<F>,
    {
        rebuild(&self.outputs, &self.plan, &self.listed, snapshot, each)
    }
}

/// A scheduler for one call: a name, a [`Scheduler`], or an executor.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a scheduler",
    label = "not a scheduler",
    note = "give a name such as `\"sync\"`, a `Scheduler`, an `Executor` or an `Arc` of one"
)]
pub trait IntoScheduler {
    /// # Errors
    /// For an unknown name.
    fn into_scheduler(self) -> Result<Scheduler>;
}

impl IntoScheduler for &str {
    fn into_scheduler(self) -> Result<Scheduler> {
        self.parse()
    }
}

impl IntoScheduler for &String {
    fn into_scheduler(self) -> Result<Scheduler> {
        self.parse()
    }
}

impl IntoScheduler for Scheduler {
    fn into_scheduler(self) -> Result<Scheduler> {
        Ok(self)
    }
}

impl IntoScheduler for &Scheduler {
    fn into_scheduler(self) -> Result<Scheduler> {
        Ok(self.clone())
    }
}

impl IntoScheduler for Arc<dyn Executor> {
    fn into_scheduler(self) -> Result<Scheduler> {
        Ok(Scheduler::Custom(self))
    }
}

impl<E: Executor + 'static> IntoScheduler for Arc<E> {
    fn into_scheduler(self) -> Result<Scheduler> {
        Ok(Scheduler::Custom(self))
    }
}

// Otherwise the message would ask for an executor alone.
#[diagnostic::do_not_recommend]
impl<E: Executor + 'static> IntoScheduler for E {
    fn into_scheduler(self) -> Result<Scheduler> {
        Ok(Scheduler::Custom(Arc::new(self)))
    }
}

impl TaskContext for Snapshot {
    fn enter(&self, body: &mut dyn FnMut()) {
        let _entered = Snapshot::enter(self);
        body();
    }

    fn to_portable(&self) -> (&'static CodeDescriptor<Restore>, Vec<u8>) {
        static RESTORE: CodeDescriptor<Restore> =
            CodeDescriptor::new(|| "the configuration", |bytes| Ok(Box::new(Snapshot::decode(bytes)?)));
        (&RESTORE, self.encode())
    }

    fn environment(&self, is_overridden: &dyn Fn(&OsStr) -> bool) -> u64 {
        config::environment_number(is_overridden)
    }
}

/// A run with its plan and its cells. Dropping it ends the run and drops the values that were not
/// taken.
pub(crate) struct OwnedRun<'p> {
    run: Arc<Run>,
    plan: &'p Plan,
    cells: Vec<Cell>,
    /// The number of outputs that have been taken.
    num_taken: StdCell<usize>,
}

impl<'p> OwnedRun<'p> {
    /// Runs the plan. The returned run is over, and its outputs can be taken.
    fn execute(plan: &'p Plan, snapshot: Snapshot, each: bool) -> Result<Self> {
        let settings = Arc::clone(snapshot.settings());
        settings.scheduler.with_executor(&settings.processes, settings.num_workers, |executor| {
            OwnedRun::execute_on(executor, plan, snapshot, each, None)
        })
    }

    /// As [`OwnedRun::execute`], on this executor. The results that go to the `sink` cannot be
    /// taken afterwards.
    pub(crate) fn execute_on(
        executor: &dyn Executor,
        plan: &'p Plan,
        snapshot: Snapshot,
        each: bool,
        sink: Option<Arc<dyn ResultSink>>,
    ) -> Result<Self> {
        let settings = snapshot.settings();
        // Before the run is made, because a run finds its observers when it is made.
        serve_dashboard(settings)?;
        let run_settings = RunSettings {
            collect_errors: each || matches!(settings.errors, Errors::Collect),
            check_portable: settings.check_portable,
            codec: settings.processes.codec,
            num_workers: settings.num_workers,
            stack_size: settings.stack_size,
            keep_inputs: matches!(settings.on_failure, OnFailure::KeepInputs),
            stall_timeout: settings.stall_timeout,
            // A run with a sink belongs to several submitters.
            run_timeout: settings.run_timeout.filter(|_| sink.is_none()),
            retries: settings.retries,
            backoff: Backoff::exponential(settings.retry_delay).max(settings.retry_max_delay),
        };
        let cells = plan.take_cells();
        // SAFETY: `OwnedRun` closes the run before it returns the cells to the plan, and borrows
        // the plan.
        let run = unsafe { Run::new(plan, &cells, run_settings, Box::new(snapshot), TimerThread::shared(), sink) };
        let owned = OwnedRun { run, plan, cells, num_taken: StdCell::new(0) };
        owned.run.report_start(plan, executor.name());
        let watchdog = Watchdog::of(&owned.run);
        let timeout = owned.run.start_timeout();
        executor.execute(&owned.run);
        drop((watchdog, timeout));
        owned.run.close();
        if owned.run.stop_reason().is_none() && !owned.run.is_finished() {
            let message = format!(
                "the executor {:?} returned before all tasks had run; it must call `Run::wait`",
                executor.name()
            );
            // This wakes the threads that still wait for the run.
            owned.run.stop(Error::new(ErrorKind::Executor, message));
        }
        let reason = owned.run.stop_reason();
        owned.run.report_end(plan, || reason.clone());
        if let Some(reason) = reason {
            drop(owned); // As in `rebuild`.
            return Err(reason);
        }
        Ok(owned)
    }
}

/// Starts the dashboard of this process, once, if the settings ask for one. If it cannot listen,
/// the run starts all the same.
///
/// # Errors
/// If this program was built without a dashboard.
pub(crate) fn serve_dashboard(settings: &Settings) -> Result<()> {
    // The dashboard of the parent shows its workers.
    let Some(address) = settings.dashboard.as_ref().filter(|_| !is_worker()) else { return Ok(()) };
    let Some(serve) = features::SERVE_DASHBOARD else {
        let origin = config::explain("dashboard")?;
        return Err(Error::config(format!(
            "\"dashboard\" is {address:?}, from {}, and this program has none; build it with the feature \"dashboard\" of sprang, or \
             set \"dashboard\" to \"none\"",
            origin.origin()
        )));
    };
    serve(address);
    Ok(())
}

impl Drop for OwnedRun<'_> {
    fn drop(&mut self) {
        // Also while the panic of an executor unwinds.
        self.run.close();
        self.run.report_end(self.plan, || self.run.stop_reason());
        let kept = self.run.take_kept_inputs();
        let is_complete =
            kept.is_empty() && !self.run.is_incomplete() && self.num_taken.get() == self.plan.outputs().len();
        let panicked = if is_complete { None } else { self.sweep(&kept.num_readers(self.plan)) };
        let cells = std::mem::take(&mut self.cells);
        match kept.is_empty() {
            true => self.plan.give_back_cells(cells, is_complete),
            // SAFETY: the run is closed, and `sweep` has dropped all values but those that failed
            // tasks keep, whose readers these are.
            false => unsafe { kept.hand_over(cells) },
        }
        if let Some(payload) = panicked.filter(|_| !std::thread::panicking()) {
            resume_unwind(payload);
        }
    }
}

impl OwnedRun<'_> {
    /// Drops the values that were not taken, except the inputs kept by failed tasks: `num_readers`
    /// has the number of these tasks for each.
    ///
    /// A value that panics when it is dropped does not stop the others; the last panic is returned.
    fn sweep(&self, num_readers: &HashMap<u32, u32>) -> Option<Box<dyn Any + Send>> {
        let mut panicked = None;
        for ((id, cell), task) in self.cells.iter().enumerate().zip(self.plan.tasks()) {
            if self.plan.has_tolerant() && !num_readers.contains_key(&(id as u32)) {
                // An error that panics when it is dropped makes nothing worse.
                // SAFETY: the run is closed, so no task runs.
                quietly(|| unsafe { cell.sweep_failure() });
            }
            if let Some(&num_readers) = num_readers.get(&(id as u32)) {
                // SAFETY: the run is closed, so no task runs; these tasks have not released the
                // value, so the cell has it.
                unsafe { cell.set_readers(num_readers) };
            } else if let Some(drop_value) = task.kind().drop_value {
                // SAFETY: the run is closed, so no task runs; the kind is that of the cell's task.
                let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { cell.sweep(drop_value) }));
                if let Err(payload) = dropped {
                    // The earlier payload may panic itself when it is dropped.
                    std::mem::forget(panicked.replace(payload));
                }
            }
        }
        panicked
    }
}

impl OwnedRun<'_> {
    /// Takes the output of this index.
    ///
    /// # Safety
    /// The output exists, is a `T` and was not taken before. Without `clone`, no other output is
    /// the same task.
    #[inline(always)]
    pub(super) unsafe fn take_output<T>(&self, index: usize, clone: Option<fn(&T) -> T>) -> Result<T> {
        let cell = &self.cells[self.plan.outputs()[index] as usize];
        if cell.has_own_value() {
            // SAFETY: `execute` returns runs that are over. The cell has a value, which the
            // contract above says is a `T` that this output has not taken, and that without `clone`
            // no other output wants.
            let value = unsafe { cell.take_output(clone) };
            // After the call: if cloning panics, the value is left for `sweep`.
            self.num_taken.set(self.num_taken.get() + 1);
            return value.ok_or_else(not_cloneable);
        }
        // SAFETY: the two functions have the same contract.
        unsafe { self.take_output_without_own_value(index, clone) }
    }

    /// Takes an output that failed, or whose value belongs to its node: only the node's kind knows
    /// how that value is cloned.
    ///
    /// # Safety
    /// As [`OwnedRun::take_output`].
    #[cold]
    unsafe fn take_output_without_own_value<T>(&self, index: usize, clone: Option<fn(&T) -> T>) -> Result<T> {
        let id = self.plan.outputs()[index];
        let cell = &self.cells[id as usize];
        if let Some(cause) = cell.failure() {
            self.num_taken.set(self.num_taken.get() + 1);
            return Err(self.run.failure(self.plan, cause, id));
        }
        let of_kind = self.plan.tasks()[id as usize].kind().clone_value;
        // SAFETY: `clone_value` of a kind whose value is a `T` is a `fn(&T) -> T`, and the contract
        // says that it is a `T`.
        let of_kind = of_kind.map(|clone| unsafe { std::mem::transmute::<*const (), fn(&T) -> T>(clone) });
        // SAFETY: `execute` returns runs that are over, and the task has not failed. So the cell
        // has a value, which the contract above says is a `T` that this output has not taken, and
        // that without `clone` no other output wants.
        let value = unsafe { cell.take_output(clone.or(of_kind)) };
        self.num_taken.set(self.num_taken.get() + 1);
        value.ok_or_else(not_cloneable)
    }
}

#[cold]
fn not_cloneable() -> Error {
    Error::new(
        ErrorKind::NotCloneable,
        "a value put into the graph by `local`, or by `as_delayed` of a future, cannot be computed, because it cannot be given away; use \
         it as an argument, or ask the future",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoded_configuration_of_a_run_is_restored() {
        let sent: Box<dyn TaskContext> = Box::new(config::snapshot().unwrap().overriding("errors", "collect").unwrap());
        let (restore, bytes) = sent.to_portable();
        assert_eq!(restore.name(), "the configuration");
        let received = (restore.item)(&bytes).unwrap_or_else(|error| panic!("{error}"));
        let mut seen = None;
        received.enter(&mut || {
            seen = Some((config::get("errors").unwrap(), config::explain("errors").unwrap().to_string()))
        });
        let (errors, explanation) = seen.unwrap();
        assert_eq!(errors, "collect");
        assert!(explanation.starts_with("errors = collect, from the parent process: the argument of the call"));
        assert_eq!(config::get("errors").unwrap(), "stop");
    }
}
