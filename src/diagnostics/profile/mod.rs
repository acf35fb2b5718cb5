//! Measures runs: where the time went.
//!
//! A [`Profiler`] is a [`Callback`](crate::callback::Callback) that records every task. [`profile`]
//! attaches one to the runs of a piece of code. The result is a [`Profile`]: a table by name, the
//! critical path, the number of tasks that ran at once, and files for spreadsheets, for Perfetto
//! and for a browser.
//!
//! ```
//! use sprang::{Refs, delayed};
//!
//! let square = |i: u64| delayed(|i| i * i, (i,)).name(format!("square {i}"));
//! let parts: Vec<_> = (0..100).map(square).collect();
//! let sum = delayed(|parts: Refs<u64>| parts.iter().sum::<u64>(), (&parts,)).name("sum");
//! let (result, profile) = sprang::profile(|| sum.compute());
//! assert_eq!(result?, 328_350);
//!
//! let squares = &profile.by_name().into_iter().find(|row| &*row.name == "square #").unwrap();
//! assert_eq!(squares.count, 100);
//! assert!(squares.total >= squares.max && squares.max >= squares.p99);
//! let path = profile.runs()[0].critical_path();
//! assert_eq!(&*path.last().unwrap().name, "sum");
//!
//! let folder = tempfile::tempdir().unwrap();
//! profile.save(folder.path().join("report.html"))?; // one file, for any browser
//! profile.save(folder.path().join("trace.json"))?; // for ui.perfetto.dev
//! profile.save(folder.path().join("tasks.csv"))?;
//! # Ok::<_, sprang::Error>(())
//! ```
//!
//! # Cost
//!
//! About 0.1 µs for each task on threads, half of it for reading the clock twice (bench
//! `callbacks`), and 64 bytes, up to [`max_records`](Profiler::max_records). Above this limit the
//! profile becomes an even [sample](Profile::sampling).

mod aspect;
mod data;
mod encode;
mod export;
mod held;
#[cfg(feature = "files")]
mod import;
mod record;
mod recorder;
mod report;
mod report_data;
mod resources;
mod schema;

pub use aspect::Aspect;
pub use data::{Failure, NameStats, Outcome, PathTask, Profile, RunProfile, TaskRecord};
pub use held::{HeldValues, Peak};
#[cfg(feature = "dashboard")]
pub(super) use record::{Record, RecordBuffer, Sampling};
pub use recorder::Profiler;
#[cfg(feature = "dashboard")]
pub(super) use recorder::RecordedRun;
pub use resources::ResourceSample;
#[cfg(feature = "dashboard")]
pub(super) use resources::system;

use crate::engine::callback;
use std::sync::Arc;

/// Profiles the runs that `body` starts on this thread, and the runs nested in them.
///
/// # Examples
/// ```
/// let (result, profile) = sprang::profile(|| sprang::delayed(|| 2 + 2, ()).compute());
/// assert_eq!((result?, profile.num_tasks()), (4, 1));
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn profile<R>(body: impl FnOnce() -> R) -> (R, Profile) {
    let profiler = Arc::new(Profiler::new());
    let result = callback::with(Arc::<Profiler>::clone(&profiler), body);
    (result, profiler.profile())
}
