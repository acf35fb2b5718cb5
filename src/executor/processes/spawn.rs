//! Starts worker processes and owns them.
//!
//! The standard library starts a worker. No code runs between fork and exec, so it can use
//! `posix_spawn`, which does not copy the page tables of a large parent. Afterwards a descriptor
//! refers to the process ([`ChildProcess`]). Unlike a process id, it never refers to another
//! process.
//!
//! # What is always true
//!
//! 1. Each child has one owner, its `ChildProcess`. Only the owner waits for the child. Dropping
//!    the owner kills the child and waits for it. So no child is left behind, running or dead.
//! 2. Workers die with the *thread* that started them. So only a thread that outlives them may call
//!    [`spawn`].

#![expect(unsafe_code, reason = "calls wait4, which returns how much memory the worker used")]

use super::boot::{depth, refusal};
use super::hook::new_token;
use super::lifeline::Lifeline;
use super::rights::Rights;
use super::settings::{ProcessSettings, Stdio};
use super::token::{EXIT_BROKEN, EXIT_NO_HOOK, EXIT_NOT_STARTED, EXIT_ORPHANED, KILL};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use std::fmt;
use std::io;
#[cfg(test)]
use std::os::fd::BorrowedFd;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio as StdStdio};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A worker to start.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpawnSpec<'a> {
    /// The name of the one-shot server that the worker connects to.
    pub(super) server: &'a str,
    /// [`spawn`] uses the environment, working directory, standard output and error, and core
    /// dumps.
    pub(super) settings: &'a ProcessSettings,
    /// The worker has no others.
    pub(super) rights: &'a Rights,
}

/// A worker that was started and has not sent a message yet.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) process: ChildProcess,
    pub(super) lifeline: Arc<Lifeline>,
    /// Its standard output and error, if they are captured. The stream ends when the last process
    /// that has inherited it ends.
    pub(super) output: Option<OwnedFd>,
}

/// Starts a worker. It lives no longer than the calling thread (rule 2).
///
/// # Errors
/// If this process may not start workers, or a system call fails. The text has the reason.
pub(super) fn spawn(spec: &SpawnSpec<'_>) -> Result<Spawned, String> {
    if let Some(refusal) = refusal() {
        return Err(refusal);
    }
    let settings = spec.settings;
    let fail = |what: &str, error: io::Error| format!("cannot start a worker process: {what}: {error}");
    let (lifeline, theirs) = Lifeline::pair().map_err(|error| fail("socketpair", error))?;
    let (name, value) = new_token(spec.server, depth() + 1, settings, spec.rights).variable();
    let mut command = Command::new("/proc/self/exe");
    command.arg0("sprang-worker").envs(&settings.environment).env(name, value).stdin(theirs);
    if let Some(folder) = &settings.working_directory {
        command.current_dir(folder);
    }
    let mut output = None;
    match settings.stdio {
        Stdio::Inherit => {}
        Stdio::Null => {
            command.stdout(StdStdio::null()).stderr(StdStdio::null());
        }
        Stdio::Capture => {
            let (reader, writer) = io::pipe().map_err(|error| fail("pipe", error))?;
            command.stdout(writer.try_clone().map_err(|error| fail("dup", error))?).stderr(writer);
            output = Some(reader.into());
        }
    }
    let child = command.spawn().map_err(|error| match &settings.working_directory {
        Some(folder) if !folder.is_dir() => fail(&format!("working_directory {folder:?}"), error),
        _ => fail("/proc/self/exe", error),
    })?;
    // The command has the worker's end of the lifeline, which only the worker may keep open.
    drop(command);
    let lifeline = Arc::new(lifeline);
    let process = ChildProcess::adopt(child, &lifeline).map_err(|error| fail("pidfd_open", error))?;
    Ok(Spawned { process, lifeline, output })
}

/// A worker process, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct ChildProcess {
    pid: Pid,
    killer: Killer,
    exit: Option<Exit>,
    /// The largest resident size of this process when the worker was started, in bytes.
    parent_rss_max: u64,
}

impl ChildProcess {
    fn adopt(mut child: std::process::Child, lifeline: &Arc<Lifeline>) -> io::Result<ChildProcess> {
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => {
                let killer = Killer { pidfd: Arc::new(pidfd), lifeline: Arc::downgrade(lifeline) };
                Ok(ChildProcess { pid, killer, exit: None, parent_rss_max: own_rss_max() })
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    /// The process id. After the process was waited for, the id may refer to another process.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    /// Can be read once the process has ended.
    #[cfg(test)]
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.killer.pidfd.as_fd()
    }

    /// A handle with which other threads can kill the process.
    pub(super) fn killer(&self) -> Killer {
        self.killer.clone()
    }

    /// Kills the process, if it still runs, and does not wait.
    pub(super) fn kill(&self) {
        self.killer.kill();
    }

    /// Waits until the process ends. Further calls return the same.
    pub(super) fn wait(&mut self) -> Exit {
        self.wait_until(None).expect("without a deadline it waits for the end")
    }

    /// Waits until the process ends or the time has passed.
    pub(super) fn wait_timeout(&mut self, limit: Duration) -> Option<Exit> {
        // A time that cannot be computed is no limit.
        self.wait_until(Instant::now().checked_add(limit))
    }

    /// Waits until the process ends or the deadline passes.
    pub(super) fn wait_until(&mut self, deadline: Option<Instant>) -> Option<Exit> {
        if let Some(exit) = &self.exit {
            return Some(exit.clone());
        }
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let limit = left.map(|left| Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }));
            match poll(&mut [PollFd::new(&*self.killer.pidfd, PollFlags::IN)], limit.as_ref()) {
                Ok(0) => return None,
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        let exit = self.reap();
        self.exit = Some(exit.clone());
        Some(exit)
    }

    fn reap(&self) -> Exit {
        // Checked by its descriptor first: until the process is waited for, its id refers to no
        // other process.
        let own = loop {
            match waitid(WaitId::PidFd(self.killer.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(None) | Err(Errno::INTR) => {}
                // Kernels before 5.4 have descriptors of processes and cannot wait for them.
                Ok(Some(_)) | Err(Errno::INVAL) => break true,
                Err(_) => break false,
            }
        };
        let mut status = 0;
        // SAFETY: all its fields are integers, for which zero is valid.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `wait4` writes to the two pointers, which are to local values of its types.
        let reaped = own && unsafe { libc::wait4(self.pid.as_raw_pid(), &raw mut status, 0, &raw mut usage) } > 0;
        if !reaped {
            let why = "its exit status is not known: something else in this process waits for all children, or ignores SIGCHLD";
            return Exit { cause: ExitCause::Lost(why.into()), max_rss_bytes: None };
        }
        let rss_max = bytes_of(&usage);
        // Linux counts the memory of the process that called exec as that of the new program. That
        // was this process.
        let max_rss_bytes = (rss_max > self.parent_rss_max).then_some(rss_max);
        Exit { cause: ExitCause::new(ExitStatus::from_raw(status)), max_rss_bytes }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if self.exit.is_none() {
            self.kill();
            self.wait();
        }
    }
}

/// Kills a worker process, from any thread and at any time.
#[derive(Clone, Debug)]
pub(super) struct Killer {
    pidfd: Arc<OwnedFd>,
    /// The owner of the lifeline outlives the process.
    lifeline: Weak<Lifeline>,
}

impl Killer {
    pub(super) fn pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.pidfd)
    }

    /// Kills the process, if it still runs.
    pub(super) fn kill(&self) {
        // Usually an error means that the process has ended. Otherwise this process has given up
        // the right to kill it, or a filter of system calls forbids that: the worker kills itself.
        if let Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS) = pidfd_send_signal(&self.pidfd, Signal::KILL)
            && let Some(lifeline) = self.lifeline.upgrade()
        {
            let _ = lifeline.send(KILL, 0);
        }
    }
}

fn own_rss_max() -> u64 {
    // SAFETY: all fields of `rusage` are integers, for which zero is valid. `getrusage` writes to
    // the pointer, which is to a local value.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    bytes_of(&usage)
}

/// The largest resident size, which Linux gives in KiB.
fn bytes_of(usage: &libc::rusage) -> u64 {
    u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024
}

/// How a worker process ended. Its `Display` goes after "the worker".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) cause: ExitCause,
    /// Its largest resident size in bytes. It is known only if it was larger than that of this
    /// process when the worker was started.
    pub(super) max_rss_bytes: Option<u64>,
}

/// Why a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExitCause {
    Exited {
        code: i32,
    },
    Killed {
        signal: i32,
        core_dumped: bool,
    },
    /// The cause is not known, for this reason.
    Lost(String),
}

impl ExitCause {
    fn new(status: ExitStatus) -> ExitCause {
        match (status.code(), status.signal()) {
            (Some(code), _) => ExitCause::Exited { code },
            (None, Some(signal)) => ExitCause::Killed { signal, core_dumped: status.core_dumped() },
            (None, None) => ExitCause::Lost(status.to_string()),
        }
    }
}

impl Exit {
    /// The signal that ended it.
    pub(super) fn signal(&self) -> Option<i32> {
        match self.cause {
            ExitCause::Killed { signal, .. } => Some(signal),
            _ => None,
        }
    }

    /// Its exit status.
    pub(super) fn code(&self) -> Option<i32> {
        match self.cause {
            ExitCause::Exited { code } => Some(code),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(super) fn core_dumped(&self) -> bool {
        matches!(self.cause, ExitCause::Killed { core_dumped: true, .. })
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            ExitCause::Lost(why) => f.write_str(why),
            ExitCause::Exited { code } => {
                write!(f, "exited with status {code}")?;
                match *code {
                    EXIT_NOT_STARTED => f.write_str(" (it could not become a worker)"),
                    EXIT_NO_HOOK => f.write_str(" (it never reached sprang's start-up hook)"),
                    EXIT_ORPHANED => f.write_str(" (its parent was gone)"),
                    EXIT_BROKEN => f.write_str(" (it could not read what it was sent, or not answer)"),
                    _ => Ok(()),
                }
            }
            ExitCause::Killed { signal, core_dumped } => {
                write!(f, "killed by signal {signal}")?;
                if let Some(name) = signal_name(*signal) {
                    write!(f, " ({name})")?;
                }
                match *signal {
                    // From outside, a guard page looks like any other bad address.
                    libc::SIGSEGV => f.write_str(": segmentation fault or stack overflow")?,
                    libc::SIGABRT => {
                        f.write_str(": abort, such as by a panic in a panic, or by a failed allocation")?
                    }
                    _ => {}
                }
                if *core_dumped { f.write_str(", core dumped") } else { Ok(()) }
            }
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}
