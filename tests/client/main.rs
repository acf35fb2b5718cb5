//! What a client promises, on threads and on processes.

#[path = "../contract/ledger.rs"]
#[allow(dead_code, reason = "not all that the contract of executors needs is needed here")]
mod ledger;
#[path = "../contract/watchdog.rs"]
#[allow(dead_code, reason = "as above")]
mod watchdog;

mod clusters;
mod collections;
mod endings;
mod kills;
mod nested;
mod random;
mod several;
mod shared;
mod tasks;
mod waiting;

use sprang::{Client, ClusterBuilder, LocalCluster};
use std::time::{Duration, Instant};
use watchdog::watched;

/// How long the tests wait for what should come at once.
const PATIENCE: Duration = Duration::from_secs(30);

fn of_threads(num_threads: usize) -> ClusterBuilder {
    LocalCluster::builder().workers(num_threads).threads_per_worker(1).processes(false)
}

fn of_processes(num_processes: usize) -> ClusterBuilder {
    LocalCluster::builder().workers(num_processes).threads_per_worker(1)
}

/// The same for clients of clusters of every kind.
fn on_each(what: &str, body: impl Fn(&Client) + Send + Sync) {
    let two_threads_each = LocalCluster::builder().workers(1).threads_per_worker(2);
    let kinds = [
        ("one thread", of_threads(1)),
        ("two threads", of_threads(2)),
        ("one worker of two threads", two_threads_each.clone().processes(false)),
        ("two processes", of_processes(2)),
        ("a process of two threads", two_threads_each),
    ];
    for (kind, builder) in kinds {
        on(&format!("{what}, {kind}"), builder, &body);
    }
}

fn on_threads(what: &str, body: impl Fn(&Client) + Send + Sync) {
    on(&format!("{what}, one thread"), of_threads(1), &body);
    on(&format!("{what}, two threads"), of_threads(2), body);
}

fn on(what: &str, builder: ClusterBuilder, body: impl Fn(&Client) + Send + Sync) {
    let cluster = builder.build().unwrap();
    watched(what, || body(&Client::new(&cluster)));
    assert!(watched(what, || cluster.close(Some(PATIENCE))), "{what}: nothing runs any more");
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not so after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_micros(300));
    }
}
