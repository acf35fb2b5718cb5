//! Derives ready tasks and held values from the ends of tasks, for callbacks that ask.
//!
//! Executors do not count ready tasks or live values: the calling thread runs tasks without
//! counters, and the last reader of a value releases it without a report. So a
//! [`ReadyValueTracker`] keeps its own counts. Only runs with a callback that
//! [asks](super::callback::Interests) have one.
//!
//! # What is always true
//!
//! 1. The end of each task is [recorded](ReadyValueTracker::ended) once, after the task has
//!    released its inputs and before its dependents are announced. So the events that follow from
//!    it come before those of its dependents. The end of a task whose failure stops the run is not
//!    recorded.
//! 2. The low bits of `waiting[t]` count the inputs of `t` whose end is not recorded. The thread
//!    that lowers them to zero, or sends `t` to a worker together with its inputs, sets `REPORTED`;
//!    the thread that sets it first reports that `t` is ready. No thread reports this after the
//!    failure of an input whose error `t` does not take.
//! 3. `readers[t]` counts the readers of the value of `t` whose end is not recorded, and the
//!    outputs. The thread that lowers it to zero, or [closes](ReadyValueTracker::close) the
//!    tracker, reports the release of the value if `held[t]` has its size. A task that keeps its
//!    inputs, or may do so, stays a reader until the run ends.
//! 4. A run of futures holds none of its outputs: each is reported as released as soon as it is
//!    stored, before its future has it. So a callback that adds up the values of runs and of
//!    futures counts each value once.

use crate::graph::plan::Plan;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// An input has failed whose error the task does not take.
const INPUT_FAILED: u32 = 1 << 31;
/// The task was reported as ready.
const REPORTED: u32 = 1 << 30;
const COUNT: u32 = REPORTED - 1;

/// The entry in `held` of a task without a value.
const NOTHING: u64 = u64::MAX;
/// Set in an entry of `held` if the size includes all that the value owns.
const WHOLE: u64 = 1 << 63;

/// The memory that a value takes, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ValueSize {
    /// The number of bytes.
    pub bytes: u64,
    /// Whether this includes everything that the value owns, because the type can
    /// [tell](crate::callback::OwnedBytes), or because the value was encoded and this is the size
    /// of its encoding. Otherwise it is the size of the type: 24 for a vector of any length.
    pub is_whole: bool,
}

impl ValueSize {
    pub(super) fn of(inline: usize, whole: Option<u64>) -> Self {
        ValueSize { bytes: whole.unwrap_or(inline as u64), is_whole: whole.is_some() }
    }

    /// As one number; [`NOTHING`] stands for `None`.
    pub(crate) fn to_bits(size: Option<Self>) -> u64 {
        size.map_or(NOTHING, |size| size.bytes.min(WHOLE - 2) | if size.is_whole { WHOLE } else { 0 })
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits != NOTHING).then_some(ValueSize { bytes: bits & !WHOLE, is_whole: bits & WHOLE != 0 })
    }
}

/// Counts ready tasks and held values; see the [module](self).
pub(super) struct ReadyValueTracker {
    /// Empty if no callback asks for ready tasks.
    waiting: Box<[AtomicU32]>,
    /// Empty, as `held`, if no callback asks for values.
    readers: Box<[AtomicU32]>,
    held: Box<[AtomicU64]>,
    /// The outputs that belong to futures as soon as they are stored, ascending.
    given: Box<[u32]>,
}

/// The end of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskEnd {
    /// The task has left a value of this size, or one without readers.
    Finished(Option<ValueSize>),
    /// The task has failed or was skipped, and has released its inputs.
    Failed,
    /// The task has failed, and keeps its inputs or may keep some of them, until the run ends.
    FailedHolding,
}

impl ReadyValueTracker {
    /// # Complexity
    /// O(tasks) time and space: 4 bytes per task for ready tasks, 12 for values.
    pub(super) fn new(plan: &Plan, of_ready: bool, of_values: bool, is_of_futures: bool) -> Self {
        let ids = 0..plan.num_tasks() as u32;
        let waiting = match of_ready {
            true => {
                plan.dependents();
                ids.map(|id| AtomicU32::new(plan.inputs(id).len() as u32)).collect()
            }
            false => Box::default(),
        };
        let (readers, held) = match of_values {
            true => (
                plan.num_readers().iter().map(|&count| AtomicU32::new(count)).collect(),
                plan.num_readers().iter().map(|_| AtomicU64::new(NOTHING)).collect(),
            ),
            false => Default::default(),
        };
        let mut given = match of_values && is_of_futures {
            true => plan.outputs().to_vec(),
            false => Vec::new(),
        };
        given.sort_unstable();
        ReadyValueTracker { waiting, readers, held, given: given.into() }
    }

    /// Reports the tasks that are ready before any has run.
    pub(super) fn begin(&self, report: impl FnMut(u32)) {
        let ready = (0..).zip(&self.waiting).filter(|(_, waiting)| waiting.load(Relaxed) == 0);
        ready.filter(|&(id, _)| self.becomes_ready(id)).map(|(id, _)| id).for_each(report);
    }

    /// Marks a task as reported. True for the first call, whose caller reports it.
    pub(super) fn becomes_ready(&self, id: u32) -> bool {
        self.waiting.get(id as usize).is_some_and(|waiting| waiting.fetch_or(REPORTED, Relaxed) & REPORTED == 0)
    }

    /// A task has ended. Reports values that are stored or released, and then tasks that are ready.
    pub(super) fn ended(&self, plan: &Plan, id: u32, ending: TaskEnd, mut report: impl FnMut(TrackerEvent)) {
        if !self.readers.is_empty() {
            if let TaskEnd::Finished(Some(size)) = ending {
                // Relaxed: the engine's counters order this before the readers of the value.
                self.held[id as usize].store(ValueSize::to_bits(Some(size)), Relaxed);
                report(TrackerEvent::Stored(id, size));
                if self.given.binary_search(&id).is_ok() {
                    self.release(id, &mut report);
                }
            }
            if ending != TaskEnd::FailedHolding {
                for &input in plan.read_inputs(id) {
                    // The last reader needs no read-modify-write: no other thread changes the
                    // count.
                    let readers = &self.readers[input as usize];
                    if readers.load(Relaxed) == 1 || readers.fetch_sub(1, Relaxed) == 1 {
                        self.release(input, &mut report);
                    }
                }
            }
        }
        if !self.waiting.is_empty() {
            let mut arrive = |dependent: u32| {
                let before = self.waiting[dependent as usize].fetch_sub(1, Relaxed);
                if before & COUNT == 1 && before & INPUT_FAILED == 0 && self.becomes_ready(dependent) {
                    report(TrackerEvent::Ready(dependent));
                }
            };
            if matches!(ending, TaskEnd::Finished(_)) {
                plan.dependents().of(id).iter().for_each(|&dependent| arrive(dependent));
            } else {
                for (dependent, takes_error) in plan.dependents_of_failed(id) {
                    if !takes_error {
                        self.waiting[dependent as usize].fetch_or(INPUT_FAILED, Relaxed);
                    }
                    arrive(dependent);
                }
            }
        }
    }

    /// The run has ended. Reports the release of every value that is still held.
    pub(super) fn close(&self, mut report: impl FnMut(TrackerEvent)) {
        (0..self.held.len() as u32).for_each(|id| self.release(id, &mut report));
    }

    fn release(&self, id: u32, report: &mut impl FnMut(TrackerEvent)) {
        // One thread at a time releases a value: the one that stored it if a future has it, its
        // last reader, and after all of them the owner of the run.
        let held = &self.held[id as usize];
        if let Some(size) = ValueSize::from_bits(held.load(Relaxed)) {
            held.store(NOTHING, Relaxed);
            report(TrackerEvent::Released(id, size));
        }
    }
}

/// An event to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrackerEvent {
    Stored(u32, ValueSize),
    Released(u32, ValueSize),
    Ready(u32),
}

#[cfg(test)]
mod tests {
    use super::ValueSize;

    #[test]
    fn a_size_survives_the_round_trip_through_bits() {
        for (bytes, is_whole) in [(0, false), (24, false), (0, true), (1 << 40, true)] {
            let size = ValueSize { bytes, is_whole };
            assert_eq!(ValueSize::from_bits(ValueSize::to_bits(Some(size))), Some(size));
        }
        let largest = ValueSize { bytes: u64::MAX, is_whole: true };
        assert!(ValueSize::from_bits(ValueSize::to_bits(Some(largest))).is_some_and(|size| size.is_whole));
        assert_eq!(ValueSize::from_bits(ValueSize::to_bits(None)), None);
    }
}
