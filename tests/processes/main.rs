//! The promises of worker processes, apart from surviving harmful tasks (see `tests/faults`).

#[path = "../config/child.rs"]
#[allow(dead_code, reason = "the tests of the configuration use more of it")]
mod child;
#[path = "../contract/watchdog.rs"]
#[allow(dead_code, reason = "as above")]
mod watchdog;

mod graphs;
mod memory;
mod scopes;
mod selection;
mod settings;
mod system;
mod upkeep;
mod values;
mod watching;

use sprang::{ProcessExecutor, config};
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Two workers that tests share if they leave them unchanged.
fn pool() -> Arc<ProcessExecutor> {
    static POOL: LazyLock<Arc<ProcessExecutor>> = LazyLock::new(|| new_pool(2));
    Arc::clone(&POOL)
}

fn new_pool(num_workers: usize) -> Arc<ProcessExecutor> {
    Arc::new(ProcessExecutor::new(NonZeroUsize::new(num_workers).unwrap()))
}

/// Computes with `scheduler = "processes"`, this number of workers and these settings.
fn on_processes<R>(num_workers: usize, settings: &[(&str, &str)], body: impl FnOnce() -> R) -> R {
    let mut scope = config::scoped("scheduler", "processes").unwrap().and("num_workers", num_workers).unwrap();
    for (key, value) in settings {
        let key = format!("processes.{key}");
        scope = match (value.parse::<u64>(), value.parse::<bool>()) {
            (Ok(number), _) => scope.and(&key, number),
            (_, Ok(truth)) => scope.and(&key, truth),
            _ if key.ends_with("environment") => {
                let pairs = value.split(',').filter_map(|pair| pair.split_once('='));
                scope.and(&key, pairs.collect::<std::collections::BTreeMap<_, _>>())
            }
            _ => scope.and(&key, *value),
        }
        .unwrap();
    }
    let result = body();
    drop(scope);
    result
}

/// Polls a condition that has no event to wait for.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// In a task: creates a file, and waits until the folder has this number of files.
fn meet(folder: &Path, name: &str, num_expected: usize) {
    fs::write(folder.join(name), "").unwrap();
    eventually("all tasks are there", || fs::read_dir(folder).unwrap().count() >= num_expected);
}
