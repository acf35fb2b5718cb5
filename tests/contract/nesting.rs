//! Computes within tasks and from many threads, and their configuration.

use super::{Check, Subject, Tally, check, check_here};
use rayon::prelude::*;
use sprang::{Delayed, Refs, compute, config, delayed, delayed_local, try_delayed, try_delayed_local};
use std::sync::Arc;
use std::thread;

pub(crate) fn checks() -> Vec<Check> {
    vec![
        check(a_task_may_compute_a_graph_of_its_own),
        check(tasks_nested_two_deep_with_parallel_loops_end),
        check(nested_computes_deeper_than_there_are_workers_end),
        check(a_parallel_loop_in_a_task_may_compute),
        check(a_nested_failure_is_an_error_of_the_nested_compute),
        check(a_nested_compute_may_use_a_handle_of_the_outer_graph),
        check(eight_threads_compute_overlapping_graphs_at_once),
        check(twenty_short_lived_threads_compute),
        check(one_plan_is_run_by_several_threads_at_once),
        check(a_scoped_setting_reaches_tasks_and_nested_computes),
        check(a_scoped_setting_is_gone_from_the_workers_afterwards),
        check(threads_that_compute_at_once_see_their_own_settings),
        check(a_scope_opened_in_a_task_ends_with_the_task),
        check_here(the_scheduler_of_a_call_is_that_of_its_nested_computes),
    ]
}

fn sum_of(parts: &[Delayed<u64>]) -> Delayed<u64> {
    delayed(|parts: Refs<'_, u64>| parts.iter().sum::<u64>(), (parts,))
}

/// The sum of the first `n` numbers, as a graph.
fn triangle(n: u64) -> Delayed<u64> {
    sum_of(&(0..n).map(|i| delayed(|i: u64| i, (i,))).collect::<Vec<_>>())
}

fn a_task_may_compute_a_graph_of_its_own(_: &Subject) {
    let parts: Vec<_> = (0..30_u64).map(|i| try_delayed(|i: u64| triangle(i).compute(), (i,))).collect();
    assert_eq!(sum_of(&parts).compute().unwrap(), (0..30).map(|i: u64| i * i.saturating_sub(1) / 2).sum::<u64>());
}

fn tasks_nested_two_deep_with_parallel_loops_end(_: &Subject) {
    fn inner(i: u64) -> u64 {
        (0..200_u64).into_par_iter().map(|j| i * j % 7).sum()
    }
    fn middle(i: u64) -> sprang::Result<u64> {
        let parts: Vec<_> = (0..6).map(|j| delayed(inner, (i + j,))).collect();
        let doubled: u64 = (0..50_u64).into_par_iter().map(|j| j * 2).sum();
        Ok(sum_of(&parts).compute()? + doubled)
    }
    fn outer(i: u64) -> sprang::Result<u64> {
        let parts: Vec<_> = (0..6).map(|j| try_delayed(middle, (i * j,))).collect();
        sum_of(&parts).compute()
    }
    let parts: Vec<_> = (0..6_u64).map(|i| try_delayed(outer, (i,))).collect();
    let sum = sum_of(&parts);
    let expected = (0..6)
        .flat_map(|i| (0..6).map(move |j| i * j))
        .map(|ij: u64| 2450 + (0..6).map(|k| (0..200).map(|l| (ij + k) * l % 7).sum::<u64>()).sum::<u64>())
        .sum::<u64>();
    for _ in 0..5 {
        assert_eq!(sum.compute().unwrap(), expected);
    }
}

fn nested_computes_deeper_than_there_are_workers_end(_: &Subject) {
    fn down(depth: u64) -> sprang::Result<u64> {
        if depth == 0 {
            return Ok(1);
        }
        let [a, b] = [(); 2].map(|()| try_delayed(down, (depth - 1,)));
        let (a, b) = compute((&a, &b))?;
        Ok(a + b)
    }
    assert_eq!(try_delayed(down, (7_u64,)).compute().unwrap(), 128);
}

fn a_parallel_loop_in_a_task_may_compute(on: &Subject) {
    let scheduler = on.scheduler.clone();
    let task = try_delayed_local(
        move |n: u64| -> sprang::Result<u64> {
            // The threads of a parallel loop do not have the task's settings, so they get the
            // scheduler explicitly.
            (0..n).into_par_iter().map(|i| triangle(i).compute_with(&scheduler)).sum()
        },
        (20_u64,),
    );
    assert_eq!(task.compute().unwrap(), (0..20).map(|i: u64| i * i.saturating_sub(1) / 2).sum::<u64>());
}

fn a_nested_failure_is_an_error_of_the_nested_compute(_: &Subject) {
    let task = delayed(
        || {
            let bad = delayed(|| -> u64 { panic!("inner") }, ()).name("inner");
            let error = bad.compute().unwrap_err();
            (error.task().map(str::to_owned), triangle(4).compute().ok())
        },
        (),
    );
    let passed_on = try_delayed(|| delayed(|| -> u64 { panic!("inner") }, ()).compute(), ()).name("outer");
    assert_eq!(task.compute().unwrap(), (Some("inner".to_string()), Some(6)));
    let error = passed_on.compute().unwrap_err();
    assert_eq!(error.task(), Some("outer"));
    assert!(error.message().contains("inner"), "{error}");
}

fn a_nested_compute_may_use_a_handle_of_the_outer_graph(_: &Subject) {
    let calls = Tally::default();
    let counter = calls.clone();
    let shared = delayed_local(move || counter.count() as u64 + 1, ());
    let inner = shared.clone();
    let task = try_delayed_local(move |outer: &u64| inner.compute().map(|inner| outer * 10 + inner), (&shared,));
    assert_eq!(compute((&task, &shared)).unwrap(), (12, 1));
    assert_eq!(calls.get(), 2, "once for each compute");
}

fn eight_threads_compute_overlapping_graphs_at_once(on: &Subject) {
    let shared: Vec<_> = (0..50_u64).map(|i| delayed(|i: u64| i.to_string(), (i,))).collect();
    thread::scope(|scope| {
        for t in 0..8_u64 {
            let shared = &shared;
            scope.spawn(move || {
                let _scope = on.scope();
                for round in 0..20 {
                    let lens: Vec<_> = shared
                        .iter()
                        .map(|s| delayed(|s: &String, k: u64| s.len() as u64 * k, (s, t + round)))
                        .collect();
                    let owned = delayed(|all: Vec<String>| all.concat().len() as u64, (shared.clone(),));
                    assert_eq!(compute((&sum_of(&lens), &owned)).unwrap(), (90 * (t + round), 90));
                }
            });
        }
    });
}

fn twenty_short_lived_threads_compute(on: &Subject) {
    for _ in 0..3 {
        let threads: Vec<_> = (0..20)
            .map(|i| {
                let on = on.clone();
                thread::spawn(move || {
                    let _scope = on.scope();
                    triangle(i).compute().unwrap()
                })
            })
            .collect();
        for (thread, i) in threads.into_iter().zip(0_u64..) {
            assert_eq!(thread.join().unwrap(), i * i.saturating_sub(1) / 2);
        }
    }
}

fn one_plan_is_run_by_several_threads_at_once(on: &Subject) {
    let parts: Vec<_> = (0..200_u64).map(|i| delayed(|i: u64| vec![i], (i,))).collect();
    let joined = delayed(|parts: Vec<Vec<u64>>| parts.concat().iter().sum::<u64>(), (parts,));
    let plan = sprang::prepare(&joined).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _scope = on.scope();
                for _ in 0..20 {
                    assert_eq!(plan.compute().unwrap(), 19900);
                }
            });
        }
    });
}

/// The settings in a task and in the tasks of its nested compute.
fn settings_seen() -> Vec<String> {
    let here = config::get("order").unwrap();
    let nested: Vec<_> = (0..3).map(|_| delayed(|| config::get("order").unwrap(), ())).collect();
    let mut seen = compute(&nested).unwrap();
    seen.push(here);
    seen
}

fn a_scoped_setting_reaches_tasks_and_nested_computes(_: &Subject) {
    let tasks: Vec<_> = (0..30).map(|_| delayed(settings_seen, ())).collect();
    assert!(compute(&tasks).unwrap().concat().iter().all(|seen| seen == "memory"));
    {
        let _scope = config::scoped("order", "fast").unwrap();
        assert!(compute(&tasks).unwrap().concat().iter().all(|seen| seen == "fast"));
    }
    assert!(compute(&tasks).unwrap().concat().iter().all(|seen| seen == "memory"));
}

fn a_scoped_setting_is_gone_from_the_workers_afterwards(_: &Subject) {
    let tasks: Vec<_> = (0..30).map(|_| delayed(settings_seen, ())).collect();
    let bad = try_delayed(|_: Vec<Vec<String>>| Err::<(), _>("bad"), (tasks.clone(),));
    let panics = delayed(|_: Vec<Vec<String>>| -> () { panic!("bad") }, (tasks.clone(),));
    for end in [bad, panics] {
        {
            let _scope = config::scoped("order", "fast").unwrap();
            assert!(end.compute().is_err());
        }
        assert_eq!(config::get("order").unwrap(), "memory");
        assert!(compute(&tasks).unwrap().concat().iter().all(|seen| seen == "memory"));
    }
    let outside = rayon::broadcast(|_| config::get("order").unwrap());
    assert!(outside.iter().all(|seen| seen == "memory"));
}

fn threads_that_compute_at_once_see_their_own_settings(on: &Subject) {
    let seen = || config::get("num_workers").unwrap();
    let tasks: Vec<_> = (0..20).map(|_| delayed(seen, ())).collect();
    let tasks = Arc::new(tasks);
    thread::scope(|scope| {
        for n in 1..=4 {
            let tasks = Arc::clone(&tasks);
            scope.spawn(move || {
                let _scope = on.scope().and("num_workers", n).unwrap();
                for _ in 0..20 {
                    assert_eq!(compute(&*tasks).unwrap(), vec![n.to_string(); 20]);
                }
            });
        }
    });
}

fn a_scope_opened_in_a_task_ends_with_the_task(_: &Subject) {
    fn open(fails: bool) -> String {
        let before = config::get("order").unwrap();
        let _scope = config::scoped("order", "fast").unwrap();
        assert_eq!(delayed(|| config::get("order").unwrap(), ()).compute().unwrap(), "fast");
        assert!(!fails, "the scope is undone by a panic too");
        before
    }
    let tasks: Vec<_> = (0..40).map(|i| delayed(open, (i % 4 == 0,))).collect();
    let seen = sprang::compute_each(&tasks).unwrap();
    assert_eq!(seen.iter().filter(|seen| seen.is_err()).count(), 10);
    assert!(seen.into_iter().flatten().all(|before| before == "memory"));
}

fn the_scheduler_of_a_call_is_that_of_its_nested_computes(on: &Subject) {
    let seen = || {
        (config::get("scheduler").unwrap(), delayed_local(|| config::get("scheduler").unwrap(), ()).compute().unwrap())
    };
    let name = on.scheduler.to_string();
    assert_eq!(delayed(seen, ()).compute().unwrap(), (name.clone(), name.clone()));
    let sync = delayed(seen, ()).compute_with("sync").unwrap();
    assert_eq!(sync, ("sync".to_string(), "sync".to_string()));
    assert_eq!(delayed(seen, ()).compute().unwrap(), (name.clone(), name));
}
