//! Large graphs, and random ones against a recursive evaluator.

use crate::pool;
use crate::watchdog::watched;
use proptest::prelude::*;
use proptest::sample::Index;
use serde::{Deserialize, Serialize};
use sprang::{Delayed, Error, Refs, Results, Scheduler, compute_each, config, delayed, results, try_delayed};
use std::sync::Arc;

#[test]
fn two_hundred_thousand_tasks_give_the_right_sum() {
    watched("200 000 tasks", || {
        let leaves: Vec<Delayed<u64>> = (0..180_000_u64).map(|i| delayed(|i: u64| i, (i,))).collect();
        let mut level = leaves;
        while level.len() > 1 {
            level = level.chunks(10).map(|part| delayed(|part: Refs<'_, u64>| part.iter().sum(), (part,))).collect();
        }
        assert_eq!(level[0].compute_with(pool()).unwrap(), 179_999 * 180_000 / 2);
    });
}

#[test]
fn a_chain_of_a_hundred_thousand_tasks_ends() {
    watched("a chain of 100 000", || {
        let mut last = delayed(|| 0_u64, ());
        for i in 0..100_000_u64 {
            last = delayed(|before: &u64, i: u64| before.wrapping_mul(3) ^ i, (&last, i));
        }
        let expected = (0..100_000).fold(0_u64, |before, i| before.wrapping_mul(3) ^ i);
        assert_eq!(last.compute_with(pool()).unwrap(), expected);
    });
}

/// One task: the number it adds, its fate, its inputs, and the size of its value.
#[derive(Clone, Debug)]
struct Spec {
    number: i64,
    size: usize,
    fate: u8,
    borrowed: Option<Index>,
    owned: Option<Index>,
    borrowed_list: Vec<Index>,
    owned_list: Vec<Index>,
    /// Its errors are taken in place of its values.
    tolerated: Vec<Index>,
    after: Option<Index>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Blob {
    number: i64,
    ballast: String,
}

impl Spec {
    fn inputs(&self) -> impl Iterator<Item = &Index> {
        self.borrowed.iter().chain(&self.owned).chain(&self.borrowed_list).chain(&self.owned_list)
    }
}

prop_compose! {
    fn spec(num_fates: u8)(
        number in any::<i64>(),
        size in prop_oneof![8 => 0..20_usize, 2 => 3000..6000_usize, 1 => 60_000..70_000_usize],
        fate in 0..num_fates,
        borrowed in any::<Option<Index>>(),
        owned in any::<Option<Index>>(),
        borrowed_list in prop::collection::vec(any::<Index>(), 0..4),
        owned_list in prop::collection::vec(any::<Index>(), 0..3),
        tolerated in prop::collection::vec(any::<Index>(), 0..3),
        after in any::<Option<Index>>(),
    ) -> Spec {
        Spec { number, size, fate, borrowed, owned, borrowed_list, owned_list, tolerated, after }
    }
}

const ERRS: u8 = 18;
const PANICS: u8 = 19;

fn mix(sum: i64, value: &Blob) -> i64 {
    sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(value.number).rotate_left(7) ^ value.ballast.len() as i64
}

/// The number that a task makes of an error that it takes.
fn mix_failure(sum: i64, cause: usize) -> i64 {
    sum.rotate_left(3) ^ cause as i64
}

fn step(
    (number, size, fate): (i64, usize, u8),
    borrowed: Option<&Blob>,
    owned: Option<Blob>,
    borrowed_list: Refs<'_, Blob>,
    owned_list: Vec<Blob>,
    tolerated: Results<'_, Blob>,
) -> Result<Blob, String> {
    match fate {
        ERRS => return Err("errs".to_owned()),
        PANICS => panic!("panics"),
        _ => {}
    }
    let values = borrowed.into_iter().chain(&owned).chain(borrowed_list.iter()).chain(&owned_list);
    let cause = |error: &Error| error.task().unwrap().parse().unwrap();
    let number = tolerated.iter().fold(values.fold(number, mix), |sum, outcome| match outcome {
        Ok(value) => mix(sum, value),
        Err(error) => mix_failure(sum, cause(error)),
    });
    Ok(Blob { number, ballast: "b".repeat(size) })
}

fn build(graph: &[Spec]) -> Vec<Delayed<Blob>> {
    let mut tasks: Vec<Delayed<Blob>> = Vec::new();
    for (i, spec) in graph.iter().enumerate() {
        let get = |index: &Index| tasks[index.index(i)].clone();
        let task = if i == 0 {
            let none: [Delayed<Blob>; 0] = [];
            let (borrowed, owned) = (None::<&Delayed<Blob>>, None::<Delayed<Blob>>);
            let lists = (&none, Vec::<Delayed<Blob>>::new(), results(&none));
            try_delayed(step, ((spec.number, spec.size, spec.fate), borrowed, owned, lists.0, lists.1, lists.2))
        } else {
            let borrowed_list: Vec<_> = spec.borrowed_list.iter().map(get).collect();
            let owned_list: Vec<_> = spec.owned_list.iter().map(get).collect();
            let (borrowed, owned) = (spec.borrowed.as_ref().map(get), spec.owned.as_ref().map(get));
            let tolerated = results(spec.tolerated.iter().map(get));
            let borrowed = borrowed.as_ref();
            let own = (spec.number, spec.size, spec.fate);
            let arguments = (own, borrowed, owned, &borrowed_list, owned_list, tolerated);
            let task = try_delayed(step, arguments);
            match &spec.after {
                Some(before) => task.after(&get(before)),
                None => task,
            }
        };
        tasks.push(task.name(i.to_string()));
    }
    tasks
}

/// The value of a task, or the task that caused its failure: the cause of the first input that it
/// needs and that has no value.
fn evaluate(graph: &[Spec], i: usize, memo: &mut [Option<Result<Blob, usize>>]) -> Result<Blob, usize> {
    if memo[i].is_none() {
        let spec = &graph[i];
        let mut inputs = Vec::new();
        let mut before = None;
        if i > 0 {
            inputs.extend(spec.inputs().map(|input| evaluate(graph, input.index(i), memo)));
            before = spec.after.as_ref().map(|before| evaluate(graph, before.index(i), memo));
        }
        let sum = inputs.into_iter().try_fold(spec.number, |sum, value| value.map(|value| mix(sum, &value)));
        let tolerated = if i > 0 { &spec.tolerated[..] } else { &[] };
        let tolerated: Vec<_> = tolerated.iter().map(|input| evaluate(graph, input.index(i), memo)).collect();
        let sum = sum.map(|sum| {
            tolerated.iter().fold(sum, |sum, outcome| match outcome {
                Ok(value) => mix(sum, value),
                Err(cause) => mix_failure(sum, *cause),
            })
        });
        let sum = sum.and_then(|sum| before.transpose().map(|_| sum));
        let value = sum.map(|number| Blob { number, ballast: "b".repeat(spec.size) });
        memo[i] = Some(value.and_then(|value| if spec.fate >= ERRS { Err(i) } else { Ok(value) }));
    }
    memo[i].clone().unwrap()
}

fn check(graph: &[Spec], outputs: &[Index], num_schedulers: usize) -> Result<(), TestCaseError> {
    let tasks = build(graph);
    let outputs: Vec<usize> = outputs.iter().map(|output| output.index(graph.len())).chain([graph.len() - 1]).collect();
    let mut memo = vec![None; graph.len()];
    let expected: Vec<_> = outputs.iter().map(|&output| evaluate(graph, output, &mut memo)).collect();
    let wanted: Vec<_> = outputs.iter().map(|&output| &tasks[output]).collect();
    let schedulers = [Scheduler::Sync, Scheduler::Threads, Scheduler::Custom(pool())];
    for scheduler in &schedulers[..num_schedulers] {
        let values = config::with("scheduler", scheduler.clone(), || compute_each(&wanted)).unwrap().unwrap();
        for (value, expected) in values.into_iter().zip(&expected) {
            let value = value.map_err(|error| error.task().and_then(|name| name.parse::<usize>().ok()).unwrap());
            let cause = |value: &Result<Blob, usize>| value.as_ref().err().copied();
            prop_assert!(&value == expected, "on {scheduler}: {:?}, expected {:?}", cause(&value), cause(expected));
        }
    }
    Ok(())
}

fn cases(name: &str, num_cases: u32, num_fates: u8) {
    watched(name, || {
        let graph = prop::collection::vec(spec(num_fates), 1..60);
        let outputs = prop::collection::vec(any::<Index>(), 0..4);
        let config = ProptestConfig { cases: num_cases, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = proptest::test_runner::TestRunner::new(config);
        let checked = runner.run(&(graph, outputs), |(graph, outputs)| check(&graph, &outputs, 3));
        checked.unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn random_graphs_of_portable_tasks_give_equal_results_on_every_executor() {
    cases("random graphs", 60, ERRS);
}

#[test]
fn random_graphs_with_failing_tasks_fail_alike_on_every_executor() {
    cases("random graphs with failures", 60, PANICS + 1);
}

#[test]
fn two_processes_executors_may_share_a_graph() {
    watched("one graph on two executors at once", || {
        let mut last: Vec<Delayed<u64>> = (0..50_u64).map(|i| delayed(|i: u64| i, (i,))).collect();
        for _ in 0..10 {
            last = (0..50).map(|i| delayed(|a: &u64, b: &u64| a + b, (&last[i], &last[(i + 1) % 50]))).collect();
        }
        let expected = sprang::compute_with("sync", &last).unwrap();
        let other = crate::new_pool(1);
        std::thread::scope(|scope| {
            for executor in [pool(), other] {
                let (last, expected) = (&last, &expected);
                scope.spawn(move || {
                    for _ in 0..10 {
                        assert_eq!(&sprang::compute_with(Arc::clone(&executor), last).unwrap(), expected);
                    }
                });
            }
        });
    });
}
