//! The bytes of a value to be decoded. They may be anything.

use crate::portable::error::CodecError;
use crate::portable::region::Region;

/// How deep values may be nested.
///
/// Decoding recurs, so without a limit malformed bytes could overflow the stack. Encoding counts at
/// least as many levels as decoding, so that every encoded value can be decoded.
pub(super) const MAX_DEPTH: u32 = 512;

/// The bytes that are left, and the regions that they refer to.
pub(super) struct ValueInput<'de> {
    rest: &'de [u8],
    regions: &'de [Region],
    depth: u32,
}

impl<'de> ValueInput<'de> {
    pub(super) fn new(bytes: &'de [u8], regions: &'de [Region]) -> Self {
        ValueInput { rest: bytes, regions, depth: 0 }
    }

    #[inline(always)]
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        match self.rest.split_first_chunk() {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(*bytes)
            }
            None => Err(too_short()),
        }
    }

    #[inline]
    pub(super) fn take_slice(&mut self, len: usize) -> Result<&'de [u8], CodecError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(too_short)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn take_str(&mut self, len: usize) -> Result<&'de str, CodecError> {
        std::str::from_utf8(self.take_slice(len)?).map_err(|_| CodecError::new("a string is not UTF-8"))
    }

    /// A count of items that take at least one byte each.
    #[inline]
    pub(super) fn take_count(&mut self) -> Result<usize, CodecError> {
        let count = u64::from_le_bytes(self.take()?);
        if count > self.rest.len() as u64 {
            return Err(too_short());
        }
        Ok(count as usize)
    }

    pub(super) fn peek(&self) -> Result<u8, CodecError> {
        self.rest.first().copied().ok_or_else(too_short)
    }

    #[inline(always)]
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The region that the next bytes refer to.
    pub(super) fn take_region(&mut self) -> Result<&'de Region, CodecError> {
        let index = u32::from_le_bytes(self.take()?);
        self.regions.get(index as usize).ok_or_else(|| CodecError::new(format!("there is no region {index}")))
    }

    /// Goes one level down, until [`ValueInput::leave`].
    #[inline(always)]
    pub(super) fn enter(&mut self) -> Result<(), CodecError> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        Ok(())
    }

    #[inline(always)]
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }
}

#[cold]
fn too_short() -> CodecError {
    CodecError::new("the bytes end before the value does")
}

#[cold]
pub(super) fn too_deep() -> CodecError {
    CodecError::new(format!("a value is nested more than {MAX_DEPTH} levels deep"))
}
