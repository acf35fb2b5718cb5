//! Pictures of graphs, made through the public API and read back by a parser.

#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

mod content;
mod files;
mod graphs;
mod markup;

use roxmltree::{Document, Node};
use sprang::picture::Picture;

/// The whole names of an SVG, which are its tooltips, in the order of the boxes.
fn names_in(svg: &str) -> Vec<String> {
    let document = Document::parse(svg).expect("a picture is well-formed");
    boxes(&document).map(|node| title(node).lines().next().unwrap_or_default().to_owned()).collect()
}

fn boxes<'a, 'd>(document: &'a Document<'d>) -> impl Iterator<Item = Node<'a, 'd>> {
    document
        .descendants()
        .filter(|node| node.has_tag_name("g") && node.children().any(|child| child.has_tag_name("title")))
}

fn title<'a>(of_box: Node<'a, '_>) -> &'a str {
    of_box.children().find(|child| child.has_tag_name("title")).and_then(|title| title.text()).unwrap_or_default()
}

/// The lines of text in the boxes.
fn labels_in(svg: &str) -> Vec<Vec<String>> {
    let document = Document::parse(svg).expect("a picture is well-formed");
    let lines = |node: Node<'_, '_>| {
        let lines = node.children().filter(|child| child.has_tag_name("text"));
        lines.map(|line| line.text().unwrap_or_default().to_owned()).collect()
    };
    boxes(&document).map(lines).collect()
}

/// The legend below the boxes.
fn legend(picture: &Picture) -> Vec<String> {
    let svg = picture.to_svg();
    let document = Document::parse(&svg).expect("a picture is well-formed");
    let entries = document.descendants().filter(|node| node.attribute("class") == Some("legend"));
    entries.map(|node| node.text().unwrap_or_default().to_owned()).collect()
}
