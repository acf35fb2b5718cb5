//! A generic function without the bounds that its tasks need.

use sprang::{Delayed, delayed, lit};

fn owned<T>(value: Delayed<T>) -> Delayed<usize> {
    delayed(|_: T| size_of::<T>(), (value,))
}

fn lent<T>(value: &Delayed<T>) -> Delayed<usize> {
    delayed(|_: &T| size_of::<T>(), (value,))
}

fn literal<T>(value: T) -> Delayed<usize> {
    delayed(|_: &T| size_of::<T>(), (lit(value),))
}

fn returned<T: Default>() -> Delayed<T> {
    delayed(|| T::default(), ())
}

fn applied<F: Fn(&i64) -> i64>(function: F, to: &Delayed<i64>) -> Delayed<i64> {
    delayed(function, (to,))
}

fn main() {}
