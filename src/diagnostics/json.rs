//! Writes JSON, as much of it as the [`view`](super::view) has.
//!
//! Not by `serde_json`: a crate that has it among its dependencies compares numbers with its values, so with the feature on, types of a
//! program could not be inferred any more that were clear without.

use serde::ser::{Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use std::fmt::{self, Display, Write};

pub(super) fn to_string(value: &impl Serialize) -> String {
    let mut text = String::new();
    value.serialize(Json(&mut text)).expect("the view has only what can be written");
    text
}

struct Json<'a>(&'a mut String);

/// A list or an object that has been opened.
struct Open<'a> {
    text: &'a mut String,
    is_empty: bool,
    close: char,
}

/// Something that the view does not have.
#[derive(Debug)]
struct Unknown(String);

impl Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unknown {}

impl serde::ser::Error for Unknown {
    fn custom<T: Display>(message: T) -> Self {
        Unknown(message.to_string())
    }
}

impl<'a> Json<'a> {
    fn put(self, value: impl Display) -> Result<(), Unknown> {
        write!(self.0, "{value}").map_err(Unknown::custom)
    }

    fn open(self, open: char, close: char) -> Result<Open<'a>, Unknown> {
        self.0.push(open);
        Ok(Open { text: self.0, is_empty: true, close })
    }
}

impl Open<'_> {
    fn next(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.text.push(',');
        }
    }

    fn shut(self) -> Result<(), Unknown> {
        self.text.push(self.close);
        Ok(())
    }
}

fn quote(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\u{0}'..='\u{1f}' | '\u{7f}' => {
                let _infallible = write!(text, "\\u{:04x}", u32::from(c));
            }
            _ => text.push(c),
        }
    }
    text.push('"');
}

macro_rules! plain {
    ($($name:ident $type:ty),*) => {
        $(fn $name(self, value: $type) -> Result<(), Unknown> {
            self.put(value)
        })*
    };
}

impl<'a> Serializer for Json<'a> {
    type Ok = ();
    type Error = Unknown;
    type SerializeSeq = Open<'a>;
    type SerializeTuple = Impossible<(), Unknown>;
    type SerializeTupleStruct = Impossible<(), Unknown>;
    type SerializeTupleVariant = Impossible<(), Unknown>;
    type SerializeMap = Open<'a>;
    type SerializeStruct = Open<'a>;
    type SerializeStructVariant = Impossible<(), Unknown>;

    plain!(serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64);
    plain!(serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64);

    fn serialize_f32(self, value: f32) -> Result<(), Unknown> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Unknown> {
        if value.is_finite() { self.put(value) } else { self.put("null") }
    }

    fn serialize_char(self, value: char) -> Result<(), Unknown> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Unknown> {
        quote(self.0, value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Unknown> {
        self.put("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unknown> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unknown> {
        self.put("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unknown> {
        self.put("null")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Unknown> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Unknown> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'a>, Unknown> {
        self.open('[', ']')
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Open<'a>, Unknown> {
        self.open('{', '}')
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'a>, Unknown> {
        self.open('{', '}')
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Unknown> {
        Err(Unknown::custom("bytes"))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unknown> {
        Err(Unknown::custom("a variant"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unknown> {
        Err(Unknown::custom("a tuple"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Unknown> {
        Err(Unknown::custom("a tuple"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unknown> {
        Err(Unknown::custom("a variant"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unknown> {
        Err(Unknown::custom("a variant"))
    }
}

impl SerializeSeq for Open<'_> {
    type Ok = ();
    type Error = Unknown;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unknown> {
        self.next();
        value.serialize(Json(self.text))
    }

    fn end(self) -> Result<(), Unknown> {
        self.shut()
    }
}

impl SerializeMap for Open<'_> {
    type Ok = ();
    type Error = Unknown;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unknown> {
        self.next();
        key.serialize(Json(self.text))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unknown> {
        self.text.push(':');
        value.serialize(Json(self.text))
    }

    fn end(self) -> Result<(), Unknown> {
        self.shut()
    }
}

impl SerializeStruct for Open<'_> {
    type Ok = ();
    type Error = Unknown;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Unknown> {
        self.serialize_key(key)?;
        self.serialize_value(value)
    }

    fn end(self) -> Result<(), Unknown> {
        self.shut()
    }
}

#[cfg(test)]
mod tests {
    use super::to_string;

    #[test]
    fn texts_are_escaped_and_numbers_are_whole() {
        let odd = "a\"b\\c\n\r\t\u{1}\u{7f}é✓";
        assert_eq!(to_string(&odd), "\"a\\\"b\\\\c\\n\\u000d\\u0009\\u0001\\u007fé✓\"");
        assert_eq!(to_string(&vec![Some(1.5), None, Some(f64::NAN), Some(1e-6)]), "[1.5,null,null,0.000001]");
        assert_eq!(to_string(&std::collections::BTreeMap::from([("a", 1), ("b", -2)])), r#"{"a":1,"b":-2}"#);
    }
}
