//! `sprang config`: settings, their origins, and configuration files.

use super::{CommandError, Json, Output, complain};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command, Subcommand};
use serde_json::json;
use sprang::config::{self, Explanation, FileRole, Origin, Value};
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum Config {
    /// List all settings with their values and origins.
    List {
        /// Leave out settings that have their default.
        #[arg(long)]
        changed: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Print the value of a setting.
    Get {
        #[arg(value_parser = Key)]
        key: String,
    },
    /// Write a setting to a configuration file. The rest of the file stays as it is.
    Set {
        #[arg(value_parser = Key)]
        key: String,
        /// The value, in the form of an environment variable: 4, true, "2 GiB", "1m 30s".
        value: String,
        /// The file [default: the user's]
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Remove a setting from a configuration file. The rest of the file stays as it is.
    Unset {
        #[arg(value_parser = Key)]
        key: String,
        /// The file [default: the user's]
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Print the files that set a setting, strongest first; without a setting, print all files that
    /// are read.
    Find {
        #[arg(value_parser = Key)]
        key: Option<String>,
    },
    /// Explain a setting: its meaning, its possible values, its value and the origins of all its
    /// values. Without a setting, explain all.
    Explain {
        #[arg(value_parser = Key)]
        key: Option<String>,
    },
}

/// The name of a setting. `-` is the same as `_`.
#[derive(Clone)]
struct Key;

impl Key {
    fn names() -> PossibleValuesParser {
        PossibleValuesParser::new(config::names())
    }
}

impl TypedValueParser for Key {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        let value = value.to_str().map_or_else(|| value.to_owned(), |text| text.replace('-', "_").into());
        Key::names().parse_ref(command, arg, &value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(config::names().map(PossibleValue::new)))
    }
}

impl Config {
    pub(super) fn run(self) -> Output {
        if !matches!(self, Config::Set { .. } | Config::Unset { .. } | Config::Find { key: None }) {
            refuse_unknown_variables()?;
        }
        match self {
            Config::List { changed, json: Json { json } } => list(changed, json),
            Config::Get { key } => Ok(config::get(&key)? + "\n"),
            Config::Set { key, value, file } => set(&key, value, file),
            Config::Unset { key, file } => unset(&key, file),
            Config::Find { key: Some(key) } => find(&key),
            Config::Find { key: None } => Ok(files()),
            Config::Explain { key: Some(key) } => Ok(explained(&config::explain(&key)?)),
            Config::Explain { key: None } => {
                let all: Vec<String> = config::list()?.iter().map(explained).collect();
                Ok(all.join("\n"))
            }
        }
    }
}

/// Reports unknown `SPRANG_*` variables as errors, because this command is used to find mistakes.
fn refuse_unknown_variables() -> sprang::Result<()> {
    config::set("strict_config", true)?;
    let checked = config::settings();
    config::unset("strict_config")?;
    checked.map(drop)
}

fn list(only_changed: bool, as_json: bool) -> Output {
    let mut settings = config::list()?;
    settings.retain(|setting| !only_changed || *setting.origin() != Origin::Default);
    if as_json {
        let object = |setting: &Explanation| {
            json!({
                "name": setting.name(),
                "value": setting.value(),
                "origin": setting.origin().to_string(),
                "meaning": setting.meaning(),
                "values": setting.values(),
            })
        };
        return Ok(format!("{:#}\n", settings.iter().map(object).collect::<serde_json::Value>()));
    }
    let width = |of: fn(&Explanation) -> &str| settings.iter().map(|setting| of(setting).chars().count()).max();
    let name_width = width(|setting| setting.name()).unwrap_or(0);
    // A long value does not widen the column for all.
    let value_width = width(Explanation::value).unwrap_or(0).min(24);
    let mut out = String::new();
    for setting in &settings {
        let (name, value, origin) = (setting.name(), setting.value(), setting.origin());
        let _infallible = writeln!(out, "{name:name_width$} = {value:value_width$}  {origin}");
    }
    Ok(out)
}

fn set(key: &str, value: String, file: Option<PathBuf>) -> Output {
    let value = Value::untyped(value);
    config::check(key, value.clone()).map_err(|error| CommandError::Usage(error.to_string()))?;
    let path = file_of(file)?;
    config::write(&path, key, value)?;
    // The configuration is read for the first time here, so it includes the new value.
    match config::explain(key) {
        Ok(setting) if !matches!(setting.origin(), Origin::File { path: from, .. } if *from == path) => {
            let is_read = config::files().iter().any(|file| file.path == path);
            let hint = if is_read { "" } else { "; this file is not read here, see: sprang config find" };
            let message = format!("{} is still {}, from {}{hint}", setting.name(), setting.value(), setting.origin());
            complain("note", &message);
        }
        Ok(_) => {}
        Err(error) => complain("note", &error),
    }
    Ok(format!("{}\n", path.display()))
}

fn unset(key: &str, file: Option<PathBuf>) -> Output {
    let path = file_of(file)?;
    if !config::erase(&path, key)? {
        let message = format!("{} is not set in {}", key, path.display());
        let elsewhere =
            config::explain(key).ok().map(|setting| format!("; it is {}, from {}", setting.value(), setting.origin()));
        return Err(CommandError::Failed(message + elsewhere.as_deref().unwrap_or_default()));
    }
    match config::explain(key) {
        Ok(setting) if *setting.origin() != Origin::Default => {
            let message = format!("{} is {}, from {}", setting.name(), setting.value(), setting.origin());
            complain("note", &message);
        }
        Ok(_) => {}
        Err(error) => complain("note", &error),
    }
    Ok(format!("{}\n", path.display()))
}

/// The given file, or the user's configuration file.
fn file_of(file: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    let of_user = || config::files().into_iter().find(|file| file.role == FileRole::User).map(|file| file.path);
    let path = file.or_else(of_user).ok_or_else(|| {
        CommandError::Usage(
            "there is no home folder for the user's configuration file; give a file with --file".to_owned(),
        )
    })?;
    Ok(std::path::absolute(&path).unwrap_or(path))
}

fn find(key: &str) -> Output {
    let setting = config::explain(key)?;
    let mut out = String::new();
    for (_, origin) in [(setting.value(), setting.origin())].into_iter().chain(setting.instead_of()) {
        if let Origin::File { path, line, .. } = origin {
            let _infallible = writeln!(out, "{}:{line}", path.display());
        }
    }
    if out.is_empty() {
        let message = format!("no file sets {}; it is {}, from {}", setting.name(), setting.value(), setting.origin());
        return Err(CommandError::Failed(message));
    }
    if !matches!(setting.origin(), Origin::File { .. }) {
        complain("note", &format!("{} is {}, from {}", setting.name(), setting.value(), setting.origin()));
    }
    Ok(out)
}

fn files() -> String {
    let mut out = String::new();
    for file in config::files() {
        let missing = if file.is_there { "" } else { ", missing" };
        let _infallible = writeln!(out, "{} ({}{missing})", file.path.display(), file.role);
    }
    out
}

fn explained(setting: &Explanation) -> String {
    format!("{setting}\n  {}\n  It may be {}.\n", setting.meaning(), setting.values())
}
