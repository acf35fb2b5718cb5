//! The setting `stall_timeout`: reports of stalled runs, with the running tasks and those that
//! wait.
//!
//! Each task waits until a stall in which it runs was reported, so no test depends on a duration. A
//! busy machine may cause further stalls.

#[path = "../contract/warnings.rs"]
mod warnings;
#[path = "../contract/watchdog.rs"]
#[allow(dead_code, reason = "shared with the contract")]
mod watchdog;

use sprang::callback::{self, Callback, RunFinished, RunStalled};
use sprang::{Delayed, Refs, ThreadExecutor, compute_with, config, delayed, delayed_local, try_delayed_local};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use watchdog::watched;

const TIMEOUT: Duration = Duration::from_millis(30);

/// A report of a stall.
#[derive(Clone, Debug)]
struct Report {
    text: String,
    since: Instant,
    running: Vec<(String, u32, bool, usize, Vec<String>)>,
    num_waiting: usize,
    is_stopped: bool,
}

impl Report {
    fn is_of(&self, name: &str, attempt: u32) -> bool {
        self.running.iter().any(|running| running.0 == name && running.1 == attempt)
    }
}

/// The only report in which a task runs.
fn stall_of<'r>(reports: &'r [Report], name: &str) -> &'r Report {
    let mut of_name = reports.iter().filter(|report| report.running.iter().any(|running| running.0 == name));
    let (first, second) = (of_name.next(), of_name.next());
    assert!(second.is_none(), "reported twice: {reports:?}");
    first.unwrap_or_else(|| panic!("no report of {name}: {reports:?}"))
}

/// Records the reports of stalls, and wakes the tasks that wait for them.
#[derive(Default)]
struct Listener {
    reports: Mutex<Vec<Report>>,
    changed: Condvar,
    ended: Mutex<usize>,
}

impl Listener {
    /// Waits for the report of a stall in which this attempt of a task runs.
    fn wait_for(&self, name: &str, attempt: u32) {
        self.wait_until(|report| report.is_of(name, attempt));
    }

    fn wait_until(&self, is_it: impl Fn(&Report) -> bool) {
        let reports = self.reports.lock().unwrap();
        drop(self.changed.wait_while(reports, |reports| !reports.iter().any(&is_it)).unwrap());
    }

    fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap().clone()
    }
}

impl Callback for Listener {
    fn on_run_stalled(&self, event: &RunStalled<'_>) {
        assert!(event.now.duration_since(event.since) >= TIMEOUT);
        assert_eq!(event.num_running, event.running.len());
        let running = event.running.iter().map(|running| {
            assert!(running.started <= event.now);
            let dependents = running.dependents.iter().map(|task| task.name().to_string()).collect();
            (
                running.task.name().to_string(),
                running.attempt,
                running.worker.is_here(),
                running.num_waiting,
                dependents,
            )
        });
        let (running, num_waiting) = (running.collect(), event.num_waiting);
        let report =
            Report { text: event.to_string(), since: event.since, running, num_waiting, is_stopped: event.is_stopped };
        self.reports.lock().unwrap().push(report);
        self.changed.notify_all();
    }

    fn on_run_finished(&self, _: &RunFinished<'_>) {
        *self.ended.lock().unwrap() += 1;
    }
}

/// Computes with a listener and a short stall timeout.
fn listening<R>(scheduler: &str, body: impl FnOnce(&Arc<Listener>) -> R) -> (R, Vec<Report>) {
    let listener = Arc::new(Listener::default());
    let _scope = config::scoped("scheduler", scheduler).unwrap().and("stall_timeout", TIMEOUT).unwrap();
    let result = callback::with(Arc::<Listener>::clone(&listener), || body(&listener));
    (result, listener.reports())
}

/// A task that returns 1 after a report of a stall in which it runs.
fn waits(listener: &Arc<Listener>, name: &'static str) -> Delayed<usize> {
    let listener = Arc::clone(listener);
    let wait = move || {
        listener.wait_for(name, 1);
        1
    };
    delayed_local(wait, ()).name(name)
}

fn sum(numbers: Refs<'_, usize>) -> usize {
    numbers.iter().sum()
}

#[test]
fn a_report_of_a_stall_has_the_running_tasks_and_those_that_wait() {
    for scheduler in ["sync", "threads", "processes"] {
        watched(scheduler, || {
            let (result, reports) = listening(scheduler, |listener| {
                let slow = waits(listener, "slow");
                let readers: Vec<_> = (0..3_usize)
                    .map(|i| delayed(|x: &usize, i| x + i, (&slow, i)).name(format!("reader {i}")))
                    .collect();
                delayed(sum, (&readers,)).name("total").compute()
            });
            assert_eq!(result.unwrap(), 6, "1 + 2 + 3");
            let report = stall_of(&reports, "slow");
            let readers = ["reader 0", "reader 1", "reader 2"].map(str::to_owned).to_vec();
            assert_eq!(report.running, [("slow".to_owned(), 1, true, 4, readers)]);
            assert_eq!((report.num_waiting, report.is_stopped), (4, false));
            assert!(report.text.contains("(\"total\") has stalled: no task has finished for "), "{}", report.text);
            assert!(report.text.contains("; 1 is running and 4 wait\n  \"slow\" on thread "), "{}", report.text);
            assert!(report.text.ends_with(": 4 wait for it, first \"reader 0\""), "{}", report.text);
        });
    }
}

/// Returns when the file is there.
fn waits_for_file(path: &String) -> usize {
    while !Path::new(path).exists() {
        thread::sleep(Duration::from_millis(1));
    }
    1
}

#[cfg(target_os = "linux")]
#[test]
fn a_task_in_a_worker_process_is_reported_with_the_process() {
    watched("a task in a worker process", || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("there");
        let (result, reports) = listening("processes", |listener| {
            let (there, waiting) = (path.clone(), Arc::clone(listener));
            let opener = thread::spawn(move || {
                waiting.wait_for("there", 1);
                File::create(there).unwrap();
            });
            let result = delayed(waits_for_file, (sprang::lit(path.display().to_string()),)).name("there").compute();
            opener.join().unwrap();
            result
        });
        assert_eq!(result.unwrap(), 1);
        let report = stall_of(&reports, "there");
        assert_eq!(report.running, [("there".to_owned(), 1, false, 0, Vec::new())]);
        assert!(report.text.contains("\"there\" on process "), "{}", report.text);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_task_that_starts_after_a_report_causes_another_report() {
    watched("a task that starts late", || {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        // One worker, and another run has it.
        let _workers = config::scoped("num_workers", 1).unwrap();
        let waits_in_worker = |name: &'static str| delayed(waits_for_file, (sprang::lit(path(name)),)).name(name);
        thread::scope(|scope| {
            let (has_begun, begins) = std::sync::mpsc::channel();
            let other = scope.spawn({
                let (other, workers) = (waits_in_worker("other"), config::snapshot().unwrap());
                move || {
                    let _same = workers.enter();
                    let (result, _) = listening("processes", |listener| {
                        thread::scope(|scope| {
                            scope.spawn(|| {
                                listener.wait_for("other", 1);
                                has_begun.send(()).unwrap();
                            });
                            other.compute()
                        })
                    });
                    assert_eq!(result.unwrap(), 1);
                }
            });
            begins.recv().unwrap();
            let (result, reports) = listening("processes", |listener| {
                thread::scope(|scope| {
                    scope.spawn(|| {
                        listener.wait_until(|report| report.running.is_empty());
                        File::create(path("other")).unwrap();
                        listener.wait_for("late", 1);
                        File::create(path("late")).unwrap();
                    });
                    waits_in_worker("late").compute()
                })
            });
            assert_eq!(result.unwrap(), 1);
            assert_eq!(stall_of(&reports, "late").since, reports[0].since, "nothing was settled in between");
            other.join().unwrap();
        });
    });
}

#[test]
fn each_stall_is_reported_once() {
    watched("each_stall_is_reported_once", || {
        let (result, reports) = listening("sync", |listener| {
            let first = waits(listener, "first");
            // While this one waits, another run stalls several times.
            let second = {
                let listener = Arc::clone(listener);
                let waits_long = move |first: &usize| {
                    listener.wait_for("second", 1);
                    for _ in 0..3 {
                        let other = thread::spawn(|| {
                            let (result, reports) = listening("sync", |listener| waits(listener, "other").compute());
                            assert_eq!(result.unwrap(), 1);
                            stall_of(&reports, "other");
                        });
                        other.join().unwrap();
                    }
                    first + 1
                };
                delayed_local(waits_long, (&first,)).name("second")
            };
            second.compute()
        });
        assert_eq!(result.unwrap(), 2);
        stall_of(&reports, "first");
        stall_of(&reports, "second");
        assert!(reports.is_sorted_by(|a, b| a.since < b.since), "{reports:?}");
    });
}

#[test]
fn the_attempt_is_reported() {
    watched("the_attempt_is_reported", || {
        let (result, reports) = listening("threads", |listener| {
            let (listener, mut_attempts) = (Arc::clone(listener), Mutex::new(0));
            let attempt = move || {
                let mut attempts = mut_attempts.lock().unwrap();
                *attempts += 1;
                if *attempts == 1 {
                    return Err("not yet");
                }
                listener.wait_for("again", 2);
                Ok(*attempts)
            };
            try_delayed_local(attempt, ()).retries(1).name("again").compute()
        });
        assert_eq!(result.unwrap(), 2);
        let report = reports.iter().find(|report| report.is_of("again", 2)).unwrap();
        assert!(report.text.ends_with(", attempt 2"), "{}", report.text);
    });
}

#[test]
fn a_stopped_run_that_waits_for_a_task_is_reported() {
    watched("a_run_that_was_stopped", || {
        let (result, reports) = listening("sync", |listener| {
            let both_run = Arc::new(Barrier::new(2));
            let deaf = {
                let (listener, both_run) = (Arc::clone(listener), Arc::clone(&both_run));
                let wait = move || {
                    both_run.wait();
                    // It ignores the failure.
                    listener.wait_until(|report| report.is_stopped && report.is_of("deaf", 1));
                };
                delayed_local(wait, ()).name("deaf")
            };
            let fail = move || {
                both_run.wait();
                Err::<(), _>("it fails")
            };
            compute_with(ThreadExecutor::new(2), (&deaf, &try_delayed_local(fail, ()).name("bad")))
        });
        assert_eq!(result.unwrap_err().task(), Some("bad"));
        let report = reports.iter().find(|report| report.is_stopped).unwrap();
        assert!(
            report.text.contains("; 1 is running, and the run, which was stopped, waits for that\n"),
            "{}",
            report.text
        );
    });
}

#[test]
fn the_task_around_a_nested_run_is_reported_too() {
    watched("the_task_around_a_nested_run", || {
        let (result, reports) = listening("sync", |listener| {
            let inner = Arc::clone(listener);
            let outer = move || {
                let inner_sum = waits(&inner, "inner").compute();
                inner.wait_for("outer", 1);
                inner_sum
            };
            try_delayed_local(outer, ()).name("outer").compute()
        });
        assert_eq!(result.unwrap(), 1);
        assert!(
            reports.iter().any(|report| report.is_of("inner", 1))
                && reports.iter().any(|report| report.is_of("outer", 1))
        );
    });
}

#[test]
fn a_run_ends_after_its_reports() {
    watched("the_end_of_a_run", || {
        struct Slow(Arc<Listener>, AtomicUsize);
        impl Callback for Slow {
            fn on_run_stalled(&self, event: &RunStalled<'_>) {
                // The task continues now, so that its run could end.
                self.0.on_run_stalled(event);
                for _ in 0..1000 {
                    thread::yield_now();
                }
                let num_too_early = *self.0.ended.lock().unwrap();
                self.1.fetch_add(num_too_early, Ordering::SeqCst);
            }
        }
        let listener = Arc::new(Listener::default());
        let slow = Arc::new(Slow(Arc::<Listener>::clone(&listener), AtomicUsize::new(0)));
        let _scope = config::scoped("stall_timeout", TIMEOUT).unwrap();
        // This one reports only the end: the listener itself would wake the task.
        struct End(Arc<Listener>);
        impl Callback for End {
            fn on_run_finished(&self, event: &RunFinished<'_>) {
                self.0.on_run_finished(event);
            }
        }
        let _watched = (
            callback::scoped(Arc::<Slow>::clone(&slow)),
            callback::scoped(Arc::new(End(Arc::<Listener>::clone(&listener)))),
        );
        assert_eq!(waits(&listener, "slow").compute_with("threads").unwrap(), 1);
        assert_eq!((*listener.ended.lock().unwrap(), slow.1.load(Ordering::SeqCst)), (1, 0));
    });
}

#[test]
fn a_stall_is_a_warning_in_the_log_without_any_callback() {
    warnings::keep();
    watched("a_stall_is_a_warning", || {
        let is_logged = || warnings::all().iter().any(|text| text.contains("\"logged\" on thread "));
        let task = move || {
            while !is_logged() {
                thread::sleep(Duration::from_millis(1));
            }
        };
        let _scope = config::scoped("stall_timeout", TIMEOUT).unwrap();
        delayed_local(task, ()).name("logged").compute().unwrap();
    });
}
