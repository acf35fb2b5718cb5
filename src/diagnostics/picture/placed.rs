//! The positions of a scene, for the dashboard, which draws the graph itself and repaints it during
//! a run.

use super::builder::{Direction, Picture};
use super::graph::{Graph, TaskKind};
use super::layout::{Point, RoutePath};
use super::scene::Scene;
use super::svg::{Drawing, Orientation, PagePoint, PathData};
use crate::diagnostics::json::rounded;
use serde::Serialize;
use std::sync::Arc;

/// A scene with its positions, as the API of the dashboard has it. Distances are in the units of
/// the pictures, which are about a pixel, rounded to tenths.
#[derive(Debug, Serialize)]
pub(in crate::diagnostics) struct Placed {
    pub(in crate::diagnostics) width: f64,
    pub(in crate::diagnostics) height: f64,
    pub(in crate::diagnostics) is_collapsed: bool,
    pub(in crate::diagnostics) boxes: Vec<PlacedBox>,
    pub(in crate::diagnostics) edges: Vec<PlacedEdge>,
    /// The box of each task.
    #[serde(skip)]
    pub(in crate::diagnostics) box_of_task: Vec<u32>,
}

#[derive(Debug, Serialize)]
pub(in crate::diagnostics) struct PlacedBox {
    /// The whole name.
    pub(in crate::diagnostics) name: String,
    /// The name, cut to fit.
    pub(in crate::diagnostics) label: String,
    /// The upper left corner.
    pub(in crate::diagnostics) x: f64,
    pub(in crate::diagnostics) y: f64,
    pub(in crate::diagnostics) width: f64,
    pub(in crate::diagnostics) height: f64,
    /// The id of the task, if there is only one.
    task: Option<u32>,
    num_tasks: u32,
    pub(in crate::diagnostics) is_output: bool,
    pub(in crate::diagnostics) is_value: bool,
    pub(in crate::diagnostics) is_local: bool,
}

#[derive(Debug, Serialize)]
pub(in crate::diagnostics) struct PlacedEdge {
    /// The `d` attribute of an SVG path, to the tip.
    pub(in crate::diagnostics) path: String,
    pub(in crate::diagnostics) has_values: bool,
    /// In a collapsed graph.
    #[serde(flatten)]
    count: Option<EdgeCount>,
}

/// The number of dependencies of an edge, and the position for this number.
#[derive(Debug, Serialize)]
struct EdgeCount {
    count: usize,
    x: f64,
    y: f64,
}

impl Placed {
    /// Places the graph, collapsed if it has more than `max_tasks` tasks. Every box has room for a
    /// line below the name.
    ///
    /// # Complexity
    /// O(V + E), and some milliseconds for 300 boxes.
    pub(in crate::diagnostics) fn of(graph: &Arc<Graph>, max_tasks: usize, direction: Direction) -> Placed {
        let picture = Picture::of_graph(Arc::clone(graph)).critical_path(false).max_tasks(max_tasks);
        let picture = picture.direction(direction);
        let scene = Scene::of(&picture);
        let Drawing { map, lines, sizes, layout, .. } = Drawing::of(&picture, &scene);
        let tenths = |number: f64| rounded(number, 1);
        let boxes = scene.boxes.iter().zip(&lines).zip(&sizes).zip(&layout.boxes);
        let boxes = boxes.map(|(((scene_box, lines), size), &centre)| {
            let PagePoint { x, y } = map.point(centre);
            PlacedBox {
                name: scene_box.name.clone(),
                label: lines[0].to_string(),
                x: tenths(x - size.width / 2.0),
                y: tenths(y - size.height / 2.0),
                width: tenths(size.width),
                height: tenths(size.height),
                task: None,
                num_tasks: 0,
                is_output: scene_box.is_output,
                is_value: scene_box.kind == TaskKind::Value,
                is_local: scene_box.kind == TaskKind::Local,
            }
        });
        let edges = scene.edges.iter().zip(&layout.routes).map(|(edge, route)| PlacedEdge {
            path: path(&map, &route.path),
            has_values: edge.has_values,
            count: route.label.map(|label| {
                let PagePoint { x, y } = map.point(label);
                EdgeCount { count: edge.count, x: tenths(x), y: tenths(y) }
            }),
        });
        let mut boxes: Vec<PlacedBox> = boxes.collect();
        for (id, &number) in (0..).zip(&scene.box_of_task) {
            let placed = &mut boxes[number as usize];
            placed.num_tasks += 1;
            placed.task = (placed.num_tasks == 1).then_some(id);
        }
        let extent = map.size(layout.extent);
        Placed {
            width: tenths(extent.width),
            height: tenths(extent.height),
            is_collapsed: scene.is_collapsed,
            boxes,
            edges: edges.collect(),
            box_of_task: scene.box_of_task,
        }
    }
}

fn path(map: &Orientation, path: &RoutePath) -> String {
    let mut data = PathData::new(map);
    match path {
        RoutePath::Through(points) => data.put_through(points),
        RoutePath::Loop([start, end, farthest]) => {
            let reach = (farthest.across - start.across) * 4.0 / 3.0;
            let control = |of: &Point| Point::new(of.across + reach, of.along);
            data.put("M", &[*start]);
            data.put("C", &[control(start), control(end), *end]);
        }
    }
    data.text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Delayed, Refs, delayed, prepare};

    fn placed(width: u64, max_tasks: usize) -> Placed {
        let leaves: Vec<Delayed<u64>> = (0..width).map(|i| delayed(|i| i, (i,)).name(format!("leaf {i}"))).collect();
        let sum = delayed(|all: Refs<'_, u64>| all.iter().sum::<u64>(), (&leaves,)).name("sum");
        let plan = prepare(&sum).unwrap();
        Placed::of(&Arc::new(Graph::of(plan.plan())), max_tasks, Direction::Right)
    }

    #[test]
    fn boxes_lie_inside_and_arrows_end_at_them() {
        let placed = placed(5, 10);
        assert_eq!((placed.boxes.len(), placed.edges.len(), placed.is_collapsed), (6, 5, false));
        for it in &placed.boxes {
            assert!(it.x >= 0.0 && it.y >= 0.0, "{it:?}");
            assert!(it.x + it.width <= placed.width + 0.1 && it.y + it.height <= placed.height + 0.1, "{it:?}");
        }
        assert!(placed.edges.iter().all(|edge| edge.path.starts_with('M') && edge.count.is_none()));
        assert_eq!(placed.boxes.iter().filter(|it| it.is_output).map(|it| &*it.name).collect::<Vec<_>>(), ["sum"]);
        assert_eq!(placed.box_of_task, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_large_graph_has_a_box_for_each_name() {
        let placed = placed(500, 10);
        assert!(placed.is_collapsed);
        let leaves = placed.boxes.iter().position(|it| it.name == "leaf #").unwrap();
        assert_eq!(placed.box_of_task.iter().filter(|&&it| it as usize == leaves).count(), 500);
        assert_eq!(placed.edges.iter().filter_map(|edge| edge.count.as_ref()).map(|it| it.count).sum::<usize>(), 500);
    }
}
