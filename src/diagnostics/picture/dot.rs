//! Writes a scene in the language of Graphviz.

use super::builder::{Direction, Picture};
use super::color::Color;
use super::graph::TaskKind;
use super::scene::{Scene, SceneBox};
use super::svg::{CRITICAL, LINE};
use super::text;
use crate::diagnostics::units;
use std::borrow::Cow;
use std::fmt::Write;

/// Writes the scene. Names are cut as in an SVG.
pub(super) fn write(picture: &Picture, scene: &Scene) -> String {
    let mut out = String::from("digraph sprang {\n");
    let rankdir = match picture.direction {
        Direction::Down => "TB",
        Direction::Right => "LR",
    };
    let font = "fontname=\"Helvetica,Arial,sans-serif\"";
    let _infallible = writeln!(out, "  graph [rankdir={rankdir}, {font}];");
    if let Some(title) = &picture.title {
        let _infallible = writeln!(out, "  graph [label=\"{}\", labelloc=t];", escaped(&text::in_one_line(title)));
    }
    let _infallible = writeln!(out, "  node [shape=box, style=\"rounded,filled\", height=0.3, fontsize=12, {font}];");
    let _infallible = writeln!(out, "  edge [color=\"{LINE}\", fontsize=10, {font}];");
    let prefix = if scene.is_collapsed { 'g' } else { 't' };
    for (number, scene_box) in scene.boxes.iter().enumerate() {
        let _infallible = writeln!(out, "  {prefix}{number} [{}];", attributes(scene_box));
    }
    for edge in &scene.edges {
        let _infallible = write!(out, "  {prefix}{} -> {prefix}{}", edge.from, edge.to);
        let mut attributes = Vec::new();
        if edge.is_critical {
            attributes.push(format!("color=\"{CRITICAL}\", penwidth=2"));
        }
        if !edge.has_values {
            attributes.push("style=dashed".into());
        }
        if scene.is_collapsed {
            attributes.push(format!("label=\"{}\"", units::count(edge.count as u64)));
        }
        if !attributes.is_empty() {
            let _infallible = write!(out, " [{}]", attributes.join(", "));
        }
        out.push_str(";\n");
    }
    out.push_str("}\n");
    out
}

fn attributes(scene_box: &SceneBox) -> String {
    let lines: Vec<_> = scene_box.lines().iter().map(|line| escaped(line).into_owned()).collect();
    let mut attributes = format!(
        "label=\"{}\", tooltip=\"{}\", fillcolor=\"{}\"",
        lines.join("\\n"),
        escaped(&scene_box.name),
        scene_box.color
    );
    let border = if scene_box.is_critical { CRITICAL } else { scene_box.color.darker() };
    let _infallible = write!(attributes, ", color=\"{border}\"");
    if scene_box.color.is_dark() {
        let _infallible = write!(attributes, ", fontcolor=\"{}\"", Color::rgb(255, 255, 255));
    }
    match scene_box.kind {
        TaskKind::Portable => {}
        TaskKind::Local => attributes.push_str(", style=\"rounded,filled,dashed\""),
        TaskKind::Value => attributes.push_str(", shape=oval"),
    }
    if scene_box.is_output {
        attributes.push_str(", peripheries=2");
    }
    if scene_box.is_critical {
        attributes.push_str(", penwidth=2");
    }
    attributes
}

/// Escapes a text for a quoted string. Graphviz interprets entities in labels.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['"', '\\', '&']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('&', "&amp;").replace('\\', "\\\\").replace('"', "\\\""))
}
