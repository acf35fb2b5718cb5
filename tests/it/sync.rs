//! The sync executor: one thread, one order, and only the values that this order needs.

use crate::contract::ledger::{Counted, Ledger};
use sprang::{CancelToken, Delayed, Refs, compute_with, delayed, delayed_local, try_delayed_local};
use std::sync::{Arc, Mutex};
use std::thread;

type Log = Arc<Mutex<Vec<u32>>>;

/// A task that logs its number.
fn noted(log: &Log, number: u32) -> Delayed<u32> {
    let log = Arc::clone(log);
    delayed_local(
        move || {
            log.lock().unwrap().push(number);
            number
        },
        (),
    )
}

fn taken(log: &Log) -> Vec<u32> {
    std::mem::take(&mut log.lock().unwrap())
}

#[test]
fn every_task_runs_on_the_calling_thread_and_always_in_the_same_order() {
    let log = Log::default();
    let caller = thread::current().id();
    let mut level: Vec<Delayed<u32>> = (0..64).map(|i| noted(&log, i)).collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| {
                let log = Arc::clone(&log);
                delayed_local(
                    move |a: &u32, b: &u32| {
                        assert_eq!(thread::current().id(), caller);
                        log.lock().unwrap().push(1000 + a);
                        *a.min(b)
                    },
                    (&pair[0], &pair[1]),
                )
            })
            .collect();
    }
    level[0].compute_with("sync").unwrap();
    let first = taken(&log);
    assert_eq!(first.len(), 127);
    for _ in 0..3 {
        level[0].compute_with("sync").unwrap();
        assert_eq!(taken(&log), first);
    }
}

#[test]
fn a_tree_is_reduced_with_no_more_values_than_its_height_needs() {
    let ledger = Ledger::new();
    let mut level: Vec<Delayed<Counted>> = (0..256)
        .map(|i| {
            let ledger = ledger.clone();
            delayed_local(move || ledger.value(i), ())
        })
        .collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| {
                let ledger = ledger.clone();
                delayed_local(move |a: &Counted, b: &Counted| ledger.value(a.value + b.value), (&pair[0], &pair[1]))
            })
            .collect();
    }
    assert_eq!(level[0].compute_with("sync").unwrap().value, 255 * 128);
    // A finished subtree of each of the eight heights, the last pair, and the value being made.
    assert_eq!(ledger.peak(), 10);
    ledger.assert_settled();
}

#[test]
fn the_number_of_live_values_is_exact_at_every_task_of_a_ladder() {
    // Each rung reads the rung before and the one before that.
    let ledger = Ledger::new();
    let make = |value| {
        let ledger = ledger.clone();
        delayed_local(move || ledger.value(value), ())
    };
    let (mut a, mut b) = (make(0), make(1));
    for i in 0..60 {
        let ledger = ledger.clone();
        let next = delayed_local(
            move |a: &Counted, b: &Counted| {
                assert_eq!(ledger.num_live(), 2, "rung {i}");
                ledger.value((a.value + b.value) % 1000)
            },
            (&a, &b),
        );
        (a, b) = (b, next);
    }
    b.compute_with("sync").unwrap();
    assert_eq!(ledger.peak(), 3);
    ledger.assert_settled();
}

#[test]
fn ready_tasks_run_in_the_order_of_their_priorities() {
    let log = Log::default();
    let tasks: Vec<_> = [3, -1, 7, 0, 5].into_iter().map(|p| noted(&log, (p + 10) as u32).priority(p)).collect();
    compute_with("sync", &tasks).unwrap();
    assert_eq!(taken(&log), [17, 15, 13, 10, 9]);
}

#[test]
fn the_inputs_of_a_task_of_high_priority_come_first_too() {
    let log = Log::default();
    let ordinary: Vec<_> = (0..5).map(|i| noted(&log, i)).collect();
    let needed = noted(&log, 100);
    let logged = Arc::clone(&log);
    let urgent = delayed_local(move |n: &u32| logged.lock().unwrap().push(n + 1), (&needed,)).priority(1);
    compute_with("sync", (&ordinary, &urgent)).unwrap();
    let order = taken(&log);
    assert_eq!(order[..2], [100, 101], "{order:?}");
}

#[test]
fn a_failure_is_always_the_same_one() {
    let bad: Vec<_> = (0..20).map(|i| try_delayed_local(move || Err::<(), _>(format!("bad {i}")), ())).collect();
    let first = compute_with("sync", &bad).unwrap_err();
    for _ in 0..5 {
        assert_eq!(compute_with("sync", &bad).unwrap_err().message(), first.message());
    }
}

#[test]
fn a_cancelled_token_stops_the_run_before_the_next_task() {
    let log = Log::default();
    let token = CancelToken::new();
    let outer = token.clone();
    let canceller = delayed_local(move || outer.cancel(), ());
    let late: Vec<_> = (0..10).map(|i| noted(&log, i).after(&canceller)).collect();
    assert!(token.scope(|| compute_with("sync", &late)).is_err());
    assert!(taken(&log).is_empty());
}

#[test]
fn a_value_is_released_before_the_next_task_starts() {
    // Every value is made, read and dropped before the next is made: the order that holds the
    // fewest values.
    let ledger = Ledger::new();
    let lens: Vec<_> = (0..100)
        .map(|i| {
            let maker = ledger.clone();
            let large = delayed_local(move || maker.value(i), ());
            delayed(|v: &i64| *v, (&delayed_local(|v: &Counted| v.value, (&large,)),))
        })
        .collect();
    let sum = delayed(|lens: Refs<'_, i64>| lens.iter().sum::<i64>(), (&lens,));
    assert_eq!(sum.compute_with("sync").unwrap(), 4950);
    assert_eq!(ledger.peak(), 1);
    ledger.assert_settled();
}
