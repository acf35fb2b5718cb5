//! Encodes a value in either format. The header of [`format`](super::format) says how.

use super::format::{Format, LONG, OTHER_NUMBER, tag};
use super::input::{MAX_DEPTH, too_deep};
use super::number::{Number, for_each_number};
use super::out_of_band::{self, Offer, Placed, Slot};
use super::sink::Sink;
use crate::portable::error::CodecError;
use crate::portable::region::{Memory, Region};
use serde::{Serialize, ser};
use std::marker::PhantomData;

const OMITS_FIELDS: &str = "the type leaves out a field (skip_serializing_if), and the codec \"fast\" records no field names; set \
    processes.codec = \"self-describing\"";

type Result<T> = std::result::Result<T, CodecError>;
/// The name of a type, field or variant.
type Name = &'static str;

pub(super) struct ValueSerializer<'a, F, S> {
    sink: S,
    memory: Option<&'a Memory>,
    regions: &'a mut Vec<Region>,
    depth: u32,
    format: PhantomData<F>,
}

impl<'a, F: Format, S: Sink> ValueSerializer<'a, F, S> {
    pub(super) fn new(sink: S, memory: Option<&'a Memory>, regions: &'a mut Vec<Region>) -> Self {
        ValueSerializer { sink, memory, regions, depth: 0, format: PhantomData }
    }

    pub(super) fn sink(&self) -> &S {
        &self.sink
    }

    #[inline(always)]
    fn enter(&mut self) -> Result<()> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        Ok(())
    }

    #[inline(always)]
    fn nested<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.enter()?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    #[inline(always)]
    fn put_tag(&mut self, tag: u8) -> Result<()> {
        if F::IS_DESCRIBED { self.sink.put([tag]) } else { Ok(()) }
    }

    #[inline(always)]
    fn put_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if F::IS_DESCRIBED && bytes.len() < usize::from(LONG) {
            self.sink.put([bytes.len() as u8])?;
        } else {
            self.put_tag(LONG)?;
            self.sink.put((bytes.len() as u64).to_le_bytes())?;
        }
        self.sink.put_slice(bytes)
    }

    /// Begins a variant.
    #[inline(always)]
    fn put_variant(&mut self, tag: u8, index: u32, name: &str) -> Result<()> {
        if F::IS_DESCRIBED {
            self.sink.put([tag])?;
            self.put_bytes(name.as_bytes())
        } else {
            self.sink.put(index.to_le_bytes())
        }
    }

    /// Begins a sequence or a map.
    #[inline(always)]
    fn elements(&mut self, tag: u8, len: Option<usize>) -> Result<Compound<'_, 'a, F, S>> {
        let outer_depth = self.depth;
        self.enter()?;
        self.put_tag(tag)?;
        let count_at = self.sink.position();
        let promised = len.unwrap_or(0) as u64;
        self.sink.put(promised.to_le_bytes())?;
        Ok(Compound { serializer: self, outer_depth, count_at, promised, count: 0, entry_at: 0 })
    }

    /// Begins a tuple or a struct.
    #[inline(always)]
    fn fields(&mut self, tag: u8, len: usize) -> Result<Compound<'_, 'a, F, S>> {
        if F::IS_DESCRIBED {
            return self.elements(tag, Some(len));
        }
        let outer_depth = self.depth;
        self.enter()?;
        Ok(Compound { serializer: self, outer_depth, count_at: 0, promised: 0, count: 0, entry_at: 0 })
    }

    /// Begins a tuple variant or a struct variant: a level for the variant and one for its fields,
    /// as in decoding.
    #[inline(always)]
    fn variant_fields(&mut self, index: u32, name: &str, tag: u8, len: usize) -> Result<Compound<'_, 'a, F, S>> {
        self.put_variant(tag::VARIANT, index, name)?;
        let outer_depth = self.depth;
        self.enter()?;
        Ok(Compound { outer_depth, ..self.fields(tag, len)? })
    }

    /// The header of `out_of_band` describes the exchange with the array.
    fn array<T: Serialize + ?Sized>(&mut self, array: &T) -> Result<()> {
        if !F::IS_DESCRIBED {
            self.sink.put([tag::SEQ])?;
        }
        out_of_band::leave(Slot::Offer(Offer { memory: self.memory.cloned(), is_described: F::IS_DESCRIBED }));
        let result = self.nested(array);
        // If a foreign serializer turned the array into a plain sequence, the array did not take
        // the offer.
        let _offer = out_of_band::take();
        result
    }

    fn placed<T: Serialize + ?Sized>(&mut self, content: &T) -> Result<()> {
        match out_of_band::take() {
            Some(Slot::Placed(Placed::Inline(number))) => {
                self.put_array_tag(tag::ARRAY_INLINE, number)?;
                content.serialize(self)
            }
            Some(Slot::Placed(Placed::InRegion(number, region, byte_len))) => {
                self.put_array_tag(tag::ARRAY_IN_REGION, number)?;
                self.sink.put((self.regions.len() as u32).to_le_bytes())?;
                self.sink.put((byte_len as u64).to_le_bytes())?;
                self.regions.push(region);
                Ok(())
            }
            _ => content.serialize(self),
        }
    }

    fn put_array_tag(&mut self, tag: u8, number: Option<Number>) -> Result<()> {
        if F::IS_DESCRIBED {
            self.sink.put([tag])?;
        } else {
            // The array has put nothing since `array` put the tag of a sequence.
            self.sink.patch(self.sink.position() - 1, [tag]);
        }
        self.sink.put([number.map_or(OTHER_NUMBER, |number| number as u8)])
    }
}

macro_rules! serialize_numbers {
    ($($name:ident $type:ident $serialize:ident $deserialize:ident $visit:ident),*) => {
        $(
            #[inline(always)]
            fn $serialize(self, value: $type) -> Result<()> {
                self.put_tag(Number::$name as u8)?;
                self.sink.put(value.to_le_bytes())
            }
        )*
    };
}

impl<'w, 'a, F: Format, S: Sink> ser::Serializer for &'w mut ValueSerializer<'a, F, S> {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = Compound<'w, 'a, F, S>;
    type SerializeTuple = Compound<'w, 'a, F, S>;
    type SerializeTupleStruct = Compound<'w, 'a, F, S>;
    type SerializeTupleVariant = Compound<'w, 'a, F, S>;
    type SerializeMap = Compound<'w, 'a, F, S>;
    type SerializeStruct = Compound<'w, 'a, F, S>;
    type SerializeStructVariant = Compound<'w, 'a, F, S>;

    for_each_number!(serialize_numbers);

    #[inline(always)]
    fn serialize_bool(self, value: bool) -> Result<()> {
        self.sink.put([if value { tag::TRUE } else { tag::FALSE }])
    }

    #[inline(always)]
    fn serialize_char(self, value: char) -> Result<()> {
        self.put_tag(tag::CHAR)?;
        self.sink.put(u32::from(value).to_le_bytes())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<()> {
        self.put_tag(tag::STR)?;
        self.put_bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<()> {
        self.put_tag(tag::BYTES)?;
        self.put_bytes(value)
    }

    #[inline(always)]
    fn serialize_none(self) -> Result<()> {
        self.sink.put([tag::NONE])
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        self.sink.put([tag::SOME])?;
        self.nested(value)
    }

    #[inline(always)]
    fn serialize_unit(self) -> Result<()> {
        self.put_tag(tag::UNIT)
    }

    #[inline(always)]
    fn serialize_unit_struct(self, _: Name) -> Result<()> {
        self.put_tag(tag::UNIT)
    }

    #[inline(always)]
    fn serialize_unit_variant(self, _: Name, index: u32, name: Name) -> Result<()> {
        // Decoding enters every variant.
        self.enter()?;
        self.depth -= 1;
        self.put_variant(tag::UNIT_VARIANT, index, name)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: Name, value: &T) -> Result<()> {
        match name {
            out_of_band::ARRAY => self.array(value),
            out_of_band::PLACED => self.placed(value),
            _ => self.nested(value),
        }
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: Name,
        index: u32,
        name: Name,
        value: &T,
    ) -> Result<()> {
        self.put_variant(tag::VARIANT, index, name)?;
        self.nested(value)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Compound<'w, 'a, F, S>> {
        self.elements(tag::SEQ, len)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Compound<'w, 'a, F, S>> {
        self.fields(tag::SEQ, len)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: Name, len: usize) -> Result<Compound<'w, 'a, F, S>> {
        self.fields(tag::SEQ, len)
    }

    #[inline]
    fn serialize_tuple_variant(self, _: Name, index: u32, name: Name, len: usize) -> Result<Compound<'w, 'a, F, S>> {
        self.variant_fields(index, name, tag::SEQ, len)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Compound<'w, 'a, F, S>> {
        self.elements(tag::MAP, len)
    }

    #[inline]
    fn serialize_struct(self, _: Name, len: usize) -> Result<Compound<'w, 'a, F, S>> {
        self.fields(tag::MAP, len)
    }

    #[inline]
    fn serialize_struct_variant(self, _: Name, index: u32, name: Name, len: usize) -> Result<Compound<'w, 'a, F, S>> {
        self.variant_fields(index, name, tag::MAP, len)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A sequence, map, tuple or struct that is being written.
pub(super) struct Compound<'w, 'a, F, S> {
    serializer: &'w mut ValueSerializer<'a, F, S>,
    outer_depth: u32,
    /// Where the count lies, and the count that was written there. Not used for fields in the fast
    /// format.
    count_at: usize,
    promised: u64,
    count: u64,
    /// Where the current entry of a map begins.
    entry_at: usize,
}

impl<F: Format, S: Sink> Compound<'_, '_, F, S> {
    /// Ends an element that began at this position.
    #[inline(always)]
    fn end_element(&mut self, began_at: usize) -> Result<()> {
        self.count += 1;
        if self.serializer.sink.position() == began_at { self.serializer.sink.put([0]) } else { Ok(()) }
    }

    #[inline(always)]
    fn end_elements(self) -> Result<()> {
        if self.count != self.promised {
            self.serializer.sink.patch(self.count_at, self.count.to_le_bytes());
        }
        self.serializer.depth = self.outer_depth;
        Ok(())
    }
}

impl<F: Format, S: Sink> ser::SerializeSeq for Compound<'_, '_, F, S> {
    type Ok = ();
    type Error = CodecError;

    #[inline(always)]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let began_at = self.serializer.sink.position();
        value.serialize(&mut *self.serializer)?;
        self.end_element(began_at)
    }

    #[inline(always)]
    fn end(self) -> Result<()> {
        self.end_elements()
    }
}

impl<F: Format, S: Sink> ser::SerializeMap for Compound<'_, '_, F, S> {
    type Ok = ();
    type Error = CodecError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.entry_at = self.serializer.sink.position();
        key.serialize(&mut *self.serializer)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        value.serialize(&mut *self.serializer)?;
        self.end_element(self.entry_at)
    }

    #[inline]
    fn end(self) -> Result<()> {
        self.end_elements()
    }
}

macro_rules! serialize_fields {
    ($($trait:ident :: $method:ident ( $($name:ident)? )),*) => {
        $(
            impl<F: Format, S: Sink> ser::$trait for Compound<'_, '_, F, S> {
                type Ok = ();
                type Error = CodecError;

                #[inline(always)]
                fn $method<T: Serialize + ?Sized>(&mut self, $($name: Name,)? value: &T) -> Result<()> {
                    if F::IS_DESCRIBED {
                        self.count += 1;
                        $(ser::Serializer::serialize_str(&mut *self.serializer, $name)?;)?
                    }
                    value.serialize(&mut *self.serializer)
                }

                #[inline(always)]
                fn end(self) -> Result<()> {
                    if F::IS_DESCRIBED {
                        return self.end_elements();
                    }
                    self.serializer.depth = self.outer_depth;
                    Ok(())
                }

                $(
                    #[cold]
                    fn skip_field(&mut self, $name: Name) -> Result<()> {
                        let _ = $name;
                        if F::IS_DESCRIBED { Ok(()) } else { Err(CodecError::new(OMITS_FIELDS)) }
                    }
                )?
            }
        )*
    };
}

serialize_fields! {
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(name),
    SerializeStructVariant::serialize_field(name)
}
