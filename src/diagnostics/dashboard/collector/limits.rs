//! The limits of the collector's memory.

/// Ended attempts that a shard keeps until they are read.
pub(crate) const MAX_UNREAD: usize = 1_024;
/// Clusters whose futures are kept.
pub(crate) const MAX_CLUSTERS: usize = 50;
/// Calls after which a report on a cluster's futures starts anew; the report has up to twice as
/// many.
pub(crate) const MAX_CLUSTER_CALLS: usize = 10_000;
/// Calls and values after which such a report starts anew. A run of more is shown by itself.
pub(crate) const MAX_CLUSTER_NODES: usize = 16 * MAX_CLUSTER_CALLS;
/// Ended attempts that are kept.
pub(crate) const MAX_TASKS: usize = 5_000;
/// Ended runs that are kept.
pub(crate) const MAX_RUNS: usize = 500;
/// Lines of the log that are kept.
pub(crate) const MAX_EVENTS: usize = 1_000;
/// Names that are counted separately.
pub(crate) const MAX_NAMES: usize = 100;
/// Tasks and dependencies of a run whose graph is kept. Of a larger run, only the counts by name
/// are kept.
pub(crate) const MAX_GRAPH: usize = 1 << 23;
/// About how many calls of a run are recorded for its report. Of more calls, an even sample is
/// recorded.
pub(crate) const MAX_RECORDS: usize = 20_000;
/// Failures of a run that are recorded for its report.
pub(crate) const MAX_FAILURES: usize = 200;
/// Ended runs that have a report.
pub(crate) const MAX_REPORTS: usize = 100;
/// About how much memory the reports on ended runs take together.
pub(crate) const MAX_REPORT_BYTES: usize = 64 << 20;
/// Boxes of a drawn graph. Of a graph with more tasks, there is one box for each name.
pub(crate) const MAX_BOXES: usize = 150;
/// Running attempts of a shard that are listed. Further attempts are only counted.
pub(crate) const MAX_RUNNING: usize = 256;
/// Workers that a shard knows. If there are more, the shard forgets the worker that has been idle
/// for longest.
pub(crate) const MAX_WORKERS: usize = 32;
/// Bytes of a name or a message that are kept.
pub(crate) const MAX_TEXT: usize = 400;
/// Bytes of the last output of a lost worker that are kept.
pub(crate) const MAX_OUTPUT: usize = 4_000;

/// The id of the name for tasks whose name is not counted separately.
pub(crate) const OTHER: u16 = 0;

/// The beginning of a text.
pub(crate) fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// The end of the output of a worker.
pub(super) fn end_of(text: &str) -> &str {
    let start = (text.len().saturating_sub(MAX_OUTPUT)..text.len()).find(|&start| text.is_char_boundary(start));
    &text[start.unwrap_or(text.len())..]
}
