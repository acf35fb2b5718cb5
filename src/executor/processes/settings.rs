//! The settings of worker processes.

use super::initializer::Initializer;
use crate::executor::threads::DEFAULT_STACK_SIZE;
use crate::portable::codec::Codec;
use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// The settings `processes.*`, for
/// [`ProcessExecutor::with_settings`](crate::ProcessExecutor::with_settings).
///
/// Start from the default: later versions may add fields. Runs that name the scheduler take these
/// settings from the [configuration](crate::config).
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
    /// How often a task is started before it fails, if its worker dies each time.
    pub max_attempts: NonZeroU32,
    /// How long a worker may take to start.
    pub start_timeout: Duration,
    /// How long a worker may be idle before it ends. `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// How much private memory a worker may use, in bytes, before it is killed.
    pub memory_limit: Option<u64>,
    /// After how many tasks a worker is replaced by a new one.
    pub max_tasks_per_worker: Option<NonZeroU64>,
    /// Where the standard output and error of workers go.
    pub stdio: Stdio,
    /// Environment variables of workers, in addition to those of this process.
    pub environment: BTreeMap<String, String>,
    /// The working directory of workers. `None`: the one of this process.
    pub working_directory: Option<PathBuf>,
    /// A function that each worker runs before its first task.
    pub initializer: Option<Initializer>,
    /// What happens to tasks that cannot leave this process.
    pub local_tasks: LocalTasks,
    /// How values are encoded.
    pub codec: Codec,
    /// Whether a worker that crashes writes a core dump, if the system allows core dumps.
    pub core_dumps: bool,
    /// How long the tasks of a cancelled run may continue before their workers are killed.
    pub cancel_grace: Duration,
    /// How much shared memory values may take, in bytes, in this process and all workers of an
    /// executor together. `None`: a quarter of the machine's memory.
    ///
    /// Memory that is kept for the next values counts too; it is at most a quarter of the limit.
    /// Memory that a worker has allocated counts until the worker has ended. After that, the part
    /// that this process uses counts until it is dropped.
    pub shared_memory_limit: Option<u64>,
    /// How large the stack of each thread that runs tasks is, in bytes: the setting `stack_size`.
    pub stack_size: usize,
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
            stack_size: DEFAULT_STACK_SIZE,
            threads_per_worker: NonZeroUsize::MIN,
        }
    }
}

/// The setting `processes.stdio`: where the standard output and error of workers go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stdio {
    /// To the standard output and error of this process: `"inherit"`.
    #[default]
    Inherit,
    /// They are discarded: `"null"`.
    Null,
    /// Each line to the `log` crate: `"capture"`. The error of a task whose worker dies includes
    /// the end of the output.
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

/// The setting `processes.local_tasks`: what happens to tasks that cannot leave this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocalTasks {
    /// They run in this process, on threads: `"parent"`.
    #[default]
    Parent,
    /// A run with such tasks fails before any task runs: `"error"`.
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
