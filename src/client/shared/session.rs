//! Requests of tasks in worker processes, for shared objects and for nested tasks.
//!
//! A request carries the whole [`ObjectSpec`] of its object, so a worker process has no handles
//! that could be left over. The permits of a worker are listed in its [`WorkerSession`], and are
//! released when the process ends.

use super::super::cluster::{Cluster, PlaceReleased, WorkerThread};
use super::super::nested::{NestedTasks, Request};
use super::table::{Answer, ObjectSpec, Op, Reply as TableReply, Submitted};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::processes::requests::{Reply, RequestHandler, Session};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

/// Stands for the number of the cluster that runs the task.
pub(super) const OWN_CLUSTER: u64 = 0;

/// A message of a task in a worker process.
#[derive(Debug, Serialize, Deserialize)]
enum WorkerMessage {
    Shared(SharedRequest),
    /// About nested tasks. Encoded arguments follow it.
    Nested(Request),
}

#[derive(Debug, Serialize, Deserialize)]
struct SharedRequest {
    cluster: u64,
    spec: ObjectSpec,
    op: Op,
    may_wait: bool,
}

/// The answer, or the message of an error that is [`Closed`](ErrorKind::Closed) or else
/// [`NotShared`](ErrorKind::NotShared).
#[derive(Debug, Serialize, Deserialize)]
enum SharedResponse {
    Answer(Answer),
    Closed(String),
    NotShared(String),
}

fn malformed() -> Error {
    Error::new(ErrorKind::NotShared, "a malformed message about shared objects")
}

fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).expect("items of worker processes are encoded")
}

/// Encodes an operation on a shared object; called in a worker process.
pub(super) fn encode_request(cluster: u64, spec: &ObjectSpec, op: Op, may_wait: bool) -> Vec<u8> {
    encode(&WorkerMessage::Shared(SharedRequest { cluster, spec: spec.clone(), op, may_wait }))
}

/// Encodes a request about nested tasks, and appends `pieces`; called in a worker process.
pub(in crate::client) fn encode_nested(request: Request, pieces: &[u8]) -> Vec<u8> {
    let mut bytes = encode(&WorkerMessage::Nested(request));
    bytes.extend_from_slice(pieces);
    bytes
}

fn decode_message(bytes: &[u8]) -> Result<(WorkerMessage, &[u8])> {
    postcard::take_from_bytes(bytes).map_err(|_| malformed())
}

fn encode_answer(answer: Result<Answer>) -> Vec<u8> {
    encode(&match answer {
        // The worker process still has the item of a refused `Put`.
        Ok(Answer::Refused(_)) => SharedResponse::Answer(Answer::Refused(None)),
        Ok(answer) => SharedResponse::Answer(answer),
        Err(error) if error.kind() == ErrorKind::Closed => SharedResponse::Closed(error.message().into()),
        Err(error) => SharedResponse::NotShared(error.message().into()),
    })
}

/// Decodes an answer; called in a worker process.
pub(super) fn decode_answer(bytes: &[u8]) -> Result<Answer> {
    match postcard::from_bytes(bytes).map_err(|_| malformed())? {
        SharedResponse::Answer(answer) => Ok(answer),
        SharedResponse::Closed(message) => Err(Error::new(ErrorKind::Closed, message)),
        SharedResponse::NotShared(message) => Err(Error::new(ErrorKind::NotShared, message)),
    }
}

/// Handles the requests of tasks in the runs of one thread.
pub(in crate::client) struct ClusterService {
    core: Weak<Cluster>,
    /// The place of the thread that waits for the runs, if the thread belongs to the cluster.
    place: Option<WorkerThread>,
    waits: Arc<Mutex<Waits>>,
}

/// The number of tasks that wait. The thread's one place is free while there are any.
#[derive(Default)]
struct Waits {
    num_waiting: usize,
    away: Option<PlaceReleased>,
}

impl ClusterService {
    pub(in crate::client) fn of(core: &Arc<Cluster>, place: Option<WorkerThread>) -> Arc<dyn RequestHandler> {
        Arc::new(ClusterService { core: Arc::downgrade(core), place, waits: Arc::default() })
    }
}

impl fmt::Debug for ClusterService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterService").field("num_waiting", &self.waits.lock().num_waiting).finish_non_exhaustive()
    }
}

impl RequestHandler for ClusterService {
    fn admit(&self) -> Arc<dyn Session> {
        Arc::new_cyclic(|this| WorkerSession {
            this: Weak::clone(this),
            core: Weak::clone(&self.core),
            nested: self.core.upgrade().map(|core| NestedTasks::new(core.num_submitters())),
            state: Mutex::default(),
        })
    }

    fn waits(&self) -> Box<dyn Any + Send> {
        struct WaitGuard(Arc<Mutex<Waits>>);
        impl Drop for WaitGuard {
            fn drop(&mut self) {
                let mut waits = self.0.lock();
                waits.num_waiting -= 1;
                if waits.num_waiting == 0 {
                    waits.away = None;
                }
            }
        }
        let mut waits = self.waits.lock();
        waits.num_waiting += 1;
        if waits.num_waiting == 1 {
            waits.away = self.place.as_ref().map(WorkerThread::release_place);
        }
        Box::new(WaitGuard(Arc::clone(&self.waits)))
    }
}

/// One worker process.
struct WorkerSession {
    this: Weak<WorkerSession>,
    core: Weak<Cluster>,
    /// The tasks that its tasks have submitted.
    nested: Option<Arc<NestedTasks>>,
    state: Mutex<WorkerSessionState>,
}

#[derive(Default)]
struct WorkerSessionState {
    has_ended: bool,
    /// The permits that the process has: how many of which object, by its name and kind.
    permits: HashMap<String, (ObjectSpec, usize)>,
    /// The requests without an answer. Those that wait in the table have the object and the id for
    /// [`Table::withdraw`].
    ///
    /// [`Table::withdraw`]: super::table::Table::withdraw
    waiting: HashMap<u64, Option<(ObjectSpec, u64)>>,
}

impl WorkerSession {
    /// Answers a request. If the process has ended, a permit or an item goes back instead.
    fn answer(&self, number: u64, spec: &ObjectSpec, answer: Result<Answer>, reply: Reply) {
        {
            let mut state = self.state.lock();
            state.waiting.remove(&number);
            if !state.has_ended {
                if let Ok(Answer::Permit) = answer {
                    state.permits.entry(spec.to_string()).or_insert_with(|| (spec.clone(), 0)).1 += 1;
                }
                drop(state);
                return reply(encode_answer(answer));
            }
        }
        match answer {
            Ok(Answer::Permit) => self.apply(spec, Op::Release),
            Ok(Answer::Taken(item)) => self.apply(spec, Op::PutBack(item)),
            _ => {}
        }
    }

    fn apply(&self, spec: &ObjectSpec, op: Op) {
        if let Some(core) = self.core.upgrade() {
            core.shared().apply(spec, op);
        }
    }

    fn handle(&self, core: &Arc<Cluster>, number: u64, bytes: &[u8], reply: Reply) {
        let SharedRequest { cluster, spec, op, may_wait } = match decode_message(bytes) {
            Ok((WorkerMessage::Shared(request), _)) => request,
            Ok((WorkerMessage::Nested(request), _)) => match &self.nested {
                Some(nested) => return nested.asked(number, request, reply),
                None => return reply(Vec::new()),
            },
            Err(error) => return reply(encode_answer(Err(error))),
        };
        if cluster != OWN_CLUSTER && cluster != core.shared().number() {
            let message = format!("{spec} belongs to another cluster than the task that asks for it");
            return reply(encode_answer(Err(Error::new(ErrorKind::NotShared, message))));
        }
        // Either the table answers later, or this function does.
        let reply = Arc::new(Mutex::new(Some(reply)));
        let (later, session, object) = (Arc::clone(&reply), Weak::clone(&self.this), spec.clone());
        let reply_later: TableReply = Box::new(move |answer| {
            let reply = later.lock().take();
            if let (Some(session), Some(reply)) = (session.upgrade(), reply) {
                session.answer(number, &object, answer, reply);
            }
        });
        self.state.lock().waiting.insert(number, None);
        match core.shared().submit(&spec, op, || may_wait.then_some(reply_later)) {
            Submitted::Answered(answer) => {
                let reply = reply.lock().take();
                if let Some(reply) = reply {
                    self.answer(number, &spec, answer, reply);
                }
            }
            Submitted::Waits(id) => {
                let has_ended = {
                    let mut state = self.state.lock();
                    // Without an entry, the table has answered meanwhile.
                    if let Some(entry) = state.waiting.get_mut(&number) {
                        *entry = Some((spec.clone(), id));
                    }
                    state.has_ended
                };
                if has_ended {
                    core.shared().withdraw(&spec, id);
                }
            }
        }
    }
}

impl Session for WorkerSession {
    fn ask(&self, number: u64, question: &[u8], reply: Reply) {
        match self.core.upgrade() {
            Some(core) => self.handle(&core, number, question, reply),
            None => {
                let error = Error::new(ErrorKind::Closed, "the cluster was closed");
                reply(encode_answer(Err(error)));
            }
        }
    }

    fn withdraw(&self, number: u64) {
        if self.nested.as_ref().is_some_and(|nested| nested.withdraw(number)) {
            return;
        }
        let entry = self.state.lock().waiting.get(&number).cloned().flatten();
        if let (Some((spec, id)), Some(core)) = (entry, self.core.upgrade()) {
            core.shared().withdraw(&spec, id);
        }
    }

    fn note(&self, note: &[u8]) {
        let spec = match decode_message(note) {
            Ok((WorkerMessage::Shared(SharedRequest { spec, op: Op::Release, .. }), _)) => spec,
            Ok((WorkerMessage::Nested(request), rest)) => {
                if let (Some(nested), Some(core)) = (&self.nested, self.core.upgrade()) {
                    nested.noted(&core, request, rest);
                }
                return;
            }
            _ => return,
        };
        let key = spec.to_string();
        let mut state = self.state.lock();
        let Some((spec, count)) = state.permits.get_mut(&key) else { return };
        let spec = spec.clone();
        *count -= 1;
        if *count == 0 {
            state.permits.remove(&key);
        }
        drop(state);
        self.apply(&spec, Op::Release);
    }

    fn ended(&self) {
        self.nested.iter().for_each(|nested| nested.gone());
        let (permits, waiting) = {
            let mut state = self.state.lock();
            state.has_ended = true;
            (std::mem::take(&mut state.permits), std::mem::take(&mut state.waiting))
        };
        let Some(core) = self.core.upgrade() else { return };
        for (spec, id) in waiting.into_values().flatten() {
            core.shared().withdraw(&spec, id);
        }
        for (spec, count) in permits.into_values() {
            (0..count).for_each(|_| core.shared().apply(&spec, Op::Release));
        }
    }
}
