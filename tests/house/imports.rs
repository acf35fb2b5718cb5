//! Which file of a source tree imports from which: every path that begins with `crate`, `super`,
//! `self` or a child module.
//!
//! `features.rs` is left out: it is the one place where a module may call the module of a feature
//! that stands after it. A name that a module re-exports counts as a name of the file that defines
//! it, and the re-export itself is no import.

use crate::text::{code_of, is_unit_test, without_unit_tests};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The imports of each file, both by their paths below the root of the tree.
pub(crate) type Imports = BTreeMap<String, BTreeSet<String>>;

/// A module's path, such as `["engine", "run"]`.
type Module = Vec<String>;

struct File {
    name: String,
    code: String,
    /// What its `pub use` items name: the last name, and the whole path.
    exports: BTreeMap<String, Module>,
}

pub(crate) fn of_tree(root: &Path) -> Imports {
    let mut modules: BTreeMap<Module, File> = BTreeMap::new();
    for path in super::files(root, "rs") {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if is_unit_test(&path)
            || name.starts_with("bin/")
            || ["lib.rs", "fuzzing.rs", "features.rs"].contains(&name.as_str())
        {
            continue;
        }
        let mut module: Module = name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let code = code_of(without_unit_tests(&super::read(&path)));
        modules.insert(module, File { name, code, exports: BTreeMap::new() });
    }
    let names: BTreeSet<Module> = modules.keys().cloned().collect();
    for (module, file) in &mut modules {
        let mut code = String::new();
        for item in file.code.split_inclusive(';') {
            let is_export = item.lines().last().is_some_and(|line| line.starts_with("pub") && line.contains("use "))
                || item.trim_start().lines().any(|line| line.starts_with("pub") && line.contains(" use "));
            if is_export {
                for path in paths(item, module, &names) {
                    file.exports.insert(path.last().unwrap().clone(), path);
                }
            } else {
                code += item;
            }
        }
        file.code = code;
    }
    let mut imports = Imports::new();
    for (module, file) in &modules {
        let targets = paths(&file.code, module, &names).into_iter().filter_map(|path| resolve(&path, &modules, 0));
        imports.insert(file.name.clone(), targets.filter(|target| *target != file.name).collect());
    }
    imports
}

/// The file that defines what a path names.
fn resolve(path: &[String], modules: &BTreeMap<Module, File>, depth: usize) -> Option<String> {
    let split = (1..=path.len()).rev().find(|len| modules.contains_key(&path[..*len]))?;
    let file = &modules[&path[..split]];
    match path.get(split).and_then(|name| file.exports.get(name)) {
        Some(export) if depth < 5 => resolve(export, modules, depth + 1),
        _ => Some(file.name.clone()),
    }
}

/// Every path in a module's code that may name something in the tree, from the root.
fn paths(code: &str, module: &[String], modules: &BTreeSet<Module>) -> Vec<Module> {
    let mut found = Vec::new();
    let is_word = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
    for (at, _) in code.match_indices("::") {
        let before = &code[..at];
        let start = before.rfind(|char: char| !is_word(char)).map_or(0, |end| end + 1);
        let first = &before[start..];
        // `pub(in path)` names no import.
        if first.is_empty() || first.contains(':') || before[..start].ends_with("(in ") {
            continue;
        }
        let mut base: Module = module.to_vec();
        match first {
            "crate" => base.clear(),
            "super" => _ = base.pop(),
            "self" => {}
            child => {
                base.push(child.to_owned());
                if !modules.contains(&base) {
                    continue;
                }
            }
        }
        tree(&code[at + 2..], base, &mut found);
    }
    found
}

/// Reads what follows `::`: names, or a group of paths in braces.
fn tree(text: &str, base: Module, found: &mut Vec<Module>) -> usize {
    let text_start = text.len();
    let mut rest = text.trim_start();
    let mut base = base;
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group;
            loop {
                rest = rest.trim_start_matches(|char: char| char.is_whitespace() || char == ',');
                if rest.is_empty() || rest.starts_with('}') {
                    return text_start - rest.len() + usize::from(!rest.is_empty());
                }
                let used = tree(rest, base.clone(), found).max(1);
                rest = &rest[used.min(rest.len())..];
            }
        }
        let len = rest.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(rest.len());
        match &rest[..len] {
            "super" => _ = base.pop(),
            "self" | "" => {}
            name => base.push(name.to_owned()),
        }
        rest = &rest[len..];
        match rest.strip_prefix("::") {
            Some(after) if after.starts_with(|char: char| char.is_alphanumeric() || char == '_' || char == '{') => {
                rest = after
            }
            _ => break,
        }
    }
    if !base.is_empty() {
        found.push(base);
    }
    // `as other` is skipped with the rest of the item.
    let renamed = rest.trim_start().starts_with("as ").then(|| rest.find([',', '}', ';']).unwrap_or(rest.len()));
    text_start - rest.len() + renamed.unwrap_or(0)
}

/// The sets of two or more files that import each other, directly or by way of others.
pub(crate) fn circles(imports: &Imports) -> Vec<Vec<String>> {
    let reach = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            for next in imports.get(file).into_iter().flatten() {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<&String>> = imports.keys().map(|file| (file, reach(file))).collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for file in imports.keys() {
        let circle = reached[file].iter().filter(|other| reached[**other].contains(file));
        let circle: Vec<String> = circle.map(|other| (*other).clone()).collect();
        if circle.len() > 1 && circle.first() == Some(file) {
            circles.push(circle);
        }
    }
    circles
}
