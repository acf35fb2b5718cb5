//! Periodically reports runs that make no progress.
//!
//! The timer of timeouts calls the watchdog. Callbacks and loggers run on a separate thread, so
//! that no timeout waits for them.
//!
//! # What is always true
//!
//! A report reads the run's plan, and may take longer than the last task. Dropping the [`Watchdog`]
//! waits for its reports, and the plan outlives the watchdog.

use super::timer::TimerThread;
use crate::engine::{Deadline, Run, StallCheck, Timer};
use crate::per_process::spawn;
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Watches a run until it is dropped.
#[must_use = "it watches the run until it is dropped"]
pub(crate) struct Watchdog(Arc<WatchedRun>);

struct WatchedRun {
    run: Weak<Run>,
    state: Mutex<WatchdogState>,
    reported: Condvar,
}

#[derive(Default)]
struct WatchdogState {
    next: Option<Box<dyn Deadline>>,
    is_dropped: bool,
    /// The number of threads that report a stall.
    num_reports: usize,
}

impl Watchdog {
    /// `None` for a run whose stalls are not to be reported.
    pub(crate) fn of(run: &Arc<Run>) -> Option<Self> {
        let timeout = run.stall()?.timeout();
        let shared =
            Arc::new(WatchedRun { run: Arc::downgrade(run), state: Mutex::default(), reported: Condvar::new() });
        shared.check_after(timeout);
        Some(Watchdog(shared))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_dropped = true;
        let next = state.next.take();
        while state.num_reports > 0 {
            self.0.reported.wait(&mut state);
        }
        drop(state);
        drop(next);
    }
}

impl WatchedRun {
    fn check_after(self: &Arc<Self>, time: Duration) {
        let shared = Arc::clone(self);
        let next = TimerThread::shared().start(time, Box::new(move || shared.check()));
        let mut state = self.state.lock();
        let unused = if state.is_dropped { Some(next) } else { state.next.replace(next) };
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
                if let Some(report) = StallReport::begin(self) {
                    let thread = std::thread::Builder::new().name("sprang-stall".into());
                    // Without a thread there is no report.
                    let _unreported = spawn(thread, move || {
                        run.report_stall();
                        drop(run);
                        drop(report);
                    });
                }
            }
        }
    }
}

/// A report in progress, for which the watchdog waits when it is dropped.
struct StallReport(Arc<WatchedRun>);

impl StallReport {
    fn begin(shared: &Arc<WatchedRun>) -> Option<Self> {
        let mut state = shared.state.lock();
        if state.is_dropped {
            return None;
        }
        state.num_reports += 1;
        Some(StallReport(Arc::clone(shared)))
    }
}

impl Drop for StallReport {
    fn drop(&mut self) {
        self.0.state.lock().num_reports -= 1;
        self.0.reported.notify_all();
    }
}
