//! One end of the channel pair between a slot and a thread of a worker.
//!
//! A thin layer over ipc-channel, the same on both sides. It adds three things: no signal
//! interrupts a call, a panic inside a call becomes an error and leaves nothing behind, and region
//! handles that are too many for one message are spread over several.

use super::protocol::{Encoding, ResourceUpdate, ToParent, ToWorker};
use super::signals::with_signals_blocked;
use crate::portable::codec::CodecError;
use crate::portable::exchange::{Exchange, MAX_HANDLES, RegionRef};
use crate::portable::region::{Region, SegmentHandle};
use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use ipc_channel::{IpcError, TryRecvError};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;

/// Why a message was not received or sent.
#[derive(Debug)]
pub(super) enum ChannelError {
    /// The other side is gone.
    Closed,
    /// The bytes that arrived are no message.
    Malformed(String),
    /// The message cannot be sent.
    NotSent(String),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelError::Closed => f.write_str("the other side is gone"),
            ChannelError::Malformed(problem) => write!(f, "it sent a message that cannot be read: {problem}"),
            ChannelError::NotSent(problem) => write!(f, "a message cannot be sent to it: {problem}"),
        }
    }
}

impl std::error::Error for ChannelError {}

impl From<IpcError> for ChannelError {
    fn from(error: IpcError) -> Self {
        match error {
            IpcError::Disconnected | IpcError::Io(_) => ChannelError::Closed,
            error => ChannelError::Malformed(error.to_string()),
        }
    }
}

/// Calls ipc-channel; `None` if it panics.
///
/// ipc-channel asserts that system calls succeed, and panics if the process runs out of
/// descriptors.
fn guarded<R>(call: impl FnOnce() -> R) -> Option<R> {
    with_signals_blocked(|| catch_unwind(AssertUnwindSafe(call))).ok()
}

/// A likely reason for a panic of ipc-channel.
const FILES: &str = "perhaps for lack of open files (ulimit -n)";

fn unfit() -> ChannelError {
    ChannelError::Malformed(format!("its parts do not fit, {FILES}"))
}

pub(super) fn receive<T: for<'de> Deserialize<'de> + Serialize>(from: &IpcReceiver<T>) -> Result<T, ChannelError> {
    Ok(guarded(|| from.recv()).ok_or_else(unfit)??)
}

/// As [`receive`], but returns `None` when the timeout passes first, or a little earlier.
pub(super) fn receive_within<T: for<'de> Deserialize<'de> + Serialize>(
    from: &IpcReceiver<T>,
    timeout: Duration,
) -> Result<Option<T>, ChannelError> {
    // ipc-channel counts in whole milliseconds. It takes less than one for none, and more than 24
    // days for no limit.
    let timeout = timeout.clamp(Duration::from_millis(1), Duration::from_secs(24 * 60 * 60));
    match guarded(|| from.try_recv_timeout(timeout)).ok_or_else(unfit)? {
        Ok(message) => Ok(Some(message)),
        Err(TryRecvError::Empty) => Ok(None),
        Err(TryRecvError::IpcError(error)) => Err(error.into()),
    }
}

pub(super) fn send<T: Serialize>(to: &IpcSender<T>, message: T) -> Result<(), ChannelError> {
    let problem = match guarded(|| to.send(message)) {
        Some(Ok(())) => return Ok(()),
        Some(Err(IpcError::SerializationError(error))) => error.to_string(),
        Some(Err(_)) => return Err(ChannelError::Closed),
        None => format!("ipc-channel panicked, {FILES}"),
    };
    discard();
    Err(ChannelError::NotSent(problem))
}

/// A channel without a receiver.
static SINK: OnceLock<IpcSender<()>> = OnceLock::new();

/// Prepares this process. It must be called before anything else here.
///
/// # Errors
/// If there are too few open files. The call can be repeated. If ipc-channel met that problem by
/// itself, it would be of no use to this process any more.
pub(super) fn prepare() -> io::Result<()> {
    if SINK.get().is_none() {
        let (sink, _) = ipc::channel()?;
        // For the first message of a process, ipc-channel opens a channel, to ask the system for
        // the largest size of a message.
        drop(ipc::channel::<()>()?);
        let _ = sink.send(());
        let _ = SINK.set(sink);
    }
    Ok(())
}

/// Sends the parts of a message that a failed `send` has left in this thread to nobody. Otherwise
/// ipc-channel would send them with the next message.
fn discard() {
    if let Some(sink) = SINK.get() {
        let _ = guarded(|| sink.send(()));
    }
}

/// A message that can be a [`ResourceUpdate`] alone.
pub(super) trait Message: Serialize {
    fn of_update(update: ResourceUpdate) -> Self;
}

impl Message for ToWorker {
    fn of_update(update: ResourceUpdate) -> Self {
        ToWorker::Resources(update)
    }
}

impl Message for ToParent {
    fn of_update(update: ResourceUpdate) -> Self {
        ToParent::Resources(update)
    }
}

/// Sends messages, and the regions that they refer to.
pub(super) struct Outgoing<M> {
    to: IpcSender<M>,
    /// The regions of the message that is being written.
    offered: HashMap<u64, RegionRef>,
    attached: Vec<(RegionRef, SegmentHandle)>,
}

impl<M> fmt::Debug for Outgoing<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("offered", &self.offered).finish_non_exhaustive()
    }
}

impl<M: Message> Outgoing<M> {
    pub(super) fn new(to: IpcSender<M>) -> Self {
        Outgoing { to, offered: HashMap::new(), attached: Vec::new() }
    }

    /// An encoding for the next message, which carries its regions.
    pub(super) fn encoding<'a>(
        &mut self,
        bytes: &'a [u8],
        regions: &[Region],
        exchange: &mut Exchange,
    ) -> Encoding<'a> {
        Encoding { bytes, regions: regions.iter().map(|region| self.offer(region, exchange)).collect() }
    }

    fn offer(&mut self, region: &Region, exchange: &mut Exchange) -> RegionRef {
        if let Some(&reference) = self.offered.get(&region.id()) {
            return reference;
        }
        let (reference, handle) = exchange.send(region);
        self.offered.insert(region.id(), reference);
        self.attached.extend(handle.map(|handle| (reference, handle)));
        reference
    }

    /// Sends a message with an update, to which this adds the regions.
    pub(super) fn send(
        &mut self,
        mut update: ResourceUpdate,
        exchange: &mut Exchange,
        message: impl FnOnce(ResourceUpdate) -> M,
    ) -> Result<(), ChannelError> {
        self.offered.clear();
        while self.attached.len() > MAX_HANDLES {
            let attached = self.attached.split_off(self.attached.len() - MAX_HANDLES);
            send(&self.to, M::of_update(ResourceUpdate { attached, ..ResourceUpdate::default() }))?;
        }
        update.attached = std::mem::take(&mut self.attached);
        update.released = exchange.take_released();
        update.forgotten = exchange.take_forgotten();
        send(&self.to, message(update))
    }

    /// Sends a message without an update.
    pub(super) fn send_plain(&self, message: M) -> Result<(), ChannelError> {
        send(&self.to, message)
    }
}

/// The regions that arrived with messages, for the calls or results that refer to them next.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    arrived: HashMap<u64, Region>,
}

impl Incoming {
    /// Applies the part of an update that is about regions.
    pub(super) fn apply(&mut self, update: ResourceUpdate, exchange: &mut Exchange) -> Result<(), CodecError> {
        exchange.on_released(&update.released)?;
        exchange.on_forgotten(&update.forgotten);
        for (reference, handle) in update.attached {
            let region = exchange.receive(reference, Some(handle))?;
            self.arrived.insert(reference.id, region);
        }
        Ok(())
    }

    /// The regions of an encoding, in its order.
    pub(super) fn regions(
        &mut self,
        encoding: &Encoding<'_>,
        exchange: &mut Exchange,
    ) -> Result<Vec<Region>, CodecError> {
        let region = |&reference: &RegionRef| match self.arrived.entry(reference.id) {
            Entry::Occupied(entry) => Ok(entry.get().clone()),
            Entry::Vacant(entry) => Ok(entry.insert(exchange.receive(reference, None)?).clone()),
        };
        encoding.regions.iter().map(region).collect()
    }

    /// Drops the regions of a message that has been processed.
    pub(super) fn clear(&mut self) {
        self.arrived.clear();
    }
}
