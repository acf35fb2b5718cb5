//! The spans and events of runs, as a subscriber in memory receives them.

#[path = "../contract/watchdog.rs"]
#[allow(dead_code, reason = "shared with the contract")]
mod watchdog;

use sprang::{
    Delayed, Refs, Spans, ThreadExecutor, callback, compute_with, config, delayed, delayed_local, try_delayed_local,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Barrier, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use watchdog::watched;

type Fields = BTreeMap<String, String>;

struct Write<'f>(&'f mut Fields);

impl Visit for Write<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

#[derive(Clone, Debug, Default)]
struct Shown {
    name: String,
    target: String,
    level: String,
    /// The names of the spans around it, innermost first, each with its `name` or `title`.
    around: Vec<String>,
    fields: Fields,
    is_closed: bool,
}

/// Keeps all spans and events.
#[derive(Clone, Default)]
struct Memory {
    spans: Arc<Mutex<Vec<(u64, Shown)>>>,
    events: Arc<Mutex<Vec<Shown>>>,
}

/// The name of a span in the lists of outer spans.
struct Title(String);

impl Memory {
    fn around<S: Subscriber + for<'l> LookupSpan<'l>>(first: Option<Id>, context: &Context<'_, S>) -> Vec<String> {
        let scope = first.and_then(|id| context.span_scope(&id)).into_iter().flatten();
        scope.map(|span| span.extensions().get::<Title>().unwrap().0.clone()).collect()
    }

    fn spans(&self, name: &str) -> Vec<Shown> {
        let spans = self.spans.lock().unwrap();
        spans.iter().filter(|(_, span)| span.name == name).map(|(_, span)| span.clone()).collect()
    }

    fn events(&self, message: &str) -> Vec<Shown> {
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| event.name == message).cloned().collect()
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Memory {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Write(&mut fields));
        let metadata = attributes.metadata();
        let own = fields.get("name").or(fields.get("title")).cloned().unwrap_or_default();
        let span = context.span(id).unwrap();
        span.extensions_mut().insert(Title(format!("{} {own}", metadata.name()).trim_end().to_owned()));
        let (name, target, level) = (metadata.name().into(), metadata.target().into(), metadata.level().to_string());
        let around = Memory::around(span.parent().map(|parent| parent.id()), &context);
        let shown = Shown { name, target, level, around, fields, is_closed: false };
        self.spans.lock().unwrap().push((id.into_u64(), shown));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut spans = self.spans.lock().unwrap();
        // The registry reuses ids.
        let (_, span) = spans.iter_mut().rev().find(|(number, _)| *number == id.into_u64()).unwrap();
        values.record(&mut Write(&mut span.fields));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Write(&mut fields));
        let metadata = event.metadata();
        let name = fields.get("message").cloned().unwrap_or_default();
        let (target, level) = (metadata.target().into(), metadata.level().to_string());
        let around = Memory::around(context.event_span(event).map(|span| span.id()), &context);
        self.events.lock().unwrap().push(Shown { name, target, level, around, fields, is_closed: true });
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut spans = self.spans.lock().unwrap();
        spans.iter_mut().rev().find(|(number, _)| *number == id.into_u64()).unwrap().1.is_closed = true;
    }
}

/// Computes with a subscriber of this thread alone.
fn seen<R>(body: impl FnOnce() -> R) -> (R, Memory) {
    let memory = Memory::default();
    let subscriber = Registry::default().with(memory.clone());
    let result = tracing::subscriber::with_default(subscriber, || callback::with(Arc::new(Spans::new()), body));
    assert!(memory.spans.lock().unwrap().iter().all(|(_, span)| span.is_closed), "every span has an end");
    (result, memory)
}

fn sum(parts: Refs<'_, u64>) -> u64 {
    parts.iter().sum()
}

#[test]
fn a_run_and_its_tasks_are_spans_within_that_of_the_caller() {
    for scheduler in ["sync", "threads", "processes"] {
        watched(scheduler, || {
            let parts: Vec<Delayed<u64>> =
                (1..=3_u64).map(|i| delayed(|i| i * i, (i,)).name(format!("part {i}"))).collect();
            let total = delayed(sum, (&parts,)).name("total");
            let (result, memory) = seen(|| info_span!("request").in_scope(|| total.compute_with(scheduler)));
            assert_eq!(result.unwrap(), 14);

            let [run] = &memory.spans("run")[..] else { panic!("one run") };
            assert_eq!(
                (&*run.target, &*run.level, &run.around[..]),
                ("sprang::run", "INFO", &["request".to_owned()][..])
            );
            for (field, value) in
                [("title", "total"), ("scheduler", scheduler), ("num_tasks", "4"), ("outcome", "finished")]
            {
                assert_eq!(run.fields[field], value, "{field}");
            }
            let duration = |shown: &Shown| shown.fields["duration_us"].parse::<u64>().unwrap();

            let mut tasks = memory.spans("task");
            tasks.sort_by(|a, b| a.fields["name"].cmp(&b.fields["name"]));
            let names: Vec<_> = tasks.iter().map(|task| &*task.fields["name"]).collect();
            assert_eq!(names, ["part 1", "part 2", "part 3", "total"]);
            for task in &tasks {
                assert_eq!((&*task.target, &*task.level), ("sprang::task", "DEBUG"));
                assert_eq!(task.around, ["run total", "request"]);
                assert_eq!(task.fields["run"], run.fields["run"]);
                assert_eq!((&*task.fields["attempt"], &*task.fields["outcome"]), ("1", "finished"));
                assert!(duration(task) <= duration(run));
                let is_here = scheduler != "processes";
                assert_eq!(task.fields["worker"].starts_with("thread "), is_here, "{}", task.fields["worker"]);
                assert_eq!(task.fields.contains_key("queued_us"), !is_here);
            }
            assert_eq!(memory.events("task finished").len(), 4);
            let [end] = &memory.events("run finished")[..] else { panic!("one end") };
            assert_eq!((&*end.level, &end.around[..]), ("INFO", &["run total".to_owned(), "request".to_owned()][..]));
        });
    }
}

#[test]
fn the_events_and_runs_of_a_task_are_within_its_span() {
    let inner = delayed(|| 1_u64, ()).name("inner");
    let outer = try_delayed_local(
        move || {
            info!("said in a task");
            let result = inner.compute();
            info!("said after a run");
            result
        },
        (),
    );
    let (result, memory) = seen(|| outer.name("outer").compute_with("sync"));
    assert_eq!(result.unwrap(), 1);
    for message in ["said in a task", "said after a run"] {
        assert_eq!(memory.events(message)[0].around, ["task outer", "run outer"], "{message}");
    }
    let tasks = memory.spans("task");
    let inner = tasks.iter().find(|task| task.fields["name"] == "inner").unwrap();
    assert_eq!(inner.around, ["run inner", "task outer", "run outer"]);
}

#[test]
fn tasks_of_other_threads_are_seen_by_the_subscriber_of_the_caller() {
    watched("tasks of other threads", || {
        let both = Arc::new(Barrier::new(2));
        let meet = |name: &str| {
            let both = Arc::clone(&both);
            delayed_local(move || both.wait().is_leader(), ()).name(name)
        };
        let (result, memory) = seen(|| compute_with(ThreadExecutor::new(2), (&meet("one"), &meet("other"))));
        result.unwrap();
        let workers: Vec<_> = memory.spans("task").iter().map(|task| task.fields["worker"].clone()).collect();
        assert!(workers.len() == 2 && workers[0] != workers[1], "{workers:?}");
    });
}

#[test]
fn failures_are_errors_and_their_effects_are_events() {
    let num_calls = Mutex::new(0);
    let flaky = move || {
        let mut num_calls = num_calls.lock().unwrap();
        *num_calls += 1;
        Err::<u64, _>(format!("call {num_calls}"))
    };
    let flaky = try_delayed_local(flaky, ()).retries(1).name("flaky");
    let after = delayed(|x: u64| x, (flaky,)).name("after");
    let (result, memory) = seen(|| config::with("errors", "collect", || after.compute_with("sync")).unwrap());
    let error = result.unwrap_err();
    let outcomes: Vec<_> = memory.spans("task").iter().map(|task| task.fields["outcome"].clone()).collect();
    assert_eq!(outcomes, ["retried", "failed"]);
    let [retry] = &memory.events("task retried")[..] else { panic!("one retry") };
    assert_eq!((&*retry.level, &*retry.fields["error"]), ("WARN", "task \"flaky\" failed: call 1"));
    let [failure] = &memory.events("task failed")[..] else { panic!("one failure") };
    assert_eq!(
        (&*failure.level, &failure.around[..]),
        ("ERROR", &["task flaky".to_owned(), "run after".to_owned()][..])
    );
    assert_eq!(failure.fields["error"], "task \"flaky\" failed: call 2, after 2 attempts");
    let [skipped] = &memory.events("task skipped")[..] else { panic!("one is skipped") };
    assert_eq!((&*skipped.fields["name"], &*skipped.fields["cause"]), ("after", "flaky"));
    assert_eq!(memory.spans("run")[0].fields["outcome"], "finished", "the failure was collected");
    assert_eq!(error.task(), Some("flaky"));

    let (result, memory) = seen(|| try_delayed_local(|| Err::<u64, _>("no"), ()).name("bad").compute_with("sync"));
    assert!(result.is_err());
    let [end] = &memory.events("run failed")[..] else { panic!("one end") };
    assert_eq!((&*end.level, &*end.fields["error"]), ("ERROR", "task \"bad\" failed: no"));
    assert_eq!(memory.spans("run")[0].fields["outcome"], "failed");
}

#[test]
fn a_stall_is_a_warning_within_its_run() {
    watched("a_stall", || {
        let _timeout = config::scoped("stall_timeout", "10ms").unwrap();
        let memory = Memory::default();
        let subscriber = Registry::default().with(memory.clone());
        tracing::subscriber::with_default(subscriber, || {
            let seen = memory.clone();
            let slow = move || {
                while seen.events("run stalled").is_empty() {
                    std::thread::yield_now();
                }
            };
            let slow = delayed_local(slow, ()).name("slow");
            callback::with(Arc::new(Spans::new()), || slow.compute_with("sync")).unwrap();
        });
        let [stall] = &memory.events("run stalled")[..] else { panic!("one stall") };
        assert_eq!(
            (&*stall.target, &*stall.level, &stall.around[..]),
            ("sprang::run", "WARN", &["run slow".to_owned()][..])
        );
        assert_eq!((&*stall.fields["num_running"], &*stall.fields["num_waiting"]), ("1", "0"));
        assert!(stall.fields["stall"].contains("\"slow\" on thread"), "{:?}", stall.fields);
    });
}

#[test]
fn a_subscriber_to_runs_alone_sees_no_tasks() {
    let memory = Memory::default();
    let only_info = tracing_subscriber::filter::LevelFilter::from_level(Level::INFO);
    let subscriber = Registry::default().with(memory.clone()).with(only_info);
    let good = delayed(|| 1_u64, ());
    let bad = try_delayed_local(|| Err::<u64, _>("no"), ()).name("bad");
    tracing::subscriber::with_default(subscriber, || {
        callback::with(Arc::new(Spans::new()), || {
            assert_eq!(good.compute_with("sync").unwrap(), 1);
            assert!(bad.compute_with("sync").is_err());
        });
    });
    assert_eq!((memory.spans("run").len(), memory.spans("task").len()), (2, 0));
    assert_eq!(memory.events("task finished").len(), 0);
    assert_eq!(memory.events("task failed")[0].around, ["run bad"]);
}
