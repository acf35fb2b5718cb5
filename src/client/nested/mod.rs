//! Tasks that a task in a worker process submits: the process forwards them to the cluster in its
//! parent.
//!
//! The client of such a task has a cluster of its own in the process, so futures work there as
//! everywhere. A job of one portable task whose inputs are settled does not go to the queue of that
//! cluster. The process sends it to the parent as a [request](crate::executor::processes::requests)
//! ([`forward`]), where [`NestedTasks`] queues it for all workers. The outcome comes back when the
//! submitting task asks for it, because it waits or polls ([`wait`], [`poll`]). [`message`] has the
//! requests, [`foreign`] the task that the parent makes of a call whose types it does not know.
//!
//! # What is always true
//!
//! 1. Only the thread that runs a task sends requests for it. Tasks of other threads of the process
//!    run in the process, and a thread that waits for a forwarded task without being able to ask
//!    [takes it back](reclaim).
//! 2. The promise of a forwarded task is running, and in `outstanding` of its [`Submitter`] until
//!    it is settled. The thread that takes it out settles it or queues it again.
//! 3. When a task ends, the parent cancels its unsettled nested tasks, except the detached ones.

mod foreign;
mod message;
mod tasks;

pub(super) use message::Request;
pub(super) use tasks::NestedTasks;

use super::job::Job;
use super::promise::{AnyPromise, Attempt, Outcome, Waiter, settle, settle_attempt};
use super::shared::encode_nested;
use super::submit::inputs_of;
use crate::api::config::Snapshot;
use crate::engine::CancelToken;
use crate::error::{EncodedError, Error, ErrorKind};
use crate::executor::processes::requests;
use crate::graph::crossing::ValueCode;
use crate::graph::node::TaskRef;
use crate::graph::value::Cell;
use crate::portable::code::{CodeDescriptor, CodeRef};
use crate::portable::codec::{Codec, Encoder};
use foreign::Received;
use message::{Call, NestedInput, Response, TaskOutcome, take_piece};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often a waiting task checks the other tasks of its process, if there are any. The interval
/// grows from the first value to the second, which is longer than the time after which a waiting
/// task gives up its place. A task whose waits are all shorter keeps its place, and might wait for
/// a task that has none.
const CHECK_BUSY: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(64)];
/// The interval if the process runs nothing else: another thread may still cancel a task or take it
/// back, which the parent does not report.
const CHECK_IDLE: Duration = Duration::from_millis(500);

/// Whether a task of this process has ever forwarded a task.
static IS_USED: AtomicBool = AtomicBool::new(false);
static SUBMITTERS: Mutex<Vec<Weak<Submitter>>> = Mutex::new(Vec::new());

/// A task that submits others.
struct Submitter {
    task: u64,
    outstanding: Mutex<HashMap<u64, Outstanding>>,
    /// The configuration that was sent last, which is that of the next nested task too.
    sent: Mutex<Option<Snapshot>>,
}

/// A forwarded task.
struct Outstanding {
    promise: Arc<dyn AnyPromise>,
    attempt: Attempt,
    code: &'static CodeDescriptor<ValueCode>,
    codec: Codec,
}

thread_local! {
    /// The task of this thread, once it has asked whether it may forward tasks; `Some(None)` if it
    /// may not.
    static SUBMITTER: RefCell<Option<Option<Arc<Submitter>>>> = const { RefCell::new(None) };
}

/// The task of this thread, if it has forwarded tasks.
fn known_submitter() -> Option<Arc<Submitter>> {
    if !IS_USED.load(Ordering::Relaxed) {
        return None;
    }
    SUBMITTER.try_with(|submitter| submitter.borrow().clone()).ok().flatten().flatten()
}

/// The task of this thread, if it may forward tasks. Asks the parent the first time.
fn submitter() -> Option<Arc<Submitter>> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    if let Some(known) = SUBMITTER.try_with(|submitter| submitter.borrow().clone()).ok()? {
        return known;
    }
    if !requests::runs_task() {
        return None;
    }
    let task = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let may_forward = requests::ask(encode_nested(Request::Open { task }, &[]), None).is_ok_and(|answer| answer == [1]);
    let submitter =
        may_forward.then(|| Arc::new(Submitter { task, outstanding: Mutex::default(), sent: Mutex::default() }));
    if let Some(submitter) = &submitter {
        IS_USED.store(true, Ordering::Relaxed);
        let mut submitters = SUBMITTERS.lock();
        submitters.retain(|submitter| submitter.strong_count() > 0);
        submitters.push(Arc::downgrade(submitter));
    }
    SUBMITTER.set(Some(submitter.clone()));
    requests::when_task_ends(Box::new(|| SUBMITTER.take().flatten().into_iter().for_each(|submitter| submitter.end())));
    submitter
}

/// Forwards jobs to the parent. Returns the jobs that must run in this process.
pub(super) fn forward(jobs: Vec<Job>) -> Vec<Job> {
    let is_left = |job: &Job| !matches!(job, Job::One(promise) if forward_one(promise));
    jobs.into_iter().filter(is_left).collect()
}

fn forward_one(promise: &Arc<dyn AnyPromise>) -> bool {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let record = promise.record();
    // Callbacks of the submitting thread watch runs of this process only.
    let Some(task) = record.task().filter(|_| record.watchers().is_none()) else { return false };
    let task = task.as_ref();
    let Some(code) = task.kind().code.and_then(|code| code.item.value) else { return false };
    let Some(submitter) = submitter() else { return false };
    let codec = requests::codec();
    // Code of the program encodes the arguments. A task that cannot be encoded runs here.
    let encoded = catch_unwind(AssertUnwindSafe(|| encode_call(task, codec)));
    let Ok(Some((call, pieces))) = encoded else { return false };
    let Some(attempt) = record.start(u32::MAX) else { return false };
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    // Sent before another thread can take the task back.
    let configuration = submitter.configuration_to_send(record.snapshot().unwrap_or(record.owner().snapshot()));
    let request = Request::Submit { task: submitter.task, number, call: Box::new(call), configuration };
    requests::note(encode_nested(request, &pieces));
    let outstanding = Outstanding { promise: Arc::clone(promise), attempt, code, codec };
    submitter.outstanding.lock().insert(number, outstanding);
    let on_settled = move || submitter.forget(number);
    if let Err(Waiter::Callback(on_settled)) = record.wait_with(Waiter::Callback(Box::new(on_settled))) {
        on_settled();
    }
    true
}

/// Encodes a call, and one after the other its arguments and inputs. `None` if the call cannot
/// cross.
#[expect(unsafe_code, reason = "arguments and values are written through the untyped kinds of tasks")]
fn encode_call(task: TaskRef, codec: Codec) -> Option<(Call, Vec<u8>)> {
    let code = task.kind().code?;
    let no_options = Default::default();
    let options = task.options().unwrap_or(&no_options);
    // A condition may capture anything.
    if options.retry_if.is_some() {
        return None;
    }
    let mut encoder = Encoder::new(codec, None);
    // SAFETY: the function belongs to the task's own kind.
    unsafe { (task.kind().write_args)(task, &mut encoder) }.ok()?;
    let mut pieces = encoder.finish().0;
    let args_len = pieces.len();
    let inputs = inputs_of(task);
    let num_arguments = inputs.len() - options.after.len();
    let tolerated = task.tolerated_inputs().unwrap_or_default();
    let inputs = inputs[..num_arguments].iter().enumerate().map(|(index, input)| {
        let code = input.kind().value_code?;
        let reference = CodeRef::to(code).ok()?;
        let bytes = match input.awaited().and_then(|awaited| awaited.encoded()) {
            Some(encoded) => encoded.to_bytes().ok()?,
            None => {
                let cell = [Cell::new(1)];
                // SAFETY: the job is ready, so the input is a value or a settled future. Such a
                // task has no inputs, so the null pointer is not read, and it puts its value into
                // cell 0, which exists. The task holds the input for longer than the cell lives.
                let failed = unsafe { (input.kind().call)(*input, &cell, std::ptr::null(), 0, true) };
                if let Some(error) = failed {
                    let error = error.downcast::<Error>().ok().filter(|_| tolerated.get(index) == Some(&true))?;
                    return Some((reference, NestedInput::Failed(Box::new(EncodedError::new(&error.with_own_path())))));
                }
                let mut encoder = Encoder::new(codec, None);
                // SAFETY: the call has filled the cell with a value of the input's type, which the
                // code belongs to.
                unsafe { (code.item.encode)(&cell[0], &mut encoder) }.ok()?;
                encoder.finish().0
            }
        };
        pieces.extend_from_slice(&bytes);
        Some((reference, NestedInput::Value(bytes.len())))
    });
    let inputs = inputs.collect::<Option<Vec<_>>>()?;
    let call = Call {
        code: CodeRef::to(code).ok()?,
        args_len,
        inputs,
        name: options.name.as_deref().map(Into::into),
        retries: options.retries,
        backoff: options.backoff,
        timeout: options.timeout,
        priority: options.priority,
        resources: options.resources.iter().map(|(name, n)| (name.to_string(), *n)).collect(),
        workers: options.workers.iter().map(ToString::to_string).collect(),
    };
    Some((call, pieces))
}

/// Blocks, in a task that has forwarded tasks, until all their outcomes have come, `is_over` holds,
/// the deadline passes or the task is cancelled. On other threads it does nothing.
pub(super) fn wait(is_over: impl Fn() -> bool, deadline: Option<Instant>) {
    let Some(submitter) = known_submitter() else { return };
    let token = CancelToken::in_force();
    let [mut interval, longest] = CHECK_BUSY;
    while !is_over() {
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) || token.as_ref().is_some_and(CancelToken::is_cancelled) {
            return;
        }
        let Some(is_busy) = submitter.is_process_busy() else { return };
        let check = now + if is_busy { interval } else { CHECK_IDLE };
        submitter.ask(true, Some(deadline.map_or(check, |deadline| deadline.min(check))));
        interval = longest.min(2 * interval);
    }
}

/// Fetches the outcomes that the parent has, before a task that has forwarded tasks reads the
/// status of a promise.
pub(super) fn poll(promise: impl FnOnce() -> Arc<dyn AnyPromise>) {
    if !IS_USED.load(Ordering::Relaxed) {
        return;
    }
    match known_submitter() {
        Some(submitter) if submitter.is_process_busy().is_some() => submitter.ask(false, None),
        Some(_) => {}
        None => reclaim(&[promise()]),
    }
}

/// The tasks of this process that have forwarded tasks.
fn submitters() -> Vec<Arc<Submitter>> {
    SUBMITTERS.lock().iter().filter_map(Weak::upgrade).collect()
}

/// Whether this thread, which cannot ask the parent, may have to take tasks back before it waits.
pub(super) fn must_reclaim() -> bool {
    let has_outstanding = |submitter: &Arc<Submitter>| !submitter.outstanding.lock().is_empty();
    IS_USED.load(Ordering::Relaxed) && known_submitter().is_none() && submitters().iter().any(has_outstanding)
}

/// Takes forwarded tasks back that this thread is about to wait for and cannot ask for, because
/// another thread has forwarded them.
pub(super) fn reclaim(promises: &[Arc<dyn AnyPromise>]) {
    if !IS_USED.load(Ordering::Relaxed) || promises.iter().all(|promise| promise.record().is_settled()) {
        return;
    }
    let own = known_submitter();
    // A promise that is not ready may need any forwarded task, but that of a submitter needs only
    // its own.
    let has_unready = own.is_none() && promises.iter().any(|promise| promise.record().is_unready());
    let is_own = |submitter: &Arc<Submitter>| own.as_ref().is_some_and(|own| Arc::ptr_eq(own, submitter));
    for submitter in submitters().into_iter().filter(|submitter| !is_own(submitter)) {
        let is_needed = |_: &u64, outstanding: &mut Outstanding| {
            has_unready || promises.iter().any(|promise| Arc::ptr_eq(promise, &outstanding.promise))
        };
        let needed: Vec<_> = submitter.outstanding.lock().extract_if(is_needed).collect();
        for (number, Outstanding { promise, attempt, .. }) in needed {
            requests::note(encode_nested(Request::Cancel { task: submitter.task, number }, &[]));
            if promise.record().give_back(attempt) {
                promise.record().owner().requeue(Job::One(Arc::clone(&promise)));
            }
        }
    }
}

impl Submitter {
    /// The encoded configuration of the next nested task; `None` if it is that of the one before.
    fn configuration_to_send(&self, snapshot: &Snapshot) -> Option<Vec<u8>> {
        let mut sent = self.sent.lock();
        let is_known = sent.as_ref().is_some_and(|sent| sent.is(snapshot));
        let before = if is_known { None } else { sent.replace(snapshot.clone()) };
        drop(sent);
        drop(before);
        (!is_known).then(|| snapshot.encode())
    }

    /// Whether other tasks of this process are unsettled; `None` if this task has no forwarded
    /// ones.
    fn is_process_busy(&self) -> Option<bool> {
        let owner = Arc::clone(self.outstanding.lock().values().next()?.promise.record().owner());
        let num_outstanding: usize = submitters().iter().map(|submitter| submitter.outstanding.lock().len()).sum();
        Some(owner.num_unsettled() > num_outstanding)
    }

    /// Asks the parent for outcomes, and settles the promises. If `may_wait`, blocks until there is
    /// one or the deadline passes.
    fn ask(&self, may_wait: bool, deadline: Option<Instant>) {
        let question = encode_nested(Request::Await { task: self.task, may_wait }, &[]);
        let answer = requests::ask(question, deadline).unwrap_or_default();
        let Ok((response, mut values)) = postcard::take_from_bytes::<Response>(&answer) else {
            let all = std::mem::take(&mut *self.outstanding.lock());
            return lose(all, "the answer of the parent is malformed");
        };
        let mut arrived = Vec::new();
        let lost = {
            let mut outstanding = self.outstanding.lock();
            for (number, outcome) in response.outcomes {
                let bytes = match &outcome {
                    TaskOutcome::Finished(len) => take_piece(&mut values, *len),
                    _ => None,
                };
                arrived.extend(outstanding.remove(&number).map(|task| (task, outcome, bytes)));
            }
            if response.is_all { std::mem::take(&mut *outstanding) } else { HashMap::new() }
        };
        // Without the lock: tasks that become ready are forwarded at once.
        arrived.into_iter().for_each(|(task, outcome, bytes)| task.settle(outcome, bytes));
        lose(lost, "the parent does not know of it");
    }

    /// Takes a settled promise out. If the outcome did not come from the parent, the parent need
    /// not run the task.
    fn forget(&self, number: u64) {
        if self.outstanding.lock().remove(&number).is_some() {
            requests::note(encode_nested(Request::Cancel { task: self.task, number }, &[]));
        }
    }

    /// The task has ended.
    fn end(&self) {
        let left = std::mem::take(&mut *self.outstanding.lock());
        let is_detached = |(number, task): (&u64, &Outstanding)| task.promise.record().is_detached().then_some(*number);
        let detached = left.iter().filter_map(is_detached).collect();
        requests::note(encode_nested(Request::End { task: self.task, detached }, &[]));
        for Outstanding { promise, .. } in left.into_values() {
            let error = Error::new(ErrorKind::Cancelled, "the task that submitted it has ended");
            let error = error.with_task(promise.record().name(), 0);
            settle(&promise, Outcome::Cancelled(error));
        }
    }
}

fn lose(tasks: HashMap<u64, Outstanding>, reason: &str) {
    for Outstanding { promise, .. } in tasks.into_values() {
        let error = Error::new(ErrorKind::Closed, reason).with_task(promise.record().name(), 0);
        settle(&promise, Outcome::Lost(error));
    }
}

impl Outstanding {
    fn settle(self, outcome: TaskOutcome, bytes: Option<&[u8]>) {
        let Outstanding { promise, attempt, code, codec } = self;
        let outcome = match (outcome, bytes) {
            (TaskOutcome::Finished(_), Some(bytes)) => {
                if promise.record().is_under_way(attempt) {
                    promise.keep(Arc::new(Received { code, codec, bytes: bytes.into() }));
                }
                Outcome::Finished
            }
            (TaskOutcome::Finished(_), None) => {
                let error = Error::new(ErrorKind::NotPortable, "its value was cut short on the way");
                Outcome::Failed(error.with_task(promise.record().name(), 1))
            }
            (TaskOutcome::Failed(error), _) => Outcome::Failed(error.decode()),
            (TaskOutcome::Cancelled(error), _) => Outcome::Cancelled(error.decode()),
            (TaskOutcome::Lost(error), _) => Outcome::Lost(error.decode()),
        };
        settle_attempt(&promise, attempt, outcome);
    }
}
