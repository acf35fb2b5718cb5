//! Which layer wins, and the values that each accepts.

use crate::child::{alone, shown};
use crate::get;
use sprang::config::{self, Errors, Order, Origin};
use sprang::{Executor, Run, Scheduler};
use std::num::NonZeroUsize;
use std::sync::Arc;

struct Mine;

impl Executor for Mine {
    fn name(&self) -> &str {
        "mine"
    }
    fn execute(&self, _: &Arc<Run>) {}
}

#[test]
fn without_a_word_from_anyone_the_defaults_hold() {
    alone(
        |_| {},
        || {
            let settings = config::settings().unwrap();
            assert!(matches!(settings.scheduler, Scheduler::Threads));
            assert_eq!(settings.num_workers, None);
            assert_eq!(settings.errors, Errors::Stop);
            assert_eq!(settings.order, Order::Memory);
            assert!(!settings.check_portable);
        },
    );
}

/// Every layer gives a number, so that each takes effect once the layers above it are removed.
#[test]
fn layers_prevail_in_their_order() {
    alone(
        |room| {
            room.file("home/.config/sprang/sprang.toml", "num_workers = 1");
            room.file("work/sprang.toml", "\nnum_workers = 2");
            room.file("named.toml", "\n\nnum_workers = 3");
            room.env("SPRANG_CONFIG", "../named.toml").env("SPRANG_NUM_WORKERS", "4");
        },
        || {
            assert_eq!(get("num_workers"), "4");
            config::set("num_workers", 5).unwrap();
            let (set_line, line) = (line!() - 1, line!() + 1);
            let scope = config::scoped("num_workers", 6).unwrap();
            let called = config::snapshot().unwrap().overriding("num_workers", 7).unwrap().enter();

            let here = file!();
            let expected = [
                "num_workers = 7, from the argument of the call".to_owned(),
                format!("  instead of 6, from a scope opened at {here}:{line}"),
                format!("  instead of 5, from config::set at {here}:{set_line}"),
                "  instead of 4, from environment variable SPRANG_NUM_WORKERS".to_owned(),
                format!("  instead of 3, from {}:3", shown("work/../named.toml")),
                format!("  instead of 2, from {}:2", shown("work/sprang.toml")),
                format!("  instead of 1, from {}:1", shown("home/.config/sprang/sprang.toml")),
                "  instead of auto, from the default".to_owned(),
            ];
            assert_eq!(config::explain("num_workers").unwrap().to_string(), expected.join("\n"));

            assert_eq!(get("num_workers"), "7");
            drop(called);
            assert_eq!(get("num_workers"), "6");
            drop(scope);
            assert_eq!(get("num_workers"), "5");
            config::unset("num_workers").unwrap();
            assert_eq!(get("num_workers"), "4");
        },
    );
}

#[test]
fn the_named_file_prevails_over_the_one_in_the_current_folder() {
    alone(
        |room| {
            room.file("work/sprang.toml", "num_workers = 2\norder = 'fast'");
            room.file("named.toml", "num_workers = 3");
            room.env("SPRANG_CONFIG", room.path("named.toml"));
        },
        || {
            assert_eq!(get("num_workers"), "3");
            assert_eq!(get("order"), "fast");
        },
    );
}

#[test]
fn the_current_folder_prevails_over_the_users() {
    alone(
        |room| {
            room.file("home/.config/sprang/sprang.toml", "num_workers = 1\norder = 'fast'");
            room.file("work/sprang.toml", "num_workers = 2");
        },
        || {
            assert_eq!(get("num_workers"), "2");
            assert_eq!(get("order"), "fast");
        },
    );
}

#[test]
fn xdg_config_home_stands_for_the_users_folder() {
    alone(
        |room| {
            room.file("home/.config/sprang/sprang.toml", "num_workers = 1");
            room.file("xdg/sprang/sprang.toml", "num_workers = 2");
            room.env("XDG_CONFIG_HOME", room.path("xdg"));
        },
        || assert_eq!(get("num_workers"), "2"),
    );
}

#[test]
fn a_relative_xdg_config_home_counts_as_not_given() {
    alone(
        |room| {
            room.file("home/.config/sprang/sprang.toml", "num_workers = 1");
            room.file("work/xdg/sprang/sprang.toml", "num_workers = 2");
            room.env("XDG_CONFIG_HOME", "xdg");
        },
        || assert_eq!(get("num_workers"), "1"),
    );
}

#[test]
fn a_variable_is_read_in_any_case_and_as_its_setting_wants_it() {
    alone(
        |room| {
            room.env("SPRANG_scheduler", "Single-Threaded");
            room.env("SPRANG_Num-Workers", "12");
            room.env("SPRANG_CHECK_PORTABLE", "True");
            room.env("SPRANG_ORDER", "FAST");
        },
        || {
            assert_eq!(get("scheduler"), "sync");
            assert_eq!(get("num_workers"), "12");
            assert_eq!(get("check_portable"), "true");
            assert_eq!(get("order"), "fast");
        },
    );
}

#[test]
fn auto_and_none_leave_an_optional_setting_open() {
    alone(
        |room| {
            room.file("work/sprang.toml", "num_workers = 'auto'");
            room.env("SPRANG_NUM_WORKERS", "None");
        },
        || {
            let origin = config::explain("num_workers").unwrap();
            assert_eq!(origin.value(), "auto");
            assert_eq!(*origin.origin(), Origin::Variable("SPRANG_NUM_WORKERS".into()));
            assert_eq!(origin.instead_of().next().unwrap().0, "auto");
            config::set("num_workers", 3).unwrap();
            let _scope = config::scoped("num_workers", "auto").unwrap();
            assert_eq!(get("num_workers"), "auto");
        },
    );
}

#[test]
fn a_hyphen_equals_an_underscore() {
    alone(
        |room| {
            room.file("work/sprang.toml", "num-workers = 1\ncheck_portable = true");
        },
        || {
            assert_eq!(get("num_workers"), "1");
            assert_eq!(get("check-portable"), "true");
            config::set("num-workers", 2).unwrap();
            assert_eq!(get("num_workers"), "2");
            config::set("num_workers", 3).unwrap();
            assert_eq!(get("num-workers"), "3");
            let _scope = config::scoped("num-workers", 4).unwrap();
            assert_eq!(get("num_workers"), "4");
            config::unset("num-workers").unwrap();
            assert_eq!(config::explain("num-workers").unwrap().instead_of().len(), 2);
        },
    );
}

#[test]
fn variables_of_others_are_ignored_whatever_they_contain() {
    alone(
        |room| {
            room.env("SPRANGLE_ORDER", "fast").env("sprang_order", "fast").env("SPRANG", "x");
            #[cfg(unix)]
            room.env("OTHER", not_utf8());
        },
        || assert_eq!(get("order"), "memory"),
    );
}

#[cfg(unix)]
pub(crate) fn not_utf8() -> &'static std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(b"x\xff")
}

#[test]
fn code_may_give_values_of_every_fitting_type() {
    alone(
        |_| {},
        || {
            for value in [config::Value::from(3_u8), 3_i64.into(), 3_usize.into(), NonZeroUsize::new(3).unwrap().into()]
            {
                config::set("num_workers", "auto").unwrap();
                config::set("num_workers", value).unwrap();
                assert_eq!(get("num_workers"), "3");
            }
            config::set("scheduler", Scheduler::Sync).unwrap();
            assert_eq!(get("scheduler"), "sync");
            config::set("scheduler", String::from("THREADING")).unwrap();
            assert_eq!(get("scheduler"), "threads");
            config::set("scheduler", Arc::new(Mine)).unwrap();
            assert_eq!(get("scheduler"), "mine");
            config::set("scheduler", Arc::new(Mine) as Arc<dyn Executor>).unwrap();
            assert!(matches!(config::settings().unwrap().scheduler, Scheduler::Custom(_)));
            config::set("errors", Errors::Collect).unwrap();
            assert_eq!(get("errors"), "collect");
            config::set("order", Order::Fast).unwrap();
            assert_eq!(get("order"), "fast");
            config::set("check_portable", true).unwrap();
            assert_eq!(get("check_portable"), "true");
        },
    );
}

#[test]
fn a_run_can_be_given_a_scheduler_without_ado() {
    alone(
        |_| {},
        || {
            let before = config::snapshot().unwrap();
            let run = before.with_scheduler(Scheduler::Sync);
            assert!(matches!(run.settings().scheduler, Scheduler::Sync));
            assert!(matches!(before.settings().scheduler, Scheduler::Threads));
            let _entered = run.enter();
            assert_eq!(*config::explain("scheduler").unwrap().origin(), Origin::Call);
        },
    );
}

#[test]
fn set_is_seen_by_threads_that_had_asked_before() {
    alone(
        |_| {},
        || {
            let (asked, ask) = std::sync::mpsc::channel();
            let (told, tell) = std::sync::mpsc::channel::<()>();
            let other = std::thread::spawn(move || {
                asked.send(get("order")).unwrap();
                tell.recv().unwrap();
                get("order")
            });
            assert_eq!(ask.recv().unwrap(), "memory");
            config::set("order", "fast").unwrap();
            told.send(()).unwrap();
            assert_eq!(other.join().unwrap(), "fast");
        },
    );
}

#[test]
fn files_are_read_once_and_again_by_refresh() {
    alone(
        |room| {
            room.file("work/sprang.toml", "num_workers = 1\norder = 'fast'\ncheck_portable = true");
        },
        || {
            config::set("check_portable", false).unwrap();
            let _scope = config::scoped("scheduler", "sync").unwrap();
            assert_eq!(get("num_workers"), "1");
            std::fs::write("sprang.toml", "num_workers = 2\nscheduler = 'threads'\ncheck_portable = true").unwrap();
            assert_eq!(get("num_workers"), "1");
            config::refresh().unwrap();
            assert_eq!(get("num_workers"), "2");
            assert_eq!(get("order"), "memory", "what the file no longer says is forgotten");
            assert_eq!(get("check_portable"), "false", "what was set stays");
            assert_eq!(get("scheduler"), "sync", "what is scoped stays");
        },
    );
}

/// Any of these calls may drop the last handle of a custom executor, whose destructor may read the
/// configuration.
#[test]
fn an_executor_may_ask_for_the_configuration_when_it_is_dropped() {
    struct Asks;
    impl Executor for Asks {
        fn name(&self) -> &str {
            "asks"
        }
        fn execute(&self, _: &Arc<Run>) {}
    }
    impl Drop for Asks {
        fn drop(&mut self) {
            config::settings().unwrap();
            match config::scoped("order", "fast") {
                Ok(_scope) => assert_eq!(get("order"), "fast"),
                Err(error) => {
                    let expected = "config::scoped: this thread is ending and takes no more scopes";
                    assert_eq!(error.to_string(), expected);
                }
            }
        }
    }
    alone(
        |_| {},
        || {
            let ask = || {
                config::settings().unwrap();
            };
            for _ in 0..2 {
                config::set("scheduler", Arc::new(Asks)).unwrap();
                ask();
            }
            config::unset("scheduler").unwrap();
            ask();
            config::set("scheduler", Arc::new(Asks)).unwrap();
            config::refresh().unwrap();
            config::unset("scheduler").unwrap();
            ask();
            config::with("scheduler", Arc::new(Asks), ask).unwrap();
            let entered = config::snapshot().unwrap().overriding("scheduler", Arc::new(Asks)).unwrap().enter();
            ask();
            config::with("scheduler", Arc::new(Asks), ask).unwrap();
            drop(entered);
            config::set("order", Arc::new(Asks)).unwrap_err();
            // At the end of a thread, while its thread-local storage is destroyed.
            std::thread::spawn(move || {
                std::mem::forget(config::scoped("scheduler", Arc::new(Asks)));
                ask();
            })
            .join()
            .unwrap();
        },
    );
}
