//! The JSON form of a profile: [`Profile::to_json`] writes these structs, and `Profile::from_json`
//! reads them.
//!
//! Fields that are skipped when a profile is read follow from the others. They are written for
//! other programs.

use super::{Failure, Outcome, Peak, Profile, RunProfile, TaskRecord};
use crate::diagnostics::json::rounded;
use crate::diagnostics::picture::StoredGraph;
use crate::engine::callback::RunId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

#[derive(Serialize, Deserialize)]
pub(super) struct StoredProfile<'a> {
    pub(super) process: u32,
    #[serde(skip_deserializing, rename = "duration_s", serialize_with = "write_time")]
    duration: Duration,
    pub(super) num_tasks: u64,
    #[serde(skip_deserializing)]
    sampling: f64,
    pub(super) num_runs_left_out: usize,
    pub(super) runs: Vec<StoredRun<'a>>,
    #[serde(skip_deserializing)]
    names: Vec<StoredName>,
    pub(super) tasks: Vec<StoredTask<'a>>,
    pub(super) failures: Vec<StoredFailure>,
    pub(super) resources: Vec<StoredSample>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredRun<'a> {
    pub(super) run: u64,
    pub(super) parent: Option<u64>,
    #[serde(skip_deserializing)]
    title: String,
    pub(super) scheduler: Cow<'a, str>,
    #[serde(rename = "started_s", serialize_with = "write_time", deserialize_with = "read_time")]
    pub(super) started: Duration,
    #[serde(rename = "ended_s", serialize_with = "write_time_option", deserialize_with = "read_time_option")]
    pub(super) ended: Option<Duration>,
    #[serde(skip_deserializing)]
    num_tasks: usize,
    pub(super) num_skipped: u64,
    pub(super) error: Option<String>,
    #[serde(skip_deserializing)]
    critical_path: Vec<StoredPathTask<'a>>,
    pub(super) graph: StoredGraph<'a>,
    #[serde(skip_deserializing)]
    peak: Option<StoredPeak<'a>>,
}

#[derive(Serialize)]
struct StoredPathTask<'a> {
    task: usize,
    name: Cow<'a, str>,
    #[serde(rename = "duration_s", serialize_with = "write_time")]
    duration: Duration,
}

#[derive(Serialize)]
struct StoredPeak<'a> {
    #[serde(rename = "at_s", serialize_with = "write_time")]
    at: Duration,
    num_values: usize,
    bytes: u64,
    held: Vec<StoredHeld<'a>>,
}

#[derive(Serialize)]
struct StoredHeld<'a> {
    name: Cow<'a, str>,
    count: usize,
    bytes: u64,
    held_for: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct StoredName {
    name: String,
    count: u64,
    num_failed: u64,
    #[serde(rename = "total_s", serialize_with = "write_time")]
    total: Duration,
    #[serde(rename = "mean_s", serialize_with = "write_time")]
    mean: Duration,
    #[serde(rename = "p50_s", serialize_with = "write_time")]
    p50: Duration,
    #[serde(rename = "p99_s", serialize_with = "write_time")]
    p99: Duration,
    #[serde(rename = "max_s", serialize_with = "write_time")]
    max: Duration,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredTask<'a> {
    pub(super) run: u64,
    pub(super) task: u32,
    #[serde(skip_deserializing)]
    name: Cow<'a, str>,
    pub(super) process: u32,
    pub(super) thread: u32,
    #[serde(rename = "started_s", serialize_with = "write_time", deserialize_with = "read_time")]
    pub(super) started: Duration,
    #[serde(rename = "duration_s", serialize_with = "write_time", deserialize_with = "read_time")]
    pub(super) duration: Duration,
    #[serde(rename = "queued_s", serialize_with = "write_time_option", deserialize_with = "read_time_option")]
    pub(super) queued: Option<Duration>,
    #[serde(rename = "returned_s", serialize_with = "write_time_option", deserialize_with = "read_time_option")]
    pub(super) returned: Option<Duration>,
    pub(super) attempt: u16,
    #[serde(with = "StoredOutcome")]
    pub(super) outcome: Outcome,
    #[serde(skip_deserializing, rename = "ready_s", serialize_with = "write_time_option")]
    ready: Option<Duration>,
    pub(super) sent_bytes: Option<u64>,
    #[serde(skip_deserializing)]
    returned_bytes: Option<u64>,
    pub(super) value_bytes: Option<u64>,
    pub(super) value_is_encoded: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Outcome", rename_all = "lowercase")]
enum StoredOutcome {
    Finished,
    Failed,
    Retried,
    Cancelled,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredFailure {
    pub(super) run: u64,
    pub(super) task: u32,
    #[serde(rename = "at_s", serialize_with = "write_time", deserialize_with = "read_time")]
    pub(super) at: Duration,
    pub(super) was_retried: bool,
    pub(super) error: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredSample {
    #[serde(rename = "at_s", serialize_with = "write_time", deserialize_with = "read_time")]
    pub(super) at: Duration,
    pub(super) cpus: f64,
    pub(super) memory_bytes: u64,
    pub(super) num_processes: usize,
}

impl<'a> From<&'a Profile> for StoredProfile<'a> {
    fn from(profile: &'a Profile) -> Self {
        let names = profile.by_name().into_iter().map(|row| StoredName {
            name: row.name.to_string(),
            count: row.count,
            num_failed: row.num_failed,
            total: row.total,
            mean: row.mean,
            p50: row.p50,
            p99: row.p99,
            max: row.max,
        });
        let tasks = profile.runs.iter().flat_map(|run| run.tasks().map(|task| StoredTask::new(run, &task)));
        // A failure of a run that was left out has no place.
        let runs: HashSet<RunId> = profile.runs.iter().map(|run| run.id).collect();
        let failures = profile.failures.iter().filter(|failure| runs.contains(&failure.run));
        let resources = profile.samples.iter().map(|sample| StoredSample {
            at: sample.at,
            cpus: rounded(sample.cpus, 3),
            memory_bytes: sample.memory_bytes,
            num_processes: sample.num_processes,
        });
        StoredProfile {
            process: std::process::id(),
            duration: profile.duration(),
            num_tasks: profile.num_tasks(),
            sampling: rounded(profile.sampling(), 3),
            num_runs_left_out: profile.num_runs_left_out,
            runs: profile.runs.iter().map(StoredRun::from).collect(),
            names: names.collect(),
            tasks: tasks.collect(),
            failures: failures.map(StoredFailure::from).collect(),
            resources: resources.collect(),
        }
    }
}

impl<'a> From<&'a RunProfile> for StoredRun<'a> {
    fn from(run: &'a RunProfile) -> Self {
        let critical_path = run.critical_path().into_iter().map(|task| StoredPathTask {
            task: task.id,
            name: (&**run.graph.name(task.id as u32)).into(),
            duration: task.duration,
        });
        StoredRun {
            run: run.id.get(),
            parent: run.parent.map(RunId::get),
            title: run.title(),
            scheduler: (&*run.scheduler).into(),
            started: run.started,
            ended: run.ended,
            num_tasks: run.num_tasks(),
            num_skipped: run.num_skipped,
            error: run.error.as_ref().map(ToString::to_string),
            critical_path: critical_path.collect(),
            graph: StoredGraph::from(&*run.graph),
            peak: run.peak().map(StoredPeak::from),
        }
    }
}

impl From<Peak> for StoredPeak<'_> {
    fn from(peak: Peak) -> Self {
        let held = peak.held.into_iter().map(|row| StoredHeld {
            name: row.name.to_string().into(),
            count: row.count,
            bytes: row.bytes,
            held_for: row.held_for.map(|name| name.to_string().into()),
        });
        StoredPeak { at: peak.at, num_values: peak.num_values, bytes: peak.bytes, held: held.collect() }
    }
}

impl<'a> StoredTask<'a> {
    fn new(run: &'a RunProfile, task: &TaskRecord) -> Self {
        StoredTask {
            run: task.run.get(),
            task: task.id as u32,
            name: (&**run.graph.name(task.id as u32)).into(),
            process: task.worker.pid(),
            thread: task.worker.thread(),
            started: task.started,
            duration: task.duration(),
            queued: task.queued,
            returned: task.returned,
            attempt: task.attempt as u16,
            outcome: task.outcome,
            ready: task.ready,
            sent_bytes: task.transferred.map(|(sent, _)| sent),
            returned_bytes: task.transferred.map(|(_, returned)| returned),
            value_bytes: task.value.map(|size| size.bytes),
            value_is_encoded: task.value.is_some_and(|size| size.is_encoded),
        }
    }
}

impl From<&Failure> for StoredFailure {
    fn from(failure: &Failure) -> Self {
        StoredFailure {
            run: failure.run.get(),
            task: failure.id as u32,
            at: failure.at,
            was_retried: failure.was_retried,
            error: failure.error.to_string(),
        }
    }
}

fn write_time<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    write_time_option(&Some(*time), serializer)
}

/// In seconds. The quotient is the number nearest to the decimal one, so its text has nine decimals
/// at most.
fn write_time_option<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_nanos() as f64 / 1e9).serialize(serializer)
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    time(f64::deserialize(deserializer)?)
}

fn read_time_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Option::<f64>::deserialize(deserializer)?.map(time).transpose()
}

/// No run takes three centuries, and this limit leaves room for sums of times.
fn time<E: serde::de::Error>(seconds: f64) -> Result<Duration, E> {
    match seconds {
        0.0..=9e9 => Ok(Duration::from_nanos((seconds * 1e9).round() as u64)),
        _ => Err(E::custom(format!("{seconds} is not a valid number of seconds"))),
    }
}
