//! Decodes a self-describing value as its tags say, without knowing its type.

use super::deserializer::{ValueDeserializer, unknown_tag, unread_elements};
use super::format::{Format, tag};
use super::number::{Number, for_each_number};
use crate::portable::error::CodecError;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use std::slice::ChunksExact;

const NEEDS_TAGS: &str = "the type asks what comes next (as untagged enums and flattened fields do, or values of any kind), which the \
    codec \"fast\" does not record; set processes.codec = \"self-describing\"";

type Result<T> = std::result::Result<T, CodecError>;

impl<'de, F: Format> ValueDeserializer<'de, F> {
    pub(super) fn decode_any<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        if !F::IS_DESCRIBED {
            return Err(CodecError::new(NEEDS_TAGS));
        }
        let [tag] = self.input.take()?;
        if let Some(number) = Number::from_code(tag) {
            macro_rules! visit_number {
                ($($name:ident $type:ident $serialize:ident $deserialize:ident $visit:ident),*) => {
                    match number {
                        $(Number::$name => visitor.$visit(<$type>::from_le_bytes(self.input.take()?)),)*
                    }
                };
            }
            return for_each_number!(visit_number);
        }
        match tag {
            tag::UNIT => visitor.visit_unit(),
            tag::FALSE => visitor.visit_bool(false),
            tag::TRUE => visitor.visit_bool(true),
            tag::CHAR => self.decode_char(visitor),
            tag::STR | tag::UNIT_VARIANT => self.decode_str(visitor),
            tag::BYTES => self.decode_bytes(visitor),
            tag::NONE => visitor.visit_none(),
            tag::SOME => self.nested(|deserializer| visitor.visit_some(deserializer)),
            tag::SEQ => self.decode_elements(|elements| visitor.visit_seq(elements)),
            tag::MAP => self.decode_elements(|elements| visitor.visit_map(elements)),
            tag::VARIANT => self.nested(|deserializer| {
                let mut variant = NameAndValue { name: Some(deserializer.take_str()?), deserializer, is_read: false };
                let value = visitor.visit_map(&mut variant)?;
                if variant.is_read {
                    Ok(value)
                } else {
                    Err(CodecError::new("the type does not read a variant's value"))
                }
            }),
            tag::ARRAY_INLINE | tag::ARRAY_IN_REGION => {
                let array = self.take_array(tag)?;
                let number =
                    array.number.ok_or_else(|| CodecError::new("an array does not say what numbers it has"))?;
                let bytes = array.bytes.ok_or_else(|| CodecError::new("an array is longer than its region"))?;
                let mut numbers = ArrayNumbers { number, chunks: bytes.chunks_exact(number.size()) };
                let value = visitor.visit_seq(&mut numbers)?;
                let is_read = numbers.chunks.len() == 0 && numbers.chunks.remainder().is_empty();
                if is_read { Ok(value) } else { Err(unread_elements()) }
            }
            other => Err(unknown_tag(other)),
        }
    }
}

/// A variant, for a reader that knows no enum: a map from its name to its value.
struct NameAndValue<'r, 'de, F> {
    name: Option<&'de str>,
    deserializer: &'r mut ValueDeserializer<'de, F>,
    is_read: bool,
}

impl<'de, F: Format> de::MapAccess<'de> for &mut NameAndValue<'_, 'de, F> {
    type Error = CodecError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        self.name.take().map(|name| seed.deserialize(de::value::BorrowedStrDeserializer::new(name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        self.is_read = true;
        seed.deserialize(&mut *self.deserializer)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(usize::from(self.name.is_some()))
    }
}

/// The numbers of an array, for a reader that knows no arrays.
struct ArrayNumbers<'de> {
    number: Number,
    chunks: ChunksExact<'de, u8>,
}

impl<'de> de::SeqAccess<'de> for &mut ArrayNumbers<'de> {
    type Error = CodecError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let Some(chunk) = self.chunks.next() else { return Ok(None) };
        macro_rules! deserialize_number {
            ($($name:ident $type:ident $serialize:ident $deserialize:ident $visit:ident),*) => {
                match self.number {
                    $(Number::$name => {
                        let number = <$type>::from_ne_bytes(chunk.try_into().expect("a chunk has the number's size"));
                        seed.deserialize(IntoDeserializer::<CodecError>::into_deserializer(number)).map(Some)
                    })*
                }
            };
        }
        for_each_number!(deserialize_number)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.chunks.len())
    }
}
