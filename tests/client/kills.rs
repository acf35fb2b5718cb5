//! Shared objects when a worker process is killed that holds them or waits for them.

#![cfg(all(target_os = "linux", not(miri)))]

use crate::{TIMEOUT, of_processes, on, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use sprang::config::ProcessSettings;
use sprang::{Client, ErrorKind, Lock, Queue, Semaphore, TaskFuture, lit, try_delayed};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn attempts(number: u32) -> ProcessSettings {
    let mut settings = ProcessSettings::default();
    settings.max_attempts = NonZeroU32::new(number).unwrap();
    settings
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

/// In a task: writes the id of its process into a file of this name, once. True for the task that
/// did.
fn note_pid(path: &str) -> bool {
    let draft = format!("{path}-{}", std::process::id());
    std::fs::write(&draft, std::process::id().to_string()).unwrap();
    let is_new = std::fs::hard_link(&draft, path).is_ok();
    std::fs::remove_file(draft).unwrap();
    is_new
}

fn pid_in(path: &Path) -> u32 {
    wait_until(&format!("{} to be there", path.display()), || path.exists());
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        Room(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Takes the lock and keeps it in the first attempt; takes it and returns afterwards.
fn hold_first(lock: &Lock, path: String) -> sprang::Result<u32> {
    let _permit = lock.acquire()?;
    if note_pid(&path) {
        loop {
            std::thread::park();
        }
    }
    Ok(std::process::id())
}

#[test]
fn the_permits_of_a_killed_worker_are_released() {
    on("what_a_killed_worker_had", of_processes(2), |client| {
        let room = Room::new();
        let lock = client.lock("file");
        let first = client.try_submit(hold_first, (lit(lock.clone()), text(&room.path("holder"))));
        let holder = pid_in(&room.path("holder"));
        assert!(lock.acquire_timeout(Duration::from_millis(5)).unwrap().is_none());
        let others: Vec<_> =
            (0..4).map(|_| client.try_submit(hold_first, (lit(lock.clone()), text(&room.path("holder"))))).collect();
        kill(holder);
        // The task is tried again, and the others get the lock.
        assert_ne!(first.result().unwrap(), holder);
        assert!(client.gather(&others).unwrap().iter().all(|&pid| pid != holder));
        assert!(lock.acquire_timeout(TIMEOUT).unwrap().is_some());
    });
}

#[test]
fn a_worker_that_is_killed_while_it_waits_leaves_the_line() {
    on("killed while it waits", of_processes(1).process_settings(attempts(1)), |client| {
        let room = Room::new();
        let lock = client.lock("file");
        let held = lock.acquire().unwrap();
        let waits = |lock: &Lock, path: String| {
            note_pid(&path);
            lock.acquire().map(drop)
        };
        let victim = client.try_submit(waits, (lit(lock.clone()), text(&room.path("victim"))));
        let pid = pid_in(&room.path("victim"));
        // Other tasks run while it waits, and its death costs them no attempt.
        let bystanders: Vec<_> = (0..20_u64).map(|x| client.submit(|x: u64| x, (x,))).collect();
        client.gather(&bystanders).unwrap();
        kill(pid);
        let error = victim.error().unwrap();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::WorkerDied, 1));
        drop(held);
        assert!(lock.acquire_timeout(TIMEOUT).unwrap().is_some());
    });
}

#[test]
fn a_task_that_waits_too_long_is_ended_by_its_timeout() {
    on("ended by its timeout", of_processes(1), |client| {
        let permits = client.semaphore("one", 1).unwrap();
        let held = permits.acquire().unwrap();
        let waits = |permits: &Semaphore| permits.acquire().map(drop);
        let task = try_delayed(waits, (lit(permits.clone()),)).timeout(Duration::from_millis(100));
        let error = client.compute(&task).error().unwrap();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::TimedOut, 1));
        drop(held);
        assert!(permits.acquire_timeout(TIMEOUT).unwrap().is_some());
    });
}

#[test]
fn a_restart_runs_waiting_tasks_again_and_releases_permits() {
    let cluster = of_processes(2).build().unwrap();
    let client = Client::new(&cluster);
    let room = Room::new();
    let lock = client.lock("file");
    let holds = client.try_submit(hold_first, (lit(lock.clone()), text(&room.path("holder"))));
    let holder = pid_in(&room.path("holder"));
    let waits: Vec<_> =
        (0..3).map(|_| client.try_submit(hold_first, (lit(lock.clone()), text(&room.path("holder"))))).collect();
    cluster.restart();
    assert_ne!(holds.result().unwrap(), holder);
    client.gather(&waits).unwrap();
    assert!(lock.acquire_timeout(TIMEOUT).unwrap().is_some());
    assert!(cluster.close(Some(TIMEOUT)));
}

#[test]
fn the_processes_of_tasks_that_wait_are_gone_with_the_cluster() {
    let cluster = of_processes(1).build().unwrap();
    let client = Client::new(&cluster);
    let room = Room::new();
    let waits = |path: String| {
        note_pid(&path);
        Client::current().unwrap().event("never").wait()
    };
    let paths: Vec<_> = (0..5).map(|i| room.path(&format!("waits-{i}"))).collect();
    let waiting: Vec<TaskFuture<()>> = paths.iter().map(|path| client.try_submit(waits, (text(path),))).collect();
    let pids: Vec<u32> = paths.iter().map(|path| pid_in(path)).collect();
    assert_eq!(cluster.workers().len(), 1);
    assert!(cluster.close(Some(TIMEOUT)));
    assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    assert!(waiting.iter().all(|future| future.is_done()));
}

#[test]
fn a_process_runs_tasks_again_after_a_wait() {
    on("works again", of_processes(1), |client| {
        let go = client.event("go");
        let mut pids = std::collections::HashSet::new();
        for _ in 0..10 {
            go.clear().unwrap();
            let waits = |go: &sprang::Event| go.wait().map(|()| std::process::id());
            let waiting: Vec<_> = (0..2).map(|_| client.try_submit(waits, (lit(go.clone()),))).collect();
            let set = |go: &sprang::Event| go.set().map(|()| std::process::id());
            pids.insert(client.try_submit(set, (lit(go.clone()),)).result().unwrap());
            pids.extend(client.gather(&waiting).unwrap());
        }
        assert!(pids.len() <= 4, "the same ones again and again: {pids:?}");
    });
}

/// A hundred tasks share two permits and pass items on, while workers are killed at any point.
#[test]
fn workers_that_are_killed_at_any_point_leave_nothing_behind() {
    on("killed at any point", of_processes(2).process_settings(attempts(1000)), |client| {
        let permits = client.semaphore("two", 2).unwrap();
        let items: Queue<u64> = client.queue("items", None).unwrap();
        let work = |x: u64, permits: &Semaphore, items: &Queue<u64>| {
            let _permit = permits.acquire()?;
            std::thread::sleep(Duration::from_micros(x % 7 * 300));
            items.put(x)?;
            items.take()
        };
        let tasks: Vec<_> =
            (0..100_u64).map(|x| client.try_submit(work, (x, lit(permits.clone()), lit(items.clone())))).collect();
        let mut num_killed = 0;
        while client.num_pending() > 0 {
            let pids: Vec<u32> = client.workers().iter().filter_map(|worker| worker.pid).collect();
            if num_killed < 20
                && let Some(&pid) = pids.get(num_killed % 2)
            {
                let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
                num_killed += 1;
            }
            std::thread::sleep(Duration::from_millis(7));
        }
        let taken = client.gather(&tasks).unwrap();
        assert!(taken.iter().all(|&x| x < 100));
        wait_until("all permits to be back", || permits.num_free().unwrap() == 2);
        let done = client.submit(|x: u64| x + 1, (1_u64,));
        assert_eq!(done.result().unwrap(), 2);
    });
}
