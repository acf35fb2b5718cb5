//! The library, through its public API: one closure and one value per task.

use super::{Graph, Latency, On, Plan};
use crate::big::{Builder, Shape, busy};
use sprang::{Delayed, Refs, Scheduler, ThreadExecutor, delayed, prepare};
use std::sync::{Arc, LazyLock};

static ONE_WORKER: LazyLock<Scheduler> = LazyLock::new(|| threads(1));
static TWO_WORKERS: LazyLock<Scheduler> = LazyLock::new(|| threads(2));

fn threads(num_workers: usize) -> Scheduler {
    Scheduler::Custom(Arc::new(ThreadExecutor::new(num_workers)))
}

fn scheduler(on: On) -> Scheduler {
    match on {
        On::Sync => Scheduler::Sync,
        On::Threads(1) => ONE_WORKER.clone(),
        On::Threads(2) => TWO_WORKERS.clone(),
        On::Threads(num_workers) => panic!("no bench has an executor of {num_workers} workers"),
    }
}

/// The graph of `shape` with tasks that are [`busy`] for `num_iterations`.
pub(crate) fn build(shape: &Shape, num_iterations: u32) -> Box<dyn Graph> {
    let outputs = if num_iterations == 0 { shape.write(&Empty) } else { shape.write(&Busy { num_iterations }) };
    Box::new(Outputs(outputs))
}

struct Outputs(Vec<Delayed<i64>>);

impl Graph for Outputs {
    fn plan(&self) -> Box<dyn Plan + '_> {
        let plan = prepare(&self.0).expect("a bench graph can be planned");
        let num_tasks = plan.num_tasks();
        Box::new(Planned { num_tasks, run: move |on| plan.compute_with(scheduler(on)).expect("no task fails") })
    }
}

/// The type of a plan depends on the type of its outputs; the closure hides it.
struct Planned<F> {
    num_tasks: usize,
    run: F,
}

impl<F: Fn(On) -> Vec<i64>> Plan for Planned<F> {
    fn num_tasks(&self) -> usize {
        self.num_tasks
    }
    fn run(&self, on: On) -> Vec<i64> {
        (self.run)(on)
    }
}

/// Tasks that add.
struct Empty;

impl Builder for Empty {
    type Handle = Delayed<i64>;
    fn leaf(&self) -> Delayed<i64> {
        delayed(|| 1i64, ())
    }
    fn one(&self, a: &Delayed<i64>) -> Delayed<i64> {
        delayed(|a: &i64| a.wrapping_add(1), (a,))
    }
    fn two(&self, a: &Delayed<i64>, b: &Delayed<i64>) -> Delayed<i64> {
        delayed(|a: &i64, b: &i64| a.wrapping_add(*b).wrapping_add(1), (a, b))
    }
    fn three(&self, a: &Delayed<i64>, b: &Delayed<i64>, c: &Delayed<i64>) -> Delayed<i64> {
        delayed(|a: &i64, b: &i64, c: &i64| a.wrapping_add(*b).wrapping_add(*c).wrapping_add(1), (a, b, c))
    }
    fn all(&self, inputs: &Vec<Delayed<i64>>) -> Delayed<i64> {
        delayed(|inputs: Refs<i64>| inputs.iter().fold(1i64, |sum, input| sum.wrapping_add(*input)), (inputs,))
    }
}

/// Tasks that add and then work. The amount of work is an argument, since a portable closure
/// captures nothing.
struct Busy {
    num_iterations: u32,
}

impl Builder for Busy {
    type Handle = Delayed<i64>;
    fn leaf(&self) -> Delayed<i64> {
        delayed(|n: u32| busy(n, 1), (self.num_iterations,))
    }
    fn one(&self, a: &Delayed<i64>) -> Delayed<i64> {
        delayed(|n: u32, a: &i64| busy(n, a.wrapping_add(1)), (self.num_iterations, a))
    }
    fn two(&self, a: &Delayed<i64>, b: &Delayed<i64>) -> Delayed<i64> {
        delayed(|n: u32, a: &i64, b: &i64| busy(n, a.wrapping_add(*b).wrapping_add(1)), (self.num_iterations, a, b))
    }
    fn three(&self, a: &Delayed<i64>, b: &Delayed<i64>, c: &Delayed<i64>) -> Delayed<i64> {
        delayed(
            |n: u32, a: &i64, b: &i64, c: &i64| busy(n, a.wrapping_add(*b).wrapping_add(*c).wrapping_add(1)),
            (self.num_iterations, a, b, c),
        )
    }
    fn all(&self, inputs: &Vec<Delayed<i64>>) -> Delayed<i64> {
        delayed(
            |n: u32, inputs: Refs<i64>| busy(n, inputs.iter().fold(1i64, |sum, input| sum.wrapping_add(*input))),
            (self.num_iterations, inputs),
        )
    }
}

fn one_output(shape: Shape) -> Delayed<i64> {
    shape.write(&Empty).pop().expect("the shape has an output")
}

/// The cost of a small graph from call to result.
pub(crate) fn latencies() -> Vec<Latency> {
    let compute = |handle: Delayed<i64>| -> Box<dyn FnMut() -> i64> {
        Box::new(move || handle.compute_with(scheduler(On::Threads(2))).expect("no task fails"))
    };
    let in_sync = |handle: Delayed<i64>| -> Box<dyn FnMut() -> i64> {
        Box::new(move || handle.compute_with(Scheduler::Sync).expect("no task fails"))
    };
    let prepared = |handle: Delayed<i64>| -> Box<dyn FnMut() -> i64> {
        // It lives as long as the process, so that the operation can keep a plan that borrows it.
        let handle: &'static Delayed<i64> = Box::leak(Box::new(handle));
        let plan = prepare(handle).expect("a bench graph can be planned");
        Box::new(move || plan.compute_with(scheduler(On::Threads(2))).expect("no task fails"))
    };
    // The outer task builds and computes a chain.
    let nested =
        delayed(|| one_output(Shape::chain(10)).compute_with(scheduler(On::Threads(2))).expect("no task fails"), ());
    vec![
        ("chain of 10, compute on threads", compute(one_output(Shape::chain(10)))),
        ("chain of 10, compute on sync", in_sync(one_output(Shape::chain(10)))),
        ("chain of 10, prepared", prepared(one_output(Shape::chain(10)))),
        (
            "chain of 10, build and compute",
            Box::new(|| one_output(Shape::chain(10)).compute_with(scheduler(On::Threads(2))).expect("no task fails")),
        ),
        ("fan of 16, compute on threads", compute(one_output(Shape::fan(16)))),
        ("fan of 16, prepared", prepared(one_output(Shape::fan(16)))),
        ("a chain of 10 built and computed inside a task", compute(nested)),
    ]
}
