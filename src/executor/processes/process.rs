//! One worker process, shared by the slots that use its threads.
//!
//! A slot starts the worker, which lives until it dies or its last slot disconnects. If this
//! process kills the worker, it records a [`KillReason`].

use super::activity::Activity;
use super::lifeline::Lifeline;
use super::link::{ChannelError, prepare, receive, send};
use super::monitor::{self, MonitoredProcess, Output};
use super::protocol::{Hello, Setup, ToParent, ToWorker};
use super::rights::Rights;
use super::server::{SocketFile, abandon, server};
use super::settings::ProcessSettings;
use super::signals::with_signals_blocked;
use super::spawn::{ChildProcess, Exit, Killer, SpawnSpec, Spawned, spawn};
use super::token::{CANCEL, VERSION, exe_id};
use crate::engine::Timer;
use crate::engine::callback::Replaceable;
use crate::error::{Error, ErrorKind, WorkerExit};
use crate::executor::remote::requests::{RequestHandler, Session};
use crate::executor::remote::schedule::{Inheritance, RemoteWorker};
use crate::executor::remote::stored::KeptValues;
use crate::executor::timer::TimerThread;
use crate::per_process::spawn as spawn_thread;
use crate::portable::budget::{Budget, BudgetHandle, Member};
use crate::portable::code::CodeRef;
use ipc_channel::ipc::{self, IpcOneShotServer, IpcReceiver, IpcSender};
use parking_lot::Mutex;
use std::fmt;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a worker may take to end after the last slot has disconnected.
const GOODBYE_GRACE: Duration = Duration::from_secs(2);

/// How long a worker whose channel is broken may take to end by itself, so that its exit status can
/// be reported. A worker that was killed closes its channels shortly before its end can be seen.
pub(super) const EXIT_GRACE: Duration = Duration::from_millis(200);

/// The pause between attempts to tell a slot that its worker will not connect.
const ABANDON_AGAIN: Duration = Duration::from_millis(50);

/// Why this process killed a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KillReason {
    /// It took longer than this to start.
    Start(Duration),
    /// The task in this batch of this thread took longer than `limit`. Tasks on other threads are
    /// not the cause.
    TimedOut { limit: Duration, thread: usize, batch: u32 },
    /// It used more memory than this many bytes.
    MemoryLimit(u64),
    /// The run was over, and a task of it did not end.
    Cancelled,
    /// A restart was requested. The worker's tasks run again.
    Replaced,
    /// It broke the protocol.
    Breach(String),
}

/// Why a worker did not get ready.
enum NotReady {
    /// It ended; the exit status says how.
    Ended,
    /// It broke the protocol, or said why it cannot run tasks.
    Because(String),
}

impl From<String> for NotReady {
    fn from(problem: String) -> Self {
        NotReady::Because(problem)
    }
}

/// A slot's ends of its channels to a thread of a worker.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) to: IpcSender<ToWorker>,
    pub(super) from: IpcReceiver<ToParent>,
}

/// See the [module](self).
pub(super) struct WorkerProcess {
    number: u32,
    /// See [`Pool::inheritance`](super::pool::Pool::inheritance).
    inheritance: Inheritance,
    pid: u32,
    memory_limit: Option<u64>,
    max_tasks: Option<u64>,
    process: Mutex<ChildProcess>,
    killer: Killer,
    lifeline: Arc<Lifeline>,
    /// Its part of the shared memory budget, until the process has ended.
    member: Mutex<Option<Member>>,
    activity: Activity,
    kill_reason: Mutex<Option<KillReason>>,
    has_ended: AtomicBool,
    is_leaving: AtomicBool,
    /// Its end was counted.
    is_counted: AtomicBool,
    wake_target: Mutex<WakeTarget>,
    output: Option<Arc<Output>>,
    /// The number of slots that have a channel or may still get one.
    num_links: AtomicUsize,
    num_busy: AtomicUsize,
    /// How many tasks it was given.
    num_taken: AtomicU64,
    awaited: Box<[AwaitedBatch]>,
    kept: Arc<KeptValues>,
    session: Mutex<SessionState>,
    /// Called when the process has ended.
    on_end: OnEnd,
}

/// A function that is called when a worker has ended. It must not block.
type OnEnd = Box<dyn Fn() + Send + Sync>;

/// The session of the worker with the handler of requests.
enum SessionState {
    /// The worker has not asked for anything yet.
    None,
    Open(Arc<dyn Session>),
    /// The worker has ended.
    Ended,
}

/// How to wake the slots when the worker has ended.
enum WakeTarget {
    /// A slot waits at the one-shot server with this name. A connection in place of the worker's
    /// wakes it.
    Starting(String),
    /// The slots wait for messages on these channels.
    Serving(Vec<IpcSender<ToParent>>),
    /// The slots were woken. The senders are closed, so that no slot waits for the rest of a
    /// message.
    Woken,
}

/// The results that a slot waits for from its thread of the worker.
#[derive(Debug, Default)]
struct AwaitedBatch {
    /// The number of the batch whose results the slot waits for at this moment, or 0.
    batch: AtomicU32,
    /// The batch that the last check found overdue: the slot waited although the worker had sent
    /// the results.
    overdue: AtomicU32,
}

impl fmt::Debug for WorkerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerProcess")
            .field("number", &self.number)
            .field("pid", &self.pid)
            .field("has_ended", &self.has_ended)
            .field("kill_reason", &self.kill_reason.lock())
            .field("awaited", &self.awaited)
            .field("busy_with", &(0..self.awaited.len()).map(|thread| self.busy_with(thread)).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl WorkerProcess {
    /// Starts a worker and waits until it is ready. It dies with the calling thread.
    pub(super) fn start(
        number: u32,
        inheritance: Inheritance,
        rights: &Rights,
        settings: &ProcessSettings,
        budget: &Budget,
        on_end: OnEnd,
    ) -> Result<(Arc<WorkerProcess>, Vec<Channel>), Error> {
        let fail = |what: &str| Error::new(ErrorKind::NoWorker, format!("a worker process did not start: {what}"));
        prepare().map_err(|error| fail(&format!("no channel for it: {error}")))?;
        let (server, name) = server().map_err(|problem| fail(&problem))?;
        let _socket = SocketFile(name.clone());
        let spawned = spawn(&SpawnSpec { server: &name, settings, rights });
        let Spawned { process, lifeline, output } = spawned.map_err(|error| Error::new(ErrorKind::NoWorker, error))?;
        let num_threads = settings.threads_per_worker.get();
        let (activity, memory) = Activity::new(num_threads).ok_or_else(|| fail("there is no shared memory"))?;
        let (member, budget) = budget.join().ok_or_else(|| fail("there is no shared memory"))?;
        let process = Arc::new(WorkerProcess {
            number,
            inheritance,
            pid: process.pid(),
            memory_limit: settings.memory_limit,
            max_tasks: settings.max_tasks_per_worker.map(NonZeroU64::get),
            killer: process.killer(),
            process: Mutex::new(process),
            lifeline,
            member: Mutex::new(Some(member)),
            activity,
            kill_reason: Mutex::new(None),
            has_ended: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            is_counted: AtomicBool::new(false),
            wake_target: Mutex::new(WakeTarget::Starting(name)),
            output: output.map(|pipe| Arc::new(Output::new(pipe, number))),
            num_links: AtomicUsize::new(num_threads),
            num_busy: AtomicUsize::new(0),
            num_taken: AtomicU64::new(0),
            awaited: (0..num_threads).map(|_| AwaitedBatch::default()).collect(),
            kept: KeptValues::new(num_threads),
            session: Mutex::new(SessionState::None),
            on_end,
        });
        monitor::watch(&process).map_err(|error| fail(&format!("it cannot be watched: {error}")))?;
        let limit = settings.start_timeout;
        let _deadline = TimerThread::shared().start(limit, process.killer_for(KillReason::Start(limit)));
        match process.set_up(settings, server, memory, budget) {
            Ok(channels) => Ok((process, channels)),
            Err(problem) => Err(fail(&process.why_not_ready(problem))),
        }
    }

    /// The messages up to the first call.
    fn set_up(
        &self,
        settings: &ProcessSettings,
        server: IpcOneShotServer<Hello>,
        activity: ipc::IpcSharedMemory,
        budget: BudgetHandle,
    ) -> Result<Vec<Channel>, NotReady> {
        let text = |error: &dyn fmt::Display| NotReady::Because(error.to_string());
        let accepted = with_signals_blocked(|| catch_unwind(AssertUnwindSafe(|| server.accept())));
        // Without a message the worker is about to end, or must be killed.
        let Ok(Ok((_server, Hello { version, executable, setup }))) = accepted else {
            return Err(NotReady::Ended);
        };
        if version != VERSION {
            return Err(format!("it has version {version} of sprang, and this process {VERSION}").into());
        }
        if executable != exe_id().map_err(|error| text(&error))? {
            return Err("it runs another executable than this process".to_owned().into());
        }
        let num_threads = self.awaited.len();
        let (mut threads, mut channels, mut wakers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..num_threads {
            let (to, their_from) = ipc::channel().map_err(|error| text(&error))?;
            let (their_to, from) = ipc::channel().map_err(|error| text(&error))?;
            wakers.push(IpcSender::clone(&their_to));
            threads.push(Setup::Thread(their_from, their_to));
            channels.push(Channel { to, from });
        }
        *self.wake_target.lock() = WakeTarget::Serving(wakers);
        // If the worker ended before, the wake-up went to the server, where no slot receives any
        // more.
        if self.has_ended() {
            return Err(NotReady::Ended);
        }
        let initializer = settings.initializer.map(|initializer| CodeRef::to(initializer.code));
        let worker = Setup::Worker {
            number: self.number,
            origin: next_origin(),
            codec: settings.codec,
            budget,
            initializer: initializer.transpose().map_err(|error| text(&error))?,
            activity,
            log_level: log::max_level() as usize,
            num_threads,
        };
        for message in std::iter::once(worker).chain(threads) {
            match send(&setup, message) {
                Ok(()) => {}
                Err(ChannelError::Closed) => return Err(NotReady::Ended),
                Err(broken) => return Err(text(&broken)),
            }
        }
        for channel in &channels {
            match receive(&channel.from) {
                Ok(ToParent::Ready(ready)) => ready?,
                Ok(ToParent::WakeForEnd) | Err(ChannelError::Closed) => return Err(NotReady::Ended),
                Ok(_) => return Err("it sent another message than that it is ready".to_owned().into()),
                Err(broken) => return Err(text(&broken)),
            }
        }
        Ok(channels)
    }

    /// Waits for the end of a worker that did not get ready, and returns why it did not.
    fn why_not_ready(&self, problem: NotReady) -> String {
        if !matches!(problem, NotReady::Ended) || !self.ends_within(EXIT_GRACE) {
            self.kill(KillReason::Breach("it was not ready".into()));
        }
        let exit = self.exit();
        let what = match (self.kill_reason(), problem) {
            (Some(KillReason::Start(limit)), _) => format!(
                "it was not ready in {limit:?}; does its initializer or a constructor of the program wait for something? \
                 See processes.start_timeout"
            ),
            (_, NotReady::Because(problem)) => problem,
            (Some(_), NotReady::Ended) => "it cannot be talked to".into(),
            (None, NotReady::Ended) => match exit.signal() {
                Some(_) => format!("it was {exit}"),
                None => format!("it {exit}"),
            },
        };
        let tail = self.output_tail();
        if tail.is_empty() { what } else { format!("{what}; its last output:\n{tail}") }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn inheritance(&self) -> Inheritance {
        self.inheritance
    }

    /// The values that the worker keeps decoded.
    pub(super) fn kept(&self) -> &Arc<KeptValues> {
        &self.kept
    }

    fn output_tail(&self) -> String {
        self.output.as_ref().map_or(String::new(), |output| output.tail())
    }

    // ---- the end ----

    /// Kills the worker. The first reason counts.
    pub(super) fn kill(&self, kill_reason: KillReason) {
        self.kill_reason.lock().get_or_insert(kill_reason);
        self.killer.kill();
    }

    /// For a timer: kills the worker if it still exists.
    pub(super) fn killer_for(self: &Arc<Self>, kill_reason: KillReason) -> Box<dyn FnOnce() + Send> {
        let process = Arc::downgrade(self);
        Box::new(move || {
            if let Some(process) = process.upgrade() {
                process.kill(kill_reason);
            }
        })
    }

    pub(super) fn kill_reason(&self) -> Option<KillReason> {
        self.kill_reason.lock().clone()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Waits for the end of the process, for no longer than `limit`. Says whether it has ended.
    pub(super) fn ends_within(&self, limit: Duration) -> bool {
        self.process.lock().wait_timeout(limit).is_some()
    }

    /// As [`ends_within`](WorkerProcess::ends_within), also if another thread waits for the end.
    pub(super) fn ends_before(&self, deadline: Instant) -> bool {
        let process = self.process.try_lock_until(deadline);
        process.is_some_and(|mut process| process.wait_until(Some(deadline)).is_some())
    }

    /// True for the first caller, which counts the end of the process.
    pub(super) fn count_once(&self) -> bool {
        !self.is_counted.swap(true, Ordering::Relaxed)
    }

    /// Waits for the end of the process and says how it ended.
    pub(super) fn exit(&self) -> Exit {
        self.process.lock().wait()
    }

    /// The end of the process, as errors describe it.
    pub(super) fn worker_exit(&self) -> WorkerExit {
        let exit = self.exit();
        let (signal, code) = (exit.signal(), exit.code());
        WorkerExit { signal, code, max_rss_bytes: exit.max_rss_bytes, stderr_tail: self.output_tail() }
    }

    // ---- what its threads do ----

    /// The batch and the call that a thread ran last.
    pub(super) fn busy_with(&self, thread: usize) -> Option<(u32, u32)> {
        self.activity.busy_with(thread)
    }

    /// Whether the thread has begun with this batch, and with none after it.
    pub(super) fn has_begun(&self, thread: usize, batch: u32) -> bool {
        self.activity.last_batch(thread) == Some(batch)
    }

    /// The slot of a thread waits for the results of this batch; 0: it does not wait.
    pub(super) fn set_awaited(&self, thread: usize, batch: u32) {
        self.awaited[thread].batch.store(batch, Ordering::Relaxed);
    }

    // ---- requests of its tasks ----

    /// The worker's session, which begins with its first request. `None` if the worker has ended.
    pub(super) fn session_with(&self, handler: &Arc<dyn RequestHandler>) -> Option<Arc<dyn Session>> {
        let mut session = self.session.lock();
        if matches!(*session, SessionState::None) {
            *session = SessionState::Open(handler.admit());
        }
        drop(session);
        self.session()
    }

    /// The worker's session, if it has one.
    pub(super) fn session(&self) -> Option<Arc<dyn Session>> {
        match &*self.session.lock() {
            SessionState::Open(session) => Some(Arc::clone(session)),
            _ => None,
        }
    }

    /// Ends the session. The handler then holds nothing for the worker.
    pub(super) fn end_session(&self) {
        let session = std::mem::replace(&mut *self.session.lock(), SessionState::Ended);
        if let SessionState::Open(session) = session {
            session.ended();
        }
    }

    /// Wakes the slot of a thread. The thread waits for an answer, so there is room in the channel.
    pub(super) fn wake(&self, thread: usize) {
        if let WakeTarget::Serving(wakers) = &*self.wake_target.lock()
            && let Some(waker) = wakers.get(thread)
        {
            let _ = send(waker, ToParent::WakeForAnswer);
        }
    }

    // ---- its slots ----

    pub(super) fn set_busy(&self, is_busy: bool) {
        if is_busy {
            self.num_busy.fetch_add(1, Ordering::SeqCst);
            monitor::worker_is_busy();
        } else {
            self.num_busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Reserves up to `num_tasks` of the tasks that the worker may still run. Returns how many.
    pub(super) fn reserve_tasks(&self, num_tasks: u64) -> u64 {
        let Some(limit) = self.max_tasks else { return num_tasks };
        let take = |taken: u64| Some(taken + num_tasks.min(limit.saturating_sub(taken)));
        let before = self.num_taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(limit);
        num_tasks.min(limit.saturating_sub(before))
    }

    /// Whether the worker gets no more tasks: a slot has disconnected, or the worker has had as
    /// many tasks as it may run.
    pub(super) fn is_retired(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
            || self.max_tasks.is_some_and(|limit| self.num_taken.load(Ordering::Relaxed) >= limit)
    }

    /// A slot is about to disconnect. The others follow.
    pub(super) fn retire(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// A slot has disconnected. The last one waits for the end of the process.
    pub(super) fn leave(&self) {
        if self.num_links.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut process = self.process.lock();
            if process.wait_timeout(GOODBYE_GRACE).is_none() {
                process.kill();
                process.wait();
            }
            drop(self.member.lock().take());
        }
    }
}

impl Replaceable for WorkerProcess {
    fn replace(&self) -> bool {
        let exists = !self.has_ended();
        if exists {
            self.kill(KillReason::Replaced);
        }
        exists
    }
}

impl RemoteWorker for WorkerProcess {
    fn cancel(&self, run: u64) {
        // A worker that does not read the lifeline is killed after the grace period.
        let _ = self.lifeline.send(CANCEL, run);
    }

    fn kill_cancelled(&self) {
        self.kill(KillReason::Cancelled);
    }
}

impl MonitoredProcess for WorkerProcess {
    fn pidfd(&self) -> Arc<OwnedFd> {
        self.killer.pidfd()
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn output(&self) -> Option<&Arc<Output>> {
        self.output.as_ref()
    }

    fn is_idle(&self) -> bool {
        self.num_busy.load(Ordering::SeqCst) == 0
    }

    fn memory_limit(&self) -> Option<u64> {
        self.memory_limit
    }

    fn exceeded_memory_limit(&self, limit: u64) {
        self.kill(KillReason::MemoryLimit(limit));
    }

    /// Kills the worker if a slot has waited since the last check for results that the worker has
    /// sent. Then other bytes were written to the channel, for instance by a task that mistook its
    /// file descriptor for that of a file, and the slot has read them as the beginning of a
    /// message.
    fn check_for_lost_results(&self) {
        for (thread, awaited) in self.awaited.iter().enumerate() {
            let batch = awaited.batch.load(Ordering::Relaxed);
            let is_overdue = batch != 0 && self.activity.has_sent(thread).is_some_and(|sent| sent >= batch);
            let before = awaited.overdue.swap(if is_overdue { batch } else { 0 }, Ordering::Relaxed);
            if is_overdue && before == batch {
                self.kill(KillReason::Breach("results that were sent and have not arrived".into()));
            }
        }
    }

    fn ended(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        let target = std::mem::replace(&mut *self.wake_target.lock(), WakeTarget::Woken);
        let in_thread = |wake: Box<dyn FnOnce() + Send>| {
            let _ = spawn_thread(std::thread::Builder::new().name("sprang-wake".into()), wake);
        };
        match target {
            WakeTarget::Starting(server) => {
                if !abandon(&server) {
                    // Most likely there are no file descriptors left. The slot at the server cannot
                    // learn of the end otherwise.
                    in_thread(Box::new(move || {
                        while !abandon(&server) {
                            std::thread::sleep(ABANDON_AGAIN)
                        }
                    }));
                }
            }
            WakeTarget::Serving(wakers) => {
                for (waker, awaited) in wakers.into_iter().zip(&self.awaited) {
                    let wake = move || {
                        let _ = send(&waker, ToParent::WakeForEnd);
                    };
                    // A send to a full channel blocks until the slot reads. A slot that decodes
                    // values does not read for a while, and the monitor has other workers to watch.
                    // If there is no thread, the slot finds out at the end of the channel.
                    if awaited.batch.load(Ordering::Relaxed) != 0 {
                        wake();
                    } else {
                        in_thread(Box::new(wake));
                    }
                }
            }
            WakeTarget::Woken => {}
        }
        self.end_session();
        (self.on_end)();
    }
}

/// A new number for a maker of regions: this process or one of its workers.
pub(super) fn next_origin() -> u32 {
    static ORIGIN: AtomicU32 = AtomicU32::new(0);
    ORIGIN.fetch_add(1, Ordering::Relaxed)
}
