//! What this process and its workers use of the processors and of memory, where the system tells.
//!
//! Somebody who wants to know [looks](Resources::look); looks that follow closely upon one another are one. Memory is bounded: of each process
//! only the last look is kept, and [`MAX_SAMPLES`] sums.

use crate::diagnostics::profile::ResourceSample;
use crate::diagnostics::profile::system::{ProcessUsage, total_memory_bytes};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::thread::available_parallelism;
use std::time::Duration;

/// Half an hour, as a rule.
const MAX_SAMPLES: usize = 1_800;
/// A shorter time says little about processors: the system counts in hundredths of a second.
const CLOSE: Duration = Duration::from_millis(450);

/// What one process uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ProcessUse {
    /// How many processors it kept busy since the look before; `None` at the first.
    pub(super) cpus: Option<f64>,
    pub(super) memory_bytes: u64,
    /// Of this, what it shares with nobody; this is what a limit counts.
    pub(super) own_bytes: u64,
}

/// What all of them use together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) cpus: f64,
    pub(super) memory_bytes: u64,
    pub(super) num_processes: usize,
}

#[derive(Default)]
struct State {
    looked_ns: Option<u64>,
    /// With the processor time that it has used in all.
    by_pid: HashMap<u32, (Duration, ProcessUse)>,
    sum: Sum,
    /// Times are since the dashboard was made.
    samples: VecDeque<ResourceSample>,
}

/// See the [module](self).
pub(super) struct Resources {
    pub(super) num_cpus: usize,
    /// What the machine has.
    pub(super) total_memory_bytes: Option<u64>,
    state: Mutex<State>,
}

impl Resources {
    pub(super) fn new() -> Self {
        let num_cpus = available_parallelism().map_or(1, |number| number.get());
        Resources { num_cpus, total_memory_bytes: total_memory_bytes(), state: Mutex::default() }
    }

    /// Looks at this process and the workers with these numbers.
    pub(super) fn look(&self, now_ns: u64, workers: &[u32]) {
        let mut state = self.state.lock();
        let since = state.looked_ns.map(|before| Duration::from_nanos(now_ns.saturating_sub(before)));
        if since.is_some_and(|since| since < CLOSE) {
            return;
        }
        let here = std::process::id();
        let mut by_pid = HashMap::new();
        let mut sum = Sum::default();
        for &pid in std::iter::once(&here).chain(workers) {
            // The number of a worker that has ended may have been given to another process.
            let Some(now) = ProcessUsage::of(pid).filter(|it| pid == here || it.parent == here) else { continue };
            let before = state.by_pid.get(&pid).map(|(cpu_time, _)| *cpu_time);
            let cpus = before.zip(since).map(|(before, since)| {
                now.cpu_time.saturating_sub(before).as_secs_f64() / since.as_secs_f64().max(1e-9)
            });
            let ProcessUsage { memory_bytes, own_bytes, .. } = now;
            sum.cpus += cpus.unwrap_or(0.0);
            sum.memory_bytes += memory_bytes;
            sum.num_processes += 1;
            by_pid.insert(pid, (now.cpu_time, ProcessUse { cpus, memory_bytes, own_bytes }));
        }
        state.looked_ns = Some(now_ns);
        state.by_pid = by_pid;
        state.sum = sum;
        if sum.num_processes > 0 && since.is_some() {
            if state.samples.len() == MAX_SAMPLES {
                state.samples.pop_front();
            }
            let Sum { cpus, memory_bytes, num_processes } = sum;
            let at = Duration::from_nanos(now_ns);
            state.samples.push_back(ResourceSample { at, cpus, memory_bytes, num_processes });
        }
    }

    /// At the last look. `None` if the process was not there, or the system does not tell.
    pub(super) fn of(&self, pid: u32) -> Option<ProcessUse> {
        self.state.lock().by_pid.get(&pid).map(|(_, process)| *process)
    }

    /// At the last look.
    pub(super) fn sum(&self) -> Sum {
        self.state.lock().sum
    }

    /// The sums in a span of time.
    pub(super) fn between(&self, from: Duration, to: Duration) -> Vec<ResourceSample> {
        self.state.lock().samples.iter().filter(|sample| sample.at >= from && sample.at <= to).copied().collect()
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn looks_that_follow_closely_are_one_and_strangers_are_not_counted() {
        let resources = Resources::new();
        let here = std::process::id();
        // The first process of the system is no child of this one.
        resources.look(1_000_000_000, &[1, u32::MAX]);
        let first = resources.of(here).expect("this process is there");
        assert!(first.cpus.is_none() && first.memory_bytes > first.own_bytes && first.own_bytes > 0);
        assert_eq!((resources.sum().num_processes, resources.of(1)), (1, None));
        resources.look(1_100_000_000, &[]);
        assert_eq!(resources.of(here), Some(first));
        resources.look(2_000_000_000, &[]);
        assert!(resources.of(here).is_some_and(|now| now.cpus.is_some()));
        assert_eq!(resources.between(Duration::ZERO, Duration::MAX).len(), 1);
        assert_eq!(resources.between(Duration::from_secs(3), Duration::MAX).len(), 0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let resources = Resources::new();
        (0..3_000).for_each(|second| resources.look(second * 1_000_000_000, &[]));
        assert_eq!(resources.between(Duration::ZERO, Duration::MAX).len(), MAX_SAMPLES);
    }
}
