//! A copy of a plan's shape and of the names of its tasks.
//!
//! A graph holds no handles, so a picture or a profile keeps no task alive.
//!
//! # What is always true
//!
//! 1. Ids are those of the plan, or of several plans one after another: `0..num_tasks`, every task
//!    after its inputs.
//! 2. Every task has a *family*: the tasks of one function or, with given names, the tasks whose
//!    names differ in numbers only. Families are numbered in the order of their first tasks. A
//!    collapsed picture has one box for each family.

mod stored;

pub(in crate::diagnostics) use stored::StoredGraph;

use super::text;
use crate::graph::node::{Kind, TaskRef};
use crate::graph::plan::Plan;
use crate::graph::task::argument_texts;
use std::any::TypeId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub(in crate::diagnostics) struct Graph {
    /// The inputs of task `i` are `inputs[row[i]..row[i + 1]]`.
    row: Vec<u32>,
    inputs: Vec<u32>,
    /// For each task with order-only inputs, how many of its last inputs these are.
    num_after: HashMap<u32, u32>,
    /// Ascending, each once.
    outputs: Vec<u32>,
    /// The index of each task's name in `names`.
    name: Vec<u32>,
    names: Vec<Arc<str>>,
    family: Vec<u32>,
    families: Vec<Arc<str>>,
    kind: Vec<TaskKind>,
    /// The plain arguments of each task; empty for a graph of more than [`MAX_WITH_ARGUMENTS`]
    /// tasks.
    arguments: Vec<Box<str>>,
}

/// A graph that grows by the graphs of further runs.
#[derive(Debug, Default)]
pub(in crate::diagnostics) struct Growing {
    /// Copied if it is shared when a graph is added.
    graph: Arc<Graph>,
    by_name: HashMap<Arc<str>, u32>,
    by_family: HashMap<Arc<str>, u32>,
}

impl Growing {
    /// Adds one [of many](Graph::of_many) graphs, and returns the id of its first task.
    ///
    /// # Complexity
    /// O(V + E) of what is added.
    pub(in crate::diagnostics) fn add(&mut self, other: &Graph) -> u32 {
        let Growing { graph, by_name, by_family } = self;
        let graph = Arc::make_mut(graph);
        let first = graph.num_tasks() as u32;
        let families: Vec<u32> = other
            .families
            .iter()
            .map(|family| {
                *by_family.entry(Arc::clone(family)).or_insert_with(|| {
                    graph.families.push(Arc::clone(family));
                    (graph.families.len() - 1) as u32
                })
            })
            .collect();
        // The name of a function is shared by many tasks; a given name is not.
        let of_functions: HashSet<&str> = other.families.iter().map(|family| &**family).collect();
        let names: Vec<u32> = other
            .names
            .iter()
            .map(|name| {
                let mut push = || {
                    graph.names.push(Arc::clone(name));
                    (graph.names.len() - 1) as u32
                };
                match of_functions.contains(&**name) {
                    true => *by_name.entry(Arc::clone(name)).or_insert_with(push),
                    false => push(),
                }
            })
            .collect();
        if graph.row.is_empty() {
            graph.row.push(0);
        }
        let num_inputs = graph.inputs.len() as u32;
        graph.row.extend(other.row.iter().skip(1).map(|end| num_inputs + end));
        graph.inputs.extend(other.inputs.iter().map(|input| first + input));
        graph.num_after.extend(other.num_after.iter().map(|(id, count)| (first + id, *count)));
        graph.outputs.extend(other.outputs.iter().map(|id| first + id));
        graph.name.extend(other.name.iter().map(|name| names[*name as usize]));
        graph.family.extend(other.family.iter().map(|family| families[*family as usize]));
        graph.kind.extend_from_slice(&other.kind);
        first
    }

    pub(in crate::diagnostics) fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }
}

/// The arguments of a larger graph are not readable in a picture.
const MAX_WITH_ARGUMENTS: usize = 10_000;

/// Where a task can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::diagnostics) enum TaskKind {
    /// In any process.
    Portable,
    /// In this process only.
    Local,
    /// Nowhere: the task is a value.
    Value,
}

impl TaskKind {
    fn of(task: TaskRef) -> TaskKind {
        match task.kind().code {
            Some(_) => TaskKind::Portable,
            None if task.kind().is_value => TaskKind::Value,
            None => TaskKind::Local,
        }
    }
}

impl Graph {
    /// # Complexity
    /// O(V + E).
    pub(in crate::diagnostics) fn of(plan: &Plan) -> Graph {
        let arguments = match plan.num_tasks() <= MAX_WITH_ARGUMENTS {
            true => plan.tasks().iter().map(|&task| argument_texts(task).join(", ").into()).collect(),
            false => Vec::new(),
        };
        Graph { arguments, ..Graph::without_arguments(plan) }
    }

    /// As [`Graph::of`], without arguments. So no user code is called to format them.
    pub(in crate::diagnostics) fn without_arguments(plan: &Plan) -> Graph {
        Graph::with_names(plan, &mut Names::default())
    }

    /// The same, for a plan that shares its families with other plans: a family with one task here
    /// is not named after this task.
    pub(in crate::diagnostics) fn of_many(plan: &Plan) -> Graph {
        Graph::with_names(plan, &mut Names { are_of_many: true, ..Names::default() })
    }

    fn with_names(plan: &Plan, names: &mut Names) -> Graph {
        let mut num_after = HashMap::new();
        let mut name = Vec::with_capacity(plan.num_tasks());
        let mut family = Vec::with_capacity(plan.num_tasks());
        for (id, &task) in plan.tasks().iter().enumerate() {
            let (task_name, task_family) = names.of(task);
            name.push(task_name);
            family.push(task_family);
            let after = task.options().map_or(0, |options| options.after.len());
            if after > 0 {
                num_after.insert(id as u32, after as u32);
            }
        }
        let mut outputs = plan.outputs().to_vec();
        outputs.sort_unstable();
        outputs.dedup();
        Graph {
            row: plan.row().to_vec(),
            inputs: plan.all_inputs().to_vec(),
            num_after,
            outputs,
            name,
            families: names.families(),
            names: std::mem::take(&mut names.names),
            family,
            kind: plan.tasks().iter().map(|&task| TaskKind::of(task)).collect(),
            arguments: Vec::new(),
        }
    }

    pub(in crate::diagnostics) fn num_tasks(&self) -> usize {
        self.name.len()
    }

    pub(in crate::diagnostics) fn num_dependencies(&self) -> usize {
        self.inputs.len()
    }

    /// The inputs that the task reads, and the inputs that it only comes after.
    pub(in crate::diagnostics) fn inputs(&self, id: u32) -> (&[u32], &[u32]) {
        let inputs = &self.inputs[self.row[id as usize] as usize..self.row[id as usize + 1] as usize];
        let num_after = self.num_after.get(&id).copied().unwrap_or(0) as usize;
        inputs.split_at(inputs.len() - num_after)
    }

    pub(in crate::diagnostics) fn all_inputs(&self, id: u32) -> &[u32] {
        &self.inputs[self.row[id as usize] as usize..self.row[id as usize + 1] as usize]
    }

    pub(in crate::diagnostics) fn is_output(&self, id: u32) -> bool {
        self.outputs.binary_search(&id).is_ok()
    }

    pub(in crate::diagnostics) fn outputs(&self) -> &[u32] {
        &self.outputs
    }

    /// The name of the output, and the number of further outputs.
    pub(in crate::diagnostics) fn title(&self) -> String {
        match self.outputs() {
            [] => "nothing".to_owned(),
            [output] => self.name(*output).to_string(),
            [first, others @ ..] => format!("{} and {} more", self.name(*first), others.len()),
        }
    }

    pub(in crate::diagnostics) fn name(&self, id: u32) -> &Arc<str> {
        &self.names[self.name[id as usize] as usize]
    }

    pub(in crate::diagnostics) fn family(&self, id: u32) -> u32 {
        self.family[id as usize]
    }

    pub(in crate::diagnostics) fn family_name(&self, family: u32) -> &Arc<str> {
        &self.families[family as usize]
    }

    pub(in crate::diagnostics) fn num_families(&self) -> usize {
        self.families.len()
    }

    pub(in crate::diagnostics) fn kind(&self, id: u32) -> TaskKind {
        self.kind[id as usize]
    }

    /// The plain arguments, if there are any and the graph is small enough to keep them.
    pub(in crate::diagnostics) fn arguments(&self, id: u32) -> Option<&str> {
        self.arguments.get(id as usize).map(|arguments| &**arguments).filter(|arguments| !arguments.is_empty())
    }

    /// The approximate memory of the graph.
    #[cfg(feature = "dashboard")]
    pub(in crate::diagnostics) fn num_bytes(&self) -> usize {
        const OF_TASK: usize = 3 * size_of::<u32>() + size_of::<TaskKind>();
        let names = self.names.iter().chain(&self.families).map(|name| name.len() + size_of::<Arc<str>>() + 16);
        self.num_tasks() * OF_TASK + self.inputs.len() * size_of::<u32>() + names.sum::<usize>()
    }

    /// The number of tasks before each task on its longest path.
    pub(in crate::diagnostics) fn depths(&self) -> Vec<u32> {
        let mut depths: Vec<u32> = Vec::with_capacity(self.num_tasks());
        for id in 0..self.num_tasks() as u32 {
            let depth = self.all_inputs(id).iter().map(|&input| depths[input as usize] + 1).max();
            depths.push(depth.unwrap_or(0));
        }
        depths
    }

    /// The heaviest path through the graph. Without weights, all tasks weigh the same.
    ///
    /// Of several heaviest paths, it is the one whose last task has the lowest id; before each of
    /// its tasks, it takes the first of the heaviest inputs.
    ///
    /// # Complexity
    /// O(V + E).
    pub(in crate::diagnostics) fn critical_path(&self, weights: Option<&[f64]>) -> Vec<u32> {
        let mut arrival: Vec<f64> = Vec::with_capacity(self.num_tasks());
        let mut last: Option<u32> = None;
        for id in 0..self.num_tasks() as u32 {
            let start = self.all_inputs(id).iter().map(|&input| arrival[input as usize]).fold(0.0, f64::max);
            arrival.push(start + weights.map_or(1.0, |weights| weights[id as usize]));
            if last.is_none_or(|last| arrival[id as usize] > arrival[last as usize]) {
                last = Some(id);
            }
        }
        let mut path: Vec<u32> = last.into_iter().collect();
        while let Some(&id) = path.last() {
            let inputs = self.all_inputs(id).iter().copied();
            let heaviest = inputs.reduce(|a, b| if arrival[b as usize] > arrival[a as usize] { b } else { a });
            match heaviest {
                Some(input) => path.push(input),
                None => break,
            }
        }
        path.reverse();
        path
    }
}

/// Numbers names and families, so that a million tasks of one function share one name.
#[derive(Default)]
struct Names {
    names: Vec<Arc<str>>,
    /// By the address of the static name of the function's type.
    of_function: HashMap<(usize, TypeId), (u32, u32)>,
    /// The kind of the last task without a given name, which the next task often shares.
    last: Option<(*const Kind, (u32, u32))>,
    of_family: HashMap<Family, u32>,
    members: Vec<(Family, usize, u32)>,
    /// Whether other plans share these families.
    are_of_many: bool,
}

/// The common property of the tasks of a family.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Family {
    Named(String),
    /// The closures of one function share a name, but not a type.
    Closure(Arc<str>, TypeId),
}

impl Names {
    /// The numbers of the task's name and of its family.
    fn of(&mut self, task: TaskRef) -> (u32, u32) {
        let given = task.options().and_then(|options| options.name.as_ref());
        let (name, family) = match given {
            Some(given) => {
                let family = self.family(Family::Named(text::without_numbers(given)));
                self.names.push(Arc::clone(given));
                (self.names.len() as u32 - 1, family)
            }
            None if self.last.is_some_and(|(kind, _)| std::ptr::eq(kind, task.kind())) => {
                self.last.map_or((0, 0), |(_, numbers)| numbers)
            }
            None => {
                let type_name = (task.kind().type_name)();
                let type_id = (task.kind().type_id)();
                let key = (type_name.as_ptr().addr(), type_id);
                let numbers = match self.of_function.get(&key) {
                    Some(&known) => known,
                    None => {
                        let name = crate::graph::name::of_task(task);
                        let family = match type_name.ends_with("{{closure}}") {
                            true => Family::Closure(Arc::clone(&name), type_id),
                            false => Family::Named(name.to_string()),
                        };
                        let family = self.family(family);
                        self.names.push(name);
                        let numbers = (self.names.len() as u32 - 1, family);
                        self.of_function.insert(key, numbers);
                        numbers
                    }
                };
                self.last = Some((std::ptr::from_ref(task.kind()), numbers));
                numbers
            }
        };
        self.members[family as usize].1 += 1;
        (name, family)
    }

    fn family(&mut self, family: Family) -> u32 {
        let next = self.members.len() as u32;
        match self.of_family.get(&family) {
            Some(&number) => number,
            None => {
                self.of_family.insert(family.clone(), next);
                self.members.push((family, 0, self.names.len() as u32));
                next
            }
        }
    }

    /// The name of each family. A family with one task has the name of this task.
    fn families(&self) -> Vec<Arc<str>> {
        let mut num_closures: HashMap<&str, usize> = HashMap::new();
        for (family, ..) in &self.members {
            if let Family::Closure(name, _) = family {
                *num_closures.entry(name).or_default() += 1;
            }
        }
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let names = self.members.iter().map(|(family, num_tasks, first)| match family {
            Family::Named(_) if *num_tasks == 1 && !self.are_of_many => Arc::clone(&self.names[*first as usize]),
            Family::Named(pattern) => pattern.as_str().into(),
            Family::Closure(name, _) if num_closures[&**name] == 1 => Arc::clone(name),
            Family::Closure(name, _) => {
                let number = seen.entry(name).or_default();
                *number += 1;
                format!("{name} ({number})").into()
            }
        });
        names.collect()
    }
}
