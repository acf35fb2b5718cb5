//! From a task to a job: its inputs are found, and it is registered with those that are not there yet.

#![expect(
    unsafe_code,
    reason = "it lists the inputs of tasks through their untyped kinds, and plans are made of tasks kept beside them"
)]

use super::job::{Group, Job, Owner, is_same};
use super::promise::{AnyPromise, Outcome, Waiter, promise_of, settle};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::name;
use crate::graph::node::{Task, TaskRef};
use crate::graph::plan::Plan;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Has a task run that keeps a promise, when its inputs are there.
pub(super) fn submit_one(owner: &dyn Owner, task: TaskRef, promise: Arc<dyn AnyPromise>) {
    if let Err(error) = owner.admit(1) {
        return refuse(&promise, error);
    }
    enter_one(task, promise);
}

/// The tasks that a task needs.
pub(super) fn inputs_of(task: TaskRef) -> Vec<TaskRef> {
    let mut inputs = Vec::new();
    // SAFETY: the kind is the task's own.
    unsafe { (task.kind().visit_inputs)(task, &mut inputs) };
    inputs.extend(task.options().into_iter().flat_map(|options| options.after.iter().map(Task::as_ref)));
    inputs
}

/// It was admitted.
fn enter_one(task: TaskRef, promise: Arc<dyn AnyPromise>) {
    let inputs = inputs_of(task);
    if inputs.is_empty() {
        promise.record().missing.store(0, Ordering::Relaxed);
        return Arc::clone(promise.record().owner()).submit(Job::One(promise));
    }
    if inputs.iter().any(|input| !input.kind().is_value) {
        promise.record().is_of_group();
        return enter_group(&[task], vec![promise]);
    }
    enter(&Job::One(promise), inputs.into_iter().filter_map(promise_of));
}

/// Has a graph computed whose outputs keep promises, when the futures are there that it uses. They may be one and the same graph's.
pub(super) fn submit_group(owner: &dyn Owner, tasks: &[TaskRef], promises: Vec<Arc<dyn AnyPromise>>) {
    if let Err(error) = owner.admit(promises.len()) {
        return promises.iter().for_each(|promise| refuse(promise, error.clone()));
    }
    promises.iter().for_each(|promise| promise.record().is_of_group());
    enter_group(tasks, promises);
}

fn enter_group(tasks: &[TaskRef], promises: Vec<Arc<dyn AnyPromise>>) {
    // SAFETY: the promises have handles of the outputs.
    let inputs: Result<Vec<_>> = unsafe { Plan::new(tasks, false) }.and_then(|plan| {
        let is_choosy = |task: &&TaskRef| task.options().is_some_and(|options| options.needs_a_certain_worker());
        match plan.tasks().iter().find(is_choosy) {
            Some(&task) => Err(in_graph(task)),
            None => Ok(plan.tasks().iter().filter_map(|&task| promise_of(task)).collect()),
        }
    });
    match inputs {
        Ok(inputs) => enter(&Job::Graph(Arc::new(Group { promises, missing: AtomicU32::new(1) })), inputs),
        Err(error) => promises.iter().for_each(|promise| {
            settle(promise, Outcome::Failed(error.clone()));
        }),
    }
}

/// All workers run a graph together.
fn in_graph(task: TaskRef) -> Error {
    let message = "it asks for certain workers, and is one of several tasks of a graph, which all workers run together; \
                   hand it in by itself, with futures for what it needs";
    Error::new(ErrorKind::NoWorker, message).with_task(name::of_task(task), 0)
}

/// Registers a job with the inputs that are not there; with none of these it is ready.
fn enter(job: &Job, inputs: impl IntoIterator<Item = Arc<dyn AnyPromise>>) {
    for input in inputs {
        // Before it can arrive.
        job.missing().fetch_add(1, Ordering::Relaxed);
        let Err(_waiter) = input.record().wait_with(Waiter::Job(job.clone())) else { continue };
        job.missing().fetch_sub(1, Ordering::Relaxed);
        if let Some(error) = input.record().error() {
            for promise in job.promises() {
                let error = error.clone().needed_by(&promise.record().name());
                let outcome = match input.record().status() {
                    super::Status::Cancelled => Outcome::Cancelled(error),
                    super::Status::Lost => Outcome::Lost(error),
                    _ => Outcome::Failed(error),
                };
                settle(promise, outcome);
            }
            return;
        }
    }
    if job.arrive()
        && let Some(first) = job.promises().first()
    {
        Arc::clone(first.record().owner()).submit(job.clone());
    }
}

/// It was not admitted, so it must not count as settled either.
fn refuse(promise: &Arc<dyn AnyPromise>, error: Error) {
    let outcome = if error.kind() == ErrorKind::Closed { Outcome::Lost(error) } else { Outcome::Failed(error) };
    promise.record().owner().admit_always(1);
    settle(promise, outcome);
}

/// Tries a promise again that is settled and has not finished, and those that it needs. Either all of them are taken up or none.
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
            // Somebody else was quicker.
            record.owner().settled(1);
        }
        is_restarted
    };
    let restarted: Vec<_> = failed.iter().filter(|failed| restart(failed)).collect();
    // Those that are needed first: they were found last.
    restarted.iter().rev().for_each(|(task, promise)| enter_one(task.as_ref(), Arc::clone(promise)));
    Ok(!restarted.is_empty())
}

/// A promise, if it is settled and has not finished, and those of which that is so among what it needs, and so on.
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
        // SAFETY: `task` is a handle of the output.
        if let Ok(plan) = unsafe { Plan::of_unrelated(&[task.as_ref()]) } {
            open.extend(plan.tasks().iter().filter_map(|&task| promise_of(task)));
        }
        failed.push((task, promise));
    }
    failed
}
