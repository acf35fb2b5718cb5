//! Futures whose errors other tasks take in place of values.

use crate::{of_processes, on, on_each, wait_until};
use sprang::{Client, Error, ErrorKind, Results, Status, compute, delayed, results, try_delayed};
use std::time::Duration;

fn parse(text: &str) -> Result<i64, std::num::ParseIntError> {
    text.parse()
}

fn text_of(outcome: Result<&i64, &Error>) -> String {
    outcome.map_or_else(|error| format!("{:?}: {error}", error.kind()), ToString::to_string)
}

fn texts_of(outcomes: Results<'_, i64>) -> Vec<String> {
    outcomes.iter().map(text_of).collect()
}

const BAD: &str = r#"Failed: task "parse" failed: invalid digit found in string"#;

#[test]
fn a_task_takes_the_error_of_a_future() {
    on_each("a_task_takes_the_error_of_a_future", |client| {
        let (good, bad) = (client.try_submit(parse, ("7",)), client.try_submit(parse, ("x",)));
        let texts = [&good, &bad].map(|future| client.submit(text_of, (future.as_result(),)));
        assert_eq!(client.gather(&texts).unwrap(), ["7", BAD]);
        // Now the inputs are settled when the task is submitted.
        let list = [good.clone(), bad.clone(), good.clone()];
        assert_eq!(client.submit(texts_of, (results(&list),)).result().unwrap(), ["7", BAD, "7"]);
        let option = client.submit(|x: Option<&i64>| x.copied(), (bad.as_option(),));
        assert_eq!(option.result().unwrap(), None);
        let both = client.submit(|_: Option<&i64>, x: i64| x, (bad.as_option(), bad.clone()));
        assert_eq!(both.result().unwrap_err().task(), Some("parse"));
        let late = delayed(text_of, (bad.as_result(),)).after(&bad.as_delayed());
        assert_eq!(client.compute(&late).result().unwrap_err().task(), Some("parse"));
    });
}

#[test]
fn a_sheet_of_many_futures_has_each_value_and_each_error() {
    on_each("a_sheet_of_many_futures", |client| {
        let decode = |n: u64| match n % 7 {
            0 => Err(format!("{n} is corrupt")),
            1 => panic!("{n} is odd"),
            _ => Ok(vec![n; 2000]),
        };
        let files = client.try_map(decode, 0..200_u64);
        let thumbs: Vec<_> = files.iter().map(|file| client.submit(|file: &Vec<u64>| file[1999], (file,))).collect();
        let sheet = |thumbs: Results<'_, u64>| {
            (
                thumbs.ok().copied().collect::<Vec<_>>(),
                thumbs.errors().map(|e| e.message().to_string()).collect::<Vec<_>>(),
            )
        };
        let (good, bad) = client.submit(sheet, (results(&thumbs),)).result().unwrap();
        assert_eq!(good, (0..200).filter(|n| n % 7 > 1).collect::<Vec<_>>());
        assert_eq!(bad.len(), 200 - good.len());
        assert!(bad[2].starts_with("7 is corrupt") && bad[3].starts_with("8 is odd"), "{bad:?}");
    });
}

#[test]
fn the_error_of_a_cancelled_future_is_taken() {
    on_each("the_error_of_a_cancelled_future", |client| {
        let event = client.event("go");
        let waits =
            client.try_submit(|event: &sprang::Event| event.wait().map(|()| 1_i64), (sprang::lit(event.clone()),));
        let text = client.submit(text_of, (waits.as_result(),));
        assert_eq!(text.status(), Status::Pending);
        assert!(waits.cancel());
        assert!(text.result().unwrap().starts_with("Cancelled: "), "{:?}", text.result());
        event.set().unwrap();
    });
}

#[test]
fn a_graph_fails_only_the_outputs_that_need_a_failed_future() {
    on_each("a_graph_fails_only_the_outputs", |client| {
        for is_settled in [false, true] {
            let event = client.event(&format!("go {is_settled}"));
            let fails = |event: &sprang::Event| {
                event.wait().map_err(|error| error.to_string()).and(Err::<i64, _>("late".into()))
            };
            let bad = client.try_submit(fails, (sprang::lit(event.clone()),));
            if is_settled {
                event.set().unwrap();
                assert_eq!(bad.error().unwrap().kind(), ErrorKind::Failed);
            }
            let bad_handle = bad.as_delayed();
            let text = delayed(text_of, (bad_handle.as_result(),));
            let len = delayed(|text: &String| text.len(), (&text,));
            let needs = delayed(|x: &i64| x + 1, (&bad_handle,)).name("needs");
            let (len, needs, text) = client.compute((&len, &needs, &text));
            event.set().unwrap();
            assert_eq!(needs.result().unwrap_err().path().last(), Some("needs"));
            let text = text.result().unwrap();
            assert!(text.ends_with(" failed: late"), "{text}");
            assert_eq!(len.result().unwrap(), text.len());
        }
    });
}

#[test]
fn computes_outside_the_cluster_take_the_errors_of_futures() {
    on_each("computes_outside_the_cluster", |client| {
        let bad = client.try_submit(parse, ("x",));
        let text = delayed(texts_of, (results([&bad, &client.try_submit(parse, ("3",))]),));
        for scheduler in ["sync", "threads", "processes"] {
            assert_eq!(text.compute_with(scheduler).unwrap(), [BAD, "3"]);
        }
        assert_eq!(compute(&text).unwrap(), [BAD, "3"]);
    });
}

#[test]
fn a_retried_input_gives_its_value_to_a_task_that_took_its_error() {
    on_each("a_retried_input_gives_its_value", |client| {
        let variable = client.variable::<bool>("is there").unwrap();
        let load = |is_there: &sprang::Variable<bool>| match is_there.get_timeout(Duration::ZERO) {
            Ok(Some(true)) => Ok(5_i64),
            _ => Err("not there"),
        };
        let input = client.try_submit(load, (sprang::lit(variable.clone()),));
        let strict = |outcome: Result<&i64, &Error>| outcome.copied().map_err(|error| error.message().to_string());
        let reader = client.try_submit(strict, (input.as_result(),));
        assert_eq!(reader.result().unwrap_err().message(), "not there");
        variable.set(true).unwrap();
        assert!(reader.retry().unwrap());
        assert_eq!(reader.result().unwrap(), 5);
    });
}

#[test]
fn nested_tasks_take_errors() {
    fn nested(depth: u32) -> Result<Vec<String>, Error> {
        let client = Client::current().expect("a task has a client");
        let parsed = client.try_map(parse, ["7", "x", "9"]);
        let mut texts = client.submit(texts_of, (results(&parsed),)).result()?;
        // Settled inputs, and a graph.
        texts.push(client.submit(text_of, (parsed[1].as_result(),)).result()?);
        let bad = try_delayed(parse, ("y",));
        texts.push(client.compute(&delayed(text_of, (bad.as_result(),))).result()?);
        if depth > 0 {
            texts.extend(client.try_submit(nested, (depth - 1,)).result()?);
        }
        Ok(texts)
    }
    on_each("nested_tasks_take_errors", |client| {
        let texts = client.try_submit(nested, (2_u32,)).result().unwrap();
        let expected = ["7", BAD, "9", BAD, BAD];
        assert_eq!(texts, [expected; 3].concat());
        wait_until("nothing is left", || client.num_pending() == 0);
    });
}

#[test]
fn an_error_that_crosses_to_a_nested_task_is_that_of_the_submitter() {
    fn submits() -> Result<(String, String, u32, u32), Error> {
        let client = Client::current().expect("a task has a client");
        let bad = client.try_submit(parse, ("x",));
        let own = format!("{:#}", bad.error().expect("it fails"));
        let report = |outcome: Result<&i64, &Error>| (format!("{:#}", outcome.unwrap_err()), std::process::id());
        // Other tasks keep this process busy.
        let seen = client.map(|n: u64| std::thread::sleep(Duration::from_millis(n)), [20_u64; 2]);
        let (taken, pid) = client.submit(report, (bad.as_result(),)).result()?;
        client.gather(&seen)?;
        Ok((own, taken, pid, std::process::id()))
    }
    on("an_error_that_crosses", of_processes(3), |client| {
        let (own, taken, pid, own_pid) = client.try_submit(submits, ()).result().unwrap();
        assert_eq!(own, taken);
        assert_ne!(pid, own_pid, "it was forwarded");
    });
}
