//! The handle that a program holds to a result that is going to be there.

use super::cluster::WorkerThread;
use super::nested;
use super::promise::{AnyPromise, Outcome, Promise, Status, Waiter, promise_of, settle};
use super::spin::deadline_after;
use super::wait::{self, WaitFor};
use crate::api::collection::{Collection, HandleList, Leaf, Parts};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Delayed;
use crate::graph::argument::{Argument, Cursor, Owned};
use crate::graph::node::TaskRef;
use crate::portable::codec::{CodecError, Decoder, Encoder};
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A task that has been handed in, and its result when that is there.
///
/// Made by a [`Client`](super::Client). It is cheap to clone. When the last handle is dropped, and no task needs it that was submitted, the value is
/// forgotten; a task that nobody wants any more is not started.
///
/// - To wait: [`result`](TaskFuture::result), [`result_ref`](TaskFuture::result_ref), `.await` in any async runtime,
///   [`wait`](super::wait()) and [`as_completed`](super::as_completed) for several. A task that waits does not keep its worker from working.
/// - As an argument: `&future` lends the value to a task, `future` gives it a clone, `&futures` lends a list, as handles of
///   [`delayed`](crate::delayed) do. A task that is submitted starts when its arguments are there.
/// - As an output: [`compute`](crate::compute()) takes it, and tasks of [`delayed`](crate::delayed) that use it wait for it.
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

    /// In a worker process what has become of it is with the parent.
    fn look(&self) {
        if !self.promise.record().is_settled() {
            nested::look(|| self.promise());
        }
    }

    /// How far it has got.
    pub fn status(&self) -> Status {
        self.look();
        self.promise.record().status()
    }

    /// Whether it has come to an end, of whatever kind.
    pub fn is_done(&self) -> bool {
        self.look();
        self.promise.record().is_settled()
    }

    /// A number that its clones have too, and no other future of this process ever has: to find again what it was for.
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

    /// What the task is called: the name that it was given, or that of its function; `"value"` if there was no task.
    pub fn name(&self) -> Arc<str> {
        self.promise.record().name()
    }

    /// Waits for the value and clones it.
    ///
    /// Where tasks of its function are known to be short, this thread may run the task itself, if nobody has begun it.
    ///
    /// # Errors
    /// What the task failed of, or one that it needed; [`Cancelled`](ErrorKind::Cancelled), [`Closed`](ErrorKind::Closed).
    pub fn result(&self) -> Result<T>
    where
        T: Clone,
    {
        self.result_ref().cloned()
    }

    /// Waits for the value and lends it.
    ///
    /// # Errors
    /// As [`result`](TaskFuture::result).
    pub fn result_ref(&self) -> Result<&T> {
        self.promise.wait()
    }

    /// As [`result`](TaskFuture::result), or `None` if it is not there after this time. The task goes on.
    pub fn result_timeout(&self, timeout: Duration) -> Option<Result<T>>
    where
        T: Clone,
    {
        self.wait_timeout(timeout).then(|| self.promise.outcome().cloned())
    }

    /// Waits until it has come to an end; false if that is not so after this time.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_done() || wait::settled(&[self.promise()], WaitFor::All, deadline_after(timeout))
    }

    /// Waits, and says why there is no value; `None` if there is one.
    pub fn error(&self) -> Option<Error> {
        self.result_ref().err()
    }

    /// Ends it: a task that waits is not started, one that runs is told by its [token](crate::CancelToken); in another process it is killed
    /// after `processes.cancel_grace`. Tasks that need it are cancelled too. False if it had come to an end before.
    pub fn cancel(&self) -> bool {
        let error = Error::new(ErrorKind::Cancelled, "it was cancelled").with_task(self.name(), 0);
        settle(&self.promise(), Outcome::Cancelled(error))
    }

    /// Tries a task again that has failed, was cancelled or lost, and those that it needs, if they have failed too. False if it was
    /// none of these.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), [`Full`](ErrorKind::Full).
    pub fn retry(&self) -> Result<bool> {
        super::submit::retry(&self.promise())
    }

    /// Lets the task run although nobody waits for it.
    pub fn detach(self) {
        self.promise.record().detach();
    }

    /// Calls something when it has come to an end; at once, if it has. It is called on the thread that brings it to its end, which may be the one
    /// that a worker process is served by: so it must not wait, for other futures least of all. What it hands in is taken even where the
    /// cluster is full. A panic in it goes no further.
    pub fn on_done(&self, callback: impl FnOnce(&TaskFuture<T>) + Send + 'static) {
        let future = self.clone();
        let call: Box<dyn FnOnce() + Send> = Box::new(move || callback(&future));
        if let Err(Waiter::Callback(call)) = self.promise.record().wait_with(Waiter::Callback(call)) {
            crate::engine::quietly(call);
        }
    }

    /// The number of the worker that runs it, or has run it.
    pub fn worker(&self) -> Option<u32> {
        self.promise.record().worker()
    }

    /// How many bytes its value takes up that is kept as it came from another process; `None` if it is not.
    pub fn num_encoded_bytes(&self) -> Option<usize> {
        self.promise.num_encoded_bytes()
    }

    /// A handle for graphs. What is computed with it waits for the value. It cannot be computed itself, as the value need not be `Clone`;
    /// [`compute`](crate::compute()) takes the future.
    pub fn as_delayed(&self) -> Delayed<T> {
        self.handle.clone()
    }
}

impl<T: Clone + Send + Sync + 'static> Future for TaskFuture<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if !self.promise.record().is_settled() {
            if WorkerThread::current().is_some() {
                // A task that waits has to give its place away, as it may hold up what it waits for; that cannot be done from afar.
                return Poll::Ready(self.promise.wait().cloned());
            }
            // In a task in a worker process nobody else asks, so there it is waited for at once.
            self.look();
            nested::wait(|| self.promise.record().is_settled(), None);
        }
        match self.promise.record().wake_with(context.waker()) {
            true => Poll::Pending,
            false => Poll::Ready(self.promise.outcome().cloned()),
        }
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

/// Futures are arguments as the handles are that they have.
macro_rules! argument_like {
    ($([$($bound:tt)*] $argument:ty, $as:ty, $convert:expr;)*) => {$(
        // SAFETY: all is that of the other argument.
        #[expect(unsafe_code, reason = "a future is an argument as its handle is")]
        unsafe impl<T: $($bound)* Send + Sync + 'static> Argument for $argument {
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
                // SAFETY: the caller's contract.
                unsafe { <$as as Argument>::fetch(stored, cursor) }
            }

            unsafe fn release(stored: &Self::Stored, cursor: &mut Cursor<'_>) {
                // SAFETY: the caller's contract.
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
    [] &TaskFuture<T>, &'static Delayed<T>, |future| future.handle.clone();
    [Owned +] TaskFuture<T>, Delayed<T>, |future| future.handle;
    [] &Vec<TaskFuture<T>>, &'static Vec<Delayed<T>>, |futures| handles(futures);
    [] &[TaskFuture<T>], &'static [Delayed<T>], |futures| handles(futures);
}

fn handles<T>(futures: &[TaskFuture<T>]) -> Box<[Delayed<T>]> {
    futures.iter().map(|future| future.handle.clone()).collect()
}

/// The promises behind outputs that are futures and not settled.
pub(super) fn unsettled(tasks: &[TaskRef]) -> Vec<Arc<dyn AnyPromise>> {
    let is_unsettled = |task: &&TaskRef| task.awaited().is_some_and(|awaited| !awaited.is_settled());
    tasks.iter().filter(is_unsettled).filter_map(|&task| promise_of(task)).collect()
}

/// The first error of the outputs that are futures.
pub(super) fn first_error(tasks: &[TaskRef]) -> Option<Error> {
    tasks.iter().filter_map(|&task| promise_of(task)).find_map(|promise| promise.record().error())
}
