//! Clusters: their workers, the number and resources of these, and room for tasks.

use crate::waiting::gated;
use crate::{TIMEOUT, of_processes, of_threads, on, wait_until, watched};
use sprang::config::ProcessSettings;
use sprang::{Client, ErrorKind, LocalCluster, ProcessExecutor, Status, WhenFull, WorkerState, delayed, delayed_local};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[test]
fn a_cluster_describes_itself() {
    let cluster = of_threads(2).name("here").build().unwrap();
    assert_eq!(cluster.to_string(), r#"LocalCluster("here", workers=2, threads=2)"#);
    assert_eq!(Client::new(&cluster).to_string(), r#"Client("here", workers=2, threads=2)"#);
    let cluster = of_processes(2).memory_limit(1 << 30).name("there").build().unwrap();
    assert_eq!(cluster.to_string(), r#"LocalCluster("there", processes=2, threads=2, memory=2.0 GiB)"#);
    assert!(cluster.wait_for_workers(2, Some(TIMEOUT)));
    let workers = cluster.workers();
    assert_eq!(workers.len(), 2);
    for worker in &workers {
        assert_eq!((worker.num_threads, worker.memory_limit, worker.state), (1, Some(1 << 30), WorkerState::Idle));
        assert!(worker.pid.is_some() && worker.memory_used.is_some_and(|used| used < 1 << 30));
    }
    assert!(!cluster.wait_for_workers(3, Some(Duration::from_millis(5))));
}

#[test]
fn a_cluster_with_a_dashboard_says_why_it_cannot_have_one() {
    let error = of_threads(1).dashboard("not an address").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("127.0.0.1:8787"), "{error}");
    if !cfg!(feature = "dashboard") {
        let error = of_threads(1).dashboard("127.0.0.1:0").build().unwrap_err();
        assert!(error.to_string().contains("build it with the feature \"dashboard\""), "{error}");
    }
}

#[test]
fn a_cluster_is_scaled_up_and_down_while_it_works() {
    for builder in [of_threads(1), of_processes(1).max_workers(4)] {
        let cluster = builder.build().unwrap();
        let client = Client::new(&cluster);
        let futures = client.map(
            |x: u64| {
                std::thread::sleep(Duration::from_micros(300));
                x
            },
            0..600_u64,
        );
        for num_workers in [3, 1, 4, 2, 0, 1] {
            cluster.scale(num_workers).unwrap();
            let rest = (num_workers as u64 * 50..600).find(|&x| !futures[x as usize].is_done());
            if let Some(x) = rest.filter(|_| num_workers > 0) {
                futures[x as usize].result().unwrap();
            }
        }
        assert_eq!(client.gather(&futures).unwrap().iter().sum::<u64>(), 179_700);
        wait_until("the others to be gone", || cluster.workers().len() == 1);
        assert!(cluster.close(Some(TIMEOUT)));
    }
}

#[test]
fn there_are_no_more_processes_than_there_is_room_for() {
    let cluster = of_processes(1).max_workers(2).build().unwrap();
    let error = cluster.scale(3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoWorker);
    assert!(error.to_string().contains("room for 2 worker processes and cannot have 3"), "{error}");
    cluster.scale(2).unwrap();
    assert_eq!(cluster.workers().len(), 2);
}

#[test]
fn a_cluster_without_workers_keeps_tasks_until_workers_come() {
    let cluster = of_threads(0).build().unwrap();
    let client = Client::new(&cluster);
    let future = client.submit(|| 1_u8, ());
    assert!(!future.wait_timeout(Duration::from_millis(5)));
    cluster.scale(1).unwrap();
    assert_eq!(future.result().unwrap(), 1);
}

#[test]
fn a_cluster_adapts_to_its_load() {
    let cluster = of_threads(1).build().unwrap();
    cluster.adapt_every(Duration::from_millis(5), Duration::from_millis(100), 1, 3).unwrap();
    let client = Client::new(&cluster);
    let (gates, futures): (Vec<_>, Vec<_>) = (0..5).map(|i| gated(&client, i)).unzip();
    wait_until("more workers", || cluster.workers().len() == 3);
    gates.iter().for_each(|gate| gate.send(()).unwrap());
    client.gather(&futures).unwrap();
    wait_until("fewer workers", || cluster.workers().len() == 1);
}

#[test]
fn a_restarted_worker_runs_its_tasks_again() {
    on("a_worker_is_restarted", of_processes(2), |client| {
        let held = client.submit(|| vec![1_u8; 100_000], ());
        held.result_ref().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("began").to_str().unwrap().to_owned();
        // The first attempt waits until it is killed.
        let task = |path: String| {
            let is_first = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).is_ok();
            if is_first {
                loop {
                    std::thread::park();
                }
            }
            std::process::id()
        };
        let runs = client.submit(task, (path.clone(),));
        wait_until("it to run", || std::path::Path::new(&path).exists());
        let before = client.workers();
        let worker = before.iter().find(|worker| Some(worker.id) == runs.worker()).unwrap();
        assert_eq!(worker.state, WorkerState::Busy);
        // A signal kills the process, as a system that runs out of memory would.
        send_kill(worker.pid.unwrap());
        assert_ne!(runs.result().unwrap(), worker.pid.unwrap());
        let len = client.submit(|v: &Vec<u8>| v.len(), (&held,));
        assert_eq!(len.result().unwrap(), 100_000);
    });
    let cluster = of_processes(1).build().unwrap();
    let client = Client::new(&cluster);
    let pid = client.submit(std::process::id, ()).result().unwrap();
    assert!(cluster.restart_worker(0) && !cluster.restart_worker(7));
    wait_until("another process", || client.submit(std::process::id, ()).result().unwrap() != pid);
    cluster.restart();
    assert_eq!(client.submit(|| 1_u8, ()).result().unwrap(), 1);
    assert!(cluster.workers()[0].num_restarts >= 1);
}

fn send_kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The deaths and restarts of the first worker.
fn ends(client: &Client) -> (u64, u64) {
    let worker = &client.workers()[0];
    (worker.num_deaths, worker.num_restarts)
}

#[test]
fn deaths_and_restarts_of_a_worker_are_counted() {
    let pid = |client: &Client| client.submit(std::process::id, ()).result().unwrap();
    let two_threads = || LocalCluster::builder().workers(1).threads_per_worker(2);
    for (name, builder) in [("one thread", of_processes(1)), ("two threads", two_threads())] {
        watched(&format!("deaths and restarts, {name}"), || {
            let client = &Client::owning(builder.build().unwrap());
            let first = pid(client);
            assert_eq!(ends(client), (0, 0));
            // Idle.
            send_kill(first);
            wait_until("the death to be counted", || ends(client).0 == 1);
            let second = pid(client);
            assert_ne!(second, first);
            assert_eq!(ends(client), (1, 1));
            // Busy: the task kills its process the first time.
            let file = tempfile::NamedTempFile::new().unwrap();
            let path = file.path().to_str().unwrap().to_owned();
            let task = |path: String| {
                if std::path::Path::new(&path).exists() {
                    std::fs::remove_file(&path).unwrap();
                    std::process::abort();
                }
                std::process::id()
            };
            assert_ne!(client.submit(task, (path,)).result().unwrap(), second);
            assert_eq!(ends(client), (2, 2));
            // On request.
            let before = pid(client);
            assert!(client.cluster().unwrap().restart_worker(0));
            wait_until("another process", || pid(client) != before);
            assert_eq!(ends(client), (2, 3));
        });
    }
}

#[test]
fn a_worker_that_takes_the_place_of_one_that_left_has_no_history() {
    watched("no history", || {
        let client = Client::owning(of_processes(2).build().unwrap());
        let pids = client.run(std::process::id);
        assert_eq!(pids.len(), 2);
        send_kill(*pids[1].1.as_ref().unwrap());
        wait_until("the death to be counted", || client.workers()[1].num_deaths == 1);
        let cluster = client.cluster().unwrap();
        cluster.scale(1).unwrap();
        wait_until("the worker to be gone", || client.workers().len() == 1);
        cluster.scale(2).unwrap();
        assert!(client.run(std::process::id).iter().all(|(_, pid)| pid.is_ok()));
        let counts: Vec<_> = client.workers().iter().map(|it| (it.num_deaths, it.num_restarts)).collect();
        assert_eq!(counts, [(0, 0), (0, 0)]);
    });
}

#[test]
fn a_worker_that_uses_nearly_all_its_memory_is_replaced_between_tasks() {
    on("replaced between tasks", of_processes(1).memory_limit(200 << 20), |client| {
        let leak = || {
            // Written to and never freed.
            std::mem::forget(vec![1_u8; 60 << 20]);
            std::process::id()
        };
        let pids: Vec<u32> = (0..8).map(|_| client.submit(leak, ()).result().unwrap()).collect();
        assert_ne!(pids.first(), pids.last());
        assert!(client.workers()[0].num_restarts >= 1);
    });
}

#[test]
fn a_task_that_uses_too_much_memory_fails_and_the_cluster_goes_on() {
    let mut settings = ProcessSettings::default();
    settings.max_attempts = std::num::NonZeroU32::MIN;
    on("too much memory", of_processes(1).memory_limit(150 << 20).process_settings(settings), |client| {
        let eats = client.submit(
            || {
                let mut eaten = Vec::new();
                loop {
                    eaten.push(vec![1_u8; 10 << 20]);
                    std::thread::sleep(Duration::from_millis(5));
                    if eaten.len() > 1000 {
                        return eaten.len();
                    }
                }
            },
            (),
        );
        assert_eq!(eats.error().unwrap().kind(), ErrorKind::MemoryLimit);
        assert_eq!(client.submit(|| 1_u8, ()).result().unwrap(), 1);
    });
}

#[test]
fn resources_are_counted_for_each_worker() {
    on("resources_are_counted", of_threads(3).resource("gpu", 1.0), |client| {
        let running = Arc::new(AtomicU32::new(0));
        let peak = Arc::new(AtomicU32::new(0));
        let task = || {
            let (running, peak) = (Arc::clone(&running), Arc::clone(&peak));
            let body = move || {
                peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(2));
                running.fetch_sub(1, Ordering::SeqCst);
            };
            client.compute(&delayed_local(body, ()).resource("gpu", 1.0).workers(["worker-1"]))
        };
        let futures: Vec<_> = (0..10).map(|_| task()).collect();
        client.gather(&futures).unwrap();
        assert_eq!(peak.load(Ordering::SeqCst), 1);
        assert!(futures.iter().all(|future| future.worker() == Some(1)));
        let error = client.compute(&delayed(|| 1_u8, ()).resource("gpu", 2.0)).error().unwrap();
        assert_eq!(error.kind(), ErrorKind::NoWorker);
        assert!(error.to_string().contains("2 of \"gpu\""), "{error}");
        let nowhere = client.compute(&delayed(|| 1_u8, ()).workers(["worker-9"]));
        assert_eq!(nowhere.error().unwrap().kind(), ErrorKind::NoWorker);
    });
}

#[test]
fn fractions_of_a_resource_add_up() {
    let builder = LocalCluster::builder().workers(1).threads_per_worker(4).processes(false);
    on("fractions_of_a_resource_add_up", builder.resource("gpu", 1.0).resource("all", f64::INFINITY), |client| {
        // Both are reserved at once: one minus nine tenths is a tenth, which is not so in `f64`.
        let meet = Arc::new(std::sync::Barrier::new(2));
        let parts = [0.9, 0.1].map(|part| {
            let meet = Arc::clone(&meet);
            client.tasks().resource("gpu", part).submit_local(move || meet.wait().is_leader(), ())
        });
        client.gather(&parts).unwrap();
        // All is released afterwards, in any order.
        let parts = [0.1, 0.7, 0.2, 0.3].map(|part| client.tasks().resource("gpu", part).map(|x: u32| x, 0..50_u32));
        client.gather(&parts).unwrap();
        assert_eq!(client.tasks().resource("gpu", 1.0).submit(|| 1_u8, ()).result().unwrap(), 1);
        // Of two amounts, the last counts.
        assert_eq!(client.tasks().resource("gpu", 9.0).resource("gpu", 1.0).submit(|| 2_u8, ()).result().unwrap(), 2);
        let all = client.tasks().resource("all", f64::INFINITY).map(|x: u32| x, 0..4_u32);
        assert_eq!(client.gather(&all).unwrap(), [0, 1, 2, 3]);
        let strange = client.tasks().resource("gpu", f64::NAN).submit(|| 3_u8, ());
        assert_eq!(strange.error().unwrap().kind(), ErrorKind::NoWorker);
    });
}

#[test]
fn tasks_for_a_leaving_worker_fail_and_do_not_wait_for_ever() {
    let cluster = of_threads(2).build().unwrap();
    let client = Client::new(&cluster);
    let (go, blocker) = {
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = std::sync::Mutex::new(gate);
        let task = delayed_local(move || gate.lock().unwrap().recv().is_ok(), ()).workers(["worker-1"]);
        (go, client.compute(&task))
    };
    wait_until("the blocker to run", || blocker.status() == Status::Running);
    let waits = client.compute(&delayed(|| 1_u8, ()).workers(["worker-1"]));
    cluster.scale(1).unwrap();
    go.send(()).unwrap();
    assert!(blocker.result().unwrap());
    assert_eq!(waits.error().unwrap().kind(), ErrorKind::NoWorker);
}

#[test]
fn no_more_tasks_are_pending_than_there_is_room_for() {
    on("submit blocks", of_threads(1).max_pending(10), |client| {
        let mut most = 0;
        let mut sum = 0;
        for x in 0..2000_u64 {
            let future = client.submit(|x: u64| x, (x,));
            most = most.max(client.num_pending());
            if x % 100 == 0 {
                sum += future.result().unwrap();
            } else {
                future.detach();
            }
        }
        assert!(most <= 10, "{most}");
        assert_eq!(sum, 19_000);
    });
    on("submit fails", of_threads(1).max_pending(2).when_full(WhenFull::Error), |client| {
        let (go, first) = gated(client, 1);
        let second = client.submit(|| 2_u8, ());
        let third = client.submit(|| 3_u8, ());
        let error = third.error().unwrap();
        assert_eq!((third.status(), error.kind()), (Status::Failed, ErrorKind::Full));
        go.send(()).unwrap();
        assert_eq!((first.result().unwrap(), second.result().unwrap()), (1, 2));
        wait_until("room", || client.num_pending() == 0);
        assert!(third.retry().unwrap());
        assert_eq!(third.result().unwrap(), 3);
    });
}

#[test]
fn tasks_that_submit_tasks_do_not_wait_for_room() {
    on("tasks_that_submit_tasks", of_threads(1).max_pending(3), |client| {
        let total = client.submit(
            || {
                let client = Client::current().unwrap();
                let parts = client.map(|x: u64| x, 0..50_u64);
                client.gather(&parts).unwrap().iter().sum::<u64>()
            },
            (),
        );
        assert_eq!(total.result().unwrap(), 1225);
    });
}

#[test]
fn several_clients_share_a_cluster() {
    let cluster = of_threads(2).build().unwrap();
    let clients = [Client::new(&cluster), Client::new(&cluster)];
    let sum: u64 = std::thread::scope(|scope| {
        let threads = clients.each_ref().map(|client| {
            scope.spawn(|| client.gather(&client.map(|x: u64| x, 0..1000_u64)).unwrap().iter().sum::<u64>())
        });
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(sum, 999_000);
    // A future of one cluster is an argument of a task of the other.
    let x = clients[0].submit(|| 20_u8, ());
    assert_eq!(clients[1].submit(|x: &u8| x + 1, (&x,)).result().unwrap(), 21);
    let other = LocalCluster::builder().workers(1).processes(false).build().unwrap();
    let other = Client::new(&other);
    assert_eq!(other.submit(|x: &u8| x + 2, (&x,)).result().unwrap(), 22);
    // So is a pending one. The cluster that a task was submitted to runs it.
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let late = clients[0].submit_local(move || gone.lock().unwrap().recv().map_or(0, |()| 30_u8), ());
    let named = other
        .tasks()
        .workers(["worker-0"])
        .submit_local(|x: &u8| (*x, std::thread::current().name().map(str::to_owned)), (&late,));
    go.send(()).unwrap();
    assert_eq!(named.result().unwrap().0, 30);
    assert_eq!(other.who_has(&named), ["worker-0"]);
}

#[test]
fn a_task_that_needs_a_worker_is_not_part_of_a_graph() {
    on("a_task_that_asks_for_a_worker", of_threads(1).resource("gpu", 1.0), |client| {
        let on_gpu = delayed(|| 1_u8, ()).name("on the gpu").resource("gpu", 1.0);
        let error = client.compute(&delayed(|x: &u8| x + 1, (&on_gpu,))).error().unwrap();
        assert_eq!(error.kind(), ErrorKind::NoWorker);
        assert!(
            error.to_string().contains("\"on the gpu\"") && error.message().contains("submit it by itself"),
            "{error}"
        );
        let by_itself = client.compute(&on_gpu);
        assert_eq!(client.submit(|x: &u8| x + 1, (&by_itself,)).result().unwrap(), 2);
    });
}

#[test]
fn a_client_returns_its_own_cluster() {
    let client = Client::threads(1).unwrap();
    client.cluster().unwrap().scale(3).unwrap();
    assert_eq!(client.workers().len(), 3);
    assert!(Client::new(client.cluster().unwrap()).cluster().is_none());
}

#[test]
fn sizes_that_no_system_allows_are_refused() {
    let builder = LocalCluster::builder;
    let builders = [
        builder().workers(usize::MAX),
        builder().workers(usize::MAX).processes(false),
        builder().workers(1).threads_per_worker(usize::MAX),
        builder().workers(1).threads_per_worker(1 << 32).processes(false),
        builder().workers(2).threads_per_worker(usize::MAX / 2 + 1),
        builder().workers(1).max_workers(usize::MAX),
    ];
    for builder in builders {
        let error = builder.clone().build().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoWorker, "{builder:?}: {error}");
        assert!(error.message().contains("together at most 1048576 threads are allowed"), "{error}");
    }
    let task = delayed(|| 1, ());
    for num_workers in [usize::MAX, 1 << 21] {
        let executor = ProcessExecutor::new(num_workers.try_into().unwrap());
        let error = task.compute_with(executor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoWorker, "{error}");
    }
    let mut settings = ProcessSettings::default();
    settings.threads_per_worker = NonZeroUsize::MAX;
    let executor = ProcessExecutor::with_settings(2.try_into().unwrap(), settings);
    assert_eq!(task.compute_with(executor).unwrap_err().kind(), ErrorKind::NoWorker);
    // A limit that is no limit.
    let cluster = builder().workers(2).memory_limit(u64::MAX).build().unwrap();
    assert!(cluster.to_string().contains("processes=2"), "{cluster}");
}
