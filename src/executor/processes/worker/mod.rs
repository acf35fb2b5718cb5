//! The inside of a worker process: a few threads that run the calls that the parent sends.
//!
//! [`call`] decodes the inputs of one call into cells and runs it on these; see
//! [`crossing`](crate::graph::crossing). [`requests`] sends the requests of a running task to the
//! parent. [`log`] puts the worker and the task into log and panic messages.
//!
//! A failure of one call, a panic for instance, is the call's result. A failure of the conversation
//! ends the process: the parent reads the exit status and retries or fails the tasks.

#![expect(unsafe_code, reason = "it calls tasks on cells of its own making, whose types the parent vouches for")]

mod call;
#[cfg(test)]
mod lifecycle_tests;
mod log;
mod requests;

pub(super) use requests::{ask, codec, note, runs_task, when_task_ends};

use super::activity::Activity;
use super::initializer::InitializerCode;
use super::lifeline::Control;
use super::link::{ChannelError, Incoming, prepare, receive, send};
use super::protocol::{CallBatch, Code, Hello, ResourceUpdate, Setup, ToParent, ToWorker};
use super::token::{CANCEL, EXIT_BROKEN, EXIT_PANICKED, VERSION, exe_id};
use crate::engine::{CancelToken, InRun, Restore, TaskContext, describe_panic};
use crate::executor::remote::call::{ByteString, Call, CallInput, CallReader, Malformed};
use crate::portable::code::CodeRef;
use crate::portable::codec::Codec;
use crate::portable::region::Memory;
use call::{BatchValue, KeptValue, ResolvedCode};
use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use parking_lot::Mutex;
use requests::{PendingResults, WorkerChannel};
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Pending results are sent once this time has passed since results were last sent.
const FLUSH_AFTER: Duration = Duration::from_millis(1);
/// Or once they have grown to this size.
const FLUSH_BYTES: usize = 64 << 10;

/// An error in the conversation with the parent. It ends the process.
type ProtocolError = Box<dyn Error>;

/// The data that a new worker starts with.
#[derive(Debug)]
pub(super) struct WorkerStart {
    /// The name of the one-shot server that the worker connects to.
    pub(super) server: String,
    /// The size of the stacks of the threads that run tasks, in bytes.
    pub(super) stack_size: usize,
    /// Messages of the parent that do not come on the channel.
    pub(super) control: Control,
}

/// Serves the parent until it says goodbye. Returns the status for the process to exit with.
pub(super) fn worker_main(start: WorkerStart) -> i32 {
    #[cfg(test)]
    if start.server.starts_with("test:") {
        return lifecycle_tests::work(start);
    }
    // The parent sees the status; the worker has nowhere to report the error.
    serve_parent(start).map_or(EXIT_BROKEN, |()| 0)
}

fn serve_parent(start: WorkerStart) -> Result<(), ProtocolError> {
    let setups = connect(start.server)?;
    let Setup::Worker { number, origin, codec, budget, initializer, activity, log_level, num_threads } =
        receive(&setups)?
    else {
        return Err("the first message does not set up the worker".into());
    };
    let state = Arc::new(WorkerState {
        codec,
        memory: Memory::within(origin, budget.into_budget()?),
        activity: Activity::received(activity),
        kept: Mutex::default(),
        runs: Mutex::default(),
    });
    log::name_panics(number);
    watch_forks();
    let cancelled = Arc::clone(&state);
    start.control.on_control(move |kind, number| {
        if kind == CANCEL {
            cancelled.cancel(number);
        }
    });
    let ready = initializer.map_or(Ok(()), |code| initialize(&code));
    log::install(number, log_level);
    let (from, to) = thread_channel(&setups)?;
    let threads = (1..num_threads)
        .map(|index| start_thread(Arc::clone(&state), index, start.stack_size, thread_channel(&setups)?, ready.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    drop(setups);
    requests::set_fallback(IpcSender::clone(&to));
    WorkerThread::new(state, 0, from, to).serve(ready);
    threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".into()))
}

/// Says hello to the parent. The setup messages arrive on the receiver.
fn connect(server: String) -> Result<IpcReceiver<Setup>, ProtocolError> {
    prepare()?;
    let hello = IpcSender::connect(server)?;
    let (sender, setups) = ipc::channel()?;
    let message = Hello { version: VERSION.into(), executable: exe_id()?, setup: sender };
    #[cfg(test)]
    let message = lifecycle_tests::disguise(message);
    send(&hello, message)?;
    Ok(setups)
}

fn initialize(code: &CodeRef) -> Result<(), String> {
    let initializer = code.resolve::<InitializerCode>().map_err(|error| error.to_string());
    initializer
        .and_then(|initializer| {
            catch_unwind(initializer.item.call)
                .unwrap_or_else(|payload| Err(format!("it panicked: {}", describe_panic(payload))))
        })
        .map_err(|error| format!("the initializer failed: {error}"))
}

type ThreadChannel = (IpcReceiver<ToWorker>, IpcSender<ToParent>);

fn thread_channel(setups: &IpcReceiver<Setup>) -> Result<ThreadChannel, ProtocolError> {
    match receive(setups)? {
        Setup::Thread(from, to) => Ok((from, to)),
        Setup::Worker { .. } => Err("a second setup message instead of a channel".into()),
    }
}

fn start_thread(
    state: Arc<WorkerState>,
    index: usize,
    stack_size: usize,
    (from, to): ThreadChannel,
    ready: Result<(), String>,
) -> Result<JoinHandle<()>, ProtocolError> {
    let builder = thread::Builder::new().name(format!("sprang-worker-{index}")).stack_size(stack_size);
    Ok(builder.spawn(move || {
        // The parent sees the end of a process, not the end of a thread.
        let serve = || WorkerThread::new(state, index, from, to).serve(ready);
        catch_unwind(AssertUnwindSafe(serve)).unwrap_or_else(|_| std::process::exit(EXIT_PANICKED));
    })?)
}

/// The state that the threads of a worker share.
struct WorkerState {
    codec: Codec,
    memory: Memory,
    activity: Activity,
    /// The values that this process keeps for later batches, by key.
    kept: Mutex<HashMap<u64, KeptValue>>,
    runs: Mutex<WorkerRuns>,
}

#[derive(Default)]
struct WorkerRuns {
    by_number: HashMap<u64, Arc<WorkerRun>>,
    /// Cancelled runs. The cancellation of a run may arrive before the run's first batch.
    cancelled: HashSet<u64>,
}

/// The part of a run that the tasks of this process need.
struct WorkerRun {
    task_context: Box<dyn TaskContext>,
    token: CancelToken,
}

impl WorkerState {
    fn cancel(&self, number: u64) {
        let mut runs = self.runs.lock();
        runs.cancelled.insert(number);
        let run = runs.by_number.get(&number).cloned();
        // Listeners of the token run without the lock.
        drop(runs);
        if let Some(run) = run {
            run.token.cancel();
        }
    }

    fn run(&self, number: u64, task_context: Option<(CodeRef, ByteString)>) -> Result<Arc<WorkerRun>, ProtocolError> {
        if let Some(run) = self.runs.lock().by_number.get(&number) {
            return Ok(Arc::clone(run));
        }
        let (restore, bytes) = task_context.ok_or("a batch of an unknown run")?;
        let restore = restore.resolve::<Restore>()?;
        let run = Arc::new(WorkerRun { task_context: (restore.item)(&bytes.0)?, token: CancelToken::new() });
        let mut runs = self.runs.lock();
        if runs.cancelled.contains(&number) {
            run.token.cancel();
        }
        Ok(Arc::clone(runs.by_number.entry(number).or_insert(run)))
    }

    /// Removes runs that have ended, and kept values that will not be read again.
    fn remove(&self, ended: &[u64], dropped: &[u64]) {
        let mut runs = self.runs.lock();
        let runs: Vec<_> =
            ended.iter().map(|number| (runs.by_number.remove(number), runs.cancelled.remove(number))).collect();
        let mut kept = self.kept.lock();
        let kept: Vec<_> = dropped.iter().map(|key| kept.remove(key)).collect();
        // Dropped without the locks: values run user code.
        drop((runs, kept));
    }
}

/// This process is a copy that a task has forked, not the one that the parent started.
static HAS_FORKED: AtomicBool = AtomicBool::new(false);

fn has_forked() -> bool {
    HAS_FORKED.load(Ordering::Relaxed)
}

fn watch_forks() {
    extern "C" fn in_child() {
        HAS_FORKED.store(true, Ordering::Relaxed);
    }
    // SAFETY: `pthread_atfork` takes handlers that are valid for the life of the process, and a
    // function is. In the child of a fork a handler may call only async-signal-safe code, which a
    // store to an atomic is.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

/// A thread that serves one slot of the parent.
struct WorkerThread {
    state: Arc<WorkerState>,
    index: usize,
    channel: Rc<WorkerChannel>,
    incoming: Incoming,
    /// All code that this thread was sent. Calls refer to code by its index here.
    codes: Vec<Result<ResolvedCode, String>>,
}

impl WorkerThread {
    fn new(state: Arc<WorkerState>, index: usize, from: IpcReceiver<ToWorker>, to: IpcSender<ToParent>) -> Self {
        let channel = WorkerChannel::open(state.codec, from, to);
        WorkerThread { state, index, channel, incoming: Incoming::default(), codes: Vec::new() }
    }

    fn serve(mut self, ready: Result<(), String>) {
        let _memory = self.state.memory.enter();
        let is_ready = ready.is_ok();
        if send(&self.channel.to, ToParent::Ready(ready)).is_err() || !is_ready {
            return;
        }
        loop {
            let deferred = self.channel.deferred.borrow_mut().pop_front();
            let received = deferred.map_or_else(|| receive(&self.channel.from).map(|message| (message, false)), Ok);
            let handled = match received {
                Ok((ToWorker::Goodbye, _)) | Err(ChannelError::Closed) => return,
                Ok((message, is_revoked)) => self.handle(message, is_revoked),
                Err(error) => Err(error.into()),
            };
            // Ends the process at once, whatever other threads do: the exit status is the only way
            // for the parent to learn of the error.
            if handled.is_err() {
                std::process::exit(EXIT_BROKEN);
            }
        }
    }

    fn handle(&mut self, message: ToWorker, is_revoked: bool) -> Result<(), ProtocolError> {
        match message {
            ToWorker::Batch(batch) => self.run_batch(batch, is_revoked),
            ToWorker::Codes(codes) => {
                self.add_codes(codes);
                Ok(())
            }
            ToWorker::Resources(update) => {
                self.apply(update)?;
                // While the thread is idle, no other message tells the parent about released
                // regions.
                if self.channel.outbox.borrow().exchange.has_released() {
                    self.channel.outbox.borrow_mut().send_update(ToParent::Resources)?;
                }
                Ok(())
            }
            ToWorker::Trim(update) => {
                self.apply(update)?;
                self.state.memory.trim();
                Ok(self.channel.outbox.borrow_mut().send_update(ToParent::Trimmed)?)
            }
            ToWorker::Response { .. } => Err("a response without a request".into()),
            ToWorker::Goodbye => unreachable!("`serve` returns at a goodbye"),
        }
    }

    fn apply(&mut self, update: ResourceUpdate) -> Result<(), ProtocolError> {
        self.state.remove(&update.ended, &update.dropped);
        Ok(self.incoming.apply(update, &mut self.channel.outbox.borrow_mut().exchange)?)
    }

    fn add_codes(&mut self, codes: Vec<Code>) {
        self.codes.extend(codes.into_iter().map(|code| {
            match code {
                Code::Task(code) => code.resolve().map(ResolvedCode::Task),
                Code::Value(code) => code.resolve().map(ResolvedCode::Value),
            }
            .map_err(|error| error.to_string())
        }));
    }

    fn run_batch(&mut self, batch: CallBatch, is_revoked: bool) -> Result<(), ProtocolError> {
        let CallBatch { batch, run, task_context, codes, num_calls, calls, update } = batch;
        self.apply(update)?;
        self.add_codes(codes);
        let run = self.state.run(run, task_context)?;
        let calls = calls.into_bytes();
        let mut reader = CallReader::new(&calls);
        let calls = (0..num_calls).map(|_| reader.call()).collect::<Result<Vec<_>, _>>()?;
        if !reader.is_at_end() {
            return Err(Malformed.into());
        }
        {
            let mut outbox = self.channel.outbox.borrow_mut();
            outbox.results = PendingResults::new(batch);
            outbox.is_rest_revoked = is_revoked;
        }
        if is_revoked {
            calls.iter().try_for_each(|call| self.skip(call))?;
        } else {
            let mut result = Ok(());
            run.task_context.enter(&mut || {
                let _in_run = InRun::new();
                let _token = run.token.enter();
                result = self.run_calls(&calls);
            });
            result?;
        }
        let sent = self.channel.outbox.borrow_mut().send_results(true);
        self.state.activity.set_sent(self.index, batch);
        self.incoming.clear();
        Ok(sent?)
    }

    fn run_calls(&mut self, calls: &[Call<'_>]) -> Result<(), ProtocolError> {
        let mut uses = vec![0_u32; calls.len()];
        for input in calls.iter().flat_map(|call| &call.inputs) {
            if let CallInput::Earlier { index, .. } = input {
                *uses.get_mut(*index as usize).ok_or("an input comes from a call that is not there")? += 1;
            }
        }
        let mut values: Vec<BatchValue> = Vec::with_capacity(calls.len());
        for (index, call) in calls.iter().enumerate() {
            let value = self.call(index as u32, call, uses[index], &mut values)?;
            values.push(value);
            let mut outbox = self.channel.outbox.borrow_mut();
            outbox.results.num_results += 1;
            if outbox.is_rest_revoked {
                drop(outbox);
                return calls[index + 1..].iter().try_for_each(|call| self.skip(call));
            }
            let is_last = index + 1 == calls.len();
            let results = &outbox.results;
            if !is_last && (results.writer.len() > FLUSH_BYTES || results.last_sent.elapsed() > FLUSH_AFTER) {
                outbox.send_results(false)?;
            }
        }
        Ok(())
    }

    /// Takes the regions of a call without running it: both sides count the regions that are sent.
    fn skip(&mut self, call: &Call<'_>) -> Result<(), ProtocolError> {
        self.take_regions(call)?;
        Ok(())
    }
}
