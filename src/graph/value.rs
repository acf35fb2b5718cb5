//! The cell that holds a task's value for its readers.
//!
//! A [`Cell`] has room for one value of any type. It does not know the type; the functions that are
//! compiled for a task's types do. Values of up to 24 bytes (numbers, `Vec`, `String`, `Arc`) lie
//! inside, larger ones in a box. The task that makes a value and the tasks that read it agree on
//! its type, since both are built from a `Delayed<T>` of the same `T`.
//!
//! # What is always true
//!
//! 1. A cell is written at most once in a run (again only after [`Cell::discard`]), by its own
//!    task, before that task is announced as finished. Only tasks and outputs that learned of the
//!    announcement read it. The engine's counters carry the ordering.
//! 2. `readers` is the number of argument edges and outputs that have not yet released the value.
//!    The last of them owns the value: it moves the value out or drops it, and leaves `readers` at
//!    0.
//! 3. Readers of a type that needs no release (no drop glue, and fits inside) are not counted:
//!    `readers` keeps its initial value, and the value is only read or cloned in place. The
//!    exception is a last output, which copies the bytes out.
//! 4. An external value belongs to its task's node and outlives the run. It is read or cloned,
//!    never moved or dropped.
//! 5. A failed cell holds an error only if some task takes errors in place of values. Such an error
//!    counts its readers itself, whatever the type of the value: all dependents, and each
//!    [leaves](Cell::leave_failure) it once. The last of them drops it.

#![expect(
    unsafe_code,
    reason = "typed values in untyped cells; a boxed `dyn Any` per value cost 60 to 110 ns per task"
)]

use crate::error::Error;
use crate::primitives::{AcqRel, Acquire, AtomicU32, Relaxed};
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::{MaybeUninit, align_of, needs_drop, size_of};

type Slot = [MaybeUninit<u64>; 3];

/// The number of readers that have not yet released one value.
pub(crate) struct Readers(AtomicU32);

impl Readers {
    pub(crate) fn new(count: u32) -> Self {
        Readers(AtomicU32::new(count))
    }

    /// Whether the caller, which is one of the readers, is the only one left.
    #[inline(always)]
    pub(crate) fn is_last(&self) -> bool {
        // Acquire: pairs with the release half of `leave`, so that the reads of the others happen
        // before the value is moved.
        self.0.load(Acquire) == 1
    }

    /// Whether no reader is left.
    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    /// The only reader moves the value out.
    #[inline(always)]
    pub(crate) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    /// One reader releases the value. Returns true for the last, which then owns the value.
    #[inline(always)]
    pub(crate) fn leave(&self) -> bool {
        // The last reader needs no read-modify-write: no other thread can change the count any
        // more.
        if self.is_last() {
            self.clear();
            return true;
        }
        // AcqRel: the release half publishes this reader's reads, and the acquire half of the last
        // reader sees all of them.
        self.0.fetch_sub(1, AcqRel) == 1
    }
}

/// States of a cell. A full cell of a type that needs no release stays `EMPTY`.
const EMPTY: u32 = 0;
const FULL: u32 = 1;
const EXTERNAL: u32 = 2;
const FAILED: u32 = 3;

/// The content of a failed cell.
struct Failure {
    /// The task whose failure left the cell without a value.
    cause: u32,
    /// The readers that have not left the error (rule 5); 0 without an error.
    readers: Readers,
    /// Initialized while `readers` is not 0.
    error: MaybeUninit<Error>,
}

const _: () = assert!(fits::<Failure>(), "a failure lies inside its cell");

/// Room for the value of one task in one run.
#[repr(C)]
pub(crate) struct Cell {
    readers: Readers,
    state: AtomicU32,
    slot: UnsafeCell<Slot>,
}

// SAFETY: the slot is written before the announcement and read after it (rule 1), or accessed by
// its last reader alone (rule 2). Values are `Send + Sync` by the bounds on the functions that make
// them.
unsafe impl Sync for Cell {}
// SAFETY: a cell owns its value, which is `Send`.
unsafe impl Send for Cell {}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("readers", &self.readers.0).field("state", &self.state).finish_non_exhaustive()
    }
}

#[inline(always)]
const fn fits<T>() -> bool {
    size_of::<T>() <= size_of::<Slot>() && align_of::<T>() <= align_of::<Slot>()
}

/// Whether a value of this type must be dropped or unboxed when its last reader is done.
#[inline(always)]
pub(crate) const fn needs_release<T>() -> bool {
    needs_drop::<T>() || !fits::<T>()
}

impl Cell {
    #[inline]
    pub(crate) fn new(num_readers: u32) -> Self {
        Cell {
            readers: Readers::new(num_readers),
            state: AtomicU32::new(EMPTY),
            slot: UnsafeCell::new([MaybeUninit::uninit(); 3]),
        }
    }

    /// Prepares the cell for another run. It holds no value, or one that needs no release.
    pub(crate) fn reset(&mut self, num_readers: u32) {
        debug_assert!(self.state.load(Relaxed) != FULL || self.readers.is_none(), "the value was taken or dropped");
        *self = Cell::new(num_readers);
    }

    /// Stores the task's value, or drops it if it has no readers.
    ///
    /// # Safety
    /// The caller is the cell's task, for the first time in this run or after [`Cell::discard`]
    /// (rule 1).
    #[inline(always)]
    pub(crate) unsafe fn put<T>(&self, value: T) {
        if needs_release::<T>() && self.readers.is_none() {
            return drop(value);
        }
        let slot = self.slot.get();
        // SAFETY: the caller is the cell's task, and no one else accesses the slot yet (rule 1).
        // `fits` checks size and alignment for the value itself, and a pointer always fits.
        unsafe {
            if fits::<T>() {
                slot.cast::<T>().write(value);
            } else {
                slot.cast::<*mut T>().write(Box::into_raw(Box::new(value)));
            }
        }
        if needs_release::<T>() {
            self.state.store(FULL, Relaxed);
        }
    }

    /// Makes a value that belongs to the task's node readable through the cell.
    ///
    /// # Safety
    /// As [`Cell::put`]; `value` outlives every access to the cell in this run.
    pub(crate) unsafe fn put_external<T>(&self, value: *const T) {
        // SAFETY: a pointer fits, and no one else accesses the slot yet (rule 1).
        unsafe { self.slot.get().cast::<*const T>().write(value) };
        self.state.store(EXTERNAL, Relaxed);
    }

    /// Marks that the cell will have no value, because task `cause` failed. With an error, it is
    /// kept for `num_readers`, each of which calls [`Cell::leave_failure`].
    ///
    /// # Safety
    /// As [`Cell::put`], and the cell is empty.
    pub(crate) unsafe fn put_failure(&self, cause: u32, error: Option<Error>, num_readers: u32) {
        // SAFETY: the caller alone uses the cell. A call that unwound may have left a failure.
        unsafe { self.sweep_failure() };
        let error = error.filter(|_| num_readers > 0);
        let readers = Readers::new(if error.is_some() { num_readers } else { 0 });
        let error = error.map_or_else(MaybeUninit::uninit, MaybeUninit::new);
        // SAFETY: a failure fits, and no one else accesses the slot yet (rule 1).
        unsafe { self.slot.get().cast::<Failure>().write(Failure { cause, readers, error }) };
        self.state.store(FAILED, Relaxed);
    }

    /// The failure in the cell of a failed task. The task must have been announced as finished
    /// (rule 1), or be the caller's.
    fn failed(&self) -> Option<&Failure> {
        // SAFETY: a cell in state FAILED holds the failure that `put_failure` wrote. Only its
        // counter and its error change, by the rules for readers.
        (self.state.load(Relaxed) == FAILED).then(|| unsafe { &*self.slot.get().cast::<Failure>() })
    }

    /// The task whose failure left this cell empty.
    ///
    /// The cell's task must have been announced as finished (rule 1).
    pub(crate) fn failure(&self) -> Option<u32> {
        self.failed().map(|failure| failure.cause)
    }

    /// Borrows the value, or the error of a task that has failed.
    ///
    /// # Safety
    /// As [`Cell::peek`], but the cell may hold a failure with an error instead of a `T`. The
    /// caller is a reader that has not left the failure, and does not use the error after it has.
    #[inline]
    pub(crate) unsafe fn outcome<T>(&self) -> Result<&T, &Error> {
        if self.state.load(Relaxed) != FAILED {
            // SAFETY: the cell has not failed, so it holds a `T`, as the caller states.
            return Ok(unsafe { self.peek() });
        }
        // SAFETY: the caller is a reader that has not left the failure.
        Err(unsafe { self.error() }.expect("a failure that is read has an error"))
    }

    /// The error that a failed cell keeps for its readers.
    ///
    /// # Safety
    /// The cell's task was announced as finished. If it has failed, the caller is a reader that has
    /// not left the failure, and does not use the error after it has.
    pub(crate) unsafe fn error(&self) -> Option<&Error> {
        let failure = self.failed()?;
        // SAFETY: while a reader is left, the error is there (rule 5). The caller is one, unless
        // there was no error from the start.
        (!failure.readers.is_none()).then(|| unsafe { failure.error.assume_init_ref() })
    }

    /// One reader does not need the failure any more, if the cell has failed. The last drops the
    /// error.
    ///
    /// # Safety
    /// The cell's task was announced as finished. If it has failed, the caller is a reader that has
    /// not left the failure before.
    pub(crate) unsafe fn leave_failure(&self) {
        if let Some(failure) = self.failed()
            && !failure.readers.is_none()
            && failure.readers.leave()
        {
            // SAFETY: `leave` made the caller the owner of the error (rule 5).
            drop(unsafe { failure.error.assume_init_read() });
        }
    }

    /// Drops the error of a failed cell, if a reader has not left it.
    ///
    /// # Safety
    /// No task of the run is running or will run.
    pub(crate) unsafe fn sweep_failure(&self) {
        if let Some(failure) = self.failed()
            && !failure.readers.is_none()
        {
            failure.readers.clear();
            // SAFETY: the error is there, because a reader was left, and none will read it.
            drop(unsafe { failure.error.assume_init_read() });
        }
    }

    fn is_external(&self) -> bool {
        self.state.load(Relaxed) == EXTERNAL
    }

    /// Whether the value, if there is one, lies in the cell.
    #[inline(always)]
    pub(crate) fn has_own_value(&self) -> bool {
        self.state.load(Relaxed) < EXTERNAL
    }

    /// Borrows the value.
    ///
    /// # Safety
    /// The cell was filled with a `T`, its task was announced as finished, and the caller is a
    /// reader that has not released the value. The reference is not used after the release.
    #[inline(always)]
    pub(crate) unsafe fn peek<T>(&self) -> &T {
        let slot = self.slot.get();
        // SAFETY: the cell was filled with a `T`, so the slot holds the `T`, a box of it, or a
        // pointer to an external one. It stays until this reader releases it (rules 2 and 4).
        unsafe {
            if self.state.load(Relaxed) == EXTERNAL {
                return &**slot.cast::<*const T>();
            }
            if fits::<T>() { &*slot.cast::<T>() } else { &**slot.cast::<*const T>() }
        }
    }

    /// Moves the value out.
    ///
    /// # Safety
    /// As [`Cell::peek`]; the value is not external, the caller is its last reader, and it is not
    /// read afterwards.
    #[inline(always)]
    pub(crate) unsafe fn take<T>(&self) -> T {
        debug_assert_ne!(self.state.load(Relaxed), EXTERNAL, "an external value stays where it is");
        let slot = self.slot.get();
        // SAFETY: the cell was filled with a `T` that is not external, so the slot holds the `T` or
        // a box of it. The last reader owns it.
        unsafe { if fits::<T>() { slot.cast::<T>().read() } else { *Box::from_raw(slot.cast::<*mut T>().read()) } }
    }

    /// An owned value for a reader: moved if this is the last reader and `keep` is false, otherwise
    /// cloned.
    ///
    /// # Safety
    /// As [`Cell::peek`]. The reader then calls [`Cell::release_owned`].
    #[inline(always)]
    pub(crate) unsafe fn own<T: Clone>(&self, keep: bool) -> T {
        if needs_release::<T>() && !keep && self.readers.is_last() && self.state.load(Relaxed) == FULL {
            self.readers.clear();
            // SAFETY: this is the last reader, the cell is full and so not external, and `readers`
            // is 0, so no one reads the value again.
            return unsafe { self.take() };
        }
        // SAFETY: the caller keeps the conditions of `peek`.
        unsafe { self.peek::<T>().clone() }
    }

    /// One reader releases the value.
    ///
    /// # Safety
    /// The caller counts in `readers`, the cell's task was announced as finished, and the cell
    /// holds a `T`, a failure, or nothing.
    #[inline(always)]
    pub(crate) unsafe fn release<T>(&self) {
        if needs_release::<T>() && self.readers.leave() && self.state.load(Relaxed) == FULL {
            // SAFETY: `leave` made the caller the owner (rule 2), and the cell is full.
            drop(unsafe { self.take::<T>() });
        }
    }

    /// As [`Cell::release`], with a function that drops a value of the type.
    ///
    /// # Safety
    /// As [`Cell::release`]; the type needs release, and `drop_value` belongs to the kind of the
    /// cell's task.
    pub(crate) unsafe fn release_with(&self, drop_value: unsafe fn(&Cell)) {
        if self.readers.leave() && self.state.load(Relaxed) == FULL {
            // SAFETY: `leave` made the caller the owner (rule 2), and the cell is full.
            unsafe { drop_value(self) };
        }
    }

    /// One reader of an owned value releases it, whether it has called [`Cell::own`] or not.
    ///
    /// # Safety
    /// As [`Cell::release`].
    #[inline(always)]
    pub(crate) unsafe fn release_owned<T>(&self) {
        // At 0 the caller has moved the value out: otherwise its own count would keep `readers`
        // above 0.
        if needs_release::<T>() && !self.readers.is_none() {
            // SAFETY: the caller keeps the conditions of `release`.
            unsafe { self.release::<T>() }
        }
    }

    /// Takes the value for an output: the last output gets the value itself, the others a clone.
    /// `None` if a clone is needed and there is no `clone`.
    ///
    /// # Safety
    /// The run is over, the cell holds a `T`, and the caller is an output that has not taken it
    /// yet. Without `clone`, it is the only output for this cell.
    #[inline(always)]
    pub(crate) unsafe fn take_output<T>(&self, clone: Option<fn(&T) -> T>) -> Option<T> {
        // Readers of a type that needs no release are not counted (rule 3).
        let is_last = if needs_release::<T>() { self.readers.is_last() } else { clone.is_none() };
        if is_last && !self.is_external() {
            self.readers.clear();
            // SAFETY: the cell holds a `T` that is not external, and this is its last reader. If
            // the type needs no release, it is the only output, and no task runs any more.
            return Some(unsafe { self.take() });
        }
        // SAFETY: this output is a reader that has not released the value.
        let copy = clone.map(|clone| clone(unsafe { self.peek::<T>() }));
        // SAFETY: this output counts in `readers`, and releases the value once.
        unsafe { self.release::<T>() };
        copy
    }

    /// Removes the value of a task that will run again or has failed after all.
    ///
    /// # Safety
    /// The caller is the cell's task, which was not announced as finished. `drop_value` belongs to
    /// its kind.
    pub(crate) unsafe fn discard(&self, drop_value: Option<unsafe fn(&Cell)>) {
        if self.state.load(Relaxed) == FULL {
            self.state.store(EMPTY, Relaxed);
            if let Some(drop_value) = drop_value {
                // SAFETY: the cell was full, and no one else accesses it before the announcement
                // (rule 1).
                unsafe { drop_value(self) };
            }
        }
    }

    /// Sets the number of readers that have not yet released the value, or left the failure.
    ///
    /// # Safety
    /// No task of the run is running or will run, the cell's value was not taken, and `count`
    /// readers, which is not 0, will release it.
    pub(crate) unsafe fn set_readers(&self, count: u32) {
        self.readers.0.store(count, Relaxed);
        if let Some(failure) = self.failed().filter(|failure| !failure.readers.is_none()) {
            failure.readers.0.store(count, Relaxed);
        }
    }

    /// Drops the value if there is one that was not taken.
    ///
    /// # Safety
    /// No task of the run is running or will run. `drop_value` belongs to the kind of the cell's
    /// task.
    pub(crate) unsafe fn sweep(&self, drop_value: unsafe fn(&Cell)) {
        if self.state.load(Relaxed) == FULL && !self.readers.is_none() {
            self.readers.clear();
            // SAFETY: the cell is full, and no reader took the value (rule 2).
            unsafe { drop_value(self) };
        }
    }
}

/// The `drop_value` of the [`Kind`](super::node::Kind)s with a value of this type.
///
/// # Safety
/// The cell holds a `T` that a task has put there, and no one else uses the value any more.
pub(crate) unsafe fn drop_value_of<T>(cell: &Cell) {
    // SAFETY: the cell holds a `T` of its own that no one else uses.
    drop(unsafe { cell.take::<T>() });
}

#[cfg(all(test, loom))]
mod models {
    use super::Readers;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU32, Ordering};
    use loom::thread;

    struct SharedValue {
        readers: Readers,
        value: UnsafeCell<u32>,
        released: AtomicU32,
    }

    fn read(value: &SharedValue) {
        // SAFETY: the caller is a reader that has not released the value.
        value.value.with(|v| assert_eq!(unsafe { *v }, 7));
    }

    fn end(value: &SharedValue) {
        // SAFETY: the caller owns the value.
        value.value.with_mut(|v| unsafe { assert_eq!(std::mem::replace(&mut *v, 0), 7) });
        value.released.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn a_value_with_three_readers_is_moved_or_dropped_exactly_once() {
        loom::model(|| {
            let value = Arc::new(SharedValue {
                readers: Readers::new(3),
                value: UnsafeCell::new(7),
                released: AtomicU32::new(0),
            });
            let borrowers: Vec<_> = (0..2)
                .map(|_| {
                    let value = Arc::clone(&value);
                    thread::spawn(move || {
                        read(&value);
                        if value.readers.leave() {
                            end(&value);
                        }
                    })
                })
                .collect();
            // The reader of an owned value moves it if it is the last, and otherwise clones and
            // releases it.
            if value.readers.is_last() {
                value.readers.clear();
                end(&value);
            } else {
                read(&value);
                if !value.readers.is_none() && value.readers.leave() {
                    end(&value);
                }
            }
            for borrower in borrowers {
                borrower.join().unwrap();
            }
            assert_eq!(value.released.load(Ordering::Relaxed), 1);
        });
    }
}
