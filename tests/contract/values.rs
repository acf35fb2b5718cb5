//! The lifetime of values, and the readers that get them.

use super::ledger::{Counted, DropBehavior, Ledger};
use super::{Check, Subject, check, check_here};
use sprang::{Delayed, ErrorKind, Refs, compute, compute_each, delayed, delayed_local, prepare, try_delayed_local};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check(a_chain_holds_one_value_at_a_time),
        check(a_value_is_dropped_before_the_dependents_of_its_last_reader_start),
        check(a_value_without_readers_is_dropped_at_once),
        check(only_outputs_live_until_they_are_taken),
        check_here(a_value_is_moved_into_its_last_reader),
        check_here(a_value_is_moved_out_of_the_run),
        check(a_value_with_another_reader_is_cloned),
        check(an_owned_input_that_is_an_output_is_cloned),
        check(the_last_of_two_owners_gets_the_value_itself),
        check(a_task_may_own_and_borrow_the_same_value),
        check(a_persisted_value_is_cloned_for_its_owners),
        check(values_of_every_size_and_alignment_arrive_and_are_dropped),
        check(a_wide_run_drops_every_value_once),
        check(a_failed_run_drops_every_value),
        check(a_panic_in_the_middle_of_a_run_drops_every_value),
        check(a_panic_while_a_value_is_cloned_fails_the_task_and_leaks_nothing),
        check(a_panic_while_an_input_is_dropped_fails_the_task_and_leaks_nothing),
        check(a_panic_while_an_unread_value_is_dropped_fails_its_task),
        check(a_panic_while_a_stopped_run_is_cleared_leaks_nothing),
    ]
}

fn source(ledger: &Ledger, value: i64) -> Delayed<Counted> {
    let ledger = ledger.clone();
    delayed_local(move || ledger.value(value), ())
}

fn address(values: &[u64]) -> usize {
    values.as_ptr() as usize
}

fn a_chain_holds_one_value_at_a_time(_: &Subject) {
    let ledger = Ledger::new();
    let mut borrowing = source(&ledger, 0);
    for _ in 0..200 {
        let ledger = ledger.clone();
        borrowing = delayed_local(
            move |v: &Counted| {
                assert_eq!(ledger.num_live(), 1, "only the input is alive");
                ledger.value(v.value + 1)
            },
            (&borrowing,),
        );
    }
    assert_eq!(borrowing.compute().unwrap().value, 200);
    assert_eq!(ledger.peak(), 2, "input and value of one task");
    ledger.assert_settled();

    let ledger = Ledger::new();
    let mut owning = source(&ledger, 0);
    for _ in 0..200 {
        let add = |mut v: Counted| {
            v.value += 1;
            v
        };
        owning = delayed_local(add, (owning,));
    }
    assert_eq!(owning.compute().unwrap().value, 200);
    assert_eq!((ledger.peak(), ledger.num_made()), (1, 1), "one value is handed on");
    ledger.assert_settled();
}

fn a_value_is_dropped_before_the_dependents_of_its_last_reader_start(_: &Subject) {
    let ledger = Ledger::new();
    let first = source(&ledger, 1);
    let middles: Vec<_> = (0..50)
        .map(|i| {
            let ledger = ledger.clone();
            delayed_local(move |v: &Counted| ledger.value(v.value + i), (&first,))
        })
        .collect();
    let seen = ledger.clone();
    let sum = delayed_local(
        move |m: Refs<'_, Counted>| {
            assert_eq!(seen.num_live(), 50, "the source is gone, its readers' values are there");
            seen.value(m.iter().map(|v| v.value).sum())
        },
        (&middles,),
    );
    let seen = ledger.clone();
    let last = delayed_local(
        move |sum: &Counted| {
            assert_eq!(seen.num_live(), 1);
            sum.value
        },
        (&sum,),
    );
    assert_eq!(last.compute().unwrap(), 50 + 49 * 50 / 2);
    ledger.assert_settled();
}

fn a_value_without_readers_is_dropped_at_once(_: &Subject) {
    let ledger = Ledger::new();
    let mut last = source(&ledger, 0);
    for i in 1..20 {
        let seen = ledger.clone();
        let task = delayed_local(
            move || {
                assert_eq!(seen.num_live(), 0, "a value that only has to be there first");
                seen.value(i)
            },
            (),
        );
        last = task.after(&last);
    }
    assert_eq!(last.compute().unwrap().value, 19);
    ledger.assert_settled();
}

fn only_outputs_live_until_they_are_taken(_: &Subject) {
    let ledger = Ledger::new();
    let mut chain = vec![source(&ledger, 0)];
    for i in 0..30 {
        let ledger = ledger.clone();
        chain.push(delayed_local(move |v: &Counted| ledger.value(v.value + 1), (&chain[i],)));
    }
    let values = compute((&chain[10], &chain[30], &chain[20])).unwrap();
    assert_eq!((values.0.value, values.1.value, values.2.value), (10, 30, 20));
    assert_eq!(ledger.num_live(), 3);
    assert!(ledger.peak() <= 5, "two outputs, an input, a value: {}", ledger.peak());
    drop(values);
    ledger.assert_settled();
}

fn a_value_is_moved_into_its_last_reader(_: &Subject) {
    let first = delayed(|| vec![1_u64, 2, 3], ());
    let kept = first.clone();
    let second = delayed(
        |mut v: Vec<u64>| {
            let before = address(&v) as u64;
            v[0] = before;
            v
        },
        (first,),
    );
    let third = delayed(|v: Vec<u64>| (v[0] as usize, address(&v)), (second,));
    let (before, after) = third.compute().unwrap();
    assert_eq!(before, after);
    drop(kept);

    // The same holds in lists, options and tuples.
    let part = |n: u64| {
        let made = delayed(|n: u64| vec![n; 4], (n,));
        delayed(
            |mut v: Vec<u64>| {
                v[0] = address(&v) as u64;
                v
            },
            (made,),
        )
    };
    let is_moved = |v: &Vec<u64>| v[0] as usize == address(v);
    let all_moved = delayed_local(
        move |list: Vec<Vec<u64>>, option: Option<Vec<u64>>, (a, [b]): (Vec<u64>, [Vec<u64>; 1])| {
            list.iter().chain(&option).chain([&a, &b]).all(is_moved)
        },
        (vec![part(1), part(2)], Some(part(3)), (part(4), [part(5)])),
    );
    assert!(all_moved.compute().unwrap());
}

fn a_value_is_moved_out_of_the_run(_: &Subject) {
    let made = delayed(|| vec![0_u64; 8], ());
    let own = delayed(
        |mut v: Vec<u64>| {
            v[0] = address(&v) as u64;
            v
        },
        (made,),
    );
    let value = own.compute().unwrap();
    assert_eq!(value[0] as usize, address(&value));
    let (value, [other]) = compute((&own, [&own])).unwrap();
    assert_eq!(
        (value[0] == address(&value) as u64) as u8 + (other[0] == address(&other) as u64) as u8,
        1,
        "one moved, one cloned"
    );
}

fn a_value_with_another_reader_is_cloned(_: &Subject) {
    let ledger = Ledger::new();
    let value = source(&ledger, 7);
    let owner = delayed_local(
        |mut v: Counted| {
            v.value = 100;
            v
        },
        (value.clone(),),
    );
    let late = delayed_local(|v: &Counted| v.value, (&value,)).after(&owner);
    let (owner, late) = compute((&owner, &late)).unwrap();
    assert_eq!((owner.value, late), (100, 7));
    assert_eq!(ledger.num_made(), 2);
    drop(owner);
    ledger.assert_settled();
}

fn an_owned_input_that_is_an_output_is_cloned(_: &Subject) {
    let made = delayed(|| vec![1_u64], ());
    let changed = delayed(
        |mut v: Vec<u64>| {
            v.push(2);
            v
        },
        (made.clone(),),
    );
    assert_eq!(compute((&made, &changed)).unwrap(), (vec![1], vec![1, 2]));
}

fn the_last_of_two_owners_gets_the_value_itself(_: &Subject) {
    let ledger = Ledger::new();
    let value = source(&ledger, 1);
    let add = |mut v: Counted, n: i64| {
        v.value += n;
        v
    };
    let first = delayed_local(add, (value.clone(), 10_i64));
    let second = delayed_local(add, (value, 100_i64)).after(&first);
    let (first, second) = compute((&first, &second)).unwrap();
    assert_eq!((first.value, second.value), (11, 101));
    assert_eq!(ledger.num_made(), 2, "the value and one clone");
    drop((first, second));
    ledger.assert_settled();
}

fn a_task_may_own_and_borrow_the_same_value(_: &Subject) {
    let ledger = Ledger::new();
    let value = source(&ledger, 3);
    let task = delayed_local(
        |mut a: Counted, b: &Counted, c: Counted, list: Refs<'_, Counted>| {
            a.value = 1000;
            a.value + b.value + c.value + list[0].value
        },
        (value.clone(), &value, value.clone(), std::slice::from_ref(&value)),
    );
    assert_eq!(task.compute().unwrap(), 1009);
    ledger.assert_settled();
}

fn a_persisted_value_is_cloned_for_its_owners(_: &Subject) {
    let kept = delayed(|| vec![1_u64, 2], ()).persist().unwrap();
    let changed = delayed(
        |mut v: Vec<u64>| {
            v.push(3);
            v
        },
        (kept.clone(),),
    );
    for _ in 0..2 {
        assert_eq!(changed.compute().unwrap(), [1, 2, 3]);
        assert_eq!(kept.compute().unwrap(), [1, 2]);
    }
}

/// The number of live values of the types below.
static NUM_LIVE: AtomicIsize = AtomicIsize::new(0);

struct Empty;

#[repr(align(128))]
struct Aligned(u8);

struct Large([u64; 40]);

macro_rules! lives {
    ($($t:ty),*) => {$(
        impl Drop for $t {
            fn drop(&mut self) {
                NUM_LIVE.fetch_sub(1, Ordering::SeqCst);
            }
        }
    )*};
}
lives!(Empty, Aligned, Large);

fn born<T>(value: T) -> T {
    NUM_LIVE.fetch_add(1, Ordering::SeqCst);
    value
}

fn values_of_every_size_and_alignment_arrive_and_are_dropped(_: &Subject) {
    // `Empty` has no room for a ledger, so one executor is tested at a time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let empty = delayed_local(|| born(Empty), ());
    let aligned = delayed_local(|| born(Aligned(8)), ());
    let large = delayed_local(|| born(Large([3; 40])), ());
    let plain = delayed(|| [7_u64; 20], ());
    let tiny = delayed(|| (), ());
    let all = delayed_local(
        |_: &Empty, aligned: &Aligned, large: &Large, plain: &[u64; 20], (): &()| {
            assert_eq!((aligned as *const Aligned).addr() % 128, 0);
            assert_eq!(NUM_LIVE.load(Ordering::SeqCst), 3);
            u64::from(aligned.0) + large.0.iter().sum::<u64>() + plain.iter().sum::<u64>()
        },
        (&empty, &aligned, &large, &plain, &tiny),
    );
    assert_eq!(all.compute().unwrap(), 8 + 120 + 140);
    assert_eq!(NUM_LIVE.load(Ordering::SeqCst), 0);
    // As outputs, and without readers.
    let unread = delayed(|| 5, ()).after(&empty).after(&aligned).after(&large);
    assert_eq!(unread.compute().unwrap(), 5);
    assert_eq!(NUM_LIVE.load(Ordering::SeqCst), 0);
    drop((empty.compute().unwrap(), aligned.compute().unwrap(), large.compute().unwrap()));
    assert_eq!(NUM_LIVE.load(Ordering::SeqCst), 0);
}

/// A graph with a few hundred live values, some owned and some borrowed, with `task(i, a, b)` in
/// its middle.
fn busy_graph(ledger: &Ledger, task: impl Fn(i64) -> Result<(), &'static str> + Send + Sync + 'static) -> Delayed<i64> {
    let task = Arc::new(task);
    let sources: Vec<_> = (0..100).map(|i| source(ledger, i)).collect();
    let middles: Vec<_> = (0..100)
        .map(|i| {
            let (ledger, task) = (ledger.clone(), Arc::clone(&task));
            try_delayed_local(
                move |a: Counted, b: &Counted, all: Refs<'_, Counted>| {
                    let made = ledger.value(a.value + b.value + all.len() as i64);
                    task(i).map(|()| made)
                },
                (sources[i as usize].clone(), &sources[(i as usize + 1) % 100], &sources[..3]),
            )
        })
        .collect();
    delayed_local(|m: Vec<Counted>| m.iter().map(|v| v.value).sum(), (middles,))
}

fn a_wide_run_drops_every_value_once(_: &Subject) {
    let ledger = Ledger::new();
    let plan = prepare(busy_graph(&ledger, |_| Ok(()))).unwrap();
    for _ in 0..5 {
        assert_eq!(plan.compute().unwrap(), 2 * 4950 + 300);
        ledger.assert_settled();
    }
}

fn a_failed_run_drops_every_value(_: &Subject) {
    for bad in [0, 50, 99] {
        let ledger = Ledger::new();
        let graph = busy_graph(&ledger, move |i| if i == bad { Err("bad") } else { Ok(()) });
        assert_eq!(graph.compute().unwrap_err().kind(), ErrorKind::Failed);
        ledger.assert_settled();
        assert_eq!(compute_each(&graph).unwrap().unwrap_err().message(), "bad");
        ledger.assert_settled();
    }
}

fn a_panic_in_the_middle_of_a_run_drops_every_value(_: &Subject) {
    for bad in [0, 50, 99] {
        let ledger = Ledger::new();
        let graph = busy_graph(&ledger, move |i| if i % 100 == bad { panic!("bad") } else { Ok(()) });
        assert_eq!(graph.compute().unwrap_err().kind(), ErrorKind::Panicked);
        ledger.assert_settled();
        assert_eq!(compute_each(&graph).unwrap().unwrap_err().kind(), ErrorKind::Panicked);
        ledger.assert_settled();
    }
}

fn a_panic_while_a_value_is_cloned_fails_the_task_and_leaks_nothing(_: &Subject) {
    let ledger = Ledger::new();
    let maker = ledger.clone();
    let shy = delayed_local(move || maker.value_with(1, DropBehavior::PanicsWhenCloned), ());
    let calm = source(&ledger, 2);
    let owner =
        delayed_local(|calm: Counted, shy: Counted| calm.value + shy.value, (calm.clone(), shy.clone())).name("owner");
    let late = delayed_local(|shy: &Counted| shy.value, (&shy,));
    // Either reader may be the last one, which needs no clone. The borrower is held back, so the
    // owner is not the last.
    let error = compute((&owner, &late.after(&owner))).unwrap_err();
    assert_eq!((error.kind(), error.task()), (ErrorKind::Panicked, Some("owner")));
    assert!(error.message().contains("cannot stand being cloned"), "{error}");
    ledger.assert_settled();

    let late = delayed_local(|shy: &Counted| shy.value, (&shy,));
    let (owner, late) = compute_each((&owner, &delayed_local(|_: &i64, v: &i64| *v, (&late, &late)))).unwrap();
    assert!(late.is_ok());
    drop(owner);
    ledger.assert_settled();

    // An output that is requested twice is cloned on the caller's thread.
    let outcome = catch_unwind(AssertUnwindSafe(|| compute((&shy, &calm, &shy)).map(drop)));
    assert!(!matches!(outcome, Ok(Ok(()))), "the clone panicked");
    ledger.assert_settled();
}

fn a_panic_while_an_input_is_dropped_fails_the_task_and_leaks_nothing(_: &Subject) {
    let ledger = Ledger::new();
    let makers = [(); 2].map(|()| ledger.clone());
    let [angry, angrier] =
        makers.map(|maker| delayed_local(move || maker.value_with(1, DropBehavior::PanicsWhenDropped), ()));
    let calm = [source(&ledger, 2), source(&ledger, 3)];
    let maker = ledger.clone();
    let reader = delayed_local(
        move |a: &Counted, angry: &Counted, b: &Counted| maker.value(a.value + angry.value + b.value),
        (&calm[0], &angry, &calm[1]),
    )
    .name("reader");
    let error = reader.compute().map(|v| v.value).unwrap_err();
    assert_eq!((error.kind(), error.task()), (ErrorKind::Panicked, Some("reader")));
    assert!(error.message().contains("cannot stand being dropped"), "{error}");
    ledger.assert_settled();

    // The same holds for the owner of the value, which drops it inside the call.
    let owner = delayed_local(|v: Counted| v.value, (angrier,)).name("owner");
    let error = owner.compute().unwrap_err();
    assert_eq!((error.kind(), error.task()), (ErrorKind::Panicked, Some("owner")));
    ledger.assert_settled();
    let (owner, calm) = compute_each((&owner, &calm[0])).unwrap();
    assert_eq!(owner.unwrap_err().task(), Some("owner"));
    assert_eq!(calm.unwrap().value, 2);
    ledger.assert_settled();
}

fn a_panic_while_an_unread_value_is_dropped_fails_its_task(_: &Subject) {
    let ledger = Ledger::new();
    let maker = ledger.clone();
    let angry = delayed_local(move || maker.value_with(1, DropBehavior::PanicsWhenDropped), ()).name("angry");
    let error = source(&ledger, 2).after(&angry).compute().map(|v| v.value).unwrap_err();
    assert_eq!((error.kind(), error.task()), (ErrorKind::Panicked, Some("angry")));
    ledger.assert_settled();
}

fn a_panic_while_a_stopped_run_is_cleared_leaks_nothing(_: &Subject) {
    let ledger = Ledger::new();
    let mut values = vec![];
    for i in 0..20 {
        let maker = ledger.clone();
        let behavior = if i == 5 { DropBehavior::PanicsWhenDropped } else { DropBehavior::Plain };
        values.push(delayed_local(move || maker.value_with(i, behavior), ()));
    }
    let mut bad = try_delayed_local(|| Err::<i64, _>("bad"), ());
    for value in &values {
        bad = bad.after(value);
    }
    let all = delayed_local(|values: Refs<'_, Counted>, _: &i64| values.len(), (&values, &bad));
    // No task had read the values when the run stopped. Whether the panic of one is caught or
    // passed on, the others are dropped.
    let outcome = catch_unwind(AssertUnwindSafe(|| all.compute()));
    assert!(!matches!(outcome, Ok(Ok(_))));
    ledger.assert_settled();
}
