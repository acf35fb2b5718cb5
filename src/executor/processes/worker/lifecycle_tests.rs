//! Tests of the life of a worker, from its start to its end, without an executor.
//!
//! The workers are this test program itself, started again. What they do then is given by a word,
//! in the place of the server's name.

#![expect(unsafe_code, reason = "asks the C library what it does with signals, and crashes")]

use super::super::boot::{depth, hook_ran, init, is_worker, refusal};
use super::super::hook::{HOOK_RAN, new_token};
use super::super::protocol::Hello;
use super::super::rights::Rights;
use super::super::settings::{ProcessSettings, Stdio};
use super::super::spawn::{Exit, ExitCause, SpawnSpec, Spawned, spawn};
use super::super::token::{EXIT_NO_HOOK, EXIT_ORPHANED, Token, exe_id};
use super::WorkerStart;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio as StdStdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a worker does: what it prints is what the test sees, and what it returns its exit status.
pub(super) fn work(start: WorkerStart) -> i32 {
    let body = start.server.strip_prefix("test:").unwrap();
    let (word, argument) = body.split_once(' ').unwrap_or((body, ""));
    match word {
        "exit" => argument.parse().unwrap(),
        "panic" => panic!("in a worker"),
        "abort" => std::process::abort(),
        "raise" => {
            // SAFETY: no handler is set for the signals that are raised here.
            unsafe { libc::raise(argument.parse().unwrap()) };
            0
        }
        "segfault" => {
            // SAFETY: none; it is meant to crash.
            unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
            0
        }
        "overflow" => deeper(1) as i32,
        "hang" => loop {
            say("hangs");
            thread::sleep(PATIENCE);
        },
        "control" => {
            let (sender, control) = mpsc::channel();
            if argument == "late" {
                // Until the message has been read, which nothing tells.
                thread::sleep(Duration::from_millis(20));
            }
            start.control.on_control(move |kind, number| sender.send((kind, number)).unwrap());
            say("listens");
            let (kind, number) = control.recv().unwrap();
            assert_eq!(number, u64::MAX - 1);
            i32::from(kind)
        }
        "describe" => {
            describe();
            0
        }
        "memory" => {
            let mut bytes = vec![1_u8; argument.parse().unwrap()];
            bytes.iter_mut().step_by(4096).for_each(|byte| *byte += 1);
            i32::from(bytes[4096]) - 2
        }
        "subprocess" => {
            // What a task starts is an ordinary program, even if it is this one and gets all that
            // this one has.
            let output = tests_alone("an_ordinary_program").output().unwrap();
            std::io::stdout().write_all(&output.stdout).unwrap();
            output.status.code().unwrap()
        }
        "nested" => {
            let settings = ProcessSettings::default();
            let spec = SpawnSpec { server: "test:nested", settings: &settings, rights: &Rights::of_this_thread() };
            match spawn(&spec) {
                Ok(mut nested) => nested.process.wait().code().unwrap() + 10,
                Err(refusal) => {
                    say(&refusal);
                    depth() as i32
                }
            }
        }
        "child_of_child" => {
            // The grandchild is asked to hang, and this process to die.
            let settings = ProcessSettings::default();
            let nested =
                spawn(&SpawnSpec { server: "test:hang", settings: &settings, rights: &Rights::of_this_thread() })
                    .unwrap();
            say(&nested.process.pid().to_string());
            std::mem::forget(nested);
            std::process::abort()
        }
        word => panic!("no such work: {word:?}"),
    }
}

/// Changes what a worker says of itself, if its environment asks for that.
pub(super) fn disguise(hello: Hello) -> Hello {
    #[expect(clippy::disallowed_methods, reason = "set by a test")]
    let disguise = std::env::var("SPRANG_TEST_DISGUISE").unwrap_or_default();
    match disguise.as_str() {
        "version" => Hello { version: "0.0.1".into(), ..hello },
        "executable" => Hello { executable: (hello.executable.0, hello.executable.1 + 1), ..hello },
        _ => hello,
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

#[expect(unconditional_recursion, reason = "the point of it")]
fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    deeper(depth + 1) + frame[1]
}

static CONSTRUCTED: AtomicU32 = AtomicU32::new(0);

/// A function before `main` in a part that most linkers put after those without a number, such as
/// the hook.
#[used]
#[unsafe(link_section = ".init_array.70000")]
static LATE: extern "C" fn() = late;
#[used]
#[unsafe(link_section = ".init_array.00200")]
static EARLY: extern "C" fn() = early;

extern "C" fn late() {
    CONSTRUCTED.fetch_add(1, Relaxed);
}

extern "C" fn early() {
    CONSTRUCTED.fetch_add(100, Relaxed);
}

fn describe() {
    say(&format!("worker {} at depth {}", is_worker(), depth()));
    say(&format!("constructed {}", CONSTRUCTED.load(Relaxed)));
    say(&format!("thread {:?}", thread::current().name().unwrap()));
    say(&format!("process {}", fs::read_to_string("/proc/self/comm").unwrap().trim()));
    say(&format!("arguments {}", std::env::args().count()));
    #[expect(clippy::disallowed_methods, reason = "looks for what should not be there")]
    let token = std::env::vars_os().any(|(name, _)| name == "SPRANG_WORKER");
    say(&format!("token {token}"));
    #[expect(clippy::disallowed_methods, reason = "set by the test")]
    let variable = std::env::var("SPRANG_TEST_VARIABLE");
    say(&format!("variable {variable:?}"));
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unwrap();
    say(&format!("input {}", input.len()));
    say(&format!("folder {}", std::env::current_dir().unwrap().display()));
    say(&format!("core {:?}", rustix::process::getrlimit(rustix::process::Resource::Core).current));
    say(&format!("oom {}", fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim()));
    say(&format!("threads {}", fs::read_dir("/proc/self/task").unwrap().count()));
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
        // SAFETY: a signal that this process has a handler for.
        unsafe { libc::kill(libc::getpid(), signal) };
    }
    say("signals");
    say(&format!("exe {:?}", exe_id().unwrap()));
}

/// This program as a test of one function, which does something only when started so.
fn tests_alone(test: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args([
        "--exact",
        &format!("executor::processes::worker::lifecycle_tests::{test}"),
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env("SPRANG_TEST_ALONE", "1");
    command
}

fn is_alone() -> bool {
    #[expect(clippy::disallowed_methods, reason = "tells the child from its parent")]
    std::env::var_os("SPRANG_TEST_ALONE").is_some()
}

/// Only ever does something when [`tests_alone`] runs it.
#[test]
fn an_ordinary_program() {
    if is_alone() {
        say(&format!("ordinary: hook {}, worker {}, {:?}", hook_ran(), is_worker(), refusal()));
    }
}

fn start(body: &str, settings: &ProcessSettings) -> Spawned {
    spawn(&SpawnSpec { server: &format!("test:{body}"), settings, rights: &Rights::of_this_thread() }).unwrap()
}

fn captured() -> ProcessSettings {
    ProcessSettings { stdio: Stdio::Capture, ..ProcessSettings::default() }
}

fn end_of(spawned: &mut Spawned) -> Exit {
    spawned.process.wait_timeout(PATIENCE).expect("the worker ends")
}

fn ends(body: &str) -> Exit {
    end_of(&mut start(body, &captured()))
}

fn prints(spawned: &mut Spawned) -> String {
    let mut text = String::new();
    fs::File::from(spawned.output.take().unwrap()).read_to_string(&mut text).unwrap();
    text
}

fn first_line(output: &OwnedFd) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while rustix::io::read(output, &mut byte) == Ok(1) && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn the_hook_runs_in_an_ordinary_process_and_leaves_it_as_it_is() {
    assert!(hook_ran());
    assert!(!is_worker());
    assert_eq!((depth(), refusal()), (0, None));
    assert_eq!(CONSTRUCTED.load(Relaxed), 101);
}

#[test]
fn a_worker_is_set_up() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let mut settings = captured();
    settings.environment.insert("SPRANG_TEST_VARIABLE".into(), "set".into());
    settings.working_directory = Some(folder.clone());
    let mut worker = start("describe", &settings);
    let text = prints(&mut worker);
    assert_eq!(end_of(&mut worker).cause, ExitCause::Exited { code: 0 }, "{text}");
    let score: i32 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    let maximum = rustix::process::getrlimit(rustix::process::Resource::Core).maximum;
    let expected = [
        "worker true at depth 1".into(),
        "constructed 101".into(),
        "thread \"sprang-worker\"".into(),
        "process sprang-worker".into(),
        format!("arguments {}", usize::from(cfg!(target_env = "gnu"))),
        "token false".into(),
        "variable Ok(\"set\")".into(),
        "input 0".into(),
        format!("folder {}", folder.display()),
        format!("core {:?}", Some(maximum.map_or(1, |maximum| maximum.min(1)))),
        format!("oom {}", (score + 500).min(1000)),
        "threads 2".into(),
        "signals".into(),
        format!("exe {:?}", exe_id().unwrap()),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn core_dumps_can_be_left_on() {
    let mut worker = start("describe", &ProcessSettings { core_dumps: true, ..captured() });
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core).current;
    let text = prints(&mut worker);
    assert!(text.contains(&format!("core {limit:?}\n")), "{text}");
}

#[test]
fn an_end_is_told_as_it_was() {
    assert_eq!(ends("exit 0").to_string(), "exited with status 0");
    assert_eq!(ends("exit 3").to_string(), "exited with status 3");
    assert_eq!(ends("exit 3").code(), Some(3));
    assert_eq!(ends("raise 9").to_string(), "killed by signal 9 (SIGKILL)");
    assert_eq!(ends("raise 9").signal(), Some(9));
    assert_eq!(ends("raise 15").to_string(), "killed by signal 15 (SIGTERM)");
    assert_eq!(ends("raise 35").to_string(), "killed by signal 35");
    assert_eq!(ends("segfault").to_string(), "killed by signal 11 (SIGSEGV): segmentation fault or stack overflow");
    let aborted = ends("abort");
    assert!(aborted.to_string().starts_with("killed by signal 6 (SIGABRT): abort"), "{aborted}");
    assert!(!aborted.core_dumped());
    // What names a stack overflow in other programs is set up after this, in a `main` that a worker
    // has not.
    assert_eq!(ends("overflow").signal(), Some(libc::SIGSEGV));
    assert_eq!(ends("panic").to_string(), "exited with status 101");
}

#[test]
fn waiting_again_says_the_same() {
    let mut worker = start("exit 7", &captured());
    let first = end_of(&mut worker);
    assert_eq!(worker.process.wait(), first);
    worker.process.kill();
    worker.process.killer().kill();
}

#[test]
fn a_worker_that_hangs_is_killed_from_another_thread() {
    let mut worker = start("hang", &captured());
    assert_eq!(first_line(worker.output.as_ref().unwrap()), "hangs");
    assert_eq!(worker.process.wait_timeout(Duration::from_millis(1)), None);
    let killer = worker.process.killer();
    thread::spawn(move || killer.kill());
    assert_eq!(end_of(&mut worker).signal(), Some(libc::SIGKILL));
}

#[test]
fn a_dropped_worker_is_gone() {
    let worker = start("hang", &captured());
    assert_eq!(first_line(worker.output.as_ref().unwrap()), "hangs");
    let folder = format!("/proc/{}", worker.process.pid());
    assert!(fs::metadata(&folder).is_ok());
    drop(worker);
    assert!(fs::metadata(&folder).is_err());
}

#[test]
fn a_worker_whose_lifeline_is_cut_ends_within_a_second_or_so() {
    let Spawned { mut process, lifeline, output } = start("hang", &captured());
    assert_eq!(first_line(output.as_ref().unwrap()), "hangs");
    drop(lifeline);
    assert_eq!(process.wait_timeout(PATIENCE).expect("it ends").code(), Some(EXIT_ORPHANED));
}

#[test]
fn a_worker_goes_with_its_parent() {
    let mut worker = start("child_of_child", &captured());
    let output = worker.output.take().unwrap();
    let grandchild = first_line(&output);
    assert_eq!(end_of(&mut worker).signal(), Some(libc::SIGABRT));
    // It holds the other end of the pipe until it ends.
    let mut rest = String::new();
    let begin = Instant::now();
    fs::File::from(output).read_to_string(&mut rest).unwrap();
    assert!(begin.elapsed() < PATIENCE, "{grandchild}");
}

#[test]
fn messages_arrive_also_when_they_are_early() {
    for late in ["", " late"] {
        let mut worker = start(&format!("control{late}"), &captured());
        worker.lifeline.send(42, u64::MAX - 1).unwrap();
        assert_eq!(end_of(&mut worker).code(), Some(42));
    }
}

#[test]
fn sending_to_a_worker_that_does_not_read_or_is_gone_is_an_error_and_no_wait() {
    let mut worker = start("hang", &captured());
    assert_eq!(first_line(worker.output.as_ref().unwrap()), "hangs");
    rustix::process::pidfd_send_signal(worker.process.pidfd(), rustix::process::Signal::STOP).unwrap();
    let error = (0..1 << 20).find_map(|number| worker.lifeline.send(1, number).err()).unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    worker.process.kill();
    end_of(&mut worker);
    let error = worker.lifeline.send(1, 1).unwrap_err();
    assert!(matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset), "{error}");
}

#[test]
fn the_output_of_a_worker_goes_where_the_setting_says() {
    assert!(start("exit 0", &ProcessSettings { stdio: Stdio::Null, ..ProcessSettings::default() }).output.is_none());
    let text = prints(&mut start("panic", &captured()));
    assert!(text.contains("in a worker"), "{text}");
}

#[test]
fn the_memory_of_a_worker_is_told_when_it_was_more_than_this_process_had() {
    let bytes = 256 << 20;
    let large = ends(&format!("memory {bytes}"));
    assert_eq!(large.code(), Some(0));
    assert!(large.max_rss_bytes.is_some_and(|max| (bytes..4 * bytes).contains(&max)), "{large:?}");
    let held = vec![1_u8; bytes as usize];
    assert_eq!(ends("exit 0").max_rss_bytes, None);
    drop(held);
}

#[test]
fn a_program_that_a_worker_starts_is_no_worker() {
    let mut worker = start("subprocess", &captured());
    let text = prints(&mut worker);
    assert_eq!(end_of(&mut worker).code(), Some(0), "{text}");
    assert!(text.contains("ordinary: hook true, worker false, None"), "{text}");
}

#[test]
fn workers_are_nested_so_deep_and_no_deeper() {
    let mut worker = start("nested", &captured());
    let text = prints(&mut worker);
    // The innermost is refused at depth 2; each level above adds 10.
    assert_eq!(end_of(&mut worker).code(), Some(12), "{text}");
    assert!(text.starts_with("worker processes are nested 2 deep already"), "{text}");
}

/// The token is this process's own in all but one thing, and what is started with it is an ordinary
/// program then.
#[test]
fn a_token_that_is_not_meant_for_a_process_is_ignored() {
    let ordinary = |token: &Token, stdin: StdStdio| {
        let (name, value) = token.variable();
        let output = tests_alone("an_ordinary_program").env(name, value).stdin(stdin).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.contains("ordinary: hook true, worker false, None")
    };
    let socket = || {
        let (lifeline, theirs) = super::super::lifeline::Lifeline::pair().unwrap();
        std::mem::forget(lifeline);
        StdStdio::from(theirs)
    };
    let token = || new_token("test:exit 0", 1, &captured(), &Rights::of_this_thread());
    assert!(!ordinary(&token(), socket()), "all is right, and it is a worker");
    assert!(ordinary(&Token { parent: 1, ..token() }, socket()));
    assert!(ordinary(&Token { parent: token().parent + 1, ..token() }, socket()));
    assert!(ordinary(&token(), StdStdio::null()));
    assert!(ordinary(&token(), StdStdio::piped()));
    let network = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(ordinary(&Token { parent: 1, ..token() }, OwnedFd::from(network).into()));
    assert!(ordinary(&Token { depth: 0, ..token() }, socket()));
}

#[test]
fn a_worker_whose_parent_went_before_it_started_does_not_run_the_program() {
    // A shell that starts this program and goes: then this process is not the parent, but made the
    // socket.
    let (_lifeline, theirs) = super::super::lifeline::Lifeline::pair().unwrap();
    let (name, value) = new_token("test:exit 0", 1, &captured(), &Rights::of_this_thread()).variable();
    let output = Command::new("/bin/sh")
        .args([
            "-c",
            "\"$0\" --exact executor::processes::worker::lifecycle_tests::an_ordinary_program --nocapture; echo status $?",
        ])
        .arg(std::env::current_exe().unwrap())
        .env(name, value)
        .env("SPRANG_TEST_ALONE", "1")
        .arg0("sh")
        .stdin(theirs)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("status {EXIT_ORPHANED}\n"));
}

/// Where the hook did not run, as far as sprang can tell.
#[test]
fn without_the_hook_it_takes_init() {
    if is_alone() {
        HOOK_RAN.store(false, Relaxed);
        #[expect(clippy::disallowed_methods, reason = "set by the test")]
        let variable = |name| std::env::var(name).unwrap_or_default();
        if let Some((_, value)) = variable("SPRANG_TEST_TOKEN").split_once('=') {
            // SAFETY: no other thread of this process reads the environment now.
            unsafe { std::env::set_var("SPRANG_WORKER", value) };
        }
        if variable("SPRANG_TEST_INIT") == "1" {
            init();
        }
        return say(&format!("told: {:?}", refusal()));
    }
    let run = |calls_init: bool, token: &str| {
        let (lifeline, theirs) = super::super::lifeline::Lifeline::pair().unwrap();
        let mut command = tests_alone("without_the_hook_it_takes_init");
        command.env("SPRANG_TEST_TOKEN", token).env("SPRANG_TEST_INIT", u8::from(calls_init).to_string());
        let output = command.stdin(theirs).output().unwrap();
        drop(lifeline);
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), texts.concat())
    };
    let (name, value) = new_token("test:exit 5", 1, &captured(), &Rights::of_this_thread()).variable();
    let token = format!("{name}={value}");

    let (code, text) = run(false, "");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("told: Some(\"worker processes need sprang's start-up hook, which did not run"), "{text}");
    let (code, text) = run(true, "");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("told: None"), "{text}");
    let (code, text) = run(true, &token);
    assert_eq!(code, Some(5), "{text}");
    let (code, text) = run(false, &token);
    assert_eq!(code, Some(EXIT_NO_HOOK), "{text}");
    assert!(text.contains("never reached sprang's start-up hook; call sprang::init() first in main"), "{text}");
}

// Runs have loom's counters under loom, which work in its models only.
#[cfg(not(loom))]
#[test]
fn a_worker_of_another_version_or_executable_is_refused() {
    let own = super::super::token::VERSION;
    for (disguise, problem) in [
        ("version", format!("it has version 0.0.1 of sprang, and this process {own}")),
        ("executable", "it runs another executable than this process".to_owned()),
    ] {
        let mut settings = captured();
        settings.environment.insert("SPRANG_TEST_DISGUISE".into(), disguise.into());
        let executor = crate::ProcessExecutor::with_settings(std::num::NonZeroUsize::MIN, settings);
        let error = crate::delayed(|| 1, ()).compute_with(executor).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::NoWorker);
        assert_eq!(error.message(), format!("a worker process did not start: {problem}"));
    }
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let settings = ProcessSettings { working_directory: Some("/not/there".into()), ..captured() };
    let error = spawn(&SpawnSpec { server: "test:exit 0", settings: &settings, rights: &Rights::of_this_thread() })
        .unwrap_err();
    assert!(error.starts_with("cannot start a worker process: working_directory \"/not/there\": "), "{error}");
}

#[test]
fn workers_leave_no_descriptors_behind() {
    let count = || fs::read_dir("/proc/self/fd").unwrap().count();
    // Others of these tests run beside this one, so the count varies; a leak of one for each would
    // show.
    let before = count();
    for _ in 0..100 {
        ends("exit 0");
    }
    assert!(count() < before + 60, "{before} before, {} after", count());
}
