//! The handle that a program holds to a task.

use super::node::{Task, TaskRef};
use std::fmt;
use std::marker::PhantomData;
use std::sync::LazyLock;

/// A task that has not run: a function and the arguments for it.
///
/// A `Delayed<T>` is a handle, one pointer wide and cheap to clone. It represents the value of type
/// `T` that the task returns. Pass it to other tasks as an argument, or
/// [`compute`](Delayed::compute) it. The graph behind it is immutable and holds no results, so it
/// can be computed again, as part of any other graph, and by several threads at once. A task that
/// no handle reaches is freed.
///
/// Made by [`delayed`](crate::delayed), [`try_delayed`](crate::try_delayed),
/// [`delayed_local`](crate::delayed_local), [`local`](crate::local) and
/// [`persist`](crate::persist).
///
/// # Examples
/// ```
/// use sprang::delayed;
///
/// let a = delayed(|| 20, ());
/// let b = delayed(|a: &i32, k: i32| a + k, (&a, 1));
/// let product = delayed(|a: &i32, b: &i32| a * b, (&a, &b));
/// assert_eq!(product.compute()?, 420);
/// # Ok::<_, sprang::Error>(())
/// ```
#[must_use = "a task runs when it is computed, not when it is made"]
pub struct Delayed<T> {
    task: Task,
    value: PhantomData<fn() -> T>,
}

impl<T> Delayed<T> {
    /// The handle of a task whose value is a `T`. Called only where the task is made.
    pub(crate) fn from_task(task: Task) -> Self {
        Delayed { task, value: PhantomData }
    }

    /// A handle that replaces an argument's handle in another process, which does not have the
    /// task.
    pub(crate) fn placeholder() -> Self {
        static TASK: LazyLock<Task> = LazyLock::new(|| super::task::value_task(()));
        Delayed { task: TASK.clone(), value: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn task_ref(&self) -> TaskRef {
        self.task.as_ref()
    }

    pub(crate) fn task_mut(&mut self) -> &mut Task {
        &mut self.task
    }
}

impl<T> Clone for Delayed<T> {
    #[inline]
    fn clone(&self) -> Self {
        Delayed { task: self.task.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for Delayed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delayed({:?})", super::name::of_task(self.task_ref()))
    }
}
