//! A socket between a worker and the process that started it.
//!
//! The lifeline closes when the parent ends, however it ends, and the worker notices that. While a
//! task runs, the worker does not read its channel. So urgent messages, a kind and a number each,
//! come on the lifeline. The worker's main thread sleeps until something happens on it.

use super::token::KILL;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const MESSAGE_BYTES: usize = 9;

/// The parent's end. Dropping it ends the worker.
#[derive(Debug)]
pub(super) struct Lifeline {
    socket: OwnedFd,
}

impl Lifeline {
    /// The parent's end and the worker's.
    pub(super) fn pair() -> io::Result<(Lifeline, OwnedFd)> {
        // Such a socket delivers whole messages only.
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Lifeline { socket: ours }, theirs))
    }

    /// Sends a message to the worker, and does not block.
    ///
    /// # Errors
    /// `WouldBlock` if the worker has not read earlier messages for long, `BrokenPipe` or
    /// `ConnectionReset` if it is gone.
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

/// The worker's callback for messages on the lifeline.
#[derive(Clone, Default)]
pub(super) struct Control {
    listener: Arc<Mutex<Listener>>,
}

#[derive(Default)]
struct Listener {
    callback: Option<OnControl>,
    /// Messages that arrived before there was a callback.
    early: Vec<(u8, u64)>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Calls `callback` with each message from now on, and at once with each that has arrived
    /// already. The calls are on the worker's main thread, so the callback must be short. Its
    /// panics are ignored.
    pub(super) fn on_control(&self, callback: impl FnMut(u8, u64) + Send + 'static) {
        let mut listener = self.listener.lock();
        let early = std::mem::take(&mut listener.early);
        listener.callback = Some(Box::new(callback));
        early.into_iter().for_each(|(kind, number)| listener.on_message(kind, number));
    }

    fn on_message(&self, kind: u8, number: u64) {
        self.listener.lock().on_message(kind, number);
    }
}

impl Listener {
    fn on_message(&mut self, kind: u8, number: u64) {
        match &mut self.callback {
            Some(callback) => drop(catch_unwind(AssertUnwindSafe(|| callback(kind, number)))),
            None => self.early.push((kind, number)),
        }
    }
}

/// Why [`watch`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LifelineEvent {
    /// The worker's thread has ended.
    ThreadEnded,
    /// The other end of the lifeline was closed.
    Cut,
    /// The worker is to kill itself.
    Killed,
}

/// Forwards messages from the lifeline until `end` can be read or the lifeline is cut.
pub(super) fn watch(lifeline: &OwnedFd, end: &OwnedFd, control: &Control) -> LifelineEvent {
    loop {
        let mut fds = [PollFd::new(lifeline, PollFlags::IN | PollFlags::RDHUP), PollFd::new(end, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return LifelineEvent::Cut,
            Ok(_) => {}
        }
        if !fds[1].revents().is_empty() {
            return LifelineEvent::ThreadEnded;
        }
        if !fds[0].revents().is_empty()
            && let Err(end) = read_all(lifeline, control)
        {
            return end;
        }
    }
}

/// Forwards the messages that have arrived. The error is the end that they bring.
fn read_all(lifeline: &OwnedFd, control: &Control) -> Result<(), LifelineEvent> {
    loop {
        let mut message = [0; MESSAGE_BYTES];
        match recv(lifeline.as_fd(), &mut message, RecvFlags::DONTWAIT) {
            Ok((MESSAGE_BYTES, _)) => {
                let [kind, number @ ..] = message;
                if kind == KILL {
                    return Err(LifelineEvent::Killed);
                }
                control.on_message(kind, u64::from_le_bytes(number));
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(()),
            // The end, or a message that no parent of this version sends.
            Ok(_) | Err(_) => return Err(LifelineEvent::Cut),
        }
    }
}
