//! Partitions whose items are values of the graph.

use super::chain::{Chain, Flow, Origin, Stop};
use crate::graph::Delayed;
use crate::portable::Portable;
use std::marker::PhantomData;
use std::ops::ControlFlow;

/// The chain of a bag whose items lie in values of the graph: from
/// [`from_sequence`](super::from_sequence), [`from_delayed`](super::from_delayed), `cut`,
/// `persist`, `concat`, `frequencies` and others.
#[derive(Debug)]
pub struct Stored<T: ?Sized>(pub(super) PhantomData<fn() -> Box<T>>);

impl<T: ?Sized> Clone for Stored<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Stored<T> {}

impl<T: Portable + Clone> Origin for Stored<T> {
    type Part = Delayed<Vec<T>>;
    type Input<'a> = Vec<T>;
    // The last reader gets the vector itself, the others get clones.
    type Arg<'h> = Delayed<Vec<T>>;

    fn argument(part: &Delayed<Vec<T>>) -> Delayed<Vec<T>> {
        part.clone()
    }
}

impl<T: Portable + Clone> Chain for Stored<T> {
    type Item = T;
    type Of<'a> = T;
    type Origin = Self;
    type Context = ();

    #[inline(always)]
    fn own(item: T) -> T {
        item
    }

    fn stored(part: &Delayed<Vec<T>>) -> Option<Delayed<Vec<T>>> {
        Some(part.clone())
    }

    #[inline(always)]
    fn drive(self, input: Vec<T>, index: usize, (): (), emit: &mut impl FnMut(T) -> Flow) -> Flow {
        let len = input.len();
        let mut items = input.into_iter();
        while let Some(item) = items.next() {
            if let ControlFlow::Break(stop) = emit(item) {
                return Flow::Break(locate(stop, len - items.len() - 1, index));
            }
        }
        Flow::Continue(())
    }
}

#[cold]
fn locate(stop: Stop, item: usize, partition: usize) -> Stop {
    stop.at(|| format!("item {item} of partition {partition}"))
}
