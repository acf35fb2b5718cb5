//! Values outside a run. They are decoded into cells, encoded from them, and dropped with them.
//!
//! # What is always true
//!
//! 1. A cell here is empty or has a value of the type of the code beside it, or an error if there
//!    is no code, and belongs to no run. Only its owner takes the value.
//! 2. A cell that shows another cell's value is dropped before that cell, or before its value is
//!    taken.

#![expect(unsafe_code, reason = "cells without a type, whose values the code of their types handles")]

use crate::engine::{describe_panic, quietly};
use crate::error::Error;
use crate::graph::crossing::ValueCode;
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{Codec, Decoder, Encoder};
use crate::portable::region::{Memory, Region};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The code that handles the values of one type.
pub(crate) type CellCode = &'static CodeDescriptor<ValueCode>;

/// A cell and the code of its value. The value is dropped with it.
pub(crate) struct OwnedCell {
    cell: Cell,
    pub(crate) code: CellCode,
}

impl OwnedCell {
    /// Decodes a value into a new cell.
    ///
    /// # Errors
    /// A text that names the type and the problem.
    pub(crate) fn decode(code: CellCode, codec: Codec, bytes: &[u8], regions: &[Region]) -> Result<OwnedCell, String> {
        let owned = OwnedCell { cell: Cell::new(1), code };
        let mut decoder = Decoder::new(codec, bytes, regions);
        // SAFETY: `Cell::put` needs a cell that nobody has written and that nobody reads yet. This
        // one is new.
        let decoded = catch_unwind(AssertUnwindSafe(|| unsafe { (code.item.decode)(&mut decoder, &owned.cell) }));
        let problem = match decoded.map(|result| result.and_then(|()| decoder.finish())) {
            Ok(Ok(())) => return Ok(owned),
            Ok(Err(error)) => error.to_string(),
            Err(payload) => format!("decoding panicked: {}", describe_panic(payload)),
        };
        Err(format!("cannot decode a `{}`: {problem}", (code.item.type_name)()))
    }

    /// # Errors
    /// As [`encode`].
    ///
    /// # Safety
    /// The cell has a value.
    pub(crate) unsafe fn encode(
        &self,
        codec: Codec,
        memory: Option<&Memory>,
    ) -> Result<(Vec<u8>, Vec<Region>), String> {
        // SAFETY: the caller says that there is a value, which has the code's type (rule 1). This
        // borrow of the owner keeps it in place.
        unsafe { encode(&self.cell, self.code, codec, memory) }
    }

    /// A cell that shows the value.
    ///
    /// # Safety
    /// The cell has a value, and the caller keeps rule 2.
    pub(crate) unsafe fn show(&self) -> OwnedCell {
        let shown = Cell::new(1);
        // SAFETY: `Cell::peek` needs a value of the code's type: the caller says that there is one,
        // and rule 1 gives the type. `Cell::put_external` needs a new cell, and a value that
        // outlives its use (rule 2).
        unsafe { (self.code.item.share)(&self.cell, &shown) };
        OwnedCell { cell: shown, code: self.code }
    }

    /// Moves the value out, into the cell of another owner.
    pub(crate) fn take(&mut self) -> OwnedCell {
        OwnedCell { cell: std::mem::replace(&mut self.cell, Cell::new(0)), code: self.code }
    }
}

impl Drop for OwnedCell {
    fn drop(&mut self) {
        drop_value(&self.cell, self.code);
    }
}

/// The cells of one call: one for each input, and one for its value. Values of inputs are dropped
/// with them.
pub(crate) struct CallCells {
    cells: Vec<Cell>,
    /// `None` for an input that has failed.
    codes: Vec<Option<CellCode>>,
}

impl CallCells {
    pub(crate) fn new(num_inputs: usize) -> Self {
        CallCells { cells: Vec::with_capacity(num_inputs + 1), codes: Vec::with_capacity(num_inputs + 1) }
    }

    pub(crate) fn push(&mut self, mut cell: OwnedCell) {
        self.cells.push(std::mem::replace(&mut cell.cell, Cell::new(0)));
        self.codes.push(Some(cell.code));
    }

    /// Adds an input that has failed, for a call that takes its error.
    pub(crate) fn push_failure(&mut self, error: Error) {
        let cell = Cell::new(1);
        // SAFETY: the cell is new and empty.
        unsafe { cell.put_failure(0, Some(error), 1) };
        self.cells.push(cell);
        self.codes.push(None);
    }

    /// Adds the empty cell for the value, after those of the inputs.
    pub(crate) fn push_value_cell(&mut self) {
        self.cells.push(Cell::new(1));
    }

    /// Takes the cell that was added last, by [`push_value_cell`](CallCells::push_value_cell).
    ///
    /// # Safety
    /// The cell is empty or has a value of the code's type (rule 1).
    pub(crate) unsafe fn pop_value_cell(&mut self, code: CellCode) -> OwnedCell {
        debug_assert!(self.cells.len() > self.codes.len(), "the last cell is an input's");
        OwnedCell { cell: self.cells.pop().unwrap_or(Cell::new(0)), code }
    }

    pub(crate) fn as_slice(&self) -> &[Cell] {
        &self.cells
    }
}

impl Drop for CallCells {
    fn drop(&mut self) {
        for (cell, code) in self.cells.iter().zip(&self.codes) {
            match code {
                Some(code) => drop_value(cell, code),
                // SAFETY: the owner of the cell is dropped, so nobody reads the error any more.
                None => quietly(|| unsafe { cell.sweep_failure() }),
            }
        }
    }
}

/// Drops the value of a cell if it still has one. A panic of the value affects nothing else.
fn drop_value(cell: &Cell, code: CellCode) {
    if let Some(drop_value) = code.item.drop_value {
        // SAFETY: the owner of the cell is dropped, so nobody reads the cell and no cell shows its
        // value any more (rule 2). The value has the type that `drop_value` is for (rule 1).
        quietly(|| unsafe { cell.sweep(drop_value) });
    }
}

/// Encodes the value of a cell.
///
/// # Errors
/// A text that names the type and the problem.
///
/// # Safety
/// The cell has a value of the code's type, which stays there until this returns.
pub(crate) unsafe fn encode(
    cell: &Cell,
    code: CellCode,
    codec: Codec,
    memory: Option<&Memory>,
) -> Result<(Vec<u8>, Vec<Region>), String> {
    let mut encoder = Encoder::new(codec, memory);
    // SAFETY: `Cell::peek` needs a value of the code's type that is not taken meanwhile: the caller
    // says so.
    match catch_unwind(AssertUnwindSafe(|| unsafe { (code.item.encode)(cell, &mut encoder) })) {
        Ok(Ok(())) => Ok(encoder.finish()),
        Ok(Err(error)) => Err(cannot_encode(code, error)),
        Err(payload) => Err(cannot_encode(code, format!("encoding panicked: {}", describe_panic(payload)))),
    }
}

pub(crate) fn cannot_encode(code: CellCode, problem: impl Display) -> String {
    format!("cannot encode its value, a `{}`: {problem}", (code.item.type_name)())
}
