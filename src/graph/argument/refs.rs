//! Lists of handles: their values, borrowed.

use super::super::handle::Delayed;
use super::super::node::TaskRef;
use super::super::value::Cell;
use super::{Argument, Cursor};
use crate::portable::codec::{CodecError, Decoder, Encoder};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Index;

/// The values of a list of tasks, borrowed. A function gets them for a list that is given by
/// reference: `&Vec<H>`, `&[H]` or `&[H; N]`, where `H` is `Delayed<T>`, `TaskFuture<T>`, or a
/// reference to one of them.
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
    /// The number of values.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The value of the `index`-th task of the list.
    pub fn get(&self, index: usize) -> Option<&'a T> {
        // SAFETY: `fetch` made this `Refs` from inputs that have finished with values of type `T`,
        // as its caller stated. They are not released before `'a` ends.
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
    /// The list has no such index.
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

/// Implements [`Argument`] for one type of borrowed list.
///
/// An implementation for lists of any type of handle would be shorter. With it, a list of numbers
/// fails with two messages, of which one is about `Refs`.
macro_rules! borrowed_list {
    ($([$($const:tt)*] $list:ty;)*) => {$(
        // SAFETY: `visit`, `fetch` and `release` each walk over all handles of the list, in its
        // order.
        unsafe impl<T: Send + Sync + 'static $($const)*> Argument for $list {
            type Out<'a> = Refs<'a, T>;
            type Stored = Box<[Delayed<T>]>;

            fn store(self) -> Self::Stored {
                self.iter().map(|handle| Delayed::<T>::clone(handle)).collect()
            }

            fn visit(stored: &Self::Stored, inputs: &mut Vec<TaskRef>) {
                inputs.extend(stored.iter().map(Delayed::task_ref));
            }

            #[inline]
            unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Refs<'a, T> {
                // SAFETY: the cursor points to the inputs of this argument, which are one per
                // handle.
                Refs { cells: cursor.cells, ids: unsafe { cursor.ids(stored.len()) }, values: PhantomData }
            }

            #[inline]
            unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>) {
                for _ in stored {
                    // SAFETY: the cursor points to the input of this handle. It has finished, and
                    // this is its one release for the handle.
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
    [] &Vec<&Delayed<T>>;
    [] &[&Delayed<T>];
    [, const N: usize] &[&Delayed<T>; N];
}
