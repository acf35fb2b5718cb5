//! How many results are held at once.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts the value it is part of, from its making to its drop.
pub(crate) struct Counted(());

impl Default for Counted {
    fn default() -> Self {
        PEAK.fetch_max(LIVE.fetch_add(1, Relaxed) + 1, Relaxed);
        Counted(())
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Counted::default()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Relaxed);
    }
}

pub(crate) fn reset_peak() {
    assert_eq!(LIVE.load(Relaxed), 0, "no result outlives its run");
    PEAK.store(0, Relaxed);
}

/// `None` if all results were made elsewhere: worker processes count their own, and what this one holds of them is encoded.
pub(crate) fn peak() -> Option<usize> {
    Some(PEAK.load(Relaxed)).filter(|&peak| peak > 0)
}
