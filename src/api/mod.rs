//! The functions a program calls to build and compute graphs, and their configuration.

pub mod config;

pub(crate) mod collection;
pub(crate) mod compute;
pub(crate) mod delayed;
pub(crate) mod reduce;
