//! Which failures are tried again, and when.

use super::{Check, Subject, Tally, check};
use sprang::{
    Backoff, CancelToken, Error, ErrorKind, compute, compute_each, config, delayed, delayed_local, try_delayed,
    try_delayed_local,
};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);
/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(3600);

pub(super) fn checks() -> Vec<Check> {
    vec![
        check(a_failure_that_retry_if_refuses_is_not_tried_again),
        check(retry_if_gets_the_kind_the_message_and_the_attempts),
        check(a_retry_if_that_panics_ends_the_retries),
        check(a_portable_task_obeys_retry_if),
        check(a_refused_task_leaves_its_inputs_to_others),
        check(a_retry_waits_for_its_delay),
        check(dependents_of_a_task_that_waits_run_after_it),
        check(cancelling_ends_a_wait_at_once),
        check(a_failure_ends_the_wait_of_another_task),
        check(the_settings_apply_to_tasks_without_options_of_their_own),
    ]
}

fn a_failure_that_retry_if_refuses_is_not_tried_again(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let corrupt = move || {
        counter.count();
        Err::<u32, _>("the file is corrupt")
    };
    let task = try_delayed_local(corrupt, ()).retries(5).retry_if(|error| error.message().contains("busy"));
    let error = task.compute().unwrap_err();
    assert_eq!((error.message(), error.attempts(), calls.get()), ("the file is corrupt", 1, 1));
}

fn retry_if_gets_the_kind_the_message_and_the_attempts(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let by_turns = move || match counter.count() {
        0 => Err("busy"),
        1 => panic!("out of cheese"),
        _ => Err("corrupt"),
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let note = move |error: &Error| {
        log.lock().unwrap().push((error.kind(), error.task().map(str::to_owned), error.attempts()));
        error.message() != "corrupt"
    };
    let error = try_delayed_local(move || by_turns().map(|(): ()| 1), ()).name("turns").retries(9).retry_if(note);
    let error = error.compute().unwrap_err();
    assert_eq!((error.message(), error.attempts(), calls.get()), ("corrupt", 3, 3));
    let name = Some("turns".to_owned());
    let expected = [(ErrorKind::Failed, 1), (ErrorKind::Panicked, 2), (ErrorKind::Failed, 3)];
    assert_eq!(*seen.lock().unwrap(), expected.map(|(kind, attempts)| (kind, name.clone(), attempts)));
    assert_eq!(error.attempt_kinds(), expected.map(|(kind, _)| kind));
    assert!(error.to_string().ends_with("after 3 attempts (1 and 3 failed; 2 panicked)"), "{error}");
}

fn a_retry_if_that_panics_ends_the_retries(_: &Subject) {
    let task = try_delayed_local(|| Err::<u32, _>("busy"), ()).retries(3).retry_if(|_| panic!("confused"));
    let error = task.compute().unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Failed, 1));
    assert!(error.message().starts_with("busy; its `retry_if` panicked: confused"), "{error}");
}

fn a_portable_task_obeys_retry_if(_: &Subject) {
    let asked = Tally::default();
    let counter = asked.clone();
    let task = try_delayed(|text: &str| text.parse::<u32>(), ("x",)).name("parse").retries(9);
    let error = task.retry_if(move |error| error.kind() == ErrorKind::Failed && counter.count() < 2).compute();
    let error = error.unwrap_err();
    assert_eq!((error.message(), error.attempts()), ("invalid digit found in string", 3));
    assert_eq!(asked.get(), 3);
}

fn a_refused_task_leaves_its_inputs_to_others(_: &Subject) {
    let data = delayed(|| vec![1_u64, 2], ());
    let refuses = try_delayed_local(|_: Vec<u64>| Err::<u64, _>("no"), (data.clone(),));
    let refuses = refuses.retries(3).retry_if(|_| false);
    let reads = delayed_local(|data: &Vec<u64>| data.iter().sum::<u64>(), (&data,));
    let (refused, sum) = compute_each((&refuses, &reads)).unwrap();
    assert_eq!((refused.unwrap_err().message(), sum.unwrap()), ("no", 3));
}

fn a_retry_waits_for_its_delay(_: &Subject) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&times);
    let flaky = move || {
        let mut times = log.lock().unwrap();
        times.push(Instant::now());
        if times.len() < 3 { Err("not yet") } else { Ok(times.len()) }
    };
    let backoff = Backoff::exponential(SHORT).jitter(0.0);
    assert_eq!(try_delayed_local(flaky, ()).retries(2).retry_delay(backoff).compute().unwrap(), 3);
    let times = times.lock().unwrap();
    assert!(times[1] - times[0] >= SHORT && times[2] - times[1] >= 2 * SHORT, "{times:?}");
}

fn dependents_of_a_task_that_waits_run_after_it(_: &Subject) {
    let flaky = |i: usize| {
        let calls = Tally::default();
        let body = move |x: &usize| if calls.count() < 2 { Err("not yet") } else { Ok(10 * x + i) };
        try_delayed_local(body, (&delayed(|i: usize| i, (i,)),)).retries(2).retry_delay(Duration::from_millis(1))
    };
    let flaky: Vec<_> = (0..20).map(flaky).collect();
    let next: Vec<_> = flaky.iter().map(|task| delayed_local(|x: &usize| x + 1, (task,))).collect();
    let beside: Vec<_> = (0..20_usize).map(|i| delayed(|i: usize| i, (i,))).collect();
    let sum = delayed_local(|all| all.iter().sum::<usize>(), (&flaky,));
    let (next, sum, beside) = compute((&next, &sum, &beside)).unwrap();
    assert_eq!(next, (0..20).map(|i| 11 * i + 1).collect::<Vec<_>>());
    assert_eq!((sum, beside), (11 * 190, (0..20).collect()));
}

fn cancelling_ends_a_wait_at_once(_: &Subject) {
    for is_portable in [false, true] {
        let (sender, failures) = mpsc::channel();
        let note = move |_: &Error| sender.send(()).is_ok();
        let task = match is_portable {
            false => try_delayed_local(|| Err::<u32, _>("not yet"), ()),
            true => try_delayed(|| Err::<u32, _>("not yet"), ()),
        };
        let task = task.retries(9).retry_if(note).retry_delay(LONG);
        let token = CancelToken::new();
        let error = std::thread::scope(|scope| {
            let remote = token.clone();
            scope.spawn(move || {
                failures.recv().unwrap();
                remote.cancel();
            });
            // A second task, so that the graph is no chain.
            token.scope(|| compute((&task, &delayed(|| 1, ()))).unwrap_err())
        });
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}

fn a_failure_ends_the_wait_of_another_task(subject: &Subject) {
    // On one thread the tasks run one after the other.
    if subject.num_workers < 2 {
        return;
    }
    let (sender, failures) = mpsc::channel();
    let note = move |_: &Error| sender.send(()).is_ok();
    let waits = try_delayed_local(|| Err::<u32, _>("not yet"), ()).retries(9).retry_if(note).retry_delay(LONG);
    let failures = Mutex::new(failures);
    let fails = move || {
        failures.lock().unwrap().recv().unwrap();
        Err::<u32, _>("for good")
    };
    let error = compute((&waits, &try_delayed_local(fails, ()))).unwrap_err();
    assert_eq!(error.message(), "for good");
}

fn the_settings_apply_to_tasks_without_options_of_their_own(_: &Subject) {
    let _scope = config::scoped("retries", 2).unwrap().and("retry_delay", Duration::from_millis(1)).unwrap();
    let flaky = |num_bad: usize| {
        let calls = Tally::default();
        try_delayed_local(move || if calls.count() < num_bad { Err("not yet") } else { Ok(num_bad) }, ())
    };
    let plain = compute_each([flaky(0), flaky(2), flaky(3)]).unwrap().map(|outcome| outcome.is_ok());
    assert_eq!(plain, [true, true, false]);
    let own = compute_each([flaky(1).retries(0), flaky(5).retries(5)]).unwrap().map(|outcome| outcome.is_ok());
    assert_eq!(own, [false, true]);
    let portable = try_delayed(|| "x".parse::<u32>(), ()).compute().unwrap_err();
    assert_eq!(portable.attempts(), 3);
}
