//! Numeric buffers that cross to another process without being copied.

use super::codec::CodecError;
use super::codec::number::Number;
use super::codec::out_of_band::{self, ARRAY, Found, Offer, PLACED, Placed, Slot};
use super::region::{Memory, Region, WeakRegion};
use bytemuck::Pod;
use parking_lot::Mutex;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{self, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// How large an array is, in bytes, before it goes to shared memory.
///
/// Each piece of shared memory takes an open file in each process that sees it, and the first use of one costs more than copying this
/// much through a socket; the second, less.
const SHARED_MIN: usize = 64 << 10;

/// An immutable buffer of numbers that tasks in other processes can read where it lies.
///
/// It is used like a slice. Between tasks on threads a clone is shared, as with `Arc<[T]>`. When it goes to a worker process, or comes
/// back from one, alone or as a field of something larger, its elements go into shared memory and not through a socket: once, however
/// many tasks use it at a time, and not at all if they are there already. A task that makes a large array with
/// [`with_len`](SharedArray::with_len) makes it in shared memory from the start. Arrays below 64 KiB travel like other values.
///
/// The elements may be of any type that is plain bytes ([`bytemuck::Pod`]): the primitive numbers, arrays of these, and `#[repr(C)]`
/// structs for which the trait is derived. To be sent, they have to be serializable too; any other serializer than that of sprang, such as
/// that of `serde_json`, sees a plain sequence.
///
/// Where the elements lie has to be looked up at each access through the array itself. In a loop, borrow the slice once:
/// `let values: &[f64] = &array;`.
///
/// # Examples
/// ```
/// use sprang::{SharedArray, delayed};
///
/// fn mean(values: &SharedArray<f64>) -> f64 {
///     values.iter().sum::<f64>() / values.len() as f64
/// }
///
/// let values = delayed(|n| SharedArray::with_len(n, |slice| slice.fill(2.5)), (1000_usize,));
/// assert_eq!(delayed(mean, (&values,)).compute()?, 2.5);
/// # Ok::<_, sprang::Error>(())
/// ```
pub struct SharedArray<T>(Arc<Storage<T>>);

enum Storage<T> {
    Heap {
        items: Vec<T>,
        /// A copy in shared memory, as long as somebody uses it.
        ///
        /// If the array kept it alive, twice the memory would be in use for as long as the array lives. This way sending the array costs a
        /// copy only if no process uses the last one any more, and that copy goes to memory that is warm.
        copy: Mutex<Option<WeakRegion>>,
    },
    /// The region's length is a multiple of that of a `T`, and its start is aligned for one.
    Shared { region: Region, items: PhantomData<T> },
}

impl<T: Pod> SharedArray<T> {
    /// An array of so many elements, which `fill` gets as zeros.
    ///
    /// Within a task that runs in a worker process a large array is made in shared memory, so that sending it costs no copy.
    ///
    /// # Examples
    /// ```
    /// use sprang::SharedArray;
    ///
    /// let squares = SharedArray::with_len(5, |slice: &mut [u32]| {
    ///     for (i, square) in (0..).zip(slice) {
    ///         *square = i * i;
    ///     }
    /// });
    /// assert_eq!(*squares, [0, 1, 4, 9, 16]);
    /// ```
    ///
    /// # Panics
    /// If `fill` panics, or if there is no memory for so many elements.
    pub fn with_len(len: usize, fill: impl FnOnce(&mut [T])) -> Self {
        let byte_len = len.checked_mul(size_of::<T>()).expect("an array fits in the address space");
        let memory = if byte_len >= SHARED_MIN && can_be_shared::<T>() { Memory::current() } else { None };
        // If shared memory is used up, the array is made elsewhere. Whether it can be sent is seen when it is sent.
        if let Some(mut target) = memory.and_then(|memory| memory.allocate(byte_len).ok()) {
            target.fill(0);
            fill(bytemuck::cast_slice_mut(&mut target));
            return SharedArray(Arc::new(Storage::Shared { region: target.freeze(), items: PhantomData }));
        }
        let mut items = bytemuck::zeroed_vec(len);
        fill(&mut items);
        SharedArray::from(items)
    }

    /// The elements, to be changed. If they are shared, with a clone or another process, they are copied first.
    ///
    /// # Examples
    /// ```
    /// use sprang::SharedArray;
    ///
    /// let before = SharedArray::from(vec![1.0, 2.0]);
    /// let mut after = before.clone();
    /// after.make_mut()[0] = 9.0;
    /// assert_eq!((&before[..], &after[..]), (&[1.0, 2.0][..], &[9.0, 2.0][..]));
    /// ```
    ///
    /// # Complexity
    /// O(1), or O(n) for a copy.
    pub fn make_mut(&mut self) -> &mut [T] {
        let is_own = matches!(Arc::get_mut(&mut self.0), Some(Storage::Heap { .. }));
        if !is_own {
            *self = SharedArray::from(self.to_vec());
        }
        match Arc::get_mut(&mut self.0) {
            Some(Storage::Heap { items, copy }) => {
                // The copy will not be one any more.
                *copy.get_mut() = None;
                items
            }
            _ => unreachable!("it has just been made, or looked at"),
        }
    }

    /// The elements as a vector: without a copy if the array was made from one, and has no clones.
    ///
    /// # Examples
    /// ```
    /// use sprang::SharedArray;
    ///
    /// let items = vec![3_u8, 4];
    /// let place = items.as_ptr();
    /// let back = SharedArray::from(items).into_vec();
    /// assert_eq!((back.as_ptr(), back), (place, vec![3, 4]));
    /// ```
    pub fn into_vec(self) -> Vec<T> {
        match Arc::try_unwrap(self.0) {
            Ok(Storage::Heap { items, .. }) => items,
            Ok(storage) => storage.as_slice().to_vec(),
            Err(shared) => shared.as_slice().to_vec(),
        }
    }

    /// The elements as a slice.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        self.0.as_slice()
    }

    /// The elements in shared memory, copied there if they are not.
    fn region(&self, memory: &Memory) -> Result<Region, CodecError> {
        match &*self.0 {
            Storage::Shared { region, .. } => Ok(region.clone()),
            Storage::Heap { items, copy } => {
                let mut copy = copy.lock();
                if let Some(region) = copy.as_ref().and_then(WeakRegion::upgrade) {
                    return Ok(region);
                }
                let bytes: &[u8] = bytemuck::cast_slice(items);
                let mut target = memory.allocate(bytes.len())?;
                target.copy_from_slice(bytes);
                let region = target.freeze();
                *copy = Some(region.downgrade());
                Ok(region)
            }
        }
    }

    fn from_region(region: Region, byte_len: usize) -> Option<Self> {
        if !can_be_shared::<T>() || byte_len > region.len() || !byte_len.is_multiple_of(size_of::<T>()) {
            return None;
        }
        if byte_len < region.len() {
            // Such a region is none of an array's making. Copying keeps the rule of `Storage::Shared`.
            return Some(SharedArray::from(bytemuck::pod_collect_to_vec::<u8, T>(&region[..byte_len])));
        }
        Some(SharedArray(Arc::new(Storage::Shared { region, items: PhantomData })))
    }
}

/// Regions start at a page, and elements without bytes cannot be counted by their bytes.
const fn can_be_shared<T>() -> bool {
    size_of::<T>() > 0 && align_of::<T>() <= 4096
}

impl<T: Pod> Storage<T> {
    #[inline]
    fn as_slice(&self) -> &[T] {
        match self {
            Storage::Heap { items, .. } => items,
            Storage::Shared { region, .. } => bytemuck::cast_slice(region),
        }
    }
}

impl<T> Clone for SharedArray<T> {
    /// Another handle to the same elements.
    fn clone(&self) -> Self {
        SharedArray(Arc::clone(&self.0))
    }
}

impl<T: Pod> Deref for SharedArray<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: Pod> AsRef<[T]> for SharedArray<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> From<Vec<T>> for SharedArray<T> {
    /// Takes the vector as it is.
    fn from(items: Vec<T>) -> Self {
        SharedArray(Arc::new(Storage::Heap { items, copy: Mutex::new(None) }))
    }
}

impl<T: Clone> From<&[T]> for SharedArray<T> {
    fn from(items: &[T]) -> Self {
        SharedArray::from(items.to_vec())
    }
}

impl<T, const N: usize> From<[T; N]> for SharedArray<T> {
    fn from(items: [T; N]) -> Self {
        SharedArray::from(Vec::from(items))
    }
}

impl<T: Pod> From<SharedArray<T>> for Vec<T> {
    /// [`SharedArray::into_vec`].
    fn from(array: SharedArray<T>) -> Self {
        array.into_vec()
    }
}

impl<T> FromIterator<T> for SharedArray<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        SharedArray::from(Vec::from_iter(items))
    }
}

impl<'a, T: Pod> IntoIterator for &'a SharedArray<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> Default for SharedArray<T> {
    /// No elements.
    fn default() -> Self {
        SharedArray::from(Vec::new())
    }
}

impl<T: Pod + PartialEq> PartialEq for SharedArray<T> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: Pod + Eq> Eq for SharedArray<T> {}

impl<T: Pod + fmt::Debug> fmt::Debug for SharedArray<T> {
    /// The type, the length and the first few elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct First<'a, T>(&'a [T]);

        impl<T: fmt::Debug> fmt::Debug for First<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut list = f.debug_list();
                list.entries(self.0.iter().take(8));
                if self.0.len() > 8 { list.finish_non_exhaustive() } else { list.finish() }
            }
        }

        write!(f, "SharedArray<{}>({}) {:?}", std::any::type_name::<T>(), self.len(), First(self))
    }
}

impl<T: Pod + Serialize> Serialize for SharedArray<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(ARRAY, &Reached(self))
    }
}

/// An array, once the serializer has seen that it is one.
struct Reached<'a, T>(&'a SharedArray<T>);

impl<T: Pod + Serialize> Serialize for Reached<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Where nobody has made an offer, the serializer is a stranger's.
        let Some(Slot::Offer(offer)) = out_of_band::take() else { return serializer.collect_seq(self.0.iter()) };
        let (placed, content) = place(self.0, &offer).map_err(ser::Error::custom)?;
        out_of_band::leave(Slot::Placed(placed));
        serializer.serialize_newtype_struct(PLACED, &content)
    }
}

/// Decides how an array is encoded.
fn place<'a, T: Pod>(array: &'a SharedArray<T>, offer: &Offer) -> Result<(Placed, Content<'a, T>), String> {
    let number = Number::of::<T>();
    if !can_be_shared::<T>() || (offer.is_described && number.is_none()) {
        return Ok((Placed::Elements, Content::Elements(array)));
    }
    let bytes: &[u8] = bytemuck::cast_slice(array);
    if let Some(memory) = offer.memory.as_ref().filter(|_| bytes.len() >= SHARED_MIN) {
        match array.region(memory) {
            Ok(region) => return Ok((Placed::InRegion(number, region, bytes.len()), Content::Nothing)),
            // A small one still fits through a socket.
            Err(_) if bytes.len() < super::codec::INLINE_MAX => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok((Placed::Inline(number), Content::Bytes(bytes)))
}

/// What of an array goes through the serializer.
enum Content<'a, T> {
    Elements(&'a [T]),
    Bytes(&'a [u8]),
    Nothing,
}

impl<T: Serialize> Serialize for Content<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Content::Elements(items) => serializer.collect_seq(*items),
            Content::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Content::Nothing => serializer.serialize_unit(),
        }
    }
}

impl<'de, T: Pod + Deserialize<'de>> Deserialize<'de> for SharedArray<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(ARRAY, ArrayVisitor(PhantomData))
    }
}

struct ArrayVisitor<T>(PhantomData<T>);

impl<'de, T: Pod + Deserialize<'de>> Visitor<'de> for ArrayVisitor<T> {
    type Value = SharedArray<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of `{}`", std::any::type_name::<T>())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(items)).map(SharedArray::from)
    }

    /// Our own formats call it with the elements' bytes.
    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        let is_ours = matches!(out_of_band::take(), Some(Slot::Found(Found::Inline)));
        let is_array = can_be_shared::<T>() && bytes.len().is_multiple_of(size_of::<T>().max(1));
        if is_array && (is_ours || Number::of::<T>() == Some(Number::U8)) {
            Ok(SharedArray::from(bytemuck::pod_collect_to_vec::<u8, T>(bytes)))
        } else {
            Err(E::invalid_type(de::Unexpected::Bytes(bytes), &self))
        }
    }

    /// Our own formats call it when the elements lie in a region.
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        match out_of_band::take() {
            Some(Slot::Found(Found::InRegion(region, byte_len))) => SharedArray::from_region(region, byte_len)
                .ok_or_else(|| E::custom(format_args!("{byte_len} bytes of a region are not an array of this type"))),
            _ => Err(E::invalid_type(de::Unexpected::Unit, &self)),
        }
    }
}

#[cfg(feature = "ndarray")]
mod ndarray;

#[cfg(test)]
mod tests;
