//! The command `switchboard`: arguments in, exit status out. What it does is in the crates below it.

mod args;
mod compare;
mod diff;
mod experiments;
mod listen;
mod load;
mod models;
mod run;
mod serve;
mod verify;

use std::fmt::Display;
use std::io::ErrorKind;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How does one machine wait for thousands of connections at once?
///
/// Echo and broadcast servers, one for each way of waiting; a load generator that drives them or any other
/// server; and a lab that compares them.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve with one model until SIGTERM or Ctrl-C
    Serve(serve::Args),
    /// The models in their families: what each waits with and what it adds to the one before it
    Models(models::Args),
    /// Two models' files side by side: what the one does otherwise
    Diff(diff::Args),
    /// Drive a server, verify every message, and say how fast it was
    Load(load::Args),
    /// List the experiments and what each answers, or print a definition
    Experiments(experiments::Args),
    /// Run experiments: every model, measured side by side (default: connections)
    Run(run::Args),
    /// Compare two results folders, or two models of one: ratios with intervals, and what really differs
    Compare(compare::Args),
    /// Derive every figure, verdict and picture of results folders again, and check that nothing was changed
    Verify(verify::Args),
    /// Make the report and the pictures of a results folder again, from its raw data alone
    Report(run::ReportArgs),
}

fn main() -> ExitCode {
    let result = Cli::try_parse().map_or_else(|error| explain(&error), carry_out);
    result.unwrap_or_else(|failure| {
        switchboard_console::log!("switchboard: {}", failure.message);
        ExitCode::from(failure.status)
    })
}

fn carry_out(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Serve(args) => serve::serve(&args),
        Command::Models(args) => models::list(&args),
        Command::Diff(args) => diff::show(&args),
        Command::Load(args) => load::load(&args),
        Command::Experiments(args) => experiments::list(&args),
        Command::Run(args) => run::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Verify(args) => verify::run(&args),
        Command::Report(args) => run::report(&args),
    }
}

/// Prints clap's text: help and version are results, on stdout; an error in the command line goes to stderr.
fn explain(error: &clap::Error) -> Result<ExitCode, Failure> {
    let status = u8::try_from(error.exit_code()).unwrap_or(2);
    match error.print().and_then(|()| std::io::Write::flush(&mut std::io::stdout())) {
        Err(failure) if !error.use_stderr() && failure.kind() != ErrorKind::BrokenPipe => {
            Err(unwritten(&failure))
        }
        _ => Ok(ExitCode::from(status)),
    }
}

/// Writes a result to stdout. A reader that has closed the pipe, such as `head`, is not an error.
///
/// # Errors
/// It cannot be written.
pub(crate) fn print(text: impl Display) -> Result<(), Failure> {
    switchboard_console::result(text).map_err(|error| unwritten(&error))
}

fn unwritten(error: &std::io::Error) -> Failure {
    Failure::new(1, format!("cannot write the result to stdout: {error}"))
}

/// Why the command failed, in one line, and its exit status: 1 where the machine or a server failed, 2 where
/// the command line asked for something that there is not.
struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    fn new(status: u8, message: impl ToString) -> Failure {
        Failure { message: message.to_string(), status }
    }
}
