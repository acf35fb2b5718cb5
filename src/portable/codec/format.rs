//! The two formats, and how each kind of value looks in them.
//!
//! | value | [`Fast`] | [`SelfDescribing`] |
//! |---|---|---|
//! | number, `char` | its bytes, the lowest first | its tag, then the same |
//! | `bool` | a tag | a tag |
//! | option | a tag, then the value if there is one | the same |
//! | string, bytes | length in eight bytes, bytes | tag, length in one or nine bytes, bytes |
//! | unit | nothing | a tag |
//! | sequence, map | count in eight bytes, then the elements | tag, then the same |
//! | tuple | its fields | as a sequence |
//! | struct | its fields | as a map from names |
//! | variant | index in four bytes, then its value | tag, name, then its value |
//! | array out of band | a tag, then as below | the same |
//!
//! [`Fast`] writes what a reader that knows the type needs, and nothing else. In a
//! [`SelfDescribing`] value a type may ask the reader what comes next, and may leave out fields. It
//! keeps all of serde's data model apart, `Some(())` from `None` and the width of a number too,
//! which formats made for other purposes do not do.
//!
//! An element of a sequence, or an entry of a map, that would take no bytes (one of type `()`, in
//! the fast format) takes one. So no count can be larger than the number of bytes that follow, and
//! a reader that checks the count does no more work than the bytes are worth.
//!
//! An array is written as its elements, as its bytes, or as a reference to a region (see
//! [`out_of_band`](super::out_of_band)). For its elements the fast format writes [`tag::SEQ`]
//! before the sequence, and the other format writes the sequence alone. Otherwise the tag and the
//! code of the [`Number`](super::number::Number) come first.

/// One of the two formats.
pub(super) trait Format {
    /// Whether tags say what comes next, and names say which field or variant it is.
    const IS_DESCRIBED: bool;
}

pub(super) enum Fast {}

pub(super) enum SelfDescribing {}

impl Format for Fast {
    const IS_DESCRIBED: bool = false;
}

impl Format for SelfDescribing {
    const IS_DESCRIBED: bool = true;
}

/// What comes next. The numbers have the codes of [`Number`](super::number::Number), which come
/// before these.
pub(super) mod tag {
    pub(in super::super) const UNIT: u8 = 16;
    pub(in super::super) const FALSE: u8 = 17;
    pub(in super::super) const TRUE: u8 = 18;
    pub(in super::super) const CHAR: u8 = 19;
    pub(in super::super) const STR: u8 = 20;
    pub(in super::super) const BYTES: u8 = 21;
    pub(in super::super) const NONE: u8 = 22;
    /// A value follows.
    pub(in super::super) const SOME: u8 = 23;
    /// A count and that many values follow.
    pub(in super::super) const SEQ: u8 = 24;
    /// A count and that many pairs of values follow.
    pub(in super::super) const MAP: u8 = 25;
    /// A name follows.
    pub(in super::super) const UNIT_VARIANT: u8 = 26;
    /// A name and a value follow: the value of a newtype variant, a sequence for a tuple variant, a
    /// map for a struct variant.
    pub(in super::super) const VARIANT: u8 = 27;
    /// The code of a number and the array's bytes as a value follow.
    pub(in super::super) const ARRAY_INLINE: u8 = 28;
    /// The code of a number, the index of a region in four bytes and the length of its used part in
    /// eight follow.
    pub(in super::super) const ARRAY_IN_REGION: u8 = 29;
}

/// The self-describing length that eight bytes with the actual length follow.
pub(super) const LONG: u8 = u8::MAX;

/// The code of an array whose elements are none of the known numbers.
pub(super) const OTHER_NUMBER: u8 = u8::MAX;
