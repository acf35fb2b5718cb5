//! A program that submits tasks forever needs no more memory than one that has just started.
//!
//! The test is alone in its process, since it measures the memory of the process.

#![cfg(target_os = "linux")]

#[path = "contract/watchdog.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod watchdog;

use sprang::{Client, LocalCluster, Status};
use watchdog::watched;

const NUM_TASKS: u64 = 400_000;
const MAX_PENDING: usize = 1_000;
/// If each task left 100 bytes behind, it would be 40 MB. Buffers with a limited size and the
/// caches of the allocator take less.
const MOST_BYTES: u64 = 20_000_000;

/// The memory of this process and of the client's workers.
fn bytes_used(client: &Client) -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    let of_worker = |worker: &sprang::WorkerInfo| match worker.pid == Some(std::process::id()) {
        true => 0,
        false => worker.memory_used.unwrap(),
    };
    pages * 4096 + client.workers().iter().map(of_worker).sum::<u64>()
}

/// Submits tasks without waiting for them. Some of them fail.
fn submit_all(client: &Client, num_tasks: u64) {
    for x in 0..num_tasks {
        let task = |x: u64| if x % 1_000 == 7 { Err("seven") } else { Ok(vec![x; 4]) };
        client.try_submit(task, (x,)).detach();
        if x % 100 == 0 {
            assert!(client.num_pending() <= MAX_PENDING);
        }
    }
    let last = client.submit(|| (), ());
    assert!(last.error().is_none() && last.status() == Status::Finished);
}

#[test]
fn finished_tasks_leave_no_memory_behind() {
    for has_processes in [false, true] {
        watched(&format!("tasks that leave no memory behind, processes {has_processes}"), || {
            let cluster = LocalCluster::builder().workers(2).threads_per_worker(1).processes(has_processes);
            let client = Client::owning(cluster.max_pending(MAX_PENDING).build().unwrap());
            // The first tasks allocate everything that is allocated once, or grows to its usual
            // size.
            submit_all(&client, NUM_TASKS / 10);
            let before = bytes_used(&client);
            submit_all(&client, NUM_TASKS);
            let grown_by = bytes_used(&client).saturating_sub(before);
            assert!(grown_by < MOST_BYTES, "by {grown_by} bytes from {before}, processes {has_processes}");
            // A worker holds the last tasks for a moment longer.
            while client.num_held() != (0, 0) {
                std::thread::yield_now();
            }
        });
    }
}
