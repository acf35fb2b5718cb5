//! Waiting for promises.
//!
//! A thread of a cluster that waits in a task runs what it waits for, if that has not begun; otherwise it gives up its place, so that another
//! thread works meanwhile. So tasks may wait for tasks, however few workers there are.
//!
//! Running just what is waited for, and nothing else that happens to be ready, is what keeps locks safe: a task that holds one while
//! it waits never runs a stranger that wants the same.
//!
//! A thread of the program does the same with small tasks while the worker's thread that was called for them has not come yet
//! ([`Core::run_inline`]), but gives up nothing.

use super::cluster::CurrentWorker;
use super::nested;
use super::promise::{AnyPromise, Status, Waiter, Watcher};
use super::spin::spin_until;
use crate::engine::CancelToken;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitFor {
    /// That all are settled.
    All,
    /// That one is.
    First,
    /// That one has failed, was cancelled or was lost, or all have finished.
    FirstFailure,
}

struct Latch {
    until: WaitFor,
    num_left: AtomicUsize,
    is_open: AtomicBool,
    lock: Mutex<()>,
    bell: Condvar,
}

impl Latch {
    fn open(&self) {
        self.is_open.store(true, Ordering::Release);
        // With the lock: who has just found it closed is waiting by now.
        drop(self.lock.lock());
        self.bell.notify_all();
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
            self.open();
        }
    }
}

/// Waits until promises are settled; false if the time was up before, or the task that waits was cancelled.
pub(super) fn settled(promises: &[Arc<dyn AnyPromise>], until: WaitFor, deadline: Option<Instant>) -> bool {
    let latch = Arc::new(Latch {
        until,
        num_left: AtomicUsize::new(promises.len()),
        is_open: AtomicBool::new(false),
        lock: Mutex::new(()),
        bell: Condvar::new(),
    });
    let watcher: Arc<dyn Watcher> = Arc::<Latch>::clone(&latch);
    let place = CurrentWorker::of_this_thread();
    for promise in promises {
        match &place {
            // It may take longer than there is time, or than another of which one is enough.
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
        if latch.is_open.load(Ordering::Acquire) {
            break;
        }
    }
    nested::reclaim(promises);
    let is_open = promises.is_empty() || wait(&latch, place, deadline);
    if !is_open || until != WaitFor::All {
        promises.iter().for_each(|promise| promise.record().forget(&watcher));
    }
    is_open
}

fn wait(latch: &Latch, place: Option<CurrentWorker>, deadline: Option<Instant>) -> bool {
    let is_open = || latch.is_open.load(Ordering::Acquire);
    nested::wait(is_open, deadline);
    if spin_until(is_open) {
        return true;
    }
    let token = CancelToken::in_force();
    let sleep = || {
        let mut lock = latch.lock.lock();
        while !is_open() {
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_over || token.as_ref().is_some_and(CancelToken::is_cancelled) {
                return false;
            }
            let look = token.as_ref().map(|_| Instant::now() + CancelToken::LOOK);
            match deadline.into_iter().chain(look).min() {
                Some(time) => drop(latch.bell.wait_until(&mut lock, time)),
                None => latch.bell.wait(&mut lock),
            }
        }
        true
    };
    match place {
        Some(place) => place.give_up(sleep),
        None => sleep(),
    }
}

/// Sends results as they come, for iterators in the order of completion.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    arrived: Mutex<ArrivalsState>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct ArrivalsState {
    indices: std::collections::VecDeque<usize>,
    waker: Option<std::task::Waker>,
}

impl Watcher for Arrivals {
    fn on_settled(&self, index: usize, _: Status) {
        let mut arrived = self.arrived.lock();
        arrived.indices.push_back(index);
        let waker = arrived.waker.take();
        drop(arrived);
        self.bell.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Arrivals {
    /// What has come and was not taken.
    pub(super) fn take_arrived(&self) -> Vec<usize> {
        self.arrived.lock().indices.drain(..).collect()
    }

    pub(super) fn has_any(&self) -> bool {
        !self.arrived.lock().indices.is_empty()
    }

    /// The next that comes, or `None` and the waker is called when there is one.
    pub(super) fn poll_next(&self, waker: &std::task::Waker) -> Option<usize> {
        let mut arrived = self.arrived.lock();
        let next = arrived.indices.pop_front();
        if next.is_none() {
            arrived.waker = Some(waker.clone());
        }
        next
    }

    /// Waits for the next; `None` if the time is up before, or the task that waits was cancelled.
    pub(super) fn next(&self, deadline: Option<Instant>) -> Option<usize> {
        nested::wait(|| self.has_any(), deadline);
        spin_until(|| self.has_any());
        let place = CurrentWorker::of_this_thread();
        let token = CancelToken::in_force();
        let sleep = || {
            let mut arrived = self.arrived.lock();
            loop {
                if let Some(next) = arrived.indices.pop_front() {
                    return Some(next);
                }
                let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                if is_over || token.as_ref().is_some_and(CancelToken::is_cancelled) {
                    return None;
                }
                let look = token.as_ref().map(|_| Instant::now() + CancelToken::LOOK);
                match deadline.into_iter().chain(look).min() {
                    Some(time) => drop(self.bell.wait_until(&mut arrived, time)),
                    None => self.bell.wait(&mut arrived),
                }
            }
        };
        match place {
            Some(place) => place.give_up(sleep),
            None => sleep(),
        }
    }
}
