//! A socket between a worker and the process that started it, on which hardly anything is ever said.
//!
//! That it closes tells the worker that the other process is gone, however it went. What the parent has to say while the worker's own
//! channel is busy, because a task is running, it says here: a kind of message and a number.
//!
//! Nobody polls: the worker's first thread, which has nothing else to do, sleeps until something happens.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

const MESSAGE_BYTES: usize = 9;

/// The parent's end. The worker ends when it is dropped.
#[derive(Debug)]
pub(super) struct Lifeline {
    socket: OwnedFd,
}

impl Lifeline {
    /// The parent's end and the worker's.
    pub(super) fn pair() -> io::Result<(Lifeline, OwnedFd)> {
        // Each message arrives whole or not at all.
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Lifeline { socket: ours }, theirs))
    }

    /// Tells the worker something, without waiting for it.
    ///
    /// # Errors
    /// `WouldBlock` if the worker has not read what was sent for long, `BrokenPipe` or `ConnectionReset` if it is gone.
    pub(super) fn send(&self, kind: u8, number: u64) -> io::Result<()> {
        let mut message = [kind; MESSAGE_BYTES];
        message[1..].copy_from_slice(&number.to_le_bytes());
        loop {
            match send(&self.socket, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                result => return result.map(|_| ()).map_err(io::Error::from),
            }
        }
    }
}

type OnControl = Box<dyn FnMut(u8, u64) + Send>;

/// Where the worker says what to do with messages.
#[derive(Clone, Default)]
pub(super) struct Control {
    listener: Arc<Mutex<Listener>>,
}

#[derive(Default)]
struct Listener {
    callback: Option<OnControl>,
    /// What came before there was a callback.
    early: Vec<(u8, u64)>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// From now on, `callback` is called with each message, on the worker's first thread: it must not wait for long. It is called at once
    /// with those that have come already. What it panics with is dropped.
    pub(super) fn on_control(&self, callback: impl FnMut(u8, u64) + Send + 'static) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let early = std::mem::take(&mut listener.early);
        listener.callback = Some(Box::new(callback));
        early.into_iter().for_each(|(kind, number)| listener.tell(kind, number));
    }

    fn tell(&self, kind: u8, number: u64) {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).tell(kind, number);
    }
}

impl Listener {
    fn tell(&mut self, kind: u8, number: u64) {
        match &mut self.callback {
            Some(callback) => drop(catch_unwind(AssertUnwindSafe(|| callback(kind, number)))),
            None => self.early.push((kind, number)),
        }
    }
}

/// Why [`watch`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// What was waited for can be read.
    Ended,
    /// The other end of the lifeline was closed.
    Cut,
}

/// Passes on what arrives on the lifeline until something can be read from `end`, or the lifeline is cut.
pub(super) fn watch(lifeline: &OwnedFd, end: &OwnedFd, control: &Control) -> Watched {
    loop {
        let mut fds = [PollFd::new(lifeline, PollFlags::IN | PollFlags::RDHUP), PollFd::new(end, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return Watched::Cut,
            Ok(_) => {}
        }
        if !fds[1].revents().is_empty() {
            return Watched::Ended;
        }
        if !fds[0].revents().is_empty() && read_all(lifeline, control) == Watched::Cut {
            return Watched::Cut;
        }
    }
}

/// Reads what is there; `Ended` if more may come.
fn read_all(lifeline: &OwnedFd, control: &Control) -> Watched {
    loop {
        let mut message = [0; MESSAGE_BYTES];
        match recv(lifeline.as_fd(), &mut message, RecvFlags::DONTWAIT) {
            Ok((MESSAGE_BYTES, _)) => {
                let [kind, number @ ..] = message;
                control.tell(kind, u64::from_le_bytes(number));
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Watched::Ended,
            // The end, or nothing that a parent of this version sends.
            Ok(_) | Err(_) => return Watched::Cut,
        }
    }
}
