//! The README and the pages in `docs`: every line of code in a table is also in a program that is
//! compiled and run, and every link leads somewhere from every place that shows the page.

use std::fs;
use std::path::Path;

/// The code in backticks of a table cell.
fn code_of(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The programs of a page.
fn programs_of(page: &str) -> String {
    let mut programs = String::new();
    let mut is_program = false;
    for line in page.lines() {
        match line.trim() {
            "```rust" => is_program = true,
            "```" => is_program = false,
            code if is_program => programs.extend([code, "\n"]),
            _ => {}
        }
    }
    programs
}

#[test]
fn every_rust_line_for_those_who_come_from_dask_stands_in_a_program() {
    let page = include_str!("../docs/from_dask.md");
    let programs = programs_of(page);
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 60, "the tables were not found");
    for row in rows.into_iter().filter(|row| *row != "| Dask | sprang |") {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [_, rust] = cells[..] else { panic!("not two cells: {row}") };
        let lines = code_of(rust);
        assert!(!lines.is_empty() || rust.contains("not needed"), "no code: {row}");
        for line in lines {
            assert!(programs.contains(line), "in no program: {line}");
        }
    }
}

/// The destinations of all links and images of a page.
fn destinations_of(page: &str) -> Vec<String> {
    let inline = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(to, _)| to.to_owned());
    let defined = page.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split_once("]: "));
    inline.chain(defined.map(|(_, to)| to.to_owned())).collect()
}

/// Where a link to this page or file of the crate leads; `None` for other links. The paths are
/// those that docs.rs uses.
fn file_of(to: &str) -> Option<String> {
    let guide = to.strip_prefix("https://docs.rs/sprang/latest/sprang/guide/");
    let guide = guide
        .map(|rest| rest.split_once('#').map_or(rest, |(page, _)| page))
        .map(|rest| format!("docs/{}.md", rest.trim_end_matches("/index.html")));
    guide.or_else(|| to.strip_prefix("https://docs.rs/crate/sprang/latest/source/").map(str::to_owned))
}

#[test]
fn links_lead_somewhere_from_a_registry_and_from_the_rendered_guides() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guides = fs::read_to_string(root.join("src/guide.rs")).unwrap();
    let mut pages = vec![root.join("README.md")];
    pages.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for page in pages.iter().filter(|page| page.extension().is_some_and(|ending| ending == "md")) {
        for to in destinations_of(&fs::read_to_string(page).unwrap()) {
            let at = page.display();
            // Registries complete the addresses of pictures.
            let file = if to.ends_with(".png") { Some(to.clone()) } else { file_of(&to) };
            assert!(file.is_some() || to.starts_with("https://") || to.starts_with('#'), "{at}: {to} is relative");
            if let Some(file) = file {
                assert!(root.join(&file).exists(), "{at}: {to} leads nowhere");
                assert!(!file.starts_with("docs/") || to.ends_with(".png") || guides.contains(&file), "{at}: {to}");
            }
        }
    }
}

#[test]
fn every_picture_in_the_package_is_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.ends_with(".md") || readme.contains(&format!("docs/{name}")), "{name} is in no page");
    }
}
