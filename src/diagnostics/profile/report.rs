//! A profile as one page that needs nothing else: no server, no network, no other file.
//!
//! What can be read is written here, so that it is there without scripts; the stream and the charts are drawn by the page's script from the
//! data at its end. The page is `report.html` with the places between two `@` filled in.
//!
//! A page shows so many tasks at most that a browser opens it at once. Of more it shows the longest, which are what one can see.

use super::json::{self, quoted};
use super::{Aspect, Profile, Record, RunProfile};
use crate::diagnostics::picture::Color;
use crate::diagnostics::units;
use crate::engine::callback::{RunId, WorkerId};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::time::Duration;

const PAGE: &str = include_str!("report.html");

const MAX_TASKS: usize = 40_000;
/// Tasks with names of their own; the others are called by the name they share.
const MAX_LABELS: usize = 20_000;
const MAX_POINTS: usize = 1_200;
const MAX_ROWS: usize = 200;
/// More boxes do not fit side by side into a page.
const MAX_BOXES: usize = 60;

impl Profile {
    /// A page for a browser, in one file: figures, failures, what each worker did when, busy processors and memory over time, the table by
    /// name, the critical path, and the graph of the run with the most tasks. It loads nothing, and is light or dark as the viewer is.
    ///
    /// Of more than 40 000 calls, the stream of tasks shows the longest, and says so.
    ///
    /// # Examples
    /// ```
    /// let (_, profile) = sprang::profile(|| sprang::delayed(|| 1, ()).name("<one>").compute());
    /// let page = profile.to_html();
    /// assert!(page.starts_with("<!doctype html>") && page.contains("&lt;one&gt;"));
    /// assert!(!page.contains("<one>"));
    /// ```
    pub fn to_html(&self) -> String {
        let main = self.runs.iter().max_by_key(|run| (run.num_tasks(), std::cmp::Reverse(run.id)));
        let title = main.map_or_else(|| "No runs".to_owned(), |run| format!("Profile of {}", run.title()));
        let fill = |place: &str| match place {
            "title" => escaped(&title),
            "subtitle" => self.subtitle(),
            "figures" => self.figures(),
            "notices" => self.notices(),
            "failures" => self.failures_section(),
            "names" => self.names_table(),
            "path" => main.map_or_else(String::new, path_table),
            "ideal" => main.map_or_else(String::new, |run| self.ideal_section(run)),
            "peak" => main.map_or_else(String::new, peak_section),
            "runs" => self.runs_table(),
            "caption" => main.map_or_else(String::new, |run| {
                let which = if self.runs.len() > 1 { ", the run with the most tasks" } else { "" };
                let title = escaped(&run.title());
                format!("The graph of “{title}”{which}. The red way took longest.")
            }),
            "graph" => main.map_or_else(String::new, graphs),
            "data" => self.data(),
            _ => unreachable!("the page has no place {place:?}"),
        };
        let mut page = String::with_capacity(PAGE.len() * 4);
        let mut rest = PAGE;
        while let Some((before, place, after)) = next_place(rest) {
            page += before;
            page += &fill(place);
            rest = after;
        }
        page + rest
    }

    fn subtitle(&self) -> String {
        let runs = match &self.runs[..] {
            [] => "no run".to_owned(),
            [run] => format!("one run on the scheduler “{}”", escaped(run.scheduler())),
            runs => format!("{} runs", units::count(runs.len() as u64)),
        };
        format!("{runs}, made by sprang {}", env!("CARGO_PKG_VERSION"))
    }

    fn figures(&self) -> String {
        let mut out = String::new();
        let mut add = |value: String, what: &str, is_bad: bool| {
            let class = if is_bad { "figure bad" } else { "figure" };
            let _infallible = write!(out, "<div class=\"{class}\"><b>{value}</b><span>{what}</span></div>");
        };
        let duration = self.duration();
        add(units::duration(duration), "from start to end", false);
        add(units::count(self.num_tasks()), "calls of tasks", false);
        let workers = self.lanes().len();
        add(units::count(workers as u64), if workers == 1 { "worker" } else { "workers" }, false);
        let [at_once] = self.parallelism(1)[..] else { unreachable!("one part was asked for") };
        add(format!("{at_once:.2}"), "tasks at once, on average", false);
        if let Some(run) = self.runs.iter().max_by_key(|run| run.num_tasks()) {
            let path: Duration = run.critical_path().iter().map(|task| task.duration).sum();
            add(units::duration(path), "on the critical path", false);
        }
        if let Some(peak) = self.samples.iter().map(|sample| sample.memory_bytes).max() {
            add(units::bytes(peak), "memory at most", false);
        }
        let crossed = self.records.iter().map(|record| (record.sent_bytes, record.returned_bytes()));
        let (sent, returned) = crossed.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        if sent + returned > 0 {
            let scaled = |bytes: u64| units::bytes((bytes as f64 * self.sampling()) as u64);
            add(format!("{} / {}", scaled(sent), scaled(returned)), "to other processes / back", false);
        }
        let num_failed = self.failures.iter().filter(|failure| !failure.was_retried).count();
        add(units::count(num_failed as u64), if num_failed == 1 { "failure" } else { "failures" }, num_failed > 0);
        out
    }

    fn notices(&self) -> String {
        let mut out = String::new();
        let mut add = |text: String| {
            let _infallible = write!(out, "<section class=\"notice\">{text}</section>");
        };
        if self.sampling() > 1.0 {
            add(format!(
                "There were too many tasks to record all. This is an even sample, one of {:.0}: counts and totals are estimates.",
                self.sampling()
            ));
        }
        if self.records.len() > MAX_TASKS {
            add(format!(
                "The stream shows the {} longest of {} recorded calls.",
                units::count(MAX_TASKS as u64),
                units::count(self.records.len() as u64)
            ));
        }
        if self.num_runs_left_out > 0 {
            add(format!("{} later runs are left out.", units::count(self.num_runs_left_out as u64)));
        }
        out
    }

    fn failures_section(&self) -> String {
        if self.failures.is_empty() {
            return String::new();
        }
        let mut out =
            "<section class=\"failed\"><h2>Failures</h2><div class=\"tall\"><table class=\"stacked\"><tr><th>task</th><th>at</th>\
                       <th style=\"text-align:left\">error</th></tr>"
                .to_owned();
        let names: HashMap<RunId, &RunProfile> = self.runs.iter().map(|run| (run.id, run)).collect();
        for failure in self.failures.iter().take(MAX_ROWS) {
            let name = names.get(&failure.run).map_or("?", |run| run.graph.name(failure.id as u32));
            let note = if failure.was_retried { " (tried again)" } else { "" };
            let _infallible = write!(
                out,
                "<tr><td>{}</td><td>{}</td><td class=\"text\">{}{note}</td></tr>",
                named(name),
                units::duration(failure.at),
                escaped(&failure.error.to_string())
            );
        }
        out += "</table></div>";
        out += &more(self.failures.len(), "failures");
        out + "</section>"
    }

    fn names_table(&self) -> String {
        let rows = self.by_name();
        let all: Duration = rows.iter().map(|row| row.total).sum();
        let mut out =
            "<table><tr><th>name</th><th>calls</th><th class=\"wide\">failed</th><th>total</th><th class=\"wide\">share</th><th>mean</th><th class=\"wide\">half \
                       within</th><th class=\"wide\">99 % within</th><th>longest</th></tr>"
                .to_owned();
        for (index, row) in rows.iter().take(MAX_ROWS).enumerate() {
            let share = row.total.as_secs_f64() / all.as_secs_f64().max(1e-12);
            let _infallible = write!(
                out,
                "<tr><td><span class=\"swatch\" style=\"background:{}\"></span>{}</td><td>{}</td><td class=\"wide\">{}</td><td>{}</td><td class=\"wide\">{:.1} %</td>",
                Color::of_index(index),
                named(&row.name),
                units::count(row.count),
                units::count(row.num_failed),
                units::duration(row.total),
                share * 100.0
            );
            for (class, time) in [("", row.mean), ("wide", row.p50), ("wide", row.p99), ("", row.max)] {
                let _infallible = write!(out, "<td class=\"{class}\">{}</td>", units::duration(time));
            }
            out += "</tr>";
        }
        out + "</table>" + &more(rows.len(), "names")
    }

    fn runs_table(&self) -> String {
        let mut out =
            "<div class=\"tall\"><table><tr><th>run</th><th>tasks</th><th class=\"wide\">started</th><th>took</th></tr>".to_owned();
        let mut depth: HashMap<RunId, usize> = HashMap::new();
        for run in self.runs.iter().take(MAX_ROWS) {
            let own = run.parent.and_then(|parent| depth.get(&parent)).map_or(0, |depth| depth + 1);
            depth.insert(run.id, own);
            let took =
                run.ended.map_or_else(|| "…".to_owned(), |ended| units::duration(ended.saturating_sub(run.started)));
            let _infallible = write!(
                out,
                "<tr><td style=\"padding-left:{}px\">{}{}</td><td>{}</td><td class=\"wide\">{}</td><td>{took}</td></tr>",
                own.min(8) * 14,
                named(&run.title()),
                if run.error.is_some() { " <b style=\"color:var(--bad)\">failed</b>" } else { "" },
                units::count(run.num_tasks() as u64),
                units::duration(run.started)
            );
        }
        out + "</table></div>" + &more(self.runs.len(), "runs")
    }

    /// Who ran tasks, this process first.
    fn lanes(&self) -> Vec<WorkerId> {
        let mut lanes: Vec<WorkerId> = self.records.iter().map(|record| record.worker).collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    /// Which part of the time each of these was busy.
    fn utilisation(&self, lanes: &[WorkerId]) -> Vec<f64> {
        let mut busy: HashMap<WorkerId, (u64, u64)> = lanes.iter().map(|&lane| (lane, (0, 0))).collect();
        let mut records: Vec<&Record> = self.records.iter().collect();
        records.sort_unstable_by_key(|record| record.started_ns);
        for record in records {
            // What runs inside another task, in a nested run, is not counted twice.
            if let Some((until_ns, busy_ns)) = busy.get_mut(&record.worker) {
                let end_ns = record.started_ns + record.ran_ns;
                *busy_ns += end_ns.saturating_sub(record.started_ns.max(*until_ns));
                *until_ns = end_ns.max(*until_ns);
            }
        }
        let all = self.duration().as_nanos().max(1) as f64 / self.sampling();
        lanes.iter().map(|lane| (busy[lane].1 as f64 / all).min(1.0)).collect()
    }

    /// How long the run took beside how long it had to.
    fn ideal_section(&self, run: &RunProfile) -> String {
        let Some(took) = run.ended.map(|ended| ended.saturating_sub(run.started)).filter(|took| !took.is_zero()) else {
            return "<p class=\"soft small\">The run has not ended.</p>".to_owned();
        };
        let mut workers: Vec<WorkerId> = run.records.iter().map(|record| record.worker).collect();
        workers.sort_unstable();
        workers.dedup();
        let num_workers = workers.len().max(1);
        let times = run.times_ns();
        let work = Duration::from_nanos(times.iter().sum::<f64>() as u64);
        let path: Duration = run.critical_path().iter().map(|task| task.duration).sum();
        let share = work / num_workers as u32;
        let least = share.max(path);
        let longest = took.max(least).as_secs_f64();
        let mut out = String::new();
        let of_workers = match num_workers {
            1 => "all of the work, for one worker".to_owned(),
            _ => format!("all of the work, shared by {} workers", units::count(num_workers as u64)),
        };
        for (what, time, class) in [
            (of_workers.as_str(), share, "accent"),
            ("the critical path, with any number of workers", path, "bad"),
            ("the run", took, "soft"),
        ] {
            let _infallible = write!(
                out,
                "<div class=\"bar\"><span>{what}</span><span class=\"track\"><i style=\"width:{:.1}%;background:var(--{class})\"></i></span>\
                 <b>{}</b></div>",
                time.as_secs_f64() / longest * 100.0,
                units::duration(time)
            );
        }
        let at_once = work.as_secs_f64() / path.as_secs_f64().max(1e-12);
        let _infallible = write!(
            out,
            "<p class=\"soft small\">No schedule on {} takes less than {}, which is {:.0} % of what the run took. The graph can keep {at_once:.1} \
             workers busy on average, if there are that many.</p>",
            if num_workers == 1 {
                "one worker".to_owned()
            } else {
                format!("{} workers", units::count(num_workers as u64))
            },
            units::duration(least),
            (least.as_secs_f64() / took.as_secs_f64() * 100.0).min(100.0)
        );
        out
    }

    fn data(&self) -> String {
        let names: Vec<_> = self.by_name().into_iter().map(|row| row.name).collect();
        let index_of_name: HashMap<&str, usize> =
            names.iter().enumerate().map(|(index, name)| (&**name, index)).collect();
        let lanes = self.lanes();
        let mut out = format!("{{\"end\":{:.3},\"names\":", micros(self.duration()));
        json::list(&mut out, names.iter().enumerate(), |out, (index, name)| {
            let _infallible = write!(out, "{{\"name\":{},\"color\":\"{}\"}}", quoted(name), Color::of_index(index));
        });
        out += ",\"lanes\":";
        json::list(&mut out, lanes.iter().zip(self.utilisation(&lanes)).enumerate(), |out, (index, (lane, busy))| {
            let (name, short) = (quoted(&lane.to_string()), index + 1);
            let _infallible = write!(out, "{{\"name\":{name},\"short\":\"{short}\",\"busy\":{busy:.3}}}");
        });
        out += ",\"outcomes\":[\"finished\",\"failed\",\"tried again\",\"cancelled\"],\"tasks\":";
        self.stream(&mut out, &lanes, &index_of_name);
        out += ",\"charts\":";
        json::list(&mut out, self.charts(), |out, chart| chart.write(out));
        out + "}"
    }

    /// The tasks that are shown, column by column.
    fn stream(&self, out: &mut String, lanes: &[WorkerId], index_of_name: &HashMap<&str, usize>) {
        let mut shown: Vec<(&RunProfile, &Record)> =
            self.runs.iter().flat_map(|run| run.records.iter().map(move |record| (run, record))).collect();
        if shown.len() > MAX_TASKS {
            shown.select_nth_unstable_by_key(MAX_TASKS, |(_, record)| std::cmp::Reverse(record.ran_ns));
            shown.truncate(MAX_TASKS);
        }
        // What is not shown is there as far as it makes the others stronger.
        let ran = |ns: u64| ns as f64 * self.sampling();
        let (all_ns, shown_ns) = (
            self.records.iter().map(|record| record.ran_ns).sum::<u64>(),
            shown.iter().map(|(_, record)| record.ran_ns).sum::<u64>(),
        );
        let scale = if shown_ns > 0 { ran(all_ns) / shown_ns as f64 } else { 1.0 };
        // Of those that begin at once the longer one is around the other.
        shown.sort_by_key(|(_, record)| (record.started_ns, std::cmp::Reverse(record.ran_ns)));
        let mut labels: Vec<&str> = Vec::new();
        let label_of: Vec<i64> = shown
            .iter()
            .map(|(run, record)| {
                let (name, family) = (run.graph.name(record.id), run.graph.family_name(run.graph.family(record.id)));
                if name == family || labels.len() >= MAX_LABELS {
                    return -1;
                }
                labels.push(name);
                labels.len() as i64 - 1
            })
            .collect();
        let lane_of: HashMap<WorkerId, usize> = lanes.iter().enumerate().map(|(index, &lane)| (lane, index)).collect();
        let number = |out: &mut String, value: usize| *out += &value.to_string();
        let thousandth = |out: &mut String, ns: u64| {
            let _infallible = match ns % 1_000 {
                0 => write!(out, "{}", ns / 1_000),
                rest => write!(out, "{}.{rest:03}", ns / 1_000),
            };
        };
        *out += "{\"lane\":";
        json::list(out, &shown, |out, (_, record)| number(out, lane_of[&record.worker]));
        *out += ",\"name\":";
        json::list(out, &shown, |out, (run, record)| {
            number(out, index_of_name[&**run.graph.family_name(run.graph.family(record.id))]);
        });
        *out += ",\"start\":";
        json::list(out, &shown, |out, (_, record)| thousandth(out, record.started_ns));
        *out += ",\"dur\":";
        json::list(out, &shown, |out, (_, record)| thousandth(out, record.ran_ns));
        *out += ",\"outcome\":";
        json::list(out, &shown, |out, (_, record)| number(out, record.outcome as usize));
        *out += ",\"critical\":";
        let path: HashMap<RunId, HashSet<u32>> = self.runs.iter().map(|run| (run.id, run.critical_ids())).collect();
        json::list(out, &shown, |out, (run, record)| number(out, path[&run.id].contains(&record.id).into()));
        *out += ",\"label\":";
        json::list(out, label_of, |out, label| *out += &label.to_string());
        let _infallible = write!(out, "}},\"scale\":{scale:.3},\"labels\":");
        json::list(out, labels, json::string);
    }

    fn charts(&self) -> Vec<Chart> {
        let end = micros(self.duration());
        let num_parts = 400;
        let parallelism = self.parallelism(num_parts);
        let parts = (0..num_parts).map(|part| end * part as f64 / num_parts as f64);
        let mut charts = vec![Chart {
            title: "Tasks at once, with those that wait for a nested run; the dashed line is the number of workers",
            color: "accent",
            unit: "count",
            has_steps: true,
            line: Some(self.lanes().len()),
            points: parts.zip(parallelism.iter().copied()).chain([(end, parallelism[num_parts - 1])]).collect(),
        }];
        // A single one makes no line.
        if self.samples.len() > 1 {
            let points = |value: &dyn Fn(&super::ResourceSample) -> f64| {
                let points: Vec<_> = self.samples.iter().map(|sample| (micros(sample.at), value(sample))).collect();
                thinned(points)
            };
            charts.push(Chart {
                title: "Busy processors, by this process and those below it",
                color: "accent",
                unit: "count",
                has_steps: false,
                line: None,
                points: points(&|sample| sample.cpus),
            });
            charts.push(Chart {
                title: "Resident memory of these processes",
                color: "memory",
                unit: "bytes",
                has_steps: false,
                line: None,
                points: points(&|sample| sample.memory_bytes as f64),
            });
        }
        if let Some(run) = self.runs.iter().max_by_key(|run| run.num_tasks()) {
            let live: Vec<_> = run.live_values().into_iter().map(|(at, live)| (micros(at), live as f64)).collect();
            let title = match run.is_sample {
                true => "Values held, as far as they are in the sample, of the run with the most tasks",
                false => "Values held, of the run with the most tasks",
            };
            let (color, line, has_steps) = ("values", None, true);
            charts.push(Chart { title, color, unit: "count", has_steps, line, points: thinned(live) });
            let bytes: Vec<_> = run.live_bytes().into_iter().map(|(at, bytes)| (micros(at), bytes as f64)).collect();
            let title = "Bytes of these values";
            charts.push(Chart { title, color, unit: "bytes", has_steps, line, points: thinned(bytes) });
        }
        charts
    }
}

struct Chart {
    title: &'static str,
    color: &'static str,
    unit: &'static str,
    has_steps: bool,
    /// A mark across the chart.
    line: Option<usize>,
    points: Vec<(f64, f64)>,
}

impl Chart {
    fn write(self, out: &mut String) {
        let Chart { title, color, unit, has_steps, line, points } = self;
        let least = if unit == "bytes" { 1024 } else { 1 };
        let _infallible = write!(
            out,
            "{{\"title\":\"{title}\",\"color\":\"{color}\",\"unit\":\"{unit}\",\"steps\":{has_steps},\"least\":{least},\"line\":{},\"x\":",
            line.unwrap_or(0)
        );
        json::list(out, &points, |out, (x, _)| *out += &format!("{x:.1}"));
        *out += ",\"y\":";
        json::list(out, &points, |out, (_, y)| *out += &format!("{y:.2}"));
        *out += "}";
    }
}

/// No more points than can be seen, the highest of those that lie together.
pub(super) fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points;
    }
    let chunk = points.len().div_ceil(MAX_POINTS);
    let highest = |points: &[(f64, f64)]| points.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a });
    points.chunks(chunk).filter_map(highest).collect()
}

fn path_table(run: &RunProfile) -> String {
    let path = run.critical_path();
    let all: Duration = path.iter().map(|task| task.duration).sum();
    let length = units::count(path.len() as u64);
    let took = run.ended.map_or_else(String::new, |ended| {
        format!(", of the {} that the run took", units::duration(ended.saturating_sub(run.started)))
    });
    let mut out = format!(
        "<p class=\"soft small\">{length} tasks, each needing the one before: {}{took}.</p>\
         <div class=\"tall\"><table><tr><th>task</th><th>took</th><th style=\"text-align:left\">share</th></tr>",
        units::duration(all)
    );
    for task in path.iter().take(MAX_ROWS) {
        let share = task.duration.as_secs_f64() / all.as_secs_f64().max(1e-12);
        let _infallible = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td style=\"text-align:left\"><span class=\"share\" style=\"width:{:.0}px\"></span></td></tr>",
            named(&task.name),
            units::duration(task.duration),
            (share * 110.0).max(1.0)
        );
    }
    out + "</table></div>" + &more(path.len(), "tasks")
}

fn peak_section(run: &RunProfile) -> String {
    let Some(peak) = run.peak() else {
        return "<p class=\"soft small\">No value was held for another task.</p>".to_owned();
    };
    let is_inline = run.records.iter().filter_map(Record::value).any(|size| !size.is_encoded);
    let mut out = format!(
        "<p class=\"soft small\">At {}, {} {}, {} together{}.{}</p><div class=\"tall\"><table><tr><th>name</th><th>values</th><th>bytes</th>\
         <th style=\"text-align:left\">held for</th></tr>",
        units::duration(peak.at.saturating_sub(run.started)),
        units::count(peak.num_values as u64),
        if peak.num_values == 1 { "value" } else { "values" },
        units::bytes(peak.bytes),
        if run.is_sample { ", as far as they are in the sample" } else { "" },
        match is_inline {
            true =>
                " Of some only the size of their type is known, 24 B for a vector; <code>Profiler::measure_values</code> looks closer.",
            false => "",
        }
    );
    for row in peak.held.iter().take(MAX_ROWS) {
        let _infallible = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td style=\"text-align:left\">{}</td></tr>",
            named(&row.name),
            units::count(row.count as u64),
            units::bytes(row.bytes),
            row.held_for.as_ref().map_or_else(|| "the caller".to_owned(), |name| named(name))
        );
    }
    out + "</table></div>" + &more(peak.held.len(), "names")
}

/// The graph in three colourings, of which one is seen.
fn graphs(run: &RunProfile) -> String {
    let aspects = [(Aspect::Time, "time"), (Aspect::Memory, "memory"), (Aspect::State, "state")];
    let mut out = "<div class=\"tabs\"><span class=\"soft small\">Colours and notes by</span>".to_owned();
    for (index, (_, word)) in aspects.iter().enumerate() {
        let checked = if index == 0 { " checked" } else { "" };
        let _infallible =
            write!(out, "<label><input type=\"radio\" name=\"aspect\" id=\"by-{word}\"{checked}>{word}</label>");
    }
    out += "</div>";
    for (aspect, word) in aspects {
        let svg = run.picture_of(aspect).max_tasks(MAX_BOXES).to_svg();
        let _infallible = write!(out, "<div class=\"graph by-{word}\">{svg}</div>");
    }
    out
}

fn more(len: usize, what: &str) -> String {
    match len.checked_sub(MAX_ROWS) {
        Some(more @ 1..) => format!("<p class=\"soft small\">and {} more {what}</p>", units::count(more as u64)),
        _ => String::new(),
    }
}

/// A name that is cut where it is too long, and shown whole under the mouse.
fn named(name: &str) -> String {
    let name = escaped(name);
    format!("<span class=\"name\" title=\"{name}\">{name}</span>")
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            _ => out.push(c),
        }
    }
    out
}

/// What stands before the next place, its name, and what follows it. A place is a word of letters between two `@`.
fn next_place(page: &str) -> Option<(&str, &str, &str)> {
    let mut offset = 0;
    loop {
        let start = offset + page[offset..].find('@')?;
        let after = &page[start + 1..];
        let len = after.bytes().take_while(u8::is_ascii_lowercase).count();
        if len > 0 && after[len..].starts_with('@') {
            return Some((&page[..start], &after[..len], &after[len + 1..]));
        }
        offset = start + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_and_other_at_signs_are_not() {
        assert_eq!(next_place("a @media (x) @title@ b"), Some(("a @media (x) ", "title", " b")));
        assert_eq!(next_place("a@b.c @@ @"), None);
    }

    #[test]
    fn the_page_loads_nothing() {
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "fetch("] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }

    #[test]
    fn peaks_are_not_thinned_out() {
        let points: Vec<_> = (0..100_000).map(|i| (f64::from(i), f64::from(u8::from(i == 77_777)))).collect();
        let thinned = thinned(points);
        assert!(thinned.len() <= MAX_POINTS);
        assert!(thinned.contains(&(77_777.0, 1.0)) && thinned.is_sorted_by(|a, b| a.0 < b.0));
    }
}
