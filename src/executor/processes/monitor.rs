//! One thread that sleeps until a worker ends, writes something that is to be captured, or has to be looked at.

use super::process::WorkerProcess;
use crate::engine::quietly;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read, write};
use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// How often the memory of busy workers is looked at, where there is a limit.
const LOOK_AT_MEMORY: Duration = Duration::from_millis(100);

/// How often busy workers are asked whether something was lost on the way from them.
const LOOK_FOR_LOST: Duration = Duration::from_secs(1);

/// How much of what a worker writes is kept for errors. What says why it ended may have a backtrace after it, of some 7 KiB without
/// optimisation.
const TAIL_BYTES: usize = 16 << 10;

/// What the monitor tells a worker's owner.
pub(super) trait Watched: Send + Sync {
    /// The process has ended. Must not wait for anything.
    fn ended(&self);
    /// It uses this many bytes, which is more than it may.
    fn used_too_much(&self, limit: u64, used: u64);
}

struct Monitor {
    hosts: Mutex<Hosts>,
    /// Wakes the thread to look at the list again.
    changed: OwnedFd,
    /// The thread sleeps until it is woken, because no worker is busy.
    sleeps: AtomicBool,
}

#[derive(Default)]
struct Hosts {
    list: Vec<Weak<WorkerProcess>>,
    has_thread: bool,
}

fn monitor() -> io::Result<&'static Monitor> {
    static MONITOR: OnceLock<Result<Monitor, Errno>> = OnceLock::new();
    let made = MONITOR.get_or_init(|| {
        let changed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Monitor { hosts: Mutex::default(), changed, sleeps: AtomicBool::new(false) })
    });
    made.as_ref().map_err(|&errno| errno.into())
}

/// Watches a worker until it ends.
///
/// # Errors
/// If there is no thread to be had.
pub(super) fn watch(host: &Arc<WorkerProcess>) -> io::Result<()> {
    let monitor = monitor()?;
    let mut hosts = monitor.hosts.lock();
    if !hosts.has_thread {
        std::thread::Builder::new().name("sprang-monitor".into()).spawn(|| monitor.serve())?;
        hosts.has_thread = true;
    }
    hosts.list.push(Arc::downgrade(host));
    drop(hosts);
    monitor.wake();
    Ok(())
}

/// A worker has become busy, which can be seen from its host.
pub(super) fn look_at_busy() {
    // SeqCst here, for the host's counter and in `wait`: either this sees that the monitor sleeps, or that sees the busy worker.
    if let Ok(monitor) = monitor()
        && monitor.sleeps.load(Ordering::SeqCst)
        && monitor.sleeps.swap(false, Ordering::SeqCst)
    {
        monitor.wake();
    }
}

impl Monitor {
    fn wake(&self) {
        // It is full if nobody has looked for long, and then somebody will.
        let _ = write(&self.changed, &1_u64.to_ne_bytes());
    }

    fn serve(&self) {
        // Fixed, so that what else happens meanwhile does not put it off.
        let mut next_look = Instant::now() + LOOK_AT_MEMORY;
        let mut next_search = Instant::now() + LOOK_FOR_LOST;
        loop {
            let hosts: Vec<Arc<WorkerProcess>> = {
                let mut hosts = self.hosts.lock();
                hosts.list.retain(|host| host.strong_count() > 0);
                if hosts.list.is_empty() {
                    hosts.has_thread = false;
                    return;
                }
                hosts.list.iter().filter_map(Weak::upgrade).collect()
            };
            let ended = self.wait(&hosts, &mut next_look, &mut next_search);
            if !ended.is_empty() {
                self.hosts.lock().list.retain(|host| !ended.iter().any(|ended| Arc::as_ptr(ended) == host.as_ptr()));
            }
            for host in ended {
                // What it wrote last comes before the news of its end.
                if let Some(output) = host.output() {
                    output.drain();
                }
                host.ended();
            }
        }
    }

    /// Waits until something happens, and returns the workers that have ended.
    fn wait(
        &self,
        hosts: &[Arc<WorkerProcess>],
        next_look: &mut Instant,
        next_search: &mut Instant,
    ) -> Vec<Arc<WorkerProcess>> {
        let pidfds: Vec<Arc<OwnedFd>> = hosts.iter().map(|host| host.pidfd()).collect();
        let outputs: Vec<&Arc<Output>> =
            hosts.iter().filter_map(|host| host.output()).filter(|o| o.is_open()).collect();
        let mut fds = vec![PollFd::new(&self.changed, PollFlags::IN)];
        fds.extend(pidfds.iter().map(|pidfd| PollFd::new(&**pidfd, PollFlags::IN)));
        fds.extend(outputs.iter().map(|output| PollFd::from_borrowed_fd(output.pipe.as_fd(), PollFlags::IN)));
        self.sleeps.store(true, Ordering::SeqCst);
        let is_busy = hosts.iter().any(|host| !host.is_idle());
        if is_busy {
            self.sleeps.store(false, Ordering::SeqCst);
        }
        let limited: Vec<_> = hosts.iter().filter(|host| host.memory_limit().is_some() && !host.is_idle()).collect();
        let now = Instant::now();
        if !limited.is_empty() && *next_look <= now {
            *next_look = now + LOOK_AT_MEMORY;
            for host in &limited {
                let (Some(limit), Some(used)) = (host.memory_limit(), private_bytes(host.pid())) else { continue };
                if used > limit {
                    host.used_too_much(limit, used);
                }
            }
        }
        if is_busy && *next_search <= now {
            *next_search = now + LOOK_FOR_LOST;
            hosts.iter().for_each(|host| host.look_for_lost_results());
        }
        let next = if limited.is_empty() { *next_search } else { *next_look.min(next_search) };
        let time = next.saturating_duration_since(now);
        let time = is_busy.then(|| Timespec::try_from(time).expect("it is short"));
        match poll(&mut fds, time.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Vec::new(),
            Err(_) => {
                // No memory for the call: nothing to do but to try again in a while.
                std::thread::sleep(Duration::from_millis(10));
                return Vec::new();
            }
        }
        if !fds[0].revents().is_empty() {
            let _ = read(&self.changed, &mut [0; 8]);
        }
        for (fd, output) in fds[1 + hosts.len()..].iter().zip(&outputs) {
            if !fd.revents().is_empty() {
                output.read_some();
            }
        }
        let has_ended = fds[1..].iter().zip(hosts).filter(|(fd, _)| !fd.revents().is_empty());
        has_ended.map(|(_, host)| Arc::clone(host)).collect()
    }
}

/// The memory that belongs to a process alone, in bytes, shared memory and files not among it.
pub(super) fn private_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What a worker writes to its standard output and error.
pub(super) struct Output {
    pipe: OwnedFd,
    worker: u32,
    state: Mutex<OutputState>,
}

#[derive(Default)]
struct OutputState {
    tail: VecDeque<u8>,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    is_closed: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Output {
    pub(super) fn new(pipe: OwnedFd, worker: u32) -> Self {
        Output { pipe, worker, state: Mutex::default() }
    }

    fn is_open(&self) -> bool {
        !self.state.lock().is_closed
    }

    /// Reads once. There is something to read, or the end.
    fn read_some(&self) -> bool {
        let mut buffer = [0; 4096];
        let len = match read(&self.pipe, &mut buffer) {
            Ok(len) => len,
            Err(Errno::INTR | Errno::AGAIN) => return true,
            Err(_) => 0,
        };
        let mut state = self.state.lock();
        if len == 0 {
            state.is_closed = true;
            let line = std::mem::take(&mut state.line);
            drop(state);
            self.log(&line);
            return false;
        }
        let bytes = &buffer[..len];
        state.tail.extend(bytes);
        let excess = state.tail.len().saturating_sub(TAIL_BYTES);
        state.tail.drain(..excess);
        state.line.extend_from_slice(bytes);
        let lines = match state.line.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => state.line.drain(..=end).collect::<Vec<_>>(),
            // A line without end is given out in pieces.
            None if state.line.len() > TAIL_BYTES => std::mem::take(&mut state.line),
            None => Vec::new(),
        };
        drop(state);
        lines.split(|&byte| byte == b'\n').for_each(|line| self.log(line));
        true
    }

    /// Reads what there is, without waiting for more.
    fn drain(&self) {
        while self.is_open() {
            let mut fds = [PollFd::new(&self.pipe, PollFlags::IN)];
            let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
            match poll(&mut fds, Some(&nothing)) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if !self.read_some() {
                return;
            }
        }
    }

    fn log(&self, line: &[u8]) {
        if !line.is_empty() {
            // The logger is the program's, and if this thread ended nobody would notice that workers do.
            quietly(|| {
                log::info!(target: "sprang::worker", "worker {}: {}", self.worker, String::from_utf8_lossy(line));
            });
        }
    }

    /// The end of what was written.
    pub(super) fn tail(&self) -> String {
        let state = self.state.lock();
        let bytes: Vec<u8> = state.tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}
