//! The JSON of the API. `docs/dashboard.md` describes the fields.

use super::super::collector::{Counts, HeldValues, RunLabel, Stage, seconds};
use crate::diagnostics::json::SharedStr;
use crate::diagnostics::picture::Placed;
use serde::Serialize;

/// `/api/status`.
#[derive(Serialize)]
pub(super) struct StatusView<'a> {
    pub(super) version: u32,
    pub(super) program: &'a str,
    pub(super) pid: u32,
    pub(super) started: f64,
    pub(super) now: f64,
    pub(super) runs: NumRuns,
    pub(super) tasks: TaskTotals,
    pub(super) machine: MachineView,
    pub(super) values: HeldValues,
    pub(super) live: Vec<RunView>,
    pub(super) running: Vec<TaskView>,
    pub(super) workers: Vec<WorkerView>,
}

/// An event of `/api/events`: the state, and the events since the update before.
#[derive(Serialize)]
pub(super) struct UpdateView<'a> {
    #[serde(flatten)]
    pub(super) status: StatusView<'a>,
    /// The update has all kept events, not only the new ones.
    pub(super) reset: bool,
    /// The number of the last ended attempt.
    pub(super) last_task: u64,
    pub(super) last_event: u64,
    /// New ended attempts that are not in `ended`.
    pub(super) omitted: u64,
    pub(super) ended: Vec<TaskView>,
    pub(super) log: Vec<LogView>,
}

/// `/api/runs`.
#[derive(Serialize)]
pub(super) struct RunsView {
    pub(super) now: f64,
    pub(super) counts: NumRuns,
    pub(super) runs: Vec<RunView>,
}

/// `/api/tasks`.
#[derive(Serialize)]
pub(super) struct TasksView {
    pub(super) now: f64,
    pub(super) seen: u64,
    pub(super) kept: usize,
    pub(super) lost: u64,
    pub(super) tasks: Vec<TaskView>,
}

/// `/api/workers`.
#[derive(Serialize)]
pub(super) struct WorkersView {
    pub(super) now: f64,
    pub(super) forgotten: u64,
    pub(super) workers: Vec<WorkerView>,
}

/// `/api/log`.
#[derive(Serialize)]
pub(super) struct LogLines {
    pub(super) now: f64,
    pub(super) seen: u64,
    pub(super) events: Vec<LogView>,
}

#[derive(Serialize)]
pub(super) struct NumRuns {
    pub(super) running: usize,
    pub(super) finished: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
}

#[derive(Serialize)]
pub(super) struct TaskTotals {
    pub(super) waiting: u64,
    pub(super) ready: Option<u64>,
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) names: Vec<NameView>,
}

#[derive(Serialize)]
pub(super) struct MachineView {
    pub(super) cpus: f64,
    pub(super) num_cpus: usize,
    pub(super) memory: u64,
    pub(super) total_memory: Option<u64>,
    pub(super) num_processes: usize,
}

/// The counts of the tasks of one name.
#[derive(Serialize)]
pub(super) struct NameView {
    pub(super) name: SharedStr,
    /// The number of tasks of this name in the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<u64>,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

#[derive(Serialize)]
pub(super) struct RunView {
    pub(super) id: u64,
    pub(super) kind: &'static str,
    pub(super) parent: Option<u64>,
    pub(super) title: SharedStr,
    pub(super) scheduler: SharedStr,
    pub(super) state: &'static str,
    pub(super) num_tasks: u64,
    pub(super) started: f64,
    pub(super) ended: Option<f64>,
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) error: Option<SharedStr>,
    pub(super) has_graph: bool,
    pub(super) has_report: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) names: Vec<NameView>,
}

impl RunView {
    /// A live run without a graph and a report.
    pub(super) fn new(label: &RunLabel, counts: Counts) -> Self {
        RunView {
            id: label.id.get(),
            kind: "run",
            parent: label.parent.map(|parent| parent.get()),
            title: (&label.title).into(),
            scheduler: (&label.scheduler).into(),
            state: "running",
            num_tasks: label.num_tasks as u64,
            started: seconds(label.started_ns),
            ended: None,
            counts,
            error: None,
            has_graph: false,
            has_report: false,
            names: Vec::new(),
        }
    }
}

/// An attempt, running or ended.
#[derive(Serialize)]
pub(super) struct TaskView {
    pub(super) run: u64,
    pub(super) task: u32,
    pub(super) name: SharedStr,
    pub(super) group: SharedStr,
    pub(super) worker: String,
    pub(super) started: f64,
    pub(super) attempt: u32,
    #[serde(flatten)]
    pub(super) end: Option<TaskEndView>,
}

#[derive(Serialize)]
pub(super) struct TaskEndView {
    pub(super) seq: u64,
    pub(super) state: &'static str,
    pub(super) ended: f64,
}

#[derive(Serialize)]
pub(super) struct LogView {
    pub(super) seq: u64,
    pub(super) at: f64,
    pub(super) kind: &'static str,
    pub(super) run: Option<u64>,
    pub(super) text: SharedStr,
}

#[derive(Serialize)]
pub(super) struct WorkerView {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) thread: u32,
    pub(super) kind: &'static str,
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) first_seen: f64,
    pub(super) last_seen: f64,
    pub(super) lost: Option<SharedStr>,
    pub(super) is_gone: bool,
    pub(super) can_restart: bool,
    pub(super) restarts: u32,
    pub(super) cpus: Option<f64>,
    pub(super) memory: Option<u64>,
    pub(super) own_memory: Option<u64>,
    pub(super) memory_limit: Option<u64>,
    pub(super) last_error: Option<SharedStr>,
    pub(super) output: Option<SharedStr>,
}

/// `/api/runs/N/graph`.
#[derive(Serialize)]
pub(super) struct GraphView<'a> {
    pub(super) run: u64,
    pub(super) title: &'a str,
    pub(super) num_tasks: usize,
    #[serde(flatten)]
    pub(super) placed: &'a Placed,
}

/// `/api/runs/N/stages`.
#[derive(Serialize)]
pub(super) struct StagesView {
    pub(super) run: u64,
    pub(super) now: f64,
    pub(super) is_live: bool,
    pub(super) stages: [Stage; 6],
    /// For each box, the number of its tasks in each of `stages`.
    pub(super) boxes: Vec<[u32; 6]>,
}

/// `/api/runs/N/tasks/T`.
#[derive(Serialize)]
pub(super) struct TaskDetails {
    #[serde(flatten)]
    pub(super) task: GraphTask,
    pub(super) group: SharedStr,
    pub(super) stage: Stage,
    pub(super) is_output: bool,
    /// The unfinished ones first.
    pub(super) inputs: Vec<InputView>,
}

/// `/api/waiting`.
#[derive(Serialize)]
pub(super) struct WaitingView {
    pub(super) now: f64,
    /// Live runs that are too large to be searched.
    pub(super) num_left_out: usize,
    pub(super) tasks: Vec<WaitingTask>,
}

#[derive(Serialize)]
pub(super) struct WaitingTask {
    #[serde(flatten)]
    pub(super) task: GraphTask,
    pub(super) unfinished: Vec<InputView>,
}

/// A task of a graph.
#[derive(Serialize)]
pub(super) struct GraphTask {
    pub(super) run: u64,
    pub(super) task: u32,
    pub(super) name: SharedStr,
    pub(super) is_ready: bool,
    pub(super) num_inputs: usize,
    pub(super) num_unfinished: usize,
}

/// A task as an input of another.
#[derive(Serialize)]
pub(super) struct InputView {
    pub(super) task: u32,
    pub(super) name: SharedStr,
    pub(super) stage: Stage,
}
