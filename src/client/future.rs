//! Futures: the handles of submitted tasks.

use super::cluster::WorkerThread;
use super::future_node::promise_of;
use super::nested;
use super::promise::{AnyPromise, Outcome, Promise, Status, Waiter, settle};
use super::spin::deadline_after;
use super::wait::{self, WaitFor};
use crate::api::collection::{Collection, HandleList, Leaf, Parts};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Delayed;
use crate::graph::argument::{Argument, AsDeref, AsOption, AsResult, Cursor, Handle, Ownable};
use crate::graph::node::TaskRef;
use crate::portable::codec::{CodecError, Decoder, Encoder};
use std::fmt;
use std::future::{Future, IntoFuture};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A submitted task and its result.
///
/// A [`Client`](super::Client) makes futures. A future is cheap to clone. When its last clone is
/// dropped and no submitted task needs the value, the value is dropped, and the task does not start
/// if it has not started yet.
///
/// - To wait: [`result`](TaskFuture::result), [`result_ref`](TaskFuture::result_ref), `.await` in
///   any async runtime; for several futures [`wait`](super::wait()) and
///   [`as_completed`](super::as_completed). While a task waits, its worker runs other tasks.
/// - As an argument: `&future` passes a reference to a task, `future` a clone, `&futures` a list of
///   references, as for handles of [`delayed`](crate::delayed). A submitted task starts when its
///   arguments are available.
/// - As an output: [`compute`](crate::compute()) takes futures, and tasks of
///   [`delayed`](crate::delayed) that use a future wait for it.
///
/// # Examples
/// ```
/// use sprang::{Client, Status};
///
/// let client = Client::threads(2)?;
/// let x = client.submit(|| 20, ());
/// let y = client.submit(|x: &i32| x + 1, (&x,));
/// assert_eq!(client.submit(|x: i32, y: &i32| x + y, (x, &y)).result()?, 41);
/// assert_eq!(y.status(), Status::Finished);
/// # Ok::<_, sprang::Error>(())
/// ```
#[must_use = "a task whose future is dropped is not run; keep it, or call `detach`"]
pub struct TaskFuture<T> {
    handle: Delayed<T>,
    promise: Arc<Promise<T>>,
}

impl<T> Clone for TaskFuture<T> {
    fn clone(&self) -> Self {
        TaskFuture { handle: self.handle.clone(), promise: Arc::clone(&self.promise) }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for TaskFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskFuture").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> TaskFuture<T> {
    pub(super) fn new(handle: Delayed<T>, promise: Arc<Promise<T>>) -> Self {
        TaskFuture { handle, promise }
    }

    pub(super) fn promise(&self) -> Arc<dyn AnyPromise> {
        Arc::<Promise<T>>::clone(&self.promise)
    }

    pub(super) fn typed(&self) -> &Arc<Promise<T>> {
        &self.promise
    }

    /// In a worker process, gets the state of a nested task from the parent.
    fn refresh(&self) {
        if !self.promise.record().is_settled() {
            nested::poll(|| self.promise());
        }
    }

    /// The state of the task.
    pub fn status(&self) -> Status {
        self.refresh();
        self.promise.record().status()
    }

    /// Whether the task is settled: finished, failed, cancelled or lost.
    pub fn is_done(&self) -> bool {
        self.refresh();
        self.promise.record().is_settled()
    }

    /// A number that identifies the future and its clones among all futures of this process, for
    /// example as a key of a map.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Client, as_completed};
    /// use std::collections::HashMap;
    ///
    /// let client = Client::threads(2)?;
    /// let lens = client.map(|word: &str| word.len(), ["one", "three"]);
    /// let words: HashMap<_, _> = lens.iter().map(|len| len.id()).zip(["one", "three"]).collect();
    /// for len in as_completed(lens) {
    ///     assert_eq!(words[&len.id()].len(), len.result()?);
    /// }
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn id(&self) -> u64 {
        self.promise.record().identity()
    }

    /// The name of the task, or of its function if the task has no name; `"value"` for a
    /// [scattered](super::Client::scatter) value.
    pub fn name(&self) -> Arc<str> {
        self.promise.record().name()
    }

    /// Waits for the value and clones it.
    ///
    /// If tasks of the same function are known to be short and the task has not started, this
    /// thread may run it.
    ///
    /// # Errors
    /// The error of the task or of one that it needed; [`Cancelled`](ErrorKind::Cancelled),
    /// [`Closed`](ErrorKind::Closed).
    pub fn result(&self) -> Result<T>
    where
        T: Clone,
    {
        self.result_ref().cloned()
    }

    /// Waits for the value and borrows it.
    ///
    /// # Errors
    /// As [`result`](TaskFuture::result).
    pub fn result_ref(&self) -> Result<&T> {
        self.promise.wait()
    }

    /// As [`result`](TaskFuture::result), or `None` if the task is not settled within `timeout`.
    /// The task continues.
    pub fn result_timeout(&self, timeout: Duration) -> Option<Result<T>>
    where
        T: Clone,
    {
        self.wait_timeout(timeout).then(|| self.promise.outcome().cloned())
    }

    /// Waits until the task is settled; false if it is not settled within `timeout`.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_done() || wait::settled(&[self.promise()], WaitFor::All, deadline_after(timeout))
    }

    /// Waits, and returns the error; `None` if the task has a value.
    pub fn error(&self) -> Option<Error> {
        self.result_ref().err()
    }

    /// Cancels the task, and the tasks that need it. False if it was settled before.
    ///
    /// A waiting task does not start. A running task can check its [token](crate::CancelToken); in
    /// a worker process it is killed after `processes.cancel_grace`.
    pub fn cancel(&self) -> bool {
        let error = Error::new(ErrorKind::Cancelled, "it was cancelled").with_task(self.name(), 0);
        settle(&self.promise(), Outcome::Cancelled(error))
    }

    /// Cancels the task when the guard is dropped, as when the request that waits for it is given
    /// up. Otherwise a task that has started runs to its end.
    ///
    /// The guard can be awaited and used as the future. [`keep`](CancelOnDrop::keep) takes the
    /// future out.
    ///
    /// # Examples
    /// ```
    /// use sprang::{CancelToken, Client, Status};
    ///
    /// let client = Client::threads(1)?;
    /// let search = || while !CancelToken::current().is_cancelled() { std::thread::yield_now() };
    /// let guard = client.submit(search, ()).cancel_on_drop();
    /// let future = guard.clone(); // of the future, not of the guard
    /// drop(guard);
    /// assert_eq!(future.status(), Status::Cancelled);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop(Some(self))
    }

    /// Retries a failed, cancelled or lost task, and its inputs in these states. False in any other
    /// state.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), [`Full`](ErrorKind::Full).
    pub fn retry(&self) -> Result<bool> {
        super::submit::retry(&self.promise())
    }

    /// Drops the future, and lets the task run anyway.
    pub fn detach(self) {
        self.promise.record().detach();
    }

    /// Calls a function when the task is settled; at once, if it is settled already.
    ///
    /// The call happens on the thread that settles the task. This thread may serve a worker
    /// process, so the function must not block, least of all for other futures. Tasks that it
    /// submits are accepted even if the cluster is full. A panic in it affects nothing else.
    pub fn on_done(&self, callback: impl FnOnce(&TaskFuture<T>) + Send + 'static) {
        let future = self.clone();
        let call: Box<dyn FnOnce() + Send> = Box::new(move || callback(&future));
        if let Err(Waiter::Callback(call)) = self.promise.record().wait_with(Waiter::Callback(call)) {
            crate::engine::quietly(call);
        }
    }

    /// The number of the worker that runs or has run the task.
    pub fn worker(&self) -> Option<u32> {
        self.promise.record().worker()
    }

    /// The size in bytes of the encoded value, as it came from another process; `None` if the value
    /// is not kept encoded.
    pub fn num_encoded_bytes(&self) -> Option<usize> {
        self.promise.encoded().map(|encoded| encoded.num_bytes())
    }

    /// Returns a handle for graphs. A task that uses it waits for the value. [`Delayed::compute`]
    /// of the handle fails, because the value need not be `Clone`; use the function
    /// [`compute`](crate::compute()) with the future.
    pub fn as_delayed(&self) -> Delayed<T> {
        self.handle.clone()
    }

    /// Lends to a task what the value dereferences to, such as `&[f64]` for a `Vec<f64>`; see
    /// [`Delayed::as_deref`].
    pub fn as_deref(&self) -> AsDeref<Delayed<T>>
    where
        T: Deref,
    {
        self.handle.as_deref()
    }

    /// Passes the outcome to a task, which gets `Result<&T, &Error>`; see
    /// [`Delayed::as_result`]. A future that was cancelled or lost gives its error, too.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Client, Error};
    ///
    /// let client = Client::threads(2)?;
    /// let port = client.try_submit(|text: &str| text.parse::<u16>(), ("http",));
    /// let text = |port: Result<&u16, &Error>| port.map_or(0, |port| *port);
    /// assert_eq!(client.submit(text, (port.as_result(),)).result()?, 0);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn as_result(&self) -> AsResult<T> {
        self.handle.as_result()
    }

    /// As [`as_result`](TaskFuture::as_result), without the error: the task gets `Option<&T>`.
    pub fn as_option(&self) -> AsOption<T> {
        self.handle.as_option()
    }
}

impl<T: Clone + Send + Sync + 'static> Future for TaskFuture<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if !self.promise.record().is_settled() {
            if WorkerThread::current().is_some() {
                // A task that waits must give up its place, because the awaited task may need it.
                // Only this thread can do that.
                return Poll::Ready(self.promise.wait().cloned());
            }
            // In a worker process only the thread of the task can ask the parent, so it blocks
            // here.
            self.refresh();
            nested::wait(|| self.promise.record().is_settled(), None);
        }
        match self.promise.record().wake_with(context.waker()) {
            true => Poll::Pending,
            false => Poll::Ready(self.promise.outcome().cloned()),
        }
    }
}

/// A future whose task is cancelled when this guard is dropped; made by
/// [`TaskFuture::cancel_on_drop`].
#[must_use = "dropping this guard cancels the task: bind it, `let guard = ..`"]
pub struct CancelOnDrop<T: Send + Sync + 'static>(Option<TaskFuture<T>>);

impl<T: Send + Sync + 'static> CancelOnDrop<T> {
    /// Takes the future out: the task is not cancelled.
    pub fn keep(mut self) -> TaskFuture<T> {
        self.0.take().expect("only `keep` and `drop` take the future")
    }
}

impl<T: Send + Sync + 'static> Deref for CancelOnDrop<T> {
    type Target = TaskFuture<T>;

    fn deref(&self) -> &TaskFuture<T> {
        self.0.as_ref().expect("only `keep` and `drop` take the future")
    }
}

impl<T: Send + Sync + 'static> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        if let Some(future) = self.0.take() {
            future.cancel();
        }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for CancelOnDrop<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelOnDrop").field(&self.0).finish()
    }
}

impl<T: Clone + Send + Sync + 'static> Future for CancelOnDrop<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let future = self.0.as_mut().expect("only `keep` and `drop` take the future");
        Pin::new(future).poll(context)
    }
}

impl<T: Clone + Send + Sync + 'static> IntoFuture for &TaskFuture<T> {
    type Output = Result<T>;
    type IntoFuture = TaskFuture<T>;

    fn into_future(self) -> TaskFuture<T> {
        self.clone()
    }
}

#[diagnostic::do_not_recommend]
impl<T: Send + Sync + 'static, F: Leaf<T>> Collection<F> for TaskFuture<T> {
    type Shape = F::Of;

    fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
        handles.add(&self.handle);
    }

    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<F::Of> {
        F::take(parts, &self.handle)
    }
}

impl<T: Send + Sync + 'static> Handle for TaskFuture<T> {
    type Value = T;

    fn to_delayed(&self) -> Delayed<T> {
        self.handle.clone()
    }
}

/// A future is an argument in the same way as its handle.
macro_rules! argument_like {
    ($([$($generics:tt)*] $argument:ty, $as:ty, $convert:expr;)*) => {$(
        // SAFETY: all functions are those of `$as`, on the same `Stored`, so the contract that
        // `$as` keeps holds here.
        #[expect(unsafe_code, reason = "a future is an argument as its handle is")]
        unsafe impl<$($generics)*> Argument for $argument {
            type Out<'a> = <$as as Argument>::Out<'a>;
            type Stored = <$as as Argument>::Stored;

            fn store(self) -> Self::Stored {
                let convert: fn(Self) -> Self::Stored = $convert;
                convert(self)
            }

            fn visit(stored: &Self::Stored, inputs: &mut Vec<TaskRef>) {
                <$as as Argument>::visit(stored, inputs);
            }

            unsafe fn fetch<'a>(stored: &'a Self::Stored, cursor: &mut Cursor<'a>) -> Self::Out<'a> {
                // SAFETY: the contract of this function is that of `$as`, word for word.
                unsafe { <$as as Argument>::fetch(stored, cursor) }
            }

            unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>) {
                // SAFETY: the contract of this function is that of `$as`, word for word.
                unsafe { <$as as Argument>::release(stored, cursor) }
            }

            fn write(stored: &Self::Stored, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
                <$as as Argument>::write(stored, encoder)
            }

            fn read(decoder: &mut Decoder<'_>) -> Result<Self::Stored, CodecError> {
                <$as as Argument>::read(decoder)
            }
        }
    )*};
}
argument_like! {
    [T: Send + Sync + 'static] &TaskFuture<T>, &'static Delayed<T>, |future| future.handle.clone();
    [T: Ownable] TaskFuture<T>, Delayed<T>, |future| future.handle;
    [T: Send + Sync + 'static] &Vec<TaskFuture<T>>, &'static Vec<Delayed<T>>, |futures| handles(futures);
    [T: Send + Sync + 'static] &[TaskFuture<T>], &'static [Delayed<T>], |futures| handles(futures);
    [T: Send + Sync + 'static, const N: usize] &[TaskFuture<T>; N], &'static [Delayed<T>; N], |futures| handles(futures);
    [T: Send + Sync + 'static] &Vec<&TaskFuture<T>>, &'static Vec<Delayed<T>>, |futures| handles(futures.iter().copied());
    [T: Send + Sync + 'static] &[&TaskFuture<T>], &'static [Delayed<T>], |futures| handles(futures.iter().copied());
    [T: Send + Sync + 'static, const N: usize] &[&TaskFuture<T>; N], &'static [Delayed<T>; N],
        |futures| handles(futures.iter().copied());
}

fn handles<'f, T: 'f>(futures: impl IntoIterator<Item = &'f TaskFuture<T>>) -> Box<[Delayed<T>]> {
    futures.into_iter().map(|future| future.handle.clone()).collect()
}

/// The promises of outputs that are futures and not settled.
pub(super) fn unsettled(tasks: &[TaskRef]) -> Vec<Arc<dyn AnyPromise>> {
    let is_unsettled = |task: &&TaskRef| task.awaited().is_some_and(|awaited| !awaited.is_settled());
    tasks.iter().filter(is_unsettled).filter_map(|&task| promise_of(task)).collect()
}

/// The first error among outputs that are futures.
pub(super) fn first_error(tasks: &[TaskRef]) -> Option<Error> {
    tasks.iter().filter_map(|&task| promise_of(task)).find_map(|promise| promise.record().error())
}
