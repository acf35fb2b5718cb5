//! The mistakes that are refused, and their messages.

use crate::child::{alone, shown};
use crate::{get, mistake};
use sprang::config;

/// Checks that `text` in `./sprang.toml` is refused with `message`, where `@` stands for the file's
/// path.
macro_rules! refused_files {
    ($($(#[$comment:meta])* $name:ident: $text:expr => $message:expr;)*) => {$(
        $(#[$comment])*
        #[test]
        fn $name() {
            alone(
                |room| {
                    room.file("work/sprang.toml", $text);
                },
                || assert_eq!(mistake(), $message.replace('@', &shown("work/sprang.toml"))),
            );
        }
    )*};
}

refused_files! {
    an_unknown_key_in_a_file_is_refused_with_its_line_and_the_nearest:
        "# ours\nnum_worker = 4\n"
        => "@:2: unknown setting \"num_worker\"; the nearest is \"num_workers\"; rename it, or remove it";
    an_unknown_key_that_is_near_to_none_is_refused_with_all_that_are_known:
        "frobnicate = 4"
        => "@:1: unknown setting \"frobnicate\"; known are \"scheduler\", \"num_workers\", \"stack_size\", \"errors\", \"on_failure\", \"retries\", \"retry_delay\", \"retry_max_delay\", \"order\", \
            \"check_portable\", \"strict_config\", \"dashboard\", \"stall_timeout\", \"run_timeout\", \"close_timeout\", \"processes.max_attempts\", \"processes.start_timeout\", \"processes.idle_timeout\", \
            \"processes.memory_limit\", \"processes.max_tasks_per_worker\", \"processes.stdio\", \"processes.environment\", \
            \"processes.working_directory\", \"processes.initializer\", \"processes.local_tasks\", \"processes.codec\", \
            \"processes.core_dumps\", \"processes.cancel_grace\", \"processes.shared_memory_limit\", \
            \"processes.threads_per_worker\"; rename it, or remove it";
    a_key_without_its_table_is_refused_with_the_whole_name:
        "memory-limit = '1 GiB'"
        => "@:1: unknown setting \"memory-limit\"; the nearest is \"processes.memory_limit\"; rename it, or remove it";
    an_unknown_key_in_a_table_is_refused_with_its_line:
        "[processes]\nmax_attempts = 1\nstdout = 'null'"
        => "@:3: unknown setting \"processes.stdout\"; the nearest is \"processes.stdio\"; rename it, or remove it";
    a_duration_without_a_unit_is_refused:
        "processes.cancel_grace = '5'"
        => "@:1: \"processes.cancel_grace\" cannot be \"5\"; give a duration such as \"500ms\", or a whole number of seconds";
    a_duration_in_an_unknown_unit_is_refused:
        "processes.cancel_grace = '5 blinks'"
        => "@:1: \"processes.cancel_grace\" cannot be \"5 blinks\"; give a duration such as \"500ms\", or a whole number of \
            seconds";
    no_time_to_start_is_refused:
        "processes.start_timeout = 0"
        => "@:1: \"processes.start_timeout\" cannot be 0; give a duration above 0, such as \"30s\", or a whole number of seconds";
    a_size_that_is_none_is_refused:
        "processes.memory_limit = 'much'"
        => "@:1: \"processes.memory_limit\" cannot be \"much\"; give a size above 0, such as \"512 MiB\", a whole number of bytes, \
            or \"none\"";
    a_negative_size_is_refused:
        "processes.memory_limit = -1"
        => "@:1: \"processes.memory_limit\" cannot be -1; give a size above 0, such as \"512 MiB\", a whole number of bytes, or \
            \"none\"";
    an_initializer_is_not_given_as_text:
        "[processes]\ninitializer = 'setup'"
        => "@:2: \"processes.initializer\" cannot be \"setup\"; give a `config::Initializer`, which can be given from code only, \
            or \"none\"";
    an_environment_that_is_no_list_of_names_and_texts_is_refused:
        "processes.environment = 'LANG'"
        => "@:1: \"processes.environment\" cannot be \"LANG\"; give a table of texts, a text such as \
            \"NAME=VALUE,OTHER=VALUE\" with `\\,` for a comma and `\\\\` for a backslash, or \"none\"";
    a_variable_that_is_no_text_is_refused:
        "[processes.environment]\nLANG = 'C'\nTHREADS = 1"
        => "@:1: \"processes.environment\" cannot be a TOML table; give a table of texts, a text such as \
            \"NAME=VALUE,OTHER=VALUE\" with `\\,` for a comma and `\\\\` for a backslash, or \"none\"";
    a_variable_with_a_name_that_cannot_be_is_refused:
        "[processes.environment]\n'A B' = 'C'"
        => "@:1: \"processes.environment\" cannot be the texts {\"A B\": \"C\"}; give a table of texts, a text such as \
            \"NAME=VALUE,OTHER=VALUE\" with `\\,` for a comma and `\\\\` for a backslash, or \"none\"";
    a_key_in_an_unknown_table_is_refused_with_its_line:
        "[sched]\n\nuler = 'sync'"
        => "@:3: unknown setting \"sched.uler\"; the nearest is \"scheduler\"; rename it, or remove it";
    an_empty_unknown_table_is_refused:
        "\n[ordr]"
        => "@:2: unknown setting \"ordr\"; the nearest is \"order\"; rename it, or remove it";
    a_wrong_type_in_a_file_is_refused_with_its_line:
        "order = 'fast'\nnum_workers = '4'"
        => "@:2: \"num_workers\" cannot be \"4\"; give a whole number from 1, or \"auto\" for one per core";
    a_number_is_no_scheduler:
        "scheduler = 3"
        => "@:1: \"scheduler\" cannot be 3; give \"threads\", \"processes\" or \"sync\"";
    an_unknown_scheduler_is_refused_with_those_known:
        "scheduler = 'thread'"
        => "@:1: \"scheduler\" cannot be \"thread\"; give \"threads\", \"processes\" or \"sync\"";
    text_is_no_truth_value_in_a_file:
        "check_portable = 'true'"
        => "@:1: \"check_portable\" cannot be \"true\"; give true or false";
    an_array_is_refused:
        "\norder = [\n'fast']"
        => "@:2: \"order\" cannot be a TOML array; give \"memory\" or \"fast\"";
    a_table_in_the_place_of_a_value_is_refused:
        "[order]\nfast = true"
        => "@:1: \"order\" cannot be a TOML table; give \"memory\" or \"fast\"";
    half_a_worker_is_refused:
        "num_workers = 0.5"
        => "@:1: \"num_workers\" cannot be a TOML float; give a whole number from 1, or \"auto\" for one per core";
    zero_workers_in_a_file_are_refused_with_what_to_do:
        "num_workers = 0"
        => "@:1: \"num_workers\" cannot be 0; give a whole number from 1, or \"auto\" for one per core";
    fewer_workers_than_none_are_refused:
        "num_workers = -1"
        => "@:1: \"num_workers\" cannot be -1; give a whole number from 1, or \"auto\" for one per core";
    a_setting_that_stands_twice_is_refused_with_both_lines:
        "num_workers = 1\n\nnum-workers = 2"
        => "@:3: \"num_workers\" is already set in line 1; remove one";
    of_several_mistakes_the_first_is_reported:
        "order = 1\nerrors = 1\ncheck_portable = 1"
        => "@:1: \"order\" cannot be 1; give \"memory\" or \"fast\"";
    a_file_that_is_not_toml_is_refused_with_the_line:
        "order = 'fast'\nerrors\n"
        => "@:2: this is not TOML: key with no value, expected `=`; correct it, or remove the file";
    a_file_that_ends_too_soon_is_refused_with_the_line:
        "order = 'fast'\nerrors = \"st"
        => "@:2: this is not TOML: invalid basic string, expected `\"`; correct it, or remove the file";
    a_file_that_is_not_utf8_is_refused_with_the_line:
        b"order = 'fast'\n# \xff\n"
        => "@:2: this is not UTF-8; save the file as UTF-8";
}

#[test]
fn a_mistake_in_the_users_file_names_that_file() {
    alone(
        |room| {
            room.file("home/.config/sprang/sprang.toml", "ordr = 'fast'");
        },
        || {
            let path = shown("home/.config/sprang/sprang.toml");
            let expected = "unknown setting \"ordr\"; the nearest is \"order\"; rename it, or remove it";
            assert_eq!(mistake(), format!("{path}:1: {expected}"));
        },
    );
}

#[test]
fn a_named_file_that_is_missing_is_refused() {
    alone(
        |room| {
            room.env("SPRANG_CONFIG", "missing.toml");
        },
        || {
            let path = shown("work/missing.toml");
            assert_eq!(
                mistake(),
                format!(
                    "environment variable SPRANG_CONFIG names {path:?}, which cannot be read: \
                     No such file or directory (os error 2); name another file, or unset it"
                )
            );
            let error = config::settings().unwrap_err();
            let source = std::error::Error::source(&error).unwrap();
            assert_eq!(source.downcast_ref::<std::io::Error>().unwrap().kind(), std::io::ErrorKind::NotFound);
        },
    );
}

#[test]
fn a_named_file_that_is_a_folder_is_refused() {
    alone(
        |room| {
            room.env("SPRANG_CONFIG", room.path("home"));
        },
        || {
            let start = format!("environment variable SPRANG_CONFIG names {:?}, which cannot be read: ", shown("home"));
            assert!(mistake().starts_with(&start), "{}", mistake());
        },
    );
}

#[test]
fn an_empty_name_of_a_file_is_refused() {
    alone(
        |room| {
            room.env("SPRANG_CONFIG", "");
        },
        || assert!(mistake().starts_with("environment variable SPRANG_CONFIG names \"\", which cannot be read: ")),
    );
}

#[test]
fn a_named_file_with_a_mistake_is_refused_with_its_line() {
    alone(
        |room| {
            room.file("named.toml", "\norder = 2").env("SPRANG_CONFIG", "../named.toml");
        },
        || {
            let path = shown("work/../named.toml");
            assert_eq!(mistake(), format!("{path}:2: \"order\" cannot be 2; give \"memory\" or \"fast\""));
        },
    );
}

#[test]
fn a_folder_in_the_place_of_a_file_is_refused() {
    alone(
        |room| {
            std::fs::create_dir(room.path("work/sprang.toml")).unwrap();
        },
        || {
            let start = format!("{:?} cannot be read: ", shown("work/sprang.toml"));
            assert!(mistake().starts_with(&start), "{}", mistake());
            assert!(mistake().ends_with("; make it a readable file, or remove it"), "{}", mistake());
        },
    );
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_refused() {
    alone(
        |room| std::os::unix::fs::symlink("missing", room.path("work/sprang.toml")).unwrap(),
        || {
            let path = shown("work/sprang.toml");
            let remedy = "make it a readable file, or remove it";
            let expected = format!("{path:?} cannot be read: No such file or directory (os error 2); {remedy}");
            assert_eq!(mistake(), expected);
        },
    );
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_to_itself_is_refused() {
    alone(
        |room| {
            let folder = room.path("home/.config/sprang");
            std::fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink("sprang.toml", folder.join("sprang.toml")).unwrap();
        },
        || {
            let start = format!("{:?} cannot be read: ", shown("home/.config/sprang/sprang.toml"));
            assert!(mistake().starts_with(&start), "{}", mistake());
        },
    );
}

#[test]
fn a_users_folder_that_is_a_file_has_no_configuration() {
    alone(
        |room| {
            room.file("home/.config", "");
        },
        || assert_eq!(get("order"), "memory"),
    );
}

/// Checks that the variable is refused with the message.
macro_rules! refused_variables {
    ($($name:ident: $variable:literal = $value:expr => $message:expr;)*) => {$(
        #[test]
        fn $name() {
            alone(
                |room| {
                    room.env($variable, $value);
                },
                || assert_eq!(mistake(), $message),
            );
        }
    )*};
}

refused_variables! {
    a_wrong_value_in_a_variable_is_refused: "SPRANG_num_workers" = "many"
        => "environment variable SPRANG_num_workers: \"num_workers\" cannot be \"many\"; give a whole number from 1, or \
            \"auto\" for one per core, or unset it";
    zero_workers_in_a_variable_are_refused: "SPRANG_NUM_WORKERS" = "0"
        => "environment variable SPRANG_NUM_WORKERS: \"num_workers\" cannot be \"0\"; give a whole number from 1, or \
            \"auto\" for one per core, or unset it";
    an_empty_variable_is_refused: "SPRANG_ORDER" = ""
        => "environment variable SPRANG_ORDER: \"order\" cannot be \"\"; give \"memory\" or \"fast\", or unset it";
    a_setting_that_is_not_optional_cannot_be_none: "SPRANG_ORDER" = "none"
        => "environment variable SPRANG_ORDER: \"order\" cannot be \"none\"; give \"memory\" or \"fast\", or unset it";
}

#[cfg(unix)]
refused_variables! {
    a_variable_that_is_not_utf8_is_refused: "SPRANG_SCHEDULER" = crate::layers::not_utf8()
        => "environment variable SPRANG_SCHEDULER: its value is not UTF-8: \"x\\xFF\"; set it again, or unset it";
}

/// Collects the warnings of the `log` crate.
struct Warnings(parking_lot::Mutex<Vec<String>>);

static WARNINGS: Warnings = Warnings(parking_lot::Mutex::new(Vec::new()));

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        // A logger may read the configuration: sprang holds no lock while it logs.
        assert_eq!(get("order"), "fast");
        self.0.lock().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Checks that the variable is an error with the message under `strict_config`, and otherwise one
/// warning with the same message, beside settings that work.
fn check_unknown_variable(message: &str) {
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    assert_eq!(get("order"), "fast", "the settings before and after the unknown variable apply");
    assert_eq!(get("scheduler"), "sync");
    assert_eq!(*WARNINGS.0.lock(), [format!("{message}; it has no effect")]);
    config::set("strict_config", true).unwrap();
    assert_eq!(mistake(), message);
    config::unset("strict_config").unwrap();
    assert_eq!(get("order"), "fast");
    assert_eq!(WARNINGS.0.lock().len(), 1, "the environment is read once");
}

macro_rules! unknown_variables {
    ($($name:ident: $variable:expr => $message:expr;)*) => {$(
        #[test]
        fn $name() {
            alone(
                |room| {
                    room.env("SPRANG_ORDER", "fast").env($variable, "true").env("SPRANG_SCHEDULER", "sync");
                },
                || check_unknown_variable($message),
            );
        }
    )*};
}

unknown_variables! {
    an_unknown_variable_is_a_warning_with_the_nearest_name: "SPRANG_NUM_WORKER"
        => "environment variable SPRANG_NUM_WORKER: unknown setting \"num_worker\"; the nearest is SPRANG_NUM_WORKERS; \
            rename it, or unset it";
    two_underscores_in_a_variable_stand_for_a_table: "SPRANG_CHECK__PORTABLE"
        => "environment variable SPRANG_CHECK__PORTABLE: unknown setting \"check.portable\"; the nearest is \
            SPRANG_CHECK_PORTABLE; rename it, or unset it";
}

#[cfg(unix)]
unknown_variables! {
    a_variable_whose_name_is_not_utf8_is_a_warning:
        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"SPRANG_\xff")
        => "environment variable \"SPRANG_\\xFF\": its name is not UTF-8; unset it";
}

#[test]
fn a_file_or_a_variable_can_make_unknown_variables_an_error() {
    let unknown = "environment variable SPRANG_ODER: unknown setting \"oder\"; the nearest is SPRANG_ORDER; \
                   rename it, or unset it";
    alone(
        |room| {
            room.file("work/sprang.toml", "strict_config = true").env("SPRANG_ODER", "fast");
        },
        || {
            assert_eq!(mistake(), unknown);
            config::set("strict_config", false).unwrap();
            assert_eq!(get("order"), "memory");
        },
    );
}

#[cfg(unix)]
#[test]
fn a_setting_in_two_variables_is_refused() {
    alone(
        |room| {
            room.env("SPRANG_ORDER", "fast").env("SPRANG_order", "fast");
        },
        || {
            let expected =
                "environment variables SPRANG_ORDER and SPRANG_order are the same setting; unset one of them";
            assert_eq!(mistake(), expected);
        },
    );
}

#[test]
fn a_call_with_an_unknown_key_or_a_wrong_value_is_refused_and_changes_nothing() {
    alone(
        |_| {},
        || {
            let unknown = |call: &str| format!("{call}: unknown setting \"Order\"; the nearest is \"order\"");
            let wrong = |call: &str| format!("{call}: \"order\" cannot be \"slow\"; give \"memory\" or \"fast\"");
            let text = |error: sprang::Error| {
                assert_eq!(error.kind(), sprang::ErrorKind::Config);
                error.to_string()
            };
            let here = config::snapshot().unwrap();

            assert_eq!(text(config::set("Order", "fast").unwrap_err()), unknown("config::set"));
            assert_eq!(text(config::set("order", "slow").unwrap_err()), wrong("config::set"));
            assert_eq!(text(config::unset("Order").unwrap_err()), unknown("config::unset"));
            assert_eq!(text(config::get("Order").unwrap_err()), unknown("config::get"));
            assert_eq!(text(config::explain("Order").unwrap_err()), unknown("config::explain"));
            assert_eq!(text(config::scoped("Order", "fast").unwrap_err()), unknown("config::scoped"));
            assert_eq!(text(config::scoped("order", "slow").unwrap_err()), wrong("config::scoped"));
            assert_eq!(text(config::with("order", "slow", || panic!("called")).unwrap_err()), wrong("config::with"));
            let scope = config::scoped("errors", "collect").unwrap();
            assert_eq!(text(scope.and("order", "slow").unwrap_err()), wrong("Scope::and"));
            assert_eq!(get("errors"), "stop");
            assert_eq!(text(here.overriding("order", "slow").unwrap_err()), wrong("Snapshot::overriding"));
            assert_eq!(
                text(config::set("order", sprang::Scheduler::Sync).unwrap_err()),
                "config::set: \"order\" cannot be the scheduler \"sync\"; give \"memory\" or \"fast\""
            );
            assert_eq!(
                text(config::set("num_workers", 0).unwrap_err()),
                "config::set: \"num_workers\" cannot be 0; give a whole number from 1, or \"auto\" for one per core"
            );
            assert_eq!(get("order"), "memory");
            assert_eq!(config::explain("order").unwrap().instead_of().len(), 0);
        },
    );
}

#[test]
fn a_mistake_is_reported_until_refresh_finds_it_repaired() {
    alone(
        |room| {
            room.file("work/sprang.toml", "order = 1");
        },
        || {
            let first = mistake();
            // Calls that do not need the file work meanwhile.
            config::set("errors", "collect").unwrap();
            let _scope = config::scoped("num_workers", 2).unwrap();
            assert_eq!(mistake(), first);

            std::fs::write("sprang.toml", "errors = 1").unwrap();
            assert_eq!(mistake(), first, "nothing is read without being asked to");
            let second = config::refresh().unwrap_err().to_string();
            assert!(second.contains("\"errors\" cannot be 1"), "{second}");
            assert_eq!(mistake(), second);

            std::fs::write("sprang.toml", "order = 'fast'").unwrap();
            config::refresh().unwrap();
            assert_eq!(
                (get("order"), get("errors"), get("num_workers")),
                ("fast".into(), "collect".into(), "2".into())
            );
        },
    );
}

#[test]
fn a_refresh_that_fails_keeps_what_was_read_before() {
    alone(
        |room| {
            room.file("work/sprang.toml", "order = 'fast'");
        },
        || {
            assert_eq!(get("order"), "fast");
            std::fs::write("sprang.toml", "order = 'slow'").unwrap();
            config::refresh().unwrap_err();
            assert_eq!(get("order"), "fast");
        },
    );
}

#[test]
fn a_task_that_is_submitted_with_a_mistake_in_the_configuration_fails_with_it() {
    alone(
        |room| {
            room.env("SPRANG_NO_SUCH_SETTING", "1");
        },
        || {
            let client = sprang::Client::threads(1).unwrap();
            config::set("strict_config", true).unwrap();
            let graph = sprang::delayed(|x: &u8| *x, (&sprang::delayed(|| 1_u8, ()),));
            let futures = [client.submit(|| 1_u8, ()), client.submit_local(|| 1_u8, ()), client.compute(&graph)];
            for error in futures.iter().map(|future| future.error().unwrap()) {
                assert_eq!(error.kind(), sprang::ErrorKind::Config);
                assert!(error.to_string().contains("SPRANG_NO_SUCH_SETTING"), "{error}");
            }
            let group = client.compute((&graph, &graph));
            assert_eq!(group.0.error().unwrap().kind(), sprang::ErrorKind::Config);
            config::unset("strict_config").unwrap();
            assert_eq!(client.submit(|| 1_u8, ()).result().unwrap(), 1);
            assert_eq!(client.num_pending(), 0);
        },
    );
}
