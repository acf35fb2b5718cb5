//! Waiting for a short time without sleeping, and the ends of longer waits.

use std::time::{Duration, Instant};

/// How long a thread spins before it sleeps, because waking it costs about ten microseconds.
pub(super) const SPIN: Duration = Duration::from_micros(20);

/// Spins for at most [`SPIN`] until `condition` holds, and says whether it does.
pub(super) fn spin_until(condition: impl Fn() -> bool) -> bool {
    let end = Instant::now() + SPIN;
    loop {
        for _ in 0..64 {
            if condition() {
                return true;
            }
            std::hint::spin_loop();
        }
        if Instant::now() >= end {
            return condition();
        }
    }
}

/// The moment after `timeout`; `None`, which means never, if the clock cannot represent it.
pub(super) fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}
