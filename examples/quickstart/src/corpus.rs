//! Finds the text to read.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{error, fs, process};

/// The limit if no folder or file is given.
const MAX_BYTES: u64 = 64_000_000;
const EXTENSIONS: [&str; 10] = ["c", "css", "h", "html", "js", "md", "py", "rs", "toml", "txt"];

pub(crate) struct Files {
    pub(crate) paths: Vec<String>,
    pub(crate) bytes: u64,
}

/// Finds the files and reads each once, to skip unreadable ones and to bring them into the system's
/// cache.
pub(crate) fn find(arguments: Vec<PathBuf>, out: &mut impl Write) -> Result<Files, Box<dyn error::Error>> {
    let (roots, max_bytes) = if arguments.is_empty() { (usual_text(), MAX_BYTES) } else { (arguments, u64::MAX) };
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for root in &roots {
        match fs::metadata(root) {
            Ok(kind) if kind.is_dir() => walk(root, &mut found, &mut skipped),
            Ok(kind) if kind.is_file() => found.push(root.clone()),
            // A pipe, for example, can be read only once, but each scheduler reads all files.
            Ok(_) => skipped.push(format!("{}: neither a file nor a folder", root.display())),
            Err(error) => skipped.push(format!("{}: {error}", root.display())),
        }
    }
    found.sort();
    found.dedup();

    let num_found = found.len();
    let mut files = Files { paths: Vec::new(), bytes: 0 };
    for path in found {
        match (fs::read(&path), path.to_str()) {
            (Ok(content), _) if files.bytes + content.len() as u64 > max_bytes => break,
            (Ok(content), Some(path)) => {
                files.bytes += content.len() as u64;
                files.paths.push(path.to_owned());
            }
            (Ok(_), None) => skipped.push(format!("{}: the name is not UTF-8", path.display())),
            (Err(error), _) => skipped.push(format!("{}: {error}", path.display())),
        }
    }

    let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
    let (num_files, megabytes) = (files.paths.len(), files.bytes as f64 / 1e6);
    writeln!(
        out,
        "{num_files} of {num_found} text files, {megabytes:.1} MB, in order of their paths, from {}",
        roots.join(", ")
    )?;
    writeln!(out, "each was read once before the first run, so that no scheduler waits for the disk")?;
    if !skipped.is_empty() {
        writeln!(out, "left out because they could not be read: {}, the first of them", skipped.len())?;
        skipped.iter().take(5).try_for_each(|reason| writeln!(out, "  {reason}"))?;
    }
    writeln!(out)?;
    if files.paths.is_empty() { Err("there is no text to read; name a folder or a file".into()) } else { Ok(files) }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>, skipped: &mut Vec<String>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return skipped.push(format!("{}: {error}", folder.display())),
    };
    for entry in entries {
        match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
            Ok((path, kind)) if kind.is_dir() => walk(&path, found, skipped),
            Ok((path, kind)) if kind.is_file() && is_text(&path) => found.push(path),
            // Another kind of file, or a link. Links are not followed, because they may form
            // cycles.
            Ok(_) => {}
            Err(error) => skipped.push(format!("{}: {error}", folder.display())),
        }
    }
}

fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

/// Folders with text on a machine that has built sprang.
fn usual_text() -> Vec<PathBuf> {
    let cargo_home =
        option_env!("CARGO_HOME").map(PathBuf::from).or(std::env::home_dir().map(|home| home.join(".cargo")));
    let sysroot = process::Command::new("rustc").args(["--print", "sysroot"]).output().ok();
    let sysroot = sysroot.and_then(|output| String::from_utf8(output.stdout).ok());
    let folders = [
        cargo_home.map(|home| home.join("registry/src")),
        sysroot.map(|sysroot| Path::new(sysroot.trim_end()).join("share/doc")),
    ];
    let mut folders: Vec<_> = folders.into_iter().flatten().filter(|folder| folder.is_dir()).collect();
    if folders.is_empty() {
        folders.push(env!("CARGO_MANIFEST_DIR").into());
    }
    folders
}
