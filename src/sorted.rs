//! Sorting for code that seldom runs, in little compiled code.
//!
//! The compiler makes a copy of a sorting algorithm for each type and each comparison, and a copy
//! of a `BTreeMap` for each pair of types. Each copy is some 2 000 to 6 000 lines of LLVM's code,
//! and most of sprang's build time is LLVM's. Here the algorithm is compiled once.

use std::cmp::Ordering;

/// Sorts numbers. The sort is stable.
pub(crate) fn sort_numbers(numbers: &mut [u32], compare: &mut dyn FnMut(u32, u32) -> Ordering) {
    numbers.sort_by(|&a, &b| compare(a, b));
}

/// Sorts items. The sort is stable, and needs memory for another list of the items.
pub(crate) fn sort_items<T>(items: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let mut order: Vec<u32> = (0..u32::try_from(items.len()).expect("lists of cold code are short")).collect();
    sort_numbers(&mut order, &mut |a, b| compare(&items[a as usize], &items[b as usize]));
    let mut unsorted = Vec::with_capacity(items.len());
    while let Some(item) = items.pop() {
        unsorted.push(Some(item));
    }
    for index in order {
        let place = unsorted.len() - 1 - index as usize;
        items.push(unsorted[place].take().expect("each number occurs once"));
    }
}

/// A map of few entries: a list that is sorted by key.
///
/// An insertion moves the entries after it, so this is for some hundred entries at most.
#[derive(Clone, Debug)]
pub(crate) struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        SortedMap::new()
    }
}

impl<K, V> SortedMap<K, V> {
    pub(crate) const fn new() -> Self {
        SortedMap(Vec::new())
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, (K, V)> {
        self.0.iter()
    }

    /// Removes the entry with the largest key.
    pub(crate) fn pop_last(&mut self) -> Option<(K, V)> {
        self.0.pop()
    }

    pub(crate) fn last_mut(&mut self) -> Option<&mut V> {
        self.0.last_mut().map(|(_, value)| value)
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// Where the first key that is not below this one is, or would be.
    fn position(&self, key: &K) -> usize {
        self.0.partition_point(|(other, _)| other < key)
    }

    fn find(&self, key: &K) -> Result<usize, usize> {
        let position = self.position(key);
        match self.0.get(position) {
            Some((found, _)) if found == key => Ok(position),
            _ => Err(position),
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().map(|position| &self.0[position].1)
    }

    /// The value of this key; a default one is inserted if there is none.
    pub(crate) fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let position = match self.find(&key) {
            Ok(position) => position,
            Err(position) => {
                self.0.insert(position, (key, V::default()));
                position
            }
        };
        &mut self.0[position].1
    }

    /// Returns the value that the key had before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(position) => Some(std::mem::replace(&mut self.0[position].1, value)),
            Err(position) => {
                self.0.insert(position, (key, value));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key).ok().map(|position| self.0.remove(position).1)
    }

    /// The entry with the smallest key that is not below this one.
    pub(crate) fn first_from_mut(&mut self, key: &K) -> Option<(&K, &mut V)> {
        let position = self.position(key);
        self.0.get_mut(position).map(|(key, value)| (&*key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn items_are_sorted_as_the_standard_library_sorts_them(
            mut items in prop::collection::vec((0_u8..9, 0_u8..9), 0..80),
        ) {
            let mut expected = items.clone();
            expected.sort_by_key(|item| item.0);
            sort_items(&mut items, |a, b| a.0.cmp(&b.0));
            assert_eq!(items, expected);
        }

        #[test]
        fn it_does_what_a_btree_map_does(steps in prop::collection::vec((0_u8..4, 0_u8..12), 0..80)) {
            let (mut ours, mut model) = (SortedMap::new(), BTreeMap::new());
            for (step, key) in steps {
                match step {
                    0 => assert_eq!(ours.insert(key, step), model.insert(key, step)),
                    1 => *ours.entry(key) += 1,
                    2 => assert_eq!(ours.remove(&key), model.remove(&key)),
                    _ => assert_eq!(ours.pop_last(), model.pop_last()),
                }
                if step == 1 {
                    *model.entry(key).or_default() += 1;
                }
                assert_eq!(ours.get(&key), model.get(&key));
                assert_eq!(ours.last_mut(), model.values_mut().next_back());
                assert_eq!(ours.first_from_mut(&key), model.range_mut(key..).next());
                assert!(ours.iter().map(|(key, value)| (key, value)).eq(&model));
            }
        }
    }
}
