//! The timer of timeouts: one thread, which ends when there is no deadline for a while.

use crate::engine::{Deadline, Timer, quietly};
use crate::per_process::{Generation, PerProcess};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the thread waits for another deadline before it ends.
const LINGER: Duration = Duration::from_secs(1);

/// The [`Timer`] of this process. Its locks are those of the standard library, which a forked child
/// can use; see [`per_process`](crate::per_process).
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

static TIMER: PerProcess<TimerThread> = PerProcess::new();

impl TimerThread {
    pub(crate) fn shared() -> &'static TimerThread {
        TIMER.get_or_make(|| TimerThread {
            state: Mutex::new(TimerState { due: BTreeMap::new(), next_number: 0, has_thread: false }),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, TimerState> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until there is another first deadline, or the time has passed. True for the time.
    fn sleep<'t>(&self, state: MutexGuard<'t, TimerState>, time: Duration) -> (MutexGuard<'t, TimerState>, bool) {
        let (state, result) = self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner);
        (state, result.timed_out())
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            match state.due.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let action = first.remove();
                    drop(state);
                    // The action may drop the last handle of a run, and with it a user value that
                    // panics.
                    quietly(action);
                    state = self.lock();
                }
                Some(first) => {
                    let left = first.key().0 - now;
                    (state, _) = self.sleep(state, left);
                }
                None => {
                    let is_idle;
                    (state, is_idle) = self.sleep(state, LINGER);
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
        // A run that goes on in a forked child has the timer of the parent.
        let timer = TimerThread::shared();
        let mut deadline = TimerDeadline { timer, generation: Generation::current(), key: None };
        // A time that the clock cannot express never comes.
        let Some(at) = Instant::now().checked_add(after) else { return Box::new(deadline) };
        let mut state = timer.lock();
        let key = (at, state.next_number);
        state.next_number += 1;
        let is_first = state.due.first_key_value().is_none_or(|(first, _)| key < *first);
        state.due.insert(key, action);
        if !state.has_thread {
            let thread = std::thread::Builder::new().name("sprang-timer".into()).spawn(|| timer.serve());
            // Without a thread the action is late: the next deadline tries to spawn one again.
            state.has_thread = thread.is_ok();
        } else if is_first {
            timer.changed.notify_one();
        }
        deadline.key = Some(key);
        Box::new(deadline)
    }
}

/// Removes its entry from the timer when it is dropped.
struct TimerDeadline {
    timer: &'static TimerThread,
    generation: Generation,
    key: Option<(Instant, u64)>,
}

impl Deadline for TimerDeadline {}

impl Drop for TimerDeadline {
    fn drop(&mut self) {
        // In a forked child, the timer has no thread, and its lock may be held.
        if let Some(key) = self.key.filter(|_| self.generation.is_current()) {
            // The action is dropped after the lock is released.
            let _action = self.timer.lock().due.remove(&key);
        }
    }
}
