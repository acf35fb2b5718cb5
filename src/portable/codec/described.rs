//! The encoding `"self-describing"`: each value begins with a byte that says what it is, and fields and variants have their names.
//!
//! So a type may ask the reader what comes next, and may leave out fields. All of serde's data model is kept apart, `Some(())` from `None`
//! and a number's width too, which formats made for other purposes do not do. A sequence and a map have their length in eight bytes; a
//! string, which is mostly a short name, has its length in one, or in eight after the byte 255.

use super::failure::Failure;
use super::input::{Input, MAX_DEPTH, too_deep};
use super::out_of_band::{self, Found, Number, Offer, Placed, Slot};
use super::sink::Sink;
use crate::portable::region::{Memory, Region};
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde::{Serialize, ser};

/// What comes next. The numbers have the codes of [`Number`], which come first.
mod tag {
    pub(super) const UNIT: u8 = 16;
    pub(super) const FALSE: u8 = 17;
    pub(super) const TRUE: u8 = 18;
    pub(super) const CHAR: u8 = 19;
    pub(super) const STR: u8 = 20;
    pub(super) const BYTES: u8 = 21;
    pub(super) const NONE: u8 = 22;
    /// A value follows.
    pub(super) const SOME: u8 = 23;
    /// A count and so many values.
    pub(super) const SEQ: u8 = 24;
    /// A count and so many pairs of values.
    pub(super) const MAP: u8 = 25;
    /// A name.
    pub(super) const UNIT_VARIANT: u8 = 26;
    /// A name and a value: that of a newtype variant, a sequence for a tuple variant, a map for a struct variant.
    pub(super) const VARIANT: u8 = 27;
    /// The code of a number, and the array's bytes as a value.
    pub(super) const ARRAY_INLINE: u8 = 28;
    /// The code of a number, the index of a region in four bytes and the length of its used part in eight.
    pub(super) const ARRAY_IN_REGION: u8 = 29;
}

const LONG: u8 = u8::MAX;

pub(super) struct Writer<'a, S> {
    sink: S,
    memory: Option<&'a Memory>,
    regions: &'a mut Vec<Region>,
    depth: u32,
}

impl<'a, S: Sink> Writer<'a, S> {
    pub(super) fn new(sink: S, memory: Option<&'a Memory>, regions: &'a mut Vec<Region>) -> Self {
        Writer { sink, memory, regions, depth: 0 }
    }

    pub(super) fn sink(&self) -> &S {
        &self.sink
    }

    fn enter(&mut self) -> Result<(), Failure> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        Ok(())
    }

    fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.len() < usize::from(LONG) {
            self.sink.put([bytes.len() as u8])?;
        } else {
            self.sink.put([LONG])?;
            self.sink.put((bytes.len() as u64).to_le_bytes())?;
        }
        self.sink.put_slice(bytes)
    }

    fn nested<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        self.enter()?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn compound(&mut self, tag: u8, len: Option<usize>) -> Result<Compound<'_, 'a, S>, Failure> {
        self.enter()?;
        self.sink.put([tag])?;
        let count_at = self.sink.position();
        let promised = len.unwrap_or(0) as u64;
        self.sink.put(promised.to_le_bytes())?;
        Ok(Compound { writer: self, count_at, promised, count: 0 })
    }

    fn variant(&mut self, name: &str) -> Result<(), Failure> {
        self.sink.put([tag::VARIANT])?;
        self.put_bytes(name.as_bytes())
    }

    /// See the header of `outside`.
    fn placed<T: Serialize + ?Sized>(&mut self, content: &T) -> Result<(), Failure> {
        match out_of_band::take() {
            Some(Slot::Placed(Placed::Inline(Some(number)))) => {
                // The content begins with a tag and a length of its own.
                self.sink.put([tag::ARRAY_INLINE, number as u8])?;
                content.serialize(&mut *self)
            }
            Some(Slot::Placed(Placed::InRegion(Some(number), region, byte_len))) => {
                self.sink.put([tag::ARRAY_IN_REGION, number as u8])?;
                self.sink.put((self.regions.len() as u32).to_le_bytes())?;
                self.sink.put((byte_len as u64).to_le_bytes())?;
                self.regions.push(region);
                Ok(())
            }
            _ => content.serialize(&mut *self),
        }
    }
}

macro_rules! put_numbers {
    ($($method:ident: $type:ty, $number:ident),*) => {
        $(
            #[inline]
            fn $method(self, value: $type) -> Result<(), Failure> {
                self.sink.put([Number::$number as u8])?;
                self.sink.put(value.to_le_bytes())
            }
        )*
    };
}

impl<'w, 'a, S: Sink> ser::Serializer for &'w mut Writer<'a, S> {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Compound<'w, 'a, S>;
    type SerializeTuple = Compound<'w, 'a, S>;
    type SerializeTupleStruct = Compound<'w, 'a, S>;
    type SerializeTupleVariant = Compound<'w, 'a, S>;
    type SerializeMap = Compound<'w, 'a, S>;
    type SerializeStruct = Compound<'w, 'a, S>;
    type SerializeStructVariant = Compound<'w, 'a, S>;

    put_numbers! {
        serialize_i8: i8, I8, serialize_i16: i16, I16, serialize_i32: i32, I32, serialize_i64: i64, I64,
        serialize_i128: i128, I128, serialize_u8: u8, U8, serialize_u16: u16, U16, serialize_u32: u32, U32,
        serialize_u64: u64, U64, serialize_u128: u128, U128, serialize_f32: f32, F32, serialize_f64: f64, F64
    }

    fn serialize_bool(self, value: bool) -> Result<(), Failure> {
        self.sink.put([if value { tag::TRUE } else { tag::FALSE }])
    }

    fn serialize_char(self, value: char) -> Result<(), Failure> {
        self.sink.put([tag::CHAR])?;
        self.sink.put(u32::from(value).to_le_bytes())
    }

    fn serialize_str(self, value: &str) -> Result<(), Failure> {
        self.sink.put([tag::STR])?;
        self.put_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Failure> {
        self.sink.put([tag::BYTES])?;
        self.put_bytes(value)
    }

    fn serialize_none(self) -> Result<(), Failure> {
        self.sink.put([tag::NONE])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        self.sink.put([tag::SOME])?;
        self.nested(value)
    }

    fn serialize_unit(self) -> Result<(), Failure> {
        self.sink.put([tag::UNIT])
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Failure> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), Failure> {
        self.sink.put([tag::UNIT_VARIANT])?;
        self.put_bytes(name.as_bytes())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), Failure> {
        match name {
            out_of_band::ARRAY => {
                out_of_band::leave(Slot::Offer(Offer { memory: self.memory.cloned(), is_described: true }));
                let result = value.serialize(self);
                // An array that something has turned into a plain sequence under way does not take it.
                let _offer = out_of_band::take();
                result
            }
            out_of_band::PLACED => self.placed(value),
            _ => self.nested(value),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.variant(name)?;
        self.nested(value)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Compound<'w, 'a, S>, Failure> {
        self.compound(tag::SEQ, len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Compound<'w, 'a, S>, Failure> {
        self.compound(tag::SEQ, Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Compound<'w, 'a, S>, Failure> {
        self.compound(tag::SEQ, Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Compound<'w, 'a, S>, Failure> {
        self.variant(name)?;
        self.compound(tag::SEQ, Some(len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Compound<'w, 'a, S>, Failure> {
        self.compound(tag::MAP, len)
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Compound<'w, 'a, S>, Failure> {
        self.compound(tag::MAP, Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Compound<'w, 'a, S>, Failure> {
        self.variant(name)?;
        self.compound(tag::MAP, Some(len))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A sequence or a map that is being written.
pub(super) struct Compound<'w, 'a, S> {
    writer: &'w mut Writer<'a, S>,
    count_at: usize,
    promised: u64,
    count: u64,
}

impl<S: Sink> Compound<'_, '_, S> {
    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        self.count += 1;
        value.serialize(&mut *self.writer)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Failure> {
        self.writer.sink.put([tag::STR])?;
        self.writer.put_bytes(name.as_bytes())?;
        self.element(value)
    }

    fn finish(self) -> Result<(), Failure> {
        if self.count != self.promised {
            self.writer.sink.patch(self.count_at, self.count.to_le_bytes());
        }
        self.writer.depth -= 1;
        Ok(())
    }
}

macro_rules! write_compound {
    ($($trait:ident :: $method:ident ( $($key:ident)? ) => $write:ident),*) => {
        $(
            impl<S: Sink> ser::$trait for Compound<'_, '_, S> {
                type Ok = ();
                type Error = Failure;

                fn $method<T: Serialize + ?Sized>(&mut self, $($key: &'static str,)? value: &T) -> Result<(), Failure> {
                    self.$write($($key,)? value)
                }

                fn end(self) -> Result<(), Failure> {
                    self.finish()
                }
            }
        )*
    };
}

write_compound! {
    SerializeSeq::serialize_element() => element,
    SerializeTuple::serialize_element() => element,
    SerializeTupleStruct::serialize_field() => element,
    SerializeTupleVariant::serialize_field() => element,
    SerializeStruct::serialize_field(key) => field,
    SerializeStructVariant::serialize_field(key) => field
}

impl<S: Sink> ser::SerializeMap for Compound<'_, '_, S> {
    type Ok = ();
    type Error = Failure;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failure> {
        key.serialize(&mut *self.writer)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        self.element(value)
    }

    fn end(self) -> Result<(), Failure> {
        self.finish()
    }
}

pub(super) struct Reader<'de> {
    input: Input<'de>,
}

impl<'de> Reader<'de> {
    pub(super) fn new(input: Input<'de>) -> Self {
        Reader { input }
    }

    pub(super) fn input(&self) -> &Input<'de> {
        &self.input
    }

    fn take_tag(&mut self) -> Result<u8, Failure> {
        self.input.take().map(|[tag]| tag)
    }

    fn take_len(&mut self) -> Result<usize, Failure> {
        match self.input.take()? {
            [LONG] => self.input.take_count(),
            [short] => Ok(usize::from(short)),
        }
    }

    fn take_str(&mut self) -> Result<&'de str, Failure> {
        let len = self.take_len()?;
        self.input.take_str(len)
    }

    fn nested<T>(&mut self, visit: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        self.input.enter()?;
        let result = visit(self);
        self.input.leave();
        result
    }

    fn visit_elements<T>(
        &mut self,
        visit: impl FnOnce(&mut ReadElements<'_, 'de>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let left = self.input.take_count()?;
        self.nested(|reader| {
            let mut elements = ReadElements { reader, left };
            let value = visit(&mut elements)?;
            if elements.left == 0 {
                Ok(value)
            } else {
                Err(Failure::message("the type reads fewer elements than it writes"))
            }
        })
    }

    /// The bytes of an array, and what numbers they are.
    fn take_array(&mut self, tag: u8) -> Result<(Number, ArrayBytes<'de>), Failure> {
        let [code] = self.input.take()?;
        let number = Number::from_code(code).ok_or_else(|| Failure::message(format!("{code} is no type of number")))?;
        if tag == tag::ARRAY_INLINE {
            match self.take_tag()? {
                tag::BYTES => {}
                other => return Err(unknown(other)),
            }
            let len = self.take_len()?;
            return Ok((number, ArrayBytes::Inline(self.input.take_slice(len)?)));
        }
        let region = self.input.take_region()?;
        let byte_len = usize::try_from(u64::from_le_bytes(self.input.take()?)).unwrap_or(usize::MAX);
        Ok((number, ArrayBytes::InRegion(region, byte_len)))
    }
}

enum ArrayBytes<'de> {
    Inline(&'de [u8]),
    InRegion(&'de Region, usize),
}

impl<'de> ArrayBytes<'de> {
    fn get(&self) -> Result<&'de [u8], Failure> {
        match *self {
            ArrayBytes::Inline(bytes) => Ok(bytes),
            ArrayBytes::InRegion(region, byte_len) => {
                region.get(..byte_len).ok_or_else(|| Failure::message("an array is longer than its region"))
            }
        }
    }
}

#[cold]
fn unknown(tag: u8) -> Failure {
    Failure::message(format!("a value cannot begin with {tag}"))
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        macro_rules! number {
            ($type:ty, $visit:ident) => {
                visitor.$visit(<$type>::from_le_bytes(self.input.take()?))
            };
        }
        let tag = self.take_tag()?;
        if let Some(number) = Number::from_code(tag) {
            return match number {
                Number::U8 => number!(u8, visit_u8),
                Number::U16 => number!(u16, visit_u16),
                Number::U32 => number!(u32, visit_u32),
                Number::U64 => number!(u64, visit_u64),
                Number::U128 => number!(u128, visit_u128),
                Number::I8 => number!(i8, visit_i8),
                Number::I16 => number!(i16, visit_i16),
                Number::I32 => number!(i32, visit_i32),
                Number::I64 => number!(i64, visit_i64),
                Number::I128 => number!(i128, visit_i128),
                Number::F32 => number!(f32, visit_f32),
                Number::F64 => number!(f64, visit_f64),
            };
        }
        match tag {
            tag::UNIT => visitor.visit_unit(),
            tag::FALSE => visitor.visit_bool(false),
            tag::TRUE => visitor.visit_bool(true),
            tag::CHAR => {
                let code = u32::from_le_bytes(self.input.take()?);
                let value = char::from_u32(code).ok_or_else(|| Failure::message(format!("{code} is no `char`")))?;
                visitor.visit_char(value)
            }
            tag::STR => visitor.visit_borrowed_str(self.take_str()?),
            tag::BYTES => {
                let len = self.take_len()?;
                visitor.visit_borrowed_bytes(self.input.take_slice(len)?)
            }
            tag::NONE => visitor.visit_none(),
            tag::SOME => self.nested(|reader| visitor.visit_some(reader)),
            tag::SEQ => self.visit_elements(|elements| visitor.visit_seq(elements)),
            tag::MAP => self.visit_elements(|elements| visitor.visit_map(elements)),
            tag::UNIT_VARIANT => visitor.visit_borrowed_str(self.take_str()?),
            tag::VARIANT => self.nested(|reader| {
                let mut pair = OnePair { name: Some(reader.take_str()?), reader, value_is_left: true };
                let value = visitor.visit_map(&mut pair)?;
                if pair.value_is_left {
                    Err(Failure::message("the type does not read a variant's value"))
                } else {
                    Ok(value)
                }
            }),
            tag::ARRAY_INLINE | tag::ARRAY_IN_REGION => {
                let (number, bytes) = self.take_array(tag)?;
                let mut numbers = Numbers { number, chunks: bytes.get()?.chunks_exact(number.size()) };
                let value = visitor.visit_seq(&mut numbers)?;
                if numbers.chunks.len() == 0 && numbers.chunks.remainder().is_empty() {
                    Ok(value)
                } else {
                    Err(Failure::message("the type reads fewer elements than it writes"))
                }
            }
            other => Err(unknown(other)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.input.peek()? {
            tag::NONE | tag::SOME => self.deserialize_any(visitor),
            // Written by a type that writes the value alone.
            _ => self.nested(|reader| visitor.visit_some(reader)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Failure> {
        let tag = self.input.peek()?;
        if name != out_of_band::ARRAY || !matches!(tag, tag::ARRAY_INLINE | tag::ARRAY_IN_REGION) {
            return self.nested(|reader| visitor.visit_newtype_struct(reader));
        }
        self.take_tag()?;
        let result = match self.take_array(tag)?.1 {
            ArrayBytes::Inline(bytes) => {
                out_of_band::leave(Slot::Found(Found::Inline));
                visitor.visit_borrowed_bytes(bytes)
            }
            ArrayBytes::InRegion(region, byte_len) => {
                out_of_band::leave(Slot::Found(Found::InRegion(region.clone(), byte_len)));
                visitor.visit_unit()
            }
        };
        let _found = out_of_band::take();
        result
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match self.take_tag()? {
            tag::UNIT_VARIANT | tag::STR => visitor.visit_enum(Variant { reader: self, has_value: false }),
            tag::VARIANT => self.nested(|reader| visitor.visit_enum(Variant { reader, has_value: true })),
            other => Err(unknown(other)),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        struct identifier ignored_any
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A sequence or a map that is being read.
struct ReadElements<'r, 'de> {
    reader: &'r mut Reader<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for &mut ReadElements<'_, 'de> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> de::MapAccess<'de> for &mut ReadElements<'_, 'de> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// A variant, for a reader that knows no enum: a map from its name to its value.
struct OnePair<'r, 'de> {
    name: Option<&'de str>,
    reader: &'r mut Reader<'de>,
    value_is_left: bool,
}

impl<'de> de::MapAccess<'de> for &mut OnePair<'_, 'de> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        self.name.take().map(|name| seed.deserialize(de::value::BorrowedStrDeserializer::new(name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        self.value_is_left = false;
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(usize::from(self.name.is_some()))
    }
}

/// The numbers of an array, for a reader that knows no arrays.
struct Numbers<'de> {
    number: Number,
    chunks: std::slice::ChunksExact<'de, u8>,
}

impl<'de> de::SeqAccess<'de> for &mut Numbers<'de> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some(chunk) = self.chunks.next() else { return Ok(None) };
        macro_rules! number {
            ($type:ty) => {{
                let bytes = chunk.try_into().expect("a chunk has the number's size");
                seed.deserialize(IntoDeserializer::<Failure>::into_deserializer(<$type>::from_ne_bytes(bytes)))
                    .map(Some)
            }};
        }
        match self.number {
            Number::U8 => number!(u8),
            Number::U16 => number!(u16),
            Number::U32 => number!(u32),
            Number::U64 => number!(u64),
            Number::U128 => number!(u128),
            Number::I8 => number!(i8),
            Number::I16 => number!(i16),
            Number::I32 => number!(i32),
            Number::I64 => number!(i64),
            Number::I128 => number!(i128),
            Number::F32 => number!(f32),
            Number::F64 => number!(f64),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.chunks.len())
    }
}

/// A variant whose name comes next.
struct Variant<'r, 'de> {
    reader: &'r mut Reader<'de>,
    has_value: bool,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Failure> {
        let name = self.reader.take_str()?;
        let variant = seed.deserialize(de::value::BorrowedStrDeserializer::<Failure>::new(name))?;
        Ok((variant, self))
    }
}

impl<'r, 'de> Variant<'r, 'de> {
    fn value(self) -> Result<&'r mut Reader<'de>, Failure> {
        if self.has_value {
            Ok(self.reader)
        } else {
            Err(Failure::message("a variant without a value stands where one has a value"))
        }
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        if self.has_value {
            return Err(Failure::message("a variant with a value stands where one has none"));
        }
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        seed.deserialize(self.value()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        de::Deserializer::deserialize_any(self.value()?, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Failure> {
        de::Deserializer::deserialize_any(self.value()?, visitor)
    }
}
