//! The functions that build graphs. Nothing runs here.

use crate::error::Error;
use crate::graph::Delayed;
use crate::graph::name;
use crate::graph::node::Options;
use crate::graph::retry::{Backoff, RetryIf};
use crate::graph::task::{Fallible, LocalFallible, LocalPlain, Plain, Return, TaskArgs, TaskError, value_task};
use crate::portable::Portable;
use std::sync::Arc;
use std::time::Duration;

/// Rejects a function that captures state, at compile time.
///
/// Each function that a program calls makes the check itself, because the compiler reports the
/// innermost call of a function with the check.
pub(crate) struct CapturesNothing<F>(std::marker::PhantomData<F>);

impl<F> CapturesNothing<F> {
    pub(crate) const CHECK: () = assert!(
        size_of::<F>() == 0 && !std::mem::needs_drop::<F>(),
        "the function of this task captures variables or is a function pointer, so it cannot be sent to another process; give it what \
         it needs as arguments, or keep the task in this process: `delayed_local`, or a client's `submit_local` or `map_local`"
    );
}

/// Makes a task of a function and its arguments. `ONCE` as for [`TaskArgs::into_task`].
#[inline(always)]
pub(crate) fn task<M, F, O, A, const ONCE: bool>(function: F, args: A) -> Delayed<M::Value>
where
    M: Return<O> + 'static,
    A: TaskArgs<F, O>,
{
    Delayed::from_task(args.into_task::<M, ONCE>(function).0)
}

/// Makes a task of a function and its arguments, without running it.
///
#[doc = include_str!("../../docs/arguments.md")]
///
/// Up to 12 arguments, as a tuple: `()` for none, `(x,)` for one. In generic code,
/// [`TaskFn`](crate::TaskFn) bounds the function, [`Argument`](crate::argument::Argument) an
/// argument, and [`Portable`] the value.
///
/// The task can run in another process: its function captures nothing (pass arguments instead) and
/// its value is [`Portable`]. For other functions and values use [`delayed_local`]. `cargo build`
/// reports a function that captures; `cargo check` does not.
///
/// For a function that returns a `Result` this returns a `Delayed<Result<T, E>>`; with
/// [`try_delayed`] an `Err` fails the task instead.
///
/// # Examples
/// ```
/// use sprang::delayed;
///
/// fn ramp(len: usize) -> Vec<f64> {
///     (0..len).map(|i| i as f64).collect()
/// }
///
/// fn add(mut sum: Vec<f64>, other: &Vec<f64>) -> Vec<f64> {
///     sum.iter_mut().zip(other).for_each(|(s, o)| *s += o);
///     sum
/// }
///
/// let a = delayed(ramp, (4_usize,));
/// let b = delayed(ramp, (4_usize,));
/// let sum = delayed(add, (a, &b)); // `a` is moved in and updated in place, `b` is borrowed
/// let max = delayed(|values| values.iter().copied().fold(0.0, f64::max), (&sum,));
/// assert_eq!(max.compute()?, 6.0);
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Complexity
/// O(number of arguments).
#[inline]
pub fn delayed<F, R, A>(function: F, args: A) -> Delayed<R>
where
    R: Portable,
    A: TaskArgs<F, R>,
{
    const { CapturesNothing::<F>::CHECK };
    task::<Plain, F, R, A, false>(function, args)
}

/// As [`delayed`], for a function that returns a `Result`: dependents get the `T` of `Ok(T)`, and
/// an `Err` fails the task.
///
/// The error is kept: it is the [`source`](std::error::Error::source) of the
/// [`Error`](crate::Error) that `compute` returns.
///
/// # Examples
/// ```
/// use sprang::{delayed, lit, try_delayed};
///
/// let text = lit(vec!["1".to_string(), "2".into(), "three".into()]);
/// let parse = |text: &Vec<String>| {
///     text.iter().map(|text| text.parse::<i64>()).collect::<Result<Vec<_>, _>>()
/// };
/// let numbers = try_delayed(parse, (text,)).name("numbers");
/// let total = delayed(|all: &Vec<i64>| all.iter().sum::<i64>(), (&numbers,)).name("total");
/// let error = total.compute().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"task "numbers" failed: invalid digit found in string; "total" needs it"#
/// );
/// ```
#[inline]
pub fn try_delayed<F, T, E, A>(function: F, args: A) -> Delayed<T>
where
    T: Portable,
    E: TaskError,
    A: TaskArgs<F, Result<T, E>>,
{
    const { CapturesNothing::<F>::CHECK };
    task::<Fallible, F, Result<T, E>, A, false>(function, args)
}

/// As [`delayed`], for a task that stays in this process: the function may capture, and the value
/// needs no encoding.
///
/// # Examples
/// ```
/// use sprang::delayed_local;
/// use std::sync::mpsc;
///
/// let (sender, receiver) = mpsc::sync_channel(1);
/// let task = delayed_local(move || sender.send(42).is_ok(), ());
/// assert!(task.compute()?);
/// assert_eq!(receiver.recv(), Ok(42));
/// # Ok::<_, sprang::Error>(())
/// ```
#[inline]
pub fn delayed_local<F, R, A>(function: F, args: A) -> Delayed<R>
where
    R: Send + Sync + 'static,
    A: TaskArgs<F, R>,
{
    task::<LocalPlain, F, R, A, false>(function, args)
}

/// As [`try_delayed`], for a task that stays in this process.
#[inline]
pub fn try_delayed_local<F, T, E, A>(function: F, args: A) -> Delayed<T>
where
    T: Send + Sync + 'static,
    E: TaskError,
    A: TaskArgs<F, Result<T, E>>,
{
    task::<LocalFallible, F, Result<T, E>, A, false>(function, args)
}

/// Puts a value of this process into a graph; tasks that get `&local(value)` borrow it.
///
/// The value lives as long as its handle, and all runs share it. It may be any `Send + Sync` value,
/// such as an open database or a model too large to encode. The handle cannot be computed itself,
/// because the value is never moved; for a value that can be cloned use [`lit`](crate::lit) or
/// [`persist`](crate::persist).
///
/// # Examples
/// ```
/// use sprang::{delayed, local};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// let hits = local(AtomicU32::new(0));
/// let hit = |hits: &AtomicU32| hits.fetch_add(1, Ordering::Relaxed);
/// let tasks: Vec<_> = (0..10).map(|_| delayed(hit, (&hits,))).collect();
/// let mut seen = sprang::compute(&tasks)?;
/// seen.sort();
/// assert_eq!(seen, (0..10).collect::<Vec<_>>());
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn local<T: Send + Sync + 'static>(value: T) -> Delayed<T> {
    Delayed::from_task(value_task(value))
}

/// # Options of a task
///
/// Set them where the task is made, before its handle is cloned or used: `delayed(load,
/// (path,)).name("load").retries(3)`. All executors obey them, except that only clients obey
/// `resource` and `workers`.
///
/// # Panics
/// Each option panics if the handle was cloned or used as an argument before: a shared task cannot
/// change.
impl<T> Delayed<T> {
    #[track_caller]
    pub(crate) fn with_options(mut self, change: impl FnOnce(&mut Options)) -> Self {
        match self.task_mut().options_mut() {
            Some(options) => change(options),
            None => panic!(
                "the options of task {:?} cannot change any more, because its handle was cloned or used as an argument; set them \
                 where the task is made, `delayed(function, args).name(..).retries(..)`, and clone the handle afterwards",
                name::of_task(self.task_ref())
            ),
        }
        self
    }

    /// Names the task, for errors and pictures. The name is unique: two different tasks of one
    /// graph with the same name are an error.
    ///
    /// The default is the name of the function.
    #[track_caller]
    pub fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.with_options(|options| options.name = Some(name.into()))
    }

    /// Retries the task up to `retries` times when it fails: when it returns `Err`, panics or times
    /// out. [`retry_if`](Delayed::retry_if) says after which failures,
    /// [`retry_delay`](Delayed::retry_delay) when. The default is the setting `retries`.
    ///
    /// Owned arguments are cloned for every attempt but the last.
    #[track_caller]
    pub fn retries(self, retries: u32) -> Self {
        self.with_options(|options| options.retries = Some(retries))
    }

    /// Retries the task only after failures for which `condition` returns true, up to as many times
    /// as [`retries`](Delayed::retries) says.
    ///
    /// The condition gets the error of the failed attempt: its [kind](Error::kind), message and
    /// [attempts](Error::attempts). If the task ran in this process, the source of the error is
    /// what the function returned; if it ran in a worker process, the source has the texts. The
    /// condition is called in this process, so it may capture variables, and on a thread that other
    /// tasks need, so it should not block. If it panics, the task is not tried again. The death of
    /// a worker process is not asked about: `processes.max_attempts` limits these.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Error, ErrorKind, try_delayed};
    /// use std::io;
    ///
    /// fn is_passing(error: &Error) -> bool {
    ///     error.kind() == ErrorKind::TimedOut || error.message().contains("busy")
    /// }
    ///
    /// let load = |path: &str| Err::<String, _>(io::Error::other(format!("{path} is corrupt")));
    /// let picture = try_delayed(load, ("a.png",)).retries(3).retry_if(is_passing);
    /// let error = picture.compute().unwrap_err();
    /// assert_eq!((error.message(), error.attempts()), ("a.png is corrupt", 1));
    /// ```
    #[track_caller]
    pub fn retry_if(self, condition: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        let condition = RetryIf(Arc::new(condition));
        self.with_options(|options| options.retry_if = Some(condition))
    }

    /// Waits after a failed attempt before the task is tried again: a [`Duration`], or a
    /// [`Backoff`] that grows.
    ///
    /// Other tasks run while a task waits: it occupies no worker process, and no thread but the one
    /// that waits for its run. Where all tasks run on one thread, with the scheduler `"sync"`, in a
    /// graph that is a single chain, or on an [`Executor`](crate::Executor) of the program, that
    /// thread waits. The wait ends at once when the run is stopped. A task that lost its worker
    /// process is tried again without a wait.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Backoff, try_delayed};
    /// use std::time::Duration;
    ///
    /// let fetch = |host: &str| Ok::<_, std::io::Error>(host.len());
    /// let len = try_delayed(fetch, ("example.org",))
    ///     .retries(5)
    ///     .retry_delay(Backoff::exponential(Duration::from_millis(100)));
    /// assert_eq!(len.compute()?, 11);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    #[track_caller]
    pub fn retry_delay(self, delay: impl Into<Backoff>) -> Self {
        let delay = delay.into();
        self.with_options(|options| options.backoff = Some(delay))
    }

    /// Fails an attempt that takes longer than `timeout`.
    ///
    /// A thread cannot be killed, so on threads the timeout is cooperative: at the deadline the
    /// [`CancelToken`](crate::CancelToken) of the task is cancelled and, unless errors are
    /// collected, the run stops. The result of a task that continues is dropped. `compute` returns
    /// when all running tasks have returned.
    #[track_caller]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with_options(|options| options.timeout = Some(timeout))
    }

    /// Prefers the task, and all tasks that it needs, to ready tasks of lower priority. The default
    /// is 0.
    #[track_caller]
    pub fn priority(self, priority: i32) -> Self {
        self.with_options(|options| options.priority = priority)
    }

    /// Starts the task only after `other` has finished; no value is passed. If `other` fails, this
    /// task fails too.
    #[track_caller]
    pub fn after<U>(self, other: &Delayed<U>) -> Self {
        self.with_options(|options| options.after.push(other.task_ref().to_task()))
    }

    /// Reserves an amount of a resource of the worker while the task runs: `.resource("gpu", 1.0)`.
    /// A second call with the same name replaces the amount. Amounts are counted in millionths.
    ///
    /// The resources of a worker are declared where a [`LocalCluster`](crate::LocalCluster) is
    /// made; their names have no built-in meaning. The option applies to tasks that are submitted
    /// to a [`Client`](crate::Client) one by one; in a graph of several tasks it is an error. Other
    /// computes ignore it, also those on the [scheduler](crate::Client::scheduler) of a client.
    #[track_caller]
    pub fn resource(self, name: &str, amount: f64) -> Self {
        self.with_options(|options| options.take(name, amount))
    }

    /// Lets only the workers with these names run the task. Tasks of a [`Client`](crate::Client)
    /// obey it, as with [`resource`](Delayed::resource).
    #[track_caller]
    pub fn workers<N: AsRef<str>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.with_options(|options| options.workers.extend(names.into_iter().map(|name| name.as_ref().into())))
    }

    /// Declares that the value of the task depends on its arguments alone. Pure tasks of one graph
    /// with the same function and equal arguments run once.
    ///
    /// Plain arguments are compared by their encodings; a task with an argument that has no
    /// encoding equals no other. Functions that capture are never merged, because captured values
    /// cannot be compared.
    #[track_caller]
    pub fn pure(self) -> Self {
        let task = self.task_ref();
        let token = (!task.kind().captures).then(|| crate::graph::task::token_of(task)).flatten();
        self.with_options(|options| options.pure = token)
    }
}
