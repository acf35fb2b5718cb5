//! A profile, its runs, and the records of their tasks.

use super::encode;
use super::record::Record;
use super::resources::ResourceSample;
use crate::diagnostics::picture::{Graph, TaskKind};
use crate::diagnostics::units;
use crate::engine::callback::{RunId, ValueSize, WorkerId};
use crate::error::{Error, ErrorKind, Result};
use crate::sorted::sort_items;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How one attempt of a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The attempt returned a value.
    Finished,
    /// The attempt failed, and the task was not retried.
    Failed,
    /// The attempt failed or its worker was lost, and the task was retried.
    Retried,
    /// The run ended before the attempt did.
    Cancelled,
}

impl Outcome {
    pub(in crate::diagnostics) fn word(self) -> &'static str {
        match self {
            Outcome::Finished => "finished",
            Outcome::Failed => "failed",
            Outcome::Retried => "retried",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// The measurements of a [`Profiler`](super::Profiler). Times are counted from the start of its
/// first run.
#[derive(Clone)]
pub struct Profile {
    pub(super) runs: Vec<RunProfile>,
    pub(super) failures: Vec<Failure>,
    pub(super) samples: Vec<ResourceSample>,
    pub(super) num_seen: u64,
    pub(super) num_runs_left_out: usize,
}

/// One run of a profile.
#[derive(Clone)]
pub struct RunProfile {
    pub(super) id: RunId,
    pub(super) parent: Option<RunId>,
    pub(super) scheduler: String,
    pub(super) started: Duration,
    pub(super) ended: Option<Duration>,
    pub(super) error: Option<Error>,
    pub(super) num_skipped: u64,
    pub(super) graph: Arc<Graph>,
    /// Whether some calls are left out.
    pub(super) is_sample: bool,
    /// Sorted by start.
    pub(super) records: Vec<Record>,
}

/// A failed attempt of a task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The run.
    pub run: RunId,
    /// The task's number in the run.
    pub id: usize,
    /// When the attempt failed.
    pub at: Duration,
    /// Whether the task was retried.
    pub was_retried: bool,
    /// The error of the attempt.
    pub error: Error,
}

/// One attempt of a task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskRecord {
    /// The run.
    pub run: RunId,
    /// The task's number in the run.
    pub id: usize,
    /// The task's name.
    pub name: Arc<str>,
    /// The worker that ran the task.
    pub worker: WorkerId,
    /// When the task became ready: the end of the last of its inputs, or the start of the run.
    /// `None` for later attempts, and if an input is not recorded.
    pub ready: Option<Duration>,
    /// When the call began.
    pub started: Duration,
    /// When the call ended.
    pub ended: Duration,
    /// For a task in another process: the time from sending the task to the start of the call. It
    /// includes the wait for tasks that were sent before.
    pub queued: Option<Duration>,
    /// For a task in another process: the time from the end of the call to the arrival of its
    /// result. It includes the wait for results that came in the same message.
    pub returned: Option<Duration>,
    /// For a task in another process: the bytes of arguments and values that were sent for it, and
    /// the bytes of its value that came back.
    pub transferred: Option<(u64, u64)>,
    /// The size of the task's value, if it is known; see
    /// [`Profiler::measure_values`](super::Profiler::measure_values).
    pub value: Option<ValueSize>,
    /// How the attempt ended.
    pub outcome: Outcome,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

impl TaskRecord {
    /// The duration of the call.
    pub fn duration(&self) -> Duration {
        self.ended.saturating_sub(self.started)
    }
}

/// The durations of the tasks of one name. See [`Profile::by_name`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct NameStats {
    /// The name, with `#` in place of each number.
    #[serde(serialize_with = "encode::write_name")]
    pub name: Arc<str>,
    /// The number of calls. This and `total` are estimates if the profile is a sample.
    pub count: u64,
    /// The number of these calls that returned no value.
    pub num_failed: u64,
    /// The sum of all durations.
    #[serde(rename = "total_s", serialize_with = "encode::write_time")]
    pub total: Duration,
    /// The mean duration.
    #[serde(rename = "mean_s", serialize_with = "encode::write_time")]
    pub mean: Duration,
    /// The median duration: half of the calls took no longer.
    #[serde(rename = "p50_s", serialize_with = "encode::write_time")]
    pub p50: Duration,
    /// The 99th percentile: 99 of 100 calls took no longer.
    #[serde(rename = "p99_s", serialize_with = "encode::write_time")]
    pub p99: Duration,
    /// The longest duration.
    #[serde(rename = "max_s", serialize_with = "encode::write_time")]
    pub max: Duration,
}

/// A task on the critical path.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PathTask {
    /// The task's number in the run.
    #[serde(rename = "task")]
    pub id: usize,
    /// The task's name.
    #[serde(serialize_with = "encode::write_name")]
    pub name: Arc<str>,
    /// The sum of its calls; the mean of its name if the task is not in the sample.
    #[serde(rename = "duration_s", serialize_with = "encode::write_time")]
    pub duration: Duration,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("runs", &self.runs)
            .field("num_tasks", &self.num_tasks())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RunProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunProfile")
            .field("id", &self.id)
            .field("title", &self.title())
            .field("num_tasks", &self.num_tasks())
            .finish_non_exhaustive()
    }
}

impl Profile {
    /// The runs, in the order in which they were started.
    pub fn runs(&self) -> &[RunProfile] {
        &self.runs
    }

    /// The number of calls of tasks, recorded or not. Plain values in a graph are not counted, and
    /// neither are calls in runs that are [left out](Profile::num_runs_left_out).
    pub fn num_tasks(&self) -> u64 {
        self.num_seen
    }

    /// The mean number of calls for each recorded call: 1 if all are recorded, more for a sample.
    pub fn sampling(&self) -> f64 {
        if self.num_records() == 0 { 1.0 } else { (self.num_seen as f64 / self.num_records() as f64).max(1.0) }
    }

    /// The number of runs that are left out because earlier runs had too many tasks.
    pub fn num_runs_left_out(&self) -> usize {
        self.num_runs_left_out
    }

    /// The recorded calls, run by run, in the order in which they began.
    pub fn tasks(&self) -> impl Iterator<Item = TaskRecord> {
        self.runs.iter().flat_map(RunProfile::tasks)
    }

    /// The first ten thousand failed attempts, in the order in which they were reported. Attempts
    /// that were retried are among them.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// The use of processors and memory over time. Empty on systems that do not report it.
    pub fn resources(&self) -> &[ResourceSample] {
        &self.samples
    }

    /// The time from the start of the first run to the end of the last.
    pub fn duration(&self) -> Duration {
        let of_records = self.records().map(Record::ended).max();
        self.runs.iter().filter_map(|run| run.ended).chain(of_records).max().unwrap_or_default()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.runs.iter().flat_map(|run| &run.records)
    }

    pub(super) fn num_records(&self) -> usize {
        self.runs.iter().map(|run| run.records.len()).sum()
    }

    /// The durations of tasks by name, the name with the largest total first.
    ///
    /// A row covers all tasks that call the same function or, where names are given, all tasks
    /// whose names differ in numbers only.
    pub fn by_name(&self) -> Vec<NameStats> {
        let mut by_name: HashMap<&str, (Arc<str>, Vec<u64>, u64)> = HashMap::new();
        for run in &self.runs {
            let graph = &run.graph;
            for record in &run.records {
                let name = graph.family_name(graph.family(record.id));
                let (_, times, num_failed) = by_name.entry(name).or_insert_with(|| (Arc::clone(name), Vec::new(), 0));
                times.push(record.ran_ns);
                *num_failed += u64::from(record.outcome != Outcome::Finished);
            }
        }
        let scale = self.sampling();
        let mut rows: Vec<NameStats> = by_name
            .into_values()
            .map(|(name, mut times, num_failed)| {
                times.sort_unstable();
                let total_ns: u64 = times.iter().sum();
                let at = |part: f64| {
                    let rank = (times.len() as f64 * part).ceil() as usize;
                    Duration::from_nanos(times[rank.clamp(1, times.len()) - 1])
                };
                NameStats {
                    name,
                    count: (times.len() as f64 * scale).round() as u64,
                    num_failed: (num_failed as f64 * scale).round() as u64,
                    total: Duration::from_nanos((total_ns as f64 * scale) as u64),
                    mean: Duration::from_nanos(total_ns / times.len() as u64),
                    p50: at(0.5),
                    p99: at(0.99),
                    max: at(1.0),
                }
            })
            .collect();
        sort_items(&mut rows, |a, b| b.total.cmp(&a.total).then_with(|| a.name.cmp(&b.name)));
        rows
    }

    /// The mean number of tasks that ran at once, in each of `num_parts` equal parts of the time. A
    /// task that waits for a nested run counts as running.
    ///
    /// # Examples
    /// ```
    /// let (_, profile) = sprang::profile(|| sprang::delayed(|| 1, ()).compute_with("sync"));
    /// let parallelism = profile.parallelism(10);
    /// assert_eq!(parallelism.len(), 10);
    /// assert!(parallelism.iter().all(|&at_once| (0.0..=1.0 + 1e-9).contains(&at_once)));
    /// ```
    pub fn parallelism(&self, num_parts: usize) -> Vec<f64> {
        let spans = self.records().map(|record| (record.started_ns, record.started_ns + record.ran_ns));
        let mut parts = busy(spans, self.duration().as_nanos() as u64, num_parts);
        let scale = self.sampling();
        parts.iter_mut().for_each(|part| *part *= scale);
        parts
    }

    /// Writes the profile to a file. The ending sets the format: `.html`, `.csv`, `.profile.json`
    /// for [`to_json`](Profile::to_json), or any other `.json` for a trace that Perfetto and Chrome
    /// open.
    ///
    /// # Errors
    /// [`NotSaved`](ErrorKind::NotSaved) for another ending, and if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let content = match name.rsplit_once('.') {
            Some((_, "html" | "htm")) => self.to_html(),
            Some((_, "csv")) => self.to_csv(),
            Some((before, "json")) if before.ends_with(".profile") => self.to_json(),
            Some((_, "json")) => self.to_chrome_trace(),
            _ => {
                let message = format!("cannot save a profile as {}: give one of .html, .csv and .json", path.display());
                return Err(Error::new(ErrorKind::NotSaved, message));
            }
        };
        crate::diagnostics::save("a profile", path, &content)
    }
}

/// The mean number of spans at once in each part of `0..end`.
fn busy(spans: impl Iterator<Item = (u64, u64)>, end: u64, num_parts: usize) -> Vec<f64> {
    let mut parts = vec![0.0; num_parts];
    if end == 0 || num_parts == 0 {
        return parts;
    }
    // `parts` gets the beginnings and ends of spans; `whole` gets the parts that a span covers, as
    // differences that are summed up at the end.
    let mut whole = vec![0_i64; num_parts + 1];
    let width = end as f64 / num_parts as f64;
    for (from, to) in spans {
        let (from, to) = (from.min(end) as f64 / width, to.min(end) as f64 / width);
        let (first, last) = ((from as usize).min(num_parts - 1), (to as usize).min(num_parts - 1));
        if first == last {
            parts[first] += to - from;
        } else {
            parts[first] += (first + 1) as f64 - from;
            parts[last] += to - last as f64;
            whole[first + 1] += 1;
            whole[last] -= 1;
        }
    }
    let mut covering = 0;
    for (part, change) in parts.iter_mut().zip(whole) {
        covering += change;
        *part += covering as f64;
    }
    parts
}

impl fmt::Display for Profile {
    /// The table by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.by_name();
        let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).clamp(4, 40);
        let (num_tasks, time) = (units::count(self.num_tasks()), units::duration(self.duration()));
        writeln!(f, "{num_tasks} tasks in {time}")?;
        if self.sampling() > 1.0 {
            writeln!(f, "counts and totals are estimates: one of {:.0} tasks is recorded", self.sampling())?;
        }
        let head = ["count", "total", "mean", "p50", "p99", "max"];
        write!(f, "{:width$}", "name")?;
        head.iter().try_for_each(|head| write!(f, " {head:>11}"))?;
        writeln!(f)?;
        for row in rows {
            let name: String = row.name.chars().take(width).collect();
            write!(f, "{name:width$} {:>11}", units::count(row.count))?;
            for time in [row.total, row.mean, row.p50, row.p99, row.max] {
                write!(f, " {:>11}", units::duration(time))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl RunProfile {
    /// The number of the run.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// The run that this run is nested in.
    pub fn parent(&self) -> Option<RunId> {
        self.parent
    }

    /// The name of the output, and the number of further outputs.
    pub fn title(&self) -> String {
        self.graph.title()
    }

    /// The scheduler that executed the run.
    pub fn scheduler(&self) -> &str {
        &self.scheduler
    }

    /// When the run began.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// When the run ended; `None` if it was still running when the profile was taken.
    pub fn ended(&self) -> Option<Duration> {
        self.ended
    }

    /// The error of a failed run.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// The number of tasks in the graph.
    pub fn num_tasks(&self) -> usize {
        self.graph.num_tasks()
    }

    /// The number of tasks that were skipped because a task that they need had failed.
    pub fn num_skipped(&self) -> u64 {
        self.num_skipped
    }

    /// The recorded calls of the run, in the order in which they began.
    pub fn tasks(&self) -> impl Iterator<Item = TaskRecord> {
        let ended = self.ended_ns();
        self.records.iter().map(move |record| TaskRecord {
            run: self.id,
            id: record.id as usize,
            name: Arc::clone(self.graph.name(record.id)),
            worker: record.worker,
            ready: self.ready(&ended, record),
            started: Duration::from_nanos(record.started_ns),
            ended: record.ended(),
            queued: record.queued(),
            returned: record.returned(),
            transferred: record.queued().map(|_| (record.sent_bytes, record.returned_bytes())),
            value: record.value(),
            outcome: record.outcome,
            attempt: u32::from(record.attempt),
        })
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        self.ended.map(|ended| ended.saturating_sub(self.started))
    }

    fn ready(&self, ended_ns: &[Option<u64>], record: &Record) -> Option<Duration> {
        let mut ready_ns = self.started.as_nanos() as u64;
        let (read, after) = self.graph.inputs(record.id);
        for &input in read.iter().chain(after).filter(|&&input| self.graph.kind(input) != TaskKind::Value) {
            ready_ns = ready_ns.max(ended_ns[input as usize]?);
        }
        // A worker process may start a task before this process learns that its inputs have ended
        // there. Both processes read the same clock.
        (record.attempt == 1).then(|| Duration::from_nanos(ready_ns.min(record.started_ns)))
    }

    /// The chain of tasks, each needing the one before, that takes the longest. With any number of
    /// workers, the run takes at least this time.
    ///
    /// # Complexity
    /// O(tasks + dependencies).
    pub fn critical_path(&self) -> Vec<PathTask> {
        let times = self.times_ns();
        let path = self.graph.critical_path(Some(&times));
        let task = |&id: &u32| PathTask {
            id: id as usize,
            name: Arc::clone(self.graph.name(id)),
            duration: Duration::from_nanos(times[id as usize] as u64),
        };
        path.iter().map(task).collect()
    }

    /// The tasks of the critical path.
    pub(super) fn critical_ids(&self) -> HashSet<u32> {
        self.graph.critical_path(Some(&self.times_ns())).into_iter().collect()
    }

    /// The sum of the calls of each task. In a sample, a task that is not recorded gets the mean of
    /// its name.
    pub(super) fn times_ns(&self) -> Vec<f64> {
        let mut times = vec![f64::NAN; self.num_tasks()];
        let mut sums = vec![(0.0, 0.0); self.graph.num_families()];
        for record in &self.records {
            let time = &mut times[record.id as usize];
            *time = if time.is_nan() { 0.0 } else { *time } + record.ran_ns as f64;
            let sum = &mut sums[self.graph.family(record.id) as usize];
            *sum = (sum.0 + record.ran_ns as f64, sum.1 + 1.0);
        }
        for (id, time) in times.iter_mut().enumerate().filter(|(_, time)| time.is_nan()) {
            let (sum, count) = sums[self.graph.family(id as u32) as usize];
            *time = if self.is_sample && count > 0.0 { sum / count } else { 0.0 };
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::busy;

    #[test]
    fn spans_count_in_the_parts_they_lie_in() {
        let spans = [(0, 100), (10, 20), (45, 70), (100, 100)];
        let expected = [1.0, 2.0, 1.0, 1.0, 1.5, 2.0, 2.0, 1.0, 1.0, 1.0];
        assert_eq!(busy(spans.into_iter(), 100, 10), expected);
        assert_eq!(busy(spans.into_iter(), 0, 3), [0.0; 3]);
        assert!(busy(spans.into_iter(), 100, 0).is_empty());
    }
}
