//! Names of tasks: given by the user, or derived from the function.

use super::node::TaskRef;
use std::fmt::{self, Write};
use std::sync::Arc;

/// The name that the user gave the task, or the name of its function.
pub(crate) fn of_task(task: TaskRef) -> Arc<str> {
    match task.options().and_then(|options| options.name.as_ref()) {
        Some(name) => Arc::clone(name),
        None => of_function((task.kind().type_name)()).into(),
    }
}

/// The last part of a function's path; a closure is named after the function that contains it.
pub(crate) fn of_function(type_name: &str) -> String {
    let path = without_brackets(type_name);
    let mut parts = path.rsplit("::").filter(|part| !part.is_empty() && *part != "{{closure}}");
    let name = parts.next().unwrap_or(&path);
    if path.ends_with("{{closure}}") { format!("closure in {name}") } else { name.to_owned() }
}

/// A path without what stands in angle brackets, which has paths of its own and says little:
/// `a::f::<a::T>`, `a::<impl a::S>::f`.
fn without_brackets(path: &str) -> String {
    let (mut depth, mut last) = (0_usize, ' ');
    let mut kept = String::with_capacity(path.len());
    for char in path.chars() {
        match char {
            '<' => depth += 1,
            '>' if last != '-' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(char),
            _ => {}
        }
        last = char;
    }
    kept
}

/// A type's name without the paths in it.
pub(super) fn of_type(type_name: &str) -> String {
    let mut name = String::with_capacity(type_name.len());
    for part in type_name.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        name.push_str(part.rsplit("::").next().unwrap_or(part));
    }
    name
}

/// The beginning of a value's `Debug` text. Formatting stops where it ends.
pub(super) fn brief(value: &dyn fmt::Debug) -> String {
    const MAX_CHARS: usize = 60;
    struct Brief(String, usize);
    impl Write for Brief {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars() {
                self.1 = self.1.checked_sub(1).ok_or(fmt::Error)?;
                self.0.push(c);
            }
            Ok(())
        }
    }
    let mut brief = Brief(String::new(), MAX_CHARS);
    if write!(brief, "{value:?}").is_err() {
        brief.0.push('…');
    }
    brief.0
}

#[cfg(test)]
mod tests {
    use super::{brief, of_function, of_type};

    #[test]
    fn a_type_is_named_without_paths() {
        assert_eq!(of_type("alloc::vec::Vec<(f64, alloc::string::String)>"), "Vec<(f64, String)>");
        assert_eq!(of_type("[core::option::Option<app::Point>; 3]"), "[Option<Point>; 3]");
        assert_eq!(of_type("u8"), "u8");
    }

    #[test]
    fn a_long_value_is_cut_after_its_beginning() {
        assert_eq!(brief(&"a\"b"), r#""a\"b""#);
        let text = brief(&"x".repeat(10_000_000));
        assert_eq!((text.chars().count(), text.chars().last()), (61, Some('…')));
    }

    #[test]
    fn a_function_is_named_by_the_last_part_of_its_path() {
        assert_eq!(of_function("word_count::count::words"), "words");
        assert_eq!(of_function("inc"), "inc");
        assert_eq!(of_function("app::scale::<alloc::vec::Vec<f64>>"), "scale");
        assert_eq!(of_function("app::scale<f64>"), "scale");
        assert_eq!(of_function("app::<impl app::Grid<fn(f64) -> f64>>::scale"), "scale");
        assert_eq!(of_function("<app::Grid as app::Scale<f64>>::scale"), "scale");
    }

    #[test]
    fn a_closure_is_named_after_the_function_that_contains_it() {
        assert_eq!(of_function("app::load::{{closure}}"), "closure in load");
        assert_eq!(of_function("app::load::{{closure}}::{{closure}}"), "closure in load");
        assert_eq!(of_function("app::<impl app::Grid<T>>::load::{{closure}}"), "closure in load");
        assert_eq!(of_function("app::load<app::read::{{closure}}>::{{closure}}"), "closure in load");
    }
}
