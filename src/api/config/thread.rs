//! What one thread sees: scopes on top of a base, which is the process or an entered snapshot.
//!
//! # What is always true
//!
//! 1. A guard undoes what carries its number and nothing else, so guards may be dropped in any order.
//! 2. Nothing that is taken out of [`THREAD`] is dropped while it is borrowed: dropping the last handle of a custom executor runs
//!    code of the program's own, which may ask for the configuration.
//! 3. A guard may be dropped, and the settings asked for, while the thread's own storage is being destroyed. Then the thread has
//!    no scopes any more, takes none, and sees the process.

use super::layers::{Entry, Origin, Snapshot};
use super::process;
use super::schema::Setting;
use super::value::Value;
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::marker::PhantomData;

thread_local! {
    static THREAD: RefCell<Thread> = const { RefCell::new(Thread { own: Frame::new(0, None), entered: Vec::new(), last: 0 }) };
}

struct Thread {
    /// Based on the process.
    own: Frame,
    /// Each based on the snapshot that was entered; the last is the one in force.
    entered: Vec<Frame>,
    /// The number last given to a guard.
    last: u64,
}

struct Frame {
    guard: u64,
    /// `None` for the process.
    base: Option<Snapshot>,
    /// Weakest first.
    overrides: Vec<Override>,
    /// Base and overrides resolved, and the generation of the process they were resolved at.
    resolved: Option<(u64, Snapshot)>,
}

struct Override {
    guard: u64,
    setting: &'static Setting,
    entry: Entry,
}

impl Thread {
    fn top(&mut self) -> &mut Frame {
        self.entered.last_mut().unwrap_or(&mut self.own)
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Frame {
    const fn new(guard: u64, base: Option<Snapshot>) -> Self {
        Frame { guard, base, overrides: Vec::new(), resolved: None }
    }

    /// What is in force, if that is known and still true at `generation`.
    fn fresh(&self, generation: u64) -> Option<&Snapshot> {
        match (&self.resolved, &self.base) {
            (Some((at, snapshot)), base) => (*at == generation || base.is_some()).then_some(snapshot),
            (None, base) if self.overrides.is_empty() => base.as_ref(),
            _ => None,
        }
    }
}

/// What `read` makes of the configuration that is in force on this thread. `read` may clone, and no more: see rule 2.
pub(super) fn current<R>(read: impl Fn(&Snapshot) -> R) -> Result<R> {
    let generation = process::generation();
    match THREAD.try_with(|thread| thread.borrow_mut().top().fresh(generation).map(&read)) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => resolve().map(|snapshot| read(&snapshot)),
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

/// An override that ends when this guard is dropped.
///
/// It belongs to the thread that opened it. Several may be open at once and be dropped in any order, also by a panic: each undoes
/// its own override and leaves the others as they are.
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
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if there is no setting `key`, or it cannot be `value`. The guard is
    /// dropped then, and what it had overridden is undone.
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
            frame.resolved.take()
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
                    stale.extend(frame.resolved.take());
                }
            }
            (ended, stale)
        });
        drop(undone);
    }
}

/// Keeps a [`Snapshot`] in force on the thread that entered it, until it is dropped.
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

pub(super) fn enter(snapshot: &Snapshot) -> Entered {
    let base = snapshot.clone();
    let guard = THREAD.try_with(|thread| {
        let mut thread = thread.borrow_mut();
        let guard = thread.number();
        thread.entered.push(Frame::new(guard, Some(base)));
        guard
    });
    Entered { guard: guard.unwrap_or(0), of_this_thread: PhantomData }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = THREAD.try_with(|thread| {
            let entered = &mut thread.borrow_mut().entered;
            // Guards are nearly always dropped in turn, so this looks at one frame.
            let index = entered.iter().rposition(|frame| frame.guard == self.guard)?;
            Some(entered.remove(index))
        });
        drop(left);
    }
}
