//! A test in a process of its own.
//!
//! The environment, the current folder and values from `config::set` belong to the whole process.
//! So a test here starts this binary again for itself alone, in a fresh folder and with an
//! environment of its choice, and the child process runs the test's body.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

/// Set in the child process only.
const MARK: &str = "CONFIG_TEST_CHILD";

/// The folders of a child process: its current folder is `work`, its home `home`; both start empty.
pub(crate) struct Room {
    folder: tempfile::TempDir,
    command: Command,
}

impl Room {
    /// Writes a file at a path relative to the folder that contains `work` and `home`.
    pub(crate) fn file(&mut self, path: &str, text: impl AsRef<[u8]>) -> &mut Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }
}

/// Runs `body`, the body of the calling test, in a child process whose folders and environment
/// `furnish` prepares.
///
/// A child that runs longer than a minute is aborted: no test needs that long.
pub(crate) fn alone<F: FnOnce()>(furnish: impl FnOnce(&mut Room), body: F) {
    alone_with_output(furnish, body, |_| {});
}

/// As [`alone`], and checks the output of the child.
pub(crate) fn alone_with_output<F: FnOnce()>(
    furnish: impl FnOnce(&mut Room),
    body: F,
    check_output: impl FnOnce(&Output),
) {
    #[expect(clippy::disallowed_methods, reason = "tells the child from its parent")]
    let is_child = std::env::var_os(MARK).is_some();
    if is_child {
        let (done, watched) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if watched.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
                std::process::abort();
            }
        });
        body();
        drop(done);
        return;
    }

    // `config::the_module::the_test::{{closure}}`
    let (_, name) = std::any::type_name::<F>().split_once("::").unwrap();
    let name = name.strip_suffix("::{{closure}}").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    #[expect(clippy::disallowed_methods, reason = "the child must not inherit what the tests are about")]
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"SPRANG_") {
            command.env_remove(variable);
        }
    }
    command.args(["--exact", name, "--nocapture"]).env(MARK, "").env_remove("XDG_CONFIG_HOME");
    let mut room = Room { folder, command };
    for folder in ["work", "home"] {
        fs::create_dir(room.path(folder)).unwrap();
    }
    let (work, home) = (room.path("work"), room.path("home"));
    room.command.current_dir(work).env("HOME", home);
    furnish(&mut room);

    let output = room.command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "the child: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    check_output(&output);
}

/// In the child: a path relative to the folder that contains `work` and `home`, as messages show
/// it.
pub(crate) fn shown(path: &str) -> String {
    std::env::current_dir().unwrap().parent().unwrap().join(Path::new(path)).display().to_string()
}
