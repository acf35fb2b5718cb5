//! Plain values that the function of a task owns.

use super::super::name;
use super::super::node::TaskRef;
use super::plain::{no_handles, of_type};
use super::{Argument, Cursor};
use crate::portable::Portable;
use crate::portable::codec::{CodecError, Decoder, Encoder};
use parking_lot::Mutex;
use std::any::type_name;
use std::sync::Arc;

/// A plain value that the function of a task owns. [`owned`] makes it.
#[derive(Clone, Debug)]
pub struct Owned<V>(V);

/// Passes any plain value to a task. The function gets the `V` itself.
///
/// A graph can be computed again, so each compute of a [`delayed`](crate::delayed) task gets a
/// clone. In a task that is submitted to a [`Client`](crate::Client) the value is moved into the
/// last attempt, and in a worker process into every call. If that last attempt fails,
/// [`retry`](crate::TaskFuture::retry) has no value to give: the second failure says so.
///
/// Numbers, texts, paths, durations and ranges need no `owned`. A function that borrows gets the
/// value from [`lit`](crate::lit), which clones nothing. Pass a value that cannot be encoded as
/// [`local`](crate::local)`(value)`, which is cloned too.
///
/// # Examples
/// ```
/// use sprang::{Client, delayed, owned};
/// use std::collections::BTreeMap;
///
/// fn most(counts: BTreeMap<String, u32>) -> Option<String> {
///     counts.into_iter().max_by_key(|(_, count)| *count).map(|(word, _)| word)
/// }
///
/// let counts = BTreeMap::from([("a".to_string(), 3), ("the".to_string(), 5)]);
/// let word = delayed(most, (owned(counts.clone()),));
/// assert_eq!(word.compute()?.as_deref(), Some("the")); // a clone of the map
///
/// let client = Client::threads(1)?;
/// let word = client.submit(most, (owned(counts),)); // the map itself
/// assert_eq!(word.result()?.as_deref(), Some("the"));
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn owned<V: Portable + Clone>(value: V) -> Owned<V> {
    Owned(value)
}

/// The value in the node of a task.
#[derive(Debug)]
pub enum StoredValue<V> {
    /// The task can be called again, also as part of another graph.
    Shared(V),
    /// The last call takes the value. An earlier attempt may still run, so the value is counted.
    Once(Mutex<Option<Arc<V>>>),
}

impl<V> StoredValue<V> {
    fn once(value: V) -> Self {
        StoredValue::Once(Mutex::new(Some(Arc::new(value))))
    }
}

/// The reason why a task that has given its value away cannot be called again.
fn is_gone<V>() -> String {
    format!(
        "its argument `owned({})` was moved into an earlier attempt; for a task that is to run again set `retries`, \
         or submit it anew",
        name::of_type(type_name::<V>())
    )
}

// SAFETY: the argument has no handles, so no method walks over any.
unsafe impl<V: Portable + Clone> Argument for Owned<V> {
    type Out<'a> = V;
    type Stored = StoredValue<V>;

    fn store(self) -> StoredValue<V> {
        StoredValue::Shared(self.0)
    }

    fn store_once(self) -> StoredValue<V> {
        StoredValue::once(self.0)
    }

    no_handles!();

    /// # Panics
    /// The value was moved into an earlier call. The panic is the failure of the task.
    unsafe fn fetch<'a>(stored: &'a StoredValue<V>, cursor: &mut Cursor<'a>) -> V {
        let value = match stored {
            StoredValue::Shared(value) => return value.clone(),
            StoredValue::Once(value) if cursor.keep => value.lock().clone(),
            StoredValue::Once(value) => value.lock().take(),
        };
        let value = value.unwrap_or_else(|| panic!("{}", is_gone::<V>()));
        Arc::try_unwrap(value).unwrap_or_else(|shared| V::clone(&shared))
    }

    fn write(stored: &StoredValue<V>, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        let written = match stored {
            StoredValue::Shared(value) => encoder.write(value),
            StoredValue::Once(value) => {
                let value = value.lock().clone();
                encoder.write(&*value.ok_or_else(|| CodecError::new(is_gone::<V>()))?)
            }
        };
        written.map_err(of_type::<V>)
    }

    /// Decoded arguments are those of one call.
    fn read(decoder: &mut Decoder<'_>) -> Result<StoredValue<V>, CodecError> {
        decoder.read().map(StoredValue::once).map_err(of_type::<V>)
    }

    fn describe(_: &StoredValue<V>, texts: &mut Vec<String>) {
        texts.push(name::of_type(type_name::<V>()));
    }
}
