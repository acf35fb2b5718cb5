//! WHAT is to be computed: immutable recipes. No threads, no clock, no I/O.
//!
//! A program builds nodes and holds them by [`Delayed`] handles ([`handle`]); a node ([`node`]) is a function and its arguments
//! ([`argument`], [`task`]) and holds handles of the tasks that its arguments come from. Since a handle exists only after its node,
//! and a node never changes, a graph cannot have a cycle. Nothing is shared between nodes but the nodes themselves: a graph is
//! whatever the wanted outputs reach.
//!
//! A plan ([`plan`]) is made from the outputs of one compute: [`gather`] finds the tasks, [`order`] ranks them, and the plan numbers
//! them so that a task's id is its rank and every task comes after its inputs.
//!
//! [`value`] is the place where a task's value stays during a run. It is here, above the engine, because the functions that are
//! compiled for a task's types read and write it.

pub(crate) mod argument;
mod chunk;
pub(crate) mod crossing;
mod gather;
pub(crate) mod handle;
pub(crate) mod name;
pub(crate) mod node;
mod order;
pub(crate) mod pages;
pub(crate) mod plan;
pub(crate) mod task;
pub(crate) mod value;

pub use handle::Delayed;
