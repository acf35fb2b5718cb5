//! Sending a snapshot to a worker process.
//!
//! Every value of every layer is sent with the text of its origin, and becomes an override on top
//! of the defaults. The snapshot is therefore the whole configuration of a task in the worker: the
//! worker's own environment, files and `set` have no effect on it.
//!
//! A value is sent as the text that its setting shows and parses. A value that text cannot
//! represent has a variant of [`PortableValue`].

use super::layers::{Entry, Origin, Snapshot};
use super::schema::{self, SETTINGS, Setting};
use super::value::{Given, Value};
use crate::executor::Scheduler;
use crate::executor::processes::initializer::Initializer;
use crate::portable::code::CodeRef;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;

#[derive(Serialize, Deserialize)]
struct PortableEntry {
    setting: String,
    value: PortableValue,
    /// The `Display` text of the origin.
    origin: String,
}

#[derive(Serialize, Deserialize)]
enum PortableValue {
    Text(String),
    /// A path need not be UTF-8.
    Path(OsString),
    Initializer(CodeRef),
}

impl Snapshot {
    /// Encodes the snapshot for [`decode`](Snapshot::decode) in another process of the same
    /// executable.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let of_setting = |setting: &'static Setting| {
            let weakest_first = self.entries(setting).rev();
            weakest_first.filter_map(|entry| PortableEntry::new(setting, entry))
        };
        let entries: Vec<PortableEntry> = SETTINGS.iter().flat_map(of_setting).collect();
        postcard::to_stdvec(&entries).expect("texts can be encoded")
    }

    /// Restores the settings and origins in `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Snapshot, String> {
        let entries: Vec<PortableEntry> = postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
        let entries = entries.into_iter().map(PortableEntry::into_entry).collect::<Result<Vec<_>, _>>()?;
        Ok(Snapshot::of(Vec::new()).under(entries))
    }
}

impl PortableEntry {
    fn new(setting: &Setting, entry: &Entry) -> Option<Self> {
        let value = match &entry.value.0 {
            // A custom executor cannot be sent. A compute inside a task then runs on "sync", which
            // promises the least of all named schedulers.
            Given::Scheduler(Scheduler::Custom(_)) => PortableValue::Text(Scheduler::Sync.to_string()),
            Given::Path(path) => PortableValue::Path(path.clone().into_os_string()),
            // On systems without references to code there are no workers.
            Given::Initializer(initializer) => PortableValue::Initializer(CodeRef::to(initializer.code).ok()?),
            _ => PortableValue::Text(setting.show_value(&entry.value)),
        };
        let origin = match &entry.origin {
            Origin::Parent(origin) => origin.clone(),
            origin => origin.to_string(),
        };
        Some(PortableEntry { setting: setting.name.to_owned(), value, origin })
    }

    fn into_entry(self) -> Result<(&'static Setting, Entry), String> {
        let setting = schema::find(&self.setting).ok_or_else(|| schema::unknown(&self.setting, schema::quoted))?;
        let value = match self.value {
            PortableValue::Text(text) => Given::Untyped(text),
            PortableValue::Path(path) => Given::Path(path.into()),
            PortableValue::Initializer(code) => {
                Given::Initializer(Initializer { code: code.resolve().map_err(|error| error.to_string())? })
            }
        };
        Ok((setting, Entry::new(setting, Value(value), Origin::Parent(self.origin))?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{self as config, Explanation};
    use super::*;
    use crate::executor::sync::SyncExecutor;
    use std::sync::Arc;
    use std::time::Duration;

    fn there_and_back(snapshot: &Snapshot) -> Snapshot {
        Snapshot::decode(&snapshot.encode()).unwrap()
    }

    fn explained(snapshot: &Snapshot, key: &str) -> String {
        Explanation::new(schema::find(key).unwrap(), snapshot).to_string()
    }

    fn value_in(snapshot: &Snapshot, key: &str) -> String {
        (schema::find(key).unwrap().show)(snapshot.settings())
    }

    /// A value other than the default for each setting, with the origin of an environment variable.
    fn everything_else() -> Snapshot {
        let given: Vec<(&str, Value)> = vec![
            ("scheduler", "processes".into()),
            ("num_workers", 3.into()),
            ("stack_size", (1_u64 << 20).into()),
            ("errors", "collect".into()),
            ("on_failure", "keep_inputs".into()),
            ("retries", 2.into()),
            ("retry_delay", Duration::from_millis(250).into()),
            ("retry_max_delay", Duration::from_secs(7).into()),
            ("order", "fast".into()),
            ("check_portable", true.into()),
            ("strict_config", true.into()),
            ("dashboard", "[::1]:8787".into()),
            ("stall_timeout", Duration::from_millis(1500).into()),
            ("run_timeout", Duration::from_millis(2500).into()),
            ("close_timeout", Duration::from_millis(700).into()),
            ("processes.max_attempts", 7.into()),
            ("processes.start_timeout", Duration::new(3, 141_592_653).into()),
            ("processes.idle_timeout", "never".into()),
            ("processes.memory_limit", 1_234_567_890_123_u64.into()),
            ("processes.max_tasks_per_worker", 12.into()),
            ("processes.stdio", "capture".into()),
            ("processes.environment", [("A", "1,2"), ("B", "\\"), ("C", "")].into()),
            ("processes.working_directory", not_utf8().into()),
            ("processes.local_tasks", "error".into()),
            ("processes.codec", "self-describing".into()),
            ("processes.core_dumps", true.into()),
            ("processes.cancel_grace", Duration::MAX.into()),
            ("processes.shared_memory_limit", u64::MAX.into()),
            ("processes.threads_per_worker", 2.into()),
        ];
        let entries = given.into_iter().map(|(key, value)| {
            let setting = schema::find(key).unwrap();
            (setting, Entry::new(setting, value, Origin::Variable(setting.variable())).unwrap())
        });
        Snapshot::of(Vec::new()).under(entries)
    }

    #[cfg(unix)]
    fn not_utf8() -> std::path::PathBuf {
        std::path::PathBuf::from(<OsString as std::os::unix::ffi::OsStringExt>::from_vec(b"/x\xff".to_vec()))
    }

    #[cfg(not(unix))]
    fn not_utf8() -> std::path::PathBuf {
        "none".into()
    }

    #[test]
    fn every_setting_arrives_with_its_value_and_its_origin() {
        let sent = everything_else();
        let received = there_and_back(&sent);
        let defaults = config::Settings::default();
        for setting in SETTINGS {
            assert_eq!((setting.show)(received.settings()), (setting.show)(sent.settings()));
            if setting.name != "processes.initializer" {
                assert_ne!(
                    (setting.show)(sent.settings()),
                    (setting.show)(&defaults),
                    "this test has to give it a value"
                );
            }
            for entry in received.entries(setting) {
                assert_eq!(entry.origin, Origin::Parent(format!("environment variable {}", setting.variable())));
            }
            assert_eq!(received.entries(setting).count(), sent.entries(setting).count());
        }
        assert_eq!(received.settings().processes, sent.settings().processes, "exactly");
    }

    #[test]
    fn a_worker_can_tell_what_prevailed_in_the_parent() {
        let line = line!() + 1;
        let _scope = config::scoped("scheduler", "sync").unwrap();
        let sent = config::snapshot().unwrap().overriding("scheduler", "threads").unwrap();
        let expected = format!(
            "scheduler = threads, from the parent process: the argument of the call\n  \
             instead of sync, from the parent process: a scope opened at {}:{line}\n  \
             instead of threads, from the default",
            file!()
        );
        let received = there_and_back(&sent);
        assert_eq!(explained(&received, "scheduler"), expected);
        assert_eq!(explained(&there_and_back(&received), "scheduler"), expected, "also in a worker of a worker");
    }

    #[test]
    fn a_custom_executor_is_not_sent() {
        let sent = config::snapshot().unwrap().with_scheduler(Scheduler::Custom(Arc::new(SyncExecutor)));
        assert!(matches!(sent.settings().scheduler, Scheduler::Custom(_)));
        assert!(matches!(there_and_back(&sent).settings().scheduler, Scheduler::Sync));
    }

    #[test]
    fn a_decoded_snapshot_is_the_whole_configuration_of_a_task() {
        let received = there_and_back(&Snapshot::of(Vec::new()).overriding("errors", "collect").unwrap());
        // No other test in this process uses this setting.
        config::set("processes.max_tasks_per_worker", 1234).unwrap();
        let _scope = config::scoped("order", "fast").unwrap();
        {
            let _entered = received.enter();
            let get = |key| config::get(key).unwrap();
            assert_eq!((get("errors"), get("order")), ("collect".into(), "memory".into()));
            assert_eq!(get("processes.max_tasks_per_worker"), "none", "the worker's own `set` has no effect");
            config::set("processes.max_tasks_per_worker", 4321).unwrap();
            assert_eq!(get("processes.max_tasks_per_worker"), "none", "nor has a `set` by the task");
            let _inner = config::scoped("errors", "stop").unwrap();
            assert_eq!(get("errors"), "stop");
            assert!(
                config::explain("errors")
                    .unwrap()
                    .to_string()
                    .contains("instead of collect, from the parent process: the")
            );
        }
        assert_eq!(config::get("order").unwrap(), "fast");
        config::unset("processes.max_tasks_per_worker").unwrap();
    }

    #[test]
    fn a_setting_that_is_unknown_or_has_a_wrong_value_is_refused() {
        let decode = |setting: &str, text: &str| {
            let value = PortableValue::Text(text.to_owned());
            let entry = PortableEntry { setting: setting.to_owned(), value, origin: "somewhere".to_owned() };
            Snapshot::decode(&postcard::to_stdvec(&vec![entry]).unwrap())
        };
        assert_eq!(value_in(&decode("order", "fast").unwrap(), "order"), "fast");
        assert_eq!(decode("ordr", "fast").unwrap_err(), "unknown setting \"ordr\"; the nearest is \"order\"");
        let wrong = "\"order\" cannot be \"slow\"; give \"memory\" or \"fast\"";
        assert_eq!(decode("order", "slow").unwrap_err(), wrong);
    }
}
