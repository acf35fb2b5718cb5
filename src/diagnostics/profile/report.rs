//! A profile as one page that needs no server, no network and no other file.
//!
//! The texts and tables are written here, so they are readable without scripts. The page's script
//! draws the stream and the charts from the data at the end of the page. The page is `report.html`
//! with its slots filled in; a slot is a word between two `@`.

use super::aspect::Aspect;
use super::data::{Profile, RunProfile};
use super::report_data::MAX_TASKS;
use crate::diagnostics::picture::Color;
use crate::diagnostics::units;
use crate::engine::callback::RunId;
use crate::sorted::SortedMap;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

const PAGE: &str = include_str!("report.html");

const MAX_ROWS: usize = 200;
/// More boxes do not fit side by side into a page.
const MAX_BOXES: usize = 60;

impl Profile {
    /// A page for a browser, in one file: figures, failures, the tasks of each worker over time,
    /// busy processors and memory over time, the table by name, the critical path, and the graph of
    /// the run with the most tasks. The page loads nothing, and follows the light or dark mode of
    /// the browser.
    ///
    /// With more than 40 000 calls, the stream of tasks shows the longest, and the page says so.
    ///
    /// # Examples
    /// ```
    /// let (_, profile) = sprang::profile(|| sprang::delayed(|| 1, ()).name("<one>").compute());
    /// let page = profile.to_html();
    /// assert!(page.starts_with("<!doctype html>") && page.contains("&lt;one&gt;"));
    /// assert!(!page.contains("<one>"));
    /// ```
    pub fn to_html(&self) -> String {
        let main = self.runs.iter().max_by_key(|run| (run.num_tasks(), Reverse(run.id)));
        let title = main.map_or_else(|| "No runs".to_owned(), |run| format!("Profile of {}", run.title()));
        let of_main = |section: &dyn Fn(&RunProfile) -> String| main.map(section).unwrap_or_default();
        let fill = |slot: &str| match slot {
            "title" => escaped(&title),
            "subtitle" => self.subtitle(),
            "figures" => self.figures(),
            "notices" => self.notices(),
            "failures" => self.failures_section(),
            "names" => self.names_table(),
            "path" => of_main(&path_table),
            "ideal" => of_main(&ideal_section),
            "peak" => of_main(&peak_section),
            "runs" => self.runs_table(),
            "caption" => of_main(&|run| {
                let which = if self.runs.len() > 1 { ", the run with the most tasks" } else { "" };
                format!("The graph of “{}”{which}. The red path took longest.", escaped(&run.title()))
            }),
            "graph" => of_main(&graphs),
            "data" => self.report_data(),
            _ => unreachable!("the page has no slot {slot:?}"),
        };
        let mut page = String::with_capacity(PAGE.len() * 4);
        let mut rest = PAGE;
        while let Some((before, slot, after)) = next_slot(rest) {
            page += before;
            page += &fill(slot);
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
        let mut add = |value: String, label: &str| {
            let is_bad = label.starts_with("failure") && value != "0";
            let class = if is_bad { "figure bad" } else { "figure" };
            let _infallible = write!(out, "<div class=\"{class}\"><b>{value}</b><span>{label}</span></div>");
        };
        add(units::duration(self.duration()), "from start to end");
        add(units::count(self.num_tasks()), "calls of tasks");
        let workers = self.lanes().len();
        add(units::count(workers as u64), if workers == 1 { "worker" } else { "workers" });
        add(format!("{:.2}", self.parallelism(1)[0]), "tasks at once, on average");
        if let Some(run) = self.runs.iter().max_by_key(|run| run.num_tasks()) {
            add(units::duration(run.critical_path().iter().map(|task| task.duration).sum()), "on the critical path");
        }
        if let Some(peak) = self.samples.iter().map(|sample| sample.memory_bytes).max() {
            add(units::bytes(peak), "memory at most");
        }
        let crossed = self.records().map(|record| (record.sent_bytes, record.returned_bytes()));
        let (sent, returned) = crossed.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        if sent + returned > 0 {
            let scaled = |bytes: u64| units::bytes((bytes as f64 * self.sampling()) as u64);
            add(format!("{} / {}", scaled(sent), scaled(returned)), "to other processes / back");
        }
        let num_failed = self.failures.iter().filter(|failure| !failure.was_retried).count();
        add(units::count(num_failed as u64), if num_failed == 1 { "failure" } else { "failures" });
        out
    }

    fn notices(&self) -> String {
        let count = |count: usize| units::count(count as u64);
        let notices = [
            (self.sampling() > 1.0).then(|| {
                format!(
                    "There were too many tasks to record all. This is an even sample, one of {:.0}: counts and totals \
                     are estimates.",
                    self.sampling()
                )
            }),
            (self.num_records() > MAX_TASKS).then(|| {
                let (shown, all) = (count(MAX_TASKS), count(self.num_records()));
                format!("The stream shows the {shown} longest of {all} recorded calls.")
            }),
            (self.num_runs_left_out > 0).then(|| format!("{} later runs are left out.", count(self.num_runs_left_out))),
        ];
        notices.iter().flatten().map(|text| format!("<section class=\"notice\">{text}</section>")).collect()
    }

    fn failures_section(&self) -> String {
        if self.failures.is_empty() {
            return String::new();
        }
        let mut table = Table::new("stacked", &[("", "task"), ("", "at"), ("text", "error")]);
        let runs: HashMap<RunId, &RunProfile> = self.runs.iter().map(|run| (run.id, run)).collect();
        for failure in self.failures.iter().take(MAX_ROWS) {
            let name = runs.get(&failure.run).map_or("?", |run| run.graph.name(failure.id as u32));
            let note = if failure.was_retried { " (retried)" } else { "" };
            let error = escaped(&failure.error.to_string()) + note;
            table.row(&[named(name), units::duration(failure.at), error]);
        }
        let table = table.end_tall(self.failures.len(), "failures");
        format!("<section class=\"failed\"><h2>Failures</h2>{table}</section>")
    }

    fn names_table(&self) -> String {
        let rows = self.by_name();
        let all: Duration = rows.iter().map(|row| row.total).sum();
        let heads = [
            ("", "name"),
            ("", "calls"),
            ("wide", "failed"),
            ("", "total"),
            ("wide", "share"),
            ("", "mean"),
            ("wide", "half within"),
            ("wide", "99 % within"),
            ("", "longest"),
        ];
        let mut table = Table::new("", &heads);
        for (index, row) in rows.iter().take(MAX_ROWS).enumerate() {
            let color = Color::of_index(index);
            let share = row.total.as_secs_f64() / all.as_secs_f64().max(1e-12);
            table.row(&[
                format!("<span class=\"swatch\" style=\"background:{color}\"></span>{}", named(&row.name)),
                units::count(row.count),
                units::count(row.num_failed),
                units::duration(row.total),
                format!("{:.1} %", share * 100.0),
                units::duration(row.mean),
                units::duration(row.p50),
                units::duration(row.p99),
                units::duration(row.max),
            ]);
        }
        table.end(rows.len(), "names")
    }

    fn runs_table(&self) -> String {
        let mut table = Table::new("", &[("", "run"), ("", "tasks"), ("wide", "started"), ("", "took")]);
        let mut depth: HashMap<RunId, usize> = HashMap::new();
        for run in self.runs.iter().take(MAX_ROWS) {
            let own = run.parent.and_then(|parent| depth.get(&parent)).map_or(0, |depth| depth + 1);
            depth.insert(run.id, own);
            let indent = own.min(8) * 14;
            let failed = if run.error.is_some() { " <b style=\"color:var(--bad)\">failed</b>" } else { "" };
            table.row(&[
                format!("<span style=\"padding-left:{indent}px\"></span>{}{failed}", named(&run.title())),
                units::count(run.num_tasks() as u64),
                units::duration(run.started),
                run.duration().map_or_else(|| "…".to_owned(), units::duration),
            ]);
        }
        table.end_tall(self.runs.len(), "runs")
    }
}

/// Compares the duration of the run with the least that its graph allows.
fn ideal_section(run: &RunProfile) -> String {
    let Some(took) = run.duration().filter(|took| !took.is_zero()) else {
        return note("The run has not ended.");
    };
    let mut workers = SortedMap::new();
    for record in &run.records {
        workers.insert(record.worker, ());
    }
    let num_workers = workers.iter().len().max(1);
    let workers = match num_workers {
        1 => "one worker".to_owned(),
        _ => format!("{} workers", units::count(num_workers as u64)),
    };
    let work = Duration::from_nanos(run.times_ns().iter().sum::<f64>() as u64);
    let path: Duration = run.critical_path().iter().map(|task| task.duration).sum();
    let share = work / num_workers as u32;
    let least = share.max(path);
    let longest = took.max(least).as_secs_f64();
    let mut out = String::new();
    for (label, time, color) in [
        (format!("all of the work, shared by {workers}").as_str(), share, "accent"),
        ("the critical path, with any number of workers", path, "bad"),
        ("the run", took, "soft"),
    ] {
        let _infallible = write!(
            out,
            "<div class=\"bar\"><span>{label}</span><span class=\"track\">\
             <i style=\"width:{:.1}%;background:var(--{color})\"></i></span><b>{}</b></div>",
            time.as_secs_f64() / longest * 100.0,
            units::duration(time)
        );
    }
    let at_once = work.as_secs_f64() / path.as_secs_f64().max(1e-12);
    let percent = (least.as_secs_f64() / took.as_secs_f64() * 100.0).min(100.0);
    out + &note(&format!(
        "No schedule on {workers} takes less than {}, which is {percent:.0} % of the duration of the run. The graph \
         can keep {at_once:.1} workers busy on average.",
        units::duration(least)
    ))
}

fn path_table(run: &RunProfile) -> String {
    let path = run.critical_path();
    let all: Duration = path.iter().map(|task| task.duration).sum();
    let took =
        run.duration().map_or_else(String::new, |took| format!(", of the {} that the run took", units::duration(took)));
    let (length, time) = (units::count(path.len() as u64), units::duration(all));
    let mut table = Table::new("", &[("", "task"), ("", "took"), ("left", "share")]);
    for task in path.iter().take(MAX_ROWS) {
        let share = task.duration.as_secs_f64() / all.as_secs_f64().max(1e-12);
        let width = (share * 110.0).max(1.0);
        let bar = format!("<span class=\"share\" style=\"width:{width:.0}px\"></span>");
        table.row(&[named(&task.name), units::duration(task.duration), bar]);
    }
    note(&format!("{length} tasks, each needing the one before: {time}{took}.")) + &table.end_tall(path.len(), "tasks")
}

fn peak_section(run: &RunProfile) -> String {
    let Some(peak) = run.peak() else {
        return note("No value was held for another task.");
    };
    let intro = note(&format!(
        "At {}, {} {}, {} together{}.{}",
        units::duration(peak.at.saturating_sub(run.started)),
        units::count(peak.num_values as u64),
        if peak.num_values == 1 { "value" } else { "values" },
        units::bytes(peak.bytes),
        if run.is_sample { ", counting recorded tasks only" } else { "" },
        match run.has_unknown_sizes() {
            true =>
                " For some values only the size of the type is known, and not what they own; \
                 <code>Profiler::measure_values</code> measures them.",
            false => "",
        }
    ));
    let mut table = Table::new("", &[("", "name"), ("", "values"), ("", "bytes"), ("left", "held for")]);
    for row in peak.held.iter().take(MAX_ROWS) {
        table.row(&[
            named(&row.name),
            units::count(row.count as u64),
            units::bytes(row.bytes),
            row.held_for.as_ref().map_or_else(|| "the caller".to_owned(), |name| named(name)),
        ]);
    }
    intro + &table.end_tall(peak.held.len(), "names")
}

/// The graph in three colourings, of which the page shows one.
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

/// A table in HTML. Each column has a class.
struct Table<'a> {
    html: String,
    columns: &'a [(&'a str, &'a str)],
}

impl<'a> Table<'a> {
    fn new(class: &str, columns: &'a [(&'a str, &'a str)]) -> Self {
        let heads: String = columns.iter().map(|(class, head)| format!("<th class=\"{class}\">{head}</th>")).collect();
        Table { html: format!("<table class=\"{class}\"><tr>{heads}</tr>"), columns }
    }

    fn row(&mut self, cells: &[String]) {
        self.html += "<tr>";
        for ((class, _), cell) in self.columns.iter().zip(cells) {
            let _infallible = write!(self.html, "<td class=\"{class}\">{cell}</td>");
        }
        self.html += "</tr>";
    }

    /// Ends the table, and says how many rows beyond the first [`MAX_ROWS`] there are.
    fn end(self, num_rows: usize, unit: &str) -> String {
        let more = match num_rows.saturating_sub(MAX_ROWS) {
            0 => String::new(),
            more => note(&format!("and {} more {unit}", units::count(more as u64))),
        };
        self.html + "</table>" + &more
    }

    /// The same, in a box that scrolls.
    fn end_tall(mut self, num_rows: usize, unit: &str) -> String {
        self.html.insert_str(0, "<div class=\"tall\">");
        let html = self.end(num_rows, unit);
        html.replacen("</table>", "</table></div>", 1)
    }
}

fn note(text: &str) -> String {
    format!("<p class=\"soft small\">{text}</p>")
}

/// A name that the page cuts if it is too long, with the whole name as its tooltip.
fn named(name: &str) -> String {
    let name = escaped(name);
    format!("<span class=\"name\" title=\"{name}\">{name}</span>")
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

/// The text before the next slot, the slot's name, and the text after it.
fn next_slot(page: &str) -> Option<(&str, &str, &str)> {
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
    fn slots_are_found_and_other_at_signs_are_not() {
        assert_eq!(next_slot("a @media (x) @title@ b"), Some(("a @media (x) ", "title", " b")));
        assert_eq!(next_slot("a@b.c @@ @"), None);
    }

    #[test]
    fn the_page_loads_nothing() {
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "fetch("] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }
}
