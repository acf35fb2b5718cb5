//! The operations of a thread inside a run: reading the plan and the cells, counting, and waiting.

use super::parallel::{Parallel, ParallelRef};
use super::{Run, RunAccess};
use crate::graph::node::TaskRef;
use crate::graph::plan::{Dependents, Plan};
use crate::graph::value::Cell;

impl<'r> RunAccess<'r> {
    #[inline(always)]
    pub(crate) fn plan(&self) -> &'r Plan {
        // SAFETY: this thread is inside, so the owner has not closed the run and the plan is there
        // (rule 4).
        unsafe { self.run.plan.as_ref() }
    }

    pub(crate) fn num_tasks(&self) -> u32 {
        self.run.num_tasks as u32
    }

    /// Counts tasks that have finished, failed or been skipped.
    pub(crate) fn finish(&self, num_tasks: usize) {
        self.run.finish(num_tasks);
    }

    /// Makes the counters that several workers need; see [`Parallel::new`] for the arguments.
    pub(crate) fn prepare_parallel(&self, first: u32, slack: u32) {
        self.run.parallel.get_or_init(|| Parallel::new(self.plan(), first, slack));
    }

    /// Whether each task needs the one before it, so that at most one is ready at any time.
    pub(crate) fn is_chain(&self) -> bool {
        self.plan().is_chain()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.run.is_finished()
    }

    /// Closes the run, all of whose tasks have finished; see [`Run::close_finished`].
    pub(crate) fn close_finished(&self) {
        self.run.close_finished();
    }

    /// Waits until `condition` holds, or the run has finished or was stopped. Returns whether the
    /// condition holds; it is checked after each [`Run::notify`].
    pub(crate) fn wait_or(&self, condition: impl Fn() -> bool) -> bool {
        let is_over = || self.run.is_finished() || self.run.is_stopped();
        self.wait_until(|| is_over() || condition());
        !is_over()
    }

    /// Waits until `condition` holds, which is checked after each [`Run::notify`].
    pub(crate) fn wait_until(&self, condition: impl Fn() -> bool) {
        let mut ended = self.run.ended.lock();
        while !condition() {
            self.run.on_end.wait(&mut ended);
        }
    }

    /// The tasks to begin with, ascending. A worker that takes one [arrives](RunAccess::arrive) at
    /// it, as an input would.
    pub(crate) fn starts(&self) -> &'r [u32] {
        &self.parallel().0.starts
    }

    #[inline(always)]
    pub(crate) fn is_stopped(&self) -> bool {
        self.run.is_stopped()
    }

    #[inline(always)]
    pub(crate) fn dependents(&self) -> &'r Dependents {
        self.plan().dependents()
    }

    #[inline(always)]
    pub(super) fn inputs_ptr(&self, id: u32) -> *const u32 {
        debug_assert!((id as usize) < self.run.num_tasks());
        // SAFETY: ids are below the number of tasks, and `row` has one entry more than that. Its
        // entries are positions in `all_inputs`.
        unsafe { self.plan().all_inputs().as_ptr().add(*self.plan().row().get_unchecked(id as usize) as usize) }
    }

    #[inline(always)]
    pub(crate) fn task(&self, id: u32) -> TaskRef {
        debug_assert!((id as usize) < self.run.num_tasks());
        // SAFETY: ids are below the number of tasks.
        unsafe { *self.plan().tasks().get_unchecked(id as usize) }
    }

    /// The cells of all tasks.
    #[inline(always)]
    pub(super) fn cells(&self) -> &'r [Cell] {
        // SAFETY: this thread is inside, so the owner has not closed the run and the cells are
        // there (rule 4). There are as many cells as tasks, by the contract of `Run::new`.
        unsafe { std::slice::from_raw_parts(self.run.cells.as_ptr(), self.run.num_tasks) }
    }

    #[inline(always)]
    pub(crate) fn cell(&self, id: u32) -> &'r Cell {
        &self.cells()[id as usize]
    }

    /// One of the inputs of task `id` has been settled, or a worker has taken the task from the
    /// start list. True for the last of these: the caller must run the task.
    #[inline(always)]
    pub(crate) fn arrive(&self, parallel: &ParallelRef<'r>, id: u32) -> bool {
        debug_assert!((id as usize) < parallel.0.pending.len());
        // SAFETY: ids are below the number of tasks, and there is a counter for each.
        unsafe { parallel.0.pending.get_unchecked(id as usize) }.arrive()
    }

    pub(crate) fn parallel(&self) -> ParallelRef<'r> {
        ParallelRef(self.run.parallel.get().expect("the executor has called `prepare_parallel`"))
    }

    /// Stops the run if a token from outside is cancelled.
    pub(crate) fn check_token(&self) {
        if self.run.has_outer_token && !self.run.is_stopped() && self.run.token.is_cancelled() {
            self.run.stop(Run::cancelled());
        }
    }
}

#[cfg(all(test, not(loom)))]
impl RunAccess<'_> {
    pub(in crate::engine) fn num_unfinished(&self) -> usize {
        self.run.num_unfinished.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The counter of a task that is not ready yet.
    pub(in crate::engine) fn pending(&self, id: u32) -> u32 {
        self.parallel().0.pending[id as usize].count()
    }
}
