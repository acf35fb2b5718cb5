//! Futures that do not finish: failures, cancellations, closed clusters.

use crate::waiting::gated;
use crate::{TIMEOUT, of_processes, of_threads, on, on_each, on_threads, wait_until, warnings, watched};
use sprang::{CancelToken, Client, ErrorKind, Status, WhenFull, compute, config, delayed, delayed_local, try_delayed};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_failure_reaches_the_tasks_that_need_the_task() {
    on_each("a_failure_reaches_the_tasks_that_need_the_task", |client| {
        let bad = client.compute(&try_delayed(|| "x".parse::<i64>(), ()).name("parse"));
        let needs = client.compute(&delayed(|x: &i64| x + 1, (&bad,)).name("plus"));
        let needs_too = client.submit(|x: &i64| x * 2, (&needs,));
        assert!(bad.error().is_some());
        assert_eq!(bad.status(), Status::Failed);
        let error = needs_too.error().unwrap();
        assert_eq!((error.kind(), error.task()), (ErrorKind::Failed, Some("parse")));
        assert_eq!(error.path().collect::<Vec<_>>()[..2], ["parse", "plus"]);
        assert!(error.to_string().starts_with("task \"parse\" failed: invalid digit found in string; "), "{error}");
        // Also futures that are submitted afterwards.
        assert_eq!(client.submit(|x: &i64| *x, (&bad,)).error().unwrap().task(), Some("parse"));
        let panicked = client.submit(|| -> u8 { panic!("out of cheese") }, ());
        let error = panicked.error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert!(error.message().starts_with("out of cheese (at "), "{error}");
        assert_eq!(client.submit(|| 1_u8, ()).result().unwrap(), 1);
    });
}

#[test]
fn options_of_tasks_take_effect() {
    on_threads("options_of_tasks_take_effect", |client| {
        let tries = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&tries);
        let shaky = move || if counter.fetch_add(1, Ordering::Relaxed) < 2 { Err("not yet") } else { Ok(7_u8) };
        let shaky = sprang::try_delayed_local(shaky, ());
        assert_eq!(client.compute(&shaky.retries(2)).result().unwrap(), 7);
        assert_eq!(tries.load(Ordering::Relaxed), 3);
        let slow = delayed(
            || {
                while !CancelToken::current().is_cancelled() {
                    std::thread::yield_now();
                }
            },
            (),
        );
        let error = client.compute(&slow.name("slow").timeout(Duration::from_millis(20))).error().unwrap();
        assert_eq!((error.kind(), error.task()), (ErrorKind::TimedOut, Some("slow")));
        let first = client.compute(&delayed(|| 1_u8, ()).name("first"));
        let after = client.compute(&delayed(|| 2_u8, ()).after(&first.as_delayed()));
        assert_eq!(after.result().unwrap(), 2);
    });
    on("in processes", of_processes(1), |client| {
        let hangs = delayed(
            || loop {
                std::thread::park()
            },
            (),
        )
        .timeout(Duration::from_millis(100));
        let hangs: sprang::TaskFuture<()> = client.compute(&hangs);
        assert_eq!(hangs.error().unwrap().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn options_apply_to_each_of_many_tasks() {
    on_each("options_are_given_to_each_of_many", |client| {
        let parse = |text: &str| text.parse::<u32>();
        let numbers = client.tasks().name("parse").retries(1).try_map(parse, ["1", "two", "3"]);
        assert_eq!(client.gather_finished(&numbers), [1, 3]);
        let error = numbers[1].error().unwrap();
        assert_eq!((error.task(), error.attempts()), (Some("parse"), 2));

        let first = client.workers()[0].name.clone();
        let pids = client.tasks().workers([&first]).map(|_: u32| std::process::id(), 0..8_u32);
        let pids = client.gather(&pids).unwrap();
        // It has started by now.
        let his = client.workers().into_iter().find(|worker| worker.name == first).unwrap().pid;
        assert!(pids.iter().all(|&pid| Some(pid) == his), "{pids:?}, {his:?}");
        let nobody = client.tasks().workers(["nobody"]).map(|x: u32| x, [1_u32]);
        assert_eq!(nobody[0].error().unwrap().kind(), ErrorKind::NoWorker);

        let once = client.tasks().pure().map(|x: u32| x + 1, [1_u32, 2, 1]);
        assert_eq!(once[0].id(), once[2].id());
        assert_eq!(client.gather(&once).unwrap(), [2, 3, 2]);
        let sums = client.tasks().after(&once[0]).map_zipped(|x: u32, y: u32| x + y, [(1_u32, 2_u32), (3, 4)]);
        assert_eq!(client.gather(&sums).unwrap(), [3, 7]);
        let needless = client.tasks().after(&numbers[1]).submit(|| 1_u8, ());
        assert_eq!(needless.error().unwrap().task(), Some("parse"));
    });
    on_threads("options_are_given_to_local_tasks", |client| {
        let tries = Arc::new(AtomicU32::new(0));
        let shaky = {
            let tries = Arc::clone(&tries);
            move |x: u32| if tries.fetch_add(1, Ordering::Relaxed) == 0 { Err("not yet") } else { Ok(x) }
        };
        assert_eq!(client.tasks().retries(1).try_submit_local(shaky, (5_u32,)).result().unwrap(), 5);
        assert_eq!(tries.load(Ordering::Relaxed), 2);
        let offset = 10;
        let sums = client.tasks().priority(1).map_local(move |x: u32| x + offset, [1_u32, 2]);
        assert_eq!(client.gather(&sums).unwrap(), [11, 12]);
        assert_eq!(client.gather(&client.map_local(move |x: u32| x * offset, [1_u32, 2])).unwrap(), [10, 20]);
        assert_eq!(
            client.gather_finished(&client.try_map(|x: u32| x.checked_sub(1).ok_or("too small"), 0..3_u32)),
            [0, 1]
        );
    });
}

#[test]
fn tasks_of_higher_priority_go_first() {
    on("tasks_of_higher_priority_go_first", of_threads(1), |client| {
        let (go, blocker) = gated(client, 0);
        wait_until("the blocker to run", || blocker.status() == Status::Running);
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let futures: Vec<_> = [0, -1, 2, 0, 1]
            .into_iter()
            .enumerate()
            .map(|(i, priority)| {
                let order = Arc::clone(&order);
                client.compute(
                    &sprang::delayed_local(move || order.lock().unwrap().push((priority, i)), ()).priority(priority),
                )
            })
            .collect();
        go.send(()).unwrap();
        client.gather(&futures).unwrap();
        assert_eq!(*order.lock().unwrap(), [(2, 2), (1, 4), (0, 0), (0, 3), (-1, 1)]);
    });
}

#[test]
fn a_cancelled_task_is_not_started_and_its_dependents_are_cancelled() {
    on_threads("a_cancelled_task_is_not_started", |client| {
        let blockers: Vec<_> = (0..2).map(|_| gated(client, 0)).collect();
        let ran = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ran);
        let victim = client.submit_local(move || flag.store(true, Ordering::SeqCst), ());
        let needs = client.submit_local(|(): &()| 1_u8, (&victim,));
        assert!(victim.cancel());
        assert!(!victim.cancel());
        assert_eq!((victim.status(), needs.status()), (Status::Cancelled, Status::Cancelled));
        assert_eq!(needs.error().unwrap().kind(), ErrorKind::Cancelled);
        blockers.iter().for_each(|(go, _)| go.send(()).unwrap());
        wait_until("all to be settled", || client.num_pending() == 0);
        assert!(!ran.load(Ordering::SeqCst));
        assert_eq!(client.cancel([&victim, &victim.clone()]), 0);
    });
}

#[test]
fn a_running_task_is_notified_that_it_is_cancelled() {
    on_threads("a_running_task_is_told", |client| {
        let seen = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&seen);
        let runs = client.submit_local(
            move || {
                while !CancelToken::current().is_cancelled() {
                    std::thread::yield_now();
                }
                flag.store(true, Ordering::SeqCst);
            },
            (),
        );
        wait_until("it to run", || runs.status() == Status::Running);
        assert!(runs.cancel());
        assert_eq!(runs.status(), Status::Cancelled);
        wait_until("it to be notified", || seen.load(Ordering::SeqCst));
        assert_eq!(client.submit(|| 3_u8, ()).result().unwrap(), 3);
    });
}

#[test]
fn a_running_task_in_a_process_is_killed_when_it_is_cancelled() {
    let mut settings = sprang::config::ProcessSettings::default();
    settings.cancel_grace = Duration::from_millis(50);
    on("killed when cancelled", of_processes(1).process_settings(settings), |client| {
        let pid = client.submit(std::process::id, ()).result().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("began");
        let hangs: sprang::TaskFuture<()> = client.submit(
            |path: String| {
                std::fs::write(path, "").unwrap();
                loop {
                    std::thread::park();
                }
            },
            (path.to_str().unwrap().to_owned(),),
        );
        wait_until("it to run", || path.exists());
        assert!(hangs.cancel());
        assert_ne!(client.submit(std::process::id, ()).result().unwrap(), pid);
    });
}

#[test]
fn a_failed_future_can_be_retried_with_the_tasks_that_it_needs() {
    on_threads("what_has_failed_can_be_tried_again", |client| {
        let may_work = Arc::new(AtomicBool::new(false));
        let asks = Arc::clone(&may_work);
        let shaky = client.try_submit_local(move || asks.load(Ordering::SeqCst).then_some(20_i64).ok_or("not yet"), ());
        let next = client.submit_local(|x: &i64| x + 1, (&shaky,));
        let last = client.submit_local(|x: &i64| x * 2, (&next,));
        assert_eq!(last.error().unwrap().message(), "not yet");
        may_work.store(true, Ordering::SeqCst);
        assert!(last.retry().unwrap());
        assert_eq!((last.result().unwrap(), next.result().unwrap(), shaky.result().unwrap()), (42, 21, 20));
        assert!(!last.retry().unwrap(), "it has finished");
        let cancelled = client.submit_local(|| 5_u8, ());
        if cancelled.cancel() {
            assert!(cancelled.retry().unwrap());
        }
        assert_eq!(cancelled.result().unwrap(), 5);
    });
}

#[test]
fn the_other_outputs_of_a_graph_finish_when_one_is_cancelled() {
    on_each("of_a_graph_of_which_one_output", |client| {
        let (is_running, may_end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let wait = {
            let (is_running, may_end) = (Arc::clone(&is_running), Arc::clone(&may_end));
            move |x: u64| {
                is_running.store(true, Ordering::SeqCst);
                while !may_end.load(Ordering::SeqCst) && !CancelToken::current().is_cancelled() {
                    std::thread::yield_now();
                }
                vec![x; 100]
            }
        };
        let first = delayed_local(wait, (7_u64,));
        let second = delayed_local(|all: &Vec<u64>| all.iter().sum::<u64>(), (&first,));
        let third = delayed_local(|sum: &u64| sum + 1, (&second,));
        let fourth = delayed_local(|sum: &u64| sum + 2, (&second,));
        let (a, b) = client.compute((&third, &fourth));
        wait_until("it to run", || is_running.load(Ordering::SeqCst));
        assert!(a.cancel());
        may_end.store(true, Ordering::SeqCst);
        assert_eq!(b.result().unwrap(), 702);
        assert_eq!(a.status(), Status::Cancelled);
    });
}

#[test]
fn the_result_of_a_cancelled_attempt_is_ignored_after_a_retry() {
    for builder in [of_threads(2), of_processes(2)] {
        on("what_a_cancelled_attempt_leaves", builder, |client| {
            let calls = Arc::new(AtomicU32::new(0));
            let may_end = Arc::new(AtomicBool::new(false));
            let half = {
                let (calls, may_end) = (Arc::clone(&calls), Arc::clone(&may_end));
                move || match calls.fetch_add(1, Ordering::SeqCst) {
                    0 => {
                        while !CancelToken::current().is_cancelled() || !may_end.load(Ordering::SeqCst) {
                            std::thread::yield_now();
                        }
                        "half".to_owned()
                    }
                    _ => {
                        // Until the first has ended.
                        may_end.store(true, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(30));
                        "whole".to_owned()
                    }
                }
            };
            let future = client.submit_local(half, ());
            wait_until("it to run", || calls.load(Ordering::SeqCst) == 1);
            assert!(future.cancel());
            assert!(future.retry().unwrap());
            assert_eq!(future.result().unwrap(), "whole");
            assert_eq!(calls.load(Ordering::SeqCst), 2);
        });
    }
}

#[test]
fn a_retry_without_room_changes_nothing() {
    let builder = of_threads(1).max_pending(2).when_full(WhenFull::Error);
    on("a_retry_for_which_there_is_no_room", builder, |client| {
        let may_work = Arc::new(AtomicBool::new(false));
        let works = Arc::clone(&may_work);
        let shaky = move || if works.load(Ordering::SeqCst) { Ok(20_i64) } else { Err("not yet") };
        let shaky = client.try_submit_local(shaky, ());
        let last = client.submit_local(|x: &i64| x + 1, (&shaky,));
        assert!(last.error().is_some());
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let gone = std::sync::Mutex::new(gone);
        let waits = client.submit_local(move || gone.lock().unwrap().recv().unwrap(), ());
        let more = client.submit_local(|| (), ());
        assert_eq!(last.retry().unwrap_err().kind(), ErrorKind::Full);
        assert_eq!((last.status(), shaky.status(), client.num_pending()), (Status::Failed, Status::Failed, 2));
        go.send(()).unwrap();
        client.gather((&waits, &more)).unwrap();
        may_work.store(true, Ordering::SeqCst);
        assert!(last.retry().unwrap());
        assert_eq!(last.result().unwrap(), 21);
        assert_eq!(client.num_pending(), 0);
    });
}

#[test]
fn a_task_that_a_callback_submits_finds_room() {
    for builder in [of_threads(1), of_processes(1)] {
        on("a_task_that_a_callback_submits", builder.max_pending(1), |client| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let first = client.submit(|| 1_u64, ());
            let handed_in = client.clone();
            first.on_done(move |future| {
                let next = handed_in.submit(|x: u64| x + 1, (future.result().unwrap(),));
                let more = handed_in.submit(|x: u64| x + 2, (future.result().unwrap(),));
                sender.send((next, more)).unwrap();
            });
            let (next, more) = receiver.recv_timeout(TIMEOUT).unwrap();
            assert_eq!(client.gather((&next, &more)).unwrap(), (2, 3));
        });
    }
}

#[test]
fn a_closed_cluster_loses_unfinished_tasks() {
    for builder in [of_threads(1), of_processes(1)] {
        let cluster = builder.build().unwrap();
        let client = Client::new(&cluster);
        let finished = client.submit(|| 1_u8, ());
        assert_eq!(finished.result().unwrap(), 1);
        let runs = client.submit(
            || {
                while !CancelToken::current().is_cancelled() {
                    std::thread::yield_now();
                }
            },
            (),
        );
        wait_until("it to run", || runs.status() == Status::Running);
        let waits = client.submit(|| 2_u8, ());
        let needs = client.submit(|x: &u8| *x, (&waits,));
        assert!(cluster.close(Some(TIMEOUT)));
        assert_eq!(runs.status(), Status::Lost);
        assert_eq!((waits.status(), needs.status()), (Status::Lost, Status::Lost));
        assert_eq!(needs.error().unwrap().kind(), ErrorKind::Closed);
        let late = client.submit(|| 3_u8, ());
        assert_eq!((late.status(), late.error().unwrap().kind()), (Status::Lost, ErrorKind::Closed));
        assert_eq!(client.compute((&delayed(|| 1_u8, ()), &delayed(|| 1_u8, ()))).0.status(), Status::Lost);
        assert_eq!(compute(&finished).unwrap(), 1, "what was there stays");
        assert_eq!(delayed(|| 1, ()).compute_with(&client).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(cluster.scale(2).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(client.num_pending(), 0);
        assert!(cluster.workers().is_empty());
    }
}

#[test]
fn the_processes_of_a_closed_cluster_are_gone_although_there_are_futures() {
    let cluster = of_processes(2).build().unwrap();
    let client = Client::new(&cluster);
    let large = client.submit(|| vec![7_u8; 200_000], ());
    large.wait_timeout(TIMEOUT);
    let pids: Vec<u32> = client.run(std::process::id).into_iter().map(|(_, pid)| pid.unwrap()).collect();
    assert!(cluster.close(Some(TIMEOUT)));
    assert!(pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()));
    assert_eq!(large.result().unwrap(), vec![7; 200_000]);
}

#[test]
fn a_dropped_cluster_does_not_wait_for_ever() {
    let (client, future) = {
        let client = Client::threads(1).unwrap();
        let future = client.submit(|| 5_u8, ());
        assert_eq!(future.result().unwrap(), 5);
        (Client::threads(1).unwrap(), future)
    };
    // The first client is dropped, and the value is still there.
    assert_eq!(future.result().unwrap(), 5);
    let begin = Instant::now();
    drop(client);
    assert!(begin.elapsed() < TIMEOUT);
}

#[test]
fn a_client_that_is_dropped_while_tasks_run_leaves_no_future_unsettled() {
    let client = Client::threads(2).unwrap();
    let futures = client.map(
        |x: u64| {
            std::thread::sleep(Duration::from_micros(x % 50));
            x
        },
        0..2000_u64,
    );
    drop(client);
    for (x, future) in futures.iter().enumerate() {
        match future.status() {
            Status::Finished => assert_eq!(future.result().unwrap(), x as u64),
            status => assert_eq!((status, future.error().unwrap().kind()), (Status::Lost, ErrorKind::Closed)),
        }
    }
}

#[test]
fn a_guard_cancels_a_task_that_runs_or_waits_when_it_is_dropped() {
    on_each("a_guard_cancels_a_task_that_runs_or_waits_when_it_is_dropped", |client| {
        let search = || {
            while !CancelToken::current().is_cancelled() {
                std::thread::yield_now();
            }
        };
        let guard = client.submit(search, ()).cancel_on_drop();
        let needs = client.submit(|_: &()| 1, (&guard.clone(),));
        wait_until("it runs", || guard.status() == Status::Running);
        drop(guard);
        assert_eq!(needs.error().unwrap().kind(), ErrorKind::Cancelled);
        let kept = client.submit(|| 3, ()).cancel_on_drop().keep();
        assert_eq!(kept.result().unwrap(), 3);
        let done = client.submit(|| 4, ()).cancel_on_drop();
        assert_eq!(done.result().unwrap(), 4);
        let future = done.clone();
        drop(done);
        assert_eq!(future.status(), Status::Finished);
    });
}

fn until_cancelled() -> u32 {
    let token = CancelToken::current();
    let (sender, inbox) = std::sync::mpsc::channel::<()>();
    let _listener = token.on_cancel(move || drop(sender));
    let _disconnected = inbox.recv();
    7
}

#[test]
fn a_graph_that_takes_longer_than_its_run_timeout_fails_with_all_that_is_left() {
    on_each("a_graph_that_takes_longer", |client| {
        let quick = delayed(|| 1, ());
        let slow = delayed(until_cancelled, ()).name("slow");
        let next = delayed(|slow: &u32, quick: &i32| i64::from(*slow) + i64::from(*quick), (&slow, &quick));
        let alone = delayed(until_cancelled, ());
        let limited = || (client.compute((&slow, &next)), client.compute(&alone), client.persist(&next));
        let ((slow, next), alone, kept) =
            config::with("run_timeout", Duration::from_millis(50), limited).expect("it is a duration");
        let errors = [slow.error(), next.error(), alone.error(), kept.compute().err()].map(Option::unwrap);
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert!(error.message().contains("within 50ms of its submission, its \"run_timeout\""), "{error}");
        }
        // The workers are free again, and the limit was that of those graphs.
        let graph = delayed(|x: &i32| x + 1, (&quick,));
        assert_eq!(client.compute(&graph).result().unwrap(), 2);
        let long = config::with("run_timeout", Duration::from_secs(3600), || client.compute((&graph, &quick)));
        let (graph, quick) = long.unwrap();
        assert_eq!((graph.result().unwrap(), quick.result().unwrap()), (2, 1));
    });
}

#[test]
fn a_dropped_cluster_waits_for_its_close_timeout_and_names_the_tasks_that_go_on() {
    watched("a_dropped_cluster_waits_for_its_close_timeout", || {
        warnings::keep();
        let cluster = || of_threads(1).name("that goes on").build();
        let cluster = config::with("close_timeout", Duration::from_millis(20), cluster).unwrap().unwrap();
        let client = Client::new(&cluster);
        let (go, future) = gated(&client, 7);
        wait_until("it runs", || future.status() == Status::Running);
        drop(cluster);
        assert!(!future.is_done());
        let named =
            |warning: &String| warning.contains("\"that goes on\"") && warning.ends_with("tokens: closure in gated");
        assert!(warnings::all().iter().any(named), "{:?}", warnings::all());
        go.send(()).unwrap();
        assert_eq!(future.error().unwrap().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_pure_task_that_was_submitted_without_a_limit_gets_none_from_a_later_graph() {
    on_threads("a_pure_task_that_was_submitted_without_a_limit", |client| {
        let pure = || delayed(until_cancelled, ()).pure();
        let first = client.compute(&pure());
        let limited = || (client.compute(&pure()), client.compute(&delayed(until_cancelled, ())));
        let (same, other) = config::with("run_timeout", Duration::from_millis(20), limited).unwrap();
        assert_eq!(other.error().unwrap().kind(), ErrorKind::TimedOut);
        assert!(!first.is_done() && !same.is_done());
        assert!(first.cancel());
        assert_eq!(same.error().unwrap().kind(), ErrorKind::Cancelled);
    });
}
