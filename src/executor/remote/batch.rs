//! Tasks that go to one worker together.

use super::schedule::Schedule;
use super::stored::StoredValue;
use crate::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// Tasks for one worker, in an order in which they can run.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) calls: Vec<BatchCall>,
    /// The inputs of the calls, one call after the other.
    pub(crate) sources: Vec<Source>,
    /// How long the batch will take, if that is known.
    pub(crate) expected_ns: Option<f64>,
    /// The timeout of the task, in a batch of one task that has a timeout.
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct BatchCall {
    /// The task.
    pub(crate) id: u32,
    /// The index of its code in the schedule.
    pub(crate) code: u32,
    /// The index of its first source in the batch.
    pub(crate) first_source: u32,
    /// The number of arguments of portable tasks that read its value.
    pub(crate) num_readers: u32,
    /// This process reads its value.
    pub(super) parent_reads: bool,
    /// The worker sends its value back; see [`Batch::choose_sent_values`].
    pub(crate) sends_value: bool,
    pub(crate) state: CallState,
}

/// How far a call of a batch has got, as far as this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    /// Its result has not arrived.
    Pending,
    /// It has run, and only other calls of the batch read its value. It is settled with the last of
    /// these.
    ValueUnsent,
    Done,
}

/// Where the value of an input is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The call of the batch with this index makes it. If that fails, the call may take the error.
    Earlier {
        index: u32,
        takes_error: bool,
    },
    Stored(Arc<StoredValue>),
    /// Nowhere: its task has failed, and the call takes the error.
    Failed(Error),
}

impl Batch {
    pub(super) fn new(schedule: &Arc<Schedule>) -> Self {
        let schedule = Arc::clone(schedule);
        Batch { schedule, calls: Vec::new(), sources: Vec::new(), expected_ns: Some(0.0), timeout: None }
    }

    pub(crate) fn sources_of(&self, index: usize) -> &[Source] {
        let start = self.calls[index].first_source as usize;
        let end = self.calls.get(index + 1).map_or(self.sources.len(), |next| next.first_source as usize);
        &self.sources[start..end]
    }

    pub(crate) fn pending_calls(&self) -> impl Iterator<Item = (usize, &BatchCall)> {
        self.calls.iter().enumerate().filter(|(_, call)| call.state == CallState::Pending)
    }

    /// Decides which values are sent back: those with a reader outside the batch.
    pub(crate) fn choose_sent_values(&mut self) {
        let mut inside = vec![0; self.calls.len()];
        for source in &self.sources {
            if let Source::Earlier { index, .. } = source {
                inside[*index as usize] += 1;
            }
        }
        for (call, inside) in self.calls.iter_mut().zip(inside) {
            call.sends_value = call.parent_reads || inside < call.num_readers;
        }
    }

    /// The calls that must run elsewhere if the worker skips the calls after `index`: the pending
    /// calls after it, and the earlier calls whose values they read and only the worker has.
    pub(crate) fn rest_after(&self, index: usize) -> Vec<usize> {
        let mut is_rest = vec![false; self.calls.len()];
        for later in (0..self.calls.len()).rev() {
            is_rest[later] |= later > index && self.calls[later].state == CallState::Pending;
            if !is_rest[later] {
                continue;
            }
            for source in self.sources_of(later) {
                if let Source::Earlier { index: earlier, .. } = source {
                    let earlier = *earlier as usize;
                    is_rest[earlier] |= self.calls[earlier].state == CallState::ValueUnsent;
                }
            }
        }
        (0..self.calls.len()).filter(|&call| is_rest[call]).collect()
    }

    /// Removes the calls from `len` on and requeues their tasks.
    pub(crate) fn truncate(&mut self, len: usize) {
        if let Some(first) = self.calls.get(len) {
            self.sources.truncate(first.first_source as usize);
            let removed = self.calls.split_off(len);
            self.schedule.requeue(removed.iter().map(|call| call.id));
        }
    }

    /// Requeues calls that were sent: the worker skips them, or other calls need their values
    /// again.
    pub(crate) fn requeue(&mut self, calls: &[usize]) {
        let mut ids = Vec::with_capacity(calls.len());
        for &index in calls {
            let call = &mut self.calls[index];
            call.state = CallState::Done;
            ids.push(call.id);
        }
        self.schedule.run().enter(|worker| ids.iter().for_each(|&id| worker.remote_retried(id, None)));
        self.schedule.requeue(ids);
    }
}
