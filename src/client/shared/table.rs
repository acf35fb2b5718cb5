//! The shared objects of a cluster, by kind and name, and who waits for what.
//!
//! Everything that can be done to an object is an [`Op`], whoever does it: a thread of this process, or a task in a worker on whose behalf the
//! [`handler`](super::handler) asks. What cannot be answered at once is a [`Waiting`] with the function that takes the answer.
//!
//! # What is always true
//!
//! 1. An object is in the table as long as it is open (there is a handle in this process), somebody waits, or it has a state: a set event, a permit
//!    that is out, an item, a value. One that has none of these is as a new one, so nothing is lost with it.
//! 2. Nobody waits for what is there: after each change those who wait are served in the order in which they came.
//! 3. Somebody who waits is told once, or taken out by who withdraws; never both.
//! 4. The lock is not held while anybody is told, and while items are dropped, encoded or decoded: these run code of the program.

use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// What sort of object. Each has names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Kind {
    Event,
    Lock,
    Semaphore,
    Queue,
    Variable,
}

/// An object, and what it must be like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// How many permits there are, or how many items there may be.
    pub(super) size: Option<u64>,
    /// The name of the type of what it holds.
    pub(super) value: Cow<'static, str>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Event => "event",
            Kind::Lock => "lock",
            Kind::Semaphore => "semaphore",
            Kind::Queue => "queue",
            Kind::Variable => "variable",
        };
        write!(f, "{kind} {:?}", self.name)
    }
}

impl Subject {
    /// What it is like, in words.
    fn likeness(&self) -> String {
        match (self.kind, self.size) {
            (Kind::Queue, None) => format!("a queue of `{}` without a limit", self.value),
            (Kind::Queue, Some(size)) => format!("a queue of at most {size} `{}`", self.value),
            (Kind::Variable, _) => format!("a variable of `{}`", self.value),
            (Kind::Semaphore, size) => format!("a semaphore of {}", size.unwrap_or(1)),
            (Kind::Event, _) => "an event".into(),
            (Kind::Lock, _) => "a lock".into(),
        }
    }
}

/// Something that a queue or a variable holds: as it is on a cluster of threads, encoded on one of processes.
#[derive(Clone)]
pub(super) enum Item {
    Here(Arc<dyn Any + Send + Sync>),
    Encoded(Arc<[u8]>),
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Here(_) => f.write_str("Here"),
            Item::Encoded(bytes) => write!(f, "Encoded({} bytes)", bytes.len()),
        }
    }
}

/// What can be done to an object.
#[derive(Debug)]
pub(super) enum Op {
    /// Nothing but to see whether it is like that.
    Look,
    Set(bool),
    IsSet,
    AwaitSet,
    Acquire,
    Release,
    NumFree,
    Put(Item),
    /// Puts back what was taken and has not arrived; it is next.
    PutBack(Item),
    Take,
    NumItems,
    Assign(Option<Item>),
    Read,
}

impl Op {
    /// The answer to it when it cannot be done.
    fn refused(self) -> Answer {
        Answer::Refused(match self {
            Op::Put(item) => Some(item),
            _ => None,
        })
    }
}

#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Flag(bool),
    Count(u64),
    /// A permit, which the asker has from now on.
    Permit,
    /// An item of a queue, which the asker has from now on.
    Taken(Item),
    /// The value of a variable.
    Value(Item),
    /// Not without waiting, or not in time. What was to be put is given back.
    Refused(Option<Item>),
}

/// Takes an answer that comes later.
pub(super) type Tell = Box<dyn FnOnce(Result<Answer>) + Send>;

/// What has come of a question.
pub(super) enum Asked {
    Answered(Result<Answer>),
    /// It is told later; the number is for [`Table::withdraw`].
    Waits(u64),
}

struct Waiting {
    number: u64,
    op: Op,
    tell: Tell,
}

struct Object {
    subject: Subject,
    num_handles: usize,
    body: Body,
    waiting: VecDeque<Waiting>,
}

enum Body {
    Event { is_set: bool },
    Permits { free: u64, total: u64 },
    Items { items: VecDeque<Item>, most: Option<u64> },
    Value(Option<Item>),
}

type Objects = HashMap<(Kind, String), Object>;

/// See the [module](self).
pub(in crate::client) struct Table {
    cluster: Arc<str>,
    /// Tells the cluster from all others of this process and of others.
    number: u64,
    /// How many threads here wait that have given up their places for it.
    pub(super) num_away: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: Objects,
    last_number: u64,
    is_closed: bool,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("num_objects", &self.num_objects()).finish_non_exhaustive()
    }
}

impl Body {
    fn of(subject: &Subject) -> Body {
        match subject.kind {
            Kind::Event => Body::Event { is_set: false },
            Kind::Lock => Body::Permits { free: 1, total: 1 },
            Kind::Semaphore => {
                let total = subject.size.unwrap_or(1);
                Body::Permits { free: total, total }
            }
            Kind::Queue => Body::Items { items: VecDeque::new(), most: subject.size },
            Kind::Variable => Body::Value(None),
        }
    }

    fn has_state(&self) -> bool {
        match self {
            Body::Event { is_set } => *is_set,
            Body::Permits { free, total } => free < total,
            Body::Items { items, .. } => !items.is_empty(),
            Body::Value(value) => value.is_some(),
        }
    }

    /// Does what can be done now; gives back what has to wait, or makes no sense for such an object. What is replaced is put on the list.
    fn act(&mut self, op: Op, replaced: &mut Vec<Item>) -> Result<Answer, Op> {
        match (self, op) {
            (_, Op::Look) => Ok(Answer::Done),
            (Body::Event { is_set }, Op::Set(to)) => {
                *is_set = to;
                Ok(Answer::Done)
            }
            (Body::Event { is_set }, Op::IsSet) => Ok(Answer::Flag(*is_set)),
            (Body::Event { is_set: true }, Op::AwaitSet) => Ok(Answer::Done),
            (Body::Permits { free, .. }, Op::Acquire) if *free > 0 => {
                *free -= 1;
                Ok(Answer::Permit)
            }
            (Body::Permits { free, total }, Op::Release) => {
                *free = (*free + 1).min(*total);
                Ok(Answer::Done)
            }
            (Body::Permits { free, .. }, Op::NumFree) => Ok(Answer::Count(*free)),
            (Body::Items { items, most }, Op::Put(item)) if most.is_none_or(|most| (items.len() as u64) < most) => {
                items.push_back(item);
                Ok(Answer::Done)
            }
            (Body::Items { items, .. }, Op::PutBack(item)) => {
                items.push_front(item);
                Ok(Answer::Done)
            }
            (Body::Items { items, .. }, Op::Take) if !items.is_empty() => {
                Ok(items.pop_front().map_or(Answer::Refused(None), Answer::Taken))
            }
            (Body::Items { items, .. }, Op::NumItems) => Ok(Answer::Count(items.len() as u64)),
            (Body::Value(value), Op::Assign(new)) => {
                replaced.extend(std::mem::replace(value, new));
                Ok(Answer::Done)
            }
            (Body::Value(Some(value)), Op::Read) => Ok(Answer::Value(value.clone())),
            (_, op) => Err(op),
        }
    }
}

impl Object {
    fn new(subject: &Subject) -> Object {
        Object { subject: subject.clone(), num_handles: 0, body: Body::of(subject), waiting: VecDeque::new() }
    }

    fn is_needed(&self) -> bool {
        self.num_handles > 0 || !self.waiting.is_empty() || self.body.has_state()
    }

    /// Serves those who wait as far as that is possible (rule 2).
    fn serve(&mut self, told: &mut Vec<(Tell, Answer)>) {
        // All want the same: what keeps one waiting keeps those behind it. Who wants an item and who wants room for one never wait together.
        while let Some(Waiting { number, op, tell }) = self.waiting.pop_front() {
            match self.body.act(op, &mut Vec::new()) {
                Ok(answer) => told.push((tell, answer)),
                Err(op) => return self.waiting.push_front(Waiting { number, op, tell }),
            }
        }
    }
}

impl Table {
    pub(in crate::client) fn new(cluster: Arc<str>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = u64::from(std::process::id()) << 32 | u64::from(NUMBER.fetch_add(1, Ordering::Relaxed));
        Table { cluster, number, num_away: AtomicUsize::new(0), state: Mutex::default() }
    }

    pub(in crate::client) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn num_objects(&self) -> usize {
        self.state.lock().objects.len()
    }

    fn closed(&self, subject: &Subject) -> Error {
        Error::new(ErrorKind::Closed, format!("the cluster {:?} was closed, and {subject} with it", self.cluster))
    }

    /// The object, which is made if there is none.
    fn object<'s>(&self, state: &'s mut State, subject: &Subject) -> Result<&'s mut Object> {
        if state.is_closed {
            return Err(self.closed(subject));
        }
        let key = (subject.kind, subject.name.clone());
        let object = state.objects.entry(key).or_insert_with(|| Object::new(subject));
        if object.subject != *subject {
            let (is, wanted) = (object.subject.likeness(), subject.likeness());
            return Err(Error::new(
                ErrorKind::NotShared,
                format!("{subject} of the cluster {:?} is {is}, and not {wanted}; use another name", self.cluster),
            ));
        }
        Ok(object)
    }

    /// A handle of the object is made.
    ///
    /// # Errors
    /// If there is an object of this name that is not like this; if the cluster is closed.
    pub(super) fn open(&self, subject: &Subject) -> Result<()> {
        let mut state = self.state.lock();
        self.object(&mut state, subject)?.num_handles += 1;
        Ok(())
    }

    /// A handle of the object is gone that was [opened](Table::open).
    pub(super) fn shut(&self, subject: &Subject) {
        let mut state = self.state.lock();
        if let Ok(object) = self.object(&mut state, subject) {
            object.num_handles = object.num_handles.saturating_sub(1);
        }
        let gone = tidy(&mut state.objects, subject);
        drop(state);
        drop(gone);
    }

    /// Does something to an object. What cannot be done at once waits, if `tell` gives a function that takes the answer.
    pub(super) fn ask(&self, subject: &Subject, op: Op, tell: impl FnOnce() -> Option<Tell>) -> Asked {
        let (mut told, mut replaced) = (Vec::new(), Vec::new());
        let (asked, gone);
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            let number = state.last_number + 1;
            state.last_number = number;
            let object = match self.object(state, subject) {
                Ok(object) => object,
                Err(error) => return Asked::Answered(Err(error)),
            };
            asked = match object.body.act(op, &mut replaced) {
                Ok(answer) => Asked::Answered(Ok(answer)),
                Err(op) => match tell() {
                    Some(tell) => {
                        object.waiting.push_back(Waiting { number, op, tell });
                        Asked::Waits(number)
                    }
                    None => Asked::Answered(Ok(op.refused())),
                },
            };
            // Who has just begun to wait has found nothing.
            if matches!(asked, Asked::Answered(_)) {
                object.serve(&mut told);
            }
            gone = tidy(&mut state.objects, subject);
        }
        told.into_iter().for_each(|(tell, answer)| tell(Ok(answer)));
        drop((replaced, gone));
        asked
    }

    /// Takes out somebody who waits, and gives the function that takes the answer, and the answer; `None` if it has been told, or is being told
    /// just now.
    pub(super) fn withdraw(&self, subject: &Subject, number: u64) -> Option<(Tell, Answer)> {
        let mut state = self.state.lock();
        let object = self.object(&mut state, subject).ok()?;
        let position = object.waiting.iter().position(|waiting| waiting.number == number);
        let waiting = position.and_then(|position| object.waiting.remove(position));
        let gone = tidy(&mut state.objects, subject);
        drop(state);
        drop(gone);
        waiting.map(|waiting| (waiting.tell, waiting.op.refused()))
    }

    /// Ends it: who waits is told so, and all that was there is dropped.
    pub(in crate::client) fn close(&self) {
        let objects = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.objects)
        };
        for object in objects.into_values() {
            for waiting in object.waiting {
                (waiting.tell)(Err(self.closed(&object.subject)));
            }
        }
    }
}

/// Takes an object out that nobody needs (rule 1), to be dropped without the lock.
fn tidy(objects: &mut Objects, subject: &Subject) -> Option<Object> {
    let key = (subject.kind, subject.name.clone());
    if objects.get(&key).is_some_and(Object::is_needed) { None } else { objects.remove(&key) }
}
