//! The typed functions that send calls and values to another process.
//!
//! The sender encodes a task's arguments and the values of its inputs one by one. The receiver
//! decodes them into cells and calls the task as if it were part of a graph there. It finds the
//! functions by a reference to their static: [`TaskCode`] for the call, [`ValueCode`] for a value,
//! which may come from a task with another function.

#![expect(unsafe_code, reason = "typed values in untyped cells")]

use super::node::{ArgumentError, CallError};
use super::owned;
use super::value::{Cell, drop_value_of, needs_release};
use crate::portable::Portable;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{self, Codec, CodecError, Decoder, Encoder};
use std::any::{Any, type_name};
use std::marker::PhantomData;
use std::mem::needs_drop;
use std::sync::Arc;

/// Calls a task with encoded arguments.
///
/// The parameters are the decoder of the arguments, the cells of the call, the ids of the inputs,
/// and the id of the task's own cell. That cell stays empty if the call returns an error.
///
/// # Safety
/// The arguments were encoded by `write_args` of a task with this code. Own ids, finished inputs,
/// own cell and one release (see [`node`](super::node)), where the inputs are those of that task.
pub(crate) type CallEncodedFn =
    unsafe fn(&mut Decoder<'_>, &[Cell], *const u32, u32) -> Result<Option<Box<CallError>>, ArgumentError>;

/// The function by which another process calls a task.
#[derive(Debug)]
pub(crate) struct TaskCode {
    /// The name of the function's type.
    pub(crate) function: fn() -> &'static str,
    pub(crate) call: CallEncodedFn,
    /// The code of the task's value; `None` if the task has no code either.
    pub(crate) value: Option<&'static CodeDescriptor<ValueCode>>,
}

/// The functions that send values of one type.
#[derive(Debug)]
pub struct ValueCode {
    pub(crate) type_name: fn() -> &'static str,
    /// # Safety
    /// As [`Cell::peek`].
    pub(crate) encode: unsafe fn(&Cell, &mut Encoder<'_>) -> Result<(), CodecError>,
    /// The length of the encoding in bytes; `None` if the value cannot be encoded.
    ///
    /// # Safety
    /// As [`Cell::peek`].
    pub(crate) measure: unsafe fn(&Cell, Codec) -> Option<u64>,
    /// # Safety
    /// As [`Cell::put`].
    pub(crate) decode: unsafe fn(&mut Decoder<'_>, &Cell) -> Result<(), CodecError>,
    /// Makes the value of the first cell readable through the second.
    ///
    /// # Safety
    /// As [`Cell::peek`] for the first and [`Cell::put_external`] for the second.
    pub(crate) share: unsafe fn(&Cell, &Cell),
    /// Drops a value of the type; `None` if the type needs no release.
    ///
    /// # Safety
    /// As [`drop_value_of`].
    pub(crate) drop_value: Option<unsafe fn(&Cell)>,
    /// Encodes and decodes the value, and replaces it by the result.
    ///
    /// # Safety
    /// As [`Cell::take`] and then [`Cell::put`].
    pub(crate) round_trip: unsafe fn(&Cell, Codec) -> Result<(), String>,
}

/// A value that is kept encoded, to be sent on, or to be decoded when this process needs it.
pub(crate) trait Encoded: Send + Sync {
    /// Decodes the value into a cell.
    ///
    /// # Errors
    /// The value cannot be decoded.
    ///
    /// # Safety
    /// As [`Cell::put`]; the readers of the cell expect the type of this value.
    unsafe fn decode(&self, cell: &Cell) -> Result<(), CodecError>;

    /// The encoding as one piece, with nothing in shared memory.
    ///
    /// # Errors
    /// A part lies in shared memory, and the value cannot be decoded and encoded again.
    fn to_bytes(&self) -> Result<Vec<u8>, CodecError>;

    /// The size of the encoding in memory, in bytes.
    fn num_bytes(&self) -> usize;

    /// The concrete value, for the executor that made it.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// The bytes of a value with all that it owns; `None` if its type cannot tell.
///
/// # Safety
/// As [`Cell::peek`].
pub(super) unsafe fn whole_bytes<T: 'static>(cell: &Cell) -> Option<u64> {
    if !needs_drop::<T>() {
        return Some(size_of::<T>() as u64);
    }
    let measure = owned::measure_of::<T>()?;
    // SAFETY: the caller keeps the conditions of `peek` for a `T`.
    Some((size_of::<T>() + measure(unsafe { cell.peek::<T>() })) as u64)
}

/// The functions for one type of value.
pub(crate) struct Crossing<T>(PhantomData<T>);

impl<T: Portable> Crossing<T> {
    pub(crate) const CODE: &'static CodeDescriptor<ValueCode> = &CodeDescriptor::new(
        type_name::<T>,
        ValueCode {
            type_name: type_name::<T>,
            encode: Self::encode,
            measure: Self::measure,
            decode: Self::decode,
            share: Self::share,
            drop_value: if needs_release::<T>() { Some(drop_value_of::<T>) } else { None },
            round_trip: Self::round_trip,
        },
    );

    unsafe fn encode(cell: &Cell, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        // SAFETY: the caller keeps the conditions of `peek` for a `T`.
        encoder.write(unsafe { cell.peek::<T>() })
    }

    unsafe fn measure(cell: &Cell, codec: Codec) -> Option<u64> {
        // SAFETY: the caller keeps the conditions of `peek` for a `T`.
        codec::encoded_len(codec, unsafe { cell.peek::<T>() }).ok().map(|len| len as u64)
    }

    unsafe fn decode(decoder: &mut Decoder<'_>, cell: &Cell) -> Result<(), CodecError> {
        let value = decoder.read::<T>()?;
        // SAFETY: the caller keeps the conditions of `put`.
        unsafe { cell.put(value) };
        Ok(())
    }

    unsafe fn share(from: &Cell, to: &Cell) {
        // SAFETY: the caller keeps the conditions of `peek` for the first cell and of
        // `put_external` for the second.
        unsafe { to.put_external::<T>(from.peek()) };
    }

    unsafe fn round_trip(cell: &Cell, codec: Codec) -> Result<(), String> {
        let type_name = type_name::<T>();
        let mut encoder = Encoder::new(codec, None);
        // SAFETY: `take` requires what `peek` requires, and the caller keeps it.
        unsafe { Self::encode(cell, &mut encoder) }.map_err(|error| format!("cannot encode `{type_name}`: {error}"))?;
        let (bytes, regions) = encoder.finish();
        let copy: T = Decoder::new(codec, &bytes, &regions)
            .read()
            .map_err(|error| format!("cannot decode `{type_name}`: {error}"))?;
        // SAFETY: the caller keeps the conditions of `take` and then of `put`. The new value is in
        // the cell before dropping the old one can panic.
        let _old = unsafe {
            let old = cell.take::<T>();
            cell.put(copy);
            old
        };
        Ok(())
    }
}
