//! The destinations of encoded bytes: a vector, a region of known size, or a counter.

use crate::portable::error::CodecError;

/// Takes bytes one after another.
pub(super) trait Sink {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), CodecError>;

    fn put_slice(&mut self, bytes: &[u8]) -> Result<(), CodecError>;

    /// How many bytes were put, counted from an origin that the sink chooses.
    fn position(&self) -> usize;

    /// Overwrites bytes that were put at this position.
    fn patch<const N: usize>(&mut self, position: usize, bytes: [u8; N]);
}

/// The sink has no room. A value that was counted first has changed since, as another thread or the
/// value itself can do.
#[cold]
pub(super) fn full() -> CodecError {
    CodecError::new("the value was not the same each time it was looked at")
}

/// Appends to a vector, up to a length of it.
pub(super) struct Appending<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
    is_full: bool,
}

impl<'a> Appending<'a> {
    /// Refuses what would make the vector longer than `limit`.
    pub(super) fn new(bytes: &'a mut Vec<u8>, limit: usize) -> Self {
        Appending { bytes, limit, is_full: false }
    }

    /// Whether something was refused.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    #[cold]
    fn refuse(&mut self) -> CodecError {
        self.is_full = true;
        full()
    }
}

impl Sink for Appending<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), CodecError> {
        if self.bytes.len() + N > self.limit {
            return Err(self.refuse());
        }
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
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

    fn patch<const N: usize>(&mut self, position: usize, bytes: [u8; N]) {
        self.bytes[position..position + N].copy_from_slice(&bytes);
    }
}

/// Counts bytes, so that a region can get the right size.
#[derive(Default)]
pub(super) struct Counting {
    len: usize,
}

impl Sink for Counting {
    #[inline(always)]
    fn put<const N: usize>(&mut self, _: [u8; N]) -> Result<(), CodecError> {
        self.len += N;
        Ok(())
    }

    #[inline(always)]
    fn put_slice(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        self.len += bytes.len();
        Ok(())
    }

    #[inline(always)]
    fn position(&self) -> usize {
        self.len
    }

    fn patch<const N: usize>(&mut self, _: usize, _: [u8; N]) {}
}

/// Fills memory whose size was counted before.
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
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), CodecError> {
        let place = self.bytes.get_mut(self.position..).and_then(|rest| rest.first_chunk_mut());
        *place.ok_or_else(full)? = bytes;
        self.position += N;
        Ok(())
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        let place = self.bytes.get_mut(self.position..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or_else(full)?.copy_from_slice(bytes);
        self.position += bytes.len();
        Ok(())
    }

    #[inline(always)]
    fn position(&self) -> usize {
        self.position
    }

    fn patch<const N: usize>(&mut self, position: usize, bytes: [u8; N]) {
        self.bytes[position..position + N].copy_from_slice(&bytes);
    }
}
