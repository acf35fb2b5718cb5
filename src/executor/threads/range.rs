//! A worker's share of the start list, which thieves may split.

use crate::primitives::{AcqRel, Acquire, AtomicU64, Relaxed, Release};

/// Indices `start..end`, in one word so that owner and thieves agree.
#[derive(Debug)]
pub(super) struct Range(AtomicU64);

fn pack(start: u32, end: u32) -> u64 {
    u64::from(start) << 32 | u64::from(end)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

impl Range {
    pub(super) fn empty() -> Self {
        Range(AtomicU64::new(0))
    }

    pub(super) fn is_empty(&self) -> bool {
        let (start, end) = unpack(self.0.load(Acquire));
        start >= end
    }

    /// Fills the empty range. Only its owner calls this.
    pub(super) fn fill(&self, start: u32, end: u32) {
        debug_assert!(self.is_empty());
        self.0.store(pack(start, end), Release);
    }

    /// Takes the first index. Only its owner calls this.
    pub(super) fn take_first(&self) -> Option<u32> {
        let mut word = self.0.load(Relaxed);
        loop {
            let (start, end) = unpack(word);
            if start >= end {
                return None;
            }
            match self.0.compare_exchange_weak(word, pack(start + 1, end), AcqRel, Relaxed) {
                Ok(_) => return Some(start),
                Err(now) => word = now,
            }
        }
    }

    /// Steals the later half, or the only index.
    pub(super) fn split(&self) -> Option<(u32, u32)> {
        let mut word = self.0.load(Acquire);
        loop {
            let (start, end) = unpack(word);
            if start >= end {
                return None;
            }
            let middle = start + (end - start) / 2;
            match self.0.compare_exchange_weak(word, pack(start, middle), AcqRel, Relaxed) {
                Ok(_) => return Some((middle, end)),
                Err(now) => word = now,
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Range;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU32, Ordering};
    use loom::thread;

    #[test]
    fn every_index_is_taken_once() {
        loom::model(|| {
            let range = Arc::new(Range::empty());
            range.fill(0, 3);
            let taken: Arc<Vec<AtomicU32>> = Arc::new((0..3).map(|_| AtomicU32::new(0)).collect());
            let thief = {
                let (range, taken) = (Arc::clone(&range), Arc::clone(&taken));
                thread::spawn(move || {
                    for index in range.split().into_iter().flat_map(|(start, end)| start..end) {
                        taken[index as usize].fetch_add(1, Ordering::Relaxed);
                    }
                })
            };
            while let Some(index) = range.take_first() {
                taken[index as usize].fetch_add(1, Ordering::Relaxed);
            }
            thief.join().unwrap();
            for count in taken.iter() {
                assert_eq!(count.load(Ordering::Relaxed), 1);
            }
        });
    }
}
