//! How far runs have got, shown while they go on.
//!
//! Events only count, in atomics of their run. A thread that lives as long as there are runs looks at the counts now and then and shows
//! them; the thread that ends a run shows its last state, so nothing is written of a run after its `compute` has returned. Who drops the guard
//! shows the last state of all that is shown then, and nothing is written afterwards.
//!
//! # What is said of the time left
//!
//! The work that is left is the number of tasks left of each name, times how long those of that name have taken on average, less what the
//! running ones have done; it is spread over as many workers as have been busy on average. Nothing is said before a tenth of a second of
//! work is known. Names of which no task has ended yet count with the mean of all, and `over` stands before the time.
//!
//! # Futures
//!
//! The runs of the futures of one cluster share a line, which has what waits in the cluster beside what they tell. It ends when the cluster
//! has had nothing to do for a moment, or with the guard. Then it counts only what has been taken up, so that it is exact: a task is counted
//! before its future is told of it, but waits for a moment longer as far as the cluster knows.
//!
//! Futures that somebody names are followed without a run: who looks at their states ten times in a second knows how many of each name ran
//! meanwhile, and so how long they run, on average and in all. A future that has come to its end is let go of when somebody looks.

use super::picture::{Graph, without_numbers};
use super::units;
use crate::client::{AnyFuture, Futures, Status};
use crate::engine::callback::{
    self, Callback, ClusterInfo, RunFinished, RunId, RunInfo, RunStarted, TaskCancelled, TaskFailed, TaskFinished,
    TaskInfo, TaskRetried, TaskSkipped, TaskStarted,
};
use crate::error::Error;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(100);
/// More bars than this fill a terminal.
const MAX_BARS: usize = 8;
/// More names than this fill a line.
const MAX_NAMES: usize = 4;
/// Names of a cluster's tasks that are told apart.
const MAX_FAMILIES: usize = 100;
const OTHER: &str = "others";
/// How long the line of a cluster waits for more futures before it ends: who hands in tasks may be slower than those that run them.
const LINGER: Duration = Duration::from_millis(300);
/// Below, a mean duration is worth nothing.
const LEAST_KNOWN: Duration = Duration::from_millis(100);

/// Shows the progress of what this thread computes, until the guard is dropped: [`Progress::new`] as it comes.
///
/// # Examples
/// ```
/// use sprang::{Refs, delayed};
///
/// let _shown = sprang::progress();
/// let parts: Vec<_> = (0..100_u64).map(|i| delayed(|i| i * i, (i,)).name(format!("square {i}"))).collect();
/// let sum = delayed(|parts: Refs<u64>| parts.iter().sum::<u64>(), (&parts,));
/// assert_eq!(sum.compute()?, 328_350); // too quick for anything to be shown
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn progress() -> Shown {
    Progress::new().scoped()
}

/// How the progress of runs is shown.
///
/// On a terminal each run has a bar on stderr, with the number of tasks done, in all and by name, how many are done in a second, and the
/// time left. Where stderr is no terminal there is a plain line now and then. Runs that end within
/// [`min_duration`](Progress::min_duration) show nothing. A run that fails says so and leaves its bar as it is.
///
/// [Futures](crate::TaskFuture) have a bar for each cluster, which ends when no more are handed in for a moment, or when the guard is
/// dropped. While it goes on, all that waits in the cluster is counted in, because nobody knows of what waits who has handed it in; to see
/// only what is your own, [follow](Progress::follow) it.
///
/// # Examples
/// ```
/// use sprang::{Progress, delayed};
/// use std::io::{self, Write};
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// #[derive(Clone, Default)]
/// struct Log(Arc<Mutex<Vec<u8>>>);
///
/// impl Write for Log {
///     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
///         self.0.lock().unwrap().write(bytes)
///     }
///     fn flush(&mut self) -> io::Result<()> {
///         Ok(())
///     }
/// }
///
/// let log = Log::default();
/// let shown = Progress::new().min_duration(Duration::ZERO).lines_to(log.clone()).scoped();
/// delayed(|| 7, ()).name("seven").compute()?;
/// drop(shown);
/// let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
/// let last = text.lines().last().unwrap(); // a slow machine may have shown one before
/// assert!(last.starts_with("seven: 1 of 1 tasks in "), "{text}");
/// # Ok::<_, sprang::Error>(())
/// ```
#[must_use = "nothing is shown before `scoped` or `registered` is called"]
pub struct Progress {
    min_duration: Duration,
    every: Duration,
    lines: Option<Box<dyn Write + Send>>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("min_duration", &self.min_duration)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

impl Default for Progress {
    fn default() -> Self {
        Progress::new()
    }
}

impl Progress {
    /// Bars, or lines every ten seconds, for runs that take longer than half a second.
    pub fn new() -> Self {
        Progress { min_duration: Duration::from_millis(500), every: Duration::from_secs(10), lines: None }
    }

    /// Shows nothing of a run before it has taken this long.
    pub fn min_duration(mut self, min_duration: Duration) -> Self {
        self.min_duration = min_duration;
        self
    }

    /// How much time lies between two plain lines of a run; not less than a tenth of a second.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// Writes plain lines, to this writer. What cannot be written is lost.
    pub fn lines_to(mut self, writer: impl Write + Send + 'static) -> Self {
        self.lines = Some(Box::new(writer));
        self
    }

    /// Shows the runs of this thread, and those that are nested in them, until the guard is dropped.
    pub fn scoped(self) -> Shown {
        let board = Arc::new(self.board());
        let shared = Arc::clone(&board.shared);
        Shown { shared, _scope: callback::scoped(board) }
    }

    /// Shows all runs of the process until the guard is dropped.
    pub fn registered(self) -> callback::Registration {
        callback::register(self.into_callback())
    }

    /// For [`callback::scoped`] and its siblings.
    pub fn into_callback(self) -> Arc<dyn Callback> {
        Arc::new(self.board())
    }

    /// Shows how far futures have got, in the background, until they have come to an end or the guard is dropped. They may be of any
    /// types, in any shape. To wait meanwhile, see [`Followed::wait`] and [`progress_of`].
    ///
    /// # Examples
    /// ```
    /// use sprang::{Client, Progress, Refs};
    ///
    /// let client = Client::threads(2)?;
    /// let words = client.map(|text: &str| text.len() as u64, ["one", "two", "three"]);
    /// let total = client.submit(|lens: Refs<'_, u64>| lens.iter().sum::<u64>(), (&words,));
    /// let _followed = Progress::new().follow((&words, &total)); // too quick for anything to be shown
    /// assert_eq!(total.result()?, 11);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn follow(self, futures: impl Futures) -> Followed {
        Followed::new(self, futures)
    }

    fn board(mut self) -> Board {
        let display = self.display();
        Board::new(self.min_duration, self.every, display)
    }

    fn display(&mut self) -> Display {
        /// All that is drawn on the terminal, so that it is not drawn over.
        static BARS: OnceLock<MultiProgress> = OnceLock::new();
        match self.lines.take() {
            Some(writer) => Display::Lines(writer),
            None if io::stderr().is_terminal() => Display::Bars(BARS.get_or_init(MultiProgress::new).clone()),
            None => Display::Lines(Box::new(io::stderr())),
        }
    }
}

/// Keeps the progress of this thread's runs shown until it is dropped. Made by [`progress`] and [`Progress::scoped`].
#[must_use = "progress is shown until this guard is dropped: bind it, `let _shown = ...`"]
pub struct Shown {
    shared: Arc<Shared>,
    _scope: callback::Scope,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Where it is shown.
enum Display {
    Bars(MultiProgress),
    Lines(Box<dyn Write + Send>),
}

/// All runs that are shown together.
struct Board {
    /// Ascending; so the last is found first, which is the innermost.
    runs: RwLock<Vec<Arc<RunCounts>>>,
    shared: Arc<Shared>,
}

struct Shared {
    min_duration: Duration,
    every: Duration,
    /// The lines of clusters. Locked before the state.
    clusters: RwLock<Vec<Arc<Counts>>>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    display: Display,
    lines: Vec<Line>,
    has_thread: bool,
    /// Nothing more is shown.
    is_closed: bool,
}

/// One line or bar: a run, or the futures of a cluster.
struct Line {
    counts: Arc<Counts>,
    bar: Option<ProgressBar>,
    last: Option<Instant>,
}

/// How far one run has got.
struct RunCounts {
    id: RunId,
    of_line: Arc<Counts>,
    /// For each task the place of its name in `families`, if it counts.
    family: Vec<Option<u32>>,
    families: Vec<Arc<FamilyCounts>>,
    /// For each of these, how many tasks have not come to their end.
    num_left: Vec<AtomicI64>,
    /// Where the run is one of futures: whether the task is one, and how many of these have not come to their end.
    is_future: Vec<bool>,
    num_open: AtomicI64,
}

/// What is shown of one line.
struct Counts {
    depth: usize,
    title: String,
    started: Instant,
    /// How many had come to their end before anybody looked.
    num_before: AtomicU64,
    /// Locked when a run starts and when somebody looks.
    families: Mutex<Vec<Arc<FamilyCounts>>>,
    backlog: Option<Backlog>,
    num_failed: AtomicU64,
    num_skipped: AtomicU64,
    num_cancelled: AtomicU64,
    num_lost: AtomicU64,
}

/// Of a cluster: what is known of futures beside those that run.
struct Backlog {
    cluster: ClusterInfo,
    num_runs: AtomicI64,
    /// Futures of runs that go on which have not come to their end.
    num_open: AtomicI64,
    /// When a run last ended.
    last_end: Mutex<Instant>,
}

#[derive(Default)]
struct FamilyCounts {
    name: String,
    num_tasks: AtomicU64,
    num_done: AtomicU64,
    /// Those that have told how long they took, and how long.
    num_timed: AtomicU64,
    timed_ns: AtomicU64,
    num_running: AtomicI64,
    /// The sum of when they were started, from the start of the run.
    starts_ns: AtomicI64,
}

impl Counts {
    fn new(title: String, started: Instant, depth: usize, backlog: Option<Backlog>) -> Self {
        Counts {
            depth,
            title,
            started,
            num_before: AtomicU64::new(0),
            families: Mutex::default(),
            backlog,
            num_failed: AtomicU64::new(0),
            num_skipped: AtomicU64::new(0),
            num_cancelled: AtomicU64::new(0),
            num_lost: AtomicU64::new(0),
        }
    }

    /// Those of a name.
    fn family(&self, name: &str) -> Arc<FamilyCounts> {
        let mut families = self.families.lock();
        let name = match families.iter().any(|family| family.name == name) || families.len() < MAX_FAMILIES {
            true => name,
            false => OTHER,
        };
        let known = families.iter().find(|family| family.name == name).map(Arc::clone);
        known.unwrap_or_else(|| new_family(&mut families, name))
    }

    /// Those of a name that no others have.
    fn new_family(&self, name: &str) -> Arc<FamilyCounts> {
        new_family(&mut self.families.lock(), name)
    }

    fn since_start(&self, instant: Instant) -> i64 {
        instant.saturating_duration_since(self.started).as_nanos() as i64
    }

    fn num_done(&self) -> u64 {
        self.families.lock().iter().map(|counts| counts.num_done.load(Relaxed)).sum()
    }

    /// Futures of a cluster that no run has taken up.
    fn num_queued(&self) -> u64 {
        self.backlog.as_ref().map_or(0, |backlog| {
            let num_pending = backlog.cluster.num_pending().unwrap_or(0) as i64;
            (num_pending - backlog.num_open.load(Relaxed)).max(0) as u64
        })
    }

    /// How many have come to their end, of how many; what waits in the cluster among these, or only what has been taken up.
    fn done_and_all(&self, counts_queued: bool) -> (u64, u64) {
        let num_done = self.num_done();
        let num_known: u64 = self.families.lock().iter().map(|counts| counts.num_tasks.load(Relaxed)).sum();
        let num_queued = if counts_queued { self.num_queued() } else { 0 };
        // They are not read at once.
        (num_done, (num_known + num_queued).max(num_done))
    }

    /// Whether it is a cluster without anything to do, since then.
    fn idle_since(&self) -> Option<Instant> {
        let backlog = self.backlog.as_ref()?;
        let is_idle = backlog.num_runs.load(Relaxed) == 0 && backlog.cluster.num_pending().unwrap_or(0) == 0;
        is_idle.then(|| *backlog.last_end.lock())
    }

    /// The time left, and whether tasks are left of which it is not known how long they take.
    fn time_left(&self, now: Instant) -> Option<(Duration, bool)> {
        let elapsed_ns = self.since_start(now) as f64;
        let families = self.families.lock();
        let (mut num_timed, mut timed_ns, mut running_ns) = (0, 0, 0.0);
        for counts in &*families {
            num_timed += counts.num_timed.load(Relaxed);
            timed_ns += counts.timed_ns.load(Relaxed);
            running_ns += counts.running_ns(elapsed_ns);
        }
        if num_timed == 0 || (timed_ns as f64) < LEAST_KNOWN.as_nanos() as f64 {
            return None;
        }
        let overall_mean = timed_ns as f64 / num_timed as f64;
        let (mut left_ns, mut has_unknown) = (self.num_queued() as f64 * overall_mean, false);
        for counts in &*families {
            let num_left = counts.num_tasks.load(Relaxed).saturating_sub(counts.num_done.load(Relaxed)) as f64;
            let num_timed = counts.num_timed.load(Relaxed);
            let mean = match num_timed {
                0 => overall_mean,
                _ => counts.timed_ns.load(Relaxed) as f64 / num_timed as f64,
            };
            has_unknown |= num_timed == 0 && num_left > 0.0;
            let done_ns = counts.running_ns(elapsed_ns).min(counts.num_running.load(Relaxed).max(0) as f64 * mean);
            left_ns += (num_left * mean - done_ns).max(0.0);
        }
        let num_busy = ((timed_ns as f64 + running_ns) / elapsed_ns.max(1.0)).max(0.01);
        Some((Duration::from_nanos((left_ns / num_busy) as u64), has_unknown))
    }

    /// `load 3/10, total 0/1`, the names that are under way. Of futures of a cluster, whose names are known when they run, `load 3`.
    fn by_name(&self) -> String {
        let is_under_way = |counts: &&Arc<FamilyCounts>| {
            let (num_done, is_running) = (counts.num_done.load(Relaxed), counts.num_running.load(Relaxed) > 0);
            let is_open = self.backlog.is_some() || num_done < counts.num_tasks.load(Relaxed);
            is_open && (num_done > 0 || is_running)
        };
        let families = self.families.lock();
        let under_way: Vec<_> = families.iter().filter(is_under_way).collect();
        let part = |counts: &&Arc<FamilyCounts>| {
            let done = units::count(counts.num_done.load(Relaxed));
            match self.backlog {
                None => format!("{} {done}/{}", counts.name, units::count(counts.num_tasks.load(Relaxed))),
                Some(_) => format!("{} {done}", counts.name),
            }
        };
        let mut parts: Vec<String> = under_way.iter().take(MAX_NAMES).map(part).collect();
        if under_way.len() > MAX_NAMES {
            parts.push(format!("{} more", under_way.len() - MAX_NAMES));
        }
        parts.join(", ")
    }

    fn troubles(&self) -> String {
        let part = |count: &AtomicU64, what: &str| match count.load(Relaxed) {
            0 => String::new(),
            count => format!(", {} {what}", units::count(count)),
        };
        [
            part(&self.num_failed, "failed"),
            part(&self.num_skipped, "skipped"),
            part(&self.num_cancelled, "cancelled"),
            part(&self.num_lost, "lost"),
        ]
        .concat()
    }

    /// How it is going: rate, time left, names.
    fn message(&self, now: Instant) -> String {
        let elapsed = now.saturating_duration_since(self.started).as_secs_f64();
        let num_done = self.num_done() - self.num_before.load(Relaxed);
        let mut text = format!("{}/s{}", rate(num_done as f64 / elapsed.max(1e-9)), self.troubles());
        // Less is not worth reading, or not true: what is still running then takes longer than anything before.
        match self.time_left(now).filter(|(left, _)| *left >= REDRAW) {
            Some((left, true)) => text += &format!(", over {} left", units::duration(left)),
            Some((left, false)) => text += &format!(", {} left", units::duration(left)),
            None => {}
        }
        match self.by_name() {
            names if names.is_empty() => text,
            names => format!("{text}: {names}"),
        }
    }

    /// How it ended.
    fn end(&self, now: Instant, error: Option<&Error>) -> String {
        let time = units::duration(now.saturating_duration_since(self.started));
        match error {
            None => format!("in {time}{}", self.troubles()),
            Some(error) => format!("in {time}, then: {error}").replace('\n', " "),
        }
    }

    fn line(&self, (done, all): (u64, u64), rest: &str) -> String {
        let (title, done, all) = (&self.title, units::count(done), units::count(all));
        format!("{}{title}: {done} of {all} tasks {rest}\n", "  ".repeat(self.depth))
    }
}

fn new_family(families: &mut Vec<Arc<FamilyCounts>>, name: &str) -> Arc<FamilyCounts> {
    families.push(Arc::new(FamilyCounts { name: name.to_owned(), ..FamilyCounts::default() }));
    Arc::clone(&families[families.len() - 1])
}

impl RunCounts {
    /// `of_cluster` is the line of the cluster whose futures it carries out.
    fn new(run: RunInfo<'_>, started: Instant, depth: usize, of_cluster: Option<Arc<Counts>>) -> Self {
        let is_of_futures = of_cluster.is_some();
        let graph = match is_of_futures {
            true => Graph::of_many(run.plan()),
            false => Graph::without_arguments(run.plan()),
        };
        let of_line = of_cluster.unwrap_or_else(|| {
            let title = match graph.outputs() {
                [] => "nothing".to_owned(),
                [output] => graph.name(*output).to_string(),
                [first, others @ ..] => format!("{} and {} more", graph.name(*first), others.len()),
            };
            Arc::new(Counts::new(title, started, depth, None))
        });
        let family_of = |family| match is_of_futures {
            true => of_line.family(graph.family_name(family)),
            false => of_line.new_family(graph.family_name(family)),
        };
        let families: Vec<_> = (0..graph.num_families() as u32).map(family_of).collect();
        // Among the tasks of a run of futures are the values of others.
        let counts = |&id: &u32| !is_of_futures || !run.task(id as usize).is_value();
        let ids = || 0..graph.num_tasks() as u32;
        let family: Vec<Option<u32>> = ids().map(|id| counts(&id).then(|| graph.family(id))).collect();
        let mut num_left: Vec<AtomicI64> = families.iter().map(|_| AtomicI64::new(0)).collect();
        family.iter().flatten().for_each(|&family| *num_left[family as usize].get_mut() += 1);
        families.iter().zip(&mut num_left).for_each(|(family, num_left)| {
            family.num_tasks.fetch_add(*num_left.get_mut() as u64, Relaxed);
        });
        let is_future: Vec<bool> = match is_of_futures {
            true => ids().map(|id| graph.is_output(id)).collect(),
            false => Vec::new(),
        };
        let num_open = graph.outputs().len() as i64;
        if let Some(backlog) = &of_line.backlog {
            backlog.num_runs.fetch_add(1, Relaxed);
            backlog.num_open.fetch_add(num_open, Relaxed);
        }
        let num_open = AtomicI64::new(num_open);
        RunCounts { id: run.id(), of_line, family, families, num_left, is_future, num_open }
    }

    fn of_task(&self, task: TaskInfo<'_>) -> Option<&FamilyCounts> {
        self.family[task.id()].map(|family| &*self.families[family as usize])
    }

    fn began(&self, task: TaskInfo<'_>, at: Instant) {
        if let Some(counts) = self.of_task(task) {
            counts.num_running.fetch_add(1, Relaxed);
            counts.starts_ns.fetch_add(self.of_line.since_start(at), Relaxed);
        }
    }

    /// `told` is the start that was told first; it is not always the one that was measured.
    fn ended(&self, task: TaskInfo<'_>, told: Instant, is_done: bool) {
        if let Some(counts) = self.of_task(task) {
            counts.num_running.fetch_sub(1, Relaxed);
            counts.starts_ns.fetch_sub(self.of_line.since_start(told), Relaxed);
            counts.num_done.fetch_add(u64::from(is_done), Relaxed);
            if is_done {
                self.is_over(task);
            }
        }
    }

    fn skipped(&self, task: TaskInfo<'_>) {
        if let Some(counts) = self.of_task(task) {
            counts.num_done.fetch_add(1, Relaxed);
            self.of_line.num_skipped.fetch_add(1, Relaxed);
            self.is_over(task);
        }
    }

    fn is_over(&self, task: TaskInfo<'_>) {
        if let Some(family) = self.family[task.id()] {
            self.num_left[family as usize].fetch_sub(1, Relaxed);
        }
        if let (Some(backlog), Some(true)) = (&self.of_line.backlog, self.is_future.get(task.id())) {
            backlog.num_open.fetch_sub(1, Relaxed);
            self.num_open.fetch_sub(1, Relaxed);
        }
    }

    /// The run of futures has ended. Those that it has not brought to an end were cancelled, or are going to be in another.
    fn close(&self, backlog: &Backlog, ended: Instant) {
        for (family, num_left) in self.families.iter().zip(&self.num_left) {
            family.num_tasks.fetch_sub(num_left.load(Relaxed).max(0) as u64, Relaxed);
        }
        backlog.num_open.fetch_sub(self.num_open.load(Relaxed), Relaxed);
        *backlog.last_end.lock() = ended;
        backlog.num_runs.fetch_sub(1, Relaxed);
    }
}

impl FamilyCounts {
    /// How long the running ones have been running, all together.
    fn running_ns(&self, elapsed_ns: f64) -> f64 {
        // The two are not read at once; what is impossible counts as nothing.
        (self.num_running.load(Relaxed) as f64 * elapsed_ns - self.starts_ns.load(Relaxed) as f64).max(0.0)
    }
}
fn rate(per_second: f64) -> String {
    if per_second < 9.95 { format!("{per_second:.1}") } else { units::count(per_second.round() as u64) }
}

impl Board {
    fn new(min_duration: Duration, every: Duration, display: Display) -> Self {
        let state = Mutex::new(State { display, lines: Vec::new(), has_thread: false, is_closed: false });
        let shared = Shared {
            min_duration,
            every: every.max(REDRAW),
            clusters: RwLock::default(),
            state,
            changed: Condvar::new(),
        };
        Board { runs: RwLock::default(), shared: Arc::new(shared) }
    }

    fn with_run(&self, run: RunId, body: impl FnOnce(&RunCounts)) {
        if let Some(counts) = self.runs.read().iter().rev().find(|counts| counts.id == run) {
            body(counts);
        }
    }

    /// A run of futures, which has the line of its cluster.
    fn run_of(&self, cluster: &ClusterInfo, run: RunInfo<'_>, started: Instant) -> RunCounts {
        let is_its = |counts: &&Arc<Counts>| counts.backlog.as_ref().is_some_and(|it| it.cluster.id() == cluster.id());
        // Counted as a run before the lock is given back, so that the line does not end in between.
        let count = |counts: &Arc<Counts>| RunCounts::new(run, started, 0, Some(Arc::clone(counts)));
        if let Some(counts) = self.shared.clusters.read().iter().find(is_its) {
            return count(counts);
        }
        let mut clusters = self.shared.clusters.write();
        if let Some(counts) = clusters.iter().find(is_its) {
            return count(counts);
        }
        let backlog = Backlog {
            cluster: cluster.clone(),
            num_runs: AtomicI64::new(0),
            num_open: AtomicI64::new(0),
            last_end: Mutex::new(started),
        };
        let new = Arc::new(Counts::new(cluster.name().to_string(), started, 0, Some(backlog)));
        let counted = count(&new);
        clusters.push(Arc::clone(&new));
        drop(clusters);
        self.shared.add(new);
        counted
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Callback for Board {
    fn on_run_started(&self, event: &RunStarted<'_>) {
        let run = event.run;
        if run.starts_worker() {
            return;
        }
        if let Some(cluster) = run.cluster() {
            let counts = Arc::new(self.run_of(cluster, run, event.started));
            return self.runs.write().push(counts);
        }
        let depth = {
            let runs = self.runs.read();
            let parent = run.parent().and_then(|parent| runs.iter().find(|counts| counts.id == parent));
            parent.map_or(0, |parent| parent.of_line.depth + 1)
        };
        let counts = Arc::new(RunCounts::new(run, event.started, depth, None));
        let of_line = Arc::clone(&counts.of_line);
        self.runs.write().push(counts);
        self.shared.add(of_line);
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        self.with_run(event.task.run(), |counts| counts.began(event.task, event.started));
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        self.with_run(event.task.run(), |counts| {
            counts.ended(event.task, event.crossing.map_or(event.started, |crossing| crossing.sent), true);
            if let Some(family) = counts.of_task(event.task).filter(|_| !event.task.is_value()) {
                family.num_timed.fetch_add(1, Relaxed);
                family.timed_ns.fetch_add((event.ended - event.started).as_nanos() as u64, Relaxed);
            }
        });
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        self.with_run(event.task.run(), |counts| {
            counts.ended(event.task, event.crossing.map_or(event.started, |crossing| crossing.sent), true);
            counts.of_line.num_failed.fetch_add(1, Relaxed);
        });
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        let sent = event.crossing.map_or(event.started, |crossing| crossing.sent);
        self.with_run(event.task.run(), |counts| counts.ended(event.task, sent, false));
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        self.with_run(event.task.run(), |counts| counts.ended(event.task, event.started, false));
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        self.with_run(event.task.run(), |counts| counts.skipped(event.task));
    }

    fn on_run_finished(&self, event: &RunFinished<'_>) {
        let run = {
            let mut runs = self.runs.write();
            let Some(position) = runs.iter().rposition(|counts| counts.id == event.run.id()) else { return };
            runs.remove(position)
        };
        match &run.of_line.backlog {
            // The line goes on, with other runs.
            Some(backlog) => run.close(backlog, event.ended),
            None => self.shared.end(&run.of_line, event.ended, event.error.as_ref()),
        }
    }
}

impl Shared {
    fn add(self: &Arc<Self>, counts: Arc<Counts>) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        state.lines.push(Line { counts, bar: None, last: None });
        if !state.has_thread {
            let shared = Arc::clone(self);
            let thread = std::thread::Builder::new().name("sprang-progress".into());
            // Without a thread only the end is shown.
            state.has_thread = thread.spawn(move || shared.keep_up()).is_ok();
        }
    }

    /// Shows how things stand until there is nothing to show any more.
    fn keep_up(&self) {
        loop {
            self.end_idle(LINGER);
            let mut state = self.state.lock();
            if state.lines.is_empty() {
                state.has_thread = false;
                return;
            }
            state.show(Instant::now(), self.min_duration, self.every);
            self.changed.wait_for(&mut state, REDRAW);
        }
    }

    fn end(&self, counts: &Arc<Counts>, ended: Instant, error: Option<&Error>) {
        self.state.lock().end(counts, ended, error, self.min_duration);
        self.changed.notify_all();
    }

    /// Ends all lines, and has no more.
    fn close(&self) {
        self.clusters.write().clear();
        let mut state = self.state.lock();
        state.is_closed = true;
        let now = Instant::now();
        let all: Vec<Arc<Counts>> = state.lines.iter().map(|line| Arc::clone(&line.counts)).collect();
        for counts in all {
            state.end(&counts, counts.idle_since().unwrap_or(now), None, self.min_duration);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Ends the lines of clusters that have had nothing to do for so long.
    fn end_idle(&self, time: Duration) {
        let idle: Vec<_> = {
            let mut clusters = self.clusters.write();
            let now = Instant::now();
            let is_idle = |counts: &mut Arc<Counts>| {
                counts.idle_since().is_some_and(|since| now.saturating_duration_since(since) >= time)
            };
            clusters.extract_if(.., is_idle).collect()
        };
        for counts in idle {
            let since = counts.idle_since().unwrap_or_else(Instant::now);
            self.end(&counts, since, None);
        }
    }
}

impl Line {
    fn is_shown(&self) -> bool {
        self.bar.is_some() || self.last.is_some()
    }

    fn ensure_bar(&mut self, bars: &MultiProgress) -> &ProgressBar {
        let counts = &self.counts;
        self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix} [{bar:24}] {human_pos}/{human_len} {wide_msg}");
            let style = style.expect("the template is right").progress_chars("=> ");
            let bar = ProgressBar::with_draw_target(Some(counts.done_and_all(true).1), ProgressDrawTarget::hidden());
            bar.set_style(style);
            bar.set_prefix(format!("{}{}", "  ".repeat(counts.depth), counts.title));
            bars.add(bar)
        })
    }
}

impl State {
    fn show(&mut self, now: Instant, min_duration: Duration, every: Duration) {
        let State { display, lines, .. } = self;
        let mut num_bars = lines.iter().filter(|line| line.bar.is_some()).count();
        for line in lines {
            let counts = Arc::clone(&line.counts);
            let age = now.saturating_duration_since(counts.started);
            // What is over is shown once more at its end.
            if age < min_duration || counts.idle_since().is_some() {
                continue;
            }
            match display {
                Display::Bars(bars) => {
                    if line.bar.is_none() && num_bars >= MAX_BARS {
                        continue;
                    }
                    num_bars += usize::from(line.bar.is_none());
                    let bar = line.ensure_bar(bars);
                    let (done, all) = counts.done_and_all(true);
                    bar.set_message(counts.message(now));
                    bar.set_length(all);
                    bar.set_position(done);
                    bar.tick();
                }
                Display::Lines(writer) => {
                    if line.last.is_none_or(|last| now.saturating_duration_since(last) >= every) {
                        line.last = Some(now);
                        write(writer, &counts.line(counts.done_and_all(true), &format!("at {}", counts.message(now))));
                    }
                }
            }
        }
    }

    /// Takes a line out, and shows how it ended if it has taken long enough to be shown.
    fn end(&mut self, counts: &Arc<Counts>, ended: Instant, error: Option<&Error>, min_duration: Duration) {
        let Some(position) = self.lines.iter().position(|line| Arc::ptr_eq(&line.counts, counts)) else { return };
        let mut line = self.lines.remove(position);
        if !line.is_shown() && ended.saturating_duration_since(counts.started) < min_duration {
            return;
        }
        match &mut self.display {
            // Of nested runs, of which there may be many, only those are left that failed.
            Display::Bars(_) if counts.depth > 0 && error.is_none() => {
                if let Some(bar) = line.bar {
                    bar.finish_and_clear();
                }
            }
            Display::Bars(bars) => {
                let (done, all) = counts.done_and_all(false);
                let bar = line.ensure_bar(bars);
                bar.set_length(all);
                bar.set_position(done);
                bar.abandon_with_message(counts.end(ended, error));
            }
            Display::Lines(writer) => {
                write(writer, &counts.line(counts.done_and_all(false), &counts.end(ended, error)));
            }
        }
    }
}

fn write(writer: &mut Box<dyn Write + Send>, line: &str) {
    let _lost = writer.write_all(line.as_bytes()).and_then(|()| writer.flush());
}

// ---- futures ----

/// Shows how far futures have got, and waits until all have come to an end.
///
/// They may be of any types, in any shape. What is shown is as [`Progress`] has it for runs, at once and however quick they are; those that
/// failed, were cancelled or lost are counted apart. Nothing is taken from the futures: what has become of each is asked of it afterwards.
/// [`Progress::follow`] shows the same in the background.
///
/// # Examples
/// ```
/// use sprang::Client;
///
/// let client = Client::threads(2)?;
/// let squares = client.map(|x: u64| x * x, 0..100_u64);
/// sprang::progress_of(&squares); // {{closure}} [========================] 100/100 in 1.02 ms
/// assert_eq!(client.gather(&squares)?[99], 9_801);
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn progress_of(futures: impl Futures) {
    Progress::new().min_duration(Duration::ZERO).follow(futures).wait();
}

/// Shows how far futures have got, until they have come to an end or it is dropped. Made by [`Progress::follow`].
#[must_use = "futures are followed until this guard is dropped: bind it, or call `wait`"]
pub struct Followed {
    shared: Arc<Following>,
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed").field("num_open", &self.shared.state.lock().open.len()).finish_non_exhaustive()
    }
}

/// What is shown of futures that are followed. Nobody tells how long these run: who looks every now and then how many do, knows.
struct Following {
    min_duration: Duration,
    every: Duration,
    state: Mutex<FollowState>,
    changed: Condvar,
}

struct FollowState {
    shown: State,
    counts: Arc<Counts>,
    open: Vec<OpenFuture>,
    looked: Instant,
    /// By family: how long all of them have run, together.
    busy_ns: Vec<u64>,
}

/// A future that has not come to an end.
struct OpenFuture {
    future: AnyFuture,
    family: usize,
    running_since: Option<Instant>,
}

impl Followed {
    fn new(mut progress: Progress, futures: impl Futures) -> Self {
        let display = progress.display();
        let mut all = Vec::new();
        futures.list(&mut all);
        let Progress { min_duration, every, .. } = progress;
        let now = Instant::now();
        let names: Vec<String> = all.iter().map(|future| without_numbers(&future.name())).collect();
        let title = match names.first() {
            Some(first) if names.iter().all(|name| name == first) => first.clone(),
            _ => "futures".to_owned(),
        };
        let counts = Arc::new(Counts::new(title, now, 0, None));
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let open: Vec<OpenFuture> = (all.into_iter().zip(&names))
            .map(|(future, name)| {
                let family = counts.family(name);
                family.num_tasks.fetch_add(1, Relaxed);
                let number = numbers.len();
                let family = *numbers.entry(family.name.clone()).or_insert(number);
                OpenFuture { future, family, running_since: None }
            })
            .collect();
        let shown = State {
            display,
            lines: names
                .first()
                .map(|_| Line { counts: Arc::clone(&counts), bar: None, last: None })
                .into_iter()
                .collect(),
            has_thread: false,
            is_closed: false,
        };
        let mut state = FollowState { shown, counts, open, looked: now, busy_ns: vec![0; numbers.len()] };
        state.look(now);
        state.counts.num_before.store(state.counts.num_done(), Relaxed);
        state.counts.families.lock().iter().for_each(|family| family.num_timed.store(0, Relaxed));
        let every = every.max(REDRAW);
        let shared = Arc::new(Following { min_duration, every, state: Mutex::new(state), changed: Condvar::new() });
        let following = Arc::clone(&shared);
        // Without a thread only the end is shown.
        let _thread = std::thread::Builder::new().name("sprang-progress".into()).spawn(move || following.keep_up());
        Followed { shared }
    }

    /// Waits until all have come to an end. In a task that is cancelled meanwhile, no longer than that.
    pub fn wait(self) {
        let wait = AnyFuture::waiting(self.shared.state.lock().open.iter().map(|open| &open.future));
        wait();
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Following {
    fn keep_up(&self) {
        let mut state = self.state.lock();
        while !state.shown.lines.is_empty() {
            let now = Instant::now();
            state.look(now);
            if state.open.is_empty() {
                return state.end(now, self.min_duration);
            }
            state.shown.show(now, self.min_duration, self.every);
            self.changed.wait_for(&mut state, REDRAW);
        }
    }

    fn end(&self) {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.look(now);
        state.end(now, self.min_duration);
        drop(state);
        self.changed.notify_all();
    }
}

impl FollowState {
    fn look(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.looked).as_nanos() as u64;
        self.looked = now;
        let families: Vec<Arc<FamilyCounts>> = self.counts.families.lock().clone();
        let mut running: Vec<(u64, i64)> = vec![(0, 0); families.len()];
        let counts = &self.counts;
        let busy_ns = &mut self.busy_ns;
        self.open.retain_mut(|open| {
            let status = open.future.status();
            let family = &families[open.family];
            match status {
                Status::Running => {
                    busy_ns[open.family] += since;
                    let began = *open.running_since.get_or_insert(now);
                    let (num_running, starts_ns) = &mut running[open.family];
                    *num_running += 1;
                    *starts_ns += counts.since_start(began);
                }
                Status::Finished | Status::Failed => _ = family.num_timed.fetch_add(1, Relaxed),
                _ => {}
            }
            match status {
                Status::Failed => _ = counts.num_failed.fetch_add(1, Relaxed),
                Status::Cancelled => _ = counts.num_cancelled.fetch_add(1, Relaxed),
                Status::Lost => _ = counts.num_lost.fetch_add(1, Relaxed),
                _ => {}
            }
            if status.is_settled() {
                family.num_done.fetch_add(1, Relaxed);
            }
            !status.is_settled()
        });
        for ((family, &busy_ns), &(num_running, starts_ns)) in families.iter().zip(&self.busy_ns).zip(&running) {
            family.num_running.store(num_running as i64, Relaxed);
            family.starts_ns.store(starts_ns, Relaxed);
            let so_far_ns = num_running as i64 * counts.since_start(now) - starts_ns;
            family.timed_ns.store(busy_ns.saturating_sub(so_far_ns.max(0) as u64), Relaxed);
        }
    }

    fn end(&mut self, now: Instant, min_duration: Duration) {
        let counts = Arc::clone(&self.counts);
        self.shown.end(&counts, now, None, min_duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Refs, config, delayed, try_delayed};
    use indicatif::InMemoryTerm;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    fn on_terminal(body: impl FnOnce()) -> String {
        let term = InMemoryTerm::new(10, 120);
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(term.clone())));
        let board = Board::new(Duration::ZERO, Duration::ZERO, Display::Bars(bars));
        callback::with(Arc::new(board), body);
        term.contents()
    }

    fn squares() -> crate::Delayed<u64> {
        let parts: Vec<_> = (0..50_u64).map(|i| delayed(|i| i * i, (i,)).name(format!("square {i}"))).collect();
        delayed(|parts: Refs<'_, u64>| parts.iter().sum::<u64>(), (&parts,)).name("sum")
    }

    #[test]
    fn a_bar_ends_full() {
        let shown = on_terminal(|| assert_eq!(squares().compute_with("threads").unwrap(), 40_425));
        assert!(shown.starts_with("sum [========================] 51/51 in "), "{shown}");
        assert_eq!(shown.lines().count(), 1);
    }

    #[test]
    fn a_failure_leaves_its_bar_and_says_why() {
        let bad = try_delayed(|text: &str| text.parse::<u64>(), ("x",)).name("bad");
        let after = delayed(|bad: &u64, sum: &u64| bad + sum, (&bad, &squares())).name("after");
        let shown = on_terminal(|| assert!(after.compute_with("sync").is_err()));
        assert!(shown.starts_with("after ["), "{shown}");
        assert!(shown.contains("/53 in ") && shown.contains("then: task \"bad\""), "{shown}");
    }

    #[test]
    fn nested_runs_that_went_well_leave_nothing() {
        let outer = crate::delayed_local(|| squares().compute_with("sync").unwrap(), ()).name("outer");
        let shown = on_terminal(|| assert_eq!(outer.compute().unwrap(), 40_425));
        assert!(shown.starts_with("outer [") && shown.lines().count() == 1, "{shown}");
    }

    #[test]
    fn quick_runs_show_nothing() {
        let paper = Paper::default();
        let _shown = Progress::new().min_duration(Duration::from_secs(3_600)).lines_to(paper.clone()).scoped();
        squares().compute().unwrap();
        assert_eq!(paper.text(), "");
    }

    #[test]
    fn lines_tell_how_it_goes_and_how_it_ended() {
        let paper = Paper::default();
        let progress = Progress::new().min_duration(Duration::ZERO).every(Duration::ZERO).lines_to(paper.clone());
        let shown = progress.scoped();
        let watched = paper.clone();
        let wait = crate::delayed_local(move || until_written(&watched, ": wait 0/1"), ()).name("wait");
        let bad = try_delayed(|_: &()| Err::<(), _>("no\nway"), (&wait,)).name("bad");
        let _errors = config::scoped("errors", "collect").unwrap();
        assert!(bad.compute().is_err());
        drop(shown);
        let text = paper.text();
        let last = text.lines().last().unwrap();
        assert!(text.starts_with("bad: 0 of 2 tasks at 0.0/s"), "{text}");
        assert!(last.starts_with("bad: 2 of 2 tasks in ") && last.ends_with(", 1 failed"), "{text}");
    }

    #[test]
    fn runs_at_the_same_time_have_a_bar_each() {
        let both_run = Arc::new(std::sync::Barrier::new(2));
        let outers = ["one", "two"].map(|name| {
            let both_run = Arc::clone(&both_run);
            let meet = move || {
                both_run.wait();
                Err::<(), _>("it has met the other")
            };
            let inner = crate::try_delayed_local(meet, ()).name(name);
            crate::try_delayed_local(move || inner.compute_with("sync"), ()).name(format!("outer {name}"))
        });
        let shown = on_terminal(|| {
            let _workers = config::scoped("num_workers", 2).unwrap();
            let _threads = config::scoped("scheduler", "threads").unwrap();
            assert!(crate::compute_each(&outers).unwrap().iter().all(Result::is_err));
        });
        assert!(shown.contains("outer one and 1 more [========================] 2/2 in "), "{shown}");
        for name in ["one", "two"] {
            let bar = shown.lines().find(|line| line.starts_with(&format!("  {name} ["))).unwrap_or_default();
            assert!(bar.contains("then: task \"") && bar.contains("it has met the other"), "{shown}");
        }
    }

    #[test]
    fn what_takes_longer_than_expected_has_no_time_left() {
        let paper = Paper::default();
        let progress = Progress::new().min_duration(Duration::ZERO).every(Duration::ZERO).lines_to(paper.clone());
        let shown = progress.scoped();
        let quick: Vec<_> = (0..4_u64)
            .map(|i| {
                let quick = move || std::thread::sleep(Duration::from_millis(30));
                crate::delayed_local(quick, ()).name(format!("quick {i}"))
            })
            .collect();
        // Waits for lines that were written when it had taken longer than the others, however long those took.
        let watched = paper.clone();
        let wait = move |_: Refs<'_, ()>| {
            let start = Instant::now();
            let text_before = watched.text().len();
            let is_late = |line: &str| line.contains("wait 0/1") && !line.contains("left");
            while watched.text()[text_before..].lines().filter(|line| is_late(line)).count() < 2 {
                assert!(start.elapsed() < Duration::from_secs(60), "{}", watched.text());
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        crate::delayed_local(wait, (&quick,)).name("wait").compute_with("sync").unwrap();
        drop(shown);
        let text = paper.text();
        let last = text.lines().rfind(|line| line.contains("wait 0/1")).unwrap();
        assert!(!last.contains("left"), "{text}");
    }

    #[test]
    fn the_time_left_is_weighted_by_name() {
        let started = Instant::now();
        let family = |num_tasks, num_done: u64, ns: u64| FamilyCounts {
            num_tasks: AtomicU64::new(num_tasks),
            num_done: AtomicU64::new(num_done),
            num_timed: AtomicU64::new(num_done),
            timed_ns: AtomicU64::new(num_done * ns),
            ..FamilyCounts::default()
        };
        let counts = |families: Vec<FamilyCounts>| {
            let counts = Counts::new("t".into(), started, 0, None);
            *counts.families.lock() = families.into_iter().map(Arc::new).collect();
            counts
        };
        // 10 quick ones of 0.1 s and 1 of 4 slow ones of 3 s have been done in 2 s: two workers were busy, and 9 s of work are left.
        let now = started + Duration::from_secs(2);
        let known = counts(vec![family(10, 10, 100_000_000), family(4, 1, 3_000_000_000)]);
        let (left, has_unknown) = known.time_left(now).unwrap();
        assert!((left.as_secs_f64() - 4.5).abs() < 1e-6, "{left:?}");
        assert!(!has_unknown);
        // One of the slow ones has been running for a second.
        let slow = Arc::clone(&known.families.lock()[1]);
        slow.num_running.store(1, Relaxed);
        slow.starts_ns.store(1_000_000_000, Relaxed);
        let (left, _) = known.time_left(now).unwrap();
        assert!((left.as_secs_f64() - 8.0 / 2.5).abs() < 1e-6, "{left:?}");
        let unknown = counts(vec![family(10, 10, 100_000_000), family(4, 0, 0)]);
        assert!(unknown.time_left(now).unwrap().1);
        assert_eq!(counts(vec![family(10, 1, 1_000)]).time_left(now), None, "too little is known");
    }

    /// Waits at it until it is opened.
    #[derive(Clone, Default)]
    struct Gate(Arc<(Mutex<bool>, Condvar)>);

    impl Gate {
        fn pass(&self) {
            let mut is_open = self.0.0.lock();
            while !*is_open {
                self.0.1.wait(&mut is_open);
            }
        }

        fn open(&self) {
            *self.0.0.lock() = true;
            self.0.1.notify_all();
        }
    }

    /// Waits until a text is written.
    fn until_written(paper: &Paper, text: &str) {
        let start = Instant::now();
        while !paper.text().contains(text) {
            assert!(start.elapsed() < Duration::from_secs(60), "{:?} is not in {:?}", text, paper.text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn futures_that_are_mapped_have_one_bar_however_many_they_are() {
        let shown = on_terminal(|| {
            let client = crate::Client::owning(cluster("cluster_run"));
            // A bar ends when nothing is left to do, and that is not before the last is handed in.
            let gate = Gate::default();
            let first = client.compute(&crate::delayed_local(
                {
                    let gate = gate.clone();
                    move || gate.pass()
                },
                (),
            ));
            let squares = client.map(|x: u64| x * x, 0..500_u64);
            let sum = client.submit(|all: Refs<'_, u64>| all.iter().sum::<u64>(), (&squares,));
            gate.open();
            assert_eq!(sum.result().unwrap(), 41_541_750);
            first.result().unwrap();
        });
        assert!(shown.starts_with("cluster_run [========================] 502/502 in "), "{shown}");
        assert_eq!(shown.lines().count(), 1, "{shown}");
    }

    fn cluster(name: &str) -> crate::LocalCluster {
        let cluster = crate::LocalCluster::builder().workers(2).threads_per_worker(1).processes(false).name(name);
        cluster.build().unwrap()
    }

    #[test]
    fn the_bar_of_a_cluster_counts_what_waits_and_forgets_what_is_cancelled() {
        let paper = Paper::default();
        let progress = Progress::new().min_duration(Duration::ZERO).every(Duration::ZERO).lines_to(paper.clone());
        let shown = progress.scoped();
        let client = crate::Client::owning(cluster("queue"));
        let gate = Gate::default();
        let waits: Vec<_> = (0..10)
            .map(|i| {
                let gate = gate.clone();
                let name = format!("wait {i}");
                client.compute(&crate::delayed_local(move || gate.pass(), ()).name(name))
            })
            .collect();
        until_written(&paper, "queue: 0 of 10 tasks at 0.0/s: wait # 0\n");
        assert_eq!(client.cancel(&waits[5..]), 5);
        until_written(&paper, "queue: 0 of 5 tasks");
        gate.open();
        client.gather(&waits[..5]).unwrap();
        drop(shown);
        let text = paper.text();
        assert!(text.lines().last().unwrap().starts_with("queue: 5 of 5 tasks in "), "{text}");
        assert_eq!(text.matches(" tasks in ").count(), 1, "{text}");
        drop(client);
        assert_eq!(paper.text(), text);
    }

    #[test]
    fn nothing_is_written_of_futures_after_the_guard_is_dropped() {
        for _ in 0..20 {
            let paper = Paper::default();
            let shown = Progress::new().min_duration(Duration::ZERO).lines_to(paper.clone()).scoped();
            let client = crate::Client::owning(cluster("brief"));
            let gate = Gate::default();
            let (passed, reached) = (gate.clone(), Gate::default());
            let there = reached.clone();
            let pass = move || {
                there.open();
                passed.pass();
                squares_of_three()
            };
            let late = client.compute(&crate::delayed_local(pass, ()).name("late"));
            reached.pass();
            let squares = client.map(|x: u64| x * x, 0..6_u64);
            client.gather(&squares).unwrap();
            drop(shown);
            let text = paper.text();
            // At once, with the future that goes on, which starts a run of its own afterwards.
            assert!(text.lines().last().unwrap().starts_with("brief: 6 of 7 tasks in "), "{text}");
            gate.open();
            assert_eq!(late.result().unwrap(), 5);
            drop(client);
            assert_eq!(paper.text(), text);
        }
    }

    fn squares_of_three() -> u64 {
        let squares: Vec<_> = (0..3_u64).map(|i| delayed(|i| i * i, (i,))).collect();
        delayed(|all: Refs<'_, u64>| all.iter().sum::<u64>(), (&squares,)).compute_with("sync").unwrap()
    }

    #[test]
    fn the_last_line_of_futures_is_there_with_the_guard_and_whole() {
        for _ in 0..200 {
            let paper = Paper::default();
            let shown = Progress::new().min_duration(Duration::ZERO).lines_to(paper.clone()).scoped();
            let client = crate::Client::owning(cluster("whole"));
            let gate = Gate::default();
            let passed = gate.clone();
            let first = client.compute(&crate::delayed_local(move || passed.pass(), ()));
            let squares = client.map(|x: u64| x * x, 0..6_u64);
            gate.open();
            first.result().unwrap();
            client.gather(&squares).unwrap();
            drop(shown);
            let text = paper.text();
            assert!(text.lines().last().unwrap().starts_with("whole: 7 of 7 tasks in "), "{text}");
        }
    }

    #[test]
    fn who_follows_futures_keeps_no_values_of_those_that_have_ended() {
        let client = crate::Client::owning(cluster("kept"));
        let gate = Gate::default();
        let value = Arc::new(());
        let held = Arc::clone(&value);
        let done = client.compute(&crate::delayed_local(move || Arc::clone(&held), ()).name("done"));
        let passed = gate.clone();
        let open = client.compute(&crate::delayed_local(move || passed.pass(), ()).name("open"));
        let paper = Paper::default();
        let followed = Progress::new().min_duration(Duration::ZERO).lines_to(paper.clone()).follow((&done, &open));
        done.result().unwrap();
        drop(done);
        let start = Instant::now();
        while Arc::strong_count(&value) > 1 {
            assert!(start.elapsed() < Duration::from_secs(60), "{} hold it", Arc::strong_count(&value));
            std::thread::sleep(Duration::from_millis(2));
        }
        gate.open();
        followed.wait();
        assert!(paper.text().contains("2 of 2 tasks in "), "{}", paper.text());
    }

    #[test]
    fn what_becomes_of_futures_that_are_followed_is_counted_apart() {
        let paper = Paper::default();
        let client = crate::Client::owning(cluster("ends"));
        let gate = Gate::default();
        let wait = |name: &str| {
            let gate = gate.clone();
            client.compute(&crate::delayed_local(move || gate.pass(), ()).name(name.to_owned()))
        };
        let waits: Vec<_> = (0..4).map(|i| wait(&format!("wait {i}"))).collect();
        let bad = client.compute(&try_delayed(|text: &str| text.parse::<u64>(), ("x",)).name("bad"));
        let late = client.compute(&delayed(|_: &()| 1_u8, (&waits[0].as_delayed(),)).name("late"));
        let progress = Progress::new().min_duration(Duration::ZERO).every(Duration::ZERO).lines_to(paper.clone());
        let followed = progress.follow((&waits, &bad, Some(&late)));
        until_written(&paper, "futures: 0 of 6 tasks at ");
        assert!(waits[3].cancel());
        until_written(&paper, ", 1 cancelled");
        gate.open();
        followed.wait();
        let text = paper.text();
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("futures: 6 of 6 tasks in ") && last.ends_with(", 1 failed, 1 cancelled"), "{text}");
        assert_eq!(text.matches(" tasks in ").count(), 1, "{text}");
    }

    #[test]
    fn futures_that_are_done_already_have_a_bar_that_ends_full() {
        let client = crate::Client::owning(cluster("done"));
        let squares = client.map(|x: u64| x * x, 0..30_u64);
        client.gather(&squares).unwrap();
        let paper = Paper::default();
        Progress::new().min_duration(Duration::ZERO).lines_to(paper.clone()).follow(&squares).wait();
        let text = paper.text();
        assert!(text.contains(": 30 of 30 tasks in ") && text.lines().count() == 1, "{text}");
        let nobody: [crate::TaskFuture<u64>; 0] = [];
        progress_of(&nobody);
    }
}
