//! Every setting there is: one row in [`SETTINGS`] and one field in [`Settings`] each.
//!
//! To add a setting, add the field with its default and the row; a dot in the row's name makes it a key of a TOML table
//! (`processes.local_tasks` stands in `[processes]` and is `SPRANG_PROCESSES__LOCAL_TASKS`). Then write the table in
//! `docs/configuration.md` again, with the command that stands there.

use super::value::{Given, Value};
use crate::executor::Scheduler;
use std::fmt;
use std::num::NonZeroUsize;

/// Every setting, resolved.
///
/// [`settings`](super::settings) gives the ones in force. The table in `docs/configuration.md`, which is [`table`](super::table),
/// lists what each may be given.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Which executor runs a graph.
    pub scheduler: Scheduler,
    /// How many workers run tasks; `None` is as many as there are cores.
    pub num_workers: Option<NonZeroUsize>,
    /// What the failure of a task does to the rest of the run.
    pub errors: Errors,
    /// What the order of ready tasks is chosen for.
    pub order: Order,
    /// Whether every value that passes from task to task is encoded and decoded on the way, to find those that would not survive
    /// the journey to another process.
    pub check_portable: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            scheduler: Scheduler::Threads,
            num_workers: None,
            errors: Errors::Stop,
            order: Order::Memory,
            check_portable: false,
        }
    }
}

/// The setting `errors`: what the failure of a task does to the rest of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Errors {
    /// The first failure stops the run: `"stop"`.
    #[default]
    Stop,
    /// What does not depend on the failure is finished: `"collect"`.
    Collect,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Errors::Stop => "stop",
            Errors::Collect => "collect",
        })
    }
}

/// The setting `order`: what the order of ready tasks is chosen for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// Few values at a time, at the price of ranking the graph first: `"memory"`.
    #[default]
    Memory,
    /// The least work before the first task starts: `"fast"`.
    Fast,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Memory => "memory",
            Order::Fast => "fast",
        })
    }
}

/// One row of the schema. The default and the variable's name are derived, so that they cannot contradict anything.
#[derive(Debug)]
pub(super) struct Setting {
    /// Lower case, words joined by `_`, tables by `.`.
    pub(super) name: &'static str,
    /// What may be given, to follow "give".
    pub(super) kind: &'static str,
    /// One sentence.
    pub(super) doc: &'static str,
    /// Puts the value into its field; `None` where the setting cannot take it.
    pub(super) write: fn(&mut Settings, &Value) -> Option<()>,
    /// The field as text.
    pub(super) show: fn(&Settings) -> String,
}

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "scheduler",
        kind: r#""threads" or "sync""#,
        doc: "Which executor runs a graph; from code also a `Scheduler` or an executor.",
        write: |settings, value| scheduler(value).map(|it| settings.scheduler = it),
        show: |settings| settings.scheduler.to_string(),
    },
    Setting {
        name: "num_workers",
        kind: r#"a whole number from 1, or "auto" for one per core"#,
        doc: "How many workers run tasks.",
        write: |settings, value| or_auto(value, count).map(|it| settings.num_workers = it),
        show: |settings| settings.num_workers.map_or("auto".to_owned(), |n| n.to_string()),
    },
    Setting {
        name: "errors",
        kind: r#""stop" or "collect""#,
        doc: "Whether the first failure stops the run, or what does not depend on it is finished.",
        write: |settings, value| one_of(value, &[Errors::Stop, Errors::Collect]).map(|it| settings.errors = it),
        show: |settings| settings.errors.to_string(),
    },
    Setting {
        name: "order",
        kind: r#""memory" or "fast""#,
        doc: "Whether tasks are ranked to keep few values at a time, or the run starts with the least preparation.",
        write: |settings, value| one_of(value, &[Order::Memory, Order::Fast]).map(|it| settings.order = it),
        show: |settings| settings.order.to_string(),
    },
    Setting {
        name: "check_portable",
        kind: "true or false",
        doc: "Whether every value is encoded and decoded on its way from task to task, to find those that are not portable.",
        write: |settings, value| truth(value).map(|it| settings.check_portable = it),
        show: |settings| settings.check_portable.to_string(),
    },
];

fn text(value: &Value) -> Option<&str> {
    match &value.0 {
        Given::Text(text) | Given::Untyped(text) => Some(text),
        _ => None,
    }
}

fn scheduler(value: &Value) -> Option<Scheduler> {
    match &value.0 {
        Given::Scheduler(scheduler) => Some(scheduler.clone()),
        _ => text(value)?.parse().ok(),
    }
}

fn count(value: &Value) -> Option<NonZeroUsize> {
    let number = match &value.0 {
        Given::Integer(number) => usize::try_from(*number).ok()?,
        Given::Untyped(text) => text.parse().ok()?,
        _ => return None,
    };
    NonZeroUsize::new(number)
}

fn truth(value: &Value) -> Option<bool> {
    match &value.0 {
        Given::Boolean(truth) => Some(*truth),
        Given::Untyped(text) => text.to_ascii_lowercase().parse().ok(),
        _ => None,
    }
}

fn one_of<T: Copy + fmt::Display>(value: &Value, choices: &[T]) -> Option<T> {
    let text = text(value)?;
    choices.iter().copied().find(|choice| choice.to_string().eq_ignore_ascii_case(text))
}

/// An optional setting: "auto" and "none" leave the choice to sprang.
fn or_auto<T>(value: &Value, read: fn(&Value) -> Option<T>) -> Option<Option<T>> {
    match text(value) {
        Some(text) if text.eq_ignore_ascii_case("auto") || text.eq_ignore_ascii_case("none") => Some(None),
        _ => read(value).map(Some),
    }
}

impl Setting {
    /// The environment variable for it.
    pub(super) fn variable(&self) -> String {
        format!("SPRANG_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// How errors say what it cannot be.
    pub(super) fn refuse(&self, given: impl fmt::Display) -> String {
        format!("{:?} cannot be {given}; give {}", self.name, self.kind)
    }

    /// Whether it can take `value`; if not, how to say so.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        (self.write)(&mut Settings::default(), value).ok_or_else(|| self.refuse(value))
    }

    /// `value` as [`show`](Setting::show) would give it back.
    pub(super) fn show_value(&self, value: &Value) -> String {
        let mut settings = Settings::default();
        (self.write)(&mut settings, value).expect("a value was checked before it entered its layer");
        (self.show)(&settings)
    }
}

/// The setting called `key`, where `-` equals `_`.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    let key = key.replace('-', "_");
    SETTINGS.iter().find(|setting| setting.name == key)
}

/// Whether settings stand in the TOML table called `key`.
pub(super) fn is_table(key: &str) -> bool {
    let prefix = format!("{}.", key.replace('-', "_"));
    SETTINGS.iter().any(|setting| setting.name.starts_with(&prefix))
}

/// How errors say that there is no setting `key`. `spell` gives the form in which to name the settings there are.
pub(super) fn unknown(key: &str, spell: fn(&Setting) -> String) -> String {
    let wanted = key.replace('-', "_").to_ascii_lowercase();
    let distance = |setting: &Setting| strsim::osa_distance(&wanted, setting.name);
    let nearest = SETTINGS.iter().min_by_key(|setting| distance(setting)).expect("there are settings");
    // Beyond this, the nearest is a guess that helps nobody.
    if distance(nearest) * 2 <= wanted.len().max(nearest.name.len()) {
        format!("unknown setting {key:?}; the nearest is {}", spell(nearest))
    } else {
        let known: Vec<String> = SETTINGS.iter().map(spell).collect();
        format!("unknown setting {key:?}; known are {}", known.join(", "))
    }
}

/// A setting's name as a file or a call spells it.
pub(super) fn quoted(setting: &Setting) -> String {
    format!("{:?}", setting.name)
}

/// A Markdown table of all settings: name, what may be given, default, environment variable and meaning.
///
/// # Examples
/// ```
/// assert!(sprang::config::table().contains("| `num_workers` |"));
/// ```
pub fn table() -> String {
    let defaults = Settings::default();
    let mut table = "| setting | values | default | variable | meaning |\n|---|---|---|---|---|\n".to_owned();
    for setting in SETTINGS {
        let Setting { name, kind, doc, .. } = setting;
        let (default, variable) = ((setting.show)(&defaults), setting.variable());
        table += &format!("| `{name}` | {kind} | `{default}` | `{variable}` | {doc} |\n");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_written_the_one_way_that_keys_are_compared_in() {
        for setting in SETTINGS {
            assert_eq!(setting.name, setting.name.to_ascii_lowercase().replace('-', "_"));
            assert!(std::ptr::eq(find(setting.name).unwrap(), setting), "{:?} stands twice", setting.name);
            assert_ne!(setting.variable(), "SPRANG_CONFIG", "this variable names the file");
        }
    }

    #[test]
    fn every_default_can_be_given_as_it_is_shown() {
        for setting in SETTINGS {
            let default = (setting.show)(&Settings::default());
            assert_eq!(setting.show_value(&Value(Given::Untyped(default.clone()))), default);
        }
    }

    #[test]
    fn every_word_that_a_row_offers_is_taken() {
        for setting in SETTINGS {
            for word in setting.kind.split('"').skip(1).step_by(2) {
                assert_eq!(setting.show_value(&word.into()), word);
            }
        }
    }
}
