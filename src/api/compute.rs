//! From handles to values: the configuration is resolved, the graph planned, the plan run, the outputs taken.

#![expect(unsafe_code, reason = "it owns runs, and takes typed values from untyped cells")]

use super::config::{self, Errors, OnFailure, Order, Settings, Snapshot};
use crate::engine::{Restore, ResultSink, Run, RunSettings, TaskContext};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::processes::boot::is_worker;
use crate::executor::timer::TimerThread;
use crate::executor::watchdog::Watchdog;
use crate::executor::{Executor, Scheduler};
use crate::features;
use crate::graph::Delayed;
use crate::graph::node::{Kind, TaskRef};
use crate::graph::pages;
use crate::graph::plan::Plan;
use crate::graph::task::cloneable_value_task;
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use std::any::Any;
use std::cell::Cell as StdCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// Computes several outputs in one run: what they share is done once.
///
/// Takes handles, by reference or by value, in tuples, vectors, slices, arrays, options, maps, and nestings of these, and gives values
/// in the same shape.
///
/// # Examples
/// ```
/// use sprang::{compute, delayed};
///
/// let data = delayed(|| vec![3.0, 1.0, 2.0], ());
/// let max = delayed(|v: &Vec<f64>| v.iter().copied().fold(f64::MIN, f64::max), (&data,));
/// let len = delayed(|v: &Vec<f64>| v.len(), (&data,));
/// let ((max, len), halves) = compute(((&max, &len), [&delayed(|m| m / 2.0, (&max,)), &delayed(|m| -m / 2.0, (&max,))]))?;
/// assert_eq!((max, len, halves), (3.0, 3, [1.5, -1.5]));
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Errors
/// The first failure of a task; [`Cancelled`](ErrorKind::Cancelled); [`DuplicateName`](ErrorKind::DuplicateName); a mistake in the
/// [configuration](crate::config).
pub fn compute<O: Outputs>(outputs: O) -> Result<O::Shape<Values>> {
    prepare(outputs)?.compute()
}

/// As [`compute`], with a scheduler for this call: a name, a [`Scheduler`], or any [`Executor`].
///
/// # Errors
/// As [`compute`], and for an unknown name.
pub fn compute_with<O: Outputs>(scheduler: impl IntoScheduler, outputs: O) -> Result<O::Shape<Values>> {
    prepare(outputs)?.compute_with(scheduler)
}

/// Computes several outputs in one run and gives a `Result` for each: what does not depend on a failure is finished.
///
/// # Examples
/// ```
/// use sprang::{compute_each, try_delayed};
///
/// let tasks: Vec<_> = ["7", "x"].map(|text| try_delayed(|text: &str| text.parse::<i32>(), (text,))).into();
/// let results = compute_each(&tasks)?;
/// assert_eq!(results[0].as_ref().ok(), Some(&7));
/// assert_eq!(results[1].as_ref().unwrap_err().message(), "invalid digit found in string");
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Errors
/// What concerns the run as a whole: it was cancelled, or could not be started.
pub fn compute_each<O: Outputs>(outputs: O) -> Result<O::Shape<Outcomes>> {
    prepare(outputs)?.compute_each()
}

/// Computes outputs once and gives handles, in the same shape, to the results.
///
/// The new handles stand for values that are there: computing them again costs nothing, and tasks built on them start from the values.
///
/// # Examples
/// ```
/// use sprang::{delayed, persist};
///
/// let table = delayed(|| (0..1000).collect::<Vec<u64>>(), ());
/// let table = persist(&table)?; // computed here, and never again
/// let sum = delayed(|t: &Vec<u64>| t.iter().sum::<u64>(), (&table,));
/// let max = delayed(|t: &Vec<u64>| *t.iter().max().unwrap(), (&table,));
/// assert_eq!((sum.compute()?, max.compute()?), (499_500, 999));
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Errors
/// As [`compute`].
pub fn persist<O: Outputs>(outputs: O) -> Result<O::Shape<Handles>> {
    prepare(outputs)?.persist()
}

/// Plans the graph of the outputs, to be computed many times.
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
/// [`DuplicateName`](ErrorKind::DuplicateName), [`TooLarge`](ErrorKind::TooLarge), and mistakes in the configuration.
///
/// # Complexity
/// O(tasks + dependencies) time and space.
pub fn prepare<O: Outputs>(outputs: O) -> Result<Prepared<O>> {
    let mut tasks = Vec::new();
    outputs.visit(&mut tasks);
    // SAFETY: `Prepared` keeps the outputs beside the plan, and nobody can change them there.
    let plan = unsafe { plan(&tasks) }?;
    Ok(Prepared { plan, outputs })
}

/// # Safety
/// As [`Plan::new`].
unsafe fn plan(outputs: &[TaskRef]) -> Result<Plan> {
    let for_memory = matches!(config::settings()?.order, Order::Memory);
    // SAFETY: the caller's contract.
    unsafe { Plan::new(outputs, for_memory) }
}

impl<T> Delayed<T> {
    /// Plans the graph behind the handle, and lets `use_it` look at the plan.
    pub(crate) fn with_plan<R>(&self, use_it: impl FnOnce(&Plan) -> R) -> Result<R> {
        // SAFETY: `self` is a handle of the output.
        Ok(use_it(&unsafe { plan(&[self.task_ref()]) }?))
    }
}

impl<T: Send + Sync + 'static> Delayed<T> {
    /// Computes the value, under the configured scheduler.
    ///
    /// Nothing is remembered: computed again, the tasks run again. See [`persist`](Delayed::persist).
    ///
    /// # Errors
    /// As the function [`compute`].
    ///
    /// # Complexity
    /// O(tasks + dependencies) besides the tasks themselves.
    pub fn compute(&self) -> Result<T> {
        self.compute_in(config::snapshot()?)
    }

    /// Computes the value with a scheduler for this call: a name, a [`Scheduler`], or any [`Executor`].
    ///
    /// # Errors
    /// As the function [`compute`], and for an unknown name.
    pub fn compute_with(&self, scheduler: impl IntoScheduler) -> Result<T> {
        self.compute_in(config::snapshot()?.with_scheduler(scheduler.into_scheduler()?))
    }

    /// Not by way of [`Outputs`]: a single value need not be `Clone`.
    fn compute_in(&self, snapshot: Snapshot) -> Result<T> {
        // SAFETY: `self` is a handle of the output.
        let plan = unsafe { plan(&[self.task_ref()]) }?;
        let run = OwnedRun::execute(&plan, snapshot, false)?;
        // SAFETY: the plan has one output, and the value of a `Delayed<T>` is a `T`.
        let value = unsafe { run.results().take(None) };
        drop(run); // Not after the return: if it panics, what has been returned is neither dropped nor given to anybody.
        value
    }

    /// Computes the value once, and gives a handle to it.
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
pub struct Prepared<O> {
    plan: Plan,
    outputs: O,
}

impl<O> fmt::Debug for Prepared<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("num_tasks", &self.num_tasks()).finish_non_exhaustive()
    }
}

impl<O> Prepared<O> {
    /// How many tasks one run has.
    pub fn num_tasks(&self) -> usize {
        self.plan.num_tasks()
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl<O: Outputs> Prepared<O> {
    /// Computes the outputs, under the scheduler that is configured now.
    ///
    /// # Errors
    /// As the function [`compute`].
    pub fn compute(&self) -> Result<O::Shape<Values>> {
        self.take::<Values>(config::snapshot()?, false)
    }

    /// Computes the outputs with a scheduler for this call.
    ///
    /// # Errors
    /// As the function [`compute_with`].
    pub fn compute_with(&self, scheduler: impl IntoScheduler) -> Result<O::Shape<Values>> {
        self.take::<Values>(config::snapshot()?.with_scheduler(scheduler.into_scheduler()?), false)
    }

    /// Computes the outputs and gives a `Result` for each.
    ///
    /// # Errors
    /// As the function [`compute_each`].
    pub fn compute_each(&self) -> Result<O::Shape<Outcomes>> {
        self.take::<Outcomes>(config::snapshot()?, true)
    }

    /// Computes the outputs and gives handles to the results.
    ///
    /// # Errors
    /// As the function [`persist`].
    pub fn persist(&self) -> Result<O::Shape<Handles>> {
        self.take::<Handles>(config::snapshot()?, false)
    }

    pub(crate) fn take<L: Leaf>(&self, snapshot: Snapshot, each: bool) -> Result<O::Shape<L>> {
        let run = OwnedRun::execute(&self.plan, snapshot, each)?;
        // SAFETY: the plan was made from these outputs.
        let values = unsafe { self.outputs.take::<L>(&mut run.results()) };
        drop(run); // As in `compute_in`.
        values
    }
}

/// What can be given as a scheduler: a name, a [`Scheduler`], or an executor.
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

/// A run, what it works with, and the duty to leave nothing of it behind.
pub(crate) struct OwnedRun<'p> {
    run: Arc<Run>,
    plan: &'p Plan,
    cells: Vec<Cell>,
    /// How many outputs have been taken.
    num_taken: StdCell<usize>,
}

impl<'p> OwnedRun<'p> {
    /// Runs the plan; comes back with a run that has outputs to take.
    fn execute(plan: &'p Plan, snapshot: Snapshot, each: bool) -> Result<Self> {
        let settings = Arc::clone(snapshot.settings());
        settings.scheduler.with_executor(&settings.processes, settings.num_workers, |executor| {
            OwnedRun::execute_on(executor, plan, snapshot, each, None)
        })
    }

    /// As [`OwnedRun::execute`], on this executor. What the `sink` wants is not among the outputs afterwards.
    pub(crate) fn execute_on(
        executor: &dyn Executor,
        plan: &'p Plan,
        snapshot: Snapshot,
        each: bool,
        sink: Option<Arc<dyn ResultSink>>,
    ) -> Result<Self> {
        let settings = snapshot.settings();
        // Before the run is made, which looks around for those who watch.
        serve_dashboard(settings)?;
        let run_settings = RunSettings {
            collect_errors: each || matches!(settings.errors, Errors::Collect),
            check_portable: settings.check_portable,
            codec: settings.processes.codec,
            num_workers: settings.num_workers,
            keep_inputs: matches!(settings.on_failure, OnFailure::KeepInputs),
            stall_timeout: settings.stall_timeout,
        };
        let cells = plan.take_cells();
        // SAFETY: `OwnedRun` closes the run before it gives the cells back, and the plan outlives it.
        let run = unsafe { Run::new(plan, &cells, run_settings, Box::new(snapshot), TimerThread::shared(), sink) };
        let owned = OwnedRun { run, plan, cells, num_taken: StdCell::new(0) };
        owned.run.report_start(plan, executor.name());
        let watchdog = Watchdog::of(&owned.run);
        executor.execute(&owned.run);
        drop(watchdog);
        owned.run.close();
        if owned.run.stop_reason().is_none() && !owned.run.is_finished() {
            let message = format!(
                "the executor {:?} returned before all tasks had run; it must call `Run::wait`",
                executor.name()
            );
            // Whoever still waits for the run is told.
            owned.run.stop(Error::new(ErrorKind::Executor, message));
        }
        let reason = owned.run.stop_reason();
        owned.run.report_end(plan, || reason.clone());
        if let Some(reason) = reason {
            drop(owned); // As in `compute_in`.
            return Err(reason);
        }
        Ok(owned)
    }

    fn results(&self) -> Results<'_> {
        Results { owned: Some(self) }
    }
}

/// Has the dashboard of this process started, if one is wanted and that has not been done. One that cannot listen does not keep the run.
///
/// # Errors
/// If this program has none.
pub(crate) fn serve_dashboard(settings: &Settings) -> Result<()> {
    // The parent's shows what goes on in a worker.
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
        // Also on the way out of an executor that panicked.
        self.run.close();
        self.run.report_end(self.plan, || self.run.stop_reason());
        let kept = self.run.take_kept_inputs();
        let is_complete =
            kept.is_empty() && !self.run.is_incomplete() && self.num_taken.get() == self.plan.outputs().len();
        let panicked = if is_complete { None } else { self.sweep(&kept.num_readers(self.plan)) };
        let cells = std::mem::take(&mut self.cells);
        match kept.is_empty() {
            true => self.plan.give_back_cells(cells, is_complete),
            // SAFETY: the run is closed, and only the values that failed tasks have kept are left, with these as their readers.
            false => unsafe { kept.hand_over(cells) },
        }
        if let Some(payload) = panicked.filter(|_| !std::thread::panicking()) {
            resume_unwind(payload);
        }
    }
}

impl OwnedRun<'_> {
    /// Drops the values that nobody took, but for those that so many failed tasks have kept. One that panics does not keep the others; the last
    /// panic is returned.
    fn sweep(&self, num_readers: &HashMap<u32, u32>) -> Option<Box<dyn Any + Send>> {
        let mut panicked = None;
        for ((id, cell), task) in self.cells.iter().enumerate().zip(self.plan.tasks()) {
            if let Some(&num_readers) = num_readers.get(&(id as u32)) {
                // SAFETY: no task is running or will; these tasks have not let go of the value, so it is there.
                unsafe { cell.set_readers(num_readers) };
            } else if let Some(drop_value) = task.kind().drop_value {
                // SAFETY: no task is running or will; the kind is that of the cell's task.
                let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { cell.sweep(drop_value) }));
                if let Err(payload) = dropped {
                    // An earlier one may panic itself when it is dropped.
                    std::mem::forget(panicked.replace(payload));
                }
            }
        }
        panicked
    }
}

/// The outputs of a run, taken one after the other.
pub struct Results<'r> {
    /// `None` where there is no run, because all outputs have their values elsewhere.
    owned: Option<&'r OwnedRun<'r>>,
}

impl fmt::Debug for Results<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("run", &self.owned.map(|owned| &owned.run)).finish_non_exhaustive()
    }
}

impl<'r> Results<'r> {
    /// For outputs that have their values elsewhere, all of them.
    pub(crate) fn elsewhere() -> Self {
        Results { owned: None }
    }

    pub(crate) fn are_elsewhere(&self) -> bool {
        self.owned.is_none()
    }

    fn run(&self) -> &'r OwnedRun<'r> {
        self.owned.expect("outputs without a run take their values themselves")
    }

    /// The kind of the task whose result is next.
    fn next_kind(&self) -> &Kind {
        let OwnedRun { plan, num_taken, .. } = self.run();
        plan.tasks()[plan.outputs()[num_taken.get()] as usize].kind()
    }

    /// Takes the next output.
    ///
    /// # Safety
    /// The outputs are taken in the order in which they were listed for the plan, and the next one is a `T`. Without `clone`, no other
    /// output is the same task.
    #[inline(always)]
    unsafe fn take<T>(&mut self, clone: Option<fn(&T) -> T>) -> Result<T> {
        let OwnedRun { plan, cells, num_taken, .. } = self.run();
        let cell = &cells[plan.outputs()[num_taken.get()] as usize];
        if cell.has_own_value() {
            // SAFETY: the run is over, and the cell's task has finished with a `T`.
            let value = unsafe { cell.take_output(clone) };
            // Not earlier: if cloning panics, something is left to sweep.
            num_taken.set(num_taken.get() + 1);
            return value.ok_or_else(not_cloneable);
        }
        // SAFETY: the caller's contract.
        unsafe { self.take_from_elsewhere(clone) }
    }

    /// Takes the next output whose value is not in its cell, because it failed or belongs to its node, which is the only one to know how it is
    /// cloned.
    ///
    /// # Safety
    /// As [`Results::take`].
    #[cold]
    unsafe fn take_from_elsewhere<T>(&mut self, clone: Option<fn(&T) -> T>) -> Result<T> {
        let OwnedRun { run, plan, cells, num_taken } = self.run();
        let id = plan.outputs()[num_taken.get()];
        let cell = &cells[id as usize];
        if let Some(cause) = cell.failure() {
            num_taken.set(num_taken.get() + 1);
            return Err(run.failure(plan, cause, id));
        }
        let of_kind = plan.tasks()[id as usize].kind().clone_value;
        // SAFETY: the kind of a task whose value is a `T` keeps a `fn(&T) -> T`.
        let of_kind = of_kind.map(|clone| unsafe { std::mem::transmute::<*const (), fn(&T) -> T>(clone) });
        // SAFETY: the run is over, and the cell's task has finished with a `T`.
        let value = unsafe { cell.take_output(clone.or(of_kind)) };
        num_taken.set(num_taken.get() + 1);
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

/// What is taken for each handle of a shape.
pub trait Leaf {
    /// What stands in the place of a handle to a `T`.
    type Of<T: Clone + Send + Sync + 'static>;
    /// # Safety
    /// As [`Results::take`].
    #[doc(hidden)]
    unsafe fn take<T: Clone + Send + Sync + 'static>(results: &mut Results<'_>) -> Result<Self::Of<T>>;
    /// The same of a result that is elsewhere.
    #[doc(hidden)]
    fn of<T: Clone + Send + Sync + 'static>(result: Result<&T>) -> Result<Self::Of<T>>;
}

/// A value for each handle: what [`compute`] gives.
#[derive(Debug)]
pub struct Values;

/// A `Result` for each handle: what [`compute_each`] gives.
#[derive(Debug)]
pub struct Outcomes;

/// A handle to the result for each handle: what [`persist`] gives.
#[derive(Debug)]
pub struct Handles;

impl Leaf for Values {
    type Of<T: Clone + Send + Sync + 'static> = T;

    #[inline(always)]
    unsafe fn take<T: Clone + Send + Sync + 'static>(results: &mut Results<'_>) -> Result<T> {
        // SAFETY: the caller's contract.
        unsafe { results.take(Some(T::clone)) }
    }

    fn of<T: Clone + Send + Sync + 'static>(result: Result<&T>) -> Result<T> {
        result.cloned()
    }
}

impl Leaf for Outcomes {
    type Of<T: Clone + Send + Sync + 'static> = Result<T>;

    unsafe fn take<T: Clone + Send + Sync + 'static>(results: &mut Results<'_>) -> Result<Result<T>> {
        // SAFETY: the caller's contract.
        Ok(unsafe { results.take(Some(T::clone)) })
    }

    fn of<T: Clone + Send + Sync + 'static>(result: Result<&T>) -> Result<Result<T>> {
        Ok(result.cloned())
    }
}

impl Leaf for Handles {
    type Of<T: Clone + Send + Sync + 'static> = Delayed<T>;

    unsafe fn take<T: Clone + Send + Sync + 'static>(results: &mut Results<'_>) -> Result<Delayed<T>> {
        let code = results.next_kind().value_code;
        // SAFETY: the caller's contract.
        let mut task = cloneable_value_task(unsafe { results.take(Some(T::clone)) }?);
        if let Some(code) = code {
            task.set_value_code(code);
        }
        Ok(Delayed::from_task(task))
    }

    fn of<T: Clone + Send + Sync + 'static>(result: Result<&T>) -> Result<Delayed<T>> {
        result.map(|value| Delayed::from_task(cloneable_value_task(value.clone())))
    }
}

/// Handles to compute: one, or a tuple, vector, slice, array, option or map of such things.
///
/// The values of the handles must be `Clone`, because the same handle may be there twice.
///
/// # Safety
/// `visit` lists the handles in the order in which `take` takes their results, with their types. They are owned, and the same ones for as
/// long as nobody has `&mut` access.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be computed",
    label = "not a handle whose value is `Clone`, or a shape of such handles",
    note = "compute takes `&Delayed<T>` or `Delayed<T>` with `T: Clone`, and tuples, vectors, slices, arrays, options and maps of these",
    note = "a handle whose value is not `Clone` is computed on its own: `handle.compute()`"
)]
pub unsafe trait Outputs {
    /// The shape, with something else in the place of the handles.
    type Shape<L: Leaf>;
    #[doc(hidden)]
    fn visit(&self, tasks: &mut Vec<TaskRef>);
    /// # Safety
    /// The results are those of a run of what `visit` listed, and the next one is the first of these.
    #[doc(hidden)]
    unsafe fn take<L: Leaf>(&self, results: &mut Results<'_>) -> Result<Self::Shape<L>>;
}

// Otherwise the message would be the one for `Clone`.
#[diagnostic::do_not_recommend]
// SAFETY: both take the one handle.
unsafe impl<T: Clone + Send + Sync + 'static> Outputs for Delayed<T> {
    type Shape<L: Leaf> = L::Of<T>;

    fn visit(&self, tasks: &mut Vec<TaskRef>) {
        tasks.push(self.task_ref());
    }

    #[inline(always)]
    unsafe fn take<L: Leaf>(&self, results: &mut Results<'_>) -> Result<L::Of<T>> {
        // SAFETY: the caller's contract; the value of a `Delayed<T>` is a `T`.
        unsafe { L::take::<T>(results) }
    }
}

// SAFETY: as what it refers to.
unsafe impl<O: Outputs + ?Sized> Outputs for &O {
    type Shape<L: Leaf> = O::Shape<L>;

    fn visit(&self, tasks: &mut Vec<TaskRef>) {
        (**self).visit(tasks);
    }

    #[inline(always)]
    unsafe fn take<L: Leaf>(&self, results: &mut Results<'_>) -> Result<O::Shape<L>> {
        // SAFETY: the caller's contract.
        unsafe { (**self).take::<L>(results) }
    }
}

// SAFETY: both go over the items in order.
unsafe impl<O: Outputs> Outputs for [O] {
    type Shape<L: Leaf> = Vec<O::Shape<L>>;

    fn visit(&self, tasks: &mut Vec<TaskRef>) {
        self.iter().for_each(|item| item.visit(tasks));
    }

    unsafe fn take<L: Leaf>(&self, results: &mut Results<'_>) -> Result<Vec<O::Shape<L>>> {
        let mut values = pages::vec_with_capacity(self.len());
        for item in self {
            // SAFETY: the caller's contract, item by item.
            values.push(unsafe { item.take::<L>(results) }?);
        }
        Ok(values)
    }
}

// SAFETY: as a slice.
unsafe impl<O: Outputs> Outputs for Vec<O> {
    type Shape<L: Leaf> = Vec<O::Shape<L>>;

    fn visit(&self, tasks: &mut Vec<TaskRef>) {
        self[..].visit(tasks);
    }

    unsafe fn take<L: Leaf>(&self, results: &mut Results<'_>) -> Result<Vec<O::Shape<L>>> {
        // SAFETY: the caller's contract.
        unsafe { self[..].take::<L>(results) }
    }
}

// SAFETY: as a slice.
unsafe impl<O: Outputs, const N: usize> Outputs for [O; N] {
    type Shape<L: Leaf> = [O::Shape<L>; N];

    fn visit(&self, tasks: &mut Vec<TaskRef>) {
        self[..].visit(tasks);
    }

    unsafe fn take<L: Leaf>(&self, results: &mut Results<'_>) -> Result<[O::Shape<L>; N]> {
        // SAFETY: the caller's contract.
        let items = unsafe { self[..].take::<L>(results) }?;
        Ok(items.try_into().unwrap_or_else(|_| unreachable!("there are as many results as handles")))
    }
}

// SAFETY: both go over the items in order.
unsafe impl<O: Outputs> Outputs for Option<O> {
    type Shape<L: Leaf> = Option<O::Shape<L>>;

    fn visit(&self, tasks: &mut Vec<TaskRef>) {
        self.iter().for_each(|item| item.visit(tasks));
    }

    unsafe fn take<L: Leaf>(&self, results: &mut Results<'_>) -> Result<Option<O::Shape<L>>> {
        // SAFETY: the caller's contract.
        self.as_ref().map(|item| unsafe { item.take::<L>(results) }).transpose()
    }
}

// SAFETY: both go over the items in order; a map that is not changed keeps its order.
unsafe impl<K: Clone + Ord, O: Outputs> Outputs for BTreeMap<K, O> {
    type Shape<L: Leaf> = BTreeMap<K, O::Shape<L>>;

    fn visit(&self, tasks: &mut Vec<TaskRef>) {
        self.values().for_each(|item| item.visit(tasks));
    }

    unsafe fn take<L: Leaf>(&self, results: &mut Results<'_>) -> Result<BTreeMap<K, O::Shape<L>>> {
        // SAFETY: the caller's contract, item by item.
        self.iter().map(|(key, item)| Ok((key.clone(), unsafe { item.take::<L>(results) }?))).collect()
    }
}

// SAFETY: both go over the items in order; a map that is not changed keeps its order.
unsafe impl<K: Clone + Eq + Hash, O: Outputs, S: BuildHasher + Default> Outputs for HashMap<K, O, S> {
    type Shape<L: Leaf> = HashMap<K, O::Shape<L>, S>;

    fn visit(&self, tasks: &mut Vec<TaskRef>) {
        self.values().for_each(|item| item.visit(tasks));
    }

    unsafe fn take<L: Leaf>(&self, results: &mut Results<'_>) -> Result<HashMap<K, O::Shape<L>, S>> {
        // SAFETY: the caller's contract, item by item.
        self.iter().map(|(key, item)| Ok((key.clone(), unsafe { item.take::<L>(results) }?))).collect()
    }
}

// SAFETY: there is no handle.
unsafe impl Outputs for () {
    type Shape<L: Leaf> = ();

    fn visit(&self, _: &mut Vec<TaskRef>) {}

    unsafe fn take<L: Leaf>(&self, _: &mut Results<'_>) -> Result<()> {
        Ok(())
    }
}

macro_rules! tuple {
    ($($A:ident $i:tt),*) => {
        // SAFETY: both go over the items in order.
        unsafe impl<$($A: Outputs),*> Outputs for ($($A,)*) {
            type Shape<Lf: Leaf> = ($($A::Shape<Lf>,)*);

            fn visit(&self, tasks: &mut Vec<TaskRef>) {
                $(self.$i.visit(tasks);)*
            }

            unsafe fn take<Lf: Leaf>(&self, results: &mut Results<'_>) -> Result<Self::Shape<Lf>> {
                // SAFETY: the caller's contract, item by item.
                Ok(($(unsafe { self.$i.take::<Lf>(results) }?,)*))
            }
        }
    };
}
for_each_arity!(tuple);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_a_run_is_put_in_force_by_what_was_sent_of_it() {
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
