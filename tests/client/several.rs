//! Gathering futures, waiting for several, and taking them as they complete.

use crate::waiting::gated;
use crate::{of_threads, on, on_each, on_threads};
use sprang::{ErrorKind, Status, TaskFuture, WaitFor, as_completed, wait, wait_timeout};
use std::collections::{BTreeMap, HashSet};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[test]
fn gathered_values_have_the_shape_and_order_of_the_futures() {
    on_each("gathered_values", |client| {
        let squares = client.map(|x: u64| x * x, 0..50_u64);
        assert_eq!(client.gather(&squares).unwrap(), (0..50).map(|x| x * x).collect::<Vec<_>>());
        let text = client.submit(|| "a".to_string(), ());
        let map: BTreeMap<_, _> = [("x", &squares[3]), ("y", &squares[4])].into();
        let (pair, text, map, none) =
            client.gather(((&squares[1], [&squares[2]]), &text, map, None::<&TaskFuture<u8>>)).unwrap();
        assert_eq!((pair, &*text, none), ((1, [4]), "a", None));
        assert_eq!(map.into_iter().collect::<Vec<_>>(), [("x", 9), ("y", 16)]);
        assert!(client.gather(Vec::<TaskFuture<u8>>::new()).unwrap().is_empty());
    });
}

#[test]
fn gathering_may_return_or_collect_or_skip_failures() {
    on_each("gathering_may_raise_or_keep_or_skip", |client| {
        let numbers: Vec<_> =
            ["1", "x", "3"].map(|text| client.try_submit(|text: &str| text.parse::<i32>(), (text,))).into();
        let error = client.gather(&numbers).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Failed, "invalid digit found in string"));
        let each = client.gather_each(&numbers).unwrap();
        assert_eq!(
            each.iter().map(|result| result.as_ref().ok().copied()).collect::<Vec<_>>(),
            [Some(1), None, Some(3)]
        );
        assert_eq!(client.gather_finished(&numbers), [1, 3]);
    });
}

#[test]
fn gathering_returns_a_failure_before_the_others_are_done() {
    on("gathering_raises_at_once", of_threads(2), |client| {
        let (go, slow) = gated(client, 1);
        let bad = client.try_submit_local(|| Err::<u32, _>("bad"), ());
        assert_eq!(client.gather([&slow, &bad]).unwrap_err().message(), "bad");
        assert!(!slow.is_done());
        go.send(()).unwrap();
        assert_eq!(client.gather(&slow).unwrap(), 1);
    });
}

#[test]
fn gathering_with_a_timeout_leaves_the_tasks_alone() {
    on("gathering_with_a_time_limit", of_threads(2), |client| {
        let (go, slow) = gated(client, 1);
        let quick = client.submit(|| 2_u32, ());
        assert!(client.gather_timeout([&slow, &quick], Duration::from_millis(3)).is_none());
        let bad = client.try_submit_local(|| Err::<u32, _>("bad"), ());
        let failed = client.gather_timeout([&slow, &bad], Duration::from_secs(20)).unwrap();
        assert_eq!(failed.unwrap_err().message(), "bad");
        go.send(()).unwrap();
        assert_eq!(client.gather_timeout([&slow, &quick], Duration::from_secs(20)).unwrap().unwrap(), [1, 2]);
    });
}

#[test]
fn a_wait_ends_with_all_or_the_first_or_the_first_failure() {
    on("one_can_wait_for", of_threads(3), |client| {
        let (go_a, a) = gated(client, 1);
        let (go_b, b) = gated(client, 2);
        let all = [a.clone(), b.clone()];
        let (done, open) = wait_timeout(&all, WaitFor::First, Duration::from_millis(3));
        assert_eq!((done.len(), open.len()), (0, 2));
        go_b.send(()).unwrap();
        let (done, open) = wait(&all, WaitFor::First);
        assert_eq!((done.len(), open.len()), (1, 1));
        assert_eq!(done[0].result().unwrap(), 2);
        let bad = client.try_submit_local(|| Err::<u32, _>("bad"), ());
        let (done, open) = wait(&[a.clone(), b, bad], WaitFor::FirstFailure);
        assert_eq!((done.len(), open.len()), (2, 1));
        assert_eq!(done[1].status(), Status::Failed);
        go_a.send(()).unwrap();
        assert_eq!(wait(&all, WaitFor::All).0.len(), 2);
        assert_eq!(wait::<u32>(&[], WaitFor::All).0.len(), 0);
        assert_eq!(a.result().unwrap(), 1);
    });
}

#[test]
fn futures_are_returned_as_they_complete() {
    on("futures_are_returned_as_they_complete", of_threads(3), |client| {
        let (gates, futures): (Vec<_>, Vec<_>) = (0..3).map(|i| gated(client, i)).unzip();
        let mut completed = as_completed(futures);
        assert!(!completed.has_ready());
        assert!(completed.next_timeout(Duration::from_millis(2)).is_none());
        for i in [2, 0, 1] {
            gates[i as usize].send(()).unwrap();
            assert_eq!(completed.next().unwrap().result().unwrap(), i);
        }
        assert_eq!(completed.num_left(), 0);
        assert!(completed.next().is_none());
        // More futures may be added, also finished ones.
        let done = client.submit(|| 9_u32, ());
        assert_eq!(done.result().unwrap(), 9);
        completed.add(done);
        assert!(completed.has_ready());
        assert_eq!(completed.next().unwrap().result().unwrap(), 9);
    });
}

#[test]
fn every_future_is_returned_once_in_batches_too() {
    on_each("every_future_is_given_out_once", |client| {
        let mut completed = as_completed(client.map(|x: u64| x, 0..500_u64));
        let mut seen = HashSet::new();
        loop {
            let batch = completed.next_batch();
            if batch.is_empty() {
                break;
            }
            seen.extend(batch.iter().map(|future| future.result().unwrap()));
        }
        assert_eq!(seen.len(), 500);
        let results = as_completed(client.map(|x: u64| x, 0..100_u64)).with_results();
        assert_eq!(results.map(|(_, result)| result.unwrap()).sum::<u64>(), 4950);
    });
}

#[test]
fn a_task_may_take_others_as_they_complete() {
    on_threads("a_task_may_take_others_as_they_complete", |client| {
        let total = client.submit(
            |n: u64| {
                let client = sprang::Client::current().unwrap();
                as_completed(client.map(|x: u64| x, 0..n)).with_results().map(|(_, x)| x.unwrap()).sum::<u64>()
            },
            (100_u64,),
        );
        assert_eq!(total.result().unwrap(), 4950);
    });
}

#[test]
fn completed_futures_can_be_polled() {
    on("completed_futures_can_be_polled", of_threads(1), |client| {
        let (go, future) = gated(client, 5);
        let mut completed = as_completed([future]);
        let mut context = Context::from_waker(Waker::noop());
        assert!(completed.poll_next(&mut context).is_pending());
        go.send(()).unwrap();
        let next = loop {
            if let Poll::Ready(next) = completed.poll_next(&mut context) {
                break next;
            }
            std::thread::yield_now();
        };
        assert_eq!(next.unwrap().result().unwrap(), 5);
        assert!(matches!(completed.poll_next(&mut context), Poll::Ready(None)));
    });
}

#[cfg(feature = "stream")]
#[test]
fn completed_futures_are_a_stream() {
    use futures_core::Stream;

    on("completed_futures_are_a_stream", of_threads(2), |client| {
        let mut results = std::pin::pin!(as_completed(client.map(|x: u64| x, 0..100_u64)).with_results());
        assert_eq!(results.size_hint(), (100, Some(100)));
        let mut sum = 0;
        loop {
            match results.as_mut().poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some((_, result))) => sum += result.unwrap(),
                Poll::Ready(None) => break,
                Poll::Pending => std::thread::yield_now(),
            }
        }
        assert_eq!(sum, 4950);
    });
}
