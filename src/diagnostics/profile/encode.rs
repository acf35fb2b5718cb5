//! The JSON form of times and names.

use crate::diagnostics::json::SharedStr;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;
use std::time::Duration;

/// A time in seconds.
#[derive(Clone, Copy, Default)]
pub(super) struct Seconds(pub(super) Duration);

impl Serialize for Seconds {
    /// Writes the number nearest to the decimal one, so its text has nine decimals at most.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_nanos() as f64 / 1e9)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    /// No run takes three centuries, and this limit leaves room for sums of times.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match f64::deserialize(deserializer)? {
            seconds @ 0.0..=9e9 => Ok(Seconds(Duration::from_nanos((seconds * 1e9).round() as u64))),
            other => Err(D::Error::custom(format!("{other} is not a valid number of seconds"))),
        }
    }
}

pub(super) fn write_time<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    Seconds(*time).serialize(serializer)
}

pub(super) fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Seconds::deserialize(deserializer).map(|seconds| seconds.0)
}

pub(super) fn write_name<S: Serializer>(name: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    SharedStr::from(name).serialize(serializer)
}

pub(super) fn write_name_option<S: Serializer>(name: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    name.as_ref().map(SharedStr::from).serialize(serializer)
}
