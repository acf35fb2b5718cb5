//! Which configuration tasks have, and which settings are those of the cluster.

use crate::{TIMEOUT, of_processes, of_threads, on, on_each};
use sprang::{Client, ErrorKind, LocalCluster, Result, config, delayed, try_delayed};
use std::sync::mpsc::channel;

fn get(key: &str) -> String {
    config::get(key).unwrap()
}

fn order() -> String {
    get("order")
}

/// The order that tasks see, however they are started.
fn seen(client: &Client) -> Vec<String> {
    let graph = delayed(|_: &String| order(), (&delayed(order, ()),));
    let mut seen = client.gather(client.map(|_: u8| order(), 0..3_u8)).unwrap();
    seen.push(client.submit(order, ()).result().unwrap());
    seen.push(client.submit_local(order, ()).result().unwrap());
    seen.push(client.tasks().priority(1).submit(order, ()).result().unwrap());
    seen.push(client.compute(&graph).result().unwrap());
    seen.extend(client.gather(client.compute((&graph, &graph))).map(|(one, other)| [one, other]).unwrap());
    seen.push(client.persist(&graph).compute().unwrap());
    seen
}

#[test]
fn a_scope_reaches_every_task_that_is_submitted_in_it_and_no_other() {
    on_each("a_scope_reaches_every_task", |client| {
        assert!(seen(client).iter().all(|order| order == "memory"));
        {
            let _scope = config::scoped("order", "fast").unwrap();
            assert!(seen(client).iter().all(|order| order == "fast"));
            let _inner = config::scoped("order", "memory").unwrap();
            assert!(seen(client).iter().all(|order| order == "memory"));
        }
        assert!(seen(client).iter().all(|order| order == "memory"));
    });
}

#[test]
fn a_task_keeps_the_scope_of_its_submission_when_it_runs_after_the_scope_or_again() {
    on("a_task_keeps_the_scope", of_threads(1), |client| {
        let (go, gate) = channel::<()>();
        let gate = std::sync::Mutex::new(gate);
        let first = client.submit_local(move || gate.lock().unwrap().recv().is_ok(), ());
        let fails_once = |first: &bool| {
            static IS_SECOND: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
            assert!(*first && IS_SECOND.swap(true, std::sync::atomic::Ordering::SeqCst), "the first time");
            order()
        };
        let later = {
            let _scope = config::scoped("order", "fast").unwrap();
            client.submit(fails_once, (&first,))
        };
        go.send(()).unwrap();
        assert_eq!(later.result().unwrap_err().kind(), ErrorKind::Panicked);
        assert!(later.retry().unwrap());
        assert_eq!(later.result().unwrap(), "fast");
    });
}

#[test]
fn tasks_of_one_batch_have_the_configurations_of_their_submissions() {
    on("tasks_of_one_batch", of_processes(1), |client| {
        let submit = |n: usize| {
            let _scope = config::scoped("order", ["fast", "memory"][n % 2]).unwrap();
            client.submit(order, ())
        };
        let futures: Vec<_> = (0..40).map(submit).collect();
        for (n, order) in client.gather(&futures).unwrap().iter().enumerate() {
            assert_eq!(order, ["fast", "memory"][n % 2]);
        }
    });
}

fn orders_of_nested() -> Result<[String; 3]> {
    let client = Client::current().expect("a task has a client");
    let inherited = client.submit(order, ()).result()?;
    let _scope = config::scoped("order", "fast")?;
    let scoped = client.submit(order, ()).result()?;
    drop(_scope);
    Ok([inherited, scoped, client.submit(order, ()).result()?])
}

#[test]
fn nested_tasks_have_the_configuration_of_the_task_that_submits_them() {
    on_each("nested_tasks", |client| {
        let expected = |outer: &str| [outer, "fast", outer].map(str::to_owned);
        assert_eq!(client.try_submit(orders_of_nested, ()).result().unwrap(), expected("memory"));
        {
            let _scope = config::scoped("order", "fast").unwrap();
            assert_eq!(client.try_submit(orders_of_nested, ()).result().unwrap(), expected("fast"));
        }
        assert_eq!(client.try_submit(orders_of_nested, ()).result().unwrap(), expected("memory"));
    });
}

#[test]
fn graphs_that_a_task_computes_run_on_the_cluster_in_a_scope_too() {
    on("graphs_that_a_task_computes", of_threads(2), |client| {
        let _scope = config::scoped("scheduler", "sync").unwrap().and("order", "fast").unwrap();
        let own_scheduler = || delayed(|| get("scheduler"), ()).compute();
        let scheduler = client.try_submit(own_scheduler, ()).result().unwrap();
        assert!(scheduler.starts_with("cluster"), "{scheduler}");
    });
}

#[test]
fn a_scope_sets_what_happens_to_a_failed_task() {
    on_each("a_scope_sets_what_happens", |client| {
        let fail = |x: u32| -> std::result::Result<u32, String> { Err(format!("no {x}")) };
        let error = client.try_submit(fail, (7_u32,)).error().unwrap();
        assert_eq!(error.replay().unwrap_err().kind(), ErrorKind::NotKept);
        let _scope = config::scoped("on_failure", "keep_inputs").unwrap();
        for future in [client.try_submit(fail, (7_u32,)), client.compute(&try_delayed(fail, (7_u32,)))] {
            let error = future.error().unwrap();
            assert_eq!(error.message(), "no 7");
            assert!(error.replay().is_ok());
        }
    });
}

#[test]
fn a_scope_sets_that_values_are_checked() {
    // Its value cannot be decoded in the way it is encoded.
    #[derive(Clone)]
    struct Broken;
    impl serde::Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
            serializer.serialize_unit()
        }
    }
    impl<'de> serde::Deserialize<'de> for Broken {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
            Err(serde::de::Error::custom("broken"))
        }
    }
    on("a_scope_sets_that_values_are_checked", of_threads(1), |client| {
        assert!(client.submit(|| Broken, ()).error().is_none());
        let _scope = config::scoped("check_portable", true).unwrap();
        let error = client.submit(|| Broken, ()).error().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotPortable);
    });
}

#[test]
fn settings_are_the_defaults_of_a_cluster() {
    let size = |builder: sprang::ClusterBuilder| {
        let workers = builder.build().unwrap().workers();
        (workers.len(), workers[0].num_threads)
    };
    let threads = || LocalCluster::builder().processes(false);
    {
        let _scope = config::scoped("num_workers", 1).unwrap();
        assert_eq!(size(threads()), (1, 1));
        assert_eq!(size(LocalCluster::builder()), (1, 1));
        assert_eq!(size(threads().threads_per_worker(3)), (1, 3));
        assert_eq!(size(threads().workers(2).threads_per_worker(1)), (2, 1));
        let _inner = config::scoped("processes.threads_per_worker", 2).unwrap();
        assert_eq!(size(LocalCluster::builder()), (1, 2));
        assert_eq!(size(threads().workers(3)), (3, 2));
    }
    let _scope = config::scoped("processes.threads_per_worker", 1024).unwrap();
    assert_eq!(size(threads()), (1, 1024));
    assert_eq!(size(threads().threads_per_worker(1).workers(2)), (2, 1));
}

#[test]
fn settings_of_processes_are_those_of_where_the_cluster_was_made() {
    let made = config::with("processes.environment", [("OF_CLUSTER", "made")], || of_processes(1).build()).unwrap();
    let cluster = made.unwrap();
    let client = Client::new(&cluster);
    let _scope = config::scoped("processes.environment", [("OF_CLUSTER", "submitted")]).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the variable is the test's")]
    let variable = client.submit(|| std::env::var("OF_CLUSTER").unwrap_or_default(), ()).result().unwrap();
    assert_eq!(variable, "made");
    assert!(cluster.close(Some(TIMEOUT)));
}
