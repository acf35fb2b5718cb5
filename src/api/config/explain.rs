//! Where the value of a setting comes from.

use super::layers::{Origin, Snapshot};
use super::schema::Setting;
use std::fmt;

/// A setting's value, its origin, and the values it overrides.
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
    /// Strongest first; never empty, because the default is always in it.
    given: Vec<(String, Origin)>,
}

impl Explanation {
    pub(super) fn new(setting: &'static Setting, snapshot: &Snapshot) -> Self {
        Explanation { setting, given: snapshot.given(setting) }
    }

    /// Returns the name of the setting.
    pub fn name(&self) -> &'static str {
        self.setting.name
    }

    /// Describes the setting in a sentence.
    pub fn meaning(&self) -> &'static str {
        self.setting.doc
    }

    /// Describes the accepted values, in words that follow "give": `"memory" or "fast"`.
    pub fn values(&self) -> &'static str {
        self.setting.kind
    }

    /// Returns the value in force, as text.
    pub fn value(&self) -> &str {
        &self.given[0].0
    }

    /// Returns the origin of the value in force.
    pub fn origin(&self) -> &Origin {
        &self.given[0].1
    }

    /// Returns the overridden values and their origins, strongest first. The last is the default.
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
