//! In which sequence one careful worker would run the tasks.
//!
//! The sequence lets memory go soon: it finishes what it has started, touches few new inputs, and takes a task at once where that
//! leaves no more values alive than before. Executors use it to choose between tasks that are ready; it never holds one back.
//! It sees only the shape of the graph: no sizes, no durations, no number of workers.
//!
//! # How
//!
//! 1. *Need.* One sweep over the ids gives every task the number of values that a worker must hold to compute it, were its inputs
//!    computed one after the other and nothing shared (Sethi and Ullman): the largest of `need(input i) + i`, inputs taken by
//!    falling need. In a forest that is exact, and where the ids have every input list by falling need, they are the answer.
//! 2. *Demand.* A depth-first walk from the outputs runs inputs by falling need, then the task. The output that needs the most
//!    comes first: the others then find what they share with it in passing.
//! 3. *Free tasks.* A task is free when all its inputs have run or are free themselves: it can be reached without a demand for
//!    anything new. Its *closure* is itself and what has not run yet below it. When a task becomes free, and again when it is the
//!    last reader of a value, its closure is tried: it runs now, ahead of demand, if the values that it leaves are paid for by the
//!    values that it helps to release (to be one of a value's last `k` readers pays `1/k`), and if on the way there are never more
//!    than [`MAX_RISE`] values more than now. The shares are what makes several reductions of one input advance together; the
//!    rise is what keeps a shuffle from opening all its inputs.
//! 4. *Choice.* If the sequence keeps no fewer values alive than the ids would, the order of the ids stays: it is the plain
//!    depth-first one, and costs the caller nothing.
//!
//! # What is always true
//!
//! 1. A sequence holds every task once, after all its inputs. Closures run in post-order, so that they keep this.
//! 2. The result depends on nothing but the arguments, and never keeps more values alive at once than the order of the ids; unless
//!    priorities ask for it.
//! 3. Time is O(V + E). A waiting task watches one input that has neither run nor been reached and, to find another, goes over its
//!    inputs once, from the last to the first. Lone tasks are tried a few times each, on at most [`MAX_CLOSURE`] inputs; all other
//!    trials together visit about 2 (V + E) edges at most, and then demand alone decides. A large graph in which nearly every
//!    closure is too long to be tried, as in a random one, keeps its ids.
//! 4. Nothing recurs, so depth costs heap and not stack.
//!
//! # Source
//!
//! R. Sethi, J. D. Ullman, "The generation of optimal code for arithmetic expressions" (1970), for step 1. The goal, depth first
//! with few live results, is that of Dask's `order.py`. Departures from Dask: demand comes from the outputs and not from a critical
//! path; ties keep the order of the arguments and not that of names, so that the result is the same in every run; side branches are
//! judged by what they release and not by where they end; a user's priority is obeyed.

/// A graph as predecessor lists in compressed sparse rows: task `v` reads `pred[row[v]..row[v + 1]]`.
///
/// Ids are a depth-first post-order from the outputs, inputs in the order of the arguments. So every predecessor of `v` is smaller
/// than `v`, and every task is needed by some output. A predecessor may be listed more than once, and so may an output.
#[derive(Debug)]
pub(crate) struct Csr<'a> {
    /// Where each task's predecessors begin; one entry more than tasks.
    pub row: &'a [u32],
    pub pred: &'a [u32],
    pub outputs: &'a [u32],
    /// The user's wish for each task, higher first. Empty: all are equal.
    pub priority: &'a [i32],
}

impl Csr<'_> {
    fn num_tasks(&self) -> usize {
        self.row.len().saturating_sub(1)
    }

    #[inline]
    fn inputs(&self, task: u32) -> &[u32] {
        let task = task as usize;
        &self.pred[self.row[task] as usize..self.row[task + 1] as usize]
    }
}

/// Gives the sequence in which a careful single worker would run the tasks: the entry `k` is the task that runs `k`-th.
///
/// `None` says that the ids are already in that sequence. Everything that a task of a higher priority needs, and the task itself,
/// comes before anything else of a lower priority; among equals memory decides.
///
/// # Complexity
/// O(V + E) time and O(V) scratch; one pass over `row` and no scratch to speak of where no value has two readers and the inputs of
/// every task come by falling need. Priorities add a sort by level.
pub(crate) fn memory_order(graph: &Csr<'_>) -> Option<Vec<u32>> {
    let by_memory = if in_order_already(graph) { None } else { Walk::new(graph).run() };
    by_priority(graph, by_memory)
}

/// How far the number of live values may rise while a closure runs ahead of demand.
const MAX_RISE: i64 = 4;
/// The longest closure that is tried, in edges.
const MAX_CLOSURE: usize = 32;
/// Thirds do not quite add up to one.
const ROUNDING: f32 = 1e-4;
/// Closures are counted in windows of this many, so that a graph with fewer tasks is tried to the end.
const TRIAL_WINDOW: u32 = 8192;
/// The walk is given up after a window in which fewer than one closure in this many was short enough to be tried.
const MIN_SMALL: u32 = 16;

/// Whether the ids are visibly the answer: no value has two readers, and the inputs of every task come by falling need.
///
/// Every value is read or an output, so `E + outputs = V` says that no value is read twice and no output is read or listed twice.
/// In the post-order of such a forest the inputs of a task are the last unread values, so a stack of needs replaces the input lists.
fn in_order_already(graph: &Csr<'_>) -> bool {
    if graph.pred.is_empty() {
        // Repeated outputs do not matter here.
        return true;
    }
    if graph.pred.len() + graph.outputs.len() != graph.num_tasks() {
        return false;
    }
    let mut unread: Vec<u32> = Vec::new();
    let mut outputs = graph.outputs.iter();
    let mut next_output = outputs.next();
    for (task, ends) in graph.row.windows(2).enumerate() {
        let num_inputs = (ends[1] - ends[0]) as usize;
        match num_inputs {
            0 => unread.push(1),
            1 => {}
            _ => {
                debug_assert!(num_inputs <= unread.len(), "the ids of a forest are a post-order");
                let first = unread.len().saturating_sub(num_inputs);
                let inputs = &unread[first..];
                if !inputs.is_sorted_by(|a, b| a >= b) {
                    return false;
                }
                let need = need_of_sorted(inputs.iter().copied());
                unread.truncate(first);
                unread.push(need);
            }
        }
        if next_output == Some(&(task as u32)) {
            unread.pop();
            next_output = outputs.next();
        }
    }
    true
}

/// The need of a task whose inputs have these needs, in falling order.
#[inline]
fn need_of_sorted(inputs: impl Iterator<Item = u32>) -> u32 {
    inputs.enumerate().map(|(held, need)| need + held as u32).max().unwrap_or(1)
}

/// Moves what a higher priority asks for to the front, and keeps the sequence otherwise.
///
/// A task is as urgent as the most urgent task that needs it. So no input is less urgent than its reader, and a stable sort by
/// urgency leaves the sequence topological.
fn by_priority(graph: &Csr<'_>, sequence: Option<Vec<u32>>) -> Option<Vec<u32>> {
    let Some((&first, rest)) = graph.priority.split_first() else { return sequence };
    if rest.iter().all(|&priority| priority == first) {
        return sequence;
    }
    let mut urgency = graph.priority.to_vec();
    for task in (0..graph.num_tasks() as u32).rev() {
        let own = urgency[task as usize];
        for &input in graph.inputs(task) {
            let input = &mut urgency[input as usize];
            *input = own.max(*input);
        }
    }
    let mut sequence = sequence.unwrap_or_else(|| (0..graph.num_tasks() as u32).collect());
    sequence.sort_by_key(|&task| std::cmp::Reverse(urgency[task as usize]));
    Some(sequence)
}

/// What has happened to a task, one byte each: the walk asks for little else, and a million of them fit the cache.
mod state {
    /// The task is in the sequence.
    pub(super) const RUN: u8 = 1;
    /// All inputs have run or are free.
    pub(super) const FREE: u8 = 1 << 1;
    /// Free, tried and found not to pay: its readers count it among the reachable.
    pub(super) const REACHABLE: u8 = 1 << 2;
    /// Waits to be tried.
    pub(super) const QUEUED: u8 = 1 << 3;
    /// The walk has put the inputs on its stack.
    pub(super) const OPENED: u8 = 1 << 4;
    /// The user asked for the value, which therefore stays whatever runs.
    pub(super) const OUTPUT: u8 = 1 << 5;
    /// The inputs are not listed by falling need.
    pub(super) const UNSORTED: u8 = 1 << 6;
    /// In the closure under trial, or read by it.
    pub(super) const TRIED: u8 = 1 << 7;
}
use state::{FREE, OPENED, OUTPUT, QUEUED, REACHABLE, RUN, TRIED, UNSORTED};

/// What a trial and a run change together, in a quarter of a cache line.
///
/// Links are ids plus one; zero is the end of a list.
#[derive(Clone, Copy, Default)]
struct Value {
    /// How many edges to readers that have not run.
    readers: u32,
    /// The exclusive or of these readers: the last one's id when one is left.
    reader_ids: u32,
    /// The first task that watches this one.
    watchers: u32,
    /// The next task that watches the same input as this one.
    next_watcher: u32,
}

/// How many values, outputs not counted, a sequence of tasks keeps alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Footprint {
    peak: u32,
    /// The sum over all tasks of the values alive after each.
    total: u64,
    live: u32,
}

impl Footprint {
    fn record(&mut self) {
        self.peak = self.peak.max(self.live);
        self.total += u64::from(self.live);
    }
}

/// The walk by demand, and what it knows of every task.
struct Walk<'a> {
    graph: &'a Csr<'a>,
    state: Vec<u8>,
    need: Vec<u16>,
    /// Empty for a forest, in which demand alone is right.
    values: Vec<Value>,
    /// How many inputs, from the last, are known to have run or be free. Only tasks with many inputs use it.
    passed: Vec<u32>,
    sequence: Vec<u32>,
    /// What the order of the ids would keep alive, and what the sequence does.
    ids: Footprint,
    footprint: Footprint,
    /// Free tasks to be tried, the last first.
    queue: Vec<u32>,
    trials: Trials,
}

/// The budget of all trials and the scratch of one.
struct Trials {
    edges_left: usize,
    in_window: u32,
    small_in_window: u32,
    closure: Vec<u32>,
    path: Vec<(u32, u32)>,
    /// The values that the closure reads, and how many readers each had before.
    read: Vec<(u32, u32)>,
}

impl Trials {
    /// Whether a window has just ended in which nearly every closure was too long: the graph is a thicket.
    fn are_hopeless(&mut self) -> bool {
        if self.in_window < TRIAL_WINDOW {
            return false;
        }
        let hopeless = self.small_in_window < TRIAL_WINDOW / MIN_SMALL;
        self.in_window = 0;
        self.small_in_window = 0;
        hopeless
    }
}

impl<'a> Walk<'a> {
    fn new(graph: &'a Csr<'a>) -> Self {
        let num_tasks = graph.num_tasks();
        let forest = graph.pred.len() + graph.outputs.len() == num_tasks;
        let trials = Trials {
            edges_left: 2 * (num_tasks + graph.pred.len()),
            in_window: 0,
            small_in_window: 0,
            closure: Vec::new(),
            path: Vec::new(),
            read: Vec::new(),
        };
        let mut walk = Walk {
            graph,
            state: vec![0; num_tasks],
            need: vec![1; num_tasks],
            values: if forest { Vec::new() } else { vec![Value::default(); num_tasks] },
            passed: if forest { Vec::new() } else { vec![0; num_tasks] },
            sequence: Vec::with_capacity(num_tasks),
            ids: Footprint::default(),
            footprint: Footprint::default(),
            queue: Vec::new(),
            trials,
        };
        for &output in graph.outputs {
            walk.state[output as usize] |= OUTPUT;
        }
        walk.label();
        if !forest {
            walk.ids = walk.link();
        }
        walk
    }

    /// Fills in the needs, and which input lists do not come by falling need.
    fn label(&mut self) {
        let mut sorted = Vec::new();
        let mut begin = self.graph.row[0] as usize;
        for (task, &end) in self.graph.row[1..].iter().enumerate() {
            let inputs = &self.graph.pred[begin..end as usize];
            begin = end as usize;
            match *inputs {
                [] => {}
                [input] => self.need[task] = self.need[input as usize],
                _ => {
                    sorted.clear();
                    sorted.extend(inputs.iter().map(|&input| u32::from(self.need[input as usize])));
                    if !sorted.is_sorted_by(|a, b| a >= b) {
                        sorted.sort_unstable_by(|a, b| b.cmp(a));
                        self.state[task] |= UNSORTED;
                    }
                    let need = need_of_sorted(sorted.iter().copied());
                    self.need[task] = u16::try_from(need).unwrap_or(u16::MAX);
                }
            }
        }
    }

    /// Counts the readers of every value, lets every task watch its last input, and measures the order of the ids.
    ///
    /// From the last task to the first, so that the first reader met of a value is the one that would release it.
    fn link(&mut self) -> Footprint {
        let mut ids = Footprint::default();
        let mut end = self.graph.pred.len();
        for (task, &begin) in self.graph.row[..self.state.len()].iter().enumerate().rev() {
            ids.record();
            ids.live -= u32::from(self.state[task] & OUTPUT == 0);
            let inputs = &self.graph.pred[begin as usize..end];
            end = begin as usize;
            for &input in inputs {
                let value = &mut self.values[input as usize];
                ids.live += u32::from(value.readers == 0 && self.state[input as usize] & OUTPUT == 0);
                value.readers += 1;
                value.reader_ids ^= task as u32;
            }
            if let Some(&last) = inputs.last() {
                self.watch(task as u32, last);
            }
        }
        ids
    }

    fn watch(&mut self, task: u32, input: u32) {
        let next = std::mem::replace(&mut self.values[input as usize].watchers, task + 1);
        self.values[task as usize].next_watcher = next;
    }

    /// Runs everything, by demand from the outputs and free closures in between; `None` if the order of the ids is no worse.
    fn run(mut self) -> Option<Vec<u32>> {
        let mut outputs = self.graph.outputs.to_vec();
        outputs.sort_by_key(|&output| std::cmp::Reverse(self.need[output as usize]));
        let mut stack = Vec::new();
        for output in outputs {
            stack.push(output);
            while let Some(&task) = stack.last() {
                let state = self.state[task as usize];
                if state & (RUN | OPENED) == 0 && self.demand_inputs(task, &mut stack) {
                    continue;
                }
                stack.pop();
                if state & RUN == 0 {
                    self.run_task(task);
                    if !self.try_queued() {
                        return None;
                    }
                }
            }
        }
        debug_assert_eq!(self.sequence.len(), self.graph.num_tasks(), "every task is needed by an output");
        let better = self.values.is_empty() || self.footprint < self.ids;
        better.then_some(self.sequence)
    }

    /// Puts the inputs that have not run on the stack, the one with the greatest need on top; says whether there were any.
    fn demand_inputs(&mut self, task: u32, stack: &mut Vec<u32>) -> bool {
        let graph = self.graph;
        let first = stack.len();
        for &input in graph.inputs(task).iter().rev() {
            if self.state[input as usize] & RUN == 0 {
                stack.push(input);
            }
        }
        if self.state[task as usize] & UNSORTED != 0 {
            stack[first..].sort_by_key(|&input| self.need[input as usize]);
        }
        self.state[task as usize] |= OPENED;
        stack.len() > first
    }

    fn run_task(&mut self, task: u32) {
        let state = self.state[task as usize];
        self.state[task as usize] = state | RUN;
        self.sequence.push(task);
        if self.values.is_empty() {
            return;
        }
        if state & REACHABLE == 0 {
            self.tell_watchers(task);
        } else if self.values[task as usize].readers == 1 {
            // Its reader was tried when it could be reached; now it may have become the next link of a chain.
            let reader = self.values[task as usize].reader_ids;
            if self.state[reader as usize] & FREE != 0 && self.pays_alone(reader) == Some(true) {
                self.enqueue(reader);
            }
        }
        self.footprint.live += u32::from(state & OUTPUT == 0);
        let graph = self.graph;
        for &input in graph.inputs(task) {
            let value = &mut self.values[input as usize];
            value.readers -= 1;
            value.reader_ids ^= task;
            if value.readers == 0 {
                self.footprint.live -= u32::from(self.state[input as usize] & OUTPUT == 0);
            } else if value.readers == 1 {
                let last_reader = value.reader_ids;
                if self.state[last_reader as usize] & FREE != 0 {
                    self.enqueue(last_reader);
                }
            }
        }
        self.footprint.record();
    }

    fn enqueue(&mut self, task: u32) {
        let state = &mut self.state[task as usize];
        if *state & (RUN | QUEUED) == 0 {
            *state |= QUEUED;
            self.queue.push(task);
        }
    }

    /// `input` has run or is reachable: each of its watchers finds another input to watch, or is free.
    fn tell_watchers(&mut self, input: u32) {
        let mut next = std::mem::take(&mut self.values[input as usize].watchers);
        while next != 0 {
            let watcher = next - 1;
            next = self.values[watcher as usize].next_watcher;
            match self.input_to_watch(watcher) {
                Some(other) => self.watch(watcher, other),
                None => {
                    self.state[watcher as usize] |= FREE;
                    self.enqueue(watcher);
                }
            }
        }
    }

    fn input_to_watch(&mut self, task: u32) -> Option<u32> {
        /// Up to here it is cheaper to look again than to remember.
        const FEW: usize = 8;
        let inputs = self.graph.inputs(task);
        let passed = if inputs.len() <= FEW { 0 } else { self.passed[task as usize] as usize };
        let candidates = &inputs[..inputs.len() - passed];
        let found = candidates.iter().rposition(|&input| self.state[input as usize] & (RUN | REACHABLE) == 0)?;
        if inputs.len() > FEW {
            self.passed[task as usize] = (inputs.len() - found) as u32;
        }
        Some(inputs[found])
    }

    /// Tries the queued tasks and those that become free by that, and runs the closures that pay; says whether to
    /// go on with the walk.
    fn try_queued(&mut self) -> bool {
        while let Some(task) = self.queue.pop() {
            self.state[task as usize] &= !QUEUED;
            if self.state[task as usize] & RUN != 0 {
                continue;
            }
            let alone = self.pays_alone(task);
            if alone == Some(true) {
                self.run_task(task);
            } else if alone.is_none() && self.pays(task) {
                let closure = std::mem::take(&mut self.trials.closure);
                for &task in &closure {
                    self.run_task(task);
                }
                self.trials.closure = closure;
            } else if self.state[task as usize] & REACHABLE == 0 {
                self.state[task as usize] |= REACHABLE;
                self.tell_watchers(task);
            }
            if self.trials.are_hopeless() {
                return false;
            }
        }
        true
    }

    /// What [`Self::pays`] would say of a closure of one task, the usual one; `None` if an input has still to run.
    fn pays_alone(&self, task: u32) -> Option<bool> {
        let inputs = self.graph.inputs(task);
        if inputs.len() > MAX_CLOSURE {
            return None;
        }
        let mut paid = if self.state[task as usize] & OUTPUT == 0 { 0.0 } else { 1.0 };
        for &input in inputs {
            let state = self.state[input as usize];
            if state & RUN == 0 {
                return None;
            }
            if state & OUTPUT == 0 {
                paid += 1.0 / self.values[input as usize].readers as f32;
            }
        }
        Some(paid + ROUNDING >= 1.0)
    }

    /// Collects the closure of a free task and says whether to run it now.
    fn pays(&mut self, task: u32) -> bool {
        if self.trials.edges_left == 0 {
            return false;
        }
        let small = self.collect_closure(task);
        for &member in &self.trials.closure {
            self.state[member as usize] &= !TRIED;
        }
        small && self.closure_pays()
    }

    /// Puts the closure of a free task into `trials.closure`, in post-order; says whether it has at most [`MAX_CLOSURE`] edges.
    fn collect_closure(&mut self, task: u32) -> bool {
        let graph = self.graph;
        let Trials { closure, path, edges_left, in_window, small_in_window, .. } = &mut self.trials;
        closure.clear();
        path.clear();
        path.push((task, 0));
        self.state[task as usize] |= TRIED;
        let mut num_edges = 1;
        let mut small = true;
        'path: while let Some((task, seen)) = path.last_mut() {
            for &input in &graph.inputs(*task)[*seen as usize..] {
                *seen += 1;
                num_edges += 1;
                if num_edges > MAX_CLOSURE {
                    small = false;
                    break 'path;
                }
                let state = &mut self.state[input as usize];
                if *state & (RUN | TRIED) == 0 {
                    *state |= TRIED;
                    path.push((input, 0));
                    continue 'path;
                }
            }
            closure.push(*task);
            path.pop();
        }
        // What was given up on the way has to be unmarked with the rest.
        closure.extend(path.drain(..).map(|(task, _)| task));
        *edges_left = edges_left.saturating_sub(num_edges);
        *in_window += 1;
        *small_in_window += u32::from(small);
        small
    }

    /// Runs the collected closure on the reader counts, puts them back, and compares what it leaves with what it releases.
    fn closure_pays(&mut self) -> bool {
        let graph = self.graph;
        let Trials { closure, read, .. } = &mut self.trials;
        let (mut live, mut most_live) = (0, 0);
        for &member in closure.iter() {
            for &input in graph.inputs(member) {
                let value = &mut self.values[input as usize];
                let state = &mut self.state[input as usize];
                if *state & TRIED == 0 {
                    *state |= TRIED;
                    read.push((input, value.readers));
                }
                value.readers -= 1;
                if value.readers == 0 && *state & OUTPUT == 0 {
                    live -= 1;
                }
            }
            if self.state[member as usize] & OUTPUT == 0 {
                live += 1;
            }
            most_live = most_live.max(live);
        }
        let left = |task: &&u32| self.values[**task as usize].readers > 0 && self.state[**task as usize] & OUTPUT == 0;
        let num_left = closure.iter().filter(left).count();
        let mut paid = 0.0;
        for (input, readers) in read.drain(..) {
            let value = &mut self.values[input as usize];
            let state = &mut self.state[input as usize];
            *state &= !TRIED;
            if *state & (RUN | OUTPUT) == RUN {
                paid += (readers - value.readers) as f32 / readers as f32;
            }
            value.readers = readers;
        }
        most_live <= MAX_RISE && num_left as f32 <= paid + ROUNDING
    }
}

#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "shared with the benches, which use more of it")]
#[path = "../../benches/shapes/mod.rs"]
mod shapes;

#[cfg(test)]
mod tests {
    use super::shapes::{self, Random, Shape};
    use super::{Csr, memory_order};

    /// The most values alive at once on each shape: with the order of Dask 2026.8.0, and with ours, which may fall but not rise.
    ///
    /// Alive are the results held after a task has run and its inputs were let go, outputs not counted. Where Dask's figure
    /// changes with the names of the tasks or the seed of Python's hashes, it is the least one seen.
    #[rustfmt::skip]
    const PEAKS: &[(&str, usize, usize)] = &[
        ("tree1024", 11, 11),
        ("x+xT store 20x20", 3, 3),
        ("x+xT sum 20x20", 77, 61),
        ("shuffle 24x24", 48, 48),
        ("rechunk 2:3", 3, 3),
        ("tensordot 10^3 flat", 200, 120),
        ("tensordot 10^3 tree", 128, 115),
        ("16 chains x100 + sum", 16, 16),
        ("overlap 256 store", 4, 4),
        ("overlap 256 sum", 18, 15),
        ("2 reductions 256", 26, 26),
        ("4 reductions 256", 269, 47),
        ("anomaly x-mean(x) 128", 139, 139),
        ("grouped anomaly 12x24", 30, 30),
        ("store 256x4", 1, 1),
        ("stencil 32x40", 62, 62),
        ("tsqr 64", 128, 128),
        ("random 2000 3-in", 146, 62),
        ("keeps_groups_together", 2, 2),
        ("avoid_broker_nodes", 1, 1),
        ("base_of_reduce_preferred", 3, 3),
        ("avoid_upwards_branching", 2, 2),
        ("avoid_upwards_branching_complex", 3, 2),
        ("deep_bases_win_over_dependents", 3, 3),
        ("prefer_deep", 1, 1),
        ("favor_longest_critical_path", 2, 1),
        ("run_smaller_sections", 3, 2),
        ("local_parents_of_reduction", 2, 2),
        ("nearest_neighbor", 2, 2),
        ("prefer_short_narrow", 3, 3),
        ("prefer_short_ancestor", 4, 4),
        ("map_overlap", 4, 4),
        ("many_branches_use_ndependencies", 5, 5),
        ("dont_run_all_dependents_too_early", 5, 5),
        ("terminal_node_backtrack", 5, 5),
        ("array_store_final_order", 7, 7),
        ("use_structure_not_keys", 3, 3),
        ("diagnostics", 3, 3),
        ("gh_3055", 8, 7),
        ("gh_3055_explicit", 5, 5),
        ("order_with_equal_dependents 2 0", 10, 9),
        ("order_with_equal_dependents 2 1", 10, 9),
        ("order_with_equal_dependents 1 1", 10, 8),
        ("order_with_equal_dependents 1 0", 9, 8),
        ("eager_to_compute_dependent_to_free_parent", 8, 8),
        ("xarray_like_reduction", 9, 6),
        ("anom_mean_raw", 7, 7),
        ("anom_mean", 178, 178),
        ("array_vs_dataframe", 38, 38),
        ("flaky_array_reduction", 11, 11),
        ("flox_reduction", 5, 5),
        ("order_flox_reduction_2", 6, 6),
        ("reduce_with_many_common_dependents 4 2", 6, 6),
        ("reduce_with_many_common_dependents 4 2 keep", 6, 6),
        ("reduce_with_many_common_dependents 4 5", 9, 9),
        ("reduce_with_many_common_dependents 4 5 keep", 9, 9),
        ("reduce_with_many_common_dependents 7 2", 9, 9),
        ("reduce_with_many_common_dependents 7 2 keep", 9, 9),
        ("reduce_with_many_common_dependents 7 5", 12, 12),
        ("reduce_with_many_common_dependents 7 5 keep", 12, 12),
        ("doublediff", 10, 10),
        ("xarray_map_reduce_with_slicing", 5, 5),
        ("xarray_rechunk_map_reduce_cohorts", 7, 6),
        ("xarray_8414", 3, 3),
        ("stackstac", 9, 9),
    ];

    fn csr<'a>(shape: &'a Shape, priority: &'a [i32]) -> Csr<'a> {
        Csr { row: &shape.row, pred: &shape.pred, outputs: &shape.outputs, priority }
    }

    /// The sequence for a numbered shape, checked: every task once, after its inputs.
    fn sequence(shape: &Shape, priority: &[i32]) -> Vec<u32> {
        let sequence = memory_order(&csr(shape, priority)).unwrap_or_else(|| ids(shape));
        assert_eq!(sequence.len(), shape.num_tasks(), "{}", shape.name);
        let mut has_run = vec![false; shape.num_tasks()];
        for &task in &sequence {
            assert!(shape.inputs(task).iter().all(|&input| has_run[input as usize]), "{}: {task} is early", shape.name);
            assert!(!std::mem::replace(&mut has_run[task as usize], true), "{}: {task} runs twice", shape.name);
        }
        sequence
    }

    fn ids(shape: &Shape) -> Vec<u32> {
        (0..shape.num_tasks() as u32).collect()
    }

    /// The most values alive after any task of a sequence.
    fn peak(shape: &Shape, sequence: &[u32]) -> usize {
        let mut is_output = vec![false; shape.num_tasks()];
        shape.outputs.iter().for_each(|&output| is_output[output as usize] = true);
        let mut readers = vec![0; shape.num_tasks()];
        shape.pred.iter().for_each(|&input| readers[input as usize] += 1);
        let (mut live, mut peak) = (0, 0);
        for &task in sequence {
            live += usize::from(!is_output[task as usize]);
            for &input in shape.inputs(task) {
                readers[input as usize] -= 1;
                live -= usize::from(readers[input as usize] == 0 && !is_output[input as usize]);
            }
            peak = peak.max(live);
        }
        peak
    }

    /// The least peak of all sequences, by way of every set of tasks that may have run.
    fn least_peak(shape: &Shape) -> usize {
        let tasks = ids(shape);
        let live = |run: usize| {
            let has_run = |task: u32| run >> task & 1 == 1;
            let is_wanted =
                |task: u32| tasks.iter().any(|&reader| !has_run(reader) && shape.inputs(reader).contains(&task));
            tasks.iter().filter(|&&task| has_run(task) && !shape.outputs.contains(&task) && is_wanted(task)).count()
        };
        let mut least = vec![usize::MAX; 1 << tasks.len()];
        least[0] = 0;
        for run in 0..least.len() {
            for &task in &tasks {
                let may_run = shape.inputs(task).iter().all(|&input| run >> input & 1 == 1);
                if least[run] != usize::MAX && run >> task & 1 == 0 && may_run {
                    let then = run | 1 << task;
                    least[then] = least[then].min(least[run].max(live(then)));
                }
            }
        }
        least[least.len() - 1]
    }

    /// Trees whose inputs come in any order, several to a forest.
    fn random_forest(seed: u64, tasks: u32) -> Shape {
        let mut random = Random::new(seed);
        let mut shape = Shape::new(format!("forest {seed}"));
        let mut unread: Vec<u32> = Vec::new();
        for _ in 0..tasks {
            let count = random.below(4).min(unread.len() as u32);
            let inputs: Vec<u32> =
                (0..count).map(|_| unread.swap_remove(random.below(unread.len() as u32) as usize)).collect();
            unread.push(shape.task(&inputs));
        }
        shape.ask_for_unread().numbered()
    }

    fn random_graphs() -> impl Iterator<Item = Shape> {
        (0..4000).map(|seed| {
            let mut random = Random::new(seed);
            let (tasks, inputs, window) = (1 + random.below(60), 1 + random.below(5), 1 + random.below(60));
            let mut shape = shapes::random(seed, tasks, inputs, window);
            // Outputs that are read and outputs that are asked for twice.
            for _ in 0..random.below(3) {
                shape.outputs.push(random.below(tasks));
            }
            shape.numbered()
        })
    }

    #[test]
    fn the_serial_peak_is_never_above_dasks_on_any_shape() {
        let shapes: Vec<Shape> = shapes::studies().into_iter().chain(shapes::dask_cases()).collect();
        assert_eq!(shapes.len(), PEAKS.len());
        for (shape, &(name, dasks, ours)) in shapes.iter().zip(PEAKS) {
            assert_eq!(shape.name, name);
            let shape = shape.numbered();
            let peak = peak(&shape, &sequence(&shape, &[]));
            assert!(ours <= dasks && peak <= ours, "{name}: {peak} values, and {ours} were enough; Dask: {dasks}");
        }
    }

    #[test]
    fn the_order_of_the_ids_is_kept_where_no_other_is_better() {
        for shape in random_graphs() {
            let ids = peak(&shape, &ids(&shape));
            let ours = peak(&shape, &sequence(&shape, &[]));
            assert!(ours <= ids, "{}: {ours}, ids {ids}", shape.name);
        }
    }

    #[test]
    fn small_graphs_run_in_little_more_than_the_least_memory() {
        let (mut ours, mut least) = (0, 0);
        for seed in 0..500 {
            let shape = shapes::random(seed, 8, 3, 8).numbered();
            let (peak, least_peak) = (peak(&shape, &sequence(&shape, &[])), least_peak(&shape));
            assert!((least_peak..=least_peak + 2).contains(&peak), "{}: {peak}, least {least_peak}", shape.name);
            ours += peak;
            least += least_peak;
        }
        assert!(ours * 10 <= least * 11, "{ours} values in all, {least} would do");
    }

    #[test]
    fn a_forest_runs_in_the_least_memory() {
        for seed in 0..500 {
            let shape = random_forest(seed, 9);
            assert_eq!(peak(&shape, &sequence(&shape, &[])), least_peak(&shape), "{}", shape.name);
        }
        for seed in 0..50 {
            sequence(&random_forest(seed, 500), &[]);
        }
    }

    #[test]
    fn chains_trees_and_independent_tasks_keep_their_ids() {
        for shape in [shapes::chain(1000), shapes::independent(1000), shapes::tree(1024)] {
            assert!(memory_order(&csr(&shape.numbered(), &[])).is_none(), "{}", shape.name);
        }
        assert!(memory_order(&Csr { row: &[0], pred: &[], outputs: &[], priority: &[] }).is_none());
        assert!(memory_order(&Csr { row: &[0, 0], pred: &[], outputs: &[0, 0, 0], priority: &[] }).is_none());
    }

    #[test]
    fn the_input_that_needs_more_runs_first() {
        // The last task reads a lone value and a tree of four, in this order.
        let shape = Shape::from_inputs("late tree", &[&[], &[], &[], &[], &[], &[1, 2], &[3, 4], &[5, 6], &[0, 7]]);
        assert_eq!(sequence(&shape.numbered(), &[]), [1, 2, 3, 4, 5, 6, 7, 0, 8]);
    }

    #[test]
    fn an_input_may_be_listed_twice() {
        let shape = Shape::from_inputs("twice", &[&[], &[0, 0], &[], &[1, 2, 1], &[0, 3, 3, 3]]).numbered();
        sequence(&shape, &[]);
        let outputs = [1, 1, 4, 0];
        let graph = Csr { row: &shape.row, pred: &shape.pred, outputs: &outputs, priority: &[] };
        assert_eq!(memory_order(&graph).map_or(5, |sequence| sequence.len()), 5);
    }

    #[test]
    fn the_same_graph_has_the_same_order_in_every_run() {
        for shape in random_graphs().take(100) {
            assert_eq!(memory_order(&csr(&shape, &[])), memory_order(&csr(&shape, &[])));
        }
    }

    #[test]
    fn a_thicket_ends_the_trials_and_is_ordered_all_the_same() {
        sequence(&shapes::thicket(60_000).numbered(), &[]);
        sequence(&shapes::random(7, 60_000, 8, 60_000).numbered(), &[]);
    }

    #[test]
    fn two_million_tasks_in_a_row_need_no_stack() {
        let order = || {
            let length = 2_000_000;
            sequence(&shapes::chain(length), &[]);
            // Each reads the one before it twice, so that this is no forest; its neighbour is read at the far end.
            let mut shape = Shape::new("doubled chain");
            let first = shape.task(&[]);
            let mut last = shape.task(&[first, first]);
            for _ in 2..length {
                last = shape.task(&[last, last]);
            }
            shape.task(&[last, first]);
            sequence(&shape.ask_for_unread(), &[]);
        };
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(order).expect("a thread");
        thread.join().expect("no overflow");
    }

    #[test]
    fn what_a_higher_priority_needs_comes_first() {
        // Two chains of three; the second one's middle is urgent.
        let shape = Shape::from_inputs("two chains", &[&[], &[0], &[1], &[], &[3], &[4]]).numbered();
        assert_eq!(sequence(&shape, &[0, 0, 0, 0, 1, 0]), [3, 4, 0, 1, 2, 5]);
        assert_eq!(sequence(&shape, &[0, 0, -1, 0, 0, 0]), [0, 1, 3, 4, 5, 2]);
        assert_eq!(memory_order(&csr(&shape, &[7; 6])), None);
    }

    #[test]
    fn nothing_of_a_lower_priority_comes_before_a_higher_one() {
        for (seed, shape) in random_graphs().take(500).enumerate() {
            let mut random = Random::new(seed as u64);
            let priority: Vec<i32> = ids(&shape).iter().map(|_| random.below(4) as i32 - 1).collect();
            let sequence = sequence(&shape, &priority);
            for level in 0..3 {
                let mut needed: Vec<bool> = priority.iter().map(|&priority| priority >= level).collect();
                for task in (0..shape.num_tasks()).rev() {
                    if needed[task] {
                        shape.inputs(task as u32).iter().for_each(|&input| needed[input as usize] = true);
                    }
                }
                let is_needed: Vec<bool> = sequence.iter().map(|&task| needed[task as usize]).collect();
                assert!(is_needed.is_sorted_by(|a, b| a >= b), "{}: level {level}", shape.name);
            }
        }
    }
}
