//! How a value reaches a function: the argument expression decides.
//!
//! | argument | the function gets | needs |
//! |---|---|---|
//! | `&Delayed<T>` | `&T` | |
//! | `Delayed<T>` | `T`: moved out of the graph when this is its last use, otherwise cloned | `T: Clone` |
//! | `&Vec<Delayed<T>>`, `&[Delayed<T>]`, `&[Delayed<T>; N]` | [`Refs<'_, T>`](Refs) | |
//! | `Vec`, array, `Option` or tuple of arguments | the same shape of what each of them gives | |
//! | a number, `bool`, `char`, `String`, `&'static str` | the value | |
//! | [`lit(value)`](lit) | `&V` | `V: Portable` |
//!
//! An argument is stored in the task's node as what it needs to be fetched again: handles and plain values. At run time the ids of the
//! tasks behind the handles come from the plan, in the order in which [`Argument::visit`] listed them; a [`Cursor`] walks along.
//!
//! # What is always true
//!
//! `visit`, `fetch` and `release` of one stored argument walk over the same handles in the same order. So a cursor that starts at the
//! task's first input points, at each handle, to the id of that handle's task.

#![expect(unsafe_code, reason = "arguments read typed values from untyped cells")]

use super::handle::Delayed;
use super::name;
use super::node::TaskRef;
use super::value::Cell;
use crate::portable::Portable;
use crate::portable::codec::{CodecError, Decoder, Encoder};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Index;

/// Walks over the inputs of one call.
#[derive(Debug)]
pub struct Cursor<'a> {
    cells: &'a [Cell],
    next: *const u32,
    keep: bool,
}

impl<'a> Cursor<'a> {
    /// # Safety
    /// `inputs` points to the ids of a task's inputs, as many as will be asked for, each below `cells.len()`.
    #[inline(always)]
    pub(crate) unsafe fn new(cells: &'a [Cell], inputs: *const u32, keep: bool) -> Self {
        Cursor { cells, next: inputs, keep }
    }

    /// # Safety
    /// There is one more input.
    #[inline(always)]
    unsafe fn cell(&mut self) -> &'a Cell {
        // SAFETY: the contract of `new`.
        unsafe {
            let id = *self.next;
            self.next = self.next.add(1);
            debug_assert!((id as usize) < self.cells.len());
            self.cells.get_unchecked(id as usize)
        }
    }

    /// # Safety
    /// There are `count` more inputs.
    #[inline(always)]
    unsafe fn ids(&mut self, count: usize) -> &'a [u32] {
        // SAFETY: the contract of `new`; the plan outlives the call.
        unsafe {
            let ids = std::slice::from_raw_parts(self.next, count);
            self.next = self.next.add(count);
            ids
        }
    }
}

/// Something that can stand in the argument tuple of a task.
///
/// # Safety
/// `visit`, `fetch` and `release` of one stored argument walk over the same tasks in the same order. `visit` lists tasks that
/// `Stored` has handles to, and `fetch` and `release` treat each as one with a value of the handle's type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a task",
    label = "not a task argument",
    note = "a value that is no handle goes in as `lit(value)` (the task borrows it), or as `&local(value)` if it cannot be encoded",
    note = "pass `&Delayed<T>` (the task borrows `&T`), `Delayed<T>` with `T: Clone` (the task owns a `T`, moved on last use), a reference to a `Vec` of handles, a `Vec`, array, `Option` or tuple of arguments, or a plain number, `bool`, `char` or string"
)]
pub unsafe trait Argument {
    /// What the function gets.
    type Out<'a>;
    /// What the task keeps.
    #[doc(hidden)]
    type Stored: Send + Sync + 'static;
    #[doc(hidden)]
    fn store(self) -> Self::Stored;
    #[doc(hidden)]
    fn visit(stored: &Self::Stored, inputs: &mut Vec<TaskRef>);
    /// # Safety
    /// The cursor points to this argument's inputs, which have finished with values of the right types.
    #[doc(hidden)]
    unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Self::Out<'a>;
    /// # Safety
    /// The cursor points to this argument's inputs, which have finished; what `fetch` gave is gone.
    #[doc(hidden)]
    unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>);
    /// Writes what [`Argument::read`] needs, in another process, to make the same: plain values and shapes, nothing for a handle.
    #[doc(hidden)]
    fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError>;
    /// Handles that are read are placeholders.
    #[doc(hidden)]
    fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError>;
    /// Adds a few words on each plain value, for pictures; none on a handle.
    #[doc(hidden)]
    fn describe(_: &Self::Stored, _: &mut Vec<String>) {}
}

/// Of a list's items pictures show the first ones.
const MAX_DESCRIBED: usize = 6;

// SAFETY: all three walk over the one handle.
unsafe impl<T: Send + Sync + 'static> Argument for &Delayed<T> {
    type Out<'a> = &'a T;
    type Stored = Delayed<T>;

    #[inline]
    fn store(self) -> Delayed<T> {
        self.clone()
    }

    #[inline]
    fn visit(stored: &Delayed<T>, inputs: &mut Vec<TaskRef>) {
        inputs.push(stored.task_ref());
    }

    #[inline(always)]
    unsafe fn fetch<'a>(_: &'a Delayed<T>, cursor: &mut Cursor<'a>) -> &'a T {
        // SAFETY: the caller's contract; the borrow ends with the call, before `release`.
        unsafe { cursor.cell().peek() }
    }

    #[inline(always)]
    unsafe fn release(_: &Delayed<T>, cursor: &mut Cursor<'_>) {
        // SAFETY: the caller's contract.
        unsafe { cursor.cell().release::<T>() }
    }

    fn write(_: &Delayed<T>, _: &mut Encoder<'_>) -> Result<(), CodecError> {
        Ok(())
    }

    fn read(_: &mut Decoder<'_>) -> Result<Delayed<T>, CodecError> {
        Ok(Delayed::placeholder())
    }
}

/// A value that a task can have as its own.
#[diagnostic::on_unimplemented(
    message = "a task cannot own a `{Self}`, which is not `Clone`",
    label = "an owned argument must be `Clone`, for the case that another task needs it too",
    note = "pass `&handle`, so that the function borrows the value, or derive `Clone` for its type"
)]
pub trait Owned: Clone {}

// Otherwise the message would be the one for `Clone`.
#[diagnostic::do_not_recommend]
impl<T: Clone> Owned for T {}

// SAFETY: all three walk over the one handle.
unsafe impl<T: Owned + Send + Sync + 'static> Argument for Delayed<T> {
    type Out<'a> = T;
    type Stored = Delayed<T>;

    #[inline]
    fn store(self) -> Delayed<T> {
        self
    }

    #[inline]
    fn visit(stored: &Delayed<T>, inputs: &mut Vec<TaskRef>) {
        inputs.push(stored.task_ref());
    }

    #[inline(always)]
    unsafe fn fetch<'a>(_: &'a Delayed<T>, cursor: &mut Cursor<'a>) -> T {
        let keep = cursor.keep;
        // SAFETY: the caller's contract.
        unsafe { cursor.cell().own(keep) }
    }

    #[inline(always)]
    unsafe fn release(_: &Delayed<T>, cursor: &mut Cursor<'_>) {
        // SAFETY: the caller's contract.
        unsafe { cursor.cell().release_owned::<T>() }
    }

    fn write(_: &Delayed<T>, _: &mut Encoder<'_>) -> Result<(), CodecError> {
        Ok(())
    }

    fn read(_: &mut Decoder<'_>) -> Result<Delayed<T>, CodecError> {
        Ok(Delayed::placeholder())
    }
}

/// The values of a list of tasks, borrowed: what a function gets for `&Vec<Delayed<T>>`.
///
/// # Examples
/// ```
/// use sprang::{Refs, delayed};
///
/// fn range(values: Refs<'_, f64>) -> f64 {
///     let max = values.iter().copied().fold(f64::MIN, f64::max);
///     max - values.iter().copied().fold(f64::MAX, f64::min)
/// }
///
/// let parts: Vec<_> = (0..10).map(|i| delayed(f64::sqrt, (f64::from(i),))).collect();
/// assert_eq!(delayed(range, (&parts,)).compute()?, 3.0);
/// # Ok::<_, sprang::Error>(())
/// ```
pub struct Refs<'a, T> {
    cells: &'a [Cell],
    ids: &'a [u32],
    values: PhantomData<&'a T>,
}

impl<'a, T> Refs<'a, T> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The value of the `index`-th task of the list.
    pub fn get(&self, index: usize) -> Option<&'a T> {
        // SAFETY: a `Refs` is made by `fetch`, whose contract says that the inputs have finished with values of type `T`.
        self.ids.get(index).map(|&id| unsafe { self.cells[id as usize].peek() })
    }

    /// The values, in the order of the list.
    pub fn iter(&self) -> RefsIter<'a, T> {
        RefsIter { refs: *self }
    }

    /// Clones of the values.
    pub fn to_vec(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.iter().cloned().collect()
    }
}

impl<T> Clone for Refs<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Refs<'_, T> {}

impl<T: fmt::Debug> fmt::Debug for Refs<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T> Index<usize> for Refs<'_, T> {
    type Output = T;

    /// # Panics
    /// If there are not that many values.
    #[track_caller]
    fn index(&self, index: usize) -> &T {
        let len = self.len();
        self.get(index).unwrap_or_else(|| panic!("the index is {index} but there are {len} values"))
    }
}

impl<'a, T> IntoIterator for Refs<'a, T> {
    type Item = &'a T;
    type IntoIter = RefsIter<'a, T>;

    fn into_iter(self) -> RefsIter<'a, T> {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &Refs<'a, T> {
    type Item = &'a T;
    type IntoIter = RefsIter<'a, T>;

    fn into_iter(self) -> RefsIter<'a, T> {
        self.iter()
    }
}

/// Iterates over [`Refs`].
#[derive(Debug)]
pub struct RefsIter<'a, T> {
    refs: Refs<'a, T>,
}

impl<T> Clone for RefsIter<'_, T> {
    fn clone(&self) -> Self {
        RefsIter { refs: self.refs }
    }
}

impl<'a, T> Iterator for RefsIter<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        let value = self.refs.get(0)?;
        self.refs.ids = &self.refs.ids[1..];
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.refs.len(), Some(self.refs.len()))
    }
}

impl<T> DoubleEndedIterator for RefsIter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let last = self.refs.len().checked_sub(1)?;
        let value = self.refs.get(last);
        self.refs.ids = &self.refs.ids[..last];
        value
    }
}

impl<T> ExactSizeIterator for RefsIter<'_, T> {}

/// What the three kinds of borrowed lists have in common.
macro_rules! borrowed_list {
    ($([$($const:tt)*] $list:ty;)*) => {$(
        // SAFETY: all three walk over the handles of the list, in its order.
        unsafe impl<T: Send + Sync + 'static $($const)*> Argument for $list {
            type Out<'a> = Refs<'a, T>;
            type Stored = Box<[Delayed<T>]>;

            fn store(self) -> Self::Stored {
                self.to_vec().into()
            }

            fn visit(stored: &Self::Stored, inputs: &mut Vec<TaskRef>) {
                inputs.extend(stored.iter().map(Delayed::task_ref));
            }

            #[inline]
            unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Refs<'a, T> {
                // SAFETY: the caller's contract.
                Refs { cells: cursor.cells, ids: unsafe { cursor.ids(stored.len()) }, values: PhantomData }
            }

            #[inline]
            unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>) {
                for _ in stored {
                    // SAFETY: the caller's contract.
                    unsafe { cursor.cell().release::<T>() }
                }
            }

            fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
                encoder.write(&stored.len())
            }

            fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError> {
                let len = decoder.read::<usize>()?;
                Ok((0..len).map(|_| Delayed::placeholder()).collect())
            }
        }
    )*};
}
borrowed_list! {
    [] &Vec<Delayed<T>>;
    [] &[Delayed<T>];
    [, const N: usize] &[Delayed<T>; N];
}

// SAFETY: each item keeps the contract, and all three walk over the items in order.
unsafe impl<A: Argument> Argument for Vec<A> {
    type Out<'a> = Vec<A::Out<'a>>;
    type Stored = Box<[A::Stored]>;

    fn store(self) -> Self::Stored {
        self.into_iter().map(A::store).collect()
    }

    fn visit(stored: &Self::Stored, inputs: &mut Vec<TaskRef>) {
        stored.iter().for_each(|item| A::visit(item, inputs));
    }

    #[inline]
    unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Self::Out<'a> {
        // SAFETY: the caller's contract, item by item.
        stored.iter().map(|item| unsafe { A::fetch(item, cursor) }).collect()
    }

    #[inline]
    unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>) {
        // SAFETY: the caller's contract, item by item.
        stored.iter().for_each(|item| unsafe { A::release(item, cursor) });
    }

    fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        encoder.write(&stored.len())?;
        stored.iter().try_for_each(|item| A::write(item, encoder))
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError> {
        let len = decoder.read::<usize>()?;
        (0..len).map(|_| A::read(decoder)).collect()
    }

    fn describe(stored: &Self::Stored, words: &mut Vec<String>) {
        let before = words.len();
        stored.iter().take(MAX_DESCRIBED).for_each(|item| A::describe(item, words));
        if stored.len() > MAX_DESCRIBED && words.len() > before {
            words.push("…".into());
        }
    }
}

// SAFETY: each item keeps the contract, and all three walk over the items in order.
unsafe impl<A: Argument, const N: usize> Argument for [A; N] {
    type Out<'a> = [A::Out<'a>; N];
    type Stored = [A::Stored; N];

    fn store(self) -> Self::Stored {
        self.map(A::store)
    }

    fn visit(stored: &Self::Stored, inputs: &mut Vec<TaskRef>) {
        stored.iter().for_each(|item| A::visit(item, inputs));
    }

    #[inline]
    unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Self::Out<'a> {
        // SAFETY: the caller's contract, item by item.
        std::array::from_fn(|i| unsafe { A::fetch(&stored[i], cursor) })
    }

    #[inline]
    unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>) {
        // SAFETY: the caller's contract, item by item.
        stored.iter().for_each(|item| unsafe { A::release(item, cursor) });
    }

    fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        stored.iter().try_for_each(|item| A::write(item, encoder))
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError> {
        let items = (0..N).map(|_| A::read(decoder)).collect::<Result<Vec<_>, _>>()?;
        Ok(items.try_into().unwrap_or_else(|_| unreachable!("there are N items")))
    }

    fn describe(stored: &Self::Stored, words: &mut Vec<String>) {
        let before = words.len();
        stored.iter().take(MAX_DESCRIBED).for_each(|item| A::describe(item, words));
        if stored.len() > MAX_DESCRIBED && words.len() > before {
            words.push("…".into());
        }
    }
}

// SAFETY: each item keeps the contract, and all three walk over the items in order.
unsafe impl<A: Argument> Argument for Option<A> {
    type Out<'a> = Option<A::Out<'a>>;
    type Stored = Option<A::Stored>;

    fn store(self) -> Self::Stored {
        self.map(A::store)
    }

    fn visit(stored: &Self::Stored, inputs: &mut Vec<TaskRef>) {
        stored.iter().for_each(|item| A::visit(item, inputs));
    }

    #[inline]
    unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Self::Out<'a> {
        // SAFETY: the caller's contract.
        stored.as_ref().map(|item| unsafe { A::fetch(item, cursor) })
    }

    #[inline]
    unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>) {
        // SAFETY: the caller's contract.
        stored.iter().for_each(|item| unsafe { A::release(item, cursor) });
    }

    fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        encoder.write(&stored.is_some())?;
        stored.iter().try_for_each(|item| A::write(item, encoder))
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError> {
        Ok(if decoder.read::<bool>()? { Some(A::read(decoder)?) } else { None })
    }

    fn describe(stored: &Self::Stored, words: &mut Vec<String>) {
        match stored {
            Some(item) => A::describe(item, words),
            None => words.push("None".into()),
        }
    }
}

macro_rules! tuple {
    ($($A:ident $i:tt),*) => {
        // SAFETY: each item keeps the contract, and all three walk over the items in order.
        unsafe impl<$($A: Argument),*> Argument for ($($A,)*) {
            type Out<'a> = ($($A::Out<'a>,)*);
            type Stored = ($($A::Stored,)*);

            #[inline]
            fn store(self) -> Self::Stored {
                ($(self.$i.store(),)*)
            }

            #[inline]
            fn visit(stored: &Self::Stored, inputs: &mut Vec<TaskRef>) {
                $($A::visit(&stored.$i, inputs);)*
            }

            #[inline(always)]
            unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Self::Out<'a> {
                // SAFETY: the caller's contract, item by item; a tuple's items are evaluated in order.
                ($(unsafe { $A::fetch(&stored.$i, cursor) },)*)
            }

            #[inline(always)]
            unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>) {
                // SAFETY: the caller's contract, item by item.
                $(unsafe { $A::release(&stored.$i, cursor) };)*
            }

            fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
                $($A::write(&stored.$i, encoder)?;)*
                Ok(())
            }

            fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError> {
                Ok(($($A::read(decoder)?,)*))
            }

            fn describe(stored: &Self::Stored, words: &mut Vec<String>) {
                $($A::describe(&stored.$i, words);)*
            }
        }
    };
}
for_each_arity!(tuple);

// SAFETY: there is no handle.
unsafe impl Argument for () {
    type Out<'a> = ();
    type Stored = ();

    #[inline]
    fn store(self) {}

    #[inline]
    fn visit(_: &(), _: &mut Vec<TaskRef>) {}

    #[inline(always)]
    unsafe fn fetch<'a>(_: &'a (), _: &mut Cursor<'a>) {}

    #[inline(always)]
    unsafe fn release(_: &(), _: &mut Cursor<'_>) {}

    fn write(_: &(), _: &mut Encoder<'_>) -> Result<(), CodecError> {
        Ok(())
    }

    fn read(_: &mut Decoder<'_>) -> Result<(), CodecError> {
        Ok(())
    }
}

macro_rules! plain {
    ($($t:ty, $read:path;)*) => {$(
        // SAFETY: there is no handle.
        unsafe impl Argument for $t {
            type Out<'a> = $t;
            type Stored = $t;

            #[inline]
            fn store(self) -> $t {
                self
            }

            #[inline]
            fn visit(_: &$t, _: &mut Vec<TaskRef>) {}

            #[inline(always)]
            unsafe fn fetch<'a>(stored: &'a $t, _: &mut Cursor<'a>) -> $t {
                Clone::clone(stored)
            }

            #[inline(always)]
            unsafe fn release(_: &$t, _: &mut Cursor<'_>) {}

            fn write(stored: &$t, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
                encoder.write(stored)
            }

            fn read(decoder: &mut Decoder<'_>) -> Result<$t, CodecError> {
                $read(decoder)
            }

            fn describe(stored: &$t, words: &mut Vec<String>) {
                words.push(name::brief(stored));
            }
        }
    )*};
}
macro_rules! plain_values {
    ($($t:ty)*) => {
        plain! { $($t, Decoder::read::<$t>;)* }
    };
}
plain_values! { bool char i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64 String }
plain! { &'static str, read_text; }

/// A text that lives for the rest of the process, as it did in the process that wrote it; one for all that are equal.
fn read_text(decoder: &mut Decoder<'_>) -> Result<&'static str, CodecError> {
    static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let text = decoder.read::<String>()?;
    let mut texts = TEXTS.lock();
    if let Some(text) = texts.get(text.as_str()) {
        return Ok(text);
    }
    let text: &'static str = text.leak();
    texts.insert(text);
    Ok(text)
}

/// The error with the type in it that cannot be encoded or decoded.
fn of_type<V>(problem: CodecError) -> CodecError {
    CodecError::new(format!("a `{}`: {problem}", std::any::type_name::<V>()))
}

/// A plain value given to a task by reference; made by [`lit`].
#[derive(Clone, Debug)]
pub struct Lit<V>(V);

/// Gives a task any plain value; the function gets `&V`.
///
/// Numbers, `bool`, `char` and strings need no `lit` and reach the function by value. A value that cannot be encoded goes in as
/// `&`[`local`](crate::local)`(value)`.
///
/// # Examples
/// ```
/// use sprang::{delayed, lit};
///
/// fn dot(a: &Vec<f64>, b: &Vec<f64>) -> f64 {
///     a.iter().zip(b).map(|(x, y)| x * y).sum()
/// }
///
/// let product = delayed(dot, (lit(vec![1.0, 2.0]), lit(vec![3.0, 4.0])));
/// assert_eq!(product.compute()?, 11.0);
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn lit<V: Portable>(value: V) -> Lit<V> {
    Lit(value)
}

// SAFETY: there is no handle.
unsafe impl<V: Portable> Argument for Lit<V> {
    type Out<'a> = &'a V;
    type Stored = V;

    fn store(self) -> V {
        self.0
    }

    fn visit(_: &V, _: &mut Vec<TaskRef>) {}

    #[inline(always)]
    unsafe fn fetch<'a>(stored: &'a V, _: &mut Cursor<'a>) -> &'a V {
        stored
    }

    #[inline(always)]
    unsafe fn release(_: &V, _: &mut Cursor<'_>) {}

    fn write(stored: &V, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        encoder.write(stored).map_err(of_type::<V>)
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<V, CodecError> {
        decoder.read().map_err(of_type::<V>)
    }

    fn describe(_: &V, words: &mut Vec<String>) {
        words.push(name::of_type(std::any::type_name::<V>()));
    }
}
