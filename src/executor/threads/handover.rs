//! How a run that began on one thread is handed over to many.
//!
//! The leader runs tasks in the order of their ids, with no counters and no queue. The observer may
//! request a handover at any time, also while the leader is in a long task. Both must then agree on
//! one task, the *boundary*: the leader runs it and all tasks before it; any worker may run the
//! tasks after it.
//!
//! # The protocol
//!
//! 1. The leader announces each task: it stores the id as its `position`, then checks for a
//!    request.
//! 2. The observer makes the counters for the tasks from the leader's position on, while the leader
//!    advances. It then stores its request and reads the position again. That position is the
//!    boundary; the observer publishes it, with the first position that the counters cover.
//! 3. A leader that finds a request waits for the boundary. If the boundary is the task it has just
//!    announced, the leader runs that task as its last. Otherwise the boundary is the task before,
//!    which it has already run.
//! 4. The observer notifies the dependents of the counted tasks before the boundary; the leader
//!    notifies those of the boundary. The leader may spend long in the boundary task, and the
//!    dependents of the other tasks must not wait for it.
//!
//! # Why it works
//!
//! Each side stores, then loads. With a full barrier between the two steps on both sides, at least
//! one side sees the other's store. A full barrier for each task would cost more than a small task.
//! The leader therefore uses a compiler barrier, and the observer, which requests once per run,
//! makes all threads of the process execute a full barrier (`membarrier` on Linux). If the system
//! has no such call, or the process has not registered for it yet ([`register_barrier`]), the
//! leader uses a full fence. `position` is stored with `Release` and read with `Acquire`, so the
//! observer sees the values of all tasks before the boundary.

use crate::primitives::{Acquire, AtomicU32, Relaxed, Release, SeqCst, fence};
use crossbeam_utils::CachePadded;

const UNDECIDED: u32 = u32::MAX;

/// The state of one handover.
#[derive(Debug)]
pub(super) struct Handover {
    position: CachePadded<AtomicU32>,
    request: CachePadded<AtomicU32>,
    /// The first task that the counters cover; valid once the boundary is published.
    first_counted: CachePadded<AtomicU32>,
    boundary: CachePadded<AtomicU32>,
    leader_barrier: LeaderBarrier,
}

/// The barrier between the leader's store and load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum LeaderBarrier {
    /// A compiler barrier suffices, because the observer's barrier acts on all threads.
    Compiler,
    Full,
}

impl Handover {
    pub(super) fn new() -> Self {
        Handover {
            position: CachePadded::new(AtomicU32::new(0)),
            request: CachePadded::new(AtomicU32::new(0)),
            first_counted: CachePadded::new(AtomicU32::new(0)),
            boundary: CachePadded::new(AtomicU32::new(UNDECIDED)),
            leader_barrier: LeaderBarrier::of_system(),
        }
    }

    /// The argument of [`Handover::announce`], which the leader keeps in a register.
    pub(super) fn leader_barrier(&self) -> LeaderBarrier {
        self.leader_barrier
    }

    /// Announces that the leader is about to run `id`. Returns false if there is a request: then
    /// the leader waits for [`Handover::decided`].
    #[inline(always)]
    pub(super) fn announce(&self, id: u32, leader_barrier: LeaderBarrier) -> bool {
        self.position.store(id, Release);
        leader_barrier.barrier();
        self.request.load(Relaxed) == 0
    }

    /// The task that the leader announced last.
    pub(super) fn position(&self) -> u32 {
        self.position.load(Acquire)
    }

    /// Requests the handover and returns the boundary, which the leader does not know yet. Only the
    /// observer calls it.
    pub(super) fn request(&self) -> u32 {
        self.request.store(1, SeqCst);
        self.leader_barrier.observer_barrier();
        self.position()
    }

    /// Publishes the boundary, which releases the leader. The counters for the tasks from
    /// `first_counted` on are ready by now.
    pub(super) fn decide(&self, first_counted: u32, boundary: u32) {
        self.first_counted.store(first_counted, Relaxed);
        self.boundary.store(boundary, Release);
    }

    /// The first counted task and the boundary, once the observer has published them.
    pub(super) fn decided(&self) -> Option<(u32, u32)> {
        let boundary = self.boundary.load(Acquire);
        (boundary != UNDECIDED).then(|| (self.first_counted.load(Relaxed), boundary))
    }
}

impl LeaderBarrier {
    #[inline(always)]
    fn barrier(self) {
        match self {
            LeaderBarrier::Compiler => std::sync::atomic::compiler_fence(SeqCst),
            LeaderBarrier::Full => fence(SeqCst),
        }
    }

    /// The observer's barrier.
    fn observer_barrier(self) {
        match self {
            LeaderBarrier::Compiler => system::barrier_on_all_threads(),
            LeaderBarrier::Full => fence(SeqCst),
        }
    }

    fn of_system() -> LeaderBarrier {
        if system::has_barrier_on_all_threads() { LeaderBarrier::Compiler } else { LeaderBarrier::Full }
    }
}

/// Registers the process, once, for the barrier on all threads. In a process with several threads
/// this takes some 10 ms, so a thread that no run waits for calls it.
pub(super) fn register_barrier() {
    system::register_barrier();
}

#[cfg(all(target_os = "linux", not(loom), not(miri)))]
mod system {
    use rustix::thread::{MembarrierCommand, membarrier};
    use std::sync::OnceLock;

    static IS_REGISTERED: OnceLock<bool> = OnceLock::new();

    pub(super) fn register_barrier() {
        IS_REGISTERED.get_or_init(|| membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok());
    }

    pub(super) fn has_barrier_on_all_threads() -> bool {
        IS_REGISTERED.get().is_some_and(|&is_registered| is_registered)
    }

    pub(super) fn barrier_on_all_threads() {
        // A registered process may use the barrier. If the system forbids it later, the process
        // cannot continue: the leader waits for the handover.
        membarrier(MembarrierCommand::PrivateExpedited).unwrap_or_else(|_| std::process::abort());
    }
}

#[cfg(not(all(target_os = "linux", not(loom), not(miri))))]
mod system {
    pub(super) fn register_barrier() {}

    pub(super) fn has_barrier_on_all_threads() -> bool {
        false
    }

    pub(super) fn barrier_on_all_threads() {}
}

#[cfg(all(test, loom))]
mod models {
    use super::Handover;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU32, Ordering};
    use loom::thread;

    #[test]
    fn every_task_is_run_by_exactly_one_side() {
        const TASKS: u32 = 3;
        loom::model(|| {
            let handover = Arc::new(Handover::new());
            let runs: Arc<Vec<AtomicU32>> = Arc::new((0..TASKS).map(|_| AtomicU32::new(0)).collect());
            let run = |runs: &Vec<AtomicU32>, id: u32| runs[id as usize].fetch_add(1, Ordering::Relaxed);
            // Represents the counters, which the leader may use once it knows the boundary.
            let made = Arc::new(AtomicU32::new(0));
            let observer = {
                let (handover, runs, made) = (Arc::clone(&handover), Arc::clone(&runs), Arc::clone(&made));
                thread::spawn(move || {
                    let first_counted = handover.position();
                    let boundary = handover.request();
                    made.store(first_counted + 1, Ordering::Relaxed);
                    handover.decide(first_counted, boundary);
                    for id in boundary + 1..TASKS {
                        run(&runs, id);
                    }
                    for id in 0..boundary {
                        assert_eq!(
                            runs[id as usize].load(Ordering::Relaxed),
                            1,
                            "the observer sees the tasks before the boundary"
                        );
                    }
                })
            };
            for id in 0..TASKS {
                if !handover.announce(id, handover.leader_barrier()) {
                    let (first_counted, boundary) = loop {
                        if let Some(decided) = handover.decided() {
                            break decided;
                        }
                        thread::yield_now();
                    };
                    assert!(boundary == id || boundary + 1 == id);
                    assert!(first_counted <= boundary);
                    assert_eq!(made.load(Ordering::Relaxed), first_counted + 1, "the leader sees the counters");
                    if boundary == id {
                        run(&runs, id);
                    }
                    break;
                }
                run(&runs, id);
            }
            observer.join().unwrap();
            for run in runs.iter() {
                assert_eq!(run.load(Ordering::Relaxed), 1);
            }
        });
    }
}
