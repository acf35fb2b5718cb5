//! Where boxes and edges go: a layered drawing.
//!
//! Distances are *along* the flow of data and *across* it; whether that is down the page or to the right is up to the one who draws.
//!
//! # How
//!
//! The method of Sugiyama, Tagawa and Toda, for each connected part of the graph on its own:
//!
//! 1. [`layers`] puts every box into a layer after those of its inputs, and parts an edge that passes layers into pieces from layer to
//!    layer; the *bends* between these take room in their layers like boxes.
//! 2. [`crossings`] orders each layer so that few pieces cross.
//! 3. [`positions`] moves the boxes of a layer across the flow, towards the ones they are joined to, in their order.
//! 4. Here, the parts are set beside one another, and edges get their way: straight through a layer, in a curve from layer to layer.
//!
//! # What is always true
//!
//! 1. Boxes do not overlap, and what lies in a layer lies in a *band* that is as thick as the layer's thickest box. Arrows turn only
//!    between bands, and pass a band at a bend that has room of its own. So no edge touches a box but its ends.
//! 2. An edge whose number of origin is the lower one goes along the flow; any other goes against it, or is a loop.
//! 3. The result depends on nothing but the arguments. Nothing recurs.
//!
//! # Source
//!
//! K. Sugiyama, S. Tagawa, M. Toda, "Methods for visual understanding of hierarchical system structures" (1981), for the whole; E. R.
//! Gansner, E. Koutsofios, S. C. North, K.-P. Vo, "A technique for drawing directed graphs" (1993), for exchanging neighbours, for the
//! weights that keep long edges straight, and for labels as boxes of their own.
//!
//! Not taken: the crate `rust-sugiyama`, which places the nodes and leaves it to others to lead edges around them, and `layout-rs`,
//! which takes minutes for some hundreds of nodes.

mod crossings;
mod layers;
mod positions;

use layers::Layered;

/// A place, or an extent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) across: f64,
    pub(super) along: f64,
}

impl Point {
    pub(super) fn new(across: f64, along: f64) -> Self {
        Point { across, along }
    }
}

/// An edge to be drawn from one box to another, or to itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) from: u32,
    pub(super) to: u32,
    /// The extent of what is written at it.
    pub(super) label: Option<Point>,
}

/// See the [module](self).
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) extent: Point,
    /// The centres of the boxes.
    pub(super) boxes: Vec<Point>,
    pub(super) routes: Vec<Route>,
}

/// The way of an edge.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Route {
    pub(super) way: Way,
    /// The centre of what is written at it.
    pub(super) label: Option<Point>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Way {
    /// From point to point: straight where two are at the same place across the flow, and otherwise in a curve that starts and ends
    /// along the flow.
    Through(Vec<Point>),
    /// Out of the side of a box, around, and in again; the third point is the farthest one.
    Loop([Point; 3]),
}

impl Default for Way {
    fn default() -> Self {
        Way::Through(Vec::new())
    }
}

/// Between parts that are not connected.
const PART_GAP: f64 = 26.0;
/// How far a loop goes out of its box, and from where to where.
const LOOP_REACH: f64 = 24.0;
const LOOP_HALF: f64 = 8.0;

/// Lays out boxes of the given extents.
///
/// # Complexity
/// O(V + E + B) space and nearly that in time, where B is the number of bends. There are never many more than five for each box and
/// edge: of a graph that would need more, the longest edges go straight, also through boxes.
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
    for (members, ways) in parts.iter() {
        extents.push(lay_out_part(boxes, edges, &loops, members, ways, &parts.local, &mut layout));
    }
    let (corners, extent) = pack(&extents);
    layout.extent = extent;
    for ((members, ways), corner) in parts.iter().zip(corners) {
        members.iter().for_each(|&id| shift(&mut layout.boxes[id as usize], corner));
        for &edge in ways {
            let route = &mut layout.routes[edge as usize];
            match &mut route.way {
                Way::Through(points) => points.iter_mut().for_each(|point| shift(point, corner)),
                Way::Loop(points) => points.iter_mut().for_each(|point| shift(point, corner)),
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

/// The connected parts, by their first box.
struct Parts {
    box_rows: Vec<usize>,
    boxes: Vec<u32>,
    arrow_rows: Vec<usize>,
    edges: Vec<u32>,
    /// The place of each box in its part.
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
        let (arrow_rows, edges) = rows(num_parts as usize, edges.iter().map(|edge| part[edge.from as usize]));
        let mut local = vec![0; num_boxes];
        for members in box_rows.windows(2) {
            (0..).zip(&boxes[members[0]..members[1]]).for_each(|(place, &id)| local[id as usize] = place);
        }
        Parts { box_rows, boxes, arrow_rows, edges, local }
    }

    fn len(&self) -> usize {
        self.box_rows.len() - 1
    }

    fn iter(&self) -> impl Iterator<Item = (&[u32], &[u32])> {
        let boxes = self.box_rows.windows(2).map(|row| &self.boxes[row[0]..row[1]]);
        boxes.zip(self.arrow_rows.windows(2).map(|row| &self.edges[row[0]..row[1]]))
    }
}

/// The places at which each number below `count` stands, row by row, ascending.
pub(super) fn rows(count: usize, numbers: impl Iterator<Item = u32> + Clone) -> (Vec<usize>, Vec<u32>) {
    let mut starts = vec![0; count + 2];
    for number in numbers.clone() {
        starts[number as usize + 2] += 1;
    }
    for i in 2..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut places = vec![0; starts[count + 1]];
    for (place, number) in (0..).zip(numbers) {
        let next = &mut starts[number as usize + 1];
        places[*next] = place;
        *next += 1;
    }
    starts.pop();
    (starts, places)
}

/// Writes the places of one part's boxes and edges, from (0, 0) on, and returns its extent.
fn lay_out_part(
    boxes: &[Point],
    edges: &[Edge],
    loops: &[Option<Point>],
    members: &[u32],
    ways: &[u32],
    local: &[u32],
    layout: &mut Layout,
) -> Point {
    // Arrows along the flow, in the numbers of this part; `true` for one that is turned round.
    let mut forward = Vec::with_capacity(ways.len());
    for &edge in ways {
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
            let of_box = ways.iter().filter(|&&edge| edges[edge as usize].from == id);
            for &edge in of_box.filter(|&&edge| edges[edge as usize].to == id) {
                layout.routes[edge as usize] =
                    Route { way: Way::Loop([at(-LOOP_HALF), at(LOOP_HALF), farthest]), label: Some(label) };
            }
        }
    }
    let ports = Ports::of(&graph, &across, &ends, members.iter().map(|&id| boxes[id as usize].across));
    for (i, &(edge, Edge { from, to, .. }, turned)) in forward.iter().enumerate() {
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
        if turned {
            points.reverse();
        }
        layout.routes[edge as usize] = Route { way: Way::Through(points), label };
    }
    Point::new(positions::extent(&graph, &across), bands.total())
}

/// What a vertex takes up in its layer, on either side of its centre, and along the flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    before: f64,
    after: f64,
    along: f64,
}

impl Extent {
    fn of(size: Point, of_loop: Option<Point>) -> Extent {
        let half = size.across / 2.0;
        let loop_reach = of_loop.map_or(0.0, |label| LOOP_REACH + label.across);
        Extent { before: half, after: half + loop_reach, along: size.along }
    }
}

/// Where each layer begins and ends along the flow.
struct Bands(Vec<(f64, f64)>);

impl Bands {
    /// The steeper the pieces between two layers would have to turn, the farther these are from each other.
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

/// Where on the side of its box each edge starts and ends, across the flow.
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
            let centre = across[vertex];
            spread(
                &out[starts[vertex]..starts[vertex + 1]],
                centre,
                width,
                |i| across[first_after(i) as usize],
                &mut ports.start,
            );
            spread(
                &into[ends[vertex]..ends[vertex + 1]],
                centre,
                width,
                |i| across[last_before(i) as usize],
                &mut ports.end,
            );
        }
        ports
    }
}

/// Spreads the edges at one side of a box, in the order of where they come from or go to.
fn spread(edges: &[u32], centre: f64, width: f64, other_end: impl Fn(usize) -> f64, ports: &mut [f64]) {
    const WIDEST: f64 = 14.0;
    const CORNER: f64 = 12.0;
    let mut sorted: Vec<u32> = edges.to_vec();
    sorted.sort_by(|&a, &b| other_end(a as usize).total_cmp(&other_end(b as usize)));
    let gaps = sorted.len().saturating_sub(1) as f64;
    let step = if gaps > 0.0 { ((width - 2.0 * CORNER) / gaps).min(WIDEST) } else { 0.0 };
    for (k, &edge) in sorted.iter().enumerate() {
        ports[edge as usize] = centre + (k as f64 - gaps / 2.0) * step;
    }
}

/// Sets the parts side by side, in rows that make the whole about as wide as two thirds of it are long; returns their corners and the
/// extent of the whole.
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
