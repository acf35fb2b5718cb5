//! The sequence in which one careful worker would run the tasks.
//!
//! The sequence frees memory soon: it finishes the work that it has started, touches few new
//! inputs, and runs a task at once if that leaves no more values alive than before. Executors use
//! it to choose between ready tasks; it never holds a ready task back. It depends only on the shape
//! of the graph: not on sizes, durations or the number of workers.
//!
//! # How
//!
//! 1. *Need.* One sweep over the ids computes the number of values that a worker must hold to
//!    compute each task, if its inputs were computed one after another and nothing were shared
//!    (Sethi and Ullman): the largest of `need(input i) + i`, with the inputs by falling need. In a
//!    forest that is exact, and if the ids list the inputs of every task by falling need, they are
//!    the answer.
//! 2. *Demand.* A depth-first walk from the outputs runs inputs by falling need, then the task. The
//!    output with the largest need comes first; the others then find the tasks that they share with
//!    it done.
//! 3. *Free tasks.* A task is free when each of its inputs has run or is free: it can be reached
//!    without a demand for anything new. Its *closure* is the task and the tasks below it that have
//!    not run. When a task becomes free, and again when it is the last reader of a value, its
//!    closure is tried. The closure runs now, ahead of demand, if the values that it leaves are
//!    paid for by the values that it helps to release (one of a value's last `k` readers pays
//!    `1/k`), and if on the way there are never more than [`MAX_RISE`] values more than now. The
//!    shares make several reductions of one input advance together; the limit on the rise keeps a
//!    shuffle from opening all its inputs.
//! 4. *Choice.* If the sequence keeps no fewer values alive than the ids would, the order of the
//!    ids stays: it is plain depth-first, and costs the caller nothing.
//!
//! # What is always true
//!
//! 1. A sequence holds every task once, after all its inputs. Closures run in post-order, so that
//!    they keep this.
//! 2. The result depends on nothing but the arguments. It never keeps more values alive at once
//!    than the order of the ids, except where priorities demand it.
//! 3. Time is O(V + E). A waiting task watches one input that has neither run nor been reached. To
//!    find another one, it goes over its inputs once in all, from the last to the first. Closures
//!    of one task are tried a few times each, on at most [`MAX_CLOSURE`] inputs. All other trials
//!    together visit about 2 (V + E) edges at most; after that, demand alone decides. A large graph
//!    in which nearly every closure is too long to be tried, such as a random one, keeps its ids.
//! 4. No function recurs, so depth costs heap and not stack.
//!
//! # Source
//!
//! R. Sethi, J. D. Ullman, "The generation of optimal code for arithmetic expressions" (1970), for
//! step 1. The goal, depth first with few live results, is that of Dask's `order.py`. The
//! differences to Dask: demand comes from the outputs and not from a critical path; ties keep the
//! order of the arguments and not that of names, so that the result is the same in every run; a
//! side branch is judged by the values that it releases and not by where it ends; the order
//! respects a user's priorities.

/// A graph as predecessor lists in compressed sparse rows: task `v` reads `pred[row[v]..row[v +
/// 1]]`.
///
/// Ids are a depth-first post-order from the outputs, inputs in the order of the arguments. So
/// every predecessor of `v` is smaller than `v`, and every task is needed by some output. A
/// predecessor may be listed more than once, and so may an output.
#[derive(Debug)]
pub(crate) struct Csr<'a> {
    /// The start of each task's predecessors; one entry more than tasks.
    pub row: &'a [u32],
    pub pred: &'a [u32],
    pub outputs: &'a [u32],
    /// The user's priority for each task, higher first. Empty: all are equal.
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

/// Gives the sequence in which a careful single worker would run the tasks: the entry `k` is the
/// task that runs `k`-th.
///
/// `None` means that the ids are already in that sequence. A task of a higher priority, and
/// everything that it needs, comes before all other tasks of a lower priority. Among equal
/// priorities, memory decides.
///
/// # Complexity
/// O(V + E) time and O(V) scratch; one pass over `row` and no scratch to speak of where no value
/// has two readers and the inputs of every task come by falling need. Priorities add a sort by
/// level.
pub(crate) fn memory_order(graph: &Csr<'_>) -> Option<Vec<u32>> {
    let by_memory = if in_order_already(graph) { None } else { Walk::new(graph).run() };
    by_priority(graph, by_memory)
}

/// How far the number of live values may rise while a closure runs ahead of demand.
const MAX_RISE: i64 = 4;
/// The longest closure that is tried, in edges.
const MAX_CLOSURE: usize = 32;
/// Three thirds do not quite add up to one.
const ROUNDING: f32 = 1e-4;
/// Closures are counted in windows of this size, so that a graph with fewer tasks is tried to the
/// end.
const TRIAL_WINDOW: u32 = 8192;
/// The walk ends early after a window in which fewer than one closure in this many was short enough
/// to be tried.
const MIN_SMALL: u32 = 16;

/// Whether the ids are the answer at first sight: no value has two readers, and the inputs of every
/// task come by falling need.
///
/// Every value is read or is an output, so `E + outputs = V` means that no value is read twice and
/// no output is read or listed twice. In the post-order of such a forest the inputs of a task are
/// the last unread values, so a stack of needs replaces the input lists.
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

/// Moves the tasks that a higher priority needs to the front, and keeps the sequence otherwise.
///
/// A task is as urgent as the most urgent task that needs it. So no input is less urgent than its
/// reader, and a stable sort by urgency leaves the sequence topological.
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

/// The state of a task, in one byte: the walk reads little else, and a million of them fit in the
/// cache.
mod state {
    /// The task is in the sequence.
    pub(super) const RUN: u8 = 1;
    /// All inputs have run or are free.
    pub(super) const FREE: u8 = 1 << 1;
    /// The task is free, was tried, and does not pay: it counts as reachable for its readers.
    pub(super) const REACHABLE: u8 = 1 << 2;
    /// The task waits to be tried.
    pub(super) const QUEUED: u8 = 1 << 3;
    /// The walk has put the task's inputs on its stack.
    pub(super) const OPENED: u8 = 1 << 4;
    /// The value is an output, so it stays whatever runs.
    pub(super) const OUTPUT: u8 = 1 << 5;
    /// The inputs are not listed by falling need.
    pub(super) const UNSORTED: u8 = 1 << 6;
    /// The task is in the closure under trial, or the closure reads it.
    pub(super) const TRIED: u8 = 1 << 7;
}
use state::{FREE, OPENED, OUTPUT, QUEUED, REACHABLE, RUN, TRIED, UNSORTED};

/// The readers and watchers of a value, which trials and runs change together, in a quarter of a
/// cache line.
///
/// Links are ids plus one; zero is the end of a list.
#[derive(Clone, Copy, Default)]
struct ValueLinks {
    /// The number of edges to readers that have not run.
    readers: u32,
    /// The exclusive or of the ids of these readers: the id of the last one when one is left.
    reader_ids: u32,
    /// The first task that watches this one.
    watchers: u32,
    /// The next task that watches the same input as this one.
    next_watcher: u32,
}

/// The number of values that a sequence of tasks keeps alive, without outputs.
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

/// The walk by demand, with the state of every task.
struct Walk<'a> {
    graph: &'a Csr<'a>,
    state: Vec<u8>,
    need: Vec<u16>,
    /// Empty for a forest, in which demand alone is right.
    values: Vec<ValueLinks>,
    /// The number of inputs, from the last, that are known to have run or to be free. Only tasks
    /// with many inputs use it.
    passed: Vec<u32>,
    sequence: Vec<u32>,
    /// The footprint of the order of the ids, and of the sequence.
    ids: Footprint,
    footprint: Footprint,
    /// Free tasks to try, the last first.
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
    /// The values that the closure reads, and the number of readers that each had before.
    read: Vec<(u32, u32)>,
}

impl Trials {
    /// Whether a window has just ended in which nearly every closure was too long: the graph is too
    /// dense.
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
            values: if forest { Vec::new() } else { vec![ValueLinks::default(); num_tasks] },
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

    /// Computes the needs, and marks the tasks whose inputs do not come by falling need.
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

    /// Counts the readers of every value, lets every task watch its last input, and measures the
    /// order of the ids.
    ///
    /// It goes from the last task to the first, so that the first reader found of a value is the
    /// one that would release it.
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

    /// Runs all tasks, by demand from the outputs and free closures in between; `None` if the order
    /// of the ids is no worse.
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

    /// Puts the inputs that have not run on the stack, the one with the largest need on top.
    /// Returns whether there were any.
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
            self.notify_watchers(task);
        } else if self.values[task as usize].readers == 1 {
            // Its reader was tried when it became reachable. Now the reader may be the next link of
            // a chain.
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

    /// `input` has run or is reachable: each of its watchers finds another input to watch, or
    /// becomes free.
    fn notify_watchers(&mut self, input: u32) {
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
        /// With at most this many inputs it is cheaper to check all again than to remember.
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

    /// Tries the queued tasks and the tasks that become free by that, and runs the closures that
    /// pay. Returns whether to continue the walk.
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
                self.notify_watchers(task);
            }
            if self.trials.are_hopeless() {
                return false;
            }
        }
        true
    }

    /// The result of [`Self::pays`] for the usual closure, of one task; `None` if an input has not
    /// run.
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

    /// Collects the closure of a free task and returns whether to run it now.
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

    /// Puts the closure of a free task into `trials.closure`, in post-order. Returns whether it has
    /// at most [`MAX_CLOSURE`] edges.
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
        // The tasks of an abandoned path have to be unmarked too.
        closure.extend(path.drain(..).map(|(task, _)| task));
        *edges_left = edges_left.saturating_sub(num_edges);
        *in_window += 1;
        *small_in_window += u32::from(small);
        small
    }

    /// Runs the collected closure on the reader counts, restores them, and compares the values left
    /// with the values released.
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
#[path = "order/tests.rs"]
mod tests;
