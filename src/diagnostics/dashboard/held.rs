//! How many bytes of values are held, and how many were at most.
//!
//! A thread counts in a place of its own, which hardly anybody else touches, and takes what has come together to the sum when that is much.
//! So the sum is exact when somebody looks, and the peak is so to [`GRAIN`] bytes for each place.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// What comes together before it is counted for all.
const GRAIN: i64 = 64 << 10;
const NUM_PLACES: usize = 32;

#[derive(Default)]
pub(super) struct Held {
    places: [CachePadded<AtomicI64>; NUM_PLACES],
    sum: AtomicI64,
    peak: AtomicI64,
}

impl Held {
    pub(super) fn stored(&self, place: usize, bytes: u64) {
        self.change(place, i64::try_from(bytes).unwrap_or(i64::MAX / 4));
    }

    pub(super) fn released(&self, place: usize, bytes: u64) {
        self.change(place, -i64::try_from(bytes).unwrap_or(i64::MAX / 4));
    }

    #[inline]
    fn change(&self, place: usize, bytes: i64) {
        let place = &self.places[place % NUM_PLACES];
        let here = place.fetch_add(bytes, Relaxed).wrapping_add(bytes);
        if here.unsigned_abs() >= GRAIN as u64 {
            self.collect(place);
        }
    }

    #[cold]
    fn collect(&self, place: &AtomicI64) {
        let here = place.swap(0, Relaxed);
        let sum = self.sum.fetch_add(here, Relaxed).wrapping_add(here);
        self.peak.fetch_max(sum, Relaxed);
    }

    /// How many bytes are held now, and how many were at most.
    pub(super) fn look(&self) -> (u64, u64) {
        // Those that have let go first: what was moved from one thread to another is not held twice.
        let mut places: Vec<&AtomicI64> = self.places.iter().map(|place| &**place).collect();
        places.sort_by_key(|place| place.load(Relaxed));
        places.into_iter().filter(|place| place.load(Relaxed) != 0).for_each(|place| self.collect(place));
        let of = |number: &AtomicI64| number.load(Relaxed).max(0) as u64;
        (of(&self.sum), of(&self.peak))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_here_and_released_there_is_gone() {
        let held = Held::default();
        assert_eq!(held.look(), (0, 0));
        (0..10).for_each(|_| held.stored(0, 100_000));
        assert_eq!(held.look(), (1_000_000, 1_000_000));
        (0..10).for_each(|place| held.released(place, 100_000));
        held.stored(3, 7);
        assert_eq!(held.look(), (7, 1_000_000));
        held.stored(1, u64::MAX);
        held.released(2, u64::MAX);
        assert_eq!(held.look().0, 7);
    }
}
