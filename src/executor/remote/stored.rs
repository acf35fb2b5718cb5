//! The encoded inputs of a task that has failed in another process, for a replay in this one.

use super::schedule::Value;
use crate::engine::EncodedInputs;
use crate::executor::remote::values::{CallCells, OwnedCell};
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

impl EncodedInputs for StoredInputs {
    fn with_cells(&self, body: &mut dyn FnMut(&[Cell])) -> Result<(), String> {
        let mut cells = CallCells::new(self.values.len());
        for Stored { codec, bytes, regions, code } in &self.values {
            cells.push(OwnedCell::decode(code, *codec, bytes, regions)?);
        }
        cells.push_value_cell();
        body(cells.as_slice());
        Ok(())
    }
}
