//! The command `sprang`, run as a user runs it: what it prints where, and its exit status.

#[path = "../contract/watchdog.rs"]
#[allow(dead_code, reason = "shared with the contract")]
mod watchdog;

use serde_json::Value;
use sprang::{Delayed, Profile, Refs, delayed, profile, try_delayed};
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any of these commands takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder to run the command in, with a home folder beside it; both are empty.
struct Room {
    folder: tempfile::TempDir,
}

/// The result of a command.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["work", "home"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Room { folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(path)
    }

    fn shown(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
        self
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sprang"));
        #[expect(clippy::disallowed_methods, reason = "the child must not inherit what the tests are about")]
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"SPRANG_") {
                command.env_remove(variable);
            }
        }
        command.args(arguments).current_dir(self.path("work")).env("HOME", self.path("home"));
        command.env_remove("XDG_CONFIG_HOME").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        done(&mut self.command(arguments))
    }
}

/// Runs a command to its end, and fails if it does not end.
fn done(command: &mut Command) -> Done {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let Output { status, stdout, stderr } = watchdog::watched("the command", || child.wait_with_output().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

impl Done {
    /// The standard output of a command that succeeded without notes.
    fn output(self) -> String {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }

    /// The error message of a command with this exit status and no output.
    fn complaint(self, code: i32) -> String {
        assert_eq!((self.code, &*self.stdout), (Some(code), ""), "{}", self.stderr);
        self.stderr
    }
}

// ---- the command line ----

#[test]
fn without_a_command_it_prints_help_and_fails() {
    let room = Room::new();
    let complaint = room.run(&[]).complaint(2);
    assert!(["config", "info", "bench", "report", "completions"].iter().all(|command| complaint.contains(command)));
    let help = room.run(&["--help"]).output();
    assert!(help.starts_with("Inspect and configure sprang"), "{help}");
    assert_eq!(room.run(&["--version"]).output(), format!("sprang {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let room = Room::new();
    let complaint = room.run(&["cnfig"]).complaint(2);
    assert!(complaint.contains("'config'"), "{complaint}");
    let complaint = room.run(&["config", "get", "num_worker"]).complaint(2);
    assert!(complaint.contains("'num_workers'"), "{complaint}");
    assert!(room.run(&["info", "--jsn"]).complaint(2).contains("--json"));
}

#[test]
fn completions_name_the_settings() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Room::new().run(&["completions", shell]).output();
        assert!(script.contains("sprang") && script.contains("explain"), "{shell}");
    }
    assert!(Room::new().run(&["completions", "bash"]).output().contains("processes.memory_limit"));
    assert!(Room::new().run(&["completions", "tcsh"]).complaint(2).contains("tcsh"));
}

#[cfg(unix)]
#[test]
fn a_pipe_closed_by_its_reader_is_no_failure() {
    // The other end of the pipe is gone before it starts.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let room = Room::new();
    for arguments in [&["config", "explain"][..], &["--help"], &["completions", "zsh"]] {
        let done = done_with_stdout(room.command(arguments), writer.try_clone().unwrap().into());
        assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{arguments:?}");
    }
    let mut command = room.command(&["config", "get", "frobnicate"]);
    let mut child: Child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "nobody hears what is wrong");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let room = Room::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = done_with_stdout(room.command(&["config", "list"]), full.into());
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.starts_with("error: cannot write to standard output: "), "{}", done.stderr);
}

#[cfg(unix)]
fn done_with_stdout(mut command: Command, stdout: Stdio) -> Done {
    let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    Done { code: child.wait().unwrap().code(), stdout: String::new(), stderr }
}

// ---- config ----

#[test]
fn a_setting_is_found_in_every_layer() {
    let room = Room::new();
    assert_eq!(room.run(&["config", "get", "num-workers"]).output(), "auto\n");
    room.write("work/sprang.toml", "# ours\nnum_workers = 3\n");
    assert_eq!(room.run(&["config", "get", "num_workers"]).output(), "3\n");
    let mut with_variable = room.command(&["config", "explain", "num_workers"]);
    let explanation = done(with_variable.env("SPRANG_NUM_WORKERS", "2")).output();
    let path = room.shown("work/sprang.toml");
    assert_eq!(
        explanation,
        format!(
            "num_workers = 2, from environment variable SPRANG_NUM_WORKERS\n  instead of 3, from {path}:2\n  \
             instead of auto, from the default\n  How many workers run tasks.\n  \
             It may be a whole number from 1, or \"auto\" for one per core.\n"
        )
    );
    let found = done(room.command(&["config", "find", "num_workers"]).env("SPRANG_NUM_WORKERS", "2"));
    assert_eq!((found.code, found.stdout), (Some(0), format!("{path}:2\n")));
    assert_eq!(found.stderr, "note: num_workers is 2, from environment variable SPRANG_NUM_WORKERS\n");
}

#[test]
fn an_unknown_variable_is_an_error_of_the_command_that_shows_settings() {
    let room = Room::new();
    for arguments in [&["config", "list"][..], &["config", "get", "order"], &["config", "explain"]] {
        let shown = done(room.command(arguments).env("SPRANG_ODER", "fast"));
        assert_eq!(shown.code, Some(1), "{arguments:?}");
        assert!(shown.stderr.contains("SPRANG_ODER: unknown setting \"oder\"; the nearest is SPRANG_ORDER"));
    }
}

#[test]
fn a_list_has_every_setting_or_only_changed_ones() {
    let room = Room::new();
    let list = room.run(&["config", "list"]).output();
    assert_eq!(list.lines().count(), sprang::config::names().len());
    assert!(list.lines().all(|line| line.ends_with("the default")), "{list}");
    assert_eq!(room.run(&["config", "list", "--changed"]).output(), "");
    room.write("work/sprang.toml", "order = 'fast'");
    let line = format!("order = fast  {}:1\n", room.shown("work/sprang.toml"));
    assert_eq!(room.run(&["config", "list", "--changed"]).output(), line);
    let json: Value = serde_json::from_str(&room.run(&["config", "list", "--json"]).output()).unwrap();
    let order = json.as_array().unwrap().iter().find(|setting| setting["name"] == "order").unwrap();
    assert_eq!((&order["value"], &order["values"]), (&"fast".into(), &r#""memory" or "fast""#.into()));
}

#[test]
fn find_lists_the_files_that_are_read_and_the_missing_ones() {
    let room = Room::new();
    room.write("work/sprang.toml", "");
    let variable = room.shown("elsewhere.toml");
    let files = done(room.command(&["config", "find"]).env("SPRANG_CONFIG", &variable)).output();
    let expected = format!(
        "{variable} (named by SPRANG_CONFIG, missing)\n{} (of the current folder)\n{} (the user's, missing)\n",
        room.shown("work/sprang.toml"),
        room.shown("home/.config/sprang/sprang.toml")
    );
    assert_eq!(files, expected);
    let complaint = room.run(&["config", "find", "order"]).complaint(1);
    assert_eq!(complaint, "error: no file sets order; it is memory, from the default\n");
}

#[test]
fn set_writes_the_users_file_and_takes_effect() {
    let room = Room::new();
    let path = room.shown("home/.config/sprang/sprang.toml");
    assert_eq!(room.run(&["config", "set", "num-workers", "4"]).output(), format!("{path}\n"));
    assert_eq!(room.run(&["config", "set", "processes.memory_limit", "2 GiB"]).output(), format!("{path}\n"));
    assert_eq!(room.run(&["config", "set", "processes.environment", "A=1,B=2"]).output(), format!("{path}\n"));
    assert_eq!(room.run(&["config", "set", "check_portable", "TRUE"]).output(), format!("{path}\n"));
    assert_eq!(
        room.read("home/.config/sprang/sprang.toml"),
        "num_workers = 4\ncheck_portable = true\n\n[processes]\nmemory_limit = \"2 GiB\"\nenvironment = \"A=1,B=2\"\n"
    );
    assert_eq!(room.run(&["config", "get", "processes.environment"]).output(), "A=1,B=2\n");
    assert_eq!(room.run(&["config", "get", "num_workers"]).output(), "4\n");
}

#[test]
fn comments_and_everything_else_in_a_file_stay() {
    let room = Room::new();
    let before = "# Ours.\n\nnum-workers = 8 # all of them\norder='fast'\n\n# Crash-proof.\n[processes] # see the docs\n\
                  max-attempts = 1\n";
    room.write("work/sprang.toml", before);
    for (key, value) in [("num_workers", "auto"), ("processes.max_attempts", "5"), ("processes.codec", "fast")] {
        room.run(&["config", "set", "--file", "sprang.toml", key, value]).output();
    }
    let after =
        before.replace("8 #", "\"auto\" #").replace("max-attempts = 1\n", "max-attempts = 5\ncodec = \"fast\"\n");
    assert_eq!(room.read("work/sprang.toml"), after);
    room.write("work/dotted.toml", "processes = { codec = 'fast' }\n");
    room.run(&["config", "set", "--file", "dotted.toml", "processes.codec", "self-describing"]);
    assert_eq!(room.read("work/dotted.toml"), "processes = { codec = \"self-describing\" }\n");
}

#[test]
fn set_reports_a_value_that_has_no_effect() {
    let room = Room::new();
    room.write("work/sprang.toml", "order = 'fast'");
    let done = room.run(&["config", "set", "order", "memory"]);
    let here = room.shown("work/sprang.toml");
    assert_eq!((done.code, done.stdout), (Some(0), room.shown("home/.config/sprang/sprang.toml") + "\n"));
    assert_eq!(done.stderr, format!("note: order is still fast, from {here}:1\n"));
    let done = room.run(&["config", "set", "order", "memory", "--file", "other.toml"]);
    assert!(done.stderr.contains("this file is not read here"), "{}", done.stderr);
}

#[test]
fn an_invalid_value_is_refused_and_nothing_is_written() {
    let room = Room::new();
    let complaint = room.run(&["config", "set", "num_workers", "0", "--file", "new.toml"]).complaint(2);
    assert_eq!(
        complaint,
        "error: \"num_workers\" cannot be \"0\"; give a whole number from 1, or \"auto\" for one per core\n"
    );
    assert!(!room.path("work/new.toml").exists());
    let complaint = room.run(&["config", "set", "processes.initializer", "setup"]).complaint(2);
    assert!(complaint.contains("from code only"), "{complaint}");
}

#[test]
fn a_file_that_is_not_toml_stays_as_it_is() {
    let room = Room::new();
    room.write("work/bad.toml", "order = 'fast'\nnum_workers = = 3\n");
    let complaint = room.run(&["config", "set", "order", "memory", "--file", "bad.toml"]).complaint(1);
    assert!(
        complaint.starts_with(&format!("error: {}:2: this is not TOML", room.shown("work/bad.toml"))),
        "{complaint}"
    );
    assert_eq!(room.read("work/bad.toml"), "order = 'fast'\nnum_workers = = 3\n");
    room.write("work/bad.toml", "processes = 3\n");
    let complaint = room.run(&["config", "set", "processes.codec", "fast", "--file", "bad.toml"]).complaint(1);
    assert!(complaint.contains("\"processes\" is not a table"), "{complaint}");
}

#[test]
fn a_wrong_value_in_a_file_is_reported_and_can_be_corrected() {
    let room = Room::new();
    room.write("work/sprang.toml", "order = 'slow'\n");
    let complaint = room.run(&["config", "get", "num_workers"]).complaint(1);
    let expected = format!(
        "error: {}:1: \"order\" cannot be \"slow\"; give \"memory\" or \"fast\"\n",
        room.shown("work/sprang.toml")
    );
    assert_eq!(complaint, expected);
    room.run(&["config", "set", "order", "fast", "--file", "sprang.toml"]).output();
    assert_eq!(room.run(&["config", "get", "order"]).output(), "fast\n");
}

#[test]
fn unset_removes_a_setting_and_keeps_the_rest_of_the_file() {
    let room = Room::new();
    let path = room.shown("home/.config/sprang/sprang.toml");
    room.run(&["config", "set", "order", "fast"]).output();
    room.run(&["config", "set", "processes.codec", "fast"]).output();
    assert_eq!(room.run(&["config", "unset", "order"]).output(), format!("{path}\n"));
    assert_eq!(room.read("home/.config/sprang/sprang.toml"), "\n[processes]\ncodec = \"fast\"\n");
    assert_eq!(room.run(&["config", "unset", "processes.codec"]).output(), format!("{path}\n"));
    assert_eq!(room.read("home/.config/sprang/sprang.toml").trim(), "");
    assert_eq!(room.run(&["config", "get", "order"]).output(), "memory\n");

    let before = "# Ours.\n\nnum-workers = 8 # all of them\norder='fast'\n\n# Crash-proof.\n[processes] # see the docs\n\
                  # One will do.\nmax-attempts = 1\n# The end.\n";
    room.write("work/sprang.toml", before);
    let unset = |key: &str| room.run(&["config", "unset", "--file", "sprang.toml", key]).output();
    unset("num_workers");
    assert_eq!(room.read("work/sprang.toml"), before.replace("num-workers = 8 # all of them\n", ""));
    unset("processes.max_attempts");
    let left = before.replace("num-workers = 8 # all of them\n", "").replace("max-attempts = 1\n", "");
    assert_eq!(room.read("work/sprang.toml"), left);
    unset("order");
    assert_eq!(room.read("work/sprang.toml"), left.replace("order='fast'\n", ""));
    room.write("work/dotted.toml", "processes = { codec = 'fast', max_attempts = 2 }\n");
    room.run(&["config", "unset", "--file", "dotted.toml", "processes.codec"]).output();
    assert_eq!(room.read("work/dotted.toml").replace(' ', ""), "processes={max_attempts=2}\n");
}

#[test]
fn unset_reports_a_missing_setting_and_the_value_that_remains() {
    let room = Room::new();
    let here = room.shown("work/sprang.toml");
    room.write("work/sprang.toml", "order = 'fast'\n");
    let users = room.shown("home/.config/sprang/sprang.toml");
    let complaint = room.run(&["config", "unset", "order"]).complaint(1);
    assert_eq!(complaint, format!("error: order is not set in {users}; it is fast, from {here}:1\n"));
    assert_eq!(room.run(&["config", "set", "order", "fast"]).code, Some(0));
    let done = room.run(&["config", "unset", "order"]);
    assert_eq!((done.code, done.stderr), (Some(0), format!("note: order is fast, from {here}:1\n")));
    room.run(&["config", "unset", "nothing"]).complaint(2);
    room.write("work/bad.toml", "order = = 'fast'\n");
    let complaint = room.run(&["config", "unset", "order", "--file", "bad.toml"]).complaint(1);
    assert!(complaint.contains("this is not TOML"), "{complaint}");
    assert_eq!(room.read("work/bad.toml"), "order = = 'fast'\n");
}

#[cfg(unix)]
#[test]
fn a_file_that_is_a_link_stays_one() {
    let room = Room::new();
    room.write("dotfiles/sprang.toml", "");
    std::os::unix::fs::symlink(room.path("dotfiles/sprang.toml"), room.path("work/sprang.toml")).unwrap();
    room.run(&["config", "set", "order", "fast", "--file", "sprang.toml"]).output();
    assert!(room.path("work/sprang.toml").symlink_metadata().unwrap().is_symlink());
    assert_eq!(room.read("dotfiles/sprang.toml"), "order = \"fast\"\n");
    assert_eq!(fs::read_dir(room.path("dotfiles")).unwrap().count(), 1, "nothing else is left behind");
}

// ---- info ----

#[test]
fn info_describes_the_machine() {
    let room = Room::new();
    let text = room.run(&["info"]).output();
    assert!(text.starts_with(&format!("sprang:          {}\n", env!("CARGO_PKG_VERSION"))), "{text}");
    let json: Value = serde_json::from_str(&room.run(&["info", "--json"]).output()).unwrap();
    assert_eq!(json["num_cores"].as_u64().unwrap(), thread::available_parallelism().unwrap().get() as u64);
    if cfg!(target_os = "linux") {
        assert_eq!((&json["hook_ran"], &json["workers_refused"]), (&true.into(), &Value::Null));
        let limit =
            done(room.command(&["info", "--json"]).env("SPRANG_PROCESSES__SHARED_MEMORY_LIMIT", "3 MiB")).output();
        let limit: Value = serde_json::from_str(&limit).unwrap();
        assert_eq!(limit["shared_memory_limit_bytes"], 3 << 20);
    }
}

// ---- bench ----

#[test]
fn bench_measures_every_scheduler() {
    let room = Room::new();
    let start = Instant::now();
    let done = room.run(&["bench", "--json"]);
    assert!(start.elapsed() < PATIENCE);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(done.stderr.contains("debug build"), cfg!(debug_assertions));
    let json: Value = serde_json::from_str(&done.stdout).unwrap();
    let schedulers = json["schedulers"].as_array().unwrap();
    let names: Vec<_> = schedulers.iter().map(|row| row["scheduler"].as_str().unwrap()).collect();
    let on_linux = cfg!(target_os = "linux");
    assert_eq!(names, if on_linux { &["sync", "threads", "processes"][..] } else { &["sync", "threads"] });
    for row in schedulers {
        for figure in ["independent_ns_per_task", "chain_ns_per_task", "num_workers"] {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    if on_linux {
        assert!(json["transfer"]["round_trip_us"].as_f64().unwrap() > 0.0);
        assert_eq!(json["transfer"]["speeds"].as_array().unwrap().len(), 2);
    }
    let table = room.run(&["bench", "--scheduler", "sync"]).stdout;
    assert!(table.contains("ns/task") && table.contains("\nsync") && !table.contains("\nthreads"), "{table}");
}

// ---- report ----

fn parse(text: &'static str) -> Result<u64, std::num::ParseIntError> {
    text.parse()
}

fn sum(parts: Refs<'_, u64>) -> u64 {
    parts.iter().sum()
}

/// A run in which a task fails, and one in another that does not.
fn recorded() -> Profile {
    let parts: Vec<Delayed<u64>> = (1..=3_u64).map(|i| delayed(|i| i * i, (i,)).name(format!("square {i}"))).collect();
    let first = delayed(|| (), ()).name("<first>");
    let good = delayed(sum, (&parts,)).name("sum").after(&first);
    let bad = try_delayed(parse, ("x",)).name("bad");
    let (result, profile) = profile(|| {
        bad.compute_with("sync").unwrap_err();
        good.compute_with("threads")
    });
    assert_eq!(result.unwrap(), 14);
    profile
}

#[test]
fn the_report_of_a_saved_profile_is_that_of_the_profile() {
    let room = Room::new();
    let profile = recorded();
    profile.save(room.path("work/a run.profile.json")).unwrap();
    assert_eq!(room.run(&["report", "a run.profile.json"]).output(), "a run.html\n");
    assert_eq!(room.read("work/a run.html"), profile.to_html());
    assert_eq!(room.run(&["report", "a run.profile.json", "-o", "-"]).output(), profile.to_html());
    assert_eq!(room.run(&["report", "a run.profile.json", "-o", "tasks.csv"]).output(), "tasks.csv\n");
    assert_eq!(room.read("work/tasks.csv").lines().count(), 1 + profile.num_tasks() as usize);
}

#[test]
fn a_profile_survives_json() {
    let profile = recorded();
    let json = profile.to_json();
    let loaded = Profile::from_json(&json).unwrap();
    assert_eq!(loaded.to_json(), json);
    assert_eq!(loaded.runs()[1].live_values(), profile.runs()[1].live_values());
    assert_eq!(loaded.failures()[0].error.to_string(), r#"task "bad" failed: invalid digit found in string"#);
}

#[test]
fn a_file_without_a_profile_is_refused() {
    let room = Room::new();
    let complaint = room.run(&["report", "missing.profile.json"]).complaint(1);
    assert!(complaint.starts_with("error: missing.profile.json: the profile cannot be read: "), "{complaint}");
    room.write("work/no.json", "{\"traceEvents\": []}");
    let complaint = room.run(&["report", "no.json"]).complaint(1);
    assert!(complaint.starts_with("error: no.json: this is not a profile in the format of"), "{complaint}");
    recorded().save(room.path("work/run.profile.json")).unwrap();
    let complaint = room.run(&["report", "run.profile.json", "-o", "run.pdf"]).complaint(1);
    assert!(complaint.contains("give one of .html, .csv and .json"), "{complaint}");
    for output in ["run.profile.json", "./run.profile.json"] {
        assert!(room.run(&["report", "run.profile.json", "-o", output]).complaint(2).contains("would replace"));
    }
    assert!(room.run(&["report"]).complaint(2).contains("<PROFILE>"));
}

#[test]
fn a_corrupted_profile_is_refused() {
    let json: Value = serde_json::from_str(&recorded().to_json()).unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut json = json.clone();
        change(&mut json);
        Profile::from_json(&json.to_string()).unwrap_err().to_string()
    };
    let problems = [
        (refused(&|json| json["runs"][1]["graph"]["inputs"][0] = serde_json::json!([4])), "does not come before it"),
        (refused(&|json| json["runs"][1]["graph"]["name"][0] = 99.into()), "an index that is out of range"),
        (refused(&|json| json["runs"][1]["graph"]["outputs"][0] = 99.into()), "an index that is out of range"),
        (refused(&|json| json["runs"][1]["graph"]["kind"] = "ppp".into()), "differ in length"),
        (refused(&|json| json["runs"][1]["graph"]["kind"] = "ppppX".into()), "an unknown kind"),
        (refused(&|json| json["runs"][1]["run"] = json["runs"][0]["run"].clone()), "the same number"),
        (refused(&|json| json["tasks"][0]["task"] = 99.into()), "there is no task 99"),
        (refused(&|json| json["failures"][0]["run"] = 0.into()), "there is no task 0 in a run 0"),
        (refused(&|json| json["tasks"][0]["started_s"] = (-1.0).into()), "-1 is not a valid number of seconds"),
        (refused(&|json| json["tasks"][0]["outcome"] = "lost".into()), "unknown variant `lost`"),
        (
            refused(&|json| {
                json["tasks"].as_array_mut().unwrap().iter_mut().for_each(|task| task["duration_s"] = 9e9.into())
            }),
            "the sum of all durations is too large",
        ),
    ];
    for (message, problem) in problems {
        assert!(message.starts_with("this is not a profile") && message.contains(problem), "{message}");
    }
}
