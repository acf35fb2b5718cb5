//! The counts behind a line: how many tasks there are, how many have ended, and how long they take.

use crate::diagnostics::picture::Graph;
use crate::diagnostics::units;
use crate::engine::callback::{ClusterInfo, RunId, RunInfo, TaskInfo};
use crate::error::Error;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Lines are drawn this often.
pub(super) const REDRAW: Duration = Duration::from_millis(100);
/// A mean duration is not reliable until this much work is known.
const LEAST_KNOWN: Duration = Duration::from_millis(100);
/// A line has room for this many names.
const MAX_NAMES: usize = 4;
/// The tasks of a cluster are counted under this many names. Further names share [`OTHER`].
const MAX_FAMILIES: usize = 100;
const OTHER: &str = "others";

/// The counts of one run.
pub(super) struct RunCounts {
    pub(super) id: RunId,
    pub(super) line: Arc<LineCounts>,
    /// For each task the index of its name in `families`; `None` for a task that does not count.
    family: Vec<Option<u32>>,
    families: Vec<Arc<FamilyCounts>>,
    /// For each family, the number of this run's tasks that have not ended.
    num_left: Vec<AtomicI64>,
    /// In a run of futures: whether the task is one of the futures.
    is_future: Vec<bool>,
    /// The number of these futures that have not ended.
    num_open: AtomicI64,
}

/// The counts of one line: a run, the futures of a cluster, or futures that are followed.
pub(super) struct LineCounts {
    pub(super) depth: usize,
    pub(super) title: String,
    pub(super) started: Instant,
    /// The number of tasks that had ended before the line began.
    pub(super) num_before: AtomicU64,
    /// Locked when a run starts and when the line is drawn.
    pub(super) families: Mutex<Vec<Arc<FamilyCounts>>>,
    pub(super) backlog: Option<Backlog>,
    pub(super) num_failed: AtomicU64,
    pub(super) num_skipped: AtomicU64,
    pub(super) num_cancelled: AtomicU64,
    pub(super) num_lost: AtomicU64,
}

/// The futures of a cluster that are not running yet.
pub(super) struct Backlog {
    pub(super) cluster: ClusterInfo,
    num_runs: AtomicI64,
    /// The number of futures that belong to an unfinished run and have not ended.
    num_open: AtomicI64,
    /// When the last run ended.
    last_end: Mutex<Instant>,
}

/// The counts of all tasks of one name.
#[derive(Default)]
pub(super) struct FamilyCounts {
    pub(super) name: String,
    pub(super) num_tasks: AtomicU64,
    pub(super) num_done: AtomicU64,
    /// The number of calls with a known duration, and the sum of these durations.
    pub(super) num_timed: AtomicU64,
    pub(super) timed_ns: AtomicU64,
    pub(super) num_running: AtomicI64,
    /// The sum of the start times of all running tasks, counted from the start of the line.
    pub(super) starts_ns: AtomicI64,
}

impl LineCounts {
    pub(super) fn new(title: String, started: Instant, depth: usize, backlog: Option<Backlog>) -> Self {
        LineCounts {
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

    /// The family with this name, which several runs may share.
    pub(super) fn family(&self, name: &str) -> Arc<FamilyCounts> {
        let mut families = self.families.lock();
        let is_full = families.len() >= MAX_FAMILIES && families.iter().all(|family| family.name != name);
        let name = if is_full { OTHER } else { name };
        let known = families.iter().find(|family| family.name == name).map(Arc::clone);
        known.unwrap_or_else(|| push_family(&mut families, name))
    }

    pub(super) fn since_start(&self, instant: Instant) -> i64 {
        instant.saturating_duration_since(self.started).as_nanos() as i64
    }

    pub(super) fn num_done(&self) -> u64 {
        self.families.lock().iter().map(|counts| counts.num_done.load(Relaxed)).sum()
    }

    /// The number of futures of the cluster that no run has taken.
    fn num_queued(&self) -> u64 {
        self.backlog.as_ref().map_or(0, |backlog| {
            let num_pending = backlog.cluster.num_pending().unwrap_or(0) as i64;
            (num_pending - backlog.num_open.load(Relaxed)).max(0) as u64
        })
    }

    /// The number of tasks that have ended, and of all tasks. With `counts_queued`, the second
    /// number includes futures that wait in the cluster.
    pub(super) fn done_and_all(&self, counts_queued: bool) -> (u64, u64) {
        let num_done = self.num_done();
        let num_known: u64 = self.families.lock().iter().map(|counts| counts.num_tasks.load(Relaxed)).sum();
        let num_queued = if counts_queued { self.num_queued() } else { 0 };
        // The two numbers are not read at one moment.
        (num_done, (num_known + num_queued).max(num_done))
    }

    /// For a cluster without work, since when it has been idle.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let backlog = self.backlog.as_ref()?;
        let is_idle = backlog.num_runs.load(Relaxed) == 0 && backlog.cluster.num_pending().unwrap_or(0) == 0;
        is_idle.then(|| *backlog.last_end.lock())
    }

    /// The time left, and whether it is a guess for some names because no task of theirs has ended.
    pub(super) fn time_left(&self, now: Instant) -> Option<(Duration, bool)> {
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

    /// The names in progress: `load 3/10, total 0/1`. A cluster's names are known only once they
    /// run, so its line has no totals: `load 3`.
    fn by_name(&self) -> String {
        let families = self.families.lock();
        let mut in_progress = families.iter().filter_map(|counts| {
            let (num_done, num_tasks) = (counts.num_done.load(Relaxed), counts.num_tasks.load(Relaxed));
            let has_begun = num_done > 0 || counts.num_running.load(Relaxed) > 0;
            let done = units::count(num_done);
            match self.backlog {
                Some(_) => has_begun.then(|| format!("{} {done}", counts.name)),
                None => (has_begun && num_done < num_tasks)
                    .then(|| format!("{} {done}/{}", counts.name, units::count(num_tasks))),
            }
        });
        let mut parts: Vec<String> = in_progress.by_ref().take(MAX_NAMES).collect();
        match in_progress.count() {
            0 => {}
            more => parts.push(format!("{more} more")),
        }
        parts.join(", ")
    }

    fn troubles(&self) -> String {
        let counts = [
            (&self.num_failed, "failed"),
            (&self.num_skipped, "skipped"),
            (&self.num_cancelled, "cancelled"),
            (&self.num_lost, "lost"),
        ];
        let counts =
            counts.map(|(count, word)| (count.load(Relaxed), word)).into_iter().filter(|(count, _)| *count > 0);
        counts.map(|(count, word)| format!(", {} {word}", units::count(count))).collect()
    }

    /// Rate, time left and names.
    pub(super) fn message(&self, now: Instant) -> String {
        let elapsed = now.saturating_duration_since(self.started).as_secs_f64();
        let num_done = self.num_done() - self.num_before.load(Relaxed);
        let rate = match num_done as f64 / elapsed.max(1e-9) {
            rate if rate < 9.95 => format!("{rate:.1}"),
            rate => units::count(rate.round() as u64),
        };
        let mut text = format!("{rate}/s{}", self.troubles());
        // A shorter time is not worth reading, or wrong: the running tasks take longer than any
        // before.
        if let Some((left, is_guess)) = self.time_left(now).filter(|(left, _)| *left >= REDRAW) {
            let over = if is_guess { "over " } else { "" };
            text += &format!(", {over}{} left", units::duration(left));
        }
        match self.by_name() {
            names if names.is_empty() => text,
            names => format!("{text}: {names}"),
        }
    }

    /// The last message of the line.
    pub(super) fn last_message(&self, ended: Instant, error: Option<&Error>) -> String {
        let time = units::duration(ended.saturating_duration_since(self.started));
        match error {
            None => format!("in {time}{}", self.troubles()),
            Some(error) => format!("in {time}, then: {error}").replace('\n', " "),
        }
    }

    pub(super) fn plain_line(&self, (done, all): (u64, u64), message: &str) -> String {
        let (title, done, all) = (&self.title, units::count(done), units::count(all));
        format!("{}{title}: {done} of {all} tasks {message}\n", "  ".repeat(self.depth))
    }
}

fn push_family(families: &mut Vec<Arc<FamilyCounts>>, name: &str) -> Arc<FamilyCounts> {
    families.push(Arc::new(FamilyCounts { name: name.to_owned(), ..FamilyCounts::default() }));
    Arc::clone(&families[families.len() - 1])
}

impl Backlog {
    pub(super) fn new(cluster: &ClusterInfo, started: Instant) -> Self {
        Backlog {
            cluster: cluster.clone(),
            num_runs: AtomicI64::new(0),
            num_open: AtomicI64::new(0),
            last_end: Mutex::new(started),
        }
    }
}

impl RunCounts {
    /// `of_cluster` is the line of the cluster whose futures the run computes.
    pub(super) fn new(run: RunInfo<'_>, started: Instant, depth: usize, of_cluster: Option<Arc<LineCounts>>) -> Self {
        let is_of_futures = of_cluster.is_some();
        let graph = match is_of_futures {
            true => Graph::of_many(run.plan()),
            false => Graph::without_arguments(run.plan()),
        };
        let line = of_cluster.unwrap_or_else(|| Arc::new(LineCounts::new(graph.title(), started, depth, None)));
        let family_of = |family| match is_of_futures {
            true => line.family(graph.family_name(family)),
            false => push_family(&mut line.families.lock(), graph.family_name(family)),
        };
        let families: Vec<_> = (0..graph.num_families() as u32).map(family_of).collect();
        // A run of futures also has the values of other futures among its tasks.
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
        if let Some(backlog) = &line.backlog {
            backlog.num_runs.fetch_add(1, Relaxed);
            backlog.num_open.fetch_add(num_open, Relaxed);
        }
        let num_open = AtomicI64::new(num_open);
        RunCounts { id: run.id(), line, family, families, num_left, is_future, num_open }
    }

    fn of_task(&self, task: TaskInfo<'_>) -> Option<&FamilyCounts> {
        self.family[task.id()].map(|family| &*self.families[family as usize])
    }

    pub(super) fn start(&self, task: TaskInfo<'_>, at: Instant) {
        if let Some(counts) = self.of_task(task) {
            counts.num_running.fetch_add(1, Relaxed);
            counts.starts_ns.fetch_add(self.line.since_start(at), Relaxed);
        }
    }

    /// `reported` is the start that was reported first; it can differ from the one that was
    /// measured. `is_last` is false for an attempt that another one follows.
    pub(super) fn end(&self, task: TaskInfo<'_>, reported: Instant, is_last: bool) {
        if let Some(counts) = self.of_task(task) {
            counts.num_running.fetch_sub(1, Relaxed);
            counts.starts_ns.fetch_sub(self.line.since_start(reported), Relaxed);
            if is_last {
                counts.num_done.fetch_add(1, Relaxed);
                self.settle(task);
            }
        }
    }

    pub(super) fn add_duration(&self, task: TaskInfo<'_>, duration: Duration) {
        if let Some(family) = self.of_task(task).filter(|_| !task.is_value()) {
            family.num_timed.fetch_add(1, Relaxed);
            family.timed_ns.fetch_add(duration.as_nanos() as u64, Relaxed);
        }
    }

    pub(super) fn skip(&self, task: TaskInfo<'_>) {
        if let Some(counts) = self.of_task(task) {
            counts.num_done.fetch_add(1, Relaxed);
            self.line.num_skipped.fetch_add(1, Relaxed);
            self.settle(task);
        }
    }

    fn settle(&self, task: TaskInfo<'_>) {
        if let Some(family) = self.family[task.id()] {
            self.num_left[family as usize].fetch_sub(1, Relaxed);
        }
        if let (Some(backlog), Some(true)) = (&self.line.backlog, self.is_future.get(task.id())) {
            backlog.num_open.fetch_sub(1, Relaxed);
            self.num_open.fetch_sub(1, Relaxed);
        }
    }

    /// Takes the unfinished tasks out of the counts when a run of futures has ended: they were
    /// cancelled, or another run computes them.
    pub(super) fn close(&self, backlog: &Backlog, ended: Instant) {
        for (family, num_left) in self.families.iter().zip(&self.num_left) {
            family.num_tasks.fetch_sub(num_left.load(Relaxed).max(0) as u64, Relaxed);
        }
        backlog.num_open.fetch_sub(self.num_open.load(Relaxed), Relaxed);
        *backlog.last_end.lock() = ended;
        backlog.num_runs.fetch_sub(1, Relaxed);
    }
}

impl FamilyCounts {
    /// How long the running tasks have been running, summed up.
    fn running_ns(&self, elapsed_ns: f64) -> f64 {
        // The two numbers are not read at one moment; an impossible result counts as zero.
        (self.num_running.load(Relaxed) as f64 * elapsed_ns - self.starts_ns.load(Relaxed) as f64).max(0.0)
    }
}
