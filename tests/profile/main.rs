//! Profiles, and the files made from them.

#[path = "../contract/watchdog.rs"]
#[allow(dead_code, reason = "shared with the contract")]
mod watchdog;

use serde_json::Value;
use sprang::profile::{Aspect, Outcome, Profile};
use sprang::{
    Client, Delayed, ErrorKind, Profiler, Refs, callback, compute_each, delayed, delayed_local, profile, try_delayed,
};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn busy(millis: u64) -> u64 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(millis) {}
    millis
}

fn sum(parts: Refs<'_, u64>) -> u64 {
    parts.iter().sum()
}

/// Tasks of 1, 2 and 3 ms, and their sum.
fn graph() -> Delayed<u64> {
    let parts: Vec<_> = (1..=3_u64).map(|i| delayed(busy, (i,)).name(format!("busy {i}"))).collect();
    delayed(sum, (&parts,)).name("sum")
}

fn profile_of(scheduler: &str) -> Profile {
    let (result, profile) = profile(|| graph().compute_with(scheduler));
    assert_eq!(result.unwrap(), 6);
    profile
}

#[test]
fn every_scheduler_is_profiled_alike() {
    watchdog::watched("every_scheduler_is_profiled_alike", || {
        for scheduler in ["sync", "threads", "processes"] {
            let profile = profile_of(scheduler);
            assert_eq!((profile.num_tasks(), profile.sampling(), profile.runs().len()), (4, 1.0, 1));
            let run = &profile.runs()[0];
            assert_eq!((run.scheduler(), run.title(), run.num_tasks()), (scheduler, "sum".to_owned(), 4));
            assert!(run.error().is_none() && run.parent().is_none() && run.ended().is_some());
            for task in profile.tasks() {
                assert_eq!((task.outcome, task.attempt), (Outcome::Finished, 1));
                assert!(task.ended <= run.ended().unwrap());
                assert_eq!(task.queued.is_some(), scheduler == "processes");
                assert_eq!(task.transferred.is_some(), scheduler == "processes");
                assert!(task.ready.unwrap() <= task.started, "{task:?}");
                assert_eq!(task.worker.is_here(), scheduler != "processes");
                if let Some(millis) = task.name.strip_prefix("busy ") {
                    assert!(task.duration() >= Duration::from_millis(millis.parse().unwrap()), "{task:?}");
                }
            }
            let rows = profile.by_name();
            assert!(rows.windows(2).all(|rows| rows[0].total >= rows[1].total), "{rows:?}");
            let busy = rows.iter().find(|row| &*row.name == "busy #").unwrap();
            assert_eq!((busy.count, busy.num_failed), (3, 0));
            assert!(busy.total >= Duration::from_millis(6) && busy.max >= Duration::from_millis(3));
            assert!(busy.p50 >= Duration::from_millis(2) && busy.p99 == busy.max);
            let path: Vec<_> = run.critical_path().into_iter().map(|task| task.name.to_string()).collect();
            assert_eq!(path.len(), 2, "{path:?}");
            assert_eq!(path[1], "sum");
            let table = profile.to_string();
            assert!(table.starts_with("4 tasks in ") && table.contains("busy #"), "{table}");
        }
    });
}

#[test]
fn values_live_from_their_task_to_their_last_reader() {
    let steps: Vec<usize> =
        profile_of("sync").runs()[0].live_values().into_iter().map(|(_, num_live)| num_live).collect();
    assert_eq!(steps, [1, 2, 3, 4, 3, 2, 1, 0]);
}

#[test]
fn a_task_is_ready_when_its_last_input_has_ended() {
    let profile = profile_of("sync");
    let tasks: Vec<_> = profile.tasks().collect();
    let last = tasks.iter().filter(|task| task.name.starts_with("busy")).map(|task| task.ended).max();
    for task in &tasks {
        let expected = if &*task.name == "sum" { last } else { Some(profile.runs()[0].started()) };
        assert_eq!(task.ready, expected, "{task:?}");
    }
}

#[test]
fn values_have_a_size_and_the_report_says_if_it_is_not_all_that_they_own() {
    /// A type that cannot tell what it owns.
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Model(String);

    let text = delayed(|| "x".repeat(10_000), ()).name("text");
    let shout = delayed(|text: &String| text.to_uppercase(), (&text,)).name("shout");
    let model = delayed(|text: &String| Model(text.clone()), (&text,)).name("model");
    let len = delayed(|text: &String, model: &Model| text.len().min(model.0.len()), (&shout, &model)).name("len");
    let profile_with = |profiler: Profiler, scheduler: &str| {
        let profiler = Arc::new(profiler);
        let len = callback::with(Arc::<Profiler>::clone(&profiler), || len.compute_with(scheduler));
        assert_eq!(len.unwrap(), 10_000);
        profiler.profile()
    };
    for (measures, scheduler) in [(false, "sync"), (true, "sync"), (true, "threads"), (true, "processes")] {
        let profile = profile_with(Profiler::new().measure_values(measures), scheduler);
        let size = |name: &str| profile.tasks().find(|task| &*task.name == name).unwrap().value.unwrap();
        if scheduler != "processes" {
            assert!(size("text").is_whole && size("shout").is_whole, "{scheduler}: strings tell what they own");
            assert_eq!(size("model").is_whole, measures, "{scheduler}");
            let peak = profile.runs()[0].peak().unwrap();
            let bytes = ["text", "shout", "model"].map(|name| size(name).bytes).iter().sum::<u64>();
            assert_eq!((peak.num_values, peak.bytes, peak.held.len()), (3, bytes, 3));
            assert!(peak.held.iter().all(|row| row.count == 1 && row.held_for.is_some()));
            assert!(peak.bytes > if measures { 30_000 } else { 20_000 });
            let report = profile.to_html();
            for note in ["as far as their types tell", "only the size of the type is known"] {
                assert_eq!(report.contains(note), !measures, "{scheduler}: {note}");
            }
        }
        let csv = profile.to_csv();
        let head: Vec<_> = csv.lines().next().unwrap().split(',').collect();
        let row: Vec<_> = csv.lines().find(|line| line.contains(",text,")).unwrap().split(',').collect();
        assert_eq!((head.len(), head[14]), (row.len(), "value_bytes"));
        assert_eq!(row[14].parse::<u64>().unwrap(), size("text").bytes);
    }
}

#[test]
fn bytes_to_other_processes_and_back_are_counted() {
    watchdog::watched("bytes_to_other_processes_and_back_are_counted", || {
        let long = delayed(|text: String| text + "!", ("x".repeat(10_000),)).name("long");
        // A local task, so the value comes back.
        let len = delayed_local(|text: &String| text.len(), (&long,)).name("len");
        let (result, profile) = profile(|| len.compute_with("processes"));
        assert_eq!(result.unwrap(), 10_001);
        let long = profile.tasks().find(|task| &*task.name == "long").unwrap();
        let (sent, returned) = long.transferred.unwrap();
        assert!(sent >= 10_000 && returned >= 10_001, "{long:?}");
        assert_eq!(long.value.unwrap().bytes, returned);
        assert!(profile.to_html().contains("to other processes / back"));
    });
}

#[test]
fn parallelism_adds_up_to_the_time_of_all_tasks() {
    let profile = profile_of("threads");
    let total: Duration = profile.tasks().map(|task| task.duration()).sum();
    let parts = profile.parallelism(16);
    let area = parts.iter().sum::<f64>() / 16.0 * profile.duration().as_secs_f64();
    assert!((area - total.as_secs_f64()).abs() < 1e-6, "{area} {total:?}");
}

#[test]
fn a_trace_has_every_task_and_an_arrow_for_every_dependency() {
    let profile = profile_of("threads");
    let trace: Value = serde_json::from_str(&profile.to_chrome_trace()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let phase = |phase: &str| events.iter().filter(|event| event["ph"] == phase).collect::<Vec<_>>();
    let names: HashSet<_> = phase("X").iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["busy 1", "busy 2", "busy 3", "sum"].map(str::to_owned).into());
    let on_path = phase("X").into_iter().filter(|event| event["cat"] == "critical path");
    assert_eq!(on_path.map(|event| event["name"].as_str().unwrap()).collect::<Vec<_>>().last(), Some(&"sum"));
    let (starts, ends) = (phase("s"), phase("f"));
    assert_eq!((starts.len(), ends.len()), (3, 3));
    for (start, end) in starts.iter().zip(ends) {
        assert_eq!(start["id"], end["id"]);
        assert!(start["ts"].as_f64() <= end["ts"].as_f64());
        let lies_in = |flow: &Value| {
            phase("X").iter().any(|task| {
                let (from, at) = (task["ts"].as_f64().unwrap(), flow["ts"].as_f64().unwrap());
                task["tid"] == flow["tid"] && from <= at + 2e-3 && at <= from + task["dur"].as_f64().unwrap() + 2e-3
            })
        };
        assert!(lies_in(start) && lies_in(end));
    }
    assert!(!phase("M").is_empty());
}

#[test]
fn json_and_csv_agree() {
    let profile = profile_of("sync");
    let json: Value = serde_json::from_str(&profile.to_json()).unwrap();
    assert_eq!(json["num_tasks"], 4);
    assert_eq!(json["runs"][0]["critical_path"].as_array().unwrap().len(), 2);
    let tasks = json["tasks"].as_array().unwrap();
    let csv = profile.to_csv();
    assert_eq!(csv.lines().count(), 1 + tasks.len());
    for (line, task) in csv.lines().skip(1).zip(tasks) {
        let fields: Vec<_> = line.split(',').collect();
        assert_eq!(fields[2], task["name"].as_str().unwrap());
        assert_eq!(fields[6].parse::<f64>().unwrap(), task["duration_s"].as_f64().unwrap());
        assert_eq!(fields[10], "finished");
    }
}

#[test]
fn failures_are_kept_with_their_attempts() {
    let bad = try_delayed(|text: &str| text.parse::<u64>(), ("x",)).name("bad").retries(1);
    let reader = delayed(|n: &u64| *n, (&bad,)).name("reader");
    let (results, profile) = profile(|| compute_each(&[&reader]).unwrap());
    assert!(results[0].is_err());
    let outcomes: Vec<_> = profile.tasks().map(|task| (task.attempt, task.outcome)).collect();
    assert_eq!(outcomes, [(1, Outcome::Retried), (2, Outcome::Failed)]);
    let failures: Vec<_> = profile.failures().iter().map(|it| (it.was_retried, it.error.kind())).collect();
    assert_eq!(failures, [(true, ErrorKind::Failed), (false, ErrorKind::Failed)]);
    assert_eq!(profile.runs()[0].num_skipped(), 1);
    assert_eq!(profile.by_name()[0].num_failed, 2);
}

#[test]
fn a_task_that_was_not_called_took_no_time() {
    let bad = try_delayed(|text: &str| text.parse::<u64>(), ("x",)).name("bad");
    // Much longer than a pause that the system may put into the other task.
    let called = delayed(busy, (200_u64,)).name("step 1");
    let not_called = delayed(|n: &u64| busy(*n), (&bad,)).name("step 2");
    let (results, profile) = profile(|| compute_each([&called, &not_called]).unwrap());
    assert!(results[0].is_ok() && results[1].is_err());
    let path: Vec<_> = profile.runs()[0].critical_path().into_iter().map(|task| task.name.to_string()).collect();
    assert_eq!(path, ["step 1"]);
}

#[test]
fn nested_runs_are_runs_of_their_own() {
    let outer = delayed_local(|| graph().compute_with("sync").unwrap(), ()).name("outer");
    let (result, profile) = profile(|| outer.compute());
    assert_eq!(result.unwrap(), 6);
    let [outer, inner] = profile.runs() else { panic!("two runs") };
    assert_eq!(inner.parent(), Some(outer.id()));
    let around = outer.tasks().next().unwrap();
    assert!(inner.tasks().all(|task| around.started <= task.started && task.ended <= around.ended));
}

#[test]
fn the_futures_of_a_cluster_are_one_run_and_their_records_fit_its_graph() {
    let profiler = Arc::new(Profiler::new());
    let client = Client::threads(2).unwrap();
    let watched = callback::scoped(Arc::<Profiler>::clone(&profiler));
    let squares: Vec<_> =
        (0..500_u64).map(|i| client.compute(&delayed(|i: u64| i * i, (i,)).name(format!("square {i}")))).collect();
    let total = client.submit(sum, (&squares,));
    assert_eq!(total.result().unwrap(), 41_541_750);
    let bad = client.compute(&try_delayed(|| "x".parse::<u64>(), ()).name("bad"));
    assert!(bad.result().is_err());
    let nested = client.submit_local(|| graph().compute_with("sync").unwrap(), ());
    nested.result().unwrap();
    drop(watched);
    let profile = profiler.profile();
    assert_eq!(profile.runs().len(), 2, "the futures, and what one of them computes");
    let futures = &profile.runs()[0];
    assert_eq!(futures.num_tasks(), 1_003, "and the values that the total has read");
    let tasks: Vec<_> = futures.tasks().collect();
    assert_eq!(tasks.len(), 503);
    let names: HashSet<_> = tasks.iter().map(|task| task.name.to_string()).collect();
    assert!(names.contains("square 499") && names.contains("bad") && names.len() == 503, "{}", names.len());
    let failed = &profile.failures()[0];
    let bad = tasks.iter().find(|task| &*task.name == "bad").unwrap();
    assert_eq!((failed.run, failed.id), (futures.id(), bad.id));
    assert_eq!(profile.runs()[1].parent(), Some(futures.id()));
    assert!(profile.to_html().contains("square #"));
}

#[cfg(target_os = "linux")]
#[test]
fn starting_a_worker_is_not_a_future() {
    let profiler = Arc::new(Profiler::new());
    let watched = callback::register(Arc::<Profiler>::clone(&profiler));
    let cluster = sprang::LocalCluster::builder().workers(1).threads_per_worker(1).name("early").build().unwrap();
    assert!(cluster.wait_for_workers(1, None));
    drop(cluster);
    drop(watched);
    // Other tests may run graphs at the same time.
    let profile = profiler.profile();
    let mut names = profile.runs().iter().flat_map(|run| run.tasks()).map(|task| task.name.to_string());
    assert!(!names.any(|name| name == "start a worker"), "{:?}", profile.runs());
    assert!(profile.tasks().all(|task| &*task.name != "start a worker"));
}

#[test]
fn a_large_run_becomes_a_sample_and_says_so() {
    let profiler = Arc::new(Profiler::new().max_records(4_096).resources_every(None));
    let parts: Vec<_> = (0..50_000_u64).map(|i| delayed(|i: u64| i, (i,))).collect();
    let total = delayed(sum, (&parts,));
    let result = callback::with(Arc::<Profiler>::clone(&profiler), || total.compute_with("threads"));
    assert_eq!(result.unwrap(), 50_000 * 49_999 / 2);
    let profile = profiler.profile();
    assert_eq!(profile.num_tasks(), 50_001);
    let num_kept = profile.tasks().count();
    assert!((1_000..=8_000).contains(&num_kept), "{num_kept}");
    assert!((profile.sampling() - 50_001.0 / num_kept as f64).abs() < 1e-9);
    let estimate: u64 = profile.by_name().iter().map(|row| row.count).sum();
    assert!(estimate.abs_diff(50_001) < 10, "{estimate}");
    assert!(profile.to_string().contains("are estimates"));
    assert!(profile.resources().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn resources_are_sampled_during_a_run() {
    let profiler = Arc::new(Profiler::new().resources_every(Some(Duration::from_millis(2))));
    let watched = Arc::clone(&profiler);
    let until_seen = delayed_local(
        move || {
            while watched.profile().resources().len() < 3 {
                busy(1);
            }
        },
        (),
    );
    callback::with(Arc::<Profiler>::clone(&profiler), || until_seen.compute()).unwrap();
    for sample in profiler.profile().resources() {
        assert!(sample.memory_bytes > 100_000 && sample.num_processes >= 1 && sample.cpus >= 0.0);
    }
}

#[test]
fn a_picture_shows_the_final_states_of_tasks() {
    let attempts = std::sync::atomic::AtomicU32::new(0);
    let flaky = sprang::try_delayed_local(
        move || match attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Err("not yet"),
            _ => Ok(1_u64),
        },
        (),
    );
    let flaky = flaky.name("flaky").retries(1);
    let bad = try_delayed(|text: &str| text.parse::<u64>(), ("x",)).name("bad");
    let reader = delayed(|a: &u64, b: &u64| a + b, (&bad, &flaky)).name("reader");
    let (_, profile) = profile(|| compute_each((&reader, &graph())).unwrap());
    let run = &profile.runs()[0];
    let svg = run.picture_of(Aspect::State).to_svg();
    for (word, count) in [(">failed<", 1), (">not called<", 1), (">retried<", 1), (">finished<", 4)] {
        assert_eq!(svg.matches(word).count(), count, "{word} in {svg}");
    }
    let groups = run.picture_of(Aspect::State).max_tasks(3).to_dot();
    assert!(groups.contains("finished"), "{groups}");
    assert!(run.picture_of(Aspect::Memory).to_svg().contains("8 B"));
}

#[test]
fn a_picture_shows_the_durations_of_tasks() {
    let profile = profile_of("sync");
    let svg = profile.runs()[0].picture().to_svg();
    assert!(svg.contains("busy 3") && svg.contains(" ms"), "{svg}");
}

#[test]
fn a_profile_that_cannot_be_saved_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let profile = profile_of("sync");
    let error = profile.save(folder.path().join("profile.txt")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSaved);
    assert!(error.message().ends_with("give one of .html, .csv and .json"), "{error}");
    assert_eq!(profile.save(folder.path().join("no/such/folder.csv")).unwrap_err().kind(), ErrorKind::NotSaved);
    let json = folder.path().join("run.profile.json");
    profile.save(&json).unwrap();
    assert_eq!(std::fs::read_to_string(json).unwrap(), profile.to_json());
}

/// The data at the end of a page.
fn data_of(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_report_is_one_complete_page() {
    let bad = try_delayed(|text: &str| text.parse::<u64>(), ("x",)).name("<b>bad</b> & \"worse\"");
    let (results, profile) = profile(|| compute_each(&[&graph(), &bad]).unwrap());
    assert!(results[1].is_err());
    let page = profile.to_html();
    for text in [
        "Task stream",
        "Comparison with the ideal",
        "By name",
        "Critical path",
        "Memory at its peak",
        "Failures",
        "busy #",
        "<svg ",
        "invalid digit",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(page.contains("&lt;b&gt;bad&lt;/b&gt; &amp; ") && !page.contains("<b>bad</b>"));
    assert!(!page.contains("https:") && !page.replace("http://www.w3.org/2000/svg", "").contains("http:"));
    let data = data_of(&page);
    let column = |name: &str| data["tasks"][name].as_array().unwrap().clone();
    assert_eq!(column("start").len(), 5);
    assert!(["lane", "name", "dur", "outcome", "critical", "label"].iter().all(|name| column(name).len() == 5));
    assert_eq!(column("outcome").iter().filter(|outcome| **outcome == 1).count(), 1);
    assert_eq!(data["charts"][0]["x"].as_array().unwrap().len(), data["charts"][0]["y"].as_array().unwrap().len());
}

#[test]
fn an_empty_report_and_a_very_large_one_can_be_opened() {
    let nothing = Profiler::new().profile().to_html();
    assert_eq!(data_of(&nothing)["tasks"]["start"].as_array().unwrap().len(), 0);
    let profiler = Arc::new(Profiler::new().max_records(100_000).resources_every(None));
    let parts: Vec<_> = (0..300_000_u64).map(|i| delayed(|i: u64| i, (i,))).collect();
    callback::with(Arc::<Profiler>::clone(&profiler), || delayed(sum, (&parts,)).compute()).unwrap();
    let page = profiler.profile().to_html();
    assert!(
        page.contains("This is an even sample, one of ") && page.contains("The stream shows the "),
        "both are said"
    );
    assert_eq!(data_of(&page)["tasks"]["start"].as_array().unwrap().len(), 40_000);
    assert!(page.len() < 4 << 20, "{} bytes", page.len());
}
