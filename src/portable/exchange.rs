//! One end of a connection, as far as regions go: what the peer has of ours, and what we have of the peer's.
//!
//! Both ends have one, and they are alike. Nothing here knows messages: the owner carries what one end's methods return to the other's,
//! in order.
//!
//! | here | carried to the peer | there |
//! |---|---|---|
//! | [`Exchange::send`], for each region that a message refers to | [`RegionRef`], [`Handle`] if there is one | [`Exchange::receive`] |
//! | [`Exchange::take_released`] | ids and counts | [`Exchange::on_released`] |
//! | [`Exchange::take_forgotten`] | ids | [`Exchange::on_forgotten`] |
//!
//! A region's handle, which becomes an open file and a mapping there, goes along only the first time. The receiver keeps the mapping after
//! the region's last clone has gone, so that the next region in the same segment costs neither a message with a handle nor page faults,
//! until it is told that the segment is gone.
//!
//! # What is always true
//!
//! 1. Each `send` is a use by the peer. While uses are open, the exchange holds a clone of the region, the lease, and so the region's own
//!    home does not get it back.
//! 2. Uses are counted and returned by count. So when a region is sent again while the return of its earlier uses is under way, the new use
//!    stays open.
//! 3. The receiver returns uses when the last clone of what it made of them is gone, not before. Further uses of a region that still lives
//!    are added to those that go back with it.
//! 4. A region that came from one peer and is sent to another is held by the lease of the second, and so is returned to the first only after
//!    the second has returned it.
//! 5. A region that comes back to a process that has sent it is recognised by its id and used as it lies, without a second mapping.
//! 6. Two processes may have several connections, with an exchange at each end. A region that goes along one and comes back along another
//!    is not recognised: the mapping that it comes back with is another, and the lease of the first does not know of it. So a worker, which
//!    may end before its parent is done with what it sent, sends a [copy](Exchange::is_foreign) instead.
//!
//! When the peer has died, its exchange is dropped, and with it the leases. What is still mapped here stays valid.

use super::budget::Budget;
use super::codec::CodecError;
use super::region::{Handle, Region, Segment, WeakRegion};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Weak};

/// How many handles may travel in one message. ipc-channel panics beyond 64, and takes some itself.
pub(crate) const MAX_HANDLES: usize = 60;

/// A region's name and length, as they are told to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegionRef {
    pub(crate) id: u64,
    pub(crate) len: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// Segments that the peer has mapped because of us.
    sent: HashMap<u64, Sent>,
    /// Segments that are mapped here because of the peer.
    received: HashMap<u64, Received>,
    returns: Arc<Returns>,
    /// How many segments had been dropped when those that are gone were last looked for.
    num_dropped: u64,
}

#[derive(Debug)]
struct Sent {
    segment: Weak<Segment>,
    /// Its handle has been sent.
    is_mapped: bool,
    num_uses: u32,
    /// There while there are uses.
    lease: Option<Region>,
}

#[derive(Debug)]
struct Received {
    segment: Arc<Segment>,
    /// The region that was made last.
    region: WeakRegion,
}

/// Where the regions of a peer go when their last clones go, on whatever thread that is.
#[derive(Default)]
pub(super) struct Returns(Mutex<Returned>);

#[derive(Default)]
struct Returned {
    regions: Vec<(u64, u32)>,
    /// Rung for the next.
    bell: Option<Box<dyn FnOnce() + Send>>,
}

impl Returns {
    pub(super) fn add(&self, id: u64, num_uses: u32) {
        let bell = {
            let mut returned = self.0.lock();
            returned.regions.push((id, num_uses));
            returned.bell.take()
        };
        if let Some(ring) = bell {
            ring();
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

    /// Counts a use of the region by the peer. What is returned has to reach the peer's [`Exchange::receive`].
    pub(crate) fn send(&mut self, region: &Region) -> (RegionRef, Option<Handle>) {
        let reference = RegionRef { id: region.id(), len: region.len() as u64 };
        let segment = || Arc::downgrade(region.segment());
        let new = || Sent { segment: segment(), is_mapped: false, num_uses: 0, lease: None };
        let sent = self.sent.entry(region.id()).or_insert_with(new);
        // What came from the peer through this exchange, and is used here, is leased there.
        let is_new = !sent.is_mapped && !region.came_through(&self.returns);
        sent.is_mapped |= is_new;
        sent.num_uses += 1;
        if sent.lease.is_none() {
            sent.lease = Some(region.clone());
        }
        (reference, is_new.then(|| Handle::of(region)))
    }

    /// Whether the region came along another connection. Then it stays as it is for only as long as that one, and a process that may end
    /// before the peer is to send a copy.
    pub(crate) fn is_foreign(&self, region: &Region) -> bool {
        !region.is_own() && !region.came_through(&self.returns)
    }

    /// The region that the peer has sent.
    ///
    /// # Errors
    /// The region is not known and there is no handle, or it is not as long as is said: the peer does not keep to the rules.
    pub(crate) fn receive(&mut self, reference: RegionRef, handle: Option<Handle>) -> Result<Region, CodecError> {
        let RegionRef { id, len } = reference;
        let len =
            usize::try_from(len).map_err(|_| CodecError::new(format!("region {id:#x} cannot have {len} bytes")))?;
        let returns = || Arc::clone(&self.returns);
        if let Some(known) = self.received.get_mut(&id) {
            return match known.region.upgrade() {
                Some(region) if region.len() == len => {
                    region.use_again();
                    Ok(region)
                }
                Some(region) => {
                    Err(CodecError::new(format!("region {id:#x} had {} bytes and is said to have {len}", region.len())))
                }
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
            self.received.insert(id, Received { segment, region: region.downgrade() });
            return Ok(region);
        }
        match self.sent.get(&id).and_then(|sent| sent.lease.as_ref()) {
            Some(lease) => Region::received(Arc::clone(lease.segment()), len, returns(), Some(lease.clone())),
            None => Err(CodecError::new(format!("region {id:#x} was sent without a handle, and it is not known here"))),
        }
    }

    /// The regions of the peer that are no longer used here, and how many uses of each that were, since the last call.
    pub(crate) fn take_released(&mut self) -> Vec<(u64, u32)> {
        mem::take(&mut self.returns.0.lock().regions)
    }

    /// Whether [`Exchange::take_released`] has something.
    pub(crate) fn has_released(&self) -> bool {
        !self.returns.0.lock().regions.is_empty()
    }

    /// Calls this, once, when a region of the peer's is no longer used here, on the thread that was the last to use it.
    pub(crate) fn ring_for_next(&self, bell: impl FnOnce() + Send + 'static) {
        self.returns.0.lock().bell = Some(Box::new(bell));
    }

    /// The peer no longer uses these.
    ///
    /// # Errors
    /// It returns more uses than there are. What it returned before that counts.
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

    /// Whether [`Exchange::take_forgotten`] may have something.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.num_dropped != Segment::num_dropped()
            && self.sent.values().any(|sent| sent.lease.is_none() && sent.segment.strong_count() == 0)
    }

    /// Segments that are gone, of which the peer may let go its mapping.
    pub(crate) fn take_forgotten(&mut self) -> Vec<u64> {
        let num_dropped = Segment::num_dropped();
        if self.num_dropped == num_dropped {
            return Vec::new();
        }
        self.num_dropped = num_dropped;
        let gone = self.sent.extract_if(|_, sent| sent.lease.is_none() && sent.segment.strong_count() == 0);
        gone.map(|(id, _)| id).collect()
    }

    /// The peer sends nothing in these segments any more.
    pub(crate) fn on_forgotten(&mut self, forgotten: &[u64]) {
        for id in forgotten {
            self.received.remove(id);
        }
    }

    /// The peer's process is gone: its segments that are still used here count as taken here.
    pub(crate) fn inherit(self, budget: &Budget) {
        self.received.values().for_each(|received| received.segment.inherit(budget));
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
