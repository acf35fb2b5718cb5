//! Bytes to be decoded, which may be anything.

use super::failure::{Cause, Failure};
use crate::portable::region::Region;

/// How deep values may be nested.
///
/// Decoding recurs, so without a limit bytes could be made up that overflow the stack. Encoding keeps to the same limit: what is encoded
/// can be decoded.
pub(super) const MAX_DEPTH: u32 = 512;

/// What is left of the bytes.
pub(super) struct Input<'de> {
    rest: &'de [u8],
    regions: &'de [Region],
    depth: u32,
}

impl<'de> Input<'de> {
    pub(super) fn new(bytes: &'de [u8], regions: &'de [Region]) -> Self {
        Input { rest: bytes, regions, depth: 0 }
    }

    #[inline(always)]
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        match self.rest.split_first_chunk() {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(*bytes)
            }
            None => Err(Failure::from(Cause::TooShort)),
        }
    }

    #[inline]
    pub(super) fn take_slice(&mut self, len: usize) -> Result<&'de [u8], Failure> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(|| Failure::from(Cause::TooShort))?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn take_str(&mut self, len: usize) -> Result<&'de str, Failure> {
        std::str::from_utf8(self.take_slice(len)?).map_err(|_| Failure::message("a string is not UTF-8"))
    }

    /// A number of things each of which takes a byte or more.
    #[inline]
    pub(super) fn take_count(&mut self) -> Result<usize, Failure> {
        let count = u64::from_le_bytes(self.take()?);
        if count > self.rest.len() as u64 {
            return Err(Failure::from(Cause::TooShort));
        }
        Ok(count as usize)
    }

    pub(super) fn peek(&self) -> Result<u8, Failure> {
        self.rest.first().copied().ok_or_else(|| Failure::from(Cause::TooShort))
    }

    #[inline(always)]
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The region that is referred to by what comes next.
    pub(super) fn take_region(&mut self) -> Result<&'de Region, Failure> {
        let index = u32::from_le_bytes(self.take()?);
        self.regions.get(index as usize).ok_or_else(|| Failure::message(format!("there is no region {index}")))
    }

    /// One level down; to be followed by [`Input::leave`].
    #[inline(always)]
    pub(super) fn enter(&mut self) -> Result<(), Failure> {
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
pub(super) fn too_deep() -> Failure {
    Failure::message(format!("a value is nested more than {MAX_DEPTH} levels deep"))
}
