//! Collections: task handles in any shape, and the results in the same shape.
//!
//! [`Collection`] is the one trait behind [`compute`](crate::compute()),
//! [`persist`](crate::persist), the methods of a [`Client`](crate::Client) and
//! [`progress_of`](crate::progress_of). Its parameter, a [`Form`], says what takes the place of
//! each handle: its value, a `Result`, a new handle or a future.
//!
//! # What is always true
//!
//! 1. A [`HandleList<'a>`] holds tasks whose handles are borrowed for `'a`, or that the list's
//!    owner keeps itself. So the nodes live as long as the list is used, whatever a collection
//!    does.
//! 2. [`Parts`] gives out the n-th output of a run only for the handle that was listed n-th: it
//!    compares their nodes. By rule 1 equal addresses are one node. So the type of the handle is
//!    the type of the value, and each output is taken once.
//! 3. Nothing here trusts a collection of another crate. A collection that takes other parts than
//!    it lists, or in another order, panics.

#![expect(unsafe_code, reason = "it takes typed values from untyped cells")]

use super::compute::OwnedRun;
use crate::error::Result;
use crate::graph::Delayed;
use crate::graph::node::{Task, TaskRef};
use crate::graph::pages;
use crate::graph::task::cloneable_value_task;
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::slice;

/// Task handles or futures in some shape: one, or a tuple, vector, slice, array, option or map of
/// such things, or a type of your own.
///
/// The parameter is the [`Form`] that the result has: [`compute`](crate::compute()) asks for
/// [`Values`], [`compute_each`](crate::compute_each) for [`Outcomes`], [`persist`](crate::persist)
/// for [`Handles`], [`persist_each`](crate::persist_each) for [`HandleOutcomes`],
/// [`Client::compute`](crate::Client::compute) for [`Futures`](crate::collection::Futures). Values
/// must be `Clone`, because the same handle may occur twice; only `Client::compute` of a single
/// handle takes any value, and [`progress_of`](crate::progress_of) any future.
///
/// # Examples
/// A type of your own says which handles it has, and how their values become its result:
/// ```
/// use sprang::collection::{Form, HandleList, Parts};
/// use sprang::{Collection, Delayed, Result, compute, delayed, persist};
///
/// /// Numbers in blocks; computed, they are one vector.
/// struct Blocks(Vec<Delayed<Vec<f64>>>);
///
/// impl<F: Form> Collection<F> for Blocks
/// where
///     Vec<Delayed<Vec<f64>>>: Collection<F>,
/// {
///     type Shape = F::Finished<Vec<f64>, Blocks>;
///
///     fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
///         self.0.list(handles);
///     }
///
///     fn rebuild(&self, parts: &mut Parts<'_>) -> Result<Self::Shape> {
///         F::finish(parts, &self.0, |blocks| blocks.concat(), Blocks)
///     }
/// }
///
/// let block = |i: u32| vec![f64::from(i); 2];
/// let blocks = Blocks((0..3_u32).map(|i| delayed(block, (i,))).collect());
/// let blocks = persist(&blocks)?; // the same type, with handles to the results
/// let sum = delayed(|block: &Vec<f64>| block.iter().sum::<f64>(), (&blocks.0[2],));
/// let (all, sum) = compute((&blocks, &sum))?;
/// assert_eq!((all, sum), (vec![0.0, 0.0, 1.0, 1.0, 2.0, 2.0], 4.0));
/// # Ok::<_, sprang::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be computed",
    label = "not a handle whose value is `Clone`, or a shape of such handles",
    note = "compute takes `&Delayed<T>` or `Delayed<T>` with `T: Clone`, and tuples, vectors, slices, arrays, options and maps of these",
    note = "a handle whose value is not `Clone` is computed on its own: `handle.compute()`"
)]
pub trait Collection<F: Form> {
    /// The result: the same shape with each handle replaced, or a [finished](Form::Finished) value.
    type Shape;

    /// Adds the handles to the list.
    fn list<'a>(&'a self, handles: &mut HandleList<'a>);

    /// Makes the result from the parts, which are taken in the order of [`list`](Collection::list).
    ///
    /// # Errors
    /// The failure of a part.
    ///
    /// # Panics
    /// If it does not take exactly the parts that it has listed, in the same order.
    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<Self::Shape>;
}

/// The values of a collection.
pub type ValuesOf<C> = <C as Collection<Values>>::Shape;

/// The new handles of a collection.
pub type HandlesOf<C> = <C as Collection<Handles>>::Shape;

/// What takes the place of the handles of a [`Collection`]: [`Values`], [`Outcomes`], [`Handles`],
/// [`HandleOutcomes`] or [`Futures`](crate::collection::Futures).
///
/// Only this crate has forms.
pub trait Form: Sealed + Sized + 'static {
    /// The form that the items of a tuple, vector, slice, array, option or map have.
    #[doc(hidden)]
    type Item: Form<Item = Self::Item>;

    /// What takes the place of a collection with a finish step: for values the finished value `V`,
    /// for outcomes a `Result` with it, for futures a future of it, and for handles a collection
    /// `H` of the new handles, or a `Result` with that.
    type Finished<V: Clone + Send + Sync + 'static, H>;

    /// Rebuilds a collection whose values become one value, such as an array that concatenates its
    /// blocks.
    ///
    /// `inner` has the handles, in any shape. `finish` makes the value from their values; a client
    /// calls it in a task. `with_handles` makes the same collection with new handles.
    ///
    /// # Errors
    /// The failure of a part.
    fn finish<C, V, H>(
        parts: &mut Parts<'_>,
        inner: &C,
        finish: impl Fn(ValuesOf<C>) -> V + Send + Sync + 'static,
        with_handles: impl FnOnce(HandlesOf<C>) -> H,
    ) -> Result<Self::Finished<V, H>>
    where
        C: Collection<Self> + Collection<Values> + Collection<Handles> + ?Sized,
        HandlesOf<C>: Collection<Values, Shape = ValuesOf<C>> + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static;
}

/// Keeps other crates from adding forms.
pub trait Sealed {}

/// A [`Form`] that handles of a `T` can have.
#[diagnostic::on_unimplemented(
    message = "`Delayed<{T}>` cannot be computed",
    label = "not a handle whose value is `Clone`, or a shape of such handles",
    note = "compute takes `&Delayed<T>` or `Delayed<T>` with `T: Clone`, and tuples, vectors, slices, arrays, options and maps of these",
    note = "a handle whose value is not `Clone` is computed on its own: `handle.compute()`"
)]
pub trait Leaf<T>: Form {
    /// What takes the place of a handle of a `T`.
    type Of;

    #[doc(hidden)]
    fn take(parts: &mut Parts<'_>, handle: &Delayed<T>) -> Result<Self::Of>;
}

/// The handles of a collection, in order. See [`Collection::list`].
#[derive(Default)]
pub struct HandleList<'a> {
    tasks: Vec<TaskRef>,
    handles: PhantomData<&'a TaskRef>,
}

impl fmt::Debug for HandleList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleList").field("num_handles", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl<'a> HandleList<'a> {
    /// The handles of this collection.
    #[inline]
    pub(crate) fn of<F: Form>(collection: &'a (impl Collection<F> + ?Sized)) -> Self {
        let mut handles = HandleList::default();
        collection.list(&mut handles);
        handles
    }

    /// Adds one handle.
    #[inline]
    pub fn add<T>(&mut self, handle: &'a Delayed<T>) {
        self.tasks.push(handle.task_ref());
    }

    #[inline]
    pub(crate) fn tasks(&self) -> &[TaskRef] {
        &self.tasks
    }
}

/// The parts of which [`Collection::rebuild`] makes its result.
pub struct Parts<'p>(Source<'p>);

enum Source<'p> {
    /// The outputs of a run, and the tasks that were listed for it.
    Run { run: &'p OwnedRun<'p>, listed: &'p [TaskRef], next: usize },
    /// Every handle is that of a future, which is settled.
    Settled,
    /// New handles are there: pairs of a task and the task whose handle replaces it.
    Replaced(slice::Iter<'p, (Task, Task)>),
    /// The forms of a client have a state of their own.
    Client(&'p mut dyn Any),
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl<'p> Parts<'p> {
    /// The outputs of a run whose plan was made from `listed`.
    #[inline(always)]
    pub(super) fn of_run(run: &'p OwnedRun<'p>, listed: &'p [TaskRef]) -> Self {
        Parts(Source::Run { run, listed, next: 0 })
    }

    /// The values of futures, all of which are settled.
    pub(crate) fn settled() -> Self {
        Parts(Source::Settled)
    }

    /// Handles that replace others.
    pub(crate) fn replaced(handles: &'p [(Task, Task)]) -> Self {
        Parts(Source::Replaced(handles.iter()))
    }

    pub(crate) fn of_client(state: &'p mut dyn Any) -> Self {
        Parts(Source::Client(state))
    }

    /// What [`Parts::of_client`] was given.
    pub(crate) fn client<S: 'static>(&mut self) -> &mut S {
        match &mut self.0 {
            Source::Client(state) => state.downcast_mut().expect("a client has one kind of state"),
            _ => panic!("a collection is rebuilt in the form that it is asked for"),
        }
    }

    #[inline(always)]
    fn value<T: Clone + Send + Sync + 'static>(&mut self, handle: &Delayed<T>) -> Result<T> {
        let Source::Run { run, listed, next } = &mut self.0 else { return settled_value(handle) };
        let index = *next;
        check_same(listed.get(index).copied(), handle.task_ref());
        *next += 1;
        // SAFETY: the plan was made from `listed`, so by rule 2 the output of this index is a `T`;
        // it is taken once, because `next` only grows.
        unsafe { run.take_output(index, Some(T::clone)) }
    }

    /// Rebuilds a collection. After a failure its other parts are left out, so that the next part
    /// is the one behind the collection.
    fn rebuild<F: Form, C: Collection<F> + ?Sized>(&mut self, inner: &C) -> Result<C::Shape> {
        let from = if let Source::Run { next, .. } = &self.0 { *next } else { 0 };
        let rebuilt = inner.rebuild(self);
        if rebuilt.is_err()
            && let Source::Run { next, .. } = &mut self.0
        {
            *next = from + HandleList::of::<F>(inner).tasks.len();
        }
        rebuilt
    }
}

/// Checks rule 2.
#[inline(always)]
fn check_same(listed: Option<TaskRef>, taken: TaskRef) {
    if listed != Some(taken) {
        panic_other();
    }
}

#[cold]
fn panic_other() -> ! {
    panic!("`Collection::rebuild` takes other parts than `Collection::list` has listed, or in another order")
}

/// The value of a future's handle.
#[inline]
fn settled_value<T: Clone + Send + Sync + 'static>(handle: &Delayed<T>) -> Result<T> {
    let task = handle.task_ref();
    let Some(awaited) = task.awaited() else { panic_other() };
    let value: Option<&T> = awaited.settled_value()?.downcast_ref();
    Ok(value.expect("the value behind a `Delayed<T>` is a `T`").clone())
}

/// A value for each handle: the form that [`compute`](crate::compute()) asks for.
#[derive(Debug)]
pub struct Values;

/// A `Result` for each handle: the form that [`compute_each`](crate::compute_each) asks for.
#[derive(Debug)]
pub struct Outcomes;

/// A handle to the result for each handle: the form that [`persist`](crate::persist) asks for.
#[derive(Debug)]
pub struct Handles;

/// A `Result` of a handle to the result for each handle: the form that
/// [`persist_each`](crate::persist_each) asks for.
#[derive(Debug)]
pub struct HandleOutcomes;

/// Nothing for each handle: the form of collections that are only listed, whose values need not be
/// `Clone`.
#[derive(Debug)]
pub struct Listed;

impl Sealed for Values {}
impl Sealed for Outcomes {}
impl Sealed for Handles {}
impl Sealed for HandleOutcomes {}
impl Sealed for Listed {}

impl Form for Values {
    type Item = Values;
    type Finished<V: Clone + Send + Sync + 'static, H> = V;

    fn finish<C, V, H>(
        parts: &mut Parts<'_>,
        inner: &C,
        finish: impl Fn(ValuesOf<C>) -> V + Send + Sync + 'static,
        _: impl FnOnce(HandlesOf<C>) -> H,
    ) -> Result<V>
    where
        C: Collection<Values> + Collection<Handles> + ?Sized,
        V: Clone + Send + Sync + 'static,
    {
        Collection::<Values>::rebuild(inner, parts).map(finish)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Leaf<T> for Values {
    type Of = T;

    #[inline(always)]
    fn take(parts: &mut Parts<'_>, handle: &Delayed<T>) -> Result<T> {
        parts.value(handle)
    }
}

impl Form for Outcomes {
    type Item = Outcomes;
    type Finished<V: Clone + Send + Sync + 'static, H> = Result<V>;

    fn finish<C, V, H>(
        parts: &mut Parts<'_>,
        inner: &C,
        finish: impl Fn(ValuesOf<C>) -> V + Send + Sync + 'static,
        _: impl FnOnce(HandlesOf<C>) -> H,
    ) -> Result<Result<V>>
    where
        C: Collection<Outcomes> + Collection<Values> + Collection<Handles> + ?Sized,
        V: Clone + Send + Sync + 'static,
    {
        Ok(parts.rebuild::<Values, C>(inner).map(finish))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Leaf<T> for Outcomes {
    type Of = Result<T>;

    fn take(parts: &mut Parts<'_>, handle: &Delayed<T>) -> Result<Result<T>> {
        Ok(parts.value(handle))
    }
}

impl Form for Handles {
    type Item = Handles;
    type Finished<V: Clone + Send + Sync + 'static, H> = H;

    fn finish<C, V, H>(
        parts: &mut Parts<'_>,
        inner: &C,
        _: impl Fn(ValuesOf<C>) -> V + Send + Sync + 'static,
        with_handles: impl FnOnce(HandlesOf<C>) -> H,
    ) -> Result<H>
    where
        C: Collection<Values> + Collection<Handles> + ?Sized,
        V: Clone + Send + Sync + 'static,
    {
        Collection::<Handles>::rebuild(inner, parts).map(with_handles)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Leaf<T> for Handles {
    type Of = Delayed<T>;

    fn take(parts: &mut Parts<'_>, handle: &Delayed<T>) -> Result<Delayed<T>> {
        if let Source::Replaced(handles) = &mut parts.0 {
            let replaced = handles.next();
            check_same(replaced.map(|(task, _)| task.as_ref()), handle.task_ref());
            return Ok(Delayed::from_task(replaced.map_or_else(|| panic_other(), |(_, by)| by.clone())));
        }
        let mut task = cloneable_value_task(parts.value(handle)?);
        if let Some(code) = handle.task_ref().kind().value_code {
            task.set_value_code(code);
        }
        Ok(Delayed::from_task(task))
    }
}

impl Form for HandleOutcomes {
    type Item = HandleOutcomes;
    type Finished<V: Clone + Send + Sync + 'static, H> = Result<H>;

    fn finish<C, V, H>(
        parts: &mut Parts<'_>,
        inner: &C,
        _: impl Fn(ValuesOf<C>) -> V + Send + Sync + 'static,
        with_handles: impl FnOnce(HandlesOf<C>) -> H,
    ) -> Result<Result<H>>
    where
        C: Collection<Values> + Collection<Handles> + ?Sized,
        V: Clone + Send + Sync + 'static,
    {
        Ok(parts.rebuild::<Handles, C>(inner).map(with_handles))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Leaf<T> for HandleOutcomes {
    type Of = Result<Delayed<T>>;

    fn take(parts: &mut Parts<'_>, handle: &Delayed<T>) -> Result<Result<Delayed<T>>> {
        Ok(<Handles as Leaf<T>>::take(parts, handle))
    }
}

impl Form for Listed {
    type Item = Listed;
    type Finished<V: Clone + Send + Sync + 'static, H> = ();

    fn finish<C, V, H>(
        _: &mut Parts<'_>,
        _: &C,
        _: impl Fn(ValuesOf<C>) -> V + Send + Sync + 'static,
        _: impl FnOnce(HandlesOf<C>) -> H,
    ) -> Result<()>
    where
        C: Collection<Values> + Collection<Handles> + ?Sized,
        V: Clone + Send + Sync + 'static,
    {
        Ok(())
    }
}

impl<T> Leaf<T> for Listed {
    type Of = ();

    fn take(_: &mut Parts<'_>, _: &Delayed<T>) -> Result<()> {
        Ok(())
    }
}

// ---- shapes ----

// Otherwise the message would be the one for `Clone`.
#[diagnostic::do_not_recommend]
impl<T: Send + Sync + 'static, F: Leaf<T>> Collection<F> for Delayed<T> {
    type Shape = F::Of;

    #[inline]
    fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
        handles.add(self);
    }

    #[inline(always)]
    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<F::Of> {
        F::take(parts, self)
    }
}

impl<F: Form, C: Collection<F> + ?Sized> Collection<F> for &C {
    type Shape = C::Shape;

    #[inline]
    fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
        (**self).list(handles);
    }

    #[inline(always)]
    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<C::Shape> {
        (**self).rebuild(parts)
    }
}

impl<F: Form, C: Collection<F::Item>> Collection<F> for [C] {
    type Shape = Vec<C::Shape>;

    fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
        self.iter().for_each(|item| item.list(handles));
    }

    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<Vec<C::Shape>> {
        let mut items = pages::vec_with_capacity(self.len());
        for item in self {
            items.push(item.rebuild(parts)?);
        }
        Ok(items)
    }
}

impl<F: Form, C: Collection<F::Item>> Collection<F> for Vec<C> {
    type Shape = Vec<C::Shape>;

    fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
        Collection::<F>::list(&self[..], handles);
    }

    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<Vec<C::Shape>> {
        Collection::<F>::rebuild(&self[..], parts)
    }
}

impl<F: Form, C: Collection<F::Item>, const N: usize> Collection<F> for [C; N] {
    type Shape = [C::Shape; N];

    fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
        Collection::<F>::list(&self[..], handles);
    }

    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<[C::Shape; N]> {
        let items = Collection::<F>::rebuild(&self[..], parts)?;
        Ok(items.try_into().unwrap_or_else(|_| unreachable!("there are as many results as handles")))
    }
}

impl<F: Form, C: Collection<F::Item>> Collection<F> for Option<C> {
    type Shape = Option<C::Shape>;

    fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
        self.iter().for_each(|item| item.list(handles));
    }

    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<Option<C::Shape>> {
        self.as_ref().map(|item| item.rebuild(parts)).transpose()
    }
}

// A map that is not changed keeps its order.
macro_rules! map {
    ($(<$K:ident: $($bound:path),+ $(; $S:ident: $($build:path),+)?> $map:ident;)*) => {$(
        impl<F: Form, $K: Clone $(+ $bound)+, C: Collection<F::Item> $(, $S: $($build +)+)?> Collection<F> for $map<$K, C $(, $S)?> {
            type Shape = $map<$K, C::Shape $(, $S)?>;

            fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
                self.values().for_each(|item| item.list(handles));
            }

            fn rebuild(&self, parts: &mut Parts<'_>) -> Result<Self::Shape> {
                self.iter().map(|(key, item)| Ok((key.clone(), item.rebuild(parts)?))).collect()
            }
        }
    )*};
}
map! {
    <K: Ord> BTreeMap;
    <K: Eq, Hash; S: BuildHasher, Default> HashMap;
}

impl<F: Form> Collection<F> for () {
    type Shape = ();

    fn list<'a>(&'a self, _: &mut HandleList<'a>) {}

    fn rebuild(&self, _: &mut Parts<'_>) -> Result<()> {
        Ok(())
    }
}

macro_rules! tuple {
    ($($A:ident $i:tt),*) => {
        impl<F: Form, $($A: Collection<F::Item>),*> Collection<F> for ($($A,)*) {
            type Shape = ($($A::Shape,)*);

            fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
                $(self.$i.list(handles);)*
            }

            fn rebuild(&self, parts: &mut Parts<'_>) -> Result<Self::Shape> {
                Ok(($(self.$i.rebuild(parts)?,)*))
            }
        }
    };
}
for_each_arity!(tuple);
