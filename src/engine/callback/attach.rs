//! Attaching callbacks to the process or to a thread, and the callbacks that watch one run.

use super::info::{ClusterInfo, RunIds};
use super::observer::{Callback, Interests};
use crate::engine::panics;
use crate::engine::stall::Stall;
use parking_lot::Mutex;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A callback that is attached to the process or to a thread.
struct Attached {
    callback: Arc<dyn Callback>,
    interests: Interests,
    /// The callback has panicked.
    is_off: AtomicBool,
}

impl Attached {
    #[inline]
    fn notify(&self, handler: impl Fn(&dyn Callback)) {
        if self.is_off.load(Ordering::Relaxed) {
            return;
        }
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| handler(&*self.callback))) {
            self.panicked(payload);
        }
    }

    #[cold]
    fn panicked(&self, payload: Box<dyn Any + Send>) {
        let message = panics::describe(payload);
        if !self.is_off.swap(true, Ordering::Relaxed) {
            log::error!("a callback panicked and is not called any more: {message}");
        }
    }

    fn is(&self, other: &Attached) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.callback), Arc::as_ptr(&other.callback))
    }
}

/// Attached callbacks, each with the number of its guard.
type List = Vec<(u64, Arc<Attached>)>;

/// The callbacks that watch the process.
static REGISTERED: Mutex<List> = Mutex::new(Vec::new());
/// The length of `REGISTERED`. Relaxed: a thread that knows of a registration has learned of it
/// through something that orders the two threads.
static NUM_REGISTERED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static FRAME: RefCell<Frame> =
        const { RefCell::new(Frame { scoped: Vec::new(), run: None, stall: None, cluster: None, starts_worker: false }) };
    /// This thread is in a callback.
    static IS_IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// The callbacks in force on a thread, and the context of the runs that the thread starts.
#[derive(Clone, Default)]
pub(in crate::engine) struct Frame {
    scoped: List,
    /// The watched run that the thread works on.
    pub(in crate::engine) run: Option<RunIds>,
    /// Detects stalls of that run.
    pub(in crate::engine) stall: Option<Arc<Stall>>,
    /// The cluster, if the thread runs futures.
    pub(in crate::engine) cluster: Option<ClusterInfo>,
    /// The runs compute no futures: the cluster starts a worker with them.
    pub(in crate::engine) starts_worker: bool,
}

impl Frame {
    /// The frame of this thread.
    pub(in crate::engine) fn current() -> Self {
        FRAME.try_with(|frame| frame.borrow().clone()).unwrap_or_default()
    }

    /// The frame of the tasks of a run that was started with this one.
    pub(in crate::engine) fn of_tasks(&self, run: RunIds, stall: Option<&Arc<Stall>>) -> Self {
        let scoped = self.scoped.clone();
        Frame { scoped, run: Some(run), stall: stall.map(Arc::clone), ..Frame::default() }
    }
}

fn attached(callback: Arc<dyn Callback>) -> (u64, Arc<Attached>) {
    static GUARDS: AtomicU64 = AtomicU64::new(0);
    let interests = callback.interests();
    (GUARDS.fetch_add(1, Ordering::Relaxed), Arc::new(Attached { callback, interests, is_off: AtomicBool::new(false) }))
}

/// Removes the callback with this guard, for the caller to drop.
fn take(list: &mut List, guard: u64) -> Option<(u64, Arc<Attached>)> {
    let position = list.iter().position(|(number, _)| *number == guard)?;
    Some(list.remove(position))
}

/// Attaches a callback to this thread until the guard is dropped. It watches the runs that the
/// thread starts, and the runs that their tasks start.
///
/// Several callbacks may watch at once. A callback that is attached twice is called once. Guards
/// may be dropped in any order.
///
/// # Examples
/// ```
/// use sprang::callback::{self, Callback, RunStarted};
/// use std::sync::{Arc, Mutex};
///
/// #[derive(Default)]
/// struct Sizes(Mutex<Vec<usize>>);
///
/// impl Callback for Sizes {
///     fn on_run_started(&self, event: &RunStarted<'_>) {
///         self.0.lock().unwrap().push(event.run.num_tasks());
///     }
/// }
///
/// let sizes = Arc::new(Sizes::default());
/// let watched = callback::scoped(sizes.clone());
/// sprang::delayed(|| (), ()).compute()?;
/// drop(watched);
/// assert_eq!(*sizes.0.lock().unwrap(), [1]);
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn scoped(callback: Arc<dyn Callback>) -> Scope {
    let new = attached(callback);
    let guard = new.0;
    let mut new = Some(new);
    // A thread that is about to end starts no run any more; then `new` is dropped here.
    let _ended = FRAME.try_with(|frame| frame.borrow_mut().scoped.extend(new.take()));
    Scope { guard, of_this_thread: PhantomData }
}

/// Attaches a callback to this thread while `body` runs; see [`scoped`].
pub fn with<R>(callback: Arc<dyn Callback>, body: impl FnOnce() -> R) -> R {
    let _scope = scoped(callback);
    body()
}

/// Keeps a callback attached to this thread until it is dropped.
#[must_use = "the callback watches until this guard is dropped: bind it, `let _scope = ...`"]
#[derive(Debug)]
pub struct Scope {
    guard: u64,
    of_this_thread: PhantomData<*const ()>,
}

impl Drop for Scope {
    fn drop(&mut self) {
        // Dropped after the borrow: it may be the last handle of a callback, which has its own
        // `Drop`.
        let _taken = FRAME.try_with(|frame| take(&mut frame.borrow_mut().scoped, self.guard));
    }
}

/// Attaches a callback to the process until the guard is dropped. It watches all runs that start
/// meanwhile.
///
/// # Examples
/// ```
/// use sprang::callback::{self, Callback, TaskFailed};
/// use std::sync::{Arc, Mutex};
///
/// #[derive(Default)]
/// struct Failures(Mutex<Vec<String>>);
///
/// impl Callback for Failures {
///     fn on_task_failed(&self, event: &TaskFailed<'_>) {
///         self.0.lock().unwrap().push(event.error.message().to_owned());
///     }
/// }
///
/// let failures = Arc::new(Failures::default());
/// let _registration = callback::register(failures.clone());
/// let bad = sprang::try_delayed(|| "x".parse::<i32>(), ());
/// std::thread::spawn(move || bad.compute().unwrap_err()).join().unwrap();
/// assert_eq!(*failures.0.lock().unwrap(), ["invalid digit found in string"]);
/// ```
pub fn register(callback: Arc<dyn Callback>) -> Registration {
    let new = attached(callback);
    let guard = new.0;
    let mut registered = REGISTERED.lock();
    registered.push(new);
    NUM_REGISTERED.store(registered.len(), Ordering::Relaxed);
    Registration { guard }
}

/// Keeps a callback attached to the process until it is dropped. [`std::mem::forget`] keeps it for
/// ever.
#[must_use = "the callback watches until this guard is dropped: bind it, `let _registration = ...`"]
#[derive(Debug)]
pub struct Registration {
    guard: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut registered = REGISTERED.lock();
        let taken = take(&mut registered, self.guard);
        NUM_REGISTERED.store(registered.len(), Ordering::Relaxed);
        drop(registered);
        drop(taken);
    }
}

/// The scoped callbacks of a thread, to watch work that another thread does for it.
#[derive(Clone)]
pub(crate) struct Watchers(List);

impl Watchers {
    /// The scoped callbacks of this thread; `None` if there are none.
    pub(crate) fn of_this_thread() -> Option<Self> {
        let watchers = |scoped: &List| (!scoped.is_empty()).then(|| Watchers(scoped.clone()));
        FRAME.try_with(|frame| watchers(&frame.borrow().scoped)).ok().flatten()
    }

    /// Until the guard is dropped, the callbacks, if any, watch the runs of futures that this
    /// thread starts for the cluster.
    pub(crate) fn enter(watchers: Option<&Self>, cluster: &ClusterInfo) -> Entered {
        let scoped = watchers.map_or_else(Vec::new, |watchers| watchers.0.clone());
        Entered::new(Frame { scoped, cluster: Some(cluster.clone()), ..Frame::default() })
    }

    /// Marks the runs that this thread starts as runs that make the cluster start a worker.
    pub(crate) fn enter_start(cluster: &ClusterInfo) -> Entered {
        Entered::new(Frame { cluster: Some(cluster.clone()), starts_worker: true, ..Frame::default() })
    }
}

/// Puts a frame in force on this thread until it is dropped.
pub(crate) struct Entered {
    before: Frame,
}

impl Entered {
    pub(in crate::engine) fn new(frame: Frame) -> Self {
        Entered { before: FRAME.try_with(|current| current.replace(frame)).unwrap_or_default() }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let _inner = FRAME.try_with(|frame| frame.replace(std::mem::take(&mut self.before)));
    }
}

/// Whether a callback would watch a run that this thread starts.
pub(crate) fn has_watchers() -> bool {
    NUM_REGISTERED.load(Ordering::Relaxed) > 0
        || FRAME.try_with(|frame| !frame.borrow().scoped.is_empty()).unwrap_or(false)
}

/// The callbacks that watch one run, each once.
pub(in crate::engine) struct Observers {
    all: Box<[Arc<Attached>]>,
    /// The union of their interests.
    pub(in crate::engine) interests: Interests,
}

impl Observers {
    /// Whether this thread is in a callback. Runs that a callback starts are not watched.
    pub(in crate::engine) fn is_in_callback() -> bool {
        IS_IN_CALLBACK.try_with(Cell::get).unwrap_or(false)
    }

    /// Collects `own`, the registered callbacks, and the scoped callbacks of the frame. `None` if
    /// there are none.
    pub(in crate::engine) fn new(own: Option<Arc<dyn Callback>>, frame: &Frame) -> Option<Self> {
        let registered = REGISTERED.lock().clone();
        let own = own.map(attached);
        let mut all: Vec<Arc<Attached>> = Vec::new();
        for (_, attached) in own.iter().chain(&registered).chain(&frame.scoped) {
            if !all.iter().any(|other| other.is(attached)) {
                all.push(Arc::clone(attached));
            }
        }
        let interests = all.iter().map(|attached| attached.interests).fold(Interests::new(), Interests::and);
        (!all.is_empty()).then(|| Observers { all: all.into(), interests })
    }

    #[inline]
    pub(in crate::engine) fn notify(&self, handler: impl Fn(&dyn Callback)) {
        self.notify_if(|_| true, handler);
    }

    /// Calls the handler of the callbacks whose interests satisfy `is_wanted`.
    #[inline]
    pub(in crate::engine) fn notify_if(&self, is_wanted: impl Fn(Interests) -> bool, handler: impl Fn(&dyn Callback)) {
        let was_in_callback = IS_IN_CALLBACK.try_with(|it| it.replace(true)).unwrap_or(true);
        let wanting = self.all.iter().filter(|attached| is_wanted(attached.interests));
        wanting.for_each(|attached| attached.notify(&handler));
        let _ended = IS_IN_CALLBACK.try_with(|it| it.set(was_in_callback));
    }
}
