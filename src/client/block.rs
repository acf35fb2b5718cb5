//! Blocking a thread until a state is reached, a deadline passes or its task is cancelled.

use super::cluster::WorkerThread;
use crate::engine::CancelToken;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Instant;

/// A state, and the condition variable that is notified when it changes.
#[derive(Debug, Default)]
pub(super) struct Monitor<S> {
    pub(super) state: Mutex<S>,
    changed: Condvar,
}

impl<S> Monitor<S> {
    /// Changes the state, and wakes all threads that wait.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        // With the lock: a thread that has found the old state holds the lock until it sleeps.
        let result = change(&mut self.state.lock());
        self.changed.notify_all();
        result
    }

    /// Blocks until `ready` returns a value. `None` if the deadline passes before, or the calling
    /// task is cancelled.
    ///
    /// `owner` has this monitor. If the calling thread belongs to a worker, another thread works in
    /// its place meanwhile.
    pub(super) fn wait<O, R>(
        owner: &Arc<O>,
        monitor: fn(&O) -> &Monitor<S>,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut S) -> Option<R>,
    ) -> Option<R>
    where
        O: Send + Sync + 'static,
        S: 'static,
    {
        let Monitor { state, changed } = monitor(owner);
        if let Some(value) = ready(&mut state.lock()) {
            return Some(value);
        }
        let token = CancelToken::in_force();
        let _listener = token.as_ref().map(|token| {
            let owner = Arc::clone(owner);
            token.on_cancel(move || monitor(&owner).update(|_| ()))
        });
        let mut sleep = || {
            let mut state = state.lock();
            loop {
                if let Some(value) = ready(&mut state) {
                    return Some(value);
                }
                if token.as_ref().is_some_and(CancelToken::is_cancelled) {
                    return None;
                }
                match deadline {
                    None => changed.wait(&mut state),
                    Some(deadline) => {
                        if changed.wait_until(&mut state, deadline).timed_out() {
                            return ready(&mut state);
                        }
                    }
                }
            }
        };
        match WorkerThread::current() {
            Some(place) => place.block(&mut sleep),
            None => sleep(),
        }
    }
}
