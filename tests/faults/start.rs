//! Workers that do not reach their first task.

use crate::room::*;
use sprang::config::{Initializer, ProcessSettings, Stdio};
use sprang::{CancelToken, Error, ErrorKind, compute_with, config, delayed};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A run whose worker does not start fails soon and says why. So does the next run, as nothing has
/// changed.
fn does_not_start(what: &str, num_workers: usize, settings: ProcessSettings) -> Error {
    faults(what, num_workers, settings, |executor| {
        let run = || {
            let begin = Instant::now();
            let tasks: Vec<_> = (0..10_u32).map(|n| delayed(|n: u32| n, (n,))).collect();
            let error = compute_with(Arc::clone(executor), tasks).unwrap_err();
            assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
            assert_eq!((error.kind(), error.task()), (ErrorKind::NoWorker, None), "{error}");
            error
        };
        assert_eq!(run().to_string(), run().to_string());
        run()
    })
}

fn captured() -> ProcessSettings {
    let mut settings = attempts(3);
    settings.stdio = Stdio::Capture;
    settings
}

#[test]
fn a_folder_that_is_not_there() {
    let mut settings = attempts(3);
    settings.working_directory = Some("/not/there".into());
    let error = does_not_start("a_folder_that_is_not_there", 2, settings);
    assert!(error.to_string().contains("working_directory \"/not/there\""), "{error}");
    // The next run has other settings, so it has another executor, and works.
    let task = delayed(|| std::env::current_dir().unwrap(), ());
    let wrong =
        config::scoped("scheduler", "processes").unwrap().and("processes.working_directory", "/not/there").unwrap();
    assert_eq!(task.compute().unwrap_err().kind(), ErrorKind::NoWorker);
    drop(wrong);
    let _right = config::scoped("scheduler", "processes").unwrap().and("processes.working_directory", "/").unwrap();
    assert_eq!(task.compute().unwrap(), std::path::Path::new("/"));
}

fn refuses() -> Result<(), &'static str> {
    Err("there is no model")
}

fn panics() {
    panic!("there is no luck")
}

fn aborts() {
    std::process::abort()
}

fn exits() {
    std::process::exit(0)
}

fn sleeps() {
    hold()
}

#[test]
fn an_initializer_that_fails() {
    for num_threads in [1, 2] {
        let mut settings = attempts(3);
        settings.threads_per_worker = std::num::NonZeroUsize::new(num_threads).unwrap();
        settings.initializer = Some(Initializer::new(refuses));
        let error = does_not_start("an_initializer_that_fails", 2, settings);
        assert!(error.to_string().contains("the initializer failed: there is no model"), "{error}");
    }
}

#[test]
fn an_initializer_that_panics() {
    let mut settings = attempts(3);
    settings.initializer = Some(Initializer::new(panics));
    let error = does_not_start("an_initializer_that_panics", 2, settings);
    assert!(error.to_string().contains("the initializer failed: it panicked: there is no luck"), "{error}");
}

#[test]
fn an_initializer_that_ends_its_process() {
    let mut settings = captured();
    settings.initializer = Some(Initializer::new(aborts));
    let error = does_not_start("an_initializer_that_ends_its_process", 1, settings);
    assert!(error.to_string().contains("signal 6 (SIGABRT)"), "{error}");
    let mut settings = captured();
    settings.initializer = Some(Initializer::new(exits));
    let error = does_not_start("an_initializer_that_ends_its_process", 1, settings);
    assert!(error.to_string().contains("exited with status 0"), "{error}");
}

#[test]
fn an_initializer_that_takes_too_long() {
    let mut settings = attempts(3);
    settings.initializer = Some(Initializer::new(sleeps));
    settings.start_timeout = Duration::from_millis(150);
    let error = does_not_start("an_initializer_that_takes_too_long", 2, settings);
    assert!(error.to_string().contains("not ready in 150ms"), "{error}");
}

fn looks() -> Result<(), &'static str> {
    let is_broken = fs::exists(format!("{}/broken", room_of_worker())).unwrap();
    if is_broken { Err("broken for now") } else { Ok(()) }
}

#[test]
fn a_worker_that_did_not_start_is_started_again_by_the_next_run() {
    let room = Room::new();
    room.put("broken");
    let mut settings = attempts(3);
    settings.environment = room.environment();
    settings.initializer = Some(Initializer::new(looks));
    faults("what_did_not_start_is_tried_again", 2, settings, |executor| {
        let task = delayed(|| 5, ());
        for _ in 0..2 {
            let error = task.compute_with(Arc::clone(executor)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoWorker);
            assert!(error.to_string().contains("broken for now"), "{error}");
        }
        fs::remove_file(room.path("broken")).unwrap();
        assert_eq!(task.compute_with(Arc::clone(executor)).unwrap(), 5);
    });
}

fn fails_four_times() -> Result<(), String> {
    match note_attempt(&room_of_worker()) {
        attempt @ 0..4 => Err(format!("attempt {attempt}")),
        _ => Ok(()),
    }
}

#[test]
fn a_worker_that_starts_at_the_fifth_attempt_is_good() {
    let room = Room::new();
    let mut settings = attempts(1);
    settings.environment = room.environment();
    settings.initializer = Some(Initializer::new(fails_four_times));
    faults("a_worker_that_starts_at_the_fifth_attempt", 1, settings, |executor| {
        let pid = delayed(std::process::id, ()).compute_with(Arc::clone(executor)).unwrap();
        assert_eq!(pid, room.pid("attempt-4"));
    });
}

fn waits_for_go() {
    let room = room_of_worker();
    note_attempt(&room);
    wait_for(std::path::Path::new(&format!("{room}/go")));
}

#[test]
fn a_run_that_is_cancelled_while_its_worker_starts_ends() {
    let room = Room::new();
    let mut settings = attempts(1);
    settings.environment = room.environment();
    settings.initializer = Some(Initializer::new(waits_for_go));
    settings.cancel_grace = Duration::from_millis(50);
    faults("a_run_that_is_cancelled_while_its_worker_starts", 1, settings, |executor| {
        let token = CancelToken::new();
        let task = delayed(
            |room: String| -> u32 {
                put_number(&room, "began", 0);
                hold()
            },
            (room.name(),),
        );
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_for(&room.path("attempt-0"));
                token.cancel();
            });
            token.scope(|| task.compute_with(Arc::clone(executor)).unwrap_err())
        });
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        // The worker can be used.
        room.put("go");
        let pid = delayed(std::process::id, ()).compute_with(Arc::clone(executor)).unwrap();
        assert_eq!(pid, room.pid("attempt-0"));
        assert!(!room.path("began").exists());
    });
}

/// A run with other settings has other workers and does not wait either.
#[test]
fn a_worker_that_starts_for_nobody_keeps_nobody_waiting() {
    let room = Room::new();
    crate::watchdog::watched("a_worker_that_starts_for_nobody", || {
        let token = CancelToken::new();
        let waiting = config::scoped("scheduler", "processes")
            .unwrap()
            .and("num_workers", 1)
            .unwrap()
            .and("processes.environment", room.environment())
            .unwrap()
            .and("processes.initializer", Initializer::new(waits_for_go))
            .unwrap();
        let task = delayed(|| 5, ());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_for(&room.path("attempt-0"));
                token.cancel();
            });
            assert_eq!(token.scope(|| task.compute()).unwrap_err().kind(), ErrorKind::Cancelled);
        });
        drop(waiting);
        let _others =
            config::scoped("scheduler", "processes").unwrap().and("processes.environment", room.environment()).unwrap();
        // The initializer panics if it has to wait for long.
        assert_eq!(task.compute().unwrap(), 5);
        assert!(runs(room.pid("attempt-0")));
        room.put("go");
    });
}
