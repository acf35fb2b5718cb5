//! How many bytes of values are held, and how many were at most.
//!
//! A thread counts in a place of its own, which nobody else writes to, so that it costs next to nothing; what has come together there is
//! taken to the sum when it is much.
//!
//! # How exact it is
//!
//! What is held now is added up over the places. That is exact while nothing is stored or released; else what was stored in one place and
//! released in another may be seen at one of them alone. The peak is made of the sum, and of no more than [`GRAIN`] bytes from each place. So
//! it is exact to that many for each thread, whoever looks and when.

use crate::engine::callback::WorkerId;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// What comes together before it is counted for all.
const GRAIN: i64 = 64 << 10;
/// The last is for all threads that have none of their own.
const NUM_PLACES: usize = 256;

/// What a thread has stored less what it has released, and how much of that is in the sum.
#[derive(Default)]
struct Place {
    net: AtomicI64,
    counted: AtomicI64,
}

pub(super) struct Held {
    places: Box<[CachePadded<Place>]>,
    sum: AtomicI64,
    peak: AtomicI64,
}

impl Held {
    pub(super) fn new() -> Self {
        let places = (0..NUM_PLACES).map(|_| CachePadded::default()).collect();
        Held { places, sum: AtomicI64::new(0), peak: AtomicI64::new(0) }
    }

    /// By this thread.
    pub(super) fn stored(&self, bytes: u64) {
        self.change(WorkerId::here().thread(), i64::try_from(bytes).unwrap_or(i64::MAX / 4));
    }

    /// By this thread.
    pub(super) fn released(&self, bytes: u64) {
        self.change(WorkerId::here().thread(), -i64::try_from(bytes).unwrap_or(i64::MAX / 4));
    }

    #[inline]
    fn change(&self, thread: u32, bytes: i64) {
        let index = (thread as usize).min(NUM_PLACES - 1);
        let place = &self.places[index];
        let net = if index < NUM_PLACES - 1 {
            let net = place.net.load(Relaxed).wrapping_add(bytes);
            place.net.store(net, Relaxed);
            net
        } else {
            place.net.fetch_add(bytes, Relaxed).wrapping_add(bytes)
        };
        if net.wrapping_sub(place.counted.load(Relaxed)).unsigned_abs() >= GRAIN as u64 {
            self.count(place, net);
        }
    }

    #[cold]
    fn count(&self, place: &Place, net: i64) {
        let new = net.wrapping_sub(place.counted.swap(net, Relaxed));
        let sum = self.sum.fetch_add(new, Relaxed).wrapping_add(new);
        self.peak.fetch_max(sum, Relaxed);
    }

    /// How many bytes are held now, and how many were at most.
    pub(super) fn look(&self) -> (u64, u64) {
        let sum = self.sum.load(Relaxed);
        let (mut now, mut of_moment) = (0_i64, sum);
        for place in &self.places {
            let (net, counted) = (place.net.load(Relaxed), place.counted.load(Relaxed));
            now = now.wrapping_add(net);
            // More has been taken to the sum meanwhile, or is about to be.
            of_moment = of_moment.wrapping_add(net.wrapping_sub(counted).clamp(-GRAIN, GRAIN));
        }
        let peak = self.peak.fetch_max(of_moment, Relaxed).max(of_moment).max(0);
        (now.max(0) as u64, peak as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_here_and_released_there_is_gone() {
        let held = Held::new();
        assert_eq!(held.look(), (0, 0));
        (0..10).for_each(|_| held.change(0, 100_000));
        assert_eq!(held.look(), (1_000_000, 1_000_000));
        (0..10).for_each(|thread| held.change(thread * 100, -100_000));
        held.change(3, 7);
        assert_eq!(held.look(), (7, 1_000_000));
        // What was there for a moment, between two looks.
        held.change(1, 5_000_000);
        held.change(2, -5_000_000);
        assert_eq!(held.look(), (7, 5_000_000));
        held.stored(u64::MAX);
        held.released(u64::MAX);
        assert_eq!(held.look().0, 7);
    }

    #[test]
    fn who_looks_in_the_middle_makes_no_peak_that_never_was() {
        let held = Held::new();
        // Stored and released again elsewhere; the look has missed the release.
        held.places[3].net.store(5_000_000, Relaxed);
        assert_eq!(held.look().1, GRAIN as u64);
        held.places[4].net.store(-5_000_000, Relaxed);
        assert_eq!(held.look(), (0, GRAIN as u64));
    }
}
