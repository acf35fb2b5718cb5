//! Cancelling and timeouts.

use super::ledger::{Counted, Ledger};
use super::{Check, Subject, Tally, check, rendezvous};
use sprang::{
    CancelToken, Delayed, ErrorKind, Refs, compute, compute_each, delayed, delayed_local, prepare, try_delayed_local,
};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Long enough for a task that returns at once, even on a busy machine.
const AMPLE: Duration = Duration::from_secs(50);
/// For a task that runs until its time is over.
const SHORT: Duration = Duration::from_millis(20);

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check(a_token_cancelled_before_the_start_lets_no_task_run),
        check(a_token_cancelled_by_another_thread_ends_the_run_within_one_task),
        check(after_a_token_is_cancelled_while_every_worker_is_busy_no_task_starts),
        check(a_task_can_cancel_the_token_of_its_own_run),
        check(a_cancelled_run_drops_every_value),
        check(a_cancelled_run_gives_no_outcomes),
        check(a_cancelled_run_harms_no_other),
        check(a_token_that_is_not_cancelled_changes_nothing),
        check(a_nested_compute_is_cancelled_with_the_outer),
        check(a_nested_compute_can_be_cancelled_alone),
        check(a_failure_cancels_the_token_of_the_running_tasks),
        check(a_task_that_takes_too_long_fails_with_its_timeout),
        check(a_task_that_is_in_time_is_not_affected_by_its_timeout),
        check(the_value_of_a_late_task_is_dropped),
        check(a_late_task_that_fails_is_reported_as_timed_out),
        check(a_timeout_stops_the_run),
        check(a_collected_timeout_fails_only_its_dependents),
        check(a_run_that_takes_too_long_is_stopped_and_names_its_running_tasks),
        check(a_timeout_applies_to_each_attempt),
        check(a_timeout_of_one_task_does_not_cancel_another),
    ]
}

/// Returns when the result of the current task is no longer wanted.
fn wait_for_the_end() {
    let token = CancelToken::current();
    while !token.is_cancelled() {
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn counted_chain(len: usize, calls: &Tally) -> Delayed<usize> {
    let link = |calls: &Tally| {
        let calls = calls.clone();
        move |_: usize| calls.count()
    };
    let mut chain = delayed_local(link(calls), (0_usize,));
    for _ in 1..len {
        chain = delayed_local(link(calls), (chain,));
    }
    chain
}

fn a_token_cancelled_before_the_start_lets_no_task_run(_: &Subject) {
    let calls = Tally::default();
    let chain = counted_chain(10, &calls);
    let token = CancelToken::new();
    token.cancel();
    let error = token.scope(|| chain.compute()).unwrap_err();
    assert_eq!((error.kind(), error.task()), (ErrorKind::Cancelled, None));
    assert_eq!(token.scope(|| compute(vec![&chain; 3])).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(token.scope(|| prepare(&chain).unwrap().persist().map(drop)).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(calls.get(), 0);
    assert_eq!(chain.compute().unwrap(), 9, "outside the token's scope");
}

fn a_token_cancelled_by_another_thread_ends_the_run_within_one_task(_: &Subject) {
    let calls = Tally::default();
    let before = counted_chain(10, &calls);
    let (ask, asked) = mpsc::sync_channel(0);
    let (answer, answered) = mpsc::sync_channel(0);
    let answered = std::sync::Mutex::new(answered);
    let canceller = delayed_local(
        move |_: &usize| {
            ask.send(()).unwrap();
            answered.lock().unwrap().recv().unwrap();
        },
        (&before,),
    );
    let mut after = delayed(|_: &()| 0_usize, (&canceller,));
    for _ in 0..100 {
        let calls = calls.clone();
        after = delayed_local(move |_: &usize| calls.count(), (&after,));
    }
    let token = CancelToken::new();
    let error = thread::scope(|scope| {
        let token = &token;
        scope.spawn(move || {
            asked.recv().unwrap();
            token.cancel();
            answer.send(()).unwrap();
        });
        token.scope(|| after.compute()).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(calls.get(), 10, "no task started after the cancellation");
}

fn after_a_token_is_cancelled_while_every_worker_is_busy_no_task_starts(on: &Subject) {
    let calls = Tally::default();
    let (begin, begun) = mpsc::channel();
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (calls, begin) = (calls.clone(), begin.clone());
            delayed_local(
                move || {
                    calls.count();
                    begin.send(()).unwrap();
                    wait_for_the_end();
                },
                (),
            )
        })
        .collect();
    let token = CancelToken::new();
    let error = thread::scope(|scope| {
        let token = &token;
        scope.spawn(move || {
            begun.recv().unwrap();
            token.cancel();
        });
        token.scope(|| compute(&tasks)).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    // One on each worker, and one on the caller if it helps.
    assert!(calls.get() <= on.num_workers + 1, "{} tasks were started", calls.get());
}

fn a_task_can_cancel_the_token_of_its_own_run(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let canceller = delayed(|| CancelToken::current().cancel(), ());
    let next = delayed_local(move |_: &()| counter.count(), (&canceller,));
    let token = CancelToken::new();
    let outer = token.clone();
    let canceller_of_outer = delayed_local(move || outer.cancel(), ());
    let error = token.scope(|| canceller_of_outer.compute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "its value may be half of what it would have been");
    assert_eq!(token.scope(|| next.compute()).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(calls.get(), 0);
}

fn a_cancelled_run_drops_every_value(_: &Subject) {
    let ledger = Ledger::new();
    let token = CancelToken::new();
    let values: Vec<_> = (0..50)
        .map(|i| {
            let (ledger, token) = (ledger.clone(), token.clone());
            delayed_local(
                move || {
                    if i == 25 {
                        token.cancel();
                    }
                    ledger.value(i)
                },
                (),
            )
        })
        .collect();
    let owners: Vec<_> =
        values.iter().map(|v| delayed_local(|v: Counted, w: &Counted| v.value + w.value, (v.clone(), v))).collect();
    let all = delayed_local(|v: Refs<'_, Counted>, o: Refs<'_, i64>| v.len() + o.len(), (&values, &owners));
    assert_eq!(token.scope(|| compute((&all, &values)).map(drop)).unwrap_err().kind(), ErrorKind::Cancelled);
    ledger.assert_settled();
}

fn a_cancelled_run_gives_no_outcomes(_: &Subject) {
    let token = CancelToken::new();
    let outer = token.clone();
    let first = delayed(|| 1, ());
    let canceller = delayed_local(
        move |n: &i32| {
            outer.cancel();
            *n
        },
        (&first,),
    );
    let error = token.scope(|| compute_each((&first, &canceller)).map(drop)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

fn a_cancelled_run_harms_no_other(on: &Subject) {
    let parts: Vec<_> = (0..100_u32).map(|i| delayed(|i: u32| i, (i,))).collect();
    let sum = delayed(|all: Refs<'_, u32>| all.iter().sum::<u32>(), (&parts,));
    let cancelled_one = delayed(
        |all: Refs<'_, u32>| {
            CancelToken::current().cancel();
            all.len()
        },
        (&parts,),
    );
    thread::scope(|scope| {
        scope.spawn(|| {
            let _scope = on.scope();
            for _ in 0..30 {
                let token = CancelToken::new();
                let remote = token.clone();
                let canceller = delayed_local(move |_: &usize| remote.cancel(), (&cancelled_one,));
                assert_eq!(token.scope(|| canceller.compute()).unwrap_err().kind(), ErrorKind::Cancelled);
            }
        });
        for _ in 0..30 {
            assert_eq!(sum.compute().unwrap(), 4950);
        }
    });
}

fn a_token_that_is_not_cancelled_changes_nothing(_: &Subject) {
    let calls = Tally::default();
    let chain = counted_chain(50, &calls);
    let token = CancelToken::new();
    let _entered = token.enter();
    assert_eq!(chain.compute().unwrap(), 49);
    assert!(!token.is_cancelled());
}

fn a_nested_compute_is_cancelled_with_the_outer(_: &Subject) {
    let token = CancelToken::new();
    let outer = token.clone();
    let (report, reported) = mpsc::channel();
    let task = delayed_local(
        move || {
            outer.cancel();
            report.send(delayed(|| 1, ()).compute().map_err(|error| error.kind())).unwrap();
        },
        (),
    );
    assert_eq!(token.scope(|| task.compute()).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(reported.recv().unwrap(), Err(ErrorKind::Cancelled));
}

fn a_nested_compute_can_be_cancelled_alone(_: &Subject) {
    let task = delayed(
        || {
            let token = CancelToken::new();
            token.cancel();
            let inner = token.scope(|| delayed(|| 1, ()).compute());
            (inner.is_err(), delayed(|| 2, ()).compute().ok(), CancelToken::current().is_cancelled())
        },
        (),
    );
    assert_eq!(task.compute().unwrap(), (true, Some(2), false));
}

fn a_failure_cancels_the_token_of_the_running_tasks(on: &Subject) {
    if on.num_workers < 2 {
        return;
    }
    let _turn = rendezvous();
    let (begin, begun) = mpsc::sync_channel(1);
    let begun = std::sync::Mutex::new(begun);
    let waits = delayed_local(
        move || {
            begin.send(()).unwrap();
            wait_for_the_end();
        },
        (),
    );
    let fails = try_delayed_local(move || begun.lock().unwrap().recv().map(|()| Err::<(), _>("bad")).unwrap(), ());
    assert_eq!(compute((&waits, &fails)).unwrap_err().message(), "bad");
}

fn a_task_that_takes_too_long_fails_with_its_timeout(_: &Subject) {
    let slow = delayed(wait_for_the_end, ()).name("slow").timeout(SHORT);
    let next = delayed(|_: &()| 1, (&slow,)).name("next");
    let error = next.compute().unwrap_err();
    assert_eq!((error.kind(), error.task(), error.attempts()), (ErrorKind::TimedOut, Some("slow"), 1));
    assert_eq!(error.message(), "it did not end within 20ms");
    assert_eq!(error.path().collect::<Vec<_>>(), ["slow", "next"]);
}

fn a_task_that_is_in_time_is_not_affected_by_its_timeout(_: &Subject) {
    let tasks: Vec<_> =
        (0..50).map(|i| delayed(|i: i32| (i, CancelToken::current().is_cancelled()), (i,)).timeout(AMPLE)).collect();
    let forever = delayed(|| 1, ()).timeout(Duration::MAX);
    let (tasks, forever) = compute((&tasks, &forever)).unwrap();
    assert!(tasks.into_iter().zip(0..).all(|(seen, i)| seen == (i, false)));
    assert_eq!(forever, 1);
}

fn the_value_of_a_late_task_is_dropped(_: &Subject) {
    let ledger = Ledger::new();
    let (maker, source) = (ledger.clone(), ledger.clone());
    let input = delayed_local(move || source.value(1), ());
    let late = delayed_local(
        move |input: Counted, same: &Counted| {
            wait_for_the_end();
            maker.value(input.value + same.value)
        },
        (input.clone(), &input),
    );
    let late = late.timeout(SHORT);
    let next = delayed_local(|v: &Counted| v.value, (&late,));
    assert_eq!(next.compute().unwrap_err().kind(), ErrorKind::TimedOut);
    ledger.assert_settled();
    let (next, late) = compute_each((&next, &late)).unwrap();
    assert_eq!(
        (next.unwrap_err().kind(), late.map(drop).unwrap_err().kind()),
        (ErrorKind::TimedOut, ErrorKind::TimedOut)
    );
    ledger.assert_settled();
}

fn a_late_task_that_fails_is_reported_as_timed_out(_: &Subject) {
    let panics = delayed(
        || {
            wait_for_the_end();
            panic!("late")
        },
        (),
    )
    .timeout(SHORT);
    let error: sprang::Result<()> = panics.compute();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    let errs = try_delayed_local(
        || {
            wait_for_the_end();
            Err::<(), _>("late")
        },
        (),
    )
    .timeout(SHORT);
    assert_eq!(errs.compute().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(compute_each(&errs).unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
}

fn a_timeout_stops_the_run(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let slow = delayed(wait_for_the_end, ()).timeout(SHORT);
    let beside = delayed_local(move || counter.count(), ()).after(&delayed(|_: &()| (), (&slow,)));
    assert_eq!(beside.compute().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(calls.get(), 0);
}

fn a_collected_timeout_fails_only_its_dependents(_: &Subject) {
    let slow = delayed(wait_for_the_end, ()).timeout(SHORT).name("slow");
    let next = delayed(|_: &()| 1, (&slow,));
    let beside: Vec<_> = (0..20).map(|i| delayed(|i: i32| i, (i,))).collect();
    let (next, beside) = compute_each((&next, &beside)).unwrap();
    let error = next.unwrap_err();
    assert_eq!((error.kind(), error.task()), (ErrorKind::TimedOut, Some("slow")));
    assert!(beside.into_iter().zip(0..).all(|(value, i)| value.unwrap() == i));
}

fn a_run_that_takes_too_long_is_stopped_and_names_its_running_tasks(_: &Subject) {
    let slow = delayed(wait_for_the_end, ()).name("slow");
    let calls = Tally::default();
    let counter = calls.clone();
    let later = delayed_local(move |_: &()| counter.count(), (&slow,));
    let error = sprang::config::with("run_timeout", SHORT, || later.compute()).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.task()), (ErrorKind::TimedOut, None));
    let begin = format!("the run did not end within {SHORT:?}, its \"run_timeout\"");
    // On a busy machine the time may be up before the task has started.
    assert!(error.message() == begin || error.message() == format!("{begin}; running: \"slow\""), "{error}");
    assert_eq!(calls.get(), 0);
    let quick = sprang::config::with("run_timeout", Duration::from_secs(3600), || delayed(|| 1, ()).compute());
    assert_eq!(quick.unwrap().unwrap(), 1);
}

fn a_timeout_applies_to_each_attempt(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let waits_twice = delayed_local(
        move || {
            let attempt = counter.count();
            if attempt < 2 {
                wait_for_the_end();
            }
            (attempt, CancelToken::current().is_cancelled())
        },
        (),
    );
    // The third attempt needs no time. On a very busy machine a later attempt succeeds.
    let (attempt, is_cancelled) = waits_twice.timeout(SHORT).retries(1_000).compute().unwrap();
    assert!(attempt >= 2 && !is_cancelled, "attempt {attempt}, cancelled: {is_cancelled}");
    assert_eq!(calls.get(), attempt + 1);
    let error = delayed(wait_for_the_end, ()).timeout(SHORT).retries(2).compute().unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::TimedOut, 3));
}

fn a_timeout_of_one_task_does_not_cancel_another(_: &Subject) {
    let slow = delayed(wait_for_the_end, ()).timeout(SHORT);
    let sees: Vec<_> = (0..10).map(|_| delayed(|| CancelToken::current().is_cancelled(), ()).after(&slow)).collect();
    let slow_again = delayed(
        || {
            wait_for_the_end();
            1
        },
        (),
    )
    .timeout(SHORT)
    .retries(1);
    drop(sees);
    let late: Vec<_> = (0..10).map(|_| delayed(|| CancelToken::current().is_cancelled(), ())).collect();
    let (slow, late) = compute_each((&slow_again, &late)).unwrap();
    assert_eq!(slow.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(late.into_iter().all(|is_cancelled| !is_cancelled.unwrap()));
}
