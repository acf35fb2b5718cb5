//! The jobs of a cluster whose inputs are settled, in the order in which workers take them.

use super::super::job::Job;
use super::super::promise::{AnyPromise, Needs};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How many jobs a thread takes at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLimit {
    max_jobs: usize,
    /// The expected time of all of them, in nanoseconds.
    max_ns: Option<f64>,
}

impl BatchLimit {
    /// For a thread that runs the jobs itself. Other threads may steal from it.
    pub(super) const THREAD: BatchLimit = BatchLimit { max_jobs: 32, max_ns: None };
    /// For a worker process. 2 ms are long against the 0.1 ms of a message, and short against human
    /// patience.
    pub(super) const PROCESS: BatchLimit = BatchLimit { max_jobs: 512, max_ns: Some(2_000_000.0) };
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct ReadyQueue {
    /// The jobs of priority 0, which most have, first in, first out.
    usual: VecDeque<Job>,
    /// The other jobs, first in, first out among those of equal priority. No queue is empty.
    by_priority: BTreeMap<Reverse<i32>, VecDeque<Job>>,
    /// Jobs with [`Needs`], which not every worker can run.
    constrained: Vec<Job>,
    len: usize,
    /// The mean duration of each function's tasks, measured where a task runs in another process or
    /// on a thread that was woken for it.
    mean_ns: BTreeMap<usize, f64>,
}

impl ReadyQueue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn has_constrained(&self) -> bool {
        !self.constrained.is_empty()
    }

    pub(super) fn push_back(&mut self, job: Job) {
        self.len += 1;
        match job.needs() {
            Some(_) => self.constrained.push(job),
            None => self.of_priority(job.priority()).push_back(job),
        }
    }

    /// Puts a job ahead of all others of its priority.
    pub(super) fn push_front(&mut self, job: Job) {
        self.len += 1;
        match job.needs() {
            Some(_) => self.constrained.insert(0, job),
            None => self.of_priority(job.priority()).push_front(job),
        }
    }

    fn of_priority(&mut self, priority: i32) -> &mut VecDeque<Job> {
        match priority {
            0 => &mut self.usual,
            _ => self.by_priority.entry(Reverse(priority)).or_default(),
        }
    }

    /// All queues but that of the constrained jobs, in the order in which they are taken.
    fn queues(&self) -> impl Iterator<Item = &VecDeque<Job>> {
        let high = self.by_priority.range(..Reverse(0)).map(|(_, jobs)| jobs);
        high.chain([&self.usual]).chain(self.by_priority.range(Reverse(0)..).map(|(_, jobs)| jobs))
    }

    /// Takes all jobs.
    pub(super) fn drain(&mut self) -> Vec<Job> {
        self.len = 0;
        let mut by_priority = std::mem::take(&mut self.by_priority);
        let low = by_priority.split_off(&Reverse(0));
        let high = by_priority.into_values().flatten();
        high.chain(self.usual.drain(..)).chain(low.into_values().flatten()).chain(self.constrained.drain(..)).collect()
    }

    /// Takes the constrained jobs that are not `is_possible`.
    pub(super) fn take_impossible(&mut self, is_possible: impl Fn(&Needs) -> bool) -> Vec<Job> {
        let is_impossible = |job: &mut Job| job.needs().is_some_and(|needs| !is_possible(needs));
        let impossible: Vec<Job> = self.constrained.extract_if(.., is_impossible).collect();
        self.len -= impossible.len();
        impossible
    }

    /// Takes jobs for one of `num_threads` threads: a constrained job that `reserve` accepts, or a
    /// share of the others.
    pub(super) fn take(
        &mut self,
        limit: BatchLimit,
        num_threads: usize,
        reserve: impl Fn(&Needs) -> bool,
    ) -> VecDeque<Job> {
        let mut batch = VecDeque::new();
        if let Some(index) = self.constrained.iter().position(|job| job.needs().is_none_or(&reserve)) {
            self.len -= 1;
            batch.push_back(self.constrained.remove(index));
            return batch;
        }
        let num_jobs = (self.len / (2 * num_threads.max(1))).clamp(1, limit.max_jobs);
        let mut expected_ns = 0.0;
        while batch.len() < num_jobs
            && let Some(job) = self.pop()
        {
            if let Some(max_ns) = limit.max_ns {
                // A task of unknown duration may take long and goes alone.
                expected_ns += self.expected_ns(&job).unwrap_or(f64::INFINITY);
                if expected_ns > max_ns && !batch.is_empty() {
                    self.push_front(job);
                    break;
                }
            }
            batch.push_back(job);
        }
        batch
    }

    fn pop(&mut self) -> Option<Job> {
        let job = match self.by_priority.first_entry() {
            Some(first) if *first.key() < Reverse(0) || self.usual.is_empty() => {
                let mut first = first;
                let job = first.get_mut().pop_front();
                if first.get().is_empty() {
                    first.remove();
                }
                job
            }
            _ => self.usual.pop_front(),
        }?;
        self.len -= 1;
        Some(job)
    }

    /// Takes the job of this promise out, if it is the last of its priority.
    pub(super) fn remove_last(&mut self, promise: &Arc<dyn AnyPromise>) {
        let priority = promise.record().priority();
        let jobs = self.of_priority(priority);
        if matches!(jobs.back(), Some(Job::One(last)) if Arc::ptr_eq(last, promise)) {
            jobs.pop_back();
            self.len -= 1;
        }
        if self.by_priority.get(&Reverse(priority)).is_some_and(VecDeque::is_empty) {
            self.by_priority.remove(&Reverse(priority));
        }
    }

    /// The mean duration of a function's tasks, if it was measured.
    pub(super) fn mean_ns(&self, function: usize) -> Option<f64> {
        self.mean_ns.get(&function).copied()
    }

    /// Learns that a task of this function has taken `ns` nanoseconds, the message to its process
    /// included.
    pub(super) fn learn(&mut self, function: usize, ns: f64) {
        let mean = self.mean_ns.entry(function).or_insert(ns);
        *mean += (ns - *mean) * 0.5;
    }

    fn expected_ns(&self, job: &Job) -> Option<f64> {
        self.mean_ns(job.function()?)
    }

    /// The time that all jobs are expected to take, with `unknown_ns` for each of unknown duration.
    pub(super) fn total_ns(&self, unknown_ns: f64) -> f64 {
        // A sample, as there may be millions.
        let jobs = self.queues().flat_map(|jobs| jobs.iter().take(100)).chain(&self.constrained);
        let times: Vec<f64> = jobs.map(|job| self.expected_ns(job).unwrap_or(unknown_ns)).collect();
        times.iter().sum::<f64>() / times.len().max(1) as f64 * self.len as f64
    }
}
