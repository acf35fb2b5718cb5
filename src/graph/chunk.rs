//! The memory of nodes: small chunks, filled one node after another.
//!
//! The nodes of a graph are made together and freed together. So a thread allocates chunks of a
//! page and fills each from the front, and a chunk is freed with its last node. That costs less
//! than half of an allocation per node, and neighbours in the graph are neighbours in memory. The
//! price is that one node that outlives the others of its chunk keeps a page. So large nodes, and
//! values that are meant to stay, get an allocation of their own.
//!
//! # What is always true
//!
//! 1. `Chunk::live` counts the nodes that are not yet freed. While the chunk is the current one of
//!    a thread, it is larger by [`OPEN`] less the number of nodes allocated so far. It reaches 0
//!    once, and the thread that brings it there frees the chunk.
//! 2. Each part of a chunk is allocated once. Only the chunk's thread allocates; any thread frees
//!    nodes.

#![expect(
    unsafe_code,
    reason = "nodes are parts of one allocation; a `Box` for each node took 1.5 to 3 times as long to build"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU32, fence};

/// A page, less the allocator's own data.
const SIZE: usize = 4096 - 32;
/// Nodes take whole units and are aligned to them.
const UNIT: usize = 8;
/// Larger nodes get an allocation of their own.
const LARGEST: usize = 256;
/// The part of `Chunk::live` that belongs to the thread that still allocates: more than the number
/// of nodes that fit.
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

/// The distance of a node from the start of its chunk, in [`UNIT`]s; 0 for a node with an
/// allocation of its own.
pub(super) type ChunkOffset = u16;

/// The chunk from which a thread allocates.
struct CurrentChunk {
    chunk: Option<NonNull<Chunk>>,
    /// In units, from the start of the chunk.
    next: usize,
    num_nodes: u32,
}

thread_local! {
    static CURRENT: RefCell<CurrentChunk> = const { RefCell::new(CurrentChunk { chunk: None, next: 0, num_nodes: 0 }) };
}

/// Allocates memory for a node; also returns its offset. The memory is the caller's until
/// [`FreedNodes::free`] gets it with the same layout and offset.
#[inline]
pub(super) fn allocate(layout: Layout) -> (NonNull<u8>, ChunkOffset) {
    if layout.size() <= LARGEST && layout.align() <= UNIT {
        // A thread that is about to end has no chunk.
        if let Ok(memory) = CURRENT.try_with(|current| current.borrow_mut().allocate(layout.size().div_ceil(UNIT))) {
            return memory;
        }
    }
    (allocate_alone(layout), 0)
}

/// Allocates memory for a node that is meant to stay.
pub(super) fn allocate_alone(layout: Layout) -> NonNull<u8> {
    assert_ne!(layout.size(), 0, "a node has a header");
    // SAFETY: the layout's size is not 0, as asserted.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

impl CurrentChunk {
    #[inline]
    fn allocate(&mut self, num_units: usize) -> (NonNull<u8>, ChunkOffset) {
        let chunk = match self.chunk {
            Some(chunk) if (self.next + num_units) * UNIT <= SIZE => chunk,
            _ => self.open(),
        };
        let offset = self.next;
        self.next += num_units;
        self.num_nodes += 1;
        // SAFETY: the node lies within the chunk: the check above says so, or the chunk is new and
        // larger than `LARGEST`.
        (unsafe { chunk.cast::<u8>().add(offset * UNIT) }, offset as ChunkOffset)
    }

    #[cold]
    fn open(&mut self) -> NonNull<Chunk> {
        self.close();
        let chunk = allocate_alone(LAYOUT).cast::<Chunk>();
        // SAFETY: the memory was just allocated with the layout of a chunk, which has room for the
        // `Chunk` at its start.
        unsafe { chunk.write(Chunk { live: AtomicU32::new(OPEN) }) };
        *self = CurrentChunk { chunk: Some(chunk), next: size_of::<Chunk>().div_ceil(UNIT), num_nodes: 0 };
        chunk
    }

    /// Ends allocation from the current chunk.
    fn close(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            // SAFETY: the chunk is this thread's current one, which holds `OPEN` less the number of
            // allocated nodes of its count (rule 1), and gives that up once.
            unsafe { release(chunk, OPEN - self.num_nodes) };
        }
    }
}

impl Drop for CurrentChunk {
    fn drop(&mut self) {
        self.close();
    }
}

/// Freed nodes of one chunk that its count does not reflect yet.
///
/// Nodes that are freed one after another mostly lie in one chunk. They are then subtracted from
/// its count together.
pub(super) struct FreedNodes {
    chunk: Option<NonNull<Chunk>>,
    num_nodes: u32,
}

impl FreedNodes {
    pub(super) fn new() -> Self {
        FreedNodes { chunk: None, num_nodes: 0 }
    }

    /// Frees the memory of a node.
    ///
    /// # Safety
    /// The memory was allocated with this layout and offset, and no one uses it any more.
    pub(super) unsafe fn free(&mut self, memory: NonNull<u8>, layout: Layout, offset: ChunkOffset) {
        if offset == 0 {
            // SAFETY: at offset 0 the node has an allocation of its own, which no one uses any
            // more, as the caller states.
            return unsafe { dealloc(memory.as_ptr(), layout) };
        }
        // SAFETY: `offset` is the distance from the start of the chunk, as the caller states.
        let chunk = unsafe { memory.sub(offset as usize * UNIT) }.cast::<Chunk>();
        if self.chunk != Some(chunk) {
            self.flush();
            self.chunk = Some(chunk);
        }
        self.num_nodes += 1;
    }

    fn flush(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            // SAFETY: each freed node holds one of the chunk's count (rule 1), and gives that up
            // once, here.
            unsafe { release(chunk, std::mem::take(&mut self.num_nodes)) };
        }
    }
}

impl Drop for FreedNodes {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Subtracts from the count of a chunk, and frees the chunk at 0.
///
/// # Safety
/// The caller holds `count` of the chunk's `live`, and gives them up.
unsafe fn release(chunk: NonNull<Chunk>, count: u32) {
    // SAFETY: the chunk is freed at 0, and the caller still holds a part of its count. Release: the
    // use of the memory happens before the last thread, which acquires below, frees it.
    let before = unsafe { chunk.as_ref() }.live.fetch_sub(count, Release);
    if before == count {
        fence(Acquire);
        // SAFETY: the count is 0, so no one uses the chunk any more (rule 1).
        unsafe { dealloc(chunk.as_ptr().cast(), LAYOUT) };
    }
    debug_assert!(before >= count, "a chunk's nodes are freed once");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_allocated_once_and_all_of_a_chunk_can_be_used() {
        let layout = Layout::from_size_align(40, 8).unwrap();
        let nodes: Vec<_> = (0..1000).map(|_| allocate(layout)).collect();
        for (i, (memory, _)) in nodes.iter().enumerate() {
            // SAFETY: the memory was allocated above and is 40 bytes long.
            unsafe { memory.write_bytes(i as u8, 40) };
        }
        for (i, (memory, _)) in nodes.iter().enumerate() {
            // SAFETY: all 40 bytes were written above.
            assert!(unsafe { std::slice::from_raw_parts(memory.as_ptr(), 40) }.iter().all(|&byte| byte == i as u8));
        }
        let mut freed = FreedNodes::new();
        for (memory, offset) in nodes {
            // SAFETY: allocated above with this layout and offset.
            unsafe { freed.free(memory, layout, offset) };
        }
    }

    #[test]
    fn nodes_can_be_freed_by_another_thread_after_their_own_has_ended() {
        struct SentNodes(Vec<(NonNull<u8>, ChunkOffset)>);
        // SAFETY: memory may be freed by any thread.
        unsafe impl Send for SentNodes {}
        let layout = Layout::from_size_align(24, 8).unwrap();
        let nodes = std::thread::spawn(move || SentNodes((0..500).map(|_| allocate(layout)).collect())).join().unwrap();
        let mut freed = FreedNodes::new();
        for (memory, offset) in nodes.0 {
            // SAFETY: allocated above with this layout and offset.
            unsafe { freed.free(memory, layout, offset) };
        }
    }

    #[test]
    fn a_large_or_more_strictly_aligned_node_gets_an_allocation_of_its_own() {
        for layout in [Layout::from_size_align(LARGEST + 8, 8).unwrap(), Layout::from_size_align(32, 64).unwrap()] {
            let (memory, offset) = allocate(layout);
            assert_eq!(offset, 0);
            assert!(memory.as_ptr().addr().is_multiple_of(layout.align()));
            // SAFETY: allocated above with this layout and offset.
            unsafe { FreedNodes::new().free(memory, layout, offset) };
        }
    }
}
