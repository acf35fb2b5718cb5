//! The written formats are valid, whatever the names of the tasks.

use crate::graphs::{NAMES, chain, named, tree};
use crate::{labels_in, names_in};
use roxmltree::Document;
use sprang::picture::{Collapse, ColorBy, Direction, Picture};
use sprang::{delayed, delayed_local, local, visualize};
use std::io::Write;
use std::process::{Command, Stdio};

/// Every kind of picture.
fn pictures() -> Vec<Picture> {
    let value = local(vec![1_u64]);
    let here = delayed_local(|values: &Vec<u64>| values[0], (&value,));
    let later = delayed(|a: &u64| a + 1, (&here,)).name("later").after(&chain(3));
    let back_and_forth = (0..9_u64).fold(delayed(|| 0_u64, ()), |last, i| match i % 2 {
        0 => delayed(|a: &u64| a + 1, (&last,)),
        _ => delayed(|a: &u64| a * 2, (&last,)),
    });
    let graphs = [
        visualize(()).unwrap(),
        chain(1).visualize().unwrap(),
        tree(9).visualize().unwrap(),
        named().visualize().unwrap(),
        visualize((&here, &later)).unwrap(),
        back_and_forth.visualize().unwrap(),
    ];
    let mut pictures = Vec::new();
    for graph in graphs {
        for collapse in [Collapse::Never, Collapse::ByName] {
            for direction in [Direction::Down, Direction::Right] {
                let picture = graph.clone().collapse(collapse).direction(direction).arguments(true);
                pictures.push(picture.clone().title(NAMES[1]));
                pictures.push(picture.color_by(ColorBy::Rank));
            }
        }
    }
    pictures
}

#[test]
fn an_svg_is_well_formed_and_stands_on_its_own() {
    for picture in pictures() {
        let svg = picture.to_svg();
        let document = Document::parse(&svg).unwrap();
        let root = document.root_element();
        assert_eq!((root.tag_name().name(), root.attribute("role")), ("svg", Some("img")));
        assert!(root.first_element_child().unwrap().has_tag_name("title"));
        assert!(root.descendants().any(|node| node.has_tag_name("desc")));
        assert!(svg.contains("prefers-color-scheme:dark"));
        for attribute in document.descendants().flat_map(|node| node.attributes()) {
            assert!(!["id", "href", "onload"].contains(&attribute.name()), "{attribute:?}");
            assert!(!attribute.value().contains("NaN") && !attribute.value().contains("inf"), "{attribute:?}");
        }
        assert!(!svg.contains("<script>") && !svg.contains("url("));
    }
}

#[test]
fn every_name_is_in_the_svg_and_visible_as_it_is() {
    let svg = named().visualize().unwrap().to_svg();
    let names = names_in(&svg);
    assert_eq!(names.len(), NAMES.len() + 1);
    for name in [NAMES[0], NAMES[1], NAMES[7], NAMES[8], NAMES[9], NAMES[10], NAMES[14], NAMES[17]] {
        assert!(names.iter().any(|shown| shown == name), "{name} is not in {names:?}");
    }
    let labels: Vec<_> = labels_in(&svg).into_iter().flatten().collect();
    assert!(
        labels.iter().all(|label| !label.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)))
    );
    assert!(labels.contains(&"\"\"".to_owned()) && labels.contains(&"\" \"".to_owned()));
    let cut = labels.iter().find(|label| label.starts_with("a_very_long")).unwrap();
    assert!(cut.contains('…') && cut.ends_with("mouse_17"), "{cut}");
}

#[test]
fn graphviz_reads_the_dot() {
    if Command::new("dot").arg("-V").output().is_err() {
        println!("skipped: Graphviz is not installed");
        return;
    }
    for picture in pictures() {
        let text = picture.to_dot();
        let mut dot = Command::new("dot")
            .arg("-Tsvg")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = dot.stdin.take().unwrap();
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = dot.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !complaint.contains("syntax"), "{complaint}\n{}", picture.to_dot());
        let svg = String::from_utf8(output.stdout).unwrap();
        let document =
            Document::parse_with_options(&svg, roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() })
                .unwrap();
        let labels: Vec<_> =
            document.descendants().filter(|node| node.has_tag_name("text")).filter_map(|node| node.text()).collect();
        if names_in(&picture.to_svg()).iter().any(|name| name == NAMES[1]) {
            // Graphviz writes non-breaking spaces.
            let seen = |text: &str| labels.iter().any(|label| label.replace('\u{a0}', " ") == text);
            assert!(seen("back\\slash \\n \\\" \\N \\G") && seen("&lt; &amp; &#65; #quot; #35;"), "{labels:?}");
        }
    }
}

#[test]
fn a_mermaid_label_has_no_character_with_a_meaning() {
    for picture in pictures() {
        let text = picture.to_mermaid();
        let mut lines = text.lines().peekable();
        if lines.next_if_eq(&"---").is_some() {
            assert!(lines.next().unwrap().starts_with("title: \""));
            assert_eq!(lines.next(), Some("---"));
        }
        assert!(lines.next().unwrap().starts_with("flowchart "));
        for line in lines {
            assert!(line.starts_with("  "), "{line}");
            // The text between quotes is a label.
            let mut parts = line.split('"');
            let (_, label) = (parts.next(), parts.next().unwrap_or(""));
            let label = label.replace("<br>", "");
            assert!(label.chars().all(|c| !c.is_ascii_punctuation() || "#;_-".contains(c)), "{line}");
        }
    }
}

#[test]
fn the_same_graph_gives_the_same_bytes() {
    for (a, b) in pictures().iter().zip(pictures()) {
        assert_eq!(a.to_svg(), b.to_svg());
        assert_eq!(a.to_dot(), b.to_dot());
        assert_eq!(a.to_mermaid(), b.to_mermaid());
    }
}
