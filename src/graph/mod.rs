//! Task graphs: immutable recipes. This module uses no threads, no clock and no I/O.
//!
//! A program builds nodes and holds them by [`Delayed`] handles ([`handle`]). A node ([`node`]) is
//! a function and its arguments ([`argument`], [`task`]), and holds handles of the tasks that its
//! arguments come from. A handle exists only after its node, and a node never changes, so a graph
//! cannot have a cycle. A graph is everything that the wanted outputs reach.
//!
//! A plan ([`plan`]) is made from the outputs of one compute: [`gather`] finds the tasks, [`order`]
//! ranks them, and the plan numbers them, so that a task's id is its rank and every task comes
//! after its inputs.
//!
//! A cell ([`value`]) holds a task's value during a run. Cells are part of this module, and not of
//! the engine, because the functions that are compiled for a task's types read and write them.

pub(crate) mod argument;
mod chunk;
pub(crate) mod crossing;
mod gather;
pub(crate) mod handle;
pub(crate) mod name;
pub(crate) mod node;
mod order;
pub(crate) mod owned;
pub(crate) mod pages;
pub(crate) mod plan;
pub(crate) mod retry;
pub(crate) mod task;
mod tolerance;
pub(crate) mod value;

pub use handle::Delayed;
