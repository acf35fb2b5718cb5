//! What makes a value fit to cross to another process.

use super::value::Cell;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that can be sent to another process: it can be encoded, decoded, and moved and shared between threads.
///
/// Every type with these bounds has the trait; there is nothing to implement. [`delayed`](crate::delayed) asks for it, so that the
/// executor of a graph can be changed by configuration alone; [`delayed_local`](crate::delayed_local) does not.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process",
    label = "not portable: cannot be encoded and decoded",
    note = "derive serde's `Serialize` and `Deserialize` for the type and those within; in the place of a reference, return an owned value",
    note = "for a function that returns a `Result` use `try_delayed(f, args)`: only what is in `Ok` has to be portable",
    note = "for a value that stays in this process use `delayed_local(f, args)`, or `&local(value)` as an argument"
)]
pub trait Portable: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Encodable + Send + Sync + 'static> Portable for T {}

/// The part of [`Portable`] that is most often missing, as one trait, so that the compiler has one thing to say about it.
///
/// It says the same as [`Portable`]: which of the two the compiler asks depends on what led to it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process",
    label = "not portable: cannot be encoded and decoded",
    note = "derive serde's `Serialize` and `Deserialize` for the type and those within; in the place of a reference, return an owned value",
    note = "for a value that stays in this process use `delayed_local(f, args)`, or `&local(value)` as an argument"
)]
pub trait Encodable: Serialize + DeserializeOwned {}

// Without this the compiler would say it in serde's words, once for each of the two, and not what else can be done.
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Encodable for T {}

/// Encodes the value in a cell, and puts what that decodes to in its place.
///
/// # Safety
/// As [`Cell::take`] and then [`Cell::put`] for a `T`.
#[expect(unsafe_code, reason = "it is one of the typed functions of a task's kind")]
pub(crate) unsafe fn round_trip<T: Portable>(cell: &Cell) -> Result<(), String> {
    let type_name = std::any::type_name::<T>();
    // SAFETY: the caller's contract.
    let value = unsafe { cell.peek::<T>() };
    let bytes = postcard::to_stdvec(value).map_err(|error| format!("cannot encode `{type_name}`: {error}"))?;
    let copy: T = postcard::from_bytes(&bytes).map_err(|error| format!("cannot decode `{type_name}`: {error}"))?;
    // SAFETY: the caller is the cell's task; the new value is in place before dropping the old one can panic.
    let _old = unsafe {
        let old = cell.take::<T>();
        cell.put(copy);
        old
    };
    Ok(())
}

/// Appends an encoding of a plain argument that is equal for equal arguments.
pub(crate) fn write_token<T: Serialize + ?Sized>(value: &T, token: &mut Vec<u8>) {
    let bytes = postcard::to_stdvec(value);
    match bytes {
        Ok(bytes) => {
            token.extend((bytes.len() as u64).to_le_bytes());
            token.extend(bytes);
        }
        // It has no encoding, so it is equal to nothing: a number that no other argument gets.
        Err(_) => {
            static UNIQUE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
            token.extend(u64::MAX.to_le_bytes());
            token.extend(UNIQUE.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_le_bytes());
        }
    }
}
