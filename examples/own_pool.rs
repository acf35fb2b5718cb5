//! Tasks on the program's own thread pool: an executor in a few lines.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use sprang::{Executor, ReadyTask, Run, compute_with, config, delayed};
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// A pool that the program already has. It can only call a closure on one of its threads.
#[derive(Clone)]
pub(crate) struct Pool {
    jobs: mpsc::Sender<Job>,
}

impl Pool {
    pub(crate) fn new(num_threads: usize) -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..num_threads {
            let inbox = Arc::clone(&inbox);
            let next = move || inbox.lock().unwrap().recv();
            thread::spawn(move || {
                while let Ok(job) = next() {
                    job()
                }
            });
        }
        Pool { jobs }
    }

    fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.send(Box::new(job)).expect("the threads of the pool live as long as the pool");
    }
}

/// The ready tasks of one run. Any free thread takes one: a thread of the pool, or the thread that
/// waits for the run.
#[derive(Default)]
struct Queue(Mutex<VecDeque<ReadyTask>>);

impl Queue {
    /// Queues the tasks, and submits to the pool one job per task that takes a task from this
    /// queue.
    fn push(self: &Arc<Self>, tasks: Vec<ReadyTask>, pool: &Pool) {
        for task in tasks {
            self.0.lock().unwrap().push_back(task);
            let (queue, next) = (Arc::clone(self), pool.clone());
            pool.spawn(move || _ = queue.run_one(&next));
        }
    }

    fn run_one(self: &Arc<Self>, pool: &Pool) -> bool {
        let task = self.0.lock().unwrap().pop_front();
        task.map(|task| self.push(task.run(), pool)).is_some()
    }
}

impl Executor for Pool {
    fn name(&self) -> &str {
        "own pool"
    }

    fn execute(&self, run: &Arc<Run>) {
        let queue = Arc::new(Queue::default());
        queue.push(run.ready(), self);
        // This thread may belong to the pool, inside a task that computes, while all others wait
        // too. So it runs the queued tasks; the tasks it waits for after that are already running.
        while queue.run_one(self) {}
        run.wait();
    }
}

fn thread_that_runs(_task: u32) -> String {
    thread::sleep(Duration::from_millis(5)); // long enough for the other threads to take a task
    format!("{:?}", thread::current().id())
}

/// Computes a graph of its own in each task, `levels` deep.
fn leaves(levels: u32) -> u64 {
    if levels == 0 {
        return 1;
    }
    let parts = [0, 1, 2].map(|_| delayed(leaves, (levels - 1,)));
    let sum = delayed(|parts: Vec<u64>| parts.iter().sum::<u64>(), (parts.to_vec(),));
    sum.compute().expect("no task fails") // on the pool too: tasks have the configuration of their run
}

fn main() -> sprang::Result<()> {
    let pool = Pool::new(2);

    let tasks: Vec<_> = (0..20_u32).map(|task| delayed(thread_that_runs, (task,))).collect();
    let threads: HashSet<String> = compute_with(pool.clone(), &tasks)?.into_iter().collect();
    println!("20 tasks ran on {} threads: the two of the pool and the one that waits", threads.len());
    assert!((1..=3).contains(&threads.len()));

    // Far more computes wait for each other than there are threads.
    let num_leaves = config::with("scheduler", Arc::new(pool), || delayed(leaves, (6_u32,)).compute())??;
    println!("3 to the power of 6, computed by nested graphs: {num_leaves}");
    assert_eq!(num_leaves, 729);
    Ok(())
}
