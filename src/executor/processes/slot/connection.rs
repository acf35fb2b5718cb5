//! The connection of a slot to one thread of a worker: the messages to it and from it.

#![expect(unsafe_code, reason = "it encodes arguments through the kinds of tasks")]

use super::requests::PendingRequest;
use crate::engine::callback::WorkerId;
use crate::engine::{Deadline, RunAccess, Timer, describe_panic};
use crate::error::{Error, ErrorKind};
use crate::executor::processes::clock;
use crate::executor::processes::link::{ChannelError, Incoming, Outgoing, receive};
use crate::executor::processes::monitor::MonitoredProcess;
use crate::executor::processes::pool::Pool;
use crate::executor::processes::process::{Channel, KillReason, WorkerProcess};
use crate::executor::processes::protocol::{CallBatch, Code, Payload, ResourceUpdate, ToParent, ToWorker};
use crate::executor::remote::batch::{Batch, Source};
use crate::executor::remote::call::{
    ByteString, CallInput, CallOutcome, CallReader, CallWriter, KEEP_MIN_BYTES, Malformed, encode_error,
};
use crate::executor::remote::schedule::RemoteWorker;
use crate::executor::remote::settle::{check_results, take_results};
use crate::executor::remote::stored::{EncodedValue, StoredValue, encoded_size};
use crate::executor::timer::TimerThread;
use crate::portable::code::{CodeDescriptor, CodeRef};
use crate::portable::codec::Encoder;
use crate::portable::exchange::Exchange;
use ipc_channel::ipc::IpcReceiver;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// A message with calls is sent when it has this many bytes. So a worker that does not read cannot
/// block its slot.
const MESSAGE_BYTES: usize = 64 << 10;

/// How long an idle worker may take to trim its memory.
const TRIM_LIMIT: Duration = Duration::from_secs(10);

/// The worker cannot be used any more.
pub(super) struct Lost;

/// See the [module](self).
pub(super) struct Connection {
    /// The index of the slot.
    pub(super) index: usize,
    pub(super) process: Arc<WorkerProcess>,
    /// The index of the worker's thread.
    pub(super) thread: usize,
    pub(super) outgoing: Outgoing<ToWorker>,
    from: IpcReceiver<ToParent>,
    incoming: Incoming,
    pub(super) exchange: Exchange,
    /// The numbers of the codes that the worker was sent, by their addresses.
    codes: HashMap<usize, u32>,
    /// Runs that the worker knows.
    runs: HashSet<u64>,
    last_batch: u32,
    pub(super) under_way: VecDeque<UnderWay>,
    /// The worker was told to trim and has not answered.
    is_trimming: bool,
    /// The request of the task that runs, until it is answered.
    pub(super) request: Option<PendingRequest>,
    /// Batches that were requeued while the worker had them, and whose end it has not reported.
    pub(super) requeued: VecDeque<u32>,
}

/// A batch that the worker has.
pub(super) struct UnderWay {
    pub(super) number: u32,
    pub(super) batch: Batch,
    /// Values that the worker was told to keep, and the index of the call that they came with.
    pub(super) kept: Vec<(usize, Arc<StoredValue>)>,
    _deadline: Option<Box<dyn Deadline>>,
}

/// The message of a batch, while it is written.
#[derive(Default)]
struct BatchMessage {
    writer: CallWriter,
    /// Codes that the worker does not know yet.
    codes: Vec<Code>,
    /// The position of each call, for [`CallWriter::ship`].
    positions: Vec<usize>,
    /// The bytes of the arguments and values of each call.
    num_bytes: Vec<u64>,
    kept: Vec<(usize, Arc<StoredValue>)>,
}

impl Connection {
    pub(super) fn new(index: usize, process: Arc<WorkerProcess>, thread: usize, channel: Channel) -> Self {
        Connection {
            index,
            process,
            thread,
            outgoing: Outgoing::new(channel.to),
            from: channel.from,
            incoming: Incoming::default(),
            exchange: Exchange::new(),
            codes: HashMap::new(),
            runs: HashSet::new(),
            last_batch: 0,
            under_way: VecDeque::new(),
            is_trimming: false,
            request: None,
            requeued: VecDeque::new(),
        }
    }

    pub(super) fn process(&self) -> &Arc<WorkerProcess> {
        &self.process
    }

    pub(super) fn worker_id(&self) -> WorkerId {
        WorkerId::of_process(self.process.pid(), self.thread as u32)
    }

    pub(super) fn num_under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Whether the worker may get another batch now.
    pub(super) fn takes_batches(&self) -> bool {
        !self.process.is_retired() && self.request.is_none()
    }

    /// How long the batches under way will take together, if that is known.
    pub(super) fn busy_ns(&self) -> Option<f64> {
        self.under_way.iter().map(|under_way| under_way.batch.expected_ns).sum()
    }

    /// Says goodbye and closes the channels. The exchanged regions must be kept until the worker
    /// has ended.
    pub(super) fn close(self) -> Exchange {
        let _ = self.outgoing.send_plain(ToWorker::Goodbye);
        self.exchange
    }

    // ---- to the worker ----

    /// The number of a code. The message introduces the code if the worker does not know it yet.
    fn code<T>(
        &mut self,
        code: &'static CodeDescriptor<T>,
        new: &mut Vec<Code>,
        wrap: fn(CodeRef) -> Code,
    ) -> Result<u32, Error> {
        let address = std::ptr::from_ref(code).addr();
        if let Some(&number) = self.codes.get(&address) {
            return Ok(number);
        }
        let reference = CodeRef::to(code).map_err(|error| {
            Error::new(
                ErrorKind::NotPortable,
                format!("its code {:?} cannot be found in other processes: {error}", code.name()),
            )
        })?;
        let number = self.codes.len() as u32;
        self.codes.insert(address, number);
        new.push(wrap(reference));
        Ok(number)
    }

    /// Sends a batch, or as much of it as the worker may run and the message may hold.
    pub(super) fn send(&mut self, pool: &Pool, worker: &RunAccess<'_>, mut batch: Batch) -> Result<(), Lost> {
        let schedule = Arc::clone(&batch.schedule);
        batch.truncate(self.process.reserve_tasks(batch.calls.len() as u64) as usize);
        if batch.calls.is_empty() {
            // Other threads of the worker have reserved all of its tasks.
            return Ok(());
        }
        // A run that was stopped while the worker was started does not wait for the batch, and no
        // thread would cancel its tasks.
        if !schedule.batch_started(Arc::clone(&self.process) as Arc<dyn RemoteWorker>) {
            return Ok(());
        }
        let mut message = BatchMessage::default();
        if let Err(error) = self.write_calls(pool, worker, &mut batch, &mut message) {
            batch.truncate(1);
            schedule.task_failed(worker, batch.calls[0].id, error, false);
            schedule.batch_ended(&self.process);
            if message.codes.is_empty() {
                return Ok(());
            }
            // The codes have their numbers, so the worker must learn them.
            self.last_batch += 1;
            return self.outgoing.send_plain(ToWorker::Codes(message.codes)).map_err(|_| Lost);
        }
        let BatchMessage { writer, codes, num_bytes, kept, .. } = message;
        let task_context = match self.runs.insert(schedule.number) {
            false => None,
            true => {
                let (restore, bytes) = schedule.run().task_context().to_portable();
                CodeRef::to(restore).ok().map(|restore| (restore, ByteString(bytes)))
            }
        };
        self.last_batch += 1;
        let update = self.update(pool);
        let number = self.last_batch;
        let work = |update| {
            ToWorker::Batch(CallBatch {
                batch: number,
                run: schedule.number,
                task_context,
                codes,
                num_calls: batch.calls.len() as u32,
                calls: Payload::new(writer.finish()),
                update,
            })
        };
        // Before the message is sent: a large message blocks until the worker reads it. If the
        // worker does not, the timeout of the batch can kill it.
        if self.under_way.is_empty() {
            self.process.set_busy(true);
        }
        let thread = self.thread;
        let deadline = batch.timeout.map(|limit| {
            let kill = self.process.killer_for(KillReason::TimedOut { limit, thread, batch: number });
            TimerThread::shared().start(limit, kill)
        });
        if worker.is_watched() {
            let id = self.worker_id();
            batch.calls.iter().zip(num_bytes).for_each(|(call, bytes)| worker.sent(call.id, id, bytes));
        }
        let sent = self.outgoing.send(update, &mut self.exchange, work);
        self.under_way.push_back(UnderWay { number, batch, kept, _deadline: deadline });
        sent.map_err(|_| Lost)
    }

    /// Writes the calls of a batch until the message is full or a call cannot be written. Requeues
    /// the others.
    ///
    /// # Errors
    /// If the first call cannot be written. A later one comes first in another batch, and fails
    /// then.
    fn write_calls(
        &mut self,
        pool: &Pool,
        worker: &RunAccess<'_>,
        batch: &mut Batch,
        message: &mut BatchMessage,
    ) -> Result<(), Error> {
        for index in 0..batch.calls.len() {
            if index > 0 && message.writer.len() > MESSAGE_BYTES {
                batch.truncate(index);
                break;
            }
            match self.write_call(pool, worker, batch, index, message) {
                Ok(()) => {}
                Err(_) if index > 0 => {
                    batch.truncate(index);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        batch.choose_sent_values();
        for (&position, call) in message.positions.iter().zip(&batch.calls) {
            message.writer.ship(position, call.sends_value);
        }
        Ok(())
    }

    fn write_call(
        &mut self,
        pool: &Pool,
        worker: &RunAccess<'_>,
        batch: &Batch,
        index: usize,
        message: &mut BatchMessage,
    ) -> Result<(), Error> {
        let call = &batch.calls[index];
        let schedule = &batch.schedule;
        let task = worker.task(call.id);
        let code = self.code(schedule.code(call.code), &mut message.codes, Code::Task)?;
        let mut encoder = Encoder::new(pool.settings().codec, Some(&pool.memory));
        // First the steps that may fail, so that no call is half written.
        // SAFETY: the kind is the task's own, so it knows the types of the task's arguments.
        let encoded = catch_unwind(AssertUnwindSafe(|| unsafe { (task.kind().write_args)(task, &mut encoder) }));
        let problem = match encoded {
            Ok(Ok(())) => None,
            Ok(Err((argument, error))) => Some(format!("cannot encode argument {}: {error}", argument + 1)),
            Err(payload) => Some(format!("encoding its arguments panicked: {}", describe_panic(payload))),
        };
        if let Some(problem) = problem {
            return Err(Error::new(ErrorKind::NotPortable, problem));
        }
        let sources = batch.sources_of(index);
        let mut value_codes = Vec::with_capacity(sources.len());
        for source in sources {
            value_codes.push(match source {
                Source::Earlier { .. } | Source::Failed(_) => 0,
                Source::Stored(value) => self.code(value.encoded.code, &mut message.codes, Code::Value)?,
            });
        }
        let name = task.options().and_then(|options| options.name.as_deref());
        let is_read_later = call.num_readers > 0 || schedule.has_sink(call.id);
        let keep = if is_read_later { schedule.key(call.id) } else { 0 };
        let writer = &mut message.writer;
        message.positions.push(writer.call(code, name, keep, sources.len() as u32));
        let mut num_bytes = 0;
        for (source, code) in sources.iter().zip(value_codes) {
            match source {
                &Source::Earlier { index, takes_error } => writer.input(&CallInput::Earlier { index, takes_error }),
                Source::Failed(error) => {
                    let error = encode_error(error);
                    num_bytes += error.len();
                    writer.input(&CallInput::Failed(&error));
                }
                Source::Stored(value) if value.is_kept_by(self.process.kept()) => {
                    writer.input(&CallInput::Kept(value.key))
                }
                Source::Stored(value) => {
                    let is_kept = value.is_shared && value.size() >= KEEP_MIN_BYTES;
                    let keep = if is_kept { value.key } else { 0 };
                    let EncodedValue { bytes, regions, .. } = &value.encoded;
                    let encoding = self.outgoing.encoding(bytes, regions, &mut self.exchange);
                    writer.input(&CallInput::Value { code, keep, value: encoding });
                    num_bytes += value.size();
                    if is_kept {
                        message.kept.push((index, Arc::clone(value)));
                    }
                }
            }
        }
        let (bytes, regions) = encoder.finish();
        writer.encoding(&self.outgoing.encoding(&bytes, &regions, &mut self.exchange));
        message.num_bytes.push((num_bytes + encoded_size(&bytes, &regions)) as u64);
        Ok(())
    }

    /// What the worker may drop. It goes with the next message: a worker is not woken for it unless
    /// it has been idle for long.
    fn update(&mut self, pool: &Pool) -> ResourceUpdate {
        let ended: Vec<u64> = self.runs.extract_if(|&run| !pool.is_active(run)).collect();
        ResourceUpdate { dropped: self.process.kept().take_dropped(), ended, ..ResourceUpdate::default() }
    }

    /// Whether a worker that has been idle for long may drop something. The slot is woken when
    /// there is more.
    pub(super) fn has_update(&self, pool: &Arc<Pool>) -> bool {
        let (pool, process) = (Arc::downgrade(pool), self.process.number());
        self.exchange.on_next_release(move || {
            if let Some(pool) = pool.upgrade() {
                pool.wake_slots_of(process);
            }
        });
        self.process.kept().has_dropped() || self.exchange.has_released() || self.exchange.has_forgotten()
    }

    /// Makes an idle worker free the memory that it keeps for the next tasks, and waits until it
    /// has.
    pub(super) fn trim(&mut self, pool: &Arc<Pool>) -> Result<(), Lost> {
        let update = self.update(pool);
        self.outgoing.send(update, &mut self.exchange, ToWorker::Trim).map_err(|_| Lost)?;
        let kill = self.process.killer_for(KillReason::Breach("it did not answer while it was idle".into()));
        let _deadline = TimerThread::shared().start(TRIM_LIMIT, kill);
        self.is_trimming = true;
        while self.is_trimming {
            self.receive(pool)?;
        }
        Ok(())
    }

    // ---- from the worker ----

    /// Waits for a message and handles it. A worker that breaks the protocol is killed.
    pub(super) fn receive(&mut self, pool: &Arc<Pool>) -> Result<(), Lost> {
        if let Some(first) = self.under_way.front() {
            self.process.set_awaited(self.thread, first.number);
        }
        let received = receive(&self.from);
        self.process.set_awaited(self.thread, 0);
        let handled = match received {
            Ok(message) => self.handle(pool, message)?,
            Err(ChannelError::Closed) => return Err(Lost),
            Err(ChannelError::Malformed(what) | ChannelError::NotSent(what)) => Err(what),
        };
        handled.map_err(|breach| {
            self.process.kill(KillReason::Breach(breach));
            Lost
        })
    }

    /// Handles a message. The inner result is an error if the message breaks the protocol.
    fn handle(&mut self, pool: &Arc<Pool>, message: ToParent) -> Result<Result<(), String>, Lost> {
        Ok(match message {
            ToParent::Results { batch, is_last, num_results, results, update } => {
                self.handle_results(pool, batch, is_last, num_results, &results.into_bytes(), update)
            }
            ToParent::Resources(update) => self.handle_update(update),
            ToParent::Trimmed(update) if self.is_trimming => {
                self.is_trimming = false;
                self.handle_update(update)
            }
            ToParent::Trimmed(_) => Err("it answered what it was not asked".into()),
            ToParent::Request { number, batch, index, body } => {
                self.handle_request(number, batch, index as usize, &body.into_bytes().0)?
            }
            ToParent::Withdraw(number) => {
                if let Some(session) = self.process.session() {
                    session.withdraw(number);
                }
                Ok(())
            }
            ToParent::Note(note) => {
                if let Some(session) = self.process.session() {
                    session.note(&note.into_bytes().0);
                }
                Ok(())
            }
            ToParent::WakeForAnswer => Ok(self.check_request(pool)?),
            ToParent::WakeForEnd => return Err(Lost),
            ToParent::Ready(_) => Err("it said twice that it is ready".into()),
        })
    }

    fn handle_update(&mut self, update: ResourceUpdate) -> Result<(), String> {
        self.incoming.apply(update, &mut self.exchange).map_err(|error| error.to_string())
    }

    fn handle_results(
        &mut self,
        pool: &Arc<Pool>,
        number: u32,
        is_last: bool,
        num_results: u32,
        results: &ByteString,
        update: ResourceUpdate,
    ) -> Result<(), String> {
        self.handle_update(update)?;
        if self.requeued.front() == Some(&number) && is_last && num_results == 0 {
            self.requeued.pop_front();
            return Ok(());
        }
        let Some(under_way) = self.under_way.front_mut().filter(|under_way| under_way.number == number) else {
            return Err(format!("results of batch {number}, which it was not asked for"));
        };
        let mut reader = CallReader::new(results);
        let results = (0..num_results).map(|_| {
            let result = reader.result()?;
            let regions = match &result.outcome {
                CallOutcome::Value(Some(encoding)) => {
                    self.incoming.regions(encoding, &mut self.exchange).map_err(|_| Malformed)?
                }
                _ => Vec::new(),
            };
            Ok((result, regions))
        });
        let results: Vec<_> = results.collect::<Result<_, Malformed>>().map_err(|malformed| malformed.to_string())?;
        if !reader.is_at_end() {
            return Err(Malformed.to_string());
        }
        self.incoming.clear();
        check_results(&under_way.batch, &results, is_last)?;
        let schedule = Arc::clone(&under_way.batch.schedule);
        let kept = self.process.kept();
        let taken = schedule
            .run()
            .enter(|worker| take_results(worker, &mut under_way.batch, results, is_last, kept, clock::instant));
        if is_last {
            let ended = self.under_way.pop_front().expect("its results were taken");
            ended.kept.iter().for_each(|(_, value)| kept.add(value));
            if self.under_way.is_empty() {
                self.process.set_busy(false);
                pool.set_busy(self.index, false);
            }
            schedule.batch_ended(&self.process);
        }
        schedule.report_settled(taken.unwrap_or(0));
        Ok(())
    }
}
