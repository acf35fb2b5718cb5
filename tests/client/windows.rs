//! Futures that are submitted in a window, and the forms of `map` and `reduce`.

use crate::waiting::gated;
use crate::{of_threads, on, on_each, wait_until};
use sprang::{Client, ErrorKind, Status, TaskFuture, reduce, windowed};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

fn square(x: u64) -> u64 {
    x * x
}

#[test]
fn a_window_over_an_endless_input_returns_futures_in_their_order() {
    on_each("a_window_over_an_endless_input", |client| {
        for window in [0, 1, 3, 50] {
            let num_drawn = AtomicUsize::new(0);
            let futures = (0_u64..).map(|x| {
                num_drawn.fetch_add(1, SeqCst);
                client.submit(square, (x,))
            });
            for (index, future) in windowed(futures, window).take(100).enumerate() {
                assert!(future.is_done());
                assert_eq!(future.result().unwrap(), square(index as u64));
                assert!(num_drawn.load(SeqCst) <= index + window.max(1));
            }
        }
        wait_until("nothing is left", || client.num_pending() == 0);
    });
}

#[test]
fn a_window_returns_futures_in_the_order_of_completion_on_request() {
    on("a_window_as_completed", of_threads(2), |client| {
        let (go, slow) = gated(client, 0);
        let futures = std::iter::once(slow).chain((1..10_u32).map(|x| client.submit(|x: u32| x, (x,))));
        let mut values = Vec::new();
        let mut completed = windowed(futures, 3).as_completed();
        for future in completed.by_ref().take(9) {
            values.push(future.result().unwrap());
        }
        values.sort();
        assert_eq!(values, (1..10).collect::<Vec<_>>());
        go.send(()).unwrap();
        assert_eq!(completed.next().unwrap().result().unwrap(), 0);
        assert!(completed.next().is_none());
    });
}

#[test]
fn a_window_that_is_dropped_cancels_what_it_has_not_returned() {
    on("a_window_that_is_dropped", of_threads(1), |client| {
        for is_ordered in [true, false] {
            let (go, blocking) = gated(client, 0);
            let drawn = std::cell::RefCell::new(Vec::<TaskFuture<u64>>::new());
            let submit = |x: u64| {
                // The first is done at once, and all others wait behind the task that blocks.
                let future = if x == 0 { client.scatter(0) } else { client.submit(square, (x,)) };
                drawn.borrow_mut().push(future.clone());
                future
            };
            let futures = (0_u64..).map(submit);
            match is_ordered {
                true => assert!(windowed(futures, 4).next().is_some()),
                false => assert!(windowed(futures, 4).as_completed().next().is_some()),
            }
            let states: Vec<_> = drawn.borrow().iter().map(TaskFuture::status).collect();
            assert_eq!(states[0], Status::Finished);
            assert_eq!(states[1..], [Status::Cancelled; 3]);
            go.send(()).unwrap();
            assert_eq!(blocking.result().unwrap(), 0);
        }
    });
}

#[test]
fn a_failed_future_is_returned_by_a_window_in_its_place() {
    on("a_failed_future", of_threads(2), |client| {
        let check = |x: u32| if x == 1 { Err("one") } else { Ok(x) };
        let futures = (0..3_u32).map(|x| client.try_submit(check, (x,)));
        let kinds: Vec<_> = windowed(futures, 2).map(|future| future.result().map_err(|error| error.kind())).collect();
        assert_eq!(kinds, [Ok(0), Err(ErrorKind::Failed), Ok(2)]);
    });
}

#[test]
fn values_are_merged_in_a_tree_in_their_order() {
    let join = |a: String, b: String| a + &b;
    for num in [0, 1, 2, 3, 7, 64] {
        let letters = || (0..num).map(|n: u8| String::from(char::from(b'0' + n)));
        let expected: Option<String> = (num > 0).then(|| letters().collect());
        let handles = letters().map(|letter| sprang::delayed(|letter: String| letter, (letter,)));
        assert_eq!(reduce(join, handles).map(|all| all.compute().unwrap()), expected);
    }
    on_each("values_are_merged_in_a_tree", |client| {
        let futures = client.map(|x: u64| vec![x], 0..100_u64);
        let all = client.reduce(|a: Vec<u64>, b: Vec<u64>| [a, b].concat(), futures).unwrap();
        assert_eq!(all.result().unwrap(), (0..100).collect::<Vec<_>>());
        assert!(client.reduce(|a: u8, _: u8| a, Vec::<TaskFuture<u8>>::new()).is_none());
    });
}

#[test]
fn fallible_functions_are_mapped_over_tuples_and_locally() {
    on_each("fallible_functions", |client: &Client| {
        let divide = |x: u32, by: u32| x.checked_div(by).ok_or("division by zero");
        let quotients = client.try_map_zipped(divide, [(6_u32, 3_u32), (1, 0)]);
        assert_eq!(quotients[0].result().unwrap(), 2);
        assert_eq!(quotients[1].error().unwrap().message(), "division by zero");
        let limit = 1_u32.max(client.num_pending() as u32);
        let below = move |x: u32| if x < limit { Ok(x) } else { Err("too large") };
        let checked = client.tasks().priority(1).try_map_local(below, 0..limit + 1);
        assert_eq!(checked[0].result().unwrap(), 0);
        assert_eq!(checked.last().unwrap().error().unwrap().message(), "too large");
    });
}
