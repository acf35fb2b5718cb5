//! The workers of a cluster, their resources, and the changes of their number.
//!
//! # What is always true
//!
//! 1. `num_active` counts the threads of a worker that run jobs or search for some. A thread that
//!    waits in a task is not counted: it gives up its place, and another thread may start. When the
//!    wait is over there may be one thread too many, which ends as soon as it searches for jobs.
//! 2. No two workers of the list have the same `index`, the number of their process in the pool. A
//!    worker that is leaving keeps its index until its last thread has ended.

use super::super::promise::Needs;
use super::dispatch::Taker;
use crate::executor::processes::WorkerCounts;
use crate::sorted::SortedMap;
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// What a worker of a cluster is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerState {
    /// It is not ready yet.
    Starting,
    /// It has nothing to do.
    Idle,
    /// It runs tasks.
    Busy,
    /// Its process is being replaced, because it is close to its memory limit.
    Paused,
    /// It finishes its running tasks and ends.
    Leaving,
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WorkerState::Starting => "starting",
            WorkerState::Idle => "idle",
            WorkerState::Busy => "busy",
            WorkerState::Paused => "paused",
            WorkerState::Leaving => "leaving",
        })
    }
}

/// One worker of a [`LocalCluster`](crate::LocalCluster), at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// The number of the worker. No other worker of the cluster ever has it.
    pub id: u32,
    /// The name of the worker, by which tasks can [request it](crate::Delayed::workers).
    pub name: String,
    /// The worker's process, once it has started; this process if the workers are threads.
    pub pid: Option<u32>,
    /// How many tasks the worker runs at once.
    pub num_threads: usize,
    /// The worker's memory limit in bytes, if it has one.
    pub memory_limit: Option<u64>,
    /// The memory that the worker's process uses, in bytes, if the system reports it.
    pub memory_used: Option<u64>,
    /// What the worker is doing.
    pub state: WorkerState,
    /// How many tasks the worker has run.
    pub num_done: u64,
    /// How many of the worker's processes have ended otherwise than on request: they crashed, were
    /// killed from outside, or were killed for a timeout, the memory limit or a cancelled task that
    /// did not end.
    pub num_deaths: u64,
    /// How many processes have taken the place of an earlier one, after a death, a
    /// [`restart`](crate::LocalCluster::restart), or between two tasks because of the memory limit
    /// or [`max_tasks_per_worker`](crate::config::ProcessSettings::max_tasks_per_worker). A new
    /// process starts when there is a task for it.
    pub num_restarts: u64,
}

/// How the workers of a cluster are made.
#[derive(Clone, Debug)]
pub(in crate::client) struct WorkerSettings {
    pub(super) threads_per_worker: NonZeroUsize,
    pub(super) max_workers: usize,
    pub(super) memory_limit: Option<u64>,
    pub(super) resources: Vec<(Arc<str>, f64)>,
}

/// Amounts of resources, in millionths. Integers come out even when tasks take and return them in
/// any order.
type Resources = SortedMap<Arc<str>, i64>;

fn millionths(amount: f64) -> i64 {
    (amount.max(0.0) * 1e6).round() as i64
}

/// One worker.
pub(in crate::client) struct Member {
    pub(in crate::client) id: u32,
    pub(in crate::client) name: Arc<str>,
    /// The number of its process in the pool.
    pub(super) index: u32,
    pub(super) num_threads: usize,
    num_active: AtomicUsize,
    num_busy: AtomicUsize,
    pub(super) num_done: AtomicU64,
    /// The deaths and restarts before this member, of the processes with its `index`.
    pub(super) counts_before: WorkerCounts,
    has_started: AtomicBool,
    pub(super) is_paused: AtomicBool,
    is_leaving: AtomicBool,
    free: Mutex<Resources>,
    total: Resources,
}

impl Member {
    fn new(settings: &WorkerSettings, id: u32, index: u32, counts_before: WorkerCounts) -> Arc<Self> {
        let mut total = Resources::new();
        for (name, amount) in &settings.resources {
            total.insert(Arc::clone(name), millionths(*amount));
        }
        Arc::new(Member {
            id,
            name: format!("worker-{id}").into(),
            index,
            num_threads: settings.threads_per_worker.get(),
            num_active: AtomicUsize::new(0),
            num_busy: AtomicUsize::new(0),
            num_done: AtomicU64::new(0),
            counts_before,
            has_started: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            free: Mutex::new(total.clone()),
            total,
        })
    }

    fn has(&self, resources: &Resources, needs: &Needs) -> bool {
        let has_enough = |(name, amount): &(Arc<str>, f64)| {
            !amount.is_nan() && resources.get(name).is_some_and(|has| *has >= millionths(*amount))
        };
        (needs.workers.is_empty() || needs.workers.contains(&self.name)) && needs.resources.iter().all(has_enough)
    }

    /// Returns the resources that [`try_reserve`](Taker::try_reserve) took.
    pub(super) fn release(&self, needs: &Needs) {
        let mut free = self.free.lock();
        needs.resources.iter().for_each(|(name, n)| *free.entry(Arc::clone(name)) += millionths(*n));
    }

    pub(super) fn state(&self) -> WorkerState {
        if self.is_leaving() {
            WorkerState::Leaving
        } else if !self.has_started.load(Ordering::Relaxed) {
            WorkerState::Starting
        } else if self.is_paused.load(Ordering::Relaxed) {
            WorkerState::Paused
        } else if self.num_busy() > 0 {
            WorkerState::Busy
        } else {
            WorkerState::Idle
        }
    }

    /// The number of threads that run a task.
    pub(super) fn num_busy(&self) -> usize {
        self.num_busy.load(Ordering::Relaxed)
    }

    /// Counts a thread as active.
    pub(super) fn activate(&self) {
        self.num_active.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a thread as not active. True if the worker has room for another thread then.
    pub(super) fn deactivate(&self) -> bool {
        self.num_active.fetch_sub(1, Ordering::AcqRel) <= self.num_threads
    }
}

impl Taker for Member {
    fn try_reserve(&self, needs: &Needs) -> bool {
        let mut free = self.free.lock();
        let is_enough = self.has(&free, needs);
        if is_enough {
            needs.resources.iter().for_each(|(name, n)| *free.entry(Arc::clone(name)) -= millionths(*n));
        }
        is_enough
    }

    fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    fn keep_thread(&self, is_closed: bool) -> bool {
        let must_end = is_closed || self.is_leaving();
        let leave = |active: usize| (must_end || active > self.num_threads).then(|| active - 1);
        self.num_active.fetch_update(Ordering::AcqRel, Ordering::Relaxed, leave).is_err()
    }
}

/// Counts a thread of a worker as busy until it is dropped.
pub(super) struct Busy<'m>(&'m Member);

impl<'m> Busy<'m> {
    pub(super) fn new(member: &'m Member) -> Self {
        member.num_busy.fetch_add(1, Ordering::Relaxed);
        Busy(member)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.num_busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The workers of a cluster.
pub(super) struct Members {
    pub(super) settings: WorkerSettings,
    /// The largest `index` of a worker, plus one.
    max_index: u32,
    list: Mutex<MemberList>,
    /// Notified when a worker has come, has left, or is ready.
    change: Condvar,
}

#[derive(Default)]
struct MemberList {
    members: Vec<Arc<Member>>,
    next_id: u32,
}

impl Members {
    /// `max_index` is the number of processes that the pool has room for.
    pub(super) fn new(settings: WorkerSettings, max_index: u32) -> Self {
        Members { settings, max_index, list: Mutex::default(), change: Condvar::new() }
    }

    pub(super) fn all(&self) -> Vec<Arc<Member>> {
        self.list.lock().members.clone()
    }

    /// The number of workers that are not leaving.
    pub(super) fn len(&self) -> usize {
        self.list.lock().members.iter().filter(|member| !member.is_leaving()).count()
    }

    /// Whether some worker could run a task with these needs if the worker had nothing else to do.
    pub(super) fn can_run(&self, needs: &Needs) -> bool {
        self.list.lock().members.iter().any(|member| member.has(&member.total, needs))
    }

    /// Adds one worker if there are fewer than `num_workers`. Otherwise tells the youngest to leave
    /// until there are as many.
    ///
    /// Blocks while all indices are taken.
    pub(super) fn add_towards(
        &self,
        num_workers: usize,
        counts: impl Fn(u32) -> WorkerCounts,
        is_closed: impl Fn() -> bool,
    ) -> Option<Arc<Member>> {
        let mut list = self.list.lock();
        while !is_closed() {
            let staying: Vec<_> = list.members.iter().filter(|member| !member.is_leaving()).collect();
            if staying.len() >= num_workers {
                staying[num_workers..].iter().for_each(|member| member.is_leaving.store(true, Ordering::Relaxed));
                break;
            }
            let is_free = |index: &u32| list.members.iter().all(|member| member.index != *index);
            if let Some(index) = (0..self.max_index).find(is_free) {
                let member = Member::new(&self.settings, list.next_id, index, counts(index));
                list.next_id += 1;
                list.members.push(Arc::clone(&member));
                return Some(member);
            }
            self.change.wait(&mut list);
        }
        None
    }

    /// Removes a worker that has no active thread and is to end. False if it stays.
    pub(super) fn remove_if_ended(&self, member: &Arc<Member>, is_closed: bool) -> bool {
        let mut list = self.list.lock();
        let has_ended = (is_closed || member.is_leaving()) && member.num_active.load(Ordering::Acquire) == 0;
        if has_ended {
            list.members.retain(|other| !Arc::ptr_eq(other, member));
        }
        has_ended
    }

    pub(super) fn remove(&self, member: &Arc<Member>) {
        self.list.lock().members.retain(|other| !Arc::ptr_eq(other, member));
    }

    pub(super) fn set_started(&self, member: &Member) {
        member.has_started.store(true, Ordering::Relaxed);
        self.notify();
    }

    /// Makes waiting threads check the workers again.
    pub(super) fn notify(&self) {
        // With the lock: a thread that has just checked sleeps by now.
        drop(self.list.lock());
        self.change.notify_all();
    }

    /// Blocks until `num_workers` are ready. False if the deadline passes or the cluster is closed
    /// before.
    pub(super) fn wait(&self, num_workers: usize, deadline: Option<Instant>, is_closed: impl Fn() -> bool) -> bool {
        let is_ready = |member: &&Arc<Member>| !matches!(member.state(), WorkerState::Starting | WorkerState::Leaving);
        let mut list = self.list.lock();
        while list.members.iter().filter(is_ready).count() < num_workers {
            if is_closed() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            match deadline {
                None => self.change.wait(&mut list),
                Some(deadline) => drop(self.change.wait_until(&mut list, deadline)),
            }
        }
        true
    }
}
