//! A profile for other programs: CSV, JSON, and the trace format of Chrome and Perfetto.

use super::data::{Outcome, Profile, RunProfile, TaskRecord};
use super::report_data::thinned;
use super::schema::StoredProfile;
use crate::diagnostics::json::{self, rounded};
use crate::sorted::SortedMap;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::time::Duration;

/// No viewer opens a trace with more edges.
const MAX_FLOWS: usize = 200_000;

impl Profile {
    /// A table with a header and one line for each recorded call: run, task, name, process, thread,
    /// start, duration, time in the queue, time until the result came back, attempt, outcome, time
    /// at which the task was ready, bytes sent for the task, bytes sent back, and bytes of its
    /// value. Times are in seconds. The time in the queue, the time until the result came back and
    /// the bytes sent are empty for tasks of this process.
    ///
    /// # Examples
    /// ```
    /// let (_, profile) = sprang::profile(|| sprang::delayed(|| 1, ()).name("a, \"b\"").compute());
    /// let csv = profile.to_csv();
    /// assert!(csv.starts_with("run,task,name,process,thread,start_s,duration_s,queued_s,"));
    /// assert!(csv.lines().nth(1).unwrap().contains(r#",0,"a, ""b""","#));
    /// ```
    pub fn to_csv(&self) -> String {
        let mut out = "run,task,name,process,thread,start_s,duration_s,queued_s,returned_s,attempt,outcome,ready_s,\
                       sent_bytes,returned_bytes,value_bytes\n"
            .to_owned();
        for task in self.tasks() {
            let seconds = |time: Duration, decimals: usize| format!("{:.decimals$}", time.as_secs_f64());
            let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
            let name = match task.name.contains([',', '"', '\n', '\r']) {
                true => format!("\"{}\"", task.name.replace('"', "\"\"")),
                false => task.name.to_string(),
            };
            let cells = [
                task.run.to_string(),
                task.id.to_string(),
                name,
                task.worker.pid().to_string(),
                task.worker.thread().to_string(),
                seconds(task.started, 9),
                seconds(task.duration(), 9),
                task.queued.map(|time| seconds(time, 6)).unwrap_or_default(),
                task.returned.map(|time| seconds(time, 6)).unwrap_or_default(),
                task.attempt.to_string(),
                task.outcome.word().to_owned(),
                task.ready.map(|time| seconds(time, 9)).unwrap_or_default(),
                number(task.transferred.map(|(sent, _)| sent)),
                number(task.transferred.map(|(_, returned)| returned)),
                number(task.value.map(|size| size.bytes)),
            ];
            out += &cells.join(",");
            out.push('\n');
        }
        out
    }

    /// The whole profile as one JSON object: `process`, `duration_s`, `num_tasks`, `sampling`, and
    /// the lists `runs`, `names`, `tasks`, `failures` and `resources`. Times are in seconds. With
    /// the feature `files`, `Profile::from_json` reads it back.
    ///
    /// # Examples
    /// ```
    /// let (_, profile) = sprang::profile(|| sprang::delayed(|| 1, ()).name("one").compute());
    /// let json = profile.to_json();
    /// assert!(json.starts_with(r#"{"process":"#) && json.contains(r#""name":"one""#));
    /// ```
    pub fn to_json(&self) -> String {
        json::to_string(&StoredProfile::from(self))
    }

    /// A trace for `ui.perfetto.dev` and `chrome://tracing`: a track for each worker, a track for
    /// the critical path of each run, an edge for each dependency, and counters for memory, held
    /// values and busy processors. Edges beyond the first 200 000 are left out.
    ///
    /// # Examples
    /// ```
    /// let (_, profile) = sprang::profile(|| sprang::delayed(|| 1, ()).name("one").compute());
    /// let trace = profile.to_chrome_trace();
    /// assert!(trace.contains(r#""ph":"X","name":"one""#));
    /// ```
    pub fn to_chrome_trace(&self) -> String {
        let mut trace = Trace { text: "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[".to_owned(), num_flows: 0 };
        let mut workers = SortedMap::new();
        let mut processes = SortedMap::new();
        processes.insert(std::process::id(), "this process");
        for record in self.records() {
            workers.insert(record.worker, ());
            if !record.worker.is_here() {
                processes.insert(record.worker.pid(), "worker process");
            }
        }
        for &(pid, name) in processes.iter() {
            trace.add(TraceEvent {
                ph: "M",
                name: "process_name",
                pid,
                args: Some(TraceArgs::Name { name }),
                ..TraceEvent::default()
            });
        }
        for (worker, ()) in workers.iter() {
            trace.name_track(worker.pid(), worker.thread(), &format!("thread {}", worker.thread()));
        }
        for (index, run) in self.runs().iter().enumerate() {
            trace.add_critical_path(run, index as u32);
            trace.add_tasks(run);
            trace.add_flows(run);
        }
        for run in self.runs() {
            let name = format!("values held by run {}", run.id());
            let points = run.live_bytes().into_iter().map(|(at, bytes)| (micros(at), bytes as f64)).collect();
            thinned(points).into_iter().for_each(|(at, bytes)| trace.add_counter(&name, at, "bytes", bytes));
        }
        for sample in self.resources() {
            let at = micros(sample.at);
            trace.add_counter("memory", at, "MB", rounded(sample.memory_bytes as f64 / 1e6, 1));
            trace.add_counter("busy processors", at, "processors", rounded(sample.cpus, 2));
        }
        // The last event, at least the name of this process, has a comma after it.
        trace.text.pop();
        trace.text + "]}"
    }
}

/// The text of a trace. Events are written one by one, because a list of all of them would take
/// more memory than the text.
struct Trace {
    text: String,
    num_flows: usize,
}

/// An event in the format of Chrome's trace viewer.
#[derive(Default, Serialize)]
struct TraceEvent<'a> {
    ph: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bp: Option<&'static str>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'a str>,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<u32>,
    /// Microseconds, as is `dur`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<TraceArgs<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum TraceArgs<'a> {
    Name { name: &'a str },
    Task { run: u64, task: usize, attempt: u32, outcome: &'static str },
    PathTask { task: usize, worker: String },
    Counter(Amount),
}

/// An object with one field.
struct Amount {
    unit: &'static str,
    value: f64,
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.unit, &self.value)?;
        map.end()
    }
}

impl Trace {
    fn add(&mut self, event: TraceEvent<'_>) {
        self.text += &json::to_string(&event);
        self.text.push(',');
    }

    fn name_track(&mut self, pid: u32, track: u32, name: &str) {
        let args = Some(TraceArgs::Name { name });
        self.add(TraceEvent { ph: "M", name: "thread_name", pid, tid: Some(track), args, ..TraceEvent::default() });
    }

    fn add_call(&mut self, task: &TaskRecord, cat: &str, (pid, track): (u32, u32), args: TraceArgs<'_>) {
        self.add(TraceEvent {
            ph: "X",
            name: &task.name,
            cat: Some(cat),
            pid,
            tid: Some(track),
            ts: Some(micros(task.started)),
            dur: Some(micros(task.duration())),
            args: Some(args),
            ..TraceEvent::default()
        });
    }

    fn add_counter(&mut self, name: &str, at: f64, unit: &'static str, value: f64) {
        let args = Some(TraceArgs::Counter(Amount { unit, value }));
        self.add(TraceEvent { ph: "C", name, pid: std::process::id(), ts: Some(at), args, ..TraceEvent::default() });
    }

    fn add_tasks(&mut self, run: &RunProfile) {
        for task in run.tasks() {
            let family = run.graph.family_name(run.graph.family(task.id as u32));
            let (run, attempt, outcome) = (run.id.get(), task.attempt, task.outcome.word());
            let track = (task.worker.pid(), task.worker.thread());
            self.add_call(&task, family, track, TraceArgs::Task { run, task: task.id, attempt, outcome });
        }
    }

    /// Adds an edge for each dependency between recorded tasks.
    fn add_flows(&mut self, run: &RunProfile) {
        let finished = run.records.iter().filter(|record| record.outcome == Outcome::Finished);
        let by_id: HashMap<u32, _> = finished.map(|record| (record.id, record)).collect();
        for to in run.records.iter().filter(|record| record.attempt == 1) {
            for from in run.graph.all_inputs(to.id).iter().filter_map(|input| by_id.get(input)) {
                if self.num_flows == MAX_FLOWS {
                    return;
                }
                self.num_flows += 1;
                // The viewer binds an end to the call around it, so both ends lie within the calls.
                let left_ns = from.started_ns + from.ran_ns.saturating_sub(1);
                for (ph, worker, at_ns) in [("s", from.worker, left_ns), ("f", to.worker, to.started_ns)] {
                    self.add(TraceEvent {
                        ph,
                        id: Some(self.num_flows),
                        bp: Some("e"),
                        name: "needs",
                        cat: Some("needs"),
                        pid: worker.pid(),
                        tid: Some(worker.thread()),
                        ts: Some(at_ns as f64 / 1e3),
                        ..TraceEvent::default()
                    });
                }
            }
        }
    }

    /// Adds the tasks of the critical path once more, on their own track.
    fn add_critical_path(&mut self, run: &RunProfile, index: u32) {
        /// Threads have lower numbers.
        const FIRST_TRACK: u32 = 1 << 20;
        let last: HashMap<usize, TaskRecord> = run.tasks().map(|task| (task.id, task)).collect();
        let path: Vec<&TaskRecord> = run.critical_path().iter().filter_map(|task| last.get(&task.id)).collect();
        // A path of one task shows nothing.
        if path.len() < 2 {
            return;
        }
        let (pid, track) = (std::process::id(), FIRST_TRACK + index);
        self.name_track(pid, track, &format!("critical path of {}", run.title()));
        for task in path {
            let args = TraceArgs::PathTask { task: task.id, worker: task.worker.to_string() };
            self.add_call(task, "critical path", (pid, track), args);
        }
    }
}

pub(super) fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}
