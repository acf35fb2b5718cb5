//! The stacks of the threads that run tasks.

use crate::contract::watchdog::watched_with_stack;
use sprang::{Client, compute, config, delayed, delayed_local};
use std::hint::black_box;
use std::sync::{Arc, Barrier};

const MIB: usize = 1 << 20;

/// Uses that many bytes of stack.
fn use_stack(bytes: usize) -> usize {
    fn descend(top: usize, bytes: usize) -> usize {
        let frame = black_box([0_u8; 1024]);
        let used = top - (&raw const frame).addr();
        if used < bytes { descend(top, bytes) + usize::from(frame[used % 1024]) } else { used }
    }
    let top = 0_u8;
    descend((&raw const top).addr(), bytes)
}

/// Uses stack on the calling thread and on a helper thread, each of which waits for the other.
fn use_stack_on_two_threads(bytes: usize) {
    let both = Arc::new(Barrier::new(2));
    let task = || {
        let both = Arc::clone(&both);
        delayed_local(move || (both.wait(), use_stack(bytes)).1, ())
    };
    let (one, other) = compute((task(), task())).unwrap();
    assert!(one >= bytes && other >= bytes);
}

/// Uses stack on every kind of thread that runs tasks, with the configuration in force.
fn use_stack_everywhere(bytes: usize) {
    let _workers = config::scoped("num_workers", 2).unwrap();
    config::with("scheduler", "threads", || use_stack_on_two_threads(bytes)).unwrap();
    config::with("scheduler", "processes", || {
        let tasks: Vec<_> = (0..4).map(|_| delayed(use_stack, (bytes,))).collect();
        assert!(compute(&tasks).unwrap().iter().all(|&used| used >= bytes));
        use_stack_on_two_threads(bytes);
        config::with("processes.threads_per_worker", 2, || {
            assert!(delayed(use_stack, (bytes,)).compute().unwrap() >= bytes);
        })
        .unwrap();
    })
    .unwrap();
    for client in [Client::threads(2).unwrap(), Client::processes(2).unwrap()] {
        let futures = client.map(use_stack, [bytes; 4]);
        assert!(client.gather(&futures).unwrap().iter().all(|&used| used >= bytes));
        assert!(client.submit_local(move || use_stack(bytes), ()).result().unwrap() >= bytes);
    }
}

/// The calling thread runs tasks on the stack that it has.
fn on_a_large_stack(body: impl FnOnce() + Send) {
    watched_with_stack("threads with large stacks", Some(128 * MIB), body);
}

#[test]
fn every_thread_that_runs_tasks_has_the_stack_of_a_main_thread() {
    on_a_large_stack(|| use_stack_everywhere(6 * MIB));
}

#[test]
fn every_thread_that_runs_tasks_has_the_stack_that_the_setting_says() {
    on_a_large_stack(|| config::with("stack_size", "64 MiB", || use_stack_everywhere(48 * MIB)).unwrap());
}
