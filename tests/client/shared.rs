//! What tasks of a cluster share with each other and with the program: events, locks, semaphores,
//! queues, variables.

use crate::{TIMEOUT, of_processes, of_threads, on, on_each, wait_until};
use sprang::{
    CancelToken, Client, Delayed, ErrorKind, Event, Lock, Permit, Queue, Semaphore, Status, TaskFuture, Variable,
    delayed, lit, try_delayed,
};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Long enough to see that a call blocks.
const A_WHILE: Duration = Duration::from_millis(30);

fn of_task() -> Client {
    Client::current().expect("a task has a client")
}

#[test]
fn a_set_event_releases_all_waiting_tasks_until_it_is_cleared() {
    on_each("an_event_lets_all_go_on", |client| {
        let go = client.event("go");
        assert!(!go.is_set().unwrap());
        assert!(!go.wait_timeout(Duration::ZERO).unwrap());
        assert!(!go.wait_timeout(Duration::from_millis(3)).unwrap());
        let waits = |x: u32, go: &Event| {
            go.wait()?;
            Ok::<_, sprang::Error>(x)
        };
        let waiting: Vec<_> = (0..6_u32).map(|x| client.try_submit(waits, (x, lit(go.clone())))).collect();
        let by_name = client.try_submit(|| of_task().event("go").wait_timeout(TIMEOUT), ());
        std::thread::sleep(A_WHILE);
        assert!(waiting.iter().all(|future| !future.is_done()));
        client.event("go").set().unwrap();
        assert_eq!(client.gather(&waiting).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert!(by_name.result().unwrap());
        go.wait().unwrap();
        assert!(client.try_submit(|go: &Event| go.is_set(), (lit(go.clone()),)).result().unwrap());
        client.try_submit(|| of_task().event("go").clear(), ()).result().unwrap();
        assert!(!go.is_set().unwrap());
    });
}

#[test]
fn waiting_tasks_do_not_starve_the_task_they_wait_for() {
    on_each("tasks_that_wait_do_not_starve", |client| {
        // More tasks than workers, known to be short, so that a worker takes several at once.
        let wait = |x: u32| of_task().event("late").wait().map(|()| x);
        client.event("late").set().unwrap();
        client.gather(&(0..50_u32).map(|x| client.try_submit(wait, (x,))).collect::<Vec<_>>()).unwrap();
        client.event("late").clear().unwrap();
        let waiting: Vec<_> = (0..8_u32).map(|x| client.try_submit(wait, (x,))).collect();
        let set = client.try_submit(|| of_task().event("late").set(), ());
        set.result().unwrap();
        assert_eq!(client.gather(&waiting).unwrap().len(), 8);
    });
}

/// A task that is quick, waits for the event, or sets it. Each adds a line to the file.
#[expect(clippy::ptr_arg, reason = "it is what a task borrows")]
fn step(number: u64, what: u64, before: &Vec<u64>, path: String) -> sprang::Result<Vec<u64>> {
    match what {
        1 => of_task().event("either").wait()?,
        2 => of_task().event("either").set()?,
        _ => {}
    }
    if !path.is_empty() {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{number}\n").as_bytes()).unwrap();
    }
    Ok(before.iter().copied().chain([number]).collect())
}

#[test]
fn a_task_that_waits_in_a_process_delays_no_task_of_its_batch_and_runs_once() {
    on("a_task_that_waits_in_a_process", of_processes(1).max_workers(1), |client| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log").to_str().unwrap().to_owned();
        let task = |number: u64, what: u64, before: &Delayed<Vec<u64>>| {
            try_delayed(step, (number, what, before, path.clone()))
        };
        let root = delayed(Vec::new, ());
        // So many that it is known how long they take, and the last go to the worker together.
        let many: Vec<_> =
            (100..400_u64).map(|number| try_delayed(step, (number, 0_u64, &root, String::new()))).collect();
        let values: Vec<_> = many.iter().map(|many| delayed(|many: &Vec<u64>| vec![many[0]], (many,))).collect();
        let chains: Vec<_> = values[290..]
            .iter()
            .enumerate()
            .map(|(i, value)| {
                let i = 10 * i as u64;
                let first = task(i, 0, value);
                let waits = task(i + 1, 1, &first);
                let next = task(i + 2, 0, &waits);
                delayed(|first: &Vec<u64>, next: &Vec<u64>| (first.len(), next.len()), (&first, &next))
            })
            .collect();
        let sets = task(99, 2, values.last().unwrap());
        let (values, lens, sets) = client.gather(client.compute((&values, &chains, &sets))).unwrap();
        assert_eq!(values.len(), 300);
        assert_eq!(lens, vec![(2, 4); 10]);
        assert_eq!(sets, [399, 99]);
        let log = std::fs::read_to_string(path).unwrap();
        let mut numbers: Vec<u64> =
            log.lines().map(|line| line.parse().unwrap()).filter(|number| number % 10 != 0).collect();
        numbers.sort_unstable();
        let expected: Vec<u64> = (0..10).flat_map(|i| [10 * i + 1, 10 * i + 2]).chain([99]).collect();
        assert_eq!(numbers, expected);
    });
}

/// Returns how many tasks are inside at once: each makes a file and counts the files.
fn enter(x: u32, folder: String, permits: &Semaphore) -> Result<usize, sprang::Error> {
    let _permit = permits.acquire()?;
    let own = format!("{folder}/{x}");
    std::fs::write(&own, "").unwrap();
    std::thread::sleep(Duration::from_millis(1));
    let num_inside = std::fs::read_dir(&folder).unwrap().count();
    std::fs::remove_file(own).unwrap();
    Ok(num_inside)
}

#[test]
fn no_more_tasks_have_a_permit_than_the_semaphore_allows() {
    on_each("no_more_tasks_have_a_permit", |client| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let permits = client.semaphore("two", 2).unwrap();
        let inside: Vec<_> =
            (0..30_u32).map(|x| client.try_submit(enter, (x, path.clone(), lit(permits.clone())))).collect();
        let inside = client.gather(&inside).unwrap();
        assert!(inside.iter().all(|&n| n <= 2), "{inside:?}");
        assert_eq!(permits.num_free().unwrap(), 2);
        let held = [permits.acquire().unwrap(), permits.acquire().unwrap()];
        assert!(permits.acquire_timeout(Duration::ZERO).unwrap().is_none());
        let none = client.try_submit(|| client_timeout("two", 2), ());
        assert!(none.result().unwrap());
        drop(held);
        assert_eq!(permits.num_free().unwrap(), 2);
    });
}

/// Whether no permit is free for a while.
fn client_timeout(name: &str, num_permits: usize) -> sprang::Result<bool> {
    Ok(of_task().semaphore(name, num_permits)?.acquire_timeout(Duration::from_millis(2))?.is_none())
}

#[test]
fn a_panic_releases_a_permit() {
    on_each("a_permit_is_given_back_by_a_panic", |client| {
        let lock = client.lock("one");
        let panics = client.submit(
            |lock: &Lock| -> u8 {
                let _permit: Permit = lock.acquire().unwrap();
                panic!("with the lock")
            },
            (lit(lock.clone()),),
        );
        assert_eq!(panics.error().unwrap().kind(), ErrorKind::Panicked);
        drop(lock.acquire_timeout(TIMEOUT).unwrap().expect("it is free"));
        let later = client.try_submit(|lock: &Lock| lock.acquire().map(drop), (lit(lock.clone()),));
        later.result().unwrap();
    });
}

#[test]
fn a_queue_keeps_the_order_of_its_items_and_its_limit() {
    on_each("a_queue_hands_items_on", |client| {
        let jobs: Queue<(u32, String)> = client.queue("jobs", Some(3)).unwrap();
        let produce = |jobs: &Queue<(u32, String)>| (0..20_u32).try_for_each(|x| jobs.put((x, format!("job {x}"))));
        let produced = client.try_submit(produce, (lit(jobs.clone()),));
        wait_until("it to be full", || jobs.num_items().unwrap() == 3);
        assert_eq!(jobs.put_timeout((99, "late".into()), Duration::ZERO).unwrap(), Some((99, "late".into())));
        assert_eq!(jobs.put_timeout((98, "late".into()), Duration::from_millis(2)).unwrap(), Some((98, "late".into())));
        let first: Vec<u32> = (0..5).map(|_| jobs.take().unwrap().0).collect();
        assert_eq!(first, [0, 1, 2, 3, 4]);
        let consume = |jobs: &Queue<(u32, String)>| {
            (0..15).map(|_| jobs.take()).map(|job| job.map(|(x, name)| (x, name.len()))).collect::<Result<Vec<_>, _>>()
        };
        let consumed = client.try_submit(consume, (lit(jobs.clone()),)).result().unwrap();
        assert_eq!(consumed[0], (5, 5));
        assert_eq!(consumed[14], (19, 6));
        produced.result().unwrap();
        assert_eq!(jobs.num_items().unwrap(), 0);
        assert!(jobs.take_timeout(Duration::ZERO).unwrap().is_none());
        assert!(jobs.take_timeout(Duration::from_millis(2)).unwrap().is_none());
        let free: Queue<Vec<u8>> = client.queue("free", None).unwrap();
        (0..100_u8).for_each(|x| free.put(vec![x; 10_000]).unwrap());
        let large = client.try_submit(|free: &Queue<Vec<u8>>| free.take().map(|item| item.len()), (lit(free.clone()),));
        assert_eq!(large.result().unwrap(), 10_000);
        assert_eq!((free.num_items().unwrap(), free.take().unwrap()[0]), (99, 1));
    });
}

#[test]
fn a_variable_has_its_last_value() {
    on_each("a_variable_has_the_value", |client| {
        let best: Variable<Vec<f64>> = client.variable("best").unwrap();
        assert_eq!(best.get_timeout(Duration::ZERO).unwrap(), None);
        let waits = client.try_submit(|best: &Variable<Vec<f64>>| best.get(), (lit(best.clone()),));
        std::thread::sleep(A_WHILE);
        best.set(vec![0.5, 1.5]).unwrap();
        assert_eq!(waits.result().unwrap(), [0.5, 1.5]);
        client.try_submit(|| of_task().variable("best")?.set(vec![2.5]), ()).result().unwrap();
        assert_eq!((best.get().unwrap(), best.get_timeout(TIMEOUT).unwrap()), (vec![2.5], Some(vec![2.5])));
        client.try_submit(|| of_task().variable::<Vec<f64>>("best")?.clear(), ()).result().unwrap();
        assert_eq!(best.get_timeout(Duration::from_millis(2)).unwrap(), None);
    });
}

#[test]
fn a_second_object_of_the_same_name_and_other_properties_is_refused() {
    on_each("what_is_not_like_its_namesake", |client| {
        let _numbers: Queue<u32> = client.queue("x", Some(3)).unwrap();
        let error = client.queue::<u32>("x", None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotShared);
        assert!(
            error.message().contains("is a queue of at most 3 `u32`, and not a queue of `u32` without a limit"),
            "{error}"
        );
        assert!(client.queue::<String>("x", Some(3)).is_err());
        let _permits = client.semaphore("x", 2).unwrap();
        assert!(
            client.semaphore("x", 3).unwrap_err().message().contains("is a semaphore of 2, and not a semaphore of 3")
        );
        let _value: Variable<u8> = client.variable("x").unwrap();
        assert!(client.variable::<u16>("x").is_err());
        // Also from a task.
        let there = client.submit(
            || of_task().queue::<u64>("x", Some(3)).err().map(|error| error.kind() == ErrorKind::NotShared),
            (),
        );
        assert_eq!(there.result().unwrap(), Some(true));
        // Kinds have names of their own.
        assert!(!client.event("x").is_set().unwrap());
        assert!(client.lock("x").acquire_timeout(Duration::ZERO).unwrap().is_some());
    });
}

#[test]
fn an_object_without_handles_and_state_is_dropped() {
    on_each("what_nobody_has_is_forgotten", |client| {
        drop(client.queue::<u32>("q", Some(3)).unwrap());
        let other: Queue<String> = client.queue("q", None).unwrap();
        other.put("stays".into()).unwrap();
        drop(other);
        assert!(client.queue::<u32>("q", Some(3)).is_err(), "there is an item");
        assert_eq!(client.queue::<String>("q", None).unwrap().take().unwrap(), "stays");
        drop(client.queue::<u32>("q", Some(3)).unwrap());
        let permits = client.semaphore("s", 2).unwrap();
        let permit = permits.acquire().unwrap();
        drop(permits);
        assert!(client.semaphore("s", 1).is_err(), "there is a permit");
        drop(permit);
        assert!(client.semaphore("s", 1).is_ok());
    });
}

#[test]
fn clusters_do_not_share_names() {
    for builder in [of_threads(1), of_processes(1)] {
        let clusters = [builder.clone().build().unwrap(), builder.build().unwrap()];
        let [one, other] = clusters.each_ref().map(Client::new);
        one.event("go").set().unwrap();
        assert!(!other.event("go").is_set().unwrap());
        let is_set = |go: &Event| go.is_set().map_err(|error| error.kind() == ErrorKind::NotShared);
        assert!(one.submit(is_set, (lit(one.event("go")),)).result().unwrap().unwrap());
        // A handle belongs to its own cluster, wherever it is used.
        let astray = other.submit(is_set, (lit(one.event("go")),)).result().unwrap();
        assert!(matches!(astray, Ok(true) | Err(true)), "{astray:?}");
    }
}

#[test]
fn closing_a_cluster_fails_waiting_operations() {
    for builder in [of_threads(1), of_processes(1)] {
        let cluster = builder.build().unwrap();
        let client = Client::new(&cluster);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("why");
        let waits = |go: &Event, path: String| {
            std::fs::write(format!("{path}.begun"), "").unwrap();
            let error = go.wait().unwrap_err();
            std::fs::write(&path, format!("{:?}", error.kind())).unwrap();
        };
        let waiting = client.submit(waits, (lit(client.event("never")), path.to_str().unwrap().to_owned()));
        wait_until("it to wait", || Path::new(&format!("{}.begun", path.display())).exists());
        std::thread::sleep(A_WHILE);
        let error = std::thread::scope(|scope| {
            let here = scope.spawn(|| client.queue::<u8>("none", None).unwrap().take().unwrap_err());
            std::thread::sleep(A_WHILE);
            assert!(cluster.close(Some(TIMEOUT)));
            here.join().unwrap()
        });
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.message().ends_with("was closed, and queue \"none\" with it"), "{error}");
        // The task ends with the error of its wait, or is lost.
        assert!(matches!(waiting.status(), Status::Lost | Status::Finished), "{}", waiting.status());
        let why = std::fs::read_to_string(&path).unwrap();
        assert!(why == "Closed" || why == "Cancelled", "{why}");
        assert_eq!(client.event("never").set().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(client.semaphore("s", 1).unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn a_task_that_is_cancelled_stops_waiting() {
    on_each("a_task_that_is_cancelled_stops_waiting", |client| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("why").to_str().unwrap().to_owned();
        let waits = |path: String| {
            std::fs::write(format!("{path}.begun"), "").unwrap();
            let error = of_task().lock("held").acquire().unwrap_err();
            assert!(CancelToken::current().is_cancelled());
            std::fs::write(path, error.to_string()).unwrap();
        };
        let held = client.lock("held").acquire().unwrap();
        let waiting: TaskFuture<()> = client.submit(waits, (path.clone(),));
        wait_until("it to wait", || Path::new(&format!("{path}.begun")).exists());
        std::thread::sleep(A_WHILE);
        assert!(waiting.cancel());
        let told = "the task that waits for lock \"held\" was cancelled";
        wait_until("it to be told", || std::fs::read_to_string(&path).is_ok_and(|text| text == told));
        drop(held);
        // The cancelled task is no longer first in line.
        assert!(client.lock("held").acquire_timeout(Duration::ZERO).unwrap().is_some());
    });
}

#[test]
fn a_local_task_waits_without_blocking_its_worker() {
    for builder in [of_threads(1), of_processes(1)] {
        on("a_local_task_waits", builder, |client| {
            let go = client.event("go");
            let waits: TaskFuture<()> = client.submit_local(move || assert!(go.wait_timeout(TIMEOUT).unwrap()), ());
            wait_until("it to run", || waits.status() == Status::Running);
            client.try_submit(|| of_task().event("go").set(), ()).result().unwrap();
            waits.result().unwrap();
        });
    }
}

#[test]
fn a_task_without_a_cluster_has_no_shared_objects() {
    let error = |event: &Event| event.set().err().map(|error| error.to_string());
    let cluster = of_processes(1).build().unwrap();
    let event = Client::new(&cluster).event("go");
    let task = delayed(error, (lit(event),));
    let error = task.compute_with("processes").unwrap().expect("it is an error");
    assert!(error.contains("event \"go\" cannot be had: the task was not submitted by a client"), "{error}");
}

#[test]
fn other_threads_of_a_task_get_an_error_that_says_where_to_ask() {
    on("other threads", of_processes(1), |client| {
        let elsewhere = |go: &Event| {
            let go = go.clone();
            std::thread::spawn(move || go.set().unwrap_err().to_string()).join().unwrap()
        };
        let error = client.submit(elsewhere, (lit(client.event("go")),)).result().unwrap();
        assert!(error.contains("which only the thread of a task can ask"), "{error}");
    });
}

#[test]
fn many_tasks_take_turns_with_one_lock() {
    on_each("many_tasks_take_turns", |client| {
        let add = |x: u64| {
            let client = of_task();
            let _permit = client.lock("sum").acquire()?;
            let sum = client.variable::<u64>("sum")?;
            let before = sum.get()?;
            sum.set(before + x)
        };
        client.variable::<u64>("sum").unwrap().set(0).unwrap();
        let added: Vec<_> = (0..200_u64).map(|x| client.try_submit(add, (x,))).collect();
        client.gather(&added).unwrap();
        assert_eq!(client.variable::<u64>("sum").unwrap().get().unwrap(), 19_900);
    });
}

#[test]
fn every_item_is_taken_once_however_short_the_timeouts_are() {
    const NUM_ITEMS: u64 = 300;
    on_each("every_item_is_taken_once", |client| {
        let items: Queue<u64> = client.queue("items", Some(2)).unwrap();
        // A zero timeout first, then timeouts that often end just when an item arrives. (A short
        // wait keeps its worker, so the last timeout is longer.)
        let timeout =
            |num_tries: u64, x: u64| Duration::from_micros([0, 300 * (x % 7), 6_000][num_tries.min(2) as usize]);
        let put = move |first: u64, items: &Queue<u64>| {
            for x in first..first + NUM_ITEMS {
                let mut left = Some(x);
                let mut num_tries = 0;
                while let Some(item) = left {
                    left = items.put_timeout(item, timeout(num_tries, x))?;
                    num_tries += 1;
                }
            }
            Ok::<_, sprang::Error>(())
        };
        let take = move |n: u64, items: &Queue<u64>| {
            let mut taken = Vec::new();
            while taken.len() < n as usize {
                let item =
                    (0..).find_map(|num_tries| items.take_timeout(timeout(num_tries, taken.len() as u64)).transpose());
                taken.extend(item.transpose()?);
            }
            Ok::<_, sprang::Error>(taken)
        };
        let taking: Vec<_> = (0..2).map(|_| client.try_submit(take, (NUM_ITEMS, lit(items.clone())))).collect();
        let putting = client.try_submit(put, (0_u64, lit(items.clone())));
        put(NUM_ITEMS, &items).unwrap();
        putting.result().unwrap();
        let mut taken = client.gather(&taking).unwrap().concat();
        taken.sort_unstable();
        assert_eq!(taken, (0..2 * NUM_ITEMS).collect::<Vec<_>>());
        assert_eq!(items.num_items().unwrap(), 0);
    });
}
