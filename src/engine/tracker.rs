//! Which tasks of a run are ready and which values are held, for callbacks that ask.
//!
//! Executors keep no such account that could be told of: the calling thread runs tasks without counters, and a value goes with its last
//! reader without anybody being told. So an [`ReadyValueTracker`] counts for itself, from the ends of tasks, and is there only for runs that are watched
//! by somebody who [asks](super::callback::Interests).
//!
//! # What is always true
//!
//! 1. The end of each task is [entered](ReadyValueTracker::ended) once, after it has let go of its inputs and before its dependents are told. So what is
//!    made known here of a task comes before its start.
//! 2. The low bits of `waiting[t]` count the inputs of `t` whose end has not been entered. Who lowers them to zero, or sends `t` to a worker
//!    together with its inputs, and sets `TOLD` first, tells that `t` is ready; nobody does once an input has failed.
//! 3. `readers[t]` counts the readers of the value of `t` whose end has not been entered, and the outputs. Who lowers it to zero, or closes the
//!    account, tells that the value was released; `held[t]` says whether there was one, and how large.
//! 4. A run of futures holds none of its outputs: each is told to be released as soon as it is stored, before its future has it. Whoever adds up
//!    what runs and futures hold counts it once.

use crate::graph::plan::Plan;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// An input has failed.
const DOOMED: u32 = 1 << 31;
/// It was told that the task is ready.
const TOLD: u32 = 1 << 30;
const COUNT: u32 = TOLD - 1;

/// What is held of a task that has left no value, or whose value is gone.
const NOTHING: u64 = u64::MAX;
/// Set in what is held if the size is that of the encoding.
const ENCODED: u64 = 1 << 63;

/// How much memory a value takes, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ValueSize {
    /// The bytes.
    pub bytes: u64,
    /// Whether they are those of the value's encoding, with all that it owns. Otherwise they are those of its type: 24 for a vector, whatever
    /// is in it.
    pub is_encoded: bool,
}

impl ValueSize {
    pub(super) fn of(inline: usize, encoded: Option<u64>) -> Self {
        ValueSize { bytes: encoded.unwrap_or(inline as u64), is_encoded: encoded.is_some() }
    }

    /// In one number, of which there is one that stands for no value.
    pub(crate) fn to_bits(size: Option<Self>) -> u64 {
        size.map_or(NOTHING, |size| size.bytes.min(ENCODED - 2) | if size.is_encoded { ENCODED } else { 0 })
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits != NOTHING).then_some(ValueSize { bytes: bits & !ENCODED, is_encoded: bits & ENCODED != 0 })
    }
}

/// See the [module](self).
pub(super) struct ReadyValueTracker {
    /// Empty if nobody asks which tasks are ready.
    waiting: Box<[AtomicU32]>,
    /// These two are empty if nobody asks which values are held.
    readers: Box<[AtomicU32]>,
    held: Box<[AtomicU64]>,
    /// The outputs that others hold as soon as they are there, ascending.
    given: Box<[u32]>,
}

/// How a task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskEnd {
    /// It has left a value of this size, or one that nobody asks for.
    Finished(Option<ValueSize>),
    /// It has failed or was skipped, and has let go of its inputs.
    Failed,
    /// It has failed, and what it has let go of is not known: that goes with the run.
    FailedHolding,
}

impl ReadyValueTracker {
    /// # Complexity
    /// O(tasks), in time and in space: 4 bytes for each task to tell which are ready, 12 to tell which values are held.
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

    /// Says which tasks are ready before any has run.
    pub(super) fn begin(&self, tell_ready: impl FnMut(u32)) {
        let ready = (0..).zip(&self.waiting).filter(|(_, waiting)| waiting.load(Relaxed) == 0);
        ready.filter(|&(id, _)| self.becomes_ready(id)).map(|(id, _)| id).for_each(tell_ready);
    }

    /// Whether nobody has told yet that the task is ready.
    pub(super) fn becomes_ready(&self, id: u32) -> bool {
        self.waiting.get(id as usize).is_some_and(|waiting| waiting.fetch_or(TOLD, Relaxed) & TOLD == 0)
    }

    /// A task has ended. Tells of values that are stored or released, and then of tasks that are ready.
    pub(super) fn ended(&self, plan: &Plan, id: u32, ending: TaskEnd, mut tell: impl FnMut(TrackerEvent)) {
        if !self.readers.is_empty() {
            if let TaskEnd::Finished(Some(size)) = ending {
                // Relaxed: the readers of the value have it from the engine that the task has ended.
                self.held[id as usize].store(ValueSize::to_bits(Some(size)), Relaxed);
                tell(TrackerEvent::Stored(id, size));
                if self.given.binary_search(&id).is_ok() {
                    self.release(id, &mut tell);
                }
            }
            if ending != TaskEnd::FailedHolding {
                for &input in plan.read_inputs(id) {
                    // The last of them has nobody to count against.
                    let readers = &self.readers[input as usize];
                    if readers.load(Relaxed) == 1 || readers.fetch_sub(1, Relaxed) == 1 {
                        self.release(input, &mut tell);
                    }
                }
            }
        }
        if !self.waiting.is_empty() {
            let is_good = matches!(ending, TaskEnd::Finished(_));
            for &dependent in plan.dependents().of(id) {
                let waiting = &self.waiting[dependent as usize];
                if !is_good {
                    waiting.fetch_or(DOOMED, Relaxed);
                }
                let before = waiting.fetch_sub(1, Relaxed);
                if before & COUNT == 1 && before & DOOMED == 0 && self.becomes_ready(dependent) {
                    tell(TrackerEvent::Ready(dependent));
                }
            }
        }
    }

    /// The run has ended: what is still held goes now.
    pub(super) fn close(&self, mut tell: impl FnMut(TrackerEvent)) {
        (0..self.held.len() as u32).for_each(|id| self.release(id, &mut tell));
    }

    fn release(&self, id: u32, tell: &mut impl FnMut(TrackerEvent)) {
        // Nobody else does at this time: who has stored it if it is given away, its last reader, and later who closes the account.
        let held = &self.held[id as usize];
        if let Some(size) = ValueSize::from_bits(held.load(Relaxed)) {
            held.store(NOTHING, Relaxed);
            tell(TrackerEvent::Released(id, size));
        }
    }
}

/// What is to be told.
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
    fn sizes_come_back() {
        for (bytes, is_encoded) in [(0, false), (24, false), (0, true), (1 << 40, true)] {
            let size = ValueSize { bytes, is_encoded };
            assert_eq!(ValueSize::from_bits(ValueSize::to_bits(Some(size))), Some(size));
        }
        let largest = ValueSize { bytes: u64::MAX, is_encoded: true };
        assert!(ValueSize::from_bits(ValueSize::to_bits(Some(largest))).is_some_and(|size| size.is_encoded));
        assert_eq!(ValueSize::from_bits(ValueSize::to_bits(None)), None);
    }
}
