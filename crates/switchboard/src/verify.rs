use std::path::PathBuf;
use std::process::ExitCode;

use switchboard_lab::{Verification, text, verify_all};

use crate::Failure;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders that `switchboard run` made
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

/// Status 0: all agrees; 1: something does not.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let all: Vec<Verification> = args.dirs.iter().flat_map(|dir| verify_all(dir)).collect();
    if args.json {
        let text = text::json(&all).map_err(|error| Failure::new(1, error))?;
        crate::print(format_args!("{text}\n"))?;
    } else {
        all.iter().try_for_each(|one| crate::print(text::lines(&one.to_string())))?;
    }
    Ok(ExitCode::from(u8::from(!all.iter().all(Verification::agrees))))
}
