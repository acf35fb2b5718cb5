//! The channel of a worker's thread, and the requests that a running task sends on it.
//!
//! # What is always true
//!
//! 1. Only its own thread uses a [`WorkerChannel`], apart from its sender, which threads may share.
//! 2. The outbox is borrowed while the thread writes and sends, never while user code runs.
//! 3. A request is withdrawn at most once, and not after [`ask`] has its response.

use super::super::link::{ChannelError, Outgoing, receive, receive_within, send};
use super::super::protocol::{Payload, ResourceUpdate, ToParent, ToWorker};
use super::super::token::EXIT_BROKEN;
use super::has_forked;
use crate::engine::{CancelToken, in_run};
use crate::executor::remote::call::{ByteString, CallWriter};
use crate::executor::remote::requests::RequestError;
use crate::portable::codec::Codec;
use crate::portable::exchange::Exchange;
use ipc_channel::ipc::{IpcReceiver, IpcSender};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

thread_local! {
    static CHANNEL: RefCell<Option<Rc<WorkerChannel>>> = const { RefCell::new(None) };
}

/// The sender for threads that the worker did not start: the one of its first thread.
static FALLBACK: OnceLock<Mutex<IpcSender<ToParent>>> = OnceLock::new();

/// A thread's channel to its slot in the parent, for the thread itself and for the task that it
/// runs.
pub(super) struct WorkerChannel {
    codec: Codec,
    pub(super) to: IpcSender<ToParent>,
    pub(super) from: IpcReceiver<ToWorker>,
    /// Messages that arrived while a task waited for a response, and whether they are revoked.
    pub(super) deferred: RefCell<VecDeque<(ToWorker, bool)>>,
    pub(super) outbox: RefCell<Outbox>,
    /// Functions to call when the task that runs has ended.
    pub(super) at_end: RefCell<Vec<Box<dyn FnOnce()>>>,
}

/// Data to send, and the call that writes it.
pub(super) struct Outbox {
    pub(super) outgoing: Outgoing<ToParent>,
    pub(super) exchange: Exchange,
    pub(super) results: PendingResults,
    /// The index of the call that runs.
    pub(super) call: u32,
    /// The length of the written results when that call began. The bytes after it are the call's
    /// own result, which counts once the call has ended.
    pub(super) mark: usize,
    /// The parent has revoked the calls after the one that runs.
    pub(super) is_rest_revoked: bool,
}

/// Results of a batch that have not been sent yet.
pub(super) struct PendingResults {
    pub(super) batch: u32,
    pub(super) writer: CallWriter,
    pub(super) num_results: u32,
    pub(super) last_sent: Instant,
}

impl PendingResults {
    pub(super) fn new(batch: u32) -> Self {
        PendingResults { batch, writer: CallWriter::default(), num_results: 0, last_sent: Instant::now() }
    }
}

impl Outbox {
    /// Sends the pending results.
    pub(super) fn send_results(&mut self, is_last: bool) -> Result<(), ChannelError> {
        let next = PendingResults::new(self.results.batch);
        let PendingResults { batch, writer, num_results, .. } = std::mem::replace(&mut self.results, next);
        self.mark = 0;
        let results = Payload::new(writer.finish());
        self.send_update(|update| ToParent::Results { batch, is_last, num_results, results, update })
    }

    /// Sends a message with what there is to say about regions.
    pub(super) fn send_update(&mut self, message: impl FnOnce(ResourceUpdate) -> ToParent) -> Result<(), ChannelError> {
        self.outgoing.send(ResourceUpdate::default(), &mut self.exchange, message)
    }
}

impl WorkerChannel {
    /// Makes the channel of this thread.
    pub(super) fn open(codec: Codec, from: IpcReceiver<ToWorker>, to: IpcSender<ToParent>) -> Rc<Self> {
        let outbox = Outbox {
            outgoing: Outgoing::new(IpcSender::clone(&to)),
            exchange: Exchange::new(),
            results: PendingResults::new(0),
            call: 0,
            mark: 0,
            is_rest_revoked: false,
        };
        let channel = Rc::new(WorkerChannel {
            codec,
            to,
            from,
            deferred: RefCell::default(),
            outbox: RefCell::new(outbox),
            at_end: RefCell::default(),
        });
        CHANNEL.set(Some(Rc::clone(&channel)));
        channel
    }

    fn ask(&self, number: u64, request: Vec<u8>, deadline: Option<Instant>) -> Result<Option<Vec<u8>>, ChannelError> {
        let (batch, index) = {
            let mut outbox = self.outbox.borrow_mut();
            // The tasks that this one waits for may need the pending results. They are whole unless
            // the call has begun to write its own: its value may be asking while it is dropped.
            if outbox.results.num_results > 0 && outbox.results.writer.len() == outbox.mark {
                outbox.send_results(false)?;
            }
            (outbox.results.batch, outbox.call)
        };
        send(&self.to, ToParent::Request { number, batch, index, body: Payload::new(ByteString(request)) })?;
        // Holds the sender until the request is withdrawn or has its response (rule 3).
        let withdrawal = Arc::new(Mutex::new(Some(IpcSender::clone(&self.to))));
        let withdraw = {
            let withdrawal = Arc::clone(&withdrawal);
            move || {
                let mut sender = withdrawal.lock();
                sender.take().map_or(Ok(()), |sender| send(&sender, ToParent::Withdraw(number)))
            }
        };
        // If the listener cannot send, the receiver below finds out, too.
        let on_cancel = withdraw.clone();
        let _listener = CancelToken::in_force().map(|token| token.on_cancel(move || drop(on_cancel())));
        let response = loop {
            let message = match deadline.filter(|_| withdrawal.lock().is_some()) {
                None => receive(&self.from)?,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        withdraw()?;
                        continue;
                    }
                    match receive_within(&self.from, left)? {
                        Some(message) => message,
                        None => continue,
                    }
                }
            };
            match message {
                ToWorker::Response { number: other, is_rest_revoked, body } if other == number => {
                    if is_rest_revoked {
                        self.outbox.borrow_mut().is_rest_revoked = true;
                        self.deferred.borrow_mut().iter_mut().for_each(|(_, is_revoked)| *is_revoked = true);
                    }
                    break body.map(|body| body.into_bytes().0);
                }
                ToWorker::Response { .. } => {
                    return Err(ChannelError::Malformed("a response to another request".into()));
                }
                other => self.deferred.borrow_mut().push_back((other, false)),
            }
        };
        withdrawal.lock().take();
        Ok(response)
    }
}

/// The channel of this thread, if it is one of the worker's.
fn channel() -> Option<Rc<WorkerChannel>> {
    // In a copy of the process that a task has forked, the channels are the original's.
    if has_forked() {
        return None;
    }
    CHANNEL.try_with(|channel| channel.try_borrow().ok()?.clone()).ok().flatten()
}

/// Lets threads that the worker did not start send with this sender.
pub(super) fn set_fallback(sender: IpcSender<ToParent>) {
    let _ = FALLBACK.set(Mutex::new(sender));
}

pub(crate) fn codec() -> Codec {
    channel().map_or(Codec::default(), |channel| channel.codec)
}

/// See [`requests::ask`](super::super::requests::ask).
pub(crate) fn ask(request: Vec<u8>, deadline: Option<Instant>) -> Result<Vec<u8>, RequestError> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let channel = channel().filter(|_| in_run()).ok_or(RequestError::NoTask)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // After an error on the channel the process cannot go on, as in `WorkerThread::serve`.
    let response = channel.ask(number, request, deadline).unwrap_or_else(|_| std::process::exit(EXIT_BROKEN));
    response.ok_or(RequestError::NoHandler)
}

/// See [`requests::runs_task`](super::super::requests::runs_task).
pub(crate) fn runs_task() -> bool {
    in_run() && channel().is_some()
}

/// See [`requests::when_task_ends`](super::super::requests::when_task_ends).
pub(crate) fn when_task_ends(call: Box<dyn FnOnce()>) {
    if let Some(channel) = channel() {
        channel.at_end.borrow_mut().push(call);
    }
}

/// See [`requests::note`](super::super::requests::note).
pub(crate) fn note(note: Vec<u8>) {
    let note = ToParent::Note(Payload::new(ByteString(note)));
    // If it cannot be sent, the parent is gone or finds this process gone.
    let _ = match (channel(), FALLBACK.get()) {
        (Some(channel), _) => send(&channel.to, note),
        (None, Some(sender)) if !has_forked() => send(&sender.lock(), note),
        _ => Ok(()),
    };
}
