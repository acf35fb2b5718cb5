//! Orders the vertices of each layer so that few joins cross.
//!
//! Each sweep visits the layers down or up, and sorts the vertices of a layer by the mean position
//! of their neighbours in the layer before. Between sweeps, adjacent vertices are exchanged if that
//! leaves fewer crossings. The search runs from two initial orders: by id, which is depth first,
//! and by a walk from the first layer. The best order found is kept, so the result is never worse
//! than either.

use super::layers::Layered;
use crate::sorted::{sort_items, sort_numbers};

/// Orders the layers so that few joins cross.
pub(super) fn reduce(graph: &mut Layered) {
    let effort = Effort::for_size(graph.num_joins());
    let mut best: Option<(u64, Vec<Vec<u32>>)> = None;
    for first in [by_ids(graph), by_walk(graph)] {
        let found = Search::new(graph, first).run(&effort);
        if best.as_ref().is_none_or(|(fewest, _)| found.0 < *fewest) {
            best = Some(found);
        }
        if best.as_ref().is_some_and(|(fewest, _)| *fewest == 0) {
            break;
        }
    }
    if let Some((_, order)) = best {
        graph.set_order(order);
    }
}

/// The number of crossings in the graph's current order.
#[cfg(test)]
pub(super) fn count(graph: &Layered) -> u64 {
    Search::new(graph, graph.order().to_vec()).crossings()
}

/// The effort of the search; less for a large graph.
struct Effort {
    sweeps: usize,
    exchanges: usize,
}

impl Effort {
    fn for_size(num_joins: usize) -> Effort {
        match num_joins {
            0..=4_000 => Effort { sweeps: 30, exchanges: 8 },
            4_001..=30_000 => Effort { sweeps: 10, exchanges: 2 },
            _ => Effort { sweeps: 3, exchanges: 0 },
        }
    }
}

/// Orders boxes by id, and each bend after the box that its edge comes from.
pub(super) fn by_ids(graph: &Layered) -> Vec<Vec<u32>> {
    let mut origin: Vec<u32> = (0..graph.num_vertices() as u32).collect();
    // The vertex above a bend is a box, or a bend with a lower number.
    for vertex in graph.num_boxes() as u32..graph.num_vertices() as u32 {
        origin[vertex as usize] = graph.above(vertex).first().map_or(vertex, |&above| origin[above as usize]);
    }
    let mut order = graph.order().to_vec();
    for layer in &mut order {
        let key = |vertex: u32| (origin[vertex as usize], graph.is_bend(vertex), vertex);
        sort_numbers(layer, &mut |a, b| key(a).cmp(&key(b)));
    }
    order
}

/// Orders vertices as a depth-first walk down from the first layer reaches them.
fn by_walk(graph: &Layered) -> Vec<Vec<u32>> {
    let mut order = vec![Vec::new(); graph.num_layers()];
    let mut seen = vec![false; graph.num_vertices()];
    let mut open = Vec::new();
    for start in graph.order().iter().flatten().copied() {
        if !graph.above(start).is_empty() {
            continue;
        }
        open.push(start);
        while let Some(vertex) = open.pop() {
            if std::mem::replace(&mut seen[vertex as usize], true) {
                continue;
            }
            order[graph.layer(vertex) as usize].push(vertex);
            open.extend(graph.below(vertex).iter().rev().filter(|&&below| !seen[below as usize]));
        }
    }
    order
}

struct Search<'g> {
    graph: &'g Layered,
    order: Vec<Vec<u32>>,
    place: Vec<u32>,
    tally: Tally,
}

impl<'g> Search<'g> {
    fn new(graph: &'g Layered, order: Vec<Vec<u32>>) -> Self {
        let mut search = Search { graph, order, place: vec![0; graph.num_vertices()], tally: Tally::default() };
        for layer in 0..graph.num_layers() {
            search.number(layer);
        }
        search
    }

    fn number(&mut self, layer: usize) {
        (0..).zip(&self.order[layer]).for_each(|(place, &vertex)| self.place[vertex as usize] = place);
    }

    /// The fewest crossings found, and the order with them.
    fn run(mut self, effort: &Effort) -> (u64, Vec<Vec<u32>>) {
        const PATIENCE: usize = 6;
        let mut best = (self.crossings(), self.order.clone());
        let mut in_vain = 0;
        for sweep in 0..effort.sweeps {
            if best.0 == 0 || in_vain == PATIENCE {
                break;
            }
            // The order of vertices with equal means alternates, so that the search does not cycle.
            let turn_ties = sweep / 2 % 2 == 1;
            let num_layers = self.graph.num_layers();
            if sweep % 2 == 0 {
                (1..num_layers).for_each(|layer| self.sort(layer, true, turn_ties));
            } else {
                (0..num_layers - 1).rev().for_each(|layer| self.sort(layer, false, turn_ties));
            }
            for _ in 0..effort.exchanges {
                if !self.exchange() {
                    break;
                }
            }
            let crossings = self.crossings();
            in_vain += 1;
            if crossings < best.0 {
                best = (crossings, self.order.clone());
                in_vain = 0;
            }
        }
        best
    }

    /// Sorts a layer by the mean positions of the neighbours above, or below. A vertex without such
    /// neighbours keeps its position.
    fn sort(&mut self, layer: usize, by_above: bool, turn_ties: bool) {
        let graph = self.graph;
        let mut slots = Vec::new();
        let mut joined = Vec::new();
        for (slot, &vertex) in self.order[layer].iter().enumerate() {
            let others = if by_above { graph.above(vertex) } else { graph.below(vertex) };
            if !others.is_empty() {
                let sum: u64 = others.iter().map(|&other| u64::from(self.place[other as usize])).sum();
                slots.push(slot);
                joined.push((sum as f64 / others.len() as f64, vertex));
            }
        }
        if turn_ties {
            joined.reverse();
        }
        sort_items(&mut joined, |a, b| a.0.total_cmp(&b.0));
        for (slot, (_, vertex)) in slots.into_iter().zip(joined) {
            self.order[layer][slot] = vertex;
        }
        self.number(layer);
    }

    /// Exchanges adjacent vertices if that leaves fewer crossings. Returns whether it changed
    /// anything.
    fn exchange(&mut self) -> bool {
        let mut changed = false;
        let (mut left_places, mut right_places) = (Vec::new(), Vec::new());
        for layer in 0..self.graph.num_layers() {
            for slot in 1..self.order[layer].len() {
                let (left, right) = (self.order[layer][slot - 1], self.order[layer][slot]);
                let (mut now, mut then) = (0, 0);
                for lists in [Layered::above, Layered::below] {
                    self.places_into(lists(self.graph, left), &mut left_places);
                    self.places_into(lists(self.graph, right), &mut right_places);
                    now += inversions(&left_places, &right_places);
                    then += inversions(&right_places, &left_places);
                }
                if then < now {
                    self.order[layer].swap(slot - 1, slot);
                    self.place.swap(left as usize, right as usize);
                    changed = true;
                }
            }
        }
        changed
    }

    fn places_into(&self, vertices: &[u32], places: &mut Vec<u32>) {
        places.clear();
        places.extend(vertices.iter().map(|&vertex| self.place[vertex as usize]));
        places.sort_unstable();
    }

    fn crossings(&mut self) -> u64 {
        let Search { graph, order, place, tally } = self;
        order.windows(2).map(|pair| tally.crossings(graph, &pair[0], pair[1].len(), place)).sum()
    }
}

/// The number of pairs whose left element is greater than the right one. Both lists are sorted.
fn inversions(left: &[u32], right: &[u32]) -> u64 {
    let mut behind = 0;
    let mut count = 0;
    for &place in left {
        while behind < right.len() && right[behind] < place {
            behind += 1;
        }
        count += behind as u64;
    }
    count
}

/// Counts crossings between two layers: a join crosses each join that starts before it and ends
/// after it. (W. Barth, P. Mutzel, M. Jünger, "Simple and efficient bilayer cross counting", 2004,
/// with a Fenwick tree.)
#[derive(Default)]
struct Tally {
    tree: Vec<u32>,
    ends: Vec<u32>,
}

impl Tally {
    fn crossings(&mut self, graph: &Layered, layer: &[u32], num_below: usize, place: &[u32]) -> u64 {
        self.tree.clear();
        self.tree.resize(num_below + 1, 0);
        let mut num_seen = 0;
        let mut crossings = 0;
        for &vertex in layer {
            self.ends.clear();
            self.ends.extend(graph.below(vertex).iter().map(|&below| place[below as usize]));
            // All counts come before all entries, because the joins of one vertex do not cross each
            // other.
            crossings += self.ends.iter().map(|&end| u64::from(num_seen - self.up_to(end as usize))).sum::<u64>();
            (0..self.ends.len()).for_each(|i| self.add(self.ends[i] as usize));
            num_seen += self.ends.len() as u32;
        }
        crossings
    }

    /// The number of ends at this position or before it.
    fn up_to(&self, place: usize) -> u32 {
        let mut at = place + 1;
        let mut sum = 0;
        while at > 0 {
            sum += self.tree[at];
            at &= at - 1;
        }
        sum
    }

    fn add(&mut self, place: usize) {
        let mut at = place + 1;
        while at < self.tree.len() {
            self.tree[at] += 1;
            at += at & at.wrapping_neg();
        }
    }
}
