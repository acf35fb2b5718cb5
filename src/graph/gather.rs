//! Finds every task that the wanted outputs need.
//!
//! A depth-first walk, without recursion, numbers the tasks in post-order: a task's number is
//! higher than the numbers of its inputs. Related tasks get numbers close together, so that every
//! later pass goes through memory nearly in sequence. Each node has room for a stamp, so the walk
//! needs no hash map.
//!
//! Pure tasks with the same function, arguments and inputs get one number. Their inputs are
//! numbered before them, so equal inputs already have equal numbers.
//!
//! # What is always true
//!
//! 1. Stamps are written under one lock, and each walk has an epoch of its own. A walk that finds
//!    the lock taken uses a hash map, so that a small graph does not wait for a large one.
//! 2. No code of the program runs here: no argument is encoded, compared, cloned or dropped.

use super::node::{CallFn, Task, TaskRef};
use super::pages;
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::any::TypeId;
use std::collections::HashMap;

/// The tasks of a graph in post-order, with their inputs.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) tasks: Vec<TaskRef>,
    pub(super) calls: Vec<CallFn>,
    /// The inputs of task `i` are `inputs[row[i]..row[i + 1]]`: the inputs of its arguments, then
    /// the tasks it only comes after.
    pub(super) row: Vec<u32>,
    pub(super) inputs: Vec<u32>,
    pub(super) outputs: Vec<u32>,
    /// The tasks that have options.
    pub(super) with_options: Vec<u32>,
    /// The tasks that take the error of some input in place of its value.
    pub(super) tolerant: Vec<u32>,
    /// Whether each task but the first needs the one before it.
    pub(super) is_chain: bool,
    /// Whether some value needs a count of its readers, because the last reader drops it.
    pub(super) has_counted: bool,
}

/// The number of each task that was numbered.
trait TaskNumbers {
    fn get(&self, task: TaskRef) -> Option<u32>;
    fn set(&mut self, task: TaskRef, id: u32);
}

struct Stamps {
    epoch: u64,
}

impl TaskNumbers for Stamps {
    #[inline(always)]
    fn get(&self, task: TaskRef) -> Option<u32> {
        task.stamp(self.epoch)
    }

    #[inline(always)]
    fn set(&mut self, task: TaskRef, id: u32) {
        task.set_stamp(self.epoch, id);
    }
}

impl TaskNumbers for HashMap<TaskRef, u32> {
    fn get(&self, task: TaskRef) -> Option<u32> {
        self.get(&task).copied()
    }

    fn set(&mut self, task: TaskRef, id: u32) {
        self.insert(task, id);
    }
}

/// The epoch of the last walk. The thread that holds the lock may write stamps.
static EPOCH: Mutex<u64> = Mutex::new(0);

/// TaskNumbers every task that the outputs need.
///
/// # Errors
/// [`ErrorKind::TooLarge`] for more tasks or dependencies than a `u32` can number.
///
/// # Complexity
/// O(V + E) time and space.
pub(super) fn gather(outputs: &[TaskRef]) -> Result<Gathered> {
    match EPOCH.try_lock() {
        Some(mut epoch) => {
            *epoch += 1;
            Gatherer::new(Stamps { epoch: *epoch }).gather(outputs)
        }
        None => Gatherer::new(HashMap::new()).gather(outputs),
    }
}

/// The key of a pure call: the types of function and arguments, the plain arguments, and the
/// numbers of the inputs. Calls with equal keys need one run.
type PureCall = (TypeId, Box<[u8]>, Box<[u32]>);

struct Gatherer<N> {
    graph: Gathered,
    numbers: N,
    pure: HashMap<PureCall, u32>,
    /// The inputs of the open tasks.
    inputs: Vec<TaskRef>,
    open: Vec<OpenTask>,
}

/// A task whose inputs are being numbered: they begin at `first`, and `next` is the first that is
/// left.
struct OpenTask {
    task: TaskRef,
    first: usize,
    next: usize,
}

impl<N: TaskNumbers> Gatherer<N> {
    fn new(numbers: N) -> Self {
        // In a small graph each allocation counts.
        const SMALL: usize = 16;
        let mut graph = Gathered {
            tasks: Vec::with_capacity(SMALL),
            calls: Vec::with_capacity(SMALL),
            row: Vec::with_capacity(SMALL),
            inputs: Vec::with_capacity(SMALL),
            is_chain: true,
            ..Gathered::default()
        };
        graph.row.push(0);
        Gatherer {
            graph,
            numbers,
            pure: HashMap::new(),
            inputs: Vec::with_capacity(SMALL),
            open: Vec::with_capacity(SMALL),
        }
    }

    fn gather(mut self, outputs: &[TaskRef]) -> Result<Gathered> {
        self.graph.outputs.reserve_exact(outputs.len());
        for &output in outputs {
            self.reach(output)?;
            while let Some(top) = self.open.last_mut() {
                match self.inputs.get(top.next) {
                    Some(&input) => {
                        top.next += 1;
                        self.reach(input)?;
                    }
                    None => {
                        let OpenTask { task, first, .. } = *top;
                        self.open.pop();
                        self.number(task, first)?;
                    }
                }
            }
            let id = self.numbers.get(output).expect("an output is numbered");
            self.graph.outputs.push(id);
        }
        Ok(self.graph)
    }

    #[inline]
    #[expect(unsafe_code, reason = "it calls one of the typed functions of a task's kind")]
    fn reach(&mut self, task: TaskRef) -> Result<()> {
        if self.numbers.get(task).is_some() {
            return Ok(());
        }
        let first = self.inputs.len();
        // Room for the inputs of most tasks, so that a deep graph gets it on large pages.
        pages::reserve(&mut self.inputs, 16);
        // SAFETY: own task: the function comes from the kind of `task`, which the outputs keep
        // alive.
        unsafe { (task.kind().visit_inputs)(task, &mut self.inputs) };
        if let Some(options) = task.options() {
            self.inputs.extend(options.after.iter().map(Task::as_ref));
        }
        if self.inputs.len() == first {
            return self.number(task, first);
        }
        pages::reserve(&mut self.open, 1);
        self.open.push(OpenTask { task, first, next: first });
        Ok(())
    }

    /// Gives a number to a task whose inputs have numbers.
    #[inline]
    fn number(&mut self, task: TaskRef, first: usize) -> Result<()> {
        let graph = &mut self.graph;
        let numbers = &self.numbers;
        let start = graph.inputs.len();
        pages::reserve(&mut graph.inputs, self.inputs.len() - first);
        // Not `extend` over a `drain`: for the one or two inputs of most tasks its bookkeeping took
        // a sixth of a chain's plan.
        for &input in &self.inputs[first..] {
            graph.inputs.push(numbers.get(input).expect("an input is numbered before its reader"));
        }
        self.inputs.truncate(first);
        let id = graph.tasks.len();
        if id >= u32::MAX as usize || graph.inputs.len() > u32::MAX as usize {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "a graph can have 2^32 - 1 tasks and as many dependencies; compute it in parts",
            ));
        }
        if let Some(options) = task.options() {
            if let Some(token) = &options.pure {
                let key = ((task.kind().type_id)(), token.clone(), graph.inputs[start..].into());
                if let Some(&same) = self.pure.get(&key) {
                    graph.inputs.truncate(start);
                    self.numbers.set(task, same);
                    return Ok(());
                }
                self.pure.insert(key, id as u32);
            }
            graph.with_options.push(id as u32);
        }
        graph.is_chain = graph.is_chain && (id == 0 || graph.inputs[start..].contains(&(id as u32 - 1)));
        pages::reserve(&mut graph.tasks, 1);
        graph.tasks.push(task);
        pages::reserve(&mut graph.calls, 1);
        graph.calls.push(task.kind().call);
        if task.kind().tolerates.is_some() {
            graph.tolerant.push(id as u32);
        }
        graph.has_counted |= task.kind().drop_value.is_some();
        pages::reserve(&mut graph.row, 1);
        graph.row.push(graph.inputs.len() as u32);
        self.numbers.set(task, id as u32);
        Ok(())
    }
}
