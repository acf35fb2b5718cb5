//! `sprang report`: makes a page for a browser from a recorded profile.

use super::{CommandError, Output};
use clap::Args;
use sprang::Profile;
use std::path::{Path, PathBuf};

/// A program records a profile with `sprang::profile` and `profile.save("run.profile.json")`.
#[derive(Args)]
pub(super) struct Report {
    /// A file that `Profile::save` has written as `.profile.json`.
    profile: PathBuf,
    /// The file of the report: .html, .csv, or .json for a trace; `-` writes HTML to standard
    /// output [default: the profile's name, as .html]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Report {
    pub(super) fn run(self) -> Output {
        let profile = Profile::load(&self.profile)?;
        let output = self.output.unwrap_or_else(|| beside(&self.profile));
        if output == Path::new("-") {
            return Ok(profile.to_html());
        }
        // Two paths may name the profile. A file that does not exist is not the profile.
        let is_profile =
            output.canonicalize().is_ok_and(|output| self.profile.canonicalize().is_ok_and(|it| it == output));
        if is_profile {
            return Err(CommandError::Usage(format!("the report would replace the profile {}", output.display())));
        }
        profile.save(&output)?;
        Ok(format!("{}\n", output.display()))
    }
}

/// `run.html` for `run.profile.json`.
fn beside(profile: &Path) -> PathBuf {
    let name = profile.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".json").unwrap_or(&name);
    let stem = stem.strip_suffix(".profile").unwrap_or(stem);
    profile.with_file_name(format!("{stem}.html"))
}
