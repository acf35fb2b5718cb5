//! Counts the bytes of values that runs hold now, and the most that they held at once.
//!
//! Each thread counts in a slot that no other thread writes to, so that counting costs next to
//! nothing. A thread adds its changes to the sum once they exceed [`GRAIN`].
//!
//! # How exact it is
//!
//! The bytes held now are the sum of all slots. They are exact while nothing is stored or released;
//! otherwise a read may see the store of a value in one slot and miss its release in another. The
//! peak is made of the sum and of at most [`GRAIN`] bytes of each slot, so it is exact to that
//! many bytes for each thread, whenever it is read.

use crate::engine::callback::WorkerId;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// The change of a slot above which it is added to the sum.
const GRAIN: i64 = 64 << 10;
/// The last slot is shared by the threads that have none of their own.
const NUM_SLOTS: usize = 256;

/// The bytes that a thread has stored, less those that it has released.
#[derive(Default)]
struct ByteSlot {
    net: AtomicI64,
    /// The part of `net` that is in the sum.
    counted: AtomicI64,
}

pub(super) struct ValueBytes {
    slots: Box<[CachePadded<ByteSlot>]>,
    sum: AtomicI64,
    peak: AtomicI64,
}

impl ValueBytes {
    pub(super) fn new() -> Self {
        let slots = (0..NUM_SLOTS).map(|_| CachePadded::default()).collect();
        ValueBytes { slots, sum: AtomicI64::new(0), peak: AtomicI64::new(0) }
    }

    /// Adds the bytes of a value that this thread has stored.
    pub(super) fn stored(&self, bytes: u64) {
        self.change(WorkerId::here().thread(), i64::try_from(bytes).unwrap_or(i64::MAX / 4));
    }

    /// Subtracts the bytes of a value that this thread has released.
    pub(super) fn released(&self, bytes: u64) {
        self.change(WorkerId::here().thread(), -i64::try_from(bytes).unwrap_or(i64::MAX / 4));
    }

    #[inline]
    fn change(&self, thread: u32, bytes: i64) {
        let index = (thread as usize).min(NUM_SLOTS - 1);
        let slot = &self.slots[index];
        let net = if index < NUM_SLOTS - 1 {
            let net = slot.net.load(Relaxed).wrapping_add(bytes);
            slot.net.store(net, Relaxed);
            net
        } else {
            slot.net.fetch_add(bytes, Relaxed).wrapping_add(bytes)
        };
        if net.wrapping_sub(slot.counted.load(Relaxed)).unsigned_abs() >= GRAIN as u64 {
            self.add_to_sum(slot, net);
        }
    }

    #[cold]
    fn add_to_sum(&self, slot: &ByteSlot, net: i64) {
        let change = net.wrapping_sub(slot.counted.swap(net, Relaxed));
        let sum = self.sum.fetch_add(change, Relaxed).wrapping_add(change);
        self.peak.fetch_max(sum, Relaxed);
    }

    /// The bytes that are held now, and the peak.
    pub(super) fn read(&self) -> (u64, u64) {
        let sum = self.sum.load(Relaxed);
        let (mut now, mut for_peak) = (0_i64, sum);
        for slot in &self.slots {
            let (net, counted) = (slot.net.load(Relaxed), slot.counted.load(Relaxed));
            now = now.wrapping_add(net);
            // A larger change has been added to the sum meanwhile, or is about to be.
            for_peak = for_peak.wrapping_add(net.wrapping_sub(counted).clamp(-GRAIN, GRAIN));
        }
        let peak = self.peak.fetch_max(for_peak, Relaxed).max(for_peak).max(0);
        (now.max(0) as u64, peak as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stored_by_one_thread_and_released_by_another_is_gone() {
        let bytes = ValueBytes::new();
        assert_eq!(bytes.read(), (0, 0));
        (0..10).for_each(|_| bytes.change(0, 100_000));
        assert_eq!(bytes.read(), (1_000_000, 1_000_000));
        (0..10).for_each(|thread| bytes.change(thread * 100, -100_000));
        bytes.change(3, 7);
        assert_eq!(bytes.read(), (7, 1_000_000));
        // Bytes that were held for a moment, between two reads.
        bytes.change(1, 5_000_000);
        bytes.change(2, -5_000_000);
        assert_eq!(bytes.read(), (7, 5_000_000));
        bytes.stored(u64::MAX);
        bytes.released(u64::MAX);
        assert_eq!(bytes.read().0, 7);
    }

    #[test]
    fn a_read_between_a_store_and_a_release_makes_no_false_peak() {
        let bytes = ValueBytes::new();
        // Stored, and released again by another thread; the read has missed the release.
        bytes.slots[3].net.store(5_000_000, Relaxed);
        assert_eq!(bytes.read().1, GRAIN as u64);
        bytes.slots[4].net.store(-5_000_000, Relaxed);
        assert_eq!(bytes.read(), (0, GRAIN as u64));
    }
}
