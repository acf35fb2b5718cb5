//! The timer of timeouts: one thread, which ends when there is no deadline for a while.

use crate::engine::{Deadline, Timer, quietly};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the thread waits for another deadline before it ends.
const LINGER: Duration = Duration::from_secs(1);

/// The [`Timer`] of this process.
pub(crate) struct TimerThread {
    state: Mutex<TimerState>,
    changed: Condvar,
}

struct TimerState {
    /// By time. The number distinguishes deadlines of the same time.
    due: BTreeMap<(Instant, u64), Box<dyn FnOnce() + Send>>,
    next_number: u64,
    has_thread: bool,
}

static TIMER: TimerThread = TimerThread {
    state: Mutex::new(TimerState { due: BTreeMap::new(), next_number: 0, has_thread: false }),
    changed: Condvar::new(),
};

impl TimerThread {
    pub(crate) fn shared() -> &'static TimerThread {
        &TIMER
    }

    fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            match state.due.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let action = first.remove();
                    drop(state);
                    // The action may drop the last handle of a run, and with it a user value that
                    // panics.
                    quietly(action);
                    state = self.state.lock();
                }
                Some(first) => {
                    let at = first.key().0;
                    self.changed.wait_until(&mut state, at);
                }
                None => {
                    let is_idle = self.changed.wait_for(&mut state, LINGER).timed_out();
                    if is_idle && state.due.is_empty() {
                        state.has_thread = false;
                        return;
                    }
                }
            }
        }
    }
}

impl Timer for TimerThread {
    fn start(&self, after: Duration, action: Box<dyn FnOnce() + Send>) -> Box<dyn Deadline> {
        // A time that the clock cannot express never comes.
        let Some(at) = Instant::now().checked_add(after) else { return Box::new(TimerDeadline { key: None }) };
        let mut state = self.state.lock();
        let key = (at, state.next_number);
        state.next_number += 1;
        let is_first = state.due.first_key_value().is_none_or(|(first, _)| key < *first);
        state.due.insert(key, action);
        if !state.has_thread {
            let thread = std::thread::Builder::new().name("sprang-timer".into()).spawn(|| TIMER.serve());
            // Without a thread the action is late: the next deadline tries to spawn one again.
            state.has_thread = thread.is_ok();
        } else if is_first {
            self.changed.notify_one();
        }
        Box::new(TimerDeadline { key: Some(key) })
    }
}

/// Removes its entry from the timer when it is dropped.
struct TimerDeadline {
    key: Option<(Instant, u64)>,
}

impl Deadline for TimerDeadline {}

impl Drop for TimerDeadline {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            // The action is dropped after the lock is released.
            let _action = TIMER.state.lock().due.remove(&key);
        }
    }
}
