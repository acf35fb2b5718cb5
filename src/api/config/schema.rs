//! All settings: one row in [`SETTINGS`] and one field in [`Settings`] each.
//!
//! To add a setting, add the field with its default, and the row. A dot in the name makes the
//! setting a key of a TOML table: `processes.local_tasks` is in `[processes]`, and its variable is
//! `SPRANG_PROCESSES__LOCAL_TASKS`. The setting must accept the text that [`show`](Setting::show)
//! returns, because values are sent to worker processes in that form. Then regenerate the table in
//! `docs/configuration.md` with the command given there.

use super::value::{Given, Value};
use super::{Codec, Initializer, LocalTasks, ProcessSettings, Stdio};
use crate::executor::Scheduler;
use crate::executor::threads::DEFAULT_STACK_SIZE;
use bytesize::ByteSize;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Every setting, resolved.
///
/// [`settings`](super::settings) returns the settings in force. The table in
/// `docs/configuration.md`, which [`table`](super::table) returns, lists the values of each.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Which executor runs a graph.
    pub scheduler: Scheduler,
    /// How many workers run tasks; `None` means one for each core.
    pub num_workers: Option<NonZeroUsize>,
    /// How large the stack of each thread that runs tasks is, in bytes of address space. The thread
    /// that calls `compute` runs tasks too, on the stack that it has.
    pub stack_size: usize,
    /// Whether the failure of a task stops the run.
    pub errors: Errors,
    /// Whether the error of a failed task keeps the task's inputs.
    pub on_failure: OnFailure,
    /// How often a failed task that does not say so itself is tried again.
    pub retries: u32,
    /// How long such a task waits before it is tried again for the first time. The wait doubles
    /// with each failure.
    pub retry_delay: Duration,
    /// The longest wait before such a task is tried again.
    pub retry_max_delay: Duration,
    /// How the order of ready tasks is chosen.
    pub order: Order,
    /// Whether every value is encoded and decoded between tasks, to find values that cannot be sent
    /// to another process.
    pub check_portable: bool,
    /// Whether an unknown `SPRANG_*` environment variable is an error; otherwise it is logged as a
    /// warning.
    pub strict_config: bool,
    /// The address on which the dashboard of the process listens; `None` for no dashboard.
    pub dashboard: Option<String>,
    /// How long a run may go without finishing a task before
    /// [`on_run_stalled`](crate::callback::Callback::on_run_stalled) is called and a warning is
    /// logged; `None` for never.
    pub stall_timeout: Option<Duration>,
    /// How long a compute may take as a whole before it is stopped; `None` for as long as it takes.
    pub run_timeout: Option<Duration>,
    /// How long a dropped [`LocalCluster`](crate::LocalCluster) waits for the tasks that still run
    /// on its threads.
    pub close_timeout: Duration,
    /// The settings of worker processes.
    pub processes: ProcessSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            scheduler: Scheduler::Threads,
            num_workers: None,
            stack_size: DEFAULT_STACK_SIZE,
            errors: Errors::Stop,
            on_failure: OnFailure::DropInputs,
            retries: 0,
            retry_delay: Duration::ZERO,
            retry_max_delay: Duration::from_secs(60),
            order: Order::Memory,
            check_portable: false,
            strict_config: false,
            dashboard: None,
            stall_timeout: None,
            run_timeout: None,
            close_timeout: Duration::from_secs(2),
            processes: ProcessSettings::default(),
        }
    }
}

/// The setting `errors`: whether the failure of a task stops the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Errors {
    /// The first failure stops the run: `"stop"`.
    #[default]
    Stop,
    /// Tasks that do not depend on the failed task still run: `"collect"`.
    Collect,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Errors::Stop => "stop",
            Errors::Collect => "collect",
        })
    }
}

/// The setting `on_failure`: whether the error of a failed task keeps the task's inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnFailure {
    /// The inputs are dropped: `"drop_inputs"`.
    #[default]
    DropInputs,
    /// The error keeps them for [`Error::replay`](crate::Error::replay): `"keep_inputs"`.
    KeepInputs,
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnFailure::DropInputs => "drop_inputs",
            OnFailure::KeepInputs => "keep_inputs",
        })
    }
}

/// The setting `order`: how the order of ready tasks is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// The graph is ranked first, so that few values are held at a time: `"memory"`.
    #[default]
    Memory,
    /// The run starts with the least preparation: `"fast"`.
    Fast,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Memory => "memory",
            Order::Fast => "fast",
        })
    }
}

/// One row of the schema. The default and the name of the variable are derived from the others.
#[derive(Debug)]
pub(super) struct Setting {
    /// Lower case, words joined by `_`, tables by `.`.
    pub(super) name: &'static str,
    /// The accepted values, in words that follow "give".
    pub(super) kind: &'static str,
    /// One sentence.
    pub(super) doc: &'static str,
    /// Writes the value into its field; `None` if the setting does not accept it.
    pub(super) write: fn(&mut Settings, &Value) -> Option<()>,
    /// The field as text.
    pub(super) show: fn(&Settings) -> String,
}

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "scheduler",
        kind: r#""threads", "processes" or "sync""#,
        doc: "Which executor runs a graph; from code also a `Scheduler` or an executor.",
        write: |settings, value| scheduler(value).map(|it| settings.scheduler = it),
        show: |settings| settings.scheduler.to_string(),
    },
    Setting {
        name: "num_workers",
        kind: r#"a whole number from 1, or "auto" for one per core"#,
        doc: "How many workers run tasks.",
        write: |settings, value| or_auto(value, count).map(|it| settings.num_workers = it),
        show: |settings| settings.num_workers.map_or("auto".to_owned(), |n| n.to_string()),
    },
    Setting {
        name: "stack_size",
        kind: r#"a size from "64 KiB" to "1 TiB", or a whole number of bytes"#,
        doc: "How large the stack of each thread that runs tasks is; it takes memory only where it is used.",
        write: |settings, value| {
            let bytes = size(value).filter(|bytes| (64 << 10..=1 << 40).contains(bytes))?;
            settings.stack_size = bytes.try_into().ok()?;
            settings.processes.stack_size = settings.stack_size;
            Some(())
        },
        show: |settings| show_size(settings.stack_size as u64),
    },
    Setting {
        name: "errors",
        kind: r#""stop" or "collect""#,
        doc: "Whether the first failure stops the run, or tasks that do not depend on it still run.",
        write: |settings, value| one_of(value, &[Errors::Stop, Errors::Collect]).map(|it| settings.errors = it),
        show: |settings| settings.errors.to_string(),
    },
    Setting {
        name: "on_failure",
        kind: r#""drop_inputs" or "keep_inputs""#,
        doc: "Whether the inputs of a failed task are dropped, or its error keeps them for a replay in a debugger.",
        write: |settings, value| {
            one_of(value, &[OnFailure::DropInputs, OnFailure::KeepInputs]).map(|it| settings.on_failure = it)
        },
        show: |settings| settings.on_failure.to_string(),
    },
    Setting {
        name: "retries",
        kind: "a whole number",
        doc: "How often a failed task is tried again, unless the task's own `retries` says so.",
        write: |settings, value| number(value)?.try_into().ok().map(|it| settings.retries = it),
        show: |settings| settings.retries.to_string(),
    },
    Setting {
        name: "retry_delay",
        kind: r#"a duration such as "500ms", or a whole number of seconds"#,
        doc: "How long a failed task waits before it is tried again, unless the task's own `retry_delay` says so. The wait \
              doubles with each failure, and is shortened at random by up to a half.",
        write: |settings, value| duration(value).map(|it| settings.retry_delay = it),
        show: |settings| show_duration(settings.retry_delay),
    },
    Setting {
        name: "retry_max_delay",
        kind: r#"a duration such as "1m", or a whole number of seconds"#,
        doc: "The longest such wait.",
        write: |settings, value| duration(value).map(|it| settings.retry_max_delay = it),
        show: |settings| show_duration(settings.retry_max_delay),
    },
    Setting {
        name: "order",
        kind: r#""memory" or "fast""#,
        doc: "Whether tasks are ranked to keep few values at a time, or the run starts with the least preparation.",
        write: |settings, value| one_of(value, &[Order::Memory, Order::Fast]).map(|it| settings.order = it),
        show: |settings| settings.order.to_string(),
    },
    Setting {
        name: "check_portable",
        kind: "true or false",
        doc: "Whether every value is encoded and decoded between tasks, to find values that are not portable.",
        write: |settings, value| truth(value).map(|it| settings.check_portable = it),
        show: |settings| settings.check_portable.to_string(),
    },
    Setting {
        name: "strict_config",
        kind: "true or false",
        doc: "Whether an unknown `SPRANG_*` environment variable is an error, or a warning in the log.",
        write: |settings, value| truth(value).map(|it| settings.strict_config = it),
        show: |settings| settings.strict_config.to_string(),
    },
    Setting {
        name: "dashboard",
        kind: r#"an address with a port, such as "127.0.0.1:8787", or "none""#,
        doc: "The address of the dashboard that the first compute of the process starts; needs the feature `dashboard`.",
        write: |settings, value| or("none", value, address).map(|it| settings.dashboard = it),
        show: |settings| settings.dashboard.clone().unwrap_or("none".to_owned()),
    },
    Setting {
        name: "stall_timeout",
        kind: r#"a duration above 0, such as "30s", a whole number of seconds, or "never""#,
        doc: "How long a run may go without finishing a task before a warning lists its running tasks and their dependents.",
        write: |settings, value| {
            let timeout = or("never", value, duration)?;
            timeout.is_none_or(|it| !it.is_zero()).then(|| settings.stall_timeout = timeout)
        },
        show: |settings| settings.stall_timeout.map_or("never".to_owned(), show_duration),
    },
    Setting {
        name: "run_timeout",
        kind: r#"a duration above 0, such as "30s", a whole number of seconds, or "never""#,
        doc: "How long a compute may take as a whole before it is stopped with an error that lists its running tasks. For a \
              graph that a client computes, the time counts from its submission. Not for single tasks that are submitted \
              to a client, which have timeouts of their own.",
        write: |settings, value| {
            let timeout = or("never", value, duration)?;
            timeout.is_none_or(|it| !it.is_zero()).then(|| settings.run_timeout = timeout)
        },
        show: |settings| settings.run_timeout.map_or("never".to_owned(), show_duration),
    },
    Setting {
        name: "close_timeout",
        kind: r#"a duration such as "2s", or a whole number of seconds"#,
        doc: "How long a cluster that is dropped waits for tasks that do not check their tokens.",
        write: |settings, value| duration(value).map(|it| settings.close_timeout = it),
        show: |settings| show_duration(settings.close_timeout),
    },
    Setting {
        name: "processes.max_attempts",
        kind: "a whole number from 1",
        doc: "How many attempts a task has if its worker process dies.",
        write: |settings, value| count(value)?.try_into().ok().map(|it| settings.processes.max_attempts = it),
        show: |settings| settings.processes.max_attempts.to_string(),
    },
    Setting {
        name: "processes.start_timeout",
        kind: r#"a duration above 0, such as "30s", or a whole number of seconds"#,
        doc: "How long a worker may take to start.",
        write: |settings, value| {
            duration(value).filter(|it| !it.is_zero()).map(|it| settings.processes.start_timeout = it)
        },
        show: |settings| show_duration(settings.processes.start_timeout),
    },
    Setting {
        name: "processes.idle_timeout",
        kind: r#"a duration such as "1m 30s", a whole number of seconds, or "never""#,
        doc: "How long a worker stays idle before it exits.",
        write: |settings, value| or("never", value, duration).map(|it| settings.processes.idle_timeout = it),
        show: |settings| settings.processes.idle_timeout.map_or("never".to_owned(), show_duration),
    },
    Setting {
        name: "processes.memory_limit",
        kind: r#"a size above 0, such as "512 MiB", a whole number of bytes, or "none""#,
        doc: "How much private memory a worker may use before it is killed and its task fails.",
        write: |settings, value| or("none", value, size).map(|it| settings.processes.memory_limit = it),
        show: |settings| settings.processes.memory_limit.map_or("none".to_owned(), show_size),
    },
    Setting {
        name: "processes.max_tasks_per_worker",
        kind: r#"a whole number from 1, or "none""#,
        doc: "After how many tasks a worker is replaced by a new one.",
        write: |settings, value| {
            let number = or("none", value, count)?.map(|it| it.try_into()).transpose().ok()?;
            settings.processes.max_tasks_per_worker = number;
            Some(())
        },
        show: |settings| settings.processes.max_tasks_per_worker.map_or("none".to_owned(), |n| n.to_string()),
    },
    Setting {
        name: "processes.stdio",
        kind: r#""inherit", "null" or "capture""#,
        doc: "Where the standard output and error of workers go: to those of this process, nowhere, or to the `log` crate and \
              into the errors of tasks that lose their worker.",
        write: |settings, value| {
            one_of(value, &[Stdio::Inherit, Stdio::Null, Stdio::Capture]).map(|it| settings.processes.stdio = it)
        },
        show: |settings| settings.processes.stdio.to_string(),
    },
    Setting {
        name: "processes.environment",
        kind: r#"a table of texts, a text such as "NAME=VALUE,OTHER=VALUE" with `\,` for a comma and `\\` for a backslash, or "none""#,
        doc: "Environment variables of workers, in addition to those of this process; from code also a map.",
        write: |settings, value| environment(value).map(|it| settings.processes.environment = it),
        show: |settings| show_environment(&settings.processes.environment),
    },
    Setting {
        name: "processes.working_directory",
        kind: r#"a path, or "none" for that of this process"#,
        doc: "The working directory of workers; from code also a `Path`.",
        write: |settings, value| path(value).map(|it| settings.processes.working_directory = it),
        show: |settings| {
            let directory = settings.processes.working_directory.as_ref();
            directory.map_or("none".to_owned(), |path| path.display().to_string())
        },
    },
    Setting {
        name: "processes.initializer",
        kind: r#"a `config::Initializer`, which can be given from code only, or "none""#,
        doc: "A function without captures that each worker runs before its first task.",
        write: |settings, value| or("none", value, initializer).map(|it| settings.processes.initializer = it),
        show: |settings| settings.processes.initializer.map_or("none".to_owned(), |it| it.name().to_owned()),
    },
    Setting {
        name: "processes.local_tasks",
        kind: r#""parent" or "error""#,
        doc: "Whether local tasks run in this process, on threads, or a run that has local tasks fails before it starts.",
        write: |settings, value| {
            one_of(value, &[LocalTasks::Parent, LocalTasks::Error]).map(|it| settings.processes.local_tasks = it)
        },
        show: |settings| settings.processes.local_tasks.to_string(),
    },
    Setting {
        name: "processes.codec",
        kind: r#""fast" or "self-describing""#,
        doc: "Whether values are encoded compactly, or with field names and types, which self-describing types need.",
        write: |settings, value| {
            one_of(value, &[Codec::Fast, Codec::SelfDescribing]).map(|it| settings.processes.codec = it)
        },
        show: |settings| settings.processes.codec.to_string(),
    },
    Setting {
        name: "processes.core_dumps",
        kind: "true or false",
        doc: "Whether a worker that crashes leaves a core dump, if the system is configured for core dumps.",
        write: |settings, value| truth(value).map(|it| settings.processes.core_dumps = it),
        show: |settings| settings.processes.core_dumps.to_string(),
    },
    Setting {
        name: "processes.cancel_grace",
        kind: r#"a duration such as "500ms", or a whole number of seconds"#,
        doc: "How long running tasks may continue after their run was cancelled, before their workers are killed.",
        write: |settings, value| duration(value).map(|it| settings.processes.cancel_grace = it),
        show: |settings| show_duration(settings.processes.cancel_grace),
    },
    Setting {
        name: "processes.shared_memory_limit",
        kind: r#"a size above 0, such as "2 GiB", a whole number of bytes, or "auto" for a quarter of the machine's memory"#,
        doc: "How much shared memory the values of an executor may use, in this process and its workers together.",
        write: |settings, value| or_auto(value, size).map(|it| settings.processes.shared_memory_limit = it),
        show: |settings| settings.processes.shared_memory_limit.map_or("auto".to_owned(), show_size),
    },
    Setting {
        name: "processes.threads_per_worker",
        kind: "a whole number from 1",
        doc: "How many tasks a worker runs at once.",
        write: |settings, value| count(value).map(|it| settings.processes.threads_per_worker = it),
        show: |settings| settings.processes.threads_per_worker.to_string(),
    },
];

fn text(value: &Value) -> Option<&str> {
    match &value.0 {
        Given::Text(text) | Given::Untyped(text) => Some(text),
        _ => None,
    }
}

fn scheduler(value: &Value) -> Option<Scheduler> {
    match &value.0 {
        Given::Scheduler(scheduler) => Some(scheduler.clone()),
        _ => text(value)?.parse().ok(),
    }
}

fn number(value: &Value) -> Option<usize> {
    match &value.0 {
        Given::Integer(number) => usize::try_from(*number).ok(),
        Given::Untyped(text) => text.parse().ok(),
        _ => None,
    }
}

fn count(value: &Value) -> Option<NonZeroUsize> {
    NonZeroUsize::new(number(value)?)
}

fn truth(value: &Value) -> Option<bool> {
    match &value.0 {
        Given::Boolean(truth) => Some(*truth),
        Given::Untyped(text) => text.to_ascii_lowercase().parse().ok(),
        _ => None,
    }
}

fn one_of<T: Copy + fmt::Display>(value: &Value, choices: &[T]) -> Option<T> {
    let text = text(value)?;
    choices.iter().copied().find(|choice| choice.to_string().eq_ignore_ascii_case(text))
}

/// An optional setting: `word` and "none" mean `None`.
fn or<T>(word: &str, value: &Value, read: fn(&Value) -> Option<T>) -> Option<Option<T>> {
    match text(value) {
        Some(text) if text.eq_ignore_ascii_case(word) || text.eq_ignore_ascii_case("none") => Some(None),
        _ => read(value).map(Some),
    }
}

fn or_auto<T>(value: &Value, read: fn(&Value) -> Option<T>) -> Option<Option<T>> {
    or("auto", value, read)
}

fn duration(value: &Value) -> Option<Duration> {
    let seconds = match &value.0 {
        Given::Duration(duration) => return Some(*duration),
        Given::Integer(number) => u64::try_from(*number).ok(),
        Given::Untyped(text) => text.parse().ok(),
        _ => None,
    };
    seconds.map(Duration::from_secs).or_else(|| humantime::parse_duration(text(value)?).ok())
}

fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A size in bytes, above 0.
fn size(value: &Value) -> Option<u64> {
    let bytes = match &value.0 {
        Given::Integer(number) => u64::try_from(*number).ok()?,
        // `ByteSize` parses the text; integers are taken exactly, since it saturates.
        _ => text(value)?.parse::<ByteSize>().ok()?.0,
    };
    (bytes > 0).then_some(bytes)
}

/// The exact size, in the largest binary unit that divides it.
fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let thousands = bytes.trailing_zeros().min(63) as usize / 10;
    format!("{} {}", bytes >> (10 * thousands), UNITS[thousands])
}

/// An optional path. A path called "none" can be given as "./none", or as a `Path`.
fn path(value: &Value) -> Option<Option<PathBuf>> {
    let path = match &value.0 {
        Given::Path(path) => Some(path.clone()),
        _ => or("none", value, |value| text(value).map(PathBuf::from))?,
    };
    path.as_ref().is_none_or(|path| !path.as_os_str().is_empty()).then_some(path)
}

/// Checks the form only: whether the address exists is known when the dashboard binds it.
fn address(value: &Value) -> Option<String> {
    let text = text(value)?.trim();
    let (host, port) = text.rsplit_once(':')?;
    let is_good = port.parse::<u16>().is_ok() && !host.contains(char::is_whitespace);
    is_good.then(|| text.to_owned())
}

fn initializer(value: &Value) -> Option<Initializer> {
    match &value.0 {
        Given::Initializer(initializer) => Some(*initializer),
        _ => None,
    }
}

fn environment(value: &Value) -> Option<BTreeMap<String, String>> {
    let texts = match &value.0 {
        Given::Texts(texts) => texts.clone(),
        _ => parse_environment(text(value)?)?,
    };
    // The operating system cannot represent other names; no program uses names with spaces.
    let good_name =
        |name: &str| !name.is_empty() && !name.contains(|c: char| c == '=' || c == '\0' || c.is_whitespace());
    texts.iter().all(|(name, text)| good_name(name) && !text.contains('\0')).then_some(texts)
}

/// The inverse of [`show_environment`]. Ignores white space before a name; a name given twice is a
/// mistake.
fn parse_environment(text: &str) -> Option<BTreeMap<String, String>> {
    if text.trim().is_empty() || text.eq_ignore_ascii_case("none") {
        return Some(BTreeMap::new());
    }
    let mut items = vec![String::new()];
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        let item = items.last_mut().expect("there is at least one");
        match char {
            ',' => items.push(String::new()),
            '\\' => item.push(chars.next().filter(|escaped| matches!(escaped, ',' | '\\'))?),
            char => item.push(char),
        }
    }
    let mut texts = BTreeMap::new();
    for item in items {
        let (name, text) = item.split_once('=')?;
        if texts.insert(name.trim_start().to_owned(), text.to_owned()).is_some() {
            return None;
        }
    }
    Some(texts)
}

fn show_environment(texts: &BTreeMap<String, String>) -> String {
    let escape = |text: &str| text.replace('\\', r"\\").replace(',', r"\,");
    let items: Vec<String> = texts.iter().map(|(name, text)| format!("{}={}", escape(name), escape(text))).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(",") }
}

impl Setting {
    /// The name of its environment variable.
    pub(super) fn variable(&self) -> String {
        format!("SPRANG_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// The error text for a value that it does not accept.
    pub(super) fn refuse(&self, given: impl fmt::Display) -> String {
        format!("{:?} cannot be {given}; give {}", self.name, self.kind)
    }

    /// Checks that it accepts `value`; the error says what it accepts.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        (self.write)(&mut Settings::default(), value).ok_or_else(|| self.refuse(value))
    }

    /// Whether its value is a table of texts.
    pub(super) fn takes_texts(&self) -> bool {
        self.check(&Value(Given::Texts(BTreeMap::new()))).is_ok()
    }

    /// `value` in the form that [`show`](Setting::show) returns.
    pub(super) fn show_value(&self, value: &Value) -> String {
        let mut settings = Settings::default();
        (self.write)(&mut settings, value).expect("a value was checked before it entered its layer");
        (self.show)(&settings)
    }
}

/// Finds the setting `key`, in which `-` equals `_`.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    let key = key.replace('-', "_");
    SETTINGS.iter().find(|setting| setting.name == key)
}

/// Whether the TOML table `key` contains settings.
pub(super) fn is_table(key: &str) -> bool {
    let prefix = format!("{}.", key.replace('-', "_"));
    SETTINGS.iter().any(|setting| setting.name.starts_with(&prefix))
}

/// The error text for an unknown setting `key`. `spell` formats the names of settings.
pub(super) fn unknown(key: &str, spell: fn(&Setting) -> String) -> String {
    let wanted = key.replace('-', "_").to_ascii_lowercase();
    // Only the table may be missing.
    let distance = |setting: &Setting| {
        let names = [Some(setting.name), setting.name.split_once('.').map(|(_, name)| name)];
        let distances = names.into_iter().flatten().map(|name| (strsim::osa_distance(&wanted, name), name.len()));
        distances.min().expect("there is a name")
    };
    let nearest = SETTINGS.iter().min_by_key(|setting| distance(setting)).expect("there are settings");
    let (far, len) = distance(nearest);
    // A more distant name would be a useless guess.
    if far * 2 <= wanted.len().max(len) {
        format!("unknown setting {key:?}; the nearest is {}", spell(nearest))
    } else {
        let known: Vec<String> = SETTINGS.iter().map(spell).collect();
        format!("unknown setting {key:?}; known are {}", known.join(", "))
    }
}

/// The name of a setting as a file or a call spells it.
pub(super) fn quoted(setting: &Setting) -> String {
    format!("{:?}", setting.name)
}

/// Returns a Markdown table of all settings: name, values, default, environment variable, meaning.
///
/// # Examples
/// ```
/// assert!(sprang::config::table().contains("| `num_workers` |"));
/// ```
pub fn table() -> String {
    let defaults = Settings::default();
    let mut table = "| setting | values | default | variable | meaning |\n|---|---|---|---|---|\n".to_owned();
    for setting in SETTINGS {
        let Setting { name, kind, doc, .. } = setting;
        let (default, variable) = ((setting.show)(&defaults), setting.variable());
        table += &format!("| `{name}` | {kind} | `{default}` | `{variable}` | {doc} |\n");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_the_form_in_which_keys_are_compared() {
        for setting in SETTINGS {
            assert_eq!(setting.name, setting.name.to_ascii_lowercase().replace('-', "_"));
            assert!(std::ptr::eq(find(setting.name).unwrap(), setting), "{:?} is defined twice", setting.name);
            assert_ne!(setting.variable(), "SPRANG_CONFIG", "this variable names the file");
        }
    }

    #[test]
    fn every_default_is_accepted_in_the_form_that_is_shown() {
        for setting in SETTINGS {
            let default = (setting.show)(&Settings::default());
            assert_eq!(setting.show_value(&Value(Given::Untyped(default.clone()))), default);
        }
    }

    #[test]
    fn every_word_that_a_row_offers_is_accepted() {
        for setting in SETTINGS {
            for word in setting.kind.split('"').skip(1).step_by(2) {
                assert_eq!(setting.show_value(&word.into()), word);
            }
        }
    }
}
