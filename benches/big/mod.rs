//! The big graphs that the scheduler's benches share, as rules.
//!
//! A [`Shape`] defines which tasks a task reads; it holds no graph. Every system builds its own
//! graph from the same rule, so that building can be timed and values can be compared. Ids are a
//! topological order: a task reads only tasks of lower ids.
//!
//! The value of a task is `1 + the sum of its inputs`, wrapping, passed through [`busy`] if a bench
//! needs work.

#![allow(dead_code, reason = "each bench uses its part of the shared code")]

use std::ops::Range;

/// How big the graphs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// About a million tasks each, for the marks.
    Full,
    /// A few thousand tasks each: proves that the bench works, in seconds.
    Quick,
    /// A few hundred tasks each, for tasks that take long.
    Coarse,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    Chain,
    Independent,
    Reduce { num_leaves: u32 },
    Stencil { width: u32 },
    Fft { width: u32 },
    Random,
    Fan,
}

/// A graph as a rule: what task `i` reads, and which tasks are the outputs.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    rule: Rule,
    num_tasks: u32,
    outputs: Vec<u32>,
}

/// All seven shapes, in the order of the tables.
pub(crate) fn shapes(size: Size) -> Vec<Shape> {
    let (flat, num_leaves, width, steps) = match size {
        Size::Full => (1_000_000, 1 << 19, 64, 10_000),
        Size::Quick => (10_000, 1 << 12, 64, 150),
        Size::Coarse => (512, 256, 64, 8),
    };
    vec![
        Shape::chain(flat),
        Shape::independent(flat),
        Shape::reduce(num_leaves),
        Shape::stencil(width, steps),
        Shape::fft(width, steps),
        Shape::random(flat),
        Shape::fan(flat),
    ]
}

impl Shape {
    fn new(name: &'static str, rule: Rule, num_tasks: u32, outputs: Range<u32>) -> Self {
        Shape { name, rule, num_tasks, outputs: outputs.collect() }
    }

    /// One task after another.
    pub(crate) fn chain(num_tasks: u32) -> Self {
        Shape::new("chain", Rule::Chain, num_tasks, num_tasks - 1..num_tasks)
    }

    /// Independent tasks. All of them are outputs.
    pub(crate) fn independent(num_tasks: u32) -> Self {
        Shape::new("independent", Rule::Independent, num_tasks, 0..num_tasks)
    }

    /// A binary tree, from a power of two of leaves to one sum.
    pub(crate) fn reduce(num_leaves: u32) -> Self {
        assert!(num_leaves.is_power_of_two(), "a binary tree needs a power of two of leaves");
        let num_tasks = 2 * num_leaves - 1;
        Shape::new("reduce", Rule::Reduce { num_leaves }, num_tasks, num_tasks - 1..num_tasks)
    }

    /// Rows of `width` tasks; each reads its three neighbours in the row before. At an edge the
    /// neighbour that would lie outside is the edge itself, so that every task has three inputs.
    pub(crate) fn stencil(width: u32, steps: u32) -> Self {
        Shape::new("stencil", Rule::Stencil { width }, width * steps, width * (steps - 1)..width * steps)
    }

    /// Rows of `width` tasks, a power of two; each reads itself and its butterfly partner in the
    /// row before.
    pub(crate) fn fft(width: u32, steps: u32) -> Self {
        assert!(width.is_power_of_two() && width > 1, "butterflies need a power of two");
        Shape::new("fft", Rule::Fft { width }, width * steps, width * (steps - 1)..width * steps)
    }

    /// Every task but the first reads three tasks, drawn uniformly from all earlier ones; the same
    /// one may be drawn twice. The outputs are the tasks without readers.
    pub(crate) fn random(num_tasks: u32) -> Self {
        let mut shape = Shape::new("random", Rule::Random, num_tasks, 0..0);
        let mut is_read = vec![false; num_tasks as usize];
        let mut inputs = Vec::new();
        for task in 0..num_tasks {
            inputs.clear();
            shape.push_inputs(task, &mut inputs);
            for &input in &inputs {
                is_read[input as usize] = true;
            }
        }
        shape.outputs = (0..num_tasks).filter(|&task| !is_read[task as usize]).collect();
        shape
    }

    /// One task, `width` tasks that read it, and one that reads them all.
    pub(crate) fn fan(width: u32) -> Self {
        Shape::new("fan", Rule::Fan, width + 2, width + 1..width + 2)
    }

    pub(crate) fn num_tasks(&self) -> usize {
        self.num_tasks as usize
    }

    pub(crate) fn num_edges(&self) -> usize {
        let num_tasks = self.num_tasks();
        match self.rule {
            Rule::Chain => num_tasks - 1,
            Rule::Independent => 0,
            Rule::Reduce { .. } => num_tasks - 1,
            Rule::Stencil { width } => 3 * (num_tasks - width as usize),
            Rule::Fft { width } => 2 * (num_tasks - width as usize),
            Rule::Random => 3 * (num_tasks - 1),
            Rule::Fan => 2 * (num_tasks - 2),
        }
    }

    /// The tasks whose values are wanted.
    pub(crate) fn outputs(&self) -> &[u32] {
        &self.outputs
    }

    /// Appends the inputs of `task`.
    #[inline]
    pub(crate) fn push_inputs(&self, task: u32, inputs: &mut Vec<u32>) {
        match self.rule {
            Rule::Chain => {
                if task > 0 {
                    inputs.push(task - 1);
                }
            }
            Rule::Independent => {}
            // The inner tasks come level by level, so the k-th of them reads the k-th pair of all
            // tasks.
            Rule::Reduce { num_leaves } => {
                if task >= num_leaves {
                    let pair = 2 * (task - num_leaves);
                    inputs.extend([pair, pair + 1]);
                }
            }
            Rule::Stencil { width } => {
                if task >= width {
                    let (row, column) = (task - task % width - width, task % width);
                    inputs.extend([row + column.saturating_sub(1), row + column, row + (column + 1).min(width - 1)]);
                }
            }
            Rule::Fft { width } => {
                if task >= width {
                    let (level, column) = (task / width - 1, task % width);
                    let partner = column ^ (1 << (level % width.ilog2()));
                    inputs.extend([level * width + column, level * width + partner]);
                }
            }
            Rule::Random => {
                if task > 0 {
                    inputs.extend([0, 1, 2].map(|draw| random_below(task, 3 * u64::from(task) + draw)));
                }
            }
            Rule::Fan => {
                if task + 1 == self.num_tasks {
                    inputs.extend(1..task);
                } else if task > 0 {
                    inputs.push(0);
                }
            }
        }
    }

    /// Builds the graph as a program would; see [`Builder`].
    pub(crate) fn write<B: Builder>(&self, build: &B) -> Vec<B::Handle> {
        match self.rule {
            Rule::Chain => {
                let mut last = build.leaf();
                for _ in 1..self.num_tasks {
                    last = build.one(&last);
                }
                vec![last]
            }
            Rule::Independent => (0..self.num_tasks).map(|_| build.leaf()).collect(),
            Rule::Reduce { num_leaves } => {
                let mut level: Vec<_> = (0..num_leaves).map(|_| build.leaf()).collect();
                while level.len() > 1 {
                    level = level.chunks_exact(2).map(|pair| build.two(&pair[0], &pair[1])).collect();
                }
                level
            }
            Rule::Stencil { width } => {
                let mut row: Vec<_> = (0..width).map(|_| build.leaf()).collect();
                let last = row.len() - 1;
                for _ in 1..self.num_tasks / width {
                    row = (0..=last)
                        .map(|i| build.three(&row[i.saturating_sub(1)], &row[i], &row[(i + 1).min(last)]))
                        .collect();
                }
                row
            }
            Rule::Fft { width } => {
                let mut row: Vec<_> = (0..width).map(|_| build.leaf()).collect();
                for level in 0..self.num_tasks / width - 1 {
                    let bit = 1 << (level % width.ilog2());
                    row = (0..row.len()).map(|i| build.two(&row[i], &row[i ^ bit])).collect();
                }
                row
            }
            Rule::Random => {
                let mut tasks = Vec::with_capacity(self.num_tasks());
                tasks.push(build.leaf());
                let mut inputs = Vec::new();
                for task in 1..self.num_tasks {
                    inputs.clear();
                    self.push_inputs(task, &mut inputs);
                    let [a, b, c] = [0, 1, 2].map(|k| &tasks[inputs[k] as usize]);
                    tasks.push(build.three(a, b, c));
                }
                let mut outputs = self.outputs.iter().peekable();
                let mut wanted = Vec::with_capacity(self.outputs.len());
                for (task, handle) in tasks.into_iter().enumerate() {
                    if outputs.next_if(|&&output| output as usize == task).is_some() {
                        wanted.push(handle);
                    }
                }
                wanted
            }
            Rule::Fan => {
                let first = build.leaf();
                let middle = (2..self.num_tasks).map(|_| build.one(&first)).collect();
                vec![build.all(&middle)]
            }
        }
    }

    /// The best speed-up of `num_workers` over one worker if every task takes the same time: the
    /// number of tasks divided by the number of rounds of a greedy schedule.
    pub(crate) fn greedy_speed_up(&self, num_workers: usize) -> f64 {
        let mut dependents = vec![Vec::new(); self.num_tasks()];
        let mut unfinished = vec![0; self.num_tasks()];
        let mut inputs = Vec::new();
        for task in 0..self.num_tasks {
            inputs.clear();
            self.push_inputs(task, &mut inputs);
            unfinished[task as usize] = inputs.len();
            for &input in &inputs {
                dependents[input as usize].push(task as usize);
            }
        }
        let mut ready: Vec<usize> = (0..self.num_tasks()).filter(|&task| unfinished[task] == 0).collect();
        let mut num_rounds = 0;
        while !ready.is_empty() {
            num_rounds += 1;
            let mut later = ready.split_off(ready.len().min(num_workers));
            for task in ready {
                for &dependent in &dependents[task] {
                    unfinished[dependent] -= 1;
                    if unfinished[dependent] == 0 {
                        later.push(dependent);
                    }
                }
            }
            ready = later;
        }
        self.num_tasks() as f64 / f64::from(num_rounds)
    }
}

/// Makes the tasks of one system. Handles that a graph no longer needs are dropped on the way, as
/// in a program.
pub(crate) trait Builder {
    type Handle;
    fn leaf(&self) -> Self::Handle;
    fn one(&self, a: &Self::Handle) -> Self::Handle;
    fn two(&self, a: &Self::Handle, b: &Self::Handle) -> Self::Handle;
    fn three(&self, a: &Self::Handle, b: &Self::Handle, c: &Self::Handle) -> Self::Handle;
    #[expect(clippy::ptr_arg, reason = "a program has its handles in a vector and passes that")]
    fn all(&self, inputs: &Vec<Self::Handle>) -> Self::Handle;
}

/// A number below `bound`, the same for the same `draw` (SplitMix64).
fn random_below(bound: u32, draw: u64) -> u32 {
    let mut x = draw.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((((x ^ (x >> 31)) >> 32) * u64::from(bound)) >> 32) as u32
}

/// Works for `num_iterations` steps, each of which needs the one before: about 1.5 ns per step.
/// Returns `x` after no steps.
#[inline(never)]
pub(crate) fn busy(num_iterations: u32, mut x: i64) -> i64 {
    for _ in 0..num_iterations {
        x = (x ^ (x >> 29)).wrapping_mul(0x5851_f42d_4c95_7f2d);
    }
    x
}

/// The time of one step of [`busy`] in nanoseconds, the best of several tries.
pub(crate) fn step_ns() -> f64 {
    const NUM_STEPS: u32 = 1_000_000;
    (0..20)
        .map(|seed| {
            let start = std::time::Instant::now();
            std::hint::black_box(busy(NUM_STEPS, std::hint::black_box(seed)));
            start.elapsed().as_secs_f64() * 1e9 / f64::from(NUM_STEPS)
        })
        .fold(f64::INFINITY, f64::min)
}
