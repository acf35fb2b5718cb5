//! The stages of a bag: each makes the chain longer and runs nothing.

use super::chain::{
    Chain, Filter, FilterMap, FilterMapStr, FilterWith, FlatMap, FlatMapStr, Map, MapPartitions, MapStr, MapWith,
    TryMap,
};
use super::context::IntoContext;
use super::item::Item;
use super::{Bag, Portability};
use crate::graph::Delayed;
use crate::graph::task::{TaskError, TaskFn};
use std::marker::PhantomData;
use std::sync::Arc;

impl<T: Item + ?Sized, P: for<'a> Chain<Item = T, Of<'a> = T::Of<'a>>> Bag<T, P> {
    fn then<U: Item + ?Sized, Q>(&self, chain: Q) -> Bag<U, Q>
    where
        Q: for<'a> Chain<Item = U, Of<'a> = U::Of<'a>, Origin = P::Origin, Context = P::Context>,
    {
        Bag { parts: Arc::clone(&self.parts), context: self.context.clone(), chain, stored: Arc::default() }
    }

    fn then_with<U: Item + ?Sized, K, Q>(&self, context: Delayed<K>, chain: Q) -> Bag<U, Q>
    where
        Q: for<'a> Chain<Item = U, Of<'a> = U::Of<'a>, Origin = P::Origin, Context = (P::Context, Delayed<K>)>,
    {
        let context = (self.context.clone(), context);
        Bag { parts: Arc::clone(&self.parts), context, chain, stored: Arc::default() }
    }

    /// Calls a function with each item; the bag of what it returns.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let squares = bag::from_sequence(1..=4, 2).map(|x| x * x);
    /// assert_eq!(squares.compute()?, [1, 4, 9, 16]);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn map<U: 'static, F>(&self, function: F) -> Bag<U, Map<P, F>>
    where
        F: for<'a> Fn(T::Of<'a>) -> U + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.then(Map(self.chain, function))
    }

    /// As [`map`](Bag::map), with a value that a closure would capture: a portable value, or a
    /// handle to one, which may be the result of another bag.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let numbers = bag::from_sequence([2.0, 4.0, 9.0], 2);
    /// let mean = numbers.mean();
    /// let centred = numbers.map_with(&mean, |mean, x| x - mean.unwrap_or(0.0));
    /// assert_eq!(centred.compute()?, [-3.0, -1.0, 4.0]);
    ///
    /// let factor = 3.0;
    /// assert_eq!(numbers.map_with(factor, |factor, x| x * factor).compute()?, [6.0, 12.0, 27.0]);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn map_with<K, U: 'static, F>(&self, value: impl IntoContext<K>, function: F) -> Bag<U, MapWith<P, K, F>>
    where
        K: Clone + Send + Sync + 'static,
        F: for<'a, 'k> Fn(&'k K, T::Of<'a>) -> U + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.then_with(value.into_context(), MapWith(self.chain, function, PhantomData))
    }

    /// Keeps the items for which a function returns true.
    pub fn filter<F>(&self, function: F) -> Bag<T, Filter<P, F>>
    where
        F: for<'a, 'b> Fn(&'b T::Of<'a>) -> bool + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.then(Filter(self.chain, function))
    }

    /// As [`filter`](Bag::filter), with a value as in [`map_with`](Bag::map_with).
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    /// use std::collections::HashSet;
    ///
    /// let known = HashSet::from([3, 7]);
    /// let found = bag::from_sequence(0..10, 3).filter_with(known, |known, x| known.contains(x));
    /// assert_eq!(found.compute()?, [3, 7]);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn filter_with<K, F>(&self, value: impl IntoContext<K>, function: F) -> Bag<T, FilterWith<P, K, F>>
    where
        K: Clone + Send + Sync + 'static,
        F: for<'a, 'b, 'k> Fn(&'k K, &'b T::Of<'a>) -> bool + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.then_with(value.into_context(), FilterWith(self.chain, function, PhantomData))
    }

    /// Calls a function with each item, and keeps what is in `Some`.
    pub fn filter_map<U: 'static, F>(&self, function: F) -> Bag<U, FilterMap<P, F>>
    where
        F: for<'a> Fn(T::Of<'a>) -> Option<U> + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.then(FilterMap(self.chain, function))
    }

    /// Calls a function with each item; the items of what it returns, one after another.
    ///
    /// For pieces of borrowed lines there is [`flat_map_str`](Bag::flat_map_str).
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let pairs = bag::from_sequence([(2, 'a'), (3, 'b')], 2);
    /// let chars = pairs.flat_map(|(count, char)| std::iter::repeat_n(char, count));
    /// assert_eq!(chars.compute()?, ['a', 'a', 'b', 'b', 'b']);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn flat_map<I, F>(&self, function: F) -> Bag<I::Item, FlatMap<P, F>>
    where
        I: IntoIterator<Item: 'static>,
        F: for<'a> Fn(T::Of<'a>) -> I + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.then(FlatMap(self.chain, function))
    }

    /// Calls a function with each item; an `Err` fails the task of the partition. The message says
    /// where the item is: in which file, line and byte, or in which partition.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let texts = bag::from_sequence(["1", "2", "three"].map(String::from), 2);
    /// let numbers = texts.try_map(|text| text.parse::<u32>());
    /// let error = numbers.sum().compute().unwrap_err();
    /// assert_eq!(error.message(), "item 0 of partition 1: invalid digit found in string");
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn try_map<U: 'static, E, F>(&self, function: F) -> Bag<U, TryMap<P, F>>
    where
        E: TaskError,
        F: for<'a> Fn(T::Of<'a>) -> Result<U, E> + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.then(TryMap(self.chain, function))
    }

    /// Calls a function with the items of each partition; the items of what it returns.
    ///
    /// The partition is stored as a vector for the call. Where the cuts between partitions are
    /// depends on the source.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let sorted_parts = bag::from_sequence([3, 1, 2, 9, 8, 7], 2).map_partitions(|mut items| {
    ///     items.sort();
    ///     items
    /// });
    /// assert_eq!(sorted_parts.compute()?, [1, 2, 3, 7, 8, 9]);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn map_partitions<I, F>(&self, function: F) -> Bag<I::Item, MapPartitions<P, F>>
    where
        I: IntoIterator<Item: 'static>,
        F: Fn(Vec<T::Owned>) -> I + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.then(MapPartitions(self.chain, function))
    }
}

/// Stages whose items are pieces of a text, and borrowed from it.
impl<P: for<'a> Chain<Item = str, Of<'a> = &'a str>> Bag<str, P> {
    /// As [`map`](Bag::map), for a piece of the text, such as `|line| line.trim()`.
    pub fn map_str<F>(&self, function: F) -> Bag<str, MapStr<P, F>>
    where
        F: for<'a> Fn(&'a str) -> &'a str + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.then(MapStr(self.chain, function))
    }

    /// As [`filter_map`](Bag::filter_map), for a piece of the text, such as
    /// `|line| line.split(' ').nth(2)`.
    pub fn filter_map_str<F>(&self, function: F) -> Bag<str, FilterMapStr<P, F>>
    where
        F: for<'a> Fn(&'a str) -> Option<&'a str> + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.then(FilterMapStr(self.chain, function))
    }

    /// As [`flat_map`](Bag::flat_map), for pieces of the text. The function gets a text and a
    /// function to call with each piece.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("text");
    /// std::fs::write(&path, "to be or\nnot to be\n")?;
    /// let lines = bag::read_text([&path])?;
    /// let words = lines.flat_map_str(|line, emit| line.split(' ').for_each(emit));
    /// assert_eq!(words.distinct().compute()?, ["to", "be", "or", "not"]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn flat_map_str<F>(&self, function: F) -> Bag<str, FlatMapStr<P, F>>
    where
        F: for<'a> Fn(&'a str, &mut dyn FnMut(&'a str)) + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.then(FlatMapStr(self.chain, function))
    }
}
