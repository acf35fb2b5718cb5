//! Bags in graphs: tasks, sharing, failures, clients.

use crate::SCHEDULERS;
use crate::watchdog::watched;
use sprang::bag::{self, Bag};
use sprang::{Client, ErrorKind, TaskFuture, compute, compute_each, compute_with, config, delayed, persist, prepare};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[test]
fn a_chain_is_one_task_for_each_partition() {
    let bag = bag::from_sequence(0..100_u32, 8).map(|n| n + 1).filter(|n| n % 2 == 0).flat_map(|n| [n; 2]);
    assert_eq!(prepare(&bag).unwrap().num_tasks(), 16, "8 partitions that are there, and their loops");
    assert_eq!(prepare(&bag.count()).unwrap().num_tasks(), 16 + 7, "and a tree");
    assert_eq!(prepare(&bag.persist().unwrap()).unwrap().num_tasks(), 8);
}

#[test]
fn chains_behind_a_cut_share_what_is_before_it() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let calls = || CALLS.swap(0, Relaxed);
    let counted = bag::from_sequence(0..10_u32, 2).map(|n| {
        CALLS.fetch_add(1, Relaxed);
        n
    });
    let both = |bag: &Bag<u32>| compute_with("threads", (&bag.count(), &bag.sum(), bag)).unwrap();
    let expected = (10, 45, (0..10).collect::<Vec<_>>());
    let (count, sum, all) = compute_with("threads", (&counted.count(), &counted.sum(), &counted)).unwrap();
    assert_eq!(((count, sum, all), calls()), (expected.clone(), 30));
    let cut = counted.cut();
    assert_eq!((both(&cut), calls()), (expected.clone(), 10));
    assert_eq!((both(&cut), calls()), (expected.clone(), 10));
    assert_eq!(compute_with("threads", (&counted, &counted.clone(), &counted)).unwrap().2.len(), 10);
    assert_eq!(calls(), 10, "a bag and its clones are the same tasks");
    let kept = config::with("scheduler", "threads", || counted.persist()).unwrap().unwrap();
    assert_eq!((both(&kept), calls()), (expected, 10));
}

#[test]
fn a_partition_stops_when_nothing_more_is_needed() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let counted = bag::from_sequence(0..1000_u32, 2).map(|n| {
        CALLS.fetch_add(1, Relaxed);
        n
    });
    let calls = || CALLS.swap(0, Relaxed);
    assert!(counted.any(|n| n == 3).compute_with("threads").unwrap());
    assert_eq!(calls(), 4 + 500);
    assert!(!counted.all(|n| n % 500 < 5).compute_with("threads").unwrap());
    assert_eq!(calls(), 6 + 6);
    assert_eq!(counted.flat_map(|n| [n, n]).take(3).compute_with("threads").unwrap(), [0, 0, 1]);
    assert_eq!(calls(), 2 + 2);
}

#[test]
fn a_failure_says_where_the_item_is() {
    for scheduler in SCHEDULERS {
        let texts = bag::from_sequence(["1", "2", "3", "4", "x"].map(String::from), 2);
        let numbers = texts.filter(|text| text != "3").try_map(|text| text.parse::<u32>());
        let error = numbers.sum().compute_with(scheduler).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert_eq!(error.message(), "item 1 of partition 1: invalid digit found in string");
        let after = numbers.map(|n| n + 1).concat(&bag::from_sequence([1], 1));
        assert_eq!(after.compute_with(scheduler).unwrap_err().message(), error.message());
        let panics = texts.map(|text| text.parse::<u32>().unwrap());
        assert_eq!(panics.compute_with(scheduler).unwrap_err().kind(), ErrorKind::Panicked);
        assert_eq!(panics.take(3).compute_with(scheduler).unwrap_err().kind(), ErrorKind::Panicked, "of partition 1");
        assert_eq!(panics.take(1).compute_with(scheduler).unwrap(), [1]);
        assert_eq!(panics.count().compute_with("sync").unwrap_err().task(), Some("closure in count"));
    }
}

/// A bag in a struct.
struct Input {
    numbers: Bag<u64>,
}

#[test]
fn a_bag_is_a_collection() {
    watched("a_bag_is_a_collection", || {
        let bag = bag::from_sequence(0..5_u64, 2).map(|n| n * 2);
        assert_eq!(compute((&bag, &bag.max(), [&bag])).unwrap(), (vec![0, 2, 4, 6, 8], Some(8), [vec![0, 2, 4, 6, 8]]));
        let bad = bag.try_map(|n| if n < 8 { Ok(n) } else { Err("it is too large") });
        let (bad, good) = compute_each((&bad, &bag)).unwrap();
        assert_eq!(bad.unwrap_err().message(), "item 1 of partition 1: it is too large");
        assert_eq!(good.unwrap().len(), 5);
        let input = Input { numbers: persist(&bag).unwrap() };
        assert_eq!(input.numbers.num_partitions(), 2);
        let handles = input.numbers.to_delayed();
        let lens = handles.iter().map(|part| delayed(|part: &Vec<u64>| part.len(), (part,))).collect::<Vec<_>>();
        assert_eq!(compute(&lens).unwrap(), [3, 2]);
        for client in [Client::threads(2).unwrap(), Client::processes(2).unwrap()] {
            let future: TaskFuture<Vec<u64>> = client.compute(&bag);
            assert_eq!(future.result().unwrap(), [0, 2, 4, 6, 8]);
            assert_eq!(bag.compute_with(&client).unwrap(), [0, 2, 4, 6, 8]);
            let kept: Bag<u64> = client.persist(&bag);
            assert_eq!(client.compute(&kept.map(|n| n + 1).sum()).result().unwrap(), 25);
            assert_eq!(kept.frequencies().compute().unwrap().len(), 5);
        }
    });
}

#[test]
fn items_that_cannot_be_encoded_may_pass_through_a_chain() {
    for scheduler in SCHEDULERS {
        let lens = bag::from_sequence(0..4_usize, 2).map(|n| std::rc::Rc::new(vec![(); n])).map(|items| items.len());
        assert_eq!(lens.compute_with(scheduler).unwrap(), [0, 1, 2, 3]);
    }
}
