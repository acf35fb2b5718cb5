//! Arguments without handles: plain values and literals.

use super::super::name;
use super::super::node::TaskRef;
use super::{Argument, Cursor};
use crate::portable::Portable;
use crate::portable::codec::{CodecError, Decoder, Encoder};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128, NonZeroUsize,
};
use std::ops::{Range, RangeFrom, RangeInclusive, RangeTo};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

/// The methods that walk over the handles of an argument without handles.
macro_rules! no_handles {
    () => {
        #[inline]
        fn visit(_: &Self::Stored, _: &mut Vec<TaskRef>) {}

        #[inline(always)]
        unsafe fn release(_: &Self::Stored, _: &mut Cursor<'_>) {}
    };
}
pub(super) use no_handles;

// SAFETY: the argument has no handles, so no method walks over any.
unsafe impl Argument for () {
    type Out<'a> = ();
    type Stored = ();

    #[inline]
    fn store(self) {}

    no_handles!();

    #[inline(always)]
    unsafe fn fetch<'a>(_: &'a (), _: &mut Cursor<'a>) {}

    #[inline]
    fn write(_: &(), _: &mut Encoder<'_>) -> Result<(), CodecError> {
        Ok(())
    }

    fn read(_: &mut Decoder<'_>) -> Result<(), CodecError> {
        Ok(())
    }
}

// Without generics the crate itself would compile every codec of these forty types. With
// `#[inline]` a program compiles those of the types that it uses.
macro_rules! plain {
    ($([$($generics:tt)*] $t:ty, $read:path;)*) => {$(
        // SAFETY: the argument has no handles, so no method walks over any.
        unsafe impl<$($generics)*> Argument for $t {
            type Out<'a> = $t;
            type Stored = $t;

            #[inline]
            fn store(self) -> $t {
                self
            }

            no_handles!();

            #[inline(always)]
            unsafe fn fetch<'a>(stored: &'a $t, _: &mut Cursor<'a>) -> $t {
                Clone::clone(stored)
            }

            #[inline]
            fn write(stored: &$t, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
                encoder.write(stored)
            }

            #[inline]
            fn read(decoder: &mut Decoder<'_>) -> Result<$t, CodecError> {
                $read(decoder)
            }

            #[inline]
            fn describe(stored: &$t, texts: &mut Vec<String>) {
                texts.push(name::brief(stored));
            }
        }
    )*};
}
macro_rules! plain_values {
    ($($t:ty)*) => {
        plain! { $([] $t, Decoder::read::<$t>;)* }
    };
}
macro_rules! plain_ranges {
    ($($range:ident)*) => {
        plain! { $([T: Portable + Clone + Debug] $range<T>, Decoder::read::<$range<T>>;)* }
    };
}
plain_values! {
    bool char i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64
    NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128 NonZeroIsize
    NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128 NonZeroUsize
    String Box<str> PathBuf OsString Duration SystemTime
    IpAddr Ipv4Addr Ipv6Addr SocketAddr SocketAddrV4 SocketAddrV6
}
plain_ranges! { Range RangeInclusive RangeFrom RangeTo }
plain! { [] &'static str, read_text; }

/// Decodes a text that lives for the rest of the process, as in the process that wrote it. Equal
/// texts are stored once.
#[inline]
fn read_text(decoder: &mut Decoder<'_>) -> Result<&'static str, CodecError> {
    decoder.read::<String>().map(kept)
}

fn kept(text: String) -> &'static str {
    static TEXTS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut texts = TEXTS.lock();
    if let Some(text) = texts.get(text.as_str()) {
        return text;
    }
    let text: &'static str = text.leak();
    texts.insert(text);
    text
}

/// Adds the type that cannot be encoded or decoded to the error.
pub(super) fn of_type<V>(problem: CodecError) -> CodecError {
    CodecError::new(format!("a `{}`: {problem}", std::any::type_name::<V>()))
}

/// A plain value that a task borrows. [`lit`] makes it.
#[derive(Clone, Debug)]
pub struct Lit<V>(V);

/// Passes any plain value to a task. The function gets `&V`.
///
/// Numbers, texts, paths, durations and ranges need no `lit` and reach the function by value. For a
/// function that takes a `V` use [`owned`](crate::owned); for one that takes `&str`, `&[T]` or
/// `&Path`, [`lit(value).as_deref()`](Lit::as_deref). Pass a value that cannot be encoded as
/// `&`[`local`](crate::local)`(value)`.
///
/// # Examples
/// ```
/// use sprang::{delayed, lit};
///
/// fn dot(a: &Vec<f64>, b: &Vec<f64>) -> f64 {
///     a.iter().zip(b).map(|(x, y)| x * y).sum()
/// }
///
/// let product = delayed(dot, (lit(vec![1.0, 2.0]), lit(vec![3.0, 4.0])));
/// assert_eq!(product.compute()?, 11.0);
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn lit<V: Portable>(value: V) -> Lit<V> {
    Lit(value)
}

// SAFETY: the argument has no handles, so no method walks over any.
unsafe impl<V: Portable> Argument for Lit<V> {
    type Out<'a> = &'a V;
    type Stored = V;

    fn store(self) -> V {
        self.0
    }

    no_handles!();

    #[inline(always)]
    unsafe fn fetch<'a>(stored: &'a V, _: &mut Cursor<'a>) -> &'a V {
        stored
    }

    fn write(stored: &V, encoder: &mut Encoder<'_>) -> Result<(), CodecError> {
        encoder.write(stored).map_err(of_type::<V>)
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<V, CodecError> {
        decoder.read().map_err(of_type::<V>)
    }

    fn describe(_: &V, texts: &mut Vec<String>) {
        texts.push(name::of_type(std::any::type_name::<V>()));
    }
}
