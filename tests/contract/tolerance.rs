//! Tasks that take the errors of their inputs in place of values.

use super::ledger::{Counted, Ledger};
use super::{Check, Subject, Tally, check, check_here};
use sprang::{
    CancelToken, Delayed, Error, ErrorKind, Results, compute, compute_each, config, delayed, delayed_local,
    persist_each, prepare, results, try_delayed, try_delayed_local,
};
use std::fmt;

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check(a_task_takes_the_value_or_the_error_of_an_input),
        check(a_list_has_an_outcome_for_each_task),
        check(arguments_that_take_errors_have_any_shape),
        check(the_error_reads_as_that_of_the_output),
        check(the_error_of_a_skipped_input_is_that_of_the_failed_task),
        check(a_failure_that_is_only_taken_stops_nothing),
        check(an_output_that_fails_fails_the_run_though_another_task_takes_its_error),
        check(a_task_that_needs_an_input_in_another_way_fails_with_it),
        check(a_task_that_only_comes_after_a_failed_one_fails_with_it),
        check(a_task_that_takes_an_error_can_fail_and_can_be_retried),
        check_here(the_attempts_of_a_task_get_the_same_errors),
        check_here(an_error_lives_as_long_as_its_last_reader),
        check_here(values_beside_errors_are_dropped_once),
        check(no_task_gets_the_error_of_a_cancelled_run),
        check(timeouts_and_exhausted_retries_are_taken),
        check(a_prepared_graph_is_tolerant_in_each_run),
        check(each_output_that_works_is_persisted),
        check(a_sheet_of_many_has_each_value_and_each_error),
        check(chains_of_tolerant_tasks_go_on_after_each_failure),
    ]
}

fn parse(text: &str) -> Result<i64, std::num::ParseIntError> {
    text.parse()
}

fn text_of(outcome: Result<&i64, &Error>) -> String {
    match outcome {
        Ok(value) => value.to_string(),
        Err(error) => format!("{:?}: {error} [{}]", error.kind(), error.path().collect::<Vec<_>>().join(" ")),
    }
}

fn texts_of(outcomes: Results<'_, i64>) -> Vec<String> {
    outcomes.iter().map(text_of).collect()
}

const BAD: &str = r#"Failed: task "bad" failed: invalid digit found in string [bad]"#;

fn good(value: i64) -> Delayed<i64> {
    delayed(|value: i64| value, (value,))
}

fn bad() -> Delayed<i64> {
    try_delayed(parse, ("x",)).name("bad")
}

fn a_task_takes_the_value_or_the_error_of_an_input(_: &Subject) {
    let (good, bad) = (good(7), bad());
    let panics = delayed(|| -> i64 { panic!("oh") }, ()).name("panics");
    let texts = [&good, &bad, &panics].map(|input| delayed(text_of, (input.as_result(),)));
    let [of_good, of_bad, of_panic] = compute(&texts).unwrap();
    assert_eq!([of_good, of_bad], ["7", BAD]);
    assert!(of_panic.starts_with(r#"Panicked: task "panics" panicked: oh (at "#), "{of_panic}");
    let options = [&good, &bad].map(|input| delayed(|x: Option<&i64>| x.copied(), (input.as_option(),)));
    assert_eq!(compute(&options).unwrap(), [Some(7), None]);
}

fn a_list_has_an_outcome_for_each_task(_: &Subject) {
    let (seven, bad) = (good(7), bad());
    let list = vec![seven.clone(), bad.clone(), seven.clone(), bad];
    assert_eq!(delayed(texts_of, (results(&list),)).compute().unwrap(), ["7", BAD, "7", BAD]);
    let counts = |outcomes: Results<'_, i64>| {
        let (len, back) = (outcomes.len(), outcomes.iter().next_back().is_some_and(|last| last.is_err()));
        let all_worked = outcomes.into_iter().collect::<Result<Vec<_>, _>>().is_ok();
        (len, outcomes.ok().sum::<i64>(), outcomes.errors().count(), back, outcomes.get(9).is_none(), all_worked)
    };
    assert_eq!(delayed(counts, (results(list),)).compute().unwrap(), (4, 14, 2, true, true, false));
    let none: [&Delayed<i64>; 0] = [];
    assert!(delayed(|outcomes: Results<'_, i64>| outcomes.is_empty(), (results(none),)).compute().unwrap());
}

fn arguments_that_take_errors_have_any_shape(_: &Subject) {
    let (seven, bad) = (good(7), bad());
    let pair = |(a, b): (&i64, Result<&i64, &Error>), owned: i64, list: Vec<Option<&i64>>, n: i64| {
        (*a + owned + n, b.is_err(), list.into_iter().flatten().sum::<i64>())
    };
    let list = vec![seven.as_option(), bad.as_option(), seven.as_option()];
    let task = delayed(pair, ((&seven, bad.as_result()), seven.clone(), list, 1_i64));
    assert_eq!(task.compute().unwrap(), (15, true, 14));
}

fn the_error_reads_as_that_of_the_output(_: &Subject) {
    let report = |outcome: Result<&i64, &Error>| outcome.err().map(|error| format!("{error:#}"));
    let causes = || {
        let cause = std::io::Error::other("the disk is gone");
        Err::<i64, _>(Box::<dyn std::error::Error + Send + Sync>::from(cause))
    };
    for input in [bad(), try_delayed(causes, ()).name("load"), delayed(|_: &i64| 1, (&bad(),)).name("next")] {
        let (own, taken) = compute_each((&input, delayed(report, (input.as_result(),)))).unwrap();
        assert_eq!(taken.unwrap(), Some(format!("{:#}", own.unwrap_err())));
    }
}

fn the_error_of_a_skipped_input_is_that_of_the_failed_task(_: &Subject) {
    let calls = |x: &i64| -> i64 { panic!("called with {x}") };
    let between = delayed(calls, (&bad(),)).name("between");
    let last = delayed(calls, (&between,)).name("last");
    let text = delayed(text_of, (last.as_result(),));
    let expected = r#"Failed: task "bad" failed: invalid digit found in string; "last" needs it through "between" [bad between last]"#;
    assert_eq!(text.compute().unwrap(), expected);
    assert_eq!(compute_each((&text, &last)).unwrap().0.unwrap(), expected);
}

fn a_failure_that_is_only_taken_stops_nothing(_: &Subject) {
    let bad = bad();
    let mut chain = good(0).after(&delayed(text_of, (bad.as_result(),)));
    for _ in 0..50 {
        chain = delayed(|n: &i64| n + 1, (&chain,));
    }
    assert_eq!(compute((&chain, delayed(text_of, (bad.as_result(),)))).unwrap(), (50, BAD.into()));
}

fn an_output_that_fails_fails_the_run_though_another_task_takes_its_error(_: &Subject) {
    let bad = bad();
    let text = delayed(text_of, (bad.as_result(),));
    assert_eq!(compute((&text, &bad)).unwrap_err().task(), Some("bad"));
    let (text, own) = compute_each((&text, &bad)).unwrap();
    assert_eq!((text.unwrap(), own.unwrap_err().task()), (BAD.into(), Some("bad")));
    let collected = config::with("errors", "collect", || compute((&delayed(text_of, (bad.as_result(),)), &bad)));
    assert_eq!(collected.unwrap().unwrap_err().task(), Some("bad"));
}

fn a_task_that_needs_an_input_in_another_way_fails_with_it(_: &Subject) {
    let bad = bad();
    let both = delayed(|_: Result<&i64, &Error>, _: &i64| 1_i64, (bad.as_result(), &bad)).name("both");
    let error = both.compute().unwrap_err();
    assert_eq!(error.path().collect::<Vec<_>>(), ["bad", "both"]);
    let text = delayed(text_of, (both.as_result(),));
    assert!(text.compute().unwrap().ends_with("[bad both]"));
}

fn a_task_that_only_comes_after_a_failed_one_fails_with_it(_: &Subject) {
    let bad = bad();
    let late = delayed(|_: Result<&i64, &Error>| 1_i64, (bad.as_result(),)).after(&bad).name("late");
    assert_eq!(late.compute().unwrap_err().path().collect::<Vec<_>>(), ["bad", "late"]);
}

fn a_task_that_takes_an_error_can_fail_and_can_be_retried(_: &Subject) {
    let pass_on = |outcome: Result<&i64, &Error>| outcome.copied().map_err(Error::clone);
    let passed = try_delayed(pass_on, (bad().as_result(),)).name("passed").retries(2);
    let error = passed.compute().unwrap_err();
    assert_eq!((error.task(), error.attempts()), (Some("passed"), 3));
    assert_eq!(error.message(), r#"task "bad" failed: invalid digit found in string"#);
    let text = delayed(text_of, (passed.as_result(),)).compute().unwrap();
    assert!(text.contains("after 3 attempts"), "{text}");
}

fn the_attempts_of_a_task_get_the_same_errors(_: &Subject) {
    let calls = Tally::default();
    let counted = calls.clone();
    let flaky = move |outcome: Result<&i64, &Error>| match counted.count() {
        0 | 1 => Err("not yet"),
        _ => Ok(text_of(outcome)),
    };
    assert_eq!(try_delayed_local(flaky, (bad().as_result(),)).retries(2).compute().unwrap(), BAD);
    assert_eq!(calls.get(), 3);
}

struct Spilled(Counted);

impl fmt::Debug for Spilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} litres", self.0.value)
    }
}

impl fmt::Display for Spilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} litres spilled", self.0.value)
    }
}

impl std::error::Error for Spilled {}

/// Fails with an error that the ledger counts.
fn spills(ledger: &Ledger, litres: i64) -> Delayed<i64> {
    let ledger = ledger.clone();
    try_delayed_local(move || Err::<i64, _>(Spilled(ledger.value(litres))), ())
}

fn an_error_lives_as_long_as_its_last_reader(_: &Subject) {
    let ledger = Ledger::new();
    let failed = spills(&ledger, 3);
    let num_live = |ledger: &Ledger| {
        let ledger = ledger.clone();
        move |outcome: Result<&i64, &Error>| (outcome.is_err(), ledger.num_live())
    };
    let one = delayed_local(num_live(&ledger), (failed.as_result(),));
    let two = delayed_local(num_live(&ledger), (failed.as_result(),)).after(&one);
    let skipped = delayed_local(|x: &i64| *x, (&failed,));
    let three = delayed_local(|outcome: Result<&i64, &Error>| outcome.is_err(), (skipped.as_result(),));
    let later = {
        let ledger = ledger.clone();
        delayed_local(move || ledger.num_live(), ()).after(&two).after(&three)
    };
    assert_eq!(compute((&one, &two, &later)).unwrap(), ((true, 1), (true, 1), 0));
    assert_eq!(ledger.num_live(), 0);
    // Without readers it is not kept at all, and an output keeps it until the end.
    let unread = {
        let ledger = ledger.clone();
        delayed_local(move || ledger.num_live(), ()).after(&three)
    };
    assert_eq!(compute(&unread).unwrap(), 0);
    let (own, taken) = compute_each((&failed, &one)).unwrap();
    assert_eq!((ledger.num_live(), taken.unwrap()), (1, (true, 1)));
    drop(own);
    ledger.assert_settled();
}

fn values_beside_errors_are_dropped_once(_: &Subject) {
    let ledger = Ledger::new();
    let value = {
        let ledger = ledger.clone();
        delayed_local(move || ledger.value(5), ())
    };
    let list: Vec<_> = (0..20)
        .map(|i| {
            let maybe = move |value: &Counted| if i % 3 == 0 { Err("third") } else { Ok(value.clone()) };
            try_delayed_local(maybe, (&value,))
        })
        .collect();
    let sum = |outcomes: Results<'_, Counted>| outcomes.ok().map(|value| value.value).sum::<i64>();
    let panics = |outcomes: Results<'_, Counted>| -> i64 { panic!("{} failed", outcomes.errors().count()) };
    let sum = delayed_local(sum, (results(&list),));
    let panics = delayed_local(panics, (results(&list),));
    let first = delayed_local(|value: Option<&Counted>| value.map_or(0, |value| value.value), (list[1].as_option(),));
    let (sum, panicked, first) = compute_each((&sum, &panics, &first)).unwrap();
    assert_eq!((sum.unwrap(), first.unwrap()), (65, 5));
    assert!(panicked.unwrap_err().message().starts_with("7 failed"));
    ledger.assert_settled();
}

fn no_task_gets_the_error_of_a_cancelled_run(_: &Subject) {
    let calls = Tally::default();
    let token = CancelToken::new();
    let (cancels, counted) = (token.clone(), calls.clone());
    let cancel = try_delayed_local(
        move || {
            cancels.cancel();
            Err::<i64, _>("cancelled meanwhile")
        },
        (),
    );
    let reader = delayed_local(move |_: Option<&i64>| counted.count(), (cancel.as_option(),));
    let error = token.scope(|| reader.compute()).unwrap_err();
    assert_eq!((error.kind(), calls.get()), (ErrorKind::Cancelled, 0));
}

fn timeouts_and_exhausted_retries_are_taken(_: &Subject) {
    let slow = || {
        while !CancelToken::current().is_cancelled() {
            std::thread::yield_now();
        }
        1_i64
    };
    let slow = delayed(slow, ()).timeout(std::time::Duration::from_millis(2)).name("slow");
    let flaky = try_delayed(parse, ("y",)).retries(1).name("flaky");
    let texts = delayed(texts_of, (results([&slow, &flaky]),)).compute().unwrap();
    assert!(texts[0].starts_with(r#"TimedOut: task "slow" timed out"#), "{texts:?}");
    assert!(texts[1].contains("after 2 attempts"), "{texts:?}");
}

fn a_prepared_graph_is_tolerant_in_each_run(_: &Subject) {
    let list = [good(1), bad(), good(3)];
    let plan = prepare(delayed(texts_of, (results(&list),))).unwrap();
    for _ in 0..3 {
        assert_eq!(plan.compute().unwrap(), ["1", BAD, "3"]);
    }
}

fn each_output_that_works_is_persisted(_: &Subject) {
    let calls = Tally::default();
    let counted = calls.clone();
    let first = delayed_local(move || counted.count() as i64, ());
    let failed = bad();
    let (list, pair) = persist_each((&[first, failed.clone(), good(3)], (&good(4), &failed))).unwrap();
    assert_eq!(calls.get(), 1);
    let [first, failed, third] = list;
    assert_eq!((failed.unwrap_err().task(), pair.1.unwrap_err().task()), (Some("bad"), Some("bad")));
    let sum = delayed(|a: &i64, b: &i64, c: &i64| a + b + c, (&first.unwrap(), &third.unwrap(), &pair.0.unwrap()));
    assert_eq!((sum.compute().unwrap(), calls.get()), (7, 1));
    let prepared = prepare([good(1), bad()]).unwrap();
    let [one, two] = prepared.persist_each().unwrap();
    assert_eq!((one.unwrap().compute().unwrap(), two.is_err()), (1, true));
}

fn decode(n: u64) -> Result<Vec<u64>, String> {
    match n % 7 {
        0 => Err(format!("file {n} is corrupt")),
        1 if n.is_multiple_of(2) => panic!("file {n} is odd"),
        _ => Ok(vec![n; 3]),
    }
}

fn a_sheet_of_many_has_each_value_and_each_error(_: &Subject) {
    let decoded: Vec<_> = (0..300_u64).map(|n| try_delayed(decode, (n,))).collect();
    let thumbs: Vec<_> = decoded.iter().map(|d| delayed(|d: &Vec<u64>| d[0], (d,))).collect();
    let sheet = |thumbs: Results<'_, u64>| {
        let of = |outcome: Result<&u64, &Error>| match outcome {
            Ok(n) => n.to_string(),
            Err(error) => error.message().split(" (at").next().unwrap().to_string(),
        };
        thumbs.iter().map(of).collect::<Vec<_>>()
    };
    let expected: Vec<_> = (0..300_u64)
        .map(|n| match (n % 7, n % 2) {
            (0, _) => format!("file {n} is corrupt"),
            (1, 0) => format!("file {n} is odd"),
            _ => n.to_string(),
        })
        .collect();
    let sheet = delayed(sheet, (results(&thumbs),));
    for _ in 0..2 {
        assert_eq!(sheet.compute().unwrap(), expected);
    }
}

fn chains_of_tolerant_tasks_go_on_after_each_failure(_: &Subject) {
    let step = |before: Result<&u64, &Error>, i: u64| {
        let count = match before {
            Ok(count) => *count,
            Err(error) => error.message().parse::<u64>().unwrap(),
        };
        if i.is_multiple_of(5) { Err((count + 1).to_string()) } else { Ok(count + 1) }
    };
    let mut chain = delayed(|| 0_u64, ());
    for i in 1..=999_u64 {
        chain = try_delayed(step, (chain.as_result(), i));
    }
    assert_eq!(chain.compute().unwrap(), 999);
}
