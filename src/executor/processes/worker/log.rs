//! Log and panic messages of a worker carry its number and the name of the task that runs.

use crate::graph::crossing::TaskCode;
use crate::graph::name;
use crate::portable::code::CodeDescriptor;
use std::cell::RefCell;
use std::io::Write;

thread_local! {
    static TASK: RefCell<CurrentTask> = const { RefCell::new(CurrentTask { code: None, name: String::new() }) };
}

/// The task that this thread runs.
struct CurrentTask {
    code: Option<&'static CodeDescriptor<TaskCode>>,
    name: String,
}

/// Sets the task that this thread runs.
pub(super) fn set_task(code: &'static CodeDescriptor<TaskCode>, name: Option<&str>) {
    TASK.with_borrow_mut(|task| {
        task.code = Some(code);
        task.name.clear();
        task.name.push_str(name.unwrap_or_default());
    });
}

/// The name of the task that this thread runs, if it runs one.
fn task_name() -> Option<String> {
    let name = TASK.try_with(|task| {
        let task = task.try_borrow().ok()?;
        Some(match task.name.as_str() {
            "" => name::of_function((task.code?.item.function)()),
            name => name.to_owned(),
        })
    });
    name.ok().flatten()
}

// The writes to standard error below may fail. The worker has nowhere else to report that.

/// Makes the panic hook print the worker and the task before the panic.
pub(super) fn name_panics(worker: u32) {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Some(name) = task_name() {
            let pid = std::process::id();
            let _ = writeln!(std::io::stderr(), "\nsprang worker {worker} (process {pid}), task {name:?}:");
        }
        default(info);
    }));
}

/// A logger that writes to standard error.
struct WorkerLog {
    worker: u32,
}

impl log::Log for WorkerLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        let task = task_name().map_or(String::new(), |name| format!(", task {name:?}"));
        let (worker, level, target, args) = (self.worker, record.level(), record.target(), record.args());
        let _ = writeln!(std::io::stderr(), "sprang worker {worker}{task}: {level} {target}: {args}");
    }

    fn flush(&self) {}
}

/// Installs a [`WorkerLog`] with the parent's level, unless the initializer installed a logger.
pub(super) fn install(worker: u32, level: usize) {
    let level = log::LevelFilter::iter().nth(level).unwrap_or(log::LevelFilter::Off);
    if log::set_logger(Box::leak(Box::new(WorkerLog { worker }))).is_ok() {
        log::set_max_level(level);
    }
}
