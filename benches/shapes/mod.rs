//! Graphs that tests and benches share. They are only shapes: their tasks have no functions.
//!
//! [`studies`] are the graphs of the first comparison of the order with Dask's. [`dask_cases`] are
//! the graphs of Dask's own tests of its `order.py`, rebuilt from their structure. [`large`] are
//! the graphs for measuring time. All are deterministic.

/// A graph: task `v` reads `pred[row[v]..row[v + 1]]`, all of them smaller than `v`.
#[derive(Clone, Debug)]
pub struct Shape {
    pub name: String,
    /// The start of each task's inputs; one entry more than tasks.
    pub row: Vec<u32>,
    pub pred: Vec<u32>,
    pub outputs: Vec<u32>,
}

impl Shape {
    pub fn new(name: impl Into<String>) -> Self {
        Shape { name: name.into(), row: vec![0], pred: Vec::new(), outputs: Vec::new() }
    }

    /// A graph from the inputs of every task, in turn.
    pub fn from_inputs(name: &str, inputs: &[&[u32]]) -> Self {
        let mut shape = Shape::new(name);
        for inputs in inputs {
            shape.task(inputs);
        }
        shape.ask_for_unread()
    }

    pub fn num_tasks(&self) -> usize {
        self.row.len() - 1
    }

    pub fn inputs(&self, task: u32) -> &[u32] {
        &self.pred[self.row[task as usize] as usize..self.row[task as usize + 1] as usize]
    }

    /// Adds a task that reads `inputs` and returns its id.
    pub fn task(&mut self, inputs: &[u32]) -> u32 {
        self.pred.extend_from_slice(inputs);
        self.row.push(self.pred.len() as u32);
        self.num_tasks() as u32 - 1
    }

    /// Adds `count` tasks without inputs.
    pub fn sources(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.task(&[])).collect()
    }

    /// Adds one reader for each task.
    pub fn map(&mut self, tasks: &[u32]) -> Vec<u32> {
        tasks.iter().map(|&task| self.task(&[task])).collect()
    }

    /// Adds a reduction: groups of `arity` become one task each, until one task is left.
    pub fn reduce(&mut self, tasks: &[u32], arity: usize) -> u32 {
        self.reduce_groups(tasks, arity, |shape, group| shape.task(group))
    }

    /// Adds a reduction in which a group of one passes to the next level unchanged.
    pub fn reduce_carrying(&mut self, tasks: &[u32], arity: usize) -> u32 {
        self.reduce_groups(tasks, arity, |shape, group| match *group {
            [alone] => alone,
            _ => shape.task(group),
        })
    }

    fn reduce_groups(&mut self, tasks: &[u32], arity: usize, mut combine: impl FnMut(&mut Self, &[u32]) -> u32) -> u32 {
        let mut level = tasks.to_vec();
        while level.len() > 1 {
            level = level.chunks(arity).map(|group| combine(self, group)).collect();
        }
        level[0]
    }

    /// Makes all tasks without readers outputs.
    pub fn ask_for_unread(mut self) -> Self {
        let mut unread = vec![true; self.num_tasks()];
        for &input in &self.pred {
            unread[input as usize] = false;
        }
        self.outputs = (0..self.num_tasks() as u32).filter(|&task| unread[task as usize]).collect();
        self
    }

    fn ask_for(mut self, outputs: Vec<u32>) -> Self {
        self.outputs = outputs;
        self
    }

    /// The same graph with the ids that a plan gives: a depth-first post-order from the outputs,
    /// inputs in their order.
    pub fn numbered(&self) -> Self {
        const UNSEEN: u32 = u32::MAX;
        let mut id = vec![UNSEEN; self.num_tasks()];
        let mut shape = Shape::new(self.name.clone());
        let mut seen = vec![false; self.num_tasks()];
        let mut path: Vec<(u32, usize)> = Vec::new();
        for &output in &self.outputs {
            if !std::mem::replace(&mut seen[output as usize], true) {
                path.push((output, 0));
            }
            while let Some((task, next)) = path.last_mut() {
                let (task, inputs) = (*task, self.inputs(*task));
                if let Some(&input) = inputs.get(*next) {
                    *next += 1;
                    if !std::mem::replace(&mut seen[input as usize], true) {
                        path.push((input, 0));
                    }
                } else {
                    path.pop();
                    let inputs: Vec<u32> = inputs.iter().map(|&input| id[input as usize]).collect();
                    id[task as usize] = shape.task(&inputs);
                }
            }
        }
        shape.outputs = self.outputs.iter().map(|&output| id[output as usize]).collect();
        shape
    }
}

/// A small fixed random number generator (xorshift), so that a seed gives the same numbers
/// everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // An odd multiple of an odd number is never 0, at which the generator would stay.
        Random((seed | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % u64::from(bound)) as u32
    }
}

/// A random graph: each task reads up to `max_inputs` of the `window` tasks before it, one of them
/// perhaps more than once.
pub fn random(seed: u64, tasks: u32, max_inputs: u32, window: u32) -> Shape {
    let mut random = Random::new(seed);
    let mut shape = Shape::new(format!("random {seed} {tasks} {max_inputs} {window}"));
    let mut inputs = Vec::new();
    for task in 0..tasks {
        let reach = task.min(window);
        inputs.clear();
        if reach > 0 {
            let count = random.below(max_inputs + 1);
            inputs.extend((0..count).map(|_| task - 1 - random.below(reach)));
        }
        shape.task(&inputs);
    }
    shape.ask_for_unread()
}

pub fn chain(length: usize) -> Shape {
    let mut shape = Shape::new(format!("chain {length}"));
    let mut last = shape.task(&[]);
    for _ in 1..length {
        last = shape.task(&[last]);
    }
    shape.ask_for(vec![last])
}

pub fn independent(count: usize) -> Shape {
    let mut shape = Shape::new(format!("independent {count}"));
    shape.sources(count);
    shape.ask_for_unread()
}

pub fn tree(leaves: usize) -> Shape {
    let mut shape = Shape::new(format!("tree {leaves}"));
    let sources = shape.sources(leaves);
    let root = shape.reduce(&sources, 2);
    shape.ask_for(vec![root])
}

/// Steps of a row of cells. Each cell reads itself and its two neighbours.
pub fn stencil(width: usize, steps: usize) -> Shape {
    let mut shape = Shape::new(format!("stencil {width}x{steps}"));
    let mut row = shape.sources(width);
    for _ in 0..steps {
        row = (0..width).map(|i| shape.task(&row[i.saturating_sub(1)..(i + 2).min(width)])).collect();
    }
    shape.ask_for(row)
}

/// The butterflies of a fast Fourier transform, repeated. `width` is a power of two.
pub fn butterflies(width: usize, steps: usize) -> Shape {
    let mut shape = Shape::new(format!("fft {width}x{steps}"));
    let levels = width.trailing_zeros() as usize;
    let mut row = shape.sources(width);
    for step in 0..steps {
        row = (0..width).map(|i| shape.task(&[row[i], row[i ^ (1 << (step % levels))]])).collect();
    }
    shape.ask_for(row)
}

/// Each task reads three tasks, any of those before it.
pub fn thicket(tasks: u32) -> Shape {
    let mut shape = Shape::new(format!("random {tasks}, 3 inputs"));
    let mut random = Random::new(1);
    shape.task(&[]);
    for task in 1..tasks {
        let inputs = [0; 3].map(|_| random.below(task));
        shape.task(&inputs);
    }
    shape.ask_for_unread()
}

/// One task, many tasks that read it, and one that reads them all.
pub fn fan(width: usize) -> Shape {
    let mut shape = Shape::new(format!("fan {width}"));
    let first = shape.task(&[]);
    let middle: Vec<u32> = (0..width).map(|_| shape.task(&[first])).collect();
    let last = shape.task(&middle);
    shape.ask_for(vec![last])
}

/// About a million tasks each. They are made one at a time, since each takes tens of megabytes.
pub fn large() -> Vec<fn() -> Shape> {
    vec![
        || chain(1_000_000),
        || independent(1_000_000),
        || tree(1 << 19),
        || stencil(64, 10_000),
        || butterflies(64, 10_000),
        || thicket(1_000_000),
        || fan(1_000_000),
    ]
}

/// The shapes of the first comparison with Dask: 300 to 2,000 tasks of what array programs do.
pub fn studies() -> Vec<Shape> {
    let named = |name: &str, shape: Shape| Shape { name: name.into(), ..shape };
    vec![
        named("tree1024", tree(1024)),
        plus_transpose(20, false),
        plus_transpose(20, true),
        shuffle(24),
        rechunk_three_to_two(32),
        tensordot(10, false),
        tensordot(10, true),
        chains_and_sum(16, 100),
        overlap(256, false),
        overlap(256, true),
        two_reductions(256),
        four_reductions(256),
        anomaly(128),
        grouped_anomaly(12, 24),
        store(256, 4),
        named("stencil 32x40", stencil(32, 40)),
        tall_skinny_qr(64),
        near_random(2000),
    ]
}

/// `x + x.T`, by blocks: stored, or summed.
fn plus_transpose(side: usize, sum: bool) -> Shape {
    let mut shape = Shape::new(format!("x+xT {} {side}x{side}", if sum { "sum" } else { "store" }));
    let x = shape.sources(side * side);
    let transposed: Vec<u32> = (0..side * side).map(|k| shape.task(&[x[(k % side) * side + k / side]])).collect();
    let added: Vec<u32> = x.iter().zip(&transposed).map(|(&a, &b)| shape.task(&[a, b])).collect();
    if !sum {
        return shape.ask_for(added);
    }
    let sums = shape.map(&added);
    let total = shape.reduce(&sums, 4);
    shape.ask_for(vec![total])
}

/// Every input is split for every output.
fn shuffle(side: usize) -> Shape {
    let mut shape = Shape::new(format!("shuffle {side}x{side}"));
    let inputs = shape.sources(side);
    let splits: Vec<Vec<u32>> = inputs.iter().map(|&input| shape.map(&vec![input; side])).collect();
    let mut outputs = Vec::new();
    for column in 0..side {
        let parts: Vec<u32> = splits.iter().map(|split| split[column]).collect();
        let joined = shape.task(&parts);
        outputs.push(shape.task(&[joined]));
    }
    shape.ask_for(outputs)
}

/// Three blocks become two, the middle one cut in half.
fn rechunk_three_to_two(groups: usize) -> Shape {
    let mut shape = Shape::new("rechunk 2:3");
    let blocks = shape.sources(groups * 3);
    let mut outputs = Vec::new();
    for group in blocks.chunks(3) {
        let halves = shape.map(&[group[1], group[1]]);
        let left = shape.task(&[group[0], halves[0]]);
        let right = shape.task(&[halves[1], group[2]]);
        outputs.extend(shape.map(&[left, right]));
    }
    shape.ask_for(outputs)
}

/// A product of two square matrices of blocks. Each output sums its products at once or by a tree.
fn tensordot(side: usize, by_tree: bool) -> Shape {
    let mut shape = Shape::new(format!("tensordot {side}^3 {}", if by_tree { "tree" } else { "flat" }));
    let a = shape.sources(side * side);
    let b = shape.sources(side * side);
    let mut outputs = Vec::new();
    for i in 0..side {
        for j in 0..side {
            let products: Vec<u32> = (0..side).map(|k| shape.task(&[a[i * side + k], b[k * side + j]])).collect();
            outputs.push(if by_tree { shape.reduce(&products, 4) } else { shape.task(&products) });
        }
    }
    shape.ask_for(outputs)
}

fn chains_and_sum(count: usize, length: usize) -> Shape {
    let mut shape = Shape::new(format!("{count} chains x{length} + sum"));
    let mut ends = Vec::new();
    for _ in 0..count {
        let mut last = shape.task(&[]);
        for _ in 1..length {
            last = shape.task(&[last]);
        }
        ends.push(last);
    }
    let sum = shape.task(&ends);
    shape.ask_for(vec![sum])
}

/// Blocks with the edges of their neighbours: stored, or summed.
fn overlap(blocks: usize, sum: bool) -> Shape {
    let mut shape = Shape::new(format!("overlap {blocks} {}", if sum { "sum" } else { "store" }));
    let x = shape.sources(blocks);
    let left = shape.map(&x);
    let right = shape.map(&x);
    let mut results = Vec::new();
    for (i, &block) in x.iter().enumerate() {
        let mut inputs = vec![block];
        inputs.extend(i.checked_sub(1).map(|before| right[before]));
        inputs.extend(left.get(i + 1));
        let joined = shape.task(&inputs);
        results.push(shape.task(&[joined]));
    }
    if !sum {
        return shape.ask_for(results);
    }
    let total = shape.reduce(&results, 4);
    shape.ask_for(vec![total])
}

fn two_reductions(blocks: usize) -> Shape {
    let mut shape = Shape::new(format!("2 reductions {blocks}"));
    let x = shape.sources(blocks);
    let (first, second) = (shape.map(&x), shape.map(&x));
    let (first, second) = (shape.reduce(&first, 4), shape.reduce(&second, 4));
    let both = shape.task(&[first, second]);
    shape.ask_for(vec![both])
}

fn four_reductions(blocks: usize) -> Shape {
    let mut shape = Shape::new(format!("4 reductions {blocks}"));
    let x = shape.sources(blocks);
    let mut outputs = Vec::new();
    for _ in 0..4 {
        let parts = shape.map(&x);
        outputs.push(shape.reduce(&parts, 4));
    }
    shape.ask_for(outputs)
}

/// The sum of `x - mean(x)`.
fn anomaly(blocks: usize) -> Shape {
    let mut shape = Shape::new(format!("anomaly x-mean(x) {blocks}"));
    let x = shape.sources(blocks);
    let parts = shape.map(&x);
    let mean = shape.reduce(&parts, 4);
    let differences: Vec<u32> = x.iter().map(|&block| shape.task(&[block, mean])).collect();
    let parts = shape.map(&differences);
    let total = shape.reduce(&parts, 4);
    shape.ask_for(vec![total])
}

/// `x - mean(x)` by groups, stored.
fn grouped_anomaly(groups: usize, blocks: usize) -> Shape {
    let mut shape = Shape::new(format!("grouped anomaly {groups}x{blocks}"));
    let mut outputs = Vec::new();
    for _ in 0..groups {
        let x = shape.sources(blocks);
        let parts = shape.map(&x);
        let mean = shape.reduce(&parts, 4);
        outputs.extend(x.iter().map(|&block| shape.task(&[block, mean])));
    }
    shape.ask_for(outputs)
}

fn store(count: usize, length: usize) -> Shape {
    let mut shape = Shape::new(format!("store {count}x{length}"));
    let mut outputs = Vec::new();
    for _ in 0..count {
        let mut last = shape.task(&[]);
        for _ in 1..length {
            last = shape.task(&[last]);
        }
        outputs.push(last);
    }
    shape.ask_for(outputs)
}

/// A tall matrix's Q and R: factor the blocks, factor the stacked Rs, multiply back.
fn tall_skinny_qr(blocks: usize) -> Shape {
    let mut shape = Shape::new(format!("tsqr {blocks}"));
    let (mut q, mut r) = (Vec::new(), Vec::new());
    for _ in 0..blocks {
        let block = shape.task(&[]);
        let factors = shape.task(&[block]);
        q.push(shape.task(&[factors]));
        r.push(shape.task(&[factors]));
    }
    let stacked = shape.task(&r);
    let factors = shape.task(&[stacked]);
    let inner_q = shape.task(&[factors]);
    let mut outputs = vec![shape.task(&[factors])];
    for q in q {
        let slice = shape.task(&[inner_q]);
        outputs.push(shape.task(&[q, slice]));
    }
    shape.ask_for(outputs)
}

/// Each task reads up to three of the 64 before it.
fn near_random(tasks: u32) -> Shape {
    let mut shape = Shape::new(format!("random {tasks} 3-in"));
    let mut state = 88_172_645_463_325_252_u64;
    for task in 0..tasks {
        let mut inputs = Vec::new();
        if task > 0 {
            let first = task.saturating_sub(64);
            for _ in 0..3 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                inputs.push(first + (state % u64::from(task - first)) as u32);
            }
            inputs.sort_unstable();
            inputs.dedup();
        }
        shape.task(&inputs);
    }
    shape.ask_for_unread()
}

/// The graphs that Dask's tests of its order use, rebuilt; the names are those of the tests.
pub fn dask_cases() -> Vec<Shape> {
    let mut cases = vec![
        Shape::from_inputs("keeps_groups_together", &[&[], &[], &[], &[], &[0, 2], &[1, 3]]),
        Shape::from_inputs("avoid_broker_nodes", &[&[], &[], &[0], &[1], &[1]]),
        Shape::from_inputs("base_of_reduce_preferred", &[&[], &[0], &[0], &[0], &[0], &[1], &[5, 2], &[6, 3], &[7, 4]]),
        Shape::from_inputs("avoid_upwards_branching", &[&[], &[0], &[], &[2], &[3], &[1, 4], &[5], &[6], &[4]]),
        Shape::from_inputs(
            "avoid_upwards_branching_complex",
            &[&[], &[0], &[], &[2], &[3], &[1, 4], &[5], &[6], &[4], &[8], &[8], &[1], &[11]],
        ),
        Shape::from_inputs("deep_bases_win_over_dependents", &[&[], &[], &[0, 1], &[0], &[2, 3, 0]]),
        Shape::from_inputs("prefer_deep", &[&[], &[0], &[1], &[], &[3]]),
        Shape::from_inputs("favor_longest_critical_path", &[&[], &[0], &[0], &[0], &[3]]),
        Shape::from_inputs("run_smaller_sections", &[&[], &[], &[], &[], &[0, 1], &[1, 2], &[3], &[5, 6], &[3]]),
        Shape::from_inputs("local_parents_of_reduction", &[&[], &[0], &[1], &[], &[3, 1], &[4], &[], &[6, 4], &[7]]),
        Shape::from_inputs(
            "nearest_neighbor",
            &[&[], &[], &[], &[], &[0], &[0], &[0, 1], &[1], &[1, 2], &[2], &[2, 3], &[3], &[3]],
        ),
        Shape::from_inputs("prefer_short_narrow", &[&[], &[], &[], &[2, 0, 1], &[], &[], &[3, 4, 5]]),
        Shape::from_inputs("prefer_short_ancestor", &[&[], &[0], &[0], &[], &[3, 1, 2], &[0], &[0], &[4, 5, 6]]),
        map_overlap(),
        many_branches(),
        dependents_too_early(10),
        terminal_backtrack(),
        array_store_final_order(),
        sliding(10),
        Shape { name: "diagnostics".into(), ..sliding(5) },
        cumulative_products(20),
        Shape::from_inputs(
            "gh_3055_explicit",
            &[
                &[],
                &[0],
                &[],
                &[],
                &[],
                &[],
                &[1],
                &[1],
                &[1],
                &[2],
                &[2],
                &[3, 2],
                &[8, 11],
                &[8, 11],
                &[13],
                &[9, 10],
                &[6, 7],
                &[15, 16],
                &[17, 4],
                &[18, 5, 12],
            ],
        ),
    ];
    cases.extend([(2, 0), (2, 1), (1, 1), (1, 0)].map(|(ends, extra)| equal_dependents(ends, extra)));
    cases.push(free_parent());
    cases.push(xarray_like_reduction());
    cases.push(anomaly_mean_raw());
    cases.push(anomaly_mean(200, 5));
    cases.push(three_means(500));
    cases.push(flaky_array_reduction());
    cases.push(flox_reduction());
    cases.push(flox_reduction_2());
    for num_reducers in [4, 7] {
        for num_shared in [2, 5] {
            cases.extend([false, true].map(|keep| common_dependents(num_reducers, num_shared, keep)));
        }
    }
    cases.push(double_difference());
    cases.push(map_reduce_with_slicing());
    cases.push(rechunk_map_reduce_cohorts());
    cases.push(shared_factor(8));
    cases.push(stacked_rasters());
    cases
}

fn map_overlap() -> Shape {
    let mut shape = Shape::new("map_overlap");
    let ends = shape.sources(3);
    let wide = shape.map(&ends);
    let narrow = shape.sources(2);
    let left = shape.task(&[wide[0]]);
    let between = shape.task(&[wide[0], narrow[0], wide[1]]);
    let middle = shape.task(&[wide[1]]);
    let beyond = shape.task(&[wide[1], narrow[1], wide[2]]);
    let right = shape.task(&[wide[2]]);
    shape.task(&[left, between]);
    shape.task(&[between, middle, beyond]);
    shape.task(&[beyond, right]);
    shape.ask_for_unread()
}

fn many_branches() -> Shape {
    let mut shape = Shape::new("many_branches_use_ndependencies");
    let source = shape.task(&[]);
    let two_long = |shape: &mut Shape| {
        let first = shape.task(&[source]);
        shape.task(&[first])
    };
    let (a, b) = (two_long(&mut shape), two_long(&mut shape));
    let short = shape.task(&[source]);
    let mut pairs = Vec::new();
    for _ in 0..2 {
        let pair = [two_long(&mut shape), two_long(&mut shape)];
        pairs.push(shape.task(&pair));
    }
    shape.task(&[a, b, short, pairs[0], pairs[1]]);
    shape.ask_for_unread()
}

fn dependents_too_early(depth: usize) -> Shape {
    let mut shape = Shape::new("dont_run_all_dependents_too_early");
    let sources = shape.sources(3);
    let mut last = shape.task(&sources);
    for _ in 1..depth {
        let parts = shape.map(&sources[1..]);
        last = shape.task(&[last, parts[0], parts[1]]);
    }
    shape.ask_for(vec![last])
}

fn terminal_backtrack() -> Shape {
    let mut shape = Shape::new("terminal_node_backtrack");
    let mut stored = Vec::new();
    for _half in 0..2 {
        let a = shape.sources(3);
        let pairs: Vec<u32> = a.windows(2).map(|pair| shape.task(pair)).collect();
        stored.push(shape.map(&pairs));
    }
    shape.task(&[stored[0][0], stored[0][1], stored[1][0], stored[1][1]]);
    shape.ask_for_unread()
}

/// Two columns of four arrays joined and cut at other positions, each piece stored.
fn array_store_final_order() -> Shape {
    let mut shape = Shape::new("array_store_final_order");
    for _ in 0..2 {
        let array = shape.task(&[]);
        let target = shape.task(&[]);
        let block = shape.task(&[array]);
        let rest = shape.task(&[array]);
        let third = shape.task(&[array]);
        let block_part = shape.task(&[block]);
        let rest_part = shape.task(&[rest]);
        let target_part = shape.task(&[target]);
        let joined = shape.task(&[block_part, rest_part, target_part]);
        shape.task(&[joined]);
        let first = shape.task(&[target]);
        let head = shape.task(&[block]);
        let joined = shape.task(&[first, head]);
        shape.task(&[joined]);
        let whole = shape.task(&[array]);
        let whole = shape.task(&[whole]);
        shape.task(&[whole]);
        let second = shape.task(&[target]);
        let third_part = shape.task(&[third]);
        let joined = shape.task(&[second, third_part]);
        shape.task(&[joined]);
        let last = shape.task(&[target]);
        let rest_part = shape.task(&[rest]);
        let third_part = shape.task(&[third]);
        let joined = shape.task(&[last, rest_part, third_part]);
        shape.task(&[joined]);
    }
    shape.ask_for_unread()
}

/// Every output reads a window of three along a row, fewer at its beginning.
fn sliding(width: usize) -> Shape {
    let mut shape = Shape::new("use_structure_not_keys");
    let row = shape.sources(width);
    for i in 0..width {
        shape.task(&row[i.saturating_sub(2)..=i]);
    }
    shape.ask_for_unread()
}

/// One running sum over blocks: the sum so far is passed from block to block.
struct RunningSum {
    so_far: Option<u32>,
    last: Option<u32>,
}

impl RunningSum {
    fn add(&mut self, shape: &mut Shape, part: u32) -> u32 {
        match self.last.replace(part) {
            None => shape.task(&[part]),
            Some(last) => {
                let before = self.so_far.unwrap_or_else(|| shape.task(&[]));
                let so_far = shape.task(&[before, last]);
                self.so_far = Some(so_far);
                shape.task(&[so_far, part])
            }
        }
    }
}

/// Running sums of `x`, of its outer products and of itself again, multiplied and summed by block.
fn cumulative_products(blocks: usize) -> Shape {
    let mut shape = Shape::new("gh_3055");
    let mut sums = [(); 3].map(|()| RunningSum { so_far: None, last: None });
    for _ in 0..blocks {
        let block = shape.task(&[]);
        let part = shape.task(&[block]);
        let x = sums[0].add(&mut shape, part);
        let views = shape.map(&[x, x]);
        let product = shape.task(&views);
        let part = shape.task(&[product]);
        let y = sums[1].add(&mut shape, part);
        let part = shape.task(&[x]);
        let twice = sums[2].add(&mut shape, part);
        let view = shape.task(&[twice]);
        let product = shape.task(&[y, view]);
        let part = shape.task(&[product]);
        shape.task(&[part]);
    }
    shape.ask_for_unread()
}

/// The largest values and their positions, for all pairs of four sources: `ends` chains from each
/// pair, `extra` of them longer by one.
fn equal_dependents(ends: usize, extra: usize) -> Shape {
    let mut shape = Shape::new(format!("order_with_equal_dependents {ends} {extra}"));
    let mut forms = Vec::new();
    for _ in 0..4 {
        let source = shape.task(&[]);
        let longer = shape.task(&[source]);
        forms.push([shape.task(&[source]), shape.task(&[longer])]);
    }
    for i in 0..4 {
        for j in 0..4 {
            let pair = shape.task(&[forms[i][0], forms[j][1]]);
            let pair = shape.task(&[pair]);
            for (end, last) in shape.map(&[pair, pair]).into_iter().enumerate() {
                let steps = match end {
                    0 => usize::from(ends > 1) + extra,
                    _ => usize::from(ends > 1),
                };
                (0..steps).fold(last, |last, _| shape.task(&[last]));
            }
        }
    }
    shape.ask_for_unread()
}

/// Ten blocks feed two reductions of the same form, whose results meet at the end of two chains.
fn free_parent() -> Shape {
    let mut shape = Shape::new("eager_to_compute_dependent_to_free_parent");
    let sources = shape.sources(10);
    let blocks = shape.map(&sources);
    let short = shape.map(&blocks);
    let long = shape.map(&blocks);
    let long = shape.map(&long);
    let short = shape.reduce_carrying(&short, 2);
    let long = shape.reduce_carrying(&long, 2);
    let short = shape.task(&[short]);
    let long = shape.map(&[long]);
    let long = shape.task(&long);
    shape.task(&[long, short]);
    shape.ask_for_unread()
}

fn xarray_like_reduction() -> Shape {
    let mut shape = Shape::new("xarray_like_reduction");
    let mut parts = [const { Vec::new() }; 3];
    for _ in 0..3 {
        let a = shape.sources(2);
        let cut = [shape.task(&a[..1]), shape.task(&a), shape.task(&a[1..])];
        for (parts, part) in parts.iter_mut().zip(shape.map(&cut)) {
            parts.push(part);
        }
    }
    for parts in &parts {
        shape.task(parts);
    }
    shape.ask_for_unread()
}

/// The mean of five blocks after the mean of each group is subtracted.
fn anomaly_mean_raw() -> Shape {
    let mut shape = Shape::new("anom_mean_raw");
    let x = shape.sources(5);
    let mut means = Vec::new();
    for group in [&[0, 2, 4][..], &[1, 3]] {
        let members: Vec<u32> = group.iter().map(|&i| x[i]).collect();
        let members = shape.map(&members);
        let members = shape.map(&members);
        let mean = shape.task(&members);
        means.push(shape.task(&[mean]));
    }
    let mut parts = Vec::new();
    for (i, &block) in x.iter().enumerate() {
        let mean = shape.task(&[means[i % 2]]);
        let difference = shape.task(&[block, mean]);
        parts.push(shape.task(&[difference]));
    }
    shape.reduce(&parts, 4);
    shape.ask_for_unread()
}

/// The mean over time of `x` less the mean of its group. One index is read with each block.
fn anomaly_mean(blocks: usize, groups: usize) -> Shape {
    let mut shape = Shape::new("anom_mean");
    let index = shape.task(&[]);
    let x = shape.sources(blocks);
    let mut means = Vec::new();
    for group in 0..groups {
        let mut parts = Vec::new();
        for &block in x.iter().skip(group).step_by(groups) {
            let taken = shape.task(&[block, index]);
            parts.push(shape.task(&[taken]));
        }
        let mean = shape.reduce(&parts, 4);
        means.push(shape.task(&[mean]));
    }
    let mut parts = Vec::new();
    for (i, &block) in x.iter().enumerate() {
        let mean = shape.task(&[means[i % groups], index]);
        parts.push(shape.task(&[block, mean]));
    }
    shape.reduce_carrying(&parts, 4);
    shape.ask_for_unread()
}

/// The means of `u * u`, `v * v` and `u * v`.
fn three_means(blocks: usize) -> Shape {
    let mut shape = Shape::new("array_vs_dataframe");
    let u = shape.sources(blocks);
    let v = shape.sources(blocks);
    let squares = [shape.map(&u), shape.map(&v)];
    let products: Vec<u32> = u.iter().zip(&v).map(|(&u, &v)| shape.task(&[u, v])).collect();
    let outputs = [&squares[0], &squares[1], &products].map(|parts| shape.reduce_carrying(parts, 4));
    shape.ask_for(outputs.to_vec())
}

fn flaky_array_reduction() -> Shape {
    let mut shape = Shape::new("flaky_array_reduction");
    let u = shape.sources(5);
    let v = shape.sources(5);
    let products: Vec<u32> = u.iter().zip(&v).map(|(&u, &v)| shape.task(&[u, v])).collect();
    for parts in [products, shape.map(&u), shape.map(&v)] {
        let most = shape.task(&parts[..4]);
        let rest = shape.task(&parts[4..]);
        shape.task(&[most, rest]);
    }
    shape.ask_for_unread()
}

fn flox_reduction() -> Shape {
    let mut shape = Shape::new("flox_reduction");
    let index = shape.task(&[]);
    for _ in 0..2 {
        let a = shape.sources(2);
        let b = shape.map(&a);
        let b = shape.map(&b);
        let c = shape.map(&b);
        let joined = shape.task(&[a[0], a[1], c[0], c[1]]);
        let joined = shape.task(&[joined]);
        for value in [b[1], b[0], joined] {
            shape.task(&[index, value]);
        }
    }
    shape.ask_for_unread()
}

fn flox_reduction_2() -> Shape {
    let mut shape = Shape::new("order_flox_reduction_2");
    let sources = shape.sources(3);
    for _ in 0..4 {
        let parts = shape.map(&sources);
        let joined = shape.task(&parts);
        shape.task(&[joined]);
    }
    shape.ask_for_unread()
}

/// Blocks made from a few shared values and summed by rows. With `keep`, the blocks are outputs
/// too.
fn common_dependents(num_reducers: usize, num_shared: usize, keep: bool) -> Shape {
    let mut shape = Shape::new(format!(
        "reduce_with_many_common_dependents {num_reducers} {num_shared}{}",
        if keep { " keep" } else { "" }
    ));
    let shared = shape.sources(num_shared);
    for _ in 0..num_reducers {
        let mut blocks: Vec<u32> = (0..num_reducers).map(|_| shape.task(&shared)).collect();
        if keep {
            blocks = shape.map(&blocks);
        }
        shape.task(&blocks);
    }
    shape.ask_for_unread()
}

/// The difference of an array, cut into blocks, shifted by one in each direction.
fn double_difference() -> Shape {
    let mut shape = Shape::new("doublediff");
    let lower = shape.sources(3);
    let lower_corner = shape.task(&[]);
    let upper = shape.sources(3);
    let upper_corner = shape.task(&[]);
    let mut ends = Vec::new();
    for i in 0..3 {
        for j in 0..3 {
            let last = (i, j) == (2, 2);
            let first = (i, j) == (0, 0);
            let right = if last {
                lower_corner
            } else {
                let cut = shape.task(&[lower[i / 2 * 2 + j / 2]]);
                shape.task(&[cut])
            };
            let left = if first { upper_corner } else { shape.task(&[upper[i.div_ceil(2) * 2 + j.div_ceil(2) - 1]]) };
            let left = shape.task(&[left]);
            let difference = shape.task(&[left, right]);
            ends.push(shape.task(&[difference]));
        }
    }
    shape.task(&ends);
    shape.ask_for_unread()
}

fn map_reduce_with_slicing() -> Shape {
    let mut shape = Shape::new("xarray_map_reduce_with_slicing");
    let data = shape.task(&[]);
    let arrays = shape.sources(2);
    for _ in 0..4 {
        let mut parts = Vec::new();
        for &array in &arrays {
            let opened = shape.task(&[data]);
            let item = shape.task(&[opened]);
            parts.push(shape.task(&[array, item]));
        }
        let joined = shape.task(&parts);
        shape.task(&[joined]);
    }
    shape.ask_for_unread()
}

/// Two rows of blocks, cut twice at other positions and reduced by cohorts.
fn rechunk_map_reduce_cohorts() -> Shape {
    let mut shape = Shape::new("xarray_rechunk_map_reduce_cohorts");
    for _ in 0..2 {
        let opened = shape.sources(4);
        let items = shape.map(&opened);
        let alone = shape.sources(3);
        // The blocks of the pieces that are shuffled into each of the five.
        let pieces = [
            vec![alone[0], items[0]],
            vec![items[1], items[0]],
            vec![items[1], alone[1], items[2]],
            vec![items[2], items[3]],
            vec![items[3], alone[2]],
        ];
        let shuffled = pieces.map(|pieces| {
            let pieces = shape.map(&pieces);
            shape.task(&pieces)
        });
        let [first, after_first, before_third, third, before_last, last] =
            [1, 1, 2, 2, 3, 3].map(|from: usize| shape.task(&[shuffled[from]]));
        let merged = [[first, shuffled[0]], [after_first, before_third], [third, before_last], [shuffled[4], last]]
            .map(|pair| shape.task(&pair));
        for cohort in [[merged[0], merged[2]], [merged[1], merged[3]]] {
            let chunks = shape.map(&cohort);
            let chunks = shape.map(&chunks);
            let joined = shape.task(&chunks);
            shape.task(&[joined]);
        }
    }
    shape.ask_for_unread()
}

fn shared_factor(blocks: usize) -> Shape {
    let mut shape = Shape::new("xarray_8414");
    let shared = shape.task(&[]);
    for _ in 0..blocks {
        let block = shape.task(&[]);
        let view = shape.task(&[block]);
        let factor = shape.task(&[shared]);
        let product = shape.task(&[view, factor]);
        shape.task(&[product]);
    }
    shape.ask_for_unread()
}

fn stacked_rasters() -> Shape {
    let mut shape = Shape::new("stackstac");
    let data = shape.task(&[]);
    let table = shape.task(&[data]);
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let raster = shape.task(&[table]);
        let item = shape.task(&[raster]);
        let joined = shape.task(&[item]);
        let direct = shape.task(&[raster]);
        let halves = shape.map(&[direct, joined]);
        let picked = shape.task(&[joined]);
        near.push(shape.task(&[picked]));
        let picked = shape.task(&halves);
        far.push(shape.task(&[picked]));
    }
    for slices in [near, far] {
        let merged = shape.task(&slices);
        shape.task(&[merged]);
    }
    shape.ask_for_unread()
}
