//! Which task is charged with a death, and which tasks a death affects.

use crate::room::*;
use sprang::{Delayed, ErrorKind, ProcessExecutor, compute_each, compute_with, config, delayed, try_delayed};
use std::sync::Arc;
use std::time::Duration;

fn pid(executor: &Arc<ProcessExecutor>) -> u32 {
    delayed(std::process::id, ()).compute_with(Arc::clone(executor)).unwrap()
}

fn deadly(number: u64) -> u64 {
    if number == 7777 {
        std::process::abort();
    }
    number + 1
}

#[test]
fn a_task_that_kills_every_worker_is_given_up() {
    let room = Room::new();
    faults("a_task_that_kills_every_worker_is_given_up", 2, attempts(4), |executor| {
        let task = delayed(
            |room: String| -> u32 {
                note_attempt(&room);
                std::process::abort()
            },
            (room.name(),),
        );
        let error = task.name("killer").compute_with(Arc::clone(executor)).unwrap_err();
        assert_eq!((error.kind(), error.task(), error.attempts()), (ErrorKind::WorkerDied, Some("killer"), 4));
        assert!(error.message().contains("kills its worker"), "{error}");
        assert_eq!(error.exit().unwrap().signal, Some(libc::SIGABRT));
        assert!(room.path("attempt-3").exists() && !room.path("attempt-4").exists());
        pid(executor);
    });
}

#[test]
fn one_of_ten_thousand_kills_its_worker_and_the_others_are_not_charged() {
    for num_attempts in [1, 3] {
        faults("one_of_ten_thousand_kills_its_worker", 2, attempts(num_attempts), |executor| {
            let tasks: Vec<_> = (0..10_000_u64).map(|number| delayed(deadly, (number,))).collect();
            let _scope = config::scoped("scheduler", Arc::clone(executor)).unwrap();
            let outcomes = compute_each(tasks).unwrap();
            for (number, outcome) in outcomes.into_iter().enumerate() {
                match outcome {
                    Ok(value) => assert_eq!(value, number as u64 + 1),
                    Err(error) => {
                        assert_eq!(number, 7777, "{error}");
                        assert_eq!((error.kind(), error.attempts()), (ErrorKind::WorkerDied, num_attempts));
                    }
                }
            }
        });
    }
}

/// The same with tasks that depend on each other, so that many values are only read in their batch.
#[test]
fn a_death_in_the_middle_of_chains_loses_nothing() {
    let room = Room::new();
    faults("a_death_in_the_middle_of_chains_loses_nothing", 2, attempts(3), |executor| {
        let step = |n: u64, room: String| {
            // A few tasks die once each.
            if n % 97 == 13 && put_number(&room, &format!("died-{n}"), n) {
                std::process::abort();
            }
            n + 1
        };
        let mut ends = Vec::new();
        for number in 0..200_u64 {
            let mut chain = delayed(step, (1000 * number, room.name()));
            for _ in 0..20 {
                chain = delayed(step, (chain, room.name()));
            }
            ends.push(chain);
        }
        let values = compute_with(Arc::clone(executor), ends).unwrap();
        assert!(values.into_iter().enumerate().all(|(number, value)| value == 1000 * number as u64 + 21));
    });
}

#[test]
fn a_retry_in_the_middle_of_chains_finds_its_inputs() {
    let room = Room::new();
    for num_workers in [1, 2] {
        faults("a_retry_in_the_middle_of_chains_finds_its_inputs", num_workers, attempts(1), |executor| {
            let step = |text: &String, room: String| {
                let n: u64 = text.parse().unwrap();
                if n % 7 == 3 && put_number(&room, &format!("failed-{n}-{}", std::process::id()), n) {
                    return Err("once");
                }
                Ok((n + 1).to_string())
            };
            let mut ends = Vec::new();
            for number in 0..40_u64 {
                let mut chain = delayed(|n: u64| n.to_string(), (1000 * number,));
                for _ in 0..20 {
                    chain = try_delayed(step, (&chain, room.name())).retries(num_workers as u32);
                }
                ends.push(chain);
            }
            let values = compute_with(Arc::clone(executor), ends).unwrap();
            assert!(values.into_iter().enumerate().all(|(number, value)| value == (1000 * number + 20).to_string()));
        });
    }
}

#[test]
fn collected_errors_and_deaths() {
    faults("collected_errors_and_deaths", 2, attempts(2), |executor| {
        let number = |n: u64| match n % 4 {
            0 => std::process::abort(),
            1 => panic!("one"),
            2 => std::process::exit(0),
            _ => n,
        };
        let tasks: Vec<_> = (0..40_u64).map(|n| delayed(number, (n,))).collect();
        let double: Vec<_> = tasks.iter().map(|task| delayed(|n: &u64| 2 * n, (task,))).collect();
        let _scope = config::scoped("scheduler", Arc::clone(executor)).unwrap().and("errors", "collect").unwrap();
        for (n, outcome) in compute_each(double).unwrap().into_iter().enumerate() {
            match (n % 4, outcome) {
                (3, Ok(value)) => assert_eq!(value, 2 * n as u64),
                (1, Err(error)) => assert_eq!((error.kind(), error.attempts()), (ErrorKind::Panicked, 1)),
                (0 | 2, Err(error)) => assert_eq!((error.kind(), error.attempts()), (ErrorKind::WorkerDied, 2)),
                (_, outcome) => panic!("{n}: {outcome:?}"),
            }
        }
    });
}

#[test]
fn the_dependents_of_a_task_that_died_fail_with_its_cause() {
    faults("the_dependents_of_a_task_that_died_fail_with_its_cause", 2, attempts(2), |executor| {
        let dead = delayed(|| -> u32 { std::process::abort() }, ()).name("dead");
        let middle = delayed(|n: &u32| n + 1, (&dead,)).name("middle");
        let end = delayed(|n: &u32| n + 1, (&middle,)).name("end");
        let later = delayed(|| 3, ()).after(&dead).name("later");
        let _scope = config::scoped("scheduler", Arc::clone(executor)).unwrap();
        let (end, later, alone) = compute_each((end, later, delayed(|| 4, ()))).unwrap();
        let end = end.unwrap_err();
        assert_eq!((end.kind(), end.task()), (ErrorKind::WorkerDied, Some("dead")));
        assert_eq!(end.path().collect::<Vec<_>>(), ["dead", "middle", "end"]);
        assert_eq!(end.exit().unwrap().signal, Some(libc::SIGABRT));
        let later = later.unwrap_err();
        assert_eq!((later.kind(), later.task()), (ErrorKind::WorkerDied, Some("dead")));
        assert_eq!(alone.unwrap(), 4);
    });
}

/// Dies or fails once for each letter of the word, and then returns how often it was tried.
fn by_turns(room: String, word: &'static str) -> Result<u32, String> {
    let attempt = note_attempt(&room);
    match word.as_bytes().get(attempt as usize) {
        Some(b'd') => std::process::abort(),
        Some(b'f') => Err(format!("attempt {attempt}")),
        _ => Ok(attempt),
    }
}

#[test]
fn retries_count_failures_and_attempts_count_deaths() {
    faults("retries_count_failures_and_attempts_count_deaths", 1, attempts(3), |executor| {
        let tried = |word: &'static str, retries: u32| {
            let room = Room::new();
            try_delayed(by_turns, (room.name(), word)).retries(retries).compute_with(Arc::clone(executor))
        };
        // Two deaths are free, two failures are retried, in any order.
        for word in ["", "d", "dd", "ff", "fdfd", "ddff", "dffd"] {
            assert_eq!(tried(word, 2).unwrap(), word.len() as u32, "{word}");
        }
        let death = |word, retries| {
            let error = tried(word, retries).unwrap_err();
            (error.kind(), error.attempts())
        };
        assert_eq!(death("f", 0), (ErrorKind::Failed, 1));
        assert_eq!(death("df", 0), (ErrorKind::Failed, 2));
        assert_eq!(death("dfdff", 2), (ErrorKind::Failed, 5));
        assert_eq!(death("ddd", 9), (ErrorKind::WorkerDied, 3));
        assert_eq!(death("dfdfd", 2), (ErrorKind::WorkerDied, 5));
    });
}

/// Dies, hangs or fails once for each letter of the word.
fn dies_or_hangs(room: String, word: &'static str) -> Result<u32, String> {
    let attempt = note_attempt(&room);
    match word.as_bytes().get(attempt as usize) {
        Some(b'd') => std::process::abort(),
        Some(b'h') => loop {
            std::thread::park();
        },
        _ => Err(format!("attempt {attempt}")),
    }
}

#[test]
fn an_error_says_which_attempts_were_deaths_and_which_ran_out_of_time() {
    faults("an_error_says_which_attempts_were_deaths_and_which_ran_out_of_time", 1, attempts(3), |executor| {
        let tried = |word: &'static str| {
            let room = Room::new();
            let task = try_delayed(dies_or_hangs, (room.name(), word)).name("sweep").retries(1);
            task.timeout(Duration::from_millis(300)).compute_with(Arc::clone(executor)).unwrap_err()
        };
        let error = tried("hdh");
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::TimedOut, 3));
        assert_eq!(error.attempt_kinds(), [ErrorKind::TimedOut, ErrorKind::WorkerDied, ErrorKind::TimedOut]);
        assert_eq!(
            error.to_string(),
            "task \"sweep\" timed out: it did not end within 300ms, after 3 attempts (1 and 3 timed out; 2 lost its worker)"
        );
        let error = tried("ddhf");
        assert!(
            error.to_string().ends_with("after 4 attempts (1 and 2 lost its worker; 3 timed out; 4 failed)"),
            "{error}"
        );
        assert!(tried("hh").to_string().ends_with("within 300ms, after 2 attempts"));
    });
}

#[test]
fn a_task_ordered_after_one_that_dies_runs_after_its_last_attempt() {
    let room = Room::new();
    faults("what_comes_after_a_task_that_dies", 2, attempts(3), |executor| {
        let shaky = try_delayed(by_turns, (room.name(), "dd"));
        let later: Vec<Delayed<bool>> = (0..20)
            .map(|n| {
                let task =
                    delayed(|room: String| std::path::Path::new(&format!("{room}/attempt-2")).exists(), (room.name(),));
                task.after(&shaky).priority(n)
            })
            .collect();
        assert!(compute_with(Arc::clone(executor), later).unwrap().into_iter().all(|it| it));
    });
}

#[test]
fn a_task_that_died_keeps_its_priority() {
    let room = Room::new();
    let order = Room::new();
    faults("a_task_that_died_keeps_its_priority", 1, attempts(3), |executor| {
        let note = |order: String, number: u32| {
            (0..).find(|turn| put_number(&order, &format!("turn-{turn}"), u64::from(number))).unwrap()
        };
        let first = try_delayed(
            |room: String, word: &'static str, order: String| {
                by_turns(room, word)?;
                Ok::<u32, String>((0..).find(|turn| put_number(&order, &format!("turn-{turn}"), 100)).unwrap())
            },
            (room.name(), "dd", order.name()),
        );
        let others: Vec<_> = (0..50_u32).map(|n| delayed(note, (order.name(), n))).collect();
        let (turn, _) = compute_with(Arc::clone(executor), (first.priority(9), others)).unwrap();
        assert_eq!(turn, 0);
    });
}
