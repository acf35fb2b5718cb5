//! The one JSON writer: the dashboard's pages and API, profiles, reports and traces derive
//! [`Serialize`], and [`to_string`] writes them.
//!
//! # Why not `serde_json`
//!
//! `serde_json` implements `PartialEq<Value>` for the number types. Once it is anywhere in a build,
//! `assert_eq!(count, numbers.sum())` no longer compiles in the user's own crate, because the type
//! of the sum is ambiguous. So `serde_json` stays behind the feature `files`, where profiles are
//! read back, and this writer serves all builds.
//!
//! # What is always true
//!
//! 1. The text is valid JSON: numbers that are not finite are written as `null`, and the keys of a
//!    map are strings.
//! 2. The text may stand in an HTML `<script>` and in one line of an event stream: `<`, `>`, `&`,
//!    every control character and every line separator are written as escapes.

use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant};
use serde::ser::{SerializeTuple, SerializeTupleStruct, SerializeTupleVariant};
use serde::{Serialize, Serializer};
use std::fmt::{Display, Error, Result, Write};
use std::sync::Arc;

/// The JSON text of a value.
pub(super) fn to_string(value: &(impl Serialize + ?Sized)) -> String {
    let mut text = String::new();
    value.serialize(Writer(&mut text)).expect("the types of this room serialize without errors");
    text
}

/// Rounds a number, so that its text has at most `num_decimals` decimals.
pub(super) fn rounded(value: f64, num_decimals: i32) -> f64 {
    let scale = 10_f64.powi(num_decimals);
    (value * scale).round() / scale
}

/// A string that several owners share. Serde's feature `rc` would write it too, but it would also
/// let programs send an `Arc` to another process, where it becomes a copy that nobody shares.
#[derive(Clone, Debug)]
pub(super) struct SharedStr(pub(super) Arc<str>);

impl From<&Arc<str>> for SharedStr {
    fn from(text: &Arc<str>) -> Self {
        SharedStr(Arc::clone(text))
    }
}

impl Serialize for SharedStr {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Appends one value to a text.
struct Writer<'a>(&'a mut String);

/// A list or an object whose end is still to be written.
struct Compound<'a> {
    text: &'a mut String,
    is_empty: bool,
    close: &'static str,
}

type Opened<'a> = std::result::Result<Compound<'a>, Error>;

impl<'a> Writer<'a> {
    fn display(self, value: impl Display) -> Result {
        write!(self.0, "{value}")
    }

    fn open(self, open: char, close: &'static str) -> Opened<'a> {
        self.0.push(open);
        Ok(Compound { text: self.0, is_empty: true, close })
    }

    /// A variant with fields is an object with one entry, whose key is the variant's name.
    fn open_variant(self, variant: &str, open: char, close: &'static str) -> Opened<'a> {
        self.0.push('{');
        push_quoted(self.0, variant);
        self.0.push(':');
        self.open(open, close)
    }
}

impl Compound<'_> {
    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.text.push(',');
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.separate();
        value.serialize(Writer(self.text))
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result {
        self.separate();
        push_quoted(self.text, key);
        self.text.push(':');
        value.serialize(Writer(self.text))
    }

    fn close(self) -> Result {
        self.text.push_str(self.close);
        Ok(())
    }
}

fn push_quoted(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _infallible = write!(text, "\\u{:04x}", u32::from(c));
            }
            _ => text.push(c),
        }
    }
    text.push('"');
}

macro_rules! displayed {
    ($($method:ident $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result {
            self.display(value)
        })*
    };
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Compound<'a>;
    type SerializeTupleStruct = Compound<'a>;
    type SerializeTupleVariant = Compound<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Compound<'a>;
    type SerializeStructVariant = Compound<'a>;

    displayed!(serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64);
    displayed!(serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64);

    fn serialize_f32(self, value: f32) -> Result {
        if value.is_finite() { self.display(value) } else { self.serialize_unit() }
    }

    fn serialize_f64(self, value: f64) -> Result {
        if value.is_finite() { self.display(value) } else { self.serialize_unit() }
    }

    fn serialize_char(self, value: char) -> Result {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result {
        push_quoted(self.0, value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result {
        self.display("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result {
        let mut object = self.open('{', "}")?;
        object.field(variant, value)?;
        object.close()
    }

    fn serialize_seq(self, _: Option<usize>) -> Opened<'a> {
        self.open('[', "]")
    }

    fn serialize_tuple(self, _: usize) -> Opened<'a> {
        self.open('[', "]")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Opened<'a> {
        self.open('[', "]")
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, variant: &'static str, _: usize) -> Opened<'a> {
        self.open_variant(variant, '[', "]}")
    }

    fn serialize_map(self, _: Option<usize>) -> Opened<'a> {
        self.open('{', "}")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Opened<'a> {
        self.open('{', "}")
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, variant: &'static str, _: usize) -> Opened<'a> {
        self.open_variant(variant, '{', "}}")
    }
}

macro_rules! lists {
    ($($trait:ident $method:ident),*) => {
        $(impl $trait for Compound<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
                self.element(value)
            }

            fn end(self) -> Result {
                self.close()
            }
        })*
    };
}

macro_rules! objects {
    ($($trait:ident),*) => {
        $(impl $trait for Compound<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result {
                self.field(key, value)
            }

            fn end(self) -> Result {
                self.close()
            }
        })*
    };
}

lists!(SerializeSeq serialize_element, SerializeTuple serialize_element);
lists!(SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);
objects!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result {
        self.separate();
        let start = self.text.len();
        key.serialize(Writer(self.text))?;
        // A number as a key is written in quotes.
        if !self.text[start..].starts_with('"') {
            self.text.insert(start, '"');
            self.text.push('"');
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.text.push(':');
        value.serialize(Writer(self.text))
    }

    fn end(self) -> Result {
        self.close()
    }
}

#[cfg(test)]
mod tests {
    use super::{SharedStr, rounded, to_string};
    use serde::Serialize;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn texts_are_escaped_and_numbers_are_whole() {
        let odd = "a\"b\\c\n\r\t\u{1}\u{7f}é✓";
        assert_eq!(to_string(odd), "\"a\\\"b\\\\c\\n\\u000d\\t\\u0001\\u007fé✓\"");
        assert_eq!(to_string(&[Some(1.5), None, Some(f64::NAN), Some(1e-6)]), "[1.5,null,null,0.000001]");
        assert_eq!(to_string(&BTreeMap::from([("a", 1), ("b", -2)])), r#"{"a":1,"b":-2}"#);
        assert_eq!(to_string(&[rounded(1.0 / 3.0, 2), rounded(0.1 + 0.2, 3)]), "[0.33,0.3]");
    }

    #[test]
    fn any_text_comes_back() {
        for text in
            ["", "plain", "\"quoted\" \\ and\nlines\t\0\u{7f}", "</script><!--", "\u{2028}µ€𝄞", "\u{fffd}\u{ad}"]
        {
            let written = to_string(text);
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
            assert!(!written.contains('<') && !written.contains('\u{2028}'), "{written}");
        }
    }

    #[test]
    fn every_shape_of_data_is_written_as_serde_json_does() {
        #[derive(Serialize)]
        enum Shape {
            Unit,
            One(u8),
            Two(u8, char),
            Named { side: f32 },
        }
        #[derive(Serialize)]
        struct Pair(bool, ());
        let value = (
            [Shape::Unit, Shape::One(1), Shape::Two(2, 'x'), Shape::Named { side: 0.5 }],
            Pair(true, ()),
            BTreeMap::from([(7_u32, SharedStr("seven".into()))]),
        );
        let expected = json!([
            ["Unit", { "One": 1 }, { "Two": [2, "x"] }, { "Named": { "side": 0.5 } }],
            [true, null],
            { "7": "seven" },
        ]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&to_string(&value)).unwrap(), expected);
    }
}
