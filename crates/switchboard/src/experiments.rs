use std::process::ExitCode;

use switchboard_lab::{definition, experiments};

use crate::Failure;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the definition of one, to begin one's own with
    #[arg(long, value_name = "NAME")]
    show: Option<String>,
}

pub(crate) fn list(args: &Args) -> Result<ExitCode, Failure> {
    let all = experiments();
    if let Some(name) = &args.show {
        let Some(text) = definition(name) else {
            let known: Vec<&str> = all.iter().map(|experiment| experiment.name.as_str()).collect();
            return Err(Failure::new(2, format!("unknown experiment `{name}`; one of {}", known.join(", "))));
        };
        crate::print(text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = all.iter().map(|experiment| experiment.name.len()).max().unwrap_or(0);
    for experiment in &all {
        crate::print(format_args!("{:width$}  {}\n", experiment.name, experiment.question))?;
    }
    crate::print(
        "\nswitchboard run NAME, or `run all`; one's own: `experiments --show NAME > mine.toml`, then `run ./mine.toml`\n",
    )?;
    Ok(ExitCode::SUCCESS)
}
