//! One task as it lies in memory.
//!
//! A [`Node`] is `{ header, function, arguments }` in one piece of memory; arguments hold the handles of the tasks they come from. Its
//! [`Header`] is all that untyped code sees: a count of handles, a stamp for [`gather`](super::gather), and the [`Kind`], which is
//! one static per type of function and arguments. A node is a recipe: it holds no result, never changes once it is shared, and can
//! be computed again, as part of any graph, by several threads at once.
//!
//! # What is always true
//!
//! 1. A [`Task`] owns one count of its node; the last one to go frees it. A [`TaskRef`] owns nothing: whoever keeps one keeps a
//!    handle that reaches the node alive beside it.
//! 2. A node was made from the types its kind was made from, so the kind's functions may be called on it.
//! 3. `epoch` and `id` are used under the lock of `gather`. Once the count is 0 nobody gathers or counts the node any more, and the
//!    space of `handles` and `id` links the list of nodes to free. So a chain of any length is dropped without recursion and without
//!    allocating.
//! 4. Options sit behind the kind: a task with options has a private copy of its kind, with the options after it. Tasks without
//!    options pay nothing for them.

#![expect(
    unsafe_code,
    reason = "thin, counted, type-erased nodes; `Arc<dyn Task>` and safe cells cost 11 to 18 times the run time"
)]

use super::chunk::{self, Freed, Place};
use super::crossing::{Encoded, TaskCode, ValueCode};
use super::value::Cell;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{CodecError, Encoder};
use std::alloc::Layout;
use std::any::{Any, TypeId};
use std::cell::Cell as StdCell;
use std::error::Error as StdError;
use std::fmt;
use std::process::abort;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};
use std::time::Duration;

/// Why a call of a task's function gave no value. Panics are not among these: they unwind.
pub(crate) type CallError = Box<dyn StdError + Send + Sync>;

/// Calls the task's function: inputs from their cells, the value into the task's own, inputs released.
///
/// The arguments are the node, the cells of the run, where the ids of the node's inputs start, the task's id, and whether the inputs
/// must survive (the call may be repeated): then owned inputs are cloned and nothing is released.
pub(crate) type CallFn = unsafe fn(TaskRef, &[Cell], *const u32, u32, bool) -> Option<Box<CallError>>;

/// The argument that could not be encoded or decoded, counted from 0, and why.
pub(crate) type ArgumentError = (usize, CodecError);

/// What all tasks with the same types of function, arguments and value have in common.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) call: CallFn,
    /// Lists the tasks that the arguments come from, in the order in which the call reads them.
    pub(crate) visit_inputs: unsafe fn(TaskRef, &mut Vec<TaskRef>),
    /// Lets go of the inputs without a call.
    pub(crate) release_inputs: unsafe fn(TaskRef, &[Cell], *const u32),
    /// The size of the type of the task's value.
    pub(crate) value_bytes: usize,
    /// Drops a value of the task's type; `None` if there is nothing to do.
    pub(crate) drop_value: Option<unsafe fn(&Cell)>,
    /// For a value that belongs to the node: a `fn(&T) -> T`.
    pub(crate) clone_value: Option<*const ()>,
    /// Writes the arguments, but not the values that come from tasks.
    pub(crate) write_args: unsafe fn(TaskRef, &mut Encoder<'_>) -> Result<(), ArgumentError>,
    /// Adds a few words on each plain argument, for pictures.
    pub(crate) describe_args: unsafe fn(TaskRef, &mut Vec<String>),
    /// How another process calls the task; `None` for one that stays in this process.
    pub(crate) code: Option<&'static CodeDescriptor<TaskCode>>,
    /// How the value crosses to another process; `None` for one that stays in this process.
    pub(crate) value_code: Option<&'static CodeDescriptor<ValueCode>>,
    /// Drops the body.
    pub(crate) drop_body: unsafe fn(TaskRef),
    /// Of the node.
    pub(crate) layout: Layout,
    pub(crate) type_id: fn() -> TypeId,
    pub(crate) type_name: fn() -> &'static str,
    /// Whether the task has no function but a value.
    pub(crate) is_value: bool,
    /// What is behind a value that comes from elsewhere and may not be there yet; `None` for all others.
    pub(crate) awaited: Option<for<'a> unsafe fn(&'a TaskRef) -> &'a dyn Awaited>,
    /// Whether the function captures state, which cannot be compared.
    pub(crate) captures: bool,
    /// Whether this is the private copy of a task with [`Options`].
    pub(crate) has_options: bool,
}

/// A value that comes from elsewhere, such as the result of a future.
pub(crate) trait Awaited: Send + Sync {
    /// Whether there is a value, or will never be one.
    fn is_settled(&self) -> bool;

    /// The value as it crosses to another process, if that is how it is kept.
    fn encoded(&self) -> Option<Arc<dyn Encoded>>;

    /// Keeps it in that form too, for the next time.
    fn keep(&self, value: Arc<dyn Encoded>);

    /// Lends what the value comes from to those who know its type.
    fn with_source(&self, look: &mut dyn FnMut(&dyn Any));
}

// SAFETY: `clone_value` is the address of a function.
unsafe impl Sync for Kind {}
// SAFETY: as above.
unsafe impl Send for Kind {}

/// What a user asked for one task.
#[derive(Clone, Default, Debug)]
pub(crate) struct Options {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) retries: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority: i32,
    /// Tasks that must finish before this one starts.
    pub(crate) after: Vec<Task>,
    /// The encoding of the plain arguments of a pure task.
    pub(crate) pure: Option<Box<[u8]>>,
    /// What it takes of its worker while it runs, and how much. This and the next are for clusters.
    pub(crate) resources: Vec<(Arc<str>, f64)>,
    /// The names of the workers that may run it; any, if there are none.
    pub(crate) workers: Vec<Arc<str>>,
}

impl Options {
    /// Whether the engine has to do more than call the function once.
    pub(crate) fn changes_the_call(&self) -> bool {
        self.retries > 0 || self.timeout.is_some()
    }

    /// Takes so much of a resource; the last that is said of one counts.
    pub(crate) fn take(&mut self, name: &str, amount: f64) {
        self.resources.retain(|(other, _)| &**other != name);
        self.resources.push((name.into(), amount));
    }

    /// Whether not every worker of a cluster may run it.
    pub(crate) fn needs_a_certain_worker(&self) -> bool {
        !(self.resources.is_empty() && self.workers.is_empty())
    }
}

#[repr(C)]
struct KindWithOptions {
    kind: Kind,
    options: Options,
}

/// The bits of `Header::epoch` that are the epoch. A million gathers a second use them up in nine years.
const EPOCH: u64 = (1 << 48) - 1;

/// The untyped beginning of every node.
pub(crate) struct Header {
    handles: AtomicU32,
    /// The number that the last gather gave to the node, valid if `epoch` is that gather's.
    id: AtomicU32,
    /// The upper 16 bits are the node's [`Place`].
    epoch: AtomicU64,
    kind: NonNull<Kind>,
}

#[repr(C)]
pub(crate) struct Node<B> {
    header: Header,
    /// The function and its arguments, or a value.
    pub(crate) body: B,
}

/// A task somebody else keeps alive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct TaskRef(NonNull<Header>);

// SAFETY: a header is only counted, stamped under a lock, and read; the bodies are `Send + Sync` by the bounds of `Task::new`.
unsafe impl Send for TaskRef {}
// SAFETY: as above.
unsafe impl Sync for TaskRef {}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskRef({:p})", self.0)
    }
}

impl TaskRef {
    #[inline(always)]
    fn header(&self) -> &Header {
        // SAFETY: whoever keeps a `TaskRef` keeps the node alive (rule 1).
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn kind(&self) -> &Kind {
        // SAFETY: a kind is static, or lives as long as its node.
        unsafe { self.header().kind.as_ref() }
    }

    /// # Safety
    /// The node was made by [`Task::new`] with a body of this type.
    #[inline(always)]
    pub(crate) unsafe fn body<'a, B>(self) -> &'a B {
        // SAFETY: the caller's contract; `Node` is `repr(C)`, so the header is at its start.
        unsafe { &self.0.cast::<Node<B>>().as_ref().body }
    }

    /// What is behind the value of a task that comes from elsewhere.
    pub(crate) fn awaited(&self) -> Option<&dyn Awaited> {
        // SAFETY: the kind is the task's own, and whoever keeps a `TaskRef` keeps the node alive (rule 1).
        self.kind().awaited.map(|awaited| unsafe { awaited(self) })
    }

    pub(crate) fn options(&self) -> Option<&Options> {
        // SAFETY: a kind that says so is the beginning of a `KindWithOptions` (rule 4).
        self.kind().has_options.then(|| unsafe { &self.header().kind.cast::<KindWithOptions>().as_ref().options })
    }

    /// The number given in gather `epoch`, if it has got there.
    #[inline(always)]
    pub(crate) fn stamp(&self, epoch: u64) -> Option<u32> {
        let header = self.header();
        (header.epoch.load(Relaxed) & EPOCH == epoch).then(|| header.id.load(Relaxed))
    }

    #[inline(always)]
    pub(crate) fn set_stamp(&self, epoch: u64, id: u32) {
        let header = self.header();
        header.epoch.store(header.epoch.load(Relaxed) & !EPOCH | epoch, Relaxed);
        header.id.store(id, Relaxed);
    }

    /// A handle of one's own.
    pub(crate) fn to_task(self) -> Task {
        self.header().add_handle();
        Task(self)
    }
}

impl Header {
    #[inline(always)]
    fn add_handle(&self) {
        // Relaxed: a new handle is made from one that exists, as in `Arc`.
        if self.handles.fetch_add(1, Relaxed) > u32::MAX / 2 {
            // Two thousand million handles of one task: most likely leaked ones. Counting on would free a node in use.
            abort();
        }
    }
}

/// A handle to a task whose value's type is not known.
pub(crate) struct Task(TaskRef);

impl Task {
    /// # Safety
    /// The functions and the layout of `kind` are right for a body of this type.
    #[inline(always)]
    pub(crate) unsafe fn new<B: Send + Sync + 'static>(kind: &'static Kind, body: B) -> Task {
        let (memory, place) = chunk::allocate(Layout::new::<Node<B>>());
        // SAFETY: the caller's contract; the memory is for this node.
        unsafe { Task::in_place(memory, place, kind, body) }
    }

    /// As [`Task::new`], for a task that is likely to outlive those made beside it.
    ///
    /// # Safety
    /// As [`Task::new`].
    pub(crate) unsafe fn new_alone<B: Send + Sync + 'static>(kind: &'static Kind, body: B) -> Task {
        let memory = chunk::allocate_alone(Layout::new::<Node<B>>());
        // SAFETY: the caller's contract; the memory is for this node.
        unsafe { Task::in_place(memory, 0, kind, body) }
    }

    /// # Safety
    /// As [`Task::new`]; the memory is for this node.
    #[inline(always)]
    unsafe fn in_place<B>(memory: NonNull<u8>, place: Place, kind: &'static Kind, body: B) -> Task {
        debug_assert_eq!(kind.layout, Layout::new::<Node<B>>());
        let header = Header {
            handles: AtomicU32::new(1),
            id: AtomicU32::new(0),
            epoch: AtomicU64::new(u64::from(place) << 48),
            kind: NonNull::from(kind),
        };
        let node = memory.cast::<Node<B>>();
        // SAFETY: the caller's contract.
        unsafe { node.write(Node { header, body }) };
        Task(TaskRef(node.cast()))
    }

    #[inline(always)]
    pub(crate) fn as_ref(&self) -> TaskRef {
        self.0
    }

    /// Lets the value of this task, which nobody shares yet, cross to other processes.
    pub(crate) fn set_value_code(&mut self, code: &'static CodeDescriptor<ValueCode>) {
        self.change_kind(|kind| kind.value_code = Some(code));
    }

    /// The options, to be changed; `None` if the task is shared already.
    pub(crate) fn options_mut(&mut self) -> Option<&mut Options> {
        Some(&mut self.private_kind()?.options)
    }

    /// Changes the kind of this task, which nobody shares yet, alone.
    pub(crate) fn change_kind(&mut self, change: impl FnOnce(&mut Kind)) {
        change(&mut self.private_kind().expect("nobody shares the task yet").kind);
    }

    fn private_kind(&mut self) -> Option<&mut KindWithOptions> {
        // Acquire: pairs with the release of the handles that are gone.
        if self.0.header().handles.load(Acquire) != 1 {
            return None;
        }
        // SAFETY: the only handle, and we have it by `&mut`.
        let header = unsafe { self.0.0.as_mut() };
        // SAFETY: a kind is static, or lives as long as its node.
        let kind = unsafe { *header.kind.as_ref() };
        if !kind.has_options {
            let private =
                Box::new(KindWithOptions { kind: Kind { has_options: true, ..kind }, options: Options::default() });
            header.kind = NonNull::from(Box::leak(private)).cast();
        }
        // SAFETY: by rule 4 the kind is the beginning of a `KindWithOptions`, which belongs to this node alone.
        Some(unsafe { header.kind.cast::<KindWithOptions>().as_mut() })
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Clone for Task {
    #[inline]
    fn clone(&self) -> Self {
        self.0.to_task()
    }
}

impl Drop for Task {
    #[inline]
    fn drop(&mut self) {
        let header = self.0.header();
        // The last handle needs no read-modify-write: nobody else can make or drop one.
        if header.handles.load(Acquire) != 1 {
            if header.handles.fetch_sub(1, Release) != 1 {
                return;
            }
            // Pairs with the `Release` of the other handles.
            fence(Acquire);
        }
        free(self.0);
    }
}

thread_local! {
    /// The first of the nodes that this thread has yet to free, null for none; `None` while it frees nothing. It has no destructor, so
    /// it works until the thread's end.
    static TO_FREE: StdCell<Option<*mut Header>> = const { StdCell::new(None) };
}

impl Header {
    /// Puts the node, whose count is 0, before others that are to be freed.
    fn link(&self, next: *mut Header) {
        let next = next.expose_provenance() as u64;
        self.handles.store(next as u32, Relaxed);
        self.id.store((next >> 32) as u32, Relaxed);
    }

    fn linked(&self) -> *mut Header {
        let next = u64::from(self.id.load(Relaxed)) << 32 | u64::from(self.handles.load(Relaxed));
        ptr::with_exposed_provenance_mut(next as usize)
    }
}

/// Frees a node, and the nodes whose last handle was among its arguments.
fn free(task: TaskRef) {
    if let Some(next) = TO_FREE.get() {
        // This is an argument of a node that is being freed further down the stack: leave it to that loop.
        task.header().link(next);
        TO_FREE.set(Some(task.0.as_ptr()));
        return;
    }
    TO_FREE.set(Some(ptr::null_mut()));
    // Goes on with the others if a captured value panics when it is dropped; a second panic aborts, as everywhere.
    struct Rest(Freed);
    impl Rest {
        fn drain(&mut self) {
            while let Some(node) = TO_FREE.get().and_then(NonNull::new) {
                let task = TaskRef(node);
                TO_FREE.set(Some(task.header().linked()));
                free_one(task, &mut self.0);
            }
        }
    }
    impl Drop for Rest {
        fn drop(&mut self) {
            self.drain();
            TO_FREE.set(None);
        }
    }
    let mut rest = Rest(Freed::new());
    free_one(task, &mut rest.0);
    rest.drain();
}

fn free_one(task: TaskRef, freed: &mut Freed) {
    let Kind { drop_body, layout, has_options, .. } = *task.kind();
    let place = (task.header().epoch.load(Relaxed) >> 48) as Place;
    // SAFETY: by rule 4; the options live until the end of this function, after the node.
    let _options = has_options.then(|| unsafe { Box::from_raw(task.header().kind.cast::<KindWithOptions>().as_ptr()) });
    // Gives the memory back also if dropping the body panics.
    struct Memory<'f>(&'f mut Freed, NonNull<u8>, Layout, Place);
    impl Drop for Memory<'_> {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout and place, and the body is gone.
            unsafe { self.0.free(self.1, self.2, self.3) };
        }
    }
    let _memory = Memory(freed, task.0.cast(), layout, place);
    // SAFETY: the count is 0, so this is the only access, and `drop_body` is right for this node (rule 2).
    unsafe { drop_body(task) };
}

/// What a [`Kind`] keeps to drop the body of its nodes.
///
/// # Safety
/// The node was made by [`Task::new`] with a body of this type, and nobody else will touch it.
pub(crate) unsafe fn drop_body<B>(task: TaskRef) {
    // SAFETY: the caller's contract. A header needs no dropping.
    unsafe { ptr::drop_in_place(&raw mut (*task.0.cast::<Node<B>>().as_ptr()).body) };
}

/// The layout of a node with this body.
pub(crate) const fn layout<B>() -> Layout {
    Layout::new::<Node<B>>()
}
