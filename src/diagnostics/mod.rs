//! Diagnostics: pictures of graphs, and observers of runs.
//!
//! This module uses the modules before it in `ARCHITECTURE.md`, and none of them uses it. A method
//! that belongs to a diagnostic, such as [`Delayed::visualize`](crate::Delayed::visualize), is an
//! `impl` block here.
//!
//! [`picture`] draws graphs. [`profile`] measures runs and reports where the time went. `progress`
//! shows the progress of runs on a terminal, and `dashboard` shows them in a browser. `spans`
//! reports runs to the `tracing` crate. [`system`] describes the machine. [`units`] formats
//! durations, counts and sizes, and [`json`] writes JSON.

#[cfg(feature = "dashboard")]
pub mod dashboard;
mod json;
pub mod picture;
pub mod profile;
#[cfg(feature = "progress")]
pub(crate) mod progress;
#[cfg(feature = "tracing")]
pub(crate) mod spans;
pub(crate) mod system;
mod units;

use crate::error::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;

/// Writes the file of a picture or a profile. `what` names the content in errors: `a picture`.
fn save(what: &str, path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).map_err(|error| {
        Error::new(ErrorKind::NotSaved, format!("cannot save {what} as {}: {error}", path.display()))
            .with_source(Arc::new(error) as Arc<dyn std::error::Error + Send + Sync>)
    })
}
