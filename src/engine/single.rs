//! One task by itself, whose inputs are values.
//!
//! It does for the task what a [`Run`](super::Run) does, without the parts that serve several
//! tasks, retries, timeouts and observers. So a task that is submitted alone costs 0.1 us instead
//! of 0.6 us (`benches/futures.rs`, 2 cores, 25 November 2026).

#![expect(unsafe_code, reason = "it calls tasks through their untyped kinds")]

use super::cancel::CancelToken;
use super::failure::CallFailure;
use super::panics::{InRun, quietly};
use crate::error::Error;
use crate::graph::name;
use crate::graph::node::TaskRef;
use crate::graph::value::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The number of cells that lie on the stack.
const FEW: usize = 9;

/// Drops the errors of failed inputs.
struct DropFailures<'c>(&'c [Cell]);

impl Drop for DropFailures<'_> {
    fn drop(&mut self) {
        // SAFETY: the call is over, and no other thread has these cells.
        self.0.iter().for_each(|cell| quietly(|| unsafe { cell.sweep_failure() }));
    }
}

/// Calls a task, and lends the cell with its value to `take`, which takes the value out.
///
/// # Errors
/// The failure of the task, with the task's name.
///
/// # Safety
/// `inputs` are the task's, in their order, and each is a value or a settled future. `take` takes a
/// value of the task's type.
pub(crate) unsafe fn call<R>(
    task: TaskRef,
    inputs: &[TaskRef],
    token: &CancelToken,
    take: impl FnOnce(&Cell) -> R,
) -> Result<R, Error> {
    let len = inputs.len();
    let (few, many): ([Cell; FEW], Vec<Cell>);
    let cells: &[Cell] = if len < FEW {
        few = std::array::from_fn(|_| Cell::new(1));
        &few[..=len]
    } else {
        many = (0..=len).map(|_| Cell::new(1)).collect();
        &many
    };
    const FEW_IDS: [u32; FEW] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
    let many_ids: Vec<u32>;
    let ids: &[u32] = if len < FEW {
        &FEW_IDS
    } else {
        many_ids = (0..len as u32).collect();
        &many_ids
    };
    let _in_run = InRun::new();
    let _token = token.enter();
    let failed = |failure: CallFailure| failure.into_error().with_task(name::of_task(task), 1);
    let tolerated = task.tolerated_inputs();
    let _failures = tolerated.is_some().then(|| DropFailures(cells));
    let called = catch_unwind(AssertUnwindSafe(|| {
        for (id, input) in inputs.iter().enumerate() {
            // SAFETY: the kind is the task's own. A value has no inputs, and the cell is new.
            if let Some(error) = unsafe { (input.kind().call)(*input, cells, ids.as_ptr(), id as u32, false) } {
                if tolerated.as_ref().is_some_and(|edges| edges[id]) {
                    let of_input = |failure: CallFailure| failure.into_error().with_task(name::of_task(*input), 1);
                    let error =
                        (*error).downcast().map_or_else(|cause| of_input(CallFailure::Returned(cause)), |it| *it);
                    // SAFETY: the cell is new, and the call has left it empty.
                    unsafe { cells[id].put_failure(id as u32, Some(error.with_own_path()), 1) };
                    continue;
                }
                return Err(match (*error).downcast::<Error>() {
                    Ok(error) => error.needed_by(&name::of_task(task)),
                    Err(cause) => failed(CallFailure::Returned(cause)),
                });
            }
        }
        // SAFETY: the inputs have their values, or errors that the task takes, the ids are those of
        // their cells, and the last cell is the task's. A value that belongs to its node needs no
        // release.
        match unsafe { (task.kind().call)(task, cells, ids.as_ptr(), len as u32, false) } {
            None => Ok(take(&cells[len])),
            Some(error) => Err(failed(CallFailure::Returned(*error))),
        }
    }));
    called.unwrap_or_else(|payload| Err(failed(CallFailure::Panicked(payload))))
}
