//! The loop of a worker in a parallel run.
//!
//! A worker owns a deque of ready tasks. When a task finishes, the worker runs next the best task
//! that became ready by it, and pushes the others, worst first, so that it pops the best first and
//! thieves steal the worst. It searches for tasks in this order: its deque; its share of the start
//! list; the deques and shares of other workers; another share of the start list.
//!
//! A worker counts its finished tasks locally and adds them to the run's count when it runs out of
//! tasks. No counter is therefore written by all workers for each task.

#![expect(unsafe_code, reason = "it runs tasks through the engine, once each and after their inputs")]

use super::team::Team;
use crate::engine::{ParallelRef, RunAccess};
use crossbeam_deque::{Steal, Worker as Deque};
use std::hint::spin_loop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The rounds without a task that a worker spins, with growing pauses, before it yields.
const SPINNING_ROUNDS: u32 = 64;
/// The rounds without a task after which a worker leaves.
const ROUNDS: u32 = 96;
/// The most spins between two rounds.
const LONGEST_SPIN: u32 = 64;
/// The largest share of the start list that a worker claims at once. Shares double as long as a
/// share lasts less than `SHORT_SHARE`.
const LARGEST_SHARE: u64 = 64;
const SHORT_SHARE: Duration = Duration::from_micros(10);

/// A worker and the slot that it occupies.
pub(super) struct Driver<'t> {
    team: &'t Arc<Team>,
    access: &'t RunAccess<'t>,
    parallel: ParallelRef<'t>,
    starts: &'t [u32],
    slot: usize,
    deque: Deque<u32>,
    /// The running task, to which a panic is attributed.
    current: u32,
    /// Finished tasks not yet added to the run's count.
    num_done: usize,
    is_over: bool,
    share: u64,
    last_claim: Instant,
}

impl<'t> Driver<'t> {
    pub(super) fn new(team: &'t Arc<Team>, access: &'t RunAccess<'t>, slot: usize, deque: Deque<u32>) -> Self {
        Driver {
            team,
            access,
            parallel: access.parallel(),
            starts: access.starts(),
            slot,
            deque,
            current: 0,
            num_done: 0,
            is_over: false,
            share: 1,
            last_claim: Instant::now(),
        }
    }

    pub(super) fn into_slot(self) -> (usize, Deque<u32>) {
        (self.slot, self.deque)
    }

    /// Whether the run has finished or been stopped.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Counts the tasks that the leader has run before the first counted task.
    pub(super) fn begin_after(&mut self, first_counted: u32) {
        self.num_done = first_counted as usize;
    }

    /// Notifies the dependents of tasks that the leader has run. Dependents up to `boundary` have
    /// run already.
    pub(super) fn settle_led(&mut self, tasks: Range<u32>, boundary: u32) {
        for id in tasks {
            if let Some(next) = self.settle_after(id, boundary) {
                self.deque.push(next);
                self.team.offer();
            }
        }
    }

    /// Runs tasks until it finds none for a while, or the run is over.
    pub(super) fn drive(&mut self) {
        // Panics are caught around the loop, not around each task.
        while let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.work())) {
            if !self.access.panicked(self.current, payload) {
                self.is_over = true;
                return;
            }
            if let Some(next) = self.settle(self.current) {
                self.deque.push(next);
            }
        }
    }

    fn work(&mut self) {
        while let Some(mut id) = self.find() {
            loop {
                self.current = id;
                // SAFETY: `arrive` returned true for `id`, for the last input and to this worker
                // alone (rule 1 of `Run`). So its inputs are settled, and no other worker runs it.
                if !unsafe { self.access.run(id) } {
                    if self.access.is_stopped() {
                        self.is_over = true;
                        return;
                    }
                    // It waits for a retry.
                    break;
                }
                match self.settle(id) {
                    Some(next) => id = next,
                    None => break,
                }
            }
        }
    }

    /// Notifies the dependents of a finished task. Returns the best of the tasks that are now
    /// ready, and queues the others.
    #[inline(always)]
    fn settle(&mut self, id: u32) -> Option<u32> {
        // The first task depends on no other, so a boundary of 0 excludes nothing.
        self.settle_after(id, 0)
    }

    /// As [`Driver::settle`], but dependents up to `boundary` have run already.
    #[inline(always)]
    fn settle_after(&mut self, id: u32, boundary: u32) -> Option<u32> {
        self.num_done += 1;
        let mut best = None;
        let mut has_queued = false;
        for &dependent in self.access.dependents().of(id).iter().rev() {
            if dependent > boundary
                && self.access.arrive(&self.parallel, dependent)
                && let Some(other) = best.replace(dependent)
            {
                self.deque.push(other);
                has_queued = true;
            }
        }
        if has_queued {
            self.team.offer();
        }
        best
    }

    /// Finds a ready task. Returns `None` if the worker should leave.
    fn find(&mut self) -> Option<u32> {
        for round in 0.. {
            if self.access.is_stopped() {
                self.is_over = true;
                return None;
            }
            let found = self.team.take_due();
            let found = found
                .or_else(|| self.deque.pop())
                .or_else(|| self.take_start())
                .or_else(|| self.steal())
                .or_else(|| self.claim());
            if found.is_some() {
                return found;
            }
            self.report();
            if self.access.is_finished() {
                self.is_over = true;
                return None;
            }
            if round >= ROUNDS || self.team.active_workers.is_alone() {
                return None;
            }
            if round < SPINNING_ROUNDS {
                (0..(1 << round.min(31)).min(LONGEST_SPIN)).for_each(|_| spin_loop());
            } else {
                std::thread::yield_now();
            }
        }
        None
    }

    /// Adds the finished tasks of this worker to the run's count.
    fn report(&mut self) {
        if self.num_done > 0 {
            self.access.finish(std::mem::take(&mut self.num_done));
        }
    }

    /// Takes the next task of this worker's share of the start list that waits for nothing else.
    fn take_start(&mut self) -> Option<u32> {
        let range = &self.team.slots[self.slot].range;
        while let Some(index) = range.take_first() {
            let id = self.starts[index as usize];
            if self.access.arrive(&self.parallel, id) {
                return Some(id);
            }
        }
        None
    }

    /// Steals a task, or half a share of the start list, from another worker.
    fn steal(&mut self) -> Option<u32> {
        if self.team.active_workers.is_alone() {
            return None;
        }
        let (before, from_here) = self.team.slots.split_at(self.slot);
        let (own, after) = from_here.split_first().expect("a worker has a slot");
        for slot in after.iter().chain(before) {
            let Some(stealer) = slot.stealer.get() else { continue };
            loop {
                match stealer.steal() {
                    Steal::Success(id) => {
                        // Another worker may steal the rest.
                        self.team.offer();
                        return Some(id);
                    }
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
            }
            if let Some((start, end)) = slot.range.split() {
                own.range.fill(start, end);
                self.team.offer();
                if let Some(id) = self.take_start() {
                    return Some(id);
                }
            }
        }
        None
    }

    /// Claims another share of the start list and takes a task of it.
    fn claim(&mut self) -> Option<u32> {
        let end = self.starts.len() as u64;
        while self.team.cursor.load(Relaxed) < end {
            let now = Instant::now();
            self.share = if now - self.last_claim < SHORT_SHARE { (2 * self.share).min(LARGEST_SHARE) } else { 1 };
            self.last_claim = now;
            let first = self.team.cursor.fetch_add(self.share, Relaxed);
            if first >= end {
                break;
            }
            let last = (first + self.share).min(end);
            self.team.slots[self.slot].range.fill(first as u32, last as u32);
            self.team.offer();
            if let Some(id) = self.take_start() {
                return Some(id);
            }
        }
        None
    }
}
