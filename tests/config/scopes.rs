//! A scope belongs to its thread, and each guard undoes its own override.

use crate::child::alone;
use crate::get;
use sprang::config;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier};
use std::thread;

#[test]
fn scopes_nest_and_are_undone_one_by_one() {
    alone(
        |_| {},
        || {
            let outer = config::scoped("order", "fast").unwrap();
            assert_eq!(get("order"), "fast");
            {
                let _inner = config::scoped("order", "memory").unwrap();
                assert_eq!(get("order"), "memory");
                assert_eq!(config::with("order", "fast", || get("order")).unwrap(), "fast");
                assert_eq!(get("order"), "memory");
            }
            assert_eq!(get("order"), "fast");
            drop(outer);
            assert_eq!(get("order"), "memory");
        },
    );
}

#[test]
fn an_inner_scope_leaves_other_settings_as_the_outer_made_them() {
    alone(
        |_| {},
        || {
            let _outer = config::scoped("order", "fast").unwrap();
            let _inner = config::scoped("errors", "collect").unwrap();
            assert_eq!((get("order"), get("errors")), ("fast".into(), "collect".into()));
        },
    );
}

/// Three guards over the same setting, dropped in each of the six orders: the newest remaining
/// guard always wins.
#[test]
fn guards_dropped_in_any_order_undo_their_own_override_each() {
    alone(
        |_| {},
        || {
            for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let mut guards: Vec<_> = (1..=3).map(|n| Some(config::scoped("num_workers", n).unwrap())).collect();
                for index in order {
                    guards[index] = None;
                    let left = guards.iter().rposition(Option::is_some);
                    assert_eq!(
                        get("num_workers"),
                        left.map_or("auto".to_owned(), |i| (i + 1).to_string()),
                        "{order:?}"
                    );
                }
            }
        },
    );
}

#[test]
fn one_guard_may_override_several_settings() {
    alone(
        |_| {},
        || {
            let first = config::scoped("order", "fast").unwrap();
            let second = config::scoped("order", "memory").unwrap().and("errors", "collect").unwrap();
            let first = first.and("num_workers", 3).unwrap();
            assert_eq!(
                (get("order"), get("errors"), get("num_workers")),
                ("memory".into(), "collect".into(), "3".into())
            );
            drop(second);
            assert_eq!((get("order"), get("errors"), get("num_workers")), ("fast".into(), "stop".into(), "3".into()));
            drop(first);
            assert_eq!(
                (get("order"), get("errors"), get("num_workers")),
                ("memory".into(), "stop".into(), "auto".into())
            );
        },
    );
}

#[test]
fn a_panic_undoes_the_scopes_it_passes() {
    alone(
        |_| {},
        || {
            let _kept = config::scoped("errors", "collect").unwrap();
            let here = config::snapshot().unwrap();
            catch_unwind(AssertUnwindSafe(|| {
                let _entered = here.enter();
                let _scope = config::scoped("order", "fast").unwrap();
                config::with("num_workers", 3, || panic!("on purpose")).unwrap()
            }))
            .unwrap_err();
            assert_eq!(
                (get("order"), get("errors"), get("num_workers")),
                ("memory".into(), "collect".into(), "auto".into())
            );
        },
    );
}

#[test]
fn two_threads_never_see_each_others_scopes() {
    alone(
        |_| {},
        || {
            let step = Arc::new(Barrier::new(2));
            let other = thread::spawn({
                let step = Arc::clone(&step);
                move || {
                    step.wait(); // the other scope is open
                    assert_eq!(get("num_workers"), "auto");
                    let _scope = config::scoped("num_workers", 2).unwrap();
                    step.wait(); // both are
                    assert_eq!(get("num_workers"), "2");
                    step.wait(); // the other is closed
                    assert_eq!(get("num_workers"), "2");
                }
            });
            let scope = config::scoped("num_workers", 1).unwrap();
            step.wait();
            step.wait();
            assert_eq!(get("num_workers"), "1");
            drop(scope);
            assert_eq!(get("num_workers"), "auto");
            step.wait();
            other.join().unwrap();
            assert_eq!(get("num_workers"), "auto");
        },
    );
}

#[test]
fn a_snapshot_carries_the_scope_to_another_thread_and_leaves_no_trace() {
    alone(
        |_| {},
        || {
            let scope = config::scoped("num_workers", 2).unwrap();
            let here = config::snapshot().unwrap();
            drop(scope);
            thread::spawn(move || {
                let _own = config::scoped("order", "fast").unwrap();
                {
                    let _entered = here.enter();
                    assert_eq!((get("num_workers"), get("order")), ("2".into(), "memory".into()));
                    let _inner = config::scoped("num_workers", 3).unwrap();
                    assert_eq!(get("num_workers"), "3");
                }
                assert_eq!((get("num_workers"), get("order")), ("auto".into(), "fast".into()));
            })
            .join()
            .unwrap();
        },
    );
}

#[test]
fn snapshots_nest_and_may_be_left_in_any_order() {
    alone(
        |_| {},
        || {
            let number = |n: usize| config::snapshot().unwrap().overriding("num_workers", n).unwrap();
            let (one, two) = (number(1), number(2));
            let first = one.enter();
            let second = two.enter();
            assert_eq!(get("num_workers"), "2");
            let again = one.enter();
            assert_eq!(get("num_workers"), "1");
            drop(second);
            assert_eq!(get("num_workers"), "1");
            drop(first);
            assert_eq!(get("num_workers"), "1");
            drop(again);
            assert_eq!(get("num_workers"), "auto");
        },
    );
}

#[test]
fn a_scope_that_outlives_the_snapshot_it_was_opened_in_does_no_harm() {
    alone(
        |_| {},
        || {
            let outside = config::scoped("errors", "collect").unwrap();
            let entered = config::snapshot().unwrap().enter();
            let inside = config::scoped("order", "fast").unwrap();
            drop(outside);
            assert_eq!((get("errors"), get("order")), ("collect".into(), "fast".into()), "the snapshot had it");
            drop(entered);
            assert_eq!((get("errors"), get("order")), ("stop".into(), "memory".into()));
            drop(inside);
            assert_eq!((get("errors"), get("order")), ("stop".into(), "memory".into()));
        },
    );
}

#[test]
fn a_snapshot_freezes_everything() {
    alone(
        |room| {
            room.file("work/sprang.toml", "num_workers = 1");
        },
        || {
            let before = config::snapshot().unwrap();
            config::set("order", "fast").unwrap();
            std::fs::write("sprang.toml", "num_workers = 2").unwrap();
            config::refresh().unwrap();
            {
                let _entered = before.enter();
                assert_eq!((get("order"), get("num_workers")), ("memory".into(), "1".into()));
                config::set("errors", "collect").unwrap();
                let _scope = config::scoped("scheduler", "sync").unwrap();
                assert_eq!((get("errors"), get("scheduler")), ("stop".into(), "sync".into()));
            }
            assert_eq!(
                (get("order"), get("num_workers"), get("errors")),
                ("fast".into(), "2".into(), "collect".into())
            );
        },
    );
}

/// A program may open nested scopes without end; its explanations do not grow.
#[test]
fn scopes_within_scopes_take_no_room_for_ever() {
    alone(
        |_| {},
        || {
            let mut here = config::snapshot().unwrap();
            for n in 1..=10_000_usize {
                let _entered = here.overriding("order", "fast").unwrap().enter();
                let _scope = config::scoped("num_workers", n).unwrap();
                here = config::snapshot().unwrap();
            }
            let _entered = here.enter();
            let explanation = config::explain("num_workers").unwrap();
            assert_eq!(explanation.value(), "10000");
            assert_eq!(explanation.instead_of().len(), 1);
        },
    );
}
