//! A room is a folder in which tasks, workers and tests leave files for each other. Also here:
//! functions that ask the system about processes.

use crate::watchdog::watched;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use sprang::ProcessExecutor;
use sprang::config::{ProcessSettings, Stdio};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long tests wait for an event that should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// When a test that has not ended prints the state of its executor, before the watchdog ends the
/// test.
const BEFORE_THE_END: Duration = Duration::from_secs(55);
/// The pause between two checks of a file or a process.
const LOOK: Duration = Duration::from_micros(300);

/// Runs a test on an executor of its own, which is dropped at its end. If the test hangs, the state
/// of the executor is printed.
pub(crate) fn faults<R: Send>(
    what: &str,
    num_workers: usize,
    settings: ProcessSettings,
    body: impl FnOnce(&Arc<ProcessExecutor>) -> R + Send,
) -> R {
    let executor = Arc::new(ProcessExecutor::with_settings(NonZeroUsize::new(num_workers).unwrap(), settings));
    let (done, is_done) = mpsc::channel::<()>();
    let watched_executor = Arc::downgrade(&executor);
    let name = what.to_owned();
    thread::spawn(move || {
        if is_done.recv_timeout(BEFORE_THE_END) == Err(mpsc::RecvTimeoutError::Timeout) {
            let text = watched_executor.upgrade().map(|executor| format!("{executor:#?}"));
            say(&format!("{name}: {}", text.as_deref().unwrap_or("the executor does not end")));
        }
    });
    let result = watched(what, move || {
        let result = body(&executor);
        // Each run keeps its executor, and slots drop runs a moment after these have ended.
        wait_until("runs to be gone", || Arc::strong_count(&executor) == 1);
        drop(executor);
        result
    });
    drop(done);
    result
}

/// Not by `println!`, whose output the test harness keeps to itself.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Settings with this many attempts, and without the output of workers.
pub(crate) fn attempts(number: u32) -> ProcessSettings {
    let mut settings = ProcessSettings::default();
    settings.max_attempts = NonZeroU32::new(number).unwrap();
    settings.stdio = Stdio::Null;
    settings
}

/// A folder for one test.
pub(crate) struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    pub(crate) fn new() -> Self {
        Room { folder: tempfile::tempdir().unwrap() }
    }

    /// For tasks.
    pub(crate) fn name(&self) -> String {
        self.folder.path().to_str().unwrap().to_owned()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Makes a file, and so wakes the tasks that [wait](wait_for) for it.
    pub(crate) fn put(&self, file: &str) {
        fs::write(self.path(file), "").unwrap();
    }

    /// Waits for a file, and reads the number in it.
    pub(crate) fn number(&self, file: &str) -> u64 {
        wait_for(&self.path(file));
        fs::read_to_string(self.path(file)).unwrap().parse().unwrap()
    }

    /// The process that made the attempt.
    pub(crate) fn pid(&self, file: &str) -> u32 {
        self.number(file) as u32
    }

    /// Environment variables that name this folder to an initializer.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        [("FAULTS_ROOM".to_owned(), self.name())].into()
    }
}

/// The room that a worker's environment names.
pub(crate) fn room_of_worker() -> String {
    #[expect(clippy::disallowed_methods, reason = "set by the test")]
    std::env::var("FAULTS_ROOM").unwrap()
}

/// Waits for a file.
pub(crate) fn wait_for(path: &Path) {
    wait_until(&format!("{} to be there", path.display()), || path.exists());
}

pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited for {what}");
        thread::sleep(LOOK);
    }
}

/// Makes a file with a number in it, whole or not at all. False if the file exists.
pub(crate) fn put_number(room: &str, file: &str, number: u64) -> bool {
    let draft = format!("{room}/.{file}-{}-{:?}", std::process::id(), thread::current().id());
    fs::write(&draft, number.to_string()).unwrap();
    let is_new = fs::hard_link(&draft, format!("{room}/{file}")).is_ok();
    fs::remove_file(&draft).unwrap();
    is_new
}

/// Writes the process id to `attempt-0`, `attempt-1`, ...; returns the number of the attempt.
pub(crate) fn note_attempt(room: &str) -> u32 {
    (0..).find(|n| put_number(room, &format!("attempt-{n}"), u64::from(std::process::id()))).unwrap()
}

/// The first caller waits for ever; the others return at once.
pub(crate) fn hold_first(room: &str) {
    if note_attempt(room) == 0 {
        hold();
    }
}

/// Waits for ever.
pub(crate) fn hold() -> ! {
    loop {
        thread::park();
    }
}

/// Records the attempt and waits until the test makes the file `go`.
pub(crate) fn wait_for_go(room: String) -> u32 {
    note_attempt(&room);
    wait_for(Path::new(&format!("{room}/go")));
    std::process::id()
}

pub(crate) fn nanos_now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64
}

// ---- processes ----

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).unwrap()
}

pub(crate) fn send_signal(pid: u32, signal: Signal) {
    kill_process(pid_of(pid), signal).unwrap();
}

/// The state letter of a process, and its parent; `None` if the process is gone.
pub(crate) fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether a process runs. A process that has ended and was not waited for does not run.
pub(crate) fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Waits until a process has ended and its parent has waited for it.
pub(crate) fn wait_until_gone(pid: u32) {
    wait_until(&format!("process {pid} to be gone"), || stat(pid).is_none());
}

pub(crate) fn wait_until_ended(pid: u32) {
    wait_until(&format!("process {pid} to end"), || !runs(pid));
}

/// Stops a process, as `SIGSTOP` does, and waits until it has.
pub(crate) fn stop(pid: u32) {
    send_signal(pid, Signal::STOP);
    wait_until("a process to stop", || stat(pid).is_none_or(|(state, _)| state == 'T'));
}

/// A handle of a process that is a child of this one, if it is.
pub(crate) fn handle_of_child(pid: u32) -> Option<OwnedFd> {
    let handle = pidfd_open(pid_of(pid), PidfdFlags::empty()).ok()?;
    // The parent was checked after the handle was opened. So the handle is that of the child.
    stat(pid).filter(|&(state, parent)| parent == std::process::id() && state != 'Z').map(|_| handle)
}

pub(crate) fn signal_child(pid: u32, signal: Signal) -> bool {
    handle_of_child(pid).is_some_and(|handle| pidfd_send_signal(&handle, signal).is_ok())
}

/// The children of this process, also dead ones that were not waited for.
pub(crate) fn children() -> Vec<u32> {
    let own = std::process::id();
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|&pid| stat(pid).is_some_and(|(_, parent)| parent == own)).collect()
}

/// Pseudo-random numbers, the same in each run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

// ---- tests in processes of their own ----

/// The environment variable with the room of the child. It is set in the child alone.
const MARK: &str = "FAULTS_ALONE";

/// A command that runs the calling test alone; `F` is the body of that test.
fn again<F>() -> (Command, Room) {
    // `faults::the_module::the_test::{{closure}}`
    let (_, name) = std::any::type_name::<F>().split_once("::").unwrap();
    let name = name.strip_suffix("::{{closure}}").unwrap();
    let room = Room::new();
    fs::create_dir(room.path("tmp")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(MARK, room.name()).env("TMPDIR", room.path("tmp")).process_group(0);
    (command, room)
}

fn is_alone() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "tells the child from its parent")]
    std::env::var(MARK).ok()
}

/// Runs `body`, the body of the calling test, in a process and a process group of its own, and
/// forwards its output.
pub(crate) fn alone<F: FnOnce()>(body: F) {
    if is_alone().is_some() {
        return body();
    }
    let (mut command, room) = again::<F>();
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    stderr.lines().filter(|line| line.starts_with("measured")).for_each(say);
    assert!(output.status.success() && stdout.contains("1 passed"), "{}\n{stdout}\n{stderr}", output.status);
    let left: Vec<_> = fs::read_dir(room.path("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Runs `body`, the body of the calling test, in a process of its own, with the name of a folder.
/// Runs `watch` in this process at the same time, with the same folder and the child.
pub(crate) fn beside<F: FnOnce(String)>(body: F, watch: impl FnOnce(&Room, &mut std::process::Child)) {
    if let Some(room) = is_alone() {
        return body(room);
    }
    let (mut command, room) = again::<F>();
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    watch(&room, &mut child);
    let _ = child.kill();
    child.wait().unwrap();
}
