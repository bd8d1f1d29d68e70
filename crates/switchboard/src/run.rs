use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{EnumValueParser, NonEmptyStringValueParser};
use std::str::FromStr;
use switchboard_lab::{Effort, Interrupt, LabError, Progress, RunOptions, RunSummary, report, text};

use crate::{Failure, args};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Experiments to run, `all` of them, or paths of .toml files [default: connections]; see `switchboard
    /// experiments`
    experiments: Vec<String>,
    /// Under a minute for each: a few points, one short round
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Longer windows and more rounds
    #[arg(long)]
    full: bool,
    /// Only these models, hidden ones too: epoll,poll,raw
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = args::element(NonEmptyStringValueParser::new()))]
    models: Option<Vec<String>>,
    /// Servers beside the models: those of an experiment (`peers`), or of a .toml file with `[[server]]` tables (name, command with
    /// {port})
    #[arg(long, value_name = "FILE")]
    servers: Option<String>,
    /// Install servers that are missing, by the commands in their definitions
    #[arg(long)]
    install: bool,
    /// These numbers of connections: 1,64,1024
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = args::element(usize::from_str))]
    connections: Option<Vec<usize>>,
    /// Size of a message: a number of bytes, or like 16KiB
    #[arg(long, value_name = "SIZE", value_parser = args::bytes)]
    payload: Option<usize>,
    /// Open loop: so many messages per second in all, whatever comes back [default: a closed loop]
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Simulate so many microseconds of work for each message in every server: 0.25, 100
    #[arg(long, default_value_t = 0.0, value_name = "US", value_parser = args::microseconds)]
    work_us: f64,
    /// Number of rounds, 1 to 10000; a round measures every point once, in random order [default: as many as fit into the time]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Folder for the results; must be new or empty [default: results/DATE-HOST-EXPERIMENT]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the interrupted run in this folder. A server beside the models is started only if its command is that of a built-in
    /// experiment or of `--servers`, or if `--trust-commands` is given
    #[arg(long, value_name = "DIR", conflicts_with_all = ["experiments", "out", "models", "install", "connections", "payload", "rate", "work_us", "rounds", "seed", "host", "quick", "full"])]
    resume: Option<PathBuf>,
    /// With `--resume`: print the commands in the folder, then run them, whatever they are
    #[arg(long, requires = "resume")]
    trust_commands: bool,
    /// Seed of the random order
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Name of this machine in the results [default: the host name]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct ReportArgs {
    /// A folder that `switchboard run` made
    dir: PathBuf,
    /// What to write
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "html,svg,png", value_parser = args::element(EnumValueParser::<OutputFormat>::new()))]
    format: Vec<OutputFormat>,
}

/// What a report can be written as.
#[derive(Clone, Copy, clap::ValueEnum)]
enum OutputFormat {
    /// The page
    Html,
    /// The pictures, to be drawn at any size
    Svg,
    /// The pictures in pixels
    Png,
    /// All figures in one table: figures.csv
    Csv,
    /// Findings and tables, to be pasted into a text: figures.md
    Md,
}

impl From<OutputFormat> for report::Format {
    fn from(format: OutputFormat) -> report::Format {
        match format {
            OutputFormat::Html => report::Format::Html,
            OutputFormat::Svg => report::Format::Svg,
            OutputFormat::Png => report::Format::Png,
            OutputFormat::Csv => report::Format::Csv,
            OutputFormat::Md => report::Format::Md,
        }
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let options = RunOptions {
        experiments: names(&args.experiments),
        effort: match (args.quick, args.full) {
            (true, _) => Effort::Quick,
            (_, true) => Effort::Full,
            _ => Effort::Default,
        },
        models: args.models,
        servers: args.servers,
        install: args.install,
        connections: args.connections,
        payload: args.payload,
        rate_per_s: args.rate,
        work_us: args.work_us,
        rounds: args.rounds,
        out: args.out,
        resume: args.resume,
        trust_commands: args.trust_commands,
        seed: args.seed,
        host: args.host,
        progress: Progress::Automatic,
        ..RunOptions::default()
    };
    let failed = |error: LabError| Failure::new(error.exit_status(), text::lines(&error.to_string()));
    let interrupt = Interrupt::on_signals().map_err(failed)?;
    let summary = switchboard_lab::run(&options, &interrupt).map_err(failed)?;
    if args.json {
        let text = text::json(&summary).map_err(|error| Failure::new(1, error))?;
        crate::print(format_args!("{text}\n")).map_err(|failure| whereabouts(failure, &summary))?;
    } else {
        crate::print(text::lines(&summary.to_string())).map_err(|failure| whereabouts(failure, &summary))?;
    }
    Ok(ExitCode::from(summary.exit_status()))
}

/// The experiments of a command line: each argument names one experiment, or several with commas. A path may contain commas.
fn names(arguments: &[String]) -> Vec<String> {
    let is_path = |argument: &str| argument.contains('/') || argument.ends_with(".toml");
    let several = |argument: &String| -> Vec<String> {
        match is_path(argument) {
            true => vec![argument.clone()],
            false => argument.split(',').map(|name| name.trim().to_owned()).collect(),
        }
    };
    arguments.iter().flat_map(several).collect()
}

/// Adds the results folders to an error: the summary can be made from them again.
fn whereabouts(failure: Failure, summary: &RunSummary) -> Failure {
    let dirs = summary.experiments.iter().map(|experiment| experiment.dir.display().to_string());
    let dirs: Vec<String> = dirs.collect();
    Failure { message: format!("{}; the results are in {}", failure.message, dirs.join(", ")), ..failure }
}

pub(crate) fn report(args: &ReportArgs) -> Result<ExitCode, Failure> {
    let formats: Vec<report::Format> = args.format.iter().copied().map(report::Format::from).collect();
    let written = report::write(&args.dir, &formats)
        .map_err(|error| Failure::new(1, text::lines(&error.to_string())))?;
    for file in written {
        crate::print(format_args!("{}\n", text::line(&file.display().to_string())))?;
    }
    Ok(ExitCode::SUCCESS)
}
