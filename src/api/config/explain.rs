//! Which layer won.

use super::layers::{Origin, Snapshot};
use super::schema::Setting;
use std::fmt;

/// A setting's value, where it comes from, and what it prevails over.
///
/// Displayed, it has one line for each layer that gives the setting a value:
///
/// ```text
/// scheduler = sync, from a scope opened at src/main.rs:12
///   instead of threads, from environment variable SPRANG_SCHEDULER
///   instead of sync, from /home/ada/project/sprang.toml:4
///   instead of threads, from the default
/// ```
#[derive(Clone, Debug)]
pub struct Explanation {
    setting: &'static Setting,
    /// Strongest first; never empty, since a default is always there.
    given: Vec<(String, Origin)>,
}

impl Explanation {
    pub(super) fn new(setting: &'static Setting, snapshot: &Snapshot) -> Self {
        Explanation { setting, given: snapshot.given(setting) }
    }

    /// The setting's name.
    pub fn name(&self) -> &'static str {
        self.setting.name
    }

    /// What the setting means, in a sentence.
    pub fn meaning(&self) -> &'static str {
        self.setting.doc
    }

    /// What it may be given, in words that go on after "give": `"memory" or "fast"`.
    pub fn values(&self) -> &'static str {
        self.setting.kind
    }

    /// The value in force, as text.
    pub fn value(&self) -> &str {
        &self.given[0].0
    }

    /// Where the value in force comes from.
    pub fn origin(&self) -> &Origin {
        &self.given[0].1
    }

    /// The values that do not count and where they come from, strongest first. The last is the default.
    pub fn instead_of(&self) -> impl ExactSizeIterator<Item = (&str, &Origin)> {
        self.given[1..].iter().map(|(value, origin)| (&**value, origin))
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}, from {}", self.name(), self.value(), self.origin())?;
        for (value, origin) in self.instead_of() {
            write!(f, "\n  instead of {value}, from {origin}")?;
        }
        Ok(())
    }
}
