//! HOW FAR a run has got.
/// One execution of a plan.
#[derive(Debug)]
pub struct Run {}
