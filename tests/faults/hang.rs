//! Tasks that do not end, and workers that are stopped.

use crate::room::*;
use rustix::process::Signal;
use sprang::{CancelToken, ErrorKind, compute_with, config, delayed, try_delayed};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(100);

fn always_holds(room: String) -> u32 {
    note_attempt(&room);
    hold()
}

fn holds_first(room: String) -> u32 {
    hold_first(&room);
    std::process::id()
}

#[test]
fn a_task_that_hangs_times_out() {
    let room = Room::new();
    faults("a_task_that_hangs_times_out", 1, attempts(1), |executor| {
        let begin = Instant::now();
        let task = delayed(always_holds, (room.name(),)).name("stuck").timeout(SHORT).retries(2);
        let error = task.compute_with(Arc::clone(executor)).unwrap_err();
        assert_eq!((error.kind(), error.task(), error.attempts()), (ErrorKind::TimedOut, Some("stuck"), 3), "{error}");
        assert!(begin.elapsed() >= 3 * SHORT, "{:?}", begin.elapsed());
        let pids: Vec<u32> = (0..3).map(|n| room.pid(&format!("attempt-{n}"))).collect();
        assert!(pids[0] != pids[1] && pids[1] != pids[2]);
        pids.into_iter().for_each(wait_until_gone);
        assert!(!room.path("attempt-3").exists());
        assert!(delayed(std::process::id, ()).compute_with(Arc::clone(executor)).is_ok());
    });
}

#[test]
fn a_task_that_hangs_once_is_tried_again() {
    let room = Room::new();
    faults("a_task_that_hangs_once_is_tried_again", 2, attempts(1), |executor| {
        let task = delayed(holds_first, (room.name(),)).timeout(SHORT).retries(MANY);
        assert!(is_of_a_later_attempt(task.compute_with(Arc::clone(executor)).unwrap(), &room));
    });
}

/// For tasks that hang at the first attempt. The others must end within the timeout, which a busy
/// machine does not always manage.
const MANY: u32 = 20;

fn is_of_a_later_attempt(pid: u32, room: &Room) -> bool {
    let later = (1..).map(|n| format!("attempt-{n}")).take_while(|file| room.path(file).exists());
    room.pid("attempt-0") != pid && later.into_iter().any(|file| room.pid(&file) == pid)
}

#[test]
fn a_stopped_worker_times_out() {
    let room = Room::new();
    faults("a_stopped_worker_times_out", 1, attempts(1), |executor| {
        thread::scope(|scope| {
            scope.spawn(|| stop(room.pid("attempt-0")));
            let task = delayed(holds_first, (room.name(),)).timeout(Duration::from_millis(300)).retries(MANY);
            assert!(is_of_a_later_attempt(task.compute_with(Arc::clone(executor)).unwrap(), &room));
        });
        wait_until_gone(room.pid("attempt-0"));
    });
}

type Eighth<'a> = &'a Vec<u8>;

#[expect(clippy::too_many_arguments, reason = "so that together they are large")]
fn lengths(a: Eighth, b: Eighth, c: Eighth, d: Eighth, e: Eighth, f: Eighth, g: Eighth, h: Eighth) -> usize {
    [a, b, c, d, e, f, g, h].iter().map(|bytes| bytes.len()).sum()
}

/// More bytes than fit between the processes, so that the sender blocks.
#[test]
fn a_worker_that_was_stopped_while_idle_times_out_also_before_it_has_the_whole_message() {
    faults("a_worker_that_was_stopped_while_idle", 1, attempts(1), |executor| {
        let pid = || delayed(std::process::id, ()).compute_with(Arc::clone(executor)).unwrap();
        for len in [10, 200_000] {
            let before = pid();
            stop(before);
            let bytes = || sprang::lit(vec![1_u8; len]);
            let task = delayed(lengths, (bytes(), bytes(), bytes(), bytes(), bytes(), bytes(), bytes(), bytes()));
            let task = task.timeout(Duration::from_millis(700)).retries(MANY);
            assert_eq!(task.compute_with(Arc::clone(executor)).unwrap(), 8 * len);
            wait_until_gone(before);
        }
        // A run can be cancelled all the same.
        let before = pid();
        stop(before);
        let token = CancelToken::new();
        let error = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(SHORT);
                token.cancel();
            });
            let bytes = || sprang::lit(vec![1_u8; 200_000]);
            let task = delayed(lengths, (bytes(), bytes(), bytes(), bytes(), bytes(), bytes(), bytes(), bytes()));
            token.scope(|| task.compute_with(Arc::clone(executor))).unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        wait_until_gone(before);
    });
}

#[test]
fn a_stopped_worker_does_not_block_the_others() {
    let room = Room::new();
    faults("a_stopped_worker_does_not_block_the_others", 2, attempts(3), |executor| {
        let held = delayed(wait_for_go, (room.name(),));
        let begin = Instant::now();
        let marker = held_marker(&room);
        let others: Vec<_> = (0..2000_u64).map(|n| delayed(|n: u64| 3 * n, (n,)).after(&marker)).collect();
        let last = delayed(
            |room: String, values: sprang::Refs<'_, u64>| {
                put_number(&room, "others", 1);
                values.iter().sum::<u64>()
            },
            (room.name(), &others),
        );
        let stopped = thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let worker = room.pid("attempt-0");
                stop(worker);
                // All other tasks run while the worker is stopped.
                room.number("others");
                assert!(runs(worker));
                room.put("go");
                send_signal(worker, Signal::CONT);
                worker
            });
            let (sum, by) = compute_with(Arc::clone(executor), (last, held)).unwrap();
            assert_eq!(sum, 3 * 1999 * 1000);
            let stopped = watch.join().unwrap();
            assert_eq!(by, stopped);
            stopped
        });
        assert!(runs(stopped) && begin.elapsed() < PATIENCE);
    });
}

/// Ends when the first attempt in the room has begun.
fn held_marker(room: &Room) -> sprang::Delayed<()> {
    delayed(|room: String| wait_for(std::path::Path::new(&format!("{room}/attempt-0"))), (room.name(),))
}

#[test]
fn a_cancelled_run_ends_though_its_tasks_hang() {
    let rooms = [Room::new(), Room::new()];
    let mut settings = attempts(3);
    settings.cancel_grace = SHORT;
    faults("a_cancelled_run_ends_though_its_tasks_hang", 2, settings, |executor| {
        let token = CancelToken::new();
        let tasks: Vec<_> = rooms.iter().map(|room| delayed(always_holds, (room.name(),))).collect();
        let (error, time) = thread::scope(|scope| {
            let cancel = scope.spawn(|| {
                rooms.iter().for_each(|room| wait_for(&room.path("attempt-0")));
                let start = Instant::now();
                token.cancel();
                start
            });
            let error = token.scope(|| compute_with(Arc::clone(executor), tasks)).unwrap_err();
            (error, cancel.join().unwrap().elapsed())
        });
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!((SHORT..Duration::from_secs(5)).contains(&time), "{time:?}");
        rooms.iter().for_each(|room| wait_until_gone(room.pid("attempt-0")));
        assert!(rooms.iter().all(|room| !room.path("attempt-1").exists()));
        assert!(delayed(std::process::id, ()).compute_with(Arc::clone(executor)).is_ok());
    });
}

#[test]
fn a_task_that_looks_at_its_token_keeps_its_worker_when_the_run_is_cancelled() {
    let room = Room::new();
    faults("a_task_that_looks_at_its_token", 1, attempts(1), |executor| {
        let task = delayed(
            |room: String| {
                note_attempt(&room);
                wait_until("the token to be pulled", || CancelToken::current().is_cancelled());
            },
            (room.name(),),
        );
        let token = CancelToken::new();
        let error = thread::scope(|scope| {
            scope.spawn(|| {
                wait_for(&room.path("attempt-0"));
                token.cancel();
            });
            token.scope(|| task.compute_with(Arc::clone(executor))).unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        let pid = delayed(std::process::id, ()).compute_with(Arc::clone(executor)).unwrap();
        assert_eq!(pid, room.pid("attempt-0"));
    });
}

#[test]
fn a_failure_stops_a_run_whose_other_task_hangs() {
    let room = Room::new();
    let mut settings = attempts(3);
    settings.cancel_grace = SHORT;
    faults("a_failure_stops_a_run_whose_other_task_hangs", 2, settings, |executor| {
        let stuck = delayed(always_holds, (room.name(),));
        let bad = try_delayed(
            |room: String| {
                wait_for(std::path::Path::new(&format!("{room}/attempt-0")));
                Err::<u32, _>("no good")
            },
            (room.name(),),
        );
        let error = compute_with(Arc::clone(executor), (stuck, bad.name("bad"))).unwrap_err();
        assert_eq!((error.kind(), error.task(), error.message()), (ErrorKind::Failed, Some("bad"), "no good"));
        wait_until_gone(room.pid("attempt-0"));
        assert!(!room.path("attempt-1").exists());
    });
}

/// The worker has two threads. The task of the other thread is not charged.
#[test]
fn a_timeout_is_charged_to_its_task_alone() {
    let (slow, other) = (Room::new(), Room::new());
    let mut settings = attempts(1);
    settings.threads_per_worker = std::num::NonZeroUsize::new(2).unwrap();
    faults("a_timeout_is_charged_to_its_task_alone", 1, settings, |executor| {
        // Long enough for both tasks to begin.
        let stuck = delayed(always_holds, (slow.name(),)).name("stuck").timeout(Duration::from_secs(1));
        let innocent = delayed(holds_first, (other.name(),)).name("innocent");
        let (stuck, innocent) = {
            let _scope = config::scoped("scheduler", Arc::clone(executor)).unwrap();
            sprang::compute_each((stuck, innocent)).unwrap()
        };
        assert_eq!(stuck.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(slow.pid("attempt-0"), other.pid("attempt-0"));
        assert_eq!(innocent.unwrap(), other.pid("attempt-1"));
    });
}

/// In both directions at once, a message is larger than fits between two processes.
#[test]
fn large_messages_cross_each_other() {
    faults("large_messages_cross_each_other", 2, attempts(1), |executor| {
        let grow = |a: &Vec<u8>, b: &Vec<u8>| -> Vec<u8> { a.iter().zip(b).map(|(a, b)| a.wrapping_add(*b)).collect() };
        let piece = |n: u8| delayed(|n: u8| vec![n; 250_000], (n,));
        let pieces: Vec<_> = (0..40).map(piece).collect();
        let mut sums = Vec::new();
        for a in 0..40_usize {
            for b in [1, 7, 11] {
                sums.push(delayed(grow, (&pieces[a], &pieces[(a + b) % 40])));
            }
        }
        let total = delayed(
            |sums: sprang::Refs<'_, Vec<u8>>| {
                sums.iter().map(|sum| sum.iter().map(|&n| u64::from(n)).sum::<u64>()).sum::<u64>()
            },
            (&sums,),
        );
        let (total, sums) = compute_with(Arc::clone(executor), (total, sums)).unwrap();
        assert_eq!(total, 250_000 * 2 * 3 * 39 * 20);
        assert_eq!(sums.len(), 120);
    });
}
