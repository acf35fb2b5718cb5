//! Replays of failed tasks with the inputs that their errors keep: `on_failure = "keep_inputs"` and
//! `Error::replay`.

#[path = "../contract/watchdog.rs"]
#[allow(dead_code, reason = "shared with the contract")]
mod watchdog;

use sprang::callback::{self, Callback, TaskFailed};
use sprang::config::{self, Scope};
use sprang::{
    Client, Delayed, Error, ErrorKind, Executor, LocalCluster, ReadyTask, Refs, Replayed, Run, SharedArray,
    compute_each, compute_with, delayed, delayed_local, lit, local, prepare, try_delayed, try_delayed_local,
};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;
use watchdog::watched;

const SCHEDULERS: [&str; 3] = ["sync", "threads", "processes"];

/// Keeps inputs and selects this scheduler, until the scope is dropped.
fn keeping(scheduler: &str) -> Scope {
    config::scoped("on_failure", "keep_inputs").unwrap().and("scheduler", scheduler).unwrap()
}

fn failure(replayed: Replayed) -> Error {
    match replayed {
        Replayed::Failed(error) => error,
        Replayed::Finished => panic!("the replay must fail"),
    }
}

/// A value that counts the values that are alive.
#[derive(Debug)]
struct Tracked {
    number: usize,
    live: Arc<AtomicUsize>,
}

impl Tracked {
    fn new(number: usize, live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::SeqCst);
        Tracked { number, live: Arc::clone(live) }
    }
}

impl Clone for Tracked {
    fn clone(&self) -> Self {
        Tracked::new(self.number, &self.live)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tracked(number: usize, live: &Arc<AtomicUsize>) -> Delayed<Tracked> {
    let live = Arc::clone(live);
    delayed_local(move || Tracked::new(number, &live), ())
}

fn numbers(len: usize) -> Vec<usize> {
    (0..len).collect()
}

/// Changes its inputs and then fails with them as its message.
fn check(
    mut owned: Vec<usize>,
    borrowed: &Vec<usize>,
    list: Refs<'_, usize>,
    plain: &(u8, String),
) -> Result<(), String> {
    owned.push(100);
    let list = list.to_vec();
    Err(format!("{owned:?} {borrowed:?} {list:?} {plain:?} in {} on {:?}", process::id(), thread::current().id()))
}

#[test]
fn a_failed_task_is_called_again_on_this_thread_with_the_same_inputs() {
    for scheduler in SCHEDULERS {
        watched(scheduler, || {
            let _keeping = keeping(scheduler);
            let owned = delayed(numbers, (delayed(|n: usize| n + 1, (1_usize,)),));
            let borrowed = delayed(numbers, (1_usize,));
            let list: Vec<_> = (5..8_usize).map(|n| delayed(|n: usize| n, (n,))).collect();
            let plain = lit((7_u8, "plain".to_owned()));
            let failed = try_delayed(check, (owned, &borrowed, &list, plain)).name("failed");
            let output = delayed(|(): &()| 1, (&failed,)).name("output");
            let error = output.compute().unwrap_err();
            assert!(error.has_inputs());
            let seen = "[0, 1, 100] [0] [5, 6, 7] (7, \"plain\") in ";
            assert!(error.message().starts_with(seen), "{error}");
            for _ in 0..2 {
                let again = failure(error.replay().unwrap());
                let here = format!("{seen}{} on {:?}", process::id(), thread::current().id());
                assert_eq!((again.kind(), again.message()), (ErrorKind::Failed, &*here));
                assert_eq!((again.task(), again.path().collect()), (Some("failed"), vec!["failed", "output"]));
                assert_eq!(failure(again.replay().unwrap()).message(), here);
            }
            assert!(
                format!("{error:?}")
                    .ends_with("its inputs are kept: `replay` of this error calls it again, for a debugger")
            );
        });
    }
}

#[test]
fn no_inputs_are_kept_without_the_setting() {
    for scheduler in SCHEDULERS {
        let _scope = config::scoped("scheduler", scheduler).unwrap();
        let live = Arc::new(AtomicUsize::new(0));
        let fail = |_: Tracked| Err::<(), _>("no");
        let error = try_delayed_local(fail, (tracked(1, &live),)).compute().unwrap_err();
        assert_eq!((live.load(Ordering::SeqCst), error.has_inputs()), (0, false));
        assert_eq!(error.replay().unwrap_err().kind(), ErrorKind::NotKept);
    }
}

#[test]
fn only_the_inputs_are_kept_and_only_as_long_as_the_error_and_its_clones() {
    for scheduler in SCHEDULERS {
        watched(scheduler, || {
            let live = Arc::new(AtomicUsize::new(0));
            let error = {
                let _keeping = keeping(scheduler);
                let [kept, other] = [1, 2].map(|number| tracked(number, &live));
                let fail = |kept: Tracked| match kept.number {
                    0 => Ok(kept),
                    number => Err(format!("it is {number}")),
                };
                let copy = delayed_local(Tracked::clone, (&kept,));
                let failed = try_delayed_local(fail, (copy,));
                let after = delayed_local(|_: &Tracked, _: &Tracked| (), (&failed, &other));
                after.compute().unwrap_err()
            };
            assert_eq!(live.load(Ordering::SeqCst), 1, "the input of the failed task");
            assert_eq!(failure(error.replay().unwrap()).message(), "it is 1");
            assert_eq!(live.load(Ordering::SeqCst), 1, "the clone for the call is gone");
            let clone = error.clone();
            drop(error);
            assert_eq!(live.load(Ordering::SeqCst), 1);
            let again = failure(clone.replay().unwrap());
            drop(clone);
            assert_eq!(live.load(Ordering::SeqCst), 1, "the error of the replay can be replayed");
            drop(again);
            assert_eq!(live.load(Ordering::SeqCst), 0);
        });
    }
}

#[test]
fn a_task_may_finish_this_time() {
    for scheduler in ["sync", "threads"] {
        let live = Arc::new(AtomicUsize::new(0));
        let is_mended = Arc::new(AtomicBool::new(false));
        let _keeping = keeping(scheduler);
        let task = {
            let is_mended = Arc::clone(&is_mended);
            let body = move |input: Tracked| if is_mended.load(Ordering::SeqCst) { Ok(input) } else { Err("not yet") };
            try_delayed_local(body, (tracked(1, &live),))
        };
        let error = task.compute().unwrap_err();
        assert_eq!(failure(error.replay().unwrap()).message(), "not yet");
        is_mended.store(true, Ordering::SeqCst);
        assert!(error.replay().unwrap().is_finished() && error.replay().unwrap().error().is_none());
        assert_eq!(live.load(Ordering::SeqCst), 1, "the value was dropped, and the input was not");
        drop(error);
        assert_eq!(live.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn failures_that_were_collected_share_an_input() {
    for scheduler in SCHEDULERS {
        watched(scheduler, || {
            let live = Arc::new(AtomicUsize::new(0));
            let _keeping = keeping(scheduler);
            let shared = tracked(7, &live);
            let fail = |by: usize| {
                let body = move |input: &Tracked, by: usize| Err::<(), _>(format!("{} {by}", input.number));
                try_delayed_local(body, (&shared, by))
            };
            // The input is an output too, and another task owns it.
            let good = delayed_local(|input: Tracked| input.number, (shared.clone(),));
            let (first, second, good, value) = compute_each((&fail(1), &fail(2), &good, &shared)).unwrap();
            let (first, second) = (first.unwrap_err(), second.unwrap_err());
            assert_eq!((good.unwrap(), value.unwrap().number), (7, 7));
            assert_eq!(live.load(Ordering::SeqCst), 1);
            assert_eq!(failure(first.replay().unwrap()).message(), "7 1");
            drop(first);
            assert_eq!(live.load(Ordering::SeqCst), 1);
            assert_eq!(failure(second.replay().unwrap()).message(), "7 2");
            drop(second);
            assert_eq!(live.load(Ordering::SeqCst), 0);
        });
    }
}

#[test]
fn a_replay_is_one_call_whatever_the_retries() {
    let calls = Arc::new(AtomicUsize::new(0));
    let live = Arc::new(AtomicUsize::new(0));
    let _keeping = keeping("threads");
    let counted = Arc::clone(&calls);
    let body = move |_: Tracked| -> usize { panic!("call {}", counted.fetch_add(1, Ordering::SeqCst) + 1) };
    let error = delayed_local(body, (tracked(1, &live),)).retries(2).compute().unwrap_err();
    assert!(error.message().starts_with("call 3 (at tests/replay/main.rs:"), "{error}");
    let again = failure(error.replay().unwrap());
    assert_eq!((again.kind(), again.attempts(), calls.load(Ordering::SeqCst)), (ErrorKind::Panicked, 1, 4));
    assert!(again.message().starts_with("call 4 (at tests/replay/main.rs:"), "{again}");
    drop((error, again));
    assert_eq!(live.load(Ordering::SeqCst), 0);
}

#[test]
fn a_replay_has_no_timeout() {
    for scheduler in ["sync", "threads"] {
        watched(scheduler, || {
            let live = Arc::new(AtomicUsize::new(0));
            let _keeping = keeping(scheduler);
            let first = Arc::new(AtomicBool::new(true));
            let body = move |input: Tracked| {
                while first.load(Ordering::SeqCst) && !sprang::CancelToken::current().is_cancelled() {
                    thread::sleep(Duration::from_millis(1));
                }
                first.store(false, Ordering::SeqCst);
                input.number
            };
            let task = delayed_local(body, (tracked(1, &live),)).timeout(Duration::from_millis(5));
            let error = task.compute().unwrap_err();
            assert_eq!((error.kind(), live.load(Ordering::SeqCst)), (ErrorKind::TimedOut, 1));
            assert!(error.replay().unwrap().is_finished());
            drop(error);
            assert_eq!(live.load(Ordering::SeqCst), 0);
        });
    }
}

#[test]
fn a_prepared_graph_can_run_while_errors_keep_inputs() {
    let live = Arc::new(AtomicUsize::new(0));
    let is_bad = Arc::new(AtomicBool::new(true));
    let _keeping = keeping("sync");
    let body = {
        let is_bad = Arc::clone(&is_bad);
        move |input: Tracked| if is_bad.load(Ordering::SeqCst) { Err("bad") } else { Ok(input.number) }
    };
    let prepared = prepare(try_delayed_local(body, (tracked(5, &live),))).unwrap();
    let errors = [prepared.compute().unwrap_err(), prepared.compute().unwrap_err()];
    assert_eq!(live.load(Ordering::SeqCst), 2);
    is_bad.store(false, Ordering::SeqCst);
    assert_eq!(prepared.compute().unwrap(), 5);
    assert_eq!(live.load(Ordering::SeqCst), 2);
    drop(prepared);
    assert!(errors.iter().all(|error| error.replay().unwrap().is_finished()));
    drop(errors);
    assert_eq!(live.load(Ordering::SeqCst), 0);
}

#[test]
fn a_value_that_belongs_to_its_handle_is_borrowed_again() {
    for scheduler in SCHEDULERS {
        let _keeping = keeping(scheduler);
        let error = {
            let input = local(vec![1_u8, 2]);
            try_delayed_local(|input: &Vec<u8>| Err::<(), _>(format!("{input:?}")), (&input,)).compute().unwrap_err()
        };
        assert_eq!(failure(error.replay().unwrap()).message(), "[1, 2]");
    }
}

#[test]
fn the_configuration_is_that_of_the_run() {
    let error = {
        let _keeping = keeping("threads").and("order", "fast").unwrap();
        let body = || Err::<(), _>(config::get("order").unwrap());
        try_delayed_local(body, ()).compute().unwrap_err()
    };
    assert_eq!(config::get("order").unwrap(), "memory");
    assert_eq!(failure(error.replay().unwrap()).message(), "fast");
}

#[test]
fn there_is_no_replay_before_the_run_has_ended() {
    #[derive(Default)]
    struct Early(Mutex<Vec<Error>>);
    impl Callback for Early {
        fn on_task_failed(&self, event: &TaskFailed<'_>) {
            self.0.lock().unwrap().extend([event.error.clone(), event.error.replay().unwrap_err()]);
        }
    }
    let live = Arc::new(AtomicUsize::new(0));
    let early = Arc::new(Early::default());
    let _keeping = keeping("sync");
    let task = try_delayed_local(|_: &Tracked| Err::<(), _>("no"), (&tracked(1, &live),)).name("bad");
    drop(callback::with(Arc::<Early>::clone(&early), || task.compute()).unwrap_err());
    let [error, problem] = &early.0.lock().unwrap()[..] else { panic!("one task failed") };
    assert_eq!(problem.kind(), ErrorKind::NotKept);
    assert!(problem.to_string().contains("its run has not ended yet"), "{problem}");
    assert_eq!(failure(error.replay().unwrap()).message(), "no", "now it has");
}

#[test]
fn a_future_that_has_failed_can_be_replayed_at_once() {
    let kinds = [("threads", false), ("processes", true)];
    for (kind, processes) in kinds.into_iter().filter(|(_, processes)| !processes || cfg!(target_os = "linux")) {
        watched(kind, || {
            let cluster =
                LocalCluster::builder().workers(2).threads_per_worker(1).processes(processes).build().unwrap();
            let _keeping = keeping("sync");
            let client = Client::new(&cluster);
            for round in 0..50_usize {
                let numbers = client.submit(numbers, (round,));
                let fail = |numbers: Vec<usize>| Err::<usize, _>(format!("{} numbers", numbers.len()));
                let error = client.try_submit(fail, (numbers,)).result().unwrap_err();
                assert_eq!(failure(error.replay().unwrap()).message(), error.message());
            }
        });
    }
}

#[test]
fn two_threads_do_not_replay_a_task_at_once() {
    watched("two_threads", || {
        let (enter, entered) = mpsc::channel();
        let (leave, left) = mpsc::channel::<()>();
        let (enter, left) = (Mutex::new(enter), Mutex::new(left));
        let is_replay = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&is_replay);
        let body = move || {
            if waits.load(Ordering::SeqCst) {
                enter.lock().unwrap().send(()).unwrap();
                left.lock().unwrap().recv().unwrap();
            }
            Err::<(), _>("no")
        };
        let _keeping = keeping("sync");
        let error = try_delayed_local(body, ()).compute().unwrap_err();
        is_replay.store(true, Ordering::SeqCst);
        let other = error.clone();
        let replaying = thread::spawn(move || failure(other.replay().unwrap()).message().to_owned());
        entered.recv().unwrap();
        let problem = error.replay().unwrap_err();
        assert!(problem.to_string().contains("it is being replayed already"), "{problem}");
        leave.send(()).unwrap();
        assert_eq!(replaying.join().unwrap(), "no");
    });
}

#[test]
fn a_programs_own_executor_keeps_inputs_too() {
    struct OneByOne;
    impl Executor for OneByOne {
        fn name(&self) -> &str {
            "one by one"
        }

        fn execute(&self, run: &Arc<Run>) {
            let mut ready: Vec<ReadyTask> = run.ready();
            while let Some(task) = ready.pop() {
                ready.extend(task.run());
            }
            run.wait();
        }
    }
    let live = Arc::new(AtomicUsize::new(0));
    let _keeping = keeping("sync");
    let task = try_delayed_local(|input: Tracked| Err::<(), _>(input.number.to_string()), (tracked(3, &live),));
    let error = compute_with(OneByOne, &task).unwrap_err();
    assert_eq!(failure(error.replay().unwrap()).message(), "3");
    drop(error);
    assert_eq!(live.load(Ordering::SeqCst), 0);
}

#[cfg(target_os = "linux")]
#[expect(clippy::ptr_arg, reason = "a task borrows the value as it is")]
mod elsewhere {
    use super::*;

    fn crash(numbers: &Vec<usize>, shared: &SharedArray<f64>, here: u32) -> usize {
        if process::id() != here {
            process::abort();
        }
        numbers.len() + shared.len()
    }

    fn shared(len: usize) -> SharedArray<f64> {
        SharedArray::with_len(len, |numbers| numbers.fill(0.5))
    }

    #[test]
    fn a_task_that_killed_its_worker_is_called_here() {
        watched("a task that killed its worker", || {
            for attempts in [1, 3] {
                let _keeping = keeping("processes").and("processes.max_attempts", attempts).unwrap();
                // Each of these may be in the same batch as the one before.
                let numbers = delayed(numbers, (delayed(|n: usize| n + 1, (2_usize,)),));
                let task = delayed(crash, (&numbers, &delayed(shared, (100_000_usize,)), process::id())).name("crash");
                let error = task.compute().unwrap_err();
                assert_eq!((error.kind(), error.attempts()), (ErrorKind::WorkerDied, attempts));
                assert!(error.replay().unwrap().is_finished());
            }
        });
    }

    #[test]
    fn inputs_that_cannot_be_decoded_here_are_reported() {
        #[derive(Debug, serde::Serialize)]
        struct Picky(u32);
        impl<'de> serde::Deserialize<'de> for Picky {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                u32::deserialize(deserializer)?;
                Err(serde::de::Error::custom("it cannot be decoded"))
            }
        }
        watched("inputs that cannot be decoded", || {
            let _keeping = keeping("processes");
            let input = delayed(|| Picky(1), ());
            let error = delayed(|input: &Picky| input.0, (&input,)).name("reader").compute().unwrap_err();
            assert_eq!((error.kind(), error.task()), (ErrorKind::NotPortable, Some("reader")), "{error}");
            let problem = error.replay().unwrap_err();
            assert_eq!(problem.kind(), ErrorKind::NotPortable);
            assert!(problem.to_string().contains("\"reader\" cannot be replayed: cannot decode a `"), "{problem}");
        });
    }

    fn slow(input: &Vec<usize>, here: u32) -> usize {
        while process::id() != here {
            thread::sleep(Duration::from_millis(10));
        }
        input.len()
    }

    #[test]
    fn the_replay_of_a_task_that_was_killed_at_its_timeout_has_no_timeout() {
        watched("a slow task", || {
            let _keeping = keeping("processes");
            let task = delayed(slow, (&delayed(numbers, (3_usize,)), process::id())).timeout(Duration::from_millis(20));
            let error = task.compute().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(error.replay().unwrap().is_finished());
        });
    }
}
