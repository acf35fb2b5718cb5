//! The profiles behind the reports and traces that pages offer.

use super::Collector;
use super::runs::{ReportData, TrackedRun};
use crate::diagnostics::profile::{Profile, RecordBuffer, RecordedRun};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

impl Collector {
    /// The profile of a run, which may be live; `None` if nothing is recorded of it.
    pub(in crate::diagnostics::dashboard) fn profile(&self, id: u64) -> Option<Profile> {
        self.profile_of_cluster(id).or_else(|| self.profile_of_run(id))
    }

    /// The profile of the last futures of a cluster.
    fn profile_of_cluster(&self, id: u64) -> Option<Profile> {
        let store = self.store.lock();
        let run = store.clusters.iter().find(|run| run.label.id.get() == id)?;
        let (window, is_over) = run.larger_window();
        let (started, last) = (Duration::from_nanos(window.started_ns), Duration::from_nanos(run.last_ns));
        let ended = is_over.then_some(last);
        let recorded = RecordedRun {
            id: run.label.id,
            parent: None,
            scheduler: run.label.scheduler.to_string(),
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

    fn profile_of_run(&self, id: u64) -> Option<Profile> {
        let (run, samples, ended_ns, error) = {
            // A run is live or has its report, as long as the store is locked.
            let store = self.store.lock();
            match store.reports.iter().find(|report| report.run.id().get() == id) {
                Some(ReportData { run, samples, ended_ns, error }) => {
                    (Arc::clone(run), samples.clone(), Some(*ended_ns), error.clone())
                }
                None => {
                    let run = self.live_run(id)?;
                    let samples = self.samples_of(&run);
                    (run, samples, None, None)
                }
            }
        };
        let (started, ended) = (Duration::from_nanos(run.label.started_ns), ended_ns.map(Duration::from_nanos));
        let failures = run.failures.lock().clone();
        let recorded = RecordedRun {
            id: run.id(),
            parent: run.label.parent,
            scheduler: run.label.scheduler.to_string(),
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

    /// The samples that the shards have of a live run.
    fn samples_of(&self, run: &TrackedRun) -> Vec<RecordBuffer> {
        let samples = self.shards.iter().filter_map(|shard| {
            let shard = shard.lock();
            shard.runs.iter().find(|entry| entry.run.id() == run.id()).map(|entry| entry.sample.clone())
        });
        samples.collect()
    }
}
