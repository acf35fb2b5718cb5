//! The types of numbers that a self-describing value can name.

use std::any::TypeId;

/// Calls a macro with every number: its name in [`Number`], its type, and serde's methods for it.
macro_rules! for_each_number {
    ($macro:ident) => {
        $macro! {
            U8 u8 serialize_u8 deserialize_u8 visit_u8, U16 u16 serialize_u16 deserialize_u16 visit_u16,
            U32 u32 serialize_u32 deserialize_u32 visit_u32, U64 u64 serialize_u64 deserialize_u64 visit_u64,
            U128 u128 serialize_u128 deserialize_u128 visit_u128, I8 i8 serialize_i8 deserialize_i8 visit_i8,
            I16 i16 serialize_i16 deserialize_i16 visit_i16, I32 i32 serialize_i32 deserialize_i32 visit_i32,
            I64 i64 serialize_i64 deserialize_i64 visit_i64, I128 i128 serialize_i128 deserialize_i128 visit_i128,
            F32 f32 serialize_f32 deserialize_f32 visit_f32, F64 f64 serialize_f64 deserialize_f64 visit_f64
        }
    };
}
pub(super) use for_each_number;

macro_rules! define_number {
    ($($name:ident $type:ident $serialize:ident $deserialize:ident $visit:ident),*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(in crate::portable) enum Number {
            $($name),*
        }

        impl Number {
            pub(in crate::portable) fn from_code(code: u8) -> Option<Number> {
                [$(Number::$name),*].get(usize::from(code)).copied()
            }

            /// The number that this type is, if any.
            pub(in crate::portable) fn of<T: 'static>() -> Option<Number> {
                let numbers = [$((TypeId::of::<$type>(), Number::$name)),*];
                numbers.into_iter().find(|(id, _)| *id == TypeId::of::<T>()).map(|(_, number)| number)
            }

            pub(in crate::portable) fn size(self) -> usize {
                match self {
                    $(Number::$name => size_of::<$type>()),*
                }
            }
        }
    };
}
for_each_number!(define_number);
