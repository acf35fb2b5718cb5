//! The functions of optional features that the configuration can call.
//!
//! This file is the one place that names both sides: `api` calls a function here without importing
//! the module that implements it, and a build without the feature contains none of that module.

/// Starts the dashboard of the process at an address, on the first call. Failures are logged.
#[cfg(feature = "dashboard")]
pub(crate) const SERVE_DASHBOARD: Option<fn(&str)> = Some(crate::diagnostics::dashboard::serve_process);
/// The program is built without the dashboard.
#[cfg(not(feature = "dashboard"))]
pub(crate) const SERVE_DASHBOARD: Option<fn(&str)> = None;
