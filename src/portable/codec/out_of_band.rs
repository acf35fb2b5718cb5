//! What lies beside the bytes: regions, and how an array gets to one through serde's traits.
//!
//! serde has no word for "these bytes lie elsewhere". So an array hands itself over as a newtype struct with the name [`ARRAY`], which is a
//! plain sequence to all formats but ours. Ours leave an [`Offer`] in a slot of the thread and ask the array to go on; it finds the offer,
//! so it knows with whom it talks, leaves what it decided in the slot, and calls back under the name [`PLACED`]. Decoding is the same the
//! other way round. Between the filling of the slot and its emptying no code of others runs.

use crate::portable::region::{Memory, Region};
use std::cell::Cell;

/// The name of an array. No type of a program has it: it is no identifier.
pub(in crate::portable) const ARRAY: &str = "sprang::SharedArray";

/// The name under which an array calls back: what follows is described in the slot.
pub(in crate::portable) const PLACED: &str = "sprang::SharedArray::placed";

/// Who is encoding, when an array is reached.
pub(in crate::portable) struct Offer {
    /// Where large arrays go.
    pub(in crate::portable) memory: Option<Memory>,
    /// Whether what is written has to say of what numbers the array is.
    pub(in crate::portable) is_described: bool,
}

/// How an array is encoded.
pub(in crate::portable) enum Placed {
    /// As a sequence, which comes next.
    Elements,
    /// As bytes, which come next.
    Inline(Option<Number>),
    /// As the first so many bytes of a region.
    InRegion(Option<Number>, Region, usize),
}

/// What an array that is decoded gets.
pub(in crate::portable) enum Found {
    /// The bytes lie at the start of this region.
    InRegion(Region, usize),
    /// The bytes are those that the visitor is called with.
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

/// The types of numbers that a self-describing encoding can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::portable) enum Number {
    U8,
    U16,
    U32,
    U64,
    U128,
    I8,
    I16,
    I32,
    I64,
    I128,
    F32,
    F64,
}

impl Number {
    const ALL: [Number; 12] = [
        Number::U8,
        Number::U16,
        Number::U32,
        Number::U64,
        Number::U128,
        Number::I8,
        Number::I16,
        Number::I32,
        Number::I64,
        Number::I128,
        Number::F32,
        Number::F64,
    ];

    pub(in crate::portable) fn from_code(code: u8) -> Option<Number> {
        Number::ALL.get(usize::from(code)).copied()
    }

    pub(in crate::portable) fn size(self) -> usize {
        match self {
            Number::U8 | Number::I8 => 1,
            Number::U16 | Number::I16 => 2,
            Number::U32 | Number::I32 | Number::F32 => 4,
            Number::U64 | Number::I64 | Number::F64 => 8,
            Number::U128 | Number::I128 => 16,
        }
    }
}
