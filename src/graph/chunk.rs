//! Where nodes lie: small chunks, filled one node after the other.
//!
//! A graph's nodes are made together and freed together. So a thread takes memory in chunks of a page and hands it out from the front,
//! and a chunk is given back when its last node is freed. That costs less than half of an allocation for each node, and neighbours
//! in the graph are neighbours in memory. The price: a node that outlives those made beside it keeps a page. So values that are
//! meant to stay, and nodes that are large, get an allocation of their own.
//!
//! # What is always true
//!
//! 1. `Chunk::live` counts the nodes that are not yet freed, plus [`OPEN`] less the nodes handed out as long as the chunk is some
//!    thread's current one. It reaches 0 once, and who brings it there frees the chunk.
//! 2. Memory from a chunk is handed out once. Only the chunk's thread hands it out; any thread frees nodes.

#![expect(
    unsafe_code,
    reason = "it hands out parts of one allocation; a `Box` for each node took 1.5 to 3 times as long to build"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU32, fence};

/// A page, less what the allocator needs for itself.
const SIZE: usize = 4096 - 32;
/// All memory is handed out in these units, and aligned to them.
const UNIT: usize = 8;
/// Larger nodes get an allocation of their own.
const LARGEST: usize = 256;
/// What `Chunk::live` holds for the thread that still hands out memory: more than there is room for nodes.
const OPEN: u32 = 1 << 16;

const LAYOUT: Layout = match Layout::from_size_align(SIZE, align_of::<Chunk>()) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

/// The beginning of a chunk.
#[repr(C, align(8))]
struct Chunk {
    live: AtomicU32,
}

/// Where in its chunk a node lies, in [`UNIT`]s; 0 for a node with an allocation of its own.
pub(super) type Place = u16;

/// The chunk that a thread hands out memory from.
struct Current {
    chunk: Option<NonNull<Chunk>>,
    /// In units, from the start of the chunk.
    next: usize,
    num_nodes: u32,
}

thread_local! {
    static CURRENT: RefCell<Current> = const { RefCell::new(Current { chunk: None, next: 0, num_nodes: 0 }) };
}

/// Memory for a node, with its place. The memory is the caller's until it calls [`free`] with the same layout and place.
#[inline]
pub(super) fn allocate(layout: Layout) -> (NonNull<u8>, Place) {
    if layout.size() <= LARGEST && layout.align() <= UNIT {
        // A thread that is about to end has no chunk any more.
        if let Ok(memory) = CURRENT.try_with(|current| current.borrow_mut().allocate(layout.size().div_ceil(UNIT))) {
            return memory;
        }
    }
    (allocate_alone(layout), 0)
}

/// Memory for something that is meant to stay.
pub(super) fn allocate_alone(layout: Layout) -> NonNull<u8> {
    assert_ne!(layout.size(), 0, "a node has a header");
    // SAFETY: the size is not 0.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Current {
    #[inline]
    fn allocate(&mut self, num_units: usize) -> (NonNull<u8>, Place) {
        let chunk = match self.chunk {
            Some(chunk) if (self.next + num_units) * UNIT <= SIZE => chunk,
            _ => self.open(),
        };
        let place = self.next;
        self.next += num_units;
        self.num_nodes += 1;
        // SAFETY: the place and what follows lie within the chunk, by the check above or because a new chunk is larger than `LARGEST`.
        (unsafe { chunk.cast::<u8>().add(place * UNIT) }, place as Place)
    }

    #[cold]
    fn open(&mut self) -> NonNull<Chunk> {
        self.close();
        let chunk = allocate_alone(LAYOUT).cast::<Chunk>();
        // SAFETY: the memory is ours, and large enough.
        unsafe { chunk.write(Chunk { live: AtomicU32::new(OPEN) }) };
        *self = Current { chunk: Some(chunk), next: size_of::<Chunk>().div_ceil(UNIT), num_nodes: 0 };
        chunk
    }

    /// Hands out no more from the current chunk.
    fn close(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            // SAFETY: the chunk is open, so it is there; what is taken off is what `OPEN` stands for beyond the nodes.
            unsafe { let_go(chunk, OPEN - self.num_nodes) };
        }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        self.close();
    }
}

/// Nodes of one chunk that have been freed and not yet been counted.
///
/// Nodes that are freed one after the other mostly lie in one chunk, and are then counted together.
pub(super) struct Freed {
    chunk: Option<NonNull<Chunk>>,
    num_nodes: u32,
}

impl Freed {
    pub(super) fn new() -> Self {
        Freed { chunk: None, num_nodes: 0 }
    }

    /// Takes back the memory of a node.
    ///
    /// # Safety
    /// The memory was allocated with this layout and place, and nobody uses it any more.
    pub(super) unsafe fn free(&mut self, memory: NonNull<u8>, layout: Layout, place: Place) {
        if place == 0 {
            // SAFETY: an allocation of its own.
            return unsafe { dealloc(memory.as_ptr(), layout) };
        }
        // SAFETY: that is where the chunk begins.
        let chunk = unsafe { memory.sub(place as usize * UNIT) }.cast::<Chunk>();
        if self.chunk != Some(chunk) {
            self.count();
            self.chunk = Some(chunk);
        }
        self.num_nodes += 1;
    }

    fn count(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            // SAFETY: these nodes were alive for the count until now.
            unsafe { let_go(chunk, std::mem::take(&mut self.num_nodes)) };
        }
    }
}

impl Drop for Freed {
    fn drop(&mut self) {
        self.count();
    }
}

/// # Safety
/// The caller holds `count` of what `live` counts.
unsafe fn let_go(chunk: NonNull<Chunk>, count: u32) {
    // SAFETY: the chunk is there as long as somebody holds a part of its count. Release: what was done with the memory happened before
    // it is given back by whoever is last, who acquires below.
    let before = unsafe { chunk.as_ref() }.live.fetch_sub(count, Release);
    if before == count {
        fence(Acquire);
        // SAFETY: nobody holds anything of the chunk any more.
        unsafe { dealloc(chunk.as_ptr().cast(), LAYOUT) };
    }
    debug_assert!(before >= count, "a chunk's nodes are freed once");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_handed_out_once_and_all_of_a_chunk_can_be_used() {
        let layout = Layout::from_size_align(40, 8).unwrap();
        let nodes: Vec<_> = (0..1000).map(|_| allocate(layout)).collect();
        for (i, (memory, _)) in nodes.iter().enumerate() {
            // SAFETY: ours, and 40 bytes long.
            unsafe { memory.write_bytes(i as u8, 40) };
        }
        for (i, (memory, _)) in nodes.iter().enumerate() {
            // SAFETY: written above.
            assert!(unsafe { std::slice::from_raw_parts(memory.as_ptr(), 40) }.iter().all(|&byte| byte == i as u8));
        }
        let mut freed = Freed::new();
        for (memory, place) in nodes {
            // SAFETY: allocated above with this layout and place.
            unsafe { freed.free(memory, layout, place) };
        }
    }

    #[test]
    fn nodes_may_be_freed_by_another_thread_after_theirs_has_ended() {
        struct Sent(Vec<(NonNull<u8>, Place)>);
        // SAFETY: memory may be freed by any thread.
        unsafe impl Send for Sent {}
        let layout = Layout::from_size_align(24, 8).unwrap();
        let nodes = std::thread::spawn(move || Sent((0..500).map(|_| allocate(layout)).collect())).join().unwrap();
        let mut freed = Freed::new();
        for (memory, place) in nodes.0 {
            // SAFETY: allocated above with this layout and place.
            unsafe { freed.free(memory, layout, place) };
        }
    }

    #[test]
    fn what_is_large_or_aligned_more_strictly_gets_an_allocation_of_its_own() {
        for layout in [Layout::from_size_align(LARGEST + 8, 8).unwrap(), Layout::from_size_align(32, 64).unwrap()] {
            let (memory, place) = allocate(layout);
            assert_eq!(place, 0);
            assert!(memory.as_ptr().addr().is_multiple_of(layout.align()));
            // SAFETY: allocated above with this layout and place.
            unsafe { Freed::new().free(memory, layout, place) };
        }
    }
}
