//! Numeric buffers that reach another process without a copy.

use super::codec::number::Number;
use super::codec::out_of_band::{self, ARRAY, Found, Offer, PLACED, Placed, Slot};
use super::error::CodecError;
use super::region::{Memory, Region, WeakRegion};
use bytemuck::Pod;
use parking_lot::Mutex;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{self, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// The size, in bytes, from which an array goes to shared memory.
///
/// Each piece of shared memory takes an open file in each process that maps it. Its first use costs
/// more than copying this many bytes through a socket, and its second use costs less.
const SHARED_MIN: usize = 64 << 10;

/// An immutable buffer of numbers that tasks in other processes read in place.
///
/// A `SharedArray` is used like a slice. Clones share their elements between threads, as with
/// `Arc<[T]>`. When an array is sent to a worker process or back, alone or as a field of a larger
/// value, its elements go through shared memory and not through a socket. They are copied there
/// once, however many tasks use them at a time, and not at all if they are there already. In a
/// worker process, [`with_len`](SharedArray::with_len) makes a large array in shared memory from
/// the start. Arrays below 64 KiB are sent like other values.
///
/// The elements may be of any type that is plain bytes ([`bytemuck::Pod`]): the primitive numbers,
/// arrays of these, and `#[repr(C)]` structs for which the trait is derived. To be sent, they have
/// to be serializable too. A serializer other than sprang's, such as `serde_json`, sees a plain
/// sequence.
///
/// Each access through the array itself looks up the address of the elements. In a loop, borrow the
/// slice once: `let values: &[f64] = &array;`.
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
        /// A copy in shared memory, as long as it is used.
        ///
        /// If the array kept the copy alive, it would take twice the memory for as long as it
        /// lives. This way, sending the array costs a new copy only if no process uses the last
        /// one, and the new copy goes to warm memory.
        copy: Mutex<Option<WeakRegion>>,
    },
    /// The region's length is a multiple of the size of `T`, and its start is aligned for `T`.
    Shared { region: Region, items: PhantomData<T> },
}

impl<T: Pod> SharedArray<T> {
    /// Makes an array of `len` elements. `fill` sets them; they are zero before.
    ///
    /// Within a task that runs in a worker process, a large array is made in shared memory, so that
    /// sending it costs no copy.
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
    /// If `fill` panics, or if there is not enough memory for the elements.
    pub fn with_len(len: usize, fill: impl FnOnce(&mut [T])) -> Self {
        let byte_len = len.checked_mul(size_of::<T>()).expect("an array fits in the address space");
        let memory = if byte_len >= SHARED_MIN && can_be_shared::<T>() { Memory::current() } else { None };
        // If the shared memory is used up, the array is made on the heap, and sending it may fail
        // later.
        if let Some(mut target) = memory.and_then(|memory| memory.allocate(byte_len).ok()) {
            target.fill(0);
            fill(bytemuck::cast_slice_mut(&mut target));
            return SharedArray(Arc::new(Storage::Shared { region: target.freeze(), items: PhantomData }));
        }
        let mut items = bytemuck::zeroed_vec(len);
        fill(&mut items);
        SharedArray::from(items)
    }

    /// The elements, mutably. If a clone shares them, or they are in shared memory, they are copied
    /// first.
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
                // The elements are about to differ from the copy.
                *copy.get_mut() = None;
                items
            }
            _ => unreachable!("the storage is on the heap and not shared"),
        }
    }

    /// The elements as a vector, without a copy if the array was made from a vector and has no
    /// clones.
    ///
    /// # Examples
    /// ```
    /// use sprang::SharedArray;
    ///
    /// let items = vec![3_u8, 4];
    /// let address = items.as_ptr();
    /// let back = SharedArray::from(items).into_vec();
    /// assert_eq!((back.as_ptr(), back), (address, vec![3, 4]));
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

    /// The elements in shared memory, copied there if necessary.
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
            // No array makes such a region. Copying keeps the rule of `Storage::Shared`.
            return Some(SharedArray::from(bytemuck::pod_collect_to_vec::<u8, T>(&region[..byte_len])));
        }
        Some(SharedArray(Arc::new(Storage::Shared { region, items: PhantomData })))
    }
}

/// Regions start at a page, and the number of elements is derived from the number of bytes.
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
    /// Makes another handle to the same elements.
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
    /// Takes the vector without a copy.
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
        serializer.serialize_newtype_struct(ARRAY, &ArrayContent(self))
    }
}

/// The content of the newtype that an array is to a serializer.
struct ArrayContent<'a, T>(&'a SharedArray<T>);

impl<T: Pod + Serialize> Serialize for ArrayContent<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Without an offer, the serializer is a foreign one.
        let Some(Slot::Offer(offer)) = out_of_band::take() else { return serializer.collect_seq(self.0.iter()) };
        let (placed, content) = place(self.0, &offer).map_err(ser::Error::custom)?;
        out_of_band::leave(Slot::Placed(placed));
        serializer.serialize_newtype_struct(PLACED, &content)
    }
}

/// Decides how an array is encoded.
fn place<'a, T: Pod>(array: &'a SharedArray<T>, offer: &Offer) -> Result<(Placed, PlacedContent<'a, T>), String> {
    let number = Number::of::<T>();
    if !can_be_shared::<T>() || (offer.is_described && number.is_none()) {
        return Ok((Placed::Elements, PlacedContent::Elements(array)));
    }
    let bytes: &[u8] = bytemuck::cast_slice(array);
    if let Some(memory) = offer.memory.as_ref().filter(|_| bytes.len() >= SHARED_MIN) {
        match array.region(memory) {
            Ok(region) => return Ok((Placed::InRegion(number, region, bytes.len()), PlacedContent::Nothing)),
            // The error is ignored for an array that is small enough for a socket.
            Err(_) if bytes.len() < super::codec::INLINE_MAX => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok((Placed::Inline(number), PlacedContent::Bytes(bytes)))
}

/// The part of an array that goes through the serializer.
enum PlacedContent<'a, T> {
    Elements(&'a [T]),
    Bytes(&'a [u8]),
    Nothing,
}

impl<T: Serialize> Serialize for PlacedContent<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            PlacedContent::Elements(items) => serializer.collect_seq(*items),
            PlacedContent::Bytes(bytes) => serializer.serialize_bytes(bytes),
            PlacedContent::Nothing => serializer.serialize_unit(),
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

    /// Called by our own formats with the bytes of the elements.
    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        let is_ours = matches!(out_of_band::take(), Some(Slot::Found(Found::Inline)));
        let is_array = can_be_shared::<T>() && bytes.len().is_multiple_of(size_of::<T>().max(1));
        if is_array && (is_ours || Number::of::<T>() == Some(Number::U8)) {
            Ok(SharedArray::from(bytemuck::pod_collect_to_vec::<u8, T>(bytes)))
        } else {
            Err(E::invalid_type(de::Unexpected::Bytes(bytes), &self))
        }
    }

    /// Called by our own formats if the elements lie in a region.
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
