//! Functions by which tasks harm their process.

#![expect(unsafe_code, reason = "does what safe code cannot be made to do")]

use rustix::process::{Pid, Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use serde::{Deserialize, Serialize};

pub(crate) fn raise(signal: Signal) -> ! {
    kill_process(getpid(), signal).unwrap();
    loop {
        std::thread::park();
    }
}

/// Writes to an address that is not mapped.
pub(crate) fn segfault() -> ! {
    // SAFETY: none: the test is about how the system reacts.
    unsafe { std::hint::black_box(16 as *mut u64).write_volatile(1) };
    unreachable!("there is nothing at this address")
}

#[expect(unconditional_recursion, reason = "the point of it")]
pub(crate) fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    deeper(depth + 1) + frame[1]
}

/// Asks for more memory than the process may have.
pub(crate) fn fail_to_allocate() -> ! {
    let maximum = getrlimit(Resource::As).maximum;
    let current = Some(maximum.map_or(1 << 30, |maximum| maximum.min(1 << 30)));
    setrlimit(Resource::As, Rlimit { current, maximum }).unwrap();
    let bytes: Vec<u8> = Vec::with_capacity(std::hint::black_box(8 << 30));
    panic!("{} bytes were given", bytes.capacity())
}

/// Touches this many bytes of memory, and keeps them.
pub(crate) fn eat(bytes: usize) {
    const STEP: usize = 1 << 20;
    for _ in 0..bytes / STEP {
        let mut piece = vec![0_u8; STEP];
        piece.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        std::mem::forget(std::hint::black_box(piece));
    }
}

/// As `fork` in C: comes back in both processes, with the child's id in the parent.
pub(crate) fn fork() -> Option<Pid> {
    // SAFETY: the child only does what its caller, a test, makes it do.
    Pid::from_raw(unsafe { libc::fork() })
}

pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: can always be called.
    unsafe { libc::_exit(code) }
}

pub(crate) fn close(fds: impl IntoIterator<Item = i32>) {
    for fd in fds {
        // SAFETY: none: the files belong to other code. The test is about what happens to that
        // code.
        unsafe { libc::close(fd) };
    }
}

/// The open files of this process, by number.
pub(crate) fn open_files() -> Vec<(i32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let target = |number: i32| std::fs::read_link(format!("/proc/self/fd/{number}")).ok();
    numbers.filter_map(|number| Some((number, target(number)?.to_str()?.to_owned()))).collect()
}

/// Writes to the file descriptor with this number, whatever it is.
pub(crate) fn write_to(fd: i32, bytes: &[u8]) -> bool {
    // SAFETY: the address and length of bytes.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    sent >= 0
}

/// Makes this process call `handler` when it exits.
pub(crate) fn at_exit(handler: extern "C" fn()) {
    // SAFETY: the handler is a function of this program.
    assert_eq!(unsafe { libc::atexit(handler) }, 0);
}

/// Installs a handler that does nothing, as a program with a handler of its own has.
pub(crate) fn catch(signal: Signal) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(signal.as_raw(), nothing as extern "C" fn(i32) as usize) };
}

/// Installs a handler that does nothing, so that the signal only interrupts system calls.
pub(crate) fn be_interrupted_by(signal: Signal) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the handler does nothing; the structure is the C library's, for which all zero is a
    // valid value.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        assert_eq!(libc::sigaction(signal.as_raw(), &raw const action, std::ptr::null_mut()), 0);
    }
}

/// Sends a signal to a thread of this process, if it is still there.
pub(crate) fn interrupt(thread: i32, signal: Signal) {
    // SAFETY: it takes three numbers.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal.as_raw()) };
}

/// The step of a [`Probe`] that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum At {
    Decode,
    Task,
    Encode,
    Drop,
}

/// The failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Deed {
    Nothing,
    /// The first attempt waits for ever; see [`hold_first`](super::room::hold_first).
    HoldFirst(String),
    Panic,
    /// With a payload that panics when it is dropped.
    PanicAny,
    Exit(i32),
    Abort,
}

struct Spiteful;

impl Drop for Spiteful {
    fn drop(&mut self) {
        panic!("a payload that is dropped");
    }
}

impl Deed {
    pub(crate) fn commit(&self) {
        match self {
            Deed::Nothing => {}
            Deed::HoldFirst(room) => super::room::hold_first(room),
            Deed::Panic => panic!("as it was told"),
            Deed::PanicAny => std::panic::panic_any(Spiteful),
            Deed::Exit(code) => std::process::exit(*code),
            Deed::Abort => std::process::abort(),
        }
    }
}

/// A value that fails at one step of its way through a worker. It does no harm in the process that
/// made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Encoded", into = "Encoded")]
pub(crate) struct Probe {
    pub(crate) home: u32,
    pub(crate) at: At,
    pub(crate) deed: Deed,
    pub(crate) payload: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Encoded(u32, At, Deed, Vec<u8>);

impl Probe {
    pub(crate) fn new(at: At, deed: Deed) -> Self {
        Probe { home: std::process::id(), at, deed, payload: Vec::new() }
    }

    /// A probe that a worker makes. `home` is the parent, where it does no harm.
    pub(crate) fn of(home: u32, at: At, deed: &Deed) -> Self {
        Probe { home, at, deed: deed.clone(), payload: Vec::new() }
    }

    pub(crate) fn pass(&self, at: At) {
        if at == self.at && self.home != std::process::id() {
            self.deed.commit();
        }
    }
}

impl From<Encoded> for Probe {
    fn from(encoded: Encoded) -> Probe {
        let Encoded(home, at, deed, payload) = encoded;
        let probe = Probe { home, at, deed, payload };
        probe.pass(At::Decode);
        probe
    }
}

impl From<Probe> for Encoded {
    fn from(mut probe: Probe) -> Encoded {
        probe.pass(At::Encode);
        let at = probe.at;
        // Only a copy is dropped.
        probe.at = At::Task;
        Encoded(probe.home, at, probe.deed.clone(), std::mem::take(&mut probe.payload))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.pass(At::Drop);
        }
    }
}
