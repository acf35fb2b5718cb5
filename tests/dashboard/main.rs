//! The dashboard, through requests as a browser sends them.
//!
//! A dashboard sees all runs of the process, so the tests take turns.

mod attack;
mod client;
#[path = "../contract/watchdog.rs"]
mod watchdog;

use client::{get, json, send, updates};
use serde_json::Value;
use sprang::dashboard::{self, Dashboard};
use sprang::{
    CancelToken, Client, Delayed, ErrorKind, LocalCluster, Refs, compute_each, config, delayed, delayed_local,
    try_delayed,
};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;
use watchdog::watched;

/// Calls `body` with a dashboard, while no other test runs.
fn with_dashboard(name: &str, body: impl FnOnce(&Dashboard) + Send) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    watched(name, || body(&dashboard::serve("127.0.0.1:0").unwrap()));
}

fn squares(num_tasks: u64) -> Delayed<u64> {
    let parts: Vec<_> = (0..num_tasks).map(|i| delayed(|i| i * i, (i,)).name(format!("square {i}"))).collect();
    delayed(|parts: Refs<'_, u64>| parts.iter().sum::<u64>(), (&parts,)).name("sum")
}

fn names<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap()).collect()
}

#[test]
fn every_endpoint_shows_a_run() {
    with_dashboard("endpoints", |dashboard| {
        assert_eq!(squares(10).compute_with("threads").unwrap(), 285);
        let status = json(dashboard, "/api/status");
        assert_eq!(status["version"], 1);
        assert_eq!(status["pid"], std::process::id());
        assert_eq!(status["runs"], serde_json::json!({ "running": 0, "finished": 1, "failed": 0, "cancelled": 0 }));
        assert_eq!((&status["tasks"]["finished"], &status["tasks"]["running"]), (&11.into(), &0.into()));
        let mut by_name = names(&status["tasks"]["names"], "name");
        by_name.sort_unstable();
        assert_eq!(by_name, ["square #", "sum"]);

        let runs = json(dashboard, "/api/runs");
        let run = &runs["runs"][0];
        assert_eq!(
            (&run["title"], &run["state"], &run["scheduler"]),
            (&"sum".into(), &"finished".into(), &"threads".into())
        );
        assert_eq!((&run["num_tasks"], &run["finished"], &run["error"]), (&11.into(), &11.into(), &Value::Null));
        assert!(run["started"].as_f64().unwrap() <= run["ended"].as_f64().unwrap());

        let tasks = json(dashboard, "/api/tasks?limit=3");
        assert_eq!(
            (tasks["tasks"].as_array().unwrap().len(), &tasks["kept"], &tasks["lost"]),
            (3, &11.into(), &0.into())
        );
        assert_eq!(tasks["tasks"][0]["name"], "sum");
        let found = json(dashboard, "/api/tasks?search=SQUARE+7&state=finished");
        assert_eq!(names(&found["tasks"], "name"), ["square 7"]);
        assert_eq!(json(dashboard, "/api/tasks?state=failed")["tasks"], serde_json::json!([]));

        let workers = json(dashboard, "/api/workers");
        let done: u64 = workers["workers"].as_array().unwrap().iter().map(|it| it["finished"].as_u64().unwrap()).sum();
        assert_eq!(done, 11);
        let log = json(dashboard, "/api/log");
        assert_eq!(names(&log["events"], "kind"), ["run finished", "run started", "dashboard started"]);

        let metrics = get(dashboard, "/metrics");
        assert!(metrics.head.contains("content-type: application/openmetrics-text"), "{}", metrics.head);
        let expected = "sprang_task_attempts_total{name=\"square #\",state=\"finished\"} 10\n";
        assert!(metrics.body.contains(expected) && metrics.body.ends_with("# EOF\n"), "{}", metrics.body);
        assert_eq!(get(dashboard, "/health").body, "ok\n");
    });
}

#[test]
fn the_pages_exist_and_load_nothing_from_elsewhere() {
    with_dashboard("pages", |dashboard| {
        for (path, kind) in [
            ("/", "text/html"),
            ("/style.css", "text/css"),
            ("/app.js", "text/javascript"),
            ("/graph.js", "text/javascript"),
            ("/parts.js", "text/javascript"),
            ("/stream.js", "text/javascript"),
            ("/icon.svg", "image/svg"),
        ] {
            let answer = get(dashboard, path);
            assert_eq!(answer.status, 200, "{path}");
            assert!(answer.head.contains(&format!("content-type: {kind}")), "{path}: {}", answer.head);
            assert!(answer.head.contains("content-security-policy: default-src 'none'"), "{path}: {}", answer.head);
            let links = answer.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!links.contains("http://") && !links.contains("https://"), "{path}");
        }
        assert_eq!(get(dashboard, "/no/such/page").status, 404);
        assert_eq!(get(dashboard, "/api/tasks?limit=many").status, 400);
    });
}

#[test]
fn failures_are_shown_with_their_messages() {
    with_dashboard("failures", |dashboard| {
        let bad = try_delayed(|text: &str| text.parse::<u64>(), ("x",)).name("bad");
        let after = delayed(|bad: &u64| *bad, (&bad,)).name("after");
        let fine = delayed(|| 1_u64, ()).name("fine");
        let _errors = config::scoped("errors", "collect").unwrap();
        assert!(compute_each(&vec![after, fine]).unwrap()[0].is_err());
        let status = json(dashboard, "/api/status");
        let tasks = &status["tasks"];
        assert_eq!((&tasks["finished"], &tasks["failed"], &tasks["skipped"]), (&1.into(), &1.into(), &1.into()));
        let log = json(dashboard, "/api/log");
        let failed = log["events"].as_array().unwrap().iter().find(|event| event["kind"] == "task failed").unwrap();
        assert_eq!(failed["text"], "bad: invalid digit found in string");
        assert_eq!(names(&json(dashboard, "/api/tasks?state=failed")["tasks"], "name"), ["bad"]);
    });
}

#[test]
fn a_page_receives_updates_of_a_live_run() {
    with_dashboard("updates", |dashboard| {
        let mut updates = updates(dashboard);
        let first = updates.next().unwrap();
        assert_eq!((&first["reset"], &first["runs"]["running"]), (&true.into(), &0.into()));
        let (go, gone) = mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let wait = delayed_local(move || gone.lock().unwrap().recv().unwrap(), ()).name("wait");
        let after = delayed(|_: &(), sum: &u64| *sum, (&wait, &squares(20))).name("after");
        std::thread::scope(|scope| {
            let run = scope.spawn(|| after.compute_with("threads").unwrap());
            // An update may show other running tasks too.
            let waits = |update: &Value| names(&update["running"], "name").contains(&"wait");
            let running = updates.find(waits).unwrap();
            assert_eq!(running["live"][0]["title"], "after");
            let progress = running["live"][0]["names"].as_array().unwrap();
            let squares = progress.iter().find(|name| name["name"] == "square #").unwrap();
            assert_eq!(squares["total"], 20);
            go.send(()).unwrap();
            assert_eq!(run.join().unwrap(), 2_470);
        });
        let mut num_ended = 0;
        let last = updates.by_ref().find(|update| {
            num_ended += update["ended"].as_array().unwrap().len();
            update["runs"]["finished"] == 1 && update["tasks"]["finished"] == 23
        });
        assert_eq!((&last.unwrap()["last_task"], num_ended <= 23), (&23.into(), true));
    });
}

/// A task that runs until the sender sends or is dropped, or the run is cancelled.
fn gate() -> (mpsc::Sender<()>, Delayed<()>) {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let wait = move || {
        let gone = gone.lock().unwrap();
        while gone.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout)
            && !CancelToken::current().is_cancelled()
        {}
    };
    (go, delayed_local(wait, ()).name("gate"))
}

/// Repeats a request until the answer fits.
fn until(dashboard: &Dashboard, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
    loop {
        let answer = get(dashboard, path);
        if answer.status == 200 {
            let value = serde_json::from_str(&answer.body).unwrap();
            if fits(&value) {
                return value;
            }
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_graph_is_drawn_with_its_stages_while_it_runs() {
    with_dashboard("graph", |dashboard| {
        let (go, gate) = gate();
        let after = delayed(|_: &(), sum: &u64| *sum, (&gate, &squares(10))).name("after");
        std::thread::scope(|scope| {
            let run = scope.spawn(|| after.compute_with("sync").unwrap());
            let status = until(dashboard, "/api/status", |status| status["running"][0]["name"] == "gate");
            let run_id = &status["live"][0]["id"];
            let graph = json(dashboard, &format!("/api/runs/{run_id}/graph"));
            let boxes = graph["boxes"].as_array().unwrap();
            assert_eq!((boxes.len(), graph["edges"].as_array().unwrap().len()), (13, 12));
            assert_eq!((&graph["is_collapsed"], &graph["title"]), (&false.into(), &"after".into()));
            let place = |name: &str| boxes.iter().position(|it| it["name"] == name).unwrap();
            assert_eq!(boxes[place("after")]["is_output"], true);

            let stages = json(dashboard, &format!("/api/runs/{run_id}/stages"));
            assert_eq!(stages["stages"][1], "running");
            assert_eq!(stages["boxes"][place("gate")], serde_json::json!([0, 1, 0, 0, 0, 0]));
            assert_eq!(stages["boxes"][place("after")], serde_json::json!([1, 0, 0, 0, 0, 0]));

            let after_id = &boxes[place("after")]["task"];
            let task = json(dashboard, &format!("/api/runs/{run_id}/tasks/{after_id}"));
            assert_eq!(
                (&task["stage"], &task["is_ready"], &task["num_inputs"]),
                (&"waiting".into(), &false.into(), &2.into())
            );
            let waiting = json(dashboard, "/api/waiting?search=AFTER");
            let unfinished = names(&waiting["tasks"][0]["unfinished"], "name");
            assert!(unfinished.contains(&"gate"), "{unfinished:?}");
            // The only thread is in a task that waits, so every task without unfinished inputs is
            // ready.
            let ready = status["tasks"]["ready"].as_u64().unwrap();
            let waiting = json(dashboard, "/api/waiting");
            let listed = waiting["tasks"].as_array().unwrap().iter().filter(|task| task["is_ready"] == true).count();
            assert_eq!(ready, listed as u64);

            go.send(()).unwrap();
            assert_eq!(run.join().unwrap(), 285);
            let stages = json(dashboard, &format!("/api/runs/{run_id}/stages"));
            let finished = stages["boxes"].as_array().unwrap().iter().all(|it| it[2] == 1);
            assert!(finished && stages["is_live"] == false, "{stages}");
        });
        assert_eq!(get(dashboard, "/api/runs/999999/graph").status, 404);
        assert_eq!(get(dashboard, "/api/runs/x/graph").status, 400);
        assert_eq!(json(dashboard, "/api/waiting")["tasks"], serde_json::json!([]));
    });
}

#[test]
fn a_large_graph_is_drawn_by_name() {
    with_dashboard("large graph", |dashboard| {
        assert_eq!(squares(5_000).compute_with("threads").unwrap(), 41_654_167_500);
        let run = &json(dashboard, "/api/runs")["runs"][0]["id"];
        let graph = json(dashboard, &format!("/api/runs/{run}/graph"));
        assert_eq!((&graph["is_collapsed"], names(&graph["boxes"], "name")), (&true.into(), vec!["square #", "sum"]));
        assert_eq!((&graph["boxes"][0]["num_tasks"], &graph["edges"][0]["count"]), (&5_000.into(), &5_000.into()));
        let stages = json(dashboard, &format!("/api/runs/{run}/stages"));
        assert_eq!(stages["boxes"][0], serde_json::json!([0, 0, 5_000, 0, 0, 0]));
    });
}

#[test]
fn every_run_has_a_report_and_a_trace_to_download() {
    with_dashboard("reports", |dashboard| {
        assert_eq!(squares(100_000).compute_with("threads").unwrap(), 333_328_333_350_000);
        let (go, gate) = gate();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| delayed(|_: &()| 7, (&gate,)).name("late").compute_with("threads").unwrap());
            let status = until(dashboard, "/api/status", |status| status["tasks"]["running"] == 1);
            // A live run has a report too.
            let live = &status["live"][0]["id"];
            let report = get(dashboard, &format!("/api/runs/{live}/report.html"));
            assert!(report.status == 200 && report.body.contains("Profile of late"), "{}", report.head);
            go.send(()).unwrap();
            assert_eq!(run.join().unwrap(), 7);
        });
        let runs = json(dashboard, "/api/runs");
        let ended = &runs["runs"][1];
        assert_eq!((&ended["title"], &ended["has_report"]), (&"sum".into(), &true.into()));
        let report = get(dashboard, &format!("/api/runs/{}/report.html", ended["id"]));
        assert!(report.body.starts_with("<!doctype html>") && report.body.contains("Profile of sum"));
        // A report has scripts, which must not run in the origin of the dashboard.
        assert!(report.head.contains("content-disposition: attachment; filename=\"sprang-run-"), "{}", report.head);
        // The report says that it is a sample, and how many calls there were.
        assert!(report.body.contains("<b>100\u{202f}001</b><span>calls of tasks</span>"));
        assert!(
            report.body.contains("This is an even sample") && report.body.len() < 4_000_000,
            "{}",
            report.body.len()
        );
        let trace = get(dashboard, &format!("/api/runs/{}/trace.json", ended["id"]));
        let events: Value = serde_json::from_str(&trace.body).unwrap();
        let events = events["traceEvents"].as_array().unwrap();
        assert!((5_000..70_000).contains(&events.len()), "{}", events.len());
        assert_eq!(get(dashboard, "/api/runs/999999/report.html").status, 404);
    });
}

#[test]
fn only_a_local_request_with_the_token_cancels_a_run() {
    with_dashboard("cancel", |dashboard| {
        let (_go, gate) = gate();
        let after = delayed(|_: &()| 1, (&gate,)).name("after");
        std::thread::scope(|scope| {
            let run = scope.spawn(|| after.compute_with("threads").unwrap_err());
            let status = until(dashboard, "/api/status", |status| status["tasks"]["running"] == 1);
            let path = format!("/api/runs/{}/cancel", status["live"][0]["id"]);
            let send = |headers: &str| send(dashboard.address(), &format!("POST {path} HTTP/1.1\r\n{headers}")).status;
            let token = dashboard.token();
            let action = "X-Sprang-Action: cancel";
            assert_eq!(send(&format!("Host: localhost\r\n{action}")), 401);
            assert_eq!(send(&format!("Host: localhost\r\n{action}\r\nAuthorization: Bearer {}", "0".repeat(32))), 401);
            assert_eq!(send(&format!("Host: localhost\r\n{action}\r\nAuthorization: Bearer {}", &token[1..])), 401);
            assert_eq!(send(&format!("Host: localhost\r\n{action}\r\nAuthorization: Basic {token}")), 401);
            assert_eq!(send(&format!("Host: localhost\r\nAuthorization: Bearer {token}")), 400);
            let right = format!("{action}\r\nAuthorization: Bearer {token}");
            assert_eq!(send(&format!("Host: evil.example\r\n{right}")), 403);
            assert_eq!(send(&format!("Host: localhost\r\nOrigin: http://evil.example\r\n{right}")), 403);
            assert_eq!(send(&format!("Host: localhost\r\nOrigin: null\r\n{right}")), 403);
            let form = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate";
            assert_eq!(send(&format!("Host: localhost\r\n{form}\r\n{right}")), 403);
            // A link does not cancel, nor does a token in the URL.
            assert_eq!(get(dashboard, &path).status, 405);
            assert_eq!(get(dashboard, &format!("{path}?token={token}")).status, 405);
            assert_eq!(json(dashboard, "/api/status")["runs"]["cancelled"], 0, "the run is live");

            assert_eq!(send(&format!("Host: localhost\r\n{right}")), 202);
            assert_eq!(run.join().unwrap().kind(), ErrorKind::Cancelled);
            assert_eq!(send(&format!("Host: localhost\r\n{right}")), 409, "the run has ended");
            let unknown = format!("POST /api/runs/999999/cancel HTTP/1.1\r\nHost: localhost\r\n{right}");
            assert_eq!(client::send(dashboard.address(), &unknown).status, 404);
        });
        let status = json(dashboard, "/api/status");
        assert_eq!(status["runs"]["cancelled"], 1);
        let log = json(dashboard, "/api/log");
        assert!(names(&log["events"], "kind").contains(&"cancel requested"));
        // No answer contains the token.
        for path in ["/", "/api/status", "/api/log", "/api/runs", "/metrics"] {
            assert!(!get(dashboard, path).body.contains(dashboard.token()), "{path}");
        }
        assert!(!format!("{dashboard:?}").contains(dashboard.token()));
    });
}

#[test]
fn bytes_of_values_are_counted_from_their_task_to_their_last_reader() {
    with_dashboard("values", |dashboard| {
        let text = delayed(|| "x".repeat(100_000), ()).name("text");
        let (go, wait) = gate();
        let len = delayed(|text: &String, _: &()| text.len(), (&text, &wait));
        std::thread::scope(|scope| {
            let run = scope.spawn(|| len.compute_with("sync").unwrap());
            let running = |status: &Value| status["running"][0]["name"] == "gate" && status["tasks"]["finished"] == 1;
            let status = until(dashboard, "/api/status", running);
            // A value in this process counts as the size of its type.
            assert_eq!(status["values"]["bytes"], size_of::<String>());
            go.send(()).unwrap();
            assert_eq!(run.join().unwrap(), 100_000);
        });
        let values = &json(dashboard, "/api/status")["values"];
        assert_eq!((&values["bytes"], &values["peak_bytes"]), (&0.into(), &size_of::<String>().into()));

        // A value from another process counts as the size of its encoding, with all that it owns.
        #[cfg(target_os = "linux")]
        {
            let (go, wait) = gate();
            // A local task runs in this process, so its input comes here.
            let len = delayed_local(|text: &String, _: &()| text.len(), (&text, &wait));
            std::thread::scope(|scope| {
                let run = scope.spawn(|| len.compute_with("processes").unwrap());
                let is_there = |status: &Value| status["values"]["bytes"].as_u64().unwrap() >= 100_000;
                let status = until(dashboard, "/api/status", is_there);
                assert!(status["values"]["bytes"].as_u64().unwrap() < 101_000, "{}", status["values"]);
                go.send(()).unwrap();
                assert_eq!(run.join().unwrap(), 100_000);
            });
        }
        let client = Client::threads(1).unwrap();
        let futures = client.map(|x: u64| x, 0..10_u64);
        client.gather(&futures).unwrap();
        let values = &json(dashboard, "/api/status")["values"];
        assert_eq!(values["bytes"], 0, "the futures hold them");
        assert_eq!((&values["num_of_futures"], &values["bytes_of_futures"]), (&10.into(), &80.into()));
        assert!(values["peak_bytes"].as_u64().unwrap() >= 80, "{values}");
        let metrics = get(dashboard, "/metrics").body;
        assert!(
            metrics.contains("sprang_value_bytes 0\n") && metrics.contains("sprang_future_value_bytes 80\n"),
            "{metrics}"
        );
    });
}

#[test]
fn the_value_of_a_future_is_counted_once_even_in_a_live_run() {
    with_dashboard("values of futures", |dashboard| {
        let client = Client::threads(2).unwrap();
        // One run: its first task has finished, and its value belongs to a future and to the second
        // task, which is running.
        let (go, gate) = gate();
        let large = delayed_local(|| [1_u8; 70_000], ()).name("large");
        let sum = delayed_local(|large: &[u8; 70_000], _: &()| u64::from(large[7]), (&large, &gate)).name("sum");
        let (large, sum) = client.compute((&large, &sum));
        assert_eq!(large.result().unwrap()[7], 1);
        let at_gate = |status: &Value| status["running"][0]["name"] == "gate";
        let values = &until(dashboard, "/api/status", at_gate)["values"];
        assert_eq!((&values["bytes"], &values["bytes_of_futures"]), (&0.into(), &70_000.into()));
        assert_eq!(values["peak_bytes"], 70_000);
        go.send(()).unwrap();
        assert_eq!(sum.result().unwrap(), 1);
        let values = &json(dashboard, "/api/status")["values"];
        assert_eq!((&values["num_of_futures"], &values["bytes_of_futures"]), (&2.into(), &70_008.into()));
        assert_eq!(values["peak_bytes"], 70_008, "{values}");
    });
}

#[test]
fn the_futures_of_a_cluster_are_one_run_whose_counts_grow() {
    with_dashboard("futures", |dashboard| {
        let cluster = LocalCluster::builder().workers(2).threads_per_worker(1).processes(false).name("demo");
        let client = Client::owning(cluster.build().unwrap());
        // A run before the futures stays in the history.
        assert_eq!(squares(10).compute_with("sync").unwrap(), 285);
        let futures: Vec<_> = (0..3_000_u64)
            .map(|i| client.compute(&delayed(|i: u64| i * i, (i,)).name(format!("square {i}"))))
            .collect();
        let sum = client.submit(|all: Refs<'_, u64>| all.iter().sum::<u64>(), (&futures,));
        assert_eq!(sum.result().unwrap(), 8_995_500_500);
        let bad = client.compute(&try_delayed(|text: &str| text.parse::<u64>(), ("x",)).name("bad"));
        assert!(bad.result().is_err());
        let is_idle = |runs: &Value| runs["runs"].as_array().unwrap().iter().any(|run| run["state"] == "idle");
        let runs = until(dashboard, "/api/runs", is_idle);
        assert_eq!(names(&runs["runs"], "title"), ["demo", "sum"]);
        let cluster_run = &runs["runs"][0];
        assert_eq!((&cluster_run["kind"], &cluster_run["scheduler"]), (&"futures".into(), &"threads".into()));
        assert_eq!(
            (&cluster_run["num_tasks"], &cluster_run["finished"], &cluster_run["failed"]),
            (&3_002.into(), &3_001.into(), &1.into())
        );
        assert_eq!((&cluster_run["has_graph"], &cluster_run["has_report"]), (&false.into(), &true.into()));
        assert_eq!(runs["counts"], serde_json::json!({ "running": 0, "finished": 1, "failed": 0, "cancelled": 0 }));

        // The table has the last 1024 tasks of each thread, with the id of the cluster's run and a
        // number of their own.
        let id = &cluster_run["id"];
        let tasks = json(dashboard, &format!("/api/tasks?limit=2000&run={id}&search=square"));
        let numbers: HashSet<u64> =
            tasks["tasks"].as_array().unwrap().iter().map(|it| it["task"].as_u64().unwrap()).collect();
        assert_eq!(numbers.len(), tasks["tasks"].as_array().unwrap().len());
        assert!(numbers.len() >= 1_024, "{}", numbers.len());
        assert_eq!(names(&json(dashboard, &format!("/api/tasks?run={id}&state=failed"))["tasks"], "name"), ["bad"]);
        let log = json(dashboard, "/api/log");
        let kinds = names(&log["events"], "kind");
        assert_eq!(kinds, ["task failed", "cluster seen", "run finished", "run started", "dashboard started"]);

        // While futures are running, their run is listed among the live ones.
        let (go, gate) = gate();
        let gated = client.compute(&gate);
        let after = client.submit(|_: &()| 1, (&gated,));
        let status = until(dashboard, "/api/status", |status| status["tasks"]["running"] == 1);
        let live = &status["live"][0];
        assert_eq!((&live["id"], &live["state"], &live["num_tasks"]), (id, &"running".into(), &3_004.into()));
        assert_eq!((&status["tasks"]["waiting"], &status["runs"]["running"]), (&1.into(), &1.into()));
        let by_name = live["names"].as_array().unwrap();
        let squares = by_name.iter().find(|name| name["name"] == "square #").unwrap();
        assert_eq!((&squares["finished"], &squares["total"]), (&3_000.into(), &3_000.into()));
        assert_eq!(status["running"][0]["run"], *id);
        let right = format!("X-Sprang-Action: cancel\r\nAuthorization: Bearer {}", dashboard.token());
        let cancel = format!("POST /api/runs/{id}/cancel HTTP/1.1\r\nHost: localhost\r\n{right}");
        assert_eq!(send(dashboard.address(), &cancel).status, 409);
        go.send(()).unwrap();
        assert_eq!(after.result().unwrap(), 1);

        let report = get(dashboard, &format!("/api/runs/{id}/report.html"));
        assert!(report.status == 200 && report.body.contains("square #"), "{}", report.head);
        drop((client, futures, sum, bad, gated, after));
        until(dashboard, "/api/runs", |runs| runs["runs"][0]["state"] == "finished");
    });
}

#[test]
fn many_futures_leave_the_history_and_the_memory_bounded() {
    with_dashboard("many futures", |dashboard| {
        let client = Client::threads(2).unwrap();
        assert_eq!(squares(10).compute_with("sync").unwrap(), 285);
        for _ in 0..5 {
            let futures = client.map(|x: u64| x + 1, 0..10_000_u64);
            assert_eq!(client.gather(&futures).unwrap().len(), 10_000);
        }
        let runs = until(dashboard, "/api/runs", |runs| runs["runs"][0]["state"] == "idle");
        let all = runs["runs"].as_array().unwrap();
        assert_eq!((all.len(), &all[0]["finished"], &all[1]["title"]), (2, &50_000.into(), &"sum".into()));
        let report = get(dashboard, &format!("/api/runs/{}/report.html", all[0]["id"]));
        // At least 10 000, at most twice as many.
        assert!(report.status == 200 && report.body.len() < 8_000_000, "{}", report.body.len());
    });
}

#[test]
fn a_graph_that_a_client_computes_is_a_run_with_a_graph() {
    with_dashboard("graph of a client", |dashboard| {
        let client = Client::threads(2).unwrap();
        assert_eq!(client.compute(&squares(20)).result().unwrap(), 2_470);
        let runs = until(dashboard, "/api/runs", |runs| runs["counts"]["finished"] == 1);
        let run = &runs["runs"][0];
        assert_eq!((&run["kind"], &run["title"], &run["has_graph"]), (&"run".into(), &"sum".into(), &true.into()));
    });
}

#[test]
fn a_graph_that_a_client_computes_is_not_counted_with_its_cluster() {
    with_dashboard("graph beside futures", |dashboard| {
        let client = Client::threads(2).unwrap();
        assert_eq!(client.submit(|x: u64| x + 1, (1_u64,)).result().unwrap(), 2);
        let (go, gate) = gate();
        let afters: Vec<_> =
            (0..20_u64).map(|i| delayed_local(|_: &(), i: u64| i, (&gate, i)).name(format!("after {i}"))).collect();
        let futures = client.compute(&afters);
        let status = until(dashboard, "/api/status", |status| status["tasks"]["running"] == 1);
        assert_eq!((&status["tasks"]["waiting"], &status["runs"]["running"]), (&20.into(), &1.into()), "{status}");
        let live = status["live"].as_array().unwrap();
        assert_eq!((live.len(), &live[0]["kind"], &live[0]["num_tasks"]), (1, &"run".into(), &21.into()));
        go.send(()).unwrap();
        client.gather(&futures).unwrap();
    });
}

#[test]
fn a_report_on_futures_has_many_calls_even_if_they_read_many_values() {
    with_dashboard("many values", |dashboard| {
        let client = Client::threads(2).unwrap();
        let parts = client.map(|x: u64| x, 0..300_u64);
        // With the 300 that each reads, far more than 10 000 tasks.
        let sums: Vec<_> = (0..100_u64)
            .map(|i| client.submit(|all: Refs<'_, u64>, i: u64| all.iter().sum::<u64>() + i, (&parts, i)))
            .collect();
        client.gather(&sums).unwrap();
        let runs = until(dashboard, "/api/runs", |runs| runs["runs"][0]["state"] == "idle");
        let run = &runs["runs"][0];
        assert_eq!((run["finished"].as_u64(), &run["kind"]), (Some(400), &"futures".into()));
        // The trace has the last future once its run has ended, which is after the future.
        let has_all = |trace: &Value| {
            let events = trace.get("traceEvents").unwrap_or(trace).as_array().unwrap();
            events.iter().filter(|event| event["ph"] == "X").count() == 400
        };
        until(dashboard, &format!("/api/runs/{}/trace.json", run["id"]), has_all);
    });
}

#[cfg(target_os = "linux")]
fn num_calls(path: &str) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

/// Records its call in a file, and returns at the given number of calls.
#[cfg(target_os = "linux")]
fn lucky(path: String, is_last_call: usize) -> u64 {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
    file.write_all(b"called\n").unwrap();
    while num_calls(&path) < is_last_call {
        std::thread::sleep(Duration::from_millis(5));
    }
    7
}

#[cfg(target_os = "linux")]
fn restart(dashboard: &Dashboard, pid: &Value, headers: &str) -> u16 {
    let path = format!("/api/workers/{pid}/restart");
    send(dashboard.address(), &format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}")).status
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_is_restarted_from_the_page_and_its_task_is_charged_no_attempt() {
    with_dashboard("restart", |dashboard| {
        let right = format!("X-Sprang-Action: restart\r\nAuthorization: Bearer {}", dashboard.token());
        let is_at_work = |all: &Value| {
            all["workers"].as_array().unwrap().iter().any(|it| it["can_restart"] == true && it["running"] == 1)
        };
        let cluster = LocalCluster::builder().workers(1).threads_per_worker(1).name("crew").build().unwrap();
        let client = Client::owning(cluster);
        for how in ["a run", "a future"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("calls").to_str().unwrap().to_owned();
            let task = delayed(lucky, (path.clone(), 6_usize)).name("lucky");
            std::thread::scope(|scope| {
                let result = scope.spawn(|| match how {
                    "a run" => task.compute_with("processes"),
                    _ => client.compute(&task).result(),
                });
                // These are more restarts than attempts of a task that kills its worker.
                for number in 1..6 {
                    while num_calls(&path) < number {
                        std::thread::yield_now();
                    }
                    let all = until(dashboard, "/api/workers", is_at_work);
                    let workers = all["workers"].as_array().unwrap();
                    let at_work = |it: &&Value| it["can_restart"] == true && it["running"] == 1;
                    let pid = &workers.iter().find(at_work).unwrap()["pid"];
                    if number == 1 {
                        assert_eq!(restart(dashboard, pid, &right.replace("restart", "cancel")), 400);
                        assert_eq!(restart(dashboard, pid, "X-Sprang-Action: restart\r\nAuthorization: Bearer x"), 401);
                        assert_eq!(restart(dashboard, pid, &format!("Origin: http://evil.example\r\n{right}")), 403);
                        assert_eq!(restart(dashboard, &std::process::id().into(), &right), 404, "no worker");
                    }
                    assert_eq!(restart(dashboard, pid, &right), 202, "{how}");
                    assert_eq!(restart(dashboard, pid, &right), 404, "the restart was already requested");
                }
                assert_eq!(result.join().unwrap().unwrap(), 7, "{how}");
            });
            let retried = json(dashboard, "/api/tasks?state=retried&search=lucky");
            assert!(retried["tasks"].as_array().unwrap().len() >= 5, "{retried}");
            let failed = json(dashboard, "/api/status");
            assert_eq!(failed["tasks"]["failed"], 0);
        }
        let log = json(dashboard, "/api/log");
        assert!(names(&log["events"], "kind").contains(&"restart requested"));
        let lost = json(dashboard, "/api/workers");
        let lost = lost["workers"].as_array().unwrap().iter().find(|it| it["lost"].is_string()).unwrap().clone();
        assert!(lost["lost"].as_str().unwrap().contains("was restarted") && lost["can_restart"] == false, "{lost}");
    });
    with_dashboard("nothing to restart", |dashboard| {
        assert_eq!(squares(10).compute_with("threads").unwrap(), 285);
        let all = json(dashboard, "/api/workers");
        assert!(all["workers"].as_array().unwrap().iter().all(|it| it["can_restart"] == false), "{all}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_older_than_the_dashboard_is_restarted_from_it() {
    with_dashboard("an early one", |_| {
        let cluster = LocalCluster::builder().workers(1).threads_per_worker(1).memory_limit(1 << 30).build().unwrap();
        let client = Client::owning(cluster);
        let pid = client.submit(std::process::id, ()).result().unwrap();
        let dashboard = &dashboard::serve("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls").to_str().unwrap().to_owned();
        let future = client.submit(lucky, (path.clone(), 2_usize));
        while num_calls(&path) < 1 {
            std::thread::yield_now();
        }
        let all = until(dashboard, "/api/workers", |all| all["workers"].as_array().is_some_and(|all| !all.is_empty()));
        let worker = &all["workers"][0];
        assert_eq!((&worker["pid"], &worker["can_restart"]), (&pid.into(), &true.into()), "{worker}");
        assert_eq!((&worker["memory_limit"], &worker["restarts"]), (&(1 << 30).into(), &0.into()), "{worker}");
        let right = format!("X-Sprang-Action: restart\r\nAuthorization: Bearer {}", dashboard.token());
        assert_eq!(restart(dashboard, &pid.into(), &right), 202);
        assert_eq!(future.result().unwrap(), 7);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn workers_are_shown_with_their_memory_and_how_they_were_lost() {
    fn die() {
        use std::io::Write;
        let _written = std::io::stderr().write_all(b"bad header in tile 17\n");
        std::process::abort();
    }
    with_dashboard("workers", |dashboard| {
        let _scope = config::scoped("num_workers", 1).unwrap().and("processes.stdio", "capture").unwrap();
        let _limit = config::scoped("processes.memory_limit", "512 MiB").unwrap();
        let bad = delayed(die, ()).name("bad");
        assert_eq!(bad.compute_with("processes").unwrap_err().kind(), ErrorKind::WorkerDied);
        assert_ne!(delayed(std::process::id, ()).compute_with("processes").unwrap(), std::process::id());
        let all = until(dashboard, "/api/workers", |all| {
            all["workers"].as_array().unwrap().last().unwrap()["memory"].is_u64()
        });
        let workers = all["workers"].as_array().unwrap();
        let lost: Vec<_> = workers.iter().filter(|worker| worker["lost"].is_string()).collect();
        assert_eq!(lost.len(), 3);
        for (worker, restarts) in lost.iter().zip(0..) {
            assert_eq!((&worker["restarts"], &worker["memory"]), (&restarts.into(), &Value::Null));
            assert!(worker["lost"].as_str().unwrap().contains("SIGABRT"), "{worker}");
            assert!(worker["output"].as_str().unwrap().ends_with("bad header in tile 17"), "{worker}");
        }
        assert!(lost[2]["last_error"].as_str().unwrap().starts_with("bad: killed by signal 6"), "{}", lost[2]);
        let last = workers.last().unwrap();
        assert_eq!((&last["restarts"], &last["memory_limit"]), (&3.into(), &(512_u64 << 20).into()));
        assert!(last["own_memory"].as_u64().unwrap() < last["memory"].as_u64().unwrap(), "{last}");
        let machine = &json(dashboard, "/api/status")["machine"];
        assert!(machine["memory"].as_u64().unwrap() > last["memory"].as_u64().unwrap());
        assert!(machine["total_memory"].as_u64().unwrap() > machine["memory"].as_u64().unwrap());
    });
}

#[test]
fn connections_beyond_the_limit_wait() {
    with_dashboard("connections", |dashboard| {
        let idle: Vec<_> = (0..400).map(|_| client::connect(dashboard.address())).collect();
        let mut late = client::connect(dashboard.address());
        late.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        // Runs are not delayed.
        assert_eq!(squares(1_000).compute_with("threads").unwrap(), 332_833_500);
        drop(idle);
        let mut answer = String::new();
        late.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("ok\n"), "{answer}");
    });
}

#[test]
fn requests_under_a_foreign_host_name_are_refused() {
    with_dashboard("hosts", |dashboard| {
        let address = dashboard.address();
        let status = |headers: &str| send(address, &format!("GET /api/status HTTP/1.1\r\n{headers}")).status;
        assert_eq!(status("Host: localhost:9999"), 200);
        assert_eq!(status("Host: [::1]"), 200);
        assert_eq!(status("Host: evil.example"), 403);
        assert_eq!(status(&format!("Host: 127.0.0.1.evil.example:{}", address.port())), 403);
        assert_eq!(status("Host: localhost\r\nHost: evil.example"), 403);
        assert_eq!(status("X-Nothing: 1"), 403);
        assert_eq!(status("Host: localhost\r\nOrigin: http://evil.example"), 403);
        assert_eq!(status("Host: localhost\r\nOrigin: http://localhost"), 200);
        assert_eq!(status("Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors"), 403);
        assert_eq!(status("Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate"), 200);
        assert_eq!(send(address, "GET http://evil.example/api/status HTTP/1.1\r\nHost: localhost").status, 403);
        let refused = send(address, "GET /api/status HTTP/1.1\r\nHost: evil.example");
        assert!(!refused.body.contains("version"), "{}", refused.body);
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(
                send(address, &format!("{method} /api/status HTTP/1.1\r\nHost: localhost")).status,
                405,
                "{method}"
            );
        }
    });
}

#[test]
fn the_next_port_replaces_a_taken_one_and_dropping_frees_it() {
    with_dashboard("ports", |_| {
        // A port that is followed by a free one.
        let taken = (0..100)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .find(|it| it.local_addr().unwrap().port() < 65_000);
        let taken = taken.unwrap();
        let address = taken.local_addr().unwrap();
        let dashboard = dashboard::serve(address.to_string()).unwrap();
        assert!(dashboard.address().port() > address.port(), "{dashboard:?}");
        assert_eq!(get(&dashboard, "/health").status, 200);
        let address = dashboard.address();
        let mut page = updates(&dashboard);
        assert!(page.next().is_some());
        drop(dashboard);
        assert!(page.next().is_none(), "open pages are closed");
        // Another program may take the port in between, but not every time.
        let is_free = (0..100).any(|_| dashboard::serve(address.to_string()).unwrap().address() == address);
        assert!(is_free, "{address}");
    });
}

#[test]
fn a_stall_is_in_the_log() {
    with_dashboard("stall", |dashboard| {
        let (go, gate) = gate();
        let _timeout = config::scoped("stall_timeout", "10ms").unwrap();
        let settings = config::snapshot().unwrap();
        std::thread::scope(|scope| {
            let run = scope.spawn(move || {
                let _same = settings.enter();
                gate.compute_with("sync")
            });
            let has_stalled = |log: &Value| names(&log["events"], "kind").contains(&"run stalled");
            let log = until(dashboard, "/api/log", has_stalled);
            let stall = log["events"].as_array().unwrap().iter().find(|it| it["kind"] == "run stalled").unwrap();
            assert!(stall["text"].as_str().unwrap().contains("1 is running") && stall["run"].is_u64(), "{stall}");
            go.send(()).unwrap();
            run.join().unwrap().unwrap();
        });
    });
}

#[test]
fn an_invalid_address_is_an_error() {
    for bad in ["", "here", "127.0.0.1", "127.0.0.1:99999", ":x"] {
        let error = dashboard::serve(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
        assert!(error.message().contains("is not an address for the dashboard"), "{error}");
    }
    // An address reserved for documentation, which no machine has.
    let error = dashboard::serve("192.0.2.1:8787").unwrap_err();
    assert!(error.message().starts_with("the dashboard cannot listen on 192.0.2.1:8787: "), "{error}");
}

#[test]
fn pages_that_do_not_read_delay_no_run() {
    with_dashboard("slow pages", |dashboard| {
        let mut slow: Vec<_> = (0..100).map(|_| updates(dashboard)).collect();
        // One more page sends a request that never ends.
        let mut half = client::connect(dashboard.address());
        half.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
        for _ in 0..3 {
            assert_eq!(squares(100_000).compute_with("threads").unwrap(), 333_328_333_350_000);
        }
        assert_eq!(json(dashboard, "/api/status")["tasks"]["finished"], 300_003);
        // A page that reads at last receives the current state.
        let is_now = |update: &Value| update["tasks"]["finished"] == 300_003 && update["runs"]["finished"] == 3;
        assert!(slow[99].any(|update| is_now(&update)));
    });
}

#[test]
fn the_memory_of_the_dashboard_is_bounded() {
    with_dashboard("bounds", |dashboard| {
        // More names, runs, tasks, failures and lines of the log than the limits, and one very long
        // name.
        let word = |i: u64| (0..4).map(|at| char::from(b'a' + (i / 7_u64.pow(at) % 7) as u8)).collect::<String>();
        let long = "long ".repeat(100_000);
        let mut tasks: Vec<_> = (0..2_000_u64)
            .map(|i| try_delayed(|i: u64| Err::<u64, _>(format!("no {i}")), (i,)).name(word(i)))
            .collect();
        tasks.push(try_delayed(|i: u64| Ok::<_, String>(i), (1_u64,)).name(long));
        let _errors = config::scoped("errors", "collect").unwrap();
        assert_eq!(compute_each(&tasks).unwrap().iter().filter(|it| it.is_err()).count(), 2_000);
        assert_eq!(squares(20_000).compute_with("sync").unwrap(), 2_666_466_670_000);
        for i in 0..600_u64 {
            assert_eq!(delayed(|i| i, (i,)).compute_with("sync").unwrap(), i);
        }
        let status = json(dashboard, "/api/status");
        assert_eq!((&status["tasks"]["finished"], &status["tasks"]["failed"]), (&20_602.into(), &2_000.into()));
        let by_name = status["tasks"]["names"].as_array().unwrap();
        assert!(by_name.len() <= 101, "{}", by_name.len());
        let other = by_name.iter().find(|name| name["name"] == "other").unwrap();
        assert!(other["failed"].as_u64().unwrap() >= 1_900, "{other}");
        assert_eq!(json(dashboard, "/api/runs")["runs"].as_array().unwrap().len(), 500);
        assert_eq!(json(dashboard, "/api/log")["events"].as_array().unwrap().len(), 1_000);
        let tasks = json(dashboard, "/api/tasks?limit=1000000");
        assert!(tasks["tasks"].as_array().unwrap().len() <= 2_000);
        assert_eq!(tasks["seen"], 22_602);
        assert!(tasks["lost"].as_u64().unwrap() > 10_000, "{}", tasks["lost"]);
        let runs = json(dashboard, "/api/runs");
        let reports = runs["runs"].as_array().unwrap().iter().filter(|run| run["has_report"] == true).count();
        assert_eq!(reports, 100);
        let longest = names(&tasks["tasks"], "name").iter().map(|name| name.len()).max();
        assert!(longest.unwrap() <= 400, "{longest:?}");
        for path in ["/api/status", "/api/log", "/metrics"] {
            assert!(get(dashboard, path).body.len() < 1_000_000, "{path}");
        }
    });
}
