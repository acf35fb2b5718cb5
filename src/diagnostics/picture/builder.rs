//! A picture of a graph: its settings.

use super::color::{ColorBy, Tint};
use super::graph::{Graph, TaskKind};
use std::fmt;
use std::sync::Arc;

/// When a picture shows groups of tasks instead of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Collapse {
    /// If the graph has more than [`max_tasks`](Picture::max_tasks) tasks.
    #[default]
    Auto,
    /// Never: every task has its own box.
    Never,
    /// Always: all tasks of one function share a box, and so do all tasks whose given names differ
    /// in numbers only.
    ByName,
}

/// The direction in which data flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// Down the page.
    #[default]
    Down,
    /// To the right.
    Right,
}

/// A picture of a graph, made by [`visualize`](crate::visualize).
///
/// A picture is a copy of the graph's shape and names, so it keeps no task and no value alive.
/// [`save`](Picture::save), [`to_svg`](Picture::to_svg) and their siblings draw it.
#[derive(Clone)]
pub struct Picture {
    pub(super) graph: Arc<Graph>,
    pub(super) color_by: ColorBy,
    pub(super) paint: Option<Arc<Paint>>,
    pub(super) weights: Option<Arc<[f64]>>,
    pub(super) marks_path: bool,
    pub(super) shows_arguments: bool,
    pub(super) collapse: Collapse,
    pub(super) max_tasks: usize,
    pub(super) direction: Direction,
    pub(super) title: Option<String>,
}

pub(super) type Paint = dyn Fn(&TaskBox<'_>) -> Tint + Send + Sync;

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picture")
            .field("num_tasks", &self.num_tasks())
            .field("is_collapsed", &self.is_collapsed())
            .finish_non_exhaustive()
    }
}

impl Picture {
    pub(super) fn new(graph: Graph) -> Picture {
        Picture::of_graph(Arc::new(graph))
    }

    pub(in crate::diagnostics) fn of_graph(graph: Arc<Graph>) -> Picture {
        /// A person cannot read a larger picture. A tree of this size is ten screens wide.
        const MAX_TASKS: usize = 300;
        Picture {
            graph,
            color_by: ColorBy::default(),
            paint: None,
            weights: None,
            marks_path: true,
            shows_arguments: false,
            collapse: Collapse::default(),
            max_tasks: MAX_TASKS,
            direction: Direction::default(),
            title: None,
        }
    }

    /// Sets the meaning of the colours. The default is [`ColorBy::Name`].
    #[must_use]
    pub fn color_by(mut self, color_by: ColorBy) -> Picture {
        self.color_by = color_by;
        self.paint = None;
        self
    }

    /// Paints each box with a function, for example by a measurement of its tasks.
    ///
    /// The function gets the task or the group of a box. It is called once for each box, when the
    /// picture is written.
    ///
    /// # Examples
    /// ```
    /// use sprang::picture::{Color, Tint};
    /// use sprang::{delayed, prepare};
    ///
    /// let a = delayed(|| 1, ());
    /// let sum = delayed(|a: &i32, b: i32| a + b, (&a, 2));
    /// let plan = prepare(&sum)?;
    /// let millis = [30.0, 120.0]; // by the id of the task
    /// let picture = plan.visualize().color_with(move |task_box| {
    ///     let sum: f64 = task_box.tasks().map(|id| millis[id]).sum();
    ///     Tint::from(Color::scale(sum / 150.0)).note(format!("{sum} ms"))
    /// });
    /// assert!(picture.to_svg().contains("120 ms"));
    /// # Ok::<_, sprang::Error>(())
    /// ```
    #[must_use]
    pub fn color_with<P: Into<Tint>>(mut self, paint: impl Fn(&TaskBox<'_>) -> P + Send + Sync + 'static) -> Picture {
        self.paint = Some(Arc::new(move |task_box| paint(task_box).into()));
        self
    }

    /// Whether the critical path is marked. The default is true. Of several longest paths, one is
    /// marked.
    #[must_use]
    pub fn critical_path(mut self, mark: bool) -> Picture {
        self.marks_path = mark;
        self
    }

    /// Whether the plain arguments of each task are written below its name: numbers and texts by
    /// value, and arguments given by [`lit`](crate::lit) by type. The default is false, because
    /// arguments may be confidential.
    ///
    /// Groups, and graphs of more than 10 000 tasks, never show arguments.
    ///
    /// # Examples
    /// ```
    /// use sprang::{delayed, lit};
    ///
    /// let add = |all: &Vec<i32>, k: i32| all.iter().sum::<i32>() + k;
    /// let sum = delayed(add, (lit(vec![1, 2]), 42));
    /// let picture = sum.visualize()?;
    /// assert!(picture.clone().arguments(true).to_dot().contains("Vec<i32>, 42"));
    /// assert!(!picture.to_dot().contains("42"));
    /// # Ok::<_, sprang::Error>(())
    /// ```
    #[must_use]
    pub fn arguments(mut self, show: bool) -> Picture {
        self.shows_arguments = show;
        self
    }

    /// Sets the weight of each task on a path, by its id, for example its duration. By default each
    /// task weighs 1.
    ///
    /// Negative, infinite and NaN weights count as 0.
    ///
    /// # Examples
    /// ```
    /// use sprang::{compute, delayed, visualize};
    ///
    /// let slow = delayed(|| 1, ()).name("slow");
    /// let quick = delayed(|| 2, ()).name("quick");
    /// let sum = delayed(|a: &i32, b: &i32| a + b, (&quick, &slow)).name("sum");
    /// let picture = sum.visualize()?;
    /// let slow = (0..3).find(|&id| picture.name(id) == "slow").unwrap();
    /// let path = picture.weights(|id| if id == slow { 9.0 } else { 1.0 }).to_dot();
    /// assert!(path.contains(&format!("t{slow} -> t2 [color=\"#cf3a2b\"")));
    /// # Ok::<_, sprang::Error>(())
    /// ```
    #[must_use]
    pub fn weights(mut self, weight: impl Fn(usize) -> f64) -> Picture {
        let weights =
            (0..self.num_tasks()).map(|id| Some(weight(id)).filter(|w| w.is_finite() && *w > 0.0).unwrap_or(0.0));
        self.weights = Some(weights.collect());
        self
    }

    /// Sets when tasks are drawn as groups. The default is [`Collapse::Auto`].
    #[must_use]
    pub fn collapse(mut self, collapse: Collapse) -> Picture {
        self.collapse = collapse;
        self
    }

    /// Sets the number of tasks above which a picture is collapsed, which is also the maximum
    /// number of groups. The default is 300; 0 counts as 1.
    #[must_use]
    pub fn max_tasks(mut self, max_tasks: usize) -> Picture {
        self.max_tasks = max_tasks.max(1);
        self
    }

    /// Sets the direction in which data flows. The default is [`Direction::Down`].
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Picture {
        self.direction = direction;
        self
    }

    /// Writes a title above the picture.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Picture {
        self.title = Some(title.into());
        self
    }

    /// The number of tasks in the graph. Their ids are `0..num_tasks`, in the order in which a
    /// single worker would run them.
    pub fn num_tasks(&self) -> usize {
        self.graph.num_tasks()
    }

    /// The name of the task.
    ///
    /// # Panics
    /// If there is no task with this id.
    #[track_caller]
    pub fn name(&self, id: usize) -> &str {
        assert!(id < self.num_tasks(), "there are {} tasks and none with the id {id}", self.num_tasks());
        self.graph.name(id as u32)
    }

    /// Whether groups are drawn instead of tasks.
    pub fn is_collapsed(&self) -> bool {
        match self.collapse {
            Collapse::Never => false,
            Collapse::ByName => true,
            Collapse::Auto => self.num_tasks() > self.max_tasks,
        }
    }
}

/// The content of a box: a task, or a group of tasks. See [`Picture::color_with`].
#[derive(Clone, Copy, Debug)]
pub struct TaskBox<'a> {
    pub(super) graph: &'a Graph,
    pub(super) name: &'a str,
    pub(super) tasks: &'a [u32],
}

impl<'a> TaskBox<'a> {
    /// The name in the box.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The ids of the tasks, ascending. An id is the task's rank in the plan of the graph.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = usize> + use<'a> {
        self.tasks.iter().map(|&id| id as usize)
    }

    /// The number of tasks in the whole graph.
    pub fn num_tasks_in_graph(&self) -> usize {
        self.graph.num_tasks()
    }

    /// Whether one of the tasks is an output.
    pub fn is_output(&self) -> bool {
        match self.tasks {
            [id] => self.graph.is_output(*id),
            tasks => self.graph.outputs().iter().any(|id| tasks.binary_search(id).is_ok()),
        }
    }

    /// Whether one of the tasks is bound to this process.
    pub fn is_local(&self) -> bool {
        self.tasks.iter().any(|&id| self.graph.kind(id) != TaskKind::Portable)
    }
}
