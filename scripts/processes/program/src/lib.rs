//! The program as a library, so that each kind of target can run it.
//!
//! ```
//! program::run();
//! ```
//!
//! ```
//! // Another one, so that two are merged into one program.
//! assert!(std::panic::catch_unwind(program::run).is_ok());
//! ```

use sprang::delayed;

#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = parts::register;

/// How many functions before `main` fill the register: those of `parts`, of this library and of `late.c`.
const REGISTERED: u32 = 3;

/// Panics if anything is not as it should be.
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
