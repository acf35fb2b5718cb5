//! Graphs handed in as a whole: a future for each output, in the shape of the outputs.

use super::future::TaskFuture;
use super::promise::AnyPromise;
use super::{Client, submit};
use crate::graph::Delayed;
use crate::graph::node::Task;
use std::fmt;
use std::sync::Arc;

/// Handles that a [`Client`] can compute: one, or a tuple, vector, slice, array or option of such things.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be computed by a client",
    label = "not a handle, or a shape of handles whose values are `Clone`",
    note = "`client.compute` takes `&Delayed<T>`, and tuples, vectors, slices, arrays and options of these with `T: Clone`"
)]
pub trait Computable {
    /// A future in the place of each handle.
    type Futures;
    /// A handle to the value that is computed, in the place of each handle.
    type Handles;

    #[doc(hidden)]
    fn submit(&self, client: &Client) -> Self::Futures
    where
        Self: Sized;
}

/// A part of what is computed in one run, or persisted: handles of values that are `Clone`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be computed together with others, or persisted, by a client",
    label = "not a handle whose value is `Clone`, or a shape of such handles",
    note = "a single handle of any value can be given to `client.compute`, for a future"
)]
pub trait Part: Computable {
    #[doc(hidden)]
    fn add(&self, run: &mut Parts<'_>) -> Self::Futures;

    /// Handles that can be computed themselves, which gives clones.
    #[doc(hidden)]
    fn handles(futures: Self::Futures) -> Self::Handles;
}

/// The outputs of one run, collected.
pub struct Parts<'c> {
    client: &'c Client,
    tasks: Vec<Task>,
    promises: Vec<Arc<dyn AnyPromise>>,
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

fn submit_all<P: Part + ?Sized>(part: &P, client: &Client) -> P::Futures {
    let mut parts = Parts { client, tasks: Vec::new(), promises: Vec::new() };
    let futures = part.add(&mut parts);
    let tasks: Vec<_> = parts.tasks.iter().map(Task::as_ref).collect();
    if !tasks.is_empty() {
        submit::submit_group(&*client.core, &tasks, parts.promises);
    }
    futures
}

impl<T: Send + Sync + 'static> Computable for &Delayed<T> {
    type Futures = TaskFuture<T>;
    type Handles = Delayed<T>;

    fn submit(&self, client: &Client) -> TaskFuture<T> {
        client.compute_one(self, None)
    }
}

impl<T: Clone + Send + Sync + 'static> Part for &Delayed<T> {
    fn add(&self, run: &mut Parts<'_>) -> TaskFuture<T> {
        let future = run.client.promise_for(self, Some(T::clone));
        run.tasks.push(self.task_ref().to_task());
        run.promises.push(future.promise());
        future
    }

    fn handles(futures: TaskFuture<T>) -> Delayed<T> {
        futures.as_output()
    }
}

impl<T: Send + Sync + 'static> Computable for Delayed<T> {
    type Futures = TaskFuture<T>;
    type Handles = Delayed<T>;

    fn submit(&self, client: &Client) -> TaskFuture<T> {
        client.compute_one(self, None)
    }
}

impl<T: Clone + Send + Sync + 'static> Part for Delayed<T> {
    fn add(&self, run: &mut Parts<'_>) -> TaskFuture<T> {
        (&self).add(run)
    }

    fn handles(futures: TaskFuture<T>) -> Delayed<T> {
        futures.as_output()
    }
}

/// What lists have in common.
macro_rules! list {
    ($([$($const:tt)*] $list:ty;)*) => {$(
        impl<P: Part $($const)*> Computable for $list {
            type Futures = Vec<P::Futures>;
            type Handles = Vec<P::Handles>;

            fn submit(&self, client: &Client) -> Self::Futures {
                submit_all(self, client)
            }
        }

        impl<P: Part $($const)*> Part for $list {
            fn add(&self, run: &mut Parts<'_>) -> Self::Futures {
                self.iter().map(|item| item.add(run)).collect()
            }

            fn handles(futures: Self::Futures) -> Self::Handles {
                futures.into_iter().map(P::handles).collect()
            }
        }
    )*};
}
list! {
    [] Vec<P>;
    [] &Vec<P>;
    [] &[P];
}

impl<P: Part, const N: usize> Computable for [P; N] {
    type Futures = [P::Futures; N];
    type Handles = [P::Handles; N];

    fn submit(&self, client: &Client) -> Self::Futures {
        submit_all(self, client)
    }
}

impl<P: Part, const N: usize> Part for [P; N] {
    fn add(&self, run: &mut Parts<'_>) -> Self::Futures {
        std::array::from_fn(|i| self[i].add(run))
    }

    fn handles(futures: Self::Futures) -> Self::Handles {
        futures.map(P::handles)
    }
}

impl<P: Part> Computable for Option<P> {
    type Futures = Option<P::Futures>;
    type Handles = Option<P::Handles>;

    fn submit(&self, client: &Client) -> Self::Futures {
        submit_all(self, client)
    }
}

impl<P: Part> Part for Option<P> {
    fn add(&self, run: &mut Parts<'_>) -> Self::Futures {
        self.as_ref().map(|item| item.add(run))
    }

    fn handles(futures: Self::Futures) -> Self::Handles {
        futures.map(P::handles)
    }
}

macro_rules! tuple {
    ($($A:ident $i:tt),*) => {
        impl<$($A: Part),*> Computable for ($($A,)*) {
            type Futures = ($($A::Futures,)*);
            type Handles = ($($A::Handles,)*);

            fn submit(&self, client: &Client) -> Self::Futures {
                submit_all(self, client)
            }
        }

        impl<$($A: Part),*> Part for ($($A,)*) {
            fn add(&self, run: &mut Parts<'_>) -> Self::Futures {
                ($(self.$i.add(run),)*)
            }

            fn handles(futures: Self::Futures) -> Self::Handles {
                ($($A::handles(futures.$i),)*)
            }
        }
    };
}
for_each_arity!(tuple);
