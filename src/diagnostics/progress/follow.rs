//! The progress of given futures, found by asking for their states.

use super::counts::{FamilyCounts, LineCounts, REDRAW};
use super::display::Display;
use crate::api::collection::{Collection, Listed};
use crate::client::{AnyFuture, Status};
use crate::diagnostics::picture::without_numbers;
use crate::per_process::spawn;
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Shows the progress of futures until they have settled or this guard is dropped. Made by
/// [`Progress::follow`](super::Progress::follow).
#[must_use = "futures are followed until this guard is dropped: bind it, or call `wait`"]
pub struct FutureProgress {
    shared: Arc<Follower>,
}

impl fmt::Debug for FutureProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FutureProgress").field("num_open", &self.shared.state.lock().open.len()).finish_non_exhaustive()
    }
}

/// Polls futures. No event reports how long they run, so it is derived from the states at each
/// poll.
struct Follower {
    state: Mutex<FollowerState>,
    changed: Condvar,
}

struct FollowerState {
    display: Display,
    counts: Arc<LineCounts>,
    open: Vec<OpenFuture>,
    last_poll: Instant,
    /// For each family the time that its futures have run, summed up.
    busy_ns: Vec<u64>,
}

/// A future that has not settled.
struct OpenFuture {
    future: AnyFuture,
    family: usize,
    running_since: Option<Instant>,
}

impl FutureProgress {
    pub(super) fn new(mut display: Display, futures: impl Collection<Listed>) -> Self {
        let all = AnyFuture::of(&futures);
        let now = Instant::now();
        let names: Vec<String> = all.iter().map(|future| without_numbers(&future.name())).collect();
        let title = match names.first() {
            Some(first) if names.iter().all(|name| name == first) => first.clone(),
            _ => "futures".to_owned(),
        };
        let counts = Arc::new(LineCounts::new(title, now, 0, None));
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let open: Vec<OpenFuture> = (all.into_iter().zip(&names))
            .map(|(future, name)| {
                let family = counts.family(name);
                family.num_tasks.fetch_add(1, Relaxed);
                let number = numbers.len();
                let family = *numbers.entry(family.name.clone()).or_insert(number);
                OpenFuture { future, family, running_since: None }
            })
            .collect();
        if !open.is_empty() {
            display.add(Arc::clone(&counts));
        }
        let mut state = FollowerState { display, counts, open, last_poll: now, busy_ns: vec![0; numbers.len()] };
        state.poll(now);
        state.counts.num_before.store(state.counts.num_done(), Relaxed);
        state.counts.families.lock().iter().for_each(|family| family.num_timed.store(0, Relaxed));
        let shared = Arc::new(Follower { state: Mutex::new(state), changed: Condvar::new() });
        let follower = Arc::clone(&shared);
        // Without a thread only the last state is drawn.
        let _thread =
            spawn(std::thread::Builder::new().name("sprang-progress".into()), move || follower.poll_until_end());
        FutureProgress { shared }
    }

    /// Waits until all futures have settled. In a task that is cancelled, the wait ends with the
    /// cancellation.
    pub fn wait(self) {
        let wait = AnyFuture::waiting(self.shared.state.lock().open.iter().map(|open| &open.future));
        wait();
    }
}

impl Drop for FutureProgress {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let now = Instant::now();
        state.poll(now);
        state.end(now);
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Follower {
    fn poll_until_end(&self) {
        let mut state = self.state.lock();
        while !state.display.is_empty() {
            let now = Instant::now();
            state.poll(now);
            if state.open.is_empty() {
                return state.end(now);
            }
            state.display.draw(now);
            self.changed.wait_for(&mut state, REDRAW);
        }
    }
}

impl FollowerState {
    /// Asks each open future for its state, and drops the settled ones.
    fn poll(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.last_poll).as_nanos() as u64;
        self.last_poll = now;
        let families: Vec<Arc<FamilyCounts>> = self.counts.families.lock().clone();
        let mut running: Vec<(u64, i64)> = vec![(0, 0); families.len()];
        let counts = &self.counts;
        let busy_ns = &mut self.busy_ns;
        self.open.retain_mut(|open| {
            let status = open.future.status();
            let family = &families[open.family];
            if status == Status::Running {
                busy_ns[open.family] += since;
                let began = *open.running_since.get_or_insert(now);
                let (num_running, starts_ns) = &mut running[open.family];
                *num_running += 1;
                *starts_ns += counts.since_start(began);
            }
            if matches!(status, Status::Finished | Status::Failed) {
                family.num_timed.fetch_add(1, Relaxed);
            }
            match status {
                Status::Failed => _ = counts.num_failed.fetch_add(1, Relaxed),
                Status::Cancelled => _ = counts.num_cancelled.fetch_add(1, Relaxed),
                Status::Lost => _ = counts.num_lost.fetch_add(1, Relaxed),
                _ => {}
            }
            family.num_done.fetch_add(u64::from(status.is_settled()), Relaxed);
            !status.is_settled()
        });
        for ((family, &busy_ns), &(num_running, starts_ns)) in families.iter().zip(&self.busy_ns).zip(&running) {
            family.num_running.store(num_running as i64, Relaxed);
            family.starts_ns.store(starts_ns, Relaxed);
            let so_far_ns = num_running as i64 * counts.since_start(now) - starts_ns;
            family.timed_ns.store(busy_ns.saturating_sub(so_far_ns.max(0) as u64), Relaxed);
        }
    }

    fn end(&mut self, now: Instant) {
        let counts = Arc::clone(&self.counts);
        self.display.end(&counts, now, None);
    }
}
