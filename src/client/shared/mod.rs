//! Objects that the tasks of a cluster and the program share by name: events, locks, semaphores,
//! queues and variables.
//!
//! The objects are in the [`table`] of the cluster, in the process that made the cluster. A
//! [`Handle`] has a name and a way to that table: in this process the cluster, and in a worker
//! process a connection to the parent, where a [`session`] passes requests to the table. So handles
//! behave alike everywhere. Only worker processes die: then their permits are released, and an item
//! that has not arrived is put back.

mod event;
mod permits;
mod queue;
mod session;
mod table;
mod variable;

pub(super) use session::{ClusterService, encode_nested};
pub(super) use table::Table;

pub use event::Event;
pub use permits::{Lock, Permit, Semaphore};
pub use queue::Queue;
pub use variable::Variable;

use super::cluster::{Backend, Cluster, WorkerThread, block_in, cluster_numbered};
use super::spin::{deadline_after, spin_until};
use super::{Client, core_in_worker};
use crate::engine::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::processes::is_worker;
use crate::executor::processes::requests::{self, RequestError};
use crate::portable::Portable;
use crate::portable::codec::{Codec, Decoder, Encoder};
use crossbeam_channel::{Receiver, bounded};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use session::OWN_CLUSTER;
use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use table::{Answer, Item, ObjectKind, ObjectSpec, Op, Reply, Submitted};

/// How many threads of a cluster may give up their places to wait for shared objects. Further
/// threads keep their places, which bounds the number of threads.
const MAX_AWAY: usize = 256;

/// Every answer is delivered: the table answers each waiting operation once, also when it is
/// closed.
const ANSWERED: &str = "a waiting operation is answered once";

impl Client {
    /// Returns the event of the cluster with this name.
    ///
    /// # Examples
    /// ```
    /// use sprang::Client;
    ///
    /// let client = Client::threads(1)?;
    /// let wait = || {
    ///     let client = Client::current().ok_or("no client")?;
    ///     client.event("go").wait().map_err(|error| error.to_string())
    /// };
    /// let waits = client.try_submit(wait, ());
    /// client.event("go").set()?;
    /// waits.result()?;
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn event(&self, name: &str) -> Event {
        Event(self.handle(ObjectKind::Event, name, None, ""))
    }

    /// Returns the lock of the cluster with this name. It is a [`semaphore`](Client::semaphore) of
    /// one permit.
    pub fn lock(&self, name: &str) -> Lock {
        Lock(self.handle(ObjectKind::Lock, name, None, ""))
    }

    /// Returns the semaphore of the cluster with this name and number of permits; 0 counts as 1.
    ///
    /// At most `num_permits` tasks have a permit at a time, in all workers together.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Client, Semaphore, lit};
    ///
    /// let client = Client::threads(4)?;
    /// let database = client.semaphore("database", 2)?;
    /// let query = |x: u64, database: &Semaphore| {
    ///     let _permit = database.acquire()?; // until the end of the block
    ///     Ok::<_, sprang::Error>(x * x)
    /// };
    /// let submit = |x: u64| client.try_submit(query, (x, lit(database.clone())));
    /// let squares: Vec<_> = (0..10).map(submit).collect();
    /// assert_eq!(client.gather(&squares)?.iter().sum::<u64>(), 285);
    /// assert_eq!(database.num_free()?, 2);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotShared`](ErrorKind::NotShared) if a semaphore of this name has another number of
    /// permits; [`Closed`](ErrorKind::Closed).
    pub fn semaphore(&self, name: &str, num_permits: usize) -> Result<Semaphore> {
        let handle = self.handle(ObjectKind::Semaphore, name, Some(num_permits.max(1) as u64), "");
        handle.check().map(Semaphore)
    }

    /// Returns the queue of the cluster with this name, for items of this type. `max_items` limits
    /// the number of items; 0 counts as 1.
    ///
    /// # Examples
    /// ```
    /// use sprang::Client;
    ///
    /// let client = Client::threads(1)?;
    /// let jobs = client.queue::<u64>("jobs", Some(100))?;
    /// let sum = client.try_submit_local(
    ///     {
    ///         let jobs = jobs.clone();
    ///         move || (0..3).map(|_| jobs.take()).sum::<Result<u64, _>>()
    ///     },
    ///     (),
    /// );
    /// for job in [1, 2, 3] {
    ///     jobs.put(job)?;
    /// }
    /// assert_eq!(sum.result()?, 6);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotShared`](ErrorKind::NotShared) if a queue of this name has another limit or another
    /// type of items; [`Closed`](ErrorKind::Closed).
    pub fn queue<T: Portable>(&self, name: &str, max_items: Option<usize>) -> Result<Queue<T>> {
        let max_items = max_items.map(|max_items| max_items.max(1) as u64);
        self.handle(ObjectKind::Queue, name, max_items, type_name::<T>()).check().map(Queue::of)
    }

    /// Returns the variable of the cluster with this name, for values of this type.
    ///
    /// # Errors
    /// [`NotShared`](ErrorKind::NotShared) if a variable of this name has another type of values;
    /// [`Closed`](ErrorKind::Closed).
    pub fn variable<T: Portable + Clone>(&self, name: &str) -> Result<Variable<T>> {
        self.handle(ObjectKind::Variable, name, None, type_name::<T>()).check().map(Variable::of)
    }

    fn handle(&self, kind: ObjectKind, name: &str, size: Option<u64>, value: &'static str) -> Handle {
        let is_in_worker = core_in_worker().is_some_and(|core| Arc::ptr_eq(&core, &self.core));
        let location = match is_in_worker {
            true => Location::Parent { cluster: OWN_CLUSTER },
            false => Location::Here(Arc::clone(&self.core)),
        };
        Handle::new(location, ObjectSpec { kind, name: name.into(), size, value: value.into() })
    }
}

/// The process of an object.
#[derive(Clone)]
enum Location {
    Here(Arc<Cluster>),
    /// The parent of this worker process.
    Parent {
        cluster: u64,
    },
}

/// A handle of an object of any kind.
struct Handle {
    location: Location,
    spec: Arc<ObjectSpec>,
    /// Whether the table counts this handle.
    is_counted: AtomicBool,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.spec)
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        let handle = self.uncounted();
        let _ = handle.count();
        handle
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let (Location::Here(core), true) = (&self.location, *self.is_counted.get_mut()) {
            core.shared().remove_handle(&self.spec);
        }
    }
}

/// How long an operation may wait.
#[derive(Clone, Copy, Debug)]
enum Timeout {
    Zero,
    At(Instant),
    Never,
}

impl Timeout {
    fn after(time: Duration) -> Timeout {
        match deadline_after(time) {
            _ if time.is_zero() => Timeout::Zero,
            Some(deadline) => Timeout::At(deadline),
            None => Timeout::Never,
        }
    }

    fn may_wait(self) -> bool {
        !matches!(self, Timeout::Zero)
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Timeout::At(deadline) => Some(deadline),
            Timeout::Zero | Timeout::Never => None,
        }
    }
}

impl Handle {
    fn new(location: Location, spec: ObjectSpec) -> Handle {
        let handle = Handle { location, spec: Arc::new(spec), is_counted: AtomicBool::new(false) };
        // An error is returned by `check`, or by the first operation.
        let _ = handle.count();
        handle
    }

    /// A handle that does not keep the object in the table.
    fn uncounted(&self) -> Handle {
        Handle { location: self.location.clone(), spec: Arc::clone(&self.spec), is_counted: AtomicBool::new(false) }
    }

    fn count(&self) -> Result<()> {
        if let Location::Here(core) = &self.location
            && !self.is_counted.load(Ordering::Relaxed)
        {
            core.shared().add_handle(&self.spec)?;
            self.is_counted.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Fails unless the object is like its spec.
    fn check(self) -> Result<Handle> {
        self.submit(Op::Check, Timeout::Zero)?;
        Ok(self)
    }

    fn codec(&self) -> Codec {
        match &self.location {
            Location::Here(core) => core.codec(),
            Location::Parent { .. } => requests::codec(),
        }
    }

    /// Whether items are kept unencoded.
    fn keeps_values(&self) -> bool {
        matches!(&self.location, Location::Here(core) if matches!(core.backend(), Backend::Threads(_)))
    }

    fn encode<T: Portable>(&self, value: &T) -> Result<Item> {
        // Without shared memory: no process is known that would release a region.
        let mut encoder = Encoder::new(self.codec(), None);
        encoder.write(value).map_err(|error| self.not_portable::<T>("encode", &error))?;
        Ok(Item::Encoded(encoder.finish().0.into()))
    }

    fn decode<T: Portable>(&self, bytes: &[u8]) -> Result<T> {
        Decoder::new(self.codec(), bytes, &[]).read().map_err(|error| self.not_portable::<T>("decode", &error))
    }

    fn not_portable<T>(&self, verb: &str, error: &dyn fmt::Display) -> Error {
        let message = format!("cannot {verb} a `{}` for {}: {error}", type_name::<T>(), self.spec);
        Error::new(ErrorKind::NotPortable, message)
    }

    /// Applies an operation to the object, and waits until it completes.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), [`NotShared`](ErrorKind::NotShared);
    /// [`Cancelled`](ErrorKind::Cancelled) if the calling task is.
    fn submit(&self, op: Op, timeout: Timeout) -> Result<Answer> {
        let answer = match &self.location {
            Location::Here(core) => self.submit_here(core, op, timeout)?,
            Location::Parent { cluster } => self.submit_to_parent(*cluster, op, timeout)?,
        };
        let was_cancelled = || CancelToken::in_force().is_some_and(|token| token.is_cancelled());
        if matches!(answer, Answer::Refused(_)) && timeout.may_wait() && was_cancelled() {
            let message = format!("the task that waits for {} was cancelled", self.spec);
            return Err(Error::new(ErrorKind::Cancelled, message));
        }
        Ok(answer)
    }

    fn submit_here(&self, core: &Arc<Cluster>, op: Op, timeout: Timeout) -> Result<Answer> {
        let mut answer = None;
        let reply = || -> Option<Reply> {
            timeout.may_wait().then(|| {
                let (sender, receiver) = bounded(1);
                answer = Some(receiver);
                let reply: Reply = Box::new(move |answer| drop(sender.send(answer)));
                reply
            })
        };
        let id = match core.shared().submit(&self.spec, op, reply) {
            Submitted::Answered(answer) => return answer,
            Submitted::Waits(id) => id,
        };
        let answer = answer.expect("an operation waits only with a reply");
        if spin_until(|| !answer.is_empty()) {
            return answer.recv().expect(ANSWERED);
        }
        let wait = || self.wait(core, id, &answer, timeout.deadline());
        if !WorkerThread::current().is_some_and(|place| place.is_in(core)) {
            return wait();
        }
        let num_away = &core.shared().num_away;
        let may_leave = num_away.fetch_add(1, Ordering::Relaxed) < MAX_AWAY;
        let answer = if may_leave { block_in(core, wait) } else { wait() };
        num_away.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// Blocks until the answer is there. A deadline or a cancellation withdraws the operation,
    /// which answers it.
    fn wait(
        &self,
        core: &Arc<Cluster>,
        id: u64,
        answer: &Receiver<Result<Answer>>,
        deadline: Option<Instant>,
    ) -> Result<Answer> {
        let _listener = CancelToken::in_force().map(|token| {
            let (core, spec) = (Arc::clone(core), Arc::clone(&self.spec));
            token.on_cancel(move || core.shared().withdraw(&spec, id))
        });
        if let Some(deadline) = deadline {
            if let Ok(answer) = answer.recv_deadline(deadline) {
                return answer;
            }
            core.shared().withdraw(&self.spec, id);
        }
        answer.recv().expect(ANSWERED)
    }

    fn submit_to_parent(&self, cluster: u64, op: Op, timeout: Timeout) -> Result<Answer> {
        let request = session::encode_request(cluster, &self.spec, op, timeout.may_wait());
        match requests::ask(request, timeout.deadline()) {
            Ok(answer) => session::decode_answer(&answer),
            Err(RequestError::NoTask) => Err(Error::new(
                ErrorKind::NotShared,
                format!(
                    "{} is in the parent of this worker process, which only the thread of a task can ask; ask for it there, before \
                     other threads are started",
                    self.spec
                ),
            )),
            Err(RequestError::NoHandler) => Err(Error::new(
                ErrorKind::NotShared,
                format!("{} cannot be had: the task was not submitted by a client; submit it to a cluster", self.spec),
            )),
        }
    }

    /// Releases a permit. Never blocks or fails.
    fn release(&self) {
        match &self.location {
            Location::Here(core) => core.shared().apply(&self.spec, Op::Release),
            Location::Parent { cluster } => {
                requests::note(session::encode_request(*cluster, &self.spec, Op::Release, false));
            }
        }
    }
}

/// An answer that makes no sense for the operation.
fn unexpected(handle: &Handle, answer: &Answer) -> Error {
    Error::new(ErrorKind::NotShared, format!("{} answered {answer:?}, which is a bug of sprang", handle.spec))
}

// ---- handles cross to other processes ----

/// An encoded handle. Its Rust type gives the kind and the type of the items.
#[derive(Serialize, Deserialize)]
struct EncodedHandle {
    cluster: u64,
    name: String,
    size: Option<u64>,
}

impl Handle {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cluster = match &self.location {
            Location::Here(core) => core.shared().number(),
            Location::Parent { cluster } => *cluster,
        };
        if cluster == OWN_CLUSTER {
            // In another process this would stand for another cluster.
            return Err(ser::Error::custom(format!(
                "{} was asked for in a worker process and cannot leave it; send its name",
                self.spec
            )));
        }
        EncodedHandle { cluster, name: self.spec.name.clone(), size: self.spec.size }.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
        kind: ObjectKind,
        value: &'static str,
    ) -> Result<Handle, D::Error> {
        let EncodedHandle { cluster, name, size } = EncodedHandle::deserialize(deserializer)?;
        let spec = ObjectSpec { kind, name, size, value: value.into() };
        let location = match cluster_numbered(cluster) {
            Some(core) => Location::Here(core),
            None if is_worker() => Location::Parent { cluster },
            None => return Err(de::Error::custom(format!("the cluster of {spec} is gone"))),
        };
        Ok(Handle::new(location, spec))
    }
}

/// Lets handles be values of tasks, also in another process.
macro_rules! portable {
    ($($handle:ident $(<$item:ident: $bound:path>)?, $kind:expr, $value:expr, $wrap:expr;)*) => {$(
        impl $(<$item>)? Serialize for $handle $(<$item>)? {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.write(serializer)
            }
        }

        impl<'de $(, $item: $bound)?> Deserialize<'de> for $handle $(<$item>)? {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Handle::read(deserializer, $kind, $value).map($wrap)
            }
        }
    )*};
}
portable! {
    Event, ObjectKind::Event, "", Event;
    Lock, ObjectKind::Lock, "", Lock;
    Semaphore, ObjectKind::Semaphore, "", Semaphore;
    Queue<T: Portable>, ObjectKind::Queue, type_name::<T>(), Queue::of;
    Variable<T: Portable>, ObjectKind::Variable, type_name::<T>(), Variable::of;
}

/// What handles with a type of items have in common.
macro_rules! typed {
    ($($handle:ident)*) => {$(
        impl<T> Clone for $handle<T> {
            fn clone(&self) -> Self {
                $handle::of(self.0.clone())
            }
        }

        impl<T> fmt::Debug for $handle<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($handle), "({:?})"), self.0)
            }
        }

        impl<T> $handle<T> {
            fn of(handle: Handle) -> Self {
                $handle(handle, PhantomData)
            }
        }
    )*};
}
typed!(Queue Variable);
