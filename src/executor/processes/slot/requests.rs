//! The requests of the task of a worker, and the slot while the task waits.
//!
//! A task that has waited for [`GIVE_WAY_AFTER`] gives way. The tasks that would run after it on
//! the same thread are requeued, and a spare slot takes the tasks of its worker from then on. When
//! the task has ended, its slot is a spare one.

use super::connection::{Connection, Lost, UnderWay};
use crate::engine::{Deadline, Timer};
use crate::executor::processes::pool::Pool;
use crate::executor::processes::protocol::{Payload, ToWorker};
use crate::executor::processes::requests::{GIVE_WAY_AFTER, GIVE_WAY_AGAIN_AFTER};
use crate::executor::remote::batch::CallState;
use crate::executor::remote::call::ByteString;
use crate::executor::timer::TimerThread;
use parking_lot::Mutex;
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// A request that was not answered at once. Its task is in the first batch under way.
pub(super) struct PendingRequest {
    number: u64,
    /// The index of the task's call in the batch.
    index: usize,
    since: Instant,
    mailbox: Arc<Mutex<Mailbox>>,
    /// The calls after the task were requeued.
    is_rest_requeued: bool,
    /// While it exists, a spare slot has the task's place.
    gave_way: Option<Box<dyn Any + Send>>,
    /// Wakes the slot when the task has waited for too long.
    alarm: Box<dyn Deadline>,
}

/// Holds the answer until the slot takes it.
///
/// It is no channel, because the sender must know whether the slot is about to wait: an answer that
/// comes at once, as most do, needs no wake-up.
#[derive(Default)]
struct Mailbox {
    answer: Option<Vec<u8>>,
    /// The slot must be woken for the answer.
    must_wake: bool,
}

impl Connection {
    /// Handles a request of a task. The inner result is an error if no task can have made it.
    pub(super) fn handle_request(
        &mut self,
        number: u64,
        batch: u32,
        index: usize,
        question: &[u8],
    ) -> Result<Result<(), String>, Lost> {
        let is_pending = |under_way: &&UnderWay| {
            let call = under_way.batch.calls.get(index);
            under_way.number == batch && call.is_some_and(|call| call.state == CallState::Pending)
        };
        let Some(first) = self.under_way.front().filter(is_pending).filter(|_| self.request.is_none()) else {
            return Ok(Err("a question that no task of its can have asked".into()));
        };
        let handler = first.batch.schedule.settings().handler.as_ref();
        let Some(session) = handler.and_then(|handler| self.process.session_with(handler)) else {
            return self.answer(number, false, None).map(Ok);
        };
        let mailbox = Arc::<Mutex<Mailbox>>::default();
        let reply = {
            let (mailbox, wake) = (Arc::clone(&mailbox), self.waker());
            move |answer| {
                let must_wake = {
                    let mut mailbox = mailbox.lock();
                    mailbox.answer = Some(answer);
                    mailbox.must_wake
                };
                if must_wake {
                    wake();
                }
            }
        };
        session.ask(number, question, Box::new(reply));
        let at_once = {
            let mut mailbox = mailbox.lock();
            mailbox.must_wake = true;
            mailbox.answer.take()
        };
        if at_once.is_some() {
            return self.answer(number, false, at_once).map(Ok);
        }
        // Before the alarm is set, so that enough time has passed when it goes off.
        let since = Instant::now();
        let alarm = TimerThread::shared().start(GIVE_WAY_AFTER, Box::new(self.waker()));
        self.request =
            Some(PendingRequest { number, index, since, mailbox, is_rest_requeued: false, gave_way: None, alarm });
        Ok(Ok(()))
    }

    /// Wakes the slot, from any thread.
    fn waker(&self) -> impl Fn() + Send + use<> {
        let (process, thread) = (Arc::downgrade(&self.process), self.thread);
        move || {
            if let Some(process) = process.upgrade() {
                process.wake(thread);
            }
        }
    }

    fn answer(&self, number: u64, is_rest_revoked: bool, answer: Option<Vec<u8>>) -> Result<(), Lost> {
        let body = answer.map(|answer| Payload::new(ByteString(answer)));
        self.outgoing.send_plain(ToWorker::Response { number, is_rest_revoked, body }).map_err(|_| Lost)
    }

    /// The slot was woken: the request has an answer, or the task has waited for long.
    pub(super) fn check_request(&mut self, pool: &Arc<Pool>) -> Result<(), Lost> {
        let Some(request) = &self.request else { return Ok(()) };
        let answer = request.mailbox.lock().answer.take();
        if let Some(answer) = answer {
            let (number, is_rest_requeued) = (request.number, request.is_rest_requeued);
            self.request = None;
            return self.answer(number, is_rest_requeued, Some(answer));
        }
        if request.gave_way.is_none() && request.since.elapsed() >= GIVE_WAY_AFTER {
            self.give_way(pool);
        }
        Ok(())
    }

    /// Requeues the tasks after the waiting task, and gives its worker to a spare slot.
    fn give_way(&mut self, pool: &Arc<Pool>) {
        let wake = self.waker();
        let Some(request) = &mut self.request else { return };
        let mut behind = self.under_way.split_off(1);
        let Some(first) = self.under_way.front_mut() else { return };
        let rest = first.batch.rest_after(request.index);
        // The worker keeps no values for calls that it skips.
        first.kept.retain(|(call, _)| !rest.contains(call));
        first.batch.requeue(&rest);
        let schedule = Arc::clone(&first.batch.schedule);
        for under_way in &mut behind {
            let all: Vec<usize> = (0..under_way.batch.calls.len()).collect();
            under_way.batch.requeue(&all);
            self.requeued.push_back(under_way.number);
        }
        if let Some(handler) = &schedule.settings().handler {
            let is_first = !std::mem::replace(&mut request.is_rest_requeued, true);
            if pool.give_away_worker(self.index) {
                request.gave_way = Some(handler.waits());
            } else {
                // Until a spare slot is free, only tasks that other workers may run can run.
                if is_first {
                    log::warn!(
                        "a task waits and keeps its worker, as there is no spare process left to take its place"
                    );
                }
                request.alarm = TimerThread::shared().start(GIVE_WAY_AGAIN_AFTER, Box::new(wake));
            }
        }
        pool.wake_for(&schedule);
        for under_way in behind {
            let schedule = &under_way.batch.schedule;
            schedule.batch_ended(&self.process);
            pool.wake_for(schedule);
        }
    }
}
