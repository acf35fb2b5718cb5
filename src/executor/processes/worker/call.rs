//! One call of a batch: its inputs, the function, and its result.
//!
//! # What is always true
//!
//! 1. The parent is the same executable. So code that it refers to has the types that its tasks
//!    have, and each input of a call has the type of the task's input.
//! 2. A value that a call borrows lives until the call's cells are dropped: a kept value by its
//!    reference in `borrowed`, and a value of the batch because only a later call may take it.

use super::super::activity::Phase;
use super::super::clock;
use super::{ProtocolError, WorkerThread, has_forked, log};
use crate::engine::{describe_panic, quietly};
use crate::error::{Error, texts_of};
use crate::executor::remote::call::{Call, CallInput, CallOutcome, CallResult, KEEP_MIN_BYTES, Ran, decode_error};
use crate::executor::remote::values::{CallCells, CellCode, OwnedCell, cannot_encode};
use crate::graph::crossing::TaskCode;
use crate::graph::name;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{CodecError, Decoder};
use crate::portable::region::Region;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Code that the parent sent a reference to.
pub(super) enum ResolvedCode {
    Task(&'static CodeDescriptor<TaskCode>),
    Value(CellCode),
}

/// A value that a call of this batch made.
pub(super) enum BatchValue {
    /// The call gave no value, or no later call reads it.
    Nothing,
    /// The call failed, or needs the value of one that has. Later calls may take the error.
    Failed(Error),
    Owned(OwnedValue),
    Kept(KeptValue),
}

pub(super) struct OwnedValue {
    cell: OwnedCell,
    /// The number of arguments of later calls that are this value.
    num_uses: u32,
    /// The call that the value was last shown to.
    last_shown: Option<u32>,
}

/// A value that this process keeps and that calls may borrow. The first thread that needs the value
/// decodes it, or finds out why it cannot be decoded.
pub(super) type KeptValue = Arc<OnceLock<Result<OwnedCell, String>>>;

/// An input of a call.
enum InputCell {
    Value(OwnedCell),
    /// It has failed, and the call takes the error.
    Failed(Error),
    /// The call that should have made the value gave none. The error is given if that has failed.
    Missing(Option<Error>),
}

/// Why a call gave no value, and when it ran.
struct CallFailure {
    ran: Ran,
    outcome: CallOutcome<'static>,
    /// The error of the input because of which the call was skipped.
    needed: Option<Error>,
}

fn not_run(outcome: CallOutcome<'static>) -> CallFailure {
    CallFailure { ran: Ran::default(), outcome, needed: None }
}

impl WorkerThread {
    /// Runs a call, writes its result, and returns the value if `num_uses` arguments of later calls
    /// need it.
    pub(super) fn call(
        &mut self,
        index: u32,
        call: &Call<'_>,
        num_uses: u32,
        values: &mut [BatchValue],
    ) -> Result<BatchValue, ProtocolError> {
        let batch = {
            let mut outbox = self.channel.outbox.borrow_mut();
            outbox.call = index;
            outbox.mark = outbox.results.writer.len();
            outbox.results.batch
        };
        self.state.activity.set(self.index, batch, index, Phase::Busy);
        let value = self.run_call(index, call, num_uses, values);
        // A task that forks and returns in both processes leaves a second worker on the same
        // channel.
        if has_forked() {
            // SAFETY: `_exit` can be called at any time. It runs no exit handlers: those are the
            // original's.
            unsafe { libc::_exit(0) };
        }
        // A function may submit tasks, and so add functions.
        loop {
            let at_end = self.channel.at_end.take();
            if at_end.is_empty() {
                break;
            }
            at_end.into_iter().for_each(quietly);
        }
        self.state.activity.set(self.index, batch, index, Phase::Idle);
        value
    }

    fn run_call(
        &mut self,
        index: u32,
        call: &Call<'_>,
        num_uses: u32,
        values: &mut [BatchValue],
    ) -> Result<BatchValue, ProtocolError> {
        let (regions, args_regions) = self.take_regions(call)?;
        let value = match self.codes.get(call.code as usize) {
            Some(Ok(ResolvedCode::Task(task))) => {
                let code = task.item.value.ok_or("a call refers to code without a value")?;
                self.evaluate(task, code, index, call, (&regions, &args_regions), values)
            }
            Some(Err(error)) => {
                Err(not_run(CallOutcome::NotPortable(format!("its code was not found in the worker: {error}"))))
            }
            _ => return Err("a call refers to code that was not sent".into()),
        };
        let value = value.and_then(|(cell, ran)| {
            let value = OwnedValue { cell, num_uses, last_shown: None };
            // If the later calls are revoked, other processes run them and need the value.
            if call.ship || self.channel.outbox.borrow().is_rest_revoked {
                return self.send_value(index, ran, call.keep, value);
            }
            self.write_result(index, ran, CallOutcome::Value(None));
            Ok(BatchValue::Owned(value))
        });
        Ok(match value {
            Ok(_) if num_uses == 0 => BatchValue::Nothing,
            Ok(value) => value,
            Err(CallFailure { ran, outcome, needed }) => {
                // As the parent makes it of the outcome: a task in a batch with its dependents is
                // not retried.
                let name = || call.name.map_or_else(|| self.function_name(call), Into::into);
                let failed = || outcome.error().map(|error| error.with_task(name(), 1).with_own_path());
                let error = (num_uses > 0).then(|| needed.map(|error| error.needed_by(&name())).or_else(failed));
                self.write_result(index, ran, outcome);
                error.flatten().map_or(BatchValue::Nothing, BatchValue::Failed)
            }
        })
    }

    /// The name of a task without a name of its own.
    fn function_name(&self, call: &Call<'_>) -> Arc<str> {
        match self.codes.get(call.code as usize) {
            Some(Ok(ResolvedCode::Task(task))) => name::of_function((task.item.function)()).into(),
            _ => "unknown".into(),
        }
    }

    fn write_result(&self, index: u32, ran: Ran, outcome: CallOutcome<'_>) {
        // Borrowed for each result: user code runs in between and may send requests.
        self.channel.outbox.borrow_mut().results.writer.result(&CallResult { index, ran, kept: false, outcome });
    }

    /// The regions of each input, and those of the arguments.
    ///
    /// A call that is not run takes its regions, too: both sides count each use of a region.
    pub(super) fn take_regions(&mut self, call: &Call<'_>) -> Result<(Vec<Vec<Region>>, Vec<Region>), CodecError> {
        let exchange = &mut self.channel.outbox.borrow_mut().exchange;
        let regions = call.inputs.iter().map(|input| match input {
            CallInput::Value { value, .. } => self.incoming.regions(value, exchange),
            _ => Ok(Vec::new()),
        });
        Ok((regions.collect::<Result<_, _>>()?, self.incoming.regions(&call.args, exchange)?))
    }

    /// Calls the function. Returns the value and when the call ran.
    fn evaluate(
        &self,
        task: &'static CodeDescriptor<TaskCode>,
        value_code: CellCode,
        index: u32,
        call: &Call<'_>,
        (regions, args_regions): (&[Vec<Region>], &[Region]),
        values: &mut [BatchValue],
    ) -> Result<(OwnedCell, Ran), CallFailure> {
        log::set_task(task, call.name);
        // Declared before the cells, so that it is dropped after them (rule 2).
        let mut borrowed = Vec::new();
        let mut cells = CallCells::new(call.inputs.len());
        for (position, (input, regions)) in (0..).zip(call.inputs.iter().zip(regions)) {
            match self.input(input, regions, index, values, &mut borrowed) {
                Ok(InputCell::Value(cell)) => cells.push(cell),
                Ok(InputCell::Failed(error)) => cells.push_failure(error),
                Ok(InputCell::Missing(needed)) => {
                    return Err(CallFailure { needed, ..not_run(CallOutcome::Skipped) });
                }
                Err(problem) => return Err(not_run(CallOutcome::LacksInput(position, problem))),
            }
        }
        let ids: Vec<u32> = (0..call.inputs.len() as u32).collect();
        cells.push_value_cell();
        let mut decoder = Decoder::new(self.state.codec, call.args.bytes, args_regions);
        let started = Instant::now();
        // SAFETY: the parent encoded the arguments by the kind that this code belongs to (rule 1).
        // The ids are the cells of the inputs, of the right types (rule 1); the last cell is empty
        // and for the value.
        let called = catch_unwind(AssertUnwindSafe(|| unsafe {
            (task.item.call)(&mut decoder, cells.as_slice(), ids.as_ptr(), ids.len() as u32)
        }));
        let ran = Ran { ns: started.elapsed().as_nanos() as u64, started_ns: clock::shared_ns(started) };
        match called {
            // SAFETY: the call has filled the cell with a value of the code that is the task's.
            Ok(Ok(None)) => Ok((unsafe { cells.pop_value_cell(value_code) }, ran)),
            Ok(Ok(Some(error))) => {
                // The error's `Display` and `Drop` are user code.
                let texts = catch_unwind(AssertUnwindSafe(|| texts_of(&**error))).unwrap_or_else(|payload| {
                    vec![format!("an error that cannot be displayed: {}", describe_panic(payload))]
                });
                quietly(|| drop(error));
                Err(CallFailure { ran, outcome: CallOutcome::Returned(texts), needed: None })
            }
            Ok(Err((argument, error))) => {
                Err(not_run(CallOutcome::NotPortable(format!("cannot decode argument {}: {error}", argument + 1))))
            }
            Err(payload) => {
                Err(CallFailure { ran, outcome: CallOutcome::Panicked(describe_panic(payload)), needed: None })
            }
        }
    }

    /// Encodes the value, writes it as the call's result, and keeps it if the call asks for that.
    fn send_value(&self, index: u32, ran: Ran, key: u64, value: OwnedValue) -> Result<BatchValue, CallFailure> {
        // SAFETY: the call has just filled the cell, and nothing has taken the value.
        let encoded = unsafe { value.cell.encode(self.state.codec, Some(&self.state.memory)) };
        let (bytes, regions) = encoded
            .and_then(|(bytes, regions)| match self.own_copies(regions) {
                Ok(regions) => Ok((bytes, regions)),
                Err(error) => Err(cannot_encode(value.cell.code, error)),
            })
            .map_err(|problem| not_run(CallOutcome::NotPortable(problem)))?;
        let size = bytes.len() + regions.iter().map(|region| region.len()).sum::<usize>();
        let keep = key != 0 && size >= KEEP_MIN_BYTES;
        let outbox = &mut *self.channel.outbox.borrow_mut();
        let encoding = outbox.outgoing.encoding(&bytes, &regions, &mut outbox.exchange);
        let outcome = CallOutcome::Value(Some(encoding));
        outbox.results.writer.result(&CallResult { index, ran, kept: keep, outcome });
        if !keep {
            return Ok(BatchValue::Owned(value));
        }
        let kept = Arc::new(OnceLock::from(Ok(value.cell)));
        self.state.kept.lock().insert(key, Arc::clone(&kept));
        Ok(BatchValue::Kept(kept))
    }

    /// Replaces the regions that came to another thread by copies: the parent gets those back from
    /// that thread only.
    fn own_copies(&self, regions: Vec<Region>) -> Result<Vec<Region>, CodecError> {
        let own = |region: Region| {
            if !self.channel.outbox.borrow().exchange.is_foreign(&region) {
                return Ok(region);
            }
            let mut copy = self.state.memory.allocate(region.len())?;
            copy.copy_from_slice(&region);
            Ok(copy.freeze())
        };
        regions.into_iter().map(own).collect()
    }

    /// A cell with the value of an input, or what there is in its place.
    fn input(
        &self,
        input: &CallInput<'_>,
        regions: &[Region],
        index: u32,
        values: &mut [BatchValue],
        borrowed: &mut Vec<KeptValue>,
    ) -> Result<InputCell, String> {
        match *input {
            CallInput::Earlier { index: earlier, .. } if earlier >= index => Err("it comes from a later call".into()),
            CallInput::Earlier { index: earlier, takes_error } => match &mut values[earlier as usize] {
                BatchValue::Nothing => Ok(InputCell::Missing(None)),
                BatchValue::Failed(error) if takes_error => Ok(InputCell::Failed(error.clone())),
                BatchValue::Failed(error) => Ok(InputCell::Missing(Some(error.clone()))),
                BatchValue::Owned(value) => {
                    value.num_uses -= 1;
                    // The last use gets the value itself, unless another argument of this call
                    // shows it.
                    if value.num_uses == 0 && value.last_shown != Some(index) {
                        return Ok(InputCell::Value(value.cell.take()));
                    }
                    value.last_shown = Some(index);
                    // SAFETY: the value is taken only above, at its last use. That is no other
                    // argument of this call: those see `last_shown`. So the shown cell is dropped
                    // before.
                    Ok(InputCell::Value(unsafe { value.cell.show() }))
                }
                BatchValue::Kept(kept) => borrow(Arc::clone(kept), borrowed).map(InputCell::Value),
            },
            CallInput::Kept(key) => {
                let kept = self.state.kept.lock().get(&key).cloned();
                borrow(kept.ok_or(NOT_KEPT)?, borrowed).map(InputCell::Value)
            }
            CallInput::Value { code, keep, ref value } => {
                let code = match self.codes.get(code as usize) {
                    Some(Ok(ResolvedCode::Value(code))) => *code,
                    Some(Err(error)) => return Err(format!("its code was not found in the worker: {error}")),
                    _ => return Err("it refers to code that was not sent".into()),
                };
                let decode = || OwnedCell::decode(code, self.state.codec, value.bytes, regions);
                if keep == 0 {
                    return decode().map(InputCell::Value);
                }
                // If several threads are sent the same value, one of them decodes it.
                let kept = Arc::clone(self.state.kept.lock().entry(keep).or_default());
                kept.get_or_init(decode);
                borrow(kept, borrowed).map(InputCell::Value)
            }
            CallInput::Failed(error) => decode_error(error).map(InputCell::Failed).map_err(|error| error.to_string()),
        }
    }
}

const NOT_KEPT: &str = "it was to be kept here and was not";

/// A cell that shows a kept value. The value is added to those that the call borrows.
fn borrow(kept: KeptValue, borrowed: &mut Vec<KeptValue>) -> Result<OwnedCell, String> {
    let cell = match kept.get() {
        // SAFETY: a kept value is never taken, and `borrowed` keeps it until the call's cells are
        // dropped (rule 2).
        Some(Ok(value)) => unsafe { value.show() },
        Some(Err(error)) => return Err(error.clone()),
        None => return Err(NOT_KEPT.into()),
    };
    borrowed.push(kept);
    Ok(cell)
}
