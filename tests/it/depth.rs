//! Graphs that are deeper than any stack.

use crate::contract::ledger::{Counted, DropBehavior, Ledger};
use crate::contract::watchdog::{watched, watched_with_stack};
use crate::subjects;
use sprang::{
    Delayed, Error, ErrorKind, Scheduler, compute_each, compute_with, delayed, delayed_local, local, try_delayed,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

const DEEP: u64 = 2_000_000;
const SMALL_STACK: Option<usize> = Some(256 << 10);

fn schedulers() -> [Scheduler; 3] {
    [Scheduler::Sync, Scheduler::Threads, subjects::threads(3).scheduler]
}

#[test]
fn a_chain_of_two_million_tasks_needs_no_deep_stack() {
    watched_with_stack("a deep chain", SMALL_STACK, || {
        let mut chain = delayed(|| 0_u64, ());
        for _ in 0..DEEP {
            chain = delayed(|n: u64| n + 1, (chain,));
        }
        for scheduler in schedulers() {
            assert_eq!(chain.compute_with(scheduler).unwrap(), DEEP);
        }
        drop(chain);
    });
}

#[test]
fn a_chain_of_nested_options_needs_no_deep_stack() {
    watched_with_stack("a deep chain of options", SMALL_STACK, || {
        let mut chain = delayed(|| 0_u64, ());
        for _ in 0..DEEP / 2 {
            chain = delayed(|n: Option<Option<(u64,)>>| n.unwrap().unwrap().0 + 1, (Some(Some((chain,))),));
        }
        for scheduler in schedulers() {
            assert_eq!(chain.compute_with(scheduler).unwrap(), DEEP / 2);
        }
    });
}

#[test]
fn a_chain_of_a_million_tasks_that_take_errors_needs_no_deep_stack() {
    watched_with_stack("a deep tolerant chain", SMALL_STACK, || {
        let step = |before: Result<&u64, &Error>, i: u64| {
            let before = before.copied().unwrap_or_else(|error| error.message().parse().unwrap());
            if i.is_multiple_of(100) { Err((before + 1).to_string()) } else { Ok(before + 1) }
        };
        let mut chain = delayed(|| 0_u64, ());
        for i in 1..DEEP / 2 {
            chain = try_delayed(step, (chain.as_result(), i));
        }
        for scheduler in schedulers() {
            assert_eq!(chain.compute_with(scheduler).unwrap(), DEEP / 2 - 1);
        }
    });
}

#[test]
fn an_error_taken_far_below_its_failure_is_short() {
    watched_with_stack("a deep taken failure", SMALL_STACK, || {
        let mut chain = try_delayed(|| Err::<u64, _>("bad"), ()).name("root");
        for _ in 0..200_000 {
            chain = delayed(|n: &u64| n + 1, (&chain,));
        }
        let text = |outcome: Result<&u64, &Error>| outcome.unwrap_err().to_string();
        let text = delayed(text, (chain.as_result(),));
        for scheduler in schedulers() {
            let text = text.compute_with(scheduler).unwrap();
            assert!(text.starts_with(r#"task "root" failed: bad; "#) && text.len() < 1000, "{text}");
        }
    });
}

#[test]
fn a_ladder_of_a_million_rungs_needs_no_deep_stack() {
    watched_with_stack("a deep ladder", SMALL_STACK, || {
        let (mut a, mut b) = (delayed(|| vec![0_u64], ()), delayed(|| vec![1_u64], ()));
        for _ in 0..DEEP / 4 {
            let add = |x: &Vec<u64>, y: &Vec<u64>| vec![(x[0] + y[0]) % 1000];
            (a, b) = (delayed(add, (&a, &b)), delayed(add, (&b, &a)));
        }
        let expected = compute_with("sync", (&a, &b)).unwrap();
        for scheduler in schedulers() {
            assert_eq!(compute_with(scheduler, (&a, &b)).unwrap(), expected);
        }
    });
}

#[test]
fn a_chain_of_order_alone_needs_no_deep_stack() {
    watched_with_stack("a deep chain of order", SMALL_STACK, || {
        let mut last = delayed(|| 0_u64, ());
        for i in 0..DEEP / 10 {
            last = delayed(|i: u64| i, (i,)).after(&last);
        }
        for scheduler in schedulers() {
            assert_eq!(last.compute_with(scheduler).unwrap(), DEEP / 10 - 1);
        }
    });
}

#[test]
fn the_message_of_a_failure_far_below_its_output_is_short() {
    watched_with_stack("a deep failure", SMALL_STACK, || {
        let mut chain = try_delayed(|| Err::<u64, _>("bad"), ()).name("root");
        for _ in 0..200_000 {
            chain = delayed(|n: &u64| n + 1, (&chain,));
        }
        let chain = chain.name("top");
        for scheduler in schedulers() {
            let error = chain.compute_with(scheduler).unwrap_err();
            assert_eq!((error.kind(), error.task()), (ErrorKind::Failed, Some("root")));
            let path: Vec<_> = error.path().collect();
            assert_eq!((path.len(), path[0], path[8], path[16]), (17, "root", "(199985 more)", "top"));
        }
        assert_eq!(compute_each(&chain).unwrap().unwrap_err().task(), Some("root"));
    });
}

fn holding(value: Counted, before: &Delayed<i64>) -> Delayed<i64> {
    // A method captures the whole value. With a field, the closure would capture that field alone.
    delayed_local(move |n: &i64| n + value.get(), (before,))
}

#[test]
fn a_graph_is_freed_completely_if_a_value_in_it_panics_when_dropped() {
    watched_with_stack("a graph with a value that panics when dropped", SMALL_STACK, || {
        for panicking in [0, 1, 500, 999] {
            let ledger = Ledger::new();
            let mut chain = delayed(|| 0_i64, ());
            for i in 0..1000 {
                let behavior = if i == panicking { DropBehavior::PanicsWhenDropped } else { DropBehavior::Plain };
                chain = holding(ledger.value_with(1, behavior), &chain);
            }
            assert_eq!(chain.compute_with("sync").unwrap(), 1000);
            assert_eq!(ledger.num_live(), 1000);
            assert!(
                catch_unwind(AssertUnwindSafe(|| drop(chain))).is_err(),
                "the panic reaches the caller that drops the graph"
            );
            ledger.assert_settled();
            // This thread can still free other graphs.
            drop(holding(ledger.value(1), &delayed(|| 0, ())));
            ledger.assert_settled();
        }
    });
}

#[test]
fn handles_that_are_captured_are_freed_without_recursion() {
    watched_with_stack("a deep chain of captures", SMALL_STACK, || {
        let ledger = Ledger::new();
        let mut chain = delayed(|| 0_i64, ());
        for _ in 0..200_000 {
            let (before, value) = (chain, ledger.value(1));
            chain = delayed_local(move || before.compute().map_or(0, |n| n + value.get()), ());
        }
        drop(chain);
        ledger.assert_settled();
    });
}

#[test]
fn a_value_may_compute_while_the_graph_it_is_in_is_dropped() {
    struct Last {
        task: Delayed<i64>,
        ledger: Ledger,
    }
    impl Drop for Last {
        fn drop(&mut self) {
            let ledger = self.ledger.clone();
            let more = delayed_local(move |n: &i64| ledger.value(n + 1), (&self.task,));
            assert_eq!(more.compute().unwrap().value, 8);
        }
    }
    watched("a compute while a graph is dropped", || {
        let ledger = Ledger::new();
        let last = local(Last { task: delayed(|| 7, ()), ledger: ledger.clone() });
        let graph = holding(ledger.value(1), &delayed_local(|last: &Last| last.task.compute().unwrap(), (&last,)));
        drop(last);
        assert_eq!(graph.compute().unwrap(), 8);
        drop(graph);
        assert_eq!(ledger.num_made(), 2, "the value was dropped, and computed");
        ledger.assert_settled();
    });
}
