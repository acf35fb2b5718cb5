//! Cancellation of work that has started.

use super::panics::quietly;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};

/// A token that ends computes early and tells a task that its result is no longer wanted.
///
/// To cancel a compute, make a token, put it in force with [`enter`](CancelToken::enter) or
/// [`scope`](CancelToken::scope), start the compute, and [cancel](CancelToken::cancel) a clone of
/// the token from any thread. After that no task of the compute starts. The compute returns an
/// error of kind [`Cancelled`](crate::ErrorKind::Cancelled) as soon as the running tasks have
/// returned.
///
/// A long task gets its own token with [`CancelToken::current`] and checks it now and then. That
/// token is also cancelled when the task's timeout passes or another task of the run fails.
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
#[derive(Clone)]
pub struct CancelToken(Arc<TokenState>);

struct TokenState {
    cancelled: AtomicBool,
    outer: Option<CancelToken>,
    /// The registered listeners. `None` until there is one, and once the token is cancelled: each
    /// task of a client makes a token, and few of them get a listener.
    listeners: Mutex<Option<Box<Listeners>>>,
}

/// Listeners by the address of each.
type Listeners = BTreeMap<usize, Arc<Listener>>;

/// A listener's function. The call takes it, so that it is called once.
type Listener = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// Calls a listener, unless it was called or removed before. The caller holds no lock.
fn call(listener: &Listener) {
    let function = listener.lock().take();
    if let Some(function) = function {
        quietly(function);
    }
}

thread_local! {
    static IN_FORCE: RefCell<Option<CancelToken>> = const { RefCell::new(None) };
}

impl CancelToken {
    /// Makes a token that is not cancelled.
    pub fn new() -> Self {
        CancelToken::within(None)
    }

    /// Makes a token that also counts as cancelled when `outer` is.
    pub(crate) fn within(outer: Option<CancelToken>) -> Self {
        CancelToken(Arc::new(TokenState { cancelled: AtomicBool::new(false), outer, listeners: Mutex::default() }))
    }

    /// Cancels the token, for good, and calls its [listeners](CancelToken::on_cancel).
    pub fn cancel(&self) {
        // Release: pairs with the `Acquire` in `is_cancelled`. A thread that sees the flag sees
        // everything that happened before the call of `cancel`.
        self.0.cancelled.store(true, Release);
        // The flag is set before the lock is taken. So a listener that is registered later sees it,
        // and one that was registered before is in the map.
        let listeners = self.0.listeners.lock().take();
        listeners.iter().flat_map(|listeners| listeners.values()).for_each(|listener| call(listener));
    }

    /// Whether the token is cancelled. The token of a task is also cancelled with the token that
    /// was in force where its compute started.
    pub fn is_cancelled(&self) -> bool {
        // Acquire: pairs with the `Release` in `cancel`.
        self.chain().any(|token| token.0.cancelled.load(Acquire))
    }

    /// The token and the tokens that enclose it, innermost first.
    fn chain(&self) -> impl Iterator<Item = &CancelToken> {
        std::iter::successors(Some(self), |token| token.0.outer.as_ref())
    }

    /// Calls `listener` once, when the token [is cancelled](CancelToken::is_cancelled).
    ///
    /// The call happens on the thread that cancels, so the listener should be short: wake a thread,
    /// close a connection. If the token is cancelled already, the call happens before `on_cancel`
    /// returns. Dropping the guard removes the listener. A call that has begun on another thread
    /// may still be running then. A listener that panics affects nothing else.
    ///
    /// # Examples
    /// ```
    /// use sprang::CancelToken;
    /// use std::sync::mpsc;
    ///
    /// let token = CancelToken::new();
    /// let (sender, inbox) = mpsc::channel();
    /// let cancels = sender.clone();
    /// let _listener = token.on_cancel(move || cancels.send("cancelled").unwrap());
    /// let remote = token.clone();
    /// std::thread::spawn(move || remote.cancel());
    /// // Waits for a message or for the token, without polling.
    /// assert_eq!(inbox.recv(), Ok("cancelled"));
    /// ```
    pub fn on_cancel(&self, listener: impl FnOnce() + Send + 'static) -> CancelListener {
        let listener: Arc<Listener> = Arc::new(Mutex::new(Some(Box::new(listener))));
        for token in self.chain() {
            let mut listeners = token.0.listeners.lock();
            // With the lock: if the flag is not set, `cancel` has yet to take the map.
            if token.0.cancelled.load(Acquire) {
                drop(listeners);
                call(&listener);
                break;
            }
            let listeners = listeners.get_or_insert_default();
            listeners.insert(Arc::as_ptr(&listener) as usize, Arc::clone(&listener));
        }
        CancelListener { token: self.clone(), listener }
    }

    /// The token in force on this thread. In a task it says whether the result is still wanted.
    /// Where no token is in force this is a new one.
    pub fn current() -> Self {
        CancelToken::in_force().unwrap_or_default()
    }

    pub(crate) fn in_force() -> Option<Self> {
        // A thread that is about to end has no token in force any more.
        IN_FORCE.try_with(|token| token.borrow().clone()).ok().flatten()
    }

    /// Puts the token in force for the computes that this thread starts, until the guard is
    /// dropped.
    ///
    /// Dropping the guard puts the previous token in force again. Drop guards in reverse order.
    pub fn enter(&self) -> EnteredToken {
        let before = IN_FORCE.try_with(|token| token.replace(Some(self.clone()))).ok().flatten();
        EnteredToken { before, not_send: PhantomData }
    }

    /// Puts the token in force for the computes that `body` starts on this thread.
    pub fn scope<R>(&self, body: impl FnOnce() -> R) -> R {
        let _entered = self.enter();
        body()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
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

/// Keeps a listener of a [`CancelToken`] registered until it is dropped.
#[must_use = "dropping this guard removes the listener: bind it, `let _listener = ...`"]
pub struct CancelListener {
    token: CancelToken,
    listener: Arc<Listener>,
}

impl Drop for CancelListener {
    fn drop(&mut self) {
        let address = Arc::as_ptr(&self.listener) as usize;
        for token in self.token.chain() {
            let _removed = token.0.listeners.lock().as_mut().and_then(|listeners| listeners.remove(&address));
        }
        // A token that is being cancelled may have taken the listener and not called it yet. The
        // function is dropped without a lock: it may hold something that has its own `Drop`.
        let _function = self.listener.lock().take();
    }
}

impl fmt::Debug for CancelListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelListener").field("token", &self.token).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    fn counting(token: &CancelToken) -> (Arc<AtomicUsize>, CancelListener) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let count = move || {
            counter.fetch_add(1, SeqCst);
        };
        (calls, token.on_cancel(count))
    }

    fn num_listeners(token: &CancelToken) -> usize {
        token.chain().map(|token| token.0.listeners.lock().as_ref().map_or(0, |listeners| listeners.len())).sum()
    }

    #[test]
    fn a_listener_is_called_once_when_its_token_or_one_around_it_is_cancelled() {
        let outer = CancelToken::new();
        let middle = CancelToken::within(Some(outer.clone()));
        let inner = CancelToken::within(Some(middle.clone()));
        let (inner_calls, _inner) = counting(&inner);
        let (middle_calls, _middle) = counting(&middle);
        let (outer_calls, _outer) = counting(&outer);
        let calls = || [&inner_calls, &middle_calls, &outer_calls].map(|calls| calls.load(SeqCst));
        middle.cancel();
        assert_eq!(calls(), [1, 1, 0]);
        [&outer, &inner, &middle].into_iter().for_each(CancelToken::cancel);
        assert_eq!(calls(), [1, 1, 1]);
    }

    #[test]
    fn a_listener_of_a_cancelled_token_is_called_at_once() {
        let outer = CancelToken::new();
        let inner = CancelToken::within(Some(outer.clone()));
        outer.cancel();
        let (calls, listener) = counting(&inner);
        assert_eq!(calls.load(SeqCst), 1);
        inner.cancel();
        drop(listener);
        assert_eq!((calls.load(SeqCst), num_listeners(&inner)), (1, 0));
    }

    #[test]
    fn a_dropped_guard_removes_its_listener_from_every_token() {
        let outer = CancelToken::new();
        let inner = CancelToken::within(Some(outer.clone()));
        let (calls, listener) = counting(&inner);
        assert_eq!(num_listeners(&inner), 2);
        drop(listener);
        assert_eq!((num_listeners(&inner), Arc::strong_count(&calls)), (0, 1));
        outer.cancel();
        assert_eq!(calls.load(SeqCst), 0);
    }

    #[test]
    fn a_listener_may_use_the_token_and_panic() {
        let token = CancelToken::new();
        let _panics = token.on_cancel(|| panic!("a listener's own"));
        let calls = Arc::new(AtomicUsize::new(0));
        let (again, counter) = (token.clone(), Arc::clone(&calls));
        let _nests = token.on_cancel(move || {
            again.cancel();
            let _nested = again.on_cancel(move || assert_eq!(counter.fetch_add(1, SeqCst), 0));
        });
        token.cancel();
        assert_eq!(calls.load(SeqCst), 1);
    }

    #[test]
    fn a_listener_is_called_once_when_it_is_registered_while_its_tokens_are_cancelled() {
        for _ in 0..200 {
            let outer = CancelToken::new();
            let inner = CancelToken::within(Some(outer.clone()));
            let calls = std::thread::scope(|scope| {
                scope.spawn(|| outer.cancel());
                scope.spawn(|| inner.cancel());
                counting(&inner)
            });
            assert_eq!(calls.0.load(SeqCst), 1);
        }
    }
}
