//! The inputs of a task that has failed, kept so that it can be called again where one can look: [`Error::replay`].
//!
//! A task of a run whose settings ask for it is called as one that has retries: owned inputs are cloned, and nothing is released. If it
//! fails, it goes on being a reader of its inputs, and its error has a [`ReplayInputs`]. When the run is over, its owner drops all other
//! values, and hands the cells over. The inputs of a task that was run in another process come as they were encoded, and are decoded
//! for each call.
//!
//! # What is always true
//!
//! 1. There is one `ReplayInputs` for a task of a run, and while it is there the task has not let go of its inputs; it does when that is
//!    dropped, which is with the last clone of the error.
//! 2. Once cells are handed over, nobody reads or writes them but replays, and those only read inputs. Own cells are used by one replay
//!    at a time.
//! 3. The readers that cells are handed over with are the tasks whose inputs are kept, so the last of these drops a value.

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

/// See the [module](self).
pub(crate) struct ReplayInputs {
    task: Task,
    task_context: Arc<dyn TaskContext>,
    place: Place,
    is_replaying: AtomicBool,
}

enum Place {
    /// In the cells of the run, which are handed over when that has ended.
    Cells {
        id: u32,
        inputs: Box<[u32]>,
        /// The inputs that have to be let go of, and how their values are dropped.
        released: Box<[(u32, DropValue)]>,
        cells: OnceLock<Arc<Vec<Cell>>>,
    },
    Encoded(Box<dyn EncodedInputs>),
}

type DropValue = unsafe fn(&Cell);

/// The inputs of a task as they crossed to another process.
pub(crate) trait EncodedInputs: Send + Sync {
    /// Decodes them into cells, one after the other, and calls `body`, which does not unwind, with these and an empty one behind them.
    ///
    /// # Errors
    /// One of them cannot be decoded.
    fn with_cells(&self, body: &mut dyn FnMut(&[Cell])) -> Result<(), String>;
}

impl ReplayInputs {
    /// For a task of a run, which does not let go of its inputs.
    pub(super) fn in_run(plan: &Plan, id: u32, task_context: Arc<dyn TaskContext>) -> Self {
        let drop_value =
            |&input: &u32| plan.tasks()[input as usize].kind().drop_value.map(|drop_value| (input, drop_value));
        let released = plan.read_inputs(id).iter().filter_map(drop_value).collect();
        let place = Place::Cells { id, inputs: plan.inputs(id).into(), released, cells: OnceLock::new() };
        ReplayInputs {
            task: plan.tasks()[id as usize].to_task(),
            task_context,
            place,
            is_replaying: AtomicBool::new(false),
        }
    }

    /// For a task whose inputs are encoded; as many as it reads, in their order.
    pub(crate) fn encoded(task: Task, inputs: Box<dyn EncodedInputs>, task_context: Arc<dyn TaskContext>) -> Self {
        ReplayInputs { task, task_context, place: Place::Encoded(inputs), is_replaying: AtomicBool::new(false) }
    }

    /// Calls the task with its inputs.
    ///
    /// # Safety
    /// The cells have the inputs at these ids, and one that is empty, or was before, at `id`, which is the caller's.
    unsafe fn call(&self, cells: &[Cell], inputs: &[u32], id: u32) -> Option<Error> {
        let task = self.task.as_ref();
        // SAFETY: the caller's contract; the inputs are kept, so nothing is taken out of their cells.
        let call = || unsafe { (task.kind().call)(task, cells, inputs.as_ptr(), id, true) };
        let failure = CallFailure::of(catch_unwind(AssertUnwindSafe(call)));
        let error = failure.map(|failure| failure.into_error().with_task(self.name(), 1));
        // SAFETY: the cell is the caller's, and there is no reader for the value.
        panics::quietly(|| unsafe { cells[id as usize].discard(task.kind().drop_value) });
        error
    }

    fn replay_once(&self) -> Result<Option<Error>> {
        let mut failure = None;
        match &self.place {
            Place::Cells { id, inputs, cells, .. } => {
                let cells = cells.get().expect("`replay` has waited for them");
                // SAFETY: the task kept its inputs (rule 1), and this is the only replay (rule 2).
                failure = unsafe { self.call(cells, inputs, *id) };
            }
            Place::Encoded(inputs) => {
                let decoded = inputs.with_cells(&mut |cells| {
                    let own = cells.len() as u32 - 1;
                    let ids: Vec<u32> = (0..own).collect();
                    // SAFETY: the cells are as many as the task reads, with values of their types, and the last is empty.
                    failure = unsafe { self.call(cells, &ids, own) };
                });
                decoded.map_err(|problem| {
                    let message = format!("task {:?} cannot be replayed: {problem}", self.name());
                    Error::new(ErrorKind::NotPortable, message)
                })?;
            }
        }
        Ok(failure)
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
        if let Place::Cells { cells, .. } = &self.place
            && cells.get().is_none()
        {
            // Who is inside of a run may be what that waits for.
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
        Ok(match outcome.expect("task_context call what they are put around")? {
            None => Replayed::Finished,
            Some(error) => Replayed::Failed(error),
        })
    }
}

impl Drop for ReplayInputs {
    fn drop(&mut self) {
        if let Place::Cells { released, cells, .. } = &self.place
            && let Some(cells) = cells.get()
        {
            for &(input, drop_value) in released {
                // One by one: a value that panics when it is dropped keeps no other, and takes nobody with it who only drops an error.
                // SAFETY: the task has not let go of its inputs (rule 1); a kind has a `drop_value` if its type needs releasing.
                let dropped =
                    catch_unwind(AssertUnwindSafe(|| unsafe { cells[input as usize].release_with(drop_value) }));
                let _message = dropped.map_err(panics::describe);
            }
        }
    }
}

/// Those that a run has for its owner.
#[derive(Default)]
pub(crate) struct KeptInputs(HashMap<u32, Arc<ReplayInputs>>);

impl KeptInputs {
    /// That of a task, made at the first call.
    pub(super) fn of(&mut self, id: u32, make: impl FnOnce() -> ReplayInputs) -> Arc<ReplayInputs> {
        Arc::clone(self.0.entry(id).or_insert_with(|| Arc::new(make())))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of them read each task, for those that some do.
    pub(crate) fn num_readers(&self, plan: &Plan) -> HashMap<u32, u32> {
        let mut num_readers = HashMap::new();
        for &input in self.0.keys().flat_map(|&id| plan.read_inputs(id)) {
            *num_readers.entry(input).or_default() += 1;
        }
        num_readers
    }

    /// Gives them the cells of the run.
    ///
    /// # Safety
    /// The run is over and nobody uses the cells any more. The readers of each are those that [`num_readers`](KeptInputs::num_readers) says, and
    /// other cells have no value.
    pub(crate) unsafe fn hand_over(self, cells: Vec<Cell>) {
        let all = Arc::new(cells);
        for kept in self.0.values() {
            if let Place::Cells { cells, .. } = &kept.place {
                let _first = cells.set(Arc::clone(&all));
            }
        }
    }
}
