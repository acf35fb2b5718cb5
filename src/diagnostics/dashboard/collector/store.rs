//! The store: the history, and the material of reports.

use super::clusters::ClusterRun;
use super::counts::Counts;
use super::limits::{
    MAX_CLUSTERS, MAX_EVENTS, MAX_NAMES, MAX_REPORT_BYTES, MAX_REPORTS, MAX_RUNS, MAX_TASKS, MAX_TEXT, OTHER, cut,
};
use super::runs::{ReportData, RunLabel, RunRecord};
use super::shard::{RunningTask, TaskRecord};
use crate::engine::callback::{ClusterInfo, RunId};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A line of the log.
#[derive(Clone, Debug)]
pub(crate) struct LogRecord {
    pub(crate) seq: u64,
    pub(crate) at_ns: u64,
    pub(crate) kind: &'static str,
    pub(crate) run: Option<RunId>,
    pub(crate) text: Arc<str>,
}

/// All records outside the shards.
pub(crate) struct Store {
    /// The first is for [`OTHER`].
    pub(crate) names: Vec<Arc<str>>,
    by_name: HashMap<Arc<str>, u16>,
    /// By name, of the runs that have ended.
    pub(crate) totals: Vec<Counts>,
    pub(crate) runs: VecDeque<RunRecord>,
    /// Runs that have ended, by outcome.
    pub(crate) num_runs: [u64; 3],
    /// Ended attempts with their numbers, which count up from 1.
    pub(crate) tasks: VecDeque<(u64, TaskRecord)>,
    pub(crate) num_seen: u64,
    pub(crate) overwritten: u64,
    pub(crate) events: VecDeque<LogRecord>,
    pub(crate) num_events: u64,
    /// The oldest first.
    pub(super) reports: VecDeque<ReportData>,
    /// The oldest first.
    pub(super) clusters: Vec<ClusterRun>,
}

impl Store {
    pub(super) fn new() -> Self {
        Store {
            names: vec!["other".into()],
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
            clusters: Vec::new(),
        }
    }

    /// The id of a name.
    pub(super) fn intern(&mut self, name: &Arc<str>) -> u16 {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        if self.names.len() > MAX_NAMES || name.len() > MAX_TEXT {
            return OTHER;
        }
        let id = self.names.len() as u16;
        self.names.push(Arc::clone(name));
        self.totals.push(Counts::default());
        self.by_name.insert(Arc::clone(name), id);
        id
    }

    pub(crate) fn name_of<'a>(&'a self, task: &'a RunningTask) -> &'a Arc<str> {
        task.name.as_ref().unwrap_or(&self.names[task.group as usize])
    }

    /// The run of a cluster, which is added if this is the first of its runs that is seen.
    pub(super) fn cluster(&mut self, cluster: &ClusterInfo, scheduler: &str, started_ns: u64) -> &mut ClusterRun {
        let id = cluster.run();
        let position = self.clusters.iter().position(|run| run.label.id == id).unwrap_or_else(|| {
            if self.clusters.len() == MAX_CLUSTERS {
                // A cluster that is gone is forgotten first, then an idle one; among equals the one
                // that ran something least recently.
                let rank = |run: &ClusterRun| (run.cluster.num_pending().map_or(0, |n| 1 + n.min(1)), run.last_ns);
                let forgotten = (0..self.clusters.len()).min_by_key(|&index| rank(&self.clusters[index]));
                forgotten.map(|index| self.clusters.remove(index));
            }
            // A thread of a cluster runs a single task as the scheduler `sync` does.
            let scheduler = if scheduler == "sync" { "threads" } else { scheduler };
            let title = cut(cluster.name());
            self.log(started_ns, "cluster seen", Some(id), &format!("{title}: futures on {scheduler}"));
            let (title, scheduler) = (title.into(), cut(scheduler).into());
            let label = RunLabel { id, parent: None, title, scheduler, num_tasks: 0, started_ns };
            self.clusters.push(ClusterRun::new(cluster, label));
            self.clusters.len() - 1
        });
        &mut self.clusters[position]
    }

    pub(super) fn log(&mut self, at_ns: u64, kind: &'static str, run: Option<RunId>, text: &str) {
        self.num_events += 1;
        let record = LogRecord { seq: self.num_events, at_ns, kind, run, text: cut(text).into() };
        push_bounded(&mut self.events, record, MAX_EVENTS);
    }

    pub(super) fn push_tasks(&mut self, records: Vec<TaskRecord>) {
        for record in records {
            self.num_seen += 1;
            push_bounded(&mut self.tasks, (self.num_seen, record), MAX_TASKS);
        }
    }

    /// Adds a run that has ended to the history.
    pub(super) fn push_run(&mut self, run: RunRecord) {
        let kind = ["run finished", "run failed", "run cancelled"][run.outcome as usize];
        let title = &run.label.title;
        let text = run.error.as_ref().map_or_else(|| title.to_string(), |error| format!("{title}: {error}"));
        self.log(run.ended_ns, kind, Some(run.label.id), &text);
        self.num_runs[run.outcome as usize] += 1;
        push_bounded(&mut self.runs, run, MAX_RUNS);
    }

    pub(super) fn push_report(&mut self, report: ReportData) {
        self.reports.push_back(report);
        let mut num_bytes: usize = self.reports.iter().map(ReportData::num_bytes).sum();
        while self.reports.len() > MAX_REPORTS || (num_bytes > MAX_REPORT_BYTES && self.reports.len() > 1) {
            num_bytes -= self.reports.pop_front().map_or(0, |oldest| oldest.num_bytes());
        }
    }

    /// Whether there is a report on a run that has ended.
    pub(crate) fn has_report(&self, run: RunId) -> bool {
        self.reports.iter().any(|report| report.run.id() == run)
    }
}

/// Adds an item, and removes the oldest if there are too many.
fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() == max {
        queue.pop_front();
    }
    queue.push_back(item);
}
