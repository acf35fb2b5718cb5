//! The encoded call: how one call and its result are written as bytes.
//!
//! Calls and results are many and small. So they are no messages of their own: the calls of a batch
//! lie one after the other in the bytes of one message, and so do their results. [`CallWriter`] writes
//! them and [`CallReader`] reads them.
//!
//! A value is its encoding and references to the regions that the encoding refers to. How the
//! regions themselves get to the other side is for the executor's protocol.

use crate::portable::exchange::RegionRef;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// Bytes that serde treats as a byte string, not as a list of numbers.
#[derive(Clone, Default, PartialEq, Eq)]
pub(in crate::executor) struct Bytes(pub(in crate::executor) Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of;
        impl Visitor<'_> for Of {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Of)
    }
}

/// An encoded value inside a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::executor) struct Encoding<'a> {
    pub(in crate::executor) bytes: &'a [u8],
    /// The regions that the bytes refer to.
    pub(in crate::executor) regions: Vec<RegionRef>,
}

/// The smallest value, in encoded bytes, that a worker keeps for later batches. A smaller one is sent again.
pub(in crate::executor) const KEEP_MIN_BYTES: usize = 4 << 10;

/// One call of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::executor) struct Call<'a> {
    pub(in crate::executor) code: u32,
    /// The task's name, if the user gave one. Without one the task is named after its function.
    pub(in crate::executor) name: Option<&'a str>,
    /// The value is sent to the parent. Otherwise only later calls of the batch read it.
    pub(in crate::executor) ship: bool,
    /// The key under which the worker keeps the value for later batches; 0 if it does not keep the
    /// value.
    pub(in crate::executor) keep: u64,
    pub(in crate::executor) inputs: Vec<CallInput<'a>>,
    pub(in crate::executor) args: Encoding<'a>,
}

/// Where a call finds the value of an input.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::executor) enum CallInput<'a> {
    /// The value of an earlier call of the batch.
    Earlier(u32),
    /// A kept value.
    Kept(u64),
    /// An encoded value. The worker keeps it under the key `keep`, unless that is 0.
    Value { code: u32, keep: u64, value: Encoding<'a> },
}

/// How one call ended.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::executor) enum CallOutcome<'a> {
    /// With a value; `None` if the call did not ask for it to be sent.
    Value(Option<Encoding<'a>>),
    /// With an `Err`; the texts are its own and those of its sources, outermost first.
    Returned(Vec<&'a str>),
    Panicked(&'a str),
    /// The arguments could not be decoded, or the value not encoded.
    NotPortable(&'a str),
    /// The value of an input, counted in the call, could not be decoded.
    LacksInput(u32, &'a str),
    /// An input of the call comes from an earlier call that gave no value.
    Skipped,
}

/// When a call started, on the clock that both sides share, and how long it ran. Both are 0 if it
/// did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::executor) struct Ran {
    pub(in crate::executor) started_ns: u64,
    pub(in crate::executor) ns: u64,
}

/// The result of one call of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::executor) struct CallResult<'a> {
    /// The call's index in its batch.
    pub(in crate::executor) index: u32,
    pub(in crate::executor) ran: Ran,
    /// The worker keeps the value, as the call asked.
    pub(in crate::executor) kept: bool,
    pub(in crate::executor) outcome: CallOutcome<'a>,
}

/// Bytes that do not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::executor) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message that makes no sense")
    }
}

/// Writes calls and results one after the other.
#[derive(Debug, Default)]
pub(in crate::executor) struct CallWriter {
    bytes: Vec<u8>,
}

impl CallWriter {
    pub(in crate::executor) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::executor) fn finish(self) -> Bytes {
        Bytes(self.bytes)
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

    pub(in crate::executor) fn encoding(&mut self, bytes: &[u8], regions: impl ExactSizeIterator<Item = RegionRef>) {
        self.u32(regions.len() as u32);
        for region in regions {
            self.u64(region.id);
            self.u64(region.len);
        }
        self.bytes(bytes);
    }

    /// Begins a call. Its `num_inputs` inputs follow, then its arguments as an
    /// [`encoding`](CallWriter::encoding). Returns the position for [`CallWriter::ship`].
    pub(in crate::executor) fn call(&mut self, code: u32, name: Option<&str>, keep: u64, num_inputs: u32) -> usize {
        let place = self.bytes.len();
        self.u8(1);
        self.u32(code);
        self.u64(keep);
        self.bytes(name.unwrap_or_default().as_bytes());
        self.u32(num_inputs);
        place
    }

    /// Sets whether the value of a call is sent, after the call was written.
    pub(in crate::executor) fn ship(&mut self, place: usize, ship: bool) {
        self.bytes[place] = u8::from(ship);
    }

    pub(in crate::executor) fn input_earlier(&mut self, index: u32) {
        self.u8(0);
        self.u32(index);
    }

    pub(in crate::executor) fn input_kept(&mut self, key: u64) {
        self.u8(1);
        self.u64(key);
    }

    /// The value follows, as an [`encoding`](CallWriter::encoding).
    pub(in crate::executor) fn input_value(&mut self, code: u32, keep: u64) {
        self.u8(2);
        self.u32(code);
        self.u64(keep);
    }

    fn result(&mut self, index: u32, ran: Ran, tag: u8) {
        self.u32(index);
        self.u64(ran.started_ns);
        self.u64(ran.ns);
        self.u8(tag);
    }

    /// The value follows, as an [`encoding`](CallWriter::encoding).
    pub(in crate::executor) fn result_value(&mut self, index: u32, ran: Ran, kept: bool) {
        self.result(index, ran, if kept { 1 } else { 0 });
    }

    pub(in crate::executor) fn result_unsent(&mut self, index: u32, ran: Ran, kept: bool) {
        self.result(index, ran, if kept { 3 } else { 2 });
    }

    pub(in crate::executor) fn result_returned(&mut self, index: u32, ran: Ran, texts: &[String]) {
        self.result(index, ran, 4);
        self.u32(texts.len() as u32);
        texts.iter().for_each(|text| self.bytes(text.as_bytes()));
    }

    pub(in crate::executor) fn result_panicked(&mut self, index: u32, ran: Ran, message: &str) {
        self.result(index, ran, 5);
        self.bytes(message.as_bytes());
    }

    pub(in crate::executor) fn result_not_portable(&mut self, index: u32, message: &str) {
        self.result(index, Ran::default(), 6);
        self.bytes(message.as_bytes());
    }

    pub(in crate::executor) fn result_skipped(&mut self, index: u32) {
        self.result(index, Ran::default(), 7);
    }

    pub(in crate::executor) fn result_lacks_input(&mut self, index: u32, input: u32, message: &str) {
        self.result(index, Ran::default(), 8);
        self.u32(input);
        self.bytes(message.as_bytes());
    }
}

/// Reads the bytes of a [`CallWriter`]. It never panics, and it allocates no more than the number of
/// bytes can justify.
#[derive(Debug)]
pub(in crate::executor) struct CallReader<'a> {
    bytes: &'a [u8],
}

impl<'a> CallReader<'a> {
    pub(in crate::executor) fn new(bytes: &'a Bytes) -> Self {
        CallReader { bytes: &bytes.0 }
    }

    pub(in crate::executor) fn is_at_end(&self) -> bool {
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

    fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.sized()?).map_err(|_| Malformed)
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

    pub(in crate::executor) fn call(&mut self) -> Result<Call<'a>, Malformed> {
        let ship = self.truth()?;
        let (code, keep) = (self.u32()?, self.u64()?);
        let name = Some(self.text()?).filter(|name| !name.is_empty());
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
            0 => Ok(CallInput::Earlier(self.u32()?)),
            1 => Ok(CallInput::Kept(self.u64()?)),
            2 => Ok(CallInput::Value { code: self.u32()?, keep: self.u64()?, value: self.encoding()? }),
            _ => Err(Malformed),
        }
    }

    pub(in crate::executor) fn result(&mut self) -> Result<CallResult<'a>, Malformed> {
        let index = self.u32()?;
        let ran = Ran { started_ns: self.u64()?, ns: self.u64()? };
        let tag = self.u8()?;
        let outcome = match tag {
            0 | 1 => CallOutcome::Value(Some(self.encoding()?)),
            2 | 3 => CallOutcome::Value(None),
            4 => CallOutcome::Returned(self.list(4, Self::text)?),
            5 => CallOutcome::Panicked(self.text()?),
            6 => CallOutcome::NotPortable(self.text()?),
            7 => CallOutcome::Skipped,
            8 => CallOutcome::LacksInput(self.u32()?, self.text()?),
            _ => return Err(Malformed),
        };
        Ok(CallResult { index, ran, kept: matches!(tag, 1 | 3), outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(id: u64) -> RegionRef {
        RegionRef { id, len: 10 * id }
    }

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let mut writer = CallWriter::default();
        let place = writer.call(3, Some("load"), 9, 3);
        writer.input_earlier(7);
        writer.input_kept(8);
        writer.input_value(2, 5);
        writer.encoding(b"value", [region(1), region(2)].into_iter());
        writer.encoding(b"args", [].into_iter());
        writer.ship(place, false);
        let bytes = writer.finish();
        let mut reader = CallReader::new(&bytes);
        let value = Encoding { bytes: b"value", regions: vec![region(1), region(2)] };
        let inputs = vec![CallInput::Earlier(7), CallInput::Kept(8), CallInput::Value { code: 2, keep: 5, value }];
        let args = Encoding { bytes: b"args", regions: vec![] };
        assert_eq!(reader.call(), Ok(Call { code: 3, name: Some("load"), ship: false, keep: 9, inputs, args }));
        assert!(reader.is_at_end());
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        let mut writer = CallWriter::default();
        let ran = |ns| Ran { started_ns: 1 << 40, ns };
        writer.result_value(0, ran(17), true);
        writer.encoding(b"v", [region(4)].into_iter());
        writer.result_unsent(1, ran(18), false);
        writer.result_returned(2, ran(19), &["outer".into(), "inner".into()]);
        writer.result_panicked(3, ran(20), "oh");
        writer.result_not_portable(4, "no");
        writer.result_skipped(5);
        writer.result_lacks_input(6, 2, "not this");
        let bytes = writer.finish();
        let mut reader = CallReader::new(&bytes);
        let outcomes = [
            CallOutcome::Value(Some(Encoding { bytes: b"v", regions: vec![region(4)] })),
            CallOutcome::Value(None),
            CallOutcome::Returned(vec!["outer", "inner"]),
            CallOutcome::Panicked("oh"),
            CallOutcome::NotPortable("no"),
            CallOutcome::Skipped,
            CallOutcome::LacksInput(2, "not this"),
        ];
        for (index, outcome) in outcomes.into_iter().enumerate() {
            let result = reader.result().unwrap();
            assert_eq!((result.index, result.kept, result.outcome), (index as u32, index == 0, outcome));
            assert_eq!(result.ran, if index < 4 { ran(17 + index as u64) } else { Ran::default() });
        }
        assert!(reader.is_at_end());
    }

    fn some_calls_and_results() -> (Bytes, Bytes) {
        let (mut calls, mut results) = (CallWriter::default(), CallWriter::default());
        for index in 0..4_u32 {
            let place = calls.call(index, (index == 2).then_some("named"), u64::from(index), 3);
            calls.input_earlier(index);
            calls.input_kept(8);
            calls.input_value(2, 5);
            calls.encoding(b"value", [region(1), region(2)].into_iter());
            calls.encoding(b"args", [].into_iter());
            calls.ship(place, index % 2 == 0);
            results.result_value(index, Ran { started_ns: 3, ns: 17 }, true);
            results.encoding(b"value", [region(4)].into_iter());
            results.result_returned(index, Ran::default(), &["outer".into(), "inner".into()]);
            results.result_panicked(index, Ran { started_ns: 4, ns: 20 }, "oh");
            results.result_skipped(index);
            results.result_lacks_input(index, 1, "not this");
        }
        (calls.finish(), results.finish())
    }

    proptest! {
        /// Messages that are almost right.
        #[test]
        fn what_was_changed_on_the_way_is_an_error_or_a_message_and_never_a_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            len in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let (mut calls, mut results) = some_calls_and_results();
            for Bytes(bytes) in [&mut calls, &mut results] {
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
            let bytes = Bytes(bytes);
            let mut calls = CallReader::new(&bytes);
            while !calls.is_at_end() && calls.call().is_ok() {}
            let mut results = CallReader::new(&bytes);
            while !results.is_at_end() && results.result().is_ok() {}
        }
    }
}
