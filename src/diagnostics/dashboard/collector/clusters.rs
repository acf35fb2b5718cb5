//! The futures of a cluster, as one run.

use super::counts::{Counts, add_to};
use super::limits::{MAX_CLUSTER_CALLS, MAX_CLUSTER_NODES, MAX_FAILURES};
use super::runs::{RunLabel, TrackedRun};
use crate::diagnostics::picture::{Graph, Growing};
use crate::diagnostics::profile::{Failure, RecordBuffer, Sampling};
use crate::engine::callback::{ClusterInfo, RunId, RunInfo};
use std::mem;
use std::sync::atomic::Ordering::Relaxed;

/// How a run of futures is shown: as a part of its cluster's run.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClusterPart {
    /// The cluster's run.
    pub(super) run: RunId,
    /// The id of its first task there.
    pub(super) first_task: u32,
    /// The window whose graph has its tasks, and the id of the first task there.
    pub(super) window: u64,
    pub(super) first_in_window: u32,
}

/// The run that the futures of one cluster share.
pub(crate) struct ClusterRun {
    pub(crate) label: RunLabel,
    pub(super) cluster: ClusterInfo,
    /// When the last of its runs ended.
    pub(crate) last_ns: u64,
    /// By the id of the name, the counts of runs that have ended.
    pub(super) names: Vec<(u16, Counts)>,
    window: ReportWindow,
    window_before: Option<ReportWindow>,
}

/// The material of a report on some consecutive futures of a cluster.
pub(super) struct ReportWindow {
    pub(super) number: u64,
    pub(super) graph: Growing,
    /// Tasks of its graph that are not values.
    num_calls: usize,
    pub(super) sample: RecordBuffer,
    sampling: Sampling,
    pub(super) failures: Vec<Failure>,
    pub(super) num_skipped: u64,
    pub(super) started_ns: u64,
}

impl ReportWindow {
    fn new(number: u64, started_ns: u64) -> Self {
        ReportWindow {
            number,
            graph: Growing::default(),
            num_calls: 0,
            sample: RecordBuffer::default(),
            sampling: Sampling::new(2 * MAX_CLUSTER_CALLS),
            failures: Vec::new(),
            num_skipped: 0,
            started_ns,
        }
    }
}

/// A cluster's run and its counts at one moment.
pub(crate) struct ClusterSnapshot<'s> {
    pub(crate) run: &'s ClusterRun,
    /// Of runs that have ended and of live ones.
    pub(crate) names: Vec<(u16, Counts)>,
    /// Unfinished futures, without those of graphs that are shown by themselves; `None` if the
    /// cluster is gone.
    pub(crate) num_pending: Option<usize>,
}

impl ClusterSnapshot<'_> {
    pub(crate) fn is_busy(&self) -> bool {
        self.num_pending.is_some_and(|num_pending| num_pending > 0) || self.names.iter().any(|(_, it)| it.running > 0)
    }
}

impl ClusterRun {
    pub(super) fn new(cluster: &ClusterInfo, label: RunLabel) -> Self {
        let (cluster, started_ns) = (cluster.clone(), label.started_ns);
        let window = ReportWindow::new(0, started_ns);
        ClusterRun { label, cluster, last_ns: started_ns, names: Vec::new(), window, window_before: None }
    }

    /// Adds a run of futures that starts.
    pub(super) fn start(&mut self, run: RunInfo<'_>, graph: &Graph, num_calls: usize, now_ns: u64) -> ClusterPart {
        if self.window.num_calls >= MAX_CLUSTER_CALLS || self.window.graph.graph().num_tasks() >= MAX_CLUSTER_NODES {
            let next = ReportWindow::new(self.window.number + 1, now_ns);
            self.window_before = Some(mem::replace(&mut self.window, next));
        }
        self.window.num_calls += num_calls;
        let (window, first_in_window) = (self.window.number, self.window.graph.add(graph));
        ClusterPart { run: run.logical_run(), first_task: run.first_task() as u32, window, first_in_window }
    }

    /// Adds the counts and samples of a run of futures that has ended.
    pub(super) fn end(
        &mut self,
        run: &TrackedRun,
        part: ClusterPart,
        shards: Vec<(RecordBuffer, Vec<Counts>)>,
        ended_ns: u64,
    ) {
        self.last_ns = self.last_ns.max(ended_ns);
        for (&(name, _), counts) in shards.iter().flat_map(|(_, counts)| run.groups.iter().zip(counts)) {
            add_to(&mut self.names, name, counts);
        }
        let mut windows = [Some(&mut self.window), self.window_before.as_mut()].into_iter().flatten();
        let Some(window) = windows.find(|window| window.number == part.window) else { return };
        for (sample, _) in shards {
            window.sample.take_over(sample, part.run, part.first_in_window, &window.sampling);
        }
        window.num_skipped += run.num_skipped.load(Relaxed);
        let num_left = MAX_FAILURES.saturating_sub(window.failures.len());
        let failures = mem::take(&mut *run.failures.lock()).into_iter().take(num_left);
        window.failures.extend(failures.map(|failure| {
            let id = part.first_in_window as usize + failure.id;
            Failure { run: part.run, id, ..failure }
        }));
    }

    /// The window with more records, and whether no more are added to it.
    pub(super) fn larger_window(&self) -> (&ReportWindow, bool) {
        match &self.window_before {
            Some(before) if before.sample.len() > self.window.sample.len() => (before, true),
            _ => (&self.window, self.cluster.num_pending().is_none_or(|num_pending| num_pending == 0)),
        }
    }

    pub(crate) fn has_report(&self) -> bool {
        self.larger_window().0.sample.len() > 0
    }
}

/// Whether a run of futures is a graph that is worth being shown by itself.
pub(super) fn is_own_graph(run: RunInfo<'_>) -> bool {
    /// More calls than a batch of futures that a worker is given at once.
    const MANY_CALLS: usize = 1_000;
    const SOME_CALLS: usize = 12;
    let num_tasks = run.num_tasks();
    if !(SOME_CALLS..=MAX_CLUSTER_NODES).contains(&num_tasks) {
        return num_tasks > MAX_CLUSTER_NODES;
    }
    let calls = || (0..num_tasks).map(|id| run.task(id)).filter(|task| !task.is_value());
    let num_calls = calls().count();
    let has_dependencies = || calls().any(|task| task.inputs().any(|input| !run.task(input).is_value()));
    num_calls > MANY_CALLS || (num_calls >= SOME_CALLS && has_dependencies())
}
