//! How far runs have got, shown while they go on.
//!
//! Events only count, in atomics of their run. A thread that lives as long as there are runs looks at the counts now and then and shows
//! them; the thread that ends a run shows its last state, so nothing is written after `compute` has returned.
//!
//! # What is said of the time left
//!
//! The work that is left is the number of tasks left of each name, times how long those of that name have taken on average, less what the
//! running ones have done; it is spread over as many workers as have been busy on average. Nothing is said before a tenth of a second of
//! work is known. Names of which no task has ended yet count with the mean of all, and `over` stands before the time.

use super::picture::Graph;
use super::units;
use crate::engine::callback::{
    self, Callback, RunFinished, RunId, RunInfo, RunStarted, TaskCancelled, TaskFailed, TaskFinished, TaskInfo,
    TaskRetried, TaskSkipped, TaskStarted,
};
use crate::error::Error;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::{Condvar, Mutex, RwLock};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(100);
/// More bars than this fill a terminal.
const MAX_BARS: usize = 8;
/// More names than this fill a line.
const MAX_NAMES: usize = 4;
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
/// On a terminal each run has a bar on stderr, with the number of tasks done, in all and by name, how many are done in a second, and the time
/// left. Where stderr is no terminal there is a plain line now and then. Runs that end within [`min_duration`](Progress::min_duration)
/// show nothing. A run that fails says so and leaves its bar as it is.
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
/// assert!(text.starts_with("seven: 1 of 1 tasks in "), "{text}");
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
        Shown { _scope: callback::scoped(self.into_callback()) }
    }

    /// Shows all runs of the process until the guard is dropped.
    pub fn registered(self) -> callback::Registration {
        callback::register(self.into_callback())
    }

    /// For [`callback::scoped`] and its siblings.
    pub fn into_callback(self) -> Arc<dyn Callback> {
        let display = match self.lines {
            Some(writer) => Display::Lines(writer),
            None if io::stderr().is_terminal() => Display::Bars(MultiProgress::new()),
            None => Display::Lines(Box::new(io::stderr())),
        };
        Arc::new(Board::new(self.min_duration, self.every, display))
    }
}

/// Keeps the progress of this thread's runs shown until it is dropped. Made by [`progress`] and [`Progress::scoped`].
#[must_use = "progress is shown until this guard is dropped: bind it, `let _shown = ...`"]
#[derive(Debug)]
pub struct Shown {
    _scope: callback::Scope,
}

/// Where it is shown.
enum Display {
    Bars(MultiProgress),
    Lines(Box<dyn Write + Send>),
}

/// All runs that are shown together.
struct Board {
    min_duration: Duration,
    every: Duration,
    /// Ascending; so the last is found first, which is the innermost.
    runs: RwLock<Vec<Arc<RunCounts>>>,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    display: Display,
    lines: Vec<Line>,
    has_thread: bool,
}

/// What is shown of one run.
struct Line {
    counts: Arc<RunCounts>,
    bar: Option<ProgressBar>,
    last: Option<Instant>,
}

/// How far one run has got.
struct RunCounts {
    id: RunId,
    depth: usize,
    title: String,
    started: Instant,
    num_tasks: u64,
    family: Vec<u32>,
    names: Vec<String>,
    families: Vec<FamilyCounts>,
    num_failed: AtomicU64,
    num_skipped: AtomicU64,
}

#[derive(Default)]
struct FamilyCounts {
    num_tasks: u64,
    num_done: AtomicU64,
    /// Those that have told how long they took, and how long.
    num_timed: AtomicU64,
    timed_ns: AtomicU64,
    num_running: AtomicI64,
    /// The sum of when they were started, from the start of the run.
    starts_ns: AtomicI64,
}

impl RunCounts {
    fn new(run: RunInfo<'_>, started: Instant, depth: usize) -> Self {
        let graph = Graph::without_arguments(run.plan());
        let family: Vec<u32> = (0..graph.num_tasks() as u32).map(|id| graph.family(id)).collect();
        let mut families: Vec<FamilyCounts> = Vec::new();
        families.resize_with(graph.num_families(), FamilyCounts::default);
        family.iter().for_each(|&family| families[family as usize].num_tasks += 1);
        RunCounts {
            id: run.id(),
            depth,
            title: match graph.outputs() {
                [] => "nothing".to_owned(),
                [output] => graph.name(*output).to_string(),
                [first, others @ ..] => format!("{} and {} more", graph.name(*first), others.len()),
            },
            started,
            num_tasks: graph.num_tasks() as u64,
            family,
            names: (0..graph.num_families() as u32).map(|family| graph.family_name(family).to_string()).collect(),
            families,
            num_failed: AtomicU64::new(0),
            num_skipped: AtomicU64::new(0),
        }
    }

    fn of_task(&self, task: TaskInfo<'_>) -> &FamilyCounts {
        &self.families[self.family[task.id()] as usize]
    }

    fn since_start(&self, instant: Instant) -> i64 {
        instant.saturating_duration_since(self.started).as_nanos() as i64
    }

    fn began(&self, task: TaskInfo<'_>, at: Instant) {
        let counts = self.of_task(task);
        counts.num_running.fetch_add(1, Relaxed);
        counts.starts_ns.fetch_add(self.since_start(at), Relaxed);
    }

    /// `told` is the start that was told first; it is not always the one that was measured.
    fn ended(&self, task: TaskInfo<'_>, told: Instant, is_done: bool) {
        let counts = self.of_task(task);
        counts.num_running.fetch_sub(1, Relaxed);
        counts.starts_ns.fetch_sub(self.since_start(told), Relaxed);
        counts.num_done.fetch_add(u64::from(is_done), Relaxed);
    }

    fn num_done(&self) -> u64 {
        self.families.iter().map(|counts| counts.num_done.load(Relaxed)).sum()
    }

    /// The time left, and whether tasks are left of which it is not known how long they take.
    fn time_left(&self, now: Instant) -> Option<(Duration, bool)> {
        let elapsed_ns = self.since_start(now) as f64;
        let (mut num_timed, mut timed_ns, mut running_ns) = (0, 0, 0.0);
        for counts in &self.families {
            num_timed += counts.num_timed.load(Relaxed);
            timed_ns += counts.timed_ns.load(Relaxed);
            running_ns += counts.running_ns(elapsed_ns);
        }
        if num_timed == 0 || (timed_ns as f64) < LEAST_KNOWN.as_nanos() as f64 {
            return None;
        }
        let overall_mean = timed_ns as f64 / num_timed as f64;
        let (mut left_ns, mut has_unknown) = (0.0, false);
        for counts in &self.families {
            let num_left = counts.num_tasks.saturating_sub(counts.num_done.load(Relaxed)) as f64;
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

    /// `3 of 10 load, 0 of 1 total`, the names that are under way.
    fn by_name(&self) -> String {
        let is_under_way = |counts: &FamilyCounts| {
            let num_done = counts.num_done.load(Relaxed);
            num_done < counts.num_tasks && (num_done > 0 || counts.num_running.load(Relaxed) > 0)
        };
        let under_way: Vec<usize> = (0..self.families.len()).filter(|&i| is_under_way(&self.families[i])).collect();
        let mut parts: Vec<String> = under_way
            .iter()
            .take(MAX_NAMES)
            .map(|&index| {
                let (counts, name) = (&self.families[index], &self.names[index]);
                format!("{name} {}/{}", units::count(counts.num_done.load(Relaxed)), units::count(counts.num_tasks))
            })
            .collect();
        if under_way.len() > MAX_NAMES {
            parts.push(format!("{} more", under_way.len() - MAX_NAMES));
        }
        parts.join(", ")
    }

    fn troubles(&self) -> String {
        let part = |count: u64, what: &str| match count {
            0 => String::new(),
            count => format!(", {} {what}", units::count(count)),
        };
        part(self.num_failed.load(Relaxed), "failed") + &part(self.num_skipped.load(Relaxed), "skipped")
    }

    /// How it is going: rate, time left, names.
    fn message(&self, now: Instant) -> String {
        let elapsed = now.saturating_duration_since(self.started).as_secs_f64();
        let mut text = format!("{}/s{}", rate(self.num_done() as f64 / elapsed.max(1e-9)), self.troubles());
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

    fn line(&self, rest: &str) -> String {
        let (title, done, all) = (&self.title, units::count(self.num_done()), units::count(self.num_tasks));
        format!("{}{title}: {done} of {all} tasks {rest}\n", "  ".repeat(self.depth))
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
        let state = Mutex::new(State { display, lines: Vec::new(), has_thread: false });
        Board {
            min_duration,
            every: every.max(REDRAW),
            runs: RwLock::default(),
            shared: Arc::new(Shared { state, changed: Condvar::new() }),
        }
    }

    fn with_run(&self, run: RunId, body: impl FnOnce(&RunCounts)) {
        if let Some(counts) = self.runs.read().iter().rev().find(|counts| counts.id == run) {
            body(counts);
        }
    }
}

impl Callback for Board {
    fn on_run_started(&self, event: &RunStarted<'_>) {
        let depth = {
            let runs = self.runs.read();
            let parent = event.run.parent().and_then(|parent| runs.iter().find(|counts| counts.id == parent));
            parent.map_or(0, |parent| parent.depth + 1)
        };
        let counts = Arc::new(RunCounts::new(event.run, event.started, depth));
        self.runs.write().push(Arc::clone(&counts));
        let mut state = self.shared.state.lock();
        state.lines.push(Line { counts, bar: None, last: None });
        if !state.has_thread {
            let (shared, min_duration, every) = (Arc::clone(&self.shared), self.min_duration, self.every);
            let thread = std::thread::Builder::new().name("sprang-progress".into());
            // Without a thread only the end is shown.
            state.has_thread = thread.spawn(move || shared.keep_up(min_duration, every)).is_ok();
        }
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        self.with_run(event.task.run(), |counts| counts.began(event.task, event.started));
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        self.with_run(event.task.run(), |counts| {
            counts.ended(event.task, event.crossing.map_or(event.started, |crossing| crossing.sent), true);
            let family = counts.of_task(event.task);
            if !event.task.is_value() {
                family.num_timed.fetch_add(1, Relaxed);
                family.timed_ns.fetch_add((event.ended - event.started).as_nanos() as u64, Relaxed);
            }
        });
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        self.with_run(event.task.run(), |counts| {
            counts.ended(event.task, event.crossing.map_or(event.started, |crossing| crossing.sent), true);
            counts.num_failed.fetch_add(1, Relaxed);
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
        self.with_run(event.task.run(), |counts| {
            counts.of_task(event.task).num_done.fetch_add(1, Relaxed);
            counts.num_skipped.fetch_add(1, Relaxed);
        });
    }

    fn on_run_finished(&self, event: &RunFinished<'_>) {
        let id = event.run.id();
        self.runs.write().retain(|counts| counts.id != id);
        let mut state = self.shared.state.lock();
        let Some(position) = state.lines.iter().position(|line| line.counts.id == id) else { return };
        let line = state.lines.remove(position);
        let is_shown = line.is_shown() || event.ended.saturating_duration_since(event.started) >= self.min_duration;
        if is_shown {
            state.show_end(line, event.ended, event.error.as_ref());
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Shows how things stand until there is nothing to show any more.
    fn keep_up(&self, min_duration: Duration, every: Duration) {
        let mut state = self.state.lock();
        while !state.lines.is_empty() {
            let now = Instant::now();
            state.show(now, min_duration, every);
            self.changed.wait_for(&mut state, REDRAW);
        }
        state.has_thread = false;
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
            let bar = ProgressBar::with_draw_target(Some(counts.num_tasks), ProgressDrawTarget::hidden());
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
            if age < min_duration {
                continue;
            }
            match display {
                Display::Bars(bars) => {
                    if line.bar.is_none() && num_bars >= MAX_BARS {
                        continue;
                    }
                    num_bars += usize::from(line.bar.is_none());
                    let bar = line.ensure_bar(bars);
                    bar.set_message(counts.message(now));
                    bar.set_position(counts.num_done());
                    bar.tick();
                }
                Display::Lines(writer) => {
                    if line.last.is_none_or(|last| now.saturating_duration_since(last) >= every) {
                        line.last = Some(now);
                        write(writer, &counts.line(&format!("at {}", counts.message(now))));
                    }
                }
            }
        }
    }

    fn show_end(&mut self, mut line: Line, ended: Instant, error: Option<&Error>) {
        let counts = Arc::clone(&line.counts);
        match &mut self.display {
            // Of nested runs, of which there may be many, only those are left that failed.
            Display::Bars(_) if counts.depth > 0 && error.is_none() => {
                if let Some(bar) = line.bar {
                    bar.finish_and_clear();
                }
            }
            Display::Bars(bars) => {
                let bar = line.ensure_bar(bars);
                bar.set_position(counts.num_done());
                bar.abandon_with_message(counts.end(ended, error));
            }
            Display::Lines(writer) => write(writer, &counts.line(&counts.end(ended, error))),
        }
    }
}

fn write(writer: &mut Box<dyn Write + Send>, line: &str) {
    let _lost = writer.write_all(line.as_bytes()).and_then(|()| writer.flush());
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
        // Waits until two lines have been written.
        let watched = paper.clone();
        let wait = crate::delayed_local(move || while watched.text().lines().count() < 2 {}, ()).name("wait");
        let bad = try_delayed(|_: &()| Err::<(), _>("no\nway"), (&wait,)).name("bad");
        let _errors = config::scoped("errors", "collect").unwrap();
        assert!(bad.compute().is_err());
        drop(shown);
        let text = paper.text();
        let last = text.lines().last().unwrap();
        assert!(text.starts_with("bad: 0 of 2 tasks at 0.0/s"), "{text}");
        assert!(text.contains(": wait 0/1"), "{text}");
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
        // Waits for a line that was written long after it began.
        let watched = paper.clone();
        let wait = move |_: Refs<'_, ()>| while watched.text().matches("wait 0/1").count() < 4 {};
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
            num_tasks,
            num_done: AtomicU64::new(num_done),
            num_timed: AtomicU64::new(num_done),
            timed_ns: AtomicU64::new(num_done * ns),
            ..FamilyCounts::default()
        };
        let counts = |families| RunCounts {
            id: run_id(),
            depth: 0,
            title: "t".into(),
            started,
            num_tasks: 0,
            family: Vec::new(),
            names: Vec::new(),
            families,
            num_failed: AtomicU64::new(0),
            num_skipped: AtomicU64::new(0),
        };
        // 10 quick ones of 0.1 s and 1 of 4 slow ones of 3 s have been done in 2 s: two workers were busy, and 9 s of work are left.
        let now = started + Duration::from_secs(2);
        let known = counts(vec![family(10, 10, 100_000_000), family(4, 1, 3_000_000_000)]);
        let (left, has_unknown) = known.time_left(now).unwrap();
        assert!((left.as_secs_f64() - 4.5).abs() < 1e-6, "{left:?}");
        assert!(!has_unknown);
        // One of the slow ones has been running for a second.
        known.families[1].num_running.store(1, Relaxed);
        known.families[1].starts_ns.store(1_000_000_000, Relaxed);
        let (left, _) = known.time_left(now).unwrap();
        assert!((left.as_secs_f64() - 8.0 / 2.5).abs() < 1e-6, "{left:?}");
        let unknown = counts(vec![family(10, 10, 100_000_000), family(4, 0, 0)]);
        assert!(unknown.time_left(now).unwrap().1);
        assert_eq!(counts(vec![family(10, 1, 1_000)]).time_left(now), None, "too little is known");
    }

    /// The number of a run.
    fn run_id() -> RunId {
        struct Ask(Mutex<Option<RunId>>);
        impl Callback for Ask {
            fn on_run_started(&self, event: &RunStarted<'_>) {
                *self.0.lock() = Some(event.run.id());
            }
        }
        let ask = Arc::new(Ask(Mutex::new(None)));
        callback::with(ask.clone(), || delayed(|| (), ()).compute_with("sync").unwrap());
        let id = *ask.0.lock();
        id.unwrap()
    }
}
