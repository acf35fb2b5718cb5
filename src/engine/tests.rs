//! The engine driven by hand: random graphs, one step at a time, with a check of the whole state
//! after each step.

use super::callback::{
    self, Callback, ClusterInfo, Interests, RunFinished, TaskCancelled, TaskFailed, TaskFinished, TaskReady,
    TaskRetried, TaskSkipped, TaskStarted, ValueReleased, ValueStored, Watchers,
};
use super::check::{Expected, Progress};
use super::{CancelToken, Deadline, Restore, ResultSink, Run, RunAccess, RunSettings, TaskContext, Timer};
use crate::error::{Error, ErrorKind};
use crate::graph::crossing::Encoded;
use crate::graph::plan::Plan;
use crate::graph::retry::Backoff;
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::Codec;
use crate::{Delayed, Refs, try_delayed_local};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

// ---- the world around a run ----

struct NoContext;

impl TaskContext for NoContext {
    fn enter(&self, body: &mut dyn FnMut()) {
        body();
    }

    fn to_portable(&self) -> (&'static CodeDescriptor<Restore>, Vec<u8>) {
        unreachable!("no task leaves this process")
    }

    fn environment(&self, _: &dyn Fn(&OsStr) -> bool) -> u64 {
        0
    }
}

thread_local! {
    /// The actions that wait for their time, which comes when a task says so.
    static ACTIONS: RefCell<HashMap<usize, Box<dyn FnOnce() + Send>>> = RefCell::default();
}

struct ManualTimer;

struct ManualDeadline(usize);

impl Timer for ManualTimer {
    fn start(&self, _: Duration, action: Box<dyn FnOnce() + Send>) -> Box<dyn Deadline> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, SeqCst);
        ACTIONS.with_borrow_mut(|actions| actions.insert(number, action));
        Box::new(ManualDeadline(number))
    }
}

impl Deadline for ManualDeadline {}

impl Drop for ManualDeadline {
    fn drop(&mut self) {
        let _action = ACTIONS.with_borrow_mut(|actions| actions.remove(&self.0));
    }
}

fn let_time_pass() {
    let actions = ACTIONS.take();
    actions.into_values().for_each(|action| action());
}

struct Random(u64);

impl Random {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % end as u64) as usize
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }
}

// ---- graphs of values that are counted ----

/// The number of values of each task of a graph.
type Counts = Arc<Vec<AtomicUsize>>;

struct Counted {
    task: usize,
    counts: Counts,
}

impl Counted {
    fn new(task: usize, counts: &Counts) -> Self {
        counts[task].fetch_add(1, SeqCst);
        Counted { task, counts: Arc::clone(counts) }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Counted::new(self.task, &self.counts)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts[self.task].fetch_sub(1, SeqCst);
    }
}

/// The outcome of a task's calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behaviour {
    Value,
    Error,
    Panic,
    TimesOut,
    /// The first call fails.
    ValueAtSecondCall,
}

struct Graph {
    counts: Counts,
    behaviours: Vec<Behaviour>,
    handles: Vec<Delayed<Counted>>,
    outputs: Vec<Delayed<Counted>>,
}

impl Graph {
    fn random(random: &mut Random) -> Graph {
        let num_tasks = 1 + random.below(40);
        let counts: Counts = Arc::new((0..num_tasks).map(|_| AtomicUsize::new(0)).collect());
        let rate = [4, 10, 1000][random.below(3)];
        let mut graph = Graph { counts, behaviours: Vec::new(), handles: Vec::new(), outputs: Vec::new() };
        for task in 0..num_tasks {
            use Behaviour::{Error, Panic, TimesOut, Value, ValueAtSecondCall};
            let fails = random.one_in(rate);
            let behaviour = if fails { [Error, Panic, TimesOut, ValueAtSecondCall][random.below(4)] } else { Value };
            let list = |random: &mut Random| {
                let len = if task == 0 { 0 } else { random.below(3) };
                (0..len).map(|_| graph.handles[random.below(task)].clone()).collect::<Vec<_>>()
            };
            let (borrowed, owned) = (list(random), list(random));
            let num_calls = AtomicU32::new(0);
            let counts = Arc::clone(&graph.counts);
            let function = move |_: Refs<'_, Counted>, _: Vec<Counted>| {
                let is_first = num_calls.fetch_add(1, SeqCst) == 0;
                match behaviour {
                    Error => return Err("an error"),
                    // As a panic, but without a message on the console.
                    Panic => resume_unwind(Box::new("a panic")),
                    TimesOut => let_time_pass(),
                    ValueAtSecondCall if is_first => return Err("the first call"),
                    _ => {}
                }
                Ok(Counted::new(task, &counts))
            };
            let mut handle = try_delayed_local(function, (&borrowed, owned)).name(format!("{task}"));
            if behaviour == TimesOut || random.one_in(8) {
                handle = handle.timeout(Duration::from_secs(1));
            }
            if behaviour == ValueAtSecondCall || random.one_in(8) {
                handle = handle.retries(1);
            }
            if random.one_in(6) || task + 1 == num_tasks {
                graph.outputs.push(handle.clone());
            }
            graph.behaviours.push(behaviour);
            graph.handles.push(handle);
        }
        graph
    }

    fn plan(&self) -> Plan {
        let outputs: Vec<_> = self.outputs.iter().map(Delayed::task_ref).collect();
        // SAFETY: the graph keeps the handles of the outputs, and is dropped after the plan.
        unsafe { Plan::new(&outputs, true) }.unwrap()
    }
}

fn index_of(plan: &Plan, id: u32) -> usize {
    plan.name(id).parse().unwrap()
}

// ---- observers ----

/// Takes the values of the outputs as soon as they are there.
struct TakingSink {
    outputs: HashSet<u32>,
    taken: Mutex<Vec<(u32, Counted)>>,
}

impl ResultSink for TakingSink {
    fn wants(&self, id: u32) -> bool {
        self.outputs.contains(&id)
    }

    unsafe fn finished(&self, id: u32, cell: &Cell) {
        // SAFETY: every task of these graphs has a `Counted` as its value; the sink is a reader and
        // takes each value once.
        let value = unsafe { cell.take_output(Some(Counted::clone)) }.unwrap();
        self.taken.lock().push((id, value));
    }

    fn finished_encoded(&self, _: u32, _: Arc<dyn Encoded>) {
        unreachable!("no task leaves this process")
    }

    fn failed(&self, _: u32, _: &Error) {}
}

/// Asserts the order of events, and follows which values are held.
#[derive(Default)]
struct Observer {
    state: Mutex<Observed>,
}

#[derive(Default)]
struct Observed {
    ready: HashSet<usize>,
    running: HashSet<usize>,
    settled: HashSet<usize>,
    held: HashSet<usize>,
    stored: HashSet<usize>,
    is_over: bool,
}

impl Observed {
    fn ends(&mut self, task: usize) {
        assert!(self.running.remove(&task), "task {task} ends after it has started");
    }

    fn settles(&mut self, task: usize) {
        assert!(self.settled.insert(task), "task {task} is settled once");
    }
}

impl Callback for Observer {
    fn interests(&self) -> Interests {
        Interests::new().ready().values()
    }

    fn on_task_ready(&self, event: &TaskReady<'_>) {
        assert!(self.state.lock().ready.insert(event.task.id()), "a task becomes ready once");
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        let mut state = self.state.lock();
        assert!(state.ready.contains(&event.task.id()), "a task is ready before it starts");
        assert!(state.running.insert(event.task.id()), "a task runs once at a time");
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        let mut state = self.state.lock();
        state.ends(event.task.id());
        state.settles(event.task.id());
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        let mut state = self.state.lock();
        state.ends(event.task.id());
        state.settles(event.task.id());
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        self.state.lock().ends(event.task.id());
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        self.state.lock().ends(event.task.id());
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        self.state.lock().settles(event.task.id());
    }

    fn on_value_stored(&self, event: &ValueStored<'_>) {
        let mut state = self.state.lock();
        assert!(state.settled.contains(&event.task.id()), "a value is stored after the end of its task");
        assert!(state.stored.insert(event.task.id()) && state.held.insert(event.task.id()), "a value is stored once");
    }

    fn on_value_released(&self, event: &ValueReleased<'_>) {
        assert!(self.state.lock().held.remove(&event.task.id()), "a value is released once, after it was stored");
    }

    fn on_run_finished(&self, _: &RunFinished<'_>) {
        let mut state = self.state.lock();
        assert!(state.running.is_empty() && state.held.is_empty(), "nothing is left at the end of a run");
        state.is_over = true;
    }
}

// ---- driving a run ----

struct Driver<'g> {
    graph: &'g Graph,
    settings: RunSettings,
    sink: Option<Arc<TakingSink>>,
    observer: Option<Arc<Observer>>,
    token: Option<CancelToken>,
    expected: Expected,
}

impl Driver<'_> {
    fn num_values(&self, plan: &Plan, id: u32) -> usize {
        let taken = self.sink.iter().map(|sink| sink.taken.lock().iter().filter(|(taken, _)| *taken == id).count());
        self.graph.counts[index_of(plan, id)].load(SeqCst) - taken.sum::<usize>()
    }

    fn check(&mut self, access: &RunAccess<'_>) {
        if let Some(sink) = &self.sink {
            self.expected.taken = sink.taken.lock().iter().map(|(id, _)| *id).collect();
        }
        self.expected.check(access, |id| self.num_values(access.plan(), id));
        let Some(observer) = &self.observer else { return };
        let observed = observer.state.lock();
        for id in 0..access.num_tasks() {
            let progress = self.expected.progress[id as usize];
            assert_eq!(observed.settled.contains(&(id as usize)), progress.is_settled(), "task {id} was reported");
            let is_reported = observed.ready.contains(&(id as usize));
            match progress {
                // A task may be held back for its turn.
                Progress::Waiting => assert!(!is_reported || self.expected.starts.contains(&id)),
                Progress::Ready => assert_eq!(is_reported, !access.has_failed_input(id)),
                _ => {}
            }
            // The values of a run of futures belong to the futures as soon as they are stored.
            let is_given = self.sink.is_some() && access.plan().outputs().contains(&id);
            if let Some(is_there) = self.expected.has_value(access, id).filter(|_| !is_given) {
                assert_eq!(observed.held.contains(&(id as usize)), is_there, "the value of task {id} is reported");
            }
        }
    }

    /// The progress of a task that was just run.
    fn outcome(&self, access: &RunAccess<'_>, id: u32) -> Progress {
        match access.cell(id).failure() {
            None => Progress::Finished,
            Some(cause) if cause != id => Progress::Failed,
            Some(_) if self.settings.keep_inputs => Progress::FailedHolding,
            Some(_) if self.graph.behaviours[index_of(access.plan(), id)] == Behaviour::Panic => {
                Progress::FailedUnwinding
            }
            Some(_) => Progress::Failed,
        }
    }

    /// Runs the tasks in a random order until none is left or the run has stopped.
    fn drive(&mut self, access: &RunAccess<'_>, random: &mut Random) {
        access.prepare_parallel(0, [0, 3, u32::MAX][random.below(3)]);
        let parallel = access.parallel();
        self.expected.starts = access.starts().to_vec();
        let mut ready = Vec::new();
        let cancels_after = random.below(60);
        for step in 0.. {
            self.check(access);
            if step == cancels_after
                && let Some(token) = &self.token
            {
                token.cancel();
            }
            let num_starts = self.expected.starts.len();
            if num_starts + ready.len() == 0 {
                break;
            }
            let choice = random.below(num_starts + ready.len());
            if choice < num_starts {
                let id = self.expected.starts.remove(choice);
                if access.arrive(&parallel, id) {
                    self.becomes_ready(id);
                    ready.push(id);
                }
                continue;
            }
            let id = ready.swap_remove(choice - num_starts);
            // SAFETY: the task was found ready by the last arrival, and is not in the list any
            // more.
            let goes_on = catch_unwind(AssertUnwindSafe(|| unsafe { access.run(id) }))
                .unwrap_or_else(|payload| access.panicked(id, payload));
            assert_eq!(goes_on, !access.is_stopped());
            if !goes_on {
                return;
            }
            self.expected.progress[id as usize] = self.outcome(access, id);
            for &dependent in access.dependents().of(id) {
                if access.arrive(&parallel, dependent) {
                    self.becomes_ready(dependent);
                    ready.push(dependent);
                }
            }
            access.finish(1);
        }
        assert!(access.is_finished(), "no task is left");
    }

    fn becomes_ready(&mut self, id: u32) {
        let before = std::mem::replace(&mut self.expected.progress[id as usize], Progress::Ready);
        assert_eq!(before, Progress::Waiting, "task {id} becomes ready once");
    }
}

/// Runs one random graph.
fn run_random(seed: u64) {
    let mut random = Random(seed);
    let graph = Graph::random(&mut random);
    let plan = graph.plan();
    let settings = RunSettings {
        collect_errors: !random.one_in(3),
        check_portable: false,
        codec: Codec::default(),
        num_workers: None,
        stack_size: 8 << 20,
        keep_inputs: random.one_in(4),
        stall_timeout: None,
        run_timeout: None,
        retries: 0,
        backoff: Backoff::default(),
    };
    let outputs = plan.outputs().iter().copied().collect();
    let sink = random.one_in(3).then(|| Arc::new(TakingSink { outputs, taken: Mutex::default() }));
    let observer = random.one_in(2).then(Arc::<Observer>::default);
    let token = random.one_in(3).then(CancelToken::new);
    let progress = vec![Progress::Waiting; plan.num_tasks()];
    let expected = Expected { progress, starts: Vec::new(), taken: Vec::new() };
    let mut driver = Driver { graph: &graph, settings, sink, observer, token, expected };

    let cells = plan.take_cells();
    let run = {
        let _scope = driver.observer.clone().map(|observer| callback::scoped(observer));
        let _entered = driver.token.as_ref().map(CancelToken::enter);
        let cluster = ClusterInfo::new("test".into(), Weak::<NoBacklog>::new());
        let _futures = driver.sink.is_some().then(|| Watchers::enter(Watchers::of_this_thread().as_ref(), &cluster));
        let sink = driver.sink.clone().map(|sink| -> Arc<dyn ResultSink> { sink });
        // SAFETY: the run is closed below, before the cells are used again.
        unsafe { Run::new(&plan, &cells, settings, Box::new(NoContext), &ManualTimer, sink) }
    };
    assert!(run.claim() && !run.claim(), "a run is carried out once");
    run.report_start(&plan, "by hand");
    run.enter(|access| driver.drive(access, &mut random)).unwrap();
    run.close();
    assert!(run.enter(|_| ()).is_none(), "a closed run lets no thread in");
    run.report_end(&plan, || run.stop_reason());
    assert!(driver.observer.as_ref().is_none_or(|observer| observer.state.lock().is_over));
    check_failures(&driver, &plan, &run);
    release_all(&plan, cells, &run);
    driver.sink = None;
    drop(run);
    let left = graph.counts.iter().filter(|count| count.load(SeqCst) > 0).count();
    assert_eq!(left, 0, "all values are gone with the run");
}

struct NoBacklog;

impl callback::Backlog for NoBacklog {
    fn num_pending(&self) -> usize {
        0
    }

    fn num_held(&self) -> (usize, usize) {
        (0, 0)
    }
}

/// Compares the failures of a run with those that the graph asks for.
fn check_failures(driver: &Driver<'_>, plan: &Plan, run: &Run) {
    if let Some(reason) = run.stop_reason() {
        let is_cancelled = driver.token.is_some() && reason.kind() == ErrorKind::Cancelled;
        assert!(is_cancelled || !driver.settings.collect_errors, "a run that collects errors stops only if cancelled");
        return;
    }
    let mut causes: Vec<Option<u32>> = Vec::new();
    for id in 0..plan.num_tasks() as u32 {
        let behaviour = driver.graph.behaviours[index_of(plan, id)];
        let skipped = plan.inputs(id).iter().find_map(|&input| causes[input as usize]);
        let kind = match behaviour {
            Behaviour::Error => Some(ErrorKind::Failed),
            Behaviour::Panic => Some(ErrorKind::Panicked),
            Behaviour::TimesOut => Some(ErrorKind::TimedOut),
            Behaviour::Value | Behaviour::ValueAtSecondCall => None,
        };
        let cause = skipped.or(kind.map(|_| id));
        if let (Some(kind), None) = (kind, skipped) {
            assert_eq!(run.failure(plan, id, id).kind(), kind, "task {id}");
        }
        let has_failed = driver.expected.progress[id as usize] != Progress::Finished;
        assert_eq!(has_failed, cause.is_some(), "task {id} fails exactly if it or an input of it does");
        causes.push(cause);
    }
}

/// Drops the values that are left, as the owner of a run does.
fn release_all(plan: &Plan, cells: Vec<Cell>, run: &Run) {
    let errors = run.stop_reason();
    let kept = run.take_kept_inputs();
    let num_readers = kept.num_readers(plan);
    for ((id, cell), task) in (0..).zip(&cells).zip(plan.tasks()) {
        match (num_readers.get(&id), task.kind().drop_value) {
            // SAFETY: the run is closed. The failed tasks that read this value have not released
            // it.
            (Some(&num_readers), _) => unsafe { cell.set_readers(num_readers) },
            // SAFETY: the run is closed, and the kind is that of the cell's task.
            (None, Some(drop_value)) => unsafe { cell.sweep(drop_value) },
            (None, None) => {}
        }
    }
    // SAFETY: the run is closed, and the values that are left have the readers that were just set.
    unsafe { kept.hand_over(cells) };
    drop(errors);
}

#[test]
fn every_step_of_a_random_run_leaves_the_counters_and_values_right() {
    let num_seeds = if cfg!(miri) { 10 } else { 600 };
    for seed in 0..num_seeds {
        let outcome = catch_unwind(|| run_random(seed));
        assert!(outcome.is_ok(), "seed {seed} failed: call `run_random({seed})`");
    }
}
