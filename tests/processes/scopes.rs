//! The surroundings of a task: its run's configuration, its token, and the order of tasks.

use crate::watchdog::watched;
use crate::{new_pool, on_processes, pool};
use sprang::{
    CancelToken, Delayed, ErrorKind, Refs, compute, compute_with, config, delayed, delayed_local, try_delayed,
};
use std::io::Write;
use std::sync::Arc;
use std::{fs, process, thread};

fn setting(key: &'static str) -> Delayed<String> {
    delayed(|key: &str| config::get(key).unwrap(), (key,))
}

#[test]
fn a_task_sees_the_configuration_of_its_run() {
    watched("a scope in a worker", || {
        let seen = || setting("num_workers").compute_with(pool()).unwrap();
        let outside = seen();
        let inside = config::with("num_workers", 13, || {
            let inner = config::with("num_workers", 14, seen).unwrap();
            (seen(), inner)
        });
        assert_eq!(inside.unwrap(), ("13".to_owned(), "14".to_owned()));
        assert_eq!(seen(), outside);
        let explained = config::with("num_workers", 15, || {
            delayed(|| config::explain("num_workers").unwrap().to_string(), ()).compute_with(pool()).unwrap()
        });
        assert!(explained.unwrap().contains("scopes.rs"));
    });
}

#[test]
fn runs_with_different_scopes_do_not_mix() {
    watched("runs with different scopes", || {
        thread::scope(|scope| {
            for number in [3_usize, 7, 11] {
                scope.spawn(move || {
                    config::with("num_workers", number, || {
                        for _ in 0..30 {
                            let seen: Vec<_> = (0..20).map(|_| setting("num_workers")).collect();
                            assert_eq!(compute_with(pool(), &seen).unwrap(), vec![number.to_string(); 20]);
                        }
                    })
                    .unwrap();
                });
            }
        });
    });
}

/// The sum of the numbers below.
fn nested(below: u64) -> Delayed<u64> {
    let parts: Vec<_> = (0..below).map(|i| delayed(|i: u64| i, (i,))).collect();
    delayed(|parts: Refs<'_, u64>| parts.iter().sum(), (&parts,))
}

#[test]
fn a_task_in_a_worker_computes_graphs_of_its_own() {
    watched("nested computes in workers", || {
        for name in [None, Some("threads"), Some("processes"), Some("sync")] {
            let task = |name: Option<String>, below: u64| {
                let here = process::id();
                let pid = delayed(process::id, ());
                let inner = match name {
                    Some(name) => compute_with(&name, (&nested(below), &pid)),
                    None => compute((&nested(below), &pid)),
                };
                let (sum, pid) = inner.unwrap();
                assert_eq!(pid, here);
                sum
            };
            let tasks: Vec<_> = (0..20_u64).map(|i| delayed(task, (name.map(str::to_owned), i))).collect();
            let sums: Vec<u64> = (0..20_u64).map(|i| (0..i).sum()).collect();
            assert_eq!(compute_with(pool(), &tasks).unwrap(), sums, "{name:?}");
            assert_eq!(on_processes(2, &[], || compute(&tasks)).unwrap(), sums, "{name:?} by name");
        }
    });
}

#[test]
fn a_local_task_computes_on_the_workers_three_levels_deep() {
    fn level(depth: u32) -> Delayed<u64> {
        if depth == 0 {
            return delayed(|here: u32| u64::from(process::id() != here) * 10, (process::id(),));
        }
        // More tasks at once than workers.
        let parts: Vec<_> = (0..3).map(|_| delayed_local(move || level(depth - 1).compute().unwrap(), ())).collect();
        delayed(|parts: Refs<'_, u64>| parts.iter().sum(), (&parts,))
    }
    watched("nested computes in local tasks", || {
        for num_workers in [1, 2] {
            assert_eq!(level(3).compute_with(new_pool(num_workers)).unwrap(), 270);
            assert_eq!(on_processes(num_workers, &[], || level(3).compute()).unwrap(), 270);
        }
    });
}

#[test]
fn the_token_of_a_task_is_pulled_when_its_run_is_cancelled() {
    watched("a token in a worker", || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let waits = |path: String| {
            assert!(!CancelToken::current().is_cancelled());
            fs::write(format!("{path}/started"), "").unwrap();
            while !CancelToken::current().is_cancelled() {
                thread::yield_now();
            }
            fs::write(format!("{path}/told"), "").unwrap();
        };
        let task = delayed(waits, (path,));
        let token = CancelToken::new();
        thread::scope(|scope| {
            let run = scope.spawn(|| token.scope(|| task.compute_with(pool())));
            crate::eventually("the task runs", || fs::exists(folder.path().join("started")).unwrap());
            token.cancel();
            assert_eq!(run.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        });
        assert!(fs::exists(folder.path().join("told")).unwrap());
        assert_eq!(nested(5).compute_with(pool()).unwrap(), 10, "the next run is not cancelled");
    });
}

/// Adds a line to a file.
fn note(path: String, word: String) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{word}\n").as_bytes()).unwrap();
}

fn notes(path: &str) -> Vec<String> {
    let notes = fs::read_to_string(path).unwrap();
    fs::remove_file(path).unwrap();
    notes.lines().map(str::to_owned).collect()
}

#[test]
fn tasks_are_run_after_others_and_by_priority() {
    watched("order", || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log").to_str().unwrap().to_owned();
        let noting = |word: String| delayed(note, (path.clone(), word));
        let first: Vec<_> = (0..10).map(|i| noting(format!("a{i}"))).collect();
        let mut middle = noting("middle".to_owned());
        for task in &first {
            middle = middle.after(task);
        }
        let last: Vec<_> = (0..10).map(|i| noting(format!("b{i}")).after(&middle)).collect();
        for _ in 0..10 {
            compute_with(pool(), &last).unwrap();
            let notes = notes(&path);
            assert_eq!(notes.len(), 21);
            assert!(notes[..10].iter().all(|note| note.starts_with('a')), "{notes:?}");
            assert_eq!(notes[10], "middle");
        }
        let one = new_pool(1);
        let tasks: Vec<_> = (0..20).map(|i| noting(format!("{i}")).priority((i * 7) % 20)).collect();
        compute_with(Arc::clone(&one), &tasks).unwrap();
        let priorities: Vec<i32> = notes(&path).iter().map(|note| (note.parse::<i32>().unwrap() * 7) % 20).collect();
        assert_eq!(priorities, (0..20).rev().collect::<Vec<_>>());
    });
}

#[test]
fn an_error_that_a_task_returns_arrives_with_its_sources() {
    watched("an error from a worker", || {
        let read = |path: String| fs::read_to_string(path);
        let task = try_delayed(read, ("/nowhere/at/all".to_owned(),)).name("read");
        let error = task.compute_with(pool()).unwrap_err();
        assert_eq!((error.kind(), error.task()), (ErrorKind::Failed, Some("read")));
        assert!(error.to_string().contains("No such file"), "{error}");
    });
}
