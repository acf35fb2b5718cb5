//! The settings of worker processes, and the types of values that only they accept.

use crate::child::alone;
use crate::get;
use sprang::config::{self, Codec, Initializer, LocalTasks, Stdio};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn set(key: &str, value: impl Into<config::Value>) {
    config::set(key, value).unwrap();
}

fn refusal(key: &str, value: impl Into<config::Value>) -> String {
    let error = config::set(key, value).unwrap_err();
    assert_eq!(error.kind(), sprang::ErrorKind::Config);
    error.to_string()
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_file_may_say_all_of_them_in_their_own_types() {
    alone(
        |room| {
            room.file(
                "work/sprang.toml",
                "scheduler = 'multiprocessing'
                 [processes]
                 max-attempts = 5
                 start_timeout = 10
                 idle_timeout = 'never'
                 memory_limit = '1.5 GiB'
                 max_tasks_per_worker = 1000
                 stdio = 'capture'
                 working_directory = 'sub/folder'
                 initializer = 'none'
                 local-tasks = 'error'
                 codec = 'self-describing'
                 core_dumps = true
                 cancel_grace = '500 ms'
                 shared_memory_limit = 1_000_000
                 threads_per_worker = 2
                 [processes.environment]
                 LANG = 'C'
                 my-variable = 'a=b,c'",
            );
        },
        || {
            let settings = config::settings().unwrap();
            assert!(matches!(settings.scheduler, sprang::Scheduler::Processes));
            let workers = &settings.processes;
            assert_eq!(workers.max_attempts.get(), 5);
            assert_eq!(workers.start_timeout, Duration::from_secs(10));
            assert_eq!(workers.idle_timeout, None);
            assert_eq!(workers.memory_limit, Some(3 << 29));
            assert_eq!(workers.max_tasks_per_worker.unwrap().get(), 1000);
            assert_eq!(workers.stdio, Stdio::Capture);
            assert_eq!(workers.environment, texts(&[("LANG", "C"), ("my-variable", "a=b,c")]));
            assert_eq!(workers.working_directory.as_deref(), Some(Path::new("sub/folder")));
            assert_eq!(workers.initializer, None);
            assert_eq!(workers.local_tasks, LocalTasks::Error);
            assert_eq!(workers.codec, Codec::SelfDescribing);
            assert!(workers.core_dumps);
            assert_eq!(workers.cancel_grace, Duration::from_millis(500));
            assert_eq!(workers.shared_memory_limit, Some(1_000_000));
            assert_eq!(workers.threads_per_worker.get(), 2);
        },
    );
}

#[test]
fn the_environment_may_say_all_of_them_as_text() {
    alone(
        |room| {
            for (name, text) in [
                ("SCHEDULER", "Processes"),
                ("PROCESSES__MAX_ATTEMPTS", "5"),
                ("PROCESSES__START_TIMEOUT", "10"),
                ("PROCESSES__IDLE_TIMEOUT", "Never"),
                ("PROCESSES__MEMORY_LIMIT", "1048576"),
                ("PROCESSES__MAX_TASKS_PER_WORKER", "7"),
                ("PROCESSES__STDIO", "NULL"),
                ("PROCESSES__ENVIRONMENT", r"LANG=C, LIST=a\,b,EMPTY=,WHERE=C:\\x"),
                ("PROCESSES__WORKING_DIRECTORY", "/"),
                ("PROCESSES__LOCAL_TASKS", "Error"),
                ("PROCESSES__CODEC", "Self-Describing"),
                ("PROCESSES__CORE_DUMPS", "TRUE"),
                ("PROCESSES__CANCEL_GRACE", "1m 30s"),
                ("PROCESSES__SHARED_MEMORY_LIMIT", "10 GB"),
                ("PROCESSES__THREADS_PER_WORKER", "2"),
            ] {
                room.env(format!("SPRANG_{name}"), text);
            }
        },
        || {
            assert_eq!(get("scheduler"), "processes");
            let workers = &config::settings().unwrap().processes;
            assert_eq!((workers.max_attempts.get(), workers.threads_per_worker.get()), (5, 2));
            assert_eq!(workers.start_timeout, Duration::from_secs(10));
            assert_eq!(get("processes.idle_timeout"), "never");
            assert_eq!(workers.memory_limit, Some(1 << 20));
            assert_eq!(get("processes.max_tasks_per_worker"), "7");
            assert_eq!(get("processes.stdio"), "null");
            let environment = [("LANG", "C"), ("LIST", "a,b"), ("EMPTY", ""), ("WHERE", r"C:\x")];
            assert_eq!(workers.environment, texts(&environment));
            assert_eq!(get("processes.environment"), r"EMPTY=,LANG=C,LIST=a\,b,WHERE=C:\\x");
            assert_eq!(get("processes.working_directory"), "/");
            assert_eq!(get("processes.local_tasks"), "error");
            assert_eq!(get("processes.codec"), "self-describing");
            assert!(workers.core_dumps);
            assert_eq!(get("processes.cancel_grace"), "1m 30s");
            assert_eq!(workers.shared_memory_limit, Some(10_000_000_000));
        },
    );
}

#[test]
fn durations_are_given_as_text_as_seconds_or_as_they_are() {
    alone(
        |_| {},
        || {
            let cases: [(config::Value, &str); 6] = [
                ("90s".into(), "1m 30s"),
                ("1 min 30 sec".into(), "1m 30s"),
                ("1500ms".into(), "1s 500ms"),
                (3.into(), "3s"),
                (0.into(), "0s"),
                (Duration::new(1, 1).into(), "1s 1ns"),
            ];
            for (value, shown) in cases {
                set("processes.cancel_grace", value);
                assert_eq!(get("processes.cancel_grace"), shown);
            }
            set("processes.idle_timeout", "none");
            assert_eq!(get("processes.idle_timeout"), "never");
            for wrong in ["", "s", "-1s", "auto", "never", "99999999999999999999 years"] {
                let message = refusal("processes.cancel_grace", wrong);
                assert!(
                    message
                        .starts_with(&format!("config::set: \"processes.cancel_grace\" cannot be {wrong:?}; give a "))
                );
            }
            refusal("processes.cancel_grace", -1);
            refusal("processes.start_timeout", Duration::ZERO);
            assert_eq!(
                refusal("order", Duration::from_secs(3)),
                "config::set: \"order\" cannot be the duration 3s; give \"memory\" or \"fast\""
            );
        },
    );
}

#[test]
fn sizes_are_given_as_text_or_in_bytes_and_shown_exactly() {
    alone(
        |_| {},
        || {
            let cases: [(config::Value, u64, &str); 8] = [
                ("512 MiB".into(), 512 << 20, "512 MiB"),
                ("512mib".into(), 512 << 20, "512 MiB"),
                ("1.5GiB".into(), 3 << 29, "1536 MiB"),
                ("1 kB".into(), 1000, "1000 B"),
                ("2048".into(), 2048, "2 KiB"),
                (1_048_577_u64.into(), 1_048_577, "1048577 B"),
                (u64::MAX.into(), u64::MAX, "18446744073709551615 B"),
                ((1_u64 << 63).into(), 1 << 63, "8 EiB"),
            ];
            for (value, bytes, shown) in cases {
                set("processes.memory_limit", value);
                assert_eq!(config::settings().unwrap().processes.memory_limit, Some(bytes));
                assert_eq!(get("processes.memory_limit"), shown);
            }
            for wrong in ["", "MiB", "-1 MiB", "0", "0.1 B", "auto", "1 MiB 2", "nan", "inf B"] {
                refusal("processes.memory_limit", wrong);
            }
            refusal("processes.memory_limit", 0);
            set("processes.shared_memory_limit", "AUTO");
            assert_eq!(config::settings().unwrap().processes.shared_memory_limit, None);
        },
    );
}

#[test]
fn variables_are_given_as_a_map_as_pairs_or_as_text() {
    alone(
        |_| {},
        || {
            let expected = texts(&[("A", "1"), ("B", "2,3")]);
            let pairs = [("A", "1"), ("B", "2,3")];
            let given: [config::Value; 6] = [
                expected.clone().into(),
                BTreeMap::from(pairs).into(),
                HashMap::from(pairs).into(),
                pairs.to_vec().into(),
                pairs.into(),
                r"A=1, B=2\,3".into(),
            ];
            for value in given {
                set("processes.environment", "");
                assert_eq!(get("processes.environment"), "none");
                set("processes.environment", value);
                assert_eq!(config::settings().unwrap().processes.environment, expected);
                assert_eq!(get("processes.environment"), r"A=1,B=2\,3");
            }
            for wrong in ["A", "=1", "A=1,", "A=1,A=2", r"A=\n", "A=1\\", "A =1", "A=\0"] {
                refusal("processes.environment", wrong);
            }
            refusal("processes.environment", [("A=B", "1")]);
            assert_eq!(
                refusal("order", [("A", "1")]),
                "config::set: \"order\" cannot be the texts {\"A\": \"1\"}; give \"memory\" or \"fast\""
            );
        },
    );
}

#[test]
fn a_path_is_given_as_text_or_as_a_path() {
    alone(
        |_| {},
        || {
            let directory = || config::settings().unwrap().processes.working_directory.clone();
            set("processes.working_directory", PathBuf::from("none"));
            assert_eq!(directory(), Some(PathBuf::from("none")));
            set("processes.working_directory", "none");
            assert_eq!(directory(), None);
            set("processes.working_directory", Path::new("/tmp"));
            assert_eq!(get("processes.working_directory"), "/tmp");
            refusal("processes.working_directory", "");
            refusal("processes.working_directory", Path::new(""));
        },
    );
}

#[test]
fn an_initializer_is_given_from_code_and_shown_by_its_name() {
    fn prepare() {}

    alone(
        |_| {},
        || {
            set("processes.initializer", Initializer::new(prepare));
            assert!(get("processes.initializer").ends_with("::prepare"));
            assert_eq!(config::settings().unwrap().processes.initializer, Some(Initializer::new(prepare)));
            set("processes.initializer", "none");
            assert_eq!(config::settings().unwrap().processes.initializer, None);
            let message = refusal("processes.initializer", "prepare");
            assert!(message.contains("which can be given from code only"), "{message}");
            let message = refusal("processes.stdio", Initializer::new(prepare));
            assert!(message.contains("\"processes.stdio\" cannot be the initializer \""), "{message}");
        },
    );
}

#[test]
fn words_are_given_as_text_or_as_the_types_they_stand_for() {
    alone(
        |_| {},
        || {
            set("processes.stdio", Stdio::Capture);
            set("processes.local_tasks", LocalTasks::Error);
            set("processes.codec", Codec::SelfDescribing);
            assert_eq!(get("processes.stdio"), "capture");
            assert_eq!(get("processes.local_tasks"), "error");
            assert_eq!(get("processes.codec"), "self-describing");
        },
    );
}

#[test]
fn a_number_that_its_field_has_no_room_for_is_refused() {
    alone(
        |_| {},
        || {
            refusal("processes.max_attempts", 0);
            set("processes.max_attempts", u32::MAX);
            refusal("processes.max_attempts", u64::from(u32::MAX) + 1);
            refusal("processes.max_tasks_per_worker", 0);
            refusal("processes.threads_per_worker", 0);
        },
    );
}
