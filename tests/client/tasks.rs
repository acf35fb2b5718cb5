//! Submitting tasks, and their arguments and options.

use crate::ledger::Ledger;
use crate::{of_processes, of_threads, on, on_each, on_threads, wait_until};
use serde::{Deserialize, Serialize};
use sprang::{
    Client, Delayed, ErrorKind, Refs, SharedArray, Status, TaskFuture, callback, compute, config, delayed,
    delayed_local, lit, owned,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn inc(x: i64) -> i64 {
    x + 1
}

fn add(x: i64, y: &i64) -> i64 {
    x + y
}

#[test]
fn a_submitted_task_gives_its_value() {
    on_each("a_submitted_task_gives_its_value", |client| {
        let future = client.submit(inc, (6_i64,));
        assert_eq!(future.result().unwrap(), 7);
        assert_eq!((future.status(), future.is_done(), future.error().is_none()), (Status::Finished, true, true));
        assert_eq!(*future.result_ref().unwrap(), 7);
    });
}

#[test]
fn futures_are_arguments_of_every_kind() {
    on_each("futures_are_arguments_of_every_kind", |client| {
        let x = client.submit(inc, (1_i64,));
        let y = client.submit(inc, (2_i64,));
        assert_eq!(client.submit(add, (x.clone(), &y)).result().unwrap(), 5);
        let list = client.map(inc, 0..10_i64);
        let lent = client.submit(|list: Refs<'_, i64>| list.iter().sum::<i64>(), (&list,));
        let owned = client.submit(|list: Vec<i64>| list.iter().sum::<i64>(), (list.clone(),));
        let sliced = client.submit(|list: Refs<'_, i64>| list.len(), (&list[2..],));
        let nested = client.submit(|(x, list): (i64, Vec<i64>)| x * list.len() as i64, ((y, list),));
        assert_eq!((lent.result().unwrap(), owned.result().unwrap()), (55, 55));
        assert_eq!((sliced.result().unwrap(), nested.result().unwrap()), (8, 30));
        let text = client.submit(|text: &String, n: usize| text.repeat(n), (lit("ab".to_string()), 2_usize));
        assert_eq!(text.result().unwrap(), "abab");
        assert_eq!(x.result().unwrap(), 2);
    });
}

#[test]
fn a_list_of_futures_by_reference_is_refs() {
    on_each("a_list_of_futures_by_reference_is_refs", |client| {
        let (a, b) = (client.submit(inc, (1_i64,)), client.submit(inc, (2_i64,)));
        let sum = |list: Refs<'_, i64>| list.iter().sum::<i64>();
        let (futures, lent) = (vec![a.clone(), b.clone()], vec![&a, &b]);
        let sums = [
            client.submit(sum, (&futures,)),
            client.submit(sum, (&[a.clone(), b.clone()],)),
            client.submit(sum, (&lent,)),
            client.submit(sum, (&lent[..],)),
            client.submit(sum, (&[&a, &b],)),
            client.submit(|[a, b]: [&i64; 2]| a + b, ([&a, &b],)),
        ];
        assert_eq!(client.gather(&sums).unwrap(), [5; 6]);
        let text = client.submit(|n: usize| "x".repeat(n), (3_usize,));
        let lens = client.map(str::len, [text.as_deref(), text.as_deref()]);
        assert_eq!(client.gather(&lens).unwrap(), [3, 3]);
    });
}

/// A value that counts its clones in this process.
#[derive(Debug, Serialize, Deserialize)]
struct Cloned(u32);

static CLONES: AtomicU32 = AtomicU32::new(0);

impl Clone for Cloned {
    fn clone(&self) -> Self {
        CLONES.fetch_add(1, Ordering::SeqCst);
        Cloned(self.0)
    }
}

#[test]
fn an_owned_value_is_moved_into_a_submitted_task() {
    on_threads("an_owned_value_is_moved_into_a_submitted_task", |client| {
        let before = CLONES.load(Ordering::SeqCst);
        let one = client.submit(|value: Cloned| value.0, (owned(Cloned(1)),));
        let list = client.submit_local(|list: Vec<Cloned>| list.len(), (vec![owned(Cloned(1)), owned(Cloned(2))],));
        assert_eq!((one.result().unwrap(), list.result().unwrap()), (1, 2));
        assert_eq!(CLONES.load(Ordering::SeqCst), before, "no value is cloned");

        let attempts = AtomicU32::new(0);
        let third = client.tasks().retries(2).try_submit_local(
            move |value: Cloned| match attempts.fetch_add(1, Ordering::SeqCst) {
                2 => Ok(value.0),
                _ => Err("again"),
            },
            (owned(Cloned(7)),),
        );
        assert_eq!(third.result().unwrap(), 7);
        assert_eq!(CLONES.load(Ordering::SeqCst), before + 2, "the last of three attempts takes the value");
    });
}

#[test]
fn an_owned_value_reaches_a_submitted_task() {
    on_each("an_owned_value_reaches_a_submitted_task", |client| {
        let values = client.map(|list: Vec<u32>| list.iter().sum::<u32>(), (0..5).map(|n| owned(vec![n; 3])));
        assert_eq!(client.gather(&values).unwrap(), [0, 3, 6, 9, 12]);
        let handle = delayed(|list: Vec<u32>| list.len(), (owned(vec![1, 2]),));
        let twice = [client.compute(&handle), client.compute(&handle)];
        assert_eq!(client.gather(&twice).unwrap(), [2, 2], "a graph can be computed again");
    });
}

#[test]
fn a_task_that_gave_its_owned_value_away_says_so_when_it_is_retried() {
    on_threads("a_task_that_gave_its_owned_value_away_says_so_when_it_is_retried", |client| {
        let parse = |text: String| text.parse::<i64>();
        let future = client.tasks().name("parse").try_submit(parse, (owned("x".to_string()),));
        assert!(future.error().unwrap().to_string().contains("invalid digit"));
        assert!(future.retry().unwrap());
        let error = future.error().unwrap().to_string();
        assert!(
            error.contains("\"parse\"") && error.contains("`owned(String)` was moved into an earlier attempt"),
            "{error}"
        );
    });
}

#[test]
fn a_chain_of_futures_is_computed_in_order() {
    on_each("a_chain_of_futures_is_computed_in_order", |client| {
        let mut last = client.submit(|| 0_i64, ());
        for _ in 0..200 {
            last = client.submit(inc, (last,));
        }
        assert_eq!(last.result().unwrap(), 200);
    });
}

#[test]
fn a_chain_of_a_hundred_thousand_futures_needs_no_deep_stack() {
    let length = 100_000;
    on_threads("a_chain_of_a_hundred_thousand_futures", move |client| {
        // The shape waits for its first future.
        let gate = Arc::new(AtomicU32::new(0));
        let opened = Arc::clone(&gate);
        let mut last = client.submit_local(
            move || {
                wait_until("the gate to be open", || opened.load(Ordering::Acquire) == 1);
                0_i64
            },
            (),
        );
        for _ in 0..length {
            last = client.submit(inc, (last,));
        }
        gate.store(1, Ordering::Release);
        assert_eq!(last.result().unwrap(), length);
        // The shape fails as a whole.
        let mut last = client.try_submit(|| Err::<i64, _>("no"), ());
        for _ in 0..length {
            last = client.submit(inc, (last,));
        }
        assert_eq!(last.error().unwrap().message(), "no");
    });
}

#[test]
fn large_values_go_from_task_to_task() {
    on_each("large_values_go_from_task_to_task", |client| {
        let numbers = client.submit(|n: usize| (0..n).map(|i| i as f64).collect::<Vec<_>>(), (100_000_usize,));
        let shifted = client.submit(
            |mut v: Vec<f64>| {
                v.iter_mut().for_each(|x| *x += 1.0);
                v
            },
            (numbers.clone(),),
        );
        let sums = [&numbers, &shifted].map(|v| client.submit(|v: &Vec<f64>| v.iter().sum::<f64>(), (v,)));
        assert_eq!(client.gather(&sums).unwrap(), [4_999_950_000.0, 5_000_050_000.0]);
        assert_eq!(shifted.result_ref().unwrap()[99_999], 100_000.0);
        let array = client.submit(|n: usize| (0..n as u64).collect::<SharedArray<u64>>(), (50_000_usize,));
        let last = client.submit(|array: &SharedArray<u64>| array[49_999], (&array,));
        assert_eq!((last.result().unwrap(), array.result().unwrap().len()), (49_999, 50_000));
    });
}

#[test]
fn the_value_of_a_task_in_a_process_stays_encoded_until_it_is_read() {
    on("stays encoded", of_processes(1), |client| {
        let large = client.submit(|| vec![1_u8; 300_000], ());
        let len = client.submit(|v: &Vec<u8>| v.len(), (&large,));
        assert_eq!(len.result().unwrap(), 300_000);
        assert!(large.num_encoded_bytes().is_some_and(|bytes| bytes >= 300_000));
        assert_eq!(large.result().unwrap(), vec![1; 300_000]);
        let small = client.submit(|| 7_u8, ());
        assert_eq!((small.result().unwrap(), small.num_encoded_bytes()), (7, None));
        assert_eq!(client.who_has(&large), ["worker-0"]);
    });
}

#[test]
fn a_scattered_value_is_finished_at_once() {
    on_each("a_scattered_value_is_finished_at_once", |client| {
        let table = client.scatter((0..10_000_u64).collect::<Vec<_>>());
        assert_eq!(table.status(), Status::Finished);
        let picks =
            client.map_zipped(|table: &Vec<u64>, i: usize| table[i], (0..50).map(|i| (&table, 100 * i as usize)));
        assert_eq!(client.gather(&picks).unwrap().iter().sum::<u64>(), 100 * 49 * 25);
        let everywhere = client.broadcast(vec![3_u8; 10_000]);
        let len = client.submit(|v: &Vec<u8>| v.len(), (&everywhere,));
        assert_eq!(len.result().unwrap(), 10_000);
        wait_until("the value to be everywhere", || client.num_pending() == 0);
    });
}

#[test]
fn graphs_are_computed_once_for_all_their_outputs() {
    on_each("graphs_are_computed_once", |client| {
        let data = delayed(|n: usize| (0..n as u64).collect::<Vec<_>>(), (100_usize,));
        let sum = delayed(|v: &Vec<u64>| v.iter().sum::<u64>(), (&data,));
        let max = delayed(|v: &Vec<u64>| *v.iter().max().unwrap(), (&data,));
        let spread = delayed(|sum: &u64, max: &u64| sum - max, (&sum, &max));
        assert_eq!(client.compute(&spread).result().unwrap(), 4950 - 99);
        let (sum, [max, again], none) = client.compute((&sum, [&max, &max], None::<&sprang::Delayed<u64>>));
        assert_eq!((sum.result().unwrap(), max.result().unwrap(), again.result().unwrap()), (4950, 99, 99));
        assert!(none.is_none());
        // A graph waits for a future.
        let ten = client.submit(inc, (9_i64,));
        let graph = delayed(|a: &i64, b: &i64| a * b, (&delayed(inc, (1_i64,)), &delayed(inc, (ten.as_delayed(),))));
        assert_eq!(client.compute(&graph).result().unwrap(), 22);
    });
}

#[test]
fn futures_are_inputs_and_outputs_of_ordinary_computes() {
    on_each("futures_are_inputs_and_outputs", |client| {
        let slow = client.submit(
            |x: i64| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                x * 2
            },
            (21_i64,),
        );
        let half = delayed(|x: &i64| x / 2, (&slow,));
        for scheduler in ["sync", "threads", "processes"] {
            assert_eq!(half.compute_with(scheduler).unwrap(), 21, "{scheduler}");
        }
        assert_eq!(compute((&half, &slow)).unwrap(), (21, 42));
        let failed = client.try_submit(|| Err::<i64, _>("broken"), ());
        let error = delayed(|x: &i64| *x, (&failed,)).name("reader").compute().unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Failed, "broken"));
        assert!(error.to_string().ends_with("\"reader\" needs it"), "{error}");
    });
}

#[test]
fn persisted_handles_are_computed_at_once_and_only_once() {
    on_threads("persisted_handles", |client| {
        let calls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&calls);
        let table = delayed_local(move || counter.fetch_add(1, Ordering::Relaxed) + 100, ());
        let table = client.persist(&table);
        let plus = delayed_local(|t: &u32| t + 1, (&table,));
        assert_eq!((plus.compute().unwrap(), plus.compute().unwrap()), (101, 101));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let both = client.persist((&delayed(|| 1_u8, ()), &delayed(|| 2_u8, ())));
        assert_eq!(compute(both).unwrap(), (1, 2));
    });
}

#[test]
fn a_persisted_handle_can_be_computed() {
    on_each("a_persisted_handle_can_be_computed", |client| {
        let text = client.persist(&delayed(|| "once".to_string(), ()));
        let pair = client.persist([&delayed(|| vec![1_u8; 200_000], ()), &delayed(|| vec![2_u8], ())]);
        for scheduler in ["sync", "threads", "processes"] {
            assert_eq!(text.compute_with(scheduler).unwrap(), "once", "{scheduler}");
            assert_eq!(pair[0].compute_with(scheduler).unwrap().len(), 200_000, "{scheduler}");
        }
        assert_eq!(compute((&pair, &text)).unwrap(), ([vec![1; 200_000], vec![2]], "once".to_string()));
        let error = client.submit(|| 1_u8, ()).as_delayed().compute().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotCloneable);
        assert!(error.message().ends_with("use it as an argument, or ask the future"), "{error}");
    });
}

#[test]
fn several_values_are_scattered_in_their_order() {
    let values = vec![vec![1.0, 2.0], vec![], vec![3.0; 100_000]];
    let body = |client: &Client| {
        let parts = client.scatter_all(values.clone());
        assert!(parts.iter().all(|part| part.status() == Status::Finished));
        let lens = client.map(|part: &Vec<f64>| part.len(), &parts);
        assert_eq!(client.gather(&lens).unwrap(), [2, 0, 100_000]);
        assert_eq!(client.gather(&parts).unwrap(), values);
    };
    on_each("several_values_are_scattered", body);
    // Also if the client owns the cluster.
    body(&Client::processes(2).unwrap());
}

#[test]
fn a_client_is_a_scheduler() {
    on_each("a_client_is_a_scheduler", |client| {
        let total = delayed(
            |parts: Refs<'_, i64>| parts.iter().sum::<i64>(),
            (&(0..20_i64).map(|i| delayed(inc, (i,))).collect::<Vec<_>>(),),
        );
        assert_eq!(total.compute_with(client).unwrap(), 210);
        let _default = client.as_default().unwrap();
        assert_eq!(total.compute().unwrap(), 210);
        assert_eq!(config::get("scheduler").unwrap(), client.scheduler().to_string());
        let current = Client::current().unwrap();
        assert_eq!(current.submit(inc, (1_i64,)).result().unwrap(), 2);
        // The same in the tasks of a graph, on whichever thread they run.
        let inner: Vec<_> = (0..8_i64)
            .map(|i| delayed(|i| Client::current().unwrap().submit(inc, (i,)).result().unwrap(), (i,)))
            .collect();
        assert_eq!(compute(&inner).unwrap(), (1..9).collect::<Vec<_>>());
    });
    assert!(Client::current().is_none());
}

#[test]
fn pure_calls_share_a_future() {
    on("pure_calls_share_a_future", of_threads(2), |client| {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let square = |x: u64| {
            CALLS.fetch_add(1, Ordering::Relaxed);
            x * x
        };
        let first = client.submit_pure(square, (12_u64,));
        let again = client.submit_pure(square, (12_u64,));
        let other = client.submit_pure(square, (13_u64,));
        assert_eq!((first.result().unwrap(), again.result().unwrap(), other.result().unwrap()), (144, 144, 169));
        assert_eq!(CALLS.load(Ordering::Relaxed), 2);
        let of_futures = [&first, &again, &other].map(|x| client.submit_pure(|x: &u64| x + 1, (x,)));
        assert_eq!(client.gather(&of_futures).unwrap(), [145, 145, 170]);
        drop((first, again, of_futures));
        // It has no handle any more.
        wait_until("the value to be forgotten", || {
            let future = client.submit_pure(square, (12_u64,));
            future.result().unwrap() == 144 && CALLS.load(Ordering::Relaxed) > 2
        });
    });
}

#[test]
fn tasks_may_submit_tasks_and_wait_for_them() {
    fn fib(n: u32) -> u64 {
        if n < 2 {
            return u64::from(n);
        }
        let client = Client::current().expect("a task has a client");
        let before = client.submit(fib, (n - 1,));
        let more = client.submit(fib, (n - 2,));
        before.result().unwrap() + more.result().unwrap()
    }
    on_each("tasks_may_submit_tasks", |client| {
        assert_eq!(client.submit(fib, (12_u32,)).result().unwrap(), 144);
    });
}

#[test]
fn tasks_may_wait_for_tasks_of_others_however_few_workers_there_are() {
    on_threads("tasks_may_wait_for_tasks_of_others", |client| {
        // Each task waits for the one submitted after it. It cannot run that task itself, because
        // it has not been submitted yet.
        let (to, from) = std::sync::mpsc::channel::<TaskFuture<i64>>();
        let from = std::sync::Mutex::new(from);
        let waits = client.submit_local(move || from.lock().unwrap().recv().unwrap().result().unwrap() + 1, ());
        wait_until("the first to run", || waits.status() == Status::Running);
        to.send(client.submit(inc, (40_i64,))).unwrap();
        assert_eq!(waits.result().unwrap(), 42);
    });
    // With one thread, which releases its place.
    on("a task that blocks on a future that runs elsewhere", of_threads(1), |client| {
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = std::sync::Mutex::new(gate);
        let inner = {
            let current = client.clone();
            client.submit_local(
                move || {
                    let gate = gate.lock().unwrap();
                    drop(current.submit(inc, (0_i64,)));
                    gate.recv().unwrap();
                    5_i64
                },
                (),
            )
        };
        wait_until("the inner one to run", || inner.status() == Status::Running);
        go.send(()).unwrap();
        assert_eq!(client.submit(inc, (inner,)).result().unwrap(), 6);
    });
}

#[test]
fn a_value_is_dropped_with_its_last_handle() {
    on("a_value_is_dropped_with_its_last_handle", of_threads(2), |client| {
        let ledger = Ledger::new();
        let make = ledger.clone();
        let value = client.submit_local(move || make.value(5), ());
        let read = client.submit_local(|value: &crate::ledger::Counted| value.value, (&value,));
        assert_eq!((read.result().unwrap(), ledger.num_live()), (5, 1));
        let other = value.clone();
        drop(value);
        assert_eq!(ledger.num_live(), 1);
        drop(other);
        wait_until("the value to be dropped", || ledger.num_live() == 0);
        // An input is kept until the task has run.
        let make = ledger.clone();
        let value = client.submit_local(move || make.value(6), ());
        let read = client.submit_local(|value: &crate::ledger::Counted| value.value, (&value,));
        drop(value);
        assert_eq!(read.result().unwrap(), 6);
        wait_until("the input to be dropped", || ledger.num_live() == 0);
    });
}

#[test]
fn a_future_keeps_the_name_of_its_task() {
    on_each("a_future_keeps_the_name_of_its_task", |client| {
        let named = client.compute(&delayed(|| 1_u8, ()).name("first"));
        let plain = client.submit(inc, (1_i64,));
        for _ in 0..2 {
            assert_eq!((&*named.name(), &*plain.name(), &*client.scatter(1_u8).name()), ("first", "inc", "value"));
            client.gather((&named, &plain)).unwrap();
        }
    });
}

/// Collects the names of the tasks that finish.
#[derive(Default)]
struct Finished(std::sync::Mutex<Vec<String>>);

impl callback::Callback for Finished {
    fn on_task_finished(&self, event: &callback::TaskFinished<'_>) {
        self.0.lock().unwrap().push(event.task.name().to_string());
    }
}

/// Counts its calls.
fn counted(calls: &Arc<AtomicU32>, x: u64) -> u64 {
    calls.fetch_add(1, Ordering::SeqCst);
    x + 1
}

#[test]
fn a_task_that_is_an_output_twice_is_computed_once() {
    on_each("a_task_that_is_an_output_twice", |client| {
        let calls = Arc::new(AtomicU32::new(0));
        let step = |x: &Delayed<u64>| {
            let calls = Arc::clone(&calls);
            delayed_local(move |x: &u64| counted(&calls, *x), (x,))
        };
        let deep = step(&step(&step(&delayed(|| 1_u64, ()))));
        let kept = Arc::new(());
        let value = Arc::clone(&kept);
        let shared = delayed_local(move |_: &u64| Arc::clone(&value), (&deep,));
        let [a, b, c] = client.compute([&deep, &deep, &deep]);
        assert_eq!(client.gather(&[a, b, c]).unwrap(), [4, 4, 4]);
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        let twice = client.compute([&shared, &shared]);
        assert!(client.gather(&twice).unwrap().iter().all(|value| Arc::ptr_eq(value, &kept)));
        drop((twice, shared));
        wait_until("nothing to hold the value", || Arc::strong_count(&kept) == 1);
    });
}

#[test]
fn callbacks_of_a_thread_watch_what_it_submits() {
    on_each("callbacks_of_a_thread_watch_what_it_submits", |client| {
        let seen = Arc::new(Finished::default());
        let watched = callback::scoped(Arc::<Finished>::clone(&seen));
        let first = client.compute(&delayed(|| 1_i64, ()).name("first"));
        let second = client.submit(inc, (first,));
        let both = client.compute((&delayed(|| 3_u8, ()).name("third"), &delayed(|| 4_u8, ()).name("fourth")));
        client.gather((&second, &both.0, &both.1)).unwrap();
        drop(watched);
        client.submit(|| 5_u8, ()).result().unwrap();
        let mut names: Vec<String> = seen.0.lock().unwrap().clone();
        names.retain(|name| name != "future");
        names.sort();
        assert_eq!(names, ["first", "fourth", "inc", "third"]);
    });
}

#[test]
fn held_values_are_counted() {
    on("held_values_are_counted", of_threads(2), |client| {
        let numbers = client.map(inc, 0..100_i64);
        client.gather(&numbers).unwrap();
        let scattered = client.scatter([0_u8; 32]);
        assert_eq!(client.num_held(), (101, 832));
        drop((numbers, scattered));
        wait_until("the values to be gone", || client.num_held() == (0, 0));
    });
    on("held in encoded form", of_processes(1), |client| {
        let large = client.submit(|| vec![1_u8; 100_000], ());
        large.result_ref().unwrap();
        let (count, bytes) = client.num_held();
        assert_eq!((count, bytes > 100_000, bytes < 110_000), (1, true, true), "{bytes}");
    });
}

#[test]
fn an_unwanted_task_is_not_started() {
    on("an_unwanted_task_is_not_started", of_threads(1), |client| {
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = std::sync::Mutex::new(gate);
        let blocker = client.submit_local(move || gate.lock().unwrap().recv().unwrap(), ());
        wait_until("the blocker to run", || blocker.status() == Status::Running);
        let calls = Arc::new(AtomicU32::new(0));
        let count = |n: u32| {
            let calls = Arc::clone(&calls);
            client.submit_local(move || calls.fetch_add(n, Ordering::Relaxed), ())
        };
        drop(count(1));
        let kept = count(10);
        count(100).detach();
        go.send(()).unwrap();
        assert!(kept.result().is_ok());
        wait_until("all to be settled", || client.num_pending() == 0);
        assert_eq!(calls.load(Ordering::Relaxed), 110);
    });
}

#[test]
fn a_function_is_run_on_every_worker() {
    on("run on every thread", of_threads(3), |client| {
        let names = client.run(|| 1_u8);
        assert_eq!(names.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["worker-0", "worker-1", "worker-2"]);
        assert!(names.iter().all(|(_, result)| matches!(result, Ok(1))));
    });
    on("run in every process", of_processes(2), |client| {
        let mut pids: Vec<u32> = client.run(std::process::id).into_iter().map(|(_, pid)| pid.unwrap()).collect();
        let mut known: Vec<u32> = client.workers().iter().map(|worker| worker.pid.unwrap()).collect();
        pids.sort_unstable();
        known.sort_unstable();
        assert_eq!(pids, known);
        assert!(pids[0] != pids[1] && !pids.contains(&std::process::id()));
    });
}
