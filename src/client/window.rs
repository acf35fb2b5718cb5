//! A window over futures that are submitted one after the other: backpressure for long or endless
//! inputs.

use super::completed::{AsCompleted, as_completed};
use super::future::TaskFuture;
use std::collections::VecDeque;
use std::fmt;

/// Draws futures from an iterator, at most `window` ahead of the caller, and returns each when it
/// is settled, in their order.
///
/// A lazy iterator submits a task only when its future is drawn. So an endless input needs the
/// memory of `window` values; 0 counts as 1. [`Windowed::as_completed`] returns the futures in the
/// order in which they are settled. Dropping the window cancels the futures that it has drawn and
/// not returned.
///
/// # Examples
/// ```
/// use sprang::{Client, windowed};
///
/// let client = Client::threads(2)?;
/// let squares = windowed((1_u64..).map(|x| client.submit(|x: u64| x * x, (x,))), 8);
/// let mut sum = 0;
/// for square in squares.take(1000) {
///     sum += square.result()?;
/// }
/// assert_eq!(sum, 333_833_500);
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Complexity
/// O(1) for each future.
pub fn windowed<T, I>(futures: I, window: usize) -> Windowed<T, I::IntoIter>
where
    T: Send + Sync + 'static,
    I: IntoIterator<Item = TaskFuture<T>>,
{
    Windowed {
        source: FutureSource { futures: futures.into_iter(), window: window.max(1), is_over: false },
        drawn: InOrder(VecDeque::new()),
    }
}

/// Where the futures of a window come from.
struct FutureSource<I> {
    futures: I,
    window: usize,
    is_over: bool,
}

impl<I: Iterator> FutureSource<I> {
    /// The next future, if the window has room for it.
    fn draw(&mut self, num_drawn: usize) -> Option<I::Item> {
        if self.is_over || num_drawn >= self.window {
            return None;
        }
        let next = self.futures.next();
        self.is_over = next.is_none();
        next
    }
}

/// An iterator over futures in their order, which are submitted in a window; made by [`windowed`].
#[must_use = "iterators are lazy: call `next` to submit the first tasks"]
pub struct Windowed<T: Send + Sync + 'static, I> {
    source: FutureSource<I>,
    drawn: InOrder<T>,
}

/// An iterator over futures in the order in which they are settled, which are submitted in a
/// window; made by [`Windowed::as_completed`].
#[must_use = "iterators are lazy: call `next` to submit the first tasks"]
pub struct WindowedAsCompleted<T: Send + Sync + 'static, I> {
    source: FutureSource<I>,
    drawn: ByCompletion<T>,
}

/// Futures that are cancelled when they are dropped.
struct InOrder<T: Send + Sync + 'static>(VecDeque<TaskFuture<T>>);

/// Futures that are cancelled when they are dropped.
struct ByCompletion<T: Send + Sync + 'static>(AsCompleted<T>);

impl<T: Send + Sync + 'static> Drop for InOrder<T> {
    fn drop(&mut self) {
        self.0.iter().for_each(|future| _ = future.cancel());
    }
}

impl<T: Send + Sync + 'static> Drop for ByCompletion<T> {
    fn drop(&mut self) {
        self.0.cancel_all();
    }
}

impl<T: Send + Sync + 'static, I> Windowed<T, I> {
    /// Returns the futures in the order in which they are settled.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Client, windowed};
    ///
    /// let client = Client::threads(2)?;
    /// let squares = (1..=10_u64).map(|x| client.submit(|x: u64| x * x, (x,)));
    /// let mut sum = 0;
    /// for square in windowed(squares, 4).as_completed() {
    ///     sum += square.result()?;
    /// }
    /// assert_eq!(sum, 385);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn as_completed(mut self) -> WindowedAsCompleted<T, I> {
        let drawn = ByCompletion(as_completed(std::mem::take(&mut self.drawn.0)));
        WindowedAsCompleted { source: self.source, drawn }
    }
}

impl<T: Send + Sync + 'static, I: Iterator<Item = TaskFuture<T>>> Iterator for Windowed<T, I> {
    type Item = TaskFuture<T>;

    /// `None` also if the calling task was cancelled.
    fn next(&mut self) -> Option<TaskFuture<T>> {
        while let Some(future) = self.source.draw(self.drawn.0.len()) {
            self.drawn.0.push_back(future);
        }
        let first = self.drawn.0.front()?;
        // An error is one of the future's, which the caller reads, or that of the calling task.
        let _ = first.result_ref();
        if first.is_done() { self.drawn.0.pop_front() } else { None }
    }
}

impl<T: Send + Sync + 'static, I: Iterator<Item = TaskFuture<T>>> Iterator for WindowedAsCompleted<T, I> {
    type Item = TaskFuture<T>;

    /// `None` also if the calling task was cancelled.
    fn next(&mut self) -> Option<TaskFuture<T>> {
        while let Some(future) = self.source.draw(self.drawn.0.num_left()) {
            self.drawn.0.add(future);
        }
        self.drawn.0.next()
    }
}

impl<T: Send + Sync + 'static, I> fmt::Debug for Windowed<T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let num_drawn = self.drawn.0.len();
        f.debug_struct("Windowed")
            .field("window", &self.source.window)
            .field("num_drawn", &num_drawn)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static, I> fmt::Debug for WindowedAsCompleted<T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let num_drawn = self.drawn.0.num_left();
        let mut debug = f.debug_struct("WindowedAsCompleted");
        debug.field("window", &self.source.window).field("num_drawn", &num_drawn).finish_non_exhaustive()
    }
}
