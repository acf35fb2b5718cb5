//! What the configuration can ask of a leaf: the one place that both sides know.
//!
//! A room calls what stands here and does not know who does it, or whether it is built; the leaf does not know who asks. So the rooms use
//! no leaf, and a program without the feature has nothing of it.

/// Starts the dashboard of the process at an address, the first time that it is called. What goes wrong is logged.
#[cfg(feature = "dashboard")]
pub(crate) const SERVE_DASHBOARD: Option<fn(&str)> = Some(crate::diagnostics::dashboard::serve_process);
/// There is none.
#[cfg(not(feature = "dashboard"))]
pub(crate) const SERVE_DASHBOARD: Option<fn(&str)> = None;
