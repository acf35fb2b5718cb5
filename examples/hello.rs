//! The first program: a small graph, computed by every scheduler.

use sprang::{compute, config, delayed};

fn inc(x: i64) -> i64 {
    x + 1
}

fn dec(x: i64) -> i64 {
    x - 1
}

fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() -> sprang::Result<()> {
    let total = delayed(add, (delayed(dec, (7_i64,)), delayed(inc, (6_i64,))));
    assert_eq!(total.compute()?, 13); // the configured scheduler; threads by default
    assert_eq!(total.compute_with("sync")?, 13); // for this call: a name, a `Scheduler`, or any executor
    {
        let _scope = config::scoped("scheduler", "sync")?; // until the end of this block, on this thread and in what it starts
        assert_eq!(total.compute()?, 13);
    }
    config::set("scheduler", "threads")?; // for the whole process, until further notice
    let (a, b) = compute((&total, &delayed(inc, (total.clone(),))))?; // several outputs, one run, shared work done once
    assert_eq!((a, b), (13, 14));
    Ok(())
}
