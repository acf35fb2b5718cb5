//! The JSON form of a profile: [`Profile::to_json`] writes these structs, and `Profile::from_json`
//! reads them.
//!
//! Fields that are skipped when a profile is read follow from the others. They are written for
//! other programs.

use super::data::{Failure, NameStats, Outcome, PathTask, Profile, RunProfile, TaskRecord};
use super::encode::Seconds;
use super::held::Peak;
use super::resources::ResourceSample;
use crate::diagnostics::json::rounded;
use crate::diagnostics::picture::StoredGraph;
use crate::engine::callback::RunId;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashSet;

#[derive(Serialize, Deserialize)]
pub(super) struct StoredProfile<'a> {
    pub(super) process: u32,
    #[serde(skip_deserializing)]
    duration_s: Seconds,
    pub(super) num_tasks: u64,
    #[serde(skip_deserializing)]
    sampling: f64,
    pub(super) num_runs_left_out: usize,
    pub(super) runs: Vec<StoredRun<'a>>,
    #[serde(skip_deserializing)]
    names: Vec<NameStats>,
    pub(super) tasks: Vec<StoredTask<'a>>,
    pub(super) failures: Vec<StoredFailure>,
    pub(super) resources: Vec<ResourceSample>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredRun<'a> {
    pub(super) run: u64,
    pub(super) parent: Option<u64>,
    #[serde(skip_deserializing)]
    title: String,
    pub(super) scheduler: Cow<'a, str>,
    pub(super) started_s: Seconds,
    pub(super) ended_s: Option<Seconds>,
    #[serde(skip_deserializing)]
    num_tasks: usize,
    pub(super) num_skipped: u64,
    pub(super) error: Option<String>,
    #[serde(skip_deserializing)]
    critical_path: Vec<PathTask>,
    pub(super) graph: StoredGraph<'a>,
    #[serde(skip_deserializing)]
    peak: Option<Peak>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredTask<'a> {
    pub(super) run: u64,
    pub(super) task: u32,
    #[serde(skip_deserializing)]
    name: Cow<'a, str>,
    pub(super) process: u32,
    pub(super) thread: u32,
    pub(super) started_s: Seconds,
    pub(super) duration_s: Seconds,
    pub(super) queued_s: Option<Seconds>,
    pub(super) returned_s: Option<Seconds>,
    pub(super) attempt: u16,
    #[serde(with = "StoredOutcome")]
    pub(super) outcome: Outcome,
    #[serde(skip_deserializing)]
    ready_s: Option<Seconds>,
    pub(super) sent_bytes: Option<u64>,
    #[serde(skip_deserializing)]
    returned_bytes: Option<u64>,
    pub(super) value_bytes: Option<u64>,
    pub(super) value_is_whole: bool,
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
    pub(super) at_s: Seconds,
    pub(super) was_retried: bool,
    pub(super) error: String,
}

impl<'a> From<&'a Profile> for StoredProfile<'a> {
    fn from(profile: &'a Profile) -> Self {
        let tasks = profile.runs.iter().flat_map(|run| run.tasks().map(|task| StoredTask::new(run, &task)));
        // A failure of a run that was left out has no place.
        let runs: HashSet<RunId> = profile.runs.iter().map(|run| run.id).collect();
        let failures = profile.failures.iter().filter(|failure| runs.contains(&failure.run));
        let rounded_sample = |&sample: &ResourceSample| ResourceSample { cpus: rounded(sample.cpus, 3), ..sample };
        StoredProfile {
            process: std::process::id(),
            duration_s: Seconds(profile.duration()),
            num_tasks: profile.num_tasks(),
            sampling: rounded(profile.sampling(), 3),
            num_runs_left_out: profile.num_runs_left_out,
            runs: profile.runs.iter().map(StoredRun::from).collect(),
            names: profile.by_name(),
            tasks: tasks.collect(),
            failures: failures.map(StoredFailure::from).collect(),
            resources: profile.samples.iter().map(rounded_sample).collect(),
        }
    }
}

impl<'a> From<&'a RunProfile> for StoredRun<'a> {
    fn from(run: &'a RunProfile) -> Self {
        StoredRun {
            run: run.id.get(),
            parent: run.parent.map(RunId::get),
            title: run.title(),
            scheduler: (&*run.scheduler).into(),
            started_s: Seconds(run.started),
            ended_s: run.ended.map(Seconds),
            num_tasks: run.num_tasks(),
            num_skipped: run.num_skipped,
            error: run.error.as_ref().map(ToString::to_string),
            critical_path: run.critical_path(),
            graph: StoredGraph::from(&*run.graph),
            peak: run.peak(),
        }
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
            started_s: Seconds(task.started),
            duration_s: Seconds(task.duration()),
            queued_s: task.queued.map(Seconds),
            returned_s: task.returned.map(Seconds),
            attempt: task.attempt as u16,
            outcome: task.outcome,
            ready_s: task.ready.map(Seconds),
            sent_bytes: task.transferred.map(|(sent, _)| sent),
            returned_bytes: task.transferred.map(|(_, returned)| returned),
            value_bytes: task.value.map(|size| size.bytes),
            value_is_whole: task.value.is_some_and(|size| size.is_whole),
        }
    }
}

impl From<&Failure> for StoredFailure {
    fn from(failure: &Failure) -> Self {
        StoredFailure {
            run: failure.run.get(),
            task: failure.id as u32,
            at_s: Seconds(failure.at),
            was_retried: failure.was_retried,
            error: failure.error.to_string(),
        }
    }
}
