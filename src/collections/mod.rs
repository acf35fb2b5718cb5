//! Data in partitions on the task graph: one task for each partition and each chain of stages.
//!
//! Collections use graphs and `api` only. No other module uses them.

pub mod bag;
