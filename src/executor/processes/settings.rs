//! What can be set about worker processes.

use super::initializer::Initializer;
use crate::portable::codec::Codec;
use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// The settings `processes.*`, for
/// [`ProcessExecutor::with_settings`](crate::ProcessExecutor::with_settings).
///
/// Fields may be added, so one is made from the default. Runs that name the scheduler take them
/// from the [configuration](crate::config).
///
/// # Examples
/// ```
/// use sprang::config::ProcessSettings;
/// use sprang::{ProcessExecutor, delayed};
/// use std::num::NonZeroUsize;
///
/// let mut settings = ProcessSettings::default();
/// settings.memory_limit = Some(1 << 30);
/// let executor = ProcessExecutor::with_settings(NonZeroUsize::MIN, settings);
/// assert_eq!(delayed(|| 6 * 7, ()).compute_with(executor)?, 42);
/// # Ok::<_, sprang::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ProcessSettings {
    /// How often a task is started when its worker dies, before it counts as failed.
    pub max_attempts: NonZeroU32,
    /// How long a worker may take to start.
    pub start_timeout: Duration,
    /// How long workers wait for something to do before they end; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// How much memory of its own a worker may use, in bytes, before it is killed.
    pub memory_limit: Option<u64>,
    /// After how many tasks a worker is replaced by a new one.
    pub max_tasks_per_worker: Option<NonZeroU64>,
    /// Where the standard output and error of workers go.
    pub stdio: Stdio,
    /// Environment variables of workers, beside those of this process.
    pub environment: BTreeMap<String, String>,
    /// The working directory of workers; `None` is that of this process.
    pub working_directory: Option<PathBuf>,
    /// What each worker runs before its first task.
    pub initializer: Option<Initializer>,
    /// What becomes of tasks that cannot leave this process.
    pub local_tasks: LocalTasks,
    /// How values are encoded.
    pub codec: Codec,
    /// Whether a worker that crashes leaves a core dump, as far as the system is set up for it.
    pub core_dumps: bool,
    /// How long tasks that run when a run is cancelled may go on before their workers are killed.
    pub cancel_grace: Duration,
    /// How much shared memory values may take up, in this process and all workers of an executor
    /// together, in bytes; `None` is a quarter of the machine's memory.
    ///
    /// Memory that is kept for the next values counts too; it is a quarter of the limit at most.
    /// What a worker had made counts until it has ended, and what is used here of that until it is
    /// dropped.
    pub shared_memory_limit: Option<u64>,
    /// How many tasks a worker runs at once.
    pub threads_per_worker: NonZeroUsize,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        ProcessSettings {
            max_attempts: NonZeroU32::new(3).expect("3 is not 0"),
            start_timeout: Duration::from_secs(30),
            idle_timeout: Some(Duration::from_secs(60)),
            memory_limit: None,
            max_tasks_per_worker: None,
            stdio: Stdio::Inherit,
            environment: BTreeMap::new(),
            working_directory: None,
            initializer: None,
            local_tasks: LocalTasks::Parent,
            codec: Codec::Fast,
            core_dumps: false,
            cancel_grace: Duration::from_secs(2),
            shared_memory_limit: None,
            threads_per_worker: NonZeroUsize::MIN,
        }
    }
}

/// The setting `processes.stdio`: where the standard output and error of workers go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stdio {
    /// To those of this process: `"inherit"`.
    #[default]
    Inherit,
    /// Nowhere: `"null"`.
    Null,
    /// Line by line to the `log` crate, and the end of it into the errors of tasks that lose their
    /// worker: `"capture"`.
    Capture,
}

impl fmt::Display for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stdio::Inherit => "inherit",
            Stdio::Null => "null",
            Stdio::Capture => "capture",
        })
    }
}

/// The setting `processes.local_tasks`: what becomes of tasks that cannot leave this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocalTasks {
    /// They run in this process, on threads: `"parent"`.
    #[default]
    Parent,
    /// A run that has some fails before anything is run: `"error"`.
    Error,
}

impl fmt::Display for LocalTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LocalTasks::Parent => "parent",
            LocalTasks::Error => "error",
        })
    }
}
