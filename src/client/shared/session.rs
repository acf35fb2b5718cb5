//! Shared objects for tasks in worker processes: how a question crosses, and who has asked it.
//!
//! A question names its object by all that it must be like, and so does each; tasks in workers have no handles here that could be left over. What a
//! worker has that it must give back, permits, is on the list of its [`WorkerSession`], and goes back when the process ends.

use super::super::cluster::{Away, Core, CurrentWorker};
use super::super::nested::{NestedTasks, Request};
use super::table::{Answer, Asked, Item, Op, Subject, Tell};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::processes::requests::{Reply, RequestHandler, Session};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

/// In the place of a cluster's number: that of the run that the task is of.
pub(super) const OWN_CLUSTER: u64 = 0;

/// What a task says. An item, or what is encoded, lies behind it.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Shared(Question),
    /// On tasks that it hands in.
    Handed(Request),
}

/// What a task asks.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    cluster: u64,
    subject: Subject,
    what: What,
    may_wait: bool,
}

/// An [`Op`] without its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    Look,
    Set,
    Clear,
    IsSet,
    AwaitSet,
    Acquire,
    Release,
    NumFree,
    Put,
    PutBack,
    Take,
    NumItems,
    Assign,
    Forget,
    Read,
}

/// What came of it; an item lies behind it.
#[derive(Debug, Serialize, Deserialize)]
enum Response {
    Done,
    Flag(bool),
    Count(u64),
    Permit,
    Taken,
    Value,
    Refused,
    Closed(String),
    NotShared(String),
}

fn nonsense() -> Error {
    Error::new(ErrorKind::NotShared, "a message about shared objects that makes no sense")
}

/// A header and what lies behind it.
fn write<H: Serialize>(header: &H, item: Option<&Item>) -> Vec<u8> {
    let mut bytes = postcard::to_stdvec(header).expect("it has no types that cannot be written");
    if let Some(Item::Encoded(item)) = item {
        bytes.extend_from_slice(item);
    }
    bytes
}

/// As a task in a worker asks.
pub(super) fn question(cluster: u64, subject: &Subject, op: &Op, may_wait: bool) -> Vec<u8> {
    let (what, item) = match op {
        Op::Look => (What::Look, None),
        Op::Set(true) => (What::Set, None),
        Op::Set(false) => (What::Clear, None),
        Op::IsSet => (What::IsSet, None),
        Op::AwaitSet => (What::AwaitSet, None),
        Op::Acquire => (What::Acquire, None),
        Op::Release => (What::Release, None),
        Op::NumFree => (What::NumFree, None),
        Op::Put(item) => (What::Put, Some(item)),
        Op::PutBack(item) => (What::PutBack, Some(item)),
        Op::Take => (What::Take, None),
        Op::NumItems => (What::NumItems, None),
        Op::Assign(Some(item)) => (What::Assign, Some(item)),
        Op::Assign(None) => (What::Forget, None),
        Op::Read => (What::Read, None),
    };
    write(&Word::Shared(Question { cluster, subject: subject.clone(), what, may_wait }), item)
}

/// As a task in a worker speaks of tasks that it hands in; the pieces lie behind it.
pub(in crate::client) fn of_handed(said: Request, pieces: &[u8]) -> Vec<u8> {
    let mut bytes = write(&Word::Handed(said), None);
    bytes.extend_from_slice(pieces);
    bytes
}

fn read_word(bytes: &[u8]) -> Result<(Word, &[u8])> {
    postcard::take_from_bytes(bytes).map_err(|_| nonsense())
}

fn op_of(question: &Question, rest: &[u8]) -> Op {
    let item = || Item::Encoded(rest.into());
    match question.what {
        What::Look => Op::Look,
        What::Set => Op::Set(true),
        What::Clear => Op::Set(false),
        What::IsSet => Op::IsSet,
        What::AwaitSet => Op::AwaitSet,
        What::Acquire => Op::Acquire,
        What::Release => Op::Release,
        What::NumFree => Op::NumFree,
        What::Put => Op::Put(item()),
        What::PutBack => Op::PutBack(item()),
        What::Take => Op::Take,
        What::NumItems => Op::NumItems,
        What::Assign => Op::Assign(Some(item())),
        What::Forget => Op::Assign(None),
        What::Read => Op::Read,
    }
}

fn write_answer(answer: Result<Answer>) -> Vec<u8> {
    let (told, item) = match answer {
        Ok(Answer::Done) => (Response::Done, None),
        Ok(Answer::Flag(flag)) => (Response::Flag(flag), None),
        Ok(Answer::Count(count)) => (Response::Count(count), None),
        Ok(Answer::Permit) => (Response::Permit, None),
        Ok(Answer::Taken(item)) => (Response::Taken, Some(item)),
        Ok(Answer::Value(item)) => (Response::Value, Some(item)),
        Ok(Answer::Refused(_)) => (Response::Refused, None),
        Err(error) if error.kind() == ErrorKind::Closed => (Response::Closed(error.message().into()), None),
        Err(error) => (Response::NotShared(error.message().into()), None),
    };
    write(&told, item.as_ref())
}

/// As a task in a worker reads it.
pub(super) fn read_answer(bytes: &[u8]) -> Result<Answer> {
    let (told, rest) = postcard::take_from_bytes::<Response>(bytes).map_err(|_| nonsense())?;
    let item = || Item::Encoded(rest.into());
    match told {
        Response::Done => Ok(Answer::Done),
        Response::Flag(flag) => Ok(Answer::Flag(flag)),
        Response::Count(count) => Ok(Answer::Count(count)),
        Response::Permit => Ok(Answer::Permit),
        Response::Taken => Ok(Answer::Taken(item())),
        Response::Value => Ok(Answer::Value(item())),
        Response::Refused => Ok(Answer::Refused(None)),
        Response::Closed(message) => Err(Error::new(ErrorKind::Closed, message)),
        Response::NotShared(message) => Err(Error::new(ErrorKind::NotShared, message)),
    }
}

/// Where the tasks of one thread's runs ask.
pub(in crate::client) struct ClusterService {
    core: Weak<Core>,
    /// Of the thread that waits for the runs, if it belongs to the cluster.
    place: Option<CurrentWorker>,
    out: Arc<Mutex<Out>>,
}

/// How many tasks wait, and that the thread does not keep its place meanwhile: it has one, however many there are.
#[derive(Default)]
struct Out {
    num_waiting: usize,
    away: Option<Away>,
}

impl ClusterService {
    pub(in crate::client) fn of(core: &Arc<Core>, place: Option<CurrentWorker>) -> Arc<dyn RequestHandler> {
        Arc::new(ClusterService { core: Arc::downgrade(core), place, out: Arc::default() })
    }
}

impl fmt::Debug for ClusterService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterService").field("num_waiting", &self.out.lock().num_waiting).finish_non_exhaustive()
    }
}

impl RequestHandler for ClusterService {
    fn admit(&self) -> Arc<dyn Session> {
        Arc::new_cyclic(|this| WorkerSession {
            this: Weak::clone(this),
            core: Weak::clone(&self.core),
            wards: self.core.upgrade().map(|core| NestedTasks::new(core.num_asking())),
            state: Mutex::default(),
        })
    }

    fn waits(&self) -> Box<dyn Any + Send> {
        struct Back(Arc<Mutex<Out>>);
        impl Drop for Back {
            fn drop(&mut self) {
                let mut out = self.0.lock();
                out.num_waiting -= 1;
                if out.num_waiting == 0 {
                    out.away = None;
                }
            }
        }
        let mut out = self.out.lock();
        out.num_waiting += 1;
        if out.num_waiting == 1 {
            out.away = self.place.as_ref().map(CurrentWorker::leave_for_a_while);
        }
        Box::new(Back(Arc::clone(&self.out)))
    }
}

/// A worker process.
struct WorkerSession {
    this: Weak<WorkerSession>,
    core: Weak<Core>,
    /// What its tasks have handed in.
    wards: Option<Arc<NestedTasks>>,
    state: Mutex<WorkerSessionState>,
}

#[derive(Default)]
struct WorkerSessionState {
    is_gone: bool,
    /// What it has permits of, and how many.
    permits: HashMap<String, (Subject, usize)>,
    /// For each question that was not answered: of what, and the number that the table has given it, once it has.
    waiting: HashMap<u64, Option<(Subject, u64)>>,
}

/// Names an object among those of all kinds.
fn key(subject: &Subject) -> String {
    subject.to_string()
}

impl WorkerSession {
    /// Answers a question, unless the process is gone: then what it would have had goes back.
    fn tell(&self, number: u64, subject: &Subject, answer: Result<Answer>, reply: Reply) {
        {
            let mut state = self.state.lock();
            state.waiting.remove(&number);
            if !state.is_gone {
                if let Ok(Answer::Permit) = answer {
                    state.permits.entry(key(subject)).or_insert_with(|| (subject.clone(), 0)).1 += 1;
                }
                drop(state);
                return reply(write_answer(answer));
            }
        }
        match answer {
            Ok(Answer::Permit) => self.undo(subject, Op::Release),
            Ok(Answer::Taken(item)) => self.undo(subject, Op::PutBack(item)),
            _ => {}
        }
    }

    fn undo(&self, subject: &Subject, op: Op) {
        if let Some(core) = self.core.upgrade() {
            let _ = core.shared().ask(subject, op, || None);
        }
    }

    fn asked(&self, core: &Arc<Core>, number: u64, bytes: &[u8], reply: Reply) {
        let (question, op) = match read_word(bytes) {
            Ok((Word::Shared(question), rest)) => {
                let op = op_of(&question, rest);
                (question, op)
            }
            Ok((Word::Handed(said), _)) => match &self.wards {
                Some(wards) => return wards.asked(number, said, reply),
                None => return reply(Vec::new()),
            },
            Err(error) => return reply(write_answer(Err(error))),
        };
        let subject = question.subject;
        if question.cluster != OWN_CLUSTER && question.cluster != core.shared().number() {
            let message = format!("{subject} belongs to another cluster than the task that asks for it");
            return reply(write_answer(Err(Error::new(ErrorKind::NotShared, message))));
        }
        // Either the one who waits is told or the one who asks.
        let reply = Arc::new(Mutex::new(Some(reply)));
        let (later, guest, of) = (Arc::clone(&reply), Weak::clone(&self.this), subject.clone());
        let tell: Tell = Box::new(move |answer| {
            let reply = later.lock().take();
            if let (Some(guest), Some(reply)) = (guest.upgrade(), reply) {
                guest.tell(number, &of, answer, reply);
            }
        });
        self.state.lock().waiting.insert(number, None);
        match core.shared().ask(&subject, op, || question.may_wait.then_some(tell)) {
            Asked::Answered(answer) => {
                let reply = reply.lock().take();
                if let Some(reply) = reply {
                    self.tell(number, &subject, answer, reply);
                }
            }
            Asked::Waits(place) => {
                let is_gone = {
                    let mut state = self.state.lock();
                    // Otherwise it has been told meanwhile.
                    if let Some(entry) = state.waiting.get_mut(&number) {
                        *entry = Some((subject.clone(), place));
                    }
                    state.is_gone
                };
                if is_gone {
                    drop(core.shared().withdraw(&subject, place));
                }
            }
        }
    }
}

impl Session for WorkerSession {
    fn ask(&self, number: u64, question: &[u8], reply: Reply) {
        match self.core.upgrade() {
            Some(core) => self.asked(&core, number, question, reply),
            None => {
                let error = Error::new(ErrorKind::Closed, "the cluster was closed");
                reply(write_answer(Err(error)));
            }
        }
    }

    fn withdraw(&self, number: u64) {
        if self.wards.as_ref().is_some_and(|wards| wards.withdraw(number)) {
            return;
        }
        let entry = self.state.lock().waiting.get(&number).cloned().flatten();
        if let (Some((subject, place)), Some(core)) = (entry, self.core.upgrade())
            && let Some((tell, answer)) = core.shared().withdraw(&subject, place)
        {
            tell(Ok(answer));
        }
    }

    fn note(&self, note: &[u8]) {
        let question = match read_word(note) {
            Ok((Word::Shared(question), _)) if question.what == What::Release => question,
            Ok((Word::Handed(said), rest)) => {
                if let (Some(wards), Some(core)) = (&self.wards, self.core.upgrade()) {
                    wards.noted(&core, said, rest);
                }
                return;
            }
            _ => return,
        };
        let key = key(&question.subject);
        let had = {
            let mut state = self.state.lock();
            let had = state.permits.get_mut(&key);
            let had = had.map(|(subject, count)| {
                *count -= 1;
                (subject.clone(), *count == 0)
            });
            if had.as_ref().is_some_and(|(_, was_last)| *was_last) {
                state.permits.remove(&key);
            }
            had
        };
        if let Some((subject, _)) = had {
            self.undo(&subject, Op::Release);
        }
    }

    fn ended(&self) {
        self.wards.iter().for_each(|wards| wards.gone());
        let (permits, waiting) = {
            let mut state = self.state.lock();
            state.is_gone = true;
            (std::mem::take(&mut state.permits), std::mem::take(&mut state.waiting))
        };
        let Some(core) = self.core.upgrade() else { return };
        for (subject, place) in waiting.into_values().flatten() {
            drop(core.shared().withdraw(&subject, place));
        }
        for (subject, count) in permits.into_values() {
            (0..count).for_each(|_| self.undo(&subject, Op::Release));
        }
    }
}
