//! The check of the whole state of a run, for tests that drive a run by hand.

use super::run::RunAccess;

/// How far a task has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    Ready,
    Finished,
    /// The task has failed or was skipped, and has released its inputs.
    Failed,
    /// The task has failed and keeps its inputs.
    FailedHolding,
    /// The call panicked, so it may have released some of its inputs.
    FailedUnwinding,
}

impl Progress {
    pub(super) fn is_settled(self) -> bool {
        !matches!(self, Progress::Waiting | Progress::Ready)
    }
}

/// The state of a run as its driver knows it, to compare with the run itself.
pub(super) struct Expected {
    pub(super) progress: Vec<Progress>,
    /// The tasks of the start list that no worker has taken.
    pub(super) starts: Vec<u32>,
    /// The tasks whose values the sink has taken.
    pub(super) taken: Vec<u32>,
}

impl Expected {
    /// Whether the value of a task must be there (`Some(true)`) or must be gone. `None` if a reader
    /// that panicked may have taken it or not.
    pub(super) fn has_value(&self, access: &RunAccess<'_>, id: u32) -> Option<bool> {
        if self.progress[id as usize] != Progress::Finished {
            return Some(false);
        }
        let plan = access.plan();
        let mut num_readers = plan.num_readers()[id as usize];
        num_readers -= u32::from(self.taken.contains(&id));
        let mut num_uncertain = 0;
        for reader in 0..plan.num_tasks() as u32 {
            let reads = plan.read_inputs(reader).iter().filter(|&&input| input == id).count() as u32;
            match self.progress[reader as usize] {
                Progress::Finished | Progress::Failed => num_readers -= reads,
                Progress::FailedUnwinding => num_uncertain += reads,
                Progress::Waiting | Progress::Ready | Progress::FailedHolding => {}
            }
        }
        (num_readers == 0 || num_readers > num_uncertain).then_some(num_readers > 0)
    }

    /// Asserts that the counters of a run are right, and that its values are there exactly as long
    /// as a reader is left. `num_values` counts the values of each task.
    pub(super) fn check(&self, access: &RunAccess<'_>, num_values: impl Fn(u32) -> usize) {
        let plan = access.plan();
        let num_unsettled = self.progress.iter().filter(|progress| !progress.is_settled()).count();
        assert_eq!(access.num_unfinished(), num_unsettled, "the number of unfinished tasks");
        for id in 0..plan.num_tasks() as u32 {
            let progress = self.progress[id as usize];
            let missing = plan.inputs(id).iter().filter(|&&input| !self.progress[input as usize].is_settled());
            let pending = missing.count() + usize::from(self.starts.contains(&id));
            assert_eq!(progress == Progress::Waiting, pending > 0, "task {id} is {progress:?}");
            if pending > 0 {
                assert_eq!(access.pending(id) as usize, pending, "what task {id} waits for");
            }
            let failed = access.cell(id).failure();
            let has_failed = progress.is_settled() && progress != Progress::Finished;
            assert_eq!(failed.is_some(), has_failed, "task {id} is {progress:?}");
            match self.has_value(access, id) {
                Some(is_there) => assert_eq!(num_values(id), usize::from(is_there), "the value of task {id}"),
                None => assert!(num_values(id) <= 1, "the value of task {id}"),
            }
        }
    }
}
