//! The atomics of the lock-free protocols, which a model checker can replace.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --lib --release` runs the models. Statics, and code without a
//! model, use the standard library directly.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

pub(crate) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
