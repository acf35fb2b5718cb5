//! What the dashboard says: JSON of the collector's state, as `docs/dashboard.md` has it, and metrics as text.
//!
//! Who asks, however often, holds no run up: what is said is taken under the lock of the store, by handles of texts, and made into text when
//! the lock is free again.

use super::collector::{
    ClusterNow, Collector, Counts, EventRecord, KnownRun, Now, OTHER, RunRecord, Stage, Store, TaskRecord, Values,
};
use super::resources::Sum;
use crate::diagnostics::json::{SharedStr, rounded, to_string as json};
use crate::diagnostics::picture::Graph;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Live runs that are shown with their names.
const MAX_LIVE: usize = 20;
/// Running tasks that are listed.
const MAX_RUNNING: usize = 200;
/// Ended tasks in one update. When there are more, the longest are sent: they are what can be seen.
const MAX_STREAM: usize = 300;
/// Ended tasks in the first update of a page.
const MAX_WHOLE: usize = 1_500;
/// Lines of the log in one update.
const MAX_LOG: usize = 100;
/// Tasks and dependencies of live runs that are looked at for each update, to count what is ready.
const MAX_COUNTED: usize = 200_000;
/// Inputs of a task that are listed.
const MAX_INPUTS: usize = 200;
/// Inputs that are listed of a task that waits, among others.
const MAX_REASONS: usize = 5;

#[derive(Serialize)]
struct Tasks {
    running: i64,
    waiting: i64,
    ready: Option<u64>,
    #[serde(flatten)]
    ended: Ended,
    names: Vec<Name>,
}

#[derive(Serialize)]
struct Machine {
    cpus: f64,
    num_cpus: usize,
    memory: u64,
    total_memory: Option<u64>,
    num_processes: usize,
}

#[derive(Clone, Copy, Serialize)]
struct Ended {
    finished: u64,
    failed: u64,
    retried: u64,
    cancelled: u64,
    skipped: u64,
}

impl From<&Counts> for Ended {
    fn from(counts: &Counts) -> Self {
        let &Counts { finished, failed, retried, cancelled, skipped, .. } = counts;
        Ended { finished, failed, retried, cancelled, skipped }
    }
}

#[derive(Serialize)]
struct Name {
    name: SharedStr,
    running: i64,
    #[serde(flatten)]
    ended: Ended,
    busy: f64,
}

#[derive(Serialize)]
struct Group {
    name: SharedStr,
    total: u64,
    running: i64,
    #[serde(flatten)]
    ended: Ended,
    busy: f64,
}

#[derive(Serialize)]
struct Run {
    id: u64,
    kind: &'static str,
    parent: Option<u64>,
    title: SharedStr,
    scheduler: SharedStr,
    state: &'static str,
    num_tasks: usize,
    started: f64,
    ended: Option<f64>,
    running: i64,
    #[serde(flatten)]
    counts: Ended,
    busy: f64,
    error: Option<SharedStr>,
    has_graph: bool,
    has_report: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<Group>,
}

#[derive(Serialize)]
struct RunningTask {
    run: u64,
    task: u32,
    name: SharedStr,
    group: SharedStr,
    worker: String,
    started: f64,
    attempt: u32,
}

/// One ended attempt.
#[derive(Serialize)]
struct Task {
    seq: u64,
    run: u64,
    task: u32,
    name: SharedStr,
    group: SharedStr,
    worker: String,
    state: &'static str,
    started: f64,
    ended: f64,
    attempt: u32,
}

#[derive(Serialize)]
struct Event {
    seq: u64,
    at: f64,
    kind: &'static str,
    run: Option<u64>,
    text: SharedStr,
}

#[derive(Serialize)]
struct Worker {
    name: String,
    pid: u32,
    thread: u32,
    kind: &'static str,
    running: i64,
    #[serde(flatten)]
    ended: Ended,
    busy: f64,
    first_seen: f64,
    last_seen: f64,
    lost: Option<SharedStr>,
    is_gone: bool,
    can_restart: bool,
    restarts: u32,
    cpus: Option<f64>,
    memory: Option<u64>,
    own_memory: Option<u64>,
    memory_limit: Option<u64>,
    last_error: Option<SharedStr>,
    output: Option<SharedStr>,
}

#[derive(Serialize)]
struct NumRuns {
    running: usize,
    finished: u64,
    failed: u64,
    cancelled: u64,
}

#[derive(Serialize)]
struct Status<'a> {
    version: u32,
    program: &'a str,
    pid: u32,
    started: f64,
    now: f64,
    runs: NumRuns,
    tasks: Tasks,
    machine: Machine,
    values: Values,
    live: Vec<Run>,
    running: Vec<RunningTask>,
    workers: Vec<Worker>,
}

/// What a page is sent: the state, and what has happened since the update before.
#[derive(Serialize)]
struct Update<'a> {
    #[serde(flatten)]
    status: Status<'a>,
    /// Everything that is kept is in it, not only what is new.
    reset: bool,
    /// The number of the last ended task.
    last_task: u64,
    last_event: u64,
    /// Ended tasks that are new and not in `ended`.
    omitted: u64,
    ended: Vec<Task>,
    log: Vec<Event>,
}

/// How far somebody has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) task: u64,
    pub(super) event: u64,
}

/// Microseconds are as exact as anybody needs.
fn seconds(ns: u64) -> f64 {
    (ns / 1_000) as f64 / 1e6
}

fn sum(counts: &[Counts]) -> Counts {
    let mut sum = Counts::default();
    counts.iter().for_each(|counts| sum.add(counts));
    sum
}

fn live_run(store: &Store, run: &KnownRun, counts: &[Counts]) -> Run {
    let total = sum(counts);
    let group = |(&(number, total), counts): (&(u16, u64), &Counts)| Group {
        name: SharedStr::from(&store.names[number as usize]),
        total,
        running: counts.running,
        ended: counts.into(),
        busy: seconds(counts.busy_ns),
    };
    Run {
        id: run.id,
        kind: "run",
        parent: run.parent,
        title: SharedStr::from(&run.title),
        scheduler: SharedStr::from(&run.scheduler),
        state: "running",
        num_tasks: run.num_tasks,
        started: seconds(run.started_ns),
        ended: None,
        running: total.running,
        counts: (&total).into(),
        busy: seconds(total.busy_ns),
        error: None,
        has_graph: run.graph.is_some(),
        has_report: run.graph.is_some(),
        names: run.groups.iter().zip(counts).map(group).collect(),
    }
}

/// The futures of a cluster, as one run.
fn cluster_run_view(store: &Store, now: &ClusterNow<'_>) -> Run {
    let cluster_run = now.cluster_run;
    let mut total = Counts::default();
    now.names.iter().for_each(|(_, counts)| total.add(counts));
    let group = |(number, counts): &(u16, Counts)| Group {
        name: SharedStr::from(&store.names[*number as usize]),
        total: num_over(counts) + counts.running.max(0) as u64,
        running: counts.running,
        ended: counts.into(),
        busy: seconds(counts.busy_ns),
    };
    let is_running = num_open(now, &total) > 0;
    Run {
        id: cluster_run.id.get(),
        kind: "futures",
        parent: None,
        title: SharedStr::from(&cluster_run.title),
        scheduler: SharedStr::from(&cluster_run.scheduler),
        state: match (is_running, now.num_pending) {
            (true, _) => "running",
            (false, Some(_)) => "idle",
            (false, None) => "finished",
        },
        num_tasks: (num_over(&total) + num_open(now, &total)) as usize,
        started: seconds(cluster_run.started_ns),
        ended: (!is_running).then(|| seconds(cluster_run.last_ns)),
        running: total.running,
        counts: (&total).into(),
        busy: seconds(total.busy_ns),
        error: None,
        has_graph: false,
        has_report: cluster_run.has_report(),
        names: now.names.iter().map(group).collect(),
    }
}

/// Tasks that have come to their end.
fn num_over(counts: &Counts) -> u64 {
    counts.finished + counts.failed + counts.skipped
}

/// Tasks of a cluster that have not come to their end.
fn num_open(now: &ClusterNow<'_>, total: &Counts) -> u64 {
    (total.running.max(0) as u64).max(now.num_pending.unwrap_or(0) as u64)
}

fn is_busy(now: &ClusterNow<'_>) -> bool {
    now.num_pending.is_some_and(|num_pending| num_pending > 0) || now.names.iter().any(|(_, it)| it.running > 0)
}

fn ended_run(store: &Store, run: &RunRecord) -> Run {
    let is_kept = store.has_report(run.id);
    Run {
        id: run.id,
        kind: "run",
        parent: run.parent,
        title: SharedStr::from(&run.title),
        scheduler: SharedStr::from(&run.scheduler),
        state: run.outcome.as_str(),
        num_tasks: run.num_tasks,
        started: seconds(run.started_ns),
        ended: Some(seconds(run.ended_ns)),
        running: 0,
        counts: (&run.counts).into(),
        busy: seconds(run.counts.busy_ns),
        error: run.error.as_ref().map(SharedStr::from),
        has_graph: is_kept,
        has_report: is_kept,
        names: Vec::new(),
    }
}

fn task(store: &Store, (seq, record): &(u64, TaskRecord)) -> Task {
    Task {
        seq: *seq,
        run: record.run,
        task: record.task,
        name: store.name_of(record.name.as_ref(), record.group).into(),
        group: (&store.names[record.group as usize]).into(),
        worker: record.worker.to_string(),
        state: record.state.as_str(),
        started: seconds(record.started_ns),
        ended: seconds(record.ended_ns),
        attempt: record.attempt,
    }
}

fn event(record: &EventRecord) -> Event {
    let text = SharedStr::from(&record.text);
    Event { seq: record.seq, at: seconds(record.at_ns), kind: record.kind, run: record.run, text }
}

fn workers(collector: &Collector, now: &Now) -> Vec<Worker> {
    now.workers
        .iter()
        .map(|tally| {
            let (id, counts) = (tally.worker, &tally.counts);
            // Threads of this process have no memory of their own.
            let process = if id.is_here() { None } else { collector.resources.of(id.pid()) };
            let is_gone = !id.is_here() && tally.lost.is_none() && process.is_none();
            let process = process.filter(|_| tally.lost.is_none());
            let running = now.running.iter().filter(|running| running.worker == id);
            let so_far_ns: u64 = running.map(|running| now.now_ns.saturating_sub(running.started_ns)).sum();
            // One that was only just started may not have been looked at.
            let is_gone = is_gone && counts.running <= 0 && now.now_ns.saturating_sub(tally.first_ns) > 2_000_000_000;
            Worker {
                name: id.to_string(),
                pid: id.pid(),
                thread: id.thread(),
                kind: if id.is_here() { "thread" } else { "process" },
                running: counts.running.max(0),
                ended: counts.into(),
                busy: seconds(counts.busy_ns + so_far_ns),
                first_seen: seconds(tally.first_ns),
                last_seen: seconds(if so_far_ns > 0 { now.now_ns } else { tally.last_ns }),
                lost: tally.lost.as_ref().map(SharedStr::from),
                is_gone,
                can_restart: tally.handle.is_some() && tally.lost.is_none() && !is_gone,
                restarts: tally.restarts,
                cpus: process.and_then(|process| process.cpus),
                memory: process.map(|process| process.memory_bytes),
                own_memory: process.map(|process| process.own_bytes),
                memory_limit: tally.memory_limit,
                last_error: tally.error.as_ref().map(SharedStr::from),
                output: tally.output.as_ref().map(SharedStr::from),
            }
        })
        .collect()
}

/// Counts by name over all runs, ended and live.
fn by_name(store: &Store, now: &Now) -> Vec<Counts> {
    let mut totals = store.totals.clone();
    for (run, counts) in now.live.iter().chain(&now.parts) {
        for (&(number, _), counts) in run.groups.iter().zip(counts) {
            totals[number as usize].add(counts);
        }
    }
    totals
}

/// The futures of a cluster are a run that goes on while there are some.
fn num_runs(store: &Store, now: &Now) -> NumRuns {
    let [finished, failed, cancelled] = store.num_runs;
    let num_crowds = now.cluster_runs(store).iter().filter(|cluster_run| is_busy(cluster_run)).count();
    NumRuns { running: now.live.len() + num_crowds, finished, failed, cancelled }
}

/// The state, but for what [`complete`] adds.
fn status<'a>(collector: &Collector, program: &'a str, store: &Store, now: &Now) -> Status<'a> {
    let totals = by_name(store, now);
    let all = sum(&totals);
    let mut names: Vec<Name> = (totals.iter().enumerate())
        .filter(|(_, counts)| {
            counts.running > 0 || counts.finished + counts.failed + counts.retried + counts.skipped > 0
        })
        .map(|(number, counts)| Name {
            name: SharedStr::from(&store.names[number]),
            running: counts.running,
            ended: counts.into(),
            busy: seconds(counts.busy_ns),
        })
        .collect();
    names.sort_by(|a, b| b.busy.total_cmp(&a.busy));
    let waiting = now.live.iter().map(|(run, counts)| {
        let counts = sum(counts);
        let known = counts.finished + counts.failed + counts.skipped;
        run.num_tasks as i64 - known as i64 - counts.running.max(0)
    });
    let cluster_runs = now.cluster_runs(store);
    let mut num_waiting = waiting.sum::<i64>().max(0);
    for cluster_run in &cluster_runs {
        let num_running: i64 = cluster_run.names.iter().map(|(_, counts)| counts.running.max(0)).sum();
        num_waiting += (cluster_run.num_pending.unwrap_or(0) as i64 - num_running).max(0);
    }
    let of_futures = cluster_runs
        .iter()
        .filter(|cluster_run| is_busy(cluster_run))
        .map(|cluster_run| cluster_run_view(store, cluster_run));
    let running = now.running.iter().take(MAX_RUNNING).map(|running| RunningTask {
        run: running.run,
        task: running.task,
        name: store.name_of(running.name.as_ref(), running.group).into(),
        group: (&store.names[running.group as usize]).into(),
        worker: running.worker.to_string(),
        started: seconds(running.started_ns),
        attempt: running.attempt,
    });
    let used: Sum = collector.resources.sum();
    Status {
        version: 1,
        program,
        pid: std::process::id(),
        started: collector.started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64 / 1e3),
        now: seconds(now.now_ns),
        runs: num_runs(store, now),
        tasks: Tasks { running: all.running.max(0), waiting: num_waiting, ready: None, ended: (&all).into(), names },
        machine: Machine {
            cpus: used.cpus,
            num_cpus: collector.resources.num_cpus,
            memory: used.memory_bytes,
            total_memory: collector.resources.total_memory_bytes,
            num_processes: used.num_processes,
        },
        values: collector.values(store),
        live: of_futures
            .chain(now.live.iter().map(|(run, counts)| live_run(store, run, counts)))
            .take(MAX_LIVE)
            .collect(),
        running: running.collect(),
        workers: Vec::new(),
    }
}

/// Adds what is asked of the live runs and of the system alone, so that nobody waits for it.
fn complete(status: &mut Status<'_>, collector: &Collector, now: &Now) {
    status.tasks.ready = num_ready(now);
    status.workers = workers(collector, now);
}

/// How many tasks wait for nothing but a worker; `None` if counting would take too long.
fn num_ready(now: &Now) -> Option<u64> {
    let graphs: Option<Vec<(&KnownRun, &Graph)>> =
        now.live.iter().map(|(run, _)| Some((&**run, run.graph.as_deref()?))).collect();
    let graphs = graphs?;
    let size: usize = graphs.iter().map(|(_, graph)| graph.num_tasks() + graph.num_dependencies()).sum();
    let count = |(run, graph): (&KnownRun, &Graph)| {
        (0..graph.num_tasks() as u32).filter(|&id| run.stage(id) == Stage::Waiting && is_ready(run, graph, id)).count()
    };
    (size <= MAX_COUNTED).then(|| graphs.into_iter().map(count).sum::<usize>() as u64)
}

fn is_ready(run: &KnownRun, graph: &Graph, id: u32) -> bool {
    graph.all_inputs(id).iter().all(|&input| run.stage(input).is_over())
}

/// `/api/status`.
pub(super) fn status_json(collector: &Collector, program: &str) -> String {
    collector.look_at_resources();
    let (mut status, now) = collector.look(|store, now| (status(collector, program, store, &now), now));
    complete(&mut status, collector, &now);
    json(&status)
}

/// An update for the pages, how far it tells, and whether there are live runs. Without `since` it has all that fits.
pub(super) fn update_json(collector: &Collector, program: &str, since: Option<Told>) -> (String, Told, bool) {
    collector.look_at_resources();
    let (mut update, told, now) = collector.look(|store, now| {
        let told = Told { task: store.num_seen, event: store.num_events };
        let after = since.unwrap_or_default();
        let mut new: Vec<&(u64, TaskRecord)> = store.tasks.iter().rev().take_while(|it| it.0 > after.task).collect();
        let most = if since.is_some() { MAX_STREAM } else { MAX_WHOLE };
        if new.len() > most {
            if since.is_some() {
                new.sort_by_key(|(_, record)| std::cmp::Reverse(record.ended_ns.saturating_sub(record.started_ns)));
            }
            new.truncate(most);
        }
        new.sort_by_key(|(seq, _)| *seq);
        let omitted = (told.task - after.task).saturating_sub(new.len() as u64);
        let mut log: Vec<Event> =
            store.events.iter().rev().take_while(|it| it.seq > after.event).take(MAX_LOG).map(event).collect();
        log.reverse();
        let update = Update {
            status: status(collector, program, store, &now),
            reset: since.is_none(),
            last_task: told.task,
            last_event: told.event,
            omitted,
            ended: new.into_iter().map(|it| task(store, it)).collect(),
            log,
        };
        (update, told, now)
    });
    complete(&mut update.status, collector, &now);
    (json(&update), told, !now.live.is_empty() || !now.parts.is_empty())
}

/// `/api/runs`: the newest first.
pub(super) fn runs_json(collector: &Collector) -> String {
    #[derive(Serialize)]
    struct Runs {
        now: f64,
        counts: NumRuns,
        runs: Vec<Run>,
    }
    let mut all = collector.look(|store, now| {
        let live = now.live.iter().rev().map(|(run, counts)| Run { names: Vec::new(), ..live_run(store, run, counts) });
        let mut runs: Vec<Run> = live.take(super::collector::MAX_RUNS).collect();
        runs.extend(store.runs.iter().rev().map(|run| ended_run(store, run)));
        let cluster_runs = now.cluster_runs(store);
        runs.extend(
            cluster_runs.iter().map(|cluster_run| Run { names: Vec::new(), ..cluster_run_view(store, cluster_run) }),
        );
        Runs { now: seconds(now.now_ns), counts: num_runs(store, &now), runs }
    });
    // Those that go on first, the newest first; then those that did something last.
    all.runs.sort_by(|a, b| match (a.ended, b.ended) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (None, None) => b.id.cmp(&a.id),
        (a, b) => a.is_some().cmp(&b.is_some()),
    });
    json(&all)
}

/// Which tasks are asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) limit: usize,
    pub(super) state: Option<String>,
    /// In lower case.
    pub(super) search: Option<String>,
    pub(super) run: Option<u64>,
}

/// `/api/tasks`: the newest first.
pub(super) fn tasks_json(collector: &Collector, filter: &Filter) -> String {
    #[derive(Serialize)]
    struct Tasks {
        now: f64,
        seen: u64,
        kept: usize,
        lost: u64,
        tasks: Vec<Task>,
    }
    let tasks = collector.look(|store, now| {
        let is_wanted = |record: &TaskRecord| {
            filter.state.as_ref().is_none_or(|state| state == record.state.as_str())
                && filter.run.is_none_or(|run| run == record.run)
                && filter.search.as_ref().is_none_or(|search| {
                    store.name_of(record.name.as_ref(), record.group).to_lowercase().contains(search)
                        || record.worker.to_string().contains(search)
                })
        };
        let wanted = store.tasks.iter().rev().filter(|(_, record)| is_wanted(record)).take(filter.limit);
        Tasks {
            now: seconds(now.now_ns),
            seen: store.num_seen + store.overwritten,
            kept: store.tasks.len(),
            lost: store.overwritten,
            tasks: wanted.map(|it| task(store, it)).collect(),
        }
    });
    json(&tasks)
}

/// `/api/workers`.
pub(super) fn workers_json(collector: &Collector) -> String {
    #[derive(Serialize)]
    struct Workers {
        now: f64,
        forgotten: u64,
        workers: Vec<Worker>,
    }
    collector.look_at_resources();
    let now = collector.look(|_, now| now);
    let (forgotten, workers) = (now.num_forgotten, workers(collector, &now));
    json(&Workers { now: seconds(now.now_ns), forgotten, workers })
}

/// `/api/log`: the newest first.
pub(super) fn log_json(collector: &Collector) -> String {
    #[derive(Serialize)]
    struct Log {
        now: f64,
        seen: u64,
        events: Vec<Event>,
    }
    let log = collector.look(|store, now| {
        let events = store.events.iter().rev().map(event).collect();
        Log { now: seconds(now.now_ns), seen: store.num_events, events }
    });
    json(&log)
}

/// `/api/runs/N/graph`: how it is drawn. `None` if its graph is not remembered.
pub(super) fn graph_json(run: &KnownRun) -> Option<String> {
    #[derive(Serialize)]
    struct Graph<'a> {
        run: u64,
        title: &'a str,
        num_tasks: usize,
        is_collapsed: bool,
        width: f64,
        height: f64,
        boxes: Vec<Box<'a>>,
        edges: Vec<Edge<'a>>,
    }
    #[derive(Serialize)]
    struct Box<'a> {
        name: &'a str,
        label: &'a str,
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        /// If it stands for one.
        task: Option<u32>,
        num_tasks: u32,
        is_output: bool,
        is_value: bool,
        is_local: bool,
    }
    #[derive(Serialize)]
    struct Edge<'a> {
        path: &'a str,
        has_values: bool,
        count: Option<usize>,
        x: Option<f64>,
        y: Option<f64>,
    }
    let placed = run.placed()?;
    let mut tasks = vec![(0, None); placed.boxes.len()];
    for (id, &number) in (0..).zip(&placed.box_of_task) {
        let (num_tasks, first) = &mut tasks[number as usize];
        *num_tasks += 1;
        first.get_or_insert(id);
    }
    let tenths = |number: f64| rounded(number, 1);
    let boxes = placed.boxes.iter().zip(tasks).map(|(it, (num_tasks, first))| Box {
        name: &it.name,
        label: &it.label,
        x: tenths(it.x),
        y: tenths(it.y),
        width: tenths(it.width),
        height: tenths(it.height),
        task: first.filter(|_| num_tasks == 1),
        num_tasks,
        is_output: it.is_output,
        is_value: it.is_value,
        is_local: it.is_local,
    });
    let edges = placed.edges.iter().map(|edge| Edge {
        path: &edge.path,
        has_values: edge.has_values,
        count: edge.count.map(|it| it.0),
        x: edge.count.map(|it| tenths(it.1)),
        y: edge.count.map(|it| tenths(it.2)),
    });
    Some(json(&Graph {
        run: run.id,
        title: &run.title,
        num_tasks: run.num_tasks,
        is_collapsed: placed.is_collapsed,
        width: tenths(placed.width),
        height: tenths(placed.height),
        boxes: boxes.collect(),
        edges: edges.collect(),
    }))
}

/// `/api/runs/N/stages`: for each box of the graph how many of its tasks are in which stage.
pub(super) fn stages_json(collector: &Collector, run: &KnownRun, ended_ns: Option<u64>) -> Option<String> {
    #[derive(Serialize)]
    struct Stages {
        run: u64,
        now: f64,
        is_live: bool,
        /// In this order.
        stages: Vec<&'static str>,
        boxes: Vec<Vec<u32>>,
    }
    const STAGES: [Stage; 6] =
        [Stage::Waiting, Stage::Running, Stage::Finished, Stage::Failed, Stage::Skipped, Stage::Cancelled];
    let placed = run.placed()?;
    let mut boxes = vec![vec![0; STAGES.len()]; placed.boxes.len()];
    for (id, &number) in (0..).zip(&placed.box_of_task) {
        boxes[number as usize][run.stage(id) as usize] += 1;
    }
    let stages = STAGES.map(Stage::as_str).to_vec();
    let now = seconds(ended_ns.unwrap_or_else(|| collector.now_ns()));
    Some(json(&Stages { run: run.id, now, is_live: ended_ns.is_none(), stages, boxes }))
}

/// A task as an input of another.
#[derive(Serialize)]
struct Input {
    task: u32,
    name: SharedStr,
    stage: &'static str,
}

fn input(run: &KnownRun, graph: &Graph, task: u32) -> Input {
    Input { task, name: short(graph.name(task)), stage: run.stage(task).as_str() }
}

/// Names are as long as the program likes.
fn short(name: &Arc<str>) -> SharedStr {
    let cut = super::collector::cut(name);
    if cut.len() == name.len() { name.into() } else { SharedStr(cut.into()) }
}

/// `/api/runs/N/tasks/T`: a task, and what it waits for.
pub(super) fn task_json(run: &KnownRun, id: u32) -> Option<String> {
    #[derive(Serialize)]
    struct Task {
        run: u64,
        task: u32,
        name: SharedStr,
        group: SharedStr,
        stage: &'static str,
        is_ready: bool,
        is_output: bool,
        num_inputs: usize,
        num_unfinished: usize,
        /// Those first that it waits for.
        inputs: Vec<Input>,
    }
    let graph = run.graph.as_deref().filter(|graph| (id as usize) < graph.num_tasks())?;
    let all = graph.all_inputs(id);
    let (missing, there): (Vec<u32>, Vec<u32>) = all.iter().partition(|&&input| !run.stage(input).is_over());
    let stage = run.stage(id);
    Some(json(&Task {
        run: run.id,
        task: id,
        name: short(graph.name(id)),
        group: short(graph.family_name(graph.family(id))),
        stage: stage.as_str(),
        is_ready: stage == Stage::Waiting && missing.is_empty(),
        is_output: graph.is_output(id),
        num_inputs: all.len(),
        num_unfinished: missing.len(),
        inputs: missing.iter().chain(&there).take(MAX_INPUTS).map(|&id| input(run, graph, id)).collect(),
    }))
}

/// `/api/waiting`: tasks of live runs that have not been started, in the order in which they will be, as a rule, and why.
pub(super) fn waiting_json(collector: &Collector, filter: &Filter) -> String {
    #[derive(Serialize)]
    struct Waiting {
        now: f64,
        /// Live runs that are too large to be looked through.
        num_left_out: usize,
        tasks: Vec<Task>,
    }
    #[derive(Serialize)]
    struct Task {
        run: u64,
        task: u32,
        name: SharedStr,
        is_ready: bool,
        num_inputs: usize,
        num_unfinished: usize,
        unfinished: Vec<Input>,
    }
    let mut tasks = Vec::new();
    let mut num_left_out = 0;
    for run in collector.live_runs().iter().filter(|run| filter.run.is_none_or(|id| id == run.id)) {
        let Some(graph) = run.graph.as_deref() else {
            num_left_out += 1;
            continue;
        };
        for id in (0..graph.num_tasks() as u32).filter(|&id| run.stage(id) == Stage::Waiting) {
            if tasks.len() == filter.limit {
                break;
            }
            let is_wanted = filter.search.as_ref().is_none_or(|search| graph.name(id).to_lowercase().contains(search));
            if !is_wanted {
                continue;
            }
            let inputs = graph.all_inputs(id);
            let missing = || inputs.iter().copied().filter(|&input| !run.stage(input).is_over());
            let num_unfinished = missing().count();
            tasks.push(Task {
                run: run.id,
                task: id,
                name: short(graph.name(id)),
                is_ready: num_unfinished == 0,
                num_inputs: inputs.len(),
                num_unfinished,
                unfinished: missing().take(MAX_REASONS).map(|id| input(run, graph, id)).collect(),
            });
        }
    }
    json(&Waiting { now: seconds(collector.now_ns()), num_left_out, tasks })
}

/// `/metrics`: OpenMetrics 1.0.
pub(super) fn metrics(collector: &Collector) -> String {
    collector.look_at_resources();
    let (names, totals, runs, values, now) = collector.look(|store, now| {
        (store.names.clone(), by_name(store, &now), num_runs(store, &now), collector.values(store), now)
    });
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
        let _infallible = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {help}");
        for (labels, value) in samples {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let _infallible = writeln!(text, "{name}{suffix}{labels} {value}");
        }
    };
    let ended = [("finished", runs.finished), ("failed", runs.failed), ("cancelled", runs.cancelled)];
    let ended = ended.map(|(outcome, count)| (format!("{{outcome=\"{outcome}\"}}"), count.to_string()));
    family("sprang_runs", "counter", "Runs that have ended.", &ended);
    family("sprang_runs_running", "gauge", "Runs that go on.", &[(String::new(), runs.running.to_string())]);
    let mut by_labels: Vec<(String, String)> = Vec::new();
    let mut busy: Vec<(String, String)> = Vec::new();
    for (number, counts) in totals.iter().enumerate() {
        let is_quiet = counts.finished + counts.failed + counts.retried + counts.cancelled + counts.skipped == 0;
        if is_quiet && number != usize::from(OTHER) {
            continue;
        }
        let name = label(&names[number], number == usize::from(OTHER));
        let states = [
            ("finished", counts.finished),
            ("failed", counts.failed),
            ("retried", counts.retried),
            ("cancelled", counts.cancelled),
            ("skipped", counts.skipped),
        ];
        let states = states.into_iter().filter(|&(state, count)| count > 0 || state == "finished");
        by_labels
            .extend(states.map(|(state, count)| (format!("{{name=\"{name}\",state=\"{state}\"}}"), count.to_string())));
        busy.push((format!("{{name=\"{name}\"}}"), seconds(counts.busy_ns).to_string()));
    }
    family("sprang_task_attempts", "counter", "Attempts at tasks, and tasks that were skipped.", &by_labels);
    let all = sum(&totals);
    family("sprang_tasks_running", "gauge", "Tasks that go on.", &[(String::new(), all.running.max(0).to_string())]);
    family("sprang_task_busy_seconds", "counter", "Time that attempts took.", &busy);
    let mut by_kind: HashMap<&str, u64> = HashMap::from([("thread", 0), ("process", 0)]);
    for tally in now.workers.iter().filter(|tally| tally.lost.is_none()) {
        *by_kind.entry(if tally.worker.is_here() { "thread" } else { "process" }).or_default() += 1;
    }
    let mut by_kind: Vec<(String, String)> =
        by_kind.into_iter().map(|(kind, count)| (format!("{{kind=\"{kind}\"}}"), count.to_string())).collect();
    by_kind.sort();
    let used = collector.resources.sum();
    let memory = [(String::new(), used.memory_bytes.to_string())];
    family("sprang_memory_bytes", "gauge", "Resident memory of this process and its workers.", &memory);
    for (name, help, value) in [
        ("sprang_value_bytes", "Bytes of values that runs hold.", values.bytes),
        ("sprang_value_peak_bytes", "Most bytes of values that runs and futures held at once.", values.peak_bytes),
        ("sprang_future_value_bytes", "Bytes of values that futures hold.", values.bytes_of_futures as u64),
    ] {
        family(name, "gauge", help, &[(String::new(), value.to_string())]);
    }
    family("sprang_workers", "gauge", "Workers that have been seen and not been lost.", &by_kind);
    text += "# EOF\n";
    text
}

/// A name as the value of a label. A task may be named `other` too.
fn label(name: &str, is_other: bool) -> String {
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    if escaped == "other" && !is_other { "other (a task)".to_owned() } else { escaped }
}
