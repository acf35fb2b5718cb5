//! The ways to ask for worker processes by name.

use crate::child::alone;
use crate::watchdog::watched;
use sprang::{Scheduler, compute_with, config, delayed};
use std::process;

fn runs_elsewhere() -> bool {
    delayed(process::id, ()).compute().unwrap() != process::id()
}

#[test]
fn a_compute_may_name_them() {
    watched("schedulers by name", || {
        for name in ["processes", "multiprocessing", "Processes", "MULTIPROCESSING"] {
            let pid = delayed(process::id, ());
            assert_ne!(pid.compute_with(name).unwrap(), process::id(), "{name}");
            assert_ne!(compute_with(name, (&pid,)).unwrap().0, process::id(), "{name}");
            assert!(config::with("scheduler", name, runs_elsewhere).unwrap(), "{name}");
        }
        assert!(config::with("scheduler", Scheduler::Processes, runs_elsewhere).unwrap());
        assert!(!runs_elsewhere(), "the default is another");
    });
}

#[test]
fn runs_with_equal_settings_share_their_workers() {
    watched("shared workers", || {
        let pid = || delayed(process::id, ()).compute_with("processes").unwrap();
        let of = |settings: &[(&str, &str)]| crate::on_processes(1, settings, pid);
        let settings = [("environment", "SELECTION=1")];
        assert_eq!(of(&settings), of(&settings));
        assert_ne!(of(&settings), of(&[("environment", "SELECTION=2")]));
    });
}

#[test]
fn the_environment_may_name_them() {
    alone(
        |room| {
            room.env("SPRANG_SCHEDULER", "processes").env("SPRANG_NUM_WORKERS", "1");
        },
        || {
            assert!(runs_elsewhere());
            assert_eq!(crate::system::children().len(), 1);
        },
    );
}

#[test]
fn a_file_may_name_them() {
    alone(
        |room| {
            room.file(
                "work/sprang.toml",
                "scheduler = 'multiprocessing'\n[processes]\nenvironment = { FROM_FILE = '1' }\n",
            );
        },
        || {
            #[expect(clippy::disallowed_methods, reason = "the environment is what the test is about")]
            let variable = delayed(|| std::env::var("FROM_FILE").unwrap(), ());
            assert_eq!(variable.compute().unwrap(), "1");
            assert!(runs_elsewhere());
        },
    );
}

#[test]
fn a_program_may_name_them_for_all_of_it() {
    alone(
        |_| {},
        || {
            config::set("scheduler", "processes").unwrap();
            assert!(runs_elsewhere());
            assert!(std::thread::spawn(runs_elsewhere).join().unwrap());
        },
    );
}
