//! Waiting for one future, in threads and in async code.

use crate::watchdog::watched;
use crate::{of_threads, on, on_each, on_threads, wait_until};
use sprang::{Client, Status, TaskFuture, WaitFor, as_completed, wait};
use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A task that waits until the test sends a message.
pub(crate) fn gated(client: &Client, value: u32) -> (Sender<()>, TaskFuture<u32>) {
    let (go, gate): (_, Receiver<()>) = channel();
    let gate = Mutex::new(gate);
    let task = move || {
        let _ = gate.lock().unwrap().recv();
        value
    };
    (go, client.submit_local(task, ()))
}

#[test]
fn waiting_with_a_timeout_leaves_the_task_alone() {
    on_threads("waiting_with_a_time_limit", |client| {
        let (go, future) = gated(client, 7);
        assert!(future.result_timeout(Duration::from_millis(5)).is_none());
        assert!(!future.wait_timeout(Duration::ZERO));
        assert!(!future.is_done());
        go.send(()).unwrap();
        assert_eq!(future.result_timeout(Duration::from_secs(20)).unwrap().unwrap(), 7);
        assert!(future.wait_timeout(Duration::ZERO));
    });
}

#[test]
fn many_threads_may_wait_for_one_future() {
    on_each("many_threads_may_wait", |client| {
        let future = client.submit(
            |x: u64| {
                std::thread::sleep(Duration::from_millis(5));
                x
            },
            (9_u64,),
        );
        let sum: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| future.result().unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(sum, 72);
    });
}

#[test]
fn callbacks_are_called_once_when_the_future_is_done_or_at_once() {
    on_threads("callbacks_are_called_once", |client| {
        let (go, future) = gated(client, 3);
        let called = Arc::new(AtomicU32::new(0));
        let count = |called: &Arc<AtomicU32>| {
            let called = Arc::clone(called);
            move |future: &TaskFuture<u32>| {
                called.fetch_add(future.result().unwrap_or(100), Ordering::SeqCst);
            }
        };
        future.on_done(|_| panic!("it is known where this goes: no further"));
        future.on_done(count(&called));
        assert_eq!(called.load(Ordering::SeqCst), 0);
        go.send(()).unwrap();
        wait_until("the callback to be called", || called.load(Ordering::SeqCst) == 3);
        future.on_done(count(&called));
        assert_eq!(called.load(Ordering::SeqCst), 6);
    });
}

/// A waker that counts its calls and unparks a thread.
struct Alarm(Mutex<u32>, std::sync::Condvar);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let alarm = Arc::new(Alarm(Mutex::new(0), std::sync::Condvar::new()));
    let waker = Waker::from(Arc::clone(&alarm));
    let mut future = pin!(future);
    loop {
        let seen = *alarm.0.lock().unwrap();
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut woken = alarm.0.lock().unwrap();
        while *woken == seen {
            woken = alarm.1.wait(woken).unwrap();
        }
    }
}

#[test]
fn futures_can_be_awaited_without_a_runtime() {
    on_each("futures_can_be_awaited", |client| {
        let x = client.submit(
            || {
                std::thread::sleep(Duration::from_millis(3));
                20_i32
            },
            (),
        );
        let sum = block_on(async {
            let y = client.submit(|x: &i32| x + 1, (&x,));
            let borrowed: i32 = (&y).await?;
            Ok::<_, sprang::Error>(borrowed + x.clone().await? + y.await?)
        });
        assert_eq!(sum.unwrap(), 62);
        let failed = client.try_submit(|| Err::<u8, _>("no"), ());
        assert_eq!(block_on(failed.into_future()).unwrap_err().message(), "no");
    });
}

#[test]
fn tasks_await_nested_tasks_on_however_few_workers() {
    on_each("tasks_await_what_they_hand_in", |client| {
        let outer = client.map_local(
            |x: u64| {
                let client = Client::current().unwrap();
                let next = client.submit(|x: u64| x + 1, (x,));
                let last = client.submit(|x: &u64| x * 2, (&next,));
                let mut squares = as_completed(client.map(|x: u64| x * x, 0..3_u64));
                block_on(async {
                    let mut sum = last.await.unwrap();
                    while let Some(square) = std::future::poll_fn(|context| squares.poll_next(context)).await {
                        sum += square.await.unwrap();
                    }
                    sum
                })
            },
            0..8_u64,
        );
        assert_eq!(client.gather(&outer).unwrap(), (0..8_u64).map(|x| 2 * (x + 1) + 5).collect::<Vec<_>>());
    });
}

#[test]
fn a_task_that_waits_for_a_time_waits_no_longer() {
    on_each("a_task_that_waits_for_a_time", |client| {
        let (go, gone) = channel::<()>();
        let gone = Mutex::new(gone);
        let outer = client.submit_local(
            move || {
                let client = Client::current().unwrap();
                let gone = Mutex::new(std::mem::replace(&mut *gone.lock().unwrap(), channel().1));
                let quick = client.submit(|| true, ());
                quick.result().unwrap();
                let slow = client.submit_local(move || gone.lock().unwrap().recv().is_ok(), ());
                let (done, open) = wait(&[slow.clone(), quick], WaitFor::First);
                assert_eq!((done.len(), open.len()), (1, 1), "one was enough");
                let short = Duration::from_millis(5);
                assert!(slow.result_timeout(short).is_none() && !slow.wait_timeout(short));
                assert!(client.gather_timeout(std::slice::from_ref(&slow), short).is_none());
                let mut completed = as_completed([slow.clone()]);
                assert!(completed.next_timeout(short).is_none());
                go.send(()).unwrap();
                slow.result().unwrap()
            },
            (),
        );
        assert!(outer.result().unwrap());
    });
}

#[test]
fn futures_can_be_awaited_in_tokio() {
    on("futures_can_be_awaited_in_tokio", of_threads(2), |client| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let squares = client.map(|x: u64| x * x, 0..100_u64);
        let sum = runtime.block_on(async move {
            let waiting: Vec<_> = squares.into_iter().map(|square| tokio::spawn(square)).collect();
            let mut sum = 0;
            for square in waiting {
                sum += square.await.unwrap().unwrap();
            }
            sum
        });
        assert_eq!(sum, 328_350);
    });
}

#[test]
fn a_future_that_is_polled_often_keeps_one_waker() {
    on("polled often", of_threads(1), |client| {
        let (go, future) = gated(client, 1);
        let alarm = Arc::new(Alarm(Mutex::new(0), std::sync::Condvar::new()));
        let waker = Waker::from(Arc::clone(&alarm));
        let mut polled = pin!(future.clone());
        for _ in 0..1000 {
            assert!(polled.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        go.send(()).unwrap();
        assert_eq!(future.result().unwrap(), 1);
        wait_until("the waker to be called", || *alarm.0.lock().unwrap() > 0);
        assert_eq!(*alarm.0.lock().unwrap(), 1);
        assert_eq!(future.status(), Status::Finished);
    });
}

/// Waits until the threads of the cluster sleep: longer than they spin.
fn let_workers_sleep() {
    std::thread::sleep(Duration::from_micros(300));
}

#[test]
fn a_thread_that_waits_for_a_short_task_runs_it_while_the_worker_wakes_up() {
    on_threads("a_thread_that_waits_for_a_small_task", |client| {
        let own = std::thread::current().id();
        let who_runs = || (std::thread::current().id(), Client::current().is_some());
        let has_run_it = || {
            let_workers_sleep();
            let (id, has_client) = client.submit_local(who_runs, ()).result().unwrap();
            assert!(has_client, "it is in the cluster, whoever runs it");
            id == own
        };
        wait_until("this thread to run one itself", has_run_it);
        assert!(Client::current().is_none(), "this thread is none of the cluster's again");
    });
}

#[test]
fn threads_that_run_awaited_tasks_count_as_workers() {
    for num_threads in 1..=2 {
        on(&format!("threads_that_run, {num_threads}"), of_threads(num_threads), |client| {
            let running = Arc::new(AtomicU32::new(0));
            let hand_in = |depth: u32| {
                for _ in 0..300 {
                    let_workers_sleep();
                    let running = Arc::clone(&running);
                    let work = move || {
                        let num_running = running.fetch_add(1, Ordering::SeqCst) + 1;
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        // A task that waits for another is not counted.
                        let inner = (depth > 0).then(|| Client::current().unwrap().submit(|| 1_u32, ()).result());
                        (num_running, inner.transpose().unwrap())
                    };
                    let (num_running, inner) = client.submit_local(work, ()).result().unwrap();
                    assert!(num_running as usize <= num_threads, "{num_running} at once");
                    assert_eq!(inner, (depth > 0).then_some(1));
                }
            };
            let hand_in = &hand_in;
            std::thread::scope(|scope| (0..4).for_each(|thread| drop(scope.spawn(move || hand_in(thread % 2)))));
        });
    }
}

#[test]
fn a_cluster_is_closed_while_other_threads_run_awaited_tasks() {
    for round in 0..50 {
        let what = format!("a cluster that is closed while others run, {round}");
        let cluster = of_threads(1).build().unwrap();
        let client = Client::new(&cluster);
        let num_run = Arc::new(AtomicU32::new(0));
        let hand_in = || {
            loop {
                let_workers_sleep();
                let num_run = Arc::clone(&num_run);
                if client.submit_local(move || num_run.fetch_add(1, Ordering::SeqCst), ()).result().is_err() {
                    return;
                }
            }
        };
        watched(&what, || {
            std::thread::scope(|scope| {
                (0..2).for_each(|_| drop(scope.spawn(hand_in)));
                wait_until("tasks to run", || num_run.load(Ordering::SeqCst) > 3);
                assert!(cluster.close(Some(Duration::from_secs(20))));
                let last = num_run.load(Ordering::SeqCst);
                std::thread::yield_now();
                assert_eq!(num_run.load(Ordering::SeqCst), last, "nothing runs after the end");
            });
        });
    }
}
