//! Submission: finds the inputs of a task and registers the task with those that are not settled.

#![expect(
    unsafe_code,
    reason = "it lists the inputs of tasks through their untyped kinds, and makes plans of tasks that it keeps"
)]

use super::future_node::promise_of;
use super::job::{Group, Job, Owner, is_same};
use super::promise::{AnyPromise, Outcome, Waiter, settle};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::name;
use crate::graph::node::{Task, TaskRef};
use crate::graph::plan::Plan;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Submits a task with its promise. The task runs when its inputs have finished, or have failed if
/// it takes their errors.
pub(super) fn submit_one(owner: &dyn Owner, task: TaskRef, promise: Arc<dyn AnyPromise>) {
    if let Err(error) = owner.admit(1) {
        return refuse(&promise, error);
    }
    enter_one(task, promise);
}

/// The tasks that a task needs, those of `after` included.
pub(super) fn inputs_of(task: TaskRef) -> Vec<TaskRef> {
    let mut inputs = Vec::new();
    // SAFETY: the kind is the task's own, so `visit_inputs` is right for its node.
    unsafe { (task.kind().visit_inputs)(task, &mut inputs) };
    if let Some(options) = task.options() {
        inputs.extend(options.after.iter().map(Task::as_ref));
    }
    inputs
}

/// Registers a task that was admitted.
fn enter_one(task: TaskRef, promise: Arc<dyn AnyPromise>) {
    let inputs = inputs_of(task);
    if inputs.is_empty() {
        promise.record().missing.store(0, Ordering::Relaxed);
        return Arc::clone(promise.record().owner()).submit(Job::One(promise));
    }
    if inputs.iter().any(|input| !input.kind().is_value) {
        promise.record().set_in_graph();
        return enter_group(&[task], vec![promise]);
    }
    // The tasks that it only runs after are no arguments, and their failures are its own.
    let tolerated = task.tolerated_inputs().unwrap_or_default();
    let takes_error = |index: usize| tolerated.get(index).is_some_and(|&takes_error| takes_error);
    let waiting = |(index, input)| Some((promise_of(input)?, takes_error(index).then(Vec::new)));
    enter(&Job::One(promise), inputs.into_iter().enumerate().filter_map(waiting));
}

/// A future that a job waits for. If the job takes its error: the indices of the outputs that fail
/// with it nevertheless.
type Awaited = (Arc<dyn AnyPromise>, Option<Vec<u32>>);

/// The futures in a plan.
fn awaited_by(plan: &Plan) -> Vec<Awaited> {
    let failing = |id: u32| match plan.is_fatal(id) {
        false => Some(Vec::new()),
        true => Some(plan.outputs_failed_by(id)).filter(|failing| failing.len() < plan.outputs().len()),
    };
    let awaited = |(id, &task): (u32, &TaskRef)| {
        promise_of(task).map(|promise| (promise, if plan.has_tolerant() { failing(id) } else { None }))
    };
    (0..).zip(plan.tasks()).filter_map(awaited).collect()
}

/// Submits a graph with the promises of its outputs. It runs when the futures that it uses have
/// finished.
pub(super) fn submit_group(owner: &dyn Owner, tasks: &[TaskRef], promises: Vec<Arc<dyn AnyPromise>>) {
    if let Err(error) = owner.admit(promises.len()) {
        return promises.iter().for_each(|promise| refuse(promise, error.clone()));
    }
    promises.iter().for_each(|promise| promise.record().set_in_graph());
    enter_group(tasks, promises);
}

fn enter_group(tasks: &[TaskRef], promises: Vec<Arc<dyn AnyPromise>>) {
    // SAFETY: the state of each promise owns the task of its output, and the plan is dropped before
    // the promises.
    let inputs: Result<Vec<_>> = unsafe { Plan::new(tasks, false) }.and_then(|plan| {
        let is_constrained = |task: &&TaskRef| task.options().is_some_and(|options| options.needs_a_certain_worker());
        match plan.tasks().iter().find(is_constrained) {
            Some(&task) => Err(in_graph(task)),
            None => Ok(awaited_by(&plan)),
        }
    });
    match inputs {
        Ok(inputs) => enter(&Job::Graph(Arc::new(Group { promises, missing: AtomicU32::new(1) })), inputs),
        Err(error) => promises.iter().for_each(|promise| {
            settle(promise, Outcome::Failed(error.clone()));
        }),
    }
}

/// The error of a task in a graph that not all workers may run.
fn in_graph(task: TaskRef) -> Error {
    let message = "it asks for certain workers, and is one of several tasks of a graph, which all workers run together; \
                   submit it by itself, with futures for its inputs";
    Error::new(ErrorKind::NoWorker, message).with_task(name::of_task(task), 0)
}

/// Registers a job with its unsettled inputs. Without any, submits it to the queue.
fn enter(job: &Job, inputs: impl IntoIterator<Item = Awaited>) {
    for (input, failing) in inputs {
        // Before the input can be counted down.
        job.missing().fetch_add(1, Ordering::Relaxed);
        let waiter = match &failing {
            None => Waiter::Job(job.clone()),
            Some(failing) => Waiter::TolerantJob(Box::new((job.clone(), failing.clone()))),
        };
        let Err(_waiter) = input.record().wait_with(waiter) else { continue };
        job.missing().fetch_sub(1, Ordering::Relaxed);
        if let Some(error) = input.record().error() {
            let is_failing = |index: &u32| failing.as_ref().is_none_or(|failing| failing.contains(index));
            let failed = (0..).zip(job.promises()).filter(|(index, _)| is_failing(index));
            for (_, promise) in failed {
                let error = error.clone().needed_by(&promise.record().name());
                let outcome = match input.record().status() {
                    super::Status::Cancelled => Outcome::Cancelled(error),
                    super::Status::Lost => Outcome::Lost(error),
                    _ => Outcome::Failed(error),
                };
                settle(promise, outcome);
            }
            if failing.is_none() {
                return;
            }
        }
    }
    if job.arrive()
        && let Some(first) = job.promises().first()
    {
        Arc::clone(first.record().owner()).submit(job.clone());
    }
}

/// Settles a promise that was not admitted. Counts it first, because settling counts it down.
pub(super) fn refuse(promise: &Arc<dyn AnyPromise>, error: Error) {
    let outcome = if error.kind() == ErrorKind::Closed { Outcome::Lost(error) } else { Outcome::Failed(error) };
    promise.record().owner().admit_always(1);
    settle(promise, outcome);
}

/// Restarts a promise that is settled and has not finished, and those of its inputs in the same
/// state: all or none.
pub(super) fn retry(promise: &Arc<dyn AnyPromise>) -> Result<bool> {
    let failed = failed_for(promise);
    let mut num_of_owner: Vec<(&Arc<dyn Owner>, usize)> = Vec::new();
    for (_, promise) in &failed {
        let owner = promise.record().owner();
        match num_of_owner.iter_mut().find(|(other, _)| is_same(other, owner)) {
            Some((_, num)) => *num += 1,
            None => num_of_owner.push((owner, 1)),
        }
    }
    for (index, &(owner, num)) in num_of_owner.iter().enumerate() {
        if let Err(error) = owner.admit(num) {
            num_of_owner[..index].iter().for_each(|&(owner, num)| owner.settled(num));
            return Err(error);
        }
    }
    let restart = |(_, promise): &(Task, Arc<dyn AnyPromise>)| {
        let record = promise.record();
        let is_restarted = record.restart();
        if !is_restarted {
            // Another thread has restarted it.
            record.owner().settled(1);
        }
        is_restarted
    };
    let restarted: Vec<_> = failed.iter().filter(|failed| restart(failed)).collect();
    // Inputs first: they were found last.
    restarted.iter().rev().for_each(|(task, promise)| enter_one(task.as_ref(), Arc::clone(promise)));
    Ok(!restarted.is_empty())
}

/// Collects a promise, if it is settled and has not finished, and, recursively, its inputs in the
/// same state.
fn failed_for(promise: &Arc<dyn AnyPromise>) -> Vec<(Task, Arc<dyn AnyPromise>)> {
    let mut failed = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![Arc::clone(promise)];
    while let Some(promise) = open.pop() {
        let record = promise.record();
        let status = record.status();
        if !status.is_settled() || status == super::Status::Finished || !seen.insert(record.identity()) {
            continue;
        }
        let Some(task) = record.task() else { continue };
        // SAFETY: `task` owns the node of the output for as long as the plan lives.
        if let Ok(plan) = unsafe { Plan::of_unrelated(&[task.as_ref()]) } {
            open.extend(plan.tasks().iter().filter_map(|&task| promise_of(task)));
        }
        failed.push((task, promise));
    }
    failed
}
