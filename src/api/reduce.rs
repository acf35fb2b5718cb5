//! Merging many values into one, in a tree.

use super::delayed::delayed;
use crate::graph::Delayed;
use crate::graph::task::TaskArgs;
use crate::portable::Portable;

/// Merges the values of handles in a tree: neighbours in pairs, then the results in pairs, until
/// one value is left. `None` if there are no handles.
///
/// The function takes both values owned, and merges run while other values are still computed.
/// So it should be associative; the order of the values is kept.
///
/// # Examples
/// ```
/// use sprang::{delayed, reduce};
///
/// let parts = (1..=100_u64).map(|x| delayed(|x: u64| x * x, (x,)));
/// let sum = reduce(|a: u64, b: u64| a + b, parts).expect("there are some");
/// assert_eq!(sum.compute()?, 338_350);
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Complexity
/// One task less than there are handles; the longest chain has as many as the logarithm of their
/// number.
pub fn reduce<F, T>(function: F, handles: impl IntoIterator<Item = Delayed<T>>) -> Option<Delayed<T>>
where
    F: Clone,
    T: Portable,
    (Delayed<T>, Delayed<T>): TaskArgs<F, T>,
{
    merge_in_pairs(handles, |left, right| delayed(function.clone(), (left, right)))
}

/// Merges neighbours until one item is left.
pub(crate) fn merge_in_pairs<H>(items: impl IntoIterator<Item = H>, merge: impl Fn(H, H) -> H) -> Option<H> {
    let mut level: Vec<H> = items.into_iter().collect();
    while level.len() > 1 {
        let mut left = level.into_iter();
        level = Vec::with_capacity(left.len().div_ceil(2));
        while let Some(first) = left.next() {
            level.push(match left.next() {
                Some(second) => merge(first, second),
                None => first,
            });
        }
    }
    level.pop()
}
