//! The memory layout of one task.
//!
//! A [`Node`] is `{ header, function, arguments }` in one allocation; its arguments hold handles of
//! the tasks that they come from. Untyped code sees only the [`Header`]: a count of handles, a
//! stamp for [`gather`](super::gather), and the [`Kind`], which is one static per type of function
//! and arguments. A node is a recipe: it holds no result, never changes once it is shared, and can
//! be computed again, as part of any graph, by several threads at once.
//!
//! # What is always true
//!
//! 1. A [`Task`] owns one count of its node, and dropping the last one frees the node. A
//!    [`TaskRef`] owns nothing: its holder also holds a handle that keeps the node alive.
//! 2. A node's body has the type that the node's kind was made for. So a function of the kind may
//!    cast the body to that type.
//! 3. `epoch` and `id` are used under the lock of `gather`. Once the count is 0, no thread gathers
//!    or counts the node any more, and the space of `handles` and `id` links the list of nodes to
//!    free. So a chain of any length is dropped without recursion and without allocating.
//! 4. A task with options has a private copy of its kind, with the options behind it. Tasks without
//!    options pay nothing for them.
//!
//! # What the functions of a kind require
//!
//! A [`Kind`] holds function pointers that are compiled for one type of body and called by code
//! that does not know the type. Each states the conditions that its caller keeps, out of these:
//!
//! - **Own task**: the function comes from the kind of this task, and the node is alive during the
//!   call (rule 1). By rule 2 the body then has the type that the function expects.
//! - **Own ids**: `inputs` points to the ids of the task's inputs: one for each task that
//!   `visit_inputs` lists, in that order. Each of them, and the task's own id, is below
//!   `cells.len()`.
//! - **Finished inputs**: the cell of each input holds a value of the input's type or, if the call
//!   tolerates its failure, a failure with its error. That input was announced as finished.
//! - **Own cell**: only this caller may write the task's own cell in this run, and the cell is
//!   empty.
//! - **One release**: the task has not released its inputs in this run, and releases each of them
//!   once.

#![expect(
    unsafe_code,
    reason = "thin, counted, type-erased nodes; `Arc<dyn Task>` and safe cells cost 11 to 18 times the run time"
)]

use super::chunk::{self, ChunkOffset, FreedNodes};
use super::crossing::{Encoded, TaskCode, ValueCode};
use super::retry::{Backoff, RetryIf};
use super::value::Cell;
use crate::error::Result;
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

/// The error that a task's function returned. Panics unwind instead.
pub(crate) type CallError = Box<dyn StdError + Send + Sync>;

/// Calls a task's function: reads the inputs from their cells, writes the value to the task's own
/// cell, releases the inputs.
///
/// The arguments are the task, the cells of the run, the ids of the task's inputs, the task's id,
/// and whether to keep the inputs for another call. With `keep`, owned inputs are cloned and
/// nothing is released.
///
/// - `None`: the value is in the task's cell. Without `keep`, the inputs are released.
/// - An error: the cell is empty, and nothing is released.
/// - A panic: the cell may hold the value, and some inputs may be released. The caller then
///   releases none of them.
///
/// # Safety
/// Own task, own ids, finished inputs, own cell, and one release (see the [module](self)).
pub(crate) type CallFn = unsafe fn(TaskRef, &[Cell], *const u32, u32, bool) -> Option<Box<CallError>>;

/// The index of an argument that could not be encoded or decoded, and the reason.
pub(crate) type ArgumentError = (usize, CodecError);

/// The functions and constants of all tasks with the same types of function, arguments and value.
///
/// The [module](self) defines the conditions that the `# Safety` sections name.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) call: CallFn,
    /// Lists the tasks that the arguments come from, in the order in which the call reads them.
    ///
    /// # Safety
    /// Own task.
    pub(crate) visit_inputs: unsafe fn(TaskRef, &mut Vec<TaskRef>),
    /// Releases the inputs of a task whose call has not released them.
    ///
    /// # Safety
    /// Own task, own ids, and one release. Each input was announced as finished; its cell holds a
    /// value of the input's type, a failure, or nothing.
    pub(crate) release_inputs: unsafe fn(TaskRef, &[Cell], *const u32),
    /// The size of the value's type.
    pub(crate) value_bytes: usize,
    /// The size of a value with all that it owns, if its type can tell.
    ///
    /// # Safety
    /// As [`Cell::peek`].
    pub(crate) whole_bytes: unsafe fn(&Cell) -> Option<u64>,
    /// Drops a value of the task's type; `None` if the type needs no release.
    ///
    /// # Safety
    /// The cell holds a value that a task of this kind has put there, and no one else uses the
    /// value any more.
    pub(crate) drop_value: Option<unsafe fn(&Cell)>,
    /// For a value that belongs to the node: a `fn(&T) -> T`, where `T` is the value's type. A
    /// caller that casts it knows `T` from the handle of the task.
    pub(crate) clone_value: Option<*const ()>,
    /// Encodes the arguments, but not the values that come from tasks.
    ///
    /// # Safety
    /// Own task.
    pub(crate) write_args: unsafe fn(TaskRef, &mut Encoder<'_>) -> Result<(), ArgumentError>,
    /// Adds a short text for each plain argument, for pictures.
    ///
    /// # Safety
    /// Own task.
    pub(crate) describe_args: unsafe fn(TaskRef, &mut Vec<String>),
    /// Adds for each input, in the order of `visit_inputs`, whether the call takes its error in
    /// place of its value; `None` if no input has a handle like that.
    ///
    /// # Safety
    /// Own task.
    pub(crate) tolerates: Option<unsafe fn(TaskRef, &mut Vec<bool>)>,
    /// Calls the task in another process; `None` for a task that stays in this process.
    pub(crate) code: Option<&'static CodeDescriptor<TaskCode>>,
    /// Sends the value to another process; `None` for a value that stays in this process.
    pub(crate) value_code: Option<&'static CodeDescriptor<ValueCode>>,
    /// Drops the body.
    ///
    /// # Safety
    /// Own task, and no one else uses the body, now or later.
    pub(crate) drop_body: unsafe fn(TaskRef),
    /// The layout of the node.
    pub(crate) layout: Layout,
    pub(crate) type_id: fn() -> TypeId,
    pub(crate) type_name: fn() -> &'static str,
    /// Whether the task has a value in the offset of a function.
    pub(crate) is_value: bool,
    /// The source of a value that comes from elsewhere and may not be there yet; `None` for other
    /// tasks.
    ///
    /// # Safety
    /// Own task.
    pub(crate) awaited: Option<for<'a> unsafe fn(&'a TaskRef) -> &'a dyn Awaited>,
    /// Whether the function captures state. State cannot be compared.
    pub(crate) captures: bool,
    /// Whether this is the private copy of a task with [`Options`].
    pub(crate) has_options: bool,
}

/// A value that comes from elsewhere, such as the result of a future.
pub(crate) trait Awaited: Send + Sync {
    /// Whether there is a value, or will never be one.
    fn is_settled(&self) -> bool;

    /// The value, once it is settled.
    ///
    /// # Errors
    /// The error of the task that should have made it.
    fn settled_value(&self) -> Result<&dyn Any>;

    /// The encoded value, if it is kept in this form.
    fn encoded(&self) -> Option<Arc<dyn Encoded>>;

    /// Keeps the encoded value too, for the next time.
    fn keep(&self, value: Arc<dyn Encoded>);

    /// Lends the source of the value to a function that knows its type.
    fn with_source(&self, inspect: &mut dyn FnMut(&dyn Any));
}

// SAFETY: the only pointer, `clone_value`, is the address of a function. Functions may be called
// from any thread.
unsafe impl Sync for Kind {}
// SAFETY: as for `Sync`.
unsafe impl Send for Kind {}

/// The options that a user gave a task.
#[derive(Clone, Default, Debug)]
pub(crate) struct Options {
    pub(crate) name: Option<Arc<str>>,
    /// `None`: as the setting `retries` says.
    pub(crate) retries: Option<u32>,
    pub(crate) retry_if: Option<RetryIf>,
    /// `None`: as the settings say.
    pub(crate) backoff: Option<Backoff>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority: i32,
    /// Tasks that must finish before this one starts.
    pub(crate) after: Vec<Task>,
    /// The encoding of the plain arguments of a pure task.
    pub(crate) pure: Option<Box<[u8]>>,
    /// The amounts of its worker's resources that the task takes while it runs, on a cluster.
    pub(crate) resources: Vec<(Arc<str>, f64)>,
    /// The names of the workers of a cluster that may run the task. Empty: any worker.
    pub(crate) workers: Vec<Arc<str>>,
}

impl Options {
    /// Whether the engine has to do more than call the function once.
    pub(crate) fn changes_the_call(&self) -> bool {
        self.retries.is_some() || self.retry_if.is_some() || self.backoff.is_some() || self.timeout.is_some()
    }

    /// Sets the amount of a resource that the task takes.
    pub(crate) fn take(&mut self, name: &str, amount: f64) {
        self.resources.retain(|(other, _)| &**other != name);
        self.resources.push((name.into(), amount));
    }

    /// Whether only certain workers of a cluster may run the task.
    pub(crate) fn needs_a_certain_worker(&self) -> bool {
        !(self.resources.is_empty() && self.workers.is_empty())
    }
}

#[repr(C)]
struct KindWithOptions {
    kind: Kind,
    options: Options,
}

/// The bits of `Header::epoch` that are the epoch. A million gathers a second use them up in nine
/// years.
const EPOCH: u64 = (1 << 48) - 1;

/// The untyped beginning of every node.
pub(crate) struct Header {
    handles: AtomicU32,
    /// The number that the last gather gave to the node, valid if `epoch` is the epoch of that
    /// gather.
    id: AtomicU32,
    /// The upper 16 bits are the node's [`ChunkOffset`].
    epoch: AtomicU64,
    kind: NonNull<Kind>,
}

#[repr(C)]
pub(crate) struct Node<B> {
    header: Header,
    /// The function and its arguments, or a value.
    pub(crate) body: B,
}

/// A task that another handle keeps alive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct TaskRef(NonNull<Header>);

// SAFETY: a header is counted atomically, stamped under a lock (rule 3), and otherwise only read.
// The bodies are `Send + Sync` by the bounds of `Task::new`.
unsafe impl Send for TaskRef {}
// SAFETY: as for `Send`.
unsafe impl Sync for TaskRef {}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskRef({:p})", self.0)
    }
}

impl TaskRef {
    #[inline(always)]
    fn header(&self) -> &Header {
        // SAFETY: the holder of a `TaskRef` keeps the node alive (rule 1).
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn kind(&self) -> &Kind {
        // SAFETY: a kind is static, or a private copy that lives as long as its node (rule 4),
        // which is alive (rule 1).
        unsafe { self.header().kind.as_ref() }
    }

    /// # Safety
    /// The node was made by [`Task::new`] with a body of this type.
    #[inline(always)]
    pub(crate) unsafe fn body<'a, B>(self) -> &'a B {
        // SAFETY: the caller knows that the body has type `B`. `Node` is `repr(C)`, so its address
        // is that of its header. The node is alive (rule 1).
        unsafe { &self.0.cast::<Node<B>>().as_ref().body }
    }

    /// Whether the task is that of a future.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        self.kind().awaited.is_some()
    }

    /// The source of a value that comes from elsewhere.
    #[inline]
    pub(crate) fn awaited(&self) -> Option<&dyn Awaited> {
        // SAFETY: own task: the function comes from the kind of `self`, and the holder of a
        // `TaskRef` keeps the node alive (rule 1).
        self.kind().awaited.map(|awaited| unsafe { awaited(self) })
    }

    /// For each input, in the order of `visit_inputs`, whether the call takes its error in place of
    /// its value. `None` if it takes no errors.
    pub(crate) fn tolerated_inputs(&self) -> Option<Vec<bool>> {
        let tolerates = self.kind().tolerates?;
        let mut edges = Vec::new();
        // SAFETY: own task: the function comes from the kind of `self`, and the holder of a
        // `TaskRef` keeps the node alive (rule 1).
        unsafe { tolerates(*self, &mut edges) };
        Some(edges)
    }

    pub(crate) fn options(&self) -> Option<&Options> {
        // SAFETY: a kind with `has_options` is the beginning of a `KindWithOptions` (rule 4).
        self.kind().has_options.then(|| unsafe { &self.header().kind.cast::<KindWithOptions>().as_ref().options })
    }

    /// The number that the gather with this epoch gave to the task, if it has reached the task.
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

    /// Makes a handle.
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
            // Two thousand million handles of one task are most likely leaks. An overflow would
            // free a node in use.
            abort();
        }
    }
}

/// A handle to a task with a value of unknown type.
pub(crate) struct Task(TaskRef);

impl Task {
    /// # Safety
    /// The functions and the layout of `kind` are right for a body of this type.
    #[inline(always)]
    pub(crate) unsafe fn new<B: Send + Sync + 'static>(kind: &'static Kind, body: B) -> Task {
        let (memory, offset) = chunk::allocate(Layout::new::<Node<B>>());
        // SAFETY: the caller gives the kind for this body, and the memory was allocated for this
        // node.
        unsafe { Task::in_place(memory, offset, kind, body) }
    }

    /// As [`Task::new`], for a task that is likely to outlive the tasks made beside it.
    ///
    /// # Safety
    /// As [`Task::new`].
    pub(crate) unsafe fn new_alone<B: Send + Sync + 'static>(kind: &'static Kind, body: B) -> Task {
        let memory = chunk::allocate_alone(Layout::new::<Node<B>>());
        // SAFETY: the caller gives the kind for this body, and the memory was allocated for this
        // node.
        unsafe { Task::in_place(memory, 0, kind, body) }
    }

    /// # Safety
    /// As [`Task::new`]; the memory was allocated for a node with this body and is used by no one
    /// else.
    #[inline(always)]
    unsafe fn in_place<B>(memory: NonNull<u8>, offset: ChunkOffset, kind: &'static Kind, body: B) -> Task {
        debug_assert_eq!(kind.layout, Layout::new::<Node<B>>());
        let header = Header {
            handles: AtomicU32::new(1),
            id: AtomicU32::new(0),
            epoch: AtomicU64::new(u64::from(offset) << 48),
            kind: NonNull::from(kind),
        };
        let node = memory.cast::<Node<B>>();
        // SAFETY: the memory was allocated for this node and is used by no one else, as the caller
        // states.
        unsafe { node.write(Node { header, body }) };
        Task(TaskRef(node.cast()))
    }

    #[inline(always)]
    pub(crate) fn as_ref(&self) -> TaskRef {
        self.0
    }

    /// Makes the value of this task portable. The task must not be shared yet.
    pub(crate) fn set_value_code(&mut self, code: &'static CodeDescriptor<ValueCode>) {
        self.change_kind(|kind| kind.value_code = Some(code));
    }

    /// The options, mutably; `None` if the task is shared already.
    pub(crate) fn options_mut(&mut self) -> Option<&mut Options> {
        Some(&mut self.private_kind()?.options)
    }

    /// Changes the kind of this task alone. The task must not be shared yet.
    pub(crate) fn change_kind(&mut self, change: impl FnOnce(&mut Kind)) {
        change(&mut self.private_kind().expect("the task is not shared yet").kind);
    }

    fn private_kind(&mut self) -> Option<&mut KindWithOptions> {
        // Acquire: pairs with the release of the handles that were dropped.
        if self.0.header().handles.load(Acquire) != 1 {
            return None;
        }
        // SAFETY: this is the only handle, and `&mut self` borrows it exclusively.
        let header = unsafe { self.0.0.as_mut() };
        // SAFETY: a kind is static, or a private copy that lives as long as its node (rule 4).
        let kind = unsafe { *header.kind.as_ref() };
        if !kind.has_options {
            let private =
                Box::new(KindWithOptions { kind: Kind { has_options: true, ..kind }, options: Options::default() });
            header.kind = NonNull::from(Box::leak(private)).cast();
        }
        // SAFETY: by rule 4 the kind is the beginning of a `KindWithOptions`, which belongs to this
        // node alone.
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
        // The last handle needs no read-modify-write: no other thread can make or drop one.
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
    /// The first of the nodes that this thread still has to free, or null; `None` while the thread
    /// frees no nodes. It has no destructor, so it works until the end of the thread.
    static TO_FREE: StdCell<Option<*mut Header>> = const { StdCell::new(None) };
}

impl Header {
    /// Puts the node, whose count is 0, before the other nodes to free.
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
        // This is an argument of a node that is being freed further down the stack. The loop there
        // frees it.
        task.header().link(next);
        TO_FREE.set(Some(task.0.as_ptr()));
        return;
    }
    TO_FREE.set(Some(ptr::null_mut()));
    // Frees the other nodes if a captured value panics when it is dropped. A second panic aborts.
    struct FreeList(FreedNodes);
    impl FreeList {
        fn drain(&mut self) {
            while let Some(node) = TO_FREE.get().and_then(NonNull::new) {
                let task = TaskRef(node);
                TO_FREE.set(Some(task.header().linked()));
                free_one(task, &mut self.0);
            }
        }
    }
    impl Drop for FreeList {
        fn drop(&mut self) {
            self.drain();
            TO_FREE.set(None);
        }
    }
    let mut list = FreeList(FreedNodes::new());
    free_one(task, &mut list.0);
    list.drain();
}

fn free_one(task: TaskRef, freed: &mut FreedNodes) {
    let Kind { drop_body, layout, has_options, .. } = *task.kind();
    let offset = (task.header().epoch.load(Relaxed) >> 48) as ChunkOffset;
    // SAFETY: a kind with `has_options` is a boxed `KindWithOptions` of this node alone (rule 4).
    // It is freed at the end of this function, after the node.
    let _options = has_options.then(|| unsafe { Box::from_raw(task.header().kind.cast::<KindWithOptions>().as_ptr()) });
    // Frees the memory even if dropping the body panics.
    struct NodeMemory<'f>(&'f mut FreedNodes, NonNull<u8>, Layout, ChunkOffset);
    impl Drop for NodeMemory<'_> {
        fn drop(&mut self) {
            // SAFETY: the memory was allocated with this layout and offset, and the body was
            // dropped.
            unsafe { self.0.free(self.1, self.2, self.3) };
        }
    }
    let _memory = NodeMemory(freed, task.0.cast(), layout, offset);
    // SAFETY: own task: the function comes from the node's kind. The count is 0, so no one else
    // uses the body.
    unsafe { drop_body(task) };
}

/// The `drop_body` of the [`Kind`]s for this type of body.
///
/// # Safety
/// The node was made by [`Task::new`] with a body of this type, and no one else uses the body, now
/// or later.
pub(crate) unsafe fn drop_body<B>(task: TaskRef) {
    // SAFETY: the body has type `B` and is dropped only here, as the caller states. A header needs
    // no drop.
    unsafe { ptr::drop_in_place(&raw mut (*task.0.cast::<Node<B>>().as_ptr()).body) };
}

/// The layout of a node with this body.
pub(crate) const fn layout<B>() -> Layout {
    Layout::new::<Node<B>>()
}
