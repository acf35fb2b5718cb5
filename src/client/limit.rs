//! The time limit of a graph that is submitted to a client: the setting `run_timeout`.

use super::promise::{AnyPromise, Outcome, Waiter, settle};
use crate::engine::Timer;
use crate::error::{Error, ErrorKind};
use crate::executor::timer::TimerThread;
use crate::per_process::spawn;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Fails the promises that are not settled `limit` from now, which stops their tasks.
pub(super) fn start(limit: Duration, promises: &[Arc<dyn AnyPromise>]) {
    let limited: Vec<Weak<dyn AnyPromise>> = promises.iter().map(Arc::downgrade).collect();
    let deadline = TimerThread::shared().start(limit, Box::new(move || time_out_elsewhere(limit, limited)));
    // The last promise that is settled or dropped drops the deadline.
    let deadline = Arc::new(Mutex::new(deadline));
    for promise in promises {
        let deadline = Arc::clone(&deadline);
        let _is_settled = promise.record().wait_with(Waiter::Callback(Box::new(move || drop(deadline))));
    }
}

/// Fails the promises on a thread of its own: their callbacks may block, and other timers must not
/// wait for them.
fn time_out_elsewhere(limit: Duration, promises: Vec<Weak<dyn AnyPromise>>) {
    let promises = Arc::new(promises);
    let shared = Arc::clone(&promises);
    let thread = std::thread::Builder::new().name("sprang-limit".to_owned());
    let thread = spawn(thread, move || time_out(limit, &shared));
    if thread.is_err() {
        time_out(limit, &promises);
    }
}

fn time_out(limit: Duration, promises: &[Weak<dyn AnyPromise>]) {
    for promise in promises.iter().filter_map(Weak::upgrade) {
        let message = format!("it did not end within {limit:?} of its submission, its \"run_timeout\"");
        let error = Error::new(ErrorKind::TimedOut, message).with_task(promise.record().name(), 0);
        settle(&promise, Outcome::Failed(error));
    }
}
