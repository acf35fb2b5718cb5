//! Where encoded bytes go: to a vector, to a region of known size, or nowhere, to be counted.

use super::failure::{Cause, Failure};

/// Takes bytes in the order of their places.
pub(super) trait Sink {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), Failure>;

    fn put_slice(&mut self, bytes: &[u8]) -> Result<(), Failure>;

    /// How many bytes were put, counted from an origin of the sink's choice.
    fn position(&self) -> usize;

    /// Writes over eight bytes that were put at this position.
    fn patch(&mut self, position: usize, bytes: [u8; 8]);
}

/// Appends to a vector, up to a length of it.
pub(super) struct Appending<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
    is_full: bool,
}

impl<'a> Appending<'a> {
    /// Once the vector would be longer than `limit`, all is refused.
    pub(super) fn new(bytes: &'a mut Vec<u8>, limit: usize) -> Self {
        Appending { bytes, limit, is_full: false }
    }

    /// Whether something was refused.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    #[cold]
    fn refuse(&mut self) -> Failure {
        self.is_full = true;
        Failure::from(Cause::Full)
    }
}

impl Sink for Appending<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), Failure> {
        if self.bytes.len() + N > self.limit {
            return Err(self.refuse());
        }
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.len() > self.limit.saturating_sub(self.bytes.len()) {
            return Err(self.refuse());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    #[inline(always)]
    fn position(&self) -> usize {
        self.bytes.len()
    }

    fn patch(&mut self, position: usize, bytes: [u8; 8]) {
        self.bytes[position..position + 8].copy_from_slice(&bytes);
    }
}

/// Counts, so that a region can have the right size.
pub(super) struct Counting {
    len: usize,
}

impl Counting {
    pub(super) fn new() -> Self {
        Counting { len: 0 }
    }
}

impl Sink for Counting {
    #[inline(always)]
    fn put<const N: usize>(&mut self, _: [u8; N]) -> Result<(), Failure> {
        self.len += N;
        Ok(())
    }

    #[inline(always)]
    fn put_slice(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.len += bytes.len();
        Ok(())
    }

    #[inline(always)]
    fn position(&self) -> usize {
        self.len
    }

    fn patch(&mut self, _: usize, _: [u8; 8]) {}
}

/// Fills bytes that were counted before.
pub(super) struct Filling<'a> {
    bytes: &'a mut [u8],
    position: usize,
}

impl<'a> Filling<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Filling { bytes, position: 0 }
    }
}

impl Sink for Filling<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), Failure> {
        let place = self.bytes.get_mut(self.position..).and_then(|rest| rest.first_chunk_mut());
        *place.ok_or_else(|| Failure::from(Cause::Full))? = bytes;
        self.position += N;
        Ok(())
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let place = self.bytes.get_mut(self.position..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or_else(|| Failure::from(Cause::Full))?.copy_from_slice(bytes);
        self.position += bytes.len();
        Ok(())
    }

    #[inline(always)]
    fn position(&self) -> usize {
        self.position
    }

    fn patch(&mut self, position: usize, bytes: [u8; 8]) {
        self.bytes[position..position + 8].copy_from_slice(&bytes);
    }
}
