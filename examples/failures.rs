//! What can go wrong in a task, and what the program sees of it.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use sprang::{
    CancelToken, Delayed, ErrorKind, compute, compute_each, config, delayed, delayed_local, try_delayed,
    try_delayed_local,
};
use std::error::Error as _;
use std::num::ParseIntError;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

fn parse(text: &'static str) -> Result<i64, ParseIntError> {
    text.parse()
}

/// Fails twice before it works, as a network might.
fn fetch() -> Result<i64, String> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    match CALLS.fetch_add(1, Relaxed) {
        0 | 1 => Err("connection refused".into()),
        _ => Ok(42),
    }
}

static CALLS_NOTED: AtomicU32 = AtomicU32::new(0);

/// The count is one of this process, so the task has to be local.
fn note_the_call() -> u32 {
    CALLS_NOTED.fetch_add(1, Relaxed)
}

/// Runs until nobody wants its result any more.
fn endless() -> u64 {
    let token = CancelToken::current();
    (0..).find(|_| token.is_cancelled()).expect("there is always a next number")
}

fn main() -> sprang::Result<()> {
    // An `Err` fails the task, and what depends on it. The error names both and keeps the cause.
    let port = try_delayed(parse, ("http",)).name("port");
    let next = delayed(|port| port + 1, (port,)).name("next");
    let error = next.compute().unwrap_err();
    println!("an error:  {error}");
    assert_eq!((error.kind(), error.task()), (ErrorKind::Failed, Some("port")));
    // On threads it is the `ParseIntError` itself; from a worker process its text has come.
    assert_eq!(error.source().map(|cause| cause.to_string()).as_deref(), Some("invalid digit found in string"));

    // So does a panic. (Rust reports it on stderr as well, as it does every panic.)
    let ratio = delayed(|a: i64, b: i64| a / b, (1_i64, 0_i64)).name("ratio");
    let error = ratio.compute().unwrap_err();
    println!("a panic:   {error}");
    assert_eq!(error.kind(), ErrorKind::Panicked);

    // A `Result` for each output; what does not depend on a failure is finished.
    let numbers: Vec<Delayed<i64>> = ["7", "x", "9"].map(|text| try_delayed(parse, (text,))).into();
    let results = compute_each(&numbers)?;
    for (i, result) in results.iter().enumerate() {
        match result {
            Ok(number) => println!("each:      {i}: {number}"),
            Err(error) => println!("each:      {i}: {error}"),
        }
    }
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);

    // `compute` gives the first failure and stops there, unless told to finish what it can.
    let outputs = (&numbers[1], &delayed_local(note_the_call, ()));
    let error = config::with("errors", "collect", || compute(outputs))?.unwrap_err();
    println!("collect:   {error}; the other output was computed too");
    assert_eq!(CALLS_NOTED.load(Relaxed), 1);

    // Again, up to so many times. (It is local because it counts its calls: in another process it may find another count.)
    assert_eq!(try_delayed_local(fetch, ()).retries(2).compute()?, 42);
    println!("retries:   fetched at the third attempt");

    // No longer than this. A worker process would be killed. A thread cannot be, so the task looks at its token.
    let error = delayed(endless, ()).name("endless").timeout(Duration::from_millis(50)).compute().unwrap_err();
    println!("timeout:   {error}");
    assert_eq!(error.kind(), ErrorKind::TimedOut);

    // The program itself has lost interest.
    let token = CancelToken::new();
    let remote = token.clone();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        remote.cancel();
    });
    let start = Instant::now();
    let error = token.scope(|| delayed(endless, ()).compute()).unwrap_err();
    println!("cancelled: {error}, after {:?}", start.elapsed());
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    canceller.join().expect("it does not panic");
    Ok(())
}
