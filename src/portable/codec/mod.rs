//! The encodings of values.
//!
//! A value goes through serde into one of the two formats of [`format`]. An [`Encoder`] puts a
//! frame around each value, so that a value that cannot be decoded does not hide the values after
//! it. Large data lies in a [`Region`] beside the bytes: a value whose encoding is longer than
//! [`INLINE_MAX`] lies there as a whole, a large array by itself (see [`out_of_band`]). The bytes
//! name a region by its position in the encoder's list.
//!
//! # What is always true
//!
//! 1. A decoder accepts any bytes without a panic. Its steps and the memory it asks for are bounded
//!    by the number of bytes, times what the value's type makes of a byte. It does not recur deeper
//!    than 512 levels of the value, and an encoder writes nothing deeper.
//! 2. A value takes all the bytes of its frame, or decoding it is an error.
//! 3. An encoder whose `write` fails, or panics, is unchanged.
//!
//! Both formats are our own because no well-kept format meets the needs: fixed widths and arrays
//! beside the bytes for the fast one; all of serde's data model for the other (in MessagePack and
//! CBOR `Some(())` comes back as `None`).

mod deserializer;
mod format;
mod input;
pub(super) mod number;
pub(super) mod out_of_band;
mod serializer;
mod sink;
mod untyped;

pub(crate) use super::error::CodecError;
use super::region::{Memory, Region};
use deserializer::ValueDeserializer;
use format::{Fast, Format, SelfDescribing};
use input::ValueInput;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serializer::ValueSerializer;
use sink::{Appending, Counting, Filling, Sink};
use std::fmt;
#[cfg(test)]
use std::mem;

/// How long an encoded value may be, in bytes, before it goes to a region.
///
/// Through a socket a fresh value of any size is faster than through fresh shared memory (the page
/// faults), and no faster than through shared memory that is used again. The limit is about what a
/// socket takes at once.
pub(crate) const INLINE_MAX: usize = 256 << 10;

/// The setting `processes.codec`: how values are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Codec {
    /// Numbers as they lie in memory, no field names: `"fast"`.
    #[default]
    Fast,
    /// With field names and types, for types that ask the decoder what comes next:
    /// `"self-describing"`.
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

/// Set in a frame's header if the value lies in a region, whose index follows; the other bits are
/// the length.
const IN_REGION: u64 = 1 << 63;

/// Writes values one after another.
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

    /// Appends a value. After an error the encoder is unchanged.
    #[inline]
    pub(crate) fn write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        let mut frame = ValueFrame::begin(self);
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
    /// What has been written, and the regions it refers to by their index. The encoder is empty
    /// then.
    pub(crate) fn take(&mut self) -> (Vec<u8>, Vec<Region>) {
        (mem::take(&mut self.bytes), mem::take(&mut self.regions))
    }

    /// What has been written, and the regions it refers to by their index.
    pub(crate) fn finish(self) -> (Vec<u8>, Vec<Region>) {
        (self.bytes, self.regions)
    }
}

/// A value that is being written. Dropping it before it is whole removes what was written of it.
struct ValueFrame<'e, 'm> {
    encoder: &'e mut Encoder<'m>,
    start: usize,
    num_regions: usize,
    is_whole: bool,
}

impl<'e, 'm> ValueFrame<'e, 'm> {
    #[inline]
    fn begin(encoder: &'e mut Encoder<'m>) -> Self {
        let (start, num_regions) = (encoder.bytes.len(), encoder.regions.len());
        ValueFrame { encoder, start, num_regions, is_whole: false }
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
            return self.write_to_region(value);
        }
        result?;
        let len = (bytes.len() - content) as u64;
        bytes[self.start..content].copy_from_slice(&len.to_le_bytes());
        Ok(())
    }

    #[cold]
    fn write_to_region<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        self.roll_back();
        let Encoder { bytes, regions, codec, memory } = &mut *self.encoder;
        let memory = memory.expect("only with a memory is there a limit");
        let (result, len) = encode(*codec, value, Counting::default(), Some(memory), regions, Sink::position);
        result?;
        regions.truncate(self.num_regions);
        let mut target = memory.allocate(len)?;
        let (result, filled) = encode(*codec, value, Filling::new(&mut target), Some(memory), regions, Sink::position);
        result?;
        if filled != len {
            return Err(sink::full());
        }
        let index = u32::try_from(regions.len()).map_err(|_| CodecError::new("too many regions"))?;
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

impl Drop for ValueFrame<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_whole {
            self.roll_back();
        }
    }
}

/// The length of the value's encoding in bytes, with all that it refers to. Nothing is written.
pub(crate) fn encoded_len<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Result<usize, CodecError> {
    let (result, len) = encode(codec, value, Counting::default(), None, &mut Vec::new(), Sink::position);
    result.map(|()| len)
}

/// Encodes into the sink; also returns what `inspect` says of the sink afterwards.
#[inline]
fn encode<T: Serialize + ?Sized, S: Sink, R>(
    codec: Codec,
    value: &T,
    sink: S,
    memory: Option<&Memory>,
    regions: &mut Vec<Region>,
    inspect: impl FnOnce(&S) -> R,
) -> (Result<(), CodecError>, R) {
    match codec {
        Codec::Fast => {
            let mut serializer = ValueSerializer::<Fast, S>::new(sink, memory, regions);
            (value.serialize(&mut serializer), inspect(serializer.sink()))
        }
        Codec::SelfDescribing => {
            let mut serializer = ValueSerializer::<SelfDescribing, S>::new(sink, memory, regions);
            (value.serialize(&mut serializer), inspect(serializer.sink()))
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

    /// The next value. After an error the next call reads the value after it.
    #[inline]
    pub(crate) fn read<T: DeserializeOwned>(&mut self) -> Result<T, CodecError> {
        let content = ValueInput::new(self.read_frame()?, self.regions);
        match self.codec {
            Codec::Fast => decode::<T, Fast>(content),
            Codec::SelfDescribing => decode::<T, SelfDescribing>(content),
        }
    }

    #[inline]
    fn read_frame(&mut self) -> Result<&'a [u8], CodecError> {
        let mut frames = ValueInput::new(self.bytes, self.regions);
        let header = u64::from_le_bytes(frames.take()?);
        let len = usize::try_from(header & !IN_REGION).unwrap_or(usize::MAX);
        let content = if header & IN_REGION == 0 {
            frames.take_slice(len)?
        } else {
            let region = frames.take_region()?;
            region.get(..len).ok_or_else(|| CodecError::new("a value is longer than its region"))?
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
            Err(CodecError::new(format!("{} bytes after the last value", self.bytes.len())))
        }
    }
}

#[inline]
fn decode<T: DeserializeOwned, F: Format>(content: ValueInput<'_>) -> Result<T, CodecError> {
    let mut deserializer = ValueDeserializer::<F>::new(content);
    let value = T::deserialize(&mut deserializer)?;
    if deserializer.input.remaining() == 0 {
        Ok(value)
    } else {
        Err(CodecError::new("the type reads less than it writes"))
    }
}

#[cfg(test)]
mod tests;
