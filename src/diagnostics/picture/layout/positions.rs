//! Positions the vertices of each layer across the flow.
//!
//! The target of a vertex is the mean position of its neighbours. Joins between bends have the
//! largest weight, so that a long edge becomes straight. Layer after layer, down and up again, the
//! vertices of a layer are moved to the positions that their order and extents allow and that
//! minimise the sum of the squared distances from the targets. This is an isotonic regression; one
//! pass that pools adjacent violators solves it.
//!
//! The last rounds use only the side of a box that has more joins, so that a box in a tree is
//! centred over its inputs or its dependents. At the end every long edge is straightened, as far as
//! the neighbours of its bends allow.

use super::layers::Layered;

/// The gaps between two boxes, between a box and a bend, and between two bends.
const BOX_GAP: f64 = 20.0;
const BOX_BEND_GAP: f64 = 14.0;
const BEND_GAP: f64 = 12.0;

/// The centre of each vertex; the first extent of all begins at 0.
pub(super) fn across(graph: &Layered) -> Vec<f64> {
    /// In these rounds, a change propagates through the graph several times.
    const ROUNDS: [(Sides, Sides, usize); 3] =
        [(Sides::Above, Sides::Below, 8), (Sides::Both, Sides::Both, 10), (Sides::Fuller, Sides::Fuller, 4)];
    let is_large = graph.num_joins() > 30_000;
    let mut across = side_by_side(graph);
    let mut pool = Pool::default();
    for (down, up, rounds) in ROUNDS {
        for _ in 0..if is_large { rounds / 3 } else { rounds } {
            (0..graph.num_layers()).for_each(|layer| pool.place(graph, layer, down, &mut across));
            (0..graph.num_layers()).rev().for_each(|layer| pool.place(graph, layer, up, &mut across));
        }
    }
    straighten(graph, &mut across);
    let first = vertices(graph).map(|v| across[v as usize] - graph.extent(v).before).fold(f64::INFINITY, f64::min);
    across.iter_mut().for_each(|across| *across -= first);
    across
}

/// Straightens chains of vertices with one neighbour on each side, which are the bends of an edge
/// and the boxes of a chain: each chain gets as few positions as fit between its neighbours.
fn straighten(graph: &Layered, across: &mut [f64]) {
    /// Straightening one edge makes room for the next.
    const ROUNDS: usize = 3;
    let lines = lines(graph);
    let mut place = vec![0; graph.num_vertices()];
    for layer in graph.order() {
        (0..).zip(layer).for_each(|(slot, &vertex)| place[vertex as usize] = slot);
    }
    let room = |vertex: u32, across: &[f64]| {
        let layer = graph.vertices(graph.layer(vertex) as usize);
        let slot: usize = place[vertex as usize];
        let least = match slot.checked_sub(1).map(|before| layer[before]) {
            Some(before) => across[before as usize] + distance(graph, before, vertex),
            None => f64::NEG_INFINITY,
        };
        let most = match layer.get(slot + 1) {
            Some(&after) => across[after as usize] - distance(graph, vertex, after),
            None => f64::INFINITY,
        };
        (least, most)
    };
    for _ in 0..ROUNDS {
        for line in &lines {
            let mut first = 0;
            while first < line.len() {
                let (mut least, mut most) = room(line[first], across);
                let (mut sum, mut end) = (across[line[first] as usize], first + 1);
                while end < line.len() {
                    let (next_least, next_most) = room(line[end], across);
                    if next_least.max(least) > next_most.min(most) {
                        break;
                    }
                    (least, most) = (next_least.max(least), next_most.min(most));
                    sum += across[line[end] as usize];
                    end += 1;
                }
                // By a rounding error, `least` may be slightly above `most`.
                let at = (sum / (end - first) as f64).min(most).max(least);
                line[first..end].iter().for_each(|&vertex| across[vertex as usize] = at);
                first = end;
            }
        }
    }
}

/// The longest chains of vertices in which each has one neighbour above and one below.
fn lines(graph: &Layered) -> Vec<Vec<u32>> {
    let next = |vertex: u32| match graph.below(vertex) {
        &[next] if graph.above(next).len() == 1 => Some(next),
        _ => None,
    };
    let continues = |vertex: u32| matches!(graph.above(vertex), &[before] if next(before).is_some());
    let starts = vertices(graph).filter(|&vertex| !continues(vertex) && next(vertex).is_some());
    starts.map(|start| std::iter::successors(Some(start), |&vertex| next(vertex)).collect()).collect()
}

/// The extent of all vertices across the flow.
pub(super) fn extent(graph: &Layered, across: &[f64]) -> f64 {
    vertices(graph).map(|v| across[v as usize] + graph.extent(v).after).fold(0.0, f64::max)
}

fn vertices(graph: &Layered) -> impl Iterator<Item = u32> {
    0..graph.num_vertices() as u32
}

/// The least distance between the centres of two adjacent vertices.
pub(super) fn distance(graph: &Layered, left: u32, right: u32) -> f64 {
    let gap = match (graph.is_bend(left), graph.is_bend(right)) {
        (false, false) => BOX_GAP,
        (true, true) => BEND_GAP,
        _ => BOX_BEND_GAP,
    };
    graph.extent(left).after + gap + graph.extent(right).before
}

fn side_by_side(graph: &Layered) -> Vec<f64> {
    let mut across = vec![0.0; graph.num_vertices()];
    for layer in graph.order() {
        let mut at = 0.0;
        for pair in layer.windows(2) {
            at += distance(graph, pair[0], pair[1]);
            across[pair[1] as usize] = at;
        }
        layer.iter().for_each(|&vertex| across[vertex as usize] -= at / 2.0);
    }
    across
}

/// The neighbours whose positions count.
#[derive(Clone, Copy)]
enum Sides {
    Above,
    Below,
    Both,
    /// The side with more joins; both sides if they are equal.
    Fuller,
}

/// Adjacent vertices at their least distances, and their common target.
struct Pooled {
    weight: f64,
    weighted_target: f64,
    len: usize,
}

#[derive(Default)]
struct Pool {
    pooled: Vec<Pooled>,
    /// The distance of each vertex from the first, with all at their least distances.
    offsets: Vec<f64>,
}

impl Pool {
    fn place(&mut self, graph: &Layered, layer: usize, sides: Sides, across: &mut [f64]) {
        self.pooled.clear();
        self.offsets.clear();
        let layer = graph.vertices(layer);
        let mut offset = 0.0;
        for (i, &vertex) in layer.iter().enumerate() {
            if i > 0 {
                offset += distance(graph, layer[i - 1], vertex);
            }
            self.offsets.push(offset);
            let (weight, target) = target(graph, vertex, sides, across);
            let mut last = Pooled { weight, weighted_target: weight * (target - offset), len: 1 };
            while let Some(before) = self.pooled.pop_if(|before| before.mean() > last.mean()) {
                last.weight += before.weight;
                last.weighted_target += before.weighted_target;
                last.len += before.len;
            }
            self.pooled.push(last);
        }
        let means = self.pooled.iter().flat_map(|pooled| std::iter::repeat_n(pooled.mean(), pooled.len));
        for ((&vertex, offset), mean) in layer.iter().zip(&self.offsets).zip(means) {
            across[vertex as usize] = mean + offset;
        }
    }
}

impl Pooled {
    fn mean(&self) -> f64 {
        self.weighted_target / self.weight
    }
}

/// The weight and the target position of a vertex.
fn target(graph: &Layered, vertex: u32, sides: Sides, across: &[f64]) -> (f64, f64) {
    /// The weight of a vertex without neighbours on these sides.
    const FREE: f64 = 1e-3;
    let (above, below) = (graph.above(vertex), graph.below(vertex));
    let (above, below): (&[u32], &[u32]) = match sides {
        Sides::Above => (above, &[]),
        Sides::Below => (&[], below),
        Sides::Fuller if above.len() > below.len() => (above, &[]),
        Sides::Fuller if above.len() < below.len() => (&[], below),
        Sides::Both | Sides::Fuller => (above, below),
    };
    let (mut weight, mut sum) = (0.0, 0.0);
    for &other in above.iter().chain(below) {
        let stiffness = match (graph.is_bend(vertex), graph.is_bend(other)) {
            (true, true) => 8.0,
            (false, false) => 1.0,
            _ => 2.0,
        };
        weight += stiffness;
        sum += stiffness * across[other as usize];
    }
    if weight > 0.0 { (weight, sum / weight) } else { (FREE, across[vertex as usize]) }
}
