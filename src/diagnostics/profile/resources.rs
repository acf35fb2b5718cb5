//! Samples the use of processors and memory by this process and its descendants.
//!
//! A thread takes samples while there are runs, and stays for a moment after them, so that many
//! short runs share it. When there are 4 000 samples, it drops every second one and takes half as
//! many from then on.

use super::encode;
use crate::per_process::spawn;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MAX_SAMPLES: usize = 4_000;

/// What this process and its worker processes used at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ResourceSample {
    /// The time of the sample, counted as in the profile.
    #[serde(rename = "at_s", serialize_with = "encode::write_time", deserialize_with = "encode::read_time")]
    pub at: Duration,
    /// The mean number of busy processors since the sample before.
    pub cpus: f64,
    /// Resident memory in bytes. Memory that processes share counts for each of them.
    pub memory_bytes: u64,
    /// The number of processes.
    pub num_processes: usize,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Sampler {
    interval: Duration,
    state: Mutex<SamplerState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SamplerState {
    num_runs: usize,
    has_thread: bool,
    samples: Vec<ResourceSample>,
    /// The interval is multiplied by this; 0 counts as 1.
    stride: u32,
}

impl Sampler {
    pub(super) fn new(interval: Duration) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        Sampler { interval, state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn samples(&self) -> Vec<ResourceSample> {
        self.state.lock().samples.clone()
    }

    /// Counts a run that begins.
    pub(super) fn begin(self: &Arc<Self>, origin: Instant) {
        let mut state = self.state.lock();
        state.num_runs += 1;
        if !state.has_thread && system::is_known() {
            let sampler = Arc::clone(self);
            let thread = std::thread::Builder::new().name("sprang-resources".into());
            // Without a thread there are no samples.
            state.has_thread = spawn(thread, move || sampler.sample_until_idle(origin)).is_ok();
        }
    }

    /// Counts a run that has ended.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.num_runs -= 1;
        if state.num_runs == 0 {
            drop(state);
            self.changed.notify_all();
        }
    }

    fn sample_until_idle(&self, origin: Instant) {
        let mut probe = system::UsageProbe::default();
        probe.measure();
        let mut measured = Instant::now();
        let mut state = self.state.lock();
        loop {
            let interval = self.interval * state.stride.max(1);
            let is_idle = state.num_runs == 0;
            let is_late = self.changed.wait_for(&mut state, interval).timed_out();
            if is_idle && state.num_runs == 0 && is_late {
                break;
            }
            // Many short runs wake this thread more often than the interval says.
            let elapsed = measured.elapsed();
            if is_idle || elapsed < interval / 2 {
                continue;
            }
            drop(state);
            let (cpu_time, memory_bytes, num_processes) = probe.measure();
            measured = Instant::now();
            let cpus = cpu_time.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
            let at = measured.saturating_duration_since(origin);
            state = self.state.lock();
            state.samples.push(ResourceSample { at, cpus, memory_bytes, num_processes });
            if state.samples.len() >= MAX_SAMPLES {
                let mut index = 0;
                state.samples.retain(|_| {
                    index += 1;
                    index % 2 == 0
                });
                state.stride = state.stride.max(1) * 2;
            }
        }
        state.has_thread = false;
    }
}

/// Reads `/proc`, which only Linux has. Elsewhere nothing is known.
pub(in crate::diagnostics) mod system {
    use std::collections::HashMap;
    use std::fs;
    use std::time::Duration;

    pub(in crate::diagnostics) fn is_known() -> bool {
        cfg!(target_os = "linux")
    }

    /// Clock ticks per second, and bytes of a page.
    fn units() -> (u64, u64) {
        #[cfg(target_os = "linux")]
        return (rustix::param::clock_ticks_per_second().max(1), rustix::param::page_size() as u64);
        #[cfg(not(target_os = "linux"))]
        return (100, 4096);
    }

    fn time(ticks: u64) -> Duration {
        Duration::from_secs_f64(ticks as f64 / units().0 as f64)
    }

    /// Measures use since the last measurement.
    #[derive(Debug, Default)]
    pub(in crate::diagnostics) struct UsageProbe {
        /// The processor time of each process at the last measurement.
        ticks: Option<HashMap<u32, u64>>,
    }

    impl UsageProbe {
        /// Processor time since the last call, resident bytes, and number of processes.
        pub(in crate::diagnostics) fn measure(&mut self) -> (Duration, u64, usize) {
            let (mut used, mut memory_bytes) = (0, 0);
            let mut now = HashMap::new();
            let mut rest = vec![std::process::id()];
            while let Some(pid) = rest.pop() {
                let (Some(ticks), Some(pages)) = (ticks(pid), resident_pages(pid)) else { continue };
                if now.insert(pid, ticks).is_some() {
                    continue;
                }
                // A new process has used all of its time since the last call. At the first call, no
                // time counts.
                let before = self.ticks.as_ref().map_or(ticks, |before| before.get(&pid).copied().unwrap_or(0));
                used += ticks.saturating_sub(before);
                memory_bytes += pages * units().1;
                children(pid, &mut rest);
            }
            let num_processes = now.len();
            self.ticks = Some(now);
            (time(used), memory_bytes, num_processes)
        }
    }

    /// The processor time and memory of a process.
    #[cfg(feature = "dashboard")]
    #[derive(Clone, Copy, Debug)]
    pub(in crate::diagnostics) struct ProcessUsage {
        pub(in crate::diagnostics) parent: u32,
        /// Processor time since the process started.
        pub(in crate::diagnostics) cpu_time: Duration,
        pub(in crate::diagnostics) memory_bytes: u64,
        /// The part of this memory that no other process shares.
        pub(in crate::diagnostics) own_bytes: u64,
    }

    #[cfg(feature = "dashboard")]
    impl ProcessUsage {
        pub(in crate::diagnostics) fn of(pid: u32) -> Option<ProcessUsage> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let number = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key))?;
                line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
            };
            Some(ProcessUsage {
                parent: number("PPid:")? as u32,
                cpu_time: time(ticks(pid)?),
                // A zombie process has no memory.
                memory_bytes: number("VmRSS:")? * 1024,
                own_bytes: number("RssAnon:")? * 1024,
            })
        }
    }

    /// The memory of the machine.
    #[cfg(feature = "dashboard")]
    pub(in crate::diagnostics) fn total_memory_bytes() -> Option<u64> {
        let all = fs::read_to_string("/proc/meminfo").ok()?;
        let line = all.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }

    fn ticks(pid: u32) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may contain a parenthesis.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let user: u64 = fields.nth(11)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(user + system)
    }

    fn resident_pages(pid: u32) -> Option<u64> {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        statm.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// Adds the children of all threads of a process, if the system lists them.
    fn children(pid: u32, to: &mut Vec<u32>) {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
        for thread in threads.flatten() {
            if let Ok(children) = fs::read_to_string(thread.path().join("children")) {
                to.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
        }
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::system::UsageProbe;
    use std::time::{Duration, Instant};

    #[test]
    fn a_measurement_covers_this_process() {
        let mut probe = UsageProbe::default();
        let (first, memory_bytes, num_processes) = probe.measure();
        assert_eq!(first, Duration::ZERO);
        assert!(memory_bytes > 100_000 && num_processes >= 1);
        let start = Instant::now();
        let mut used = Duration::ZERO;
        while used.is_zero() {
            assert!(start.elapsed() < Duration::from_secs(30), "this loop uses a processor");
            used = probe.measure().0;
        }
        assert!(used >= Duration::from_millis(1));
    }
}
