//! The configuration of one thread: scopes on top of the process layers or of an entered snapshot.
//!
//! # What is always true
//!
//! 1. A guard undoes the overrides that carry its number and no others, so guards may be dropped in
//!    any order.
//! 2. Nothing taken out of [`THREAD`] is dropped while it is borrowed: dropping the last handle of
//!    a custom executor runs code of the program, which may read the configuration.
//! 3. Guards may be dropped, and settings read, while the thread-local storage is being destroyed.
//!    Then the thread has no scopes, accepts none, and sees the process layers.

use super::layers::{Entry, Origin, Snapshot};
use super::process;
use super::schema::Setting;
use super::value::Value;
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::marker::PhantomData;

thread_local! {
    static THREAD: RefCell<ThreadLayers> = const { RefCell::new(ThreadLayers { own: ScopeFrame::new(0, None), entered: Vec::new(), last: 0 }) };
}

struct ThreadLayers {
    /// Its base is the process layers.
    own: ScopeFrame,
    /// The base of each is an entered snapshot; the last is in force.
    entered: Vec<ScopeFrame>,
    /// The number of the newest guard.
    last: u64,
}

struct ScopeFrame {
    guard: u64,
    /// `None` stands for the process layers.
    base: Option<Snapshot>,
    /// Weakest first.
    overrides: Vec<Override>,
    /// Base and overrides resolved, with the process generation at that time.
    resolved: Option<(u64, Snapshot)>,
    /// A snapshot that was in force here, and the same with the scheduler of a cluster.
    for_cluster: Option<(Snapshot, Snapshot)>,
}

struct Override {
    guard: u64,
    setting: &'static Setting,
    entry: Entry,
}

impl ThreadLayers {
    fn top(&mut self) -> &mut ScopeFrame {
        self.entered.last_mut().unwrap_or(&mut self.own)
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl ScopeFrame {
    const fn new(guard: u64, base: Option<Snapshot>) -> Self {
        ScopeFrame { guard, base, overrides: Vec::new(), resolved: None, for_cluster: None }
    }

    /// The resolved snapshot, if it is still valid at `generation`.
    fn fresh(&self, generation: u64) -> Option<&Snapshot> {
        match (&self.resolved, &self.base) {
            (Some((at, snapshot)), base) => (*at == generation || base.is_some()).then_some(snapshot),
            (None, base) if self.overrides.is_empty() => base.as_ref(),
            _ => None,
        }
    }

    /// Forgets what depends on the overrides. The caller drops it after the borrow (rule 2).
    #[must_use]
    fn forget(&mut self) -> impl Sized + use<> {
        (self.resolved.take(), self.for_cluster.take())
    }
}

/// Calls `read` with the configuration in force on this thread. Because of rule 2, `read` may only
/// clone.
pub(super) fn current<R>(read: impl Fn(&Snapshot) -> R) -> Result<R> {
    let generation = process::generation();
    match THREAD.try_with(|thread| thread.borrow_mut().top().fresh(generation).map(&read)) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => {
            let resolved = resolve();
            process::warn_of_unknown();
            resolved.map(|snapshot| read(&snapshot))
        }
        Err(_) => process::snapshot().map(|(_, snapshot)| read(&snapshot)),
    }
}

#[cold]
fn resolve() -> Result<Snapshot> {
    THREAD.with(|thread| {
        let (snapshot, stale) = {
            let frame = &mut *thread.borrow_mut();
            let frame = frame.top();
            let (generation, base) = match &frame.base {
                Some(base) => (0, base.clone()),
                None => process::snapshot()?,
            };
            let snapshot = match &frame.overrides[..] {
                [] => base,
                overrides => base.under(overrides.iter().map(|it| (it.setting, it.entry.clone()))),
            };
            (snapshot.clone(), frame.resolved.replace((generation, snapshot)))
        };
        drop(stale);
        Ok(snapshot)
    })
}

/// The configuration of the tasks that this thread submits to a cluster: that of the thread, with
/// the scheduler of `own`, the configuration of the cluster. `None` if that is `own`.
///
/// `made_in` is the configuration of the thread that made the cluster. Usually nothing has changed
/// since then, so a call compares two addresses and clones nothing.
pub(super) fn for_cluster(own: &Snapshot, made_in: &Snapshot) -> Result<Option<Snapshot>> {
    let has_scheduler = |snapshot: &Snapshot| snapshot.settings().scheduler.is(&own.settings().scheduler);
    let known = |snapshot: &Snapshot, frame: &ScopeFrame| {
        if snapshot.is(own) || snapshot.is(made_in) {
            return Some(None);
        }
        if has_scheduler(snapshot) {
            return Some(Some(snapshot.clone()));
        }
        let (from, derived) = frame.for_cluster.as_ref()?;
        (from.is(snapshot) && has_scheduler(derived)).then(|| Some(derived.clone()))
    };
    let generation = process::generation();
    let found = THREAD.try_with(|thread| {
        let mut thread = thread.borrow_mut();
        let frame = &*thread.top();
        frame.fresh(generation).and_then(|snapshot| known(snapshot, frame))
    });
    match found {
        Ok(Some(known)) => Ok(known),
        _ => derive_for_cluster(own, made_in),
    }
}

/// As [`for_cluster`], and keeps the result until the thread's configuration changes.
#[cold]
fn derive_for_cluster(own: &Snapshot, made_in: &Snapshot) -> Result<Option<Snapshot>> {
    let here = current(Snapshot::clone)?;
    if here.is(own) || here.is(made_in) {
        return Ok(None);
    }
    let scheduler = &own.settings().scheduler;
    if here.settings().scheduler.is(scheduler) {
        return Ok(Some(here));
    }
    let derived = here.with_scheduler(scheduler.clone());
    let kept = Some((here, derived.clone()));
    let stale = THREAD.try_with(|thread| std::mem::replace(&mut thread.borrow_mut().top().for_cluster, kept));
    drop(stale);
    Ok(Some(derived))
}

/// A guard: its override ends when it is dropped.
///
/// A scope belongs to the thread that opened it. Several may be open at once and be dropped in any
/// order, also by a panic: each undoes its own override and leaves the others in place.
///
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// send(sprang::config::scoped("order", "fast").unwrap());
/// ```
#[derive(Debug)]
#[must_use = "the override ends when the guard is dropped: bind it, `let _scope = ...`"]
pub struct Scope {
    guard: u64,
    of_this_thread: PhantomData<*const ()>,
}

impl Scope {
    #[track_caller]
    pub(super) fn open(function: &str, key: &str, value: impl Into<Value>) -> Result<Self> {
        let given = scoped_entry(function, key, value)?;
        let guard = THREAD
            .try_with(|thread| thread.borrow_mut().number())
            .map_err(|_| Error::config(format!("{function}: this thread is ending and takes no more scopes")))?;
        let scope = Scope { guard, of_this_thread: PhantomData };
        scope.add(given);
        Ok(scope)
    }

    /// Overrides another setting, until the same guard is dropped.
    ///
    /// # Examples
    /// ```
    /// use sprang::config;
    ///
    /// let _scope = config::scoped("order", "fast")?.and("errors", "collect")?;
    /// assert_eq!(config::get("order")?, "fast");
    /// assert_eq!(config::get("errors")?, "collect");
    /// # Ok::<(), sprang::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if there is no setting `key`, or it does not
    /// accept `value`. The guard is then dropped, which undoes its overrides.
    #[track_caller]
    pub fn and(self, key: &str, value: impl Into<Value>) -> Result<Self> {
        let given = scoped_entry("Scope::and", key, value)?;
        self.add(given);
        Ok(self)
    }

    fn add(&self, (setting, entry): (&'static Setting, Entry)) {
        let stale = THREAD.try_with(|thread| {
            let mut thread = thread.borrow_mut();
            let frame = thread.top();
            frame.overrides.push(Override { guard: self.guard, setting, entry });
            frame.forget()
        });
        drop(stale);
    }
}

#[track_caller]
fn scoped_entry(function: &str, key: &str, value: impl Into<Value>) -> Result<(&'static Setting, Entry)> {
    let at = std::panic::Location::caller();
    Entry::from_call(function, key, value.into(), Origin::Scoped(at))
}

impl Drop for Scope {
    fn drop(&mut self) {
        let undone = THREAD.try_with(|thread| {
            let thread = &mut *thread.borrow_mut();
            let (mut ended, mut stale) = (Vec::new(), Vec::new());
            for frame in thread.entered.iter_mut().chain([&mut thread.own]) {
                let before = ended.len();
                ended.extend(frame.overrides.extract_if(.., |it| it.guard == self.guard));
                if ended.len() > before {
                    stale.push(frame.forget());
                }
            }
            (ended, stale)
        });
        drop(undone);
    }
}

/// A guard: keeps a [`Snapshot`] in force on the thread that entered it until it is dropped.
///
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// send(sprang::config::snapshot().unwrap().enter());
/// ```
#[derive(Debug)]
#[must_use = "the snapshot is left when the guard is dropped: bind it, `let _entered = ...`"]
pub struct Entered {
    guard: u64,
    of_this_thread: PhantomData<*const ()>,
}

impl Snapshot {
    /// Makes this snapshot the whole configuration of the current thread until the guard is
    /// dropped.
    ///
    /// Scopes that the thread opened before have no effect meanwhile. Snapshots can be nested, and
    /// their guards dropped in any order.
    ///
    /// # Examples
    /// ```
    /// use sprang::config;
    ///
    /// let before = config::snapshot()?;
    /// let _scope = config::scoped("order", "fast")?;
    /// {
    ///     let _entered = before.enter();
    ///     assert_eq!(config::get("order")?, "memory");
    /// }
    /// assert_eq!(config::get("order")?, "fast");
    /// # Ok::<(), sprang::Error>(())
    /// ```
    pub fn enter(&self) -> Entered {
        let base = self.clone();
        let guard = THREAD.try_with(|thread| {
            let mut thread = thread.borrow_mut();
            let guard = thread.number();
            thread.entered.push(ScopeFrame::new(guard, Some(base)));
            guard
        });
        Entered { guard: guard.unwrap_or(0), of_this_thread: PhantomData }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = THREAD.try_with(|thread| {
            let entered = &mut thread.borrow_mut().entered;
            // Guards are nearly always dropped in reverse order, so this checks one frame.
            let index = entered.iter().rposition(|frame| frame.guard == self.guard)?;
            Some(entered.remove(index))
        });
        drop(left);
    }
}
