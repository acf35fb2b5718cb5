//! Pictures of graphs, as SVG, DOT or Mermaid.
//!
//! [`visualize`](crate::visualize) draws the graph of handles in any shape that can be computed,
//! [`Delayed::visualize`](crate::Delayed::visualize) that of a single handle, and
//! [`Prepared::visualize`](crate::Prepared::visualize) a plan. Each returns a [`Picture`]. No task
//! runs.
//!
//! ```
//! use sprang::delayed;
//! use sprang::picture::{ColorBy, Direction};
//!
//! let halve = |i: i32| delayed(|i: i32| f64::from(i) / 2.0, (i,)).name(format!("halve {i}"));
//! let halves: Vec<_> = (0..4).map(halve).collect();
//! let total = delayed(|halves| halves.iter().sum::<f64>(), (&halves,)).name("total");
//! let picture = total.visualize()?.title("Four halves").color_by(ColorBy::Rank);
//! let picture = picture.direction(Direction::Right);
//!
//! let folder = tempfile::tempdir().unwrap();
//! picture.save(folder.path().join("halves.svg"))?; // or .dot, or .mmd
//! assert!(picture.to_svg().contains("total"));
//! # Ok::<_, sprang::Error>(())
//! ```
//!
//! # How to read a picture
//!
//! A box is a task, with its name or the name of its function. An edge leads from a task to a task
//! that needs its value, so data flows down the page or to the right. A dashed edge is an order
//! without a value ([`after`](crate::Delayed::after)). Boxes with a double border are outputs. A
//! dashed box stays in this process ([`delayed_local`](crate::delayed_local)). A box with round
//! ends is a value. The thick red path is the critical path: the longest path, which more workers
//! cannot shorten. A name that does not fit is cut; in an SVG its tooltip is the whole name.
//!
//! A graph of more than [`max_tasks`](Picture::max_tasks) tasks is collapsed: all tasks of one
//! function or one numbered name share a box with their number, and each edge has the number of its
//! dependencies.
//!
//! The same graph gives the same bytes. An SVG follows the light or dark mode of the viewer.

mod builder;
mod color;
mod dot;
mod graph;
mod layout;
mod mermaid;
#[cfg(feature = "dashboard")]
mod placed;
mod scene;
mod svg;
mod text;

pub use builder::{Collapse, Direction, Picture, TaskBox};
pub use color::{Color, ColorBy, Tint};
pub(super) use graph::{Graph, Growing, StoredGraph, TaskKind};
#[cfg(feature = "dashboard")]
pub(super) use placed::Placed;
#[cfg(feature = "progress")]
pub(super) use text::without_numbers;

use crate::api::collection::{Collection, Values};
use crate::api::compute::{Prepared, prepare};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Delayed;
use scene::Scene;
use std::path::Path;

/// Draws the graph of several outputs, in any shape that [`compute`](crate::compute) takes. No task
/// runs.
///
/// The module [`picture`](crate::picture) explains the picture.
///
/// # Examples
/// ```
/// use sprang::{delayed, visualize};
///
/// let data = delayed(|| vec![3.0, 1.0, 2.0], ());
/// let max = |v: &Vec<f64>| v.iter().copied().fold(f64::MIN, f64::max);
/// let max = delayed(max, (&data,)).name("max");
/// let len = delayed(|v: &Vec<f64>| v.len(), (&data,)).name("len");
/// let picture = visualize((&max, [&len]))?;
/// assert_eq!(picture.num_tasks(), 3);
/// assert!(picture.to_mermaid().starts_with("flowchart TD"));
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Errors
/// As [`prepare`].
///
/// # Complexity
/// O(tasks + dependencies).
pub fn visualize<C: Collection<Values>>(outputs: C) -> Result<Picture> {
    Ok(prepare(outputs)?.visualize())
}

impl<T> Delayed<T> {
    /// Draws the graph of the handle. No task runs.
    ///
    /// # Examples
    /// ```
    /// use sprang::delayed;
    ///
    /// let six = delayed(|| 6, ()).name("six");
    /// let answer = delayed(|six: &i32| six * 7, (&six,)).name("answer");
    /// let dot = answer.visualize()?.to_dot();
    /// assert!(dot.contains("t0 -> t1"));
    /// # Ok::<_, sprang::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`prepare`].
    ///
    /// # Complexity
    /// O(tasks + dependencies).
    pub fn visualize(&self) -> Result<Picture> {
        self.with_plan(|plan| Picture::new(Graph::of(plan)))
    }
}

impl<O> Prepared<O> {
    /// Draws the plan. No task runs.
    ///
    /// # Complexity
    /// O(tasks + dependencies).
    pub fn visualize(&self) -> Picture {
        Picture::new(Graph::of(self.plan()))
    }
}

impl Picture {
    /// Draws the picture as an SVG. No other program is needed.
    ///
    /// # Complexity
    /// O(tasks + dependencies), and nearly linear in the number of boxes and edges; some
    /// milliseconds for 300 tasks.
    pub fn to_svg(&self) -> String {
        svg::write(self, &Scene::of(self))
    }

    /// Writes the graph in the language of Graphviz.
    pub fn to_dot(&self) -> String {
        dot::write(self, &Scene::of(self))
    }

    /// Writes the graph as a Mermaid flowchart, which many sites draw inside Markdown texts.
    ///
    /// By default Mermaid refuses texts of more than 50 000 characters and more than 500 edges.
    pub fn to_mermaid(&self) -> String {
        mermaid::write(self, &Scene::of(self))
    }

    /// Writes a file: `.svg`, `.dot` (or `.gv`) or `.mmd` (or `.mermaid`).
    ///
    /// # Errors
    /// [`NotSaved`](ErrorKind::NotSaved) for another ending, and if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        let content = match ending.as_deref() {
            Some("svg") => self.to_svg(),
            Some("dot" | "gv") => self.to_dot(),
            Some("mmd" | "mermaid") => self.to_mermaid(),
            _ => {
                let what = ending.map_or("no ending".into(), |ending| format!("the ending {ending:?}"));
                return Err(Error::new(
                    ErrorKind::NotSaved,
                    format!(
                        "cannot save a picture as {}: it has {what}; give one of .svg, .dot, .gv, .mmd and .mermaid",
                        path.display()
                    ),
                ));
            }
        };
        super::save("a picture", path, &content)
    }
}
