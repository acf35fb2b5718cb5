//! Shared memory, counted and used again.
//!
//! A [`Memory`] hands out [`RegionMut`]s to be filled. Frozen, one becomes a [`Region`]: bytes that nobody changes any more, cheap to clone,
//! and named by a number that no other process gives out. Under a region lies a [`Segment`], the mapping itself. It outlives the region:
//! when the region's last clone goes, the segment goes back to its home, to be used again while its pages are warm (the page faults of
//! fresh shared memory are most of its cost). The home of a segment that was created here is the memory; of one that was received, the
//! connection's [`Exchange`](super::exchange::Exchange).
//!
//! # What is always true
//!
//! 1. A segment that was created here is in one of three places: the free list of its memory, one `RegionMut`, or one frozen region with its
//!    clones. Only a `RegionMut` writes, and there is one at a time.
//! 2. A segment that was received is never written: its mapping is made read-only as soon as it arrives.
//! 3. A frozen region has a clone in the exchange of each peer that uses it, until that peer has said that it no longer does. With 1, a
//!    segment is written again only when no process reads it.
//! 4. A segment's mapping is at least as long as its regions, starts at a page, and stays until the segment is dropped, which is not
//!    before its last region.
//!
//! Rule 3 holds among processes that run this code. One that does not, or that a bug made write where it should not, can change what is in
//! a region it created, as it can change everything else in the values that it sends.

#![expect(unsafe_code, reason = "memory that is written once and then shared")]

use super::budget::Budget;
use super::codec::CodecError;
use super::exchange::Returns;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// The pages of all systems on which this runs have this size or a multiple of it.
const PAGE: usize = 4096;

#[cfg(all(target_os = "linux", not(miri)))]
mod carrier {
    //! Shared memory as ipc-channel carries it from one process to another.

    use ipc_channel::ipc::IpcSharedMemory;
    use rustix::process::{Resource, getrlimit};
    use serde::{Deserialize, Serialize};
    use std::ffi::c_void;
    use std::panic::catch_unwind;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Mapping(IpcSharedMemory);

    /// Shared memory is a file, and who makes too large a one is not told but killed.
    pub(crate) fn file_size_limit() -> Option<u64> {
        getrlimit(Resource::Fsize).current
    }

    impl Mapping {
        pub(super) fn allocate(len: usize) -> Result<Self, String> {
            if let Some(limit) = file_size_limit().filter(|&limit| len as u64 > limit) {
                return Err(format!(
                    "the system gives no {len} bytes of shared memory, as files are limited to {limit} bytes (ulimit -f)"
                ));
            }
            // It asserts that the system gives what it asks for.
            catch_unwind(|| Mapping(IpcSharedMemory::from_byte(0, len))).map_err(|_| {
                format!(
                    "the system gives no {len} bytes of shared memory; each piece needs an open file, for which there is a limit (ulimit -n)"
                )
            })
        }

        /// Where the bytes start, and how many there are. What is done with the pointer is the caller's business from then on.
        pub(super) fn bytes(&mut self) -> (*mut u8, usize) {
            // SAFETY: the slice is turned into a pointer at once; nobody else has this mapping.
            let bytes = unsafe { self.0.deref_mut() };
            (bytes.as_mut_ptr(), bytes.len())
        }

        pub(super) fn make_read_only(&mut self) -> Result<(), String> {
            let (start, len) = self.bytes();
            if len == 0 {
                return Ok(());
            }
            // SAFETY: these are the pages of a mapping that is ours, and nobody has a pointer to them yet.
            unsafe { rustix::mm::mprotect(start.cast::<c_void>(), len, rustix::mm::MprotectFlags::READ) }
                .map_err(|error| error.to_string())
        }
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) use carrier::file_size_limit;

#[cfg(not(all(target_os = "linux", not(miri))))]
mod carrier {
    //! Memory of this process alone: where there are no worker processes, and under Miri.

    use super::PAGE;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    const REFUSAL: &str = "shared memory cannot be sent on this platform";

    #[derive(Clone, Copy)]
    #[repr(C, align(4096))]
    struct Page([u8; PAGE]);

    pub(super) struct Mapping(Vec<Page>);

    impl Mapping {
        #[expect(clippy::unnecessary_wraps, reason = "the other carrier can fail")]
        pub(super) fn allocate(len: usize) -> Result<Self, String> {
            Ok(Mapping(vec![Page([0; PAGE]); len.div_ceil(PAGE)]))
        }

        pub(super) fn bytes(&mut self) -> (*mut u8, usize) {
            (self.0.as_mut_ptr().cast(), self.0.len() * PAGE)
        }

        #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as the other carrier")]
        pub(super) fn make_read_only(&mut self) -> Result<(), String> {
            Ok(())
        }
    }

    impl Serialize for Mapping {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom(REFUSAL))
        }
    }

    impl<'de> Deserialize<'de> for Mapping {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom(REFUSAL))
        }
    }
}

/// How many segments this process has let go: what an exchange looks at before it looks for those that are gone.
static NUM_DROPPED: AtomicU64 = AtomicU64::new(0);

/// A mapping with a name.
pub(super) struct Segment {
    id: u64,
    start: NonNull<u8>,
    capacity: usize,
    /// Only its destructor and its serialization are used from the outside.
    mapping: carrier::Mapping,
    /// Who gives back what it takes, if the process that made it is gone.
    heir: OnceLock<Budget>,
}

// SAFETY: the bytes are written only through a `RegionMut`, which is exclusive (rule 1), and read only where nobody writes (rule 3);
// the mapping itself can be sent and shared.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    fn new(id: u64, mut mapping: carrier::Mapping) -> Result<Self, CodecError> {
        let (start, capacity) = mapping.bytes();
        let start = NonNull::new(start).ok_or_else(|| CodecError::new("a region has no memory"))?;
        Ok(Segment { id, start, capacity, mapping, heir: OnceLock::new() })
    }

    /// The process that made it is gone: from now on it counts as taken here.
    pub(super) fn inherit(&self, budget: &Budget) {
        if self.heir.set(budget.clone()).is_ok() {
            budget.charge(self.capacity as u64);
        }
    }

    /// How many segments have been dropped until now.
    pub(super) fn num_dropped() -> u64 {
        // Pairs with the `Release` in `drop`: the weak references of those that are counted cannot be upgraded.
        NUM_DROPPED.load(Ordering::Acquire)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        NUM_DROPPED.fetch_add(1, Ordering::Release);
        if let Some(budget) = self.heir.get() {
            budget.give_back(self.capacity as u64);
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("id", &self.id).field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// A segment on its way to a process that does not have it yet.
///
/// Serialized within a message of ipc-channel, it becomes an open file of the receiver.
pub(crate) enum Handle {
    Sent(OwnMapping),
    Received(ReceivedMapping),
}

/// A segment that is mapped here.
pub(crate) struct OwnMapping(Arc<Segment>);

/// A mapping that came with a message.
pub(crate) struct ReceivedMapping(carrier::Mapping);

impl Handle {
    pub(super) fn of(region: &Region) -> Handle {
        Handle::Sent(OwnMapping(Arc::clone(region.segment())))
    }

    /// The segment, read-only, with the name that came along.
    pub(super) fn into_segment(self, id: u64) -> Result<Arc<Segment>, CodecError> {
        match self {
            // It did not go through a message: both ends are in this process.
            Handle::Sent(OwnMapping(segment)) => Ok(segment),
            Handle::Received(ReceivedMapping(mut mapping)) => {
                mapping
                    .make_read_only()
                    .map_err(|error| CodecError::new(format!("cannot protect a region: {error}")))?;
                Segment::new(id, mapping).map(Arc::new)
            }
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Handle::Sent(_) => "Handle::Sent",
            Handle::Received(_) => "Handle::Received",
        })
    }
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Handle::Sent(OwnMapping(segment)) => segment.mapping.serialize(serializer),
            Handle::Received(ReceivedMapping(mapping)) => mapping.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        carrier::Mapping::deserialize(deserializer).map(|mapping| Handle::Received(ReceivedMapping(mapping)))
    }
}

/// Bytes in shared memory that nobody changes any more.
#[derive(Clone)]
pub(crate) struct Region(Arc<Frozen>);

/// A region, for who does not keep it.
#[derive(Clone, Debug)]
pub(super) struct WeakRegion(Weak<Frozen>);

struct Frozen {
    segment: Arc<Segment>,
    len: usize,
    home: Home,
}

/// Who is told when a region is gone.
enum Home {
    Memory(Arc<Store>),
    /// The peer has sent this region so often; the region that it goes back on, if it was ours.
    Exchange {
        returns: Arc<Returns>,
        num_uses: AtomicU32,
        original: Option<Region>,
    },
}

impl Drop for Frozen {
    fn drop(&mut self) {
        match &self.home {
            Home::Memory(store) => store.take_back(Arc::clone(&self.segment)),
            Home::Exchange { returns, num_uses, .. } => {
                // Nobody else has it any more; `Arc` has seen to the order.
                returns.add(self.segment.id, num_uses.load(Ordering::Relaxed));
            }
        }
    }
}

impl Region {
    /// A region that a peer has sent for the first time, or again after it was returned.
    pub(super) fn received(
        segment: Arc<Segment>,
        len: usize,
        returns: Arc<Returns>,
        original: Option<Region>,
    ) -> Result<Region, CodecError> {
        if len > segment.capacity {
            return Err(CodecError::new(format!(
                "region {} is said to have {len} bytes and has {}",
                segment.id, segment.capacity
            )));
        }
        let home = Home::Exchange { returns, num_uses: AtomicU32::new(1), original };
        Ok(Region(Arc::new(Frozen { segment, len, home })))
    }

    /// Notes that the peer has sent it once more.
    pub(super) fn use_again(&self) {
        if let Home::Exchange { num_uses, .. } = &self.0.home {
            num_uses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of the segment below: in all processes that exchange regions, no two that exist at the same time have the same.
    pub(crate) fn id(&self) -> u64 {
        self.0.segment.id
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.0.segment
    }

    /// Whether it came through the exchange that these returns are of; also if it has been elsewhere since and is back.
    pub(super) fn came_through(&self, own: &Arc<Returns>) -> bool {
        match &self.0.home {
            Home::Memory(_) => false,
            Home::Exchange { returns, original, .. } => {
                Arc::ptr_eq(returns, own) || original.as_ref().is_some_and(|original| original.came_through(own))
            }
        }
    }

    /// Whether it was made in this process.
    pub(super) fn is_own(&self) -> bool {
        match &self.0.home {
            Home::Memory(_) => true,
            Home::Exchange { original, .. } => original.as_ref().is_some_and(Region::is_own),
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
        let Frozen { segment, len, .. } = &*self.0;
        // SAFETY: `len` is at most the capacity, the mapping stays as long as the segment, which we hold, and nobody writes (rules 1 to 4).
        unsafe { slice::from_raw_parts(segment.start.as_ptr(), *len) }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({:#x}, {} bytes)", self.id(), self.0.len)
    }
}

/// Bytes in shared memory that only the owner sees. At first they are whatever was there before.
pub(crate) struct RegionMut {
    /// `None` once it is frozen.
    segment: Option<Arc<Segment>>,
    len: usize,
    store: Arc<Store>,
}

impl RegionMut {
    /// From now on the bytes are read only, by anyone.
    pub(crate) fn freeze(mut self) -> Region {
        let segment = self.segment.take().expect("it is frozen once");
        Region(Arc::new(Frozen { segment, len: self.len, home: Home::Memory(Arc::clone(&self.store)) }))
    }

    fn start(&self) -> *mut u8 {
        self.segment.as_ref().expect("it is not frozen").start.as_ptr()
    }
}

impl Deref for RegionMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as for `Region`; the only one who may write is `self`, which is borrowed.
        unsafe { slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for RegionMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the bytes are initialized, there are as many, and by rule 1 nobody else has the segment: it came out of the free list,
        // or was made for this.
        unsafe { slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl Drop for RegionMut {
    fn drop(&mut self) {
        if let Some(segment) = self.segment.take() {
            self.store.take_back(segment);
        }
    }
}

impl fmt::Debug for RegionMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegionMut({:?}, {} bytes)", self.segment, self.len)
    }
}

/// Where regions come from. Clones are the same memory.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Store>);

pub(super) struct Store {
    origin: u32,
    budget: Budget,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    num_made: u32,
    /// Segments that nobody uses, by capacity.
    free: BTreeMap<usize, Vec<Arc<Segment>>>,
    /// Nothing will be allocated any more, so segments are not kept.
    is_closed: bool,
}

impl State {
    /// The smallest free segment that is large enough and not much too large.
    fn reuse(&mut self, capacity: usize) -> Option<Arc<Segment>> {
        let (&found, segments) = self.free.range_mut(capacity..=capacity.saturating_add(capacity / 2)).next()?;
        let segment = segments.pop()?;
        if segments.is_empty() {
            self.free.remove(&found);
        }
        Some(segment)
    }

    /// The largest free segment.
    fn evict(&mut self) -> Option<Arc<Segment>> {
        let mut entry = self.free.last_entry()?;
        let segment = entry.get_mut().pop()?;
        if entry.get().is_empty() {
            entry.remove();
        }
        Some(segment)
    }
}

impl Store {
    fn take_back(&self, segment: Arc<Segment>) {
        let bytes = segment.capacity as u64;
        let mut state = self.state.lock();
        if !state.is_closed && self.budget.keep(bytes) {
            state.free.entry(segment.capacity).or_default().push(segment);
            return;
        }
        drop(state);
        drop(segment);
        self.budget.give_back(bytes);
    }

    /// Takes the largest free segment out of the list.
    fn evict(&self, state: &mut State) -> Option<Arc<Segment>> {
        let segment = state.evict()?;
        self.budget.no_longer_kept(segment.capacity as u64);
        Some(segment)
    }

    fn give_back(&self, segments: Vec<Arc<Segment>>) {
        let bytes = segments.iter().map(|segment| segment.capacity as u64).sum();
        drop(segments);
        self.budget.give_back(bytes);
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("origin", &self.origin).field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// The capacity for a length: whole pages, and few different ones, at most an eighth too large.
fn capacity_for(len: usize) -> Option<usize> {
    let step = (len.checked_next_power_of_two()? / 16).max(PAGE);
    len.max(1).checked_next_multiple_of(step)
}

impl Memory {
    /// `origin` is part of the regions' ids and has to be another in each process that exchanges regions. The budget is for what is used
    /// and what is kept to be used again together.
    pub(crate) fn within(origin: u32, budget: Budget) -> Self {
        Memory(Arc::new(Store { origin, budget, state: Mutex::default() }))
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn new(origin: u32, limit: u64) -> Self {
        Memory::within(origin, Budget::own(limit))
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// Room for so many bytes.
    ///
    /// # Errors
    /// The limit would be exceeded, or the system gives no more.
    pub(crate) fn allocate(&self, len: usize) -> Result<RegionMut, CodecError> {
        let Store { origin, budget, state } = &*self.0;
        let refuse = || {
            CodecError::new(format!(
                "a value needs {len} bytes of shared memory, and of {} bytes {} are used, by all processes of the executor together; raise \
                 processes.shared_memory_limit",
                budget.limit(),
                budget.taken_bytes()
            ))
        };
        let capacity = capacity_for(len).ok_or_else(refuse)?;
        let number = {
            let mut state = state.lock();
            if let Some(segment) = state.reuse(capacity) {
                budget.no_longer_kept(segment.capacity as u64);
                return Ok(RegionMut { segment: Some(segment), len, store: Arc::clone(&self.0) });
            }
            let number = state.num_made;
            state.num_made = number.checked_add(1).ok_or_else(|| CodecError::new("there were too many regions"))?;
            number
        };
        while !budget.take(capacity as u64) {
            // What the system does about it takes longer than a lock should be held.
            let evicted = self.0.evict(&mut state.lock());
            self.0.give_back(vec![evicted.ok_or_else(refuse)?]);
        }
        let id = u64::from(*origin) << 32 | u64::from(number);
        let make = || {
            carrier::Mapping::allocate(capacity).map_err(CodecError::new).and_then(|mapping| Segment::new(id, mapping))
        };
        let made = make().or_else(|_| {
            // What is kept holds open files.
            self.trim();
            make()
        });
        match made {
            Ok(segment) => Ok(RegionMut { segment: Some(Arc::new(segment)), len, store: Arc::clone(&self.0) }),
            Err(error) => {
                budget.give_back(capacity as u64);
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
    /// How many bytes are in use or kept to be used again.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.0.budget.own_bytes()
    }

    /// Gives back to the system what is not in use.
    pub(crate) fn trim(&self) {
        let mut state = self.0.state.lock();
        let freed = std::iter::from_fn(|| self.0.evict(&mut state)).collect();
        drop(state);
        self.0.give_back(freed);
    }

    /// Gives back to the system what is not in use, and all else as soon as it is not used any more.
    pub(crate) fn close(&self) {
        self.0.state.lock().is_closed = true;
        self.trim();
    }

    /// Makes this the memory where arrays of this thread are made, until the guard is dropped.
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

/// While it lives, the thread that made it makes its arrays in a memory.
#[derive(Debug)]
#[must_use]
pub(crate) struct EnteredMemory {
    before: Option<Memory>,
    /// It belongs to the thread that made it.
    _thread: PhantomData<*const ()>,
}

impl Drop for EnteredMemory {
    fn drop(&mut self) {
        let _left = CURRENT.replace(self.before.take());
    }
}

#[cfg(test)]
mod tests;
