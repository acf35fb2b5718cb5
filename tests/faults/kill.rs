//! Workers that are killed from outside, at every point of their lives.

use crate::deeds::{At, Deed, Probe, at_exit};
use crate::room::*;
use rustix::process::Signal;
use sprang::config::{Initializer, ProcessSettings};
use sprang::{Delayed, ErrorKind, ProcessExecutor, compute_with, delayed};
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn pid(executor: &Arc<ProcessExecutor>) -> u32 {
    delayed(std::process::id, ()).compute_with(Arc::clone(executor)).unwrap()
}

#[test]
fn kill_idle() {
    faults("kill_idle", 1, attempts(1), |executor| {
        let first = pid(executor);
        send_signal(first, Signal::KILL);
        wait_until_gone(first);
        let second = pid(executor);
        assert_ne!(first, second);
        // Also if the slot has not noticed the end yet, and the task has one attempt only.
        let mut last = second;
        for _ in 0..20 {
            send_signal(last, Signal::KILL);
            let next = pid(executor);
            assert_ne!(last, next);
            last = next;
        }
    });
}

fn first_waits_to_be_killed() {
    hold_first(&room_of_worker());
}

#[test]
fn kill_starting() {
    let room = Room::new();
    let mut settings = attempts(1);
    settings.initializer = Some(Initializer::new(first_waits_to_be_killed));
    settings.environment = room.environment();
    faults("kill_starting", 1, settings, |executor| {
        thread::scope(|scope| {
            scope.spawn(|| send_signal(room.pid("attempt-0"), Signal::KILL));
            assert_eq!(pid(executor), room.pid("attempt-1"));
        });
    });
}

/// The first worker is killed at this point. The second one gets past it.
fn killed_at(at: At) {
    let room = Room::new();
    let mut settings = attempts(2);
    settings.stdio = sprang::config::Stdio::Inherit;
    faults(&format!("killed at {at:?}"), 1, settings, |executor| {
        let probe = match at {
            At::Encode => delayed(|home: u32, room: String| Probe::of(home, At::Encode, &Deed::HoldFirst(room)), {
                (std::process::id(), room.name())
            }),
            // The task borrows the value that the literal decodes to.
            _ => delayed(
                |probe: &Probe| {
                    probe.pass(At::Task);
                    Probe::of(probe.home, At::Task, &Deed::Nothing)
                },
                (sprang::lit(Probe::new(at, Deed::HoldFirst(room.name()))),),
            ),
        };
        thread::scope(|scope| {
            scope.spawn(|| send_signal(room.pid("attempt-0"), Signal::KILL));
            assert_eq!(probe.compute_with(Arc::clone(executor)).unwrap().home, std::process::id());
        });
        assert_ne!(room.pid("attempt-0"), room.pid("attempt-1"));
    });
}

#[test]
fn kill_decoding() {
    killed_at(At::Decode);
}

#[test]
fn kill_running() {
    killed_at(At::Task);
}

#[test]
fn kill_encoding() {
    killed_at(At::Encode);
}

/// Blocks this process, and not a worker, when it decodes the value with this number for the first
/// time.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(from = "(u32, u32, String, Vec<u8>)", into = "(u32, u32, String, Vec<u8>)")]
struct Turnstile(u32, u32, String, Vec<u8>);

impl From<(u32, u32, String, Vec<u8>)> for Turnstile {
    fn from((home, number, room, bytes): (u32, u32, String, Vec<u8>)) -> Self {
        if std::process::id() == home && number == 5 && put_number(&room, "decoding", 5) {
            wait_for(Path::new(&format!("{room}/go")));
        }
        Turnstile(home, number, room, bytes)
    }
}

impl From<Turnstile> for (u32, u32, String, Vec<u8>) {
    fn from(it: Turnstile) -> Self {
        (it.0, it.1, it.2, it.3)
    }
}

fn hold_once(room: String) {
    hold_first(&room);
}

#[test]
fn kill_replying() {
    let room = Room::new();
    faults("kill_replying", 1, attempts(2), |executor| {
        let large = |home: u32, number: u32, room: String| {
            put_number(&room, "worker", u64::from(std::process::id()));
            Turnstile(home, number, room, vec![number as u8; 100_000])
        };
        let home = std::process::id();
        let tasks: Vec<_> = (0..20_u32).map(|number| delayed(large, (home, number, room.name()))).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                // This process is busy with one value, so the worker cannot send the next.
                wait_for(&room.path("decoding"));
                let worker = room.pid("worker");
                let mut num_looks = 0;
                let is_sending = || {
                    let tasks = fs::read_dir(format!("/proc/{worker}/task")).unwrap();
                    let mut stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
                    let all_sleep = stats.all(|stat| stat.contains(") S "));
                    num_looks = if all_sleep { num_looks + 1 } else { 0 };
                    num_looks > 10
                };
                wait_until("the worker to wait", is_sending);
                send_signal(worker, Signal::KILL);
                wait_until_ended(worker);
                // The end of other workers is noticed all the same.
                let other = Room::new();
                let task = delayed(hold_once, (other.name(),));
                thread::scope(|scope| {
                    scope.spawn(|| send_signal(other.pid("attempt-0"), Signal::KILL));
                    task.compute_with(ProcessExecutor::with_settings(NonZeroUsize::MIN, attempts(2))).unwrap();
                });
                room.put("go");
            });
            let values = compute_with(Arc::clone(executor), tasks).unwrap();
            for (number, value) in values.into_iter().enumerate() {
                assert!(value.1 == number as u32 && value.3 == vec![number as u8; 100_000]);
            }
        });
    });
}

extern "C" fn linger() {
    note_attempt(&room_of_worker());
    hold();
}

#[test]
fn kill_shutting_down() {
    for is_killed in [true, false] {
        let room = Room::new();
        let mut settings = attempts(1);
        settings.environment = room.environment();
        let worker = faults("kill_shutting_down", 1, settings, |executor| {
            let task = delayed(
                || {
                    at_exit(linger);
                    std::process::id()
                },
                (),
            );
            let worker = task.compute_with(Arc::clone(executor)).unwrap();
            let room = room.path("attempt-0");
            thread::spawn(move || {
                wait_for(&room);
                if is_killed {
                    send_signal(worker, Signal::KILL);
                }
            });
            worker
        });
        assert_eq!(stat(worker), None);
        assert_eq!(room.pid("attempt-0"), worker);
    }
}

// ---- many kills ----

fn note_start() -> std::io::Result<()> {
    fs::write(format!("{}/{}", room_of_worker(), std::process::id()), "")
}

/// Kills a random worker of the room. Returns whether there was one.
fn strike(folder: &Path, dice: &mut Dice) -> bool {
    const SIGNALS: [Signal; 3] = [Signal::KILL, Signal::SEGV, Signal::ABORT];
    let signal = SIGNALS[dice.below(3)];
    let pids =
        fs::read_dir(folder).unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let mut pids: Vec<u32> = pids.collect();
    while !pids.is_empty() {
        let pid = pids.swap_remove(dice.below(pids.len()));
        if signal_child(pid, signal) {
            return true;
        }
        if stat(pid).is_none() {
            let _ = fs::remove_file(folder.join(pid.to_string()));
        }
    }
    false
}

fn grow(number: u64) -> u64 {
    number + 1
}

fn toil(number: u64) -> u64 {
    thread::sleep(Duration::from_millis(number % 8));
    2 * number
}

fn sum(left: &u64, right: &u64) -> u64 {
    left + right
}

/// A few thousand small tasks, some longer ones, and chains of them.
fn work() -> (Vec<Delayed<u64>>, Vec<u64>) {
    let mut tasks = Vec::new();
    let mut expected = Vec::new();
    for number in 0..600_u64 {
        let mut task = delayed(grow, (number,));
        for _ in 0..2 {
            task = delayed(|n: &u64| grow(*n), (&task,));
        }
        expected.push(number + 3);
        tasks.push(task);
        if number % 20 == 0 {
            tasks.push(delayed(sum, (&delayed(toil, (number,)), &tasks[tasks.len() - 1])));
            expected.push(2 * number + number + 3);
        }
    }
    (tasks, expected)
}

fn with_note_of_start(room: &Room, num_attempts: u32) -> ProcessSettings {
    let mut settings = attempts(num_attempts);
    settings.initializer = Some(Initializer::new(note_start));
    fs::create_dir(room.path("workers")).unwrap();
    settings.environment = [("FAULTS_ROOM".to_owned(), room.path("workers").to_str().unwrap().to_owned())].into();
    settings
}

fn count_maps() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:").count()
}

fn count_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn kill_1000_random() {
    const NUM_KILLS: usize = 1000;
    alone(|| {
        let shared = || fs::read_dir("/dev/shm").map_or(0, |entries| entries.count());
        // Threads and files that stay for the rest of the process.
        faults("before", 2, attempts(1), |executor| {
            pid(executor);
        });
        let (files, maps, shm) = (count_files(), count_maps(), shared());
        let room = Room::new();
        let folder = room.path("workers");
        let (tasks, expected) = work();
        let begin = Instant::now();
        let num_runs = faults("kill_1000_random", 3, with_note_of_start(&room, 10_000), |executor| {
            let num_kills = AtomicUsize::new(0);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut dice = Dice(17);
                    while num_kills.load(Ordering::Relaxed) < NUM_KILLS {
                        thread::sleep(Duration::from_micros(5_000 + 500 * dice.below(10) as u64));
                        num_kills.fetch_add(usize::from(strike(&folder, &mut dice)), Ordering::Relaxed);
                    }
                });
                let mut num_runs = 0;
                while num_kills.load(Ordering::Relaxed) < NUM_KILLS {
                    assert_eq!(compute_with(Arc::clone(executor), tasks.clone()).unwrap(), expected);
                    num_runs += 1;
                }
                num_runs
            })
        });
        say(&format!("measured: {NUM_KILLS} kills in {num_runs} runs took {:.1?}", begin.elapsed()));
        assert!(children().is_empty());
        // The monitor closes its handle a moment later.
        let is_as_before = || count_files() <= files && count_maps() <= maps && shared() <= shm;
        wait_until(&format!("{files} files, {maps} maps and {shm} names"), is_as_before);
    });
}

#[test]
fn kill_faster_than_spawn() {
    alone(|| {
        let room = Room::new();
        let (tasks, expected) = work();
        // Threads and files that stay for the rest of the process.
        faults("before", 2, attempts(1), |executor| {
            pid(executor);
        });
        let files = count_files();
        faults("kill_faster_than_spawn", 2, with_note_of_start(&room, 5), |executor| {
            let is_over = AtomicBool::new(false);
            let (num_right, num_wrong) = thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        // Any worker that has just started.
                        for child in children() {
                            signal_child(child, Signal::KILL);
                        }
                        thread::sleep(Duration::from_micros(200));
                    }
                });
                let begin = Instant::now();
                let (mut num_right, mut num_wrong) = (0, 0);
                while begin.elapsed() < Duration::from_secs(3) {
                    match compute_with(Arc::clone(executor), tasks.clone()) {
                        Ok(values) => {
                            assert_eq!(values, expected);
                            num_right += 1;
                        }
                        Err(error) => {
                            assert!(matches!(error.kind(), ErrorKind::WorkerDied | ErrorKind::NoWorker), "{error}");
                            assert!(error.to_string().contains("SIGKILL"), "{error}");
                            num_wrong += 1;
                        }
                    }
                }
                is_over.store(true, Ordering::Relaxed);
                (num_right, num_wrong)
            });
            say(&format!("measured: killed faster than started, {num_right} runs were right and {num_wrong} failed"));
            // Without kills it works at once.
            assert_eq!(compute_with(Arc::clone(executor), tasks.clone()).unwrap(), expected);
        });
        assert!(children().is_empty());
        wait_until(&format!("{files} files"), || count_files() <= files);
    });
}

// ---- how fast ----

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn a_killed_worker_is_noticed_and_replaced_at_once() {
    let (mut noticed, mut again) = (Vec::new(), Vec::new());
    for num_attempts in [1, 2] {
        faults("notice", 1, attempts(num_attempts), |executor| {
            for _ in 0..21 {
                let room = Room::new();
                let task = delayed(
                    |room: String| {
                        put_number(&room, "second", if room_has(&room, "attempt-0") { nanos_now() } else { 0 });
                        if note_attempt(&room) == 0 {
                            fs::remove_file(format!("{room}/second")).unwrap();
                            hold();
                        }
                    },
                    (room.name(),),
                );
                let (result, killed, killed_at) = thread::scope(|scope| {
                    let killer = scope.spawn(|| {
                        let worker = room.pid("attempt-0");
                        wait_until("the worker to settle", || !room.path("second").exists());
                        let killed = (Instant::now(), nanos_now());
                        send_signal(worker, Signal::KILL);
                        killed
                    });
                    let result = task.compute_with(Arc::clone(executor));
                    let end = Instant::now();
                    let (killed, killed_at) = killer.join().unwrap();
                    (result, end - killed, killed_at)
                });
                if num_attempts == 1 {
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::WorkerDied);
                    noticed.push(killed);
                } else {
                    result.unwrap();
                    again.push(Duration::from_nanos(room.number("second") - killed_at));
                }
            }
        });
    }
    let (noticed, again) = (median(noticed), median(again));
    say(&format!(
        "measured: a killed worker is noticed after {noticed:.2?}, its task runs again after {again:.2?} (medians)"
    ));
    assert!(noticed < Duration::from_secs(1) && again < Duration::from_secs(1));
}

fn room_has(room: &str, file: &str) -> bool {
    Path::new(&format!("{room}/{file}")).exists()
}
