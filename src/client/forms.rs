//! The forms of [`Collection`]s that a client makes: futures, and handles to results that are
//! computed in the background.

use super::future::TaskFuture;
use super::future_node::{cloneable_future_node, future_node, typed_promise_of};
use super::job::Owner;
use super::promise::AnyPromise;
use super::{Client, PureKey, limit, submit};
use crate::api::collection::{Collection, Form, HandleList, Handles, HandlesOf, Leaf, Parts, Sealed, Values, ValuesOf};
use crate::api::config::Snapshot;
use crate::api::delayed::try_delayed_local;
use crate::error::Result;
use crate::graph::Delayed;
use crate::graph::node::Task;
use std::fmt;
use std::sync::Arc;

/// A future for each handle: the form that [`Client::compute`] asks for. A collection with a finish
/// step becomes one future, of its finished value.
#[derive(Debug)]
pub struct Futures;

/// As [`Futures`], for handles that are computed in one run with others: one may need the value of
/// another, so values are `Clone`.
#[derive(Debug)]
pub struct GroupFutures;

/// A handle for each handle, whose value is computed in the background: the form that
/// [`Client::persist`] asks for.
#[derive(Debug)]
pub struct Persisted;

impl Sealed for Futures {}
impl Sealed for GroupFutures {}
impl Sealed for Persisted {}

/// The tasks of one call of [`Client::compute`] or [`Client::persist`].
pub(super) struct Submission {
    client: Client,
    /// The configuration of the tasks; `None` if it is that of the cluster.
    snapshot: Option<Snapshot>,
    /// The outputs of one graph, and their promises.
    tasks: Vec<Task>,
    promises: Vec<Arc<dyn AnyPromise>>,
    /// The promises of tasks that were submitted alone.
    alone: Vec<Arc<dyn AnyPromise>>,
    /// Tasks that finish collections. They wait for the graph, so they are submitted after it.
    finishing: Vec<(Task, Arc<dyn AnyPromise>)>,
    /// How many collections with a finish step are being rebuilt, one inside the other.
    depth: usize,
    /// Inside these, each task that was taken and a handle of its future.
    replaced: Vec<(Task, Task)>,
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

impl Submission {
    /// Rebuilds a collection in a form of this file, and submits the tasks of its handles.
    pub(super) fn submit<F: Form, C: Collection<F>>(client: &Client, outputs: &C) -> C::Shape {
        let (snapshot, mistake) = client.snapshot_here();
        let mut submission = Submission {
            client: client.clone(),
            snapshot,
            tasks: Vec::new(),
            promises: Vec::new(),
            alone: Vec::new(),
            finishing: Vec::new(),
            depth: 0,
            replaced: Vec::new(),
        };
        let shape = outputs.rebuild(&mut Parts::of_client(&mut submission)).expect("futures are made without errors");
        let Submission { snapshot, tasks, promises, alone, finishing, .. } = submission;
        if let Some(error) = mistake {
            let finishing = finishing.iter().map(|(_, promise)| promise);
            promises.iter().chain(finishing).for_each(|promise| submit::refuse(promise, error.clone()));
            return shape;
        }
        if let Some(limit) = snapshot.as_ref().unwrap_or(client.core.snapshot()).settings().run_timeout {
            let finishing = finishing.iter().map(|(_, promise)| promise);
            let all: Vec<_> = promises.iter().chain(&alone).chain(finishing).map(Arc::clone).collect();
            limit::start(limit, &all);
        }
        if !tasks.is_empty() {
            let tasks: Vec<_> = tasks.iter().map(Task::as_ref).collect();
            submit::submit_group(&*client.core, &tasks, promises);
        }
        finishing.into_iter().for_each(|(task, promise)| submit::submit_one(&*client.core, task.as_ref(), promise));
        shape
    }

    /// The future of a task that is computed with the others, or that is a future already.
    fn join<T: Clone + Send + Sync + 'static>(&mut self, handle: &Delayed<T>) -> TaskFuture<T> {
        known_future(handle).unwrap_or_else(|| {
            let future = self.client.promise_for(handle, Some(T::clone), self.snapshot.clone());
            self.tasks.push(handle.task_ref().to_task());
            self.promises.push(future.promise());
            future
        })
    }

    fn note<T, U>(&mut self, handle: &Delayed<T>, by: &Delayed<U>) {
        if self.depth > 0 {
            self.replaced.push((handle.task_ref().to_task(), by.task_ref().to_task()));
        }
    }
}

/// The future whose handle this is.
fn known_future<T: Send + Sync + 'static>(handle: &Delayed<T>) -> Option<TaskFuture<T>> {
    let task = handle.task_ref();
    let promise = typed_promise_of::<T>(task)?;
    Some(TaskFuture::new(future_node(Arc::clone(&promise), task.kind().value_code), promise))
}

/// Rebuilds a collection with handles of the futures of its tasks.
fn with_futures<F: Form, C>(parts: &mut Parts<'_>, inner: &C) -> Result<HandlesOf<C>>
where
    C: Collection<F> + Collection<Handles> + ?Sized,
{
    let submission = parts.client::<Submission>();
    submission.depth += 1;
    let first = submission.replaced.len();
    let futures = Collection::<F>::rebuild(inner, parts)?;
    let submission = parts.client::<Submission>();
    let handles = Collection::<Handles>::rebuild(inner, &mut Parts::replaced(&submission.replaced[first..]));
    submission.depth -= 1;
    if submission.depth == 0 {
        submission.replaced.clear();
    }
    drop(futures);
    handles
}

/// A future of the value that a task makes from those of a collection's parts.
fn finished_future<F: Form, C, V>(
    parts: &mut Parts<'_>,
    inner: &C,
    finish: impl Fn(ValuesOf<C>) -> V + Send + Sync + 'static,
) -> Result<TaskFuture<V>>
where
    C: Collection<F> + Collection<Values> + Collection<Handles> + ?Sized,
    HandlesOf<C>: Collection<Values, Shape = ValuesOf<C>> + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let handles = with_futures::<F, C>(parts, inner)?;
    let futures = HandleList::of::<Values>(&handles).tasks().iter().map(|task| task.to_task()).collect();
    let task = try_delayed_local(move || handles.rebuild(&mut Parts::settled()).map(&finish), ())
        .with_options(|options| options.after = futures);
    let submission = parts.client::<Submission>();
    let future = submission.client.promise_for(&task, Some(V::clone), submission.snapshot.clone());
    submission.finishing.push((task.task_ref().to_task(), future.promise()));
    Ok(future)
}

/// The finish step of a form whose collections become futures.
macro_rules! finish_as_future {
    () => {
        type Finished<V: Clone + Send + Sync + 'static, H> = TaskFuture<V>;

        fn finish<C, V, H>(
            parts: &mut Parts<'_>,
            inner: &C,
            finish: impl Fn(ValuesOf<C>) -> V + Send + Sync + 'static,
            _: impl FnOnce(HandlesOf<C>) -> H,
        ) -> Result<TaskFuture<V>>
        where
            C: Collection<Self> + Collection<Values> + Collection<Handles> + ?Sized,
            HandlesOf<C>: Collection<Values, Shape = ValuesOf<C>> + Send + Sync + 'static,
            V: Clone + Send + Sync + 'static,
        {
            finished_future::<Self, C, V>(parts, inner, finish)
        }
    };
}

impl Form for Futures {
    type Item = GroupFutures;
    finish_as_future!();
}

impl Form for GroupFutures {
    type Item = GroupFutures;
    finish_as_future!();
}

impl Form for Persisted {
    type Item = Persisted;
    type Finished<V: Clone + Send + Sync + 'static, H> = H;

    fn finish<C, V, H>(
        parts: &mut Parts<'_>,
        inner: &C,
        _: impl Fn(ValuesOf<C>) -> V + Send + Sync + 'static,
        with_handles: impl FnOnce(HandlesOf<C>) -> H,
    ) -> Result<H>
    where
        C: Collection<Persisted> + Collection<Values> + Collection<Handles> + ?Sized,
        V: Clone + Send + Sync + 'static,
    {
        with_futures::<Persisted, C>(parts, inner).map(with_handles)
    }
}

impl<T: Send + Sync + 'static> Leaf<T> for Futures {
    type Of = TaskFuture<T>;

    fn take(parts: &mut Parts<'_>, handle: &Delayed<T>) -> Result<TaskFuture<T>> {
        let submission = parts.client::<Submission>();
        let future = known_future(handle).unwrap_or_else(|| {
            let key = PureKey::of(handle);
            submission.client.known(key.as_ref(), handle).unwrap_or_else(|| {
                let future = submission.client.compute_new(key, handle);
                submission.alone.push(future.promise());
                future
            })
        });
        submission.note(handle, &future.as_delayed());
        Ok(future)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Leaf<T> for GroupFutures {
    type Of = TaskFuture<T>;

    fn take(parts: &mut Parts<'_>, handle: &Delayed<T>) -> Result<TaskFuture<T>> {
        let submission = parts.client::<Submission>();
        let future = submission.join(handle);
        submission.note(handle, &future.as_delayed());
        Ok(future)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Leaf<T> for Persisted {
    type Of = Delayed<T>;

    fn take(parts: &mut Parts<'_>, handle: &Delayed<T>) -> Result<Delayed<T>> {
        let submission = parts.client::<Submission>();
        let future = submission.join(handle);
        let persisted = cloneable_future_node(Arc::clone(future.typed()), handle.task_ref().kind().value_code);
        submission.note(handle, &persisted);
        Ok(persisted)
    }
}
