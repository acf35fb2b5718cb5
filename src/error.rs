//! The one error type.
//!
//! A caller's mistake is an [`Error`] from the earliest call that can detect it. A task's failure
//! is an [`Error`] too: it has the task's name, the original cause as
//! [`source`](std::error::Error::source), and the tasks through which the failure reached an
//! output. A bug in sprang is a panic.
//!
//! A failure in another process is sent as texts: the message and the messages of its causes
//! ([`RemoteError`]). A [`WorkerExit`] says how a worker process ended.
//!
//! The `Display` of an error is one line. `{:#}` and `{:?}` are a report that begins with that
//! line, so a `main` that returns an error prints the report. `{:#?}` shows the fields.
//!
//! One failure reaches every dependent, so an [`Error`] is one shared allocation and cheap to
//! clone.

mod encoded;

pub(crate) use encoded::EncodedError;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The result of sprang's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A task panicked.
    Panicked,
    /// A task returned `Err`.
    Failed,
    /// A task did not end within its timeout.
    TimedOut,
    /// The run or the task was cancelled.
    Cancelled,
    /// A setting is unknown or does not accept its value, or a configuration file cannot be read.
    Config,
    /// Two different tasks of one graph were given the same name.
    DuplicateName,
    /// A value cannot be encoded or decoded, or `processes.local_tasks` forbids a task that cannot
    /// leave its process.
    NotPortable,
    /// A value cannot be returned, because it cannot be cloned.
    NotCloneable,
    /// A graph has more tasks or dependencies than 32-bit numbers can count.
    TooLarge,
    /// An executor returned before the run had ended.
    Executor,
    /// A worker process ended while it ran the task; see [`Error::exit`].
    WorkerDied,
    /// The worker process that ran the task used more memory than `processes.memory_limit`.
    MemoryLimit,
    /// Worker processes cannot be started, or a cluster has no worker that may run the task.
    NoWorker,
    /// The cluster was closed.
    Closed,
    /// The cluster's `max_pending` limit is reached.
    Full,
    /// A shared object is not available here, or the object of this name has another type, limit or
    /// number of permits.
    NotShared,
    /// A file has an unknown extension, or cannot be written.
    NotSaved,
    /// A file cannot be read, or has the wrong contents.
    NotLoaded,
    /// A task cannot be replayed: its inputs were not kept, or its run has not ended.
    NotKept,
}

/// An error of sprang, or the failure of a task.
///
/// # Examples
/// ```
/// use sprang::{ErrorKind, try_delayed};
///
/// let text = sprang::lit("http".to_string());
/// let port = try_delayed(|text: &String| text.parse::<u16>(), (text,)).name("port");
/// let error = port.compute().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Failed);
/// assert_eq!(error.task(), Some("port"));
/// assert_eq!(error.to_string(), r#"task "port" failed: invalid digit found in string"#);
/// ```
/// Its `Display` is one line. `{:#}` and `{:?}` add the whole message, its causes, and the last
/// output of the worker process.
#[derive(Clone)]
pub struct Error {
    inner: Arc<ErrorFields>,
}

#[derive(Clone)]
struct ErrorFields {
    kind: ErrorKind,
    message: String,
    task: Option<Arc<str>>,
    attempts: u32,
    /// Empty unless there were several attempts.
    attempt_kinds: Vec<ErrorKind>,
    path: Vec<Arc<str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    exit: Option<WorkerExit>,
    replay: Option<Arc<dyn Replay>>,
}

/// Calls a failed task again.
pub(crate) trait Replay: Send + Sync {
    fn replay(&self) -> Result<Replayed>;
}

/// The outcome of [`Error::replay`].
#[derive(Clone, Debug)]
#[must_use = "it says whether the task has failed again"]
pub enum Replayed {
    /// The task returned a value, which was dropped.
    Finished,
    /// The task failed. This error can be replayed too.
    Failed(Error),
}

impl Replayed {
    /// The failure, if the task failed.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Replayed::Finished => None,
            Replayed::Failed(error) => Some(error),
        }
    }

    /// Whether the task returned a value.
    pub fn is_finished(&self) -> bool {
        matches!(self, Replayed::Finished)
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            inner: Arc::new(ErrorFields {
                kind,
                message: message.into(),
                task: None,
                attempts: 0,
                attempt_kinds: Vec::new(),
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

    /// A task lost its worker, which had used more than `limit` bytes of memory.
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

    /// How the first of several attempts ended, the last one included if it is among them.
    pub(crate) fn with_attempt_kinds(mut self, kinds: Vec<ErrorKind>) -> Self {
        self.inner_mut().attempt_kinds = kinds;
        self
    }

    /// The names of the tasks from the failed one to the output that needed it, both included.
    pub(crate) fn with_path(mut self, path: Vec<Arc<str>>) -> Self {
        self.inner_mut().path = path;
        self
    }

    /// With a path that begins with the failed task, as a dependent that takes the error gets it.
    pub(crate) fn with_own_path(self) -> Self {
        match (&self.inner.path[..], &self.inner.task) {
            ([], Some(task)) => {
                let path = vec![Arc::clone(task)];
                self.with_path(path)
            }
            _ => self,
        }
    }

    /// The same failure in a task of this name that needs the failed one.
    pub(crate) fn needed_by(mut self, name: &Arc<str>) -> Self {
        /// A longer path loses names in the middle.
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

    /// With a way to call the failed task again.
    pub(crate) fn with_replay(mut self, replay: Arc<dyn Replay>) -> Self {
        self.inner_mut().replay = Some(replay);
        self
    }

    /// With a note at the end of the message.
    pub(crate) fn with_note(mut self, note: &str) -> Self {
        let message = &mut self.inner_mut().message;
        message.push_str("; ");
        message.push_str(note);
        self
    }

    fn inner_mut(&mut self) -> &mut ErrorFields {
        Arc::make_mut(&mut self.inner)
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The name of the task that failed. `None` if the error is not the failure of a task.
    pub fn task(&self) -> Option<&str> {
        self.inner.task.as_deref()
    }

    /// The number of attempts of the failed task.
    pub fn attempts(&self) -> u32 {
        self.inner.attempts
    }

    /// How the attempts of the failed task ended, in their order: the kind of error of each. The
    /// first 16 are kept. Empty if there was only one attempt.
    ///
    /// # Examples
    /// ```
    /// use sprang::{ErrorKind, try_delayed};
    ///
    /// let task = try_delayed(|| Err::<u32, _>("no answer"), ()).name("ask").retries(1);
    /// let error = task.compute().unwrap_err();
    /// assert_eq!(error.attempt_kinds(), [ErrorKind::Failed, ErrorKind::Failed]);
    /// assert_eq!(error.to_string(), r#"task "ask" failed: no answer, after 2 attempts"#);
    /// ```
    pub fn attempt_kinds(&self) -> &[ErrorKind] {
        &self.inner.attempt_kinds
    }

    /// The names of the tasks through which the failure reached the output, from the failed task to
    /// the output.
    ///
    /// A path of more than 16 tasks has no middle. In a graph one entry has the number of tasks
    /// left out; a path through futures has no such entry.
    pub fn path(&self) -> impl ExactSizeIterator<Item = &str> {
        self.inner.path.iter().map(|name| &**name)
    }

    /// The message without the task's name.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// How the worker process of the task ended. `None` if the task did not lose its worker.
    pub fn exit(&self) -> Option<&WorkerExit> {
        self.inner.exit.as_ref()
    }

    /// Whether the inputs of the failed task were kept, for [`replay`](Error::replay).
    pub fn has_inputs(&self) -> bool {
        self.inner.replay.is_some()
    }

    /// Calls the failed task again on this thread, with the same inputs and the run's
    /// configuration. It makes one call, without the task's retries and timeout.
    ///
    /// This is for debuggers: a breakpoint in the task's function is reached with the same inputs,
    /// and no other task runs. The inputs are kept if the setting
    /// [`on_failure`](crate::config::OnFailure) was `"keep_inputs"` at the start of the run, until
    /// the error and its clones are dropped. A task that ran in a worker process is called in this
    /// process. So a task that crashed its worker crashes this process.
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
    /// - [`NotKept`](ErrorKind::NotKept) if the inputs were not kept, or another thread replays the
    ///   task, or a callback or a task calls this before the run has ended. On other threads the
    ///   call waits for the end of the run.
    /// - [`NotPortable`](ErrorKind::NotPortable) if inputs that were sent to another process cannot
    ///   be decoded in this one.
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

/// `1`, `1 and 2`, `1, 2 and 3`.
fn listed(numbers: &[String]) -> String {
    match numbers {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => numbers.concat(),
    }
}

/// How an attempt of a task ended.
fn verb(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Panicked => "panicked",
        ErrorKind::TimedOut => "timed out",
        ErrorKind::NotPortable => "is not portable",
        ErrorKind::WorkerDied => "lost its worker",
        ErrorKind::MemoryLimit => "used too much memory",
        _ => "failed",
    }
}

/// The first lines of a text as one line.
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
    /// The line, and the details that it leaves out.
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
        // The first text is usually the message.
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

    /// Which attempts ended in which way, if they did not all end in the same way.
    fn fmt_attempts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ways: Vec<(&str, Vec<String>)> = Vec::new();
        for (index, kind) in self.inner.attempt_kinds.iter().enumerate() {
            let (verb, number) = (verb(*kind), (index + 1).to_string());
            match ways.iter_mut().find(|(other, _)| *other == verb) {
                Some((_, numbers)) => numbers.push(number),
                None => ways.push((verb, vec![number])),
            }
        }
        if ways.len() < 2 {
            return Ok(());
        }
        let ways: Vec<String> = ways.iter().map(|(verb, numbers)| format!("{} {verb}", listed(numbers))).collect();
        write!(f, " ({})", ways.join("; "))
    }

    fn fmt_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        let message = folded(&inner.message);
        let Some(task) = &inner.task else { return f.write_str(&message) };
        write!(f, "task {task:?} {}: {message}", verb(inner.kind))?;
        if inner.attempts > 1 {
            write!(f, ", after {} attempts", inner.attempts)?;
            self.fmt_attempts(f)?;
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

/// The report, for `unwrap` and a `main` that returns an error. `{:#?}` has the fields.
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
        if !inner.attempt_kinds.is_empty() {
            out.field("attempt_kinds", &inner.attempt_kinds);
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
/// Its `Display` explains the signal or the code, and has the peak memory:
/// `killed by signal 11 (SIGSEGV): segmentation fault or stack overflow, peak memory 34 MiB`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerExit {
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// The code that it exited with, if no signal killed it.
    pub code: Option<i32>,
    /// The peak of its resident memory, in bytes, if the system reports it.
    pub max_rss_bytes: Option<u64>,
    /// The end of its standard error, if that was captured.
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

/// The name and the meaning of a signal. Where numbers differ between systems, they are Linux's.
fn signal_meaning(signal: i32) -> Option<(&'static str, &'static str)> {
    Some(match signal {
        1 => ("SIGHUP", "its terminal was closed"),
        2 => ("SIGINT", "interrupted from the keyboard"),
        3 => ("SIGQUIT", "ended from the keyboard"),
        4 => ("SIGILL", "illegal instruction, or a trap that a compiler puts where a program must not get to"),
        5 => ("SIGTRAP", "trap"),
        // Rust's handler raises it for a stack overflow.
        6 => ("SIGABRT", "abort: stack overflow, failed allocation, a panic that cannot unwind, or `abort` in C"),
        7 if cfg!(target_os = "linux") => ("SIGBUS", "access to memory that its file does not have"),
        8 => ("SIGFPE", "division by zero in machine code"),
        9 => ("SIGKILL", "killed from outside, as the system does when memory runs out"),
        11 => ("SIGSEGV", "segmentation fault or stack overflow"),
        13 => ("SIGPIPE", "the reader of its output is gone"),
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

/// The texts of an error and its causes, outermost first, for another process.
pub(crate) fn texts_of(error: &(dyn StdError + 'static)) -> Vec<String> {
    // A limit for a chain that leads back into itself.
    const MOST: usize = 32;
    std::iter::successors(Some(error), |&error| error.source()).take(MOST).map(|error| error.to_string()).collect()
}

/// An error from another process, as texts.
pub(crate) struct RemoteError {
    message: String,
    source: Option<Box<RemoteError>>,
}

impl RemoteError {
    /// From the result of [`texts_of`] in the other process. `None` if it is empty.
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

/// A list of the texts.
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
    fn a_lost_worker_is_reported_in_one_line() {
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
    fn the_last_output_of_the_worker_follows_on_separate_lines() {
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
    fn only_the_failure_of_a_task_can_be_replayed() {
        let error = Error::config("no").replay().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotKept);
        let error = Error::new(ErrorKind::Failed, "no").with_task("load".into(), 1);
        assert!(!error.has_inputs());
        let message = "the inputs of task \"load\" were not kept; set on_failure = \"keep_inputs\" before the run, in the process that \
                       starts it";
        assert_eq!(error.replay().unwrap_err().to_string(), message);
    }

    #[test]
    fn too_much_memory_is_reported_with_the_limit() {
        let exit = WorkerExit { signal: Some(9), max_rss_bytes: Some(1 << 30), ..Default::default() };
        let error = Error::memory_limit(3 << 28, exit).with_task("leak".into(), 1);
        assert_eq!(
            error.to_string(),
            "task \"leak\" used too much memory: its worker exceeded \"processes.memory_limit\", 768 MiB, peak memory 1 GiB"
        );
        assert_eq!((error.kind(), error.exit().unwrap().signal), (ErrorKind::MemoryLimit, Some(9)));
    }

    #[test]
    fn the_text_of_an_exit_has_the_signal_or_the_code() {
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
    fn bytes_are_shown_with_two_digits_or_more() {
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
