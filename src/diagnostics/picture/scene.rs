//! The content of a picture: boxes and edges with their texts and colours, without positions.
//!
//! All three formats are written from a scene, so they show the same.

use super::builder::{Picture, TaskBox};
use super::color::{Color, ColorBy, Tint};
use super::graph::{Graph, TaskKind};
use super::text;
use crate::diagnostics::units;
use crate::sorted::{sort_items, sort_numbers};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// See the [module](self). Boxes are numbered along the flow: an edge to a lower number goes
/// against it.
pub(super) struct Scene {
    pub(super) boxes: Vec<SceneBox>,
    /// The box of each task.
    #[cfg_attr(not(feature = "dashboard"), expect(dead_code, reason = "only the dashboard uses it"))]
    pub(super) box_of_task: Vec<u32>,
    pub(super) edges: Vec<SceneEdge>,
    pub(super) is_collapsed: bool,
    /// The number of tasks on the critical path; 0 if it is not marked.
    pub(super) path_len: usize,
}

/// A box: one task, or several.
pub(super) struct SceneBox {
    /// The whole name, in one line.
    pub(super) name: String,
    /// The other lines: a count, arguments, a note.
    pub(super) notes: Vec<String>,
    /// The family of its first task.
    pub(super) family: u32,
    pub(super) color: Color,
    pub(super) kind: TaskKind,
    pub(super) is_output: bool,
    pub(super) is_critical: bool,
}

pub(super) struct SceneEdge {
    pub(super) from: u32,
    pub(super) to: u32,
    /// The number of dependencies that the edge stands for.
    pub(super) count: usize,
    /// Whether it stands for a value, and not only for an order.
    pub(super) has_values: bool,
    pub(super) is_critical: bool,
}

/// The tasks of each box.
struct Grouping {
    /// The box of each task.
    of_task: Vec<u32>,
    /// The tasks of box `i` are `tasks[rows[i]..rows[i + 1]]`, ascending.
    rows: Vec<usize>,
    tasks: Vec<u32>,
    names: Vec<Arc<str>>,
}

impl Scene {
    /// # Complexity
    /// O(V + E), plus the time of the picture's paint function.
    pub(super) fn of(picture: &Picture) -> Scene {
        let graph = &*picture.graph;
        let is_collapsed = picture.is_collapsed();
        let grouping =
            if is_collapsed { Grouping::by_family(graph, picture.max_tasks) } else { Grouping::one_each(graph) };
        let path = if picture.marks_path { graph.critical_path(picture.weights.as_deref()) } else { Vec::new() };
        // A path of one task shows nothing.
        let path = if path.len() > 1 { path } else { Vec::new() };
        let mut boxes: Vec<SceneBox> =
            (0..grouping.names.len()).map(|number| scene_box(picture, &grouping, number, is_collapsed)).collect();
        path.iter().for_each(|&id| boxes[grouping.of_task[id as usize] as usize].is_critical = true);
        let edges = edges(graph, &grouping, &path);
        Scene { boxes, box_of_task: grouping.of_task, edges, is_collapsed, path_len: path.len() }
    }

    /// `63 tasks, 62 dependencies`.
    pub(super) fn summary(&self, picture: &Picture) -> String {
        let tasks = text::count(picture.num_tasks(), "task", "tasks");
        let dependencies = text::count(picture.graph.num_dependencies(), "dependency", "dependencies");
        let groups = match self.is_collapsed {
            true => format!(", drawn as {}", text::count(self.boxes.len(), "group", "groups")),
            false => String::new(),
        };
        format!("{tasks}, {dependencies}{groups}")
    }

    /// `longest path: 6 tasks`.
    pub(super) fn path_summary(&self, picture: &Picture) -> String {
        let which = if picture.weights.is_some() { "heaviest path" } else { "longest path" };
        format!("{which}: {}", text::count(self.path_len, "task", "tasks"))
    }
}

impl Grouping {
    fn one_each(graph: &Graph) -> Grouping {
        let ids = 0..graph.num_tasks() as u32;
        Grouping {
            of_task: ids.clone().collect(),
            rows: (0..=graph.num_tasks()).collect(),
            tasks: ids.clone().collect(),
            names: ids.map(|id| Arc::clone(graph.name(id))).collect(),
        }
    }

    /// A box for each family, in the order of the mean depth of its tasks. The smallest families
    /// beyond `most` share one box.
    fn by_family(graph: &Graph, most: usize) -> Grouping {
        let mut num_tasks = vec![0_usize; graph.num_families()];
        let mut depth = vec![0_u64; graph.num_families()];
        for (id, task_depth) in (0..).zip(graph.depths()) {
            let family = graph.family(id) as usize;
            num_tasks[family] += 1;
            depth[family] += u64::from(task_depth);
        }
        // Families have the order of their first tasks, so the result is deterministic.
        let mut by_size: Vec<u32> = (0..graph.num_families() as u32).collect();
        sort_numbers(&mut by_size, &mut |a, b| num_tasks[b as usize].cmp(&num_tasks[a as usize]));
        let num_shown = if by_size.len() > most { most.saturating_sub(1) } else { by_size.len() };
        let others = &by_size[num_shown..];
        let sum = |of: &dyn Fn(u32) -> u64| others.iter().map(|&family| of(family)).sum::<u64>() as f64;
        let mean_of_others = sum(&|family| depth[family as usize]) / sum(&|family| num_tasks[family as usize] as u64);
        // The mean depth, the family and the name of each box.
        let mut order: Vec<(f64, u32, Arc<str>)> = Vec::with_capacity(num_shown + 1);
        for &family in &by_size[..num_shown] {
            let mean = depth[family as usize] as f64 / num_tasks[family as usize] as f64;
            order.push((mean, family, Arc::clone(graph.family_name(family))));
        }
        if !others.is_empty() {
            let name = format!("({} other names)", units::count(others.len() as u64));
            order.push((mean_of_others, u32::MAX, name.into()));
        }
        sort_items(&mut order, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let of_others = order.iter().position(|&(_, family, _)| family == u32::MAX).unwrap_or(0) as u32;
        let mut box_of_family = vec![of_others; graph.num_families()];
        for (number, &(_, family, _)) in (0..).zip(&order) {
            if family != u32::MAX {
                box_of_family[family as usize] = number;
            }
        }
        let of_task: Vec<u32> =
            (0..graph.num_tasks() as u32).map(|id| box_of_family[graph.family(id) as usize]).collect();
        let (rows, tasks) = super::layout::rows(order.len(), of_task.iter().copied());
        Grouping { of_task, rows, tasks, names: order.into_iter().map(|(.., name)| name).collect() }
    }

    fn tasks(&self, number: usize) -> &[u32] {
        &self.tasks[self.rows[number]..self.rows[number + 1]]
    }
}

fn scene_box(picture: &Picture, grouping: &Grouping, number: usize, is_collapsed: bool) -> SceneBox {
    let graph = &*picture.graph;
    let tasks = grouping.tasks(number);
    let name = &grouping.names[number];
    let drawn = TaskBox { graph, name, tasks };
    let Tint { color, note } = match (&picture.paint, picture.color_by) {
        (Some(paint), _) => paint(&drawn),
        (None, ColorBy::Name) => Color::of_index(graph.family(tasks[0]) as usize).into(),
        (None, ColorBy::Rank) => {
            let mean = tasks.iter().map(|&id| f64::from(id)).sum::<f64>() / tasks.len() as f64;
            Color::scale(mean / (graph.num_tasks() - 1).max(1) as f64).into()
        }
        (None, ColorBy::Nothing) => Tint::default(),
    };
    let mut notes = Vec::new();
    if is_collapsed {
        notes.push(text::count(tasks.len(), "task", "tasks"));
    } else if picture.shows_arguments {
        notes.extend(graph.arguments(tasks[0]).map(str::to_owned));
    }
    notes.extend(note.filter(|note| !note.is_empty()));
    let kind = graph.kind(tasks[0]);
    SceneBox {
        name: text::in_one_line(name).into_owned(),
        notes: notes.iter().map(|note| text::in_one_line(note).into_owned()).collect(),
        family: graph.family(tasks[0]),
        color: color.unwrap_or(Color::PLAIN),
        // A group with a local task has parts in this process, so it is drawn as local.
        kind: if tasks.iter().all(|&id| graph.kind(id) == kind) { kind } else { TaskKind::Local },
        is_output: drawn.is_output(),
        is_critical: false,
    }
}

/// One edge for all dependencies of one box on another, in the order of their first dependencies.
fn edges(graph: &Graph, grouping: &Grouping, path: &[u32]) -> Vec<SceneEdge> {
    let mut edges: Vec<SceneEdge> = Vec::new();
    let mut numbers: HashMap<(u32, u32), u32> = HashMap::new();
    // Most dependencies join the same boxes as the dependency before.
    let mut last: Option<((u32, u32), u32)> = None;
    let mut on_path = vec![u32::MAX; if path.is_empty() { 0 } else { graph.num_tasks() }];
    path.windows(2).for_each(|pair| on_path[pair[1] as usize] = pair[0]);
    for id in 0..graph.num_tasks() as u32 {
        let (read, after) = graph.inputs(id);
        for (inputs, has_values) in [(read, true), (after, false)] {
            for &input in inputs {
                let ends = (grouping.of_task[input as usize], grouping.of_task[id as usize]);
                let number = match last {
                    Some((same, number)) if same == ends => number,
                    _ => *numbers.entry(ends).or_insert_with(|| {
                        edges.push(SceneEdge {
                            from: ends.0,
                            to: ends.1,
                            count: 0,
                            has_values: false,
                            is_critical: false,
                        });
                        edges.len() as u32 - 1
                    }),
                };
                last = Some((ends, number));
                let edge = &mut edges[number as usize];
                edge.count += 1;
                edge.has_values |= has_values;
                edge.is_critical |= on_path.get(id as usize) == Some(&input);
            }
        }
    }
    edges
}

impl SceneBox {
    /// The maximum width of a line, in pixels.
    pub(super) const MAX_WIDTH: f64 = 210.0;

    /// The lines of the box, each cut to fit.
    pub(super) fn lines(&self) -> Vec<Cow<'_, str>> {
        let name = text::cut(&self.name, text::FONT_SIZE, SceneBox::MAX_WIDTH);
        let notes = self.notes.iter().map(|note| text::cut(note, text::SMALL_FONT_SIZE, SceneBox::MAX_WIDTH));
        std::iter::once(name).chain(notes).collect()
    }
}
