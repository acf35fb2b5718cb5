//! The start of worker processes: the code that runs there before a task, and processes that never
//! become workers.
//!
//! `scripts/check-processes` tests programs that are built in other ways.

#![cfg(all(target_os = "linux", not(miri)))]
#![expect(unsafe_code, reason = "has functions before main")]

#[path = "../contract/watchdog.rs"]
mod watchdog;

use sprang::{config, delayed};
use std::collections::HashSet;
use std::ffi::c_int;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use watchdog::watched;

/// Set for a test that runs in a process of its own.
const ALONE: &str = "BOOTSTRAP_TEST_ALONE";
/// Set if workers shall hang before `main`.
const HANG: &str = "BOOTSTRAP_TEST_HANG";

static CONSTRUCTED: AtomicU32 = AtomicU32::new(0);

// One runs before sprang's hook, whose section has no number, and with most linkers one runs after
// it.
#[used]
#[unsafe(link_section = ".init_array.00200")]
static EARLY: extern "C" fn() = early;
#[used]
#[unsafe(link_section = ".init_array.70000")]
static LATE: extern "C" fn() = late;

extern "C" fn early() {
    CONSTRUCTED.fetch_add(1, Relaxed);
}

extern "C" fn late() {
    CONSTRUCTED.fetch_add(100, Relaxed);
    // The name shows that this is a worker; the token is no longer in the environment.
    if is_set(HANG) && fs::read("/proc/self/cmdline").is_ok_and(|line| line.starts_with(b"sprang-worker")) {
        loop {
            thread::park();
        }
    }
}

fn is_set(variable: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "set by a test for its child")]
    std::env::var_os(variable).is_some()
}

/// A command that runs one test of this program in a process of its own.
fn alone(test: &str, program: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ALONE, "1").stdin(Stdio::null());
    command
}

const THIS: &str = "/proc/self/exe";

fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout();
    writeln!(out, "said {line}").unwrap();
    out.flush().unwrap();
}

/// The lines that the process printed with [`say`].
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    text.lines().filter_map(|line| Some(line.split_once("said ")?.1)).collect::<Vec<_>>().join("\n")
}

#[test]
fn tasks_of_a_test_run_in_other_processes() {
    watched("tasks in other processes", || {
        let places: Vec<_> = (0..50_u32).map(|task| delayed(|_: u32| process::id(), (task,))).collect();
        let places: HashSet<u32> = sprang::compute_with("processes", places).unwrap().into_iter().collect();
        assert!(!places.contains(&process::id()));
        assert!(!places.is_empty());
    });
}

#[test]
fn functions_before_main_have_run_in_a_worker() {
    watched("functions before main", || {
        assert_eq!(CONSTRUCTED.load(Relaxed), 101);
        let there = delayed(|| CONSTRUCTED.load(Relaxed), ()).compute_with("processes").unwrap();
        assert_eq!(there, 101);
    });
}

#[test]
fn init_returns_where_it_is_not_needed() {
    sprang::init();
    sprang::init();
}

#[test]
fn a_task_finds_a_clean_place() {
    watched("a clean place", || {
        let found = delayed(
            || {
                let mut input = String::new();
                std::io::stdin().read_to_string(&mut input).unwrap();
                #[expect(clippy::disallowed_methods, reason = "looks for a variable that should not be there")]
                let inherited = std::env::vars_os().any(|(name, _)| name == "SPRANG_WORKER");
                (input, inherited, thread::current().name().is_some())
            },
            (),
        );
        assert_eq!(found.compute_with("processes").unwrap(), (String::new(), false, true));
    });
}

#[test]
fn a_program_that_a_task_starts_is_no_worker() {
    if is_set(ALONE) {
        return say("ordinary");
    }
    watched("a program that a task starts", || {
        let text = delayed(|| said(&mut alone("a_program_that_a_task_starts_is_no_worker", THIS)), ());
        assert_eq!(text.compute_with("processes").unwrap(), "ordinary");
    });
}

#[test]
fn a_token_that_somebody_else_was_given_is_ignored() {
    if is_set(ALONE) {
        return say("ordinary");
    }
    watched("a wrong token", || {
        let token = |parent: u32| format!("{parent}:1:0:0:/nowhere");
        for token in [token(1), token(process::id()), "1".into(), String::new()] {
            let mut command = alone("a_token_that_somebody_else_was_given_is_ignored", THIS);
            assert_eq!(said(command.env("SPRANG_WORKER", &token)), "ordinary", "{token:?}");
        }
    });
}

#[test]
fn workers_start_after_the_executable_was_deleted() {
    if is_set(ALONE) {
        fs::remove_file(std::env::current_exe().unwrap()).unwrap();
        let there = delayed(process::id, ()).compute_with("processes").unwrap();
        assert_ne!(there, process::id());
        return say("computed");
    }
    watched("a deleted executable", || {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        // Another process makes the copy. If this one did, a process that another test forks
        // meanwhile would have the file open for writing, and such a file cannot be run.
        assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&copy).status().unwrap().success());
        let mut command = alone("workers_start_after_the_executable_was_deleted", copy.to_str().unwrap());
        assert_eq!(said(&mut command), "computed");
        assert!(!copy.exists());
    });
}

#[test]
fn a_worker_that_hangs_before_main_is_given_up() {
    if is_set(ALONE) {
        let error = config::with("processes.start_timeout", "300ms", || {
            delayed(|| 1, ()).compute_with("processes").unwrap_err()
        });
        return say(error.unwrap());
    }
    watched("a worker that hangs before main", || {
        let mut command = alone("a_worker_that_hangs_before_main_is_given_up", THIS);
        let text = said(command.env(HANG, "1"));
        assert!(text.contains("constructor") && text.contains("processes.start_timeout"), "{text}");
    });
}

/// Computes a task in another process at each level.
fn descend(levels: u32) -> Vec<String> {
    let mut path = vec![process::id().to_string()];
    if levels > 0 {
        match delayed(descend, (levels - 1,)).compute_with("processes") {
            Ok(deeper) => path.extend(deeper),
            Err(error) => path.push(error.to_string()),
        }
    }
    path
}

#[test]
fn workers_do_not_start_workers() {
    watched("workers of workers", || {
        let path = descend(10);
        let (here, there) = path.split_first().unwrap();
        assert_eq!(there.len(), 10, "{path:?}");
        // A graph that a task computes runs in the task's process.
        assert!(there[0] != *here && there.iter().all(|worker| *worker == there[0]), "{path:?}");
    });
}

#[test]
fn workers_end_with_a_program_that_is_killed() {
    if is_set(ALONE) {
        let busy = delayed(
            || {
                say(process::id());
                loop {
                    thread::sleep(Duration::from_secs(1));
                }
                #[expect(unreachable_code, reason = "the type of the task")]
                0_u32
            },
            (),
        );
        unreachable!("{:?}", busy.compute_with("processes"));
    }
    watched("a program that is killed", || {
        let mut program = alone("workers_end_with_a_program_that_is_killed", THIS);
        let mut program = program.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap);
        let worker = lines.find_map(|line| Some(line.split_once("said ")?.1.to_owned())).expect("the task runs");
        assert_ne!(worker, program.id().to_string());
        program.kill().unwrap();
        program.wait().unwrap();
        // The worker has the other end of the pipe, so the lines end when the worker ends.
        assert_eq!(lines.count(), 0);
    });
}

#[test]
fn signals_of_a_terminal_are_left_to_the_parent() {
    watched("signals", || {
        let survived = delayed(
            || {
                let own = rustix::process::getpid();
                for signal in
                    [rustix::process::Signal::INT, rustix::process::Signal::QUIT, rustix::process::Signal::HUP]
                {
                    rustix::process::kill_process(own, signal).unwrap();
                }
                rustix::process::getpid().as_raw_nonzero().get()
            },
            (),
        );
        let worker: c_int = survived.compute_with("processes").unwrap();
        assert_ne!(worker.cast_unsigned(), process::id());
    });
}

/// Set if the process at the second level computes.
const INNER: &str = "BOOTSTRAP_TEST_INNER";

/// The processor time of a process and, if `of_children`, of the children that it has waited for,
/// in hundredths of a second.
fn processor_time(of_children: bool) -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let first = if of_children { 13 } else { 11 };
    fields[first..first + 2].iter().map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Works until the process has had 0.3 s of processor time.
fn work() -> u64 {
    let mut number = 1_u64;
    while processor_time(false) < 30 {
        (0..100_000_u64).for_each(|n| number = std::hint::black_box(number.wrapping_mul(n | 1)));
    }
    number
}

#[test]
fn a_program_that_waits_for_this_one_sees_the_processor_time_of_its_workers() {
    const TEST: &str = "a_program_that_waits_for_this_one_sees_the_processor_time_of_its_workers";
    if is_set(INNER) {
        // The shared executor is never dropped.
        let worked = [delayed(work, ()), delayed(work, ())];
        config::with("num_workers", 2, || sprang::compute_with("processes", &worked).unwrap()).unwrap();
        return say("worked");
    }
    if is_set(ALONE) {
        assert_eq!(said(alone(TEST, THIS).env(INNER, "1")), "worked");
        return say(processor_time(true));
    }
    watched("processor time", || {
        let time: u64 = said(&mut alone(TEST, THIS)).parse().unwrap();
        // One worker may have run both tasks.
        assert!(time >= 30, "{time}");
    });
}

#[test]
fn a_program_exits_while_a_task_runs() {
    if is_set(ALONE) {
        thread::spawn(|| {
            let hangs = delayed(
                || {
                    say("hangs");
                    loop {
                        thread::park();
                    }
                    #[expect(unreachable_code, reason = "the type of the task")]
                    0_u32
                },
                (),
            );
            hangs.compute_with("processes")
        });
        let idle = delayed(|| 7, ()).compute_with("processes").unwrap();
        let idle_other = sprang::ProcessExecutor::new(std::num::NonZeroUsize::MIN);
        assert_eq!(idle, delayed(|| 7, ()).compute_with(std::sync::Arc::new(idle_other)).unwrap());
        // In the end of the process the task still runs.
        thread::sleep(Duration::from_millis(300));
        process::exit(0);
    }
    watched("exit while a task runs", || {
        assert_eq!(said(&mut alone("a_program_exits_while_a_task_runs", THIS)), "hangs");
    });
}

#[test]
fn a_forked_copy_exits_without_the_threads_of_its_original() {
    if is_set(ALONE) {
        assert_eq!(delayed(|| 7, ()).compute_with("processes").unwrap(), 7);
        // SAFETY: the copy only exits.
        let copy = unsafe { libc::fork() };
        if copy == 0 {
            process::exit(0);
        }
        let mut status = 0;
        // SAFETY: the pointer is to a local value.
        assert_eq!(unsafe { libc::waitpid(copy, &raw mut status, 0) }, copy);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        return say(delayed(|| 8, ()).compute_with("processes").unwrap());
    }
    watched("a forked copy", || {
        assert_eq!(said(&mut alone("a_forked_copy_exits_without_the_threads_of_its_original", THIS)), "8");
    });
}
