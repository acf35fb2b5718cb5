//! A shared library with sprang and tasks in it.

use sprang::delayed;

/// Panics if anything is not as it should be; `register` belongs to the program.
pub fn run(registered: u32) {
    parts::check(registered, || {
        vec![delayed(|task: u32| parts::place(task), (2_u32,)).compute().expect("a closure of the library")]
    });
}

pub use parts::register;
