//! The command `sprang`: the configuration, what the machine gives, quick figures, and reports of recorded profiles.
//!
//! A command makes its whole output before any of it is written, to standard output; what went wrong goes to standard error. The exit
//! status is 0, 1 for a failure, or 2 for a command line that makes no sense. Who closes the other end of the pipe has seen enough.

mod bench;
mod config;
mod info;
mod report;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Graphs of tasks on the cores of one machine: the configuration, the machine, and recorded runs.
#[derive(Parser)]
#[command(version, name = "sprang", arg_required_else_help = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows settings and where they come from, and changes them in files.
    #[command(subcommand)]
    Config(config::Config),
    /// Shows what this machine gives: versions, cores, memory, worker processes.
    Info(Json),
    /// Measures on this machine what a task costs under each scheduler, and how fast values get to workers and back.
    Bench(bench::Bench),
    /// Makes an HTML report of a recorded profile.
    Report(report::Report),
    /// Prints a script that completes this command's arguments in a shell.
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

/// Why a command gives no output.
#[derive(Debug)]
enum Failure {
    /// What was asked for cannot be done.
    Failed(String),
    /// What was asked for makes no sense.
    Usage(String),
}

impl From<sprang::Error> for Failure {
    fn from(error: sprang::Error) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Failed(message) | Failure::Usage(message)) = self;
        f.write_str(message)
    }
}

/// What a command has to say.
type Output = Result<String, Failure>;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody may be there to read it.
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
        Ok(Err(error)) => Failure::Failed(format!("cannot write to standard output: {error}")),
        Err(failure) => failure,
    };
    complain("error", &failure);
    ExitCode::from(match failure {
        Failure::Failed(_) => 1,
        Failure::Usage(_) => 2,
    })
}

fn print(output: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Says something beside the output.
fn complain(what: &str, message: &dyn fmt::Display) {
    // There is no other place to tell that this cannot be told.
    let _closed = writeln!(io::stderr(), "{what}: {message}");
}

fn completions(shell: Shell) -> Output {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sprang", &mut script);
    String::from_utf8(script).map_err(|error| Failure::Failed(error.to_string()))
}
