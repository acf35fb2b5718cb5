//! The encoded call: how one call and its result are written as bytes.
//!
//! Calls and results are many and small, so none is a message by itself: the calls of a batch lie
//! one after the other in the bytes of one message, and so do their results. [`CallWriter`] writes
//! them and [`CallReader`] reads them.
//!
//! Both are written by hand. With serde's derives and postcard, a call without inputs took 36 ns to
//! write and 39 ns to read instead of 14 and 18, and a result 35 and 24 instead of 12 and 8 (least
//! of 3000 times 200 calls, 2 cores, 30 November 2026); a whole task takes 260 ns (bench
//! `processes`).
//!
//! A value is its encoding and references to the regions that the encoding refers to. The
//! executor's protocol sends the regions themselves.

use crate::error::{EncodedError, Error, ErrorKind, RemoteError};
use crate::portable::exchange::RegionRef;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// Bytes that serde treats as a byte string, not as a list of numbers.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ByteString(
    #[serde(serialize_with = "serialize_bytes", deserialize_with = "deserialize_bytes")] pub(crate) Vec<u8>,
);

fn serialize_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn deserialize_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    <&[u8]>::deserialize(deserializer).map(Vec::from)
}

impl fmt::Debug for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// An encoded value inside a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoding<'a> {
    pub(crate) bytes: &'a [u8],
    /// The regions that the bytes refer to.
    pub(crate) regions: Vec<RegionRef>,
}

/// The smallest value, in encoded bytes, that a worker keeps for later batches. A smaller one is
/// sent again.
pub(crate) const KEEP_MIN_BYTES: usize = 4 << 10;

/// One call of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    pub(crate) code: u32,
    /// The task's name, if the user gave one. Without one the task is named after its function.
    pub(crate) name: Option<&'a str>,
    /// The value is sent to the parent. Otherwise only later calls of the batch read it.
    pub(crate) ship: bool,
    /// The key under which the worker keeps the value for later batches; 0 if it does not keep the
    /// value.
    pub(crate) keep: u64,
    pub(crate) inputs: Vec<CallInput<'a>>,
    pub(crate) args: Encoding<'a>,
}

/// Where a call finds the value of an input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallInput<'a> {
    /// The value of an earlier call of the batch. If that fails, the call may take the error.
    Earlier { index: u32, takes_error: bool },
    /// A kept value.
    Kept(u64),
    /// An encoded value. The worker keeps it under the key `keep`, unless that is 0.
    Value { code: u32, keep: u64, value: Encoding<'a> },
    /// The error of a task that has failed, as [`encode_error`] encodes it.
    Failed(&'a [u8]),
}

/// How one call ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallOutcome<'a> {
    /// With a value; `None` if the call did not ask for it to be sent.
    Value(Option<Encoding<'a>>),
    /// With an `Err`; the texts are its own and those of its sources, outermost first.
    Returned(Vec<String>),
    Panicked(String),
    /// The arguments could not be decoded, or the value not encoded.
    NotPortable(String),
    /// The value of an input, counted in the call, could not be decoded.
    LacksInput(u32, String),
    /// An input of the call comes from an earlier call that gave no value.
    Skipped,
}

impl CallOutcome<'_> {
    /// The error of a call that has failed, without the name of its task. `None` for a call with a
    /// value or without an outcome of its own.
    pub(crate) fn error(&self) -> Option<Error> {
        match self {
            CallOutcome::Returned(texts) => {
                let error = Error::new(ErrorKind::Failed, texts.first().cloned().unwrap_or_default());
                Some(match RemoteError::new(texts.clone()) {
                    Some(source) => error.with_source(Arc::new(source) as Arc<dyn std::error::Error + Send + Sync>),
                    None => error,
                })
            }
            CallOutcome::Panicked(message) => Some(Error::new(ErrorKind::Panicked, message.as_str())),
            CallOutcome::NotPortable(message) => Some(Error::new(ErrorKind::NotPortable, message.as_str())),
            CallOutcome::Value(_) | CallOutcome::LacksInput(..) | CallOutcome::Skipped => None,
        }
    }
}

/// The bytes of an error, for a call that takes it.
pub(crate) fn encode_error(error: &Error) -> Vec<u8> {
    postcard::to_stdvec(&EncodedError::new(error)).expect("every error can be encoded")
}

/// The error that [`encode_error`] has encoded.
pub(crate) fn decode_error(bytes: &[u8]) -> Result<Error, Malformed> {
    postcard::from_bytes::<EncodedError>(bytes).map(EncodedError::decode).map_err(|_| Malformed)
}

/// When a call started, on the clock that both sides share, and how long it ran. Both are 0 if it
/// did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) started_ns: u64,
    pub(crate) ns: u64,
}

/// The result of one call of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CallResult<'a> {
    /// The call's index in its batch.
    pub(crate) index: u32,
    pub(crate) ran: Ran,
    /// The worker keeps the value, as the call asked.
    pub(crate) kept: bool,
    pub(crate) outcome: CallOutcome<'a>,
}

/// The bytes do not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl std::error::Error for Malformed {}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message that cannot be read")
    }
}

/// Writes calls and results one after the other.
#[derive(Debug, Default)]
pub(crate) struct CallWriter {
    bytes: Vec<u8>,
}

impl CallWriter {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn finish(self) -> ByteString {
        ByteString(self.bytes)
    }

    fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("what goes into a message is far below 4 GiB"));
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn encoding(&mut self, encoding: &Encoding<'_>) {
        self.u32(encoding.regions.len() as u32);
        for region in &encoding.regions {
            self.u64(region.id);
            self.u64(region.len);
        }
        self.bytes(encoding.bytes);
    }

    /// Begins a call. Its `num_inputs` inputs follow, then the [`encoding`](CallWriter::encoding)
    /// of its arguments. Returns the position for [`CallWriter::ship`].
    pub(crate) fn call(&mut self, code: u32, name: Option<&str>, keep: u64, num_inputs: u32) -> usize {
        let position = self.bytes.len();
        self.u8(1);
        self.u32(code);
        self.u64(keep);
        self.bytes(name.unwrap_or_default().as_bytes());
        self.u32(num_inputs);
        position
    }

    /// Sets whether the value of a call is sent, after the call was written.
    pub(crate) fn ship(&mut self, position: usize, ship: bool) {
        self.bytes[position] = u8::from(ship);
    }

    pub(crate) fn input(&mut self, input: &CallInput<'_>) {
        match input {
            CallInput::Earlier { index, takes_error } => {
                self.u8(if *takes_error { 3 } else { 0 });
                self.u32(*index);
            }
            CallInput::Kept(key) => {
                self.u8(1);
                self.u64(*key);
            }
            CallInput::Value { code, keep, value } => {
                self.u8(2);
                self.u32(*code);
                self.u64(*keep);
                self.encoding(value);
            }
            CallInput::Failed(error) => {
                self.u8(4);
                self.bytes(error);
            }
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn whole_call(&mut self, call: &Call<'_>) {
        let position = self.call(call.code, call.name, call.keep, call.inputs.len() as u32);
        self.ship(position, call.ship);
        call.inputs.iter().for_each(|input| self.input(input));
        self.encoding(&call.args);
    }

    pub(crate) fn result(&mut self, result: &CallResult<'_>) {
        self.u32(result.index);
        self.u64(result.ran.started_ns);
        self.u64(result.ran.ns);
        match &result.outcome {
            CallOutcome::Value(Some(value)) => {
                self.u8(u8::from(result.kept));
                self.encoding(value);
            }
            CallOutcome::Value(None) => self.u8(2),
            CallOutcome::Returned(texts) => {
                self.u8(3);
                self.u32(texts.len() as u32);
                texts.iter().for_each(|text| self.bytes(text.as_bytes()));
            }
            CallOutcome::Panicked(message) => {
                self.u8(4);
                self.bytes(message.as_bytes());
            }
            CallOutcome::NotPortable(message) => {
                self.u8(5);
                self.bytes(message.as_bytes());
            }
            CallOutcome::LacksInput(input, message) => {
                self.u8(6);
                self.u32(*input);
                self.bytes(message.as_bytes());
            }
            CallOutcome::Skipped => self.u8(7),
        }
    }
}

/// Reads the bytes of a [`CallWriter`]. It never panics, and it allocates no more than the number
/// of bytes can justify.
#[derive(Debug)]
pub(crate) struct CallReader<'a> {
    bytes: &'a [u8],
}

impl<'a> CallReader<'a> {
    pub(crate) fn new(bytes: &'a ByteString) -> Self {
        CallReader { bytes: &bytes.0 }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.bytes.is_empty()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?))
    }

    fn sized(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    fn str(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.sized()?).map_err(|_| Malformed)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        self.str().map(str::to_owned)
    }

    /// A list whose items take at least `min_len` bytes each.
    fn list<T>(
        &mut self,
        min_len: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let len = self.u32()? as usize;
        if len > self.bytes.len() / min_len {
            return Err(Malformed);
        }
        (0..len).map(|_| item(self)).collect()
    }

    fn encoding(&mut self) -> Result<Encoding<'a>, Malformed> {
        let regions = self.list(16, |reader| Ok(RegionRef { id: reader.u64()?, len: reader.u64()? }))?;
        Ok(Encoding { bytes: self.sized()?, regions })
    }

    pub(crate) fn call(&mut self) -> Result<Call<'a>, Malformed> {
        let ship = self.truth()?;
        let (code, keep) = (self.u32()?, self.u64()?);
        let name = Some(self.str()?).filter(|name| !name.is_empty());
        let inputs = self.list(5, Self::input)?;
        Ok(Call { code, name, ship, keep, inputs, args: self.encoding()? })
    }

    fn truth(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn input(&mut self) -> Result<CallInput<'a>, Malformed> {
        match self.u8()? {
            tag @ (0 | 3) => Ok(CallInput::Earlier { index: self.u32()?, takes_error: tag == 3 }),
            1 => Ok(CallInput::Kept(self.u64()?)),
            2 => Ok(CallInput::Value { code: self.u32()?, keep: self.u64()?, value: self.encoding()? }),
            4 => Ok(CallInput::Failed(self.sized()?)),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn result(&mut self) -> Result<CallResult<'a>, Malformed> {
        let index = self.u32()?;
        let ran = Ran { started_ns: self.u64()?, ns: self.u64()? };
        let tag = self.u8()?;
        let outcome = match tag {
            0 | 1 => CallOutcome::Value(Some(self.encoding()?)),
            2 => CallOutcome::Value(None),
            3 => CallOutcome::Returned(self.list(4, Self::text)?),
            4 => CallOutcome::Panicked(self.text()?),
            5 => CallOutcome::NotPortable(self.text()?),
            6 => CallOutcome::LacksInput(self.u32()?, self.text()?),
            7 => CallOutcome::Skipped,
            _ => return Err(Malformed),
        };
        Ok(CallResult { index, ran, kept: tag == 1, outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(bytes: &'static [u8], regions: &[u64]) -> Encoding<'static> {
        let region = |&id| RegionRef { id, len: 10 * id };
        Encoding { bytes, regions: regions.iter().map(region).collect() }
    }

    fn call(index: u32) -> Call<'static> {
        let inputs = vec![
            CallInput::Earlier { index, takes_error: false },
            CallInput::Earlier { index, takes_error: true },
            CallInput::Failed(b"error"),
            CallInput::Kept(8),
            CallInput::Value { code: 2, keep: 5, value: value(b"value", &[1, 2]) },
        ];
        let name = (index == 2).then_some("named");
        Call {
            code: index,
            name,
            ship: index.is_multiple_of(2),
            keep: u64::from(index),
            inputs,
            args: value(b"args", &[]),
        }
    }

    fn results() -> Vec<CallResult<'static>> {
        let outcomes = [
            CallOutcome::Value(Some(value(b"v", &[4]))),
            CallOutcome::Value(Some(value(b"w", &[]))),
            CallOutcome::Value(None),
            CallOutcome::Returned(vec!["outer".into(), "inner".into()]),
            CallOutcome::Panicked("oh".into()),
            CallOutcome::NotPortable("no".into()),
            CallOutcome::Skipped,
            CallOutcome::LacksInput(2, "not this".into()),
        ];
        let result = |(index, outcome)| CallResult {
            index,
            ran: Ran { started_ns: 1 << 40, ns: 17 },
            kept: index == 0,
            outcome,
        };
        (0..).zip(outcomes).map(result).collect()
    }

    fn some_calls_and_results() -> (ByteString, ByteString) {
        let (mut call_writer, mut result_writer) = (CallWriter::default(), CallWriter::default());
        (0..4).for_each(|index| call_writer.whole_call(&call(index)));
        results().iter().for_each(|result| result_writer.result(result));
        (call_writer.finish(), result_writer.finish())
    }

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let (bytes, _) = some_calls_and_results();
        let mut reader = CallReader::new(&bytes);
        (0..4).for_each(|index| assert_eq!(reader.call(), Ok(call(index))));
        assert!(reader.is_at_end());
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        let (_, bytes) = some_calls_and_results();
        let mut reader = CallReader::new(&bytes);
        results().into_iter().for_each(|result| assert_eq!(reader.result(), Ok(result)));
        assert!(reader.is_at_end());
    }

    proptest! {
        /// Messages that are almost right.
        #[test]
        fn damaged_bytes_are_an_error_or_a_message_and_never_a_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            len in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let (mut calls, mut results) = some_calls_and_results();
            for ByteString(bytes) in [&mut calls, &mut results] {
                for (index, byte) in &changes {
                    let index = index.index(bytes.len());
                    bytes[index] = *byte;
                }
                if is_cut {
                    bytes.truncate(len.index(bytes.len()));
                }
            }
            let mut reader = CallReader::new(&calls);
            while !reader.is_at_end() && reader.call().is_ok() {}
            let mut reader = CallReader::new(&results);
            while !reader.is_at_end() && reader.result().is_ok() {}
        }

        #[test]
        fn garbage_is_an_error_or_a_message_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = ByteString(bytes);
            let mut calls = CallReader::new(&bytes);
            while !calls.is_at_end() && calls.call().is_ok() {}
            let mut results = CallReader::new(&bytes);
            while !results.is_at_end() && results.result().is_ok() {}
        }
    }
}
