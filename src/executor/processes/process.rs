//! One worker process, as the slots that use its threads see it.
//!
//! A host is started by a slot and lives until it dies or the last slot says goodbye. It dies for one of the reasons in [`KillReason`], if this
//! process killed it, or for one of its own.

use super::activity::Activity;
use super::lifeline::Lifeline;
use super::link::{ChannelError, prepare, receive, send};
use super::monitor::{self, Output, Watched};
use super::pool::{Core, next_origin};
use super::protocol::{Hello, Setup, ToParent, ToWorker};
use super::requests::{RequestHandler, Session};
use super::schedule::Value;
use super::signals::with_signals_blocked;
use super::spawn::{ChildProcess, Exit, Killer, SpawnSpec, Spawned, spawn};
use super::token::{CANCEL, VERSION, exe_id};
use crate::engine::Timer;
use crate::engine::callback::Replaceable;
use crate::error::{Error, ErrorKind, WorkerExit};
use crate::executor::timer::TimerThread;
use crate::portable::budget::{BudgetHandle, Member};
use crate::portable::code::CodeRef;
use ipc_channel::ipc::{self, IpcOneShotServer, IpcReceiver, IpcSender};
use parking_lot::Mutex;
use rustix::fs::{Access, access};
use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long a worker that was told goodbye may take to end.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long a worker whose channel is broken may take to end by itself, so that the way it did can be told. One that was killed closes its
/// channels a little before its end can be seen.
pub(super) const EXIT_GRACE: Duration = Duration::from_millis(200);

/// How long after a failure it is tried again to tell a slot that its worker will not come.
const ABANDON_AGAIN: Duration = Duration::from_millis(50);

/// How many bytes of values a worker of one thread keeps decoded at most.
const KEPT_MAX_BYTES: usize = 256 << 20;

/// Why this process killed a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KillReason {
    /// It took longer than this to start.
    Start(Duration),
    /// The task in this batch of this thread took longer than `limit`. What other threads are busy with has nothing to do with it.
    TimedOut {
        limit: Duration,
        thread: usize,
        batch: u32,
    },
    MemoryLimit {
        limit: u64,
        used: u64,
    },
    /// The run was over and a task went on.
    Cancelled,
    /// It was asked for; what it runs is run again.
    Replaced,
    /// It broke the protocol.
    Breach(String),
}

/// Why a worker did not get as far as its first call.
enum NotReady {
    /// It ended; how is for the system to tell.
    Ended,
    /// It did what it should not, or said why it cannot.
    Because(String),
}

impl Replaceable for WorkerProcess {
    fn replace(&self) -> bool {
        let is_there = !self.has_ended();
        if is_there {
            self.kill(KillReason::Replaced);
        }
        is_there
    }
}

impl From<String> for NotReady {
    fn from(problem: String) -> Self {
        NotReady::Because(problem)
    }
}

/// Both ends that a slot has of its channels to a thread of a worker.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) to: IpcSender<ToWorker>,
    pub(super) from: IpcReceiver<ToParent>,
}

/// See the [module](self).
pub(super) struct WorkerProcess {
    number: u32,
    /// See [`Core::inheritance`].
    inheritance: u64,
    pid: u32,
    process: Mutex<ChildProcess>,
    killer: Killer,
    lifeline: Lifeline,
    /// What it has taken of shared memory. Until the process has ended.
    share: Mutex<Option<Member>>,
    page: Activity,
    kill_reason: Mutex<Option<KillReason>>,
    has_ended: AtomicBool,
    is_leaving: AtomicBool,
    bell: Mutex<WakeTarget>,
    output: Option<Arc<Output>>,
    /// Slots that have a channel or may still get one.
    num_links: AtomicUsize,
    num_busy: AtomicUsize,
    /// How many tasks it was given.
    num_taken: AtomicU64,
    waits: Box<[Wait]>,
    kept: Mutex<KeptList>,
    asker: Mutex<TaskSession>,
    core: Weak<Core>,
}

/// The worker as one that asks.
enum TaskSession {
    /// It has not asked anything yet.
    Silent,
    Admitted(Arc<dyn Session>),
    /// It has ended.
    Gone,
}

/// How the slots are told that the worker has ended.
enum WakeTarget {
    /// By a word in the place of the worker's own.
    Starting(String),
    Serving(Vec<IpcSender<ToParent>>),
    /// It has rung. The channels are closed with it, so that no slot goes on waiting for the rest of a message.
    Rung,
}

/// What a slot waits for from its thread of the worker.
#[derive(Debug, Default)]
struct Wait {
    /// The number of the batch whose results it waits for in this moment, or 0.
    batch: AtomicU32,
    /// A batch that the monitor has seen waited for although its results had been sent.
    overdue: AtomicU32,
}

#[derive(Default)]
struct KeptList {
    /// Oldest first.
    values: VecDeque<(Weak<Value>, usize)>,
    /// No more of these than so many are gone.
    num_gone: usize,
    bytes: usize,
    /// Keys of values that are not going to be asked for again.
    dropped: Vec<u64>,
}

impl fmt::Debug for WorkerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerProcess")
            .field("number", &self.number)
            .field("pid", &self.pid)
            .field("has_ended", &self.has_ended)
            .field("kill_reason", &self.kill_reason.lock())
            .field("waits", &self.waits)
            .field("busy_with", &(0..self.waits.len()).map(|thread| self.busy_with(thread)).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl WorkerProcess {
    /// Starts a worker and waits until it is ready. It dies with the calling thread.
    pub(super) fn start(
        core: &Arc<Core>,
        number: u32,
        inheritance: u64,
    ) -> Result<(Arc<WorkerProcess>, Vec<Channel>), Error> {
        let settings = core.settings();
        let broken = |what: &str| Error::new(ErrorKind::NoWorker, format!("a worker process did not start: {what}"));
        prepare().map_err(|error| broken(&format!("no channel for it: {error}")))?;
        let (server, name) = server().map_err(|problem| broken(&problem))?;
        let _socket = SocketFile(name.clone());
        let spawned = spawn(&SpawnSpec { server: &name, settings });
        let Spawned { process, lifeline, output } = spawned.map_err(|error| Error::new(ErrorKind::NoWorker, error))?;
        let num_threads = settings.threads_per_worker.get();
        let (page, memory) = Activity::new(num_threads).ok_or_else(|| broken("there is no shared memory"))?;
        let (share, budget) = core.memory.budget().join().ok_or_else(|| broken("there is no shared memory"))?;
        let host = Arc::new(WorkerProcess {
            number,
            inheritance,
            pid: process.pid(),
            killer: process.killer(),
            process: Mutex::new(process),
            lifeline,
            share: Mutex::new(Some(share)),
            page,
            kill_reason: Mutex::new(None),
            has_ended: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            bell: Mutex::new(WakeTarget::Starting(name)),
            output: output.map(|pipe| Arc::new(Output::new(pipe, number))),
            num_links: AtomicUsize::new(num_threads),
            num_busy: AtomicUsize::new(0),
            num_taken: AtomicU64::new(0),
            waits: (0..num_threads).map(|_| Wait::default()).collect(),
            kept: Mutex::default(),
            asker: Mutex::new(TaskSession::Silent),
            core: Arc::downgrade(core),
        });
        monitor::watch(&host).map_err(|error| broken(&format!("it cannot be watched: {error}")))?;
        let _deadline = {
            let host = Arc::downgrade(&host);
            let limit = settings.start_timeout;
            TimerThread::shared().start(
                limit,
                Box::new(move || {
                    if let Some(host) = host.upgrade() {
                        host.kill(KillReason::Start(limit));
                    }
                }),
            )
        };
        match host.greet(core, server, memory, budget, num_threads) {
            Ok(channels) => Ok((host, channels)),
            Err(problem) => {
                if !matches!(problem, NotReady::Ended) || !host.ends_within(EXIT_GRACE) {
                    host.kill(KillReason::Breach("it was not ready".into()));
                }
                let exit = host.exit();
                let what = match (host.kill_reason(), problem) {
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
                let tail = host.output_tail();
                Err(broken(&if tail.is_empty() { what } else { format!("{what}; its last output:\n{tail}") }))
            }
        }
    }

    /// The conversation up to the first call.
    fn greet(
        &self,
        core: &Core,
        server: IpcOneShotServer<Hello>,
        activity: ipc::IpcSharedMemory,
        budget: BudgetHandle,
        num_threads: usize,
    ) -> Result<Vec<Channel>, NotReady> {
        let accepted = with_signals_blocked(|| catch_unwind(AssertUnwindSafe(|| server.accept())));
        // Without a word: then it is on its way out, or has to be sent there.
        let Ok(Ok((_server, Hello::Worker { version, executable, setup }))) = accepted else {
            return Err(NotReady::Ended);
        };
        let (own_version, own_executable) = (VERSION, exe_id().map_err(|error| error.to_string())?);
        if version != own_version {
            return Err(format!("it has version {version} of sprang, and this process {own_version}").into());
        }
        if executable != own_executable {
            return Err("it runs another executable than this process".to_owned().into());
        }
        let (mut threads, mut channels, mut bells) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..num_threads {
            let (to, their_from) = ipc::channel().map_err(|error| error.to_string())?;
            let (their_to, from) = ipc::channel().map_err(|error| error.to_string())?;
            bells.push(IpcSender::clone(&their_to));
            threads.push(Setup::Thread(their_from, their_to));
            channels.push(Channel { to, from });
        }
        *self.bell.lock() = WakeTarget::Serving(bells);
        // Whoever rang before has rung at the server, where nobody listens any more.
        if self.has_ended() {
            return Err(NotReady::Ended);
        }
        let settings = core.settings();
        let initializer = settings.initializer.map(|initializer| CodeRef::to(initializer.code));
        let worker = Setup::Worker {
            number: self.number,
            origin: next_origin(),
            codec: settings.codec,
            budget,
            initializer: initializer.transpose().map_err(|error| error.to_string())?,
            activity,
            log_level: log::max_level() as usize,
            num_threads,
        };
        for message in std::iter::once(worker).chain(threads) {
            match send(&setup, message) {
                Ok(()) => {}
                Err(ChannelError::Closed) => return Err(NotReady::Ended),
                Err(broken) => return Err(broken.to_string().into()),
            }
        }
        for channel in &channels {
            match receive(&channel.from) {
                Ok(ToParent::Ready(ready)) => ready?,
                Ok(ToParent::WakeForEnd) | Err(ChannelError::Closed) => return Err(NotReady::Ended),
                Ok(_) => return Err("it said something else than that it is ready".to_owned().into()),
                Err(broken) => return Err(broken.to_string().into()),
            }
        }
        Ok(channels)
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn inheritance(&self) -> u64 {
        self.inheritance
    }

    /// Can be read once the process has ended.
    pub(super) fn pidfd(&self) -> Arc<OwnedFd> {
        self.killer.pidfd()
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn output(&self) -> Option<&Arc<Output>> {
        self.output.as_ref()
    }

    pub(super) fn output_tail(&self) -> String {
        self.output.as_ref().map_or(String::new(), |output| output.tail())
    }

    /// Kills the worker. The first reason counts.
    pub(super) fn kill(&self, kill_reason: KillReason) {
        self.kill_reason.lock().get_or_insert(kill_reason);
        self.killer.kill();
    }

    /// Lets the run's tasks in this worker know that they are not wanted any more.
    pub(super) fn cancel(&self, run: u64) {
        // If it does not listen it will be killed.
        let _ = self.lifeline.send(CANCEL, run);
    }

    /// Which call of which batch a thread was last busy with.
    pub(super) fn busy_with(&self, thread: usize) -> Option<(u32, u32)> {
        self.page.busy_with(thread)
    }

    /// Whether the thread has ever begun with this batch.
    pub(super) fn has_begun(&self, thread: usize, batch: u32) -> bool {
        self.page.last_batch(thread) == Some(batch)
    }

    /// The slot of a thread waits for the results of this batch; 0 if it has stopped waiting.
    pub(super) fn waits_for(&self, thread: usize, batch: u32) {
        self.waits[thread].batch.store(batch, Ordering::Relaxed);
    }

    /// To be called now and then: kills the worker if a slot has waited since the last time for results that the worker has sent. Then
    /// something else was written to the channel, such as by a task that took its number for that of a file, and the slot has taken it for
    /// the beginning of a message.
    pub(super) fn look_for_lost_results(&self) {
        for (thread, wait) in self.waits.iter().enumerate() {
            let batch = wait.batch.load(Ordering::Relaxed);
            let is_overdue = batch != 0 && self.page.has_sent(thread).is_some_and(|sent| sent >= batch);
            let before = wait.overdue.swap(if is_overdue { batch } else { 0 }, Ordering::Relaxed);
            if is_overdue && before == batch {
                self.kill(KillReason::Breach("results that were sent and have not arrived".into()));
            }
        }
    }

    pub(super) fn kill_reason(&self) -> Option<KillReason> {
        self.kill_reason.lock().clone()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Waits for the end of the process, but not for longer than this; says whether it has ended.
    pub(super) fn ends_within(&self, limit: Duration) -> bool {
        self.process.lock().wait_timeout(limit).is_some()
    }

    /// Waits for the end of the process and says how it was.
    pub(super) fn exit(&self) -> Exit {
        self.process.lock().wait()
    }

    /// What errors say of the end of the process.
    pub(super) fn worker_exit(&self) -> WorkerExit {
        let exit = self.exit();
        let (signal, code) = (exit.signal(), exit.code());
        WorkerExit { signal, code, max_rss_bytes: exit.max_rss_bytes, stderr_tail: self.output_tail() }
    }

    // ---- what it asks ----

    /// The worker at this handler, where it has asked before or asks for the first time; `None` if it has ended.
    pub(super) fn caller(&self, handler: &Arc<dyn RequestHandler>) -> Option<Arc<dyn Session>> {
        let mut asker = self.asker.lock();
        if matches!(*asker, TaskSession::Silent) {
            *asker = TaskSession::Admitted(handler.admit());
        }
        match &*asker {
            TaskSession::Admitted(caller) => Some(Arc::clone(caller)),
            _ => None,
        }
    }

    /// The worker, if it has asked something before.
    pub(super) fn known_caller(&self) -> Option<Arc<dyn Session>> {
        match &*self.asker.lock() {
            TaskSession::Admitted(caller) => Some(Arc::clone(caller)),
            _ => None,
        }
    }

    /// It asks nothing any more, and has nothing of what it was given as an answer.
    pub(super) fn stop_asking(&self) {
        let asker = std::mem::replace(&mut *self.asker.lock(), TaskSession::Gone);
        if let TaskSession::Admitted(caller) = asker {
            caller.ended();
        }
    }

    /// Has the slot of a thread look up from its channel. The thread waits for an answer, so there is room in the channel.
    pub(super) fn wake(&self, thread: usize) {
        if let WakeTarget::Serving(bells) = &*self.bell.lock()
            && let Some(bell) = bells.get(thread)
        {
            let _ = send(bell, ToParent::WakeForAnswer);
        }
    }

    // ---- slots come and go ----

    pub(super) fn is_idle(&self) -> bool {
        self.num_busy.load(Ordering::SeqCst) == 0
    }

    pub(super) fn is_busy(&self, is_busy: bool) {
        if is_busy {
            self.num_busy.fetch_add(1, Ordering::SeqCst);
            monitor::look_at_busy();
        } else {
            self.num_busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn memory_limit(&self) -> Option<u64> {
        self.core.upgrade().and_then(|core| core.settings().memory_limit)
    }

    /// Takes so many tasks of the worker's share, or as many as there are left of it.
    pub(super) fn take_share(&self, num_tasks: u64) -> u64 {
        let Some(limit) = self.max_tasks() else { return num_tasks };
        let take = |taken: u64| Some(taken + num_tasks.min(limit.saturating_sub(taken)));
        let before = self.num_taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(limit);
        num_tasks.min(limit.saturating_sub(before))
    }

    /// Whether the worker is given no further tasks: one of its threads has left, or it has been given all that it may be.
    pub(super) fn is_retired(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
            || self.max_tasks().is_some_and(|limit| self.num_taken.load(Ordering::Relaxed) >= limit)
    }

    /// A thread is about to leave; the others follow.
    pub(super) fn retire(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    fn max_tasks(&self) -> Option<u64> {
        self.core.upgrade().and_then(|core| core.settings().max_tasks_per_worker).map(NonZeroU64::get)
    }

    /// A slot has said goodbye to its thread. After the last the process is waited for.
    pub(super) fn leave(&self) {
        if self.num_links.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut process = self.process.lock();
            if process.wait_timeout(GOODBYE).is_none() {
                process.kill();
                process.wait();
            }
            drop(self.share.lock().take());
        }
    }

    // ---- kept values ----

    /// Notes that the worker keeps a value; makes room for it if need be.
    pub(super) fn keeps(self: &Arc<Self>, value: &Arc<Value>) {
        if !value.kept.add(self) {
            return;
        }
        let mut list = self.kept.lock();
        list.values.push_back((Arc::downgrade(value), value.size()));
        list.bytes += value.size();
        let mut forgotten = Vec::new();
        // With several threads one of them might be told to drop a value before another has read the batch that asks for it. Then values are
        // kept for as long as this process keeps them.
        let may_evict = self.waits.len() == 1;
        while may_evict && list.bytes > KEPT_MAX_BYTES && list.values.len() > 1 {
            let Some((oldest, size)) = list.values.pop_front() else { break };
            // Of one that is gone `value_is_gone` takes off the size.
            if let Some(oldest) = oldest.upgrade() {
                list.bytes = list.bytes.saturating_sub(size);
                list.dropped.push(oldest.key);
                forgotten.push(oldest);
            }
        }
        drop(list);
        // Without the lock: the last handle of a value may be among these.
        forgotten.iter().for_each(|value| value.kept.remove(self));
    }

    /// The worker keeps a value that nobody is going to ask for.
    pub(super) fn drop_kept(&self, key: u64) {
        self.kept.lock().dropped.push(key);
    }

    fn value_is_gone(&self, key: u64, size: usize) {
        let mut list = self.kept.lock();
        list.dropped.push(key);
        list.bytes = list.bytes.saturating_sub(size);
        list.num_gone += 1;
        // Not each time, as there may be tens of thousands.
        if 2 * list.num_gone > list.values.len() {
            list.values.retain(|(value, _)| value.strong_count() > 0);
            list.num_gone = 0;
        }
    }

    /// Keys of kept values that will not be asked for again, to be told the worker.
    pub(super) fn take_dropped(&self) -> Vec<u64> {
        std::mem::take(&mut self.kept.lock().dropped)
    }

    pub(super) fn has_dropped(&self) -> bool {
        !self.kept.lock().dropped.is_empty()
    }
}

/// Where a server listens: a file in a folder of its own. They go with the server, unless there is no open file left to look into the folder.
struct SocketFile(String);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = Path::new(&self.0);
        let _ = fs::remove_file(path);
        let _ = path.parent().map(fs::remove_dir);
    }
}

/// A server for the worker's first word, and its name.
fn server() -> Result<(IpcOneShotServer<Hello>, String), String> {
    // The rest of the name is `/.tmp123456/socket`, and an address has room for this much. What does not fit ipc-channel cuts off.
    const FOLDER_MAX: usize = 107 - 18;
    let folder = std::env::temp_dir();
    let fail = |why: &dyn fmt::Display| {
        Err(format!(
            "there is no socket for it in the folder for temporary files, {}: {why}; see TMPDIR",
            folder.display()
        ))
    };
    if folder.as_os_str().len() > FOLDER_MAX {
        return fail(&format!("its path has more than {FOLDER_MAX} bytes"));
    }
    // Else ipc-channel panics, and says on the standard error no more than that.
    if let Err(error) = access(&folder, Access::WRITE_OK | Access::EXEC_OK) {
        return fail(&error);
    }
    // It takes two open files, and if there is none left it leaves the folder that it has made.
    drop(ipc::channel::<()>().map_err(|error| format!("there is no socket for it: {error}"))?);
    match catch_unwind(IpcOneShotServer::new) {
        Ok(Ok(server)) => Ok(server),
        Ok(Err(error)) => fail(&error),
        Err(_) => fail(&"ipc-channel panicked"),
    }
}

/// Tells who waits at a server that no worker will come. False if that has to be tried again.
fn abandon(server: &str) -> bool {
    // Nobody waits there any more.
    if !Path::new(server).exists() {
        return true;
    }
    match IpcSender::connect(server.to_owned()) {
        Ok(to) => send(&to, Hello::Abandoned).is_ok(),
        Err(_) => false,
    }
}

impl Watched for WorkerProcess {
    fn ended(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        let bell = std::mem::replace(&mut *self.bell.lock(), WakeTarget::Rung);
        match bell {
            WakeTarget::Starting(server) => {
                if !abandon(&server) {
                    // Out of open files, most likely. Whoever waits at the server has no other way to learn of it.
                    let again = move || {
                        while !abandon(&server) {
                            std::thread::sleep(ABANDON_AGAIN)
                        }
                    };
                    let _ = std::thread::Builder::new().name("sprang-bell".into()).spawn(again);
                }
            }
            WakeTarget::Serving(bells) => {
                for (bell, wait) in bells.into_iter().zip(&self.waits) {
                    let ring = move || {
                        let _ = send(&bell, ToParent::WakeForEnd);
                    };
                    // The channel may be full, which does not last while the slot reads; but it may be decoding values. What else ends
                    // meanwhile is to be noticed. (Without a thread the slot finds out when it has come to the end of the channel.)
                    if wait.batch.load(Ordering::Relaxed) != 0 {
                        ring();
                    } else {
                        let _ = std::thread::Builder::new().name("sprang-bell".into()).spawn(ring);
                    }
                }
            }
            WakeTarget::Rung => {}
        }
        self.stop_asking();
        if let Some(core) = self.core.upgrade() {
            core.wake_slots_of(self.number);
        }
    }

    fn used_too_much(&self, limit: u64, used: u64) {
        self.kill(KillReason::MemoryLimit { limit, used });
    }
}

/// In which workers a value is kept decoded.
#[derive(Default)]
pub(super) struct Kept {
    hosts: Mutex<Vec<Weak<WorkerProcess>>>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("num_hosts", &self.hosts.lock().len()).finish()
    }
}

impl Kept {
    pub(super) fn is_in(&self, host: &Arc<WorkerProcess>) -> bool {
        self.hosts.lock().iter().any(|other| other.as_ptr() == Arc::as_ptr(host))
    }

    fn add(&self, host: &Arc<WorkerProcess>) -> bool {
        let mut hosts = self.hosts.lock();
        hosts.retain(|other| other.strong_count() > 0);
        let is_new = hosts.iter().all(|other| other.as_ptr() != Arc::as_ptr(host));
        if is_new {
            hosts.push(Arc::downgrade(host));
        }
        is_new
    }

    fn remove(&self, host: &Arc<WorkerProcess>) {
        self.hosts.lock().retain(|other| other.as_ptr() != Arc::as_ptr(host));
    }

    /// The value is not going to be asked for again.
    pub(super) fn end(&mut self, key: u64, size: usize) {
        for host in self.hosts.get_mut().drain(..).filter_map(|host| host.upgrade()) {
            host.value_is_gone(key, size);
        }
    }
}
