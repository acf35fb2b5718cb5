//! The content of pictures: boxes, groups, marks and colours.

use crate::graphs::{chain, count, load, merge, sum, tree};
use crate::{labels_in, legend, names_in};
use sprang::picture::{Collapse, Color, ColorBy, Direction, Tint};
use sprang::{ErrorKind, delayed, delayed_local, lit, local, persist, prepare, visualize};
use std::time::{Duration, Instant};

#[test]
fn several_outputs_in_any_shape_are_drawn_in_one_picture() {
    let a = delayed(load, (1_u32,)).name("a");
    let b = delayed(count, (&a,)).name("b");
    let c = delayed(count, (&a,)).name("c");
    let shapes = [
        visualize((&a, [&b, &c])).unwrap(),
        visualize(vec![(a.clone(), Some(b.clone())), (c.clone(), None)]).unwrap(),
        prepare((&a, &b, &c)).unwrap().visualize(),
    ];
    for picture in shapes {
        assert_eq!(names_in(&picture.to_svg()), ["a", "b", "c"]);
        assert_eq!(picture.to_dot().matches("peripheries=2").count(), 3);
        assert_eq!(picture.to_dot().matches("->").count(), 2);
        assert!(legend(&picture).contains(&"3 tasks, 2 dependencies".to_owned()));
    }
    assert_eq!(b.visualize().unwrap().to_dot().matches("peripheries=2").count(), 1);
}

#[test]
fn a_handle_whose_value_is_not_clone_is_drawn_and_no_task_runs() {
    struct NotClone;
    let task = delayed_local(|| -> NotClone { panic!("a picture runs nothing") }, ());
    assert_eq!(task.visualize().unwrap().num_tasks(), 1);
}

#[test]
fn a_picture_keeps_no_task_alive() {
    let value = std::sync::Arc::new(1_u64);
    let inside = std::sync::Arc::clone(&value);
    let task = delayed_local(move || *inside, ()).name("holds");
    let picture = task.visualize().unwrap();
    drop(task);
    assert_eq!(std::sync::Arc::strong_count(&value), 1);
    assert_eq!(names_in(&picture.to_svg()), ["holds"]);
}

#[test]
fn mistakes_in_the_graph_are_reported_as_by_compute() {
    let twins = [delayed(load, (1_u32,)).name("twin"), delayed(load, (2_u32,)).name("twin")];
    assert_eq!(visualize(&twins).unwrap_err().kind(), ErrorKind::DuplicateName);
}

#[test]
fn kinds_of_tasks_look_different() {
    let data = local(vec![1_u64]);
    let here = delayed_local(|data: &Vec<u64>| data[0], (&data,)).name("here");
    let kept = persist(&delayed(load, (1_u32,))).unwrap();
    let last = delayed(merge, (here.clone(), kept)).name("last").after(&delayed(load, (7_u32,)).name("before"));
    let picture = last.visualize().unwrap();
    let legend = legend(&picture);
    for entry in ["output", "stays in this process", "value", "order only", "longest path: 3 tasks"] {
        assert!(legend.iter().any(|words| words == entry), "{entry} is not in {legend:?}");
    }
    let dot = picture.to_dot();
    assert_eq!(dot.matches("shape=oval").count(), 2);
    assert_eq!(dot.matches("style=dashed").count(), 1);
    assert_eq!(dot.matches("style=\"rounded,filled,dashed\"").count(), 1);
    let plain = delayed(load, (1_u32,)).visualize().unwrap();
    assert_eq!(crate::legend(&plain), ["1 task, 0 dependencies", "output"]);
}

#[test]
fn a_large_graph_is_collapsed_by_name() {
    let picture = tree(1000).visualize().unwrap();
    assert!(picture.is_collapsed());
    let groups = labels_in(&picture.to_svg());
    assert_eq!(groups, [["load", "1\u{202f}000 tasks"], ["count", "1\u{202f}000 tasks"], ["merge", "999 tasks"]]);
    assert!(legend(&picture).contains(&"2\u{202f}999 tasks, 2\u{202f}998 dependencies, drawn as 3 groups".to_owned()));
    let mermaid = picture.to_mermaid();
    assert!(mermaid.contains("g0 ==>|\"1\u{202f}000\"| g1") && mermaid.contains("g2 ==>|\"998\"| g2"), "{mermaid}");

    assert!(!tree(20).visualize().unwrap().is_collapsed());
    assert!(tree(20).visualize().unwrap().max_tasks(58).is_collapsed());
    assert!(!tree(20).visualize().unwrap().max_tasks(59).is_collapsed());
    let every = picture.collapse(Collapse::Never).to_svg();
    assert_eq!(names_in(&every).len(), 2999);
}

#[test]
fn names_that_differ_in_numbers_are_one_group_and_closures_are_not() {
    let parts: Vec<_> = (0..4_u32)
        .map(|i| {
            let read = delayed(load, (i,)).name(format!("read part-{i}.csv"));
            let twice = delayed(|a: &u64| 2 * a, (&read,));
            delayed(|a: &u64| a - 1, (&twice,))
        })
        .collect();
    let all = delayed(sum, (&parts,)).name("all 4");
    let groups = labels_in(&all.visualize().unwrap().collapse(Collapse::ByName).to_svg());
    let here = "closure in names_that_differ_in_numbers_are_one_group_and_closures_are_not";
    assert_eq!(groups[0], ["read part-#.csv", "4 tasks"]);
    assert_eq!(groups[3], ["all 4", "1 task"]);
    let names = names_in(&all.visualize().unwrap().collapse(Collapse::ByName).to_svg());
    assert_eq!(names[1..3], [format!("{here} (1)"), format!("{here} (2)")]);
}

#[test]
fn surplus_groups_share_one_box() {
    let letters = |i: u32| i.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect::<String>();
    let parts: Vec<_> = (0..2000_u32).map(|i| delayed(load, (i,)).name(letters(i))).collect();
    let all = delayed(sum, (&parts,)).name("all");
    let picture = all.visualize().unwrap().max_tasks(10);
    let groups = labels_in(&picture.to_svg());
    assert_eq!(groups.len(), 10);
    assert!(
        groups.contains(&vec!["(1\u{202f}992 other names)".to_owned(), "1\u{202f}992 tasks".to_owned()]),
        "{groups:?}"
    );
    assert_eq!(
        labels_in(&all.visualize().unwrap().max_tasks(0).to_svg()),
        [["(2\u{202f}001 other names)", "2\u{202f}001 tasks"]]
    );
}

#[test]
fn groups_that_need_each_other_are_drawn() {
    let zigzag = (0..1000).fold(chain(1), |last, i| match i % 2 {
        0 => delayed(count, (&last,)),
        _ => delayed(|a: &u64| a / 2, (&last,)).name(format!("halve {i}")),
    });
    let picture = zigzag.visualize().unwrap();
    let dot = picture.to_dot();
    assert!(dot.contains("g1 -> g2") && dot.contains("g2 -> g1"), "{dot}");
    assert_eq!(names_in(&picture.to_svg()), ["load", "count", "halve #"]);
}

#[test]
fn a_million_tasks_in_a_chain_are_drawn_at_once_and_without_recursion() {
    let last = chain(1_000_000);
    let start = Instant::now();
    let small_stack = std::thread::Builder::new().stack_size(128 * 1024);
    let svg = small_stack.spawn(move || last.visualize().unwrap().to_svg()).unwrap().join().unwrap();
    // 0.1 s where it is optimized.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(labels_in(&svg), [vec!["load", "1 task"], vec!["count", "999\u{202f}999 tasks"]]);
}

#[test]
fn a_deep_graph_is_drawn_task_by_task_on_request() {
    let last = chain(20_000);
    let small_stack = std::thread::Builder::new().stack_size(128 * 1024);
    let draw = move || last.visualize().unwrap().collapse(Collapse::Never).to_svg();
    let svg = small_stack.spawn(draw).unwrap().join().unwrap();
    assert_eq!(svg.matches("<title>").count(), 20_001);
}

#[test]
fn the_critical_path_is_the_longest_or_the_heaviest() {
    let a = delayed(load, (1_u32,)).name("a");
    let b = delayed(count, (&a,)).name("b");
    let slow = delayed(load, (2_u32,)).name("slow");
    let end = delayed(sum, (vec_of(&[&b, &slow]),)).name("end");
    let picture = end.visualize().unwrap();
    let id = |name: &str| (0..4).find(|&id| picture.name(id) == name).unwrap();
    let on_path = |dot: &str| {
        let is_on = |name: &&str| {
            dot.lines().any(|line| line.contains(&format!("label=\"{name}\"")) && line.contains("#cf3a2b"))
        };
        ["a", "b", "slow", "end"].into_iter().filter(is_on).collect::<Vec<_>>()
    };
    assert_eq!(on_path(&picture.to_dot()), ["a", "b", "end"]);
    let (a, slow) = (id("a"), id("slow"));
    let heavy = picture.clone().weights(|id| {
        if id == slow {
            10.0
        } else if id == a {
            f64::NAN
        } else {
            1.0
        }
    });
    assert_eq!(on_path(&heavy.to_dot()), ["slow", "end"]);
    assert!(legend(&heavy).contains(&"heaviest path: 2 tasks".to_owned()));
    let unmarked = picture.critical_path(false);
    assert!(on_path(&unmarked.to_dot()).is_empty() && !unmarked.to_svg().contains("longest path"));
}

fn vec_of(handles: &[&sprang::Delayed<u64>]) -> &'static Vec<sprang::Delayed<u64>> {
    Box::leak(Box::new(handles.iter().map(|&handle| handle.clone()).collect()))
}

#[test]
fn boxes_are_painted_by_name_by_rank_or_by_a_function() {
    let fills = |dot: &str| -> Vec<String> {
        dot.lines().filter_map(|line| Some(line.split_once("fillcolor=\"")?.1[..7].to_owned())).collect()
    };
    let picture = tree(3).visualize().unwrap();
    let by_name = fills(&picture.to_dot());
    assert_eq!(by_name.len(), 8);
    assert_eq!(by_name.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    let by_rank = fills(&picture.clone().color_by(ColorBy::Rank).to_dot());
    assert_eq!((&*by_rank[0], &*by_rank[7]), (&*Color::scale(0.0).to_string(), &*Color::scale(1.0).to_string()));
    let alike = fills(&picture.clone().color_by(ColorBy::Nothing).to_dot());
    assert!(alike.iter().all(|fill| *fill == alike[0]));

    let painted = picture.clone().color_with(|task_box| {
        assert_eq!((task_box.tasks().len(), task_box.num_tasks_in_graph()), (1, 8));
        let tint = Tint::from(Color::rgb(1, 2, 3)).note(format!("id {}", task_box.tasks().next().unwrap()));
        if task_box.is_output() { tint.color(Color::rgb(4, 5, 6)) } else { tint }
    });
    let colors = fills(&painted.to_dot());
    assert_eq!(colors[7], "#040506");
    assert!(colors[..7].iter().all(|fill| fill == "#010203"));
    assert!(labels_in(&painted.to_svg()).contains(&vec!["merge".to_owned(), "id 7".to_owned()]));

    let groups = picture.collapse(Collapse::ByName).color_with(|task_box| {
        Tint::default().note(format!(
            "{}: {:?}, {}",
            task_box.name(),
            task_box.tasks().collect::<Vec<_>>(),
            task_box.is_local()
        ))
    });
    let notes: Vec<_> = labels_in(&groups.to_svg()).into_iter().map(|lines| lines[2].clone()).collect();
    assert_eq!(notes[2], "merge: [4, 7], false");
}

#[test]
fn plain_arguments_are_shown_on_request() {
    fn all(a: u64, text: &'static str, pair: &(f64, String), some: Vec<u8>, none: Option<char>) -> u64 {
        a + text.len() as u64 + pair.1.len() as u64 + some.len() as u64 + u64::from(none.is_some())
    }
    let arguments = (chain(1), "say \"hi\"", lit((0.5, String::new())), vec![1_u8; 9], None::<char>);
    let picture = delayed(all, arguments).name("all").visualize().unwrap();
    assert_eq!(labels_in(&picture.to_svg()), [["load"], ["all"]]);
    let svg = picture.arguments(true).to_svg();
    let words = r#""say \"hi\"", (f64, String), 1, 1, 1, 1, 1, 1, …, None"#;
    assert!(
        roxmltree::Document::parse(&svg)
            .unwrap()
            .descendants()
            .any(|node| node.text().is_some_and(|text| text.contains(words))),
        "{svg}"
    );
    assert_eq!(labels_in(&svg)[0], ["load", "0"]);
}

#[test]
fn data_flows_down_or_to_the_right() {
    let picture = chain(8).visualize().unwrap();
    let size = |svg: &str| {
        let document = roxmltree::Document::parse(svg).unwrap();
        let side = |name: &str| document.root_element().attribute(name).unwrap().parse::<f64>().unwrap();
        (side("width"), side("height"))
    };
    let (width, height) = size(&picture.to_svg());
    assert!(height > 2.0 * width, "{width} x {height}");
    let right = picture.direction(Direction::Right);
    let (width, height) = size(&right.to_svg());
    assert!(width > 2.0 * height, "{width} x {height}");
    assert!(right.to_dot().contains("rankdir=LR") && right.to_mermaid().starts_with("flowchart LR"));
}
