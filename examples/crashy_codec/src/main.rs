//! A C decoder that crashes, hangs and eats memory on bad input, and a program that survives it.
//!
//! With `processes`, every task runs in a worker process. A bad input harms only the worker that
//! decodes it, and becomes the error of that input; all others are decoded. With `threads`, the
//! same graph crashes the program. A child process shows that.

mod inputs;
mod tiny;

use inputs::{Expected, Input};
use sprang::{Delayed, Error, ErrorKind, compute_each, config, delayed, lit, try_delayed};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, error, io, thread};
use tiny::Picture;

/// Decoding takes milliseconds. A decoder that takes this long never ends.
const TIMEOUT: Duration = Duration::from_secs(3);
const ON_THREADS: &str = "on-threads";

fn main() -> Result<ExitCode, Box<dyn error::Error>> {
    match env::args().nth(1).as_deref() {
        None => {
            in_processes()?;
            let status = on_threads_in_a_child()?;
            println!("\nthe same graph under \"threads\": the program ended with {status}");
            assert!(!status.success(), "a decoder that crashes takes its process down");
            Ok(ExitCode::SUCCESS)
        }
        Some(ON_THREADS) => {
            on_threads()?;
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => {
            eprintln!("unknown argument {other:?}; start it without arguments");
            Ok(ExitCode::from(2))
        }
    }
}

/// Two tasks for each input: decode it, and summarize the picture.
fn graph(inputs: &[Input]) -> Vec<(Delayed<Picture>, Delayed<f64>)> {
    let of_input = |input: &Input| {
        let picture = try_delayed(tiny::decode, (lit(input.file.clone()),)).name(&*input.name).timeout(TIMEOUT);
        let brightness = delayed(brightness, (&picture,));
        (picture, brightness)
    };
    inputs.iter().map(of_input).collect()
}

fn brightness(picture: &Picture) -> f64 {
    picture.pixels.iter().map(|grey| f64::from(*grey)).sum::<f64>() / picture.pixels.len() as f64
}

fn in_processes() -> Result<(), Error> {
    let inputs = inputs::all();
    let _scope = config::scoped("scheduler", "processes")?
        .and("processes.memory_limit", "64 MiB")?
        // An input that crashes the decoder once does so again.
        .and("processes.max_attempts", 1)?;
    let start = Instant::now();
    let outcomes = compute_each(&graph(&inputs))?;
    let wall_time = start.elapsed();

    println!("{:<24}{:<12}cause", "input", "outcome");
    for (input, (picture, brightness)) in inputs.iter().zip(&outcomes) {
        println!("{}", row(input, picture));
        check(input, picture, brightness);
    }
    let num_decoded = outcomes.iter().filter(|(picture, _)| picture.is_ok()).count();
    println!("{num_decoded} of {} decoded, in {:.1} s", inputs.len(), wall_time.as_secs_f64());
    Ok(())
}

fn row(input: &Input, outcome: &Result<Picture, Error>) -> String {
    let (word, cause) = match outcome {
        Ok(picture) => ("decoded", format!("{} x {}", picture.width, picture.height)),
        Err(error) => (word_for(error.kind()), error.message().to_owned()),
    };
    format!("{:<24}{word:<12}{cause}", input.name)
}

fn word_for(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Failed => "refused",
        ErrorKind::WorkerDied => "crashed",
        ErrorKind::TimedOut => "hung",
        ErrorKind::MemoryLimit => "overate",
        _ => "failed",
    }
}

/// Checks that every good input is decoded correctly, and that every bad one is reported by name
/// with the right error.
fn check(input: &Input, picture: &Result<Picture, Error>, brightness: &Result<f64, Error>) {
    match (&input.expected, picture) {
        (Expected::Picture(expected), Ok(picture)) => {
            assert_eq!(picture, expected, "{:?} was decoded wrong", input.name);
            assert_eq!(brightness.as_ref().ok(), Some(&self::brightness(expected)));
        }
        (Expected::Error(kind), Err(error)) => {
            assert_eq!(error.kind(), *kind, "{error}");
            assert_eq!(error.task(), Some(&*input.name));
            assert_eq!(brightness.as_ref().unwrap_err().kind(), *kind, "what needs it fails for the same reason");
            if *kind == ErrorKind::WorkerDied {
                let exit = error.exit().expect("a worker that died has left its exit");
                assert!(exit.signal.is_some(), "{exit}");
            }
        }
        (Expected::Picture(_), Err(error)) => panic!("{:?} is good, and {error}", input.name),
        (Expected::Error(kind), Ok(_)) => panic!("{:?} was decoded; {kind:?} was to be expected", input.name),
    }
}

/// The graph without the inputs that hang or eat memory: threads cannot be stopped.
fn on_threads() -> Result<(), Error> {
    let mut inputs = inputs::all();
    inputs.retain(|input| !matches!(input.expected, Expected::Error(ErrorKind::TimedOut | ErrorKind::MemoryLimit)));
    let _scope = config::scoped("scheduler", "threads")?;
    let outcomes = compute_each(&graph(&inputs))?;
    println!("{} outcomes: the decoder has been mended", outcomes.len());
    Ok(())
}

/// Runs [`on_threads`] in a child process, which is killed after a minute.
fn on_threads_in_a_child() -> io::Result<ExitStatus> {
    let mut child = Command::new(env::current_exe()?).arg(ON_THREADS).stdout(Stdio::null()).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(status),
            None if Instant::now() > deadline => child.kill()?,
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs that harm the process are left to the program's own worker processes.
    #[test]
    fn the_decoder_is_right_about_good_files_and_refuses_some_bad_ones() {
        let mut num_tried = 0;
        for input in inputs::all() {
            match &input.expected {
                Expected::Picture(picture) => assert_eq!(tiny::decode(&input.file).as_ref(), Ok(picture)),
                Expected::Error(ErrorKind::Failed) => assert!(tiny::decode(&input.file).is_err(), "{:?}", input.name),
                Expected::Error(_) => continue,
            }
            num_tried += 1;
        }
        assert_eq!(num_tried, 18);
    }
}
