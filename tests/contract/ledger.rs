//! Values that are counted: how many are alive, and whether each is dropped once.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Keeps count of the [`Counted`] values that it has made, and of their clones.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    num_made: u64,
    peak: usize,
    live: HashSet<u64>,
    dropped_twice: Vec<u64>,
}

/// What a value does when it is cloned or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    Calm,
    PanicsWhenCloned,
    PanicsWhenDropped,
}

/// A value that its ledger knows of.
pub(crate) struct Counted {
    pub(crate) value: i64,
    id: u64,
    temper: Temper,
    ledger: Ledger,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Ledger::default()
    }

    pub(crate) fn value(&self, value: i64) -> Counted {
        self.value_with(value, Temper::Calm)
    }

    pub(crate) fn value_with(&self, value: i64, temper: Temper) -> Counted {
        let mut book = self.book();
        let id = book.num_made;
        book.num_made += 1;
        book.live.insert(id);
        book.peak = book.peak.max(book.live.len());
        Counted { value, id, temper, ledger: self.clone() }
    }

    pub(crate) fn num_live(&self) -> usize {
        self.book().live.len()
    }

    /// The most values that were alive at once.
    pub(crate) fn peak(&self) -> usize {
        self.book().peak
    }

    /// How many values were made, clones among them.
    pub(crate) fn num_made(&self) -> u64 {
        self.book().num_made
    }

    /// Every value was dropped, once.
    #[track_caller]
    pub(crate) fn assert_settled(&self) {
        let (num_live, dropped_twice) = {
            let book = self.book();
            (book.live.len(), book.dropped_twice.len())
        };
        assert_eq!((num_live, dropped_twice), (0, 0), "(values never dropped, values dropped twice)");
    }

    fn book(&self) -> MutexGuard<'_, Book> {
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
        assert!(self.temper != Temper::PanicsWhenCloned, "this value cannot stand being cloned");
        self.ledger.value_with(self.value, self.temper)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        {
            let mut book = self.ledger.book();
            if !book.live.remove(&self.id) {
                book.dropped_twice.push(self.id);
            }
        }
        // A second panic would abort.
        if self.temper == Temper::PanicsWhenDropped && !thread::panicking() {
            panic!("this value cannot stand being dropped");
        }
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counted({})", self.value)
    }
}
