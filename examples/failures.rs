//! Failing tasks, and the errors that the program receives.

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

/// The counter is a static of this process, so the task must be local.
fn note_the_call() -> u32 {
    CALLS_NOTED.fetch_add(1, Relaxed)
}

/// Runs until its run is cancelled or it times out.
fn endless() -> u64 {
    let token = CancelToken::current();
    (0..).find(|_| token.is_cancelled()).expect("there is always a next number")
}

fn main() -> sprang::Result<()> {
    // An `Err` fails the task and its dependents. The error names both and keeps the cause.
    let port = try_delayed(parse, ("http",)).name("port");
    let next = delayed(|port| port + 1, (port,)).name("next");
    let error = next.compute().unwrap_err();
    println!("an error:  {error}");
    assert_eq!((error.kind(), error.task()), (ErrorKind::Failed, Some("port")));
    // On threads the cause is the `ParseIntError` itself; a worker process sends its text.
    assert_eq!(error.source().map(|cause| cause.to_string()).as_deref(), Some("invalid digit found in string"));

    // A panic does the same. (Rust also prints it to stderr, like every panic.)
    let ratio = delayed(|a: i64, b: i64| a / b, (1_i64, 0_i64)).name("ratio");
    let error = ratio.compute().unwrap_err();
    println!("a panic:   {error}");
    assert_eq!(error.kind(), ErrorKind::Panicked);

    // `compute_each` returns a `Result` for each output; tasks that do not depend on a failure
    // finish.
    let numbers: Vec<Delayed<i64>> = ["7", "x", "9"].map(|text| try_delayed(parse, (text,))).into();
    let results = compute_each(&numbers)?;
    for (i, result) in results.iter().enumerate() {
        match result {
            Ok(number) => println!("each:      {i}: {number}"),
            Err(error) => println!("each:      {i}: {error}"),
        }
    }
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);

    // `compute` stops at the first failure, unless `errors` is set to "collect".
    let outputs = (&numbers[1], &delayed_local(note_the_call, ()));
    let error = config::with("errors", "collect", || compute(outputs))?.unwrap_err();
    println!("collect:   {error}; the other output was computed too");
    assert_eq!(CALLS_NOTED.load(Relaxed), 1);

    // Retries. (The task is local because it counts its calls: another process has another
    // counter.)
    assert_eq!(try_delayed_local(fetch, ()).retries(2).compute()?, 42);
    println!("retries:   fetched at the third attempt");

    // A timeout. A worker process would be killed. A thread cannot be, so the task polls its token.
    let error = delayed(endless, ()).name("endless").timeout(Duration::from_millis(50)).compute().unwrap_err();
    println!("timeout:   {error}");
    assert_eq!(error.kind(), ErrorKind::TimedOut);

    // The program cancels the run.
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
