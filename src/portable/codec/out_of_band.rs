//! How an array passes its elements out of band, beside the bytes, through serde's traits.
//!
//! serde cannot express "these bytes lie elsewhere". So an array serializes itself as a newtype
//! struct with the name [`ARRAY`], which is a plain sequence to every foreign format. Our formats
//! leave an [`Offer`] in a slot of the thread and serialize the content of the newtype. The array
//! finds the offer, so it knows the serializer, leaves its decision in the slot as [`Placed`], and
//! calls the serializer again under the name [`PLACED`]. In decoding, the deserializer leaves
//! [`Found`] for the array. No foreign code runs between the filling of the slot and its emptying.

use super::number::Number;
use crate::portable::region::{Memory, Region};
use std::cell::Cell;

/// The name of an array. It is no identifier, so no type of a program has it.
pub(in crate::portable) const ARRAY: &str = "sprang::SharedArray";

/// The name under which an array calls the serializer again. The slot describes the content.
pub(in crate::portable) const PLACED: &str = "sprang::SharedArray::placed";

/// What an encoder offers to an array that it reaches.
pub(in crate::portable) struct Offer {
    /// The memory for large arrays.
    pub(in crate::portable) memory: Option<Memory>,
    /// Whether the encoding must name the type of the array's numbers.
    pub(in crate::portable) is_described: bool,
}

/// How an array is encoded.
pub(in crate::portable) enum Placed {
    /// As a sequence, which is the content.
    Elements,
    /// As bytes, which are the content.
    Inline(Option<Number>),
    /// As a region and the length of its used part, in bytes.
    InRegion(Option<Number>, Region, usize),
}

/// What a decoder has found of an array.
pub(in crate::portable) enum Found {
    /// The elements take up this many bytes at the start of the region.
    InRegion(Region, usize),
    /// The visitor is called with the elements' bytes.
    Inline,
}

pub(in crate::portable) enum Slot {
    Offer(Offer),
    Placed(Placed),
    Found(Found),
}

thread_local! {
    static SLOT: Cell<Option<Slot>> = const { Cell::new(None) };
}

pub(in crate::portable) fn leave(slot: Slot) {
    SLOT.set(Some(slot));
}

/// Empties the slot.
pub(in crate::portable) fn take() -> Option<Slot> {
    SLOT.take()
}
