//! Outputs: their shapes, persisted handles, and no outputs.

use super::ledger::Ledger;
use super::{Check, Subject, Tally, check, check_here};
use serde::{Deserialize, Deserializer, Serialize};
use sprang::{Delayed, ErrorKind, compute, compute_each, config, delayed, delayed_local, persist};
use std::collections::{BTreeMap, HashMap};

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check(outputs_come_in_the_shape_of_their_handles),
        check(no_outputs_give_no_values),
        check(an_input_of_an_output_can_be_an_output),
        check(a_persisted_handle_is_not_computed_again),
        check(a_persisted_value_outlives_the_graph_it_came_from),
        check(a_persisted_value_is_dropped_with_its_last_handle),
        check(persist_keeps_the_shape),
        check(check_portable_passes_values_that_survive),
        check_here(check_portable_names_the_task_whose_value_cannot_be_decoded),
        check(check_portable_names_the_task_whose_value_cannot_be_encoded),
        check_here(check_portable_shows_data_that_encoding_would_lose),
    ]
}

fn number(n: i64) -> Delayed<i64> {
    delayed(|n: i64| n, (n,))
}

fn outputs_come_in_the_shape_of_their_handles(_: &Subject) {
    let [a, b, c] = [1, 2, 3].map(number);
    let text = delayed(|a: &i64| format!("<{a}>"), (&a,));
    let map = BTreeMap::from([("one", &a), ("two", &b)]);
    let hashed = HashMap::<_, _>::from([(1, vec![&text]), (2, vec![])]);
    let shape = (&a, (b.clone(), [&c, &a]), vec![(&text, Some(&b), None::<&Delayed<String>>)], &map, &hashed, ());
    let (x, (y, z), list, map, hashed, ()) = compute(shape).unwrap();
    assert_eq!((x, y, z), (1, 2, [3, 1]));
    assert_eq!(list, [("<1>".to_string(), Some(2), None)]);
    assert_eq!(map, BTreeMap::from([("one", 1), ("two", 2)]));
    assert_eq!(hashed, HashMap::from([(1, vec!["<1>".to_string()]), (2, vec![])]));

    let twelve = compute((&a, &a, &a, &a, &b, &b, &b, &b, &c, &c, &c, &text)).unwrap();
    assert_eq!(twelve, (1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, "<1>".to_string()));
}

fn no_outputs_give_no_values(_: &Subject) {
    compute(()).unwrap();
    assert!(compute(Vec::<Delayed<i64>>::new()).unwrap().is_empty());
    assert_eq!(compute(None::<Delayed<i64>>).unwrap(), None);
    assert_eq!(compute([(); 0]).unwrap(), []);
    assert!(compute_each(Vec::<Delayed<i64>>::new()).unwrap().is_empty());
    assert!(persist(Vec::<Delayed<i64>>::new()).unwrap().is_empty());
}

fn an_input_of_an_output_can_be_an_output(_: &Subject) {
    let text = delayed(|| "a".to_string(), ());
    let owner = delayed(|text: String| text + "b", (text.clone(),));
    let last = delayed(|text: String| text + "c", (owner.clone(),));
    let expected = ("abc".to_string(), "a".to_string(), "ab".to_string(), "a".to_string());
    assert_eq!(compute((&last, &text, &owner, &text)).unwrap(), expected);
}

fn a_persisted_handle_is_not_computed_again(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let text = delayed_local(move || format!("call {}", counter.count()), ());
    let kept = text.persist().unwrap();
    assert_eq!(calls.get(), 1);
    let len = delayed(|text: &String| text.len(), (&kept,));
    let longer = delayed(|text: String| text + "!", (kept.clone(),));
    for _ in 0..3 {
        assert_eq!(compute((&kept, &len, &longer)).unwrap(), ("call 0".into(), 6, "call 0!".into()));
    }
    assert_eq!(kept.persist().unwrap().compute().unwrap(), "call 0");
    assert_eq!(calls.get(), 1);
}

fn a_persisted_value_outlives_the_graph_it_came_from(_: &Subject) {
    let ledger = Ledger::new();
    let kept = {
        let ledger = ledger.clone();
        let source = delayed_local(move || ledger.value(5), ());
        let next = delayed_local(
            |mut v: super::ledger::Counted| {
                v.value += 1;
                v
            },
            (source,),
        );
        next.persist().unwrap()
    };
    assert_eq!(ledger.num_live(), 1);
    assert_eq!(delayed_local(|v: &super::ledger::Counted| v.value, (&kept,)).compute().unwrap(), 6);
    assert_eq!(ledger.num_live(), 1);
    drop(kept);
    ledger.assert_settled();
}

fn a_persisted_value_is_dropped_with_its_last_handle(_: &Subject) {
    let ledger = Ledger::new();
    let maker = ledger.clone();
    let kept = delayed_local(move || maker.value(5), ()).persist().unwrap();
    let reader = delayed_local(|v: &super::ledger::Counted| v.value, (&kept,));
    drop(kept);
    assert_eq!(ledger.num_live(), 1, "the reader's argument is a handle too");
    assert_eq!(reader.compute().unwrap(), 5);
    drop(reader);
    ledger.assert_settled();
}

fn persist_keeps_the_shape(_: &Subject) {
    let (a, [b], c) = persist((number(1), [number(2)], vec![Some(number(3)), None])).unwrap();
    assert_eq!(compute((&a, &b, &c)).unwrap(), (1, 2, vec![Some(3), None]));
}

/// A value that cannot be decoded.
#[derive(Clone, Debug, Serialize)]
struct OneWay(u8);

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        let _ = u8::deserialize(decoder)?;
        Err(serde::de::Error::custom("there is no way back"))
    }
}

/// A value that cannot be encoded.
#[derive(Clone, Debug, Deserialize)]
struct NoWay;

impl Serialize for NoWay {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("there is no way out"))
    }
}

/// A value that loses its cache when it is encoded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Forgetful {
    kept: u32,
    #[serde(skip)]
    lost: Option<String>,
}

fn check_portable_passes_values_that_survive(_: &Subject) {
    let _scope = config::scoped("check_portable", true).unwrap();
    let a = delayed(|| vec![("x".to_string(), Some(0.5)), (String::new(), None)], ());
    let b = delayed(|a: &Vec<(String, Option<f64>)>, s: &str| (a.clone(), s.len()), (&a, "five!"));
    let c = delayed(|(a, n): (Vec<(String, Option<f64>)>, usize)| a.len() + n, (b.clone(),));
    let local = delayed_local(|a: &Vec<(String, Option<f64>)>| OneWay(a.len() as u8), (&a,));
    assert_eq!(compute((&c, &b)).unwrap().0, 7);
    assert_eq!(local.compute().unwrap().0, 2, "a local task's value goes nowhere");
}

fn check_portable_names_the_task_whose_value_cannot_be_decoded(_: &Subject) {
    let bad = delayed(|| OneWay(1), ()).name("bad");
    let reader = delayed(|bad: &OneWay| bad.0, (&bad,)).name("reader");
    assert_eq!(reader.compute().unwrap(), 1, "nobody looks without the setting");
    let _scope = config::scoped("check_portable", true).unwrap();
    let error = reader.compute().unwrap_err();
    assert_eq!((error.kind(), error.task()), (ErrorKind::NotPortable, Some("bad")));
    assert!(error.to_string().contains("OneWay"), "{error}");
}

fn check_portable_names_the_task_whose_value_cannot_be_encoded(_: &Subject) {
    let _scope = config::scoped("check_portable", true).unwrap();
    let good = delayed(|| 1, ()).name("good");
    let bad = delayed(|_: &i32| NoWay, (&good,)).name("bad");
    let (one, none) = compute_each((&good, &bad)).unwrap();
    assert_eq!(one.unwrap(), 1);
    let error = none.unwrap_err();
    assert_eq!((error.kind(), error.task()), (ErrorKind::NotPortable, Some("bad")));
}

fn check_portable_shows_data_that_encoding_would_lose(_: &Subject) {
    let whole = delayed(|| Forgetful { kept: 1, lost: Some("cache".into()) }, ());
    let seen = delayed(|value: &Forgetful| (value.kept, value.lost.is_some()), (&whole,));
    assert_eq!(seen.compute().unwrap(), (1, true));
    let _scope = config::scoped("check_portable", true).unwrap();
    assert_eq!(seen.compute().unwrap(), (1, false), "dependents see what another process would see");
}
