//! The encodings of values.
//!
//! A value goes through serde into one of two formats of our own, [`fast`] and [`described`]. An [`Encoder`] puts a frame around each, so
//! that a value which cannot be decoded does not hide those after it. What is large lies in a [`Region`] beside the bytes: a value whose
//! encoding is longer than [`INLINE_MAX`] as a whole, an array by itself (see [`outside`]). The bytes name regions by their place in the
//! encoder's list.
//!
//! # What is always true
//!
//! 1. What a decoder reads may be anything. It does not panic; it does no more steps and asks for no more memory than the number of bytes
//!    is worth, times what the value's type makes of a byte; it does not recur deeper than 512 levels of the value.
//! 2. A value takes all the bytes of its frame, or it is an error.
//! 3. An encoder whose `write` fails, or panics, is as before.
//!
//! Both formats are ours because none of the well-kept ones does what is needed: fixed widths and room for arrays beside the bytes on the
//! one hand; on the other all of serde's data model (in MessagePack and CBOR `Some(())` comes back as `None`).

mod described;
mod failure;
mod fast;
mod input;
pub(super) mod out_of_band;
mod sink;

use super::region::{Memory, Region};
use failure::Failure;
use input::Input;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sink::{Appending, Counting, Filling, Sink};
use std::fmt;
#[cfg(test)]
use std::mem;

/// How long an encoded value may be, in bytes, before it goes to a region.
///
/// Through a socket a fresh value of any size is faster than through fresh shared memory (the page faults), and no faster than through
/// shared memory that is used again. The limit is about what a socket takes at once.
pub(crate) const INLINE_MAX: usize = 256 << 10;

/// The setting `processes.codec`: how values are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Codec {
    /// Numbers as they lie in memory, no field names: `"fast"`.
    #[default]
    Fast,
    /// With field names and types, for types that ask the decoder what comes next: `"self-describing"`.
    SelfDescribing,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Fast => "fast",
            Codec::SelfDescribing => "self-describing",
        })
    }
}

/// Why a value could not be encoded or decoded.
#[derive(Clone, Debug)]
pub struct CodecError(pub(crate) String);

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

/// Set in a frame's header if the value lies in a region, whose index follows; the other bits are the length.
const IN_REGION: u64 = 1 << 63;

/// Writes values one after the other.
#[derive(Debug)]
pub struct Encoder<'m> {
    bytes: Vec<u8>,
    regions: Vec<Region>,
    codec: Codec,
    memory: Option<&'m Memory>,
}

impl<'m> Encoder<'m> {
    /// Large values and arrays go to regions of `memory`; without it everything goes to the bytes.
    pub(crate) fn new(codec: Codec, memory: Option<&'m Memory>) -> Self {
        Encoder { bytes: Vec::new(), regions: Vec::new(), codec, memory }
    }

    /// Appends a value. After an error the encoder is as before.
    #[inline]
    pub(crate) fn write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        let mut frame = Frame::begin(self);
        frame.write(value)?;
        frame.is_whole = true;
        Ok(())
    }

    /// Appends what another encoder of the same codec has written, without memory.
    pub(crate) fn append(&mut self, written: &[u8]) {
        self.bytes.extend_from_slice(written);
    }

    #[cfg(test)]
    /// How many bytes have been written, regions not counted.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    #[cfg(test)]
    /// Whether no value has been written.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[cfg(test)]
    /// The regions that have been referred to.
    pub(crate) fn regions(&self) -> &[Region] {
        &self.regions
    }

    #[cfg(test)]
    /// What has been written, and the regions it refers to by their index. The encoder is empty then.
    pub(crate) fn take(&mut self) -> (Vec<u8>, Vec<Region>) {
        (mem::take(&mut self.bytes), mem::take(&mut self.regions))
    }

    /// What has been written, and the regions it refers to by their index.
    pub(crate) fn finish(self) -> (Vec<u8>, Vec<Region>) {
        (self.bytes, self.regions)
    }
}

/// A value that is being written. Unless it becomes whole, nothing of it stays.
struct Frame<'e, 'm> {
    encoder: &'e mut Encoder<'m>,
    start: usize,
    num_regions: usize,
    is_whole: bool,
}

impl<'e, 'm> Frame<'e, 'm> {
    #[inline]
    fn begin(encoder: &'e mut Encoder<'m>) -> Self {
        let (start, num_regions) = (encoder.bytes.len(), encoder.regions.len());
        Frame { encoder, start, num_regions, is_whole: false }
    }

    #[inline]
    fn write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        let Encoder { bytes, regions, codec, memory } = &mut *self.encoder;
        bytes.extend_from_slice(&[0; 8]);
        let content = bytes.len();
        let limit = if memory.is_some() { content + INLINE_MAX } else { usize::MAX };
        let (result, is_full) =
            encode(*codec, value, Appending::new(bytes, limit), *memory, regions, Appending::is_full);
        if is_full {
            return self.write_outside(value);
        }
        result?;
        let len = (bytes.len() - content) as u64;
        bytes[self.start..content].copy_from_slice(&len.to_le_bytes());
        Ok(())
    }

    #[cold]
    fn write_outside<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        self.roll_back();
        let Encoder { bytes, regions, codec, memory } = &mut *self.encoder;
        let memory = memory.expect("only with a memory is there a limit");
        let (result, len) = encode(*codec, value, Counting::new(), Some(memory), regions, Sink::position);
        result?;
        regions.truncate(self.num_regions);
        let mut target = memory.allocate(len)?;
        let (result, filled) = encode(*codec, value, Filling::new(&mut target), Some(memory), regions, Sink::position);
        result?;
        if filled != len {
            return Err(Failure::from(failure::Cause::Full).into());
        }
        let index = u32::try_from(regions.len()).map_err(|_| CodecError("too many regions".into()))?;
        regions.push(target.freeze());
        bytes.extend_from_slice(&(IN_REGION | len as u64).to_le_bytes());
        bytes.extend_from_slice(&index.to_le_bytes());
        Ok(())
    }

    fn roll_back(&mut self) {
        self.encoder.bytes.truncate(self.start);
        self.encoder.regions.truncate(self.num_regions);
    }
}

impl Drop for Frame<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_whole {
            self.roll_back();
        }
    }
}

/// How many bytes a value has when it is encoded, with all that it refers to; nothing is written.
pub(crate) fn encoded_len<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Result<usize, CodecError> {
    let (result, len) = encode(codec, value, Counting::new(), None, &mut Vec::new(), Sink::position);
    result.map(|()| len).map_err(CodecError::from)
}

/// Encodes into the sink, and looks at it afterwards.
#[inline]
fn encode<T: Serialize + ?Sized, S: Sink, R>(
    codec: Codec,
    value: &T,
    sink: S,
    memory: Option<&Memory>,
    regions: &mut Vec<Region>,
    look: impl FnOnce(&S) -> R,
) -> (Result<(), Failure>, R) {
    match codec {
        Codec::Fast => {
            let mut writer = fast::Writer::new(sink, memory, regions);
            let result = value.serialize(&mut writer);
            (result, look(writer.sink()))
        }
        Codec::SelfDescribing => {
            let mut writer = described::Writer::new(sink, memory, regions);
            let result = value.serialize(&mut writer);
            (result, look(writer.sink()))
        }
    }
}

/// Reads values in the order in which they were written.
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    regions: &'a [Region],
    codec: Codec,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(codec: Codec, bytes: &'a [u8], regions: &'a [Region]) -> Self {
        Decoder { bytes, regions, codec }
    }

    /// The next value. One that cannot be decoded is passed over.
    #[inline]
    pub(crate) fn read<T: DeserializeOwned>(&mut self) -> Result<T, CodecError> {
        let content = Input::new(self.read_frame()?, self.regions);
        match self.codec {
            Codec::Fast => {
                let mut reader = fast::Reader::new(content);
                let value = T::deserialize(&mut reader)?;
                whole(value, reader.input())
            }
            Codec::SelfDescribing => {
                let mut reader = described::Reader::new(content);
                let value = T::deserialize(&mut reader)?;
                whole(value, reader.input())
            }
        }
    }

    #[inline]
    fn read_frame(&mut self) -> Result<&'a [u8], Failure> {
        let mut frames = Input::new(self.bytes, self.regions);
        let header = u64::from_le_bytes(frames.take()?);
        let len = usize::try_from(header & !IN_REGION).unwrap_or(usize::MAX);
        let content = if header & IN_REGION == 0 {
            frames.take_slice(len)?
        } else {
            let region = frames.take_region()?;
            region.get(..len).ok_or_else(|| Failure::message("a value is longer than its region"))?
        };
        self.bytes = &self.bytes[self.bytes.len() - frames.remaining()..];
        Ok(content)
    }

    /// Whether all values have been read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Fails if there are values that have not been read.
    pub(crate) fn finish(self) -> Result<(), CodecError> {
        if self.is_at_end() {
            Ok(())
        } else {
            Err(CodecError(format!("{} bytes after the last value", self.bytes.len())))
        }
    }
}

#[inline]
fn whole<T>(value: T, input: &Input<'_>) -> Result<T, CodecError> {
    if input.remaining() == 0 { Ok(value) } else { Err(CodecError("the type reads less than it writes".into())) }
}

#[cfg(test)]
mod tests;
