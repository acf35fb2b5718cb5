//! Failures: their messages, the tasks and outputs that they reach, and those that they do not.

use super::ledger::{Counted, Ledger};
use super::{Check, Subject, Tally, check, check_here, rendezvous};
use sprang::{
    Delayed, Error, ErrorKind, Refs, compute, compute_each, config, delayed, delayed_local, persist, try_delayed,
    try_delayed_local,
};
use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check_here(an_err_fails_the_run_and_is_kept_as_the_source),
        check(a_panic_fails_the_run_with_its_message_and_place),
        check(a_failure_names_the_path_to_the_output),
        check(the_first_failure_stops_the_run),
        check(a_failed_task_fails_its_dependents_with_the_same_cause),
        check(a_task_after_a_failed_one_fails_too),
        check(with_collected_errors_tasks_that_do_not_depend_on_the_failure_finish),
        check(collected_errors_reach_compute_and_persist_as_an_error),
        check(each_of_many_failures_reaches_its_own_outputs),
        check(a_task_is_retried_up_to_its_limit),
        check(a_task_that_panics_is_retried),
        check_here(owned_inputs_are_cloned_for_each_attempt_and_moved_into_the_last),
        check(a_retry_leaks_nothing),
        check(the_executor_is_usable_at_once_after_a_failure),
        check(a_failure_harms_no_other_run),
    ]
}

#[derive(Debug, PartialEq)]
struct Spilled {
    litres: u32,
}

impl fmt::Display for Spilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} litres spilled", self.litres)
    }
}

impl std::error::Error for Spilled {}

fn spill(litres: u32) -> Result<u32, Spilled> {
    Err(Spilled { litres })
}

fn same_source(a: &Error, b: &Error) -> bool {
    let address = |error: &Error| error.source().map(|source| std::ptr::from_ref(source).addr());
    address(a).is_some() && address(a) == address(b)
}

fn an_err_fails_the_run_and_is_kept_as_the_source(_: &Subject) {
    let error = try_delayed(spill, (3_u32,)).compute().unwrap_err();
    assert_eq!((error.kind(), error.task(), error.attempts()), (ErrorKind::Failed, Some("spill"), 1));
    assert_eq!(error.message(), "3 litres spilled");
    assert_eq!(error.source().unwrap().downcast_ref::<Spilled>(), Some(&Spilled { litres: 3 }));
    assert_eq!(error.to_string(), r#"task "spill" failed: 3 litres spilled"#);
}

fn a_panic_fails_the_run_with_its_message_and_place(_: &Subject) {
    let cases: [(Delayed<u32>, &str); 3] = [
        (delayed(|| panic!("plain text"), ()), concat!("plain text (at ", file!(), ":")),
        (delayed(|n: u32| panic!("formatted {n}"), (4_u32,)), concat!("formatted 4 (at ", file!(), ":")),
        (delayed(|| std::panic::panic_any(17), ()), "a value that is not text"),
    ];
    for (task, message) in cases {
        let error = delayed(|n: &u32| n + 1, (&task.name("bad"),)).compute().unwrap_err();
        assert_eq!((error.kind(), error.task()), (ErrorKind::Panicked, Some("bad")));
        assert!(error.message().starts_with(message), "{error}");
        assert!(error.to_string().starts_with(r#"task "bad" panicked: "#), "{error}");
    }
}

fn a_failure_names_the_path_to_the_output(_: &Subject) {
    let bad = try_delayed(spill, (1_u32,)).name("bad");
    let between = delayed(|n: &u32| *n, (&bad,)).name("between");
    let last = delayed(|n: &u32| *n, (&between,)).name("last");
    let error = last.compute().unwrap_err();
    assert_eq!(error.path().collect::<Vec<_>>(), ["bad", "between", "last"]);
    assert_eq!(error.to_string(), r#"task "bad" failed: 1 litres spilled; "last" needs it through "between""#);
    let (bad, between) = compute_each((&bad, &between)).unwrap();
    assert_eq!(bad.unwrap_err().path().collect::<Vec<_>>(), ["bad"]);
    assert_eq!(between.unwrap_err().path().collect::<Vec<_>>(), ["bad", "between"]);
}

fn the_first_failure_stops_the_run(_: &Subject) {
    let calls = Tally::default();
    let bad = try_delayed(spill, (1_u32,));
    let mut chain = delayed(|_: &u32| 0_usize, (&bad,));
    let mut beside = delayed(|| 0_usize, ()).after(&bad);
    for _ in 0..100 {
        let [a, b] = [(); 2].map(|()| calls.clone());
        chain = delayed_local(move |_: &usize| a.count(), (&chain,));
        beside = delayed_local(move |_: &usize| b.count(), (&beside,));
    }
    assert_eq!(compute((&chain, &beside)).unwrap_err().message(), "1 litres spilled");
    assert_eq!(calls.get(), 0);
}

fn a_failed_task_fails_its_dependents_with_the_same_cause(_: &Subject) {
    let calls = Tally::default();
    let bad = try_delayed(spill, (5_u32,)).name("bad");
    let dependents: Vec<_> = (0..20)
        .map(|_| {
            let calls = calls.clone();
            delayed_local(move |_: &u32| calls.count(), (&bad,))
        })
        .collect();
    let last = delayed(|all: Refs<'_, usize>| all.len(), (&dependents,));
    let (bad, dependents, last) = compute_each((&bad, &dependents, &last)).unwrap();
    let cause = bad.unwrap_err();
    for error in dependents.into_iter().chain([last]).map(Result::unwrap_err) {
        assert_eq!((error.kind(), error.task(), error.message()), (cause.kind(), cause.task(), cause.message()));
        assert!(same_source(&error, &cause), "{error}");
    }
    assert_eq!(calls.get(), 0);
}

fn a_task_after_a_failed_one_fails_too(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let bad = try_delayed(spill, (5_u32,)).name("bad");
    let late = delayed_local(move || counter.count(), ()).after(&bad);
    assert_eq!(late.compute().unwrap_err().task(), Some("bad"));
    assert_eq!(compute_each(&late).unwrap().unwrap_err().task(), Some("bad"));
    assert_eq!(calls.get(), 0);
}

fn with_collected_errors_tasks_that_do_not_depend_on_the_failure_finish(_: &Subject) {
    let calls = Tally::default();
    let tasks: Vec<Delayed<u32>> = (0..100_u32)
        .map(|i| {
            let calls = calls.clone();
            let task = try_delayed_local(
                move || {
                    if i % 10 == 3 {
                        spill(i)
                    } else {
                        calls.count();
                        Ok(i)
                    }
                },
                (),
            );
            delayed(|n: &u32| n * 2, (&task,))
        })
        .collect();
    let sum = delayed(|all: Refs<'_, u32>| all.iter().sum::<u32>(), (&tasks[..3],));
    let (each, sum) = compute_each((&tasks, &sum)).unwrap();
    for (i, outcome) in (0..).zip(each) {
        match outcome {
            Ok(value) => assert_eq!((value, i % 10 != 3), (i * 2, true)),
            Err(error) => assert_eq!((error.message(), i % 10), (format!("{i} litres spilled").as_str(), 3)),
        }
    }
    assert_eq!(sum.unwrap(), 6);
    assert_eq!(calls.get(), 90);
}

fn collected_errors_reach_compute_and_persist_as_an_error(_: &Subject) {
    let _scope = config::scoped("errors", "collect").unwrap();
    let calls = Tally::default();
    let counter = calls.clone();
    let bad = try_delayed(spill, (5_u32,)).name("bad");
    let beside = delayed_local(move || counter.count(), ()).after(&delayed(|| (), ()));
    let error = compute((&bad, &beside)).unwrap_err();
    assert_eq!((error.task(), error.message()), (Some("bad"), "5 litres spilled"));
    assert_eq!(calls.get(), 1, "what does not depend on the failure was finished");
    assert_eq!(persist((&beside, &bad)).unwrap_err().task(), Some("bad"));
    assert_eq!(bad.compute().unwrap_err().task(), Some("bad"));
    assert_eq!(calls.get(), 2);
}

fn each_of_many_failures_reaches_its_own_outputs(_: &Subject) {
    let bad: Vec<_> = (0..10_u32).map(|i| try_delayed(spill, (i,)).name(format!("bad-{i}"))).collect();
    let next: Vec<_> = bad.iter().map(|bad| delayed(|n: &u32| *n, (bad,))).collect();
    let (bad, next) = compute_each((&bad, &next)).unwrap();
    for (i, error) in bad.into_iter().enumerate().chain(next.into_iter().enumerate()) {
        assert_eq!(error.unwrap_err().task(), Some(format!("bad-{i}").as_str()));
    }
}

fn a_task_is_retried_up_to_its_limit(_: &Subject) {
    for (num_bad, retries) in [(0, 3), (1, 1), (3, 3), (2, 5), (1, 0), (9, 3)] {
        let calls = Tally::default();
        let counter = calls.clone();
        let task = try_delayed_local(move || if counter.count() < num_bad { Err("not yet") } else { Ok(()) }, ());
        let outcome = task.retries(retries).compute();
        assert_eq!(calls.get(), num_bad.min(retries as usize) + 1);
        match outcome {
            Ok(()) => assert!(num_bad <= retries as usize),
            Err(error) => {
                assert!(num_bad > retries as usize);
                assert_eq!((error.message(), error.attempts()), ("not yet", retries + 1));
            }
        }
    }
}

fn a_task_that_panics_is_retried(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let task = delayed_local(move || assert!(counter.count() == 2, "not yet"), ()).retries(2);
    task.compute().unwrap();
    assert_eq!(calls.get(), 3);
}

fn owned_inputs_are_cloned_for_each_attempt_and_moved_into_the_last(_: &Subject) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let made = delayed(|| vec![1_u64, 2], ());
    let origin = delayed(
        |mut v: Vec<u64>| {
            v[0] = v.as_ptr().addr() as u64;
            v
        },
        (made,),
    );
    let task = try_delayed_local(
        move |v: Vec<u64>| {
            let mut log = log.lock().unwrap();
            log.push((v[0], v.as_ptr().addr() as u64));
            if log.len() < 4 { Err("not yet") } else { Ok(v[1]) }
        },
        (origin,),
    );
    assert_eq!(task.retries(3).compute().unwrap(), 2);
    let seen = seen.lock().unwrap();
    let moved: Vec<bool> = seen.iter().map(|(origin, here)| origin == here).collect();
    assert_eq!(moved, [false, false, false, true]);
}

fn a_retry_leaks_nothing(_: &Subject) {
    for (num_bad, retries) in [(1, 3), (3, 3), (9, 2)] {
        let ledger = Ledger::new();
        let (a, b, made, calls) = (ledger.clone(), ledger.clone(), ledger.clone(), Tally::default());
        let owned = delayed_local(move || a.value(1), ());
        let borrowed = delayed_local(move || b.value(2), ());
        let task = try_delayed_local(
            move |owned: Counted, borrowed: &Counted| {
                let value = made.value(owned.value + borrowed.value);
                match calls.count() {
                    n if n >= num_bad => Ok(value),
                    n if n % 2 == 0 => Err("not yet"),
                    _ => panic!("not yet"),
                }
            },
            (owned, &borrowed),
        );
        let last = delayed_local(|v: &Counted| v.value, (&task.retries(retries),));
        assert_eq!(last.compute().is_ok(), num_bad <= retries as usize);
        ledger.assert_settled();
        drop(compute_each((&last, &borrowed)));
        ledger.assert_settled();
    }
}

fn the_executor_is_usable_at_once_after_a_failure(_: &Subject) {
    let parts: Vec<_> = (0..20_u32).map(|i| delayed(|i: u32| i, (i,))).collect();
    let good = delayed(|all: Refs<'_, u32>| all.iter().sum::<u32>(), (&parts,));
    let err = try_delayed(|_: Refs<'_, u32>| spill(1), (&parts,));
    let panic = delayed(|_: Refs<'_, u32>| -> u32 { panic!("bad") }, (&parts,));
    for _ in 0..50 {
        assert!(err.compute().is_err());
        assert_eq!(good.compute().unwrap(), 190);
        assert!(panic.compute().is_err());
        assert_eq!(good.compute().unwrap(), 190);
    }
}

fn a_failure_harms_no_other_run(on: &Subject) {
    if on.num_workers < 2 {
        return;
    }
    let _turn = rendezvous();
    // Both runs have started when one of them fails. The other continues only after that.
    let (begun, failed) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let good = {
        let (begun, failed) = (Arc::clone(&begun), Arc::clone(&failed));
        let wait = delayed_local(
            move || {
                begun.wait();
                failed.wait();
                1
            },
            (),
        );
        let next: Vec<_> = (0..50).map(|i| delayed(|w: &i32, i: i32| w + i, (&wait, i))).collect();
        delayed(|all: Refs<'_, i32>| all.iter().sum::<i32>(), (&next,))
    };
    let bad = {
        let begun = Arc::clone(&begun);
        try_delayed_local(
            move || {
                begun.wait();
                spill(1)
            },
            (),
        )
    };
    thread::scope(|scope| {
        let bad = scope.spawn(|| {
            let _scope = on.scope();
            let error = bad.compute().unwrap_err();
            failed.wait();
            error
        });
        assert_eq!(good.compute().unwrap(), 50 + 49 * 25);
        assert_eq!(bad.join().unwrap().message(), "1 litres spilled");
    });
}
