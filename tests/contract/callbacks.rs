//! What those are told who watch a run.

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
        check(every_task_is_told_of_from_start_to_end),
        check(tasks_of_all_kinds_are_told_of),
        check(times_are_those_of_the_call),
        check(a_failure_is_told_before_the_end_of_the_run),
        check(what_depends_on_a_collected_failure_is_skipped),
        check(each_attempt_of_a_task_is_told_of),
        check(a_panic_is_told_as_a_failure),
        check(a_task_that_is_too_slow_is_told_as_a_failure),
        check(a_cancelled_run_has_an_end),
        check(a_run_ends_by_its_handle_once),
        check_here(a_nested_run_knows_the_one_around_it),
        check(a_callback_that_panics_is_called_no_more),
        check(several_callbacks_are_told_once_each),
        check(what_a_callback_computes_is_not_watched),
        check(a_guard_ends_the_watching),
        check_here(a_value_that_panics_when_it_is_dropped_leaves_the_story_whole),
        check(a_task_is_ready_before_it_is_started),
        check(a_task_that_is_skipped_is_never_ready),
        check(a_value_is_held_from_its_task_to_its_last_reader),
        check(what_a_failed_run_has_left_goes_with_it),
        check(nobody_is_told_what_he_did_not_ask_for),
        check(a_value_has_a_size),
    ]
}

/// How the story of a task goes on.
#[derive(Clone, Debug, PartialEq)]
enum Word {
    Started(u32),
    Finished,
    Failed(ErrorKind),
    Retried(Option<ErrorKind>),
    Cancelled,
    Skipped(usize),
}

/// Writes down what it is told and objects to what makes no sense.
#[derive(Default)]
struct Chronicle {
    runs: Mutex<HashMap<RunId, Story>>,
}

#[derive(Clone, Debug, Default)]
struct Story {
    parent: Option<RunId>,
    num_tasks: usize,
    names: Vec<String>,
    tasks: HashMap<usize, Vec<Word>>,
    spans: HashMap<usize, (Instant, Instant)>,
    num_workers: [usize; 2],
    end: Option<Option<ErrorKind>>,
}

impl Chronicle {
    fn story(&self, run: RunId, add: impl FnOnce(&mut Story)) {
        let mut runs = self.runs.lock().unwrap();
        let story = runs.get_mut(&run).expect("the start of the run was told");
        assert_eq!(story.end, None, "the end of the run comes last");
        add(story);
    }

    fn task(&self, task: TaskInfo<'_>, word: Word) {
        self.story(task.run(), |story| {
            assert!(task.id() < story.num_tasks);
            story.tasks.entry(task.id()).or_default().push(word);
        });
    }

    fn run(&self, run: RunInfo<'_>, add: impl FnOnce(&mut Story)) {
        self.story(run.id(), add);
    }

    /// The story of the one run.
    #[track_caller]
    fn only(&self) -> Story {
        let runs = self.runs.lock().unwrap();
        assert_eq!(runs.len(), 1);
        runs.values().next().unwrap().clone()
    }
}

impl Story {
    /// Checks that every task has a start and an end, and the run too.
    #[track_caller]
    fn assert_whole(&self) {
        assert!(self.end.is_some(), "the run has an end");
        for words in self.tasks.values() {
            if let [Word::Skipped(_)] = words[..] {
                continue;
            }
            assert_eq!(words.len() % 2, 0, "{words:?}");
            let num_attempts = words.len() / 2;
            for (attempt, pair) in words.chunks(2).enumerate() {
                assert_eq!(pair[0], Word::Started(attempt as u32 + 1), "{words:?}");
                let is_last = attempt + 1 == num_attempts;
                match &pair[1] {
                    Word::Retried(_) => assert!(!is_last || self.end != Some(None), "{words:?}"),
                    Word::Finished | Word::Failed(_) | Word::Cancelled => assert!(is_last, "{words:?}"),
                    _ => panic!("{words:?}"),
                }
            }
        }
    }

    fn last(&self, name: &str) -> Option<&Word> {
        self.words(name).last()
    }

    fn words(&self, name: &str) -> &[Word] {
        let id = self.names.iter().position(|other| other == name).expect("a task has the name");
        self.tasks.get(&id).map_or(&[], |words| words)
    }
}

impl Callback for Chronicle {
    fn on_run_started(&self, event: &RunStarted<'_>) {
        let run = event.run;
        let names = (0..run.num_tasks()).map(|id| run.task(id).name().to_string()).collect();
        let story = Story { parent: run.parent(), num_tasks: run.num_tasks(), names, ..Story::default() };
        assert!(!event.scheduler.is_empty());
        assert!(self.runs.lock().unwrap().insert(run.id(), story).is_none());
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        self.task(event.task, Word::Started(event.attempt));
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        assert!(event.started <= event.ended && event.ended <= Instant::now());
        if let Some(crossing) = event.crossing {
            assert!(crossing.sent <= event.started && event.ended <= crossing.received);
            assert!(!event.worker.is_here());
        }
        self.task(event.task, Word::Finished);
        self.story(event.task.run(), |story| {
            story.spans.insert(event.task.id(), (event.started, event.ended));
        });
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        assert!(event.started <= event.ended);
        assert_eq!(event.error.task(), Some(&*event.task.name()));
        self.task(event.task, Word::Failed(event.error.kind()));
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        assert!(event.started <= event.ended);
        self.task(event.task, Word::Retried(event.error.as_ref().map(|error| error.kind())));
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        self.task(event.task, Word::Cancelled);
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        self.task(event.task, Word::Skipped(event.cause.id()));
    }

    fn on_worker_started(&self, event: &WorkerStarted<'_>) {
        assert!(!event.worker.is_here());
        self.run(event.run, |story| story.num_workers[0] += 1);
    }

    fn on_worker_lost(&self, event: &WorkerLost<'_>) {
        assert!(!event.worker.is_here());
        self.run(event.run, |story| story.num_workers[1] += 1);
    }

    fn on_run_finished(&self, event: &RunFinished<'_>) {
        assert!(event.started <= event.ended);
        let end = event.error.as_ref().map(|error| error.kind());
        self.run(event.run, |story| {
            assert_eq!(story.num_tasks, event.run.num_tasks());
            story.end = Some(end);
        });
    }
}

/// What is told of what `body` computes in one run.
#[track_caller]
fn story_of(body: impl FnOnce()) -> Story {
    let chronicle = Arc::new(Chronicle::default());
    callback::with(Arc::<Chronicle>::clone(&chronicle), body);
    let story = chronicle.only();
    story.assert_whole();
    story
}

fn sum(parts: Refs<'_, u64>) -> u64 {
    parts.iter().sum()
}

fn parts(n: u64) -> Vec<Delayed<u64>> {
    (0..n).map(|i| delayed(|i| i * i, (i,)).name(format!("part {i}"))).collect()
}

fn every_task_is_told_of_from_start_to_end(_: &Subject) {
    let parts = parts(200);
    let total = delayed(sum, (&parts,)).name("total");
    let story = story_of(|| assert_eq!(total.compute().unwrap(), (0..200).map(|i| i * i).sum::<u64>()));
    assert_eq!((story.num_tasks, story.tasks.len()), (201, 201));
    assert!(story.tasks.values().all(|words| *words == [Word::Started(1), Word::Finished]));
    assert_eq!(story.end, Some(None));
    assert_eq!(story.parent, None);
    let total_began = story.spans[&200].0;
    assert!(story.spans.values().all(|(_, ended)| *ended <= total_began || total_began == story.spans[&200].0));
    for id in 0..200 {
        assert!(story.spans[&id].1 <= total_began, "inputs end before their reader begins");
    }
}

fn tasks_of_all_kinds_are_told_of(_: &Subject) {
    let value = local(vec![1_u64, 2, 3]);
    let here = delayed_local(|v: &Vec<u64>| v.iter().sum::<u64>(), (&value,)).name("here");
    let there = delayed(|n: &u64| n + 1, (&here,)).name("there");
    let back = delayed_local(|n: &u64| n * 2, (&there,)).name("back");
    let late = delayed(|| 1_u64, ()).after(&back).name("late");
    let story = story_of(|| assert_eq!(sprang::compute((&back, &late)).unwrap(), (14, 1)));
    for name in ["here", "there", "back", "late"] {
        assert_eq!(story.words(name), [Word::Started(1), Word::Finished], "{name}");
    }
    assert_eq!(story.tasks.len(), story.num_tasks);
}

fn times_are_those_of_the_call(_: &Subject) {
    fn long() -> u64 {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20) {}
        1
    }
    let task = delayed(long, ()).name("long");
    let before = Instant::now();
    let story = story_of(|| assert_eq!(task.compute().unwrap(), 1));
    let (started, ended) = story.spans[&0];
    assert!(ended - started >= Duration::from_millis(20));
    assert!(before <= started && ended <= Instant::now());
}

fn failing(kind: &'static str) -> Delayed<u64> {
    try_delayed(|kind: &str| kind.parse::<u64>(), (kind,)).name("bad")
}

fn a_failure_is_told_before_the_end_of_the_run(_: &Subject) {
    let bad = failing("x");
    let reader = delayed(|n: &u64| *n, (&bad,)).name("reader");
    let story = story_of(|| assert_eq!(reader.compute().unwrap_err().kind(), ErrorKind::Failed));
    assert_eq!(story.words("bad"), [Word::Started(1), Word::Failed(ErrorKind::Failed)]);
    assert!(story.words("reader").is_empty());
    assert_eq!(story.end, Some(Some(ErrorKind::Failed)));
}

fn what_depends_on_a_collected_failure_is_skipped(_: &Subject) {
    let bad = failing("x");
    let reader = delayed(|n: &u64| *n, (&bad,)).name("reader");
    let next = delayed(|n: &u64| *n, (&reader,)).name("next");
    let good = delayed(|| 1_u64, ()).name("good");
    let story = story_of(|| {
        let [next, good] = compute_each([&next, &good]).unwrap();
        assert_eq!((next.unwrap_err().kind(), good.unwrap()), (ErrorKind::Failed, 1));
    });
    let bad_id = story.names.iter().position(|name| name == "bad").unwrap();
    assert_eq!(story.last("bad"), Some(&Word::Failed(ErrorKind::Failed)));
    assert_eq!(story.words("reader"), [Word::Skipped(bad_id)]);
    assert_eq!(story.words("next"), [Word::Skipped(bad_id)]);
    assert_eq!(story.words("good"), [Word::Started(1), Word::Finished]);
    assert_eq!(story.end, Some(None));
}

fn each_attempt_of_a_task_is_told_of(_: &Subject) {
    let bad = failing("x").retries(2);
    let story = story_of(|| assert_eq!(bad.compute().unwrap_err().kind(), ErrorKind::Failed));
    let retried = || Word::Retried(Some(ErrorKind::Failed));
    let failed = Word::Failed(ErrorKind::Failed);
    let told = [Word::Started(1), retried(), Word::Started(2), retried(), Word::Started(3), failed];
    assert_eq!(story.words("bad"), told);
    let tally = Tally::default();
    let flaky = try_delayed_local(move || if tally.count() == 0 { Err("not yet") } else { Ok(3) }, ()).retries(5);
    let story = story_of(|| assert_eq!(flaky.name("flaky").compute().unwrap(), 3));
    assert_eq!(story.words("flaky"), [Word::Started(1), retried(), Word::Started(2), Word::Finished]);
}

fn a_panic_is_told_as_a_failure(_: &Subject) {
    let bad = delayed(|n: u64| assert!(n > 3, "too small"), (2_u64,)).name("bad");
    let story = story_of(|| assert_eq!(bad.compute().unwrap_err().kind(), ErrorKind::Panicked));
    assert_eq!(story.words("bad"), [Word::Started(1), Word::Failed(ErrorKind::Panicked)]);
    assert_eq!(story.end, Some(Some(ErrorKind::Panicked)));
}

fn a_task_that_is_too_slow_is_told_as_a_failure(_: &Subject) {
    fn slow() {
        let token = CancelToken::current();
        while !token.is_cancelled() {
            std::thread::yield_now();
        }
    }
    let bad = delayed(slow, ()).timeout(Duration::from_millis(30)).name("bad");
    let story = story_of(|| assert_eq!(bad.compute().unwrap_err().kind(), ErrorKind::TimedOut));
    assert_eq!(story.words("bad"), [Word::Started(1), Word::Failed(ErrorKind::TimedOut)]);
}

/// Pulls a token when a task has been started.
struct Pull(CancelToken);

impl Callback for Pull {
    fn on_task_started(&self, _: &TaskStarted<'_>) {
        self.0.cancel();
    }
}

fn a_cancelled_run_has_an_end(_: &Subject) {
    fn until_pulled() -> u64 {
        let token = CancelToken::current();
        while !token.is_cancelled() {
            std::thread::yield_now();
        }
        7
    }
    let token = CancelToken::new();
    let long = delayed(until_pulled, ()).name("long");
    let reader = delayed(|n: &u64| *n, (&long,)).name("reader");
    let story = story_of(|| {
        let _pull = callback::scoped(Arc::new(Pull(token.clone())));
        assert_eq!(token.scope(|| reader.compute()).unwrap_err().kind(), ErrorKind::Cancelled);
    });
    assert!(matches!(story.last("long"), Some(Word::Finished | Word::Cancelled)), "{story:?}");
    assert!(story.words("reader").is_empty());
    assert_eq!(story.end, Some(Some(ErrorKind::Cancelled)));
}

/// Ends the run when a task with this name has been started.
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
            // From another thread and from this one.
            let first = std::thread::scope(|scope| scope.spawn(|| handle.cancel()).join().unwrap());
            self.cancelled.lock().unwrap().extend([first, handle.cancel()]);
        }
    }
}

fn a_run_ends_by_its_handle_once(_: &Subject) {
    fn until_pulled() -> u64 {
        let token = CancelToken::current();
        while !token.is_cancelled() {
            std::thread::yield_now();
        }
        7
    }
    let long = delayed(until_pulled, ()).name("long");
    let reader = delayed(|n: &u64| *n, (&long,)).name("reader");
    let end = Arc::new(EndAt { name: "long", ..EndAt::default() });
    let story = story_of(|| {
        let _end = callback::scoped(Arc::<EndAt>::clone(&end));
        assert_eq!(reader.compute().unwrap_err().kind(), ErrorKind::Cancelled);
    });
    assert!(story.words("reader").is_empty());
    assert_eq!(story.end, Some(Some(ErrorKind::Cancelled)));
    assert_eq!(*end.cancelled.lock().unwrap(), [true, false]);
    // The handle of a run that is over does nothing, and nothing happens to the next run.
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
    let chronicle = Arc::new(Chronicle::default());
    callback::with(Arc::<Chronicle>::clone(&chronicle), || assert_eq!(outer.compute().unwrap(), 30));
    let runs = chronicle.runs.lock().unwrap();
    assert_eq!(runs.len(), 2);
    runs.values().for_each(Story::assert_whole);
    let (outer, inner) = (runs.iter().find(|it| it.1.num_tasks == 1), runs.values().find(|it| it.num_tasks == 6));
    assert_eq!(inner.unwrap().parent, outer.map(|it| *it.0));
    assert_eq!(outer.unwrap().1.parent, None);
}

#[derive(Default)]
struct Clumsy {
    tally: Tally,
}

impl Callback for Clumsy {
    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        self.tally.count();
        panic!("cannot cope with {:?}", event.task.name());
    }

    fn on_run_finished(&self, _: &RunFinished<'_>) {
        self.tally.count();
    }
}

fn a_callback_that_panics_is_called_no_more(_: &Subject) {
    let clumsy = Arc::new(Clumsy::default());
    let chain = (0..20).fold(delayed(|| 0_u64, ()), |before, _| delayed(|n| n + 1, (&before,)));
    let story = story_of(|| {
        let _clumsy = callback::scoped(Arc::<Clumsy>::clone(&clumsy));
        assert_eq!(chain.compute().unwrap(), 20);
    });
    assert_eq!(clumsy.tally.get(), 1, "the tasks run one after the other");
    assert_eq!(story.tasks.len(), 21, "the others are told of all");
}

fn several_callbacks_are_told_once_each(_: &Subject) {
    let (one, two) = (Arc::new(Chronicle::default()), Arc::new(Chronicle::default()));
    let _one = callback::scoped(Arc::<Chronicle>::clone(&one));
    let _one_again = callback::scoped(Arc::<Chronicle>::clone(&one));
    callback::with(Arc::<Chronicle>::clone(&two), || assert_eq!(delayed(|| 1, ()).compute().unwrap(), 1));
    for chronicle in [one, two] {
        chronicle.only().assert_whole();
        assert_eq!(chronicle.only().tasks.len(), 1);
    }
}

struct Computes(Arc<AtomicBool>);

impl Callback for Computes {
    fn on_task_started(&self, _: &TaskStarted<'_>) {
        assert_eq!(delayed(|n: u32| n + 1, (1_u32,)).compute_with("sync").unwrap(), 2);
        self.0.store(true, Ordering::SeqCst);
    }
}

fn what_a_callback_computes_is_not_watched(_: &Subject) {
    let has_computed = Arc::new(AtomicBool::new(false));
    let story = story_of(|| {
        let _computes = callback::scoped(Arc::new(Computes(Arc::clone(&has_computed))));
        assert_eq!(delayed(|| 1, ()).compute().unwrap(), 1);
    });
    assert_eq!(story.tasks.len(), 1);
    assert!(has_computed.load(Ordering::SeqCst));
}

fn a_guard_ends_the_watching(_: &Subject) {
    let (one, two) = (Arc::new(Chronicle::default()), Arc::new(Chronicle::default()));
    let task = delayed(|| 1, ());
    let scope = callback::scoped(Arc::<Chronicle>::clone(&one));
    let other = callback::scoped(Arc::<Chronicle>::clone(&two));
    task.compute().unwrap();
    drop(scope);
    task.compute().unwrap();
    drop(other);
    task.compute().unwrap();
    assert_eq!((one.runs.lock().unwrap().len(), two.runs.lock().unwrap().len()), (1, 2));
    assert_eq!((Arc::strong_count(&one), Arc::strong_count(&two)), (1, 1));
}

fn a_value_that_panics_when_it_is_dropped_leaves_the_story_whole(_: &Subject) {
    struct Grenade;
    impl Drop for Grenade {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "it panics when it is dropped");
        }
    }
    let grenade = delayed_local(|| Grenade, ()).name("grenade");
    let reader = delayed_local(|_: &Grenade| 1, (&grenade,)).name("reader").retries(1);
    let story = story_of(|| assert_eq!(reader.compute().unwrap_err().kind(), ErrorKind::Panicked));
    assert_eq!(story.last("reader"), Some(&Word::Failed(ErrorKind::Panicked)));
}

/// What is only told to those who ask, in the order in which it was told.
#[derive(Default)]
struct Account {
    interests: Interests,
    entries: Mutex<Vec<Entry>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    Ready(String),
    Started(String),
    Ended(String),
    Stored(String, ValueSize),
    Released(String, ValueSize),
    End,
}

impl Account {
    fn of(interests: Interests, body: impl FnOnce()) -> Vec<Entry> {
        let account = Arc::new(Account { interests, ..Account::default() });
        callback::with(Arc::<Account>::clone(&account), body);
        let entries = account.entries.lock().unwrap().clone();
        assert_eq!(entries.last(), Some(&Entry::End), "nothing is told after the end");
        entries
    }

    fn all(body: impl FnOnce()) -> Vec<Entry> {
        Account::of(Interests::new().ready().values(), body)
    }

    fn add(&self, entry: impl FnOnce(String) -> Entry, task: TaskInfo<'_>) {
        self.entries.lock().unwrap().push(entry(task.name().to_string()));
    }
}

impl Callback for Account {
    fn interests(&self) -> Interests {
        self.interests
    }

    fn on_task_ready(&self, event: &TaskReady<'_>) {
        assert!(event.ready <= Instant::now());
        self.add(Entry::Ready, event.task);
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        self.add(Entry::Started, event.task);
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        self.add(Entry::Ended, event.task);
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        self.add(Entry::Ended, event.task);
    }

    fn on_value_stored(&self, event: &ValueStored<'_>) {
        self.add(|name| Entry::Stored(name, event.size), event.task);
    }

    fn on_value_released(&self, event: &ValueReleased<'_>) {
        self.add(|name| Entry::Released(name, event.size), event.task);
    }

    fn on_run_finished(&self, _: &RunFinished<'_>) {
        self.entries.lock().unwrap().push(Entry::End);
    }
}

#[track_caller]
fn place(entries: &[Entry], is_it: impl Fn(&Entry) -> bool) -> usize {
    let places: Vec<usize> = (0..entries.len()).filter(|&i| is_it(&entries[i])).collect();
    let [place] = places[..] else { panic!("{places:?} in {entries:?}") };
    place
}

fn is_released(name: &str) -> impl Fn(&Entry) -> bool {
    move |entry| matches!(entry, Entry::Released(released, _) if released == name)
}

fn is_stored(name: &str) -> impl Fn(&Entry) -> bool {
    move |entry| matches!(entry, Entry::Stored(stored, _) if stored == name)
}

fn a_task_is_ready_before_it_is_started(subject: &Subject) {
    let parts = parts(40);
    let halves = parts.chunks(20).enumerate().map(|(i, parts)| delayed(sum, (parts,)).name(format!("half {i}")));
    let total = delayed(sum, (&halves.collect::<Vec<_>>(),)).name("total");
    let late = delayed(|| 1_u64, ()).after(&total).name("late");
    let entries = Account::all(|| assert_eq!(late.compute().unwrap(), 1));
    let ready = |name: &str| place(&entries, |entry| *entry == Entry::Ready(name.into()));
    let ended = |name: &str| place(&entries, |entry| *entry == Entry::Ended(name.into()));
    for name in (0..40).map(|i| format!("part {i}")).chain(["half 0", "half 1", "total", "late"].map(str::to_owned)) {
        assert!(ready(&name) < place(&entries, |entry| *entry == Entry::Started(name.clone())), "{name}");
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
    let entries = Account::all(|| {
        let [next, other] = compute_each([&next, &other]).unwrap();
        assert!(next.is_err() && other.is_ok());
    });
    let is_ready = |name: &str| entries.contains(&Entry::Ready(name.into()));
    assert_eq!(["bad", "good", "reader", "next", "other"].map(is_ready), [true, true, false, false, true]);
    let released = place(&entries, is_released("good"));
    assert!(released > place(&entries, |entry| *entry == Entry::Ended("other".into())));
}

fn a_value_is_held_from_its_task_to_its_last_reader(_: &Subject) {
    let given = local(7_u64);
    let first = delayed_local(|given: &u64| *given, (&given,)).name("first");
    let second = delayed(|n: &u64| n + 1, (&first,)).name("second");
    let third = delayed(|a: &u64, b: &u64, c: &u64| a + b + c, (&first, &second, &second)).name("third");
    let unread = delayed(|n: &u64| *n, (&second,)).name("unread");
    let output = delayed(|n: &u64| *n, (&third,)).after(&unread).name("output");
    let entries = Account::all(|| assert_eq!(output.compute().unwrap(), 23));
    let ended = |name: &str| place(&entries, |entry| *entry == Entry::Ended(name.into()));
    for (name, reader) in [("first", "third"), ("second", "third"), ("second", "unread"), ("third", "output")] {
        let (stored, released) = (place(&entries, is_stored(name)), place(&entries, is_released(name)));
        assert!(ended(name) < stored && stored < released && ended(reader) < released, "{name} in {entries:?}");
    }
    assert_eq!(place(&entries, is_released("output")), entries.len() - 2);
    let num_stored = entries.iter().filter(|entry| matches!(entry, Entry::Stored(..))).count();
    assert_eq!(num_stored, 4, "neither the given value nor the unread one: {entries:?}");
}

fn what_a_failed_run_has_left_goes_with_it(_: &Subject) {
    let good = delayed(|| 1_u64, ()).name("good");
    let bad = delayed(|n: &u64| assert!(*n > 3, "too small"), (&good,)).name("bad");
    let reader = delayed(|(): &(), n: &u64| *n, (&bad, &good)).name("reader");
    let entries = Account::all(|| assert_eq!(reader.compute().unwrap_err().kind(), ErrorKind::Panicked));
    let bad_ended = place(&entries, |entry| *entry == Entry::Ended("bad".into()));
    // Elsewhere a value may have been asked for in its batch alone, and be gone with it before it was told of.
    if entries.iter().any(is_stored("good")) {
        assert!(place(&entries, is_released("good")) > bad_ended);
    }
}

fn nobody_is_told_what_he_did_not_ask_for(_: &Subject) {
    let total = delayed(sum, (&parts(5),)).name("total");
    let of = |interests| Account::of(interests, || assert_eq!(total.compute().unwrap(), 30));
    let is_ready = |entry: &Entry| matches!(entry, Entry::Ready(_));
    let is_value = |entry: &Entry| matches!(entry, Entry::Stored(..) | Entry::Released(..));
    let count = |entries: &[Entry], is_it: fn(&Entry) -> bool| entries.iter().filter(|entry| is_it(entry)).count();
    for (interests, num_ready, num_values) in [
        (Interests::new(), 0, 0),
        (Interests::new().ready(), 6, 0),
        (Interests::new().values(), 0, 12),
        (Interests::new().ready().values(), 6, 12),
    ] {
        let entries = of(interests);
        assert_eq!((count(&entries, is_ready), count(&entries, is_value)), (num_ready, num_values), "{interests:?}");
    }
    // Another one that asks for more changes nothing for this one.
    let greedy = Arc::new(Account { interests: Interests::new().ready().measured_values(), ..Account::default() });
    let entries = callback::with(greedy, || of(Interests::new()));
    assert_eq!((count(&entries, is_ready), count(&entries, is_value)), (0, 0));
}

fn a_value_has_a_size(subject: &Subject) {
    let text = delayed(|| "x".repeat(5_000), ()).name("text");
    let shout = delayed_local(|text: &String| text.to_uppercase(), (&text,)).name("shout");
    let len = delayed_local(|text: &String| text.len(), (&shout,)).name("len");
    let sizes = |interests| {
        let entries = Account::of(interests, || assert_eq!(len.compute().unwrap(), 5_000));
        ["text", "shout"].map(|name| {
            let Entry::Stored(_, stored) = entries[place(&entries, is_stored(name))] else { unreachable!() };
            assert_eq!(entries[place(&entries, is_released(name))], Entry::Released(name.into(), stored));
            stored
        })
    };
    let [text, shout] = sizes(Interests::new().values());
    assert_eq!((shout.bytes, shout.is_encoded), (24, false), "a local value is as large as its type");
    assert_eq!(text.is_encoded, !subject.in_this_process, "what has crossed was encoded");
    assert!(if text.is_encoded { text.bytes >= 5_000 } else { text.bytes == 24 }, "{text:?}");
    let [text, shout] = sizes(Interests::new().measured_values());
    assert!(text.is_encoded && (5_000..5_100).contains(&text.bytes), "{text:?}");
    assert_eq!((shout.bytes, shout.is_encoded), (24, false));
}
