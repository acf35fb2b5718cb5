//! Every message that crosses between this process and a worker.
//!
//! # The conversation
//!
//! The parent starts a worker with a socket as its standard input and the name of a one-shot server in its environment. The worker
//! connects to the server and says [`Hello`]; the parent checks that it is the same executable, and answers with a [`Setup`] and the
//! channels, one message for each thread. From then on each channel goes one way, from one thread to one thread:
//!
//! ```text
//! parent                                      worker
//!           <- Hello
//!   Setup::Worker ->
//!   Setup::Thread ->                          for each
//!           <- Up::Ready                      set up, initializer run; or why not
//!   Down::Work(1) ->
//!   Down::Work(2) ->                          at most two are under way, so that the worker is never idle
//!           <- Up::Results(1)                 one or more, the last one says so
//!           <- Up::Results(2)
//!           <- Up::Ask(1)                     a task asks something, and waits; see below
//!   Down::Answer(1) ->
//!   Down::Housekeeping ->                     now and then; no answer
//!   Down::Trim ->                             when there has been nothing to do for a while
//!           <- Up::Trimmed
//!   Down::Goodbye ->                              the worker ends
//! ```
//!
//! A worker that ends at any other point is found by its process handle; [`Up::WakeForEnd`] is what the parent then sends to itself.
//! A batch is numbered, its results carry its number and the index of the call, and a result that fits no batch under way is a breach
//! after which the worker is killed. So nothing that a confused or half-dead worker says is taken for something else.
//!
//! # Questions
//!
//! A task may ask something ([`Up::Ask`]) of whoever has registered for that in the parent, and its thread waits for the [`Down::Answer`]; what else
//! comes before it is set aside. It asks one thing at a time. [`Up::Withdraw`] asks for an answer without further waiting, which comes in
//! any case. [`Up::Note`] is a question without an answer, and may come from any thread of the worker.
//!
//! Where an answer takes long the parent takes back what was to be run after the task: the calls behind it in its batch, and the batch that is
//! under way behind that. It says so in the answer, and until then it sends no other batch; so both sides know which calls are meant. The worker
//! passes them over, and reports the end of the batch behind, without results.
//!
//! # Calls and results
//!
//! Those are many and small, so they are not messages of their own but lie one after the other in the bytes of a message, written by
//! [`Writer`] and read by [`Reader`]. A value is its encoding and the regions that the encoding refers to. The regions' handles
//! travel in [`Housekeeping`], the first time that a process is shown a region.

use crate::portable::budget::BudgetHandle;
use crate::portable::code::CodeRef;
use crate::portable::codec::Codec;
use crate::portable::exchange::RegionRef;
use crate::portable::region::{Handle, file_size_limit};
use ipc_channel::ipc::{IpcReceiver, IpcSender, IpcSharedMemory};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// The first word of a worker, or of the parent in its place if the worker will not come.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Hello {
    Worker { version: String, executable: (u64, u64), setup: IpcSender<Setup> },
    Abandoned,
}

/// What a worker must know before its first call: first of all, and then for each of its threads.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Setup {
    Worker {
        /// Counted from 0 in its pool; for names.
        number: u32,
        /// Distinguishes the regions that this worker makes from those of others.
        origin: u32,
        codec: Codec,
        /// What it may take of shared memory.
        budget: BudgetHandle,
        initializer: Option<CodeRef>,
        /// Tells which call each thread is busy with; see [`Activity`](super::activity::Activity).
        page: IpcSharedMemory,
        /// How much tasks may log: the number of a `log::LevelFilter`.
        log_level: usize,
        num_threads: usize,
    },
    Thread(IpcReceiver<Down>, IpcSender<Up>),
}

/// From the parent to one thread of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Down {
    Work(Work),
    /// Code that goes with no batch.
    Codes(Vec<Code>),
    Housekeeping(Housekeeping),
    /// There will be nothing to do for a while: let go of memory that is kept for the next tasks, and answer [`Up::Trimmed`].
    Trim(Housekeeping),
    Answer {
        number: u64,
        /// What was to be run after the task has been taken back.
        is_rest_taken: bool,
        /// `None` if there is nobody to ask.
        answer: Option<Body>,
    },
    Goodbye,
}

/// A batch of calls of one run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) batch: u32,
    pub(super) run: u64,
    /// The run's configuration, the first time that this thread has to do with the run.
    pub(super) task_context: Option<(CodeRef, Bytes)>,
    /// Code that this thread has not seen yet; calls refer to code by its place in the list of all that was ever sent.
    pub(super) codes: Vec<Code>,
    pub(super) num_calls: u32,
    pub(super) calls: Body,
    pub(super) housekeeping: Housekeeping,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Code {
    Task(CodeRef),
    Value(CodeRef),
}

/// From one thread of a worker to the parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Up {
    Ready(Result<(), String>),
    Results {
        batch: u32,
        /// Whether the batch is done with these.
        is_last: bool,
        num_results: u32,
        results: Body,
        housekeeping: Housekeeping,
    },
    Housekeeping(Housekeeping),
    Trimmed(Housekeeping),
    /// The task that is this call of this batch waits for an answer.
    Ask {
        number: u64,
        batch: u32,
        index: u32,
        question: Body,
    },
    /// The task that has asked this cannot wait any longer.
    Withdraw(u64),
    Note(Body),
    /// The parent to itself: look up, the worker has ended.
    WakeForEnd,
    /// The parent to itself: there is an answer, or it has taken long.
    WakeForAnswer,
}

/// What each side tells the other about shared memory and kept values, beside the work.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Housekeeping {
    /// Regions that the other side has not seen yet.
    pub(super) attached: Vec<(RegionRef, Handle)>,
    /// Uses of the other side's regions that have ended here, with their number.
    pub(super) released: Vec<(u64, u32)>,
    /// Regions that will not be used again.
    pub(super) forgotten: Vec<u64>,
    /// Kept values that will not be asked for again; from the parent only.
    pub(super) dropped: Vec<u64>,
    /// Runs that are over; from the parent only.
    pub(super) ended: Vec<u64>,
}

/// The bytes of calls or results.
///
/// Many of them go beside the message: what is larger than a socket takes at once, ipc-channel sends in pieces, and if the receiver dies
/// between two of these the sender waits for ever, as it holds the receiving end of the pieces itself. It would also wait while the receiver
/// is busy, perhaps with sending something.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Body {
    Inline(Bytes),
    Shared(IpcSharedMemory),
}

/// A socket takes 208 KiB as most systems are set up.
const BODY_INLINE_MAX: usize = 128 << 10;

impl Body {
    pub(super) fn new(bytes: Bytes) -> Self {
        if bytes.0.len() <= BODY_INLINE_MAX {
            return Body::Inline(bytes);
        }
        if file_size_limit().is_some_and(|limit| bytes.0.len() as u64 > limit) {
            return Body::Inline(bytes);
        }
        // It panics where there is no more memory to share.
        std::panic::catch_unwind(|| IpcSharedMemory::from_bytes(&bytes.0)).map_or(Body::Inline(bytes), Body::Shared)
    }

    /// A copy where the other side could change it.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Body::Inline(bytes) => bytes,
            Body::Shared(shared) => Bytes(shared.to_vec()),
        }
    }
}

/// Bytes that serde treats as such, and not as a list of numbers.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

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

/// An encoded value on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Encoding<'a> {
    pub(super) bytes: &'a [u8],
    /// The regions that the bytes refer to.
    pub(super) regions: Vec<RegionRef>,
}

/// The smallest value, in encoded bytes, that a worker keeps for later batches. A smaller one is sent again.
pub(super) const KEEP_MIN_BYTES: usize = 4 << 10;

/// One call of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call<'a> {
    pub(super) code: u32,
    /// The name that the user gave; without one the task is called after its function.
    pub(super) name: Option<&'a str>,
    /// Whether the value is sent to the parent, or only wanted by later calls of the batch.
    pub(super) ship: bool,
    /// What the value is to be kept as, for later batches; 0 for nothing.
    pub(super) keep: u64,
    pub(super) inputs: Vec<Input<'a>>,
    pub(super) args: Encoding<'a>,
}

/// Where a call finds the value of an input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input<'a> {
    /// The value of an earlier call of the batch.
    Earlier(u32),
    /// A kept value.
    Kept(u64),
    /// An encoded value; to be kept as `keep` unless that is 0.
    Value { code: u32, keep: u64, value: Encoding<'a> },
}

/// How one call ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome<'a> {
    /// With a value; `None` if it was not to be sent.
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

/// When a call ran: on the clock that processes share, and for how long. All zero if it did not come to that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) started_ns: u64,
    pub(super) ns: u64,
}

/// The result of one call of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallResult<'a> {
    /// Counted in the batch.
    pub(super) index: u32,
    pub(super) ran: Ran,
    /// Whether the value was kept as asked.
    pub(super) kept: bool,
    pub(super) outcome: Outcome<'a>,
}

/// Bytes that are not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message that makes no sense")
    }
}

/// Writes calls and results one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn finish(self) -> Bytes {
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

    pub(super) fn encoding(&mut self, bytes: &[u8], regions: impl ExactSizeIterator<Item = RegionRef>) {
        self.u32(regions.len() as u32);
        for region in regions {
            self.u64(region.id);
            self.u64(region.len);
        }
        self.bytes(bytes);
    }

    /// Begins a call. Its inputs follow, as many as said, then its arguments as an [`encoding`](Writer::encoding). Returns what
    /// [`Writer::ship`] needs.
    pub(super) fn call(&mut self, code: u32, name: Option<&str>, keep: u64, num_inputs: u32) -> usize {
        let place = self.bytes.len();
        self.u8(1);
        self.u32(code);
        self.u64(keep);
        self.bytes(name.unwrap_or_default().as_bytes());
        self.u32(num_inputs);
        place
    }

    /// Says afterwards whether the value of a call is sent.
    pub(super) fn ship(&mut self, place: usize, ship: bool) {
        self.bytes[place] = u8::from(ship);
    }

    pub(super) fn input_earlier(&mut self, index: u32) {
        self.u8(0);
        self.u32(index);
    }

    pub(super) fn input_kept(&mut self, key: u64) {
        self.u8(1);
        self.u64(key);
    }

    /// The value follows, as an [`encoding`](Writer::encoding).
    pub(super) fn input_value(&mut self, code: u32, keep: u64) {
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

    /// The value follows, as an [`encoding`](Writer::encoding).
    pub(super) fn result_value(&mut self, index: u32, ran: Ran, kept: bool) {
        self.result(index, ran, if kept { 1 } else { 0 });
    }

    pub(super) fn result_unsent(&mut self, index: u32, ran: Ran, kept: bool) {
        self.result(index, ran, if kept { 3 } else { 2 });
    }

    pub(super) fn result_returned(&mut self, index: u32, ran: Ran, texts: &[String]) {
        self.result(index, ran, 4);
        self.u32(texts.len() as u32);
        texts.iter().for_each(|text| self.bytes(text.as_bytes()));
    }

    pub(super) fn result_panicked(&mut self, index: u32, ran: Ran, message: &str) {
        self.result(index, ran, 5);
        self.bytes(message.as_bytes());
    }

    pub(super) fn result_not_portable(&mut self, index: u32, message: &str) {
        self.result(index, Ran::default(), 6);
        self.bytes(message.as_bytes());
    }

    pub(super) fn result_skipped(&mut self, index: u32) {
        self.result(index, Ran::default(), 7);
    }

    pub(super) fn result_lacks_input(&mut self, index: u32, input: u32, message: &str) {
        self.result(index, Ran::default(), 8);
        self.u32(input);
        self.bytes(message.as_bytes());
    }
}

/// Reads what a [`Writer`] wrote. Never panics, and allocates no more than the bytes can justify.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a Bytes) -> Self {
        Reader { bytes: &bytes.0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
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

    /// A list whose items take up at least `min_len` bytes each.
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

    pub(super) fn call(&mut self) -> Result<Call<'a>, Malformed> {
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

    fn input(&mut self) -> Result<Input<'a>, Malformed> {
        match self.u8()? {
            0 => Ok(Input::Earlier(self.u32()?)),
            1 => Ok(Input::Kept(self.u64()?)),
            2 => Ok(Input::Value { code: self.u32()?, keep: self.u64()?, value: self.encoding()? }),
            _ => Err(Malformed),
        }
    }

    pub(super) fn result(&mut self) -> Result<CallResult<'a>, Malformed> {
        let index = self.u32()?;
        let ran = Ran { started_ns: self.u64()?, ns: self.u64()? };
        let tag = self.u8()?;
        let outcome = match tag {
            0 | 1 => Outcome::Value(Some(self.encoding()?)),
            2 | 3 => Outcome::Value(None),
            4 => Outcome::Returned(self.list(4, Self::text)?),
            5 => Outcome::Panicked(self.text()?),
            6 => Outcome::NotPortable(self.text()?),
            7 => Outcome::Skipped,
            8 => Outcome::LacksInput(self.u32()?, self.text()?),
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
        let mut writer = Writer::default();
        let place = writer.call(3, Some("load"), 9, 3);
        writer.input_earlier(7);
        writer.input_kept(8);
        writer.input_value(2, 5);
        writer.encoding(b"value", [region(1), region(2)].into_iter());
        writer.encoding(b"args", [].into_iter());
        writer.ship(place, false);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        let value = Encoding { bytes: b"value", regions: vec![region(1), region(2)] };
        let inputs = vec![Input::Earlier(7), Input::Kept(8), Input::Value { code: 2, keep: 5, value }];
        let args = Encoding { bytes: b"args", regions: vec![] };
        assert_eq!(reader.call(), Ok(Call { code: 3, name: Some("load"), ship: false, keep: 9, inputs, args }));
        assert!(reader.is_at_end());
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        let mut writer = Writer::default();
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
        let mut reader = Reader::new(&bytes);
        let outcomes = [
            Outcome::Value(Some(Encoding { bytes: b"v", regions: vec![region(4)] })),
            Outcome::Value(None),
            Outcome::Returned(vec!["outer", "inner"]),
            Outcome::Panicked("oh"),
            Outcome::NotPortable("no"),
            Outcome::Skipped,
            Outcome::LacksInput(2, "not this"),
        ];
        for (index, outcome) in outcomes.into_iter().enumerate() {
            let result = reader.result().unwrap();
            assert_eq!((result.index, result.kept, result.outcome), (index as u32, index == 0, outcome));
            assert_eq!(result.ran, if index < 4 { ran(17 + index as u64) } else { Ran::default() });
        }
        assert!(reader.is_at_end());
    }

    fn some_calls_and_results() -> (Bytes, Bytes) {
        let (mut calls, mut results) = (Writer::default(), Writer::default());
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
            let mut reader = Reader::new(&calls);
            while !reader.is_at_end() && reader.call().is_ok() {}
            let mut reader = Reader::new(&results);
            while !reader.is_at_end() && reader.result().is_ok() {}
        }

        #[test]
        fn garbage_is_an_error_or_a_message_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes(bytes);
            let mut calls = Reader::new(&bytes);
            while !calls.is_at_end() && calls.call().is_ok() {}
            let mut results = Reader::new(&bytes);
            while !results.is_at_end() && results.result().is_ok() {}
        }
    }
}
