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
        println!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    for model in models {
        println!("{:<15} {}", model.name, model.about);
        println!("{:15} waits with {}; a broadcast travels by {}", "", model.waits_with, model.broadcast);
        for limit in model.limits {
            println!("{:15} limit: {limit}", "");
        }
    }
    Ok(ExitCode::SUCCESS)
}
