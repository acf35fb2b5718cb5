//! The executor that runs every task on the calling thread.

#![expect(
    unsafe_code,
    reason = "it runs tasks through the engine, whose contract it keeps by running them in the order of their ids"
)]

use super::Executor;
use crate::engine::{Run, RunAccess};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Runs the tasks one after the other on the calling thread, always in the same order.
///
/// It is for debugging, for graphs of very small tasks, and as a baseline for the other executors.
/// This order holds few values in memory at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncExecutor;

impl Executor for SyncExecutor {
    fn name(&self) -> &str {
        "sync"
    }

    fn execute(&self, run: &Arc<Run>) {
        if run.claim() {
            run.enter(run_in_order);
        }
    }
}

/// Runs all tasks of a run in the order of their ids. It needs no counters, because a task's inputs
/// have lower ids.
pub(super) fn run_in_order(access: &RunAccess<'_>) {
    let num_tasks = access.num_tasks();
    let mut next = 0;
    while next < num_tasks {
        // Panics are caught around the loop, not around each task: only a panic leaves the loop and
        // enters it again.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while next < num_tasks {
                next += 1;
                // SAFETY: every task with a lower id has finished or failed, and the inputs are
                // among these, so the task is ready. `next` grows, so each task runs once.
                if !unsafe { access.run(next - 1) } {
                    return false;
                }
            }
            true
        }));
        if !outcome.unwrap_or_else(|payload| access.panicked(next - 1, payload)) {
            return;
        }
    }
    access.finish(num_tasks as usize);
}
