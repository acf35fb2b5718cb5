//! The inside of a worker process: a few threads that run the calls they are sent.
//!
//! A call is run as a task is in any run, on cells that its inputs were decoded into; see [`crossing`](crate::graph::crossing). What can go
//! wrong with one call, a panic among it, is its result; what is wrong with the conversation itself ends the process, and the parent
//! sees to the rest.

#![expect(unsafe_code, reason = "it calls tasks on cells of its own making, whose types the parent vouches for")]

#[cfg(test)]
mod lifecycle_tests;

use super::activity::{Activity, Phase};
use super::clock;
use super::initializer::InitializerCode;
use super::lifeline::Control;
use super::link::{ChannelError, Incoming, Outgoing, prepare, receive, receive_within, send};
use super::protocol::{
    Bytes, Call, CallBatch, CallInput, CallReader, CallWriter, Code, Hello, KEEP_MIN_BYTES, Malformed, Payload, Ran,
    ResourceUpdate, Setup, ToParent, ToWorker,
};
use super::requests::RequestError;
use super::token::{CANCEL, EXIT_BROKEN, EXIT_PANICKED, VERSION, exe_id};
use crate::engine::{CancelToken, InRun, Restore, TaskContext, describe_panic, in_run, quietly};
use crate::error::texts_of;
use crate::graph::crossing::{TaskCode, ValueCode};
use crate::graph::name;
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{Codec, CodecError, Decoder, Encoder};
use crate::portable::exchange::Exchange;
use crate::portable::region::{Memory, Region};
use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Results are sent on the way when the batch has taken this long since the last were.
const FLUSH_AFTER: Duration = Duration::from_millis(1);
/// Or when they have grown to this size.
const FLUSH_BYTES: usize = 64 << 10;

/// What a new worker has to know.
#[derive(Debug)]
pub(super) struct WorkerStart {
    /// The name of the one-shot server that the worker connects to.
    pub(super) server: String,
    /// What the parent says beside the channel.
    pub(super) control: Control,
}

/// Serves the parent until it says goodbye. Returns the status for the process to exit with.
pub(super) fn worker_main(start: WorkerStart) -> i32 {
    #[cfg(test)]
    if start.server.starts_with("test:") {
        return lifecycle_tests::work(start);
    }
    match begin(start) {
        Ok(()) => 0,
        // There is nobody to tell: the parent sees the status.
        Err(_) => EXIT_BROKEN,
    }
}

/// The threads of this process share it.
struct Shared {
    codec: Codec,
    memory: Memory,
    page: Activity,
    kept: Mutex<HashMap<u64, SharedValue>>,
    runs: Mutex<Runs>,
}

#[derive(Default)]
struct Runs {
    by_number: HashMap<u64, Arc<WorkerRun>>,
    /// Runs that were cancelled, some of them before this process heard of them.
    cancelled: HashSet<u64>,
}

/// A run, as far as it concerns the tasks of this process.
struct WorkerRun {
    task_context: Box<dyn TaskContext>,
    token: CancelToken,
}

/// A decoded value that calls may borrow.
struct KeptValue {
    cell: Cell,
    code: &'static CodeDescriptor<ValueCode>,
}

impl Drop for KeptValue {
    fn drop(&mut self) {
        sweep(&self.cell, self.code);
    }
}

/// A kept value, or why it could not be decoded, once one thread has seen to that.
type SharedValue = Arc<OnceLock<Result<KeptValue, String>>>;

/// Drops the value in a cell if there is still one.
fn sweep(cell: &Cell, code: &CodeDescriptor<ValueCode>) {
    if let Some(drop_value) = code.item.drop_value {
        // SAFETY: the cell belongs to one call or one kept value, nobody reads it any more, and its value was made by this code.
        quietly(|| unsafe { cell.sweep(drop_value) });
    }
}

fn begin(start: WorkerStart) -> Result<(), String> {
    prepare().map_err(|error| error.to_string())?;
    let hello = IpcSender::connect(start.server.clone()).map_err(|error| error.to_string())?;
    let (setup_sender, setups) = ipc::channel::<Setup>().map_err(|error| error.to_string())?;
    let executable = exe_id().map_err(|error| error.to_string())?;
    let first_word = Hello::Worker { version: VERSION.into(), executable, setup: setup_sender };
    #[cfg(test)]
    let first_word = lifecycle_tests::disguise(first_word);
    send(&hello, first_word).map_err(|broken| broken.to_string())?;
    drop(hello);
    let setup = || receive(&setups).map_err(|broken| broken.to_string());
    let Setup::Worker { number, origin, codec, budget, initializer, page, log_level, num_threads } = setup()? else {
        return Err("it was not told what it is".into());
    };
    let shared = Arc::new(Shared {
        codec,
        memory: Memory::within(origin, budget.into_budget()?),
        page: Activity::received(page),
        kept: Mutex::default(),
        runs: Mutex::default(),
    });
    watch_panics(number);
    watch_forks();
    start.control.on_control({
        let shared = Arc::clone(&shared);
        move |kind, number| {
            if kind == CANCEL {
                shared.cancel(number);
            }
        }
    });
    let ready = match &initializer {
        None => Ok(()),
        Some(code) => code
            .resolve::<InitializerCode>()
            .map_err(|error| error.to_string())
            .and_then(|initializer| {
                catch_unwind(initializer.item.call)
                    .unwrap_or_else(|payload| Err(format!("it panicked: {}", describe_panic(payload))))
            })
            .map_err(|error| format!("the initializer failed: {error}")),
    };
    keep_log(number, log_level);
    let Setup::Thread(first_from, first_to) = setup()? else { return Err("it was not given a channel".into()) };
    let mut threads = Vec::new();
    for index in 1..num_threads {
        let Setup::Thread(from, to) = setup()? else { return Err("it was not given all channels".into()) };
        let (shared, ready) = (Arc::clone(&shared), ready.clone());
        let thread = std::thread::Builder::new().name(format!("sprang-worker-{index}")).stack_size(8 << 20);
        threads.push(
            thread
                .spawn(move || {
                    // The parent learns of the end of the process, and not of that of a thread.
                    let serve = || Thread::new(shared, index, from, to).serve(ready);
                    catch_unwind(AssertUnwindSafe(serve)).unwrap_or_else(|_| std::process::exit(EXIT_PANICKED));
                })
                .map_err(|error| error.to_string())?,
        );
    }
    drop(setups);
    let _ = NOTES.set(Mutex::new(IpcSender::clone(&first_to)));
    Thread::new(shared, 0, first_from, first_to).serve(ready);
    threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned()))
}

impl Shared {
    fn cancel(&self, run: u64) {
        let mut runs = self.runs.lock();
        runs.cancelled.insert(run);
        let run = runs.by_number.get(&run).map(Arc::clone);
        drop(runs);
        // Without the lock: the token has listeners.
        if let Some(run) = run {
            run.token.cancel();
        }
    }

    fn run(
        &self,
        number: u64,
        task_context: Option<(crate::portable::code::CodeRef, Bytes)>,
    ) -> Result<Arc<WorkerRun>, String> {
        if let Some(run) = self.runs.lock().by_number.get(&number) {
            return Ok(Arc::clone(run));
        }
        let (restore, bytes) = task_context.ok_or("the run is unknown")?;
        let restore = restore.resolve::<Restore>().map_err(|error| error.to_string())?;
        let run = Arc::new(WorkerRun { task_context: (restore.item)(&bytes.0)?, token: CancelToken::new() });
        let mut runs = self.runs.lock();
        if runs.cancelled.contains(&number) {
            run.token.cancel();
        }
        Ok(Arc::clone(runs.by_number.entry(number).or_insert(run)))
    }

    fn end_runs(&self, ended: &[u64]) {
        let mut runs = self.runs.lock();
        let over: Vec<_> =
            ended.iter().map(|number| (runs.by_number.remove(number), runs.cancelled.remove(number))).collect();
        drop(runs);
        drop(over);
    }

    fn drop_kept(&self, keys: &[u64]) {
        let mut kept = self.kept.lock();
        let dropped: Vec<_> = keys.iter().map(|key| kept.remove(key)).collect();
        drop(kept);
        drop(dropped);
    }
}

/// This is not the process that the parent started, but a copy that a task has made of it.
static HAS_FORKED: AtomicBool = AtomicBool::new(false);

fn watch_forks() {
    extern "C" fn in_child() {
        HAS_FORKED.store(true, Ordering::Relaxed);
    }
    // SAFETY: the handler does nothing but to store to an atomic.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

enum Known {
    Task(&'static CodeDescriptor<TaskCode>),
    Value(&'static CodeDescriptor<ValueCode>),
}

/// A thread that serves one slot of the parent.
struct Thread {
    shared: Arc<Shared>,
    index: usize,
    line: Rc<Line>,
    incoming: Incoming,
    codes: Vec<Result<Known, String>>,
}

/// A thread's channels to its slot, for itself and for the task that it runs.
struct Line {
    codec: Codec,
    to: IpcSender<ToParent>,
    from: IpcReceiver<ToWorker>,
    /// What came while a task waited for an answer, and whether it was taken back then.
    aside: RefCell<VecDeque<(ToWorker, bool)>>,
    /// Borrowed while the thread writes and sends, never while a task runs.
    out: RefCell<Out>,
    /// To be called when the task that runs has ended.
    at_end: RefCell<Vec<Box<dyn FnOnce()>>>,
}

/// What is to be sent.
struct Out {
    outgoing: Outgoing<ToParent>,
    exchange: Exchange,
    results: Results,
    /// The call that runs.
    call: u32,
    /// How far the results had been written when it began. Behind is its own, which does not count before it has ended.
    mark: usize,
    /// The calls after the one that runs have been taken back.
    is_rest_revoked: bool,
}

/// Results that have not been sent yet.
struct Results {
    batch: u32,
    writer: CallWriter,
    num_results: u32,
    last_sent: Instant,
}

/// A value that was made in this batch.
enum Made {
    /// The call gave none.
    Nothing,
    Own(Own),
    Kept(SharedValue),
}

struct Own {
    cell: Cell,
    code: &'static CodeDescriptor<ValueCode>,
    /// How many arguments of later calls are this value.
    num_uses: u32,
    /// The call that was last shown it.
    last_shown: Option<u32>,
}

impl Drop for Own {
    fn drop(&mut self) {
        sweep(&self.cell, self.code);
    }
}

impl Results {
    fn of(batch: u32) -> Self {
        Results { batch, writer: CallWriter::default(), num_results: 0, last_sent: Instant::now() }
    }
}

impl Out {
    /// Sends the results that there are, the last of their batch or not.
    fn report(&mut self, is_last: bool) -> Result<(), ChannelError> {
        let next = Results::of(self.results.batch);
        let Results { batch, writer, num_results, .. } = std::mem::replace(&mut self.results, next);
        self.mark = 0;
        let results = Payload::new(writer.finish());
        let message = |update| ToParent::Results { batch, is_last, num_results, results, update };
        self.outgoing.send(ResourceUpdate::default(), &mut self.exchange, message)
    }
}

impl Thread {
    fn new(shared: Arc<Shared>, index: usize, from: IpcReceiver<ToWorker>, to: IpcSender<ToParent>) -> Self {
        let out = Out {
            outgoing: Outgoing::new(IpcSender::clone(&to)),
            exchange: Exchange::new(),
            results: Results::of(0),
            call: 0,
            mark: 0,
            is_rest_revoked: false,
        };
        let line = Rc::new(Line {
            codec: shared.codec,
            to,
            from,
            aside: RefCell::default(),
            out: RefCell::new(out),
            at_end: RefCell::default(),
        });
        LINE.with(|own| *own.borrow_mut() = Some(Rc::clone(&line)));
        Thread { shared, index, line, incoming: Incoming::default(), codes: Vec::new() }
    }

    fn serve(mut self, ready: Result<(), String>) {
        let _memory = self.shared.memory.enter();
        let is_ready = ready.is_ok();
        if send(&self.line.to, ToParent::Ready(ready)).is_err() || !is_ready {
            return;
        }
        loop {
            let next = self.line.aside.borrow_mut().pop_front();
            let received = next.map_or_else(|| receive(&self.line.from).map(|message| (message, false)), Ok);
            let done = match received {
                Ok((ToWorker::Batch(work), is_taken_back)) => self.work(work, is_taken_back),
                Ok((ToWorker::Codes(codes), _)) => {
                    self.learn(codes);
                    Ok(())
                }
                Ok((ToWorker::Resources(update), _)) => self.apply(update).and_then(|()| self.report_releases()),
                Ok((ToWorker::Trim(update), _)) => self.trim(update),
                Ok((ToWorker::Response { .. }, _)) => Err("an answer that nobody waits for".into()),
                Ok((ToWorker::Goodbye, _)) | Err(ChannelError::Closed) => return,
                Err(ChannelError::Malformed(what) | ChannelError::NotSent(what)) => Err(what),
            };
            // What cannot be understood or answered: the parent finds this process gone and says what it was. At once, whatever other
            // threads do: the parent has no other way to learn of it.
            if done.is_err() {
                std::process::exit(EXIT_BROKEN);
            }
        }
    }

    fn apply(&mut self, update: ResourceUpdate) -> Result<(), String> {
        self.shared.drop_kept(&update.dropped);
        self.shared.end_runs(&update.ended);
        let exchange = &mut self.line.out.borrow_mut().exchange;
        self.incoming.apply(update, exchange).map_err(|error| error.to_string())
    }

    /// Says, while there is nothing else to say, which regions are not used here any more.
    fn report_releases(&mut self) -> Result<(), String> {
        let Out { outgoing, exchange, .. } = &mut *self.line.out.borrow_mut();
        if !exchange.has_released() {
            return Ok(());
        }
        let sent = outgoing.send(ResourceUpdate::default(), exchange, ToParent::Resources);
        sent.map_err(|broken| broken.to_string())
    }

    fn trim(&mut self, update: ResourceUpdate) -> Result<(), String> {
        self.apply(update)?;
        self.shared.memory.trim();
        let Out { outgoing, exchange, .. } = &mut *self.line.out.borrow_mut();
        let sent = outgoing.send(ResourceUpdate::default(), exchange, ToParent::Trimmed);
        sent.map_err(|broken| broken.to_string())
    }

    fn learn(&mut self, codes: Vec<Code>) {
        self.codes.extend(codes.into_iter().map(|code| {
            match code {
                Code::Task(code) => code.resolve().map(Known::Task),
                Code::Value(code) => code.resolve().map(Known::Value),
            }
            .map_err(|error| error.to_string())
        }));
    }

    fn work(&mut self, work: CallBatch, is_taken_back: bool) -> Result<(), String> {
        let CallBatch { batch, run, task_context, codes, num_calls, calls, update } = work;
        self.apply(update)?;
        self.learn(codes);
        let run = self.shared.run(run, task_context)?;
        let calls = calls.into_bytes();
        let mut reader = CallReader::new(&calls);
        let calls = (0..num_calls)
            .map(|_| reader.call())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|garbage| garbage.to_string())?;
        if !reader.is_at_end() {
            return Err(Malformed.to_string());
        }
        {
            let mut out = self.line.out.borrow_mut();
            out.results = Results::of(batch);
            out.is_rest_revoked = is_taken_back;
        }
        if is_taken_back {
            calls.iter().try_for_each(|call| self.pass_over(call))?;
        } else {
            let mut outcome = Ok(());
            run.task_context.enter(&mut || {
                let _in_run = InRun::new();
                let _token = run.token.enter();
                outcome = self.calls(&calls);
            });
            outcome?;
        }
        let sent = self.report(true);
        self.shared.page.set_sent(self.index, batch);
        self.incoming.clear();
        sent
    }

    fn calls(&mut self, calls: &[Call<'_>]) -> Result<(), String> {
        let mut uses = vec![0_u32; calls.len()];
        for input in calls.iter().flat_map(|call| &call.inputs) {
            if let CallInput::Earlier(index) = input {
                *uses.get_mut(*index as usize).ok_or("an input comes from a call that is not there")? += 1;
            }
        }
        let mut made: Vec<Made> = Vec::with_capacity(calls.len());
        for (index, call) in calls.iter().enumerate() {
            let value = self.call(index as u32, call, uses[index], &mut made)?;
            made.push(value);
            let mut out = self.line.out.borrow_mut();
            out.results.num_results += 1;
            if out.is_rest_revoked {
                drop(out);
                return calls[index + 1..].iter().try_for_each(|call| self.pass_over(call));
            }
            let is_last = index + 1 == calls.len();
            let results = &out.results;
            if !is_last && (results.writer.len() > FLUSH_BYTES || results.last_sent.elapsed() > FLUSH_AFTER) {
                drop(out);
                self.report(false)?;
            }
        }
        Ok(())
    }

    /// Takes the regions of a call that is not run: they are counted as they come.
    fn pass_over(&mut self, call: &Call<'_>) -> Result<(), String> {
        let exchange = &mut self.line.out.borrow_mut().exchange;
        for input in &call.inputs {
            if let CallInput::Value { value, .. } = input {
                self.incoming.regions(value, exchange).map_err(|error| error.to_string())?;
            }
        }
        self.incoming.regions(&call.args, exchange).map(drop).map_err(|error| error.to_string())
    }

    fn report(&mut self, is_last: bool) -> Result<(), String> {
        self.line.out.borrow_mut().report(is_last).map_err(|broken| broken.to_string())
    }

    /// Runs one call, writes its result, and gives the value if later calls of the batch ask for it, which `num_uses` do.
    ///
    /// An error is one of the conversation, not of the call.
    fn call(&mut self, index: u32, call: &Call<'_>, num_uses: u32, made: &mut [Made]) -> Result<Made, String> {
        let batch = {
            let mut out = self.line.out.borrow_mut();
            out.call = index;
            out.mark = out.results.writer.len();
            out.results.batch
        };
        self.shared.page.set(self.index, batch, index, Phase::Busy);
        let made = self.call_busily(index, call, num_uses, made);
        // A task that forks and returns in both processes leaves a second worker on the same channel.
        if HAS_FORKED.load(Ordering::Relaxed) {
            // Without anything that the real worker will do at its end.
            // SAFETY: it takes no pointers and does not return.
            unsafe { libc::_exit(0) };
        }
        // One of them may hand in tasks in turn.
        loop {
            let at_end = self.line.at_end.take();
            if at_end.is_empty() {
                break;
            }
            at_end.into_iter().for_each(quietly);
        }
        self.shared.page.set(self.index, batch, index, Phase::Idle);
        made
    }

    fn call_busily(&mut self, index: u32, call: &Call<'_>, num_uses: u32, made: &mut [Made]) -> Result<Made, String> {
        let line = Rc::clone(&self.line);
        let task = match self.codes.get(call.code as usize) {
            Some(Ok(Known::Task(task))) => *task,
            Some(Err(error)) => {
                let problem = format!("its code was not found in the worker: {error}");
                line.out.borrow_mut().results.writer.result_not_portable(index, &problem);
                return Ok(Made::Nothing);
            }
            _ => return Err("a call refers to code that was not sent".into()),
        };
        let value_code = task.item.value.ok_or("a call refers to code without a value")?;
        // Regions are counted as they come, so all are taken, whatever becomes of the call.
        let (regions, args_regions) = {
            let exchange = &mut line.out.borrow_mut().exchange;
            let regions = call.inputs.iter().map(|input| match input {
                CallInput::Value { value, .. } => self.incoming.regions(value, exchange),
                _ => Ok(Vec::new()),
            });
            let regions = regions.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
            (regions, self.incoming.regions(&call.args, exchange).map_err(|error| error.to_string())?)
        };
        TASK.with(|task_now| task_now.borrow_mut().set(task, call.name));

        // Kept values that are borrowed: they outlive the cells that show them.
        let mut borrowed = Vec::new();
        let mut cells = Cells {
            cells: Vec::with_capacity(call.inputs.len() + 1),
            codes: Vec::with_capacity(call.inputs.len() + 1),
        };
        for (position, (input, regions)) in call.inputs.iter().zip(&regions).enumerate() {
            match self.input(input, regions, index, made, &mut borrowed) {
                Ok(Some((cell, code))) => cells.push(cell, code),
                Ok(None) => {
                    line.out.borrow_mut().results.writer.result_skipped(index);
                    return Ok(Made::Nothing);
                }
                Err(message) => {
                    line.out.borrow_mut().results.writer.result_lacks_input(index, position as u32, &message);
                    return Ok(Made::Nothing);
                }
            }
        }
        let num_inputs = cells.cells.len() as u32;
        cells.push(Cell::new(1), value_code);
        let ids: Vec<u32> = (0..num_inputs).collect();

        let mut decoder = Decoder::new(self.shared.codec, call.args.bytes, &args_regions);
        let before = Instant::now();
        // SAFETY: the parent wrote the arguments with the kind that this code belongs to, and one input of the right type for each of
        // the task's; both were checked to be the same executable.
        let called = || unsafe { (task.item.call)(&mut decoder, &cells.cells, ids.as_ptr(), num_inputs) };
        let outcome = catch_unwind(AssertUnwindSafe(called));
        let ran = Ran { ns: before.elapsed().as_nanos() as u64, started_ns: clock::shared_ns(before) };
        // Borrowed anew each time: code of the program runs in between, and may ask.
        let result = |write: &mut dyn FnMut(&mut CallWriter)| write(&mut line.out.borrow_mut().results.writer);
        match outcome {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(error))) => {
                // What it does is the program's, too.
                let texts = catch_unwind(AssertUnwindSafe(|| texts_of(&**error))).unwrap_or_else(|payload| {
                    vec![format!("an error that cannot be displayed: {}", describe_panic(payload))]
                });
                quietly(|| drop(error));
                result(&mut |writer| writer.result_returned(index, ran, &texts));
                return Ok(Made::Nothing);
            }
            Ok(Err((argument, error))) => {
                let problem = format!("cannot decode argument {}: {error}", argument + 1);
                result(&mut |writer| writer.result_not_portable(index, &problem));
                return Ok(Made::Nothing);
            }
            Err(payload) => {
                let message = describe_panic(payload);
                result(&mut |writer| writer.result_panicked(index, ran, &message));
                return Ok(Made::Nothing);
            }
        }

        let (value, _) = cells.pop();
        let mut value = Made::Own(Own { cell: value, code: value_code, num_uses, last_shown: None });
        // Those that were to read it here read it elsewhere, if they have been taken back.
        if call.ship || line.out.borrow().is_rest_revoked {
            let mut encoder = Encoder::new(self.shared.codec, Some(&self.shared.memory));
            let Made::Own(Own { cell, .. }) = &value else { unreachable!("it was just made") };
            // SAFETY: the call has filled the cell with a value of this code's type, and nobody has taken it.
            let encoded = catch_unwind(AssertUnwindSafe(|| unsafe { (value_code.item.encode)(cell, &mut encoder) }));
            let encoded = match encoded {
                Ok(Ok(())) => {
                    let (bytes, regions) = encoder.finish();
                    self.made_own(regions).map(|regions| (bytes, regions)).map_err(|error| error.to_string())
                }
                Ok(Err(error)) => Err(error.to_string()),
                Err(payload) => Err(format!("encoding panicked: {}", describe_panic(payload))),
            };
            let (bytes, regions) = match encoded {
                Ok(encoded) => encoded,
                Err(problem) => {
                    let type_name = (value_code.item.type_name)();
                    let problem = format!("cannot encode its value, a `{type_name}`: {problem}");
                    result(&mut |writer| writer.result_not_portable(index, &problem));
                    return Ok(Made::Nothing);
                }
            };
            let size = bytes.len() + regions.iter().map(|region| region.len()).sum::<usize>();
            let keep = call.keep != 0 && size >= KEEP_MIN_BYTES;
            let Out { outgoing, exchange, results, .. } = &mut *line.out.borrow_mut();
            results.writer.result_value(index, ran, keep);
            outgoing.encoding(&mut results.writer, &bytes, &regions, exchange);
            if keep {
                value = Made::Kept(self.keep(call.keep, value, value_code));
            }
        } else {
            result(&mut |writer| writer.result_unsent(index, ran, false));
        }
        Ok(if num_uses == 0 { Made::Nothing } else { value })
    }

    /// The regions, with copies in the place of those that came to another thread: the parent gets them back only from that one.
    fn made_own(&self, regions: Vec<Region>) -> Result<Vec<Region>, CodecError> {
        let own = |region: Region| {
            if !self.line.out.borrow().exchange.is_foreign(&region) {
                return Ok(region);
            }
            let mut copy = self.shared.memory.allocate(region.len())?;
            copy.copy_from_slice(&region);
            Ok(copy.freeze())
        };
        regions.into_iter().map(own).collect()
    }

    fn keep(&self, key: u64, mut value: Made, code: &'static CodeDescriptor<ValueCode>) -> SharedValue {
        let kept = Arc::new(OnceLock::new());
        if let Made::Own(Own { cell, .. }) = &mut value {
            let cell = std::mem::replace(cell, Cell::new(0));
            let _ = kept.set(Ok(KeptValue { cell, code }));
        }
        self.shared.kept.lock().insert(key, Arc::clone(&kept));
        kept
    }

    /// A cell with the value of an input; `None` if the call that should have made it gave none.
    fn input(
        &self,
        input: &CallInput<'_>,
        regions: &[Region],
        index: u32,
        made: &mut [Made],
        borrowed: &mut Vec<SharedValue>,
    ) -> Result<Option<(Cell, &'static CodeDescriptor<ValueCode>)>, String> {
        match *input {
            CallInput::Earlier(earlier) if earlier >= index => Err("it comes from a later call".into()),
            CallInput::Earlier(earlier) => match &mut made[earlier as usize] {
                Made::Nothing => Ok(None),
                Made::Own(own) => {
                    own.num_uses -= 1;
                    // The last one to ask gets the value itself, if it has not been shown it as another of its arguments.
                    if own.num_uses == 0 && own.last_shown != Some(index) {
                        return Ok(Some((std::mem::replace(&mut own.cell, Cell::new(0)), own.code)));
                    }
                    own.last_shown = Some(index);
                    let shared = Cell::new(1);
                    // SAFETY: the cell holds a value of this code's type. It stays there until after this call: it is taken out only above,
                    // which no other argument of this call can come to any more.
                    unsafe { (own.code.item.share)(&own.cell, &shared) };
                    Ok(Some((shared, own.code)))
                }
                Made::Kept(kept) => {
                    let kept = Arc::clone(kept);
                    borrow(kept, borrowed).map(Some)
                }
            },
            CallInput::Kept(key) => {
                let kept = self.shared.kept.lock().get(&key).cloned();
                borrow(kept.ok_or("it was to be kept here and was not")?, borrowed).map(Some)
            }
            CallInput::Value { code, keep, ref value } => {
                let code = match self.codes.get(code as usize) {
                    Some(Ok(Known::Value(code))) => *code,
                    Some(Err(error)) => return Err(format!("its code was not found in the worker: {error}")),
                    _ => return Err("it refers to code that was not sent".into()),
                };
                let decode = || decode(code, self.shared.codec, value.bytes, regions);
                if keep == 0 {
                    return decode().map(|cell| Some((cell, code)));
                }
                // Of several threads that are sent the same value one decodes it.
                let kept = Arc::clone(self.shared.kept.lock().entry(keep).or_default());
                kept.get_or_init(|| decode().map(|cell| KeptValue { cell, code }));
                borrow(kept, borrowed).map(Some)
            }
        }
    }
}

pub(super) fn decode(
    code: &'static CodeDescriptor<ValueCode>,
    codec: Codec,
    bytes: &[u8],
    regions: &[Region],
) -> Result<Cell, String> {
    let cell = Cell::new(1);
    let mut decoder = Decoder::new(codec, bytes, regions);
    // SAFETY: a new cell.
    let decoded = catch_unwind(AssertUnwindSafe(|| unsafe { (code.item.decode)(&mut decoder, &cell) }));
    let problem = match decoded {
        Ok(Ok(())) => match decoder.finish() {
            Ok(()) => return Ok(cell),
            Err(error) => {
                sweep(&cell, code);
                error.to_string()
            }
        },
        Ok(Err(error)) => error.to_string(),
        Err(payload) => format!("decoding panicked: {}", describe_panic(payload)),
    };
    Err(format!("cannot decode a `{}`: {problem}", (code.item.type_name)()))
}

/// A cell that shows a kept value, which is put on the list of those that the call borrows.
fn borrow(
    kept: SharedValue,
    borrowed: &mut Vec<SharedValue>,
) -> Result<(Cell, &'static CodeDescriptor<ValueCode>), String> {
    let cell = Cell::new(1);
    let code = match kept.get() {
        Some(Ok(value)) => {
            // SAFETY: the cell holds a value of this code's type, and lives until the list of borrowed values is dropped after the call.
            unsafe { (value.code.item.share)(&value.cell, &cell) };
            value.code
        }
        Some(Err(error)) => return Err(error.clone()),
        None => return Err("it was to be kept here and was not".into()),
    };
    borrowed.push(kept);
    Ok((cell, code))
}

/// The cells of one call. What is left in them is dropped with them.
struct Cells {
    cells: Vec<Cell>,
    codes: Vec<&'static CodeDescriptor<ValueCode>>,
}

impl Cells {
    fn push(&mut self, cell: Cell, code: &'static CodeDescriptor<ValueCode>) {
        self.cells.push(cell);
        self.codes.push(code);
    }

    fn pop(&mut self) -> (Cell, &'static CodeDescriptor<ValueCode>) {
        let last = (self.cells.pop(), self.codes.pop());
        (last.0.expect("a call has a cell for its value"), last.1.expect("each cell has a code"))
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        self.cells.iter().zip(&self.codes).for_each(|(cell, code)| sweep(cell, code));
    }
}

// ---- what tasks ask ----

thread_local! {
    static LINE: RefCell<Option<Rc<Line>>> = const { RefCell::new(None) };
}

/// For threads that are not the worker's own: the channel of its first.
static NOTES: OnceLock<Mutex<IpcSender<ToParent>>> = OnceLock::new();

/// The line of this thread, if it runs a task.
fn line() -> Option<Rc<Line>> {
    // In a copy of the process that a task has made the channels are those of another.
    if HAS_FORKED.load(Ordering::Relaxed) {
        return None;
    }
    LINE.try_with(|line| line.try_borrow().ok()?.clone()).ok().flatten()
}

pub(super) fn codec() -> Codec {
    line().map_or(Codec::default(), |line| line.codec)
}

/// See [`requests::ask`](super::requests::ask).
pub(super) fn ask(question: Vec<u8>, deadline: Option<Instant>) -> Result<Vec<u8>, RequestError> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let line = line().filter(|_| in_run()).ok_or(RequestError::NoTask)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let answered = line.ask(number, question, deadline);
    // The conversation cannot go on: as in `serve`.
    let answer = answered.unwrap_or_else(|_| std::process::exit(EXIT_BROKEN));
    answer.ok_or(RequestError::NoDesk)
}

/// See [`requests::runs_task`](super::requests::runs_task).
pub(super) fn runs_task() -> bool {
    in_run() && line().is_some()
}

/// See [`requests::when_task_ends`](super::requests::when_task_ends).
pub(super) fn when_task_ends(call: Box<dyn FnOnce()>) {
    if let Some(line) = line() {
        line.at_end.borrow_mut().push(call);
    }
}

/// See [`requests::note`](super::requests::note).
pub(super) fn note(note: Vec<u8>) {
    let note = ToParent::Note(Payload::new(Bytes(note)));
    // If it cannot be sent the parent is gone, or finds this process gone.
    let _ = match (line(), NOTES.get()) {
        (Some(line), _) => send(&line.to, note),
        (None, Some(notes)) if !HAS_FORKED.load(Ordering::Relaxed) => send(&notes.lock(), note),
        _ => Ok(()),
    };
}

impl Line {
    fn ask(&self, number: u64, question: Vec<u8>, deadline: Option<Instant>) -> Result<Option<Vec<u8>>, ChannelError> {
        let (batch, index) = {
            let mut out = self.out.borrow_mut();
            // Those that the task waits for may need them. Code of the program also asks where its value is dropped, after the call.
            if out.results.num_results > 0 && out.results.writer.len() == out.mark {
                out.report(false)?;
            }
            (out.results.batch, out.call)
        };
        send(&self.to, ToParent::Request { number, batch, index, body: Payload::new(Bytes(question)) })?;
        let token = CancelToken::in_force();
        let mut is_withdrawn = false;
        loop {
            let now = Instant::now();
            let is_over = deadline.is_some_and(|deadline| now >= deadline)
                || token.as_ref().is_some_and(CancelToken::is_cancelled);
            if is_over && !is_withdrawn {
                is_withdrawn = true;
                send(&self.to, ToParent::Withdraw(number))?;
            }
            let time = match deadline {
                Some(deadline) if !is_withdrawn => CancelToken::LOOK.min(deadline.saturating_duration_since(now)),
                _ => CancelToken::LOOK,
            };
            match receive_within(&self.from, time)? {
                Some(ToWorker::Response { number: other, is_rest_revoked, body: answer }) if other == number => {
                    if is_rest_revoked {
                        self.out.borrow_mut().is_rest_revoked = true;
                        self.aside.borrow_mut().iter_mut().for_each(|(_, is_taken_back)| *is_taken_back = true);
                    }
                    return Ok(answer.map(|answer| answer.into_bytes().0));
                }
                Some(ToWorker::Response { .. }) => {
                    return Err(ChannelError::Malformed("an answer to something else".into()));
                }
                Some(other) => self.aside.borrow_mut().push_back((other, false)),
                None => {}
            }
        }
    }
}

thread_local! {
    static TASK: RefCell<TaskNow> = const { RefCell::new(TaskNow { code: None, name: String::new() }) };
}

/// The task that this thread runs.
struct TaskNow {
    code: Option<&'static CodeDescriptor<TaskCode>>,
    name: String,
}

impl TaskNow {
    fn set(&mut self, code: &'static CodeDescriptor<TaskCode>, name: Option<&str>) {
        self.code = Some(code);
        self.name.clear();
        self.name.push_str(name.unwrap_or_default());
    }
}

/// Says whose panic it is before it is reported.
fn watch_panics(worker: u32) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Some(name) = task_now() {
            let pid = std::process::id();
            // If it cannot be written there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "\nsprang worker {worker} (process {pid}), task {name:?}:");
        }
        before(info);
    }));
}

/// The name of the task that this thread runs, if it runs one.
fn task_now() -> Option<String> {
    let name = TASK.try_with(|task| {
        let task = task.try_borrow().ok()?;
        Some(match task.name.as_str() {
            "" => name::of_function((task.code?.item.function)()),
            name => name.to_owned(),
        })
    });
    name.ok().flatten()
}

/// What tasks log goes to the worker's standard error, with its number and their names.
struct WorkerLog {
    worker: u32,
}

impl log::Log for WorkerLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        let task = task_now().map_or(String::new(), |name| format!(", task {name:?}"));
        let (worker, level, target, args) = (self.worker, record.level(), record.target(), record.args());
        // If it cannot be written there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "sprang worker {worker}{task}: {level} {target}: {args}");
    }

    fn flush(&self) {}
}

/// Logs as much as the parent does, unless the initializer has made another logger.
fn keep_log(worker: u32, level: usize) {
    let level = log::LevelFilter::iter().nth(level).unwrap_or(log::LevelFilter::Off);
    if log::set_logger(Box::leak(Box::new(WorkerLog { worker }))).is_ok() {
        log::set_max_level(level);
    }
}
