//! Futures without the types of their values, for those who watch many of them.

use super::promise::{AnyPromise, Status, promise_of};
use super::wait::{self, WaitFor};
use crate::api::collection::{Collection, HandleList, Listed};
use std::fmt;
use std::sync::{Arc, Weak};

/// A future of a value of any type. It keeps nobody's task wanted.
pub(crate) struct AnyFuture(Arc<dyn AnyPromise>);

impl fmt::Debug for AnyFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyFuture").field("status", &self.0.record().status()).finish()
    }
}

impl AnyFuture {
    /// The futures of a collection, in order. Handles of other tasks are left out.
    pub(crate) fn of(futures: &impl Collection<Listed>) -> Vec<AnyFuture> {
        let handles = HandleList::of::<Listed>(futures);
        handles.tasks().iter().filter_map(|&task| promise_of(task)).map(AnyFuture).collect()
    }

    pub(crate) fn status(&self) -> Status {
        self.0.record().status()
    }

    pub(crate) fn name(&self) -> Arc<str> {
        self.0.record().name()
    }

    /// What waits until all are settled, or the task that waits is cancelled. It keeps none of their values: those that nobody else has are
    /// settled, or will never be.
    pub(crate) fn waiting<'a>(futures: impl Iterator<Item = &'a AnyFuture>) -> Box<dyn FnOnce()> {
        let promises: Vec<Weak<dyn AnyPromise>> = futures.map(|future| Arc::downgrade(&future.0)).collect();
        Box::new(move || {
            // One after the other, so that each is let go of when it is settled.
            let mut those_left = promises.iter().filter_map(Weak::upgrade);
            while those_left.next().is_some_and(|promise| wait::settled(&[promise], WaitFor::All, None)) {}
        })
    }
}
