//! Values that are counted: how many are alive, and whether each is dropped once.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Counts the [`Counted`] values that it has made, and their clones.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<LedgerState>>);

#[derive(Default)]
struct LedgerState {
    num_made: u64,
    peak: usize,
    live: HashSet<u64>,
    dropped_twice: Vec<u64>,
}

/// The behavior of a value when it is cloned or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropBehavior {
    Plain,
    PanicsWhenCloned,
    PanicsWhenDropped,
}

/// A value that its ledger counts.
pub(crate) struct Counted {
    pub(crate) value: i64,
    id: u64,
    behavior: DropBehavior,
    ledger: Ledger,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Ledger::default()
    }

    pub(crate) fn value(&self, value: i64) -> Counted {
        self.value_with(value, DropBehavior::Plain)
    }

    pub(crate) fn value_with(&self, value: i64, behavior: DropBehavior) -> Counted {
        let mut state = self.state();
        let id = state.num_made;
        state.num_made += 1;
        state.live.insert(id);
        state.peak = state.peak.max(state.live.len());
        Counted { value, id, behavior, ledger: self.clone() }
    }

    pub(crate) fn num_live(&self) -> usize {
        self.state().live.len()
    }

    /// The most values that were alive at once.
    pub(crate) fn peak(&self) -> usize {
        self.state().peak
    }

    /// How many values were made, clones among them.
    pub(crate) fn num_made(&self) -> u64 {
        self.state().num_made
    }

    /// Asserts that every value was dropped exactly once.
    #[track_caller]
    pub(crate) fn assert_settled(&self) {
        let (num_live, dropped_twice) = {
            let state = self.state();
            (state.live.len(), state.dropped_twice.len())
        };
        assert_eq!((num_live, dropped_twice), (0, 0), "(values never dropped, values dropped twice)");
    }

    fn state(&self) -> MutexGuard<'_, LedgerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    pub(crate) fn get(&self) -> i64 {
        self.value
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        assert!(self.behavior != DropBehavior::PanicsWhenCloned, "this value cannot stand being cloned");
        self.ledger.value_with(self.value, self.behavior)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        {
            let mut state = self.ledger.state();
            if !state.live.remove(&self.id) {
                state.dropped_twice.push(self.id);
            }
        }
        // A second panic would abort.
        if self.behavior == DropBehavior::PanicsWhenDropped && !thread::panicking() {
            panic!("this value cannot stand being dropped");
        }
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counted({})", self.value)
    }
}
