//! Records of tasks, and samples of them.
//!
//! # Sampling
//!
//! When there are more records than allowed, only tasks whose hashed number ends in a zero bit are
//! kept; then in two zero bits, and so on. So the number of a task alone decides whether it is
//! kept, whichever worker runs it. A shard drops its surplus records when it gets the next record,
//! and when the profile is taken.

use super::data::Outcome;
#[cfg(feature = "dashboard")]
use crate::engine::callback::RunId;
use crate::engine::callback::{Crossing, TaskInfo, ValueSize, WorkerId};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A shard reports its records to the common count in groups of this size.
pub(super) const COUNTED_AT_ONCE: usize = 1024;

/// One attempt of a task, in 64 bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::diagnostics) struct Record {
    pub(super) run: u64,
    pub(super) started_ns: u64,
    pub(super) ran_ns: u64,
    pub(super) worker: WorkerId,
    pub(super) id: u32,
    /// Saturates below `u32::MAX`, which marks tasks of this process.
    pub(super) queued_us: u32,
    pub(super) returned_us: u32,
    pub(super) sent_bytes: u64,
    /// See [`ValueSize::to_bits`].
    pub(super) value: u64,
    pub(super) attempt: u16,
    pub(super) outcome: Outcome,
}

/// Sorts records by the start of their calls.
pub(super) fn sort(records: &mut [Record]) {
    records.sort_unstable_by_key(|record| (record.started_ns, record.id));
}

impl Record {
    /// `started_ns` is the start of the call, counted from the origin of all records.
    pub(in crate::diagnostics) fn new(
        task: TaskInfo<'_>,
        worker: WorkerId,
        started_ns: u64,
        (started, ended): (Instant, Instant),
        crossing: Option<Crossing>,
        (outcome, attempt, value): (Outcome, u32, Option<ValueSize>),
    ) -> Record {
        let ran_ns = ended.saturating_duration_since(started).as_nanos() as u64;
        let (queued_us, returned_us) = crossing.map_or((u32::MAX, u32::MAX), |crossing| {
            let micros = |from: Instant, to: Instant| {
                u32::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u32::MAX - 1)
            };
            (micros(crossing.sent, started), micros(ended, crossing.received))
        });
        let (run, id) = (task.run().get(), task.id() as u32);
        let attempt = u16::try_from(attempt).unwrap_or(u16::MAX);
        let (sent_bytes, value) = (crossing.map_or(0, |crossing| crossing.sent_bytes), ValueSize::to_bits(value));
        Record { run, started_ns, ran_ns, worker, id, queued_us, returned_us, sent_bytes, value, attempt, outcome }
    }

    pub(super) fn ended(&self) -> Duration {
        Duration::from_nanos(self.started_ns + self.ran_ns)
    }

    /// The size of the task's value.
    pub(super) fn value(&self) -> Option<ValueSize> {
        ValueSize::from_bits(self.value)
    }

    pub(super) fn returned_bytes(&self) -> u64 {
        self.value().filter(|size| self.queued_us != u32::MAX && size.is_whole).map_or(0, |size| size.bytes)
    }

    pub(super) fn queued(&self) -> Option<Duration> {
        (self.queued_us != u32::MAX).then(|| Duration::from_micros(self.queued_us.into()))
    }

    pub(super) fn returned(&self) -> Option<Duration> {
        (self.returned_us != u32::MAX).then(|| Duration::from_micros(self.returned_us.into()))
    }
}

/// The share of tasks that is kept, common to the buffers of all shards.
#[derive(Debug)]
pub(in crate::diagnostics) struct Sampling {
    pub(super) max_records: usize,
    num_kept: Mutex<usize>,
    /// The number of bits of a hashed number that must be zero.
    pub(super) level: AtomicU32,
}

impl Sampling {
    /// Keeps about `max_records` records, and up to [`COUNTED_AT_ONCE`] more in each buffer.
    pub(in crate::diagnostics) fn new(max_records: usize) -> Self {
        Sampling { max_records, num_kept: Mutex::new(0), level: AtomicU32::new(0) }
    }

    /// Counts [`COUNTED_AT_ONCE`] records that a buffer has added.
    #[cold]
    fn count(&self) {
        let mut num_kept = self.num_kept.lock();
        *num_kept += COUNTED_AT_ONCE;
        if *num_kept > self.max_records {
            // About half of the records will be dropped. The count covers added records only, so it
            // need not be exact.
            *num_kept /= 2;
            self.level.fetch_add(1, Relaxed);
        }
    }
}

/// The records of one shard.
#[derive(Clone, Debug, Default)]
pub(in crate::diagnostics) struct RecordBuffer {
    pub(super) records: Vec<Record>,
    /// The number of calls that were dropped.
    pub(super) num_left_out: u64,
    pub(super) level: u32,
}

impl RecordBuffer {
    #[inline]
    pub(in crate::diagnostics) fn add(&mut self, record: Record, sampling: &Sampling) {
        let level = sampling.level.load(Relaxed);
        if level > 0 {
            self.thin_out(level);
            if !is_kept(record.run, record.id, level) {
                self.num_left_out += 1;
                return;
            }
        }
        self.records.push(record);
        if self.records.len().is_multiple_of(COUNTED_AT_ONCE) {
            sampling.count();
        }
    }

    /// Adds the records of another buffer. In the run `run`, their ids begin at `first`.
    #[cfg(feature = "dashboard")]
    pub(in crate::diagnostics) fn take_over(
        &mut self,
        other: RecordBuffer,
        run: RunId,
        first: u32,
        sampling: &Sampling,
    ) {
        self.num_left_out += other.num_left_out;
        for record in other.records {
            self.add(Record { run: run.get(), id: first + record.id, ..record }, sampling);
        }
    }

    #[cfg(feature = "dashboard")]
    pub(in crate::diagnostics) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn thin_out(&mut self, level: u32) {
        if self.level < level {
            self.level = level;
            let before = self.records.len();
            self.records.retain(|record| is_kept(record.run, record.id, level));
            self.num_left_out += (before - self.records.len()) as u64;
        }
    }
}

/// Whether a task is among the one in `2^level` that are kept.
fn is_kept(run: u64, id: u32, level: u32) -> bool {
    let mixed = (run << 32 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed >> 32 & ((1 << level.min(31)) - 1) == 0
}

#[cfg(test)]
mod tests {
    use super::{Record, is_kept};

    #[test]
    fn a_record_has_64_bytes() {
        assert_eq!(size_of::<Record>(), 64);
    }

    #[test]
    fn each_level_keeps_half_of_the_one_before() {
        for level in 1..8 {
            let kept: Vec<u32> = (0..100_000).filter(|&id| is_kept(3, id, level)).collect();
            let expected = 100_000.0 / f64::from(1 << level);
            assert!((kept.len() as f64 - expected).abs() < 5.0 * expected.sqrt(), "{} at {level}", kept.len());
            assert!(kept.iter().all(|&id| is_kept(3, id, level - 1)));
        }
    }
}
