//! Whether a failed task is tried again, and when.

use super::context::RunSettings;
use super::panics;
use crate::error::{Error, ErrorKind};
use crate::graph::node::TaskRef;
use crate::graph::retry::{Backoff, RetryIf};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// The attempts of a task that gave no value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    /// The attempts that count against the task's retries.
    num_failures: u32,
    /// The causes of the deaths of its workers.
    deaths: Vec<String>,
    /// The errors' kinds, of the first attempts.
    kinds: Vec<ErrorKind>,
}

impl Attempts {
    /// The number of attempts whose kind of error is kept.
    const MOST_KINDS: usize = 16;

    pub(crate) fn num(&self) -> u32 {
        self.num_failures + self.deaths.len() as u32
    }

    pub(crate) fn num_failures(&self) -> u32 {
        self.num_failures
    }

    pub(crate) fn deaths(&self) -> &[String] {
        &self.deaths
    }

    /// Counts an attempt that ended with an error of this kind.
    pub(crate) fn failed(&mut self, kind: ErrorKind) {
        self.num_failures += 1;
        self.keep(kind);
    }

    /// Counts an attempt whose worker died.
    pub(crate) fn died(&mut self, kind: ErrorKind, cause: String) {
        self.deaths.push(cause);
        self.keep(kind);
    }

    fn keep(&mut self, kind: ErrorKind) {
        if self.kinds.len() < Self::MOST_KINDS {
            self.kinds.push(kind);
        }
    }

    /// The error of the last attempt, which knows how the others ended.
    pub(crate) fn describe(&self, error: Error) -> Error {
        if self.num() > 1 { error.with_attempt_kinds(self.kinds.clone()) } else { error }
    }
}

/// The rules for the retries of one task: its options, and for the rest the settings of the run.
pub(crate) struct RetryRules<'t> {
    retries: u32,
    retry_if: Option<&'t RetryIf>,
    backoff: Backoff,
}

impl<'t> RetryRules<'t> {
    pub(crate) fn of(task: &'t TaskRef, settings: &RunSettings) -> Self {
        // A value that comes from elsewhere is the same at each attempt.
        if task.kind().is_value {
            return RetryRules { retries: 0, retry_if: None, backoff: Backoff::default() };
        }
        let options = task.options();
        RetryRules {
            retries: options.and_then(|options| options.retries).unwrap_or(settings.retries),
            retry_if: options.and_then(|options| options.retry_if.as_ref()),
            backoff: options.and_then(|options| options.backoff).unwrap_or(settings.backoff),
        }
    }

    /// Whether the task may be tried again.
    pub(crate) fn may_retry(&self) -> bool {
        self.retries > 0
    }

    /// Whether the task may wait before it is tried again.
    pub(crate) fn may_wait(&self) -> bool {
        self.may_retry() && self.backoff.waits()
    }

    /// Whether the next attempt is the last, whatever its error.
    pub(crate) fn is_last(&self, attempts: &Attempts) -> bool {
        attempts.num_failures >= self.retries
    }

    /// How long to wait before the task is tried again.
    ///
    /// # Errors
    /// Returns the error, of the last attempt, if the task has failed for good.
    pub(crate) fn next(&self, attempts: &Attempts, error: Error) -> Result<(Duration, Error), Error> {
        if attempts.num_failures > self.retries || error.kind() == ErrorKind::NotPortable {
            return Err(error);
        }
        if let Some(RetryIf(condition)) = self.retry_if {
            match catch_unwind(AssertUnwindSafe(|| condition(&error))) {
                Ok(true) => {}
                Ok(false) => return Err(error),
                Err(payload) => {
                    let note = format!("its `retry_if` panicked: {}", panics::describe(payload));
                    return Err(error.with_note(&note));
                }
            }
        }
        Ok((self.backoff.delay(attempts.num_failures), error))
    }
}
