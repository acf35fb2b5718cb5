//! Values that the functions of a chain get besides the items.

use crate::graph::Delayed;
use crate::graph::argument::Argument;
use crate::graph::task::portable_value_task;
use crate::portable::Portable;

/// The values that the functions of a chain get besides the items. See
/// [`map_with`](super::Bag::map_with).
///
/// The unit type for none; a pair of the earlier ones and a handle for one more.
pub trait Context: Clone + Send + Sync + 'static {
    #[doc(hidden)]
    type Refs<'a>: Copy;
    #[doc(hidden)]
    type Args<'h>: for<'a> Argument<Out<'a> = Self::Refs<'a>>;

    #[doc(hidden)]
    fn args(&self) -> Self::Args<'_>;
}

impl Context for () {
    type Refs<'a> = ();
    type Args<'h> = ();

    fn args(&self) {}
}

impl<C: Context, K: Send + Sync + 'static> Context for (C, Delayed<K>) {
    type Refs<'a> = (C::Refs<'a>, &'a K);
    type Args<'h> = (C::Args<'h>, &'h Delayed<K>);

    fn args(&self) -> Self::Args<'_> {
        (self.0.args(), &self.1)
    }
}

/// What [`map_with`](super::Bag::map_with) takes: a portable value, or a handle to one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed to the functions of a bag",
    label = "not a portable value, and no handle",
    note = "a value that cannot be encoded goes in as `&local(value)`"
)]
pub trait IntoContext<K> {
    #[doc(hidden)]
    fn into_context(self) -> Delayed<K>;
}

#[diagnostic::do_not_recommend]
impl<K: Portable + Clone> IntoContext<K> for K {
    fn into_context(self) -> Delayed<K> {
        Delayed::from_task(portable_value_task(self))
    }
}

impl<K> IntoContext<K> for Delayed<K> {
    fn into_context(self) -> Delayed<K> {
        self
    }
}

impl<K> IntoContext<K> for &Delayed<K> {
    fn into_context(self) -> Delayed<K> {
        self.clone()
    }
}
