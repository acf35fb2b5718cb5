use super::layers::Layered;
use super::*;

/// Edges between boxes of the width of names.
struct Graph {
    boxes: Vec<Point>,
    edges: Vec<Edge>,
}

impl Graph {
    fn new(inputs: &[Vec<u32>]) -> Graph {
        let boxes =
            (0..inputs.len()).map(|id| Point::new(44.0 + (id * 37 % 150) as f64, 28.0 + (id % 3) as f64 * 13.0));
        let edges = (0..).zip(inputs).flat_map(|(to, inputs)| {
            let mut inputs = inputs.clone();
            inputs.sort_unstable();
            inputs.dedup();
            inputs.into_iter().map(move |from| Edge { from, to, label: None })
        });
        Graph { boxes: boxes.collect(), edges: edges.collect() }
    }

    fn layered(&self) -> Layered {
        let extents: Vec<Extent> = self.boxes.iter().map(|&size| Extent::of(size, None)).collect();
        Layered::new(&extents, &self.edges)
    }
}

fn tree(leaves: u32) -> Vec<Vec<u32>> {
    let mut inputs = vec![Vec::new(); leaves as usize];
    let mut level: Vec<u32> = (0..leaves).collect();
    while level.len() > 1 {
        let reduce = |pair: &[u32]| match *pair {
            [alone] => alone,
            _ => {
                inputs.push(pair.to_vec());
                inputs.len() as u32 - 1
            }
        };
        level = level.chunks(2).map(reduce).collect();
    }
    inputs
}

fn rows_of(width: u32, steps: u32, reads: impl Fn(u32, u32) -> Vec<u32>) -> Vec<Vec<u32>> {
    let mut inputs = vec![Vec::new(); width as usize];
    for step in 0..steps {
        inputs.extend((0..width).map(|i| reads(step, i).into_iter().map(|place| step * width + place).collect()));
    }
    inputs
}

fn random(seed: u64, num_tasks: u32, max_inputs: u64, reach: u64) -> Vec<Vec<u32>> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut below = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) % bound
    };
    let mut inputs = Vec::new();
    for task in 0..num_tasks {
        let count = if task == 0 { 0 } else { below(max_inputs + 1) };
        inputs.push((0..count).map(|_| task - 1 - below(reach.min(u64::from(task))) as u32).collect());
    }
    inputs
}

/// Every shape that the tests use.
fn graphs() -> Vec<(String, Graph)> {
    let mut shapes = vec![
        ("nothing".to_owned(), vec![]),
        ("one".to_owned(), vec![vec![]]),
        ("chain".to_owned(), (0..40).map(|id: u32| id.checked_sub(1).into_iter().collect()).collect()),
        ("tree".to_owned(), tree(32)),
        ("odd tree".to_owned(), tree(21)),
        ("stencil".to_owned(), rows_of(6, 5, |_, i| (i.saturating_sub(1)..(i + 2).min(6)).collect())),
        ("fft".to_owned(), rows_of(8, 3, |step, i| vec![i, i ^ (1 << step)])),
        ("all to all".to_owned(), rows_of(6, 2, |_, _| (0..6).collect())),
        ("skips".to_owned(), (0..12).map(|id: u32| (0..id).filter(|&i| i + 1 == id || i % 3 == 0).collect()).collect()),
        ("independent".to_owned(), vec![vec![]; 50]),
    ];
    for seed in 0..20 {
        let num_tasks = 20 + 9 * seed as u32;
        shapes.push((format!("random {seed}"), random(seed, num_tasks, 1 + seed % 4, 5 + 10 * seed)));
    }
    shapes.into_iter().map(|(name, inputs)| (name, Graph::new(&inputs))).collect()
}

/// The points of a route, close to one another.
fn walked(route: &Route) -> Vec<Point> {
    let RoutePath::Through(points) = &route.path else { return Vec::new() };
    let piece = |ends: &[Point]| {
        let (a, b) = (ends[0], ends[1]);
        let along = (a.along + b.along) / 2.0;
        let controls = [a, Point::new(a.across, along), Point::new(b.across, along), b];
        (0..=20).map(move |i| {
            let t = f64::from(i) / 20.0;
            let weights = [(1.0 - t).powi(3), 3.0 * t * (1.0 - t).powi(2), 3.0 * t * t * (1.0 - t), t.powi(3)];
            let sum =
                |of: fn(&Point) -> f64| controls.iter().zip(weights).map(|(point, weight)| of(point) * weight).sum();
            Point::new(sum(|point| point.across), sum(|point| point.along))
        })
    };
    points.windows(2).flat_map(piece).collect()
}

fn overlap(a: (Point, Point), b: (Point, Point), slack: f64) -> bool {
    let near = |a: f64, b: f64, extent: f64| (a - b).abs() < extent / 2.0 - slack;
    near(a.0.across, b.0.across, a.1.across + b.1.across) && near(a.0.along, b.0.along, a.1.along + b.1.along)
}

#[test]
fn no_two_boxes_overlap_and_all_are_inside() {
    for (name, Graph { boxes, edges }) in graphs() {
        let layout = layout(&boxes, &edges);
        let placed: Vec<_> = layout.boxes.iter().copied().zip(boxes.iter().copied()).collect();
        for (i, &a) in placed.iter().enumerate() {
            let (centre, extent) = a;
            assert!(
                centre.across - extent.across / 2.0 > -1e-6 && centre.along - extent.along / 2.0 > -1e-6,
                "{name}: {i}"
            );
            assert!(centre.across + extent.across / 2.0 < layout.extent.across + 1e-6, "{name}: {i}");
            assert!(centre.along + extent.along / 2.0 < layout.extent.along + 1e-6, "{name}: {i}");
            assert!(placed[..i].iter().all(|&b| !overlap(a, b, 1e-6)), "{name}: {i} overlaps one before");
        }
    }
}

#[test]
fn every_edge_goes_along_the_flow_between_its_boxes_and_touches_no_other() {
    for (name, Graph { boxes, edges }) in graphs() {
        let layout = layout(&boxes, &edges);
        for (edge, route) in edges.iter().zip(&layout.routes) {
            let RoutePath::Through(points) = &route.path else { panic!("{name}: {edge:?} is no loop") };
            assert!(points.windows(2).all(|pair| pair[0].along < pair[1].along + 1e-6), "{name}: {edge:?} turns back");
            let (from, to) = (edge.from as usize, edge.to as usize);
            for (id, point, side) in [(from, points[0], 0.5), (to, points[points.len() - 1], -0.5)] {
                assert!(
                    (point.along - layout.boxes[id].along - side * boxes[id].along).abs() < 1e-6,
                    "{name}: {edge:?}"
                );
                assert!((point.across - layout.boxes[id].across).abs() < boxes[id].across / 2.0, "{name}: {edge:?}");
            }
            let walked = walked(route);
            for id in (0..boxes.len()).filter(|&id| id != from && id != to) {
                let touches = |&point: &Point| overlap((point, Point::default()), (layout.boxes[id], boxes[id]), -1.0);
                assert!(!walked.iter().any(touches), "{name}: {edge:?} touches {id}");
            }
        }
    }
}

#[test]
fn the_order_has_no_more_crossings_than_that_of_the_ids() {
    let (mut all_before, mut all_after) = (0, 0);
    for (name, graph) in graphs() {
        if graph.boxes.is_empty() {
            continue;
        }
        let mut layered = graph.layered();
        layered.set_order(crossings::by_ids(&layered));
        let before = crossings::count(&layered);
        crossings::reduce(&mut layered);
        let after = crossings::count(&layered);
        assert!(after <= before, "{name}: {before} -> {after}");
        if name.ends_with("tree") || name == "chain" {
            assert_eq!(after, 0, "{name}");
        }
        all_before += before;
        all_after += after;
    }
    assert!(all_after * 2 < all_before, "{all_before} -> {all_after}");
}

#[test]
fn crossings_are_counted_as_by_comparing_each_pair() {
    for (name, graph) in graphs() {
        let layered = graph.layered();
        let mut pairs = 0;
        for layer in layered.order() {
            let place = |vertex: u32| layered.order()[layered.layer(vertex) as usize].iter().position(|&v| v == vertex);
            let joins: Vec<_> = layer
                .iter()
                .enumerate()
                .flat_map(|(i, &v)| layered.below(v).iter().map(move |&w| (i, w)))
                .map(|(i, w)| (i, place(w)))
                .collect();
            for (i, a) in joins.iter().enumerate() {
                pairs +=
                    joins[..i].iter().filter(|b| (a.0 < b.0 && a.1 > b.1) || (a.0 > b.0 && a.1 < b.1)).count() as u64;
            }
        }
        assert_eq!(crossings::count(&layered), pairs, "{name}");
    }
}

#[test]
fn a_box_of_a_tree_is_centred_over_its_inputs() {
    let inputs = tree(32);
    let mut graph = Graph::new(&inputs);
    graph.boxes.fill(Point::new(60.0, 28.0));
    let layout = layout(&graph.boxes, &graph.edges);
    for (id, inputs) in inputs.iter().enumerate().filter(|(_, inputs)| !inputs.is_empty()) {
        let middle = inputs.iter().map(|&input| layout.boxes[input as usize].across).sum::<f64>() / inputs.len() as f64;
        assert!((layout.boxes[id].across - middle).abs() < 1.0, "{id}");
    }
}

#[test]
fn a_long_edge_beside_a_chain_is_straight() {
    let inputs: Vec<Vec<u32>> =
        (0..10).map(|id: u32| if id == 9 { vec![8, 0] } else { id.checked_sub(1).into_iter().collect() }).collect();
    let graph = Graph::new(&inputs);
    let layout = layout(&graph.boxes, &graph.edges);
    let RoutePath::Through(points) =
        &layout.routes[graph.edges.iter().position(|a| (a.from, a.to) == (0, 9)).unwrap()].path
    else {
        panic!("an edge between two boxes is no loop")
    };
    let bends = &points[2..points.len() - 2];
    assert!(bends.len() >= 2 && bends.iter().all(|point| (point.across - bends[0].across).abs() < 1e-6), "{points:?}");
}

#[test]
fn labels_lie_on_their_edges_and_do_not_overlap() {
    let label = Point::new(30.0, 13.0);
    let edge = |from, to| Edge { from, to, label: Some(label) };
    let boxes = [Point::new(80.0, 41.0); 5];
    let edges =
        [edge(0, 1), edge(1, 0), edge(1, 1), edge(0, 2), edge(1, 2), edge(0, 3), edge(3, 4), edge(2, 4), edge(0, 4)];
    let layout = layout(&boxes, &edges);
    let labels: Vec<_> = layout.routes.iter().map(|route| (route.label.unwrap(), label)).collect();
    let boxes: Vec<_> = layout.boxes.iter().copied().zip(boxes).collect();
    for (i, &a) in labels.iter().enumerate() {
        assert!(labels[..i].iter().chain(&boxes).all(|&b| !overlap(a, b, 1e-6)), "{i}");
        if let RoutePath::Through(points) = &layout.routes[i].path {
            assert!(points.iter().any(|point| (point.across - a.0.across).abs() < 1e-6), "{i}");
        }
    }
    // The edge against the flow starts at the upper side of its box and ends at the lower side of
    // the other.
    let RoutePath::Through(back) = &layout.routes[1].path else { panic!("no loop") };
    assert!(back[0].along > back[back.len() - 1].along);
    assert!(matches!(layout.routes[2].path, RoutePath::Loop(_)));
}

#[test]
fn a_layout_is_the_same_every_time() {
    for (name, Graph { boxes, edges }) in graphs() {
        assert_eq!(layout(&boxes, &edges), layout(&boxes, &edges), "{name}");
    }
}

#[test]
fn many_long_edges_have_limited_bends_and_a_deep_graph_does_not_recur() {
    // Every task also reads the first one. With all bends there would be 12 million.
    let num_tasks = 5_000_u32;
    let inputs: Vec<Vec<u32>> =
        (0..num_tasks).map(|id| id.checked_sub(1).into_iter().chain((id > 1).then_some(0)).collect()).collect();
    let graph = Graph::new(&inputs);
    assert!(graph.layered().num_vertices() < 200_000);
    let layout = layout(&graph.boxes, &graph.edges);
    assert!(layout.boxes.iter().all(|centre| centre.across.is_finite() && centre.along.is_finite()));
}
