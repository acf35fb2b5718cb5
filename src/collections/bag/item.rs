//! What a bag has items of.

use std::hash::Hash;

/// The type of a bag's items: any type of one's own, or `str` for texts that are borrowed from the
/// block of a file.
///
/// `Bag<u64>` has numbers, `Bag<str, _>` has items of type `&str`.
pub trait Item: 'static {
    /// What a function gets: the item itself, or `&str`.
    type Of<'a>;
    /// What is left of an item after its loop: the item itself, or a `String`.
    type Owned: 'static;
}

impl<T: 'static> Item for T {
    type Of<'a> = T;
    type Owned = T;
}

impl Item for str {
    type Of<'a> = &'a str;
    type Owned = String;
}

/// Items that can be told apart: [`distinct`](super::Bag::distinct) and
/// [`frequencies`](super::Bag::frequencies) need them.
///
/// Every type has the trait that is `Hash + Eq`, and `str`, of which only the first of equal items
/// is copied.
#[diagnostic::on_unimplemented(
    message = "items of type `{Self}` cannot be told apart",
    label = "not `Hash + Eq`",
    note = "derive `Hash`, `PartialEq` and `Eq` for the type; for floats, map them to their bits or to text first"
)]
pub trait Key: Item<Owned: Hash + Eq> {
    #[doc(hidden)]
    type Borrowed: Hash + Eq + ?Sized;

    #[doc(hidden)]
    fn borrow<'b>(item: &'b Self::Of<'_>) -> &'b Self::Borrowed;

    #[doc(hidden)]
    fn borrow_owned(item: &Self::Owned) -> &Self::Borrowed;
}

#[diagnostic::do_not_recommend]
impl<T: Hash + Eq + 'static> Key for T {
    type Borrowed = T;

    #[inline(always)]
    fn borrow(item: &T) -> &T {
        item
    }

    #[inline(always)]
    fn borrow_owned(item: &T) -> &T {
        item
    }
}

impl Key for str {
    type Borrowed = str;

    #[inline(always)]
    fn borrow<'b>(item: &'b &str) -> &'b str {
        item
    }

    #[inline(always)]
    fn borrow_owned(item: &String) -> &str {
        item
    }
}
