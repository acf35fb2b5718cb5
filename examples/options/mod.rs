//! Options that the larger examples share: the scheduler, and ways to observe the run.
//!
//! ```text
//! --scheduler NAME     sync, threads or processes (default: the configured one)
//! --progress           bars on the terminal (feature `progress`)
//! --report FILE        .html for a browser, .json for Perfetto, .csv for a spreadsheet; repeatable
//! --dashboard ADDRESS  pages in a browser, for example at 127.0.0.1:8787 (feature `dashboard`)
//! ```

use sprang::{Profile, Profiler, Scheduler, callback, config};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fmt, process};

const COMMON: &str = "    --scheduler NAME     sync, threads or processes (default: the configured one)
    --progress           bars on the terminal (feature `progress`)
    --report FILE        .html for a browser, .json for Perfetto, .csv for a spreadsheet; repeatable
    --dashboard ADDRESS  pages in a browser, for example at 127.0.0.1:8787 (feature `dashboard`)
    --help               this text";

/// The options of the command line.
#[derive(Debug, Default)]
pub(crate) struct Options {
    scheduler: Option<Scheduler>,
    progress: bool,
    reports: Vec<PathBuf>,
    dashboard: Option<String>,
}

/// An option of one example.
#[derive(Debug)]
pub(crate) struct OwnOption<'a> {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) value: Value<'a>,
}

#[derive(Debug)]
pub(crate) enum Value<'a> {
    /// A number, and its minimum.
    Number(&'a mut usize, usize),
    File(&'a mut PathBuf),
}

impl Options {
    /// Reads the command line. Ends the process for `--help` and for an invalid command line.
    pub(crate) fn parse(own: &mut [OwnOption<'_>]) -> Options {
        let usage = usage(own);
        let mut options = Options::default();
        match options.read(own, env::args().skip(1)) {
            Ok(true) => options,
            Ok(false) => {
                println!("{usage}");
                process::exit(0);
            }
            Err(problem) => {
                eprintln!("{problem}\n\n{usage}");
                process::exit(2);
            }
        }
    }

    /// False for `--help`.
    fn read(&mut self, own: &mut [OwnOption<'_>], mut arguments: impl Iterator<Item = String>) -> Result<bool, String> {
        while let Some(argument) = arguments.next() {
            let (name, joined) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let mut value = || joined.clone().or_else(|| arguments.next()).ok_or(format!("{name} needs a value"));
            match name.as_str() {
                "--help" | "-h" => return Ok(false),
                "--scheduler" => self.scheduler = Some(value()?.parse().map_err(|error| format!("{name}: {error}"))?),
                "--report" => self.reports.push(report(value()?.into())?),
                "--dashboard" => self.dashboard = Some(value()?),
                "--progress" => self.progress = true,
                _ => {
                    let own =
                        own.iter_mut().find(|own| own.name == name).ok_or(format!("there is no option {name}"))?;
                    own.value.set(&name, value()?)?;
                }
            }
        }
        needs(self.progress, "--progress", "progress", cfg!(feature = "progress"))?;
        needs(self.dashboard.is_some(), "--dashboard", "dashboard", cfg!(feature = "dashboard"))?;
        Ok(true)
    }

    /// Runs `body` with the chosen observers, and saves the reports. Returns the profile too, if
    /// there is one.
    pub(crate) fn watch<R>(&self, body: impl FnOnce() -> R) -> sprang::Result<(R, Option<Profile>)> {
        let _scheduler = self.scheduler.clone().map(|it| config::scoped("scheduler", it)).transpose()?;
        #[cfg(feature = "progress")]
        let _progress = self.progress.then(sprang::progress);
        #[cfg(feature = "dashboard")]
        let dashboard = self.dashboard.as_deref().map(sprang::dashboard::serve).transpose()?;
        #[cfg(feature = "dashboard")]
        if let Some(dashboard) = &dashboard {
            println!("the dashboard is at {}", dashboard.url());
        }
        let profiler = (!self.reports.is_empty()).then(|| Arc::new(Profiler::new().measure_values(true)));
        let result = match &profiler {
            Some(profiler) => callback::with(Arc::<Profiler>::clone(profiler), body),
            None => body(),
        };
        let profile = profiler.map(|profiler| profiler.profile());
        for (path, profile) in self.reports.iter().zip(profile.iter().cycle()) {
            profile.save(path)?;
            println!("see {}", path.display());
        }
        #[cfg(feature = "dashboard")]
        if dashboard.is_some() && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            println!("press Enter to close the dashboard");
            let _any = std::io::stdin().read_line(&mut String::new());
        }
        Ok((result, profile))
    }
}

impl fmt::Display for Options {
    /// The scheduler that will be used.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scheduler {
            Some(scheduler) => write!(f, "{scheduler}"),
            None => f.write_str("the configured scheduler"),
        }
    }
}

impl Value<'_> {
    fn set(&mut self, name: &str, text: String) -> Result<(), String> {
        match self {
            Value::Number(number, least) => match text.parse() {
                Ok(given) if given >= *least => **number = given,
                _ => return Err(format!("{name} takes a number of at least {least}, not {text:?}")),
            },
            Value::File(path) => **path = text.into(),
        }
        Ok(())
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number, _) => number.fmt(f),
            Value::File(path) => path.display().fmt(f),
        }
    }
}

/// Checks the ending before the run and not after it.
fn report(path: PathBuf) -> Result<PathBuf, String> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("html" | "json" | "csv") => Ok(path),
        _ => Err(format!("--report takes a file that ends in .html, .json or .csv, not {}", path.display())),
    }
}

/// The exit code of `main`. Prints the error of a failure.
pub(crate) fn exit_code(result: Result<(), Box<dyn Error>>) -> process::ExitCode {
    match result {
        Ok(()) => process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            process::ExitCode::FAILURE
        }
    }
}

fn needs(is_given: bool, option: &str, feature: &str, is_built_in: bool) -> Result<(), String> {
    match is_given && !is_built_in {
        true => Err(format!("{option} is not built in: run the example with `--features {feature}`")),
        false => Ok(()),
    }
}

fn usage(own: &[OwnOption<'_>]) -> String {
    let mut usage = "options:\n".to_owned();
    for OwnOption { name, help, value } in own {
        let kind = match value {
            Value::Number(..) => "N",
            Value::File(_) => "FILE",
        };
        usage += &format!("    {:20} {help} (default: {value})\n", format!("{name} {kind}"));
    }
    usage + COMMON
}
