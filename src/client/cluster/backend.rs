//! Where the tasks of a cluster run: threads of this process, or worker processes.

use crate::executor::processes::ProcessExecutor;
use crate::executor::threads::ThreadExecutor;
use crate::portable::codec::Codec;

#[derive(Debug)]
pub(in crate::client) enum Backend {
    Threads(ThreadExecutor),
    Processes(ProcessExecutor),
}

impl Backend {
    pub(super) fn processes(&self) -> Option<&ProcessExecutor> {
        match self {
            Backend::Threads(_) => None,
            Backend::Processes(executor) => Some(executor),
        }
    }

    /// The codec of the values that the workers send.
    pub(super) fn codec(&self) -> Codec {
        self.processes().map_or_else(Codec::default, ProcessExecutor::codec)
    }
}
