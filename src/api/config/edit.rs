//! Writing a setting to a configuration file without changing the rest of it, comments included.

use super::layers::find_for;
use super::schema::Setting;
use super::value::{Given, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Scheduler;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io, process};
use toml_edit::{DocumentMut, Formatted, InlineTable, Item, Table, TableLike};

/// Gives a setting a value in the configuration file at `path`, and creates the file if necessary.
///
/// The rest of the file stays as it is, with its comments. The configuration of this process does
/// not change until [`refresh`](super::refresh) reads the files again. [`files`](super::files)
/// lists the files that are read.
///
/// # Examples
/// ```
/// use sprang::config;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("sprang.toml");
/// std::fs::write(&path, "# ours\nnum-workers = 8 # all of them\n").unwrap();
/// config::write(&path, "num_workers", 4)?;
/// config::write(&path, "processes.memory_limit", "2 GiB")?;
/// assert_eq!(
///     std::fs::read_to_string(&path).unwrap(),
///     "# ours\nnum-workers = 4 # all of them\n\n[processes]\nmemory_limit = \"2 GiB\"\n"
/// );
/// # Ok::<(), sprang::Error>(())
/// ```
///
/// # Errors
/// [`Config`](ErrorKind::Config) if there is no setting `key`, it does not accept `value`, the
/// value can only be given from code, or the file is not TOML; [`NotSaved`](ErrorKind::NotSaved) if
/// the file cannot be read or written. The file is then unchanged.
pub fn write(path: impl AsRef<Path>, key: &str, value: impl Into<Value>) -> Result<()> {
    let setting = find_for("config::write", key)?;
    let value =
        to_toml(setting, &value.into()).map_err(|problem| Error::config(format!("config::write: {problem}")))?;
    let path = path.as_ref();
    let mut document = read(path)?.unwrap_or_default();
    put(document.as_table_mut(), setting, value).map_err(|key| no_table(path, &key))?;
    save(path, &document.to_string()).map_err(|error| not_saved(path, "written", error))
}

/// Removes a setting from the configuration file at `path`, so that weaker files and the default
/// apply again. Returns whether the file had it.
///
/// The rest of the file stays as it is, with its comments. The comment behind the value is removed
/// with it, and so is a table that is then empty and has no comment above it. Like
/// [`write`](fn@write), it does not change the configuration of this process.
///
/// # Examples
/// ```
/// use sprang::config;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("sprang.toml");
/// std::fs::write(&path, "# ours\nnum-workers = 8 # all of them\norder = \"fast\"\n").unwrap();
/// assert!(config::erase(&path, "num_workers")?);
/// assert!(!config::erase(&path, "num_workers")?, "it is gone");
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "# ours\norder = \"fast\"\n");
/// # Ok::<(), sprang::Error>(())
/// ```
///
/// # Errors
/// As [`write`](fn@write). A missing file is not an error.
pub fn erase(path: impl AsRef<Path>, key: &str) -> Result<bool> {
    let setting = find_for("config::erase", key)?;
    let path = path.as_ref();
    let Some(mut document) = read(path)? else { return Ok(false) };
    let segments: Vec<&str> = setting.name.split('.').collect();
    let mut above = String::new();
    let is_gone = remove_from(document.as_table_mut(), &segments, &mut above).map_err(|key| no_table(path, &key))?;
    if is_gone {
        let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
        document.set_trailing(above + &trailing);
        save(path, &document.to_string()).map_err(|error| not_saved(path, "written", error))?;
    }
    Ok(is_gone)
}

fn not_saved(path: &Path, what: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::NotSaved, format!("{} cannot be {what}: {error}", path.display()))
        .with_source(Arc::new(error) as Arc<dyn StdError + Send + Sync>)
}

fn no_table(path: &Path, key: &str) -> Error {
    Error::config(format!("{}: {key:?} is not a table; correct it first", path.display()))
}

/// Reads and parses a file; `None` if it does not exist.
fn read(path: &Path) -> Result<Option<DocumentMut>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(not_saved(path, "read", error)),
    };
    let document = text.parse().map_err(|error: toml_edit::TomlError| {
        let offset = error.span().map_or(text.len(), |span| span.start);
        let line = 1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count();
        Error::config(format!("{}:{line}: this is not TOML: {}; correct it first", path.display(), error.message()))
    })?;
    Ok(Some(document))
}

/// Removes the setting with this name, given in segments. Comments above it move to the next key,
/// or to `above` if there is none. An error is a key whose value should be a table.
fn remove_from(table: &mut dyn TableLike, segments: &[&str], above: &mut String) -> Result<bool, String> {
    let [segment, rest @ ..] = segments else { return Ok(false) };
    // In keys `-` equals `_`. If the file has both spellings, both are removed.
    let is_it = |key: &str| key.replace('-', "_") == *segment;
    let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).filter(|key| is_it(key)).collect();
    let mut is_gone = false;
    for key in keys {
        if rest.is_empty() {
            // A comment above usually applies to the following keys too: it heads the file or a
            // part.
            let comments = comments_above(table, &key);
            let position = table.iter().position(|(other, _)| other == key).unwrap_or(0);
            table.remove(&key);
            let next = table.iter().nth(position).map(|(key, _)| key.to_owned());
            match (comments, next) {
                (Some(comments), Some(next)) => prepend(table, &next, &comments),
                (Some(comments), None) => *above += &comments,
                (None, _) => {}
            }
            is_gone = true;
            continue;
        }
        let Some(item) = table.get_mut(&key) else { continue };
        let has_comment = item.as_table().and_then(|table| table.decor().prefix()?.as_str()).is_some_and(has_comment);
        let inner = item.as_table_like_mut().ok_or_else(|| key.clone())?;
        let is_gone_there = remove_from(inner, rest, above)?;
        if is_gone_there && inner.is_empty() && !has_comment {
            table.remove(&key);
        }
        is_gone |= is_gone_there;
    }
    Ok(is_gone)
}

fn has_comment(text: &str) -> bool {
    text.contains('#')
}

/// Returns the comments and empty lines above a key, if it has comments.
fn comments_above(table: &dyn TableLike, key: &str) -> Option<String> {
    let prefix = table.get_key_value(key)?.0.leaf_decor().prefix()?.as_str()?;
    has_comment(prefix).then(|| prefix.to_owned())
}

/// Inserts text above a key or a table header.
fn prepend(table: &mut dyn TableLike, key: &str, text: &str) {
    if let Some(inner) = table.get_mut(key).and_then(Item::as_table_mut).filter(|table| !table.is_dotted()) {
        let before = inner.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned();
        inner.decor_mut().set_prefix(format!("{text}{before}"));
    } else if let Some(mut key) = table.key_mut(key) {
        let before = key.leaf_decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned();
        key.leaf_decor_mut().set_prefix(format!("{text}{before}"));
    }
}

/// Replaces the value of the setting, or inserts it in its table. An error is a key whose value
/// should be a table.
fn put(root: &mut Table, setting: &Setting, value: toml_edit::Value) -> Result<(), String> {
    let mut table: &mut dyn TableLike = root;
    let mut segments = setting.name.split('.').peekable();
    while let Some(segment) = segments.next() {
        // In keys `-` equals `_`.
        let key = table.iter().map(|(key, _)| key).find(|key| key.replace('-', "_") == segment);
        let key = key.unwrap_or(segment).to_owned();
        if segments.peek().is_some() {
            let item = table.entry(&key).or_insert_with(|| Item::Table(Table::new()));
            table = item.as_table_like_mut().ok_or(key)?;
        } else {
            let mut value = value;
            match table.get_mut(&key).and_then(Item::as_value_mut) {
                Some(before) => {
                    // Keep the comment behind it.
                    *value.decor_mut() = before.decor().clone();
                    *before = value;
                }
                None => _ = table.insert(&key, Item::Value(value)),
            }
            return Ok(());
        }
    }
    unreachable!("a name has a last part")
}

/// Converts the value to the TOML type that reads best.
fn to_toml(setting: &Setting, value: &Value) -> Result<toml_edit::Value, String> {
    setting.check(value)?;
    let only_in_code = || format!("{:?} can be {value} from code only; give {}", setting.name, setting.kind);
    let candidates: Vec<(Given, toml_edit::Value)> = match &value.0 {
        Given::Untyped(text) => {
            let number = text.parse::<i64>().ok().map(|number| (Given::Integer(number.into()), number.into()));
            let truth =
                text.to_ascii_lowercase().parse::<bool>().ok().map(|truth| (Given::Boolean(truth), truth.into()));
            number.into_iter().chain(truth).chain([of_text(text)]).collect()
        }
        Given::Text(text) => vec![of_text(text)],
        Given::Integer(number) => match i64::try_from(*number) {
            Ok(small) => vec![(Given::Integer(*number), small.into())],
            Err(_) => vec![of_text(&number.to_string())],
        },
        Given::Boolean(truth) => vec![(Given::Boolean(*truth), (*truth).into())],
        Given::Duration(duration) => vec![of_text(&humantime::format_duration(*duration).to_string())],
        Given::Path(path) => path.to_str().map(of_text).into_iter().collect(),
        Given::Texts(texts) => {
            let table: InlineTable = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
            vec![(Given::Texts(texts.clone()), table.into())]
        }
        Given::Scheduler(Scheduler::Custom(_)) | Given::Initializer(_) => Vec::new(),
        Given::Scheduler(scheduler) => vec![of_text(&scheduler.to_string())],
    };
    // The file must read back as the value given.
    let shown = setting.show_value(value);
    let is_same = |given: &Given| {
        let given = Value(given.clone());
        setting.check(&given).is_ok() && setting.show_value(&given) == shown
    };
    candidates.into_iter().find(|(given, _)| is_same(given)).map(|(_, value)| value).ok_or_else(only_in_code)
}

fn of_text(text: &str) -> (Given, toml_edit::Value) {
    (Given::Text(text.to_owned()), toml_edit::Value::String(Formatted::new(text.to_owned())))
}

/// Writes the whole file or nothing, also through a link.
fn save(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(PathBuf::from("."), Path::to_owned);
    fs::create_dir_all(&folder)?;
    let beside = folder.join(format!(".sprang.toml.{}", process::id()));
    let written = fs::write(&beside, text).and_then(|()| {
        if let Ok(metadata) = fs::metadata(&path) {
            fs::set_permissions(&beside, metadata.permissions())?;
        }
        fs::rename(&beside, &path)
    });
    if written.is_err() {
        let _gone = fs::remove_file(&beside);
    }
    written
}
