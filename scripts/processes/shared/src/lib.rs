//! A shared library with sprang and tasks in it.

use sprang::delayed;

/// Panics if a check fails. `register` is a function of the program.
pub fn run(registered: u32) {
    parts::check(registered, || {
        vec![delayed(|task: u32| parts::place(task), (2_u32,)).compute().expect("a closure of the library")]
    });
}

pub use parts::register;
