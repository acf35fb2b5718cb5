//! The messages between this process and a worker.
//!
//! # The conversation
//!
//! The parent starts a worker with a socket as its standard input and the name of a one-shot server
//! in its environment. The worker connects to the server and sends [`Hello`]. The parent checks
//! that both run the same executable. It answers with a [`Setup`] and with the channels, one
//! message for each thread. From then on each channel goes one way, from one thread to one thread:
//!
//! ```text
//! parent                                      worker
//!           <- Hello
//!   Setup::Worker ->
//!   Setup::Thread ->                          one for each thread
//!           <- ToParent::Ready                set up, initializer run; or why not
//!   ToWorker::Batch(1) ->
//!   ToWorker::Batch(2) ->                     at most two, so that the worker is never idle
//!           <- ToParent::Results(1)           one or more; the last one says so
//!           <- ToParent::Results(2)
//!           <- ToParent::Request(1)           a task asks something and waits; see below
//!   ToWorker::Response(1) ->
//!   ToWorker::Resources ->                    now and then; no answer
//!   ToWorker::Trim ->                         after a while without work
//!           <- ToParent::Trimmed
//!   ToWorker::Goodbye ->                      the worker ends
//! ```
//!
//! If a worker ends at any other point, its process handle shows it, and the parent sends
//! [`ToParent::WakeForEnd`] to itself. Batches are numbered. Results carry the number of their
//! batch and the index of their call. Results that fit no batch under way are a breach, for which
//! the parent kills the worker. So a message of a broken or dying worker is never taken for another
//! message.
//!
//! # Requests
//!
//! A task may send a [`ToParent::Request`] to the run's handler in the parent. Its thread waits for
//! the [`ToWorker::Response`] and defers other messages that arrive before. A task sends one
//! request at a time. [`ToParent::Withdraw`] asks for a response without further waiting; every
//! request gets one response. [`ToParent::Note`] gets none, and any thread of the worker may send
//! it.
//!
//! If a response takes long, the parent revokes the calls after the task: those behind it in its
//! batch, and those of the batch after that. The response says so. Until then the parent sends no
//! other batch, so both sides agree on the calls. The worker skips them, and reports the end of the
//! second batch without results.
//!
//! # Calls and results
//!
//! Calls and results are bytes inside a message; [`call`](crate::executor::remote::call) has their
//! format. Handles of the regions that they refer to travel in a [`ResourceUpdate`], the first time
//! that a process gets a region.

pub(super) use crate::executor::remote::call::{ByteString, Encoding};
use crate::portable::budget::BudgetHandle;
use crate::portable::code::CodeRef;
use crate::portable::codec::Codec;
use crate::portable::exchange::RegionRef;
use crate::portable::region::{SegmentHandle, file_size_limit};
use ipc_channel::ipc::{IpcReceiver, IpcSender, IpcSharedMemory};
use serde::{Deserialize, Serialize};

/// The first message of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: String,
    /// The device and the number of the file.
    pub(super) executable: (u64, u64),
    pub(super) setup: IpcSender<Setup>,
}

/// The data that a worker needs before its first call: once for the worker, and then once for each
/// thread.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Setup {
    Worker {
        /// The worker's number in its pool, from 0. Names use it.
        number: u32,
        /// Distinguishes the regions of this worker from those of others.
        origin: u32,
        codec: Codec,
        /// How much shared memory the worker may use.
        budget: BudgetHandle,
        initializer: Option<CodeRef>,
        /// Shows which call each thread runs; see [`Activity`](super::activity::Activity).
        activity: IpcSharedMemory,
        /// The number of a `log::LevelFilter` for the logs of tasks.
        log_level: usize,
        num_threads: usize,
    },
    Thread(IpcReceiver<ToWorker>, IpcSender<ToParent>),
}

/// From the parent to one thread of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToWorker {
    Batch(CallBatch),
    /// Code without a batch.
    Codes(Vec<Code>),
    Resources(ResourceUpdate),
    /// Work is not expected for a while. The worker frees the memory that it holds for the next
    /// tasks, and answers with [`ToParent::Trimmed`].
    Trim(ResourceUpdate),
    Response {
        number: u64,
        /// The calls after the task are revoked.
        is_rest_revoked: bool,
        /// `None` if the run has no handler.
        body: Option<Payload>,
    },
    Goodbye,
}

/// A batch of calls of one run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CallBatch {
    pub(super) batch: u32,
    pub(super) run: u64,
    /// The run's configuration, in the first batch of the run that this thread gets.
    pub(super) task_context: Option<(CodeRef, ByteString)>,
    /// Code that this thread has not got yet. Calls refer to code by its index among all code that
    /// the thread was sent.
    pub(super) codes: Vec<Code>,
    pub(super) num_calls: u32,
    pub(super) calls: Payload,
    pub(super) update: ResourceUpdate,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Code {
    Task(CodeRef),
    Value(CodeRef),
}

/// From one thread of a worker to the parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToParent {
    Ready(Result<(), String>),
    Results {
        batch: u32,
        /// These results end the batch.
        is_last: bool,
        num_results: u32,
        results: Payload,
        update: ResourceUpdate,
    },
    Resources(ResourceUpdate),
    Trimmed(ResourceUpdate),
    /// The task that is this call of this batch waits for a response.
    Request {
        number: u64,
        batch: u32,
        index: u32,
        body: Payload,
    },
    /// The task that sent the request with this number cannot wait any longer.
    Withdraw(u64),
    Note(Payload),
    /// From the parent to itself: the worker has ended.
    WakeForEnd,
    /// From the parent to itself: there is a response, or it takes long.
    WakeForAnswer,
}

/// The changes to shared memory, kept values and runs that one side reports to the other, beside
/// calls and results.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ResourceUpdate {
    /// Regions that the other side has not got yet.
    pub(super) attached: Vec<(RegionRef, SegmentHandle)>,
    /// Regions of the other side, and how many uses of each have ended here.
    pub(super) released: Vec<(u64, u32)>,
    /// Regions that will not be used again.
    pub(super) forgotten: Vec<u64>,
    /// Keys of kept values that no call will read again; from the parent only.
    pub(super) dropped: Vec<u64>,
    /// Runs that are over; from the parent only.
    pub(super) ended: Vec<u64>,
}

/// Bytes inside a message.
///
/// Large ones travel beside the message. ipc-channel sends a message that is larger than the
/// socket's buffer in pieces. If the receiver dies between two pieces, the sender would wait for
/// ever, because it holds the receiving end of the pieces itself. It would also wait while the
/// receiver is busy, and the receiver may be sending, too.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Payload {
    Inline(ByteString),
    Shared(IpcSharedMemory),
}

/// The buffer of a socket has 208 KiB on most systems.
const INLINE_MAX_BYTES: usize = 128 << 10;

impl Payload {
    pub(super) fn new(bytes: ByteString) -> Self {
        let is_too_large = |limit| bytes.0.len() as u64 > limit;
        if bytes.0.len() <= INLINE_MAX_BYTES || file_size_limit().is_some_and(is_too_large) {
            return Payload::Inline(bytes);
        }
        // ipc-channel panics if there is no more memory to share.
        std::panic::catch_unwind(|| IpcSharedMemory::from_bytes(&bytes.0))
            .map_or(Payload::Inline(bytes), Payload::Shared)
    }

    /// The bytes, as a copy if the other side could still change them.
    pub(super) fn into_bytes(self) -> ByteString {
        match self {
            Payload::Inline(bytes) => bytes,
            Payload::Shared(shared) => ByteString(shared.to_vec()),
        }
    }
}
