//! One end of the channel pair between a slot and a thread of a worker.
//!
//! A thin layer over ipc-channel, the same on both sides. It makes up for what ipc-channel leaves to its users: no signal interrupts it, a
//! panic inside (it asserts that system calls work) becomes an error and leaves nothing behind, and the handles of regions are spread over
//! several messages where there are too many for one.

use super::protocol::{CallWriter, Encoding, ResourceUpdate, ToParent, ToWorker};
use super::signals::with_signals_blocked;
use crate::portable::codec::CodecError;
use crate::portable::exchange::{Exchange, MAX_HANDLES, RegionRef};
use crate::portable::region::{Region, SegmentHandle};
use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use ipc_channel::{IpcError, TryRecvError};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;

/// The other side is gone, what it sent is not a message, or nothing can be sent to it.
#[derive(Debug)]
pub(super) enum ChannelError {
    Closed,
    Malformed(String),
    NotSent(String),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelError::Closed => f.write_str("the other side is gone"),
            ChannelError::Malformed(what) => write!(f, "it sent a message that cannot be read: {what}"),
            ChannelError::NotSent(what) => write!(f, "a message cannot be sent to it: {what}"),
        }
    }
}

pub(super) fn receive<T: for<'de> Deserialize<'de> + Serialize>(from: &IpcReceiver<T>) -> Result<T, ChannelError> {
    match with_signals_blocked(|| catch_unwind(AssertUnwindSafe(|| from.recv()))) {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(IpcError::Disconnected | IpcError::Io(_))) => Err(ChannelError::Closed),
        Ok(Err(error)) => Err(ChannelError::Malformed(error.to_string())),
        Err(_) => Err(ChannelError::Malformed(format!("its parts do not fit, {FILES}"))),
    }
}

/// As [`receive`], or `None` if nothing has come in this time, in whole milliseconds.
pub(super) fn receive_within<T: for<'de> Deserialize<'de> + Serialize>(
    from: &IpcReceiver<T>,
    time: Duration,
) -> Result<Option<T>, ChannelError> {
    // What is less than a millisecond would be none, and this would turn in circles.
    let time = time.max(Duration::from_millis(1));
    match with_signals_blocked(|| catch_unwind(AssertUnwindSafe(|| from.try_recv_timeout(time)))) {
        Ok(Ok(message)) => Ok(Some(message)),
        Ok(Err(TryRecvError::Empty)) => Ok(None),
        Ok(Err(TryRecvError::IpcError(IpcError::Disconnected | IpcError::Io(_)))) => Err(ChannelError::Closed),
        Ok(Err(TryRecvError::IpcError(error))) => Err(ChannelError::Malformed(error.to_string())),
        Err(_) => Err(ChannelError::Malformed(format!("its parts do not fit, {FILES}"))),
    }
}

pub(super) fn send<T: Serialize>(to: &IpcSender<T>, message: T) -> Result<(), ChannelError> {
    match with_signals_blocked(|| catch_unwind(AssertUnwindSafe(|| to.send(message)))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(IpcError::SerializationError(error))) => {
            discard();
            Err(ChannelError::NotSent(error.to_string()))
        }
        Ok(Err(_)) => Err(ChannelError::Closed),
        Err(_) => {
            discard();
            Err(ChannelError::NotSent(format!("ipc-channel panicked, {FILES}")))
        }
    }
}

/// What it may be that ipc-channel panics of.
const FILES: &str = "perhaps for lack of open files (ulimit -n)";

/// Where messages go that nobody is to receive.
static SINK: OnceLock<IpcSender<()>> = OnceLock::new();

/// To be called before anything is sent or received in this process.
///
/// # Errors
/// If there are not enough open files. It can be tried again, while ipc-channel would be of no use any more if it had found that out by itself.
pub(super) fn prepare() -> io::Result<()> {
    if SINK.get().is_none() {
        let (sink, _) = ipc::channel()?;
        // The first message of a process makes ipc-channel ask the system how long one may be, by a channel that it opens for that.
        drop(ipc::channel::<()>()?);
        let _ = sink.send(());
        let _ = SINK.set(sink);
    }
    Ok(())
}

/// Takes away what ipc-channel, when it panics, leaves behind of a message in this thread. It would be sent with the next one.
fn discard() {
    if let Some(sink) = SINK.get() {
        let _ = catch_unwind(AssertUnwindSafe(|| sink.send(())));
    }
}

/// A message that can carry update.
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

/// Sends messages and the regions they refer to.
pub(super) struct Outgoing<M> {
    to: IpcSender<M>,
    /// Regions of the message that is being written.
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

    /// Writes an encoding whose regions the next message will make known.
    pub(super) fn encoding(
        &mut self,
        writer: &mut CallWriter,
        bytes: &[u8],
        regions: &[Region],
        exchange: &mut Exchange,
    ) {
        let offered: Vec<RegionRef> = regions.iter().map(|region| self.offer(region, exchange)).collect();
        writer.encoding(bytes, offered.into_iter());
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

    /// Sends a message made of what is to be told beside it.
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

    pub(super) fn send_plain(&self, message: M) -> Result<(), ChannelError> {
        send(&self.to, message)
    }
}

/// The regions that have come with messages and that the next calls or results refer to.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    arrived: HashMap<u64, Region>,
}

impl Incoming {
    /// Takes in what came beside a message.
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
        let region = |&reference: &RegionRef| match self.arrived.get(&reference.id) {
            Some(region) => Ok(region.clone()),
            None => {
                let region = exchange.receive(reference, None)?;
                self.arrived.insert(reference.id, region.clone());
                Ok(region)
            }
        };
        encoding.regions.iter().map(region).collect()
    }

    /// The message has been dealt with.
    pub(super) fn clear(&mut self) {
        self.arrived.clear();
    }
}
