//! The loop of a worker, once a run is parallel.
//!
//! A worker owns a deque of ready tasks. After each task it runs the best of the tasks that this made ready, and pushes the others, worst
//! first, so that it pops the best first and thieves get the worst. It looks for tasks in this order: its deque; its share of the start
//! list; other workers' deques and shares; a further share of the start list.
//!
//! It counts the tasks it has done for itself, and adds them to the run's count when it has nothing to do: so there is no counter that
//! all workers write to for each task.

#![expect(unsafe_code, reason = "it runs tasks through the engine, whose contract it upholds")]

use super::team::Team;
use crate::engine::{ParallelRef, RunAccess};
use crossbeam_deque::{Steal, Worker as Deque};
use std::hint::spin_loop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How many rounds without a task a worker spins, ever longer, then yields, before it leaves.
const SPINNING_ROUNDS: u32 = 64;
const ROUNDS: u32 = 96;
/// Spins between two rounds, at most.
const LONGEST_SPIN: u32 = 64;
/// The largest share of the start list that a worker claims at once; doubled as long as a share lasts less than `SHORT_SHARE`.
const LARGEST_SHARE: u64 = 64;
const SHORT_SHARE: Duration = Duration::from_micros(10);

/// A worker on its seat.
pub(super) struct Driver<'t> {
    team: &'t Arc<Team>,
    worker: &'t RunAccess<'t>,
    parallel: ParallelRef<'t>,
    starts: &'t [u32],
    seat: usize,
    deque: Deque<u32>,
    /// The task that is running, for panics.
    current: u32,
    /// Tasks done and not yet added to the run's count.
    num_done: usize,
    is_over: bool,
    share: u64,
    last_claim: Instant,
}

impl<'t> Driver<'t> {
    pub(super) fn new(team: &'t Arc<Team>, worker: &'t RunAccess<'t>, seat: usize, deque: Deque<u32>) -> Self {
        Driver {
            team,
            worker,
            parallel: worker.parallel(),
            starts: worker.starts(),
            seat,
            deque,
            current: 0,
            num_done: 0,
            is_over: false,
            share: 1,
            last_claim: Instant::now(),
        }
    }

    pub(super) fn into_seat(self) -> (usize, Deque<u32>) {
        (self.seat, self.deque)
    }

    /// Whether the run has finished or been stopped.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Counts the tasks that the leader has run before the counters begin.
    pub(super) fn begin_after(&mut self, first_counted: u32) {
        self.num_done = first_counted as usize;
    }

    /// Tells the dependents of tasks that the leader has run; the leader has seen to all up to `boundary` itself.
    pub(super) fn settle_led(&mut self, tasks: Range<u32>, boundary: u32) {
        for id in tasks {
            if let Some(next) = self.settle_after(id, boundary) {
                self.deque.push(next);
                self.team.offer();
            }
        }
    }

    /// Runs tasks until there has been none for a while, or the run is over.
    pub(super) fn drive(&mut self) {
        // Around the loop, not around each task; it is entered again only after a panic.
        while let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.work())) {
            if !self.worker.panicked(self.current, payload) {
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
                // SAFETY: `id` was found or handed on by `arrive`, which tells one worker of each task, once.
                if !unsafe { self.worker.run(id) } {
                    self.is_over = true;
                    return;
                }
                match self.settle(id) {
                    Some(next) => id = next,
                    None => break,
                }
            }
        }
    }

    /// Tells the dependents of a task that it is done. Gives the best of those that are ready now, and queues the others.
    #[inline(always)]
    fn settle(&mut self, id: u32) -> Option<u32> {
        // No dependent is the first task.
        self.settle_after(id, 0)
    }

    /// As [`Driver::settle`]; dependents up to `boundary` have run already.
    #[inline(always)]
    fn settle_after(&mut self, id: u32, boundary: u32) -> Option<u32> {
        self.num_done += 1;
        let mut best = None;
        let mut has_queued = false;
        for &dependent in self.worker.dependents().of(id).iter().rev() {
            if dependent > boundary
                && self.worker.arrive(&self.parallel, dependent)
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

    /// A task that is ready, from wherever there is one. `None` to leave.
    fn find(&mut self) -> Option<u32> {
        for round in 0.. {
            if self.worker.is_stopped() {
                self.is_over = true;
                return None;
            }
            let found =
                self.deque.pop().or_else(|| self.take_start()).or_else(|| self.steal()).or_else(|| self.claim());
            if found.is_some() {
                return found;
            }
            self.report();
            if self.worker.is_finished() {
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

    /// Adds what this worker has done to the run's count.
    fn report(&mut self) {
        if self.num_done > 0 {
            self.worker.finish(std::mem::take(&mut self.num_done));
        }
    }

    /// The next task of this worker's share of the start list that waits for nothing else.
    fn take_start(&mut self) -> Option<u32> {
        let range = &self.team.seats[self.seat].range;
        while let Some(index) = range.take_first() {
            let id = self.starts[index as usize];
            if self.worker.arrive(&self.parallel, id) {
                return Some(id);
            }
        }
        None
    }

    /// A task, or half a share of the start list, of another worker.
    fn steal(&mut self) -> Option<u32> {
        if self.team.active_workers.is_alone() {
            return None;
        }
        let (before, from_here) = self.team.seats.split_at(self.seat);
        let (own, after) = from_here.split_first().expect("a worker has a seat");
        for seat in after.iter().chain(before) {
            let Some(stealer) = seat.stealer.get() else { continue };
            loop {
                match stealer.steal() {
                    Steal::Success(id) => {
                        // What is left is for somebody else.
                        self.team.offer();
                        return Some(id);
                    }
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
            }
            if let Some((start, end)) = seat.range.split() {
                own.range.fill(start, end);
                self.team.offer();
                if let Some(id) = self.take_start() {
                    return Some(id);
                }
            }
        }
        None
    }

    /// A task of a new share of the start list.
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
            self.team.seats[self.seat].range.fill(first as u32, last as u32);
            self.team.offer();
            if let Some(id) = self.take_start() {
                return Some(id);
            }
        }
        None
    }
}
