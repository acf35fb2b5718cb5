//! WHAT TASKS SHARE: events, locks and semaphores, queues and variables that tasks in any worker of a cluster, and the program itself, know by
//! name.
//!
//! The objects are in the [`table`] of the cluster, in this process, whatever its workers are. A handle ([`Object`]) is a name and a way there: in
//! this process the cluster; in a worker process the line to it, at the other end of which the [`handler`] asks the table on behalf of the task. So what
//! is true for one is true for the other, but for what only processes do: they die, and what they had goes back.

mod event;
mod permits;
mod queue;
mod session;
mod table;
mod variable;

pub(super) use session::{ClusterService, of_handed};
pub(super) use table::Table;

pub use event::Event;
pub use permits::{Lock, Permit, Semaphore};
pub use queue::Queue;
pub use variable::Variable;

use super::cluster::{Backend, Core, CurrentWorker, cluster_numbered, give_up_place};
use super::spin::{deadline_after, spin_until};
use super::{Client, core_in_worker};
use crate::engine::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::processes::is_worker;
use crate::executor::processes::requests::{self, RequestError};
use crate::portable::Portable;
use crate::portable::codec::{Codec, Decoder, Encoder};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use session::OWN_CLUSTER;
use std::any::type_name;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use table::{Answer, Asked, Item, Kind, Op, Subject, Tell};

/// How many threads of a cluster may wait for what is shared without keeping their places. Those beyond keep them, so that their number is bounded.
const MAX_AWAY: usize = 256;

impl Client {
    /// The event of the cluster that has this name.
    ///
    /// Tasks and the program wait until it is set.
    ///
    /// # Examples
    /// ```
    /// use sprang::Client;
    ///
    /// let client = Client::threads(1)?;
    /// let waits = client.try_submit(|| Client::current().ok_or("no client")?.event("go").wait().map_err(|error| error.to_string()), ());
    /// client.event("go").set()?;
    /// waits.result()?;
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn event(&self, name: &str) -> Event {
        Event(self.object(Kind::Event, name, None, ""))
    }

    /// The lock of the cluster that has this name: a [`semaphore`](Client::semaphore) of one permit.
    pub fn lock(&self, name: &str) -> Lock {
        Lock(self.object(Kind::Lock, name, None, ""))
    }

    /// The semaphore of the cluster that has this name and so many permits; 0 counts as 1.
    ///
    /// At most so many tasks at a time have a permit, in whatever workers they run.
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
    /// let squares: Vec<_> = (0..10_u64).map(|x| client.try_submit(query, (x, lit(database.clone())))).collect();
    /// assert_eq!(client.gather(&squares)?.iter().sum::<u64>(), 285);
    /// assert_eq!(database.num_free()?, 2);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotShared`](ErrorKind::NotShared) if there is one of this name that has another number of permits; [`Closed`](ErrorKind::Closed).
    pub fn semaphore(&self, name: &str, num_permits: usize) -> Result<Semaphore> {
        let object = self.object(Kind::Semaphore, name, Some(num_permits.max(1) as u64), "");
        object.check().map(Semaphore)
    }

    /// The queue of the cluster that has this name, of items of this type, and so many at most, if there is to be a limit; 0 counts as 1.
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
    /// [`NotShared`](ErrorKind::NotShared) if there is one of this name with another limit or items of another type; [`Closed`](ErrorKind::Closed).
    pub fn queue<T: Portable>(&self, name: &str, max_items: Option<usize>) -> Result<Queue<T>> {
        let max_items = max_items.map(|max_items| max_items.max(1) as u64);
        self.object(Kind::Queue, name, max_items, type_name::<T>()).check().map(Queue::of)
    }

    /// The variable of the cluster that has this name, for a value of this type.
    ///
    /// # Errors
    /// [`NotShared`](ErrorKind::NotShared) if there is one of this name for values of another type; [`Closed`](ErrorKind::Closed).
    pub fn variable<T: Portable + Clone>(&self, name: &str) -> Result<Variable<T>> {
        self.object(Kind::Variable, name, None, type_name::<T>()).check().map(Variable::of)
    }

    fn object(&self, kind: Kind, name: &str, size: Option<u64>, value: &'static str) -> Object {
        let is_in_worker = core_in_worker().is_some_and(|core| Arc::ptr_eq(&core, &self.core));
        let site = if is_in_worker { Site::Line { cluster: OWN_CLUSTER } } else { Site::Here(Arc::clone(&self.core)) };
        Object::new(site, Subject { kind, name: name.into(), size, value: value.into() })
    }
}

/// Where an object is.
#[derive(Clone)]
enum Site {
    Here(Arc<Core>),
    /// In the parent of this process.
    Line {
        cluster: u64,
    },
}

/// A handle of an object of any kind.
struct Object {
    site: Site,
    subject: Arc<Subject>,
    /// Whether the table knows of this handle.
    is_open: AtomicBool,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.subject)
    }
}

impl Clone for Object {
    fn clone(&self) -> Self {
        let object = self.uncounted();
        let _ = object.open();
        object
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if let (Site::Here(core), true) = (&self.site, *self.is_open.get_mut()) {
            core.shared().shut(&self.subject);
        }
    }
}

/// How long somebody is ready to wait.
#[derive(Clone, Copy, Debug)]
enum Patience {
    None,
    Until(Instant),
    Endless,
}

impl Patience {
    fn of(time: Duration) -> Patience {
        match deadline_after(time) {
            _ if time.is_zero() => Patience::None,
            Some(deadline) => Patience::Until(deadline),
            None => Patience::Endless,
        }
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Patience::Until(deadline) => Some(deadline),
            Patience::None | Patience::Endless => None,
        }
    }
}

impl Object {
    fn new(site: Site, subject: Subject) -> Object {
        let object = Object { site, subject: Arc::new(subject), is_open: AtomicBool::new(false) };
        // If it is like another, or the cluster is closed, that is said by `check`, or when it is used.
        let _ = object.open();
        object
    }

    /// A handle that does not keep the object there.
    fn uncounted(&self) -> Object {
        Object { site: self.site.clone(), subject: Arc::clone(&self.subject), is_open: AtomicBool::new(false) }
    }

    fn open(&self) -> Result<()> {
        if let Site::Here(core) = &self.site
            && !self.is_open.load(Ordering::Relaxed)
        {
            core.shared().open(&self.subject)?;
            self.is_open.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Fails unless the object is like that.
    fn check(self) -> Result<Object> {
        self.ask(Op::Look, Patience::None)?;
        Ok(self)
    }

    fn codec(&self) -> Codec {
        match &self.site {
            Site::Here(core) => core.codec(),
            Site::Line { .. } => requests::codec(),
        }
    }

    /// Whether items are kept as they are.
    fn keeps_values(&self) -> bool {
        matches!(&self.site, Site::Here(core) if matches!(core.backend(), Backend::Threads(_)))
    }

    fn encode<T: Portable>(&self, value: &T) -> Result<Item> {
        // Without shared memory: it is not known who is going to let go of it, and when.
        let mut encoder = Encoder::new(self.codec(), None);
        encoder.write(value).map_err(|error| self.not_portable::<T>("encode", &error))?;
        Ok(Item::Encoded(encoder.finish().0.into()))
    }

    fn decode<T: Portable>(&self, bytes: &[u8]) -> Result<T> {
        Decoder::new(self.codec(), bytes, &[]).read().map_err(|error| self.not_portable::<T>("decode", &error))
    }

    fn not_portable<T>(&self, verb: &str, error: &dyn fmt::Display) -> Error {
        let message = format!("cannot {verb} a `{}` for {}: {error}", type_name::<T>(), self.subject);
        Error::new(ErrorKind::NotPortable, message)
    }

    /// Does something to the object, or has it done, and waits until that is possible.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed), [`NotShared`](ErrorKind::NotShared); [`Cancelled`](ErrorKind::Cancelled) if the task that waits is.
    fn ask(&self, op: Op, patience: Patience) -> Result<Answer> {
        let answer = match &self.site {
            Site::Here(core) => self.ask_here(core, op, patience)?,
            Site::Line { cluster } => self.ask_parent(*cluster, &op, patience)?,
        };
        let was_cancelled = || CancelToken::in_force().is_some_and(|token| token.is_cancelled());
        if matches!((&answer, patience), (Answer::Refused(_), Patience::Until(_) | Patience::Endless))
            && was_cancelled()
        {
            let message = format!("the task that waits for {} was cancelled", self.subject);
            return Err(Error::new(ErrorKind::Cancelled, message));
        }
        Ok(answer)
    }

    fn ask_here(&self, core: &Arc<Core>, op: Op, patience: Patience) -> Result<Answer> {
        if let Patience::None = patience {
            return match core.shared().ask(&self.subject, op, || None) {
                Asked::Answered(answer) => answer,
                Asked::Waits(_) => unreachable!("there is nobody to be told"),
            };
        }
        let mut letter = None;
        let tell = || -> Option<Tell> {
            let letter = Arc::clone(letter.insert(Arc::<Oneshot>::default()));
            Some(Box::new(move |answer| letter.put(answer)))
        };
        let asked = core.shared().ask(&self.subject, op, tell);
        let (number, letter) = match (asked, letter) {
            (Asked::Answered(answer), _) => return answer,
            (Asked::Waits(number), letter) => (number, letter.expect("who waits is told by a letter")),
        };
        if spin_until(|| letter.is_there.load(Ordering::Acquire)) {
            return letter.take();
        }
        let wait = || self.wait(core, number, &letter, patience.deadline());
        if !CurrentWorker::of_this_thread().is_some_and(|place| place.is_in(core)) {
            return wait();
        }
        let num_away = &core.shared().num_away;
        let may_leave = num_away.fetch_add(1, Ordering::Relaxed) < MAX_AWAY;
        let answer = if may_leave { give_up_place(core, wait) } else { wait() };
        num_away.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    fn wait(&self, core: &Core, number: u64, letter: &Oneshot, deadline: Option<Instant>) -> Result<Answer> {
        let token = CancelToken::in_force();
        loop {
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline)
                || token.as_ref().is_some_and(CancelToken::is_cancelled);
            if is_over {
                return match core.shared().withdraw(&self.subject, number) {
                    Some((_, answer)) => Ok(answer),
                    // It is on its way.
                    None => {
                        letter.wait(None);
                        letter.take()
                    }
                };
            }
            let look = token.as_ref().map(|_| Instant::now() + CancelToken::LOOK);
            if letter.wait(deadline.into_iter().chain(look).min()) {
                return letter.take();
            }
        }
    }

    fn ask_parent(&self, cluster: u64, op: &Op, patience: Patience) -> Result<Answer> {
        let may_wait = !matches!(patience, Patience::None);
        let question = session::question(cluster, &self.subject, op, may_wait);
        match requests::ask(question, patience.deadline()) {
            Ok(answer) => session::read_answer(&answer),
            Err(RequestError::NoTask) => Err(Error::new(
                ErrorKind::NotShared,
                format!(
                    "{} is in the parent of this worker process, which only the thread of a task can ask; ask for it there, before \
                     other threads are started",
                    self.subject
                ),
            )),
            Err(RequestError::NoDesk) => Err(Error::new(
                ErrorKind::NotShared,
                format!(
                    "{} cannot be had: the task was not handed in by a client; submit it to a cluster",
                    self.subject
                ),
            )),
        }
    }

    /// Gives back a permit. Waits for nothing, and cannot fail.
    fn release(&self) {
        match &self.site {
            Site::Here(core) => drop(core.shared().ask(&self.subject, Op::Release, || None)),
            Site::Line { cluster } => requests::note(session::question(*cluster, &self.subject, &Op::Release, false)),
        }
    }
}

/// Where a thread waits for its answer.
#[derive(Default)]
struct Oneshot {
    is_there: AtomicBool,
    answer: Mutex<Option<Result<Answer>>>,
    bell: Condvar,
}

impl Oneshot {
    fn put(&self, answer: Result<Answer>) {
        *self.answer.lock() = Some(answer);
        // Release: pairs with who looks for it before it takes the lock.
        self.is_there.store(true, Ordering::Release);
        self.bell.notify_all();
    }

    /// Waits until it is there; false if it is not by this time.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut answer = self.answer.lock();
        while answer.is_none() {
            match deadline {
                None => self.bell.wait(&mut answer),
                Some(deadline) => {
                    if self.bell.wait_until(&mut answer, deadline).timed_out() {
                        return answer.is_some();
                    }
                }
            }
        }
        true
    }

    fn take(&self) -> Result<Answer> {
        self.answer.lock().take().expect("it was waited for")
    }
}

/// What has come that makes no sense as an answer to what was asked.
fn unexpected(object: &Object, answer: &Answer) -> Error {
    Error::new(ErrorKind::NotShared, format!("{} answered {answer:?}, which is a bug of sprang", object.subject))
}

// ---- handles cross to other processes ----

/// A handle on its way; its kind and the type of its items are those of the Rust type.
#[derive(Serialize, Deserialize)]
struct EncodedValue {
    cluster: u64,
    name: String,
    size: Option<u64>,
}

impl Object {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cluster = match &self.site {
            Site::Here(core) => core.shared().number(),
            Site::Line { cluster } => *cluster,
        };
        if cluster == OWN_CLUSTER {
            // Whose that is would be lost on the way.
            return Err(ser::Error::custom(format!(
                "{} was asked for in a worker process and cannot leave it; send its name",
                self.subject
            )));
        }
        EncodedValue { cluster, name: self.subject.name.clone(), size: self.subject.size }.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D, kind: Kind, value: &'static str) -> Result<Object, D::Error> {
        let EncodedValue { cluster, name, size } = EncodedValue::deserialize(deserializer)?;
        let subject = Subject { kind, name, size, value: value.into() };
        let site = match cluster_numbered(cluster) {
            Some(core) => Site::Here(core),
            None if is_worker() => Site::Line { cluster },
            None => return Err(de::Error::custom(format!("the cluster of {subject} is gone"))),
        };
        Ok(Object::new(site, subject))
    }
}

/// Handles are values that tasks can be given, also in another process.
macro_rules! portable {
    ($($handle:ident $(<$item:ident: $bound:path>)?, $kind:expr, $value:expr, $wrap:expr;)*) => {$(
        impl $(<$item>)? Serialize for $handle $(<$item>)? {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.object().write(serializer)
            }
        }

        impl<'de $(, $item: $bound)?> Deserialize<'de> for $handle $(<$item>)? {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Object::read(deserializer, $kind, $value).map($wrap)
            }
        }
    )*};
}
portable! {
    Event, Kind::Event, "", Event;
    Lock, Kind::Lock, "", Lock;
    Semaphore, Kind::Semaphore, "", Semaphore;
    Queue<T: Portable>, Kind::Queue, type_name::<T>(), Queue::of;
    Variable<T: Portable>, Kind::Variable, type_name::<T>(), Variable::of;
}
