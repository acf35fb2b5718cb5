//! The events that callbacks receive.

use super::{Check, Subject, Tally, check, check_here};
use sprang::callback::{
    self, Callback, Interests, RunFinished, RunHandle, RunId, RunInfo, RunStarted, TaskCancelled, TaskFailed,
    TaskFinished, TaskInfo, TaskReady, TaskRetried, TaskSkipped, TaskStarted, ValueReleased, ValueSize, ValueStored,
    WorkerLost, WorkerStarted,
};
use sprang::{
    CancelToken, Delayed, ErrorKind, Refs, compute_each, delayed, delayed_local, local, try_delayed, try_delayed_local,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check(every_task_is_reported_from_start_to_end),
        check(tasks_of_all_kinds_are_reported),
        check(reported_times_are_the_times_of_the_call),
        check(a_failure_is_reported_before_the_end_of_the_run),
        check(dependents_of_a_collected_failure_are_skipped),
        check(each_attempt_of_a_task_is_reported),
        check(a_panic_is_reported_as_a_failure),
        check(a_task_that_is_too_slow_is_reported_as_a_failure),
        check(a_cancelled_run_has_an_end),
        check(a_run_ends_by_its_handle_once),
        check_here(a_nested_run_knows_the_one_around_it),
        check(a_callback_that_panics_is_not_called_again),
        check(each_of_several_callbacks_is_called_once_per_event),
        check(a_compute_within_a_callback_is_not_watched),
        check(a_guard_ends_the_watching),
        check_here(a_value_that_panics_when_it_is_dropped_leaves_the_events_complete),
        check(a_task_is_ready_before_it_is_started),
        check(a_task_that_is_skipped_is_never_ready),
        check(a_value_is_held_from_its_task_to_its_last_reader),
        check(the_remaining_values_of_a_failed_run_are_released_with_it),
        check(a_callback_gets_only_the_events_that_it_asked_for),
        check(a_value_has_a_size),
    ]
}

/// One event of a task.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Started(u32),
    Finished,
    Failed(ErrorKind),
    Retried(Option<ErrorKind>),
    Cancelled,
    Skipped(usize),
}

/// Records events, and panics at an event that is out of order.
#[derive(Default)]
struct Recorder {
    runs: Mutex<HashMap<RunId, RunEvents>>,
}

#[derive(Clone, Debug, Default)]
struct RunEvents {
    parent: Option<RunId>,
    num_tasks: usize,
    names: Vec<String>,
    tasks: HashMap<usize, Vec<Step>>,
    spans: HashMap<usize, (Instant, Instant)>,
    num_workers: [usize; 2],
    end: Option<Option<ErrorKind>>,
}

impl Recorder {
    fn events(&self, run: RunId, add: impl FnOnce(&mut RunEvents)) {
        let mut runs = self.runs.lock().unwrap();
        let events = runs.get_mut(&run).expect("the start of the run was reported");
        assert_eq!(events.end, None, "the end of the run comes last");
        add(events);
    }

    fn task(&self, task: TaskInfo<'_>, word: Step) {
        self.events(task.run(), |events| {
            assert!(task.id() < events.num_tasks);
            events.tasks.entry(task.id()).or_default().push(word);
        });
    }

    fn run(&self, run: RunInfo<'_>, add: impl FnOnce(&mut RunEvents)) {
        self.events(run.id(), add);
    }

    /// The events of the only run.
    #[track_caller]
    fn only(&self) -> RunEvents {
        let runs = self.runs.lock().unwrap();
        assert_eq!(runs.len(), 1);
        runs.values().next().unwrap().clone()
    }
}

impl RunEvents {
    /// Checks that every task has a start and an end, and the run too.
    #[track_caller]
    fn assert_complete(&self) {
        assert!(self.end.is_some(), "the run has an end");
        for steps in self.tasks.values() {
            if let [Step::Skipped(_)] = steps[..] {
                continue;
            }
            assert_eq!(steps.len() % 2, 0, "{steps:?}");
            let num_attempts = steps.len() / 2;
            for (attempt, pair) in steps.chunks(2).enumerate() {
                assert_eq!(pair[0], Step::Started(attempt as u32 + 1), "{steps:?}");
                let is_last = attempt + 1 == num_attempts;
                match &pair[1] {
                    Step::Retried(_) => assert!(!is_last || self.end != Some(None), "{steps:?}"),
                    Step::Finished | Step::Failed(_) | Step::Cancelled => assert!(is_last, "{steps:?}"),
                    _ => panic!("{steps:?}"),
                }
            }
        }
    }

    fn last(&self, name: &str) -> Option<&Step> {
        self.steps(name).last()
    }

    fn steps(&self, name: &str) -> &[Step] {
        let id = self.names.iter().position(|other| other == name).expect("a task has the name");
        self.tasks.get(&id).map_or(&[], |steps| steps)
    }
}

impl Callback for Recorder {
    fn on_run_started(&self, event: &RunStarted<'_>) {
        let run = event.run;
        let names = (0..run.num_tasks()).map(|id| run.task(id).name().to_string()).collect();
        let events = RunEvents { parent: run.parent(), num_tasks: run.num_tasks(), names, ..RunEvents::default() };
        assert!(!event.scheduler.is_empty());
        assert!(self.runs.lock().unwrap().insert(run.id(), events).is_none());
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        self.task(event.task, Step::Started(event.attempt));
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        assert!(event.started <= event.ended && event.ended <= Instant::now());
        if let Some(crossing) = event.crossing {
            assert!(crossing.sent <= event.started && event.ended <= crossing.received);
            assert!(!event.worker.is_here());
        }
        self.task(event.task, Step::Finished);
        self.events(event.task.run(), |events| {
            events.spans.insert(event.task.id(), (event.started, event.ended));
        });
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        assert!(event.started <= event.ended);
        assert_eq!(event.error.task(), Some(&*event.task.name()));
        self.task(event.task, Step::Failed(event.error.kind()));
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        assert!(event.started <= event.ended);
        self.task(event.task, Step::Retried(event.error.as_ref().map(|error| error.kind())));
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        self.task(event.task, Step::Cancelled);
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        self.task(event.task, Step::Skipped(event.cause.id()));
    }

    fn on_worker_started(&self, event: &WorkerStarted<'_>) {
        assert!(!event.worker.is_here());
        self.run(event.run, |events| events.num_workers[0] += 1);
    }

    fn on_worker_lost(&self, event: &WorkerLost<'_>) {
        assert!(!event.worker.is_here());
        self.run(event.run, |events| events.num_workers[1] += 1);
    }

    fn on_run_finished(&self, event: &RunFinished<'_>) {
        assert!(event.started <= event.ended);
        let end = event.error.as_ref().map(|error| error.kind());
        self.run(event.run, |events| {
            assert_eq!(events.num_tasks, event.run.num_tasks());
            events.end = Some(end);
        });
    }
}

/// The events of the one run that `body` computes.
#[track_caller]
fn events_of(body: impl FnOnce()) -> RunEvents {
    let recorder = Arc::new(Recorder::default());
    callback::with(Arc::<Recorder>::clone(&recorder), body);
    let events = recorder.only();
    events.assert_complete();
    events
}

fn sum(parts: Refs<'_, u64>) -> u64 {
    parts.iter().sum()
}

fn parts(n: u64) -> Vec<Delayed<u64>> {
    (0..n).map(|i| delayed(|i| i * i, (i,)).name(format!("part {i}"))).collect()
}

fn every_task_is_reported_from_start_to_end(_: &Subject) {
    let parts = parts(200);
    let total = delayed(sum, (&parts,)).name("total");
    let events = events_of(|| assert_eq!(total.compute().unwrap(), (0..200).map(|i| i * i).sum::<u64>()));
    assert_eq!((events.num_tasks, events.tasks.len()), (201, 201));
    assert!(events.tasks.values().all(|steps| *steps == [Step::Started(1), Step::Finished]));
    assert_eq!(events.end, Some(None));
    assert_eq!(events.parent, None);
    let total_began = events.spans[&200].0;
    assert!(events.spans.values().all(|(_, ended)| *ended <= total_began || total_began == events.spans[&200].0));
    for id in 0..200 {
        assert!(events.spans[&id].1 <= total_began, "inputs end before their reader begins");
    }
}

fn tasks_of_all_kinds_are_reported(_: &Subject) {
    let value = local(vec![1_u64, 2, 3]);
    let here = delayed_local(|v: &Vec<u64>| v.iter().sum::<u64>(), (&value,)).name("here");
    let there = delayed(|n: &u64| n + 1, (&here,)).name("there");
    let back = delayed_local(|n: &u64| n * 2, (&there,)).name("back");
    let late = delayed(|| 1_u64, ()).after(&back).name("late");
    let events = events_of(|| assert_eq!(sprang::compute((&back, &late)).unwrap(), (14, 1)));
    for name in ["here", "there", "back", "late"] {
        assert_eq!(events.steps(name), [Step::Started(1), Step::Finished], "{name}");
    }
    assert_eq!(events.tasks.len(), events.num_tasks);
}

fn reported_times_are_the_times_of_the_call(_: &Subject) {
    fn long() -> u64 {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20) {}
        1
    }
    let task = delayed(long, ()).name("long");
    let before = Instant::now();
    let events = events_of(|| assert_eq!(task.compute().unwrap(), 1));
    let (started, ended) = events.spans[&0];
    assert!(ended - started >= Duration::from_millis(20));
    assert!(before <= started && ended <= Instant::now());
}

fn failing(kind: &'static str) -> Delayed<u64> {
    try_delayed(|kind: &str| kind.parse::<u64>(), (kind,)).name("bad")
}

fn a_failure_is_reported_before_the_end_of_the_run(_: &Subject) {
    let bad = failing("x");
    let reader = delayed(|n: &u64| *n, (&bad,)).name("reader");
    let events = events_of(|| assert_eq!(reader.compute().unwrap_err().kind(), ErrorKind::Failed));
    assert_eq!(events.steps("bad"), [Step::Started(1), Step::Failed(ErrorKind::Failed)]);
    assert!(events.steps("reader").is_empty());
    assert_eq!(events.end, Some(Some(ErrorKind::Failed)));
}

fn dependents_of_a_collected_failure_are_skipped(_: &Subject) {
    let bad = failing("x");
    let reader = delayed(|n: &u64| *n, (&bad,)).name("reader");
    let next = delayed(|n: &u64| *n, (&reader,)).name("next");
    let good = delayed(|| 1_u64, ()).name("good");
    let events = events_of(|| {
        let [next, good] = compute_each([&next, &good]).unwrap();
        assert_eq!((next.unwrap_err().kind(), good.unwrap()), (ErrorKind::Failed, 1));
    });
    let bad_id = events.names.iter().position(|name| name == "bad").unwrap();
    assert_eq!(events.last("bad"), Some(&Step::Failed(ErrorKind::Failed)));
    assert_eq!(events.steps("reader"), [Step::Skipped(bad_id)]);
    assert_eq!(events.steps("next"), [Step::Skipped(bad_id)]);
    assert_eq!(events.steps("good"), [Step::Started(1), Step::Finished]);
    assert_eq!(events.end, Some(None));
}

fn each_attempt_of_a_task_is_reported(_: &Subject) {
    let bad = failing("x").retries(2);
    let events = events_of(|| assert_eq!(bad.compute().unwrap_err().kind(), ErrorKind::Failed));
    let retried = || Step::Retried(Some(ErrorKind::Failed));
    let failed = Step::Failed(ErrorKind::Failed);
    let told = [Step::Started(1), retried(), Step::Started(2), retried(), Step::Started(3), failed];
    assert_eq!(events.steps("bad"), told);
    let tally = Tally::default();
    let flaky = try_delayed_local(move || if tally.count() == 0 { Err("not yet") } else { Ok(3) }, ()).retries(5);
    let events = events_of(|| assert_eq!(flaky.name("flaky").compute().unwrap(), 3));
    assert_eq!(events.steps("flaky"), [Step::Started(1), retried(), Step::Started(2), Step::Finished]);
}

fn a_panic_is_reported_as_a_failure(_: &Subject) {
    let bad = delayed(|n: u64| assert!(n > 3, "too small"), (2_u64,)).name("bad");
    let events = events_of(|| assert_eq!(bad.compute().unwrap_err().kind(), ErrorKind::Panicked));
    assert_eq!(events.steps("bad"), [Step::Started(1), Step::Failed(ErrorKind::Panicked)]);
    assert_eq!(events.end, Some(Some(ErrorKind::Panicked)));
}

fn a_task_that_is_too_slow_is_reported_as_a_failure(_: &Subject) {
    fn slow() {
        let token = CancelToken::current();
        while !token.is_cancelled() {
            std::thread::yield_now();
        }
    }
    let bad = delayed(slow, ()).timeout(Duration::from_millis(30)).name("bad");
    let events = events_of(|| assert_eq!(bad.compute().unwrap_err().kind(), ErrorKind::TimedOut));
    assert_eq!(events.steps("bad"), [Step::Started(1), Step::Failed(ErrorKind::TimedOut)]);
}

/// Cancels a token when a task has started.
struct CancelAtStart(CancelToken);

impl Callback for CancelAtStart {
    fn on_task_started(&self, _: &TaskStarted<'_>) {
        self.0.cancel();
    }
}

fn a_cancelled_run_has_an_end(_: &Subject) {
    fn until_cancelled() -> u64 {
        let token = CancelToken::current();
        while !token.is_cancelled() {
            std::thread::yield_now();
        }
        7
    }
    let token = CancelToken::new();
    let long = delayed(until_cancelled, ()).name("long");
    let reader = delayed(|n: &u64| *n, (&long,)).name("reader");
    let events = events_of(|| {
        let _pull = callback::scoped(Arc::new(CancelAtStart(token.clone())));
        assert_eq!(token.scope(|| reader.compute()).unwrap_err().kind(), ErrorKind::Cancelled);
    });
    assert!(matches!(events.last("long"), Some(Step::Finished | Step::Cancelled)), "{events:?}");
    assert!(events.steps("reader").is_empty());
    assert_eq!(events.end, Some(Some(ErrorKind::Cancelled)));
}

/// Ends the run when a task with this name has started.
#[derive(Default)]
struct EndAt {
    name: &'static str,
    handle: Mutex<Option<RunHandle>>,
    cancelled: Mutex<Vec<bool>>,
}

impl Callback for EndAt {
    fn on_run_started(&self, event: &RunStarted<'_>) {
        assert_eq!(event.handle.id(), event.run.id());
        *self.handle.lock().unwrap() = Some(event.handle.clone());
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        if &*event.task.name() == self.name {
            let handle = self.handle.lock().unwrap().clone().unwrap();
            // It ends the run on another thread and on this one.
            let first = std::thread::scope(|scope| scope.spawn(|| handle.cancel()).join().unwrap());
            self.cancelled.lock().unwrap().extend([first, handle.cancel()]);
        }
    }
}

fn a_run_ends_by_its_handle_once(_: &Subject) {
    fn until_cancelled() -> u64 {
        let token = CancelToken::current();
        while !token.is_cancelled() {
            std::thread::yield_now();
        }
        7
    }
    let long = delayed(until_cancelled, ()).name("long");
    let reader = delayed(|n: &u64| *n, (&long,)).name("reader");
    let end = Arc::new(EndAt { name: "long", ..EndAt::default() });
    let events = events_of(|| {
        let _end = callback::scoped(Arc::<EndAt>::clone(&end));
        assert_eq!(reader.compute().unwrap_err().kind(), ErrorKind::Cancelled);
    });
    assert!(events.steps("reader").is_empty());
    assert_eq!(events.end, Some(Some(ErrorKind::Cancelled)));
    assert_eq!(*end.cancelled.lock().unwrap(), [true, false]);
    // The handle of a finished run has no effect, and the next run is not affected.
    let handle = end.handle.lock().unwrap().take().unwrap();
    assert!(!handle.cancel());
    assert_eq!(delayed(|| 1, ()).compute().unwrap(), 1);
}

fn a_nested_run_knows_the_one_around_it(_: &Subject) {
    let outer = try_delayed(
        || {
            let inner = parts(5);
            delayed(sum, (&inner,)).compute()
        },
        (),
    );
    let recorder = Arc::new(Recorder::default());
    callback::with(Arc::<Recorder>::clone(&recorder), || assert_eq!(outer.compute().unwrap(), 30));
    let runs = recorder.runs.lock().unwrap();
    assert_eq!(runs.len(), 2);
    runs.values().for_each(RunEvents::assert_complete);
    let (outer, inner) = (runs.iter().find(|it| it.1.num_tasks == 1), runs.values().find(|it| it.num_tasks == 6));
    assert_eq!(inner.unwrap().parent, outer.map(|it| *it.0));
    assert_eq!(outer.unwrap().1.parent, None);
}

#[derive(Default)]
struct Panicking {
    tally: Tally,
}

impl Callback for Panicking {
    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        self.tally.count();
        panic!("cannot cope with {:?}", event.task.name());
    }

    fn on_run_finished(&self, _: &RunFinished<'_>) {
        self.tally.count();
    }
}

fn a_callback_that_panics_is_not_called_again(_: &Subject) {
    let clumsy = Arc::new(Panicking::default());
    let chain = (0..20).fold(delayed(|| 0_u64, ()), |before, _| delayed(|n| n + 1, (&before,)));
    let events = events_of(|| {
        let _clumsy = callback::scoped(Arc::<Panicking>::clone(&clumsy));
        assert_eq!(chain.compute().unwrap(), 20);
    });
    assert_eq!(clumsy.tally.get(), 1, "the tasks run one after the other");
    assert_eq!(events.tasks.len(), 21, "the others are told of all");
}

fn each_of_several_callbacks_is_called_once_per_event(_: &Subject) {
    let (one, two) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
    let _one = callback::scoped(Arc::<Recorder>::clone(&one));
    let _one_again = callback::scoped(Arc::<Recorder>::clone(&one));
    callback::with(Arc::<Recorder>::clone(&two), || assert_eq!(delayed(|| 1, ()).compute().unwrap(), 1));
    for recorder in [one, two] {
        recorder.only().assert_complete();
        assert_eq!(recorder.only().tasks.len(), 1);
    }
}

struct Computes(Arc<AtomicBool>);

impl Callback for Computes {
    fn on_task_started(&self, _: &TaskStarted<'_>) {
        assert_eq!(delayed(|n: u32| n + 1, (1_u32,)).compute_with("sync").unwrap(), 2);
        self.0.store(true, Ordering::SeqCst);
    }
}

fn a_compute_within_a_callback_is_not_watched(_: &Subject) {
    let has_computed = Arc::new(AtomicBool::new(false));
    let events = events_of(|| {
        let _computes = callback::scoped(Arc::new(Computes(Arc::clone(&has_computed))));
        assert_eq!(delayed(|| 1, ()).compute().unwrap(), 1);
    });
    assert_eq!(events.tasks.len(), 1);
    assert!(has_computed.load(Ordering::SeqCst));
}

fn a_guard_ends_the_watching(_: &Subject) {
    let (one, two) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
    let task = delayed(|| 1, ());
    let scope = callback::scoped(Arc::<Recorder>::clone(&one));
    let other = callback::scoped(Arc::<Recorder>::clone(&two));
    task.compute().unwrap();
    drop(scope);
    task.compute().unwrap();
    drop(other);
    task.compute().unwrap();
    assert_eq!((one.runs.lock().unwrap().len(), two.runs.lock().unwrap().len()), (1, 2));
    assert_eq!((Arc::strong_count(&one), Arc::strong_count(&two)), (1, 1));
}

fn a_value_that_panics_when_it_is_dropped_leaves_the_events_complete(_: &Subject) {
    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "it panics when it is dropped");
        }
    }
    let grenade = delayed_local(|| PanicsOnDrop, ()).name("grenade");
    let reader = delayed_local(|_: &PanicsOnDrop| 1, (&grenade,)).name("reader").retries(1);
    let events = events_of(|| assert_eq!(reader.compute().unwrap_err().kind(), ErrorKind::Panicked));
    assert_eq!(events.last("reader"), Some(&Step::Failed(ErrorKind::Panicked)));
}

/// Records the events that need an interest, in their order.
#[derive(Default)]
struct EventLog {
    interests: Interests,
    entries: Mutex<Vec<Logged>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Logged {
    Ready(String),
    Started(String),
    Ended(String),
    Stored(String, ValueSize),
    Released(String, ValueSize),
    End,
}

impl EventLog {
    fn of(interests: Interests, body: impl FnOnce()) -> Vec<Logged> {
        let log = Arc::new(EventLog { interests, ..EventLog::default() });
        callback::with(Arc::<EventLog>::clone(&log), body);
        let entries = log.entries.lock().unwrap().clone();
        assert_eq!(entries.last(), Some(&Logged::End), "no event comes after the end");
        entries
    }

    fn all(body: impl FnOnce()) -> Vec<Logged> {
        EventLog::of(Interests::new().ready().values(), body)
    }

    fn add(&self, entry: impl FnOnce(String) -> Logged, task: TaskInfo<'_>) {
        self.entries.lock().unwrap().push(entry(task.name().to_string()));
    }
}

impl Callback for EventLog {
    fn interests(&self) -> Interests {
        self.interests
    }

    fn on_task_ready(&self, event: &TaskReady<'_>) {
        assert!(event.ready <= Instant::now());
        self.add(Logged::Ready, event.task);
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        self.add(Logged::Started, event.task);
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        self.add(Logged::Ended, event.task);
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        self.add(Logged::Ended, event.task);
    }

    fn on_value_stored(&self, event: &ValueStored<'_>) {
        self.add(|name| Logged::Stored(name, event.size), event.task);
    }

    fn on_value_released(&self, event: &ValueReleased<'_>) {
        self.add(|name| Logged::Released(name, event.size), event.task);
    }

    fn on_run_finished(&self, _: &RunFinished<'_>) {
        self.entries.lock().unwrap().push(Logged::End);
    }
}

#[track_caller]
fn position(entries: &[Logged], matches: impl Fn(&Logged) -> bool) -> usize {
    let places: Vec<usize> = (0..entries.len()).filter(|&i| matches(&entries[i])).collect();
    let [place] = places[..] else { panic!("{places:?} in {entries:?}") };
    place
}

fn is_released(name: &str) -> impl Fn(&Logged) -> bool {
    move |entry| matches!(entry, Logged::Released(released, _) if released == name)
}

fn is_stored(name: &str) -> impl Fn(&Logged) -> bool {
    move |entry| matches!(entry, Logged::Stored(stored, _) if stored == name)
}

fn a_task_is_ready_before_it_is_started(subject: &Subject) {
    let parts = parts(40);
    let halves = parts.chunks(20).enumerate().map(|(i, parts)| delayed(sum, (parts,)).name(format!("half {i}")));
    let total = delayed(sum, (&halves.collect::<Vec<_>>(),)).name("total");
    let late = delayed(|| 1_u64, ()).after(&total).name("late");
    let entries = EventLog::all(|| assert_eq!(late.compute().unwrap(), 1));
    let ready = |name: &str| position(&entries, |entry| *entry == Logged::Ready(name.into()));
    let ended = |name: &str| position(&entries, |entry| *entry == Logged::Ended(name.into()));
    for name in (0..40).map(|i| format!("part {i}")).chain(["half 0", "half 1", "total", "late"].map(str::to_owned)) {
        assert!(ready(&name) < position(&entries, |entry| *entry == Logged::Started(name.clone())), "{name}");
    }
    if subject.in_this_process {
        assert!((0..20).all(|i| ended(&format!("part {i}")) < ready("half 0")));
        assert!(ended("half 0").max(ended("half 1")) < ready("total") && ended("total") < ready("late"));
    }
}

fn a_task_that_is_skipped_is_never_ready(_: &Subject) {
    let (bad, good) = (failing("x"), delayed(|| 1_u64, ()).name("good"));
    let reader = delayed(|bad: &u64, good: &u64| bad + good, (&bad, &good)).name("reader");
    let next = delayed(|n: &u64| *n, (&reader,)).name("next");
    let other = delayed(|n: &u64| *n, (&good,)).name("other");
    let entries = EventLog::all(|| {
        let [next, other] = compute_each([&next, &other]).unwrap();
        assert!(next.is_err() && other.is_ok());
    });
    let is_ready = |name: &str| entries.contains(&Logged::Ready(name.into()));
    assert_eq!(["bad", "good", "reader", "next", "other"].map(is_ready), [true, true, false, false, true]);
    let released = position(&entries, is_released("good"));
    assert!(released > position(&entries, |entry| *entry == Logged::Ended("other".into())));
}

fn a_value_is_held_from_its_task_to_its_last_reader(_: &Subject) {
    let given = local(7_u64);
    let first = delayed_local(|given: &u64| *given, (&given,)).name("first");
    let second = delayed(|n: &u64| n + 1, (&first,)).name("second");
    let third = delayed(|a: &u64, b: &u64, c: &u64| a + b + c, (&first, &second, &second)).name("third");
    let unread = delayed(|n: &u64| *n, (&second,)).name("unread");
    let output = delayed(|n: &u64| *n, (&third,)).after(&unread).name("output");
    let entries = EventLog::all(|| assert_eq!(output.compute().unwrap(), 23));
    let ended = |name: &str| position(&entries, |entry| *entry == Logged::Ended(name.into()));
    for (name, reader) in [("first", "third"), ("second", "third"), ("second", "unread"), ("third", "output")] {
        let (stored, released) = (position(&entries, is_stored(name)), position(&entries, is_released(name)));
        assert!(ended(name) < stored && stored < released && ended(reader) < released, "{name} in {entries:?}");
    }
    assert_eq!(position(&entries, is_released("output")), entries.len() - 2);
    let num_stored = entries.iter().filter(|entry| matches!(entry, Logged::Stored(..))).count();
    assert_eq!(num_stored, 4, "neither the given value nor the unread one: {entries:?}");
}

fn the_remaining_values_of_a_failed_run_are_released_with_it(_: &Subject) {
    let good = delayed(|| 1_u64, ()).name("good");
    let bad = delayed(|n: &u64| assert!(*n > 3, "too small"), (&good,)).name("bad");
    let reader = delayed(|(): &(), n: &u64| *n, (&bad, &good)).name("reader");
    let entries = EventLog::all(|| assert_eq!(reader.compute().unwrap_err().kind(), ErrorKind::Panicked));
    let bad_ended = position(&entries, |entry| *entry == Logged::Ended("bad".into()));
    // In a worker process a value may be needed only within its batch, and be dropped with it
    // before it is reported.
    if entries.iter().any(is_stored("good")) {
        assert!(position(&entries, is_released("good")) > bad_ended);
    }
}

fn a_callback_gets_only_the_events_that_it_asked_for(_: &Subject) {
    let total = delayed(sum, (&parts(5),)).name("total");
    let of = |interests| EventLog::of(interests, || assert_eq!(total.compute().unwrap(), 30));
    let is_ready = |entry: &Logged| matches!(entry, Logged::Ready(_));
    let is_value = |entry: &Logged| matches!(entry, Logged::Stored(..) | Logged::Released(..));
    let count =
        |entries: &[Logged], matches: fn(&Logged) -> bool| entries.iter().filter(|entry| matches(entry)).count();
    for (interests, num_ready, num_values) in [
        (Interests::new(), 0, 0),
        (Interests::new().ready(), 6, 0),
        (Interests::new().values(), 0, 12),
        (Interests::new().ready().values(), 6, 12),
    ] {
        let entries = of(interests);
        assert_eq!((count(&entries, is_ready), count(&entries, is_value)), (num_ready, num_values), "{interests:?}");
    }
    // Another callback with more interests changes nothing for this one.
    let greedy = Arc::new(EventLog { interests: Interests::new().ready().measured_values(), ..EventLog::default() });
    let entries = callback::with(greedy, || of(Interests::new()));
    assert_eq!((count(&entries, is_ready), count(&entries, is_value)), (0, 0));
}

fn a_value_has_a_size(_: &Subject) {
    /// A type that cannot tell what it owns.
    struct Opaque(String);

    let text = delayed(|| "x".repeat(5_000), ()).name("text");
    let shout = delayed_local(|text: &String| text.to_uppercase(), (&text,)).name("shout");
    let opaque = delayed_local(|text: &String| Opaque(text.clone()), (&shout,)).name("opaque");
    let len = delayed_local(|text: &Opaque| text.0.len(), (&opaque,)).name("len");
    let sizes = |interests| {
        let entries = EventLog::of(interests, || assert_eq!(len.compute().unwrap(), 5_000));
        ["text", "shout", "opaque"].map(|name| {
            let Logged::Stored(_, stored) = entries[position(&entries, is_stored(name))] else { unreachable!() };
            assert_eq!(entries[position(&entries, is_released(name))], Logged::Released(name.into(), stored));
            stored
        })
    };
    for interests in [Interests::new().values(), Interests::new().measured_values()] {
        let [text, shout, opaque] = sizes(interests);
        let is_full = |bytes| (5_000..5_100).contains(&bytes);
        assert!(text.is_whole && is_full(text.bytes), "{text:?}");
        assert!(shout.is_whole && is_full(shout.bytes), "a local value whose type can tell: {shout:?}");
        assert_eq!((opaque.bytes, opaque.is_whole), (24, false), "one that cannot be encoded, and cannot tell");
    }
}
