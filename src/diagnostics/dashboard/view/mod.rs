//! The answers of the dashboard: the state of the collector as JSON, and metrics as text.
//!
//! Requests do not delay runs, however many there are: an answer is gathered under the lock of the
//! store, where texts are shared and not copied, and becomes text after the lock is released.

mod graph;
mod metrics;
mod schema;

pub(super) use graph::{graph_json, stages_json, task_json, waiting_json};
pub(super) use metrics::metrics;

use super::collector::{
    ClusterSnapshot, Collector, Counts, LogRecord, MAX_RUNS, RunRecord, RunningTask, Snapshot, Store, TaskRecord,
    TrackedRun, WorkerRecord, seconds,
};
use crate::diagnostics::json::{SharedStr, to_string as json};
use schema::{
    LogLines, LogView, MachineView, NameView, NumRuns, RunView, RunsView, StatusView, TaskEndView, TaskTotals,
    TaskView, TasksView, UpdateView, WorkerView, WorkersView,
};
use std::cmp::Reverse;
use std::time::UNIX_EPOCH;

/// Live runs that are listed with their names.
const MAX_LIVE: usize = 20;
/// Running attempts that are listed.
const MAX_RUNNING: usize = 200;
/// Ended attempts in one update. If there are more, the longest are sent, because short ones are
/// not visible.
const MAX_UPDATE: usize = 300;
/// Ended attempts in the first update of a page.
const MAX_FIRST_UPDATE: usize = 1_500;
/// Lines of the log in one update.
const MAX_LOG: usize = 100;
/// A process that the last sample missed may be younger than the sample.
const NEW_WORKER_NS: u64 = 2_000_000_000;

/// The last attempt and the last line of the log that a reader has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) task: u64,
    pub(super) event: u64,
}

/// The query of a list of tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) limit: usize,
    pub(super) state: Option<String>,
    /// In lower case.
    pub(super) search: Option<String>,
    pub(super) run: Option<u64>,
}

impl Filter {
    /// Whether a name fits.
    fn finds(&self, name: &str) -> bool {
        self.search.as_ref().is_none_or(|search| name.to_lowercase().contains(search))
    }
}

fn names_view<'c>(store: &Store, names: impl Iterator<Item = (u16, u64, &'c Counts)>) -> Vec<NameView> {
    let view = |(name, total, counts): (u16, u64, &Counts)| NameView {
        name: (&store.names[name as usize]).into(),
        total: Some(total),
        counts: *counts,
    };
    names.map(view).collect()
}

fn live_run(store: &Store, run: &TrackedRun, counts: &[Counts]) -> RunView {
    let names = run.groups.iter().zip(counts).map(|(&(name, total), counts)| (name, total, counts));
    let (has_graph, names) = (run.graph.is_some(), names_view(store, names));
    RunView { has_graph, has_report: has_graph, names, ..RunView::new(&run.label, Counts::sum(counts)) }
}

fn ended_run(store: &Store, run: &RunRecord) -> RunView {
    let has_report = store.has_report(run.label.id);
    RunView {
        state: run.outcome.word(),
        ended: Some(seconds(run.ended_ns)),
        error: run.error.as_ref().map(SharedStr::from),
        has_graph: has_report,
        has_report,
        ..RunView::new(&run.label, run.counts)
    }
}

/// The futures of a cluster, as one run.
fn cluster_run(store: &Store, cluster: &ClusterSnapshot<'_>) -> RunView {
    let counts = Counts::sum(cluster.names.iter().map(|(_, counts)| counts));
    let num_open = counts.num_running().max(cluster.num_pending.unwrap_or(0) as u64);
    let names = cluster.names.iter().map(|(name, counts)| (*name, counts.num_over() + counts.num_running(), counts));
    RunView {
        kind: "futures",
        state: match (num_open > 0, cluster.num_pending) {
            (true, _) => "running",
            (false, Some(_)) => "idle",
            (false, None) => "finished",
        },
        num_tasks: counts.num_over() + num_open,
        ended: (num_open == 0).then(|| seconds(cluster.run.last_ns)),
        has_report: cluster.run.has_report(),
        names: names_view(store, names),
        ..RunView::new(&cluster.run.label, counts)
    }
}

fn running_task(store: &Store, task: &RunningTask) -> TaskView {
    TaskView {
        run: task.run.get(),
        task: task.task,
        name: store.name_of(task).into(),
        group: (&store.names[task.group as usize]).into(),
        worker: task.worker.to_string(),
        started: seconds(task.started_ns),
        attempt: task.attempt,
        end: None,
    }
}

fn ended_task(store: &Store, (seq, record): &(u64, TaskRecord)) -> TaskView {
    let end = TaskEndView { seq: *seq, state: record.outcome.word(), ended: seconds(record.ended_ns) };
    TaskView { end: Some(end), ..running_task(store, &record.attempt) }
}

fn log_view(record: &LogRecord) -> LogView {
    let run = record.run.map(|run| run.get());
    LogView { seq: record.seq, at: seconds(record.at_ns), kind: record.kind, run, text: (&record.text).into() }
}

fn worker_view(collector: &Collector, now: &Snapshot, worker: &WorkerRecord) -> WorkerView {
    let (id, is_lost) = (worker.id, worker.lost.is_some());
    // Threads of this process have no memory of their own.
    let process = if id.is_here() || is_lost { None } else { collector.resources.of(id.pid()) };
    let is_new = now.now_ns.saturating_sub(worker.first_ns) <= NEW_WORKER_NS;
    let is_gone = !id.is_here() && !is_lost && process.is_none() && worker.counts.running <= 0 && !is_new;
    let running = now.running.iter().filter(|running| running.worker == id);
    let running_ns: u64 = running.map(|running| now.now_ns.saturating_sub(running.started_ns)).sum();
    let mut counts = worker.counts;
    counts.busy_ns += running_ns;
    WorkerView {
        name: id.to_string(),
        pid: id.pid(),
        thread: id.thread(),
        kind: if id.is_here() { "thread" } else { "process" },
        counts,
        first_seen: seconds(worker.first_ns),
        last_seen: seconds(if running_ns > 0 { now.now_ns } else { worker.last_ns }),
        lost: worker.lost.as_ref().map(SharedStr::from),
        is_gone,
        can_restart: worker.handle.is_some() && !is_lost && !is_gone,
        restarts: worker.restarts,
        cpus: process.and_then(|process| process.cpus),
        memory: process.map(|process| process.memory_bytes),
        own_memory: process.map(|process| process.own_bytes),
        memory_limit: worker.memory_limit,
        last_error: worker.error.as_ref().map(SharedStr::from),
        output: worker.output.as_ref().map(SharedStr::from),
    }
}

fn workers(collector: &Collector, now: &Snapshot) -> Vec<WorkerView> {
    now.workers.iter().map(|worker| worker_view(collector, now, worker)).collect()
}

/// Counts by name over all runs, ended and live.
fn totals_by_name(store: &Store, now: &Snapshot) -> Vec<Counts> {
    let mut totals = store.totals.clone();
    for (run, counts) in now.live.iter().chain(&now.parts) {
        for (&(name, _), counts) in run.groups.iter().zip(counts) {
            totals[name as usize].add(counts);
        }
    }
    totals
}

/// The run of a cluster counts as running while there are unfinished futures.
fn num_runs(store: &Store, now: &Snapshot) -> NumRuns {
    let [finished, failed, cancelled] = store.num_runs;
    let num_busy = now.clusters(store).iter().filter(|cluster| cluster.is_busy()).count();
    NumRuns { running: now.live.len() + num_busy, finished, failed, cancelled }
}

/// The state, without the fields that [`complete`] adds.
fn status<'a>(collector: &Collector, program: &'a str, store: &Store, now: &Snapshot) -> StatusView<'a> {
    let totals = totals_by_name(store, now);
    let mut seen: Vec<(usize, &Counts)> = totals.iter().enumerate().collect();
    // A name with cancelled attempts alone has nothing to show.
    seen.retain(|(_, counts)| counts.running > 0 || counts.num_over() + counts.retried > 0);
    seen.sort_by_key(|(_, counts)| Reverse(counts.busy_ns));
    let names = seen.into_iter().map(|(name, counts)| NameView {
        name: (&store.names[name]).into(),
        total: None,
        counts: *counts,
    });
    let waiting = now.live.iter().map(|(run, counts)| {
        let counts = Counts::sum(counts);
        run.label.num_tasks as i64 - counts.num_over() as i64 - counts.num_running() as i64
    });
    let mut num_waiting = waiting.sum::<i64>().max(0) as u64;
    let clusters = now.clusters(store);
    for cluster in &clusters {
        let num_running: u64 = cluster.names.iter().map(|(_, counts)| counts.num_running()).sum();
        num_waiting += (cluster.num_pending.unwrap_or(0) as u64).saturating_sub(num_running);
    }
    let busy_clusters = clusters.iter().filter(|cluster| cluster.is_busy()).map(|it| cluster_run(store, it));
    let live = busy_clusters.chain(now.live.iter().map(|(run, counts)| live_run(store, run, counts)));
    let used = collector.resources.latest();
    StatusView {
        version: 1,
        program,
        pid: std::process::id(),
        started: collector.started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64 / 1e3),
        now: seconds(now.now_ns),
        runs: num_runs(store, now),
        tasks: TaskTotals { waiting: num_waiting, ready: None, counts: Counts::sum(&totals), names: names.collect() },
        machine: MachineView {
            cpus: used.cpus,
            num_cpus: collector.resources.num_cpus,
            memory: used.memory_bytes,
            total_memory: collector.resources.total_memory_bytes,
            num_processes: used.num_processes,
        },
        values: collector.values(store),
        live: live.take(MAX_LIVE).collect(),
        running: now.running.iter().take(MAX_RUNNING).map(|task| running_task(store, task)).collect(),
        workers: Vec::new(),
    }
}

/// Adds the fields that need the live runs and the system alone, while the store is not locked.
fn complete(status: &mut StatusView<'_>, collector: &Collector, now: &Snapshot) {
    status.tasks.ready = graph::num_ready(now);
    status.workers = workers(collector, now);
}

/// `/api/status`.
pub(super) fn status_json(collector: &Collector, program: &str) -> String {
    collector.sample_resources();
    let (mut status, now) = collector.snapshot(|store, now| (status(collector, program, store, &now), now));
    complete(&mut status, collector, &now);
    json(&status)
}

/// An update for the pages, its end, and whether there are live runs. Without `since` it has all
/// that fits.
pub(super) fn update_json(collector: &Collector, program: &str, since: Option<Cursor>) -> (String, Cursor, bool) {
    collector.sample_resources();
    let (mut update, end, now) = collector.snapshot(|store, now| {
        let end = Cursor { task: store.num_seen, event: store.num_events };
        let after = since.unwrap_or_default();
        let mut new: Vec<&(u64, TaskRecord)> = store.tasks.iter().rev().take_while(|it| it.0 > after.task).collect();
        let max = if since.is_some() { MAX_UPDATE } else { MAX_FIRST_UPDATE };
        if new.len() > max {
            if since.is_some() {
                new.sort_by_key(|(_, it)| Reverse(it.ended_ns.saturating_sub(it.attempt.started_ns)));
            }
            new.truncate(max);
        }
        new.sort_by_key(|(seq, _)| *seq);
        let omitted = (end.task - after.task).saturating_sub(new.len() as u64);
        let lines = store.events.iter().rev().take_while(|it| it.seq > after.event);
        let mut log: Vec<LogView> = lines.take(MAX_LOG).map(log_view).collect();
        log.reverse();
        let update = UpdateView {
            status: status(collector, program, store, &now),
            reset: since.is_none(),
            last_task: end.task,
            last_event: end.event,
            omitted,
            ended: new.into_iter().map(|it| ended_task(store, it)).collect(),
            log,
        };
        (update, end, now)
    });
    complete(&mut update.status, collector, &now);
    (json(&update), end, !now.live.is_empty() || !now.parts.is_empty())
}

/// `/api/runs`: live runs first, the newest first; then the others, the last to end first.
pub(super) fn runs_json(collector: &Collector) -> String {
    let mut all = collector.snapshot(|store, now| {
        let live = now.live.iter().rev().take(MAX_RUNS).map(|(run, counts)| live_run(store, run, counts));
        let ended = store.runs.iter().rev().map(|run| ended_run(store, run));
        let clusters = now.clusters(store);
        let clusters = clusters.iter().map(|cluster| cluster_run(store, cluster));
        let runs = live.chain(ended).chain(clusters).map(|run| RunView { names: Vec::new(), ..run });
        RunsView { now: seconds(now.now_ns), counts: num_runs(store, &now), runs: runs.collect() }
    });
    all.runs.sort_by(|a, b| match (a.ended, b.ended) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (None, None) => b.id.cmp(&a.id),
        (a, b) => a.is_some().cmp(&b.is_some()),
    });
    json(&all)
}

/// `/api/tasks`: the newest first.
pub(super) fn tasks_json(collector: &Collector, filter: &Filter) -> String {
    let tasks = collector.snapshot(|store, now| {
        let is_wanted = |TaskRecord { attempt, outcome, .. }: &TaskRecord| {
            filter.state.as_ref().is_none_or(|state| state == outcome.word())
                && filter.run.is_none_or(|run| run == attempt.run.get())
                && (filter.finds(store.name_of(attempt)) || filter.finds(&attempt.worker.to_string()))
        };
        let wanted = store.tasks.iter().rev().filter(|(_, record)| is_wanted(record)).take(filter.limit);
        TasksView {
            now: seconds(now.now_ns),
            seen: store.num_seen + store.overwritten,
            kept: store.tasks.len(),
            lost: store.overwritten,
            tasks: wanted.map(|it| ended_task(store, it)).collect(),
        }
    });
    json(&tasks)
}

/// `/api/workers`.
pub(super) fn workers_json(collector: &Collector) -> String {
    collector.sample_resources();
    let now = collector.snapshot(|_, now| now);
    let (forgotten, workers) = (now.num_forgotten, workers(collector, &now));
    json(&WorkersView { now: seconds(now.now_ns), forgotten, workers })
}

/// `/api/log`: the newest first.
pub(super) fn log_json(collector: &Collector) -> String {
    let log = collector.snapshot(|store, now| {
        let events = store.events.iter().rev().map(log_view).collect();
        LogLines { now: seconds(now.now_ns), seen: store.num_events, events }
    });
    json(&log)
}
