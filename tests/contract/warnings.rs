//! Keeps the warnings that sprang logs in a test program.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::sync::{Mutex, Once};

struct Warnings(Mutex<Vec<String>>);

impl Log for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

/// Keeps the warnings from now on.
pub(crate) fn keep() {
    static LOGGER: Once = Once::new();
    LOGGER.call_once(|| {
        log::set_logger(&WARNINGS).unwrap();
        log::set_max_level(LevelFilter::Warn);
    });
}

/// The warnings so far.
pub(crate) fn all() -> Vec<String> {
    WARNINGS.0.lock().unwrap().clone()
}
