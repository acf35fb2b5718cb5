//! Counts of attempts and tasks.

use crate::diagnostics::profile::Outcome;
use serde::{Serialize, Serializer};

/// The numbers of ended attempts and skipped tasks by outcome, the number of running attempts, and
/// their total time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) finished: u64,
    pub(crate) failed: u64,
    pub(crate) retried: u64,
    pub(crate) cancelled: u64,
    pub(crate) skipped: u64,
    /// Negative in a shard that has seen the end of an attempt, but not its start.
    #[serde(serialize_with = "at_least_zero")]
    pub(crate) running: i64,
    #[serde(rename = "busy", serialize_with = "as_seconds")]
    pub(crate) busy_ns: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.finished += other.finished;
        self.failed += other.failed;
        self.retried += other.retried;
        self.cancelled += other.cancelled;
        self.skipped += other.skipped;
        self.running += other.running;
        self.busy_ns += other.busy_ns;
    }

    pub(crate) fn sum<'c>(all: impl IntoIterator<Item = &'c Counts>) -> Counts {
        let mut sum = Counts::default();
        all.into_iter().for_each(|counts| sum.add(counts));
        sum
    }

    /// Counts the end of an attempt.
    pub(super) fn end(&mut self, outcome: Outcome, busy_ns: u64) {
        self.running -= 1;
        self.busy_ns += busy_ns;
        *match outcome {
            Outcome::Finished => &mut self.finished,
            Outcome::Failed => &mut self.failed,
            Outcome::Retried => &mut self.retried,
            Outcome::Cancelled => &mut self.cancelled,
        } += 1;
    }

    /// The counts of ends, by how.
    pub(crate) fn ended(&self) -> [(&'static str, u64); 5] {
        let &Counts { finished, failed, retried, cancelled, skipped, .. } = self;
        [
            ("finished", finished),
            ("failed", failed),
            ("retried", retried),
            ("cancelled", cancelled),
            ("skipped", skipped),
        ]
    }

    /// How many tasks have come to their end.
    pub(crate) fn num_over(&self) -> u64 {
        self.finished + self.failed + self.skipped
    }

    pub(crate) fn num_running(&self) -> u64 {
        self.running.max(0) as u64
    }
}

/// Adds counts to those of a name.
pub(super) fn add_to(names: &mut Vec<(u16, Counts)>, name: u16, counts: &Counts) {
    match names.iter_mut().find(|(other, _)| *other == name) {
        Some((_, sum)) => sum.add(counts),
        None => names.push((name, *counts)),
    }
}

/// Nanoseconds as seconds, exact to microseconds.
pub(crate) fn seconds(ns: u64) -> f64 {
    (ns / 1_000) as f64 / 1e6
}

fn as_seconds<S: Serializer>(ns: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(seconds(*ns))
}

fn at_least_zero<S: Serializer>(count: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64((*count).max(0))
}
