//! The layers from outside the program: `SPRANG_*` environment variables and configuration files.

use super::layers::{Entry, Layer, Origin};
use super::schema::{self, Setting};
use super::value::{Given, Value};
use crate::error::{Error, Result};
use crate::sorted::{SortedMap, sort_items};
use std::error::Error as StdError;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs, io};
use toml::de::{DeTable, DeValue};

const PREFIX: &str = "SPRANG_";

/// What the environment and the files contain.
pub(super) struct Sources {
    /// Weakest first: the user's file, the file in the current folder, the file that
    /// `SPRANG_CONFIG` names, the environment.
    pub(super) layers: Vec<Layer>,
    /// `SPRANG_*` variables that are not settings. They may belong to another program, so they are
    /// an error only under `strict_config`.
    pub(super) unknown: Vec<Error>,
}

/// Reads the environment and the files.
pub(super) fn read() -> Result<Sources> {
    let environment = environment()?;
    let mut layers = Vec::with_capacity(4);
    for ConfigFile { path, role, is_there } in files_with(environment.file) {
        let of_variable = role == FileRole::Variable;
        if is_there || of_variable {
            layers.push(file(&path, |error| match of_variable {
                false => format!("{path:?} cannot be read: {error}; make it a readable file, or remove it"),
                true => format!(
                    "environment variable SPRANG_CONFIG names {path:?}, which cannot be read: {error}; \
                     name another file, or unset it"
                ),
            })?);
        }
    }
    layers.push(environment.layer);
    Ok(Sources { layers, unknown: environment.unknown })
}

/// A place that is searched for a configuration file. See [`files`](super::files).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigFile {
    /// The path of the file.
    pub path: PathBuf,
    /// Why this place is searched.
    pub role: FileRole,
    /// Whether something exists at the path.
    pub is_there: bool,
}

/// Why a place is searched for a configuration file, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FileRole {
    /// The user's configuration folder.
    User,
    /// The current folder.
    Folder,
    /// The environment variable `SPRANG_CONFIG` names the file.
    Variable,
}

impl fmt::Display for FileRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileRole::User => "the user's",
            FileRole::Folder => "of the current folder",
            FileRole::Variable => "named by SPRANG_CONFIG",
        })
    }
}

/// The places that are searched for files, weakest first.
pub(super) fn files() -> Vec<ConfigFile> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let mut all = env::vars_os();
    let of_variable = all.find(|(name, _)| {
        let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        name.is_some_and(|name| name.eq_ignore_ascii_case("config"))
    });
    files_with(of_variable.map(|(_, path)| path.into())).collect()
}

fn files_with(of_variable: Option<PathBuf>) -> impl Iterator<Item = ConfigFile> + use<> {
    let places = [
        (user_folder().map(|folder| folder.join("sprang/sprang.toml")), FileRole::User),
        (Some("sprang.toml".into()), FileRole::Folder),
        (of_variable, FileRole::Variable),
    ];
    places.into_iter().filter_map(|(path, role)| {
        let path = absolute(path?);
        // A dangling link counts as present and is then reported as unreadable.
        let is_there = path.symlink_metadata().is_ok();
        Some(ConfigFile { path, role, is_there })
    })
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Returns a hash of all environment variables except those for which `is_ignored` returns true.
pub(in crate::api) fn environment_number(is_ignored: &dyn Fn(&OsStr) -> bool) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let all = env::vars_os();
    let of_one = |pair: (OsString, OsString)| {
        let mut hasher = DefaultHasher::new();
        pair.hash(&mut hasher);
        hasher.finish()
    };
    // A sum, so that the order of the variables has no effect: setting one again may change it.
    all.filter(|(name, _)| !is_ignored(name)).map(of_one).fold(0, u64::wrapping_add)
}

struct Environment {
    layer: Layer,
    /// The value of `SPRANG_CONFIG`.
    file: Option<PathBuf>,
    unknown: Vec<Error>,
}

fn environment() -> Result<Environment> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let all = env::vars_os();
    let mut ours: Vec<(OsString, OsString)> =
        all.filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes())).collect();
    // Sorted, so that of several mistakes the same one is always reported.
    sort_items(&mut ours, |a, b| a.0.cmp(&b.0));

    let mut layer = Layer::new();
    let mut file = None;
    let mut unknown = Vec::new();
    let mut names = SortedMap::new();
    for (name, value) in ours {
        let name = match name.into_string() {
            Ok(name) => name,
            Err(name) => {
                unknown.push(Error::config(format!("environment variable {name:?}: its name is not UTF-8; unset it")));
                continue;
            }
        };
        let refused = |problem: String| Error::config(format!("environment variable {name}: {problem}, or unset it"));
        let key = name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".").replace('-', "_");
        let setting = schema::find(&key);
        if setting.is_none() && key != "config" {
            unknown.push(refused(format!("{}; rename it", schema::unknown(&key, Setting::variable))));
            continue;
        }
        let value =
            value.into_string().map_err(|value| refused(format!("its value is not UTF-8: {value:?}; set it again")))?;
        if let Some(other) = names.insert(key.clone(), name.clone()) {
            return Err(Error::config(format!(
                "environment variables {other} and {name} are the same setting; unset one of them"
            )));
        }
        let Some(setting) = setting else {
            file = Some(value.into());
            continue;
        };
        let entry =
            Entry::new(setting, Value(Given::Untyped(value)), Origin::Variable(name.clone())).map_err(refused)?;
        layer.insert(setting.name, entry);
    }
    Ok(Environment { layer, file, unknown })
}

/// `$XDG_CONFIG_HOME`, or `~/.config`. The XDG specification ignores relative paths.
fn user_folder() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))
}

/// Reads the layer in the file at `path`. `unreadable` words the error if it cannot be read.
fn file(path: &Path, unreadable: impl FnOnce(&io::Error) -> String) -> Result<Layer> {
    let text = fs::read(path).map_err(|error| {
        Error::config(unreadable(&error)).with_source(Arc::new(error) as Arc<dyn StdError + Send + Sync>)
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &[u8]) -> Result<Layer> {
    let line_of = |offset: usize| 1 + text[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
    let refused =
        |offset: usize, problem: String| Error::config(format!("{}:{}: {problem}", path.display(), line_of(offset)));
    let text = str::from_utf8(text)
        .map_err(|error| refused(error.valid_up_to(), "this is not UTF-8; save the file as UTF-8".to_owned()))?;
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(text.len(), |span| span.start);
        refused(offset, format!("this is not TOML: {}; correct it, or remove the file", error.message()))
    })?;

    let mut found = Vec::new();
    flatten("", table.get_ref(), &mut found);
    // In the order of the file, so that of several mistakes the first is reported.
    sort_items(&mut found, |a, b| a.0.cmp(&b.0));

    let mut layer = Layer::new();
    let mut lines = SortedMap::new();
    for (offset, key, value) in found {
        let setting = schema::find(&key).ok_or_else(|| {
            refused(offset, format!("{}; rename it, or remove it", schema::unknown(&key, schema::quoted)))
        })?;
        let line = line_of(offset);
        if let Some(first) = lines.insert(setting.name, line) {
            return Err(refused(offset, format!("{:?} is already set in line {first}; remove one", setting.name)));
        }
        let origin = Origin::File { path: path.to_owned(), line };
        let entry = read_value(value)
            .or_else(|| if setting.takes_texts() { read_texts(value) } else { None })
            .ok_or_else(|| setting.refuse(format_args!("a TOML {}", value.type_str())))
            .and_then(|value| Entry::new(setting, value, origin))
            .map_err(|problem| refused(offset, problem))?;
        layer.insert(setting.name, entry);
    }
    Ok(layer)
}

/// Collects every value in `table` that is not a table itself, with its dotted key and offset.
///
/// A table in the place of a value, or an empty table that no setting expects, is collected as a
/// value, and its setting then rejects it.
fn flatten<'t>(prefix: &str, table: &'t DeTable<'_>, found: &mut Vec<(usize, String, &'t DeValue<'t>)>) {
    for (name, value) in table.iter() {
        let key = format!("{prefix}{}", name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) if schema::is_table(&key) || (schema::find(&key).is_none() && !inner.is_empty()) => {
                flatten(&format!("{key}."), inner, found);
            }
            value => found.push((name.span().start, key, value)),
        }
    }
}

fn read_value(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(text.as_ref().into()),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| Value(Given::Integer(number)))
        }
        DeValue::Boolean(truth) => Some((*truth).into()),
        _ => None,
    }
}

fn read_texts(table: &DeValue<'_>) -> Option<Value> {
    let texts = table.as_table()?.iter().map(|(name, text)| Some((name.get_ref().as_ref(), text.get_ref().as_str()?)));
    texts.collect::<Option<Vec<(&str, &str)>>>().map(Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        let table = DeTable::parse(text).unwrap();
        let mut found = Vec::new();
        flatten("", table.get_ref(), &mut found);
        found.into_iter().map(|(_, key, _)| key).collect()
    }

    #[test]
    fn tables_and_dotted_keys_are_the_same() {
        assert_eq!(keys("[a.b]\nc = 1"), ["a.b.c"]);
        assert_eq!(keys("a.b.c = 1"), ["a.b.c"]);
        assert_eq!(keys("a = { b = { c = 1 } }"), ["a.b.c"]);
    }

    #[test]
    fn a_table_in_the_place_of_a_value_is_not_flattened() {
        assert_eq!(keys("[order]\nfast = true"), ["order"]);
    }
}
