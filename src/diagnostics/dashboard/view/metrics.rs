//! The metrics, as OpenMetrics 1.0.

use super::super::collector::{Collector, Counts, OTHER, seconds};
use super::{num_runs, totals_by_name};
use std::fmt::{Display, Write};

/// Writes metric families.
struct Metrics(String);

impl Metrics {
    fn family<V: Display>(&mut self, name: &str, kind: &str, help: &str, samples: &[(String, V)]) {
        let _infallible = writeln!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}");
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (labels, value) in samples {
            let _infallible = writeln!(self.0, "{name}{suffix}{labels} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help, &[(String::new(), value)]);
    }
}

/// `/metrics`.
pub(crate) fn metrics(collector: &Collector) -> String {
    collector.sample_resources();
    let (names, totals, runs, values, now) = collector.snapshot(|store, now| {
        (store.names.clone(), totals_by_name(store, &now), num_runs(store, &now), collector.values(store), now)
    });
    let mut metrics = Metrics(String::new());
    let ended = [("finished", runs.finished), ("failed", runs.failed), ("cancelled", runs.cancelled)];
    let ended = ended.map(|(outcome, count)| (format!("{{outcome=\"{outcome}\"}}"), count));
    metrics.family("sprang_runs", "counter", "Runs that have ended.", &ended);
    metrics.gauge("sprang_runs_running", "Live runs.", runs.running as u64);
    let mut attempts = Vec::new();
    let mut busy = Vec::new();
    for (id, counts) in totals.iter().enumerate() {
        let is_other = id == usize::from(OTHER);
        if !is_other && counts.ended().iter().all(|(_, count)| *count == 0) {
            continue;
        }
        let name = label(&names[id], is_other);
        let states = counts.ended().into_iter().filter(|&(state, count)| count > 0 || state == "finished");
        attempts.extend(states.map(|(state, count)| (format!("{{name=\"{name}\",state=\"{state}\"}}"), count)));
        busy.push((format!("{{name=\"{name}\"}}"), seconds(counts.busy_ns)));
    }
    metrics.family("sprang_task_attempts", "counter", "Attempts at tasks, and tasks that were skipped.", &attempts);
    metrics.gauge("sprang_tasks_running", "Running tasks.", Counts::sum(&totals).num_running());
    metrics.family("sprang_task_busy_seconds", "counter", "Time that attempts took.", &busy);
    let memory_bytes = collector.resources.latest().memory_bytes;
    metrics.gauge("sprang_memory_bytes", "Resident memory of this process and its workers.", memory_bytes);
    metrics.gauge("sprang_value_bytes", "Bytes of values that runs hold.", values.bytes);
    let help = "Most bytes of values that runs and futures held at once.";
    metrics.gauge("sprang_value_peak_bytes", help, values.peak_bytes);
    metrics.gauge("sprang_future_value_bytes", "Bytes of values that futures hold.", values.bytes_of_futures as u64);
    let num_workers = |is_here: bool| {
        now.workers.iter().filter(|worker| worker.lost.is_none() && worker.id.is_here() == is_here).count()
    };
    let workers = [("process", num_workers(false)), ("thread", num_workers(true))];
    let workers = workers.map(|(kind, count)| (format!("{{kind=\"{kind}\"}}"), count));
    metrics.family("sprang_workers", "gauge", "Workers that have been seen and not been lost.", &workers);
    metrics.0 + "# EOF\n"
}

/// A name as the value of a label. A task may be named `other` too.
fn label(name: &str, is_other: bool) -> String {
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    if escaped == "other" && !is_other { "other (a task)".to_owned() } else { escaped }
}
