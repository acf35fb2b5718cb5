//! Chains of stages, composed by their types as iterators are: a chain is one loop.

use super::context::Context;
use super::item::Item;
use crate::graph::Delayed;
use crate::graph::argument::Argument;
use crate::graph::node::CallError;
use crate::graph::task::{TaskError, TaskFn};
use std::convert::identity;
use std::fmt;
use std::marker::PhantomData;
use std::ops::ControlFlow;

/// The argument of a partition's task, as its function gets it.
pub(super) type InputOf<'a, P> = <<P as Chain>::Origin as Origin>::Input<'a>;
/// The values besides the items.
pub(super) type RefsOf<'a, P> = <<P as Chain>::Context as Context>::Refs<'a>;
/// An item as a function gets it.
pub(super) type Of<'a, P> = <P as Chain>::Of<'a>;

/// Whether a loop goes on.
#[doc(hidden)]
pub(super) type Flow = ControlFlow<Stop>;

/// Why a loop ends early: an error, or nothing more is needed.
#[doc(hidden)]
#[derive(Debug)]
pub struct Stop(pub(super) Option<Box<CallError>>);

impl Stop {
    pub(super) const ENOUGH: Stop = Stop(None);

    pub(super) fn failed(error: impl Into<CallError>) -> Stop {
        Stop(Some(Box::new(error.into())))
    }

    /// Adds to an error where it happened.
    #[cold]
    pub(super) fn at(self, place: impl FnOnce() -> String) -> Stop {
        match self.0 {
            Some(error) => Stop::failed(Located { place: place(), error: *error }),
            None => self,
        }
    }
}

/// An error and the place of the item.
#[derive(Debug)]
struct Located {
    place: String,
    error: CallError,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.error)
    }
}

impl std::error::Error for Located {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Where the items of a chain come from.
#[doc(hidden)]
pub trait Origin: TaskFn {
    /// A partition.
    type Part: Clone + fmt::Debug + Send + Sync + 'static;
    /// What the task of a partition gets.
    type Input<'a>;
    type Arg<'h>: for<'a> Argument<Out<'a> = Self::Input<'a>>;

    fn argument(part: &Self::Part) -> Self::Arg<'_>;
}

/// A source and the stages after it. Each stage of a [`Bag`](super::Bag) has a chain as its type,
/// so that the compiler makes one loop of them.
///
/// Programs need no implementation of their own, and cannot write one.
pub trait Chain: TaskFn {
    /// What comes out.
    type Item: Item + ?Sized;
    /// What a function gets: the item itself, or `&str`. A function over any bag of a type has the
    /// bound `P: for<'a> Chain<Item = T, Of<'a> = T>`.
    // With the `Of` of the item alone the compiler does not accept implementations for any type.
    type Of<'a>;
    #[doc(hidden)]
    type Origin: Origin;
    #[doc(hidden)]
    type Context: Context;

    #[doc(hidden)]
    fn own(item: Self::Of<'_>) -> <Self::Item as Item>::Owned;

    /// The items of a partition, if they are a value of the graph already.
    #[doc(hidden)]
    fn stored(_: &<Self::Origin as Origin>::Part) -> Option<Delayed<Vec<<Self::Item as Item>::Owned>>> {
        None
    }

    /// Emits the items of partition `index`.
    #[doc(hidden)]
    fn drive(
        self,
        input: InputOf<'_, Self>,
        index: usize,
        context: RefsOf<'_, Self>,
        emit: &mut impl FnMut(Of<'_, Self>) -> Flow,
    ) -> Flow;
}

/// One execution of a chain over one partition.
pub(super) struct Pass<'a, P: Chain> {
    pub(super) chain: P,
    pub(super) input: InputOf<'a, P>,
    pub(super) index: usize,
    pub(super) context: RefsOf<'a, P>,
}

impl<P: Chain> Pass<'_, P> {
    /// Calls `emit` with each item, until it stops the loop.
    #[inline(always)]
    pub(super) fn until(self, mut emit: impl FnMut(Of<'_, P>) -> Flow) -> Result<(), CallError> {
        match self.chain.drive(self.input, self.index, self.context, &mut emit) {
            ControlFlow::Break(Stop(Some(error))) => Err(*error),
            _ => Ok(()),
        }
    }

    /// Calls `each` with every item.
    #[inline(always)]
    pub(super) fn each(self, mut each: impl FnMut(Of<'_, P>)) -> Result<(), CallError> {
        self.until(|item| {
            each(item);
            Flow::Continue(())
        })
    }
}

/// Defines a stage that has the source and the context of the stage before it.
macro_rules! stage {
    (
        $(#[$doc:meta])*
        $Stage:ident<P: [$($chain:tt)*], F $(, $U:ident: $bound:path)*> -> $Item:ty, $Of:ty, $own:expr,
        F: [$($function:tt)*],
        |$f:ident, $x:pat_param, $emit:ident| $body:expr
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $Stage<P, F>(pub(super) P, pub(super) F);

        impl<P: $($chain)*, F $(, $U: $bound)*> Chain for $Stage<P, F>
        where
            F: $($function)* + TaskFn,
        {
            type Item = $Item;
            type Of<'a> = $Of;
            type Origin = P::Origin;
            type Context = P::Context;

            #[inline(always)]
            fn own(item: Self::Of<'_>) -> <Self::Item as Item>::Owned {
                $own(item)
            }

            #[inline(always)]
            fn drive(
                self,
                input: InputOf<'_, P>,
                index: usize,
                context: RefsOf<'_, P>,
                $emit: &mut impl FnMut(Self::Of<'_>) -> Flow,
            ) -> Flow {
                let $f = self.1;
                self.0.drive(input, index, context, &mut |$x| $body)
            }
        }
    };
}

/// As [`stage`], for a function that also gets a value of the context.
macro_rules! stage_with {
    (
        $(#[$doc:meta])*
        $Stage:ident<P, K, F $(, $U:ident: $bound:path)*> -> $Item:ty, $Of:ty, $own:expr,
        F: [$($function:tt)*],
        |$f:ident, $k:ident, $x:ident, $emit:ident| $body:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $Stage<P, K, F>(pub(super) P, pub(super) F, pub(super) PhantomData<fn() -> K>);

        // Derived, the traits would ask for a `K` that is `Copy`.
        impl<P: Copy, K, F: Copy> Clone for $Stage<P, K, F> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<P: Copy, K, F: Copy> Copy for $Stage<P, K, F> {}

        impl<P: Chain, K, F $(, $U: $bound)*> Chain for $Stage<P, K, F>
        where
            K: Clone + Send + Sync + 'static,
            F: $($function)* + TaskFn,
        {
            type Item = $Item;
            type Of<'a> = $Of;
            type Origin = P::Origin;
            type Context = (P::Context, Delayed<K>);

            #[inline(always)]
            fn own(item: Self::Of<'_>) -> <Self::Item as Item>::Owned {
                $own(item)
            }

            #[inline(always)]
            fn drive(
                self,
                input: InputOf<'_, P>,
                index: usize,
                (context, $k): RefsOf<'_, Self>,
                $emit: &mut impl FnMut(Self::Of<'_>) -> Flow,
            ) -> Flow {
                let $f = self.1;
                self.0.drive(input, index, context, &mut |$x| $body)
            }
        }
    };
}

const NEXT: Flow = Flow::Continue(());

stage! {
    /// [`Bag::map`](super::Bag::map).
    Map<P: [Chain], F, U: Static> -> U, U, identity, F: [for<'a> Fn(Of<'a, P>) -> U],
    |f, x, emit| emit(f(x))
}
stage! {
    /// [`Bag::filter`](super::Bag::filter).
    Filter<P: [Chain], F> -> P::Item, Of<'a, P>, P::own, F: [for<'a, 'b> Fn(&'b Of<'a, P>) -> bool],
    |f, x, emit| if f(&x) { emit(x) } else { NEXT }
}
stage! {
    /// [`Bag::filter_map`](super::Bag::filter_map).
    FilterMap<P: [Chain], F, U: Static> -> U, U, identity, F: [for<'a> Fn(Of<'a, P>) -> Option<U>],
    |f, x, emit| f(x).map_or(NEXT, &mut *emit)
}
stage! {
    /// [`Bag::flat_map`](super::Bag::flat_map).
    FlatMap<P: [Chain], F, I: StaticItems> -> I::Item, I::Item, identity, F: [for<'a> Fn(Of<'a, P>) -> I],
    |f, x, emit| f(x).into_iter().try_for_each(&mut *emit)
}
stage! {
    /// [`Bag::try_map`](super::Bag::try_map).
    TryMap<P: [Chain], F, U: Static, E: TaskError> -> U, U, identity, F: [for<'a> Fn(Of<'a, P>) -> Result<U, E>],
    |f, x, emit| match f(x) {
        Ok(x) => emit(x),
        Err(error) => Flow::Break(Stop::failed(error)),
    }
}
stage! {
    /// [`Bag::map_str`](super::Bag::map_str).
    MapStr<P: [for<'a> Chain<Item = str, Of<'a> = &'a str>], F> -> str, &'a str, str::to_owned, F: [for<'a> Fn(&'a str) -> &'a str],
    |f, x, emit| emit(f(x))
}
stage! {
    /// [`Bag::filter_map_str`](super::Bag::filter_map_str).
    FilterMapStr<P: [for<'a> Chain<Item = str, Of<'a> = &'a str>], F> -> str, &'a str, str::to_owned, F: [for<'a> Fn(&'a str) -> Option<&'a str>],
    |f, x, emit| f(x).map_or(NEXT, &mut *emit)
}
stage! {
    /// [`Bag::flat_map_str`](super::Bag::flat_map_str).
    FlatMapStr<P: [for<'a> Chain<Item = str, Of<'a> = &'a str>], F> -> str, &'a str, str::to_owned, F: [for<'a> Fn(&'a str, &mut dyn FnMut(&'a str))],
    |f, x, emit| {
        let mut flow = NEXT;
        f(x, &mut |piece| {
            if flow.is_continue() {
                flow = emit(piece);
            }
        });
        flow
    }
}
stage_with! {
    /// [`Bag::map_with`](super::Bag::map_with).
    MapWith<P, K, F, U: Static> -> U, U, identity, F: [for<'a, 'k> Fn(&'k K, Of<'a, P>) -> U],
    |f, k, x, emit| emit(f(k, x))
}
stage_with! {
    /// [`Bag::filter_with`](super::Bag::filter_with).
    FilterWith<P, K, F> -> P::Item, Of<'a, P>, P::own, F: [for<'a, 'b, 'k> Fn(&'k K, &'b Of<'a, P>) -> bool],
    |f, k, x, emit| if f(k, &x) { emit(x) } else { NEXT }
}

/// [`Bag::map_partitions`](super::Bag::map_partitions).
#[derive(Clone, Copy, Debug)]
pub struct MapPartitions<P, F>(pub(super) P, pub(super) F);

impl<P: Chain, F, I: StaticItems> Chain for MapPartitions<P, F>
where
    F: Fn(Vec<<P::Item as Item>::Owned>) -> I + TaskFn,
{
    type Item = I::Item;
    type Of<'a> = I::Item;
    type Origin = P::Origin;
    type Context = P::Context;

    #[inline(always)]
    fn own(item: I::Item) -> I::Item {
        item
    }

    fn drive(
        self,
        input: InputOf<'_, P>,
        index: usize,
        context: RefsOf<'_, P>,
        emit: &mut impl FnMut(I::Item) -> Flow,
    ) -> Flow {
        let mut items = Vec::new();
        self.0.drive(input, index, context, &mut |item| {
            items.push(P::own(item));
            NEXT
        })?;
        (self.1)(items).into_iter().try_for_each(emit)
    }
}

/// A type without borrows.
pub trait Static: 'static {}
impl<T: 'static> Static for T {}

/// Something to iterate over whose items are without borrows.
pub trait StaticItems: IntoIterator<Item: 'static> {}
impl<I: IntoIterator<Item: 'static>> StaticItems for I {}
