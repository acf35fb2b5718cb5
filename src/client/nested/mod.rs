//! WHAT A TASK IN A WORKER PROCESS HANDS IN: it goes on to the cluster in the parent, whose workers share it.
//!
//! The client of such a task has a core of its own in the process, so that futures are what they are everywhere. A job of one portable task whose
//! inputs are there does not go into the queue of that core but over the [line](crate::executor::processes::line) ([`forward`]); at
//! the other end its [`wards`] are in the queue of the cluster. Its outcome comes back when the task asks for it, because it waits or looks ([`wait`],
//! [`look`]). [`message`] is what they say, [`foreign`] what the parent makes of a call whose types it does not look at.
//!
//! # What is always true
//!
//! 1. Only the thread that runs a task asks for it. What other threads of the process hand in is run in the process, and what they wait for they
//!    [take back](reclaim).
//! 2. A promise that was given on is running, and in `outstanding` of its [`Submitter`] until it is settled; who takes it out of there settles it, or
//!    gives it back to the queue.
//! 3. With the end of the task ends all that it has handed in and not seen the end of, but for what was detached.

mod foreign;
mod message;
mod tasks;

pub(super) use message::Request;
pub(super) use tasks::NestedTasks;

use super::job::Job;
use super::promise::{AnyPromise, Attempt, Outcome, Waiter, settle, settle_attempt};
use super::submit::inputs_of;
use crate::engine::CancelToken;
use crate::error::{Error, ErrorKind};
use crate::executor::processes::requests;
use crate::graph::crossing::ValueCode;
use crate::graph::node::TaskRef;
use crate::graph::value::Cell;
use crate::portable::code::{CodeDescriptor, CodeRef};
use crate::portable::codec::{Codec, Encoder};
use foreign::Received;
use message::{Call, Response, TaskOutcome, take_piece};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How soon a task that waits looks at what goes on in its process, if something does. The time grows up to this, which is well above that
/// after which it gives up its place: who never waits so long keeps it, and may wait for a task that has none.
const LOOK_HERE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(64)];
/// And if nothing does: another thread may cancel or take back what is waited for, of which the parent has nothing to tell then.
const LOOK_ANYWAY: Duration = Duration::from_millis(500);

/// Whether a task of this process has ever handed in something.
static IS_USED: AtomicBool = AtomicBool::new(false);
static ASKERS: Mutex<Vec<Weak<Submitter>>> = Mutex::new(Vec::new());

/// A task that hands in others.
struct Submitter {
    task: u64,
    outstanding: Mutex<HashMap<u64, Outstanding>>,
}

struct Outstanding {
    promise: Arc<dyn AnyPromise>,
    attempt: Attempt,
    code: &'static CodeDescriptor<ValueCode>,
    codec: Codec,
}

thread_local! {
    /// The task of this thread, once it has asked whether it may hand in tasks; `Some(None)` if it may not.
    static ASKER: RefCell<Option<Option<Arc<Submitter>>>> = const { RefCell::new(None) };
}

/// The task of this thread, if it has handed in something.
fn known_asker() -> Option<Arc<Submitter>> {
    if !IS_USED.load(Ordering::Relaxed) {
        return None;
    }
    ASKER.try_with(|asker| asker.borrow().clone()).ok().flatten().flatten()
}

/// The same, and asks the parent if it has not.
fn asker() -> Option<Arc<Submitter>> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    if let Some(known) = ASKER.try_with(|asker| asker.borrow().clone()).ok()? {
        return known;
    }
    if !requests::runs_task() {
        return None;
    }
    let task = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let may = requests::ask(written(Request::Open { task }, &[]), None).is_ok_and(|answer| answer == [1]);
    let asker = may.then(|| Arc::new(Submitter { task, outstanding: Mutex::default() }));
    if let Some(asker) = &asker {
        IS_USED.store(true, Ordering::Relaxed);
        let mut askers = ASKERS.lock();
        askers.retain(|asker| asker.strong_count() > 0);
        askers.push(Arc::downgrade(asker));
    }
    ASKER.with(|own| *own.borrow_mut() = Some(asker.clone()));
    requests::when_task_ends(Box::new(|| {
        let asker = ASKER.with(RefCell::take);
        asker.flatten().into_iter().for_each(|asker| asker.end());
    }));
    asker
}

/// As the handler of the parent reads it.
fn written(said: Request, pieces: &[u8]) -> Vec<u8> {
    super::shared::encode_nested(said, pieces)
}

/// Gives jobs on to the parent, and returns those that are to be run here.
pub(super) fn forward(jobs: Vec<Job>) -> Vec<Job> {
    let is_left = |job: &Job| !matches!(job, Job::One(promise) if forward_one(promise));
    jobs.into_iter().filter(is_left).collect()
}

fn forward_one(promise: &Arc<dyn AnyPromise>) -> bool {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let record = promise.record();
    // Who watches does so in this process.
    let Some(task) = record.task().filter(|_| record.watchers().is_none()) else { return false };
    let task = task.as_ref();
    let Some(code) = task.kind().code.and_then(|code| code.item.value) else { return false };
    let Some(asker) = asker() else { return false };
    let codec = requests::codec();
    // It is code of the program that writes arguments. What cannot be written need not cross.
    let encoded = catch_unwind(AssertUnwindSafe(|| encode(task, codec)));
    let Ok(Some((call, pieces))) = encoded else { return false };
    let Some(attempt) = record.start(u32::MAX) else { return false };
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let said = Request::Submit { task: asker.task, number, call: Box::new(call) };
    // Before another thread can take it back.
    requests::note(written(said, &pieces));
    let outstanding = Outstanding { promise: Arc::clone(promise), attempt, code, codec };
    asker.outstanding.lock().insert(number, outstanding);
    let settled = {
        let asker = Arc::clone(&asker);
        move || asker.forget(number)
    };
    if let Err(Waiter::Callback(settled)) = record.wait_with(Waiter::Callback(Box::new(settled))) {
        settled();
    }
    true
}

/// A call, and its arguments and inputs one after the other. `None` if it cannot cross.
#[expect(unsafe_code, reason = "arguments and values are written through the untyped kinds of tasks")]
fn encode(task: TaskRef, codec: Codec) -> Option<(Call, Vec<u8>)> {
    let code = task.kind().code?;
    let no_options = Default::default();
    let options = task.options().unwrap_or(&no_options);
    let mut encoder = Encoder::new(codec, None);
    // SAFETY: the kind is the task's own.
    unsafe { (task.kind().write_args)(task, &mut encoder) }.ok()?;
    let mut pieces = encoder.finish().0;
    let args_len = pieces.len();
    let inputs = inputs_of(task);
    let num_read = inputs.len() - options.after.len();
    let inputs = inputs[..num_read].iter().map(|input| {
        let code = input.kind().value_code?;
        let bytes = match input.awaited().and_then(|awaited| awaited.encoded()) {
            Some(encoded) => encoded.to_bytes().ok()?,
            None => {
                let cell = [Cell::new(1)];
                // SAFETY: the job is ready, so its inputs are values, which show themselves in the one cell and need no inputs; they outlive it.
                if unsafe { (input.kind().call)(*input, &cell, std::ptr::null(), 0, true) }.is_some() {
                    return None;
                }
                let mut encoder = Encoder::new(codec, None);
                // SAFETY: the cell has just been filled with a value of the code's type.
                unsafe { (code.item.encode)(&cell[0], &mut encoder) }.ok()?;
                encoder.finish().0
            }
        };
        pieces.extend_from_slice(&bytes);
        Some((CodeRef::to(code).ok()?, bytes.len()))
    });
    let inputs = inputs.collect::<Option<Vec<_>>>()?;
    let call = Call {
        code: CodeRef::to(code).ok()?,
        args_len,
        inputs,
        name: options.name.as_deref().map(Into::into),
        retries: options.retries,
        timeout: options.timeout,
        priority: options.priority,
        resources: options.resources.iter().map(|(name, n)| (name.to_string(), *n)).collect(),
        workers: options.workers.iter().map(ToString::to_string).collect(),
    };
    Some((call, pieces))
}

/// Waits, in a task that has handed in tasks, as long as there are any of which the parent has not told; until it `is_over`, the time is up, or the
/// task is cancelled. Elsewhere it does nothing.
pub(super) fn wait(is_over: impl Fn() -> bool, deadline: Option<Instant>) {
    let Some(asker) = known_asker() else { return };
    let token = CancelToken::in_force();
    let [mut look_after, longest] = LOOK_HERE;
    while !is_over() {
        let now = Instant::now();
        let has_ended =
            deadline.is_some_and(|deadline| now >= deadline) || token.as_ref().is_some_and(CancelToken::is_cancelled);
        let Some(has_more) = asker.has_more_here().filter(|_| !has_ended) else { return };
        let look = now + if has_more { look_after } else { LOOK_ANYWAY };
        asker.ask(true, Some(deadline.map_or(look, |deadline| deadline.min(look))));
        look_after = longest.min(2 * look_after);
    }
}

/// Before somebody looks at a future without waiting: sees what the parent has to tell, in a task that has handed in tasks.
pub(super) fn look(promise: impl FnOnce() -> Arc<dyn AnyPromise>) {
    if !IS_USED.load(Ordering::Relaxed) {
        return;
    }
    match known_asker() {
        Some(asker) if asker.has_more_here().is_some() => asker.ask(false, None),
        Some(_) => {}
        None => reclaim(&[promise()]),
    }
}

/// Whether this thread, which cannot ask, may have to take something back before it waits.
pub(super) fn must_reclaim() -> bool {
    let is_asking = |asker: &Weak<Submitter>| asker.upgrade().is_some_and(|asker| !asker.outstanding.lock().is_empty());
    IS_USED.load(Ordering::Relaxed) && known_asker().is_none() && ASKERS.lock().iter().any(is_asking)
}

/// A thread is about to wait: what another has given on, and this one cannot ask for, comes back to this process.
pub(super) fn reclaim(promises: &[Arc<dyn AnyPromise>]) {
    if !IS_USED.load(Ordering::Relaxed) {
        return;
    }
    let own = known_asker();
    let is_open = |promise: &&Arc<dyn AnyPromise>| !promise.record().is_settled();
    if promises.iter().find(is_open).is_none() {
        return;
    }
    let askers: Vec<_> = ASKERS.lock().iter().filter_map(Weak::upgrade).collect();
    let is_own = |asker: &Arc<Submitter>| own.as_ref().is_some_and(|own| Arc::ptr_eq(own, asker));
    for asker in askers.into_iter().filter(|asker| !is_own(asker)) {
        let is_needed = |number: u64, outstanding: &Outstanding| {
            let is_it = |promise: &Arc<dyn AnyPromise>| Arc::ptr_eq(promise, &outstanding.promise);
            // One that is not ready may need any of them; that of a task that asks, its own.
            let may_need = |promise: &Arc<dyn AnyPromise>| own.is_none() && promise.record().is_unready();
            let is_needed = |promise: &Arc<dyn AnyPromise>| is_it(promise) || may_need(promise);
            promises.iter().any(is_needed).then_some(number)
        };
        let numbers: Vec<_> =
            asker.outstanding.lock().iter().filter_map(|(number, of)| is_needed(*number, of)).collect();
        for number in numbers {
            let Some(Outstanding { promise, attempt, .. }) = asker.outstanding.lock().remove(&number) else { continue };
            requests::note(written(Request::Cancel { task: asker.task, number }, &[]));
            if promise.record().give_back(attempt) {
                promise.record().owner().requeue(Job::One(Arc::clone(&promise)));
            }
        }
    }
}

impl Submitter {
    /// Whether something else is under way in this process; `None` if nothing is in the parent.
    fn has_more_here(&self) -> Option<bool> {
        let owner = Arc::clone(self.outstanding.lock().values().next()?.promise.record().owner());
        // Those of other threads too.
        let askers: Vec<_> = ASKERS.lock().iter().filter_map(Weak::upgrade).collect();
        let num_outstanding = askers.iter().map(|asker| asker.outstanding.lock().len()).sum::<usize>();
        Some(owner.num_unsettled() > num_outstanding)
    }

    fn ask(&self, may_wait: bool, deadline: Option<Instant>) {
        let question = written(Request::Await { task: self.task, may_wait }, &[]);
        let answer = requests::ask(question, deadline).unwrap_or_default();
        let told = postcard::take_from_bytes::<Response>(&answer).map_err(|error| error.to_string());
        let Ok((told, mut values)) = told else {
            return self.drop_all("an answer that makes no sense");
        };
        let mut arrived = Vec::new();
        let lost = {
            let mut outstanding = self.outstanding.lock();
            for (number, ending) in told.outcomes {
                let bytes = match &ending {
                    TaskOutcome::Finished(len) => take_piece(&mut values, *len),
                    _ => None,
                };
                arrived.extend(outstanding.remove(&number).map(|of| (of, ending, bytes)));
            }
            if told.is_all { std::mem::take(&mut *outstanding) } else { HashMap::new() }
        };
        // Without the lock: what becomes ready is given on at once.
        arrived.into_iter().for_each(|(outstanding, ending, bytes)| outstanding.settle(ending, bytes));
        lose(lost, "the parent does not know of it");
    }

    fn drop_all(&self, why: &str) {
        let all = std::mem::take(&mut *self.outstanding.lock());
        lose(all, why);
    }

    /// A promise is settled. If it was not told so by the parent, that need not go on.
    fn forget(&self, number: u64) {
        if self.outstanding.lock().remove(&number).is_some() {
            requests::note(written(Request::Cancel { task: self.task, number }, &[]));
        }
    }

    /// The task has come to its end.
    fn end(&self) {
        let left = std::mem::take(&mut *self.outstanding.lock());
        let is_detached = |(number, of): (&u64, &Outstanding)| of.promise.record().is_detached().then_some(*number);
        let detached = left.iter().filter_map(is_detached).collect();
        requests::note(written(Request::End { task: self.task, detached }, &[]));
        for outstanding in left.into_values() {
            let message = "the task that handed it in has ended";
            let error = Error::new(ErrorKind::Cancelled, message).with_task(outstanding.promise.record().name(), 0);
            settle(&outstanding.promise, Outcome::Cancelled(error));
        }
    }
}

fn lose(left: HashMap<u64, Outstanding>, why: &str) {
    for outstanding in left.into_values() {
        let error = Error::new(ErrorKind::Closed, why).with_task(outstanding.promise.record().name(), 0);
        settle(&outstanding.promise, Outcome::Lost(error));
    }
}

impl Outstanding {
    fn settle(self, ending: TaskOutcome, bytes: Option<&[u8]>) {
        let Outstanding { promise, attempt, code, codec } = self;
        let outcome = match (ending, bytes) {
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
            (TaskOutcome::Failed(error), _) => Outcome::Failed(error.read()),
            (TaskOutcome::Cancelled(error), _) => Outcome::Cancelled(error.read()),
            (TaskOutcome::Lost(error), _) => Outcome::Lost(error.read()),
        };
        settle_attempt(&promise, attempt, outcome);
    }
}
