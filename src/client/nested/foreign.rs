//! Tasks and promises of values whose types this process does not look at: those that tasks in its workers hand in.

#![expect(unsafe_code, reason = "the functions behind the untyped kinds of these tasks, and values in untyped cells")]

use super::super::job::Owner;
use super::super::promise::{AnyPromise, Attempt, PromiseState};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::crossing::{Encoded, TaskCode, ValueCode};
use crate::graph::node::{ArgumentError, CallError, Kind, Options, Task, TaskRef, drop_body, layout};
use crate::graph::task::ValueOf;
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{Codec, CodecError, Decoder, Encoder};
use std::any::{Any, TypeId};
use std::sync::{Arc, OnceLock};

/// A value as it has come.
pub(super) struct Received {
    pub(super) code: &'static CodeDescriptor<ValueCode>,
    pub(super) codec: Codec,
    pub(super) bytes: Box<[u8]>,
}

impl Encoded for Received {
    unsafe fn decode(&self, cell: &Cell) -> Result<(), CodecError> {
        let mut decoder = Decoder::new(self.codec, &self.bytes, &[]);
        // SAFETY: the caller's contract.
        unsafe { (self.code.item.decode)(&mut decoder, cell) }
    }

    fn num_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        Ok(self.bytes.to_vec())
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Received {
    /// A value, but for how it gets into its cell. What is not known before its code is, [`Received::into_task`] fills in.
    const KIND: Kind =
        Kind { call: Self::call, value_bytes: 0, type_id: TypeId::of::<Received>, ..ValueOf::<Received>::LOCAL };

    unsafe fn call(task: TaskRef, cells: &[Cell], _: *const u32, id: u32, _: bool) -> Option<Box<CallError>> {
        // SAFETY: the kind belongs to nodes with this body.
        let received = unsafe { task.body::<Received>() };
        // SAFETY: the task writes to its own cell, whose readers were made for the type of its code.
        let decoded = unsafe { received.decode(cells.get_unchecked(id as usize)) };
        decoded.err().map(|error| Box::new(Box::new(error) as CallError))
    }

    /// A task whose value it is.
    pub(super) fn into_task(self) -> Task {
        let code = self.code;
        // SAFETY: the kind is the one for this body; what is changed says how values of the code's type are treated.
        let mut task = unsafe { Task::new_alone(const { &Self::KIND }, self) };
        task.change_kind(|kind| {
            kind.value_code = Some(code);
            kind.drop_value = code.item.drop_value;
        });
        task
    }
}

/// A call whose arguments are as they have come.
pub(super) struct ForeignCall {
    pub(super) code: &'static CodeDescriptor<TaskCode>,
    pub(super) codec: Codec,
    pub(super) args: Box<[u8]>,
    /// In the order in which the call reads them.
    pub(super) inputs: Vec<Task>,
}

impl ForeignCall {
    const KIND: Kind = Kind {
        call: Self::call,
        visit_inputs: Self::visit_inputs,
        release_inputs: Self::release_inputs,
        value_bytes: 0,
        drop_value: None,
        clone_value: None,
        write_args: Self::write_args,
        describe_args: |_, _| {},
        code: None,
        value_code: None,
        drop_body: drop_body::<ForeignCall>,
        layout: layout::<ForeignCall>(),
        type_id: TypeId::of::<ForeignCall>,
        type_name: || "call",
        is_value: false,
        awaited: None,
        captures: true,
        has_options: false,
    };

    /// It is called in another process, so this is for a replay of its failure alone.
    unsafe fn call(task: TaskRef, cells: &[Cell], inputs: *const u32, id: u32, keep: bool) -> Option<Box<CallError>> {
        let failed = |message: String| Some(Box::new(CallError::from(message)));
        if keep {
            return failed("it was handed in by a task in a worker process and can be called here only once".into());
        }
        // SAFETY: the kind belongs to nodes with this body.
        let call = unsafe { task.body::<ForeignCall>() };
        let mut decoder = Decoder::new(call.codec, &call.args, &[]);
        // SAFETY: the caller's contract; the arguments were written by the kind that the code belongs to, in a process of this executable,
        // and the inputs are those of that task.
        match unsafe { (call.code.item.call)(&mut decoder, cells, inputs, id) } {
            Ok(returned) => returned,
            Err((argument, error)) => failed(format!("cannot decode argument {}: {error}", argument + 1)),
        }
    }

    unsafe fn visit_inputs(task: TaskRef, inputs: &mut Vec<TaskRef>) {
        // SAFETY: the kind belongs to nodes with this body.
        inputs.extend(unsafe { task.body::<ForeignCall>() }.inputs.iter().map(Task::as_ref));
    }

    unsafe fn release_inputs(task: TaskRef, cells: &[Cell], inputs: *const u32) {
        // SAFETY: the kind belongs to nodes with this body.
        let call = unsafe { task.body::<ForeignCall>() };
        for (place, input) in call.inputs.iter().enumerate() {
            if let Some(drop_value) = input.as_ref().kind().drop_value {
                // SAFETY: the caller's contract: there are as many ids as inputs, and their cells are let go of once.
                unsafe { cells.get_unchecked(*inputs.add(place) as usize).release_with(drop_value) };
            }
        }
    }

    unsafe fn write_args(task: TaskRef, encoder: &mut Encoder<'_>) -> Result<(), ArgumentError> {
        // SAFETY: the kind belongs to nodes with this body.
        encoder.append(&unsafe { task.body::<ForeignCall>() }.args);
        Ok(())
    }

    /// `None` if the code has no value, which cannot be.
    pub(super) fn into_task(self, options: Options) -> Option<(Task, &'static CodeDescriptor<ValueCode>)> {
        let (code, value) = (self.code, self.code.item.value?);
        // SAFETY: the kind is the one for this body; what is changed says how another process calls the function that the code is of,
        // and how values of its type are treated.
        let mut task = unsafe { Task::new_alone(const { &Self::KIND }, self) };
        task.change_kind(|kind| {
            kind.code = Some(code);
            kind.value_code = Some(value);
            kind.drop_value = value.item.drop_value;
            kind.type_name = code.item.function;
        });
        *task.options_mut()? = options;
        Some((task, value))
    }
}

/// A promise whose value is kept as it crosses.
pub(super) struct ForeignPromise {
    record: PromiseState,
    value: OnceLock<Arc<dyn Encoded>>,
    code: &'static CodeDescriptor<ValueCode>,
    codec: Codec,
}

impl ForeignPromise {
    pub(super) fn new(
        owner: Arc<dyn Owner>,
        task: Task,
        code: &'static CodeDescriptor<ValueCode>,
        codec: Codec,
    ) -> Self {
        let record = PromiseState::new(owner, Some(task));
        // There are no tickets here that would say that it is wanted; who does not want it any more cancels it.
        record.detach();
        ForeignPromise { record, value: OnceLock::new(), code, codec }
    }

    /// The value. The promise has finished.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        self.value.get().map_or_else(|| Err(CodecError::new("there is no value")), |value| value.to_bytes())
    }
}

impl AnyPromise for ForeignPromise {
    fn record(&self) -> &PromiseState {
        &self.record
    }

    unsafe fn take_from(&self, cell: &Cell, attempt: Attempt) -> Result<()> {
        let mut encoder = Encoder::new(self.codec, None);
        // SAFETY: the caller's contract.
        let encoded = unsafe { (self.code.item.encode)(cell, &mut encoder) };
        if let Some(drop_value) = self.code.item.drop_value {
            // SAFETY: as above; this is the output that lets go.
            unsafe { cell.release_with(drop_value) };
        }
        encoded.map_err(|error| {
            let type_name = (self.code.item.type_name)();
            Error::new(ErrorKind::NotPortable, format!("cannot encode its value, a `{type_name}`: {error}"))
        })?;
        let bytes = encoder.finish().0.into();
        if self.record.is_under_way(attempt) {
            self.keep(Arc::new(Received { code: self.code, codec: self.codec, bytes }));
        }
        Ok(())
    }

    fn keep(&self, value: Arc<dyn Encoded>) {
        let _other = self.value.set(value);
    }

    fn num_bytes(&self) -> usize {
        self.value.get().map_or(0, |value| value.num_bytes())
    }
}
