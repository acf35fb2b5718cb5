//! Looks from time to time whether a run gets on, and has it told if not.
//!
//! The clock is that of the timeouts. What callbacks and loggers do about a stall happens on a thread of its own, so that no timeout waits
//! for them.
//!
//! # What is always true
//!
//! Whoever tells of a stall looks at the run's plan, and may still be there when the last task has ended. So the end of a [`Watchdog`], which
//! comes before that of the plan, waits for it.

use super::timer::TimerThread;
use crate::engine::{Deadline, Run, StallCheck, Timer};
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Watches a run until it is dropped.
#[must_use = "it watches until it is dropped"]
pub(crate) struct Watchdog(Arc<Shared>);

struct Shared {
    run: Weak<Run>,
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Default)]
struct State {
    next: Option<Box<dyn Deadline>>,
    is_over: bool,
    /// By how many threads a stall is being told.
    num_telling: usize,
}

impl Watchdog {
    /// Nothing, for a run that nobody wants to be watched.
    pub(crate) fn of(run: &Arc<Run>) -> Option<Self> {
        let timeout = run.stall()?.timeout();
        let shared = Arc::new(Shared { run: Arc::downgrade(run), state: Mutex::default(), told: Condvar::new() });
        shared.check_after(timeout);
        Some(Watchdog(shared))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_over = true;
        let next = state.next.take();
        while state.num_telling > 0 {
            self.0.told.wait(&mut state);
        }
        drop(state);
        drop(next);
    }
}

impl Shared {
    fn check_after(self: &Arc<Self>, time: Duration) {
        let shared = Arc::clone(self);
        let next = TimerThread::shared().start(time, Box::new(move || shared.check()));
        let mut state = self.state.lock();
        let unused = if state.is_over { Some(next) } else { state.next.replace(next) };
        drop(state);
        drop(unused);
    }

    fn check(self: &Arc<Self>) {
        let Some(run) = self.run.upgrade() else { return };
        let Some(stall) = run.stall() else { return };
        match stall.check(Instant::now()) {
            StallCheck::Later(time) => self.check_after(time),
            StallCheck::Stalled(time) => {
                self.check_after(time);
                if let Some(telling) = Telling::begin(self) {
                    let thread = std::thread::Builder::new().name("sprang-stall".into());
                    // Without a thread nobody can be told.
                    let _untold = thread.spawn(move || {
                        run.report_stall();
                        drop(run);
                        drop(telling);
                    });
                }
            }
        }
    }
}

/// Keeps the end of the watchdog waiting.
struct Telling(Arc<Shared>);

impl Telling {
    fn begin(shared: &Arc<Shared>) -> Option<Self> {
        let mut state = shared.state.lock();
        if state.is_over {
            return None;
        }
        state.num_telling += 1;
        Some(Telling(Arc::clone(shared)))
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.state.lock().num_telling -= 1;
        self.0.told.notify_all();
    }
}
