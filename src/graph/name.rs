//! What people call a task: the name it was given, or one derived from its function.

use super::node::TaskRef;
use std::sync::Arc;

/// The name that was given to the task, or the name of its function.
pub(crate) fn of_task(task: TaskRef) -> Arc<str> {
    match task.options().and_then(|options| options.name.as_ref()) {
        Some(name) => Arc::clone(name),
        None => derived((task.kind().type_name)()).into(),
    }
}

/// The last part of a function's path; a closure is named after the function that it stands in.
fn derived(type_name: &str) -> String {
    // `a::b::f::<a::T>`: the generic arguments have paths of their own and say little.
    let path = type_name.split('<').next().unwrap_or(type_name).trim_end_matches("::");
    let mut parts = path.rsplit("::").filter(|part| *part != "{{closure}}");
    let name = parts.next().unwrap_or(path);
    if path.ends_with("{{closure}}") { format!("closure in {name}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::derived;

    #[test]
    fn a_function_is_named_by_the_last_part_of_its_path() {
        assert_eq!(derived("word_count::count::words"), "words");
        assert_eq!(derived("inc"), "inc");
        assert_eq!(derived("app::scale::<alloc::vec::Vec<f64>>"), "scale");
        assert_eq!(derived("app::scale<f64>"), "scale");
    }

    #[test]
    fn a_closure_is_named_after_the_function_it_stands_in() {
        assert_eq!(derived("app::load::{{closure}}"), "closure in load");
        assert_eq!(derived("app::load::{{closure}}::{{closure}}"), "closure in load");
    }
}
