//! The function before `main` that turns a process into a worker.
//!
//! # How a worker differs from an ordinary process
//!
//! - It has no more rights than the thread that computes; see [`rights`](super::rights).
//! - It dies with the thread that started it (`PDEATHSIG`). If the kernel misses that, it ends when
//!   its lifeline is cut.
//! - It catches the signals that a terminal sends to a whole process group (`SIGINT`, `SIGQUIT`,
//!   `SIGHUP`), with a handler that does nothing: the parent decides about them. It does not ignore
//!   them, because programs that a task starts would inherit that. It ignores `SIGPIPE`, as every
//!   Rust program does.
//! - Its standard input is empty, and it has no other descriptors of the program: a port or a lock
//!   that the program closes is free, and a pipe ends.
//! - It writes no core dump, unless the settings ask for one. With gigabytes of memory, a core dump
//!   takes seconds, and the retry of the task would wait for it.
//! - If memory runs out, the kernel kills it before its parent.
//! - Its main thread runs this function and watches the lifeline. Tasks run on threads of the
//!   standard library.
//!
//! # Before `main`
//!
//! The standard library does not promise to work before `main`. Starting a thread and waiting for
//! it, as this file does, works. In a worker this function never returns, so it runs the remaining
//! functions before `main` itself; see [`constructors`](super::constructors).
//!
//! # What the unsafe code rests on
//!
//! 1. The loader, or the start code of the C library, calls the hook once, on the first thread,
//!    before `main`. [`init`] runs first in `main`, on that thread too. So sprang has started no
//!    other thread.

#![expect(unsafe_code, reason = "takes part in the start of the process")]

use super::constructors::{Constructor, MainArguments, linked_with, run_constructors};
use super::lifeline::{Control, LifelineEvent, watch};
use super::rights::Rights;
use super::settings::ProcessSettings;
use super::token::{EXIT_NO_HOOK, EXIT_NOT_STARTED, EXIT_ORPHANED, EXIT_PANICKED, Token, VARIABLE};
use super::worker::{WorkerStart, worker_main};
use crate::portable::module::{Access, find};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, getrlimit, setrlimit};
use std::ffi::{c_char, c_int};
use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

// The first thread writes these, before `main` or in `init`, and starts all other threads
// afterwards.
pub(super) static HOOK_RAN: AtomicBool = AtomicBool::new(false);
static INIT_CALLED: AtomicBool = AtomicBool::new(false);
static DEPTH: AtomicU32 = AtomicU32::new(0);

/// How long a worker may take to end by itself after a parent that still lives has cut its
/// lifeline.
const ORPHAN_GRACE: Duration = Duration::from_secs(1);

#[used]
#[unsafe(link_section = ".init_array")]
static HOOK: Constructor = hook;

extern "C" fn hook(count: c_int, arguments: *const *const c_char, environment: *const *const c_char) {
    HOOK_RAN.store(true, Relaxed);
    // A panic must not reach the loader.
    let outcome = catch_unwind(|| {
        let Some(token) = take_token() else { return };
        // Only the GNU C library passes the arguments of `main`.
        let arguments = if cfg!(target_env = "gnu") {
            MainArguments { count, arguments, environment }
        } else {
            MainArguments { count: 0, arguments: (&raw const NO_ARGUMENTS).cast(), environment: c_environment() }
        };
        become_worker(token, Some(arguments))
    });
    if outcome.is_err() {
        exit_now(EXIT_NOT_STARTED);
    }
}

/// As [`boot::hook_ran`](super::boot::hook_ran).
pub(super) fn hook_ran() -> bool {
    HOOK_RAN.load(Relaxed)
}

/// As [`boot::depth`](super::boot::depth).
pub(super) fn depth() -> u32 {
    DEPTH.load(Relaxed)
}

/// As [`boot::init`](super::boot::init).
pub(super) fn init() {
    hook_address();
    if !hook_ran() {
        INIT_CALLED.store(true, Relaxed);
        if let Some(token) = take_token() {
            become_worker(token, None);
        }
    }
}

/// The address of the hook. Code that may start workers calls this, so the linker keeps the hook.
pub(super) fn hook_address() -> usize {
    black_box(&raw const HOOK) as usize
}

/// Why this process cannot start workers, apart from their nesting.
pub(super) fn refusal() -> Option<String> {
    if !hook_ran() && Token::read().flatten().is_some_and(|token| token.is_for_this_process()) {
        // The hook did not run in this worker, and the program got here without a call of `init`.
        // It runs `main` again, and would start workers that do the same.
        print_error("this worker process never reached sprang's start-up hook; call sprang::init() first in main");
        exit_now(EXIT_NO_HOOK);
    }
    if !hook_ran() && !INIT_CALLED.load(Relaxed) {
        return Some(format!(
            "worker processes need sprang's start-up hook, which did not run in this program (sprang is in {}); call \
             sprang::init() first in main, or set scheduler = \"threads\"",
            OwnModule::find().path.display()
        ));
    }
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    let refusal = || {
        let own = OwnModule::find();
        if !own.is_linked {
            return Some(format!(
                "worker processes cannot be started by a library that was loaded into a running program: sprang is in \
                 {}, which {} was not linked with; set scheduler = \"threads\"",
                own.path.display(),
                program().display()
            ));
        }
        let is_missing = fs::metadata("/proc/self/exe").is_err();
        is_missing.then(|| "worker processes need /proc, which is not there; set scheduler = \"threads\"".into())
    };
    REFUSAL.get_or_init(refusal).clone()
}

fn program() -> PathBuf {
    fs::read_link("/proc/self/exe").unwrap_or_else(|_| "the program".into())
}

/// The module that this copy of sprang is in. A process can have several copies, of different
/// versions or in different libraries.
struct OwnModule {
    path: PathBuf,
    /// Differs between the copies: computed from the module and the place of the hook in it.
    id: u64,
    /// The loader loads the module at every start of the program.
    is_linked: bool,
}

impl OwnModule {
    fn find() -> OwnModule {
        let hook = hook_address();
        let found = find(|module| {
            let path = || if module.is_program() { program() } else { module.path() };
            module.contains(&(hook..hook + 1), Access::Read).then(|| (module.is_program(), module.base(), path()))
        });
        let Some((is_program, base, path)) = found else {
            return OwnModule { path: "no module that the loader knows".into(), id: 0, is_linked: false };
        };
        let mut id = (hook - base) as u64;
        if !is_program {
            for byte in path.file_name().unwrap_or_default().as_encoded_bytes() {
                id = (id ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        let is_linked = is_program || linked_with(base).iter().any(|module| module.is_program);
        OwnModule { path, id, is_linked }
    }
}

/// A token for a worker of this process.
pub(super) fn new_token(server: &str, depth: u32, settings: &ProcessSettings, rights: &Rights) -> Token {
    Token::new(server, depth, settings, rights, OwnModule::find().id)
}

/// Removes the token from the environment, and returns it if it is for this process.
///
/// A token for another copy of sprang stays.
fn take_token() -> Option<Token> {
    let token = Token::read()?;
    let own = OwnModule::find();
    if token.as_ref().is_some_and(|token| token.module != own.id) {
        return None;
    }
    // SAFETY: no other thread may read or write the environment now. Sprang has started none (rule
    // 1). A constructor that ran earlier could have started one that reads the environment in C; it
    // would be unsound with every change of the environment.
    unsafe { std::env::remove_var(VARIABLE) };
    token.filter(|token| token.is_for_this_process() && own.is_linked)
}

#[repr(transparent)]
struct NoArguments([*const c_char; 1]);

// SAFETY: threads may share it, because nobody writes it and its pointer is null.
unsafe impl Sync for NoArguments {}

static NO_ARGUMENTS: NoArguments = NoArguments([std::ptr::null()]);

fn c_environment() -> *const *const c_char {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: the C library defines `environ` with this type, and no other thread changes it now
    // (rule 1).
    unsafe { environ }
}

/// Runs the worker. `remaining` has the arguments for the constructors that have not run yet;
/// `None` if all have.
fn become_worker(token: Token, remaining: Option<MainArguments>) -> ! {
    let parent = Pid::from_raw(token.parent);
    let is_orphan = || getppid() != parent;
    // Before the next call, whose effect a change of the user undoes.
    token.rights.take_over().unwrap_or_else(|error| {
        print_error(&format!("a worker process cannot give up the rights that its parent does not have: {error}"));
        exit_now(EXIT_NOT_STARTED)
    });
    // In this order: a parent that dies before the first call is noticed by the second.
    let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if bound.is_err() || is_orphan() {
        exit_now(EXIT_ORPHANED);
    }
    let lifeline = take_stdin().unwrap_or_else(|error| {
        print_error(&format!("a worker process cannot take over its lifeline: {error}"));
        exit_now(EXIT_NOT_STARTED)
    });
    // Where `init` makes the worker, constructors have run that may have opened some for it.
    if remaining.is_some() {
        close_inherited(&lifeline);
    }
    set_signals();
    set_limits(token.core_dumps);
    // Otherwise the process has the name of the link, `exe`.
    let _ = rustix::thread::set_name(c"sprang-worker");
    DEPTH.store(token.depth, Relaxed);
    if let Some(arguments) = remaining {
        run_constructors(hook_address(), &arguments);
    }

    let control = Control::default();
    let start = WorkerStart { server: token.server, stack_size: token.stack_size, control: control.clone() };
    let (end, thread) = start_worker(start).unwrap_or_else(|error| {
        print_error(&format!("a worker process cannot start a thread: {error}"));
        exit_now(EXIT_NOT_STARTED)
    });
    match watch(&lifeline, &end, &control) {
        LifelineEvent::ThreadEnded => {}
        LifelineEvent::Killed => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
        }
        LifelineEvent::Cut if is_orphan() => exit_now(EXIT_ORPHANED),
        // The parent lives and has dropped this worker, which may be about to end by itself.
        LifelineEvent::Cut => drop(thread::spawn(|| {
            thread::sleep(ORPHAN_GRACE);
            exit_now(EXIT_ORPHANED)
        })),
    }
    let code = thread.join().unwrap_or(EXIT_PANICKED);
    // Not `_exit`: at an exit, tools that measure coverage or time write their files.
    std::process::exit(code)
}

/// Starts the worker's first thread, which returns the exit status. The descriptor can be read once
/// it ends.
fn start_worker(start: WorkerStart) -> io::Result<(OwnedFd, JoinHandle<i32>)> {
    let end = eventfd(0, EventfdFlags::CLOEXEC)?;
    let signal = end.try_clone()?;
    let thread = thread::Builder::new().name("sprang-worker".into()).stack_size(start.stack_size).spawn(move || {
        let code = catch_unwind(AssertUnwindSafe(|| worker_main(start))).unwrap_or(EXIT_PANICKED);
        // If a task has closed all descriptors, nothing else would wake the main thread.
        if rustix::io::write(&signal, &1_u64.to_ne_bytes()).is_err() {
            std::process::exit(code);
        }
        code
    })?;
    Ok((end, thread))
}

/// Takes the lifeline from the standard input, and puts an empty file there for the tasks.
fn take_stdin() -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open for as long as it is borrowed: `Token::is_for_this_process`
    // has just found it to be a socket, and no other thread could close it (rule 1).
    let stdin = unsafe { BorrowedFd::borrow_raw(0) };
    // From 100, away from numbers that programs use by hand, unless the limit is lower.
    let lifeline =
        rustix::io::fcntl_dupfd_cloexec(stdin, 100).or_else(|_| rustix::io::fcntl_dupfd_cloexec(stdin, 3))?;
    let empty = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    debug_assert_ne!(empty.as_raw_fd(), 0);
    rustix::stdio::dup2_stdin(empty)?;
    Ok(lifeline)
}

/// Closes the descriptors that the program had open, and not for itself alone, when it started this
/// worker: all but the standard ones and the lifeline.
fn close_inherited(lifeline: &OwnedFd) {
    let lifeline = lifeline.as_raw_fd();
    let close_range = |first: c_int, last: c_int| {
        // By number: the C library may be older than the call, and the kernel may not have it.
        // SAFETY: no Rust code of this process owns a descriptor in these ranges: only the loader
        // and constructors of libraries have run before (rule 1), and the lifeline is in no range.
        first > last || unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0
    };
    if close_range(3, lifeline - 1) && close_range(lifeline + 1, c_int::MAX) {
        return;
    }
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<c_int> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|&number| number > 2 && number != lifeline) {
        // SAFETY: as above. The descriptor of the folder is in the list too; it is closed already,
        // and no other thread has opened one with its number.
        unsafe { libc::close(number) };
    }
}

fn set_signals() {
    extern "C" fn do_nothing(_signal: c_int) {}

    // SAFETY: `sigaction` needs pointers to values of its type, or null; zeroed ones are valid. A
    // handler may run at any time on any thread, and this one does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = do_nothing as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
            let mut before: libc::sigaction = std::mem::zeroed();
            // A signal that the program was started to ignore (`nohup`) stays ignored.
            if libc::sigaction(signal, std::ptr::null(), &raw mut before) == 0 && before.sa_sigaction != libc::SIG_IGN {
                libc::sigaction(signal, &raw const action, std::ptr::null_mut());
            }
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// Sets the limits, as far as the system allows it.
fn set_limits(core_dumps: bool) {
    if !core_dumps {
        let maximum = getrlimit(Resource::Core).maximum;
        // A limit of 1 byte prevents dumps to files, as 0 does, and dumps to a program that
        // collects them, which 0 does not.
        let current = Some(maximum.map_or(1, |maximum| maximum.min(1)));
        let _ = setrlimit(Resource::Core, Rlimit { current, maximum });
    }
    let file = "/proc/self/oom_score_adj";
    if let Some(score) = fs::read_to_string(file).ok().and_then(|score| score.trim().parse::<i32>().ok()) {
        let _ = fs::write(file, (score + 500).min(1000).to_string());
    }
}

/// Ends the process without running exit handlers.
fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no conditions.
    unsafe { libc::_exit(code) }
}

fn print_error(message: &str) {
    let _ = writeln!(io::stderr(), "sprang: {message}");
}

#[cfg(test)]
mod tests {
    use super::OwnModule;

    #[test]
    fn sprang_is_in_the_program_of_its_tests() {
        let own = OwnModule::find();
        assert!(own.is_linked);
        assert_eq!(own.path, std::env::current_exe().unwrap());
        assert_ne!(own.id, 0);
    }
}
