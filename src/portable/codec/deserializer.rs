//! Decodes a value of a known type in either format. The header of [`format`](super::format) says
//! how a value looks.
//!
//! A self-describing value is decoded as its tags say, whatever the type expects (see
//! [`untyped`](super::untyped)): the type's visitor then accepts or refuses it.

use super::format::{Format, LONG, tag};
use super::input::ValueInput;
use super::number::{Number, for_each_number};
use super::out_of_band::{self, Found, Slot};
use crate::portable::error::CodecError;
use crate::portable::region::Region;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use std::marker::PhantomData;

type Result<T> = std::result::Result<T, CodecError>;
/// The name of a type, field or variant.
type Name = &'static str;

pub(super) struct ValueDeserializer<'de, F> {
    pub(super) input: ValueInput<'de>,
    format: PhantomData<F>,
}

impl<'de, F: Format> ValueDeserializer<'de, F> {
    pub(super) fn new(input: ValueInput<'de>) -> Self {
        ValueDeserializer { input, format: PhantomData }
    }

    #[inline(always)]
    fn take_len(&mut self) -> Result<usize> {
        if F::IS_DESCRIBED {
            let [short] = self.input.take()?;
            if short != LONG {
                return Ok(usize::from(short));
            }
        }
        self.input.take_count()
    }

    #[inline(always)]
    pub(super) fn take_str(&mut self) -> Result<&'de str> {
        let len = self.take_len()?;
        self.input.take_str(len)
    }

    #[inline(always)]
    fn take_bytes(&mut self) -> Result<&'de [u8]> {
        let len = self.take_len()?;
        self.input.take_slice(len)
    }

    /// What follows the tag of an array that is not written as its elements.
    pub(super) fn take_array(&mut self, tag: u8) -> Result<EncodedArray<'de>> {
        let [code] = self.input.take()?;
        let number = Number::from_code(code);
        if tag == tag::ARRAY_IN_REGION {
            let region = self.input.take_region()?;
            let byte_len = usize::try_from(u64::from_le_bytes(self.input.take()?)).unwrap_or(usize::MAX);
            return Ok(EncodedArray { number, region: Some(region), bytes: region.get(..byte_len), byte_len });
        }
        if F::IS_DESCRIBED {
            match self.input.take()? {
                [tag::BYTES] => {}
                [other] => return Err(unknown_tag(other)),
            }
        }
        let bytes = self.take_bytes()?;
        Ok(EncodedArray { number, region: None, bytes: Some(bytes), byte_len: bytes.len() })
    }

    /// Lets the visitor decode something within something else.
    #[inline(always)]
    pub(super) fn nested<T>(&mut self, visit: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.input.enter()?;
        let result = visit(self);
        self.input.leave();
        result
    }

    #[inline(always)]
    pub(super) fn decode_char<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        let code = u32::from_le_bytes(self.input.take()?);
        visitor.visit_char(char::from_u32(code).ok_or_else(|| CodecError::new(format!("{code} is no `char`")))?)
    }

    #[inline(always)]
    pub(super) fn decode_str<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.take_str()?)
    }

    #[inline(always)]
    pub(super) fn decode_bytes<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_bytes(self.take_bytes()?)
    }

    /// A sequence or a map: `visit` calls the visitor's method for it.
    #[inline(always)]
    pub(super) fn decode_elements<T>(
        &mut self,
        visit: impl FnOnce(&mut Elements<'_, 'de, F, true>) -> Result<T>,
    ) -> Result<T> {
        let left = self.input.take_count()?;
        self.nested(|deserializer| {
            let mut elements = Elements { deserializer, left, entry_at: 0 };
            let value = visit(&mut elements)?;
            if elements.left == 0 { Ok(value) } else { Err(unread_elements()) }
        })
    }

    /// A tuple or a struct.
    #[inline(always)]
    fn decode_fields<V: Visitor<'de>>(&mut self, len: usize, visitor: V) -> Result<V::Value> {
        if F::IS_DESCRIBED {
            return self.decode_any(visitor);
        }
        self.nested(|deserializer| {
            let mut fields: Elements<'_, '_, F, false> = Elements { deserializer, left: len, entry_at: 0 };
            let value = visitor.visit_seq(&mut fields)?;
            if fields.left == 0 { Ok(value) } else { Err(unread_elements()) }
        })
    }

    /// The header of `out_of_band` describes the exchange with the array.
    fn decode_array<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        let tag = self.input.peek()?;
        let is_array = matches!(tag, tag::ARRAY_INLINE | tag::ARRAY_IN_REGION);
        if !F::IS_DESCRIBED && !is_array && tag != tag::SEQ {
            return Err(unknown_tag(tag));
        }
        if !F::IS_DESCRIBED || is_array {
            self.input.take::<1>()?;
        }
        if !is_array {
            return self.nested(|deserializer| visitor.visit_newtype_struct(deserializer));
        }
        let array = self.take_array(tag)?;
        let result = match (array.region, array.bytes) {
            (Some(region), _) => {
                out_of_band::leave(Slot::Found(Found::InRegion(region.clone(), array.byte_len)));
                visitor.visit_unit()
            }
            (None, bytes) => {
                out_of_band::leave(Slot::Found(Found::Inline));
                visitor.visit_borrowed_bytes(bytes.unwrap_or_default())
            }
        };
        let _found = out_of_band::take();
        result
    }
}

/// An array that is written as its bytes, or that lies in a region.
pub(super) struct EncodedArray<'de> {
    /// `None` if the elements are none of the known numbers.
    pub(super) number: Option<Number>,
    region: Option<&'de Region>,
    /// `None` if the array is longer than its region.
    pub(super) bytes: Option<&'de [u8]>,
    byte_len: usize,
}

#[cold]
pub(super) fn unread_elements() -> CodecError {
    CodecError::new("the type reads fewer elements than it writes")
}

#[cold]
pub(super) fn unknown_tag(tag: u8) -> CodecError {
    CodecError::new(format!("a value cannot begin with {tag}"))
}

/// Methods that decode by tag in the self-describing format, and by type in the fast one.
macro_rules! deserialize_typed {
    ($($method:ident => |$self:ident, $visitor:ident| $decode:expr;)*) => {
        $(
            #[inline(always)]
            fn $method<V: Visitor<'de>>($self, $visitor: V) -> Result<V::Value> {
                if F::IS_DESCRIBED { $self.decode_any($visitor) } else { $decode }
            }
        )*
    };
    ($($name:ident $type:ident $serialize:ident $deserialize:ident $visit:ident),*) => {
        deserialize_typed! {
            $($deserialize => |self, visitor| visitor.$visit(<$type>::from_le_bytes(self.input.take()?));)*
        }
    };
}

impl<'de, F: Format> de::Deserializer<'de> for &mut ValueDeserializer<'de, F> {
    type Error = CodecError;

    for_each_number!(deserialize_typed);

    deserialize_typed! {
        deserialize_bool => |self, visitor| match self.input.take()? {
            [tag::FALSE] => visitor.visit_bool(false),
            [tag::TRUE] => visitor.visit_bool(true),
            [other] => Err(CodecError::new(format!("{other} is no `bool`"))),
        };
        deserialize_char => |self, visitor| self.decode_char(visitor);
        deserialize_str => |self, visitor| self.decode_str(visitor);
        deserialize_string => |self, visitor| self.decode_str(visitor);
        deserialize_bytes => |self, visitor| self.decode_bytes(visitor);
        deserialize_byte_buf => |self, visitor| self.decode_bytes(visitor);
        deserialize_unit => |self, visitor| visitor.visit_unit();
        deserialize_seq => |self, visitor| self.decode_elements(|elements| visitor.visit_seq(elements));
        deserialize_map => |self, visitor| self.decode_elements(|elements| visitor.visit_map(elements));
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.decode_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.decode_any(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.decode_any(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let tag = self.input.peek()?;
        if !matches!(tag, tag::NONE | tag::SOME) {
            return match F::IS_DESCRIBED {
                // It was written by a type that writes the value alone.
                true => self.nested(|deserializer| visitor.visit_some(deserializer)),
                false => Err(CodecError::new(format!("{tag} is neither `Some` nor `None`"))),
            };
        }
        self.input.take::<1>()?;
        match tag {
            tag::NONE => visitor.visit_none(),
            _ => self.nested(|deserializer| visitor.visit_some(deserializer)),
        }
    }

    #[inline(always)]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: Name, visitor: V) -> Result<V::Value> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: Name, visitor: V) -> Result<V::Value> {
        match name {
            out_of_band::ARRAY => self.decode_array(visitor),
            _ => self.nested(|deserializer| visitor.visit_newtype_struct(deserializer)),
        }
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        self.decode_fields(len, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: Name, len: usize, visitor: V) -> Result<V::Value> {
        self.decode_fields(len, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(self, _: Name, fields: &'static [Name], visitor: V) -> Result<V::Value> {
        self.decode_fields(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(self, _: Name, _: &'static [Name], visitor: V) -> Result<V::Value> {
        let mut has_value = true;
        if F::IS_DESCRIBED {
            has_value = match self.input.take()? {
                [tag::UNIT_VARIANT | tag::STR] => false,
                [tag::VARIANT] => true,
                [other] => return Err(unknown_tag(other)),
            };
        }
        self.nested(|deserializer| visitor.visit_enum(Variant { deserializer, has_value }))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A sequence, map, tuple or struct that is being decoded.
pub(super) struct Elements<'r, 'de, F, const ARE_COUNTED: bool> {
    deserializer: &'r mut ValueDeserializer<'de, F>,
    left: usize,
    /// How many bytes were left when the current entry of a map began.
    entry_at: usize,
}

impl<F: Format, const ARE_COUNTED: bool> Elements<'_, '_, F, ARE_COUNTED> {
    /// Ends an element that began when this many bytes were left.
    #[inline(always)]
    fn end_element(&mut self, began_at: usize) -> Result<()> {
        self.left -= 1;
        if ARE_COUNTED && self.deserializer.input.remaining() == began_at {
            self.deserializer.input.take::<1>()?;
        }
        Ok(())
    }
}

impl<'de, F: Format, const ARE_COUNTED: bool> de::SeqAccess<'de> for &mut Elements<'_, 'de, F, ARE_COUNTED> {
    type Error = CodecError;

    #[inline(always)]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        let began_at = self.deserializer.input.remaining();
        let value = seed.deserialize(&mut *self.deserializer)?;
        self.end_element(began_at)?;
        Ok(Some(value))
    }

    #[inline(always)]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de, F: Format> de::MapAccess<'de> for &mut Elements<'_, 'de, F, true> {
    type Error = CodecError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.entry_at = self.deserializer.input.remaining();
        seed.deserialize(&mut *self.deserializer).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let value = seed.deserialize(&mut *self.deserializer)?;
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

/// A variant whose index or name comes next.
struct Variant<'r, 'de, F> {
    deserializer: &'r mut ValueDeserializer<'de, F>,
    has_value: bool,
}

impl<'de, F: Format> de::EnumAccess<'de> for Variant<'_, 'de, F> {
    type Error = CodecError;
    type Variant = Self;

    #[inline]
    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self)> {
        let variant = if F::IS_DESCRIBED {
            seed.deserialize(de::value::BorrowedStrDeserializer::<CodecError>::new(self.deserializer.take_str()?))?
        } else {
            let index = u32::from_le_bytes(self.deserializer.input.take()?);
            seed.deserialize(IntoDeserializer::<CodecError>::into_deserializer(index))?
        };
        Ok((variant, self))
    }
}

impl<'r, 'de, F: Format> Variant<'r, 'de, F> {
    #[inline(always)]
    fn value(self) -> Result<&'r mut ValueDeserializer<'de, F>> {
        if self.has_value {
            Ok(self.deserializer)
        } else {
            Err(CodecError::new("a variant without a value stands where one has a value"))
        }
    }
}

impl<'de, F: Format> de::VariantAccess<'de> for Variant<'_, 'de, F> {
    type Error = CodecError;

    #[inline(always)]
    fn unit_variant(self) -> Result<()> {
        if F::IS_DESCRIBED && self.has_value {
            return Err(CodecError::new("a variant with a value stands where one has none"));
        }
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self.value()?)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        self.value()?.decode_fields(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [Name], visitor: V) -> Result<V::Value> {
        self.value()?.decode_fields(fields.len(), visitor)
    }
}
