//! Assigns each box to a layer, and divides edges at the layers between.

use super::geometry::{Edge, Extent, Point, rows};

/// A graph in which every join is between neighbouring layers. Its *vertices* are the boxes and
/// then the bends of the edges.
#[derive(Debug)]
pub(super) struct Layered {
    layer: Vec<u32>,
    /// The vertices of each layer in their order across the flow.
    order: Vec<Vec<u32>>,
    extents: Vec<Extent>,
    num_boxes: usize,
    above: Lists,
    below: Lists,
    /// The bends of edge `i` are the vertices `bends[i]..bends[i + 1]`.
    bends: Vec<u32>,
    has_labels: bool,
}

/// A list for each vertex.
#[derive(Debug)]
struct Lists {
    starts: Vec<usize>,
    vertices: Vec<u32>,
}

impl Lists {
    fn of(&self, vertex: u32) -> &[u32] {
        &self.vertices[self.starts[vertex as usize]..self.starts[vertex as usize + 1]]
    }
}

impl Layered {
    /// Every edge goes from a lower number to a higher one.
    pub(super) fn new(boxes: &[Extent], edges: &[Edge]) -> Layered {
        debug_assert!(edges.iter().all(|edge| edge.from < edge.to));
        let has_labels = edges.iter().any(|edge| edge.label.is_some());
        // A label needs a layer between the boxes.
        let span = if has_labels { 2 } else { 1 };
        let mut layer = layers(boxes.len(), edges, span);
        let most = longest_with_bends(&layer, boxes.len(), edges);
        let mut extents = boxes.to_vec();
        let mut bends = Vec::with_capacity(edges.len() + 1);
        let mut joins: Vec<(u32, u32)> = Vec::new();
        for &Edge { from, to, label } in edges {
            bends.push(extents.len() as u32);
            let (first, last) = (layer[from as usize], layer[to as usize]);
            if last - first > most {
                continue;
            }
            let labelled = label.map(|extent| ((first + last) / 2, extent));
            let mut before = from;
            for between in first + 1..last {
                let vertex = extents.len() as u32;
                layer.push(between);
                extents.push(match labelled {
                    Some((at, Point { across, along })) if at == between => {
                        Extent { before: across / 2.0, after: across / 2.0, along }
                    }
                    _ => Extent::default(),
                });
                joins.push((before, vertex));
                before = vertex;
            }
            joins.push((before, to));
        }
        bends.push(extents.len() as u32);
        let num_layers = layer.iter().max().map_or(0, |&last| last as usize + 1);
        let (starts, order) = rows(num_layers, layer.iter().copied());
        let order = starts.windows(2).map(|row| order[row[0]..row[1]].to_vec()).collect();
        let above = lists(extents.len(), &joins, |(from, to)| (to, from));
        let below = lists(extents.len(), &joins, |join| join);
        Layered { layer, order, extents, num_boxes: boxes.len(), above, below, bends, has_labels }
    }

    pub(super) fn num_boxes(&self) -> usize {
        self.num_boxes
    }

    pub(super) fn num_vertices(&self) -> usize {
        self.extents.len()
    }

    pub(super) fn num_layers(&self) -> usize {
        self.order.len()
    }

    pub(super) fn num_joins(&self) -> usize {
        self.below.vertices.len()
    }

    pub(super) fn layer(&self, vertex: u32) -> u32 {
        self.layer[vertex as usize]
    }

    pub(super) fn extent(&self, vertex: u32) -> Extent {
        self.extents[vertex as usize]
    }

    pub(super) fn is_bend(&self, vertex: u32) -> bool {
        vertex as usize >= self.num_boxes
    }

    pub(super) fn is_label(&self, vertex: u32) -> bool {
        self.is_bend(vertex) && self.extent(vertex).along > 0.0
    }

    pub(super) fn has_labels(&self) -> bool {
        self.has_labels
    }

    /// The neighbours of the vertex in the layer before.
    pub(super) fn above(&self, vertex: u32) -> &[u32] {
        self.above.of(vertex)
    }

    /// The neighbours of the vertex in the layer after.
    pub(super) fn below(&self, vertex: u32) -> &[u32] {
        self.below.of(vertex)
    }

    pub(super) fn bends(&self, edge: usize) -> std::ops::Range<u32> {
        self.bends[edge]..self.bends[edge + 1]
    }

    /// The vertices of a layer, in their order.
    pub(super) fn vertices(&self, layer: usize) -> &[u32] {
        &self.order[layer]
    }

    pub(super) fn order(&self) -> &[Vec<u32>] {
        &self.order
    }

    pub(super) fn set_order(&mut self, order: Vec<Vec<u32>>) {
        self.order = order;
    }
}

fn lists(num_vertices: usize, joins: &[(u32, u32)], turn: impl Fn((u32, u32)) -> (u32, u32) + Copy) -> Lists {
    let (starts, places) = rows(num_vertices, joins.iter().map(move |&join| turn(join).0));
    Lists { starts, vertices: places.iter().map(|&place| turn(joins[place as usize]).1).collect() }
}

/// A layer for each box, such that edges span at least `span` layers and, all together, few.
///
/// First every box gets the lowest possible layer. Then, from the last to the first, a box moves up
/// to its dependents if that does not lengthen more edges than it shortens. So inputs are near the
/// boxes that need them, and not all in the first layer. A box *hangs* from its only input if all
/// its own dependents hang from it; it moves together with that input.
fn layers(num_boxes: usize, edges: &[Edge], span: u32) -> Vec<u32> {
    const PASSES: usize = 3;
    let (into_rows, into) = rows(num_boxes, edges.iter().map(|edge| edge.to));
    let (out_rows, out) = rows(num_boxes, edges.iter().map(|edge| edge.from));
    let inputs = |id: usize| into[into_rows[id]..into_rows[id + 1]].iter().map(|&i| edges[i as usize].from as usize);
    let outputs = |id: usize| out[out_rows[id]..out_rows[id + 1]].iter().map(|&i| edges[i as usize].to as usize);
    let earliest = |layer: &[u32], id: usize| inputs(id).map(|input| layer[input] + span).max().unwrap_or(0);

    let mut hangs = vec![false; num_boxes];
    for id in (0..num_boxes).rev() {
        hangs[id] = inputs(id).len() == 1 && outputs(id).all(|output| hangs[output]);
    }
    let mut layer = vec![0; num_boxes];
    for id in 0..num_boxes {
        layer[id] = earliest(&layer, id);
    }
    for _ in 0..PASSES {
        let mut changed = false;
        for id in (0..num_boxes).rev() {
            let standing = || outputs(id).filter(|&output| !hangs[output]);
            let Some(next) = standing().map(|output| layer[output]).min() else { continue };
            if standing().count() >= inputs(id).len() && layer[id] + span < next {
                layer[id] = next - span;
                changed = true;
            }
        }
        for id in 0..num_boxes {
            if hangs[id] {
                layer[id] = earliest(&layer, id);
            } else if inputs(id).len() > outputs(id).len() {
                let first = earliest(&layer, id);
                changed |= first < layer[id];
                layer[id] = first;
            }
        }
        if !changed {
            break;
        }
    }
    let first = layer.iter().copied().min().unwrap_or(0);
    layer.iter_mut().for_each(|layer| *layer -= first);
    layer
}

/// The largest number of layers that an edge may span and still have bends, so that the number of
/// bends stays limited.
fn longest_with_bends(layer: &[u32], num_boxes: usize, edges: &[Edge]) -> u32 {
    let most_bends = 20_000 + 5 * (num_boxes as u64 + edges.len() as u64);
    let mut spans: Vec<u32> = edges.iter().map(|edge| layer[edge.to as usize] - layer[edge.from as usize]).collect();
    spans.sort_unstable();
    let mut num_bends = 0;
    for &span in &spans {
        num_bends += u64::from(span) - 1;
        if num_bends > most_bends {
            return span - 1;
        }
    }
    u32::MAX
}
