//! Three executors written by hand over flat arrays, for comparison with the library.
//!
//! They are lower bounds, not rivals: no closure per task, no typed values, no failures, no
//! cancellation. A task is an id, its value an `i64` in an array. All three work on [`Arrays`],
//! which can be run any number of times.
//!
//! * [`Kahn`]: one thread, a stack of ready tasks, plain counters.
//! * [`rayon_by_hand`]: `scope.spawn` for every ready task but the first dependent, which runs
//!   inline.
//! * [`DequePool`]: a Chase-Lev deque of ids per worker, the first ready dependent inline, threads
//!   that park between runs.

#![allow(dead_code, reason = "each bench uses its part of the shared code")]

use crate::big::Shape;
use crossbeam_deque::{Steal, Stealer, Worker};
use crossbeam_utils::{Backoff, CachePadded};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// What a task does with `1 + the sum of its inputs`.
pub(crate) trait Body: Fn(i64) -> i64 + Copy + Send + Sync + 'static {}
impl<F: Fn(i64) -> i64 + Copy + Send + Sync + 'static> Body for F {}

/// The body of an empty task.
pub(crate) fn empty(sum: i64) -> i64 {
    sum
}

/// A graph and the state of one run of it.
///
/// `unfinished[t]` counts the inputs of `t` that have not finished. The worker that lowers it to
/// zero runs the task, and running it puts the counter back, so nothing has to be reset between two
/// runs. Values are `Relaxed`: the counters (`AcqRel`) order them, and between runs the pools do.
#[derive(Debug)]
pub(crate) struct Arrays {
    first_input: Vec<u32>,
    inputs: Vec<u32>,
    first_dependent: Vec<u32>,
    dependents: Vec<u32>,
    roots: Vec<u32>,
    unfinished: Vec<AtomicU32>,
    values: Vec<AtomicI64>,
}

impl Arrays {
    pub(crate) fn build(shape: &Shape) -> Self {
        let num_tasks = shape.num_tasks();
        let mut inputs = Vec::with_capacity(shape.num_edges());
        let mut first_input = Vec::with_capacity(num_tasks + 1);
        let mut unfinished = Vec::with_capacity(num_tasks);
        let mut roots = Vec::new();
        // The number of dependents of `t` is counted at `t + 2`; sums turn that into the first
        // dependent at `t + 1`; and filling the lists moves it on to their ends, which is where the
        // rows belong.
        let mut first_dependent = vec![0u32; num_tasks + 2];
        first_input.push(0);
        for task in 0..num_tasks as u32 {
            let first = inputs.len();
            shape.push_inputs(task, &mut inputs);
            for &input in &inputs[first..] {
                first_dependent[input as usize + 2] += 1;
            }
            if inputs.len() == first {
                roots.push(task);
            }
            first_input.push(inputs.len() as u32);
            unfinished.push(AtomicU32::new((inputs.len() - first) as u32));
        }
        debug_assert_eq!(inputs.len(), shape.num_edges());
        let mut sum = 0;
        for first in &mut first_dependent {
            sum += *first;
            *first = sum;
        }
        let mut dependents = vec![0u32; inputs.len()];
        for task in 0..num_tasks {
            for &input in &inputs[first_input[task] as usize..first_input[task + 1] as usize] {
                let next = &mut first_dependent[input as usize + 1];
                dependents[*next as usize] = task as u32;
                *next += 1;
            }
        }
        first_dependent.pop();
        let values = (0..num_tasks).map(|_| AtomicI64::new(0)).collect();
        Arrays { first_input, inputs, first_dependent, dependents, roots, unfinished, values }
    }

    pub(crate) fn num_tasks(&self) -> usize {
        self.values.len()
    }

    /// The values of the outputs of `shape` as the last run left them.
    pub(crate) fn outputs(&self, shape: &Shape) -> Vec<i64> {
        shape.outputs().iter().map(|&task| self.values[task as usize].load(Ordering::Relaxed)).collect()
    }

    /// Runs all tasks in the order of their ids, without a scheduler: the reference for the values.
    pub(crate) fn run_in_order<B: Body>(&self, body: B) {
        for task in 0..self.num_tasks() {
            self.run(task, body);
        }
    }

    #[inline(always)]
    fn run<B: Body>(&self, task: usize, body: B) {
        let inputs = &self.inputs[self.first_input[task] as usize..self.first_input[task + 1] as usize];
        self.unfinished[task].store(inputs.len() as u32, Ordering::Relaxed);
        let mut sum = 1i64;
        for &input in inputs {
            sum = sum.wrapping_add(self.values[input as usize].load(Ordering::Relaxed));
        }
        self.values[task].store(body(sum), Ordering::Relaxed);
    }

    #[inline(always)]
    fn dependents(&self, task: usize) -> &[u32] {
        &self.dependents[self.first_dependent[task] as usize..self.first_dependent[task + 1] as usize]
    }

    /// Runs `task` and then, one after the other, the first dependent that each of them made ready;
    /// hands all other ready dependents to `push`. Returns how many tasks it ran.
    #[inline(always)]
    fn run_on<B: Body>(&self, task: u32, body: B, mut push: impl FnMut(u32)) -> usize {
        let mut next = Some(task);
        let mut num_run = 0;
        while let Some(task) = next.take() {
            self.run(task as usize, body);
            num_run += 1;
            for &dependent in self.dependents(task as usize) {
                if self.unfinished[dependent as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
                    if next.is_none() {
                        next = Some(dependent);
                    } else {
                        push(dependent);
                    }
                }
            }
        }
        num_run
    }
}

/// The serial loop: a stack of ready tasks and plain counters.
#[derive(Debug, Default)]
pub(crate) struct Kahn {
    ready: Vec<u32>,
}

impl Kahn {
    pub(crate) fn run<B: Body>(&mut self, arrays: &Arrays, body: B) {
        self.ready.extend_from_slice(&arrays.roots);
        while let Some(task) = self.ready.pop() {
            arrays.run(task as usize, body);
            for &dependent in arrays.dependents(task as usize) {
                // A load and a store of an atomic are a plain decrement: there is no other thread.
                let counter = &arrays.unfinished[dependent as usize];
                let unfinished = counter.load(Ordering::Relaxed) - 1;
                counter.store(unfinished, Ordering::Relaxed);
                if unfinished == 0 {
                    self.ready.push(dependent);
                }
            }
        }
    }
}

/// A separate rayon pool, so that the number of workers is known.
pub(crate) fn rayon_pool(num_workers: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(num_workers).build().expect("the machine can start a few threads")
}

pub(crate) fn rayon_by_hand<B: Body>(pool: &rayon::ThreadPool, arrays: &Arrays, body: B) {
    fn spawn<'s, B: Body>(scope: &rayon::Scope<'s>, arrays: &'s Arrays, body: B, task: u32) {
        scope.spawn(move |scope| {
            arrays.run_on(task, body, |dependent| spawn(scope, arrays, body, dependent));
        });
    }
    pool.scope(|scope| {
        for &root in &arrays.roots {
            spawn(scope, arrays, body, root);
        }
    });
}

/// The caller and `num_workers - 1` threads that sleep between runs.
///
/// Each worker pushes its share of the roots to its own deque and takes tasks from there. A worker
/// without tasks steals. No cache line with a count is shared: an idle worker publishes how many
/// tasks it has run, and all workers stop when the sum is the number of tasks.
pub(crate) struct DequePool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

type Job = Arc<dyn Fn(usize) + Send + Sync>;

struct Shared {
    /// Locked by its worker for a whole run; never contended.
    locals: Vec<Mutex<Worker<u32>>>,
    stealers: Vec<Stealer<u32>>,
    num_run: Vec<CachePadded<AtomicUsize>>,
    gate: Mutex<Gate>,
    opened: Condvar,
    left: Condvar,
}

struct Gate {
    num_opened: u64,
    job: Option<Job>,
    num_inside: usize,
    is_closed: bool,
}

impl fmt::Debug for DequePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DequePool").field("num_workers", &(self.threads.len() + 1)).finish_non_exhaustive()
    }
}

impl DequePool {
    pub(crate) fn new(num_workers: usize) -> Self {
        let locals: Vec<Worker<u32>> = (0..num_workers).map(|_| Worker::new_lifo()).collect();
        let shared = Arc::new(Shared {
            stealers: locals.iter().map(Worker::stealer).collect(),
            locals: locals.into_iter().map(Mutex::new).collect(),
            num_run: (0..num_workers).map(|_| CachePadded::default()).collect(),
            gate: Mutex::new(Gate { num_opened: 0, job: None, num_inside: 0, is_closed: false }),
            opened: Condvar::new(),
            left: Condvar::new(),
        });
        let threads = (1..num_workers)
            .map(|me| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.wait_and_work(me))
            })
            .collect();
        DequePool { shared, threads }
    }

    pub(crate) fn run<B: Body>(&self, arrays: &Arc<Arrays>, body: B) {
        for num_run in &self.shared.num_run {
            num_run.store(0, Ordering::Relaxed);
        }
        if !self.threads.is_empty() {
            let (shared, arrays) = (Arc::clone(&self.shared), Arc::clone(arrays));
            let mut gate = self.shared.gate.lock();
            gate.job = Some(Arc::new(move |me| shared.work(me, &arrays, body)));
            gate.num_opened += 1;
            gate.num_inside = self.threads.len();
            self.shared.opened.notify_all();
        }
        self.shared.work(0, arrays, body);
        let mut gate = self.shared.gate.lock();
        while gate.num_inside > 0 {
            self.shared.left.wait(&mut gate);
        }
        gate.job = None;
    }
}

impl Shared {
    fn wait_and_work(&self, me: usize) {
        let mut num_seen = 0;
        loop {
            let job = {
                let mut gate = self.gate.lock();
                while gate.num_opened == num_seen && !gate.is_closed {
                    self.opened.wait(&mut gate);
                }
                if gate.is_closed {
                    return;
                }
                num_seen = gate.num_opened;
                Arc::clone(gate.job.as_ref().expect("an open gate has a job"))
            };
            job(me);
            drop(job);
            let mut gate = self.gate.lock();
            gate.num_inside -= 1;
            if gate.num_inside == 0 {
                self.left.notify_one();
            }
        }
    }

    fn work<B: Body>(&self, me: usize, arrays: &Arrays, body: B) {
        let local = self.locals[me].lock();
        let (num_workers, num_roots) = (self.locals.len(), arrays.roots.len());
        for &root in arrays.roots[num_roots * me / num_workers..num_roots * (me + 1) / num_workers].iter().rev() {
            local.push(root);
        }
        let backoff = Backoff::new();
        let mut num_run = 0;
        loop {
            if let Some(task) = local.pop().or_else(|| self.steal(me)) {
                num_run += arrays.run_on(task, body, |dependent| local.push(dependent));
                backoff.reset();
            } else {
                self.num_run[me].store(num_run, Ordering::Relaxed);
                if self.num_run.iter().map(|num_run| num_run.load(Ordering::Relaxed)).sum::<usize>()
                    == arrays.num_tasks()
                {
                    return;
                }
                backoff.snooze();
            }
        }
    }

    #[inline]
    fn steal(&self, me: usize) -> Option<u32> {
        (1..self.stealers.len()).find_map(|k| {
            let victim = &self.stealers[(me + k) % self.stealers.len()];
            loop {
                match victim.steal() {
                    Steal::Success(task) => return Some(task),
                    Steal::Empty => return None,
                    Steal::Retry => {}
                }
            }
        })
    }
}

impl Drop for DequePool {
    fn drop(&mut self) {
        self.shared.gate.lock().is_closed = true;
        self.shared.opened.notify_all();
        for thread in self.threads.drain(..) {
            thread.join().expect("a baseline task does not panic");
        }
    }
}
