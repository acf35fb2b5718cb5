//! The one error type.
//!
//! Three things are kept apart. A caller's mistake is an [`Error`] from the earliest call that can know it. A task's failure is an
//! [`Error`] too: it names the task, keeps the original cause as [`source`](std::error::Error::source), and tells through which
//! tasks the failure reached an output. A bug of sprang's own is a panic and is not dressed up as either.
//!
//! What failed in another process comes over as texts: the message, and those of the causes beneath it ([`RemoteError`]). How a worker
//! process ended is a [`WorkerExit`].
//!
//! Displayed, an error is one line. `{:#}` and `{:?}` are a report, which begins with that line; so a `main` that returns an error prints the
//! report. `{:#?}` shows the fields.
//!
//! One failure reaches every dependent, so an [`Error`] is one shared allocation and cheap to clone.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What sprang's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A task panicked.
    Panicked,
    /// A task returned `Err`.
    Failed,
    /// A task did not end within its timeout.
    TimedOut,
    /// The run was cancelled before the output was computed.
    Cancelled,
    /// A setting is unknown, has the wrong type, or its file cannot be read.
    Config,
    /// Two different tasks of one graph were given the same name.
    DuplicateName,
    /// A value cannot be encoded or decoded, or a task that cannot leave its process was refused, as `processes.local_tasks` has it.
    NotPortable,
    /// A value was asked for that cannot be given away because it cannot be cloned.
    NotCloneable,
    /// A graph has more tasks or dependencies than can be numbered.
    TooLarge,
    /// An executor returned before the run had ended.
    Executor,
    /// A worker process ended while it ran the task. [`Error::exit`] tells how.
    WorkerDied,
    /// The worker process that ran the task used more memory than `processes.memory_limit`.
    MemoryLimit,
    /// Worker processes cannot be started, or a cluster has no worker that may run the task.
    NoWorker,
    /// The cluster was closed.
    Closed,
    /// As many tasks wait in a cluster as may.
    Full,
    /// What tasks share is asked for where it cannot be had, or there is something else of the same name.
    NotShared,
    /// A file has a name of an unknown kind, or cannot be written.
    NotSaved,
    /// A file cannot be read, or is not what it should be.
    NotLoaded,
    /// A task cannot be replayed, because its inputs were not kept or are not there yet.
    NotKept,
}

/// An error of sprang, or the failure of a task.
///
/// # Examples
/// ```
/// use sprang::{ErrorKind, try_delayed};
///
/// let port = try_delayed(|text: &String| text.parse::<u16>(), (sprang::lit("http".to_string()),)).name("port");
/// let error = port.compute().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Failed);
/// assert_eq!(error.task(), Some("port"));
/// assert_eq!(error.to_string(), r#"task "port" failed: invalid digit found in string"#);
/// ```
/// Displayed, it is one line; `{:#}` and `{:?}` have more: the whole message, the causes beneath it, and what its worker wrote last.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    task: Option<Arc<str>>,
    attempts: u32,
    path: Vec<Arc<str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    exit: Option<WorkerExit>,
    replay: Option<Arc<dyn Replay>>,
}

/// What can call a failed task again.
pub(crate) trait Replay: Send + Sync {
    fn replay(&self) -> Result<Replayed>;
}

/// What came of a task that was called again by [`Error::replay`].
#[derive(Clone, Debug)]
#[must_use = "whether the task has failed again is said here"]
pub enum Replayed {
    /// It gave a value, which was dropped.
    Finished,
    /// It failed. This error can be replayed too.
    Failed(Error),
}

impl Replayed {
    /// The failure, if it failed.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Replayed::Finished => None,
            Replayed::Failed(error) => Some(error),
        }
    }

    /// Whether it gave a value this time.
    pub fn is_finished(&self) -> bool {
        matches!(self, Replayed::Finished)
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            inner: Arc::new(Inner {
                kind,
                message: message.into(),
                task: None,
                attempts: 0,
                path: Vec::new(),
                source: None,
                exit: None,
                replay: None,
            }),
        }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Config, message)
    }

    /// A task lost its worker.
    pub(crate) fn worker_died(exit: WorkerExit) -> Self {
        Error::new(ErrorKind::WorkerDied, exit.to_string()).with_exit(exit)
    }

    /// A task lost its worker because that had used more than `limit` bytes of memory. How it was killed does not matter then.
    pub(crate) fn memory_limit(limit: u64, exit: WorkerExit) -> Self {
        let mut message = format!("its worker exceeded \"processes.memory_limit\", {}", Bytes(limit));
        if let Some(peak) = exit.max_rss_bytes {
            message += &format!(", peak memory {}", Bytes(peak));
        }
        Error::new(ErrorKind::MemoryLimit, message).with_exit(exit)
    }

    pub(crate) fn with_exit(mut self, exit: WorkerExit) -> Self {
        self.inner_mut().exit = Some(exit);
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<Arc<dyn StdError + Send + Sync>>) -> Self {
        self.inner_mut().source = Some(source.into());
        self
    }

    /// The failure of `task` at its `attempts`-th attempt.
    pub(crate) fn with_task(mut self, task: Arc<str>, attempts: u32) -> Self {
        let inner = self.inner_mut();
        inner.task = Some(task);
        inner.attempts = attempts;
        self
    }

    /// The names of the tasks from the failed one to the output that needed it, both included.
    pub(crate) fn with_path(mut self, path: Vec<Arc<str>>) -> Self {
        self.inner_mut().path = path;
        self
    }

    /// As a task of this name sees it, which needs what has failed.
    pub(crate) fn needed_by(mut self, name: &Arc<str>) -> Self {
        /// Of a longer path the middle is left out.
        const MOST: usize = 16;
        let inner = self.inner_mut();
        if inner.path.is_empty() {
            inner.path.extend(inner.task.clone());
        }
        if inner.path.len() == MOST {
            inner.path.remove(MOST / 2);
        }
        inner.path.push(Arc::clone(name));
        self
    }

    /// With what can call the failed task again.
    pub(crate) fn with_replay(mut self, replay: Arc<dyn Replay>) -> Self {
        self.inner_mut().replay = Some(replay);
        self
    }

    /// With more to say about it.
    pub(crate) fn with_note(mut self, note: &str) -> Self {
        let message = &mut self.inner_mut().message;
        message.push_str("; ");
        message.push_str(note);
        self
    }

    fn inner_mut(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.inner)
    }

    /// What went wrong, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The name of the task that failed; `None` where no task is to blame.
    pub fn task(&self) -> Option<&str> {
        self.inner.task.as_deref()
    }

    /// How often the failed task was tried.
    pub fn attempts(&self) -> u32 {
        self.inner.attempts
    }

    /// The names of the tasks through which the failure reached the output, from the failed task to the output.
    ///
    /// Of a path of more than 16 tasks the middle is left out and one entry says how many.
    pub fn path(&self) -> impl ExactSizeIterator<Item = &str> {
        self.inner.path.iter().map(|name| &**name)
    }

    /// The cause alone, without the task's name.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// How the worker process ended that ran the task; `None` where no worker was lost.
    pub fn exit(&self) -> Option<&WorkerExit> {
        self.inner.exit.as_ref()
    }

    /// Whether the inputs of the failed task were kept, for [`replay`](Error::replay).
    pub fn has_inputs(&self) -> bool {
        self.inner.replay.is_some()
    }

    /// Calls the failed task again, on this thread and with the inputs that it had: once, whatever its retries, and without its timeout.
    ///
    /// For a debugger: a breakpoint in the task's function is reached with the same inputs, and nothing else runs. The inputs are there if the
    /// setting [`on_failure`](crate::config::OnFailure) was `"keep_inputs"` when the run was started; they are kept as long as the error and
    /// its clones are. The configuration is that of the run. A task that was run in a worker process is called in this process, and does
    /// here what it did there: one that crashed its worker is going to crash this process.
    ///
    /// # Examples
    /// ```
    /// use sprang::{ErrorKind, Replayed, config, delayed};
    ///
    /// fn invert(x: Vec<f64>) -> Vec<f64> {
    ///     assert!(!x.contains(&0.0), "not invertible: {x:?}");
    ///     x.into_iter().map(f64::recip).collect()
    /// }
    ///
    /// let numbers = delayed(|n: u32| (0..n).map(f64::from).collect::<Vec<_>>(), (3_u32,));
    /// let inverse = delayed(invert, (numbers,)).name("inverse");
    /// let error = config::with("on_failure", "keep_inputs", || inverse.compute())?.unwrap_err();
    ///
    /// let Replayed::Failed(again) = error.replay()? else { panic!("the same inputs fail again") };
    /// assert_eq!((again.kind(), again.task()), (ErrorKind::Panicked, Some("inverse")));
    /// # Ok::<_, sprang::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotKept`](ErrorKind::NotKept) if there are no inputs, while another thread replays the task, and for a callback or a task that asks
    /// before the run has ended; others wait for that;
    /// [`NotPortable`](ErrorKind::NotPortable) if inputs that were sent to another process cannot be decoded here.
    pub fn replay(&self) -> Result<Replayed> {
        let inner = &*self.inner;
        let Some(replay) = &inner.replay else {
            let message = match &inner.task {
                Some(task) => format!(
                    "the inputs of task {task:?} were not kept; set on_failure = \"keep_inputs\" before the run, in the process that \
                     starts it"
                ),
                None => "there is nothing to replay: this error is not the failure of a task".to_owned(),
            };
            return Err(Error::new(ErrorKind::NotKept, message));
        };
        Ok(match replay.replay()? {
            Replayed::Finished => Replayed::Finished,
            Replayed::Failed(error) => {
                Replayed::Failed(error.with_path(inner.path.clone()).with_replay(Arc::clone(replay)))
            }
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() { self.fmt_report(f) } else { self.fmt_line(f) }
    }
}

/// The lines of a text as one, and no more of them than one can take in.
fn folded(text: &str) -> Cow<'_, str> {
    const MOST: usize = 4;
    let text = text.trim_end();
    if !text.contains('\n') {
        return text.into();
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len() > MOST {
        true => format!("{}; ...", lines[..MOST].join("; ")).into(),
        false => lines.join("; ").into(),
    }
}

impl Error {
    /// The line, and what it leaves out.
    fn fmt_report(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        self.fmt_line(f)?;
        let section = |f: &mut fmt::Formatter<'_>, title: &str, text: &str| {
            write!(f, "\n{title}:")?;
            text.trim_end().lines().try_for_each(|line| write!(f, "\n  {line}"))
        };
        if folded(&inner.message) != inner.message.trim_end() {
            section(f, "in full", &inner.message)?;
        }
        // The first is what the message says.
        let texts = inner.source.as_ref().map_or_else(Vec::new, |source| texts_of(&**source));
        for (index, text) in texts.iter().enumerate() {
            if index > 0 || *text != inner.message {
                section(f, "because", text)?;
            }
        }
        let tail = inner.exit.as_ref().map_or("", |exit| exit.stderr_tail.trim_end());
        if !tail.is_empty() {
            section(f, "the last output of its worker", tail)?;
        }
        if inner.replay.is_some() {
            f.write_str("\nits inputs are kept: `replay` of this error calls it again, for a debugger")?;
        }
        Ok(())
    }

    fn fmt_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        let message = folded(&inner.message);
        let Some(task) = &inner.task else { return f.write_str(&message) };
        let verb = match inner.kind {
            ErrorKind::Panicked => "panicked",
            ErrorKind::TimedOut => "timed out",
            ErrorKind::NotPortable => "is not portable",
            ErrorKind::WorkerDied => "lost its worker",
            ErrorKind::MemoryLimit => "used too much memory",
            _ => "failed",
        };
        write!(f, "task {task:?} {verb}: {message}")?;
        if inner.attempts > 1 {
            write!(f, ", after {} attempts", inner.attempts)?;
        }
        if let [_, between @ .., output] = &inner.path[..] {
            write!(f, "; {output:?} needs it")?;
            for (i, name) in between.iter().rev().enumerate() {
                write!(f, "{}{name:?}", if i == 0 { " through " } else { ", " })?;
            }
        }
        Ok(())
    }
}

/// The report, as `unwrap` and a `main` that returns an error show it; `{:#?}` has the fields.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return self.fmt_report(f);
        }
        let inner = &*self.inner;
        let mut out = f.debug_struct("Error");
        out.field("kind", &inner.kind).field("message", &inner.message);
        if let Some(task) = &inner.task {
            out.field("task", task).field("attempts", &inner.attempts).field("path", &inner.path);
        }
        if let Some(source) = &inner.source {
            out.field("source", source);
        }
        if let Some(exit) = &inner.exit {
            out.field("exit", exit);
        }
        if inner.replay.is_some() {
            out.field("has_inputs", &true);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// How a worker process ended while it ran a task.
///
/// Displayed, it says what the signal or the code means, and the peak memory:
/// `killed by signal 11 (SIGSEGV): segmentation fault or stack overflow, peak memory 34 MiB`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerExit {
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// The code that it exited with, if no signal killed it.
    pub code: Option<i32>,
    /// The most memory that was resident at a time, where the system tells.
    pub max_rss_bytes: Option<u64>,
    /// The end of what it wrote to its standard error, if that was captured.
    pub stderr_tail: String,
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.signal, self.code) {
            (Some(signal), _) => {
                write!(f, "killed by signal {signal}")?;
                if let Some((name, meaning)) = signal_meaning(signal) {
                    write!(f, " ({name}): {meaning}")?;
                }
            }
            (None, Some(code)) => write!(f, "exited with code {code}")?,
            (None, None) => f.write_str("ended in an unknown way")?,
        }
        match self.max_rss_bytes {
            Some(peak) => write!(f, ", peak memory {}", Bytes(peak)),
            None => Ok(()),
        }
    }
}

/// The name of a signal and what it tells about a worker. Where numbers differ between systems, they are those of Linux.
fn signal_meaning(signal: i32) -> Option<(&'static str, &'static str)> {
    Some(match signal {
        1 => ("SIGHUP", "its terminal was closed"),
        2 => ("SIGINT", "interrupted from the keyboard"),
        3 => ("SIGQUIT", "ended from the keyboard"),
        4 => ("SIGILL", "illegal instruction, or a trap that a compiler puts where a program must not get to"),
        5 => ("SIGTRAP", "trap"),
        // Rust's own handler turns a stack overflow into it.
        6 => ("SIGABRT", "abort: stack overflow, failed allocation, a panic that cannot unwind, or `abort` in C"),
        7 if cfg!(target_os = "linux") => ("SIGBUS", "access to memory that its file does not have"),
        8 => ("SIGFPE", "division by zero in machine code"),
        9 => ("SIGKILL", "killed from outside, as the system does when memory runs out"),
        11 => ("SIGSEGV", "segmentation fault or stack overflow"),
        13 => ("SIGPIPE", "nobody reads what it writes"),
        15 => ("SIGTERM", "asked from outside to end"),
        24 => ("SIGXCPU", "too much processor time"),
        25 => ("SIGXFSZ", "too large a file"),
        31 if cfg!(target_os = "linux") => ("SIGSYS", "forbidden system call"),
        _ => return None,
    })
}

/// A number of bytes to two digits or more: `1.5 GiB`, `34 MiB`.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let (mut number, mut unit) = (self.0 as f64, 0);
        while number >= 1023.5 {
            (number, unit) = (number / 1024.0, unit + 1);
        }
        let tenths = (number * 10.0).round();
        let precision = usize::from(tenths < 100.0 && tenths % 10.0 != 0.0);
        write!(f, "{number:.precision$} {}", UNITS[unit])
    }
}

/// The texts of an error and of what is beneath it, outermost first, for another process.
pub(crate) fn texts_of(error: &(dyn StdError + 'static)) -> Vec<String> {
    // So that a chain that leads back into itself has an end.
    const MOST: usize = 32;
    std::iter::successors(Some(error), |&error| error.source()).take(MOST).map(|error| error.to_string()).collect()
}

/// What is left of an error that comes from another process.
pub(crate) struct RemoteError {
    message: String,
    source: Option<Box<RemoteError>>,
}

impl RemoteError {
    /// Of what [`texts_of`] gave there; `None` where that is nothing.
    pub(crate) fn new(texts: Vec<String>) -> Option<Self> {
        let innermost_first = texts.into_iter().rev();
        innermost_first.fold(None, |source, message| Some(RemoteError { message, source: source.map(Box::new) }))
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// As the texts that it is.
impl fmt::Debug for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(texts_of(self)).finish()
    }
}

impl StdError for RemoteError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash() -> WorkerExit {
        WorkerExit { signal: Some(11), max_rss_bytes: Some(35_500_000), ..WorkerExit::default() }
    }

    #[test]
    fn a_lost_worker_is_told_in_one_line() {
        let path = ["decode", "join", "total"].map(Arc::from).into();
        let error = Error::worker_died(crash()).with_task("decode".into(), 3).with_path(path);
        assert_eq!(
            error.to_string(),
            "task \"decode\" lost its worker: killed by signal 11 (SIGSEGV): segmentation fault or stack overflow, \
             peak memory 34 MiB, after 3 attempts; \"total\" needs it through \"join\""
        );
        assert_eq!((error.kind(), error.exit()), (ErrorKind::WorkerDied, Some(&crash())));
    }

    #[test]
    fn what_the_worker_wrote_last_follows_on_lines_of_its_own() {
        let exit =
            WorkerExit { code: Some(3), stderr_tail: "reading header\nbad magic\n\n".into(), ..Default::default() };
        let error = Error::worker_died(exit).with_task("decode".into(), 1);
        assert_eq!(error.to_string(), "task \"decode\" lost its worker: exited with code 3");
        let report = "task \"decode\" lost its worker: exited with code 3\nthe last output of its worker:\n  reading header\n  bad magic";
        assert_eq!([format!("{error:#}"), format!("{error:?}")], [report, report]);
        assert_eq!(error.message(), "exited with code 3");
        assert!(format!("{error:#?}").starts_with("Error {\n    kind: WorkerDied,\n"), "{error:#?}");
    }

    #[test]
    fn a_message_of_several_lines_is_folded_into_the_first_line_and_is_there_in_full() {
        let message = "assertion `left == right` failed\n  left: 1\n right: 2 (at src/main.rs:3:5)";
        let path = ["ratio", "total"].map(Arc::from).into();
        let error = Error::new(ErrorKind::Panicked, message).with_task("ratio".into(), 1).with_path(path);
        let line = "task \"ratio\" panicked: assertion `left == right` failed; left: 1; right: 2 (at src/main.rs:3:5); \"total\" needs it";
        assert_eq!(error.to_string(), line);
        let in_full = "in full:\n  assertion `left == right` failed\n    left: 1\n   right: 2 (at src/main.rs:3:5)";
        assert_eq!(format!("{error:#}"), format!("{line}\n{in_full}"));
        assert_eq!(Error::config("1\n\n2\n3\n4\n5").to_string(), "1; 2; 3; 4; ...");
    }

    #[test]
    fn causes_beneath_the_message_are_in_the_report() {
        let texts = ["cannot load", "cannot open \"x\"", "no such file\nor folder"].map(String::from).to_vec();
        let remote = RemoteError::new(texts).unwrap();
        let error = Error::new(ErrorKind::Failed, "cannot load")
            .with_source(Arc::new(remote) as Arc<dyn StdError + Send + Sync>)
            .with_task("load".into(), 2);
        let line = "task \"load\" failed: cannot load, after 2 attempts";
        assert_eq!(error.to_string(), line);
        let report = format!("{line}\nbecause:\n  cannot open \"x\"\nbecause:\n  no such file\n  or folder");
        assert_eq!(format!("{error:?}"), report);
    }

    #[test]
    fn what_is_no_failure_of_a_task_cannot_be_replayed() {
        let error = Error::config("no").replay().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotKept);
        let error = Error::new(ErrorKind::Failed, "no").with_task("load".into(), 1);
        assert!(!error.has_inputs());
        let message = "the inputs of task \"load\" were not kept; set on_failure = \"keep_inputs\" before the run, in the process that \
                       starts it";
        assert_eq!(error.replay().unwrap_err().to_string(), message);
    }

    #[test]
    fn too_much_memory_is_told_with_the_limit() {
        let exit = WorkerExit { signal: Some(9), max_rss_bytes: Some(1 << 30), ..Default::default() };
        let error = Error::memory_limit(3 << 28, exit).with_task("leak".into(), 1);
        assert_eq!(
            error.to_string(),
            "task \"leak\" used too much memory: its worker exceeded \"processes.memory_limit\", 768 MiB, peak memory 1 GiB"
        );
        assert_eq!((error.kind(), error.exit().unwrap().signal), (ErrorKind::MemoryLimit, Some(9)));
    }

    #[test]
    fn an_exit_says_what_is_known() {
        let exit = |signal, code| WorkerExit { signal, code, ..Default::default() }.to_string();
        assert_eq!(
            exit(Some(9), None),
            "killed by signal 9 (SIGKILL): killed from outside, as the system does when memory runs out"
        );
        assert_eq!(exit(Some(40), None), "killed by signal 40");
        assert_eq!(exit(None, Some(0)), "exited with code 0");
        assert_eq!(exit(None, None), "ended in an unknown way");
    }

    #[test]
    fn bytes_are_told_to_two_digits_or_more() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1 << 10, "1 KiB"),
            (1536, "1.5 KiB"),
            ((10 << 20) - 1, "10 MiB"),
            ((1 << 30) - 1, "1 GiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn an_error_from_another_process_keeps_its_texts_and_their_order() {
        let texts = ["cannot load", "cannot open \"x\"", "no such file"].map(String::from).to_vec();
        let remote = RemoteError::new(texts.clone()).unwrap();
        assert_eq!(texts_of(&remote), texts);
        assert_eq!(format!("{remote:?}"), format!("{texts:?}"));
        let error =
            Error::new(ErrorKind::Failed, &*texts[0]).with_source(Arc::new(remote) as Arc<dyn StdError + Send + Sync>);
        assert_eq!(error.source().unwrap().source().unwrap().to_string(), texts[1]);
        assert_eq!(texts_of(&error), ["cannot load"].into_iter().map(String::from).chain(texts).collect::<Vec<_>>());
        assert!(RemoteError::new(Vec::new()).is_none());
    }

    #[test]
    fn a_chain_that_leads_back_into_itself_has_an_end() {
        #[derive(Debug)]
        struct Ring;
        impl fmt::Display for Ring {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ring")
            }
        }
        impl StdError for Ring {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&Ring)
            }
        }
        assert_eq!(texts_of(&Ring).len(), 32);
    }
}
