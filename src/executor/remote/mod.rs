//! What executors with workers outside this process share: worker processes today, the machines of
//! a cluster later.
//!
//! [`schedule`] has the tasks of one run, [`batch`] the tasks that go to one worker together, and
//! [`stored`] the encoded values that they read. [`call`] writes calls and results as bytes,
//! [`settle`] takes results, and [`blame`] charges a task when a worker dies. [`requests`] carries
//! requests of tasks to this process.
//!
//! # What is always true
//!
//! 1. Nothing here depends on sockets, processes or the way in which memory is shared: an executor
//!    passes numbers, values and the traits [`RemoteWorker`](schedule::RemoteWorker),
//!    [`RequestHandler`](requests::RequestHandler) and [`Session`](requests::Session).
//! 2. The executors import this module. It imports none of them.
//! 3. This process has every value that a task in another batch may read. So the loss of a worker
//!    costs only the calls that it had.

#[cfg(all(target_os = "linux", not(miri)))]
pub(super) mod batch;
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) mod blame;
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) mod call;
pub(crate) mod requests;
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) mod schedule;
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) mod settle;
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) mod stored;
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) mod values;
