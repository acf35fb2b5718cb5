//! How a value reaches a function: the argument expression decides.
//!
//! The page of [`delayed`](crate::delayed) has the table of the modes.
//!
//! The task's node stores its arguments as handles and plain values. At run time the plan gives the
//! ids of the tasks behind the handles, in the order in which [`Argument::visit`] lists them, and a
//! [`Cursor`] walks along these ids.
//!
//! # What is always true
//!
//! 1. `visit`, `fetch` and `release` of one stored argument walk over the same handles in the same
//!    order. So a cursor that starts at the task's first input points, at each handle, to the id of
//!    that handle's task.
//! 2. The value of the task behind a `Delayed<T>` is a `T`. So an input has a value of the type
//!    that `fetch` and `release` expect.

#![expect(unsafe_code, reason = "arguments read typed values from untyped cells")]

use super::handle::Delayed;
use super::node::TaskRef;
use super::value::Cell;
use crate::portable::codec::{CodecError, Decoder, Encoder};

mod deref;
mod owned;
mod plain;
mod refs;
mod tolerant;

pub use deref::AsDeref;
pub use owned::{Owned, owned};
pub use plain::{Lit, lit};
pub use refs::{Refs, RefsIter};
pub use tolerant::{AsOption, AsResult, AsResults, Handle, Results, ResultsIter, results};

/// Walks over the inputs of one call.
#[derive(Debug)]
pub struct Cursor<'a> {
    cells: &'a [Cell],
    next: *const u32,
    keep: bool,
}

impl<'a> Cursor<'a> {
    /// # Safety
    /// `inputs` points to the ids of a task's inputs, one for each input that the cursor will be
    /// asked for, and each below `cells.len()`. The ids live for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn new(cells: &'a [Cell], inputs: *const u32, keep: bool) -> Self {
        Cursor { cells, next: inputs, keep }
    }

    /// # Safety
    /// The task has one more input.
    #[inline(always)]
    unsafe fn cell(&mut self) -> &'a Cell {
        // SAFETY: there is one more input, so `next` points to its id, which is below
        // `cells.len()`, as the caller of `new` stated.
        unsafe {
            let id = *self.next;
            self.next = self.next.add(1);
            debug_assert!((id as usize) < self.cells.len());
            self.cells.get_unchecked(id as usize)
        }
    }

    /// # Safety
    /// The task has `count` more inputs.
    #[inline(always)]
    unsafe fn ids(&mut self, count: usize) -> &'a [u32] {
        // SAFETY: there are `count` more inputs, so `next` points to that many ids, which live for
        // `'a`, as the caller of `new` stated.
        unsafe {
            let ids = std::slice::from_raw_parts(self.next, count);
            self.next = self.next.add(count);
            ids
        }
    }
}

/// An item of the argument tuple of a task.
///
/// # Safety
/// `visit`, `fetch` and `release` of one stored argument walk over the same handles in the same
/// order. `visit` lists the tasks of handles in `Stored`, and `fetch` and `release` treat each
/// task's value as one of the handle's type. `tolerates` gives true only for a handle whose task
/// may have failed when `fetch` is called.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a task",
    label = "not a task argument",
    note = "a value that is no handle goes in as `lit(value)` (the function borrows it) or `owned(value)` (the function owns it), or as `&local(value)` if it cannot be encoded",
    note = "pass `&Delayed<T>` (the function borrows `&T`), `Delayed<T>` with `T: Clone` (it owns a `T`, moved on last use), a reference to a list of handles (it gets `Refs<'_, T>`), a `Vec`, array, `Option` or tuple of arguments, or a plain number, `bool`, `char`, text, path, duration or range"
)]
pub unsafe trait Argument {
    /// The type that the function gets.
    type Out<'a>;
    /// The form in which the task stores the argument.
    #[doc(hidden)]
    type Stored: Send + Sync + 'static;
    #[doc(hidden)]
    fn store(self) -> Self::Stored;
    /// As [`Argument::store`], for a task that no other graph can reach: its values may be moved
    /// out of the task in its last attempt.
    #[doc(hidden)]
    #[inline(always)]
    fn store_once(self) -> Self::Stored
    where
        Self: Sized,
    {
        self.store()
    }
    #[doc(hidden)]
    fn visit(stored: &Self::Stored, inputs: &mut Vec<TaskRef>);
    /// # Safety
    /// The cursor points to the inputs of this argument. They have finished with values of their
    /// handles' types, or have failed if `tolerates` gives true for them; then their cells have the
    /// errors. They are not released while the result lives.
    #[doc(hidden)]
    unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Self::Out<'a>;
    /// # Safety
    /// The cursor points to the inputs of this argument. They have finished, with a value, a
    /// failure or nothing. No result of `fetch` lives, and this is the one release of each input
    /// for this argument.
    #[doc(hidden)]
    unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>);
    /// Encodes the argument for [`Argument::read`] in another process: plain values and shapes,
    /// nothing for a handle.
    #[doc(hidden)]
    fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError>;
    /// Decodes the argument. Its handles become placeholders.
    #[doc(hidden)]
    fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError>;
    /// Adds a short text for each plain value, for pictures, and none for a handle.
    #[doc(hidden)]
    fn describe(_: &Self::Stored, _: &mut Vec<String>) {}
    /// Whether `tolerates` may give true.
    #[doc(hidden)]
    const TOLERATES: bool = false;
    /// Adds for each handle, in the order of `visit`, whether the task takes its error in place of
    /// its value.
    #[doc(hidden)]
    fn tolerates(stored: &Self::Stored, edges: &mut Vec<bool>) {
        let mut inputs = Vec::new();
        Self::visit(stored, &mut inputs);
        edges.extend(inputs.iter().map(|_| Self::TOLERATES));
    }
}

/// How many items of a list pictures show.
const MAX_DESCRIBED: usize = 6;

fn describe_items<'a, A: Argument>(items: impl ExactSizeIterator<Item = &'a A::Stored>, texts: &mut Vec<String>)
where
    A::Stored: 'a,
{
    let (before, is_cut) = (texts.len(), items.len() > MAX_DESCRIBED);
    items.take(MAX_DESCRIBED).for_each(|item| A::describe(item, texts));
    if is_cut && texts.len() > before {
        texts.push("…".into());
    }
}

/// The methods that are the same for both ways to pass a handle.
macro_rules! one_handle {
    () => {
        #[inline]
        fn visit(stored: &Delayed<T>, inputs: &mut Vec<TaskRef>) {
            inputs.push(stored.task_ref());
        }

        fn write(_: &Delayed<T>, _: &mut Encoder<'_>) -> Result<(), CodecError> {
            Ok(())
        }

        fn read(_: &mut Decoder<'_>) -> Result<Delayed<T>, CodecError> {
            Ok(Delayed::placeholder())
        }
    };
}

/// The methods that are the same for a `Vec`, an array and an `Option` of arguments.
macro_rules! items {
    () => {
        fn visit(stored: &Self::Stored, inputs: &mut Vec<TaskRef>) {
            stored.iter().for_each(|item| A::visit(item, inputs));
        }

        #[inline]
        unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>) {
            // SAFETY: the cursor points to the inputs of the items, in order, and moves past the
            // inputs of each. The caller's other conditions hold for each item.
            stored.iter().for_each(|item| unsafe { A::release(item, cursor) });
        }

        const TOLERATES: bool = A::TOLERATES;

        fn tolerates(stored: &Self::Stored, edges: &mut Vec<bool>) {
            stored.iter().for_each(|item| A::tolerates(item, edges));
        }
    };
}

// SAFETY: `visit`, `fetch` and `release` each walk over the one handle.
unsafe impl<T: Send + Sync + 'static> Argument for &Delayed<T> {
    type Out<'a> = &'a T;
    type Stored = Delayed<T>;

    #[inline]
    fn store(self) -> Delayed<T> {
        self.clone()
    }

    one_handle!();

    #[inline(always)]
    unsafe fn fetch<'a>(_: &'a Delayed<T>, cursor: &mut Cursor<'a>) -> &'a T {
        // SAFETY: the cursor points to the handle's input, which has finished with a `T` (rule 2)
        // and is not released while the reference lives.
        unsafe { cursor.cell().peek() }
    }

    #[inline(always)]
    unsafe fn release(_: &Delayed<T>, cursor: &mut Cursor<'_>) {
        // SAFETY: the cursor points to the handle's input, which has finished; its value is a `T`
        // (rule 2). This is its one release for the handle.
        unsafe { cursor.cell().release::<T>() }
    }
}

/// A value that a task can own: it is `Clone + Send + Sync + 'static`. Every type with these bounds
/// has the trait.
#[diagnostic::on_unimplemented(
    message = "a task cannot own a `{Self}`, which is not `Clone`",
    label = "an owned argument must be `Clone`, for the case that another task needs it too",
    note = "pass `&handle`, so that the function borrows the value, or derive `Clone` for its type",
    note = "in generic code write the bound `T: Clone + Send + Sync + 'static`, or `T: Portable + Clone`"
)]
pub trait Ownable: Clone + Send + Sync + 'static {}

// Without this the compiler would report `Clone`, and not the message above.
#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Ownable for T {}

// SAFETY: `visit`, `fetch` and `release` each walk over the one handle.
unsafe impl<T: Ownable> Argument for Delayed<T> {
    type Out<'a> = T;
    type Stored = Delayed<T>;

    #[inline]
    fn store(self) -> Delayed<T> {
        self
    }

    one_handle!();

    #[inline(always)]
    unsafe fn fetch<'a>(_: &'a Delayed<T>, cursor: &mut Cursor<'a>) -> T {
        let keep = cursor.keep;
        // SAFETY: the cursor points to the handle's input, which has finished with a `T` (rule 2).
        // `release` follows.
        unsafe { cursor.cell().own(keep) }
    }

    #[inline(always)]
    unsafe fn release(_: &Delayed<T>, cursor: &mut Cursor<'_>) {
        // SAFETY: as for a borrowed handle; `fetch` called `own`.
        unsafe { cursor.cell().release_owned::<T>() }
    }
}

// SAFETY: `visit`, `fetch` and `release` each walk over the items in order, and each item keeps the
// contract.
unsafe impl<A: Argument> Argument for Vec<A> {
    type Out<'a> = Vec<A::Out<'a>>;
    type Stored = Box<[A::Stored]>;

    fn store(self) -> Self::Stored {
        self.into_iter().map(A::store).collect()
    }

    fn store_once(self) -> Self::Stored {
        self.into_iter().map(A::store_once).collect()
    }

    items!();

    #[inline]
    unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Self::Out<'a> {
        // SAFETY: the cursor points to the inputs of the items, in order, and moves past the inputs
        // of each. The caller's other conditions hold for each item.
        stored.iter().map(|item| unsafe { A::fetch(item, cursor) }).collect()
    }

    fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        encoder.write(&stored.len())?;
        stored.iter().try_for_each(|item| A::write(item, encoder))
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError> {
        let len = decoder.read::<usize>()?;
        (0..len).map(|_| A::read(decoder)).collect()
    }

    fn describe(stored: &Self::Stored, texts: &mut Vec<String>) {
        describe_items::<A>(stored.iter(), texts);
    }
}

// SAFETY: `visit`, `fetch` and `release` each walk over the items in order, and each item keeps the
// contract.
unsafe impl<A: Argument, const N: usize> Argument for [A; N] {
    type Out<'a> = [A::Out<'a>; N];
    type Stored = [A::Stored; N];

    fn store(self) -> Self::Stored {
        self.map(A::store)
    }

    fn store_once(self) -> Self::Stored {
        self.map(A::store_once)
    }

    items!();

    #[inline]
    unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Self::Out<'a> {
        // SAFETY: the cursor points to the inputs of the items, in order, and moves past the inputs
        // of each. The caller's other conditions hold for each item.
        std::array::from_fn(|i| unsafe { A::fetch(&stored[i], cursor) })
    }

    fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        stored.iter().try_for_each(|item| A::write(item, encoder))
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError> {
        let items = (0..N).map(|_| A::read(decoder)).collect::<Result<Vec<_>, _>>()?;
        Ok(items.try_into().unwrap_or_else(|_| unreachable!("there are N items")))
    }

    fn describe(stored: &Self::Stored, texts: &mut Vec<String>) {
        describe_items::<A>(stored.iter(), texts);
    }
}

// SAFETY: `visit`, `fetch` and `release` each walk over the items in order, and each item keeps the
// contract.
unsafe impl<A: Argument> Argument for Option<A> {
    type Out<'a> = Option<A::Out<'a>>;
    type Stored = Option<A::Stored>;

    fn store(self) -> Self::Stored {
        self.map(A::store)
    }

    fn store_once(self) -> Self::Stored {
        self.map(A::store_once)
    }

    items!();

    #[inline]
    unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Self::Out<'a> {
        // SAFETY: the inputs of the argument are those of the item, if there is one.
        stored.as_ref().map(|item| unsafe { A::fetch(item, cursor) })
    }

    fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        encoder.write(&stored.is_some())?;
        stored.iter().try_for_each(|item| A::write(item, encoder))
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError> {
        Ok(if decoder.read::<bool>()? { Some(A::read(decoder)?) } else { None })
    }

    fn describe(stored: &Self::Stored, texts: &mut Vec<String>) {
        match stored {
            Some(item) => A::describe(item, texts),
            None => texts.push("None".into()),
        }
    }
}

macro_rules! tuple {
    ($($A:ident $i:tt),*) => {
        // SAFETY: `visit`, `fetch` and `release` each walk over the items in order, and each item
        // keeps the contract.
        unsafe impl<$($A: Argument),*> Argument for ($($A,)*) {
            type Out<'a> = ($($A::Out<'a>,)*);
            type Stored = ($($A::Stored,)*);

            #[inline]
            fn store(self) -> Self::Stored {
                ($(self.$i.store(),)*)
            }

            #[inline]
            fn store_once(self) -> Self::Stored {
                ($(self.$i.store_once(),)*)
            }

            #[inline]
            fn visit(stored: &Self::Stored, inputs: &mut Vec<TaskRef>) {
                $($A::visit(&stored.$i, inputs);)*
            }

            #[inline(always)]
            unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Self::Out<'a> {
                // SAFETY: a tuple's items are evaluated in order, so the cursor points to the
                // inputs of each. The caller's other conditions hold for each item.
                ($(unsafe { $A::fetch(&stored.$i, cursor) },)*)
            }

            #[inline(always)]
            unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>) {
                // SAFETY: the cursor points to the inputs of the items, in order, and moves past
                // the inputs of each. The caller's other
        // conditions hold for each item.
                $(unsafe { $A::release(&stored.$i, cursor) };)*
            }

            fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
                $($A::write(&stored.$i, encoder)?;)*
                Ok(())
            }

            fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError> {
                Ok(($($A::read(decoder)?,)*))
            }

            fn describe(stored: &Self::Stored, texts: &mut Vec<String>) {
                $($A::describe(&stored.$i, texts);)*
            }

            const TOLERATES: bool = $($A::TOLERATES)||*;

            fn tolerates(stored: &Self::Stored, edges: &mut Vec<bool>) {
                $($A::tolerates(&stored.$i, edges);)*
            }
        }
    };
}
for_each_arity!(tuple);
