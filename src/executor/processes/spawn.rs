//! Starting a worker process, and owning it to its end.
//!
//! A worker is started by the standard library, without code between fork and exec, so that it can use `posix_spawn`: that does not copy
//! the tables of a large parent's memory. After that the process is known by a descriptor ([`ChildProcess`]), which, other than its number,
//! never comes to mean another one.
//!
//! # What is always true
//!
//! 1. Each child has one owner, its `ChildProcess`, which alone waits for it, and kills it and waits when dropped. So none is left behind,
//!    running or dead.
//! 2. Workers die with the *thread* that started them. So only a thread that outlives them may call [`spawn`].

#![expect(unsafe_code, reason = "calls wait4, which tells how much memory the worker used")]

use super::boot::{depth, refusal};
use super::hook::new_token;
use super::lifeline::Lifeline;
use super::settings::{ProcessSettings, Stdio};
use super::token::{EXIT_ASTRAY, EXIT_BROKEN, EXIT_NOT_STARTED, EXIT_ORPHANED};
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
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to start.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpawnSpec<'a> {
    /// The name of the one-shot server that the worker connects to.
    pub(super) server: &'a str,
    /// Of these: environment, working directory, standard output and error, core dumps.
    pub(super) settings: &'a ProcessSettings,
}

/// A worker that has been started; it has said nothing yet.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) process: ChildProcess,
    pub(super) lifeline: Lifeline,
    /// What it writes to its standard output and error, if that is to be captured. Ends with the last process that the worker left behind.
    pub(super) output: Option<OwnedFd>,
}

/// Starts a worker. It lives no longer than the calling thread (see above).
///
/// # Errors
/// If this process may not start workers, or the system does not let it; the text says why.
pub(super) fn spawn(spec: &SpawnSpec<'_>) -> Result<Spawned, String> {
    if let Some(refusal) = refusal() {
        return Err(refusal);
    }
    let settings = spec.settings;
    let fail = |what: &str, error: io::Error| format!("cannot start a worker process: {what}: {error}");
    let (lifeline, theirs) = Lifeline::pair().map_err(|error| fail("socketpair", error))?;
    let (name, value) = new_token(spec.server, depth() + 1, settings.core_dumps).variable();
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
    // From here on the child belongs to the `ChildProcess`, which drops what the standard library knows of it, and the command has to
    // let go of the worker's end of the lifeline.
    drop(command);
    let process = ChildProcess::adopt(child).map_err(|error| fail("pidfd_open", error))?;
    Ok(Spawned { process, lifeline, output })
}

/// A worker process, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct ChildProcess {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    exit: Option<Exit>,
    /// The largest resident size of this process when the worker was started, in bytes.
    parent_rss_max: u64,
}

impl ChildProcess {
    fn adopt(mut child: std::process::Child) -> io::Result<ChildProcess> {
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(ChildProcess { pid, pidfd: Arc::new(pidfd), exit: None, parent_rss_max: own_rss_max() }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    /// Its process id. It may mean another process once this one has been waited for.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    #[cfg(test)]
    /// Can be read once the process has ended.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Lets other threads kill it.
    pub(super) fn killer(&self) -> Killer {
        Killer { pidfd: Arc::clone(&self.pidfd) }
    }

    /// Kills it, if it still runs, and does not wait for its end.
    pub(super) fn kill(&self) {
        kill(&self.pidfd);
    }

    /// Waits for its end. Says the same again when called again.
    pub(super) fn wait(&mut self) -> Exit {
        loop {
            if let Some(exit) = self.wait_until(None) {
                return exit;
            }
        }
    }

    /// Waits for its end, but not for longer than this.
    pub(super) fn wait_timeout(&mut self, limit: Duration) -> Option<Exit> {
        // One that cannot be reckoned is none.
        match Instant::now().checked_add(limit) {
            Some(deadline) => self.wait_until(Some(deadline)),
            None => Some(self.wait()),
        }
    }

    /// Waits for its end, and not beyond the deadline.
    pub(super) fn wait_until(&mut self, deadline: Option<Instant>) -> Option<Exit> {
        if let Some(exit) = &self.exit {
            return Some(exit.clone());
        }
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let limit = left.map(|left| Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }));
            match poll(&mut [PollFd::new(&*self.pidfd, PollFlags::IN)], limit.as_ref()) {
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
        // Looked at by its descriptor first: as long as it has not been waited for, its number is its own.
        let own = loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(None) | Err(Errno::INTR) => {}
                // Kernels before 5.4 know descriptors of processes and cannot wait for them.
                Ok(Some(_)) | Err(Errno::INVAL) => break true,
                Err(_) => break false,
            }
        };
        let mut status = 0;
        // SAFETY: zero is a value of all its fields, which are integers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: pointers to values of these types.
        let reaped = own && unsafe { libc::wait4(self.pid.as_raw_pid(), &raw mut status, 0, &raw mut usage) } > 0;
        if !reaped {
            let why = "its exit status is not known: something else in this process waits for all children, or ignores SIGCHLD";
            return Exit { how: ExitCause::Lost(why.into()), max_rss_bytes: None };
        }
        let rss_max = bytes_of(&usage);
        // Linux counts the memory of whoever called exec as that of the new program, and that was this process.
        let max_rss_bytes = (rss_max > self.parent_rss_max).then_some(rss_max);
        Exit { how: ExitCause::of(ExitStatus::from_raw(status)), max_rss_bytes }
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

/// Kills one worker process, from any thread and at any time.
#[derive(Clone, Debug)]
pub(super) struct Killer {
    pidfd: Arc<OwnedFd>,
}

impl Killer {
    pub(super) fn pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.pidfd)
    }

    /// Kills it, if it still runs.
    pub(super) fn kill(&self) {
        kill(&self.pidfd);
    }
}

fn kill(pidfd: &OwnedFd) {
    // It fails if the process has ended, and then there is nothing to do.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}

fn own_rss_max() -> u64 {
    // SAFETY: zero is a value of all its fields, and the call writes to no other place.
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

/// ExitCause a worker process ended. Its `Display` goes after "the worker".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) how: ExitCause,
    /// The largest resident size that it had, if that is known: if it was larger than that of this process when the worker was started.
    pub(super) max_rss_bytes: Option<u64>,
}

/// The part of [`Exit`] that says what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExitCause {
    Exited {
        code: i32,
    },
    Killed {
        signal: i32,
        core_dumped: bool,
    },
    /// The system does not tell, for this reason.
    Lost(String),
}

impl ExitCause {
    fn of(status: ExitStatus) -> ExitCause {
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
        match self.how {
            ExitCause::Killed { signal, .. } => Some(signal),
            _ => None,
        }
    }

    /// What it gave to `exit`.
    pub(super) fn code(&self) -> Option<i32> {
        match self.how {
            ExitCause::Exited { code } => Some(code),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(super) fn core_dumped(&self) -> bool {
        matches!(self.how, ExitCause::Killed { core_dumped: true, .. })
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            ExitCause::Lost(why) => f.write_str(why),
            ExitCause::Exited { code } => {
                write!(f, "exited with status {code}")?;
                match *code {
                    EXIT_NOT_STARTED => f.write_str(" (it could not become a worker)"),
                    EXIT_ASTRAY => f.write_str(" (it never reached sprang's start-up hook)"),
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
                    // A guard page looks like any other bad address from outside.
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
