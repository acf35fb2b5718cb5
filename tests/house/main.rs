//! The rules of the source tree that neither rustfmt nor clippy checks: the width of comments, the
//! size of files, the direction of imports, and one word for one idea.

mod imports;
mod text;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The modules of `src`, from the ground up. A module imports from those before it.
const MODULES: &[&str] = &[
    "error",
    "primitives",
    "sorted",
    "portable",
    "graph",
    "engine",
    "executor",
    "api",
    "client",
    "collections",
    "diagnostics",
];

const COMMENT_COLUMNS: usize = 100;
const MARKDOWN_COLUMNS: usize = 120;
const FILE_LINES: usize = 700;
const CIRCLE_FILES: usize = 3;
const SAME_NAMES: usize = 2;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with this extension, sorted, without build folders.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn sources() -> Vec<PathBuf> {
    files(&root().join("src"), "rs")
}

#[track_caller]
fn assert_none(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n{}", offenders.join("\n"));
}

#[test]
fn comment_lines_end_before_column_100() {
    let mut offenders = Vec::new();
    for path in files(root(), "rs") {
        for (index, line) in read(&path).lines().enumerate() {
            let width = line.chars().count();
            if line.trim_start().starts_with("//") && width > COMMENT_COLUMNS {
                offenders.push(format!("{}:{}: {width} columns", shown(&path), index + 1));
            }
        }
    }
    assert_none("wrap comments at 100 columns", &offenders);
}

#[test]
fn markdown_lines_end_before_column_120() {
    let mut offenders = Vec::new();
    for path in files(root(), "md") {
        let mut in_code = false;
        for (index, line) in read(&path).lines().enumerate() {
            in_code ^= line.trim_start().starts_with("```");
            let width = line.chars().count();
            // Neither a table row nor a link can be broken.
            let is_prose = !in_code && !line.starts_with('|') && line.trim().contains(' ') && !line.contains("](");
            if is_prose && width > MARKDOWN_COLUMNS {
                offenders.push(format!("{}:{}: {width} columns", shown(&path), index + 1));
            }
        }
    }
    assert_none("wrap Markdown at 120 columns", &offenders);
}

#[test]
fn a_source_file_has_at_most_700_lines_of_code() {
    let long = sources().into_iter().filter_map(|path| {
        let lines = text::without_unit_tests(&read(&path)).lines().count();
        (lines > FILE_LINES && !text::is_unit_test(&path)).then(|| format!("{}: {lines} lines", shown(&path)))
    });
    assert_none("split these files", &long.collect::<Vec<_>>());
}

#[test]
fn a_module_imports_only_from_the_modules_before_it() {
    let level = |path: &str| {
        let module = path.split('/').next().unwrap().trim_end_matches(".rs");
        MODULES.iter().position(|other| *other == module)
    };
    let mut offenders = Vec::new();
    for (from, targets) in &imports::of_tree(&root().join("src")) {
        for to in targets {
            if let (Some(low), Some(high)) = (level(from), level(to))
                && low < high
            {
                offenders.push(format!("{from} imports {to}"));
            }
        }
    }
    assert_none("a module imports from the ones before it", &offenders);
}

#[test]
fn no_import_circle_has_more_than_three_files() {
    let circles = imports::circles(&imports::of_tree(&root().join("src")));
    let large = circles.iter().filter(|circle| circle.len() > CIRCLE_FILES);
    assert_none("break these import circles", &large.map(|circle| circle.join(" ")).collect::<Vec<_>>());
}

#[test]
fn no_type_name_is_defined_more_than_twice() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in sources().iter().filter(|path| !text::is_unit_test(path)) {
        for name in text::type_names(text::without_unit_tests(&read(path))) {
            places.entry(name).or_default().push(shown(path));
        }
    }
    places.retain(|_, places| places.len() > SAME_NAMES);
    let mut offenders = Vec::new();
    for (name, places) in places {
        let mut line = name;
        places.iter().for_each(|place| write!(line, " {place}").unwrap());
        offenders.push(line);
    }
    assert_none("one name means one thing", &offenders);
}
