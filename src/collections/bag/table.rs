//! A hash table that keeps the order in which its keys came.
//!
//! So the result of merging tables in the order of their partitions does not depend on where the
//! items were cut into partitions.

use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};
use std::mem;

/// Keys and their values in the order of first occurrence.
#[derive(Debug)]
pub(super) struct KeyTable<K, V> {
    entries: Vec<(K, V)>,
    /// A power of two, probed one after another; at most three quarters are in use.
    buckets: Vec<Bucket>,
}

/// The index of an entry plus one, or zero, and some bits of the entry's hash.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    entry: u32,
    tag: u32,
}

/// The same in every process of an executable, and in every run.
#[inline]
pub(super) fn stable_hash<Q: Hash + ?Sized>(key: &Q) -> u64 {
    let mut hasher = FxHasher::default();
    key.hash(&mut hasher);
    hasher.finish()
}

impl<K: Hash + Eq, V> KeyTable<K, V> {
    pub(super) fn new() -> Self {
        KeyTable { entries: Vec::new(), buckets: Vec::new() }
    }

    /// A table that has these entries, whose keys differ.
    pub(super) fn from_entries(entries: Vec<(K, V)>) -> Self {
        let mut table = KeyTable { entries, buckets: Vec::new() };
        let min_buckets = (table.entries.len() + 1) * 4 / 3 + 1;
        table.rebuild(min_buckets.next_power_of_two().max(16));
        table
    }

    pub(super) fn into_entries(self) -> Vec<(K, V)> {
        self.entries
    }

    /// The value of a key; makes both if the key is new.
    #[inline]
    pub(super) fn value_of<Q: Hash + Eq + ?Sized, X>(
        &mut self,
        key: X,
        borrow: impl for<'b> Fn(&'b X) -> &'b Q,
        borrow_own: impl Fn(&K) -> &Q,
        own: impl FnOnce(X) -> K,
        value: impl FnOnce() -> V,
    ) -> &mut V {
        if (self.entries.len() + 1) * 4 > self.buckets.len() * 3 {
            self.rebuild((self.buckets.len() * 2).max(16));
        }
        let hash = stable_hash(borrow(&key));
        let mask = self.buckets.len() - 1;
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & mask;
        loop {
            let bucket = self.buckets[at];
            if bucket.entry == 0 {
                break;
            }
            let index = bucket.entry as usize - 1;
            if bucket.tag == tag && borrow_own(&self.entries[index].0) == borrow(&key) {
                return &mut self.entries[index].1;
            }
            at = (at + 1) & mask;
        }
        let entry = u32::try_from(self.entries.len() + 1).expect("a table has fewer than 2^32 keys");
        self.buckets[at] = Bucket { entry, tag };
        self.entries.push((own(key), value()));
        let last = self.entries.len() - 1;
        &mut self.entries[last].1
    }

    /// As [`KeyTable::value_of`], for a key that the table may keep.
    #[inline]
    pub(super) fn entry(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        self.value_of(key, |key| key, |key| key, |key| key, value)
    }

    #[cold]
    fn rebuild(&mut self, num_buckets: usize) {
        let mask = num_buckets - 1;
        let mut buckets = vec![Bucket::default(); num_buckets];
        for (index, (key, _)) in self.entries.iter().enumerate() {
            let hash = stable_hash(key);
            let mut at = hash as usize & mask;
            while buckets[at].entry != 0 {
                at = (at + 1) & mask;
            }
            buckets[at] = Bucket { entry: index as u32 + 1, tag: (hash >> 32) as u32 };
        }
        drop(mem::replace(&mut self.buckets, buckets));
    }
}

/// Adds the entries of a later partition to those of an earlier one.
pub(super) fn merge<K: Hash + Eq, V>(
    earlier: Vec<(K, V)>,
    later: Vec<(K, V)>,
    combine: impl Fn(V, V) -> V,
) -> Vec<(K, V)> {
    let optional = earlier.into_iter().map(|(key, value)| (key, Some(value))).collect();
    let mut table = KeyTable::from_entries(optional);
    for (key, value) in later {
        let slot = table.entry(key, || None);
        *slot = Some(match slot.take() {
            Some(earlier) => combine(earlier, value),
            None => value,
        });
    }
    let entries = table.into_entries().into_iter();
    entries.map(|(key, value)| (key, value.expect("each entry got a value"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Keys whose hashes collide.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Crowded(u16);

    impl Hash for Crowded {
        fn hash<H: Hasher>(&self, state: &mut H) {
            (self.0 % 3).hash(state);
        }
    }

    proptest! {
        #[test]
        fn a_table_counts_like_a_map_and_keeps_the_order(keys in prop::collection::vec(0..200_u16, 0..600)) {
            let mut table = KeyTable::new();
            let mut crowded = KeyTable::new();
            let mut counts = HashMap::new();
            let mut order = Vec::new();
            for key in keys {
                *table.entry(key, || 0_u64) += 1;
                *crowded.entry(Crowded(key), || 0_u64) += 1;
                *counts.entry(key).or_insert_with(|| { order.push(key); 0_u64 }) += 1;
            }
            let expected: Vec<_> = order.iter().map(|key| (*key, counts[key])).collect();
            let crowded: Vec<_> = crowded.into_entries().into_iter().map(|(key, n)| (key.0, n)).collect();
            prop_assert_eq!(&table.into_entries(), &expected);
            prop_assert_eq!(crowded, expected);
        }
    }

    #[test]
    fn a_hash_is_the_same_in_every_run() {
        // A change of these breaks no promise between versions; a difference between two runs of
        // one executable does.
        assert_eq!(stable_hash("sprang"), stable_hash(&String::from("sprang")));
        assert_eq!(stable_hash(&(7_u32, "a")), stable_hash(&(7_u32, String::from("a"))));
        assert_ne!(stable_hash("a"), stable_hash("b"));
    }
}
