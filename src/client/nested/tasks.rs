//! In the parent: the tasks that the tasks of one worker process have handed in.
//!
//! # What is always true
//!
//! 1. A task is here from when it is handed in until its outcome has been told, or the one that handed it in has ended, or the process has.
//!    What is left then is cancelled, unless it was detached.
//! 2. `arrived` has the tasks here that are settled, once each. Who waits is told as soon as there are any.
//! 3. The lock is not held while a promise is settled or a question answered.

use super::super::cluster::Cluster;
use super::super::job::{Job, Owner};
use super::super::promise::{AnyPromise, Outcome, Status, Waiter, Watcher, settle};
use super::foreign::{ForeignCall, ForeignPromise, Received};
use super::message::{Call, EncodedError, Request, Response, TaskOutcome, take_piece};
use crate::engine::describe_panic;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::processes::requests::Reply;
use crate::graph::crossing::{TaskCode, ValueCode};
use crate::graph::node::Options;
use crate::portable::code::CodeError;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// How many tasks of a cluster may have handed in tasks and not have ended. What those beyond hand in is run in their processes: each that
/// waits has one of its own, and there is an end to these.
const MAX_SUBMITTERS: usize = 48;

/// See the [module](self).
pub(in crate::client) struct NestedTasks {
    this: Weak<NestedTasks>,
    num_submitters: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_task: HashMap<u64, NestedTask>,
    is_gone: bool,
}

/// What one task has handed in.
#[derive(Default)]
struct NestedTask {
    promises: HashMap<u64, Arc<ForeignPromise>>,
    /// What could not even be tried.
    refused: Vec<(u64, Error)>,
    arrived: Vec<u64>,
    /// The number of the question of the task that waits.
    waiting: Option<(u64, Reply)>,
}

/// Is told of the outcomes for one task.
struct Wakeup {
    wards: Weak<NestedTasks>,
    task: u64,
}

impl Watcher for Wakeup {
    fn on_settled(&self, index: usize, _: Status) {
        let Some(wards) = self.wards.upgrade() else { return };
        let mut state = wards.state.lock();
        let Some(ward) = state.by_task.get_mut(&self.task) else { return };
        let number = index as u64;
        // It may have been cancelled, and is nobody's then.
        if ward.promises.contains_key(&number) {
            ward.arrived.push(number);
        }
        wards.tell(state, self.task);
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

    /// A task asks.
    pub(in crate::client) fn asked(&self, question: u64, said: Request, reply: Reply) {
        match said {
            Request::Open { task } => reply(vec![u8::from(self.open(task))]),
            Request::Await { task, may_wait } => self.await_any(task, question, may_wait, reply),
            Request::Submit { .. } | Request::Cancel { .. } | Request::End { .. } => reply(Vec::new()),
        }
    }

    /// A task says something that has no answer.
    pub(in crate::client) fn noted(&self, core: &Arc<Cluster>, said: Request, rest: &[u8]) {
        match said {
            Request::Submit { task, number, call } => self.submit(core, task, number, *call, rest),
            Request::Cancel { task, number } => {
                let promise = self.state.lock().by_task.get_mut(&task).and_then(|ward| ward.promises.remove(&number));
                promise.into_iter().for_each(cancel);
            }
            Request::End { task, detached } => {
                let ward = self.state.lock().by_task.remove(&task);
                ward.into_iter().for_each(|ward| self.end(ward, &detached));
            }
            Request::Open { .. } | Request::Await { .. } => {}
        }
    }

    /// Answers the question, if it is one of these. Otherwise false.
    pub(in crate::client) fn withdraw(&self, question: u64) -> bool {
        let mut state = self.state.lock();
        let is_it = |ward: &&mut NestedTask| ward.waiting.as_ref().is_some_and(|(number, _)| *number == question);
        let waiting = state.by_task.values_mut().find(is_it).and_then(|ward| ward.waiting.take());
        drop(state);
        let is_here = waiting.is_some();
        if let Some((_, reply)) = waiting {
            reply(write(&Response::default(), &[]));
        }
        is_here
    }

    /// The process has ended.
    pub(in crate::client) fn gone(&self) {
        let wards = {
            let mut state = self.state.lock();
            state.is_gone = true;
            std::mem::take(&mut state.by_task)
        };
        wards.into_values().for_each(|ward| self.end(ward, &[]));
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
        state.by_task.insert(task, NestedTask::default());
        true
    }

    fn end(&self, ward: NestedTask, detached: &[u64]) {
        self.num_submitters.fetch_sub(1, Ordering::Relaxed);
        let left = ward.promises.into_iter().filter(|(number, _)| !detached.contains(number));
        left.for_each(|(_, promise)| cancel(promise));
    }

    fn submit(&self, core: &Arc<Cluster>, task: u64, number: u64, call: Call, rest: &[u8]) {
        let made = promise_of(core, call, rest);
        let mut state = self.state.lock();
        let Some(ward) = state.by_task.get_mut(&task) else { return };
        let promise = match made {
            Ok(promise) => promise,
            Err(error) => {
                ward.refused.push((number, error));
                return;
            }
        };
        // Before it can be cancelled with the process.
        core.admit_always(1);
        ward.promises.insert(number, Arc::clone(&promise));
        drop(state);
        let bell = Arc::new(Wakeup { wards: Weak::clone(&self.this), task });
        // If it is settled already the process is gone, and nobody is to be told.
        let _bell = promise.record().wait_with(Waiter::Watcher(bell, number as usize));
        promise.record().missing.store(0, Ordering::Relaxed);
        // Ahead of the others: so as few tasks wait for waiting tasks as these are deep.
        core.requeue(Job::One(promise));
    }

    fn await_any(&self, task: u64, question: u64, may_wait: bool, reply: Reply) {
        let mut state = self.state.lock();
        let Some(ward) = state.by_task.get_mut(&task) else {
            drop(state);
            return reply(write(&Response { is_all: true, ..Response::default() }, &[]));
        };
        let has_any = !(ward.arrived.is_empty() && ward.refused.is_empty() && !ward.promises.is_empty());
        ward.waiting = Some((question, reply));
        if has_any || !may_wait {
            self.answer(state, task);
        }
    }

    /// Tells the task what has arrived, if it waits and something has.
    fn tell(&self, mut state: parking_lot::MutexGuard<'_, State>, task: u64) {
        let has_any = state.by_task.get_mut(&task).is_some_and(|ward| !ward.arrived.is_empty());
        if has_any {
            self.answer(state, task);
        }
    }

    /// Tells the task, if it waits, what there is.
    fn answer(&self, mut state: parking_lot::MutexGuard<'_, State>, task: u64) {
        let Some(ward) = state.by_task.get_mut(&task) else { return };
        let Some((_, reply)) = ward.waiting.take() else { return };
        let arrived = std::mem::take(&mut ward.arrived).into_iter();
        let arrived: Vec<_> =
            arrived.filter_map(|number| ward.promises.remove(&number).map(|promise| (number, promise))).collect();
        let refused = std::mem::take(&mut ward.refused);
        let is_all = ward.promises.is_empty();
        drop(state);
        let mut values = Vec::new();
        let mut outcomes: Vec<_> =
            arrived.iter().map(|(number, promise)| (*number, ending_of(promise, &mut values))).collect();
        outcomes.extend(refused.iter().map(|(number, error)| (*number, TaskOutcome::Failed(EncodedError::of(error)))));
        reply(write(&Response { outcomes, is_all }, &values));
    }
}

fn cancel(promise: Arc<ForeignPromise>) {
    let message = "the task that handed it in does not want it any more";
    let error = Error::new(ErrorKind::Cancelled, message).with_task(promise.record().name(), 0);
    let promise: Arc<dyn AnyPromise> = promise;
    settle(&promise, Outcome::Cancelled(error));
}

/// How it has ended; a value goes to the others.
fn ending_of(promise: &ForeignPromise, values: &mut Vec<u8>) -> TaskOutcome {
    let record = promise.record();
    if record.status() == Status::Finished {
        // Of a value with shared memory it is code of the program that writes it anew.
        let bytes = catch_unwind(AssertUnwindSafe(|| promise.to_bytes().map_err(|error| error.to_string())));
        return match bytes.unwrap_or_else(|payload| Err(describe_panic(payload))) {
            Ok(bytes) => {
                values.extend_from_slice(&bytes);
                TaskOutcome::Finished(bytes.len())
            }
            Err(problem) => {
                let error = Error::new(ErrorKind::NotPortable, format!("cannot send its value on: {problem}"));
                TaskOutcome::Failed(EncodedError::of(&error.with_task(record.name(), 1)))
            }
        };
    }
    let error = record.error().unwrap_or_else(|| Error::new(ErrorKind::Cancelled, "it was cancelled"));
    match record.status() {
        Status::Cancelled => TaskOutcome::Cancelled(EncodedError::of(&error)),
        Status::Lost => TaskOutcome::Lost(EncodedError::of(&error)),
        _ => TaskOutcome::Failed(EncodedError::of(&error)),
    }
}

fn write(told: &Response, values: &[u8]) -> Vec<u8> {
    let mut bytes = postcard::to_stdvec(told).expect("it has no types that cannot be written");
    bytes.extend_from_slice(values);
    bytes
}

fn promise_of(core: &Arc<Cluster>, call: Call, mut rest: &[u8]) -> Result<Arc<ForeignPromise>> {
    let not_portable = |problem: String| {
        let error = Error::new(ErrorKind::NotPortable, format!("it cannot be handed on: {problem}"));
        call.name.as_deref().map_or(error.clone(), |name| error.with_task(name.into(), 0))
    };
    let unknown = |error: CodeError| not_portable(error.to_string());
    let short = || not_portable("its arguments are cut short".into());
    let code = call.code.resolve::<TaskCode>().map_err(unknown)?;
    let codec = core.codec();
    let args = take_piece(&mut rest, call.args_len).ok_or_else(short)?.into();
    let mut inputs = Vec::with_capacity(call.inputs.len());
    for (code, len) in &call.inputs {
        let code = code.resolve::<ValueCode>().map_err(unknown)?;
        let bytes = take_piece(&mut rest, *len).ok_or_else(short)?.into();
        inputs.push(Received { code, codec, bytes }.into_task());
    }
    let options = Options {
        name: call.name.as_deref().map(Into::into),
        retries: call.retries,
        timeout: call.timeout,
        priority: call.priority,
        resources: call.resources.iter().map(|(name, n)| (name.as_str().into(), *n)).collect(),
        workers: call.workers.iter().map(|name| name.as_str().into()).collect(),
        ..Options::default()
    };
    let task = ForeignCall { code, codec, args, inputs }.into_task(options);
    let (task, value) = task.ok_or_else(|| not_portable("its value stays in its process".into()))?;
    Ok(Arc::new(ForeignPromise::new(Arc::<Cluster>::clone(core), task, value, codec)))
}
