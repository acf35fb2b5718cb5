//! Stages and reductions against iterators.

use crate::SCHEDULERS;
use crate::watchdog::watched;
use proptest::prelude::*;
use sprang::bag::{self, Bag, Chain};
use sprang::{Delayed, Portable, compute_with, lit};
use std::collections::HashMap;
use std::fmt::Debug;

type Items = Vec<(String, i32)>;

fn items() -> impl Strategy<Value = Items> {
    prop::collection::vec(("[a-e]{0,2}", -20..20_i32), 0..80)
}

fn bag_of(items: &Items, partitions: usize) -> Bag<(String, i32)> {
    bag::from_sequence(items.clone(), partitions)
}

/// Checks the value on every scheduler.
#[track_caller]
fn gives<T: Portable + Clone + PartialEq + Debug>(value: &Delayed<T>, expected: &T) -> Result<(), TestCaseError> {
    for scheduler in SCHEDULERS {
        prop_assert_eq!(&value.compute_with(scheduler).unwrap(), expected, "{}", scheduler);
    }
    Ok(())
}

/// Checks the items on every scheduler.
#[track_caller]
fn holds<T, P>(bag: &Bag<T, P>, expected: &[T]) -> Result<(), TestCaseError>
where
    T: Portable + Clone + PartialEq + Debug,
    P: for<'a> Chain<Item = T, Of<'a> = T>,
{
    for scheduler in SCHEDULERS {
        prop_assert_eq!(&bag.compute_with(scheduler).unwrap(), expected, "{}", scheduler);
    }
    Ok(())
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() }
}

fn first_of_each<T: Clone + PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

#[test]
fn stages_give_what_those_of_iterators_give() {
    watched("stages", || {
        proptest!(config(), |(items in items(), partitions in 1..9_usize, k in -5..5_i32)| {
            let bag = bag_of(&items, partitions);
            prop_assert_eq!(bag.num_partitions(), partitions.min(items.len()).max(1));
            let own = || items.iter().cloned();
            holds(&bag, &items)?;
            holds(&bag.map(|(text, n)| text.len() as i32 * n), &own().map(|(text, n)| text.len() as i32 * n).collect::<Vec<_>>())?;
            holds(&bag.filter(|(_, n)| n % 3 == 0), &own().filter(|(_, n)| n % 3 == 0).collect::<Vec<_>>())?;
            let text_of_positive = |(text, n): (String, i32)| (n > 0).then_some(text);
            holds(&bag.filter_map(text_of_positive), &own().filter_map(text_of_positive).collect::<Vec<_>>())?;
            let repeat = |(text, n): (String, i32)| std::iter::repeat_n(text, n.unsigned_abs() as usize % 4);
            holds(&bag.flat_map(repeat), &own().flat_map(repeat).collect::<Vec<_>>())?;
            holds(&bag.map_partitions(|items| items.into_iter().map(|(_, n)| n)), &own().map(|(_, n)| n).collect::<Vec<_>>())?;
            holds(&bag.try_map(|(_, n)| Ok::<_, String>(n)), &own().map(|(_, n)| n).collect::<Vec<_>>())?;
            holds(&bag.map_with(k, |k, (_, n)| n * k), &own().map(|(_, n)| n * k).collect::<Vec<_>>())?;
            holds(&bag.filter_with(k, |k, (_, n)| n > k), &own().filter(|(_, n)| *n > k).collect::<Vec<_>>())?;
            let long = bag.map(|(_, n)| n).filter_with(k, |k, n| n > k).map_with(items.len(), |len, n| (n, *len)).filter(|(n, _)| n % 2 == 0);
            let expected = own().map(|(_, n)| n).filter(|n| *n > k && n % 2 == 0).map(|n| (n, items.len())).collect::<Vec<_>>();
            holds(&long, &expected)?;
            holds(&long.concat(&long.cut()), &[&expected[..], &expected].concat())?;
            for n in [0, 1, k.unsigned_abs() as usize * 3, 100] {
                holds(&bag.take(n), &own().take(n).collect::<Vec<_>>())?;
            }
        });
    });
}

#[test]
fn reductions_give_what_those_of_iterators_give() {
    watched("reductions", || {
        proptest!(config(), |(items in items(), partitions in 1..9_usize, k in 0..6_usize)| {
            let bag = bag_of(&items, partitions);
            let numbers = bag.map(|(_, n)| i64::from(n));
            let own = || items.iter().cloned();
            let of_numbers = || items.iter().map(|(_, n)| i64::from(*n));
            gives(&bag.count(), &(items.len() as u64))?;
            gives(&numbers.sum(), &of_numbers().sum())?;
            gives(&numbers.min(), &of_numbers().min())?;
            gives(&numbers.max(), &of_numbers().max())?;
            gives(&bag.min_by_key(|(_, n)| n.abs()), &own().min_by_key(|(_, n)| n.abs()))?;
            gives(&bag.max_by_key(|(_, n)| n.abs()), &own().max_by_key(|(_, n)| n.abs()))?;
            let mean = (!items.is_empty()).then(|| of_numbers().sum::<i64>() as f64 / items.len() as f64);
            gives(&bag.map(|(_, n)| n).mean(), &mean)?;
            gives(&bag.any(|(_, n)| n == 7), &own().any(|(_, n)| n == 7))?;
            gives(&bag.all(|(_, n)| n < 15), &own().all(|(_, n)| n < 15))?;
            // Neither is commutative, so the order counts.
            gives(&bag.map(|(text, _)| text).reduce(|a, b| a + &b), &own().map(|(text, _)| text).reduce(|a, b| a + &b))?;
            let joined = bag.fold(String::new, |all, (text, n)| *all += &format!("{text}{n}"), |a, b| a + &b);
            gives(&joined, &own().map(|(text, n)| format!("{text}{n}")).collect::<String>())?;

            let distinct = bag.map(|(text, _)| text).distinct();
            holds(&distinct, &first_of_each(own().map(|(text, _)| text)))?;
            let frequencies = numbers.frequencies();
            let count = |n: i64| of_numbers().filter(|m| *m == n).count() as u64;
            holds(&frequencies, &first_of_each(of_numbers()).into_iter().map(|n| (n, count(n))).collect::<Vec<_>>())?;
            let lists = bag.foldby(|(text, _)| text.clone(), Vec::new, |list, (_, n)| list.push(n), |a, b| [a, b].concat());
            let list = |text: &String| own().filter(|item| item.0 == *text).map(|item| item.1).collect::<Vec<_>>();
            let expected = first_of_each(own().map(|item| item.0)).into_iter().map(|text| (text.clone(), list(&text)));
            holds(&lists, &expected.collect::<Vec<_>>())?;

            let mut sorted: Vec<i64> = of_numbers().collect();
            sorted.sort_by(|a, b| b.cmp(a));
            sorted.truncate(k);
            holds(&numbers.topk(k), &sorted)?;
            let mut by_key = items.clone();
            by_key.sort_by_key(|(_, n)| std::cmp::Reverse(n.abs()));
            by_key.truncate(k);
            holds(&bag.topk_by_key(k, |(_, n)| n.abs()), &by_key)?;
        });
    });
}

#[test]
fn the_largest_of_many_items_are_found_in_their_order() {
    let items: Vec<(u32, u32)> = (0..20_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) % 1000, i)).collect();
    let mut expected = items.clone();
    expected.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    for (partitions, k) in [(1, 3), (3, 40), (7, 500), (2, 30_000)] {
        let top = bag::from_sequence(items.clone(), partitions).topk_by_key(k, |(n, _)| *n);
        assert_eq!(top.compute().unwrap(), expected[..k.min(items.len())], "{k} of {partitions} partitions");
    }
}

#[test]
fn many_keys_are_counted_in_processes_as_on_one_thread() {
    let words: Vec<String> = (0..60_000_u64).map(|i| format!("word {}", i * i % 7919)).collect();
    let mut counts = HashMap::new();
    words.iter().for_each(|word| *counts.entry(word.clone()).or_insert(0) += 1);
    let frequencies = bag::from_sequence(words, 8).frequencies();
    let [one, two, three] = SCHEDULERS.map(|scheduler| frequencies.compute_with(scheduler).unwrap());
    assert!(one == two && two == three, "the order is the same too");
    assert_eq!(one.into_iter().collect::<HashMap<_, _>>(), counts);
}

#[test]
fn a_context_is_a_value_or_a_handle() {
    for scheduler in SCHEDULERS {
        let numbers = bag::from_sequence(1..=6_i64, 3);
        let total = numbers.sum();
        let shares = numbers.map_with(&total, |total, n| n * 100 / total);
        assert_eq!(shares.compute_with(scheduler).unwrap(), [4, 9, 14, 19, 23, 28]);
        let table = vec!["zero".to_owned(), "one".into()];
        let named =
            numbers.filter_map(|n| usize::try_from(n - 1).ok()).map_with(table, |table, n| table.get(n).cloned());
        assert_eq!(named.count().compute_with(scheduler).unwrap(), 6);
        assert_eq!(named.compute_with(scheduler).unwrap()[..2], [Some("zero".to_owned()), Some("one".into())]);
        // A value that no other process can get: the tasks stay here.
        let local = sprang::local(std::sync::Mutex::new(5_i64));
        let local = sprang::delayed_local(|value: &std::sync::Mutex<i64>| *value.lock().unwrap(), (&local,));
        assert_eq!(numbers.map_with(local, |k, n| k + n).sum().compute_with(scheduler).unwrap(), 51);
        let added = sprang::delayed(|x: &i64, y: i64| x + y, (lit(1_i64), 1_i64));
        let both = numbers.map_with(&added, |k, n| k * n).filter_with(&total, |total, n| n * 2 < *total);
        assert_eq!(compute_with(scheduler, (&both, &total)).unwrap(), (vec![2, 4, 6, 8, 10], 21));
    }
}

#[test]
fn a_bag_without_items_has_a_value() {
    for scheduler in SCHEDULERS {
        for empty in [
            bag::from_sequence(Vec::<u32>::new(), 5),
            bag::from_delayed([]),
            bag::from_sequence([1], 0).filter(|n| *n > 1).cut(),
        ] {
            let reductions = (
                &empty.count(),
                &empty.sum(),
                &empty.max(),
                &empty.mean(),
                &empty.any(|_| true),
                &empty.all(|_| false),
            );
            assert_eq!(compute_with(scheduler, reductions).unwrap(), (0, 0, None, None, false, true));
            let bags = (&empty, &empty.take(1), &empty.topk(1), &empty.distinct());
            assert_eq!(compute_with(scheduler, bags).unwrap(), Default::default());
        }
    }
}
