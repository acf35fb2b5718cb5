//! One thread of one worker, as this process sees it: a thread here that keeps it busy and survives it.
//!
//! # The states of a slot
//!
//! ```text
//!          take a batch            send it                      results
//!   empty -------------> starting ---------> busy (1 or 2 batches) ----> idle
//!     ^                     |                  |        ^                 |
//!     |     not started     |                  | ended  +--- a batch -----+
//!     +---------------------+                  v                          |
//!     +------------------------------------ lost it <---------------------+ ended, idle for long, or its share done
//! ```
//!
//! A slot that is busy sleeps on its channel, where also the news of its worker's end arrives ([`ToParent::WakeForEnd`]), and that of an answer to what its
//! task has asked ([`ToParent::WakeForAnswer`]); one that is not sleeps in the pool. It starts and reaps workers itself, so that each has one owner and dies
//! with it.
//!
//! # Who is to blame
//!
//! When a worker dies, the call that it was busy with is the suspect: it is charged with an attempt, and tried again alone. The other
//! calls of its batches go back to the others free of charge.
//!
//! A worker that dies between calls, as it does when somebody else kills it, may still have died of a call: of reading its message or of
//! sending its value. So the calls that can have to do with it are tried again alone, once free of charge; who then sees its worker die
//! once more in the same way is charged as well. Without that, a value too large to be sent would be computed for ever.
//!
//! A task that is too slow is the only one to blame for the end of its worker, whatever other threads were busy with.

#![expect(unsafe_code, reason = "it decodes values into cells and encodes arguments through the kinds of tasks")]

use super::clock;
use super::link::{ChannelError, Incoming, Outgoing, receive};
use super::pool::{Core, Woken};
use super::process::{Channel, EXIT_GRACE, KillReason, WorkerProcess};
use super::protocol::{
    Bytes, CallBatch, CallInput, CallReader, CallResult, CallWriter, Code, Malformed, Payload, ResourceUpdate,
    ToParent, ToWorker,
};
use super::requests::{GIVE_WAY_AFTER, GIVE_WAY_AGAIN_AFTER, SPARE_IDLE};
use super::schedule::{Batch, CallState, Death, Source, Value, size};
use crate::engine::callback::{Replaceable, StartedWorker, WorkerId};
use crate::engine::{Deadline, RunAccess, Timer, describe_panic};
use crate::error::{Error, ErrorKind, RemoteError};
use crate::executor::remote::call::CallOutcome;
use crate::executor::timer::TimerThread;
use crate::graph::crossing::Encoded;
use crate::portable::code::{CodeDescriptor, CodeRef};
use crate::portable::codec::{Decoder, Encoder};
use crate::portable::exchange::Exchange;
use crate::portable::region::Region;
use ipc_channel::ipc::IpcReceiver;
use parking_lot::Mutex;
use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How many batches a worker has at a time: one to work on, and one so that it does not wait for the next.
const MAX_UNDER_WAY: usize = 2;
/// A message with calls is sent when it has grown to this size, so that a worker that has stopped reading cannot stop its slot.
const MESSAGE_BYTES: usize = 64 << 10;

/// How long there must have been nothing to do before memory that is kept for the next tasks is given back: long against the pauses between
/// the runs of a loop, short against those of a person.
const TRIM_AFTER: Duration = Duration::from_millis(500);
/// How long an idle worker may take to do so.
const TRIM_LIMIT: Duration = Duration::from_secs(10);

/// See the [module](self).
pub(super) struct Slot {
    core: Arc<Core>,
    index: usize,
    link: Option<Link>,
    /// How many workers there have been here.
    num_workers: u32,
    /// Since when there has been nothing to do.
    idle_since: Option<Instant>,
    /// Nothing is kept for the next tasks.
    is_trimmed: bool,
}

/// What there is while there is a worker.
struct Link {
    /// Of the slot.
    index: usize,
    host: Arc<WorkerProcess>,
    /// Which of the worker's threads this is.
    thread: usize,
    outgoing: Outgoing<ToWorker>,
    from: IpcReceiver<ToParent>,
    incoming: Incoming,
    exchange: Exchange,
    /// The numbers of the code that the worker has been sent.
    codes: HashMap<usize, u32>,
    /// Runs that the worker knows.
    runs: HashSet<u64>,
    last_batch: u32,
    under_way: VecDeque<UnderWay>,
    /// It was told to let go of what it keeps, and has not answered yet.
    is_trimming: bool,
    /// What the task that it runs has asked, until that is answered.
    asked: Option<Asked>,
    /// Batches that were taken back, whose end has not been reported.
    taken_back: VecDeque<u32>,
}

struct UnderWay {
    number: u32,
    batch: Batch,
    /// Values that the worker was asked to keep, and for which call.
    kept: Vec<(usize, Arc<Value>)>,
    _deadline: Option<Box<dyn Deadline>>,
}

/// A question that has not been answered at once. The first batch under way is that of the task.
struct Asked {
    number: u64,
    /// Which call of the batch it is.
    index: usize,
    since: Instant,
    mailbox: Arc<Mutex<Mailbox>>,
    /// What was to be run after the task has been taken back.
    is_rest_revoked: bool,
    /// That others have the place of the task.
    gave_way: Option<Box<dyn Any + Send>>,
    /// Has the slot look again.
    alarm: Box<dyn Deadline>,
}

/// Where an answer is put.
#[derive(Default)]
struct Mailbox {
    answer: Option<Vec<u8>>,
    /// The slot sleeps, and is to be woken.
    must_knock: bool,
}

/// The worker cannot be used any more.
struct Lost;

impl Slot {
    pub(super) fn new(core: Arc<Core>, index: usize) -> Self {
        Slot { core, index, link: None, num_workers: 0, idle_since: None, is_trimmed: true }
    }

    /// Serves until the pool is closed.
    pub(super) fn serve(mut self) {
        loop {
            let num_under_way = self.link.as_ref().map_or(0, |link| link.under_way.len());
            let may_take = num_under_way < MAX_UNDER_WAY
                && !self.link.as_ref().is_some_and(|link| link.is_retired() || link.asked.is_some());
            if may_take {
                let version = self.core.version();
                let busy_ns = self.link.as_ref().map_or(Some(0.0), Link::busy_ns);
                // A worker that is busy cannot be replaced by one for another run.
                let link = self.link.as_ref().filter(|_| num_under_way > 0);
                let inheritance = link.map(|link| link.host.inheritance());
                if let Some(batch) = self.core.take_batch(self.index, num_under_way, busy_ns, inheritance) {
                    self.core.is_engaged(self.index, true);
                    // Others may have what is left, of any run: those that told of it may have counted on this slot.
                    self.core.announce(self.core.num_ready());
                    self.send(batch);
                    continue;
                }
                if num_under_way == 0 {
                    if !self.idle(version) {
                        break;
                    }
                    continue;
                }
            }
            let Some(link) = &mut self.link else { continue };
            if link.under_way.is_empty() {
                self.say_goodbye();
            } else if link.listen(&self.core).is_err() {
                self.lost();
            }
        }
        self.say_goodbye();
    }

    /// Sleeps until there may be something to do. False if the pool is closed.
    fn idle(&mut self, version: u64) -> bool {
        if let Some(link) = &self.link {
            if link.host.has_ended() {
                self.lost();
                return true;
            }
            if self.is_trimmed && link.has_stale_files(&self.core) {
                self.trim();
                return true;
            }
        }
        // From the first time on that it came here, however often it was woken for nothing.
        let idle_time = self.idle_since.get_or_insert_with(Instant::now).elapsed();
        let idle_timeout = match self.core.is_spare(self.index) {
            true => Some(SPARE_IDLE),
            false => self.core.settings().idle_timeout,
        };
        let until_end = self.link.as_ref().and(idle_timeout);
        let until_trim = (!self.is_trimmed).then_some(TRIM_AFTER);
        let next = until_end.into_iter().chain(until_trim).min();
        match self.core.wait(self.index, version, next.map(|time| time.saturating_sub(idle_time))) {
            Woken::Changed => {}
            Woken::Idle if next == until_end => match &self.link {
                // Others of its threads are at work.
                Some(link) if !link.host.is_idle() => self.idle_since = None,
                _ => self.say_goodbye(),
            },
            Woken::Idle => self.trim(),
            Woken::Closed => return false,
        }
        true
    }

    /// Gives back memory that is kept for the next tasks, here and in the worker.
    fn trim(&mut self) {
        self.is_trimmed = true;
        self.core.is_engaged(self.index, true);
        if let Some(link) = &mut self.link
            && link.trim(&self.core).is_err()
        {
            self.lost();
        }
        self.core.trim();
        // All slots tell their workers what is gone.
        self.core.wake_all();
    }

    /// Sends a batch to the worker, which is started if there is none.
    fn send(&mut self, batch: Batch) {
        let schedule = Arc::clone(&batch.schedule);
        self.idle_since = None;
        self.is_trimmed = false;
        if self.link.as_ref().is_some_and(|link| link.host.has_ended() && link.under_way.is_empty()) {
            self.lost();
        }
        if self.link.as_ref().is_some_and(|link| link.host.inheritance() != schedule.inheritance) {
            // The environment or the working directory of this process has changed.
            self.say_goodbye();
        }
        let mut started = None;
        if self.link.is_none() {
            match self.core.connect(self.index, schedule.inheritance) {
                Ok((host, thread, channel)) => {
                    let limit = self.core.settings().memory_limit;
                    let process: Weak<dyn Replaceable> = Arc::<WorkerProcess>::downgrade(&host);
                    started = Some(StartedWorker::note(worker_id(&host, thread), self.num_workers, limit, process));
                    self.num_workers += 1;
                    self.link = Some(Link::new(self.index, host, thread, channel));
                }
                Err(error) => {
                    schedule.give_back(batch.calls.iter().map(|call| call.id));
                    if let Some(time) = self.core.start_failed(self.index, &schedule, &error) {
                        std::thread::sleep(time);
                    }
                    return;
                }
            }
        }
        let Some(link) = &mut self.link else { return };
        let run = Arc::clone(schedule.run());
        let mut batch = Some(batch);
        let sent = run.enter(|worker| match batch.take() {
            Some(batch) => {
                started.iter().for_each(|started| worker.worker_started(started));
                link.send(&self.core, worker, batch)
            }
            None => Ok(()),
        });
        match sent {
            Some(Ok(())) => {}
            Some(Err(Lost)) => self.lost(),
            // The run was closed while the worker was started.
            None => {}
        }
    }

    /// The worker has ended, or is made to; gives back what it had.
    fn lost(&mut self) {
        let Some(link) = self.link.take() else { return };
        self.core.is_engaged(self.index, true);
        if !link.host.ends_within(EXIT_GRACE) {
            link.host.kill(KillReason::Breach("it could not be talked to any more".into()));
        }
        self.core.disconnect(&link.host);
        let host = Arc::clone(&link.host);
        let exchange = link.retire_worker(&self.core);
        host.leave();
        exchange.charge_received_to(self.core.memory.budget());
        // What it had is taken by who looks first, perhaps by this slot.
        self.core.is_engaged(self.index, false);
        self.core.announce(1);
    }

    fn say_goodbye(&mut self) {
        let Some(link) = self.link.take() else { return };
        self.core.is_engaged(self.index, true);
        self.core.disconnect(&link.host);
        let _ = link.outgoing.send_plain(ToWorker::Goodbye);
        let host = Arc::clone(&link.host);
        let exchange = link.close();
        host.leave();
        exchange.charge_received_to(self.core.memory.budget());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // On the way out of a panic, which would be a bug of ours: runs do not wait for what was under way.
        if self.link.is_some() {
            self.lost();
        }
        if std::thread::panicking() {
            self.core.stop_all(&Error::new(
                ErrorKind::NoWorker,
                "a thread that serves a worker panicked, which is a bug of sprang",
            ));
        }
    }
}

impl Link {
    fn new(index: usize, host: Arc<WorkerProcess>, thread: usize, channel: Channel) -> Self {
        Link {
            index,
            host,
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
            asked: None,
            taken_back: VecDeque::new(),
        }
    }

    /// Whether the worker takes no further tasks.
    fn is_retired(&self) -> bool {
        self.host.is_retired()
    }

    /// How long the batches under way will take together, if that is known.
    fn busy_ns(&self) -> Option<f64> {
        self.under_way.iter().map(|under_way| under_way.batch.expected_ns).sum()
    }

    /// Closes the channels. What was exchanged is to be kept until the worker has ended.
    fn close(self) -> Exchange {
        self.exchange
    }

    // ---- to the worker ----

    /// The number of a piece of code, which is added to the message if the worker does not know it yet.
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

    fn send(&mut self, core: &Core, worker: &RunAccess<'_>, mut batch: Batch) -> Result<(), Lost> {
        let schedule = Arc::clone(&batch.schedule);
        batch.truncate(self.host.take_share(batch.calls.len() as u64) as usize);
        if batch.calls.is_empty() {
            // Another thread of the worker was faster.
            return Ok(());
        }
        // A run that was stopped while the worker was started does not wait for that, and nobody would end its tasks any more.
        if !schedule.goes_to(&self.host) {
            return Ok(());
        }
        let mut writer = CallWriter::default();
        let mut codes = Vec::new();
        let mut places = Vec::with_capacity(batch.calls.len());
        let mut num_bytes = Vec::with_capacity(batch.calls.len());
        let mut kept = Vec::new();
        for index in 0..batch.calls.len() {
            if index > 0 && writer.len() > MESSAGE_BYTES {
                batch.truncate(index);
                break;
            }
            match self.write_call(core, worker, &batch, index, &mut writer, &mut codes, &mut kept) {
                Ok((place, bytes)) => {
                    places.push(place);
                    num_bytes.push(bytes);
                }
                // What has been written so far is sent; this call comes first in the next batch.
                Err(_) if index > 0 => {
                    batch.truncate(index);
                    break;
                }
                Err(error) => {
                    batch.truncate(1);
                    schedule.failed(worker, batch.calls[0].id, error, false);
                    schedule.batch_is_over(&self.host);
                    // What the worker was to be told is told with the next message.
                    self.last_batch += u32::from(!codes.is_empty());
                    return self.send_codes(codes);
                }
            }
        }
        batch.choose_shipped();
        for (place, call) in places.into_iter().zip(&batch.calls) {
            writer.ship(place, call.is_shipped);
        }
        let task_context = match self.runs.insert(schedule.number) {
            false => None,
            true => {
                let (restore, bytes) = schedule.run().task_context().to_portable();
                CodeRef::to(restore).ok().map(|restore| (restore, Bytes(bytes)))
            }
        };
        self.last_batch += 1;
        let update = self.update(core);
        let work = |update| {
            ToWorker::Batch(CallBatch {
                batch: self.last_batch,
                run: schedule.number,
                task_context,
                codes,
                num_calls: batch.calls.len() as u32,
                calls: Payload::new(writer.finish()),
                update,
            })
        };
        // From here on the worker can be killed for this batch: a large message waits in `send` until the worker reads it, and one that is
        // stopped does not.
        if self.under_way.is_empty() {
            self.host.is_busy(true);
        }
        let (number, thread) = (self.last_batch, self.thread);
        let deadline = batch.timeout.map(|limit| {
            let host = Arc::downgrade(&self.host);
            let kill = move || {
                if let Some(host) = host.upgrade() {
                    host.kill(KillReason::TimedOut { limit, thread, batch: number });
                }
            };
            TimerThread::shared().start(limit, Box::new(kill))
        });
        if worker.is_watched() {
            let id = worker_id(&self.host, self.thread);
            batch.calls.iter().zip(num_bytes).for_each(|(call, bytes)| worker.sent(call.id, id, bytes));
        }
        let sent = self.outgoing.send(update, &mut self.exchange, work);
        self.under_way.push_back(UnderWay { number: self.last_batch, batch, kept, _deadline: deadline });
        sent.map_err(|_| Lost)
    }

    /// Code that was numbered and goes with no batch.
    fn send_codes(&mut self, codes: Vec<Code>) -> Result<(), Lost> {
        if codes.is_empty() {
            return Ok(());
        }
        self.outgoing.send_plain(ToWorker::Codes(codes)).map_err(|_| Lost)
    }

    /// Gives the place of the call in the message, and how many bytes of arguments and values go with it.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of one message")]
    fn write_call(
        &mut self,
        core: &Core,
        worker: &RunAccess<'_>,
        batch: &Batch,
        index: usize,
        writer: &mut CallWriter,
        codes: &mut Vec<Code>,
        kept: &mut Vec<(usize, Arc<Value>)>,
    ) -> Result<(usize, u64), Error> {
        let call = &batch.calls[index];
        let task = worker.task(call.id);
        let code = self.code(batch.schedule.code(call.code), codes, Code::Task)?;
        let mut encoder = Encoder::new(core.settings().codec, Some(&core.memory));
        // First what may go wrong, so that nothing is half written.
        // SAFETY: the kind is the task's own.
        let encoded = catch_unwind(AssertUnwindSafe(|| unsafe { (task.kind().write_args)(task, &mut encoder) }));
        encoded
            .map_or_else(
                |payload| Err(format!("encoding its arguments panicked: {}", describe_panic(payload))),
                |written| {
                    written.map_err(|(argument, error)| format!("cannot encode argument {}: {error}", argument + 1))
                },
            )
            .map_err(|problem| Error::new(ErrorKind::NotPortable, problem))?;
        let sources = batch.sources_of(index);
        let mut value_codes = Vec::with_capacity(sources.len());
        for source in sources {
            value_codes.push(match source {
                Source::Earlier(_) => 0,
                Source::Value(value) => self.code(value.code, codes, Code::Value)?,
            });
        }
        let name = task.options().and_then(|options| options.name.as_deref());
        let keep =
            if call.num_readers > 0 || batch.schedule.has_sink(call.id) { batch.schedule.key(call.id) } else { 0 };
        let place = writer.call(code, name, keep, sources.len() as u32);
        let mut num_bytes = 0;
        for (source, code) in sources.iter().zip(value_codes) {
            match source {
                Source::Earlier(earlier) => writer.input(&CallInput::Earlier(*earlier)),
                Source::Value(value) if value.kept.is_in(&self.host) => writer.input(&CallInput::Kept(value.key)),
                Source::Value(value) => {
                    let keep = value.is_shared && value.size() >= super::protocol::KEEP_MIN_BYTES;
                    let encoding = self.outgoing.encoding(&value.bytes, &value.regions, &mut self.exchange);
                    let key = if keep { value.key } else { 0 };
                    writer.input(&CallInput::Value { code, keep: key, value: encoding });
                    num_bytes += value.size();
                    if keep {
                        kept.push((index, Arc::clone(value)));
                    }
                }
            }
        }
        let (bytes, regions) = encoder.finish();
        writer.encoding(&self.outgoing.encoding(&bytes, &regions, &mut self.exchange));
        num_bytes += size(&bytes, &regions);
        Ok((place, num_bytes as u64))
    }

    /// What the worker may let go of. It is told with the next message; a worker that has not been idle for long is not woken for it.
    fn update(&mut self, core: &Core) -> ResourceUpdate {
        let ended: Vec<u64> = self.runs.extract_if(|&run| !core.is_active(run)).collect();
        ResourceUpdate { dropped: self.host.take_dropped(), ended, ..ResourceUpdate::default() }
    }

    /// Whether there is something that a worker that has been idle for long may let go of. When there will be, its slot is woken.
    fn has_stale_files(&self, core: &Arc<Core>) -> bool {
        let (weak, worker) = (Arc::downgrade(core), self.host.number());
        self.exchange.on_next_release(move || {
            if let Some(core) = weak.upgrade() {
                core.wake_slots_of(worker);
            }
        });
        self.host.has_dropped() || self.exchange.has_released() || self.exchange.has_forgotten()
    }

    /// Lets an idle worker give back the memory that it keeps for the next tasks, and waits until it has.
    fn trim(&mut self, core: &Arc<Core>) -> Result<(), Lost> {
        let update = self.update(core);
        self.outgoing.send(update, &mut self.exchange, ToWorker::Trim).map_err(|_| Lost)?;
        let host = Arc::downgrade(&self.host);
        let kill = move || {
            if let Some(host) = host.upgrade() {
                host.kill(KillReason::Breach("it did not answer while it was idle".into()));
            }
        };
        let _deadline = TimerThread::shared().start(TRIM_LIMIT, Box::new(kill));
        self.is_trimming = true;
        while self.is_trimming {
            self.listen(core)?;
        }
        Ok(())
    }

    // ---- from the worker ----

    /// Waits for a message and deals with it.
    fn listen(&mut self, core: &Arc<Core>) -> Result<(), Lost> {
        if let Some(first) = self.under_way.front() {
            self.host.waits_for(self.thread, first.number);
        }
        let received = receive(&self.from);
        self.host.waits_for(self.thread, 0);
        let breach = match received {
            Ok(ToParent::Results { batch, is_last, num_results, results, update }) => {
                match self.results(core, batch, is_last, num_results, &results.into_bytes(), update) {
                    Ok(()) => return Ok(()),
                    Err(breach) => breach,
                }
            }
            Ok(ToParent::Resources(update)) => match self.incoming.apply(update, &mut self.exchange) {
                Ok(()) => return Ok(()),
                Err(error) => error.to_string(),
            },
            Ok(ToParent::Trimmed(update)) if self.is_trimming => {
                self.is_trimming = false;
                match self.incoming.apply(update, &mut self.exchange) {
                    Ok(()) => return Ok(()),
                    Err(error) => error.to_string(),
                }
            }
            Ok(ToParent::Trimmed(_)) => "it answered what it was not asked".to_owned(),
            Ok(ToParent::Request { number, batch, index, body }) => {
                match self.ask(number, batch, index, &body.into_bytes().0) {
                    Ok(()) => return Ok(()),
                    Err(Unanswered::Lost) => return Err(Lost),
                    Err(Unanswered::Breach) => "a question that no task of its can have asked".to_owned(),
                }
            }
            Ok(ToParent::Withdraw(number)) => {
                if let Some(caller) = self.host.known_caller() {
                    caller.withdraw(number);
                }
                return Ok(());
            }
            Ok(ToParent::Note(note)) => {
                if let Some(caller) = self.host.known_caller() {
                    caller.note(&note.into_bytes().0);
                }
                return Ok(());
            }
            Ok(ToParent::WakeForAnswer) => return self.look_for_answer(core),
            Ok(ToParent::WakeForEnd) | Err(ChannelError::Closed) => return Err(Lost),
            Ok(ToParent::Ready(_)) => "it said twice that it is ready".to_owned(),
            Err(ChannelError::Malformed(what) | ChannelError::NotSent(what)) => what,
        };
        self.host.kill(KillReason::Breach(breach));
        Err(Lost)
    }

    fn results(
        &mut self,
        core: &Arc<Core>,
        number: u32,
        is_last: bool,
        num_results: u32,
        results: &Bytes,
        update: ResourceUpdate,
    ) -> Result<(), String> {
        self.incoming.apply(update, &mut self.exchange).map_err(|error| error.to_string())?;
        if self.taken_back.front() == Some(&number) && is_last && num_results == 0 {
            self.taken_back.pop_front();
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
        let results: Vec<_> = results.collect::<Result<_, Malformed>>().map_err(|garbage| garbage.to_string())?;
        if !reader.is_at_end() {
            return Err(Malformed.to_string());
        }
        self.incoming.clear();
        // All of it before any is used: what has been settled halfway cannot be given back.
        check_results(&under_way.batch, &results, is_last)?;
        let schedule = Arc::clone(&under_way.batch.schedule);
        let run = Arc::clone(schedule.run());
        let host = &self.host;
        let taken = run.enter(|worker| take_results(core, host, worker, &mut under_way.batch, results, is_last));
        let num_settled = taken.unwrap_or(0);
        if is_last {
            let over = self.under_way.pop_front().expect("it was found there");
            over.kept.iter().for_each(|(_, value)| self.host.keeps(value));
            if self.under_way.is_empty() {
                self.host.is_busy(false);
                core.is_engaged(self.index, false);
            }
            schedule.batch_is_over(&self.host);
        }
        schedule.tell(num_settled);
        Ok(())
    }

    // ---- what tasks ask ----

    fn ask(&mut self, number: u64, batch: u32, index: u32, question: &[u8]) -> Result<(), Unanswered> {
        let index = index as usize;
        let is_sent = |under_way: &&UnderWay| {
            let call = under_way.batch.calls.get(index);
            under_way.number == batch && call.is_some_and(|call| call.state == CallState::Sent)
        };
        let front = self.under_way.front().filter(is_sent).filter(|_| self.asked.is_none());
        let schedule = Arc::clone(&front.ok_or(Unanswered::Breach)?.batch.schedule);
        let caller = schedule.handler().and_then(|handler| self.host.caller(handler));
        let Some(caller) = caller else { return self.answer(number, false, None).map_err(|Lost| Unanswered::Lost) };
        let mailbox = Arc::<Mutex<Mailbox>>::default();
        let answered = {
            let (put_in, wake) = (Arc::clone(&mailbox), self.waker());
            move |answer| {
                let mut mailbox = put_in.lock();
                mailbox.answer = Some(answer);
                let must_knock = mailbox.must_knock;
                drop(mailbox);
                if must_knock {
                    wake();
                }
            }
        };
        caller.ask(number, question, Box::new(answered));
        let at_once = {
            let mut mailbox = mailbox.lock();
            mailbox.must_knock = true;
            mailbox.answer.take()
        };
        if at_once.is_some() {
            return self.answer(number, false, at_once).map_err(|Lost| Unanswered::Lost);
        }
        // Before the alarm is set, so that it is late enough when that goes off.
        let since = Instant::now();
        let alarm = TimerThread::shared().start(GIVE_WAY_AFTER, Box::new(self.waker()));
        self.asked = Some(Asked { number, index, since, mailbox, is_rest_revoked: false, gave_way: None, alarm });
        Ok(())
    }

    /// Has the slot look for what is new, from any thread.
    fn waker(&self) -> impl Fn() + Send + use<> {
        let (host, thread) = (Arc::downgrade(&self.host), self.thread);
        move || {
            if let Some(host) = host.upgrade() {
                host.wake(thread);
            }
        }
    }

    fn answer(&self, number: u64, is_rest_revoked: bool, answer: Option<Vec<u8>>) -> Result<(), Lost> {
        let body = answer.map(|answer| Payload::new(Bytes(answer)));
        self.outgoing.send_plain(ToWorker::Response { number, is_rest_revoked, body }).map_err(|_| Lost)
    }

    /// Somebody has knocked: there is an answer, or the task has waited for long.
    fn look_for_answer(&mut self, core: &Arc<Core>) -> Result<(), Lost> {
        let Some(asked) = &self.asked else { return Ok(()) };
        let answer = asked.mailbox.lock().answer.take();
        if let Some(answer) = answer {
            let (number, is_rest_revoked) = (asked.number, asked.is_rest_revoked);
            self.asked = None;
            return self.answer(number, is_rest_revoked, Some(answer));
        }
        if asked.gave_way.is_none() && asked.since.elapsed() >= GIVE_WAY_AFTER {
            let index = asked.index;
            self.give_way(core, index);
        }
        Ok(())
    }

    /// The task that waits holds up nobody from now on: what was to be run after it is taken back, and others take the place of this thread.
    fn give_way(&mut self, core: &Arc<Core>, index: usize) {
        let mut behind = self.under_way.split_off(1);
        let Some(first) = self.under_way.front_mut() else { return };
        let rest = first.batch.rest_after(index);
        // What the worker was to keep for calls that it passes over, it does not keep.
        first.kept.retain(|(call, _)| !rest.contains(call));
        take_back(&mut first.batch, &rest);
        let own = Arc::clone(&first.batch.schedule);
        for under_way in &mut behind {
            let all: Vec<usize> = (0..under_way.batch.calls.len()).collect();
            take_back(&mut under_way.batch, &all);
            self.taken_back.push_back(under_way.number);
        }
        let wake = self.waker();
        if let (Some(asked), Some(handler)) = (&mut self.asked, own.handler()) {
            let is_first = !std::mem::replace(&mut asked.is_rest_revoked, true);
            if core.give_way(self.index) {
                asked.gave_way = Some(handler.waits());
            } else {
                // Only what other workers may have can be run until one is free.
                if is_first {
                    log::warn!(
                        "a task waits and keeps its worker, as there is no spare process left to take its place"
                    );
                }
                asked.alarm = TimerThread::shared().start(GIVE_WAY_AGAIN_AFTER, Box::new(wake));
            }
        }
        core.announce_of(&own);
        for under_way in behind {
            let schedule = &under_way.batch.schedule;
            schedule.batch_is_over(&self.host);
            core.announce_of(schedule);
        }
    }

    /// Gives back what a worker that has ended had; see the module about who is to blame.
    fn retire_worker(mut self, core: &Arc<Core>) -> Exchange {
        let host = Arc::clone(&self.host);
        host.exit();
        // Before those are tried again that may want what it held.
        host.stop_asking();
        self.asked = None;
        // What it said before it ended.
        let kill_reason = host.kill_reason();
        let suspect = host.busy_with(self.thread);
        if !self.under_way.is_empty() {
            host.is_busy(false);
        }
        for (position, under_way) in std::mem::take(&mut self.under_way).into_iter().enumerate() {
            let UnderWay { number, mut batch, .. } = under_way;
            let schedule = Arc::clone(&batch.schedule);
            let blame = match (&kill_reason, suspect) {
                (Some(KillReason::TimedOut { thread, batch, .. }), _) => {
                    match (*thread, *batch) == (self.thread, number) {
                        // It is alone in its batch.
                        true => Blame::Call(0),
                        false => Blame::Nobody,
                    }
                }
                (_, Some((suspect_batch, index))) if suspect_batch == number => Blame::Call(index as usize),
                (_, None) if position == 0 => match host.has_begun(self.thread, number) {
                    true => Blame::Anybody,
                    false => Blame::Perhaps(0),
                },
                _ => Blame::Nobody,
            };
            let run = Arc::clone(schedule.run());
            run.enter(|worker| {
                worker.worker_lost(worker_id(&host, self.thread), || death(&host, kill_reason.as_ref()).error);
                give_back(worker, &mut batch, blame, &host, kill_reason.as_ref());
            });
            schedule.batch_is_over(&host);
            core.announce_of(&schedule);
        }
        self.exchange
    }
}

/// Why a question was not even passed on.
enum Unanswered {
    Lost,
    Breach,
}

/// Gives back calls that the worker passes over, or that have to be run again for these.
fn take_back(batch: &mut Batch, calls: &[usize]) {
    let schedule = Arc::clone(&batch.schedule);
    let run = Arc::clone(schedule.run());
    let mut back = Vec::with_capacity(calls.len());
    for &call in calls {
        let call = &mut batch.calls[call];
        call.state = CallState::Over;
        back.push(call.id);
    }
    run.enter(|worker| back.iter().for_each(|&id| worker.remote_retried(id, None)));
    schedule.give_back(back);
}

fn worker_id(host: &WorkerProcess, thread: usize) -> WorkerId {
    WorkerId::of_process(host.pid(), thread as u32)
}

/// Fails unless these are results of calls that are under way, in their order and with what was asked for, and all if they are the last.
fn check_results(batch: &Batch, results: &[(CallResult<'_>, Vec<Region>)], is_last: bool) -> Result<(), String> {
    let mut next = 0;
    for (CallResult { index, outcome, .. }, _) in results {
        let call = batch.calls.get(*index as usize).filter(|call| *index >= next && call.state == CallState::Sent);
        let call = call.ok_or_else(|| format!("a result of call {index}, which it was not asked for"))?;
        if call.is_shipped && *outcome == CallOutcome::Value(None) {
            return Err(format!("a result of call {index} without the value"));
        }
        if matches!(outcome, CallOutcome::LacksInput(input, _) if *input as usize >= batch.sources_of(*index as usize).len())
        {
            return Err(format!("a result of call {index} that lacks an input which it does not have"));
        }
        next = *index + 1;
    }
    let num_sent = || batch.calls.iter().filter(|call| call.state == CallState::Sent).count();
    if is_last && num_sent() != results.len() {
        return Err("the end of a batch with results missing".into());
    }
    Ok(())
}

/// Settles the calls whose results have come, which were [checked](check_results), and returns of how many tasks the run has yet to be told.
fn take_results(
    core: &Arc<Core>,
    host: &Arc<WorkerProcess>,
    worker: &RunAccess<'_>,
    batch: &mut Batch,
    results: Vec<(CallResult<'_>, Vec<Region>)>,
    is_last: bool,
) -> usize {
    let schedule = Arc::clone(&batch.schedule);
    let plan = worker.plan();
    let mut settled = Vec::with_capacity(results.len());
    let mut times = Vec::with_capacity(results.len());
    let mut skipped = Vec::new();
    for (result, regions) in results {
        let CallResult { index, ran, kept, outcome } = result;
        let call = &mut batch.calls[index as usize];
        let (id, code) = (call.id, call.code);
        call.state = CallState::Over;
        if !matches!(outcome, CallOutcome::Skipped) {
            times.push((code, ran.ns));
            if worker.is_watched()
                && let Some(started) = clock::instant(ran.started_ns).filter(|_| ran.started_ns > 0)
            {
                worker.ran(id, started, started.checked_add(Duration::from_nanos(ran.ns)).unwrap_or(started));
            }
        }
        let failure = match outcome {
            CallOutcome::Value(None) => {
                call.state = CallState::Unshipped;
                continue;
            }
            CallOutcome::Value(Some(encoding)) => {
                let value_code = schedule.code(code).item.value.expect("a task with a code has a portable value");
                // A small value is kept as it is, for which it takes up less.
                let size = size(encoding.bytes, &regions);
                let goes_on = schedule.has_sink(id) && size >= super::protocol::KEEP_MIN_BYTES;
                let is_put = schedule.is_read_here(id) || schedule.has_sink(id) && !goes_on;
                let decoded = match is_put {
                    true => {
                        let mut decoder = Decoder::new(core.settings().codec, encoding.bytes, &regions);
                        // SAFETY: the task is in this batch alone, and has not been settled; so its cell is empty and ours.
                        catch_unwind(AssertUnwindSafe(|| unsafe {
                            (value_code.item.decode)(&mut decoder, worker.cell(id))
                        }))
                        .unwrap_or_else(|payload| {
                            Err(crate::portable::codec::CodecError::new(format!(
                                "decoding panicked: {}",
                                describe_panic(payload)
                            )))
                        })
                    }
                    false => Ok(()),
                };
                match decoded {
                    Ok(()) => {
                        // SAFETY: the task has run, elsewhere, and its inputs have not been let go of.
                        if let Err(goes_on) = unsafe { worker.release_remote_inputs(id) } {
                            settled.extend(goes_on.then_some((id, None)));
                            continue;
                        }
                        let value = schedule.value(core, id, encoding.bytes, regions, value_code, goes_on);
                        if is_put {
                            // SAFETY: the value was just decoded into the cell, and its dependents have not been told.
                            unsafe { worker.accept_value(id, Some(size as u64)) };
                        } else {
                            worker.remote_finished(id, Some(size as u64));
                        }
                        if let Some(value) = value.as_ref().filter(|_| goes_on) {
                            worker.give_to_sink(id, Arc::clone(value) as Arc<dyn Encoded>);
                        }
                        match &value {
                            Some(value) if kept => host.keeps(value),
                            None if kept => host.drop_kept(schedule.key(id)),
                            _ => {}
                        }
                        settled.push((id, value));
                        continue;
                    }
                    Err(error) => {
                        let type_name = (value_code.item.type_name)();
                        let message = format!("cannot decode its value, a `{type_name}`: {error}");
                        (Error::new(ErrorKind::NotPortable, message), false)
                    }
                }
            }
            CallOutcome::Returned(texts) => (returned(texts), true),
            CallOutcome::Panicked(message) => (Error::new(ErrorKind::Panicked, message), true),
            CallOutcome::NotPortable(message) => (Error::new(ErrorKind::NotPortable, message), false),
            CallOutcome::LacksInput(input, problem) => {
                let name = plan.name(plan.read_inputs(id)[input as usize]);
                let message = format!("cannot use the value of {name:?}: {problem}");
                (Error::new(ErrorKind::NotPortable, message), false)
            }
            CallOutcome::Skipped => {
                worker.remote_retried(id, None);
                skipped.push(id);
                continue;
            }
        };
        schedule.failed(worker, id, failure.0, failure.1);
    }
    schedule.learn(&times);
    let num_settled = schedule.settle_untold(worker, settled);
    if is_last {
        settle_unshipped(worker, batch);
    }
    schedule.give_back(skipped);
    num_settled
}

/// Settles the calls whose values have been asked for by all who will, and gives back the others: the worker has the value no longer, and
/// somebody who was to read it in the batch will be tried again.
fn settle_unshipped(worker: &RunAccess<'_>, batch: &mut Batch) {
    let schedule = Arc::clone(&batch.schedule);
    // Last ones first, for they have read the others.
    for call in batch.calls.iter_mut().rev().filter(|call| call.state == CallState::Unshipped) {
        call.state = CallState::Over;
        if schedule.num_remote_readers(call.id) == 0 {
            // SAFETY: as in `take_results`.
            let released = unsafe { worker.release_remote_inputs(call.id) };
            if released.is_ok() {
                worker.remote_finished(call.id, None);
            }
            let goes_on = released.err().unwrap_or(true);
            schedule.settle(worker, goes_on.then_some((call.id, None)));
        } else {
            worker.remote_retried(call.id, None);
            schedule.give_back([call.id]);
        }
    }
}

/// Which call of a batch the worker died of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    Nobody,
    /// This one, which it was busy with.
    Call(usize),
    /// This one, if it was not killed from outside.
    Perhaps(usize),
    /// One of those whose results have not come, if it was not killed from outside.
    Anybody,
}

/// Gives back the calls of a batch that died with its worker.
fn give_back(
    worker: &RunAccess<'_>,
    batch: &mut Batch,
    blame: Blame,
    host: &Arc<WorkerProcess>,
    kill_reason: Option<&KillReason>,
) {
    let schedule = Arc::clone(&batch.schedule);
    settle_unshipped(worker, batch);
    let mut back = Vec::new();
    let mut accused = Vec::new();
    for (index, call) in batch.calls.iter().enumerate().filter(|(_, call)| call.state == CallState::Sent) {
        match blame {
            Blame::Call(guilty) | Blame::Perhaps(guilty) if guilty == index => accused.push(call.id),
            Blame::Anybody => accused.push(call.id),
            _ => {
                worker.remote_retried(call.id, None);
                back.push(call.id);
            }
        }
    }
    schedule.give_back(back);
    for id in accused {
        match kill_reason {
            Some(&KillReason::TimedOut { limit, .. }) => {
                let message = format!("it did not end within {limit:?}");
                schedule.failed(worker, id, Error::new(ErrorKind::TimedOut, message), true);
            }
            // Nobody is to blame: the run is over, or the worker was to go.
            Some(KillReason::Cancelled) => schedule.give_back([id]),
            Some(KillReason::Replaced) => {
                worker.remote_retried(id, None);
                schedule.give_back([id]);
            }
            _ => schedule.died(worker, id, matches!(blame, Blame::Call(_)), || death(host, kill_reason)),
        }
    }
}

/// The error that a task returned in another process.
fn returned(texts: Vec<String>) -> Error {
    let error = Error::new(ErrorKind::Failed, texts.first().cloned().unwrap_or_default());
    match RemoteError::new(texts) {
        Some(source) => error.with_source(Arc::new(source) as Arc<dyn std::error::Error + Send + Sync>),
        None => error,
    }
}

/// What to say of a worker that died while it ran a task.
fn death(host: &WorkerProcess, kill_reason: Option<&KillReason>) -> Death {
    let exit = host.worker_exit();
    match kill_reason {
        Some(KillReason::MemoryLimit { limit, .. }) => {
            Death { cause: "memory limit".into(), error: Error::memory_limit(*limit, exit) }
        }
        Some(KillReason::Breach(what)) if host.exit().signal() == Some(9) => Death {
            cause: "breach".into(),
            error: Error::new(ErrorKind::WorkerDied, format!("its worker was killed because of {what}"))
                .with_exit(exit),
        },
        Some(KillReason::Replaced) => Death {
            cause: "replaced".into(),
            error: Error::new(ErrorKind::WorkerDied, "its worker was restarted, as somebody wished").with_exit(exit),
        },
        _ => Death { cause: format!("{:?}", host.exit().how), error: Error::worker_died(exit) },
    }
}
