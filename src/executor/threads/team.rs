//! The workers of one run: their shared state, the leader, and the observer that makes the run
//! parallel.

#![expect(unsafe_code, reason = "the leader runs tasks through the engine, in the order of their ids")]

use super::active_workers::ActiveWorkers;
use super::handover::{Handover, register_barrier};
use super::helpers::Helpers;
use super::range::Range;
use super::worker::Driver;
use crate::engine::{Run, RunAccess, in_run};
use crossbeam_deque::{Stealer, Worker as Deque};
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// A run becomes parallel when its tasks take longer than this on average.
///
/// For smaller tasks, the cache misses that two threads cause each other cost more than the second
/// thread gains. The threshold depends on the distance between the cores, and on whether tasks read
/// recently made values: see [`Team::sharing_threshold`]. With a threshold of 15 ns in all cases a
/// graph with random inputs took 1.1 to 1.4 times as long on two workers as on one.
const WORTH_SHARING: Duration = Duration::from_nanos(40);
/// The threshold if the cores are near each other and tasks read recently made values.
const WORTH_SHARING_NEARBY: Duration = Duration::from_nanos(18);
/// Two cores are near each other if a cache line takes at most this long between them. It took 20
/// ns between two cores of a Zen 5 die, and 130 ns between cores of different dies.
const NEARBY: Duration = Duration::from_nanos(60);
/// An input this many tasks back is probably not in the second-level cache: the cells of that many
/// tasks fill half of it.
const FAR_BACK: u32 = 16 << 10;

/// With at least this many tasks between two observations, their mean time is reliable.
const STEADY: u32 = 8;

/// The cost of making a run parallel, for each remaining task.
///
/// A leader that does not advance may be in a long task, or may have been preempted. The observer
/// waits as long as the handover would cost, at most [`LONGEST_WAIT`], before it assumes a long
/// task.
const HANDOVER_COST: Duration = Duration::from_nanos(30);
const LONGEST_WAIT: Duration = Duration::from_millis(1);

/// The pause before the observer's first observation; it doubles each time up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_micros(4);
const LONGEST_PAUSE: Duration = Duration::from_micros(200);

/// How many tasks the leader runs before it checks whether to request an observer again.
const TASKS_BETWEEN_REQUESTS: u32 = 256;

/// A task is held back until its turn if its rank is more than this many tasks per worker after its
/// last input.
const SLACK: u32 = 4;

/// The shared state of the workers of one run.
pub(super) struct Team {
    /// Weak, so that a helper that starts late keeps nothing of the run alive.
    run: Weak<Run>,
    helpers: Helpers,
    num_tasks: u32,
    num_workers: usize,
    handover: Handover,
    pub(super) active_workers: ActiveWorkers,
    pub(super) slots: Box<[CachePadded<WorkerSlot>]>,
    /// The first unclaimed entry of the start list.
    pub(super) cursor: CachePadded<AtomicU64>,
    /// Whether the leader sleeps until it is woken or the run ends.
    leader_sleeps: AtomicBool,
    /// How often a worker has been wanted since a helper last declined.
    wanted: AtomicU32,
    has_declined: AtomicBool,
    num_requested: AtomicU32,
    num_started: AtomicU32,
    /// Tasks that waited for a retry and can run again, and their number.
    due: Mutex<Vec<u32>>,
    num_due: AtomicUsize,
}

/// The queues of one worker, from which others may steal. A worker claims a free slot when it
/// starts.
pub(super) struct WorkerSlot {
    deque: Mutex<Option<Deque<u32>>>,
    pub(super) stealer: OnceLock<Stealer<u32>>,
    pub(super) range: Range,
}

impl Team {
    pub(super) fn new(run: &Arc<Run>, num_workers: usize, helpers: Helpers) -> Arc<Self> {
        let slot = || {
            CachePadded::new(WorkerSlot { deque: Mutex::new(None), stealer: OnceLock::new(), range: Range::empty() })
        };
        Arc::new(Team {
            run: Arc::downgrade(run),
            helpers,
            num_tasks: run.num_tasks() as u32,
            num_workers,
            handover: Handover::new(),
            active_workers: ActiveWorkers::new(num_workers as u32),
            slots: (0..num_workers).map(|_| slot()).collect(),
            cursor: CachePadded::new(AtomicU64::new(0)),
            leader_sleeps: AtomicBool::new(false),
            wanted: AtomicU32::new(0),
            has_declined: AtomicBool::new(false),
            num_requested: AtomicU32::new(0),
            num_started: AtomicU32::new(0),
            due: Mutex::default(),
            num_due: AtomicUsize::new(0),
        })
    }

    /// Runs the run to its end on the calling thread, with the helpers that join.
    pub(super) fn lead(self: &Arc<Self>, access: &RunAccess<'_>) {
        self.request_helper();
        let num_tasks = self.num_tasks;
        let leader_barrier = self.handover.leader_barrier();
        let mut next = 0;
        // The loop of the sync executor, plus an announcement of each task.
        while next < num_tasks {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                while next < num_tasks {
                    let pause = num_tasks.min(next.saturating_add(TASKS_BETWEEN_REQUESTS));
                    while next < pause {
                        if !self.handover.announce(next, leader_barrier) {
                            return LeadOutcome::HandedOver;
                        }
                        next += 1;
                        // SAFETY: ids are a topological order, and every task with a lower id is
                        // finished or failed, so the inputs are settled. Each task is announced
                        // before it is run, so by the handover protocol no other worker runs it.
                        if !unsafe { access.run(next - 1) } {
                            return LeadOutcome::Stopped;
                        }
                    }
                    self.request_again();
                }
                LeadOutcome::ToTheEnd
            }));
            match outcome {
                Ok(LeadOutcome::HandedOver) => return self.follow(access, next),
                Ok(LeadOutcome::Stopped) => return,
                Ok(LeadOutcome::ToTheEnd) => {}
                Err(payload) => {
                    if !access.panicked(next - 1, payload) {
                        return;
                    }
                }
            }
        }
        // Tells the observer that there is nothing left to hand over.
        self.handover.announce(num_tasks, leader_barrier);
        access.finish(num_tasks as usize);
    }

    /// The leader continues as a worker. It had announced the task `next` when it found the
    /// request.
    fn follow(self: &Arc<Self>, access: &RunAccess<'_>, next: u32) {
        let (first_counted, boundary) = wait_for(|| self.handover.decided());
        if boundary == next {
            // SAFETY: as in `lead`. The boundary is the leader's last task (handover step 3).
            let last = catch_unwind(AssertUnwindSafe(|| unsafe { access.run(next) }));
            if !last.unwrap_or_else(|payload| access.panicked(next, payload)) {
                return;
            }
        }
        if boundary + 1 >= self.num_tasks {
            // No task is left to share, and the observer knows it.
            access.finish(self.num_tasks as usize);
            return;
        }
        let mut driver = self.driver(access);
        // The observer notifies the dependents of the other counted tasks (handover step 4).
        driver.begin_after(first_counted);
        driver.settle_led(boundary..boundary + 1, boundary);
        self.drive_to_the_end(access, driver);
    }

    /// Runs the run to its end as a worker, on the calling thread and with the helpers that join.
    /// Tasks that wait for a retry occupy no thread.
    pub(super) fn work_together(self: &Arc<Self>, run: &Run, access: &RunAccess<'_>) {
        let team = Arc::downgrade(self);
        run.defer_retries(move |id| {
            if let Some(team) = team.upgrade() {
                team.retry(id);
            }
        });
        // Stopping the run wakes this thread, which may sleep until a retry.
        let _listener = run.stop_on_cancel();
        access.prepare_parallel(0, SLACK.saturating_mul(self.num_workers as u32));
        // Helpers find that there is nothing to observe.
        self.handover.decide(0, 0);
        self.drive_to_the_end(access, self.driver(access));
    }

    fn drive_to_the_end(self: &Arc<Self>, access: &RunAccess<'_>, mut driver: Driver<'_>) {
        loop {
            driver.drive();
            if driver.is_over() || !self.sleep(access) {
                break;
            }
        }
        self.release_slot(driver);
        if access.is_finished() {
            // Workers that still search for tasks find none, and touch nothing else.
            access.close_finished();
        }
    }

    // ---- retries ----

    /// A task that waited for a retry can run again, on any worker.
    fn retry(self: &Arc<Self>, id: u32) {
        {
            let mut due = self.due.lock();
            due.push(id);
            self.num_due.store(due.len(), SeqCst);
        }
        if self.active_workers.has_room() {
            // Not `offer`: all workers may have left, and this task has waited long enough.
            self.request_helper();
        }
    }

    /// Takes a task that can run again.
    #[inline]
    pub(super) fn take_due(&self) -> Option<u32> {
        if self.num_due.load(Relaxed) == 0 {
            return None;
        }
        let mut due = self.due.lock();
        let task = due.pop();
        self.num_due.store(due.len(), SeqCst);
        task
    }

    // ---- requesting helpers ----

    /// Call it after making a task available: requests another worker if there is room.
    #[inline]
    pub(super) fn offer(self: &Arc<Self>) {
        if self.active_workers.has_room() {
            self.request_if_wanted();
        }
    }

    #[cold]
    fn request_if_wanted(self: &Arc<Self>) {
        // After a helper has declined, others may too: request with growing intervals.
        if self.has_declined.load(Relaxed) && !(self.wanted.fetch_add(1, Relaxed) + 1).is_power_of_two() {
            return;
        }
        self.request_helper();
    }

    fn request_helper(self: &Arc<Self>) {
        if !self.active_workers.join() {
            return;
        }
        if self.leader_sleeps.swap(false, SeqCst) {
            if let Some(run) = self.run.upgrade() {
                run.notify();
            }
            return;
        }
        self.num_requested.fetch_add(1, Relaxed);
        // Weak, so that a job that starts late keeps nothing of the run alive.
        let team = Arc::downgrade(self);
        self.helpers.call(self.num_workers - 1, self.key(), move || {
            if let Some(team) = team.upgrade() {
                team.help();
            }
            // For later runs.
            register_barrier();
        });
    }

    /// At the end of the run: withdraws the requests that no helper has answered.
    pub(super) fn withdraw_helpers(self: &Arc<Self>) {
        if self.num_started.load(Relaxed) < self.num_requested.load(Relaxed) {
            self.helpers.withdraw(self.key());
        }
    }

    fn key(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    /// Requests an observer again if the first one declined.
    fn request_again(self: &Arc<Self>) {
        if self.has_declined.load(Relaxed) && self.active_workers.is_alone() {
            self.request_if_wanted();
        }
    }

    /// The leader found no task: it sleeps until it is woken or the run ends. Returns true if it
    /// was woken.
    fn sleep(&self, access: &RunAccess<'_>) -> bool {
        self.leader_sleeps.store(true, SeqCst);
        self.active_workers.leave();
        if self.has_work(access) && self.active_workers.join() {
            if !self.leader_sleeps.swap(false, SeqCst) {
                // Another worker has woken the leader at the same time, and has counted it too.
                self.active_workers.leave();
            }
            return true;
        }
        access.wait_or(|| !self.leader_sleeps.load(SeqCst))
    }

    // ---- helping ----

    /// The job of a helper: observe if the leader still leads, then work.
    fn help(self: Arc<Self>) {
        self.num_started.fetch_add(1, Relaxed);
        if in_run() {
            // A thread of the program's pool that waits inside a task (rule 3 of the executor).
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
            let is_over = run.enter(|access| {
                let mut driver = self.driver(access);
                if let Some((first_counted, boundary)) = led.take() {
                    driver.settle_led(first_counted..boundary, boundary);
                }
                driver.drive();
                let is_over = driver.is_over();
                self.release_slot(driver);
                self.active_workers.leave();
                is_over || !(self.has_work(access) && self.active_workers.join())
            });
            if is_over.unwrap_or(true) {
                return;
            }
        }
    }

    /// Observes the leader's progress, and makes the run parallel when that pays. Returns the first
    /// counted task and the boundary if it did.
    fn observe(&self) -> Option<(u32, u32)> {
        let sharing_threshold = self.sharing_threshold()?;
        let mut pause = FIRST_PAUSE;
        let mut seen = (self.handover.position(), Instant::now());
        let mut slow_for = Duration::ZERO;
        let mut was_steady = false;
        loop {
            pause_for(pause);
            let now = (self.handover.position(), Instant::now());
            // The leader runs the current task; there must be one after it.
            if now.0 + 1 >= self.num_tasks || self.run.strong_count() == 0 {
                return None;
            }
            let (num_tasks, time) = (now.0 - seen.0, now.1 - seen.1);
            let is_slow = time >= sharing_threshold * num_tasks.max(1);
            let is_steady = is_slow && num_tasks >= STEADY;
            slow_for = if is_slow { slow_for + time } else { Duration::ZERO };
            let has_waited = slow_for >= (HANDOVER_COST * (self.num_tasks - now.0)).min(LONGEST_WAIT);
            if is_slow && (has_waited || is_steady && was_steady) {
                return self.make_parallel();
            }
            was_steady = is_steady;
            seen = now;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// How long tasks of this run must take to be worth sharing; `None` if the run is over.
    fn sharing_threshold(&self) -> Option<Duration> {
        if self.line_transfer_time().is_none_or(|transfer| transfer > NEARBY) {
            return Some(WORTH_SHARING);
        }
        let reads_far_back = self.run.upgrade()?.enter(|access| self.reads_far_back(access))?;
        Some(if reads_far_back { WORTH_SHARING } else { WORTH_SHARING_NEARBY })
    }

    /// How long a cache line takes from the leader's core to this one: the cost of reading a
    /// position that has just changed. `None` if it changed too rarely to measure.
    fn line_transfer_time(&self) -> Option<Duration> {
        const ENOUGH: u32 = 16;
        let mut num_changes = 0;
        let mut transfer = Duration::MAX;
        let mut clock = Duration::MAX;
        let mut seen = self.handover.position();
        let start = Instant::now();
        let mut before = start;
        while num_changes < ENOUGH && before - start < FIRST_PAUSE {
            let position = self.handover.position();
            let after = Instant::now();
            if position != seen {
                num_changes += 1;
                transfer = transfer.min(after - before);
            }
            seen = position;
            before = Instant::now();
            clock = clock.min(before - after);
        }
        (num_changes >= ENOUGH / 2).then(|| transfer.saturating_sub(clock))
    }

    /// Whether the remaining tasks read values that were made long before, judged by a sample.
    fn reads_far_back(&self, access: &RunAccess<'_>) -> bool {
        const SAMPLE: u32 = 32;
        let left = self.handover.position()..self.num_tasks;
        let sample = left.step_by((self.num_tasks / SAMPLE).max(1) as usize);
        let distances = sample.flat_map(|id| access.plan().inputs(id).iter().map(move |&input| id - input));
        let (num_inputs, num_far) =
            distances.fold((0, 0), |(all, far), distance| (all + 1, far + u32::from(distance > FAR_BACK)));
        4 * num_far > num_inputs
    }

    /// Makes the run parallel, unless it is over or no task is left to share.
    fn make_parallel(&self) -> Option<(u32, u32)> {
        self.run.upgrade()?.enter(|access| {
            if access.is_stopped() {
                return None;
            }
            let first_counted = self.handover.position();
            access.prepare_parallel(first_counted, SLACK.saturating_mul(self.num_workers as u32));
            let boundary = self.handover.request();
            // The start list may begin with tasks that the leader has run meanwhile.
            let begin = access.starts().partition_point(|&id| id <= boundary);
            self.cursor.store(begin as u64, SeqCst);
            self.handover.decide(first_counted, boundary);
            (boundary + 1 < self.num_tasks).then_some((first_counted, boundary))
        })?
    }

    // ---- slots ----

    /// Claims a free slot.
    fn driver<'t>(self: &'t Arc<Self>, access: &'t RunAccess<'t>) -> Driver<'t> {
        // There are as many slots as active workers, and a worker releases its slot before it
        // leaves.
        let (index, deque) = wait_for(|| {
            self.slots.iter().enumerate().find_map(|(index, slot)| {
                let mut deque = slot.deque.try_lock()?;
                if slot.stealer.get().is_none() {
                    let new = Deque::new_lifo();
                    let _ = slot.stealer.set(new.stealer());
                    *deque = Some(new);
                }
                Some((index, deque.take()?))
            })
        });
        Driver::new(self, access, index, deque)
    }

    fn release_slot(&self, driver: Driver<'_>) {
        let (index, deque) = driver.into_slot();
        *self.slots[index].deque.lock() = Some(deque);
    }

    /// Whether a worker could take a task.
    pub(super) fn has_work(&self, access: &RunAccess<'_>) -> bool {
        let is_queued = |slot: &WorkerSlot| slot.stealer.get().is_some_and(|s| !s.is_empty()) || !slot.range.is_empty();
        self.num_due.load(SeqCst) > 0
            || self.cursor.load(SeqCst) < access.starts().len() as u64
            || self.slots.iter().any(|slot| is_queued(slot))
    }
}

/// How leading ended.
enum LeadOutcome {
    ToTheEnd,
    HandedOver,
    Stopped,
}

/// Waits for another thread that is about to provide the value.
fn wait_for<T>(mut get: impl FnMut() -> Option<T>) -> T {
    let backoff = crossbeam_utils::Backoff::new();
    loop {
        if let Some(value) = get() {
            return value;
        }
        backoff.snooze();
    }
}

/// Spins for short pauses and sleeps for longer ones: sleeping and waking takes some 50 µs.
fn pause_for(pause: Duration) {
    if pause > Duration::from_micros(50) {
        return std::thread::sleep(pause);
    }
    let start = Instant::now();
    while start.elapsed() < pause {
        std::hint::spin_loop();
    }
}
