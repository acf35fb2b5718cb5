//! The program as a library, so that each kind of target can run it.
//!
//! ```
//! program::run();
//! ```
//!
//! ```
//! // A second test, so that doc tests are merged into one program.
//! assert!(std::panic::catch_unwind(program::run).is_ok());
//! ```

use sprang::delayed;

#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = parts::register;

/// The number of functions before `main` that fill the register: in `parts`, in this library and in
/// `late.c`.
const REGISTERED: u32 = 3;

/// Panics if a check fails.
pub fn run() {
    parts::check(REGISTERED, || {
        let one = delayed(parts::place, (1_u32,)).compute().expect("a task");
        let other = delayed(|task: u32| parts::place(task), (2_u32,)).compute().expect("a closure of the program");
        vec![one, other]
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn unit_test() {
        super::run();
    }
}
