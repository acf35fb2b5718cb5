//! The workers of one run: what they share, how the run begins, and how it becomes parallel.

#![expect(
    unsafe_code,
    reason = "the leader runs tasks through the engine, whose contract it upholds by going in the order of the ids"
)]

use super::active_workers::ActiveWorkers;
use super::handover::{Handover, ask_for_barrier};
use super::helpers::Helpers;
use super::range::Range;
use super::worker::Driver;
use crate::engine::{Run, RunAccess, in_run};
use crossbeam_deque::{Stealer, Worker as Deque};
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// A run becomes parallel when its tasks take longer than this on average.
///
/// Below, what two threads do to each other's caches costs more than the second one brings. That depends on how far apart they are, and on
/// whether tasks read what lies close together: see [`Team::worth_sharing`]. With a threshold of 15 ns in all cases a graph with random inputs took 1.1
/// to 1.4 times as long on two workers as on one.
const WORTH_SHARING: Duration = Duration::from_nanos(40);
/// The same where a cache line is quickly in the other core, and tasks read what was made not long before.
const WORTH_SHARING_NEARBY: Duration = Duration::from_nanos(18);
/// Up to which time for the way of a cache line two cores are near each other. It was 20 ns between two cores of a Zen 5 die, and 130 ns where the
/// system had them on different ones.
const NEARBY: Duration = Duration::from_nanos(60);
/// So many tasks further back, their cells fill half of a second-level cache.
const FAR_BACK: u32 = 16 << 10;

/// So many tasks between two looks say how long a task takes.
const STEADY: u32 = 8;

/// What it costs, for each task that is left, to make a run parallel.
///
/// A leader that stands still may be in a long task, or may have been put aside by the system for a moment. So the observer waits as
/// long as the handover would cost, at most [`LONGEST_WAIT`], before it believes the first.
const HANDOVER_COST: Duration = Duration::from_nanos(30);
const LONGEST_WAIT: Duration = Duration::from_millis(1);

/// How long the observer watches before it judges for the first time; it doubles with each look.
const FIRST_LOOK: Duration = Duration::from_micros(4);
const LAST_LOOK: Duration = Duration::from_micros(200);

/// How many tasks the leader runs before it sees whether an observer has to be called again.
const TASKS_BETWEEN_CALLS: u32 = 256;

/// How far a task's turn may lie behind its last input, in tasks for each worker, before the task is held back.
const SLACK: u32 = 4;

/// What the workers of one run share.
pub(super) struct Team {
    /// Weak, so that a helper which comes late keeps nothing of the run.
    run: Weak<Run>,
    helpers: Helpers,
    num_tasks: u32,
    num_workers: usize,
    handover: Handover,
    pub(super) active_workers: ActiveWorkers,
    pub(super) seats: Box<[CachePadded<Seat>]>,
    /// The first entry of the start list that nobody has claimed.
    pub(super) cursor: CachePadded<AtomicU64>,
    /// Whether the leader sleeps until it is called or the run ends.
    leader_sleeps: AtomicBool,
    /// How often a worker has been wanted since the last one that was called had to decline.
    wanted: AtomicU32,
    has_declined: AtomicBool,
    num_called: AtomicU32,
    num_come: AtomicU32,
}

/// What one worker has that others may take from. A worker takes a free seat when it comes.
pub(super) struct Seat {
    deque: Mutex<Option<Deque<u32>>>,
    pub(super) stealer: OnceLock<Stealer<u32>>,
    pub(super) range: Range,
}

impl Team {
    pub(super) fn new(run: &Arc<Run>, num_workers: usize, helpers: Helpers) -> Arc<Self> {
        let seat =
            || CachePadded::new(Seat { deque: Mutex::new(None), stealer: OnceLock::new(), range: Range::empty() });
        Arc::new(Team {
            run: Arc::downgrade(run),
            helpers,
            num_tasks: run.num_tasks() as u32,
            num_workers,
            handover: Handover::new(),
            active_workers: ActiveWorkers::new(num_workers as u32),
            seats: (0..num_workers).map(|_| seat()).collect(),
            cursor: CachePadded::new(AtomicU64::new(0)),
            leader_sleeps: AtomicBool::new(false),
            wanted: AtomicU32::new(0),
            has_declined: AtomicBool::new(false),
            num_called: AtomicU32::new(0),
            num_come: AtomicU32::new(0),
        })
    }

    /// Carries the run to its end on the calling thread, with all the help that comes.
    pub(super) fn lead(self: &Arc<Self>, worker: &RunAccess<'_>) {
        self.call();
        let num_tasks = self.num_tasks;
        let light = self.handover.light();
        let mut next = 0;
        // The loop of the sync executor, which announces each task.
        while next < num_tasks {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                while next < num_tasks {
                    let pause = num_tasks.min(next.saturating_add(TASKS_BETWEEN_CALLS));
                    while next < pause {
                        if !self.handover.announce(next, light) {
                            return Led::HandedOver;
                        }
                        next += 1;
                        // SAFETY: every task with a lower id is finished or failed; each is run once, here or after the handover.
                        if !unsafe { worker.run(next - 1) } {
                            return Led::Stopped;
                        }
                    }
                    self.call_again();
                }
                Led::ToTheEnd
            }));
            match outcome {
                Ok(Led::HandedOver) => return self.follow(worker, next),
                Ok(Led::Stopped) => return,
                Ok(Led::ToTheEnd) => {}
                Err(payload) => {
                    if !worker.panicked(next - 1, payload) {
                        return;
                    }
                }
            }
        }
        // Tells an observer that there is nothing to take over any more.
        self.handover.announce(num_tasks, light);
        worker.finish(num_tasks as usize);
    }

    /// The leader goes on as one of many. It had announced the task `next` when it found the request.
    fn follow(self: &Arc<Self>, worker: &RunAccess<'_>, next: u32) {
        let (first_counted, boundary) = wait_for(|| self.handover.decided());
        if boundary == next {
            // SAFETY: as in `lead`; the tasks after this one are no longer ours.
            let last = catch_unwind(AssertUnwindSafe(|| unsafe { worker.run(next) }));
            if !last.unwrap_or_else(|payload| worker.panicked(next, payload)) {
                return;
            }
        }
        if boundary + 1 >= self.num_tasks {
            // There is nothing left to share, and the observer knows it.
            worker.finish(self.num_tasks as usize);
            return;
        }
        let mut driver = self.driver(worker);
        // The observer tells what has become of the others that are counted: it knows that they are done, and we may have been long.
        driver.begin_after(first_counted);
        driver.settle_led(boundary..boundary + 1, boundary);
        loop {
            driver.drive();
            if driver.is_over() || !self.sleep(worker) {
                break;
            }
        }
        self.give_back(driver);
        if worker.is_finished() {
            // Workers that are still looking for tasks will find none, and touch nothing else.
            worker.close_finished();
        }
    }

    // ---- calling others ----

    /// Says that there is something to take; calls another worker if there is room.
    #[inline]
    pub(super) fn offer(self: &Arc<Self>) {
        if self.active_workers.has_room() {
            self.call_wanted();
        }
    }

    #[cold]
    fn call_wanted(self: &Arc<Self>) {
        // Where a called worker has declined, others may too: ask ever less often.
        if self.has_declined.load(Relaxed) && !(self.wanted.fetch_add(1, Relaxed) + 1).is_power_of_two() {
            return;
        }
        self.call();
    }

    fn call(self: &Arc<Self>) {
        if !self.active_workers.join() {
            return;
        }
        if self.leader_sleeps.swap(false, SeqCst) {
            if let Some(run) = self.run.upgrade() {
                run.notify();
            }
            return;
        }
        self.num_called.fetch_add(1, Relaxed);
        // Weak, so that a job which is taken up late keeps nothing of the run.
        let team = Arc::downgrade(self);
        self.helpers.call(self.num_workers - 1, self.key(), move || {
            if let Some(team) = team.upgrade() {
                team.help();
            }
            // For the runs to come.
            ask_for_barrier();
        });
    }

    /// At the end of the run: who has not come need not come.
    pub(super) fn dismiss(self: &Arc<Self>) {
        if self.num_come.load(Relaxed) < self.num_called.load(Relaxed) {
            self.helpers.withdraw(self.key());
        }
    }

    fn key(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    /// While it leads, the leader has nothing to offer, but the observer may have declined.
    fn call_again(self: &Arc<Self>) {
        if self.has_declined.load(Relaxed) && self.active_workers.is_alone() {
            self.call_wanted();
        }
    }

    /// The leader has found nothing to do: sleeps until it is called or the run ends. True if it was called.
    fn sleep(&self, worker: &RunAccess<'_>) -> bool {
        self.leader_sleeps.store(true, SeqCst);
        self.active_workers.leave();
        if self.has_work(worker) && self.active_workers.join() {
            if !self.leader_sleeps.swap(false, SeqCst) {
                // Somebody has called at the same time, and counted us too.
                self.active_workers.leave();
            }
            return true;
        }
        worker.wait_or(|| !self.leader_sleeps.load(SeqCst))
    }

    // ---- helping ----

    /// What a helper does when it has been called.
    fn help(self: Arc<Self>) {
        self.num_come.fetch_add(1, Relaxed);
        if in_run() {
            // A thread of the program's pool, which waits inside a task (rule 3 of the executor).
            self.has_declined.store(true, Relaxed);
            self.wanted.store(0, Relaxed);
            self.active_workers.leave();
            return;
        }
        let mut led = None;
        if self.handover.decided().is_none() {
            led = self.observe();
            if led.is_none() {
                self.active_workers.leave();
                return;
            }
        }
        loop {
            let Some(run) = self.run.upgrade() else { return };
            let is_over = run.enter(|worker| {
                let mut driver = self.driver(worker);
                if let Some((first_counted, boundary)) = led.take() {
                    driver.settle_led(first_counted..boundary, boundary);
                }
                driver.drive();
                let is_over = driver.is_over();
                self.give_back(driver);
                self.active_workers.leave();
                is_over || !(self.has_work(worker) && self.active_workers.join())
            });
            if is_over.unwrap_or(true) {
                return;
            }
        }
    }

    /// Watches how the leader gets on. If it has made the run parallel, gives the first task that the counters count, and the boundary.
    fn observe(&self) -> Option<(u32, u32)> {
        let worth_sharing = self.worth_sharing()?;
        let mut pause = FIRST_LOOK;
        let mut seen = (self.handover.position(), Instant::now());
        let mut slow_for = Duration::ZERO;
        let mut was_steady = false;
        loop {
            wait_a_while(pause);
            let now = (self.handover.position(), Instant::now());
            // The task that is running is the leader's; there must be one after it.
            if now.0 + 1 >= self.num_tasks || self.run.strong_count() == 0 {
                return None;
            }
            let (num_tasks, time) = (now.0 - seen.0, now.1 - seen.1);
            let is_slow = time >= worth_sharing * num_tasks.max(1);
            let is_steady = is_slow && num_tasks >= STEADY;
            slow_for = if is_slow { slow_for + time } else { Duration::ZERO };
            let has_waited = slow_for >= (HANDOVER_COST * (self.num_tasks - now.0)).min(LONGEST_WAIT);
            if is_slow && (has_waited || is_steady && was_steady) {
                return self.take_over();
            }
            was_steady = is_steady;
            seen = now;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// How long tasks of this run must take to be worth sharing; `None` if it is over.
    fn worth_sharing(&self) -> Option<Duration> {
        if self.way_between_cores().is_none_or(|way| way > NEARBY) {
            return Some(WORTH_SHARING);
        }
        let reads_far_back = self.run.upgrade()?.enter(|worker| self.reads_far_back(worker))?;
        Some(if reads_far_back { WORTH_SHARING } else { WORTH_SHARING_NEARBY })
    }

    /// How long a cache line takes from the leader's core to this one: what it costs to look at a position that has just changed. `None` if it
    /// changed too seldom to tell.
    fn way_between_cores(&self) -> Option<Duration> {
        const ENOUGH: u32 = 16;
        let mut num_changes = 0;
        let mut way = Duration::MAX;
        let mut clock = Duration::MAX;
        let mut seen = self.handover.position();
        let start = Instant::now();
        let mut before = start;
        while num_changes < ENOUGH && before - start < FIRST_LOOK {
            let position = self.handover.position();
            let after = Instant::now();
            if position != seen {
                num_changes += 1;
                way = way.min(after - before);
            }
            seen = position;
            before = Instant::now();
            clock = clock.min(before - after);
        }
        (num_changes >= ENOUGH / 2).then(|| way.saturating_sub(clock))
    }

    /// Whether tasks of the rest of the run read values that were made long before them: a sample says so.
    fn reads_far_back(&self, worker: &RunAccess<'_>) -> bool {
        const SAMPLE: u32 = 32;
        let left = self.handover.position()..self.num_tasks;
        let sample = left.step_by((self.num_tasks / SAMPLE).max(1) as usize);
        let distances = sample.flat_map(|id| worker.plan().inputs(id).iter().map(move |&input| id - input));
        let (num_inputs, num_far) =
            distances.fold((0, 0), |(all, far), distance| (all + 1, far + u32::from(distance > FAR_BACK)));
        4 * num_far > num_inputs
    }

    /// Makes the run parallel, unless it is over or nothing is left to share.
    fn take_over(&self) -> Option<(u32, u32)> {
        self.run.upgrade()?.enter(|worker| {
            if worker.is_stopped() {
                return None;
            }
            let first_counted = self.handover.position();
            worker.prepare_parallel(first_counted, SLACK.saturating_mul(self.num_workers as u32));
            let boundary = self.handover.request();
            // The start list may begin with tasks that the leader has run in the meantime.
            let begin = worker.starts().partition_point(|&id| id <= boundary);
            self.cursor.store(begin as u64, SeqCst);
            self.handover.decide(first_counted, boundary);
            (boundary + 1 < self.num_tasks).then_some((first_counted, boundary))
        })?
    }

    // ---- seats ----

    /// Takes a free seat.
    fn driver<'t>(self: &'t Arc<Self>, worker: &'t RunAccess<'t>) -> Driver<'t> {
        // There are as many seats as workers can be on the active_workers, and a seat is given back before its worker leaves.
        let (index, deque) = wait_for(|| {
            self.seats.iter().enumerate().find_map(|(index, seat)| {
                let mut deque = seat.deque.try_lock()?;
                if seat.stealer.get().is_none() {
                    let new = Deque::new_lifo();
                    let _ = seat.stealer.set(new.stealer());
                    *deque = Some(new);
                }
                Some((index, deque.take()?))
            })
        });
        Driver::new(self, worker, index, deque)
    }

    fn give_back(&self, driver: Driver<'_>) {
        let (index, deque) = driver.into_seat();
        *self.seats[index].deque.lock() = Some(deque);
    }

    /// Whether there is a task that a worker could take.
    pub(super) fn has_work(&self, worker: &RunAccess<'_>) -> bool {
        let is_queued = |seat: &Seat| seat.stealer.get().is_some_and(|s| !s.is_empty()) || !seat.range.is_empty();
        self.cursor.load(SeqCst) < worker.starts().len() as u64 || self.seats.iter().any(|seat| is_queued(seat))
    }
}

/// How the leader's part ended.
enum Led {
    ToTheEnd,
    HandedOver,
    Stopped,
}

/// Waits for something that another thread is about to do.
fn wait_for<T>(mut get: impl FnMut() -> Option<T>) -> T {
    let backoff = crossbeam_utils::Backoff::new();
    loop {
        if let Some(value) = get() {
            return value;
        }
        backoff.snooze();
    }
}

/// Spins for a short while, sleeps for a longer one: to go to sleep and wake up takes some 50 µs.
fn wait_a_while(pause: Duration) {
    if pause > Duration::from_micros(50) {
        return std::thread::sleep(pause);
    }
    let start = Instant::now();
    while start.elapsed() < pause {
        std::hint::spin_loop();
    }
}
