//! The data that the script of a report draws: the stream of tasks and the charts.

use super::data::{Profile, RunProfile};
use super::export::micros;
use super::record::{self, Record};
use super::resources::ResourceSample;
use crate::diagnostics::json::{self, rounded};
use crate::diagnostics::picture::Color;
use crate::engine::callback::WorkerId;
use crate::sorted::{SortedMap, sort_items};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A browser opens a page with this many tasks at once.
pub(super) const MAX_TASKS: usize = 40_000;
/// This many tasks have their own names in the page; the others have the name of their family.
const MAX_LABELS: usize = 20_000;
const MAX_POINTS: usize = 1_200;

/// Times are in microseconds.
#[derive(Serialize)]
struct ReportData<'a> {
    end: f64,
    names: Vec<ReportName<'a>>,
    lanes: Vec<ReportLane>,
    outcomes: [&'static str; 4],
    tasks: ReportTasks,
    /// How much stronger the shown tasks are drawn, in place of those that are left out.
    scale: f64,
    labels: Vec<&'a str>,
    charts: Vec<Chart>,
}

#[derive(Serialize)]
struct ReportName<'a> {
    name: &'a str,
    color: String,
}

#[derive(Serialize)]
struct ReportLane {
    name: String,
    short: String,
    busy: f64,
}

/// The tasks of the stream, column by column.
#[derive(Default, Serialize)]
struct ReportTasks {
    lane: Vec<usize>,
    name: Vec<usize>,
    start: Vec<f64>,
    dur: Vec<f64>,
    outcome: Vec<u8>,
    critical: Vec<u8>,
    /// The index of the task's own name, or -1.
    label: Vec<i64>,
}

#[derive(Serialize)]
struct Chart {
    title: &'static str,
    color: &'static str,
    unit: &'static str,
    steps: bool,
    /// The least value at the top of the chart.
    least: u32,
    /// The height of a dashed line across the chart; 0 for none.
    line: usize,
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Profile {
    pub(super) fn report_data(&self) -> String {
        let names: Vec<_> = self.by_name().into_iter().map(|row| row.name).collect();
        let lanes = self.lanes();
        let (tasks, labels, scale) = self.stream(&lanes, &names);
        let color = |index| Color::of_index(index).to_string();
        let lane = |(index, (lane, busy)): (usize, (&WorkerId, f64))| {
            let (name, short) = (lane.to_string(), (index + 1).to_string());
            ReportLane { name, short, busy: rounded(busy, 3) }
        };
        json::to_string(&ReportData {
            end: micros(self.duration()),
            names: names.iter().enumerate().map(|(index, name)| ReportName { name, color: color(index) }).collect(),
            lanes: lanes.iter().zip(self.utilisation(&lanes)).enumerate().map(lane).collect(),
            outcomes: ["finished", "failed", "retried", "cancelled"],
            tasks,
            scale: rounded(scale, 3),
            labels,
            charts: self.charts(),
        })
    }

    /// The workers that ran tasks, those of this process first.
    pub(super) fn lanes(&self) -> Vec<WorkerId> {
        let mut lanes = SortedMap::new();
        for record in self.records() {
            lanes.insert(record.worker, ());
        }
        lanes.iter().map(|&(lane, ())| lane).collect()
    }

    /// The share of the time that each of these workers was busy.
    fn utilisation(&self, lanes: &[WorkerId]) -> Vec<f64> {
        let mut busy = vec![(0_u64, 0_u64); lanes.len()];
        let mut records: Vec<Record> = self.records().copied().collect();
        record::sort(&mut records);
        for record in records {
            // A task of a nested run lies within another task, and is not counted twice.
            if let Ok(lane) = lanes.binary_search(&record.worker) {
                let (until_ns, busy_ns) = &mut busy[lane];
                let end_ns = record.started_ns + record.ran_ns;
                *busy_ns += end_ns.saturating_sub(record.started_ns.max(*until_ns));
                *until_ns = end_ns.max(*until_ns);
            }
        }
        let all = self.duration().as_nanos().max(1) as f64 / self.sampling();
        busy.iter().map(|&(_, busy_ns)| (busy_ns as f64 / all).min(1.0)).collect()
    }

    /// The longest tasks, their own names, and the scale.
    fn stream(&self, lanes: &[WorkerId], names: &[Arc<str>]) -> (ReportTasks, Vec<&str>, f64) {
        let (shortest, mut most_of_shortest) = self.shortest_shown();
        let mut shown: Vec<(usize, &Record)> = Vec::new();
        let (mut all_ns, mut shown_ns) = (0, 0);
        for (index, run) in self.runs.iter().enumerate() {
            for record in &run.records {
                all_ns += record.ran_ns;
                let is_tie = record.ran_ns == shortest;
                if record.ran_ns > shortest || is_tie && most_of_shortest > 0 {
                    most_of_shortest -= usize::from(is_tie);
                    shown_ns += record.ran_ns;
                    shown.push((index, record));
                }
            }
        }
        let all_ns = all_ns as f64 * self.sampling();
        let scale = if shown_ns > 0 { all_ns / shown_ns as f64 } else { 1.0 };
        // Of two tasks that begin together, the longer one contains the other.
        sort_items(&mut shown, |(_, a), (_, b)| (a.started_ns, b.ran_ns).cmp(&(b.started_ns, a.ran_ns)));
        let index_of_name: HashMap<&str, usize> =
            names.iter().enumerate().map(|(index, name)| (&**name, index)).collect();
        let path: Vec<HashSet<u32>> = self.runs.iter().map(RunProfile::critical_ids).collect();
        let mut labels: Vec<&str> = Vec::new();
        let mut tasks = ReportTasks::default();
        for (run_index, record) in shown {
            let run = &self.runs[run_index];
            let (name, family) = (run.graph.name(record.id), run.graph.family_name(run.graph.family(record.id)));
            let has_label = name != family && labels.len() < MAX_LABELS;
            tasks.label.push(if has_label { labels.len() as i64 } else { -1 });
            labels.extend(has_label.then_some(&**name));
            tasks.lane.push(lanes.binary_search(&record.worker).expect("each worker has a lane"));
            tasks.name.push(index_of_name[&**family]);
            tasks.start.push(record.started_ns as f64 / 1e3);
            tasks.dur.push(record.ran_ns as f64 / 1e3);
            tasks.outcome.push(record.outcome as u8);
            tasks.critical.push(path[run_index].contains(&record.id).into());
        }
        (tasks, labels, scale)
    }

    /// The duration of the shortest of the [`MAX_TASKS`] longest tasks, and how many tasks of this
    /// duration are among these.
    fn shortest_shown(&self) -> (u64, usize) {
        let mut times: Vec<u64> = Vec::with_capacity(self.num_records());
        for run in &self.runs {
            times.extend(run.records.iter().map(|record| record.ran_ns));
        }
        if times.len() <= MAX_TASKS {
            return (0, MAX_TASKS);
        }
        times.sort_unstable();
        let shortest = times[times.len() - MAX_TASKS];
        let num_longer = times.len() - times.partition_point(|&time| time <= shortest);
        (shortest, MAX_TASKS - num_longer)
    }

    fn charts(&self) -> Vec<Chart> {
        const NUM_PARTS: usize = 400;
        let end = micros(self.duration());
        let parallelism = self.parallelism(NUM_PARTS);
        let parts = (0..NUM_PARTS).map(|part| end * part as f64 / NUM_PARTS as f64);
        let at_once = parts.zip(parallelism.iter().copied()).chain([(end, parallelism[NUM_PARTS - 1])]).collect();
        let title = "Tasks at once, with those that wait for a nested run; the dashed line is the number of workers";
        let mut charts =
            vec![Chart { line: self.lanes().len(), ..Chart::new(title, "accent", "count", true, at_once) }];
        // One sample makes no line.
        if self.samples.len() > 1 {
            let points = |value: fn(&ResourceSample) -> f64| {
                self.samples.iter().map(|sample| (micros(sample.at), value(sample))).collect()
            };
            let title = "Busy processors, of this process and its worker processes";
            charts.push(Chart::new(title, "accent", "count", false, points(|sample| sample.cpus)));
            let memory = points(|sample| sample.memory_bytes as f64);
            charts.push(Chart::new("Resident memory of these processes", "memory", "bytes", false, memory));
        }
        if let Some(run) = self.runs.iter().max_by_key(|run| run.num_tasks()) {
            let live = run.live_values().into_iter().map(|(at, live)| (micros(at), live as f64)).collect();
            let title = match run.is_sample {
                true => "Values held by the recorded tasks of the run with the most tasks",
                false => "Values held by the run with the most tasks",
            };
            charts.push(Chart::new(title, "values", "count", true, live));
            let bytes = run.live_bytes().into_iter().map(|(at, bytes)| (micros(at), bytes as f64)).collect();
            let title = match run.has_unknown_sizes() {
                true => "Bytes of these values, as far as their types tell; Profiler::measure_values measures all",
                false => "Bytes of these values",
            };
            charts.push(Chart::new(title, "values", "bytes", true, bytes));
        }
        charts
    }
}

impl Chart {
    fn new(
        title: &'static str,
        color: &'static str,
        unit: &'static str,
        steps: bool,
        points: Vec<(f64, f64)>,
    ) -> Chart {
        let least = if unit == "bytes" { 1024 } else { 1 };
        let (x, y) = thinned(points).into_iter().map(|(x, y)| (rounded(x, 1), rounded(y, 2))).unzip();
        Chart { title, color, unit, steps, least, line: 0, x, y }
    }
}

/// At most [`MAX_POINTS`] points: the highest of each group of neighbours.
pub(super) fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points;
    }
    let chunk = points.len().div_ceil(MAX_POINTS);
    let highest = |points: &[(f64, f64)]| points.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a });
    points.chunks(chunk).filter_map(highest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_not_thinned_out() {
        let points: Vec<_> = (0..100_000).map(|i| (f64::from(i), f64::from(u8::from(i == 77_777)))).collect();
        let thinned = thinned(points);
        assert!(thinned.len() <= MAX_POINTS);
        assert!(thinned.contains(&(77_777.0, 1.0)) && thinned.is_sorted_by(|a, b| a.0 < b.0));
    }
}
