//! Tasks handed out one by one, for executors of a program's own.

#![expect(unsafe_code, reason = "it runs a task through the engine, whose contract the type upholds")]

use super::run::Run;
use crate::error::{Error, ErrorKind};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A task of a [`Run`] that can be run now, on any thread.
///
/// It is handed out once, so a task runs once. If it is dropped without being run, the run is stopped with an error: it could not
/// end any more.
pub struct ReadyTask {
    run: Option<Arc<Run>>,
    id: u32,
}

impl Run {
    /// The tasks that are ready from the start, in the order in which a single worker would do best to take them.
    ///
    /// They are handed out once: a second call gives none.
    pub fn ready(&self) -> Vec<ReadyTask> {
        let mut ready = Vec::new();
        if self.claim() {
            let run = self.shared();
            self.enter(|worker| {
                worker.prepare_parallel(0, u32::MAX);
                ready.extend(worker.starts().iter().map(|&id| ReadyTask { run: Some(Arc::clone(&run)), id }));
            });
        }
        ready
    }
}

impl ReadyTask {
    /// Runs the task on this thread and gives the tasks that have become ready by that, best first.
    ///
    /// Gives none, and does not run the task, if the run has been stopped. A failure of the task is kept by the run.
    pub fn run(mut self) -> Vec<ReadyTask> {
        let Some(run) = self.run.take() else { return Vec::new() };
        let mut ready = Vec::new();
        run.enter(|worker| {
            // SAFETY: a `ReadyTask` is made once for each task, when it becomes ready, and is used up here.
            let go_on = catch_unwind(AssertUnwindSafe(|| unsafe { worker.run(self.id) }))
                .unwrap_or_else(|payload| worker.panicked(self.id, payload));
            if !go_on {
                return;
            }
            let parallel = worker.parallel();
            let dependents = worker.dependents().of(self.id).iter();
            let now_ready = dependents.filter(|&&id| worker.arrive(&parallel, id));
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
