//! The nodes of futures in graphs: tasks whose value comes from a promise.

#![expect(unsafe_code, reason = "the typed functions behind a node's untyped kind")]

use super::promise::{AnyPromise, Promise};
use crate::error::Result;
use crate::graph::Delayed;
use crate::graph::crossing::{Crossing, Encoded, ValueCode};
use crate::graph::node::{Awaited, CallError, Kind, Task, TaskRef, drop_body, layout};
use crate::graph::task::ValueOf;
use crate::graph::value::Cell;
use crate::portable::Portable;
use crate::portable::code::CodeDescriptor;
use std::any::{Any, TypeId};
use std::marker::PhantomData;
use std::sync::Arc;

/// The body of a node whose value is that of a promise.
struct FutureNode<T>(Arc<Promise<T>>);

impl<T> Drop for FutureNode<T> {
    fn drop(&mut self) {
        self.0.record().remove_node();
    }
}

impl<T: Send + Sync + 'static> Awaited for FutureNode<T> {
    fn is_settled(&self) -> bool {
        self.0.record().is_settled()
    }

    fn settled_value(&self) -> Result<&dyn Any> {
        self.0.outcome().map(|value| value as &dyn Any)
    }

    fn encoded(&self) -> Option<Arc<dyn Encoded>> {
        self.0.encoded().map(Arc::clone)
    }

    fn keep(&self, value: Arc<dyn Encoded>) {
        AnyPromise::keep(&*self.0, value);
    }

    fn with_source(&self, visit: &mut dyn FnMut(&dyn Any)) {
        let promise: Arc<dyn AnyPromise> = Arc::<Promise<T>>::clone(&self.0);
        visit(&promise);
    }
}

/// The kinds of nodes for one type of value.
struct TypedFutureNode<T>(PhantomData<T>);

impl<T: Send + Sync + 'static> TypedFutureNode<T> {
    /// As the kind of a value, with a call that takes the value from the promise.
    const LOCAL: Kind = Kind {
        call: Self::call,
        drop_body: drop_body::<FutureNode<T>>,
        layout: layout::<FutureNode<T>>(),
        type_id: TypeId::of::<Self>,
        type_name: || "future",
        awaited: Some(Self::awaited),
        ..ValueOf::<T>::LOCAL
    };

    unsafe fn awaited(task: &TaskRef) -> &dyn Awaited {
        // SAFETY: nodes of this kind are made by this file alone, with a `FutureNode<T>`.
        unsafe { task.body::<FutureNode<T>>() }
    }

    unsafe fn call(task: TaskRef, cells: &[Cell], _: *const u32, id: u32, _: bool) -> Option<Box<CallError>> {
        // SAFETY: nodes of this kind are made by this file alone, with a `FutureNode<T>`.
        let FutureNode(promise) = unsafe { task.body::<FutureNode<T>>() };
        match promise.wait() {
            Ok(value) => {
                // SAFETY: the node owns the promise, so the promise outlives the run, and its value
                // never changes (rule 2 of `promise`). The cell is the task's own.
                unsafe { cells.get_unchecked(id as usize).put_external::<T>(value) };
                None
            }
            Err(error) => Some(Box::new(Box::new(error))),
        }
    }
}

impl<T: Clone + Send + Sync + 'static> TypedFutureNode<T> {
    const CLONEABLE: Kind = Kind { clone_value: Some(<T as Clone>::clone as fn(&T) -> T as *const ()), ..Self::LOCAL };
}

impl<T: Portable> TypedFutureNode<T> {
    const PORTABLE: Kind = Kind { value_code: Some(Self::VALUE), ..Self::LOCAL };
    const VALUE: &'static CodeDescriptor<ValueCode> = Crossing::<T>::CODE;
}

impl<T: Send + Sync + 'static> FutureNode<T> {
    fn new(promise: Arc<Promise<T>>) -> Self {
        promise.record().add_node();
        FutureNode(promise)
    }
}

/// A handle whose value can cross to other processes.
pub(super) fn portable_future_node<T: Portable>(promise: Arc<Promise<T>>) -> Delayed<T> {
    // SAFETY: `PORTABLE` has the functions and the layout of a `FutureNode<T>`.
    Delayed::from_task(unsafe { Task::new_alone(const { &TypedFutureNode::<T>::PORTABLE }, FutureNode::new(promise)) })
}

/// A handle whose value crosses to other processes by `code`, or not at all.
pub(super) fn future_node<T: Send + Sync + 'static>(
    promise: Arc<Promise<T>>,
    code: Option<&'static CodeDescriptor<ValueCode>>,
) -> Delayed<T> {
    future_node_of(const { &TypedFutureNode::<T>::LOCAL }, promise, code)
}

/// As [`future_node`], for a handle that can be computed itself, which gives a clone.
pub(super) fn cloneable_future_node<T: Clone + Send + Sync + 'static>(
    promise: Arc<Promise<T>>,
    code: Option<&'static CodeDescriptor<ValueCode>>,
) -> Delayed<T> {
    future_node_of(const { &TypedFutureNode::<T>::CLONEABLE }, promise, code)
}

fn future_node_of<T: Send + Sync + 'static>(
    kind: &'static Kind,
    promise: Arc<Promise<T>>,
    code: Option<&'static CodeDescriptor<ValueCode>>,
) -> Delayed<T> {
    // SAFETY: `LOCAL` and `CLONEABLE`, which the two callers give, have the functions and the
    // layout of a `FutureNode<T>`.
    let mut task = unsafe { Task::new_alone(kind, FutureNode::new(promise)) };
    if let Some(code) = code {
        task.set_value_code(code);
    }
    Delayed::from_task(task)
}

/// The promise behind a task, if the task is a future's.
pub(super) fn promise_of(task: TaskRef) -> Option<Arc<dyn AnyPromise>> {
    let mut found = None;
    task.awaited()?.with_source(&mut |source| found = source.downcast_ref().cloned());
    found
}

/// As [`promise_of`], with the type of its value.
pub(super) fn typed_promise_of<T: Send + Sync + 'static>(task: TaskRef) -> Option<Arc<Promise<T>>> {
    let promise: Arc<dyn Any + Send + Sync> = promise_of(task)?;
    promise.downcast().ok()
}
