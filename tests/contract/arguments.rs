//! The arguments that reach a function, and the number of calls.

use super::{Check, Subject, Tally, check, check_here};
use sprang::{Delayed, ErrorKind, Refs, compute, delayed, delayed_local, lit, local, owned, prepare};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::{Range, RangeFrom, RangeInclusive, RangeTo};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check(every_kind_of_argument_passes_the_right_value),
        check(plain_values_reach_the_function_as_they_are),
        check(an_owned_value_reaches_every_compute_whole),
        check(a_function_borrows_what_a_value_dereferences_to),
        check(a_list_by_reference_is_refs_and_a_list_by_value_keeps_its_shape),
        check(nested_shapes_of_arguments_arrive_in_their_shape),
        check(a_task_takes_twelve_arguments),
        check(a_task_takes_a_hundred_thousand_inputs),
        check(a_graph_of_one_task_is_computed),
        check(a_handle_passed_twice_is_computed_once),
        check(a_shared_task_is_run_once),
        check(only_tasks_that_the_outputs_need_are_run),
        check(computing_again_runs_the_tasks_again),
        check(a_task_after_another_starts_when_that_has_finished),
        check(two_tasks_of_one_name_are_refused_before_anything_runs),
        check(pure_tasks_with_equal_arguments_are_run_once),
        check(tasks_that_are_not_pure_are_never_merged),
        check(a_local_value_is_shared_by_all_tasks_and_runs),
        check(a_local_value_cannot_be_computed),
        check_here(a_literal_is_borrowed_by_every_run),
        check(a_grid_where_every_task_needs_three_others_is_right),
        check(ten_thousand_tasks_that_need_nothing_are_all_run_once),
        check(a_tree_is_summed),
    ]
}

fn every_kind_of_argument_passes_the_right_value(_: &Subject) {
    let text = delayed(|n: u32| "x".repeat(n as usize), (3_u32,));
    assert_eq!(delayed(|text: &String| text.len(), (&text,)).compute().unwrap(), 3, "borrowed");
    assert_eq!(delayed(|text: String| text + "y", (text.clone(),)).compute().unwrap(), "xxxy", "owned");

    let parts: Vec<Delayed<String>> = (0..5_u32).map(|i| delayed(|i: u32| i.to_string(), (i,))).collect();
    let join = |parts: Refs<'_, String>| parts.iter().map(String::as_str).collect::<String>();
    assert_eq!(delayed(join, (&parts,)).compute().unwrap(), "01234", "borrowed vector");
    assert_eq!(delayed(join, (&parts[1..3],)).compute().unwrap(), "12", "borrowed slice");
    assert_eq!(delayed(join, (&[parts[4].clone(), parts[0].clone()],)).compute().unwrap(), "40", "borrowed array");
    let ends = |parts: Refs<'_, String>| format!("{}{}{}", parts[0], parts.len(), parts.iter().next_back().unwrap());
    assert_eq!(delayed(ends, (&parts,)).compute().unwrap(), "054");

    assert_eq!(
        delayed(|parts: Vec<String>| parts.concat(), (parts.clone(),)).compute().unwrap(),
        "01234",
        "owned vector"
    );
    let owned_array = [parts[2].clone(), parts[3].clone()];
    assert_eq!(delayed(|[a, b]: [String; 2]| a + &b, (owned_array,)).compute().unwrap(), "23", "owned array");
    let some = delayed(|text: Option<&String>| text.cloned().unwrap_or_default(), (Some(&parts[1]),));
    assert_eq!(some.compute().unwrap(), "1", "some");
    let none = delayed(|text: Option<&String>| text.is_none(), (None::<&Delayed<String>>,));
    assert!(none.compute().unwrap(), "none");

    let plain = delayed(
        |a: bool, b: char, c: i8, d: u128, e: f64, f: String, g: &str| format!("{a} {b} {c} {d} {e} {f} {g}"),
        (true, 'z', -7_i8, u128::MAX, 0.5, "own".to_string(), "static"),
    );
    assert_eq!(plain.compute().unwrap(), format!("true z -7 {} 0.5 own static", u128::MAX));
    let literal = delayed(|pairs: &Vec<(u8, String)>| pairs.len(), (lit(vec![(1, "one".to_string())]),));
    assert_eq!(literal.compute().unwrap(), 1);
}

fn plain_values_reach_the_function_as_they_are(_: &Subject) {
    let path = delayed(|path: PathBuf| path.join("b"), (PathBuf::from("a"),));
    assert_eq!(path.compute().unwrap(), PathBuf::from("a/b"));
    let times = delayed(
        |time: Duration, at: SystemTime| at + time,
        (Duration::from_secs(2), SystemTime::UNIX_EPOCH + Duration::from_nanos(1)),
    );
    assert_eq!(times.compute().unwrap(), SystemTime::UNIX_EPOCH + Duration::new(2, 1));
    let ranges = delayed(
        |a: Range<usize>, b: RangeInclusive<i64>, c: RangeFrom<u8>, d: RangeTo<char>| {
            (a.len(), *b.end(), c.start, d.end)
        },
        (3..10_usize, 1..=5_i64, 7_u8.., ..'x'),
    );
    assert_eq!(ranges.compute().unwrap(), (7, 5, 7, 'x'));
    let others = delayed(
        |n: NonZeroUsize, text: Box<str>, name: OsString, address: SocketAddr, unit: ()| {
            assert_eq!(unit, ());
            format!("{n} {text} {} {address}", name.to_string_lossy())
        },
        (
            NonZeroUsize::new(4).unwrap(),
            Box::<str>::from("text"),
            OsString::from("name"),
            SocketAddr::from(([127, 0, 0, 1], 80)),
            (),
        ),
    );
    assert_eq!(others.compute().unwrap(), "4 text name 127.0.0.1:80");
    let shapes = delayed(
        |many: Vec<PathBuf>, some: Option<Duration>, [a, b]: [Range<u8>; 2], (n, text): (u8, String)| {
            (many.len(), some.unwrap().as_secs(), a.len() + b.len(), n as usize + text.len())
        },
        (vec![PathBuf::from("a"); 3], Some(Duration::from_secs(4)), [0..1, 0..2_u8], (5_u8, "ab".to_string())),
    );
    assert_eq!(shapes.compute().unwrap(), (3, 4, 3, 7));
}

fn an_owned_value_reaches_every_compute_whole(_: &Subject) {
    let counts = BTreeMap::from([("a".to_string(), vec![1, 2]), ("b".to_string(), vec![3])]);
    let spoil = |mut counts: BTreeMap<String, Vec<i64>>, more: Vec<Option<Vec<u8>>>| {
        counts.remove("a");
        (counts, more.into_iter().flatten().map(|more| more.len()).sum::<usize>())
    };
    // A function without options, and one that is called more than once.
    let lists = || vec![Some(owned(vec![1_u8, 2])), None, Some(owned(vec![3]))];
    let once = delayed(spoil, (owned(counts.clone()), lists()));
    let often = delayed(spoil, (owned(counts), lists())).name("often").retries(2);
    let expected = (BTreeMap::from([("b".to_string(), vec![3])]), 3);
    for _ in 0..2 {
        assert_eq!(compute((&once, &often)).unwrap(), (expected.clone(), expected.clone()));
    }
}

fn a_function_borrows_what_a_value_dereferences_to(_: &Subject) {
    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }
    fn len(text: &str, path: &Path) -> usize {
        text.len() + path.components().count()
    }
    let values = delayed(|| vec![1.0, 2.0, 6.0], ());
    let text = delayed(|| "four".to_string(), ());
    let path = delayed(|| PathBuf::from("a/b"), ());
    let both = delayed(len, (text.as_deref(), path.as_deref()));
    let lit = delayed(len, (lit("ab".to_string()).as_deref(), lit(PathBuf::from("a")).as_deref()));
    let inferred = delayed(|text, values| (text.len(), values[0]), (text.as_deref(), values.as_deref()));
    let listed = delayed(
        |[a, b]: [&[f64]; 2], text: Option<&str>| (a.len() + b.len(), text.map(str::len)),
        ([values.as_deref(), values.as_deref()], Some(text.as_deref())),
    );
    let mean = delayed(mean, (values.as_deref(),));
    let found = compute((&mean, &both, &lit, &inferred, &listed)).unwrap();
    assert_eq!(found, (3.0, 6, 3, (4, 1.0), (6, Some(4))));
}

fn a_list_by_reference_is_refs_and_a_list_by_value_keeps_its_shape(_: &Subject) {
    let [a, b] = [1_i64, 20].map(|n| delayed(|n: i64| n, (n,)));
    let sum = |list: Refs<'_, i64>| list.iter().sum::<i64>();
    let (handles, lent) = (vec![a.clone(), b.clone()], vec![&a, &b]);
    let by_reference = [
        delayed(sum, (&handles,)),
        delayed(sum, (&handles[..],)),
        delayed(sum, (&[a.clone(), b.clone()],)),
        delayed(sum, (&lent,)),
        delayed(sum, (&lent[..],)),
        delayed(sum, (&[&a, &b],)),
    ];
    assert_eq!(compute(&by_reference).unwrap(), [21; 6]);
    let lists = delayed(
        |list: Vec<&i64>, [a, b]: [&i64; 2], owned: Vec<i64>, array: [i64; 2]| {
            list.into_iter().sum::<i64>() + a + b + owned.iter().sum::<i64>() + array[0] + array[1]
        },
        (lent.clone(), [&a, &b], handles.clone(), [a.clone(), b.clone()]),
    );
    assert_eq!(lists.compute().unwrap(), 84);
}

fn nested_shapes_of_arguments_arrive_in_their_shape(_: &Subject) {
    let number = |n: i64| delayed(|n: i64| n, (n,));
    let (a, b, c) = (number(1), number(20), number(300));
    let sum = delayed(
        |(a, rest): (&i64, [Option<(i64, &i64)>; 2]), lists: Vec<Vec<&i64>>, unit: ()| {
            assert_eq!(unit, ());
            assert!(rest[0].is_none());
            let lists: Vec<i64> = lists.iter().map(|list| list.iter().copied().sum()).collect();
            let (b, c) = rest[1].unwrap();
            (a + b + c, lists)
        },
        ((&a, [None, Some((b.clone(), &c))]), vec![vec![&a, &a], vec![], vec![&c]], ()),
    );
    assert_eq!(sum.compute().unwrap(), (321, vec![2, 0, 300]));
}

fn a_task_takes_twelve_arguments(_: &Subject) {
    let x: Vec<Delayed<u64>> = (0..12_u32).map(|i| delayed(|i: u32| 1_u64 << i, (i,))).collect();
    let (owned, list) = (x[10].clone(), &x[8..10]);
    let all = delayed(
        |a: &u64,
         b: &u64,
         c: &u64,
         d: &u64,
         e: &u64,
         f: &u64,
         g: &u64,
         h: &u64,
         i: Refs<'_, u64>,
         j: u64,
         k: (u64, &u64),
         l: u64| { a + b + c + d + e + f + g + h + i.iter().sum::<u64>() + j + k.0 + k.1 + l },
        (&x[0], &x[1], &x[2], &x[3], &x[4], &x[5], &x[6], &x[7], list, owned, (4096_u64, &x[11]), 8192_u64),
    );
    assert_eq!(all.compute().unwrap(), (1 << 14) - 1);
}

fn a_task_takes_a_hundred_thousand_inputs(_: &Subject) {
    let parts: Vec<Delayed<u64>> = (0..100_000_u64).map(|i| delayed(|i: u64| i, (i,))).collect();
    let borrowed = delayed(|parts: Refs<'_, u64>| parts.iter().sum::<u64>(), (&parts,));
    let owned = delayed(|parts: Vec<u64>| parts.iter().sum::<u64>(), (parts,));
    assert_eq!(compute((&borrowed, &owned)).unwrap(), (4_999_950_000, 4_999_950_000));
}

fn a_graph_of_one_task_is_computed(_: &Subject) {
    assert_eq!(delayed(|| 7, ()).compute().unwrap(), 7);
    assert_eq!(delayed(|| "text".to_string(), ()).compute().unwrap(), "text");
    delayed(|| (), ()).compute().unwrap();
    // A single output need not be `Clone`.
    struct Alone(u8);
    assert_eq!(delayed_local(|| Alone(9), ()).compute().unwrap().0, 9);
}

fn a_handle_passed_twice_is_computed_once(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let text = delayed_local(move || counter.count().to_string(), ());
    let both = delayed(
        |a: &String, b: &String, c: String, d: Vec<&String>, e: Vec<String>| {
            format!("{a}{b}{c}{}{}", d.len(), e.concat())
        },
        (&text, &text, text.clone(), vec![&text, &text], vec![text.clone(), text.clone()]),
    );
    assert_eq!(both.compute().unwrap(), "000200");
    assert_eq!(calls.get(), 1);
    assert_eq!(compute((&text, &text, [&text, &text])).unwrap(), ("1".into(), "1".into(), ["1".into(), "1".into()]));
    assert_eq!(calls.get(), 2);
}

fn a_shared_task_is_run_once(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let source = delayed_local(move || counter.count() as u64, ());
    let middles: Vec<Delayed<u64>> = (0..100_u64).map(|i| delayed(|s: &u64, i: u64| s + i, (&source, i))).collect();
    let sums: Vec<Delayed<u64>> =
        (0..5_u64).map(|i| delayed(|m: Refs<'_, u64>, i: u64| m.iter().sum::<u64>() + i, (&middles, i))).collect();
    assert_eq!(compute(&sums).unwrap(), [4950, 4951, 4952, 4953, 4954]);
    assert_eq!(calls.get(), 1);
}

fn only_tasks_that_the_outputs_need_are_run(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let source = delayed(|| 1, ());
    let unneeded = delayed_local(move |_: &i32| counter.count(), (&source,));
    let needed = delayed(|s: &i32| s + 1, (&source,));
    assert_eq!(needed.compute().unwrap(), 2);
    assert_eq!(calls.get(), 0);
    drop(unneeded);
    assert_eq!(needed.compute().unwrap(), 2);
}

fn computing_again_runs_the_tasks_again(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let task = delayed_local(move || counter.count(), ());
    assert_eq!((task.compute().unwrap(), task.compute().unwrap()), (0, 1));
    let plan = prepare((&task, [&task])).unwrap();
    assert_eq!(plan.num_tasks(), 1);
    assert_eq!(plan.compute().unwrap(), (2, [2]));
    assert_eq!(plan.compute().unwrap(), (3, [3]));
}

fn a_task_after_another_starts_when_that_has_finished(_: &Subject) {
    let log = Tally::default();
    let position = |log: &Tally| {
        let log = log.clone();
        move || log.count()
    };
    let first = delayed_local(position(&log), ());
    let seconds: Vec<_> = (0..20).map(|_| delayed_local(position(&log), ()).after(&first)).collect();
    let mut third = delayed_local(position(&log), ());
    for second in &seconds {
        third = third.after(second);
    }
    let (third, first, mut seconds) = compute((&third, &first, &seconds)).unwrap();
    seconds.sort();
    assert_eq!((first, third), (0, 21));
    assert_eq!(seconds, (1..21).collect::<Vec<_>>());
}

fn two_tasks_of_one_name_are_refused_before_anything_runs(_: &Subject) {
    let calls = Tally::default();
    let load = |calls: &Tally| {
        let calls = calls.clone();
        delayed_local(move || calls.count(), ()).name("load")
    };
    let (a, b) = (load(&calls), load(&calls));
    let error = compute((&a, &b)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DuplicateName);
    assert!(error.to_string().contains("\"load\""), "{error}");
    assert_eq!(calls.get(), 0);
    assert_eq!(compute((&a, &a)).unwrap(), (0, 0), "one task, named once");
}

fn pure_tasks_with_equal_arguments_are_run_once(_: &Subject) {
    fn square(x: &u64) -> u64 {
        x * x
    }
    fn shift(x: &u64, by: u64) -> u64 {
        x + by
    }
    let source = delayed(|| 6, ());
    let squares: Vec<_> = (0..10).map(|_| delayed(square, (&source,)).pure()).collect();
    let shifted = [1_u64, 1, 2].map(|by| delayed(shift, (&squares[by as usize], by)).pure());
    let plan = prepare((&squares, &shifted)).unwrap();
    assert_eq!(plan.num_tasks(), 4, "the source, one square, two shifts");
    assert_eq!(plan.compute().unwrap(), (vec![36; 10], [37, 37, 38]));
}

fn tasks_that_are_not_pure_are_never_merged(_: &Subject) {
    let calls = Tally::default();
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let calls = calls.clone();
            delayed_local(move || calls.count(), ())
        })
        .collect();
    // A function that captures is not merged even if it is marked as pure.
    let marked: Vec<_> = (0..10)
        .map(|_| {
            let calls = calls.clone();
            delayed_local(move || calls.count(), ()).pure()
        })
        .collect();
    let (mut all, marked) = compute((&tasks, &marked)).unwrap();
    all.extend(marked);
    all.sort();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}

fn a_local_value_is_shared_by_all_tasks_and_runs(_: &Subject) {
    struct Hits(AtomicU64);
    let hits = local(Hits(AtomicU64::new(0)));
    let tasks: Vec<_> =
        (0..50).map(|_| delayed(|hits: &Hits| hits.0.fetch_add(1, Ordering::SeqCst), (&hits,))).collect();
    let mut seen = compute(&tasks).unwrap();
    seen.extend(compute(&tasks).unwrap());
    seen.sort();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

fn a_local_value_cannot_be_computed(_: &Subject) {
    let value = local(AtomicU64::new(3));
    assert_eq!(value.compute().unwrap_err().kind(), ErrorKind::NotCloneable);
    assert_eq!(delayed(|v: &AtomicU64| v.load(Ordering::SeqCst), (&value,)).compute().unwrap(), 3);
}

fn a_literal_is_borrowed_by_every_run(_: &Subject) {
    let address = delayed(|v: &Vec<u8>| v.as_ptr() as usize, (lit(vec![1, 2, 3]),));
    assert_eq!(address.compute().unwrap(), address.compute().unwrap());
}

fn a_grid_where_every_task_needs_three_others_is_right(_: &Subject) {
    const WIDTH: usize = 40;
    const STEPS: usize = 40;
    let mut row: Vec<Delayed<u64>> = (0..WIDTH as u64).map(|i| delayed(|i: u64| i, (i,))).collect();
    let mut expected: Vec<u64> = (0..WIDTH as u64).collect();
    for _ in 0..STEPS {
        let left = |i: usize| (i + WIDTH - 1) % WIDTH;
        let right = |i: usize| (i + 1) % WIDTH;
        let add = |a: &u64, b: &u64, c: &u64| a.wrapping_mul(3).wrapping_add(*b).wrapping_sub(*c);
        row = (0..WIDTH).map(|i| delayed(add, (&row[left(i)], &row[i], &row[right(i)]))).collect();
        expected = (0..WIDTH).map(|i| add(&expected[left(i)], &expected[i], &expected[right(i)])).collect();
    }
    assert_eq!(compute(&row).unwrap(), expected);
}

fn ten_thousand_tasks_that_need_nothing_are_all_run_once(_: &Subject) {
    let calls = Tally::default();
    let tasks: Vec<_> = (0..10_000)
        .map(|_| {
            let calls = calls.clone();
            delayed_local(move || calls.count(), ())
        })
        .collect();
    let mut seen = compute(&tasks).unwrap();
    seen.sort();
    assert_eq!(seen, (0..10_000).collect::<Vec<_>>());
}

fn a_tree_is_summed(_: &Subject) {
    let mut level: Vec<Delayed<u64>> = (0..4096_u64).map(|i| delayed(|i: u64| i, (i,))).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| delayed(|a: &u64, b: &u64| a + b, (&pair[0], &pair[1]))).collect();
    }
    assert_eq!(level[0].compute().unwrap(), 4095 * 4096 / 2);
}
