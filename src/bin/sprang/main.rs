//! The command `sprang`: configuration, machine, quick measurements, and reports of recorded
//! profiles.
//!
//! A command finishes its whole output before it writes any of it to standard output. Errors and
//! notes go to standard error. The exit status is 0 for success, 1 for a failure, or 2 for an
//! invalid command line. A reader that closes the pipe early is no error.

mod bench;
mod config;
mod info;
mod report;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Inspect and configure sprang, which runs graphs of tasks on the cores of one machine.
#[derive(Parser)]
#[command(version, name = "sprang", arg_required_else_help = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show settings and their origins, and change them in files.
    #[command(subcommand)]
    Config(config::Config),
    /// Show the version, cores, memory and limits of this machine, and whether it can start worker
    /// processes.
    Info(Json),
    /// Measure the cost of a task under each scheduler, and the speed of values to workers and
    /// back.
    Bench(bench::Bench),
    /// Make an HTML report of a recorded profile.
    Report(report::Report),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Args, Clone, Copy)]
struct Json {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The error of a command.
#[derive(Debug)]
enum CommandError {
    /// The command failed.
    Failed(String),
    /// The command line is invalid.
    Usage(String),
}

impl From<sprang::Error> for CommandError {
    fn from(error: sprang::Error) -> Self {
        CommandError::Failed(error.to_string())
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (CommandError::Failed(message) | CommandError::Usage(message)) = self;
        f.write_str(message)
    }
}

/// The text that a command prints.
type Output = Result<String, CommandError>;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Standard error may be closed.
            let _closed = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let output = match cli.command {
        Command::Config(command) => command.run(),
        Command::Info(Json { json }) => Ok(info::run(json)),
        Command::Bench(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Completions { shell } => completions(shell),
    };
    let failure = match output.map(|output| print(&output)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => CommandError::Failed(format!("cannot write to standard output: {error}")),
        Err(failure) => failure,
    };
    complain("error", &failure);
    ExitCode::from(match failure {
        CommandError::Failed(_) => 1,
        CommandError::Usage(_) => 2,
    })
}

fn print(output: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Writes a line to standard error.
fn complain(label: &str, message: &dyn fmt::Display) {
    // There is no other place to report that standard error is closed.
    let _closed = writeln!(io::stderr(), "{label}: {message}");
}

fn completions(shell: Shell) -> Output {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sprang", &mut script);
    String::from_utf8(script).map_err(|error| CommandError::Failed(error.to_string()))
}
