//! The one-shot server at which a slot waits for the first message of its worker.

use super::protocol::Hello;
use ipc_channel::ipc::{self, IpcOneShotServer};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::fmt;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

/// The socket of a one-shot server: a file in a folder of its own. The server removes both, unless
/// there is no file descriptor left to open the folder.
pub(super) struct SocketFile(pub(super) String);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = Path::new(&self.0);
        let _ = fs::remove_file(path);
        let _ = path.parent().map(fs::remove_dir);
    }
}

/// A server for the worker's first message, and its name.
pub(super) fn server() -> Result<(IpcOneShotServer<Hello>, String), String> {
    // The rest of the path is `/.tmp123456/socket`, and an address holds 107 bytes. ipc-channel
    // cuts off a longer path.
    const FOLDER_MAX: usize = 107 - 18;
    let folder = std::env::temp_dir();
    let fail = |why: &dyn fmt::Display| {
        Err(format!(
            "there is no socket for it in the folder for temporary files, {}: {why}; see TMPDIR",
            folder.display()
        ))
    };
    if folder.as_os_str().len() > FOLDER_MAX {
        return fail(&format!("its path has more than {FOLDER_MAX} bytes"));
    }
    // ipc-channel would panic and print a message to the standard error.
    if let Err(error) = access(&folder, Access::WRITE_OK | Access::EXEC_OK) {
        return fail(&error);
    }
    // A server takes two file descriptors. If there are none left, ipc-channel leaves the folder
    // that it has made.
    drop(ipc::channel::<()>().map_err(|error| format!("there is no socket for it: {error}"))?);
    match catch_unwind(IpcOneShotServer::new) {
        Ok(Ok(server)) => Ok(server),
        Ok(Err(error)) => fail(&error),
        Err(_) => fail(&"ipc-channel panicked"),
    }
}

/// Wakes the slot that waits at a server, because no worker will connect: the slot receives the end
/// of a connection. False if the caller has to try again.
///
/// The connection is not one of ipc-channel, which leaves a socket open for each that fails.
pub(super) fn abandon(server: &str) -> bool {
    // An address that is too long was refused by `server`.
    let Ok(address) = SocketAddrUnix::new(server) else { return true };
    let Ok(socket) = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None) else {
        return false;
    };
    match connect(&socket, &address) {
        // Without a file, or without a server behind it, no slot waits any more.
        Ok(()) | Err(Errno::NOENT | Errno::CONNREFUSED) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn num_descriptors() -> usize {
        fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn a_slot_at_a_server_is_woken_and_nothing_is_left_of_it() {
        // Other tests open descriptors meanwhile, and close them.
        let wait = || {
            let (server, name) = server().unwrap();
            let _socket = SocketFile(name.clone());
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| server.accept().map(drop));
                assert!(abandon(&name));
                assert!(waiting.join().unwrap().is_err());
            });
            // Its file is still there now and then, and nobody listens.
            assert!(abandon(&name));
            name
        };
        let name = wait();
        let before = num_descriptors();
        let names: Vec<_> = (0..1_000).map(|_| wait()).collect();
        assert!(num_descriptors() < before + 500, "{before} and then {}", num_descriptors());
        assert!(names.iter().chain([&name]).all(|name| !Path::new(name).exists() && abandon(name)));
    }

    #[test]
    fn a_server_that_is_gone_and_has_left_its_file_costs_no_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let before = num_descriptors();
        assert!((0..1_000).all(|_| abandon(path.to_str().unwrap())));
        assert!(num_descriptors() < before + 500, "{before} and then {}", num_descriptors());
    }
}
