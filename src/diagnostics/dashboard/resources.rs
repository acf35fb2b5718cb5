//! Samples of the processors and the memory that this process and its workers use, where the system
//! reports them.
//!
//! Memory is bounded: of each process only the last sample is kept, and of the total
//! [`MAX_SAMPLES`].

use crate::diagnostics::profile::ResourceSample;
use crate::diagnostics::profile::system::{ProcessUsage, total_memory_bytes};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::thread::available_parallelism;
use std::time::Duration;

/// Usually half an hour of them.
const MAX_SAMPLES: usize = 1_800;
/// A shorter time says little about processors: the system counts in hundredths of a second.
const MIN_INTERVAL: Duration = Duration::from_millis(450);

/// The use of one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ProcessSample {
    /// How many processors it kept busy since the sample before; `None` at the first.
    pub(super) cpus: Option<f64>,
    pub(super) memory_bytes: u64,
    /// The part of `memory_bytes` that it does not share; a memory limit applies to this.
    pub(super) own_bytes: u64,
}

#[derive(Default)]
struct ResourceState {
    sampled_ns: Option<u64>,
    /// The last sample of each process, and its processor time since it started.
    by_pid: HashMap<u32, (Duration, ProcessSample)>,
    latest: Option<ResourceSample>,
    /// Times are since the start of the dashboard.
    samples: VecDeque<ResourceSample>,
}

/// See the [module](self).
pub(super) struct Resources {
    pub(super) num_cpus: usize,
    /// The memory of the machine.
    pub(super) total_memory_bytes: Option<u64>,
    state: Mutex<ResourceState>,
}

impl Resources {
    pub(super) fn new() -> Self {
        let num_cpus = available_parallelism().map_or(1, |number| number.get());
        Resources { num_cpus, total_memory_bytes: total_memory_bytes(), state: Mutex::default() }
    }

    /// Samples this process and the workers with these process ids, unless the last sample is
    /// younger than [`MIN_INTERVAL`].
    pub(super) fn sample(&self, now_ns: u64, workers: &[u32]) {
        let mut state = self.state.lock();
        let since = state.sampled_ns.map(|before| Duration::from_nanos(now_ns.saturating_sub(before)));
        if since.is_some_and(|since| since < MIN_INTERVAL) {
            return;
        }
        let here = std::process::id();
        let mut by_pid = HashMap::new();
        let mut total =
            ResourceSample { at: Duration::from_nanos(now_ns), cpus: 0.0, memory_bytes: 0, num_processes: 0 };
        for &pid in std::iter::once(&here).chain(workers) {
            // The system may have given the id of an ended worker to a process of another program.
            let Some(now) = ProcessUsage::of(pid).filter(|it| pid == here || it.parent == here) else { continue };
            let before = state.by_pid.get(&pid).map(|(cpu_time, _)| *cpu_time);
            let cpus = before.zip(since).map(|(before, since)| {
                now.cpu_time.saturating_sub(before).as_secs_f64() / since.as_secs_f64().max(1e-9)
            });
            let ProcessUsage { memory_bytes, own_bytes, .. } = now;
            total.cpus += cpus.unwrap_or(0.0);
            total.memory_bytes += memory_bytes;
            total.num_processes += 1;
            by_pid.insert(pid, (now.cpu_time, ProcessSample { cpus, memory_bytes, own_bytes }));
        }
        state.sampled_ns = Some(now_ns);
        state.by_pid = by_pid;
        state.latest = Some(total);
        if total.num_processes > 0 && since.is_some() {
            if state.samples.len() == MAX_SAMPLES {
                state.samples.pop_front();
            }
            state.samples.push_back(total);
        }
    }

    /// The last sample of a process. `None` if the process had ended, or the system does not report
    /// it.
    pub(super) fn of(&self, pid: u32) -> Option<ProcessSample> {
        self.state.lock().by_pid.get(&pid).map(|(_, process)| *process)
    }

    /// The last total, which is 0 before the first sample.
    pub(super) fn latest(&self) -> ResourceSample {
        let none = ResourceSample { at: Duration::ZERO, cpus: 0.0, memory_bytes: 0, num_processes: 0 };
        self.state.lock().latest.unwrap_or(none)
    }

    /// The totals in a span of time.
    pub(super) fn between(&self, from: Duration, to: Duration) -> Vec<ResourceSample> {
        self.state.lock().samples.iter().filter(|sample| sample.at >= from && sample.at <= to).copied().collect()
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_sample_soon_after_another_is_skipped_and_other_processes_are_not_counted() {
        let resources = Resources::new();
        let here = std::process::id();
        // The first process of the system is not a child of this one.
        resources.sample(1_000_000_000, &[1, u32::MAX]);
        let first = resources.of(here).expect("this process is there");
        assert!(first.cpus.is_none() && first.memory_bytes > first.own_bytes && first.own_bytes > 0);
        assert_eq!((resources.latest().num_processes, resources.of(1)), (1, None));
        resources.sample(1_100_000_000, &[]);
        assert_eq!(resources.of(here), Some(first));
        resources.sample(2_000_000_000, &[]);
        assert!(resources.of(here).is_some_and(|now| now.cpus.is_some()));
        assert_eq!(resources.between(Duration::ZERO, Duration::MAX).len(), 1);
        assert_eq!(resources.between(Duration::from_secs(3), Duration::MAX).len(), 0);
    }

    #[test]
    fn the_number_of_kept_samples_is_bounded() {
        let resources = Resources::new();
        (0..3_000).for_each(|second| resources.sample(second * 1_000_000_000, &[]));
        assert_eq!(resources.between(Duration::ZERO, Duration::MAX).len(), MAX_SAMPLES);
    }
}
