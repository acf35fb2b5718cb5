//! Shows the progress of runs and futures while they run.
//!
//! An event only updates atomic counters of its run. While there are runs, a thread draws the
//! counts every 100 ms. The thread that ends a run draws its last state, so nothing is written
//! about a run after its `compute` has returned. Dropping the guard draws the last state of
//! everything shown, and nothing is written afterwards.
//!
//! # The time left
//!
//! The work left is, for each name, the number of tasks left times the mean duration of that name's
//! finished tasks, less the time its running tasks have run. It is divided by the mean number of
//! busy workers. Until 0.1 s of work is known, no time is shown. A name without a finished task
//! counts with the mean of all names, and the time is then shown with the word `over`.
//!
//! # Futures
//!
//! The runs of the futures of one cluster share a line. It also counts the futures that wait in the
//! cluster. The line ends when the cluster has been idle for 0.3 s, or with the guard. Its last
//! state counts only futures that a run has taken, so that it is exact: a task is counted before
//! its future settles, but the cluster counts it as pending for a moment longer.
//!
//! Futures that a caller follows are polled, ten times a second, without a run. The poll counts how
//! many futures of each name are running, which gives their mean and total durations. A settled
//! future is dropped at the next poll.

mod board;
mod counts;
mod display;
mod follow;

pub use follow::FutureProgress;

use crate::api::collection::{Collection, Listed};
use crate::engine::callback::{self, Callback};
use board::{Board, ProgressCallback};
use counts::REDRAW;
use display::{Display, DisplayTarget};
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// Shows the progress of the runs of this thread until the guard is dropped, with the settings of
/// [`Progress::new`].
///
/// # Examples
/// ```
/// use sprang::{Refs, delayed};
///
/// let _progress = sprang::progress();
/// let square = |i: u64| delayed(|i| i * i, (i,)).name(format!("square {i}"));
/// let parts: Vec<_> = (0..100).map(square).collect();
/// let sum = delayed(|parts: Refs<u64>| parts.iter().sum::<u64>(), (&parts,));
/// assert_eq!(sum.compute()?, 328_350); // too quick for anything to be shown
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn progress() -> ProgressGuard {
    Progress::new().scoped()
}

/// Shows the progress of futures, and waits until all have settled.
///
/// The futures may have any types, in any shape. The display is that of [`Progress`] for runs, but
/// it appears at once, however quick the futures are. Failed, cancelled and lost futures are
/// counted separately. No result is taken from the futures: ask each one for its result afterwards.
/// [`Progress::follow`] shows the same in the background.
///
/// # Examples
/// ```
/// use sprang::Client;
///
/// let client = Client::threads(2)?;
/// let squares = client.map(|x: u64| x * x, 0..100_u64);
/// sprang::progress_of(&squares); // {{closure}} [========================] 100/100 in 1.02 ms
/// assert_eq!(client.gather(&squares)?[99], 9_801);
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn progress_of(futures: impl Collection<Listed>) {
    Progress::new().min_duration(Duration::ZERO).follow(futures).wait();
}

/// Settings for showing progress.
///
/// On a terminal each run has a bar on stderr, with the number of finished tasks in all and by
/// name, the tasks per second, and the time left. Where stderr is no terminal, plain lines are
/// written from time to time. Runs that end within [`min_duration`](Progress::min_duration) show
/// nothing. A failed run leaves its bar with the error.
///
/// [Futures](crate::TaskFuture) have one bar for each cluster. The bar ends when the cluster has
/// been idle for a moment, or when the guard is dropped. It counts everything that waits in the
/// cluster, because the cluster does not record which thread submitted a waiting task; to see only
/// your own futures, [follow](Progress::follow) them.
///
/// # Examples
/// ```
/// use sprang::{Progress, delayed};
/// use std::io::{self, Write};
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// #[derive(Clone, Default)]
/// struct Log(Arc<Mutex<Vec<u8>>>);
///
/// impl Write for Log {
///     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
///         self.0.lock().unwrap().write(bytes)
///     }
///     fn flush(&mut self) -> io::Result<()> {
///         Ok(())
///     }
/// }
///
/// let log = Log::default();
/// let guard = Progress::new().min_duration(Duration::ZERO).lines_to(log.clone()).scoped();
/// delayed(|| 7, ()).name("seven").compute()?;
/// drop(guard);
/// let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
/// let last = text.lines().last().unwrap(); // a slow machine may have written one before
/// assert!(last.starts_with("seven: 1 of 1 tasks in "), "{text}");
/// # Ok::<_, sprang::Error>(())
/// ```
#[must_use = "nothing is shown before `scoped` or `registered` is called"]
pub struct Progress {
    min_duration: Duration,
    every: Duration,
    writer: Option<Box<dyn Write + Send>>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("min_duration", &self.min_duration)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

impl Default for Progress {
    fn default() -> Self {
        Progress::new()
    }
}

impl Progress {
    /// Shows bars, or a line every ten seconds, for runs that take longer than half a second.
    pub fn new() -> Self {
        Progress { min_duration: Duration::from_millis(500), every: Duration::from_secs(10), writer: None }
    }

    /// Shows a run only once it has taken this long.
    pub fn min_duration(mut self, min_duration: Duration) -> Self {
        self.min_duration = min_duration;
        self
    }

    /// Sets the time between two plain lines of a run. The minimum is 0.1 s.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// Writes plain lines to this writer. Write errors are ignored.
    pub fn lines_to(mut self, writer: impl Write + Send + 'static) -> Self {
        self.writer = Some(Box::new(writer));
        self
    }

    /// Shows the runs of this thread, and the runs nested in them, until the guard is dropped.
    pub fn scoped(self) -> ProgressGuard {
        let callback = Arc::new(self.callback());
        ProgressGuard { board: Arc::clone(&callback.board), _scope: callback::scoped(callback) }
    }

    /// Shows all runs of the process until the guard is dropped.
    pub fn registered(self) -> callback::Registration {
        callback::register(self.into_callback())
    }

    /// Makes a callback for [`callback::scoped`], [`callback::with`] or [`callback::register`].
    pub fn into_callback(self) -> Arc<dyn Callback> {
        Arc::new(self.callback())
    }

    /// Shows the progress of futures, in the background, until they have settled or the guard is
    /// dropped. The futures may have any types, in any shape. To wait for them, see
    /// [`FutureProgress::wait`] and [`progress_of`].
    ///
    /// # Examples
    /// ```
    /// use sprang::{Client, Progress, Refs};
    ///
    /// let client = Client::threads(2)?;
    /// let words = client.map(|text: &str| text.len() as u64, ["one", "two", "three"]);
    /// let total = client.submit(|lens: Refs<'_, u64>| lens.iter().sum::<u64>(), (&words,));
    /// let _progress = Progress::new().follow((&words, &total)); // too quick for a bar
    /// assert_eq!(total.result()?, 11);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn follow(self, futures: impl Collection<Listed>) -> FutureProgress {
        FutureProgress::new(self.display(), futures)
    }

    fn callback(self) -> ProgressCallback {
        ProgressCallback::new(self.display())
    }

    fn display(self) -> Display {
        Display::new(DisplayTarget::new(self.writer), self.min_duration, self.every.max(REDRAW))
    }
}

/// Shows the progress of this thread's runs until it is dropped. Made by [`progress`] and
/// [`Progress::scoped`].
#[must_use = "progress is shown until this guard is dropped: bind it, `let _progress = ...`"]
pub struct ProgressGuard {
    board: Arc<Board>,
    _scope: callback::Scope,
}

impl fmt::Debug for ProgressGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressGuard").finish_non_exhaustive()
    }
}

impl Drop for ProgressGuard {
    fn drop(&mut self) {
        self.board.close();
    }
}

#[cfg(test)]
mod tests;
