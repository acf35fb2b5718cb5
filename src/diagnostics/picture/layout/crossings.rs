//! The order in each layer.
//!
//! Layer after layer, down and up again, the vertices of one layer are sorted by the mean place of those that they are joined to in the
//! layer before. Between the sweeps neighbours are exchanged where that leaves fewer crossings. This is done from two first orders: that
//! of the ids, which come depth first, and that in which a walk from the first layer reaches the vertices. The best order that was
//! seen is taken, so the result is never worse than either.

use super::layers::Layered;

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

/// How often joins cross in the order that the graph has.
#[cfg(test)]
pub(super) fn count(graph: &Layered) -> u64 {
    Search::new(graph, graph.order().to_vec()).crossings()
}

/// How long to look; a large graph is content with less.
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

/// The order of the boxes' ids; a bend stands after the box that its edge comes from.
pub(super) fn by_ids(graph: &Layered) -> Vec<Vec<u32>> {
    let mut origin: Vec<u32> = (0..graph.num_vertices() as u32).collect();
    // A bend's number is higher than that of the vertex above it, or that one is a box.
    for vertex in graph.num_boxes() as u32..graph.num_vertices() as u32 {
        origin[vertex as usize] = graph.above(vertex).first().map_or(vertex, |&above| origin[above as usize]);
    }
    let mut order = graph.order().to_vec();
    for layer in &mut order {
        layer.sort_by_key(|&vertex| (origin[vertex as usize], graph.is_bend(vertex), vertex));
    }
    order
}

/// The order in which a depth-first walk from the first layer down comes to the vertices.
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

    /// The fewest crossings that were seen, and the order that had them.
    fn run(mut self, effort: &Effort) -> (u64, Vec<Vec<u32>>) {
        const PATIENCE: usize = 6;
        let mut best = (self.crossings(), self.order.clone());
        let mut in_vain = 0;
        for sweep in 0..effort.sweeps {
            if best.0 == 0 || in_vain == PATIENCE {
                break;
            }
            // Which of two with the same mean comes first changes, so that the search does not run in a circle.
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

    /// Sorts a layer by the mean places of the neighbours above, or below. What has none there keeps its place.
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
        joined.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (slot, (_, vertex)) in slots.into_iter().zip(joined) {
            self.order[layer][slot] = vertex;
        }
        self.number(layer);
    }

    /// Exchanges neighbours where that leaves fewer crossings; says whether it did.
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

/// In how many pairs the one on the left leads farther to the right. Both lists are sorted.
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

/// Counts crossings between two layers: a join crosses those that start before it and end after it. (W. Barth, P. Mutzel, M. Jünger,
/// "Simple and efficient bilayer cross counting", 2004, with a Fenwick tree.)
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
            // First all counts, then all entries, so that the joins of one vertex do not cross each other.
            crossings += self.ends.iter().map(|&end| u64::from(num_seen - self.up_to(end as usize))).sum::<u64>();
            (0..self.ends.len()).for_each(|i| self.add(self.ends[i] as usize));
            num_seen += self.ends.len() as u32;
        }
        crossings
    }

    /// How many ends are at this place or before it.
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
