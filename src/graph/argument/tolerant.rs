//! Inputs that may have failed: their errors in place of their values.

use super::super::handle::Delayed;
use super::super::node::TaskRef;
use super::super::value::Cell;
use super::{Argument, Cursor};
use crate::error::Error;
use crate::portable::codec::{CodecError, Decoder, Encoder};
use std::fmt;
use std::marker::PhantomData;

/// A handle of a value: [`Delayed`], [`TaskFuture`](crate::TaskFuture), or a reference to one.
///
/// Only this crate implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handle",
    label = "not a `Delayed`, a `TaskFuture` or a reference to one",
    note = "`results` takes the handles of one list: `results(&handles)`"
)]
pub trait Handle {
    /// The type of the value.
    type Value: Send + Sync + 'static;
    #[doc(hidden)]
    fn to_delayed(&self) -> Delayed<Self::Value>;
}

impl<T: Send + Sync + 'static> Handle for Delayed<T> {
    type Value = T;

    fn to_delayed(&self) -> Delayed<T> {
        self.clone()
    }
}

impl<H: Handle + ?Sized> Handle for &H {
    type Value = H::Value;

    fn to_delayed(&self) -> Delayed<H::Value> {
        (**self).to_delayed()
    }
}

impl<T: Send + Sync + 'static> Delayed<T> {
    /// Passes the outcome to a task: the function gets `Result<&T, &Error>`.
    ///
    /// The task runs whether the input has a value or not. The error is the one that
    /// [`compute_each`](crate::compute_each) would return for the input: its own, or that of a task
    /// that it needed.
    ///
    /// A failure that is only taken in this way does not stop the run. A failure that an output
    /// needs in another way fails as always: of the output itself, or of a task that is passed to
    /// another as a value. If the run is cancelled, no task gets an error: the run ends.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Error, delayed, try_delayed};
    ///
    /// fn describe(port: Result<&u16, &Error>) -> String {
    ///     match port {
    ///         Ok(port) => format!("port {port}"),
    ///         Err(error) => format!("no port: {}", error.message()),
    ///     }
    /// }
    ///
    /// let parse = |text: &str| text.parse::<u16>();
    /// let port = try_delayed(parse, ("http",));
    /// let text = delayed(describe, (port.as_result(),));
    /// assert_eq!(text.compute()?, "no port: invalid digit found in string");
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn as_result(&self) -> AsResult<T> {
        AsResult(self.clone())
    }

    /// As [`as_result`](Delayed::as_result), without the error: the function gets `Option<&T>`.
    ///
    /// # Examples
    /// ```
    /// use sprang::{delayed, try_delayed};
    ///
    /// let port = try_delayed(|text: &str| text.parse::<u16>(), ("http",));
    /// let port = delayed(|port: Option<&u16>| port.copied().unwrap_or(80), (port.as_option(),));
    /// assert_eq!(port.compute()?, 80);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn as_option(&self) -> AsOption<T> {
        AsOption(self.clone())
    }
}

/// Passes the outcomes of a list of tasks to a task: the function gets [`Results<'_, T>`](Results).
///
/// The task runs when all of the list have ended, however many have failed. See
/// [`as_result`](Delayed::as_result) for the failures that a run tolerates.
///
/// # Examples
/// A contact sheet of the pictures that could be read is one graph:
/// ```
/// use sprang::{Results, delayed, results, try_delayed};
///
/// fn sheet(pictures: Results<'_, u8>) -> String {
///     let shown: Vec<_> = pictures.ok().map(|picture| picture.to_string()).collect();
///     format!("{} ({} unreadable)", shown.join(" "), pictures.errors().count())
/// }
///
/// let read = |file: &str| file.parse::<u8>();
/// let pictures = ["1", "two", "3"].map(|file| try_delayed(read, (file,)));
/// assert_eq!(delayed(sheet, (results(&pictures),)).compute()?, "1 3 (1 unreadable)");
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn results<H: Handle>(handles: impl IntoIterator<Item = H>) -> AsResults<H::Value> {
    AsResults(handles.into_iter().map(|handle| handle.to_delayed()).collect())
}

/// An argument whose failure is passed on; see [`as_result`](Delayed::as_result).
#[derive(Clone, Debug)]
#[must_use = "it is an argument of a task"]
pub struct AsResult<T>(Delayed<T>);

/// An argument whose failure is passed on as `None`; see [`as_option`](Delayed::as_option).
#[derive(Clone, Debug)]
#[must_use = "it is an argument of a task"]
pub struct AsOption<T>(Delayed<T>);

/// A list of arguments whose failures are passed on; see [`results`].
#[derive(Clone, Debug)]
#[must_use = "it is an argument of a task"]
pub struct AsResults<T>(Box<[Delayed<T>]>);

/// Implements [`Argument`] for one handle whose task may have failed.
macro_rules! tolerant_handle {
    ($($argument:ident, $out:ty, $text:literal, $outcome:ident => $convert:expr;)*) => {$(
        // SAFETY: `visit`, `fetch` and `release` each walk over the one handle, which `tolerates`
        // gives true for.
        unsafe impl<T: Send + Sync + 'static> Argument for $argument<T> {
            type Out<'a> = $out;
            type Stored = $argument<T>;

            fn store(self) -> Self {
                self
            }

            fn visit(stored: &Self, inputs: &mut Vec<TaskRef>) {
                inputs.push(stored.0.task_ref());
            }

            #[inline]
            unsafe fn fetch<'a>(_: &'a Self, cursor: &mut Cursor<'a>) -> $out {
                // SAFETY: the cursor points to the handle's input, which has finished with a `T`
                // (rule 2) or failed with an error. It is not released while the result lives.
                let $outcome = unsafe { cursor.cell().outcome::<T>() };
                $convert
            }

            #[inline]
            unsafe fn release(_: &Self, cursor: &mut Cursor<'_>) {
                // SAFETY: the cursor points to the handle's input, which has finished with a `T`
                // (rule 2) or failed. This is its one release for the handle.
                unsafe { cursor.cell().release::<T>() }
            }

            fn write(_: &Self, _: &mut Encoder<'_>) -> Result<(), CodecError> {
                Ok(())
            }

            fn read(_: &mut Decoder<'_>) -> Result<Self, CodecError> {
                Ok($argument(Delayed::placeholder()))
            }

            fn describe(_: &Self, texts: &mut Vec<String>) {
                texts.push($text.into());
            }

            const TOLERATES: bool = true;
        }
    )*};
}
tolerant_handle! {
    AsResult, Result<&'a T, &'a Error>, "as_result", outcome => outcome;
    AsOption, Option<&'a T>, "as_option", outcome => outcome.ok();
}

// SAFETY: `visit`, `fetch` and `release` each walk over all handles of the list, in its order, and
// `tolerates` gives true for each.
unsafe impl<T: Send + Sync + 'static> Argument for AsResults<T> {
    type Out<'a> = Results<'a, T>;
    type Stored = AsResults<T>;

    fn store(self) -> Self {
        self
    }

    fn visit(stored: &Self, inputs: &mut Vec<TaskRef>) {
        inputs.extend(stored.0.iter().map(Delayed::task_ref));
    }

    #[inline]
    unsafe fn fetch<'a>(stored: &'a Self, cursor: &mut Cursor<'a>) -> Results<'a, T> {
        // SAFETY: the cursor points to the inputs of this argument, which are one per handle.
        Results { cells: cursor.cells, ids: unsafe { cursor.ids(stored.0.len()) }, values: PhantomData }
    }

    unsafe fn release(stored: &Self, cursor: &mut Cursor<'_>) {
        for _ in &stored.0 {
            // SAFETY: the cursor points to the input of this handle. It has finished or failed, and
            // this is its one release for the handle.
            unsafe { cursor.cell().release::<T>() }
        }
    }

    fn write(stored: &Self, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        encoder.write(&stored.0.len())
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, CodecError> {
        let len = decoder.read::<usize>()?;
        Ok(AsResults((0..len).map(|_| Delayed::placeholder()).collect()))
    }

    fn describe(_: &Self, texts: &mut Vec<String>) {
        texts.push("results".into());
    }

    const TOLERATES: bool = true;
}

/// The outcomes of a list of tasks, borrowed: a value or an error for each. A function gets them
/// for [`results(&handles)`](results).
///
/// It iterates over `Result<&T, &Error>`, in the order of the list.
///
/// # Examples
/// ```
/// use sprang::{Error, Results, delayed, results, try_delayed};
///
/// fn total(numbers: Results<'_, i64>) -> Result<i64, Error> {
///     match numbers.errors().next() {
///         Some(error) if numbers.ok().count() < 2 => Err(error.clone()), // too few to go on
///         _ => Ok(numbers.ok().sum()),
///     }
/// }
///
/// let parse = |text: &str| text.parse::<i64>();
/// let numbers = ["1", "x", "3"].map(|text| try_delayed(parse, (text,)));
/// assert_eq!(try_delayed(total, (results(&numbers),)).compute()?, 4);
/// # Ok::<_, sprang::Error>(())
/// ```
pub struct Results<'a, T> {
    cells: &'a [Cell],
    ids: &'a [u32],
    values: PhantomData<&'a T>,
}

impl<'a, T> Results<'a, T> {
    /// The number of outcomes.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no outcomes.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The outcome of the `index`-th task of the list.
    pub fn get(&self, index: usize) -> Option<Result<&'a T, &'a Error>> {
        // SAFETY: `fetch` made this list from inputs that have finished with values of type `T`, or
        // failed with an error, as its caller stated. They are not released before `'a` ends.
        self.ids.get(index).map(|&id| unsafe { self.cells[id as usize].outcome() })
    }

    /// The outcomes, in the order of the list.
    pub fn iter(&self) -> ResultsIter<'a, T> {
        ResultsIter { results: *self }
    }

    /// The values of the tasks that have one, in the order of the list.
    pub fn ok(&self) -> impl DoubleEndedIterator<Item = &'a T> + use<'a, T> {
        self.iter().filter_map(Result::ok)
    }

    /// The errors of the other tasks, in the order of the list.
    pub fn errors(&self) -> impl DoubleEndedIterator<Item = &'a Error> + use<'a, T> {
        self.iter().filter_map(Result::err)
    }
}

impl<T> Clone for Results<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Results<'_, T> {}

impl<T: fmt::Debug> fmt::Debug for Results<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T> IntoIterator for Results<'a, T> {
    type Item = Result<&'a T, &'a Error>;
    type IntoIter = ResultsIter<'a, T>;

    fn into_iter(self) -> ResultsIter<'a, T> {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &Results<'a, T> {
    type Item = Result<&'a T, &'a Error>;
    type IntoIter = ResultsIter<'a, T>;

    fn into_iter(self) -> ResultsIter<'a, T> {
        self.iter()
    }
}

/// Iterates over [`Results`].
pub struct ResultsIter<'a, T> {
    results: Results<'a, T>,
}

impl<T: fmt::Debug> fmt::Debug for ResultsIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultsIter").field("results", &self.results).finish()
    }
}

impl<T> Clone for ResultsIter<'_, T> {
    fn clone(&self) -> Self {
        ResultsIter { results: self.results }
    }
}

impl<'a, T> Iterator for ResultsIter<'a, T> {
    type Item = Result<&'a T, &'a Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let outcome = self.results.get(0)?;
        self.results.ids = &self.results.ids[1..];
        Some(outcome)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.results.len(), Some(self.results.len()))
    }
}

impl<T> DoubleEndedIterator for ResultsIter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let last = self.results.len().checked_sub(1)?;
        let outcome = self.results.get(last);
        self.results.ids = &self.results.ids[..last];
        outcome
    }
}

impl<T> ExactSizeIterator for ResultsIter<'_, T> {}
