//! HOW it is asked for: the functions a program calls.

pub mod config;

pub(crate) mod compute;
pub(crate) mod delayed;
