//! The encoding `"fast"`: what a reader that knows the type needs, and nothing else.
//!
//! Numbers have their own width, the lowest byte first. A sequence, a map, a string and bytes begin with their length in eight bytes, a
//! variant with its index in four, an option with one byte. Tuples and structs are their fields, one after the other.
//!
//! An element of a sequence, and an entry of a map, that would take no bytes (one of type `()`) takes one. So no length can be larger than
//! the number of bytes that follow, and a reader who checks that does no more work than the bytes are worth.

use super::failure::Failure;
use super::input::{Input, MAX_DEPTH, too_deep};
use super::out_of_band::{self, Found, Offer, Placed, Slot};
use super::sink::Sink;
use crate::portable::region::{Memory, Region};
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde::{Serialize, ser};

/// What an array begins with: what follows are its elements as in a sequence, their bytes, or where these lie.
const ARRAY_ELEMENTS: u64 = 0;
const ARRAY_INLINE: u64 = 1;
const ARRAY_IN_REGION: u64 = 2;

const ASKS: &str = "the type asks what comes next (as untagged enums and flattened fields do, or values of any kind), which the codec \
    \"fast\" does not record; set processes.codec = \"self-describing\"";
const SKIPS: &str = "the type leaves out a field (skip_serializing_if), and the codec \"fast\" records no field names; set \
    processes.codec = \"self-describing\"";

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

    #[inline(always)]
    fn enter(&mut self) -> Result<(), Failure> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        Ok(())
    }

    #[inline]
    fn elements(&mut self, len: Option<usize>) -> Result<Elements<'_, 'a, S>, Failure> {
        self.enter()?;
        let count_at = self.sink.position();
        let promised = len.unwrap_or(0) as u64;
        self.sink.put(promised.to_le_bytes())?;
        Ok(Elements { writer: self, count_at, promised, count: 0, entry_at: 0 })
    }

    #[inline(always)]
    fn fields(&mut self) -> Result<Fields<'_, 'a, S>, Failure> {
        self.enter()?;
        Ok(Fields { writer: self })
    }

    /// See the header of `outside`.
    fn array<T: Serialize + ?Sized>(&mut self, array: &T) -> Result<(), Failure> {
        self.sink.put(ARRAY_ELEMENTS.to_le_bytes())?;
        out_of_band::leave(Slot::Offer(Offer { memory: self.memory.cloned(), is_described: false }));
        let result = array.serialize(&mut *self);
        // An array that something has turned into a plain sequence under way does not take it.
        let _offer = out_of_band::take();
        result
    }

    fn placed<T: Serialize + ?Sized>(&mut self, content: &T) -> Result<(), Failure> {
        let placed = match out_of_band::take() {
            Some(Slot::Placed(placed)) => placed,
            _ => Placed::Elements,
        };
        // Nothing has been put since `array` began.
        let kind_at = self.sink.position() - 8;
        match placed {
            Placed::Elements => content.serialize(&mut *self),
            Placed::Inline(_) => {
                self.sink.patch(kind_at, ARRAY_INLINE.to_le_bytes());
                content.serialize(&mut *self)
            }
            Placed::InRegion(_, region, byte_len) => {
                self.sink.patch(kind_at, ARRAY_IN_REGION.to_le_bytes());
                self.sink.put((self.regions.len() as u32).to_le_bytes())?;
                self.sink.put((byte_len as u64).to_le_bytes())?;
                self.regions.push(region);
                Ok(())
            }
        }
    }
}

macro_rules! put_numbers {
    ($($method:ident: $type:ty),*) => {
        $(
            #[inline(always)]
            fn $method(self, value: $type) -> Result<(), Failure> {
                self.sink.put(value.to_le_bytes())
            }
        )*
    };
}

impl<'w, 'a, S: Sink> ser::Serializer for &'w mut Writer<'a, S> {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Elements<'w, 'a, S>;
    type SerializeTuple = Fields<'w, 'a, S>;
    type SerializeTupleStruct = Fields<'w, 'a, S>;
    type SerializeTupleVariant = Fields<'w, 'a, S>;
    type SerializeMap = Elements<'w, 'a, S>;
    type SerializeStruct = Fields<'w, 'a, S>;
    type SerializeStructVariant = Fields<'w, 'a, S>;

    put_numbers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64
    }

    #[inline(always)]
    fn serialize_bool(self, value: bool) -> Result<(), Failure> {
        self.sink.put([u8::from(value)])
    }

    #[inline(always)]
    fn serialize_char(self, value: char) -> Result<(), Failure> {
        self.sink.put(u32::from(value).to_le_bytes())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Failure> {
        self.serialize_bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Failure> {
        self.sink.put((value.len() as u64).to_le_bytes())?;
        self.sink.put_slice(value)
    }

    #[inline(always)]
    fn serialize_none(self) -> Result<(), Failure> {
        self.sink.put([0])
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        self.sink.put([1])?;
        self.enter()?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit(self) -> Result<(), Failure> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Failure> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Failure> {
        self.sink.put(index.to_le_bytes())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), Failure> {
        match name {
            out_of_band::ARRAY => self.array(value),
            out_of_band::PLACED => self.placed(value),
            _ => {
                self.enter()?;
                value.serialize(&mut *self)?;
                self.depth -= 1;
                Ok(())
            }
        }
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.sink.put(index.to_le_bytes())?;
        self.enter()?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Elements<'w, 'a, S>, Failure> {
        self.elements(len)
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Fields<'w, 'a, S>, Failure> {
        self.fields()
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Fields<'w, 'a, S>, Failure> {
        self.fields()
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Fields<'w, 'a, S>, Failure> {
        self.sink.put(index.to_le_bytes())?;
        self.fields()
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Elements<'w, 'a, S>, Failure> {
        self.elements(len)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'w, 'a, S>, Failure> {
        self.fields()
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Fields<'w, 'a, S>, Failure> {
        self.sink.put(index.to_le_bytes())?;
        self.fields()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A sequence or a map that is being written.
pub(super) struct Elements<'w, 'a, S> {
    writer: &'w mut Writer<'a, S>,
    count_at: usize,
    promised: u64,
    count: u64,
    entry_at: usize,
}

impl<S: Sink> Elements<'_, '_, S> {
    /// Ends an element that began at this position.
    #[inline(always)]
    fn end_element(&mut self, began_at: usize) -> Result<(), Failure> {
        self.count += 1;
        if self.writer.sink.position() == began_at { self.writer.sink.put([0]) } else { Ok(()) }
    }

    #[inline(always)]
    fn finish(self) {
        if self.count != self.promised {
            self.writer.sink.patch(self.count_at, self.count.to_le_bytes());
        }
        self.writer.depth -= 1;
    }
}

impl<S: Sink> ser::SerializeSeq for Elements<'_, '_, S> {
    type Ok = ();
    type Error = Failure;

    #[inline(always)]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        let began_at = self.writer.sink.position();
        value.serialize(&mut *self.writer)?;
        self.end_element(began_at)
    }

    #[inline(always)]
    fn end(self) -> Result<(), Failure> {
        self.finish();
        Ok(())
    }
}

impl<S: Sink> ser::SerializeMap for Elements<'_, '_, S> {
    type Ok = ();
    type Error = Failure;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failure> {
        self.entry_at = self.writer.sink.position();
        key.serialize(&mut *self.writer)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        value.serialize(&mut *self.writer)?;
        self.end_element(self.entry_at)
    }

    #[inline]
    fn end(self) -> Result<(), Failure> {
        self.finish();
        Ok(())
    }
}

/// A tuple or a struct that is being written.
pub(super) struct Fields<'w, 'a, S> {
    writer: &'w mut Writer<'a, S>,
}

macro_rules! write_fields {
    ($($trait:ident :: $method:ident ( $($key:ident)? ) $skips:ident),*) => {
        $(
            impl<S: Sink> ser::$trait for Fields<'_, '_, S> {
                type Ok = ();
                type Error = Failure;

                #[inline(always)]
                fn $method<T: Serialize + ?Sized>(&mut self, $($key: &'static str,)? value: &T) -> Result<(), Failure> {
                    $(let _ = $key;)?
                    value.serialize(&mut *self.writer)
                }

                #[inline(always)]
                fn end(self) -> Result<(), Failure> {
                    self.writer.depth -= 1;
                    Ok(())
                }

                write_fields!($skips);
            }
        )*
    };
    (named) => {
        #[cold]
        fn skip_field(&mut self, _: &'static str) -> Result<(), Failure> {
            Err(Failure::message(SKIPS))
        }
    };
    (plain) => {};
}

write_fields! {
    SerializeTuple::serialize_element() plain,
    SerializeTupleStruct::serialize_field() plain,
    SerializeTupleVariant::serialize_field() plain,
    SerializeStruct::serialize_field(key) named,
    SerializeStructVariant::serialize_field(key) named
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

    #[inline]
    fn take_bytes(&mut self) -> Result<&'de [u8], Failure> {
        let len = self.input.take_count()?;
        self.input.take_slice(len)
    }

    #[inline]
    fn take_str(&mut self) -> Result<&'de str, Failure> {
        let len = self.input.take_count()?;
        self.input.take_str(len)
    }

    /// Lets the visitor read something within something else.
    #[inline(always)]
    fn nested<T>(&mut self, visit: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        self.input.enter()?;
        let result = visit(self);
        self.input.leave();
        result
    }

    #[inline(always)]
    fn visit_fields<V: Visitor<'de>>(&mut self, len: usize, visitor: V) -> Result<V::Value, Failure> {
        self.nested(|reader| {
            let mut fields = ReadFields { reader, left: len };
            let value = visitor.visit_seq(&mut fields)?;
            if fields.left == 0 { Ok(value) } else { Err(unread()) }
        })
    }

    fn array<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Failure> {
        match u64::from_le_bytes(self.input.take()?) {
            ARRAY_ELEMENTS => self.nested(|reader| visitor.visit_newtype_struct(reader)),
            ARRAY_INLINE => {
                let bytes = self.take_bytes()?;
                out_of_band::leave(Slot::Found(Found::Inline));
                let result = visitor.visit_borrowed_bytes(bytes);
                let _found = out_of_band::take();
                result
            }
            ARRAY_IN_REGION => {
                let region = self.input.take_region()?.clone();
                let byte_len = usize::try_from(u64::from_le_bytes(self.input.take()?)).unwrap_or(usize::MAX);
                out_of_band::leave(Slot::Found(Found::InRegion(region, byte_len)));
                let result = visitor.visit_unit();
                let _found = out_of_band::take();
                result
            }
            other => Err(Failure::message(format!("an array cannot begin with {other}"))),
        }
    }
}

#[cold]
fn unread() -> Failure {
    Failure::message("the type reads fewer elements than it writes")
}

#[cold]
fn asks() -> Failure {
    Failure::message(ASKS)
}

macro_rules! take_numbers {
    ($($method:ident, $visit:ident: $type:ty),*) => {
        $(
            #[inline(always)]
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
                visitor.$visit(<$type>::from_le_bytes(self.input.take()?))
            }
        )*
    };
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Failure;

    take_numbers! {
        deserialize_i8, visit_i8: i8, deserialize_i16, visit_i16: i16, deserialize_i32, visit_i32: i32,
        deserialize_i64, visit_i64: i64, deserialize_i128, visit_i128: i128,
        deserialize_u8, visit_u8: u8, deserialize_u16, visit_u16: u16, deserialize_u32, visit_u32: u32,
        deserialize_u64, visit_u64: u64, deserialize_u128, visit_u128: u128,
        deserialize_f32, visit_f32: f32, deserialize_f64, visit_f64: f64
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Failure> {
        Err(asks())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Failure> {
        Err(asks())
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Failure> {
        Err(asks())
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.input.take()? {
            [0] => visitor.visit_bool(false),
            [1] => visitor.visit_bool(true),
            [other] => Err(Failure::message(format!("{other} is no `bool`"))),
        }
    }

    #[inline]
    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let code = u32::from_le_bytes(self.input.take()?);
        visitor.visit_char(char::from_u32(code).ok_or_else(|| Failure::message(format!("{code} is no `char`")))?)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_borrowed_str(self.take_str()?)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_borrowed_str(self.take_str()?)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_borrowed_bytes(self.take_bytes()?)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_borrowed_bytes(self.take_bytes()?)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.input.take()? {
            [0] => visitor.visit_none(),
            [1] => self.nested(|reader| visitor.visit_some(reader)),
            [other] => Err(Failure::message(format!("{other} is neither `Some` nor `None`"))),
        }
    }

    #[inline(always)]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    #[inline(always)]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Failure> {
        match name {
            out_of_band::ARRAY => self.array(visitor),
            _ => self.nested(|reader| visitor.visit_newtype_struct(reader)),
        }
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let left = self.input.take_count()?;
        self.nested(|reader| {
            let mut elements = ReadElements { reader, left, entry_at: 0 };
            let value = visitor.visit_seq(&mut elements)?;
            if elements.left == 0 { Ok(value) } else { Err(unread()) }
        })
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let left = self.input.take_count()?;
        self.nested(|reader| {
            let mut elements = ReadElements { reader, left, entry_at: 0 };
            let value = visitor.visit_map(&mut elements)?;
            if elements.left == 0 { Ok(value) } else { Err(unread()) }
        })
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Failure> {
        self.visit_fields(len, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.visit_fields(len, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.visit_fields(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.nested(|reader| visitor.visit_enum(reader))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A sequence or a map that is being read.
struct ReadElements<'r, 'de> {
    reader: &'r mut Reader<'de>,
    left: usize,
    entry_at: usize,
}

impl ReadElements<'_, '_> {
    /// Ends an element that began with so many bytes left.
    #[inline(always)]
    fn end_element(&mut self, began_at: usize) -> Result<(), Failure> {
        self.left -= 1;
        if self.reader.input.remaining() == began_at {
            self.reader.input.take::<1>()?;
        }
        Ok(())
    }
}

impl<'de> de::SeqAccess<'de> for &mut ReadElements<'_, 'de> {
    type Error = Failure;

    #[inline(always)]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        let began_at = self.reader.input.remaining();
        let value = seed.deserialize(&mut *self.reader)?;
        self.end_element(began_at)?;
        Ok(Some(value))
    }

    #[inline(always)]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> de::MapAccess<'de> for &mut ReadElements<'_, 'de> {
    type Error = Failure;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        self.entry_at = self.reader.input.remaining();
        seed.deserialize(&mut *self.reader).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let value = seed.deserialize(&mut *self.reader)?;
        if self.left > 0 {
            self.end_element(self.entry_at)?;
        }
        Ok(value)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// A tuple or a struct that is being read.
struct ReadFields<'r, 'de> {
    reader: &'r mut Reader<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for &mut ReadFields<'_, 'de> {
    type Error = Failure;

    #[inline(always)]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    #[inline(always)]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> de::EnumAccess<'de> for &mut Reader<'de> {
    type Error = Failure;
    type Variant = Self;

    #[inline]
    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Failure> {
        let index = u32::from_le_bytes(self.input.take()?);
        let variant = seed.deserialize(IntoDeserializer::<Failure>::into_deserializer(index))?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Reader<'de> {
    type Error = Failure;

    #[inline(always)]
    fn unit_variant(self) -> Result<(), Failure> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Failure> {
        self.visit_fields(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Failure> {
        self.visit_fields(fields.len(), visitor)
    }
}
