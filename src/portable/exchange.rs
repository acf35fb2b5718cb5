//! One end of a connection, as far as regions go: the peer's uses of our regions, and our uses of
//! the peer's.
//!
//! Both ends of a connection have an exchange, and the two are alike. An exchange sends no
//! messages: its owner carries the results of one end's methods to the other end, in order.
//!
//! | here | carried to the peer | there |
//! |---|---|---|
//! | [`Exchange::send`] | [`RegionRef`], maybe [`SegmentHandle`] | [`Exchange::receive`] |
//! | [`Exchange::take_released`] | ids and counts | [`Exchange::on_released`] |
//! | [`Exchange::take_forgotten`] | ids | [`Exchange::on_forgotten`] |
//!
//! A segment's handle, which becomes an open file and a mapping at the peer, is sent only the first
//! time. The receiver keeps the mapping after the region's last clone was dropped, so that the next
//! region in the same segment costs neither a message with a handle nor page faults. It unmaps the
//! segment when it hears that the sender has dropped it.
//!
//! # What is always true
//!
//! 1. Each `send` is a use by the peer. While uses are open, the exchange holds a clone of the
//!    region, the lease, so the region's owner does not get the segment back.
//! 2. Uses are counted and returned by count. So when a region is sent again while the return of
//!    earlier uses is under way, the new use stays open.
//! 3. The receiver returns uses when the last clone of its region is dropped, not before. Further
//!    uses of a region that still lives are returned together with the earlier ones.
//! 4. The lease of the second peer holds a region that came from a first peer and was sent to the
//!    second. So the region returns to the first peer only after the second has returned it.
//! 5. A region that comes back to a process that has sent it is recognised by its id and used
//!    without a second mapping.
//! 6. Two processes may have several connections, with an exchange at each end. A region that is
//!    sent along one connection and comes back along another is not recognised: it gets another
//!    mapping, and the lease of the first connection does not cover it. So a worker, which may end
//!    while its parent still uses a region, sends a [copy](Exchange::is_foreign) instead.
//!
//! When the peer has died, its exchange is dropped, and the leases with it. Segments that are still
//! mapped here stay valid.

use super::budget::Budget;
use super::error::CodecError;
use super::region::{Region, Segment, SegmentHandle, WeakRegion};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Weak};

/// How many handles one message may carry. ipc-channel panics beyond 64, and uses some itself.
pub(crate) const MAX_HANDLES: usize = 60;

/// A region's id and length, for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegionRef {
    pub(crate) id: u64,
    pub(crate) len: u64,
}

/// One end of a connection; see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// Segments that the peer has mapped because of us.
    sent: HashMap<u64, SentSegment>,
    /// Segments that are mapped here because of the peer.
    received: HashMap<u64, ReceivedSegment>,
    returns: Arc<Returns>,
    /// [`Segment::num_dropped`] at the last search for dropped segments.
    num_dropped: u64,
}

#[derive(Debug)]
struct SentSegment {
    segment: Weak<Segment>,
    /// Whether the handle was sent.
    is_mapped: bool,
    num_uses: u32,
    /// `Some` while there are uses.
    lease: Option<Region>,
}

#[derive(Debug)]
struct ReceivedSegment {
    segment: Arc<Segment>,
    /// The last region that was made in the segment.
    region: WeakRegion,
}

/// The regions of a peer whose last clones were dropped, on any thread.
#[derive(Default)]
pub(super) struct Returns(Mutex<PendingReturns>);

#[derive(Default)]
struct PendingReturns {
    regions: Vec<(u64, u32)>,
    /// Called at the next return.
    callback: Option<Box<dyn FnOnce() + Send>>,
}

impl Returns {
    pub(super) fn add(&self, id: u64, num_uses: u32) {
        let callback = {
            let mut pending = self.0.lock();
            pending.regions.push((id, num_uses));
            pending.callback.take()
        };
        if let Some(callback) = callback {
            callback();
        }
    }
}

impl fmt::Debug for Returns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Returns").field(&self.0.lock().regions).finish()
    }
}

impl Exchange {
    pub(crate) fn new() -> Self {
        Exchange::default()
    }

    /// Counts a use of the region by the peer. The result has to reach the peer's
    /// [`Exchange::receive`].
    pub(crate) fn send(&mut self, region: &Region) -> (RegionRef, Option<SegmentHandle>) {
        let reference = RegionRef { id: region.id(), len: region.len() as u64 };
        let segment = || Arc::downgrade(region.segment());
        let new = || SentSegment { segment: segment(), is_mapped: false, num_uses: 0, lease: None };
        let sent = self.sent.entry(region.id()).or_insert_with(new);
        // The peer has a mapping of a region that came through this exchange, and keeps it while
        // the region is used here.
        let is_new = !sent.is_mapped && !region.came_through(&self.returns);
        sent.is_mapped |= is_new;
        sent.num_uses += 1;
        if sent.lease.is_none() {
            sent.lease = Some(region.clone());
        }
        (reference, is_new.then(|| SegmentHandle::of(region)))
    }

    /// Whether the region came along another connection. It is then valid only as long as that
    /// connection, and a process that may end before the peer has to send a copy.
    pub(crate) fn is_foreign(&self, region: &Region) -> bool {
        !region.is_own() && !region.came_through(&self.returns)
    }

    /// The region that the peer has sent.
    ///
    /// # Errors
    /// The region is unknown and came without a handle, or it is shorter than announced: the peer
    /// breaks the rules.
    pub(crate) fn receive(
        &mut self,
        reference: RegionRef,
        handle: Option<SegmentHandle>,
    ) -> Result<Region, CodecError> {
        let RegionRef { id, len } = reference;
        let len =
            usize::try_from(len).map_err(|_| CodecError::new(format!("region {id:#x} cannot have {len} bytes")))?;
        let returns = || Arc::clone(&self.returns);
        if let Some(known) = self.received.get_mut(&id) {
            return match known.region.upgrade() {
                Some(region) if region.len() == len => {
                    region.add_use();
                    Ok(region)
                }
                Some(region) => Err(CodecError::new(format!(
                    "region {id:#x} had {} bytes and is announced with {len}",
                    region.len()
                ))),
                None => {
                    let region = Region::received(Arc::clone(&known.segment), len, returns(), None)?;
                    known.region = region.downgrade();
                    Ok(region)
                }
            };
        }
        if let Some(handle) = handle {
            let segment = handle.into_segment(id)?;
            let region = Region::received(Arc::clone(&segment), len, returns(), None)?;
            self.received.insert(id, ReceivedSegment { segment, region: region.downgrade() });
            return Ok(region);
        }
        match self.sent.get(&id).and_then(|sent| sent.lease.as_ref()) {
            Some(lease) => Region::received(Arc::clone(lease.segment()), len, returns(), Some(lease.clone())),
            None => Err(CodecError::new(format!("region {id:#x} was sent without a handle and is unknown here"))),
        }
    }

    /// The regions of the peer that became unused here since the last call, and the number of uses
    /// of each.
    pub(crate) fn take_released(&mut self) -> Vec<(u64, u32)> {
        mem::take(&mut self.returns.0.lock().regions)
    }

    /// Whether [`Exchange::take_released`] has a result.
    pub(crate) fn has_released(&self) -> bool {
        !self.returns.0.lock().regions.is_empty()
    }

    /// Calls this once, when the next region of the peer becomes unused here, on the thread that
    /// used it last.
    pub(crate) fn on_next_release(&self, callback: impl FnOnce() + Send + 'static) {
        self.returns.0.lock().callback = Some(Box::new(callback));
    }

    /// The peer no longer uses these regions.
    ///
    /// # Errors
    /// The peer returns more uses than there are. The returns before that one count.
    pub(crate) fn on_released(&mut self, released: &[(u64, u32)]) -> Result<(), CodecError> {
        for &(id, num_uses) in released {
            let sent = self.sent.get_mut(&id).filter(|sent| sent.num_uses >= num_uses);
            let sent = sent
                .ok_or_else(|| CodecError::new(format!("region {id:#x} was returned more often than it was sent")))?;
            sent.num_uses -= num_uses;
            if sent.num_uses == 0 {
                sent.lease = None;
            }
        }
        Ok(())
    }

    /// Whether [`Exchange::take_forgotten`] has a result.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.num_dropped != Segment::num_dropped()
            && self.sent.values().any(|sent| sent.lease.is_none() && sent.segment.strong_count() == 0)
    }

    /// Segments that were dropped here, so that the peer may unmap them.
    pub(crate) fn take_forgotten(&mut self) -> Vec<u64> {
        let num_dropped = Segment::num_dropped();
        if self.num_dropped == num_dropped {
            return Vec::new();
        }
        self.num_dropped = num_dropped;
        let gone = self.sent.extract_if(|_, sent| sent.lease.is_none() && sent.segment.strong_count() == 0);
        gone.map(|(id, _)| id).collect()
    }

    /// The peer will send no more regions in these segments.
    pub(crate) fn on_forgotten(&mut self, forgotten: &[u64]) {
        for id in forgotten {
            self.received.remove(id);
        }
    }

    /// Charges the peer's segments that are still used here to this budget, since the peer's
    /// process is gone.
    pub(crate) fn charge_received_to(self, budget: &Budget) {
        self.received.values().for_each(|received| received.segment.charge_to(budget));
    }

    #[cfg(test)]
    /// How many regions the peer uses.
    pub(crate) fn num_leases(&self) -> usize {
        self.sent.values().filter(|sent| sent.lease.is_some()).count()
    }

    #[cfg(test)]
    /// How many segments of the peer are mapped here.
    pub(crate) fn num_mapped(&self) -> usize {
        self.received.len()
    }
}

#[cfg(test)]
mod tests;
