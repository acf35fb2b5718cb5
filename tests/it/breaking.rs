//! Executors that break the contract end their runs with an error, and leak nothing.

use crate::contract::ledger::{Counted, Ledger};
use crate::contract::watchdog::watched;
use sprang::{
    Delayed, Error, ErrorKind, Executor, Refs, Run, SyncExecutor, ThreadExecutor, compute_with, delayed_local,
    try_delayed,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

/// An executor made of a function.
struct Breaks<F>(F);

impl<F: Fn(&Arc<Run>) + Send + Sync> Executor for Breaks<F> {
    fn name(&self) -> &str {
        "breaks"
    }

    fn execute(&self, run: &Arc<Run>) {
        (self.0)(run);
    }
}

fn graph(ledger: &Ledger) -> Delayed<usize> {
    let sources: Vec<_> = (0..10)
        .map(|i| {
            let ledger = ledger.clone();
            delayed_local(move || ledger.value(i), ())
        })
        .collect();
    delayed_local(
        |all: Refs<'_, Counted>, first: Counted| all.len() + first.value as usize,
        (&sources, sources[0].clone()),
    )
}

/// The error of a run on the executor, which must leave no value behind.
fn error_of(execute: impl Fn(&Arc<Run>) + Send + Sync + 'static) -> Error {
    watched("an executor that breaks the contract", || {
        let ledger = Ledger::new();
        let graph = graph(&ledger);
        let error = graph.compute_with(Breaks(execute)).unwrap_err();
        ledger.assert_settled();
        assert_eq!(graph.compute_with("sync").unwrap(), 10, "the graph can still be computed");
        error
    })
}

#[test]
fn an_executor_that_does_nothing_gives_an_error() {
    let error = error_of(|_| {});
    assert_eq!(error.kind(), ErrorKind::Executor);
    assert!(error.to_string().contains("\"breaks\""), "{error}");
}

#[test]
fn an_executor_that_drops_its_tasks_gives_an_error() {
    assert_eq!(error_of(|run| drop(run.ready())).kind(), ErrorKind::Executor);
    let wait_for_it = |run: &Arc<Run>| {
        run.ready().truncate(5);
        run.wait();
    };
    assert_eq!(error_of(wait_for_it).kind(), ErrorKind::Executor);
}

#[test]
fn an_executor_that_drops_tasks_that_become_ready_gives_an_error() {
    let execute = |run: &Arc<Run>| {
        run.ready().into_iter().for_each(|task| drop(task.run()));
        run.wait();
    };
    assert_eq!(error_of(execute).kind(), ErrorKind::Executor);
}

#[test]
fn an_executor_that_forgets_its_tasks_gives_an_error() {
    let execute = |run: &Arc<Run>| {
        for (i, task) in run.ready().into_iter().enumerate() {
            if i % 2 == 0 {
                task.run();
            } else {
                std::mem::forget(task);
            }
        }
    };
    assert_eq!(error_of(execute).kind(), ErrorKind::Executor);
}

#[test]
fn an_executor_that_keeps_tasks_for_later_gives_an_error_and_never_runs_them() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeps = Arc::clone(&kept);
    assert_eq!(error_of(move |run| keeps.lock().unwrap().extend(run.ready())).kind(), ErrorKind::Executor);
    for (i, task) in kept.lock().unwrap().drain(..).enumerate() {
        if i % 2 == 0 {
            assert!(task.run().is_empty(), "the run is over");
        }
    }
}

#[test]
fn an_executor_that_does_not_wait_for_its_threads_gives_an_error() {
    let ledger = Ledger::new();
    let (begin, begun) = mpsc::channel();
    let (release, waits) = mpsc::channel::<()>();
    let (waits, maker) = (Mutex::new(waits), ledger.clone());
    let task = delayed_local(
        move || {
            begin.send(()).unwrap();
            waits.lock().unwrap().recv().unwrap();
            maker.value(1)
        },
        (),
    );
    let next = delayed_local(|v: &Counted| v.value, (&task,));
    let (begun, release) = (Mutex::new(begun), Mutex::new(Some(release)));
    let execute = move |run: &Arc<Run>| {
        for task in run.ready() {
            thread::spawn(move || drop(task.run()));
        }
        begun.lock().unwrap().recv().unwrap();
        let release = release.lock().unwrap().take();
        // It returns while the task is running. The data of the run is freed only after the task
        // has finished.
        thread::spawn(move || release.map(|release| release.send(())));
    };
    let error = watched("an executor that does not wait", || next.compute_with(Breaks(execute))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Executor);
    ledger.assert_settled();
}

#[test]
fn a_panic_of_an_executor_reaches_its_caller_and_leaks_nothing() {
    for num_run in [0, 1, 5, 10] {
        let ledger = Ledger::new();
        let graph = graph(&ledger);
        let execute = move |run: &Arc<Run>| {
            let mut ready = run.ready();
            ready.drain(..num_run).for_each(|task| drop(task.run()));
            panic!("the executor is broken");
        };
        let outcome = watched("an executor that panics", || {
            catch_unwind(AssertUnwindSafe(|| graph.compute_with(Breaks(execute))))
        });
        let payload = outcome.unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"the executor is broken"));
        ledger.assert_settled();
        assert_eq!(graph.compute_with("sync").unwrap(), 10);
    }
}

#[test]
fn each_ready_task_is_given_to_the_executor_once() {
    let ledger = Ledger::new();
    let execute = |run: &Arc<Run>| {
        let mut ready = run.ready();
        assert_eq!((ready.len(), run.num_tasks()), (10, 11));
        assert!(run.ready().is_empty());
        while let Some(task) = ready.pop() {
            ready.extend(task.run());
        }
        assert!(run.ready().is_empty());
        run.wait();
        assert!(!run.is_stopped());
    };
    assert_eq!(graph(&ledger).compute_with(Breaks(execute)).unwrap(), 10);
    ledger.assert_settled();
}

#[test]
fn a_run_is_run_once_even_if_it_is_executed_several_times() {
    watched("a run that is executed again and again", || {
        let ledger = Ledger::new();
        let graph = graph(&ledger);
        let twice = Breaks(|run: &Arc<Run>| {
            SyncExecutor.execute(run);
            SyncExecutor.execute(run);
            ThreadExecutor::new(2).execute(run);
            assert!(run.ready().is_empty(), "the tasks were given out before");
        });
        assert_eq!(graph.compute_with(twice).unwrap(), 10);
        drop(graph);
        assert_eq!(ledger.num_live(), 0);
    });
}

#[test]
fn a_thread_that_waits_for_an_abandoned_run_is_woken() {
    watched("a run that is kept and waited for", || {
        let (sender, receiver) = mpsc::channel();
        let sender = Mutex::new(sender);
        let early = Breaks(move |run: &Arc<Run>| {
            let (run, waits) = (Arc::clone(run), sender.lock().unwrap().clone());
            thread::spawn(move || {
                run.wait();
                waits.send(()).unwrap();
            });
        });
        let error = delayed_local(|| 1, ()).compute_with(early).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Executor);
        receiver.recv().unwrap();
    });
}

#[test]
fn runs_that_fail_on_many_threads_all_end() {
    watched("failing runs", || {
        for _ in 0..300 {
            let tasks: Vec<_> =
                (0..100_u64).map(|i| try_delayed(|i: u64| if i % 7 == 3 { Err("no") } else { Ok(i) }, (i,))).collect();
            assert!(compute_with(ThreadExecutor::new(8), &tasks).is_err());
        }
    });
}
