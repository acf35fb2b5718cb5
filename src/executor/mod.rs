//! WHERE tasks run.
use crate::engine::Run;
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Takes a run to its end.
pub trait Executor: Send + Sync {
    /// A short name for messages.
    fn name(&self) -> &str;
    /// Runs every task.
    fn execute(&self, run: &Arc<Run>);
}

/// Which executor runs a graph.
#[derive(Clone)]
#[non_exhaustive]
pub enum Scheduler {
    /// The threads of a rayon pool.
    Threads,
    /// The calling thread alone, one task after the other, always in the same order.
    Sync,
    /// An executor of the program's own.
    Custom(Arc<dyn Executor>),
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheduler({self})")
    }
}
impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheduler::Threads => "threads",
            Scheduler::Sync => "sync",
            Scheduler::Custom(executor) => executor.name(),
        })
    }
}
impl FromStr for Scheduler {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "threads" | "threading" | "threaded" => Ok(Scheduler::Threads),
            "sync" | "synchronous" | "single-threaded" => Ok(Scheduler::Sync),
            _ => Err(Error::config(format!("unknown scheduler {name:?}; known are \"threads\" and \"sync\""))),
        }
    }
}
