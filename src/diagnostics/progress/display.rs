//! Draws lines: as bars on a terminal, or as plain lines of text.

use super::counts::LineCounts;
use crate::error::Error;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// More bars than this fill a terminal.
const MAX_BARS: usize = 8;

pub(super) enum DisplayTarget {
    Bars(MultiProgress),
    Lines(Box<dyn Write + Send>),
}

/// The lines that are shown together.
pub(super) struct Display {
    target: DisplayTarget,
    min_duration: Duration,
    every: Duration,
    lines: Vec<DisplayLine>,
}

/// One line or bar: a run, the futures of a cluster, or futures that are followed.
struct DisplayLine {
    counts: Arc<LineCounts>,
    bar: Option<ProgressBar>,
    /// When a plain line was last written.
    last_written: Option<Instant>,
}

impl DisplayTarget {
    /// Plain lines to `writer`; without one, bars or plain lines on stderr.
    pub(super) fn new(writer: Option<Box<dyn Write + Send>>) -> Self {
        /// All bars on the terminal, so that none is drawn over another.
        static BARS: OnceLock<MultiProgress> = OnceLock::new();
        match writer {
            Some(writer) => DisplayTarget::Lines(writer),
            None if io::stderr().is_terminal() => DisplayTarget::Bars(BARS.get_or_init(MultiProgress::new).clone()),
            None => DisplayTarget::Lines(Box::new(io::stderr())),
        }
    }
}

impl Display {
    pub(super) fn new(target: DisplayTarget, min_duration: Duration, every: Duration) -> Self {
        Display { target, min_duration, every, lines: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn add(&mut self, counts: Arc<LineCounts>) {
        self.lines.push(DisplayLine { counts, bar: None, last_written: None });
    }

    /// The counts of all lines.
    pub(super) fn counts(&self) -> Vec<Arc<LineCounts>> {
        self.lines.iter().map(|line| Arc::clone(&line.counts)).collect()
    }

    /// Draws all lines that are old enough.
    pub(super) fn draw(&mut self, now: Instant) {
        let mut num_bars = self.lines.iter().filter(|line| line.bar.is_some()).count();
        for line in &mut self.lines {
            let counts = Arc::clone(&line.counts);
            let age = now.saturating_duration_since(counts.started);
            // An idle cluster is drawn once more when its line ends.
            if age < self.min_duration || counts.idle_since().is_some() {
                continue;
            }
            match &mut self.target {
                DisplayTarget::Bars(_) if line.bar.is_none() && num_bars >= MAX_BARS => {}
                DisplayTarget::Bars(bars) => {
                    num_bars += usize::from(line.bar.is_none());
                    let bar = line.update_bar(bars, counts.done_and_all(true));
                    bar.set_message(counts.message(now));
                    bar.tick();
                }
                DisplayTarget::Lines(writer) => {
                    if line.last_written.is_none_or(|last| now.saturating_duration_since(last) >= self.every) {
                        line.last_written = Some(now);
                        let message = format!("at {}", counts.message(now));
                        write(writer, &counts.plain_line(counts.done_and_all(true), &message));
                    }
                }
            }
        }
    }

    /// Removes a line and draws its last state, unless it was too short to be shown at all.
    pub(super) fn end(&mut self, counts: &Arc<LineCounts>, ended: Instant, error: Option<&Error>) {
        let Some(position) = self.lines.iter().position(|line| Arc::ptr_eq(&line.counts, counts)) else { return };
        let mut line = self.lines.remove(position);
        let is_shown = line.bar.is_some() || line.last_written.is_some();
        if !is_shown && ended.saturating_duration_since(counts.started) < self.min_duration {
            return;
        }
        let message = counts.last_message(ended, error);
        match &mut self.target {
            // There may be many nested runs, so only the failed ones leave their bars.
            DisplayTarget::Bars(_) if counts.depth > 0 && error.is_none() => {
                if let Some(bar) = line.bar {
                    bar.finish_and_clear();
                }
            }
            DisplayTarget::Bars(bars) => {
                line.update_bar(bars, counts.done_and_all(false)).abandon_with_message(message);
            }
            DisplayTarget::Lines(writer) => write(writer, &counts.plain_line(counts.done_and_all(false), &message)),
        }
    }
}

impl DisplayLine {
    /// The line's bar, which is made first where there is none.
    fn update_bar(&mut self, bars: &MultiProgress, (done, all): (u64, u64)) -> &ProgressBar {
        let counts = &self.counts;
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix} [{bar:24}] {human_pos}/{human_len} {wide_msg}");
            let style = style.expect("the template is right").progress_chars("=> ");
            let bar = ProgressBar::with_draw_target(Some(all), ProgressDrawTarget::hidden());
            bar.set_style(style);
            bar.set_prefix(format!("{}{}", "  ".repeat(counts.depth), counts.title));
            bars.add(bar)
        });
        bar.set_length(all);
        bar.set_position(done);
        bar
    }
}

fn write(writer: &mut Box<dyn Write + Send>, line: &str) {
    // A progress line is not worth an error.
    let _lost = writer.write_all(line.as_bytes()).and_then(|()| writer.flush());
}
