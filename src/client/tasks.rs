//! Options for one submitted task, or for many.

use super::{Client, TaskFuture};
use crate::api::delayed::{CapturesNothing, task};
use crate::api::reduce::merge_in_pairs;
use crate::error::{Error, Result};
use crate::graph::Delayed;
use crate::graph::node::Options;
use crate::graph::retry::{Backoff, RetryIf};
use crate::graph::task::{Fallible, LocalFallible, LocalPlain, Plain, TaskArgs, TaskError};
use crate::portable::Portable;
use std::sync::Arc;
use std::time::Duration;

/// Submits tasks with options; made by [`Client::tasks`].
///
/// # Examples
/// ```
/// use sprang::Client;
/// use std::time::Duration;
///
/// fn load(path: &str) -> std::io::Result<String> {
///     std::fs::read_to_string(path)
/// }
///
/// let client = Client::threads(2)?;
/// let options = client.tasks().retries(2).timeout(Duration::from_secs(60));
/// let texts = options.try_map(load, ["Cargo.toml", "README.md"]);
/// let lens = client.tasks().priority(1).map(|text: &String| text.len(), &texts);
/// assert!(client.gather(&lens)?.iter().all(|&len| len > 0));
/// # Ok::<_, sprang::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options alone run nothing: end with `submit` or `map`"]
pub struct Tasks<'c> {
    client: &'c Client,
    options: Option<Options>,
    is_pure: bool,
}

impl<'c> Tasks<'c> {
    pub(super) fn new(client: &'c Client) -> Self {
        Tasks { client, options: None, is_pure: false }
    }

    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(self.options.get_or_insert_default());
        self
    }

    /// Names the tasks, in errors, progress and profiles. All get the same name.
    pub fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.with(|options| options.name = Some(name.into()))
    }

    /// See [`Delayed::retries`].
    pub fn retries(self, retries: u32) -> Self {
        self.with(|options| options.retries = Some(retries))
    }

    /// See [`Delayed::retry_if`]. A task in a worker process runs the tasks that it submits with a
    /// condition in its own process.
    pub fn retry_if(self, condition: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        let condition = RetryIf(Arc::new(condition));
        self.with(|options| options.retry_if = Some(condition))
    }

    /// See [`Delayed::retry_delay`].
    pub fn retry_delay(self, delay: impl Into<Backoff>) -> Self {
        let delay = delay.into();
        self.with(|options| options.backoff = Some(delay))
    }

    /// See [`Delayed::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.timeout = Some(timeout))
    }

    /// See [`Delayed::priority`].
    pub fn priority(self, priority: i32) -> Self {
        self.with(|options| options.priority = priority)
    }

    /// Starts the tasks only after `other` has finished; no value is passed. If `other` fails, they
    /// fail too.
    pub fn after<U: Send + Sync + 'static>(self, other: &TaskFuture<U>) -> Self {
        self.with(|options| options.after.push(other.as_delayed().task_ref().to_task()))
    }

    /// See [`Delayed::resource`].
    pub fn resource(self, name: &str, amount: f64) -> Self {
        self.with(|options| options.take(name, amount))
    }

    /// See [`Delayed::workers`].
    pub fn workers<N: AsRef<str>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.with(|options| options.workers.extend(names.into_iter().map(|name| name.as_ref().into())))
    }

    /// See [`Client::submit_pure`].
    pub fn pure(mut self) -> Self {
        self.is_pure = true;
        self
    }

    /// See [`Client::submit`].
    pub fn submit<F, R, A>(&self, function: F, args: A) -> TaskFuture<R>
    where
        R: Portable,
        A: TaskArgs<F, R>,
    {
        const { CapturesNothing::<F>::CHECK };
        self.client.submit_portable(self.apply(task::<Plain, F, R, A, true>(function, args)))
    }

    /// See [`Client::try_submit`].
    pub fn try_submit<F, T, E, A>(&self, function: F, args: A) -> TaskFuture<T>
    where
        T: Portable,
        E: TaskError,
        A: TaskArgs<F, Result<T, E>>,
    {
        const { CapturesNothing::<F>::CHECK };
        self.client.submit_portable(self.apply(task::<Fallible, F, Result<T, E>, A, true>(function, args)))
    }

    /// See [`Client::submit_local`].
    pub fn submit_local<F, R, A>(&self, function: F, args: A) -> TaskFuture<R>
    where
        R: Send + Sync + 'static,
        A: TaskArgs<F, R>,
    {
        self.client.compute_one(&self.apply(task::<LocalPlain, F, R, A, true>(function, args)))
    }

    /// See [`Client::try_submit_local`].
    pub fn try_submit_local<F, T, E, A>(&self, function: F, args: A) -> TaskFuture<T>
    where
        T: Send + Sync + 'static,
        E: TaskError,
        A: TaskArgs<F, Result<T, E>>,
    {
        self.client.compute_one(&self.apply(task::<LocalFallible, F, Result<T, E>, A, true>(function, args)))
    }

    /// See [`Client::map`].
    pub fn map<F, R, I>(&self, function: F, items: I) -> Vec<TaskFuture<R>>
    where
        F: Clone,
        R: Portable,
        I: IntoIterator,
        (I::Item,): TaskArgs<F, R>,
    {
        const { CapturesNothing::<F>::CHECK };
        self.map_zipped(function, items.into_iter().map(|item| (item,)))
    }

    /// See [`Client::try_map`].
    pub fn try_map<F, T, E, I>(&self, function: F, items: I) -> Vec<TaskFuture<T>>
    where
        F: Clone,
        T: Portable,
        E: TaskError,
        I: IntoIterator,
        (I::Item,): TaskArgs<F, Result<T, E>>,
    {
        const { CapturesNothing::<F>::CHECK };
        items.into_iter().map(|item| self.try_submit(function.clone(), (item,))).collect()
    }

    /// See [`Client::map_local`].
    pub fn map_local<F, R, I>(&self, function: F, items: I) -> Vec<TaskFuture<R>>
    where
        F: Clone,
        R: Send + Sync + 'static,
        I: IntoIterator,
        (I::Item,): TaskArgs<F, R>,
    {
        items.into_iter().map(|item| self.submit_local(function.clone(), (item,))).collect()
    }

    /// See [`Client::try_map_local`].
    pub fn try_map_local<F, T, E, I>(&self, function: F, items: I) -> Vec<TaskFuture<T>>
    where
        F: Clone,
        T: Send + Sync + 'static,
        E: TaskError,
        I: IntoIterator,
        (I::Item,): TaskArgs<F, Result<T, E>>,
    {
        items.into_iter().map(|item| self.try_submit_local(function.clone(), (item,))).collect()
    }

    /// See [`Client::try_map_zipped`].
    pub fn try_map_zipped<F, T, E, I>(&self, function: F, args: I) -> Vec<TaskFuture<T>>
    where
        F: Clone,
        T: Portable,
        E: TaskError,
        I: IntoIterator,
        I::Item: TaskArgs<F, Result<T, E>>,
    {
        const { CapturesNothing::<F>::CHECK };
        args.into_iter().map(|args| self.try_submit(function.clone(), args)).collect()
    }

    /// See [`Client::map_zipped`].
    pub fn map_zipped<F, R, I>(&self, function: F, args: I) -> Vec<TaskFuture<R>>
    where
        F: Clone,
        R: Portable,
        I: IntoIterator,
        I::Item: TaskArgs<F, R>,
    {
        const { CapturesNothing::<F>::CHECK };
        args.into_iter().map(|args| self.submit(function.clone(), args)).collect()
    }

    fn apply<T>(&self, task: Delayed<T>) -> Delayed<T> {
        let task = match &self.options {
            None => task,
            Some(given) => task.with_options(|options| options.clone_from(given)),
        };
        if self.is_pure { task.pure() } else { task }
    }
}

/// More forms of [`Client::map`].
impl Client {
    /// As [`try_map`](Client::try_map), for tasks that stay in this process; see
    /// [`submit_local`](Client::submit_local).
    pub fn try_map_local<F, T, E, I>(&self, function: F, items: I) -> Vec<TaskFuture<T>>
    where
        F: Clone,
        T: Send + Sync + 'static,
        E: TaskError,
        I: IntoIterator,
        (I::Item,): TaskArgs<F, Result<T, E>>,
    {
        self.tasks().try_map_local(function, items)
    }

    /// As [`map_zipped`](Client::map_zipped), for a function that returns a `Result`: an `Err`
    /// fails the future of the tuple.
    ///
    /// # Examples
    /// ```
    /// let client = sprang::Client::threads(2)?;
    /// let divide = |x: u32, by: u32| x.checked_div(by).ok_or("division by zero");
    /// let quotients = client.try_map_zipped(divide, [(6_u32, 3_u32), (1, 0)]);
    /// assert_eq!(quotients[0].result()?, 2);
    /// assert_eq!(quotients[1].error().unwrap().message(), "division by zero");
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn try_map_zipped<F, T, E, I>(&self, function: F, args: I) -> Vec<TaskFuture<T>>
    where
        F: Clone,
        T: Portable,
        E: TaskError,
        I: IntoIterator,
        I::Item: TaskArgs<F, Result<T, E>>,
    {
        const { CapturesNothing::<F>::CHECK };
        self.tasks().try_map_zipped(function, args)
    }

    /// Merges the values of futures in a tree: neighbours in pairs, then the results in pairs,
    /// until one value is left. `None` if there are no futures.
    ///
    /// Each task is submitted at once, and runs when its two inputs have finished. For the handles
    /// of a graph see [`reduce`](crate::reduce).
    ///
    /// # Examples
    /// ```
    /// let client = sprang::Client::threads(2)?;
    /// let squares = client.map(|x: u64| x * x, 1..=100_u64);
    /// let sum = client.reduce(|a: u64, b: u64| a + b, squares).expect("there are some");
    /// assert_eq!(sum.result()?, 338_350);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn reduce<F, T>(&self, function: F, futures: impl IntoIterator<Item = TaskFuture<T>>) -> Option<TaskFuture<T>>
    where
        F: Clone,
        T: Portable,
        (TaskFuture<T>, TaskFuture<T>): TaskArgs<F, T>,
    {
        const { CapturesNothing::<F>::CHECK };
        merge_in_pairs(futures, |left, right| self.submit(function.clone(), (left, right)))
    }
}
