//! Graphs of tasks on the cores of one machine: write a graph once, run it on threads, in worker processes or step by step, by a
//! configuration value.
//!
//! A *task* is one call of a function. [`delayed`] makes one without running it, and gives a [`Delayed<T>`], a handle to the value that it
//! will return. Handles are arguments of further tasks, and so a graph grows. [`Delayed::compute`] and [`compute`] run what the wanted
//! outputs need, each task once, and drop each value with its last reader.
//!
//! ```
//! use sprang::{compute, config, delayed};
//!
//! fn read(year: u32) -> Vec<f64> {
//!     (0..365).map(|day| f64::from(year % 7 + day % 30)).collect()
//! }
//!
//! fn mean(values: &Vec<f64>) -> f64 {
//!     values.iter().sum::<f64>() / values.len() as f64
//! }
//!
//! fn shift(mut values: Vec<f64>, by: &f64) -> Vec<f64> {
//!     values.iter_mut().for_each(|value| *value -= by);
//!     values
//! }
//!
//! let mut means = Vec::new();
//! for year in 2000..2026_u32 {
//!     let raw = delayed(read, (year,)).name(format!("read {year}"));
//!     let level = delayed(mean, (&raw,)); // borrows
//!     let flat = delayed(shift, (raw, &level)); // `raw` is moved in after its last reader, and changed in place
//!     means.push(delayed(mean, (&flat,)));
//! }
//! let spread = delayed(|means| means.iter().copied().fold(0.0, f64::max), (&means,));
//!
//! let on_threads: f64 = spread.compute()?; // the default
//! let step_by_step = config::with("scheduler", "sync", || spread.compute())??;
//! assert_eq!(on_threads, step_by_step);
//! assert!(on_threads.abs() < 1e-9);
//! let (first, last) = compute((&means[0], &means[25]))?; // two outputs, one run
//! assert!(first.abs() < 1e-9 && last.abs() < 1e-9);
//! # Ok::<_, sprang::Error>(())
//! ```
//!
//! # Where to look
//!
//! - Building: [`delayed`] (its page has the table of argument modes), [`try_delayed`] for functions that fail, [`lit`] and [`local`] for
//!   values, [`delayed_local`] for what must stay in this process, and the options of a [`Delayed`]: name, retries, timeout, priority, after,
//!   pure.
//! - Running: [`compute`] for outputs in any shape, [`compute_each`] for a `Result` each, [`persist`] to keep results, [`prepare`] to run a
//!   graph many times, [`CancelToken`] to end a run.
//! - Futures: a [`Client`] takes tasks one by one and gives a [`TaskFuture`] for each; [`LocalCluster`] has its workers, [`as_completed`] and
//!   [`wait`](fn@wait) wait for several; [`Event`], [`Lock`], [`Semaphore`], [`Queue`] and [`Variable`] are what tasks share. `docs/futures.md`
//!   beside the source says more, `docs/from_dask.md` has each line of Dask's in Rust.
//! - Choosing how: [`config`], [`Scheduler`], [`ThreadExecutor`], [`ProcessExecutor`], [`SyncExecutor`], and the trait [`Executor`] for one of
//!   your own.
//! - Worker processes: [`ProcessExecutor`] and `docs/processes.md` beside the source; [`SharedArray`] for large numeric values, [`WorkerExit`] for
//!   how one ended, [`init`] where the start-up hook does not run.
//! - Watching: a [`callback`] is told what happens in a run; [`profile()`] says where the time went; with the feature `progress`, `progress`
//!   shows how far a run is; with the feature `dashboard`, `dashboard::serve` shows it live in a browser; [`visualize`] draws a graph,
//!   [`picture`] says what is drawn; with the feature `tracing`, `Spans` shows runs and tasks to subscribers of that crate.
//! - What the machine gives: [`SystemInfo`]. The feature `cli` builds a command, `sprang`, that shows it, the configuration, and reports.
//! - What can go wrong: [`Error`], [`ErrorKind`]; [`Error::replay`] and `docs/debugging.md` beside the source for how to find out why.
//!
//! # The road of a compute
//!
//! The source has a room for each step, and each uses only those above it: `portable` (how values and code cross to another process),
//! `graph` (what is to be computed: nodes, their order, the plan), `engine` (how far it has got: one run and its counters), `executor`
//! (where tasks run), `api` (how it is asked for), `client` (asked for at once). `diagnostics` is a leaf beside the road: it draws.
//! ARCHITECTURE.md beside the source says more.

#![cfg_attr(
    not(all(target_os = "linux", not(miri))),
    allow(dead_code, unused_imports, reason = "worker processes, which use these, are there on Linux only")
)]

#[macro_use]
mod arity;

mod api;
mod client;
mod diagnostics;
mod engine;
mod error;
mod executor;
mod features;
#[cfg(all(fuzzing, target_os = "linux"))]
#[doc(hidden)]
pub mod fuzzing;
mod graph;
mod portable;
mod primitives;

pub use api::compute::{
    Handles, IntoScheduler, Leaf, Outcomes, Outputs, Prepared, Values, compute, compute_each, compute_with, persist,
    prepare,
};
pub use api::config;
pub use api::delayed::{delayed, delayed_local, local, try_delayed, try_delayed_local};
#[cfg(feature = "progress")]
pub use client::Futures;
pub use client::{
    AsCompleted, Client, ClusterBuilder, Computable, DefaultClient, Event, LocalCluster, Lock, Permit, Queue,
    Semaphore, Status, TaskFuture, Tasks, Variable, WaitFor, WhenFull, WithResults, WorkerInfo, WorkerState,
    as_completed, wait, wait_timeout,
};
#[cfg(feature = "dashboard")]
pub use diagnostics::dashboard;
pub use diagnostics::picture;
pub use diagnostics::picture::visualize;
pub use diagnostics::profile::{self, Profile, Profiler, profile};
#[cfg(feature = "progress")]
pub use diagnostics::progress::{FutureProgress, Progress, ProgressGuard, progress, progress_of};
#[cfg(feature = "tracing")]
pub use diagnostics::spans::Spans;
pub use diagnostics::system::SystemInfo;
pub use engine::callback;
pub use engine::{CancelListener, CancelToken, EnteredToken, ReadyTask, Run};
pub use error::{Error, ErrorKind, Replayed, Result, WorkerExit};
pub use executor::processes::ProcessExecutor;
pub use executor::processes::boot::init;
pub use executor::sync::SyncExecutor;
pub use executor::threads::ThreadExecutor;
pub use executor::{Executor, Scheduler};
pub use graph::Delayed;
pub use graph::argument::{Argument, Lit, Refs, RefsIter, lit};
pub use graph::task::TaskArgs;
pub use portable::Portable;
pub use portable::array::SharedArray;

/// The programs of the README are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// As are those of the page about worker processes.
#[cfg(all(doctest, target_os = "linux"))]
#[doc = include_str!("../docs/processes.md")]
struct Processes;

/// And those of the page about errors.
#[cfg(doctest)]
#[doc = include_str!("../docs/debugging.md")]
struct Debugging;

/// Of that about clients and futures, and of that for those who come from Dask.
#[cfg(all(doctest, target_os = "linux"))]
#[doc = include_str!("../docs/futures.md")]
struct FuturesPage;

#[cfg(all(doctest, target_os = "linux"))]
#[doc = include_str!("../docs/from_dask.md")]
struct FromDask;

/// And of that about the dashboard.
#[cfg(all(doctest, feature = "dashboard"))]
#[doc = include_str!("../docs/dashboard.md")]
struct DashboardPage;
