//! Encoded values that tasks elsewhere may still read, and the workers that keep decoded copies.
//!
//! # What is always true
//!
//! A [`StoredValue`] and the [`KeptValues`] of a worker that keeps a copy list each other. Both
//! entries are removed when the value is dropped here, or when the worker is told to drop its copy.

#![expect(unsafe_code, reason = "it decodes values through the code of their types")]

use super::values::{CallCells, OwnedCell};
use crate::engine::EncodedInputs;
use crate::error::Error;
use crate::graph::crossing::{Encoded, ValueCode};
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{Codec, CodecError, Decoder};
use crate::portable::region::Region;
use parking_lot::Mutex;
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

/// How many bytes of decoded values a worker of one thread keeps at most.
const KEPT_MAX_BYTES: usize = 256 << 20;

/// The memory that an encoding takes, in bytes.
pub(crate) fn encoded_size(bytes: &[u8], regions: &[Region]) -> usize {
    bytes.len() + regions.iter().map(|region| region.len()).sum::<usize>()
}

/// One encoded value.
#[derive(Clone)]
pub(crate) struct EncodedValue {
    pub(crate) codec: Codec,
    pub(crate) bytes: Box<[u8]>,
    pub(crate) regions: Vec<Region>,
    pub(crate) code: &'static CodeDescriptor<ValueCode>,
}

/// An encoded value that tasks elsewhere may read.
pub(crate) struct StoredValue {
    /// Differs between all values of this process.
    pub(crate) key: u64,
    /// The executor memory that the regions come from.
    pub(crate) origin: u32,
    pub(crate) encoded: EncodedValue,
    /// More than one task reads it.
    pub(crate) is_shared: bool,
    /// The workers that keep a decoded copy.
    pub(super) keepers: Mutex<Vec<Weak<KeptValues>>>,
}

impl StoredValue {
    /// The memory that the encoding takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        encoded_size(&self.encoded.bytes, &self.encoded.regions)
    }

    /// Whether a worker keeps a decoded copy.
    pub(crate) fn is_kept_by(&self, kept: &KeptValues) -> bool {
        self.keepers.lock().iter().any(|keeper| std::ptr::eq(keeper.as_ptr(), kept))
    }
}

impl fmt::Debug for StoredValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredValue").field("key", &self.key).field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Drop for StoredValue {
    fn drop(&mut self) {
        let (key, size) = (self.key, self.size());
        self.keepers
            .get_mut()
            .drain(..)
            .filter_map(|keeper| keeper.upgrade())
            .for_each(|it| it.value_dropped(key, size));
    }
}

impl Encoded for StoredValue {
    unsafe fn decode(&self, cell: &Cell) -> Result<(), CodecError> {
        let EncodedValue { codec, bytes, regions, code } = &self.encoded;
        let mut decoder = Decoder::new(*codec, bytes, regions);
        // SAFETY: the caller owns the empty cell, and its readers know the type of the value, which
        // is the code's.
        unsafe { (code.item.decode)(&mut decoder, cell) }
    }

    fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        let EncodedValue { codec, bytes, regions, code } = &self.encoded;
        if regions.is_empty() {
            return Ok(bytes.to_vec());
        }
        let value = OwnedCell::decode(code, *codec, bytes, regions).map_err(CodecError::new)?;
        // SAFETY: the value has just been decoded into the cell.
        let (bytes, _) = unsafe { value.encode(*codec, None) }.map_err(CodecError::new)?;
        Ok(bytes)
    }

    fn num_bytes(&self) -> usize {
        self.size()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// The values that one worker keeps decoded, and the keys of values that it must drop.
pub(crate) struct KeptValues {
    /// The oldest values make room for new ones.
    ///
    /// False with several threads: one thread could be told to drop a value before another thread
    /// has read the batch that uses the value. Such a worker keeps values for as long as this
    /// process does.
    may_evict: bool,
    state: Mutex<KeptState>,
}

#[derive(Default)]
struct KeptState {
    /// With their sizes, oldest first.
    values: VecDeque<(Weak<StoredValue>, usize)>,
    /// At most this many entries of `values` have lost their value.
    num_gone: usize,
    bytes: usize,
    /// Keys of values that no later call reads.
    dropped: Vec<u64>,
}

impl fmt::Debug for KeptValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptValues").field("bytes", &self.state.lock().bytes).finish_non_exhaustive()
    }
}

impl KeptValues {
    /// For a worker with this many threads.
    pub(crate) fn new(num_threads: usize) -> Arc<Self> {
        Arc::new(KeptValues { may_evict: num_threads == 1, state: Mutex::default() })
    }

    /// Records that the worker keeps a value. Older values make room for it.
    pub(crate) fn add(self: &Arc<Self>, value: &Arc<StoredValue>) {
        {
            let mut keepers = value.keepers.lock();
            keepers.retain(|keeper| keeper.strong_count() > 0);
            if keepers.iter().any(|keeper| keeper.as_ptr() == Arc::as_ptr(self)) {
                return;
            }
            keepers.push(Arc::downgrade(self));
        }
        let mut state = self.state.lock();
        state.values.push_back((Arc::downgrade(value), value.size()));
        state.bytes += value.size();
        let mut evicted = Vec::new();
        while self.may_evict && state.bytes > KEPT_MAX_BYTES && state.values.len() > 1 {
            let Some((oldest, size)) = state.values.pop_front() else { break };
            // `value_dropped` subtracts the size of a value that is gone.
            if let Some(oldest) = oldest.upgrade() {
                state.bytes = state.bytes.saturating_sub(size);
                state.dropped.push(oldest.key);
                evicted.push(oldest);
            }
        }
        drop(state);
        // Without the lock: the last handle of a value may be in `evicted`.
        for value in evicted {
            value.keepers.lock().retain(|keeper| keeper.as_ptr() != Arc::as_ptr(self));
        }
    }

    /// The worker keeps a value that no later call reads.
    pub(crate) fn drop_unread(&self, key: u64) {
        self.state.lock().dropped.push(key);
    }

    fn value_dropped(&self, key: u64, size: usize) {
        let mut state = self.state.lock();
        state.dropped.push(key);
        state.bytes = state.bytes.saturating_sub(size);
        state.num_gone += 1;
        // Not each time: there may be tens of thousands of values.
        if 2 * state.num_gone > state.values.len() {
            state.values.retain(|(value, _)| value.strong_count() > 0);
            state.num_gone = 0;
        }
    }

    /// Takes the keys of the values that the worker must drop.
    pub(crate) fn take_dropped(&self) -> Vec<u64> {
        std::mem::take(&mut self.state.lock().dropped)
    }

    pub(crate) fn has_dropped(&self) -> bool {
        !self.state.lock().dropped.is_empty()
    }
}

/// The encoded inputs of a task that failed elsewhere, for a replay in this process, and the errors
/// of inputs that had failed.
///
/// They are copies. So the workers that keep these values may drop them with the run.
pub(super) struct StoredInputs(pub(super) Vec<Result<EncodedValue, Error>>);

impl EncodedInputs for StoredInputs {
    fn with_cells(&self, body: &mut dyn FnMut(&[Cell])) -> Result<(), String> {
        let mut cells = CallCells::new(self.0.len());
        for input in &self.0 {
            match input {
                Ok(EncodedValue { codec, bytes, regions, code }) => {
                    cells.push(OwnedCell::decode(code, *codec, bytes, regions)?);
                }
                Err(error) => cells.push_failure(error.clone()),
            }
        }
        cells.push_value_cell();
        body(cells.as_slice());
        Ok(())
    }
}
