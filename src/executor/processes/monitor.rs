//! One thread that watches all worker processes: it sleeps until one ends, writes output that is
//! captured, or is due for a check.

use crate::engine::quietly;
use crate::per_process::{PerProcess, spawn};
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, ioctl_fionread, read, write};
use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often the memory of busy workers with a limit is measured.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);

/// How often busy workers are checked for lost results.
const LOST_INTERVAL: Duration = Duration::from_secs(1);

/// How many bytes of a worker's output errors quote at most. A message that says why the worker
/// ended may be followed by a backtrace, of some 7 KiB without optimisation.
const TAIL_BYTES: usize = 16 << 10;

/// A process that the monitor watches.
pub(super) trait MonitoredProcess: Send + Sync {
    /// Can be read once the process has ended.
    fn pidfd(&self) -> Arc<OwnedFd>;
    fn pid(&self) -> u32;
    /// Its output, if that is captured.
    fn output(&self) -> Option<&Arc<Output>>;
    /// Whether it runs no task.
    fn is_idle(&self) -> bool;
    /// How many bytes of its own memory it may use.
    fn memory_limit(&self) -> Option<u64>;
    /// It uses more memory than this limit.
    fn exceeded_memory_limit(&self, limit: u64);
    /// Called about once a second while a worker is busy.
    fn check_for_lost_results(&self);
    /// The process has ended. Must not block.
    fn ended(&self);
}

struct Monitor {
    watched: Mutex<WatchedList>,
    /// Wakes the thread, which then reads the list again.
    changed: OwnedFd,
    /// The thread sleeps until it is woken, because no worker is busy.
    sleeps: AtomicBool,
}

#[derive(Default)]
struct WatchedList {
    processes: Vec<Weak<dyn MonitoredProcess>>,
    has_thread: bool,
}

/// When the next checks are due. The times are fixed, so that other events do not delay a check.
struct NextChecks {
    memory: Instant,
    lost_results: Instant,
}

fn monitor() -> io::Result<&'static Monitor> {
    static MONITOR: PerProcess<Result<Monitor, Errno>> = PerProcess::new();
    let made = MONITOR.get_or_make(|| {
        let changed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Monitor { watched: Mutex::default(), changed, sleeps: AtomicBool::new(false) })
    });
    made.as_ref().map_err(|&errno| errno.into())
}

/// Watches a process until it ends.
///
/// # Errors
/// If the monitor's thread cannot be started.
pub(super) fn watch<P: MonitoredProcess + 'static>(process: &Arc<P>) -> io::Result<()> {
    let monitor = monitor()?;
    let mut watched = monitor.watched.lock();
    if !watched.has_thread {
        spawn(std::thread::Builder::new().name("sprang-monitor".into()), || monitor.serve())?;
        watched.has_thread = true;
    }
    let process: Weak<dyn MonitoredProcess> = Arc::<P>::downgrade(process);
    watched.processes.push(process);
    drop(watched);
    monitor.wake();
    Ok(())
}

/// A worker is not [idle](MonitoredProcess::is_idle) any more.
pub(super) fn worker_is_busy() {
    // SeqCst here, for the worker's counter and in `wait`: either this sees that the monitor
    // sleeps, or the monitor sees the busy worker.
    if let Ok(monitor) = monitor()
        && monitor.sleeps.load(Ordering::SeqCst)
        && monitor.sleeps.swap(false, Ordering::SeqCst)
    {
        monitor.wake();
    }
}

impl Monitor {
    fn wake(&self) {
        // If the counter is full, the thread is about to wake up anyway.
        let _ = write(&self.changed, &1_u64.to_ne_bytes());
    }

    fn serve(&self) {
        let now = Instant::now();
        let mut next = NextChecks { memory: now + MEMORY_INTERVAL, lost_results: now + LOST_INTERVAL };
        loop {
            let processes: Vec<_> = {
                let mut watched = self.watched.lock();
                watched.processes.retain(|process| process.strong_count() > 0);
                if watched.processes.is_empty() {
                    watched.has_thread = false;
                    return;
                }
                watched.processes.iter().filter_map(Weak::upgrade).collect()
            };
            let ended = self.wait(&processes, &mut next);
            if !ended.is_empty() {
                let has_ended = |process: &Weak<dyn MonitoredProcess>| {
                    ended.iter().any(|ended| std::ptr::addr_eq(Arc::as_ptr(ended), process.as_ptr()))
                };
                self.watched.lock().processes.retain(|process| !has_ended(process));
            }
            for process in ended {
                // Its last output comes before the news of its end.
                if let Some(output) = process.output() {
                    output.drain();
                }
                process.ended();
            }
        }
    }

    /// Waits until something happens, and returns the processes that have ended.
    fn wait(&self, processes: &[Arc<dyn MonitoredProcess>], next: &mut NextChecks) -> Vec<Arc<dyn MonitoredProcess>> {
        let pidfds: Vec<Arc<OwnedFd>> = processes.iter().map(|process| process.pidfd()).collect();
        let outputs = processes.iter().filter_map(|process| process.output());
        let outputs: Vec<&Arc<Output>> = outputs.filter(|output| output.is_open()).collect();
        let mut fds = vec![PollFd::new(&self.changed, PollFlags::IN)];
        fds.extend(pidfds.iter().map(|pidfd| PollFd::new(&**pidfd, PollFlags::IN)));
        fds.extend(outputs.iter().map(|output| PollFd::from_borrowed_fd(output.pipe.as_fd(), PollFlags::IN)));
        self.sleeps.store(true, Ordering::SeqCst);
        let is_busy = processes.iter().any(|process| !process.is_idle());
        if is_busy {
            self.sleeps.store(false, Ordering::SeqCst);
        }
        let time = is_busy.then(|| check(processes, next)).map(|time| Timespec::try_from(time).expect("it is short"));
        match poll(&mut fds, time.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Vec::new(),
            Err(_) => {
                // The kernel has no memory for the call: the thread can only try again later.
                std::thread::sleep(Duration::from_millis(10));
                return Vec::new();
            }
        }
        if !fds[0].revents().is_empty() {
            let _ = read(&self.changed, &mut [0; 8]);
        }
        for (fd, output) in fds[1 + processes.len()..].iter().zip(&outputs) {
            if !fd.revents().is_empty() {
                output.read_some();
            }
        }
        let ended = fds[1..].iter().zip(processes).filter(|(fd, _)| !fd.revents().is_empty());
        ended.map(|(_, process)| Arc::clone(process)).collect()
    }
}

/// Makes the checks that are due, and returns the time until the next one.
fn check(processes: &[Arc<dyn MonitoredProcess>], next: &mut NextChecks) -> Duration {
    let now = Instant::now();
    let limited = processes.iter().filter(|process| !process.is_idle());
    let limited: Vec<_> = limited.filter_map(|process| Some((process, process.memory_limit()?))).collect();
    if !limited.is_empty() && next.memory <= now {
        next.memory = now + MEMORY_INTERVAL;
        for (process, limit) in &limited {
            if private_bytes(process.pid()).is_some_and(|used| used > *limit) {
                process.exceeded_memory_limit(*limit);
            }
        }
    }
    if next.lost_results <= now {
        next.lost_results = now + LOST_INTERVAL;
        processes.iter().for_each(|process| process.check_for_lost_results());
    }
    let next = if limited.is_empty() { next.lost_results } else { next.memory.min(next.lost_results) };
    next.saturating_duration_since(now)
}

/// The memory that belongs to a process alone, in bytes. Shared memory and files are not counted.
pub(super) fn private_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The captured standard output and error of a worker.
pub(super) struct Output {
    pipe: OwnedFd,
    worker: u32,
    state: Mutex<OutputState>,
}

#[derive(Default)]
struct OutputState {
    tail: VecDeque<u8>,
    /// The beginning of a line that has no end yet.
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

    /// Reads once. The pipe has bytes, or is at its end. Returns the number of bytes.
    fn read_some(&self) -> usize {
        let mut buffer = [0; 4096];
        let len = loop {
            match read(&self.pipe, &mut buffer) {
                Ok(len) => break len,
                Err(Errno::INTR) => {}
                Err(_) => break 0,
            }
        };
        let mut state = self.state.lock();
        if len == 0 {
            drop(state);
            self.close();
            return 0;
        }
        let bytes = &buffer[..len];
        state.tail.extend(bytes);
        let excess = state.tail.len().saturating_sub(TAIL_BYTES);
        state.tail.drain(..excess);
        state.line.extend_from_slice(bytes);
        let lines = match state.line.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => state.line.drain(..=end).collect::<Vec<_>>(),
            // A line that is too long is logged in pieces.
            None if state.line.len() > TAIL_BYTES => std::mem::take(&mut state.line),
            None => Vec::new(),
        };
        drop(state);
        lines.split(|&byte| byte == b'\n').for_each(|line| self.log(line));
        len
    }

    /// Reads what the pipe has now, and no more: a program that the worker has started may have the
    /// pipe open too, and write to it without end.
    fn drain(&self) {
        let mut num_left = ioctl_fionread(&self.pipe).unwrap_or(0);
        while num_left > 0 && self.is_open() {
            num_left = num_left.saturating_sub(self.read_some() as u64);
        }
        self.close();
    }

    /// Reads no more, and logs a last line without an end.
    fn close(&self) {
        let line = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.line)
        };
        self.log(&line);
    }

    fn log(&self, line: &[u8]) {
        if !line.is_empty() {
            // The program's logger may panic. Without this thread the end of a worker would not be
            // noticed.
            quietly(|| {
                log::info!(target: "sprang::worker", "worker {}: {}", self.worker, String::from_utf8_lossy(line));
            });
        }
    }

    /// The last bytes that were written.
    pub(super) fn tail(&self) -> String {
        let state = self.state.lock();
        let bytes: Vec<u8> = state.tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}
