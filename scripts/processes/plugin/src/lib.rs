//! A library that is loaded into a program without sprang.

use std::ffi::{CString, c_char};

/// The result of a task there.
#[unsafe(no_mangle)]
pub extern "C" fn compute() -> *const c_char {
    let outcome = sprang::delayed(|x: u32| x + 1, (1_u32,)).compute_with("processes");
    let text = match outcome {
        Ok(value) => format!("value {value}"),
        Err(error) => format!("error {error}"),
    };
    CString::new(text).expect("a text").into_raw()
}
