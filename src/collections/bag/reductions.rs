//! The ends of chains: one loop for each partition, and a tree that merges what the loops give.

use super::chain::{Chain, Flow, Pass, Stop};
use super::item::{Item, Key};
use super::table::{self, KeyTable};
use super::{Bag, Portability, from_delayed};
use crate::api::delayed::{delayed, try_delayed};
use crate::api::reduce::merge_in_pairs;
use crate::graph::Delayed;
use crate::graph::argument::lit;
use crate::graph::node::CallError;
use crate::graph::task::TaskFn;
use crate::portable::Portable;
use std::cmp::Ordering;
use std::hash::Hash;
use std::iter::Sum;
use std::ops::Add;

/// What a partition's loop gives.
type Partial<A> = Result<A, CallError>;

/// Merges the values of the partitions: neighbours in pairs, then the results in pairs. The tree
/// depends on the number of partitions only.
fn tree<A: Portable + Clone>(parts: Vec<Delayed<A>>, merge: impl Fn(A, A) -> A + TaskFn) -> Delayed<A> {
    merge_in_pairs(parts, |earlier, later| delayed(merge, (earlier, later))).expect("a bag has a partition")
}

/// # Reductions
///
/// They give a [`Delayed`]; nothing runs before it is computed. The values of the partitions are
/// merged in a tree, in their order. So a function that merges should be associative, and need not
/// be commutative; where it is associative, the result does not depend on the partitions. Sums of
/// floats are not quite associative: they are the same on every scheduler and with every number of
/// workers, but their last digits depend on the partitions.
impl<T: Item + ?Sized, P: for<'a> Chain<Item = T, Of<'a> = T::Of<'a>>> Bag<T, P> {
    /// Adds each item of a partition to an accumulator that begins as `init()`; `merge` makes one
    /// of the accumulators of two neighbours.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let texts = bag::from_sequence(["a", "bc", "def"].map(String::from), 2);
    /// let all = texts.fold(String::new, |all, text| *all += &text, |a, b| a + &b);
    /// assert_eq!(all.compute()?, "abcdef");
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn fold<A, I, F, M>(&self, init: I, step: F, merge: M) -> Delayed<A>
    where
        A: Portable + Clone,
        I: Fn() -> A + TaskFn,
        F: for<'a, 'b> Fn(&'b mut A, T::Of<'a>) + TaskFn,
        M: Fn(A, A) -> A + TaskFn,
    {
        const { (Portability::<I>::CHECK, Portability::<F>::CHECK, Portability::<M>::CHECK) };
        let parts = per_partition!(self, (), |pass, ()| {
            let mut accumulator = init();
            pass.each(|item| step(&mut accumulator, item))?;
            Partial::Ok(accumulator)
        });
        tree(parts, merge)
    }

    /// The number of items.
    pub fn count(&self) -> Delayed<u64> {
        let parts = per_partition!(self, (), |pass, ()| {
            let mut count = 0_u64;
            pass.each(|_| count += 1)?;
            Partial::Ok(count)
        });
        tree(parts, Add::add)
    }

    /// Whether a function returns true for an item. Each partition stops at the first such item.
    pub fn any<F>(&self, function: F) -> Delayed<bool>
    where
        F: for<'a> Fn(T::Of<'a>) -> bool + TaskFn,
    {
        const { Portability::<F>::CHECK };
        let parts = per_partition!(self, (), |pass, ()| {
            let mut found = false;
            pass.until(|item| {
                found = function(item);
                if found { Flow::Break(Stop::ENOUGH) } else { Flow::Continue(()) }
            })?;
            Partial::Ok(found)
        });
        tree(parts, |a, b| a || b)
    }

    /// Whether a function returns true for all items. Each partition stops at the first other item.
    pub fn all<F>(&self, function: F) -> Delayed<bool>
    where
        F: for<'a> Fn(T::Of<'a>) -> bool + TaskFn,
    {
        const { Portability::<F>::CHECK };
        let parts = per_partition!(self, (), |pass, ()| {
            let mut holds = true;
            pass.until(|item| {
                holds = function(item);
                if holds { Flow::Continue(()) } else { Flow::Break(Stop::ENOUGH) }
            })?;
            Partial::Ok(holds)
        });
        tree(parts, |a, b| a && b)
    }

    /// Folds the items of each key apart: a bag of keys and accumulators, in one partition, in the
    /// order in which the keys occur first.
    ///
    /// `step` and `merge` are as for [`fold`](Bag::fold). Each partition has a table of its keys,
    /// so the keys must fit into memory.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let sales = [("tea", 3), ("milk", 1), ("tea", 4)].map(|(what, n)| (what.to_owned(), n));
    /// let sales = bag::from_sequence(sales, 2);
    /// let key = |(what, _): &(String, i32)| what.clone();
    /// let totals = sales.foldby(key, || 0, |sum, (_, n)| *sum += n, |a, b| a + b);
    /// assert_eq!(totals.compute()?, [("tea".into(), 7), ("milk".into(), 1)]);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn foldby<K, A, G, I, F, M>(&self, key: G, init: I, step: F, merge: M) -> Bag<(K, A)>
    where
        K: Portable + Clone + Hash + Eq,
        A: Portable + Clone,
        G: for<'a, 'b> Fn(&'b T::Of<'a>) -> K + TaskFn,
        I: Fn() -> A + TaskFn,
        F: for<'a, 'b> Fn(&'b mut A, T::Of<'a>) + TaskFn,
        M: Fn(A, A) -> A + TaskFn,
    {
        const { (Portability::<G>::CHECK, Portability::<I>::CHECK, Portability::<F>::CHECK, Portability::<M>::CHECK) };
        let parts = per_partition!(self, (), |pass, ()| {
            let mut table = KeyTable::new();
            pass.each(|item| step(table.entry(key(&item), init), item))?;
            Partial::Ok(table.into_entries())
        });
        from_delayed([tree(parts, move |a, b| table::merge(a, b, merge))])
    }
}

/// Reductions whose items outlive their loop.
impl<T: Item<Owned: Portable + Clone> + ?Sized, P: for<'a> Chain<Item = T, Of<'a> = T::Of<'a>>> Bag<T, P> {
    /// Merges all items by a function of two. `None` if there are no items.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let texts = bag::from_sequence(["a", "b", "c"].map(String::from), 2);
    /// assert_eq!(texts.reduce(|a, b| a + &b).compute()?, Some("abc".into()));
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn reduce<F>(&self, function: F) -> Delayed<Option<T::Owned>>
    where
        F: Fn(T::Owned, T::Owned) -> T::Owned + TaskFn,
    {
        const { Portability::<F>::CHECK };
        let merge = move |earlier: Option<T::Owned>, later| match (earlier, later) {
            (Some(a), Some(b)) => Some(function(a, b)),
            (a, b) => a.or(b),
        };
        let parts = per_partition!(self, (), |pass, ()| {
            let mut merged = None;
            pass.each(|item| merged = merge(merged.take(), Some(P::own(item))))?;
            Partial::Ok(merged)
        });
        tree(parts, merge)
    }

    /// The sum of the items.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// assert_eq!(bag::from_sequence(1..=100_u32, 7).sum().compute()?, 5050);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn sum(&self) -> Delayed<T::Owned>
    where
        T::Owned: Sum + Add<Output = T::Owned>,
    {
        let parts = per_partition!(self, (), |pass, ()| {
            let mut sum = Some(std::iter::empty().sum::<T::Owned>());
            pass.each(|item| sum = sum.take().map(|sum| sum + P::own(item)))?;
            Partial::Ok(sum)
        });
        let sum = tree(parts, |a, b| a.zip(b).map(|(a, b)| a + b));
        delayed(|sum: Option<T::Owned>| sum.expect("each partition has a sum"), (sum,))
    }

    /// The mean of the items; `None` if there are none. For integers of 64 bits, map them to `f64`
    /// first.
    pub fn mean(&self) -> Delayed<Option<f64>>
    where
        T::Owned: Into<f64>,
    {
        let parts = per_partition!(self, (), |pass, ()| {
            let (mut sum, mut count) = (0.0_f64, 0_u64);
            pass.each(|item| {
                sum += P::own(item).into();
                count += 1;
            })?;
            Partial::Ok((sum, count))
        });
        let total = tree(parts, |a, b| (a.0 + b.0, a.1 + b.1));
        delayed(|(sum, count): &(f64, u64)| (*count > 0).then(|| sum / *count as f64), (&total,))
    }

    /// The smallest item, the first of several; `None` if there are no items.
    pub fn min(&self) -> Delayed<Option<T::Owned>>
    where
        T::Owned: Ord,
    {
        self.extreme(|new, best| new < best)
    }

    /// The largest item, the last of several; `None` if there are no items.
    pub fn max(&self) -> Delayed<Option<T::Owned>>
    where
        T::Owned: Ord,
    {
        self.extreme(|new, best| new >= best)
    }

    /// The item with the smallest key, the first of several; `None` if there are no items.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let texts = bag::from_sequence(["abc", "de", "fg"].map(String::from), 2);
    /// assert_eq!(texts.min_by_key(|text| text.len()).compute()?, Some("de".into()));
    /// assert_eq!(texts.max_by_key(|text| text.len()).compute()?, Some("abc".into()));
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn min_by_key<K: Ord, F>(&self, key: F) -> Delayed<Option<T::Owned>>
    where
        F: Fn(&T::Owned) -> K + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.extreme(move |new, best| key(new) < key(best))
    }

    /// The item with the largest key, the last of several; `None` if there are no items.
    pub fn max_by_key<K: Ord, F>(&self, key: F) -> Delayed<Option<T::Owned>>
    where
        F: Fn(&T::Owned) -> K + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.extreme(move |new, best| key(new) >= key(best))
    }

    /// The item that replaces all others.
    fn extreme(&self, replaces: impl Fn(&T::Owned, &T::Owned) -> bool + TaskFn) -> Delayed<Option<T::Owned>> {
        let merge = move |best: Option<T::Owned>, new: Option<T::Owned>| match (&best, &new) {
            (Some(old), Some(later)) if replaces(later, old) => new,
            (Some(_), _) => best,
            (None, _) => new,
        };
        let parts = per_partition!(self, (), |pass, ()| {
            let mut best = None;
            pass.each(|item| best = merge(best.take(), Some(P::own(item))))?;
            Partial::Ok(best)
        });
        tree(parts, merge)
    }

    /// The first `n` items, in one partition. Each partition stops after `n` items.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let even = bag::from_sequence(0..1000, 4).filter(|x| x % 2 == 0);
    /// assert_eq!(even.take(3).compute()?, [0, 2, 4]);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn take(&self, n: usize) -> Bag<T::Owned> {
        let parts = per_partition!(self, n, |pass, n| {
            let mut items = Vec::new();
            if *n > 0 {
                pass.until(|item| {
                    items.push(P::own(item));
                    if items.len() < *n { Flow::Continue(()) } else { Flow::Break(Stop::ENOUGH) }
                })?;
            }
            Partial::Ok((*n, items))
        });
        let taken = tree(parts, |(n, mut items), (_, later)| {
            let missing = n - items.len();
            items.extend(later.into_iter().take(missing));
            (n, items)
        });
        from_delayed([delayed(|(_, items): (usize, Vec<T::Owned>)| items, (taken,))])
    }

    /// The `n` largest items in one partition, the largest first; of equal items, the first ones.
    pub fn topk(&self, n: usize) -> Bag<T::Owned>
    where
        T::Owned: Ord,
    {
        self.top(n, |a, b| b.cmp(a))
    }

    /// The `n` items with the largest keys in one partition, the largest first; of items with equal
    /// keys, the first ones.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let words = "to be or not to be that is".split(' ').map(String::from);
    /// let words = bag::from_sequence(words, 3);
    /// let top = words.frequencies().topk_by_key(2, |(_, count)| *count);
    /// assert_eq!(top.compute()?, [("to".into(), 2), ("be".into(), 2)]);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn topk_by_key<K: Ord, F>(&self, n: usize, key: F) -> Bag<T::Owned>
    where
        F: Fn(&T::Owned) -> K + TaskFn,
    {
        const { Portability::<F>::CHECK };
        self.top(n, move |a, b| key(b).cmp(&key(a)))
    }

    fn top(&self, n: usize, compare: impl Fn(&T::Owned, &T::Owned) -> Ordering + TaskFn) -> Bag<T::Owned> {
        let parts = per_partition!(self, n, |pass, n| {
            let n = *n;
            // The first `sorted` items are the best ones so far. Items are sorted when there are
            // twice as many, so that each costs a share of a sort.
            let mut best: Vec<T::Owned> = Vec::new();
            let mut is_full = false;
            let shrink = |best: &mut Vec<T::Owned>| {
                best.sort_by(compare);
                best.truncate(n);
            };
            pass.each(|item| {
                let item = P::own(item);
                // An item that comes later than an equal one is behind it.
                if n == 0 || is_full && compare(&item, &best[n - 1]) != Ordering::Less {
                    return;
                }
                best.push(item);
                if best.len() >= n.saturating_mul(2).max(64) {
                    shrink(&mut best);
                    is_full = best.len() == n;
                }
            })?;
            shrink(&mut best);
            Partial::Ok((n, best))
        });
        let best = tree(parts, move |(n, mut best), (_, later)| {
            best.extend(later);
            best.sort_by(compare);
            best.truncate(n);
            (n, best)
        });
        from_delayed([delayed(|(_, items): (usize, Vec<T::Owned>)| items, (best,))])
    }

    /// The items without repetitions, in one partition, in the order in which they occur first.
    pub fn distinct(&self) -> Bag<T::Owned>
    where
        T: Key,
    {
        let parts = per_partition!(self, (), |pass, ()| {
            let mut table = KeyTable::new();
            pass.each(|item| *table.value_of(item, T::borrow, T::borrow_owned, P::own, || ()))?;
            Partial::Ok(table.into_entries())
        });
        let keys = tree(parts, |a, b| table::merge(a, b, |(), ()| ()));
        from_delayed([delayed(|keys: Vec<(T::Owned, ())>| keys.into_iter().map(|(key, ())| key).collect(), (keys,))])
    }

    /// How often each item occurs: a bag of items and counts, in one partition, in the order in
    /// which the items occur first.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let words = bag::from_sequence(["b", "a", "b"].map(String::from), 2);
    /// assert_eq!(words.frequencies().compute()?, [("b".into(), 2), ("a".into(), 1)]);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn frequencies(&self) -> Bag<(T::Owned, u64)>
    where
        T: Key,
    {
        let parts = per_partition!(self, (), |pass, ()| {
            let mut table = KeyTable::new();
            pass.each(|item| *table.value_of(item, T::borrow, T::borrow_owned, P::own, || 0_u64) += 1)?;
            Partial::Ok(table.into_entries())
        });
        from_delayed([tree(parts, |a, b| table::merge(a, b, |a, b| a + b))])
    }
}
