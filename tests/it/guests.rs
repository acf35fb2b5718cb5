//! Computes from within the threads of tokio's runtimes and rayon's pools.

use crate::contract::keeps_the_contract;
use crate::contract::watchdog::watched;
use crate::subjects;
use rayon::prelude::*;
use sprang::{Delayed, Refs, Scheduler, compute, delayed, delayed_local};
use std::sync::Arc;
use tokio::runtime::Builder;

fn graph() -> Delayed<u64> {
    let parts: Vec<_> = (0..100_u64).map(|i| delayed(|i: u64| (0..=i).sum::<u64>(), (i,))).collect();
    delayed(|parts: Refs<'_, u64>| parts.iter().sum(), (&parts,))
}

/// The value of the graph, computed by hand.
const SUM: u64 = 166_650;

fn schedulers() -> Vec<Scheduler> {
    subjects::all().into_iter().map(|subject| subject.scheduler).collect()
}

#[test]
fn a_compute_runs_inside_a_tokio_runtime_of_one_thread() {
    let runtime = Builder::new_current_thread().build().unwrap();
    watched("a compute inside tokio's current thread", || {
        for scheduler in schedulers() {
            assert_eq!(runtime.block_on(async { graph().compute_with(scheduler) }).unwrap(), SUM);
        }
    });
}

#[test]
fn computes_run_inside_a_tokio_runtime_of_two_threads() {
    let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
    watched("computes inside tokio's workers", || {
        for scheduler in schedulers() {
            let computes: Vec<_> = (0..8)
                .map(|_| {
                    let scheduler = scheduler.clone();
                    runtime.spawn(async move { graph().compute_with(scheduler).unwrap() })
                })
                .collect();
            for compute in computes {
                assert_eq!(runtime.block_on(compute).unwrap(), SUM);
            }
        }
    });
}

#[test]
fn a_task_may_block_on_a_tokio_runtime() {
    watched("tasks that block on futures", || {
        for scheduler in schedulers() {
            let runtime = Arc::new(Builder::new_multi_thread().worker_threads(1).build().unwrap());
            let tasks: Vec<_> = (0..20)
                .map(|i| {
                    let runtime = Arc::clone(&runtime);
                    delayed_local(move || runtime.block_on(runtime.spawn(async move { i })).unwrap(), ())
                })
                .collect();
            let all = delayed(|all: Refs<'_, i32>| all.iter().sum::<i32>(), (&tasks,));
            assert_eq!(all.compute_with(scheduler).unwrap(), 190);
        }
    });
}

#[test]
fn computes_run_inside_rayon_pools() {
    for num_threads in [1, 2, 4] {
        let pool = subjects::rayon_pool(num_threads);
        watched(&format!("computes inside a rayon pool of {num_threads}"), || {
            for scheduler in schedulers() {
                assert_eq!(pool.install(|| graph().compute_with(&scheduler)).unwrap(), SUM);
                let sums: Vec<u64> = pool
                    .install(|| (0..20).into_par_iter().map(|_| graph().compute_with(&scheduler).unwrap()).collect());
                assert_eq!(sums, [SUM; 20]);
                let (a, b) = pool
                    .install(|| rayon::join(|| graph().compute_with(&scheduler), || graph().compute_with(&scheduler)));
                assert_eq!((a.unwrap(), b.unwrap()), (SUM, SUM));
            }
        });
    }
}

#[test]
fn a_pool_may_be_used_from_its_own_threads() {
    for num_threads in [1, 2] {
        let pool = subjects::rayon_pool(num_threads);
        let executor = Arc::new(sprang::ThreadExecutor::with_pool(Arc::clone(&pool)));
        watched(&format!("computes from the pool they run on, of {num_threads}"), || {
            let sums: Vec<u64> = pool.install(|| {
                (0..20)
                    .into_par_iter()
                    .map(|_| {
                        let nested = delayed_local(|| graph().compute().unwrap(), ());
                        nested.compute_with(Arc::clone(&executor)).unwrap()
                    })
                    .collect()
            });
            assert_eq!(sums, [SUM; 20]);
        });
    }
}

#[test]
fn a_task_of_a_pool_of_one_thread_may_compute_in_a_parallel_loop() {
    let on = subjects::pool(1);
    watched("computes in a parallel loop in a task", || {
        let scheduler = on.scheduler.clone();
        let task = delayed_local(
            move || (0..10).into_par_iter().map(|_| graph().compute_with(&scheduler).unwrap()).sum::<u64>(),
            (),
        );
        assert_eq!(compute_in(&on.scheduler, &task), 10 * SUM);
    });
}

fn compute_in(scheduler: &Scheduler, task: &Delayed<u64>) -> u64 {
    let (value,) = sprang::compute_with(scheduler, (task,)).unwrap();
    value
}

#[test]
fn the_contract_holds_for_callers_in_a_rayon_pool_of_one_thread() {
    let pool = subjects::rayon_pool(1);
    let executor = sprang::ThreadExecutor::with_pool(Arc::clone(&pool));
    let on = crate::contract::Subject::new("a pool of one thread, from this thread", 1, executor);
    crate::contract::keeps_the_contract_inside(&on, &|check| pool.install(check));
    // It also holds for callers outside the pool.
    keeps_the_contract(&on);
    assert_eq!(compute((&graph(), &graph())).unwrap(), (SUM, SUM));
}
