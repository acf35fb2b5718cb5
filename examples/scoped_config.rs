//! The layers of a setting: the call, a scope, the process, the environment and files, the default.
//! The first layer that has a value wins.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use sprang::{Scheduler, config, delayed};
use std::thread;

fn scheduler_in_force() -> String {
    config::get("scheduler").expect("the configuration has no mistake")
}

fn main() -> sprang::Result<()> {
    // A task sees the configuration of its run, wherever it runs.
    let seen_by_a_task = delayed(scheduler_in_force, ());

    config::set("scheduler", "threads")?; // for the whole process
    assert_eq!(seen_by_a_task.compute()?, "threads");
    {
        let _scope = config::scoped("scheduler", "sync")?; // for this thread, until the end of the block
        assert_eq!(seen_by_a_task.compute()?, "sync");
        assert_eq!(seen_by_a_task.compute_with(Scheduler::Threads)?, "threads"); // for this call

        let seen_by_another_thread = thread::spawn(|| config::get("scheduler")).join().expect("it does not panic")?;
        assert_eq!(seen_by_another_thread, "threads");

        println!("inside the scope:  {}\n", config::explain("scheduler")?);
    }
    println!("outside the scope: {}\n", config::explain("scheduler")?);

    // A mistake is an immediate error that suggests the intended name.
    let mistake = config::set("schedular", "sync").unwrap_err();
    println!("{mistake}");
    assert!(mistake.to_string().ends_with(r#"the nearest is "scheduler""#));

    let mistake = config::scoped("num_workers", 0).unwrap_err();
    println!("{mistake}");
    assert!(mistake.to_string().contains("cannot be 0"));
    Ok(())
}
