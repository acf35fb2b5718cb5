//! An executor as a program might have one: a fixed number of threads and queues of ready tasks.

use crossbeam_channel::{Receiver, Sender, unbounded};
use sprang::{Executor, ReadyTask, Run};
use std::sync::Arc;
use std::thread;

/// Each run has a queue of its own. The caller runs its tasks, and the threads of the pool help
/// with one queue after another. So a nested compute needs no other thread than the one that waits
/// for it.
pub(crate) struct FixedPool {
    queues: Sender<Receiver<Job>>,
    num_threads: usize,
}

/// The queue is closed when the last job is done: each job keeps it open for its successors.
struct Job {
    task: ReadyTask,
    queue: Sender<Job>,
}

fn work(queue: &Receiver<Job>) {
    for Job { task, queue } in queue {
        for task in task.run() {
            let job = Job { task, queue: queue.clone() };
            queue.send(job).expect("the caller listens until the queue is closed");
        }
    }
}

impl FixedPool {
    pub(crate) fn new(num_threads: usize) -> Self {
        let (sender, queues) = unbounded::<Receiver<Job>>();
        for _ in 0..num_threads {
            let queues = queues.clone();
            thread::spawn(move || queues.iter().for_each(|queue| work(&queue)));
        }
        FixedPool { queues: sender, num_threads }
    }
}

impl Executor for FixedPool {
    fn name(&self) -> &str {
        "fixed pool"
    }

    fn execute(&self, run: &Arc<Run>) {
        let (sender, queue) = unbounded();
        for task in run.ready() {
            sender.send(Job { task, queue: sender.clone() }).expect("the queue has a receiver");
        }
        drop(sender);
        for _ in 0..self.num_threads {
            self.queues.send(queue.clone()).expect("the threads of the pool wait for queues");
        }
        work(&queue);
        run.wait();
    }
}
