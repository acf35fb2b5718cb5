//! Pictures of graphs, through their public functions, read back by a parser.

#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

mod files;
mod graphs;
mod markup;
mod shown;

use roxmltree::{Document, Node};
use sprang::picture::Picture;

/// The names that an SVG shows under the mouse, in the order of the boxes.
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

/// The words in the boxes.
fn labels_in(svg: &str) -> Vec<Vec<String>> {
    let document = Document::parse(svg).expect("a picture is well-formed");
    let lines = |node: Node<'_, '_>| {
        let lines = node.children().filter(|child| child.has_tag_name("text"));
        lines.map(|line| line.text().unwrap_or_default().to_owned()).collect()
    };
    boxes(&document).map(lines).collect()
}

/// What the picture says below the boxes.
fn legend(picture: &Picture) -> Vec<String> {
    let svg = picture.to_svg();
    let document = Document::parse(&svg).expect("a picture is well-formed");
    let entries = document.descendants().filter(|node| node.attribute("class") == Some("legend"));
    entries.map(|node| node.text().unwrap_or_default().to_owned()).collect()
}
