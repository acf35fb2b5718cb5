//! How a run that began on one thread is handed over to many.
//!
//! The leader runs tasks in the order of their ids, with no counters and no queue. An observer may ask for a handover at any time, also
//! while the leader is deep in a long task. Both must then agree on one task, the *boundary*: it and all before it are the leader's,
//! all after it are everybody's.
//!
//! # The protocol
//!
//! 1. The leader announces each task: it stores the id as its `position`, then looks whether there is a request.
//! 2. The observer makes the counters for the tasks from the leader's position on, while that moves on. Then it stores its request, and
//!    reads the position once more. That is the boundary; it publishes it, with the position from which the counters count.
//! 3. A leader that finds a request waits for the boundary. If that is the task it has just announced, it still runs it, as its last.
//!    Otherwise it is the one before, which it has run.
//! 4. The observer tells the dependents of the counted tasks before the boundary, and the leader those of the boundary: it may be long in
//!    that task, and nobody must wait for it to learn of the others.
//!
//! # Why it works
//!
//! Store, then load, on both sides: in no order of events do both miss each other, provided a full barrier stands between each side's
//! store and load. A barrier for each task would cost more than a small task. So the leader's is a compiler barrier, and the observer,
//! who asks once in a run, makes all threads of the process execute a full one (`membarrier` on Linux). Where the system has no such
//! call, or the process has not asked for it yet ([`ask_for_barrier`]), the leader's barrier is a real one. `position` is stored with `Release` and read with `Acquire`, so the observer sees the
//! values of all tasks before the boundary.

use crate::primitives::{Acquire, AtomicU32, Relaxed, Release, SeqCst, fence};
use crossbeam_utils::CachePadded;

const UNDECIDED: u32 = u32::MAX;

/// The state of one handover.
#[derive(Debug)]
pub(super) struct Handover {
    position: CachePadded<AtomicU32>,
    request: CachePadded<AtomicU32>,
    /// The first task that the counters count, valid once there is a boundary.
    first_counted: CachePadded<AtomicU32>,
    boundary: CachePadded<AtomicU32>,
    light: Light,
}

/// The leader's barrier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Light {
    /// The observer's barrier is one for all threads; the compiler alone must be held back here.
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
            light: Light::of_this_system(),
        }
    }

    /// The barrier to announce with: looked up once, and not for each task.
    pub(super) fn light(&self) -> Light {
        self.light
    }

    /// Announces that the leader is about to run `id`. False if there is a request: then [`Handover::decided`] decides.
    #[inline(always)]
    pub(super) fn announce(&self, id: u32, light: Light) -> bool {
        self.position.store(id, Release);
        light.barrier();
        self.request.load(Relaxed) == 0
    }

    /// What the leader announced last.
    pub(super) fn position(&self) -> u32 {
        self.position.load(Acquire)
    }

    /// Asks for the handover and gives the boundary, which the leader does not know yet. For the one observer.
    pub(super) fn request(&self) -> u32 {
        self.request.store(1, SeqCst);
        self.light.other_side();
        self.position()
    }

    /// Lets the leader go on, once everything is ready for that; there are counters for the tasks from `first_counted` on.
    pub(super) fn decide(&self, first_counted: u32, boundary: u32) {
        self.first_counted.store(first_counted, Relaxed);
        self.boundary.store(boundary, Release);
    }

    /// What the observer has decided, once it has: the first task that is counted, and the boundary.
    pub(super) fn decided(&self) -> Option<(u32, u32)> {
        let boundary = self.boundary.load(Acquire);
        (boundary != UNDECIDED).then(|| (self.first_counted.load(Relaxed), boundary))
    }
}

impl Light {
    #[inline(always)]
    fn barrier(self) {
        match self {
            Light::Compiler => std::sync::atomic::compiler_fence(SeqCst),
            Light::Full => fence(SeqCst),
        }
    }

    /// The observer's barrier.
    fn other_side(self) {
        match self {
            Light::Compiler => system::barrier_on_all_threads(),
            Light::Full => fence(SeqCst),
        }
    }

    fn of_this_system() -> Light {
        if system::has_barrier_on_all_threads() { Light::Compiler } else { Light::Full }
    }
}

/// Asks the system, once, for the barrier on all threads. Where there are several threads that takes some 10 ms, so it is for a thread that
/// nobody waits for.
pub(super) fn ask_for_barrier() {
    system::ask_for_barrier();
}

#[cfg(all(target_os = "linux", not(loom), not(miri)))]
mod system {
    use rustix::thread::{MembarrierCommand, membarrier};
    use std::sync::OnceLock;

    static IS_REGISTERED: OnceLock<bool> = OnceLock::new();

    pub(super) fn ask_for_barrier() {
        IS_REGISTERED.get_or_init(|| membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok());
    }

    pub(super) fn has_barrier_on_all_threads() -> bool {
        IS_REGISTERED.get().is_some_and(|&is_registered| is_registered)
    }

    pub(super) fn barrier_on_all_threads() {
        // A registered process may use its barrier. One that is forbidden to afterwards cannot go on: the leader waits for it.
        membarrier(MembarrierCommand::PrivateExpedited).unwrap_or_else(|_| std::process::abort());
    }
}

#[cfg(not(all(target_os = "linux", not(loom), not(miri))))]
mod system {
    pub(super) fn ask_for_barrier() {}

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
            // Stands for the counters, which the leader may use once it knows the boundary.
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
                        assert_eq!(runs[id as usize].load(Ordering::Relaxed), 1, "what is before the boundary is seen");
                    }
                })
            };
            for id in 0..TASKS {
                if !handover.announce(id, handover.light()) {
                    let (first_counted, boundary) = loop {
                        if let Some(decided) = handover.decided() {
                            break decided;
                        }
                        thread::yield_now();
                    };
                    assert!(boundary == id || boundary + 1 == id);
                    assert!(first_counted <= boundary);
                    assert_eq!(made.load(Ordering::Relaxed), first_counted + 1, "the counters are seen");
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
