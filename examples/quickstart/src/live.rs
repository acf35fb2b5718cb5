//! Counts the results that exist at once.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts the value that contains it, from its creation to its drop.
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

/// `None` if all results were made in worker processes: these count their own results, and this
/// process holds encoded ones.
pub(crate) fn peak() -> Option<usize> {
    Some(PEAK.load(Relaxed)).filter(|&peak| peak > 0)
}
