//! HOW values and code cross to another process.
//!
//! A value is [`Portable`] if it can be encoded and decoded. [`codec`] has the encodings; what is large lies in shared memory
//! ([`region`]), and a [`SharedArray`](array::SharedArray) is mapped there, not copied. [`exchange`] keeps the books of who has which
//! piece of shared memory, and [`budget`] those of how much there is. A function crosses as a reference to a static of the
//! executable that both processes run ([`code`]).
//!
//! Nothing here knows tasks, runs or workers.

pub(crate) mod array;
pub(crate) mod budget;
pub(crate) mod code;
pub(crate) mod codec;
pub(crate) mod exchange;
#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) mod module;
pub(crate) mod region;
pub(crate) mod words;

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
    note = "for a function that returns a `Result` use `try_delayed(f, args)`, or a client's `try_submit` and `try_map`: only what is in `Ok` has to be portable",
    note = "for a value that stays in this process use `delayed_local(f, args)`, or a client's `submit_local` and `map_local`; as an argument, `&local(value)`"
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
    note = "for a value that stays in this process use `delayed_local(f, args)`, or a client's `submit_local` and `map_local`; as an argument, `&local(value)`"
)]
pub trait Encodable: Serialize + DeserializeOwned {}

// Without this the compiler would say it in serde's words, once for each of the two, and not what else can be done.
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Encodable for T {}
