//! Runs: while they are live, while they have a report, and as lines of the history.

use super::clusters::ClusterPart;
use super::counts::Counts;
use super::limits::{MAX_BOXES, MAX_GRAPH, MAX_RECORDS, cut};
use crate::diagnostics::picture::{Direction, Graph, Placed};
use crate::diagnostics::profile::{Failure, Record, RecordBuffer, Sampling};
use crate::engine::callback::{RunHandle, RunId, RunInfo};
use crate::error::Error;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// The stages of a task, as the API names them. One byte each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub(crate) enum Stage {
    Waiting,
    Running,
    Finished,
    Failed,
    Skipped,
    Cancelled,
}

impl Stage {
    pub(crate) const ALL: [Stage; 6] =
        [Stage::Waiting, Stage::Running, Stage::Finished, Stage::Failed, Stage::Skipped, Stage::Cancelled];

    /// Whether dependents no longer wait for the task.
    pub(crate) fn is_over(self) -> bool {
        !matches!(self, Stage::Waiting | Stage::Running)
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunOutcome {
    Finished,
    Failed,
    Cancelled,
}

impl RunOutcome {
    pub(crate) fn word(self) -> &'static str {
        ["finished", "failed", "cancelled"][self as usize]
    }
}

/// The facts about a run that never change.
#[derive(Clone, Debug)]
pub(crate) struct RunLabel {
    pub(crate) id: RunId,
    pub(crate) parent: Option<RunId>,
    pub(crate) title: Arc<str>,
    pub(crate) scheduler: Arc<str>,
    pub(crate) num_tasks: usize,
    /// Since the start of the dashboard.
    pub(crate) started_ns: u64,
}

/// A run while it is live and as long as it has a report.
#[derive(Debug)]
pub(crate) struct TrackedRun {
    pub(crate) label: RunLabel,
    /// For each task the index of its group in `groups`.
    pub(super) group_of_task: Vec<u16>,
    /// The ids of names, and how many tasks have each.
    pub(crate) groups: Vec<(u16, u64)>,
    /// `None` if the run is larger than [`MAX_GRAPH`], or a part of a cluster's run.
    pub(crate) graph: Option<Arc<Graph>>,
    /// A [`Stage`] for each task of `graph`. Relaxed: a page that misses one task is right a moment
    /// later.
    stages: Box<[AtomicU8]>,
    pub(super) num_skipped: AtomicU64,
    pub(super) sampling: Sampling,
    pub(super) failures: Mutex<Vec<Failure>>,
    placed: OnceLock<Placed>,
    pub(super) handle: RunHandle,
    /// Set if the run is shown as a part of its cluster's run.
    pub(super) part: Option<ClusterPart>,
    /// Set if the run computes futures and is shown by itself: the cluster's run, and the tasks
    /// that are futures.
    promised: Option<(RunId, Box<[u32]>)>,
}

impl TrackedRun {
    pub(super) fn new(
        run: RunInfo<'_>,
        label: RunLabel,
        graph: Graph,
        handle: RunHandle,
        part: Option<ClusterPart>,
        (group_of_task, groups): (Vec<u16>, Vec<(u16, u64)>),
    ) -> Self {
        let own_graph = run.cluster().filter(|_| part.is_none());
        let promised = own_graph.map(|cluster| (cluster.run(), graph.outputs().into()));
        let graph =
            Some(graph).filter(|graph| part.is_none() && graph.num_tasks() + graph.num_dependencies() <= MAX_GRAPH);
        let num_stages = graph.as_ref().map_or(0, Graph::num_tasks);
        TrackedRun {
            label,
            group_of_task,
            groups,
            graph: graph.map(Arc::new),
            stages: (0..num_stages).map(|_| AtomicU8::new(Stage::Waiting as u8)).collect(),
            num_skipped: AtomicU64::new(0),
            sampling: Sampling::new(MAX_RECORDS),
            failures: Mutex::default(),
            placed: OnceLock::new(),
            handle,
            part,
            promised,
        }
    }

    pub(crate) fn id(&self) -> RunId {
        self.label.id
    }

    /// The ids under which one of its tasks is shown: that of the run, and that of the task.
    pub(super) fn shown(&self, task: u32) -> (RunId, u32) {
        self.part.map_or((self.id(), task), |part| (part.run, part.first_task.wrapping_add(task)))
    }

    /// Whether it is shown as a part of its cluster's run.
    pub(crate) fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// How many unfinished futures of this cluster it computes, if it is shown by itself.
    pub(super) fn num_promised(&self, cluster: RunId) -> usize {
        let outputs = self.promised.as_ref().filter(|(of, _)| *of == cluster).map(|(_, outputs)| outputs);
        outputs.map_or(0, |outputs| outputs.iter().filter(|&&id| !self.stage(id).is_over()).count())
    }

    pub(super) fn set_stage(&self, task: usize, stage: Stage) {
        if let Some(current) = self.stages.get(task) {
            current.store(stage as u8, Relaxed);
        }
    }

    /// `Waiting` for a run without a graph.
    pub(crate) fn stage(&self, task: u32) -> Stage {
        self.stages.get(task as usize).map_or(Stage::Waiting, |stage| Stage::ALL[stage.load(Relaxed) as usize])
    }

    /// The layout of the graph. Takes some milliseconds the first time.
    pub(crate) fn placed(&self) -> Option<&Placed> {
        let graph = self.graph.as_ref()?;
        Some(self.placed.get_or_init(|| Placed::of(graph, MAX_BOXES, Direction::Right)))
    }
}

/// A run that has ended.
#[derive(Clone, Debug)]
pub(crate) struct RunRecord {
    pub(crate) label: RunLabel,
    pub(crate) ended_ns: u64,
    pub(crate) outcome: RunOutcome,
    pub(crate) error: Option<Arc<str>>,
    pub(crate) counts: Counts,
}

/// The material of the report on a run that has ended.
pub(super) struct ReportData {
    pub(super) run: Arc<TrackedRun>,
    pub(super) samples: Vec<RecordBuffer>,
    pub(super) ended_ns: u64,
    pub(super) error: Option<Error>,
}

impl ReportData {
    /// About how much memory it takes.
    pub(super) fn num_bytes(&self) -> usize {
        let num_records: usize = self.samples.iter().map(RecordBuffer::len).sum();
        let graph = self.run.graph.as_ref().map_or(0, |graph| graph.num_bytes());
        graph + 3 * self.run.label.num_tasks + num_records * size_of::<Record>()
    }
}

/// The name of a run by its outputs.
pub(super) fn title_of(graph: &Graph) -> String {
    match graph.outputs() {
        [] => "nothing".to_owned(),
        [output] => cut(graph.name(*output)).to_owned(),
        [first, others @ ..] => format!("{} and {} more", cut(graph.name(*first)), others.len()),
    }
}
