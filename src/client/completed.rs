//! Several futures: waiting for them, and taking them as they come.

use super::cluster::WorkerThread;
use super::future::TaskFuture;
use super::nested;
use super::promise::{Waiter, Watcher};
use super::spin::deadline_after;
use super::wait::{self, Arrivals, WaitFor};
use crate::error::Result;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Waits for futures: until all have come to an end, or one has, or one has failed. Returns those that have and those that have not, each in
/// their order.
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

/// As [`wait`](fn@wait), for no longer than this.
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

/// Iterates over futures in the order in which they come to an end.
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

/// Futures in the order in which they come to an end; made by [`as_completed`].
///
/// An iterator, which waits; [`poll_next`](AsCompleted::poll_next) is for async code. With the feature `stream` it is a `Stream` as well.
#[must_use = "iterators are lazy: it waits when it is asked for the next"]
pub struct AsCompleted<T> {
    /// Those that were not given out. What is before the first of them is gone, so that a loop that adds one for each that comes does not
    /// use more and more memory.
    futures: VecDeque<Option<TaskFuture<T>>>,
    /// The number of the first.
    num_gone: usize,
    arrivals: Arc<Arrivals>,
    num_left: usize,
    /// How many a task that waits has tried to run itself.
    num_tried: usize,
}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("num_left", &self.num_left).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> AsCompleted<T> {
    /// Waits for one more.
    pub fn add(&mut self, future: TaskFuture<T>) {
        let index = self.num_gone + self.futures.len();
        let watcher: Arc<dyn Watcher> = Arc::<Arrivals>::clone(&self.arrivals);
        if let Err(Waiter::Watcher(watcher, index)) =
            future.promise().record().wait_with(Waiter::Watcher(watcher, index))
        {
            watcher.on_settled(index, future.status());
        }
        self.futures.push_back(Some(future));
        self.num_left += 1;
    }

    /// How many were not given out.
    pub fn num_left(&self) -> usize {
        self.num_left
    }

    /// Whether the next is there, so that it need not be waited for.
    pub fn has_ready(&self) -> bool {
        self.look();
        self.arrivals.has_any()
    }

    /// Waits for the next, and gives it with all that have come to an end by then; empty if there are no more.
    pub fn next_batch(&mut self) -> Vec<TaskFuture<T>> {
        let first = self.next();
        let more = self.arrivals.take_arrived().into_iter();
        let more: Vec<_> = more.map(|index| self.give_out(index)).collect();
        first.into_iter().chain(more).collect()
    }

    /// Waits for the next, but for no longer than this.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<TaskFuture<T>> {
        self.next_until(deadline_after(timeout))
    }

    /// The next, or the waker of the context is called when it is there; `Ready(None)` if there are no more.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<TaskFuture<T>>> {
        if self.num_left == 0 {
            return Poll::Ready(None);
        }
        if WorkerThread::current().is_some() {
            // A task that waits has to give its place away, as it may hold up what it waits for; that cannot be done from afar.
            return Poll::Ready(self.next_until(None));
        }
        // In a task in a worker process nobody else asks, so there it is waited for at once.
        nested::wait(|| self.arrivals.has_any(), None);
        self.reclaim();
        match self.arrivals.poll_next(context.waker()) {
            Some(index) => Poll::Ready(Some(self.give_out(index))),
            None => Poll::Pending,
        }
    }

    /// The results with the futures.
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
        Some(self.give_out(index))
    }

    /// In a worker process only the thread of a task asks the parent; others have what they wait for run here.
    fn reclaim(&self) {
        if !self.arrivals.has_any() && nested::must_reclaim() {
            nested::reclaim(&self.futures.iter().flatten().map(TaskFuture::promise).collect::<Vec<_>>());
        }
    }

    /// In a worker process what has become of them is with the parent.
    fn look(&self) {
        let is_open = |future: &&TaskFuture<T>| !future.typed().record().is_settled();
        if !self.arrivals.has_any()
            && let Some(first) = self.futures.iter().flatten().find(is_open)
        {
            nested::look(|| first.promise());
        }
    }

    /// A task that waits runs one itself that nobody has begun.
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

    fn give_out(&mut self, index: usize) -> TaskFuture<T> {
        self.num_left -= 1;
        let future = self.futures[index - self.num_gone].take().expect("a future comes to an end once");
        while matches!(self.futures.front(), Some(None)) {
            self.futures.pop_front();
            self.num_gone += 1;
        }
        future
    }
}

impl<T: Send + Sync + 'static> Iterator for AsCompleted<T> {
    type Item = TaskFuture<T>;

    /// `None` also if the task that waits was cancelled.
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

/// Futures with their results, in the order in which they come to an end; made by [`AsCompleted::with_results`].
#[must_use = "iterators are lazy: it waits when it is asked for the next"]
#[derive(Debug)]
pub struct WithResults<T> {
    completed: AsCompleted<T>,
}

impl<T: Send + Sync + 'static> WithResults<T> {
    /// Waits for one more.
    pub fn add(&mut self, future: TaskFuture<T>) {
        self.completed.add(future);
    }

    /// How many were not given out.
    pub fn num_left(&self) -> usize {
        self.completed.num_left()
    }

    /// Whether the next is there, so that it need not be waited for.
    pub fn has_ready(&self) -> bool {
        self.completed.has_ready()
    }
}

impl<T: Clone + Send + Sync + 'static> WithResults<T> {
    /// Waits for the next, and gives it with all that have come to an end by then; empty if there are no more.
    pub fn next_batch(&mut self) -> Vec<(TaskFuture<T>, Result<T>)> {
        self.completed.next_batch().into_iter().map(with_result).collect()
    }

    /// Waits for the next, but for no longer than this.
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
    fn one_more_for_each_that_comes_needs_no_more_room() -> Result<()> {
        let client = Client::threads(2)?;
        let square = |x: u64| x * x;
        let mut waiting = 8..1_000_u64;
        let mut running = as_completed(client.map(square, 0..8_u64));
        let mut sum = 0;
        while let Some(future) = running.next() {
            sum += future.result()?;
            waiting.next().into_iter().for_each(|x| running.add(client.submit(square, (x,))));
            assert!(!matches!(running.futures.front(), Some(None)), "the first was not given out");
        }
        assert_eq!((sum, running.num_gone, running.futures.len()), (332_833_500, 1_000, 0));
        Ok(())
    }
}
