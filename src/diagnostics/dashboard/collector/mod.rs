//! The collector: a callback that records runs for the dashboard.
//!
//! # The cost of an event
//!
//! Each worker has a shard, usually its own. An event of a task takes the lock of its worker's
//! shard, counts, and writes one record into a ring. Only a reader competes for that lock, for some
//! microseconds a few times per second. Nothing is allocated, unless the worker or the run is new
//! to the shard. Work for a whole run is done at its start and at its end, under the lock of the
//! store.
//!
//! # What is always true
//!
//! 1. Locks are taken in the order store, shard, live runs. The locks inside a run and in
//!    [`Resources`] are taken last.
//! 2. Memory is bounded. Each list has a limit in [`limits`], names beyond [`MAX_NAMES`]
//!    are counted as [`OTHER`], and texts are cut at [`MAX_TEXT`]. Only live runs grow with their
//!    size: three bytes for each task, and the shape of the graph unless it is larger than
//!    [`MAX_GRAPH`].
//! 3. Counts miss nothing, even where records have been overwritten. The counts of runs that have
//!    ended are in the store, and those of live runs are in the shards. A run moves from the shards
//!    to the store under the lock of the store.
//! 4. The runs of a cluster's futures are shown as one [`ClusterRun`], under the ids of their
//!    logical run. A large graph of futures is shown by itself.
//! 5. The reports on ended runs take no more than [`MAX_REPORT_BYTES`] together, except that the
//!    last one is always kept. The oldest are dropped first. Besides, each cluster has two windows
//!    of fewer than twice [`MAX_CLUSTER_NODES`] tasks each.
//! 6. A report is made of copies of samples, which are taken under the lock of the store, and of a
//!    shared graph. A window whose graph is shared with a report copies the graph before it grows.
//!
//! [`MAX_NAMES`]: limits::MAX_NAMES
//! [`MAX_TEXT`]: limits::MAX_TEXT
//! [`MAX_GRAPH`]: limits::MAX_GRAPH
//! [`MAX_REPORT_BYTES`]: limits::MAX_REPORT_BYTES
//! [`MAX_CLUSTER_NODES`]: limits::MAX_CLUSTER_NODES

mod clusters;
mod counts;
mod limits;
mod reports;
mod runs;
mod shard;
mod store;

pub(crate) use clusters::ClusterSnapshot;
pub(crate) use counts::{Counts, seconds};
pub(crate) use limits::{MAX_RUNS, OTHER, cut};
pub(crate) use runs::{RunLabel, RunRecord, Stage, TrackedRun};
pub(crate) use shard::{RunningTask, TaskRecord, WorkerRecord};
pub(crate) use store::{LogRecord, Store};

use super::resources::Resources;
use super::value_bytes::ValueBytes;
use crate::diagnostics::picture::Graph;
use crate::diagnostics::profile::{Failure, Outcome, Record};
use crate::engine::callback::{
    Callback, Crossing, Interests, RunFinished, RunId, RunStalled, RunStarted, TaskCancelled, TaskFailed, TaskFinished,
    TaskInfo, TaskRetried, TaskSkipped, TaskStarted, ValueReleased, ValueSize, WorkerId, WorkerLost, WorkerStarted,
};
use crate::error::{Error, ErrorKind};
use clusters::{ClusterRun, is_own_graph};
use counts::add_to;
use crossbeam_utils::CachePadded;
use limits::{MAX_FAILURES, MAX_RUNNING, MAX_TEXT, end_of};
use parking_lot::{Mutex, MutexGuard, RwLock};
use runs::{ReportData, RunOutcome, title_of};
use serde::Serialize;
use shard::Shard;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

/// See the [module](self).
pub(super) struct Collector {
    epoch: Instant,
    pub(super) started: SystemTime,
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    live: RwLock<Vec<Arc<TrackedRun>>>,
    store: Mutex<Store>,
    pub(super) resources: Resources,
    value_bytes: ValueBytes,
    /// The most bytes of values that runs and futures were seen to hold together.
    peak_bytes: AtomicU64,
}

/// The values that are in memory, as the API shows them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct HeldValues {
    /// Of runs.
    pub(crate) bytes: u64,
    /// The most of runs and futures together.
    pub(crate) peak_bytes: u64,
    pub(crate) num_of_futures: usize,
    pub(crate) bytes_of_futures: usize,
}

/// The live runs and the workers at one moment.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) now_ns: u64,
    /// Live runs with their counts by group.
    pub(crate) live: Vec<(Arc<TrackedRun>, Vec<Counts>)>,
    /// The same for the parts of clusters' runs.
    pub(crate) parts: Vec<(Arc<TrackedRun>, Vec<Counts>)>,
    pub(crate) running: Vec<RunningTask>,
    pub(crate) workers: Vec<WorkerRecord>,
    pub(crate) num_forgotten: u64,
}

impl Snapshot {
    /// The runs of clusters, the oldest first.
    pub(crate) fn clusters<'s>(&self, store: &'s Store) -> Vec<ClusterSnapshot<'s>> {
        let snapshot = |run: &'s ClusterRun| {
            let mut names = run.names.clone();
            let is_part = |tracked: &TrackedRun| tracked.part.is_some_and(|part| part.run == run.label.id);
            for (tracked, counts) in self.parts.iter().filter(|(tracked, _)| is_part(tracked)) {
                tracked.groups.iter().zip(counts).for_each(|(&(name, _), counts)| add_to(&mut names, name, counts));
            }
            // Futures of graphs that are shown by themselves are counted there.
            let elsewhere = self.live.iter().map(|(tracked, _)| tracked.num_promised(run.label.id)).sum();
            let num_pending = run.cluster.num_pending().map(|num_pending| num_pending.saturating_sub(elsewhere));
            ClusterSnapshot { run, names, num_pending }
        };
        store.clusters.iter().map(snapshot).collect()
    }
}

/// The facts about an attempt that has ended.
struct AttemptEnd<'e> {
    worker: WorkerId,
    span: (Instant, Instant),
    crossing: Option<Crossing>,
    value: Option<ValueSize>,
    error: Option<&'e Error>,
}

impl Collector {
    pub(super) fn new() -> Self {
        let num_shards = std::thread::available_parallelism().map_or(8, |n| n.get().next_power_of_two().clamp(8, 64));
        Collector {
            epoch: Instant::now(),
            started: SystemTime::now(),
            shards: (0..num_shards).map(|_| CachePadded::default()).collect(),
            live: RwLock::default(),
            store: Mutex::new(Store::new()),
            resources: Resources::new(),
            value_bytes: ValueBytes::new(),
            peak_bytes: AtomicU64::new(0),
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

    /// Cancels a run. False if it had ended; `None` if it is unknown.
    pub(super) fn cancel(&self, run: u64) -> Option<bool> {
        let run = self.run(run)?.0;
        let was_live = run.handle.cancel();
        if was_live {
            let now_ns = self.now_ns();
            self.store.lock().log(now_ns, "cancel requested", Some(run.id()), "on a page");
        }
        Some(was_live)
    }

    /// Restarts a worker process. False if it had ended; `None` if no restartable worker has this
    /// pid.
    pub(super) fn restart(&self, pid: u32) -> Option<bool> {
        // The handles of all threads of the process are taken, so that a second request finds none.
        let take = |shard: &CachePadded<Mutex<Shard>>| {
            let mut shard = shard.lock();
            let threads = shard.workers.iter_mut().filter(|it| !it.id.is_here() && it.id.pid() == pid);
            threads.filter_map(|worker| worker.handle.take()).last()
        };
        let handle = self.shards.iter().filter_map(take).last()?;
        let was_live = handle.restart();
        if was_live {
            self.log("restart requested", &format!("process {pid}, on a page"));
        }
        Some(was_live)
    }

    fn shard(&self, worker: WorkerId) -> MutexGuard<'_, Shard> {
        let process = if worker.is_here() { 0 } else { worker.pid() };
        let index = process.wrapping_add(worker.thread()) as usize & (self.shards.len() - 1);
        self.shards[index].lock()
    }

    fn find(&self, run: RunId) -> Option<Arc<TrackedRun>> {
        self.live.read().iter().rev().find(|live| live.id() == run).cloned()
    }

    /// The id under which a live run is shown.
    fn shown(&self, run: RunId) -> RunId {
        self.find(run).map_or(run, |tracked| tracked.shown(0).0)
    }

    /// Moves the unread records to the store. Then `body` sees the store and the live runs at one
    /// moment.
    pub(super) fn snapshot<R>(&self, body: impl FnOnce(&Store, Snapshot) -> R) -> R {
        let mut store = self.store.lock();
        let live = self.live.read().clone();
        let mut now = Snapshot { now_ns: self.now_ns(), ..Snapshot::default() };
        let all = live.into_iter().map(|run| (Arc::clone(&run), vec![Counts::default(); run.groups.len()]));
        (now.parts, now.live) = all.partition(|(run, _)| run.is_part());
        let mut unread: Vec<TaskRecord> = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            store.overwritten += shard.take_unread(&mut unread);
            for entry in &shard.runs {
                let runs = if entry.run.is_part() { &mut now.parts } else { &mut now.live };
                if let Some((_, counts)) = runs.iter_mut().find(|(run, _)| run.id() == entry.run.id()) {
                    counts.iter_mut().zip(&entry.counts).for_each(|(sum, counts)| sum.add(counts));
                }
            }
            now.running.extend(shard.running.iter().cloned());
            now.workers.extend(shard.workers.iter().cloned());
            now.num_forgotten += shard.num_forgotten;
        }
        unread.sort_unstable_by_key(|record| record.ended_ns);
        store.push_tasks(unread);
        now.running.sort_unstable_by_key(|running| running.started_ns);
        now.workers.sort_by_key(|worker| (!worker.id.is_here(), worker.first_ns, worker.id.thread()));
        body(&store, now)
    }

    /// Samples the use of processors and memory, unless that was done a moment ago.
    pub(super) fn sample_resources(&self) {
        let mut pids: Vec<u32> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let processes = shard.workers.iter().filter(|worker| !worker.id.is_here() && worker.lost.is_none());
            pids.extend(processes.map(|worker| worker.id.pid()));
        }
        pids.sort_unstable();
        pids.dedup();
        self.resources.sample(self.now_ns(), &pids);
    }

    /// The values that runs and futures hold. Updates the peak.
    pub(super) fn values(&self, store: &Store) -> HeldValues {
        // Futures first: a value that moves from its run to its future meanwhile is then counted
        // once.
        let held = store.clusters.iter().map(|run| run.cluster.num_held());
        let (num_of_futures, bytes_of_futures) = held.fold((0, 0), |(n, bytes), of| (n + of.0, bytes + of.1));
        let (bytes, peak_bytes) = self.value_bytes.read();
        let together = peak_bytes.max(bytes + bytes_of_futures as u64);
        let peak_bytes = together.max(self.peak_bytes.fetch_max(together, Relaxed));
        HeldValues { bytes, peak_bytes, num_of_futures, bytes_of_futures }
    }

    /// Updates the peak of the bytes of values.
    pub(super) fn sample_values(&self) {
        self.values(&self.store.lock());
    }

    pub(super) fn has_live_runs(&self) -> bool {
        !self.live.read().is_empty()
    }

    /// The live runs, the newest first.
    pub(super) fn live_runs(&self) -> Vec<Arc<TrackedRun>> {
        self.live.read().iter().rev().filter(|run| !run.is_part()).cloned().collect()
    }

    fn live_run(&self, id: u64) -> Option<Arc<TrackedRun>> {
        self.live.read().iter().find(|run| run.id().get() == id && !run.is_part()).cloned()
    }

    /// A run that is live or has a report, and when it ended, if it did.
    pub(super) fn run(&self, id: u64) -> Option<(Arc<TrackedRun>, Option<u64>)> {
        // A run that ends meanwhile is in the store before it leaves the live runs.
        if let Some(run) = self.live_run(id) {
            return Some((run, None));
        }
        let store = self.store.lock();
        let report = store.reports.iter().find(|report| report.run.id().get() == id)?;
        Some((Arc::clone(&report.run), Some(report.ended_ns)))
    }

    /// Whether this is the id of a cluster's run.
    pub(super) fn is_cluster(&self, id: u64) -> bool {
        self.store.lock().clusters.iter().any(|run| run.label.id.get() == id)
    }
}

// ---- the events of tasks ----

impl Collector {
    fn attempt_started(&self, task: TaskInfo<'_>, worker: WorkerId, started: Instant, attempt: u32) {
        let started_ns = self.ns(started);
        let mut shard = self.shard(worker);
        let Some(entry) = shard.run(task.run(), || self.find(task.run())) else { return };
        // The value of another future is not a task of the cluster's run.
        if entry.run.is_part() && task.is_value() {
            return;
        }
        let group = entry.run.group_of_task[task.id()] as usize;
        entry.counts[group].running += 1;
        entry.run.set_stage(task.id(), Stage::Running);
        let (group, (run, id)) = (entry.run.groups[group].0, entry.run.shown(task.id() as u32));
        shard.worker(worker, started_ns).counts.running += 1;
        if shard.running.len() < MAX_RUNNING {
            let (name, task) = (name_of(task), id);
            shard.running.push_back(RunningTask { name, run, started_ns, worker, task, attempt, group });
        }
    }

    fn attempt_ended(&self, task: TaskInfo<'_>, end: &AttemptEnd<'_>, attempt: u32, outcome: Outcome) {
        let &AttemptEnd { worker, span, crossing, value, error } = end;
        let (started_ns, ended_ns) = (self.ns(span.0), self.ns(span.1));
        let busy_ns = ended_ns.saturating_sub(started_ns);
        let mut shard = self.shard(worker);
        let Some(entry) = shard.run(task.run(), || self.find(task.run())) else { return };
        if entry.run.is_part() && task.is_value() {
            return;
        }
        let group = entry.run.group_of_task[task.id()] as usize;
        entry.counts[group].end(outcome, busy_ns);
        let stage = match outcome {
            Outcome::Finished => Stage::Finished,
            Outcome::Failed => Stage::Failed,
            Outcome::Retried => Stage::Waiting,
            Outcome::Cancelled => Stage::Cancelled,
        };
        entry.run.set_stage(task.id(), stage);
        if (entry.run.graph.is_some() || entry.run.is_part()) && !task.is_value() {
            let record = Record::new(task, worker, started_ns, span, crossing, (outcome, attempt.max(1), value));
            entry.sample.add(record, &entry.run.sampling);
        }
        if let Some(error) = error {
            let mut failures = entry.run.failures.lock();
            if failures.len() < MAX_FAILURES {
                let (at, was_retried) = (Duration::from_nanos(ended_ns), outcome == Outcome::Retried);
                failures.push(Failure { run: task.run(), id: task.id(), at, was_retried, error: error.clone() });
            }
        }
        let (group, (run, id)) = (entry.run.groups[group].0, entry.run.shown(task.id() as u32));
        let record = shard.worker(worker, ended_ns);
        record.counts.end(outcome, busy_ns);
        if let Some(error) = error {
            record.error = Some(format!("{}: {}", cut(&task.name()), cut(error.message())).into());
        }
        // The tasks of a batch of a worker process end in the order in which they were sent.
        let position = shard.running.iter().position(|running| running.task == id && running.run == run);
        let (name, attempt) = match position.and_then(|index| shard.running.remove(index)) {
            Some(running) => (running.name, running.attempt),
            None => (name_of(task), attempt),
        };
        let attempt = RunningTask { name, run, task: id, worker, started_ns, attempt, group };
        shard.push(TaskRecord { attempt, ended_ns, outcome });
    }

    /// Logs an attempt that failed or whose worker was lost.
    fn log_failure(&self, kind: &'static str, task: TaskInfo<'_>, at: Instant, error: Option<&Error>) {
        let message = error.map_or("its worker was lost", |error| error.message());
        let text = format!("{}: {message}", cut(&task.name()));
        let (at_ns, run) = (self.ns(at), self.shown(task.run()));
        self.store.lock().log(at_ns, kind, Some(run), &text);
    }

    // ---- the events of runs ----

    fn track(&self, event: &RunStarted<'_>) -> TrackedRun {
        let (run, started_ns) = (event.run, self.ns(event.started));
        let cluster = run.cluster().filter(|_| !is_own_graph(run));
        let graph = match cluster {
            Some(_) => Graph::of_many(run.plan()),
            None => Graph::without_arguments(run.plan()),
        };
        let label = RunLabel {
            id: run.id(),
            parent: run.parent().map(|parent| self.shown(parent)),
            title: title_of(&graph).into(),
            scheduler: cut(event.scheduler).into(),
            num_tasks: run.num_tasks(),
            started_ns,
        };
        let is_counted = |id: usize| cluster.is_none() || !run.task(id).is_value();
        let mut store = self.store.lock();
        let part = cluster.map(|cluster| {
            let num_calls = (0..run.num_tasks()).filter(|&id| is_counted(id)).count();
            store.cluster(cluster, event.scheduler, started_ns).start(run, &graph, num_calls, started_ns)
        });
        let names: Vec<u16> =
            (0..graph.num_families() as u32).map(|family| store.intern(graph.family_name(family))).collect();
        drop(store);
        // Families whose names have the same id are one group.
        let mut groups: Vec<(u16, u64)> = Vec::new();
        let mut group_of_name: HashMap<u16, u16> = HashMap::new();
        let mut group_of = |&name: &u16| {
            *group_of_name.entry(name).or_insert_with(|| {
                groups.push((name, 0));
                (groups.len() - 1) as u16
            })
        };
        let group_of_family: Vec<u16> = names.iter().map(&mut group_of).collect();
        let group_of_task: Vec<u16> =
            (0..graph.num_tasks() as u32).map(|id| group_of_family[graph.family(id) as usize]).collect();
        for (id, &group) in group_of_task.iter().enumerate() {
            groups[group as usize].1 += u64::from(is_counted(id));
        }
        TrackedRun::new(run, label, graph, event.handle.clone(), part, (group_of_task, groups))
    }

    fn end_run(&self, event: &RunFinished<'_>) {
        let id = event.run.id();
        let mut store = self.store.lock();
        let run = {
            let mut live = self.live.write();
            let Some(position) = live.iter().position(|run| run.id() == id) else { return };
            live.remove(position)
        };
        let mut shards = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let Some(position) = shard.runs.iter().position(|entry| entry.run.id() == id) else { continue };
            let entry = shard.runs.swap_remove(position);
            drop(shard);
            for (&(name, _), counts) in run.groups.iter().zip(&entry.counts) {
                store.totals[name as usize].add(counts);
            }
            shards.push((entry.sample, entry.counts));
        }
        let ended_ns = self.ns(event.ended);
        if let Some(part) = run.part {
            let cluster = store.clusters.iter_mut().find(|cluster| cluster.label.id == part.run);
            return cluster
                .into_iter()
                .for_each(|cluster| cluster.end(&run, part, std::mem::take(&mut shards), ended_ns));
        }
        let outcome = match &event.error {
            None => RunOutcome::Finished,
            Some(error) if error.kind() == ErrorKind::Cancelled => RunOutcome::Cancelled,
            Some(_) => RunOutcome::Failed,
        };
        let error = event.error.as_ref().map(|error| Arc::from(cut(&error.to_string())));
        let counts = Counts::sum(shards.iter().flat_map(|(_, counts)| counts));
        store.push_run(RunRecord { label: run.label.clone(), ended_ns, outcome, error, counts });
        if run.graph.is_some() {
            let samples = shards.into_iter().map(|(sample, _)| sample).collect();
            store.push_report(ReportData { run, samples, ended_ns, error: event.error.clone() });
        }
    }
}

impl Callback for Collector {
    fn interests(&self) -> Interests {
        Interests::new().releases()
    }

    fn on_value_released(&self, event: &ValueReleased<'_>) {
        self.value_bytes.released(event.size.bytes);
    }

    fn on_run_started(&self, event: &RunStarted<'_>) {
        if event.run.starts_worker() {
            return;
        }
        let run = Arc::new(self.track(event));
        if run.is_part() {
            return self.live.write().push(run);
        }
        let RunLabel { title, num_tasks, scheduler, started_ns, .. } = &run.label;
        let text = format!("{title}: {num_tasks} tasks on {scheduler}");
        let mut store = self.store.lock();
        store.log(*started_ns, "run started", Some(run.id()), &text);
        self.live.write().push(run);
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        self.attempt_started(event.task, event.worker, event.started, event.attempt);
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        let &TaskFinished { worker, started, ended, crossing, .. } = event;
        let value = event.value();
        if let Some(size) = value {
            self.value_bytes.stored(size.bytes);
        }
        let end = AttemptEnd { worker, span: (started, ended), crossing, value, error: None };
        self.attempt_ended(event.task, &end, event.attempt, Outcome::Finished);
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        let &TaskFailed { worker, started, ended, crossing, .. } = event;
        let end = AttemptEnd { worker, span: (started, ended), crossing, value: None, error: Some(&event.error) };
        self.attempt_ended(event.task, &end, event.attempt, Outcome::Failed);
        self.log_failure("task failed", event.task, ended, Some(&event.error));
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        let &TaskRetried { worker, started, ended, crossing, .. } = event;
        let end = AttemptEnd { worker, span: (started, ended), crossing, value: None, error: event.error.as_ref() };
        self.attempt_ended(event.task, &end, event.attempt, Outcome::Retried);
        self.log_failure("task retried", event.task, ended, event.error.as_ref());
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        let &TaskCancelled { worker, started, ended, .. } = event;
        let end = AttemptEnd { worker, span: (started, ended), crossing: None, value: None, error: None };
        self.attempt_ended(event.task, &end, 0, Outcome::Cancelled);
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        let run = event.task.run();
        let mut shard = self.shard(WorkerId::here());
        if let Some(entry) = shard.run(run, || self.find(run)) {
            let group = entry.run.group_of_task[event.task.id()] as usize;
            entry.counts[group].skipped += 1;
            entry.run.num_skipped.fetch_add(1, Relaxed);
            entry.run.set_stage(event.task.id(), Stage::Skipped);
        }
    }

    fn on_worker_started(&self, event: &WorkerStarted<'_>) {
        let now_ns = self.now_ns();
        {
            let mut shard = self.shard(event.worker);
            let worker = shard.worker(event.worker, now_ns);
            worker.lost = None;
            (worker.restarts, worker.memory_limit) = (event.restarts, event.memory_limit);
            worker.handle = Some(event.handle.clone());
        }
        let run = (!event.run.starts_worker()).then(|| self.shown(event.run.id()));
        self.store.lock().log(now_ns, "worker started", run, &event.worker.to_string());
    }

    fn on_worker_lost(&self, event: &WorkerLost<'_>) {
        let (now_ns, message) = (self.now_ns(), cut(event.error.message()));
        {
            let mut shard = self.shard(event.worker);
            let worker = shard.worker(event.worker, now_ns);
            worker.lost = Some(message.into());
            worker.handle = None;
            let output = event.error.exit().map(|exit| exit.stderr_tail.trim_end());
            worker.output = output.filter(|output| !output.is_empty()).map(|output| end_of(output).into());
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
        self.end_run(event);
    }
}

/// The name that a task was given. A long one is cut, so that the records stay small.
fn name_of(task: TaskInfo<'_>) -> Option<Arc<str>> {
    let given = task.given_name()?;
    Some(if given.len() > MAX_TEXT { cut(given).into() } else { Arc::clone(given) })
}
