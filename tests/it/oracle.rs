//! Random graphs against a recursive evaluator.
//!
//! A case is a seed and a number of tasks. A smaller number gives the same graph without its last
//! tasks. A case that fails prints both.

use crate::contract::Subject;
use crate::contract::ledger::{Counted, Ledger};
use crate::contract::watchdog::{watched, watched_with_stack};
use crate::subjects;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use sprang::{
    CancelToken, Delayed, Error, ErrorKind, Refs, Results, compute, compute_each, results, try_delayed_local,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

/// The kind of trouble in a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Failures,
    Timeouts,
    Cancel,
}

/// The fate of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Returns,
    Errs,
    Panics,
    TimesOut,
    /// Fails this many times and then returns.
    Recovers(u32),
    /// Cancels the token of the run.
    Cancels,
}

/// One task, with the tasks that it needs by kind of argument.
#[derive(Clone, Debug)]
struct Spec {
    number: i64,
    borrowed: Option<usize>,
    owned: Option<usize>,
    pair: Option<(usize, usize)>,
    borrowed_list: Vec<usize>,
    owned_list: Vec<usize>,
    /// The tasks whose errors it takes in place of values.
    tolerated: Vec<usize>,
    after: Vec<usize>,
    work: Duration,
    fate: Fate,
}

impl Spec {
    /// All inputs that it needs, in the order of the arguments.
    fn inputs(&self) -> impl Iterator<Item = usize> {
        let pair = self.pair.iter().flat_map(|&(a, b)| [a, b]);
        let lists = self.borrowed_list.iter().chain(&self.owned_list).copied();
        self.borrowed.into_iter().chain(self.owned).chain(pair).chain(lists)
    }
}

/// A generator of pseudo-random numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

fn random_graph(seed: u64, num_tasks: usize, trouble: Trouble) -> Vec<Spec> {
    let mut random = Random(seed);
    // The distance of inputs and the length of tasks differ from graph to graph.
    let reach = [2, 5, 30, usize::MAX][random.below(4)];
    let work_us = [0, 0, 5, 60][random.below(4)];
    (0..num_tasks).map(|i| random_task(&mut random, i, reach, work_us, trouble)).collect()
}

fn random_task(random: &mut Random, i: usize, reach: usize, work_us: u64, trouble: Trouble) -> Spec {
    let mut inputs = |one_in: usize, most: usize| -> Vec<usize> {
        if i == 0 || !random.once_in(one_in) {
            return vec![];
        }
        let len = 1 + random.below(most);
        (0..len).map(|_| i - 1 - random.below(i.min(reach))).collect()
    };
    let pair = inputs(5, 1).first().copied().zip(inputs(1, 1).first().copied());
    let mut spec = Spec {
        number: 0,
        borrowed: inputs(2, 1).first().copied(),
        owned: inputs(3, 1).first().copied(),
        pair,
        borrowed_list: inputs(3, 4),
        owned_list: inputs(4, 4),
        tolerated: inputs(3, 4),
        after: inputs(5, 2),
        work: Duration::ZERO,
        fate: Fate::Returns,
    };
    spec.number = random.next() as i64;
    spec.work = Duration::from_micros(if work_us == 0 { 0 } else { random.next() % work_us });
    spec.fate = match trouble {
        Trouble::None if random.once_in(20) => Fate::Recovers(1 + random.below(2) as u32),
        Trouble::Failures if random.once_in(12) => [Fate::Errs, Fate::Panics, Fate::Recovers(1)][random.below(3)],
        Trouble::Timeouts if random.once_in(25) => Fate::TimesOut,
        Trouble::Cancel if random.once_in(15) => Fate::Cancels,
        _ => Fate::Returns,
    };
    spec
}

fn mix(sum: i64, value: i64) -> i64 {
    sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(value).rotate_left(7)
}

/// The value of a task, or the task whose failure it fails with: the failure of the first input
/// that it needs and that has no value.
fn evaluate(graph: &[Spec], i: usize, memo: &mut [Option<Result<i64, usize>>]) -> Result<i64, usize> {
    if memo[i].is_none() {
        let spec = &graph[i];
        let values: Vec<_> = spec.inputs().map(|input| evaluate(graph, input, memo)).collect();
        let order: Vec<_> = spec.after.iter().map(|&before| evaluate(graph, before, memo)).collect();
        let sum = values.iter().try_fold(spec.number, |sum, value| value.map(|value| mix(sum, value)));
        let tolerated: Vec<_> = spec.tolerated.iter().map(|&input| evaluate(graph, input, memo)).collect();
        let sum =
            sum.map(|sum| tolerated.iter().fold(sum, |sum, outcome| mix(sum, outcome.unwrap_or_else(of_failure))));
        let sum = order.iter().fold(sum, |sum, before| sum.and_then(|sum| before.map(|_| sum)));
        memo[i] = Some(sum.and_then(|sum| if fails(spec.fate) { Err(i) } else { Ok(sum) }));
    }
    memo[i].unwrap()
}

/// The number that a task makes of an error that it takes.
fn of_failure(cause: usize) -> i64 {
    !(cause as i64)
}

fn fails(fate: Fate) -> bool {
    matches!(fate, Fate::Errs | Fate::Panics | Fate::TimesOut)
}

/// The types of value: stored inline without a drop, inline with a drop, and in a box.
trait Value: Clone + Send + Sync + 'static {
    fn new(ledger: &Ledger, value: i64) -> Self;
    fn get(&self) -> i64;
}

impl Value for i64 {
    fn new(_: &Ledger, value: i64) -> Self {
        value
    }
    fn get(&self) -> i64 {
        *self
    }
}

impl Value for Counted {
    fn new(ledger: &Ledger, value: i64) -> Self {
        ledger.value(value)
    }
    fn get(&self) -> i64 {
        self.value
    }
}

#[derive(Clone)]
struct Large {
    ballast: [i64; 8],
    counted: Counted,
}

impl Value for Large {
    fn new(ledger: &Ledger, value: i64) -> Self {
        Large { ballast: [value; 8], counted: ledger.value(value) }
    }
    fn get(&self) -> i64 {
        assert_eq!(self.ballast, [self.counted.value; 8]);
        self.counted.value
    }
}

/// The tasks of a graph, with the counts of their calls and values.
struct Built<V> {
    tasks: Vec<Delayed<V>>,
    calls: Arc<Vec<AtomicU32>>,
    ledger: Ledger,
    token: CancelToken,
}

fn build<V: Value>(graph: &[Spec]) -> Built<V> {
    let calls: Arc<Vec<AtomicU32>> = Arc::new(graph.iter().map(|_| AtomicU32::new(0)).collect());
    let mut built = Built { tasks: Vec::new(), calls, ledger: Ledger::new(), token: CancelToken::new() };
    for (i, spec) in graph.iter().enumerate() {
        let task = task(&built, i, spec);
        built.tasks.push(task);
    }
    built
}

fn task<V: Value>(built: &Built<V>, i: usize, spec: &Spec) -> Delayed<V> {
    let (calls, ledger, token) = (Arc::clone(&built.calls), built.ledger.clone(), built.token.clone());
    let (fate, work) = (spec.fate, spec.work);
    let call = move |sum: i64| {
        let attempt = calls[i].fetch_add(1, Ordering::SeqCst);
        let value = V::new(&ledger, sum);
        let start = Instant::now();
        while start.elapsed() < work {
            std::hint::spin_loop();
        }
        match fate {
            Fate::Returns => {}
            Fate::Errs => return Err("errs"),
            Fate::Panics => panic!("task {i} panics"),
            Fate::Recovers(times) if attempt < times => return Err("recovers"),
            Fate::Recovers(_) => {}
            Fate::Cancels => token.cancel(),
            Fate::TimesOut => {
                while !CancelToken::current().is_cancelled() {
                    thread::yield_now();
                }
            }
        }
        Ok(value)
    };
    let (number, get) = (spec.number, |&i: &usize| built.tasks[i].clone());
    // The two most common signatures have cases of their own. All others use every kind of
    // argument.
    let mut made = match spec {
        Spec { borrowed: None, owned: None, pair: None, borrowed_list, owned_list, .. }
            if borrowed_list.is_empty() && owned_list.is_empty() && spec.tolerated.is_empty() =>
        {
            try_delayed_local(call, (number,))
        }
        Spec { borrowed: Some(a), owned: Some(b), pair: None, borrowed_list, owned_list, .. }
            if borrowed_list.is_empty() && owned_list.is_empty() && spec.tolerated.is_empty() =>
        {
            let function = move |a: &V, b: V| call(mix(mix(number, a.get()), b.get()));
            try_delayed_local(function, (&built.tasks[*a], get(b)))
        }
        _ => {
            type Pair<'a, V> = Option<(&'a V, V)>;
            let function = move |number: i64,
                                 a: Option<&V>,
                                 b: Option<V>,
                                 c: Pair<'_, V>,
                                 d: Refs<'_, V>,
                                 e: Vec<V>,
                                 f: Results<'_, V>| {
                let pair = c.iter().flat_map(|(x, y)| [*x, y]);
                let values = a.into_iter().chain(&b).chain(pair).chain(d.iter()).chain(&e);
                let sum = values.fold(number, |sum, value| mix(sum, value.get()));
                let cause = |error: &Error| of_failure(error.task().unwrap().parse().unwrap());
                call(f.iter().fold(sum, |sum, outcome| mix(sum, outcome.map_or_else(cause, V::get))))
            };
            let borrowed_list: Vec<_> = spec.borrowed_list.iter().map(get).collect();
            let owned_list: Vec<_> = spec.owned_list.iter().map(get).collect();
            let arguments = (
                number,
                spec.borrowed.map(|i| &built.tasks[i]),
                spec.owned.as_ref().map(get),
                spec.pair.map(|(i, j)| (&built.tasks[i], built.tasks[j].clone())),
                &borrowed_list,
                owned_list,
                results(spec.tolerated.iter().map(|&i| &built.tasks[i])),
            );
            try_delayed_local(function, arguments)
        }
    };
    made = made.name(format!("{i}"));
    for before in &spec.after {
        made = made.after(&built.tasks[*before]);
    }
    match fate {
        Fate::Recovers(times) => made.retries(times),
        Fate::TimesOut => made.timeout(Duration::from_millis(1)),
        _ => made,
    }
}

/// The expected result of a run of a graph.
struct Expected<'a> {
    graph: &'a [Spec],
    outputs: Vec<usize>,
    memo: Vec<Option<Result<i64, usize>>>,
}

impl<'a> Expected<'a> {
    fn new(graph: &'a [Spec], seed: u64) -> Self {
        let mut random = Random(!seed);
        // The outputs are the last task and a few others, perhaps one of them twice.
        let mut outputs = vec![graph.len() - 1];
        outputs.extend((0..random.below(4)).map(|_| random.below(graph.len())));
        let mut memo = vec![None; graph.len()];
        for &output in &outputs {
            let _ = evaluate(graph, output, &mut memo);
        }
        Expected { graph, outputs, memo }
    }

    /// The number of calls of a task if every task that can run does.
    fn num_calls(&self, i: usize) -> u32 {
        match (self.memo[i], self.graph[i].fate) {
            (Some(Ok(_)), Fate::Recovers(times)) => times + 1,
            (Some(Ok(_)), _) => 1,
            (Some(Err(cause)), _) => u32::from(cause == i),
            (None, _) => 0,
        }
    }

    fn is_cause(&self, error: &Error) -> bool {
        let Some(task) = error.task().and_then(|name| name.parse::<usize>().ok()) else { return false };
        let kind = match self.graph[task].fate {
            Fate::Errs => ErrorKind::Failed,
            Fate::Panics => ErrorKind::Panicked,
            Fate::TimesOut => ErrorKind::TimedOut,
            _ => return false,
        };
        self.memo[task] == Some(Err(task)) && error.kind() == kind
    }

    /// Whether an output fails.
    fn has_failures(&self) -> bool {
        self.outputs.iter().any(|&output| matches!(self.memo[output], Some(Err(_))))
    }

    /// Whether a task that cancels the token is certain to be called.
    fn is_cancelled_by_a_task(&self) -> bool {
        self.graph
            .iter()
            .zip(&self.memo)
            .any(|(spec, value)| spec.fate == Fate::Cancels && matches!(value, Some(Ok(_))))
    }
}

macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(TestCaseError::fail(format!($($message)*)));
        }
    };
}

fn check_calls<V>(expected: &Expected<'_>, built: &Built<V>, all_done: bool) -> Result<(), TestCaseError> {
    for i in 0..expected.graph.len() {
        let (calls, wanted) = (built.calls[i].load(Ordering::SeqCst), expected.num_calls(i));
        ensure!(calls == wanted || (!all_done && calls < wanted), "task {i} was called {calls} times, not {wanted}");
        built.calls[i].store(0, Ordering::SeqCst);
    }
    Ok(())
}

fn check_settled<V>(built: &Built<V>) -> Result<(), TestCaseError> {
    ensure!(built.ledger.num_live() == 0, "{} values were never dropped", built.ledger.num_live());
    built.ledger.assert_settled();
    Ok(())
}

/// Checks one run that stops at the first failure, and one that collects errors.
fn check_on<V: Value>(on: &Subject, expected: &Expected<'_>, order: &str) -> Result<(), TestCaseError> {
    let _scope = on.scope().and("order", order).unwrap();
    let built = build::<V>(expected.graph);
    let outputs: Vec<_> = expected.outputs.iter().map(|&i| &built.tasks[i]).collect();
    let has_token = expected.graph.iter().any(|spec| spec.fate == Fate::Cancels);

    let stopped = if has_token { built.token.scope(|| compute(&outputs)) } else { compute(&outputs) };
    match &stopped {
        Ok(values) => {
            ensure!(!expected.has_failures() && !expected.is_cancelled_by_a_task(), "there should have been an error");
            for (value, &output) in values.iter().zip(&expected.outputs) {
                ensure!(Some(Ok(value.get())) == expected.memo[output], "task {output} has the wrong value");
            }
        }
        Err(error) if error.kind() == ErrorKind::Cancelled => {
            ensure!(expected.is_cancelled_by_a_task(), "no task cancelled the token")
        }
        Err(error) => ensure!(expected.is_cause(error), "no task fails with {error:?}"),
    }
    check_calls(expected, &built, stopped.is_ok())?;
    drop(stopped);
    check_settled(&built)?;

    // A cancelled token stays cancelled, so the second run gets another one.
    let built = build::<V>(expected.graph);
    let outputs: Vec<_> = expected.outputs.iter().map(|&i| &built.tasks[i]).collect();
    let collected = if has_token { built.token.scope(|| compute_each(&outputs)) } else { compute_each(&outputs) };
    match collected {
        Ok(outcomes) => {
            ensure!(!expected.is_cancelled_by_a_task(), "the run should have been cancelled");
            for (outcome, &output) in outcomes.iter().zip(&expected.outputs) {
                match outcome {
                    Ok(value) => {
                        ensure!(expected.memo[output] == Some(Ok(value.get())), "task {output} has the wrong value")
                    }
                    Err(error) => {
                        let cause = error.task().and_then(|name| name.parse().ok());
                        ensure!(expected.is_cause(error), "no task fails with {error:?}");
                        ensure!(expected.memo[output] == cause.map(Err), "task {output} fails with {error:?}");
                    }
                }
            }
            check_calls(expected, &built, true)?;
        }
        Err(error) => {
            ensure!(
                error.kind() == ErrorKind::Cancelled && expected.is_cancelled_by_a_task(),
                "the run as a whole fails with {error:?}"
            );
            check_calls(expected, &built, false)?;
        }
    }
    check_settled(&built)
}

fn check_case(seed: u64, num_tasks: usize, trouble: Trouble) -> Result<(), TestCaseError> {
    static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(subjects::all);
    let graph = random_graph(seed, num_tasks, trouble);
    // The evaluator recurs as deep as the graph.
    let expected = watched_with_stack("the evaluator", Some(64 << 20), || Expected::new(&graph, seed));
    for on in &*SUBJECTS {
        let what = format!("seed {seed}, {num_tasks} tasks, trouble {trouble:?}, {on:?}");
        let order = if seed.is_multiple_of(2) { "memory" } else { "fast" };
        let outcome = watched(&what, || match seed % 3 {
            0 => check_on::<i64>(on, &expected, order),
            1 => check_on::<Counted>(on, &expected, order),
            _ => check_on::<Large>(on, &expected, order),
        });
        outcome.map_err(|error| TestCaseError::fail(format!("{what}: {error}")))?;
    }
    Ok(())
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn random_graphs_have_the_values_of_the_recursive_evaluator(seed: u64, num_tasks in 1_usize..120) {
        check_case(seed, num_tasks, Trouble::None)?;
    }

    #[test]
    fn random_graphs_with_failures_end_as_the_recursive_evaluator_says(seed: u64, num_tasks in 1_usize..80) {
        check_case(seed, num_tasks, Trouble::Failures)?;
    }

    #[test]
    fn cancelled_random_graphs_leave_no_value_behind(seed: u64, num_tasks in 1_usize..80) {
        check_case(seed, num_tasks, Trouble::Cancel)?;
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn random_graphs_with_timeouts_end_as_the_recursive_evaluator_says(seed: u64, num_tasks in 1_usize..50) {
        check_case(seed, num_tasks, Trouble::Timeouts)?;
    }

    #[test]
    fn large_random_graphs_have_the_values_of_the_recursive_evaluator(seed: u64, num_tasks in 1000_usize..3000) {
        check_case(seed, num_tasks, Trouble::None)?;
    }
}

/// The evaluator is right for a graph whose answer is obvious.
#[test]
fn the_evaluator_blames_the_first_input_without_a_value() {
    let plain = random_task(&mut Random(0), 0, 1, 0, Trouble::None);
    let spec = |fate, borrowed_list: Vec<usize>| Spec { fate, borrowed_list, ..plain.clone() };
    let graph = [
        spec(Fate::Errs, vec![]),
        spec(Fate::Panics, vec![]),
        spec(Fate::Returns, vec![1, 0]),
        spec(Fate::Returns, vec![]),
    ];
    let mut memo = vec![None; 4];
    assert_eq!(evaluate(&graph, 2, &mut memo), Err(1));
    assert_eq!(evaluate(&graph, 3, &mut memo), Ok(plain.number));
}
