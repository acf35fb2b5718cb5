//! Every message that crosses between this process and a worker.
//!
//! # The conversation
//!
//! The parent starts a worker with a socket as its standard input and the name of a one-shot server in its environment. The worker
//! connects to the server and says [`Hello`]; the parent checks that it is the same executable, and answers with a [`Setup`] and the
//! channels, one message for each thread. From then on each channel goes one way, from one thread to one thread:
//!
//! ```text
//! parent                                      worker
//!           <- Hello
//!   Setup::Worker ->
//!   Setup::Thread ->                          for each
//!           <- ToParent::Ready                      set up, initializer run; or why not
//!   ToWorker::Batch(1) ->
//!   ToWorker::Batch(2) ->                          at most two are under way, so that the worker is never idle
//!           <- ToParent::Results(1)                 one or more, the last one says so
//!           <- ToParent::Results(2)
//!           <- ToParent::Request(1)                     a task asks something, and waits; see below
//!   ToWorker::Response(1) ->
//!   ToWorker::Resources ->                     now and then; no answer
//!   ToWorker::Trim ->                             when there has been nothing to do for a while
//!           <- ToParent::Trimmed
//!   ToWorker::Goodbye ->                              the worker ends
//! ```
//!
//! A worker that ends at any other point is found by its process handle; [`ToParent::WakeForEnd`] is what the parent then sends to itself.
//! A batch is numbered, its results carry its number and the index of the call, and a result that fits no batch under way is a breach
//! after which the worker is killed. So nothing that a confused or half-dead worker says is taken for something else.
//!
//! # Questions
//!
//! A task may ask something ([`ToParent::Request`]) of whoever has registered for that in the parent, and its thread waits for the [`ToWorker::Response`]; what else
//! comes before it is set aside. It asks one thing at a time. [`ToParent::Withdraw`] asks for an answer without further waiting, which comes in
//! any case. [`ToParent::Note`] is a question without an answer, and may come from any thread of the worker.
//!
//! Where an answer takes long the parent takes back what was to be run after the task: the calls behind it in its batch, and the batch that is
//! under way behind that. It says so in the answer, and until then it sends no other batch; so both sides know which calls are meant. The worker
//! passes them over, and reports the end of the batch behind, without results.
//!
//! # Calls and results
//!
//! Calls and results are bytes inside a message; [`call`](crate::executor::remote::call) has their format. The handles of the
//! regions that they refer to travel in [`ResourceUpdate`], the first time that a process is shown a region.

pub(super) use crate::executor::remote::call::{
    Bytes, Call, CallInput, CallReader, CallResult, CallWriter, Encoding, KEEP_MIN_BYTES, Malformed, Ran,
};
use crate::portable::budget::BudgetHandle;
use crate::portable::code::CodeRef;
use crate::portable::codec::Codec;
use crate::portable::exchange::RegionRef;
use crate::portable::region::{SegmentHandle, file_size_limit};
use ipc_channel::ipc::{IpcReceiver, IpcSender, IpcSharedMemory};
use serde::{Deserialize, Serialize};

/// The first word of a worker, or of the parent in its place if the worker will not come.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Hello {
    Worker { version: String, executable: (u64, u64), setup: IpcSender<Setup> },
    Abandoned,
}

/// What a worker must know before its first call: first of all, and then for each of its threads.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Setup {
    Worker {
        /// Counted from 0 in its pool; for names.
        number: u32,
        /// Distinguishes the regions that this worker makes from those of others.
        origin: u32,
        codec: Codec,
        /// What it may take of shared memory.
        budget: BudgetHandle,
        initializer: Option<CodeRef>,
        /// Tells which call each thread is busy with; see [`Activity`](super::activity::Activity).
        page: IpcSharedMemory,
        /// How much tasks may log: the number of a `log::LevelFilter`.
        log_level: usize,
        num_threads: usize,
    },
    Thread(IpcReceiver<ToWorker>, IpcSender<ToParent>),
}

/// From the parent to one thread of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToWorker {
    Batch(CallBatch),
    /// Code that goes with no batch.
    Codes(Vec<Code>),
    Resources(ResourceUpdate),
    /// There will be nothing to do for a while: let go of memory that is kept for the next tasks, and answer [`ToParent::Trimmed`].
    Trim(ResourceUpdate),
    Response {
        number: u64,
        /// What was to be run after the task has been taken back.
        is_rest_revoked: bool,
        /// `None` if there is nobody to ask.
        body: Option<Payload>,
    },
    Goodbye,
}

/// A batch of calls of one run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CallBatch {
    pub(super) batch: u32,
    pub(super) run: u64,
    /// The run's configuration, the first time that this thread has to do with the run.
    pub(super) task_context: Option<(CodeRef, Bytes)>,
    /// Code that this thread has not seen yet; calls refer to code by its place in the list of all that was ever sent.
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
        /// Whether the batch is done with these.
        is_last: bool,
        num_results: u32,
        results: Payload,
        update: ResourceUpdate,
    },
    Resources(ResourceUpdate),
    Trimmed(ResourceUpdate),
    /// The task that is this call of this batch waits for an answer.
    Request {
        number: u64,
        batch: u32,
        index: u32,
        body: Payload,
    },
    /// The task that has asked this cannot wait any longer.
    Withdraw(u64),
    Note(Payload),
    /// The parent to itself: look up, the worker has ended.
    WakeForEnd,
    /// The parent to itself: there is an answer, or it has taken long.
    WakeForAnswer,
}

/// What each side tells the other about shared memory and kept values, beside the work.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ResourceUpdate {
    /// Regions that the other side has not seen yet.
    pub(super) attached: Vec<(RegionRef, SegmentHandle)>,
    /// Uses of the other side's regions that have ended here, with their number.
    pub(super) released: Vec<(u64, u32)>,
    /// Regions that will not be used again.
    pub(super) forgotten: Vec<u64>,
    /// Kept values that will not be asked for again; from the parent only.
    pub(super) dropped: Vec<u64>,
    /// Runs that are over; from the parent only.
    pub(super) ended: Vec<u64>,
}

/// The bytes of calls or results.
///
/// Many of them go beside the message: what is larger than a socket takes at once, ipc-channel sends in pieces, and if the receiver dies
/// between two of these the sender waits for ever, as it holds the receiving end of the pieces itself. It would also wait while the receiver
/// is busy, perhaps with sending something.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Payload {
    Inline(Bytes),
    Shared(IpcSharedMemory),
}

/// A socket takes 208 KiB as most systems are set up.
const BODY_INLINE_MAX: usize = 128 << 10;

impl Payload {
    pub(super) fn new(bytes: Bytes) -> Self {
        if bytes.0.len() <= BODY_INLINE_MAX {
            return Payload::Inline(bytes);
        }
        if file_size_limit().is_some_and(|limit| bytes.0.len() as u64 > limit) {
            return Payload::Inline(bytes);
        }
        // It panics where there is no more memory to share.
        std::panic::catch_unwind(|| IpcSharedMemory::from_bytes(&bytes.0))
            .map_or(Payload::Inline(bytes), Payload::Shared)
    }

    /// A copy where the other side could change it.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Payload::Inline(bytes) => bytes,
            Payload::Shared(shared) => Bytes(shared.to_vec()),
        }
    }
}
