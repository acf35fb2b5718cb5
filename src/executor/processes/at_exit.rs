//! The end of this process: idle workers end before it, and are waited for.
//!
//! Without this, the workers of an executor that is never dropped, such as the shared one, would
//! end after this process. Then a shell's `time` would not count their processor time, because
//! Linux adds that of a child to its parent's when the parent waits for the child.
//!
//! A worker that runs a task is left alone: it dies with this process. Nothing here blocks for
//! longer than [`LIMIT`], whatever the other threads do, which still run.

#![expect(unsafe_code, reason = "calls atexit")]

use super::pool::Pool;
use crate::per_process::PerProcess;
use parking_lot::Mutex;
use std::panic::catch_unwind;
use std::sync::{Arc, Once, Weak};
use std::time::{Duration, Instant};

/// How long the end of this process waits for those of its workers, which usually take 5 ms.
const LIMIT: Duration = Duration::from_millis(250);

static POOLS: PerProcess<Mutex<Vec<Weak<Pool>>>> = PerProcess::new();

/// Ends the idle workers of a pool when this process exits.
pub(super) fn watch(pool: &Arc<Pool>) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the function is one of this module and may be called at any time. If there is no
        // memory to register it, the workers end with this process.
        let _ = unsafe { libc::atexit(end_workers) };
    });
    let mut pools = POOLS.get_or_make(Mutex::default).lock();
    pools.retain(|pool| pool.strong_count() > 0);
    pools.push(Arc::downgrade(pool));
}

extern "C" fn end_workers() {
    // A panic must not reach the C library.
    let _ = catch_unwind(|| {
        let deadline = Instant::now() + LIMIT;
        let pools = POOLS.get_or_make(Mutex::default);
        let Some(pools) = pools.try_lock_until(deadline).map(|pools| pools.clone()) else { return };
        let pools: Vec<_> = pools.iter().filter_map(Weak::upgrade).collect();
        let processes: Vec<_> = pools.iter().flat_map(|pool| pool.end_idle_workers(deadline)).collect();
        processes.iter().for_each(|process| _ = process.ends_before(deadline));
        // If these are the last owners, other threads have just dropped the executors.
        std::mem::forget((pools, processes));
    });
}
