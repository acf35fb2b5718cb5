//! Waiting for promises.
//!
//! A task that waits runs the task it waits for, if that has not started. Otherwise its thread
//! gives up its place, and another thread works meanwhile. So tasks may wait for tasks, however few
//! workers there are.
//!
//! A waiting task runs no other ready task. This keeps locks safe: a task that holds a lock while
//! it waits never runs a second task that wants the same lock.
//!
//! A thread of the program also runs a short task itself, if the worker's thread that was notified
//! for it is not awake yet ([`Owner::run_inline`](super::job::Owner::run_inline)). It has no place
//! to give up.

use super::block::Monitor;
use super::cluster::WorkerThread;
use super::nested;
use super::promise::{AnyPromise, Outcome, Status, Waiter, Watcher, settle};
use super::spin::spin_until;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Instant;

/// The condition that ends a wait for several futures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitFor {
    /// All futures are settled.
    All,
    /// One future is settled.
    First,
    /// One future has failed, was cancelled or was lost, or all have finished.
    FirstFailure,
}

struct Latch {
    until: WaitFor,
    num_left: AtomicUsize,
    is_open: AtomicBool,
    monitor: Monitor<()>,
}

impl Latch {
    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }
}

impl Watcher for Latch {
    fn on_settled(&self, _: usize, status: Status) {
        let is_last = self.num_left.fetch_sub(1, Ordering::AcqRel) == 1;
        let is_enough = match self.until {
            WaitFor::All => false,
            WaitFor::First => true,
            WaitFor::FirstFailure => status != Status::Finished,
        };
        if is_last || is_enough {
            // Release: pairs with the acquire in `is_open`, so that the waiting thread sees the
            // settled promises.
            self.is_open.store(true, Ordering::Release);
            self.monitor.update(|()| ());
        }
    }
}

/// Blocks until promises are settled. False if the deadline passed before, or the calling task was
/// cancelled.
pub(super) fn settled(promises: &[Arc<dyn AnyPromise>], until: WaitFor, deadline: Option<Instant>) -> bool {
    let latch = Arc::new(Latch {
        until,
        num_left: AtomicUsize::new(promises.len()),
        is_open: AtomicBool::new(false),
        monitor: Monitor::default(),
    });
    let watcher: Arc<dyn Watcher> = Arc::<Latch>::clone(&latch);
    let place = WorkerThread::current();
    for promise in promises {
        lose_if_forked(promise);
        match &place {
            // A task may take longer than the deadline allows, or than another one that would be
            // enough.
            Some(place) if until != WaitFor::First && deadline.is_none() => {
                place.run_here(promise);
            }
            Some(_) => {}
            None if until == WaitFor::All && deadline.is_none() => promise.record().owner().run_inline(promise),
            None => {}
        }
        if let Err(waiter) = promise.record().wait_with(Waiter::Watcher(Arc::clone(&watcher), 0)) {
            drop(waiter);
            latch.on_settled(0, promise.record().status());
        }
        if latch.is_open() {
            break;
        }
    }
    nested::reclaim(promises);
    let is_open = promises.is_empty() || wait(&latch, deadline);
    if !is_open || until != WaitFor::All {
        promises.iter().for_each(|promise| promise.record().forget(&watcher));
    }
    is_open
}

/// In a forked child: settles a promise whose task runs in the parent, if anywhere.
pub(super) fn lose_if_forked(promise: &Arc<dyn AnyPromise>) {
    if !promise.record().is_settled()
        && let Some(error) = promise.record().owner().lost_by_fork()
    {
        settle(promise, Outcome::Lost(error));
    }
}

fn wait(latch: &Arc<Latch>, deadline: Option<Instant>) -> bool {
    nested::wait(|| latch.is_open(), deadline);
    let is_open = |_: &mut ()| latch.is_open().then_some(());
    spin_until(|| latch.is_open()) || Monitor::wait(latch, |latch| &latch.monitor, deadline, is_open).is_some()
}

/// The indices of promises in the order in which they were settled.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Monitor<ArrivalsState>);

#[derive(Debug, Default)]
struct ArrivalsState {
    indices: VecDeque<usize>,
    waker: Option<Waker>,
}

impl Watcher for Arrivals {
    fn on_settled(&self, index: usize, _: Status) {
        let waker = self.0.update(|state| {
            state.indices.push_back(index);
            state.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Arrivals {
    /// Takes all indices that have arrived.
    pub(super) fn take_arrived(&self) -> Vec<usize> {
        self.0.state.lock().indices.drain(..).collect()
    }

    pub(super) fn has_any(&self) -> bool {
        !self.0.state.lock().indices.is_empty()
    }

    /// Takes the next index. If there is none, the waker is called when one arrives.
    pub(super) fn poll_next(&self, waker: &Waker) -> Option<usize> {
        let mut state = self.0.state.lock();
        let next = state.indices.pop_front();
        if next.is_none() {
            state.waker = Some(waker.clone());
        }
        next
    }

    /// Blocks until an index arrives. `None` if the deadline passes before, or the calling task is
    /// cancelled.
    pub(super) fn next(self: &Arc<Self>, deadline: Option<Instant>) -> Option<usize> {
        nested::wait(|| self.has_any(), deadline);
        spin_until(|| self.has_any());
        Monitor::wait(self, |arrivals| &arrivals.0, deadline, |state| state.indices.pop_front())
    }
}
