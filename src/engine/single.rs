//! One task by itself, whose inputs are values.
//!
//! What a [`Run`](super::Run) does for it, without what only several tasks, retries, timeouts or observers need: a task that is handed in alone
//! costs a fifth of a run that way (`benches/futures.rs`: 0.1 us in place of 0.6 us, 2 cores, 25 November 2026).

#![expect(unsafe_code, reason = "it calls tasks through their untyped kinds")]

use super::cancel::CancelToken;
use super::panics::{self, InRun};
use crate::error::{Error, ErrorKind};
use crate::graph::name;
use crate::graph::node::{CallError, TaskRef};
use crate::graph::value::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// So many cells lie on the stack.
const FEW: usize = 9;

/// Calls a task, and lends the cell with its value to `take`, which takes it out.
///
/// # Errors
/// What the task failed of, with its name.
///
/// # Safety
/// `inputs` are the task's, in their order, and each is a value. `take` takes a value of the task's type.
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
    let few_ids: [u32; FEW];
    let many_ids: Vec<u32>;
    let ids: &[u32] = if len < FEW {
        few_ids = std::array::from_fn(|i| i as u32);
        &few_ids
    } else {
        many_ids = (0..len as u32).collect();
        &many_ids
    };
    let _in_run = InRun::new();
    let _token = token.enter();
    let called = catch_unwind(AssertUnwindSafe(|| {
        for (id, input) in inputs.iter().enumerate() {
            // SAFETY: the kind is the task's own; a value needs no inputs, and its cell is its own.
            if let Some(error) = unsafe { (input.kind().call)(*input, cells, ids.as_ptr(), id as u32, false) } {
                return Err(Failure::Input(*error));
            }
        }
        // SAFETY: the inputs have their values, the ids are those of their cells, and the last cell is the task's. Values that belong to their
        // nodes need not be let go of.
        match unsafe { (task.kind().call)(task, cells, ids.as_ptr(), len as u32, false) } {
            None => Ok(take(&cells[len])),
            Some(error) => Err(Failure::Task(*error)),
        }
    }));
    match called {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(Failure::Input(cause))) => Err(match cause.downcast::<Error>() {
            Ok(error) => error.needed_by(&name::of_task(task)),
            Err(cause) => returned(task, cause),
        }),
        Ok(Err(Failure::Task(cause))) => Err(returned(task, cause)),
        Err(payload) => {
            Err(Error::new(ErrorKind::Panicked, panics::describe(payload)).with_task(name::of_task(task), 1))
        }
    }
}

enum Failure {
    Input(CallError),
    Task(CallError),
}

fn returned(task: TaskRef, cause: CallError) -> Error {
    Error::new(ErrorKind::Failed, cause.to_string()).with_source(cause).with_task(name::of_task(task), 1)
}
