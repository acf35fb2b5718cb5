//! A profile that comes back from the JSON that was made of one.

use super::recorder::Record;
use super::{Failure, Outcome, Profile, ResourceSample, RunProfile};
use crate::diagnostics::picture::StoredGraph;
use crate::engine::callback::{RunId, ValueSize, WorkerId};
use crate::error::{Error, ErrorKind, Result};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[derive(Deserialize)]
struct StoredProfile {
    process: u32,
    num_tasks: u64,
    num_runs_left_out: usize,
    runs: Vec<StoredRun>,
    tasks: Vec<StoredTask>,
    failures: Vec<StoredFailure>,
    resources: Vec<StoredSample>,
}

#[derive(Deserialize)]
struct StoredRun {
    run: u64,
    parent: Option<u64>,
    scheduler: String,
    started_s: f64,
    ended_s: Option<f64>,
    num_skipped: u64,
    error: Option<String>,
    graph: StoredGraph,
}

#[derive(Deserialize)]
struct StoredTask {
    run: u64,
    task: u32,
    process: u32,
    thread: u32,
    started_s: f64,
    duration_s: f64,
    queued_s: Option<f64>,
    returned_s: Option<f64>,
    attempt: u16,
    outcome: String,
    sent_bytes: Option<u64>,
    value_bytes: Option<u64>,
    value_is_encoded: bool,
}

#[derive(Deserialize)]
struct StoredFailure {
    run: u64,
    task: u32,
    at_s: f64,
    was_retried: bool,
    error: String,
}

#[derive(Deserialize)]
struct StoredSample {
    at_s: f64,
    cpus: f64,
    memory_bytes: u64,
    num_processes: usize,
}

impl Profile {
    /// Reads a profile from a file that [`save`](Profile::save) has written as `.profile.json`.
    ///
    /// # Examples
    /// ```
    /// use sprang::Profile;
    ///
    /// let (_, profile) = sprang::profile(|| sprang::delayed(|| 1, ()).name("one").compute());
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("one.profile.json");
    /// profile.save(&path)?;
    /// let loaded = Profile::load(&path)?;
    /// assert_eq!(loaded.to_string(), profile.to_string());
    /// loaded.save(folder.path().join("one.html"))?;
    /// # Ok::<_, sprang::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotLoaded`](ErrorKind::NotLoaded) if the file cannot be read or has no profile in it.
    pub fn load(path: impl AsRef<Path>) -> Result<Profile> {
        let path = path.as_ref();
        let not_loaded = |problem: String| Error::new(ErrorKind::NotLoaded, format!("{}: {problem}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| {
            not_loaded(format!("a profile cannot be read: {error}"))
                .with_source(Arc::new(error) as Arc<dyn std::error::Error + Send + Sync>)
        })?;
        parse(&text).map_err(not_loaded)
    }

    /// A profile from what [`to_json`](Profile::to_json) has made of one. Errors come back as their texts, and threads of the process
    /// that was profiled count as threads of this one.
    ///
    /// # Errors
    /// [`NotLoaded`](ErrorKind::NotLoaded) if the text is something else.
    pub fn from_json(text: &str) -> Result<Profile> {
        parse(text).map_err(|problem| Error::new(ErrorKind::NotLoaded, problem))
    }
}

fn parse(text: &str) -> Result<Profile, String> {
    let foreign = |problem: &dyn std::fmt::Display| {
        format!("this is no profile as `Profile::save` writes it to a `.profile.json`: {problem}")
    };
    let stored: StoredProfile = serde_json::from_str(text).map_err(|error| foreign(&error))?;
    stored.into_profile().map_err(|problem| foreign(&problem))
}

impl StoredProfile {
    fn into_profile(self) -> Result<Profile, String> {
        let StoredProfile { process, num_tasks, num_runs_left_out, runs, tasks, failures, resources } = self;
        let mut runs = runs.into_iter().map(StoredRun::into_run).collect::<Result<Vec<_>, _>>()?;
        let index_of: HashMap<RunId, usize> = runs.iter().enumerate().map(|(index, run)| (run.id, index)).collect();
        if index_of.len() < runs.len() {
            return Err("two runs have the same number".into());
        }
        let index_of = |run: u64, task: u32| {
            let index = index_of.get(&RunId::of_number(run)).copied();
            index
                .filter(|&index| (task as usize) < runs[index].num_tasks())
                .ok_or_else(|| format!("there is no task {task} in a run {run}"))
        };
        let mut records = Vec::with_capacity(tasks.len());
        for task in tasks {
            records.push((index_of(task.run, task.task)?, task.into_record(process)?));
        }
        let failures = failures
            .into_iter()
            .map(|StoredFailure { run, task, at_s, was_retried, error }| {
                index_of(run, task)?;
                let (run, id, error) = (RunId::of_number(run), task as usize, error_of(error));
                Ok(Failure { run, id, at: time(at_s)?, was_retried, error })
            })
            .collect::<Result<Vec<_>, String>>()?;
        let all_ns = records.iter().try_fold(0_u64, |sum, (_, record)| sum.checked_add(record.ran_ns));
        all_ns.ok_or("all its tasks together took longer than can be told")?;
        for (index, record) in &records {
            runs[*index].records.push(*record);
        }
        let is_sample = num_tasks > records.len() as u64;
        runs.iter_mut().for_each(|run| run.is_sample = is_sample);
        let mut records: Vec<Record> = records.into_iter().map(|(_, record)| record).collect();
        let by_start = |record: &Record| (record.run, record.started_ns, record.id);
        records.sort_unstable_by_key(by_start);
        runs.iter_mut().for_each(|run| run.records.sort_unstable_by_key(by_start));
        let samples = resources
            .into_iter()
            .map(|StoredSample { at_s, cpus, memory_bytes, num_processes }| {
                Ok(ResourceSample { at: time(at_s)?, cpus, memory_bytes, num_processes })
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok(Profile { runs, records, failures, samples, num_seen: num_tasks, num_runs_left_out })
    }
}

impl StoredRun {
    fn into_run(self) -> Result<RunProfile, String> {
        let StoredRun { run, parent, scheduler, started_s, ended_s, num_skipped, error, graph } = self;
        Ok(RunProfile {
            id: RunId::of_number(run),
            parent: parent.map(RunId::of_number),
            scheduler,
            started: time(started_s)?,
            ended: ended_s.map(time).transpose()?,
            error: error.map(error_of),
            num_skipped,
            graph: Arc::new(graph.into_graph()?),
            is_sample: false,
            records: Vec::new(),
        })
    }
}

impl StoredTask {
    fn into_record(self, process: u32) -> Result<Record, String> {
        let word = &*self.outcome;
        let outcome = [Outcome::Finished, Outcome::Failed, Outcome::Retried, Outcome::Cancelled];
        let outcome =
            outcome.into_iter().find(|it| it.word() == word).ok_or_else(|| format!("{word:?} is no outcome"))?;
        let worker = match self.process == process {
            true => WorkerId::of_thread(self.thread),
            false => WorkerId::of_process(self.process, self.thread),
        };
        let ns = |seconds: f64| time(seconds).map(|time| time.as_nanos() as u64);
        let (started_ns, ran_ns) = (ns(self.started_s)?, ns(self.duration_s)?);
        let micros = |seconds: Option<f64>| {
            let time = seconds.map(time).transpose()?;
            Ok::<u32, String>(time.map_or(u32::MAX, |time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX - 1)))
        };
        let (queued_us, returned_us) = (micros(self.queued_s)?, micros(self.returned_s)?);
        let (run, id, attempt) = (self.run, self.task, self.attempt);
        let (sent_bytes, is_encoded) = (self.sent_bytes.unwrap_or(0), self.value_is_encoded);
        let value = ValueSize::to_bits(self.value_bytes.map(|bytes| ValueSize { bytes, is_encoded }));
        Ok(Record { run, started_ns, ran_ns, worker, id, queued_us, returned_us, sent_bytes, value, attempt, outcome })
    }
}

fn error_of(text: String) -> Error {
    Error::new(ErrorKind::Failed, text)
}

/// Three centuries are more than any run takes, and an end can still be expressed.
fn time(seconds: f64) -> Result<Duration, String> {
    match seconds {
        0.0..=9e9 => Ok(Duration::from_nanos((seconds * 1e9).round() as u64)),
        _ => Err(format!("{seconds} s is no time")),
    }
}
