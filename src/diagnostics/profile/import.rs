//! Reads a profile back from its JSON form.

use super::data::{Failure, Profile, RunProfile};
use super::encode::Seconds;
use super::record::{self, Record};
use super::schema::{StoredProfile, StoredRun, StoredTask};
use crate::engine::callback::{RunId, ValueSize, WorkerId};
use crate::error::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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
    /// [`NotLoaded`](ErrorKind::NotLoaded) if the file cannot be read or does not contain a
    /// profile.
    pub fn load(path: impl AsRef<Path>) -> Result<Profile> {
        let path = path.as_ref();
        let not_loaded = |problem: String| Error::new(ErrorKind::NotLoaded, format!("{}: {problem}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| {
            not_loaded(format!("the profile cannot be read: {error}"))
                .with_source(Arc::new(error) as Arc<dyn std::error::Error + Send + Sync>)
        })?;
        parse(&text).map_err(not_loaded)
    }

    /// Reads a profile from the text that [`to_json`](Profile::to_json) has made. Errors come back
    /// as their messages, and threads of the profiled process count as threads of this process.
    ///
    /// # Errors
    /// [`NotLoaded`](ErrorKind::NotLoaded) if the text is not a profile.
    pub fn from_json(text: &str) -> Result<Profile> {
        parse(text).map_err(|problem| Error::new(ErrorKind::NotLoaded, problem))
    }
}

fn parse(text: &str) -> Result<Profile, String> {
    let stored = serde_json::from_str::<StoredProfile<'_>>(text).map_err(|error| error.to_string());
    stored
        .and_then(StoredProfile::into_profile)
        .map_err(|problem| format!("this is not a profile in the format of a `.profile.json`: {problem}"))
}

impl StoredProfile<'_> {
    fn into_profile(self) -> Result<Profile, String> {
        let StoredProfile { process, num_tasks, num_runs_left_out, runs, tasks, failures, resources, .. } = self;
        let mut runs = runs.into_iter().map(StoredRun::into_run).collect::<Result<Vec<_>, _>>()?;
        let index_of: HashMap<RunId, usize> = runs.iter().enumerate().map(|(index, run)| (run.id, index)).collect();
        if index_of.len() < runs.len() {
            return Err("two runs have the same number".into());
        }
        let run_sizes: Vec<usize> = runs.iter().map(RunProfile::num_tasks).collect();
        let index_of = |run: u64, task: u32| {
            let index = index_of.get(&RunId::of_number(run)).copied();
            index
                .filter(|&index| (task as usize) < run_sizes[index])
                .ok_or_else(|| format!("there is no task {task} in a run {run}"))
        };
        let is_sample = num_tasks > tasks.len() as u64;
        let mut total = Duration::ZERO;
        for task in tasks {
            let run = &mut runs[index_of(task.run, task.task)?];
            total += task.duration_s.0;
            run.records.push(task.into_record(process));
        }
        if u64::try_from(total.as_nanos()).is_err() {
            return Err("the sum of all durations is too large".into());
        }
        for run in &mut runs {
            run.is_sample = is_sample;
            record::sort(&mut run.records);
        }
        let failures = failures.into_iter().map(|failure| {
            index_of(failure.run, failure.task)?;
            Ok(Failure {
                run: RunId::of_number(failure.run),
                id: failure.task as usize,
                at: failure.at_s.0,
                was_retried: failure.was_retried,
                error: error_of(failure.error),
            })
        });
        let failures = failures.collect::<Result<Vec<_>, String>>()?;
        Ok(Profile { runs, failures, samples: resources, num_seen: num_tasks, num_runs_left_out })
    }
}

impl StoredRun<'_> {
    fn into_run(self) -> Result<RunProfile, String> {
        Ok(RunProfile {
            id: RunId::of_number(self.run),
            parent: self.parent.map(RunId::of_number),
            scheduler: self.scheduler.into_owned(),
            started: self.started_s.0,
            ended: self.ended_s.map(|time| time.0),
            error: self.error.map(error_of),
            num_skipped: self.num_skipped,
            graph: Arc::new(self.graph.into_graph()?),
            is_sample: false,
            records: Vec::new(),
        })
    }
}

impl StoredTask<'_> {
    fn into_record(self, process: u32) -> Record {
        let worker = match self.process == process {
            true => WorkerId::of_thread(self.thread),
            false => WorkerId::of_process(self.process, self.thread),
        };
        let micros = |time: Option<Seconds>| {
            time.map_or(u32::MAX, |time| u32::try_from(time.0.as_micros()).unwrap_or(u32::MAX - 1))
        };
        let size = self.value_bytes.map(|bytes| ValueSize { bytes, is_whole: self.value_is_whole });
        Record {
            run: self.run,
            started_ns: self.started_s.0.as_nanos() as u64,
            ran_ns: self.duration_s.0.as_nanos() as u64,
            worker,
            id: self.task,
            queued_us: micros(self.queued_s),
            returned_us: micros(self.returned_s),
            sent_bytes: self.sent_bytes.unwrap_or(0),
            value: ValueSize::to_bits(size),
            attempt: self.attempt,
            outcome: self.outcome,
        }
    }
}

fn error_of(text: String) -> Error {
    Error::new(ErrorKind::Failed, text)
}
