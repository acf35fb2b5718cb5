//! Tasks in a library, a register that functions before `main` fill, and the check of the whole
//! program.

use sprang::{ProcessExecutor, compute_with, config, delayed};
use std::num::NonZeroUsize;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many functions before `main` have run. A worker must run the same ones as its parent.
static REGISTERED: AtomicU32 = AtomicU32::new(0);

/// Adds an entry to the register.
pub extern "C" fn register() {
    REGISTERED.fetch_add(1, Relaxed);
}

/// As above, for a function that is not written in Rust.
#[unsafe(no_mangle)]
pub extern "C" fn register_late() {
    register();
}

#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = register;

/// The process of a task, and the register there.
pub fn place(_task: u32) -> (u32, u32) {
    (process::id(), REGISTERED.load(Relaxed))
}

fn generic<T: Default + ToString>(_task: u32) -> (u32, String) {
    (process::id(), T::default().to_string())
}

/// Runs tasks of many kinds in worker processes, and `more`, a task of the program. `registered` is
/// the expected register.
pub fn check(registered: u32, more: fn() -> Vec<(u32, u32)>) {
    sprang::init();
    let here = process::id();
    let (own, in_own) = place(0);
    assert_eq!((own, in_own), (here, registered), "functions before main, in the parent");

    let mut places: Vec<(u32, u32)> = Vec::new();
    let handles: Vec<_> = (0..20_u32).map(|task| delayed(place, (task,))).collect();
    places.extend(compute_with("processes", handles).expect("functions"));
    let closure = delayed(|task: u32| place(task + 1), (7_u32,));
    places.push(closure.compute_with("processes").expect("a closure"));
    places.extend(config::with("scheduler", "processes", more).expect("a scheduler"));
    for (process, in_register) in places {
        assert_ne!(process, here, "tasks run in other processes");
        assert_eq!(in_register, registered, "functions before main, in a worker");
    }

    let (process, text) = delayed(generic::<f64>, (1_u32,)).compute_with("processes").expect("a generic function");
    assert_ne!(process, here);
    assert_eq!(text, "0");

    // Dropping an executor ends its workers and waits for them.
    let own = Arc::new(ProcessExecutor::new(NonZeroUsize::MIN));
    let there = delayed(place, (3_u32,)).compute_with(Arc::clone(&own)).expect("an executor of its own");
    assert_eq!((there.0 == here, there.1), (false, registered));
    while Arc::strong_count(&own) > 1 {
        std::thread::yield_now();
    }
    drop(own);

    let parts: Vec<_> = (0..100_u64).map(|i| delayed(|i| i * i, (i,))).collect();
    let total = delayed(|parts| parts.iter().sum::<u64>(), (&parts,));
    assert_eq!(total.compute_with("processes").expect("a graph"), 328_350);
}
