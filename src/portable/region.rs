//! Shared memory, counted and reused.
//!
//! A [`Memory`] allocates [`RegionMut`]s to be filled. Frozen, one becomes a [`Region`]: immutable
//! bytes, cheap to clone, with an id that no other process gives out. Under a region lies a
//! [`Segment`], the mapping itself, which outlives the region. When the last clone of the region is
//! dropped, the segment returns to its owner, to be reused while its pages are warm (most of the
//! cost of fresh shared memory is page faults). The owner of a segment that was created here is the
//! memory; the owner of a received one is the connection's [`Exchange`](super::exchange::Exchange).
//!
//! # What is always true
//!
//! 1. A segment that was created here is in one of three places: the free list of its memory, one
//!    `RegionMut`, or one frozen region with its clones. Only a `RegionMut` writes, and there is
//!    one at a time.
//! 2. A received segment is never written: its mapping becomes read-only as soon as it arrives.
//! 3. The exchange of each peer that uses a frozen region holds a clone of it until the peer has
//!    reported that it no longer uses the region. With rule 1, a segment is written again only when
//!    no process reads it.
//! 4. A segment's mapping is at least as long as its regions, starts at a page, and stays until the
//!    segment is dropped. The segment outlives its last region.
//! 5. The bytes of a mapping are initialized: fresh shared memory is zero.
//!
//! Rule 3 holds among processes that run this code. Another process, or one in which a bug writes
//! to wrong addresses, can change the bytes of a region that it created, as it can change
//! everything else in the values that it sends.

#![expect(unsafe_code, reason = "memory that is written once and then shared")]

use super::budget::Budget;
use super::error::CodecError;
use super::exchange::Returns;
use crate::sorted::SortedMap;
use mapping::Mapping;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

#[cfg_attr(not(all(target_os = "linux", not(miri))), path = "region/local_mapping.rs")]
mod mapping;

#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) use mapping::file_size_limit;

/// The page size of every supported system is this or a multiple of it.
const PAGE: usize = 4096;

/// How many segments this process has dropped. An exchange searches for dropped segments only if
/// this has changed.
static NUM_DROPPED: AtomicU64 = AtomicU64::new(0);

/// A mapping with an id.
#[derive(Debug)]
pub(super) struct Segment {
    id: u64,
    start: NonNull<u8>,
    capacity: usize,
    /// Used only for its destructor and its serialization.
    mapping: Mapping,
    /// The budget that the segment is charged to since the process that made it is gone.
    charged_to: OnceLock<Budget>,
}

// SAFETY: only a `RegionMut` writes the bytes, and it is exclusive (rule 1); the bytes are read
// only while no `RegionMut` of the segment exists (rules 1 and 3). A mapping is bound to no thread.
unsafe impl Send for Segment {}
// SAFETY: as for `Send`; a shared segment gives access to the bytes only through the regions above
// it.
unsafe impl Sync for Segment {}

impl Segment {
    fn new(id: u64, mut mapping: Mapping) -> Result<Self, CodecError> {
        let (start, capacity) = mapping.bytes();
        let start = NonNull::new(start).ok_or_else(|| CodecError::new("a region has no memory"))?;
        Ok(Segment { id, start, capacity, mapping, charged_to: OnceLock::new() })
    }

    /// Charges the segment to a budget of this process, since the process that made it is gone.
    pub(super) fn charge_to(&self, budget: &Budget) {
        if self.charged_to.set(budget.clone()).is_ok() {
            budget.charge(self.capacity as u64);
        }
    }

    /// How many segments have been dropped until now.
    pub(super) fn num_dropped() -> u64 {
        // Pairs with the `Release` in `drop`: the weak references to a counted segment cannot be
        // upgraded.
        NUM_DROPPED.load(Ordering::Acquire)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        NUM_DROPPED.fetch_add(1, Ordering::Release);
        if let Some(budget) = self.charged_to.get() {
            budget.release(self.capacity as u64);
        }
    }
}

/// A segment on its way to a process that has no mapping of it yet.
///
/// Serialized within a message of ipc-channel, it becomes an open file of the receiver.
#[derive(Debug)]
pub(crate) struct SegmentHandle(HandleState);

#[derive(Debug)]
enum HandleState {
    /// The segment lies in this process.
    Local(Arc<Segment>),
    /// The mapping came with a message.
    Received(Mapping),
}

impl SegmentHandle {
    pub(super) fn of(region: &Region) -> SegmentHandle {
        SegmentHandle(HandleState::Local(Arc::clone(region.segment())))
    }

    /// The segment with this id. If it came with a message, it is read-only.
    pub(super) fn into_segment(self, id: u64) -> Result<Arc<Segment>, CodecError> {
        match self.0 {
            // The handle went through no message: both ends of the connection are in this process.
            HandleState::Local(segment) => Ok(segment),
            HandleState::Received(mut mapping) => {
                let protected = mapping.make_read_only();
                protected.map_err(|error| CodecError::new(format!("cannot protect a region: {error}")))?;
                Segment::new(id, mapping).map(Arc::new)
            }
        }
    }
}

impl Serialize for SegmentHandle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            HandleState::Local(segment) => segment.mapping.serialize(serializer),
            HandleState::Received(mapping) => mapping.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SegmentHandle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Mapping::deserialize(deserializer).map(|mapping| SegmentHandle(HandleState::Received(mapping)))
    }
}

/// Immutable bytes in shared memory.
#[derive(Clone)]
pub(crate) struct Region(Arc<RegionInner>);

/// A reference to a region that does not keep it alive.
#[derive(Clone, Debug)]
pub(super) struct WeakRegion(Weak<RegionInner>);

struct RegionInner {
    segment: Arc<Segment>,
    len: usize,
    owner: Owner,
}

/// Gets a region's segment back when the region's last clone is dropped.
enum Owner {
    Memory(Arc<MemoryInner>),
    Exchange {
        returns: Arc<Returns>,
        /// How often the peer has sent this region.
        num_uses: AtomicU32,
        /// The region of this process that the peer has sent back.
        original: Option<Region>,
    },
}

impl Drop for RegionInner {
    fn drop(&mut self) {
        match &self.owner {
            Owner::Memory(memory) => memory.recycle(Arc::clone(&self.segment)),
            Owner::Exchange { returns, num_uses, .. } => {
                // Relaxed: this was the last clone, and `Arc` orders the drops of the others before
                // it.
                returns.add(self.segment.id, num_uses.load(Ordering::Relaxed));
            }
        }
    }
}

impl Region {
    /// A region that a peer has sent for the first time, or again after this process returned it.
    pub(super) fn received(
        segment: Arc<Segment>,
        len: usize,
        returns: Arc<Returns>,
        original: Option<Region>,
    ) -> Result<Region, CodecError> {
        if len > segment.capacity {
            return Err(CodecError::new(format!(
                "region {} is announced with {len} bytes and has {}",
                segment.id, segment.capacity
            )));
        }
        let owner = Owner::Exchange { returns, num_uses: AtomicU32::new(1), original };
        Ok(Region(Arc::new(RegionInner { segment, len, owner })))
    }

    /// Counts that the peer has sent the region once more.
    pub(super) fn add_use(&self) {
        if let Owner::Exchange { num_uses, .. } = &self.0.owner {
            num_uses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The id of the segment. No two segments that exist at the same time, in all processes that
    /// exchange regions, have the same.
    pub(crate) fn id(&self) -> u64 {
        self.0.segment.id
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.0.segment
    }

    /// Whether the region came through the exchange with these returns, even if it was sent
    /// elsewhere and came back since.
    pub(super) fn came_through(&self, own: &Arc<Returns>) -> bool {
        match &self.0.owner {
            Owner::Memory(_) => false,
            Owner::Exchange { returns, original, .. } => {
                Arc::ptr_eq(returns, own) || original.as_ref().is_some_and(|original| original.came_through(own))
            }
        }
    }

    /// Whether the region was made in this process.
    pub(super) fn is_own(&self) -> bool {
        match &self.0.owner {
            Owner::Memory(_) => true,
            Owner::Exchange { original, .. } => original.as_ref().is_some_and(Region::is_own),
        }
    }

    pub(super) fn downgrade(&self) -> WeakRegion {
        WeakRegion(Arc::downgrade(&self.0))
    }
}

impl WeakRegion {
    pub(super) fn upgrade(&self) -> Option<Region> {
        self.0.upgrade().map(Region)
    }
}

impl Deref for Region {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let RegionInner { segment, len, .. } = &*self.0;
        // SAFETY: `len` is at most the capacity, and the mapping stays as long as the segment,
        // which `self` holds (rule 4). The bytes are initialized (rule 5). No `RegionMut` of the
        // segment exists while a region of it does (rules 1 to 3).
        unsafe { slice::from_raw_parts(segment.start.as_ptr(), *len) }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({:#x}, {} bytes)", self.id(), self.0.len)
    }
}

/// Bytes in shared memory with one owner. Their first contents are arbitrary.
#[derive(Debug)]
pub(crate) struct RegionMut {
    /// `None` after the region was frozen.
    segment: Option<Arc<Segment>>,
    len: usize,
    memory: Arc<MemoryInner>,
}

impl RegionMut {
    /// Makes the bytes immutable and shareable.
    pub(crate) fn freeze(mut self) -> Region {
        let segment = self.segment.take().expect("a region is frozen once");
        Region(Arc::new(RegionInner { segment, len: self.len, owner: Owner::Memory(Arc::clone(&self.memory)) }))
    }

    fn start(&self) -> *mut u8 {
        self.segment.as_ref().expect("the region is not frozen").start.as_ptr()
    }
}

impl Deref for RegionMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as for `Region` (rules 4 and 5); only `self` may write (rule 1), and it is
        // borrowed.
        unsafe { slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for RegionMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has at least `len` bytes (rule 4), they are initialized (rule 5), and
        // no one else uses the segment: it came out of the free list or was made for `self` (rule
        // 1).
        unsafe { slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl Drop for RegionMut {
    fn drop(&mut self) {
        if let Some(segment) = self.segment.take() {
            self.memory.recycle(segment);
        }
    }
}

/// Allocates regions within a budget. Clones are the same memory.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<MemoryInner>);

#[derive(Debug)]
pub(super) struct MemoryInner {
    origin: u32,
    budget: Budget,
    state: Mutex<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    num_made: u32,
    /// Unused segments, by capacity.
    free: SortedMap<usize, Vec<Arc<Segment>>>,
    /// No more regions will be allocated, so returned segments are freed at once.
    is_closed: bool,
}

impl MemoryState {
    /// Takes the smallest free segment that is large enough and not much too large.
    fn reuse(&mut self, capacity: usize) -> Option<Arc<Segment>> {
        let (&found, segments) = self.free.first_from_mut(&capacity)?;
        if found > capacity.saturating_add(capacity / 2) {
            return None;
        }
        let segment = segments.pop()?;
        if segments.is_empty() {
            self.free.remove(&found);
        }
        Some(segment)
    }

    /// Takes the largest free segment.
    fn evict(&mut self) -> Option<Arc<Segment>> {
        let segments = self.free.last_mut()?;
        let segment = segments.pop()?;
        if segments.is_empty() {
            self.free.pop_last();
        }
        Some(segment)
    }
}

impl MemoryInner {
    fn recycle(&self, segment: Arc<Segment>) {
        let bytes = segment.capacity as u64;
        let mut state = self.state.lock();
        if !state.is_closed && self.budget.cache(bytes) {
            state.free.entry(segment.capacity).push(segment);
            return;
        }
        drop(state);
        drop(segment);
        self.budget.release(bytes);
    }

    /// Takes the largest free segment. It still counts as reserved.
    fn evict(&self, state: &mut MemoryState) -> Option<Arc<Segment>> {
        let segment = state.evict()?;
        self.budget.uncache(segment.capacity as u64);
        Some(segment)
    }

    fn free(&self, segments: Vec<Arc<Segment>>) {
        let bytes = segments.iter().map(|segment| segment.capacity as u64).sum();
        drop(segments);
        self.budget.release(bytes);
    }
}

/// The capacity for a length: a multiple of the page size, one of few different sizes, and at most
/// an eighth too large.
fn capacity_for(len: usize) -> Option<usize> {
    let step = (len.checked_next_power_of_two()? / 16).max(PAGE);
    len.max(1).checked_next_multiple_of(step)
}

impl Memory {
    /// `origin` is part of the regions' ids and differs between the processes that exchange
    /// regions. The budget covers the segments in use and the free ones together.
    pub(crate) fn within(origin: u32, budget: Budget) -> Self {
        Memory(Arc::new(MemoryInner { origin, budget, state: Mutex::default() }))
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn new(origin: u32, limit: u64) -> Self {
        Memory::within(origin, Budget::own(limit))
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// Allocates a region of this many bytes.
    ///
    /// # Errors
    /// The limit would be exceeded, or the system refuses the memory.
    pub(crate) fn allocate(&self, len: usize) -> Result<RegionMut, CodecError> {
        let MemoryInner { origin, budget, state } = &*self.0;
        let refuse = || {
            CodecError::new(format!(
                "a value needs {len} bytes of shared memory, and of {} bytes {} are used, by all processes of the executor together; raise \
                 processes.shared_memory_limit",
                budget.limit(),
                budget.reserved_bytes()
            ))
        };
        let capacity = capacity_for(len).ok_or_else(refuse)?;
        let number = {
            let mut state = state.lock();
            if let Some(segment) = state.reuse(capacity) {
                budget.uncache(segment.capacity as u64);
                return Ok(RegionMut { segment: Some(segment), len, memory: Arc::clone(&self.0) });
            }
            let number = state.num_made;
            state.num_made =
                number.checked_add(1).ok_or_else(|| CodecError::new("the process has made too many regions"))?;
            number
        };
        while !budget.reserve(capacity as u64) {
            // The system call takes longer than a lock should be held, so the segment is freed
            // outside it.
            let evicted = self.0.evict(&mut state.lock());
            self.0.free(vec![evicted.ok_or_else(refuse)?]);
        }
        let id = u64::from(*origin) << 32 | u64::from(number);
        let make =
            || Mapping::allocate(capacity).map_err(CodecError::new).and_then(|mapping| Segment::new(id, mapping));
        let made = make().or_else(|_| {
            // Free segments hold open files, and there may be too many.
            self.trim();
            make()
        });
        match made {
            Ok(segment) => Ok(RegionMut { segment: Some(Arc::new(segment)), len, memory: Arc::clone(&self.0) }),
            Err(error) => {
                budget.release(capacity as u64);
                Err(error)
            }
        }
    }

    #[cfg(test)]
    /// How many bytes are in use, here or by a peer.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.0.budget.own_used_bytes()
    }

    #[cfg(test)]
    /// How many bytes are in use or free for reuse.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.0.budget.own_bytes()
    }

    /// Returns the free segments to the system.
    pub(crate) fn trim(&self) {
        let mut state = self.0.state.lock();
        let freed = std::iter::from_fn(|| self.0.evict(&mut state)).collect();
        drop(state);
        self.0.free(freed);
    }

    /// Returns the free segments to the system, and every other segment as soon as it is no longer
    /// used.
    pub(crate) fn close(&self) {
        self.0.state.lock().is_closed = true;
        self.trim();
    }

    /// Lets the arrays of this thread be made in this memory until the guard is dropped.
    pub(crate) fn enter(&self) -> EnteredMemory {
        EnteredMemory { before: CURRENT.replace(Some(self.clone())), _thread: PhantomData }
    }

    /// The memory that this thread has entered last.
    pub(crate) fn current() -> Option<Memory> {
        CURRENT.with_borrow(Clone::clone)
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

/// While the guard lives, its thread makes arrays in a memory.
#[derive(Debug)]
#[must_use]
pub(crate) struct EnteredMemory {
    before: Option<Memory>,
    /// Keeps the guard on its thread.
    _thread: PhantomData<*const ()>,
}

impl Drop for EnteredMemory {
    fn drop(&mut self) {
        let _entered = CURRENT.replace(self.before.take());
    }
}

#[cfg(test)]
mod tests;
