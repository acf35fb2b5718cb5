//! The inputs of a failed task, kept to call the task again under a debugger: [`Error::replay`].
//!
//! If the settings of a run ask for it, every task is called as if it had retries left: owned
//! inputs are cloned, and nothing is released. A task that fails remains a reader of its inputs,
//! and its error has a [`ReplayInputs`]. When the run is over, its owner drops all other values and
//! hands the cells over to the replays. The inputs of a task that ran in another process are kept
//! encoded, and decoded for each call.
//!
//! # What is always true
//!
//! 1. A task of a run has one `ReplayInputs`. While that exists, the task has not released its
//!    inputs, nor left the failures of those whose errors it takes. Dropping it, with the last
//!    clone of the error, releases them.
//! 2. Once cells are handed over, only replays use them. A replay reads the inputs and writes the
//!    task's own cell. Two replays of one task do not run at the same time.
//! 3. The readers of a cell that is handed over are the tasks whose inputs are kept. So the last of
//!    these tasks drops the value.

#![expect(unsafe_code, reason = "it calls tasks through their untyped kinds, as a run does")]

use super::context::TaskContext;
use super::failure::CallFailure;
use super::panics::{self, InRun};
use crate::error::{Error, ErrorKind, Replay, Replayed, Result};
use crate::graph::name;
use crate::graph::node::Task;
use crate::graph::plan::Plan;
use crate::graph::value::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The inputs of one failed task; see the [module](self).
pub(crate) struct ReplayInputs {
    task: Task,
    task_context: Arc<dyn TaskContext>,
    source: InputSource,
    is_replaying: AtomicBool,
}

enum InputSource {
    /// The cells of the run, which are handed over when the run has ended.
    Cells {
        id: u32,
        inputs: Box<[u32]>,
        /// The inputs to release, and the functions that drop their values, if they need one.
        released: Box<[(u32, Option<DropValue>)]>,
        cells: OnceLock<Arc<Vec<Cell>>>,
    },
    Encoded(Box<dyn EncodedInputs>),
}

type DropValue = unsafe fn(&Cell);

/// The inputs of a task as they were sent to another process.
pub(crate) trait EncodedInputs: Send + Sync {
    /// Decodes the inputs into cells, in order, and calls `body` with these cells and an empty one
    /// after them. `body` does not unwind.
    ///
    /// # Errors
    /// An input cannot be decoded.
    fn with_cells(&self, body: &mut dyn FnMut(&[Cell])) -> Result<(), String>;
}

impl ReplayInputs {
    /// For a task of a run, which does not release its inputs.
    pub(super) fn in_run(plan: &Plan, id: u32, task_context: Arc<dyn TaskContext>) -> Self {
        // Any input of a task that takes errors may hold one.
        let must_release = |(_, drop_value): &(u32, Option<DropValue>)| drop_value.is_some() || plan.has_tolerant();
        let released =
            plan.read_inputs(id).iter().map(|&input| (input, plan.tasks()[input as usize].kind().drop_value));
        let released = released.filter(must_release).collect();
        let source = InputSource::Cells { id, inputs: plan.inputs(id).into(), released, cells: OnceLock::new() };
        ReplayInputs {
            task: plan.tasks()[id as usize].to_task(),
            task_context,
            source,
            is_replaying: AtomicBool::new(false),
        }
    }

    /// For a task whose inputs are encoded, in their order.
    pub(crate) fn encoded(task: Task, inputs: Box<dyn EncodedInputs>, task_context: Arc<dyn TaskContext>) -> Self {
        ReplayInputs { task, task_context, source: InputSource::Encoded(inputs), is_replaying: AtomicBool::new(false) }
    }

    /// Calls the task with its inputs. Returns its error if it fails.
    ///
    /// # Safety
    /// The cells with the ids `inputs` have the task's inputs, which stay. The cell `id` is empty,
    /// and no other thread uses it.
    unsafe fn call(&self, cells: &[Cell], inputs: &[u32], id: u32) -> Option<Error> {
        let task = self.task.as_ref();
        // SAFETY: the kind is the task's own. By the caller's contract the inputs are in their
        // cells and the own cell is free. `true` keeps the inputs, so the call takes no value.
        let call = || unsafe { (task.kind().call)(task, cells, inputs.as_ptr(), id, true) };
        let failure = CallFailure::of(catch_unwind(AssertUnwindSafe(call)));
        let error = failure.map(|failure| failure.into_error().with_task(self.name(), 1));
        // SAFETY: no other thread uses the cell, and there is no reader for the value.
        panics::quietly(|| unsafe { cells[id as usize].discard(task.kind().drop_value) });
        error
    }

    fn replay_once(&self) -> Result<Option<Error>> {
        let mut error = None;
        match &self.source {
            InputSource::Cells { id, inputs, cells, .. } => {
                let cells = cells.get().expect("`replay` has waited for them");
                // SAFETY: the task has not released its inputs (rule 1). Only replays use the
                // cells, and no other replay of this task is running (rule 2). Each replay empties
                // the own cell.
                error = unsafe { self.call(cells, inputs, *id) };
            }
            InputSource::Encoded(inputs) => {
                let decoded = inputs.with_cells(&mut |cells| {
                    let own = cells.len() as u32 - 1;
                    let ids: Vec<u32> = (0..own).collect();
                    // SAFETY: `with_cells` fills a new cell for each input, with a value of its
                    // type, and adds an empty one.
                    error = unsafe { self.call(cells, &ids, own) };
                });
                decoded.map_err(|problem| {
                    let message = format!("task {:?} cannot be replayed: {problem}", self.name());
                    Error::new(ErrorKind::NotPortable, message)
                })?;
            }
        }
        Ok(error)
    }

    fn name(&self) -> Arc<str> {
        name::of_task(self.task.as_ref())
    }

    fn not_kept(&self, problem: &str) -> Error {
        Error::new(ErrorKind::NotKept, format!("task {:?} cannot be replayed now: {problem}", self.name()))
    }
}

impl Replay for ReplayInputs {
    fn replay(&self) -> Result<Replayed> {
        if let InputSource::Cells { cells, .. } = &self.source
            && cells.get().is_none()
        {
            // The run may wait for this thread, if it is inside.
            if panics::in_run() {
                return Err(self.not_kept("its run has not ended yet; replay it when that has"));
            }
            cells.wait();
        }
        // Acquire and release: what one replay did to the task's own cell happens before the next.
        if self.is_replaying.swap(true, Ordering::Acquire) {
            return Err(self.not_kept("it is being replayed already"));
        }
        struct Done<'k>(&'k AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        let _done = Done(&self.is_replaying);
        let _in_run = InRun::new();
        let mut outcome = None;
        self.task_context.enter(&mut || outcome = Some(self.replay_once()));
        let error = outcome.expect("a context calls its body")?;
        Ok(error.map_or(Replayed::Finished, Replayed::Failed))
    }
}

impl Drop for ReplayInputs {
    fn drop(&mut self) {
        if let InputSource::Cells { released, cells, .. } = &self.source
            && let Some(cells) = cells.get()
        {
            for &(input, drop_value) in released {
                // One by one: a value that panics when it is dropped must not keep the others
                // alive, nor unwind through code that drops an error.
                let cell = &cells[input as usize];
                // SAFETY: the task has not released its inputs (rule 1), nor left their failures.
                // `drop_value` is that of the input's kind, and is there if the type needs
                // releasing.
                let dropped = catch_unwind(AssertUnwindSafe(|| unsafe {
                    cell.leave_failure();
                    drop_value.inspect(|drop_value| cell.release_with(*drop_value));
                }));
                let _message = dropped.map_err(panics::describe);
            }
        }
    }
}

/// The inputs that the failed tasks of a run have kept.
#[derive(Default)]
pub(crate) struct KeptInputs(HashMap<u32, Arc<ReplayInputs>>);

impl KeptInputs {
    /// The inputs of a task, made at the first call.
    pub(super) fn of(&mut self, id: u32, make: impl FnOnce() -> ReplayInputs) -> Arc<ReplayInputs> {
        Arc::clone(self.0.entry(id).or_insert_with(|| Arc::new(make())))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For each task whose value is kept, the number of failed tasks that read it.
    pub(crate) fn num_readers(&self, plan: &Plan) -> HashMap<u32, u32> {
        let mut num_readers = HashMap::new();
        for &input in self.0.keys().flat_map(|&id| plan.read_inputs(id)) {
            *num_readers.entry(input).or_default() += 1;
        }
        num_readers
    }

    /// Hands the cells of the run over to the replays.
    ///
    /// # Safety
    /// The run is over and no thread uses the cells any more. A cell with a value has as many
    /// readers as [`num_readers`](KeptInputs::num_readers) returns for it.
    pub(crate) unsafe fn hand_over(self, cells: Vec<Cell>) {
        let all = Arc::new(cells);
        for kept in self.0.values() {
            if let InputSource::Cells { cells, .. } = &kept.source {
                let _first = cells.set(Arc::clone(&all));
            }
        }
    }
}
