//! The library for the benches: it builds a graph from a shape, plans it and runs it.

#![allow(dead_code, reason = "each bench uses its part of the shared code")]

mod api;

#[allow(unused_imports, reason = "only one bench asks for nothing but latencies")]
pub(crate) use api::build;
#[allow(unused_imports, reason = "only one bench asks for latencies")]
pub(crate) use api::latencies;

/// The executor of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Sync,
    /// A thread executor with this many workers, 1 or 2, which is kept between runs.
    Threads(usize),
}

/// The handles of the outputs of one shape.
pub(crate) trait Graph {
    /// Gathers and orders the graph, without running it.
    fn plan(&self) -> Box<dyn Plan + '_>;
}

/// A graph that was gathered and ordered.
pub(crate) trait Plan {
    fn num_tasks(&self) -> usize;
    /// Runs every task and returns the values of the outputs.
    fn run(&self, on: On) -> Vec<i64>;
}

/// One operation of [`latencies`]: its name, and the function to time.
pub(crate) type Latency = (&'static str, Box<dyn FnMut() -> i64>);
