//! Bags: parallel lists on the task graph.
//!
//! A [`Bag`] is a list in partitions, such as the lines of large files. Its methods are those of
//! iterators. A chain of them is one loop and one task for each partition; nothing is stored
//! between two stages. The reductions end a chain and return a [`Delayed`], or a bag of few items.
//! All of it is lazy, and runs on the configured scheduler like other graphs.
//!
//! ```
//! use sprang::{bag, compute};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("app.log");
//! std::fs::write(&path, "alice 3\nbob 4\n# comment\nalice 5\n")?;
//! let records = bag::read_text([&path])?
//!     .filter(|line| !line.starts_with('#'))
//!     .try_map(|line| {
//!         let (user, seconds) = line.split_once(' ').ok_or("there is no space")?;
//!         let seconds = seconds.parse::<u32>()?;
//!         Ok::<_, Box<dyn std::error::Error + Send + Sync>>((user.to_owned(), seconds))
//!     });
//! let longest = records.map(|(_, seconds)| seconds).max();
//! let add = |sum: &mut u32, (_, seconds): (String, u32)| *sum += seconds;
//! let by_user = records.foldby(|(user, _)| user.clone(), || 0, add, |a, b| a + b);
//! let (longest, by_user) = compute((&longest, &by_user))?;
//! assert_eq!(longest, Some(5));
//! assert_eq!(by_user, [("alice".into(), 8), ("bob".into(), 4)]);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! The [guide](crate::guide::collections) has more.

/// A task for each partition of `$bag`, whose function runs the chain once: `$pass`. `$extra` goes
/// to each task as a plain value.
///
/// It is a macro so that a task has the name of the method that makes it.
macro_rules! per_partition {
    ($bag:expr, $extra:expr, |$pass:ident, $x:pat_param| $body:expr) => {{
        let (bag, extra) = ($bag, $extra);
        let chain = bag.chain;
        let parts = bag.parts.iter().enumerate();
        let parts = parts.map(|(index, part)| {
            let source = <P::Origin as $crate::collections::bag::Origin>::argument(part);
            let arguments =
                (source, index, $crate::collections::bag::Context::args(&bag.context), lit(Clone::clone(&extra)));
            try_delayed(
                move |input, index: usize, context, $x: &_| {
                    let $pass = Pass::<P> { chain, input, index, context };
                    $body
                },
                arguments,
            )
        });
        parts.collect::<Vec<_>>()
    }};
}

mod chain;
mod context;
mod item;
mod reductions;
mod stages;
mod stored;
mod table;
mod text;

/// The stages of which a [`Chain`] consists, for the types of variables.
pub mod stage {
    pub use super::chain::{
        Filter, FilterMap, FilterMapStr, FilterWith, FlatMap, FlatMapStr, Map, MapPartitions, MapStr, MapWith, TryMap,
    };
}

pub use chain::Chain;
pub use context::{Context, IntoContext};
pub use item::{Item, Key};
pub use stored::Stored;
pub use text::{Lines, TextFiles, TextPaths, read_text};

use crate::api::collection::{Collection, Form, HandleList, Parts};
use crate::api::compute::{IntoScheduler, compute, compute_with, persist};
use crate::api::delayed::try_delayed;
use crate::error::Result;
use crate::graph::Delayed;
use crate::graph::argument::lit;
use crate::graph::node::CallError;
use crate::graph::task::portable_value_task;
use crate::portable::Portable;
use chain::{Origin, Pass};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

/// A partition in the graph.
type PartOf<P> = <<P as Chain>::Origin as Origin>::Part;

/// The handles of a bag's stored partitions.
type StoredParts<T> = Vec<Delayed<Vec<<T as Item>::Owned>>>;

/// A list in partitions, whose items are computed in parallel.
///
/// `T` is the type of the items: one of your own, or `str` for the borrowed lines of files. `P` is
/// the chain of stages since the items were last stored. Each stage changes it, so a `let` needs no
/// type; to keep a bag in a struct, [`cut`](Bag::cut) the chain, and its type is `Bag<T>`.
///
/// A bag is cheap to clone. It is computed as a whole by [`compute`](crate::compute()) and
/// everything else that takes a [`Collection`]; the value is a vector, in the order of the
/// partitions.
///
/// # The functions
/// The functions of stages capture nothing, as those of [`delayed`](crate::delayed()), so that they
/// can run in other processes. [`map_with`](Bag::map_with) passes a value that a closure would
/// capture. `cargo build` reports a function that captures; `cargo check` does not.
///
/// # Sharing
/// A bag does not remember its items. Two chains that begin with the same stages repeat these
/// stages, and read the file twice, which is often faster than to keep what they gave.
/// [`cut`](Bag::cut) computes them once for all chains of one graph, [`persist`](Bag::persist) once
/// for all graphs.
pub struct Bag<T: Item + ?Sized, P: Chain = Stored<T>> {
    parts: Arc<[PartOf<P>]>,
    context: P::Context,
    chain: P,
    /// The items as values of the graph, once somebody has asked for them.
    stored: Arc<OnceLock<StoredParts<T>>>,
}

impl<T: Item + ?Sized, P: for<'a> Chain<Item = T, Of<'a> = T::Of<'a>>> fmt::Debug for Bag<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bag").field("num_partitions", &self.parts.len()).finish_non_exhaustive()
    }
}

impl<T: Item + ?Sized, P: for<'a> Chain<Item = T, Of<'a> = T::Of<'a>>> Clone for Bag<T, P> {
    fn clone(&self) -> Self {
        Bag {
            parts: Arc::clone(&self.parts),
            context: self.context.clone(),
            chain: self.chain,
            stored: Arc::clone(&self.stored),
        }
    }
}

/// A bag of the items of a sequence, in `partitions` parts of about the same size.
///
/// There are at most as many partitions as items, and at least one. A multiple of the number of
/// workers lets the workers finish at about the same time.
///
/// # Examples
/// ```
/// use sprang::bag;
///
/// let squares = bag::from_sequence(0..1000_u64, 8).map(|x| x * x);
/// assert_eq!(squares.filter(|x| x % 2 == 0).sum().compute()?, 166_167_000);
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn from_sequence<T: Portable + Clone>(items: impl IntoIterator<Item = T>, partitions: usize) -> Bag<T> {
    let items: Vec<T> = items.into_iter().collect();
    let num_parts = partitions.min(items.len()).max(1);
    let (len, larger) = (items.len() / num_parts, items.len() % num_parts);
    let mut items = items.into_iter();
    let parts = (0..num_parts).map(|part| {
        let part: Vec<T> = items.by_ref().take(len + usize::from(part < larger)).collect();
        Delayed::from_task(portable_value_task(part))
    });
    from_delayed(parts.collect::<Vec<_>>())
}

/// A bag whose partitions are the values of tasks.
///
/// # Examples
/// ```
/// use sprang::{bag, delayed};
///
/// let load = |year: u32| vec![year, year + 1];
/// let years = bag::from_delayed([2000_u32, 2010].map(|year| delayed(load, (year,))));
/// assert_eq!(years.compute()?, [2000, 2001, 2010, 2011]);
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn from_delayed<T: Portable + Clone>(partitions: impl IntoIterator<Item = Delayed<Vec<T>>>) -> Bag<T> {
    let mut parts: Vec<_> = partitions.into_iter().collect();
    if parts.is_empty() {
        parts.push(Delayed::from_task(portable_value_task(Vec::<T>::new())));
    }
    Bag::new(parts, (), Stored(PhantomData))
}

impl<T: Item + ?Sized, P: for<'a> Chain<Item = T, Of<'a> = T::Of<'a>>> Bag<T, P> {
    /// There is at least one part, so that a reduction has a value.
    fn new(parts: impl Into<Arc<[PartOf<P>]>>, context: P::Context, chain: P) -> Self {
        Bag { parts: parts.into(), context, chain, stored: Arc::default() }
    }

    /// The number of partitions, at least one.
    pub fn num_partitions(&self) -> usize {
        self.parts.len()
    }
}

impl<T: Item<Owned: Portable + Clone> + ?Sized, P: for<'a> Chain<Item = T, Of<'a> = T::Of<'a>>> Bag<T, P> {
    /// Computes all items, in order.
    ///
    /// # Errors
    /// A function panics, a [`try_map`](Bag::try_map) gives an error, a file cannot be read, and as
    /// the function [`compute`](crate::compute()).
    pub fn compute(&self) -> Result<Vec<T::Owned>> {
        compute(self)
    }

    /// As [`compute`](Bag::compute), with this scheduler or client.
    ///
    /// # Errors
    /// As [`compute`](Bag::compute).
    pub fn compute_with(&self, scheduler: impl IntoScheduler) -> Result<Vec<T::Owned>> {
        compute_with(scheduler, self)
    }

    /// Computes the items and keeps them: a bag of the same items, whose partitions have their
    /// values.
    ///
    /// # Errors
    /// As [`compute`](Bag::compute).
    pub fn persist(&self) -> Result<Bag<T::Owned>> {
        persist(self)
    }

    /// Ends the chain: a bag of the same items, each partition of which is a task that stores them.
    ///
    /// Chains that begin at the result share these tasks. The type of the result is simple, so it
    /// can stand in a struct or be returned by a function.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Bag, bag, compute};
    ///
    /// struct Input {
    ///     numbers: Bag<u64>,
    /// }
    ///
    /// let numbers = bag::from_sequence(0..100_u64, 4).filter(|x| x % 3 == 0);
    /// let input = Input { numbers: numbers.cut() };
    /// let (count, sum) = compute((&input.numbers.count(), &input.numbers.sum()))?;
    /// assert_eq!((count, sum), (34, 1683));
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn cut(&self) -> Bag<T::Owned> {
        from_delayed(self.stored().iter().cloned())
    }

    /// A handle for each partition, whose value is the vector of its items.
    pub fn to_delayed(&self) -> Vec<Delayed<Vec<T::Owned>>> {
        self.stored().clone()
    }

    /// The bag with the partitions of another one behind its own.
    ///
    /// # Examples
    /// ```
    /// use sprang::bag;
    ///
    /// let (a, b) = (bag::from_sequence(0..3, 2), bag::from_sequence(0..2, 1).map(|x| x * 10));
    /// assert_eq!(a.concat(&b).compute()?, [0, 1, 2, 0, 10]);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn concat<U, Q>(&self, other: &Bag<U, Q>) -> Bag<T::Owned>
    where
        U: Item<Owned = T::Owned> + ?Sized,
        Q: for<'a> Chain<Item = U, Of<'a> = U::Of<'a>>,
    {
        from_delayed(self.stored().iter().chain(other.stored()).cloned())
    }

    fn stored(&self) -> &StoredParts<T> {
        self.stored.get_or_init(|| {
            if let Some(parts) = self.parts.iter().map(P::stored).collect() {
                return parts;
            }
            per_partition!(self, (), |pass, ()| {
                let mut items = Vec::new();
                pass.each(|item| items.push(P::own(item)))?;
                Ok::<_, CallError>(items)
            })
        })
    }
}

impl<F: Form, T, P> Collection<F> for Bag<T, P>
where
    T: Item<Owned: Portable + Clone> + ?Sized,
    P: for<'a> Chain<Item = T, Of<'a> = T::Of<'a>>,
    StoredParts<T>: Collection<F>,
{
    type Shape = F::Finished<Vec<T::Owned>, Bag<T::Owned>>;

    fn list<'a>(&'a self, handles: &mut HandleList<'a>) {
        self.stored().iter().for_each(|part| handles.add(part));
    }

    fn rebuild(&self, parts: &mut Parts<'_>) -> Result<Self::Shape> {
        F::finish(parts, self.stored(), join, from_delayed)
    }
}

/// The items of all partitions.
fn join<T>(parts: Vec<Vec<T>>) -> Vec<T> {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    parts.for_each(|part| all.extend(part));
    all
}

/// Rejects a function that captures, at compile time.
struct Portability<F>(PhantomData<F>);

impl<F> Portability<F> {
    const CHECK: () = assert!(
        size_of::<F>() == 0 && !std::mem::needs_drop::<F>(),
        "the function of this stage captures variables or is a function pointer, so it cannot be sent to another process; pass \
         what it needs with `map_with` or `filter_with`"
    );
}
