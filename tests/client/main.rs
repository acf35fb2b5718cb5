//! The guarantees of a client, on threads and on processes.

#[path = "../contract/ledger.rs"]
#[allow(dead_code, reason = "not all that the contract of executors needs is needed here")]
mod ledger;
#[path = "../contract/warnings.rs"]
mod warnings;
#[path = "../contract/watchdog.rs"]
#[allow(dead_code, reason = "as above")]
mod watchdog;

mod clusters;
mod collections;
mod configuration;
mod endings;
mod kills;
mod nested;
mod random;
mod retries;
mod several;
mod shared;
mod tasks;
mod tolerance;
mod waiting;
mod windows;

use sprang::{Client, ClusterBuilder, LocalCluster};
use std::time::{Duration, Instant};
use watchdog::watched;

/// How long the tests wait for events that should happen at once.
const TIMEOUT: Duration = Duration::from_secs(30);

fn of_threads(num_threads: usize) -> ClusterBuilder {
    LocalCluster::builder().workers(num_threads).threads_per_worker(1).processes(false)
}

fn of_processes(num_processes: usize) -> ClusterBuilder {
    LocalCluster::builder().workers(num_processes).threads_per_worker(1)
}

/// Runs a test with clients of clusters of every kind.
fn on_each(name: &str, body: impl Fn(&Client) + Send + Sync) {
    let two_threads_each = LocalCluster::builder().workers(1).threads_per_worker(2);
    let kinds = [
        ("one thread", of_threads(1)),
        ("two threads", of_threads(2)),
        ("one worker of two threads", two_threads_each.clone().processes(false)),
        ("two processes", of_processes(2)),
        ("a process of two threads", two_threads_each),
    ];
    for (kind, builder) in kinds {
        on(&format!("{name}, {kind}"), builder, &body);
    }
}

fn on_threads(name: &str, body: impl Fn(&Client) + Send + Sync) {
    on(&format!("{name}, one thread"), of_threads(1), &body);
    on(&format!("{name}, two threads"), of_threads(2), body);
}

fn on(name: &str, builder: ClusterBuilder, body: impl Fn(&Client) + Send + Sync) {
    let cluster = builder.build().unwrap();
    watched(name, || body(&Client::new(&cluster)));
    assert!(watched(name, || cluster.close(Some(TIMEOUT))), "{name}: something still runs");
}

fn wait_until(name: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < end, "not reached within {TIMEOUT:?}: {name}");
        std::thread::sleep(Duration::from_micros(300));
    }
}
