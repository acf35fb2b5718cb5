//! Ready tasks, one by one, for a program's own executors.

#![expect(unsafe_code, reason = "it runs a task through the engine, whose contract the type keeps")]

use super::run::Run;
use crate::error::{Error, ErrorKind};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A task of a [`Run`] that can run now, on any thread.
///
/// Each task is returned once, so it runs once. Dropping a `ReadyTask` without running it stops the
/// run with an error, because the run could not end any more.
pub struct ReadyTask {
    run: Option<Arc<Run>>,
    id: u32,
}

impl Run {
    /// The tasks that are ready from the start, in the best order for a single worker.
    ///
    /// A second call returns no task.
    pub fn ready(&self) -> Vec<ReadyTask> {
        let mut ready = Vec::new();
        if self.claim() {
            let run = self.shared();
            self.enter(|access| {
                access.prepare_parallel(0, u32::MAX);
                ready.extend(access.starts().iter().map(|&id| ReadyTask { run: Some(Arc::clone(&run)), id }));
            });
        }
        ready
    }
}

impl ReadyTask {
    /// Runs the task on this thread. Returns the tasks that have become ready, best first.
    ///
    /// If the run is stopped, the task does not run and no task is returned. The run keeps the
    /// failure of a task.
    pub fn run(mut self) -> Vec<ReadyTask> {
        let Some(run) = self.run.take() else { return Vec::new() };
        let mut ready = Vec::new();
        run.enter(|access| {
            // SAFETY: a `ReadyTask` is made once for each task, when it becomes ready, and this
            // call consumes it.
            let goes_on = catch_unwind(AssertUnwindSafe(|| unsafe { access.run(self.id) }))
                .unwrap_or_else(|payload| access.panicked(self.id, payload));
            if !goes_on {
                return;
            }
            let parallel = access.parallel();
            let dependents = access.dependents().of(self.id).iter();
            let now_ready = dependents.filter(|&&id| access.arrive(&parallel, id));
            ready.extend(now_ready.map(|&id| ReadyTask { run: Some(Arc::clone(&run)), id }));
            run.finish(1);
        });
        ready
    }
}

impl Drop for ReadyTask {
    fn drop(&mut self) {
        if let Some(run) = self.run.take().filter(|run| !run.is_stopped()) {
            run.stop(Error::new(ErrorKind::Executor, "the executor dropped a task without running it"));
        }
    }
}

impl fmt::Debug for ReadyTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyTask").field("id", &self.id).finish_non_exhaustive()
    }
}
