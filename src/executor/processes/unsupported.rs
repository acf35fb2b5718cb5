//! Stand-ins for platforms without worker processes, where [`boot::refusal`](super::boot::refusal)
//! refuses every run and no process is a worker.

use super::ends::{WorkerCounts, WorkerEnd};
use super::settings::ProcessSettings;
use crate::engine::Run;
use crate::executor::remote::requests::{RequestError, RequestHandler};
use crate::portable::codec::Codec;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct NoPool;

impl NoPool {
    pub(super) fn worker_pid(&self, _worker: u32) -> Option<u32> {
        None
    }

    pub(super) fn worker_memory(&self, _worker: u32) -> Option<u64> {
        None
    }

    pub(super) fn worker_counts(&self, _worker: u32) -> WorkerCounts {
        WorkerCounts::default()
    }

    pub(super) fn end_worker(&self, _worker: u32, _how: WorkerEnd) {}

    pub(super) fn close(&self) {}

    pub(super) fn is_without_workers(&self) -> bool {
        true
    }
}

pub(super) fn new_pool(_settings: ProcessSettings, _num_workers: NonZeroUsize, _num_spares: usize) -> Arc<NoPool> {
    Arc::new(NoPool)
}

pub(super) fn execute(
    _pool: &Arc<NoPool>,
    _run: &Arc<Run>,
    _num_workers: usize,
    _pin: Option<u32>,
    _handler: Option<Arc<dyn RequestHandler>>,
) {
}

pub(super) fn shared_memory_limit(_settings: &ProcessSettings) -> Option<u64> {
    None
}

pub(super) fn ask(_question: Vec<u8>, _deadline: Option<Instant>) -> Result<Vec<u8>, RequestError> {
    Err(RequestError::NoTask)
}

pub(super) fn note(_note: Vec<u8>) {}

pub(super) fn runs_task() -> bool {
    false
}

pub(super) fn when_task_ends(_call: Box<dyn FnOnce()>) {}

pub(super) fn codec() -> Codec {
    Codec::default()
}
