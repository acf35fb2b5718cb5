//! When a failed task is tried again: the options and settings of retries.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// How long a task waits before it is tried again: a constant time, or a time that grows with each
/// failure.
///
/// A [`Duration`] converts into a constant time. [`Backoff::exponential`] doubles the time after
/// each failure. [`jitter`](Backoff::jitter) shortens each time at random, so that tasks that
/// failed together do not all come back together.
///
/// # Examples
/// ```
/// use sprang::Backoff;
/// use std::time::Duration;
///
/// let millis = Duration::from_millis;
/// let backoff = Backoff::exponential(millis(100)).factor(3.0).max(millis(500));
/// let longest = [1, 2, 3, 4].map(|num_failures| backoff.longest(num_failures));
/// assert_eq!(longest, [100, 300, 500, 500].map(millis));
/// assert_eq!(Backoff::from(millis(20)).longest(7), millis(20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[must_use = "it does nothing by itself: give it to `retry_delay`"]
pub struct Backoff {
    first: Duration,
    factor: f64,
    max: Duration,
    jitter: f64,
}

impl Backoff {
    /// The same time after each failure, without jitter.
    pub const fn constant(time: Duration) -> Self {
        Backoff { first: time, factor: 1.0, max: Duration::MAX, jitter: 0.0 }
    }

    /// A time that doubles after each failure, up to one minute, and is shortened at random by up
    /// to a half.
    pub const fn exponential(first: Duration) -> Self {
        Backoff { first, factor: 2.0, max: Duration::from_secs(60), jitter: 0.5 }
    }

    /// Multiplies the time by `factor` after each failure. A factor that is not a number or is
    /// below 0 counts as 1.
    pub const fn factor(self, factor: f64) -> Self {
        let factor = if factor >= 0.0 { factor } else { 1.0 };
        Backoff { factor, ..self }
    }

    /// Waits no longer than this.
    pub const fn max(self, max: Duration) -> Self {
        Backoff { max, ..self }
    }

    /// Shortens each time at random, by up to this share of it: 0 for no jitter, 1 for anything
    /// between no time and the whole.
    pub const fn jitter(self, share: f64) -> Self {
        let jitter = if share > 0.0 { share.min(1.0) } else { 0.0 };
        Backoff { jitter, ..self }
    }

    /// The longest wait after this many failures: the time without jitter.
    pub fn longest(&self, num_failures: u32) -> Duration {
        if self.first.is_zero() {
            // Zero times a factor that has become infinite is not a number.
            return Duration::ZERO;
        }
        let exponent = i32::try_from(num_failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.factor.powi(exponent);
        // Too long for a `Duration`.
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).min(self.max)
    }

    /// A wait after this many failures.
    pub(crate) fn delay(&self, num_failures: u32) -> Duration {
        let longest = self.longest(num_failures);
        if self.jitter == 0.0 {
            return longest;
        }
        // Each `RandomState` has other keys.
        let random = RandomState::new().hash_one(num_failures) as f64 / u64::MAX as f64;
        // A `Backoff` that was decoded may have any jitter.
        let share = 1.0 - (self.jitter * random).clamp(0.0, 1.0);
        Duration::try_from_secs_f64(longest.as_secs_f64() * share).map_or(longest, |delay| delay.min(longest))
    }

    /// Whether some wait is longer than nothing.
    pub(crate) fn waits(&self) -> bool {
        !self.first.is_zero() && !self.max.is_zero()
    }
}

/// Does not wait.
impl Default for Backoff {
    fn default() -> Self {
        Backoff::constant(Duration::ZERO)
    }
}

impl From<Duration> for Backoff {
    fn from(time: Duration) -> Self {
        Backoff::constant(time)
    }
}

/// A condition on the error of a failed attempt.
#[derive(Clone)]
pub(crate) struct RetryIf(pub(crate) Arc<dyn Fn(&Error) -> bool + Send + Sync>);

impl fmt::Debug for RetryIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetryIf")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_never_longer_than_without_jitter_nor_shorter_than_its_share() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::exponential(second).jitter(0.25);
        let waits: Vec<Duration> = (0..200).map(|_| backoff.delay(2)).collect();
        assert!(waits.iter().all(|wait| (second * 3 / 2..=second * 2).contains(wait)));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }

    #[test]
    fn no_number_of_failures_makes_a_wait_of_no_delay() {
        let backoff = Backoff::exponential(Duration::ZERO);
        assert_eq!([1, 1_024, 1_025, u32::MAX].map(|num_failures| backoff.delay(num_failures)), [Duration::ZERO; 4]);
    }

    #[test]
    fn a_decoded_jitter_that_is_out_of_range_does_no_harm() {
        for jitter in [f64::NAN, -1.0, 1e-17, 7.0, f64::INFINITY] {
            let backoff = Backoff { jitter, ..Backoff::constant(Duration::MAX) };
            assert!((0..50).all(|_| backoff.delay(1) <= backoff.longest(1)));
        }
    }

    #[test]
    fn no_number_of_failures_and_no_argument_makes_a_wait_impossible() {
        let day = Duration::from_secs(86_400);
        for factor in [f64::NAN, -1.0, 0.0, 0.5, 1.0, 2.0, f64::INFINITY] {
            for share in [f64::NAN, -1.0, 0.0, 0.5, 7.0] {
                let backoff = Backoff::exponential(day).factor(factor).max(Duration::MAX).jitter(share);
                for num_failures in [0, 1, 2, 100, u32::MAX] {
                    assert!(backoff.delay(num_failures) <= backoff.longest(num_failures));
                }
            }
        }
        assert_eq!(Backoff::exponential(day).max(Duration::MAX).longest(u32::MAX), Duration::MAX);
        assert!(!Backoff::default().waits() && Backoff::from(day).waits());
    }
}
