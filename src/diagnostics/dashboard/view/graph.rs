//! Views of the graph of a run, and of tasks that wait.

use super::super::collector::{Collector, Stage, TrackedRun, cut};
use super::schema::{GraphTask, GraphView, InputView, StagesView, TaskDetails, WaitingTask, WaitingView};
use super::{Filter, Snapshot, json, seconds};
use crate::diagnostics::json::SharedStr;
use crate::diagnostics::picture::Graph;
use std::sync::Arc;

/// Tasks and dependencies of live runs up to which each update counts the ready tasks.
const MAX_COUNTED: usize = 200_000;
/// Inputs of a task that are listed.
const MAX_INPUTS: usize = 200;
/// Inputs of a task in the list of waiting tasks that are listed.
const MAX_REASONS: usize = 5;

/// The number of tasks that wait only for a worker; `None` if counting would take too long.
pub(super) fn num_ready(now: &Snapshot) -> Option<u64> {
    let graphs: Option<Vec<(&TrackedRun, &Graph)>> =
        now.live.iter().map(|(run, _)| Some((&**run, run.graph.as_deref()?))).collect();
    let graphs = graphs?;
    let size: usize = graphs.iter().map(|(_, graph)| graph.num_tasks() + graph.num_dependencies()).sum();
    let count = |(run, graph): (&TrackedRun, &Graph)| {
        let is_ready = |id: u32| graph.all_inputs(id).iter().all(|&input| run.stage(input).is_over());
        waiting_ids(run, graph).filter(|&id| is_ready(id)).count()
    };
    (size <= MAX_COUNTED).then(|| graphs.into_iter().map(count).sum::<usize>() as u64)
}

fn waiting_ids(run: &TrackedRun, graph: &Graph) -> impl Iterator<Item = u32> {
    (0..graph.num_tasks() as u32).filter(|&id| run.stage(id) == Stage::Waiting)
}

/// `/api/runs/N/graph`. `None` if the run has no graph.
pub(crate) fn graph_json(run: &TrackedRun) -> Option<String> {
    let (title, num_tasks) = (&*run.label.title, run.label.num_tasks);
    Some(json(&GraphView { run: run.id().get(), title, num_tasks, placed: run.placed()? }))
}

/// `/api/runs/N/stages`.
pub(crate) fn stages_json(collector: &Collector, run: &TrackedRun, ended_ns: Option<u64>) -> Option<String> {
    let placed = run.placed()?;
    let mut boxes = vec![[0; Stage::ALL.len()]; placed.boxes.len()];
    for (id, &number) in (0..).zip(&placed.box_of_task) {
        boxes[number as usize][run.stage(id) as usize] += 1;
    }
    let now = seconds(ended_ns.unwrap_or_else(|| collector.now_ns()));
    Some(json(&StagesView { run: run.id().get(), now, is_live: ended_ns.is_none(), stages: Stage::ALL, boxes }))
}

/// A task, with its inputs, the unfinished ones first, and the number of these.
fn graph_task(run: &TrackedRun, graph: &Graph, id: u32) -> (GraphTask, Vec<u32>) {
    let inputs = graph.all_inputs(id);
    let (mut unfinished, finished): (Vec<u32>, Vec<u32>) =
        inputs.iter().partition(|&&input| !run.stage(input).is_over());
    let num_unfinished = unfinished.len();
    unfinished.extend(finished);
    let task = GraphTask {
        run: run.id().get(),
        task: id,
        name: short(graph.name(id)),
        is_ready: run.stage(id) == Stage::Waiting && num_unfinished == 0,
        num_inputs: inputs.len(),
        num_unfinished,
    };
    (task, unfinished)
}

fn input(run: &TrackedRun, graph: &Graph, task: u32) -> InputView {
    InputView { task, name: short(graph.name(task)), stage: run.stage(task) }
}

/// The name, cut if it is long.
fn short(name: &Arc<str>) -> SharedStr {
    let short = cut(name);
    if short.len() == name.len() { name.into() } else { SharedStr(short.into()) }
}

/// `/api/runs/N/tasks/T`.
pub(crate) fn task_json(run: &TrackedRun, id: u32) -> Option<String> {
    let graph = run.graph.as_deref().filter(|graph| (id as usize) < graph.num_tasks())?;
    let (task, inputs) = graph_task(run, graph, id);
    Some(json(&TaskDetails {
        task,
        group: short(graph.family_name(graph.family(id))),
        stage: run.stage(id),
        is_output: graph.is_output(id),
        inputs: inputs.into_iter().take(MAX_INPUTS).map(|id| input(run, graph, id)).collect(),
    }))
}

/// `/api/waiting`: tasks of live runs that have not started, usually in the order in which they
/// will.
pub(crate) fn waiting_json(collector: &Collector, filter: &Filter) -> String {
    let mut tasks = Vec::new();
    let mut num_left_out = 0;
    for run in collector.live_runs().iter().filter(|run| filter.run.is_none_or(|id| id == run.id().get())) {
        let Some(graph) = run.graph.as_deref() else {
            num_left_out += 1;
            continue;
        };
        let num_left = filter.limit - tasks.len();
        tasks.extend(waiting_ids(run, graph).filter(|&id| filter.finds(graph.name(id))).take(num_left).map(|id| {
            let (task, inputs) = graph_task(run, graph, id);
            let reasons = inputs.into_iter().take(task.num_unfinished.min(MAX_REASONS));
            WaitingTask { unfinished: reasons.map(|id| input(run, graph, id)).collect(), task }
        }));
    }
    json(&WaitingView { now: seconds(collector.now_ns()), num_left_out, tasks })
}
