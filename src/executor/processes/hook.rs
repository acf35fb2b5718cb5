//! The function before `main` that makes a worker of a process.
//!
//! # What a worker differs in from an ordinary process
//!
//! - It dies with the thread that started it (`PDEATHSIG`), and, should that be missed, when its lifeline is cut.
//! - The signals that a terminal sends to all processes of a group at once (`SIGINT`, `SIGQUIT`, `SIGHUP`) are caught and change nothing:
//!   it is for the parent to decide. They are not ignored, because programs that a task starts would inherit that. `SIGPIPE` is ignored,
//!   as in every Rust program.
//! - Its standard input is empty.
//! - It writes no core dump, unless that is set; with gigabytes of memory one takes seconds, for which the task waits that is tried again.
//! - If memory runs out, the kernel takes it before it takes its parent.
//! - Its main thread is this function's, and looks after the lifeline; tasks run on threads of the standard library.
//!
//! # What comes before `main`
//!
//! Functions before `main` run in an order that the linker chooses, and in a worker this one never returns. So it runs those that would
//! have come after it: they fill registries that tasks may use. In a program that has sprang in a library of its own, these are also those
//! of the modules that were linked with that library, up to the program. Left out, for the loader does not tell what it has still to do,
//! are those of libraries that come later and have nothing to do with it.
//!
//! The standard library does not promise to work before `main`, but does, as far as it is used here: it starts a thread and waits for it.
//!
//! # What the unsafe code rests on
//!
//! 1. The hook is called once, by the loader or the start code of the C library, on the first thread, before `main`.
//! 2. The list of constructors is what the linker made it: addresses of functions that take three arguments or fewer, or 0 or -1.
//! 3. Constructors that have not run yet are each run once, in the order in which the loader would have run them, and the loader never
//!    gets to them, for the hook does not return.

#![expect(unsafe_code, reason = "takes part in the start of the process")]

use super::lifeline::{Control, Watched, watch};
use super::token::{EXIT_ASTRAY, EXIT_NOT_STARTED, EXIT_ORPHANED, EXIT_PANICKED, Token, VARIABLE};
use super::worker::{STACK_BYTES, WorkerStart, worker_main};
use crate::portable::module::{Access, Module, find};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, getrlimit, setrlimit};
use std::ffi::{OsStr, OsString, c_char, c_int};
use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

// Each is written before `main`, or in `init`, by the thread that starts all others.
pub(super) static HOOK_RAN: AtomicBool = AtomicBool::new(false);
static INIT_CALLED: AtomicBool = AtomicBool::new(false);
static DEPTH: AtomicU32 = AtomicU32::new(0);

/// How long a worker may take to end by itself when its lifeline was cut by a parent that still lives.
const LAST_SECOND: Duration = Duration::from_secs(1);

type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

#[used]
#[unsafe(link_section = ".init_array")]
static HOOK: Constructor = hook;

extern "C" fn hook(count: c_int, arguments: *const *const c_char, environment: *const *const c_char) {
    HOOK_RAN.store(true, Relaxed);
    // What panics here must not reach the loader.
    let outcome = catch_unwind(|| {
        let Some(token) = take_token() else { return };
        // Only the GNU C library hands on what `main` gets.
        let call = if cfg!(target_env = "gnu") {
            MainArguments { count, arguments, environment }
        } else {
            MainArguments { count: 0, arguments: (&raw const NO_ARGUMENTS).cast(), environment: c_environment() }
        };
        become_worker(token, Some(call))
    });
    if outcome.is_err() {
        leave(EXIT_NOT_STARTED);
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
    anchor();
    if !hook_ran() {
        INIT_CALLED.store(true, Relaxed);
        if let Some(token) = take_token() {
            become_worker(token, None);
        }
    }
}

/// Keeps the linker from leaving the hook out: who asks whether workers can be started needs its address.
fn anchor() -> usize {
    black_box(&raw const HOOK) as usize
}

/// Why workers cannot be started from here, apart from how deep they are nested.
pub(super) fn refusal() -> Option<String> {
    if !hook_ran() && Token::read().flatten().is_some_and(|token| token.is_for_this_process()) {
        // A worker in which the hook did not run and that got here without calling `init` runs `main` again. It would start workers that do
        // the same.
        complain("this worker process never reached sprang's start-up hook; call sprang::init() first in main");
        leave(EXIT_ASTRAY);
    }
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    let init_called = INIT_CALLED.load(Relaxed);
    if !hook_ran() && !init_called {
        return Some(format!(
            "worker processes need sprang's start-up hook, which did not run in this program (sprang is in {}); call sprang::init() first \
             in main, or set scheduler = \"threads\"",
            Home::find().path.display()
        ));
    }
    REFUSAL
        .get_or_init(|| {
            let home = Home::find();
            if !home.is_linked {
                return Some(format!(
                    "worker processes cannot be started by a library that was loaded into a running program: sprang is in {}, which {} \
                     was not linked with; set scheduler = \"threads\"",
                    home.path.display(),
                    program().display()
                ));
            }
            if fs::metadata("/proc/self/exe").is_err() {
                return Some("worker processes need /proc, which is not there; set scheduler = \"threads\"".into());
            }
            None
        })
        .clone()
}

fn program() -> PathBuf {
    fs::read_link("/proc/self/exe").unwrap_or_else(|_| "the program".into())
}

/// Where this copy of sprang lies. A program can have several, of different versions or in libraries.
struct Home {
    path: PathBuf,
    /// Tells copies apart: where the hook is in which module.
    id: u64,
    /// Whether it is there whenever the program is started.
    is_linked: bool,
}

impl Home {
    fn find() -> Home {
        let hook = anchor();
        let found = find(|module| {
            let path = || if module.is_program() { program() } else { module.path() };
            module.contains(&(hook..hook + 1), Access::Read).then(|| (module.is_program(), module.base(), path()))
        });
        let Some((is_program, base, path)) = found else {
            return Home { path: "no module that the loader knows".into(), id: 0, is_linked: false };
        };
        let mut id = (hook - base) as u64;
        if !is_program {
            for byte in path.file_name().unwrap_or_default().as_encoded_bytes() {
                id = (id ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        let is_linked =
            is_program || linked_with(base).is_some_and(|modules| modules.iter().any(|module| module.is_program));
        Home { path, id, is_linked }
    }
}

/// The token for a worker of this process.
pub(super) fn new_token(server: &str, depth: u32, core_dumps: bool) -> Token {
    Token::new(server, depth, core_dumps, Home::find().id)
}

/// Takes the token out of the environment and returns it if it is meant for this process.
///
/// A token for another copy of sprang stays where it is.
fn take_token() -> Option<Token> {
    let token = Token::read()?;
    let home = Home::find();
    if token.as_ref().is_some_and(|token| token.home != home.id) {
        return None;
    }
    // SAFETY: on the first thread, before `main` or first thing in it (rule 1). Constructors that ran before and started threads which
    // read the environment in C would be at fault with any change of it.
    unsafe { std::env::remove_var(VARIABLE) };
    token.filter(|token| token.is_for_this_process() && home.is_linked)
}

/// What is handed to `main`.
struct MainArguments {
    count: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
}

#[repr(transparent)]
struct NoArguments([*const c_char; 1]);

// SAFETY: one null pointer, never written.
unsafe impl Sync for NoArguments {}

static NO_ARGUMENTS: NoArguments = NoArguments([std::ptr::null()]);

fn c_environment() -> *const *const c_char {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: as for changing the environment in `take_token`.
    unsafe { environ }
}

/// Does not return. `constructors` is what those are called with that have not run yet; `None` if all have.
fn become_worker(token: Token, constructors: Option<MainArguments>) -> ! {
    let parent = Pid::from_raw(token.parent);
    let is_orphan = || getppid() != parent;
    // In this order, so that a parent which goes in between is noticed.
    let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if bound.is_err() || is_orphan() {
        leave(EXIT_ORPHANED);
    }
    let lifeline = match take_stdin() {
        Ok(lifeline) => lifeline,
        Err(error) => {
            complain(&format!("a worker process cannot take over its lifeline: {error}"));
            leave(EXIT_NOT_STARTED);
        }
    };
    set_signals();
    set_limits(token.core_dumps);
    // Else it would be called `exe`, by the name of the link.
    let _ = rustix::thread::set_name(c"sprang-worker");
    DEPTH.store(token.depth, Relaxed);
    if let Some(call) = constructors {
        run_constructors(&call);
    }

    let control = Control::default();
    let start = WorkerStart { server: token.server, control: control.clone() };
    let started = eventfd(0, EventfdFlags::CLOEXEC).map_err(std::io::Error::from).and_then(|end| {
        let signal = end.try_clone()?;
        let thread = thread::Builder::new().name("sprang-worker".into()).stack_size(STACK_BYTES).spawn(move || {
            let code = catch_unwind(AssertUnwindSafe(|| worker_main(start)));
            let code = code.unwrap_or(EXIT_PANICKED);
            // A task may have closed it, with all that is open; then the first thread would never wake up.
            if rustix::io::write(&signal, &1_u64.to_ne_bytes()).is_err() {
                std::process::exit(code);
            }
            code
        })?;
        Ok((end, thread))
    });
    let (end, thread) = match started {
        Ok(started) => started,
        Err(error) => {
            complain(&format!("a worker process cannot start a thread: {error}"));
            leave(EXIT_NOT_STARTED);
        }
    };
    if watch(&lifeline, &end, &control) == Watched::Cut {
        if is_orphan() {
            leave(EXIT_ORPHANED);
        }
        // The parent has let go of this worker, which may just be about to end.
        thread::spawn(|| {
            thread::sleep(LAST_SECOND);
            leave(EXIT_ORPHANED)
        });
    }
    let code = thread.join().unwrap_or(EXIT_PANICKED);
    // And not `_exit`: what measures coverage or time writes its files now.
    std::process::exit(code)
}

/// Takes the lifeline away from where tasks would read, and leaves an empty file there.
fn take_stdin() -> std::io::Result<OwnedFd> {
    // SAFETY: it is open: it has just been found to be a socket, and no other thread is there to close it.
    let stdin = unsafe { BorrowedFd::borrow_raw(0) };
    // Far from the numbers that programs give away by hand, unless so few are allowed.
    let lifeline =
        rustix::io::fcntl_dupfd_cloexec(stdin, 100).or_else(|_| rustix::io::fcntl_dupfd_cloexec(stdin, 3))?;
    let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    debug_assert_ne!(nothing.as_raw_fd(), 0);
    rustix::stdio::dup2_stdin(nothing)?;
    Ok(lifeline)
}

fn set_signals() {
    extern "C" fn nothing(_signal: c_int) {}

    // SAFETY: the handler does nothing; the structures are the C library's, for which all zero is a valid value.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
            let mut before: libc::sigaction = std::mem::zeroed();
            // What is ignored from outside (`nohup`) stays so.
            if libc::sigaction(signal, std::ptr::null(), &raw mut before) == 0 && before.sa_sigaction != libc::SIG_IGN {
                libc::sigaction(signal, &raw const action, std::ptr::null_mut());
            }
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// None of this has to work.
fn set_limits(core_dumps: bool) {
    if !core_dumps {
        let maximum = getrlimit(Resource::Core).maximum;
        // A limit of one byte ends dumps to files, as 0 would, and also those to a program that collects them, which 0 does not.
        let current = Some(maximum.map_or(1, |maximum| maximum.min(1)));
        let _ = setrlimit(Resource::Core, Rlimit { current, maximum });
    }
    let file = "/proc/self/oom_score_adj";
    if let Some(score) = fs::read_to_string(file).ok().and_then(|score| score.trim().parse::<i32>().ok()) {
        let _ = fs::write(file, (score + 500).min(1000).to_string());
    }
}

/// What the loader knows of a module, kept.
struct Linked {
    base: usize,
    is_program: bool,
    constructors: Option<Range<usize>>,
}

/// The module with this base, and those that were linked with it, directly or not: each after all those of them that it needs.
/// `None` if there is no such module.
fn linked_with(base: usize) -> Option<Vec<Linked>> {
    struct Seen {
        linked: Linked,
        needed: Vec<OsString>,
        /// Which of the names that any module needs mean this one.
        names: Vec<OsString>,
    }

    let keep = |module: &Module<'_>| Linked {
        base: module.base(),
        is_program: module.is_program(),
        constructors: module.constructors(),
    };
    let mut all = Vec::new();
    let _: Option<()> = find(|module| {
        let needed = module.needed().map(OsStr::to_owned).collect();
        all.push(Seen { linked: keep(module), needed, names: Vec::new() });
        None
    });
    let mut wanted: Vec<OsString> = all.iter().flat_map(|seen| seen.needed.iter().cloned()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let _: Option<()> = find(|module| {
        if let Some(seen) = all.iter_mut().find(|seen| seen.linked.base == module.base()) {
            seen.names = wanted.iter().filter(|name| module.has_name(name)).cloned().collect();
        }
        None
    });
    let needs = |one: &Seen, other: &Seen| one.needed.iter().any(|name| other.names.contains(name));

    let first = all.iter().position(|seen| seen.linked.base == base)?;
    let mut reached = vec![first];
    let mut next = 0;
    while next < reached.len() {
        let at = reached[next];
        next += 1;
        let more: Vec<usize> = (0..all.len()).filter(|i| !reached.contains(i) && needs(&all[*i], &all[at])).collect();
        reached.extend(more);
    }
    // Libraries do need each other in a circle now and then; then the order found above has to do.
    let mut sorted = vec![first];
    let mut left: Vec<usize> = reached[1..].to_vec();
    while !left.is_empty() {
        let free = left
            .iter()
            .position(|&i| left.iter().all(|&other| other == i || !needs(&all[i], &all[other])))
            .unwrap_or(0);
        sorted.push(left.remove(free));
    }
    let mut all: Vec<Option<Linked>> = all.into_iter().map(|seen| Some(seen.linked)).collect();
    Some(sorted.into_iter().filter_map(|i| all[i].take()).collect())
}

/// Runs the functions before `main` that have not run yet, as far as they are known.
fn run_constructors(call: &MainArguments) {
    let hook = anchor();
    let base = find(|module| module.contains(&(hook..hook + 1), Access::Read).then(|| module.base()));
    let Some(modules) = base.and_then(linked_with) else { return };
    for (i, module) in modules.iter().enumerate() {
        let Some(list) = module.constructors.clone().or_else(|| constructors_of_static_program(module)) else {
            continue;
        };
        let start = if i > 0 {
            list.start
        } else if list.contains(&hook) {
            hook + size_of::<usize>()
        } else {
            continue;
        };
        for place in (start..list.end).step_by(size_of::<usize>()) {
            // SAFETY: within the list that the linker made, of aligned addresses.
            let address = unsafe { *(place as *const usize) };
            if address == 0 || address == usize::MAX {
                continue;
            }
            // SAFETY: rule 2 for the type, rule 3 for the time.
            unsafe { std::mem::transmute::<usize, Constructor>(address)(call.count, call.arguments, call.environment) };
        }
    }
}

/// A program that is linked statically and not moved has no list of its parts, but symbols, which libraries have not.
#[cfg(target_feature = "crt-static")]
fn constructors_of_static_program(module: &Linked) -> Option<Range<usize>> {
    unsafe extern "C" {
        static __init_array_start: [usize; 0];
        static __init_array_end: [usize; 0];
    }
    module.is_program.then(|| &raw const __init_array_start as usize..&raw const __init_array_end as usize)
}

#[cfg(not(target_feature = "crt-static"))]
fn constructors_of_static_program(_module: &Linked) -> Option<Range<usize>> {
    None
}

/// Ends the process at once.
fn leave(code: i32) -> ! {
    // SAFETY: can always be called.
    unsafe { libc::_exit(code) }
}

fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "sprang: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sprang_is_in_the_program_of_its_tests() {
        let home = Home::find();
        assert!(home.is_linked);
        assert_eq!(home.path, std::env::current_exe().unwrap());
        assert_ne!(home.id, 0);
    }

    #[test]
    fn what_was_linked_with_a_library_comes_after_what_it_needs() {
        let program = find(|module| Some(module.base())).unwrap();
        assert!(linked_with(program).is_some_and(|modules| matches!(&modules[..], [module] if module.is_program)));
        assert!(linked_with(1).is_none());
        // Of a static program there is no more to see.
        let Some(library) = find(|module| module.has_name("libc.so.6".as_ref()).then(|| module.base())) else {
            return;
        };
        let modules = linked_with(library).unwrap();
        assert_eq!(modules[0].base, library);
        let last = modules.last().unwrap();
        assert!(last.is_program && last.constructors.as_ref().is_some_and(|list| list.contains(&anchor())));
        let mut bases: Vec<_> = modules.iter().map(|module| module.base).collect();
        bases.sort_unstable();
        bases.dedup();
        assert_eq!(bases.len(), modules.len());
    }
}
