//! Which failures of a plan are tolerated.
//!
//! A task may take the error of an input in place of its value. The edge from that input is
//! *tolerant*. The failure of a task is *fatal* if it fails an output: the task is one, or a path
//! of other edges leads to one.

use super::gather::Gathered;
use std::fmt;
use std::sync::OnceLock;

/// See the [module](self). Only plans with a tolerant edge have one.
pub(super) struct Tolerance {
    /// By the position of an edge in the inputs.
    edges: BitSet,
    fatal: BitSet,
    /// As `edges`, by the position of an edge in the dependents; made when it is needed.
    pub(super) dependents: OnceLock<BitSet>,
}

impl fmt::Debug for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tolerance").finish_non_exhaustive()
    }
}

impl Tolerance {
    /// # Complexity
    /// O(V + E) time, one bit per task and edge.
    #[cold]
    pub(super) fn of(graph: &Gathered) -> Self {
        let mut edges = BitSet::new(graph.inputs.len());
        for &id in &graph.tolerant {
            let first = graph.row[id as usize] as usize;
            let tolerated = graph.tasks[id as usize].tolerated_inputs().unwrap_or_default();
            (first..).zip(tolerated).filter(|(_, is_tolerated)| *is_tolerated).for_each(|(edge, _)| edges.set(edge));
        }
        let mut fatal = BitSet::new(graph.tasks.len());
        graph.outputs.iter().for_each(|&output| fatal.set(output as usize));
        // A task's inputs have lower ids than the task.
        for id in (0..graph.tasks.len()).rev() {
            if fatal.get(id) {
                let inputs = graph.row[id] as usize..graph.row[id + 1] as usize;
                inputs.filter(|&edge| !edges.get(edge)).for_each(|edge| fatal.set(graph.inputs[edge] as usize));
            }
        }
        Tolerance { edges, fatal, dependents: OnceLock::new() }
    }

    pub(super) fn has_edge(&self, edge: usize) -> bool {
        self.edges.get(edge)
    }

    pub(super) fn is_fatal(&self, id: u32) -> bool {
        self.fatal.get(id as usize)
    }
}

/// A set of numbers below a limit.
pub(super) struct BitSet(Box<[u64]>);

impl BitSet {
    pub(super) fn new(limit: usize) -> Self {
        BitSet(vec![0; limit.div_ceil(64)].into())
    }

    pub(super) fn set(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    pub(super) fn get(&self, number: usize) -> bool {
        self.0[number / 64] >> (number % 64) & 1 != 0
    }
}
