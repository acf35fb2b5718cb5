//! Makes the linker put one constructor after all others, and so after sprang's.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=late.c");
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("late.o");
    let status = Command::new("cc")
        .args(["-c", "-fPIC", "late.c", "-o"])
        .arg(&object)
        .status()
        .expect("cc is what Rust links with");
    assert!(status.success());
    // The linker takes these arguments last.
    println!("cargo::rustc-link-arg={}", object.display());
}
