//! Requeues or fails the tasks of a worker that has ended;
//! [`blame`](crate::executor::remote::blame) has the rules.

use super::connection::{Connection, UnderWay};
use crate::error::{Error, ErrorKind};
use crate::executor::processes::pool::Pool;
use crate::executor::processes::process::{KillReason, WorkerProcess};
use crate::executor::remote::blame::{Blame, Death, Loss, requeue_lost};
use crate::portable::exchange::Exchange;
use std::sync::Arc;

impl Connection {
    /// Waits for the end of the worker, and requeues or fails the tasks that it had.
    pub(super) fn requeue_tasks(mut self, pool: &Arc<Pool>) -> Exchange {
        let process = Arc::clone(&self.process);
        process.exit();
        // Before a task is retried that may need something that the session holds.
        process.end_session();
        self.request = None;
        let kill_reason = process.kill_reason();
        let loss = match kill_reason {
            Some(KillReason::TimedOut { limit, .. }) => Loss::TimedOut(limit),
            Some(KillReason::Cancelled) => Loss::Cancelled,
            Some(KillReason::Replaced) => Loss::Replaced,
            _ => Loss::Died,
        };
        if !self.under_way.is_empty() {
            process.set_busy(false);
        }
        for (position, under_way) in std::mem::take(&mut self.under_way).into_iter().enumerate() {
            let blame = self.blame(position, under_way.number, kill_reason.as_ref());
            let UnderWay { mut batch, .. } = under_way;
            let schedule = Arc::clone(&batch.schedule);
            let death = || death(&process, kill_reason.as_ref());
            schedule.run().enter(|worker| {
                worker.worker_lost(self.worker_id(), || death().error);
                requeue_lost(worker, &mut batch, blame, loss, death);
            });
            schedule.batch_ended(&process);
            pool.wake_for(&schedule);
        }
        self.exchange
    }

    /// The call that caused the death of the worker, in the batch at this position of the batches
    /// under way.
    fn blame(&self, position: usize, number: u32, kill_reason: Option<&KillReason>) -> Blame {
        match (kill_reason, self.process.busy_with(self.thread)) {
            // A task with a timeout is alone in its batch.
            (Some(&KillReason::TimedOut { thread, batch, .. }), _) if (thread, batch) == (self.thread, number) => {
                Blame::Call(0)
            }
            (Some(KillReason::TimedOut { .. }), _) => Blame::Nobody,
            (_, Some((suspect, index))) if suspect == number => Blame::Call(index as usize),
            (_, None) if position == 0 => match self.process.has_begun(self.thread, number) {
                true => Blame::Anybody,
                false => Blame::Perhaps(0),
            },
            _ => Blame::Nobody,
        }
    }
}

/// The report on a worker that died while it ran a task.
fn death(process: &WorkerProcess, kill_reason: Option<&KillReason>) -> Death {
    let exit = process.worker_exit();
    let worker_died = |message: String| Error::new(ErrorKind::WorkerDied, message).with_exit(exit.clone());
    match kill_reason {
        Some(KillReason::MemoryLimit(limit)) => {
            Death { cause: "memory limit".into(), error: Error::memory_limit(*limit, exit) }
        }
        Some(KillReason::Breach(what)) if process.exit().signal() == Some(9) => {
            Death { cause: "breach".into(), error: worker_died(format!("its worker was killed because of {what}")) }
        }
        Some(KillReason::Replaced) => {
            Death { cause: "replaced".into(), error: worker_died("its worker was restarted on request".into()) }
        }
        _ => Death { cause: format!("{:?}", process.exit().cause), error: Error::worker_died(exit) },
    }
}
