//! The tasks of a cluster that could be run now, and in which order.

use super::super::job::Job;
use super::super::promise::{AnyPromise, Needs};
use super::Member;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// How long the tasks take that a worker process is given at once: long against the 0.1 ms that it takes to hand them over, short
/// against a person.
const LOCAL_QUEUE_NS: f64 = 2_000_000.0;
/// And how many there are at most.
const LOT_JOBS: usize = 512;
/// The same for a worker thread, whose local_queue others may take from.
const THREAD_LOT_JOBS: usize = 32;

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::client) struct Queue {
    /// First come, first served, among those of equal priority.
    by_priority: BTreeMap<Reverse<i32>, VecDeque<Job>>,
    /// Those that not every worker may take.
    constrained: Vec<Job>,
    len: usize,
    /// How long tasks of a function take, on average: in another process, or on a thread that was called for them.
    mean_ns: HashMap<usize, f64>,
}

impl Queue {
    pub(in crate::client) fn len(&self) -> usize {
        self.len
    }

    pub(in crate::client) fn has_constrained(&self) -> bool {
        !self.constrained.is_empty()
    }

    pub(in crate::client) fn push(&mut self, job: Job) {
        self.len += 1;
        if job.needs().is_some() {
            return self.constrained.push(job);
        }
        self.by_priority.entry(Reverse(job.priority())).or_default().push_back(job);
    }

    /// Puts back what was taken and not done; it is next.
    pub(in crate::client) fn push_front(&mut self, job: Job) {
        self.len += 1;
        if job.needs().is_some() {
            return self.constrained.insert(0, job);
        }
        self.by_priority.entry(Reverse(job.priority())).or_default().push_front(job);
    }

    /// All that there is.
    pub(in crate::client) fn drain(&mut self) -> Vec<Job> {
        self.len = 0;
        let jobs = std::mem::take(&mut self.by_priority).into_values().flatten();
        jobs.chain(self.constrained.drain(..)).collect()
    }

    /// Takes out the constrained ones that no worker will ever take, as `is_possible` says.
    pub(in crate::client) fn take_impossible(&mut self, is_possible: impl Fn(&Needs) -> bool) -> Vec<Job> {
        let impossible: Vec<Job> =
            self.constrained.extract_if(.., |job| job.needs().is_some_and(|needs| !is_possible(needs))).collect();
        self.len -= impossible.len();
        impossible
    }

    /// Jobs for a thread of a worker: a few of many, so that others have some too.
    pub(in crate::client) fn take_for_thread(
        &mut self,
        member: &Member,
        num_threads: usize,
        local_queue: &mut VecDeque<Job>,
    ) {
        if self.take_constrained(member, local_queue) {
            return;
        }
        let num_jobs = (self.len / (2 * num_threads.max(1))).clamp(1, THREAD_LOT_JOBS);
        while local_queue.len() < num_jobs
            && let Some(job) = self.pop()
        {
            local_queue.push_back(job);
        }
    }

    /// Jobs for a worker process: as many as are worth handing over at once.
    pub(in crate::client) fn take_for_process(
        &mut self,
        member: &Member,
        num_threads: usize,
        local_queue: &mut VecDeque<Job>,
    ) {
        if self.take_constrained(member, local_queue) {
            return;
        }
        let num_jobs = (self.len / (2 * num_threads.max(1))).clamp(1, LOT_JOBS);
        let mut expected_ns = 0.0;
        while local_queue.len() < num_jobs
            && let Some(job) = self.pop()
        {
            // One that is not known may take long, and goes alone.
            let mean_ns =
                job.function().and_then(|function| self.mean_ns.get(&function)).copied().unwrap_or(f64::INFINITY);
            expected_ns += mean_ns;
            if expected_ns > LOCAL_QUEUE_NS && !local_queue.is_empty() {
                return self.push_front(job);
            }
            local_queue.push_back(job);
        }
    }

    /// A job that only some workers may take, if this is one.
    fn take_constrained(&mut self, member: &Member, local_queue: &mut VecDeque<Job>) -> bool {
        let position = self.constrained.iter().position(|job| job.needs().is_none_or(|needs| member.can_take(needs)));
        let Some(position) = position else { return false };
        let job = self.constrained.remove(position);
        self.len -= 1;
        if let Some(needs) = job.needs() {
            member.reserve(needs);
        }
        local_queue.push_back(job);
        true
    }

    fn pop(&mut self) -> Option<Job> {
        let mut first = self.by_priority.first_entry()?;
        let job = first.get_mut().pop_front();
        // The queue of the usual priority stays, empty or not, so that it is not made anew for each task.
        if first.get().is_empty() && *first.key() != Reverse(0) {
            first.remove();
        } else if job.is_none() {
            let rest = self.by_priority.range_mut(Reverse(-1)..).find(|(_, jobs)| !jobs.is_empty());
            let job = rest.and_then(|(_, jobs)| jobs.pop_front());
            self.len -= usize::from(job.is_some());
            return job;
        }
        self.len -= usize::from(job.is_some());
        job
    }

    /// Takes out a job of one task, if it is the last of its priority.
    pub(in crate::client) fn remove_last(&mut self, promise: &Arc<dyn AnyPromise>) {
        let Some(jobs) = self.by_priority.get_mut(&Reverse(promise.record().priority())) else { return };
        if jobs.back().is_some_and(|job| matches!(job, Job::One(last) if Arc::ptr_eq(last, promise))) {
            jobs.pop_back();
            self.len -= 1;
        }
    }

    /// How long tasks of this function take, if that is known.
    pub(in crate::client) fn mean_ns(&self, function: usize) -> Option<f64> {
        self.mean_ns.get(&function).copied()
    }

    /// Tasks of this function have taken so long, handing them over included.
    pub(in crate::client) fn learn(&mut self, function: usize, ns: f64) {
        let mean = self.mean_ns.entry(function).or_insert(ns);
        *mean += (ns - *mean) * 0.5;
    }

    /// How long the tasks take that wait, as far as that is known; `unknown_ns` for each of the others.
    pub(in crate::client) fn expected_ns(&self, unknown_ns: f64) -> f64 {
        // A sample: there may be millions.
        let jobs = self.by_priority.values().flat_map(|jobs| jobs.iter().take(100)).chain(&self.constrained);
        let times: Vec<f64> =
            jobs.map(|job| job.function().and_then(|f| self.mean_ns.get(&f)).copied().unwrap_or(unknown_ns)).collect();
        let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
        mean * self.len as f64
    }
}
