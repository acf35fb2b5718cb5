//! What the dashboard remembers of runs.
//!
//! # What an event costs
//!
//! Each worker has a shard, as a rule of its own. An event of a task takes the lock of its worker's shard, which nobody else wants but a
//! reader for some microseconds a few times per second, counts, and writes one record into a ring. Nothing is allocated, but when a worker,
//! or a run, is new to the shard. What belongs to a whole run is done when it starts and ends, under the lock of the store.
//!
//! # What is always true
//!
//! 1. Locks are taken in the order store, shard, live runs; a thread that has one takes none before it.
//! 2. Memory is bounded, whatever happens: each list has a limit in the constants below, names beyond [`MAX_NAMES`] are counted as
//!    [`OTHER`], and texts are cut at [`MAX_TEXT`]. Only what a run needs while it goes on grows with it: three bytes for each task, and the
//!    shape of its graph, unless that is larger than [`MAX_GRAPH`].
//! 3. Counts miss nothing, also where records have been overwritten. They are those of the runs that have ended, in the store, and those of
//!    the live runs, in the shards; a run goes from here to there under the lock of the store.
//! 4. The runs of a cluster's futures are shown as one: the first gives its number to a [`ClusterRun`], and what the others do is counted there, from
//!    their end on in the store. Their tasks are numbered on.
//! 5. What is kept for reports, of runs that have ended, is no more than [`MAX_REPORT_BYTES`], but for that of the last run. The oldest go.
//!    Beside these, each cluster_run has two windows of no more than twice [`MAX_CROWD_NODES`] tasks each.
//! 6. A report is made of copies of samples, which are taken under the lock of the store, and of a graph, which is not copied there. Who adds
//!    to the graph of a window while a report on it is made, copies it.

use super::resources::Resources;
use super::value_bytes::Held;
use crate::diagnostics::picture::{Direction, Graph, Growing, Placed};
use crate::diagnostics::profile::{self, Profile, Record, RecordedRun, Sample, Sampling};
use crate::engine::callback::{
    Callback, ClusterInfo, Crossing, Interests, RunFinished, RunHandle, RunId, RunInfo, RunStalled, RunStarted,
    StartedWorker, TaskCancelled, TaskFailed, TaskFinished, TaskInfo, TaskRetried, TaskSkipped, TaskStarted,
    ValueReleased, ValueSize, WorkerHandle, WorkerId, WorkerLost, WorkerStarted,
};
use crate::error::{Error, ErrorKind};
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard, RwLock};
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// Ended tasks that a shard keeps until they are read.
pub(super) const MAX_FRESH: usize = 1_024;
/// Clusters whose futures are kept.
const MAX_CROWDS: usize = 50;
/// Calls of a cluster that the report on its futures is about, at least once there are so many, and twice as many at most.
const MAX_CROWD_TASKS: usize = 10_000;
/// Calls and values that such a report is about, at least, if it has not so many calls. A run of more is one by itself.
const MAX_CROWD_NODES: usize = 16 * MAX_CROWD_TASKS;
/// Ended tasks that are kept.
pub(super) const MAX_TASKS: usize = 5_000;
/// Ended runs that are kept.
pub(super) const MAX_RUNS: usize = 500;
/// Lines of the log that are kept.
pub(super) const MAX_EVENTS: usize = 1_000;
/// Names that are told apart.
pub(super) const MAX_NAMES: usize = 100;
/// Tasks and dependencies of a run whose graph is remembered; of a larger one only the counts by name are.
const MAX_GRAPH: usize = 1 << 23;
/// Tasks of a run that are recorded for its report, about; of more, an even sample.
const MAX_RECORDS: usize = 20_000;
/// Failures of a run that are recorded for its report.
const MAX_FAILURES: usize = 200;
/// Ended runs that have a report.
const MAX_REPORTS: usize = 100;
/// What these may take together, about.
const MAX_REPORT_BYTES: usize = 64 << 20;
/// Boxes of a graph that are drawn: of more tasks, one for each name.
const MAX_BOXES: usize = 150;
/// Running tasks of a shard that are known by name; the others are only counted.
const MAX_RUNNING: usize = 256;
/// Workers of a shard that are known; when there are more, the one that has been idle for longest is forgotten.
const MAX_WORKERS: usize = 32;
/// Bytes of a name or a message that are kept.
const MAX_TEXT: usize = 400;
/// Bytes that are kept of what a lost worker wrote last.
const MAX_OUTPUT: usize = 4_000;

/// The number of the name for those that have none of their own.
pub(super) const OTHER: u16 = 0;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Finished,
    Failed,
    Retried,
    Cancelled,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            State::Finished => "finished",
            State::Failed => "failed",
            State::Retried => "retried",
            State::Cancelled => "cancelled",
        }
    }
}

impl From<State> for profile::Outcome {
    fn from(state: State) -> Self {
        match state {
            State::Finished => profile::Outcome::Finished,
            State::Failed => profile::Outcome::Failed,
            State::Retried => profile::Outcome::Retried,
            State::Cancelled => profile::Outcome::Cancelled,
        }
    }
}

/// How far a task has got, in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Waiting,
    Running,
    Finished,
    Failed,
    Skipped,
    Cancelled,
}

impl Stage {
    const ALL: [Stage; 6] =
        [Stage::Waiting, Stage::Running, Stage::Finished, Stage::Failed, Stage::Skipped, Stage::Cancelled];

    pub(super) fn as_str(self) -> &'static str {
        ["waiting", "running", "finished", "failed", "skipped", "cancelled"][self as usize]
    }

    /// Whether those that need the task wait for it no more.
    pub(super) fn is_over(self) -> bool {
        !matches!(self, Stage::Waiting | Stage::Running)
    }
}

/// An attempt that has ended. Times are nanoseconds since the dashboard was made.
#[derive(Clone, Debug)]
pub(super) struct TaskRecord {
    /// Only where the task was given one.
    pub(super) name: Option<Arc<str>>,
    pub(super) run: u64,
    pub(super) started_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) worker: WorkerId,
    pub(super) task: u32,
    pub(super) attempt: u32,
    pub(super) group: u16,
    pub(super) state: State,
}

/// An attempt that goes on.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) name: Option<Arc<str>>,
    pub(super) run: u64,
    pub(super) started_ns: u64,
    pub(super) worker: WorkerId,
    pub(super) task: u32,
    pub(super) attempt: u32,
    pub(super) group: u16,
}

/// How many attempts, or tasks, ended in which way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) finished: u64,
    pub(super) failed: u64,
    pub(super) retried: u64,
    pub(super) cancelled: u64,
    pub(super) skipped: u64,
    pub(super) running: i64,
    pub(super) busy_ns: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Counts) {
        self.finished += other.finished;
        self.failed += other.failed;
        self.retried += other.retried;
        self.cancelled += other.cancelled;
        self.skipped += other.skipped;
        self.running += other.running;
        self.busy_ns += other.busy_ns;
    }

    fn count(&mut self, state: State, busy_ns: u64) {
        self.running -= 1;
        self.busy_ns += busy_ns;
        *match state {
            State::Finished => &mut self.finished,
            State::Failed => &mut self.failed,
            State::Retried => &mut self.retried,
            State::Cancelled => &mut self.cancelled,
        } += 1;
    }
}

/// A run, while it goes on and as long as it has a report.
#[derive(Debug)]
pub(super) struct KnownRun {
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) title: Arc<str>,
    pub(super) scheduler: Arc<str>,
    pub(super) num_tasks: usize,
    pub(super) started_ns: u64,
    /// For each task the place of its name in `groups`.
    slots: Vec<u16>,
    /// Numbers of names, with how many tasks have each.
    pub(super) groups: Vec<(u16, u64)>,
    /// `None` for one that is too large.
    pub(super) graph: Option<Arc<Graph>>,
    /// A [`Stage`] for each task, where there is a graph. Relaxed: a page that is late by one task is right a moment later.
    stages: Box<[AtomicU8]>,
    num_skipped: AtomicU64,
    sampling: Sampling,
    failures: Mutex<Vec<profile::Failure>>,
    placed: OnceLock<Placed>,
    ids: (RunId, Option<RunId>),
    handle: RunHandle,
    /// Of a run of futures.
    part: Option<Part>,
    /// Of a graph of futures that is shown by itself: the cluster, and the tasks that are futures.
    promised: Option<(u64, Box<[u32]>)>,
}

/// What a run of futures is in the [`ClusterRun`] of its cluster.
#[derive(Clone, Copy, Debug)]
struct Part {
    cluster_run: RunId,
    /// The number of its first task there.
    first: u32,
    /// The window in whose graph its tasks are, and the number of the first there.
    window: u64,
    first_in_window: u32,
}

/// The futures of one cluster, as if they were one run.
pub(super) struct ClusterRun {
    pub(super) id: RunId,
    pub(super) title: Arc<str>,
    pub(super) scheduler: Arc<str>,
    pub(super) started_ns: u64,
    cluster: ClusterInfo,
    /// When the last run ended.
    pub(super) last_ns: u64,
    /// By the number of the name, what the runs did that have ended.
    pub(super) names: Vec<(u16, Counts)>,
    num_tasks: u32,
    num_windows: u64,
    now: Window,
    before: Option<Window>,
}

/// Some of the futures of a cluster, one after the other, for a report.
struct Window {
    number: u64,
    graph: Growing,
    /// Tasks of its graph that are no values.
    num_calls: usize,
    sample: Sample,
    sampling: Sampling,
    failures: Vec<profile::Failure>,
    num_skipped: u64,
    started_ns: u64,
}

impl Window {
    fn new(number: u64, started_ns: u64) -> Self {
        let (sample, sampling) = (Sample::default(), Sampling::new(2 * MAX_CROWD_TASKS));
        let (graph, failures) = (Growing::default(), Vec::new());
        Window { number, graph, num_calls: 0, sample, sampling, failures, num_skipped: 0, started_ns }
    }
}

/// A cluster and what it is doing.
pub(super) struct ClusterNow<'s> {
    pub(super) cluster_run: &'s ClusterRun,
    /// With what goes on.
    pub(super) names: Vec<(u16, Counts)>,
    /// Futures that have not come to their end and are not of a graph that is shown by itself; `None` if the cluster is gone.
    pub(super) num_pending: Option<usize>,
}

impl ClusterRun {
    fn count(&mut self, number: u16, counts: &Counts) {
        add_to(&mut self.names, number, counts);
    }

    /// The window for some more tasks.
    fn window(&mut self, now_ns: u64) -> &mut Window {
        if self.now.num_calls >= MAX_CROWD_TASKS || self.now.graph.graph().num_tasks() >= MAX_CROWD_NODES {
            self.num_windows += 1;
            let new = Window::new(self.num_windows, now_ns);
            self.before = Some(std::mem::replace(&mut self.now, new));
        }
        &mut self.now
    }

    fn window_of(&mut self, part: Part) -> Option<&mut Window> {
        let windows = [Some(&mut self.now), self.before.as_mut()];
        windows.into_iter().flatten().find(|window| window.number == part.window)
    }

    /// The one that says more.
    fn larger_window(&self) -> &Window {
        let has_more = |window: &&Window| window.sample.len() > self.now.sample.len();
        self.before.as_ref().filter(has_more).unwrap_or(&self.now)
    }

    pub(super) fn has_report(&self) -> bool {
        self.larger_window().sample.len() > 0
    }
}

fn add_to(names: &mut Vec<(u16, Counts)>, number: u16, counts: &Counts) {
    match names.iter_mut().find(|(other, _)| *other == number) {
        Some((_, sum)) => sum.add(counts),
        None => names.push((number, *counts)),
    }
}

impl KnownRun {
    /// The number of the run as which it is shown, and that of one of its tasks there.
    fn shown(&self, task: u32) -> (u64, u32) {
        self.part.map_or((self.id, task), |part| (part.cluster_run.get(), part.first.wrapping_add(task)))
    }

    pub(super) fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// Of a graph that is shown by itself: how many futures of this cluster it has that have not come to their end.
    fn num_promised(&self, cluster: u64) -> usize {
        let its = self.promised.as_ref().filter(|(of, _)| *of == cluster);
        its.map_or(0, |(_, outputs)| outputs.iter().filter(|&&id| !self.stage(id).is_over()).count())
    }

    fn enters(&self, task: usize, stage: Stage) {
        if let Some(at) = self.stages.get(task) {
            at.store(stage as u8, Relaxed);
        }
    }

    /// `Waiting` for a run whose graph is not remembered.
    pub(super) fn stage(&self, task: u32) -> Stage {
        self.stages.get(task as usize).map_or(Stage::Waiting, |stage| Stage::ALL[stage.load(Relaxed) as usize])
    }

    /// The graph as it is drawn. Takes some milliseconds the first time.
    pub(super) fn placed(&self) -> Option<&Placed> {
        let graph = self.graph.as_ref()?;
        Some(self.placed.get_or_init(|| Placed::of(graph, MAX_BOXES, Direction::Right)))
    }

    /// About what it takes, with so many records.
    fn num_bytes(&self, num_records: usize) -> usize {
        let graph = self.graph.as_ref().map_or(0, |graph| graph.num_bytes());
        graph + 3 * self.num_tasks + num_records * size_of::<Record>()
    }
}

/// What a shard has counted of one run, by slot.
struct Tally {
    run: Arc<KnownRun>,
    counts: Vec<Counts>,
    sample: Sample,
}

/// What is kept for the report on a run that has ended.
struct Report {
    run: Arc<KnownRun>,
    samples: Vec<Sample>,
    ended_ns: u64,
    error: Option<Error>,
    num_bytes: usize,
}

/// A worker, as far as it has been seen.
#[derive(Clone, Debug)]
pub(super) struct WorkerTally {
    pub(super) worker: WorkerId,
    pub(super) counts: Counts,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) lost: Option<Arc<str>>,
    /// The last error of a task that it ran.
    pub(super) error: Option<Arc<str>>,
    /// What it wrote before it was lost, if that was captured.
    pub(super) output: Option<Arc<str>>,
    pub(super) restarts: u32,
    pub(super) memory_limit: Option<u64>,
    /// Of a process whose start was told.
    pub(super) handle: Option<WorkerHandle>,
}

#[derive(Default)]
struct Shard {
    /// A ring once it is full.
    fresh: Vec<TaskRecord>,
    /// The oldest of a full ring.
    oldest: usize,
    overwritten: u64,
    running: VecDeque<Running>,
    tallies: Vec<Tally>,
    workers: Vec<WorkerTally>,
    num_forgotten: u64,
}

impl Shard {
    fn tally(&mut self, run: u64, find: impl FnOnce() -> Option<Arc<KnownRun>>) -> Option<&mut Tally> {
        // The last is the innermost, and as a rule the only one.
        let position = match self.tallies.iter().rposition(|tally| tally.run.id == run) {
            Some(position) => position,
            None => {
                let run = find()?;
                let counts = vec![Counts::default(); run.groups.len()];
                self.tallies.push(Tally { run, counts, sample: Sample::default() });
                self.tallies.len() - 1
            }
        };
        Some(&mut self.tallies[position])
    }

    fn worker(&mut self, worker: WorkerId, now_ns: u64) -> &mut WorkerTally {
        let position = match self.workers.iter().position(|tally| tally.worker == worker) {
            Some(position) => position,
            None => {
                if self.workers.len() >= MAX_WORKERS {
                    let idle = (0..self.workers.len()).filter(|&index| self.workers[index].counts.running <= 0);
                    if let Some(index) = idle.min_by_key(|&index| self.workers[index].last_ns).or(Some(0)) {
                        self.workers.swap_remove(index);
                        self.num_forgotten += 1;
                    }
                }
                // It may have been started before this was told of anything.
                let known = Some(worker).filter(|worker| !worker.is_here()).and_then(StartedWorker::find);
                self.workers.push(WorkerTally {
                    worker,
                    counts: Counts::default(),
                    first_ns: now_ns,
                    last_ns: now_ns,
                    lost: None,
                    error: None,
                    output: None,
                    restarts: known.as_ref().map_or(0, |known| known.restarts),
                    memory_limit: known.as_ref().and_then(|known| known.memory_limit),
                    handle: known.map(|known| known.handle),
                });
                self.workers.len() - 1
            }
        };
        let tally = &mut self.workers[position];
        tally.last_ns = tally.last_ns.max(now_ns);
        tally
    }

    fn keep(&mut self, record: TaskRecord) {
        if self.fresh.len() < MAX_FRESH {
            self.fresh.push(record);
            return;
        }
        self.fresh[self.oldest] = record;
        self.oldest = (self.oldest + 1) % MAX_FRESH;
        self.overwritten += 1;
    }
}

/// A run that has ended.
#[derive(Clone, Debug)]
pub(super) struct RunRecord {
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) title: Arc<str>,
    pub(super) scheduler: Arc<str>,
    pub(super) num_tasks: usize,
    pub(super) started_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) outcome: Outcome,
    pub(super) error: Option<Arc<str>>,
    pub(super) counts: Counts,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Finished,
    Failed,
    Cancelled,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Outcome::Finished => "finished",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// A line of the log.
#[derive(Clone, Debug)]
pub(super) struct EventRecord {
    pub(super) seq: u64,
    pub(super) at_ns: u64,
    pub(super) kind: &'static str,
    pub(super) run: Option<u64>,
    pub(super) text: Arc<str>,
}

/// All that is remembered beside what the shards have.
pub(super) struct Store {
    /// The first is for [`OTHER`].
    pub(super) names: Vec<Arc<str>>,
    by_name: HashMap<Arc<str>, u16>,
    /// By name, of the runs that have ended.
    pub(super) totals: Vec<Counts>,
    pub(super) runs: VecDeque<RunRecord>,
    /// Runs that have ended, by outcome.
    pub(super) num_runs: [u64; 3],
    /// Ended tasks with their numbers, which count up from 1.
    pub(super) tasks: VecDeque<(u64, TaskRecord)>,
    pub(super) num_seen: u64,
    pub(super) overwritten: u64,
    pub(super) events: VecDeque<EventRecord>,
    pub(super) num_events: u64,
    /// The oldest first.
    reports: VecDeque<Report>,
    /// The oldest first.
    pub(super) cluster_runs: Vec<ClusterRun>,
}

impl Store {
    /// The number of a name.
    fn intern(&mut self, name: &Arc<str>) -> u16 {
        if let Some(&number) = self.by_name.get(name) {
            return number;
        }
        if self.names.len() > MAX_NAMES || name.len() > MAX_TEXT {
            return OTHER;
        }
        let number = self.names.len() as u16;
        self.names.push(Arc::clone(name));
        self.totals.push(Counts::default());
        self.by_name.insert(Arc::clone(name), number);
        number
    }

    /// The place of the cluster_run of a cluster; that of its first run is made.
    fn cluster_run(&mut self, cluster: &ClusterInfo, first: RunId, scheduler: &str, started_ns: u64) -> usize {
        if let Some(position) =
            self.cluster_runs.iter().position(|cluster_run| cluster_run.cluster.id() == cluster.id())
        {
            return position;
        }
        if self.cluster_runs.len() == MAX_CROWDS {
            // Of those that are gone, or else have nothing to do, or else of all, the one that has told of nothing for longest.
            let rank = |cluster_run: &ClusterRun| {
                (cluster_run.cluster.num_pending().map_or(0, |n| 1 + n.min(1)), cluster_run.last_ns)
            };
            let forgotten = (0..self.cluster_runs.len()).min_by_key(|&index| rank(&self.cluster_runs[index]));
            forgotten.map(|index| self.cluster_runs.remove(index));
        }
        // A thread of a cluster runs each by itself.
        let scheduler = if scheduler == "sync" { "threads" } else { scheduler };
        let text = format!("{}: futures on {scheduler}", cut(cluster.name()));
        self.log(started_ns, "cluster seen", Some(first.get()), &text);
        self.cluster_runs.push(ClusterRun {
            id: first,
            title: cut(cluster.name()).into(),
            scheduler: cut(scheduler).into(),
            started_ns,
            cluster: cluster.clone(),
            last_ns: started_ns,
            names: Vec::new(),
            num_tasks: 0,
            num_windows: 0,
            now: Window::new(0, started_ns),
            before: None,
        });
        self.cluster_runs.len() - 1
    }

    fn log(&mut self, at_ns: u64, kind: &'static str, run: Option<u64>, text: &str) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.num_events += 1;
        self.events.push_back(EventRecord { seq: self.num_events, at_ns, kind, run, text: cut(text).into() });
    }

    /// A run of futures has ended; its counts are in the totals.
    fn end_part(&mut self, run: &KnownRun, part: Part, tallies: Vec<(Sample, Vec<Counts>)>, ended_ns: u64) {
        let Some(cluster_run) = self.cluster_runs.iter_mut().find(|cluster_run| cluster_run.id == part.cluster_run)
        else {
            return;
        };
        cluster_run.last_ns = cluster_run.last_ns.max(ended_ns);
        for (&(number, _), counts) in tallies.iter().flat_map(|(_, counts)| run.groups.iter().zip(counts)) {
            cluster_run.count(number, counts);
        }
        let id = cluster_run.id;
        let Some(window) = cluster_run.window_of(part) else { return };
        for (sample, _) in tallies {
            window.sample.take_over(sample, id, part.first_in_window, &window.sampling);
        }
        window.num_skipped += run.num_skipped.load(Relaxed);
        let num_left = MAX_FAILURES.saturating_sub(window.failures.len());
        let failures = std::mem::take(&mut *run.failures.lock()).into_iter().take(num_left);
        let shifted = |failure: profile::Failure| {
            let task = part.first_in_window as usize + failure.id;
            profile::Failure { run: id, id: task, ..failure }
        };
        window.failures.extend(failures.map(shifted));
    }

    fn keep_report(&mut self, report: Report) {
        self.reports.push_back(report);
        let mut num_bytes: usize = self.reports.iter().map(|report| report.num_bytes).sum();
        while self.reports.len() > MAX_REPORTS || (num_bytes > MAX_REPORT_BYTES && self.reports.len() > 1) {
            let oldest = self.reports.pop_front();
            num_bytes -= oldest.map_or(0, |report| report.num_bytes);
        }
    }

    /// Whether there is a report on a run that has ended.
    pub(super) fn has_report(&self, run: u64) -> bool {
        self.reports.iter().any(|report| report.run.id == run)
    }

    pub(super) fn name_of<'a>(&'a self, name: Option<&'a Arc<str>>, group: u16) -> &'a Arc<str> {
        name.unwrap_or(&self.names[group as usize])
    }
}

/// The observer.
pub(super) struct Collector {
    epoch: Instant,
    pub(super) started: SystemTime,
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    live: RwLock<Vec<Arc<KnownRun>>>,
    store: Mutex<Store>,
    pub(super) resources: Resources,
    held: Held,
    /// The most bytes of values that runs and futures held together, whenever somebody looked.
    most_held: AtomicU64,
}

/// Values that are held.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Values {
    /// Of runs.
    pub(super) bytes: u64,
    /// The most of runs and futures together.
    pub(super) peak_bytes: u64,
    pub(super) num_of_futures: usize,
    pub(super) bytes_of_futures: usize,
}

/// What the shards say at one moment.
#[derive(Default)]
pub(super) struct Now {
    pub(super) now_ns: u64,
    /// Of each live run, by slot.
    pub(super) live: Vec<(Arc<KnownRun>, Vec<Counts>)>,
    /// The same of those that are parts of cluster_runs.
    pub(super) parts: Vec<(Arc<KnownRun>, Vec<Counts>)>,
    pub(super) running: Vec<Running>,
    pub(super) workers: Vec<WorkerTally>,
    pub(super) num_forgotten: u64,
}

impl Now {
    /// The clusters, the oldest first.
    pub(super) fn cluster_runs<'s>(&self, store: &'s Store) -> Vec<ClusterNow<'s>> {
        let now = |cluster_run: &'s ClusterRun| {
            let mut names = cluster_run.names.clone();
            let is_its = |run: &KnownRun| run.part.is_some_and(|part| part.cluster_run == cluster_run.id);
            for (run, counts) in self.parts.iter().filter(|(run, _)| is_its(run)) {
                run.groups.iter().zip(counts).for_each(|(&(number, _), counts)| add_to(&mut names, number, counts));
            }
            // Those of graphs that are shown by themselves are counted there.
            let of_graphs = self.live.iter().map(|(run, _)| run.num_promised(cluster_run.cluster.id())).sum();
            let num_pending =
                cluster_run.cluster.num_pending().map(|num_pending| num_pending.saturating_sub(of_graphs));
            ClusterNow { cluster_run, names, num_pending }
        };
        store.cluster_runs.iter().map(now).collect()
    }
}

impl Collector {
    pub(super) fn new() -> Self {
        let num_shards = std::thread::available_parallelism().map_or(8, |n| n.get().next_power_of_two().clamp(8, 64));
        let other: Arc<str> = "other".into();
        let store = Store {
            names: vec![other],
            by_name: HashMap::new(),
            totals: vec![Counts::default()],
            runs: VecDeque::new(),
            num_runs: [0; 3],
            tasks: VecDeque::new(),
            num_seen: 0,
            overwritten: 0,
            events: VecDeque::new(),
            num_events: 0,
            reports: VecDeque::new(),
            cluster_runs: Vec::new(),
        };
        Collector {
            epoch: Instant::now(),
            started: SystemTime::now(),
            shards: (0..num_shards).map(|_| CachePadded::default()).collect(),
            live: RwLock::default(),
            store: Mutex::new(store),
            resources: Resources::new(),
            held: Held::new(),
            most_held: AtomicU64::new(0),
        }
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.ns(Instant::now())
    }

    fn ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    pub(super) fn log(&self, kind: &'static str, text: &str) {
        let now_ns = self.now_ns();
        self.store.lock().log(now_ns, kind, None, text);
    }

    /// Asks a run to end. Says whether it went on; `None` if it is not known.
    pub(super) fn cancel(&self, run: u64) -> Option<bool> {
        let went_on = self.run(run)?.0.handle.cancel();
        if went_on {
            let now_ns = self.now_ns();
            self.store.lock().log(now_ns, "cancel asked for", Some(run), "on a page");
        }
        Some(went_on)
    }

    /// Has a worker process replaced. Says whether it was there; `None` if none with this number is known that could be replaced.
    pub(super) fn restart(&self, pid: u32) -> Option<bool> {
        // Of each of its threads; who asks again finds none.
        let take = |shard: &CachePadded<Mutex<Shard>>| {
            let mut shard = shard.lock();
            let its = shard.workers.iter_mut().filter(|it| !it.worker.is_here() && it.worker.pid() == pid);
            its.filter_map(|tally| tally.handle.take()).last()
        };
        let handle = self.shards.iter().filter_map(take).last()?;
        let was_there = handle.restart();
        if was_there {
            let now_ns = self.now_ns();
            self.store.lock().log(now_ns, "restart asked for", None, &format!("process {pid}, on a page"));
        }
        Some(was_there)
    }

    fn shard(&self, worker: WorkerId) -> MutexGuard<'_, Shard> {
        let process = if worker.is_here() { 0 } else { worker.pid() };
        let index = process.wrapping_add(worker.thread()) as usize & (self.shards.len() - 1);
        self.shards[index].lock()
    }

    fn find(&self, run: u64) -> Option<Arc<KnownRun>> {
        self.live.read().iter().rev().find(|live| live.id == run).cloned()
    }

    /// The number of the run as which one that goes on is shown.
    fn shown(&self, run: RunId) -> u64 {
        self.find(run.get()).map_or(run.get(), |known| known.shown(0).0)
    }

    fn began(&self, task: TaskInfo<'_>, worker: WorkerId, started: Instant, attempt: u32) {
        let (run, started_ns) = (task.run().get(), self.ns(started));
        let mut shard = self.shard(worker);
        let Some(tally) = shard.tally(run, || self.find(run)) else { return };
        // The value of another future.
        if tally.run.is_part() && task.is_value() {
            return;
        }
        let slot = tally.run.slots[task.id()] as usize;
        tally.counts[slot].running += 1;
        tally.run.enters(task.id(), Stage::Running);
        let (group, (run, id)) = (tally.run.groups[slot].0, tally.run.shown(task.id() as u32));
        shard.worker(worker, started_ns).counts.running += 1;
        if shard.running.len() < MAX_RUNNING {
            let (name, task) = (name_of(task), id);
            shard.running.push_back(Running { name, run, started_ns, worker, task, attempt, group });
        }
    }

    fn ended(&self, task: TaskInfo<'_>, by: &By<'_>, attempt: u32, state: State) {
        let &By { worker, span, crossing, value, error } = by;
        let run = task.run().get();
        let (started_ns, ended_ns) = (self.ns(span.0), self.ns(span.1));
        let busy_ns = ended_ns.saturating_sub(started_ns);
        let mut shard = self.shard(worker);
        let Some(tally) = shard.tally(run, || self.find(run)) else { return };
        if tally.run.is_part() && task.is_value() {
            return;
        }
        let slot = tally.run.slots[task.id()] as usize;
        tally.counts[slot].count(state, busy_ns);
        let stage = match state {
            State::Finished => Stage::Finished,
            State::Failed => Stage::Failed,
            State::Retried => Stage::Waiting,
            State::Cancelled => Stage::Cancelled,
        };
        tally.run.enters(task.id(), stage);
        if (tally.run.graph.is_some() || tally.run.is_part()) && !task.is_value() {
            let how = (state.into(), attempt.max(1), value);
            let record = Record::new(task, worker, started_ns, span, crossing, how);
            tally.sample.add(record, &tally.run.sampling);
        }
        if let Some(error) = error {
            let mut failures = tally.run.failures.lock();
            if failures.len() < MAX_FAILURES {
                let (at, error) = (Duration::from_nanos(ended_ns), error.clone());
                let was_retried = state == State::Retried;
                failures.push(profile::Failure { run: task.run(), id: task.id(), at, was_retried, error });
            }
        }
        let (group, (run, id)) = (tally.run.groups[slot].0, tally.run.shown(task.id() as u32));
        let tally = shard.worker(worker, ended_ns);
        tally.counts.count(state, busy_ns);
        if let Some(error) = error {
            tally.error = Some(format!("{}: {}", cut(&task.name()), cut(error.message())).into());
        }
        // A batch of a worker process ends in the order in which it was sent.
        let known = shard.running.iter().position(|running| running.task == id && running.run == run);
        let (name, attempt) = match known.and_then(|index| shard.running.remove(index)) {
            Some(running) => (running.name, running.attempt),
            None => (name_of(task), attempt),
        };
        shard.keep(TaskRecord { name, run, started_ns, ended_ns, worker, task: id, attempt, group, state });
    }

    fn trouble(&self, kind: &'static str, task: TaskInfo<'_>, at: Instant, error: Option<&Error>) {
        let text = match error {
            Some(error) => format!("{}: {}", cut(&task.name()), error.message()),
            None => format!("{}: its worker was lost", cut(&task.name())),
        };
        let (at_ns, run) = (self.ns(at), self.shown(task.run()));
        self.store.lock().log(at_ns, kind, Some(run), &text);
    }

    /// Takes what is new from the shards to the store, and says what goes on; then `body` looks at both.
    pub(super) fn look<R>(&self, body: impl FnOnce(&Store, Now) -> R) -> R {
        let mut store = self.store.lock();
        let live = self.live.read().clone();
        let mut now = Now { now_ns: self.now_ns(), ..Now::default() };
        let all = live.into_iter().map(|run| (Arc::clone(&run), vec![Counts::default(); run.groups.len()]));
        (now.parts, now.live) = all.partition(|(run, _)| run.is_part());
        let mut fresh: Vec<TaskRecord> = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let taken = if shard.fresh.is_empty() { Vec::new() } else { Vec::with_capacity(MAX_FRESH) };
            fresh.append(&mut std::mem::replace(&mut shard.fresh, taken));
            shard.oldest = 0;
            store.overwritten += std::mem::take(&mut shard.overwritten);
            for tally in &shard.tallies {
                let runs = if tally.run.is_part() { &mut now.parts } else { &mut now.live };
                if let Some((_, counts)) = runs.iter_mut().find(|(run, _)| run.id == tally.run.id) {
                    counts.iter_mut().zip(&tally.counts).for_each(|(sum, counts)| sum.add(counts));
                }
            }
            now.running.extend(shard.running.iter().cloned());
            now.workers.extend(shard.workers.iter().cloned());
            now.num_forgotten += shard.num_forgotten;
        }
        fresh.sort_unstable_by_key(|record| record.ended_ns);
        for record in fresh {
            store.num_seen += 1;
            if store.tasks.len() == MAX_TASKS {
                store.tasks.pop_front();
            }
            let number = store.num_seen;
            store.tasks.push_back((number, record));
        }
        now.running.sort_unstable_by_key(|running| running.started_ns);
        now.workers.sort_by_key(|tally| (!tally.worker.is_here(), tally.first_ns, tally.worker.thread()));
        body(&store, now)
    }

    /// Looks at the use of processors and memory, if that has not just been done.
    pub(super) fn look_at_resources(&self) {
        let mut pids: Vec<u32> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let is_there = |tally: &&WorkerTally| !tally.worker.is_here() && tally.lost.is_none();
            pids.extend(shard.workers.iter().filter(is_there).map(|tally| tally.worker.pid()));
        }
        pids.sort_unstable();
        pids.dedup();
        self.resources.look(self.now_ns(), &pids);
    }

    /// The values that runs and futures hold.
    pub(super) fn values(&self, store: &Store) -> Values {
        // Futures first: a value goes from its run to its future, and so is not seen at both.
        let held = store.cluster_runs.iter().map(|cluster_run| cluster_run.cluster.num_held());
        let (num_of_futures, bytes_of_futures) = held.fold((0, 0), |(n, bytes), of| (n + of.0, bytes + of.1));
        let (bytes, peak_bytes) = self.held.look();
        let together = peak_bytes.max(bytes + bytes_of_futures as u64);
        let peak_bytes = together.max(self.most_held.fetch_max(together, Relaxed));
        Values { bytes, peak_bytes, num_of_futures, bytes_of_futures }
    }

    /// Looks at them, so that the peak is known.
    pub(super) fn look_at_values(&self) {
        self.values(&self.store.lock());
    }

    pub(super) fn has_live_runs(&self) -> bool {
        !self.live.read().is_empty()
    }

    /// The runs that go on, the newest first.
    pub(super) fn live_runs(&self) -> Vec<Arc<KnownRun>> {
        self.live.read().iter().rev().filter(|run| !run.is_part()).cloned().collect()
    }

    /// A run that goes on, or that has a report; and when it ended, if it did.
    pub(super) fn run(&self, id: u64) -> Option<(Arc<KnownRun>, Option<u64>)> {
        // A run that ends meanwhile is in the store before it is gone from here.
        if let Some(run) = self.find(id).filter(|run| !run.is_part()) {
            return Some((run, None));
        }
        let store = self.store.lock();
        let report = store.reports.iter().find(|report| report.run.id == id)?;
        Some((Arc::clone(&report.run), Some(report.ended_ns)))
    }

    /// Whether it is the number of the futures of a cluster.
    pub(super) fn is_cluster(&self, id: u64) -> bool {
        self.store.lock().cluster_runs.iter().any(|cluster_run| cluster_run.id.get() == id)
    }

    /// What is recorded of the last futures of a cluster.
    fn profile_of_cluster(&self, id: u64) -> Option<Profile> {
        let store = self.store.lock();
        let cluster_run = store.cluster_runs.iter().find(|cluster_run| cluster_run.id.get() == id)?;
        let window = cluster_run.larger_window();
        let is_over = cluster_run.cluster.num_pending().is_none_or(|num_pending| num_pending == 0);
        let (started, last) = (Duration::from_nanos(window.started_ns), Duration::from_nanos(cluster_run.last_ns));
        let ended = (is_over || window.number != cluster_run.now.number).then_some(last);
        let recorded = RecordedRun {
            id: cluster_run.id,
            parent: None,
            scheduler: cluster_run.scheduler.to_string(),
            started,
            ended,
            error: None,
            num_skipped: window.num_skipped,
            graph: Arc::clone(window.graph.graph()),
            samples: vec![window.sample.clone()],
            failures: window.failures.clone(),
            resources: self.resources.between(started, ended.unwrap_or(Duration::MAX)),
        };
        drop(store);
        Some(recorded.profile())
    }

    /// What is recorded of a run; also of one that goes on.
    pub(super) fn profile(&self, id: u64) -> Option<Profile> {
        if self.is_cluster(id) {
            return self.profile_of_cluster(id);
        }
        let (run, samples, ended_ns, error) = {
            let store = self.store.lock();
            match store.reports.iter().find(|report| report.run.id == id) {
                Some(Report { run, samples, ended_ns, error, .. }) => {
                    (Arc::clone(run), samples.clone(), Some(*ended_ns), error.clone())
                }
                None => {
                    let run = self.find(id)?;
                    let of_shard = |shard: &CachePadded<Mutex<Shard>>| {
                        let shard = shard.lock();
                        let tally = shard.tallies.iter().find(|tally| tally.run.id == id);
                        tally.map(|tally| tally.sample.clone())
                    };
                    (run, self.shards.iter().filter_map(of_shard).collect(), None, None)
                }
            }
        };
        let (started, ended) = (Duration::from_nanos(run.started_ns), ended_ns.map(Duration::from_nanos));
        let failures = run.failures.lock().clone();
        let recorded = RecordedRun {
            id: run.ids.0,
            parent: run.ids.1,
            scheduler: run.scheduler.to_string(),
            started,
            ended,
            error,
            num_skipped: run.num_skipped.load(Relaxed),
            graph: Arc::clone(run.graph.as_ref()?),
            samples,
            failures,
            resources: self.resources.between(started, ended.unwrap_or(Duration::MAX)),
        };
        Some(recorded.profile())
    }

    fn known_run(&self, run: RunInfo<'_>, scheduler: &str, started: Instant, handle: RunHandle) -> KnownRun {
        let cluster = run.cluster().filter(|_| !is_graph(run));
        let graph = match cluster {
            Some(_) => Graph::of_many(run.plan()),
            None => Graph::without_arguments(run.plan()),
        };
        let num_calls = (0..run.num_tasks()).filter(|&id| !run.task(id).is_value()).count();
        let started_ns = self.ns(started);
        let mut part = None;
        let mut groups: Vec<(u16, u64)> = Vec::new();
        let mut slot_of_number: HashMap<u16, u16> = HashMap::new();
        let slot_of_family: Vec<u16> = {
            let mut store = self.store.lock();
            if let Some(cluster) = cluster {
                let position = store.cluster_run(cluster, run.id(), scheduler, started_ns);
                let cluster_run = &mut store.cluster_runs[position];
                let first = cluster_run.num_tasks;
                cluster_run.num_tasks = first.wrapping_add(graph.num_tasks() as u32);
                let id = cluster_run.id;
                let window = cluster_run.window(started_ns);
                let first_in_window = window.graph.add(&graph);
                window.num_calls += num_calls;
                part = Some(Part { cluster_run: id, first, window: window.number, first_in_window });
            }
            let numbers = (0..graph.num_families() as u32).map(|family| store.intern(graph.family_name(family)));
            let slot_of = |number| {
                *slot_of_number.entry(number).or_insert_with(|| {
                    groups.push((number, 0));
                    (groups.len() - 1) as u16
                })
            };
            numbers.map(slot_of).collect()
        };
        let slots: Vec<u16> =
            (0..graph.num_tasks() as u32).map(|id| slot_of_family[graph.family(id) as usize]).collect();
        for (id, &slot) in slots.iter().enumerate() {
            groups[slot as usize].1 += u64::from(part.is_none() || !run.task(id).is_value());
        }
        let title = match graph.outputs() {
            [] => "nothing".to_owned(),
            [output] => cut(graph.name(*output)).to_owned(),
            [first, others @ ..] => format!("{} and {} more", cut(graph.name(*first)), others.len()),
        };
        let of_graph = run.cluster().filter(|_| part.is_none());
        let promised = of_graph.map(|cluster| (cluster.id(), graph.outputs().into()));
        let graph = Some(graph)
            .filter(|_| part.is_none())
            .filter(|graph| graph.num_tasks() + graph.num_dependencies() <= MAX_GRAPH);
        let num_staged = graph.as_ref().map_or(0, Graph::num_tasks);
        KnownRun {
            id: run.id().get(),
            parent: run.parent().map(|parent| self.shown(parent)),
            title: title.into(),
            scheduler: cut(scheduler).into(),
            num_tasks: run.num_tasks(),
            started_ns,
            slots,
            groups,
            graph: graph.map(Arc::new),
            stages: (0..num_staged).map(|_| AtomicU8::new(Stage::Waiting as u8)).collect(),
            num_skipped: AtomicU64::new(0),
            sampling: Sampling::new(MAX_RECORDS),
            failures: Mutex::default(),
            placed: OnceLock::new(),
            ids: (run.id(), run.parent()),
            handle,
            part,
            promised,
        }
    }
}

/// Whether a run of futures is a graph that somebody may want to see by itself.
fn is_graph(run: RunInfo<'_>) -> bool {
    /// More than futures that are handed to a worker at once.
    const MANY: usize = 1_000;
    const SOME: usize = 12;
    let num_tasks = run.num_tasks();
    if !(SOME..=MAX_CROWD_NODES).contains(&num_tasks) {
        return num_tasks > MAX_CROWD_NODES;
    }
    let calls = || (0..num_tasks).map(|id| run.task(id)).filter(|task| !task.is_value());
    let num_calls = calls().count();
    let has_dependencies = || calls().any(|task| task.inputs().any(|input| !run.task(input).is_value()));
    num_calls > MANY || (num_calls >= SOME && has_dependencies())
}

/// Who ran an attempt, when, and what went wrong.
struct By<'e> {
    worker: WorkerId,
    span: (Instant, Instant),
    crossing: Option<Crossing>,
    value: Option<ValueSize>,
    error: Option<&'e Error>,
}

impl Callback for Collector {
    fn interests(&self) -> Interests {
        Interests::new().releases()
    }

    fn on_value_released(&self, event: &ValueReleased<'_>) {
        self.held.released(event.size.bytes);
    }

    fn on_run_started(&self, event: &RunStarted<'_>) {
        if event.run.starts_worker() {
            return;
        }
        let run = Arc::new(self.known_run(event.run, event.scheduler, event.started, event.handle.clone()));
        if run.is_part() {
            return self.live.write().push(run);
        }
        let text = format!("{}: {} tasks on {}", run.title, run.num_tasks, run.scheduler);
        let mut store = self.store.lock();
        store.log(run.started_ns, "run started", Some(run.id), &text);
        self.live.write().push(run);
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        self.began(event.task, event.worker, event.started, event.attempt);
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        let &TaskFinished { worker, started, ended, crossing, .. } = event;
        let value = event.value();
        if let Some(size) = value {
            self.held.stored(size.bytes);
        }
        let by = By { worker, span: (started, ended), crossing, value, error: None };
        self.ended(event.task, &by, event.attempt, State::Finished);
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        let &TaskFailed { worker, started, ended, crossing, .. } = event;
        let by = By { worker, span: (started, ended), crossing, value: None, error: Some(&event.error) };
        self.ended(event.task, &by, event.attempt, State::Failed);
        self.trouble("task failed", event.task, ended, Some(&event.error));
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        let &TaskRetried { worker, started, ended, crossing, .. } = event;
        let by = By { worker, span: (started, ended), crossing, value: None, error: event.error.as_ref() };
        self.ended(event.task, &by, event.attempt, State::Retried);
        self.trouble("task retried", event.task, ended, event.error.as_ref());
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        let &TaskCancelled { worker, started, ended, .. } = event;
        let by = By { worker, span: (started, ended), crossing: None, value: None, error: None };
        self.ended(event.task, &by, 0, State::Cancelled);
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        let run = event.task.run().get();
        let mut shard = self.shard(WorkerId::here());
        if let Some(tally) = shard.tally(run, || self.find(run)) {
            let slot = tally.run.slots[event.task.id()] as usize;
            tally.counts[slot].skipped += 1;
            tally.run.num_skipped.fetch_add(1, Relaxed);
            tally.run.enters(event.task.id(), Stage::Skipped);
        }
    }

    fn on_worker_started(&self, event: &WorkerStarted<'_>) {
        let now_ns = self.now_ns();
        {
            let mut shard = self.shard(event.worker);
            let tally = shard.worker(event.worker, now_ns);
            tally.lost = None;
            (tally.restarts, tally.memory_limit) = (event.restarts, event.memory_limit);
            tally.handle = Some(event.handle.clone());
        }
        let run = (!event.run.starts_worker()).then(|| self.shown(event.run.id()));
        self.store.lock().log(now_ns, "worker started", run, &event.worker.to_string());
    }

    fn on_worker_lost(&self, event: &WorkerLost<'_>) {
        let (now_ns, message) = (self.now_ns(), cut(event.error.message()));
        {
            let mut shard = self.shard(event.worker);
            let tally = shard.worker(event.worker, now_ns);
            tally.lost = Some(message.into());
            tally.handle = None;
            let output = event.error.exit().map(|exit| exit.stderr_tail.trim_end());
            tally.output = output.filter(|output| !output.is_empty()).map(|output| end_of(output).into());
        }
        let text = format!("{}: {message}", event.worker);
        let run = self.shown(event.run.id());
        self.store.lock().log(now_ns, "worker lost", Some(run), &text);
    }

    fn on_run_stalled(&self, event: &RunStalled<'_>) {
        let (at_ns, run) = (self.ns(event.now), self.shown(event.run.id()));
        self.store.lock().log(at_ns, "run stalled", Some(run), &event.to_string());
    }

    fn on_run_finished(&self, event: &RunFinished<'_>) {
        let id = event.run.id().get();
        let mut store = self.store.lock();
        let run = {
            let mut live = self.live.write();
            let Some(position) = live.iter().position(|run| run.id == id) else { return };
            live.remove(position)
        };
        let mut sum = Counts::default();
        let mut samples = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let Some(position) = shard.tallies.iter().position(|tally| tally.run.id == id) else { continue };
            let tally = shard.tallies.swap_remove(position);
            drop(shard);
            for (&(number, _), counts) in run.groups.iter().zip(&tally.counts) {
                sum.add(counts);
                store.totals[number as usize].add(counts);
            }
            samples.push((tally.sample, tally.counts));
        }
        let ended_ns = self.ns(event.ended);
        if let Some(part) = run.part {
            return store.end_part(&run, part, samples, ended_ns);
        }
        let samples: Vec<Sample> = samples.into_iter().map(|(sample, _)| sample).collect();
        let outcome = match &event.error {
            None => Outcome::Finished,
            Some(error) if error.kind() == ErrorKind::Cancelled => Outcome::Cancelled,
            Some(_) => Outcome::Failed,
        };
        let error = event.error.as_ref().map(|error| Arc::from(cut(&error.to_string())));
        let text = error.as_ref().map_or_else(|| run.title.to_string(), |error| format!("{}: {error}", run.title));
        let kind = ["run finished", "run failed", "run cancelled"][outcome as usize];
        store.log(ended_ns, kind, Some(id), &text);
        store.num_runs[outcome as usize] += 1;
        if store.runs.len() == MAX_RUNS {
            store.runs.pop_front();
        }
        store.runs.push_back(RunRecord {
            id,
            parent: run.parent,
            title: Arc::clone(&run.title),
            scheduler: Arc::clone(&run.scheduler),
            num_tasks: run.num_tasks,
            started_ns: run.started_ns,
            ended_ns,
            outcome,
            error,
            counts: sum,
        });
        if run.graph.is_some() {
            let num_bytes = run.num_bytes(samples.iter().map(Sample::len).sum());
            store.keep_report(Report { run, samples, ended_ns, error: event.error.clone(), num_bytes });
        }
    }
}

/// The name that a task was given. A long one is copied in part, so that the records stay small.
fn name_of(task: TaskInfo<'_>) -> Option<Arc<str>> {
    let given = task.given_name()?;
    Some(if given.len() > MAX_TEXT { cut(given).into() } else { Arc::clone(given) })
}

/// The beginning of a text.
pub(super) fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// The end of what a worker wrote.
fn end_of(text: &str) -> &str {
    let start = text.len().saturating_sub(MAX_OUTPUT);
    let start = (start..text.len()).find(|&start| text.is_char_boundary(start));
    &text[start.unwrap_or(text.len())..]
}
