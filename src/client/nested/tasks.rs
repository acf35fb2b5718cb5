//! In the parent: the nested tasks that the tasks of one worker process have submitted.
//!
//! # What is always true
//!
//! 1. A nested task is listed until its outcome has been sent, the task that submitted it has
//!    ended, or the process has ended. When one of the last two happens, the parent cancels the
//!    listed tasks, except the detached ones.
//! 2. `arrived` has the settled tasks of the list, once each. A submitter that waits is answered as
//!    soon as there is one.
//! 3. Under the lock no promise is settled and no request answered.

use super::super::cluster::Cluster;
use super::super::job::{Job, Owner};
use super::super::promise::{AnyPromise, Outcome, Status, Waiter, Watcher, settle};
use super::foreign::{FailedInput, ForeignCall, ForeignPromise, Received};
use super::message::{Call, NestedInput, Request, Response, TaskOutcome, take_piece};
use crate::api::config::Snapshot;
use crate::engine::describe_panic;
use crate::error::{EncodedError, Error, ErrorKind, Result};
use crate::executor::processes::requests::Reply;
use crate::graph::crossing::{TaskCode, ValueCode};
use crate::graph::node::Options;
use crate::portable::code::CodeError;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// The largest number of tasks of a cluster that submit tasks at the same time. Each that waits
/// needs a process of its own, so the nested tasks of further ones run in their processes.
const MAX_SUBMITTERS: usize = 48;

/// See the [module](self).
pub(in crate::client) struct NestedTasks {
    this: Weak<NestedTasks>,
    num_submitters: Arc<AtomicUsize>,
    state: Mutex<NestedState>,
}

#[derive(Default)]
struct NestedState {
    by_submitter: HashMap<u64, Submitted>,
    is_gone: bool,
}

/// The tasks that one task has submitted.
#[derive(Default)]
struct Submitted {
    promises: HashMap<u64, Arc<ForeignPromise>>,
    /// The configuration of the next ones, or why it cannot be decoded; `None` before the first.
    snapshot: Option<Result<Snapshot, String>>,
    /// Tasks that could not be queued.
    refused: Vec<(u64, Error)>,
    arrived: Vec<u64>,
    /// The number of the request that waits for an outcome, and its reply.
    waiting: Option<(u64, Reply)>,
}

/// Reports the outcomes of one submitter's tasks.
struct OutcomeWatcher {
    tasks: Weak<NestedTasks>,
    submitter: u64,
}

impl Watcher for OutcomeWatcher {
    fn on_settled(&self, index: usize, _: Status) {
        let Some(tasks) = self.tasks.upgrade() else { return };
        let mut state = tasks.state.lock();
        let Some(submitted) = state.by_submitter.get_mut(&self.submitter) else { return };
        let number = index as u64;
        // A cancelled task is not listed any more.
        if submitted.promises.contains_key(&number) {
            submitted.arrived.push(number);
        }
        if !submitted.arrived.is_empty() {
            tasks.answer(state, self.submitter);
        }
    }
}

impl NestedTasks {
    pub(in crate::client) fn new(num_submitters: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new_cyclic(|this| NestedTasks {
            this: Weak::clone(this),
            num_submitters: Arc::clone(num_submitters),
            state: Mutex::default(),
        })
    }

    /// Answers a request, now or later.
    pub(in crate::client) fn asked(&self, number: u64, request: Request, reply: Reply) {
        match request {
            Request::Open { task } => reply(vec![u8::from(self.open(task))]),
            Request::Await { task, may_wait } => self.wait_for_outcomes(task, number, may_wait, reply),
            Request::Submit { .. } | Request::Cancel { .. } | Request::End { .. } => reply(Vec::new()),
        }
    }

    /// Carries out a request that has no answer.
    pub(in crate::client) fn noted(&self, cluster: &Arc<Cluster>, request: Request, rest: &[u8]) {
        match request {
            Request::Submit { task, number, call, configuration } => {
                if let Some(encoded) = configuration {
                    self.configure(cluster, task, &encoded);
                }
                self.submit(cluster, task, number, *call, rest);
            }
            Request::Cancel { task, number } => {
                let mut state = self.state.lock();
                let promise =
                    state.by_submitter.get_mut(&task).and_then(|submitted| submitted.promises.remove(&number));
                drop(state);
                promise.into_iter().for_each(cancel);
            }
            Request::End { task, detached } => {
                let submitted = self.state.lock().by_submitter.remove(&task);
                submitted.into_iter().for_each(|submitted| self.end(submitted, &detached));
            }
            Request::Open { .. } | Request::Await { .. } => {}
        }
    }

    /// Answers a waiting request now. False if no request with this number waits here.
    pub(in crate::client) fn withdraw(&self, number: u64) -> bool {
        let is_it = |submitted: &&mut Submitted| submitted.waiting.as_ref().is_some_and(|(other, _)| *other == number);
        let mut state = self.state.lock();
        let waiting = state.by_submitter.values_mut().find(is_it).and_then(|submitted| submitted.waiting.take());
        drop(state);
        waiting.map(|(_, reply)| reply(encode(&Response::default(), &[]))).is_some()
    }

    /// The process has ended.
    pub(in crate::client) fn gone(&self) {
        let all = {
            let mut state = self.state.lock();
            state.is_gone = true;
            std::mem::take(&mut state.by_submitter)
        };
        all.into_values().for_each(|submitted| self.end(submitted, &[]));
    }

    fn open(&self, task: u64) -> bool {
        let mut state = self.state.lock();
        if state.is_gone {
            return false;
        }
        if self.num_submitters.fetch_add(1, Ordering::Relaxed) >= MAX_SUBMITTERS {
            self.num_submitters.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        state.by_submitter.insert(task, Submitted::default());
        true
    }

    fn end(&self, submitted: Submitted, detached: &[u64]) {
        self.num_submitters.fetch_sub(1, Ordering::Relaxed);
        let left = submitted.promises.into_iter().filter(|(number, _)| !detached.contains(number));
        left.for_each(|(_, promise)| cancel(promise));
    }

    /// Notes the configuration of the next nested tasks.
    fn configure(&self, cluster: &Cluster, task: u64, encoded: &[u8]) {
        let snapshot = Snapshot::decode(encoded).map(|snapshot| snapshot.with_scheduler(cluster.scheduler()));
        let mut state = self.state.lock();
        let before = state.by_submitter.get_mut(&task).map(|it| it.snapshot.replace(snapshot));
        drop(state);
        drop(before);
    }

    fn submit(&self, cluster: &Arc<Cluster>, task: u64, number: u64, call: Call, rest: &[u8]) {
        let snapshot = self.state.lock().by_submitter.get(&task).and_then(|submitted| submitted.snapshot.clone());
        let promise = promise_of(cluster, call, rest, snapshot);
        let mut state = self.state.lock();
        let Some(submitted) = state.by_submitter.get_mut(&task) else { return };
        let promise = match promise {
            Ok(promise) => promise,
            Err(error) => return submitted.refused.push((number, error)),
        };
        // Before it is listed, because the end of the process settles all listed promises.
        cluster.admit_always(1);
        submitted.promises.insert(number, Arc::clone(&promise));
        drop(state);
        let watcher = Arc::new(OutcomeWatcher { tasks: Weak::clone(&self.this), submitter: task });
        // If the promise is settled already, the process is gone, and there is nothing to report.
        let _watcher = promise.record().wait_with(Waiter::Watcher(watcher, number as usize));
        promise.record().missing.store(0, Ordering::Relaxed);
        // Ahead of all other tasks: so no more tasks wait for nested ones than the nesting is deep.
        cluster.requeue(Job::One(promise));
    }

    fn wait_for_outcomes(&self, task: u64, number: u64, may_wait: bool, reply: Reply) {
        let mut state = self.state.lock();
        let Some(submitted) = state.by_submitter.get_mut(&task) else {
            drop(state);
            return reply(encode(&Response { is_all: true, ..Response::default() }, &[]));
        };
        let must_wait = submitted.arrived.is_empty() && submitted.refused.is_empty() && !submitted.promises.is_empty();
        submitted.waiting = Some((number, reply));
        if !(must_wait && may_wait) {
            self.answer(state, task);
        }
    }

    /// Sends the outcomes that there are to the submitter, if it waits.
    fn answer(&self, mut state: MutexGuard<'_, NestedState>, submitter: u64) {
        let Some(submitted) = state.by_submitter.get_mut(&submitter) else { return };
        let Some((_, reply)) = submitted.waiting.take() else { return };
        let numbers = std::mem::take(&mut submitted.arrived).into_iter();
        let arrived: Vec<_> =
            numbers.filter_map(|number| Some((number, submitted.promises.remove(&number)?))).collect();
        let refused = std::mem::take(&mut submitted.refused);
        let is_all = submitted.promises.is_empty();
        drop(state);
        let mut values = Vec::new();
        let mut outcomes: Vec<_> =
            arrived.iter().map(|(number, promise)| (*number, outcome_of(promise, &mut values))).collect();
        outcomes.extend(refused.iter().map(|(number, error)| (*number, TaskOutcome::Failed(EncodedError::new(error)))));
        reply(encode(&Response { outcomes, is_all }, &values));
    }
}

fn cancel(promise: Arc<ForeignPromise>) {
    let error = Error::new(ErrorKind::Cancelled, "the task that submitted it does not want it any more");
    let error = error.with_task(promise.record().name(), 0);
    let promise: Arc<dyn AnyPromise> = promise;
    settle(&promise, Outcome::Cancelled(error));
}

/// The outcome of a settled promise. Appends its value to `values`.
fn outcome_of(promise: &ForeignPromise, values: &mut Vec<u8>) -> TaskOutcome {
    let record = promise.record();
    if record.status() == Status::Finished {
        // Code of the program encodes a value that has shared memory.
        let bytes = catch_unwind(AssertUnwindSafe(|| promise.to_bytes().map_err(|error| error.to_string())));
        return match bytes.unwrap_or_else(|payload| Err(describe_panic(payload))) {
            Ok(bytes) => {
                values.extend_from_slice(&bytes);
                TaskOutcome::Finished(bytes.len())
            }
            Err(problem) => {
                let error = Error::new(ErrorKind::NotPortable, format!("cannot send its value on: {problem}"));
                TaskOutcome::Failed(EncodedError::new(&error.with_task(record.name(), 1)))
            }
        };
    }
    let error = record.error().unwrap_or_else(|| Error::new(ErrorKind::Cancelled, "it was cancelled"));
    let error = EncodedError::new(&error);
    match record.status() {
        Status::Cancelled => TaskOutcome::Cancelled(error),
        Status::Lost => TaskOutcome::Lost(error),
        _ => TaskOutcome::Failed(error),
    }
}

fn encode(response: &Response, values: &[u8]) -> Vec<u8> {
    let mut bytes = postcard::to_stdvec(response).expect("every response can be encoded");
    bytes.extend_from_slice(values);
    bytes
}

fn promise_of(
    cluster: &Arc<Cluster>,
    call: Call,
    mut rest: &[u8],
    snapshot: Option<Result<Snapshot, String>>,
) -> Result<Arc<ForeignPromise>> {
    let not_portable = |problem: String| {
        let error =
            Error::new(ErrorKind::NotPortable, format!("its task cannot be forwarded to the parent: {problem}"));
        call.name.as_deref().map_or(error.clone(), |name| error.with_task(name.into(), 0))
    };
    let unknown = |error: CodeError| not_portable(error.to_string());
    let short = || not_portable("its arguments are cut short".into());
    let code = call.code.resolve::<TaskCode>().map_err(unknown)?;
    let snapshot = snapshot.transpose().map_err(|problem| not_portable(format!("its configuration: {problem}")))?;
    let codec = cluster.codec();
    let args = take_piece(&mut rest, call.args_len).ok_or_else(short)?.into();
    let mut inputs = Vec::with_capacity(call.inputs.len());
    let mut takes_error = Vec::with_capacity(call.inputs.len());
    for (code, input) in call.inputs {
        let code = code.resolve::<ValueCode>().map_err(unknown)?;
        takes_error.push(matches!(input, NestedInput::Failed(_)));
        inputs.push(match input {
            NestedInput::Value(len) => {
                let bytes = take_piece(&mut rest, len).ok_or_else(short)?.into();
                Received { code, codec, bytes }.into_task()
            }
            NestedInput::Failed(error) => FailedInput(error.decode()).into_task(code),
        });
    }
    let options = Options {
        name: call.name.as_deref().map(Into::into),
        retries: call.retries,
        backoff: call.backoff,
        timeout: call.timeout,
        priority: call.priority,
        resources: call.resources.iter().map(|(name, n)| (name.as_str().into(), *n)).collect(),
        workers: call.workers.iter().map(|name| name.as_str().into()).collect(),
        ..Options::default()
    };
    let task = ForeignCall { code, codec, args, inputs, takes_error }.into_task(options);
    let (task, value) = task.ok_or_else(|| not_portable("its value stays in its process".into()))?;
    Ok(Arc::new(ForeignPromise::new(Arc::<Cluster>::clone(cluster), task, value, codec, snapshot)))
}
