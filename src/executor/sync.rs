//! The calling thread alone.

#![expect(
    unsafe_code,
    reason = "it runs tasks through the engine, whose contract it upholds by going in the order of the ids"
)]

use super::Executor;
use crate::engine::{Run, RunAccess};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Runs the tasks one after the other on the calling thread, always in the same order.
///
/// For debugging, for graphs of very small tasks, and as the measure of the others. The order is the one that holds few values at a
/// time.
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

/// Runs all tasks of a run in the order of their ids. No counters are needed: a task's inputs have lower ids.
pub(super) fn run_in_order(worker: &RunAccess<'_>) {
    let num_tasks = worker.num_tasks();
    let mut next = 0;
    while next < num_tasks {
        // Around the loop, not around each task; it is entered again only after a panic.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while next < num_tasks {
                next += 1;
                // SAFETY: every task with a lower id is finished or failed, the inputs are among them; each is run once.
                if !unsafe { worker.run(next - 1) } {
                    return false;
                }
            }
            true
        }));
        if !outcome.unwrap_or_else(|payload| worker.panicked(next - 1, payload)) {
            return;
        }
    }
    worker.finish(num_tasks as usize);
}
