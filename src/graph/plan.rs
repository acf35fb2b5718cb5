//! The graph of one compute, frozen and numbered.
//!
//! A plan consists of flat arrays indexed by the id of a task. It describes the work and holds no
//! state of a run, so one plan can be run many times, even at once.
//!
//! # What is always true
//!
//! 1. Ids are `0..num_tasks`, in the order in which a careful single worker would run the tasks. An
//!    id is a rank, and a task's inputs have lower ids than the task.
//! 2. The inputs of a task are the tasks of its arguments, in the order in which its call reads
//!    them, then the tasks it only comes after.
//! 3. The maker of a plan keeps handles of the plan's outputs, and these reach all its tasks. So
//!    the plan's `TaskRef`s stay valid as long as the plan.

#![expect(
    unsafe_code,
    reason = "the maker of a plan keeps its tasks alive; a handle for each output would be counted twice a run"
)]

use super::gather::{Gathered, gather};
use super::name;
use super::node::{CallFn, TaskRef};
use super::order::{Csr, memory_order};
use super::pages;
use super::tolerance::{BitSet, Tolerance};
use super::value::Cell;
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A frozen, numbered graph; see the [module](self).
#[derive(Debug)]
pub(crate) struct Plan {
    tasks: Vec<TaskRef>,
    /// Copied from the nodes, so that a worker need not read the node to run a task.
    calls: Vec<CallFn>,
    is_chain: bool,
    row: Vec<u32>,
    inputs: Vec<u32>,
    outputs: Vec<u32>,
    num_readers: Vec<u32>,
    /// Whether the readers of a value are counted.
    has_counted: bool,
    /// Whether some task only comes after another, without reading its value.
    has_after: bool,
    /// Cells for one run, and whether they have to be reset before. A run takes them and returns
    /// them.
    spare: Mutex<Option<(Vec<Cell>, bool)>>,
    dependents: OnceLock<Dependents>,
    /// Ids, ascending, of the tasks with options that change how they are called.
    special: Vec<u32>,
    /// Which failures are tolerated; `None` if no task takes the error of an input.
    tolerance: Option<Box<Tolerance>>,
}

/// The inverse of the inputs, in compressed rows; each row is ascending.
#[derive(Debug)]
pub(crate) struct Dependents {
    row: Vec<u32>,
    ids: Vec<u32>,
}

impl Plan {
    /// Freezes the tasks that the outputs need. `for_memory` ranks them so that few values are held
    /// at once.
    ///
    /// # Errors
    /// [`ErrorKind::DuplicateName`] and [`ErrorKind::TooLarge`].
    ///
    /// # Complexity
    /// O(V + E) time and space.
    ///
    /// # Safety
    /// The caller keeps handles of the outputs for as long as the plan lives.
    pub(crate) unsafe fn new(outputs: &[TaskRef], for_memory: bool) -> Result<Plan> {
        let graph = gather(outputs)?;
        check_names(&graph)?;
        Ok(Plan::of(graph, for_memory))
    }

    /// As [`Plan::new`], for unrelated outputs: tasks of different outputs may have the same name.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`].
    ///
    /// # Safety
    /// As [`Plan::new`].
    pub(crate) unsafe fn of_unrelated(outputs: &[TaskRef]) -> Result<Plan> {
        gather(outputs).map(|graph| Plan::of(graph, false))
    }

    fn of(mut graph: Gathered, for_memory: bool) -> Plan {
        let priority = priorities(&graph);
        // Every order respects the user's priorities.
        if for_memory || !priority.is_empty() {
            let csr = Csr { row: &graph.row, pred: &graph.inputs, outputs: &graph.outputs, priority: &priority };
            if let Some(sequence) = memory_order(&csr) {
                graph = renumber(&graph, &sequence);
            }
        }
        let (num_readers, has_after) = count_readers(&graph);
        let changes_the_call = |id: &u32| graph.tasks[*id as usize].options().is_some_and(|o| o.changes_the_call());
        let special = graph.with_options.iter().copied().filter(changes_the_call).collect();
        let tolerance = (!graph.tolerant.is_empty()).then(|| Box::new(Tolerance::of(&graph)));
        let cells = new_cells(&num_readers);
        let Gathered { tasks, calls, row, inputs, outputs: output_ids, is_chain, has_counted, .. } = graph;
        Plan {
            tasks,
            calls,
            is_chain,
            row,
            inputs,
            outputs: output_ids,
            num_readers,
            has_counted,
            has_after,
            spare: Mutex::new(Some((cells, false))),
            dependents: OnceLock::new(),
            special,
            tolerance,
        }
    }

    #[inline(always)]
    pub(crate) fn num_tasks(&self) -> usize {
        self.tasks.len()
    }

    #[inline(always)]
    pub(crate) fn tasks(&self) -> &[TaskRef] {
        &self.tasks
    }

    /// Whether each task but the first needs the one before it, so that there is never more than
    /// one to run.
    pub(crate) fn is_chain(&self) -> bool {
        self.is_chain
    }

    #[inline(always)]
    pub(crate) fn calls(&self) -> &[CallFn] {
        &self.calls
    }

    #[inline(always)]
    pub(crate) fn row(&self) -> &[u32] {
        &self.row
    }

    /// The inputs of all tasks, one task after the other.
    #[inline(always)]
    pub(crate) fn all_inputs(&self) -> &[u32] {
        &self.inputs
    }

    pub(crate) fn inputs(&self, id: u32) -> &[u32] {
        &self.inputs[span(&self.row, id)]
    }

    /// The inputs of a task whose values it reads, without the tasks it only comes after.
    pub(crate) fn read_inputs(&self, id: u32) -> &[u32] {
        let inputs = self.inputs(id);
        let after = self.tasks[id as usize].options().map_or(0, |options| options.after.len());
        &inputs[..inputs.len() - after]
    }

    /// The ids of the outputs, in the order of the request. An output that was requested twice is
    /// listed twice.
    pub(crate) fn outputs(&self) -> &[u32] {
        &self.outputs
    }

    /// How many arguments and outputs read the value of each task.
    pub(crate) fn num_readers(&self) -> &[u32] {
        &self.num_readers
    }

    /// Empty cells for one run.
    pub(crate) fn take_cells(&self) -> Vec<Cell> {
        let spare = self.spare.lock().take();
        match spare {
            Some((cells, false)) => cells,
            Some((mut cells, true)) => {
                for (cell, &readers) in cells.iter_mut().zip(&self.num_readers) {
                    cell.reset(readers);
                }
                cells
            }
            None => new_cells(&self.num_readers),
        }
    }

    /// Takes back the cells of a finished run. They hold no values. `is_complete` says that every
    /// task finished with a value and every output was taken.
    pub(crate) fn give_back_cells(&self, cells: Vec<Cell>, is_complete: bool) {
        // A value that needs no release leaves its cell reusable. Resetting a million cells takes
        // as long as running a task in each.
        let needs_reset = self.has_counted || !is_complete;
        let _other = self.spare.lock().replace((cells, needs_reset));
    }

    /// The dependents of all tasks, made at the first call.
    pub(crate) fn dependents(&self) -> &Dependents {
        self.dependents.get_or_init(|| Dependents::new(&self.row, &self.inputs, &self.num_dependents()))
    }

    /// How many tasks wait for each task.
    fn num_dependents(&self) -> Vec<u32> {
        if self.has_after {
            let mut num_dependents = vec![0; self.num_tasks()];
            self.inputs.iter().for_each(|&input| num_dependents[input as usize] += 1);
            return num_dependents;
        }
        // The readers of a value are its dependents and the outputs.
        let mut num_dependents = self.num_readers.clone();
        self.outputs.iter().for_each(|&output| num_dependents[output as usize] -= 1);
        num_dependents
    }

    /// How many tasks need a task, directly or through others.
    ///
    /// # Complexity
    /// O(V + E); used for messages.
    pub(crate) fn num_downstream(&self, id: u32) -> usize {
        let mut is_reached = vec![false; self.num_tasks()];
        let mut rest = vec![id];
        let mut count = 0;
        while let Some(id) = rest.pop() {
            for &dependent in self.dependents().of(id) {
                if !std::mem::replace(&mut is_reached[dependent as usize], true) {
                    count += 1;
                    rest.push(dependent);
                }
            }
        }
        count
    }

    /// Ids, ascending, of the tasks with options that change how they are called.
    pub(crate) fn special(&self) -> &[u32] {
        &self.special
    }

    // ---- failures ----

    /// Whether some task takes the error of an input in place of its value.
    #[inline]
    pub(crate) fn has_tolerant(&self) -> bool {
        self.tolerance.is_some()
    }

    /// Whether the failure of a task fails an output. Otherwise only tasks that take its error, or
    /// that no output needs apart from these, depend on it.
    pub(crate) fn is_fatal(&self, id: u32) -> bool {
        self.tolerance.as_ref().is_none_or(|tolerance| tolerance.is_fatal(id))
    }

    /// Whether a task takes the error of its `index`-th input in place of its value.
    pub(crate) fn tolerates(&self, id: u32, index: usize) -> bool {
        self.tolerance.as_ref().is_some_and(|tolerance| tolerance.has_edge(self.row[id as usize] as usize + index))
    }

    /// The inputs whose failure is that of the task, in order.
    pub(crate) fn needed_inputs(&self, id: u32) -> impl Iterator<Item = u32> {
        let inputs = self.inputs(id).iter().enumerate();
        inputs.filter(move |&(index, _)| !self.tolerates(id, index)).map(|(_, &input)| input)
    }

    /// The dependents of a failed task, as in [`Plan::dependents`], each with whether it takes the
    /// error.
    pub(crate) fn dependents_of_failed(&self, id: u32) -> impl Iterator<Item = (u32, bool)> {
        let dependents = self.dependents();
        let tolerant = self.tolerance.as_ref().map(|tolerance| {
            let edges = || dependents.tolerant_edges(&self.row, &self.inputs, |edge| tolerance.has_edge(edge));
            tolerance.dependents.get_or_init(edges)
        });
        let first = dependents.row[id as usize] as usize;
        let ids = (first..).zip(dependents.of(id));
        ids.map(move |(position, &id)| (id, tolerant.is_some_and(|bits| bits.get(position))))
    }

    /// The outputs, by index, that the failure of a task fails.
    ///
    /// # Complexity
    /// O(V + E).
    pub(crate) fn outputs_failed_by(&self, cause: u32) -> Vec<u32> {
        let mut failed = vec![false; self.num_tasks() - cause as usize];
        failed[0] = true;
        let has_failed = |failed: &[bool], id: u32| id >= cause && failed[(id - cause) as usize];
        for id in cause + 1..self.num_tasks() as u32 {
            failed[(id - cause) as usize] = self.needed_inputs(id).any(|input| has_failed(&failed, input));
        }
        (0..).zip(&self.outputs).filter(|&(_, &id)| has_failed(&failed, id)).map(|(index, _)| index).collect()
    }

    pub(crate) fn name(&self, id: u32) -> Arc<str> {
        name::of_task(self.tasks[id as usize])
    }

    /// The names on the path from a task to an output that its failure fails, both included. The
    /// output is the given one, or else the first in rank. The middle of a long path is left out.
    ///
    /// # Complexity
    /// O(V + E); used for error messages.
    pub(crate) fn path_to_output(&self, from: u32, output: Option<u32>) -> Vec<Arc<str>> {
        const ENDS: usize = 8;
        let outputs: HashSet<u32> =
            output.map_or_else(|| self.outputs.iter().copied().collect(), |output| [output].into());
        // `via[id - from]` is the input through which the failure of `from` reaches `id`.
        let mut via = vec![from];
        let mut end = from;
        while via[(end - from) as usize] == u32::MAX || !outputs.contains(&end) {
            end += 1;
            if end as usize == self.num_tasks() {
                debug_assert!(!self.is_fatal(from), "the task reaches an output");
                return vec![self.name(from)];
            }
            let reached = |&input: &u32| input >= from && via[(input - from) as usize] != u32::MAX;
            via.push(self.needed_inputs(end).find(reached).unwrap_or(u32::MAX));
        }
        let mut ids = vec![end];
        let mut id = end;
        while id != from {
            id = via[(id - from) as usize];
            ids.push(id);
        }
        ids.reverse();
        let names = |ids: &[u32]| ids.iter().map(|&id| self.name(id)).collect::<Vec<_>>();
        if ids.len() <= 2 * ENDS {
            return names(&ids);
        }
        let mut path = names(&ids[..ENDS]);
        path.push(format!("({} more)", ids.len() - 2 * ENDS).into());
        path.extend(names(&ids[ids.len() - ENDS..]));
        path
    }
}

impl Dependents {
    fn new(row: &[u32], inputs: &[u32], num_dependents: &[u32]) -> Self {
        // `ends[i + 1]` is the position of the next dependent of `i`, and in the end the end of the
        // dependents of `i`.
        let mut ends = Vec::with_capacity(row.len());
        ends.push(0);
        let mut start = 0;
        for &num in num_dependents {
            ends.push(start);
            start += num;
        }
        let mut ids = vec![0; inputs.len()];
        let mut rest = inputs;
        for (id, own) in (0..).zip(row.windows(2)) {
            let own_inputs;
            (own_inputs, rest) = rest.split_at((own[1] - own[0]) as usize);
            for &input in own_inputs {
                let next = &mut ends[input as usize + 1];
                ids[*next as usize] = id;
                *next += 1;
            }
        }
        Dependents { row: ends, ids }
    }

    /// For each position in `ids`, whether the edge there `is_tolerant`, which is asked by the
    /// edge's position in the inputs.
    #[cold]
    fn tolerant_edges(&self, row: &[u32], inputs: &[u32], is_tolerant: impl Fn(usize) -> bool) -> BitSet {
        let mut edges = BitSet::new(self.ids.len());
        let mut next = self.row.clone();
        // As in `new`, the dependents of each task come in the order of the inputs.
        for edge in 0..row.last().map_or(0, |&end| end as usize) {
            let position = &mut next[inputs[edge] as usize];
            if is_tolerant(edge) {
                edges.set(*position as usize);
            }
            *position += 1;
        }
        edges
    }

    /// The dependents of a task, ascending. A dependent that reads the task twice is listed twice.
    #[inline(always)]
    pub(crate) fn of(&self, id: u32) -> &[u32] {
        &self.ids[span(&self.row, id)]
    }
}

fn new_cells(num_readers: &[u32]) -> Vec<Cell> {
    let mut cells = pages::vec_with_capacity(num_readers.len());
    cells.extend(num_readers.iter().map(|&readers| Cell::new(readers)));
    cells
}

#[inline(always)]
fn span(row: &[u32], id: u32) -> Range<usize> {
    row[id as usize] as usize..row[id as usize + 1] as usize
}

/// Checks that each given name belongs to one task.
fn check_names(graph: &Gathered) -> Result<()> {
    let mut named = HashMap::new();
    for &id in &graph.with_options {
        let task = graph.tasks[id as usize];
        let Some(name) = task.options().and_then(|options| options.name.clone()) else { continue };
        if named.insert(Arc::clone(&name), id).is_some() {
            return Err(Error::new(
                ErrorKind::DuplicateName,
                format!(
                    "two different tasks are named {name:?}; give each a name of its own, for example {:?}",
                    format!("{name}-2")
                ),
            ));
        }
    }
    Ok(())
}

/// The priority of each task; empty if all are 0.
fn priorities(graph: &Gathered) -> Vec<i32> {
    let of = |id: u32| graph.tasks[id as usize].options().map_or(0, |options| options.priority);
    if graph.with_options.iter().all(|&id| of(id) == 0) {
        return Vec::new();
    }
    (0..graph.tasks.len() as u32).map(of).collect()
}

/// Renumbers the graph: `sequence[k]` becomes the task with the id `k`.
fn renumber(graph: &Gathered, sequence: &[u32]) -> Gathered {
    let mut rank = pages::vec_with_capacity(sequence.len());
    rank.resize(sequence.len(), 0);
    for (k, &id) in sequence.iter().enumerate() {
        rank[id as usize] = k as u32;
    }
    let mut row = pages::vec_with_capacity(graph.row.len());
    row.push(0);
    let mut inputs = pages::vec_with_capacity(graph.inputs.len());
    for &id in sequence {
        inputs.extend(graph.inputs[span(&graph.row, id)].iter().map(|&input| rank[input as usize]));
        row.push(inputs.len() as u32);
    }
    let mut with_options: Vec<u32> = graph.with_options.iter().map(|&id| rank[id as usize]).collect();
    with_options.sort_unstable();
    let tolerant = graph.tolerant.iter().map(|&id| rank[id as usize]).collect();
    Gathered {
        tasks: permuted(&graph.tasks, sequence),
        calls: permuted(&graph.calls, sequence),
        row,
        inputs,
        outputs: graph.outputs.iter().map(|&id| rank[id as usize]).collect(),
        with_options,
        tolerant,
        is_chain: graph.is_chain,
        has_counted: graph.has_counted,
    }
}

fn permuted<T: Copy>(items: &[T], sequence: &[u32]) -> Vec<T> {
    let mut permuted = pages::vec_with_capacity(sequence.len());
    permuted.extend(sequence.iter().map(|&id| items[id as usize]));
    permuted
}

/// How many arguments and outputs read the value of each task, and whether some task only comes
/// after another.
fn count_readers(graph: &Gathered) -> (Vec<u32>, bool) {
    let mut num_readers = pages::vec_with_capacity(graph.tasks.len());
    num_readers.resize(graph.tasks.len(), 0);
    for &id in graph.inputs.iter().chain(&graph.outputs) {
        num_readers[id as usize] += 1;
    }
    // A task that only comes after another does not read its value.
    let mut has_after = false;
    for &id in &graph.with_options {
        let after = graph.tasks[id as usize].options().map_or(0, |options| options.after.len());
        has_after |= after > 0;
        let inputs = &graph.inputs[span(&graph.row, id)];
        for &input in &inputs[inputs.len() - after..] {
            num_readers[input as usize] -= 1;
        }
    }
    (num_readers, has_after)
}
