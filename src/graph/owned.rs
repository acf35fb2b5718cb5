//! How many bytes values own.
//!
//! A task's type is known where the task is made, and not whether the type implements
//! [`OwnedBytes`]: Rust has no specialization. So the types that implement it are listed by their
//! `TypeId`, and a value is looked up when a callback asks for its size.

use crate::portable::array::SharedArray;
use parking_lot::RwLock;
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// A type that knows how many bytes its values own beside those of the type itself.
///
/// Callbacks and profiles report these bytes: see [`ValueSize`](crate::callback::ValueSize). They
/// know numbers, strings, [`SharedArray`], vectors of numbers, of strings, and of vectors of
/// numbers, and with the feature `ndarray` its `Array1` to `Array3` and `ArrayD` of numbers.
/// [`count_owned_bytes`] adds a type.
///
/// # Examples
/// ```
/// use sprang::callback::{self, OwnedBytes};
/// use sprang::delayed;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Model {
///     name: String,
///     weights: Vec<f64>,
/// }
///
/// impl OwnedBytes for Model {
///     fn owned_bytes(&self) -> usize {
///         self.name.owned_bytes() + self.weights.owned_bytes()
///     }
/// }
///
/// callback::count_owned_bytes::<Model>();
/// let model = delayed(|| Model { name: "m".into(), weights: vec![0.5; 1000] }, ()).name("model");
/// let sum = delayed(|model: &Model| model.weights.iter().sum::<f64>(), (&model,));
/// let (sum, profile) = sprang::profile(|| sum.compute_with("threads"));
/// assert_eq!(sum?, 500.0);
/// let size = profile.tasks().find(|task| &*task.name == "model").unwrap().value.unwrap();
/// assert!(size.is_whole && size.bytes >= 8000);
/// # Ok::<_, sprang::Error>(())
/// ```
pub trait OwnedBytes {
    /// The number of bytes on the heap, or in shared memory, that the value owns.
    fn owned_bytes(&self) -> usize;
}

fn sum<'a, T: OwnedBytes + 'a>(items: impl IntoIterator<Item = &'a T>) -> usize {
    let mut sum = 0;
    // A type without a destructor owns nothing.
    if std::mem::needs_drop::<T>() {
        for item in items {
            sum += item.owned_bytes();
        }
    }
    sum
}

macro_rules! owns_nothing {
    ($($type:ty)*) => {
        $(impl OwnedBytes for $type {
            #[inline]
            fn owned_bytes(&self) -> usize {
                0
            }
        })*
    };
}
owns_nothing! { () bool char u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }

impl OwnedBytes for String {
    fn owned_bytes(&self) -> usize {
        self.capacity()
    }
}

impl<T: OwnedBytes> OwnedBytes for Vec<T> {
    fn owned_bytes(&self) -> usize {
        self.capacity() * size_of::<T>() + sum(self)
    }
}

impl<T: OwnedBytes> OwnedBytes for [T] {
    fn owned_bytes(&self) -> usize {
        sum(self)
    }
}

impl<T: OwnedBytes, const N: usize> OwnedBytes for [T; N] {
    fn owned_bytes(&self) -> usize {
        sum(self)
    }
}

impl<T: OwnedBytes + ?Sized> OwnedBytes for Box<T> {
    fn owned_bytes(&self) -> usize {
        size_of_val(&**self) + (**self).owned_bytes()
    }
}

impl<T: OwnedBytes> OwnedBytes for Option<T> {
    fn owned_bytes(&self) -> usize {
        sum(self)
    }
}

impl<K: OwnedBytes, V: OwnedBytes, S> OwnedBytes for HashMap<K, V, S> {
    fn owned_bytes(&self) -> usize {
        self.capacity() * size_of::<(K, V)>() + sum(self.keys()) + sum(self.values())
    }
}

impl<K: OwnedBytes, V: OwnedBytes> OwnedBytes for BTreeMap<K, V> {
    fn owned_bytes(&self) -> usize {
        self.len() * size_of::<(K, V)>() + sum(self.keys()) + sum(self.values())
    }
}

impl<A: OwnedBytes, B: OwnedBytes> OwnedBytes for (A, B) {
    fn owned_bytes(&self) -> usize {
        self.0.owned_bytes() + self.1.owned_bytes()
    }
}

impl<A: OwnedBytes, B: OwnedBytes, C: OwnedBytes> OwnedBytes for (A, B, C) {
    fn owned_bytes(&self) -> usize {
        self.0.owned_bytes() + self.1.owned_bytes() + self.2.owned_bytes()
    }
}

/// All handles of an array share these bytes, and each counts them.
impl<T: bytemuck::Pod> OwnedBytes for SharedArray<T> {
    fn owned_bytes(&self) -> usize {
        size_of_val::<[T]>(self)
    }
}

#[cfg(feature = "ndarray")]
impl<T: OwnedBytes, D: ndarray::Dimension> OwnedBytes for ndarray::Array<T, D> {
    fn owned_bytes(&self) -> usize {
        self.len() * size_of::<T>() + sum(self)
    }
}

pub(super) type Measure = fn(&dyn Any) -> usize;

static MEASURES: LazyLock<RwLock<HashMap<TypeId, Measure>>> = LazyLock::new(|| {
    let mut measures = HashMap::new();
    macro_rules! add_numbers {
        ($($number:ty)*) => {
            $(
                add::<Vec<$number>>(&mut measures);
                add::<Vec<Vec<$number>>>(&mut measures);
                add::<SharedArray<$number>>(&mut measures);
                #[cfg(feature = "ndarray")]
                {
                    add::<ndarray::Array1<$number>>(&mut measures);
                    add::<ndarray::Array2<$number>>(&mut measures);
                    add::<ndarray::Array3<$number>>(&mut measures);
                    add::<ndarray::ArrayD<$number>>(&mut measures);
                }
            )*
        };
    }
    add_numbers! { u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64 }
    add::<String>(&mut measures);
    add::<Vec<String>>(&mut measures);
    RwLock::new(measures)
});

fn add<T: OwnedBytes + 'static>(measures: &mut HashMap<TypeId, Measure>) {
    let measure = |value: &dyn Any| value.downcast_ref::<T>().map_or(0, T::owned_bytes);
    measures.insert(TypeId::of::<T>(), measure);
}

/// Counts the bytes that values of this type own, and those of vectors and options of it, from now
/// on and for the whole process.
///
/// Without this, callbacks and profiles know only the size of the type, unless they
/// [measure](crate::callback::Interests::measured_values) values. See [`OwnedBytes`] for an example
/// and for the types that need no call.
pub fn count_owned_bytes<T: OwnedBytes + 'static>() {
    let mut measures = MEASURES.write();
    add::<T>(&mut measures);
    add::<Vec<T>>(&mut measures);
    add::<Option<T>>(&mut measures);
}

/// The function that counts the bytes that values of this type own, if there is one.
pub(super) fn measure_of<T: 'static>() -> Option<Measure> {
    MEASURES.read().get(&TypeId::of::<T>()).copied()
}
