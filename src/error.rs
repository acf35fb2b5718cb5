//! The one error type.
//!
//! Three things are kept apart. A caller's mistake is an [`Error`] from the earliest call that can know it. A task's failure is an
//! [`Error`] too: it names the task, keeps the original cause as [`source`](std::error::Error::source), and tells through which
//! tasks the failure reached an output. A bug of sprang's own is a panic and is not dressed up as either.
//!
//! One failure reaches every dependent, so an [`Error`] is one shared allocation and cheap to clone.

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
    /// A value did not survive being encoded and decoded again.
    NotPortable,
    /// A value was asked for that cannot be given away because it cannot be cloned.
    NotCloneable,
    /// A graph has more tasks or dependencies than can be numbered.
    TooLarge,
    /// An executor returned before the run had ended.
    Executor,
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
            }),
        }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Config, message)
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
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        let Some(task) = &inner.task else { return f.write_str(&inner.message) };
        let verb = match inner.kind {
            ErrorKind::Panicked => "panicked",
            ErrorKind::TimedOut => "timed out",
            ErrorKind::NotPortable => "is not portable",
            _ => "failed",
        };
        write!(f, "task {task:?} {verb}: {}", inner.message)?;
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

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        let mut out = f.debug_struct("Error");
        out.field("kind", &inner.kind).field("message", &inner.message);
        if let Some(task) = &inner.task {
            out.field("task", task).field("attempts", &inner.attempts).field("path", &inner.path);
        }
        if let Some(source) = &inner.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
