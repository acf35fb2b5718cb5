//! Where the value of a task stays between the task that made it and its readers.
//!
//! A [`Cell`] has room for one value of any type and does not know the type; the functions of a task, compiled for its types, do.
//! Values of up to 24 bytes (numbers, `Vec`, `String`, `Arc`) lie inside, larger ones in a box. Two kinds of task share the type
//! of a value: the one that makes it and those that read it, both built from a `Delayed<T>` of the same `T`.
//!
//! # What is always true
//!
//! 1. A cell is written at most once in a run, by its own task, before that task is announced as finished; it is read only by
//!    tasks that were announced to after that. The engine's counters carry the ordering.
//! 2. `readers` is the number of argument edges and outputs that have not yet let go. Who lets go last owns the value: it moves
//!    it out or drops it, and leaves `readers` at 0.
//! 3. A type that needs no release (no drop glue, and fits inside) is never counted: `readers` then stays as it was, and its
//!    value is only ever read or cloned in place.
//! 4. An external value belongs to its task's node and outlives the run; it is read or cloned, never moved or dropped.

#![expect(
    unsafe_code,
    reason = "typed values in untyped cells; a boxed `dyn Any` per value cost 60 to 110 ns per task"
)]

use crate::primitives::{AcqRel, Acquire, AtomicU32, Relaxed};
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::{MaybeUninit, align_of, needs_drop, size_of};

type Slot = [MaybeUninit<u64>; 3];

/// The number of readers that have not yet let go of one value.
pub(crate) struct Readers(AtomicU32);

impl Readers {
    pub(crate) fn new(count: u32) -> Self {
        Readers(AtomicU32::new(count))
    }

    /// Whether the caller, who is one of the readers, is the only one left.
    #[inline(always)]
    pub(crate) fn is_last(&self) -> bool {
        // Acquire: pairs with the release half of `leave`, so that what the others read happened before the value is moved.
        self.0.load(Acquire) == 1
    }

    /// Whether nobody will ever read the value (again).
    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    /// The only reader takes the value with it.
    #[inline(always)]
    pub(crate) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    /// One reader lets go; true for the last, who then owns the value.
    #[inline(always)]
    pub(crate) fn leave(&self) -> bool {
        // The last reader needs no read-modify-write: nobody else can change the count any more.
        if self.is_last() {
            self.clear();
            return true;
        }
        // AcqRel: the release half publishes our reading, the acquire half of the last one sees everybody's.
        self.0.fetch_sub(1, AcqRel) == 1
    }
}

/// States of a cell. `EMPTY` also stands for a full cell of a type that needs no release.
const EMPTY: u32 = 0;
const FULL: u32 = 1;
const EXTERNAL: u32 = 2;
const FAILED: u32 = 3;

/// Room for the value of one task in one run.
#[repr(C)]
pub(crate) struct Cell {
    readers: Readers,
    state: AtomicU32,
    slot: UnsafeCell<Slot>,
}

// SAFETY: the slot is written once, before anyone else may look (rule 1), and values are `Send + Sync` by the bounds on the
// functions that make them.
unsafe impl Sync for Cell {}
// SAFETY: as above; a cell owns its value.
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

    /// Makes the cell ready for another run. It holds no value, or one that needs no release.
    pub(crate) fn reset(&mut self, num_readers: u32) {
        debug_assert!(self.state.load(Relaxed) != FULL || self.readers.is_none(), "the value was taken or dropped");
        *self = Cell::new(num_readers);
    }

    /// Stores the task's value; drops it at once if nobody is going to read it.
    ///
    /// # Safety
    /// The caller is the cell's task, for the first time in this run or after [`Cell::discard`] (rule 1).
    #[inline(always)]
    pub(crate) unsafe fn put<T>(&self, value: T) {
        if needs_release::<T>() && self.readers.is_none() {
            return drop(value);
        }
        let slot = self.slot.get();
        // SAFETY: the caller has the sole right to write; `fits` checks size and alignment for the value itself, and a pointer
        // always fits.
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

    /// Lets readers see a value that belongs to the task's node.
    ///
    /// # Safety
    /// As [`Cell::put`]; `value` outlives every access to the cell in this run.
    pub(crate) unsafe fn put_external<T>(&self, value: *const T) {
        // SAFETY: a pointer fits; the caller has the sole right to write.
        unsafe { self.slot.get().cast::<*const T>().write(value) };
        self.state.store(EXTERNAL, Relaxed);
    }

    /// Marks the cell as one that will have no value, because `cause` failed.
    ///
    /// # Safety
    /// As [`Cell::put`], and the cell is empty.
    pub(crate) unsafe fn put_failure(&self, cause: u32) {
        // SAFETY: a `u32` fits; the caller has the sole right to write.
        unsafe { self.slot.get().cast::<u32>().write(cause) };
        self.state.store(FAILED, Relaxed);
    }

    /// The task whose failure left this cell empty.
    ///
    /// Call it after the cell's task was announced as finished (rule 1).
    pub(crate) fn failure(&self) -> Option<u32> {
        // SAFETY: a cell in state FAILED holds what `put_failure` wrote.
        (self.state.load(Relaxed) == FAILED).then(|| unsafe { self.slot.get().cast::<u32>().read() })
    }

    fn is_external(&self) -> bool {
        self.state.load(Relaxed) == EXTERNAL
    }

    /// Whether a value that is there lies in the cell.
    #[inline(always)]
    pub(crate) fn has_own_value(&self) -> bool {
        self.state.load(Relaxed) < EXTERNAL
    }

    /// # Safety
    /// The cell was filled with a `T`, its task was announced as finished, and the caller is a reader that has not let go; the
    /// reference is dead before it does.
    #[inline(always)]
    pub(crate) unsafe fn peek<T>(&self) -> &T {
        let slot = self.slot.get();
        // SAFETY: by the contract above the slot holds a `T`, a box of one, or a pointer to an external one.
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
    /// As [`Cell::peek`]; the value is not external, the caller is the last reader, and nobody reads it afterwards.
    #[inline(always)]
    pub(crate) unsafe fn take<T>(&self) -> T {
        debug_assert_ne!(self.state.load(Relaxed), EXTERNAL, "an external value stays where it is");
        let slot = self.slot.get();
        // SAFETY: by the contract above.
        unsafe { if fits::<T>() { slot.cast::<T>().read() } else { *Box::from_raw(slot.cast::<*mut T>().read()) } }
    }

    /// The value for a reader that wants it as its own: moved if this is the last reader and `keep` is false, else cloned.
    ///
    /// # Safety
    /// As [`Cell::peek`]. The reader lets go with [`Cell::release_owned`].
    #[inline(always)]
    pub(crate) unsafe fn own<T: Clone>(&self, keep: bool) -> T {
        if needs_release::<T>() && !keep && self.readers.is_last() && self.state.load(Relaxed) == FULL {
            self.readers.clear();
            // SAFETY: the last reader moves the value out, and `readers` says so.
            return unsafe { self.take() };
        }
        // SAFETY: the caller's contract.
        unsafe { self.peek::<T>().clone() }
    }

    /// One reader lets go of the value.
    ///
    /// # Safety
    /// The caller counts in `readers`, the cell's task was announced as finished, and the cell holds a `T`, a failure, or nothing.
    #[inline(always)]
    pub(crate) unsafe fn release<T>(&self) {
        if needs_release::<T>() && self.readers.leave() && self.state.load(Relaxed) == FULL {
            // SAFETY: `leave` made us the owner, and the cell is full.
            drop(unsafe { self.take::<T>() });
        }
    }

    /// As [`Cell::release`], with what drops a value of the type.
    ///
    /// # Safety
    /// As [`Cell::release`]; the type needs releasing, and `drop_value` is that of the cell's task.
    pub(crate) unsafe fn release_with(&self, drop_value: unsafe fn(&Cell)) {
        if self.readers.leave() && self.state.load(Relaxed) == FULL {
            // SAFETY: `leave` made us the owner, and the cell is full.
            unsafe { drop_value(self) };
        }
    }

    /// One reader that called [`Cell::own`], or meant to, lets go.
    ///
    /// # Safety
    /// As [`Cell::release`].
    #[inline(always)]
    pub(crate) unsafe fn release_owned<T>(&self) {
        // At 0 we took the value ourselves: our own count would have kept it above otherwise.
        if needs_release::<T>() && !self.readers.is_none() {
            // SAFETY: the caller's contract.
            unsafe { self.release::<T>() }
        }
    }

    /// Takes the value for an output: the last asker gets the value itself, the others a clone. `None` if a clone is needed and
    /// `clone` is not there.
    ///
    /// # Safety
    /// The run is over, the cell holds a `T`, the caller is an output that has not taken it yet, and without `clone` it is the
    /// only output that asks for this cell.
    #[inline(always)]
    pub(crate) unsafe fn take_output<T>(&self, clone: Option<fn(&T) -> T>) -> Option<T> {
        // Readers of a type that needs no release are not counted (rule 3).
        let is_last = if needs_release::<T>() { self.readers.is_last() } else { clone.is_none() };
        if is_last && !self.is_external() {
            self.readers.clear();
            // SAFETY: the last reader.
            return Some(unsafe { self.take() });
        }
        // SAFETY: a reader that has not let go.
        let copy = clone.map(|clone| clone(unsafe { self.peek::<T>() }));
        // SAFETY: this output lets go, once.
        unsafe { self.release::<T>() };
        copy
    }

    /// Takes back the value of a task that is going to be run again or has failed after all.
    ///
    /// # Safety
    /// The caller is the cell's task and has not been announced as finished.
    pub(crate) unsafe fn discard(&self, drop_value: Option<unsafe fn(&Cell)>) {
        if self.state.load(Relaxed) == FULL {
            self.state.store(EMPTY, Relaxed);
            if let Some(drop_value) = drop_value {
                // SAFETY: the cell was full, and nobody else looks.
                unsafe { drop_value(self) };
            }
        }
    }

    /// Says anew who has not yet let go of the value.
    ///
    /// # Safety
    /// No task of the run is running and none will, the cell's value has not been taken, and `count` readers will let go of it.
    pub(crate) unsafe fn set_readers(&self, count: u32) {
        self.readers.0.store(count, Relaxed);
    }

    /// Drops the value if there is one that nobody took.
    ///
    /// # Safety
    /// No task of the run is running and none will; `drop_value` is that of the cell's task.
    pub(crate) unsafe fn sweep(&self, drop_value: unsafe fn(&Cell)) {
        if self.state.load(Relaxed) == FULL && !self.readers.is_none() {
            self.readers.clear();
            // SAFETY: full, and nobody took it (rule 2).
            unsafe { drop_value(self) };
        }
    }
}

/// What a task's [`Kind`](super::node::Kind) keeps to drop a value of its type.
///
/// # Safety
/// The cell holds a `T` that nobody else will touch.
pub(crate) unsafe fn drop_value_of<T>(cell: &Cell) {
    // SAFETY: the caller's contract.
    drop(unsafe { cell.take::<T>() });
}

#[cfg(all(test, loom))]
mod models {
    use super::Readers;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU32, Ordering};
    use loom::thread;

    struct Value {
        readers: Readers,
        value: UnsafeCell<u32>,
        released: AtomicU32,
    }

    fn read(value: &Value) {
        // SAFETY: a reader that has not let go.
        value.value.with(|v| assert_eq!(unsafe { *v }, 7));
    }

    fn end(value: &Value) {
        // SAFETY: the caller owns the value now.
        value.value.with_mut(|v| unsafe { assert_eq!(std::mem::replace(&mut *v, 0), 7) });
        value.released.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn a_value_with_three_readers_is_moved_or_dropped_exactly_once() {
        loom::model(|| {
            let value =
                Arc::new(Value { readers: Readers::new(3), value: UnsafeCell::new(7), released: AtomicU32::new(0) });
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
            // The owner: moves if it is the last, else reads (clones) and lets go.
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
