//! What executors with workers outside this process share.

pub(in crate::executor) mod call;
pub(in crate::executor) mod values;
