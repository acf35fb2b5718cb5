//! Arguments for functions that take `&str`, `&[T]` or `&Path`: what a value dereferences to.

use super::super::handle::Delayed;
use super::super::node::TaskRef;
use super::plain::{Lit, no_handles};
use super::{Argument, Cursor};
use crate::portable::Portable;
use crate::portable::codec::{CodecError, Decoder, Encoder};
use std::ops::Deref;

/// An argument whose function gets what the value dereferences to: `&str` for a `String`, `&[T]`
/// for a `Vec<T>`, `&Path` for a `PathBuf`, `&T` for a `Box<T>` or an `Arc<T>`.
///
/// [`Delayed::as_deref`], [`TaskFuture::as_deref`](crate::TaskFuture::as_deref) and
/// [`Lit::as_deref`] make it.
#[derive(Clone, Debug)]
pub struct AsDeref<A>(A);

impl<T: Deref> Delayed<T> {
    /// Lends to a task what the value dereferences to, as [`Option::as_deref`] does.
    ///
    /// `&handle` of a `Delayed<Vec<f64>>` is for a function of `&Vec<f64>`. A function of `&[f64]`,
    /// which clippy asks for, takes `handle.as_deref()`.
    ///
    /// # Examples
    /// ```
    /// use sprang::{delayed, lit};
    ///
    /// fn mean(values: &[f64]) -> f64 {
    ///     values.iter().sum::<f64>() / values.len() as f64
    /// }
    ///
    /// let values = delayed(|| vec![1.0, 2.0, 6.0], ());
    /// assert_eq!(delayed(mean, (values.as_deref(),)).compute()?, 3.0);
    /// assert_eq!(delayed(mean, (lit(vec![1.0, 2.0]).as_deref(),)).compute()?, 1.5);
    /// let first = delayed(|values| values.first().copied(), (values.as_deref(),));
    /// assert_eq!(first.compute()?, Some(1.0));
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn as_deref(&self) -> AsDeref<Delayed<T>> {
        AsDeref(self.clone())
    }
}

impl<V: Deref> Lit<V> {
    /// Lends to a task what the value dereferences to; see [`Delayed::as_deref`].
    pub fn as_deref(self) -> AsDeref<Lit<V>> {
        AsDeref(self)
    }
}

// SAFETY: all functions are those of `&Delayed<T>`, on the same `Stored`, so the contract that it
// keeps holds here.
unsafe impl<T: Deref + Send + Sync + 'static> Argument for AsDeref<Delayed<T>> {
    type Out<'a> = &'a T::Target;
    type Stored = Delayed<T>;

    #[inline]
    fn store(self) -> Delayed<T> {
        self.0
    }

    #[inline]
    fn visit(stored: &Delayed<T>, inputs: &mut Vec<TaskRef>) {
        <&Delayed<T>>::visit(stored, inputs);
    }

    #[inline(always)]
    unsafe fn fetch<'a>(stored: &'a Delayed<T>, cursor: &mut Cursor<'a>) -> &'a T::Target {
        // SAFETY: the contract of this function is that of `&Delayed<T>`, word for word.
        unsafe { <&Delayed<T>>::fetch(stored, cursor) }
    }

    #[inline(always)]
    unsafe fn release(stored: &Delayed<T>, cursor: &mut Cursor<'_>) {
        // SAFETY: the contract of this function is that of `&Delayed<T>`, word for word.
        unsafe { <&Delayed<T>>::release(stored, cursor) }
    }

    fn write(stored: &Delayed<T>, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        <&Delayed<T>>::write(stored, encoder)
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Delayed<T>, CodecError> {
        <&Delayed<T>>::read(decoder)
    }
}

// SAFETY: the argument has no handles, so no method walks over any.
unsafe impl<V: Deref + Portable> Argument for AsDeref<Lit<V>> {
    type Out<'a> = &'a V::Target;
    type Stored = V;

    fn store(self) -> V {
        self.0.store()
    }

    no_handles!();

    #[inline(always)]
    unsafe fn fetch<'a>(stored: &'a V, _: &mut Cursor<'a>) -> &'a V::Target {
        stored
    }

    fn write(stored: &V, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        Lit::write(stored, encoder)
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<V, CodecError> {
        Lit::read(decoder)
    }

    fn describe(stored: &V, texts: &mut Vec<String>) {
        Lit::describe(stored, texts);
    }
}
