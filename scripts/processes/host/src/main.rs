//! Loads a library and prints its message.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

const RTLD_NOW: c_int = 2;

fn main() {
    // A worker started from here would run `main` again without an argument, and would be seen
    // here.
    let path = std::env::args().nth(1).expect("the path of a library");
    let path = CString::new(path).expect("a path");
    // SAFETY: the arguments are C strings, and the library defines the function with this type.
    let text = unsafe {
        let library = dlopen(path.as_ptr(), RTLD_NOW);
        assert!(!library.is_null(), "{path:?} cannot be loaded");
        let compute = dlsym(library, c"compute".as_ptr());
        assert!(!compute.is_null());
        let compute = std::mem::transmute::<*mut c_void, extern "C" fn() -> *const c_char>(compute);
        CStr::from_ptr(compute()).to_string_lossy().into_owned()
    };
    println!("{text}");
}
