//! Many random tasks, with failures and kills, compared with the expected values.

use crate::{of_processes, of_threads, on};
use sprang::{Client, Error, ErrorKind, TaskFuture};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// A generator of pseudorandom numbers, always the same ones.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn combine(a: &u64, b: &u64, salt: u64) -> Result<u64, String> {
    let value = a.wrapping_mul(31).wrapping_add(*b).wrapping_add(salt);
    if value.is_multiple_of(23) { Err(format!("unlucky {value}")) } else { Ok(value) }
}

/// As [`combine`], with the length of the message in place of a missing `b`.
fn combine_or_error(a: &u64, b: Result<&u64, &Error>, salt: u64) -> Result<u64, String> {
    let b = b.map_or_else(|error| error.message().len() as u64, |b| *b);
    combine(a, &b, salt)
}

/// Tasks that each need two earlier ones, or with `take_errors` perhaps the error of the second,
/// with the expected value or message of the first failure.
fn grow(client: &Client, seed: u64, num_tasks: u64, take_errors: bool) -> Vec<(TaskFuture<u64>, Result<u64, String>)> {
    let mut random = Random(seed);
    let mut tasks: Vec<(TaskFuture<u64>, Result<u64, String>)> =
        vec![(client.submit(|| 1_u64, ()), Ok(1)), (client.submit(|| 2_u64, ()), Ok(2))];
    for salt in 0..num_tasks {
        let [a, b]: [(TaskFuture<u64>, Result<u64, String>); 2] = [0; 2].map(|_| {
            // Mostly recent ones.
            let back = 1 + random.below(tasks.len() as u64).min(random.below(20));
            tasks[tasks.len() - back as usize].clone()
        });
        let takes_error = take_errors && random.below(3) == 0;
        let future = match takes_error {
            true => client.try_submit(combine_or_error, (&a.0, b.0.as_result(), salt)),
            false => client.try_submit(combine, (&a.0, &b.0, salt)),
        };
        let expected = match (a.1, b.1) {
            // Either of two failures came first, and this one reads which.
            (_, Err(message)) if takes_error && message.is_empty() => match future.result() {
                Ok(value) => Ok(value),
                Err(error) => Err(error.message().to_owned()),
            },
            (Ok(a), Err(message)) if takes_error => combine(&a, &(message.len() as u64), salt),
            (Err(message), _) if takes_error => Err(message),
            (Ok(a), Ok(b)) => combine(&a, &b, salt),
            (Err(_), Err(_)) => Err(String::new()),
            (Err(message), _) | (_, Err(message)) => Err(message),
        };
        tasks.push((future, expected));
    }
    tasks
}

fn check(tasks: &[(TaskFuture<u64>, Result<u64, String>)]) {
    for (future, expected) in tasks {
        match (future.result(), expected) {
            (Ok(value), Ok(expected)) => assert_eq!(value, *expected),
            // Either of two failures may come first.
            (Err(error), Err(expected)) => {
                assert_eq!(error.kind(), ErrorKind::Failed);
                assert!(expected.is_empty() || error.message() == expected, "{error}, expected {expected}");
            }
            (result, expected) => panic!("{result:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn random_growing_graphs_have_the_expected_values() {
    for seed in 1..=20 {
        for num_threads in [1, 2, 3] {
            on(&format!("seed {seed}"), of_threads(num_threads), |client| check(&grow(client, seed, 300, true)));
        }
    }
    for seed in 1..=3 {
        on(&format!("seed {seed}"), of_processes(2), |client| check(&grow(client, seed, 300, true)));
    }
}

#[test]
fn random_cancellation_leaves_no_future_unsettled() {
    for seed in 1..=20 {
        on(&format!("seed {seed}"), of_threads(2), |client| {
            // Without tasks that take errors, whose values depend on what was cancelled in time.
            let tasks = grow(client, seed, 300, false);
            let mut random = Random(seed + 1000);
            for _ in 0..50 {
                tasks[random.below(300) as usize].0.cancel();
            }
            for (future, expected) in &tasks {
                match (future.result(), expected) {
                    (Ok(value), Ok(expected)) => assert_eq!(value, *expected),
                    (Err(error), _) => {
                        assert!(matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Failed), "{error}")
                    }
                    (Ok(value), Err(_)) => panic!("{value} from what fails"),
                }
            }
            assert_eq!(client.num_pending(), 0);
        });
    }
}

const NUM_KILLS: u32 = 1000;

#[test]
fn killed_workers_lose_no_result() {
    let mut settings = sprang::config::ProcessSettings::default();
    settings.max_attempts = std::num::NonZeroU32::new(100).unwrap();
    settings.stdio = sprang::config::Stdio::Null;
    on("killed_workers_lose_no_result", of_processes(2).process_settings(settings), |client| {
        let (num_kills, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random(7);
                while !is_over.load(Ordering::Relaxed) && num_kills.load(Ordering::Relaxed) < NUM_KILLS {
                    let workers = client.workers();
                    let worker = &workers[random.below(workers.len() as u64) as usize];
                    if let Some(pid) = worker.pid.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
                        let signals = [
                            rustix::process::Signal::KILL,
                            rustix::process::Signal::SEGV,
                            rustix::process::Signal::ABORT,
                        ];
                        // It may have ended already.
                        let sent = rustix::process::kill_process(pid, signals[random.below(3) as usize]);
                        num_kills.fetch_add(u32::from(sent.is_ok()), Ordering::Relaxed);
                    }
                    std::thread::sleep(Duration::from_millis(4 + random.below(8)));
                }
                is_over.store(true, Ordering::Relaxed);
            });
            let mut held: Vec<TaskFuture<Vec<u64>>> = Vec::new();
            let mut round = 0;
            while !is_over.load(Ordering::Relaxed) {
                round += 1;
                let new = client.map(
                    |x: u64| {
                        std::thread::sleep(Duration::from_micros(200));
                        vec![x; 1000]
                    },
                    round..round + 20,
                );
                let lens: Vec<_> =
                    new.iter().map(|v| client.submit(|v: &Vec<u64>| v[999] + v.len() as u64, (v,))).collect();
                for (x, len) in (round..).zip(client.gather(&lens).unwrap()) {
                    assert_eq!(len, x + 1000);
                }
                held.extend(new.into_iter().take(1));
                if round % 50 == 0 {
                    // No held value is lost.
                    assert!(held.iter().enumerate().all(|(i, v)| v.result_ref().unwrap()[0] == i as u64 + 1));
                }
                if num_kills.load(Ordering::Relaxed) == NUM_KILLS {
                    is_over.store(true, Ordering::Relaxed);
                }
            }
        });
        assert!(num_kills.load(Ordering::Relaxed) == NUM_KILLS);
    });
}
