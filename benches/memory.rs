//! How many bytes does a task take, by shape and phase?
//!
//! Unit: bytes per task, as requested from the allocator. *kept* is the memory that a phase leaves
//! allocated. *peak* is the most memory that was allocated during the phase, including the memory
//! of the phases before. *all told* is the highest peak, which the mark limits. The arrays of the
//! baseline are for comparison; they hold the graph twice (inputs and dependents) and the values.
//!
//! It does not show: the allocator's overhead for each request, pages that were requested and never
//! touched, stacks, and values that tasks allocate themselves (an `i64` needs none).
//!
//! Options: `--shape=NAME`, `--quick`.

#![expect(clippy::print_stdout, reason = "a table is the output of this bench")]
#![expect(unsafe_code, reason = "a global allocator that counts is an unsafe trait")]

mod baseline;
mod big;
mod subject;
mod table;

use baseline::{Arrays, DequePool, empty};
use big::{Shape, shapes};
use sprang::{Client, LocalCluster, WaitFor};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use subject::On;
use table::{Options, Table, judged};

/// Allocates from the system, and counts.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

fn allocated(num_bytes: usize) {
    PEAK_BYTES.fetch_max(LIVE_BYTES.fetch_add(num_bytes, Relaxed) + num_bytes, Relaxed);
}

// SAFETY: every call passes its arguments to `System`, so the contract of each method is that of
// `System`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: the caller keeps the same conditions as those of `System`'s method, and the
        // arguments are passed on unchanged.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: the caller keeps the same conditions as those of `System`'s method, and the
        // arguments are passed on unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // The old block may live until the new one is filled, so both count for a moment.
        allocated(new_size);
        LIVE_BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the same conditions as those of `System`'s method, and the
        // arguments are passed on unchanged.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the same conditions as those of `System`'s method, and the
        // arguments are passed on unchanged.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The change of the heap by one phase, in bytes above `before`.
struct Phase {
    kept: f64,
    peak: f64,
}

fn watched<T>(before: usize, phase: impl FnOnce() -> T) -> (Phase, T) {
    PEAK_BYTES.store(LIVE_BYTES.load(Relaxed), Relaxed);
    let result = phase();
    // Signed, because other threads may free memory that they held before.
    let above = |bytes: &AtomicUsize| bytes.load(Relaxed) as f64 - before as f64;
    (Phase { kept: above(&LIVE_BYTES), peak: above(&PEAK_BYTES) }, result)
}

fn main() {
    const MARK: f64 = 150.0;
    let options = Options::read(1);
    let pool = DequePool::new(2);
    let mut table = Table::new([
        "bytes per task",
        "deque kept",
        "deque peak",
        "build kept",
        "build peak",
        "plan kept",
        "plan peak",
        "run kept",
        "run peak",
        "all told",
    ]);
    for shape in shapes(options.size()).iter().filter(|shape| options.wants(shape.name)) {
        let deque = arrays(shape, &pool);
        let mut cells = vec![shape.name.to_owned()];
        let mut add = |phase: &Phase| {
            cells.extend([phase.kept, phase.peak].map(|bytes| format!("{:.0}", bytes / shape.num_tasks() as f64)));
        };
        add(&deque);
        let phases = library(shape);
        phases.iter().for_each(&mut add);
        let peak = phases.iter().map(|phase| phase.peak).fold(0.0, f64::max) / shape.num_tasks() as f64;
        cells.push(judged(peak.round(), peak < MARK));
        table.row(cells);
    }
    println!("{table}");
    println!("mark: all told less than {MARK}");
    println!("{}", futures(if options.is_quick { 1_000 } else { 100_000 }));
    println!("{}", endless(if options.is_quick { 10_000 } else { 10_000_000 }));
}

/// The peak of a program that submits tasks in a loop without waiting for them.
fn endless(num_tasks: u64) -> Table {
    const MAX_PENDING: usize = 10_000;
    // The limit for this number of futures, with room for buffers and for queues that grow by
    // doubling.
    const MARK: f64 = MAX_PENDING as f64 * 600.0 + 4e6;
    let first = format!("peak, {} tasks", num_tasks / 10);
    let all = format!("peak, {num_tasks} tasks");
    let mut table = Table::new(["bytes, 10000 pending at most", first.as_str(), all.as_str(), "left"]);
    for (name, has_processes) in [("threads", false), ("processes", true)] {
        let cluster = LocalCluster::builder().workers(2).threads_per_worker(1).processes(has_processes);
        let client = Client::owning(cluster.max_pending(MAX_PENDING).build().expect("there are workers"));
        let hand_in = |num_tasks: u64| {
            (0..num_tasks).for_each(|x| client.submit(|x: u64| x + 1, (x,)).detach());
            while client.num_pending() > 0 {
                std::thread::yield_now();
            }
        };
        hand_in(1_000);
        let before = LIVE_BYTES.load(Relaxed);
        let (first, ()) = watched(before, || hand_in(num_tasks / 10));
        let (all, ()) = watched(before, || hand_in(num_tasks));
        table.row(vec![
            name.to_owned(),
            format!("{:.0}", first.peak),
            judged(all.peak.round(), all.peak < MARK),
            format!("{:.0}", all.kept),
        ]);
    }
    table
}

/// The memory of a held future, before and after its task has run.
fn futures(num_tasks: u64) -> Table {
    const MARK: f64 = 300.0;
    let mut table = Table::new(["bytes per future", "running kept", "running peak", "finished"]);
    let client = Client::threads(2).expect("there are threads");
    fn inc(x: u64) -> u64 {
        x + 1
    }
    // Memory that is allocated once does not count for the futures.
    client.gather(&client.map(inc, 0..1000_u64)).expect("adding one does not fail");
    let before = LIVE_BYTES.load(Relaxed);
    let (submitted, futures) = watched(before, || client.map(inc, 0..num_tasks));
    let (finished, ()) = watched(before, || drop(sprang::wait(&futures, WaitFor::All)));
    let per_task = |bytes: f64| bytes / num_tasks as f64;
    let finished = per_task(finished.kept);
    table.row(vec![
        "finished or not".to_owned(),
        format!("{:.0}", per_task(submitted.kept)),
        format!("{:.0}", per_task(submitted.peak)),
        judged(finished.round(), finished < MARK),
    ]);
    table
}

/// Build and run together: the arrays are all the memory of a baseline.
fn arrays(shape: &Shape, pool: &DequePool) -> Phase {
    let before = LIVE_BYTES.load(Relaxed);
    let (phase, _) = watched(before, || {
        let arrays = Arc::new(Arrays::build(shape));
        pool.run(&arrays, empty);
        arrays
    });
    phase
}

fn library(shape: &Shape) -> [Phase; 3] {
    // Threads and other memory that is allocated once do not count for the graph.
    subject::build(&Shape::fan(2), 0).plan().run(On::Threads(2));
    let before = LIVE_BYTES.load(Relaxed);
    let (build, graph) = watched(before, || subject::build(shape, 0));
    let (plan_phase, plan) = watched(before, || graph.plan());
    let (run, _outputs) = watched(before, || plan.run(On::Threads(2)));
    [build, plan_phase, run]
}
