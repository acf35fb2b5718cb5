//! The callback that counts, and the thread that draws.

use super::counts::{Backlog, LineCounts, REDRAW, RunCounts};
use super::display::Display;
use crate::engine::callback::{
    Callback, ClusterInfo, RunFinished, RunId, RunInfo, RunStarted, TaskCancelled, TaskFailed, TaskFinished,
    TaskRetried, TaskSkipped, TaskStarted,
};
use crate::error::Error;
use crate::per_process::spawn;
use parking_lot::{Condvar, Mutex, RwLock};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the line of an idle cluster stays: futures may be submitted more slowly than they run.
const LINGER: Duration = Duration::from_millis(300);

/// Counts the tasks of all runs that one [`Board`] shows.
pub(super) struct ProgressCallback {
    /// Ascending, so a search from the end finds the innermost run first.
    runs: RwLock<Vec<Arc<RunCounts>>>,
    pub(super) board: Arc<Board>,
}

/// The lines that are shown together, and the thread that draws them.
pub(super) struct Board {
    /// The lines of clusters. Locked before `state`.
    clusters: Mutex<Vec<Arc<LineCounts>>>,
    state: Mutex<BoardState>,
    changed: Condvar,
}

struct BoardState {
    display: Display,
    has_thread: bool,
    /// Nothing is drawn any more.
    is_closed: bool,
}

impl ProgressCallback {
    pub(super) fn new(display: Display) -> Self {
        let state = Mutex::new(BoardState { display, has_thread: false, is_closed: false });
        let board = Board { clusters: Mutex::default(), state, changed: Condvar::new() };
        ProgressCallback { runs: RwLock::default(), board: Arc::new(board) }
    }

    fn with_run(&self, run: RunId, body: impl FnOnce(&RunCounts)) {
        if let Some(counts) = self.runs.read().iter().rev().find(|counts| counts.id == run) {
            body(counts);
        }
    }

    /// Counts a run of futures on the line of its cluster.
    fn run_of(&self, cluster: &ClusterInfo, run: RunInfo<'_>, started: Instant) -> RunCounts {
        let mut clusters = self.board.clusters.lock();
        let is_its =
            |counts: &&Arc<LineCounts>| counts.backlog.as_ref().is_some_and(|it| it.cluster.id() == cluster.id());
        let line = clusters.iter().find(is_its).map(Arc::clone).unwrap_or_else(|| {
            let backlog = Some(Backlog::new(cluster, started));
            let line = Arc::new(LineCounts::new(cluster.name().to_string(), started, 0, backlog));
            clusters.push(Arc::clone(&line));
            self.board.add(Arc::clone(&line));
            line
        });
        // The run is counted before the lock is released, so that the line does not end in between.
        RunCounts::new(run, started, 0, Some(line))
    }
}

impl Drop for ProgressCallback {
    fn drop(&mut self) {
        self.board.close();
    }
}

impl Callback for ProgressCallback {
    fn on_run_started(&self, event: &RunStarted<'_>) {
        let run = event.run;
        if run.starts_worker() {
            return;
        }
        if let Some(cluster) = run.cluster() {
            let counts = Arc::new(self.run_of(cluster, run, event.started));
            return self.runs.write().push(counts);
        }
        let depth = {
            let runs = self.runs.read();
            let parent = run.parent().and_then(|parent| runs.iter().find(|counts| counts.id == parent));
            parent.map_or(0, |parent| parent.line.depth + 1)
        };
        let counts = Arc::new(RunCounts::new(run, event.started, depth, None));
        let line = Arc::clone(&counts.line);
        self.runs.write().push(counts);
        self.board.add(line);
    }

    fn on_task_started(&self, event: &TaskStarted<'_>) {
        self.with_run(event.task.run(), |counts| counts.start(event.task, event.started));
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        let sent = event.crossing.map_or(event.started, |crossing| crossing.sent);
        self.with_run(event.task.run(), |counts| {
            counts.end(event.task, sent, true);
            counts.add_duration(event.task, event.ended - event.started);
        });
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        let sent = event.crossing.map_or(event.started, |crossing| crossing.sent);
        self.with_run(event.task.run(), |counts| {
            counts.end(event.task, sent, true);
            counts.line.num_failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        let sent = event.crossing.map_or(event.started, |crossing| crossing.sent);
        self.with_run(event.task.run(), |counts| counts.end(event.task, sent, false));
    }

    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        self.with_run(event.task.run(), |counts| counts.end(event.task, event.started, false));
    }

    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        self.with_run(event.task.run(), |counts| counts.skip(event.task));
    }

    fn on_run_finished(&self, event: &RunFinished<'_>) {
        let run = {
            let mut runs = self.runs.write();
            let Some(position) = runs.iter().rposition(|counts| counts.id == event.run.id()) else { return };
            runs.remove(position)
        };
        match &run.line.backlog {
            // The cluster's line continues with other runs.
            Some(backlog) => run.close(backlog, event.ended),
            None => self.board.end(&run.line, event.ended, event.error.as_ref()),
        }
    }
}

impl Board {
    fn add(self: &Arc<Self>, counts: Arc<LineCounts>) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        state.display.add(counts);
        if !state.has_thread {
            let board = Arc::clone(self);
            let thread = std::thread::Builder::new().name("sprang-progress".into());
            // Without a thread only the last state of each line is drawn.
            state.has_thread = spawn(thread, move || board.draw_until_empty()).is_ok();
        }
    }

    fn draw_until_empty(&self) {
        loop {
            self.end_idle(LINGER);
            let mut state = self.state.lock();
            if state.display.is_empty() {
                state.has_thread = false;
                return;
            }
            state.display.draw(Instant::now());
            self.changed.wait_for(&mut state, REDRAW);
        }
    }

    fn end(&self, counts: &Arc<LineCounts>, ended: Instant, error: Option<&Error>) {
        self.state.lock().display.end(counts, ended, error);
        self.changed.notify_all();
    }

    /// Ends all lines, and accepts no more.
    pub(super) fn close(&self) {
        self.clusters.lock().clear();
        let mut state = self.state.lock();
        state.is_closed = true;
        let now = Instant::now();
        for counts in state.display.counts() {
            state.display.end(&counts, counts.idle_since().unwrap_or(now), None);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Ends the lines of clusters that have been idle for this time.
    fn end_idle(&self, time: Duration) {
        let now = Instant::now();
        let is_idle = |counts: &mut Arc<LineCounts>| {
            counts.idle_since().is_some_and(|since| now.saturating_duration_since(since) >= time)
        };
        let idle: Vec<_> = self.clusters.lock().extract_if(.., is_idle).collect();
        for counts in idle {
            self.end(&counts, counts.idle_since().unwrap_or(now), None);
        }
    }
}
