//! Backtraces of panics in tasks end before the frames of sprang.

use sprang::delayed;
use std::process::Command;

/// Set in the child process only.
const MARK: &str = "SPRANG_BACKTRACE_TEST_CHILD";

#[inline(never)]
fn panics_in_user_code(x: u32) -> u32 {
    panic!("out of cheese after {x}")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the environment tells the child process what it is")]
fn the_backtrace_of_a_panic_ends_before_the_frames_of_the_engine() {
    if std::env::var_os(MARK).is_some() {
        for scheduler in ["sync", "threads"] {
            let tasks: Vec<_> = (0..3_u32).map(|x| delayed(panics_in_user_code, (x,))).collect();
            let _error = sprang::compute_with(scheduler, &tasks).unwrap_err();
        }
        return;
    }
    let name = "backtrace::the_backtrace_of_a_panic_ends_before_the_frames_of_the_engine";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{text}");
    assert!(text.contains("panics_in_user_code"), "{text}");
    for frame in ["sprang::engine", "sprang::executor", "sprang::api"] {
        assert!(!text.contains(frame), "{frame} in {text}");
    }
}

#[test]
#[should_panic(expected = "the options of task \"load\" cannot change any more, because its handle was cloned")]
fn an_option_that_is_set_too_late_names_the_task() {
    let load = delayed(|| 1, ()).name("load");
    let _other = load.clone();
    let _late = load.retries(2);
}
