//! Places boxes and edges, as a layered drawing.
//!
//! Distances are *along* the flow of data and *across* it. The caller maps them to a page on which
//! data flows down or to the right.
//!
//! # Method
//!
//! The method of Sugiyama, Tagawa and Toda, for each connected part of the graph on its own:
//!
//! 1. [`layers`] puts every box into a layer after the layers of its inputs, and divides an edge
//!    that spans several layers into pieces from layer to layer; the *bends* between the pieces
//!    take room in their layers like boxes.
//! 2. [`crossings`] orders each layer so that few pieces cross.
//! 3. [`positions`] moves the boxes of a layer across the flow, towards the boxes they are joined
//!    to, without changing their order.
//! 4. This module sets the parts beside one another and gives each edge its path: straight through
//!    a layer, and in a curve from layer to layer.
//!
//! # What is always true
//!
//! 1. Boxes do not overlap. A layer's boxes and bends lie in its *band*, which is as thick as the
//!    layer's thickest box. Edges turn only between bands, and pass a band at a bend that has room
//!    of its own. So an edge touches no box except its ends, unless it has no bends (see
//!    [`layout`]).
//! 2. An edge from a lower number to a higher one goes along the flow; from a higher to a lower
//!    one, it goes against the flow; from a box to itself, it is a loop.
//! 3. The result depends only on the arguments. No function is recursive.
//!
//! # Source
//!
//! K. Sugiyama, S. Tagawa, M. Toda, "Methods for visual understanding of hierarchical system
//! structures" (1981), for the whole; E. R. Gansner, E. Koutsofios, S. C. North, K.-P. Vo, "A
//! technique for drawing directed graphs" (1993), for exchanging neighbours, for the weights that
//! keep long edges straight, and for labels as boxes of their own.
//!
//! Two crates were not chosen: `rust-sugiyama`, which places nodes but does not route edges around
//! them, and `layout-rs`, which takes minutes for some hundreds of nodes.

mod crossings;
mod geometry;
mod layers;
mod positions;

pub(super) use geometry::{Edge, Point, rows};

use crate::sorted::sort_numbers;
use geometry::{Extent, LOOP_REACH};
use layers::Layered;

/// The positions of all boxes and edges.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) extent: Point,
    /// The centres of the boxes.
    pub(super) boxes: Vec<Point>,
    pub(super) routes: Vec<Route>,
}

/// The path of an edge and the position of its label.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Route {
    pub(super) path: RoutePath,
    /// The centre of the label.
    pub(super) label: Option<Point>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum RoutePath {
    /// From point to point: straight between two points with the same position across the flow,
    /// otherwise in a curve that starts and ends along the flow.
    Through(Vec<Point>),
    /// From the side of a box back to it. The points are the start, the end and the farthest point.
    Loop([Point; 3]),
}

impl Default for RoutePath {
    fn default() -> Self {
        RoutePath::Through(Vec::new())
    }
}

/// The gap between parts that are not connected.
const PART_GAP: f64 = 26.0;
/// The distance of the ends of a loop from the centre of the side.
const LOOP_HALF: f64 = 8.0;

/// Lays out boxes of the given extents.
///
/// # Complexity
/// O(V + E + B) space and nearly that in time, where B is the number of bends. B is limited to 20
/// 000 plus five for each box and edge. In a graph that would need more, the longest edges have no
/// bends and may cross boxes.
pub(super) fn layout(boxes: &[Point], edges: &[Edge]) -> Layout {
    let mut loops: Vec<Option<Point>> = vec![None; boxes.len()];
    for edge in edges.iter().filter(|edge| edge.from == edge.to) {
        loops[edge.from as usize] = Some(edge.label.unwrap_or_default());
    }
    let parts = Parts::of(boxes.len(), edges);
    let mut layout = Layout {
        extent: Point::default(),
        boxes: vec![Point::default(); boxes.len()],
        routes: vec![Route::default(); edges.len()],
    };
    let mut extents = Vec::with_capacity(parts.len());
    for (members, part_edges) in parts.iter() {
        extents.push(lay_out_part(boxes, edges, &loops, members, part_edges, &parts.local, &mut layout));
    }
    let (corners, extent) = pack(&extents);
    layout.extent = extent;
    for ((members, part_edges), corner) in parts.iter().zip(corners) {
        members.iter().for_each(|&id| shift(&mut layout.boxes[id as usize], corner));
        for &edge in part_edges {
            let route = &mut layout.routes[edge as usize];
            match &mut route.path {
                RoutePath::Through(points) => points.iter_mut().for_each(|point| shift(point, corner)),
                RoutePath::Loop(points) => points.iter_mut().for_each(|point| shift(point, corner)),
            }
            route.label.iter_mut().for_each(|point| shift(point, corner));
        }
    }
    layout
}

fn shift(point: &mut Point, by: Point) {
    point.across += by.across;
    point.along += by.along;
}

/// The connected parts, in the order of their first boxes.
struct Parts {
    box_rows: Vec<usize>,
    boxes: Vec<u32>,
    edge_rows: Vec<usize>,
    edges: Vec<u32>,
    /// The index of each box in its part.
    local: Vec<u32>,
}

impl Parts {
    fn of(num_boxes: usize, edges: &[Edge]) -> Parts {
        let mut leader: Vec<u32> = (0..num_boxes as u32).collect();
        fn find(leader: &mut [u32], mut id: u32) -> u32 {
            while leader[id as usize] != id {
                leader[id as usize] = leader[leader[id as usize] as usize];
                id = leader[id as usize];
            }
            id
        }
        for edge in edges {
            let (a, b) = (find(&mut leader, edge.from), find(&mut leader, edge.to));
            leader[a.max(b) as usize] = a.min(b);
        }
        let mut part_of_leader = vec![u32::MAX; num_boxes];
        let mut part = Vec::with_capacity(num_boxes);
        let mut num_parts = 0;
        for id in 0..num_boxes as u32 {
            let number = &mut part_of_leader[find(&mut leader, id) as usize];
            if *number == u32::MAX {
                *number = num_parts;
                num_parts += 1;
            }
            part.push(*number);
        }
        let (box_rows, boxes) = rows(num_parts as usize, part.iter().copied());
        let (edge_rows, edges) = rows(num_parts as usize, edges.iter().map(|edge| part[edge.from as usize]));
        let mut local = vec![0; num_boxes];
        for members in box_rows.windows(2) {
            (0..).zip(&boxes[members[0]..members[1]]).for_each(|(place, &id)| local[id as usize] = place);
        }
        Parts { box_rows, boxes, edge_rows, edges, local }
    }

    fn len(&self) -> usize {
        self.box_rows.len() - 1
    }

    fn iter(&self) -> impl Iterator<Item = (&[u32], &[u32])> {
        let boxes = self.box_rows.windows(2).map(|row| &self.boxes[row[0]..row[1]]);
        boxes.zip(self.edge_rows.windows(2).map(|row| &self.edges[row[0]..row[1]]))
    }
}

/// Writes the positions of one part's boxes and edges, from (0, 0) on, and returns its extent.
fn lay_out_part(
    boxes: &[Point],
    edges: &[Edge],
    loops: &[Option<Point>],
    members: &[u32],
    part_edges: &[u32],
    local: &[u32],
    layout: &mut Layout,
) -> Point {
    // The edges along the flow, with numbers of this part; `true` for an edge that is reversed.
    let mut forward = Vec::with_capacity(part_edges.len());
    for &edge in part_edges {
        let Edge { from, to, label } = edges[edge as usize];
        if from != to {
            let ends = Edge { from: local[from.min(to) as usize], to: local[from.max(to) as usize], label };
            forward.push((edge, ends, from > to));
        }
    }
    let extents: Vec<Extent> = members.iter().map(|&id| Extent::of(boxes[id as usize], loops[id as usize])).collect();
    let ends: Vec<Edge> = forward.iter().map(|&(_, ends, _)| ends).collect();
    let mut graph = Layered::new(&extents, &ends);
    crossings::reduce(&mut graph);
    let across = positions::across(&graph);
    let bands = Bands::of(&graph, &across);

    let place = |vertex: u32| Point::new(across[vertex as usize], bands.centre(graph.layer(vertex)));
    for (vertex, &id) in (0..).zip(members) {
        let centre = place(vertex);
        layout.boxes[id as usize] = centre;
        if let Some(label) = loops[id as usize] {
            let side = centre.across + boxes[id as usize].across / 2.0;
            let at = |half: f64| Point::new(side, centre.along + half);
            let farthest = Point::new(side + LOOP_REACH, centre.along);
            let label = Point::new(farthest.across + label.across / 2.0, centre.along);
            let of_box = part_edges.iter().filter(|&&edge| edges[edge as usize].from == id);
            for &edge in of_box.filter(|&&edge| edges[edge as usize].to == id) {
                layout.routes[edge as usize] =
                    Route { path: RoutePath::Loop([at(-LOOP_HALF), at(LOOP_HALF), farthest]), label: Some(label) };
            }
        }
    }
    let ports = Ports::of(&graph, &across, &ends, members.iter().map(|&id| boxes[id as usize].across));
    for (i, &(edge, Edge { from, to, .. }, is_reversed)) in forward.iter().enumerate() {
        let half = |vertex: u32| boxes[members[vertex as usize] as usize].along / 2.0;
        let mut points = Vec::new();
        let start = ports.start[i];
        points.push(Point::new(start, place(from).along + half(from)));
        points.push(Point::new(start, bands.end(graph.layer(from))));
        let mut label = None;
        for vertex in graph.bends(i) {
            let layer = graph.layer(vertex);
            points.push(Point::new(across[vertex as usize], bands.start(layer)));
            points.push(Point::new(across[vertex as usize], bands.end(layer)));
            if graph.is_label(vertex) {
                label = Some(place(vertex));
            }
        }
        let end = ports.end[i];
        points.push(Point::new(end, bands.start(graph.layer(to))));
        points.push(Point::new(end, place(to).along - half(to)));
        points.dedup();
        if is_reversed {
            points.reverse();
        }
        layout.routes[edge as usize] = Route { path: RoutePath::Through(points), label };
    }
    Point::new(positions::extent(&graph, &across), bands.total())
}

/// The start and the end of each layer along the flow.
struct Bands(Vec<(f64, f64)>);

impl Bands {
    /// The farther apart the ends of the pieces between two layers are, the larger the gap between
    /// the layers.
    fn of(graph: &Layered, across: &[f64]) -> Bands {
        const LEAST: f64 = 30.0;
        const LEAST_BESIDE_A_LABEL: f64 = 16.0;
        const MOST: f64 = 130.0;
        let mut at = 0.0;
        let mut bands = Vec::with_capacity(graph.num_layers());
        for layer in 0..graph.num_layers() {
            let vertices = graph.vertices(layer);
            let thickness = vertices.iter().map(|&v| graph.extent(v).along).fold(0.0, f64::max);
            bands.push((at, at + thickness));
            let turns = vertices
                .iter()
                .flat_map(|&v| graph.below(v).iter().map(move |&w| (across[v as usize] - across[w as usize]).abs()));
            let least = if graph.has_labels() { LEAST_BESIDE_A_LABEL } else { LEAST };
            let gap = (least + turns.fold(0.0, f64::max) * 0.07).min(MOST);
            at += thickness + gap;
        }
        Bands(bands)
    }

    fn start(&self, layer: u32) -> f64 {
        self.0[layer as usize].0
    }

    fn end(&self, layer: u32) -> f64 {
        self.0[layer as usize].1
    }

    fn centre(&self, layer: u32) -> f64 {
        (self.start(layer) + self.end(layer)) / 2.0
    }

    fn total(&self) -> f64 {
        self.0.last().map_or(0.0, |band| band.1)
    }
}

/// The positions across the flow at which each edge starts and ends.
struct Ports {
    start: Vec<f64>,
    end: Vec<f64>,
}

impl Ports {
    fn of(graph: &Layered, across: &[f64], edges: &[Edge], widths: impl Iterator<Item = f64>) -> Ports {
        let first_after = |i: usize| graph.bends(i).next().unwrap_or(edges[i].to);
        let last_before = |i: usize| graph.bends(i).next_back().unwrap_or(edges[i].from);
        let (starts, out) = rows(graph.num_boxes(), edges.iter().map(|edge| edge.from));
        let (ends, into) = rows(graph.num_boxes(), edges.iter().map(|edge| edge.to));
        let mut ports = Ports { start: vec![0.0; edges.len()], end: vec![0.0; edges.len()] };
        for (vertex, width) in widths.enumerate() {
            let side = |edges: &[u32], other_end: &dyn Fn(usize) -> u32, ports: &mut [f64]| {
                spread(edges, across[vertex], width, &|i| across[other_end(i) as usize], ports);
            };
            side(&out[starts[vertex]..starts[vertex + 1]], &first_after, &mut ports.start);
            side(&into[ends[vertex]..ends[vertex + 1]], &last_before, &mut ports.end);
        }
        ports
    }
}

/// Spreads the edges at one side of a box, in the order of their other ends.
fn spread(edges: &[u32], centre: f64, width: f64, other_end: &dyn Fn(usize) -> f64, ports: &mut [f64]) {
    const WIDEST: f64 = 14.0;
    const CORNER: f64 = 12.0;
    let mut sorted: Vec<u32> = edges.to_vec();
    sort_numbers(&mut sorted, &mut |a, b| other_end(a as usize).total_cmp(&other_end(b as usize)));
    let gaps = sorted.len().saturating_sub(1) as f64;
    let step = if gaps > 0.0 { ((width - 2.0 * CORNER) / gaps).min(WIDEST) } else { 0.0 };
    for (k, &edge) in sorted.iter().enumerate() {
        ports[edge as usize] = centre + (k as f64 - gaps / 2.0) * step;
    }
}

/// Sets the parts side by side, in rows, so that the whole is about 1.5 times as wide as it is
/// long. Returns the corners of the parts and the extent of the whole.
fn pack(extents: &[Point]) -> (Vec<Point>, Point) {
    let area: f64 = extents.iter().map(|extent| (extent.across + PART_GAP) * (extent.along + PART_GAP)).sum();
    let widest = extents.iter().map(|extent| extent.across).fold(0.0, f64::max);
    let width = widest.max((area * 1.5).sqrt() - PART_GAP);
    let mut corners = Vec::with_capacity(extents.len());
    let mut whole = Point::default();
    let (mut at, mut row_length) = (Point::default(), 0.0_f64);
    for extent in extents {
        if at.across > 0.0 && at.across + extent.across > width + 1e-6 {
            at = Point::new(0.0, at.along + row_length + PART_GAP);
            row_length = 0.0;
        }
        corners.push(at);
        row_length = row_length.max(extent.along);
        whole.across = whole.across.max(at.across + extent.across);
        whole.along = at.along + row_length;
        at.across += extent.across + PART_GAP;
    }
    (corners, whole)
}

#[cfg(test)]
mod tests;
