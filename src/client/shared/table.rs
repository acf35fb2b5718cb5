//! The shared objects of a cluster, by kind and name, and the operations that wait for them.
//!
//! An [`Op`] comes from a thread of this process, or from a task in a worker process through a
//! [`session`](super::session). An operation that cannot complete at once becomes a [`Waiting`],
//! with the function that takes its answer.
//!
//! # What is always true
//!
//! 1. An object is in the table while it has a handle in this process, a waiting operation, or a
//!    state: a set event, a permit that is taken, an item, a value. An object without these equals
//!    a new one, so removing it loses nothing.
//! 2. No operation waits that could complete: each change completes waiting operations, oldest
//!    first, as far as possible.
//! 3. A waiting operation is answered once, or withdrawn; never both.
//! 4. The lock is not held while an answer is delivered, or an item is dropped, encoded or decoded:
//!    these run code of the program.

use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::any::Any;
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The kind of an object. Each kind has names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum ObjectKind {
    Event,
    Lock,
    Semaphore,
    Queue,
    Variable,
}

/// Names an object, and describes what it must be like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ObjectSpec {
    pub(super) kind: ObjectKind,
    pub(super) name: String,
    /// The number of permits, or the limit of items.
    pub(super) size: Option<u64>,
    /// The name of the type of the items.
    pub(super) value: Cow<'static, str>,
}

impl fmt::Display for ObjectSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ObjectKind::Event => "event",
            ObjectKind::Lock => "lock",
            ObjectKind::Semaphore => "semaphore",
            ObjectKind::Queue => "queue",
            ObjectKind::Variable => "variable",
        };
        write!(f, "{kind} {:?}", self.name)
    }
}

impl ObjectSpec {
    fn description(&self) -> String {
        match (self.kind, self.size) {
            (ObjectKind::Queue, None) => format!("a queue of `{}` without a limit", self.value),
            (ObjectKind::Queue, Some(size)) => format!("a queue of at most {size} `{}`", self.value),
            (ObjectKind::Variable, _) => format!("a variable of `{}`", self.value),
            (ObjectKind::Semaphore, size) => format!("a semaphore of {}", size.unwrap_or(1)),
            (ObjectKind::Event, _) => "an event".into(),
            (ObjectKind::Lock, _) => "a lock".into(),
        }
    }
}

/// An item of a queue or the value of a variable: unencoded on a cluster of threads, encoded on one
/// of processes.
#[derive(Clone)]
pub(super) enum Item {
    Value(Arc<dyn Any + Send + Sync>),
    Encoded(Arc<[u8]>),
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Value(_) => f.write_str("Value"),
            Item::Encoded(bytes) => write!(f, "Encoded({} bytes)", bytes.len()),
        }
    }
}

/// Only an encoded item can cross to another process.
impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Item::Encoded(bytes) => serializer.serialize_bytes(bytes),
            Item::Value(_) => Err(ser::Error::custom("an item that is not encoded")),
        }
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Item, E> {
                Ok(Item::Encoded(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// An operation on an object.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Op {
    /// Does nothing but check that the object is like its [`ObjectSpec`].
    Check,
    Set(bool),
    IsSet,
    AwaitSet,
    Acquire,
    Release,
    NumFree,
    Put(Item),
    /// Puts an item back at the front of its queue, because it was taken and did not arrive.
    PutBack(Item),
    Take,
    NumItems,
    Assign(Option<Item>),
    Read,
}

impl Op {
    /// The answer if the operation cannot complete.
    fn refused(self) -> Answer {
        Answer::Refused(match self {
            Op::Put(item) => Some(item),
            _ => None,
        })
    }
}

/// The result of an [`Op`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Flag(bool),
    Count(u64),
    /// A permit, which the caller now has.
    Permit,
    /// An item of a queue, which the caller now has.
    Taken(Item),
    /// The value of a variable.
    Value(Item),
    /// The operation would have had to wait, or did not complete in time. Returns the item of a
    /// `Put`.
    Refused(Option<Item>),
}

/// Delivers the answer of an operation that waited.
pub(super) type Reply = Box<dyn FnOnce(Result<Answer>) + Send>;

/// What [`Table::submit`] has done.
pub(super) enum Submitted {
    Answered(Result<Answer>),
    /// The answer comes later; the id is for [`Table::withdraw`].
    Waits(u64),
}

struct Waiting {
    id: u64,
    op: Op,
    reply: Reply,
}

struct Object {
    spec: ObjectSpec,
    num_handles: usize,
    state: ObjectState,
    waiting: VecDeque<Waiting>,
}

enum ObjectState {
    Event { is_set: bool },
    Permits { free: u64, total: u64 },
    Items { items: VecDeque<Item>, limit: Option<u64> },
    Value(Option<Item>),
}

type Objects = HashMap<(ObjectKind, String), Object>;

/// See the [module](self).
pub(in crate::client) struct Table {
    cluster: Arc<str>,
    /// Identifies the cluster among all clusters of this and other processes.
    number: u64,
    /// How many threads of the cluster have given up their places to wait here.
    pub(super) num_away: AtomicUsize,
    state: Mutex<TableState>,
}

#[derive(Default)]
struct TableState {
    objects: Objects,
    last_id: u64,
    is_closed: bool,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("num_objects", &self.state.lock().objects.len()).finish_non_exhaustive()
    }
}

impl ObjectState {
    fn new(spec: &ObjectSpec) -> ObjectState {
        match spec.kind {
            ObjectKind::Event => ObjectState::Event { is_set: false },
            ObjectKind::Lock | ObjectKind::Semaphore => {
                let total = spec.size.unwrap_or(1);
                ObjectState::Permits { free: total, total }
            }
            ObjectKind::Queue => ObjectState::Items { items: VecDeque::new(), limit: spec.size },
            ObjectKind::Variable => ObjectState::Value(None),
        }
    }

    fn is_initial(&self) -> bool {
        match self {
            ObjectState::Event { is_set } => !is_set,
            ObjectState::Permits { free, total } => free == total,
            ObjectState::Items { items, .. } => items.is_empty(),
            ObjectState::Value(value) => value.is_none(),
        }
    }

    /// Applies an operation; returns it if it has to wait, or makes no sense for the object. A
    /// replaced value goes into `replaced`.
    fn apply(&mut self, op: Op, replaced: &mut Option<Item>) -> Result<Answer, Op> {
        match (self, op) {
            (_, Op::Check) => Ok(Answer::Done),
            (ObjectState::Event { is_set }, Op::Set(to)) => {
                *is_set = to;
                Ok(Answer::Done)
            }
            (ObjectState::Event { is_set }, Op::IsSet) => Ok(Answer::Flag(*is_set)),
            (ObjectState::Event { is_set: true }, Op::AwaitSet) => Ok(Answer::Done),
            (ObjectState::Permits { free, .. }, Op::Acquire) if *free > 0 => {
                *free -= 1;
                Ok(Answer::Permit)
            }
            (ObjectState::Permits { free, total }, Op::Release) => {
                *free = (*free + 1).min(*total);
                Ok(Answer::Done)
            }
            (ObjectState::Permits { free, .. }, Op::NumFree) => Ok(Answer::Count(*free)),
            (ObjectState::Items { items, limit }, Op::Put(item))
                if limit.is_none_or(|limit| (items.len() as u64) < limit) =>
            {
                items.push_back(item);
                Ok(Answer::Done)
            }
            (ObjectState::Items { items, .. }, Op::PutBack(item)) => {
                items.push_front(item);
                Ok(Answer::Done)
            }
            (ObjectState::Items { items, .. }, Op::Take) => items.pop_front().map(Answer::Taken).ok_or(Op::Take),
            (ObjectState::Items { items, .. }, Op::NumItems) => Ok(Answer::Count(items.len() as u64)),
            (ObjectState::Value(value), Op::Assign(new)) => {
                *replaced = std::mem::replace(value, new);
                Ok(Answer::Done)
            }
            (ObjectState::Value(Some(value)), Op::Read) => Ok(Answer::Value(value.clone())),
            (_, op) => Err(op),
        }
    }
}

impl Object {
    fn new(spec: &ObjectSpec) -> Object {
        Object { spec: spec.clone(), num_handles: 0, state: ObjectState::new(spec), waiting: VecDeque::new() }
    }

    /// Completes waiting operations as far as possible (rule 2).
    fn complete_waiting(&mut self, answers: &mut Vec<(Reply, Answer)>) {
        // All wait for the same change: an operation that cannot complete blocks those behind it. A
        // `Take` and a `Put` never wait together.
        while let Some(Waiting { id, op, reply }) = self.waiting.pop_front() {
            match self.state.apply(op, &mut None) {
                Ok(answer) => answers.push((reply, answer)),
                Err(op) => return self.waiting.push_front(Waiting { id, op, reply }),
            }
        }
    }
}

impl Table {
    pub(in crate::client) fn new(cluster: Arc<str>) -> Self {
        static LAST_NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = u64::from(std::process::id()) << 32 | u64::from(LAST_NUMBER.fetch_add(1, Ordering::Relaxed));
        Table { cluster, number, num_away: AtomicUsize::new(0), state: Mutex::default() }
    }

    pub(in crate::client) fn number(&self) -> u64 {
        self.number
    }

    fn closed(&self, spec: &ObjectSpec) -> Error {
        Error::new(ErrorKind::Closed, format!("the cluster {:?} was closed, and {spec} with it", self.cluster))
    }

    /// Finds or makes the object.
    fn object<'s>(&self, state: &'s mut TableState, spec: &ObjectSpec) -> Result<&'s mut Object> {
        if state.is_closed {
            return Err(self.closed(spec));
        }
        let key = (spec.kind, spec.name.clone());
        let object = state.objects.entry(key).or_insert_with(|| Object::new(spec));
        if object.spec != *spec {
            let (is, wanted) = (object.spec.description(), spec.description());
            return Err(Error::new(
                ErrorKind::NotShared,
                format!("{spec} of the cluster {:?} is {is}, and not {wanted}; use another name", self.cluster),
            ));
        }
        Ok(object)
    }

    /// Counts a new handle of the object.
    ///
    /// # Errors
    /// If another object has the name, or the cluster is closed.
    pub(super) fn add_handle(&self, spec: &ObjectSpec) -> Result<()> {
        let mut state = self.state.lock();
        self.object(&mut state, spec)?.num_handles += 1;
        Ok(())
    }

    /// Counts down a handle that [`Table::add_handle`] has counted.
    pub(super) fn remove_handle(&self, spec: &ObjectSpec) {
        let mut state = self.state.lock();
        if let Ok(object) = self.object(&mut state, spec) {
            object.num_handles = object.num_handles.saturating_sub(1);
        }
        let removed = remove_unused(&mut state.objects, spec);
        drop(state);
        drop(removed);
    }

    /// Applies an operation to an object. One that cannot complete waits if `reply` returns a
    /// function, and is refused otherwise.
    pub(super) fn submit(&self, spec: &ObjectSpec, op: Op, reply: impl FnOnce() -> Option<Reply>) -> Submitted {
        let (mut answers, mut replaced) = (Vec::new(), None);
        let (submitted, removed);
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            state.last_id += 1;
            let id = state.last_id;
            let object = match self.object(state, spec) {
                Ok(object) => object,
                Err(error) => return Submitted::Answered(Err(error)),
            };
            submitted = match object.state.apply(op, &mut replaced) {
                Ok(answer) => {
                    object.complete_waiting(&mut answers);
                    Submitted::Answered(Ok(answer))
                }
                Err(op) => match reply() {
                    Some(reply) => {
                        object.waiting.push_back(Waiting { id, op, reply });
                        Submitted::Waits(id)
                    }
                    None => Submitted::Answered(Ok(op.refused())),
                },
            };
            removed = remove_unused(&mut state.objects, spec);
        }
        answers.into_iter().for_each(|(reply, answer)| reply(Ok(answer)));
        drop((replaced, removed));
        submitted
    }

    /// Applies an operation that never waits, and drops the answer.
    pub(super) fn apply(&self, spec: &ObjectSpec, op: Op) {
        drop(self.submit(spec, op, || None));
    }

    /// Refuses a waiting operation, unless it has been answered or its answer is being delivered.
    pub(super) fn withdraw(&self, spec: &ObjectSpec, id: u64) {
        let mut state = self.state.lock();
        let Ok(object) = self.object(&mut state, spec) else { return };
        let position = object.waiting.iter().position(|waiting| waiting.id == id);
        let waiting = position.and_then(|position| object.waiting.remove(position));
        let removed = remove_unused(&mut state.objects, spec);
        drop(state);
        drop(removed);
        if let Some(Waiting { op, reply, .. }) = waiting {
            reply(Ok(op.refused()));
        }
    }

    /// Fails all waiting operations and drops all objects.
    pub(in crate::client) fn close(&self) {
        let objects = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.objects)
        };
        for object in objects.into_values() {
            for waiting in object.waiting {
                (waiting.reply)(Err(self.closed(&object.spec)));
            }
        }
    }
}

/// Takes an object out that rule 1 does not keep, to be dropped without the lock.
fn remove_unused(objects: &mut Objects, spec: &ObjectSpec) -> Option<Object> {
    let key = (spec.kind, spec.name.clone());
    let is_unused = |object: &Object| object.num_handles == 0 && object.waiting.is_empty() && object.state.is_initial();
    if objects.get(&key).is_some_and(is_unused) { objects.remove(&key) } else { None }
}
