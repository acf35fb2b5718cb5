//! The encoded inputs of a task that has failed in another process, for a replay in this one.

#![expect(unsafe_code, reason = "it drops values through the code of their types")]

use super::schedule::Value;
use super::worker::decode;
use crate::engine::{EncodedInputs, quietly};
use crate::graph::crossing::ValueCode;
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::Codec;
use crate::portable::region::Region;

/// Copies, so that what is known of workers that have the values ends with the run.
pub(super) struct StoredInputs {
    values: Vec<Stored>,
}

struct Stored {
    codec: Codec,
    bytes: Box<[u8]>,
    regions: Vec<Region>,
    code: &'static CodeDescriptor<ValueCode>,
}

impl StoredInputs {
    pub(super) fn new<'v>(values: impl Iterator<Item = &'v Value>) -> Self {
        let store = |value: &Value| Stored {
            codec: value.codec,
            bytes: value.bytes.clone(),
            regions: value.regions.clone(),
            code: value.code,
        };
        StoredInputs { values: values.map(store).collect() }
    }
}

/// Drops what it holds, also on the way out of a value that panics when it is decoded.
struct Decoded<'s> {
    values: &'s [Stored],
    cells: Vec<Cell>,
}

impl Drop for Decoded<'_> {
    fn drop(&mut self) {
        for (cell, value) in self.cells.iter().zip(self.values) {
            if let Some(drop_value) = value.code.item.drop_value {
                // SAFETY: the call is over, and the cell was filled by this code.
                quietly(|| unsafe { cell.sweep(drop_value) });
            }
        }
    }
}

impl EncodedInputs for StoredInputs {
    fn with_cells(&self, body: &mut dyn FnMut(&[Cell])) -> Result<(), String> {
        let mut decoded = Decoded { values: &self.values, cells: Vec::with_capacity(self.values.len() + 1) };
        for Stored { codec, bytes, regions, code } in &self.values {
            decoded.cells.push(decode(code, *codec, bytes, regions)?);
        }
        decoded.cells.push(Cell::new(1));
        body(&decoded.cells);
        Ok(())
    }
}
