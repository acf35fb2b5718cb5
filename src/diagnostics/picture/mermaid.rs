//! Writes a scene as a Mermaid flowchart.

use super::builder::{Direction, Picture};
use super::color::Color;
use super::graph::TaskKind;
use super::scene::Scene;
use super::svg::CRITICAL;
use super::text;
use crate::diagnostics::units;
use std::fmt::Write;

pub(super) fn write(picture: &Picture, scene: &Scene) -> String {
    let mut out = String::new();
    if let Some(title) = &picture.title {
        let title = text::in_one_line(title).replace('\\', "\\\\").replace('"', "\\\"");
        let _infallible = write!(out, "---\ntitle: \"{title}\"\n---\n");
    }
    out.push_str(match picture.direction {
        Direction::Down => "flowchart TD\n",
        Direction::Right => "flowchart LR\n",
    });
    let prefix = if scene.is_collapsed { 'g' } else { 't' };
    // Colours in the order of their first boxes.
    let mut colors: Vec<Color> = Vec::new();
    for (number, scene_box) in scene.boxes.iter().enumerate() {
        let lines: Vec<String> = scene_box.lines().iter().map(|line| escaped(line)).collect();
        let (open, close) = match (scene_box.is_output, scene_box.kind) {
            (true, _) => ("[[", "]]"),
            (false, TaskKind::Value) => ("([", "])"),
            (false, _) => ("(", ")"),
        };
        let color = colors.iter().position(|color| *color == scene_box.color).unwrap_or_else(|| {
            colors.push(scene_box.color);
            colors.len() - 1
        });
        let _infallible = writeln!(out, "  {prefix}{number}{open}\"{}\"{close}:::c{color}", lines.join("<br>"));
    }
    for edge in &scene.edges {
        let line = match (edge.is_critical, edge.has_values) {
            (true, _) => "==>",
            (false, true) => "-->",
            (false, false) => "-.->",
        };
        let label =
            if scene.is_collapsed { format!("|\"{}\"|", units::count(edge.count as u64)) } else { String::new() };
        let _infallible = writeln!(out, "  {prefix}{} {line}{label} {prefix}{}", edge.from, edge.to);
    }
    for (number, color) in colors.iter().enumerate() {
        let text = if color.is_dark() { "#ffffff" } else { "#1b2330" };
        let _infallible = writeln!(out, "  classDef c{number} fill:{color},stroke:{},color:{text}", color.darker());
    }
    let members = |is_in: &dyn Fn(usize) -> bool| {
        let members = (0..scene.boxes.len()).filter(|&number| is_in(number)).map(|number| format!("{prefix}{number}"));
        members.collect::<Vec<_>>().join(",")
    };
    for (class, style, members) in [
        ("local", "stroke-dasharray:5 3".to_owned(), members(&|number| scene.boxes[number].kind == TaskKind::Local)),
        ("path", format!("stroke:{CRITICAL},stroke-width:2px"), members(&|number| scene.boxes[number].is_critical)),
    ] {
        if !members.is_empty() {
            let _infallible = write!(out, "  classDef {class} {style}\n  class {members} {class}\n");
        }
    }
    out
}

/// Escapes a text for a quoted label: every character with a meaning in Mermaid, Markdown or HTML
/// becomes a code.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let between_letters = || {
            let after = text[at + c.len_utf8()..].chars().next();
            before.is_alphanumeric() && after.is_some_and(char::is_alphanumeric)
        };
        if c.is_ascii() && !c.is_ascii_alphanumeric() && c != ' ' && !("_-".contains(c) && between_letters()) {
            let _infallible = write!(out, "#{};", u32::from(c));
        } else {
            out.push(c);
        }
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn characters_with_a_meaning_become_codes() {
        assert_eq!(escaped("read_all 2"), "read_all 2");
        assert_eq!(escaped("a\"b<c>#d;"), "a#34;b#60;c#62;#35;d#59;");
        assert_eq!(escaped("1. x `y` __z__"), "1#46; x #96;y#96; #95;#95;z#95;#95;");
        assert_eq!(escaped("größe→"), "größe→");
    }
}
