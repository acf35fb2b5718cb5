//! WATCHING: what a graph looks like and how a run went.
//!
//! A leaf: it uses the rooms above, and none of them uses it. A method that belongs here, such as
//! [`Delayed::visualize`](crate::Delayed::visualize), is an `impl` block here.
//!
//! [`picture`] draws graphs. `progress` shows on a terminal how far runs have got, `dashboard` in a browser what is going on. [`profile`] tells
//! where the time went. [`system`] has what the machine gives, `spans` shows runs to the `tracing` crate. How durations are written is in [`units`].

#[cfg(feature = "dashboard")]
pub mod dashboard;
#[cfg(feature = "dashboard")]
mod json;
pub mod picture;
pub mod profile;
#[cfg(feature = "progress")]
pub(crate) mod progress;
#[cfg(feature = "tracing")]
pub(crate) mod spans;
pub(crate) mod system;
mod units;
