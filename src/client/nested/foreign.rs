//! Tasks and promises of the calls that worker processes forward. This process knows their types
//! only by their code.

#![expect(unsafe_code, reason = "the functions behind the untyped kinds of these tasks, and values in untyped cells")]

use super::super::job::Owner;
use super::super::promise::{AnyPromise, Attempt, PromiseState};
use crate::api::config::Snapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::crossing::{Encoded, TaskCode, ValueCode};
use crate::graph::node::{ArgumentError, CallError, Kind, Options, Task, TaskRef, drop_body, layout};
use crate::graph::task::ValueOf;
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{Codec, CodecError, Decoder, Encoder};
use std::any::{Any, TypeId};
use std::sync::{Arc, OnceLock};

/// An encoded value from another process.
pub(super) struct Received {
    pub(super) code: &'static CodeDescriptor<ValueCode>,
    pub(super) codec: Codec,
    pub(super) bytes: Box<[u8]>,
}

impl Encoded for Received {
    unsafe fn decode(&self, cell: &Cell) -> Result<(), CodecError> {
        let mut decoder = Decoder::new(self.codec, &self.bytes, &[]);
        // SAFETY: the caller keeps the conditions of `put` for this cell, and the bytes are those
        // of a value of the code's type.
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
    /// The kind of a value that is decoded into its cell. [`Received::into_task`] adds the fields
    /// that depend on the code.
    const KIND: Kind =
        Kind { call: Self::call, value_bytes: 0, type_id: TypeId::of::<Received>, ..ValueOf::<Received>::LOCAL };

    unsafe fn call(task: TaskRef, cells: &[Cell], _: *const u32, id: u32, _: bool) -> Option<Box<CallError>> {
        // SAFETY: own task: by rule 2 of `node` its body is the one that this kind was made for.
        let received = unsafe { task.body::<Received>() };
        // SAFETY: own cell: the caller lets this task alone write it. Its readers expect the type
        // of the code.
        let decoded = unsafe { received.decode(cells.get_unchecked(id as usize)) };
        decoded.err().map(|error| Box::new(Box::new(error) as CallError))
    }

    /// The task that has this value.
    pub(super) fn into_task(self) -> Task {
        let code = self.code;
        // SAFETY: the functions of the kind expect this body. The changed fields treat values of
        // the code's type, which is the type that `call` decodes.
        let mut task = unsafe { Task::new_alone(const { &Self::KIND }, self) };
        task.change_kind(|kind| {
            kind.value_code = Some(code);
            kind.drop_value = code.item.drop_value;
        });
        task
    }
}

/// An input that has failed in the submitting process. The task that reads it takes the error.
pub(super) struct FailedInput(pub(super) Error);

impl FailedInput {
    /// The kind of a value that is never there; see [`Received::KIND`].
    const KIND: Kind = Kind { call: Self::call, value_bytes: 0, type_id: TypeId::of::<Self>, ..ValueOf::<Self>::LOCAL };

    unsafe fn call(task: TaskRef, _: &[Cell], _: *const u32, _: u32, _: bool) -> Option<Box<CallError>> {
        // SAFETY: own task: by rule 2 of `node` its body is the one that this kind was made for.
        let FailedInput(error) = unsafe { task.body::<Self>() };
        Some(Box::new(Box::new(error.clone())))
    }

    /// The task that fails with this error in place of a value with this code.
    pub(super) fn into_task(self, code: &'static CodeDescriptor<ValueCode>) -> Task {
        // SAFETY: the functions of the kind expect this body. It never has a value.
        let mut task = unsafe { Task::new_alone(const { &Self::KIND }, self) };
        task.change_kind(|kind| {
            kind.value_code = Some(code);
            kind.drop_value = code.item.drop_value;
        });
        task
    }
}

/// A call from another process, with encoded arguments.
pub(super) struct ForeignCall {
    pub(super) code: &'static CodeDescriptor<TaskCode>,
    pub(super) codec: Codec,
    pub(super) args: Box<[u8]>,
    /// The inputs in the order in which the call reads them.
    pub(super) inputs: Vec<Task>,
    /// For each input, whether it has failed and the call takes its error.
    pub(super) takes_error: Vec<bool>,
}

impl ForeignCall {
    const KIND: Kind = Kind {
        call: Self::call,
        visit_inputs: Self::visit_inputs,
        release_inputs: Self::release_inputs,
        value_bytes: 0,
        whole_bytes: |_| None,
        drop_value: None,
        clone_value: None,
        write_args: Self::write_args,
        describe_args: |_, _| {},
        tolerates: None,
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

    /// Calls the function in this process, to replay a failure.
    unsafe fn call(task: TaskRef, cells: &[Cell], inputs: *const u32, id: u32, keep: bool) -> Option<Box<CallError>> {
        let failed = |message: String| Some(Box::new(CallError::from(message)));
        if keep {
            return failed("a task in a worker process submitted it, and it can be called here only once".into());
        }
        // SAFETY: own task: by rule 2 of `node` its body is the one that this kind was made for.
        let call = unsafe { task.body::<ForeignCall>() };
        let mut decoder = Decoder::new(call.codec, &call.args, &[]);
        // SAFETY: a task with this code has encoded the arguments, in a process of the same
        // executable, and `inputs` are that task's in its order. The caller keeps the other
        // conditions: own ids, finished inputs, own cell, one release.
        match unsafe { (call.code.item.call)(&mut decoder, cells, inputs, id) } {
            Ok(returned) => returned,
            Err((argument, error)) => failed(format!("cannot decode argument {}: {error}", argument + 1)),
        }
    }

    unsafe fn visit_inputs(task: TaskRef, inputs: &mut Vec<TaskRef>) {
        // SAFETY: own task: by rule 2 of `node` its body is the one that this kind was made for.
        inputs.extend(unsafe { task.body::<ForeignCall>() }.inputs.iter().map(Task::as_ref));
    }

    unsafe fn tolerates(task: TaskRef, edges: &mut Vec<bool>) {
        // SAFETY: own task: by rule 2 of `node` its body is the one that this kind was made for.
        edges.extend_from_slice(&unsafe { task.body::<ForeignCall>() }.takes_error);
    }

    unsafe fn release_inputs(task: TaskRef, cells: &[Cell], inputs: *const u32) {
        // SAFETY: own task: by rule 2 of `node` its body is the one that this kind was made for.
        let call = unsafe { task.body::<ForeignCall>() };
        for (place, input) in call.inputs.iter().enumerate() {
            if let Some(drop_value) = input.as_ref().kind().drop_value {
                // SAFETY: own ids: `inputs` has one id for each input, and it is below
                // `cells.len()`. Finished inputs and one release: the cell was announced as
                // finished and this reader has not released it.
                unsafe { cells.get_unchecked(*inputs.add(place) as usize).release_with(drop_value) };
            }
        }
    }

    unsafe fn write_args(task: TaskRef, encoder: &mut Encoder<'_>) -> Result<(), ArgumentError> {
        // SAFETY: own task: by rule 2 of `node` its body is the one that this kind was made for.
        encoder.append(&unsafe { task.body::<ForeignCall>() }.args);
        Ok(())
    }

    /// The task of this call, and the code of its value. `None` if the code has no value, which no
    /// sender sends.
    pub(super) fn into_task(self, options: Options) -> Option<(Task, &'static CodeDescriptor<ValueCode>)> {
        let (code, value) = (self.code, self.code.item.value?);
        let takes_errors = self.takes_error.contains(&true);
        // SAFETY: the functions of the kind expect this body. The changed fields call the function
        // of the code in another process, and treat values of its type.
        let mut task = unsafe { Task::new_alone(const { &Self::KIND }, self) };
        task.change_kind(|kind| {
            kind.code = Some(code);
            kind.value_code = Some(value);
            kind.drop_value = value.item.drop_value;
            kind.type_name = code.item.function;
            kind.tolerates = takes_errors.then_some(Self::tolerates);
        });
        *task.options_mut()? = options;
        Some((task, value))
    }
}

/// A promise that keeps its value encoded.
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
        snapshot: Option<Snapshot>,
    ) -> Self {
        let record = PromiseState::new(owner, Some(task), snapshot);
        // No future of this process keeps it wanted. The submitting task cancels it instead.
        record.detach();
        ForeignPromise { record, value: OnceLock::new(), code, codec }
    }

    /// The value of a promise that has finished.
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
        // SAFETY: the caller passes the cell of the promise's task, which holds a value of the
        // code's type that this output has not released.
        let encoded = unsafe { (self.code.item.encode)(cell, &mut encoder) };
        if let Some(drop_value) = self.code.item.drop_value {
            // SAFETY: as above. This output counts as a reader, and releases the value once.
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
