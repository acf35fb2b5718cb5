//! Task graphs for one machine: write a graph once and run it on threads, in worker processes or
//! step by step in the calling thread. One configuration value chooses.
//!
//! A *task* is one call of a function. [`delayed`] creates a task without running it and returns a
//! [`Delayed<T>`], a handle to the value that the task will return. Handles are arguments of
//! further tasks, and so a graph grows. [`Delayed::compute`] and [`compute`] run the tasks that the
//! requested outputs need, each once, and drop each value after its last reader.
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
//!     let flat = delayed(shift, (raw, &level)); // `raw` is moved, and changed in place
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
//! - Building graphs: [`delayed`] (its page has the table of argument modes), [`try_delayed`] for
//!   functions that return a `Result`, [`lit`], [`owned`] and [`local`] for values,
//!   [`delayed_local`] for functions and values that must stay in this process, [`TaskFn`] for
//!   functions in generic code ([`argument`] has the types behind the arguments), and the options
//!   of a [`Delayed`]: name, retries, retry condition and delay ([`Backoff`]), timeout, priority,
//!   after, pure.
//! - Lists in partitions: [`Bag`], whose stages are those of iterators, and [`bag::read_text`] for
//!   the lines of files; [`guide::collections`].
//! - Running graphs: [`compute`] for outputs in any shape ([`collection`] helps to write a
//!   [`Collection`] of your own), [`compute_each`] for a `Result` for each output, [`persist`] to
//!   keep results, [`prepare`] to run a graph many times, [`CancelToken`] to cancel a run.
//! - Futures: a [`Client`] accepts tasks one by one and returns a [`TaskFuture`] for each;
//!   [`LocalCluster`] owns the workers; [`as_completed`] and [`wait`](fn@wait) wait for several
//!   futures; tasks share an [`Event`], [`Lock`], [`Semaphore`], [`Queue`] or [`Variable`] by name.
//!   [`guide::futures`] explains them; [`guide::from_dask`] translates Dask code.
//! - Choosing an executor: [`config`] and [`guide::configuration`], [`Scheduler`],
//!   [`ThreadExecutor`], [`ProcessExecutor`], [`SyncExecutor`], and the trait [`Executor`] for your
//!   own.
//! - Worker processes: [`ProcessExecutor`] and [`guide::processes`]; [`SharedArray`] for large
//!   numeric values; [`WorkerExit`] describes how a worker ended; [`init`] is for programs in which
//!   the start-up hook does not run.
//! - Watching: a [`callback`] observes runs; [`profile()`] measures where time and memory go;
//!   [`visualize`] draws a graph ([`picture`] explains the drawing). With the feature `progress`,
//!   `progress` shows bars on a terminal; with `dashboard`, `dashboard::serve` shows runs live in a
//!   browser ([`guide::dashboard`]); with `tracing`, `Spans` shows runs and tasks to subscribers of
//!   that crate.
//! - The machine: [`SystemInfo`]. The feature `cli` builds a command, `sprang`, that shows it, the
//!   configuration, and reports.
//! - Failures: [`Error`], [`ErrorKind`], [`Error::replay`], and [`guide::debugging`].
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `ndarray` | conversions between [`SharedArray`] and the arrays of the `ndarray` crate |
//! | `progress` | `progress`, `progress_of`, `Progress`: bars on a terminal |
//! | `dashboard` | `dashboard`: live pages in a browser, JSON, OpenMetrics |
//! | `stream` | [`AsCompleted`] as a `Stream` |
//! | `tracing` | `Spans`: runs and tasks for subscribers of the `tracing` crate |
//! | `files` | `config::write`, `config::erase`, `Profile::load` |
//! | `cli` | the command `sprang` |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(all(target_os = "linux", not(miri))),
    allow(dead_code, unused_imports, reason = "worker processes, which use these, exist on Linux only")
)]

#[macro_use]
mod arity;

mod api;
mod client;
mod collections;
mod diagnostics;
mod engine;
mod error;
mod executor;
mod features;
#[cfg(all(fuzzing, target_os = "linux"))]
#[doc(hidden)]
pub mod fuzzing;
mod graph;
pub mod guide;
mod per_process;
mod portable;
mod primitives;
mod sorted;

pub use api::collection::Collection;
pub use api::compute::{IntoScheduler, Prepared, compute, compute_each, compute_with, persist, persist_each, prepare};
pub use api::config;
pub use api::delayed::{delayed, delayed_local, local, try_delayed, try_delayed_local};
pub use api::reduce::reduce;
pub use client::{
    AsCompleted, CancelOnDrop, Client, ClusterBuilder, DefaultClient, Event, LocalCluster, Lock, Permit, Queue,
    Semaphore, Status, TaskFuture, Tasks, Variable, WaitFor, WhenFull, Windowed, WindowedAsCompleted, WithResults,
    WorkerInfo, WorkerState, as_completed, wait, wait_timeout, windowed,
};
pub use collections::bag::{self, Bag};
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
pub use graph::argument::{Ownable, Refs, Results, lit, owned, results};
pub use graph::retry::Backoff;
pub use graph::task::{TaskArgs, TaskError, TaskFn};
pub use portable::Portable;
pub use portable::array::SharedArray;

/// The types and traits behind the arguments of [`delayed`].
///
/// Programs seldom name them: [`lit`], [`owned`], [`results`] and the methods of [`Delayed`] make
/// their values. They are here for signatures of generic functions.
pub mod argument {
    pub use crate::graph::argument::{
        Argument, AsDeref, AsOption, AsResult, AsResults, Handle, Lit, Owned, RefsIter, ResultsIter,
    };
}

/// The forms in which a [`Collection`] is rebuilt, and what an implementation of it needs.
///
/// Programs that pass handles to [`compute`], [`persist`] or a [`Client`] seldom name them. They
/// are here for collections of your own, and for signatures of generic functions.
pub mod collection {
    pub use crate::api::collection::{
        Form, HandleList, HandleOutcomes, Handles, HandlesOf, Leaf, Listed, Outcomes, Parts, Values, ValuesOf,
    };
    pub use crate::client::{Futures, Persisted};
}

/// Doc tests compile and run the programs of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
