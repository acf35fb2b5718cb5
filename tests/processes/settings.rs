//! The effects of the settings of worker processes.

use crate::child::alone_with_output;
use crate::system::is_there;
use crate::watchdog::watched;
use crate::{eventually, meet, on_processes};
use serde::{Deserialize, Deserializer, Serialize};
use sprang::config::{self, Initializer};
use sprang::{CancelToken, Delayed, ErrorKind, Refs, compute, delayed, delayed_local, lit, try_delayed};
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process};

fn pid() -> Delayed<u32> {
    delayed(process::id, ())
}

/// A path as text.
fn path(folder: &tempfile::TempDir) -> String {
    folder.path().to_str().unwrap().to_owned()
}

#[test]
fn as_many_tasks_run_at_once_as_there_are_workers() {
    watched("tasks that meet", || {
        for num_workers in [1, 2, 5] {
            let folder = tempfile::tempdir().unwrap();
            let meeting = |i: usize, folder: String, expected: usize| {
                meet(&PathBuf::from(folder), &i.to_string(), expected);
                process::id()
            };
            let tasks: Vec<_> = (0..num_workers).map(|i| delayed(meeting, (i, path(&folder), num_workers))).collect();
            let pids: HashSet<u32> = on_processes(num_workers, &[], || compute(&tasks)).unwrap().into_iter().collect();
            assert_eq!(pids.len(), num_workers);
        }
    });
}

#[test]
fn idle_workers_end_and_the_next_run_starts_new_ones() {
    watched("idle workers", || {
        on_processes(1, &[("idle_timeout", "50 ms")], || {
            let first = pid().compute().unwrap();
            eventually("the worker has ended", || !is_there(first));
            let second = pid().compute().unwrap();
            assert_ne!(first, second);
            eventually("the second worker has ended", || !is_there(second));
        });
    });
}

#[test]
fn a_worker_is_replaced_after_its_share_of_tasks() {
    watched("workers that do their share", || {
        on_processes(1, &[("max_tasks_per_worker", "1")], || {
            let pids: HashSet<u32> = (0..4).map(|_| pid().compute().unwrap()).collect();
            assert_eq!(pids.len(), 4);
        });
        on_processes(2, &[("max_tasks_per_worker", "7")], || {
            let pids = compute(&(0..60).map(|_| pid()).collect::<Vec<_>>()).unwrap();
            let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
            pids.iter().for_each(|&pid| *counts.entry(pid).or_default() += 1);
            assert!(counts.values().all(|&count| count <= 7), "{counts:?}");
            assert!(counts.len() >= 9, "{counts:?}");
        });
        on_processes(1, &[("max_tasks_per_worker", "5"), ("threads_per_worker", "3")], || {
            let pids = compute(&(0..40).map(|_| pid()).collect::<Vec<_>>()).unwrap();
            let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
            pids.iter().for_each(|&pid| *counts.entry(pid).or_default() += 1);
            assert!(counts.values().all(|&count| count <= 5), "{counts:?}");
        });
    });
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what becomes of it is what the tests are about")]
fn speak() {
    println!("a word on stdout");
    eprintln!("a word on stderr");
}

#[test]
fn workers_write_to_the_output_of_their_parent() {
    alone_with_output(
        |_| {},
        || on_processes(1, &[], || delayed(speak, ()).compute().unwrap()),
        |output| {
            assert!(String::from_utf8_lossy(&output.stdout).contains("a word on stdout"));
            assert!(String::from_utf8_lossy(&output.stderr).contains("a word on stderr"));
        },
    );
}

#[test]
fn the_output_of_workers_may_be_dropped() {
    alone_with_output(
        |_| {},
        || on_processes(1, &[("stdio", "null")], || delayed(speak, ()).compute().unwrap()),
        |output| {
            assert!(!String::from_utf8_lossy(&output.stdout).contains("a word"));
            assert!(!String::from_utf8_lossy(&output.stderr).contains("a word"));
        },
    );
}

/// A logger that keeps its records.
struct Log(Mutex<Vec<String>>);

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.target(), record.args());
        let is_too_much = line.ends_with("the last straw");
        self.0.lock().unwrap().push(line);
        assert!(!is_too_much);
    }

    fn flush(&self) {}
}

static LOG: Log = Log(Mutex::new(Vec::new()));

#[test]
fn the_output_of_workers_may_be_logged() {
    alone_with_output(
        |_| {},
        || {
            log::set_logger(&LOG).unwrap();
            log::set_max_level(log::LevelFilter::Trace);
            on_processes(1, &[("stdio", "capture")], || delayed(speak, ()).compute().unwrap());
            for word in ["a word on stdout", "a word on stderr"] {
                let line = format!("sprang::worker worker 0: {word}");
                eventually("it is logged", || LOG.0.lock().unwrap().contains(&line));
            }
            // The log records of a task have its name.
            let talks = delayed(|| log::warn!("a word to the log"), ()).name("talks");
            on_processes(1, &[("stdio", "capture")], || talks.compute().unwrap());
            let line = "task \"talks\": WARN processes::settings: a word to the log";
            eventually("it is logged", || LOG.0.lock().unwrap().iter().any(|logged| logged.ends_with(line)));
            // Far more than a pipe holds. Neither side blocks the other.
            let long = delayed(|| writeln!(std::io::stdout(), "{}", "long ".repeat(100_000)).unwrap(), ());
            on_processes(1, &[("stdio", "capture")], || long.compute().unwrap());
            // A logger that panics does not hide the end of a worker.
            let straw = delayed(|| writeln!(std::io::stdout(), "the last straw").unwrap(), ());
            on_processes(1, &[("stdio", "capture")], || straw.compute().unwrap());
            eventually("it is logged", || LOG.0.lock().unwrap().iter().any(|line| line.ends_with("the last straw")));
            let dies = delayed(|| -> u32 { std::process::abort() }, ());
            let error = on_processes(1, &[("stdio", "capture")], || dies.compute()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WorkerDied);
        },
        |output| {
            assert!(!String::from_utf8_lossy(&output.stdout).contains("a word"));
            assert!(!String::from_utf8_lossy(&output.stderr).contains("a word"));
        },
    );
}

#[test]
fn a_worker_has_the_environment_and_the_folder_that_are_set() {
    watched("environment and folder", || {
        let folder = tempfile::tempdir().unwrap();
        let settings = [("environment", "PROCESSES_TEST=a b,OTHER=x=y"), ("working_directory", &path(&folder))];
        let seen = delayed(
            || {
                #[expect(clippy::disallowed_methods, reason = "the environment is what the test is about")]
                let (variables, count) = (
                    ["PROCESSES_TEST", "OTHER"].map(|name| std::env::var(name).unwrap_or_default()),
                    std::env::vars_os().count(),
                );
                (variables, std::env::current_dir().unwrap(), count)
            },
            (),
        );
        let (variables, current, num_variables) = on_processes(1, &settings, || seen.compute()).unwrap();
        assert_eq!(variables, ["a b", "x=y"]);
        assert_eq!(current, folder.path().canonicalize().unwrap());
        assert!(num_variables > 2, "the others are inherited");
        let elsewhere = [("working_directory", "/nowhere/at/all")];
        let error = on_processes(1, &elsewhere, || seen.compute()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoWorker);
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    });
}

static NUM_INITIALIZED: AtomicU32 = AtomicU32::new(0);

fn initialize() {
    NUM_INITIALIZED.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn the_initializer_runs_once_in_each_worker_before_the_first_task() {
    watched("an initializer", || {
        let _scope = config::scoped("processes.initializer", Initializer::new(initialize)).unwrap();
        for settings in [&[][..], &[("threads_per_worker", "3")]] {
            on_processes(2, settings, || {
                let counts: Vec<_> = (0..100).map(|_| delayed(|| NUM_INITIALIZED.load(Ordering::SeqCst), ())).collect();
                assert_eq!(compute(&counts).unwrap(), [1; 100]);
            });
        }
        assert_eq!(NUM_INITIALIZED.load(Ordering::SeqCst), 0, "not here");
    });
}

#[test]
fn an_initializer_that_fails_is_an_error_with_its_words() {
    fn fails() -> Result<(), String> {
        Err("there is no model".to_owned())
    }
    fn panics() {
        panic!("the model is broken");
    }
    watched("initializers that fail", || {
        let initializers =
            [(Initializer::new(fails), "there is no model"), (Initializer::new(panics), "the model is broken")];
        for (initializer, words) in initializers {
            let _scope = config::scoped("processes.initializer", initializer).unwrap();
            let error = on_processes(2, &[("stdio", "null")], || pid().compute()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoWorker, "{error}");
            let text = error.to_string();
            assert!(text.contains("initializer failed") && text.contains(words), "{text}");
        }
    });
}

#[test]
fn local_tasks_run_here_or_are_refused_before_anything_runs() {
    watched("local tasks", || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("was_run").to_str().unwrap().to_owned();
        let early = delayed(|file: String| fs::write(file, "").unwrap(), (file,)).name("early");
        let here = delayed_local(process::id, ()).name("here");
        let both = delayed(|here: &u32| (*here, process::id()), (&here,)).name("both").after(&early);
        let (local, portable) = on_processes(2, &[("local_tasks", "parent")], || both.compute()).unwrap();
        assert_eq!((local, portable), (process::id(), process::id()), "where the value is");
        let other = delayed(process::id, ()).name("other").after(&here);
        assert_ne!(on_processes(2, &[], || other.compute()).unwrap(), process::id());
        fs::remove_file(folder.path().join("was_run")).unwrap();
        let error = on_processes(2, &[("local_tasks", "error")], || both.compute()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotPortable);
        let text = error.to_string();
        assert!(text.contains(r#""here" is local"#) && text.contains(r#"processes.local_tasks = "parent""#), "{text}");

        struct Handle;
        let handle = delayed_local(|| Handle, ()).name("handle");
        let user = delayed(|_: &Handle| process::id(), (&handle,)).name("user").after(&early);
        assert_eq!(on_processes(2, &[], || user.compute()).unwrap(), process::id());
        fs::remove_file(folder.path().join("was_run")).unwrap();
        let value = sprang::local(Handle).name("value");
        let user = delayed(|_: &Handle| process::id(), (&value,)).name("user").after(&early);
        let text = on_processes(2, &[("local_tasks", "error")], || user.compute()).unwrap_err().to_string();
        assert!(text.contains(r#""user""#) && text.contains(r#""value""#), "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was run");
    });
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[test]
fn a_type_that_asks_what_comes_next_needs_the_self_describing_codec() {
    watched("codecs", || {
        let values = vec![Untagged::Number(7), Untagged::Text("seven".to_owned())];
        let made = delayed(Vec::clone, (lit(values.clone()),)).name("made");
        let used = delayed(|values: &Vec<Untagged>| values.clone(), (&made,)).name("used");
        let error = on_processes(1, &[], || used.compute()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotPortable);
        let text = error.to_string();
        assert!(text.contains("\"made\"") && text.contains("Untagged"), "{text}");
        assert!(text.contains(r#"processes.codec = "self-describing""#), "{text}");
        assert_eq!(on_processes(1, &[("codec", "self-describing")], || used.compute()).unwrap(), values);

        // The check needs no worker.
        let checked = |codec: &str| {
            let _scope = config::scoped("check_portable", true).unwrap().and("processes.codec", codec).unwrap();
            let value = delayed(|| Untagged::Number(1), ()).name("value");
            (value.compute_with("sync"), on_processes(1, &[("codec", codec)], || value.compute()))
        };
        for error in <[_; 2]>::from(checked("fast")).map(Result::unwrap_err) {
            assert_eq!((error.kind(), error.task()), (ErrorKind::NotPortable, Some("value")), "{error}");
            assert!(error.to_string().contains("self-describing"), "{error}");
        }
        for value in <[_; 2]>::from(checked("self-describing")) {
            assert_eq!(value.unwrap(), Untagged::Number(1));
        }
    });
}

#[test]
fn core_dumps_are_left_out_unless_they_are_asked_for() {
    fn limit() -> String {
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        line.split_whitespace().nth(4).unwrap().to_owned()
    }
    watched("core dumps", || {
        // No descriptors are left for a worker or a pipe, unless the system allows none at all.
        let none = on_processes(1, &[], || delayed(limit, ()).compute()).unwrap();
        assert!(["0", "1"].contains(&none.as_str()), "{none}");
        assert_eq!(on_processes(1, &[("core_dumps", "true")], || delayed(limit, ()).compute()).unwrap(), limit());
    });
}

#[test]
fn a_task_that_does_not_listen_is_killed_after_the_grace_and_one_that_does_is_not() {
    watched("the grace of a cancelled run", || {
        let folder = tempfile::tempdir().unwrap();
        let fails = |folder: String| -> Result<(), String> {
            eventually("the other is there", || fs::exists(format!("{folder}/pid")).unwrap());
            Err("enough".to_owned())
        };
        let deaf = |folder: String| {
            fs::write(format!("{folder}/new"), process::id().to_string()).unwrap();
            fs::rename(format!("{folder}/new"), format!("{folder}/pid")).unwrap();
            loop {
                std::thread::park();
            }
        };
        let graph = (delayed(deaf, (path(&folder),)), try_delayed(fails, (path(&folder),)).name("fails"));
        let run = || compute((&graph.0, &graph.1)).map(|((), ())| ());
        let error = on_processes(2, &[("cancel_grace", "20 ms")], run).unwrap_err();
        assert_eq!((error.kind(), error.task()), (ErrorKind::Failed, Some("fails")));
        let pid = fs::read_to_string(folder.path().join("pid")).unwrap().parse().unwrap();
        eventually("it was killed", || !is_there(pid));

        fs::remove_file(folder.path().join("pid")).unwrap();
        let listens = |folder: String| {
            fs::write(format!("{folder}/pid"), process::id().to_string()).unwrap();
            eventually("it is told", || CancelToken::current().is_cancelled());
            fs::write(format!("{folder}/was_told"), "").unwrap();
        };
        let graph = (delayed(listens, (path(&folder),)), try_delayed(fails, (path(&folder),)).name("fails"));
        let run = || compute((&graph.0, &graph.1)).map(|((), ())| ());
        on_processes(2, &[("cancel_grace", "1 h")], run).unwrap_err();
        assert!(fs::exists(folder.path().join("was_told")).unwrap(), "it was waited for");
        let pid = fs::read_to_string(folder.path().join("pid")).unwrap().parse().unwrap();
        assert!(is_there(pid));
    });
}

/// Counts the decoded values, in each process.
#[derive(Clone, Serialize)]
struct Counted {
    text: String,
}

static NUM_DECODED: AtomicU32 = AtomicU32::new(0);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Counted")]
        struct Plain {
            text: String,
        }
        NUM_DECODED.fetch_add(1, Ordering::SeqCst);
        Plain::deserialize(deserializer).map(|Plain { text }| Counted { text })
    }
}

#[test]
fn the_threads_of_a_worker_run_tasks_at_once_and_decode_a_large_value_once() {
    watched("threads of one worker", || {
        on_processes(1, &[("threads_per_worker", "4")], || {
            let folder = tempfile::tempdir().unwrap();
            let source = delayed(|| Counted { text: "x".repeat(1 << 20) }, ());
            // Made and used in different batches, so it is sent.
            let meeting = |i: usize, folder: String, value: &Counted| {
                meet(&PathBuf::from(folder), &i.to_string(), 4);
                (process::id(), value.text.len())
            };
            let tasks: Vec<_> = (0..4_usize).map(|i| delayed(meeting, (i, path(&folder), &source))).collect();
            let seen = compute(&tasks).unwrap();
            assert_eq!(seen, [seen[0]; 4]);
            assert_eq!(seen[0].1, 1 << 20);
            let given = sprang::persist((&source,)).unwrap().0;
            let before = delayed(|| NUM_DECODED.load(Ordering::SeqCst), ()).compute().unwrap();
            let lengths: Vec<_> = (0..40).map(|_| delayed(|value: &Counted| value.text.len(), (&given,))).collect();
            let total = delayed(|all: Refs<'_, usize>| all.iter().sum::<usize>(), (&lengths,));
            assert_eq!(total.compute().unwrap(), 40 << 20);
            let after = delayed(|| NUM_DECODED.load(Ordering::SeqCst), ()).compute().unwrap();
            assert!(after <= before + 1, "{before} before, {after} after");
        });
    });
}

#[test]
fn a_worker_may_have_more_threads_than_one_message_could_tell_it_of() {
    watched("a worker of forty threads", || {
        const NUM_THREADS: usize = 40;
        let folder = tempfile::tempdir().unwrap();
        let meeting = |i: usize, folder: String| {
            meet(&PathBuf::from(folder), &i.to_string(), NUM_THREADS);
            process::id()
        };
        let tasks: Vec<_> = (0..NUM_THREADS).map(|i| delayed(meeting, (i, path(&folder)))).collect();
        let pids = on_processes(1, &[("threads_per_worker", &NUM_THREADS.to_string())], || compute(&tasks)).unwrap();
        assert!(pids.iter().all(|pid| *pid == pids[0]));
    });
}

/// The first line of each process goes to its standard error only, so it is there even if no test
/// reads the error.
#[test]
fn a_panic_names_its_worker_and_its_task() {
    alone_with_output(
        |_| {},
        || {
            let named = delayed(|| -> u32 { panic!("the first") }, ()).name("a name of its own");
            fn nameless() -> u32 {
                panic!("the second")
            }
            on_processes(1, &[], || {
                assert_eq!(named.compute().unwrap_err().kind(), ErrorKind::Panicked);
                assert_eq!(delayed(nameless, ()).compute().unwrap_err().kind(), ErrorKind::Panicked);
            });
        },
        |output| {
            let text = String::from_utf8_lossy(&output.stderr);
            let mut lines = text.lines();
            for (task, words) in [("\"a name of its own\"", "the first"), ("\"nameless\"", "the second")] {
                let is_it = |line: &&str| {
                    line.starts_with("sprang worker 0 (process ") && line.ends_with(&format!("), task {task}:"))
                };
                assert!(lines.any(|line| is_it(&line)), "{text}");
                assert!(lines.any(|line| line == words), "{text}");
            }
        },
    );
}
