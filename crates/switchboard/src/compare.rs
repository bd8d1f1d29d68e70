use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use std::str::FromStr;
use switchboard_lab::{CompareOptions, Gate, compare, report, text};

use crate::{Failure, args};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A results folder, or one model of it: FOLDER:MODEL
    a: String,
    /// What is compared with it; :MODEL is another model of the same folder
    b: String,
    /// Only these models: epoll,poll
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = args::element(NonEmptyStringValueParser::new()))]
    models: Option<Vec<String>>,
    /// Only these numbers of connections: 64,1024
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = args::element(usize::from_str))]
    connections: Option<Vec<usize>>,
    /// Gate: exit with status 3 if a difference is real and larger than this, as in 'throughput<0.95', 'cpu>1.05' or 'p99>1.2';
    /// if nothing could be compared, exit with status 1. May be given several times
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Gate>,
    /// Compare times as they were measured, without allowing for the speed of the machine
    #[arg(long)]
    raw_times: bool,
    /// Draw the main curve of both in one picture, FILE.svg or FILE.png
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Print the comparison as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let folder = |side: &str| PathBuf::from(side.rsplit_once(':').map_or(side, |(dir, _)| dir));
    let is_whole = |side: &str| std::path::Path::new(side).is_dir();
    let sides =
        [&args.a, &args.b].map(|side| if is_whole(side) { PathBuf::from(side) } else { folder(side) });
    let (picture, models) = (args.picture, args.models.clone());
    let options = CompareOptions {
        a: args.a,
        b: args.b,
        models: args.models,
        connections: args.connections,
        gates: args.fail_if,
        raw_times: args.raw_times,
    };
    let comparison = compare(&options)
        .map_err(|error| Failure::new(error.exit_status(), text::lines(&error.to_string())))?;
    if let Some(file) = &picture {
        let [a, b] = &sides;
        let b = if b.as_os_str().is_empty() { a } else { b };
        report::draw_two(a, b, models.as_deref(), file)
            .map_err(|error| Failure::new(1, text::lines(&error.to_string())))?;
    }
    if args.json {
        let text = text::json(&comparison).map_err(|error| Failure::new(1, error))?;
        crate::print(format_args!("{text}\n"))?;
    } else {
        crate::print(text::lines(&comparison.to_string()))?;
    }
    Ok(ExitCode::from(comparison.exit_status()))
}
