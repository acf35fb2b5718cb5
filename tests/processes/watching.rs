//! The events of worker processes that callbacks see.

use crate::new_pool;
use crate::watchdog::watched;
use sprang::callback::{self, Callback, TaskFailed, TaskFinished, TaskRetried, WorkerLost, WorkerStarted};
use sprang::{ErrorKind, Refs, delayed};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    pids: Mutex<HashSet<u32>>,
    spans: Mutex<Vec<(Duration, Duration, Duration)>>,
}

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.lines.lock().unwrap().push(line.into());
    }
}

impl Callback for Log {
    fn on_worker_started(&self, event: &WorkerStarted<'_>) {
        assert!(self.pids.lock().unwrap().insert(event.worker.pid()), "each worker is told of once");
        self.add("started");
    }

    fn on_worker_lost(&self, event: &WorkerLost<'_>) {
        assert!(self.pids.lock().unwrap().contains(&event.worker.pid()));
        self.add(format!("lost: {:?}", event.error.kind()));
    }

    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        assert!(self.pids.lock().unwrap().contains(&event.worker.pid()));
        self.add(format!("retried: {:?}", event.error.as_ref().map(|error| error.kind())));
    }

    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        self.add(format!("failed: {:?} at attempt {}", event.error.kind(), event.attempt));
    }

    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        let crossing = event.crossing.expect("it ran elsewhere");
        let queued = event.started - crossing.sent;
        self.spans.lock().unwrap().push((queued, event.ended - event.started, crossing.received - event.ended));
        assert_eq!(event.worker.thread(), 0);
        assert!(self.pids.lock().unwrap().contains(&event.worker.pid()));
    }
}

#[test]
fn a_task_that_kills_its_workers_is_told_of_with_each() {
    watched("a_task_that_kills_its_workers_is_told_of_with_each", || {
        let log = Arc::new(Log::default());
        let bad = delayed(|| std::process::abort(), ());
        let bad = delayed(|_: &()| (), (&bad,));
        let error = callback::with(Arc::<Log>::clone(&log), || bad.compute_with(new_pool(1)).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::WorkerDied);
        let lines = log.lines.lock().unwrap();
        let attempts = lines.iter().filter(|line| *line == "started").count();
        assert_eq!(attempts, 3, "{lines:?}");
        assert_eq!(lines.iter().filter(|line| *line == "lost: WorkerDied").count(), 3, "{lines:?}");
        assert_eq!(lines.iter().filter(|line| *line == "retried: Some(WorkerDied)").count(), 2, "{lines:?}");
        assert_eq!(lines.last().unwrap(), "failed: WorkerDied at attempt 3");
    });
}

#[test]
fn times_are_taken_where_the_task_runs() {
    fn busy() -> u64 {
        std::thread::sleep(Duration::from_millis(300));
        1
    }
    watched("times_are_taken_where_the_task_runs", || {
        let log = Arc::new(Log::default());
        let parts: Vec<_> = (0..4).map(|_| delayed(busy, ())).collect();
        let sum = delayed(|parts: Refs<'_, u64>| parts.iter().sum::<u64>(), (&parts,));
        assert_eq!(callback::with(Arc::<Log>::clone(&log), || sum.compute_with(new_pool(2)).unwrap()), 4);
        let spans = log.spans.lock().unwrap();
        assert_eq!(spans.len(), 5);
        let is_long = |span: &&(Duration, Duration, Duration)| span.1 >= Duration::from_millis(300);
        assert_eq!(spans.iter().filter(is_long).count(), 4);
        assert!(spans.iter().any(|span| span.1 < Duration::from_millis(300)), "the sum took no time: {spans:?}");
    });
}
