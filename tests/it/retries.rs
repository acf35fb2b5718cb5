//! A task that waits for a retry occupies no worker.

use super::contract::watchdog::watched;
use super::subjects;
use sprang::{CancelToken, Delayed, Error, ErrorKind, compute, delayed, delayed_local, try_delayed, try_delayed_local};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

const NUM_WAITING: usize = 20;
/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(3600);

/// Tasks that fail and then wait. Each reports its first failure.
fn waiting_tasks(is_portable: bool, failed: &Sender<()>) -> Vec<Delayed<u32>> {
    let task = |_| {
        let sender = failed.clone();
        let note = move |_: &Error| sender.send(()).is_ok();
        let task = match is_portable {
            false => try_delayed_local(|| Err::<u32, _>("not yet"), ()),
            true => try_delayed(|| Err::<u32, _>("not yet"), ()),
        };
        task.retries(9).retry_if(note).retry_delay(LONG)
    };
    (0..NUM_WAITING).map(task).collect()
}

#[test]
fn other_tasks_run_while_more_tasks_than_workers_wait_for_a_retry() {
    let subjects = [subjects::threads(1), subjects::threads(2), subjects::pool(1), subjects::processes(1)];
    for subject in subjects {
        for is_portable in [false, true] {
            watched(&format!("tasks wait on {subject:?}, portable: {is_portable}"), || {
                let _scope = subject.scope();
                let (sender, failures) = mpsc::channel();
                let waiting = waiting_tasks(is_portable, &sender);
                // Tasks that run while all the others wait.
                let chain = (0..5).fold(delayed(|| 0_u32, ()), |task, _| delayed(|n: &u32| n + 1, (&task,)));
                let (ended, has_ended) = mpsc::sync_channel(1);
                let last = delayed_local(move |n: &u32| ended.send(*n).unwrap(), (&chain,)).priority(-1);
                let token = CancelToken::new();
                let remote = token.clone();
                let judge = std::thread::spawn(move || {
                    failures.iter().take(NUM_WAITING).for_each(drop);
                    assert_eq!(has_ended.recv().unwrap(), 5);
                    remote.cancel();
                });
                let error = token.scope(|| compute((&waiting, &last))).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Cancelled);
                judge.join().unwrap();
            });
        }
    }
}

#[test]
fn tasks_that_wait_at_the_same_time_do_not_wait_one_after_the_other() {
    const DELAY: Duration = Duration::from_millis(300);
    for subject in [subjects::threads(1), subjects::threads(2), subjects::processes(1)] {
        watched(&format!("many wait on {subject:?}"), || {
            let _scope = subject.scope();
            let flaky = |_| {
                let calls = super::contract::Tally::default();
                let body = move || if calls.count() == 0 { Err("not yet") } else { Ok(1_u32) };
                try_delayed_local(body, ()).retries(1).retry_delay(DELAY)
            };
            let tasks: Vec<_> = (0..200).map(flaky).collect();
            let begin = std::time::Instant::now();
            assert_eq!(compute(&tasks).unwrap().len(), 200);
            // One after the other they would take a minute.
            assert!(begin.elapsed() < 50 * DELAY, "{:?}", begin.elapsed());
        });
    }
}
