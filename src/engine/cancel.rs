//! Asking for the end of work that has been started.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

/// A token to end computes early, and to be told that one's own result is no longer wanted.
///
/// Whoever starts a compute makes a token, puts it in force with [`enter`](CancelToken::enter) or [`scope`](CancelToken::scope) and
/// keeps a clone to pull, from any thread. No task of that compute is started after the pull; the compute ends with an error of kind
/// [`Cancelled`](crate::ErrorKind::Cancelled) as soon as the tasks that are running have returned. A long task asks for
/// [`CancelToken::current`] and looks at it now and then. It is also pulled when its result is not wanted for another reason: its
/// timeout has passed, or another task has failed.
///
/// # Examples
/// ```
/// use sprang::{CancelToken, ErrorKind, delayed};
///
/// fn search(limit: u64) -> u64 {
///     let token = CancelToken::current();
///     (0..limit).find(|_| token.is_cancelled()).unwrap_or(limit)
/// }
///
/// let token = CancelToken::new();
/// let remote = token.clone();
/// std::thread::spawn(move || remote.cancel());
/// let error = token.scope(|| delayed(search, (u64::MAX,)).compute()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Cancelled);
/// ```
#[derive(Clone, Debug)]
pub struct CancelToken(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cancelled: AtomicBool,
    outer: Option<CancelToken>,
}

thread_local! {
    static IN_FORCE: RefCell<Option<CancelToken>> = const { RefCell::new(None) };
}

impl CancelToken {
    /// How often who waits for something else looks at a token: nobody rings for it.
    pub(crate) const LOOK: Duration = Duration::from_millis(5);

    /// A token that nobody has pulled yet.
    pub fn new() -> Self {
        CancelToken::within(None)
    }

    /// A token that counts as pulled also when `outer` is.
    pub(crate) fn within(outer: Option<CancelToken>) -> Self {
        CancelToken(Arc::new(Inner { cancelled: AtomicBool::new(false), outer }))
    }

    /// Pulls the token. What was pulled stays so.
    pub fn cancel(&self) {
        // Release: pairs with the `Acquire` below, so that whoever sees the pull sees what led to it.
        self.0.cancelled.store(true, Release);
    }

    /// Whether the token, or one that was in force where it was made, has been pulled.
    pub fn is_cancelled(&self) -> bool {
        let mut token = self;
        loop {
            // Pairs with the `Release` in `cancel`.
            if token.0.cancelled.load(Acquire) {
                return true;
            }
            match &token.0.outer {
                Some(outer) => token = outer,
                None => return false,
            }
        }
    }

    /// The token in force on this thread: in a task the one that tells whether its result is still wanted. A new one, which nobody
    /// will pull, where there is none.
    pub fn current() -> Self {
        CancelToken::in_force().unwrap_or_default()
    }

    pub(crate) fn in_force() -> Option<Self> {
        // A thread that is about to end has no token in force any more.
        IN_FORCE.try_with(|token| token.borrow().clone()).ok().flatten()
    }

    /// Puts the token in force for the computes that this thread starts, until the guard is dropped.
    ///
    /// The token that was in force before is in force again afterwards. Guards are dropped in the reverse order of their making.
    pub fn enter(&self) -> EnteredToken {
        let before = IN_FORCE.try_with(|token| token.replace(Some(self.clone()))).ok().flatten();
        EnteredToken { before, not_send: PhantomData }
    }

    /// Puts the token in force for what `body` computes on this thread.
    pub fn scope<R>(&self, body: impl FnOnce() -> R) -> R {
        let _entered = self.enter();
        body()
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        CancelToken::new()
    }
}

/// Keeps a [`CancelToken`] in force on this thread until it is dropped.
#[must_use = "the token is in force until this guard is dropped: bind it, `let _entered = ...`"]
#[derive(Debug)]
pub struct EnteredToken {
    before: Option<CancelToken>,
    /// The guard must be dropped on the thread that made it.
    not_send: PhantomData<*const ()>,
}

impl Drop for EnteredToken {
    fn drop(&mut self) {
        let _token = IN_FORCE.try_with(|token| token.replace(self.before.take()));
    }
}
