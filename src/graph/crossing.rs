//! The typed functions by which calls and values cross to another process.
//!
//! In the sending process a task's arguments and the values of its inputs are encoded one by one; in the receiving one they are decoded
//! into cells, and the task is called with these as if it stood in a graph there. The receiver finds the functions by a reference to
//! their static: [`TaskCode`] for the call, [`ValueCode`] for a value, which may come from a task with another function.

#![expect(unsafe_code, reason = "typed values in untyped cells")]

use super::node::{ArgumentError, CallError};
use super::value::{Cell, drop_value_of, needs_release};
use crate::portable::Portable;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::{self, Codec, CodecError, Decoder, Encoder};
use std::any::{Any, type_name};
use std::marker::PhantomData;
use std::sync::Arc;

/// Calls a task whose encoded arguments come from the decoder.
///
/// The other arguments are the cells of the call, where the ids of the inputs start, and the id of the cell for the value, which stays
/// empty if the call gives none.
///
/// # Safety
/// The arguments were encoded by the task's kind. There are as many ids as the task has inputs, each below the number of cells and
/// with a value of the input's type in its cell; the task's own cell is empty.
pub(crate) type CallEncodedFn =
    unsafe fn(&mut Decoder<'_>, &[Cell], *const u32, u32) -> Result<Option<Box<CallError>>, ArgumentError>;

/// How another process calls a task.
#[derive(Debug)]
pub(crate) struct TaskCode {
    /// The name of the function's type.
    pub(crate) function: fn() -> &'static str,
    pub(crate) call: CallEncodedFn,
    /// `None` where there is no code either.
    pub(crate) value: Option<&'static CodeDescriptor<ValueCode>>,
}

/// How values of one type cross.
#[derive(Debug)]
pub struct ValueCode {
    pub(crate) type_name: fn() -> &'static str,
    /// # Safety
    /// As [`Cell::peek`].
    pub(crate) encode: unsafe fn(&Cell, &mut Encoder<'_>) -> Result<(), CodecError>,
    /// How many bytes the encoding would have; `None` if the value cannot be encoded.
    ///
    /// # Safety
    /// As [`Cell::peek`].
    pub(crate) measure: unsafe fn(&Cell, Codec) -> Option<u64>,
    /// # Safety
    /// As [`Cell::put`].
    pub(crate) decode: unsafe fn(&mut Decoder<'_>, &Cell) -> Result<(), CodecError>,
    /// Lets the readers of the second cell see the value of the first.
    ///
    /// # Safety
    /// As [`Cell::peek`] for the first and [`Cell::put_external`] for the second.
    pub(crate) share: unsafe fn(&Cell, &Cell),
    /// `None` if there is nothing to do.
    pub(crate) drop_value: Option<unsafe fn(&Cell)>,
    /// Puts what the value decodes to in its place.
    ///
    /// # Safety
    /// As [`Cell::take`] and then [`Cell::put`].
    pub(crate) round_trip: unsafe fn(&Cell, Codec) -> Result<(), String>,
}

/// A value that is kept as it crosses, to be sent on or to be decoded when it is asked for here.
pub(crate) trait Encoded: Send + Sync {
    /// # Errors
    /// If it cannot be decoded.
    ///
    /// # Safety
    /// As [`Cell::put`]; the readers of the cell know the type of the value.
    unsafe fn decode(&self, cell: &Cell) -> Result<(), CodecError>;

    /// The encoding without memory beside it.
    ///
    /// # Errors
    /// If it cannot be decoded and encoded anew, where there is such memory.
    fn to_bytes(&self) -> Result<Vec<u8>, CodecError>;

    /// How much memory it takes up.
    fn num_bytes(&self) -> usize;

    /// For the executor that made it.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
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
        // SAFETY: the caller's contract.
        encoder.write(unsafe { cell.peek::<T>() })
    }

    unsafe fn measure(cell: &Cell, codec: Codec) -> Option<u64> {
        // SAFETY: the caller's contract.
        codec::encoded_len(codec, unsafe { cell.peek::<T>() }).ok().map(|len| len as u64)
    }

    unsafe fn decode(decoder: &mut Decoder<'_>, cell: &Cell) -> Result<(), CodecError> {
        let value = decoder.read::<T>()?;
        // SAFETY: the caller's contract.
        unsafe { cell.put(value) };
        Ok(())
    }

    unsafe fn share(from: &Cell, to: &Cell) {
        // SAFETY: the caller's contract.
        unsafe { to.put_external::<T>(from.peek()) };
    }

    unsafe fn round_trip(cell: &Cell, codec: Codec) -> Result<(), String> {
        let type_name = type_name::<T>();
        let mut encoder = Encoder::new(codec, None);
        // SAFETY: the caller's contract.
        unsafe { Self::encode(cell, &mut encoder) }.map_err(|error| format!("cannot encode `{type_name}`: {error}"))?;
        let (bytes, regions) = encoder.finish();
        let copy: T = Decoder::new(codec, &bytes, &regions)
            .read()
            .map_err(|error| format!("cannot decode `{type_name}`: {error}"))?;
        // SAFETY: the caller is the cell's task; the new value is in place before dropping the old one can panic.
        let _old = unsafe {
            let old = cell.take::<T>();
            cell.put(copy);
            old
        };
        Ok(())
    }
}
