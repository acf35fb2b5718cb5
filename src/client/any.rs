//! Futures without the types of their values, for diagnostics.

use super::future_node::promise_of;
use super::promise::{AnyPromise, Status};
use super::wait::{self, WaitFor};
use crate::api::collection::{Collection, HandleList, Listed};
use std::fmt;
use std::sync::{Arc, Weak};

/// A future of a value of any type. It does not keep its task wanted: a task without other handles
/// does not start.
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

    /// Returns a function that blocks until all futures are settled, or the calling task is
    /// cancelled.
    ///
    /// The function keeps no values. A future without any other handle is skipped: it is settled,
    /// or never will be.
    pub(crate) fn waiting<'a>(futures: impl Iterator<Item = &'a AnyFuture>) -> Box<dyn FnOnce()> {
        let promises: Vec<Weak<dyn AnyPromise>> = futures.map(|future| Arc::downgrade(&future.0)).collect();
        Box::new(move || {
            // One at a time, so that each is dropped when it is settled.
            let mut promises = promises.iter().filter_map(Weak::upgrade);
            while promises.next().is_some_and(|promise| wait::settled(&[promise], WaitFor::All, None)) {}
        })
    }
}
