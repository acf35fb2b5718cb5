//! Counts the words of real text: one graph, run by every scheduler.
//!
//! ```text
//! cargo run --release -p quickstart [FOLDER|FILE ...]
//! ```
//!
//! Without arguments it reads text that a machine with cargo has: the sources of the crates in
//! cargo's registry, and the documentation of the toolchain if it is installed.
//!
//! ```text
//! read ─┬─ count ──── merge_counts ...  ──┬─ num_words ──┬─ summarize
//!       │                                 ├─ distinct ───┤
//!       │                                 ├─ longest ────┤
//!       │                                 └─ top ────────┤
//!       └─ measure ── add_sizes ... ─────────────────────┘
//! ```
//! `read`, `count` and `measure` run for each file. The merges join pairs, then pairs of pairs and
//! so on.

mod corpus;
mod live;
mod memory;

use serde::{Deserialize, Serialize};
use sprang::{Delayed, Scheduler, config, delayed, prepare, reduce, try_delayed};
use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};
use std::{env, error, fs, io, process};

/// The text of one file.
#[derive(Clone, Serialize, Deserialize)]
struct Text {
    content: String,
    #[serde(skip)]
    _live: live::Counted,
}

/// The number of occurrences of each word.
#[derive(Clone, Serialize, Deserialize)]
struct Counts {
    words: HashMap<String, u64>,
    #[serde(skip)]
    _live: live::Counted,
}

/// The amount of text.
#[derive(Clone, Serialize, Deserialize)]
struct Size {
    bytes: u64,
    lines: u64,
    #[serde(skip)]
    _live: live::Counted,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Summary {
    bytes: u64,
    lines: u64,
    num_words: u64,
    num_distinct: usize,
    longest: String,
    top: Vec<(String, u64)>,
}

// The tasks are plain functions. `&T` borrows the result of another task; `T` owns it.

fn read(path: String) -> io::Result<Text> {
    let content = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    Ok(Text { content, _live: live::Counted::default() })
}

fn count(text: &Text) -> Counts {
    let mut words = HashMap::new();
    let mut lower = String::new();
    for word in text.content.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
        lower.clear();
        lower.extend(word.chars().flat_map(char::to_lowercase));
        match words.get_mut(&lower) {
            Some(count) => *count += 1,
            None => _ = words.insert(lower.clone(), 1),
        }
    }
    Counts { words, _live: live::Counted::default() }
}

fn measure(text: &Text) -> Size {
    let (bytes, lines) = (text.content.len() as u64, text.content.lines().count() as u64);
    Size { bytes, lines, _live: live::Counted::default() }
}

/// Owns both maps: the larger map is updated in place, and the words of the smaller one move into
/// it.
fn merge_counts(a: Counts, b: Counts) -> Counts {
    let (mut large, small) = if a.words.len() < b.words.len() { (b, a) } else { (a, b) };
    for (word, count) in small.words {
        *large.words.entry(word).or_default() += count;
    }
    large
}

fn add_sizes(mut a: Size, b: Size) -> Size {
    a.bytes += b.bytes;
    a.lines += b.lines;
    a
}

fn num_words(counts: &Counts) -> u64 {
    counts.words.values().sum()
}

fn distinct(counts: &Counts) -> usize {
    counts.words.len()
}

fn longest(counts: &Counts) -> String {
    counts.words.keys().max_by_key(|word| (word.chars().count(), *word)).cloned().unwrap_or_default()
}

fn top(counts: &Counts, len: usize) -> Vec<(String, u64)> {
    let mut words: Vec<(&String, &u64)> = counts.words.iter().collect();
    words.sort_unstable_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    words.into_iter().take(len).map(|(word, count)| (word.clone(), *count)).collect()
}

fn summarize(size: Size, num_words: u64, num_distinct: usize, longest: String, top: Vec<(String, u64)>) -> Summary {
    Summary { bytes: size.bytes, lines: size.lines, num_words, num_distinct, longest, top }
}

/// The whole graph. No task runs here.
fn summary_of(paths: &[String]) -> Delayed<Summary> {
    // A reading task has the name of its file, so that an error names the file.
    let texts: Vec<_> = paths.iter().map(|path| try_delayed(read, (path.clone(),)).name(path)).collect();
    let size =
        reduce(add_sizes, texts.iter().map(|text| delayed(measure, (text,)))).expect("there is at least one file");
    let counts =
        reduce(merge_counts, texts.iter().map(|text| delayed(count, (text,)))).expect("there is at least one file");

    let num_words = delayed(num_words, (&counts,));
    let distinct = delayed(distinct, (&counts,));
    let longest = delayed(longest, (&counts,));
    let top = delayed(top, (&counts, 10_usize));
    delayed(summarize, (size, num_words, distinct, longest, top))
}

struct Measurement {
    scheduler: String,
    wall_time: Duration,
    peak_live: Option<usize>,
    peak_memory_bytes: Option<u64>,
}

fn run(out: &mut impl Write) -> Result<(), Box<dyn error::Error>> {
    let files = corpus::find(env::args_os().skip(1).map(Into::into).collect(), out)?;
    let plan = prepare(summary_of(&files.paths))?;

    let mut measurements = Vec::new();
    let mut summary = None;
    for scheduler in Scheduler::NAMED.map(|scheduler| scheduler.to_string()) {
        // The scheduler is all that changes from run to run.
        let _scope = config::scoped("scheduler", &*scheduler)?;

        live::reset_peak();
        memory::reset_peak();
        let start = Instant::now();
        let result = plan.compute()?;
        let wall_time = start.elapsed();
        let (peak_live, peak_memory_bytes) = (live::peak(), memory::peak_bytes());

        if *summary.get_or_insert(result.clone()) != result {
            return Err(format!("under {scheduler:?} the result differs from the one before").into());
        }
        measurements.push(Measurement { scheduler, wall_time, peak_live, peak_memory_bytes });
    }

    write_summary(out, &summary.expect("every build has a scheduler"))?;
    write_table(out, &measurements, plan.num_tasks(), files.bytes)?;
    let note = "peak memory covers this process and its workers; peak live results covers this process only";
    writeln!(out, "{note}")?;
    writeln!(out, "all results are equal")?;
    Ok(())
}

fn write_summary(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let Summary { bytes, lines, num_words, num_distinct, longest, top } = summary;
    writeln!(out, "{num_words} words, {num_distinct} of them distinct, in {lines} lines of {bytes} bytes")?;
    writeln!(out, "the longest: {longest}")?;
    writeln!(out, "the most frequent:")?;
    top.iter().try_for_each(|(word, count)| writeln!(out, "{count:>10}  {word}"))?;
    writeln!(out)
}

fn write_table(out: &mut impl Write, measurements: &[Measurement], num_tasks: usize, num_bytes: u64) -> io::Result<()> {
    writeln!(out, "scheduler      tasks   wall time    tasks/s     MB/s  peak live results  peak memory")?;
    for Measurement { scheduler, wall_time, peak_live, peak_memory_bytes } in measurements {
        let seconds = wall_time.as_secs_f64();
        let (tasks_per_s, mb_per_s) = (num_tasks as f64 / seconds, num_bytes as f64 / 1e6 / seconds);
        let live = peak_live.map_or("-".into(), |count| count.to_string());
        let memory = peak_memory_bytes.map_or("-".into(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6));
        write!(out, "{scheduler:<11} {num_tasks:>8} {seconds:>9.3} s {tasks_per_s:>10.0} {mb_per_s:>8.1}")?;
        writeln!(out, " {live:>18} {memory:>12}")?;
    }
    Ok(())
}

fn is_broken_pipe(error: &(dyn error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn main() -> process::ExitCode {
    match run(&mut io::stdout()) {
        Ok(()) => process::ExitCode::SUCCESS,
        // The reader, for example `head`, has closed the pipe.
        Err(error) if is_broken_pipe(&*error) => process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            process::ExitCode::FAILURE
        }
    }
}
