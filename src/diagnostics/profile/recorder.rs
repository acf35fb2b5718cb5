//! The callback that records tasks.
//!
//! # Cost
//!
//! A record goes into the shard of its worker, under a lock that is hardly ever contended. Names
//! and the shape of the graph are copied from the plan once, when the run begins.
//!
//! # Futures
//!
//! The futures of a cluster are one logical run, and records have its ids. Its graph grows with
//! each small run. Small runs may begin in any order, and some may not be observed, so the graph's
//! ids differ from those of the logical run. They are translated when the profile is taken.

use super::data::{Failure, Outcome, Profile, RunProfile};
use super::record::{self, COUNTED_AT_ONCE, Record, RecordBuffer, Sampling};
#[cfg(feature = "dashboard")]
use super::resources::ResourceSample;
use super::resources::Sampler;
use crate::diagnostics::picture::{Graph, Growing};
use crate::engine::callback::{
    Callback, Crossing, Interests, RunFinished, RunId, RunStarted, TaskCancelled, TaskFailed, TaskFinished, TaskInfo,
    TaskRetried, TaskSkipped, ValueSize, WorkerId,
};
use crate::error::Error;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const NUM_SHARDS: usize = 32;
/// Later failures are dropped.
const MAX_FAILURES: usize = 10_000;
/// The graphs of all runs together have at most this many tasks; further runs are left out.
const MAX_TASKS: usize = 1 << 24;

/// Records runs for a [`Profile`].
///
/// # Examples
/// ```
/// use sprang::{Profiler, callback, delayed};
/// use std::sync::Arc;
///
/// let profiler = Arc::new(Profiler::new());
/// let _registration = callback::register(profiler.clone()); // all runs of the process
/// let one = delayed(|| 1, ()).name("one");
/// std::thread::spawn(move || one.compute().unwrap()).join().unwrap();
/// let profile = profiler.profile();
/// assert_eq!(&*profile.tasks().next().unwrap().name, "one");
/// ```
pub struct Profiler {
    sampling: Sampling,
    shards: Box<[CachePadded<Mutex<RecordBuffer>>]>,
    origin: OnceLock<Instant>,
    recorded: Mutex<RecordedRuns>,
    measures: bool,
    sampler: Option<Arc<Sampler>>,
}

/// The graph of all futures of a cluster.
#[derive(Default)]
struct ClusterGraph {
    graph: Growing,
    /// Sorted by `first`.
    segments: Vec<Segment>,
}

/// Consecutive tasks of a logical run.
#[derive(Clone, Copy)]
struct Segment {
    /// The logical id of the first task. Ids wrap around after 4 billion tasks; the graph keeps
    /// fewer.
    first: u32,
    len: u32,
    /// The id of the first task in the graph.
    in_graph: u32,
}

impl ClusterGraph {
    fn add(&mut self, first: u32, graph: &Graph) {
        let (in_graph, len) = (self.graph.add(graph), graph.num_tasks() as u32);
        match self.segments.last_mut() {
            Some(last) if (last.first.wrapping_add(last.len), last.in_graph + last.len) == (first, in_graph) => {
                last.len += len;
            }
            _ => {
                let index = self.segments.partition_point(|it| it.first < first);
                self.segments.insert(index, Segment { first, len, in_graph });
            }
        }
    }
}

/// The id in the graph of a task with this logical id. `None` for tasks that start workers, and for
/// tasks of runs that are left out.
fn id_in_graph(segments: &[Segment], id: u32) -> Option<u32> {
    let segment = segments[..segments.partition_point(|it| it.first <= id)].last()?;
    (id - segment.first < segment.len).then(|| segment.in_graph + (id - segment.first))
}

#[derive(Default)]
struct RecordedRuns {
    runs: Vec<RunProfile>,
    clusters: HashMap<RunId, ClusterGraph>,
    by_id: HashMap<RunId, usize>,
    failures: Vec<Failure>,
    num_tasks: usize,
    num_runs_left_out: usize,
}

impl fmt::Debug for Profiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profiler").field("max_records", &self.sampling.max_records).finish_non_exhaustive()
    }
}

impl Default for Profiler {
    fn default() -> Self {
        Profiler::new()
    }
}

impl Profiler {
    /// A profiler that keeps a million records, and samples processors and memory every 50 ms.
    pub fn new() -> Self {
        Profiler {
            sampling: Sampling::new(1_000_000),
            shards: (0..NUM_SHARDS).map(|_| CachePadded::default()).collect(),
            origin: OnceLock::new(),
            recorded: Mutex::default(),
            measures: false,
            sampler: Some(Arc::new(Sampler::new(Duration::from_millis(50)))),
        }
    }

    /// Keeps about `max_records` records at most, of 64 bytes each. With more calls, the profile is
    /// an even sample.
    #[must_use]
    pub fn max_records(mut self, max_records: usize) -> Self {
        self.sampling.max_records = max_records.max(COUNTED_AT_ONCE);
        self
    }

    /// Sets the interval at which the use of processors and memory is sampled; the minimum is 1 ms.
    /// With `None`, no samples are taken.
    #[must_use]
    pub fn resources_every(mut self, interval: Option<Duration>) -> Self {
        self.sampler = interval.map(|interval| Arc::new(Sampler::new(interval)));
        self
    }

    /// Whether to [measure](crate::callback::Interests::measured_values) each portable value by the
    /// length of its encoding. Otherwise, unless a value has come from another process, its size is
    /// known if its type can [tell](crate::callback::OwnedBytes); of any other type only the size
    /// of the type counts, and the report says so.
    ///
    /// Measuring walks through every value. Call this before the profiler is attached.
    #[must_use]
    pub fn measure_values(mut self, measure: bool) -> Self {
        self.measures = measure;
        self
    }

    /// The profile of everything recorded so far.
    pub fn profile(&self) -> Profile {
        let mut records = Vec::new();
        let mut num_seen = 0;
        let is_sample = self.sampling.level.load(Relaxed) > 0;
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.thin_out(self.sampling.level.load(Relaxed));
            num_seen += shard.num_left_out + shard.records.len() as u64;
            records.extend_from_slice(&shard.records);
        }
        let recorded = self.recorded.lock();
        let (mut runs, failures) = (recorded.runs.clone(), recorded.failures.clone());
        let num_runs_left_out = recorded.num_runs_left_out;
        let by_id = recorded.by_id.clone();
        let mut segments: HashMap<u64, Vec<Segment>> = HashMap::new();
        for (run, cluster) in &recorded.clusters {
            segments.insert(run.get(), cluster.segments.clone());
            if let Some(&index) = by_id.get(run) {
                runs[index].graph = Arc::clone(cluster.graph.graph());
            }
        }
        drop(recorded);
        for mut record in records {
            let id = match segments.get(&record.run) {
                Some(segments) => id_in_graph(segments, record.id),
                None => Some(record.id),
            };
            match id.zip(by_id.get(&RunId::of_number(record.run))) {
                Some((id, &index)) => {
                    record.id = id;
                    runs[index].records.push(record);
                }
                // A call that started a worker, or of a run that is left out or began just now.
                None => num_seen -= 1,
            }
        }
        for run in &mut runs {
            run.is_sample = is_sample;
            record::sort(&mut run.records);
        }
        let samples = self.sampler.as_ref().map_or_else(Vec::new, |sampler| sampler.samples());
        Profile { runs, failures, samples, num_seen, num_runs_left_out }
    }

    fn since_origin(&self, instant: Instant) -> u64 {
        let origin = self.origin.get_or_init(|| instant);
        instant.saturating_duration_since(*origin).as_nanos() as u64
    }

    #[inline]
    fn add(
        &self,
        task: TaskInfo<'_>,
        worker: WorkerId,
        (started, ended): (Instant, Instant),
        crossing: Option<Crossing>,
        (outcome, attempt, value): (Outcome, u32, Option<ValueSize>),
    ) {
        if task.is_value() {
            return;
        }
        let how = (outcome, attempt, value);
        let record = Record::new(task, worker, self.since_origin(started), (started, ended), crossing, how);
        let record = Record { run: task.logical_run().get(), id: task.logical_id() as u32, ..record };
        let index = if worker.is_here() { worker.thread() } else { worker.pid() } as usize % NUM_SHARDS;
        self.shards[index].lock().add(record, &self.sampling);
    }

    fn fail(&self, task: TaskInfo<'_>, at: Instant, was_retried: bool, error: Error) {
        let at = Duration::from_nanos(self.since_origin(at));
        let mut recorded = self.recorded.lock();
        let (run, id) = (task.logical_run(), task.logical_id() as u32);
        let id = match recorded.clusters.get(&run) {
            Some(cluster) => id_in_graph(&cluster.segments, id),
            None => Some(id),
        };
        let Some(id) = id.map(|id| id as usize) else { return };
        if recorded.failures.len() < MAX_FAILURES {
            recorded.failures.push(Failure { run, id, at, was_retried, error });
        }
    }

    fn with_run(&self, run: RunId, body: impl FnOnce(&mut RunProfile)) {
        let mut recorded = self.recorded.lock();
        if let Some(&index) = recorded.by_id.get(&run) {
            body(&mut recorded.runs[index]);
        }
    }
}

/// A run that another observer has recorded. Times are counted from that observer's origin.
#[cfg(feature = "dashboard")]
pub(in crate::diagnostics) struct RecordedRun {
    pub(in crate::diagnostics) id: RunId,
    pub(in crate::diagnostics) parent: Option<RunId>,
    pub(in crate::diagnostics) scheduler: String,
    pub(in crate::diagnostics) started: Duration,
    pub(in crate::diagnostics) ended: Option<Duration>,
    pub(in crate::diagnostics) error: Option<Error>,
    pub(in crate::diagnostics) num_skipped: u64,
    pub(in crate::diagnostics) graph: Arc<Graph>,
    pub(in crate::diagnostics) samples: Vec<RecordBuffer>,
    pub(in crate::diagnostics) failures: Vec<Failure>,
    pub(in crate::diagnostics) resources: Vec<ResourceSample>,
}

#[cfg(feature = "dashboard")]
impl RecordedRun {
    /// The profile of this run alone, with times counted from its start.
    pub(in crate::diagnostics) fn profile(self) -> Profile {
        let RecordedRun { id, parent, scheduler, started, ended, error, num_skipped, graph, .. } = self;
        let level = self.samples.iter().map(|sample| sample.level).max().unwrap_or(0);
        let origin_ns = started.as_nanos() as u64;
        let (mut records, mut num_seen) = (Vec::new(), 0);
        for mut sample in self.samples {
            sample.thin_out(level);
            num_seen += sample.num_left_out + sample.records.len() as u64;
            records.append(&mut sample.records);
        }
        records.iter_mut().for_each(|record| record.started_ns = record.started_ns.saturating_sub(origin_ns));
        record::sort(&mut records);
        let shifted = |at: Duration| at.saturating_sub(started);
        let failures = self.failures.into_iter().map(|failure| Failure { at: shifted(failure.at), ..failure });
        let resources = self.resources.into_iter().map(|sample| ResourceSample { at: shifted(sample.at), ..sample });
        let (started, ended) = (Duration::ZERO, ended.map(shifted));
        let is_sample = level > 0;
        let run = RunProfile { id, parent, scheduler, started, ended, error, num_skipped, graph, is_sample, records };
        let (failures, samples) = (failures.collect(), resources.collect());
        Profile { runs: vec![run], failures, samples, num_seen, num_runs_left_out: 0 }
    }
}

impl Callback for Profiler {
    fn interests(&self) -> Interests {
        if self.measures { Interests::new().measured_sizes() } else { Interests::new().sizes() }
    }

    fn on_run_started(&self, event: &RunStarted<'_>) {
        let (run, id, len) = (event.run, event.run.logical_run(), event.run.num_tasks());
        if run.starts_worker() {
            // Calls of a known cluster that are not in its graph are dropped.
            self.recorded.lock().clusters.entry(id).or_default();
            return;
        }
        let started = Duration::from_nanos(self.since_origin(event.started));
        if let Some(sampler) = &self.sampler {
            sampler.begin(*self.origin.get_or_init(|| event.started));
        }
        // The plan is copied outside the lock.
        let graph = match run.cluster() {
            Some(_) => Graph::of_many(run.plan()),
            None => Graph::without_arguments(run.plan()),
        };
        let mut recorded = self.recorded.lock();
        if recorded.num_tasks + len > MAX_TASKS && !recorded.runs.is_empty() {
            recorded.num_runs_left_out += 1;
            return;
        }
        recorded.num_tasks += len;
        let graph = match run.cluster() {
            Some(_) => {
                recorded.clusters.entry(id).or_default().add(run.first_task() as u32, &graph);
                Arc::default()
            }
            None => Arc::new(graph),
        };
        if !recorded.by_id.contains_key(&id) {
            let index = recorded.runs.len();
            recorded.by_id.insert(id, index);
            recorded.runs.push(RunProfile {
                id,
                parent: run.logical_parent(),
                scheduler: event.scheduler.to_owned(),
                started,
                ended: None,
                error: None,
                num_skipped: 0,
                graph,
                is_sample: false,
                records: Vec::new(),
            });
        }
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        let how = (Outcome::Finished, event.attempt, event.value());
        self.add(event.task, event.worker, (event.started, event.ended), event.crossing, how);
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        let how = (Outcome::Failed, event.attempt, None);
        self.add(event.task, event.worker, (event.started, event.ended), event.crossing, how);
        self.fail(event.task, event.ended, false, event.error.clone());
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        let how = (Outcome::Retried, event.attempt, None);
        self.add(event.task, event.worker, (event.started, event.ended), event.crossing, how);
        if let Some(error) = &event.error {
            self.fail(event.task, event.ended, true, error.clone());
        }
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        self.add(event.task, event.worker, (event.started, event.ended), None, (Outcome::Cancelled, 1, None));
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        self.with_run(event.task.logical_run(), |run| run.num_skipped += 1);
    }

    fn on_run_finished(&self, event: &RunFinished<'_>) {
        if event.run.starts_worker() {
            return;
        }
        let ended = Duration::from_nanos(self.since_origin(event.ended));
        self.with_run(event.run.logical_run(), |run| {
            // The small runs of a cluster do not report in the order in which they end.
            run.ended = run.ended.max(Some(ended));
            run.error = event.error.clone().filter(|_| event.run.cluster().is_none());
        });
        if let Some(sampler) = &self.sampler {
            sampler.end();
        }
    }
}
