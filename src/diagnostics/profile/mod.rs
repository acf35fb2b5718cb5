//! Where the time of runs went.
//!
//! A [`Profiler`] is a [`Callback`](crate::callback::Callback) that keeps a record of every task it is told of; [`profile`] attaches one to
//! what a piece of code computes. What it has collected is a [`Profile`]: a table by name, the critical path, how many tasks ran at once, and files for
//! spreadsheets, for Perfetto and for a browser.
//!
//! ```
//! use sprang::{Refs, delayed};
//!
//! let parts: Vec<_> = (0..100_u64).map(|i| delayed(|i| i * i, (i,)).name(format!("square {i}"))).collect();
//! let sum = delayed(|parts: Refs<u64>| parts.iter().sum::<u64>(), (&parts,)).name("sum");
//! let (result, profile) = sprang::profile(|| sum.compute());
//! assert_eq!(result?, 328_350);
//!
//! let squares = &profile.by_name().into_iter().find(|row| &*row.name == "square #").unwrap();
//! assert_eq!(squares.count, 100);
//! assert!(squares.total >= squares.max && squares.max >= squares.p99 && squares.p99 >= squares.p50);
//! let path = profile.runs()[0].critical_path();
//! assert_eq!(&*path.last().unwrap().name, "sum");
//!
//! let folder = tempfile::tempdir().unwrap();
//! profile.save(folder.path().join("report.html"))?; // one file, for any browser
//! profile.save(folder.path().join("trace.json"))?; // for ui.perfetto.dev
//! profile.save(folder.path().join("tasks.csv"))?;
//! # Ok::<_, sprang::Error>(())
//! ```
//!
//! # What it costs
//!
//! About 0.1 µs for a task on threads, half of it two looks at the clock (bench `callbacks`), and 64 bytes, up to [`max_records`](Profiler::max_records). Beyond that the profile becomes a
//! sample, evenly drawn, and [says so](Profile::sampling).

mod aspect;
mod export;
mod held;
#[cfg(feature = "files")]
mod import;
mod json;
mod recorder;
mod report;
mod resources;

pub use aspect::Aspect;
pub use held::{HeldValues, Peak};
pub use recorder::Profiler;
#[cfg(feature = "dashboard")]
pub(super) use recorder::{Record, RecordedRun, Sample, Sampling};
pub use resources::ResourceSample;
#[cfg(feature = "dashboard")]
pub(super) use resources::system;

use super::picture::{Graph, Sort};
use super::units;
use crate::engine::callback::{self, RunId, ValueSize, WorkerId};
use crate::error::{Error, ErrorKind, Result};
#[cfg(not(feature = "dashboard"))]
use recorder::Record;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Profiles what `body` computes on this thread, with what is nested in it.
///
/// # Examples
/// ```
/// let (result, profile) = sprang::profile(|| sprang::delayed(|| 2 + 2, ()).compute());
/// assert_eq!((result?, profile.num_tasks()), (4, 1));
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn profile<R>(body: impl FnOnce() -> R) -> (R, Profile) {
    let profiler = Arc::new(Profiler::new());
    let result = callback::with(Arc::<Profiler>::clone(&profiler), body);
    (result, profiler.profile())
}

/// What became of one attempt of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It gave a value.
    Finished,
    /// It failed for good.
    Failed,
    /// It failed, or its worker was lost, and the task was tried again.
    Retried,
    /// Its run ended first.
    Cancelled,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Finished => "finished",
            Outcome::Failed => "failed",
            Outcome::Retried => "retried",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// What a [`Profiler`] has collected. Times are counted from the start of its first run.
#[derive(Clone)]
pub struct Profile {
    runs: Vec<RunProfile>,
    /// By run, then by start.
    records: Vec<Record>,
    failures: Vec<Failure>,
    samples: Vec<ResourceSample>,
    num_seen: u64,
    num_runs_left_out: usize,
}

/// One run of a profile.
#[derive(Clone)]
pub struct RunProfile {
    id: RunId,
    parent: Option<RunId>,
    scheduler: String,
    started: Duration,
    ended: Option<Duration>,
    error: Option<Error>,
    num_skipped: u64,
    graph: Arc<Graph>,
    /// Some calls are left out.
    is_sample: bool,
    /// Its part of the records.
    records: Vec<Record>,
}

/// An attempt of a task that gave no value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The run.
    pub run: RunId,
    /// The task's number in the run.
    pub id: usize,
    /// When it failed.
    pub at: Duration,
    /// Whether it was tried again.
    pub was_retried: bool,
    /// What went wrong.
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
    /// Who ran it.
    pub worker: WorkerId,
    /// When it was there to be run: when the last task that it waits for had ended, or its run began. `None` for later attempts, and where
    /// those tasks are not recorded.
    pub ready: Option<Duration>,
    /// When the call began.
    pub started: Duration,
    /// When it ended.
    pub ended: Duration,
    /// For a task in another process: how long it waited there for those sent before it, with the way there.
    pub queued: Option<Duration>,
    /// For a task in another process: how long its result took to come back, with those that came with it.
    pub returned: Option<Duration>,
    /// For a task in another process: how many bytes of arguments and values went there for it, and of its value back.
    pub transferred: Option<(u64, u64)>,
    /// How large the value is that it left for others, if it left one; see [`Profiler::measure_values`].
    pub value: Option<ValueSize>,
    /// What became of it.
    pub outcome: Outcome,
    /// Which attempt it was, from 1.
    pub attempt: u32,
}

impl TaskRecord {
    /// How long the call took.
    pub fn duration(&self) -> Duration {
        self.ended.saturating_sub(self.started)
    }
}

/// How long the tasks of one name took. See [`Profile::by_name`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NameStats {
    /// The name, with `#` for numbers in it.
    pub name: Arc<str>,
    /// How many calls there were; an estimate if the profile is a sample, as is `total`.
    pub count: u64,
    /// How many of these gave no value.
    pub num_failed: u64,
    /// All together.
    pub total: Duration,
    /// On average.
    pub mean: Duration,
    /// Half of the calls took no longer.
    pub p50: Duration,
    /// 99 of 100 calls took no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// A task on the critical path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PathTask {
    /// The task's number in the run.
    pub id: usize,
    /// The task's name.
    pub name: Arc<str>,
    /// How long all its calls took; the mean of its name if it is not in the sample.
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

    /// How many calls of tasks were made, whether they are recorded or not. Plain values that were put into a graph are not counted.
    pub fn num_tasks(&self) -> u64 {
        self.num_seen
    }

    /// For a sample, how many calls stand behind each that is recorded, on average; 1 if all are recorded.
    pub fn sampling(&self) -> f64 {
        if self.records.is_empty() { 1.0 } else { (self.num_seen as f64 / self.records.len() as f64).max(1.0) }
    }

    /// How many runs are left out because there were too many tasks in those before.
    pub fn num_runs_left_out(&self) -> usize {
        self.num_runs_left_out
    }

    /// What is recorded, run by run, in the order in which the calls began.
    pub fn tasks(&self) -> impl Iterator<Item = TaskRecord> {
        self.runs.iter().flat_map(RunProfile::tasks)
    }

    /// Failures, also of attempts that were not the last, in the order in which they were told; the first ten thousand.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Use of processors and memory over time, where the system tells.
    pub fn resources(&self) -> &[ResourceSample] {
        &self.samples
    }

    /// From the start of the first run to the end of the last.
    pub fn duration(&self) -> Duration {
        let of_records = self.records.iter().map(Record::ended).max();
        self.runs.iter().filter_map(|run| run.ended).chain(of_records).max().unwrap_or_default()
    }

    /// How long the tasks took that do the same, the name that took longest first.
    ///
    /// Tasks do the same if they call the same function or, where names are given, if their names differ in numbers only.
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
        rows.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.name.cmp(&b.name)));
        rows
    }

    /// How many tasks ran at once, on average, in each of so many equal parts of the time. Tasks that waited for a nested run count too.
    ///
    /// # Examples
    /// ```
    /// let (_, profile) = sprang::profile(|| sprang::delayed(|| 1, ()).compute_with("sync"));
    /// let parallelism = profile.parallelism(10);
    /// assert_eq!(parallelism.len(), 10);
    /// assert!(parallelism.iter().all(|&at_once| (0.0..=1.0 + 1e-9).contains(&at_once)));
    /// ```
    pub fn parallelism(&self, num_parts: usize) -> Vec<f64> {
        let spans = self.records.iter().map(|record| (record.started_ns, record.started_ns + record.ran_ns));
        let mut parts = busy(spans, self.duration().as_nanos() as u64, num_parts);
        let scale = self.sampling();
        parts.iter_mut().for_each(|part| *part *= scale);
        parts
    }

    /// Writes the profile to a file whose ending says what it is to be: `.html`, `.csv` or `.json`; the last is a trace for Perfetto and
    /// Chrome, or [`to_json`](Profile::to_json) if the name ends in `.profile.json`.
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
        fs::write(path, content).map_err(|error| {
            Error::new(ErrorKind::NotSaved, format!("cannot save a profile as {}: {error}", path.display()))
                .with_source(Arc::new(error) as Arc<dyn std::error::Error + Send + Sync>)
        })
    }
}

/// How many of the spans there are on average in each part of `0..end`.
fn busy(spans: impl Iterator<Item = (u64, u64)>, end: u64, num_parts: usize) -> Vec<f64> {
    let mut parts = vec![0.0; num_parts];
    if end == 0 || num_parts == 0 {
        return parts;
    }
    // What begins and ends within parts; what covers parts whole is a difference, summed up in the end.
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
    /// Its number.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// The run it is nested in.
    pub fn parent(&self) -> Option<RunId> {
        self.parent
    }

    /// What it computes: the name of its output.
    pub fn title(&self) -> String {
        self.graph.title()
    }

    /// The scheduler that carried it.
    pub fn scheduler(&self) -> &str {
        &self.scheduler
    }

    /// When it began.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// When it ended; `None` if it had not when the profile was taken.
    pub fn ended(&self) -> Option<Duration> {
        self.ended
    }

    /// Why it gave no results, if so.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// How many tasks its graph has.
    pub fn num_tasks(&self) -> usize {
        self.graph.num_tasks()
    }

    /// How many tasks were not called because others had failed.
    pub fn num_skipped(&self) -> u64 {
        self.num_skipped
    }

    /// What is recorded of it, in the order in which the calls began.
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

    fn ready(&self, ended_ns: &[Option<u64>], record: &Record) -> Option<Duration> {
        let mut ready_ns = self.started.as_nanos() as u64;
        let (read, after) = self.graph.inputs(record.id);
        for &input in read.iter().chain(after).filter(|&&input| self.graph.sort(input) != Sort::Value) {
            ready_ns = ready_ns.max(ended_ns[input as usize]?);
        }
        // In another process it may have begun before this one knew that its inputs had ended there; those clocks are one.
        (record.attempt == 1).then(|| Duration::from_nanos(ready_ns.min(record.started_ns)))
    }

    /// The chain of tasks, each needing the one before, that took longest: no number of workers makes the run shorter than that.
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
    fn critical_ids(&self) -> HashSet<u32> {
        self.graph.critical_path(Some(&self.times_ns())).into_iter().collect()
    }

    /// For each task how long all its calls took; in a sample, for those that are not in it, the mean of their name.
    fn times_ns(&self) -> Vec<f64> {
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
