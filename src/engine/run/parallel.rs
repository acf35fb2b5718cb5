//! The counters from which several workers learn that a task is ready.

use super::super::countdown::Countdown;
use crate::graph::plan::Plan;

/// The state that a run needs as soon as a second worker may join.
pub(super) struct Parallel {
    pub(super) pending: Box<[Countdown]>,
    /// The tasks that are ready from the start, and those that wait for their turn; ascending.
    pub(super) starts: Box<[u32]>,
}

/// The counters of a run, looked up once by each worker.
#[derive(Clone, Copy)]
pub(crate) struct ParallelRef<'r>(pub(super) &'r Parallel);

impl Parallel {
    /// For the tasks from `first` on; those before have finished. A task that stands more than
    /// `slack` ranks behind its last input waits for its turn in the start list.
    pub(super) fn new(plan: &Plan, first: u32, slack: u32) -> Self {
        plan.dependents();
        let mut starts = Vec::new();
        let mut pending = Vec::with_capacity(plan.num_tasks());
        pending.extend((0..first).map(|_| Countdown::new(0)));
        let row = &plan.row()[first as usize..];
        let mut rest = &plan.all_inputs()[row[0] as usize..];
        for (id, ends) in (first..).zip(row.windows(2)) {
            let inputs;
            (inputs, rest) = rest.split_at((ends[1] - ends[0]) as usize);
            // If an input is missing, so is the last one.
            let (mut missing, mut last) = (0, 0);
            for &input in inputs {
                missing += u32::from(input >= first);
                last = last.max(input);
            }
            // Without the start list, such a task would run right after its last input, long before
            // its turn: the parts of a split would all be made at once, long before they are
            // needed.
            let is_start = missing == 0 || last.saturating_add(slack) < id;
            if is_start {
                starts.push(id);
            }
            pending.push(Countdown::new(missing + u32::from(is_start)));
        }
        Parallel { pending: pending.into(), starts: starts.into() }
    }
}
