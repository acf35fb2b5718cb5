//! A profile for other programs: CSV, JSON, and the trace format of Chrome and Perfetto.

use super::json::{self, quoted};
use super::report::thinned;
use super::{Graph, Outcome, Peak, Profile, RunProfile, TaskRecord};
use crate::engine::callback::RunId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;
use std::time::Duration;

/// More edges than this make a trace that no viewer opens.
const MAX_FLOWS: usize = 200_000;

impl Profile {
    /// One line for each call that is recorded, after a head: run, task, name, process, thread, start and duration in seconds, the time it
    /// was queued and the time its result took, both in seconds and empty for tasks of this process, attempt, and outcome; then when it was
    /// ready, in seconds, the bytes that were sent for it and that came back, and those of its value.
    ///
    /// # Examples
    /// ```
    /// let (_, profile) = sprang::profile(|| sprang::delayed(|| 1, ()).name("a, \"b\"").compute());
    /// let csv = profile.to_csv();
    /// assert!(csv.starts_with("run,task,name,process,thread,start_s,duration_s,queued_s,"));
    /// assert!(csv.lines().nth(1).unwrap().contains(r#",0,"a, ""b""","#));
    /// ```
    pub fn to_csv(&self) -> String {
        let mut out =
            "run,task,name,process,thread,start_s,duration_s,queued_s,returned_s,attempt,outcome,ready_s,sent_bytes,\
             returned_bytes,value_bytes\n"
                .to_owned();
        for task in self.tasks() {
            let seconds =
                |time: Option<Duration>| time.map_or_else(String::new, |it| format!("{:.6}", it.as_secs_f64()));
            let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
            let name = match task.name.contains([',', '"', '\n', '\r']) {
                true => format!("\"{}\"", task.name.replace('"', "\"\"")),
                false => task.name.to_string(),
            };
            let _infallible = writeln!(
                out,
                "{},{},{name},{},{},{:.9},{:.9},{},{},{},{},{},{},{},{}",
                task.run,
                task.id,
                task.worker.pid(),
                task.worker.thread(),
                task.started.as_secs_f64(),
                task.duration().as_secs_f64(),
                seconds(task.queued),
                seconds(task.returned),
                task.attempt,
                task.outcome.word(),
                task.ready.map_or_else(String::new, |ready| format!("{:.9}", ready.as_secs_f64())),
                number(task.transferred.map(|(sent, _)| sent)),
                number(task.transferred.map(|(_, returned)| returned)),
                number(task.value.map(|size| size.bytes))
            );
        }
        out
    }

    /// All of it as one JSON object: `process`, `duration_s`, `num_tasks`, `sampling`, and the lists `runs`, `names`, `tasks`, `failures`
    /// and `resources`. Times are in seconds. With the feature `files`, `Profile::from_json` makes a profile of it again.
    ///
    /// # Examples
    /// ```
    /// let (_, profile) = sprang::profile(|| sprang::delayed(|| 1, ()).name("one").compute());
    /// let json = profile.to_json();
    /// assert!(json.starts_with(r#"{"process":"#) && json.contains(r#""name":"one""#));
    /// ```
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        let seconds = |time: Duration| format!("{:.9}", time.as_secs_f64());
        let maybe = |time: Option<Duration>| time.map_or_else(|| "null".to_owned(), seconds);
        let number = |number: Option<u64>| number.map_or_else(|| "null".to_owned(), |number| number.to_string());
        let _infallible = write!(
            out,
            "{{\"process\":{},\"duration_s\":{},\"num_tasks\":{},\"sampling\":{:.3},\"num_runs_left_out\":{},\"runs\":",
            std::process::id(),
            seconds(self.duration()),
            self.num_tasks(),
            self.sampling(),
            self.num_runs_left_out()
        );
        json::list(&mut out, self.runs(), |out, run| {
            let _infallible = write!(
                out,
                "{{\"run\":{},\"parent\":{},\"title\":{},\"scheduler\":{},\"started_s\":{},\"ended_s\":{},\"num_tasks\":{},\"num_skipped\":{},\
                 \"error\":{},\"critical_path\":",
                run.id(),
                run.parent().map_or_else(|| "null".to_owned(), |parent| parent.to_string()),
                quoted(&run.title()),
                quoted(run.scheduler()),
                seconds(run.started()),
                maybe(run.ended()),
                run.num_tasks(),
                run.num_skipped(),
                run.error().map_or_else(|| "null".to_owned(), |error| quoted(&error.to_string()))
            );
            let peak = run.peak();
            let number_of = |of: fn(&Peak) -> u64| number(peak.as_ref().map(of));
            let (num_values, bytes) = (number_of(|peak| peak.num_values as u64), number_of(|peak| peak.bytes));
            json::list(out, run.critical_path(), |out, task| {
                let (name, duration) = (quoted(&task.name), seconds(task.duration));
                let _infallible = write!(out, "{{\"task\":{},\"name\":{name},\"duration_s\":{duration}}}", task.id);
            });
            out.push_str(",\"graph\":");
            write_graph(out, &run.graph);
            let at = maybe(peak.as_ref().map(|peak| peak.at));
            let _infallible =
                write!(out, ",\"peak\":{{\"at_s\":{at},\"num_values\":{num_values},\"bytes\":{bytes},\"held\":");
            json::list(out, peak.iter().flat_map(|peak| &peak.held), |out, row| {
                let held_for = row.held_for.as_ref().map_or_else(|| "null".to_owned(), |name| quoted(name));
                let (name, count, bytes) = (quoted(&row.name), row.count, row.bytes);
                let _infallible =
                    write!(out, "{{\"name\":{name},\"count\":{count},\"bytes\":{bytes},\"held_for\":{held_for}}}");
            });
            out.push_str("}}");
        });
        out.push_str(",\"names\":");
        json::list(&mut out, self.by_name(), |out, row| {
            let _infallible = write!(
                out,
                "{{\"name\":{},\"count\":{},\"num_failed\":{},\"total_s\":{},\"mean_s\":{},\"p50_s\":{},\"p99_s\":{},\"max_s\":{}}}",
                quoted(&row.name),
                row.count,
                row.num_failed,
                seconds(row.total),
                seconds(row.mean),
                seconds(row.p50),
                seconds(row.p99),
                seconds(row.max)
            );
        });
        out.push_str(",\"tasks\":");
        json::list(&mut out, self.tasks(), |out, task| {
            let _infallible = write!(
                out,
                "{{\"run\":{},\"task\":{},\"name\":{},\"process\":{},\"thread\":{},\"started_s\":{},\"duration_s\":{},\"queued_s\":{},\
                 \"returned_s\":{},\"attempt\":{},\"outcome\":\"{}\",\
                 \"ready_s\":{},\"sent_bytes\":{},\"returned_bytes\":{},\"value_bytes\":{},\"value_is_encoded\":{}}}",
                task.run,
                task.id,
                quoted(&task.name),
                task.worker.pid(),
                task.worker.thread(),
                seconds(task.started),
                seconds(task.duration()),
                maybe(task.queued),
                maybe(task.returned),
                task.attempt,
                task.outcome.word(),
                maybe(task.ready),
                number(task.transferred.map(|(sent, _)| sent)),
                number(task.transferred.map(|(_, returned)| returned)),
                number(task.value.map(|size| size.bytes)),
                task.value.is_some_and(|size| size.is_encoded)
            );
        });
        out.push_str(",\"failures\":");
        // Those of runs that were left out would be of none.
        let known: HashSet<RunId> = self.runs.iter().map(|run| run.id).collect();
        let failures = self.failures().iter().filter(|failure| known.contains(&failure.run));
        json::list(&mut out, failures, |out, failure| {
            let _infallible = write!(
                out,
                "{{\"run\":{},\"task\":{},\"at_s\":{},\"was_retried\":{},\"error\":{}}}",
                failure.run,
                failure.id,
                seconds(failure.at),
                failure.was_retried,
                quoted(&failure.error.to_string())
            );
        });
        out.push_str(",\"resources\":");
        json::list(&mut out, self.resources(), |out, sample| {
            let _infallible = write!(
                out,
                "{{\"at_s\":{},\"cpus\":{:.3},\"memory_bytes\":{},\"num_processes\":{}}}",
                seconds(sample.at),
                sample.cpus,
                sample.memory_bytes,
                sample.num_processes
            );
        });
        out.push('}');
        out
    }

    /// A trace for `ui.perfetto.dev` and `chrome://tracing`: a track for each worker, one for the critical path of each run, an edge along each
    /// dependency, and counters for memory, values held and busy processors. Above 200 000 edges the others are left out.
    ///
    /// # Examples
    /// ```
    /// let (_, profile) = sprang::profile(|| sprang::delayed(|| 1, ()).name("one").compute());
    /// let trace = profile.to_chrome_trace();
    /// assert!(trace.contains(r#""ph":"X","name":"one""#));
    /// ```
    pub fn to_chrome_trace(&self) -> String {
        let mut out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[".to_owned();
        let workers: BTreeSet<_> = self.records.iter().map(|record| record.worker).collect();
        let mut processes: BTreeMap<u32, &str> = BTreeMap::new();
        processes.insert(std::process::id(), "this process");
        workers.iter().filter(|worker| !worker.is_here()).for_each(|worker| {
            processes.insert(worker.pid(), "worker process");
        });
        for (pid, what) in processes {
            let _infallible = write!(
                out,
                "{{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":{pid},\"args\":{{\"name\":\"{what}\"}}}},"
            );
        }
        for worker in &workers {
            let (pid, thread) = (worker.pid(), worker.thread());
            let _infallible = write!(
                out,
                "{{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":{pid},\"tid\":{thread},\"args\":{{\"name\":\"thread {thread}\"}}}},"
            );
        }
        let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
        let own_pid = std::process::id();
        let mut num_flows = 0;
        for (index, run) in self.runs().iter().enumerate() {
            self.trace_critical_path(&mut out, run, index);
            for task in run.tasks() {
                let family = run.graph.family_name(run.graph.family(task.id as u32));
                let _infallible = write!(
                    out,
                    "{{\"ph\":\"X\",\"name\":{},\"cat\":{},\"pid\":{},\"tid\":{},\"ts\":{:.3},\"dur\":{:.3},\"args\":{{\"run\":{},\
                     \"task\":{},\"attempt\":{},\"outcome\":\"{}\"}}}},",
                    quoted(&task.name),
                    quoted(family),
                    task.worker.pid(),
                    task.worker.thread(),
                    micros(task.started),
                    micros(task.duration()),
                    run.id(),
                    task.id,
                    task.attempt,
                    task.outcome.word()
                );
            }
            let finished = run.records.iter().filter(|record| record.outcome == Outcome::Finished);
            let by_id: HashMap<u32, _> = finished.map(|record| (record.id, record)).collect();
            for to in run.records.iter().filter(|record| record.attempt == 1) {
                let (read, after) = run.graph.inputs(to.id);
                for from in read.iter().chain(after).filter_map(|input| by_id.get(input)) {
                    if num_flows == MAX_FLOWS {
                        break;
                    }
                    num_flows += 1;
                    // An edge starts and ends within the calls that it joins.
                    let (left, arrived) = (from.started_ns + from.ran_ns.saturating_sub(1), to.started_ns);
                    for (phase, worker, at) in
                        [("s\",\"bp\":\"e", from.worker, left), ("f\",\"bp\":\"e", to.worker, arrived)]
                    {
                        let _infallible = write!(
                            out,
                            "{{\"ph\":\"{phase}\",\"id\":{num_flows},\"name\":\"needs\",\"cat\":\"needs\",\"pid\":{},\"tid\":{},\"ts\":{:.3}}},",
                            worker.pid(),
                            worker.thread(),
                            at as f64 / 1e3
                        );
                    }
                }
            }
        }
        let pid = own_pid;
        for run in self.runs() {
            for (at, bytes) in
                thinned(run.live_bytes().into_iter().map(|(at, bytes)| (micros(at), bytes as f64)).collect())
            {
                let _infallible = write!(
                    out,
                    "{{\"ph\":\"C\",\"name\":\"values held by run {}\",\"pid\":{pid},\"ts\":{at:.3},\"args\":{{\"bytes\":{bytes:.0}}}}},",
                    run.id()
                );
            }
        }
        for sample in self.resources() {
            let at = micros(sample.at);
            let _infallible = write!(
                out,
                "{{\"ph\":\"C\",\"name\":\"memory\",\"pid\":{pid},\"ts\":{at:.3},\"args\":{{\"MB\":{:.1}}}}},\
                 {{\"ph\":\"C\",\"name\":\"busy processors\",\"pid\":{pid},\"ts\":{at:.3},\"args\":{{\"processors\":{:.2}}}}},",
                sample.memory_bytes as f64 / 1e6,
                sample.cpus
            );
        }
        // There is at least the name of this process.
        out.pop();
        out.push_str("]}");
        out
    }

    /// Once more the tasks that the run could not have been shorter without, on a track of their own.
    fn trace_critical_path(&self, out: &mut String, run: &RunProfile, index: usize) {
        /// Threads have lower numbers.
        const FIRST_TRACK: usize = 1 << 20;
        let (pid, track) = (std::process::id(), FIRST_TRACK + index);
        let last: HashMap<usize, TaskRecord> = run.tasks().map(|task| (task.id, task)).collect();
        let path: Vec<&TaskRecord> = run.critical_path().iter().filter_map(|task| last.get(&task.id)).collect();
        // A path of one task says nothing.
        if path.len() < 2 {
            return;
        }
        let name = quoted(&format!("critical path of {}", run.title()));
        let _infallible = write!(
            out,
            "{{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":{pid},\"tid\":{track},\"args\":{{\"name\":{name}}}}},"
        );
        for task in path {
            let _infallible = write!(
                out,
                "{{\"ph\":\"X\",\"name\":{},\"cat\":\"critical path\",\"pid\":{pid},\"tid\":{track},\"ts\":{:.3},\"dur\":{:.3},\"args\":\
                 {{\"task\":{},\"worker\":{}}}}},",
                quoted(&task.name),
                task.started.as_nanos() as f64 / 1e3,
                task.duration().as_nanos() as f64 / 1e3,
                task.id,
                quoted(&task.worker.to_string())
            );
        }
    }
}

/// A graph as lists with one entry for each task, by its id.
fn write_graph(out: &mut String, graph: &Graph) {
    let number = |out: &mut String, number: u32| {
        let _infallible = write!(out, "{number}");
    };
    let ids = || 0..graph.num_tasks() as u32;
    out.push_str("{\"names\":");
    json::list(out, graph.names(), |out, name| json::string(out, name));
    out.push_str(",\"families\":");
    json::list(out, 0..graph.num_families() as u32, |out, family| json::string(out, graph.family_name(family)));
    out.push_str(",\"name\":");
    json::list(out, ids(), |out, id| number(out, graph.name_index(id)));
    out.push_str(",\"family\":");
    json::list(out, ids(), |out, id| number(out, graph.family(id)));
    let sorts: String = ids().map(|id| graph.sort(id).letter()).collect();
    let _infallible = write!(out, ",\"sort\":\"{sorts}\",\"inputs\":");
    json::list(out, ids(), |out, id| {
        let (read, after) = graph.inputs(id);
        json::list(out, read.iter().chain(after), |out, &input| number(out, input));
    });
    out.push_str(",\"num_after\":{");
    let after = ids().map(|id| (id, graph.inputs(id).1.len())).filter(|(_, num_after)| *num_after > 0);
    for (index, (id, num_after)) in after.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _infallible = write!(out, "{comma}\"{id}\":{num_after}");
    }
    out.push_str("},\"outputs\":");
    json::list(out, graph.outputs(), |out, &output| number(out, output));
    out.push('}');
}
