//! Waiting for several futures, and iterating over them in order of completion.

use super::cluster::WorkerThread;
use super::future::TaskFuture;
use super::nested;
use super::promise::{Waiter, Watcher};
use super::spin::deadline_after;
use super::wait::{self, Arrivals, WaitFor, lose_if_forked};
use crate::error::Result;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Waits until futures are settled: all, one, or one that failed, as [`WaitFor`] says. Returns the
/// settled futures and the others, each in their order.
///
/// # Examples
/// ```
/// use sprang::{Client, WaitFor};
///
/// let client = Client::threads(2)?;
/// let futures = client.map(|x: u64| x * x, 0..10_u64);
/// let (done, open) = sprang::wait(&futures, WaitFor::All);
/// assert_eq!((done.len(), open.len()), (10, 0));
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn wait<T: Send + Sync + 'static>(
    futures: &[TaskFuture<T>],
    until: WaitFor,
) -> (Vec<TaskFuture<T>>, Vec<TaskFuture<T>>) {
    wait_until(futures, until, None)
}

/// As [`wait`](fn@wait), for at most `timeout`.
pub fn wait_timeout<T: Send + Sync + 'static>(
    futures: &[TaskFuture<T>],
    until: WaitFor,
    timeout: Duration,
) -> (Vec<TaskFuture<T>>, Vec<TaskFuture<T>>) {
    wait_until(futures, until, Some(timeout))
}

fn wait_until<T: Send + Sync + 'static>(
    futures: &[TaskFuture<T>],
    until: WaitFor,
    timeout: Option<Duration>,
) -> (Vec<TaskFuture<T>>, Vec<TaskFuture<T>>) {
    let promises: Vec<_> = futures.iter().map(TaskFuture::promise).collect();
    wait::settled(&promises, until, timeout.and_then(deadline_after));
    futures.iter().cloned().partition(TaskFuture::is_done)
}

/// Iterates over futures in the order in which they are settled.
///
/// # Examples
/// ```
/// use sprang::{Client, as_completed};
///
/// let client = Client::threads(2)?;
/// let futures = client.map(|x: u64| x * x, 1..=10_u64);
/// let mut total = 0;
/// for (_, square) in as_completed(futures).with_results() {
///     total += square?;
/// }
/// assert_eq!(total, 385);
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Complexity
/// O(1) for each future.
pub fn as_completed<T: Send + Sync + 'static>(futures: impl IntoIterator<Item = TaskFuture<T>>) -> AsCompleted<T> {
    let mut completed =
        AsCompleted { futures: VecDeque::new(), num_gone: 0, arrivals: Arc::default(), num_left: 0, num_tried: 0 };
    futures.into_iter().for_each(|future| completed.add(future));
    completed
}

/// An iterator over futures in the order in which they are settled; made by [`as_completed`].
///
/// `next` blocks; [`poll_next`](AsCompleted::poll_next) is for async code. With the feature
/// `stream` this is also a `Stream`.
#[must_use = "iterators are lazy: call `next` to wait for a future"]
pub struct AsCompleted<T> {
    /// The futures that were not returned yet; `None` for returned ones. Returned futures at the
    /// front are removed, so that a loop that adds one future for each returned one needs constant
    /// memory.
    futures: VecDeque<Option<TaskFuture<T>>>,
    /// The number of futures that were removed from the front.
    num_gone: usize,
    arrivals: Arc<Arrivals>,
    num_left: usize,
    /// The number of futures that the calling task has tried to run itself.
    num_tried: usize,
}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("num_left", &self.num_left).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> AsCompleted<T> {
    /// Adds a future.
    pub fn add(&mut self, future: TaskFuture<T>) {
        let index = self.num_gone + self.futures.len();
        let watcher: Arc<dyn Watcher> = Arc::<Arrivals>::clone(&self.arrivals);
        lose_if_forked(&future.promise());
        if let Err(Waiter::Watcher(watcher, index)) =
            future.promise().record().wait_with(Waiter::Watcher(watcher, index))
        {
            watcher.on_settled(index, future.status());
        }
        self.futures.push_back(Some(future));
        self.num_left += 1;
    }

    /// Cancels the futures that were not returned yet.
    pub(super) fn cancel_all(&self) {
        self.futures.iter().flatten().for_each(|future| _ = future.cancel());
    }

    /// The number of futures that were not returned yet.
    pub fn num_left(&self) -> usize {
        self.num_left
    }

    /// Whether the next call of `next` returns without blocking.
    pub fn has_ready(&self) -> bool {
        self.refresh();
        self.arrivals.has_any()
    }

    /// Waits for the next future, and returns all that are settled by then; empty if none are left.
    pub fn next_batch(&mut self) -> Vec<TaskFuture<T>> {
        let first = self.next();
        let more = self.arrivals.take_arrived().into_iter();
        let more: Vec<_> = more.map(|index| self.remove(index)).collect();
        first.into_iter().chain(more).collect()
    }

    /// Waits for the next future, for at most `timeout`.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<TaskFuture<T>> {
        self.next_until(deadline_after(timeout))
    }

    /// Returns the next future; if there is none yet, the waker of the context is called when there
    /// is one. `Ready(None)` if none are left.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<TaskFuture<T>>> {
        if self.num_left == 0 {
            return Poll::Ready(None);
        }
        if WorkerThread::current().is_some() {
            // A task that waits must give up its place, because the awaited task may need it. Only
            // this thread can do that.
            return Poll::Ready(self.next_until(None));
        }
        // In a worker process only the thread of the task can ask the parent, so it blocks here.
        nested::wait(|| self.arrivals.has_any(), None);
        self.reclaim();
        match self.arrivals.poll_next(context.waker()) {
            Some(index) => Poll::Ready(Some(self.remove(index))),
            None => Poll::Pending,
        }
    }

    /// Returns each future with its result.
    pub fn with_results(self) -> WithResults<T> {
        WithResults { completed: self }
    }

    fn next_until(&mut self, deadline: Option<std::time::Instant>) -> Option<TaskFuture<T>> {
        if self.num_left == 0 {
            return None;
        }
        if !self.arrivals.has_any() {
            if deadline.is_none() {
                self.try_to_run_one();
            }
            self.reclaim();
        }
        let index = self.arrivals.next(deadline)?;
        Some(self.remove(index))
    }

    /// In a worker process only the thread of a task can ask the parent. Another thread that waits
    /// runs the nested tasks here.
    fn reclaim(&self) {
        if !self.arrivals.has_any() && nested::must_reclaim() {
            nested::reclaim(&self.futures.iter().flatten().map(TaskFuture::promise).collect::<Vec<_>>());
        }
    }

    /// In a worker process, gets the states of nested tasks from the parent.
    fn refresh(&self) {
        let is_open = |future: &&TaskFuture<T>| !future.typed().record().is_settled();
        if !self.arrivals.has_any()
            && let Some(first) = self.futures.iter().flatten().find(is_open)
        {
            nested::poll(|| first.promise());
        }
    }

    /// A task that waits runs one of the tasks itself if it has not started.
    fn try_to_run_one(&mut self) {
        let Some(place) = WorkerThread::current() else { return };
        self.num_tried = self.num_tried.max(self.num_gone);
        while let Some(future) = self.futures.get(self.num_tried - self.num_gone) {
            self.num_tried += 1;
            if future.as_ref().is_some_and(|future| place.run_here(&future.promise())) {
                return;
            }
        }
    }

    fn remove(&mut self, index: usize) -> TaskFuture<T> {
        self.num_left -= 1;
        let future = self.futures[index - self.num_gone].take().expect("a future is settled once");
        while matches!(self.futures.front(), Some(None)) {
            self.futures.pop_front();
            self.num_gone += 1;
        }
        future
    }
}

impl<T: Send + Sync + 'static> Iterator for AsCompleted<T> {
    type Item = TaskFuture<T>;

    /// `None` also if the calling task was cancelled.
    fn next(&mut self) -> Option<TaskFuture<T>> {
        self.next_until(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.num_left))
    }
}

#[cfg(feature = "stream")]
impl<T: Send + Sync + 'static> futures_core::Stream for AsCompleted<T> {
    type Item = TaskFuture<T>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TaskFuture<T>>> {
        AsCompleted::poll_next(&mut self, context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.num_left, Some(self.num_left))
    }
}

#[cfg(feature = "stream")]
impl<T: Clone + Send + Sync + 'static> futures_core::Stream for WithResults<T> {
    type Item = (TaskFuture<T>, Result<T>);

    fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.completed.poll_next(context).map(|next| next.map(with_result))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.completed.num_left, Some(self.completed.num_left))
    }
}

/// An iterator over futures and their results in the order in which they are settled; made by
/// [`AsCompleted::with_results`].
#[must_use = "iterators are lazy: call `next` to wait for a future"]
#[derive(Debug)]
pub struct WithResults<T> {
    completed: AsCompleted<T>,
}

impl<T: Send + Sync + 'static> WithResults<T> {
    /// Adds a future.
    pub fn add(&mut self, future: TaskFuture<T>) {
        self.completed.add(future);
    }

    /// The number of futures that were not returned yet.
    pub fn num_left(&self) -> usize {
        self.completed.num_left()
    }

    /// Whether the next call of `next` returns without blocking.
    pub fn has_ready(&self) -> bool {
        self.completed.has_ready()
    }
}

impl<T: Clone + Send + Sync + 'static> WithResults<T> {
    /// Waits for the next future, and returns all that are settled by then; empty if none are left.
    pub fn next_batch(&mut self) -> Vec<(TaskFuture<T>, Result<T>)> {
        self.completed.next_batch().into_iter().map(with_result).collect()
    }

    /// Waits for the next future, for at most `timeout`.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<(TaskFuture<T>, Result<T>)> {
        self.completed.next_timeout(timeout).map(with_result)
    }
}

fn with_result<T: Clone + Send + Sync + 'static>(future: TaskFuture<T>) -> (TaskFuture<T>, Result<T>) {
    let result = future.result();
    (future, result)
}

impl<T: Clone + Send + Sync + 'static> Iterator for WithResults<T> {
    type Item = (TaskFuture<T>, Result<T>);

    fn next(&mut self) -> Option<Self::Item> {
        self.completed.next().map(with_result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.completed.size_hint()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::as_completed;
    use crate::{Client, Result};

    #[test]
    fn adding_a_future_for_each_returned_one_needs_constant_memory() -> Result<()> {
        let client = Client::threads(2)?;
        let square = |x: u64| x * x;
        let mut waiting = 8..1_000_u64;
        let mut running = as_completed(client.map(square, 0..8_u64));
        let mut sum = 0;
        while let Some(future) = running.next() {
            sum += future.result()?;
            waiting.next().into_iter().for_each(|x| running.add(client.submit(square, (x,))));
            assert!(!matches!(running.futures.front(), Some(None)), "returned futures are removed from the front");
        }
        assert_eq!((sum, running.num_gone, running.futures.len()), (332_833_500, 1_000, 0));
        Ok(())
    }
}
