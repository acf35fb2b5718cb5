//! One clock for this process and its workers: the monotonic clock of the system. [`Instant`] reads
//! the same clock but does not give out its value.

use rustix::time::{ClockId, clock_gettime};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// One moment on both clocks.
static BASE: LazyLock<(Instant, u64)> = LazyLock::new(|| {
    let time = clock_gettime(ClockId::Monotonic);
    (Instant::now(), time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
});

/// Nanoseconds on the clock that all processes share.
pub(super) fn shared_ns(instant: Instant) -> u64 {
    let (base, base_ns) = *BASE;
    let after = instant.saturating_duration_since(base).as_nanos() as u64;
    let before = base.saturating_duration_since(instant).as_nanos() as u64;
    (base_ns + after).saturating_sub(before)
}

/// The [`Instant`] of a time on the shared clock; `None` if an `Instant` cannot express it.
pub(super) fn instant(shared_ns: u64) -> Option<Instant> {
    let (base, base_ns) = *BASE;
    match shared_ns.checked_sub(base_ns) {
        Some(after) => base.checked_add(Duration::from_nanos(after)),
        None => base.checked_sub(Duration::from_nanos(base_ns - shared_ns)),
    }
}

#[cfg(test)]
mod tests {
    use super::{instant, shared_ns};
    use std::time::{Duration, Instant};

    #[test]
    fn a_moment_goes_there_and_back() {
        let now = Instant::now();
        for moment in [now, now + Duration::from_secs(100), now - Duration::from_millis(1)] {
            assert_eq!(instant(shared_ns(moment)), Some(moment));
        }
        assert!(shared_ns(now) < shared_ns(now + Duration::from_nanos(1)));
    }
}
