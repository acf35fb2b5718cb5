//! Programs that must not compile, and the compiler's messages.
//!
//! The messages beside the programs are those of one compiler version; another version words its
//! part differently. After a change, read the new messages as a user would:
//! `TRYBUILD=overwrite cargo test --test ui` writes them.

#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::process::Command;

/// The compiler version of the messages.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn mistakes_are_explained() {
    let compiler = Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let compiler = String::from_utf8_lossy(&compiler);
    if !compiler.starts_with(COMPILER) {
        println!("skipped: the messages are those of {COMPILER}x, and this is {compiler}");
        return;
    }
    let programs = trybuild::TestCases::new();
    programs.pass("tests/ui/right/compiles.rs");
    programs.compile_fail("tests/ui/*.rs");
}
