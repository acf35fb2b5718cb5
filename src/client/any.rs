//! Futures without the types of their values, for those who watch many of them.

use super::future::TaskFuture;
use super::promise::{AnyPromise, Status};
use super::wait::{self, WaitFor};
use std::fmt;
use std::sync::{Arc, Weak};

/// A future of a value of any type. It keeps nobody's task wanted.
pub struct AnyFuture(Arc<dyn AnyPromise>);

impl fmt::Debug for AnyFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyFuture").field("status", &self.0.record().status()).finish()
    }
}

impl AnyFuture {
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

/// Futures in any shape: one, or a tuple, vector, slice, array or option of such things, whatever their values are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no future, and no shape of futures",
    label = "not a `TaskFuture`, or a tuple, vector, slice, array or option of these"
)]
pub trait Futures {
    #[doc(hidden)]
    fn list(&self, futures: &mut Vec<AnyFuture>);
}

impl<T: Send + Sync + 'static> Futures for TaskFuture<T> {
    fn list(&self, futures: &mut Vec<AnyFuture>) {
        futures.push(AnyFuture(self.promise()));
    }
}

impl<F: Futures + ?Sized> Futures for &F {
    fn list(&self, futures: &mut Vec<AnyFuture>) {
        (**self).list(futures);
    }
}

impl<F: Futures> Futures for [F] {
    fn list(&self, futures: &mut Vec<AnyFuture>) {
        self.iter().for_each(|item| item.list(futures));
    }
}

impl<F: Futures> Futures for Vec<F> {
    fn list(&self, futures: &mut Vec<AnyFuture>) {
        self[..].list(futures);
    }
}

impl<F: Futures, const N: usize> Futures for [F; N] {
    fn list(&self, futures: &mut Vec<AnyFuture>) {
        self[..].list(futures);
    }
}

impl<F: Futures> Futures for Option<F> {
    fn list(&self, futures: &mut Vec<AnyFuture>) {
        self.iter().for_each(|item| item.list(futures));
    }
}

macro_rules! tuple {
    ($($A:ident $i:tt),*) => {
        impl<$($A: Futures),*> Futures for ($($A,)*) {
            fn list(&self, futures: &mut Vec<AnyFuture>) {
                $(self.$i.list(futures);)*
            }
        }
    };
}
for_each_arity!(tuple);
