//! What executors with workers outside this process share: worker processes today, the machines of
//! a cluster later.
//!
//! [`schedule`] has the tasks of one run, [`batch`] those that go to one worker together, and
//! [`stored`] the encoded values that they read. [`call`] writes calls and results as bytes,
//! [`settle`] takes results, and [`blame`] says which task is charged when a worker dies.
//! [`requests`] is how tasks ask this process for something.
//!
//! # What is always true
//!
//! 1. Nothing here is tied to a socket, a process or the way in which memory is shared: an executor
//!    passes numbers, values and the traits [`RemoteWorker`](schedule::RemoteWorker),
//!    [`RequestHandler`](requests::RequestHandler) and [`Session`](requests::Session).
//! 2. The executors import this room. It imports none of them.
//! 3. This process has every value that a task in another batch may read. So a worker that is lost
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
