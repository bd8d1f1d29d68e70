use std::process::ExitCode;

use switchboard_models::{MODELS, Model};

use crate::Failure;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print an array of objects
    #[arg(long)]
    json: bool,
    /// List the hidden ones too: ceilings that are no servers
    #[arg(long)]
    all: bool,
}

pub(crate) fn list(args: &Args) -> Result<ExitCode, Failure> {
    let models: Vec<&Model> = MODELS.iter().filter(|model| args.all || !model.hidden).collect();
    if args.json {
        let text = serde_json::to_string_pretty(&models).map_err(|error| Failure::new(1, error))?;
        crate::print(format_args!("{text}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    for model in models {
        crate::print(format_args!("{:<15} {}\n", model.name, model.about));
        crate::print(format_args!(
            "{:15} waits with {}; a broadcast travels by {}\n",
            "", model.waits_with, model.broadcast
        ));
        for limit in model.limits {
            crate::print(format_args!("{:15} limit: {limit}\n", ""));
        }
    }
    Ok(ExitCode::SUCCESS)
}
