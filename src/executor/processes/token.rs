//! The token that marks a process as a worker, and the constants that both sides share.
//!
//! Other files of this folder import this one; of them it imports the settings alone.

#![expect(unsafe_code, reason = "asks the kernel which process made a socket")]

use super::rights::Rights;
use super::settings::ProcessSettings;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// The version of this crate. A worker of another version is refused.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The environment variable that holds the [`Token`].
pub(super) const VARIABLE: &str = "SPRANG_WORKER";

/// The message on the lifeline that cancels the run with the number beside it.
pub(super) const CANCEL: u8 = 1;
/// The message on the lifeline with which a worker kills itself: its parent has given up the right
/// to kill it.
pub(super) const KILL: u8 = 2;

// Exit statuses of workers. Programs seldom use 112 to 115.

/// A panic, as in any Rust program.
pub(super) const EXIT_PANICKED: i32 = 101;
/// The process could not become a worker.
pub(super) const EXIT_NOT_STARTED: i32 = 112;
/// The process has a worker's token, but the hook did not run and the program did not call `init`.
pub(super) const EXIT_NO_HOOK: i32 = 113;
/// The parent is gone.
pub(super) const EXIT_ORPHANED: i32 = 114;
/// The worker could not read a message of its parent, or could not answer it.
pub(super) const EXIT_BROKEN: i32 = 115;

/// Device and inode of the executable that this process runs. They stay valid if its file is
/// renamed, replaced or deleted.
///
/// # Errors
/// If there is no `/proc`.
pub(super) fn exe_id() -> io::Result<(u64, u64)> {
    fs::metadata("/proc/self/exe").map(|file| (file.dev(), file.ino()))
}

/// Marks a process as a worker. An environment variable carries it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The process that starts the worker.
    pub(super) parent: i32,
    /// How deep the worker is nested; at least 1.
    pub(super) depth: u32,
    pub(super) core_dumps: bool,
    /// The size of the stacks of its threads, in bytes.
    pub(super) stack_size: usize,
    /// The module with the copy of sprang that starts the worker.
    pub(super) module: u64,
    /// The worker has no others.
    pub(super) rights: Rights,
    /// The name of the one-shot server that the worker connects to.
    pub(super) server: String,
}

impl Token {
    /// A token for a worker of this process.
    pub(super) fn new(server: &str, depth: u32, settings: &ProcessSettings, rights: &Rights, module: u64) -> Token {
        let parent = std::process::id().cast_signed();
        let &ProcessSettings { core_dumps, stack_size, .. } = settings;
        Token { parent, depth, core_dumps, stack_size, module, rights: rights.clone(), server: server.into() }
    }

    /// The name and value of the environment variable to set in the worker.
    pub(super) fn variable(&self) -> (&'static str, String) {
        let Token { parent, depth, core_dumps, stack_size, module, rights, server } = self;
        (VARIABLE, format!("{parent}:{depth}:{module:x}:{}:{stack_size}:{rights}:{server}", u8::from(*core_dumps)))
    }

    fn parse(text: &str) -> Option<Token> {
        let mut parts = text.splitn(7, ':');
        let parent = parts.next()?.parse().ok().filter(|&parent| parent > 0)?;
        let depth = parts.next()?.parse().ok().filter(|&depth| depth > 0)?;
        let module = u64::from_str_radix(parts.next()?, 16).ok()?;
        let core_dumps = match parts.next()? {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        let stack_size = parts.next()?.parse().ok()?;
        let rights = Rights::parse(parts.next()?)?;
        Some(Token { parent, depth, core_dumps, stack_size, module, rights, server: parts.next()?.into() })
    }

    /// The token in this process's environment: `None` if the variable is not set, `Some(None)` if
    /// its value is malformed.
    pub(super) fn read() -> Option<Option<Token>> {
        #[expect(clippy::disallowed_methods, reason = "not a setting: users do not set it")]
        let text = std::env::var_os(VARIABLE)?;
        Some(text.to_str().and_then(Token::parse))
    }

    /// Whether this process is the one that was started with the token: its standard input is one
    /// end of a socket pair that the token's parent made. A process that only inherited the
    /// variable has another standard input.
    ///
    /// The answer is the same after the parent is gone, so a worker whose parent died early does
    /// not run the program instead.
    pub(super) fn is_for_this_process(&self) -> bool {
        let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut size = size_of_val(&peer) as libc::socklen_t;
        // SAFETY: `getsockopt` writes at most `size` bytes to `peer`, which both live here; `ucred`
        // may hold any bytes. (rustix's safe call asserts that the pid is not 0, but it is 0 for
        // sockets of other families.)
        let got =
            unsafe { libc::getsockopt(0, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut size) };
        got == 0 && peer.pid == self.parent
    }
}

#[cfg(test)]
mod tests {
    use super::{ProcessSettings, Rights, Token};

    #[test]
    fn a_token_crosses() {
        let settings = ProcessSettings { core_dumps: true, ..ProcessSettings::default() };
        let token = Token::new("/tmp/a:b", 2, &settings, &Rights::of_this_thread(), 0xa1);
        assert_eq!(Token::parse(&token.variable().1).as_ref(), Some(&token));
        assert_eq!(token.parent, std::process::id().cast_signed());
        for wrong in [
            "",
            ":",
            "1",
            "1:1",
            "1:1:0",
            "1:1:0:0",
            "1:1:0:0:1",
            "1:1:0:0:1:s",
            "x:1:0:0:1:0,0,0,0,0,0:s",
            "-1:1:0:0:1:0,0,0,0,0,0:s",
            "1:0:0:0:1:0,0,0,0,0,0:s",
            "1:1:g:0:1:0,0,0,0,0,0:s",
            "1:1:0:2:1:0,0,0,0,0,0:s",
            "1:1:0:0:x:0,0,0,0,0,0:s",
            "1:1:0:0:1:0,0,0,0,0:s",
        ] {
            assert_eq!(Token::parse(wrong), None, "{wrong:?}");
        }
    }
}
