//! The atomics of the lock-free protocols, under one name, so that a model checker can stand in for them.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --lib --release` runs the models. Statics and everything that no model looks at use the
//! standard library directly.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

pub(crate) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
