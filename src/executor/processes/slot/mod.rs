//! A slot: a thread of this process that keeps one thread of a worker busy, and survives the
//! worker.
//!
//! # The states of a slot
//!
//! ```text
//!          take a batch            send it                      results
//!   empty -------------> starting ---------> busy (1 or 2 batches) ----> idle
//!     ^                     |                  |        ^                 |
//!     |     not started     |                  | ended  +--- a batch -----+
//!     +---------------------+                  v                          |
//!     +--------------------------------------- lost <---------------------+
//!                                                 ended, idle too long, or retired
//! ```
//!
//! A busy slot blocks on its channel. Two messages of this process to itself arrive there too: the
//! worker has ended ([`WakeForEnd`](super::protocol::ToParent::WakeForEnd)), and a request of its
//! task has an answer ([`WakeForAnswer`](super::protocol::ToParent::WakeForAnswer)). A slot without
//! a batch sleeps in the [pool](super::pool). Slots start and reap workers themselves, so that each
//! worker has one owner and dies with it.
//!
//! The [connection] has the messages to and from the worker, [requests] the requests of its task,
//! and [loss] the handling of its tasks when the worker ends.

mod connection;
mod loss;
mod requests;

use super::monitor::MonitoredProcess;
use super::pool::{Pool, Woken};
use super::process::{EXIT_GRACE, KillReason, WorkerProcess};
use super::requests::SPARE_IDLE;
use crate::engine::callback::{Replaceable, StartedWorker};
use crate::error::{Error, ErrorKind};
use crate::executor::remote::batch::Batch;
use crate::portable::exchange::Exchange;
use connection::{Connection, Lost};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How many batches a worker thread has at a time: one to run, and one so that it does not wait for
/// the next.
const MAX_UNDER_WAY: usize = 2;

/// How long a slot must be idle before the memory that is kept for the next tasks is freed: longer
/// than the pauses between the runs of a loop, shorter than those of a person.
const TRIM_AFTER: Duration = Duration::from_millis(500);

/// Serves the slot with this index until the pool is closed.
pub(super) fn serve(pool: Arc<Pool>, index: usize) {
    Slot { pool, index, connection: None, num_workers: 0, idle_since: None, is_trimmed: true }.serve();
}

/// See the [module](self).
struct Slot {
    pool: Arc<Pool>,
    index: usize,
    /// The worker of the slot, if it has one.
    connection: Option<Connection>,
    /// How many workers the slot has had.
    num_workers: u32,
    /// When the slot became idle.
    idle_since: Option<Instant>,
    /// No memory is kept for the next tasks.
    is_trimmed: bool,
}

impl Slot {
    fn serve(mut self) {
        loop {
            let num_under_way = self.connection.as_ref().map_or(0, Connection::num_under_way);
            let may_take =
                num_under_way < MAX_UNDER_WAY && self.connection.as_ref().is_none_or(|it| it.takes_batches());
            if may_take {
                let version = self.pool.version();
                let busy_ns = self.connection.as_ref().map_or(Some(0.0), Connection::busy_ns);
                // A busy worker cannot be replaced by one with another inheritance.
                let busy = self.connection.as_ref().filter(|_| num_under_way > 0);
                let inheritance = busy.map(|connection| connection.process().inheritance());
                if let Some(batch) = self.pool.take_batch(self.index, num_under_way, busy_ns, inheritance) {
                    self.pool.set_busy(self.index, true);
                    // Other slots may take the rest, of any run: the thread that made these tasks
                    // ready may have counted on this slot.
                    self.pool.wake_for_tasks(self.pool.num_ready());
                    self.send(batch);
                    continue;
                }
                if num_under_way == 0 {
                    if !self.idle(version) {
                        break;
                    }
                    continue;
                }
            }
            let Some(connection) = &mut self.connection else { continue };
            if connection.num_under_way() == 0 {
                self.disconnect();
            } else if connection.receive(&self.pool).is_err() {
                self.lost();
            }
        }
        self.disconnect();
    }

    /// Sleeps until there may be something to do. False if the pool is closed.
    fn idle(&mut self, version: u64) -> bool {
        if let Some(connection) = &self.connection {
            if connection.process().has_ended() {
                self.lost();
                return true;
            }
            if self.is_trimmed && connection.has_update(&self.pool) {
                self.trim();
                return true;
            }
        }
        // Since the slot became idle: wake-ups without a task do not count.
        let idle_time = self.idle_since.get_or_insert_with(Instant::now).elapsed();
        let idle_timeout = match self.pool.is_spare(self.index) {
            true => Some(SPARE_IDLE),
            false => self.pool.idle_timeout(),
        };
        let until_end = self.connection.as_ref().and(idle_timeout);
        let until_trim = (!self.is_trimmed).then_some(TRIM_AFTER);
        let next = until_end.into_iter().chain(until_trim).min();
        match self.pool.wait(self.index, version, next.map(|time| time.saturating_sub(idle_time))) {
            Woken::Changed => {}
            Woken::Idle if next == until_end => match &self.connection {
                // Other threads of the worker run tasks.
                Some(connection) if !connection.process().is_idle() => self.idle_since = None,
                _ => self.disconnect(),
            },
            Woken::Idle => self.trim(),
            Woken::Closed => return false,
        }
        true
    }

    /// Frees the memory that is kept for the next tasks, in this process and in the worker.
    fn trim(&mut self) {
        self.is_trimmed = true;
        self.pool.set_busy(self.index, true);
        if let Some(connection) = &mut self.connection
            && connection.trim(&self.pool).is_err()
        {
            self.lost();
        }
        self.pool.trim();
        // All slots tell their workers which regions are gone.
        self.pool.wake_all();
    }

    /// Sends a batch to the worker, which is started if there is none.
    fn send(&mut self, batch: Batch) {
        let schedule = Arc::clone(&batch.schedule);
        let inheritance = schedule.settings().inheritance;
        self.idle_since = None;
        self.is_trimmed = false;
        if self.connection.as_ref().is_some_and(|it| it.process().has_ended() && it.num_under_way() == 0) {
            self.lost();
        }
        if self.connection.as_ref().is_some_and(|it| it.process().inheritance() != inheritance) {
            // The environment or the working directory of this process has changed.
            self.disconnect();
        }
        let mut started = None;
        if self.connection.is_none() {
            match self.pool.connect(self.index, inheritance) {
                Ok((process, thread, channel)) => {
                    let limit = self.pool.settings().memory_limit;
                    let replaceable: Weak<dyn Replaceable> = Arc::<WorkerProcess>::downgrade(&process);
                    let connection = Connection::new(self.index, process, thread, channel);
                    started = Some(StartedWorker::note(connection.worker_id(), self.num_workers, limit, replaceable));
                    self.num_workers += 1;
                    self.connection = Some(connection);
                }
                Err(error) => {
                    schedule.requeue(batch.calls.iter().map(|call| call.id));
                    if let Some(time) = self.pool.start_failed(self.index, &schedule, &error) {
                        std::thread::sleep(time);
                    }
                    return;
                }
            }
        }
        let Some(connection) = &mut self.connection else { return };
        // `None` if the run was closed while the worker was started.
        let sent = schedule.run().enter(|worker| {
            started.iter().for_each(|started| worker.worker_started(started));
            connection.send(&self.pool, worker, batch)
        });
        if let Some(Err(Lost)) = sent {
            self.lost();
        }
    }

    /// Requeues the tasks of a worker that has ended or cannot be reached any more, and makes sure
    /// that it ends.
    fn lost(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        self.pool.set_busy(self.index, true);
        let process = Arc::clone(connection.process());
        if !process.ends_within(EXIT_GRACE) {
            process.kill(KillReason::Breach("it could not be talked to any more".into()));
        }
        self.pool.disconnect(&process, true);
        let exchange = connection.requeue_tasks(&self.pool);
        self.leave(&process, exchange);
        // The first slot that looks takes the tasks, perhaps this one.
        self.pool.set_busy(self.index, false);
        self.pool.wake_for_tasks(1);
    }

    /// Ends the worker, or leaves it to its other threads.
    fn disconnect(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        self.pool.set_busy(self.index, true);
        let process = Arc::clone(connection.process());
        self.pool.disconnect(&process, false);
        let exchange = connection.close();
        self.leave(&process, exchange);
    }

    /// The channels are closed. The regions that were exchanged must be kept until the worker has
    /// ended.
    fn leave(&self, process: &WorkerProcess, exchange: Exchange) {
        process.leave();
        exchange.charge_received_to(self.pool.memory.budget());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // In a panic, which is a bug of sprang: no run waits for the batches of this slot.
        if self.connection.is_some() {
            self.lost();
        }
        if std::thread::panicking() {
            self.pool.stop_runs(&Error::new(
                ErrorKind::NoWorker,
                "a thread that serves a worker panicked, which is a bug of sprang",
            ));
        }
    }
}
