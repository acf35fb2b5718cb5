//! `sprang report`: a page for a browser, made of a profile that was recorded before.

use super::{Failure, Output};
use clap::Args;
use sprang::Profile;
use std::path::{Path, PathBuf};

/// A program records one with `sprang::profile` and `profile.save("run.profile.json")`.
#[derive(Args)]
pub(super) struct Report {
    /// A file that `Profile::save` has written as `.profile.json`.
    profile: PathBuf,
    /// Where to write the report, by its ending .html, .csv, or .json for a trace; `-` for HTML on standard output [default: beside the
    /// profile, as .html]
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
        // Under whatever name; one that is not there yet is no other's.
        let is_profile =
            output.canonicalize().is_ok_and(|output| self.profile.canonicalize().is_ok_and(|it| it == output));
        if is_profile {
            return Err(Failure::Usage(format!("the report would replace the profile {}", output.display())));
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
