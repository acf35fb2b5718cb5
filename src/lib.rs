//! sprang
mod api;
mod engine;
mod error;
mod executor;
mod graph;
pub use engine::Run;
pub use error::{Error, ErrorKind, Result};
pub use executor::{Executor, Scheduler};
