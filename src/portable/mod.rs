//! How values and code reach another process.
//!
//! A value is [`Portable`] if it can be encoded and decoded. [`codec`] encodes values; large data
//! lies in shared memory ([`region`]), where a [`SharedArray`](array::SharedArray) is mapped and
//! not copied. [`exchange`] counts which process uses which piece of shared memory, and [`budget`]
//! limits the total. A function is sent as a reference to a static of the executable that both
//! processes run ([`code`]).
//!
//! This module knows no tasks, runs or workers.

pub(crate) mod array;
pub(crate) mod atomics;
pub(crate) mod budget;
pub(crate) mod code;
pub(crate) mod codec;
mod error;
pub(crate) mod exchange;
#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) mod module;
pub(crate) mod region;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that can be sent to another process: it can be encoded and decoded, and moved and shared
/// between threads.
///
/// Every type with these bounds has the trait, without an implementation.
/// [`delayed`](crate::delayed) requires it, so that configuration alone can change the executor of
/// a graph. [`delayed_local`](crate::delayed_local) does not require it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process",
    label = "not portable: cannot be encoded and decoded, or not `Send + Sync + 'static`",
    note = "derive serde's `Serialize` and `Deserialize` for the type and those within; in the place of a reference, return an owned value",
    note = "for a function that returns a `Result` use `try_delayed(f, args)`, or a client's `try_submit` and `try_map`: only what is in `Ok` has to be portable",
    note = "for a value that stays in this process use `delayed_local(f, args)`, or a client's `submit_local` and `map_local`; as an argument, `&local(value)`"
)]
pub trait Portable: Serialize + DeserializeOwned + Send + Sync + 'static {}

// Without this the compiler would report the one of serde's traits or marker traits that is
// missing, and not the message above.
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Portable for T {}
