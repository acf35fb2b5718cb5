//! The contract of executors, as functions over the executor.
//!
//! A check is named as the sentence that it proves. It computes under the configured scheduler, so
//! it reads like a user's program. [`keeps_the_contract`] runs all checks for one [`Subject`]. An
//! executor that passes keeps the whole contract.

mod arguments;
mod callbacks;
mod failures;
pub(crate) mod ledger;
mod nesting;
mod outputs;
mod retries;
mod stopping;
mod tolerance;
mod values;
pub(crate) mod watchdog;

use sprang::config::{self, Scope};
use sprang::{Executor, Scheduler};
use std::any::type_name;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An executor under test.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    label: String,
    pub(crate) scheduler: Scheduler,
    /// How many tasks of one run it runs at once if they block.
    pub(crate) num_workers: usize,
    /// Whether portable tasks run in this process.
    in_this_process: bool,
}

impl Subject {
    pub(crate) fn new(label: impl Into<String>, num_workers: usize, executor: impl Executor + 'static) -> Self {
        let scheduler = Scheduler::Custom(Arc::new(executor));
        Subject { label: label.into(), scheduler, num_workers, in_this_process: true }
    }

    pub(crate) fn named(scheduler: Scheduler, num_workers: usize) -> Self {
        Subject { label: format!("the scheduler {scheduler}"), scheduler, num_workers, in_this_process: true }
    }

    /// An executor that runs portable tasks in other processes.
    pub(crate) fn elsewhere(self) -> Self {
        Subject { in_this_process: false, ..self }
    }

    /// Lets computes of this thread use the executor, until the guard is dropped.
    pub(crate) fn scope(&self) -> Scope {
        config::scoped("scheduler", self.scheduler.clone()).unwrap()
    }
}

/// One promise of the contract.
pub(crate) struct Check {
    name: &'static str,
    in_this_process: bool,
    run: Box<dyn Fn(&Subject) + Sync>,
}

/// Makes a check from a function, with the function's name.
fn check<F: Fn(&Subject) + Sync + 'static>(run: F) -> Check {
    let name = type_name::<F>();
    Check { name: name.rsplit("::").next().unwrap_or(name), in_this_process: false, run: Box::new(run) }
}

/// As [`check`], for a promise that only tasks in the calling process can keep: values are moved
/// and not copied, and errors keep their types.
fn check_here<F: Fn(&Subject) + Sync + 'static>(run: F) -> Check {
    Check { in_this_process: true, ..check(run) }
}

fn all() -> Vec<Check> {
    [
        arguments::checks(),
        callbacks::checks(),
        failures::checks(),
        nesting::checks(),
        outputs::checks(),
        retries::checks(),
        stopping::checks(),
        tolerance::checks(),
        values::checks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs every check on the subject and names the checks that fail.
pub(crate) fn keeps_the_contract(subject: &Subject) {
    keeps_the_contract_inside(subject, &|check| check());
}

/// As [`keeps_the_contract`], with something around each check, such as a thread of a pool.
pub(crate) fn keeps_the_contract_inside(subject: &Subject, inside: &Around<'_>) {
    let applies = |check: &&Check| subject.in_this_process || !check.in_this_process;
    let failed: Vec<String> = all().iter().filter(applies).filter_map(|check| breach(check, subject, inside)).collect();
    assert!(failed.is_empty(), "{} checks failed:\n{}", failed.len(), failed.join("\n"));
}

type Around<'a> = dyn Fn(&(dyn Fn() + Sync)) + Sync + 'a;

/// The failure of a check, if any.
fn breach(check: &Check, subject: &Subject, inside: &Around<'_>) -> Option<String> {
    let what = format!("{} on {}", check.name, subject.label);
    let checked = || {
        let _scope = subject.scope();
        (check.run)(subject);
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| watchdog::watched(&what, || inside(&checked))));
    let payload = outcome.err()?;
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message.as_str(),
        _ => "a panic without text",
    };
    Some(format!("{what}: {message}"))
}

/// Counts calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<AtomicUsize>);

impl Tally {
    /// Counts one call and returns the number of calls before.
    pub(crate) fn count(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Runs tests whose tasks wait for other tasks one at a time. Otherwise two of them that share a
/// pool could each hold the thread that the other waits for.
pub(crate) fn rendezvous() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
